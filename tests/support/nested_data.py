"""Random data whose values hold what looks like its own marks: SQL, TOML, YAML, XML, CSV, JSON."""

# ruff: noqa: E501

from __future__ import annotations

import ast
import csv
import io
import json
import re
import sqlite3
import tomllib
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import yaml

from tests.support.format_checks import closes, entries_whole, every, under
from tests.support.mixed_documents import NAMES, Part, Writer, ini_part
from tests.support.wholeness import Check, part_of

# --- SQL -----------------------------------------------------------------------------------------


def sql_dump(w: Writer) -> Part:
    """Tables and rows, with semicolons, line ends, quotes and comments inside of strings."""
    rng = w.rng
    out, tables = ["-- dump of 3 May", "BEGIN TRANSACTION;"], []
    for n in range(rng.randint(1, 4)):
        table = f"{w.noun()}_{n}"
        tables.append(table)
        out.append(
            f"CREATE TABLE {table} (\n  id INTEGER PRIMARY KEY,  -- the key; unique\n"
            f"  name TEXT NOT NULL DEFAULT 'a;b',\n  note TEXT CHECK (note <> '')\n);"
        )
        if rng.random() < 0.4:
            out.append(
                f"CREATE TRIGGER t_{table} AFTER INSERT ON {table} BEGIN\n"
                f"  UPDATE {table} SET note = 'x' WHERE id = 1;\n  DELETE FROM {table} WHERE id < 0;\nEND;"
            )
        for k in range(rng.randint(1, 12)):
            value = rng.choice(
                (
                    w.sentence("en"),
                    "it''s; done",
                    f"two\nlines; of {w.noun()}\n-- no comment",
                    "/* no */",
                    "",
                )
            )
            rows = rng.randint(1, 4)
            tuples = (",\n  " if rng.random() < 0.5 else ", ").join(
                f"({k * 10 + r}, '{w.noun()}', '{value}')" for r in range(rows)
            )
            out.append(
                f"INSERT INTO {table} (id, name, note) VALUES\n  {tuples};"
                if rows > 1
                else f"INSERT INTO {table} VALUES {tuples};"
            )
        if rng.random() < 0.5:
            out.append(
                f"/* index of {table};\n   by name */\nCREATE INDEX i_{table} ON {table} (name);"
            )
    out.append("COMMIT;")
    text = "\n".join(out) + "\n"
    source = set(_statements(text))

    def check(left: str) -> list[str]:
        for one in _statements(left):
            if one in source:
                continue
            if not sqlite3.complete_statement(one) or not one.startswith("INSERT"):
                return [f"no statement of the source: {one[:60]!r}"]
            head, _, rows = one.partition("VALUES")
            whole = [s for s in source if s.startswith(f"{head}VALUES")]
            tuples = re.findall(r"\((?:'(?:''|[^'])*'|[^()'])*\)", rows)
            if not any(all(t in s for t in tuples) for s in whole):
                return [f"no rows of the source: {one[:60]!r}"]
        return []

    return Part("sql dump", text, check)


def _statements(text: str) -> list[str]:
    """Statements without comments and needless blanks."""
    token = re.compile(r"'(?:''|[^'])*'|--[^\n]*|/\*.*?\*/|\s+|;|[^\s;'/-]+|.", re.S)
    found, now, depth = [], "", 0
    for part in token.findall(text):
        if part.startswith(("--", "/*")):
            continue
        now += " " if not part.strip() else part
        depth += part.upper() == "TRIGGER"
        depth -= part.upper() == "END" and depth > 0
        if part == ";" and not depth:
            found.append(re.sub(r"(?<!\S)\s+|\s+(?=;)", "", now).strip())
            now = ""
    return found + ([now.strip()] if now.strip() else [])


# --- TOML, INI, properties -----------------------------------------------------------------------


