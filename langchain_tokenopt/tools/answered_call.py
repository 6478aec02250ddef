"""A call in which the seam itself answers some of the model's tool calls, and asks it again.

The application never sees such a call of a tool: neither whole, nor a piece of one in a stream.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, Final

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata, add_usage
from langchain_core.outputs import ChatGeneration, ChatResult

from langchain_tokenopt.core.messages import as_chunk, as_message, text_of
from langchain_tokenopt.request.model_request import Answer, ModelRequest
from langchain_tokenopt.stage import Again, StageCall
from langchain_tokenopt.tools.find_more import CallFilter

__all__ = ["AnsweredCall"]


class AnsweredCall(StageCall, ABC):
    """Takes calls out of the answer that are not for the caller, and asks the model again.

    What was said and thought before stands in front of the answer; ids, usage and indexes of a
    stream go on as if there had been one answer.

    Args:
        request: What goes on to the next stage.
        streaming: Whether the caller reads the answer while it is written.
    """

    may_stop = False

    def __init__(self, request: ModelRequest, *, streaming: bool) -> None:
        super().__init__(request)
        self._streaming = streaming
        self._shown_id: str | None = None
        self._shown_metadata: set[str] = set()
        self._shown_blocks = 0
        self._unseen: Any = ""
        """What was said and thought in answers that did not stand, where nobody has seen it."""
        self._text_before = ""
        """The last piece of text in front of the answer, seen or not."""
        self._begin()

    def _begin(self) -> None:
        """Make ready for an answer, the first or a further one."""
        self._filter = self.new_filter()
        self._put_before, self._is_behind_text = self._unseen, bool(self._text_before)
        self._usage: UsageMetadata | None = None
        self._offset = self._shown_blocks
        self._continued = frozenset(self._shown_metadata)
        self._has_ended = False
        self._is_final = True

    # Pieces of the answer

    def chunk(self, chunk: AIMessageChunk) -> Iterable[AIMessageChunk]:
        """Show what is for the caller; hold back calls of tools that the model was not shown."""
        pieces = self._filter.see(chunk)
        if chunk.chunk_position == "last" and not self._has_ended:
            return self._ended(pieces)
        return [self._passed(piece) for piece in pieces]

    def finish(self) -> Iterable[AIMessageChunk]:
        """Show what was held back, if the answer stands."""
        if self._has_ended or not self._filter.has_seen:
            return ()
        pieces = self._ended([])
        if not self._is_final and self._streaming:  # it is too late for these
            self._unseen = "".join(map(text_of, pieces))
            self._text_before = self._unseen or self._text_before
        return pieces

    def _ended(self, pieces: list[AIMessageChunk]) -> list[AIMessageChunk]:
        self._has_ended = True
        message = self._filter.message if self._filter.has_calls else AIMessage("")
        self._is_final = self._filter.stands or not self.asks(message)
        if not self._is_final:
            return [self._passed(piece) for piece in (*pieces, *self._filter.release_text())]
        shown = [self._passed(piece) for piece in (*pieces, *self._filter.release())]
        self.stood(message)
        if not shown or shown[-1].chunk_position != "last":
            shown.append(self._passed(AIMessageChunk(content="")))
        last = shown.pop()
        changes: dict[str, Any] = {"response_metadata": self.marked(last)}
        if self._usage is not None:
            changes["usage_metadata"] = add_usage(self._usage, last.usage_metadata)
        return [*shown, last.model_copy(update=changes)]

    def _passed(self, piece: AIMessageChunk) -> AIMessageChunk:
        """Return a piece as it is shown, behind what was shown of an earlier answer.

        What the provider reports of the usage comes with the last piece: of an answer that does not
        stand it is not the caller's to add up.
        """
        changes: dict[str, Any] = {}
        if self._shown_id is not None and piece.id != self._shown_id:
            changes["id"] = self._shown_id
        if self._continued & piece.response_metadata.keys():
            said = piece.response_metadata.items()
            changes["response_metadata"] = {k: v for k, v in said if k not in self._continued}
        if self._is_behind_text and text_of(piece):
            self._is_behind_text = False
            changes["content"] = _apart(self._text_before, piece.content)
        if self._put_before:
            content = changes.get("content", piece.content)
            changes["content"], self._put_before = _joined(self._put_before, content), ""
            if self._streaming:
                self._unseen = ""
        if piece.usage_metadata and piece.chunk_position != "last":
            self._usage = add_usage(self._usage, piece.usage_metadata)
            changes["usage_metadata"] = None
        if self._offset:
            calls = [_moved(call, self._offset) for call in piece.tool_call_chunks]
            changes["tool_call_chunks"] = calls
            if isinstance(piece.content, list):
                content = changes.get("content", piece.content)
                changes["content"] = [_moved(block, self._offset) for block in content]
        shown = piece.model_copy(update=changes) if changes else piece
        self._note_shown(shown)
        return shown

    def _note_shown(self, shown: AIMessageChunk) -> None:
        if not self._streaming:
            return  # nobody has seen it: the next answer begins anew
        self._shown_id = self._shown_id or shown.id
        self._text_before = text_of(shown) or self._text_before
        self._shown_metadata.update(shown.response_metadata)
        for block in shown.content if isinstance(shown.content, list) else ():
            if isinstance(block, dict) and isinstance(index := block.get("index"), int):
                self._shown_blocks = max(self._shown_blocks, index + 1)

    # The whole answer

    def close(self, answer: Answer) -> Answer | Again:
        """Ask again where the model has called what is answered here; else record how it went."""
        if not self._filter.has_seen and answer.result.generations:
            answer = self._close_several(answer)
        if not self._is_final:
            return self._again(answer)
        calls = (g.message for g in answer.result.generations if isinstance(g.message, AIMessage))
        self.finished(call["name"] for message in calls for call in message.tool_calls)
        return answer

    def failed(self, error: BaseException) -> None:
        """Record what was sent all the same."""
        self.finished(())

    def _close_several(self, answer: Answer) -> Answer:
        """Look at answers that did not come in pieces: several, or made by another stage."""
        generations = []
        asking: CallFilter | None = None
        for generation in answer.result.generations:
            message = generation.message
            if isinstance(message, AIMessage):
                calls = self.new_filter()
                shown = [*calls.see(as_chunk(message)), *calls.release()]
                if not calls.stands and self.asks(message):
                    asking, self._is_final = calls, False
                else:
                    self.stood(message)
                last = shown[-1] if shown else AIMessageChunk(content="")
                changed = last.model_copy(update={"response_metadata": self.marked(last)})
                generation = ChatGeneration(
                    message=as_message(changed), generation_info=generation.generation_info
                )
            generations.append(generation)
        self._filter = asking or self._filter
        result = ChatResult(generations=generations, llm_output=answer.result.llm_output)
        return answer.override(result=result)

    def _again(self, answer: Answer) -> Again:
        message = self._filter.message
        if not self._streaming:
            said = _said_in(message)
            if text := text_of(message):
                said = _apart(self._text_before, said) if self._text_before else said
                self._text_before = text
            self._unseen = _joined(self._unseen, said)
        request = self.next_request(message)
        self._begin()
        return Again(request, continues=True, otherwise=_without_search(answer, message))

    # What the calls are

    @abstractmethod
    def new_filter(self) -> CallFilter:
        """Return what tells the calls of one answer apart."""

    @abstractmethod
    def asks(self, message: AIMessage) -> bool:
        """Whether the model calls nothing that the application can be asked to do."""

    @abstractmethod
    def stood(self, message: AIMessage) -> None:
        """Take note of an answer that the caller sees."""

    @abstractmethod
    def next_request(self, message: AIMessage) -> ModelRequest:
        """Answer the model's calls, and return what it is asked then."""

    @abstractmethod
    def marked(self, message: BaseMessage) -> dict[str, Any]:
        """Return the ``response_metadata`` of the last piece."""

    @abstractmethod
    def finished(self, called: Iterable[str]) -> None:
        """Record how the call went: once, for an answer that stands and for none."""


