"""The part of an answer that fits a limit, found while the answer is being written."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass

from langchain_tokenopt.limits.markdown import Boundary, OpenParts, Scanner
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

    def holds_bytes(self, size: int) -> bool:
        """Whether a text of so many bytes fits, whatever a word is: none of them is less than one.

        Example:
            >>> Limit(words=60, sentences=9).holds_bytes(9), Limit(words=60).holds_bytes(61)
            (True, False)
        """
        given = (self.words, self.tokens, self.sentences)
        return all(number is None or size <= number for number in given)


class Excerpt:
    """Takes a text in pieces, gives back what may be shown of it.

    A text that fits comes back to the byte. Of a longer one, whole units come back (sentences,
    list items, table rows, lines of code) and what closes open markup; when not even the first
    unit fits, it is cut after a word and ends in "…". A code block of JSON is one unit, and is
    shown whatever its length where no more than one unit stands before it: it is what was asked
    for.

    The first unit is shown while it is written, since it is shown in any case; later ones once
    they are known to fit. How the text is divided into pieces makes no difference to the whole.
    The time it takes is proportional to the length of the text, whatever stands in it.

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
        self._chars: list[str] = []
        self._room = _TokenRoom(limit.tokens, count_tokens or len, self._part)
        self._shown = 0
        self._cuts: list[int] = []
        """Where the first unit may be cut behind each of its words, the tag it ends in included."""
        self._holds: list[int | None] = []
        """Where the tag or formula begins that each of these words stands in."""
        self._word_ends: list[OpenParts] = []
        """What is open there; only for a limit in tokens, which counts what closes it."""
        self._end: Boundary | None = None
        """The last place where the text may end and fits."""
        self._units = 0
        self._passes = False
        """Whether a code block of JSON is shown whatever its length."""
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
        if self._passes or (self._units and self._end_is_everything()):
            return self._release(len(self._chars))
        if not self._exceeded and not self._room.holds(len(self._chars)):
            self._exceeded = True
        if not self._exceeded and not broken_off:
            return self._release(len(self._chars))
        if (last := self._scanner.end()) is not None:
            self._offer(last)
        return self._cut()

    def _end_is_everything(self) -> bool:
        return self._end is not None and self._end.at >= self._scanner.content_end

    @property
    def text(self) -> str:
        """Everything that was read."""
        return "".join(self._chars)

    def _part(self, start: int, end: int) -> str:
        return "".join(self._chars[start:end])

    # Reading

    def _read(self, char: str) -> None:
        at, words, scanner = len(self._chars), self._words, self._scanner
        self._chars.append(char)
        if (boundary := scanner.read(char)) is not None:
            self._offer(boundary)
        if scanner.in_json and self._units <= 1 and not self._exceeded:
            self._passes = True
        before = words.count
        words.read(char)
        is_end = words.ends and (words.ends[-1] == at + 1 or scanner.ended_element)
        if self._end is None and is_end:
            self._note_cut(words.count - 1)
        if self._passes:
            return
        if words.count > before and self._is_too_much(words.starts[-1]):
            self._exceeded = True
        if self._limit.tokens is not None and self._is_over_tokens(at, words.count > before):
            self._exceeded = True
        if self._exceeded:
            pending = scanner.pending
            self.is_full = pending is None or at - pending > LONGEST_LOOK_AHEAD

    def _note_cut(self, number: int) -> None:
        """The word of this number ends here, so far."""
        self._cuts[number:] = [len(self._chars)]
        self._holds[number:] = [self._scanner.holds_from]
        if self._limit.tokens is not None:
            self._word_ends[number:] = [self._scanner.open]

    def _is_over_tokens(self, at: int, new_word: bool) -> bool:
        """Whether the text before *at* is too long, asked where its tokens do not change any more.

        Behind a space they do not. In a text without spaces, those a little further back do not.
        """
        if self._chars[at].isspace():
            in_gap = at and self._chars[at - 1].isspace() and at % LONGEST_LOOK_AHEAD
            return not in_gap and not self._room.holds(at)
        settled = at - LONGEST_LOOK_AHEAD
        return new_word and settled > 0 and not self._room.holds(settled)

    def _is_too_much(self, start: int) -> bool:
        """Whether the word that begins at *start* is one too many."""
        limit = self._limit
        if limit.words is not None and self._words.count > limit.words:
            return True
        begins_unit = self._end is None or start >= self._end.at
        return limit.sentences is not None and self._units >= limit.sentences and begins_unit

    def _offer(self, boundary: Boundary) -> None:
        """The text may end here: take it if that much fits."""
        words = self._words.before(boundary.at)
        if not words or (self._end is not None and boundary.at <= self._end.at):
            return
        if not self._passes and not self._fits(boundary, words):
            return
        self._passes = False
        self._end = boundary
        self._units += 1

    def _fits(self, boundary: Boundary, words: int) -> bool:
        limit = self._limit
        if limit.words is not None and words > limit.words:
            return False
        if limit.sentences is not None and self._units >= limit.sentences:
            return False
        return limit.tokens is None or self._room.holds(boundary.at, boundary.closers())

    # Showing

    def _showable(self) -> int:
        """How far the text may be shown, whatever comes next."""
        scanner, words = self._scanner, self._cuts
        if self._passes:
            pending = scanner.pending
            return scanner.content_end if pending is None else min(pending, scanner.content_end)
        if self._end is not None:
            return self._end.at
        if self._exceeded:
            return self._shown
        at = len(self._chars)
        if scanner.pending is not None:
            at = min(at, scanner.pending)
        if scanner.holds_from is not None:
            at = min(at, scanner.holds_from)
        if words:
            at = min(at, scanner.content_end)
        if words and (len(words) == self._limit.words or self._limit.tokens is not None):
            at = min(at, words[-1])
        if self._limit.tokens is not None:
            return self._affordable(at)
        return at

    def _affordable(self, at: int) -> int:
        """How much of the first unit may be shown, should it be cut there: up to a whole word."""
        ends = self._cuts
        for number in range(min(len(ends) - 1, bisect_right(ends, at)) - 1, -1, -1):
            if ends[number] <= self._shown:
                break
            if self._holds[number] is None and self._holds_cut(number):
                return ends[number]
        return self._shown

    def _release(self, at: int) -> str:
        piece, self._shown = self._part(self._shown, at), max(self._shown, at)
        return piece

    def _cut(self) -> str:
        """Return what is still to be shown of a text that is too long."""
        end = self._end
        self.is_cut = end is None or end.at < self._scanner.content_end
        if end is not None:
            return self._release(end.at if self.is_cut else len(self._chars)) + end.closers()
        at = self._first_cut()
        piece = self._release(at)
        return piece + ELLIPSIS + self._open_at(at).closers(block=False)

    def _open_at(self, at: int) -> OpenParts:
        """Read the text up to *at* once more, to see what is open there."""
        scanner = Scanner()
        for char in self._chars[:at]:
            scanner.read(char)
        return scanner.open

    def _first_cut(self) -> int:
        """Where to cut a first unit that is too long by itself: not in a tag or formula."""
        limit, ends = self._limit, self._cuts
        allowed = len(ends) if limit.words is None else min(limit.words, len(ends))
        if limit.tokens is not None:
            allowed = self._most_affordable(allowed)
        if not allowed:
            return self._shown
        outside = allowed
        while outside and self._holds[outside - 1] is not None:
            outside -= 1
        at = ends[(outside or allowed) - 1]
        if 0 < outside < allowed and limit.tokens is None:
            at = max(at, self._holds[outside] or 0)  # with what a stream has shown before the tag
        return max(self._shown, at)

    def _most_affordable(self, allowed: int) -> int:
        """How many of the first *allowed* words fit with what closes them."""
        low, high = 0, allowed
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self._holds_cut(middle - 1) else (low, middle - 1)
        return low

    def _holds_cut(self, number: int) -> bool:
        """Whether the text fits if it is cut behind a word."""
        closers = self._word_ends[number].closers(block=False)
        return self._room.holds(self._cuts[number], ELLIPSIS + closers)


