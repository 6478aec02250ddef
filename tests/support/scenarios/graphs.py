"""Graphs, agents and tools: whose account a call goes on."""

from __future__ import annotations

from collections.abc import Callable
from operator import add
from typing import Annotated, Any, TypedDict

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command, RetryPolicy, Send, interrupt

from langchain_tokenopt.core.usage import Usage
from tests.support.conformance import Bench, Outcome, spent
from tests.support.fakes import FakeAnswer, fake_chat
from tests.support.model_server import Reply, ToolCall
from tests.support.scenarios.registry import (
    A,
    B,
    C,
    adrain,
    answers,
    drain,
    estimated,
    reports,
    scenario,
    total,
    weather,
)

# Graphs


class Notes(TypedDict, total=False):
    """A state that any number of nodes may write to."""

    notes: Annotated[list[str], add]


def graph_of(**nodes: Callable[..., Any]) -> Any:
    """Build a graph that runs *nodes* one after the other."""
    builder = StateGraph(Notes)
    previous = START
    for name, node in nodes.items():
        builder.add_node(name, _silent(node))
        builder.add_edge(previous, name)
        previous = name
    builder.add_edge(previous, END)
    return builder.compile()


def _silent(node: Callable[..., Any]) -> Callable[[Notes], Notes]:
    def run(state: Notes) -> Notes:
        node(state)
        return {"notes": ["done"]}

    return run


def asks(model: BaseChatModel) -> Callable[[Notes], Notes]:
    """Return a node that asks *model*."""

    def node(state: Notes) -> Notes:
        return {"notes": [model.invoke("Hi").text]}

    return node


def asks_async(model: BaseChatModel) -> Any:
    """Return an asynchronous node that asks *model*."""

    async def node(state: Notes) -> Notes:
        return {"notes": [(await model.ainvoke("Hi")).text]}

    return node


def side_by_side(**nodes: Any) -> Any:
    """Build a graph whose *nodes* all run in one step."""
    builder = StateGraph(Notes)
    for name, node in nodes.items():
        builder.add_node(name, node)
        builder.add_edge(START, name)
    return builder.compile()


@scenario("graphs")
def nodes_in_a_row(bench: Bench) -> Outcome:
    """Every node of a graph has an account of its own."""
    writer, editor = fake_chat(answers=answers(A)), fake_chat(answers=answers(B))
    graph_of(writer=asks(writer), editor=asks(editor)).invoke({}, bench.config)
    accounts = {"writer": total(A), "editor": total(B)}
    return spent(A, B, by={"agent": accounts, "node": accounts})


@scenario("graphs")
def branches_side_by_side(bench: Bench) -> Outcome:
    """Branches that run at the same time keep their accounts apart."""
    models = [fake_chat(answers=answers(usage), delay_seconds=0.01) for usage in (A, B, C)]
    side_by_side(**{f"n{i}": asks(m) for i, m in enumerate(models)}).invoke({}, bench.config)
    accounts = {"n0": total(A), "n1": total(B), "n2": total(C)}
    return spent(A, B, C, by={"agent": accounts})


@scenario("graphs")
async def branches_side_by_side_async(bench: Bench) -> Outcome:
    """The same, asynchronously."""
    models = [fake_chat("_agenerate", answers=answers(u), delay_seconds=0.01) for u in (A, B, C)]
    graph = side_by_side(**{f"n{i}": asks_async(model) for i, model in enumerate(models)})
    await graph.ainvoke({}, bench.config)
    accounts = {"n0": total(A), "n1": total(B), "n2": total(C)}
    return spent(A, B, C, by={"agent": accounts})


@scenario("graphs")
def tracker_around_branches(bench: Bench) -> Outcome:
    """A tracker outside a graph sees all of its branches."""
    models = [fake_chat(answers=answers(usage), delay_seconds=0.01) for usage in (A, B)]
    with bench.track() as seen:
        side_by_side(one=asks(models[0]), two=asks(models[1])).invoke({})
    accounts = {"one": total(A), "two": total(B)}
    return [(seen, spent(A, B, by={"agent": accounts}))]


