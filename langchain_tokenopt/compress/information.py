"""How much each unit tells by itself, whatever is asked: its figures, dates, codes and names.

Where a question names nothing of what a text says, a text that is shortened for several readers
tells them more if each of them reads another part of it, and of each part what is said densest.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

from langchain_tokenopt.compress.units import Unit
from langchain_tokenopt.text.sentences import sentences_of
from langchain_tokenopt.text.words import WORD

__all__ = ["information"]

_FIGURE: Final = re.compile(r"(?<![^\W_])(?=[^\W_]*\d)[\w.,:/%-]*\w|(?<=[^\W\d_][ ,])[A-Z][\w-]+")
"""Figures and codes, and what begins with a capital letter amid a sentence."""
_WORD: Final = 0.3
"""What a word counts, against 1 for one of those."""
_MOST_TOLD: Final = 3
"""Of these in a unit that count: a row of a table of figures is no better than a sentence."""
_SILENT: Final = frozenset({"heading", "label", "tag", "turn"})


def information(
    texts: Sequence[str], units: Sequence[Unit], known: Iterable[str] = ()
) -> list[float]:
    """Return for each unit what it tells for its length; they sum to 1, or are all 0.

    Args:
        texts: The sources of the units.
        units: What must be kept, and what tells nothing without others, counts 0.
        known: Texts; what stands in one of them counts 0.

    Example:
        >>> from langchain_tokenopt.compress.units import units_of
        >>> text = "It rained. The loan is due on 5 May. The bridge opened in 1931."
        >>> units = units_of(text)
        >>> worth = information([text], units, known=["The loan is due on 5 May."])
        >>> text[units[worth.index(max(worth))].start :].strip()
        'The bridge opened in 1931.'
    """
    spoken = [
        "" if unit.required or unit.kind in _SILENT else unit.within(texts[unit.source])
        for unit in units
    ]
    told = [_told(text) for text in spoken]
    standing = Counter([item for items in told for item in items])
    heard = frozenset[str]().union(*map(_sayings, known))
    worth = [0.0] * len(units)
    for at, (text, items) in enumerate(zip(spoken, told, strict=True)):
        if items and not (heard and _sayings(text) <= heard):
            tells = [w * math.log((len(units) + 1) / standing[i]) for i, w in items.items()]
            worth[at] = sum(sorted(tells)[-_MOST_TOLD:]) / math.sqrt(len(text))
    total = sum(worth) or 1.0
    return [each / total for each in worth]


def _told(text: str) -> dict[str, float]:
    """Return what a text tells of, and what each counts."""
    words = dict.fromkeys(WORD.findall(text.lower()), _WORD)
    return {**words, **dict.fromkeys(_FIGURE.findall(text), 1.0)}


@lru_cache(maxsize=4_096)
def _sayings(text: str) -> frozenset[str]:
    """Return the sentences and rows of a text, by their words."""
    lines = (line for line in text.splitlines() if line.strip())
    said = (" ".join(WORD.findall(part.lower())) for ln in lines for part in sentences_of(ln))
    return frozenset(filter(None, said))
