"""The tokens of a text, and of any stretch of it, from one pass of the tokenizer."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

import numpy as np

if TYPE_CHECKING:
    from langchain_tokenopt.counting.tokens import TokenCounter

__all__ = ["Tokenized", "vocabulary_of"]


def vocabulary_of(counter: TokenCounter) -> Any:
    """Return the tiktoken ``Encoding`` behind *counter*, or ``None`` if it counts otherwise.

    For a model whose tokenizer is not public that is the nearest one that is.
    """
    encoding = getattr(getattr(counter, "encode", None), "__self__", None)
    return encoding if hasattr(encoding, "encode_to_numpy") else None


@lru_cache(maxsize=8)
def _token_bytes(encoding: Any) -> np.ndarray[Any, np.dtype[np.uint16]]:
    """Return how many bytes each token of the vocabulary stands for; small, to stay in a cache."""
    lengths = np.zeros(encoding.max_token_value + 1, dtype=np.uint16)
    for value in encoding.token_byte_values():
        lengths[encoding.encode_single_token(value)] = len(value)
    return lengths


_LONGEST_SAFE = 50_000
"""Characters; tiktoken 0.14.0 overflows its stack on a million blanks in a row."""
_LONG_BLANK = re.compile(rf"\s{{{_LONGEST_SAFE}}}")


def _has_long_blank(text: str) -> bool:
    """Look only around every so many characters: at one of them stands any blank that long."""
    return len(text) > _LONGEST_SAFE and any(
        text[at].isspace()
        and _LONG_BLANK.search(text, max(0, at - _LONGEST_SAFE), at + _LONGEST_SAFE)
        for at in range(0, len(text), _LONGEST_SAFE)
    )


class Tokenized:
    """A text after one pass of the tokenizer: its tokens, and those of any stretch of it."""

    __slots__ = ("_counter", "_encoding", "_ends", "_pieces", "_text", "exact", "tokens")

    def __init__(self, text: str, counter: TokenCounter) -> None:
        self._text = text
        self._counter = counter
        self._pieces: np.ndarray[Any, np.dtype[np.uint32]] | None = None
        self._ends: np.ndarray[Any, np.dtype[np.integer[Any]]] | None = None
        self._encoding = encoding = vocabulary_of(counter)
        if encoding is not None and not _has_long_blank(text):
            self._pieces = _encoded(encoding, text)
        pieces = self._pieces
        if pieces is None:
            count = counter.count(text)
            self.tokens, self.exact = count.tokens, count.exact
            return
        self.exact = counter.count("a").exact
        self.tokens = self._counted(len(pieces), text)

    def _counted(self, pieces: int, text: str) -> int:
        """Return what the counter makes of so many pieces of *text*."""
        if self.exact:
            return pieces
        of_pieces = getattr(self._counter, "of_pieces", None)
        return int((of_pieces(pieces) if of_pieces else self._counter.count(text)).tokens)

    def _bounds(self, ends: Sequence[int]) -> list[int]:
        """Return how many pieces end at or before each of *ends*."""
        if self._ends is None:
            lengths = _token_bytes(self._encoding)[self._pieces]
            in_bytes = np.add.accumulate(lengths, dtype=np.int32)
            ascii = self._text.isascii()
            self._ends = in_bytes if ascii else _in_characters(self._text, in_bytes)
        return cast("list[int]", self._ends.searchsorted(ends, side="right").tolist())

    def count_made(self, made: str, runs: Sequence[tuple[int, int]]) -> int:
        """Count a text that was made of *runs* of this one, reading only what is new or at a seam.

        Vocabularies of OpenAI begin a new piece at a space between a mark and a letter, whatever
        stands before: what lies between two such spaces has the pieces that it had here.
        """
        if self._pieces is None or not self._encoding.name.startswith(PARTED_BY_SPACES):
            return self._counter.count(made).tokens
        text, position = self._text, 0
        rest: list[str] = []
        known: list[int] = []
        for start, end in runs:
            if end - start < _SHORTEST_RUN:
                continue
            first, last = _SPACE.search(text, start + 1, end), text.rfind(" ", start, end - 1)
            while last > start and not _SPACE.match(text, last):
                last = text.rfind(" ", start, last)
            if first is None or last - first.start() < _SHORTEST_RUN:
                continue
            at = made.find(text[first.start() - 1 : last + 2], position) + 1
            if at > 0:
                rest.append(made[position:at])
                position = at + last - first.start()
                known += (first.start(), last)
        rest.append(made[position:])
        new = _encoded(self._encoding, "".join(rest))
        if new is None:
            return self._counter.count(made).tokens
        bounds = self._bounds(known)
        return self._counted(sum(bounds[1::2]) - sum(bounds[::2]) + len(new), made)

    def between(self, ends: Sequence[int]) -> list[int]:
        """Return the tokens of each stretch of the text, given where each ends.

        A token that crosses a boundary counts for the stretch in which it ends.

        Example:
            >>> from langchain_tokenopt.counting.tokens import counter_for
            >>> Tokenized("It is hot. Ice is cold.", counter_for("cl100k_base")).between([10, 23])
            [4, 4]
        """
        if not ends:
            return []
        if self._pieces is None:
            starts = [0, *ends[:-1]]
            count = self._counter.count
            return [count(self._text[a:b]).tokens for a, b in zip(starts, ends, strict=True)]
        bounds = self._bounds(ends)
        counts = [bound - before for before, bound in zip([0, *bounds], bounds, strict=False)]
        if self.exact or not len(self._pieces):
            return counts
        scale = self.tokens / len(self._pieces)
        return [math.ceil(count * scale) for count in counts]


def _encoded(encoding: Any, text: str) -> np.ndarray[Any, np.dtype[np.uint32]] | None:
    """Return the pieces of a text; ``None`` where half a surrogate pair makes it no UTF-8."""
    try:
        pieces = encoding.encode_to_numpy(text, disallowed_special=())
    except UnicodeEncodeError:
        return None
    return cast("np.ndarray[Any, np.dtype[np.uint32]]", pieces)


PARTED_BY_SPACES = ("o200k", "cl100k", "p50k", "r50k", "gpt2")
_SPACE = re.compile(r"(?<=\S) (?=[^\W\d_])")
_SHORTEST_RUN = 60
"""Characters; to count fewer again is less work than to find them."""


def _in_characters(
    text: str, ends: np.ndarray[Any, np.dtype[np.int32]]
) -> np.ndarray[Any, np.dtype[np.integer[Any]]]:
    """Turn offsets in UTF-8 into the number of characters that have begun before each."""
    written = np.frombuffer(text.encode(), dtype=np.int8)
    goes_on = (written < -64).nonzero()[0]  # 0b10xxxxxx
    ended = np.bincount(ends.searchsorted(goes_on, side="right"), minlength=len(ends))
    return ends - np.add.accumulate(ended)
