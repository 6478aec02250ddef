"""Under ``budget_graph`` a graph is what it was: drawings, schemas, subgraphs, streams, results.

Every graph is looked at plain, and under a plan with plenty; what is seen must be equal. The only
thing that may be seen more is ``tokenopt_agent``, in the metadata of runs.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import operator
import re
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypedDict

import pytest
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from langgraph.cache.memory import InMemoryCache
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.managed import IsLastStep, RemainingSteps
from langgraph.runtime import Runtime
from langgraph.types import CachePolicy, Command, RetryPolicy, Send, interrupt
from pydantic import BaseModel

from langchain_tokenopt.budget import BudgetPlan
from langchain_tokenopt.graph import budget_graph
from tests.support.fakes import fake_chat

PLAN = BudgetPlan(total_tokens=10**7)


class State(TypedDict):
    log: Annotated[list[Any], operator.add]


class Private(State):
    secret: str


class Managed(State):
    last: IsLastStep
    rest: RemainingSteps


class Question(TypedDict):
    question: str


class Everything(State, Question):
    hidden: str


@dataclasses.dataclass
class Data:
    log: Annotated[list[Any], operator.add] = dataclasses.field(default_factory=list)
    count: int = 0


class Model(BaseModel):
    log: Annotated[list[Any], operator.add] = []
    count: int = 0


def decorated(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def line(schema: Any, *nodes: Any, **options: Any) -> Any:
    """Return a graph of nodes in a line, named a, b, c."""
    graph, last = StateGraph(schema, **options), START
    for name, node in zip("abc", nodes, strict=False):
        graph.add_node(name, node).add_edge(last, name)
        last = name
    return graph.add_edge(last, END)


def says(*what: Any) -> Any:
    return lambda state: {"log": list(what)}


INNER = line(State, says("inner")).compile(name="inner")


def calls_inner(state: State) -> Any:
    return INNER.invoke({"log": []})


class Caller:
    """Callable objects and methods as nodes."""

    def __call__(self, state: State) -> Any:
        return INNER.invoke({"log": []})

    @decorated
    def method(self, state: State) -> Any:
        return INNER.invoke({"log": []})


def goes_on(state: State) -> Command[Literal["b", "c"]]:
    return Command(goto="c", update={"log": ["a"]})


def goes_up(state: State) -> Any:
    return Command(graph=Command.PARENT, goto="b", update={"log": ["up"]})


def spreads(state: State) -> Any:
    return [Command(goto=Send("b", {"log": [1]})), {"log": ["list"]}]


def writes_private(state: State) -> Private:
    return {"log": ["p"], "secret": "yes"}


def reads_private(state: Private) -> Any:
    return {"log": [state["secret"]]}


def streams(state: State, runtime: Runtime[Any]) -> Any:
    runtime.stream_writer("one")
    get_stream_writer()({"two": runtime.context})
    return {"log": ["w"]}


def yields(state: State) -> Any:
    yield {"log": ["1"]}
    yield {"log": ["2"]}


def asks(state: State) -> Any:
    return {"log": [interrupt("who?")]}


def fails_once() -> Any:
    tries: list[int] = []

    def node(state: State) -> Any:
        tries.append(1)
        if len(tries) % 2:
            raise ConnectionError("once")
        return {"log": ["at last"]}

    return node


def loop(graph: Any) -> Any:
    graph.add_edge("a", "a")
    return graph


def policies() -> Any:
    graph = StateGraph(State).add_edge(START, "a").add_edge("a", "b").add_edge("a", "d")
    graph.add_node("a", fails_once(), retry_policy=RetryPolicy(initial_interval=0.01))
    graph.add_node("b", says("b"), cache_policy=CachePolicy(), metadata={"own": 1})
    graph.add_node("d", says("d"), defer=True)
    return graph.add_edge("b", "d").add_edge("d", END)


def edges(graph: Any, *starts: str) -> Any:
    for start in starts:
        graph.add_edge(start, "a")
    return graph


def conversation(*, tags: tuple[str, ...] = ()) -> Any:
    model = fake_chat("_stream", "_astream").with_config(tags=[*tags])
    return lambda state: {"messages": [AIMessage(model.invoke(state["messages"]).text, id="1")]}


def node_of(schema: Any, name: str, node: Any) -> Any:
    return StateGraph(schema).add_node(name, node).add_edge(START, name)


EMPTY: Any = {"log": []}
HELLO: Any = {"messages": [{"role": "user", "content": "Hi", "id": "0"}]}

GRAPHS: dict[str, tuple[Callable[[], Any], Any]] = {
    "subgraph": (lambda: line(State, INNER), EMPTY),
    "configured subgraph": (lambda: line(State, INNER.with_config(tags=["t"])), EMPTY),
    "called": (lambda: line(State, calls_inner), EMPTY),
    "decorated": (lambda: line(State, decorated(calls_inner)), EMPTY),
    "decorated twice": (lambda: line(State, decorated(decorated(calls_inner))), EMPTY),
    "lambda": (lambda: line(State, RunnableLambda(decorated(calls_inner))), EMPTY),
    "sequence": (lambda: line(State, RunnablePassthrough() | INNER, says("b")), EMPTY),
    "parallel": (lambda: line(State, RunnablePassthrough.assign(log=says("x"))), EMPTY),
    "object": (lambda: line(State, Caller()), EMPTY),
    "method": (lambda: line(State, Caller().method), EMPTY),
    "partial": (lambda: line(State, functools.partial(calls_inner)), EMPTY),
    "dataclass": (
        lambda: line(Data, lambda s: {"log": [type(s).__name__]}, lambda s: Data(["d"], s.count)),
        Data(count=3),
    ),
    "pydantic": (lambda: line(Model, lambda s: {"count": s.count + 1}), Model(count=1)),
    "pydantic that is wrong": (lambda: line(Model, says("x")), {"count": "many"}),
    "private channels": (lambda: line(State, writes_private, reads_private), EMPTY),
    "managed values": (lambda: line(Managed, lambda s: {"log": [s["last"], s["rest"]]}), EMPTY),
    "input and output": (
        lambda: line(
            Everything, lambda s: {"log": [*s]}, input_schema=Question, output_schema=State
        ),
        {"question": "?"},
    ),
    "command": (lambda: line(State, goes_on).add_node("b", says(1)).add_node("c", says(2)), EMPTY),
    "command to the parent": (
        lambda: (
            StateGraph(State)
            .add_node("a", node_of(State, "leaf", goes_up).compile(), destinations=("b",))
            .add_node("b", says("b"))
            .add_edge(START, "a")
        ),
        EMPTY,
    ),
    "list of commands": (
        lambda: (
            StateGraph(State)
            .add_node("a", spreads, destinations=("b",))
            .add_node("b", says("b"))
            .add_edge(START, "a")
        ),
        EMPTY,
    ),
    "branch": (
        lambda: (
            node_of(State, "a", says("a"))
            .add_node("b", says("b"))
            .add_conditional_edges("a", lambda s: "on", {"on": "b", "off": END})
        ),
        EMPTY,
    ),
    "retry, cache, defer": (policies, EMPTY),
    "context and writers": (lambda: line(State, decorated(streams)), EMPTY),
    "generator": (lambda: line(State, yields), EMPTY),
    "runnable returned": (lambda: line(State, lambda s: RunnableLambda(says("r"))), EMPTY),
    "nothing returned": (lambda: line(State, lambda s: None), EMPTY),
    "nonsense returned": (lambda: line(State, lambda s: 3), EMPTY),
    "failure": (lambda: line(State, lambda s: 1 / 0), EMPTY),
    "no end": (lambda: loop(node_of(State, "a", says("a"))), EMPTY),
    "unknown start": (lambda: edges(node_of(State, "a", says("a")), "nobody"), EMPTY),
    "unknown end": (lambda: node_of(State, "a", says("a")).add_edge("a", "nowhere"), EMPTY),
    "unknown branch": (
        lambda: node_of(State, "a", says("a")).add_conditional_edges("b", lambda s: "a", ["a"]),
        EMPTY,
    ),
    "no start": (lambda: StateGraph(State).add_node("a", says("a")), EMPTY),
    "messages": (lambda: line(MessagesState, decorated(conversation())), HELLO),
    "messages kept back": (lambda: line(MessagesState, conversation(tags=("nostream",))), HELLO),
    "messages below": (
        lambda: line(MessagesState, line(MessagesState, conversation()).compile()),
        HELLO,
    ),
    "model as node": (
        lambda: line(
            MessagesState,
            RunnableLambda(lambda s: s["messages"]) | fake_chat() | (lambda m: {"messages": [m]}),
        ),
        HELLO,
    ),
    "interrupt": (lambda: line(State, decorated(asks), says("b")), EMPTY),
    "interrupt below": (lambda: line(State, line(State, asks).compile(), says("b")), EMPTY),
}


def seen(value: Any) -> str:
    """Return what is seen of *value*, without what differs from run to run."""
    text = re.sub(r"\b[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}\b", "ID", repr(value))
    text = re.sub(r"0x[0-9a-f]+|\d{4}-\d\d-\d\dT[\d:.+]+", "#", text)
    text = re.sub(r"'tokenopt_agent': '[^']*'(, )?", "", text)
    return re.sub(r", 'metadata': {}|, (?=})", "", text).replace(", }", "}")


def look_at(make: Callable[[], Any], given: Any) -> dict[str, str]:
    """Look at a compiled graph from all sides."""
    config: Any = {"configurable": {"thread_id": "t"}, "recursion_limit": 9}
    modes: Any = ["values", "updates", "messages", "custom", "tasks", "checkpoints"]
    found: dict[str, str] = {}

    def look(name: str, do: Callable[[], Any]) -> Any:
        try:
            done = do()
        except Exception as error:
            done = error
        found[name] = seen(done)
        return done

    graph = look("compiled", make)
    if isinstance(graph, Exception):
        return found
    found["compiled"] = type(graph).__name__

    async def astream() -> Any:
        thread = {"configurable": {"thread_id": "a"}, "recursion_limit": 9}
        stream = graph.astream(given, thread, stream_mode=modes, subgraphs=True, context=1)
        return sorted([seen(piece) async for piece in stream])

    for xray in (False, True):
        look(f"drawn {xray}", lambda: graph.get_graph(xray=xray).draw_mermaid())  # noqa: B023
        look(f"json {xray}", lambda: graph.get_graph(xray=xray).to_json())  # noqa: B023
    look("subgraphs", lambda: [(n, g.name) for n, g in graph.get_subgraphs(recurse=True)])
    look("schemas", lambda: (graph.get_input_jsonschema(), graph.get_output_jsonschema()))
    nodes = graph.nodes
    look("nodes", lambda: (graph.name, [(n, nodes[n].metadata, nodes[n].tags) for n in nodes]))
    look(
        "streamed",
        lambda: sorted(
            map(seen, graph.stream(given, config, stream_mode=modes, subgraphs=True, context=1))
        ),
    )
    look("state", lambda: graph.get_state(config, subgraphs=True))
    look("resumed", lambda: graph.invoke(Command(resume="ann"), config))
    look("history", lambda: [(s.values, s.next) for s in graph.get_state_history(config)])
    look("updated", lambda: (graph.update_state(config, given, "a"), graph.get_state(config))[1])
    look("astreamed", lambda: asyncio.run(astream()))
    config["configurable"]["thread_id"] = "v2"
    look("v2", lambda: graph.invoke(given, config, version="v2", context=1))
    return found


@pytest.mark.parametrize("is_compiled", [False, True], ids=["builder", "compiled"])
@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.filterwarnings("ignore")
def test_a_graph_is_what_it_was(name: str, is_compiled: bool) -> None:
    """From all sides."""
    make, given = GRAPHS[name]

    def options() -> dict[str, Any]:
        return {"checkpointer": InMemorySaver(), "cache": InMemoryCache(), "name": "whole"}

    def budgeted() -> Any:
        if is_compiled:
            return budget_graph(make().compile(**options()), PLAN)
        return budget_graph(make(), PLAN).compile(**options())

    plain = look_at(lambda: make().compile(**options()), given)
    with PLAN.run():
        under_plan = look_at(budgeted, given)

    assert plain == under_plan
