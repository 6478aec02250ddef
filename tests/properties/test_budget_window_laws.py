"""What holds for every course of a run inside a user's day inside an organization's month.

An oracle keeps every bill and every hold of every account in a list, and names windows by what a
wall clock and a calendar show; it shares no code with the accounts.
"""

from __future__ import annotations

import itertools
import tempfile
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from langchain_tokenopt.budget import BudgetLimit, Owners, TokenBudget
from langchain_tokenopt.core.usage import Usage

pytestmark = pytest.mark.exhaustive

LEASE = 900.0
RUN, USER, ORGANIZATION = 2_000, 3_000, 4_500
RUNS = ("1", "2")
OWNERS = (Owners("ann", "acme"), Owners("bob", "acme"), Owners("ann", "umbrella"), Owners())
BEGINNINGS = (
    datetime(2026, 10, 24, 12, tzinfo=ZoneInfo("Europe/Berlin")),
    datetime(2026, 3, 28, 12, tzinfo=ZoneInfo("Europe/Berlin")),
    datetime(2026, 10, 31, 12, tzinfo=ZoneInfo("America/New_York")),
    datetime(2027, 3, 13, 12, tzinfo=ZoneInfo("America/New_York")),
    datetime(2026, 9, 26, 12, tzinfo=ZoneInfo("Pacific/Auckland")),
    datetime(2026, 4, 4, 12, tzinfo=ZoneInfo("Australia/Adelaide")),
    datetime(2026, 12, 31, 12, tzinfo=ZoneInfo("Asia/Kolkata")),
    datetime(2027, 1, 3, 12, tzinfo=ZoneInfo("Asia/Kathmandu")),
)
"""Half a day before clocks are changed, both ways, in four zones; before a year and a week end."""


def label(window: str, zone: ZoneInfo, now: float) -> str:
    """Name a window by what a clock and a calendar show."""
    here = datetime.fromtimestamp(now, zone)
    if window == "hour":
        return here.strftime("%Y-%m-%d %H %z")
    if window == "week":
        return "{}-W{}".format(*here.isocalendar()[:2])
    return here.strftime({"day": "%Y-%m-%d", "month": "%Y-%m"}[window])


@dataclass
class OracleAccount:
    """Every bill and every hold; time passes as it does for accounts."""

    total: int
    bills: list[int] = field(default_factory=list)
    holds: dict[int, list] = field(default_factory=dict)
    """Tokens, when it ends, and what has become of it."""
    ticks: float = 0.0
    clock: float | None = None
    late: int = 0
    """Billed after it was said that nothing would be: no reservation can have covered it."""

    @property
    def spent(self) -> int:
        return sum(self.bills)

    @property
    def held(self) -> int:
        return sum(tokens for tokens, _, state in self.holds.values() if state == "held")

    def pass_time(self, now: float) -> None:
        if self.clock is not None:
            self.ticks += min(max(now - self.clock, 0.0), LEASE)
        self.clock = now
        for hold in self.holds.values():
            if hold[1] <= self.ticks and hold[2] == "held":
                self.bills.append(hold[0])
                hold[1:] = [self.ticks + 4 * LEASE, "lapsed"]
            elif hold[1] <= self.ticks:
                hold[2] = "forgotten"

    def end(self, number: int, charge: int | None) -> None:
        """Bill a call; ``None``: it was never sent."""
        hold = self.holds[number]
        if hold[2] == "forgotten" or (charge is None and hold[2] == "released"):
            return
        if hold[2] == "lapsed":
            self.bills.append(-hold[0])
        self.bills.append(charge or 0)
        if charge is None:
            hold[1:] = [self.ticks + 4 * LEASE, "released"]
        else:
            hold[2] = "forgotten"


