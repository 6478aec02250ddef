"""A token budget as an account: reserve before the call, settle after it, never overdraw.

A guard that looks at the bill after the call has already lost: eight agents that start together
spend eight times the limit. So a call first reserves what it can cost at most (its input is
counted, its output is bounded by ``max_tokens``), and is sent only if that is granted. Spent and
held tokens together never exceed the total, at any instant, whatever threads, tasks and processes
do.

What was billed counts: every attempt that reached the provider is charged; the same event told
twice is one. A provider that bills more than was reserved (it counts otherwise than we do) is the
one thing that no reservation prevents; that part is reported apart, as ``surplus_tokens``, and
reduces what is left.

Nobody tells what a stream has cost that was cut off. It is charged for what arrived and a margin,
for what a provider writes until it notices; a provider that never notices writes on up to the
call's ``max_tokens``. The difference is no secret: it is summed up as ``possible_surplus_tokens``.
So the bill never exceeds what is spent and that sum, and with ``cancelled="reservation"``, which
charges all of it, it never exceeds what is spent.
"""

from __future__ import annotations

import time
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, Literal
from uuid import UUID

from langchain_tokenopt.budget import books as arithmetic
from langchain_tokenopt.budget.alerts import BudgetAlert
from langchain_tokenopt.budget.allocation import AllocationStrategy, Claim, divide, strategy_for
from langchain_tokenopt.budget.books import (
    Books,
    BudgetStoreError,
    Crossing,
    HoldRow,
    Line,
    MemoryBooks,
    Page,
    ReenteredError,
    Totals,
)
from langchain_tokenopt.core.errors import BudgetExceededError, TokenOptError, TokenOptWarning
from langchain_tokenopt.core.records import BudgetEvent, UsageSink
from langchain_tokenopt.core.usage import Usage

__all__ = [
    "AgentReport",
    "BudgetReport",
    "BudgetStoreError",
    "Denial",
    "Hold",
    "Settlement",
    "TokenBudget",
    "reports_in",
]

LEASE_SECONDS: Final = 900.0
"""A call that has not been settled after a quarter of an hour counts as lost."""
CANCELLED_MARGIN: Final = 0.25
"""What a provider is taken to have written beyond what arrived of a stream that was cancelled."""
CANCELLED_LEAST_TOKENS: Final = 64
"""Least margin, in tokens. A provider notices a closed connection when it next writes to it, a
network's way later (0.1 to 0.2 s); a model that writes 150 tokens a second may then take twice as
long."""
_NANO: Final = 1_000_000_000

Outcome = Literal["answered", "counted", "cancelled", "cached"]
Reason = Literal["total", "share", "cap", "money", "unpriced", "stopped", "store"]


@dataclass(frozen=True, slots=True)
class Hold:
    """A reservation that was granted. Settle it or release it."""

    id: str
    agent: str
    tokens: int
    """What is held: input and output."""
    input_tokens: int
    max_output_tokens: int
    """What the answer may have: less than was asked for, where that was all there is."""
    used_ratio: float
    """Spent and held of the total, this reservation included."""
    run_id: str | None = None
    cost_nano_usd: int | None = None
    """The money that is held."""
    recorded: bool = True
    """False when the store could not be reached and the budget is one that fails open."""


@dataclass(frozen=True, slots=True)
class Denial:
    """A reservation that was refused. It is false, a :class:`Hold` is true."""

    agent: str
    needed_tokens: int
    """The least that would have done."""
    available_tokens: int
    """What the agent could have had."""
    limit_tokens: int
    """Its cap or its share, or the total."""
    reason: Reason
    """``"total"``: nothing is left. ``"share"``: what is left belongs to others. ``"cap"``: the
    agent's own limit. ``"money"``: the budget in money. ``"unpriced"``: the budget is in money and
    the call has no known price. ``"stopped"``: :meth:`TokenBudget.stop` was called. ``"store"``:
    the store cannot be reached."""
    budget: str = "default"
    cost_nano_usd: int | None = None
    """What the call would have cost; ``None``: unknown."""
    left_nano_usd: int | None = None
    """What was left in money, where the budget is in money."""

    def __bool__(self) -> Literal[False]:
        return False

    def error(self) -> BudgetExceededError | BudgetStoreError:
        """Return it as an exception, for those who would rather raise.

        Example:
            >>> TokenBudget(100).reserve("writer", 90, 20).error().needed_tokens
            110
        """
        if self.reason == "store":
            return BudgetStoreError(
                f"the store of the budget {self.budget!r} cannot be reached, and the budget "
                f"refuses every call until it can. To let calls through meanwhile, give "
                f'on_store_error="open".'
            )
        return BudgetExceededError(
            account=self.agent,
            needed_tokens=self.needed_tokens,
            left_tokens=self.available_tokens,
            limit_tokens=self.limit_tokens,
            because=self._because(),
        )

    def _because(self) -> str | None:
        """Say what the refusal is about, where it is not about tokens."""
        if self.reason == "money":
            return (
                f"{self.agent!r} needs up to {_usd(self.cost_nano_usd)} US dollars for this call "
                f"but the budget {self.budget!r} has {_usd(self.left_nano_usd)} left. Raise "
                f"total_usd, or ask a cheaper model."
            )
        if self.reason == "unpriced":
            return (
                f"the call of {self.agent!r} has no known price, and the budget {self.budget!r} is "
                f"in US dollars. Give a rate card that knows the model, or leave total_usd out."
            )
        if self.reason == "stopped":
            return (
                f"the budget {self.budget!r} was stopped: it refuses every call, also this one of "
                f"{self.agent!r} for {self.needed_tokens:,} tokens, though it has "
                f"{self.available_tokens:,} left."
            )
        return None


@dataclass(frozen=True, slots=True)
class Settlement:
    """What settling a reservation did."""

    charged_tokens: int
    surplus_tokens: int = 0
    """Part of the charge that no reservation covered."""
    freed_tokens: int = 0
    """What was held and not used."""
    possible_surplus_tokens: int = 0
    """What a call that was cut off may have been billed beyond its charge."""
    estimated: bool = False
    """True when the provider did not say what the call used."""
    repeated: bool = False
    """True when this had been settled before: nothing was charged."""


