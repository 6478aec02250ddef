"""What an account keeps about itself, the arithmetic on it, and the books in memory.

All arithmetic of a budget is in this module, and works on plain records. Where these are kept
(in memory here, in a file in ``store.py``) is the business of *books*: opening them gives a page
that nobody else can read or write until it is closed.

The rule that keeps a budget: every agent *claims* what it has used, or its share where that is
more. Claims never sum to more than the total, so whoever stays within its claim plus what nobody
claims (the pool) takes nothing from anybody.
"""

from __future__ import annotations

import itertools
import os
import secrets
import threading
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Protocol, Self

from langchain_tokenopt.budget.allocation import allocate
from langchain_tokenopt.core.errors import TokenOptError

__all__ = [
    "Books",
    "BudgetStoreError",
    "Crossing",
    "HoldRow",
    "Line",
    "MemoryBooks",
    "Page",
    "ReenteredError",
    "Totals",
]

_REMEMBERED_RUNS: Final = 100_000
"""Settled runs that books in memory remember, to know them when they are told again."""


class BudgetStoreError(TokenOptError):
    """The store of a budget cannot be read or written; the message says what to do."""


class ReenteredError(TokenOptError):
    """The books were opened by the thread that has them open.

    It happens when Python collects an abandoned stream, whose end settles a reservation, in the
    middle of a change. To wait would be to wait for oneself.
    """


@dataclass(slots=True)
class Totals:
    """The head of an account."""

    total_tokens: int
    total_nano_usd: int | None = None
    spent: int = 0
    held: int = 0
    claimed: int = 0
    """Sum of all claims."""
    surplus: int = 0
    """Part of ``spent`` that no reservation covered."""
    possible: int = 0
    """What calls that were cut off may have been billed beyond their charge."""
    saved: int = 0
    spent_nano: int = 0
    held_nano: int = 0
    unpriced: int = 0
    """Calls without a known price."""
    alerted: int = 0
    """Highest threshold, in percent, that was crossed."""
    untold: int = 0
    """Thresholds that were crossed and may not have been told of yet."""
    latched: int = 0
    """1 when every further reservation is refused."""
    ticks: float = 0.0
    """Seconds that have passed, as the account counts them."""
    clock_at: float | None = None
    """What the clock said when it was last asked."""
    earliest: float | None = None
    """When, in ticks, the first lease ends."""

    @property
    def left(self) -> int:
        """Tokens neither spent nor held."""
        return self.total_tokens - self.spent - self.held

    @property
    def left_nano(self) -> int | None:
        """Money neither spent nor held; ``None`` when the budget is not in money."""
        if self.total_nano_usd is None:
            return None
        return self.total_nano_usd - self.spent_nano - self.held_nano

    def tick(self, clock: float, longest: float) -> float:
        """Let time pass and return it, whatever the clock does.

        A clock that was set back counts as no time at all, one that was set forward as *longest* at
        most. So no lease is prolonged by a jump; it may only end early, which costs nothing: the
        call is charged at its reservation, and corrected when it is settled.
        """
        if self.clock_at is not None:
            self.ticks += min(max(clock - self.clock_at, 0.0), longest)
        self.clock_at = clock
        return self.ticks


@dataclass(slots=True)
class Line:
    """One agent's part of an account."""

    agent: str
    weight: float | None = None
    """What it weighs when shares are divided anew; ``None``: it is not in the plan."""
    floor: int = 0
    cap: int | None = None
    allocated: int = 0
    """Everything it was ever given as its share."""
    returned: int = 0
    """What it gave back when it had finished."""
    finished: int = 0
    spent: int = 0
    held: int = 0
    surplus: int = 0
    possible: int = 0
    saved: int = 0
    spent_nano: int = 0
    held_nano: int = 0
    calls: int = 0
    """Calls that were charged."""
    denied: int = 0
    """Reservations that were refused."""
    estimated: int = 0
    """Charged calls of which the provider did not say what they used."""

    @property
    def used(self) -> int:
        """Spent and held."""
        return self.spent + self.held

    @property
    def claim(self) -> int:
        """What nobody else may take."""
        return max(self.used, 0 if self.finished else self.allocated)


