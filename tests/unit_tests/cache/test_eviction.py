"""Who leaves first."""

from __future__ import annotations

import random

import pytest

from langchain_tokenopt.cache.eviction import Use, policy_named


def key(number):
    return number.to_bytes(2, "big") + bytes(14)


@pytest.mark.parametrize(
    ("name", "leaves"), [("lru", 2), ("fifo", 1), ("lfu", 3), ("ttl", 2), ("cost", 1)]
)
def test_the_entry_of_the_lowest_value_leaves(name, leaves):
    """Each policy names its own victim among the same three entries."""
    policy = policy_named(name, 3)
    policy.insert(key(1), Use(tokens=1, size=100, expires=9.0))
    policy.insert(key(2), Use(tokens=500, size=100, expires=3.0))
    policy.insert(key(3), Use(tokens=900, size=100, expires=6.0))
    policy.touch(key(2))
    policy.touch(key(3)) if name != "lfu" else policy.touch(key(2))
    policy.touch(key(1))

    assert key(leaves) == policy.victim()


@pytest.mark.parametrize("name", ["adaptive", "lru", "lfu", "ttl", "cost", "fifo"])
def test_every_entry_leaves_once(name):
    """Victims are entries that are in, until none is left."""
    policy = policy_named(name, 50)
    inside = {key(n) for n in range(50)}
    for n in range(50):
        policy.insert(key(n), Use())
    rng = random.Random(1)
    for _ in range(300):
        policy.touch(key(rng.randrange(60)))
    while inside:
        victim = policy.victim()
        inside.remove(victim)
        policy.remove(victim)

    assert policy.victim() is None


def hits(name, trace, room):
    policy, inside, found = policy_named(name, room), set(), 0
    for number in trace:
        k = key(number)
        if k in inside:
            found += 1
            policy.touch(k)
            continue
        policy.insert(k, Use())
        inside.add(k)
        if len(inside) > room:
            victim = policy.victim()
            policy.remove(victim)
            inside.remove(victim)
    return found


def zipf(count, size, seed, shift=0):
    rng = random.Random(seed)
    weights = [1 / (n + 1) for n in range(size)]
    return [(n + shift) % 65_536 for n in rng.choices(range(size), weights, k=count)]


def test_adaptive_keeps_favourites_through_a_scan():
    """A scan of things asked once does not wash out what is asked often."""
    trace = []
    for part, start in enumerate(range(0, 20_000, 500)):
        trace += zipf(500, 1_000, part)
        trace += range(10_000 + start // 2, 10_000 + start // 2 + 250)

    assert hits("adaptive", trace, 100) > 1.1 * hits("lru", trace, 100)


def test_adaptive_follows_a_change_of_favourites():
    """When other things are asked, yesterday's favourites make room."""
    trace = [n for part in range(8) for n in zipf(4_000, 1_000, part, shift=3_000 * part)]

    assert hits("adaptive", trace, 100) > 1.1 * hits("lfu", trace, 100)


def test_an_unknown_policy_is_named():
    """The message lists the policies."""
    with pytest.raises(ValueError, match="eviction must be one of adaptive, lru"):
        policy_named("random", 3)
