"""Who is still to come in a run, and what they will need."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest

from langchain_tokenopt.budget.forecast_need import ForecastNeed
from langchain_tokenopt.budget.outlook import Coming, Outlook
from langchain_tokenopt.budget.request_budget import RequestBudget
from langchain_tokenopt.budget.room import NO_DEMAND, Demand, Demands
from langchain_tokenopt.budget.tools import TakesTimeError
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.forecast import UsageForecaster

SMALL = RequestBudget(500, 500, 80, 80, 4_096, False, shortest=150)
LOOPING = RequestBudget(500, 500, 80, 80, 4_096, False, shortest=150, last_answer=300)


def demands_of(outlook: Outlook, agent: str, needs: RequestBudget = SMALL) -> Demands:
    """Ask once, and answer at once."""
    with outlook.asking(agent, needs, uuid4()) as demands:
        return demands()


def test_without_a_graph_everybody_in_the_plan_comes_once() -> None:
    """Who has come is expected no more; nobody knows who else may."""
    outlook = Outlook({"news": 1.0, "judge": 2.0}, {})
    first, second = demands_of(outlook, "news"), demands_of(outlook, "judge")

    assert (["judge"], []) == ([*first.others], [*second.others])
    assert not first.foreseen
    assert 2.0 == first.weights["judge"]


def test_calls_that_ask_together_know_of_each_other() -> None:
    """The first of an agent's is served first from its share."""
    outlook = Outlook({}, {})
    with outlook.asking("a", SMALL, uuid4()) as one, outlook.asking("a", SMALL, uuid4()) as two:
        assert 150 == one().later.least == two().later.least
        assert (0, 150) == (one().before, two().before)


def test_a_request_that_is_announced_counts_until_it_holds_something() -> None:
    """However often it is made to fit: on the event loop, and then in a thread."""
    outlook, run_id = Outlook({}, {}), uuid4()
    with outlook.announced("a", SMALL, run_id):
        with pytest.raises(TakesTimeError), outlook.asking("a", SMALL, run_id):
            raise TakesTimeError
        assert 150 == demands_of(outlook, "b").others["a"].least
        with outlook.asking("a", SMALL, run_id) as demands:
            assert "a" not in demands().others
        assert "a" not in demands_of(outlook, "b").others


def test_after_a_round_of_tools_the_last_answer_is_owed() -> None:
    """Until the agent asks again."""
    outlook = Outlook({}, {})
    demands_of(outlook, "reader", LOOPING)
    outlook.answered("reader", Usage(90, 20), Demand(300, 300))
    assert Demand(300, 300) == demands_of(outlook, "writer").others["reader"]

    demands_of(outlook, "reader", LOOPING)
    outlook.answered("reader", Usage(90, 90))
    assert "reader" not in demands_of(outlook, "writer").others


def test_what_is_owed_to_one_that_is_due_is_counted_once() -> None:
    """The answer after the tools is the call that the graph says comes next."""
    outlook = Outlook({}, {})
    demands_of(outlook, "reader", LOOPING)
    outlook.answered("reader", Usage(90, 20), Demand(300, 300))
    outlook.foresee("graph", Coming({"reader": 1, "writer": 1}))
    due = demands_of(outlook, "writer").others["reader"]

    assert (300, 620) == (due.least, due.likely)


def test_what_a_silent_provider_may_count_is_needed_too() -> None:
    """Else a call does not fit into what it is said to need."""
    outlook = Outlook({}, {})
    needs = replace(SMALL, unsaid_input=150, expected_output=200)

    assert 850 == demands_of(outlook, "reader", needs).own.likely


def test_what_is_held_beyond_its_use_counts_from_before_it_is_held_until_it_is_charged() -> None:
    """Others that ask in between see it either as left or as coming back."""
    outlook, run_id = Outlook({}, {}), uuid4()
    with outlook.holding(run_id, 700) as granted:
        assert 700 == demands_of(outlook, "b").returning
        granted(300)
    assert 300 == demands_of(outlook, "b").returning
    outlook.ended(run_id)
    assert 0 == demands_of(outlook, "b").returning

    with outlook.holding(run_id, 700):
        pass
    assert 0 == demands_of(outlook, "b").returning


def test_nodes_that_call_nobody_need_nothing() -> None:
    """Once that was seen."""
    outlook = Outlook({}, {})
    outlook.foresee("graph", Coming({"writer": 1, "helper": 2}))
    assert "helper" in demands_of(outlook, "writer").others

    outlook.begin("helper")
    outlook.end("helper")
    assert "helper" not in demands_of(outlook, "writer").others


def test_workers_that_a_supervisor_sends_for_come_once() -> None:
    """And the supervisor as often as there are workers that have not come."""
    outlook = Outlook({}, {})
    maybe = dict.fromkeys(("chief", "a", "b"), 1)
    outlook.foresee("graph", Coming({"chief": 1}, {}, maybe, {"a": "chief", "b": "chief"}))
    assert {"a", "b"} == {*demands_of(outlook, "chief").others}

    after = demands_of(outlook, "a")
    assert {"chief", "b"} == {*after.others}
    assert 0 == after.later.likely


