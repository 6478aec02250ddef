"""Random documents of formats that open and close what they hold, or go on over several lines.

What must hold is said by parsers: of YAML, SQL, HTML, brackets, environments. Where a format knows
records, they are kept with all of their lines or not at all; see :mod:`tests.support.wholeness`.
"""

# ruff: noqa: E501

from __future__ import annotations

import json
import random
import re
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import replace
from html.parser import HTMLParser

import yaml

from tests.support.mixed_documents import NAMES, Mixed, Part, Writer
from tests.support.record_documents import Records
from tests.support.wholeness import (
    Check,
    marks_close,
    part_of,
    records_whole,
    rows_under,
    words_in_order,
)  # fmt: skip

Maker = Callable[[Writer], Part | Records | Mixed]


def _around(w: Writer, part: Part) -> Mixed:
    """The document alone, or within a prompt."""
    way = w.rng.choice(("alone", "alone", "asked", "prompt", "fence"))
    text, check, asked = part.text, part.check, ""
    if way == "fence" and "```" not in text:
        text, asked = f"Look:\n\n```\n{text}\n```\n\nWhat failed here?", "What failed here?"
        inner = check

        def check(left: str) -> list[str]:
            found = re.search(r"^```\n(.*?)^```", left, re.S | re.M)
            return inner(found.group(1)) if found else marks_close(left)

    elif way in ("asked", "prompt"):
        before = "You are an editor. Be brief.\n\n" if way == "prompt" else ""
        asked = "Which lamp is the best one?"
        text = f"{before}{text}\n\n{asked}"
        whole = check

        def check(left: str) -> list[str]:
            body = left
            for line in ("You are an editor. Be brief.", "You are an editor.", "Be brief.", asked):
                body = body.replace(line, "", 1)
            return whole(body.strip("\n") + "\n") if body.strip() else []

    faults = (check, words_in_order(text))
    return Mixed(
        part.kind, text, "" if asked else w.rng.choice(("", f"What of {w.rng.choice(NAMES)}?")),
        lambda left: [f for c in faults for f in c(left)] if left.strip() else [],
    )  # fmt: skip


# --- checks --------------------------------------------------------------------------------------


def closes(opener: str, closer: str, *, holds: bool = True) -> Check:
    """Blocks close, in order, and hold something.

    Args:
        opener: What opens a block; its first group, if any, is the name.
        closer: The same of what closes it.
        holds: Whether a block that holds nothing is a fault.
    """
    mark = re.compile(rf"(?P<o>{opener})|(?P<c>{closer})", re.MULTILINE)

    def check(text: str) -> list[str]:
        opened: list[tuple[str, int]] = []
        for found in mark.finditer(text):
            name = next((g for g in found.groups()[1:] if g and g != found.group()), "")
            if found["o"] is not None:
                opened.append((name, found.end()))
            elif not opened or (opened[-1][0] != name and name):
                return [f"{found.group()!r} closes nothing"]
            else:
                name, at = opened.pop()
                if holds and not text[at : found.start()].strip():
                    return [f"{found.group()!r} closes what is empty"]
        return [f"{opened[-1][0] or opener!r} stays open"] if opened else []

    return check


def under(parents: dict[str, str]) -> Check:
    """A line stands below the line that it belongs to."""

    def check(text: str) -> list[str]:
        lines = [line.rstrip() for line in text.split("\n")]
        for line, above in parents.items():
            if line in lines and above not in lines[: lines.index(line)]:
                return [f"{line!r} without {above!r}"]
        return []

    return check


def lines_stay(source: str) -> Check:
    """Each line is a whole line of the source."""
    known = {"", *(line.rstrip() for line in source.split("\n"))}

    def check(text: str) -> list[str]:
        return [f"no line: {x!r}" for x in text.split("\n") if x.rstrip() not in known][:1]

    return check


def entries_whole(entries: Sequence[str], free: Sequence[str] = ()) -> Check:
    """Each entry has all of its lines, next to each other, or none."""
    return records_whole(entries, "", free)


def every(*checks: Check) -> Check:
    return lambda text: [fault for check in checks for fault in check(text)]


# --- data ----------------------------------------------------------------------------------------


