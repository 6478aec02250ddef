"""Random code, scripts, markup and letters, whose lines belong to what opened above them."""

# ruff: noqa: E501, PERF401

from __future__ import annotations

import ast
import itertools
import re
import subprocess
import textwrap
import warnings
from functools import lru_cache

import regex

from tests.support.format_checks import closes, entries_whole, every, lines_stay, under
from tests.support.mixed_documents import NAMES, SENTENCES, Part, Writer
from tests.support.wholeness import Check, brackets_close, marks_close, records_whole

# --- code ----------------------------------------------------------------------------------------


def python_module(w: Writer) -> Part:
    """Decorators, triple quotes, comments at the margin, brackets and lines that go on."""
    rng = w.rng

    def function(name: str, indent: str = "") -> str:
        doc = rng.choice((
            "", f'    """{w.sentence("en")}"""\n', f'    """{w.sentence("en")}\n\n    def no():\n  odd margin {{ {w.noun()}\n    """\n',
            f"    r'''{w.noun()}\n# no comment\n'''\n",
        ))  # fmt: skip
        body = "".join(rng.choice((
            f"    {w.noun()} = [\n        {w.number()},  # ]\n        '{w.noun()}',\n    ]\n", f"    if {w.noun()} and \\\n            {w.noun()}:\n        return {w.number()}\n    elif x:\n        pass\n    else:\n        raise ValueError(\n            f'{{x!r}} {w.noun()}'\n        )\n",
            f"    try:\n        {w.noun()}()\n    except (OSError, KeyError):\n        pass\n    finally:\n        x = {w.number()}\n", f"    with open('{w.noun()}') as f, \\\n            open(x) as g:\n        f.write('''a\nb {w.noun()}\n''')\n",
            f"# at the margin: {w.noun()}\n    x = {w.number()}\n", f"    match x:\n        case {{'a': {w.number()}}}:\n            y = 1\n        case _:\n            y = 2\n",
            f"\n    def inner(y):\n        return y + {w.number()}\n\n    x = inner(x)\n", f"    for i in range({w.number()}):\n        while i:\n            i -= 1; x = i\n        else:\n            break\n",
            f"    x = lambda a, *b: (a, {w.number()})\n", f"    assert x, (\n        '{w.noun()} '\n        '{w.noun()}'\n    )\n",
        )) for _ in range(rng.randint(1, 4)))  # fmt: skip
        decorators = rng.choice(
            (
                "",
                "@cache\n",
                f"@app.get(\n    '/{w.noun()}',\n    tags=['{w.noun()}'],\n)\n# why: {w.noun()}\n@other\n",
            )
        )
        head = rng.choice(
            (
                f"def {name}(x):\n",
                f"async def {name}(\n    x: int = {w.number()},\n    *,\n    y: str = ')',\n) -> dict[str, int]:\n",
            )
        )
        text = f"{decorators}{head}{doc}{body}"
        if not indent:
            return text
        return (
            text.replace("# at the margin", "    # at the margin")
            if "'''" in text or '"""' in text
            else textwrap.indent(text, indent)
        )

    parts = [
        rng.choice(
            ("", f'"""{w.sentence("en")}\n\n    {w.noun()}:\n"""\n', "#!/usr/bin/env python3\n")
        )
    ]
    parts.append(f"import os\nfrom a import (\n    {w.noun()},\n    {w.noun()},\n)\n")
    for n in range(rng.randint(1, 8)):
        parts.append(rng.choice((
            function(f"{w.noun()}_{n}"), function(f"{w.noun()}_{n}"),
            f"{w.noun().upper()} = {{\n    'a': {w.number()},\n    'b': [{w.number()}, (1, 2)],\n}}\n", f"if __name__ == '__main__':\n    main({w.number()})\n",
            f"@dataclass\nclass K{n}(Base):\n    '''{w.sentence('en')}'''\n\n    a: int = {w.number()}\n\n    @property\n    def b(self):\n        return self.a\n\n    @b.setter\n    def b(self, v):\n        self.a = v\n\n    class Meta:\n        x = 1\n",
            f"QUERY = '''\nSELECT {w.noun()}\n  FROM {w.noun()};\n'''\n",
        )))  # fmt: skip
    text = rng.choice(("\n\n", "\n")).join(parts)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source = ast.parse(text)
    strings = {
        n.value
        for n in ast.walk(source)
        if isinstance(n, ast.Constant) and isinstance(n.value, str)
    }
    decorated = _decorated(source)

    def check(left: str) -> list[str]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                got = ast.parse(left)
        except SyntaxError as error:
            return [f"Python does not parse: {error.msg} {error.text!r}"]
        for node in ast.walk(got):
            if (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and node.value not in strings
            ):
                return [f"a new string: {node.value[:60]!r}"]
        for name, how in _decorated(got).items():
            if how != decorated.get(name, how):
                return [f"{name} lost a decorator"]
        return []

    return Part("python module", text, check)


