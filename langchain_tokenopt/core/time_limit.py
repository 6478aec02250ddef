"""Work that may take only so long."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from typing import TypeVar

__all__ = ["TimeIsOverError", "within"]

_Value = TypeVar("_Value")


class TimeIsOverError(Exception):
    """Something has taken longer than it may."""


def within(seconds: float | None, work: Callable[[], _Value]) -> _Value:
    """Do *work* here, or, if it may take only so long, in a thread that nobody waits for after.

    Raises:
        TimeIsOverError: It takes longer.
        BaseException: What *work* raises.

    Example:
        >>> within(60, lambda: 6 * 7)
        42
    """
    if seconds is None:
        return work()
    future: Future[_Value] = Future()

    def working() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001  it is the caller's
            future.set_exception(error)

    context = copy_context()
    threading.Thread(target=context.run, args=(working,), daemon=True).start()
    try:
        return future.result(seconds)
    except TimeoutError:
        if future.done():  # at the last moment, or it was the work's own
            return future.result()
        raise TimeIsOverError from None
