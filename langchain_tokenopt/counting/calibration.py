"""How estimates for tokenizers that are not public learn from the usage that providers report."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from langchain_tokenopt.counting.model_names import ModelLike

from langchain_tokenopt.counting.model_names import model_name_of, tokenizer_of

__all__ = ["Calibration", "calibrate", "calibration_of", "new_calibration", "reset_calibration"]


_FAMILY_FACTORS: Final[Mapping[str, float]] = {
    "claude": 1.1,
    "claude-4.7": 1.3,
    "gemini": 1.05,
    "llama": 1.05,
    "qwen": 1.05,
    "deepseek": 1.05,
}
"""Tokens per o200k_base token before anything is known better. The last Claude tokenizer that was
public (anthropic 0.38.0) counts 0.97 to 1.09 on eight corpora (4,572 texts in English, code and
JSON), later ones more; Anthropic announced 1.0 to 1.35 times as much again for Opus 4.7. The others
are vocabularies of 128,000 to 262,000 tokens, rated with a margin. All are starting points."""


_DEFAULT_FACTOR: Final = 1.1


_PRIOR_TOKENS: Final = 2_000


_LARGEST_OBSERVATION: Final = 10_000


_MEMORY_TOKENS: Final = 500_000


_FACTOR_BOUNDS: Final = (0.4, 2.5)


class Calibration:
    """What a family's real counts are, over those of the nearest vocabulary: a running ratio.

    Reported over counted tokens, summed, beside a prior of 2,000 tokens at the starting factor.
    One observation weighs at most 10,000 tokens, its ratio is held between 0.4 and 2.5, and old
    observations fade once 500,000 tokens are in, so no single report can spoil it and a changed
    tokenizer is followed. Deterministic; safe for several threads.

    Args:
        factor: Where to start.

    Example:
        >>> calibration = Calibration(1.0)
        >>> calibration.observe(counted=8_000, reported=12_000)
        >>> calibration.factor
        1.4
    """

    __slots__ = ("_counted", "_lock", "_reported", "_start", "factor")

    def __init__(self, factor: float) -> None:
        self.factor = factor
        """What a count of the nearest vocabulary is multiplied with."""
        self._start = factor
        self._counted = float(_PRIOR_TOKENS)
        self._reported = _PRIOR_TOKENS * factor
        self._lock = threading.RLock()

    def reset(self) -> None:
        """Forget every observation."""
        with self._lock:
            self.factor = self._start
            self._counted = float(_PRIOR_TOKENS)
            self._reported = _PRIOR_TOKENS * self._start

    def observe(self, *, counted: int, reported: int) -> None:
        """Take in one report of the provider.

        Args:
            counted: What our estimate was, with the factor as it is now.
            reported: What the provider counted for the same request.
        """
        if counted <= 0 or reported <= 0:
            return
        low, high = _FACTOR_BOUNDS
        with self._lock:
            ratio = min(max(self.factor * reported / counted, low), high)
            weight = min(counted / self.factor, _LARGEST_OBSERVATION)
            self._counted += weight
            self._reported += weight * ratio
            if self._counted > _MEMORY_TOKENS:
                self._counted /= 2
                self._reported /= 2
            self.factor = self._reported / self._counted


_calibrations: dict[str, Calibration] = {}


_calibrations_lock = threading.RLock()


def calibration_of(family: str) -> Calibration:
    """Return what is known of *family*'s tokenizer in this process."""
    with _calibrations_lock:
        if family not in _calibrations:
            _calibrations[family] = new_calibration(family)
        return _calibrations[family]


def new_calibration(family: str) -> Calibration:
    """Return what is assumed of *family*'s tokenizer before any report."""
    return Calibration(_FAMILY_FACTORS.get(family, _DEFAULT_FACTOR))


def calibrate(model: ModelLike, counted: int, reported: int) -> None:
    """Let later estimates for *model*'s family learn from what a provider reported.

    Does nothing for models whose tokenizer is known.

    Args:
        model: The model that was called.
        counted: What :func:`count_messages` estimated for the request, just now.
        reported: The ``input_tokens`` that the provider reported for it.

    Example:
        >>> from langchain_tokenopt.counting.tokens import counter_for
        >>> before = counter_for("in-house-7b").count("word " * 500).tokens
        >>> calibrate("in-house-7b", counted=10_000, reported=15_000)
        >>> counter_for("in-house-7b").count("word " * 500).tokens > before
        True
        >>> reset_calibration()
    """
    tokenizer = tokenizer_of(model_name_of(model))
    if not tokenizer.exact:
        calibration_of(tokenizer.family).observe(counted=counted, reported=reported)


def reset_calibration() -> None:
    """Forget everything that was learned; for tests."""
    with _calibrations_lock:
        for calibration in _calibrations.values():
            calibration.reset()
