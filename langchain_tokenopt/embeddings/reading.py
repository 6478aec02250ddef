"""Whether a model reads all of a text.

A model drops what is beyond its window in silence, and what its vocabulary does not have becomes
one and the same token. A script of which the vocabulary knows single letters only is no more than
spelt out: texts in it come out near one another whatever they say.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from functools import cached_property
from typing import Any, Final

from langchain_tokenopt.core.errors import TokenOptError
from langchain_tokenopt.text.scripts import HAN, LATIN

__all__ = ["EmbedderUnavailableError", "TextReader", "foreign_scripts"]

_LATIN_LETTER: Final = re.compile(f"[{LATIN}]")
_HAN_LETTER: Final = re.compile(f"[{HAN}]")
_HAN_PIECES: Final = 2_000
"""Pieces with a Han character that a vocabulary needs to read them: 3,500 are in daily use; English
vocabularies hold some 500, those of models that were trained on Chinese 7,000 and more."""
_PIECES: Final = 100
"""Pieces of several letters that a vocabulary needs to read another script: English ones hold none
or a few."""


_LONGEST_PIECE: Final = 32
"""Characters of the longest pieces that are words."""


class EmbedderUnavailableError(TokenOptError, ImportError):
    """A local model cannot be run or found; the message names the command that helps."""


def foreign_scripts(text: str) -> set[str]:
    """Return the scripts of a text's letters, the Latin one left out, as Unicode names them.

    Example:
        >>> sorted(foreign_scripts("Was heißt 退款 und что?"))
        ['CJK', 'CYRILLIC']
    """
    if text.isascii():
        return set()
    return {_script(c) for c in set(text) if c.isalpha() and not _LATIN_LETTER.match(c)}


def _script(letter: str) -> str:
    return unicodedata.name(letter, "UNNAMED").partition(" ")[0].partition("-")[0]


class TextReader:
    """Says which texts a tokenizer and a window can hold.

    Args:
        tokenizer: A ``tokenizers.Tokenizer``; it is changed so that it neither cuts nor pads.
        window: Tokens that the model reads, special ones included; ``None`` for any number.
        prompt: What the model puts before each text.
    """

    def __init__(self, tokenizer: Any, window: int | None, prompt: str = "") -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.tokenizer = tokenizer
        self._window = window
        self._prompt = prompt
        unknown = getattr(tokenizer.model, "unk_token", None)
        self._unknown = tokenizer.token_to_id(unknown) if unknown else None

    def reads(self, text: str) -> bool:
        """Say whether the model reads all of a text."""
        if self._window is not None and len(text) > _LONGEST_PIECE * self._window:
            return False  # cutting megabytes into pieces takes seconds
        if not all(map(self._knows, foreign_scripts(text))):
            return False
        ids = self.tokenizer.encode(self._prompt + text).ids
        return (self._window is None or len(ids) <= self._window) and self._unknown not in ids

    def _knows(self, script: str) -> bool:
        if script == "CJK":
            return self._pieces["CJK"] >= _HAN_PIECES
        return self._pieces[script] >= _PIECES

    @cached_property
    def _pieces(self) -> Counter[str]:
        """How many pieces the vocabulary has in each script: of Han any, of others long ones."""
        counts: Counter[str] = Counter()
        numbers = [[number] for number in range(self.tokenizer.get_vocab_size())]
        for piece in self.tokenizer.decode_batch(numbers, skip_special_tokens=False):
            letters = [c for c in piece if c.isalpha()]
            if len(letters) > 1 or _HAN_LETTER.search(piece):
                counts.update(foreign_scripts(piece))
        return counts