def _decorated(tree: ast.AST) -> dict[str, list[str]]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    found = [n for n in ast.walk(tree) if isinstance(n, kinds)]
    names = [n.name for n in found]
    return {
        n.name: [ast.dump(d) for d in n.decorator_list] for n in found if names.count(n.name) == 1
    }


@lru_cache(maxsize=64)
def _bash_accepts(text: str) -> str:
    done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
    return done.stderr.strip()


def shell_script(w: Writer) -> Part:
    rng = w.rng
    lines = [rng.choice(("#!/bin/bash", "#!/bin/sh -e", "set -euo pipefail"))]
    docs = []
    for _n in range(rng.randint(3, 20)):
        mark = rng.choice(("EOF", "SQL", "'END'", "-DONE"))
        body = f"cat > /tmp/{w.noun()} <<{mark}\nif this then {w.noun()}\n  {{ ( {w.sentence('en')}\ndone;; esac\n{mark.strip(chr(39) + '-')}"
        piece = rng.choice((
            body, body, f"{w.noun()}() {{\n  local x=$1\n  for f in *.{w.noun()}; do\n    echo \"$f ({w.number()}\"\n  done\n}}", f"case $1 in\n  {w.noun()}|-h) echo a;;\n  *)\n    exit {w.number()}\n    ;;\nesac",
            f"if [ -f {w.noun()} ]; then\n  rm {w.noun()}\nelif true; then\n  :\nelse\n  echo no\nfi", f"docker run \\\n  --name {w.noun()} \\\n  -p {w.number()}:80 \\\n  img", f"while read -r line; do\n  echo '{w.noun()}\n  still quoted\n'\ndone < f",
            f"# {w.sentence('en')}\nexport {w.noun().upper()}={w.number()}", f"x=(\n  {w.noun()}\n  {w.noun()}\n)", f"a | \\\n  grep {w.noun()} |\n  sort && echo \"{w.noun()}\"",
        ))  # fmt: skip
        lines += [piece] + [""] * rng.randint(0, 1)
        docs += [piece] if piece == body else []
    text = "\n".join(lines) + "\n"

    def check(left: str) -> list[str]:
        error = _bash_accepts(left)
        if error and not _bash_accepts(text):
            return [f"bash does not read it: {error[:120]!r}"]
        rest = left
        for doc in sorted(docs, key=len, reverse=True):
            rest = rest.replace(doc, "")
        for doc in docs:
            if doc.split("\n")[0] in rest:
                return [f"torn here-document: {doc.split(chr(10))[0]!r}"]
        return []

    return Part("shell script", text, check)


def makefile(w: Writer) -> Part:
    rng = w.rng
    blocks = [f".PHONY: all {w.noun()}", f"CC := gcc\nFLAGS = -O2 \\\n  -D{w.noun()} \\\n  -W"]
    for n in range(rng.randint(2, 16)):
        target = f"{w.noun()}_{n}"
        blocks.append(rng.choice((
            f"{target}: {w.noun()}.c {w.noun()}.h\n\t$(CC) -o $@ $<\n\t@echo \"{w.noun()}: done\"", f"# {w.sentence('en')}\n{target}:\n\tfor f in *.c; do \\\n\t\techo $$f; \\\n\tdone",
            f"ifeq ($(X{n}),{w.noun()})\nY{n} = {w.number()}\nelse\nY{n} = 0\nendif", f"define T{n}\nthe {w.noun()}\n\tand {w.noun()}\nendef", f"%.{target}: %.c | build\n\tcp $< $@", f"V{n} ?= {w.number()}",
        )))  # fmt: skip
    text = "\n\n".join(blocks) + "\n"
    loose = [b.split("\n")[0] for b in blocks if b.startswith("# ")]
    parents = {}
    for block in blocks:
        rows = [r for r in block.split("\n") if not r.startswith("#")]
        if len(rows) > 1 and not rows[0].startswith(("ifeq", "define")):
            parents.update({row: rows[0] for row in rows[1:] if text.count(f"\n{row}\n") == 1})
    return Part("makefile", text, every(
        closes(r"^ifeq", r"^endif"), closes(r"^define", r"^endef"), under(parents), lines_stay(text), _continuations(text),
    )) if loose is not None else Part("", "", lambda left: [])  # fmt: skip


