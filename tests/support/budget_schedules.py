"""Random courses of parallel calls, and a provider that remembers what it billed.

A schedule is what callers want and what the provider will do; it knows nothing of budgets, so that
any guard can be driven through it. The bill is kept on the provider's side: whether a guard has
overshot is read there, never from the guard.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

__all__ = ["Call", "Provider", "Schedule", "draw_schedule"]


@dataclass(frozen=True)
class Call:
    """One call: what is asked, and what will come of it."""

    agent: str
    input_tokens: int
    max_output_tokens: int
    output_share: float
    """Of the output that is allowed, how much is used."""
    end: str
    """``answered``; ``unreported``: billed, but nobody says what; ``refused``: never billed;
    ``cancelled``: half is read, all is billed; ``cached``: not sent; ``retried``: billed twice
    under one name; ``lost``: billed, and the caller dies."""
    overcount: float = 0.0
    """How much more than we the provider counts."""

    @property
    def demand(self) -> int:
        """Tokens it would use if nobody stopped it."""
        if self.end in ("refused", "cached"):
            return 0
        used = self.input_tokens + int(self.max_output_tokens * self.output_share)
        return used * (2 if self.end == "retried" else 1)


@dataclass(frozen=True)
class Schedule:
    """What several callers do at the same time."""

    seed: int
    total_tokens: int
    callers: tuple[tuple[Call, ...], ...]

    @property
    def demand(self) -> int:
        """Tokens that all would use if nobody stopped them; the dead ask for nothing more."""
        return sum(call.demand for caller in self.callers for call in _while_alive(caller))


def _while_alive(calls: tuple[Call, ...]) -> Iterator[Call]:
    for call in calls:
        yield call
        if call.end == "lost":
            return


_ENDS = ("answered", "unreported", "refused", "cancelled", "cached", "retried", "lost")
_LIKELY = (70, 6, 6, 6, 5, 5, 2)


def draw_schedule(seed: int, *, callers: int, overcounts: bool = False) -> Schedule:
    """Draw a schedule; the same seed is the same schedule.

    Args:
        seed: Decides everything.
        callers: How many call at the same time.
        overcounts: Whether some providers count up to 8 % more than we do.
    """
    chance = random.Random(seed)
    total = chance.randrange(5_000, 200_000)
    wanted = total * chance.uniform(0.4, 4.0)
    lists: list[list[Call]] = [[] for _ in range(callers)]
    asked = 0.0
    factor = chance.uniform(0, 0.08) if overcounts and chance.random() < 0.5 else 0.0
    while asked < wanted:
        call = Call(
            agent=f"agent-{chance.randrange(6)}",
            input_tokens=int(total * chance.uniform(0.001, 0.012)),
            max_output_tokens=int(total * chance.uniform(0.002, 0.03)),
            output_share=chance.choice((chance.random(), chance.random(), 1.0)),
            end=chance.choices(_ENDS, _LIKELY)[0],
            overcount=factor,
        )
        asked += call.demand
        lists[chance.randrange(callers)].append(call)
    return Schedule(seed, total, tuple(tuple(calls) for calls in lists))


@dataclass
class Provider:
    """Answers calls and sends the bill."""

    billed: int = 0
    surplus: int = 0
    """Part of the bill that exists only because it counts otherwise than we do."""
    calls: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, call: Call, max_output_tokens: int) -> tuple[int, int]:
        """Bill a call with this output limit; return input and output as the provider counts."""
        written = min(int(call.max_output_tokens * call.output_share), max_output_tokens)
        read = call.input_tokens + int(call.input_tokens * call.overcount)
        with self.lock:
            self.billed += read + written
            self.surplus += read - call.input_tokens
            self.calls += 1
        return read, written
