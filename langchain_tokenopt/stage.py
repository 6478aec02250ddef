"""The protocol between stages and sockets.

A *stage* is one optimisation: a cache, a compressor, a word limit, a budget. A *socket* is a place
where stages are plugged in: around a model, in a pipe, in a graph. Both know this module and
neither knows the other.

A stage is shared by concurrent calls and keeps no state of any of them. For each call it hands out
a :class:`Trip`, which sees the request on the way out and the answer on the way back.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any, Protocol, runtime_checkable

from langchain_core.language_models import BaseChatModel
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import BaseModel

from langchain_tokenopt.errors import StopStream
from langchain_tokenopt.tokens import count_messages, counter_for
from langchain_tokenopt.usage import StagedRun, Usage

__all__ = [
    "AMBIENT",
    "Again",
    "Answer",
    "ModelRequest",
    "PassThrough",
    "Phase",
    "Stage",
    "StopStream",
    "Trip",
    "is_disabled",
    "usage_of",
]


class Phase(IntEnum):
    """Where a stage stands between the caller and the model; the lowest opens first."""

    CACHE = 10
    TOOLS = 20
    CONTEXT = 30
    ROUTE = 40
    LIMIT = 50
    BUDGET = 60


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One call of a chat model, before it is sent."""

    model: BaseChatModel
    """The model without stages. A routing stage may put another one here."""
    messages: list[BaseMessage]
    """Never changed in place: use :meth:`override`."""
    stop: list[str] | None
    kwargs: Mapping[str, Any]
    """What was bound or passed: ``tools``, ``response_format``, ``max_tokens``..."""
    run: StagedRun
    """Who calls (``metadata``, ``tags``, ``run_id``), and where stages leave their savings."""
    streaming: bool = False
    """True when the caller reads the answer while it is written."""
    observe: bool = False
    """True when stages may look and record but nothing they do will be used."""
    fingerprint: str = ""
    """Names the other stages and their settings: answers given under them are not each other's."""

    def override(self, **changes: Any) -> ModelRequest:
        """Return a copy with *changes*, as ``langchain.agents`` requests do."""
        return replace(self, **changes)

    def cache_key(self) -> tuple[str, str]:
        """Return the ``(prompt, llm_string)`` under which a LangChain cache keeps the answer.

        It is what langchain-core itself would use, with three mends: what earlier answers carry as
        ids, usage and response metadata does not count (a cache hit would change it); a schema
        class counts by its schema, not by its name; the settings of other stages are part of
        ``llm_string``.
        """
        kwargs = {name: _schema_or_self(value) for name, value in self.kwargs.items()}
        llm_string = self.model._get_llm_string(stop=self.stop, **kwargs)
        if self.fingerprint:
            llm_string += f"---{self.fingerprint}"
        return dumps([_without_noise(message) for message in self.messages]), llm_string

    @property
    def tools(self) -> Sequence[Any]:
        """The tools that the model is shown, in the provider's format."""
        return self.kwargs.get("tools") or ()


def _without_noise(message: BaseMessage) -> BaseMessage:
    """Drop what differs between an answer and its repetition from a cache."""
    noise: dict[str, Any] = {"id": None}
    if isinstance(message, AIMessage):
        noise |= {"usage_metadata": None, "response_metadata": {}}
    return message.model_copy(update=noise)


def _schema_or_self(value: Any) -> Any:
    """Put a schema in the place of a class, whose representation tells only its name."""
    if isinstance(value, type) and issubclass(value, BaseModel):
        return value.model_json_schema()
    return value


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for a request, or what a stage says in the model's place."""

    result: ChatResult
    storable: bool = True
    """False for answers that were cut, degraded or made up: caches must not keep them."""
    from_cache: bool = False
    complete: bool = True
    """False when a stage stopped the model."""

    @property
    def message(self) -> AIMessage:
        """The first generation's message."""
        message = self.result.generations[0].message
        assert isinstance(message, AIMessage)
        return message

    @classmethod
    def of(cls, message: AIMessage, *, storable: bool = True, from_cache: bool = False) -> Answer:
        """Make an answer of one message.

        Example:
            >>> Answer.of(AIMessage("42")).message.content
            '42'
        """
        result = ChatResult(generations=[ChatGeneration(message=message)])
        return cls(result, storable=storable, from_cache=from_cache)

    def override(self, **changes: Any) -> Answer:
        """Return a copy with *changes*."""
        return replace(self, **changes)


@dataclass(frozen=True, slots=True)
class Again:
    """Returned by :meth:`Trip.close`: ask the model once more, with this request.

    Only possible while nothing has been shown: a stream whose chunks have gone out is not repeated.
    """

    request: ModelRequest


def usage_of(answer: Answer, request: ModelRequest) -> Usage:
    """Return what *answer* was billed, counted by ourselves where the provider did not say."""
    reported = answer.message.usage_metadata
    if reported and "input_tokens" in reported:
        return Usage.from_metadata(reported)
    sent = count_messages(request.messages, request.tools, model=request.model)
    return Usage(sent.tokens, counter_for(request.model).count(answer.message.text).tokens)


class Trip:
    """One call's way through one stage. The base class lets everything pass.

    Override :meth:`chunk` to see the answer while it is written: the socket then streams the model
    even for ``invoke``, so that :class:`StopStream` saves what was not yet written. Override only
    :meth:`close` to see the whole answer at the end.

    Calls that return several generations (``n > 1``) skip :meth:`chunk`.

    Args:
        request: What goes on to the next stage.
        answer: When given, the trip ends here: no later stage is opened, no model is asked.
    """

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

    def open(self, request: ModelRequest) -> Trip | None:
        """Begin a trip, or return ``None``: nothing to do for this request."""
        ...


AMBIENT: ContextVar[tuple[Stage, ...]] = ContextVar("langchain_tokenopt_ambient", default=())
"""Stages that every staged model uses here besides its own, where it has none of that kind."""


@dataclass(slots=True)
class PassThrough:
    """A stage that does nothing; for measuring a socket's own cost."""

    phase: Phase = Phase.LIMIT
    blocking: bool = False
    fingerprint: str = field(default="pass", init=False)

    def open(self, request: ModelRequest) -> Trip:
        """Begin a trip that lets everything pass."""
        return Trip(request)
