"""A conversation as content: the current turn stays, earlier turns compete."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage, ToolMessage

from langchain_tokenopt.compress.content_types import Layout, Reader, set_tokens
from langchain_tokenopt.compress.prompt_parts import (
    quoted_material,
    read_message,
    read_passage,
    read_result,
)
from langchain_tokenopt.compress.protect import matches_any
from langchain_tokenopt.compress.rendering import render
from langchain_tokenopt.compress.text_tokens import Tokenized
from langchain_tokenopt.compress.units import Unit
from langchain_tokenopt.core.messages import atomic_groups
from langchain_tokenopt.counting.tokens import TokenCount

__all__ = ["MessagesContent", "with_texts_replaced"]

LONGEST_WHOLE_TURN = 600
"""Characters. An earlier turn up to this length is kept or dropped whole."""


@dataclass(frozen=True, slots=True)
class _Slot:
    """Where in a message a text stands."""

    message: int
    block: int | None
    """Index of the content block; ``None`` for string content."""


def _slots(message: BaseMessage, index: int) -> list[tuple[_Slot, str]]:
    content = message.content
    if isinstance(content, str):
        return [(_Slot(index, None), content)]
    found = []
    for number, block in enumerate(content):
        if isinstance(block, str):
            found.append((_Slot(index, number), block))
        elif (
            isinstance(block, Mapping)
            and block.get("type") == "text"
            and isinstance(block.get("text"), str)
        ):
            found.append((_Slot(index, number), block["text"]))
    return found


def _with_texts(message: BaseMessage, texts: Mapping[int | None, str]) -> BaseMessage:
    """Return a copy of *message* with some of its texts replaced; empty text blocks go."""
    if None in texts:
        return message.model_copy(update={"content": texts[None]})
    blocks: list[Any] = []
    for number, block in enumerate(message.content):
        text = texts.get(number)
        if text is None:
            blocks.append(block)
        elif text:
            blocks.append(text if isinstance(block, str) else {**block, "text": text})
    return message.model_copy(update={"content": blocks})


def _without_texts(message: BaseMessage) -> BaseMessage:
    """Return what is left of a message without its texts: role, calls, media."""
    if isinstance(message.content, str):
        return message.model_copy(update={"content": ""}) if message.content else message
    texts = {slot.block for slot, _ in _slots(message, 0)}
    rest = [block for number, block in enumerate(message.content) if number not in texts]
    return message.model_copy(update={"content": rest})


@dataclass(slots=True)
class _Conversation:
    """The parts of a message list that are treated differently."""

    last_human: int
    fixed: set[int] = field(default_factory=set)
    """Messages that stay: system messages, and the current turn."""
    groups: list[list[int]] = field(default_factory=list)
    """Tool calls with their answers, of earlier turns: kept or dropped together."""


def _conversation(messages: Sequence[BaseMessage]) -> _Conversation:
    last = max((i for i, m in enumerate(messages) if isinstance(m, HumanMessage)), default=-1)
    found = _Conversation(last)
    for group in atomic_groups(messages):
        current = last < 0 or max(group) >= last
        if current or any(isinstance(messages[i], SystemMessage) for i in group):
            found.fixed.update(group)
        elif (
            len(group) > 1
            or isinstance(messages[group[0]], ToolMessage)
            or getattr(messages[group[0]], "tool_calls", None)
        ):
            found.groups.append(group)
    return found


class MessagesContent:
    """A conversation: the system message and the current turn stay, earlier turns compete."""

    def __init__(
        self, content: Sequence[BaseMessage], reader: Reader, known: TokenCount | None = None
    ) -> None:
        self.content = content if isinstance(content, list) else list(content)
        self._reader = reader
        self._slots: list[_Slot] = []
        self._known = known

    @property
    def tokens(self) -> int:
        """Tokens of the messages and the frame around them."""
        return self._count.tokens

    @property
    def exact(self) -> bool:
        """Whether the model would count the same."""
        return self._count.exact

    @cached_property
    def _count(self) -> TokenCount:
        if self._known is not None:
            return self._known
        count = self._reader.count_messages(self._frames)
        for texts in self._texts:
            for _, _, tokenized in texts:
                count += TokenCount(tokenized.tokens, tokenized.exact)
        return count

    @cached_property
    def _frames(self) -> list[BaseMessage]:
        """The messages without their texts."""
        return [_without_texts(message) for message in self.content]

    @cached_property
    def _texts(self) -> list[list[tuple[_Slot, str, Tokenized]]]:
        """The texts of each message, with where they stand and their tokens."""
        return [
            [
                (slot, text, self._reader.tokenize(text))
                for slot, text in _slots(message, index)
                if text
            ]
            for index, message in enumerate(self.content)
        ]

    def shrink(self, *, prose: bool) -> MessagesContent | None:
        """Write it in fewer tokens without loss."""
        changed = False
        made: list[BaseMessage] = []
        for index, message in enumerate(self.content):
            texts = {
                slot.block: shorter
                for slot, text in _slots(message, index)
                if _may_be_rewritten(message, self._reader)
                and (shorter := self._reader.shorter(text, prose=prose)) is not None
            }
            changed = changed or bool(texts)
            made.append(_with_texts(message, texts) if texts else message)
        return MessagesContent(made, self._reader) if changed else None

    def layout(self) -> Layout:
        """Cut it into units."""
        plan = _conversation(self.content)
        layout = Layout([], [], 0)
        layout.prior = "recency" if len(self.content) - len(plan.fixed) > 3 else "none"
        self._slots = []
        grouped = {index: group for group in plan.groups for index in group}
        group_head: dict[int, int] = {}
        human = -1
        for index, message in enumerate(self.content):
            first = len(layout.units)
            if index in plan.fixed:
                self._fixed_message(layout, message, index, ranked=index == plan.last_human)
            elif index in grouped:
                leader = grouped[index][0]
                head = group_head.setdefault(leader, first)
                self._whole_message(
                    layout, index, head=human, bound=head if leader != index else -1
                )
            else:
                asks = isinstance(message, HumanMessage)
                self._earlier_turn(layout, index, head=-1 if asks else human)
                if asks:
                    human = first
        used = sum(u.tokens + u.overhead for u in layout.units)
        layout.fixed_tokens = self.tokens - used
        return layout

    def _add(
        self, layout: Layout, slot: _Slot, text: str, units: list[Unit], tokenized: Tokenized | None
    ) -> None:
        """Add the units of one text, with their indexes and tokens."""
        source, first = len(layout.texts), len(layout.units)
        layout.texts.append(text)
        self._slots.append(slot)
        if tokenized is not None:
            set_tokens(units, tokenized.between([unit.end for unit in units]))
        for unit in units:
            unit.source = source
            unit.head = unit.head + first if unit.head >= 0 else -1
            unit.bound = unit.bound + first if unit.bound >= 0 else -1
        layout.units += units

    def _fixed_message(
        self, layout: Layout, message: BaseMessage, index: int, *, ranked: bool
    ) -> None:
        """The question's passages may go, and tool results if asked; nothing else."""
        selectable = isinstance(message, ToolMessage) and self._reader.tool_results == "select"
        for slot, text, tokenized in self._texts[index]:
            if ranked:
                parts = read_message(text, self._reader.patterns)
                layout.question = parts.question or layout.question
                units = parts.units
            elif isinstance(message, SystemMessage) and (material := quoted_material(text)):
                units = material
            elif selectable:
                units = read_result(text, self._reader.patterns).units
            else:
                units = [Unit(0, len(text), "code", required=True)]
            self._add(layout, slot, text, units, tokenized)

    def _whole_message(self, layout: Layout, index: int, *, head: int, bound: int) -> None:
        """A message that is kept or dropped as one, frame and media included."""
        overhead = self._overhead(index)
        texts: Sequence[tuple[_Slot, str, Tokenized | None]] = self._texts[index]
        for slot, text, tokenized in texts or [(_Slot(index, -1), "", None)]:
            first = len(layout.units)
            self._add(layout, slot, text, [Unit(0, len(text), "turn")], tokenized)
            unit = layout.units[first]
            unit.required = matches_any(text, self._reader.patterns)
            unit.overhead, overhead = overhead, 0
            if bound >= 0:
                unit.bound = bound
            else:
                unit.head, bound = head, first

    def _earlier_turn(self, layout: Layout, index: int, *, head: int) -> None:
        """Long turns may lose sentences; short ones are kept or dropped whole."""
        texts = self._texts[index]
        content = self.content[index].content
        alone = isinstance(content, str) or len(content) == 1
        if len(texts) != 1 or len(texts[0][1]) <= LONGEST_WHOLE_TURN or not alone:
            self._whole_message(layout, index, head=head, bound=-1)
            return
        slot, text, tokenized = texts[0]
        first = len(layout.units)
        units = read_passage(text, self._reader.patterns).units
        self._add(layout, slot, text, units, tokenized)
        opening = layout.units[first]
        opening.overhead = self._overhead(index)
        opening.head = head
        for unit in layout.units[first + 1 :]:
            if unit.head < 0 and unit.bound < 0:
                unit.head = first

    def _overhead(self, index: int) -> int:
        """Tokens of a message beyond its texts."""
        count = self._reader.count_messages
        return count([self._frames[index]]).tokens - count([]).tokens

    def assemble(self, layout: Layout, kept: Sequence[bool]) -> list[BaseMessage]:
        """Put the kept units together."""
        plan = _conversation(self.content)
        units_of: dict[int, list[int]] = {}
        for at, unit in enumerate(layout.units):
            units_of.setdefault(unit.source, []).append(at)
        sources: dict[int, list[int]] = {}
        for source, slot in enumerate(self._slots):
            sources.setdefault(slot.message, []).append(source)
        made: list[BaseMessage] = []
        for index, message in enumerate(self.content):
            mine = sources.get(index, ())
            ats = [at for source in mine for at in units_of[source]]
            if all(kept[at] for at in ats):
                made.append(message)
            elif any(kept[at] for at in ats) or (
                index in plan.fixed and not isinstance(message, SystemMessage)
            ):
                made.append(self._shortened(message, layout, kept, mine, units_of))
        return made

    def _shortened(
        self,
        message: BaseMessage,
        layout: Layout,
        kept: Sequence[bool],
        sources: Sequence[int],
        units_of: Mapping[int, list[int]],
    ) -> BaseMessage:
        texts: dict[int | None, str] = {}
        for source in sources:
            ats = units_of[source]
            if not all(kept[at] for at in ats):
                units = [layout.units[at] for at in ats]
                texts[self._slots[source].block] = render(
                    layout.texts[source], units, [kept[at] for at in ats]
                )
        return _with_texts(message, texts)

    def measure(self, content: Sequence[BaseMessage]) -> int:
        """Count it as it will be sent."""
        return self._reader.count_messages(content).tokens

    def text(self, content: Sequence[BaseMessage]) -> str:
        """Return all of its text."""
        return "\n".join(text for i, m in enumerate(content) for _, text in _slots(m, i))


def _may_be_rewritten(message: BaseMessage, reader: Reader) -> bool:
    """Tool results and what users paste; never system messages nor the model's own words."""
    if isinstance(message, ToolMessage):
        return reader.tool_results != "keep"
    return isinstance(message, HumanMessage)


def with_texts_replaced(message: BaseMessage, rewrite: Callable[[str], str]) -> BaseMessage:
    """Return *message* with each of its texts rewritten; the same object if none changes."""
    texts = {
        slot.block: shorter
        for slot, text in _slots(message, 0)
        if text and (shorter := rewrite(text)) != text
    }
    return _with_texts(message, texts) if texts else message
