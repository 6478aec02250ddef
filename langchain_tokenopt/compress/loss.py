"""What was lost between two versions of a text: numbers, names, negations, obligations."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from langchain_tokenopt.compress.protect import NEGATION, OBLIGATION
from langchain_tokenopt.text.numbers import NUMBER
from langchain_tokenopt.text.scripts import CJK
from langchain_tokenopt.text.sentences import ENDS

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

    Numbers are compared with their sign and all that is written together with them (``-5``,
    ``v2.4.1``, ``2026-05-01``), names as written. Negations and obligations are compared by the
    clause around them: the four words on either side.
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
        numbers=_lost_numbers(before, after),
        entities=_lost_names(before, after),
        negations=_clauses(NEGATION, before, after),
        obligations=_clauses(OBLIGATION, before, after),
    )


# --- numbers and names ---------------------------------------------------------------------------

_RUN = re.compile(rf"[^\s=\"'<>(){{}}\[\]|{CJK}]*\d[^\s=\"'<>(){{}}\[\]|{CJK}]*")
"""What is written together with a digit; quotation marks, brackets and Chinese part it."""
_LIST_COMMA = re.compile(r"[,;](?!\d{3}(?!\d))")
"""A comma that does not part thousands."""
_AROUND_RUN = ".,:;!?*_`/=~"


def numbers_of(text: str) -> list[str]:
    """Return the numbers of *text* as they are written.

    Example:
        >>> numbers_of("From -5 to 12 % in v2.4.1 (see [7,8])")
        ['-5', '12 %', 'v2.4.1', '7', '8']
    """
    spans = [m.span() for m in NUMBER.finditer(text) if not _is_list(m.group())]
    for match in _RUN.finditer(text):
        start = match.start()
        for part in _LIST_COMMA.split(match.group()):
            left = len(part) - len(part.lstrip(_AROUND_RUN))
            if any(char.isdigit() for char in part):
                spans.append((start + left, start + len(part.rstrip(_AROUND_RUN))))
            start += len(part) + 1
    return [text[start:end].removesuffix(" in") for start, end in _merged(spans)]


def _is_list(number: str) -> bool:
    return _LIST_COMMA.search(number) is not None and not any(map(str.isalpha, number))


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join spans that overlap."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _lost_numbers(before: str, after: str) -> Lost:
    left = set(numbers_of(after))
    left.update(part for number in tuple(left) for part in _LIST_COMMA.split(number))
    return _lost(
        Counter(numbers_of(before)),
        lambda number: number in left or all(p in left for p in _LIST_COMMA.split(number)),
    )


def _lost_names(before: str, after: str) -> Lost:
    left = {match.group() for match in _ENTITY.finditer(after)}
    return _lost(Counter(m.group() for m in _ENTITY.finditer(before)), left.__contains__)


def _lost(found: Counter[str], is_left: Callable[[str], bool]) -> Lost:
    return Lost(len(found), tuple(text for text, _ in found.most_common() if not is_left(text)))


# --- negations and obligations -------------------------------------------------------------------

_WORDS_AROUND = 4
_FAR = 80
_CLAUSE_END = re.compile(rf"[{re.escape(ENDS)}\n\t\"{{}}\[\]|]")
_WORD = re.compile(r"\S+")
_IN_WORDS = re.compile(r"\w+")


def _clauses(pattern: re.Pattern[str], before: str, after: str) -> Lost:
    left = {tuple(_IN_WORDS.findall(clause)) for clause in _around(pattern, after)}
    found = list(dict.fromkeys(_around(pattern, before)))
    lost = (clause for clause in found if tuple(_IN_WORDS.findall(clause)) not in left)
    return Lost(len(found), tuple(lost))


def _around(pattern: re.Pattern[str], text: str) -> Iterable[str]:
    """Yield each match with up to four words of its own clause on either side."""
    for match in pattern.finditer(text):
        start, end = match.span()
        before = _CLAUSE_END.split(text[max(0, start - _FAR) : start])[-1]
        after = _CLAUSE_END.split(text[end : end + _FAR])[0]
        first = _WORD.findall(before)[-_WORDS_AROUND:]
        last = _WORD.findall(after)[:_WORDS_AROUND]
        glue_before = "" if before and not before[-1].isspace() else " "
        glue_after = "" if after and not after[0].isspace() else " "
        whole = " ".join(first) + glue_before + match.group() + glue_after + " ".join(last)
        yield whole.strip()