@dataclass(frozen=True, slots=True)
class AgentReport:
    """One agent's part of a budget. Tokens, unless the name says otherwise."""

    agent: str
    allocated_tokens: int
    spent_tokens: int
    held_tokens: int
    available_tokens: int
    """What it could reserve now: the rest of its share, and the pool."""
    returned_tokens: int
    """What it gave back when it had finished."""
    surplus_tokens: int
    possible_surplus_tokens: int
    """What calls that were cut off may have been billed beyond their charge."""
    saved_tokens: int
    """What cached answers would have used."""
    calls: int
    denied_calls: int
    estimated_calls: int
    floor_tokens: int
    cap_tokens: int | None
    finished: bool
    spent_nano_usd: int


@dataclass(frozen=True, slots=True)
class BudgetReport:
    """A budget at one instant. Tokens, unless the name says otherwise."""

    budget: str
    run: str
    total_tokens: int
    spent_tokens: int
    held_tokens: int
    pool_tokens: int
    """What nobody claims."""
    surplus_tokens: int
    """Part of what was spent that no reservation covered: providers counted more than we did."""
    possible_surplus_tokens: int
    """What calls that were cut off may have been billed beyond their charge, had their providers
    written on to the end."""
    saved_tokens: int
    total_nano_usd: int | None
    spent_nano_usd: int
    held_nano_usd: int
    unpriced_calls: int
    alerts: tuple[int, ...]
    """Thresholds, in percent, that were crossed."""
    stopped: bool
    agents: Mapping[str, AgentReport]

    @property
    def left_tokens(self) -> int:
        """Neither spent nor held; never below 0."""
        return max(self.total_tokens - self.spent_tokens - self.held_tokens, 0)

    @property
    def used_ratio(self) -> float:
        """Spent and held of the total."""
        return (self.spent_tokens + self.held_tokens) / self.total_tokens

    @property
    def overshoot_tokens(self) -> int:
        """Spent beyond the total. Only a provider's surplus can cause it."""
        return max(self.spent_tokens - self.total_tokens, 0)