def _continuations(source: str) -> Check:
    """A line that goes on is followed by what follows it in the source."""
    rows = source.split("\n")
    after: dict[str, set[str]] = {}
    for row, below in itertools.pairwise(rows):
        if row.endswith("\\"):
            after.setdefault(row, set()).add(below.rstrip())

    def check(left: str) -> list[str]:
        lines = [*left.rstrip("\n").split("\n"), ""]
        for row, below in itertools.pairwise(lines):
            if row in after and below.rstrip() not in after[row]:
                return [f"{row!r} goes on with {below!r}"]
        return []

    return check


def dockerfile(w: Writer) -> Part:
    rng = w.rng
    blocks = ["# syntax=docker/dockerfile:1", f"FROM python:3.{w.number()} AS build"]
    for n in range(rng.randint(3, 20)):
        blocks.append(rng.choice((
            f"RUN apt-get update \\\n    && apt-get install -y {w.noun()} \\\n    # {w.noun()}\n    && rm -rf /var", f"RUN <<EOF\necho {w.noun()}\nCOPY is no instruction\nEOF", f"COPY --from=build /{w.noun()} /{n}", f"ENV {w.noun().upper()}={w.number()} \\\n    B=\"{w.noun()} {n}\"",
            f"LABEL x=\"{w.sentence('en')}\"", f"CMD [\"{w.noun()}\", \"--n={n}\"]", f"# {w.sentence('en')}", f"FROM debian:{w.number()}", f"HEALTHCHECK --interval=5s \\\n  CMD curl -f http://localhost/{n} || exit 1",
        )))  # fmt: skip
    text = "\n".join(blocks) + "\n"
    return Part("dockerfile", text, entries_whole(blocks))


def config_blocks(w: Writer) -> Part:
    """Blocks in braces: CSS, nginx, HCL, GraphQL, protocol buffers."""
    rng = w.rng
    kind = rng.choice(("css", "nginx", "hcl", "graphql", "proto", "lisp"))
    make = {
        "css": lambda: f".{w.noun()}-{w.number()}:hover,\n#{w.noun()} > a {{\n  color: #ff{w.number()}00;\n  content: \"}}\";\n}}\n@media (max-width: {w.number()}em) {{\n  .{w.noun()} {{ margin: 0 }}\n}}",
        "nginx": lambda: f"server {{\n    listen {w.number()};\n    location ~ \"^/{w.noun()}/[0-9]{{2}}\" {{\n        proxy_pass http://{w.noun()};  # {w.noun()}\n        if ($x) {{ return 301; }}\n    }}\n}}",
        "hcl": lambda: f"resource \"aws_{w.noun()}\" \"{w.noun()}\" {{\n  count = {w.number()}\n  tags = {{\n    Name = \"${{var.{w.noun()}}}\"\n  }}\n  user_data = <<-EOF\n    echo {{ {w.noun()}\n    [ -f x\n  EOF\n}}",
        "graphql": lambda: f"\"\"\"\n{w.sentence('en')} {{\n\"\"\"\ntype {w.noun().title()}{w.number()} implements Node {{\n  id: ID!\n  items(first: Int = {w.number()}): [String!]! @deprecated(reason: \"{w.noun()} )\")\n}}",
        "proto": lambda: f"// {w.sentence('en')} {{\nmessage {w.noun().title()}{w.number()} {{\n  optional string name = 1; // }}\n  oneof x {{\n    int32 a = 2;\n    bytes b = 3;\n  }}\n}}",
        "lisp": lambda: f"(defun {w.noun()}-{w.number()} (x y)\n  \"{w.noun()} ) of\"\n  (let ((z {w.number()}))\n    (if (> x z)\n        (list x y)\n      (cons y nil))))",
    }[kind]  # fmt: skip
    text = rng.choice(("\n\n", "\n")).join(make() for _ in range(rng.randint(2, 16))) + "\n"
    text = text.replace("echo { ", "echo ").replace("    [ -f x\n", "") if kind == "hcl" else text
    text = re.sub(r"\{\n\"\"\"", '\n"""', text) if kind == "graphql" else text
    comment = {"css": "", "nginx": "#", "hcl": "", "graphql": "", "proto": "//", "lisp": ""}[kind]
    inner = brackets_close("")

    def check(left: str) -> list[str]:
        bare = "\n".join(line.split(comment)[0] if comment else line for line in left.split("\n"))
        bare = re.sub(r"#(?=ff|[a-z])", "", bare) if kind == "css" else bare
        if kind == "hcl" and len(re.findall(r"<<-EOF$", left, re.M)) != len(
            re.findall(r"^\s*EOF$", left, re.M)
        ):
            return ["a here-document stays open"]
        return inner(bare)

    return Part(f"blocks {kind}", text, every(check, lines_stay(text)))


