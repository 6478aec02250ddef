"""Graphs that others make, under a budget: agents, teams, fan-outs, in every way of running them.

Each is run without a budget, with an ample one and with a small one, on the same scripted server.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import (
    AgentMiddleware,
    HumanInTheLoopMiddleware,
    ModelCallLimitMiddleware,
    TodoListMiddleware,
    before_model,
)
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command, Send
from pydantic import BaseModel

from langchain_tokenopt.budget import BudgetPlan
from langchain_tokenopt.budget.input_margin import input_margin_of
from langchain_tokenopt.budget.run import NoBudgetRunError
from langchain_tokenopt.chat_model.optimize import optimize
from langchain_tokenopt.graph import budget_graph, budgeted
from tests.support.model_server import ModelServer, Reply, Request, ToolCall

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::langgraph.warnings.LangGraphDeprecatedSinceV10"),
]

AMPLE = BudgetPlan(total_tokens=1_000_000)
PROSE = "The price rose again in spring and nobody on the desk knew the reason for it. "
ASKED: Any = {"messages": [("user", "What are x and y?")]}


@tool
def lookup(word: str) -> str:
    """Look a word up."""
    return f"{word}: " + PROSE * 10


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


class Verdict(BaseModel):
    """A verdict."""

    rating: str
    reasons: list[str]
    price: float


# What the model says


def names_of(request: Request) -> set[str]:
    """Return the tools that a request offers."""
    return {t["function"]["name"] for t in request.body.get("tools") or ()}


def results_in(request: Request) -> int:
    """Count the tool results in a request."""
    return sum(message["role"] == "tool" for message in request.body["messages"])


def using_tools(request: Request) -> Reply:
    """Call two tools at once, one more alone, then answer, with the schema where there is one."""
    names, done = names_of(request), results_in(request)
    if "lookup" in names and done < 2:
        return Reply(
            tool_calls=[ToolCall("lookup", {"word": "x"}), ToolCall("add", {"a": 1, "b": 2})]
        )
    if "lookup" in names and done < 3:
        return Reply(tool_calls=[ToolCall("lookup", {"word": "y"})])
    if "Verdict" in names:
        verdict = {"rating": "HOLD", "reasons": ["x", "y"], "price": 1.5}
        return Reply(tool_calls=[ToolCall("Verdict", verdict)])
    if request.body.get("response_format"):
        return Reply(text='{"rating": "HOLD", "reasons": ["x", "y"], "price": 1.5}')
    return Reply(text="x and y are words. " + PROSE * 3)


def delegating(request: Request) -> Reply:
    """As a supervisor, ask the reader, then the writer; as one of them, use a tool once."""
    names = names_of(request)
    if "transfer_to_reader" in names:
        back = sum("transferred back" in text.lower() for text in request.texts)
        if back < 4:  # each return is told twice
            name = "transfer_to_reader" if back < 2 else "transfer_to_writer"
            return Reply(tool_calls=[ToolCall(name, {})])
        return Reply(text="Both have answered. " + PROSE)
    since = [m["role"] for m in request.body["messages"]][-1]
    if "lookup" in names and since != "tool":
        return Reply(tool_calls=[ToolCall("lookup", {"word": "x"})])
    return Reply(text="It is a word. " + PROSE * 2)


# The graphs: each made anew, around the model that is given


@before_model
def noted(state: Any, runtime: Any) -> None:
    """Do nothing, as a node of its own."""


class Nameless(AgentMiddleware):
    """Wraps calls of models and tools, sync and async, without changing them."""

    def wrap_model_call(self, request: Any, handler: Any) -> Any:
        return handler(request)

    async def awrap_model_call(self, request: Any, handler: Any) -> Any:
        return await handler(request)

    def wrap_tool_call(self, request: Any, handler: Any) -> Any:
        return handler(request)

    async def awrap_tool_call(self, request: Any, handler: Any) -> Any:
        return await handler(request)


def agent(model: Any, **options: Any) -> Any:
    """Return an agent with two tools."""
    return create_agent(model, [lookup, add], system_prompt="Be exact.", **options)


def with_middleware(model: Any) -> Any:
    """Return an agent with nodes before, after and around its model."""
    limit = ModelCallLimitMiddleware(run_limit=9)
    return agent(model, name="reader", middleware=[noted, Nameless(), TodoListMiddleware(), limit])


def supervised(model: Any, **options: Any) -> Any:
    """Return two agents under a supervisor."""
    from langgraph_supervisor import create_supervisor

    team = [create_agent(model, [lookup], name=name) for name in ("reader", "writer")]
    return create_supervisor(team, model=model, **options).compile()


class Handing(MessagesState, total=False):
    """Messages, and what several have written."""

    parts: Annotated[list[str], operator.add]


def fan_out(model: Any) -> Any:
    """Return a graph that sends three packets to one agent at once, and sums up."""
    inner = agent(model, name="worker")

    def spread(state: Handing) -> list[Send]:
        return [Send("work", {"messages": [HumanMessage(f"Part {n}")]}) for n in range(3)]

    def work(state: Handing) -> dict[str, Any]:
        return {"parts": [inner.invoke({"messages": state["messages"]})["messages"][-1].text]}

    def gather(state: Handing) -> dict[str, Any]:
        return {"messages": [model.invoke("Sum up: " + " ".join(sorted(state["parts"])))]}

    graph: Any = StateGraph(Handing).add_node(work).add_node(gather)
    graph.add_conditional_edges(START, spread, ["work"])
    graph.add_edge("work", "gather").add_edge("gather", END)
    return graph.compile()


def handing_over(model: Any) -> Any:
    """Return two agents of which one hands over to the other by a command."""

    @tool
    def ask_writer() -> Command[Any]:
        """Hand over to the writer."""
        said = ToolMessage("The writer goes on.", tool_call_id="handed")
        return Command(goto="writer", graph=Command.PARENT, update={"messages": [said]})

    reader = create_agent(model, [lookup], name="reader")
    writer = agent(model, name="writer")

    def reading(state: MessagesState) -> Command[Any]:
        answer = reader.invoke({"messages": state["messages"]})["messages"][-1]
        return Command(goto="writer", update={"messages": [answer]})

    graph: Any = StateGraph(MessagesState)
    graph.add_node("reader", reading, destinations=("writer",))
    graph.add_node("writer", writer)
    graph.add_edge(START, "reader").add_edge("writer", END)
    return graph.compile()


Making = Callable[[Any], Any]

GRAPHS: dict[str, tuple[Making, Callable[[Request], Reply]]] = {
    "agent": (lambda model: agent(model, name="reader"), using_tools),
    "nameless agent": (agent, using_tools),
    "schema by a tool": (
        lambda model: agent(model, name="reader", response_format=ToolStrategy(Verdict)),
        using_tools,
    ),
    "schema by the provider": (
        lambda model: agent(model, name="reader", response_format=ProviderStrategy(Verdict)),
        using_tools,
    ),
    "middleware": (with_middleware, using_tools),
    "supervisor": (supervised, delegating),
    "supervisor of last messages": (
        lambda model: supervised(model, output_mode="last_message"),
        delegating,
    ),
    "fan-out": (fan_out, using_tools),
    "hand-over": (handing_over, using_tools),
}


@pytest.fixture(params=GRAPHS)
def made(request: pytest.FixtureRequest, model_server: ModelServer) -> Making:
    """Return what makes one of the graphs; the server answers by its script."""
    making, answer = GRAPHS[request.param]
    model_server.answer = answer
    return making


# Looking at results


def plain(message: BaseMessage) -> tuple[Any, ...]:
    """Return everything about a message but its ids."""
    calls = [(c["name"], c["args"]) for c in getattr(message, "tool_calls", ())]
    usage = getattr(message, "usage_metadata", None)
    return type(message).__name__, message.name, message.content, calls, usage


def said(result: Any) -> Any:
    """Return a result without ids."""
    rest = {k: sorted(v) for k, v in result.items() if k == "parts"}
    structured = result.get("structured_response")
    return [plain(m) for m in result["messages"]], rest, structured


def asked(server: ModelServer) -> list[str]:
    """Return what went over the wire since the last time, without ids of calls."""
    bodies = []
    for request in server.requests:
        body = json.loads(json.dumps(request.body))
        body.pop("max_completion_tokens", None)  # the one thing that a plan adds
        for message in body["messages"]:
            message.pop("tool_call_id", None)
            for call in message.get("tool_calls", ()):
                call.pop("id")
        bodies.append(json.dumps(body, sort_keys=True))
    server.requests.clear()
    return sorted(bodies)


def dangling(messages: list[BaseMessage]) -> set[str]:
    """Return the calls of tools that nobody has answered."""
    calls = {c["id"] for m in messages if isinstance(m, AIMessage) for c in m.tool_calls}
    return calls - {m.tool_call_id for m in messages if isinstance(m, ToolMessage)}


# An ample budget


@pytest.mark.parametrize("wraps", [True, False], ids=["budget_graph", "optimize"])
def test_an_ample_budget_changes_nothing(
    made: Making, model_server: ModelServer, wraps: bool
) -> None:
    """Message by message and request by request, ids aside."""
    wanted = said(made(model_server.chat_openai()).invoke(ASKED)), asked(model_server)
    graph = made(optimize(model_server.chat_openai(), AMPLE))
    with AMPLE.run() as run:
        result = (budget_graph(graph, AMPLE) if wraps else graph).invoke(ASKED)

    assert wanted == (said(result), asked(model_server))
    report = run.report()
    billed = model_server.billed[len(model_server.billed) // 2 :]
    assert sum(usage.total_tokens for usage in billed) == report.account.spent_tokens
    assert {} == report.unstaged_models


async def test_an_ample_budget_changes_nothing_async(
    made: Making, model_server: ModelServer
) -> None:
    """The same in coroutines."""
    wanted = said(await made(model_server.chat_openai()).ainvoke(ASKED))
    with AMPLE.run():
        graph = made(optimize(model_server.chat_openai(), AMPLE))
        result = await budget_graph(graph, AMPLE).ainvoke(ASKED)

    assert wanted == said(result)


def without_ids(piece: Any) -> Any:
    """Return a piece of a stream without ids and times."""
    if isinstance(piece, BaseMessage):
        return plain(piece)
    if isinstance(piece, dict):
        return {k: without_ids(v) for k, v in piece.items() if k not in _NOT_COMPARED}
    if isinstance(piece, list | tuple):
        return [without_ids(part) for part in piece]
    return piece


_NOT_COMPARED = {"ls_model_kwargs", "checkpoint", "tokenopt_agent"}


@pytest.mark.parametrize("mode", ["values", "updates", "custom"])
@pytest.mark.parametrize("subgraphs", [False, True], ids=["", "subgraphs"])
def test_streams_of_steps_are_unchanged(
    made: Making, model_server: ModelServer, mode: Any, subgraphs: bool
) -> None:
    """Every mode, with subgraphs and without, gives the same pieces in the same namespaces."""

    def pieces(graph: Any) -> Iterator[Any]:
        for piece in graph.stream(ASKED, stream_mode=mode, subgraphs=subgraphs):
            if subgraphs:
                path = [part.partition(":")[0] for part in piece[0]]
                yield json.dumps([path, without_ids(piece[1])], default=str, sort_keys=True)
            else:
                yield json.dumps(without_ids(piece), default=str, sort_keys=True)

    wanted = sorted(pieces(made(model_server.chat_openai())))
    with AMPLE.run():
        graph = made(optimize(model_server.chat_openai(), AMPLE))
        assert wanted == sorted(pieces(budget_graph(graph, AMPLE)))


@pytest.mark.parametrize("name", [name for name in GRAPHS if name != "schema by the provider"])
def test_streams_of_messages_are_unchanged(model_server: ModelServer, name: str) -> None:
    """Every chunk, and the node that it comes from."""
    made, model_server.answer = GRAPHS[name]  # openai parses streamed schemas by itself

    def chunks(graph: Any) -> list[tuple[Any, ...]]:
        streamed = graph.stream(ASKED, stream_mode="messages")
        return sorted(
            (told["langgraph_node"], chunk.type, json.dumps(chunk.content))
            for chunk, told in streamed
        )

    wanted = chunks(made(model_server.chat_openai(stream_usage=True)))
    with AMPLE.run():
        graph = made(optimize(model_server.chat_openai(stream_usage=True), AMPLE))
        assert wanted == chunks(budget_graph(graph, AMPLE))


def test_drawings_and_schemas_are_unchanged(made: Making, model_server: ModelServer) -> None:
    """Whoever looks at a budgeted graph sees the graph."""
    graph = made(model_server.chat_openai())
    same = budget_graph(graph, AMPLE)

    assert graph.get_graph(xray=True).draw_mermaid() == same.get_graph(xray=True).draw_mermaid()
    assert graph.get_input_jsonschema() == same.get_input_jsonschema()
    assert graph.get_output_jsonschema() == same.get_output_jsonschema()
    assert [n for n, _ in graph.get_subgraphs(recurse=True)] == [
        n for n, _ in same.get_subgraphs(recurse=True)
    ]
    assert (type(graph), graph.name, graph.config) == (type(same), same.name, same.config)


# A small budget


@pytest.fixture
def known_provider() -> None:
    """Know that the server counts more than we do: tools as JSON. Else its first bill would say."""
    input_margin_of("gpt-4.1-mini").learn(counted=100, reported=112)


@pytest.mark.usefixtures("known_provider")
@pytest.mark.parametrize("wraps", [True, False], ids=["budget_graph", "optimize"])
@pytest.mark.parametrize("total", [150, 600, 1_200])
@pytest.mark.parametrize("name", GRAPHS)
def test_a_small_budget_still_delivers(
    name: str, model_server: ModelServer, total: int, wraps: bool
) -> None:
    """A last message with words in it, a valid schema, no tool call that nobody answers."""
    made, model_server.answer = GRAPHS[name]
    small = BudgetPlan(total_tokens=total)
    graph = made(optimize(model_server.chat_openai(), small))
    with small.run() as run:
        result = (budget_graph(graph, small) if wraps else graph).invoke(ASKED)
    last = result["messages"][-1]

    assert set() == dangling(result["messages"])
    assert last.content
    assert isinstance(last, AIMessage) or "structured_response" in result
    if name == "schema by the provider" or (name == "schema by a tool" and total > 600):
        assert isinstance(result["structured_response"], Verdict)
    assert sum(usage.total_tokens for usage in model_server.billed) <= total
    assert 0 == run.report().account.overshoot_tokens


@pytest.mark.parametrize("named", [False, True])
def test_an_agent_beside_others_begins_to_search_before_they_are_given_all_they_like(
    model_server: ModelServer, *, named: bool
) -> None:
    """Without a first result it has nothing to answer from; theirs are shorter, and real."""
    model_server.answer = using_tools
    shares = {n: {"priority": 1.0} for n in ("reader", "writer", "editor")} if named else {}
    plan = BudgetPlan(total_tokens=1_000, agents=shares)
    model = optimize(model_server.chat_openai(), plan)
    reader: Any = create_agent(model, [lookup, add], name="reader")
    graph: Any = StateGraph(MessagesState)
    graph.add_node("reader", reader)
    for name in ("writer", "editor"):
        graph.add_node(name, lambda state: {"messages": [model.invoke(ASKED["messages"])]})
    graph.add_edge(START, "reader").add_edge("reader", "writer").add_edge("writer", "editor")
    with plan.run() as run:
        found = budget_graph(graph, plan).compile().invoke(ASKED)

    assert any(isinstance(message, ToolMessage) for message in found["messages"])
    assert 0 == run.report().denied_calls
    assert run.report().account.spent_tokens <= 1_000


# What a compiled graph keeps


def searching(request: Request) -> Reply:
    """Search four times, one after the other, then answer."""
    done = results_in(request)
    if "lookup" in names_of(request) and done < 4:
        return Reply(tool_calls=[ToolCall("lookup", {"word": f"part {done}"})])
    return Reply(text=f"The answer from {done} results. " + PROSE)


def test_an_agent_that_searches_answers_under_every_total(model_server: ModelServer) -> None:
    """From one search and one answer on; and a greater total means no fewer searches."""
    model_server.answer = searching
    agent(model_server.chat_openai()).invoke(ASKED)
    bills = [bill.total_tokens for bill in model_server.billed]
    least, whole = bills[0] + bills[1], sum(bills)
    searches = []
    for total in range(least, whole + 900, (whole + 900 - least) // 39):
        plan = BudgetPlan(total_tokens=total)
        with plan.run() as run:
            graph = agent(optimize(model_server.chat_openai(), plan), name="reader")
            messages = budget_graph(graph, plan).invoke(ASKED)["messages"]
        searches.append(sum(message.type == "tool" for message in messages))

        assert "The answer from" in messages[-1].content, total
        assert run.report().account.spent_tokens <= total

    assert 40 <= len(searches)
    assert sorted(searches) == searches
    assert (True, 4) == (searches[0] <= 1, searches[-1])


def test_a_compiled_graph_keeps_how_it_was_compiled(model_server: ModelServer) -> None:
    """Checkpointer, store, interrupts, name and config are those of the original."""
    from langgraph.store.memory import InMemoryStore

    saver, store = InMemorySaver(), InMemoryStore()
    graph = agent(
        model_server.chat_openai(),
        name="reader",
        checkpointer=saver,
        store=store,
        interrupt_before=["tools"],
    )
    same = budget_graph(graph, AMPLE)

    assert (saver, store, ["tools"]) == (
        same.checkpointer,
        same.store,
        same.interrupt_before_nodes,
    )
    assert graph.stream_transformers == same.stream_transformers
    with pytest.raises(NoBudgetRunError):  # what it was made from is budgeted as well
        same.builder.compile().invoke(ASKED)


def test_a_human_in_the_loop(model_server: ModelServer) -> None:
    """An agent that waits for a human goes on from there, with the same messages."""
    model_server.answer = using_tools
    human = HumanInTheLoopMiddleware(interrupt_on={"lookup": True})

    def talk(model: Any, wrap: Callable[[Any], Any]) -> Any:
        graph = wrap(agent(model, name="reader", middleware=[human], checkpointer=InMemorySaver()))
        thread: Any = {"configurable": {"thread_id": "t"}}
        result = graph.invoke(ASKED, thread)
        rounds = 0
        while "__interrupt__" in result:
            rounds += 1
            approved = Command(resume={"decisions": [{"type": "approve"}]})
            result = graph.invoke(approved, thread)
        return rounds, said(result)

    wanted = talk(model_server.chat_openai(), lambda graph: graph)
    with AMPLE.run() as run:
        model = optimize(model_server.chat_openai(), AMPLE)
        assert wanted == talk(model, lambda graph: budget_graph(graph, AMPLE))

    assert 2 == wanted[0]
    half = model_server.billed[len(model_server.billed) // 2 :]
    assert sum(usage.total_tokens for usage in half) == run.report().account.spent_tokens


# Who pays


def test_an_agent_pays_under_its_own_name(model_server: ModelServer) -> None:
    """Not under the names of the nodes that it is made of."""
    model_server.answer = using_tools
    plan = BudgetPlan(total_tokens=100_000, agents={"reader": {"tokens": 9_000}})
    with plan.run() as run:
        graph = agent(optimize(model_server.chat_openai(), plan), name="reader")
        budget_graph(graph, plan).invoke(ASKED)

    assert ["reader"] == list(run.report().agents)
    assert sum(u.total_tokens for u in model_server.billed) == (
        run.report().agents["reader"].account.spent_tokens
    )


def team_in_a_graph(model: Any) -> Any:
    """Return a team as one node of a larger graph."""
    inner: Any = StateGraph(MessagesState)
    for name in ("scout", "clerk"):
        inner.add_node(name, lambda state: {"messages": [model.invoke(state["messages"])]})
    inner.add_node("reader", agent(model, name="reader"))
    inner.add_edge(START, "scout").add_edge("scout", "clerk").add_edge("clerk", "reader")
    graph: Any = StateGraph(MessagesState).add_node("team", inner.compile())
    graph.add_node("judge", lambda state: {"messages": [model.invoke(state["messages"])]})
    graph.add_edge(START, "team").add_edge("team", "judge").add_edge("judge", END)
    return graph.compile()


def test_inner_agents_pay_for_themselves_where_the_plan_names_them(
    model_server: ModelServer,
) -> None:
    """Nodes and agents of a graph inside; the others are paid by the node that contains them."""
    model_server.answer = using_tools
    agents = {name: {"tokens": 9_000} for name in ("scout", "reader", "judge")}
    plan = BudgetPlan(total_tokens=100_000, agents=agents)
    with plan.run() as run:
        graph = team_in_a_graph(optimize(model_server.chat_openai(), plan))
        budget_graph(graph, plan).invoke(ASKED)
    report = run.report()
    calls = {name: line.account.calls for name, line in report.agents.items()}

    assert {"scout": 1, "reader": 3, "judge": 1, "team": 1} == calls
    assert report.agents["scout"].account.finished
    assert report.agents["reader"].account.finished


def test_an_agent_as_a_node_is_paid_by_the_node(model_server: ModelServer) -> None:
    """Whatever its own name, unless the plan has that name."""
    model_server.answer = using_tools
    plan = BudgetPlan(total_tokens=100_000, agents={"desk": {"tokens": 9_000}})
    with plan.run() as run:
        reader = agent(optimize(model_server.chat_openai(), plan), name="reader")
        graph: Any = StateGraph(MessagesState).add_node("desk", reader).add_edge(START, "desk")
        budget_graph(graph.compile(), plan).invoke(ASKED)

    assert ["desk"] == list(run.report().agents)


def test_a_graph_that_is_budgeted_already_keeps_its_agent(model_server: ModelServer) -> None:
    """It was given one when it was made a node."""
    model_server.answer = using_tools
    plan = BudgetPlan(total_tokens=100_000, agents={"desk": {"tokens": 9_000}})
    with plan.run() as run:
        reader = agent(optimize(model_server.chat_openai(), plan), name="reader")
        graph: Any = StateGraph(MessagesState)
        graph.add_node("node", budgeted(reader, plan, agent="desk")).add_edge(START, "node")
        budget_graph(graph, plan).compile().invoke(ASKED)

    assert ["desk"] == list(run.report().agents)


def asking(model: Any) -> Any:
    """Return an agent with a tool that asks another agent."""
    inner = create_agent(model, [], name="inner")

    @tool
    def ask_inner(question: str) -> str:
        """Ask somebody else."""
        return str(inner.invoke({"messages": [("user", question)]})["messages"][-1].content)

    return create_agent(model, [ask_inner], name="outer")


@pytest.mark.parametrize(
    ("wraps", "calls"), [(False, {"inner": 1, "outer": 2}), (True, {"outer": 3})]
)
def test_agents_inside_tools_pay_for_themselves_at_the_model(
    model_server: ModelServer, wraps: bool, calls: dict[str, int]
) -> None:
    """In a graph they are paid by the node that they are called in."""
    asks = Reply(tool_calls=[ToolCall("ask_inner", {"question": "x?"})])
    model_server.script(asks, "It is x.", "Done.")
    with AMPLE.run() as run:
        graph = asking(optimize(model_server.chat_openai(), AMPLE))
        (budget_graph(graph, AMPLE) if wraps else graph).invoke(ASKED)

    assert calls == {name: line.account.calls for name, line in run.report().agents.items()}


def test_an_inner_agent_that_nobody_knows_is_refused(model_server: ModelServer) -> None:
    """Misspelt names are found in graphs inside as well."""
    plan = BudgetPlan(total_tokens=100_000, agents={"scowt": {"tokens": 9_000}})
    with pytest.raises(ValueError, match="'scowt', which the graph does not have"):
        budget_graph(team_in_a_graph(model_server.chat_openai()), plan)
