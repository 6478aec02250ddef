"""Threads and pools that are given work inside of a block, and what of it reaches them.

Python starts a thread, and a pool does its work, without the context of whoever asks for it. A
block may say what is to be done about that for work that begins inside of it: OpenTelemetry's
instrumentation of threads and Python 3.14's ``thread_inherit_context`` carry the context along.
"""

from __future__ import annotations

import concurrent.futures.thread as pools
import threading
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from functools import cache, partial, wraps
from multiprocessing.dummy import DummyProcess
from typing import Any

__all__ = ["CARRIED", "along", "watch_threads"]

Work = Callable[..., Any]

CARRIED: ContextVar[Callable[[Work], Work] | None] = ContextVar(
    "langchain_tokenopt_carried", default=None
)
"""Returns what a thread is to do instead of what it was given here; ``None``: nothing else."""


def along(work: Work) -> Work:
    """Return *work* in a copy of the context that holds here."""
    return partial(copy_context().run, work)


@cache
def watch_threads() -> None:
    """Have :data:`CARRIED` asked when threads start and pools are given work; once in a process.

    A pool's own threads are left alone: they work for whoever comes later, too.
    """
    submit: Work = pools.ThreadPoolExecutor.submit
    start = threading.Thread.start

    @wraps(submit)
    def submitting(self: Any, fn: Work, /, *args: Any, **kwargs: Any) -> Any:
        carry = CARRIED.get()
        return submit(self, fn if carry is None else carry(fn), *args, **kwargs)

    @wraps(start)
    def starting(self: threading.Thread) -> None:
        carry = CARRIED.get()
        if carry is not None and not _works_for_a_pool(self):
            self.run = carry(self.run)  # type: ignore[method-assign]
        start(self)

    pools.ThreadPoolExecutor.submit = submitting  # type: ignore[method-assign]
    threading.Thread.start = starting  # type: ignore[method-assign]


def _works_for_a_pool(thread: threading.Thread) -> bool:
    return isinstance(thread, DummyProcess) or getattr(thread, "_target", None) is pools._worker
