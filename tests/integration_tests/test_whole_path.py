"""``optimize_agent`` around agents and graphs: they do what they did, for less."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt
from langgraph_supervisor import create_supervisor

from langchain_tokenopt import BudgetPlan, ToolSelector, WordLimit, optimize_agent, track_usage
from tests.benchmarks.whole_desk import (
    HANDBOOK,
    Bill,
    ScriptedModel,
    conversations,
    office_tools,
)
from tests.support.fakes import FakeTextModel
from tests.support.forty_tools import FORTY, shown_in
from tests.support.model_server import ModelServer, Reply, Request, ToolCall

AMPLE = BudgetPlan(total_tokens=1_000_000)
ASKED: Any = {"messages": [("user", "Please find the invoice of May.")]}
FEW: Any = {"tools": {"max_tools": 8}}
THREAD: Any = {"configurable": {"thread_id": "t"}}


@tool
def confirm(word: str) -> str:
    """Ask a human."""
    return f"The human says {interrupt(word)}."


def answer(request: Request) -> Reply:
    """Call a tool once, then answer."""
    names = shown_in(request.body)
    done = [m["role"] for m in request.body["messages"]][-1] == "tool"
    if not done:
        if "confirm" in names:
            return Reply(tool_calls=[ToolCall("confirm", {"word": "sure?"})])
        if "find_invoice" in names:
            return Reply(tool_calls=[ToolCall("find_invoice", {"what": "May"})])
    return Reply(text="It is here, " + "and so on, " * 200 + "at last.")


@pytest.fixture(autouse=True)
def scripted(model_server: ModelServer) -> None:
    model_server.answer = answer


def _said(result: Any) -> list[tuple[str, str, Any]]:
    calls = [getattr(m, "tool_calls", None) for m in result["messages"]]
    return [
        (m.type, m.text, [(c["name"], c["args"]) for c in called or ()])
        for m, called in zip(result["messages"], calls, strict=True)
    ]


# The same agent, for less


def test_an_agent_with_forty_tools_pays_for_few(model_server: ModelServer) -> None:
    """And answers as it did."""
    plain = create_agent(model_server.chat_openai(), FORTY)
    made = optimize_agent(plain, **FEW)
    assert type(made).__mro__[1] is type(plain)

    before = _said(plain.invoke(ASKED))
    raw = [request.body for request in model_server.requests]
    model_server.requests.clear()
    assert _said(made.invoke(ASKED)) == before
    ours = [request.body for request in model_server.requests]

    assert [len(body["tools"]) for body in raw] == [40, 40]
    assert all(len(body["tools"]) < 20 for body in ours)
    model_server.requests.clear()
    plain.invoke(ASKED)
    assert [request.body for request in model_server.requests] == raw  # untouched


def test_every_way_to_run_it_is_staged(model_server: ModelServer) -> None:
    """Sync, async, in streams of each mode, in events, in batches."""
    made = optimize_agent(
        create_agent(model_server.chat_openai(), FORTY, checkpointer=InMemorySaver()),
        limits={"max_words": 3},
        **FEW,
    )

    def config() -> Any:
        return {"configurable": {"thread_id": str(len(model_server.requests))}}

    async def events() -> list[Any]:
        return [e async for e in made.astream_events(ASKED, config(), version="v2")]

    async def streamed(mode: Any) -> list[Any]:
        return [part async for part in made.astream(ASKED, config(), stream_mode=mode)]

    ways: list[Callable[[], Any]] = [
        lambda: made.invoke(ASKED, config()),
        lambda: asyncio.run(made.ainvoke(ASKED, config())),
        lambda: list(made.stream(ASKED, config(), stream_mode="messages")),
        lambda: list(made.stream(ASKED, config(), stream_mode=["updates", "values"])),
        lambda: asyncio.run(streamed("messages")),
        lambda: asyncio.run(streamed("updates")),
        lambda: asyncio.run(events()),
        lambda: made.batch([ASKED], [config()]),
        lambda: made.with_config(tags=["x"]).invoke(ASKED, config()),
        lambda: made.with_retry().invoke(ASKED, config()),
    ]
    for way in ways:
        model_server.requests.clear()
        thread = config()
        way()
        sent = [request.body for request in model_server.requests]
        assert [len(body["tools"]) < 20 for body in sent] == [True, True]
        state = made.get_state(thread).values["messages"]
        assert state[-1].text == "It is here…"


def test_streamed_pieces_are_those_of_the_answer(model_server: ModelServer) -> None:
    """As without us, where nothing is limited."""
    plain = create_agent(model_server.chat_openai(), FORTY)
    both = []
    for agent in (plain, optimize_agent(plain)):
        parts = [m.text for m, _ in agent.stream(ASKED, stream_mode="messages") if m.type != "tool"]
        both.append("".join(parts))
    assert both[0] == both[1]
    assert both[0].endswith("at last.")


# What LangGraph does with it


@pytest.mark.parametrize("is_async", [False, True])
def test_interrupts_and_checkpoints_go_on(model_server: ModelServer, is_async: bool) -> None:
    """It stops, is looked at, resumed, and rewound."""
    saver = InMemorySaver()
    plain = create_agent(model_server.chat_openai(), [confirm], checkpointer=saver)
    made = optimize_agent(plain, plan=AMPLE)

    def run(given: Any) -> Any:
        if is_async:
            return asyncio.run(made.ainvoke(given, THREAD))
        return made.invoke(given, THREAD)

    first = run(ASKED)
    assert first["__interrupt__"][0].value == "sure?"
    assert made.get_state(THREAD).next == ("tools",)
    last = run(Command(resume="yes"))
    assert "The human says yes." in [m.text for m in last["messages"]]
    assert len(list(made.get_state_history(THREAD))) == len(list(plain.get_state_history(THREAD)))
    made.update_state(THREAD, {"messages": [HumanMessage("And?")]})
    assert made.get_state(THREAD).values["messages"][-1].text == "And?"


def test_it_is_a_node_of_another_graph(model_server: ModelServer) -> None:
    """With a stream that shows it, and its own state seen from outside."""
    inner = optimize_agent(create_agent(model_server.chat_openai(), FORTY, name="clerk"), **FEW)
    graph = StateGraph(MessagesState)
    graph.add_node("clerk", inner)
    outer = graph.add_edge(START, "clerk").compile(checkpointer=InMemorySaver())

    parts = list(outer.stream(ASKED, THREAD, subgraphs=True, stream_mode="updates"))

    assert [bool(namespace) for namespace, _ in parts] == [True, True, True, False]
    assert all(len(request.body["tools"]) < 20 for request in model_server.requests)
    assert [name for name, _ in outer.get_subgraphs()] == ["clerk"]
    outermost = optimize_agent(outer, limits={"max_words": 2})
    again = outermost.invoke(ASKED, {"configurable": {"thread_id": "other"}})
    assert again["messages"][-1].text == "It is…"


def test_models_in_nodes_tools_and_tasks_are_covered(model_server: ModelServer) -> None:
    """Wherever they are made; and what cannot be is said."""
    text = FakeTextModel(answers=["so"])

    @tool
    def find_invoice(what: str) -> str:
        """Look for an invoice."""
        return model_server.chat_openai().invoke(f"Who sent it? {what}").text + text.invoke("?")

    @entrypoint()
    def work(asked: str) -> str:
        agent = create_agent(model_server.chat_openai(), [find_invoice])
        return agent.invoke({"messages": [("user", asked)]})["messages"][-1].text

    made: Any = optimize_agent(work, WordLimit(4))
    assert made.invoke("Find it.") == "It is here, and…"
    (said,) = made.explain().notes
    assert "is a text model" in said
    told = [m for r in model_server.requests for m in r.body["messages"] if m["role"] == "tool"]
    assert told[0]["content"].startswith("It is here, and…")


@pytest.mark.filterwarnings("ignore:create_react_agent has been moved")
def test_supervisors_delegate_as_they_did(model_server: ModelServer) -> None:
    """The agents below are covered; the plan is one for all."""

    def delegate(request: Request) -> Reply:
        names, last = shown_in(request.body), request.body["messages"][-1]
        if "transfer_to_clerk" in names and last["role"] == "user":
            return Reply(tool_calls=[ToolCall("transfer_to_clerk", {})])
        if "find_invoice" in names and last["role"] != "tool":
            return Reply(tool_calls=[ToolCall("find_invoice", {"what": "May"})])
        return Reply(text="The invoice is found.")

    model_server.answer = delegate
    chat = model_server.chat_openai()

    def desk(clerk: Any) -> Any:
        return create_supervisor([clerk], model=chat).compile()

    plain = desk(create_agent(chat, FORTY, name="clerk"))
    before = _said(plain.invoke(ASKED))
    model_server.reset()
    model_server.answer = delegate
    with AMPLE.run() as run:
        assert _said(optimize_agent(plain, plan=AMPLE, **FEW).invoke(ASKED)) == before
    forty = [r for r in model_server.requests if "transfer_to_clerk" not in shown_in(r.body)]
    assert forty
    assert all(len(request.body["tools"]) < 20 for request in forty)
    billed = sum(usage.total_tokens for usage in model_server.billed)
    assert run.report().account.spent_tokens == billed


# A plan


def test_each_run_of_a_graph_is_one_of_the_plan(model_server: ModelServer) -> None:
    """It spends what it may, and begins anew with the next."""
    plan = BudgetPlan(total_tokens=1_100)
    made = optimize_agent(create_agent(model_server.chat_openai(), FORTY), plan=plan)
    for _ in range(3):
        with track_usage() as usage:
            result = made.invoke(ASKED)
        assert 0 < usage.totals().total_tokens <= 1_100
        assert isinstance(result["messages"][-1], AIMessage)


def test_a_run_that_was_interrupted_goes_on_elsewhere(
    model_server: ModelServer, tmp_path: Path
) -> None:
    """What was spent before counts, in another process with the same checkpoints and store."""
    saver = InMemorySaver()
    plan = BudgetPlan(total_tokens=5_000)
    options = {"path": tmp_path / "b.db"}

    def made() -> Any:
        agent = create_agent(model_server.chat_openai(), [confirm], checkpointer=saver)
        return optimize_agent(agent, plan=plan, run=options)

    made().invoke(ASKED, THREAD)
    key = made().get_state(THREAD).metadata["tokenopt_run"]
    with plan.run(key, **options) as run:
        first = run.report().account.spent_tokens
    made().invoke(Command(resume="yes"), THREAD)
    with plan.run(key, **options) as run:
        both = run.report().account.spent_tokens
    made().invoke(ASKED, THREAD)
    other = made().get_state(THREAD).metadata["tokenopt_run"]

    assert 0 < first < both
    assert other != key


# What it says it has saved


@pytest.mark.parametrize("level", ["none", "balanced", "aggressive"])
def test_what_stages_have_saved_is_the_difference_of_the_bills(level: Any) -> None:
    """To the token, call by call: searches for tools and what was fetched back included."""
    talks = conversations(8, seed=3)

    def played(made: Callable[[Any], Any]) -> tuple[Bill, list[Any]]:
        bill = Bill()
        tasks = {t.key: t for talk in talks for t in talk.tasks}
        model = ScriptedModel(tasks=tasks, bill=bill, model_name="gpt-4-turbo")
        agent = made(create_agent(model, office_tools(), system_prompt=HANDBOOK))
        with track_usage() as usage:
            for talk in talks:
                said: list[Any] = []
                for task in talk.tasks:
                    said = agent.invoke({"messages": [*said, ("user", task.says)]})["messages"]
                    assert task.answer in said[-1].text
        return bill, usage.records

    tools = {} if level == "none" else {"tools": ToolSelector(max_tools=6, embeddings=False)}
    raw, plain = played(lambda agent: agent)
    ours, records = played(lambda agent: optimize_agent(agent, level=level, **tools))

    assert len(records) == len(plain)
    for one, other in zip(plain, records, strict=True):
        saved = sum(saving.saved_tokens for saving in other.savings)
        assert one.usage.total_tokens - other.usage.total_tokens == saved
    assert sum(record.usage.total_tokens for record in records) == ours.tokens
    spent = sum(saving.spent_tokens for record in records for saving in record.savings)
    assert (raw.tokens > ours.tokens, spent > 0) == ((level != "none"),) * 2


def test_a_level_leaves_tools_out_where_that_lowers_the_bill() -> None:
    """Where the provider keeps what stays the same, other tools each turn would cost more."""
    bills = {}
    talks = conversations(4, seed=5)
    for name, settings in (
        ("raw", None),
        ("level", {"tools": True}),
        ("always", {"tools": ToolSelector(embeddings=False)}),
    ):
        bill = bills[name] = Bill()
        model = ScriptedModel(tasks={t.key: t for talk in talks for t in talk.tasks}, bill=bill)
        agent = create_agent(model, office_tools(), system_prompt=HANDBOOK)
        if settings:
            agent = optimize_agent(agent, level="none", **settings)
        for talk in talks:
            said: list[Any] = []
            for task in talk.tasks:
                said = agent.invoke({"messages": [*said, ("user", task.says)]})["messages"]

    def units(name: str) -> float:
        return bills[name].read - bills[name].known / 2

    assert bills["always"].tokens < bills["raw"].tokens
    assert units("always") > units("raw")
    assert units("level") <= units("raw") * 1.01


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("inside", [False, True], ids=["own run", "inside of a run"])
def test_a_tool_that_the_plan_names_has_its_own_account(
    model_server: ModelServer, is_async: bool, inside: bool
) -> None:
    """For the models that it asks; what it may not spend, it may not."""

    def reply(request: Request) -> Reply:
        if shown_in(request.body) and len(request.body["messages"]) < 12:
            return Reply(tool_calls=[ToolCall("research", {"about": "x"})])
        return Reply(text="That is known. " * 30)

    @tool
    def research(about: str) -> str:
        """Research."""
        return model_server.chat_openai().invoke(f"What is {about}?").text

    model_server.answer = reply
    plan = BudgetPlan(total_tokens=40_000, agents={"research": {"cap": 400}})
    agent = optimize_agent(create_agent(model_server.chat_openai(), [research]), plan=plan)
    with track_usage() as usage, plan.run() if inside else nullcontext():
        result = asyncio.run(agent.ainvoke(ASKED)) if is_async else agent.invoke(ASKED)
    assert result["messages"][-1].text.startswith("That is known.")
    of_tool = usage.by("agent")["research"]
    assert 0 < of_tool.total_tokens <= 400
    assert len([m for m in result["messages"] if m.type == "tool"]) > 2
