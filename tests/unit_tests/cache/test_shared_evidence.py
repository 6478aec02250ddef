"""Processes that share a cache decide by what all of them were asked and have learned."""

from __future__ import annotations

import json
import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_tokenopt.cache.features import FEATURES
from langchain_tokenopt.cache.fields import Fields
from langchain_tokenopt.cache.probability import AnswerModel
from tests.support.caches import make_cache

WEAK, STRONG = np.full(len(FEATURES), 0.2), np.ones(len(FEATURES))
DOMAIN = b"d"


class Worker:
    """The evidence of one process, and what it tells the others."""

    def __init__(self, seed=0, limit=0.01, audit_share=0.0):
        self.fields = Fields(limit, audit_share, random.Random(seed), limit)
        self._labels = []
        self.heard = 0

    def judge(self, vector, features=None):
        field = self.fields.of(DOMAIN, vector)
        field.policy.count()
        return field, None if features is None else field.policy.judge(features)

    def learn(self, field, features, right, *, audit=False):
        field.policy.learn(features, right, audit=audit)
        row = ["label", field.name, features.round(4).tolist(), bool(right), audit, ["word"]]
        self._labels += [*field.rows(), row]

    def tell(self):
        places, asked = self.fields.traffic()
        told, self._labels = [*self._labels, *places, *asked], []
        return json.loads(json.dumps(told))


def exchange(workers, told):
    """Let everybody tell what is new, and hear what the others have told, in one order."""
    for number, worker in enumerate(workers):
        told.append((number, worker.tell()))
    for number, worker in enumerate(workers):
        for teller, rows in told[worker.heard :]:
            if teller != number:
                worker.fields.restore(rows)
        worker.heard = len(told)


def unit(*numbers):
    vector = np.array(numbers, dtype=np.float32)
    return vector / np.linalg.norm(vector)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.booleans(), st.sampled_from([0.1, 0.5, 0.9])), max_size=60
    ),
    st.sets(st.integers(0, 60)),
)
def test_every_worker_knows_what_all_were_asked(schedule, pauses):
    """Each request counts once in each, whoever was asked and whenever they tell."""
    workers, told = [Worker(seed) for seed in range(4)], []
    judged = Counter()
    for turn, (number, is_judged, value) in enumerate(schedule):
        features = np.full(len(FEATURES), value) if is_judged else None
        workers[number].judge(unit(1, 0.1 * number), features)
        judged[value] += is_judged
        if turn in pauses:
            exchange(workers, told)
    exchange(workers, told)
    exchange(workers, told)

    for worker in workers:
        policies = [field.policy for field in worker.fields]
        assert len(schedule) == sum(policy.requests for policy in policies)
        seen = Counter(
            round(float(row[0]), 4) for policy in policies for row in policy._asked.features
        )
        assert +judged == seen


def strength(features):
    return float(AnswerModel().logits(features[None])[0])


def promise(workers, limit, every, requests=2_000):
    """Put traffic that is wrong more often than the prior thinks through some workers."""
    rng, told = random.Random(3), []
    team = [Worker(seed, limit, audit_share=0.02) for seed in range(workers)]
    hits = wrong = 0
    for number in range(requests):
        features = WEAK + rng.random() * (STRONG - WEAK)
        right = rng.random() > 1 / (1 + np.exp(strength(features) - 0.5))
        worker = rng.choice(team)
        field, judgement = worker.judge(unit(1, 0), features)
        if judgement.serve:
            hits, wrong = hits + 1, wrong + (not right)
        else:
            worker.learn(field, features, right, audit=judgement.audit)
        if number % every == 0:
            exchange(team, told)
    return hits / requests, wrong / requests


@pytest.mark.exhaustive
@pytest.mark.parametrize("limit", [0.01, 0.05])
def test_eight_workers_keep_the_promise_as_one_does(limit):
    """Together; and what they tell each other late makes them careful, never bold."""
    one, wrong = promise(1, limit, every=20)
    assert wrong <= 1.25 * limit
    together, wrong = promise(8, limit, every=100)
    assert wrong <= 1.25 * limit
    assert together > one - 0.05


