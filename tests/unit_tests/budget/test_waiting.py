"""What takes time: event loops that must not wait, and stores that come and go during a run."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from langchain_tokenopt.budget import BudgetAlert, BudgetPlan, BudgetStoreError, sqlite_accounts
from langchain_tokenopt.budget.stage import DEGRADED
from langchain_tokenopt.chat_model.optimize import optimize
from langchain_tokenopt.compress import PromptCompressor
from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.graph import budgeted
from langchain_tokenopt.storage.sqlite import SqliteFile
from tests.support.fakes import FakeAnswer, fake_chat
from tests.support.waiting import until

LONG = "The bridge was painted red in 1931. " * 300 + "\n\nQuestion: Which colour is it?"

# Event loops


class _Gate:
    def __init__(self) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()


@pytest.fixture
def slow_compressor(monkeypatch: pytest.MonkeyPatch) -> _Gate:
    """Let every compression wait until somebody in the event loop has opened the gate."""
    gate = _Gate()
    compress = PromptCompressor.compress

    def wait_and_compress(self: PromptCompressor, *args: Any, **kwargs: Any) -> Any:
        gate.reached.set()
        assert gate.opened.wait(20), "the event loop waits for the compressor"
        return compress(self, *args, **kwargs)

    monkeypatch.setattr(PromptCompressor, "compress", wait_and_compress)
    return gate


@pytest.mark.parametrize("streams", [False, True], ids=["ainvoke", "astream"])
async def test_shortening_does_not_hold_up_the_event_loop(
    slow_compressor: _Gate, streams: bool
) -> None:
    """Others go on while a prompt is made shorter."""
    plan = BudgetPlan(total_tokens=1_500)
    model = optimize(fake_chat("_agenerate", "_astream"), plan)

    async def call() -> Any:
        if not streams:
            return await model.ainvoke(LONG)
        merged = None
        async for chunk in model.astream(LONG):
            merged = chunk if merged is None else merged + chunk
        return merged

    with plan.run() as run:
        task = asyncio.create_task(call())
        await until(slow_compressor.reached.is_set)
        slow_compressor.opened.set()
        await task

    assert 1 == run.report().agents["default"].degraded["shortened the documents"]


async def test_what_is_quick_needs_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that fits is reserved and settled at once, in the event loop."""
    threads: set[int] = set()
    plan = BudgetPlan(total_tokens=10_000)
    with plan.run() as run:
        reserve = run.account.reserve

        def noted(*args: Any, **kwargs: Any) -> Any:
            threads.add(threading.get_ident())
            return reserve(*args, **kwargs)

        monkeypatch.setattr(run.account, "reserve", noted)
        await optimize(fake_chat("_agenerate"), plan).ainvoke("Hello")

    assert {threading.get_ident()} == threads


async def test_a_call_that_is_given_up_while_it_is_shortened_costs_nothing(
    slow_compressor: _Gate,
) -> None:
    """The thread goes on to reserve for it; that is freed, and nothing is sent."""
    plan, fake = BudgetPlan(total_tokens=1_500), fake_chat("_agenerate")
    with plan.run() as run:
        task = asyncio.create_task(optimize(fake, plan).ainvoke(LONG))
        await until(slow_compressor.reached.is_set)
        task.cancel()
        slow_compressor.opened.set()
        await asyncio.gather(task, return_exceptions=True)
        await until(lambda: run.report().failed_calls)
    account = run.report().account

    assert (0, 0) == (account.spent_tokens, account.held_tokens)
    assert [] == fake.calls


async def test_alerts_come_back_to_the_loop_that_waits() -> None:
    """A web socket belongs to the caller's loop, also when a thread has crossed the threshold."""
    heard: asyncio.Queue[Any] = asyncio.Queue()

    async def send(event: Any) -> None:
        await heard.put(asyncio.get_running_loop())

    alert = await asyncio.to_thread(BudgetAlert, send)  # made where there was no loop
    plan = BudgetPlan(total_tokens=1_500)
    with plan.run(alert=alert):
        answer = await optimize(fake_chat("_agenerate"), plan).ainvoke(LONG)

    assert [DEGRADED] == [key for key in answer.response_metadata if key == DEGRADED]
    assert asyncio.get_running_loop() is await asyncio.wait_for(heard.get(), 5)


