"""What can be compressed: a string, documents, messages; each knows its units and exact count."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from langchain_core.documents import Document
from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage, ToolMessage

from langchain_tokenopt.compress.fill import Tokenized, render
from langchain_tokenopt.compress.lossless import lossless, may_shrink
from langchain_tokenopt.compress.protect import matches_any
from langchain_tokenopt.compress.roles import Reading, read_material, read_message, read_passage
from langchain_tokenopt.compress.segment import Unit
from langchain_tokenopt.compress.select import Prior
from langchain_tokenopt.core.messages import atomic_groups
from langchain_tokenopt.counting.request_tokens import count_messages
from langchain_tokenopt.counting.tokens import TokenCounter

if TYPE_CHECKING:
    from langchain_tokenopt.counting.model_names import ModelLike

__all__ = [
    "DocumentsTask",
    "Layout",
    "MessagesTask",
    "Task",
    "TextTask",
    "Tools",
    "is_conversation",
    "join_documents",
    "replaced_text",
    "title_of",
]

Patterns = Sequence[re.Pattern[str]]
Read = Callable[[Callable[..., Reading], str, Patterns], Reading]
"""Reads a text, or remembers how it was read."""
Tokenize = Callable[[str], Tokenized]


@dataclass(slots=True)
class Layout:
    """A content as units that are kept or dropped."""

    texts: list[str]
    units: list[Unit]
    fixed_tokens: int = 0
    """Tokens of what is no unit."""
    question: str | None = None
    prior: Prior = "none"


class Task(Protocol):
    """One content on its way through the steps."""

    content: Any
    tokens: int
    exact: bool

    def shrink(self, *, prose: bool) -> Task | None:
        """Return the content said losslessly in fewer tokens; ``None`` when nothing changes.

        Without *prose* its white space is left to :meth:`assemble`, which sees less of it.
        """
        ...

    def layout(self) -> Layout:
        """Cut the content into units with their tokens."""
        ...

    def assemble(self, layout: Layout, kept: Sequence[bool]) -> Any:
        """Return the content with only the kept units."""
        ...

    def measure(self, content: Any) -> int:
        """Count a content of this type."""
        ...

    def text(self, content: Any) -> str:
        """Return all text of a content, for the loss report."""
        ...


@dataclass(slots=True)
class Tools:
    """What tasks need from the compressor."""

    counter: TokenCounter
    model: ModelLike
    patterns: Patterns
    read: Read
    tokenize: Tokenize
    tool_results: str = "lossless"
    asked: bool = False
    """Whether the query came from elsewhere than the content."""

    def count(self, text: str) -> int:
        """Count a text."""
        return self.counter.count(text).tokens

    def shorter(self, text: str, *, prose: bool) -> str | None:
        """Return a text said losslessly in fewer tokens, or ``None``."""
        if not may_shrink(text, prose=prose):
            return None
        said = lossless(text, self.count, prose=prose)
        return said if said != text and self.count(said) < self.count(text) else None


def _set_tokens(units: Sequence[Unit], tokens: Sequence[int]) -> None:
    for unit, count in zip(units, tokens, strict=True):
        unit.tokens = count


# --- a string ------------------------------------------------------------------------------------


class TextTask:
    """A string: a prompt with instructions, passages and a question, or just a page."""

    def __init__(self, content: str, tools: Tools) -> None:
        self.content = content
        self.tools = tools
        self._tokenized = tools.tokenize(content)
        self.tokens, self.exact = self._tokenized.tokens, self._tokenized.exact

    def shrink(self, *, prose: bool) -> TextTask | None:
        """Say it losslessly in fewer tokens."""
        said = self.tools.shorter(self.content, prose=prose)
        return None if said is None else TextTask(said, self.tools)

    def layout(self) -> Layout:
        """Cut it into units."""
        reader = read_material if self.tools.asked else read_message
        reading = self.tools.read(reader, self.content, self.tools.patterns)
        _set_tokens(reading.units, self._tokenized.between([u.end for u in reading.units]))
        return Layout([self.content], reading.units, 0, reading.question, _prior_of(reading.units))

    def assemble(self, layout: Layout, kept: Sequence[bool]) -> str:
        """Put the kept units together."""
        return render(self.content, layout.units, kept)

    def measure(self, content: str) -> int:
        """Count it as it will be sent."""
        return self.tools.count(content)

    def text(self, content: str) -> str:
        """Return all of its text."""
        return content


def _prior_of(units: Sequence[Unit]) -> Prior:
    """A single page leads with what matters; passages and conversations do not."""
    if any(unit.kind in ("heading", "turn", "tag") for unit in units):
        return "none"
    return "lead"


# --- documents -----------------------------------------------------------------------------------

GLUE = "\n\n"
"""What stands between documents."""


def title_of(document: Document) -> str:
    """Return the line above a document's text: its title, if its metadata has one."""
    title = document.metadata.get("title")
    return f"{' '.join(title.split())}\n" if isinstance(title, str) and title.strip() else ""


