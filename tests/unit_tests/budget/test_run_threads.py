"""Runs of one thread: one account for all of them, begun at once or after each other."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from langchain_tokenopt.budget import BudgetPlan, BudgetRun, TokenBudget
from langchain_tokenopt.budget import run as run_module
from langchain_tokenopt.budget.holds import Hold
from langchain_tokenopt.chat_model.optimize import optimize
from langchain_tokenopt.core.usage import Usage
from tests.support.fakes import FakeAnswer, fake_chat


def _spend(run: BudgetRun, tokens: int) -> None:
    hold = run.account.reserve("default", tokens, 0)
    assert isinstance(hold, Hold)
    run.account.settle(hold, Usage(tokens, 0))


def test_runs_that_begin_at_once_share_an_account(monkeypatch: pytest.MonkeyPatch) -> None:
    """However their beginnings interleave; else the total would be spent twice."""

    class Slow(TokenBudget):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            time.sleep(0.05)
            super().__init__(*args, **kwargs)

    monkeypatch.setattr(run_module, "TokenBudget", Slow)
    plan, runs = BudgetPlan(total_tokens=1_000, name="at once"), []
    gate = threading.Barrier(4)

    def begin() -> None:
        gate.wait()
        runs.append(plan.run("t"))

    threads = [threading.Thread(target=begin) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for run in runs:
        _spend(run, 250)

    assert [0] * 4 == [run.report().account.left_tokens for run in runs]


@pytest.mark.parametrize(
    "change",
    [
        {"agents": {"news": {"tokens": 100}}},
        {"buffer": 10},
        {"soft_limit": 0.5},
        {"strategy": "equal"},
        {"total_usd": 1.0},
    ],
    ids=str,
)
def test_another_plan_has_another_account(change: dict[str, Any]) -> None:
    """Of the same name, total and thread: what the first has spent is none of its business."""
    settings = {"total_tokens": 1_000, "name": f"other {change}"}
    with BudgetPlan(**settings).run("t") as run:
        _spend(run, 250)
    with BudgetPlan(**settings | change).run("t") as other:
        pass
    with BudgetPlan(**settings).run("t") as again:
        pass

    assert (0, 250) == tuple(r.report().account.spent_tokens for r in (other, again))


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no list of open files")
def test_a_store_is_closed_when_its_run_ends(tmp_path: Path) -> None:
    """A server that begins a run per request has no more files open for it; reports still work."""
    plan, path = BudgetPlan(total_tokens=1_000), tmp_path / "budget.db"

    def is_open() -> bool:
        links = (os.path.realpath(link) for link in Path("/proc/self/fd").iterdir())
        return str(path) in links

    with plan.run("t", path=path) as run:
        optimize(fake_chat(answers=[FakeAnswer("Yes.", Usage(8, 2))]), plan).invoke("Is it?")
        assert is_open()

    assert not is_open()
    assert 10 == run.report().account.spent_tokens
    assert not is_open()


def test_a_stream_may_end_after_its_run(tmp_path: Path) -> None:
    """What it has used is written, although the store was closed in between."""
    plan, path = BudgetPlan(total_tokens=10_000), tmp_path / "budget.db"
    with plan.run("t", path=path) as run:
        stream = optimize(fake_chat("_stream"), plan).stream("Is it?")
        next(stream)
    stream.close()
    account = run.report().account

    assert account.spent_tokens > 0
    assert 0 == account.held_tokens


def test_a_stream_that_is_collected_within_our_own_code_does_not_hang() -> None:
    """A left stream is closed by the garbage collector, on the thread that is in a lock of ours."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.collecting_locks"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=Path(__file__).parents[3],
    )

    assert "0 12" == done.stdout.strip(), done.stderr[-2_000:]