def git_diff(w: Writer) -> Part:
    rng = w.rng
    out, hunks = [], {}
    for n in range(rng.randint(1, 6)):
        name = f"src/{w.noun()}_{n}.py"
        out.append(
            f"diff --git a/{name} b/{name}\nindex 3f2a1{w.number()}..9ab{w.number()} 100644\n--- a/{name}\n+++ b/{name}"
        )
        for k in range(rng.randint(1, 5)):
            before, after, rows = 0, 0, []
            for _ in range(rng.randint(1, 9)):
                sign = rng.choice("  +-")
                before += sign != "+"
                after += sign != "-"
                rows.append(
                    sign
                    + rng.choice(
                        (
                            f"x = {w.number()}",
                            "",
                            f"# {w.noun()}",
                            f"-- {w.noun()}",
                            "@@ no",
                            f"diff {w.noun()}",
                            f"    return {w.noun()}({{",
                        )
                    )
                )
            at = k * 40 + 3
            head = f"@@ -{at},{before} +{at},{after} @@ def {w.noun()}():"
            if rng.random() < 0.2:
                rows.append("\\ No newline at end of file")
            out.append("\n".join([head, *rows]))
            hunks[f"{n} {head}"] = rows
    text = (
        (
            "From 3f2 Mon Sep 17\nSubject: [PATCH] " + w.sentence("en") + "\n\n---\n"
            if rng.random() < 0.2
            else ""
        )
        + "\n".join(out)
        + "\n"
    )

    def check(left: str) -> list[str]:
        lines, at, opened = left.split("\n"), 0, False
        while at < len(lines):
            head = re.match(r"@@ -\d+,(\d+) \+\d+,(\d+) @@ def", lines[at])
            opened = opened or lines[at].startswith("+++ b/")
            at += 1
            if not head:
                continue
            if not opened:
                return ["a hunk without its file"]
            before, after = int(head[1]), int(head[2])
            while before or after:
                sign = lines[at][:1] if at < len(lines) else "?"
                if sign not in (" ", "+", "-", "") or at >= len(lines):
                    return [f"a torn hunk at {lines[at - 1]!r}"]
                before -= sign != "+"
                after -= sign != "-"
                at += 1
        return []

    lines = lines_stay(text)

    def whole_lines(left: str) -> list[str]:
        return lines("\n".join(x for x in left.split("\n") if not x.startswith("Subject: ")))

    return Part("git diff", text, every(check, whole_lines))


# --- markup --------------------------------------------------------------------------------------


def nested_list(w: Writer) -> Part:
    """Items with code, quotes and items below them."""
    rng = w.rng
    parents: dict[str, str] = {}
    lines: list[str] = []

    def item(depth: int, above: str, n: int) -> None:
        pad = "   " * depth
        mark = f"{n}." if depth % 2 == 0 else "-"
        line = f"{pad}{mark} {w.sentence('en')[:-1]} {len(lines)}."
        lines.append(line)
        if above:
            parents[line] = above
        inner = pad + " " * (len(mark) + 1)
        if rng.random() < 0.3:
            lang = rng.choice(("python", "", "sh"))
            lines.extend(
                [
                    "",
                    f"{inner}```{lang}",
                    f"{inner}x = [{len(lines)}, {{",
                    "",
                    f"{inner}- no item",
                    f"{inner}```",
                    "",
                ]
            )
        if rng.random() < 0.2:
            lines.extend([f"{inner}> {w.sentence('de')} {len(lines)}"])
        if depth < 3:
            for k in range(rng.choice((0, 0, 1, 3))):
                item(depth + 1, line, k + 1)

    for n in range(rng.randint(2, 14)):
        item(0, "", n + 1)
        lines.extend([""] * rng.randint(0, 1))
    text = (f"# {w.noun()}\n\n" if rng.random() < 0.5 else "") + "\n".join(lines) + "\n"
    source = _fences(text)

    def check(left: str) -> list[str]:
        rest = list(source)
        for one in _fences(left):
            if one not in rest:
                return [f"code is no code of the source: {one[:60]!r}"]
            rest.remove(one)
        return []

    return Part("nested list", text, every(check, under(parents), marks_close))


def _fences(text: str) -> list[str]:
    """Return what stands in fences; an item that lost those before it may be no item for others."""
    found = re.findall(r"^([ ]*)```\w*\n(.*?)^\1```$", text, re.S | re.M)
    return [textwrap.dedent(code) for _, code in found]


