"""The one way to pass an event on to those who receive it."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Iterable
from pathlib import PurePath

from langchain_tokenopt.core.argument_checks import refuse_class, shown
from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.core.records import UsageEvent, UsageSink
from langchain_tokenopt.core.staged_runs import TRACKER

__all__ = ["checked_sinks", "notify", "with_ambient"]

_failed: weakref.WeakSet[UsageSink] = weakref.WeakSet()
"""Sinks that have been warned about."""


def checked_sinks(sinks: Iterable[UsageSink]) -> tuple[UsageSink, ...]:
    """Return *sinks* as a tuple.

    Raises:
        TypeError: It is no list, or one of them has no ``record`` method.

    Example:
        >>> checked_sinks([print])
        Traceback (most recent call last):
        ...
        TypeError: sinks must have a record(event) method; <built-in function print> has none.
    """
    if isinstance(sinks, UsageSink):
        refuse_class("a list of sinks", sinks)
        raise TypeError(f"sinks are given as a list: sinks=[{shown(sinks)}].")
    if isinstance(sinks, str | PurePath) or not isinstance(sinks, Iterable):
        raise TypeError(
            f"sinks are a list, such as [Ledger('tokenopt.db')]; got {shown(sinks)}. The name of a "
            f"user is given as user=."
        )
    checked = tuple(sinks)
    for sink in checked:
        refuse_class("a sink", sink)
        if isinstance(sink, str | PurePath):
            raise TypeError(f"a sink is an object: give Ledger({str(sink)!r}) for {shown(sink)}.")
        if not isinstance(sink, UsageSink):
            raise TypeError(f"sinks must have a record(event) method; {shown(sink)} has none.")
    return checked


def notify(sinks: Iterable[UsageSink], *events: UsageEvent) -> None:
    """Pass *events* on to every sink.

    A sink that raises breaks neither the call nor the other sinks: it is warned about once, and
    asked again for the next event.

    Example:
        >>> class Printer:
        ...     def record(self, event):
        ...         print(event)
        >>> notify([Printer()], "an event")
        an event
    """
    for sink in sinks:
        for event in events:
            try:
                sink.record(event)
            except Exception as error:  # noqa: BLE001  a sink is foreign code: no call may break for it
                _warn_once(sink, error)


def with_ambient(sinks: Iterable[UsageSink]) -> tuple[UsageSink, ...]:
    """Return *sinks* and those of the ``track_usage`` blocks and scopes around, each once.

    For what acts beside the models, in a pipe: of what stages do, trackers hear with the call.

    Example:
        >>> with_ambient([])
        ()
    """
    tracker = TRACKER.get()
    around = () if tracker is None else tracker.sinks_around
    return tuple({id(sink): sink for sink in (*sinks, *around)}.values())


def _warn_once(sink: UsageSink, error: Exception) -> None:
    try:
        if sink in _failed:
            return
        _failed.add(sink)
    except TypeError:  # neither hashable nor weakly referable: warned about each time
        pass
    warnings.warn(
        f"A sink of usage events failed; events may be missing there. "
        f"{type(sink).__name__} said: {error!r}",
        TokenOptWarning,
        stacklevel=4,
    )
