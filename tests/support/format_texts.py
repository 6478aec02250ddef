"""Random texts with marks, names, and few-shot prompts."""

# ruff: noqa: E501

from __future__ import annotations

import re
from collections.abc import Sequence
from html.parser import HTMLParser

from tests.support.format_checks import closes, every, lines_stay, under
from tests.support.mixed_documents import NAMES, Mixed, Part, Writer
from tests.support.wholeness import (
    marks_close,
    records_whole,
    rows_under,
    words_in_order,
)  # fmt: skip

# --- text with marks -----------------------------------------------------------------------------


def latex(w: Writer) -> Part:
    rng = w.rng

    def table() -> str:
        rows = "\n".join(
            f"{rng.choice(NAMES)} & {w.noun()} & {w.number()} \\\\"
            for _ in range(rng.randint(2, 20))
        )
        return (
            f"\\begin{{table}}[ht]\n\\centering\n\\begin{{tabular}}{{l|rr}}\n\\hline\nname & thing & cost \\\\\n\\hline\n{rows}\n\\hline\n"
            f"\\end{{tabular}}\n\\caption{{The {w.noun()}. And {w.noun()}.}}\n\\end{{table}}"
        )

    def items() -> str:
        kind = rng.choice(("itemize", "enumerate"))
        return (
            f"\\begin{{{kind}}}\n"
            + "\n".join(f"  \\item {w.sentence('en')}" for _ in range(rng.randint(2, 9)))
            + f"\n\\end{{{kind}}}"
        )

    def equation() -> str:
        kind = rng.choice(("equation", "align*", "multline"))
        return f"\\begin{{{kind}}}\n  a_{{{w.number()}}} &= \\frac{{b}}{{{w.number()}}} \\\\\n  c &= d. E\n\\end{{{kind}}}"

    makers = (
        table, items, equation, lambda: w.prose(1, 5), lambda: w.prose(1, 5),
        lambda: f"\\[\n  x^2 = {w.number()}. y\n\\]", lambda: f"$$\n x = {w.number()}\n$$",
        lambda: f"\\begin{{theorem}}[{w.noun()}]\n{w.prose(1, 4)}\n\\begin{{proof}}\n{w.prose(1, 4)}\n\\end{{proof}}\n\\end{{theorem}}",
        lambda: f"\\begin{{verbatim}}\nx = {w.number()}\n  y. Z\n\\end{{verbatim}}",
        lambda: f"\\begin{{figure}}\n  \\includegraphics{{{w.noun()}.png}}\n  \\caption{{The {w.noun()}.}}\n\\end{{figure}}",
        lambda: f"\\section{{The {w.noun()}}}", lambda: f"% about the {w.noun()}\n{w.sentence('en')} See \\ref{{a:{w.number()}}}.",
    )  # fmt: skip
    body = "\n\n".join(rng.choice(makers)() for _ in range(rng.randint(3, 12)))
    whole = rng.random() < 0.5
    text = (
        f"\\documentclass{{article}}\n\\usepackage{{amsmath}}\n\\begin{{document}}\n{body}\n\\end{{document}}"
        if whole
        else body
    )
    rows = re.findall(r"^.* & .* \\\\$", text, re.M)

    def check(left: str) -> list[str]:
        faults = closes(r"\\begin\{([\w*]+)\}", r"\\end\{([\w*]+)\}")(left)
        faults += ["braces"] if left.count("{") != left.count("}") else []
        faults += ["$$ stays open"] if left.count("$$") % 2 else []
        faults += ["\\[ stays open"] if left.count("\\[") != left.count("\\]") else []
        inside = False
        for line in left.split("\n"):
            inside = "begin{tabular}" in line or (inside and "end{tabular}" not in line)
            if line in rows and " & thing & cost" not in line and "&=" not in line and not inside:
                faults.append(f"a row outside of its table: {line!r}")
        for table in re.findall(r"\\begin\{tabular\}(.*?)\\end\{tabular\}", left, re.S):
            if "thing & cost" not in table:
                faults.append("a table without its header")
        return faults

    return Part("latex", text, check)


