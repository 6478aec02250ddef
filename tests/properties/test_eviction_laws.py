"""Laws of eviction: what must hold for every policy and every order of events."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from langchain_tokenopt.cache.adaptive_eviction import AdaptivePolicy
from langchain_tokenopt.cache.eviction import policy_for
from langchain_tokenopt.cache.eviction_policy import Use

pytestmark = pytest.mark.exhaustive

NAMES = ["adaptive", "lru", "lfu", "ttl", "cost", "fifo"]
NUMBERS = st.integers(0, 30)
TRACES = st.lists(NUMBERS, max_size=300)
SIZES = st.integers(1, 10_000)


def key(number):
    return number.to_bytes(2, "big") * 8


def victims(policy, trace, room):
    """Play a trace and return who left, in order."""
    inside, left = set(), []
    for number in trace:
        k = key(number)
        if k in inside:
            policy.touch(k)
            continue
        policy.insert(k, Use())
        inside.add(k)
        if len(inside) > room:
            left.append(policy.victim())
            policy.remove(left[-1])
            inside.remove(left[-1])
    return left


class AnyPolicy(RuleBasedStateMachine):
    """Entries of all sizes come, are used, expire and leave, in any order."""

    @initialize(name=st.sampled_from(NAMES), capacity=st.integers(1, 200))
    def start(self, name, capacity):
        self.policy = policy_for(name, capacity)
        self.inside = set()

    @rule(number=NUMBERS, tokens=st.integers(0, 5_000), size=SIZES, hits=st.integers(0, 99))
    def insert(self, number, tokens, size, hits):
        self.policy.insert(key(number), Use(tokens, size, float(number), hits))
        self.inside.add(key(number))

    @rule(number=NUMBERS)
    def touch(self, number):
        self.policy.touch(key(number))

    @rule(number=NUMBERS)
    def remove(self, number):
        self.policy.remove(key(number))
        self.inside.discard(key(number))

    @rule(count=st.integers(1, 40))
    def evict(self, count):
        for _ in range(min(count, len(self.inside))):
            victim = self.policy.victim()
            self.inside.remove(victim)
            self.policy.remove(victim)

    @invariant()
    def a_victim_is_held_and_asking_changes_nothing(self):
        """There is one exactly when something is held."""
        if hasattr(self, "policy"):
            victim = self.policy.victim()
            assert (victim in self.inside) == bool(self.inside)
            assert victim == self.policy.victim()


TestAnyPolicy = AnyPolicy.TestCase


@pytest.mark.parametrize("name", NAMES)
@given(trace=TRACES, room=st.integers(1, 12))
def test_the_same_requests_have_the_same_victims(name, trace, room):
    """Nothing depends on chance, or on what ran before."""
    first, second = (victims(policy_for(name, room), trace, room) for _ in range(2))

    assert first == second


@given(trace=TRACES, room=st.integers(1, 12), announced=st.integers(1, 10_000))
def test_memory_is_bounded_by_the_room(trace, room, announced):
    """What is noted about entries in and out does not grow with the requests."""
    policy = AdaptivePolicy(announced)
    victims(policy, trace * 4, room)
    known = policy._followed
    trials = max(trial.room for trial in policy._trials)

    assert len(known) <= room
    assert len(known._lowest._heap) <= 2 * room + 64
    assert len(known._gone) + len(known._gone_longer) <= 4 * max(known.room, 1)
    assert all(len(trial) <= trials for trial in policy._trials)
