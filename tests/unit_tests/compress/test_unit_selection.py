"""Which units are kept: the best that fit, and more of the same order with more room."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_tokenopt.compress.unit_selection import choose
from langchain_tokenopt.compress.units import Unit


def units(*tokens: int, **fields: dict[int, int]) -> list[Unit]:
    """Make units of so many tokens; *fields* such as ``head={1: 0}`` are set by index."""
    made = [Unit(at, at + 1, tokens=size) for at, size in enumerate(tokens)]
    for name, values in fields.items():
        for at, value in values.items():
            setattr(made[at], name, value)
    return made


def kept(choice) -> list[int]:
    return [at for at, keep in enumerate(choice.kept) if keep]


def test_the_likeliest_per_root_of_its_tokens_comes_first():
    """Between the likeliest one and the most likelihood per token."""
    assert [1] == kept(choose(units(16, 4), (0.5, 0.3), 16))
    assert [0] == kept(choose(units(16, 4), (0.5, 0.2), 16))


def test_what_is_required_stays():
    """Whatever would fit in its place."""
    assert [0] == kept(choose(units(3, 10, required={0: True}), (0.1, 0.9), 10))


def test_a_row_brings_its_header_or_stays_out():
    """Without its header the row would say nothing."""
    table = units(3, 10, head={1: 0})

    assert [0, 1] == kept(choose(table, (0.0, 0.5), 13))
    assert [] == kept(choose(table, (0.0, 0.5), 12))


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 40), st.floats(0.001, 1)), min_size=1, max_size=30),
    st.integers(1, 300),
)
def test_twice_the_room_keeps_what_the_room_kept(cases, room):
    """Up to what only filled the room: of an order that fits into twice of it, nothing is lost."""
    sizes, likely = [size for size, _ in cases], [chance for _, chance in cases]
    order = sorted(range(len(cases)), key=lambda at: -likely[at] / (sizes[at] + 1) ** 0.5)
    best, total = set(), 0
    for at in order:
        total += sizes[at]
        if total > 2 * room:
            break
        best.add(at)

    small = kept(choose(units(*sizes), likely, room))
    large = kept(choose(units(*sizes), likely, 2 * room))

    assert best <= set(large)
    assert set(small) & best <= set(large)
    assert sum(sizes[at] for at in small) <= room
