"""Budgets in LangGraph: what wrapping a node or a graph keeps, and what it adds."""

from __future__ import annotations

import functools
import operator
from typing import Annotated, Any, Literal, TypedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import Command, RetryPolicy, Send, StreamWriter, interrupt

from langchain_tokenopt.budget import BudgetPlan
from langchain_tokenopt.budget.run import NoBudgetRunError
from langchain_tokenopt.chat_model.optimize import optimize
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.graph import (
    BudgetAllocationNode,
    BudgetState,
    budget_graph,
    budgeted,
    merge_budget,
)
from tests.support.fakes import FakeAnswer, FakeChat, fake_chat


class State(TypedDict, total=False):
    """A plain state."""

    log: Annotated[list[str], operator.add]


class Mirrored(State, total=False):
    """A state with the budget in it."""

    budget: BudgetState


PLAN = BudgetPlan(total_tokens=10_000)


def model_that_uses(*usages: Usage) -> FakeChat:
    """Return a model that answers with these usages, and 60 tokens afterwards."""
    answers = [FakeAnswer("ok", usage) for usage in usages]
    return fake_chat(answers=answers + [FakeAnswer("ok", Usage(50, 10))] * 50)


def chain(*nodes: Any, schema: type = State, plan: BudgetPlan = PLAN, **options: Any) -> Any:
    """Return the nodes in a row, each under *plan*."""
    graph: Any = StateGraph(schema)
    names = [node if isinstance(node, str) else node.__name__ for node in nodes]
    for name, node in zip(names, nodes, strict=True):
        graph.add_node(name, budgeted(node, plan), **options)
    for first, second in zip([START, *names], [*names, END], strict=True):
        graph.add_edge(first, second)
    return graph


# One node


def test_everything_that_langgraph_injects_arrives() -> None:
    """Config, runtime and writer are found by the signature of the node itself."""
    seen: dict[str, Any] = {}

    def node(
        state: State, config: RunnableConfig, *, runtime: Runtime[Any], writer: StreamWriter
    ) -> State:
        seen.update(config=config, runtime=runtime)
        writer("said")
        return {"log": ["done"]}

    graph = chain(node).compile()
    with PLAN.run():
        pieces = list(graph.stream({}, {"tags": ["x"]}, stream_mode="custom"))

    assert ["said"] == pieces
    assert "x" in seen["config"]["tags"]
    assert isinstance(seen["runtime"], Runtime)


def test_a_command_keeps_its_edges() -> None:
    """The edges that a return annotation declares are drawn and followed."""

    def router(state: State) -> Command[Literal["left", "right"]]:
        return Command(update={"log": ["router"]}, goto="right")

    graph: Any = StateGraph(State)
    graph.add_node("router", budgeted(router, PLAN))
    graph.add_node("left", lambda state: {"log": ["left"]})
    graph.add_node("right", lambda state: {"log": ["right"]})
    graph.add_edge(START, "router")
    compiled = graph.compile()
    edges = {(edge.source, edge.target) for edge in compiled.get_graph().edges}

    assert {("router", "left"), ("router", "right")} <= edges
    with PLAN.run():
        assert ["router", "right"] == compiled.invoke({})["log"]


def test_sends_pass_through() -> None:
    """A node may send work to others."""

    def spread(state: State) -> Any:
        return Command(goto=[Send("work", {"log": [str(n)]}) for n in range(3)])

    graph: Any = StateGraph(State)
    graph.add_node("spread", budgeted(spread, PLAN), destinations=("work",))
    graph.add_node("work", budgeted(lambda state: {"log": state["log"]}, PLAN))
    graph.add_edge(START, "spread")
    with PLAN.run():
        assert ["0", "1", "2"] == sorted(graph.compile().invoke({})["log"])


async def test_coroutines_stay_coroutines() -> None:
    """An async node is awaited."""

    async def node(state: State) -> State:
        return {"log": ["async"]}

    graph = chain(node).compile()
    with PLAN.run():
        assert ["async"] == (await graph.ainvoke({}))["log"]


