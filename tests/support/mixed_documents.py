"""Random documents of many formats, each with checks of what is left of it.

They parse with the parsers of each format; see :mod:`tests.support.wholeness`.
"""

from __future__ import annotations

import configparser
import csv
import io
import json
import random
import re
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import yaml

from tests.support.wholeness import (
    Check,
    blocks_whole,
    brackets_close,
    fences_close,
    json_is_part,
    margins_stay,
    part_of,
    python_parses,
    rows_under,
    words_in_order,
)  # fmt: skip


@dataclass(frozen=True)
class Part:
    """A piece of a document, and what must hold for the whole result."""

    kind: str
    text: str
    check: Check


@dataclass(frozen=True)
class Mixed:
    """A document, what is asked about it, and its checks."""

    kind: str
    text: str
    query: str
    check: Check
    least: str = ""
    """What is left at least; with twice the room for it, and some, nothing may be refused."""


# --- words ---------------------------------------------------------------------------------------

SENTENCES = {
    "en": "The {a} near the {b} opens at 8.30 and Dr. {n} paid {i} dollars for it.",
    "en2": "According to art. {i} para. 5 the {a} may stay, e.g. with Mr. {n}.",
    "de": "Die {a} kostet laut {n} ca. {i} Mio. Euro, vgl. Abs. 3, z. B. am 3. Mai.",
    "fr": "M. {n} a vu la {a} à 18 h 30, cf. art. {i}, al. 2, près de la {b}.",
    "es": "El Sr. {n} compró la {a} por {i} euros en la Avda. Mayor núm. 5.",
    "it": "Il sig. {n} vide la {a} nel 19{i} presso la {b}, pag. 7.",
    "pt": "A Sra. {n} viu a {a} na pág. {i} do livro, perto da {b}.",
    "nl": "Dhr. {n} zag de {a} bij de {b}, zie blz. {i} en art. 5.",
    "ru": "В 1990 г. {n} видел {a} и {b}, см. рис. {i}, т. е. давно.",
    "zh": "{n}在{i}年看见了{a}，然后去了{b}。",
    "ja": "{n}は{i}年に「{a}。」と言って{b}へ行きました。",
    "hi": "{n} ने {i} में {a} देखा और {b} गया।",
    "ar": "رأى {n} في عام {i} هذا {a} قرب {b}؟",
}
NOUNS = ("harbour", "orchard", "printer", "violin", "ferry", "museum", "kettle", "bridge", "lamp")
NAMES = ("Ada", "Bela", "Chidi", "Dana", "Emre", "Fumi", "Greta", "Hugo", "Ines", "Jun")


class Writer:
    """Writes the parts of one document."""

    def __init__(self, rng: random.Random, tag: str = "") -> None:
        self.rng = rng
        self.tag = tag

    def noun(self) -> str:
        return self.rng.choice(NOUNS)

    def number(self) -> int:
        return self.rng.randint(10, 99)

    def sentence(self, language: str | None = None) -> str:
        language = language or self.rng.choice(list(SENTENCES))
        return SENTENCES[language].format(
            a=self.noun(), b=self.noun(), n=self.rng.choice(NAMES), i=self.number()
        )

    def prose(self, low: int = 1, high: int = 6) -> str:
        language = self.rng.choice(list(SENTENCES))
        glue = "" if language in ("zh", "ja") else " "
        return glue.join(self.sentence(language) for _ in range(self.rng.randint(low, high)))

    def name(self) -> str:
        return f"{self.noun()}_{self.number()}{'_' + self.tag if self.tag else ''}"

    def mark(self, comment: str) -> str:
        """A comment that tells to which part a line belongs."""
        return f"  {comment} {self.tag}" if self.tag else ""


# --- parts ---------------------------------------------------------------------------------------