def _yaml_anchors(w: Writer) -> Part:
    rng = w.rng
    names = [w.name() for _ in range(rng.randint(1, 3))]
    lines = []
    for n, name in enumerate(names):
        lines += [
            f"base{n}_{name}: &{name}",
            f"  image: {w.noun()}:{w.number()}",
            f"  retries: {w.number()}",
        ]
        if rng.random() < 0.5:
            lines += ["  env:", f"    PATH: /usr/{w.noun()}", "    MODE: 'on'"]
    for n in range(rng.randint(3, 25)):
        name = rng.choice(names)
        style = rng.randrange(4)
        lines.append(f"job{n}_{w.noun()}:")
        if style == 0:
            lines += [f"  <<: *{name}", f"  note: {w.sentence('en')[:-1]}"]
        elif style == 1:
            lines += ["  with:", f"    - *{name}", f"    - {w.noun()}"]
        elif style == 2:
            lines += [
                f"  <<: [*{name}]",
                "  text: >-",
                f"    {w.sentence('en')}",
                f"    {w.sentence('en')}",
                "",
                f"    {w.sentence('en')}",
            ]
        else:
            lines += [
                f"  script: |  # the {w.noun()}",
                f"    run: {w.noun()}",
                "      deep: [",
                f"    - {w.number()}",
                f"  copy: *{name}",
            ]
    text = "\n".join(lines) + "\n"
    return Part("yaml anchors", text, _yaml_part(text))


def _yaml_part(text: str) -> Check:
    source = list(yaml.safe_load_all(text))

    def check(left: str) -> list[str]:
        try:
            got = [one for one in yaml.safe_load_all(left) if one]
        except yaml.YAMLError as error:
            return [f"YAML does not parse: {str(error)[:120]!r}"]
        return [] if part_of(got, source) else ["YAML is no part of its source"]

    return check


def _yaml_documents(w: Writer) -> Part:
    documents = []
    for n in range(w.rng.randint(2, 9)):
        containers = "".join(
            f'    - name: {w.name()}\n      image: {w.noun()}:{w.number()}\n      args: ["--{w.noun()}", "{n}"]\n'
            for _ in range(w.rng.randint(1, 4))
        )
        documents.append(
            f"apiVersion: apps/v{n}\nkind: {w.rng.choice(('Service', 'Deployment', 'ConfigMap'))}\n"
            f"metadata:\n  name: {w.name()}\n  labels: {{app: {w.noun()}, tier: \"{n}\"}}\n"
            f"data:\n  config.ini: |\n    [a]\n    # no comment\n    b = {w.number()}\n\n    [c]\n    d: e\n"
            f"spec:\n  replicas: {w.number()}\n  containers:\n{containers}"
        )  # fmt: skip
    first = w.rng.choice(("", "---\n", "# Source: a.yaml\n---\n"))
    text = first + w.rng.choice(("---\n", "---\n# Source: b.yaml\n")).join(documents)
    return Part("yaml documents", text, _yaml_part(text))


def _yaml_scalars(w: Writer) -> Part:
    lines = []
    for n in range(w.rng.randint(4, 25)):
        key = f"key{n}_{w.noun()}"
        lines += w.rng.choice((
            [f"{key}: >", f"  {w.sentence('en')}", "", f"  {w.sentence('en')}"],
            [f"{key}: |2-", f"    {w.noun()}: x", f"  - {w.noun()}", "  # not a comment"],
            [f"{key}: \"{w.noun()}", f"  goes on: {w.noun()}", "  and ends\""],
            [f"{key}: {w.noun()} and", f"  {w.noun()} more", f"  words {w.number()}"],
            [f"? {key}", f": {w.number()}"],
            [f"{key}: [", f"  {w.noun()},", f"  {{a: {w.number()}}},", "]"],
            [f"{key}: !!str {w.number()}"], [f"{key}:  # which {w.noun()}", f"  - {w.noun()}", f"  -   a: {w.number()}", "      b: 2"],
            [f"{key}:", f"- {w.noun()}", f"- {w.sentence('de')!r}"], [f"{key}: {{}}"], [f"{key}:"], [f"{key}: ~"],
        ))  # fmt: skip
    text = "\n".join(lines) + "\n"
    return Part("yaml scalars", text, _yaml_part(text))


