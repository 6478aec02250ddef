"""Say when a budget runs low: once per threshold, to whoever wants to know.

Thresholds are fractions of the total that are spent or held, so an alert comes before the tokens
are gone. Only upward crossings count, each once in the life of an account: the account notes the
crossing in the same change that causes it, so that among threads and processes exactly one gives
the alert. A process that is killed in that moment gives none; what was crossed stays in the report.
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

from langchain_tokenopt.core.argument_checks import check_fraction
from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.core.records import BudgetEvent, UsageSink
from langchain_tokenopt.core.sinks import checked_sinks, notify

__all__ = ["CALLER_LOOP", "THRESHOLDS", "AlertCallback", "BudgetAlert", "alert_of"]

THRESHOLDS: Final = (0.5, 0.75, 0.9, 0.95, 1.0)
"""For your information, warning, high, high, nothing left."""

CALLER_LOOP: ContextVar[asyncio.AbstractEventLoop | None] = ContextVar(
    "langchain_tokenopt_caller_loop", default=None
)
"""The event loop that waits while a budget works in a thread: where coroutines belong."""

AlertCallback = Callable[[BudgetEvent], Awaitable[object] | object]
"""What an alert calls: a function or a coroutine function of one event."""


def alert_of(alert: BudgetAlert | AlertCallback | None) -> BudgetAlert | None:
    """Return the alert that a user gave; a function alone is one with the usual thresholds.

    Raises:
        TypeError: It is neither.
    """
    if callable(alert):
        return BudgetAlert(alert)
    if alert is not None and not hasattr(alert, "crossed"):
        raise TypeError(f"an alert is a BudgetAlert or a function of one event; {alert!r} is none.")
    return alert


class BudgetAlert:
    """Notifies callbacks and sinks when a budget crosses a threshold.

    A jump over several thresholds is one alert for the highest; its ``detail`` names the others.

    A coroutine function runs in the event loop of the caller, also of one that waits while a budget
    works in a thread; called from a thread without one, in the loop in which this object was made;
    without that, in a thread of its own. What a callback raises is warned of once and stops
    nothing. What is sent or stored is ``event.as_dict()``, of JSON types:
    ``BudgetAlert(lambda event: web_socket.send_json(event.as_dict()))``.

    Args:
        callbacks: Functions or coroutine functions of the event.
        sinks: Receive the event as any other, for instance a ``Ledger``.
        thresholds: Fractions of the total that is spent or held, each above 0 and at most 1.

    Raises:
        ValueError: A threshold is not above 0 and at most 1.
        TypeError: A callback cannot be called, or a sink has no ``record`` method.

    Example:
        >>> details = []
        >>> from langchain_tokenopt.budget import TokenBudget
        >>> alert = BudgetAlert(lambda event: details.append(event.detail))
        >>> hold = TokenBudget(1_000, alert=alert).reserve("writer", 300, 500)
        >>> details
        ['75% spent or held; passed 50%']
    """

    def __init__(
        self,
        *callbacks: AlertCallback,
        sinks: Iterable[UsageSink] = (),
        thresholds: Iterable[float] = THRESHOLDS,
    ) -> None:
        checked = {check_fraction("a threshold", threshold) for threshold in thresholds}
        self.thresholds = tuple(sorted(checked))
        for callback in callbacks:
            if not callable(callback):
                raise TypeError(f"callbacks are functions of one event; {callback!r} is none.")
        self._callbacks = callbacks
        self._sinks = checked_sinks(sinks)
        self._loop = _running_loop()
        self._own_loop: asyncio.AbstractEventLoop | None = None
        self._running: set[Future[object] | asyncio.Task[object]] = set()
        self._warned = False
        self._lock = threading.RLock()  # an abandoned stream may be collected within it

    def crossed(self, before: float, used_ratio: float) -> list[float]:
        """Return the thresholds above *before* that *used_ratio* has reached.

        Example:
            >>> BudgetAlert().crossed(0.5, 0.96)
            [0.75, 0.9, 0.95]
        """
        return [threshold for threshold in self.thresholds if before < threshold <= used_ratio]

    def notify(self, event: BudgetEvent) -> None:
        """Give *event* to all sinks and callbacks; returns without waiting for coroutines."""
        notify(self._sinks, event)
        for callback in self._callbacks:
            try:
                returned = callback(event)
            except Exception as error:  # noqa: BLE001  foreign code; a call must not fail for it
                self._warn(error)
                continue
            if inspect.isawaitable(returned):
                self._start(_await(returned))

    def join(self, timeout_seconds: float | None = None) -> bool:
        """Wait for coroutines that other threads run; False when some still do.

        Those in the caller's own event loop cannot be waited for here: they need that loop.
        """
        with self._lock:
            waiting = [task for task in self._running if isinstance(task, Future)]
        try:
            for future in waiting:
                future.exception(timeout_seconds)
        except TimeoutError:
            return False
        return True

    def _warn(self, error: BaseException) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"a callback for budget alerts failed, alerts to it may be lost: "
                f"{type(error).__name__}: {error}"
                + (". Send event.as_dict()." if "JSON" in str(error) else ""),
                TokenOptWarning,
                stacklevel=2,
            )

    def _start(self, coroutine: Coroutine[Any, Any, object]) -> None:
        here = _running_loop()
        task: Future[object] | asyncio.Task[object]
        if here is not None:
            task = here.create_task(coroutine)
        else:
            task = asyncio.run_coroutine_threadsafe(coroutine, self._loop_elsewhere())
        with self._lock:
            self._running.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: Future[object] | asyncio.Task[object]) -> None:
        with self._lock:
            self._running.discard(task)
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


async def _await(returned: Awaitable[object]) -> object:
    return await returned
