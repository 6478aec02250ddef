"""Locks during which the garbage collector runs, as it may at any moment.

Run as a module it leaves budgeted streams behind in reference cycles: their ends come in on the
thread that has just taken a lock. It prints what is still held and how many calls have failed.
"""

from __future__ import annotations

import _thread
import faulthandler
import gc
import sys
import threading
from typing import Any

from langchain_tokenopt import BudgetPlan, optimize
from tests.support.fakes import fake_chat


class CollectingLock:
    """A lock that collects garbage each time it has been taken."""

    def __init__(self) -> None:
        self._lock = _thread.allocate_lock()

    def acquire(self, *args: Any, **kwargs: Any) -> bool:
        taken = self._lock.acquire(*args, **kwargs)
        if taken:
            gc.collect()
        return taken

    def release(self) -> None:
        self._lock.release()

    def locked(self) -> bool:
        return self._lock.locked()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *error: object) -> None:
        self.release()


class CollectingRLock(CollectingLock):
    """The same for one that its owner may take again."""

    def __init__(self) -> None:
        self._lock: Any = _thread.RLock()


def use_collecting_locks() -> None:
    """Let every module of the package that is loaded make such locks from now on."""
    names = {**vars(threading), "Lock": CollectingLock, "RLock": CollectingRLock}
    for name, module in list(sys.modules.items()):
        if name.startswith("langchain_tokenopt") and hasattr(module, "threading"):
            module.threading = type("threading", (), names)


def leave(model: Any) -> None:
    """Begin a stream and leave it to the garbage collector."""
    cycle: list[Any] = [model.stream("Count to ten.")]
    cycle.append(cycle)
    next(cycle[0])


def main() -> None:
    """Leave streams behind, staged and not, between calls that are made to their end."""
    faulthandler.dump_traceback_later(60, exit=True)
    plan = BudgetPlan(total_tokens=10**6, agents={"default": {"words": 50}})
    with plan.run():  # what is loaded by the first call is loaded now
        leave(fake_chat("_stream"))
        optimize(fake_chat(), plan).invoke("Hi")
    use_collecting_locks()
    gc.collect()
    gc.freeze()
    gc.disable()
    with plan.run("t") as run:
        for _ in range(3):
            leave(fake_chat("_stream"))
            fake_chat().invoke("Hi")
            leave(optimize(fake_chat("_stream"), plan))
            optimize(fake_chat(), plan).invoke("Hi")
            leave(fake_chat("_stream"))
            run.report()
            leave(optimize(fake_chat("_stream"), plan))
            optimize(fake_chat("_stream"), plan).invoke("Hi")
        gc.collect()
    report = run.report()
    print(report.account.held_tokens, report.failed_calls)


if __name__ == "__main__":
    main()