def numbered_tasks(w: Writer) -> Part:
    """A plain numbered list of tasks; some go on below their first line."""
    rng = w.rng
    form = rng.choice(("{}. ", "{}) ", "({}) ", "Step {}: ", "[ ] {}. ", "#{} "))
    tasks = []
    for n in range(1, rng.randint(4, 40)):
        more = rng.choice(
            ("", "", f"\n   {w.sentence('en')}", f"\n   - {w.noun()}\n   - {w.noun()} {n}")
        )
        tasks.append(
            form.format(n)
            + rng.choice(
                (
                    w.sentence("en"),
                    f"Call {rng.choice(NAMES)} about the {w.noun()}",
                    f"Fix the {w.noun()} by 2026-05-{w.number()}",
                )
            )
            + more
        )
    text = rng.choice(("\n", "\n", "\n\n")).join(tasks) + "\n"
    check = entries_whole(tasks)
    return Part(
        "numbered tasks",
        text,
        check
        if "   " not in text
        else every(
            under(
                {
                    r: t.split("\n")[0]
                    for t in tasks
                    for r in t.split("\n")[1:]
                    if text.count(r) == 1
                }
            )
        ),
    )


def rst_page(w: Writer) -> Part:
    rng = w.rng
    blocks, heads = [], []
    for n in range(rng.randint(3, 14)):
        title = f"{w.noun().title()} {n}"
        kind = rng.choice(
            (
                "title",
                "title",
                "code",
                "literal",
                "note",
                "grid",
                "simple",
                "prose",
                "prose",
                "field",
                "list",
            )
        )
        if kind == "title":
            mark = rng.choice("=-~^")
            head = f"{title}\n{mark * len(title)}"
            heads.append((title, mark * len(title)))
            blocks.append(f"{head}\n\n{w.prose(1, 3)}")
        blocks.append({
            "title": w.sentence("en"), "prose": w.prose(1, 5), "field": f":{w.noun()}: {w.number()}\n:{w.noun()} {n}: {w.sentence('en')}\n   and more",
            "code": f".. code-block:: python\n   :caption: {n}\n\n   def {w.noun()}(x):\n\n       return [{n}, (", "literal": f"Look at this {n}::\n\n    {w.noun()} {{\n\n      deep [{n}\n",
            "note": f".. note:: {w.sentence('en')}\n\n   {w.sentence('en')} {n}", "list": f"* {w.sentence('en')}\n\n  * {w.noun()} {n}\n\n* {w.sentence('de')}",
            "grid": f"+------+------+\n| a {n:3}| b    |\n+======+======+\n| {w.number()}   | x    |\n+------+------+\n| {w.number()}   | y    |\n+------+------+", "simple": f"====== ======\nA {n:<4} B\n====== ======\n{w.number()}     x\n{w.number()}     y\n====== ======",
        }[kind])  # fmt: skip
    text = "\n\n".join(blocks) + "\n"
    parents = {}
    for block in blocks:
        rows = [r.rstrip() for r in block.split("\n") if r.strip()]
        if rows[0].startswith(".. ") or rows[0].endswith("::"):
            parents.update({r: rows[0] for r in rows[1:] if text.count(f"\n{r}\n") == 1})

    def check(left: str) -> list[str]:
        rows = [line.rstrip() for line in left.split("\n")]
        for at, row in enumerate(rows):
            for title, rule in heads:
                if row == title and (at + 1 >= len(rows) or rows[at + 1] != rule):
                    return [f"title {title!r} without its rule"]
        at = 0
        while at < len(rows):
            if (
                rows[at].startswith(".. ")
                and rows[at].endswith(":: python")
                and not any(r.startswith("   def ") for r in rows[at : at + 6])
            ):
                return [f"{rows[at]!r} holds nothing"]
            at += 1
        for one in ("+======+======+",):
            grids = [r for r in rows if re.match(r"\+[-=]+\+", r)]
            if grids and (
                rows[next(i for i, r in enumerate(rows) if r in grids)][1] != "-"
                or grids[-1] == one
            ):
                return ["a torn grid"]
        return []

    return Part("rst page", text, every(check, under(parents)))


