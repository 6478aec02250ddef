"""Whether two answers say the same.

A guard of the question guards decides where it finds a difference that matters. Where it finds
none, two texts count as wordings of one answer if both their embeddings and their rare words are
alike, or as the caller's own comparison says.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from langchain_core.outputs import Generation

from langchain_tokenopt.cache.embedder import EmbeddingFailedError, GuardedEmbedder
from langchain_tokenopt.cache.guards import doubts_between, profile_of, vetoes_between

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SameAnswer", "WordRarity", "differ_in_words", "spoken_form", "text_of_answers"]

SAME = 0.65
"""Two answers without a difference that matters are wordings of one from this mean on, of the
cosine of their embeddings and the cosine of their weighted words."""
SAME_WITH_NUMBERS = 0.6
"""The same where both state the same numbers. Both were chosen on made-up answers to bank
customers' questions, in ten wordings that no benchmark uses."""
TOPICAL_SHARE = 0.15
"""A word that a smaller share of the answers has shows what an answer is about."""
_SHORT = 30
"""Words of matter up to which each topical one counts; longer answers have many of their own."""
_KNOWN_WORDS = 50_000
_PIECE = 900
"""Characters that surely fit into the embedder's window."""
_PIECES = 6
_REMEMBERED_VECTORS = 8_192

_VETOES = ("numbers", "dates", "ids", "opposite", "negation_scope", "entities", "language")
_DOUBTS = ("exchanged_word", "added_word")


class SameAnswer:
    """Compares answers; learns from those it is shown which words are rare.

    Args:
        embedder: Embeds answers where words do not decide.
        judge: The caller's own comparison of two texts, which then decides alone.
    """

    def __init__(
        self, embedder: GuardedEmbedder, judge: Callable[[str, str], bool] | None = None
    ) -> None:
        self._embedder = embedder
        self._judge = judge
        self._rarity = WordRarity()
        self._vectors: OrderedDict[bytes, NDArray[np.float32]] = OrderedDict()

    def count(self, text: str) -> None:
        """Take note of one more answer."""
        self._rarity.count(text)

    def says(self, stored: str, text: str) -> bool:
        """Say whether a stored answer says what *text* says; not where that cannot be found out."""
        if self._judge is not None:
            return bool(self._judge(stored, text))
        differ = differ_in_words(stored, text)
        if differ is not None:
            return not differ
        try:
            if self._embedder.is_off:
                cosine = self._rarity.likeness(stored, text)
            else:
                cosine = float(self._vector(stored) @ self._vector(text))
        except (EmbeddingFailedError, ValueError):  # also vectors of two lengths
            return False
        return self._rarity.are_wordings_of_one(stored, text, cosine)

    def _vector(self, text: str) -> NDArray[np.float32]:
        digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        found = self._vectors.get(digest)
        if found is None:
            pieces = [text[i : i + _PIECE] for i in range(0, len(text), _PIECE)][:_PIECES]
            mean = np.mean([self._embedder.vector(piece) for piece in pieces], axis=0)
            found = self._vectors[digest] = mean / np.linalg.norm(mean)
            if len(self._vectors) > _REMEMBERED_VECTORS:
                self._vectors.popitem(last=False)
        return found


class WordRarity:
    """Which words are rare among the answers of a cache, and so say which answer it is.

    Answers of one assistant sound alike: an embedding puts "read section 3 on card limits" beside
    "read section 3 on card fees". Weighted by rarity (log of answers per answers with the word),
    "limits" and "fees" count and "read" does not.
    """

    def __init__(self) -> None:
        self._answers = 0
        self._with: Counter[str] = Counter()

    def count(self, text: str) -> None:
        """Take note of one more answer."""
        self._answers += 1
        self._with.update(profile_of(text).stems)
        if len(self._with) > _KNOWN_WORDS:
            self._with = Counter({word: n for word, n in self._with.items() if n > 1})

    def likeness(self, one: str, other: str) -> float:
        """Return the cosine of both texts as bags of words weighted by rarity, from 0 to 1."""
        a, b = profile_of(one).stems, profile_of(other).stems
        lengths = self._weight(a) * self._weight(b)
        return self._weight(a & b) / math.sqrt(lengths) if lengths else 0.0

    def are_wordings_of_one(self, one: str, other: str, cosine: float) -> bool:
        """Decide about two answers in which no guard has found a difference."""
        a, b = profile_of(one), profile_of(other)
        needed = SAME_WITH_NUMBERS if a.numbers and a.numbers == b.numbers else SAME
        if (cosine + self.likeness(one, other)) / 2 < needed:
            return False
        if max(len(a.stems), len(b.stems)) > _SHORT:
            return True
        return not (self._adds_a_topic(a.stems - b.stems) and self._adds_a_topic(b.stems - a.stems))

    def _adds_a_topic(self, words: Iterable[str]) -> bool:
        """Say whether one of *words* shows what an answer is about."""
        return any(self._with[word] < TOPICAL_SHARE * self._answers for word in words)

    def _weight(self, words: Iterable[str]) -> float:
        return sum(self._rarity(word) ** 2 for word in words)

    def _rarity(self, word: str) -> float:
        return math.log((self._answers + 1) / (self._with[word] + 1))


def text_of_answers(answers: Sequence[Generation]) -> str:
    """Return what the first answer says; calls of tools as JSON behind its text."""
    first = answers[0]
    message = getattr(first, "message", None)
    text = first.text if message is None else message.text
    calls = getattr(message, "tool_calls", None)
    if calls:
        text += json.dumps([[c["name"], c["args"]] for c in calls], sort_keys=True, default=str)
    return str(text)


def differ_in_words(one: str, other: str) -> bool | None:
    """Compare two answers by their words.

    Returns:
        False when they are equal but for spelling marks, True when a guard finds a difference that
        matters, ``None`` when their embeddings must decide.

    Example:
        >>> differ_in_words("It takes 5 days.", "It takes 7 days."), differ_in_words("Yes.", "yes")
        (True, False)
    """
    if spoken_form(one) == spoken_form(other):
        return False
    a, b = profile_of(one), profile_of(other)
    if vetoes_between(a, b, _VETOES) or doubts_between(a, b, _DOUBTS):
        return True
    return None


def spoken_form(text: str) -> str:
    """Return what an answer says, without case, spacing and the signs around words.

    Signs that carry meaning (``C++``, ``-5``, ``50%``, ``v1.2``) stay.

    Example:
        >>> spoken_form("  It's  C++. ") == spoken_form("it is C++")
        True
        >>> spoken_form("It is 5.") == spoken_form("It is -5.")
        False
    """
    folded = text.casefold().replace("\u2019", "'")
    if "'" in folded:
        folded = _IS.sub(r"\1 is", _NOT.sub(" not", folded.replace("can't", "can not")))
    return " ".join([word.strip(".,;:!?\"'()") or word for word in folded.split()])


_IS = re.compile(r"\b(what|who|where|how|why|when|that|there|it|he|she)'s\b")
_NOT = re.compile(r"(?<=\w)n't\b")
