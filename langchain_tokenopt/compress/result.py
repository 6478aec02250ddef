"""What a compression did: the content, tokens per step, what was dropped and lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, Generic, Protocol, TypeVar

from langchain_tokenopt.compress.loss import LossReport, loss_between
from langchain_tokenopt.compress.units import Unit

__all__ = [
    "FITS",
    "NOTHING_TO_DROP",
    "UNKNOWN_TYPE",
    "CompressionResult",
    "DroppedSpan",
    "dropped_spans",
]

FITS: Final = "it already fits"
NOTHING_TO_DROP: Final = "everything in it must be kept"
UNKNOWN_TYPE: Final = "this is no text, message, prompt, list of messages or documents"

Content = TypeVar("Content")


@dataclass(frozen=True, slots=True)
class DroppedSpan:
    """A stretch of the input that is not in the output."""

    source: int
    """Which document or message; 0 for a string."""
    start: int
    end: int
    """Character offsets into that source's text."""


def dropped_spans(units: Sequence[Unit], kept: Sequence[bool]) -> tuple[DroppedSpan, ...]:
    """Join neighbouring units that were dropped into spans."""
    spans: list[DroppedSpan] = []
    for unit, keep in zip(units, kept, strict=True):
        if keep or unit.start == unit.end:
            continue
        last = spans[-1] if spans else None
        if last and last.source == unit.source and last.end == unit.start:
            spans[-1] = DroppedSpan(last.source, last.start, unit.end)
        else:
            spans.append(DroppedSpan(unit.source, unit.start, unit.end))
    return tuple(spans)


class Details(Protocol):
    """What a result can still find out."""

    def dropped(self) -> tuple[DroppedSpan, ...]:
        """Return what is not in the output."""
        ...

    def texts(self) -> tuple[str, str]:
        """Return all text before and after."""
        ...


@dataclass(frozen=True)
class CompressionResult(Generic[Content]):
    """What :meth:`PromptCompressor.compress` returns."""

    content: Content
    """Of the type that was given; the very same object when nothing was done."""
    tokens_before: int
    tokens_after: int
    exact: bool = True
    """False when the model's tokenizer is not public and the counts are estimates."""
    steps: dict[str, int] = field(default_factory=dict)
    """Tokens that each step saved, in the order in which the steps ran."""
    reason: str | None = None
    """Why the content is unchanged, or changed less than asked; ``None`` when all went well."""
    details: Details | None = field(default=None, repr=False, compare=False)
    """Computes on demand what not everybody reads."""

    @property
    def saved_tokens(self) -> int:
        """Tokens before minus tokens after."""
        return self.tokens_before - self.tokens_after

    @cached_property
    def dropped(self) -> tuple[DroppedSpan, ...]:
        """What is not in the output; offsets count in the text after the lossless steps."""
        return self.details.dropped() if self.details else ()

    @cached_property
    def loss(self) -> LossReport:
        """What was lost; computed when it is first read."""
        return loss_between(*self.texts)

    @property
    def texts(self) -> tuple[str, str]:
        """All text before and after."""
        return self.details.texts() if self.details else ("", "")