# Stores that come and go


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up on a locked file at once."""
    monkeypatch.setattr(sqlite_accounts, "_BUSY_SECONDS", 0.05)
    monkeypatch.setattr(sqlite_accounts, "_UNREACHABLE_SECONDS", 0.01)


class _Lock:
    """Somebody else who does not let go of the file."""

    def __init__(self, path: Path) -> None:
        self._file = sqlite3.connect(path, isolation_level=None)

    def __enter__(self) -> None:
        self._file.execute("BEGIN IMMEDIATE")

    def __exit__(self, *_: object) -> None:
        self._file.execute("ROLLBACK")
        self._file.close()


@pytest.mark.usefixtures("impatient")
def test_a_store_that_fails_in_a_run_refuses_and_says_so(tmp_path: Path) -> None:
    """By default: no answer, a warning, and when it is back the run goes on."""
    path, plan = tmp_path / "budgets.db", BudgetPlan(total_tokens=5_000)
    fake = fake_chat(answers=[FakeAnswer("Yes.", Usage(10, 2))] * 2)
    model = optimize(fake, plan)
    with plan.run(path=path) as run:
        model.invoke("Is it?")
        with _Lock(path), pytest.warns(TokenOptWarning, match="refuses every call"):
            refused = model.invoke("Is it?")
        answer = model.invoke("Is it?")
    report = run.report()

    assert "of the budget 'plan' cannot be used: database is locked" in refused.content
    assert "Yes." == answer.content
    assert (24, 0) == (report.account.spent_tokens, report.account.held_tokens)


@pytest.mark.usefixtures("impatient")
def test_a_store_that_fails_does_not_end_a_run_that_raises(tmp_path: Path) -> None:
    """The error names the store and the way out; the next call is tried again."""
    path, plan = tmp_path / "budgets.db", BudgetPlan(total_tokens=5_000, on_exceed="raise")
    for model in (optimize(fake_chat(), plan), fake_chat()):
        with plan.run(path=path):
            with (
                _Lock(path),
                pytest.warns(TokenOptWarning, match="refuses every call"),
                pytest.raises(BudgetStoreError, match=r'is locked.*on_store_error="open"'),
            ):
                model.invoke("Is it?")
            assert model.invoke("Is it?").content


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("is_staged", [True, False], ids=["staged", "unstaged"])
async def test_a_store_that_fails_lets_calls_through_by_option(
    tmp_path: Path, is_staged: bool
) -> None:
    """Said aloud; what ends before the store is back is not counted."""
    path, plan = tmp_path / "budgets.db", BudgetPlan(total_tokens=5_000)
    fake = fake_chat("_agenerate", answers=[FakeAnswer("Yes.", Usage(10, 2))] * 2)
    model = optimize(fake, plan) if is_staged else fake
    with plan.run(path=path, on_store_error="open") as run:
        with _Lock(path), pytest.warns(TokenOptWarning, match="lets calls through|not counted"):
            answer = await model.ainvoke("Is it?")
        await model.ainvoke("Is it?")
    account = run.report().account

    assert "Yes." == answer.content
    assert (12, 0) == (account.spent_tokens, account.surplus_tokens)


@pytest.mark.usefixtures("impatient")
def test_a_run_can_begin_without_its_store_by_option(tmp_path: Path) -> None:
    """It goes on without shares, and gives them when the store is there."""
    folder = tmp_path / "later"
    plan = BudgetPlan(total_tokens=5_000, agents={"judge": {"tokens": 2_000}})
    with pytest.warns(TokenOptWarning, match="lets calls through"):
        run = plan.run(path=folder / "budgets.db", on_store_error="open")
    with pytest.raises(BudgetStoreError, match="Check that the folder exists"):
        plan.run(path=folder / "budgets.db")
    folder.mkdir()

    assert 2_000 == run.report().agents["judge"].account.allocated_tokens


@pytest.mark.usefixtures("impatient")
def test_a_budgeted_node_survives_its_store_by_option(tmp_path: Path) -> None:
    """Neither its mirror nor its end breaks a node whose calls were let through."""
    path, plan = tmp_path / "budgets.db", BudgetPlan(total_tokens=5_000, agents={"writer": {}})
    model = optimize(fake_chat(answers=["Yes."]), plan)
    node = budgeted(lambda state: {"text": model.invoke("Is it?").content}, plan, agent="writer")
    with plan.run(path=path, on_store_error="open") as run:
        with _Lock(path), pytest.warns(TokenOptWarning, match="store"):
            told = node({})
            run.finish("writer")
        assert not run.report().agents["writer"].account.finished
        run.finish("writer")
        assert run.report().agents["writer"].account.finished

    assert "Yes." == told["text"]


@pytest.mark.usefixtures("impatient")
def test_a_locked_store_is_waited_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call asks its account several times; only the first waits for long."""
    waits: list[float] = []
    transaction = SqliteFile.transaction

    def noted(file: SqliteFile, wait_seconds: float) -> Any:
        waits.append(wait_seconds)
        return transaction(file, wait_seconds)

    path, plan = tmp_path / "budgets.db", BudgetPlan(total_tokens=5_000)
    with plan.run(path=path, on_store_error="open"):
        monkeypatch.setattr(SqliteFile, "transaction", noted)
        with _Lock(path), pytest.warns(TokenOptWarning, match="store"):
            optimize(fake_chat(), plan).invoke("Is it?")
        during, waits = waits[:], waits
        optimize(fake_chat(), plan).invoke("Is it?")

    assert (1, True) == (during.count(0.05), during.count(0.01) >= 1)
    assert 0.05 in waits[len(during) + 1 :]