class CallableObject:
    """An object that is a node."""

    __name__ = "callable_object"

    async def __call__(self, state: State) -> State:
        """Do nothing much."""
        return {"log": ["object"]}


def with_prefix(prefix: str, state: State) -> State:
    """Log a prefix."""
    return {"log": [prefix]}


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (CallableObject(), "object"),
        (functools.partial(with_prefix, "partial"), "partial"),
        (RunnableLambda(lambda state: {"log": ["runnable"]}), "runnable"),
    ],
    ids=["async object", "partial", "runnable"],
)
async def test_whatever_is_a_node_can_be_budgeted(node: Any, expected: str) -> None:
    """Callable objects, partials and runnables work as they did."""
    graph: Any = StateGraph(State)
    graph.add_node("node", budgeted(node, PLAN))
    graph.add_edge(START, "node")
    with PLAN.run():
        assert [expected] == (await graph.compile().ainvoke({}))["log"]


def test_retries_are_charged_each_time() -> None:
    """A node that fails after its call and is repeated has paid twice."""
    model, attempts = optimize(model_that_uses(Usage(30, 5), Usage(30, 5)), PLAN), []

    def node(state: State) -> State:
        model.invoke("Hi")
        attempts.append(1)
        if len(attempts) == 1:
            raise ConnectionError("once")
        return {"log": ["done"]}

    policy = RetryPolicy(initial_interval=0.001, jitter=False)
    graph = chain(node, retry_policy=policy).compile()
    with PLAN.run() as run:
        assert ["done"] == graph.invoke({})["log"]

    assert 70 == run.report().agents["node"].account.spent_tokens


def test_interrupts_pass_through() -> None:
    """A node that asks a human is resumed, and both of its calls are charged."""
    model = optimize(model_that_uses(Usage(30, 5), Usage(30, 5)), PLAN)

    def node(state: State) -> State:
        model.invoke("Hi")
        return {"log": [interrupt("Go on?")]}

    graph = chain(node).compile(checkpointer=InMemorySaver())
    thread: Any = {"configurable": {"thread_id": "t"}}
    with PLAN.run() as run:
        assert "__interrupt__" in graph.invoke({}, thread)
        assert ["yes"] == graph.invoke(Command(resume="yes"), thread)["log"]

    assert 70 == run.report().account.spent_tokens


def test_agents_are_named_after_their_nodes_or_as_told() -> None:
    """Without a name the node's own counts; a given one counts also where config is handed on."""
    model = optimize(model_that_uses(), PLAN)

    def plain(state: State) -> None:
        model.invoke("Hi")

    def handing_on(state: State, config: RunnableConfig) -> None:
        model.invoke("Hi", config)

    graph: Any = StateGraph(State)
    graph.add_node("one", budgeted(plain, PLAN))
    graph.add_node("two", budgeted(plain, PLAN, agent="writer"))
    graph.add_node("three", budgeted(handing_on, PLAN, agent="reader"))
    graph.add_edge(START, "one").add_edge("one", "two").add_edge("two", "three")
    with PLAN.run() as run:
        graph.compile().invoke({})

    assert {"one", "writer", "reader"} == set(run.report().agents)


def test_a_subgraph_stays_one() -> None:
    """A compiled graph as a node can still be looked into, and pays from the given account."""
    model = optimize(model_that_uses(Usage(30, 5)), PLAN)
    inner: Any = StateGraph(State)
    inner.add_node("deep", lambda state: {"log": [model.invoke("Hi").text]})
    inner.add_edge(START, "deep")
    outer: Any = StateGraph(State)
    outer.add_node("sub", budgeted(inner.compile(), PLAN, agent="team"))
    outer.add_edge(START, "sub")
    graph = outer.compile()

    assert ["sub"] == [name for name, _ in graph.get_subgraphs()]
    with PLAN.run() as run:
        graph.invoke({})
    assert 35 == run.report().agents["team"].account.spent_tokens


def test_outside_of_a_run_a_node_says_so() -> None:
    """A budgeted node does not run without its budget."""

    def node(state: State) -> None: ...

    with pytest.raises(NoBudgetRunError, match="'node' is under the plan 'plan'"):
        chain(node).compile().invoke({"log": []})


