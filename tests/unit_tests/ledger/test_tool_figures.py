"""What a ledger keeps of tools, and what it answers about them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_tokenopt.core.attribution import Attribution
from langchain_tokenopt.core.records import CallRecord, OfferedTool, ToolChoice, ToolResult
from langchain_tokenopt.ledger import Ledger
from langchain_tokenopt.ledger.spill import from_line, to_line
from tests.support.ledger_records import START, record

pytestmark = pytest.mark.exhaustive

NAMES = ("search", "refund", "日本語", "a\x1b[31m", "sixteen letters!", "")


def choice(**changes: Any) -> ToolChoice:
    """Return what a selector has chosen; *changes* replace its fields."""
    fields: dict[str, Any] = {
        "offered": (OfferedTool("search", 100), OfferedTool("refund", 250)),
        "left_out": 7,
        "tokens_before": 1_500,
        "tokens_after": 350,
        "called": ("search",),
    }
    return ToolChoice(**(fields | changes))


def shown(attribution: Attribution | None = None, **changes: Any) -> CallRecord:
    """Return a call that was shown tools."""
    made_by = attribution or Attribution(agent="desk", user="ann")
    return record(attribution=made_by, tool_choice=choice(**changes))


names = st.lists(st.sampled_from(NAMES), max_size=3, unique=True).map(tuple)
choices = st.builds(
    choice,
    offered=names.map(lambda found: tuple(OfferedTool(n, 10 + len(n)) for n in found)),
    called=names,
    missed=names,
    found=names,
    left_out=st.integers(0, 10**6),
    searches=st.integers(0, 3),
    observed=st.booleans(),
    id=st.uuids(),
)


@settings(max_examples=25, deadline=None)
@given(chosen=st.lists(choices, max_size=8))
def test_choices_come_back_as_they_were_and_add_up(
    chosen: list[ToolChoice], tmp_path_factory: Any
) -> None:
    """Every field is read as it was written; figures are what a plain count gives."""
    calls = [shown(offered=()) for _ in chosen]
    calls = [
        replace(call, tool_choice=replace(each, run_id=call.run_id, agent="desk", model=call.model,
                                          at=call.started_at))
        for call, each in zip(calls, chosen, strict=True)
    ]  # fmt: skip
    expected: dict[str, Counter[str]] = {
        what: Counter(name for each in chosen for name in getattr(each, what))
        for what in ("called", "missed", "found")
    }
    offered = Counter(tool.tool for each in chosen for tool in each.offered)
    with Ledger(tmp_path_factory.mktemp("ledger") / "a.db") as ledger:
        for call in calls:
            ledger.record(call)
            assert call.tool_choice is not None
            ledger.record(call.tool_choice)  # as trackers do
        read = {call.run_id: call.tool_choice for call in ledger.calls()}
        figures = {tool.tool: tool for tool in ledger.tools()}

    assert {call.run_id: call.tool_choice for call in calls} == read
    for name, tool in figures.items():
        assert offered[name] == tool.offered
        assert offered[name] * (10 + len(name)) == tool.schema_tokens
        assert expected["called"][name] == tool.called
        assert expected["missed"][name] == tool.missed
        assert expected["found"][name] == tool.searched
    assert figures.keys() == set(offered).union(*expected.values())


def test_figures_keep_to_the_period_and_the_filters(tmp_path: Path) -> None:
    """Agent, user and time choose among choices as among calls."""
    ann, bob = Attribution("desk", user="ann"), Attribution("news", user="bob")
    with Ledger(tmp_path / "a.db") as ledger:
        ledger.record(shown(ann))
        ledger.record(replace(shown(bob), started_at=START + timedelta(days=3)))

        def offered(**asked: Any) -> int:
            return sum(tool.offered for tool in ledger.tools(**asked))

        assert 4 == offered()
        assert 2 == offered(agent="desk")
        assert 2 == offered(user="bob")
        assert 0 == offered(agent="desk", user="bob")
        assert 2 == offered(since=START + timedelta(days=2))


def test_results_are_priced_with_the_calls_that_carry_them(tmp_path: Path) -> None:
    """A tool costs its schema and, with every later call, its results; a cached call costs none."""
    carried = (ToolResult("search", 900, 1_000), ToolResult("refund", 50, None))
    with Ledger(tmp_path / "a.db") as ledger:
        for cached in (False, False, True):
            ledger.record(record(tool_results=carried, cached=cached))
        found = {tool.tool: tool for tool in ledger.tools()}

    assert (1_800, 2_000, 0) == (
        found["search"].result_tokens,
        found["search"].result_cost_nano_usd,
        found["search"].unpriced_results,
    )
    assert (100, 0, 2) == (
        found["refund"].result_tokens,
        found["refund"].result_cost_nano_usd,
        found["refund"].unpriced_results,
    )


def test_a_choice_without_its_call_is_kept(tmp_path: Path) -> None:
    """A ledger that is a sink of the selector alone hears of choices only."""
    with Ledger(tmp_path / "a.db") as ledger:
        ledger.record(choice(agent="desk"))

        assert 0 == ledger.totals().calls
        assert ["refund", "search"] == [tool.tool for tool in ledger.tools(agent="desk")]
        assert [] == ledger.check()


def test_a_run_of_its_own_is_found(tmp_path: Path) -> None:
    """A call that is its own run is asked for by its id."""
    call = shown()
    call = replace(call, run=str(call.run_id))
    with Ledger(tmp_path / "a.db") as ledger:
        ledger.record(call)

        assert 2 == len(ledger.tools(run=str(call.run_id)))
        assert [] == ledger.tools(run=str(uuid4()))


def test_choices_wait_in_files() -> None:
    """What a ledger could not write is read back whole, alone and with its call."""
    alone = choice(run_id=UUID(int=7), at=START)
    call = shown()

    assert alone == from_line(to_line(alone))
    assert call == from_line(to_line(call))
