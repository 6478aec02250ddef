"""One answer under a limit, as a stage around the model sees it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatResult

from langchain_tokenopt.core.errors import StopStream
from langchain_tokenopt.core.records import Saving
from langchain_tokenopt.forecast import CUT_FACTOR, UsageForecaster
from langchain_tokenopt.limits.compliance import (
    STAGE,
    STOPPED,
    TRIMMED,
    Compliance,
    ComplianceLog,
)
from langchain_tokenopt.limits.message_excerpt import MessageExcerpt
from langchain_tokenopt.limits.on_exceed import LimitRule, marked
from langchain_tokenopt.request.finish_reasons import says_cap_reached
from langchain_tokenopt.request.model_request import Answer, ModelRequest
from langchain_tokenopt.stage import StageCall

__all__ = ["AnswerHistory", "LimitCall", "ObservedCall"]


@dataclass(frozen=True, slots=True)
class AnswerHistory:
    """What one limit remembers of the answers under it."""

    compliance: ComplianceLog
    lengths: UsageForecaster


class LimitCall(StageCall):
    """One answer under a limit.

    Args:
        request: What goes on to the model.
        rule: What is allowed, and what happens beyond it.
        history: Where to note how it went.
        before: The request without the line that asks for the length.
        cap: The cap on output tokens that this limit has set; ``None``: it has set none.
    """

    def __init__(
        self,
        request: ModelRequest,
        rule: LimitRule,
        history: AnswerHistory,
        *,
        before: ModelRequest,
        cap: int | None,
    ) -> None:
        super().__init__(request)
        self._rule = rule
        self._history = history
        self._agent = request.facts.attribution.agent
        self._before = before
        self._is_asked = request.messages is not before.messages
        self.cap = cap
        self.may_stop = not request.facts.answer_form.may_call_tools
        self._excerpt = rule.excerpt(request.facts.counter)
        self._shown = MessageExcerpt(self._excerpt)
        self._received_before = len(request.run.received)
        self._is_over = False
        self._stopped = False
        self._cap_reached = False

    def chunk(self, chunk: AIMessageChunk) -> Iterable[AIMessageChunk]:
        """Show what fits; end the stream when nothing more can."""
        if says_cap_reached(chunk.response_metadata):
            self._cap_reached = True
        last = chunk.chunk_position == "last"
        if last and self._fits_surely(chunk):
            self._is_over = True
            yield chunk
            return
        shown = self._shown.show(chunk, last=last, broken_off=last and self._is_broken_off())
        self._is_over = self._is_over or last
        if self._rule.shows_all:
            yield chunk
            return
        self._rule.check(self._excerpt, self._agent)
        shown = self._marked(shown) if last else shown
        if shown is not None:
            yield shown
        can_stop = self.may_stop and not self._shown.calls_tools and not last
        if can_stop and self._shown.text.is_full:
            self._stopped = True
            raise StopStream

    def _fits_surely(self, whole: AIMessageChunk) -> bool:
        """Whether a whole answer is within the limit, whatever a word is."""
        if self._shown.text.received or self.cap is not None:
            return False
        content = whole.content
        return isinstance(content, str) and self._rule.limit.holds_bytes(len(content.encode()))

    def finish(self) -> Iterable[AIMessageChunk]:
        """Show what was held back and fits."""
        if self._is_over:
            return ()
        self._is_over = True
        rest = self._shown.rest(broken_off=not self._stopped and self._is_broken_off())
        if self._rule.shows_all:
            return ()
        self._rule.check(self._excerpt, self._agent)
        rest = self._marked(rest)
        return () if rest is None else (rest,)

    def _marked(self, last: AIMessageChunk | None) -> AIMessageChunk | None:
        """Mark the last chunk, if something was left out and the seam does not say so."""
        is_trimmed = self._excerpt.is_cut and not self._stopped
        return marked(last or AIMessageChunk(content="")) if is_trimmed else last

    def close(self, answer: Answer) -> Answer:
        """Take note of how it went."""
        if len(answer.result.generations) > 1:
            return self._close_several(answer)
        is_cut = self._excerpt.is_cut
        if is_cut and self._rule.shows_all:
            self._rule.warn(self._agent)
        self._note(answer, is_trimmed=is_cut and not self._stopped)
        if not is_cut or self._rule.shows_all:
            return answer
        return answer.override(storable=False)

    def _close_several(self, answer: Answer) -> Answer:
        """Trim each of several generations, which do not come as a stream."""
        if self._rule.shows_all:
            return answer
        generations = list(map(self._trimmed, answer.result.generations))
        is_cut = any(
            new is not old for new, old in zip(generations, answer.result.generations, strict=True)
        )
        self._note(answer, is_trimmed=is_cut)
        if not is_cut:
            return answer
        result = ChatResult(generations=generations, llm_output=answer.result.llm_output)
        return answer.override(result=result, storable=False)

    def _trimmed(self, generation: ChatGeneration) -> ChatGeneration:
        message = generation.message
        excerpt = self._rule.excerpt(self.request.facts.counter)
        if not isinstance(message, AIMessage):
            return generation
        shown = MessageExcerpt(excerpt).show(message, last=True)
        self._rule.check(excerpt, self._agent)
        if shown is None or not excerpt.is_cut:
            return generation
        return ChatGeneration(message=marked(shown), generation_info=generation.generation_info)

    def _note(self, answer: Answer, *, is_trimmed: bool) -> None:
        """Record the saving, count the answer, learn its length."""
        run = self.request.run
        written, exact = self._written(answer)
        saving = Saving(
            stage=STAGE,
            side="output",
            tokens_before=self._whole_length(written) if self._stopped else written,
            tokens_after=written,
            spent_tokens=self._asking_tokens(),
            exact=exact and not self._stopped,
        )
        run.savings.append(saving)
        self.verdict = 0.0 if self._stopped or is_trimmed else 1.0
        if self._stopped or is_trimmed:
            run.stages.append(STOPPED if self._stopped else TRIMMED)
        self._history.compliance.add(
            self._agent,
            Compliance.of_answer(
                asked=self._is_asked,
                trimmed=is_trimmed,
                stopped=self._stopped,
                saved_tokens=saving.saved_tokens,
                estimated=not saving.exact,
            ),
        )
        self._history.lengths.observe(
            self._agent,
            written,
            model=self.request.facts.model_name,
            max_words=self._rule.limit.words,
            cut=not self._stopped and self._is_broken_off(),
            run_id=run.run_id,
        )

    def _written(self, answer: Answer) -> tuple[int, bool]:
        """Return how many tokens the model has written, and whether that is exact."""
        reported = answer.message.usage_metadata
        if reported and "output_tokens" in reported and not self._stopped:
            return reported["output_tokens"], True
        counted = self.request.facts.counter.count(self._received() or answer.message.text)
        return counted.tokens, counted.exact

    def _received(self) -> str:
        return "".join(self.request.run.received[self._received_before :])

    def _whole_length(self, written: int) -> int:
        """Estimate how long a stopped answer would have become."""
        model = self.request.facts.model_name
        usual = self._history.lengths.quantile(0.5, self._agent, model=model)
        return max(usual or 0, round(written * CUT_FACTOR))

    def _asking_tokens(self) -> int:
        """Return how many tokens the line that asks has cost."""
        if not self._is_asked:
            return 0
        sent, plain = self.request.facts.message_tokens, self._before.facts.message_tokens
        return sent.tokens - plain.tokens

    def _is_broken_off(self) -> bool:
        """Whether our own cap has ended the answer.

        Streams tell why they ended only after their last piece, so what came is counted too.
        """
        if self.cap is None:
            return False
        if self._cap_reached:
            return True
        counted = self.request.facts.counter.count(self._received())
        return counted.tokens >= (self.cap if counted.exact else 0.9 * self.cap)


class ObservedCall(StageCall):
    """Sees what a limit would have done."""

    def __init__(self, request: ModelRequest, rule: LimitRule, history: AnswerHistory) -> None:
        super().__init__(request)
        self._rule = rule
        self._history = history

    def close(self, answer: Answer) -> Answer:
        """Record what would have been saved, and learn how long answers are without a limit."""
        facts, run = self.request.facts, self.request.run
        shown = MessageExcerpt(self._rule.excerpt(facts.counter)).show(answer.message, last=True)
        before = facts.counter.count(answer.message.text)
        after = facts.counter.count(shown.text) if shown is not None else before
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
        self._history.lengths.observe(
            facts.attribution.agent, before.tokens, model=facts.model_name, run_id=run.run_id
        )
        return answer
