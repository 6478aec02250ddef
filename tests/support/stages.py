"""Small stages for testing the sockets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage

from langchain_tokenopt.core.errors import StopStream
from langchain_tokenopt.request.model_request import Answer, ModelRequest
from langchain_tokenopt.stage import Again, Phase, StageCall


@dataclass
class Recording:
    """A stage that changes nothing and writes down what it is told."""

    name: str = "recording"
    phase: Phase = Phase.CONTEXT
    blocking: bool = False
    log: list[tuple[str, Any]] = field(default_factory=list)

    @property
    def fingerprint(self) -> str:
        return self.name

    def open(self, request: ModelRequest) -> StageCall:
        self.log.append(("open", request))
        return _RecordingCall(request, self.log)

    @property
    def events(self) -> list[str]:
        return [event for event, _ in self.log]


class _RecordingCall(StageCall):
    def __init__(self, request: ModelRequest, log: list[tuple[str, Any]]) -> None:
        super().__init__(request)
        self._log = log

    def chunk(self, chunk: AIMessageChunk) -> Iterable[AIMessageChunk]:
        self._log.append(("chunk", chunk))
        return (chunk,)

    def finish(self) -> Iterable[AIMessageChunk]:
        self._log.append(("finish", None))
        return ()

    def close(self, answer: Answer) -> Answer:
        self._log.append(("close", answer))
        return answer

    def failed(self, error: BaseException) -> None:
        self._log.append(("failed", error))


@dataclass
class Rewrite:
    """Replaces the last message and adds keyword arguments."""

    text: str
    kwargs: dict[str, Any] = field(default_factory=dict)
    phase: Phase = Phase.CONTEXT
    blocking: bool = False

    @property
    def fingerprint(self) -> str:
        return f"rewrite:{self.text}"

    def open(self, request: ModelRequest) -> StageCall:
        messages = [*request.messages[:-1], HumanMessage(self.text)]
        return StageCall(
            request.override(messages=messages, kwargs={**request.kwargs, **self.kwargs})
        )


@dataclass
class StopAfter:
    """Stops the model after some pieces that have text."""

    pieces: int
    phase: Phase = Phase.LIMIT
    blocking: bool = False

    @property
    def fingerprint(self) -> str:
        return f"stop:{self.pieces}"

    def open(self, request: ModelRequest) -> StageCall:
        return _StoppingCall(request, self.pieces)


class _StoppingCall(StageCall):
    def __init__(self, request: ModelRequest, pieces: int) -> None:
        super().__init__(request)
        self._left = pieces

    def chunk(self, chunk: AIMessageChunk) -> Iterable[AIMessageChunk]:
        if chunk.text:
            self._left -= 1
        yield chunk
        if self._left <= 0:
            raise StopStream


@dataclass
class Say:
    """Answers in the model's place."""

    text: str
    phase: Phase = Phase.BUDGET
    blocking: bool = False
    fingerprint: str = "say"

    def open(self, request: ModelRequest) -> StageCall:
        request.run.answered_by = "Say"
        return StageCall(request, Answer.of(AIMessage(self.text), storable=False))


@dataclass
class Upper:
    """Shouts: changes every piece."""

    phase: Phase = Phase.LIMIT
    blocking: bool = False
    fingerprint: str = "upper"

    def open(self, request: ModelRequest) -> StageCall:
        return _UpperCall(request)


class _UpperCall(StageCall):
    def chunk(self, chunk: AIMessageChunk) -> Iterable[AIMessageChunk]:
        yield chunk.model_copy(update={"content": chunk.text.upper()})


@dataclass
class HoldBack:
    """Shows nothing before the end."""

    phase: Phase = Phase.LIMIT
    blocking: bool = False
    fingerprint: str = "hold"

    def open(self, request: ModelRequest) -> StageCall:
        return _HoldingCall(request)


class _HoldingCall(StageCall):
    def __init__(self, request: ModelRequest) -> None:
        super().__init__(request)
        self._held: list[AIMessageChunk] = []

    def chunk(self, chunk: AIMessageChunk) -> Iterable[AIMessageChunk]:
        self._held.append(chunk)
        return ()

    def finish(self) -> Iterable[AIMessageChunk]:
        return self._held


@dataclass
class HoldAndStop:
    """Shows nothing before the end, which it brings about after some pieces."""

    pieces: int
    phase: Phase = Phase.LIMIT
    blocking: bool = False
    fingerprint: str = "hold and stop"

    def open(self, request: ModelRequest) -> StageCall:
        return _HoldingAndStoppingCall(request, self.pieces)


class _HoldingAndStoppingCall(_HoldingCall):
    def __init__(self, request: ModelRequest, pieces: int) -> None:
        super().__init__(request)
        self._pieces = pieces

    def chunk(self, chunk: AIMessageChunk) -> Iterable[AIMessageChunk]:
        super().chunk(chunk)
        if len(self._held) == self._pieces:
            raise StopStream
        return ()


@dataclass
class AskAgain:
    """Asks once more, with *text*, when the answer contains *unless*."""

    unless: str
    text: str
    phase: Phase = Phase.ROUTE
    blocking: bool = False
    fingerprint: str = "again"

    def open(self, request: ModelRequest) -> StageCall:
        return _AskingCall(request, self)


class _AskingCall(StageCall):
    def __init__(self, request: ModelRequest, stage: AskAgain) -> None:
        super().__init__(request)
        self._stage = stage

    def close(self, answer: Answer) -> Answer | Again:
        if self._stage.unless in answer.message.text:
            return answer
        return Again(self.request.override(messages=[HumanMessage(self._stage.text)]))