def json_value(w: Writer, mark: str) -> Any:
    def text(low: int, high: int) -> str:
        if w.rng.random() < 0.15:  # a long string near sizes at which readers change their mind
            size = w.rng.choice((390, 400, 410, 1_990, 2_000, 2_010, 4_096, 31_990))
            return (w.prose(1, 2) + " ") * (size // 100) + "x" * w.rng.randint(0, 20)
        return w.prose(low, high)

    rows = [
        {
            f"{mark}id": n,
            "name": w.rng.choice(NAMES),
            **({"note": text(1, 3)} if w.rng.random() < 0.7 else {}),
            **({"deep": {"a": [1, {"b": None}], "c": w.number() / 8}} if n % 4 == 1 else {}),
            **({"list": [w.noun() for _ in range(w.rng.randint(0, 60))]} if n % 5 == 2 else {}),
            **({"odd": 'a "quoted" {brace] \\ end,'} if n % 6 == 3 else {}),
        }
        for n in range(w.rng.randint(2, 20))
    ]
    shape = w.rng.randrange(4)
    if shape == 0:
        return rows
    if shape == 1:
        return {f"{mark}users": rows, "total": len(rows)}
    if shape == 2:
        return {f"{mark}{n}": row for n, row in enumerate(rows)}
    return {"status": "ok", "data": {"page": 1, f"{mark}items": rows}, "next": None}


def json_part(w: Writer) -> Part:
    mark = f"k{w.tag}" if w.tag else ""
    source = json_value(w, mark)
    text = json.dumps(source, indent=w.rng.choice((None, 2, 4)), ensure_ascii=False)
    if not w.tag:

        def alone(left: str) -> list[str]:
            return [] if not left.strip() else json_is_part(source, left.strip()[0])(left)

        return Part("json", text, alone)
    before = w.rng.choice(("", "Here it is:\n", "The payload: ", "```json\n"))
    after = "\n```" if before.startswith("`") else w.rng.choice(("", "\n", " and no more."))
    return Part("json", before + text + after, json_is_part(source, mark))


def json_lines_part(w: Writer) -> Part:
    mark = f"k{w.tag}"
    rows = [
        {f"{mark}": n, "text": w.prose(1, 4), "n": [n] * 3} for n in range(w.rng.randint(3, 30))
    ]
    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)

    def check(left: str) -> list[str]:
        for line in left.split("\n"):
            if f'"{mark}"' in line:
                try:
                    got = json.loads(line)
                except ValueError:
                    return ["a JSON line does not parse"]
                if not any(part_of(got, row) for row in rows):
                    return ["a JSON line is no part of its source"]
        return []

    return Part("json lines", text, check)


def python_text(w: Writer) -> str:
    tail = w.mark("#")
    lines = [f"import math{tail}", f"from os import path{tail}", ""]
    if w.rng.random() < 0.5:
        lines = [f'"""About the {w.noun()}. It. Is."""{tail}', "", *lines]
    for _ in range(w.rng.randint(2, 8)):
        name = w.name()
        if w.rng.random() < 0.4:
            lines += [
                f"@property{tail}" if w.rng.random() < 0.1 else f"# About {name}.{tail}",
                f"class {name}:{tail}",
                *(
                    [f'    """Hold it. E.g. {{{name}}}."""{tail}', ""]
                    if w.rng.random() < 0.5
                    else []
                ),
            ]
            for method in range(w.rng.randint(1, 4)):
                lines += [
                    f"    def m{method}_{name}(self, size=(1, 2)):{tail}",
                    f"        if size > {method}:{tail}",
                    f"            return [{tail}",
                    f"                '({name}',{tail}",
                    f"            ]{tail}",
                    "",
                    f"        return math.sqrt({method}){tail}",
                    "",
                ]
        else:
            lines += [
                f"def {name}({tail}",
                f"    value, *, limit=3,{tail}",
                f"):{tail}",
                *([f'    """Return what it is worth."""{tail}'] if w.rng.random() < 0.5 else []),
                f"    total = {{'a': [value]}}{tail}",
                f"    for each in range(limit):{tail}",
                f"        total += each{tail}",
                f"    else:{tail}",
                f"        total -= value{tail}",
                *(
                    [f"    text = '''one. Two{tail}", f"  three{tail}", f"'''{tail}"]
                    * w.rng.randint(0, 1)
                ),
                f"    return total{tail}",
                "",
                "",
            ]
    return "\n".join(lines).rstrip() + "\n"