def _json_lines(w: Writer) -> Part:
    key = w.rng.choice(("text", "content", "body", "message"))
    rows = [{key: w.prose(1, w.rng.choice((2, 6, 14)))} for _ in range(w.rng.randint(3, 20))]
    if w.rng.random() < 0.5:
        rows = [{"id": n, **row} for n, row in enumerate(rows)]
    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n"

    def check(left: str) -> list[str]:
        for line in left.split("\n"):
            if not line.strip():
                continue
            try:
                got = json.loads(line)
            except ValueError:
                return [f"a JSON line does not parse: {line[:80]!r}"]
            if not any(part_of(got, row) for row in rows):
                return ["a JSON line is no part of its source"]
            if not str(got.get(key, "x")).strip():
                return ["a JSON line that says nothing"]
        return []

    return Part("json lines of text", text, check)


def _settings(w: Writer) -> Part:
    """Keys with values in the dialects of many programs; each entry may go on over lines."""
    form = w.rng.choice(list(_SETTINGS))
    comment, sep, section, more = _SETTINGS[form]
    entries, parents, lines = [], {}, []
    head = ""
    for n in range(w.rng.randint(8, 40)):
        if section and n % 6 == 0:
            head = section.format(f"{w.noun()}{n}")
            lines.append(head)
        key = f"{w.noun()}.part{n}" if form == "properties" else f"{w.noun().upper()}_{n}"
        pad = "\t" if form == "gitconfig" else ""
        value = w.rng.choice(
            (str(w.number()), w.name(), w.sentence("en")[:-1].replace("e.g. ", ""))
        )
        if form in ("env", "env export") and " " in value:
            value = f'"{value}"'
        entry = f"{pad}{key}{sep}{value}"
        if more and w.rng.random() < 0.3:
            entry += f"{more}{w.noun()}{more}{w.noun()}"
        entries.append(entry)
        lines.append(entry)
        if head:
            parents[entry.split("\n")[0]] = head
        if w.rng.random() < 0.15:
            lines.append(f"{pad}{comment} about the {w.noun()}")
    text = "\n".join(lines) + "\n"
    free = [line for line in lines if line not in entries]
    return Part(f"settings {form}", text, every(entries_whole(entries, free), under(parents)))


_SETTINGS = {
    "properties": ("#", "=", "", " \\\n    "), "properties colon": ("!", ": ", "", " \\\n  "),
    "env": ("#", "=", "", ""), "env export": ("#", "=", "", ""),
    "ini": (";", " = ", "[{}]", "\n    "), "gitconfig": ("#", " = ", '[remote "{}"]', ""),
    "systemd": ("#", "=", "[{}]", " \\\n  "), "editorconfig": ("#", " = ", "[*.{{{},js}}]", ""),
    "ssh": ("#", " ", "", ""),
}  # fmt: skip


# --- records -------------------------------------------------------------------------------------


