"""Hits and misses as the seam sees them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from langchain_core.outputs import ChatResult, Generation

from langchain_tokenopt.cache.served_answers import as_chat
from langchain_tokenopt.core.records import Saving
from langchain_tokenopt.request.answer_form import AnswerForm
from langchain_tokenopt.request.model_request import Answer, ModelRequest
from langchain_tokenopt.stage import StageCall
from langchain_tokenopt.tracking.provider_usage import as_kept, avoided_by

__all__ = ["StagedMiss", "staged_hit"]


def staged_hit(name: str, request: ModelRequest, found: Sequence[Generation]) -> StageCall:
    """Answer a request from the cache, or say what that would have saved where it only observes.

    Args:
        name: Of the stage.
        request: What was asked.
        found: The stored answers.
    """
    answer = Answer(
        ChatResult(generations=[as_chat(generation) for generation in found]),
        storable=False,
        from_cache=True,
    )
    saved = avoided_by(answer, request)
    if request.observe:
        before = saved.total_tokens
        request.run.savings.append(
            Saving(stage=name, tokens_before=before, tokens_after=0, observed=True)
        )
        return StageCall(request)
    request.run.stages.append(name)
    request.run.answered_by, request.run.saved_usage = name, saved
    return StageCall(request, answer)


class StagedMiss(StageCall):
    """A request that the model answers.

    Args:
        request: What was asked.
        keep: Is given the answer, once, and the form in which it was asked for.
        abandon: Called when no answer comes that may be kept.
    """

    def __init__(
        self,
        request: ModelRequest,
        keep: Callable[[AnswerForm, Sequence[Generation]], None],
        abandon: Callable[[], None],
    ) -> None:
        super().__init__(request)
        self._keep, self._abandon = keep, abandon

    def close(self, answer: Answer) -> Answer:
        """Keep the answer, if it is whole and the model's own."""
        if answer.storable and answer.complete and not answer.from_cache:
            kept = as_kept(answer.result.generations, self.request.run)
            self._keep(self.request.facts.answer_form, kept)
        else:
            self._abandon()
        return answer

    def failed(self, error: BaseException) -> None:
        """Let somebody else ask."""
        self._abandon()
