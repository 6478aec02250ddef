"""A stage whose settings are chosen for each call, as sockets see it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol
from uuid import UUID

from langchain_core.messages import AIMessageChunk
from langchain_core.runnables.config import run_in_executor

from langchain_tokenopt.request.model_request import Answer, ModelRequest
from langchain_tokenopt.stage import Again, Phase, Stage, StageCall

__all__ = ["CallTuner", "Chosen", "tuned_stage"]


class Chosen(Protocol):
    """The setting that one call uses, fixed at its start."""

    @property
    def stage(self) -> Stage:
        """The stage with that setting."""
        ...

    @property
    def is_default(self) -> bool:
        """Whether it is the user's own."""
        ...


class CallTuner(Protocol):
    """Who chooses settings, and hears what became of the calls. Nothing of it raises."""

    def choose(self, request: ModelRequest) -> Chosen:
        """Choose the setting of a call."""
        ...

    def end(
        self, chosen: Any, request: ModelRequest, answer: Answer, verdict: float | None
    ) -> None:
        """Hear of a call that was answered."""
        ...

    def drop(self, chosen: Any) -> None:
        """Hear of a call without an answer."""
        ...

    def take_verdict(self, run_id: UUID, quality: float) -> None:
        """Hear how good an answer was."""
        ...


class _TunedStage:
    """Opens a call of the tuned stage with the setting that was chosen for it."""

    def __init__(self, inner: Stage, tuner: CallTuner, fingerprint: str, waits: bool) -> None:
        self._inner, self._tuner, self._waits = inner, tuner, waits
        self.fingerprint, self.around = fingerprint, type(inner)
        if hasattr(inner, "aopen"):
            self.aopen = self._aopen

    @property
    def phase(self) -> Phase:
        return self._inner.phase

    @property
    def blocking(self) -> bool:
        return self._waits or self._inner.blocking

    def take_verdict(self, run_id: UUID, quality: float) -> None:
        self._tuner.take_verdict(run_id, quality)

    def open(self, request: ModelRequest) -> StageCall | None:
        if request.observe:
            return self._inner.open(request)
        chosen = self._tuner.choose(request)
        try:
            return self._tuned(request, chosen, chosen.stage.open(request))
        except Exception:
            self._tuner.drop(chosen)
            if chosen.is_default:
                raise
        return self._inner.open(request)  # what works with the user's own setting works

    async def _aopen(self, request: ModelRequest) -> StageCall | None:
        inner: Any = self._inner
        if request.observe:
            found: StageCall | None = await inner.aopen(request)
            return found
        chosen = await run_in_executor(None, self._tuner.choose, request)
        stage: Any = chosen.stage
        try:
            return self._tuned(request, chosen, await stage.aopen(request))
        except Exception:
            self._tuner.drop(chosen)
            if chosen.is_default:
                raise
        fallback: StageCall | None = await inner.aopen(request)
        return fallback

    def _tuned(self, request: ModelRequest, chosen: Chosen, call: StageCall | None) -> StageCall:
        call = StageCall(request) if call is None else call
        watches = type(call).chunk is not StageCall.chunk
        return (_WatchingCall if watches else _TunedCall)(self._tuner, chosen, call)


class _TunedCall(StageCall):
    """A call of the tuned stage, of whose end the tuner hears."""

    def __init__(self, tuner: CallTuner, chosen: Chosen, inner: StageCall) -> None:
        super().__init__(inner.request, inner.answer)
        self._tuner, self._chosen, self._inner = tuner, chosen, inner
        self.may_stop = inner.may_stop

    def close(self, answer: Answer) -> Answer | Again:
        try:
            closed = self._inner.close(answer)
        except BaseException:
            self._tuner.drop(self._chosen)
            raise
        if isinstance(closed, Answer):
            self._tuner.end(self._chosen, self.request, answer, self._inner.verdict)
        return closed

    def failed(self, error: BaseException) -> None:
        self._tuner.drop(self._chosen)
        self._inner.failed(error)


class _WatchingCall(_TunedCall):
    """A call of a stage that sees the answer while it is written."""

    def chunk(self, chunk: AIMessageChunk) -> Iterable[AIMessageChunk]:
        return self._inner.chunk(chunk)

    def finish(self) -> Iterable[AIMessageChunk]:
        return self._inner.finish()


def tuned_stage(inner: Stage, tuner: CallTuner, fingerprint: str, *, waits: bool) -> Stage:
    """Return a stage that opens *inner* with the settings that *tuner* chooses.

    It is of a class of the same name: records and messages call the stage what it is.

    Args:
        inner: The stage with the user's own settings.
        tuner: Chooses.
        fingerprint: Names all settings that may be chosen.
        waits: Whether the tuner may wait for a file.
    """
    cls = type(type(inner).__name__, (_TunedStage,), {})
    made: Stage = cls(inner, tuner, fingerprint, waits)
    return made
