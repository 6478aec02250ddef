"""Who leaves first."""

from __future__ import annotations

import random
import tracemalloc

import pytest

from langchain_tokenopt.cache.adaptive_eviction import RULES, AdaptivePolicy, FadingPolicy, Rule
from langchain_tokenopt.cache.eviction import policy_for
from langchain_tokenopt.cache.eviction_policy import Use


def key(number):
    return number.to_bytes(2, "big") + bytes(14)


@pytest.mark.parametrize(("name", "leaves"), [("lru", 2), ("fifo", 1), ("lfu", 3), ("ttl", 2)])
def test_the_entry_of_the_lowest_value_leaves(name, leaves):
    """Each policy names its own victim among the same three entries; a fourth has just come."""
    policy = policy_for(name, 3)
    policy.insert(key(1), Use(tokens=1, size=100, expires=9.0))
    policy.insert(key(2), Use(tokens=500, size=100, expires=3.0))
    policy.insert(key(3), Use(tokens=900, size=100, expires=6.0))
    policy.touch(key(2))
    policy.touch(key(3)) if name != "lfu" else policy.touch(key(2))
    policy.touch(key(1))
    policy.insert(key(4), Use(tokens=0, size=100, expires=1.0))

    assert key(leaves) == policy.victim()


def test_cost_weighs_uses_by_tokens_saved_per_byte():
    """Two uses of a long answer outweigh five of one that is cheap for its size."""
    policy = policy_for("cost", 10)
    for number in range(1, 10):
        policy.insert(key(number), Use(tokens=500 if number != 4 else 20, size=100))
        for _ in range(5 if number == 4 else 2):
            policy.touch(key(number))
    policy.insert(key(10), Use(tokens=500, size=100))
    policy.insert(key(11), Use(tokens=500, size=100))

    assert key(4) == policy.victim()


@pytest.mark.parametrize("name", ["adaptive", "lru", "lfu", "ttl", "cost", "fifo"])
def test_every_entry_leaves_once(name):
    """Victims are entries that are in, until none is left."""
    policy = policy_for(name, 50)
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
    return played(policy_for(name, room), trace, room)


def played(policy, trace, room):
    """Return how many requests are answered when *room* entries fit."""
    inside, found = set(), 0
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


@pytest.mark.parametrize("name", ["adaptive", "lru", "lfu", "ttl", "cost", "fifo"])
@pytest.mark.parametrize("newcomers", [1, 2, 3])
@pytest.mark.parametrize("room", [20, 500])
def test_newcomers_get_a_chance(name, newcomers, room):
    """In a cache full of old favourites a new question, or a few in turn, are soon answered."""
    favourites = list(range(room)) * 8
    trace = favourites + [60_000 + n % newcomers for n in range(50 * newcomers)]

    assert 40 * newcomers <= hits(name, trace, room) - hits(name, favourites, room)


@pytest.mark.parametrize("name", ["lfu", "cost"])
def test_newcomers_do_not_push_out_favourites(name):
    """Ten times the room of things asked once leaves most of what is asked often in place."""
    favourites = list(range(50)) * 8
    trace = favourites + list(range(10_000, 10_500)) + list(range(50))

    assert 40 <= hits(name, trace, 50) - hits(name, favourites, 50)


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


def test_adaptive_holds_on_to_part_of_a_loop():
    """A loop longer than the room is answered in part; by recency alone it never is."""
    trace = [number % 130 for number in range(6_000)]

    assert hits("lru", trace, 100) == 0
    assert hits("adaptive", trace, 100) > 0.7 * len(trace)


def recency(count, mean):
    rng = random.Random(4)
    trace = [0]
    while len(trace) < count:
        back = int(rng.expovariate(1 / mean)) % len(trace)
        trace.append(len(trace) if rng.random() < 0.4 else trace[-1 - back])
    return trace


def test_adaptive_follows_recency():
    """When only what was just asked is asked again, the newest are kept."""
    trace = recency(6_000, 40)

    assert hits("adaptive", trace, 50) > 0.97 * hits("lru", trace, 50)


def test_adaptive_leaves_a_rule_for_a_better_one():
    """It starts with a long memory, and forgets soon once that answers more."""
    policy = AdaptivePolicy(50)
    half_lives = [policy.rule.half_life]
    played(policy, recency(6_000, 40), 50)
    half_lives.append(policy.rule.half_life)

    assert [True, False] == [half_life > 2 for half_life in half_lives]


def test_a_lead_of_a_few_hits_is_chance():
    """A rule that has hit a few times more is not followed yet."""
    policy = AdaptivePolicy(50)
    first = policy.rule
    played(policy, recency(150, 40), 50)

    assert first == policy.rule


def test_what_did_well_long_ago_is_forgotten():
    """After a long loop the rule for loops is left for one that suits recency."""
    loop = [number % 65 for number in range(6_000)]
    strict = []
    for trace in (loop, [*loop, *(number + 100 for number in recency(5_000, 40))]):
        policy = AdaptivePolicy(50)
        played(policy, trace, 50)
        strict.append(policy.rule.strict)

    assert [True, False] == strict


STRICT = Rule(half_life=16, window=0, strict=True)


