"""What a budgeted node keeps of the node, in every form that LangGraph takes, and bad input."""

from __future__ import annotations

import functools
import inspect
import operator
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import AddableDict, Runnable, RunnableConfig, RunnableLambda
from langchain_core.tools import tool
from langgraph.cache.memory import InMemoryCache
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import GraphRecursionError, NodeError
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import InjectedState, InjectedStore, ToolNode
from langgraph.runtime import Runtime
from langgraph.store.base import BaseStore
from langgraph.store.memory import InMemoryStore
from langgraph.types import CachePolicy, Command, StreamWriter, interrupt
from pydantic import BaseModel

from langchain_tokenopt.budget import BudgetPlan
from langchain_tokenopt.budget.run import BudgetRun
from langchain_tokenopt.chat_model.optimize import optimize
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.graph import BudgetState, budget_graph, budgeted, merge_budget
from tests.support.fakes import FakeAnswer, fake_chat

PLAN = BudgetPlan(total_tokens=10_000)
THREAD: Any = {"configurable": {"thread_id": "t"}}


class State(TypedDict, total=False):
    """A plain state."""

    log: Annotated[list[str], operator.add]
    other: str


class Mirrored(State, total=False):
    """A state with the budget in it."""

    budget: BudgetState


class Part(TypedDict):
    """What one node sees of the state."""

    other: str


@dataclass
class Context:
    """What a run of the graph is given."""

    name: str


def model(calls: int = 50) -> Any:
    """Return a staged model of which each call costs 60 tokens."""
    return optimize(fake_chat(answers=[FakeAnswer("ok", Usage(50, 10))] * calls), PLAN)


# Two ways to put a node under a plan

Wrap = Callable[[Any], Any]


def alone(node: Any, **options: Any) -> Any:
    """Return a graph of one node that is budgeted by itself."""
    graph: Any = StateGraph(options.pop("schema", State), options.pop("context", None))
    graph.add_node("node", budgeted(node, PLAN), **options)
    return graph.add_edge(START, "node").add_edge("node", END)


def whole(node: Any, **options: Any) -> Any:
    """Return a graph of one node, budgeted as a whole."""
    graph: Any = StateGraph(options.pop("schema", State), options.pop("context", None))
    graph.add_node("node", node, **options)
    return budget_graph(graph.add_edge(START, "node").add_edge("node", END), PLAN)


def unbudgeted(node: Any, **options: Any) -> Any:
    """Return a graph of one node as it is."""
    graph: Any = StateGraph(options.pop("schema", State), options.pop("context", None))
    graph.add_node("node", node, **options)
    return graph.add_edge(START, "node").add_edge("node", END)


both = pytest.mark.parametrize("wrap", [alone, whole])


@both
async def test_everything_is_injected(wrap: Wrap) -> None:
    """Config, writer, store, runtime and context reach functions and coroutines."""
    seen: list[Any] = []

    def node(
        state: State,
        config: RunnableConfig,
        *,
        writer: StreamWriter,
        store: BaseStore,
        runtime: Runtime[Context],
    ) -> State:
        seen.append((config["tags"], store, runtime.context.name))
        writer("said")
        return {"log": ["x"]}

    async def anode(state: State, runtime: Runtime[Context], store: BaseStore) -> State:
        seen.append((["a"], store, runtime.context.name))
        return {"log": ["x"]}

    store, told = InMemoryStore(), ([], "ann")
    with PLAN.run():
        graph = wrap(node, context=Context).compile(store=store)
        given: Any = {"context": Context("ann"), "stream_mode": "custom"}
        assert ["said"] == list(graph.stream({}, {"tags": ["a"]}, **given))
        agraph = wrap(anode, context=Context).compile(store=store)
        await agraph.ainvoke({}, context=Context("ann"))

    assert told == ([], "ann")
    assert [(["a"], store, "ann")] * 2 == seen


def test_previous_is_injected() -> None:
    """What a function returned before, in graphs that are made of functions."""
    from langgraph.func import entrypoint, task

    @task
    def add(n: int) -> int:
        return n + 1

    def count(start: int, *, previous: int | None = None) -> int:
        return add((previous or 0) + start).result()

    graph = entrypoint(checkpointer=InMemorySaver())(budgeted(count, PLAN))
    with PLAN.run():
        assert [2, 4] == [graph.invoke(1, THREAD) for _ in range(2)]


