"""Limits around runs, through the host and among processes: nothing is overdrawn at any level."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from threading import Event
from typing import Any, TypedDict
from zoneinfo import ZoneInfo

import pytest
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langgraph.graph import END, START, StateGraph

from langchain_tokenopt import BudgetExceededError, BudgetLimit, BudgetPlan, token_scope
from langchain_tokenopt.budget import Owners, TokenBudget, reports_in
from langchain_tokenopt.budget.records import LEASE_SECONDS
from langchain_tokenopt.budget.room import Demand, Demands
from langchain_tokenopt.chat_model.optimize import optimize
from langchain_tokenopt.core.errors import TokenOptError, TokenOptWarning
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.graph import budget_graph
from tests.support.budget_levels import MIDNIGHT, USERS, ZONE, Time, fork_levels, levelled
from tests.support.model_server import ModelServer, Reply

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
forks = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
in_memory = pytest.mark.filterwarnings("ignore:the limits of the plan:UserWarning")


# Processes


@needs_fork
@forks
@pytest.mark.parametrize("stored", ["file", "server"])
@pytest.mark.parametrize("seed", [1, 3, 8])
def test_processes_never_overdraw_any_level(tmp_path, request, seed, stored):
    """In one store, over midnight; some are killed between the call and its settlement."""
    store = request.getfixturevalue("postgres_url") if stored == "server" else None
    course = fork_levels(seed, tmp_path, store, processes=4)

    assert [] == course.findings
    assert ({}, {}) == (course.overshot(), course.below_the_bill())
    assert 0 == course.refused_in_vain()
    assert 0 == sum(report.held_tokens for report in course.reports.values())


def _die_at(budget, statement):
    """Have this process killed when it begins its n-th statement."""
    left = iter(range(statement, -1, -1))

    def count(_):
        if next(left, 0) == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    budget.__enter__()  # the connection stays
    budget._account.store._file.connection().set_trace_callback(count)


@pytest.mark.exhaustive
@needs_fork
@forks
def test_a_call_is_paid_at_all_levels_or_at_none_wherever_it_is_killed(tmp_path):
    """Killed before every statement of SQL that reserving and settling make."""
    seen = Counter()
    for statement in range(100):
        path = tmp_path / f"{statement}.db"
        clock = Time(MIDNIGHT + 60)
        budget = levelled(path, "1", (5_000, 6_000, 9_000), clock)
        owners = USERS[0]
        budget.settle(budget.reserve("writer", 1_000, 0, owners=owners), Usage(1_000, 0))
        budget.close()
        child = os.fork()
        if child == 0:
            try:
                _die_at(budget, statement)
                hold = budget.reserve("writer", 300, 200, owners=owners)
                budget.settle(hold, Usage(300, 100))
            finally:
                os._exit(0)
        end = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        used = [(r.spent_tokens, r.held_tokens) for r in budget.reports(owners)]
        assert 1 == len(set(used)), (statement, used)
        seen[used[0]] += 1
        clock.now += LEASE_SECONDS
        after = {(r.spent_tokens, r.held_tokens) for r in budget.reports(owners)}
        assert after <= {(1_000, 0), (1_500, 0), (1_400, 0)}
        assert [] == budget.check(owners)
        budget.close()
        if end == 0:
            break

    assert {(1_000, 0), (1_000, 500), (1_400, 0)} == set(seen)
    assert seen.total() > 20


@needs_fork
@forks
def test_a_forked_copy_of_limits_in_memory_refuses_to_work():
    """It would spend the same tokens again; the message says how to share them."""
    budget = levelled(None, "1", (1_000, 1_000, 1_000), Time(MIDNIGHT), scope="forked")
    budget.reserve("writer", 100, 0, owners=USERS[0])
    child = os.fork()
    if child == 0:
        try:
            budget.reserve("writer", 1, 0, owners=USERS[0])
        except TokenOptError as error:
            os._exit(7 if "path=" in str(error) else 1)
        os._exit(0)

    assert 7 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert budget.reserve("writer", 1, 0, owners=USERS[0])


# The host


class State(TypedDict, total=False):
    """What two nodes write."""

    draft: str
    verdict: str


def graph_of(model: Any, plan: BudgetPlan) -> Any:
    """Return a graph of a writer and a judge."""
    graph = StateGraph(State)
    graph.add_node("writer", lambda _: {"draft": model.invoke("Write a line.").text})
    graph.add_node("judge", lambda _: {"verdict": model.invoke("Judge the line.").text})
    graph.add_edge(START, "writer").add_edge("writer", "judge").add_edge("judge", END)
    return budget_graph(graph, plan).compile()


def test_a_graph_runs_inside_of_its_users_day(model_server: ModelServer, tmp_path) -> None:
    """Of two users one runs out; the next day it goes on; the month has it all."""
    path, clock = tmp_path / "budgets.db", Time(MIDNIGHT - 3_600)
    plan = BudgetPlan(
        total_tokens=5_000,
        agents={"judge": {"floor": 100}},
        max_output_tokens_per_call=64,
        within=[
            {"total_tokens": 150, "per": "user", "window": "day", "timezone": ZONE},
            BudgetLimit(total_tokens=5_000, per="organization", window="month", timezone=ZONE),
        ],
    )
    graph = graph_of(optimize(model_server.chat_openai(), plan), plan)

    def run(user: str) -> dict[str, Any]:
        with plan.run(user=user, organization="acme", path=path, clock=clock) as run:
            said = graph.invoke({})
        assert 0 == run.report().account.held_tokens
        return {**said, "report": run.report()}

    first = [run("ann") for _ in range(6)]
    other, refused = run("bob"), first[-1]
    clock.now += 7_200
    again = run("ann")

    assert "[No answer" not in first[0]["verdict"] + other["verdict"] + again["verdict"]
    assert "of the user 'ann' for the day has" in refused["verdict"]
    assert "It resets at 2026-10-25 00:00 (Europe/Berlin)." in refused["verdict"]
    billed = sum(usage.total_tokens for usage in model_server.billed)
    day, month = again["report"].limits
    assert billed == month.spent_tokens
    assert "user 'ann'" in str(again["report"])
    assert "resets at 2026-10-26 00:00 Europe/Berlin" in str(again["report"])
    days = [report for report in reports_in(path) if report.per == "user"]
    assert billed == sum(report.spent_tokens for report in days)
    assert all(report.spent_tokens <= 150 for report in days)
    assert 3 == len(days)
    assert day.spent_tokens == days[1].spent_tokens


@in_memory
def test_a_chain_and_a_model_without_stages_are_refused_alike(model_server: ModelServer) -> None:
    """By the same account; the error names it and says when there is more."""
    plan = BudgetPlan(
        total_tokens=400, name="alike", per="organization", window="week", timezone=ZONE
    )
    prompt = ChatPromptTemplate.from_messages([("user", "{question}")])
    staged = prompt | optimize(model_server.chat_openai(), plan) | StrOutputParser()
    bare = prompt | model_server.chat_openai(max_tokens=300) | StrOutputParser()
    clock = Time(MIDNIGHT)
    with plan.run(organization="alike", clock=clock):
        assert "[No answer" not in staged.invoke({"question": "Is it?"})
    with plan.run(organization="alike", clock=clock):
        assert bare.invoke({"question": "Is it?"})
        with pytest.raises(BudgetExceededError, match="of the organization 'alike' for the week"):
            bare.invoke({"question": "Is it? " * 90})


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("own_total", [2_000, 900], ids=["as much", "less"])
def test_calls_at_once_of_one_user_are_not_refused_while_the_day_is_young(
    model_server: ModelServer, tmp_path, is_async: bool, own_total: int
) -> None:
    """A call leaves as much of a day for another run; a refusal says what calls under way hold."""
    day = BudgetLimit(total_tokens=2_000, per="user", window="day")
    plan = BudgetPlan(total_tokens=own_total, within=[day], on_exceed="raise")
    model = optimize(model_server.chat_openai(), plan)
    one_failed = Event()

    def ask(number: int) -> str:
        try:
            with plan.run(user="ann", path=tmp_path / "days.db"):
                if is_async:
                    return asyncio.run(model.ainvoke(f"Is it {number}?")).text
                return model.invoke(f"Is it {number}?").text
        except BaseException:
            one_failed.set()
            raise

    def answer_once_asked(times: int) -> Callable[[Any], Reply]:
        arrived = model_server.requests
        return lambda _: Reply(ready=lambda: len(arrived) >= times or one_failed.is_set())

    with ThreadPoolExecutor(3) as pool:
        for times in (3, 6):
            model_server.answer = answer_once_asked(times)
            assert all(pool.map(ask, range(3)))
    model_server.answer = answer_once_asked(100)
    with ThreadPoolExecutor(12) as pool:
        many = [pool.submit(ask, number) for number in range(12)]
        refused = [str(error) for one in many if (error := one.exception(30))]
    assert refused
    assert all("held by calls under way" in said for said in refused), refused


def test_a_hold_that_was_chosen_before_others_leaves_as_much_of_a_day(tmp_path) -> None:
    """Runs that looked at the day at the same moment ask for nearly all of it, one by one."""
    day = BudgetLimit(total_tokens=2_000, per="user", window="day")
    demands = Demands(own=Demand(least=172, likely=332))
    held = []
    for run in "abc":
        budget = TokenBudget(2_000, path=tmp_path / "days.db", run=run, within=[day])
        hold = budget.reserve(
            "ask", 92, 1_900, min_output_tokens=80, owners=Owners("ann"), demands=demands
        )
        assert hold
        held.append(hold.tokens)
    assert held == [1_166, 583, 251]


@in_memory
def test_scope_says_whose_calls_they_are(model_server: ModelServer) -> None:
    """As for usage and cache."""
    plan = BudgetPlan(total_tokens=900, name="scoped", per="user", window="hour")
    model = optimize(model_server.chat_openai())
    with token_scope(user="ann", organization="acme", plan=plan) as scope:
        model.invoke("Is it?")

    assert scope.run is not None
    (limit,) = scope.run.report().limits
    assert ("user", "ann", "hour") == (limit.per, limit.owner, limit.window)
    assert scope.usage.totals().total_tokens == limit.spent_tokens


@in_memory
def test_calls_of_nobody_are_counted_together_and_said_so(model_server: ModelServer) -> None:
    """With a limit per user and no user: one account, and a warning."""
    plan = BudgetPlan(total_tokens=900, name="nameless", per="user", window="hour")
    model = optimize(model_server.chat_openai(), plan)
    with plan.run() as run, pytest.warns(TokenOptWarning, match=r"Give plan\.run\(user=\.\.\.\)"):
        model.invoke("Is it?")

    (limit,) = run.report().limits
    assert "no user" in limit.sentence()
    assert limit.spent_tokens > 0


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("stored", [True, False], ids=["file", "memory"])
@in_memory
def test_random_calls_sync_and_async_never_overdraw_a_day(
    model_server: ModelServer, tmp_path, seed, stored
) -> None:
    """Many users in one run, in every way of calling; the days' accounts are the bill."""
    chance, clock = random.Random(seed), Time(MIDNIGHT - 40)
    plan = BudgetPlan(
        total_tokens=700,
        name=f"random {seed}",
        per="user",
        window="day",
        timezone=ZONE,
        max_output_tokens_per_call=48,
    )
    model_server.answer = lambda request: Reply(text="Yes, and more. " * chance.randrange(1, 12))
    model = optimize(model_server.chat_openai(stream_usage=True), plan)
    billed: Counter[tuple[str, str]] = Counter()

    async def work() -> None:
        for _ in range(12):
            clock.now += chance.choice((1, 5, 20, -15))
            day = datetime.fromtimestamp(clock.now, ZoneInfo(ZONE)).strftime("%Y-%m-%d")
            users = chance.sample(["ann", "bob", "carl"], 2)
            before = len(model_server.billed)
            calls = [_call(model, chance.choice(WAYS), user) for user in users]
            answers = await asyncio.gather(*calls)
            for user, answer in zip(users, answers, strict=True):
                billed[user, day] += answer
            assert len(model_server.billed) - before == sum(answer > 0 for answer in answers)

    path = tmp_path / "budgets.db" if stored else None
    with plan.run(path=path, clock=clock) as run:
        asyncio.run(work())
        reports = {}
        for at in (MIDNIGHT - 1, MIDNIGHT + 1):
            clock.now = at
            for limit in run.report().limits:
                reports[limit.owner, f"{limit.starts_at:%Y-%m-%d}"] = limit

    assert {place: tokens for place, tokens in billed.items() if tokens} == {
        place: limit.spent_tokens for place, limit in reports.items() if limit.spent_tokens
    }
    assert all(limit.spent_tokens <= 700 for limit in reports.values())
    assert sum(billed.values()) == sum(usage.total_tokens for usage in model_server.billed)


