"""Neighbours are those that brute force finds."""

from __future__ import annotations

import numpy as np
import pytest

from langchain_tokenopt.cache.vector_index import SMALL_SCOPE, ScopedIndex, unit_vector


def unit_rows(count, seed=0, size=64):
    rows = np.random.default_rng(seed).standard_normal((count, size)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("size", [64, 384, 700])
@pytest.mark.parametrize("count", [40, 3 * SMALL_SCOPE], ids=["multiplied", "by signs"])
def test_the_nearest_is_brute_forces_nearest(count, size):
    """For a query near a stored vector, both searches name it, with its cosine."""
    vectors = unit_rows(count, size=size)
    index = ScopedIndex(size)
    for entry, vector in enumerate(vectors):
        index.add(entry, b"s", vector)

    for entry in range(0, count, 7):
        query = unit_vector(vectors[entry] + 0.05 * unit_rows(1, seed=entry, size=size)[0])
        cosines = vectors @ query

        nearest, cosine = index.shortlist(b"s", query).near(query, 3)[0]
        assert int(cosines.argmax()) == nearest
        assert float(cosines.max()) == pytest.approx(cosine, abs=2e-3)


def test_scopes_do_not_see_each_other():
    """A search returns entries of its own scope only, even when others are equal."""
    vectors = unit_rows(20)
    index = ScopedIndex(64)
    index.add_many(list(range(20)), [bytes([n % 2]) for n in range(20)], vectors)

    found = index.shortlist(b"\x00", vectors[1]).near(vectors[1], 20)
    assert {n for n in range(20) if n % 2 == 0} == {entry for entry, _ in found}


def test_removed_entries_are_not_found_and_their_room_is_used_again():
    """After removals and additions the index equals one that was built anew."""
    vectors = unit_rows(4 * SMALL_SCOPE)
    index = ScopedIndex(64)
    index.add_many(list(range(len(vectors))), [b"s"] * len(vectors), vectors)
    for entry in range(0, len(vectors), 2):
        index.remove(entry)
    index.add(9_999, b"s", vectors[0])

    assert len(vectors) // 2 + 1 == len(index)
    assert 9_999 == index.shortlist(b"s", vectors[0]).near(vectors[0], 1)[0][0]
    assert 3 == index.shortlist(b"s", vectors[3]).near(vectors[3], 1)[0][0]
    assert 2 not in {entry for entry, _ in index.shortlist(b"s", vectors[2]).near(vectors[2], 64)}


def test_the_neighbours_of_the_nearest_are_on_its_shortlist():
    """Where questions come in groups, those that brute force finds around the nearest one."""
    groups = unit_rows(30, seed=1)
    vectors = np.repeat(groups, 20, axis=0) + 0.05 * unit_rows(600, seed=2)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    index = ScopedIndex(64)
    index.add_many(list(range(600)), [b"s"] * 600, vectors)

    for entry in range(0, 600, 37):
        shortlist = index.shortlist(b"s", vectors[entry])
        found = dict(shortlist.near(shortlist.vector(entry), 17))
        expected = np.argsort(-(vectors @ vectors[entry]))[:17]
        assert set(expected.tolist()) == set(found)
        assert vectors[expected] @ vectors[entry] == pytest.approx(list(found.values()), abs=1e-3)


@pytest.mark.parametrize("vector", [[0.0, 0.0], [float("nan"), 1.0], [[1.0, 2.0]], [float("inf")]])
def test_what_is_no_direction_is_refused(vector):
    """Zero, NaN, infinity and matrices are no vectors to compare."""
    with pytest.raises(ValueError, match="one vector of finite numbers"):
        unit_vector(vector)


@pytest.mark.filterwarnings("error")
def test_numbers_that_32_bits_cannot_hold_have_a_direction():
    """Unless their squares are beyond 64 bits, too; NumPy warns of neither."""
    assert [1.0, 0.0] == unit_vector([1e100, 0.0]).tolist()
    with pytest.raises(ValueError, match="one vector of finite numbers"):
        unit_vector([1e300, 1e300])


def test_another_dimension_is_refused():
    """Both numbers are named."""
    with pytest.raises(ValueError, match="got 3 numbers for an index of 4"):
        ScopedIndex(4).add(1, b"s", np.ones(3, dtype=np.float32))
