"""Processes that pay from a run inside a user's day inside an organization's month.

Each has runs of its own on one file, and a clock of its own that passes midnight on its way. What
the provider billed is written, with whose it was, before anybody else hears of it. Some processes
kill themselves.
"""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

from langchain_tokenopt.budget import (
    BudgetLimit,
    BudgetReport,
    Hold,
    Owners,
    TokenBudget,
    reports_in,
)
from langchain_tokenopt.budget.records import LEASE_SECONDS
from langchain_tokenopt.core.usage import Usage

__all__ = ["LevelsCourse", "fork_levels", "levelled"]

ZONE = "Europe/Berlin"
MIDNIGHT = datetime(2026, 10, 25, tzinfo=ZoneInfo(ZONE)).timestamp()
"""The beginning of a day of 25 hours."""
USERS = (Owners("ann", "acme"), Owners("bob", "acme"), Owners("carl", "umbrella"))


class Place(NamedTuple):
    """An account, as those who call see it."""

    per: str
    owner: str
    day: str
    """For those of a day."""


class Time:
    """A clock that is told what it shows."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def levelled(
    path: Path | str | None,
    run: str,
    totals: tuple[int, int, int],
    clock: Callable[[], float],
    scope: str = "",
) -> TokenBudget:
    """Return the budget of a run with three levels: run, user's day, organization's month."""
    run_tokens, day, month = totals
    return TokenBudget(
        run_tokens,
        path=path,
        run=run,
        within=[
            BudgetLimit(total_tokens=day, per="user", window="day", timezone=ZONE),
            BudgetLimit(total_tokens=month, per="organization", window="month", timezone=ZONE),
        ],
        scope=scope,
        clock=clock,
    )


@dataclass(frozen=True)
class LevelsCourse:
    """What came of one schedule."""

    totals: dict[Place, int]
    billed: Counter[Place]
    reports: dict[Place, BudgetReport]
    findings: list[str]
    calls: int
    denied: list[tuple[int, list[Place]]]
    """What each refused call needed at least, and where."""

    def overshot(self) -> dict[Place, int]:
        """Tokens that were billed beyond a total."""
        return {
            place: self.billed[place] - total
            for place, total in self.totals.items()
            if self.billed[place] > total
        }

    def below_the_bill(self) -> dict[Place, int]:
        """Tokens that were billed and that an account does not know of."""
        return {
            place: self.billed[place] - report.spent_tokens
            for place, report in self.reports.items()
            if self.billed[place] > report.spent_tokens
        }

    def refused_in_vain(self) -> int:
        """Count calls that were refused though, when all had ended, every level had room for them.

        Who had reserved it has not used it.
        """
        return sum(
            all(self.reports[place].left_tokens >= least for place in places)
            for least, places in self.denied
        )

    def used(self) -> list[float]:
        """Return how much was used of each total for which there was more demand than that."""
        wanted = self.billed.copy()
        for least, places in self.denied:
            wanted.update(dict.fromkeys(places, least))
        return [
            report.spent_tokens / report.total_tokens
            for place, report in self.reports.items()
            if wanted[place] > report.total_tokens
        ]


@dataclass(frozen=True)
class _Call:
    owners: Owners
    at: float
    sent: int
    most: int
    share: float
    dies: bool


def _calls(seed: int, process: int, unit: int) -> Iterator[_Call]:
    """Yield what a process wants; the first half before midnight, with clocks that differ."""
    chance = random.Random(f"{seed}-{process}")
    skew = chance.uniform(-3, 3)
    for number in range(24):
        yield _Call(
            owners=chance.choice(USERS),
            at=MIDNIGHT + (number - 12) * 0.7 + skew,
            sent=chance.randrange(1, unit),
            most=chance.randrange(1, unit),
            share=chance.choice((1.0, chance.random())),
            dies=chance.random() < 0.01,
        )


def _places(run: str, owners: Owners, at: float) -> tuple[Place, Place, Place]:
    day = datetime.fromtimestamp(at, ZoneInfo(ZONE)).strftime("%Y-%m-%d")
    return (
        Place("run", run, ""),
        Place("user", owners.user or "", day),
        Place("organization", owners.organization or "", ""),
    )


def _place(report: BudgetReport) -> Place:
    day = "" if report.window != "day" else f"{report.starts_at:%Y-%m-%d}"
    return Place(report.per, report.owner, day)


def fork_levels(
    seed: int, folder: Path, store: str | None = None, *, processes: int = 8
) -> LevelsCourse:
    """Let processes call at the same time, some of which kill themselves; return what came of it.

    Args:
        seed: Decides how much each level may spend, and who calls when.
        folder: Where the accounts and the bills are kept.
        store: An empty database, for the accounts.
        processes: How many.
    """
    chance, unit = random.Random(seed), 400
    whole = processes * 24 * unit
    totals = (
        int(whole / processes * chance.uniform(0.2, 1.5)),
        int(whole / 6 * chance.uniform(0.1, 1.2)),
        int(whole / 2 * chance.uniform(0.1, 1.2)),
    )
    path = store or folder / f"levels-{seed}.db"
    levelled(path, "0", totals, Time(MIDNIGHT)).close()
    children = []
    for process in range(processes):
        bill = folder / f"levels-{seed}-{process}"
        child = os.fork()
        if child == 0:
            try:
                _work(seed, process, path, totals, unit, bill)
            finally:
                os._exit(1)
        children.append(child)
    ends = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    bills = [folder / f"levels-{seed}-{process}" for process in range(processes)]
    course = _outcome(path, totals, bills)
    strange = [f"a process ended with {end}" for end in ends if end not in (0, -signal.SIGKILL)]
    course.findings.extend(strange)
    return course


def _work(
    seed: int, process: int, path: Path | str, totals: tuple[int, int, int], unit: int, bill: Path
) -> None:
    clock, run = Time(MIDNIGHT), str(process)
    budget = levelled(path, run, totals, clock)
    file = os.open(bill, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for call in _calls(seed, process, unit):
        clock.now = call.at
        least = call.most // 8
        hold = budget.reserve(
            "writer", call.sent, call.most, min_output_tokens=least, owners=call.owners
        )
        places = " ".join("/".join(place) for place in _places(run, call.owners, call.at))
        if not isinstance(hold, Hold):
            os.write(file, f"denied {call.sent + least} {places}\n".encode())
            continue
        used = call.sent + min(int(call.most * call.share), hold.max_output_tokens)
        os.write(file, f"billed {used} {places}\n".encode())
        if call.dies:
            os.kill(os.getpid(), signal.SIGKILL)
        budget.settle(hold, Usage(used, 0))
    os._exit(0)


def _outcome(path: Path | str, totals: tuple[int, int, int], bills: list[Path]) -> LevelsCourse:
    billed: Counter[Place] = Counter()
    denied: list[tuple[int, list[Place]]] = []
    lines = [line.split() for bill in bills for line in bill.read_text().splitlines()]
    for what, tokens, *names in lines:
        places = [Place(*name.split("/")) for name in names]
        if what == "denied":
            denied.append((int(tokens), places))
        else:
            billed.update(dict.fromkeys(places, int(tokens)))
    findings = []
    for process in range(len(bills)):
        clock = Time(MIDNIGHT + 60)
        budget = levelled(path, str(process), totals, clock)
        for owners in USERS:
            clock.now = MIDNIGHT + 60
            budget.reports(owners)
            clock.now += LEASE_SECONDS  # whoever is dead by now is dead
            findings += budget.check(owners)
        budget.close()
    each = dict(zip(("run", "user", "organization"), totals, strict=True))
    return LevelsCourse(
        totals={place: each[place.per] for place in billed},
        billed=billed,
        reports={_place(report): report for report in reports_in(path)},
        findings=findings,
        calls=len(lines),
        denied=denied,
    )
