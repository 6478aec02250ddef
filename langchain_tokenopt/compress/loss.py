"""What was lost between two versions of a text: numbers, names, negations, obligations."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from langchain_tokenopt.compress.protect import NEGATION, OBLIGATION
from langchain_tokenopt.text.numbers import NUMBER

__all__ = ["LossReport", "Lost", "loss_between"]

_ENTITY = re.compile(
    r"(?<![.!?]\s)(?<!^)\b[A-ZÄÖÜÁÉÍÓÚÑ][\w'’-]+(?: (?:(?:of|de|van|von|der|del"
    r"|la) )?[A-ZÄÖÜÁÉÍÓÚÑ][\w'’-]+)*"
)
"""Capitalised words that do not merely begin a sentence. In German that includes common nouns."""


@dataclass(frozen=True, slots=True)
class Lost:
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

    numbers: Lost
    entities: Lost
    negations: Lost
    obligations: Lost

    def __str__(self) -> str:
        parts = []
        for name in ("numbers", "entities", "negations", "obligations"):
            tally: Lost = getattr(self, name)
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


def _tally(pattern: re.Pattern[str], before: str, after: str) -> Lost:
    found = Counter(match.group() for match in pattern.finditer(before))
    left = {match.group() for match in pattern.finditer(after)}
    return Lost(len(found), tuple(text for text, _ in found.most_common() if text not in left))


_AROUND = 4
_WORD = re.compile(r"\S+")


def _clauses(pattern: re.Pattern[str], before: str, after: str) -> Lost:
    left = set(_around(pattern, after))
    found = list(dict.fromkeys(_around(pattern, before)))
    return Lost(len(found), tuple(clause for clause in found if clause not in left))


def _around(pattern: re.Pattern[str], text: str) -> Iterable[str]:
    """Yield each match with up to four words of its own sentence on either side."""
    for match in pattern.finditer(text):
        start, end = match.span()
        before = re.split(r"[.!?。！？\n]", text[max(0, start - 80) : start])[-1]
        after = re.split(r"[.!?。！？\n]", text[end : end + 80])[0]
        words = [*_WORD.findall(before)[-_AROUND:], match.group(), *_WORD.findall(after)[:_AROUND]]
        yield " ".join(words)