def toml_nested(w: Writer) -> Part:
    rng = w.rng
    lines = [
        f'title = "{w.noun()} # no comment"',
        "[owner]",
        f"name = '{rng.choice(NAMES)}'",
        f"dob = 19{w.number()}-05-27T07:32:00Z",
    ]
    for n in range(rng.randint(1, 12)):
        key = f"{w.noun()}_{n}"
        lines += rng.choice((
            [f"[[servers.{key}]]", f'name = "{w.noun()}"', f"[[servers.{key}.ports]]", f"port = {w.number()}", f"[[servers.{key}]]", f'name = "{w.noun()}"'],
            [f"[{key}]", 'text = """', f"[not.a.table] {w.sentence('en')}", f'key = "{w.noun()}"', '"""', f"after = {w.number()}"],
            [f"[{key}]", "raw = '''", f"{w.sentence('de')}", "[[no]]", "'''"],
            [f'[{key}."a.b"]', "ports = [", f"  {w.number()}, # {w.noun()} ]", f"  {w.number()},", "]", f'point = {{ x = {w.number()}, y = "[z]" }}'],
            [f"# about {w.noun()}", f"[{key}]  # {w.noun()}", f"a.b.c = {w.number()}", f'a.b.d = "{w.noun()} = {w.noun()}"', "", f"on = {rng.choice(('true', 'false'))}"],
        ))  # fmt: skip
    text = "\n".join(lines) + "\n"
    source = tomllib.loads(text)

    def check(left: str) -> list[str]:
        try:
            got = tomllib.loads(left)
        except tomllib.TOMLDecodeError as error:
            return [f"TOML does not parse: {error}"]
        return [] if part_of(got, source) else ["TOML is no part of its source"]

    return Part("toml nested", text, check)


def ini_continued(w: Writer) -> Part:
    rng = w.rng
    lines = ["; settings", f"# of {w.noun()}"]
    for n in range(rng.randint(1, 8)):
        lines.append(f"[{w.noun()} {n}]")
        for k in range(rng.randint(1, 7)):
            key = f"{w.noun()}.{k}"
            lines += rng.choice((
                [f"{key} = {w.number()}"], [f"{key}: {w.noun()} = {w.noun()}"],
                [f"{key} =", f"    {w.noun()}>=1.{w.number()}", f"    {w.noun()}[x]; python_version > '3'", f"    {w.sentence('en')}"],
                [f"{key} = {w.noun()}", f"    [{w.noun()}]", "    # inside"], [f"; {w.noun()}", f"{key} ="],
            ))  # fmt: skip
        lines.append("")
    return ini_part("ini continued", "\n".join(lines))


def properties(w: Writer) -> Part:
    entries = []
    for n in range(w.rng.randint(4, 40)):
        key = f"app.{w.noun()}.{n}"
        entries.append(w.rng.choice((
            f"{key}={w.noun()}", f"{key} = {w.noun()}, \\\n    {w.noun()}, \\\n    {w.number()}",
            f"{key}: {w.sentence('en')} \\\n  {w.sentence('en')}", f"{key}=C:\\\\{w.noun()}\\\\",
        )))  # fmt: skip
    text = "\n".join(entries) + "\n"
    return Part("properties", text, entries_whole(entries))


# --- YAML ----------------------------------------------------------------------------------------