@both
def test_a_node_sees_the_part_of_the_state_that_it_asks_for(wrap: Wrap) -> None:
    """The input schema is read from the hints of the node itself."""
    seen: list[Any] = []

    def node(state: Part) -> State:
        seen.append(dict(state))
        return {"log": ["x"]}

    with PLAN.run():
        wrap(node).compile().invoke({"other": "o", "log": ["l"]})

    assert [{"other": "o"}] == seen


class Asks:
    """A callable object."""

    def __init__(self, asked: Any) -> None:
        self.asked = asked

    def __call__(self, state: State) -> State:
        """Ask."""
        return {"log": [self.asked.invoke("Hi").text]}


class AsksAsync(Asks):
    """The same as a coroutine."""

    async def __call__(self, state: State) -> State:  # type: ignore[override]
        """Ask."""
        return {"log": [(await self.asked.ainvoke("Hi")).text]}


def ask(asked: Any, state: State) -> State:
    """Ask."""
    return {"log": [asked.invoke("Hi").text]}


async def aask(asked: Any, state: State) -> State:
    """Ask."""
    return {"log": [(await asked.ainvoke("Hi")).text]}


def chain_of(asked: Any) -> Runnable[Any, Any]:
    """Return a chain that asks."""
    prompt = ChatPromptTemplate.from_messages([("user", "Hi")])
    return prompt | asked | RunnableLambda(lambda message: {"log": [message.text]})


NODES: dict[str, tuple[Callable[[Any], Any], bool]] = {
    "function": (lambda m: lambda state: ask(m, state), True),
    "object": (Asks, True),
    "partial": (lambda m: functools.partial(ask, m), True),
    "method": (lambda m: Asks(m).__call__, True),
    "lambda runnable": (lambda m: RunnableLambda(functools.partial(ask, m)), True),
    "chain": (chain_of, True),
    "async object": (AsksAsync, False),
    "async partial": (lambda m: functools.partial(aask, m), False),
    "async method": (lambda m: AsksAsync(m).__call__, False),
}


@both
@pytest.mark.parametrize("form", NODES)
async def test_every_form_of_a_node(wrap: Wrap, form: str) -> None:
    """Sync and async, with the mirror of the account in the state."""
    made, is_sync = NODES[form]
    with PLAN.run() as run:
        graph = wrap(made(model()), schema=Mirrored).compile()
        states = [graph.invoke({})] if is_sync else []
        states.append(await graph.ainvoke({}))
    spent = run.report().agents["node"].account.spent_tokens

    assert [["ok"]] * len(states) == [state["log"] for state in states]
    assert 60 * len(states) == spent
    if wrap is whole:
        assert spent == states[-1]["budget"]["agents"]["node"]["spent"]


@both
async def test_generators_are_run_to_their_end(wrap: Wrap) -> None:
    """LangGraph adds up what they yield; their calls are paid like any other's."""
    asked = model()

    def node(state: State) -> Any:
        yield AddableDict(log=[asked.invoke("Hi").text])
        yield AddableDict(log=["more"])

    async def anode(state: State) -> Any:
        yield AddableDict(log=[(await asked.ainvoke("Hi")).text])
        yield AddableDict(log=["more"])

    with PLAN.run() as run:
        states = [wrap(node).compile().invoke({}), await wrap(anode).compile().ainvoke({})]

    assert [["ok", "more"]] * 2 == [state["log"] for state in states]
    assert 120 == run.report().agents["node"].account.spent_tokens


@both
@pytest.mark.parametrize("form", NODES)
def test_drawings_are_those_of_the_node(wrap: Wrap, form: str) -> None:
    """Names, edges and schemas."""
    made, _ = NODES[form]
    plain, same = unbudgeted(made(model())).compile(), wrap(made(model())).compile()

    assert plain.get_graph().draw_mermaid() == same.get_graph().draw_mermaid()
    assert plain.builder.nodes["node"].input_schema == same.builder.nodes["node"].input_schema


@pytest.mark.parametrize("form", ["function", "object", "partial", "method"])
def test_signatures_are_those_of_the_node(form: str) -> None:
    """Whoever inspects the wrapped function sees the node's parameters and its name."""
    node = NODES[form][0](model())
    wrapped = budgeted(node, PLAN)

    assert inspect.signature(node) == inspect.signature(wrapped)
    if hasattr(node, "__name__"):
        assert node.__name__ == wrapped.__name__


