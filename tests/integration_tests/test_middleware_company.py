"""Ours among LangChain's own middleware, before and behind it, and in agents made of agents."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import (
    AgentMiddleware,
    ContextEditingMiddleware,
    FilesystemFileSearchMiddleware,
    LLMToolEmulator,
    LLMToolSelectorMiddleware,
    ModelCallLimitMiddleware,
    ModelFallbackMiddleware,
    ModelRetryMiddleware,
    PIIMiddleware,
    SummarizationMiddleware,
    TodoListMiddleware,
    ToolCallLimitMiddleware,
    ToolRetryMiddleware,
)
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver

from langchain_tokenopt import (
    BudgetPlan,
    ContextMiddleware,
    PromptCompressionMiddleware,
    SemanticCacheMiddleware,
    TokenBudgetMiddleware,
    ToolSelectionMiddleware,
    WordLimitMiddleware,
    track_usage,
)
from tests.support.model_server import ModelServer, Reply, Request, ToolCall

pytestmark = pytest.mark.filterwarnings("ignore:.*SummarizationMiddleware asks a model")

PROSE = "The price rose again in spring and nobody on the desk knew the reason for it. "
ASKED: Any = {"messages": [("user", "What is x?")]}


@tool
def lookup(word: str) -> str:
    """Look a word up."""
    return f"{word}: " + PROSE * 10


def answer(request: Request) -> Reply:
    """Call the tool once, then answer; choose a tool where that is what is asked."""
    names = {t["function"]["name"] for t in request.body.get("tools") or ()}
    if request.body.get("response_format"):
        return Reply(text='{"tools": ["lookup"]}')
    done = [m["role"] for m in request.body["messages"]][-1] == "tool"
    if "lookup" in names and not done:
        return Reply(tool_calls=[ToolCall("lookup", {"word": "x"})])
    return Reply(text="x is a word. " + PROSE)


BUILT_IN: dict[str, Callable[[Any], AgentMiddleware]] = {
    "editing": lambda model: ContextEditingMiddleware(),
    "files": lambda model: FilesystemFileSearchMiddleware(root_path="."),
    "emulator": lambda model: LLMToolEmulator(tools=[lookup], model=model),
    "selector": lambda model: LLMToolSelectorMiddleware(model=model, max_tools=1),
    "calls": lambda model: ModelCallLimitMiddleware(run_limit=9),
    "fallback": lambda model: ModelFallbackMiddleware(model),
    "retry": lambda model: ModelRetryMiddleware(max_retries=1),
    "pii": lambda model: PIIMiddleware("email"),
    "summaries": lambda model: SummarizationMiddleware(
        model, trigger=("messages", 3), keep=("messages", 1)
    ),
    "todo": lambda model: TodoListMiddleware(),
    "tool calls": lambda model: ToolCallLimitMiddleware(run_limit=9),
    "tool retry": lambda model: ToolRetryMiddleware(),
}
ASKING_AROUND = {"emulator", "selector"}


def ours(total: int) -> list[AgentMiddleware]:
    """Return one of each."""
    return [
        TokenBudgetMiddleware(BudgetPlan(total_tokens=total), report=True),
        SemanticCacheMiddleware(semantic=False),
        ToolSelectionMiddleware(embeddings=False),
        ContextMiddleware(max_tokens=20_000),
        PromptCompressionMiddleware(keep=0.9),
        WordLimitMiddleware(2_000, ask=False),
    ]


def kinds(result: Any) -> list[tuple[str, str, str]]:
    """Return what a conversation is made of."""
    return [
        (m.type, m.text, str([c["name"] for c in getattr(m, "tool_calls", ())]))
        for m in result["messages"]
    ]


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("behind", [False, True], ids=["ours first", "ours behind"])
@pytest.mark.parametrize("name", BUILT_IN)
def test_each_of_langchains_own_works_with_all_of_ours(
    model_server: ModelServer, name: str, behind: bool, is_async: bool
) -> None:
    """With ample limits the conversation is what it was; with scarce ones it comes to an end."""
    model_server.answer = answer
    model = model_server.chat_openai()

    def run(middleware: list[AgentMiddleware]) -> Any:
        agent: Any = create_agent(model, [lookup], middleware=middleware)
        return asyncio.run(agent.ainvoke(ASKED)) if is_async else agent.invoke(ASKED)

    def among(total: int) -> list[AgentMiddleware]:
        other, own = BUILT_IN[name](model_server.chat_openai()), ours(total)
        if not behind:
            return [*own, other]
        return [own[0], other, *own[1:]] if name in ASKING_AROUND else [other, *own]

    model = model_server.chat_openai()
    wanted = kinds(run([BUILT_IN[name](model_server.chat_openai())]))
    asked = len(model_server.requests)
    model = model_server.chat_openai()  # a client belongs to one event loop
    with track_usage() as usage:
        found = run(among(1_000_000))
    assert kinds(found) == wanted
    assert len(model_server.requests) == 2 * asked
    if name != "summaries":  # which nobody can charge from here
        spent = found["token_budget"]["account"]["spent_tokens"]
        assert spent == usage.totals().total_tokens

    model = model_server.chat_openai()
    before = len(model_server.billed)
    scarce = run(among(220))
    calls = {c["id"] for m in scarce["messages"] for c in getattr(m, "tool_calls", ())}
    assert calls == {m.tool_call_id for m in scarce["messages"] if isinstance(m, ToolMessage)}
    assert isinstance(scarce["messages"][-1], AIMessage)
    if name != "summaries":
        assert sum(bill.total_tokens for bill in model_server.billed[before:]) <= 220


def test_summaries_are_paid_where_a_run_is_around(model_server: ModelServer) -> None:
    """As the warning says."""
    model_server.answer = answer
    plan = BudgetPlan(total_tokens=1_000_000)
    middleware = [
        TokenBudgetMiddleware(plan),
        BUILT_IN["summaries"](model_server.chat_openai()),
    ]
    agent: Any = create_agent(
        model_server.chat_openai(), [lookup], middleware=middleware, checkpointer=InMemorySaver()
    )
    with plan.run() as run:
        for _ in range(3):
            agent.invoke(ASKED, {"configurable": {"thread_id": "t"}})
    assert run.report().account.spent_tokens == sum(b.total_tokens for b in model_server.billed)


@pytest.mark.skipif(find_spec("deepagents") is None, reason="deepagents is not installed")
@pytest.mark.parametrize("is_async", [False, True])
def test_a_deep_agent_and_its_subagents_are_one_run(
    model_server: ModelServer, is_async: bool
) -> None:
    """Its own subagent, too, whose model nobody has staged."""
    from deepagents import create_deep_agent

    def delegating(request: Request) -> Reply:
        names = {t["function"]["name"] for t in request.body.get("tools") or ()}
        done = [m["role"] for m in request.body["messages"]][-1] == "tool"
        if "task" in names and not done:
            task = {"description": "What is x?", "subagent_type": "general-purpose"}
            return Reply(tool_calls=[ToolCall("task", task)])
        return answer(request)

    model_server.answer = delegating
    agent: Any = create_deep_agent(
        model_server.chat_openai(), [lookup], middleware=ours(10_000_000)
    )
    with track_usage() as usage:
        result = asyncio.run(agent.ainvoke(ASKED)) if is_async else agent.invoke(ASKED)
    assert result["messages"][-1].text.startswith("x is a word")
    assert len(model_server.requests) >= 4
    spent = result["token_budget"]["account"]["spent_tokens"]
    assert spent == usage.totals().total_tokens > 0