def yaml_workflow(w: Writer) -> Part:
    """Lists of maps with scripts in block scalars, which look like YAML, comments and keys."""
    rng = w.rng
    lines = [
        f"name: {w.noun()} {w.number()}",
        "on: {push: {branches: [main]}}",
        "env:",
        f'  A: "{w.noun()}: #1"',
        "jobs:",
    ]
    for n in range(rng.randint(1, 6)):
        lines += [f"  job_{n}:", f"    runs-on: {w.noun()}", "    steps:"]
        for _ in range(rng.randint(1, 6)):
            lines += rng.choice((
                [f"      - uses: {w.noun()}@v{w.number()}", "        with:", f"          key: ${{{{ hashFiles('{w.noun()}') }}}}"],
                [f"      - name: {w.sentence('en')[:-1].replace(':', '')!r}", "        run: |", f"          echo \"a: {w.noun()}\"", "          if true; then", "            - not a list", "          fi", "", f"          # {w.noun()} is no comment"],
                ["      - run: >-", f"          make {w.noun()}", f"          --with={w.number()}", "        shell: bash"],
                [f"      # about the {w.noun()}", "      -", f"        name: {w.noun()}", f"        if: {w.noun()} == '{w.noun()}'"],
                ["      - [a, b, {c: [d,", f"          {w.noun()}]}}]"], [f"      - '{w.noun()}", f"        goes on, it''s {w.noun()}'"],
                ["      - run: |+", f"          {w.noun()}", "", "", f"        id: x{w.number()}"],
            ))  # fmt: skip
    text = "\n".join(lines) + "\n"
    source = yaml.safe_load(text)

    def check(left: str) -> list[str]:
        try:
            got = yaml.safe_load(left)
        except yaml.YAMLError as error:
            return [f"YAML does not parse: {str(error)[:100]!r}"]
        return [] if got is None or part_of(got, source) else ["YAML is no part of its source"]

    return Part("yaml workflow", text, check)


# --- XML, HTML -----------------------------------------------------------------------------------


def _tree(one: ElementTree.Element) -> dict[str, Any]:
    text = " ".join((one.text or "").split())
    return {"tag": one.tag, "of": dict(one.attrib), "text": text,
            "in": [[_tree(x), " ".join((x.tail or "").split())] for x in one]}  # fmt: skip


def _part_of_tree(got: dict[str, Any], source: dict[str, Any]) -> bool:
    if got["tag"] != source["tag"] or got["of"] != source["of"]:
        return False
    if got["text"] not in ("", source["text"]) and not set(got["text"].split()) <= set(
        source["text"].split()
    ):
        return False
    rest = iter(source["in"])
    return all(any(_part_of_tree(a, c) for c, _ in rest) for a, _ in got["in"])


def xml_nested(w: Writer) -> Part:
    rng = w.rng

    def element(depth: int) -> str:
        name = rng.choice(("item", "note", "a:part", "group", "entry"))
        own = f' id="{w.noun()}&gt;{w.number()}"' if rng.random() < 0.5 else ""
        if depth == 0 or rng.random() < 0.3:
            body = rng.choice((
                w.sentence("en"), f"<![CDATA[if (a < b && c > d) {{ </{name}> }}]]>", f"{w.noun()} &amp; {w.noun()}",
                f"<!-- {w.noun()} </{name}> -->{w.noun()}", f"\n    {w.sentence('de')}\n    {w.sentence('en')}\n  ", "",
            ))  # fmt: skip
            return f"<{name}{own}>{body}</{name}>" if body else f"<{name}{own}/>"
        inside = "\n".join(
            "  " + element(depth - 1).replace("\n", "\n  ") for _ in range(rng.randint(1, 5))
        )
        return f"<{name}{own}>\n{inside}\n</{name}>"

    head = rng.choice(
        (
            "",
            '<?xml version="1.0"?>\n',
            f'<?xml version="1.0"?>\n<!DOCTYPE root [<!ENTITY x "{w.noun()} > y">]>\n',
            f"<!-- {w.sentence('en')} -->\n",
        )
    )
    text = (
        f'{head}<root xmlns:a="urn:a">\n'
        + "\n".join(element(rng.randint(0, 3)) for _ in range(rng.randint(2, 14)))
        + "\n</root>\n"
    )
    source = _tree(ElementTree.fromstring(text))

    def check(left: str) -> list[str]:
        if "<root" not in left:  # it took most of the room: elements of it stand alone
            left = f'<root xmlns:a="urn:a">{left}</root>'
        try:
            got = _tree(ElementTree.fromstring(left.strip()))
        except ElementTree.ParseError as error:
            return [f"XML does not parse: {error}"]
        return [] if _part_of_tree(got, source) else ["XML is no part of its source"]

    return Part("xml nested", text, check)