def python_part(w: Writer) -> Part:
    return Part("python", python_text(w), python_parses(w.tag))


def fence_part(w: Writer) -> Part:
    code = python_text(w)
    return Part(
        "fence",
        f"```python{w.mark('#')}\n{code}```",
        lambda text: [
            *fences_close(text),
            *python_parses(w.tag)(
                "\n".join(x for x in text.split("\n") if not x.startswith("```"))
            ),
        ],
    )


def _blocks_of_code(w: Writer, language: str) -> tuple[list[str], str]:
    c, lines = {"sql": "--", "shell": "#"}.get(language, "//"), []
    tail = w.mark(c)
    first = {
        "c": ["#include <stdio.h>", ""],
        "go": [f"package main{tail}", "", f'import "fmt"{tail}', ""],
        "js": [f"import fs from 'fs';{tail}", ""],
        "java": [f"package a.b;{tail}", "", f"public class A {{{tail}"],
        "rust": [f"use std::io;{tail}", ""],
        "sql": [],
    }[language]
    pad = "    " if language == "java" else ""
    for _ in range(w.rng.randint(3, 9)):
        name = w.name()
        head = {
            "c": f"static int {name}(int count)",
            "go": f"func {name}(count int) int",
            "js": f"function {name}(count)",
            "java": f"public int {name}(int count)",
            "rust": f"fn {name}(count: i32) -> i32",
            "sql": f"CREATE TABLE {name}",
        }[language]
        if language == "sql":
            lines += [
                f"{head} ({tail}",
                f"  id INT,{tail}",
                f"  note VARCHAR(9){tail}",
                f");{tail}",
                "",
            ]
            continue
        lines += [
            f"{pad}{head} {{{tail}",
            f'{pad}    s := "a. B ( [{name}";{tail}',
            f"{pad}    for (int i = 0; i < count; i++) {{{tail}",
            f"{pad}        if (i % 3 == 0) {{ sum += a[i] * (sum - 1); }}{tail}",
            "" if w.rng.random() < 0.2 else f"{pad}        // It is. So (be it.{tail}",
            f"{pad}    }}{tail}",
            f"{pad}    return sum;{tail}",
            f"{pad}}}{tail}",
            "",
        ]
    return [*first, *lines, *([f"}}{tail}"] if language == "java" else [])], c


def code_part(w: Writer) -> Part:
    language = w.rng.choice(("c", "go", "js", "java", "rust", "sql"))
    lines, _ = _blocks_of_code(w, language)
    text = "\n".join(lines).rstrip()
    if w.rng.random() < 0.4:
        text = f"```{language}\n{text}\n```"
    return Part(
        f"code {language}",
        text,
        lambda left: [
            *brackets_close(w.tag)(left),
            *fences_close(left),
        ],
    )


