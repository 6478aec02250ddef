"""The part of an answer that fits a limit, found while the answer is being written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from langchain_tokenopt.limits.markdown import Boundary, Scanner, closing_of
from langchain_tokenopt.text.words import WordCounter

__all__ = ["Excerpt", "Limit"]

ELLIPSIS = "…"

LONGEST_LOOK_AHEAD = 200
"""Characters that may be read to learn whether a unit has ended: an endless rule of dashes never
says."""


@dataclass(frozen=True, slots=True)
class Limit:
    """How long a text may be; ``None`` does not limit."""

    words: int | None = None
    tokens: int | None = None
    sentences: int | None = None

    def __str__(self) -> str:
        """Return the limit in words.

        Example:
            >>> str(Limit(words=1_500, sentences=3))
            '1,500 words and 3 sentences'
        """
        parts = (("words", self.words), ("tokens", self.tokens), ("sentences", self.sentences))
        return " and ".join(f"{number:,} {name}" for name, number in parts if number is not None)


class Excerpt:
    """Takes a text in pieces, gives back what may be shown of it.

    A text that fits comes back to the byte. Of a longer one, whole units come back (sentences,
    list items, table rows, lines of code) and what closes open markup; when not even the first
    unit fits, it is cut after a word and ends in "…".

    The first unit is shown while it is written, since it is shown in any case; later ones once
    they are known to fit. How the text is divided into pieces makes no difference to the whole.

    Args:
        limit: How much may be shown.
        count_tokens: Needed for a limit in tokens.

    Example:
        >>> excerpt = Excerpt(Limit(words=4))
        >>> [excerpt.feed(piece) for piece in ("One ", "two. ", "Three four ", "five.")]
        ['One', ' two.', '', '']
        >>> excerpt.is_full, excerpt.finish()
        (True, '')
    """

    def __init__(self, limit: Limit, count_tokens: Callable[[str], int] | None = None) -> None:
        self._limit = limit
        self._words = WordCounter()
        self._scanner = Scanner()
        self._allowance = _TokenAllowance(limit.tokens, count_tokens or len)
        self._text = ""
        self._shown = 0
        self._end: Boundary | None = None
        """The last place where the text may end and fits."""
        self._units = 0
        self._exceeded = False
        self.is_full = False
        """True when nothing that follows can be shown any more."""
        self.is_cut = False
        """True when something was left out."""

    @property
    def has_exceeded(self) -> bool:
        """Whether the text is known to be longer than the limit."""
        return self._exceeded

    def feed(self, text: str) -> str:
        """Take the next piece; return what may be shown now."""
        for char in text:
            if self.is_full:
                break
            self._read(char)
        return self._release(self._showable())

    def finish(self, *, broken_off: bool = False) -> str:
        """Return what was held back and fits, and what closes it. Call it once, at the end.

        Args:
            broken_off: True when the text did not come to its own end, because a limit of tokens
                stopped the model: then its last, unfinished unit is left out too.
        """
        self.is_full = True
        if not self._exceeded and not self._allowance.holds(self._text):
            self._exceeded = True
        if not self._exceeded and not broken_off:
            return self._release(len(self._text))
        if (last := self._scanner.end()) is not None:
            self._offer(last)
        return self._cut()

    # Reading

    def _read(self, char: str) -> None:
        at = len(self._text)
        self._text += char
        if (boundary := self._scanner.read(char)) is not None:
            self._offer(boundary)
        words = self._words.count
        self._words.read(char)
        if self._words.count > words and self._is_too_much(self._words.starts[-1]):
            self._exceeded = True
        counts = self._limit.tokens is not None and char.isspace()
        if counts and not self._allowance.holds(self._text[:at]):
            self._exceeded = True
        if self._exceeded:
            pending = self._scanner.pending
            self.is_full = pending is None or at - pending > LONGEST_LOOK_AHEAD

    def _is_too_much(self, start: int) -> bool:
        """Whether the word that begins at *start* is one too many."""
        limit = self._limit
        if limit.words is not None and self._words.count > limit.words:
            return True
        begins_unit = self._end is None or start >= self._end.at
        return limit.sentences is not None and self._units >= limit.sentences and begins_unit

    def _offer(self, boundary: Boundary) -> None:
        """The text may end here: take it if that much fits."""
        words, limit = self._words.before(boundary.at), self._limit
        if not words or (self._end is not None and boundary.at <= self._end.at):
            return
        if limit.words is not None and words > limit.words:
            return
        if limit.sentences is not None and self._units >= limit.sentences:
            return
        if limit.tokens is not None:
            text = self._text[: boundary.at]
            if not self._allowance.holds(
                text + closing_of(text, block=boundary.block), strict=True
            ):
                return
        self._end = boundary
        self._units += 1

    # Showing

    def _showable(self) -> int:
        """How far the text may be shown, whatever comes next."""
        if self._end is not None:
            return self._end.at
        if self._exceeded:
            return self._shown
        at = len(self._text)
        if (pending := self._scanner.pending) is not None:
            at = min(at, pending)
        words = self._words.ends
        if words:
            at = min(at, len(self._text.rstrip()))
        if words and (len(words) == self._limit.words or self._limit.tokens is not None):
            at = min(at, words[-1])
        if self._limit.tokens is not None:
            return self._affordable(at)
        return at

    def _affordable(self, at: int) -> int:
        """How much of the first unit may be shown, should it be cut there: up to a whole word."""
        ends = [end for end in self._words.ends[:-1] if self._shown < end <= at]
        for end in reversed(ends):
            if self._allowance.holds(self._cut_at(end), strict=True):
                return end
        return self._shown

    def _release(self, at: int) -> str:
        piece, self._shown = self._text[self._shown : at], max(self._shown, at)
        return piece

    def _cut(self) -> str:
        """Return what is still to be shown of a text that is too long."""
        self.is_cut = self._end is None or self._end.at < len(self._text.rstrip())
        if self._end is not None:
            piece = self._release(self._end.at if self.is_cut else len(self._text))
            return piece + closing_of(self._text[: self._end.at], block=self._end.block)
        at = self._first_cut()
        whole = self._cut_at(at)
        shown, self._shown = self._shown, at
        return whole[shown:]

    def _first_cut(self) -> int:
        """Where to cut a first unit that is too long by itself."""
        limit, ends = self._limit, self._words.ends
        if limit.tokens is None:
            allowed = min(limit.words or len(ends), len(ends))
            return max(self._shown, ends[allowed - 1] if allowed else 0)
        fitting = [
            end
            for number, end in enumerate(ends, start=1)
            if end > self._shown
            and (limit.words is None or number <= limit.words)
            and self._allowance.holds(self._cut_at(end), strict=True)
        ]
        return max(fitting, default=self._shown)

    def _cut_at(self, at: int) -> str:
        text = self._text[:at]
        return f"{text}{ELLIPSIS}{closing_of(text, block=False)}"


class _TokenAllowance:
    """Says whether a text fits a limit of tokens, counting as seldom as it can.

    A text has at most as many tokens as bytes, so after a count there is no need for another one
    until as many bytes have been added as tokens were left.
    """

    def __init__(self, tokens: int | None, count: Callable[[str], int]) -> None:
        self._tokens = tokens
        self._count = count
        self._safe_bytes = tokens or 0

    def holds(self, text: str, *, strict: bool = False) -> bool:
        """Whether *text* fits. *strict*: it is not a continuation of what was asked before."""
        if self._tokens is None or len(text) * 4 <= self._tokens:
            return True
        size = len(text.encode("utf-8", "surrogatepass"))
        if size <= self._tokens or (not strict and size <= self._safe_bytes):
            return True
        counted = self._count(text)
        if not strict and counted <= self._tokens:
            self._safe_bytes = size + self._tokens - counted
        return counted <= self._tokens