def test_an_agent_that_the_plan_does_not_have_is_refused() -> None:
    """A misspelt name is found when the graph is built."""
    plan = BudgetPlan(total_tokens=100, agents={"news": {}})
    with pytest.raises(ValueError, match="no agent 'newz'; it has news"):
        budgeted(lambda state: None, plan, agent="newz")


# A whole graph


def desk(model: Any, plan: BudgetPlan, schema: type = State) -> Any:
    """Two analysts side by side, a loop between two debaters, a judge, a trader."""
    rounds: list[int] = []

    def ask(name: str) -> Any:
        return lambda state: {"log": [f"{name}:{model.invoke('Hi').text}"]}

    def go_on(state: State) -> Literal["bull", "judge"]:
        rounds.append(1)
        return "judge" if len(rounds) == 2 else "bull"

    graph: Any = StateGraph(schema)
    for name in ("market", "news", "bull", "bear", "judge", "trader"):
        graph.add_node(name, ask(name))
    graph.add_edge(START, "market").add_edge(START, "news")
    graph.add_edge(["market", "news"], "bull").add_edge("bull", "bear")
    graph.add_conditional_edges("bear", go_on, ["bull", "judge"])
    graph.add_edge("judge", "trader").add_edge("trader", END)
    return graph


FULL = BudgetPlan(
    total_tokens=10_000,
    agents={
        name: {"tokens": 1_000} for name in ("market", "news", "bull", "bear", "judge", "trader")
    },
)


def test_every_node_has_its_account() -> None:
    """Each node of a graph built elsewhere pays for itself, and outputs stay as they were."""
    plain = desk(model_that_uses(), FULL).compile().invoke({})
    workflow = budget_graph(desk(optimize(model_that_uses(), FULL), FULL), FULL)
    with FULL.run() as run:
        result = workflow.compile().invoke({})
    spent = {name: line.account.spent_tokens for name, line in run.report().agents.items()}

    assert sorted(plain["log"]) == sorted(result["log"])
    assert {"market": 60, "news": 60, "bull": 120, "bear": 120, "judge": 60, "trader": 60} == spent


def test_what_finished_agents_leave_goes_to_the_others() -> None:
    """Analysts give back when the debate begins; debaters, which loop, once it is over."""
    model, returned = optimize(model_that_uses(), FULL), []
    workflow = desk(model, FULL)
    for name in ("bull", "trader"):
        spec = workflow.nodes[name]
        inner = spec.runnable.func

        def look(state: State, inner: Any = inner) -> Any:
            report = run.report().agents
            returned.append({n for n, line in report.items() if line.account.finished})
            return inner(state)

        workflow.nodes[name].runnable.func = look
    with FULL.run() as run:
        budget_graph(workflow, FULL).compile().invoke({})

    analysts = {"market", "news"}
    assert [analysts, analysts, analysts | {"bull", "bear", "judge"}] == returned
    assert 1_000 < run.report().agents["trader"].account.available_tokens


def test_the_original_graph_is_untouched() -> None:
    """The graph that was given runs outside of any budget as before."""
    workflow = desk(model_that_uses(), FULL)
    budget_graph(workflow, FULL)

    assert 8 == len(workflow.compile().invoke({})["log"])


def test_a_plan_for_other_agents_is_refused() -> None:
    """Agents that the graph does not have are named, with those that it has."""
    plan = BudgetPlan(total_tokens=1_000, agents={"client": {}, "news": {}})
    with pytest.raises(ValueError, match=r"names 'client', which the graph does not"):
        budget_graph(desk(model_that_uses(), plan), plan)


def test_what_is_no_state_graph_is_refused_with_a_hint() -> None:
    """The error says how else it can be budgeted."""
    with pytest.raises(TypeError, match=r"got RunnableRetry\. .* optimize\(model, plan\)"):
        budget_graph(desk(model_that_uses(), FULL).compile().with_retry(), FULL)


