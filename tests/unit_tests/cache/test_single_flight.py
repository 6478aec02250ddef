"""Identical requests at once: who asks, who waits, and for how long."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading

import pytest

from langchain_tokenopt.cache.single_flight import SingleFlight
from tests.support.cache_places import soon

LONG = 30.0
"""Seconds that no test waits: whoever waits so long is stuck."""


def in_thread(work, *, context=None):
    """Run *work* in a context of its own; return how to fetch its result."""
    results = []
    context = context or contextvars.Context()
    thread = threading.Thread(target=lambda: results.append(context.run(work)), daemon=True)
    thread.start()

    def result(seconds=5.0):
        thread.join(seconds)
        return results[0] if results else "still waiting"

    return result


def test_the_first_one_begins_and_others_wait_for_its_answer():
    """The second one is not given a claim, and goes on as soon as the answer is there."""
    flights = SingleFlight(LONG)
    claim = flights.begin(b"q")
    other = in_thread(lambda: flights.begin(b"q"))

    assert claim is not None
    assert "still waiting" == other(0.1)
    flights.end(b"q")
    assert other() is None


def test_nobody_waits_for_itself():
    """The same context gets its own claim again, also in contexts copied from it."""
    flights = SingleFlight(LONG)
    claim = flights.begin(b"q")

    assert claim is flights.begin(b"q")
    assert claim is in_thread(lambda: flights.begin(b"q"), context=contextvars.copy_context())()


def test_two_that_wait_for_each_other_do_not():
    """Whoever would close the circle goes on alone, without a claim."""
    flights = SingleFlight(LONG)
    both_began = threading.Barrier(2)

    def make(own, other):
        kept = flights.begin(own)
        both_began.wait(5)
        found = flights.begin(other)
        flights.end(own)
        return kept, found

    makers = in_thread(lambda: make(b"a", b"b")), in_thread(lambda: make(b"b", b"a"))
    results = [result() for result in makers]

    assert "still waiting" not in results
    assert None in [later for _, later in results]


async def test_what_was_looked_up_and_never_answered_does_not_end_sharing():
    """Calls on behalf of the same one, perhaps, wait for each other: one of six asks."""
    flights = SingleFlight(LONG)
    kept = flights.begin(b"a bare look-up")
    begun, answered = [], asyncio.Event()

    async def ask():
        await flights.abegin(b"q")
        if not answered.is_set():
            begun.append(True)
            await answered.wait()
            flights.end(b"q")

    tasks = [asyncio.create_task(ask()) for _ in range(6)]
    await asyncio.sleep(0.1)
    answered.set()
    await asyncio.gather(*tasks)

    assert kept
    assert [True] == begun


def test_calls_on_behalf_of_others_that_would_wait_in_a_circle_do_not():
    """The call of each stands in for another one, and wants what the other's has begun."""
    flights = SingleFlight(LONG)
    both_began = threading.Barrier(2)

    def make(own, other):
        kept = flights.begin(own)
        inner = flights.begin(own + b" within")
        both_began.wait(5)
        found = in_thread(lambda: flights.begin(other), context=contextvars.copy_context())()
        return kept, inner, found

    makers = [in_thread(lambda: make(b"a", b"b")), in_thread(lambda: make(b"b", b"a"))]
    assert not any("still waiting" in result() for result in makers)


class _Turns:
    """Notes what is asked for; another process has the turn until it is let go."""

    def __init__(self):
        self.renewed, self.given_back = [], []

    def take_turn(self, key):
        return True

    def renew_turns(self, keys):
        self.renewed += keys

    def give_turns_back(self, keys):
        self.given_back += keys


def test_turns_are_renewed_until_the_answer_is_there_and_then_given_back():
    """Also those of calls that were dropped; the thread that does it ends with the last one."""
    turns = _Turns()
    flights = SingleFlight(LONG, turns)
    kept = flights.begin(b"q")
    dropped = contextvars.Context()
    dropped.run(flights.begin, b"dropped")
    assert soon(lambda: {b"q", b"dropped"} <= {*turns.renewed})
    del dropped
    gc.collect()
    assert soon(lambda: turns.given_back == [b"dropped"])
    turns.renewed.clear()
    assert soon(lambda: turns.renewed)
    assert {b"q"} == {*turns.renewed}
    flights.end(b"q")

    assert kept
    assert soon(lambda: turns.given_back == [b"dropped", b"q"])
    assert soon(lambda: not flights._is_renewing)


