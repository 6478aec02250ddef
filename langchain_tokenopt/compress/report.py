"""What a compression did: tokens per step, what was dropped, and what was lost with it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Generic, Protocol, TypeVar

from langchain_tokenopt.compress.protect import NEGATION, NUMBER, OBLIGATION

__all__ = ["CompressionResult", "DroppedSpan", "LossReport", "Tally", "loss_between"]

Content = TypeVar("Content")

_ENTITY = re.compile(
    r"(?<![.!?]\s)(?<!^)\b[A-ZÄÖÜÁÉÍÓÚÑ][\w'’-]+(?: (?:(?:of|de|van|von|der|del"
    r"|la) )?[A-ZÄÖÜÁÉÍÓÚÑ][\w'’-]+)*"
)
"""Capitalised words that do not merely begin a sentence. In German that includes common nouns."""


@dataclass(frozen=True, slots=True)
class Tally:
    """One kind of thing: how many there were, and which of them are gone."""

    before: int
    lost: tuple[str, ...]
    """Every occurrence that is gone, most frequent first; something that is still said elsewhere in
    the result is not lost."""

    @property
    def kept_share(self) -> float | None:
        """Share kept, from 0 to 1; ``None`` when there was nothing to keep."""
        return None if not self.before else 1 - len(self.lost) / self.before


@dataclass(frozen=True, slots=True)
class LossReport:
    """Distinct numbers, names, negations and obligations, before and after.

    Numbers, names are compared as written. Negations and obligations are compared by the clause
    around them: the four words on either side.
    """

    numbers: Tally
    entities: Tally
    negations: Tally
    obligations: Tally

    def __str__(self) -> str:
        parts = []
        for name in ("numbers", "entities", "negations", "obligations"):
            tally: Tally = getattr(self, name)
            parts.append(f"{name} {tally.before - len(tally.lost)}/{tally.before}")
        return "kept: " + ", ".join(parts)


def loss_between(before: str, after: str) -> LossReport:
    """Compare two versions of a text.

    Example:
        >>> loss = loss_between("He never paid the 500 EUR. It rained.", "It rained.")
        >>> loss.numbers.lost, loss.negations.lost
        (('500 EUR',), ('He never paid the 500 EUR',))
    """
    return LossReport(
        numbers=_tally(NUMBER, before, after),
        entities=_tally(_ENTITY, before, after),
        negations=_clauses(NEGATION, before, after),
        obligations=_clauses(OBLIGATION, before, after),
    )


def _tally(pattern: re.Pattern[str], before: str, after: str) -> Tally:
    found = Counter(match.group() for match in pattern.finditer(before))
    left = {match.group() for match in pattern.finditer(after)}
    return Tally(len(found), tuple(text for text, _ in found.most_common() if text not in left))


_AROUND = 4
_WORD = re.compile(r"\S+")


def _clauses(pattern: re.Pattern[str], before: str, after: str) -> Tally:
    left = set(_around(pattern, after))
    found = list(dict.fromkeys(_around(pattern, before)))
    return Tally(len(found), tuple(clause for clause in found if clause not in left))


def _around(pattern: re.Pattern[str], text: str) -> Iterable[str]:
    """Yield each match with up to four words of its own sentence on either side."""
    for match in pattern.finditer(text):
        start, end = match.span()
        before = re.split(r"[.!?。！？\n]", text[max(0, start - 80) : start])[-1]
        after = re.split(r"[.!?。！？\n]", text[end : end + 80])[0]
        words = [*_WORD.findall(before)[-_AROUND:], match.group(), *_WORD.findall(after)[:_AROUND]]
        yield " ".join(words)


@dataclass(frozen=True, slots=True)
class DroppedSpan:
    """A stretch of the input that is not in the output."""

    source: int
    """Which document or message; 0 for a string."""
    start: int
    end: int
    """Character offsets into that source's text."""


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
