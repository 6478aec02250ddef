"""Budgets among threads, tasks and processes: raced for, killed, forked, resumed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from textwrap import dedent

import pytest

from langchain_tokenopt.budget import TokenBudget, exclusive_account, leases
from langchain_tokenopt.budget.account_lock import AccountLock
from langchain_tokenopt.core.usage import Usage
from tests.support.budget_schedules import draw_schedule
from tests.support.budget_workers import (
    ROOT,
    fork_processes,
    run_processes,
    run_tasks,
    run_threads,
)

pytestmark = pytest.mark.exhaustive

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
threads_and_forks = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@pytest.fixture(params=["file", "server"])
def store(request, tmp_path):
    """Where processes find an account: a path, or a URL."""
    if request.param == "server":
        return request.getfixturevalue("postgres_url")
    return tmp_path / "budgets.db"


def _is_kept(course):
    assert [] == course.findings
    assert (0, 0) == (course.overshoot, course.report.held_tokens)
    assert course.below_the_bill <= course.surplus
    if course.demand > 1.05 * course.total:
        assert course.utilisation >= 0.95


@pytest.mark.parametrize("run", [run_threads, run_tasks], ids=["threads", "tasks"])
@pytest.mark.parametrize("seed", range(12))
def test_random_courses_never_overdraw(run, seed):
    """Whatever fails, is retried, cancelled or lost; the total is nearly used up."""
    _is_kept(run(draw_schedule(seed, callers=8, overcounts=seed % 2 == 1)))


@needs_fork
@threads_and_forks
@pytest.mark.parametrize("seed", range(4))
def test_random_courses_of_processes_never_overdraw(tmp_path, store, seed):
    """On one store; some are killed between the call and its settlement."""
    _is_kept(fork_processes(draw_schedule(seed, callers=4), tmp_path, store))


@pytest.mark.parametrize("seed", range(6))
def test_random_courses_of_threads_never_overdraw_on_a_server(postgres_url, seed):
    """With budgets of their own, whose changes share transactions."""
    make = partial(TokenBudget, path=postgres_url, run=str(seed))
    schedule = draw_schedule(seed, callers=8, overcounts=seed % 2 == 1)
    _is_kept(run_threads(schedule, make, each_has_its_own=True))


def test_processes_of_their_own_share_a_budget_by_its_store(tmp_path, store):
    """Neither forked nor told of each other."""
    course = run_processes(draw_schedule(3, callers=3), tmp_path, store)

    _is_kept(course)
    assert course.report.spent_tokens > 0


class _NoLock(AccountLock):
    """What must fail: the same arithmetic, without being alone with it."""

    def __enter__(self):
        pass

    def __exit__(self, kind, error, trace):
        pass


def _granted_to_two_at_once(budget, monkeypatch, *, seconds):
    """Let two threads ask for the last tokens; between looking and taking each waits for the other.

    So long at most: with a lock the other one never comes.
    """
    meeting = threading.Barrier(2)
    look = leases.granted

    def look_and_wait(*asked):
        room = look(*asked)
        with contextlib.suppress(threading.BrokenBarrierError):
            meeting.wait(seconds)
        return room

    monkeypatch.setattr(leases, "granted", look_and_wait)
    granted = []
    threads = [
        threading.Thread(target=lambda: granted.append(bool(budget.reserve("a", 800, 0))))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    monkeypatch.undo()
    return sum(granted)


def test_looking_and_taking_are_one_step(monkeypatch):
    """Two threads cannot both see the last tokens."""
    budget = TokenBudget(1_000)

    assert 1 == _granted_to_two_at_once(budget, monkeypatch, seconds=0.2)
    assert 800 == budget.report().held_tokens


def test_without_the_lock_two_see_the_last_tokens(monkeypatch):
    """The test above would notice."""
    monkeypatch.setattr(exclusive_account, "AccountLock", _NoLock)
    budget = TokenBudget(1_000)

    assert 2 == _granted_to_two_at_once(budget, monkeypatch, seconds=20)
    assert [] != budget.check()


_HEAD = """
import os, sys, time
from langchain_tokenopt.budget import BudgetAlert, TokenBudget
from langchain_tokenopt.core.usage import Usage
path = sys.argv[1]
"""


def _start(script, path):
    return subprocess.Popen(
        [sys.executable, "-c", _HEAD + dedent(script), str(path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_what_a_killed_worker_holds_is_never_free(store):
    """It stays held, whoever looks; when its lease ends, it is charged."""
    now = [time.time()]
    worker = _start(
        """
        budget = TokenBudget(1_000, path=path, lease_seconds=60)
        budget.reserve("writer", 300, 200)
        print("held", flush=True)
        time.sleep(60)
        """,
        store,
    )
    assert "held\n" == worker.stdout.readline()
    worker.send_signal(signal.SIGKILL)
    worker.communicate()
    budget = TokenBudget(1_000, path=store, lease_seconds=60, clock=lambda: now[0])

    assert not budget.reserve("reader", 501, 0)
    assert (0, 500) == (budget.report().spent_tokens, budget.report().held_tokens)
    now[0] += 61
    assert not budget.reserve("reader", 501, 0)
    assert (500, 0) == (budget.report().spent_tokens, budget.report().held_tokens)


def test_a_resumed_run_goes_on_from_what_was_spent(store):
    """The second process finds shares, spending and alerts of the first."""
    script = """
        budget = TokenBudget(1_000, path=path, run="thread-7",
                             alert=BudgetAlert(lambda event: print(event.detail)))
        hold = budget.reserve("writer", 400, 0)
        print(bool(hold))
        if hold:
            budget.settle(hold, Usage(400, 0))
        """
    outputs = [_start(script, store).communicate()[0].splitlines() for _ in range(3)]

    assert [["True"], ["75% spent or held; passed 50%", "True"], ["False"]] == outputs


def test_alerts_are_told_once_among_processes(store):
    """Three processes cross every threshold together; each is told by exactly one."""
    script = """
        heard = []
        budget = TokenBudget(3_000, path=path,
                             alert=BudgetAlert(lambda event: heard.append(event.detail)))
        for _ in range(60):
            hold = budget.reserve("writer", 25, 0)
            if hold:
                budget.settle(hold, Usage(25, 0))
        print(",".join(heard))
        """
    workers = [_start(script, store) for _ in range(3)]
    told = [line for worker in workers for line in worker.communicate()[0].strip().split(",")]

    assert [f"{percent}% spent or held" for percent in (100, 50, 75, 90, 95)] == sorted(
        line for line in told if line
    )


@needs_fork
@threads_and_forks
def test_parent_and_forked_children_share_one_account(store):
    """Forked in the middle of its work, also while a thread is at it."""
    budget = TokenBudget(100_000, path=store)
    busy = threading.Event()

    def keep_busy():
        while not busy.is_set():
            budget.settle(budget.reserve("thread", 1, 0), Usage(1, 0))

    thread = threading.Thread(target=keep_busy)
    thread.start()
    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            try:
                for _ in range(25):
                    budget.settle(budget.reserve("child", 10, 0), Usage(10, 0))
                os._exit(0)
            finally:
                os._exit(1)
        children.append(child)
    ends = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    busy.set()
    thread.join()

    assert [0] * 4 == ends
    assert 1_000 == budget.report().agents["child"].spent_tokens
    assert [] == budget.check()
    budget.close()


def test_waiting_for_a_busy_file_ends(tmp_path):
    """Somebody holds the lock for a moment: the others come after it."""
    path = tmp_path / "budgets.db"
    budget = TokenBudget(1_000, path=path)
    other = TokenBudget(1_000, path=path)
    inside = threading.Event()

    def hold_the_file():
        with other._account.store.transaction([]):
            inside.set()
            time.sleep(0.1)

    thread = threading.Thread(target=hold_the_file)
    thread.start()
    inside.wait()

    assert budget.reserve("writer", 1_000, 0)
    thread.join()
