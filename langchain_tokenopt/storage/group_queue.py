"""Changes that wait for each other share a transaction and its round trips: group commit.

Who changes what others are changing has to wait anyway. So all threads of a process that wait for
the same thing go on together, in one transaction: one after the other, each with what those before
it have left. Who need not wait does not.
"""

from __future__ import annotations

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


class _Ticket(Generic[Wish, Shared]):
    """One who waits."""

    def __init__(self, wish: Wish, places: frozenset[Hashable]) -> None:
        self.wish = wish
        self.places = places
        self.leads = False
        """Whether it opens the transaction; otherwise another one does for it."""
        self.shared: Shared | None = None
        self.error: Exception | None = None
        self.turn = threading.Event()
        self.done = threading.Event()
        self.ended = threading.Event()


class GroupQueue(Generic[Wish, Shared]):
    """Where changes wait for their turn: ``with queue.turn(wish, places) as shared:``.

    Within the block a change is alone with *places*. Leaving it normally returns when everything is
    on the disk; leaving it by an exception undoes nothing: a change must keep to itself what is not
    whole yet.

    Args:
        open_group: Opens a transaction for some wishes, and ends it.
        most_groups: How many transactions there are at once, where one stands still.
        wait_seconds: How long one waits for one's turn.
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
        self._lock = forks.ForkLock()
        self._waiting: list[_Ticket[Wish, Shared]] = []
        self._busy: set[Hashable] = set()
        self._groups = 0
        self._expected = 1
        """How many may come together, as far as one can tell."""
        self._complete = threading.Event()
        forks.register(self)

    @contextmanager
    def turn(self, wish: Wish, places: frozenset[Hashable]) -> Iterator[Shared]:
        """Wait for one's turn.

        Args:
            wish: What the transaction is to be opened for.
            places: What is changed. Two who change the same are never in two transactions.

        Raises:
            PostgresError: It did not come, or the thread that does it for all was interrupted.
            Exception: What opening or committing has raised, in each that was in it.
        """
        ticket: _Ticket[Wish, Shared] = _Ticket(wish, places)
        try:
            self._wait(ticket)
        except BaseException:  # such as Ctrl-C
            self._withdraw(ticket)
            raise
        yield from self._lead(ticket) if ticket.leads else self._follow(ticket)

    def _follow(self, ticket: _Ticket[Wish, Shared]) -> Generator[Shared, None, None]:
        try:
            if ticket.shared is not None:
                yield ticket.shared
        finally:
            ticket.done.set()
        ticket.ended.wait()
        if ticket.error is not None:
            raise ticket.error

    def _lead(self, leader: _Ticket[Wish, Shared]) -> Generator[Shared, None, None]:
        own: BaseException | None = None
        failed: Exception | None = PostgresError("the transaction was interrupted. Try again")
        group, is_free = [leader], False
        try:
            group += self._gathered(leader)
            with self._open([ticket.wish for ticket in group]) as shared:
                try:
                    yield shared
                except BaseException as error:  # noqa: BLE001  # the others go on
                    own = error
                for ticket in group[1:]:
                    ticket.shared = shared
                    ticket.turn.set()
                    ticket.done.wait()
                shared.commit()
                self._free(group)
                is_free = True
                shared.flush()
            failed = None
        except Exception as error:
            failed = error
            raise
        finally:
            for ticket in group[1:]:
                ticket.error = failed
                ticket.ended.set()
                ticket.turn.set()
            if not is_free:
                self._free(group)
        if own is not None:
            raise own

    # Who waits

    def _wait(self, ticket: _Ticket[Wish, Shared]) -> None:
        with self._lock:
            self._waiting.append(ticket)
            self._start(1)
            if len(self._waiting) >= self._expected:
                self._complete.set()
        deadline = time.monotonic() + self._wait_seconds
        while not ticket.turn.wait(_PATIENCE_SECONDS):
            if time.monotonic() > deadline:
                raise PostgresError(
                    f"others have been at it for {self._wait_seconds:.0f} seconds. Try again"
                )
            with self._lock:
                self._start(self._most_groups)

    def _withdraw(self, ticket: _Ticket[Wish, Shared]) -> None:
        ticket.done.set()
        with self._lock:
            if ticket in self._waiting:
                self._waiting.remove(ticket)
            elif ticket.leads:
                self._free([ticket])

    def _start(self, most_groups: int) -> None:
        """Let the first who is not in anybody's way open a transaction; with the lock."""
        blocked = set(self._busy)
        for ticket in self._waiting if self._groups < most_groups else ():
            if blocked.isdisjoint(ticket.places):
                self._waiting.remove(ticket)
                self._busy |= ticket.places
                self._groups += 1
                ticket.leads = True
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
        with self._lock:
            blocked = self._busy - leader.places
            group: list[_Ticket[Wish, Shared]] = []
            waiting = []
            for ticket in self._waiting:
                if len(group) + 1 < _MOST and blocked.isdisjoint(ticket.places):
                    group.append(ticket)
                else:
                    waiting.append(ticket)
                    blocked |= ticket.places
            self._waiting = waiting
            self._busy.update(*(ticket.places for ticket in group))
            return group

    def _free(self, group: list[_Ticket[Wish, Shared]]) -> None:
        with self._lock:
            self._busy.difference_update(*(ticket.places for ticket in group))
            self._groups -= 1
            self._expected = min(len(group) + len(self._waiting), _MOST)
            self._start(1)

    # Forks

    @property
    def lock(self) -> forks.ForkLock:
        """Return the lock that is held for a moment."""
        return self._lock

    def before_fork(self) -> None:
        """Do nothing: the child has no thread that waits."""

    def after_fork_in_child(self) -> None:
        """Begin anew."""
        self._lock = forks.ForkLock()
        self._waiting, self._busy, self._groups = [], set(), 0