@scenario("graphs")
def fan_out_with_send(bench: Bench) -> Outcome:
    """Copies of a node that ``Send`` starts all go on that node's account."""
    model = fake_chat(answers=answers(*[A] * 5))
    builder = StateGraph(Notes)
    builder.add_node("worker", asks(model))
    builder.add_conditional_edges(START, lambda state: [Send("worker", {})] * 5, ["worker"])
    builder.compile().invoke({}, bench.config)
    return spent(*[A] * 5, by={"agent": {"worker": 5 * total(A)}})


@scenario("graphs")
def subgraph(bench: Bench) -> Outcome:
    """A node inside a subgraph is known by its whole path."""
    inner = graph_of(analyst=asks(fake_chat(answers=answers(A))))
    builder = StateGraph(Notes)
    builder.add_node("research", inner)
    builder.add_edge(START, "research")
    builder.compile().invoke({}, bench.config)
    by = {"node": {"research/analyst": total(A)}, "agent": {"research": total(A)}}
    return spent(A, by=by)


@scenario("graphs")
def chain_inside_a_node(bench: Bench) -> Outcome:
    """A chain inside a node, with retry and fallback, goes on the node's account."""
    failing = fake_chat(answers=[FakeAnswer(error=RuntimeError("No."))])
    spare = fake_chat(answers=answers(A))
    pipe = failing.with_fallbacks([spare]) | StrOutputParser()
    graph_of(writer=lambda state: pipe.invoke("Hi")).invoke({}, bench.config)
    return spent(A, calls=2, failed_calls=1, by={"agent": {"writer": total(A)}})


@scenario("graphs")
def node_that_is_retried(bench: Bench) -> Outcome:
    """When LangGraph repeats a node, the model calls of both attempts were billed."""
    model, attempts = fake_chat(answers=answers(A, A)), []

    def node(state: Notes) -> Notes:
        model.invoke("Hi")
        attempts.append(1)
        if len(attempts) == 1:
            raise ConnectionError("Lost.")
        return {"notes": ["done"]}

    builder = StateGraph(Notes)
    policy = RetryPolicy(initial_interval=0.01, jitter=False)
    builder.add_node("writer", node, retry_policy=policy)
    builder.add_edge(START, "writer")
    builder.compile().invoke({}, bench.config)
    return spent(A, A, by={"agent": {"writer": 2 * total(A)}})


@scenario("graphs")
def interrupted_node(bench: Bench) -> Outcome:
    """A node that is run again after an interrupt has paid twice."""
    model = fake_chat(answers=answers(A, A))

    def node(state: Notes) -> Notes:
        model.invoke("Hi")
        return {"notes": [interrupt("May I?")]}

    builder = StateGraph(Notes)
    builder.add_node("writer", node)
    builder.add_edge(START, "writer")
    graph = builder.compile(checkpointer=InMemorySaver())
    config: RunnableConfig = {**bench.config, "configurable": {"thread_id": "t1"}}
    graph.invoke({}, config)
    graph.invoke(Command(resume="yes"), config)
    return spent(A, A, by={"thread_id": {"t1": 2 * total(A)}})


@scenario("graphs")
def threads_and_users(bench: Bench) -> Outcome:
    """Calls go on the account of the conversation and the user in the metadata."""
    model = fake_chat(answers=answers(A, B, C))
    graph = graph_of(writer=asks(model))
    for thread, user in (("t1", "ann"), ("t2", "ben"), ("t1", "ann")):
        config = {"configurable": {"thread_id": thread}, "metadata": {"user_id": user}}
        graph.invoke({}, {**bench.config, **config})
    by = {
        "thread_id": {"t1": total(A, C), "t2": total(B)},
        "user": {"ann": total(A, C), "ben": total(B)},
    }
    return spent(A, B, C, by=by)


@scenario("graphs")
def agent_named_in_metadata(bench: Bench) -> Outcome:
    """A node may name the agent whose account its calls go on."""
    builder = StateGraph(Notes)
    node = asks(fake_chat(answers=answers(A)))
    builder.add_node("n", node, metadata={"tokenopt_agent": "news"})
    builder.add_edge(START, "n")
    builder.compile().invoke({}, bench.config)
    return spent(A, by={"agent": {"news": total(A)}, "node": {"n": total(A)}})


