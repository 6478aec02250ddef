"""Serve or ask: by evidence, within the promise."""

from __future__ import annotations

import random
from functools import cache

import numpy as np
import pytest

from langchain_tokenopt.cache import serving_policy
from langchain_tokenopt.cache.confidence_bounds import upper_bound
from langchain_tokenopt.cache.features import FEATURES, Neighbour, features_of
from langchain_tokenopt.cache.guards import profile_of
from langchain_tokenopt.cache.probability import AnswerModel, design_matrix
from langchain_tokenopt.cache.serving_policy import ServingPolicy

pytestmark = pytest.mark.exhaustive


def features(**values):
    return np.array([float(values.get(name, 0.0)) for name in FEATURES])


@cache
def candidate(strength):
    """Features whose prior log-odds are *strength*: somewhere between a weak pair and a strong."""
    weak = features(cosine=0.5, margin=0.0, shared_stems=0.1, length_gap=0.5)
    strong = features(
        cosine=1.0,
        margin=0.6,
        stored_margin=0.6,
        agreement=1.0,
        second=1.0,
        shared_stems=1.0,
        covered_stems=1.0,
        shared_trigrams=1.0,
    )
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        found = weak + middle * (strong - weak)
        if AnswerModel().logits(found[None])[0] < strength:
            low = middle
        else:
            high = middle
    return found


@pytest.mark.parametrize(
    ("events", "trials", "expected"),
    [(0, 10, 0.2589), (1, 10, 0.3942), (5, 100, 0.1023), (0, 1000, 0.00299), (50, 100, 0.5866)],
)
def test_the_bound_is_that_of_clopper_and_pearson(events, trials, expected):
    """Known values of the exact one-sided 95 % bound."""
    assert upper_bound(events, trials, 0.95) == pytest.approx(expected, rel=2e-3)


def test_agreeing_neighbours_and_a_clear_lead_raise_the_probability():
    """Two neighbours with the answer and a distant rival beat one neighbour with a near rival."""
    asked, stored = profile_of("where is my card"), profile_of("where might my card be")
    alone = [Neighbour(1, 0.8, 1), Neighbour(2, 0.79, 2)]
    agreed = [Neighbour(1, 0.8, 1), Neighbour(3, 0.79, 1), Neighbour(2, 0.4, 2)]
    rows = np.array([features_of(n, [], asked, stored, ()) for n in (alone, agreed)])

    weak, strong = AnswerModel().logits(rows)
    assert strong > weak + 1


def test_doubts_that_are_switched_off_do_not_count():
    """Only the doubts that are named lower the probability."""
    one, other = profile_of("can I feed my dog oil"), profile_of("can I feed my cat oil")
    near = [Neighbour(1, 0.9, 1)]
    at = FEATURES.index("exchanged_word")

    assert 1.0 == features_of(near, [], one, other, ["exchanged_word"])[at]
    assert 0.0 == features_of(near, [], one, other, [])[at]


def test_nothing_is_served_before_there_is_evidence():
    """However sure the prior is, which knows nothing of this field."""
    policy = ServingPolicy(rng=random.Random(0), audit_share=0.0)

    assert not policy.judge(candidate(0.0)).serve
    assert not policy.judge(candidate(9.0)).serve


def test_what_proves_right_is_served_by_and_by():
    """Right answers below the threshold lower it."""
    policy = ServingPolicy(rng=random.Random(0), audit_share=0.0)
    served = []
    for _ in range(1_500):
        policy.count()
        judgement = policy.judge(candidate(1.0))
        served.append(judgement.serve)
        if not judgement.serve:
            policy.learn(candidate(1.0), True)

    assert not any(served[:40])
    assert sum(served[-100:]) > 80


@pytest.mark.parametrize("limit", [0.01, 0.05])
def test_wrong_answers_per_request_stay_within_the_promise(limit):
    """On traffic that is wrong more often than the prior thinks, at every score."""
    rng = random.Random(3)
    policy = ServingPolicy(max_wrong_per_request=limit, rng=random.Random(1))
    wrong = 0
    for _ in range(4_000):
        strength = rng.uniform(-2, 5)
        right = rng.random() > 1 / (1 + np.exp(strength - 0.5))
        policy.count()
        judgement = policy.judge(candidate(strength))
        if judgement.serve:
            wrong += not right
        else:
            policy.learn(candidate(strength), right, audit=judgement.audit)

    assert wrong <= 1.25 * limit * 4_000


def test_audits_are_repeatable():
    """The same seed asks about the same hits."""

    def audits(seed):
        policy = ServingPolicy(rng=random.Random(seed), audit_share=0.3)
        for _ in range(200):
            policy.count()
            policy.learn(candidate(7.0), True)
        return [policy.judge(candidate(7.0)).audit for _ in range(50)]

    assert audits(5) == audits(5)
    assert 5 < sum(audits(5)) < 40


