"""The cases by which shortening is judged are sound: each holds for the text before it is cut."""

from __future__ import annotations

import importlib
import random
from pathlib import Path

import pytest

from tests.judge import files
from tests.judge.reports import faults

pytestmark = pytest.mark.exhaustive

FOLDER = Path(__file__).parents[1] / "judge"


def halves(name: str) -> list[str]:
    """Modules of both halves, as far as they are here."""
    return [f"tests.judge.{path.stem}" for path in sorted(FOLDER.glob(f"{name}_*.py"))]


@pytest.mark.parametrize("path", sorted(FOLDER.glob("files_*.jsonl")), ids=lambda path: path.stem)
def test_answers_stand_in_their_files(path: Path):
    skipped: list[str] = []
    found = list(files.cases(path, skipped))
    assert [row["id"] for row, text in found if not files.kept(text, row["answers"])] == []
    rows = len(found) + len(skipped)
    assert rows == 90
    assert len({row["kind"] for row, _ in found}) >= 15
    assert sum(row["root"] == "usr" for row, _ in found) <= rows / 3


@pytest.mark.parametrize("name", halves("wholeness"))
def test_what_is_not_cut_is_whole(name: str):
    case = importlib.import_module(name).case
    made = [case(random.Random(seed)) for seed in range(150)]
    assert [(each.kind, fault) for each in made for fault in each.check(each.prompt)] == []


@pytest.mark.parametrize("name", halves("facts"))
def test_facts_cover_eight_fields(name: str):
    cases = importlib.import_module(name).CASES
    assert len({fact.id for fact in cases}) == len(cases) == 20
    assert len({fact.field for fact in cases}) == 8


@pytest.mark.parametrize("name", halves("reports"))
def test_a_whole_report_lacks_nothing(name: str):
    cases = importlib.import_module(name).CASES
    assert [faults(report, report.text) for report in cases] == [[]] * 20
    assert len({report.field for report in cases}) == 8


@pytest.mark.parametrize("name", halves("layouts"))
def test_layouts_hold_question_and_passages(name: str):
    passages = [("Tea", "Tea is a hot drink."), ("Gate", "The gate was built in 1931.")]
    for layout in importlib.import_module(name).LAYOUTS.values():
        prompt = layout("when was the gate built", passages)
        text = prompt if isinstance(prompt, str) else "\n".join(m.text for m in prompt)
        assert "hen was the gate built" in text
        assert "The gate was built in 1931." in text
