"""Python may collect an abandoned stream anywhere, and its end settles a reservation."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from langchain_tokenopt.budget import BudgetStoreError, TokenBudget, leases
from langchain_tokenopt.budget.account_lock import AccountLock
from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.core.usage import Usage

pytestmark = pytest.mark.exhaustive

ROOT = Path(__file__).parents[3]

ABANDONED = """
import gc, sys, threading
from langchain_tokenopt.budget import TokenBudget
from langchain_tokenopt.core.usage import Usage

budget = TokenBudget(10**9, path=sys.argv[1] or None)

class Stream:
    def __init__(self):
        self.itself = self  # only the garbage collector frees it
        self.hold = budget.reserve("stream", 10, 10)
        assert self.hold

    def __del__(self):
        budget.settle(self.hold, Usage(5, 5))

gc.set_threshold(7)  # the collector interrupts nearly everything
def work():
    for _ in range(int(sys.argv[2])):
        Stream()
        budget.settle(budget.reserve("plain", 1, 0), Usage(1, 0))
threads = [threading.Thread(target=work) for _ in range(int(sys.argv[3]))]
for each in threads:
    each.start()
for each in threads:
    each.join()
gc.set_threshold(700)
gc.collect()
report = budget.report()
print(report.agents["stream"].spent_tokens, report.spent_tokens, report.held_tokens, budget.check())
"""


@pytest.mark.parametrize(
    ("kept", "streams", "threads"),
    [("memory", 3_000, 1), ("file", 300, 1), ("server", 20, 1), ("server", 20, 3)],
)
def test_streams_that_the_garbage_collector_closes_are_settled(
    tmp_path, request, kept, streams, threads
):
    """Inside of our own changes too: nothing waits for itself, no number is lost."""
    path = {"memory": "", "file": str(tmp_path / "budgets.db")}.get(kept)
    if path is None:
        path = request.getfixturevalue("postgres_url")
    ended = subprocess.run(
        [sys.executable, "-c", ABANDONED, path, str(streams), str(threads)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    count = streams * threads
    assert "" == ended.stderr
    assert f"{10 * count} {11 * count} 0 []\n" == ended.stdout


def test_a_finalizer_between_taking_the_lock_and_noting_it_does_not_wait(monkeypatch):
    """The one moment in which a plain lock would be taken, and nobody known to have it."""
    budget = TokenBudget(1_000)
    abandoned = budget.reserve("stream", 100, 0)
    lock = budget._account._lock
    inner = lock._lock

    class Interrupted:
        def acquire(self, blocking=True):
            inner.acquire(blocking)
            if lock._lock is self:
                lock._lock = inner
                budget.settle(abandoned, Usage(60, 0))

        def release(self):
            inner.release()

    lock._lock = Interrupted()
    done = threading.Thread(target=lambda: budget.reserve("writer", 10, 0), daemon=True)
    done.start()
    done.join(10)

    assert not done.is_alive()
    assert (60, 10) == (budget.report().spent_tokens, budget.report().held_tokens)


def test_what_cannot_wait_is_refused_within_a_change(monkeypatch):
    """A reservation needs its answer at once: it is refused, and says why."""
    budget = TokenBudget(1_000)
    look = leases.granted

    def reserve_and_look(*asked):
        monkeypatch.undo()
        answers.append(budget.reserve("inner", 1, 0))
        with pytest.raises(BudgetStoreError, match="is being changed by this very thread"):
            budget.report()
        return look(*asked)

    answers = []
    monkeypatch.setattr(leases, "granted", reserve_and_look)
    with pytest.warns(TokenOptWarning, match="changed by this very thread"):
        assert budget.reserve("outer", 600, 0)

    assert ["store"] == [denial.reason for denial in answers]
    assert 600 == budget.report().held_tokens


def test_other_threads_wait_and_do_not_defer():
    """Only who would wait for himself defers."""
    lock, acts = AccountLock("an account", shared=False), []
    inside, waiting = threading.Event(), threading.Event()

    def change():
        with lock:
            inside.set()
            waiting.wait(5)

    thread = threading.Thread(target=change)
    thread.start()
    inside.wait()
    waiting.set()

    assert not lock.defer(lambda: acts.append("never"))
    thread.join()
    lock.run_deferred()
    assert [] == acts
