"""Alerts: once per threshold, to functions, coroutines and sinks."""

from __future__ import annotations

import asyncio
import threading

import pytest

from langchain_tokenopt.budget import BudgetAlert
from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.core.records import BudgetEvent
from langchain_tokenopt.core.usage import Usage

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

    assert [f"{percent} % spent or held" for percent in (50, 75, 90, 95, 100)] == heard
    assert (50, 75, 90, 95, 100) == budget.report().alerts


def test_a_jump_tells_the_highest_and_records_the_skipped(make_budget, heard):
    """From 40 to 96 is one alert."""
    budget = make_budget(1_000, sinks=[heard])
    _spend(budget, 400)

    _spend(budget, 560)

    (event,) = heard.events
    assert ("alert", "95 % spent or held; passed 50 %, 75 %, 90 %") == (event.kind, event.detail)
    assert (400, 560, 1_000) == (event.spent_tokens, event.held_tokens, event.limit_tokens)
    assert (50, 75, 90, 95) == budget.report().alerts


def test_what_is_held_counts_before_it_is_spent(make_budget, heard):
    """An alert comes while there is time; going down and up again is no news."""
    budget = make_budget(1_000, sinks=[heard])

    for _ in range(3):
        budget.release(budget.reserve("writer", 500, 0))

    assert ["50 % spent or held"] == [event.detail for event in heard.events]


def test_a_surplus_can_cross_a_threshold(make_budget, heard):
    """So can a charge without reservation, and topping up."""
    budget = make_budget(1_000, sinks=[heard])
    budget.settle(budget.reserve("writer", 490, 0), Usage(510, 0))
    budget.charge("stranger", Usage(240, 0))
    budget.top_up(budget.reserve("writer", 100, 0), 50)

    assert ["50 %", "75 %", "90 %"] == [event.detail[:4] for event in heard.events]


def test_money_crosses_thresholds_too(make_budget, heard):
    """Whichever is nearer to its end."""
    budget = make_budget(1_000_000, total_usd="0.000001", sinks=[heard])
    budget.reserve("writer", 1, 0, cost_nano_usd=760)

    assert ["75 % spent or held; passed 50 %"] == [event.detail for event in heard.events]


def test_another_account_has_alerts_of_its_own(make_budget, heard):
    """Once per budget and run."""
    for run in ("one", "two"):
        make_budget(1_000, run=run, sinks=[heard]).reserve("writer", 500, 0)

    assert ["one", "two"] == [event.run for event in heard.events]


def test_thresholds_can_be_chosen(make_budget):
    """Any, in any order."""
    heard = []
    alert = BudgetAlert(lambda event: heard.append(event.detail), thresholds=[33, 10, 33])
    budget = make_budget(1_000, alert=alert)
    _spend(budget, 100)
    _spend(budget, 300)

    assert ["10 % spent or held", "33 % spent or held"] == heard


@pytest.mark.parametrize("wrong", [0, -5, 101, 0.5])
def test_thresholds_are_percents(wrong):
    """The wrong ones are told."""
    with pytest.raises(ValueError, match=rf"got \[{wrong}\]"):
        BudgetAlert(thresholds=[50, wrong])


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

    told = [text.split(" %")[0] for text in heard]
    assert len(set(told)) == len(told)
    assert "100" in told
    assert (50, 75, 90, 95, 100) == budget.report().alerts


async def test_a_coroutine_runs_in_the_callers_loop():
    """A web socket belongs to one."""
    heard = asyncio.Queue()

    async def send(event):
        await heard.put((event, asyncio.get_running_loop()))

    BudgetAlert(send).tell(EVENT)

    assert (EVENT, asyncio.get_running_loop()) == await asyncio.wait_for(heard.get(), 5)


async def test_a_coroutine_called_from_a_thread_runs_in_the_loop_it_was_given_in():
    """Stages that wait for a disk run in threads; web sockets do not."""
    heard = asyncio.Queue()

    async def send(event):
        await heard.put(asyncio.get_running_loop())

    alert = BudgetAlert(send)
    await asyncio.to_thread(alert.tell, EVENT)

    assert asyncio.get_running_loop() is await asyncio.wait_for(heard.get(), 5)


def test_a_coroutine_runs_without_any_loop():
    """In a thread of its own, that can be waited for."""
    heard = []

    async def send(event):
        await asyncio.sleep(0.01)
        heard.append(event)

    alert = BudgetAlert(send)
    alert.tell(EVENT)

    assert alert.join(5)
    assert [EVENT] == heard


def test_waiting_ends():
    """A coroutine that takes longer is told of."""
    done = threading.Event()

    async def send(event):
        while not done.is_set():
            await asyncio.sleep(0.005)

    alert = BudgetAlert(send)
    alert.tell(EVENT)

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
        alert.tell(EVENT)
        alert.tell(EVENT)

    assert 1 == len(warned)
    assert [EVENT, EVENT] == heard


async def test_a_coroutine_that_fails_is_warned_of():
    """As a function would be."""

    async def broken(event):
        raise RuntimeError("no network")

    alert = BudgetAlert(broken)
    with pytest.warns(TokenOptWarning, match="no network"):
        alert.tell(EVENT)
        for _ in range(3):
            await asyncio.sleep(0)


def test_sinks_of_the_alert_hear_it(heard):
    """As of any other event."""
    BudgetAlert(sinks=[heard]).tell(EVENT)

    assert [EVENT] == heard.events


def test_an_alert_that_nobody_told_is_told_when_its_lease_is_over(make_budget, clock, monkeypatch):
    """Where nobody can see whether a process lives, time decides; then it is told once."""
    heard = []
    alert = BudgetAlert(lambda event: heard.append(event.detail))
    budget = make_budget(1_000, alert=alert, lease_seconds=60)

    def interrupted(event):
        raise KeyboardInterrupt

    monkeypatch.setattr(alert, "tell", interrupted)
    with pytest.raises(KeyboardInterrupt):
        budget.reserve("writer", 600, 0)
    monkeypatch.undo()
    _spend(budget, 10)
    assert [] == heard

    clock.now += 60
    for _ in range(3):
        _spend(budget, 10)
    _spend(budget, 300)
    assert ["50 % spent or held", "90 % spent or held; passed 75 %"] == heard


def test_a_late_alert_and_a_new_one_are_told_together(make_budget, clock, monkeypatch):
    """One event for the highest, as ever."""
    heard = []
    alert = BudgetAlert(lambda event: heard.append(event.detail))
    budget = make_budget(1_000, alert=alert, lease_seconds=60)
    monkeypatch.setattr(alert, "tell", lambda event: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        budget.reserve("writer", 600, 0)
    monkeypatch.undo()
    clock.now += 60

    _spend(budget, 300)
    assert ["90 % spent or held; passed 50 %, 75 %"] == heard
    assert (50, 75, 90) == budget.report().alerts


def test_what_was_told_is_not_told_again_with_a_late_alert(make_budget, clock, monkeypatch):
    """Only the threshold that nobody told."""
    heard = []
    alert = BudgetAlert(lambda event: heard.append(event.detail))
    budget = make_budget(1_000, alert=alert, lease_seconds=60)
    _spend(budget, 500)
    monkeypatch.setattr(alert, "tell", lambda event: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        budget.reserve("writer", 250, 0)
    monkeypatch.undo()
    clock.now += 60

    _spend(budget, 10)
    assert ["50 % spent or held", "75 % spent or held"] == heard
