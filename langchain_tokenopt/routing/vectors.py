"""A request as numbers that can be learned from: never as text.

The first part are features: those that are shown, and counts of what makes a text relate things to
each other. The second part are its words, each hashed to one of 256 signed places.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from langchain_tokenopt.routing.complexity import Features, numbers_in
from langchain_tokenopt.text.scripts import CJK

__all__ = ["PLACES", "Vector", "vector_of", "word_rows"]

PLACES: Final = 256
MOST_WORDS: Final = 200
"""Different words of a request that count."""

_WORD: Final = re.compile(rf"[{CJK}]|[^\W\d_]+")
_COUNTED: Final = tuple(
    re.compile(pattern)
    for pattern in (
        r"\b(?:one|two|three|four|five|six|seven|eight|nine|ten|twice|thrice|half|third|quarter|"
        r"double|triple|dozen|zwei|drei|vier|fünf|halb|deux|trois|quatre|demi|dos|tres|cuatro)\b",
        r"%|\bper ?cent\b|\bprozent\b",
        r"\d/\d",
        r"[$€£¥]",
        r"\b(?:each|every|per|je|jede[rs]?|pro|chaque|par|cada|por|ogni)\b",
        r"\b(?:more|less|fewer|than|as many|as much|times|mehr|weniger|als|mal|plus|moins|que|"
        r"más|menos)\b",
        r"\b(?:if|when|then|after|before|until|while|wenn|falls|dann|nachdem|bevor|bis|si|quand|"
        r"après|avant|cuando|después|antes)\b",
        r"\bhow many\b|\bwie viele\b|\bcombien\b|\bcuántos\b",
        r"\bhow much\b|\bwie viel\b|\bcuánto\b",
        r"\b(?:remaining|left|rest|total|average|altogether|gesamt|übrig|reste|promedio)\b",
        r"\d+\.\d",
        r"\b(?:hour|minute|day|week|month|year|second)s?\b|\b(?:stunden?|tage?|wochen?|jahre?)\b",
    )
)
"""In lower case: words of numbers, shares, rates, comparisons, conditions, units of time."""
_LENGTHS: Final = frozenset({"words", "sentences", "clauses", "longest_word", "distinct_words"})
"""Features that say what the length of the text says."""
_NAME: Final = re.compile(r"\b[A-ZÄÖÜÉÈ][a-zäöüéè]+\b")


class Vector(NamedTuple):
    """One request as numbers."""

    features: NDArray[np.float32]
    words: NDArray[np.int16]
    """Places from 1 to 256, negative where the sign is."""
    meaning: NDArray[np.float16] | None = None
    """An embedding, where the router has embeddings."""


def vector_of(text: str, features: Features, meaning: Sequence[float] | None = None) -> Vector:
    """Return the vector of what is asked.

    Args:
        text: What is asked.
        features: Of the whole request.
        meaning: The text's embedding, if there is one.

    Example:
        >>> from langchain_core.messages import HumanMessage
        >>> from langchain_tokenopt.routing.complexity import features_of
        >>> asked = "Is 12 larger than 9?"
        >>> vector = vector_of(asked, features_of([HumanMessage(asked)]))
        >>> len(vector.words), bool(abs(vector.words).max() <= PLACES)
        (3, True)
    """
    lowered = text.lower()
    words = _WORD.findall(lowered)
    numbers = numbers_in(text)
    counts = [len(pattern.findall(lowered)) for pattern in _COUNTED]
    more = (
        len(text),
        *counts,
        max(numbers, default=0.0),
        len(numbers) - len(set(numbers)),
        len(_NAME.findall(text)),
        len(words) / max(1, features.sentences),
        sum(map(len, words)) / max(1, len(words)),
    )
    shown = (value for name, value in features.as_dict().items() if name not in _LENGTHS)
    logs = [math.log1p(min(float(value), 1e12)) for value in (*shown, *more)]
    places = dict.fromkeys(_place(word) for word in words)
    means = None if meaning is None else np.array(meaning, np.float16)
    return Vector(np.array(logs, np.float32), np.array([*places][:MOST_WORDS], np.int16), means)


@lru_cache(maxsize=16_384)
def _place(word: str) -> int:
    digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=4).digest()
    number = int.from_bytes(digest, "big")
    return (number % PLACES + 1) * (1 if number >> 31 else -1)


def word_rows(vectors: Sequence[Vector]) -> NDArray[np.float32]:
    """Return the words of vectors as rows of length 1, one column a place."""
    rows = np.zeros((len(vectors), PLACES), np.float32)
    for row, vector in zip(rows, vectors, strict=True):
        np.add.at(row, np.abs(vector.words) - 1, np.sign(vector.words).astype(np.float32))
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    return rows