def _subtitles(w: Writer) -> Records:
    """Subtitles as people and programs write them, good and bad."""
    rng = w.rng
    form = rng.choice(("srt", "vtt"))
    dot = "," if form == "srt" else "."
    hours = form == "srt" or rng.random() < 0.5
    start = rng.choice((1, 1, 0, 7))
    numbered = form == "srt" or rng.random() < 0.4
    said = (
        lambda n: w.sentence(), lambda n: f"- {w.sentence('en')}\n- Yes, {w.noun()}.",
        lambda n: f"{n + 1_000}", lambda n: f"{w.number() + 500}\n{w.noun()}", lambda n: f"♪ {w.noun()} ♪",
        lambda n: f"<v {rng.choice(NAMES)}>{w.sentence()}", lambda n: f"<i>{w.noun()} and\n{w.noun()}</i>",
        lambda n: f"[{w.noun()} rings]", lambda n: f"{rng.choice(NAMES).upper()}: {w.sentence('en')}",
        lambda n: f"At 12:30 the {w.noun()},\nthen at 13:45:10 the {w.noun()}.", lambda n: f"{{\\an8}}{w.sentence('en')}",
        lambda n: f"NOTE that the {w.noun()}\nis {w.noun()}", lambda n: f"{w.noun()}: {w.number()}\n{w.noun()}: {w.number()}\n{w.noun()}: {w.number()}",
        lambda n: w.prose(2, 5), lambda n: f"({w.noun()})", lambda n: f"# {w.noun()} #", lambda n: f"{w.noun()}\n\\h{w.noun()}",
    )  # fmt: skip
    said = rng.sample(said, rng.randint(1, 6))
    records = []
    for n in range(rng.randint(2, 60)):
        begin, end = (
            f"{t // 60 % 60:02d}:{t % 60:02d}{dot}{rng.randint(0, 999):03d}"
            for t in (3 * n, 3 * n + 2)
        )
        prefix = "00:" if hours else ""
        cue = f"{prefix}{begin} --> {prefix}{end}"
        if form == "vtt" and rng.random() < 0.2:
            cue += rng.choice(
                (" align:start position:0%", " line:90%", " position:10%,line-left size:35%")
            )
        if form == "srt" and rng.random() < 0.05:
            cue += " X1:40 X2:600 Y1:20 Y2:50"
        cue = f"{cue}\n{rng.choice(said)(n)}"
        records.append(f"{n + start}\n{cue}" if numbered else cue)
        if form == "vtt" and rng.random() < 0.06:
            records.append(
                rng.choice((f"NOTE {w.noun()}", f"NOTE\n{w.sentence('en')}\n{w.noun()} {n}"))
            )
    header, loose = "", []
    if form == "vtt":
        header = rng.choice(
            (
                "WEBVTT\n\n",
                f"WEBVTT {w.noun()}\n\n",
                "WEBVTT\nKind: captions\nLanguage: en\n\n",
                "WEBVTT\nX-TIMESTAMP-MAP=LOCAL:00:00:00.000,MPEGTS:900000\n\n",
            )
        )
        if rng.random() < 0.3:
            header += "STYLE\n::cue {\n  color: lime;\n}\n\n"
        if rng.random() < 0.2:
            header += "REGION\nid:fred\nwidth:40%\n\n"
        if rng.random() < 0.2:
            header += f"NOTE by {w.noun()}\n\n"
            loose = [header.strip().split("\n")[-1]]
    return Records(
        f"subtitles {form}",
        records,
        header,
        glue=rng.choice(("\n\n", "\n\n", "\n\n\n")),
        by_paragraph=True,
        loose=loose,
    )


def _bibtex(w: Writer) -> Records:
    def field(name: str) -> str:
        text = w.rng.choice(
            (w.sentence("en")[:-1], f"The {{{w.noun().title()}}} of {{\\'e}}t", w.noun())
        )
        return f"  {name} = {w.rng.choice(('{%s}', '{{%s}}', chr(34) + '%s' + chr(34))) % text},"

    records = []
    for n in range(w.rng.randint(3, 25)):
        names = w.rng.sample(
            ("author", "title", "journal", "booktitle", "abstract", "note", "url"),
            w.rng.randint(2, 6),
        )
        kind = w.rng.choice(("article", "inproceedings", "book", "misc", "ARTICLE"))
        body = "\n".join(
            [*(field(name) for name in names), f"  year = {1950 + n}{w.rng.choice(('', ','))}"]
        )
        records.append(f"@{kind}{{{w.noun()}{1950 + n},\n{body}\n}}")
    return Records("bibtex", records, glue=w.rng.choice(("\n\n", "\n")))


def _ris(w: Writer) -> Records:
    records = [
        f"TY  - JOUR\nAU  - {w.rng.choice(NAMES)}, A.\nTI  - {w.sentence('en')}\nPY  - {1950 + n}\nAB  - {w.prose(1, 4)}\nER  - "
        for n in range(w.rng.randint(3, 25))
    ]
    return Records("ris", records, glue=w.rng.choice(("\n\n", "\n")))


