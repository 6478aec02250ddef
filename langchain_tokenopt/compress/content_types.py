"""What can be compressed: each type of content knows its units and its exact count."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Final, Protocol

from langchain_core.documents import Document
from langchain_core.messages import BaseMessage

from langchain_tokenopt.compress.lossless import lossless, may_shrink
from langchain_tokenopt.compress.options import Patterns, ToolResults
from langchain_tokenopt.compress.prompt_parts import (
    PromptParts,
    read_material,
    read_message,
    read_passage,
)
from langchain_tokenopt.compress.relevance import Prior
from langchain_tokenopt.compress.rendering import render
from langchain_tokenopt.compress.text_tokens import Tokenized
from langchain_tokenopt.compress.unit_selection import Run
from langchain_tokenopt.compress.units import Unit, prose_cuts
from langchain_tokenopt.counting.request_tokens import count_messages
from langchain_tokenopt.counting.tokens import TokenCount, TokenCounter

__all__ = [
    "ContentType",
    "DocumentsContent",
    "Layout",
    "Reader",
    "TextContent",
    "join_documents",
]


@dataclass(slots=True)
class Layout:
    """A content as units that are kept or dropped."""

    texts: list[str]
    units: list[Unit]
    fixed_tokens: int = 0
    """Tokens of what is no unit."""
    question: str | None = None
    prior: Prior = "none"
    essential: list[int] = field(default_factory=list)
    """Units that are never given up, whatever else does not fit: a system message."""
    may_be_empty: bool = True
    """Whether giving up the question itself leaves something that can be sent."""
    last: Sequence[int] = ()
    """Units of the message that is to be answered: some of it always stays."""


class ContentType(Protocol):
    """One content on its way through the steps."""

    content: Any

    @property
    def tokens(self) -> int:
        """How many tokens the content has."""
        ...

    @property
    def exact(self) -> bool:
        """Whether the model would count the same."""
        ...

    def shrink(self) -> ContentType | None:
        """Return the content in fewer tokens without loss; ``None`` when nothing changes."""
        ...

    def layout(self, limit: int | None = None) -> Layout:
        """Cut the content into units with their tokens.

        Where what must be kept exceeds *limit*, less of it may be.
        """
        ...

    def assemble(self, layout: Layout, kept: Sequence[bool]) -> Any:
        """Return the content with only the kept units."""
        ...

    def measure(self, content: Any, runs: Sequence[Run] = ()) -> int:
        """Count a content of this type, of which *runs* stood together before."""
        ...

    def text(self, content: Any) -> str:
        """Return all text of a content, for the loss report."""
        ...


@dataclass(frozen=True, slots=True)
class Reader:
    """How contents are read and counted."""

    model: str
    counter: TokenCounter
    tokenize: Callable[[str], Tokenized]
    read: Callable[..., PromptParts]
    """Calls one of the readers of ``prompt_parts``, or remembers what it returned."""
    patterns: Patterns
    """Units in which one of them matches are kept."""
    tool_results: ToolResults = "lossless"
    cut_data: bool = True
    """Whether long texts in JSON and other data may lose sentences."""
    asked: bool = False
    """Whether the query came from elsewhere than the content."""

    def count(self, text: str) -> int:
        """Count a text."""
        return self.counter.count(text).tokens

    def count_messages(self, messages: Sequence[BaseMessage]) -> TokenCount:
        """Count messages and the frame around them."""
        return count_messages(list(messages), model=self.model, counter=self.counter)

    def shorter(self, text: str, *, tables: bool = False) -> str | None:
        """Return a text in fewer tokens without loss, or ``None``.

        Only what a tool returned may come back with its objects as *tables*: what a user wrote may
        be the pattern for an answer.
        """
        if not may_shrink(text):
            return None
        made = lossless(text, self.count, tables=tables)
        return made if made != text and self.count(made) < self.count(text) else None


def set_tokens(units: Sequence[Unit], tokens: Sequence[int]) -> None:
    """Give each unit its tokens."""
    for unit, count in zip(units, tokens, strict=True):
        unit.tokens = count


# --- a string ------------------------------------------------------------------------------------


class TextContent:
    """A string: a prompt with instructions, passages and a question, or just a page."""

    def __init__(self, content: str, reader: Reader) -> None:
        self.content = content
        self._reader = reader
        self._tokenized = reader.tokenize(content)
        self.tokens: int = self._tokenized.tokens
        self.exact: bool = self._tokenized.exact

    def shrink(self) -> TextContent | None:
        """Write it without loss in what may be fewer tokens."""
        if not may_shrink(self.content):
            return None
        made = lossless(self.content, self._reader.count)
        is_less = (len(self.content) - len(made)) * _WORTH_READING_AGAIN > len(made)
        return TextContent(made, self._reader) if is_less else None

    def layout(self, limit: int | None = None) -> Layout:
        """Cut it into units."""
        reader = self._reader
        how = read_material if reader.asked else read_message
        parts = reader.read(how, self.content, patterns=reader.patterns, cut_data=reader.cut_data)
        set_tokens(parts.units, self._tokenized.between([u.end for u in parts.units]))
        layout = Layout([self.content], parts.units, 0, parts.question, _prior_of(parts.units))
        if not self._reader.asked:  # a prompt of which nothing is left asks nothing
            layout.last = range(len(parts.units))
        return layout

    def assemble(self, layout: Layout, kept: Sequence[bool]) -> str:
        """Put the kept units together."""
        return render(self.content, layout.units, kept)

    def measure(self, content: str, runs: Sequence[Run] = ()) -> int:
        """Count it as it will be sent."""
        return self._tokenized.count_made(content, [run[1:] for run in runs])

    def text(self, content: str) -> str:
        """Return all of its text."""
        return content


_WORTH_READING_AGAIN: Final = 1_000
"""Of so many characters one must go for the rest to be tokenized once more."""


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


class DocumentsContent:
    """Retrieved documents, ranked by title and sentence; none of it is an instruction."""

    def __init__(self, content: Sequence[Document], reader: Reader) -> None:
        self.content = content
        self._reader = reader
        self._titles = [title_of(document) for document in content]
        self._joined = GLUE.join(
            title + document.page_content
            for title, document in zip(self._titles, content, strict=True)
        )
        self._tokenized = reader.tokenize(self._joined)
        self.tokens: int = self._tokenized.tokens
        self.exact: bool = self._tokenized.exact

    def shrink(self) -> DocumentsContent | None:
        """Write it in fewer tokens without loss."""
        if not may_shrink(self._joined):
            return None
        made = [self._reader.shorter(d.page_content) for d in self.content]
        if not any(text is not None for text in made):
            return None
        return DocumentsContent(
            [
                document if text is None else document.model_copy(update={"page_content": text})
                for document, text in zip(self.content, made, strict=True)
            ],
            self._reader,
        )

    def layout(self, limit: int | None = None) -> Layout:
        """Cut it into units."""
        texts: list[str] = []
        units: list[Unit] = []
        patterns = self._reader.patterns
        for source, (title, document) in enumerate(zip(self._titles, self.content, strict=True)):
            body = document.page_content
            texts.append(title + body)
            first, shift = len(units), len(title)
            if title:
                units.append(Unit(0, shift, "heading", source))
            cuts = prose_cuts(body) if body and not patterns else None
            if cuts is not None:
                head, start = first if title else -1, shift
                for cut in cuts:
                    units.append(Unit(start, cut + shift, "prose", source, 0, head))
                    start = cut + shift
                continue
            read = self._reader.read(read_passage, body, patterns=patterns).units
            for unit in read:
                unit.source = source
                unit.start += shift
                unit.end += shift
                unit.bound = unit.bound + len(units) if unit.bound >= 0 else -1
                unit.head = (
                    unit.head + first + bool(title) if unit.head >= 0 else first if title else -1
                )
            units += read
        sizes = [len(text) + len(GLUE) for text in texts]
        self._bases = [0, *accumulate(sizes)]
        ends = [self._bases[unit.source] + unit.end for unit in units]
        if ends:
            ends[-1] = len(self._joined)
        set_tokens(units, self._tokenized.between(ends))
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
                text = render(layout.texts[source], units, chosen, layout.units)
                made.append(document.model_copy(update={"page_content": text[shift:]}))
        return made

    def measure(self, content: Sequence[Document], runs: Sequence[Run] = ()) -> int:
        """Count it as it will be sent."""
        bases = self._bases
        return self._tokenized.count_made(
            join_documents(content),
            [(bases[source] + start, bases[source] + end) for source, start, end in runs],
        )

    def text(self, content: Sequence[Document]) -> str:
        """Return all of its text."""
        return join_documents(content)
