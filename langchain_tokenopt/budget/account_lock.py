"""One change at a time, also when the garbage collector interrupts one."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType

from langchain_tokenopt.budget.records import BudgetStoreError
from langchain_tokenopt.core.errors import TokenOptError
from langchain_tokenopt.storage import forks

__all__ = ["AccountLock"]


class _Here(threading.local):
    def __init__(self) -> None:
        self.changing: dict[str, AccountLock] = {}


_here = _Here()


def _changing_here() -> dict[str, AccountLock]:
    """Return what this thread is in the middle of changing, by where it is kept."""
    return _here.changing


class AccountLock:
    """Lets one change at a time at an account: ``with lock:``.

    Python may collect an abandoned stream anywhere, also in the middle of a change; the stream then
    settles its reservation on the same thread. To wait would be to wait for oneself, and to go on
    would work on half-changed numbers. So what must not be lost is deferred, and made by
    :meth:`run_deferred` when the change is over; everything else is refused.

    Args:
        label: What is locked, for messages.
        shared: Whether a forked child may go on: a copy in its memory would spend the same again.
        place: The file in which it is kept: in the middle of a change the thread cannot have it
            for another budget either.
        concurrent: Whether other threads may change it meanwhile: who keeps it lets them wait.
    """

    def __init__(
        self, label: str, *, shared: bool, place: str | None = None, concurrent: bool = False
    ) -> None:
        self._concurrent = concurrent
        self._label = label
        self._place = place or f"memory of {id(self)}"
        self._shared = shared
        self._lock = forks.ForkLock()
        self._changing = False
        self.deferred: deque[Callable[[], object]] = deque()
        """What waits for the end of a change."""
        self._copied = False
        forks.register(self)

    def __enter__(self) -> None:
        """Wait until nobody else changes the account.

        Raises:
            BudgetStoreError: This very thread is in the middle of a change.
            TokenOptError: The account is in the memory of the process that this one was forked of.
        """
        if self._copied:
            raise TokenOptError(
                f"{self._label} is kept in the memory of the process that this one was forked of; "
                f"a copy would spend the same tokens again. Give TokenBudget(path=...) a file that "
                f"both share."
            )
        if self._place in _changing_here():
            raise BudgetStoreError(f"{self._place} is being changed by this very thread.")
        if self._concurrent:
            _changing_here()[self._place] = self
            return
        # A lock that its owner may take twice: there is no moment between taking it and noting
        # that, in which a finalizer would wait for ever.
        self._lock.acquire()
        if self._changing:
            self._lock.release()
            raise BudgetStoreError(f"{self._label} is being changed by this very thread.")
        self._changing = True
        _changing_here()[self._place] = self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _changing_here().pop(self._place, None)
        if not self._concurrent:
            self._changing = False
            self._lock.release()

    def defer(self, act: Callable[[], object]) -> bool:
        """Keep *act* for later if this thread is in the middle of a change; whether it was."""
        busy = _changing_here().get(self._place)
        if busy is not None:
            busy.deferred.append(act)
        return busy is not None

    def run_deferred(self) -> None:
        """Do what was deferred, unless a change is under way: who makes it does it afterwards."""
        while self.deferred and not self._changing and self._place not in _changing_here():
            try:
                act = self.deferred.popleft()
            except IndexError:  # another thread was faster
                return
            act()

    # Forks

    @property
    def lock(self) -> forks.ForkLock:
        """Return the lock that is held during a change."""
        return self._lock

    def before_fork(self) -> None:
        """Do nothing: the lock is held, so no change is under way."""

    def after_fork_in_child(self) -> None:
        """Go on as another process, if the account is one that processes share."""
        self._lock = forks.ForkLock()
        self._changing = False
        _changing_here().clear()
        self.deferred.clear()
        self._copied = not self._shared