def full(rule):
    """Entries 0 to 3, of which 0 and 1 have settled; 2 has left."""
    policy = FadingPolicy(4, rule)
    for number in range(5):
        policy.insert(key(number), Use())
    policy.remove(key(2))
    return policy


def test_a_newcomer_that_was_never_asked_before_leaves():
    """Under a strict rule what is asked once pushes out nothing that has settled."""
    policy = full(STRICT)
    policy.insert(key(5), Use())

    assert key(3) == policy.victim()


def test_a_newcomer_that_was_asked_before_stays():
    """What was asked twice is worth more than what was asked once and longer ago."""
    policy = full(STRICT)
    policy.insert(key(2), Use())
    for number in (5, 6):
        policy.remove(policy.victim())
        policy.insert(key(number), Use())

    assert key(0) == policy.victim()


def test_an_open_rule_takes_every_newcomer_in():
    """Whatever was used last is worth more than what was used as often before."""
    policy = full(Rule(half_life=16, window=0, strict=False))
    policy.insert(key(5), Use())

    assert key(0) == policy.victim()


def test_the_newest_entry_stays_until_the_next():
    """Whoever asks the same thing twice in a row is answered."""
    policy = policy_for("adaptive", 30)
    for number in range(300):
        policy.insert(key(number), Use(tokens=50, size=400))
        if number >= 30:
            victim = policy.victim()
            policy.remove(victim)
            assert key(number) != victim


def test_a_huge_newcomer_does_not_push_out_the_rest():
    """With a cap in bytes one entry of the size of all others leaves itself."""
    policy = policy_for("adaptive", 1_000)
    for number in range(50):
        policy.insert(key(number), Use(tokens=100, size=1_000))
    policy.insert(key(50), Use(tokens=100, size=50_000))
    leaves = []
    held = 100_000
    while held > 51_000:
        leaves.append(policy.victim())
        policy.remove(leaves[-1])
        held -= 50_000 if leaves[-1] == key(50) else 1_000

    assert key(50) == leaves[-1]
    assert len(leaves) <= 3


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_an_entry_that_saves_little_per_byte_leaves_first(rule):
    """Among entries of equal use the one of the fewest tokens per byte is the victim."""
    policy = FadingPolicy(20, rule)
    for number in range(20):
        policy.insert(key(number), Use(tokens=10 if number == 7 else 1_000, size=500))
    for number in range(20):
        policy.touch(key(number))
    policy.insert(key(99), Use(tokens=1_000, size=500))
    policy.insert(key(7), Use(tokens=10, size=500))
    for number in range(20):
        policy.touch(key(number))
    for number in range(30, 40):
        policy.insert(key(number), Use(tokens=1_000, size=500))
        policy.touch(key(number))

    assert key(7) == policy.victim()


def test_uses_of_an_earlier_run_count():
    """An entry read back from the file is worth its hits so far."""
    policy = FadingPolicy(10, Rule(half_life=16, window=0, strict=False))
    for number in range(10):
        policy.insert(key(number), Use(hits=0 if number == 6 else 40))
    for number in range(20, 23):
        policy.insert(key(number), Use())

    assert key(6) == policy.victim()


def test_the_room_is_learned_when_only_bytes_are_capped():
    """The rules are compared for the entries that fit, not for those that were announced."""
    trace = recency(6_000, 40)
    informed = hits("adaptive", trace, 50)

    assert played(policy_for("adaptive", 100_000), trace, 50) > 0.95 * informed > 0


@pytest.mark.parametrize(("tick", "weaker"), [(9, 2), (10, 1)])
def test_a_use_one_half_life_ago_counts_half(tick, weaker):
    """Two uses at once and one use a half-life later, of eight requests, are worth the same."""
    policy = FadingPolicy(8, Rule(half_life=1, window=0, strict=False))
    policy.insert(key(1), Use())
    policy.touch(key(1))
    for _ in range(3, tick):
        policy.touch(key(99))
    policy.insert(key(2), Use())
    for number in (3, 4, 5):
        policy.insert(key(number), Use())

    assert key(weaker) == policy.victim()


def test_the_window_keeps_what_was_asked_last():
    """Among newcomers the one whose last request is oldest is judged first."""
    policy = FadingPolicy(10, Rule(half_life=16, window=0.3, strict=True))
    for number in range(10):
        policy.insert(key(number), Use())
    policy.touch(key(7))
    policy.insert(key(10), Use())

    assert key(8) == policy.victim()


@pytest.mark.parametrize("name", ["adaptive", "lru", "lfu", "ttl", "cost", "fifo"])
def test_entries_that_expire_leave_nothing_behind(name):
    """Memory does not grow with entries that come and expire while the next victim stays."""
    policy = policy_for(name, 20)
    for number in range(10):
        policy.insert(key(number), Use(expires=0.0))
    tracemalloc.start()
    try:
        for number in range(3_000):
            policy.insert(key(50 + number % 500), Use(expires=1.0))
            policy.remove(key(50 + (number - 5) % 500))
            if number == 1_000:
                before = tracemalloc.get_traced_memory()[0]
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()

    assert grown < 30_000


def test_an_unknown_policy_is_named():
    """The message lists the policies."""
    with pytest.raises(ValueError, match="eviction must be one of adaptive, lru"):
        policy_for("random", 3)
