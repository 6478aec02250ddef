"""How much each sentence tells, whatever is asked: its figures, codes, dates and names.

What a report is worth to somebody whose question does not name what it says. A figure or a name
that stands once tells more than one that is on every page, and what is said briefly costs less.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

from langchain_tokenopt.compress.passages import Block, RankedText
from langchain_tokenopt.compress.units import Unit

__all__ = ["information"]

_TOLD: Final = re.compile(r"(?<![^\W_])(?=[^\W_]*\d)[\w.,:/%-]*\w|(?<=[^\W\d_][ ,])[A-Z][\w-]+")
"""Figures and codes, and what begins with a capital letter amid a sentence."""


def information(text: RankedText, blocks: Sequence[Block]) -> list[float]:
    """Return for each unit what it tells, for its length; they sum to 1, or to 0."""
    units = text.units
    told: list[list[str]] = [[] for _ in units]
    for block in blocks:
        for at in text.inside(block):
            unit = units[at]
            if unit.kind != "turn" and not unit.required:
                told[at] = list(dict.fromkeys(_TOLD.findall(_of(text, unit))))
    standing = Counter([item for items in told for item in items])
    whole = len(units) + 1
    worth = [
        sum(math.log(whole / standing[item]) for item in items)
        / math.sqrt(unit.end - unit.start + 1)
        for items, unit in zip(told, units, strict=True)
    ]
    total = sum(worth) or 1.0
    return [each / total for each in worth]


def _of(text: RankedText, unit: Unit) -> str:
    return text.texts[unit.source][unit.start : unit.end]