@scenario("graphs")
def functional_api(bench: Bench) -> Outcome:
    """Tasks of LangGraph's functional API have accounts of their own."""
    model = fake_chat(answers=answers(A, B))

    @task
    def draft(text: str) -> str:
        return model.invoke(text).text

    @task
    def polish(text: str) -> str:
        return model.invoke(text).text

    @entrypoint()
    def story(text: str) -> str:
        return polish(draft(text).result()).result()

    story.invoke("Hi", bench.config)
    paths = {"story/draft": total(A), "story/polish": total(B)}
    return spent(A, B, by={"node": paths})


@scenario("graphs")
def stream_mode_messages(bench: Bench) -> Outcome:
    """``stream_mode="messages"`` turns ``invoke`` into a stream: without usage, so estimated."""
    bench.server.script(Reply(words=50))
    model = bench.server.chat_openai()
    graph = graph_of(writer=lambda state: model.invoke("Tell me all about rivers."))
    drain(graph.stream({}, bench.config, stream_mode="messages"))
    return estimated(bench)


@scenario("graphs")
def stream_mode_messages_with_usage(bench: Bench) -> Outcome:
    """With ``stream_usage=True`` it counts exactly, once."""
    bench.server.script(*reports(A))
    model = bench.server.chat_openai(stream_usage=True)
    graph = graph_of(writer=lambda state: model.invoke("Hi"))
    drain(graph.stream({}, bench.config, stream_mode="messages"))
    return spent(A)


@scenario("graphs")
async def stream_mode_updates(bench: Bench) -> Outcome:
    """Streaming a graph's updates changes nothing about its calls."""
    bench.server.script(*reports(A, B))
    model = bench.server.chat_openai()
    builder = StateGraph(Notes)
    builder.add_node("writer", asks_async(model))
    builder.add_node("editor", asks_async(model))
    builder.add_edge(START, "writer")
    builder.add_edge("writer", "editor")
    await adrain(builder.compile().astream({}, bench.config, stream_mode="updates"))
    return spent(A, B, by={"agent": {"writer": total(A), "editor": total(B)}})


@scenario("graphs")
async def graph_astream_events(bench: Bench) -> Outcome:
    """``astream_events`` of a graph counts once."""
    bench.server.script(*reports(A))
    graph = side_by_side(writer=asks_async(bench.server.chat_openai(stream_usage=True)))
    await adrain(graph.astream_events({}, bench.config, version="v2"))
    return spent(A, by={"agent": {"writer": total(A)}})


@scenario("graphs")
def graph_stream_events(bench: Bench) -> Outcome:
    """LangGraph's event protocol (v3) counts once, details included."""
    usage = Usage(1_000, 200, cache_read_tokens=600, reasoning_tokens=120)
    bench.server.script(*reports(usage))
    graph = side_by_side(writer=asks(bench.server.chat_openai(stream_usage=True)))
    drain(graph.stream_events({}, bench.config, version="v3"))
    return spent(usage, by={"agent": {"writer": total(usage)}})


# Agents and tools


def calls_tool(name: str, usage: Usage, **args: Any) -> FakeAnswer:
    """Return an answer that asks for a tool."""
    return FakeAnswer("", usage, tool_calls=[{"name": name, "args": args}])


HELLO = {"messages": [("human", "Hi")]}


@scenario("agents")
def agent_with_a_tool(bench: Bench) -> Outcome:
    """An agent's account bears its name."""
    model = fake_chat(answers=[calls_tool("weather", A, city="Bern"), *answers(B)])
    agent = create_agent(model, [weather], name="clerk")
    agent.invoke(HELLO, bench.config)
    return spent(A, B, by={"agent": {"clerk": total(A, B)}})


@scenario("agents")
async def agent_over_http(bench: Bench) -> Outcome:
    """The same for a real model, asynchronously, streamed."""
    call = ToolCall("weather", {"city": "Bern"})
    bench.server.script(Reply(usage=A, tool_calls=[call]), Reply(usage=B))
    agent = create_agent(bench.server.chat_openai(stream_usage=True), [weather], name="clerk")
    await adrain(agent.astream(HELLO, bench.config, stream_mode="messages"))
    return spent(A, B, by={"agent": {"clerk": total(A, B)}})


