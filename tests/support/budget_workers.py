"""Callers that share a budget: in threads, in tasks, in processes of which some are killed.

Run as a module it is one such process. It writes what the provider billed into a file of its own
before anybody else hears of it, and one that is to be lost kills itself.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from langchain_tokenopt.budget import BudgetReport, Hold, TokenBudget
from langchain_tokenopt.budget.records import LEASE_SECONDS
from langchain_tokenopt.core.usage import Usage
from tests.support.budget_schedules import Call, Provider, Schedule, draw_schedule

__all__ = ["Course", "fork_processes", "run_processes", "run_tasks", "run_threads"]

ROOT = Path(__file__).parents[2]
LEAST_OUTPUT = 1 / 8
"""Part of the wanted output below which a caller would rather not call."""


@dataclass(frozen=True)
class Course:
    """What came of one schedule."""

    seed: int
    total: int
    demand: int
    billed: int
    """By the provider."""
    surplus: int
    """Part of the bill that the provider's way of counting caused."""
    report: BudgetReport
    findings: list[str]

    @property
    def overshoot(self) -> int:
        """Billed beyond the total, for another reason than the provider's way of counting."""
        return max(self.billed - self.surplus - self.total, 0)

    @property
    def utilisation(self) -> float:
        """Spent of the total, as the account says."""
        return self.report.spent_tokens / self.total

    @property
    def below_the_bill(self) -> int:
        """Tokens that were billed and that the account does not know of."""
        return max(self.billed - self.report.spent_tokens, 0)


def make_call(budget: TokenBudget, call: Call, name: str, provider: Provider) -> bool:
    """Reserve, call, settle, as an honest caller does; False when the caller dies of it."""
    hold = budget.reserve(
        call.agent,
        call.input_tokens,
        call.max_output_tokens,
        min_output_tokens=int(call.max_output_tokens * LEAST_OUTPUT),
        run_id=name,
    )
    if not isinstance(hold, Hold):
        return True
    if call.end == "refused":
        budget.release(hold)
    elif call.end == "cached":
        budget.settle(hold, Usage(call.input_tokens, 10), outcome="cached")
    else:
        _send(budget, call, hold, provider)
    return call.end != "lost"


