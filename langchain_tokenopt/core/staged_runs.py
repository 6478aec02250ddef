"""What the seam publishes about a run while it lasts, and who listens."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from uuid import UUID

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage
from langchain_tokenopt.core.records import Saving, ToolChoice
from langchain_tokenopt.core.usage import Usage

__all__ = [
    "GUARD",
    "TRACKER",
    "UNSTAGED",
    "Attempt",
    "CacheHit",
    "StagedParams",
    "StagedRun",
    "add_run_listener",
    "is_staged",
    "notify_cancelled",
    "notify_refused",
    "publish_run",
    "published_run",
    "register_hooks",
    "withdraw_run",
]


class CacheHit(dict[str, Any]):
    """``generation_info`` of an answer that came from a cache.

    It equals the plain dict it was made from, so a cache that marks its hits with it stays equal to
    what was stored, and usage tracking still recognises the hit. Assign it to a generation that
    exists: pydantic makes a plain dict of what it is given at construction.
    """


class Attempt(NamedTuple):
    """What one model was asked and billed for a run that another one has answered."""

    model: str | None
    provider: str | None
    usage: Usage
    seconds: float
    is_told: bool
    """Whether the provider has said what was used."""


@dataclass(slots=True, kw_only=True)
class StagedRun:
    """What the seam publishes about one run: what was really sent, who acted, who answered.

    Callbacks are told the caller's original messages; the provider bills those in ``sent``.
    """

    run_id: UUID
    metadata: Mapping[str, Any] = field(default_factory=dict)
    tags: Sequence[str] = ()
    read_into: Any = None
    """The class, or the schema, that the caller reads the answer into, where that was said."""
    sent: Sequence[BaseMessage] | None = None
    """The messages that went to the model; ``None`` until it was asked."""
    sent_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """The keyword arguments that went with them: tools, limits, response format."""
    sent_model: str | None = None
    """The model that was asked, where a stage chose another one than the caller."""
    sent_provider: str | None = None
    """Who sends its bill."""
    stages: list[str] = field(default_factory=list)
    """Names of the stages that acted, in order."""
    savings: list[Saving] = field(default_factory=list)
    tool_choice: ToolChoice | None = None
    """Which tools the model was shown, where a stage has chosen among them."""
    answered_by: str | None = None
    """Name of the cache or stage that answered instead of the model."""
    saved_usage: Usage | None = None
    """What the answer of a cache once cost."""
    received: list[str] = field(default_factory=list)
    """Text that the model sent, before any stage cut it; only for streamed calls."""
    pieces: list[BaseMessage] = field(default_factory=list)
    """Chunks of a streamed answer that report usage, as the model sent them."""
    waiting: bool = False
    """True until the model's rate limiter has let the call pass: nothing was sent yet."""
    stopped: bool = False
    """True when a stage stopped the model: the provider will not report any usage."""
    at_cap: bool = False
    """True when the provider has said that a cap on its tokens has ended the stream."""
    closed: bool = False
    """True when the model's stream was closed: its provider can notice and stop writing."""
    refused: bool = False
    """True when a stage has refused the call: nothing was sent."""
    caller: int | None = None
    """The run of the model that makes this call, if one does; by the integer of its id."""
    earlier: Usage | None = None
    """Usage of earlier attempts of the same run, when a stage asked the model again."""
    elsewhere: list[Attempt] = field(default_factory=list)
    """Earlier attempts of the same run with other models, when a stage asked another one."""
    reports_earlier: bool = False
    """True when the usage that the answer reports has that of earlier attempts in it."""
    repeats_left: int = 0
    """How often the model may be asked again, as long as a stage looks at an answer."""


STOPPED_BY = "tokenopt_stopped_by"
"""Key in ``response_metadata`` of an answer that a stage has cut: the name of that stage."""
TRIMMED_BY = "tokenopt_trimmed_by"
"""The same of an answer that was written to its end and is shown in part."""
ESTIMATED_USAGE = "tokenopt_estimated_usage"
"""Key in ``response_metadata`` of an answer whose ``usage_metadata`` we have counted ourselves."""


_MOST_PUBLISHED = 10_000
"""A run that another handler refuses at its start is never ended: the oldest are dropped."""


_published: dict[int, StagedRun] = {}
"""By the integer of the run id, whose hash costs a tenth of the id's own."""


def publish_run(run: StagedRun) -> None:
    """Make *run* known by its id, until :func:`withdraw_run`."""
    _published[run.run_id.int] = run
    if len(_published) > _MOST_PUBLISHED:
        _published.pop(next(iter(_published)), None)


class _RunListener(Protocol):
    def on_refused(self, run_id: UUID) -> None: ...

    def on_cancelled(self, run_id: UUID) -> None: ...


_run_listeners: weakref.WeakSet[_RunListener] = weakref.WeakSet()


_listeners_lock = threading.RLock()


def add_run_listener(listener: _RunListener) -> None:
    """Notify *listener*, as long as it lives, of the ends of runs that LangChain keeps to itself.

    It notifies nobody of the end of a run whose start a handler has refused, and the handlers
    before that one wait for it; nor of the end of a cancelled ``agenerate``.
    """
    with _listeners_lock:
        _run_listeners.add(listener)


def notify_refused(run_id: UUID) -> None:
    """Notify all listeners that a run was refused: nothing was sent, nothing will follow."""
    for listener in _listeners():
        listener.on_refused(run_id)


def notify_cancelled(run_id: UUID) -> None:
    """Notify all listeners that a run was cancelled, if they have not heard of its end."""
    for listener in _listeners():
        listener.on_cancelled(run_id)


def _listeners() -> list[_RunListener]:
    with _listeners_lock:
        return list(_run_listeners)


TRACKER: ContextVar[Any] = ContextVar("langchain_tokenopt_tracker", default=None)
"""The handler that ``track_usage`` adds to every run here."""
UNSTAGED: ContextVar[Any] = ContextVar("langchain_tokenopt_unstaged", default=None)
"""The handler that notes which models are called without stages."""
GUARD: ContextVar[Any] = ContextVar("langchain_tokenopt_budget_guard", default=None)
"""The handler that refuses calls of models without stages."""


@cache
def register_hooks() -> None:
    """Have LangChain add these handlers to every run; once in a process, whoever needs one first.

    Handlers hear of a run in the order in which their hooks were registered, and those behind one
    that refuses it hear nothing: so it comes last. Those that ask whether a model is staged are not
    inherited, so that they are added anew for each model, behind the model's own handlers.

    Not at import: the module that registers hooks brings langsmith with it, a quarter of a second
    that LangChain itself puts off until the first call.
    """
    from langchain_core.tracers.context import register_configure_hook

    register_configure_hook(TRACKER, inheritable=True)
    register_configure_hook(UNSTAGED, inheritable=False)
    register_configure_hook(GUARD, inheritable=False)


class StagedParams(dict[str, Any]):
    """The ``invocation_params`` of a staged model's run, by which handlers know it at its start.

    It equals the plain dict that it was made from, and LangChain hands it on as it is.
    """


def is_staged(params: object) -> bool:
    """Whether a run that starts with these ``invocation_params`` is that of a staged model."""
    return isinstance(params, StagedParams)


def withdraw_run(run_id: UUID) -> None:
    """Forget a run that has ended."""
    _published.pop(run_id.int, None)


def published_run(run_id: UUID | int) -> StagedRun | None:
    """Return what the seam has published about a run, if it is a staged run in flight.

    Args:
        run_id: Its id, or the integer of the id.
    """
    if not _published:
        return None
    return _published.get(run_id if isinstance(run_id, int) else run_id.int)
