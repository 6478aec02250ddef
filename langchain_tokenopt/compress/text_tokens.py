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
def _token_bytes(encoding: Any) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return how many bytes each token of the vocabulary stands for."""
    lengths = np.zeros(encoding.max_token_value + 1, dtype=np.int64)
    for value in encoding.token_byte_values():
        lengths[encoding.encode_single_token(value)] = len(value)
    return lengths


_LONG_BLANK = re.compile(r"\s{50000}")
"""tiktoken 0.14.0 overflows its stack on a million blanks in a row."""


class Tokenized:
    """A text after one pass of the tokenizer: its tokens, and those of any stretch of it."""

    __slots__ = ("_counter", "_encoding", "_ends", "_pieces", "_text", "exact", "tokens")

    def __init__(self, text: str, counter: TokenCounter) -> None:
        self._text = text
        self._counter = counter
        self._pieces: np.ndarray[Any, np.dtype[np.uint32]] | None = None
        self._ends: np.ndarray[Any, np.dtype[np.int64]] | None = None
        self._encoding = encoding = vocabulary_of(counter)
        if encoding is None or (len(text) > _LONGEST_SAFE and _LONG_BLANK.search(text)):
            count = counter.count(text)
            self.tokens, self.exact = count.tokens, count.exact
            return
        self._pieces = pieces = _encoded(encoding, text)
        if counter.count("a").exact:
            self.tokens, self.exact = len(pieces), True
        else:
            self.tokens, self.exact = counter.count(text).tokens, False

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
        if self._ends is None:
            self._ends = _token_bytes(self._encoding).take(self._pieces).cumsum()
        offsets = ends if self._text.isascii() else _byte_offsets(self._text, ends)
        bounds = self._ends.searchsorted(offsets, side="right").tolist()
        counts = [bound - before for before, bound in zip([0, *bounds], bounds, strict=False)]
        if self.exact or not len(self._ends):
            return counts
        scale = self.tokens / len(self._ends)
        return [math.ceil(count * scale) for count in counts]


def _encoded(encoding: Any, text: str) -> np.ndarray[Any, np.dtype[np.uint32]]:
    try:
        pieces = encoding.encode_to_numpy(text, disallowed_special=())
    except UnicodeEncodeError:  # half a surrogate pair: replaced as ``encode_ordinary`` does
        whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        pieces = encoding.encode_to_numpy(whole, disallowed_special=())
    return cast("np.ndarray[Any, np.dtype[np.uint32]]", pieces)


_LONGEST_SAFE = 50_000


def _byte_offsets(text: str, ends: Sequence[int]) -> list[int]:
    """Turn character offsets into offsets in UTF-8."""
    offsets, start, offset = [], 0, 0
    for end in ends:
        offset += len(text[start:end].encode("utf-8", "surrogatepass"))
        offsets.append(offset)
        start = end
    return offsets
