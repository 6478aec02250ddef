"""One call that was routed, and what comes back for it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatResult

from langchain_tokenopt.core.errors import TokenOptError, TokenOptWarning
from langchain_tokenopt.core.messages import as_message
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.request.finish_reasons import says_cap_reached
from langchain_tokenopt.request.model_request import Answer
from langchain_tokenopt.routing.decision import Decided
from langchain_tokenopt.routing.tool_loop import TIER
from langchain_tokenopt.routing.validators import Validator, is_answer
from langchain_tokenopt.stage import Again, StageCall

__all__ = ["ASKED_NEXT", "RouteCall"]

ASKED_NEXT = "ModelRouter:asked next"
"""Also among a call's stages when the next tier was asked."""


class _Kept(NamedTuple):
    """An answer that was sent back: caches do not keep it, should it stand after all."""

    tier: str
    pieces: list[AIMessageChunk]
    answer: Answer


class RouteCall(StageCall):
    """Marks the answer with its tier; judges it, and asks the next tier where it will not do.

    An answer that may be sent back is held until it is judged: of a stream the caller sees the
    pieces of one answer only.

    Args:
        decided: What was decided.
        validators: What judges.
        note_calls: Told the ids of tool calls and the tier that has made them.
        learn: Told of each tier that was judged, and how good its answer was.
        ended: Told of the answer that stands, which tier has given it, and what others have used.
        failed: Told which tier has failed.
    """

    may_stop = False

    def __init__(
        self,
        decided: Decided,
        validators: Sequence[Validator],
        *,
        note_calls: Callable[[Iterable[str], str], None],
        learn: Callable[[str, float], None],
        ended: Callable[[Answer, str, Usage], None],
        failed: Callable[[str], None],
    ) -> None:
        super().__init__(decided.request)
        self._run = decided.request.run
        self._tier = decided.route.tier
        self._later = list(decided.later)
        self._validators = validators
        self._is_capped = decided.is_capped
        self._note_calls, self._learn, self._ended = note_calls, learn, ended
        self._note_failure = failed
        self._kept: _Kept | None = None
        """The answer before this one, for where the next cannot be had."""
        self._is_kept = False
        self._begin()

    def _begin(self) -> None:
        self._held: list[AIMessageChunk] = []
        self._is_marked, self.held = False, None

    @property
    def _may_be_sent_back(self) -> bool:
        return bool(self._later) and (bool(self._validators) or self._is_capped)

    # Pieces of the answer

    def chunk(self, chunk: AIMessageChunk) -> Iterable[AIMessageChunk]:
        """Mark the first piece; hold back what may not stand."""
        self._note_calls((call["id"] for call in chunk.tool_call_chunks if call["id"]), self._tier)
        if not self._is_marked:
            self._is_marked = True
            said = {**chunk.response_metadata, TIER: self._tier}
            chunk = chunk.model_copy(update={"response_metadata": said})
        if self._may_be_sent_back or self._stands_in:
            self._held.append(chunk)
            return ()
        return (chunk,)

    @property
    def _stands_in(self) -> bool:
        """Whether a budget has answered in the next model's place, where there is an answer."""
        return self._run.refused and self._kept is not None

    def finish(self) -> Iterable[AIMessageChunk]:
        """Show what was held back, if it stands."""
        if self._is_judged():
            return self._judged(self._verdict())
        return self._released()

    async def afinish(self) -> Iterable[AIMessageChunk]:
        """As :meth:`finish`; functions of the user's do not hold up the event loop."""
        if self._is_judged():
            return self._judged(await self._averdict())
        return self._released()

    def _is_judged(self) -> bool:
        return bool(self._held) and self._may_be_sent_back and not self._run.refused

    def _released(self) -> list[AIMessageChunk]:
        if self._stands_in and self._kept is not None:
            self._tier, self._held = self._kept.tier, self._kept.pieces
            self._is_kept, self._run.refused = True, False
        held, self._held = self._held, []
        return held

    def _judged(self, is_good: bool) -> list[AIMessageChunk]:
        if is_good:
            return self._released()
        self.held = Answer(
            ChatResult(generations=[ChatGeneration(message=self._message())]), storable=False
        )
        return []

    def _message(self) -> AIMessage:
        first, *others = self._held
        message = as_message(first + others if others else first)
        assert isinstance(message, AIMessage)
        return message

    # Judging

    def _verdict(self) -> bool:
        message = self._message()
        if self._is_cut(message):
            return False
        if not is_answer(message):
            return True
        for validator in self._validators:
            try:
                said = validator.judge(message)
            except Exception as error:  # noqa: BLE001  it is the user's: no call may break for it
                return self._cannot_be_judged(validator, error)
            if said is False:
                return self._failed_by(validator)
        return self._passed()

    async def _averdict(self) -> bool:
        message = self._message()
        if self._is_cut(message):
            return False
        if not is_answer(message):
            return True
        for validator in self._validators:
            try:
                said = await validator.ajudge(message)
            except Exception as error:  # noqa: BLE001  as above
                return self._cannot_be_judged(validator, error)
            if said is False:
                return self._failed_by(validator)
        return self._passed()

    def _is_cut(self, message: AIMessage) -> bool:
        """Whether our own cap has ended the answer: the same tier is asked without."""
        if not self._is_capped:
            return False
        self._is_capped = False
        if says_cap_reached(message.response_metadata):
            return True
        self._later = [later for later in self._later if later[0] != self._tier]
        return False

    def _passed(self) -> bool:
        if self._validators:
            self._learn(self._tier, 1.0)
        return True

    def _failed_by(self, validator: Validator) -> bool:
        self._learn(self._tier, 0.0)
        return not self._later

    def _cannot_be_judged(self, validator: Validator, error: Exception) -> bool:
        """Ask the strongest, whose answer is not judged."""
        warnings.warn(
            f"The validator {validator.name} of a router's cascade raised {type(error).__name__}: "
            f"{error}. The strongest model is asked.",
            TokenOptWarning,
            stacklevel=3,
        )
        self._later = self._later[-1:]
        return not self._later

    # The whole answer

    def close(self, answer: Answer) -> Answer | Again:
        """Ask the next tier, or take note of the answer that stands."""
        if self.held is not None:
            return self._again(self.held)
        if self._is_kept and self._kept is not None:
            answer = self._kept.answer
        elif not self._is_marked:
            answer = self._marked(answer)
        self._ended(answer, self._tier, Usage() if self._is_kept else self.spent)
        return answer

    def _again(self, answer: Answer) -> Again:
        self._kept = _Kept(self._tier, self._held, answer)
        self._tier, request = self._later.pop(0)
        self._run.stages.append(ASKED_NEXT)
        self._begin()
        return Again(request, otherwise=answer)

    def failed(self, error: BaseException) -> None:
        """Take note of it: the same may be asked of another model."""
        if isinstance(error, Exception) and not isinstance(error, TokenOptError):
            self._note_failure(self._tier)

    def _marked(self, answer: Answer) -> Answer:
        """Mark answers that did not come in pieces: several, or a stage's."""
        generations = []
        for generation in answer.result.generations:
            message = generation.message
            if isinstance(message, AIMessage):
                ids = (call["id"] for call in message.tool_calls if call["id"])
                self._note_calls(ids, self._tier)
                said = {**message.response_metadata, TIER: self._tier}
                marked = message.model_copy(update={"response_metadata": said})
                info = generation.generation_info
                generation = ChatGeneration(message=marked, generation_info=info)
            generations.append(generation)
        result = ChatResult(generations=generations, llm_output=answer.result.llm_output)
        return answer.override(result=result)
