"""Whether two answers say the same."""

from __future__ import annotations

import pytest

from langchain_tokenopt.cache.answer_groups import AnswerGroups
from langchain_tokenopt.cache.same_answer import WordRarity

TOPICS = ("card fees", "exchange rates", "lost phones", "top ups", "age limits", "refunds")
WORDINGS = (
    "For help with {}, open the app and look under Help.",
    "The app explains {} under Help, where you can settle it yourself.",
)


@pytest.fixture
def words():
    """An assistant's answers on six topics in two wordings."""
    counted = WordRarity()
    for topic in TOPICS:
        for wording in WORDINGS:
            counted.count(wording.format(topic))
    return counted


@pytest.mark.parametrize("topic", TOPICS)
def test_wordings_of_one_answer_are_alike(words, topic):
    """What both are about is rare among the answers, how they put it is not."""
    one, other = (wording.format(topic) for wording in WORDINGS)

    assert words.likeness(one, other) > 0.5
    assert words.are_wordings_of_one(one, other, 0.85)


def test_answers_that_differ_in_what_they_are_about_are_two(words):
    """However near their embeddings are: each has a telling word that the other lacks."""
    one, other = WORDINGS[0].format("card fees abroad"), WORDINGS[1].format("card fees at home")
    for text in (one, other):
        words.count(text)

    assert not words.are_wordings_of_one(one, other, 0.99)


def test_the_same_numbers_speak_for_one_answer(words):
    """With equal numbers less likeness is asked for; without, the same pair is two answers."""
    one, other = "For help open the app, 5 days", "The app explains it under Help, 5 days"
    plain = [text.replace("5 days", "") for text in (one, other)]
    for text in (one, other, *plain):
        words.count(text)
    cosine = 2 * 0.62 - words.likeness(one, other)

    assert words.are_wordings_of_one(one, other, cosine)
    assert not words.are_wordings_of_one(*plain, 2 * 0.62 - words.likeness(*plain))


def test_united_numbers_stay_united_in_any_order():
    """Uniting is transitive, and uniting again changes nothing."""
    groups = AnswerGroups()
    for kept, other in ((3, 4), (1, 2), (2, 4), (4, 1), (1, 3)):
        groups.unite(kept, other)

    assert 1 == len({groups.of(n) for n in (1, 2, 3, 4)})
    assert 9 == groups.of(9)