@dataclass(slots=True)
class HoldRow:
    """A reservation as the books keep it."""

    id: str
    agent: str
    tokens: int
    nano_usd: int
    expires: float
    """When its lease ends, in ticks."""
    owner: str
    """The process that made it."""
    run_id: str | None = None
    charged: int | None = None
    """``None`` while it is held. Afterwards what was charged without knowing what the call used:
    everything when its lease ended, nothing when it was released."""
    charged_nano: int = 0


@dataclass(slots=True)
class Crossing:
    """A threshold that was crossed, and who tells of it."""

    percent: int
    agent: str
    """Whose call it was."""
    owner: str
    """The process that tells."""
    expires: float
    """When, in ticks, it has surely been told, or nobody will."""
    told: int = 0


class Page(Protocol):
    """An account, opened by one who is alone with it."""

    @property
    def totals(self) -> Totals:
        """The head of the account; changes are kept."""
        ...

    def line(self, agent: str) -> Line:
        """Return the agent's line, a blank one where there is none; changes are kept."""
        ...

    def lines(self) -> list[Line]:
        """Return every line, by name; changes are kept."""
        ...

    def hold(self, hold_id: str) -> HoldRow | None:
        """Return a reservation that has not been settled."""
        ...

    def hold_of_run(self, run_id: str) -> HoldRow | None:
        """Return the reservation that is held for a run."""
        ...

    def holds(self) -> list[HoldRow]:
        """Return every reservation that has not been settled."""
        ...

    def keep(self, hold: HoldRow) -> None:
        """Write a new or a changed reservation."""
        ...

    def drop(self, hold: HoldRow) -> None:
        """Forget a reservation."""
        ...

    def charge_once(self, key: str) -> bool:
        """Note that this call has been charged; False when that was known."""
        ...

    def crossed(self) -> list[int]:
        """Return the thresholds, in percent, that were crossed."""
        ...

    def cross(self, crossing: Crossing) -> None:
        """Note that a threshold was crossed, or who tells of it now, or that it was told."""
        ...

    def untold(self) -> list[Crossing]:
        """Return the crossings that have not been told."""
        ...


class Books(Protocol):
    """Where an account is kept. ``with books as page:`` is one change, all of it or nothing."""

    @property
    def shared(self) -> bool:
        """True when other processes work on the same account."""
        ...

    @property
    def owner(self) -> str:
        """Name this process, so that others can tell whether it lives."""
        ...

    def next_id(self) -> str:
        """Return a name for a reservation that nobody else uses."""
        ...

    def dead(self, owners: Iterable[str]) -> set[str]:
        """Return those of *owners* that are surely gone."""
        ...

    def close(self) -> None:
        """Let go of files."""
        ...

    def __enter__(self) -> Page: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


# Arithmetic


def room_for(totals: Totals, line: Line) -> int:
    """Return how many tokens *line* may still reserve: its own share, and what nobody claims."""
    room = totals.total_tokens - totals.claimed + line.claim - line.used
    if line.cap is not None:
        room = min(room, line.cap - line.used)
    return max(room, 0)


def move(
    totals: Totals, line: Line, *, spent: int = 0, held: int = 0, nano: int = 0, held_nano: int = 0
) -> None:
    """Add to what *line* has spent and holds; everything that follows from it is kept right."""
    before = line.claim
    line.spent += spent
    line.held += held
    line.spent_nano += nano
    line.held_nano += held_nano
    totals.spent += spent
    totals.held += held
    totals.spent_nano += nano
    totals.held_nano += held_nano
    totals.claimed += line.claim - before
    if line.finished:
        line.returned = max(line.returned, line.allocated - line.used)


def grant(totals: Totals, line: Line, tokens: int) -> None:
    """Change the share of *line* by *tokens*."""
    before = line.claim
    line.allocated += tokens
    totals.claimed += line.claim - before


