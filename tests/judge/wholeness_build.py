"""Nasty documents whose parts must stay whole: the half to build on.

:func:`case` makes one from a random generator; see :mod:`tests.judge.wholeness`.
"""

from __future__ import annotations

import ast
import json
import random
from collections.abc import Callable

from tests.judge.wholeness import (
    Case,
    all_of,
    blocks_whole,
    brackets_close,
    fences_close,
    has,
    header_above,
    json_whole,
    same_lines,
    same_words,
    tags_close,
)

NOUNS = ("harbour", "ticket", "orchard", "printer", "violin", "ferry", "museum", "kettle", "bridge")
VERBS = ("opens", "breaks", "moves", "waits", "burns", "closes", "arrives", "sinks", "sings")
NAMES = ("Ada", "Bela", "Chidi", "Dana", "Emre", "Fumi", "Greta", "Hugo", "Ines", "Jun")


def sentence(rng: random.Random) -> str:
    """Write a sentence with numbers, abbreviations and decimals."""
    extra = rng.choice(
        ("", "", f" at {rng.randint(1, 23)}:30", " (cf. no. 4)", " for 3.5 h", ", e.g.")
    )
    return (
        f"The {rng.choice(NOUNS)} {rng.choice(VERBS)} near the {rng.choice(NOUNS)}{extra} "
        f"and Dr. {rng.choice(NAMES)} notes {rng.randint(2, 999)} of them."
    )


def prose(rng: random.Random, low: int = 1, high: int = 6) -> str:
    """Write a paragraph."""
    return " ".join(sentence(rng) for _ in range(rng.randint(low, high)))


def _ask(rng: random.Random) -> str:
    return f"What does the {rng.choice(NOUNS)} do near the {rng.choice(NOUNS)}?"


def json_in_prose(rng: random.Random) -> Case:
    rows = [
        {
            "id": n,
            "name": rng.choice(NAMES),
            "note": prose(rng, 1, 3),
            "tags": rng.sample(NOUNS, rng.randint(0, 3)),
            **({"deep": {"a": [1, {"b": None}], "c": rng.random()}} if rng.random() < 0.3 else {}),
        }
        for n in range(rng.randint(2, 25))
    ]
    source = {"users": rows, "total": len(rows)} if rng.random() < 0.5 else rows
    text = json.dumps(source, indent=rng.choice((None, 2, 4)), ensure_ascii=rng.random() < 0.5)
    prompt = f"Here is the data:\n{text}\n\nWhich note has {rng.choice(NAMES)}?"
    return Case("json", prompt, rng.uniform(0.15, 0.8), json_whole(source, "Here is the data:"))


def python_module(rng: random.Random) -> str:
    """Write a small module that parses."""
    parts = ["import math", "import os", ""]
    for n in range(rng.randint(3, 9)):
        name = f"{rng.choice(NOUNS)}_{n}"
        if rng.random() < 0.3:
            parts += [
                f"class {name.title().replace('_', '')}:",
                f'    """Hold the {name}."""',
                "",
                "    def __init__(self, size):",
                "        self.size = size",
                "",
                "    def area(self):",
                "        if self.size > 3:",
                f"            return math.sqrt(self.size) + {n}",
                "        return [",
                "            self.size,",
                f"            {n},",
                "        ]",
                "",
            ]
        else:
            parts += [
                f"def {name}(value, *, limit={n}):",
                f'    """Return what the {name} is worth."""',
                "    total = 0",
                "    for each in range(limit):",
                "        if each % 2:",
                "            total += each",
                "        else:",
                "            total -= value",
                "    return total",
                "",
            ]
    return "\n".join(parts)


def _parses(text: str) -> list[str]:
    try:
        ast.parse(text)
    except SyntaxError as error:
        return [f"code does not parse: {error.msg}"]
    return []


def bare_code(rng: random.Random) -> Case:
    code = python_module(rng)
    query = f"What does {rng.choice(NOUNS)}_1 return?"
    return Case("python", code, rng.uniform(0.2, 0.8), all_of(_parses, same_lines(code)), query)


def fenced_code(rng: random.Random) -> Case:
    code = python_module(rng)
    prompt = (
        f"{prose(rng)}\n\n```python\n{code}\n```\n\n{prose(rng)}\n\n```\n{prose(rng, 1, 2)}\n```\n\n"
        f"{_ask(rng)}"
    )

    def check(text: str) -> list[str]:
        faults = fences_close(text)
        if not faults and "```python" in text:
            faults = _parses(text.split("```python", 1)[1].split("```")[0])
        return faults

    return Case("fenced code", prompt, rng.uniform(0.2, 0.8), check)


