"""How well agents keep to their limits: what is counted per answer, and read back from a ledger."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Final

from langchain_tokenopt.core.records import CallRecord

__all__ = ["STAGE", "STOPPED", "TRIMMED", "Compliance", "ComplianceLog", "compliance_of"]

STAGE: Final = "WordLimit"
"""The name under which savings are recorded."""
STOPPED: Final = f"{STAGE}:stopped"
"""Also among a call's stages when the model was stopped."""
TRIMMED: Final = f"{STAGE}:trimmed"
"""Also among a call's stages when a whole answer was trimmed."""


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

    @classmethod
    def of_answer(
        cls,
        *,
        asked: bool = False,
        trimmed: bool = False,
        stopped: bool = False,
        saved_tokens: int = 0,
        estimated: bool = False,
    ) -> Compliance:
        """Return what one answer adds."""
        obeyed = not (trimmed or stopped)
        return cls(
            answers=1,
            asked=int(asked),
            obeyed=int(obeyed and asked),
            obeyed_unasked=int(obeyed and not asked),
            trimmed=int(trimmed),
            stopped=int(stopped),
            saved_tokens=saved_tokens,
            estimated=estimated,
        )

    @property
    def obeyed_ratio(self) -> float | None:
        """Fraction of answers within the limit by themselves; ``None`` without answers."""
        if not self.answers:
            return None
        return (self.obeyed + self.obeyed_unasked) / self.answers

    def __add__(self, other: Compliance) -> Compliance:
        """Sum the counts; a sum that holds an estimate is one."""
        sums = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)}
        return Compliance(**{**sums, "estimated": self.estimated or other.estimated})


class ComplianceLog:
    """The compliance of each agent under one limit; shared by threads."""

    def __init__(self) -> None:
        self._by_agent: dict[str, Compliance] = {}
        self._lock = threading.RLock()

    def add(self, agent: str, answer: Compliance) -> None:
        """Add *answer* to what is known of *agent*."""
        with self._lock:
            self._by_agent[agent] = self._by_agent.get(agent, Compliance()) + answer

    def by_agent(self) -> dict[str, Compliance]:
        """Return a copy."""
        with self._lock:
            return dict(self._by_agent)


def compliance_of(records: Iterable[CallRecord]) -> dict[str, Compliance]:
    """Read from calls, for instance those of a ledger, how well agents kept to their limits.

    Calls without a word limit are left out, and those where it only observed.

    Example:
        >>> compliance_of([])
        {}
    """
    log = ComplianceLog()
    for record in records:
        if STAGE not in record.stages or record.cached or record.status != "ok":
            continue
        savings = [s for s in record.savings if s.stage == STAGE and not s.observed]
        answer = Compliance.of_answer(
            asked=any(saving.spent_tokens > 0 for saving in savings),
            trimmed=TRIMMED in record.stages,
            stopped=STOPPED in record.stages,
            saved_tokens=sum(saving.saved_tokens for saving in savings),
            estimated=any(not saving.exact for saving in savings),
        )
        log.add(record.agent, answer)
    return log.by_agent()
