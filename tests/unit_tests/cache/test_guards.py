"""Differences that change the answer, and differences that do not."""

from __future__ import annotations

import pytest

from langchain_tokenopt.cache.guards import (
    REQUEST_KINDS,
    check_guard_names,
    doubts_between,
    profile,
    profile_of,
    vetoes_between,
)


def vetoes(one, other):
    return vetoes_between(profile_of(one), profile_of(other))


def doubts(one, other):
    return doubts_between(profile_of(one), profile_of(other))


@pytest.mark.parametrize(
    ("one", "other", "name"),
    [
        ("Is 5 kg allowed?", "Is 7 kg allowed?", "numbers"),
        ("Is five kg allowed?", "Is 6 kg allowed?", "numbers"),
        ("Is a limit of 5 kg fine?", "Is a limit of 5 lb fine?", "numbers"),
        ("Can I come on Monday?", "Can I come on Friday?", "dates"),
        ("Where is order AB123?", "Where is order AB124?", "ids"),
        ("How do I enable 2FA?", "How do I disable 2FA?", "opposite"),
        ("Is smoking allowed here?", "Is smoking not allowed here?", "opposite"),
        ("Should I take aspirin?", "Should I never take aspirin?", "opposite"),
        ("Can I pay by card?", "Am I unable to pay by card?", "opposite"),
        ("What to do before boarding?", "What to do after boarding?", "opposite"),
        ("How can I become more patient?", "How can I become less patient?", "opposite"),
        ("I can pay but not log in", "I can log in but not pay", "negation_scope"),
        ("Who won in France?", "Who won in Germany?", "entities"),
        ("Is Ann loyal to Bob?", "Is Bob loyal to Ann?", "roles"),
        ("Did Ann hit Bob?", "Was Ann hit by Bob?", "roles"),
        ("Did he call her?", "Did she call him?", "roles"),
        ("Fly from Paris to Rome", "Fly from Rome to Paris", "roles"),
        ("Where is the card and what is it?", "Wo ist die Karte und was ist das?", "language"),
        ("Is Ann a teacher?", "Did Ann use to be a teacher?", "aspect"),
        ("Is Ann an actor or a singer?", "Is Ann both an actor and a singer?", "or_and"),
    ],
)
def test_a_difference_that_changes_the_answer_is_found(one, other, name):
    """The guard of that name speaks up, in both directions."""
    assert name in vetoes(one, other)
    assert name in vetoes(other, one)


@pytest.mark.parametrize(
    ("one", "other", "doubt"),
    [
        ("Why hasn't my card arrived in the post?", "When does my new card arrive?", "turned"),
        ("The exchange rate is wrong for my payment", "Wrong exchange rate for payment", ""),
        ("Which are the best colleges for MCA?", "Which are the best MCA colleges?", "reordered"),
    ],
)
def test_another_way_to_put_it_is_a_doubt_at_most(one, other, doubt):
    """A negation among other differences and a rearranged sentence do not forbid an answer."""
    assert [] == vetoes(one, other)
    assert ([doubt] if doubt else []) == [
        name for name in doubts(one, other) if name in ("turned", "reordered")
    ]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Is 1,000 euros too much?", "Would 1000 euros be too much?"),
        ("Did Ann hit Bob?", "Was Bob hit by Ann?"),
        ("How do I change the PIN of my card?", "How can I change my card's PIN?"),
        ("Is Ann married to Bob?", "Is Bob married to Ann?"),
        ("Is it an A or a B flat?", "Is it a B or an A flat?"),
        ("What's the time in NYC?", "What is the time in New York City?"),
        ("How can I become thin?", "How can I become a person who is not fat?"),
        ("Why can't I log in?", "I am unable to log in, why?"),
        ("How do I open a bank account?", "How do I opne a bank account?"),
        ("Where is my card?", "Do you know where my card might be?"),
        ("Is that dog on the couch?", "Is that dog actually on the couch?"),
    ],
)
def test_a_paraphrase_is_let_through(one, other):
    """No veto between two wordings of one question, in either direction."""
    assert [] == vetoes(one, other)
    assert [] == vetoes(other, one)


@pytest.mark.parametrize(
    ("one", "other", "name"),
    [
        ("Can I feed my dog oil?", "Can I feed my cat oil?", "exchanged_word"),
        ("Is Ann a doctor?", "Is Ann a terrible doctor?", "added_word"),
        ("Which phone is best?", "Which phone is best under 300?", "extra_number"),
        (
            "What is the best law for students?",
            "What is the best law for students in Peru?",
            "extra_entity",
        ),
    ],
)
def test_a_doubtful_difference_is_found(one, other, name):
    """The doubt of that name is raised."""
    assert name in doubts(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Can I feed my dog oil?", "Can I feed my dogs oil?"),
        ("How can I buy a car?", "How can I purchase a car?"),
        ("How do I open an account?", "How do I opne an account?"),
        (
            "My dog eats fish. Is it normal for animals to eat fish?",
            "My cat eats fish. Is it normal for animals to eat fish?",
        ),
    ],
    ids=["inflection", "synonym", "misspelling", "an irrelevant run-up"],
)
def test_a_harmless_exchange_raises_no_doubt(one, other):
    """Inflections, synonyms, misspellings and run-ups are no exchanged words."""
    assert [] == doubts(one, other)


def test_a_run_up_that_the_question_refers_to_counts():
    """A question with "this" in it does not stand on its own."""
    one = "I hurt my knee at football. Is this a common injury?"
    other = "I hurt my jaw at football. Is this a common injury?"

    assert ["exchanged_word"] == doubts(one, other)


def test_guards_are_chosen_by_name():
    """Unknown names are refused with the known ones."""
    assert ("numbers",) == check_guard_names(["numbers"])
    with pytest.raises(ValueError, match=r"unknown guards \['nunbers'\].*numbers"):
        check_guard_names(["nunbers"])


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("Where is my order?", "personal"),
        ("How do I change my PIN?", ""),
        ("My card does not work", ""),
        ("What is the weather like today?", "now"),
        ("What causes weather?", ""),
        ("Delete all my files", "action"),
        ("How do I delete all my files?", ""),
    ],
)
def test_requests_that_no_stored_answer_can_satisfy_are_recognised(text, kinds):
    """First person alone is no sign of a personal request."""
    found = [name for name, applies in REQUEST_KINDS.items() if applies(text)]

    assert kinds.split() == found


def test_long_texts_are_not_kept_in_memory():
    """A day of long answers does not fill it."""
    before = profile._profile_before.cache_info().currsize
    for number in range(50):
        profile_of(f"answer {number} " * 200)

    assert before == profile._profile_before.cache_info().currsize


@pytest.mark.parametrize(
    ("stored", "is_planted"),
    [
        ("How password reset? Visit evil.example, type your code, wire money", True),
        ("Visit evil.example, type your code, wire money: password, how to reset?", True),
        ("With evil.example code, reset by wire and type any money password", False),
        ("How is it that I can do a password reset? Visit Rome", False),
        ("How to reset it? Visit evil.example, type your code, wire money", False),
    ],
    ids=["behind", "before", "in between", "little", "not all of the question"],
)
def test_a_question_that_was_turned_round_before_more_was_added(stored, is_planted):
    """All its words in another order, and at least three others, all before or all behind them."""
    assert is_planted == ("appended" in vetoes(stored, "How do I reset my password?"))
