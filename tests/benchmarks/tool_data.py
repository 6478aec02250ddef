"""The public tool data that ``bench_tools`` measures with, and what is done to it.

MetaTool: 199 plug-ins with one line each; a query needs one of them. BFCL: functions with schemas;
a query of ``multiple`` needs one, of ``parallel_multiple`` several. Sources and licences stand in
the README of the data folder; nothing of it is kept here.

Halves: what is fitted anywhere may see MetaTool queries whose tool has an even place among the
sorted names, and BFCL queries with an even place. ``judged`` are the others; the pool is whole.
"""

from __future__ import annotations

import csv
import gzip
import json
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Asked", "Field", "bfcl", "key_of", "metatool", "name_of", "uses_and_scored"]

TYPES = {"dict": "object", "float": "number", "tuple": "array", "any": "string"}
BFCL = ("simple_python", "multiple", "parallel_multiple")


@dataclass(frozen=True)
class Asked:
    """A query, and the tools it needs."""

    text: str
    gold: tuple[str, ...]
    """Keys of the needed tools: the whole tool as JSON, so that equal names stay apart."""
    judged: bool
    """Whether it lies in the half that nothing was fitted on."""


@dataclass
class Field:
    """All tools, and the queries to them."""

    tools: list[dict[str, Any]]
    queries: list[Asked]
    uses: dict[str, list[str]] = field(default_factory=dict)
    """Past queries of each tool, none of which is scored."""

    def halved(self) -> dict[str, list[Asked]]:
        """The judged half and the whole."""
        return {"judged": [q for q in self.queries if q.judged], "whole": self.queries}


def key_of(tool: Mapping[str, Any]) -> str:
    """What tells one tool from another."""
    return json.dumps(tool, sort_keys=True, ensure_ascii=False)


def name_of(tool: Mapping[str, Any]) -> str:
    """The name of an OpenAI function."""
    return str(tool["function"]["name"])


def function(name: str, text: str, parameters: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """An OpenAI function."""
    empty = {"type": "object", "properties": {}}
    made = {"name": name, "description": text, "parameters": dict(parameters or empty)}
    return {"type": "function", "function": made}


def metatool(folder: Path, sample: int, uses: int = 10, seed: int = 0) -> Field:
    """Read MetaTool; *sample* queries to score, at most *uses* others of each tool as its past."""
    described = json.loads((folder / "metatool_plugin_des.json").read_text(encoding="utf-8"))
    with gzip.open(folder / "metatool_single_dev.tsv.gz", "rt", encoding="utf-8") as file:
        rows = [(row["Query"], row["Tool"]) for row in csv.DictReader(file, delimiter="\t")]
    tools = {name: function(name, described[name]) for name in sorted(described)}
    keys = {name: key_of(tool) for name, tool in tools.items()}
    fitted = {name for place, name in enumerate(sorted(described)) if place % 2 == 0}
    past, scored = uses_and_scored([r for r in rows if r[1] in tools], sample, uses, seed)
    queries = [Asked(text, (keys[name],), name not in fitted) for text, name in scored]
    return Field(list(tools.values()), queries, {keys[name]: said for name, said in past.items()})


def uses_and_scored(
    rows: Iterable[tuple[str, str]], sample: int, uses: int, seed: int
) -> tuple[dict[str, list[str]], list[tuple[str, str]]]:
    """Split distinct queries: first *uses* of each tool for its past, then *sample* of the rest."""
    rng = random.Random(seed)
    distinct = sorted(set(rows))
    said = {text for text, n in _counted(text for text, _ in distinct).items() if n == 1}
    by_tool: dict[str, list[str]] = defaultdict(list)
    for text, name in distinct:
        if text in said:
            by_tool[name].append(text)
    past, rest = {}, []
    for name, texts in sorted(by_tool.items()):
        rng.shuffle(texts)
        taken = min(uses, len(texts) // 2)
        past[name] = texts[:taken]
        rest += [(text, name) for text in texts[taken:]]
    return past, rng.sample(rest, min(sample, len(rest)))


def _counted(values: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = defaultdict(int)
    for value in values:
        counts[value] += 1
    return counts


def bfcl(folder: Path) -> tuple[Field, Field]:
    """Read ``multiple`` and ``parallel_multiple`` in the pool of all functions of three files."""
    pool: dict[str, dict[str, Any]] = {}
    asked: dict[str, list[Asked]] = {}
    for part in BFCL:
        cases = _lines(folder / f"BFCL_v4_{part}.jsonl")
        answers = {
            a["id"]: a["ground_truth"] for a in _lines(folder / f"BFCL_v4_{part}_answers.jsonl")
        }
        asked[part] = []
        for place, case in enumerate(cases):
            own = [_bfcl_function(each) for each in case["function"]]
            pool |= {key_of(tool): tool for tool in own}
            needed = {name for call in answers[case["id"]] for name in call}
            gold = tuple(sorted({key_of(tool) for tool in own if name_of(tool) in needed}))
            asked[part].append(Asked(case["question"][0][-1]["content"], gold, place % 2 == 1))
    tools = list(pool.values())
    return Field(tools, asked["multiple"]), Field(tools, asked["parallel_multiple"])


def _bfcl_function(raw: Mapping[str, Any]) -> dict[str, Any]:
    return function(raw["name"], raw["description"], _json_types(raw["parameters"]))


def _json_types(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {
            key: TYPES.get(value, value)
            if key == "type" and isinstance(value, str)
            else _json_types(value)
            for key, value in schema.items()
        }
    return [_json_types(each) for each in schema] if isinstance(schema, list) else schema


def _lines(path: Path) -> Sequence[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]
