"""Words that mean the same when tools are asked for: verbs of requests, and what they are about.

``synonyms.txt`` has one line for each meaning: its name, which is an English word, and words of
English, German, Spanish, French, Italian, Portuguese, Dutch and Chinese. A word may stand in two
lines. Written for this package.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import Final

from langchain_tokenopt.text.stems import root
from langchain_tokenopt.text.words import is_cjk

__all__ = ["MEANINGS"]


def _meanings() -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    text = resources.files(__package__).joinpath("synonyms.txt").read_text(encoding="utf-8")
    for line in text.splitlines():
        words = line.split()
        for word in words:
            for form in {word, word if is_cjk(word) else root(word)}:
                found[form] = tuple(dict.fromkeys((*found.get(form, ()), words[0])))
    return found


MEANINGS: Final[Mapping[str, tuple[str, ...]]] = _meanings()
"""What each word or root of the table means."""
