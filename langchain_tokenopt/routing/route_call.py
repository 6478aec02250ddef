"""One call that was routed, and what comes back for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration

from langchain_tokenopt.request.model_request import Answer, ModelRequest
from langchain_tokenopt.routing.tool_loop import TIER
from langchain_tokenopt.stage import StageCall

__all__ = ["RouteCall"]


class RouteCall(StageCall):
    """Marks the answer with its tier, and takes note of the calls in it.

    Args:
        request: For the model that was chosen.
        tier: Its name.
        note_calls: Told the ids of the tool calls that were made.
    """

    may_stop = False

    def __init__(
        self, request: ModelRequest, tier: str, note_calls: Callable[[Iterable[str]], None]
    ) -> None:
        super().__init__(request)
        self.tier = tier
        self._note_calls = note_calls
        self._is_marked = False

    def chunk(self, chunk: AIMessageChunk) -> Iterable[AIMessageChunk]:
        """Mark the first piece."""
        self._note_calls(call["id"] for call in chunk.tool_call_chunks if call["id"])
        if self._is_marked:
            return (chunk,)
        self._is_marked = True
        said = {**chunk.response_metadata, TIER: self.tier}
        return (chunk.model_copy(update={"response_metadata": said}),)

    def close(self, answer: Answer) -> Answer:
        """Mark answers that did not come in pieces: several, or a stage's."""
        if self._is_marked:
            return answer
        generations = []
        for generation in answer.result.generations:
            message = generation.message
            if isinstance(message, AIMessage):
                self._note_calls(call["id"] for call in message.tool_calls if call["id"])
                said = {**message.response_metadata, TIER: self.tier}
                marked = message.model_copy(update={"response_metadata": said})
                generation = ChatGeneration(
                    message=marked, generation_info=generation.generation_info
                )
            generations.append(generation)
        return answer.override(result=answer.result.model_copy(update={"generations": generations}))
