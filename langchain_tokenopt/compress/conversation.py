"""A conversation as content: the current turn stays, earlier turns compete.

Where the current turn alone is too long, because an agent has called many tools in it, the results
of its earlier calls compete too; where that is not enough, so do those of its last call.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import get_args

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from langchain_tokenopt.compress.content_types import Layout, Reader, set_tokens
from langchain_tokenopt.compress.conversation_plan import (
    Competing,
    Conversation,
    asking_block,
    conversation_of,
    rules_of,
    system_passages,
)
from langchain_tokenopt.compress.message_texts import (
    LEFT_OUT,
    Slot,
    is_empty,
    slots_of,
    with_texts,
    without_texts,
)
from langchain_tokenopt.compress.prompt_parts import (
    PromptParts,
    quoted_material,
    read_message,
    read_result,
)
from langchain_tokenopt.compress.protect import matches_any
from langchain_tokenopt.compress.question import (
    LONGEST_QUESTION,
    asked_in,
    asks_something,
    is_about,
)
from langchain_tokenopt.compress.rendering import render
from langchain_tokenopt.compress.text_tokens import Tokenized
from langchain_tokenopt.compress.unit_selection import Run, required_only, runs_of
from langchain_tokenopt.compress.units import Unit
from langchain_tokenopt.counting.tokens import TokenCount, TokenCounter

__all__ = ["MessagesContent"]

LONGEST_WHOLE_TURN = 600
"""Characters. An earlier turn up to this length is kept or dropped whole."""


@dataclass(frozen=True, slots=True)
class _Known:
    """A counter that has counted some texts already."""

    counter: TokenCounter
    counts: Mapping[str, TokenCount]

    def count(self, text: str) -> TokenCount:
        """Count a text."""
        return self.counts.get(text) or self.counter.count(text)


class MessagesContent:
    """A conversation: the system message and the current turn stay, earlier turns compete."""

    def __init__(
        self, content: Sequence[BaseMessage], reader: Reader, known: TokenCount | None = None
    ) -> None:
        self.content = content if isinstance(content, list) else list(content)
        self._reader = reader
        self._slots: list[Slot] = []
        self._tokenized: list[Tokenized | None] = []
        """The tokens of the text in each slot."""
        self._counts: dict[str, TokenCount] = {}
        """The tokens of texts that were made of those."""
        self._plan = Conversation(-1, -1, -1)
        self._leaders: dict[int, int] = {}
        """The unit of each tool call that its results need, by the index of its message."""
        self._overheads: dict[Hashable, int] = {}
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
        return [without_texts(message) for message in self.content]

    @cached_property
    def _texts(self) -> list[list[tuple[Slot, str, Tokenized]]]:
        """The texts of each message, with where they stand and their tokens."""
        return [
            [
                (slot, text, self._reader.tokenize(text))
                for slot, text in slots_of(message, index)
                if text
            ]
            for index, message in enumerate(self.content)
        ]

    def shrink(self) -> MessagesContent | None:
        """Write it in fewer tokens without loss."""
        changed = False
        made: list[BaseMessage] = []
        for index, message in enumerate(self.content):
            texts = {
                slot.block: shorter
                for slot, text in slots_of(message, index)
                if _may_be_rewritten(message, self._reader)
                and (shorter := self._reader.shorter(text, tables=isinstance(message, ToolMessage)))
                is not None
            }
            changed = changed or bool(texts)
            made.append(with_texts(message, texts) if texts else message)
        return MessagesContent(made, self._reader) if changed else None

    def layout(self, limit: int | None = None) -> Layout:
        """Cut it into units; where what must be kept exceeds *limit*, more of them compete."""
        layouts = (
            self._layout(conversation_of(self.content, competing), limit)
            for competing in get_args(Competing)
        )
        layout = next(layouts)
        while limit is not None and _required_tokens(layout) > limit:
            other = next(layouts, None)
            if other is None:
                break
            layout = other
        return layout

    def _layout(self, plan: Conversation, limit: int | None) -> Layout:
        layout = Layout([], [], may_be_empty=False)
        earlier = sum(index not in plan.fixed for index in range(max(0, plan.first_human)))
        layout.prior = "recency" if earlier > _FEW_TURNS else "none"
        rules = rules_of(self.content, plan, limit) if plan.keeps_rules else frozenset()
        plan.fixed -= system_passages(self.content)
        self._plan = plan
        self._slots, self._tokenized = [], []
        grouped = {index: group[0] for group in plan.groups for index in group}
        running = {index: group for group in plan.running for index in group}
        self._leaders = {}
        human = -1
        for index, message in enumerate(self.content):
            first = len(layout.units)
            if index in plan.fixed:
                self._fixed_message(layout, message, index)
            elif index in grouped:
                head = self._leaders.setdefault(grouped[index], first)
                self._whole_message(layout, index, head=human, bound=head if head < first else -1)
            elif index in running:
                self._running_message(layout, index, running[index])
            else:
                answers = isinstance(message, AIMessage)
                self._earlier_turn(layout, index, head=human if answers else -1)
                if isinstance(message, HumanMessage):
                    human = first
                if index in rules:
                    for unit in layout.units[first:]:
                        unit.required = True
            layout.last = (
                range(first, len(layout.units)) if isinstance(message, HumanMessage) else ()
            )
        is_last = plan.asking == plan.last_human >= 0
        if is_last and not asks_something(layout.question):
            self._ask_elsewhere(layout)
        used = sum(u.tokens + u.overhead for u in layout.units)
        layout.fixed_tokens = self.tokens - used
        return layout

    def _ask_elsewhere(self, layout: Layout) -> None:
        """Where the last message only quotes, the one before it or the system message asks."""
        material = self.content[self._plan.last_human].text
        for index in reversed(range(self._plan.last_human)):
            message = self.content[index]
            asked = asked_in([message.text[-LONGEST_QUESTION:]], True, material)
            if isinstance(message, HumanMessage | SystemMessage) and is_about(asked, material):
                layout.question = asked
                for unit in layout.units:
                    unit.required |= self._slots[unit.source].message == index and (
                        isinstance(message, HumanMessage)
                    )
                return

    def _add(
        self, layout: Layout, slot: Slot, text: str, units: list[Unit], tokenized: Tokenized | None
    ) -> None:
        """Add the units of one text, with their indexes and tokens."""
        source, first = len(layout.texts), len(layout.units)
        layout.texts.append(text)
        self._slots.append(slot)
        self._tokenized.append(tokenized)
        if tokenized is not None and len(units) == 1 and units[0].end == len(text):
            units[0].tokens = tokenized.tokens
        elif tokenized is not None:
            set_tokens(units, tokenized.between([unit.end for unit in units]))
        for unit in units:
            unit.source = source
            unit.head = unit.head + first if unit.head >= 0 else -1
            unit.bound = unit.bound + first if unit.bound >= 0 else -1
        layout.units += units

    def _fixed_message(self, layout: Layout, message: BaseMessage, index: int) -> None:
        """The question's passages may go, and tool results if asked; nothing else."""
        selectable = isinstance(message, ToolMessage) and (
            self._reader.tool_results == "select" or index in self._plan.last_results
        )
        asking, own = asking_block([text for _, text, _ in self._texts[index]])
        if index != self._plan.asking:
            asking, own = -1, range(0)
        for number, (slot, text, tokenized) in enumerate(self._texts[index]):
            first = len(layout.units)
            if index in (self._plan.last_human, self._plan.asking) and number not in own:
                parts = self._read(read_message, text, keep_short=number == asking)
                layout.question = (number == asking and parts.question) or layout.question
                units = parts.units
            elif isinstance(message, SystemMessage) and (material := self._quoted(text)):
                units = material
            elif selectable:
                units = self._read(read_result, text).units
            else:
                units = [Unit(0, len(text), "code", required=True)]
            self._add(layout, slot, text, units, tokenized)
            if isinstance(message, SystemMessage):
                layout.essential += [
                    at for at in range(first, len(layout.units)) if layout.units[at].required
                ]

    def _quoted(self, text: str) -> list[Unit]:
        asking = self._plan.asking
        asked = self.content[asking].text if asking >= 0 else ""
        return self._reader.read(quoted_material, text, asked=asked).units

    def _read(self, how: Callable[..., PromptParts], text: str, **options: bool) -> PromptParts:
        return self._reader.read(how, text, patterns=self._reader.patterns, **options)

    def _running_message(self, layout: Layout, index: int, group: Sequence[int]) -> None:
        """A call of the current turn, or a result of it that may be shortened."""
        first = len(layout.units)
        if index == group[0]:
            self._leaders[index] = first
            self._whole_message(layout, index, head=-1, bound=-1)
            layout.units[first].overhead += sum(
                self._overhead(at) + _STUB_TOKENS for at in group[1:]
            )
            return
        leader = self._leaders[group[0]]
        for slot, text, tokenized in self._texts[index]:
            first = len(layout.units)
            self._add(layout, slot, text, self._read(read_result, text).units, tokenized)
            for unit in layout.units[first:]:
                if unit.head < 0 and unit.bound < 0:
                    unit.head = leader

    def _whole_message(self, layout: Layout, index: int, *, head: int, bound: int) -> None:
        """A message that is kept or dropped as one, frame and media included."""
        overhead = self._overhead(index)
        texts: Sequence[tuple[Slot, str, Tokenized | None]] = self._texts[index]
        for slot, text, tokenized in texts or [(Slot(index, -1), "", None)]:
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
        units = [Unit(0, 0, "turn"), *_shifted(self._read(read_result, text).units)]
        self._add(layout, slot, text, units, tokenized)
        opening = layout.units[first]
        opening.overhead = self._overhead(index)
        opening.head = head
        for unit in layout.units[first + 1 :]:
            if unit.head < 0 and unit.bound < 0:
                unit.head = first

    def _overhead(self, index: int) -> int:
        """Tokens of a message beyond its texts."""
        frame = self._frames[index]
        plain = frame.content == "" and not getattr(frame, "tool_calls", None)
        key = (type(frame), frame.name, str(frame.additional_kwargs)) if plain else None
        known = self._overheads.get(key) if key else None
        if known is None:
            known = self._reader.count_messages([frame]).tokens - self._empty
            if key and not isinstance(frame, ToolMessage):
                self._overheads[key] = known
        return known

    @cached_property
    def _empty(self) -> int:
        return self._reader.count_messages([]).tokens

    def assemble(self, layout: Layout, kept: Sequence[bool]) -> list[BaseMessage]:
        """Put the kept units together."""
        return list(self._assembled(layout, kept))

    def _assembled(self, layout: Layout, kept: Sequence[bool]) -> Iterator[BaseMessage]:
        plan = self._plan
        units_of: dict[int, list[int]] = {}
        for at, unit in enumerate(layout.units):
            units_of.setdefault(unit.source, []).append(at)
        sources: dict[int, list[int]] = {}
        for source, slot in enumerate(self._slots):
            sources.setdefault(slot.message, []).append(source)
        leader_of = {i: self._leaders[group[0]] for group in plan.running for i in group}
        for index, message in enumerate(self.content):
            mine = sources.get(index, ())
            ats = [at for source in mine for at in units_of[source]]
            if index in leader_of and not kept[leader_of[index]]:
                continue
            if all(kept[at] for at in ats):
                yield message
            elif any(kept[at] for at in ats) or index in plan.fixed or index in leader_of:
                made = self._shortened(message, layout, kept, mine, units_of)
                if not is_empty(made):
                    yield made

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
                units, mine = [layout.units[at] for at in ats], [kept[at] for at in ats]
                made_of = render(layout.texts[source], units, mine, layout.units)
                texts[self._slots[source].block] = made_of
                if (tokenized := self._tokenized[source]) is not None:
                    runs = [run[1:] for run in runs_of(units, mine)]
                    tokens = tokenized.count_made(made_of, runs)
                    self._counts[made_of] = TokenCount(tokens, tokenized.exact)
        made = with_texts(message, texts)
        if isinstance(made, ToolMessage) and not made.content:
            return made.model_copy(update={"content": LEFT_OUT})
        return made

    def measure(self, content: Sequence[BaseMessage], runs: Sequence[Run] = ()) -> int:
        """Count it as it will be sent."""
        counter = _Known(self._reader.counter, self._counts)
        return replace(self._reader, counter=counter).count_messages(content).tokens

    def text(self, content: Sequence[BaseMessage]) -> str:
        """Return all of its text."""
        return "\n".join(text for i, m in enumerate(content) for _, text in slots_of(m, i))


def _shifted(units: list[Unit]) -> list[Unit]:
    """Return *units* as they refer to each other behind one more."""
    for unit in units:
        unit.head += unit.head >= 0
        unit.bound += unit.bound >= 0
    return units


_STUB_TOKENS = 4
_FEW_TURNS = 3
"""Messages among which the latest is not likelier than the others."""


def _required_tokens(layout: Layout) -> int:
    return layout.fixed_tokens + required_only(layout.units).tokens


def _may_be_rewritten(message: BaseMessage, reader: Reader) -> bool:
    """Tool results and what users paste; never system messages nor the model's own words."""
    if isinstance(message, ToolMessage):
        return reader.tool_results != "keep"
    return isinstance(message, HumanMessage)
