"""The protocol between stages and sockets.

A *stage* is one optimisation: a cache, a compressor, a word limit, a budget. A *socket* is a place
where stages are plugged in: around a model, in a pipe, in a graph. Both know this module and
neither knows the other.

A stage is shared by concurrent calls and keeps no state of any of them. For each call it hands out
a :class:`StageCall`, which sees the request on the way out and the answer on the way back.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Protocol, runtime_checkable
from uuid import UUID

from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatResult

from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.request.model_request import Answer, ModelRequest

__all__ = [
    "AMBIENT",
    "Again",
    "PassThrough",
    "Phase",
    "Stage",
    "StageCall",
    "StageGroup",
    "TakesVerdicts",
    "TunableSetting",
    "TunableStage",
    "is_disabled",
]


class Phase(IntEnum):
    """Where a stage stands between the caller and the model; the lowest opens first."""

    PROOF = 5
    CACHE = 10
    TOOLS = 20
    CONTEXT = 30
    ROUTE = 40
    LIMIT = 50
    BUDGET = 60


@dataclass(frozen=True, slots=True)
class Again:
    """Returned by :meth:`StageCall.close`: ask the model once more, with this request.

    Of a stream some of which has been shown that is only possible when the next answer continues
    it. How often a call may be repeated has an end.
    """

    request: ModelRequest
    continues: bool = False
    """Whether the next answer may follow what was shown of this one."""
    otherwise: Answer | None = None
    """The answer that stands where the model cannot be asked again; by default this one."""


class StageCall:
    """One call's way through one stage. The base class lets everything pass.

    Override :meth:`chunk` to see the answer while it is written: the socket then streams the model
    even for ``invoke``, so that :class:`StopStream` saves what was not yet written; unless
    :attr:`may_stop` says that it will not be stopped, or the model's class does with a whole answer
    what it does not do with a stream. Override only
    :meth:`close` to see the whole answer at the end.

    Calls that return several generations (``n > 1``) skip :meth:`chunk`.

    Args:
        request: What goes on to the next stage.
        answer: When given, the trip ends here: no later stage is opened, no model is asked.
    """

    may_stop = True
    """Whether :meth:`chunk` may raise ``StopStream``; else ``invoke`` need not stream."""
    spent: Usage = Usage()
    """What earlier answers have used, for which this stage had the model asked again."""
    held: Answer | None = None
    """The whole answer, where nothing of it was shown since the model is to be asked again: stages
    further in are told of it, and not of what the caller has seen."""
    verdict: float | None = None
    """What the stage has found out about the answer by the end of :meth:`close`: how good it is
    with what the stage did to it, from 0 to 1."""

    def __init__(self, request: ModelRequest, answer: Answer | None = None) -> None:
        self.request = request
        self.answer = answer

    def chunk(self, chunk: AIMessageChunk) -> Iterable[AIMessageChunk]:
        """Pass *chunk* on, hold it back, cut it, or add to it.

        Raises:
            StopStream: To end the model's stream after what was returned so far.
        """
        return (chunk,)

    def finish(self) -> Iterable[AIMessageChunk]:
        """Return what was held back. Called once, after the last chunk or after StopStream."""
        return ()

    def close(self, answer: Answer) -> Answer | Again:
        """See the whole answer; called exactly once for an answer, never after :meth:`failed`.

        In a stream the pieces have already been shown, so changed *content* is not seen there.
        """
        return answer

    def rescued(self, error: Exception) -> ChatResult | None:
        """Return the answer that a model has given and its own class could not read, if you can.

        So it is where a cap of yours has cut an answer that the class parses. What is returned is
        then taken through the stages as if the class had returned it; else the call has failed.
        """
        return None

    def failed(self, error: BaseException) -> None:
        """Clean up after a call without an answer: an error, a cancellation, an abandoned stream.

        *error* is ``GeneratorExit`` when the caller stopped reading.
        """


DISABLE_VARIABLE = "TOKENOPT_DISABLE"
"""Set it to 1 and every stage lets everything pass."""


def is_disabled() -> bool:
    """Whether :data:`DISABLE_VARIABLE` is set; read at each call."""
    return os.environ.get(DISABLE_VARIABLE) == "1"


@runtime_checkable
class Stage(Protocol):
    """One optimisation, usable in every socket.

    A stage that waits may have ``aopen`` beside :meth:`open`; async sockets then await that.
    """

    @property
    def phase(self) -> Phase:
        """Where it stands; ``optimize`` sorts by it."""
        ...

    @property
    def blocking(self) -> bool:
        """True when it waits (embedding, disk, network): async sockets then use a thread."""
        ...

    @property
    def fingerprint(self) -> str:
        """Name every setting that changes answers; part of the key of caches further out."""
        ...

    def open(self, request: ModelRequest) -> StageCall | None:
        """Begin a trip, or return ``None``: nothing to do for this request."""
        ...


@runtime_checkable
class StageGroup(Protocol):
    """Several stages that belong together; ``optimize`` takes the group in their place."""

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages, in any order."""
        ...


@dataclass(frozen=True, slots=True)
class TunableSetting:
    """A setting that may be moved while calls are made: the lower it is, the less a call costs."""

    value: float
    """The user's own."""
    least: float
    most: float = math.inf
    whole: bool = True
    """Whether only whole numbers make sense."""


@runtime_checkable
class TunableStage(Protocol):
    """A stage that says itself which of its settings may be moved; nothing else is touched."""

    @property
    def tunable(self) -> Mapping[str, TunableSetting]:
        """The settings that may be moved now, by name; none that could break a call."""
        ...

    def with_settings(self, settings: Mapping[str, float]) -> Stage:
        """Return a stage with other settings that shares all else with this one, its state too."""
        ...


@runtime_checkable
class TakesVerdicts(Protocol):
    """A stage that wants to know how good answers were."""

    def take_verdict(self, run_id: UUID, quality: float) -> None:
        """Hear how good the answer of a run was, from 0 to 1. Never raises."""
        ...


AMBIENT: ContextVar[tuple[Stage, ...]] = ContextVar("langchain_tokenopt_ambient", default=())
"""Stages that every staged model uses here besides its own, where it has none of that kind."""


@dataclass(slots=True)
class PassThrough:
    """A stage that does nothing; for measuring a socket's own cost."""

    phase: Phase = Phase.LIMIT
    blocking: bool = False
    fingerprint: str = field(default="pass", init=False)

    def open(self, request: ModelRequest) -> StageCall:
        """Begin a trip that lets everything pass."""
        return StageCall(request)
