"""What is in memory follows what is in the file."""

from __future__ import annotations

import numpy as np
import pytest

from langchain_tokenopt.cache.eviction import policy_for
from langchain_tokenopt.cache.key import question_in
from langchain_tokenopt.cache.memory_index import MemoryIndex
from langchain_tokenopt.cache.stored_row import Row

NORTH, EAST = (np.array(v, dtype="<f2") for v in ([1.0, 0.0], [0.0, 1.0]))


def row(number, exact, vector=NORTH, scope=b"s", **values):
    fixed = {"agrees_with": None, "tokens": 5, "created": 0.0, "expires": None, "hits": 0}
    made = {"question": f"question {number}", "size": 100, **fixed, **values}
    return Row(
        id=number,
        exact=exact,
        scope=scope,
        vector=None if vector is None else vector.tobytes(),
        **made,
    )


@pytest.fixture
def index():
    return MemoryIndex(policy_for("lru", 10))


def test_a_newer_answer_to_a_request_replaces_the_older(index):
    """By request, by words and by meaning only the newer one is found; bytes count once."""
    index.add_rows([row(1, b"a"), row(2, b"b", EAST)])
    index.add_rows([row(3, b"a", question="question 1")])

    assert {2, 3} == set(index)
    assert 3 == index.by_exact[b"a"]
    assert 3 == index.same_question(question_in(b"s", "Question 1?"), 0.0)
    found = index.near_to(NORTH.astype(np.float32), b"s", 0.0, 0.5).near
    assert [3, 2] == [n.entry for n in found]
    assert 200 == index.bytes


def test_expired_entries_are_no_neighbours_and_come_up_once(index):
    """Unless their life was prolonged in the meantime."""
    index.add_rows([row(1, b"a", expires=5.0), row(2, b"b", expires=5.0), row(3, b"c")])
    index.prolong(2, 9.0)

    found = index.near_to(NORTH.astype(np.float32), b"s", 6.0, 0.5).near
    assert [2, 3] == sorted(n.entry for n in found)
    assert [1] == [entry.id for entry in index.overdue(6.0)]
    assert [] == list(index.overdue(6.0))


def test_around_the_nearest_are_the_others_of_its_scope(index):
    """The entry itself is left out; where nothing is near, there is nothing around it."""
    index.add_rows([row(1, b"a"), row(2, b"b", EAST), row(3, b"c", scope=b"t")])

    found = index.near_to(NORTH.astype(np.float32), b"s", 0.0, 0.5)
    assert [(1, 1.0), (2, 0.0)] == [(n.entry, n.cosine) for n in found.near]
    assert [(2, 0.0)] == [(n.entry, n.cosine) for n in found.around]
    assert ((), ()) == index.near_to(-NORTH.astype(np.float32), b"s", 0.0, 0.5)
    assert {b"s", b"t"} == index.scopes()


def test_vectors_that_cannot_be_compared_are_left_out_of_the_index(index):
    """Another dimension, no vector and not-a-number; their requests are found all the same."""
    broken = np.array([np.nan, 0.0], dtype="<f2")
    longer = np.array([1.0, 0.0, 0.0], dtype="<f2")
    index.add_rows([row(1, b"a"), row(2, b"b", broken), row(3, b"c", longer), row(4, b"d", None)])

    assert [1] == [n.entry for n in index.near_to(NORTH.astype(np.float32), b"s", 0.0, 0.5).near]
    assert {b"a", b"b", b"c", b"d"} == set(index.by_exact)