def test_nobody_is_expected_more_often_than_in_earlier_runs() -> None:
    """Of a loop whose number of rounds is known, the last call leaves nothing to another round."""
    graph = Coming({"debater": 1}, {"judge": 1}, {"debater": 1})
    for most, later in ((None, True), (3, True), (2, False)):
        outlook = Outlook({}, {}, most_calls=lambda agent, most=most: most)
        for _ in range(2):
            outlook.foresee("graph", graph)
            found = demands_of(outlook, "debater")

        assert later == (found.later.likely > 0)
        assert "judge" in found.others


def test_an_answer_is_guessed_from_the_few_that_were_seen() -> None:
    """From an agent's own first."""
    outlook = Outlook({}, {})
    assert outlook.usual_answer("a") is None
    for agent, tokens in (("a", 100), ("b", 200), ("c", 50)):
        demands_of(outlook, agent)
        outlook.answered(agent, Usage(0, tokens))

    assert (130, 260) == (outlook.usual_answer("a"), outlook.usual_answer("d"))


def test_short_answers_are_hoped_for_in_a_loop_and_by_the_chance_of_a_branch() -> None:
    """Calls that may never come make others shorter, and refuse none."""
    outlook = Outlook({}, {})
    loop = {"speaker": 1, "rival": 1}
    for hoped in (300, 150, 150):
        outlook.foresee("graph", Coming({"speaker": 1}, {"judge": 1}, loop))
        demands_of(outlook, "speaker")
        found = demands_of(outlook, "judge").others["speaker"]
        assert (0, hoped) == (found.least, found.hoped)

    outlook.foresee("graph", Coming({"clerk": 1}, {}, {"a": 0.5, "b": 0.5}))
    found = demands_of(outlook, "clerk").others["a"]
    assert (0, 75) == (found.least, found.hoped)


def test_who_perhaps_calls_refuses_nobody_and_is_learned() -> None:
    """Until it has called; and none is expected of who never has, over a few runs."""
    forecaster = UsageForecaster()
    coming = Coming({"writer": 1}, {"helper": 1}, perhaps=frozenset({"helper"}))
    for earlier in range(4):
        outlook = Outlook({}, {}, most_calls=forecaster.most_calls)
        outlook.foresee("graph", coming)
        demand = demands_of(outlook, "writer").others.get("helper", NO_DEMAND)
        outlook.begin("helper")
        outlook.end("helper")
        forecaster.observe_calls(outlook.calls())
        if not earlier:
            assert 0 == demand.least < demand.hoped == demand.likely < 150
    assert NO_DEMAND == demand

    forecaster.observe_calls({"helper": 1})
    outlook = Outlook({}, {}, most_calls=forecaster.most_calls)
    outlook.foresee("graph", coming)
    assert 150 == demands_of(outlook, "writer").others["helper"].least


def test_what_is_kept_follows_the_forecast_and_what_was_spent() -> None:
    """Of a whole run; who has spent more than most is compared with those that did."""
    forecast = ForecastNeed([{"writer": tokens} for tokens in (900, 1_000, 5_000, 5_100)])
    outlook = Outlook({}, {}, needs=forecast.need)
    outlook.foresee("graph", Coming({"writer": 1, "reader": 1}, {"writer": 1}))
    assert 5_100 == demands_of(outlook, "reader").others["writer"].likely

    demands_of(outlook, "writer")
    outlook.answered("writer", Usage(1_000, 200))
    assert 3_900 == demands_of(outlook, "reader").others["writer"].likely

    demands_of(outlook, "writer")
    outlook.answered("writer", Usage(9_000, 0))  # more than any: as if nobody knew
    assert 9_000 > demands_of(outlook, "reader").others["writer"].likely > 0


def test_a_request_that_was_made_smaller_would_have_needed_more() -> None:
    """What a run teaches is what was asked, not what others' answers make of it."""
    outlook = Outlook({}, {})
    demands_of(outlook, "writer")
    outlook.answered("writer", Usage(100, 10), shortened=True)
    assert not outlook.cut()
    demands_of(outlook, "writer")
    outlook.answered("writer", Usage(500, 10), cut=True)
    demands_of(outlook, "reader")
    outlook.answered("reader", Usage(100, 10))

    assert {"writer": 1_020, "reader": 110} == outlook.needed()
    assert {"writer"} == outlook.cut()
    outlook.refused("reader")
    assert {"writer", "reader"} == outlook.cut()
    assert 620 == outlook.spent("writer")


def test_who_waits_for_several_others_reads_what_those_have_said() -> None:
    """Who comes after one alone may read everybody's answers."""

    def expected(after: dict[str, int]) -> int:
        outlook = Outlook({}, {})
        for number in range(8):
            demands_of(outlook, f"reader {number}")
            outlook.answered(f"reader {number}", Usage(500, 100))
        outlook.foresee("here", Coming({"team": 1}, {"judge": 1}, after=after))
        return demands_of(outlook, "team").others["judge"].likely

    assert 400 <= expected({}) - expected({"judge": 2}) <= 1_000


def test_an_answer_is_expected_as_those_seen() -> None:
    """As an agent's own, if it has given any; else as those of others, beside a typical one."""
    outlook = Outlook({}, {})
    assert 120 == outlook.expected_answer("a")
    for tokens in (30, 50, 40):
        outlook.answered("a", Usage(500, tokens))

    assert (40, 60) == (outlook.expected_answer("a"), outlook.expected_answer("b"))
