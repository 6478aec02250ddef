"""A token budget as an account: reserve before the call, settle after it, never overdraw.

A guard that looks at the bill after the call has already lost: eight agents that start together
spend eight times the limit. So a call first reserves what it can cost at most (its input is
counted, its output is bounded by ``max_tokens``), and is sent only if that is granted. Spent and
held tokens together never exceed the total, at any instant, whatever threads, tasks and processes
do.

What was billed counts: every attempt that reached the provider is charged; the same event reported
twice is one. A provider that bills more than was reserved (it counts otherwise than we do) is the
one thing that no reservation prevents; that part is reported apart, as ``surplus_tokens``, and
reduces what is left.

Nobody reports what a stream has cost that was cut off. It is charged for what arrived and a margin,
for what a provider writes until it notices; a provider that never notices writes on up to the
call's ``max_tokens``. The difference is no secret: it is summed up as ``possible_surplus_tokens``.
So the bill never exceeds what is spent and that sum, and with
``cancellation_charge="reservation"``, which charges all of it, it never exceeds what is spent.
"""

from __future__ import annotations

import math
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self
from uuid import UUID

from langchain_tokenopt.budget import leases
from langchain_tokenopt.budget import shares as shares_of
from langchain_tokenopt.budget.account_changes import AccountSettings, Change
from langchain_tokenopt.budget.account_stores import open_store
from langchain_tokenopt.budget.account_view import AccountView
from langchain_tokenopt.budget.alerts import AlertCallback, BudgetAlert, alert_of
from langchain_tokenopt.budget.allocation import AllocationStrategy, Claim
from langchain_tokenopt.budget.arithmetic import Outcome
from langchain_tokenopt.budget.exclusive_account import ExclusiveAccount
from langchain_tokenopt.budget.holds import Denial, Hold, Settlement
from langchain_tokenopt.budget.levels import (
    NOBODY,
    AccountLevel,
    BudgetLimit,
    Expects,
    Owners,
    check_levels,
)
from langchain_tokenopt.budget.memory_accounts import MemoryAccountStore
from langchain_tokenopt.budget.records import (
    LEASE_SECONDS,
    AccountTotals,
    BudgetStoreError,
)
from langchain_tokenopt.budget.room import NO_DEMANDS, Demands
from langchain_tokenopt.budget.strategies import divide, strategy_for
from langchain_tokenopt.budget.windows import Window, zone_of
from langchain_tokenopt.core.argument_checks import check_choice, check_whole
from langchain_tokenopt.core.dimensions import Per
from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.core.records import UsageSink
from langchain_tokenopt.core.usage import Usage

__all__ = ["TokenBudget"]