def latex_nested(w: Writer) -> Part:
    rng = w.rng

    def block(depth: int) -> str:
        kind = rng.choice(
            (
                "itemize",
                "verbatim",
                "tabular",
                "align",
                "figure",
                "proof",
                "text",
                "text",
                "math",
                "lstlisting",
            )
        )
        if kind == "text" or depth == 0:
            return rng.choice(
                (
                    w.prose(1, 4),
                    f"See \\textbf{{{w.noun()} \\emph{{{w.noun()}}}}} and $x_{{{w.number()}}} < y$. % {w.noun()} }}\n{w.sentence('en')}",
                )
            )
        if kind == "math":
            return rng.choice(
                (f"\\[\n  x = \\frac{{{w.number()}}}{{y}}.\n\\]", f"$$\na + {w.number()}. B\n$$")
            )
        inside = {
            "itemize": lambda: "\n".join(f"  \\item {block(depth - 1)}" for _ in range(rng.randint(1, 4))), "verbatim": lambda: f"\\begin{{not}} {{ $ {w.noun()}\n\n  ]",
            "lstlisting": lambda: f"if (x) {{ // $ {w.noun()}\n\n", "tabular": lambda: "\n".join(f"  {w.noun()} & {w.number()} \\\\ \\hline" for _ in range(rng.randint(1, 5))),
            "align": lambda: f"  x &= {w.number()} \\\\\n  y &= z. Q", "figure": lambda: f"  \\includegraphics[width=1cm]{{{w.noun()}}}\n  \\caption{{{w.sentence('en')}}}\n  \\label{{fig:{w.name()}}}", "proof": lambda: block(depth - 1) + "\n\n" + block(depth - 1),
        }[kind]()  # fmt: skip
        own = {"tabular": "{l|r}", "figure": "[htb]", "lstlisting": "[language=C]"}.get(kind, "")
        return f"\\begin{{{kind}}}{own}\n{inside}\n\\end{{{kind}}}"

    body = "\n\n".join(
        rng.choice(("", f"\\section{{{w.noun().title()} {n}}}\n")) + block(2)
        for n in range(rng.randint(2, 14))
    )
    text = (
        f"\\documentclass{{article}}\n\\begin{{document}}\n{body}\n\\end{{document}}\n"
        if rng.random() < 0.5
        else body + "\n"
    )

    def check(left: str) -> list[str]:
        bare = re.sub(r"\\begin\{(verbatim|lstlisting)\}.*?\\end\{\1\}", "", left, flags=re.S)
        bare = re.sub(r"(?<!\\)%[^\n]*", "", bare)
        if bare.count("$$") % 2 or bare.count("$") % 2:
            return ["$ stays open"]
        if bare.count("{") != bare.count("}"):
            return ["a brace stays open"]
        return closes(r"\\begin\{(\w+)\}", r"\\end\{(\w+)\}", holds=False)(bare) + closes(
            r"\\\[", r"\\\]"
        )(bare)

    return Part("latex nested", text, check)


def roff_and_kin(w: Writer) -> Part:
    """AsciiDoc blocks, gettext catalogues, LDIF, HTTP exchanges, crontabs."""
    rng = w.rng
    kind = rng.choice(("po", "ldif", "vtt", "srt styled", "env"))
    make = {
        "po": lambda n: f"#: src/{w.noun()}.c:{n}\n#, fuzzy\nmsgid \"\"\n\"{w.sentence('en')} \"\n\"{w.noun()}\\n\"\nmsgstr \"{w.sentence('de')}\"",
        "ldif": lambda n: f"dn: cn={w.noun()} {n},dc=example\nobjectClass: top\ncn: {w.noun()}\ndescription: {w.sentence('en')}\n  and {w.noun()} goes on",
        "vtt": lambda n: f"{rng.choice(('', f'{w.noun()}-{n}' + chr(10)))}00:{n:02}:01.000 --> 00:{n:02}:04.000 align:start\n<v {rng.choice(NAMES)}>{w.sentence('en')}\n- {w.noun()} {n}?",
        "srt styled": lambda n: f"{n + 1}\n00:{n:02}:01,000 --> 00:{n:02}:04,000\n<i>{w.sentence('fr')}</i>\n{{\\an8}}{w.noun()} {n}",
        "env": lambda n: f"# {w.noun()} {n}\n{w.noun().upper()}_{n}=\"{w.noun()}\n{w.sentence('en')}\n{n}\"",
    }[kind]  # fmt: skip
    entries = [make(n) for n in range(rng.randint(3, 25))]
    head = "WEBVTT - captions" if kind == "vtt" else ""
    text = (f"{head}\n\n" if head else "") + "\n\n".join(entries) + "\n"
    loose = [e.split("\n")[0] for e in entries] if kind == "env" else []
    if kind == "env":
        entries = [e.split("\n", 1)[1] for e in entries]
    return Part(
        f"entries {kind}",
        text,
        records_whole(entries, head, loose, by_paragraph=kind in ("vtt", "srt styled")),
    )


