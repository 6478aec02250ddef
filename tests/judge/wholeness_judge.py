"""Nasty documents whose parts must stay whole: the half to judge by.

:func:`case` makes one from a random generator; see :mod:`tests.judge.wholeness`.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from typing import Any

import yaml

from tests.judge.wholeness import (
    Case,
    all_of,
    all_or_none,
    blocks_whole,
    brackets_close,
    fences_close,
    has,
    header_above,
    json_whole,
    part_of,
    same_lines,
    same_words,
    tags_close,
)

THINGS = ("lantern", "glacier", "pump", "ledger", "falcon", "spindle", "quarry", "tram", "beacon")
ACTS = ("leaks", "turns", "halts", "glows", "drifts", "rests", "rings", "tilts", "grows")
PEOPLE = ("Oona", "Pavel", "Quyen", "Rosa", "Sefa", "Tariq", "Uma", "Viktor", "Wen", "Yara")


def line(rng: random.Random) -> str:
    tail = rng.choice(
        ("", "", " (see p. 12)", ", i.e. twice", f" by {rng.randint(2, 40)}.{rng.randint(0, 9)} %")
    )
    return (
        f"{rng.choice(PEOPLE)} saw that the {rng.choice(THINGS)} {rng.choice(ACTS)} by the "
        f"{rng.choice(THINGS)}{tail}{rng.choice('.!?.')}"
    )


def text(rng: random.Random, low: int = 1, high: int = 5) -> str:
    return " ".join(line(rng) for _ in range(rng.randint(low, high)))


def asks(rng: random.Random) -> str:
    return f"Who saw the {rng.choice(THINGS)} when it {rng.choice(ACTS)}?"


def nested_json(rng: random.Random) -> Case:
    def tree(depth: int) -> Any:
        if depth == 0 or rng.random() < 0.2:
            return rng.choice([line(rng), rng.randint(-5, 10**6), None, True, 0.1, 'a"b\\c\n', ""])
        if rng.random() < 0.5:
            return {rng.choice(THINGS) + str(k): tree(depth - 1) for k in range(rng.randint(1, 5))}
        return [tree(depth - 1) for _ in range(rng.randint(1, 6))]

    source = {"result": tree(4), "items": [tree(2) for _ in range(rng.randint(2, 10))]}
    body = json.dumps(source, indent=rng.choice((None, 1, 2)), ensure_ascii=False)
    fence = rng.random() < 0.4
    shown = f"```json\n{body}\n```" if fence else body
    prompt = f"{asks(rng)}\n\nThe service sent:\n{shown}\n"
    return Case(
        "nested json",
        prompt,
        rng.uniform(0.15, 0.8),
        all_of(json_whole(source, "The service sent:"), fences_close if fence else lambda _: []),
    )


def json_long_text(rng: random.Random) -> Case:
    rows = [
        {"ticket": 1000 + n, "state": rng.choice(("open", "done")), "text": text(rng, 4, 9)}
        for n in range(rng.randint(4, 14))
    ]
    prompt = f"Tickets:\n{json.dumps(rows)}\n\nWhat is ticket {1000 + rng.randint(0, 3)} about?"
    return Case("json texts", prompt, rng.uniform(0.2, 0.8), json_whole(rows, "Tickets:"))


def csv_rows(rng: random.Random) -> Case:
    comma = rng.choice((",", ";", "\t"))
    header = comma.join(("code", "thing", "person", "amount", "remark"))
    rows = [
        comma.join(
            (
                f"R{n:03}",
                rng.choice(THINGS),
                rng.choice(PEOPLE),
                f"{rng.uniform(1, 900):.2f}",
                rng.choice(("", "late", "paid", "to check")),
            )
        )
        for n in range(rng.randint(10, 90))
    ]
    prompt = "\n".join([header, *rows]) + f"\n\nHow much is R{rng.randint(0, 9):03}?"

    def cells(out: str) -> list[str]:
        for each in out.split("\n"):
            if re.match(r"R\d{3}", each) and each not in rows:
                return [f"a row lost or changed a cell: {each!r}"]
        return []

    return Case("csv", prompt, rng.uniform(0.1, 0.8), all_of(header_above(header, rows), cells))


def aligned_table(rng: random.Random) -> Case:
    header = f"{'NAME':<14}{'STATUS':<12}{'AGE':<8}NODE"
    rows = [
        f"{rng.choice(THINGS) + '-' + str(n):<14}{rng.choice(('Running', 'Failed', '')):<12}"
        f"{str(rng.randint(1, 90)) + 'd':<8}node-{rng.randint(1, 9)}"
        for n in range(rng.randint(8, 70))
    ]
    prompt = f"$ list\n{header}\n" + "\n".join(rows) + f"\n\nWhere does {rows[3].split()[0]} run?"

    def cells(out: str) -> list[str]:
        wanted = {tuple(row.split()): row for row in rows}
        for each in out.split("\n"):
            row = wanted.get(tuple(each.split()))
            if row and "  " * 3 in row and len(row.split()) == 3 and len(each.split("  ")) < 3:
                return [f"an empty cell was closed up: {each!r}"]
        return []

    return Case(
        "aligned table", prompt, rng.uniform(0.1, 0.8), all_of(header_above(header, rows), cells)
    )


def yaml_file(rng: random.Random) -> Case:
    source = {
        f"{rng.choice(THINGS)}_{n}": {
            "image": f"{rng.choice(THINGS)}:{rng.randint(1, 9)}.{rng.randint(0, 9)}",
            "ports": [rng.randint(1000, 9999) for _ in range(rng.randint(1, 3))],
            "env": {"MODE": rng.choice(("fast", "slow")), "NOTE": line(rng)},
        }
        for n in range(rng.randint(3, 12))
    }
    body = yaml.safe_dump(source, sort_keys=False, width=1000)
    query = f"Which ports has {rng.choice(list(source))}?"

    def check(out: str) -> list[str]:
        try:
            got = yaml.safe_load(out)
        except yaml.YAMLError as error:
            return [f"YAML does not parse: {str(error)[:80]}"]
        if got is None:
            return []
        return [] if _smaller(got, source) else ["YAML is no smaller document of the source"]

    return Case("yaml", body, rng.uniform(0.2, 0.8), check, query)


def _smaller(got: Any, source: Any) -> bool:
    if isinstance(got, dict) and isinstance(source, dict):
        return all(k in source and _smaller(v, source[k]) for k, v in got.items())
    return got is None or part_of(got, source)


def html_page(rng: random.Random) -> Case:
    rows = "".join(
        f"<tr><td>{rng.choice(PEOPLE)}</td><td>{rng.choice(THINGS)}</td></tr>\n"
        for _ in range(rng.randint(2, 15))
    )
    parts = "\n".join(
        f"<section>\n<h2>{rng.choice(THINGS).title()}</h2>\n<p>{text(rng)}<br>{line(rng)}</p>\n</section>"
        for _ in range(rng.randint(2, 10))
    )
    page = f"<html>\n<body>\n{parts}\n<table>\n{rows}</table>\n</body>\n</html>"
    return Case("html", page, rng.uniform(0.2, 0.8), tags_close, asks(rng))


def subtitles(rng: random.Random) -> Case:
    cues = []
    for n in range(1, rng.randint(10, 60)):
        words = line(rng)
        half = words.find(" ", len(words) // 2)
        said = f"{words[:half]}\n{words[half + 1 :]}" if rng.random() < 0.5 else words
        cues.append(
            f"{n}\n00:{n // 60:02}:{n % 60:02},000 --> 00:{n // 60:02}:{n % 60:02},900\n{said}"
        )
    body = "\n\n".join(cues)
    return Case(
        "subtitles",
        body,
        rng.uniform(0.15, 0.8),
        all_of(
            blocks_whole(cues, lambda cue: cue.split("\n")[1]),
            blocks_whole(cues, lambda cue: cue.split("\n")[2]),
        ),
        asks(rng),
    )


def log_records(rng: random.Random) -> Case:
    records = []
    for n in range(rng.randint(15, 90)):
        stamp = f"2025-08-{n % 28 + 1:02}T10:{n % 60:02}:00"
        record = (
            f"{stamp} {rng.choice(('INFO', 'WARN', 'ERROR'))} {rng.choice(THINGS)}: {line(rng)}"
        )
        if rng.random() < 0.15:
            record += (
                "\nTraceback (most recent call last):\n"
                f'  File "/srv/{rng.choice(THINGS)}.py", line {n}, in run\n'
                f"    {rng.choice(THINGS)}()\nValueError: {rng.choice(THINGS)} {n}"
            )
        records.append(record)
    body = "\n".join(records)
    query = f"What happened to the {rng.choice(THINGS)}?"
    return Case(
        "log",
        body,
        rng.uniform(0.1, 0.8),
        all_of(same_lines(body), blocks_whole(records, lambda record: record.split("\n")[-1])),
        query,
    )


def xml_examples(rng: random.Random) -> Case:
    blocks, pairs = [], []
    for _ in range(rng.randint(3, 8)):
        said, label = line(rng), rng.choice(("good", "bad", "neither")) + str(rng.randint(10, 99))
        blocks.append(f"<example>\n<text>{said}</text>\n<label>{label}</label>\n</example>")
        pairs.append((f"<text>{said}</text>\n<label>{label}", f"<label>{label}</label>"))
    wanted = f"<text>{line(rng)} {rng.randint(100, 999)}</text>"
    prompt = (
        "Label the last text as in the examples. Write only the label.\n\n"
        + "\n".join(blocks)
        + f"\n\n{wanted}\n<label>"
    )
    return Case(
        "xml examples",
        prompt,
        rng.uniform(0.35, 0.8),
        all_of(
            has(wanted, "Write only the label."),
            lambda out: tags_close(out.rstrip().removesuffix("<label>")),
            all_or_none(pairs),
        ),
    )


def question_answer_shots(rng: random.Random) -> Case:
    blocks = []
    for _ in range(rng.randint(3, 8)):
        steps = "\n\n".join(f"Step {k}: {line(rng)}" for k in range(1, rng.randint(2, 4)))
        blocks.append(f"Q: {line(rng)}\nA: {steps}")
    last = f"Q: {line(rng)}\nA:"
    prompt = "\n\n".join([*blocks, last])
    return Case(
        "q and a",
        prompt,
        rng.uniform(0.35, 0.8),
        all_of(has(last), blocks_whole(blocks, lambda block: block.split("\n")[0])),
    )


def javascript(rng: random.Random) -> Case:
    parts = ["import { log } from './log.js';", ""]
    for n in range(rng.randint(3, 8)):
        parts += [
            f"export async function {rng.choice(THINGS)}{n}(list, {{ limit = {n} }} = {{}}) {{",
            "  const seen = new Map();",
            "  for (const each of list) {",
            "    if (seen.size >= limit) {",
            "      break;",
            "    }",
            "    seen.set(each.id, [each.name, each.size]);",
            "  }",
            "",
            "  return [...seen.values()].map((pair) => ({ name: pair[0], size: pair[1] }));",
            "}",
            "",
        ]
    code = "\n".join(parts)
    query = f"What does {rng.choice(THINGS)}1 return?"
    return Case(
        "javascript", code, rng.uniform(0.2, 0.8), all_of(brackets_close, same_lines(code)), query
    )


def two_fences(rng: random.Random) -> Case:
    shell = "\n".join(f"run --{rng.choice(THINGS)} {n}" for n in range(rng.randint(2, 9)))
    prompt = (
        f"{text(rng)}\n\n1. Do this:\n\n   ```bash\n   "
        + shell.replace("\n", "\n   ")
        + f"\n   ```\n\n2. {text(rng)}\n\n~~~\n{text(rng)}\n\n{text(rng)}\n~~~\n\n{text(rng)}\n\n{asks(rng)}"
    )
    return Case("fences", prompt, rng.uniform(0.2, 0.8), all_of(fences_close, same_words(prompt)))


def other_scripts(rng: random.Random) -> Case:
    said = (
        "गाड़ी सुबह आठ बजे स्टेशन से चलती है।",
        "وصل القطار متأخرا إلى المدينة القديمة؟",
        "Поезд № 7 прибыл в 12.30, т. е. вовремя.",
        "Der Zug kommt am 3. Mai um ca. 5 Uhr z. B. in Ulm an.",
        "Ο σταθμός ήταν κλειστός όλη τη νύχτα.",
        "Le train no 9 part à 8 h 15 env. tous les jours.",
    )
    prompt = " ".join(rng.choice(said) for _ in range(rng.randint(10, 60)))
    return Case("scripts", prompt, rng.uniform(0.1, 0.8), same_words(prompt), "Wann kommt der Zug?")


KINDS: tuple[Callable[[random.Random], Case], ...] = (
    nested_json,
    json_long_text,
    csv_rows,
    aligned_table,
    yaml_file,
    html_page,
    subtitles,
    log_records,
    xml_examples,
    question_answer_shots,
    javascript,
    two_fences,
    other_scripts,
)


def case(rng: random.Random) -> Case:
    """Make a case of a random kind."""
    return rng.choice(KINDS)(rng)