def table_part(w: Writer) -> Part:
    shape = w.rng.choice(("piped", "bare pipes", "csv", "semicolons", "tsv", "aligned", "grid"))
    columns = ["id", f"name{w.tag}", "place", "note"]
    rows = [
        [
            str(n + 1),
            w.rng.choice(NAMES),
            f"{w.noun()}{w.number()}",
            f"{w.noun()} {w.tag}",
        ]
        for n in range(w.rng.randint(4, 50))
    ]
    if shape in ("csv", "semicolons", "tsv"):
        mark = {"csv": ",", "semicolons": ";", "tsv": "\t"}[shape]
        for row in rows:
            if w.rng.random() < 0.2:
                row[2] = "" if w.rng.random() < 0.5 else f'"{row[2]}{mark} the. Great"'
        header = [mark.join(columns)]
        made = [mark.join(row) for row in rows]
    elif shape == "piped":
        for row in rows:
            if w.rng.random() < 0.3:
                row[2] = "" if w.rng.random() < 0.3 else w.sentence("en")
        header = [f"| {' | '.join(columns)} |", "|---|:--|--:|---|"]
        made = [f"| {' | '.join(row)} |" for row in rows]
    elif shape == "bare pipes":
        header = [" | ".join(columns), "--- | --- | --- | ---"]
        made = [" | ".join(row) for row in rows]
    else:
        widths = [max(len(row[at]) for row in [columns, *rows]) + 2 for at in range(4)]

        def lined(row: Sequence[str]) -> str:
            return "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))

        if shape == "aligned":
            header, made = [lined(columns).rstrip()], [lined(row).rstrip() for row in rows]
        else:
            rule = "+" + "+".join("-" * (width + 2) for width in widths) + "+"
            header = [rule, "| " + lined(columns).replace("  ", " |", 0) + "|", rule]
            made = ["| " + lined(row) + "|" for row in rows]
            text = "\n".join([*header, *made, rule])
            return Part("table grid", text, rows_under(header, made))
    return Part(f"table {shape}", "\n".join([*header, *made]), rows_under(header, made))


def csv_alone(w: Writer) -> Part:
    rows = [
        [w.number(), w.rng.choice(NAMES), w.sentence(), f"two\nlines, {w.noun()}"]
        for _ in range(30)
    ]
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([["id", "who", "what", "more"], *rows])
    known = {tuple(map(str, row)) for row in rows}

    def check(left: str) -> list[str]:
        got = list(csv.reader(io.StringIO(left)))
        if got and got[0] != ["id", "who", "what", "more"]:
            return ["CSV without its header"]
        return [] if all(tuple(row) in known for row in got[1:]) else ["a CSV row is torn"]

    return Part("csv", file.getvalue(), check)


def _tree(w: Writer, depth: int = 0) -> Any:
    if depth < 3 and w.rng.random() < 0.6:
        return {f"{w.noun()}{n}": _tree(w, depth + 1) for n in range(w.rng.randint(1, 4))}
    if depth and w.rng.random() < 0.3:
        return [_tree(w, depth + 1) for _ in range(w.rng.randint(1, 4))]
    return w.rng.choice([w.number(), w.sentence("en"), "two\nlines of text\n", True, None, "a: b"])


def yaml_alone(w: Writer) -> Part:
    source = {f"{w.noun()}{n}": _tree(w, 1) for n in range(8)}
    source["services"] = [
        {"name": w.name(), "port": w.number(), "env": ["a", "b"]} for _ in range(9)
    ]
    text = yaml.safe_dump(source, sort_keys=False, width=w.rng.choice((40, 80, 1000)))

    def check(left: str) -> list[str]:
        try:
            got = yaml.safe_load(left)
        except yaml.YAMLError as error:
            return [f"YAML does not parse: {str(error)[:80]}"]
        return [] if not got or part_of(_filled(got), source) else ["YAML is no part of its source"]

    return Part("yaml", text, check)


def _filled(value: Any) -> Any:
    return value


def toml_alone(w: Writer) -> Part:
    lines = []
    for n in range(9):
        lines += [
            f"[{w.noun()}.part{n}]",
            f'# It is. So.\nname = "{w.name()}"',
            f"ports = [\n  {w.number()},\n  {w.number()}\n]",
            'text = """\nOne. Two = 3\n[no.section]\n"""',
            "on = true\n",
        ]
    text = "\n".join(lines)
    source = tomllib.loads(text)

    def check(left: str) -> list[str]:
        try:
            got = tomllib.loads(left)
        except tomllib.TOMLDecodeError as error:
            return [f"TOML does not parse: {error}"]
        return [] if part_of(got, source) else ["TOML is no part of its source"]

    return Part("toml", text, check)