def test_a_graph_without_nodes_is_refused() -> None:
    """There is nobody to budget."""
    with pytest.raises(ValueError, match="the graph has no nodes"):
        budget_graph(StateGraph(State), PLAN)


# The mirror


def test_the_mirror_agrees_with_the_account() -> None:
    """After a run the state says what the account says, in whatever form nodes returned."""
    model = optimize(model_that_uses(), PLAN)

    def as_dict(state: Mirrored) -> Mirrored:
        return {"log": [model.invoke("Hi").text]}

    def as_command(state: Mirrored) -> Command[Any]:
        return Command(update={"log": [model.invoke("Hi").text]})

    def as_nothing(state: Mirrored) -> None:
        model.invoke("Hi")

    graph: Any = StateGraph(Mirrored)
    names = []
    for node in (as_dict, as_command, as_nothing):
        graph.add_node(node)
        graph.add_edge(names[-1] if names else START, node.__name__)
        names.append(node.__name__)
    with PLAN.run() as run:
        state = budget_graph(graph, PLAN).compile().invoke({})
    mirrored = {agent: told["spent"] for agent, told in state["budget"]["agents"].items()}

    assert ["ok", "ok"] == state["log"]
    assert dict.fromkeys(names, 60) == mirrored
    assert 180 == run.report().account.spent_tokens


def test_a_resumed_graph_goes_on_from_its_checkpoint() -> None:
    """A new account, as in another process, begins with what the checkpoint says was spent."""
    model, broken = optimize(model_that_uses(), PLAN), [True]

    def first(state: Mirrored) -> Mirrored:
        return {"log": [model.invoke("Hi").text]}

    def second(state: Mirrored) -> Mirrored:
        if broken:
            broken.pop()
            raise OSError("killed")
        return {"log": [model.invoke("Hi").text]}

    graph: Any = StateGraph(Mirrored).add_node(first).add_node(second)
    graph.add_edge(START, "first").add_edge("first", "second")
    compiled = budget_graph(graph, PLAN).compile(checkpointer=InMemorySaver())
    thread: Any = {"configurable": {"thread_id": "t"}}
    with PLAN.run(), pytest.raises(OSError, match="killed"):
        compiled.invoke({}, thread)
    with PLAN.run() as again:
        compiled.invoke(None, thread)

    spent = {name: line.account.spent_tokens for name, line in again.report().agents.items()}
    assert {"first": 60, "second": 60} == spent


def test_an_allocation_node_writes_tokens_and_words() -> None:
    """The state says what everybody may spend, before anybody has."""
    plan = BudgetPlan(total_tokens=900, agents={"judge": {"tokens": 600, "words": 50}})
    graph: Any = StateGraph(Mirrored)
    graph.add_node("budget_allocation", BudgetAllocationNode(plan))
    graph.add_edge(START, "budget_allocation")
    with plan.run():
        state = graph.compile().invoke({})

    assert {"judge": {"tokens": 600, "words": 50}} == state["budget"]["allocation"]


mirrors = st.dictionaries(
    st.sampled_from("abc"), st.fixed_dictionaries({"spent": st.integers(0, 99)}), max_size=3
).map(lambda agents: {"agents": agents})


@given(mirrors, mirrors, mirrors)
def test_merging_is_idempotent_and_knows_no_order(left: Any, right: Any, third: Any) -> None:
    """Mirrors may arrive twice, late, and in any order."""

    def agents(*sides: Any) -> Any:
        return functools.reduce(merge_budget, sides, {}).get("agents", {})

    assert agents(left, right) == agents(right, left, right, left)
    assert agents(left, right, third) == agents(third, right, left)


# Events


def test_events_are_in_the_custom_stream() -> None:
    """Whoever streams a graph's custom events hears of its budget."""
    plan = BudgetPlan(total_tokens=20)
    model = optimize(model_that_uses(), plan)

    def node(state: State) -> State:
        return {"log": [model.invoke("word " * 100).text]}

    with plan.run():
        told = list(chain(node, plan=plan).compile().stream({}, stream_mode="custom"))

    assert "degraded" in [event["kind"] for event in told]