def markdown(w: Writer) -> Part:
    rng = w.rng
    makers = (
        lambda: w.prose(1, 5), lambda: w.prose(1, 5), lambda: f"## The {w.noun()}\n\n{w.prose(1, 4)}",
        lambda: f"<details>\n<summary>The {w.noun()}</summary>\n\n{w.prose(1, 6)}\n\n</details>",
        lambda: f":::{rng.choice(('note', 'tip', ' warning', '{.callout}'))}\n{w.prose(1, 6)}\n:::",
        lambda: f"> [!NOTE]\n> {w.sentence('en')}\n> {w.sentence('en')}",
        lambda: f"```text\n{w.prose(1, 12)}\n```", lambda: f"~~~\n{w.prose(2, 3)}\n\n{w.prose(1, 3)}\n~~~",
        lambda: f"```mermaid\ngraph TD\n  A[{w.noun()}] --- B{{{w.noun()}?}}\n  B ---|yes| C\n```",
        lambda: f"$$\nx = {w.number()}. Y\n$$", lambda: f"<!-- about the {w.noun()}. It\nis {w.noun()} -->",
        lambda: f"1. {w.sentence('en')}\n\n   ```sh\n   run {w.noun()}\n   ```\n2. {w.sentence('en')}",
        lambda: f"<div class=\"a\">\n\n{w.prose(1, 5)}\n\n</div>", lambda: f"[^{w.number()}]: {w.sentence('en')}\n    {w.sentence('en')}",
        lambda: f"{w.noun().title()}\n{'=' * 9}\n\n{w.prose(1, 3)}", lambda: f"Term {w.noun()}\n:   {w.sentence('en')}\n    {w.sentence('en')}",
        lambda: f"````md\n```py\nx = {w.number()}\n```\n{w.prose(1, 5)}\n````",
    )  # fmt: skip
    front = f"---\ntitle: The {w.noun()}\ntags: [a, b]\n---\n\n" if rng.random() < 0.3 else ""
    text = front + "\n\n".join(rng.choice(makers)() for _ in range(rng.randint(3, 14))) + "\n"

    def check(left: str) -> list[str]:
        faults = marks_close(left)
        faults += closes(r"<details>\n<summary>[^\n]*", r"</details>")(left) + closes(
            r"<div[^>]*>", r"</div>"
        )(left)
        faults += ["::: stays open"] if len(re.findall(r"^:::", left, re.M)) % 2 else []
        faults += ["$$ stays open"] if left.count("$$") % 2 else []
        faults += ["a comment stays open"] if left.count("<!--") != left.count("-->") else []
        for empty in (
            r"^(:::).*\n\s*^:::$",
            r"^(> \[!NOTE\])\n(?!>)",
        ):
            odd = re.search(empty, left, re.M)
            if odd and not re.search(empty, text, re.M):
                faults.append(f"empty: {odd.group()!r}")
        return faults + _empty_fences(left)

    return Part("markdown", text, check)


def _empty_fences(text: str) -> list[str]:
    """Fences are none that close where they open; what closes one opens no other."""
    mark, filled = "", True
    for line in text.split("\n"):
        found = re.match(r"[ \t]*(`{3,}|~{3,})", line)
        if mark and found and found[1] == mark:
            if not filled:
                return [f"empty: a fence of {mark}"]
            mark = ""
        elif not mark and found:
            mark, filled = found[1], False
        elif line.strip():
            filled = True
    return []


class _Tags(HTMLParser):
    """Notes which tags stay open, and rows that stand in no table."""

    VOID = frozenset(("br", "hr", "img", "input", "link", "meta", "col", "wbr"))

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[str] = []
        self.faults: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        needs = {
            "tr": "table",
            "td": "tr",
            "th": "tr",
            "li": "ul",
            "dd": "dl",
            "option": "select",
        }.get(tag)
        if needs and needs not in self.opened:
            self.faults.append(f"<{tag}> outside of <{needs}>")
        if tag not in self.VOID:
            self.opened.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.VOID:
            return
        if not self.opened or self.opened.pop() != tag:
            self.faults.append(f"</{tag}> closes nothing")