def test_a_field_that_two_have_begun_at_once_is_one():
    """By whichever name its labels come; also for whoever starts afterwards."""
    workers, told = [Worker(seed) for seed in range(2)], []
    begun = [worker.judge(unit(1, 0.1 * n), STRONG)[0] for n, worker in enumerate(workers)]
    for worker, field in zip(workers, begun, strict=True):
        for _ in range(6):
            worker.learn(field, STRONG, True)
    exchange(workers, told)
    late = Worker()
    exchange([*workers, late], told)

    assert begun[0].name != begun[1].name
    for worker in (*workers, late):
        assert [12] == [field.policy.labels for field in worker.fields]


def test_fields_that_one_has_told_apart_stay_apart():
    """Though their centres are near: whoever began the second knew of the first."""
    one, told = Worker(), []
    first, _ = one.judge(unit(1, 0, 0), STRONG)
    second, _ = one.judge(unit(0.25, 1, 0), STRONG)
    for _ in range(20):
        one.judge(unit(0.6, 1, 0), STRONG)
    assert first.centre @ second.centre > 0.3
    for field in (first, second):
        one.learn(field, STRONG, True)
    other = Worker()
    exchange([one, other], told)

    assert {first.name, second.name} == {field.name for field in other.fields}


def test_a_field_of_an_earlier_release_is_taken_as_it_is():
    """Nothing says what was known when it began."""
    fields = Fields(0.01, 0.0, random.Random(0), 0.01)
    fields.restore([["field", name, "00", 1, [1.0, 0.0]] for name in ("a", "b")])

    assert ["a", "b"] == [field.name for field in fields]


@pytest.mark.parametrize(
    "row",
    [
        ["asked", "a", 5],
        ["asked", "a", "many", []],
        ["asked", "a", -1, []],
        ["asked", "a", 0, [[0.5] * len(FEATURES)]],
        ["asked", "a", 9, [[float("nan")] * len(FEATURES)]],
        ["asked", "a", 9, [[0.5]]],
        ["asked", "unknown", 9, []],
        ["asked", "a", float("inf"), []],
        ["asked", "a", 2.5, []],
        ["apart", "a"],
        ["apart", "a", 7],
    ],
)
def test_what_is_no_traffic_counts_nothing(row):
    """Whatever stands in a file or a table."""
    fields = Fields(0.01, 0.0, random.Random(0), 0.01)
    fields.restore([["field", "a", "00", 1, [1.0, 0.0]], row])

    assert [0] == [field.policy.requests for field in fields]
    assert [0] == [len(field.policy._asked) for field in fields]


def test_what_could_not_be_told_is_told_later(tmp_path, monkeypatch):
    """Labels are not lost where the file fails for a moment."""
    cache = make_cache(tmp_path / "c.db")
    cache._learning._unwritten.append(["words", "00", True])
    keep = cache._repository._file.keep_evidence
    monkeypatch.setattr(cache._repository._file, "keep_evidence", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cache._learning.write()
    monkeypatch.setattr(cache._repository._file, "keep_evidence", keep)
    cache.close()
    other = make_cache(tmp_path / "c.db")

    assert [["words", "00", True]] == [row for row in _rows(other) if row[0] == "words"]
    other.close()


def _rows(cache):
    cache._repository._file._evidence.seen = 0
    return cache._repository._file.new_evidence()


@pytest.mark.parametrize("kept", [3])
def test_traffic_does_not_push_out_what_was_learned(tmp_path, monkeypatch, kept):
    """Of each a number of its own is kept."""
    from langchain_tokenopt.cache import file_evidence

    monkeypatch.setattr(file_evidence, "_KEPT_BATCHES", (1_000, kept))
    cache = make_cache(tmp_path / "c.db")
    cache._repository.keep_evidence([["words", "00", True]], [])
    for _ in range(200):
        cache._repository.keep_evidence([], [["asked", "a", 1, []]])
    rows = Counter(row[0] for row in _rows(cache))
    cache.close()

    assert 1 == rows["words"]
    assert kept <= rows["asked"] <= kept + 64
