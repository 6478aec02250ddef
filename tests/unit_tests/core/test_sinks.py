"""Events reach every sink, and no sink breaks a call."""

from __future__ import annotations

import warnings

import pytest

from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.core.sinks import checked_sinks, notify


class Listing:
    def __init__(self) -> None:
        self.events: list[object] = []

    def record(self, event: object) -> None:
        self.events.append(event)


class Failing(Listing):
    def record(self, event: object) -> None:
        super().record(event)
        raise OSError("disk full")


class FailingSlots:
    __slots__ = ("__dict__",)
    __hash__ = None  # type: ignore[assignment]

    def record(self, event: object) -> None:
        raise OSError("disk full")


def test_a_sink_that_raises_is_warned_about_once_and_harms_nobody():
    """The sinks behind it hear of everything, and it is asked again."""
    first, failing, last = Listing(), Failing(), Listing()
    with pytest.warns(TokenOptWarning, match="Failing said: OSError") as caught:
        notify([first, failing, last], 1, 2)
        notify([first, failing, last], 3)

    assert len(caught) == 1
    assert first.events == last.events == failing.events == [1, 2, 3]


def test_a_sink_that_cannot_be_remembered_breaks_no_call():
    """Some objects can be neither hashed nor referred to weakly."""
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        notify([FailingSlots()], 1)


def test_two_sinks_of_a_kind_are_each_warned_about():
    """A warning is about an object, not about its class."""
    with pytest.warns(TokenOptWarning) as caught:
        notify([Failing(), Failing()], 1)
    assert len(caught) == 2


def test_what_is_no_sink_is_refused():
    """Before the first call, not at the first event."""
    with pytest.raises(TypeError, match="record"):
        checked_sinks([object()])