# --- letters -------------------------------------------------------------------------------------


def mail_thread(w: Writer) -> Part:
    """Each quoted line keeps its marks; lines of a head stay together."""
    rng = w.rng
    lines: list[str] = []
    depth = rng.randint(1, 4)
    for n in range(depth):
        mark = "> " * n
        lines += (
            [f"{mark}On 3 May 2026, {rng.choice(NAMES)} <{w.noun()}{n}@example.org> wrote:"]
            if n
            else []
        )
        for _ in range(rng.randint(1, 4)):
            lines += [
                f"{mark}{w.sentence('en')} {w.sentence('en')}" for _ in range(rng.randint(1, 3))
            ] + [mark.rstrip()]
        lines += [f"{mark}-- ", f"{mark}{rng.choice(NAMES)}, {w.noun()} {n}", mark.rstrip()]
    text = (
        "From: Ada <a@example.org>\nTo: b@example.org\nSubject: Re: the lamp\nDate: Mon, 3 May 2026 10:00:00 +0200\n\n"
        + "\n".join(lines)
        + "\n"
    )
    marks: dict[str, set[int]] = {}
    for line in text.split("\n"):
        for word in line.split():
            marks.setdefault(word, set()).add(len(re.match(r"(?:> ?)*", line)[0].replace(" ", "")))  # type: ignore[index]

    def check(left: str) -> list[str]:
        for line in left.split("\n"):
            found = len(re.match(r"(?:> ?)*", line)[0].replace(" ", ""))  # type: ignore[index]
            words = [word for word in line.split() if set(word) != {">"}]
            if words and not any(found in marks.get(word, {found}) for word in words[:1]):
                return [f"marks of {line[:50]!r} are new"]
        return []

    return Part("mail thread", text, check)


def mbox(w: Writer) -> Part:
    rng = w.rng
    mails = []
    for n in range(rng.randint(2, 8)):
        body = rng.choice(
            (
                w.prose(1, 6),
                f"{w.sentence('en')}\n>From here on, {w.noun()}.",
                "--b1\nContent-Type: text/plain\n\n"
                + w.sentence("en")
                + "\n--b1\nContent-Transfer-Encoding: base64\n\n"
                + "\n".join("QUJD" * 15 + str(n) for _ in range(4))
                + "\n--b1--",
            )
        )
        mails.append(
            f"From a{n}@example.org Mon May  3 10:0{n}:00 2026\nFrom: {rng.choice(NAMES)} <a{n}@example.org>\nSubject: =?utf-8?q?{w.noun()}_{n}?=\n the second line\nMessage-ID: <{n}.{w.number()}@x>\n\n{body}\n"
        )
    text = "\n".join(mails)

    def check(left: str) -> list[str]:
        lines = left.split("\n")
        for at, line in enumerate(lines):
            if (
                re.match(r"From a\d@", line)
                and lines[at + 1 : at + 2][0:1] != [""]
                and not (lines[at + 1 : at + 2] or [""])[0].startswith("From: ")
            ):
                return ["a mail without its head"]
            if (
                line.startswith("Subject: ")
                and (lines[at + 1 : at + 2] or [""])[0] != " the second line"
            ):
                return ["a head that is torn"]
        return [] if left.count("\n--b1\n") == 2 * left.count("--b1--") else ["a part stays open"]

    return Part("mbox", text, check)


# --- letters of all scripts ----------------------------------------------------------------------

EMOJI = (
    "👩‍👩‍👧‍👦",
    "🏳️‍🌈",
    "🇩🇪",
    "👍🏽",
    "1️⃣",
    "❤️",
    "🧑🏿‍🚀",
    "🏴󠁧󠁢󠁳󠁣󠁴󠁿",
    "e\u0301",
    "n\u0303o",
    "क्षि",
    "हिन्दी",
    "กำ",
    "ก็",
    "각",
    "\u1112\u1161\u11ab",
    "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A",
    "ﷺ",
    "בְּרֵאשִׁית",
    "مُحَمَّد",
    "\u2067עברית\u2069",
    "ಕ್ಷ",
    "ക്ഷ",
    "தமிழ்",
)


