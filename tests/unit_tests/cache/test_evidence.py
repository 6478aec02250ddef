"""The window of evidence, the fitted prior, and labels that no model judges itself by."""

from __future__ import annotations

import json
import random
from importlib import resources

import numpy as np
import pytest

from langchain_tokenopt.cache.evidence import EvidenceWindow
from langchain_tokenopt.cache.features import FEATURES
from langchain_tokenopt.cache.probability import AnswerModel, design_matrix, term_names
from langchain_tokenopt.cache.serving_policy import ServingPolicy


def row(value):
    return np.full(len(FEATURES), float(value))


@pytest.mark.parametrize("added", [0, 3, 5, 13])
def test_a_window_holds_the_last_rows(added):
    """Whatever was added, the last five are there, oldest first."""
    window = EvidenceWindow(5)
    for number in range(added):
        window.add(row(number), float(number), number, right=number % 2 == 0, audit=number == 3)

    expected = list(range(added))[-5:]
    order = window.last(99)
    assert expected == window.number[order].tolist()
    assert expected == window.logits[order].tolist()
    assert expected == window.features[order][:, 0].tolist()
    assert [n % 2 == 0 for n in expected] == window.right[order].tolist()
    assert [n == 3 for n in expected] == window.audit[order].tolist()
    assert (added >= 5) == window.is_full
    assert not expected or window.oldest == expected[0]


def test_a_window_that_forgets_goes_on():
    """After all but two rows are gone, new ones follow them."""
    window = EvidenceWindow(4)
    for number in range(7):
        window.add(row(number), 0.0, number)
    window.keep_last(2)
    window.add(row(7), 0.0, 7)

    assert [5, 6, 7] == window.number[window.last(9)].tolist()
    assert not window.is_full


def test_the_prior_has_a_weight_for_every_term_and_nothing_else():
    """The shipped file belongs to the features of this version."""
    text = resources.files("langchain_tokenopt.cache").joinpath("prior.json").read_text("utf-8")
    content = json.loads(text)

    assert list(FEATURES) == content["features"]
    assert set(term_names()) == set(content["weights"])
    assert len(term_names()) == design_matrix(row(0)[None]).shape[1]


def test_products_are_learned():
    """Right when exactly one of two features is high: no weights of single features say that."""
    rng = np.random.default_rng(0)
    x = np.full((4_000, len(FEATURES)), 0.5)
    x[:, :2] = rng.integers(0, 2, (4_000, 2))
    right = x[:, 0] != x[:, 1]
    model = AnswerModel()
    model.fit(x, right, freedom=10.0)

    assert ((model.logits(x) > 0) == right).all()


def test_no_label_is_scored_by_a_model_that_has_seen_it():
    """Labels that are pure chance are scored no better than chance."""
    rng = np.random.default_rng(1)
    policy = ServingPolicy(rng=random.Random(0), audit_share=0.0)
    for _ in range(1_000):
        features = rng.random(len(FEATURES))
        policy.judge(features)
        policy.learn(features, bool(rng.random() < 0.5))
    policy._refit()

    labels = policy._labels
    by_heart = AnswerModel()
    by_heart.fit(labels.features, labels.right)
    assert np.corrcoef(by_heart.logits(labels.features), labels.right)[0, 1] > 0.25
    assert abs(np.corrcoef(labels.logits, labels.right)[0, 1]) < 0.1