class TokenBudget:
    """A number of tokens that any agents share and never exceed.

    Safe for threads and tasks; with a *store*, for processes and for runs that are resumed: whoever
    opens the same store, name and run works on the same account.

    Reservations are leases. One that is neither settled nor released when its lease ends, or whose
    process is gone, counts as a call that was sent: it is charged in full, so that the account is
    never below the bill. If its end is told after all, the charge is corrected.

    Args:
        total_tokens: What may be spent, input and output together.
        total_usd: What may be spent in US dollars, besides; then every reservation needs a price.
        store: A path, or a URL ``sqlite:///path``, that several processes share.
        name: Name of the budget.
        run: Which run of it; each run has an account of its own.
        alert: Tells when the budget runs low.
        sinks: Hear of denials, moved tokens and alerts, as ``BudgetEvent``.
        lease_seconds: How long a reservation is held without news of its call.
        lapsed: What a reservation costs when its lease ends: ``"charge"`` all of it, or
            ``"release"``: nothing, where a lost call surely cost nothing.
        on_store_error: When the store cannot be reached, ``"closed"`` refuses reservations,
            ``"open"`` grants them unrecorded; both warn. What was told in the meantime is written
            as soon as the store is back.
        cancelled: What is charged for a stream that was cut off: ``"margin"``: what arrived and a
            margin, or ``"reservation"``: all that the provider may have written, so that the bill
            cannot exceed the account even if the provider never notices.
        cancelled_margin: Part of the received output that is charged on top when a stream was
            cancelled, at least 64 tokens.
        clock: Seconds; by default the time of day with a store, else a monotonic clock. Jumps can
            end a lease early, but never overdraw an account.

    Raises:
        ValueError: A total is not above 0, or the stored account has other totals.
        BudgetStoreError: The store cannot be opened, and the budget is one that fails closed.

    Example:
        >>> budget = TokenBudget(total_tokens=1_000)
        >>> hold = budget.reserve("writer", input_tokens=300, max_output_tokens=200)
        >>> budget.report().held_tokens
        500
        >>> budget.settle(hold, Usage(input_tokens=300, output_tokens=120)).charged_tokens
        420
        >>> budget.reserve("reader", 500, 100)  # doctest: +ELLIPSIS
        Denial(agent='reader', needed_tokens=600, available_tokens=580, limit_tokens=1000, ...)
        >>> budget.reserve("reader", 500, 100, min_output_tokens=20).max_output_tokens
        80
    """

    def __init__(
        self,
        total_tokens: int,
        total_usd: Decimal | float | str | None = None,
        store: str | Path | None = None,
        name: str = "default",
        *,
        run: str = "",
        alert: BudgetAlert | None = None,
        sinks: Iterable[UsageSink] = (),
        lease_seconds: float = LEASE_SECONDS,
        lapsed: Literal["charge", "release"] = "charge",
        on_store_error: Literal["closed", "open"] = "closed",
        cancelled: Literal["margin", "reservation"] = "margin",
        cancelled_margin: float = CANCELLED_MARGIN,
        clock: Callable[[], float] | None = None,
    ) -> None:
        _check_settings(total_tokens, lease_seconds, cancelled_margin)
        _check_choice("lapsed", lapsed, "charge", "release")
        _check_choice("on_store_error", on_store_error, "closed", "open")
        _check_choice("cancelled", cancelled, "margin", "reservation")
        self.name = name
        self.run = run
        self._total_tokens = total_tokens
        self._lease = lease_seconds
        self._lapsed = lapsed
        self._on_store_error = on_store_error
        self._cancelled = cancelled
        self._margin = cancelled_margin
        self._clock = clock or (time.monotonic if store is None else time.time)
        self._alert = BudgetAlert() if alert is None else alert
        self._sinks = tuple(sinks)
        self._untold: deque[Callable[[], object]] = deque()
        self._telling: dict[UUID, list[int]] = {}
        """Thresholds that this process is about to tell of, by their event."""
        self._warned: set[str] = set()
        totals = Totals(total_tokens, _nano(total_usd))
        self._books: Books = (
            MemoryBooks(totals, f"the budget {name!r}")
            if store is None
            else self._stored(store, totals)
        )
        self._strategy: AllocationStrategy = strategy_for("priority")
        weakref.finalize(self, self._books.close)
        self._tell_for_the_dead()

    @property
    def total_tokens(self) -> int:
        """What may be spent."""
        return self._total_tokens

    @property
    def blocking(self) -> bool:
        """True when it waits for a disk: async callers then use a thread."""
        return self._books.shared

    def tell_by(self, alert: BudgetAlert) -> None:
        """Tell by *alert* from now on, for instance to another web socket."""
        self._alert = alert

    # Before the call

    def reserve(
        self,
        agent: str,
        input_tokens: int,
        max_output_tokens: int,
        *,
        min_output_tokens: int | None = None,
        run_id: UUID | str | None = None,
        cost_nano_usd: int | None = None,
    ) -> Hold | Denial:
        """Reserve what a call can use at most.

        Args:
            agent: Who calls; any name.
            input_tokens: What will be sent.
            max_output_tokens: The limit that the call will be sent with.
            min_output_tokens: When given, a smaller answer will do: as much as there is is held,
                if it is at least this. Send the call with the hold's ``max_output_tokens``.
            run_id: Names the attempt. While it is held, reserving again returns the same hold;
                after it was settled, it is another attempt, and charged as such.
            cost_nano_usd: What the call can cost at most, in billionths of a US dollar.

        Returns:
            A hold, or a denial that says what was available. Nothing waits: a denied caller may
            ask for less, or again later.

        Raises:
            ValueError: A number is negative, or the least answer exceeds the greatest.
        """
        needed = _tokens(input_tokens=input_tokens, max_output_tokens=max_output_tokens)
        least = needed
        if min_output_tokens is not None:
            least = _tokens(input_tokens=input_tokens, min_output_tokens=min_output_tokens)
        if least > needed:
            raise ValueError(
                f"min_output_tokens ({min_output_tokens:,}) exceeds max_output_tokens "
                f"({max_output_tokens:,})."
            )
        key = None if run_id is None else str(run_id)
        self._tell_untold()
        try:
            with self._books as page:
                answer = self._reserve(page, agent, input_tokens, needed, least, key, cost_nano_usd)
                event = self._event_of(page, agent, answer)
        except BudgetStoreError as error:
            return self.without_store(error, agent, input_tokens, max_output_tokens, run_id=key)
        if event is not None:
            self._tell(event)
        return answer

    def admit(
        self,
        agent: str,
        input_tokens: int,
        max_output_tokens: int,
        *,
        run_id: UUID | str | None = None,
    ) -> Hold:
        """Let a call through without reserving for it; settled, all that it has used is surplus.

        For those who only want to watch.
        """
        needed = _tokens(input_tokens=input_tokens, max_output_tokens=max_output_tokens)
        key = None if run_id is None else str(run_id)
        name = self._books.next_id()
        return Hold(name, agent, needed, input_tokens, max_output_tokens, 0.0, key, recorded=False)

    def _reserve(
        self,
        page: Page,
        agent: str,
        input_tokens: int,
        needed: int,
        least: int,
        run_id: str | None,
        cost: int | None,
    ) -> Hold | Denial:
        totals = page.totals
        now = self._now(page)
        if run_id is not None and (held := page.hold_of_run(run_id)) is not None:
            return _hold_of(held, totals, held.tokens - input_tokens, input_tokens)
        line = page.line(agent)
        room = arithmetic.room_for(totals, line)
        if room < least and self._reclaim(page):
            room = arithmetic.room_for(totals, line)
        reason = _reason_against(totals, line, room, least, cost)
        if reason is not None:
            line.denied += 1
            limit = _limit(totals, line, reason)
            left = totals.left_nano
            return Denial(agent, least, room, limit, reason, self.name, cost, left)
        tokens = min(needed, room)
        row = HoldRow(
            self._books.next_id(),
            agent,
            tokens,
            cost or 0,
            now + self._lease,
            self._books.owner,
            run_id,
        )
        page.keep(row)
        arithmetic.move(totals, line, held=tokens, held_nano=row.nano_usd)
        _await(totals, row)
        ratio = (totals.spent + totals.held) / totals.total_tokens
        return Hold(row.id, agent, tokens, input_tokens, tokens - input_tokens, ratio, run_id, cost)

    def top_up(self, hold: Hold, tokens: int) -> Hold | Denial:
        """Hold *tokens* more for a call that needs more than was foreseen, and renew its lease.

        With 0 it only renews the lease, for calls that take longer than that.

        Returns:
            The larger hold in the place of *hold*, or a denial; then *hold* stands as it was. While
            the store cannot be reached, what :meth:`reserve` would return.

        Raises:
            ValueError: The hold has been settled or released.
        """
        more = _tokens(tokens=tokens)
        if not hold.recorded:
            return _enlarged(hold, more)
        try:
            return self._top_up(hold, more)
        except BudgetStoreError as error:
            if self._on_store_error == "open":
                return _enlarged(hold, more)
            return self.without_store(error, hold.agent, 0, more)

    def _top_up(self, hold: Hold, more: int) -> Hold | Denial:
        with self._books as page:
            totals, now = page.totals, self._now(page)
            row = page.hold(hold.id)
            if row is None or (row.charged is not None and row.charged != row.tokens):
                raise ValueError(
                    f"the reservation of {hold.tokens:,} tokens for {hold.agent!r} has been "
                    f"settled or released, or its lease has ended; reserve "
                    f"{hold.tokens + more:,} tokens anew."
                )
            line = page.line(row.agent)
            if row.charged is not None:
                _revive(totals, line, row)
            room = arithmetic.room_for(totals, line)
            if room < more and self._reclaim(page):
                room = arithmetic.room_for(totals, line)
            row.expires = now + self._lease
            _await(totals, row)
            reason = _reason_against(totals, line, room, more, row.nano_usd, held=row.nano_usd)
            answer: Hold | Denial
            if reason is None:
                row.tokens += more
                arithmetic.move(totals, line, held=more)
                answer = _hold_of(row, totals, hold.max_output_tokens + more, hold.input_tokens)
            else:
                line.denied += 1
                limit = _limit(totals, line, reason)
                answer = Denial(row.agent, more, room, limit, reason, self.name)
            page.keep(row)
            event = self._event_of(page, row.agent, answer)
        if event is not None:
            self._tell(event)
        return answer

    # After the call

    def settle(
        self,
        hold: Hold,
        usage: Usage | Mapping[str, Any] | None,
        *,
        outcome: Outcome = "answered",
        cost_nano_usd: int | None = None,
        most_tokens: int | None = None,
    ) -> Settlement:
        """Charge what the call has used and free the rest of its reservation.

        Args:
            hold: The reservation; settling it again changes nothing.
            usage: ``Usage`` or LangChain's ``UsageMetadata``; ``None`` where the provider did not
                say: then the whole reservation is charged.
            outcome: ``"counted"`` for an answer that came whole, but whose provider does not report
                usage: *usage* is our own count. ``"cancelled"`` for a stream that was not read to
                its end: *usage* is what arrived, and a margin is added, up to the reservation.
                ``"cached"`` for an answer that a cache gave: nothing is charged, *usage* counts as
                saved.
            cost_nano_usd: What it cost; when unknown, what was held for it.
            most_tokens: Where the call's ``max_tokens`` allowed less than was reserved: the most
                that it can have been billed. It bounds what is charged when that is not known.

        Returns:
            What was charged and what became free. While the store cannot be reached, what will be
            charged when it is back.
        """
        spent = _usage_of(usage)
        self._tell_untold()
        end = spent, outcome, cost_nano_usd, most_tokens
        try:
            return self._settle(hold, *end)
        except (BudgetStoreError, ReenteredError) as error:
            self._later(lambda: self._settle(hold, *end), error)
            most = hold.tokens if most_tokens is None else most_tokens
            charge, possible, estimated = self._charge_for(most, spent, outcome)
            return Settlement(charge, possible_surplus_tokens=possible, estimated=estimated)

    def _settle(
        self, hold: Hold, usage: Usage | None, outcome: Outcome, cost: int | None, most: int | None
    ) -> Settlement:
        with self._books as page:
            self._now(page)
            row = page.hold(hold.id)
            if row is None and (hold.recorded or not page.charge_once(f"hold {hold.id}")):
                return Settlement(0, repeated=True)
            held = hold.tokens if row is None else row.tokens
            most = held if most is None else min(most, held)
            charge, possible, estimated = self._charge_for(most, usage, outcome)
            if row is None:
                row = HoldRow(hold.id, hold.agent, 0, 0, 0.0, "", hold.run_id, charged=0)
            else:
                page.drop(row)
            totals, line = page.totals, page.line(row.agent)
            if cost is None and outcome != "cached":
                cost = hold.cost_nano_usd
                totals.unpriced += cost is None
            covered = _end(totals, line, row, charge, 0 if outcome == "cached" else cost or 0)
            surplus = max(charge - covered, 0)
            line.possible += possible
            totals.possible += possible
            line.calls += outcome != "cached"
            line.estimated += estimated
            if outcome == "cached" and usage is not None:
                line.saved += usage.total_tokens
                totals.saved += usage.total_tokens
            elif row.run_id is not None:
                page.charge_once(row.run_id)
            events = self._after_charge(page, line, surplus)
        for event in events:
            self._tell(event)
        return Settlement(charge, surplus, max(covered - charge, 0), possible, estimated)

    def release(self, hold: Hold) -> bool:
        """Free a reservation whose call never reached the provider.

        A call that failed after it was sent may have been billed: settle it, with ``None`` when
        nothing is known.

        Returns:
            True when tokens became free; False when it was settled or released before.
        """
        self._tell_untold()
        try:
            return self._release(hold)
        except (BudgetStoreError, ReenteredError) as error:
            self._later(lambda: self._release(hold), error)
            return False

    def _release(self, hold: Hold) -> bool:
        with self._books as page:
            now = self._now(page)
            row = page.hold(hold.id)
            if row is None or row.charged == 0:
                return False
            _end(page.totals, page.line(row.agent), row, 0, 0)
            self._close_row(page, row, 0, 0, now)
            return True

    def charge(
        self,
        agent: str,
        usage: Usage | Mapping[str, Any],
        *,
        run_id: UUID | str | None = None,
        cost_nano_usd: int | None = None,
    ) -> Settlement:
        """Charge a call that was made without a reservation; all of it is surplus.

        Args:
            agent: Who called.
            usage: What the call has used.
            run_id: A run that has been charged is not charged again.
            cost_nano_usd: What it cost, when known.
        """
        spent = _usage_of(usage)
        if spent is None:
            raise ValueError(
                f"a charge without a reservation needs a usage of 0 tokens or more, got {usage!r}."
            )
        self._tell_untold()
        try:
            return self._charge(agent, spent, run_id, cost_nano_usd)
        except (BudgetStoreError, ReenteredError) as error:
            self._later(lambda: self._charge(agent, spent, run_id, cost_nano_usd), error)
            return Settlement(spent.total_tokens, spent.total_tokens)

    def _charge(
        self, agent: str, usage: Usage, run_id: UUID | str | None, cost: int | None
    ) -> Settlement:
        with self._books as page:
            self._now(page)
            if run_id is not None and not page.charge_once(str(run_id)):
                return Settlement(0, repeated=True)
            totals, line = page.totals, page.line(agent)
            arithmetic.move(totals, line, spent=usage.total_tokens, nano=cost or 0)
            totals.unpriced += cost is None
            line.calls += 1
            events = self._after_charge(page, line, usage.total_tokens)
        for event in events:
            self._tell(event)
        return Settlement(usage.total_tokens, usage.total_tokens)

    def _charge_for(
        self, most: int, usage: Usage | None, outcome: Outcome
    ) -> tuple[int, int, bool]:
        """Return what to charge, what may come on top, and whether that is an estimate.

        Args:
            most: The most that the provider was allowed to bill.
            usage: What is known.
            outcome: How the call ended.
        """
        if outcome == "cached":
            return 0, 0, False
        if usage is None:
            return most, 0, True
        if outcome in ("answered", "counted"):
            return usage.total_tokens, 0, outcome == "counted"
        most = max(most, usage.total_tokens)
        if self._cancelled == "reservation":
            return most, 0, True
        share = -int(-usage.output_tokens * self._margin // 1)
        charge = min(usage.total_tokens + max(share, CANCELLED_LEAST_TOKENS), most)
        return charge, most - charge, True

    def _after_charge(self, page: Page, line: Line, surplus: int) -> list[BudgetEvent]:
        totals = page.totals
        if surplus:
            line.surplus += surplus
            totals.surplus += surplus
        events = []
        if totals.claimed > totals.total_tokens:
            lost = arithmetic.pay_debts(totals, page.lines())
            if lost:
                detail = f"paid what providers charged beyond reservations: {_listed(lost)}"
                events.append(self._event("rebalanced", page, line.agent, detail))
        alert = self._alert_of(page, line.agent)
        return events if alert is None else [*events, alert]

    # Shares

    def allocate(
        self,
        claims: Iterable[Claim],
        strategy: str | AllocationStrategy = "priority",
        *,
        buffer: int = 0,
    ) -> dict[str, int]:
        """Divide the total among agents. Done once in the life of an account.

        A run that is resumed, or a second process, finds the shares that were given first.

        Args:
            claims: What each agent asks for. Others may spend too, from what nobody claims.
            strategy: ``"equal"``, ``"priority"``, ``"proportional"``, or an object with a method
                ``weights``. It also decides who gets what finished agents leave.
            buffer: Tokens that are nobody's share, from which all may borrow.

        Returns:
            The share of each agent.

        Raises:
            BudgetInfeasibleError: Shares, floors and buffer exceed the total.
            ValueError: An agent claims twice.
        """
        wanted = list(claims)
        chosen = strategy_for(strategy)
        weights = chosen.weights(wanted)
        try:
            return self._allocate(wanted, chosen, weights, buffer)
        except BudgetStoreError as error:
            if self._on_store_error == "closed":
                raise
            self._later(lambda: self._allocate(wanted, chosen, weights, buffer), error)
            return divide(self._total_tokens - buffer, wanted, chosen)

    def _allocate(
        self,
        wanted: list[Claim],
        chosen: AllocationStrategy,
        weights: Mapping[str, float],
        buffer: int,
    ) -> dict[str, int]:
        with self._books as page:
            totals = page.totals
            given = {line.agent: line.allocated for line in page.lines() if line.weight is not None}
            if given:
                return given
            shares = divide(totals.total_tokens - totals.claimed - buffer, wanted, chosen)
            for claim in wanted:
                line = page.line(claim.agent)
                line.weight = float(weights[claim.agent])
                line.floor, line.cap = claim.floor, claim.cap
                arithmetic.grant(totals, line, line.used + shares[claim.agent])
            return {claim.agent: page.line(claim.agent).allocated for claim in wanted}

    def finish(self, agent: str) -> dict[str, int]:
        """Tell that *agent* will not call again: what it has left goes to the others.

        By weight to agents that have not finished, up to their caps; what they may not take stays
        in the pool. Should the agent call after all, it borrows from the pool; see :meth:`reopen`.

        Returns:
            Who was given how much. While the store cannot be reached nobody is; it is done when the
            store is back.
        """
        try:
            return self._finish(agent)
        except BudgetStoreError as error:
            self._later(lambda: self._finish(agent), error)
            return {}

    def _finish(self, agent: str) -> dict[str, int]:
        with self._books as page:
            self._now(page)
            line = page.line(agent)
            returned = line.returned
            gifts = arithmetic.finish(page.totals, page.lines(), agent)
            event = None
            if line.returned > returned:
                detail = f"returned {line.returned - returned:,}; {_listed(gifts) or 'to the pool'}"
                event = self._event("rebalanced", page, agent, detail)
        if event is not None:
            self._tell(event)
        return gifts

    def reopen(self, agent: str, shares: Mapping[str, int]) -> bool:
        """Take a finished agent's share back for it, as far as nobody has used it.

        What others were given beyond their *shares* and have not used is the pool's again; from the
        pool the agent is given its own share, or its floor where that is more. For agents that come
        back after all, such as in the next turn of a conversation.

        Args:
            agent: Who comes back. One that has not finished keeps what it has.
            shares: What each agent began with.

        Returns:
            Whether it had finished; False while the store cannot be reached, and the share is
            taken back when it can.
        """
        try:
            return self._reopen(agent, shares)
        except BudgetStoreError as error:
            self._later(lambda: self._reopen(agent, shares), error)
            return False

    def _reopen(self, agent: str, shares: Mapping[str, int]) -> bool:
        with self._books as page:
            if not page.line(agent).finished:
                return False
            self._now(page)
            given = arithmetic.reopen(page.totals, page.lines(), agent, shares)
            event = self._event("rebalanced", page, agent, f"came back; took {given:,} back")
        self._tell(event)
        return True

    def resize(self, total_tokens: int) -> None:
        """Change the total, for instance to go on with a run that has used it up.

        Raises:
            ValueError: Less than what is spent, held and promised.
        """
        with self._books as page:
            totals = page.totals
            if total_tokens < max(totals.claimed, 1):
                raise ValueError(
                    f"the budget {self.name!r} cannot be cut to {total_tokens:,} tokens: "
                    f"{totals.claimed:,} are spent, held or promised to agents."
                )
            totals.total_tokens = total_tokens
        self._total_tokens = total_tokens

    def stop(self) -> None:
        """Refuse every further reservation, in all processes; what is held may still be settled."""
        with self._books as page:
            page.totals.latched = 1

    # Looking

    def available(self, agent: str) -> int:
        """Return how many tokens *agent* could reserve now: its own rest, and the pool."""
        self._tell_untold()
        with self._books as page:
            self._now(page)
            return 0 if page.totals.latched else arithmetic.room_for(page.totals, page.line(agent))

    def hold_of(self, run_id: UUID | str) -> Hold | None:
        """Return what is held for a run, for those who only know the run; ``None``: nothing."""
        with self._books as page:
            row = page.hold_of_run(str(run_id))
            return None if row is None else _hold_of(row, page.totals, row.tokens, 0)

    def report(self) -> BudgetReport:
        """Return the whole account as it stands at this instant."""
        self._tell_untold()
        with self._books as page:
            self._now(page)
            self._reclaim(page)
            return _report(self.name, self.run, page)

    def check(self) -> list[str]:
        """Return what does not add up in the account; empty when all is well."""
        with self._books as page:
            return arithmetic.findings(page)

    def snapshot(self) -> dict[str, Any]:
        """Return what was spent and is held, per agent, as plain values for a checkpoint.

        While the store cannot be reached it names no agents: to :meth:`restore` it says nothing.
        """
        try:
            return self._snapshot()
        except BudgetStoreError as error:
            self._warn("store", f"the budget {self.name!r} waits for its store: {error}")
            empty = {"budget": self.name, "run": self.run, "total_tokens": self._total_tokens}
            return {**empty, "agents": {}}

    def _snapshot(self) -> dict[str, Any]:
        self._tell_untold()
        with self._books as page:
            return {
                "budget": self.name,
                "run": self.run,
                "total_tokens": page.totals.total_tokens,
                "agents": {
                    line.agent: {
                        "spent": line.spent,
                        "held": line.held,
                        "surplus": line.surplus,
                        "spent_nano_usd": line.spent_nano,
                    }
                    for line in page.lines()
                    if line.used
                },
            }

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Go on from a :meth:`snapshot`: nobody has spent less than it says.

        Calls that it says are held are charged: they were cut off. Restoring it again, or one
        that is older than the account, changes nothing.
        """
        with self._books as page:
            totals = page.totals
            for agent, told in sorted(snapshot["agents"].items()):
                line = page.line(agent)
                missing = told["spent"] + told["held"] - line.used
                if missing <= 0:
                    continue
                money = max(told["spent_nano_usd"] - line.spent_nano, 0)
                room = totals.total_tokens - totals.claimed + line.claim - line.used
                surplus = max(missing - max(room, 0), told["surplus"] - line.surplus, 0)
                arithmetic.move(totals, line, spent=missing, nano=money)
                line.surplus += surplus
                totals.surplus += surplus
            if totals.claimed > totals.total_tokens:
                arithmetic.pay_debts(totals, page.lines())

    def close(self) -> None:
        """Write what waits for the store, then let go of it."""
        self._tell_untold()
        self._books.close()

    # Time, and reservations that nobody settles

    def _now(self, page: Page) -> float:
        totals = page.totals
        now = totals.tick(self._clock(), self._lease)
        if totals.earliest is not None and now >= totals.earliest:
            self._sweep(page, now)
        return now

    def _sweep(self, page: Page, now: float) -> None:
        """End the leases that are over, and forget what was closed long ago."""
        for row in page.holds():
            if row.expires <= now:
                if row.charged is None:
                    self._lapse(page, row, now)
                else:
                    page.drop(row)
        page.totals.earliest = min((row.expires for row in page.holds()), default=None)

    def _lapse(self, page: Page, row: HoldRow, now: float) -> None:
        charge = (row.tokens, row.nano_usd) if self._lapsed == "charge" else (0, 0)
        line = page.line(row.agent)
        _end(page.totals, line, row, *charge)
        line.calls += charge[0] > 0
        line.estimated += charge[0] > 0
        self._close_row(page, row, *charge, now)

    def _close_row(self, page: Page, row: HoldRow, charged: int, nano: int, now: float) -> None:
        """Remember for a while what was charged, should the call's end be told late."""
        row.charged, row.charged_nano = charged, nano
        row.expires = now + 4 * self._lease
        page.keep(row)
        _await(page.totals, row)

    def _reclaim(self, page: Page) -> bool:
        """End the leases of processes that are gone; True when there were any."""
        if not self._books.shared:
            return False
        held = [row for row in page.holds() if row.charged is None]
        dead = self._books.dead({row.owner for row in held})
        for row in held:
            if row.owner in dead:
                self._lapse(page, row, page.totals.ticks)
        return bool(dead)

    # When the store cannot be reached

    def _stored(self, store: str | Path, totals: Totals) -> Books:
        from langchain_tokenopt.budget.store import SqliteBooks

        books = SqliteBooks(store, self.name, self.run, totals)
        try:
            with books as page:
                self._agree(page.totals, totals, books)
        except BudgetStoreError as error:
            if self._on_store_error == "closed":
                raise
            self._warn(
                "open", f"the budget {self.name!r} lets calls through without counting: {error}"
            )
        return books

    def _agree(self, stored: Totals, wanted: Totals, place: object) -> None:
        here = (stored.total_tokens, stored.total_nano_usd)
        asked = (wanted.total_tokens, wanted.total_nano_usd)
        if here != asked:
            raise ValueError(
                f"the budget {self.name!r} (run {self.run!r}) in {place} has "
                f"{_told(*here)}, but {_told(*asked)} were asked for. Use the same totals, another "
                f"name or run, or resize() the one that is there."
            )

    def without_store(
        self,
        error: BudgetStoreError,
        agent: str,
        input_tokens: int,
        max_output_tokens: int,
        *,
        run_id: str | None = None,
    ) -> Hold | Denial:
        """Decide on a call while the store cannot be reached, as *on_store_error* says; warn."""
        if self._on_store_error == "closed":
            self._warn("closed", f"the budget {self.name!r} refuses every call: {error}")
            needed = input_tokens + max_output_tokens
            return Denial(agent, needed, 0, self._total_tokens, "store", self.name)
        self._warn("open", f"the budget {self.name!r} lets calls through without counting: {error}")
        return self.admit(agent, input_tokens, max_output_tokens, run_id=run_id)

    def _tell_untold(self) -> None:
        """Write what the store could not take before; stop at the first that it still cannot."""
        while self._untold:
            try:
                told = self._untold.popleft()
            except IndexError:  # another thread was faster
                return
            try:
                told()
            except (BudgetStoreError, ReenteredError):
                self._untold.appendleft(told)
                return

    def _later(self, act: Callable[[], object], error: TokenOptError) -> None:
        """Do *act* when the books can be opened again: with the next thing that is told."""
        self._untold.append(act)
        if isinstance(error, BudgetStoreError):
            self._warn("store", f"the budget {self.name!r} waits for its store: {error}")

    def _warn(self, what: str, message: str) -> None:
        """Say it once."""
        if what not in self._warned:
            self._warned.add(what)
            warnings.warn(message, TokenOptWarning, stacklevel=4)

    # Events

    def _event_of(self, page: Page, agent: str, answer: Hold | Denial) -> BudgetEvent | None:
        if isinstance(answer, Hold):
            return self._alert_of(page, agent)
        if not self._sinks:
            return None
        detail = (
            f"{answer.reason}: needed {answer.needed_tokens:,}, "
            f"available {answer.available_tokens:,}"
        )
        return self._event("denied", page, agent, detail)

    def _alert_of(self, page: Page, agent: str) -> BudgetEvent | None:
        """Note that thresholds were crossed, and return the alert for the highest."""
        totals = page.totals
        crossed = self._alert.crossed(
            totals.alerted, totals.spent + totals.held, totals.total_tokens
        )
        if totals.total_nano_usd is not None:
            money = totals.spent_nano + totals.held_nano
            by_money = self._alert.crossed(totals.alerted, money, totals.total_nano_usd)
            crossed = max(crossed, by_money, key=len)
        late = self._left_untold(page) if totals.untold else []
        if not crossed and not late:
            return None
        if crossed:
            totals.alerted = crossed[-1]
        else:
            agent = late[-1].agent
        totals.untold += len(crossed)
        return self._claim(page, agent, [*(crossing.percent for crossing in late), *crossed])

    def _claim(self, page: Page, agent: str, percents: list[int]) -> BudgetEvent:
        """Note that this process tells of these thresholds, and return the alert."""
        until = page.totals.ticks + self._lease
        for percent in percents:
            page.cross(Crossing(percent, agent, self._books.owner, until))
        detail = f"{percents[-1]} % spent or held"
        if percents[:-1]:
            detail += f"; passed {', '.join(f'{percent} %' for percent in percents[:-1])}"
        event = self._event("alert", page, agent, detail)
        self._telling[event.id] = percents
        return event

    def _left_untold(self, page: Page) -> list[Crossing]:
        """Return the crossings that those who were to tell of them will not tell of any more."""
        untold, now = page.untold(), page.totals.ticks
        dead = self._books.dead({crossing.owner for crossing in untold})
        return [row for row in untold if row.owner in dead or row.expires <= now]

    def _tell_for_the_dead(self) -> None:
        """Tell what processes that are gone have left untold, when a store is opened."""
        if not self._books.shared:
            return
        try:
            with self._books as page:
                self._now(page)
                late = self._left_untold(page) if page.totals.untold else []
                if not late:
                    return
                event = self._claim(page, late[-1].agent, [row.percent for row in late])
        except BudgetStoreError:  # said aloud when it was opened
            return
        self._tell(event)

    def _note_told(self, percents: list[int]) -> None:
        with self._books as page:
            for crossing in page.untold():
                if crossing.percent in percents:
                    crossing.told = 1
                    page.cross(crossing)
                    page.totals.untold -= 1

    def _event(
        self, kind: Literal["denied", "rebalanced", "alert"], page: Page, agent: str, detail: str
    ) -> BudgetEvent:
        totals = page.totals
        return BudgetEvent(
            kind=kind,
            budget=self.name,
            agent=agent,
            spent_tokens=totals.spent,
            held_tokens=totals.held,
            limit_tokens=totals.total_tokens,
            detail=detail,
            run=self.run or None,
            at=datetime.now(UTC),
        )

    def _tell(self, event: BudgetEvent) -> None:
        """Tell after the books are closed: a sink may look at the budget."""
        for sink in self._sinks:
            try:
                sink.record(event)
            except Exception as error:  # noqa: BLE001  foreign code; a hold must not be lost by it
                self._warn("sink", f"a sink of the budget {self.name!r} failed: {error!r}")
        if event.kind == "alert":
            self._alert.tell(event)
            told = self._telling.pop(event.id)
            try:
                self._note_told(told)
            except (BudgetStoreError, ReenteredError) as error:
                self._later(lambda: self._note_told(told), error)


def reports_in(store: str | Path) -> list[BudgetReport]:
    """Return a report of every account in a store, by name and run.

    Raises:
        BudgetStoreError: There is no such file, or it cannot be read.
    """
    from langchain_tokenopt.budget.store import SqliteBooks, accounts_in

    reports = []
    for name, run, totals in accounts_in(store):
        books = SqliteBooks(store, name, run, totals)
        with books as page:
            reports.append(_report(name, run, page))
        books.close()
    return reports


# Arithmetic on one reservation


def _end(totals: Totals, line: Line, row: HoldRow, charge: int, nano: int) -> int:
    """Put a charge in the place of what *row* holds or was charged; return how much that was."""
    if row.charged is None:
        arithmetic.move(
            totals, line, spent=charge, held=-row.tokens, nano=nano, held_nano=-row.nano_usd
        )
        return row.tokens
    if row.charged:  # its lease had ended: that counted as a call without known usage
        line.calls -= 1
        line.estimated -= 1
    arithmetic.move(totals, line, spent=charge - row.charged, nano=nano - row.charged_nano)
    return row.charged


def _await(totals: Totals, row: HoldRow) -> None:
    """See that the end of this lease is not missed."""
    if totals.earliest is None or row.expires < totals.earliest:
        totals.earliest = row.expires


def _revive(totals: Totals, line: Line, row: HoldRow) -> None:
    """Hold again what was charged when the lease ended."""
    charged = row.charged or 0
    line.calls -= charged > 0
    line.estimated -= charged > 0
    arithmetic.move(
        totals,
        line,
        spent=-charged,
        held=row.tokens,
        nano=-row.charged_nano,
        held_nano=row.nano_usd,
    )
    row.charged, row.charged_nano = None, 0


def _hold_of(row: HoldRow, totals: Totals, output: int, input_tokens: int) -> Hold:
    ratio = (totals.spent + totals.held) / totals.total_tokens
    return Hold(row.id, row.agent, row.tokens, input_tokens, output, ratio, row.run_id)


def _enlarged(hold: Hold, tokens: int) -> Hold:
    return replace(
        hold, tokens=hold.tokens + tokens, max_output_tokens=hold.max_output_tokens + tokens
    )


def _reason_against(
    totals: Totals, line: Line, room: int, least: int, cost: int | None, *, held: int = 0
) -> Reason | None:
    if totals.latched:
        return "stopped"
    left = totals.left_nano
    if left is not None:
        if cost is None:
            return "unpriced"
        if cost - held > left:
            return "money"
    if room >= least:
        return None
    if totals.left < least:
        return "total"
    if line.cap is not None and line.cap - line.used < least:
        return "cap"
    return "share"


def _limit(totals: Totals, line: Line, reason: Reason) -> int:
    if reason == "cap" and line.cap is not None:
        return line.cap
    if reason == "share" and line.allocated > line.returned:
        return line.allocated - line.returned
    return totals.total_tokens


def _report(name: str, run: str, page: Page) -> BudgetReport:
    totals = page.totals
    agents = {
        line.agent: AgentReport(
            agent=line.agent,
            allocated_tokens=line.allocated,
            spent_tokens=line.spent,
            held_tokens=line.held,
            available_tokens=arithmetic.room_for(totals, line),
            returned_tokens=line.returned,
            surplus_tokens=line.surplus,
            possible_surplus_tokens=line.possible,
            saved_tokens=line.saved,
            calls=line.calls,
            denied_calls=line.denied,
            estimated_calls=line.estimated,
            floor_tokens=line.floor,
            cap_tokens=line.cap,
            finished=bool(line.finished),
            spent_nano_usd=line.spent_nano,
        )
        for line in page.lines()
    }
    return BudgetReport(
        budget=name,
        run=run,
        total_tokens=totals.total_tokens,
        spent_tokens=totals.spent,
        held_tokens=totals.held,
        pool_tokens=max(totals.total_tokens - totals.claimed, 0),
        surplus_tokens=totals.surplus,
        possible_surplus_tokens=totals.possible,
        saved_tokens=totals.saved,
        total_nano_usd=totals.total_nano_usd,
        spent_nano_usd=totals.spent_nano,
        held_nano_usd=totals.held_nano,
        unpriced_calls=totals.unpriced,
        alerts=tuple(page.crossed()),
        stopped=bool(totals.latched),
        agents=agents,
    )


# Reading what was given


def _usage_of(usage: Usage | Mapping[str, Any] | None) -> Usage | None:
    """Return a usage that can be charged; ``None`` where nothing is known or it cannot be true."""
    if not usage:
        return None
    told = usage if isinstance(usage, Usage) else Usage.from_metadata(usage)
    return None if min(told.input_tokens, told.output_tokens) < 0 else told


def _tokens(**counts: int) -> int:
    """Return the sum of counts that must be whole and not negative."""
    for name, count in counts.items():
        if not isinstance(count, int) or isinstance(count, bool) or count < 0:
            raise ValueError(f"{name} must be a whole number of at least 0, got {count!r}.")
    return sum(counts.values())


def _nano(usd: Decimal | float | str | None) -> int | None:
    if usd is None:
        return None
    try:
        nano = int(Decimal(str(usd)) * _NANO)
    except (ArithmeticError, ValueError):  # no number, not a number, infinite
        nano = 0
    if nano <= 0:
        raise ValueError(
            f"total_usd must be a number above 0, got {usd}. Leave it out for no limit."
        )
    return nano


def _check_settings(total_tokens: int, lease_seconds: float, margin: float) -> None:
    if not isinstance(total_tokens, int) or isinstance(total_tokens, bool) or total_tokens <= 0:
        raise ValueError(
            f"total_tokens must be a whole number above 0, got {total_tokens!r}. "
            f"A budget of nothing would refuse every call."
        )
    if not lease_seconds > 0:
        raise ValueError(f"lease_seconds must be above 0, got {lease_seconds}.")
    if not margin >= 0:
        raise ValueError(f"cancelled_margin must be at least 0, got {margin}. 0.25 means 25 %.")


def _check_choice(name: str, given: str, *choices: str) -> None:
    if given not in choices:
        listed = " or ".join(f'"{choice}"' for choice in choices)
        raise ValueError(f"{name} must be {listed}, got {given!r}.")


def _listed(amounts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {amount:,}" for name, amount in sorted(amounts.items()))


def _usd(nano: int | None) -> str:
    return "an unknown number of" if nano is None else f"{Decimal(max(nano, 0)) / _NANO:f}"


def _told(tokens: int, nano: int | None) -> str:
    return f"{tokens:,} tokens" + ("" if nano is None else f" and {Decimal(nano) / _NANO} USD")