def graphemes(w: Writer) -> Part:
    """No letter is torn, whatever it is put together from."""
    rng = w.rng
    words = [rng.choice((*EMOJI, w.noun(), rng.choice(NAMES))) for _ in range(rng.randint(10, 300))]
    glue = rng.choice((" ", " ", "", "\u200b", "\u3000"))
    ends = rng.choice((". ", "۔ ", "। ", "。", "؟ ", "! "))
    text, at = "", 0
    while at < len(words):
        size = rng.choice((3, 8, 60))
        text += glue.join(words[at : at + size]) + ends
        at += size
    text += "\n"
    source = regex.findall(r"\X", text)

    def check(left: str) -> list[str]:
        rest = iter(source)
        for one in regex.findall(r"\X", left):
            if one.strip() and one not in "….[]" and not any(one == other for other in rest):
                return [f"a letter is torn or new: {one!r}"]
        return []

    return Part("graphemes", text, check)


def right_to_left(w: Writer) -> Part:
    """Sentences are whole, with their marks of direction."""
    rng = w.rng
    kinds = (
        "قال {n} إن {a} مغلق في عام {i}؟",
        "{n} אמר כי {a} סגור בשנת {i}.",
        "{n} گفت که {a} در سال {i} بسته است۔",
        "\u202bراه {a} و {n} {i}\u202c.",
        "\u2068{n}\u2069 ראה את {a} \u2067(A {i})\u2069!",
    )
    sentences = [
        rng.choice(kinds).format(n=rng.choice(NAMES), a=f"{w.noun()}{n}", i=n)
        for n in range(rng.randint(3, 40))
    ]
    text = rng.choice((" ", " ", "\n")).join(sentences) + "\n"

    def check(left: str) -> list[str]:
        rest = left
        for one in sentences:
            rest = rest.replace(one, "", 1)
        rest = re.sub(r"\[…\]|…|\s", "", rest)
        return [f"a torn sentence: {rest[:60]!r}"] if rest and left.strip() not in text else []

    return Part("right to left", text, check)


def stack_traces(w: Writer) -> Part:
    """Log records with all that goes on below them."""
    rng = w.rng
    traces = (
        lambda: f"java.lang.RuntimeException: {w.noun()} failed\n\tat com.a.B.c(B.java:{w.number()})\n\tat com.a.D.<init>(D.java:1)\nCaused by: java.io.IOException: no {w.noun()}\n\t... 12 common frames omitted\n\tSuppressed: a.B: {w.noun()}",
        lambda: f"Traceback (most recent call last):\n  File \"/a/{w.noun()}.py\", line {w.number()}, in run\n    raise E(\n        'x'\n    )\nE: {w.noun()}\n\nDuring handling of the above exception, another exception occurred:\n\nTraceback (most recent call last):\n  File \"b.py\", line 3, in <module>\nKeyError: '{w.noun()}'",
        lambda: f"panic: {w.noun()}\n\ngoroutine 1 [running]:\nmain.f(0x{w.number()})\n\t/a/b.go:{w.number()} +0x1d\nexit status 2",
        lambda: f"   at A.B(String {w.noun()}) in C:\\a\\b.cs:line {w.number()}\n   --- End of inner exception stack trace ---\n   at D.E()",
    )  # fmt: skip
    records = []
    for n in range(rng.randint(4, 40)):
        level = rng.choice(("INFO ", "WARN ", "ERROR", "DEBUG"))
        head = f"2026-05-03 10:{n:02}:07,{n:03} {level} [{w.noun()}-{n}] com.a.{w.noun().title()} - {w.sentence('en')[:-1]}"
        records.append(head + ("\n" + rng.choice(traces)() if rng.random() < 0.25 else ""))
    text = "\n".join(records) + "\n"
    return Part("stack traces", text, records_whole(records, "", []))


def gherkin(w: Writer) -> Part:
    """Scenarios with tables and strings in three quotes."""
    rng = w.rng
    blocks = []
    for n in range(rng.randint(2, 10)):
        table = "\n".join(f"      | {w.noun()} | {k} |" for k in range(rng.randint(2, 6)))
        blocks.append(
            f'  @tag{n}\n  Scenario: {w.noun()} number {n}\n    Given the {w.noun()} {n}\n    When {w.sentence("en")[:-1]}\n      """\n      {{ {w.noun()}\n      """\n    Then rows of {n}\n      | name | n |\n{table}'
        )
    text = f"Feature: {w.noun()}\n  {w.sentence('en')}\n\n" + "\n\n".join(blocks) + "\n"
    return Part(
        "gherkin",
        text,
        every(
            lambda left: ["three quotes stay open"] if left.count('"""') % 2 else [],
            under(
                {
                    f"  Scenario: {b.split('Scenario: ')[1].split(chr(10))[0]}": f"  @tag{n}"
                    for n, b in enumerate(blocks)
                }
            ),
            lines_stay(text),
        ),
    )


_ = SENTENCES