def join_documents(documents: Sequence[Document]) -> str:
    r"""Join documents as they are counted: title and text of each, a blank line between.

    Example:
        >>> join_documents([Document("Hot.", metadata={"title": "Tea"}), Document("Cold.")])
        'Tea\nHot.\n\nCold.'
    """
    return GLUE.join(title_of(d) + d.page_content for d in documents)


class DocumentsTask:
    """Retrieved documents, ranked by title and sentence; none of it is an instruction."""

    def __init__(self, content: Sequence[Document], tools: Tools) -> None:
        self.content = content
        self.tools = tools
        self._titles = [title_of(document) for document in content]
        self._joined = GLUE.join(
            title + document.page_content
            for title, document in zip(self._titles, content, strict=True)
        )
        self._tokenized = tools.tokenize(self._joined)
        self.tokens, self.exact = self._tokenized.tokens, self._tokenized.exact

    def shrink(self, *, prose: bool) -> DocumentsTask | None:
        """Say it losslessly in fewer tokens."""
        if not may_shrink(self._joined, prose=prose):
            return None
        said = [self.tools.shorter(d.page_content, prose=prose) for d in self.content]
        if not any(text is not None for text in said):
            return None
        return DocumentsTask(
            [
                document if text is None else document.model_copy(update={"page_content": text})
                for document, text in zip(self.content, said, strict=True)
            ],
            self.tools,
        )

    def layout(self) -> Layout:
        """Cut it into units."""
        texts: list[str] = []
        units: list[Unit] = []
        ends: list[int] = []
        base = 0
        for source, (title, document) in enumerate(zip(self._titles, self.content, strict=True)):
            body = document.page_content
            texts.append(title + body)
            read = self.tools.read(read_passage, body, self.tools.patterns).units
            first, shift = len(units), len(title)
            if title:
                units.append(Unit(0, shift, "heading", source))
                ends.append(base + shift)
            for unit in read:
                unit.source = source
                unit.start += shift
                unit.end += shift
                unit.bound = unit.bound + len(units) if unit.bound >= 0 else -1
                unit.head = (
                    unit.head + first + bool(title) if unit.head >= 0 else first if title else -1
                )
                ends.append(base + unit.end)
            units += read
            base += len(texts[-1]) + len(GLUE)
        if ends:
            ends[-1] = len(self._joined)
        _set_tokens(units, self._tokenized.between(ends))
        prior: Prior = "lead" if len(self.content) == 1 else "none"
        return Layout(texts, units, 0, None, prior)

    def assemble(self, layout: Layout, kept: Sequence[bool]) -> list[Document]:
        """Put the kept units together."""
        made = []
        at = 0
        for source, document in enumerate(self.content):
            first = at
            while at < len(layout.units) and layout.units[at].source == source:
                at += 1
            chosen = kept[first:at]
            if all(chosen):
                made.append(document)
                continue
            units = layout.units[first:at]
            shift = len(self._titles[source])
            if any(chosen[1:] if shift else chosen):
                text = render(layout.texts[source], units, chosen)
                made.append(document.model_copy(update={"page_content": text[shift:]}))
        return made

    def measure(self, content: Sequence[Document]) -> int:
        """Count it as it will be sent."""
        return self.tools.count(join_documents(content))

    def text(self, content: Sequence[Document]) -> str:
        """Return all of its text."""
        return join_documents(content)


