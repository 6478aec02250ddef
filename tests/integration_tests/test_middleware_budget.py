"""A plan as middleware: its run begins and ends with the agent, whatever comes between."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import (
    AgentMiddleware,
    HumanInTheLoopMiddleware,
    LLMToolEmulator,
    SummarizationMiddleware,
    before_agent,
    before_model,
    hook_config,
)
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, interrupt
from pydantic import BaseModel, Field

from langchain_tokenopt import (
    BudgetExceededError,
    BudgetPlan,
    TokenBudgetMiddleware,
    ToolLimits,
    WordLimitMiddleware,
    budget_graph,
    optimize,
    track_usage,
)
from langchain_tokenopt.budget.run import NoBudgetRunError
from tests.support.model_server import ModelServer, Reply, Request, ToolCall

AMPLE = BudgetPlan(total_tokens=1_000_000)
PROSE = "The price rose again in spring and nobody on the desk knew the reason for it. "
ASKED: Any = {"messages": [("user", "What are x and y?")]}
FINAL = "answered in the model's place"
THREAD: Any = {"configurable": {"thread_id": "t"}}


class Verdict(BaseModel):
    """A verdict."""

    rating: str
    price: float


@tool
def lookup(word: str) -> str:
    """Look a word up."""
    return f"{word}: " + PROSE * 10


@tool
def confirm(word: str) -> str:
    """Ask a human."""
    return f"The human says {interrupt(word)}."


def answer(request: Request) -> Reply:
    """Call a tool once, then answer, with the schema where there is one."""
    names = {t["function"]["name"] for t in request.body.get("tools") or ()}
    done = [m["role"] for m in request.body["messages"]][-1] == "tool"
    for name in ("lookup", "confirm", "ask"):
        if name in names and not done:
            return Reply(tool_calls=[ToolCall(name, {"word": "x"})])
    if "Verdict" in names:
        return Reply(tool_calls=[ToolCall("Verdict", {"rating": "HOLD", "price": 1.5})])
    if request.body.get("response_format"):
        return Reply(text='{"rating": "HOLD", "price": 1.5}')
    return Reply(text="x and y are words. " + PROSE)


@pytest.fixture(autouse=True)
def scripted(model_server: ModelServer) -> None:
    model_server.answer = answer


def agent_of(server: ModelServer, budget: Any, tools: Any = (lookup,), **options: Any) -> Any:
    """Return an agent under a budget; other middleware stands behind it."""
    middleware = [budget, *options.pop("middleware", ())]
    return create_agent(server.chat_openai(), [*tools], middleware=middleware, **options)


def billed(server: ModelServer) -> int:
    return sum(usage.total_tokens for usage in server.billed)


def spent_in(result: Any) -> int:
    spent: int = result["token_budget"]["account"]["spent_tokens"]
    return spent


# A run is an invocation


@pytest.mark.parametrize("is_async", [False, True])
def test_the_report_of_each_invocation_is_its_bill(
    model_server: ModelServer, is_async: bool
) -> None:
    """And the next one begins anew, on the same thread, too."""
    agent = agent_of(
        model_server,
        TokenBudgetMiddleware(AMPLE, report=True),
        name="reader",
        checkpointer=InMemorySaver(),
    )

    async def both() -> list[Any]:
        return [await agent.ainvoke(ASKED, THREAD) for _ in range(2)]

    first, second = asyncio.run(both()) if is_async else [agent.invoke(ASKED, THREAD) for _ in "12"]
    assert spent_in(first) + spent_in(second) == billed(model_server)
    assert 0 < spent_in(first) < spent_in(second)
    assert list(first["token_budget"]["agents"]) == ["reader"]
    assert first["token_budget"]["thread_id"] == "t"
    assert "tokenopt_budget" not in first


def test_without_asking_there_is_no_report(model_server: ModelServer) -> None:
    """The result is that of the agent."""
    budgeted = agent_of(model_server, TokenBudgetMiddleware(AMPLE))
    assert budgeted.invoke(ASKED).keys() == {"messages"}
    plain = create_agent(model_server.chat_openai(), [lookup])
    assert plain.get_input_jsonschema() == budgeted.get_input_jsonschema()
    assert plain.get_output_jsonschema() == budgeted.get_output_jsonschema()


def test_many_at_once_are_runs_of_their_own(model_server: ModelServer) -> None:
    """Each is given the plan's total."""
    agent = agent_of(model_server, TokenBudgetMiddleware(AMPLE, report=True))
    results = agent.batch([ASKED] * 5)
    assert {spent_in(result) for result in results} == {billed(model_server) // 5}


@pytest.mark.filterwarnings("ignore:the limits of the plan")
def test_a_thread_has_one_account_where_the_plan_says_so(model_server: ModelServer) -> None:
    """Turn by turn, until nothing is left; another thread has its own."""
    plan = BudgetPlan(total_tokens=1_400, per="thread")
    agent = agent_of(
        model_server, TokenBudgetMiddleware(plan, report=True), (), checkpointer=InMemorySaver()
    )
    said = [agent.invoke(ASKED, THREAD)["messages"][-1] for _ in range(30)]
    assert said[0].text.startswith("x and y")
    assert said[-1].response_metadata["tokenopt_degraded"] == [FINAL]
    assert billed(model_server) <= 1_400
    other = agent.invoke(ASKED, {"configurable": {"thread_id": "u"}})
    assert other["messages"][-1].text.startswith("x and y")


def test_a_run_around_is_joined(model_server: ModelServer) -> None:
    """Several agents, one account; of another plan, nobody pays."""
    agents = [agent_of(model_server, TokenBudgetMiddleware(AMPLE), name=n) for n in ("a", "b")]
    with AMPLE.run() as run:
        for agent in agents:
            agent.invoke(ASKED)
    report = run.report()
    assert report.account.spent_tokens == billed(model_server)
    assert set(report.agents) == {"a", "b"}
    with BudgetPlan(total_tokens=5_000).run(), pytest.raises(NoBudgetRunError):
        agents[0].invoke(ASKED)


# Nothing left


@pytest.mark.parametrize("form", [None, ToolStrategy(Verdict), ProviderStrategy(Verdict)])
@pytest.mark.parametrize("tools", [(), (lookup,)])
@pytest.mark.parametrize("total", [40, 150, 400])
def test_an_agent_without_tokens_ends_with_a_message(
    model_server: ModelServer, form: Any, tools: Any, total: int
) -> None:
    """Of whatever form, within the total, and no tool call is left open."""
    plan = BudgetPlan(total_tokens=total)
    budget = TokenBudgetMiddleware(plan, report=True)
    result = agent_of(model_server, budget, tools, response_format=form).invoke(ASKED)
    assert billed(model_server) <= total
    calls = {c["id"] for m in result["messages"] for c in getattr(m, "tool_calls", ())}
    assert calls == {m.tool_call_id for m in result["messages"] if isinstance(m, ToolMessage)}
    said = [m for m in result["messages"] if isinstance(m, AIMessage)]
    if result["token_budget"]["denied_calls"]:
        assert said[-1].response_metadata["tokenopt_degraded"][-1] == FINAL
    assert said[-1].text or result.get("structured_response")


class Rating(BaseModel):
    """A rating, of which nothing can be made up."""

    rating: str = Field(pattern="^(BUY|SELL)$")


def test_where_no_answer_can_be_made_up_the_agent_ends_all_the_same(
    model_server: ModelServer,
) -> None:
    """A model under optimize could only raise there."""
    budget = TokenBudgetMiddleware(BudgetPlan(total_tokens=10), report=True)
    agent = agent_of(model_server, budget, response_format=ToolStrategy(Rating))
    result = agent.invoke(ASKED)
    assert result["messages"][-1].text.startswith("[No answer:")
    assert result["messages"][-1].response_metadata == {"tokenopt_degraded": [FINAL]}
    assert result["token_budget"]["denied_calls"] == 1
    assert asyncio.run(agent.ainvoke(ASKED))["messages"][-1].text.startswith("[No answer:")
    assert not model_server.requests


def test_a_plan_that_raises_raises(model_server: ModelServer) -> None:
    """And the next invocation is another run."""
    plan = BudgetPlan(total_tokens=400, on_exceed="raise")
    agent = agent_of(model_server, TokenBudgetMiddleware(plan))
    for _ in range(2):
        with pytest.raises(BudgetExceededError):
            agent.invoke(ASKED)
    assert billed(model_server) <= 800


def guarded(server: ModelServer, middleware: list[Any]) -> tuple[Any, list[str]]:
    """Return an agent whose requests are checked by another model, and what that one said."""
    said: list[str] = []
    model = server.chat_openai(max_tokens=50)

    @before_model
    def check(state: Any, runtime: Any) -> None:
        said.append(model.invoke("Is this safe? " + PROSE * 20).text)

    agent: Any = create_agent(
        server.chat_openai(),
        [lookup],
        middleware=[*middleware, check],
        checkpointer=InMemorySaver(),
    )
    return agent, said


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("total", [100, 500, 1_000_000])
def test_where_a_hook_cannot_ask_the_agents_model_is_not_asked_either(
    model_server: ModelServer, total: int, is_async: bool
) -> None:
    """Whatever the hook was to find out, nobody knows it; the next turn begins anew."""
    plan = BudgetPlan(total_tokens=total)
    agent, said = guarded(model_server, [TokenBudgetMiddleware(plan)])

    def ask() -> Any:
        with plan.run() as run:
            result = (
                asyncio.run(agent.ainvoke(ASKED, THREAD))
                if is_async
                else agent.invoke(ASKED, THREAD)
            )
        assert run.report().account.spent_tokens <= total
        return result["messages"][-1]

    answers = [ask(), ask()]
    agents_own = [r for r in model_server.requests if "Is this safe?" not in r.last_text]
    assert len(said) >= len(agents_own)
    assert len(agents_own) == {100: 0, 1_000_000: 4}.get(total, len(agents_own))
    for last in answers:
        if len(agents_own) < 4:
            assert last.response_metadata["tokenopt_degraded"]
        assert last.text.startswith("[No answer:" if total == 100 else ("[No answer:", "x and y"))
    assert billed(model_server) <= 2 * total


def test_a_hook_of_an_agent_that_hears_of_no_refusal_raises(model_server: ModelServer) -> None:
    """It would go on without what the hook was to find out."""
    agent, _ = guarded(model_server, [])
    with BudgetPlan(total_tokens=100).run(), pytest.raises(BudgetExceededError, match="needs"):
        agent.invoke(ASKED, THREAD)


@pytest.mark.filterwarnings("ignore:SummarizationMiddleware asks a model by itself")
@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("summarizes", ["staged", "unstaged"])
@pytest.mark.parametrize("around", ["budget_graph", "plan.run", "middleware"])
def test_a_summary_that_cannot_be_paid_is_left_out(
    model_server: ModelServer, around: str, summarizes: str, *, is_async: bool
) -> None:
    """Else a text that says so would stand in the place of the conversation, question and all."""
    question = "Which of the two words is older, x or y?"
    model_server.answer = lambda request: (
        Reply(tool_calls=[ToolCall("lookup", {"word": "x"})])
        if request.body.get("tools") and len(request.body["messages"]) < 3
        else Reply(text="x is older.")
    )
    plan = BudgetPlan(total_tokens=600)
    name = f"ft:gpt-4.1-mini:sum:{around}:{summarizes}:{is_async}"
    model, summarizer = model_server.chat_openai(model=name), model_server.chat_openai(model=name)
    if summarizes == "staged":
        summarizer = optimize(summarizer, plan)
    middleware: list[Any] = [TokenBudgetMiddleware(plan)] if around == "middleware" else []
    shortens = SummarizationMiddleware(summarizer, trigger=("tokens", 150), keep=("messages", 2))
    staged = model if middleware else optimize(model, plan)
    agent: Any = create_agent(staged, [lookup], middleware=[*middleware, shortens])
    agent = budget_graph(agent, plan) if around == "budget_graph" else agent
    asked = {"messages": [("user", f"{PROSE * 20}\n\n{question}")]}
    with plan.run() as run:
        result = asyncio.run(agent.ainvoke(asked)) if is_async else agent.invoke(asked)

    assert result["messages"][-1].text == "x is older."
    assert all(any(question in text for text in r.texts) for r in model_server.requests)
    assert not any("No answer" in text for r in model_server.requests for text in r.texts)
    assert run.report().account.spent_tokens <= 600


# Interrupts


def other_process(server: ModelServer, saver: Any, **options: Any) -> Any:
    """Return what another process would make of the same program: an equal plan, new runs."""
    plan = BudgetPlan(total_tokens=1_000_000, **options.pop("plan", {}))
    budget = TokenBudgetMiddleware(plan, report=True, **options)
    return agent_of(server, budget, (confirm,), checkpointer=saver)


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Forget all accounts of this process when called."""
    from langchain_tokenopt.budget import run
    from langchain_tokenopt.budget.account_registry import AccountRegistry

    def forget() -> None:
        monkeypatch.setattr(run, "_accounts", AccountRegistry(keep=1_000))

    return forget


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("elsewhere", [False, True])
def test_an_interrupted_run_goes_on(
    model_server: ModelServer,
    tmp_path: Path,
    forgetful: Any,
    is_async: bool,
    stored: bool,
    elsewhere: bool,
) -> None:
    """Here or elsewhere: the report is on all of it, and it equals the bill."""
    saver = InMemorySaver()
    options: Any = {"path": tmp_path / "b.db"} if stored else {}
    agent = other_process(model_server, saver, **options)

    async def through(agents: list[Any]) -> Any:
        await agents[0].ainvoke(ASKED, THREAD)
        return await agents[1].ainvoke(Command(resume="yes"), THREAD)

    agents = [agent, other_process(model_server, saver, **options) if elsewhere else agent]
    if is_async:
        result = asyncio.run(through(agents))
    else:
        agents[0].invoke(ASKED, THREAD)
        if elsewhere:
            forgetful()
        result = agents[1].invoke(Command(resume="yes"), THREAD)
    assert result["messages"][-2].text == "The human says yes."
    assert spent_in(result) == billed(model_server)


@pytest.mark.filterwarnings("ignore:the limits of the plan")
def test_turns_of_one_thread_at_the_same_time_each_end_with_a_report(
    model_server: ModelServer,
) -> None:
    """Though they share an account, and one of them is the first to end."""
    plan = BudgetPlan(total_tokens=900_000, per="thread")  # of which no other test has an account
    budget = TokenBudgetMiddleware(plan, report=True)
    agent = agent_of(model_server, budget, checkpointer=InMemorySaver())

    async def together() -> list[Any]:
        return await asyncio.gather(*(agent.ainvoke(ASKED, THREAD) for _ in range(6)))

    assert max(map(spent_in, asyncio.run(together()))) == billed(model_server)


def test_an_agent_that_another_process_brings_to_its_end_has_a_report(
    model_server: ModelServer, forgetful: Any
) -> None:
    """Nothing was left to do but to end."""
    saver = InMemorySaver()

    def made(**options: Any) -> Any:
        budget = TokenBudgetMiddleware(BudgetPlan(total_tokens=1_000_000), report=True)
        return agent_of(model_server, budget, checkpointer=saver, **options)

    made(interrupt_before=["TokenBudgetMiddleware.after_agent"]).invoke(ASKED, THREAD)
    forgetful()
    assert spent_in(made().invoke(None, THREAD)) == billed(model_server)


@pytest.mark.filterwarnings("ignore:the limits of the plan")
def test_a_conversation_goes_on_in_another_process(
    model_server: ModelServer, forgetful: Any
) -> None:
    """What its turns have spent stands in its checkpoints."""
    saver = InMemorySaver()
    agents = [other_process(model_server, saver, plan={"per": "thread"}) for _ in range(2)]
    agents[0].invoke(ASKED, THREAD)
    agents[0].invoke(Command(resume="yes"), THREAD)
    forgetful()
    agents[1].invoke(ASKED, THREAD)
    result = agents[1].invoke(Command(resume="yes"), THREAD)
    assert spent_in(result) == billed(model_server)


def test_a_human_decides_on_a_call_in_between(model_server: ModelServer) -> None:
    """LangChain's own middleware, before ours and behind it."""
    human = HumanInTheLoopMiddleware(interrupt_on={"lookup": True})
    budget = TokenBudgetMiddleware(AMPLE, report=True)
    for middleware in ([human, budget], [budget, human]):
        agent = create_agent(
            model_server.chat_openai(),
            [lookup],
            middleware=middleware,
            checkpointer=InMemorySaver(),
        )
        model_server.reset()
        model_server.answer = answer
        agent.invoke(ASKED, THREAD)
        decided = Command(resume={"decisions": [{"type": "approve"}]})
        assert spent_in(agent.invoke(decided, THREAD)) == billed(model_server)


# Company


def test_an_agent_that_ends_before_it_begins_has_no_report(model_server: ModelServer) -> None:
    """Nor the one of the turn before."""

    @before_agent
    @hook_config(can_jump_to=["end"])
    def guard(state: Any, runtime: Any) -> Any:
        return {"jump_to": "end"} if "stop" in state["messages"][-1].text else None

    budget = TokenBudgetMiddleware(AMPLE, report=True)
    agent: Any = create_agent(
        model_server.chat_openai(), [], middleware=[guard, budget], checkpointer=InMemorySaver()
    )
    assert spent_in(agent.invoke(ASKED, THREAD)) == billed(model_server)
    assert agent.invoke({"messages": [("user", "stop")]}, THREAD)["token_budget"] is None


def test_an_agent_whose_beginning_was_left_out_is_paid_all_the_same(
    model_server: ModelServer,
) -> None:
    """Others may jump over our first hook."""

    @before_agent
    @hook_config(can_jump_to=["model"])
    def jumping(state: Any, runtime: Any) -> Any:
        return {"jump_to": "model"}

    budget = TokenBudgetMiddleware(AMPLE, report=True)
    agent: Any = create_agent(model_server.chat_openai(), [], middleware=[jumping, budget])
    assert spent_in(agent.invoke(ASKED)) == billed(model_server)


def test_what_others_ask_around_a_call_is_paid(model_server: ModelServer) -> None:
    """Behind ours, it is part of the run."""
    emulator = LLMToolEmulator(tools=[lookup], model=model_server.chat_openai())
    budget = TokenBudgetMiddleware(AMPLE, report=True)
    result = agent_of(model_server, budget, middleware=[emulator]).invoke(ASKED)
    assert spent_in(result) == billed(model_server)
    assert len(model_server.requests) == 3


class Failing(AgentMiddleware):
    """Fails once, behind all others."""

    failed = False

    def wrap_model_call(self, request: Any, handler: Any) -> Any:
        if not self.failed:
            self.failed = True
            raise ConnectionError("gone")
        return handler(request)


def test_after_an_error_the_next_invocation_is_a_run_of_its_own(model_server: ModelServer) -> None:
    """The thread can go on."""
    budget = TokenBudgetMiddleware(AMPLE, report=True)
    agent = agent_of(model_server, budget, middleware=[Failing()], checkpointer=InMemorySaver())
    with pytest.raises(ConnectionError):
        agent.invoke(ASKED, THREAD)
    assert spent_in(agent.invoke(ASKED, THREAD)) == billed(model_server)


# Tools


def asking(server: ModelServer, **options: Any) -> Any:
    """Return a tool that asks an agent, whose model nobody has staged."""
    inner = create_agent(server.chat_openai(), [lookup], name=options.pop("name", None), **options)

    @tool
    def ask(word: str) -> str:
        """Ask somebody else."""
        return str(inner.invoke({"messages": [("user", word)]})["messages"][-1].text)

    return ask


@pytest.mark.parametrize("staged", [False, True])
@pytest.mark.parametrize("is_async", [False, True])
def test_agents_as_tools_are_paid_from_the_run(
    model_server: ModelServer, staged: bool, is_async: bool
) -> None:
    """Each from the account of its name; an agent under the same plan is part of the run."""
    middleware = [TokenBudgetMiddleware(AMPLE, report=True)] if staged else []
    ask = asking(model_server, name="inner", middleware=middleware)
    agent = agent_of(model_server, TokenBudgetMiddleware(AMPLE, report=True), (ask,), name="outer")
    with track_usage() as usage:
        result = asyncio.run(agent.ainvoke(ASKED)) if is_async else agent.invoke(ASKED)
    assert spent_in(result) == billed(model_server) == usage.totals().total_tokens
    assert set(result["token_budget"]["agents"]) == {"outer", "inner"}


def test_a_tool_that_the_plan_names_has_an_account(model_server: ModelServer) -> None:
    """Its share, its cap, its line in the report."""
    plan = BudgetPlan(total_tokens=100_000, agents={"ask": {"cap": 50_000}, "outer": {}})
    ask = asking(model_server)
    agent = agent_of(model_server, TokenBudgetMiddleware(plan, report=True), (ask,), name="outer")
    agents = agent.invoke(ASKED)["token_budget"]["agents"]
    assert agents["ask"]["account"]["spent_tokens"] > agents["outer"]["account"]["spent_tokens"] > 0


@pytest.mark.filterwarnings("ignore:tool_limits name 'ask'")
def test_tools_have_limits_of_their_own_in_every_run(model_server: ModelServer) -> None:
    """Of all, or by name; what is refused is a message that the model can read."""

    def again(request: Request) -> Reply:
        results = [m["content"] for m in request.body["messages"] if m["role"] == "tool"]
        if len(results) < 3:
            return Reply(tool_calls=[ToolCall("lookup", {"word": "x"}, id=f"c{len(results)}")])
        return Reply(text="Enough.")

    model_server.answer = again
    once = ToolLimits(max_calls=1)
    for limits in (once, {"lookup": once}, {"ask": once}):
        agent = agent_of(model_server, TokenBudgetMiddleware(AMPLE, tool_limits=limits))
        for _ in range(2):
            results = [m for m in agent.invoke(ASKED)["messages"] if isinstance(m, ToolMessage)]
            wanted = ["success"] * 3 if limits == {"ask": once} else ["success", "error", "error"]
            assert [m.status for m in results] == wanted


# Streams


def test_a_stream_tells_what_the_budget_does(model_server: ModelServer) -> None:
    """In the agent's own custom stream; and every mode of it ends with the report."""
    budget = TokenBudgetMiddleware(BudgetPlan(total_tokens=300), report=True)
    agent = agent_of(model_server, budget, middleware=[WordLimitMiddleware(30)])
    pieces = [*agent.stream(ASKED, stream_mode=["custom", "values", "updates"])]
    assert [value for mode, value in pieces if mode == "custom"]
    assert spent_in(pieces[-1][1] if pieces[-1][0] == "values" else pieces[-2][1]) <= 300