def html(w: Writer) -> Part:
    rng = w.rng

    def inline() -> str:
        return rng.choice((
            w.sentence(), f"The <b>{w.noun()}</b> is. <a href=\"/a?b={w.number()}\">{w.noun()}</a>.", f"It<br>is <code>{w.name()}</code>. So.",
            f"<em>{w.sentence('en')} {w.sentence('en')}</em>", w.prose(1, 6), f"a &lt; b &amp; c. <img src=\"{w.noun()}.png\" alt=\"a > b\"> So.",
        ))  # fmt: skip

    def block(depth: int) -> str:
        pad = "  " * depth if indented else ""
        kind = rng.choice(
            ("p", "p", "ul", "table", "pre", "div", "div", "h2", "dl", "article", "script")
        )
        if kind in ("div", "article") and depth < 4:
            inner = gap.join(block(depth + 1) for _ in range(rng.randint(1, 4)))
            return f'{pad}<{kind} class="{w.noun()}">{gap}{inner}{gap}{pad}</{kind}>'
        if kind == "ul":
            inner = gap.join(f"{pad}  <li>{inline()}</li>" for _ in range(rng.randint(2, 8)))
            return f"{pad}<ul>{gap}{inner}{gap}{pad}</ul>"
        if kind == "dl":
            return (
                f"{pad}<dl>{gap}"
                + gap.join(
                    f"{pad}<dt>{w.noun()}</dt>{gap}{pad}<dd>{inline()}</dd>" for _ in range(3)
                )
                + f"{gap}{pad}</dl>"
            )
        if kind == "table":
            rows = gap.join(
                f"{pad}<tr><td>{rng.choice(NAMES)}</td><td>{inline()}</td></tr>"
                for _ in range(rng.randint(2, 9))
            )
            return f"{pad}<table>{gap}{pad}<tr><th>who</th><th>what</th></tr>{gap}{rows}{gap}{pad}</table>"
        if kind == "pre":
            return f"<pre>\n{w.noun()}. {w.noun()}\n  x = {w.number()}\n</pre>"
        if kind == "script":
            return f"<script>\nif (a) {{ b = '{w.noun()}. So'; }}\n</script>"
        return f"{pad}<{kind if kind == 'h2' else 'p'}>{inline()} {inline()}</{kind if kind == 'h2' else 'p'}>"

    gap, indented = rng.choice((("\n", True), ("\n", False), ("", False), ("\n\n", False)))
    body = gap.join(block(0) for _ in range(rng.randint(3, 9)))
    text = (
        f"<!DOCTYPE html>\n<html>\n<head><title>{w.noun()}</title></head>\n<body>\n{body}\n</body>\n</html>"
        if rng.random() < 0.5
        else body
    )

    def check(left: str) -> list[str]:
        tags = _Tags()
        tags.feed(left)
        tags.close()
        return [*tags.faults, *(f"<{name}> stays open" for name in tags.opened)][:1]

    return Part("html", text, check)


def directives(w: Writer) -> Part:
    """reStructuredText: directives with what is indented under them."""
    rng, parents, parts = w.rng, {}, []
    for n in range(rng.randint(3, 12)):
        head = rng.choice(
            (
                f".. note:: about {n}",
                f".. code-block:: python\n   :name: c{n}",
                f".. warning:: {n}",
                f".. figure:: {w.noun()}{n}.png\n   :alt: a",
            )
        )
        inner = (
            [f"   {w.sentence('en')} {n}" for _ in range(rng.randint(1, 5))]
            if "code" not in head
            else [f"   x{n} = [{w.number()},", f"       {n}]", f"   print(x{n}. y)"]
        )
        blank = "" if rng.random() < 0.2 and "code" not in head else "\n"
        parts.append(f"{head}\n{blank}" + "\n".join(inner))
        parents |= {line: head.split("\n")[0] for line in inner}
        if "code" in head:
            parents |= {inner[1]: inner[0], inner[0]: head.split("\n")[0]}
        parts.append(w.prose(1, 4))
        if rng.random() < 0.3:
            title = f"The {w.noun()} {n}"
            parts.append(f"{title}\n{'-' * len(title)}")
    return Part("directives", "\n\n".join(parts) + "\n", under(parents))


def org(w: Writer) -> Part:
    rng, parts = w.rng, [f"#+TITLE: {w.noun()}"]
    for n in range(rng.randint(3, 12)):
        parts.append(
            f"{'*' * rng.randint(1, 3)} TODO The {w.noun()} {n}\n:PROPERTIES:\n:ID: {w.number()}-{n}\n:END:"
            if rng.random() < 0.5
            else f"* {w.noun().title()} {n}"
        )
        parts.append(rng.choice((
            w.prose(1, 4), f"#+BEGIN_SRC python\nx = {w.number()}\n  y. z\n#+END_SRC", f"#+begin_quote\n{w.prose(1, 6)}\n#+end_quote",
            f"- [ ] {w.noun()}\n- [X] {w.noun()} is {w.number()}", "| who | what |\n|-----+------|\n" + "\n".join(f"| {rng.choice(NAMES)} | {w.noun()} |" for _ in range(6)),
        )))  # fmt: skip
    check = every(
        closes(r"^#\+BEGIN_(\w+).*$", r"^#\+END_(\w+)"), closes(r"^#\+begin_(\w+).*$", r"^#\+end_(\w+)"),
        closes(r"^:PROPERTIES:$", r"^:END:$"),
        lambda left: ["a table without its header"] if re.search(r"(?<!\|)\n\| (?!who)", "\n" + left) and "| who" not in left else [],
    )  # fmt: skip
    return Part("org", "\n".join(parts) + "\n", check)


