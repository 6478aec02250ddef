"""What a compressor remembers: the tokens and units of texts, and which of a content were kept."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from langchain_tokenopt.compress.passage_units import PromptParts
from langchain_tokenopt.compress.text_tokens import Tokenized
from langchain_tokenopt.counting.tokens import TokenCounter

__all__ = ["KeptUnits", "PlanCache"]

Value = TypeVar("Value")

MOST_CHARACTERS = 16_000_000
"""Characters of text whose tokens may be remembered, and whose units."""


@dataclass(frozen=True, slots=True)
class KeptUnits:
    """Which units of a content were kept, how many tokens that made, and why so few."""

    kept: list[bool]
    tokens: int
    note: str | None = None


class PlanCache:
    """Bounded; what was used least recently leaves first. Safe to use from several threads.

    Args:
        most: Contents to remember; 0 for none.
    """

    def __init__(self, most: int) -> None:
        self._plans: _Recent[KeptUnits] = _Recent(most, MOST_CHARACTERS)
        self._tokenized: _Recent[Tokenized] = _Recent(most, MOST_CHARACTERS)
        self._readings: _Recent[PromptParts] = _Recent(most, MOST_CHARACTERS)
        self.remembers = most > 0

    def plan(self, key: str) -> KeptUnits | None:
        """Return what was kept of a content."""
        return self._plans.get(key)

    def keep(self, key: str, plan: KeptUnits) -> None:
        """Remember what was kept of a content."""
        self._plans.put(key, plan, len(plan.kept))

    def tokenize(self, text: str, counter: TokenCounter) -> Tokenized:
        """Tokenize *text*, or return the earlier pass."""
        key = (counter, text)
        found = self._tokenized.get(key)
        if found is None:
            found = Tokenized(text, counter)
            self._tokenized.put(key, found, len(text))
        return found

    def read(self, how: Callable[..., PromptParts], text: str, **options: Hashable) -> PromptParts:
        """Read *text*, or return a copy of the earlier reading: the turns of a chat come back."""
        if not self.remembers:
            return how(text, **options)
        key = (how, text, *options.items())
        found = self._readings.get(key)
        if found is None:
            found = how(text, **options)
            self._readings.put(key, found, len(text))
        return found.copy()


class _Recent(Generic[Value]):
    """The values used last, bounded in number and in weight."""

    def __init__(self, most: int, most_weight: int) -> None:
        self._most = most
        self._most_weight = most_weight
        self._weight = 0
        self._values: OrderedDict[Hashable, tuple[Value, int]] = OrderedDict()
        self._lock = threading.RLock()  # a finalizer may call the model, and so come back here

    def get(self, key: Hashable) -> Value | None:
        with self._lock:
            found = self._values.get(key)
            if found is None:
                return None
            self._values.move_to_end(key)
            return found[0]

    def put(self, key: Hashable, value: Value, weight: int) -> None:
        if weight > self._most_weight or self._most == 0:
            return
        with self._lock:
            replaced = self._values.pop(key, None)
            self._weight += weight - (replaced[1] if replaced else 0)
            self._values[key] = value, weight
            while len(self._values) > self._most or self._weight > self._most_weight:
                self._weight -= self._values.popitem(last=False)[1][1]