class WindowMachine(RuleBasedStateMachine):
    """Accounts in memory and in a file, the latter opened twice, and an oracle."""

    holds = Bundle("holds")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.numbers = itertools.count()
        self.released = set()
        self.accounts: dict[tuple, OracleAccount] = {}
        self.granted: dict[int, tuple] = {}
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    @initialize(
        begins=st.sampled_from(BEGINNINGS),
        own=st.sampled_from(["run", "hour"]),
        user=st.sampled_from(["hour", "day"]),
        outer=st.sampled_from(["day", "week", "month"]),
    )
    def open(self, begins, own, user, outer):
        self.zone: ZoneInfo = begins.tzinfo
        self.begins = self.now = begins.timestamp()
        self.windows = own, user, outer
        scope, file = uuid4().hex, Path(self.folder.name) / "budgets.db"
        self.budgets = {
            (run, number): TokenBudget(
                RUN,
                path=path,
                run=run,
                window=own,
                timezone=self.zone.key,
                within=[
                    BudgetLimit(total_tokens=USER, per="user", window=user, timezone=self.zone.key),
                    BudgetLimit(
                        total_tokens=ORGANIZATION,
                        per="organization",
                        window=outer,
                        timezone=self.zone.key,
                    ),
                ],
                lease_seconds=LEASE,
                scope=scope,
                clock=self.clock,
            )
            for run in RUNS
            for number, path in enumerate((None, file, file))
        }

    def teardown(self) -> None:
        for budget in getattr(self, "budgets", {}).values():
            budget.close()
        self.folder.cleanup()

    def levels(self, run: str, owners: Owners) -> list[OracleAccount]:
        """Return the oracle's accounts, the run's first."""
        names = (("run", run), ("user", owners.user), ("organization", owners.organization))
        found = []
        for name, window, total in zip(names, self.windows, (RUN, USER, ORGANIZATION), strict=True):
            shown = "" if window == "run" else label(window, self.zone, self.now)
            account = self.accounts.setdefault((name, window, shown), OracleAccount(total))
            account.pass_time(self.now)
            found.append(account)
        return found

    def both(self, run: str, act):
        """Let memory and, by turns, one of the two that share a file do the same."""
        self.turn = not getattr(self, "turn", False)
        first, second = act(self.budgets[run, 0], 0), act(self.budgets[run, 1 + self.turn], 1)
        assert first == second
        return first

    @rule(
        target=holds,
        run=st.sampled_from(RUNS),
        owners=st.sampled_from(OWNERS),
        sent=st.integers(0, 600),
        most=st.integers(0, 600),
        least=st.integers(0, 600),
    )
    def reserve(self, run, owners, sent, most, least):
        levels, least = self.levels(run, owners), min(least, most)
        rooms = [level.total - level.spent - level.held for level in levels]
        refusing = [number for number, room in enumerate(rooms) if room < sent + least]
        answers = [None, None]

        def act(budget, which):
            answer = answers[which] = budget.reserve(
                "writer", sent, most, min_output_tokens=least, owners=owners
            )
            if answer:
                return answer.tokens
            return answer.account.per, answer.available_tokens, answer.limit_tokens

        got = self.both(run, act)
        if refusing:
            place = max(refusing)
            per = ("run", "user", "organization")[place]
            assert (per, max(rooms[place], 0), levels[place].total) == got
            return None
        tokens = min(sent + most, *rooms)
        assert tokens == got
        number = next(self.numbers)
        for level in levels:
            level.holds[number] = [tokens, level.ticks + LEASE, "held"]
        self.granted[number] = run, levels, answers, tokens
        return number

    @rule(number=holds, part=st.floats(0, 1), ends=st.sampled_from(["told", "told", "released"]))
    def end(self, number, part, ends):
        if number is None:
            return
        run, levels, answers, tokens = self.granted[number]
        charge = None if ends == "released" else int(tokens * part)
        for level in levels:
            level.pass_time(self.now)
            before = level.spent
            level.end(number, charge)
            if number in self.released:  # a bill for what was said to cost nothing
                level.late += max(0, level.spent - before)
        if charge is None:
            self.released.add(number)

        def act(budget, which):
            if charge is None:
                return budget.release(answers[which])
            return budget.settle(answers[which], Usage(charge, 0))

        self.both(run, act)

    @rule(seconds=st.sampled_from([1, 60, 600, 1_700, 3_600, 7_000]))
    def wait(self, seconds):
        self.now += seconds

    @rule(hours=st.floats(-12, 40))
    def jump(self, hours):
        """Set the clock, forward or back."""
        self.now = self.begins + timedelta(hours=hours).total_seconds()

    @invariant()
    def accounts_and_oracle_agree(self):
        for run, owners in itertools.product(RUNS, OWNERS):
            if not hasattr(self, "budgets"):
                return
            expected = [(level.spent, level.held) for level in self.levels(run, owners)]
            for number in (0, int(run)):
                budget = self.budgets[run, number]
                reports = budget.reports(owners)
                found = [(r.spent_tokens, r.held_tokens) for r in reports]
                assert expected == found, (run, owners, number, expected, found)
                assert [] == budget.check(owners)

    @invariant()
    def nothing_is_ever_overdrawn(self):
        for account in self.accounts.values():
            assert account.spent + account.held <= account.total + account.late


TestWindows = WindowMachine.TestCase
TestWindows.settings = settings(
    max_examples=25,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
