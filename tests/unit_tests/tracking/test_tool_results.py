"""What results of tools cost: they are sent again with every later call."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from langchain.agents import create_agent
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool

from langchain_tokenopt import Ledger, optimize, track_usage
from langchain_tokenopt.core.records import UsageTotals
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.counting.tokens import counter_for
from langchain_tokenopt.pricing.rates import Rates
from langchain_tokenopt.tracking.tool_results import shares_of, tokens_of_results
from tests.support.stages import Rewrite

PAGE = "The entry fee is five euros. " * 40


class Agent(GenericFakeChatModel):
    """Calls two tools and answers; says what it would have been billed."""

    model_name: str = "gpt-4o"

    def bind_tools(self, tools, **kwargs):
        return self


def turn(text, calls=(), billed=1_000):
    return AIMessage(
        text,
        tool_calls=[{"name": n, "args": {}, "id": f"{n}-{billed}"} for n in calls],
        usage_metadata={"input_tokens": billed, "output_tokens": 10, "total_tokens": billed + 10},
        response_metadata={"model_name": "gpt-4o"},
    )


@tool
def search() -> str:
    """Return a page."""
    return PAGE


@tool
def clock() -> str:
    """Return the time."""
    return "noon"


def run_agent(sinks=()):
    model = Agent(messages=iter([turn("", ["search"]), turn("", ["clock"]), turn("Five.")]))
    agent = create_agent(model, [search, clock])
    with track_usage(sinks=sinks) as usage:
        agent.invoke({"messages": [HumanMessage("What is the fee?")]})
    return usage


def test_results_are_counted_with_every_later_call():
    """The page of the first tool is in two later prompts, the time of the second in one."""
    usage = run_agent()
    page, time = (counter_for("gpt-4o").count(text).tokens for text in (PAGE, "noon"))

    assert [
        {result.tool: result.tokens for result in record.tool_results} for record in usage.records
    ] == [{}, {"search": page}, {"search": page, "clock": time}]
    by_tool = usage.by("tool")
    assert (2 * page, time) == (by_tool["search"].input_tokens, by_tool["clock"].input_tokens)
    assert (3, 0) == (by_tool["(none)"].calls, by_tool["search"].calls)


def test_parts_add_up_to_the_whole_and_the_ledger_agrees(tmp_path):
    """Tokens and money move from the callers to the tools, and none is lost."""
    with Ledger(tmp_path / "ledger.db") as ledger:
        usage = run_agent([ledger])
        ledger.flush()
        stored = ledger.by("tool")
        assert [r.tool_results for r in ledger.calls()] == [r.tool_results for r in usage.records]

    for found in (usage.by("tool"), stored):
        assert {"(none)", "search", "clock"} == set(found)
        whole = sum(found.values(), UsageTotals())
        assert whole.input_tokens == usage.totals().input_tokens == 3_000
        assert whole.cost_nano_usd == usage.totals().cost_nano_usd > 0
        assert found["search"].cost_nano_usd > 0
    assert stored["search"].input_tokens == usage.by("tool")["search"].input_tokens


def test_records_that_were_dropped_stay_in_the_sums():
    """A handler that keeps one record only counts the same."""
    model = Agent(messages=iter([turn("a"), turn("b")]))
    history = [
        HumanMessage("?"),
        AIMessage("", tool_calls=[{"name": "search", "args": {}, "id": "1"}]),
        ToolMessage("one two three", tool_call_id="1"),
    ]
    with track_usage(max_records=1) as usage:
        model.invoke(history)
        model.invoke(history)

    assert 6 == usage.by("tool")["search"].input_tokens


def test_what_a_stage_has_left_out_is_not_counted():
    """What was sent decides, not what the caller gave."""
    model = optimize(Agent(messages=iter([turn("a")])), Rewrite("Go on."))
    with track_usage() as usage:
        model.invoke([HumanMessage("?"), ToolMessage(PAGE, tool_call_id="1", name="search")])

    assert {"(none)"} == set(usage.by("tool"))


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 10_000)), max_size=4),
    st.builds(Usage, st.integers(-5, 10_000), st.integers(0, 100)),
)
def test_shares_are_never_more_than_the_bill(results, usage):
    """Whatever was counted, and whatever was billed."""
    rates = Rates.from_usd_per_million(input=3, output=15)
    shares = shares_of(tuple(results), usage, rates)

    assert sum(share.tokens for share in shares) <= max(0, usage.input_tokens)
    assert sum(share.cost_nano_usd for share in shares) <= rates.cost(usage)
    assert all(share.tokens >= 0 for share in shares)


def test_results_without_a_name_are_left_out():
    """Nobody can say whose they are."""
    assert () == tokens_of_results([ToolMessage("x", tool_call_id="gone")], "gpt-4o")
    assert (("f", 1),) == tokens_of_results(
        [ToolMessage("x", tool_call_id="1", name="f")], "gpt-4o"
    )
