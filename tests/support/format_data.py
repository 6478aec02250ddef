"""Random data and records: YAML, settings, subtitles, literature, cards, letters, changes, SQL."""

# ruff: noqa: E501

from __future__ import annotations

import json
import re
import sqlite3

import yaml

from tests.support.format_checks import closes, entries_whole, every, under
from tests.support.mixed_documents import NAMES, Part, Writer
from tests.support.record_documents import Records
from tests.support.wholeness import (
    Check,
    part_of,
)  # fmt: skip

# --- data ----------------------------------------------------------------------------------------


def yaml_anchors(w: Writer) -> Part:
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
    try:
        source = list(yaml.safe_load_all(text))
    except yaml.YAMLError:  # chance has written none
        return lambda left: []

    def check(left: str) -> list[str]:
        try:
            got = [one for one in yaml.safe_load_all(left) if one]
        except yaml.YAMLError as error:
            return [f"YAML does not parse: {str(error)[:120]!r}"]
        return [] if part_of(got, source) else ["YAML is no part of its source"]

    return check


def yaml_documents(w: Writer) -> Part:
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


def yaml_scalars(w: Writer) -> Part:
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


def json_lines(w: Writer) -> Part:
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


def settings(w: Writer) -> Part:
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


def subtitles(w: Writer) -> Records:
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


def bibtex(w: Writer) -> Records:
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


def ris(w: Writer) -> Records:
    records = [
        f"TY  - JOUR\nAU  - {w.rng.choice(NAMES)}, A.\nTI  - {w.sentence('en')}\nPY  - {1950 + n}\nAB  - {w.prose(1, 4)}\nER  - "
        for n in range(w.rng.randint(3, 25))
    ]
    return Records("ris", records, glue=w.rng.choice(("\n\n", "\n")))


def cards(w: Writer) -> Part:
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


def calendar(w: Writer) -> Part:
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


def mails(w: Writer) -> Part:
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


def diff(w: Writer) -> Part:
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


def sql(w: Writer) -> Part:
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