@scenario("agents")
def model_inside_a_tool(bench: Bench) -> Outcome:
    """A model that a tool calls goes on the tool's account, and on its agent's."""
    researcher = fake_chat(answers=answers(C))

    @tool
    def research(topic: str) -> str:
        """Look into a topic."""
        return researcher.invoke(topic).text

    model = fake_chat(answers=[calls_tool("research", A, topic="rain"), *answers(B)])
    create_agent(model, [research], name="clerk").invoke(HELLO, bench.config)
    by = {
        "tool": {"research": total(C), "(none)": total(A, B)},
        "agent": {"clerk": total(A, B, C)},
    }
    return spent(A, B, C, by=by)


@scenario("agents")
async def model_inside_an_async_tool(bench: Bench) -> Outcome:
    """The same, asynchronously, with a chain inside the tool."""
    researcher = fake_chat("_agenerate", answers=answers(C)) | StrOutputParser()

    @tool
    async def research(topic: str) -> str:
        """Look into a topic."""
        return await researcher.ainvoke(topic)

    model = fake_chat("_agenerate", answers=[calls_tool("research", A, topic="x"), *answers(B)])
    await create_agent(model, [research], name="clerk").ainvoke(HELLO, bench.config)
    return spent(A, B, C, by={"tool": {"research": total(C), "(none)": total(A, B)}})


@scenario("agents")
def two_tools_at_once(bench: Bench) -> Outcome:
    """Tools that run at the same time keep their accounts apart."""
    models = {"left": fake_chat(answers=answers(B)), "right": fake_chat(answers=answers(C))}

    @tool
    def left(topic: str) -> str:
        """Look to the left."""
        return models["left"].invoke(topic).text

    @tool
    def right(topic: str) -> str:
        """Look to the right."""
        return models["right"].invoke(topic).text

    both = [{"name": name, "args": {"topic": "x"}} for name in models]
    model = fake_chat(answers=[FakeAnswer("", A, tool_calls=both), *answers(A)])
    create_agent(model, [left, right], name="clerk").invoke(HELLO, bench.config)
    by_tool = {"left": total(B), "right": total(C), "(none)": total(A, A)}
    return spent(A, A, B, C, by={"tool": by_tool})


@scenario("agents")
def tool_called_by_hand(bench: Bench) -> Outcome:
    """A tool outside any agent has its account too."""
    model = fake_chat(answers=answers(A))

    @tool
    def research(topic: str) -> str:
        """Look into a topic."""
        return model.invoke(topic).text

    research.invoke({"topic": "rain"}, bench.config)
    return spent(A, by={"tool": {"research": total(A)}})


@scenario("agents")
def agent_as_a_tool(bench: Bench) -> Outcome:
    """An agent inside another one's tool has its own account, and is the tool's too."""
    expert = create_agent(fake_chat(answers=answers(C)), name="expert")

    @tool
    def ask_expert(question: str) -> str:
        """Ask somebody who knows."""
        return str(expert.invoke({"messages": [("human", question)]})["messages"][-1].text)

    model = fake_chat(answers=[calls_tool("ask_expert", A, question="Why?"), *answers(B)])
    create_agent(model, [ask_expert], name="clerk").invoke(HELLO, bench.config)
    by = {
        "agent": {"clerk": total(A, B), "expert": total(C)},
        "tool": {"ask_expert": total(C), "(none)": total(A, B)},
    }
    return spent(A, B, C, by=by)


@scenario("agents")
def agents_as_nodes(bench: Bench) -> Outcome:
    """Agents that are nodes of a graph go by their own names; the path is the graph's."""
    analyst = create_agent(fake_chat(answers=answers(A)), name="analyst")
    writer = create_agent(fake_chat(answers=answers(B)), name="writer")
    builder = StateGraph(MessagesState)
    builder.add_node("first", analyst)
    builder.add_node("second", writer)
    builder.add_edge(START, "first")
    builder.add_edge("first", "second")
    builder.compile().invoke(HELLO, bench.config)
    by = {
        "agent": {"analyst": total(A), "writer": total(B)},
        "node": {"first/model": total(A), "second/model": total(B)},
    }
    return spent(A, B, by=by)