def test_others_do_not_wait_longer_than_said():
    """After its seconds a flight is no longer waited for, and another may begin."""
    flights = SingleFlight(0.1)
    claim = flights.begin(b"q")
    other = in_thread(lambda: flights.begin(b"q"))()

    late = in_thread(lambda: flights.begin(b"q"))()
    assert other is not claim
    assert "still waiting" not in (other, late)
    assert {type(claim)} == {type(begun) for begun in (other, late) if begun is not None}


def test_no_waiting_at_all_with_zero_seconds():
    """Everybody asks."""
    flights = SingleFlight(0)
    kept = flights.begin(b"q")

    assert "still waiting" != in_thread(lambda: flights.begin(b"q"))()
    assert kept


def test_who_gives_up_hands_over_to_one_of_those_who_wait():
    """One of the others begins; the rest waits on, now for that one."""
    flights = SingleFlight(LONG)
    claim = flights.begin(b"q")
    begun = threading.Semaphore(0)
    answered = threading.Event()

    def wait():
        found = flights.begin(b"q")
        if found is not None:
            begun.release()
            answered.wait(5)
            flights.end(b"q")
        return found

    others = [in_thread(wait) for _ in range(4)]
    flights.give_up(b"q", claim)

    assert begun.acquire(timeout=5)
    assert not begun.acquire(timeout=0.2)
    answered.set()
    assert 3 == [other() for other in others].count(None)


def test_only_the_one_who_has_begun_can_give_up():
    """A request that went on alone does not end the wait of others."""
    flights = SingleFlight(LONG)
    kept = flights.begin(b"q")
    other = in_thread(lambda: flights.begin(b"q"))
    flights.give_up(b"q", None)

    assert kept
    assert "still waiting" == other(0.15)
    flights.end(b"q")
    assert other() is None


def test_a_flight_ends_with_the_context_that_began_it():
    """A call that raised is not heard of again; who waits takes its turn soon."""
    flights = SingleFlight(LONG)
    context = contextvars.Context()
    context.run(flights.begin, b"q")
    other = in_thread(lambda: flights.begin(b"q"))
    assert "still waiting" == other(0.1)
    del context
    gc.collect()

    assert other() not in (None, "still waiting")


@pytest.mark.parametrize("end", ["cancelled", "raised"])
async def test_a_flight_ends_with_the_task_that_began_it(end):
    """Also where something still refers to the task."""
    flights = SingleFlight(LONG)
    begun = asyncio.Event()

    async def lead():
        await flights.abegin(b"q")
        begun.set()
        if end == "raised":
            raise ConnectionError
        await asyncio.sleep(LONG)

    leader = asyncio.create_task(lead())
    await begun.wait()
    other = asyncio.create_task(flights.abegin(b"q"))
    await asyncio.sleep(0)
    leader.cancel()
    await asyncio.gather(leader, return_exceptions=True)

    assert await asyncio.wait_for(other, 5) is not None


async def test_tasks_wait_without_a_thread():
    """A hundred tasks wait for one answer; none of them is given a claim."""
    flights = SingleFlight(LONG)
    claim = flights.begin(b"q")
    own = contextvars.Context()
    others = [asyncio.create_task(flights.abegin(b"q"), context=own.copy()) for _ in range(100)]
    await asyncio.sleep(0.05)

    assert claim
    assert not any(task.done() for task in others)
    flights.end(b"q")
    assert [None] * 100 == await asyncio.gather(*others)


def test_memory_of_flights_is_bounded():
    """Requests whose answers never came are forgotten."""
    flights = SingleFlight(LONG)
    for number in range(10_000):
        contextvars.Context().run(flights.begin, str(number).encode())
    gc.collect()

    assert len(flights._flights) <= 4_097