def test_drift_reopens_the_question():
    """When answers that were right turn out wrong, serving stops."""
    policy = ServingPolicy(rng=random.Random(0), audit_share=0.3)
    for _ in range(1_500):
        policy.count()
        if not policy.judge(candidate(3.0)).serve:
            policy.learn(candidate(3.0), True)
    assert policy.peek(candidate(3.0)).serve
    for _ in range(1_500):
        judgement = policy.judge(candidate(3.0))
        if not judgement.serve:
            policy.learn(candidate(3.0), False, audit=judgement.audit)

    assert policy.drifts > 0
    assert not policy.peek(candidate(3.0)).serve


def test_the_model_moves_from_its_prior_with_evidence():
    """Where a feature decides, the odds come to follow it."""
    rng = np.random.default_rng(0)
    x = np.zeros((800, len(FEATURES)))
    x[:, 0] = rng.random(800)
    model = AnswerModel()
    model.fit(x, x[:, 0] > 0.5)

    before, after = AnswerModel().logits(x[:2]), model.logits(x[:2])
    assert x[1, 0] < 0.5 < x[0, 0]
    assert after[0] - after[1] > before[0] - before[1] + 1


def test_log_odds_are_the_weighted_sum_of_features_and_products():
    """Laid out as a matrix, before and after the model has moved, the weights say the same."""
    x = np.random.default_rng(0).random((60, len(FEATURES)))
    model = AnswerModel()
    for _ in range(2):
        assert design_matrix(x) @ model.weights == pytest.approx(model.logits(x), abs=1e-12)
        model.fit(x, x[:, 1] > 0.5)


@pytest.mark.parametrize("name", ["max_wrong_per_request", "audit_share"])
def test_shares_are_checked(name):
    """A share of 1 or more is refused by its name."""
    with pytest.raises(ValueError, match=f"{name} must be from 0 to below 1, got 1.5"):
        ServingPolicy(**{name: 1.5})


def test_strength_is_what_the_tests_say():
    """The prior's log-odds of a made-up candidate are its strength."""
    logits = AnswerModel().logits(np.array([candidate(s) for s in (-2, 0, 2, 5)]))

    assert logits == pytest.approx([-2, 0, 2, 5], abs=1e-6)


def test_a_wrong_audit_counts_at_once():
    """The very next request is judged by it."""
    policy = ServingPolicy(rng=random.Random(0), audit_share=0.0)
    for _ in range(300):
        policy.count()
        policy.learn(candidate(4.0), True)
    assert policy.peek(candidate(4.0)).serve
    thresholds = [policy.peek(candidate(4.0)).threshold]
    while policy.peek(candidate(4.0)).serve:
        policy.learn(candidate(4.0), False, audit=True)
        thresholds.append(policy.peek(candidate(4.0)).threshold)

    assert len(thresholds) < 20
    assert thresholds[-1] > thresholds[0]


def test_a_kind_of_difference_needs_evidence_of_its_own():
    """A word more is no "must" for "may": each kind is opened, and closed again, by its labels."""
    policy = ServingPolicy(rng=random.Random(0), audit_share=0.0)
    modal = frozenset(["word", "modal"])
    for _ in range(300):
        policy.count()
        policy.learn(candidate(4.0), True)
    assert policy.peek(candidate(4.0)).serve
    assert ("modal", False) == (
        policy.peek(candidate(4.0), modal).closed,
        policy.peek(candidate(4.0), modal).serve,
    )
    for _ in range(5):
        policy.learn(candidate(4.0), True, modal)
    assert policy.peek(candidate(4.0), modal).serve
    for _ in range(3):
        policy.learn(candidate(4.0), False, modal)
    assert not policy.peek(candidate(4.0), modal).serve


def test_a_kind_that_is_all_the_difference_needs_evidence_where_it_stood_alone():
    """Where nothing but "may" and "must" differs, they are what is asked."""
    policy = ServingPolicy(rng=random.Random(0), audit_share=0.0)
    for _ in range(300):
        policy.count()
        policy.learn(candidate(4.0), True, frozenset(["word", "modal"]))
    alone, with_verb = frozenset(["modal"]), frozenset(["modal", "tense"])
    assert policy.peek(candidate(4.0), frozenset(["word", "modal"])).serve
    policy.learn(candidate(4.0), True, frozenset(["word", "tense"]))
    assert not policy.peek(candidate(4.0), with_verb).serve
    assert policy.peek(candidate(4.0), alone).closed == "only modal"
    for _ in range(7):
        policy.learn(candidate(4.0), True, alone)
    assert not policy.peek(candidate(4.0), alone).serve
    policy.learn(candidate(4.0), True, alone)
    assert policy.peek(candidate(4.0), alone).serve


def test_a_kind_that_left_the_window_counts_no_more(monkeypatch):
    """Neither its labels nor what was wrong about them."""
    monkeypatch.setattr(serving_policy, "WINDOW", 20)
    policy = ServingPolicy(rng=random.Random(0), audit_share=0.0)
    for right in (True, True, True, False, False, False):
        policy.learn(candidate(4.0), right, frozenset(["modal"]))
    assert policy._kinds["modal"][0] == 6
    for _ in range(20):
        policy.learn(candidate(4.0), True)

    assert policy._kinds["modal"] == (0, pytest.approx(0.0))
    assert policy._kinds["word"][0] == 20