# --- messages ------------------------------------------------------------------------------------

WHOLE_TURN = 600
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


class MessagesTask:
    """A conversation: the system message and the current turn stay, earlier turns compete."""

    def __init__(self, content: Sequence[BaseMessage], tools: Tools) -> None:
        self.content = content if isinstance(content, list) else list(content)
        self.tools = tools
        self._frames = [_without_texts(message) for message in self.content]
        frames = count_messages(self._frames, model=tools.model)
        self._texts = [
            [(slot, text, tools.tokenize(text)) for slot, text in _slots(message, index) if text]
            for index, message in enumerate(self.content)
        ]
        passes = [tokenized for texts in self._texts for _, _, tokenized in texts]
        self.tokens = frames.tokens + sum(tokenized.tokens for tokenized in passes)
        self.exact = frames.exact and all(tokenized.exact for tokenized in passes)
        self._slots: list[_Slot] = []

    def shrink(self, *, prose: bool) -> MessagesTask | None:
        """Say it losslessly in fewer tokens."""
        changed = False
        made: list[BaseMessage] = []
        for index, message in enumerate(self.content):
            texts = {
                slot.block: said
                for slot, text in _slots(message, index)
                if _may_be_resaid(message, self.tools)
                and (said := self.tools.shorter(text, prose=prose)) is not None
            }
            changed = changed or bool(texts)
            made.append(_with_texts(message, texts) if texts else message)
        return MessagesTask(made, self.tools) if changed else None

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
            _set_tokens(units, tokenized.between([unit.end for unit in units]))
        for unit in units:
            unit.source = source
            unit.head = unit.head + first if unit.head >= 0 else -1
            unit.bound = unit.bound + first if unit.bound >= 0 else -1
        layout.units += units

    def _fixed_message(
        self, layout: Layout, message: BaseMessage, index: int, *, ranked: bool
    ) -> None:
        """The question's passages may go, and tool results if asked; nothing else."""
        selectable = isinstance(message, ToolMessage) and self.tools.tool_results == "select"
        for slot, text, tokenized in self._texts[index]:
            if ranked:
                reading = self.tools.read(read_message, text, self.tools.patterns)
                layout.question = reading.question or layout.question
                units = reading.units
            elif selectable:
                units = self.tools.read(read_passage, text, self.tools.patterns).units
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
            unit.required = matches_any(text, self.tools.patterns)
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
        if len(texts) != 1 or len(texts[0][1]) <= WHOLE_TURN or not alone:
            self._whole_message(layout, index, head=head, bound=-1)
            return
        slot, text, tokenized = texts[0]
        first = len(layout.units)
        units = self.tools.read(read_passage, text, self.tools.patterns).units
        self._add(layout, slot, text, units, tokenized)
        opening = layout.units[first]
        opening.overhead = self._overhead(index)
        opening.head = head
        for unit in layout.units[first + 1 :]:
            if unit.head < 0 and unit.bound < 0:
                unit.head = first

    def _overhead(self, index: int) -> int:
        """Tokens of a message beyond its texts."""
        model = self.tools.model
        frame = count_messages([self._frames[index]], model=model).tokens
        return frame - count_messages([], model=model).tokens

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
        return count_messages(list(content), model=self.tools.model).tokens

    def text(self, content: Sequence[BaseMessage]) -> str:
        """Return all of its text."""
        return "\n".join(text for i, m in enumerate(content) for _, text in _slots(m, i))


def _may_be_resaid(message: BaseMessage, tools: Tools) -> bool:
    """Tool results and what users paste; never system messages nor the model's own words."""
    if isinstance(message, ToolMessage):
        return tools.tool_results != "keep"
    return isinstance(message, HumanMessage)


def is_conversation(content: Sequence[Any]) -> bool:
    """Say whether *content* is a list of messages."""
    return all(isinstance(item, BaseMessage) for item in content)


def replaced_text(message: BaseMessage, resay: Callable[[str], str]) -> BaseMessage:
    """Return *message* with each of its texts resaid; the same object if none changes."""
    texts = {
        slot.block: said
        for slot, text in _slots(message, 0)
        if text and (said := resay(text)) != text
    }
    return _with_texts(message, texts) if texts else message