def ini_alone(w: Writer) -> Part:
    lines = []
    for n in range(12):
        lines += [
            f"[{w.noun()} {n}]",
            f"name = {w.name()}",
            f"; it is. So\npath: /a/{n}",
            "list =\n    one\n    two",
            "",
        ]
    return ini_part("ini", "\n".join(lines))


def ini_part(kind: str, text: str) -> Part:
    """Return a part whose sections and keys are read again by Python's own parser."""

    def read(given: str) -> dict[str, dict[str, str]]:
        parser = configparser.ConfigParser(interpolation=None)
        parser.read_string(given)
        return {name: dict(parser[name]) for name in parser.sections()}

    source = read(text)

    def check(left: str) -> list[str]:
        try:
            got = read(left)
        except configparser.Error as error:
            return [f"INI does not parse: {str(error)[:100]!r}"]
        return [] if part_of(got, source) else ["INI is no part of its source"]

    return Part(kind, text, check)


def xml_alone(w: Writer) -> Part:
    items = "\n".join(
        f'  <item id="{n}">\n    <name>{w.rng.choice(NAMES)}</name>\n'
        f"    <note>{w.prose(1, 3)}</note>\n"
        f"    <tags><t>{w.noun()}</t><t>b</t></tags>\n  </item>"
        for n in range(w.rng.randint(3, 20))
    )
    text = f'<?xml version="1.0"?>\n<items>\n{items}\n</items>\n'

    def check(left: str) -> list[str]:
        if not left.strip():
            return []
        try:
            ElementTree.fromstring(left.strip())
        except ElementTree.ParseError as error:
            return [f"XML does not parse: {error}"]
        return []

    return Part("xml", text, check)


def log_part(w: Writer) -> Part:
    records = []
    for n in range(w.rng.randint(5, 30)):
        stamp = f"2026-05-0{n % 9 + 1} 10:{n % 60:02d}:{w.number() % 60:02d},{w.number()}"
        record = f"{stamp} {w.rng.choice(('INFO', 'ERROR', 'WARN'))} {w.noun()} {w.name()} failed"
        if w.rng.random() < 0.3:
            record += (
                f"\nTraceback (most recent call last): {w.tag}\n"
                f'  File "a.py", line {n}, in {w.name()}\n'
                f"    go({n})  {w.tag}\nValueError: {w.name()} is. Bad"
            )
        records.append(record)
    return Part("log", "\n".join(records), blocks_whole(records, w.tag))


def subtitles_alone(w: Writer) -> Part:
    cues = [
        f"{n + 1}\n00:{n // 60:02d}:{n % 60:02d},000 --> 00:{n // 60:02d}:{n % 60:02d},900\n"
        f"{w.sentence('en')}\nand {w.noun()} {n}"
        for n in range(w.rng.randint(5, 40))
    ]
    return Part("subtitles", "\n\n".join(cues) + "\n", blocks_whole(cues))


def list_part(w: Writer) -> Part:
    lines, parents = [], {}
    for n in range(w.rng.randint(4, 20)):
        parent = f"- {w.sentence('en')[:-1]} {n}{w.tag}"
        lines.append(parent)
        for k in range(w.rng.randint(0, 3)):
            child = f"    - part {n}.{k}{w.tag} {w.noun()}"
            lines.append(child)
            parents[child] = parent

    def check(left: str) -> list[str]:
        kept = left.split("\n")
        for child, parent in parents.items():
            if child in kept and parent not in kept[: kept.index(child)]:
                return ["an item without the one it stands under"]
        return []

    return Part("list", "\n".join(lines), check)


