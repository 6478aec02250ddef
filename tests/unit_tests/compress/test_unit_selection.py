"""Which units are kept: the best that fit, and exchanges where room is left."""

from __future__ import annotations

import pytest

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


@pytest.mark.parametrize(
    ("sizes", "likely", "allowance", "expected"),
    [
        pytest.param((3, 10), (0.5, 0.45), 10, [1], id="a longer one nearly as likely comes in"),
        pytest.param((3, 10), (0.5, 0.35), 10, [1], id="seven tenths as likely is enough"),
        pytest.param((3, 10), (0.5, 0.34), 10, [0], id="a less likely one stays out"),
        pytest.param((3, 11), (0.5, 0.50), 10, [0], id="so does one that does not fit"),
        pytest.param((10, 9), (0.5, 0.47), 15, [0], id="and a shorter one"),
        pytest.param((3, 3, 4), (0.5, 0.4, 0.4), 7, [0, 2], id="the least likely one goes"),
        pytest.param((97, 98), (0.9, 0.8), 99, [0], id="a room of three in a hundred is left"),
    ],
)
def test_room_is_used_by_an_exchange(sizes, likely, allowance, expected):
    """Greedy choices leave room: one unit goes for a longer one that is nearly as likely."""
    choice = choose(units(*sizes), likely, allowance)

    assert expected == kept(choice)
    assert choice.tokens == sum(sizes[at] for at in expected) <= allowance


def test_what_is_required_is_never_exchanged():
    """It stays, whatever would fit in its place."""
    choice = choose(units(3, 10, required={0: True}), (0.1, 0.9), 10)

    assert [0] == kept(choice)


def test_a_head_is_not_exchanged_for_its_own_row():
    """Without its header the row would say nothing."""
    choice = choose(units(3, 10, head={1: 0}), (0.5, 0.5), 10)

    assert [0] == kept(choice)


def test_two_exchanges_share_the_room():
    """What the first one takes is gone for the second: the allowance holds."""
    sizes, likely = (4, 4, 8, 8), (0.50, 0.49, 0.48, 0.47)
    choice = choose(units(*sizes), likely, 13)

    assert [0, 2] == kept(choice)
    assert 12 == choice.tokens
