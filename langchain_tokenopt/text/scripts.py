"""Which script a text is written in, and the ranges of the scripts that need rules of their own.

Ranges are the inside of a character class of :mod:`re`, so that ``f"[{HAN}{KANA}]"`` works. They
follow the blocks of Unicode 15.1, without the marks that stand among the letters (``・``, ``゛``).
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["CJK", "HAN", "HANGUL", "KANA", "LATIN", "UNSPACED", "script_of"]

HAN: Final = "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Ideographs, and the marks that stand for one (``々``, ``〆``, ``〇``)."""
KANA: Final = "\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f"
HANGUL: Final = "\uac00-\ud7af"
LATIN: Final = "A-Za-z\u00aa\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff"

UNSPACED: Final = HAN + KANA
"""Scripts in which words stand side by side without a space. Korean has spaces."""
CJK: Final = UNSPACED + HANGUL
"""Scripts in which pairs of characters are searched for rather than words: Korean joins particles
to its words."""

_RANGES: Final = {
    "latin": LATIN,
    "han": HAN,
    "kana": KANA,
    "hangul": HANGUL,
    "greek": "\u0370-\u03ff\u1f00-\u1fff",
    "cyrillic": "\u0400-\u052f",
    "hebrew": "\u0590-\u05ff",
    "arabic": "\u0600-\u077f",
    "indic": "\u0900-\u0dff",
    "thai": "\u0e00-\u0e7f",
}
_PATTERNS: Final = {name: re.compile(f"[{ranges}]") for name, ranges in _RANGES.items()}
_DENSITY: Final = {"han": 4, "kana": 4, "hangul": 2}
"""Letters of an alphabet that say as much as one character."""
_SAMPLE: Final = 2_000
"""Characters from the end that are looked at: the question comes last."""


def script_of(text: str) -> str:
    """Return the script that most of *text* is written in.

    Returns:
        ``"latin"``, ``"han"`` (Chinese, or Japanese without kana), ``"kana"`` (Japanese),
        ``"hangul"``, ``"greek"``, ``"cyrillic"``, ``"hebrew"``, ``"arabic"``, ``"indic"``,
        ``"thai"`` or ``"other"``; ``""`` where there is no letter.

    Example:
        >>> texts = ("What is α?", "React是什么？", "漢字の読み方", "Что это?", "42")
        >>> [script_of(text) for text in texts]
        ['latin', 'han', 'kana', 'cyrillic', '']
    """
    sample = text[-_SAMPLE:]
    if sample.isascii():
        return "latin" if _PATTERNS["latin"].search(sample) else ""
    found = {name: len(pattern.findall(sample)) for name, pattern in _PATTERNS.items()}
    counts = {name: count * _DENSITY.get(name, 1) for name, count in found.items()}
    counts["other"] = sum(map(str.isalpha, sample)) - sum(found.values())
    if counts["kana"]:  # Japanese is written in both
        counts["kana"] += counts.pop("han")
    best = max(counts, key=lambda name: counts[name])
    return best if counts[best] > 0 else ""
