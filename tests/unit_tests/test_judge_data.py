"""The pairs in ``tests/judge`` are well formed and balanced."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[1] / "judge"
FILES = sorted(FOLDER.glob("reuse_*.jsonl"))
TEXTS = ("id", "field", "language", "why")
KEYS = {*TEXTS, "stored", "asked", "same"}

each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def pairs(path: Path) -> list[dict[str, Any]]:
    """Parse every line."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def is_request(request: Any) -> bool:
    """Whether it is a text, or a list of roles and texts."""
    if isinstance(request, str):
        return bool(request.strip())
    return bool(request) and all(
        len(turn) == 2 and all(isinstance(each, str) and each.strip() for each in turn)
        for turn in request
    )


def twice(values: list[str]) -> list[str]:
    """Those that occur more than once."""
    return [value for value, count in Counter(values).items() if count > 1]


def test_there_are_pairs_to_build_on():
    """Otherwise the other tests would check nothing."""
    assert "reuse_build.jsonl" in {path.name for path in FILES}


@each_file
def test_every_line_is_a_pair(path: Path):
    """All keys, with values of the right kind."""
    wrong = [
        pair
        for pair in pairs(path)
        if pair.keys() != KEYS
        or not all(isinstance(pair[key], str) and pair[key].strip() for key in TEXTS)
        or not isinstance(pair["same"], bool)
        or not is_request(pair["stored"])
        or not is_request(pair["asked"])
        or type(pair["stored"]) is not type(pair["asked"])
    ]
    assert wrong == []


@each_file
def test_it_covers_many_fields_and_languages(path: Path):
    """A rule that suits one field or one language only must not look good."""
    assert len({pair["field"] for pair in pairs(path)}) >= 12
    assert len({pair["language"] for pair in pairs(path)}) >= 6


@each_file
def test_half_of_the_pairs_are_the_same(path: Path):
    """Whoever always says the same is right half of the time."""
    same = [pair["same"] for pair in pairs(path)]
    assert 0.45 <= sum(same) / len(same) <= 0.55


@each_file
def test_the_two_requests_of_a_pair_differ(path: Path):
    """An exact repeat needs no judgement."""
    assert [pair["id"] for pair in pairs(path) if pair["stored"] == pair["asked"]] == []


def test_no_id_occurs_twice():
    """In all files together."""
    assert twice([pair["id"] for path in FILES for pair in pairs(path)]) == []


def test_no_pair_occurs_twice():
    """What was built on must not be judged on."""
    requests = [
        json.dumps([pair["stored"], pair["asked"]]) for path in FILES for pair in pairs(path)
    ]
    assert twice(requests) == []
