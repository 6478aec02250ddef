"""Say when a budget runs low: once per threshold, to whoever wants to hear it.

Thresholds are shares of the total that are spent or held, so an alert comes before the money is
gone. Only upward crossings count, each once in the life of an account: the account notes the
crossing, and who tells of it, in the same change that causes it, so among threads and processes
exactly one does; and afterwards it notes that it was told. A process that is killed in between
leaves a crossing untold. Whoever next opens or uses the account in its store sees that the process
is gone (or, where that cannot be seen, that the lease of the crossing is over) and tells in its
place.

So every threshold is told, and it is told once, with one exception: a process that is killed after
it has told and before that is noted is taken to have told nothing, and its last alert is told
again. A coroutine has been told when it has been started. An account that is kept in memory ends
with its process, alerts and all.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from concurrent.futures import Future
from contextvars import ContextVar
from typing import Any, Final

from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.core.records import BudgetEvent, UsageSink

__all__ = ["CALLER_LOOP", "THRESHOLDS", "AlertCallback", "BudgetAlert"]

THRESHOLDS: Final = (50, 75, 90, 95, 100)
"""Percent of the total: for your information, warning, high, high, nothing left."""

CALLER_LOOP: ContextVar[asyncio.AbstractEventLoop | None] = ContextVar(
    "langchain_tokenopt_caller_loop", default=None
)
"""The event loop that waits while a budget works in a thread: where coroutines belong."""

AlertCallback = Callable[[BudgetEvent], Awaitable[object] | object]
"""What an alert calls: a function or a coroutine function of one event."""


class BudgetAlert:
    """Tells callbacks and sinks when a budget crosses a threshold.

    A jump over several thresholds is one alert for the highest; its ``detail`` names the others.

    A coroutine function runs in the event loop of the caller, also of one that waits while a budget
    works in a thread; called from a thread without one, in the loop in which this object was made;
    without that, in a thread of its own. What a callback raises is warned of once and stops
    nothing.

    Args:
        callbacks: Called with the event, for instance ``web_socket.send_json``.
        sinks: Hear of the event as of any other, for instance a ``Ledger``.
        thresholds: Percent of the total that is spent or held, each above 0 and at most 100.

    Raises:
        ValueError: A threshold is not above 0 and at most 100.
        TypeError: A callback cannot be called, or a sink has no ``record`` method.

    Example:
        >>> heard = []
        >>> from langchain_tokenopt.budget import TokenBudget
        >>> budget = TokenBudget(1_000, alert=BudgetAlert(lambda event: heard.append(event.detail)))
        >>> hold = budget.reserve("writer", 300, 500)
        >>> heard
        ['75 % spent or held; passed 50 %']
    """

    def __init__(
        self,
        *callbacks: AlertCallback,
        sinks: Iterable[UsageSink] = (),
        thresholds: Iterable[int] = THRESHOLDS,
    ) -> None:
        sinks = tuple(sinks)
        self.thresholds = tuple(sorted(set(thresholds)))
        wrong = [p for p in self.thresholds if not isinstance(p, int) or not 0 < p <= 100]
        if wrong:
            raise ValueError(
                f"thresholds are whole percents above 0 and at most 100, got {wrong}. "
                f"Write 75 for three quarters."
            )
        for callback in callbacks:
            if not callable(callback):
                raise TypeError(f"callbacks are functions of one event; {callback!r} is none.")
        for sink in sinks:
            if not isinstance(sink, UsageSink):
                raise TypeError(f"sinks must have a record(event) method; {sink!r} has none.")
        self._callbacks = callbacks
        self._sinks = sinks
        self._loop = _running_loop()
        self._own_loop: asyncio.AbstractEventLoop | None = None
        self._under_way: set[Future[object] | asyncio.Task[object]] = set()
        self._warned = False
        self._lock = threading.RLock()  # an abandoned stream may be collected within it

    def crossed(self, before_percent: int, used: int, total: int) -> list[int]:
        """Return the thresholds above *before_percent* that *used* of *total* has reached.

        Example:
            >>> BudgetAlert().crossed(0, 96, 100)
            [50, 75, 90, 95]
        """
        return [
            percent
            for percent in self.thresholds
            if percent > before_percent and used * 100 >= percent * total
        ]

    def tell(self, event: BudgetEvent) -> None:
        """Give *event* to all sinks and callbacks; returns without waiting for coroutines."""
        for sink in self._sinks:
            self._guarded(sink.record, event)
        for callback in self._callbacks:
            told = self._guarded(callback, event)
            if inspect.isawaitable(told):
                self._start(_awaited(told))

    def join(self, timeout_seconds: float | None = None) -> bool:
        """Wait for coroutines that other threads run; False when some still do.

        Those in the caller's own event loop cannot be waited for here: they need that loop.
        """
        with self._lock:
            waiting = [task for task in self._under_way if isinstance(task, Future)]
        try:
            for future in waiting:
                future.exception(timeout_seconds)
        except TimeoutError:
            return False
        return True

    def _guarded(self, call: Callable[[BudgetEvent], object], event: BudgetEvent) -> object:
        try:
            return call(event)
        except Exception as error:  # noqa: BLE001  foreign code; a call must not fail for it
            self._warn(error)
            return None

    def _warn(self, error: BaseException) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"a callback for budget alerts failed, alerts to it may be lost: "
                f"{type(error).__name__}: {error}",
                TokenOptWarning,
                stacklevel=2,
            )

    def _start(self, coroutine: Coroutine[Any, Any, object]) -> None:
        running = _running_loop()
        task: Future[object] | asyncio.Task[object]
        if running is not None:
            task = running.create_task(coroutine)
        else:
            task = asyncio.run_coroutine_threadsafe(coroutine, self._loop_elsewhere())
        with self._lock:
            self._under_way.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: Future[object] | asyncio.Task[object]) -> None:
        with self._lock:
            self._under_way.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._warn(error)

    def _loop_elsewhere(self) -> asyncio.AbstractEventLoop:
        for loop in (CALLER_LOOP.get(), self._loop):
            if loop is not None and loop.is_running():
                return loop
        with self._lock:
            if self._own_loop is None:
                self._own_loop = asyncio.new_event_loop()
                threading.Thread(
                    target=self._own_loop.run_forever, name="budget-alerts", daemon=True
                ).start()
            return self._own_loop


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


async def _awaited(told: Awaitable[object]) -> object:
    return await told