@both
def test_tools_are_injected_the_state_and_the_store(wrap: Wrap) -> None:
    """A tool node, and tools that ask a model inside."""
    asked = model()

    @tool
    def look(
        word: str,
        state: Annotated[Any, InjectedState],
        store: Annotated[BaseStore, InjectedStore()],
    ) -> str:
        """Look."""
        store.put(("seen",), word, {"messages": len(state["messages"])})
        return asked.invoke(word).text

    store = InMemoryStore()
    call = {"name": "look", "args": {"word": "x"}, "id": "1"}
    with PLAN.run() as run:
        graph = wrap(ToolNode([look]), schema=MessagesState).compile(store=store)
        result = graph.invoke({"messages": [AIMessage("", tool_calls=[call])]})
    item = store.get(("seen",), "x")

    assert "ok" == result["messages"][-1].content
    assert item is not None
    assert {"messages": 1} == item.value
    assert 60 == run.report().agents["node"].account.spent_tokens


@both
def test_a_node_cache_is_not_charged(wrap: Wrap) -> None:
    """LangGraph does not run the node again, so nothing is spent again."""
    asked = model()

    def node(state: State) -> State:
        return {"log": [asked.invoke("Hi").text]}

    graph = wrap(node, cache_policy=CachePolicy()).compile(cache=InMemoryCache())
    with PLAN.run() as run:
        assert [["ok"]] * 2 == [graph.invoke({})["log"] for _ in range(2)]

    assert 60 == run.report().account.spent_tokens


@both
async def test_a_node_without_a_model_costs_nothing(wrap: Wrap) -> None:
    """And has no line in the report."""
    with PLAN.run() as run:
        graph = wrap(lambda state: {"log": ["x"]}).compile()
        assert [["x"]] * 2 == [graph.invoke({})["log"], (await graph.ainvoke({}))["log"]]

    assert {} == run.report().agents


@both
async def test_an_interrupt_is_not_a_failure(wrap: Wrap) -> None:
    """Before and after the model: the call is charged each time it is made."""
    asked = model()

    async def node(state: State) -> State:
        await asked.ainvoke("Hi")
        return {"log": [interrupt("Go on?")]}

    graph = wrap(node).compile(checkpointer=InMemorySaver())
    with PLAN.run() as run:
        assert "__interrupt__" in await graph.ainvoke({}, THREAD)
        assert ["yes"] == (await graph.ainvoke(Command(resume="yes"), THREAD))["log"]

    assert (120, 0) == (run.report().account.spent_tokens, run.report().failed_calls)


@both
def test_the_recursion_limit_is_langgraphs(wrap: Wrap) -> None:
    """What was spent until then is charged, nothing stays held."""
    asked = model()

    def node(state: State) -> Command[Any]:
        asked.invoke("Hi")
        return Command(goto="node")

    graph = wrap(node, destinations=("node",)).compile()
    with PLAN.run() as run, pytest.raises(GraphRecursionError):
        graph.invoke({}, {"recursion_limit": 3})
    account = run.report().account

    assert (60 * run.report().agents["node"].account.calls, 0) == (
        account.spent_tokens,
        account.held_tokens,
    )
    assert account.spent_tokens >= 120


def test_a_node_that_is_called_by_hand_leaves_nothing_behind() -> None:
    """Calls after it are not its agent's."""
    asked = model()
    with PLAN.run() as run:
        budgeted(lambda state: ask(asked, state), PLAN, agent="writer")({})
        asked.invoke("Hi")
    spent = {name: line.account.spent_tokens for name, line in run.report().agents.items()}

    assert {"writer": 60, "default": 60} == spent


def test_a_name_that_is_used_twice_is_refused_by_langgraph() -> None:
    """Two agents of one name cannot be in one graph; two nodes may be one agent."""
    graph: Any = StateGraph(State).add_node("node", budgeted(lambda state: None, PLAN))
    with pytest.raises(ValueError, match="Node `node` already present"):
        graph.add_node("node", budgeted(lambda state: None, PLAN))

    asked = model()
    graph = StateGraph(State)
    for name in ("one", "two"):
        node = functools.partial(ask, asked)
        graph.add_node(name, node, metadata={"tokenopt_agent": "writer"})
    graph.add_edge(START, "one").add_edge("one", "two").add_edge("two", END)
    with PLAN.run() as run:
        budget_graph(graph, PLAN).compile().invoke({})

    assert ["writer"] == list(run.report().agents)


