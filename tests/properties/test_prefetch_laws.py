"""Laws of prefetching, over streams of calls that hypothesis makes."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.runnables.config import ensure_config

from langchain_tokenopt import Prefetcher
from langchain_tokenopt.learn.prefetch.call_shapes import CallMemory, is_shape
from langchain_tokenopt.learn.prefetch.transitions import Step, Transitions, UserTransitions
from langchain_tokenopt.learn.prefetch.waste_gate import WasteGate

PATIENT = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])

ROUNDS = st.lists(
    st.tuples(
        st.sampled_from(["ann", "bob", "cat"]),
        st.lists(st.sampled_from("abcd"), min_size=1, max_size=4),
        st.integers(1, 25),
    ),
    min_size=1,
    max_size=6,
)
"""Users, what they ask for in turn, and how often: habits that begin, end and change."""


@PATIENT
@given(
    st.sampled_from([0.02, 0.1, 0.3, 0.6]),
    st.lists(st.tuples(st.booleans(), st.integers(1, 60)), max_size=25),
    st.integers(0, 3),
)
def test_a_gate_wastes_no_more_than_it_says(max_waste, runs, late):
    """Whatever the outcomes, and however late they are known."""
    gate = WasteGate(max_waste)
    waiting: list[bool] = []
    for right, times in runs:
        for _ in range(times):
            if not gate.is_open:
                gate.judge_shadow(right=right)
            elif gate.may_start():
                gate.start()
                waiting.append(right)
            while len(waiting) > late or (waiting and not gate.may_start()):
                gate.end(used=waiting.pop(0))
            predicted = gate.used + gate.wasted + gate.right_in_shadow / 3
            assert gate.wasted <= max_waste * predicted + 3


@PATIENT
@given(st.lists(st.booleans(), max_size=300))
def test_a_gate_opens_only_after_predictions_that_were_right(outcomes):
    """Never with fewer than eighteen, and at once where these were all."""
    gate = WasteGate(0.1)
    for right in outcomes:
        gate.judge_shadow(right=right)
        if gate.is_open:
            assert gate.right_in_shadow >= 18
            break
    else:
        assert len(outcomes) < 18 or not all(outcomes)


@PATIENT
@given(ROUNDS, st.sets(st.integers(0, 200)))
def test_everything_adds_up_and_nobody_sees_what_is_anothers(rounds, failures):
    """Counts are exact, waste is bounded, results are the caller's own, memory is bounded."""
    loads = []

    def load(key):
        loads.append(key)
        if len(loads) in failures:
            raise OSError("down")
        return key, ensure_config().get("metadata", {}).get("user_id")

    with Prefetcher(loader=load, max_held=2) as prefetcher:
        for user, keys, times in rounds:
            for key in times * keys:
                try:
                    found = prefetcher.get(key, user=user)
                except OSError:  # the call's own load failed
                    found = key, user
                assert found in ((key, user), (key, None))
                prefetcher.wait()
                stats = prefetcher.stats()
                assert stats.started == stats.used + stats.wasted + stats.outstanding
                assert stats.outstanding <= 2
                users = len({user for user, _, _ in rounds})
                allowed = 0.1 * (stats.started + stats.right_in_shadow) + 3.5 * users
                assert stats.wasted <= allowed
                assert stats.failed <= stats.wasted
    after = prefetcher.stats()
    assert 0 == after.outstanding
    assert after.started == after.used + after.wasted
    assert len(loads) == after.calls - after.used + after.started


STEPS = st.lists(
    st.tuples(st.sampled_from("uvwxyz"), st.sampled_from("abcde")), min_size=1, max_size=120
)


def learned(steps, users=None):
    """A model that has seen steps of users in turn, and their histories."""
    model, histories = Transitions(), {}
    for user, symbol in steps:
        if users is None or user in users:
            history = histories.setdefault(user, [])
            model.observe(user, "agent", history, symbol)
            history.append(Step(symbol, "key"))
    return model, histories


@PATIENT
@given(STEPS)
def test_chances_are_chances(steps):
    """They are from 0 to 1, and together no more than 1, whoever asks."""
    model, histories = learned(steps)
    for user in [*histories, "stranger"]:
        chances = model.predict(user, "agent", histories.get(user, []), most=100)
        assert all(-1e-9 <= chance <= 1 + 1e-9 for _, chance in chances)
        assert sum(chance for _, chance in chances) <= 1 + 1e-6


@PATIENT
@given(STEPS)
def test_a_stranger_learns_only_what_three_have_done(steps):
    """What fewer users have done is foretold to none of the others."""
    model, _ = learned(steps)
    doers = {}
    for user, symbol in steps:
        doers.setdefault(symbol, set()).add(user)
    for symbol, _ in model.predict("stranger", "agent", [], most=100):
        assert len(doers[symbol]) >= 3


@PATIENT
@given(STEPS)
def test_who_is_forgotten_was_never_there(steps):
    """Others are foretold the same as without him."""
    model, histories = learned(steps)
    model.forget(["u"])
    without, _ = learned(steps, set("vwxyz"))
    for user in set(histories) - {"u"}:
        expected = without.predict(user, "agent", histories[user], most=100)
        found = model.predict(user, "agent", histories[user], most=100)
        assert [s for s, _ in expected] == [s for s, _ in found]
        assert [p for _, p in expected] == pytest.approx([p for _, p in found])


@PATIENT
@given(st.lists(st.text(max_size=40), max_size=80), st.sampled_from([200, 5_000]))
def test_a_model_survives_its_json(symbols, most_bytes):
    """What is written can be read, is as small as asked, and says the same."""
    model, history = UserTransitions(), []
    for symbol in symbols:
        model.observe(history, symbol)
        history.append(Step(symbol, "key"))
    written = model.as_json(most_bytes)
    read = UserTransitions.from_json(written)
    for context, counts in read.followers.items():
        assert counts == pytest.approx(model.followers[context], abs=1e-3)
    if most_bytes == 5_000 and sum(map(len, symbols)) < 100:
        assert read.followers.keys() == model.followers.keys()


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_any_json_is_read_or_refused(value):
    """What another release, or another hand, has written raises one kind of error."""
    for read in (
        UserTransitions.from_json,
        lambda v: UserTransitions.from_json({"symbols": v, "followers": v}, is_shape),
        lambda v: UserTransitions.from_json({"symbols": ["a"], "followers": v}),
        lambda v: WasteGate.from_json(v, 0.1),
    ):
        with suppress(ValueError):
            assert isinstance(read(value), UserTransitions | WasteGate)
    memory = CallMemory()
    for text in (json.dumps(value), json.dumps(["a", value], separators=(",", ":"))):
        if is_shape(text):
            memory.call(text)
            memory.place(text)


@PATIENT
@given(
    st.sampled_from([0.02, 0.1, 0.6]),
    st.lists(st.tuples(st.booleans(), st.integers(1, 40), st.booleans()), max_size=20),
)
def test_restarts_open_no_gate(max_waste, runs):
    """A gate that goes on elsewhere is open if it was, and closes at the first waste."""
    gate = WasteGate(max_waste)
    for right, times, is_restarted in runs:
        for _ in range(times):
            if gate.is_open:
                gate.start()
                gate.end(used=right)
            else:
                gate.judge_shadow(right=right)
        if is_restarted:
            was_open = gate.is_open
            gate = WasteGate.from_json(json.loads(json.dumps(gate.as_json())), max_waste)
            assert was_open == gate.is_open
            if was_open:
                again = WasteGate.from_json(gate.as_json(), max_waste)
                again.start()
                again.end(used=False)
                assert not again.is_open
