"""What became of an answer under a limit, and how that is told."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from langchain_tokenopt.core.errors import TokenOptError
from langchain_tokenopt.core.records import CallRecord
from langchain_tokenopt.limits.excerpt import Limit

__all__ = [
    "STAGE",
    "STOPPED",
    "TRIMMED",
    "Compliance",
    "OnExceed",
    "WordLimitExceededError",
    "compliance_of",
    "described",
]

OnExceed = Literal["trim", "raise", "warn"]

STAGE: Final = "WordLimit"
"""The name under which savings are recorded."""
STOPPED: Final = f"{STAGE}:stopped"
"""Also among a call's stages when the model was stopped."""
TRIMMED: Final = f"{STAGE}:trimmed"
"""Also among a call's stages when a whole answer was trimmed."""


class WordLimitExceededError(TokenOptError, ValueError):
    """An answer is longer than allowed, and the limit was told to raise.

    Args:
        limit: What was allowed.
        agent: Whose answer it was.
    """

    def __init__(self, limit: Limit, agent: str) -> None:
        self.max_words = limit.words
        self.max_tokens = limit.tokens
        self.max_sentences = limit.sentences
        self.agent = agent
        super().__init__(
            f"The answer of {agent!r} is longer than the {described(limit)} allowed, and was "
            f"stopped there. Raise the limit, or use on_exceed='trim' to get the part that fits."
        )


@dataclass(frozen=True, slots=True)
class Compliance:
    """How well an agent kept to its limit."""

    answers: int = 0
    asked: int = 0
    """Answers for which the prompt asked for the length."""
    obeyed: int = 0
    """Of those asked for, how many came within the limit by themselves."""
    obeyed_unasked: int = 0
    """Came within the limit although nobody had asked."""
    trimmed: int = 0
    """Written to the end, billed, and shown in part."""
    stopped: int = 0
    """Ended by cancelling the model's stream."""
    saved_tokens: int = 0
    """Output not written because the model was stopped, less the tokens spent on asking."""
    estimated: bool = False
    """True when ``saved_tokens`` holds an estimate: nobody knows how a stopped answer ends."""

    @property
    def obeyed_ratio(self) -> float | None:
        """Fraction of answers within the limit by themselves; ``None`` without answers."""
        if not self.answers:
            return None
        return (self.obeyed + self.obeyed_unasked) / self.answers

    def __add__(self, other: Compliance) -> Compliance:
        """Sum the counts."""
        return Compliance(
            answers=self.answers + other.answers,
            asked=self.asked + other.asked,
            obeyed=self.obeyed + other.obeyed,
            obeyed_unasked=self.obeyed_unasked + other.obeyed_unasked,
            trimmed=self.trimmed + other.trimmed,
            stopped=self.stopped + other.stopped,
            saved_tokens=self.saved_tokens + other.saved_tokens,
            estimated=self.estimated or other.estimated,
        )


def described(limit: Limit) -> str:
    """Return the limit in words."""
    parts = (("words", limit.words), ("tokens", limit.tokens), ("sentences", limit.sentences))
    return " and ".join(f"{number:,} {name}" for name, number in parts if number is not None)


def compliance_of(records: Iterable[CallRecord]) -> dict[str, Compliance]:
    """Read from calls, for instance those of a ledger, how well agents kept to their limits.

    Calls without a word limit are left out, and those where it only observed.

    Example:
        >>> compliance_of([])
        {}
    """
    kept: dict[str, Compliance] = {}
    for record in records:
        if STAGE not in record.stages or record.cached or record.status != "ok":
            continue
        savings = [s for s in record.savings if s.stage == STAGE and not s.observed]
        is_asked = any(saving.spent_tokens > 0 for saving in savings)
        is_stopped, is_trimmed = STOPPED in record.stages, TRIMMED in record.stages
        has_obeyed = not (is_stopped or is_trimmed)
        one = Compliance(
            answers=1,
            asked=int(is_asked),
            obeyed=int(has_obeyed and is_asked),
            obeyed_unasked=int(has_obeyed and not is_asked),
            trimmed=int(is_trimmed),
            stopped=int(is_stopped),
            saved_tokens=sum(saving.saved_tokens for saving in savings),
            estimated=any(not saving.exact for saving in savings),
        )
        kept[record.agent] = kept.get(record.agent, Compliance()) + one
    return kept