@pytest.mark.parametrize("thing", [3, "node", None])
def test_what_is_no_node_is_refused(thing: Any) -> None:
    """The error names its type."""
    with pytest.raises(TypeError, match=f"got {type(thing).__name__}"):
        budgeted(thing, PLAN)


@both
async def test_coroutines_do_not_wait_for_a_disk(
    wrap: Wrap, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An account in a file is opened by other threads than the event loop's."""
    threads: set[int] = set()
    for name in ("begin", "end"):
        inner = getattr(BudgetRun, name)

        def noted(*args: Any, inner: Any = inner, **kwargs: Any) -> Any:
            threads.add(threading.get_ident())
            return inner(*args, **kwargs)

        monkeypatch.setattr(BudgetRun, name, noted)

    async def node(state: State) -> State:
        return {"log": ["x"]}

    with PLAN.run(path=tmp_path / "budgets.db"):
        for form in (node, RunnableLambda(node)):
            await wrap(form).compile().ainvoke({})

    assert threads
    assert threading.get_ident() not in threads


def test_an_error_handler_is_paid_by_its_node() -> None:
    """It does the node's work."""
    asked = model()

    def fail(state: State) -> State:
        raise OSError("no news")

    def handle(state: State, error: NodeError) -> State:
        return {"log": [asked.invoke("Hi").text]}

    with PLAN.run() as run:
        assert ["ok"] == whole(fail, error_handler=handle).compile().invoke({})["log"]

    assert ["node"] == list(run.report().agents)


def test_defaults_of_nodes_are_kept_once() -> None:
    """A compiled graph has them in its nodes already, an error handler among these."""
    asked, handled = model(), []

    def fail(state: State) -> State:
        asked.invoke("Hi")
        raise OSError("no news")

    def handle(state: State, error: NodeError) -> State:
        handled.append(error.node)
        return {"log": ["handled"]}

    graph, fresh = (unbudgeted(fail).set_node_defaults(error_handler=handle) for _ in range(2))
    with PLAN.run() as run:
        assert ["handled"] == budget_graph(graph.compile(), PLAN).invoke({})["log"]
        assert ["handled"] == budget_graph(fresh, PLAN).compile().invoke({})["log"]

    assert ["node"] * 2 == handled
    assert 120 == run.report().agents["node"].account.spent_tokens


# The mirror

counters = st.fixed_dictionaries(
    {"spent": st.integers(0, 99)},
    optional={name: st.integers(0, 99) for name in ("held", "surplus", "spent_nano_usd")},
)
mirrors = st.fixed_dictionaries(
    {"agents": st.dictionaries(st.sampled_from("abc"), counters, max_size=3)},
    optional={"budget": st.just("plan"), "total_tokens": st.just(1_000)},
)


@given(mirrors, mirrors, mirrors)
def test_merging_is_a_semilattice(left: Any, right: Any, third: Any) -> None:
    """Idempotent, commutative, associative: whatever arrives twice, late or in another order."""
    merged = merge_budget(left, right)

    assert left == merge_budget(left, left) or not left["agents"]
    assert merged == merge_budget(merged, right) == merge_budget(merged, left)
    assert merged == merge_budget(right, left)
    assert merge_budget(merged, third) == merge_budget(left, merge_budget(right, third))


def mirrored(*names: str) -> Any:
    """Return nodes in a row, or in parallel where a name says so, with a mirror."""
    asked = model()
    graph: Any = StateGraph(Mirrored)
    for name in names:
        graph.add_node(name, functools.partial(ask, asked))
    return graph


class Typed(BaseModel):
    """A state as a model."""

    log: Annotated[list[str], operator.add] = []
    budget: BudgetState = {}


@dataclass
class Update:
    """An update as an object."""

    log: list[str]


FORMS: dict[str, Any] = {
    "nothing": None,
    "dict": {"log": ["x"]},
    "command": Command(update={"log": ["x"]}),
    "command of pairs": Command(update=[("log", ["x"])]),
    "command of an object": Command(update=Update(["x"])),
    "commands": [Command(update={"log": ["x"]}), {"log": ["x"]}],
    "model": Typed(log=["x"]),
    "object": Update(["x"]),
}


@pytest.mark.parametrize("schema", [Mirrored, Typed])
@pytest.mark.parametrize("form", FORMS)
def test_the_mirror_is_added_to_every_form_of_update(form: str, schema: type) -> None:
    """And the update itself is what it is without a mirror."""
    asked, returned = model(), FORMS[form]

    def node(state: Any) -> Any:
        asked.invoke("Hi")
        return returned

    plain = unbudgeted(lambda state: returned, schema=schema).compile().invoke({})
    with PLAN.run():
        state = whole(node, schema=schema).compile().invoke({})

    assert (plain or {}).get("log", []) == state.get("log", [])
    assert 60 == state["budget"]["agents"]["node"]["spent"]


async def test_parallel_branches_mirror_one_account() -> None:
    """Whoever ends last, the mirror says what all have spent."""
    graph = mirrored("a", "b", "c", "d")
    for name in "abc":
        graph.add_edge(START, name).add_edge(name, "d")
    with PLAN.run() as run:
        state = await budget_graph(graph.add_edge("d", END), PLAN).compile().ainvoke({})
    told = {agent: line["spent"] for agent, line in state["budget"]["agents"].items()}

    assert dict.fromkeys("abcd", 60) == told
    assert 240 == run.report().account.spent_tokens


def test_a_fork_is_paid_and_what_was_abandoned_stays_paid() -> None:
    """In one account: from an older checkpoint on everything is paid again."""
    graph = mirrored("a", "b", "c").add_edge(START, "a").add_edge("a", "b").add_edge("b", "c")
    compiled = budget_graph(graph, PLAN).compile(checkpointer=InMemorySaver())
    with PLAN.run() as run:
        compiled.invoke({}, THREAD)
        older = next(s for s in compiled.get_state_history(THREAD) if s.next == ("b",))
        forked = compiled.update_state(older.config, {"other": "changed"})
        state = compiled.invoke(None, forked)
    spent = {name: line.account.spent_tokens for name, line in run.report().agents.items()}

    assert {"a": 60, "b": 120, "c": 120} == spent
    assert spent == {name: told["spent"] for name, told in state["budget"]["agents"].items()}


def test_a_new_account_at_an_older_checkpoint_knows_what_that_says() -> None:
    """Without a store nobody has told it more; the documented outcome."""
    graph = mirrored("a", "b", "c").add_edge(START, "a").add_edge("a", "b").add_edge("b", "c")
    compiled = budget_graph(graph, PLAN).compile(checkpointer=InMemorySaver())
    with PLAN.run():
        compiled.invoke({}, THREAD)
    older = next(s for s in compiled.get_state_history(THREAD) if s.next == ("b",))
    with PLAN.run() as run:
        compiled.invoke(None, older.config)

    assert 180 == run.report().account.spent_tokens


def test_with_a_store_a_new_run_knows_everything(tmp_path: Any) -> None:
    """Whatever checkpoint it begins at."""
    graph = mirrored("a", "b").add_edge(START, "a").add_edge("a", "b")
    compiled = budget_graph(graph, PLAN).compile(checkpointer=InMemorySaver())
    store = tmp_path / "budgets.db"
    with PLAN.run(thread_id="t", path=store):
        compiled.invoke({}, THREAD)
    older = next(s for s in compiled.get_state_history(THREAD) if s.next == ("b",))
    with PLAN.run(thread_id="t", path=store) as run:
        compiled.invoke(None, older.config)

    assert 180 == run.report().account.spent_tokens


def test_a_mirror_made_by_hand_may_say_less() -> None:
    """What is missing counts as nothing."""
    graph = mirrored("a").add_edge(START, "a")
    with PLAN.run() as run:
        compiled = budget_graph(graph, PLAN).compile()
        compiled.invoke({"budget": {"agents": {"a": {"spent": 100}}}})

    assert 160 == run.report().account.spent_tokens


@pytest.mark.parametrize("count", [-1, "many", 1.5])
def test_a_mirror_that_cannot_be_true_is_refused(count: Any) -> None:
    """The error says where it stands, and what."""
    graph = mirrored("a").add_edge(START, "a")
    compiled = budget_graph(graph, PLAN).compile()
    with PLAN.run(), pytest.raises(ValueError, match="'budget' says that 'a' has spent"):
        compiled.invoke({"budget": {"agents": {"a": {"spent": count}}}})