def ruled(w: Writer) -> Part:
    """Columns of fixed width under a ruler, as database clients print them, with a foot."""
    form = w.rng.choice(("dashes", "plus", "equals", "simple", "psql", "unindented"))
    rows = [
        [str(n), w.rng.choice(NAMES), f"{w.noun()} {w.noun()}", str(w.number() * 7)]
        for n in range(w.rng.randint(3, 40))
    ]
    if w.rng.random() < 0.3:
        for row in rows[::3]:
            row[2] = ""
    names = ["id", "who", "what", "amount"]
    widths = [max(len(r[at]) for r in [names, *rows]) for at in range(4)]
    sep = {"plus": " | ", "psql": " | "}.get(form, "  ")

    def lined(row: Sequence[str]) -> str:
        return (" " if form == "psql" else "") + sep.join(
            c.ljust(n) for c, n in zip(row, widths, strict=True)
        ).rstrip()

    mark = "=" if form in ("equals", "simple") else "-"
    rule = {"plus": "-+-", "psql": "-+-"}.get(form, "  ").join(mark * n for n in widths)
    rule = f"-{rule}-" if form == "psql" else rule
    made = [lined(row) for row in rows]
    foot = f"({len(rows)} rows)" if form in ("psql", "dashes") else ""
    head = [lined(names), rule]
    if form == "simple":
        head, foot = [rule, lined(names), rule], rule
    text = "\n".join([*head, *made, *([foot] if foot else [])]) + "\n"

    def check(left: str) -> list[str]:
        faults = rows_under(head, made)(left)
        if form == "simple" and left.count(rule) not in (0, 3):
            faults.append("a rule is missing")
        return [*faults, *lines_stay(text)(left)]

    return Part(f"ruled {form}", text, check)


def grid_cells(w: Writer) -> Part:
    """A grid of rules whose cells go on over lines."""
    rows = [
        [w.rng.choice(NAMES), [f"{w.noun()} {n}" for _ in range(w.rng.randint(1, 3))]]
        for n in range(w.rng.randint(3, 20))
    ]
    rule = f"+{'-' * 8}+{'-' * 16}+"
    blocks = [
        "\n".join(f"| {who if not at else '':<6} | {line:<14} |" for at, line in enumerate(cell))
        + f"\n{rule}"
        for who, cell in rows
    ]
    head = f"{rule}\n| who    | what           |\n{rule.replace('-', '=')}"
    text = "\n".join([head, *blocks]) + "\n"
    check = records_whole(blocks, head, ())
    return Part("grid of cells", text, check)


def names(w: Writer) -> Mixed:
    """Plain names, one per line, and a question about them."""
    rng = w.rng
    form = rng.choice((
        lambda n: f"{rng.choice(NAMES)} {w.noun().title()}", lambda n: w.noun(), lambda n: f"{w.noun()}-{w.number()}",
        lambda n: f"{rng.choice(NAMES)}, {w.noun()}", lambda n: f"{w.noun()}{n}@{w.noun()}.org", lambda n: f"/usr/{w.noun()}/{w.noun()}{n}.py",
        lambda n: f"+41 44 {w.number()} {w.number()}", lambda n: f"{w.noun()} {w.noun()} {w.noun()}", lambda n: f"田中{n}",
    ))  # fmt: skip
    lines = [form(n) for n in range(rng.randint(12, 60))]
    asked = rng.choice(
        (
            f"Who comes before {rng.choice(lines)}?",
            "Which of these is a fruit?",
            "Which one is the last?",
        )
    )
    text = "\n".join(lines) + f"\n\n{asked}"
    check = every(
        lines_stay(text),
        words_in_order(text),
        lambda left: [] if asked in left else ["the question is gone"],
    )
    return Mixed("names", text, "", check, least=asked)


# --- few-shot ------------------------------------------------------------------------------------

