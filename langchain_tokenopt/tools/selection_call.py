"""One call whose request shows some of its tools, and what comes back for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata, add_usage
from langchain_core.outputs import ChatGeneration, ChatResult

from langchain_tokenopt.core.messages import as_chunk, as_message, text_of
from langchain_tokenopt.core.records import OfferedTool, Saving, ToolChoice, UsageSink
from langchain_tokenopt.core.sinks import notify
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.request.model_request import Answer, ModelRequest
from langchain_tokenopt.stage import Again, StageCall
from langchain_tokenopt.tools.find_more import CallFilter, answered, fits, queries_in
from langchain_tokenopt.tools.selection_history import mark
from langchain_tokenopt.tools.selection_tools import RequestTools, tools_of

__all__ = ["STAGE", "ObservedSelection", "Selection", "SelectionCall"]

STAGE: Final = "ToolSelector"


class Search(Protocol):
    """Finds tools among those that were left out."""

    def __call__(self, query: str, hidden: Sequence[str], searches: int) -> Sequence[str]:
        """Return names, the more of them the more often it was called; some, if there are any."""
        ...


@dataclass(slots=True)
class Selection:
    """What one request shows of its tools, and how that grew while it was answered."""

    request: ModelRequest
    """As it came, with all tools."""
    tools: RequestTools
    fixed: Sequence[str]
    shown: list[str]
    more_name: str
    more: Any
    """The tool by which the model searches; ``None``: it cannot."""
    slimmed: bool = False
    exchanges: list[BaseMessage] = field(default_factory=list)
    """What the model has searched for and was told, which the application never sees."""
    searches: int = 0
    found: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)

    @property
    def hidden(self) -> list[str]:
        """Names of the tools that are not shown."""
        there = {*self.fixed, *self.shown}
        return [name for name in self.tools.by_name if name not in there]

    def add(self, names: Iterable[str]) -> list[str]:
        """Show these, too, in the order in which the application has them; return what is new."""
        hidden, asked = self.hidden, {*names}
        new = [name for name in hidden if name in asked]
        self.shown += new
        return new

    def rewritten(self) -> ModelRequest:
        """Return the request as it goes on."""
        kwargs = self.tools.rewritten(
            self.request.kwargs,
            self.fixed,
            self.shown,
            self.more if self.hidden else None,
            slimmed=self.slimmed,
        )
        if not self.exchanges:
            return self.request.override(kwargs=kwargs)
        return self.request.override(
            kwargs=kwargs, messages=[*self.request.messages, *self.exchanges]
        )

    def record(self, called: Iterable[str], spent: int, sinks: Iterable[UsageSink]) -> None:
        """Publish what was shown and saved."""
        run, facts = self.request.run, self.request.facts
        there = [*self.fixed, *self.shown]
        offered = [self._offered(name) for name in there]
        sent = tools_of(self.rewritten().kwargs)
        after = 0 if sent is None else sent.tokens
        run.savings.append(
            Saving(
                stage=STAGE,
                tokens_before=self.tools.tokens,
                tokens_after=after,
                spent_tokens=spent,
                exact=False,
                observed=self.request.observe,
            )
        )
        run.tool_choice = ToolChoice(
            offered=tuple(offered),
            left_out=len(self.hidden),
            tokens_before=self.tools.tokens,
            tokens_after=after,
            called=tuple(dict.fromkeys(called)),
            missed=tuple(self.missed),
            found=tuple(self.found),
            searches=self.searches,
            observed=self.request.observe,
            run_id=run.run_id,
            agent=facts.attribution.agent,
            model=facts.billed_name,
        )
        notify(sinks, run.savings[-1], run.tool_choice)

    def _offered(self, name: str) -> OfferedTool:
        cards = [self.tools.cards[at] for at in self.tools.by_name[name]]
        return OfferedTool(name, sum(card.tokens for card in cards if card is not None))


class SelectionCall(StageCall):
    """Shows a part of the tools; answers the model's searches for others, and asks it again.

    Args:
        selection: What is shown.
        search: Finds more.
        sinks: Told what was shown and saved.
    """

    may_stop = False

    def __init__(self, selection: Selection, search: Search, sinks: Sequence[UsageSink]) -> None:
        super().__init__(selection.rewritten())
        self._selection = selection
        self._search = search
        self._sinks = sinks
        self._spent_before = selection.request.run.earlier or Usage()
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
        chosen = self._selection
        self._filter = CallFilter(chosen.more_name, chosen.hidden, chosen.tools.by_name)
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
        if not self._is_final and self._selection.request.streaming:  # it is too late for these
            self._unseen = "".join(map(text_of, pieces))
            self._text_before = self._unseen or self._text_before
        return pieces

    def _ended(self, pieces: list[AIMessageChunk]) -> list[AIMessageChunk]:
        self._has_ended = True
        message = self._filter.message if self._filter.has_calls else AIMessage("")
        self._is_final = self._filter.stands or not self._asks_for_more(message)
        if not self._is_final:
            return [self._passed(piece) for piece in (*pieces, *self._filter.release_text())]
        shown = [self._passed(piece) for piece in (*pieces, *self._filter.release())]
        self._note_missed(message)
        if not shown or shown[-1].chunk_position != "last":
            shown.append(self._passed(AIMessageChunk(content="")))
        last = shown.pop()
        changes: dict[str, Any] = {"response_metadata": self._marked(last)}
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
            if self._selection.request.streaming:
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
        if not self._selection.request.streaming:
            return  # nobody has seen it: the next answer begins anew
        self._shown_id = self._shown_id or shown.id
        self._text_before = text_of(shown) or self._text_before
        self._shown_metadata.update(shown.response_metadata)
        for block in shown.content if isinstance(shown.content, list) else ():
            if isinstance(block, dict) and isinstance(index := block.get("index"), int):
                self._shown_blocks = max(self._shown_blocks, index + 1)

    # The whole answer

    def close(self, answer: Answer) -> Answer | Again:
        """Ask again where the model has searched for tools; else take note of how it went."""
        if not self._filter.has_seen and answer.result.generations:
            answer = self._close_several(answer)
        if not self._is_final:
            return self._again(answer)
        calls = (g.message for g in answer.result.generations if isinstance(g.message, AIMessage))
        self._record(call["name"] for message in calls for call in message.tool_calls)
        return answer

    def failed(self, error: BaseException) -> None:
        """Take note of what was shown all the same."""
        self._record(())

    def _close_several(self, answer: Answer) -> Answer:
        """Look at answers that did not come in pieces: several, or made by another stage."""
        generations, chosen = [], self._selection
        asking: CallFilter | None = None
        for generation in answer.result.generations:
            message = generation.message
            if isinstance(message, AIMessage):
                calls = CallFilter(chosen.more_name, chosen.hidden, chosen.tools.by_name)
                shown = [*calls.see(as_chunk(message)), *calls.release()]
                if not calls.stands and self._asks_for_more(message):
                    asking, self._is_final = calls, False
                else:
                    self._note_missed(message)
                last = shown[-1] if shown else AIMessageChunk(content="")
                changed = last.model_copy(update={"response_metadata": self._marked(last)})
                generation = ChatGeneration(
                    message=as_message(changed), generation_info=generation.generation_info
                )
            generations.append(generation)
        self._filter = asking or self._filter
        result = ChatResult(generations=generations, llm_output=answer.result.llm_output)
        return answer.override(result=result)

    def _asks_for_more(self, message: AIMessage) -> bool:
        """Whether the model calls nothing that the application can be asked to do.

        A tool that it was not shown may be called all the same, if the arguments fit.
        """
        chosen = self._selection
        if queries_in(message, chosen.more_name):
            if not chosen.hidden:  # everything was shown, and it knows
                return False
            wanted = [call for call in message.tool_calls if call["name"] != chosen.more_name]
            return not any(map(self._can_be_called, wanted))
        hidden = {*chosen.hidden}
        wanted = [call for call in message.tool_calls if call["name"] in hidden]
        return bool(wanted) and not any(map(self._can_be_called, wanted))

    def _can_be_called(self, call: Any) -> bool:
        chosen, name = self._selection, call["name"]
        return any(fits(call["args"], chosen.tools.tools[at], name)
                   for at in chosen.tools.by_name.get(name, ()))  # fmt: skip

    def _note_missed(self, message: AIMessage) -> None:
        """Show from now on what was called without being shown, and what was searched for."""
        chosen = self._selection
        chosen.missed += chosen.add(call["name"] for call in message.tool_calls)
        self._find(message)

    def _find(self, message: AIMessage) -> list[list[str]]:
        """Add what each of the model's searches finds, and return that."""
        chosen, found = self._selection, []
        for _, query in queries_in(message, chosen.more_name):
            chosen.searches += 1
            found.append(chosen.add(self._search(query, chosen.hidden, chosen.searches)))
            chosen.found += found[-1]
        return found

    def _again(self, answer: Answer) -> Again:
        message, chosen = self._filter.message, self._selection
        if not chosen.request.streaming:
            said = _said_in(message)
            if text := text_of(message):
                said = _apart(self._text_before, said) if self._text_before else said
                self._text_before = text
            self._unseen = _joined(self._unseen, said)
        chosen.missed += chosen.add(call["name"] for call in message.tool_calls)
        found = self._find(message)
        if found:
            chosen.exchanges += answered(message, chosen.more_name, found)
        self._begin()
        return Again(chosen.rewritten(), continues=True, otherwise=_without_search(answer, message))

    def _marked(self, message: BaseMessage) -> dict[str, Any]:
        return message.response_metadata | mark(self._selection.tools, self._selection.shown)

    def _record(self, called: Iterable[str]) -> None:
        run = self._selection.request.run
        if run.sent is None:  # nothing was sent
            return
        spent = (run.earlier or Usage()).total_tokens - self._spent_before.total_tokens
        self._selection.record(called, spent, self._sinks)


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


class ObservedSelection(StageCall):
    """Sees what would have been shown."""

    def __init__(self, selection: Selection, sinks: Sequence[UsageSink]) -> None:
        super().__init__(selection.request)
        self._selection = selection
        self._sinks = sinks

    def close(self, answer: Answer) -> Answer:
        """Record what would have been saved, and missed."""
        called = [call["name"] for call in answer.message.tool_calls]
        hidden = {*self._selection.hidden}
        self._selection.missed += [name for name in dict.fromkeys(called) if name in hidden]
        self._selection.record(called, 0, self._sinks)
        return answer
