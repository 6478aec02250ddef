"""Runs of models under way, and which of them makes a call.

A model may hand on to another one: a router's ``_generate`` invokes the model that it has chosen.
Then two runs report one bill. Nothing need link the two: the inner call may be made without the
outer run's callbacks, in another task or thread. What is certain is the Python stack: the outer
model's method stands on it when the inner call begins, which a stream that is merely being read
does not.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Container
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Final

from langchain_core.callbacks.base import RunManagerMixin

from langchain_tokenopt.core.usage import Usage

__all__ = [
    "ModelRun",
    "begin_reserved",
    "calling_reserved_run",
    "calling_run",
    "end_reserved",
    "is_made_by_a_stage",
    "note_start",
    "reserved_run",
]


@dataclass(slots=True, eq=False)
class ModelRun:
    """A run of a model, as far as the calls that it makes itself are concerned."""

    give_back: Callable[[], Any] | None = None
    """Frees what is reserved for it: its own calls pay."""
    inner: list[Usage] = field(default_factory=list)
    """What the calls have used that it has made itself."""
    delegates: bool = False

    def hand_over(self) -> None:
        """Take note of a call that the run makes itself, before anything is reserved for that."""
        if not self.delegates and self.give_back is not None:
            self.give_back()
        self.delegates = True

    def explains(self, usage: Usage | None) -> bool:
        """Whether *usage* is that of the inner calls, handed on; ``None``: it reports none.

        A model that makes a call of its own beside them reports another usage, and is billed.
        """
        if not self.delegates:
            return False
        return usage is None or usage in self.inner or usage == sum(self.inner, Usage())


_reserved: dict[int, ModelRun] = {}
"""Runs for which something is reserved, by the integers of their ids."""


def begin_reserved(key: int, give_back: Callable[[], Any]) -> ModelRun:
    """Take note of a run for which something is reserved, until :func:`end_reserved`."""
    run = _reserved[key] = ModelRun(give_back)
    note_start(key)
    return run


def end_reserved(key: int) -> None:
    """Forget a run that has ended."""
    _reserved.pop(key, None)


def reserved_run(key: int | None) -> ModelRun | None:
    """Return what is known of a run for which something is reserved."""
    return None if key is None else _reserved.get(key)


def calling_reserved_run() -> int | None:
    """Return :func:`calling_run`, where it matters: where something is reserved for any run."""
    return calling_run(_reserved) if _reserved else None


_started: ContextVar[tuple[int, ...]] = ContextVar("langchain_tokenopt_started_runs", default=())
"""The latest runs that have begun in this context, or in one of which it is a copy."""


def note_start(key: int) -> None:
    """Take note of a run that begins here."""
    _started.set((*_started.get()[-3:], key))


def calling_run(under_way: Container[int]) -> int | None:
    """Return the run of the model that makes the call which begins here, if one does.

    By the integer of its id; ``None`` for a call that no model makes, and for one that a stage
    around a model makes: that is a call of its own. A method that was not told its run is taken for
    that of the latest run that has begun in this context.

    Args:
        under_way: Runs that are looked for.
    """
    frame: FrameType | None = sys._getframe(1)
    is_inside = False
    while frame is not None:
        name = frame.f_code.co_name
        if not is_inside:
            if _performs_stages(frame):
                return None
            is_inside = name in _METHODS
        if is_inside:
            key = _run_in(frame.f_locals)
            if key is not None:
                return key if key in under_way else None
        frame = frame.f_back
    if not is_inside:
        return None
    return next((key for key in reversed(_started.get()) if key in under_way), None)


def is_made_by_a_stage() -> bool:
    """Whether the call that begins here is made by a stage around a model that is being asked."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and not _performs_stages(frame):
        if frame.f_code.co_name in _METHODS and _run_in(frame.f_locals) is not None:
            return False  # a model hands on
        frame = frame.f_back
    return frame is not None


def _performs_stages(frame: FrameType) -> bool:
    name = frame.f_code.co_name
    return name in _PERFORM and frame.f_globals.get("__name__", "").startswith(_SEAM)


_METHODS: Final = frozenset({"_generate", "_agenerate", "_stream", "_astream", "_call", "_acall"})
"""Methods by which LangChain asks a model."""

_SEAM: Final = "langchain_tokenopt.chat_model."

_PERFORM: Final = frozenset({"_perform", "_aperform"})
"""Functions in which the seam does the work of stages."""


def _run_in(variables: dict[str, Any]) -> int | None:
    """Return the run whose manager a method was given, under whatever name."""
    values = list(variables.values())
    for value in tuple(values):  # what a wrapper passes on, as a tuple or by name
        if isinstance(value, tuple):
            values += value
        elif isinstance(value, dict):
            values += value.values()
    for value in values:
        if isinstance(value, RunManagerMixin):
            run_id = getattr(value, "run_id", None)
            if run_id is not None:
                return int(run_id.int)
    return None