class _Rows(HTMLParser):
    """Rows of tables, and whether what is opened is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[str] = []
        self.rows: list[list[str]] = []
        self.fault = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag in ("br", "img", "hr"):
            return
        self.opened.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th") and self.rows:
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if not self.opened or self.opened.pop() != tag:
            self.fault = self.fault or f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if self.opened and {"td", "th"} & set(self.opened) and self.rows and self.rows[-1]:
            self.rows[-1][-1] += " ".join(data.split())


def html_table(w: Writer) -> Part:
    rng = w.rng
    on_lines = rng.random() < 0.5
    names = ["Id", "Name", "Note"]
    glue = "\n      " if on_lines else ""

    def row(cells: list[str], kind: str) -> str:
        inside = glue.join(f"<{kind}>{cell}</{kind}>" for cell in cells)
        return f"    <tr>{glue}{inside}{glue[:-2]}</tr>"

    rows = [
        row([str(n), rng.choice(NAMES), rng.choice((w.sentence("en"), f"<b>{w.noun()}</b> &lt; {w.number()}", "", f"{w.noun()}<br>{w.noun()}"))], "td")
        for n in range(rng.randint(3, 40))
    ]  # fmt: skip
    head = row(names, "th")
    text = (
        f"<table class=\"a\">\n  <caption>{w.noun()}s</caption>\n  <thead>\n{head}\n  </thead>\n  <tbody>\n"
        + "\n".join(rows) + "\n  </tbody>\n</table>\n"
    )  # fmt: skip
    if rng.random() < 0.4:
        text = f"<h1>{w.noun()}</h1>\n<p>{w.sentence('en')} {w.sentence('en')}</p>\n{text}<ul>\n<li>{w.noun()}</li>\n<li>{w.sentence('en')}</li>\n</ul>\n"
    whole = _Rows()
    whole.feed(text)

    def check(left: str) -> list[str]:
        got = _Rows()
        got.feed(left)
        got.close()
        if got.fault or got.opened:
            return [got.fault or f"<{got.opened[-1]}> stays open"]
        if any(one not in whole.rows for one in got.rows):
            return [f"no row of the source: {next(r for r in got.rows if r not in whole.rows)}"]
        return [] if not got.rows or got.rows[0] == names else ["rows without their header"]

    return Part("html table", text, check)


# --- JSON and its kin ----------------------------------------------------------------------------


def notebook(w: Writer) -> Part:
    rng = w.rng
    cells: list[Any] = []
    for n in range(rng.randint(2, 12)):
        if rng.random() < 0.5:
            source = [
                f"# {w.noun()}\n",
                f"{w.prose(1, 5)}\n",
                "```json\n",
                f'{{"a": "{w.noun()}"}}\n',
                "```",
            ]
            cells.append({"cell_type": "markdown", "metadata": {}, "source": source})
        else:
            source = [f"def {w.noun()}_{n}(x):\n", f"    return '{w.noun()}; {{' + x\n"]
            out = (
                [{"output_type": "stream", "name": "stdout", "text": [f"{w.sentence('en')}\n"]}]
                if rng.random() < 0.5
                else []
            )
            cells.append(
                {
                    "cell_type": "code",
                    "execution_count": n,
                    "metadata": {},
                    "outputs": out,
                    "source": source,
                }
            )
    book = {
        "cells": cells,
        "metadata": {"kernelspec": {"name": "python3"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    text = json.dumps(book, indent=rng.choice((1, 2, None)), ensure_ascii=rng.random() < 0.5) + "\n"
    return Part("notebook", text, _json_check(book))


def _json_check(source: Any) -> Check:
    def check(left: str) -> list[str]:
        try:
            got = json.loads(left)
        except ValueError as error:
            return [f"JSON does not parse: {error}"]
        return [] if part_of(got, source) else ["JSON is no part of its source"]

    return check


def json_in_strings(w: Writer) -> Part:
    """Values hold JSON, code, fences and quotes of their own."""
    rng = w.rng

    def value(depth: int) -> Any:
        return rng.choice((
            lambda: json.dumps({"a": w.noun(), "b": [1, {"c": w.sentence("en")}]}), lambda: f"```json\n{{\"x\": {w.number()}}}\n```",
            lambda: f"say \"{w.noun()}\" \\ {w.noun()}\n\t{{", lambda: w.number() / 8, lambda: None, lambda: w.prose(1, 8),
            lambda: {w.name(): value(depth - 1) for _ in range(3)} if depth else [], lambda: [value(depth - 1) for _ in range(rng.randint(1, 6))] if depth else {},
        ))()  # fmt: skip

    source: Any = {f"{w.noun()}_{n}": value(3) for n in range(rng.randint(2, 14))}
    if rng.random() < 0.3:
        source = [source, value(2), value(3)]
    text = json.dumps(
        source, indent=rng.choice((None, 1, 2, 4, "\t")), ensure_ascii=rng.random() < 0.5
    )
    return Part("json in strings", text + "\n", _json_check(source))


def json_objects(w: Writer) -> Part:
    """Pretty objects one after another, which is no JSON Lines."""
    objects = [
        {
            "id": n,
            "name": w.rng.choice(NAMES),
            "tags": [w.noun(), "}{"],
            "text": w.prose(1, 3),
            "n": n,
        }
        for n in range(w.rng.randint(2, 12))
    ]
    text = (
        w.rng.choice(("\n", "\n\n", "\n---\n")).join(
            json.dumps(o, indent=2, ensure_ascii=False) for o in objects
        )
        + "\n"
    )

    def check(left: str) -> list[str]:
        at, seen = 0, 0
        body = re.sub(r"^---$", "", left, flags=re.M)
        while body[at:].strip():
            at += len(body[at:]) - len(body[at:].lstrip())
            try:
                got, at = json.JSONDecoder().raw_decode(body, at)
            except ValueError:
                return [f"JSON does not parse: {body[at : at + 60]!r}"]
            found = next((n for n in range(seen, len(objects)) if part_of(got, objects[n])), -1)
            if found < 0:
                return ["an object is no part of its source"]
            seen = found + 1
        return []

    return Part("json objects", text, check)


def python_values(w: Writer) -> Part:
    """The repr of a list of dicts, as many scripts paste it."""
    source = [
        {
            "id": n,
            "who": w.rng.choice(NAMES),
            "note": w.sentence("en") + "'}",
            "at": (w.number(), None),
            "ok": n % 2 == 0,
        }
        for n in range(w.rng.randint(3, 30))
    ]
    glue = w.rng.choice((", ", ",\n "))
    text = "[" + glue.join(map(repr, source)) + "]\n"

    def check(left: str) -> list[str]:
        try:
            got = ast.literal_eval(left.strip())
        except (SyntaxError, ValueError) as error:
            return [f"no Python value: {error}"]
        return [] if part_of(got, source) else ["a value is no part of its source"]

    return Part("python values", text, check)


def jsonc(w: Writer) -> Part:
    """JSON with comments and last commas, as editors keep their settings."""
    lines = ["{", f'  // the {w.noun()}: {{ "a": [', f'  "editor.{w.noun()}": {w.number()},']
    for n in range(w.rng.randint(2, 20)):
        lines += w.rng.choice((
            [f'  "{w.noun()}.{n}": true, // {w.noun()} }}'], [f'  "{w.noun()}.{n}": {{', f'    "path": "/*{w.noun()}*/",', f'    "list": [{w.number()}, "]"],', "  },"],
            ["  /* two", f"     lines {{ of {w.noun()} */", f'  "{w.noun()}.{n}": "// {w.sentence("en")}",'],
        ))  # fmt: skip
    text = "\n".join([*lines, "}"]) + "\n"

    def read(what: str) -> Any:
        token = re.compile(r'("(?:\\.|[^"\\])*")|//[^\n]*|/\*.*?\*/', re.S)
        bare = token.sub(lambda m: m[1] or "", what)
        return json.loads(re.sub(r",(\s*[}\]])", r"\1", bare))

    source = read(text)

    def check(left: str) -> list[str]:
        try:
            got = read(left)
        except ValueError as error:
            return [f"JSON with comments does not parse: {error}"]
        return [] if part_of(got, source) else ["JSON with comments is no part of its source"]

    return Part("jsonc", text, check)


def json_lines_nested(w: Writer) -> Part:
    rows = [
        {"ts": f"2026-05-{n % 28 + 1:02}T10:00:00Z", "level": w.rng.choice(("info", "error")), "ctx": {"user": {"name": w.rng.choice(NAMES)}, "path": [w.noun(), n]}, "msg": w.prose(1, 3), "stack": f"Error: {w.noun()}\n  at a ({w.noun()}.js:1)" if n % 5 == 0 else None}
        for n in range(w.rng.randint(3, 40))
    ]  # fmt: skip
    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n"

    def check(left: str) -> list[str]:
        rest = iter(rows)
        for line in filter(str.strip, left.split("\n")):
            try:
                got = json.loads(line)
            except ValueError:
                return [f"a JSON line does not parse: {line[:80]!r}"]
            if not any(part_of(got, row) for row in rest):
                return ["a JSON line is no part of its source"]
        return []

    return Part("json lines nested", text, check)


# --- rows ----------------------------------------------------------------------------------------


def csv_quoted(w: Writer) -> Part:
    """Cells hold line ends, quotes and the separator."""
    rng = w.rng
    sep = rng.choice((",", ";", "\t"))
    header = ["id", "name", "comment", "city"]
    rows = [
        [str(n), rng.choice(NAMES), rng.choice((w.sentence("en"), f"line one\nline two, {w.noun()}\n\nline four", f'he said "{w.noun()}"{sep} twice', "", "id,name")), w.noun()]
        for n in range(rng.randint(3, 40))
    ]  # fmt: skip
    out = io.StringIO()
    csv.writer(
        out,
        delimiter=sep,
        quoting=rng.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL)),
        lineterminator="\n",
    ).writerows([header, *rows])
    text = out.getvalue()

    def check(left: str) -> list[str]:
        got = [row for row in csv.reader(io.StringIO(left), delimiter=sep, strict=True) if row]
        if got and got[0] != header:
            return ["rows without their header"]
        rest = iter(rows)
        for row in got[1:]:
            if not any(row == one for one in rest):
                return [f"no row of the source: {row}"]
        return []

    def strict(left: str) -> list[str]:
        try:
            return check(left)
        except csv.Error as error:
            return [f"CSV does not parse: {error}"]

    return Part("csv quoted", text, strict)


def wiki_table(w: Writer) -> Part:
    rng = w.rng
    rows = [
        f"|-\n| {n} || {rng.choice(NAMES)} || {w.sentence('en')}"
        if rng.random() < 0.5
        else f"|-\n| {n}\n| {rng.choice(NAMES)}\n| {w.noun()}"
        for n in range(rng.randint(2, 25))
    ]
    head = '{| class="wikitable"\n|+ ' + w.noun() + "s\n! Id !! Name !! Note"
    text = (
        f"== {w.noun()} ==\n{w.prose(1, 3)}\n\n{head}\n"
        + "\n".join(rows)
        + "\n|}\n\n"
        + f"{{{{Infobox\n| name = {w.noun()}\n| size = {w.number()}\n}}}}\n{w.prose(1, 3)}\n"
    )
    parents = {line: '{| class="wikitable"' for row in rows for line in row.split("\n")[1:]}
    return Part(
        "wiki table",
        text,
        every(closes(r"^\{\|", r"^\|\}"), closes(r"\{\{", r"\}\}"), under(parents)),
    )