class _TokenRoom:
    """Says whether the beginning of a text fits a limit of tokens, counting as little as it can.

    A text has at most four tokens for each character, so after a count there is no need for another
    one for a while, and then only what was added is counted. As tokens can reach over the seam, the
    whole is counted once more where the sum is close to the limit.

    Args:
        limit: Most tokens; ``None`` does not limit.
        count: Counts the tokens of a text.
        part: Returns the text between two offsets.
    """

    def __init__(
        self, limit: int | None, count: Callable[[str], int], part: Callable[[int, int], str]
    ) -> None:
        self._limit = limit
        self._count = count
        self._part = part
        self._at = 0
        self._tokens = 0
        """Tokens of the text before ``_at``, added up from parts."""
        self._seams = 0

    def holds(self, end: int, closers: str = "") -> bool:
        """Whether the text up to *end*, and *closers* behind it, fit."""
        if self._limit is None or self._is_safe(4 * (max(0, end - self._at) + len(closers))):
            return True
        if end > self._at:
            self._tokens += self._count(self._part(self._at, end))
            self._at = end
            self._seams += 1
            if self._is_safe(4 * len(closers)):
                return True
        counted = self._count(self._part(0, end) + closers)
        if not closers and end >= self._at:
            self._at, self._tokens, self._seams = end, counted, 0
        return counted <= self._limit

    def _is_safe(self, more: int) -> bool:
        assert self._limit is not None
        doubt = 8 + 2 * self._seams if self._seams else 0
        return self._tokens + more + doubt <= self._limit