def _cards(w: Writer) -> Part:
    """Address cards; lines that are folded go on with a space."""
    records = []
    for n in range(w.rng.randint(3, 25)):
        lines = [
            f"VERSION:{w.rng.choice(('3.0', '4.0'))}",
            f"N:{w.rng.choice(NAMES)};{w.noun()};;;",
            f"FN:{w.rng.choice(NAMES)} {w.noun()} {n}",
        ]
        if w.rng.random() < 0.5:
            lines.append(f"TEL;TYPE=work,voice:(111) 555-{w.number()}{w.number()}")
        if w.rng.random() < 0.4:
            lines.append(f"NOTE:{w.sentence('en')}\n  {w.sentence('en')}\n  {w.noun()} {n}")
        records.append("\n".join(["BEGIN:VCARD", *lines, "END:VCARD"]))
    text = "\n".join(records)
    return Part(
        "cards", text, every(entries_whole(records), closes(r"^BEGIN:(\w+)", r"^END:(\w+)"))
    )


def _calendar(w: Writer) -> Part:
    head = f"BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:-//{w.noun()}//EN"
    events = []
    for n in range(w.rng.randint(2, 20)):
        alarm = (
            "\nBEGIN:VALARM\nACTION:DISPLAY\nTRIGGER:-PT15M\nEND:VALARM"
            if w.rng.random() < 0.3
            else ""
        )
        more = (
            f"\nDESCRIPTION:{w.sentence('en')}\\n\n  {w.sentence('en')}"
            if w.rng.random() < 0.6
            else ""
        )
        events.append(
            f"BEGIN:VEVENT\nUID:{n}@{w.noun()}.org\nDTSTART:202605{n % 28 + 1:02d}T090000Z\nSUMMARY:{w.noun()} with {w.rng.choice(NAMES)}{more}{alarm}\nEND:VEVENT"
        )
    text = "\n".join([head, *events, "END:VCALENDAR"])
    loose = ["END:VCALENDAR", *head.split("\n")]
    return Part(
        "calendar",
        text,
        every(entries_whole(events, loose), closes(r"^BEGIN:(\w+)", r"^END:(\w+)")),
    )


def _mails(w: Writer) -> Part:
    mails, parents = [], {}
    for n in range(w.rng.randint(2, 12)):
        first = w.rng.choice(
            (
                f"From a{n}@b.org Fri May  1 10:{n:02d}:00 2026\n",
                "",
                f"---------- Forwarded message {n} ---------\n",
            )
        )
        head = (
            f"{first}From: {w.rng.choice(NAMES)} <a{n}@b.org>\nTo: list{n}@c.org,\n\tother{n}@c.org\nDate: Fri, 1 May 2026 10:{n:02d}:00 +0000\n"
            f"Subject: {w.noun()} {n} {w.noun()}\nMessage-ID: <{n}.{w.number()}@b.org>"
        )
        body = [f"Hello {w.noun()} {n}, {w.sentence('en')}" for _ in range(w.rng.randint(1, 6))]
        mails.append(f"{head}\n\n" + "\n".join(body))
        parents |= {
            line: f"Subject: {head.split('Subject: ')[1].split(chr(10))[0]}" for line in body
        }
        parents[f"\tother{n}@c.org"] = f"To: list{n}@c.org,"
    return Part("mails", "\n\n".join(mails) + "\n", under(parents))


def _diff(w: Writer) -> Part:
    lines, hunks, parents = [], [], {}
    for n in range(w.rng.randint(1, 6)):
        name = f"src/{w.noun()}{n}.py"
        if git := w.rng.random() < 0.6:
            lines.append(f"diff --git a/{name} b/{name}")
            lines.append(f"index {w.number()}ab{n}..{w.number()}cd{n} 100644")
        lines += [
            f"--- a/{name}" if git else f"--- {name}\t2026-05-01 10:00:0{n}",
            f"+++ b/{name}" if git else f"+++ {name}\t2026-05-01 10:01:0{n}",
        ]
        above = lines[-1]
        for k in range(w.rng.randint(1, 5)):
            body = [
                f"{w.rng.choice(' +-')}{' ' * (4 * w.rng.randint(0, 2))}{w.noun()} = {w.name()}"
                for _ in range(w.rng.randint(3, 14))
            ]
            if w.rng.random() < 0.2:
                body.insert(1, w.rng.choice((" ", "-- a remark", "+++ more", "-")))
            old = sum(x[0] in " -" for x in body)
            new = sum(x[0] in " +" for x in body)
            hunk = "\n".join(
                [f"@@ -{n}{k}1,{old} +{n}{k}1,{new} @@ def {w.noun()}{n}{k}():", *body]
            )
            hunks.append(hunk)
            parents[hunk.split("\n")[0]] = above
            lines.append(hunk)
    text = "\n".join(lines)
    free = [x for x in lines if x not in hunks]
    return Part("diff", text, every(entries_whole(hunks, free), under(parents)))


