"""Alerts: once per threshold, to functions, coroutines and sinks."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import fields, replace
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_tokenopt.budget import BudgetAlert, BudgetPlan
from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.core.records import BudgetEvent
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.scope import token_scope
from tests.support.fakes import FakeAnswer, fake_chat

EVENT = BudgetEvent(
    kind="alert", budget="b", agent="a", spent_tokens=1, held_tokens=1, limit_tokens=2
)


def _spend(budget, tokens):
    return budget.settle(budget.reserve("writer", tokens, 0), Usage(tokens, 0))


def test_each_threshold_is_told_once(make_budget):
    """Upwards, in order, whatever the steps."""
    heard = []
    budget = make_budget(1_000, alert=BudgetAlert(lambda event: heard.append(event.detail)))

    for _ in range(100):
        _spend(budget, 10)

    assert [f"{percent}% spent or held" for percent in (50, 75, 90, 95, 100)] == heard
    assert (0.5, 0.75, 0.9, 0.95, 1.0) == budget.report().alerts


def test_a_jump_tells_the_highest_and_records_the_skipped(make_budget, heard):
    """From 40 to 96 is one alert."""
    budget = make_budget(1_000, sinks=[heard])
    _spend(budget, 400)

    _spend(budget, 560)

    (event,) = heard.events
    assert ("alert", "95% spent or held; passed 50%, 75%, 90%") == (event.kind, event.detail)
    assert (400, 560, 1_000) == (event.spent_tokens, event.held_tokens, event.limit_tokens)
    assert (0.5, 0.75, 0.9, 0.95) == budget.report().alerts


def test_what_is_held_counts_before_it_is_spent(make_budget, heard):
    """An alert comes while there is time; going down and up again is no news."""
    budget = make_budget(1_000, sinks=[heard])

    for _ in range(3):
        budget.release(budget.reserve("writer", 500, 0))

    assert ["50% spent or held"] == [event.detail for event in heard.events]


def test_a_surplus_can_cross_a_threshold(make_budget, heard):
    """So can a charge without reservation."""
    budget = make_budget(1_000, sinks=[heard])
    budget.settle(budget.reserve("writer", 490, 0), Usage(510, 0))
    budget.charge("stranger", Usage(240, 0))
    budget.reserve("writer", 150, 0)

    assert ["50%", "75%", "90%"] == [event.detail[:3] for event in heard.events]


def test_money_crosses_thresholds_too(make_budget, heard):
    """Whichever is nearer to its end."""
    budget = make_budget(1_000_000, total_usd="0.000001", sinks=[heard])
    budget.reserve("writer", 1, 0, cost_nano_usd=760)

    assert ["75% spent or held; passed 50%"] == [event.detail for event in heard.events]


def test_another_account_has_alerts_of_its_own(make_budget, heard):
    """Once per budget and run."""
    for run in ("one", "two"):
        make_budget(1_000, run=run, sinks=[heard]).reserve("writer", 500, 0)

    assert ["one", "two"] == [event.run for event in heard.events]


def test_thresholds_can_be_chosen(make_budget):
    """Any, in any order."""
    heard = []
    alert = BudgetAlert(lambda event: heard.append(event.detail), thresholds=[0.33, 0.1, 0.33])
    budget = make_budget(1_000, alert=alert)
    _spend(budget, 100)
    _spend(budget, 300)

    assert ["10% spent or held", "33% spent or held"] == heard


@pytest.mark.parametrize("wrong", [0, -0.5, 1.01, 50, True])
def test_thresholds_are_fractions(wrong):
    """The wrong one is named."""
    with pytest.raises(ValueError, match=rf"fraction above 0 and up to 1; got {wrong}"):
        BudgetAlert(thresholds=[0.5, wrong])


@given(st.integers(1, 100), st.integers(1, 10**6))
def test_a_threshold_is_reached_exactly(percent, hundreds):
    """Not a token earlier, not a token later: floats do not round it away."""
    alert, total = BudgetAlert(thresholds=[percent / 100]), 100 * hundreds

    assert [percent / 100] == alert.crossed(0.0, percent * hundreds / total)
    assert [] == alert.crossed(0.0, (percent * hundreds - 1) / total)


def test_what_cannot_be_told_is_refused():
    """Before anything happens."""
    with pytest.raises(TypeError, match="3 is none"):
        BudgetAlert(3)
    with pytest.raises(TypeError, match=r"record\(event\) method; 3 has none"):
        BudgetAlert(sinks=[3])


def test_threads_hear_each_threshold_once(make_budget):
    """Eight threads that cross them at the same time."""
    heard = []
    budget = make_budget(800, alert=BudgetAlert(lambda event: heard.append(event.detail)))
    start = threading.Barrier(8)

    def race():
        start.wait()
        for _ in range(20):
            _spend(budget, 5)

    threads = [threading.Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    thresholds = [text.split("%")[0] for text in heard]
    assert len(set(thresholds)) == len(thresholds)
    assert "100" in thresholds
    assert (0.5, 0.75, 0.9, 0.95, 1.0) == budget.report().alerts


async def test_a_coroutine_runs_in_the_callers_loop():
    """A web socket belongs to one."""
    heard = asyncio.Queue()

    async def send(event):
        await heard.put((event, asyncio.get_running_loop()))

    BudgetAlert(send).notify(EVENT)

    assert (EVENT, asyncio.get_running_loop()) == await asyncio.wait_for(heard.get(), 5)


async def test_a_coroutine_called_from_a_thread_runs_in_the_loop_it_was_given_in():
    """Stages that wait for a disk run in threads; web sockets do not."""
    heard = asyncio.Queue()

    async def send(event):
        await heard.put(asyncio.get_running_loop())

    alert = BudgetAlert(send)
    await asyncio.to_thread(alert.notify, EVENT)

    assert asyncio.get_running_loop() is await asyncio.wait_for(heard.get(), 5)


def test_a_coroutine_runs_without_any_loop():
    """In a thread of its own, that can be waited for."""
    heard = []

    async def send(event):
        await asyncio.sleep(0.01)
        heard.append(event)

    alert = BudgetAlert(send)
    alert.notify(EVENT)

    assert alert.join(5)
    assert [EVENT] == heard


def test_waiting_ends():
    """A coroutine that takes longer is told of."""
    done = threading.Event()

    async def send(event):
        while not done.is_set():
            await asyncio.sleep(0.005)

    alert = BudgetAlert(send)
    alert.notify(EVENT)

    assert not alert.join(0.01)
    done.set()
    assert alert.join(5)


def test_a_callback_that_fails_is_warned_of_once():
    """It stops neither the call nor the other callbacks."""
    heard = []

    def broken(event):
        raise RuntimeError("no network")

    alert = BudgetAlert(broken, heard.append)
    with pytest.warns(TokenOptWarning, match="RuntimeError: no network") as warned:
        alert.notify(EVENT)
        alert.notify(EVENT)

    assert 1 == len(warned)
    assert [EVENT, EVENT] == heard


async def test_a_coroutine_that_fails_is_warned_of():
    """As a function would be."""

    async def broken(event):
        raise RuntimeError("no network")

    alert = BudgetAlert(broken)
    with pytest.warns(TokenOptWarning, match="no network"):
        alert.notify(EVENT)
        for _ in range(3):
            await asyncio.sleep(0)


def test_sinks_of_the_alert_hear_it(heard):
    """As of any other event."""
    BudgetAlert(sinks=[heard]).notify(EVENT)

    assert [EVENT] == heard.events


def test_an_event_is_sent_as_json():
    """What applications pass on to browsers; and who sends the event itself is told how."""
    sent = []
    happened = replace(EVENT, run_id=uuid4(), at=datetime(2026, 5, 4, tzinfo=UTC))
    BudgetAlert(lambda event: sent.append(json.dumps(event.as_dict()))).notify(happened)

    (text,) = sent
    assert {"kind": "alert", "at": "2026-05-04T00:00:00+00:00"}.items() <= json.loads(text).items()
    assert json.loads(text).keys() == {field.name for field in fields(BudgetEvent)}
    with pytest.warns(TokenOptWarning, match=r"Send event\.as_dict\(\)"):
        BudgetAlert(json.dumps).notify(EVENT)


def test_a_scope_takes_an_alert_as_a_run_does():
    """A function or a BudgetAlert, for the plan that is given beside it."""
    plan = BudgetPlan(total_tokens=1_000)
    heard: list[str] = []
    for alert in (
        lambda event: heard.append(event.detail),
        BudgetAlert(lambda event: heard.append(event.detail)),
    ):
        with token_scope(plan=plan, alert=alert):
            fake_chat(answers=[FakeAnswer("x", Usage(400, 10))]).invoke("Hi")
    assert len(heard) == 2