def turns_part(w: Writer) -> Part:
    form = w.rng.choice(
        ("{n}: {t}", "**{n}:** {t}", "[2026-05-01 10:{m}] {n}: {t}", "10:{m} <{n}> {t}")
    )
    turns = [
        form.format(n=NAMES[n % 3], t=f"{w.sentence('en')} {w.name()}", m=10 + n)
        for n in range(w.rng.randint(6, 30))
    ]

    def check(left: str) -> list[str]:
        known = {turn.strip(): True for turn in turns}
        marks = [re.escape(NAMES[n]) for n in range(3)]
        for line in left.split("\n"):
            is_turn = w.tag in line and any(turn.split(" ")[-1] in line for turn in turns)
            if is_turn and line.strip() not in known and not re.search("|".join(marks), line):
                return [f"a turn without its speaker: {line[:50]!r}"]
        return []

    return Part("turns", "\n".join(turns), check)


def prose_part(w: Writer) -> Part:
    return Part("prose", w.prose(2, 9), lambda text: [])


def speech_part(w: Writer) -> Part:
    words = [w.rng.choice((*NOUNS, "1,200", "10:30", "don't", "a-b-c")) for _ in range(400)]
    return Part("speech", " ".join(words), lambda text: [])


def open_fence_part(w: Writer) -> Part:
    return Part("text fence", f"```\n{w.prose(1, 9)}\n\n{w.prose(1, 3)}\n```", fences_close)


ANYWHERE: tuple[Callable[[Writer], Part], ...] = (
    prose_part, prose_part, prose_part, json_part, json_lines_part, python_part, fence_part,
    code_part, code_part, table_part, table_part, log_part, list_part, turns_part, speech_part,
    open_fence_part,
)  # fmt: skip
ALONE: tuple[Callable[[Writer], Part], ...] = (
    json_part, python_part, code_part, table_part, csv_alone, yaml_alone, toml_alone, ini_alone,
    xml_alone, log_part, subtitles_alone, list_part, turns_part, prose_part, speech_part,
)  # fmt: skip


def few_shot(w: Writer) -> Mixed:
    """A prompt of examples whose answers are short, fenced, or of several paragraphs."""
    blocks = []
    shape = w.rng.randrange(3)
    asks, answers = w.rng.choice(
        (("Input", "Output"), ("Q", "A"), ("Text", "Label"), ("User", "Assistant"))
    )
    for n in range(w.rng.randint(3, 9)):
        answer = (
            f" {w.noun()}",
            f"\n```python\nprint({n})\n\nprint('{w.noun()}')\n```",
            f" {w.sentence('en')}\n\n{w.sentence('en')}",
        )[shape]
        blocks.append(f"{asks}: {w.sentence('en')} {n}\n{answers}:{answer}")
    last = f"{asks}: {w.sentence('en')}\n{answers}:"
    text = "Answer as the examples do.\n\n" + "\n\n".join([*blocks, last])

    def check(left: str) -> list[str]:
        faults = [] if last in left else ["the user's own input is gone"]
        return [*faults, *fences_close(left), *blocks_whole(blocks)(left.replace(last, ""))]

    return Mixed("few-shot", text, "", check)


def document(rng: random.Random) -> Mixed:
    """Write a random document."""
    chance = rng.random()
    if chance < 0.08:
        made = few_shot(Writer(rng))
    elif chance < 0.5:
        part = rng.choice(ALONE)(Writer(rng))
        query = f"What of the {rng.choice(NOUNS)} of {rng.choice(NAMES)}?"
        made = Mixed(f"{part.kind} alone", part.text, query, part.check)
    else:
        parts = [rng.choice(ANYWHERE)(Writer(rng, f"q{n}z")) for n in range(rng.randint(2, 7))]
        parts.append(
            Part(
                "question",
                f"Where is the {rng.choice(NOUNS)} of {rng.choice(NAMES)}?",
                lambda t: [],
            )
        )
        text = "\n\n".join(part.text for part in parts)
        made = Mixed(
            "mixed", text, "", lambda left: [
                f"{part.kind}: {fault}" for part in parts for fault in part.check(left)
            ],
        )  # fmt: skip
    words, margins = words_in_order(made.text), margins_stay(made.text)
    return Mixed(
        made.kind, made.text, made.query,
        lambda left: [*made.check(left), *words(left), *margins(left), *fences_close(left)],
    )  # fmt: skip