def finish(totals: Totals, lines: list[Line], agent: str) -> dict[str, int]:
    """End the line of *agent*; return who got how much of its rest.

    What it has not used goes to agents that have not finished, by weight, up to their caps. What
    they may not take is left in the pool.
    """
    done = next(line for line in lines if line.agent == agent)
    if done.finished:
        return {}
    before = done.claim
    done.finished = 1
    totals.claimed += done.claim - before
    rest = done.allocated - done.used
    if rest <= 0:
        return {}
    done.returned += rest
    rest = min(rest, max(totals.total_tokens - totals.claimed, 0))
    heirs = {line.agent: line for line in lines if line.weight is not None and not line.finished}
    weights = {name: line.weight for name, line in heirs.items() if line.weight is not None}
    caps = {
        name: None if line.cap is None else max(line.cap - line.allocated, 0)
        for name, line in heirs.items()
    }
    gifts = {name: gift for name, gift in allocate(rest, weights, caps=caps).items() if gift}
    for name, gift in gifts.items():
        # An agent that has borrowed more than its share is given what it has borrowed first.
        grant(totals, heirs[name], gift)
    return gifts


def reopen(totals: Totals, lines: list[Line], agent: str, shares: Mapping[str, int]) -> int:
    """Begin the line of *agent* again; return what it was given.

    Gifts that nobody has used go back to the pool, and from there what the agent is due to it.
    """
    back = next(line for line in lines if line.agent == agent)
    back.finished = 0
    back.returned = 0
    back.allocated = back.used  # its claim while it was finished
    for line in lines:
        if line.weight is not None and not line.finished and line is not back:
            unused_gifts = line.allocated - max(line.used, line.floor, shares.get(line.agent, 0))
            grant(totals, line, -max(unused_gifts, 0))
    due = max(shares.get(agent, 0), back.floor) - back.used
    given = max(min(due, totals.total_tokens - totals.claimed), 0)
    grant(totals, back, given)
    return given


def pay_debts(totals: Totals, lines: list[Line]) -> dict[str, int]:
    """Cut shares until claims fit into the total again; return who lost how much.

    A debt is what a provider charged beyond its reservation. The pool has paid what it could; the
    rest is taken from the lowest weight upwards, first what exceeds floors, then floors.
    """
    lost: dict[str, int] = {}
    debt = totals.claimed - totals.total_tokens
    open_lines = [line for line in lines if not line.finished]
    open_lines.sort(key=lambda line: (line.weight or 0.0, line.agent))
    for keep_floors in (True, False):
        for line in open_lines:
            kept = max(line.used, line.floor if keep_floors else 0)
            cut = min(debt, line.allocated - kept)
            if cut > 0:
                grant(totals, line, -cut)
                lost[line.agent] = lost.get(line.agent, 0) + cut
                debt -= cut
    return lost


def findings(page: Page) -> list[str]:
    """Return what does not add up; empty when all is well."""
    totals, lines, holds = page.totals, page.lines(), page.holds()
    held = [hold for hold in holds if hold.charged is None]
    checks = {
        "spent": (totals.spent, sum(line.spent for line in lines)),
        "held": (totals.held, sum(line.held for line in lines)),
        "held by reservations": (totals.held, sum(hold.tokens for hold in held)),
        "claimed": (totals.claimed, sum(line.claim for line in lines)),
        "surplus": (totals.surplus, sum(line.surplus for line in lines)),
        "possible surplus": (totals.possible, sum(line.possible for line in lines)),
        "saved": (totals.saved, sum(line.saved for line in lines)),
        "spent_nano": (totals.spent_nano, sum(line.spent_nano for line in lines)),
        "held_nano": (totals.held_nano, sum(line.held_nano for line in lines)),
        "held_nano by reservations": (totals.held_nano, sum(hold.nano_usd for hold in held)),
    }
    found = [
        f"{name}: the account says {whole:,}, its parts sum to {parts:,}"
        for name, (whole, parts) in checks.items()
        if whole != parts
    ]
    if totals.spent + totals.held > totals.total_tokens + totals.surplus:
        found.append(
            f"spent and held are {totals.spent + totals.held:,} tokens of "
            f"{totals.total_tokens:,}, and providers' surplus explains only {totals.surplus:,}"
        )
    return found