def _sql(w: Writer) -> Part:
    lines, table = [], ""
    way = w.rng.choice(("single", "rows", "long rows"))
    for n in range(w.rng.randint(1, 4)):
        table = f"{w.noun()}_{n}"
        lines.append(
            f"-- Table {w.noun()}\nDROP TABLE IF EXISTS {table};\nCREATE TABLE {table} (\n  id INTEGER PRIMARY KEY,\n  who TEXT DEFAULT 'a;b',\n  what TEXT\n);"
        )
        rows = []
        for k in range(w.rng.randint(3, 40)):
            said = w.rng.choice(
                (w.sentence("en"), "it''s (so;\nand, 'so')".replace("'so'", "so"), w.noun())
            )
            rows.append(f"({k}, '{w.rng.choice(NAMES)}', '{said}')")
        if way == "single":
            lines += [f"INSERT INTO {table} VALUES {row};" for row in rows]
        elif way == "rows":
            lines.append(f"INSERT INTO {table} (id, who, what) VALUES\n" + ",\n".join(rows) + ";")
        else:
            lines.append(f"INSERT INTO `{table}` VALUES {','.join(rows)};")
    text = "\n".join(lines) + "\n"
    tables = sorted(set(re.findall(r"CREATE TABLE (\w+)", text)))

    def dump(script: str) -> list[tuple[str, ...]]:
        base = sqlite3.connect(":memory:")
        for name in tables:
            base.execute(f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, who TEXT, what TEXT)")
        script = re.sub(r"DROP TABLE IF EXISTS \w+;", "", script)
        script = script.replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS")
        base.executescript(script)
        return [row for name in tables for row in base.execute(f"SELECT '{name}', * FROM {name}")]

    source = set(dump(text))

    def check(left: str) -> list[str]:
        try:
            got = dump(left)
        except sqlite3.Error as error:
            return [f"SQL does not run: {error}"]
        return [] if set(got) <= source else ["SQL inserts other rows"]

    return Part(f"sql {way}", text, check)


# --- text with marks -----------------------------------------------------------------------------


def _latex(w: Writer) -> Part:
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


def _markdown(w: Writer) -> Part:
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
            r"^(`{3,}|~{3,})[^\n`]*\n\s*^\1\n",
            r"^(> \[!NOTE\])\n(?!>)",
        ):
            odd = re.search(empty, left, re.M)
            if odd and not re.search(empty, text, re.M):
                faults.append(f"empty: {odd.group()!r}")
        return faults

    return Part("markdown", text, check)


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


def _html(w: Writer) -> Part:
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


def _directives(w: Writer) -> Part:
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


def _org(w: Writer) -> Part:
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


def _ruled(w: Writer) -> Part:
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


def _grid_cells(w: Writer) -> Part:
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


def _names(w: Writer) -> Mixed:
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


def _shots(w: Writer) -> Mixed:
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


def _short_xml(w: Writer) -> Mixed:
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


MAKERS: tuple[Maker, ...] = (
    _yaml_anchors, _yaml_documents, _yaml_scalars, _json_lines, _settings, _settings, _subtitles, _subtitles, _bibtex, _ris,
    _cards, _calendar, _mails, _diff, _sql, _latex, _latex, _markdown, _markdown, _html, _html, _directives, _org, _ruled,
    _grid_cells, _names, _shots, _shots, _short_xml,
)  # fmt: skip


def document(rng: random.Random) -> Mixed:
    """Write a random document of one of these formats."""
    w = Writer(rng)
    made = rng.choice(MAKERS)(w)
    if isinstance(made, Part):
        made = _around(w, made)
    elif isinstance(made, Records):
        made = made.written(rng)
    if rng.random() < 0.1 and "\r" not in made.text:
        check = made.check
        made = replace(
            made,
            text=made.text.replace("\n", "\r\n"),
            check=lambda left: check(left.replace("\r\n", "\n")),
        )
    return made