def c_code(rng: random.Random) -> Case:
    parts = ["#include <stdio.h>", ""]
    for n in range(rng.randint(3, 8)):
        parts += [
            f"static int {rng.choice(NOUNS)}_{n}(int count)",
            "{",
            f"    int sum = {n};",
            "    for (int i = 0; i < count; i++) {",
            "        if (i % 3 == 0) {",
            "            sum += i * (sum - 1);",
            "        }",
            "    }",
            "    return sum;",
            "}",
            "",
        ]
    code = "\n".join(parts)
    query = f"What does {rng.choice(NOUNS)}_2 sum up?"
    return Case("c", code, rng.uniform(0.2, 0.8), all_of(brackets_close, same_lines(code)), query)


def piped_table(rng: random.Random) -> Case:
    header = "| id | name | place | note |"
    rows = [
        f"| {n} | {rng.choice(NAMES)} | {rng.choice(NOUNS)} | {prose(rng, 1, 1) if rng.random() < 0.3 else ''} |"
        for n in range(rng.randint(5, 60))
    ]
    table = "\n".join([header, "|---|---|---|---|", *rows])
    prompt = f"{prose(rng)}\n\n{table}\n\n{prose(rng)}\n\nWhere is {rng.choice(NAMES)}?"
    return Case(
        "piped table",
        prompt,
        rng.uniform(0.15, 0.8),
        all_of(header_above(header, rows), same_words(prompt)),
    )


def few_shot(rng: random.Random) -> Case:
    blocks = []
    for _ in range(rng.randint(3, 9)):
        answer = (
            f"\n```python\nprint({rng.randint(1, 9)})\n\nprint('{rng.choice(NOUNS)}')\n```"
            if rng.random() < 0.5
            else f" {rng.choice(NOUNS)}, {rng.choice(VERBS)}"
        )
        blocks.append(f"Input: {sentence(rng)}\nOutput:{answer}")
    last = f"Input: {sentence(rng)}\nOutput:"
    prompt = "Answer in the style of the examples.\n\n" + "\n\n".join([*blocks, last])
    return Case(
        "few-shot",
        prompt,
        rng.uniform(0.3, 0.8),
        all_of(
            has(last.strip()),
            blocks_whole(blocks, lambda block: block.split("\n")[0]),
            fences_close,
            same_words(prompt),
        ),
    )


def no_full_stops(rng: random.Random) -> Case:
    words = [rng.choice((*NOUNS, *VERBS, "and", "the", "a-b-c", "don't")) for _ in range(900)]
    prompt = " ".join(words)
    return Case("speech", prompt, rng.uniform(0.1, 0.8), same_words(prompt), _ask(rng))


def bullet_list(rng: random.Random) -> Case:
    lines = []
    for n in range(rng.randint(6, 30)):
        lines.append(f"- {sentence(rng)}")
        lines += [f"    - part {n}.{k}: {rng.choice(NOUNS)}" for k in range(rng.randint(0, 3))]
    prompt = f"{prose(rng)}\n\n" + "\n".join(lines) + f"\n\n{_ask(rng)}"
    return Case("list", prompt, rng.uniform(0.15, 0.8), same_words(prompt))


def xml_in_prose(rng: random.Random) -> Case:
    items = "\n".join(
        f'  <item id="{n}">\n    <name>{rng.choice(NAMES)}</name>\n    <note>{prose(rng, 1, 2)}'
        "</note>\n  </item>"
        for n in range(rng.randint(3, 20))
    )
    prompt = f"{prose(rng)}\n\n<items>\n{items}\n</items>\n\nWhich note has {rng.choice(NAMES)}?"
    return Case("xml", prompt, rng.uniform(0.2, 0.8), all_of(tags_close, same_words(prompt)))


def mixed_prose(rng: random.Random) -> Case:
    parts = [prose(rng, 2, 8) for _ in range(rng.randint(3, 10))]
    prompt = "\n\n".join(parts) + f"\n\n{_ask(rng)}"
    return Case("prose", prompt, rng.uniform(0.1, 0.9), same_words(prompt))


KINDS: tuple[Callable[[random.Random], Case], ...] = (
    json_in_prose,
    bare_code,
    fenced_code,
    c_code,
    piped_table,
    few_shot,
    no_full_stops,
    bullet_list,
    xml_in_prose,
    mixed_prose,
)


def case(rng: random.Random) -> Case:
    """Make a case of a random kind."""
    return rng.choice(KINDS)(rng)