# Books in memory


class MemoryBooks:
    """An account in the memory of one process, under one lock that is held only for arithmetic.

    A forked child has a copy of it, not a part in it, and may not use it: two copies would spend
    the same tokens twice.
    """

    shared = False
    owner = "memory"

    def __init__(self, totals: Totals, label: str) -> None:
        self.totals = totals
        self._label = label
        self._lock = threading.Lock()
        self._thread = 0
        """The thread that has the books open."""
        self._made_by = os.getpid()
        self._copied = False
        self._lines: dict[str, Line] = {}
        self._holds: dict[str, HoldRow] = {}
        self._by_run: dict[str, str] = {}
        self._charged: dict[str, None] = {}
        self._crossed: dict[int, Crossing] = {}
        self._prefix = secrets.token_hex(6)
        self._numbers = itertools.count(1)
        _in_memory.add(self)

    def __enter__(self) -> Self:
        if self._copied:
            raise TokenOptError(
                f"{self._label} is kept in the memory of process {self._made_by}; process "
                f"{os.getpid()} has a copy that would spend the same tokens again. "
                f"Give TokenBudget(store=...) a file that both share."
            )
        thread = threading.get_ident()
        if self._thread == thread:
            raise ReenteredError(f"{self._label} is being changed by this very thread.")
        self._lock.acquire()
        self._thread = thread
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._thread = 0
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """Refuse to work: the account stays with the parent."""
        self._copied = True

    def next_id(self) -> str:
        """Return a name that nobody else uses."""
        return f"{self._prefix}-{next(self._numbers)}"

    def dead(self, owners: Iterable[str]) -> set[str]:
        """Return nobody: who shares this memory lives."""
        return set()

    def close(self) -> None:
        """Do nothing: there are no files."""

    # The page

    def line(self, agent: str) -> Line:
        """Return the agent's line."""
        line = self._lines.get(agent)
        if line is None:
            line = self._lines[agent] = Line(agent)
        return line

    def lines(self) -> list[Line]:
        """Return every line, by name."""
        return [self._lines[agent] for agent in sorted(self._lines)]

    def hold(self, hold_id: str) -> HoldRow | None:
        """Return a reservation that has not been settled."""
        return self._holds.get(hold_id)

    def hold_of_run(self, run_id: str) -> HoldRow | None:
        """Return the reservation that is held for a run."""
        hold = self._holds.get(self._by_run.get(run_id, ""))
        return hold if hold is not None and hold.charged is None else None

    def holds(self) -> list[HoldRow]:
        """Return every reservation that has not been settled."""
        return list(self._holds.values())

    def keep(self, hold: HoldRow) -> None:
        """Write a reservation."""
        self._holds[hold.id] = hold
        if hold.run_id is not None and hold.charged is None:
            self._by_run[hold.run_id] = hold.id

    def drop(self, hold: HoldRow) -> None:
        """Forget a reservation."""
        del self._holds[hold.id]
        if hold.run_id is not None and self._by_run.get(hold.run_id) == hold.id:
            del self._by_run[hold.run_id]

    def charge_once(self, key: str) -> bool:
        """Note that this call has been charged; False when that was known."""
        if key in self._charged:
            return False
        self._charged[key] = None
        if len(self._charged) > _REMEMBERED_RUNS:
            del self._charged[next(iter(self._charged))]
        return True

    def crossed(self) -> list[int]:
        """Return the thresholds that were crossed."""
        return sorted(self._crossed)

    def cross(self, crossing: Crossing) -> None:
        """Note that a threshold was crossed."""
        self._crossed[crossing.percent] = crossing

    def untold(self) -> list[Crossing]:
        """Return the crossings that have not been told."""
        return [crossing for crossing in self._crossed.values() if not crossing.told]


_in_memory: weakref.WeakSet[MemoryBooks] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for books in list(_in_memory):
        books.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