def _send(budget: TokenBudget, call: Call, hold: Hold, provider: Provider) -> None:
    read, written = provider.answer(call, hold.max_output_tokens)
    if call.end == "lost":
        return
    if call.end == "unreported":
        budget.settle(hold, None)
    elif call.end == "cancelled":
        # Half has arrived; a provider that goes on to the end is the worst case.
        arrived = max(written - max(written // 5, 1), 0)
        budget.settle(hold, Usage(read, arrived), outcome="cancelled")
    else:
        budget.settle(hold, Usage(read, written))
        budget.settle(hold, Usage(read, written))  # told twice: one charge
    if call.end == "retried":
        again = budget.reserve(
            call.agent, call.input_tokens, hold.max_output_tokens, run_id=hold.run_id
        )
        if isinstance(again, Hold):
            budget.settle(again, Usage(*provider.answer(call, again.max_output_tokens)))


def _work(budget: TokenBudget, calls: Sequence[Call], caller: int, provider: Provider) -> None:
    for number, call in enumerate(calls):
        if not make_call(budget, call, f"{caller}-{number}", provider):
            return


class _Time:
    """A clock that stands still until the course is over."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def _account(schedule: Schedule, make: Callable[..., TokenBudget]) -> tuple[TokenBudget, _Time]:
    clock = _Time()
    return make(schedule.total_tokens, clock=clock, lease_seconds=60), clock


def _course(
    schedule: Schedule, budget: TokenBudget, clock: _Time, billed: int, surplus: int
) -> Course:
    clock.now += 61  # whoever is dead by now is dead
    report = budget.report()
    return Course(
        seed=schedule.seed,
        total=schedule.total_tokens,
        demand=schedule.demand,
        billed=billed,
        surplus=surplus,
        report=report,
        findings=budget.check(),
    )


def run_threads(
    schedule: Schedule,
    make: Callable[..., TokenBudget] = TokenBudget,
    *,
    each_has_its_own: bool = False,
) -> Course:
    """Let every caller be a thread; all begin at once, maybe each with a budget of its own."""
    budget, clock = _account(schedule, make)
    budgets = [budget] * len(schedule.callers)
    if each_has_its_own:
        budgets = [make(schedule.total_tokens, clock=clock, lease_seconds=60) for _ in budgets]
    provider = Provider()
    start = threading.Barrier(len(schedule.callers))

    def work(caller: int) -> None:
        start.wait()
        _work(budgets[caller], schedule.callers[caller], caller, provider)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(len(schedule.callers))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return _course(schedule, budget, clock, provider.billed, provider.surplus)


def run_tasks(schedule: Schedule, make: Callable[..., TokenBudget] = TokenBudget) -> Course:
    """Let every caller be a task, and others run wherever a call would wait."""
    budget, clock = _account(schedule, make)
    provider = Provider()
    settle, reserve = budget.settle, budget.reserve

    async def work(caller: int) -> None:
        for number, call in enumerate(schedule.callers[caller]):
            hold = reserve(
                call.agent,
                call.input_tokens,
                call.max_output_tokens,
                min_output_tokens=int(call.max_output_tokens * LEAST_OUTPUT),
                run_id=f"{caller}-{number}",
            )
            await asyncio.sleep(0)
            if not isinstance(hold, Hold):
                continue
            if call.end == "refused":
                budget.release(hold)
            elif call.end == "cached":
                settle(hold, Usage(call.input_tokens, 10), outcome="cached")
            else:
                await asyncio.sleep(0)
                _send(budget, call, hold, provider)
            if call.end == "lost":
                return

    async def all_at_once() -> None:
        await asyncio.gather(*(work(n) for n in range(len(schedule.callers))))

    asyncio.run(all_at_once())
    return _course(schedule, budget, clock, provider.billed, provider.surplus)


def run_processes(
    schedule: Schedule, folder: Path, store: str | Path | None = None, *, overcounts: bool = False
) -> Course:
    """Let every caller be a process on one store; lost calls kill theirs with SIGKILL."""
    path = store or folder / f"budget-{schedule.seed}.db"
    clock = _Time()
    clock.now = time.time()
    budget = TokenBudget(schedule.total_tokens, path=path, clock=clock)
    bills = [folder / f"bill-{schedule.seed}-{n}" for n in range(len(schedule.callers))]
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.support.budget_workers"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for _ in schedule.callers
    ]
    for worker in workers:
        worker.stdout.readline()  # it is ready
    for caller, worker in enumerate(workers):
        order = f"{path}\n{schedule.seed} {len(workers)} {caller} {int(overcounts)}\n"
        worker.stdin.write(f"{order}{bills[caller]}\n".encode())
        worker.stdin.flush()
    ends = [worker.wait() for worker in workers]
    for worker in workers:
        worker.stdin.close()
        worker.stdout.close()
    clock.now = time.time() + LEASE_SECONDS
    return _outcome(schedule, budget, bills, ends)


def _outcome(schedule: Schedule, budget: TokenBudget, bills: list[Path], ends: list[int]) -> Course:
    lines = [line.split() for bill in bills for line in bill.read_text().splitlines()]
    billed, surplus = (sum(int(line[n]) for line in lines) for n in (0, 1))
    report = budget.report()
    findings = budget.check()
    findings += [f"a worker ended with {end}" for end in ends if end not in (0, -signal.SIGKILL)]
    budget.close()
    return Course(
        schedule.seed,
        schedule.total_tokens,
        schedule.demand,
        billed,
        surplus,
        report,
        findings,
    )


def fork_processes(schedule: Schedule, folder: Path, store: str | Path | None = None) -> Course:
    """As :func:`run_processes`, with forked processes: for thousands of courses."""
    clock = _Time()
    path = store or folder / f"budget-{schedule.seed}.db"
    run = str(schedule.seed)
    budget = TokenBudget(schedule.total_tokens, path=path, run=run, clock=clock)
    bills = [folder / f"bill-{schedule.seed}-{n}" for n in range(len(schedule.callers))]
    children = []
    for caller, calls in enumerate(schedule.callers):
        child = os.fork()
        if child == 0:
            try:
                _work_and_die(budget, calls, caller, bills[caller])
            finally:
                os._exit(1)
        children.append(child)
    ends = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    clock.now = LEASE_SECONDS
    return _outcome(schedule, budget, bills, ends)


class _NotedProvider(Provider):
    """Writes its bill into a file at once."""

    def __init__(self, bill: Path) -> None:
        super().__init__()
        self._file = os.open(bill, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def answer(self, call: Call, max_output_tokens: int) -> tuple[int, int]:
        """Bill a call."""
        read, written = super().answer(call, max_output_tokens)
        surplus = read - call.input_tokens
        os.write(self._file, f"{read + written} {surplus}\n".encode())
        return read, written


def _work_and_die(budget: TokenBudget, calls: Sequence[Call], caller: int, bill: Path) -> None:
    provider = _NotedProvider(bill)
    for number, call in enumerate(calls):
        if not make_call(budget, call, f"{caller}-{number}", provider):
            os.kill(os.getpid(), signal.SIGKILL)
    os._exit(0)


def _main() -> None:
    print("ready", flush=True)
    path, order, bill = (sys.stdin.readline().strip() for _ in range(3))
    seed, callers, caller, overcounts = (int(word) for word in order.split())
    schedule = draw_schedule(seed, callers=callers, overcounts=bool(overcounts))
    budget = TokenBudget(schedule.total_tokens, path=path)
    _work_and_die(budget, schedule.callers[caller], caller, Path(bill))


if __name__ == "__main__":
    _main()
