"""One answer under a limit, on its way through the stages around a model."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatResult

from langchain_tokenopt.core.errors import StopStream, TokenOptWarning
from langchain_tokenopt.core.records import Saving
from langchain_tokenopt.counting.model_names import model_name_of
from langchain_tokenopt.counting.request_tokens import count_messages
from langchain_tokenopt.counting.tokens import counter_for
from langchain_tokenopt.forecast import CUT_FACTOR
from langchain_tokenopt.limits.caps import may_call_tools
from langchain_tokenopt.limits.outcome import (
    STAGE,
    STOPPED,
    TRIMMED,
    Compliance,
    WordLimitExceededError,
    described,
)
from langchain_tokenopt.limits.pieces import MessagePieces
from langchain_tokenopt.request.model_request import Answer, ModelRequest
from langchain_tokenopt.stage import StageCall

if TYPE_CHECKING:
    from langchain_tokenopt.limits.stage import WordLimit

__all__ = ["LimitCall", "ObservedCall"]

_CAP_REACHED = {"length", "max_tokens", "MAX_TOKENS", "max_output_tokens"}


class LimitCall(StageCall):
    """One answer under a limit."""

    def __init__(
        self,
        request: ModelRequest,
        stage: WordLimit,
        agent: str,
        *,
        before: ModelRequest,
        cap: int | None,
    ) -> None:
        super().__init__(request)
        self._stage = stage
        self._agent = agent
        self._is_asked = request.messages is not before.messages
        self._asked_at = before.messages
        self._cap = cap
        self._may_stop = not may_call_tools(request)
        self._shows_all = stage.on_exceed == "warn"
        self._excerpt = stage.excerpt(request.model)
        self._pieces = MessagePieces(self._excerpt)
        self._received_before = len(request.run.received)
        self._is_over = False
        self._stopped = False
        self._cap_reached = False

    def chunk(self, chunk: AIMessageChunk) -> Iterable[AIMessageChunk]:
        """Show what fits; end the stream when nothing more can."""
        if _says_cap_reached(chunk):
            self._cap_reached = True
        last = chunk.chunk_position == "last"
        shown = self._pieces.show(chunk, last=last, broken_off=last and self._is_broken_off())
        self._is_over = self._is_over or last
        if self._shows_all:
            yield chunk
            return
        self._refuse_excess()
        if shown is not None:
            yield shown
        can_stop = self._may_stop and not self._pieces.calls_tools and not last
        if can_stop and self._pieces.text.is_full:
            self._stopped = True
            raise StopStream

    def finish(self) -> Iterable[AIMessageChunk]:
        """Show what was held back and fits."""
        if self._is_over:
            return ()
        self._is_over = True
        rest = self._pieces.rest(broken_off=not self._stopped and self._is_broken_off())
        if self._shows_all:
            return ()
        self._refuse_excess()
        return () if rest is None else (rest,)

    def _refuse_excess(self) -> None:
        exceeded = self._excerpt.has_exceeded or self._excerpt.is_cut
        if exceeded and self._stage.on_exceed == "raise":
            raise WordLimitExceededError(self._stage.limit, self._agent)

    def close(self, answer: Answer) -> Answer:
        """Take note of how it went."""
        if len(answer.result.generations) > 1:
            return self._close_several(answer)
        is_cut = self._excerpt.is_cut
        if is_cut and self._shows_all:
            warnings.warn(
                f"The answer of {self._agent!r} is longer than the "
                f"{described(self._stage.limit)} allowed.",
                TokenOptWarning,
                stacklevel=2,
            )
        is_trimmed = is_cut and not self._stopped
        self._note(answer, is_trimmed=is_trimmed)
        if not is_cut or self._shows_all:
            return answer
        return answer.override(storable=False)

    def _close_several(self, answer: Answer) -> Answer:
        """Trim each of several generations, which do not come as a stream."""
        if self._shows_all:
            return answer
        generations, is_cut = [], False
        for generation in answer.result.generations:
            excerpt = self._stage.excerpt(self.request.model)
            shown = MessagePieces(excerpt).show(generation.message, last=True)  # type: ignore[type-var]
            self._excerpt = excerpt
            self._refuse_excess()
            is_cut = is_cut or excerpt.is_cut
            generations.append(
                ChatGeneration(
                    message=generation.message if shown is None else shown,
                    generation_info=generation.generation_info,
                )
            )
        self._note(answer, is_trimmed=is_cut)
        if not is_cut:
            return answer
        result = ChatResult(generations=generations, llm_output=answer.result.llm_output)
        return answer.override(result=result, storable=False)

    def _note(self, answer: Answer, *, is_trimmed: bool) -> None:
        """Record the saving, count the answer, learn its length."""
        run, model = self.request.run, self.request.model
        counter = counter_for(model)
        reported = answer.message.usage_metadata
        if self._stopped or not reported or "output_tokens" not in reported:
            text = "".join(run.received[self._received_before :]) or answer.message.text
            counted = counter.count(text)
            written, exact = counted.tokens, counted.exact
        else:
            written, exact = reported["output_tokens"], True
        whole = self._whole_length(written) if self._stopped else written
        spent = self._asking_tokens() if self._is_asked else 0
        saving = Saving(
            stage=STAGE,
            side="output",
            tokens_before=whole,
            tokens_after=written,
            spent_tokens=spent,
            exact=exact and not self._stopped,
        )
        run.savings.append(saving)
        if self._stopped or is_trimmed:
            run.stages.append(STOPPED if self._stopped else TRIMMED)
        obeyed = not (self._stopped or is_trimmed)
        self._stage.count(
            self._agent,
            Compliance(
                answers=1,
                asked=int(self._is_asked),
                obeyed=int(obeyed and self._is_asked),
                obeyed_unasked=int(obeyed and not self._is_asked),
                trimmed=int(is_trimmed),
                stopped=int(self._stopped),
                saved_tokens=saving.saved_tokens,
                estimated=not saving.exact,
            ),
        )
        self._stage.forecaster.observe(
            self._agent,
            written,
            model=model_name_of(model),
            max_words=self._stage.limit.words,
            cut=not self._stopped and self._is_broken_off(),
            run_id=run.run_id,
        )

    def _whole_length(self, written: int) -> int:
        """Estimate how long a stopped answer would have become."""
        usual = self._stage.forecaster.quantile(
            0.5, self._agent, model=model_name_of(self.request.model)
        )
        return max(usual or 0, round(written * CUT_FACTOR))

    def _asking_tokens(self) -> int:
        """Return how many tokens the line that asks has cost."""
        model = self.request.model
        asked, plain = (
            count_messages(messages, model=model).tokens
            for messages in (self.request.messages, self._asked_at)
        )
        return asked - plain

    def _is_broken_off(self) -> bool:
        """Whether our own ``max_tokens`` has ended the answer.

        Streams tell why they ended only after their last piece, so what came is counted too.
        """
        if self._cap is None:
            return False
        if self._cap_reached:
            return True
        text = "".join(self.request.run.received[self._received_before :])
        counted = counter_for(self.request.model).count(text)
        return counted.tokens >= (self._cap if counted.exact else 0.9 * self._cap)


class ObservedCall(StageCall):
    """Sees what a limit would have done."""

    def __init__(self, request: ModelRequest, stage: WordLimit, agent: str) -> None:
        super().__init__(request)
        self._stage = stage
        self._agent = agent

    def close(self, answer: Answer) -> Answer:
        """Record what would have been saved, and learn how long answers are without a limit."""
        model, run = self.request.model, self.request.run
        counter = counter_for(model)
        pieces = MessagePieces(self._stage.excerpt(model))
        shown = pieces.show(answer.message, last=True)
        before = counter.count(answer.message.text)
        after = counter.count(shown.text) if shown is not None else before
        run.savings.append(
            Saving(
                stage=STAGE,
                side="output",
                tokens_before=before.tokens,
                tokens_after=after.tokens,
                exact=before.exact,
                observed=True,
            )
        )
        name = model_name_of(model)
        self._stage.forecaster.observe(self._agent, before.tokens, model=name, run_id=run.run_id)
        return answer


def _says_cap_reached(message: AIMessage) -> bool:
    said = message.response_metadata
    return bool({said.get("finish_reason"), said.get("stop_reason")} & _CAP_REACHED)
