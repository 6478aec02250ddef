"""Laws of the cache: what must hold for every text and every order of events."""

from __future__ import annotations

import string

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGeneration, Generation

from langchain_tokenopt.cache.answer_json import pack, unpack
from langchain_tokenopt.cache.confidence_bounds import upper_bound
from langchain_tokenopt.cache.guards import doubts_between, profile_of, vetoes_between
from langchain_tokenopt.cache.key import question_of
from langchain_tokenopt.cache.writing import same_words
from tests.support.caches import make_cache

pytestmark = pytest.mark.exhaustive

TEXT = st.text(max_size=60)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(TEXT)
def test_a_text_has_no_quarrel_with_itself(text):
    """No guard finds a difference between a text and itself."""
    profile = profile_of(text)

    assert [] == vetoes_between(profile, profile)
    assert [] == doubts_between(profile, profile)


@given(TEXT, TEXT)
def test_guards_never_raise(one, other):
    """Whatever people type."""
    vetoes_between(profile_of(one), profile_of(other))
    doubts_between(profile_of(one), profile_of(other))


@given(TEXT)
def test_same_words_keep_every_word_number_and_sign(text):
    """But for what stands at the ends: what has letters or digits inside is not lost."""
    form = same_words(text)
    if form is not None:
        assert "".join(filter(str.isdigit, form)) == "".join(filter(str.isdigit, text))


@given(TEXT, TEXT, TEXT)
def test_different_system_texts_never_share_a_scope(one, other, question):
    """Nor do they with any question."""
    keys = [
        question_of(dumps([SystemMessage(s), HumanMessage(question)]), "llm", "n", (), "exact")
        for s in (one, other)
    ]

    assert (keys[0].scope == keys[1].scope) == (one == other)


@given(
    st.text(st.characters(codec="utf-8"), max_size=40),
    st.dictionaries(st.text(max_size=5), JSON, max_size=3),
)
def test_answers_come_back(text, extra):
    """Packing loses nothing that JSON can hold."""
    answers = [
        Generation(text=text, generation_info=extra),
        ChatGeneration(message=AIMessage(text, additional_kwargs=extra)),
    ]

    assert answers == unpack(pack(answers))


@given(st.integers(0, 200), st.integers(1, 200))
def test_the_bound_lies_above_what_was_seen(events, more):
    """And below 1, falling with the number of trials."""
    trials = events + more
    bound = upper_bound(events, trials, 0.9)

    assert events / trials < bound < 1
    assert upper_bound(events, trials + 50, 0.9) < bound


class Caches(RuleBasedStateMachine):
    """A cache against a dictionary: an exact question gets its own last answer or none."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.cache = make_cache(max_entries=4, ttl_seconds=50, clock=lambda: self.now)
        self.truth: dict[str, str] = {}

    questions = st.sampled_from(
        [f"is {letter}{letter}1 there" for letter in string.ascii_lowercase[:9]]
    )

    @rule(question=questions, answer=st.integers(0, 99))
    def store(self, question: str, answer: int) -> None:
        self.truth[question] = str(answer)
        self.cache.update(question, "llm", [Generation(text=str(answer))])

    @rule(question=questions)
    def ask(self, question: str) -> None:
        found = self.cache.lookup(question, "llm")

        assert found is None or found[0].text == self.truth[question]

    @rule(seconds=st.integers(1, 60))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @rule()
    def clear(self) -> None:
        self.cache.clear()

    @invariant()
    def never_too_many(self) -> None:
        assert self.cache.stats().entries <= 4
        stats = self.cache.stats()
        assert self.cache._repository._file.totals() == (stats.entries, stats.bytes)

    def teardown(self) -> None:
        self.cache.close()


TestCaches = Caches.TestCase
TestCaches.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_an_index_finds_what_brute_force_finds(seed):
    """For any vectors in any scopes."""
    from langchain_tokenopt.cache.vector_index import ScopedIndex

    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((50, 16)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    scopes = [bytes([int(s)]) for s in rng.integers(0, 3, 50)]
    index = ScopedIndex(16)
    index.add_many(list(range(50)), scopes, rows)
    query = rows[0]
    inside = [n for n in range(50) if scopes[n] == scopes[0]]
    expected = sorted(
        inside, key=lambda n: -float(rows[n].astype(np.float16).astype(np.float32) @ query)
    )

    assert expected[:5] == [entry for entry, _ in index.shortlist(scopes[0], query).near(query, 5)]