class TokenBudget(AccountView):
    """A number of tokens that any agents share and never exceed.

    Safe for threads and tasks; with a *path*, for processes and for runs that are resumed: whoever
    opens the same path, name and run works on the same account.

    Reservations are leases. One that is neither settled nor released when its lease ends, be it
    that its process was killed, counts as a call that was sent: it is charged in full, so that the
    account is never below the bill. If its end is reported after all, the charge is corrected.

    ``with budget:`` closes its file at the end, when the last of such blocks has ended.

    Args:
        total_tokens: What may be spent, input and output together.
        total_usd: What may be spent in US dollars, besides; then every reservation needs a price.
        path: A file (or a URL ``sqlite:///file``) that several processes share, or a database that
            several machines share: ``postgresql://user@host/database``.
        name: Name of the budget.
        run: Which run of it; each run has an account of its own.
        alert: Tells when the budget runs low: a ``BudgetAlert``, or a function of the event.
            Another one can be set later.
        sinks: Receive denials, moved tokens and alerts, as ``BudgetEvent``.
        lease_seconds: How long a reservation is held without news of its call.
        on_store_error: When the file cannot be reached, ``"closed"`` refuses reservations,
            ``"open"`` grants them uncounted; both warn. A call whose end cannot be written stays
            held, and is charged in full when its lease ends.
        cancellation_charge: What is charged for a stream that was cut off: ``"margin"``: what
            arrived and a quarter of it, at least 64 tokens, or ``"reservation"``: all that the
            provider may have written, so that the bill cannot exceed the account even if the
            provider never notices.
        window: How long the total is for: each ``"hour"``, ``"day"``, ``"week"`` or ``"month"``
            brings a new one; ``"run"``: it is never renewed.
        timezone: Whose clocks say when a window begins.
        within: Limits around this one. A call is paid from all of them, or it is refused.
        scope: Without a path, limits that have no name of their own are shared by the budgets of
            the same name and scope in this process.
        part: ``"user"``, ``"organization"`` or ``"thread"``: each that calls has the total for
            itself; otherwise all share it.
        clock: Seconds, with windows or a path those since 1970; by default the time of day (that of
            the server, where there is one), or a monotonic clock where neither is given. Jumps can
            end a lease early, but never overdraw an account, and a window that comes again has what
            it had left.

    Raises:
        ValueError: A total is not above 0, or the stored account has other totals.
        UnknownTimeZoneError: There is no such time zone.
        BudgetStoreError: The file cannot be opened, and the budget is one that fails closed.

    Example:
        >>> budget = TokenBudget(total_tokens=1_000)
        >>> hold = budget.reserve("writer", input_tokens=300, max_output_tokens=200)
        >>> budget.report().held_tokens
        500
        >>> budget.settle(hold, Usage(input_tokens=300, output_tokens=120)).charged_tokens
        420
        >>> budget.reserve("reader", 500, 100)  # doctest: +ELLIPSIS
        Denial(agent='reader', needed_tokens=600, available_tokens=580, limit_tokens=1000, ...)
        >>> budget.reserve("reader", 500, 100, min_output_tokens=80).max_output_tokens
        80
    """

    def __init__(
        self,
        total_tokens: int,
        total_usd: Decimal | float | str | None = None,
        path: str | Path | None = None,
        name: str = "default",
        *,
        run: str = "",
        alert: BudgetAlert | AlertCallback | None = None,
        sinks: Iterable[UsageSink] = (),
        lease_seconds: float = LEASE_SECONDS,
        on_store_error: Literal["closed", "open"] = "closed",
        cancellation_charge: Literal["margin", "reservation"] = "margin",
        window: Window = "run",
        timezone: str = "UTC",
        within: Iterable[BudgetLimit] = (),
        scope: str = "",
        part: Per | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        check_choice("on_store_error", on_store_error, "closed", "open")
        check_choice("cancellation_charge", cancellation_charge, "margin", "reservation")
        if not 0 < lease_seconds < math.inf:
            raise ValueError(f"lease_seconds must be a number above 0; got {lease_seconds}.")
        totals = AccountTotals.of(total_tokens, total_usd)
        self.total_tokens: Final = total_tokens
        self.name: Final = name
        self.run: Final = run
        self._on_store_error = on_store_error
        self._cancellation_charge = cancellation_charge
        self._warned: set[str] = set()
        self._unrecorded: set[str] = set()
        """Holds that the account does not know, and that have not been settled."""
        self._blocks: deque[None] = deque()
        """An entry for every open ``with budget:``; adding and removing one is atomic."""
        limits = list(within)
        zone = zone_of(timezone).key
        own = AccountLevel(name, "run", totals, window, zone, run, part=part)
        around = [AccountLevel.of(limit, name=name, run=run, scope=scope) for limit in limits]
        check_levels([own, *around])
        store = MemoryAccountStore() if path is None else open_store(path, name)
        settings = AccountSettings(lease_seconds, alert_of(alert) or BudgetAlert())
        tells_time = path is not None or any(level.window != "run" for level in (own, *around))
        if clock is None:
            clock = getattr(store, "clock", time.time if tells_time else time.monotonic)
        self._account = ExclusiveAccount(store, (own, *around), settings, sinks, clock)
        if path is not None:
            self._check_stored(totals)

    def _check_stored(self, totals: AccountTotals) -> None:
        """Open the store for the first time, and compare what it has with what was asked for."""
        try:
            self._account.change(_check_totals, totals, self._account.store)
        except BudgetStoreError as error:
            if self._on_store_error == "closed":
                raise
            self._warn_uncounted(error)
        except ValueError:
            self.close()
            raise

    @property
    def alert(self) -> BudgetAlert:
        """Who is told when the budget runs low."""
        return self._account.settings.alert

    @alert.setter
    def alert(self, alert: BudgetAlert) -> None:
        self._account.settings.alert = alert

    @property
    def blocking(self) -> bool:
        """True when it waits for a disk: async callers then use a thread."""
        return self._account.store.shared

    def set_default_owners(self, owners: Callable[[], Owners]) -> None:
        """Say on whose account shares are moved and reports are made."""
        self._account.default_owners = owners

    # Before the call

    def reserve(
        self,
        agent: str,
        input_tokens: int,
        max_output_tokens: int,
        *,
        min_output_tokens: int | None = None,
        run_id: UUID | str | None = None,
        cost_nano_usd: leases.CallCost = None,
        owners: Owners = NOBODY,
        demands: Demands = NO_DEMANDS,
        tentative: bool = False,
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
            cost_nano_usd: What the call can cost at most, in billionths of a US dollar; or a
                function that says so for a number of output tokens: then, where the money does not
                reach, a smaller answer is held for, too.
            owners: On whose account it goes, where there are limits per user, organization or
                thread.
            demands: What calls that are still to come need: it is left to them.
            tentative: Whether the caller will ask for less if it is denied: nothing is noted then.

        Returns:
            A hold, or a denial that says what was available. Nothing waits: a denied caller may
            ask for less, or again later.

        Raises:
            ValueError: A number is negative, or the least answer exceeds the greatest.
        """
        check_whole("input_tokens", input_tokens, least=0)
        check_whole("max_output_tokens", max_output_tokens, least=0)
        least = max_output_tokens
        if min_output_tokens is not None:
            least = check_whole("min_output_tokens", min_output_tokens, least=0)
        if least > max_output_tokens:
            raise ValueError(
                f"min_output_tokens ({least:,}) exceeds max_output_tokens ({max_output_tokens:,})."
            )
        key = None if run_id is None else str(run_id)
        try:
            return self._account.change_all(
                owners,
                leases.reserve,
                agent,
                input_tokens,
                max_output_tokens,
                least,
                key,
                cost_nano_usd,
                demands,
                tentative,
                expects=Expects(agent, run_id=key),
            )
        except BudgetStoreError as error:
            return self.without_store(error, agent, input_tokens, max_output_tokens, owners)

    def admit(
        self, agent: str, input_tokens: int, max_output_tokens: int, owners: Owners = NOBODY
    ) -> Hold:
        """Let a call through without reserving for it; settled, all that it has used is surplus.

        For those who only want to watch.
        """
        needed = check_whole("input_tokens", input_tokens, least=0)
        needed += check_whole("max_output_tokens", max_output_tokens, least=0)
        hold = Hold(
            leases.new_id(),
            agent,
            needed,
            input_tokens,
            max_output_tokens,
            0.0,
            recorded=False,
            accounts=self.accounts(owners),
        )
        self._unrecorded.add(hold.id)
        return hold

    def without_store(
        self,
        error: BudgetStoreError,
        agent: str,
        input_tokens: int,
        max_output_tokens: int,
        owners: Owners = NOBODY,
    ) -> Hold | Denial:
        """Decide on a call while the store cannot be reached, as *on_store_error* says; warn."""
        if self._on_store_error == "open":
            self._warn_uncounted(error)
            return self.admit(agent, input_tokens, max_output_tokens, owners)
        self._warn("closed", f"the budget {self.name!r} refuses every call: {error}")
        needed = input_tokens + max_output_tokens
        return Denial(
            *(agent, needed, 0, self.total_tokens, "store", self.name),
            store_error=str(error),
            is_passing=error.is_passing,
        )

    # After the call

    def settle(
        self,
        hold: Hold,
        usage: Usage | Mapping[str, Any] | None,
        *,
        outcome: Outcome = "answered",
        cost_nano_usd: leases.CallCost = None,
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
            cost_nano_usd: What it cost; when unknown, what was held for it. Or a function that says
                it for a number of output tokens, where only a bound of these is known.
            most_tokens: Where the call's ``max_tokens`` allowed less than was reserved: the most
                that it can have been billed. It bounds what is charged when that is not known.

        Returns:
            What was charged and what became free; from within a change of the same account, what
            will be charged when that is over.
        """
        end = leases.end_of(
            hold,
            usage,
            outcome,
            cost_nano_usd,
            most_tokens,
            cancellation_charge=self._cancellation_charge,
        )
        return self._settle(hold, end)

    def _settle(self, hold: Hold, end: leases.CallEnd) -> Settlement:
        try:
            return self._account.change_held(hold, leases.settle, end, self._unrecorded)
        except BudgetStoreError as error:
            if not self._account.defer(partial(self._settle, hold, end)):
                self._warn_unwritten(hold, error)
            return end.expected()

    def release(self, hold: Hold) -> bool:
        """Free a reservation whose call never reached the provider.

        A call that failed after it was sent may have been billed: settle it, with ``None`` when
        nothing is known.

        Returns:
            True when tokens became free; False when it was settled or released before.
        """
        self._unrecorded.discard(hold.id)
        try:
            return self._account.change_held(hold, leases.release)
        except BudgetStoreError as error:
            if not self._account.defer(partial(self.release, hold)):
                self._warn_unwritten(hold, error)
            return False

    def charge(
        self,
        agent: str,
        usage: Usage | Mapping[str, Any],
        *,
        cost_nano_usd: int | None = None,
        owners: Owners = NOBODY,
    ) -> Settlement:
        """Charge a call that was made without a reservation; all of it is surplus.

        Args:
            agent: Who called.
            usage: What the call has used.
            cost_nano_usd: What it cost, when known.
            owners: As for :meth:`reserve`.

        Raises:
            ValueError: The usage is not known, or negative.
        """
        used = leases.usage_of(usage)
        if used is None:
            raise ValueError(
                f"a charge without a reservation needs a usage of 0 tokens or more, got {usage!r}."
            )
        hold = self.admit(agent, 0, 0, owners)
        return self.settle(hold, used, cost_nano_usd=cost_nano_usd)

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
            BudgetStoreError: The store cannot be reached, and the budget fails closed. One that
                fails open goes on without shares.
        """
        wanted, chosen = list(claims), strategy_for(strategy)
        self._account.divide = partial(
            shares_of.allocate, claims=wanted, strategy=chosen, buffer=buffer
        )
        try:
            return self._account.change(shares_of.allocate, wanted, chosen, buffer)
        except BudgetStoreError as error:
            if self._on_store_error == "closed":
                raise
            self._warn_uncounted(error)
            return divide(self.total_tokens - buffer, wanted, chosen)

    def finish(self, agent: str) -> int:
        """Say that *agent* will not call again: what it has left of its share goes to the pool.

        Should the agent call after all, it borrows from the pool; see :meth:`reopen`.

        Returns:
            How much that is; 0, with a warning, while the store cannot be reached.
        """
        try:
            return self._account.change(shares_of.finish, agent)
        except BudgetStoreError as error:
            self._warn("shares", f"{agent!r} keeps its share: {error}")
            return 0

    def reopen(self, agent: str, share: int) -> bool:
        """Take a finished agent's share back for it from the pool, as far as nobody has used it.

        For agents that come back after all, such as in the next turn of a conversation.

        Args:
            agent: Who comes back. One that has not finished keeps what it has.
            share: What it began with; its floor, where that is more.

        Returns:
            Whether it had finished; False, with a warning, while the store cannot be reached.
        """
        try:
            return self._account.change(shares_of.reopen, agent, share)
        except BudgetStoreError as error:
            self._warn("shares", f"{agent!r} does not get its share back: {error}")
            return False

    def stop(self) -> None:
        """Refuse every further reservation, in all processes; what is held may still be settled.

        Raises:
            BudgetStoreError: The store cannot be reached.
        """
        self._account.change(_stop)

    # For checkpoints

    def snapshot(self) -> dict[str, Any]:
        """Return what was spent and is held, per agent, as plain values for a checkpoint.

        While the store cannot be reached, or where the total is renewed, it names no agents: to
        :meth:`restore` it says nothing.
        """
        try:
            agents = self._account.change(shares_of.snapshot)
            if self._account.levels[0].window != "run":  # it may be restored in another window
                agents = {}
        except BudgetStoreError as error:
            self._warn("snapshot", f"a checkpoint was made without the account: {error}")
            agents = {}
        return {
            "budget": self.name,
            "run": self.run,
            "total_tokens": self.total_tokens,
            "agents": agents,
        }

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Go on from a :meth:`snapshot`: nobody has spent less than it says.

        Calls that it says are held are charged: they were cut off. Restoring it again, or one
        that is older than the account, changes nothing.

        Raises:
            BudgetStoreError: The store cannot be reached.
        """
        self._account.change(shares_of.restore, snapshot["agents"])

    # Beginning and end

    def __enter__(self) -> Self:
        self._blocks.append(None)
        self._account.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._blocks.pop()
        if not self._blocks:
            self.close()

    def close(self) -> None:
        """Let go of the file. The account can still be used: it opens its file for each change."""
        self._account.close()

    # Warnings

    def _warn_uncounted(self, error: BudgetStoreError) -> None:
        self._warn("open", f"the budget {self.name!r} lets calls through without counting: {error}")

    def _warn_unwritten(self, hold: Hold, error: BudgetStoreError) -> None:
        what = (
            f"{hold.tokens:,} tokens stay held for {hold.agent!r} and are charged when their lease "
            f"ends"
            if hold.recorded
            else f"a call of {hold.agent!r} was not counted"
        )
        self._warn(
            "unwritten", f"the budget {self.name!r} could not be written, so {what}: {error}"
        )

    def _warn(self, what: str, message: str) -> None:
        """Say it once."""
        if what not in self._warned:
            self._warned.add(what)
            warnings.warn(message, TokenOptWarning, stacklevel=4)


def _stop(change: Change) -> None:
    change.totals.stopped = True


def _check_totals(change: Change, wanted: AccountTotals, store: object) -> None:
    has, asked = change.totals.described(), wanted.described()
    if has != asked:
        raise ValueError(
            f"{change.key} (run {change.key.owner!r}) in {store} has {has}, but {asked} were asked "
            f"for. Use the same totals, or another name or run."
        )