_LABELS = (
    ("Q: ", "A: "), ("Input: ", "Output: "), ("Entrée : ", "Sortie : "), ("Вопрос: ", "Ответ: "), ("Pytanie: ", "Odpowiedź: "),
    ("質問：", "回答："), ("질문: ", "답변: "), ("سؤال: ", "جواب: "), ("Soru: ", "Cevap: "), ("Vraag: ", "Antwoord: "), ("Domanda: ", "Risposta: "),
    ("Pergunta: ", "Resposta: "), ("Tweet: ", "Mood: "), ("प्रश्न: ", "उत्तर: "), ("Câu hỏi: ", "Trả lời: "), ("Fråga: ", "Svar: "),
)  # fmt: skip


def shots(w: Writer) -> Mixed:
    """Examples on one line, in pairs of lines without gaps, or under labels of any language."""
    rng = w.rng
    ask, answer = rng.choice(_LABELS)
    form = rng.choice(("one line", "one line", "lines", "paragraphs", "arrows", "arrow line"))
    pairs = [
        (
            w.rng.choice((w.sentence("en"), f"{w.noun()} {n} {w.noun()}", f"{w.noun()} plus {n}")),
            f"{w.noun()} {n}",
        )
        for n in range(rng.randint(3, 14))
    ]
    own = f"{w.noun()} or {w.noun()} {w.number()}"
    if form.startswith("arrow"):
        sign = rng.choice((" -> ", " => ", " → ", " = "))
        blocks, last = [f"{a}{sign}{b}" for a, b in pairs], f"{own}{sign.rstrip()}"
        glue = "\n" if form == "arrows" else rng.choice(("; ", ", "))
    else:
        inner = " " if form == "one line" else "\n"
        blocks, last = (
            [f"{ask}{a}{inner}{answer}{b}" for a, b in pairs],
            f"{ask}{own}{inner}{answer.rstrip()}",
        )
        glue = {"one line": " ", "lines": "\n", "paragraphs": "\n\n"}[form]
    lead = rng.choice(("", "Answer as the examples do.\n\n", "Answer as the examples do:\n"))
    text = lead + glue.join([*blocks, last])

    def check(left: str) -> list[str]:
        rest = left.rstrip()
        if not rest.endswith(last):
            return ["the user's own input is gone"]
        rest = rest.removesuffix(last)
        for line in ("Answer as the examples do.", "Answer as the examples do:"):
            rest = rest.replace(line, "", 1)
        at = 0
        for block in blocks:
            found = re.compile(rf"\s*{re.escape(block)}{re.escape(glue.strip())}").match(rest, at)
            at = found.end() if found else at
        return (
            [f"torn: {rest[at : at + 60]!r}"] if rest[at:].strip() else words_in_order(text)(left)
        )

    return Mixed(f"few-shot {form}", text, "", check)


def short_xml(w: Writer) -> Mixed:
    """Few-shot examples in elements, short and long, deep or flat."""
    rng = w.rng
    outer, one, two = rng.choice(
        (
            ("example", "input", "output"),
            ("example", "question", "answer"),
            ("exemple", "entree", "sortie"),
            ("sample", "user", "assistant"),
            ("item", "source", "target"),
            ("shot", "text", "label"),
        )
    )
    pairs = [
        (
            rng.choice((w.noun(), w.sentence(), w.prose(2, 9))),
            rng.choice((w.noun(), w.sentence("en"), w.prose(2, 9))),
        )
        for _ in range(rng.randint(2, 9))
    ]
    gap = rng.choice(("", "\n", "\n  "))
    end = gap.rstrip(" ")
    blocks = [
        f"<{outer}>{gap}<{one}>{a}</{one}>{gap}<{two}>{b}</{two}>{end}</{outer}>" for a, b in pairs
    ]
    glue = rng.choice(("\n", "\n\n", "")) if gap == "" else rng.choice(("\n", "\n\n"))
    head, foot = rng.choice((("<examples>\n", "\n</examples>"), ("", ""), ("Examples:\n", "")))
    last = f"<{one}>{w.noun()} {w.number()}</{one}>"
    text = f"Answer as the examples do.\n\n{head}{glue.join(blocks)}{foot}\n\n{last}"

    def check(left: str) -> list[str]:
        if last not in left:
            return ["the user's own input is gone"]
        rest = left.replace(last, "", 1)
        for block in blocks:
            rest = rest.replace(block, "", 1)
        if re.search(rf"</?(?:{outer}|{one}|{two})>", rest):
            return [f"torn: {rest.strip()[:80]!r}"]
        return (
            ["<examples> stays open"]
            if rest.count("<examples>") != rest.count("</examples>")
            else []
        )

    return Mixed("few-shot elements", text, "", every(check, words_in_order(text)))
