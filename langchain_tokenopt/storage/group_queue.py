"""Changes that wait for each other share a transaction and its round trips: group commit.

Who changes what others are changing has to wait anyway. So all threads of a process that wait for
the same thing go on together, in one transaction: one after the other, each with what those before
it have left. Who need not wait does not.

Which transactions there are, and what they change, is read from one list of those who are here.
Each step is one assignment, so Ctrl-C leaves nothing half done.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Generator, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Final, Generic, Protocol, TypeVar

from langchain_tokenopt.storage import forks
from langchain_tokenopt.storage.errors import PostgresError

__all__ = ["GroupQueue", "SharedTransaction"]

_MOST: Final = 64
"""Changes in one transaction: others wait for its locks."""
_PATIENCE_SECONDS: Final = 0.25
"""How long one waits for a transaction of other things. Waiting together is cheaper than each in a
transaction of its own, unless one of them stands still."""
_MOMENT_SECONDS: Final = 0.005
"""How long a transaction waits for those who came together the last time."""


class SharedTransaction(Protocol):
    """A transaction that several changes share."""

    def commit(self) -> None:
        """Write everything, and give the locks back."""
        ...

    def flush(self) -> None:
        """Return when what was committed is on the disk."""
        ...


Wish = TypeVar("Wish")
Shared = TypeVar("Shared", bound=SharedTransaction)


class _Group(Generic[Wish, Shared]):
    """Those who share a transaction."""

    def __init__(self, leader: _Ticket[Wish, Shared]) -> None:
        self.leader = leader
        """Who opens the transaction."""
        self.error: Exception | None = PostgresError("the transaction was interrupted. Try again")
        """Why it is not on the disk."""
        self.began = time.monotonic()
        self.ended = threading.Event()


class _Ticket(Generic[Wish, Shared]):
    """One who is here: waits, or has a group."""

    def __init__(self, wish: Wish, places: frozenset[Hashable]) -> None:
        self.wish = wish
        self.places = places
        self.group: _Group[Wish, Shared] | None = None
        self.shared: Shared | None = None
        self.turn = threading.Event()
        self.done = threading.Event()

    @property
    def leads(self) -> bool:
        return self.group is not None and self.group.leader is self


class GroupQueue(Generic[Wish, Shared]):
    """Where changes wait for their turn: ``with queue.turn(wish, places) as shared:``.

    Within the block a change is alone with *places*. Leaving it normally returns when everything is
    on the disk; leaving it by an exception undoes nothing: a change must keep to itself what is not
    whole yet.

    Args:
        open_group: Opens a transaction for some wishes, and ends it.
        most_groups: How many transactions there are at once, where some of them take long.
        wait_seconds: How long one waits for one's turn, and for one that stands still.
    """

    def __init__(
        self,
        open_group: Callable[[Sequence[Wish]], AbstractContextManager[Shared]],
        most_groups: int,
        wait_seconds: float,
    ) -> None:
        self._open = open_group
        self._wait_seconds = wait_seconds
        self._most_groups = most_groups
        self.lock: Final = forks.ForkLock()
        """Held by nobody: a fork need not wait, for its child begins anew."""
        self._begin()
        forks.register(self)

    def _begin(self) -> None:
        self._lock = threading.RLock()  # which Ctrl-C does not interrupt
        self._tickets: list[_Ticket[Wish, Shared]] = []
        self._expected = 1
        """How many may come together, as far as one can tell."""
        self._complete = threading.Event()

    @contextmanager
    def turn(self, wish: Wish, places: frozenset[Hashable]) -> Iterator[Shared]:
        """Wait for one's turn.

        Args:
            wish: What the transaction is to be opened for.
            places: What is changed. Two who change the same are never in two transactions.

        Raises:
            PostgresError: It did not come, one in the same transaction stands still, or the thread
                that does it for all was interrupted.
            Exception: What opening or committing has raised, in each that was in it.
        """
        if sys.is_finalizing():  # daemon threads stand still by now, some of them here
            raise PostgresError("Python is about to end")
        ticket: _Ticket[Wish, Shared] = _Ticket(wish, places)
        try:
            try:
                self._wait(ticket)
                yield from self._lead(ticket) if ticket.leads else self._follow(ticket)
            finally:
                self._leave(ticket)
        finally:  # once more: Ctrl-C may have come in the middle of it
            self._leave(ticket)

    def _follow(self, ticket: _Ticket[Wish, Shared]) -> Generator[Shared, None, None]:
        group = ticket.group
        assert group is not None
        if ticket.shared is not None:
            yield ticket.shared
            ticket.done.set()
        group.ended.wait()
        if group.error is not None:
            raise group.error

    def _lead(self, leader: _Ticket[Wish, Shared]) -> Generator[Shared, None, None]:
        group = leader.group
        assert group is not None
        own: BaseException | None = None
        try:
            others = self._gathered(leader)
            with self._open([ticket.wish for ticket in (leader, *others)]) as shared:
                try:
                    yield shared
                except BaseException as error:  # noqa: BLE001  # the others go on
                    own = error
                for ticket in others:
                    self._give_turn(ticket, shared)
                shared.commit()
                self._free(group)
                shared.flush()
            group.error = None
        except Exception as error:
            group.error = error
            if own is None:
                raise
        if own is not None:
            raise own

    def _give_turn(self, ticket: _Ticket[Wish, Shared], shared: Shared) -> None:
        ticket.shared = shared
        ticket.turn.set()
        if not ticket.done.wait(self._wait_seconds):
            raise PostgresError(
                f"a change in the same transaction stands still since {self._wait_seconds:.0f} "
                f"seconds. Try again"
            )

    # Who is here

    @property
    def _waiting(self) -> list[_Ticket[Wish, Shared]]:
        return [ticket for ticket in self._tickets if ticket.group is None]

    def _busy(self) -> list[_Ticket[Wish, Shared]]:
        """Return who is in a transaction, unless that stands still: it has lost its locks."""
        since = time.monotonic() - 2 * self._wait_seconds
        return [each for each in self._tickets if each.group and each.group.began > since]

    def _wait(self, ticket: _Ticket[Wish, Shared]) -> None:
        with self._lock:
            self._tickets.append(ticket)
            self._start(1)
            if len(self._waiting) + 1 >= self._expected:  # and the one who leads
                self._complete.set()
        deadline = time.monotonic() + self._wait_seconds
        while not ticket.turn.wait(_PATIENCE_SECONDS):
            with self._lock:
                self._start(self._most_groups)
                if ticket.leads:  # also where who said so was interrupted before it was heard
                    return
            if time.monotonic() > deadline:
                raise PostgresError(
                    f"others have been at it for {self._wait_seconds:.0f} seconds. Try again"
                )

    def _leave(self, ticket: _Ticket[Wish, Shared]) -> None:
        ticket.done.set()
        with self._lock:
            group = ticket.group
            if group is None:
                self._tickets = [each for each in self._tickets if each is not ticket]
            elif group.leader is ticket:
                group.ended.set()
                for each in self._tickets:
                    if each.group is group:
                        each.turn.set()
                self._free(group)

    def _start(self, most_groups: int) -> None:
        """Let the first who is not in anybody's way open a transaction; with the lock."""
        busy = self._busy()
        if len({ticket.group for ticket in busy}) >= most_groups:
            return
        blocked = {place for ticket in busy for place in ticket.places}
        for ticket in self._waiting:
            if blocked.isdisjoint(ticket.places):
                ticket.group = _Group(ticket)
                ticket.turn.set()
                return
            blocked |= ticket.places  # nobody who comes later overtakes it

    def _gathered(self, leader: _Ticket[Wish, Shared]) -> list[_Ticket[Wish, Shared]]:
        """Return who goes with *leader*, after a moment in which more of them may come."""
        with self._lock:
            is_complete = len(self._waiting) + 1 >= self._expected
            self._complete.clear()
        if not is_complete:
            self._complete.wait(_MOMENT_SECONDS)
        group: list[_Ticket[Wish, Shared]] = []
        with self._lock:
            busy = [ticket for ticket in self._busy() if ticket.group is not leader.group]
            blocked = {place for ticket in busy for place in ticket.places}
            for ticket in self._waiting:
                if len(group) + 1 < _MOST and blocked.isdisjoint(ticket.places):
                    ticket.group = leader.group
                    group.append(ticket)
                else:
                    blocked |= ticket.places
        return group

    def _free(self, group: _Group[Wish, Shared]) -> None:
        """Let others change the same; a second time does nothing."""
        with self._lock:
            left = [ticket for ticket in self._tickets if ticket.group is not group]
            if len(left) < len(self._tickets):
                together = [each for each in self._tickets if each.group in (None, group)]
                self._expected = min(len(together), _MOST)
                self._tickets = left
            self._start(1)

    # Forks

    def before_fork(self) -> None:
        """Do nothing: the child has no thread that waits."""

    def after_fork_in_child(self) -> None:
        """Begin anew."""
        self._begin()