def _without_search(answer: Answer, message: AIMessage) -> Answer:
    """Return the answer of a model that has only searched, for callers that get nothing better."""
    said = answer.message
    changes = {
        "response_metadata": message.response_metadata | said.response_metadata,
        "usage_metadata": said.usage_metadata or message.usage_metadata,
        "id": said.id or message.id,
    }
    return Answer.of(said.model_copy(update=changes), storable=False)


_THOUGHTS: Final = ("thinking", "redacted_thinking", "reasoning_content")


def _said_in(message: AIMessage) -> Any:
    """Return what a message says and thinks, for the answer that stands: a text, or blocks.

    Anthropic wants thoughts back in front of the calls that the model has thought of. After the
    result of a search it does not think again, and an answer that calls tools without a thought
    before them is refused when it comes back.
    https://docs.anthropic.com/en/docs/build-with-claude/extended-thinking (read 2026-11-29)
    """
    blocks = _blocks_of(message.content)
    kinds = {block.get("type") for block in blocks}
    if kinds.isdisjoint(_THOUGHTS):
        return text_of(message)
    kept = (block for block in blocks if block.get("type") in (*_THOUGHTS, "text", "output_text"))
    return [{key: value for key, value in b.items() if key != "index"} for b in kept]


def _blocks_of(content: Any) -> list[dict[str, Any]]:
    parts = [content] if isinstance(content, str) else content
    return [{"type": "text", "text": p} if isinstance(p, str) else p for p in parts if p]


def _joined(before: Any, content: Any) -> Any:
    if isinstance(before, str) and isinstance(content, str):
        return before + content
    return [*_blocks_of(before), *_blocks_of(content)]


def _apart(before: str, content: Any) -> Any:
    """Return *content* with an empty line in front of its text, where none is between them."""
    if isinstance(content, str):
        return content if before[-1].isspace() or content[0].isspace() else f"\n\n{content}"
    blocks = _blocks_of(content)
    for at, block in enumerate(blocks):
        if text := text_of(AIMessage([block])):
            blocks[at] = {**block, "text": _apart(before, text)}
            break
    return blocks


def _moved(part: Any, offset: int) -> Any:
    if isinstance(part, dict) and isinstance(index := part.get("index"), int):
        return {**part, "index": index + offset}
    return part