WAYS = ("invoke", "ainvoke", "stream", "astream", "batch")


async def _call(model: Any, way: str, user: str) -> int:
    """Call, and return what was billed."""
    config: Any = {"metadata": {"user_id": user}}
    question = "Is it so, and why? " * 3
    if way == "ainvoke":
        answer = await model.ainvoke(question, config)
    elif way == "astream":
        answer = None
        async for chunk in model.astream(question, config):
            answer = chunk if answer is None else answer + chunk
    elif way == "stream":
        chunks = await asyncio.to_thread(lambda: list(model.stream(question, config)))
        answer = sum(chunks[1:], chunks[0])
    elif way == "batch":
        (answer,) = await asyncio.to_thread(model.batch, [question], config)
    else:
        answer = await asyncio.to_thread(model.invoke, question, config)
    return (answer.usage_metadata or {}).get("total_tokens", 0)


@in_memory
def test_a_thread_pays_from_its_own_total(model_server: ModelServer) -> None:
    """LangGraph's thread id names it, whatever the run is called."""
    plan = BudgetPlan(
        total_tokens=150,
        name="threads",
        per="thread",
        window="day",
        max_output_tokens_per_call=64,
    )
    graph = graph_of(optimize(model_server.chat_openai(), plan), plan)
    with plan.run() as run:
        said = [
            graph.invoke({}, {"configurable": {"thread_id": thread}})["verdict"]
            for thread in ("one", "one", "one", "one", "two")
        ]

    assert ["one", "two"] == [limit.owner for limit in run.report().limits]
    assert "of the thread 'one' for the day has" in said[3]
    assert "[No answer" not in said[0] + said[4]


@in_memory
def test_a_refusal_holds_for_whom_it_was_about(model_server: ModelServer) -> None:
    """Under on_exceed="raise" nobody gets around it, and others go on."""
    plan = BudgetPlan(
        total_tokens=100,
        name="raising",
        per="user",
        window="day",
        on_exceed="raise",
        max_output_tokens_per_call=64,
    )
    model = optimize(model_server.chat_openai(), plan)
    ann, bob = ({"metadata": {"user_id": user}} for user in ("ann", "bob"))
    clock = Time(MIDNIGHT)
    with plan.run(clock=clock):
        with pytest.raises(BudgetExceededError, match="'ann' for the day"):
            model.invoke("Is it? " * 90, ann)
        with pytest.raises(BudgetExceededError, match="'ann' for the day"):
            model.invoke("Is it?", ann)
        assert model.invoke("Is it?", bob).text
        clock.now += 90_000
        assert model.invoke("Is it?", ann).text
