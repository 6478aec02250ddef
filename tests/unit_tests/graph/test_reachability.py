"""When an agent has finished: what its share becomes, and that it comes back."""

from __future__ import annotations

import inspect
import operator
import threading
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal, TypedDict

import pytest
from langgraph.cache.memory import InMemoryCache
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import NodeError
from langgraph.graph import END, START, StateGraph
from langgraph.types import CachePolicy, Command, RetryPolicy, Send, interrupt

from langchain_tokenopt.budget import BudgetPlan
from langchain_tokenopt.budget.run import current_run
from langchain_tokenopt.graph import budget_graph, budgeted
from langchain_tokenopt.graph.reachability import GraphEdges, Reachability


class State(TypedDict, total=False):
    """A plain state."""

    log: Annotated[list[str], operator.add]


AGENTS = ("market", "news", "team", "judge", "trader")
PLAN = BudgetPlan(total_tokens=5_000, agents={name: {"tokens": 1_000} for name in AGENTS})
THREAD: Any = {"configurable": {"thread_id": "t"}}


def finished() -> str:
    """Return who has finished, as the account of the run that is here says."""
    run = current_run()
    assert run is not None
    return " ".join(name for name, line in run.report().agents.items() if line.account.finished)


def share(agent: str) -> int:
    """Return what an agent could reserve now."""
    run = current_run()
    assert run is not None
    return run.account.available(agent)


class Seen(dict[str, list[str]]):
    """Who had finished when each node began."""

    def node(self, name: str, then: Callable[[], Any] = lambda: None) -> Any:
        """Return a node that looks around."""

        def look(state):
            self.setdefault(name, []).append(finished())
            return then()

        return look


@pytest.fixture
def seen() -> Seen:
    """Note what nodes saw."""
    return Seen()


def graph_of(
    seen: Seen, edges: Iterable[tuple[Any, str]], missing: Iterable[str] = (), **then: Any
) -> Any:
    """Return a graph of all agents, some in no edge, with what nodes return."""
    graph: Any = StateGraph(State)
    for name in set(AGENTS) - set(missing):
        graph.add_node(name, seen.node(name, then.get(name, lambda: None)))
    for start, end in edges:
        graph.add_edge(start, end)
    return graph


ROW = [
    (START, "market"),
    ("market", "news"),
    ("news", "team"),
    ("team", "judge"),
    ("judge", "trader"),
    ("trader", END),
]


def run_of(graph: Any, plan: BudgetPlan = PLAN, **compile_with: Any) -> Any:
    """Run a graph under its plan."""
    with plan.run() as run:
        budget_graph(graph, plan).compile(**compile_with).invoke({}, THREAD)
    return run.report()


async def arun_of(graph: Any) -> Any:
    """Run a graph under its plan, async."""
    with PLAN.run() as run:
        await budget_graph(graph, PLAN).compile().ainvoke({}, THREAD)
    return run.report()


def test_in_a_row_each_has_finished_when_the_next_begins(seen: Seen) -> None:
    """What an agent leaves is there for the very next one."""
    run_of(graph_of(seen, ROW))

    assert {
        "market": [""],
        "news": ["market"],
        "team": ["market news"],
        "judge": ["market news team"],
        "trader": ["market news team judge"],
    } == seen


async def test_async_graphs_are_the_same(seen: Seen) -> None:
    """Also with functions that are not coroutines."""
    with PLAN.run():
        await budget_graph(graph_of(seen, ROW), PLAN).compile().ainvoke({})

    assert ["market news team judge"] == seen["trader"]


def loop(seen: Seen, decide: Any, ends: Any = None) -> Any:
    """Return a graph in which the news may be asked again after the team."""
    edges = [pair for pair in ROW if pair != ("team", "judge")]
    graph = graph_of(seen, edges)
    graph.add_conditional_edges("team", decide, ends)
    return graph


@pytest.mark.parametrize("ends", [["news", "judge"], {"on": "judge", "again": "news"}])
def test_who_is_in_a_loop_finishes_when_it_is_left(seen: Seen, ends: Any) -> None:
    """What a branch has decided counts, not what it could decide."""
    again, on = ("again", "on") if isinstance(ends, dict) else ("news", "judge")
    run_of(loop(seen, lambda state: again if len(seen["team"]) == 1 else on, ends))

    assert ["market", "market"] == seen["team"]
    assert ["market news team"] == seen["judge"]


async def test_async_branches_are_heard(seen: Seen) -> None:
    """A coroutine may decide as well."""

    async def decide(state: State) -> Literal["news", "judge"]:
        return "judge"

    with PLAN.run():
        await budget_graph(loop(seen, decide), PLAN).compile().ainvoke({})

    assert ["market news team"] == seen["judge"]


def test_before_a_branch_that_does_not_say_where_nobody_finishes(seen: Seen) -> None:
    """It could go anywhere; when it has decided, that is known."""
    run_of(loop(seen, lambda state: "judge"))

    assert ["", "", "market news team"] == [seen[n][0] for n in ("news", "team", "judge")]


def test_a_branch_may_send(seen: Seen) -> None:
    """Packets lead where they are sent; the same node three times at once is one."""
    graph = graph_of(seen, [pair for pair in ROW if pair[0] != "market"])
    graph.add_conditional_edges("market", lambda s: [Send("news", {}) for _ in range(3)], ["news"])
    run_of(graph)

    assert ["market"] * 3 == seen["news"]
    assert ["market news"] == seen["team"]


def test_a_command_leads_where_it_says(seen: Seen) -> None:
    """Of declared destinations, those count that were chosen."""
    graph = graph_of(seen, ROW[:-3] + ROW[-2:], missing=["team"])
    graph.add_node(
        "team", seen.node("team", lambda: Command(goto="judge")), destinations=("news", "judge")
    )
    run_of(graph)

    assert ["market"] == seen["team"]
    assert ["market news team"] == seen["judge"]


def test_a_list_of_commands_leads_everywhere_it_says(seen: Seen) -> None:
    """One of its parts may be a plain update."""
    graph = graph_of(seen, ROW[:3] + ROW[4:], missing=["team"])
    returned = [Command(goto="judge"), {"log": ["x"]}]
    node = seen.node("team", lambda: returned)
    graph.add_node("team", node, destinations=("news", "judge"))
    run_of(graph)

    assert ["market news team"] == seen["judge"]


@pytest.mark.parametrize("returned", [None, dict, Command])
def test_a_node_without_edges_ends_the_graph(seen: Seen, returned: Any) -> None:
    """As with an edge to ``END``, unless it says that it returns commands."""
    graph = graph_of(seen, ROW[:-1])
    if returned is not None:
        graph.nodes["trader"].runnable.func.__annotations__["return"] = returned
    run_of(graph)

    assert ["" if returned is Command else "market news team judge"] == seen["trader"]


def test_a_node_that_says_it_returns_commands_may_go_anywhere(seen: Seen) -> None:
    """Even one with an edge of its own."""
    graph = graph_of(seen, ROW)
    graph.nodes["judge"].runnable.func.__annotations__["return"] = Command
    run_of(graph)

    assert [""] == seen["judge"]
    assert ["market news team judge"] == seen["trader"]


def test_where_a_node_cannot_be_reached_somebody_goes_unannounced(seen: Seen) -> None:
    """Then nodes that declare nothing are not taken at their word."""
    edges = [(START, "market"), ("market", "news"), ("news", "judge"), ("trader", END)]
    then = {"judge": lambda: Command(goto="trader"), "team": None}
    run_of(graph_of(seen, [*edges, ("judge", END)], missing=["team"], **then), plan=SMALLER)

    assert {name: [""] for name in ("market", "news", "judge", "trader")} == seen


SMALLER = BudgetPlan(
    total_tokens=5_000, agents={n: {"tokens": 1_000} for n in AGENTS if n != "team"}
)


def test_an_agent_that_is_sent_for_unannounced_takes_its_share_back(seen: Seen) -> None:
    """What it had left was given away; what nobody has used of it is its own again."""
    shares: list[int] = []

    def once_more() -> Any:
        return Command(goto="market") if len(seen["judge"]) == 1 else None

    def ask() -> None:
        shares.append(share("market"))

    graph = graph_of(seen, [*ROW[:4], ("trader", END)], market=ask, judge=once_more)
    graph.add_conditional_edges("judge", lambda state: END, ["trader", END])
    run_of(graph)

    assert [1_000, 1_000] == shares
    assert ["", ""] == seen["market"]
    assert ["market", ""] == seen["news"]  # now the judge is known to go anywhere


def test_the_next_turn_of_a_thread_begins_with_everybody(seen: Seen) -> None:
    """Agents that had finished in the first turn have their shares in the second."""
    shares: list[int] = []
    graph = graph_of(seen, ROW, market=lambda: shares.append(share("market")))
    compiled = budget_graph(graph, PLAN).compile(checkpointer=InMemorySaver())
    for _ in range(2):
        with PLAN.run(thread_id="two turns"):
            compiled.invoke({}, THREAD)

    assert [1_000, 1_000] == shares
    assert ["", ""] == seen["market"]
    assert ["market news team judge"] * 2 == seen["trader"]


def test_threads_of_one_graph_are_told_apart(seen: Seen) -> None:
    """One goes on where it stood, whatever another has done in the meantime."""
    graph = graph_of(seen, ROW, news=lambda: {"log": [interrupt("Go on?")]})
    compiled = budget_graph(graph, PLAN).compile(checkpointer=InMemorySaver())
    other: Any = {"configurable": {"thread_id": "other"}}
    with PLAN.run():
        compiled.invoke({}, THREAD)
        compiled.invoke({}, other)
        compiled.invoke(Command(resume="yes"), other)
        seen.clear()
        compiled.invoke(Command(resume="yes"), THREAD)

    assert ["market news"] == seen["team"]


def test_questions_one_after_the_other_begin_anew(seen: Seen) -> None:
    """Each invocation without a thread knows its own start."""
    compiled = budget_graph(graph_of(seen, ROW), PLAN).compile()
    with PLAN.run():
        for _ in range(3):
            compiled.invoke({})

    assert ["market"] * 3 == seen["news"]


def test_side_by_side_nobody_finishes_before_the_join(seen: Seen) -> None:
    """Of two branches of different length the shorter one's end is known, and the join waits."""
    edges = [(START, "market"), (START, "news"), ("news", "team"), (["market", "team"], "judge")]
    run_of(graph_of(seen, [*edges, *ROW[4:]]))

    assert ["market news"] == seen["team"]
    assert ["market news team"] == seen["judge"]


def test_deferred_nodes_can_still_come(seen: Seen) -> None:
    """A node that waits for all others keeps its share, and so does what follows it."""
    graph = graph_of(seen, ROW[:3] + ROW[4:], missing=["judge"])
    graph.add_node("judge", seen.node("judge"), defer=True)
    graph.add_edge("market", "judge").add_edge("team", END)
    run_of(graph)

    assert ["market"] == seen["news"]
    assert ["market news team"] == seen["judge"]


@pytest.mark.parametrize("chosen", ["market", "judge"])
def test_a_conditional_entry_counts_with_its_decision(seen: Seen, chosen: str) -> None:
    """Who is passed over at the start has nothing to wait for."""
    graph = graph_of(seen, ROW[1:])
    graph.add_conditional_edges(START, lambda state: chosen, ["market", "judge"])
    run_of(graph)

    assert ["" if chosen == "market" else "market news team"] == seen[chosen]


def test_a_graph_inside_is_passed_through(seen: Seen) -> None:
    """A subgraph does not tell; when the next node begins it is over all the same."""
    inner: Any = StateGraph(State).add_node("deep", seen.node("deep"))
    inner.add_edge(START, "deep").add_edge("deep", END)
    graph = graph_of(seen, ROW, missing=["team"])
    graph.add_node("team", inner.compile())
    run_of(graph)

    assert ["market"] == seen["deep"]
    assert ["market news team"] == seen["judge"]


def test_who_resumes_beside_a_graph_inside_does_not_finish_others(seen: Seen) -> None:
    """What ran before this run was not seen, and may have led to more than the subgraph did."""
    inner: Any = StateGraph(State).add_node("deep", lambda state: None)
    inner.add_edge(START, "deep").add_edge("deep", END)
    edges = [(START, "market"), (START, "team"), ("market", "trader"), ("team", "judge")]
    graph = graph_of(seen, edges, missing=["team"])
    graph.add_node("team", inner.compile())
    graph.add_edge("judge", "news").add_edge("news", END).add_edge("trader", END)
    compiled = budget_graph(graph, PLAN).compile(
        checkpointer=InMemorySaver(), interrupt_before=["judge", "trader"]
    )
    for state in ({}, None):
        with PLAN.run():
            compiled.invoke(state, {**THREAD, "max_concurrency": 1})

    assert "trader" not in seen["judge"][0]
    assert "judge" not in seen["trader"][0]


def test_a_jump_out_of_a_graph_inside_is_heard(seen: Seen) -> None:
    """A node may run a graph, of which one node hands over to a node outside."""

    def hand_over() -> Any:
        return Command(graph=Command.PARENT, goto="judge")

    inner: Any = StateGraph(State).add_node("deep", seen.node("deep", hand_over))
    compiled = inner.add_edge(START, "deep").compile()
    graph = graph_of(seen, ROW[:3] + ROW[4:], missing=["team"])

    def team(state):
        return compiled.invoke(state)

    graph.add_node("team", team, destinations=("news", "judge"))
    run_of(graph)

    assert ["market news team"] == seen["judge"]


def test_a_node_that_is_answered_from_a_cache_leads_on(seen: Seen) -> None:
    """Its function is not called, so its edges count."""
    graph = graph_of(seen, ROW, missing=["news"])
    graph.add_node("news", seen.node("news", lambda: {"log": ["x"]}), cache_policy=CachePolicy())
    cached: Any = {"cache": InMemoryCache()}
    for _ in range(2):
        run_of(graph, **cached)

    assert 1 == len(seen["news"])
    assert ["market news"] * 2 == seen["team"]


def test_an_error_handler_may_go_anywhere(seen: Seen) -> None:
    """As long as a node with one can come, everybody can; when it has ended well, no more."""
    graph = graph_of(seen, ROW, missing=["news"])
    graph.add_node("news", seen.node("news"), error_handler=lambda state, error: None)
    run_of(graph)

    assert [""] == seen["news"]
    assert ["market news"] == seen["team"]


def test_after_a_failure_that_is_handled_the_graph_goes_on(seen: Seen) -> None:
    """Where the handler says; it could have gone anywhere until the step after its own."""

    def fail() -> None:
        raise OSError("no news")

    def handle(state: State, error: NodeError) -> Command[Any]:
        return Command(goto="judge")

    graph = graph_of(seen, ROW, missing=["news"])
    graph.add_node("news", seen.node("news", fail), error_handler=handle)
    run_of(graph)

    assert [""] == seen["news"]
    assert [[""], ["market news team judge"]] == [seen["judge"], seen["trader"]]


def test_a_repeated_node_is_still_at_it(seen: Seen) -> None:
    """A retry is no end."""
    fails = [True]

    def fail_once() -> None:
        if fails.pop() if fails else False:
            raise ConnectionError("once")

    graph = graph_of(seen, ROW, missing=["news"])
    policy = RetryPolicy(initial_interval=0.001, jitter=False)
    graph.add_node("news", seen.node("news", fail_once), retry_policy=policy)
    run_of(graph)

    assert ["market", "market"] == seen["news"]
    assert ["market news"] == seen["team"]


def test_an_interrupt_is_no_end(seen: Seen) -> None:
    """Neither is it a failure: after it has been answered, the graph goes on as if without."""
    edges = [pair for pair in ROW if pair != ("team", "judge")]
    graph = graph_of(seen, edges, team=lambda: {"log": [interrupt("Go on?")]})
    graph.add_conditional_edges("team", lambda state: "judge", ["news", "judge"])
    compiled = budget_graph(graph, PLAN).compile(checkpointer=InMemorySaver())
    with PLAN.run() as run:
        compiled.invoke({}, THREAD)
        assert not run.report().agents["team"].account.finished
        compiled.invoke(Command(resume="yes"), THREAD)

    assert ["market", "market"] == seen["team"]
    assert ["market news team"] == seen["judge"]


def test_a_resumed_step_may_be_half_done(seen: Seen) -> None:
    """Another process does not know who ended before: nobody finishes until it does."""
    fails = [True]

    def fail_once() -> None:
        if fails.pop() if fails else False:
            raise OSError("killed")

    # market and news side by side; market leads to team and then trader, news to judge.
    edges = [(START, "market"), (START, "news"), ("market", "team"), ("news", "judge")]
    more = [("team", "trader"), ("judge", END), ("trader", END)]
    graph = graph_of(seen, edges + more, news=fail_once)
    compiled = budget_graph(graph, PLAN).compile(checkpointer=InMemorySaver())
    with PLAN.run(), pytest.raises(OSError, match="killed"):
        compiled.invoke({}, THREAD)
    with PLAN.run():
        compiled.invoke(None, THREAD)

    assert {"market news"} == {*seen["team"], *seen["judge"]}
    assert ["market news team judge"] == seen["trader"]


def test_resumed_later_than_the_first_step(seen: Seen) -> None:
    """The first step that is seen tells nothing, the second one everything."""
    fails = [True]

    def fail_once() -> None:
        if fails.pop() if fails else False:
            raise OSError("killed")

    graph = graph_of(seen, ROW, news=fail_once)
    compiled = budget_graph(graph, PLAN).compile(checkpointer=InMemorySaver())
    with PLAN.run(), pytest.raises(OSError, match="killed"):
        compiled.invoke({}, THREAD)
    seen.clear()
    with PLAN.run():
        compiled.invoke(None, THREAD)

    assert {
        "news": [""],
        "team": [""],
        "judge": ["market news team"],
        "trader": ["market news team judge"],
    } == seen


def test_going_back_to_an_older_checkpoint_begins_there_again(seen: Seen) -> None:
    """A fork runs with shares taken back; what the first course has spent stays spent."""
    compiled = budget_graph(graph_of(seen, ROW), PLAN).compile(checkpointer=InMemorySaver())
    with PLAN.run():
        compiled.invoke({}, THREAD)
        older = next(s for s in compiled.get_state_history(THREAD) if s.next == ("news",))
        compiled.invoke(None, older.config)

    assert ["market", ""] == seen["news"]  # what comes back follows nothing that was seen
    assert ["market news team judge"] == seen["trader"][1:]


def test_a_fork_that_begins_in_the_same_step_is_noticed(seen: Seen) -> None:
    """Everybody takes part again, although it is the step that another course is in."""
    graph = graph_of(seen, ROW, team=lambda: {"log": [interrupt("Go on?")]})
    compiled = budget_graph(graph, PLAN).compile(checkpointer=InMemorySaver())
    with PLAN.run():
        compiled.invoke({}, THREAD)
        older = next(s for s in compiled.get_state_history(THREAD) if s.next == ("news",))
        forked = compiled.update_state(older.config, {"log": []}, as_node=START)
        compiled.invoke(None, forked)

    assert ["", ""] == seen["market"]


def test_several_invocations_at_once_do_not_end_each_other(seen: Seen) -> None:
    """An agent that is at work somewhere does not finish."""
    first, held, going_on = threading.Lock(), threading.Event(), threading.Event()

    def market() -> None:
        if first.acquire(blocking=False):
            held.wait(10)  # until the second invocation is here
        else:
            held.set()
            going_on.wait(10)

    def news() -> None:
        going_on.set()

    compiled = budget_graph(graph_of(seen, ROW, market=market, news=news), PLAN).compile()
    with PLAN.run():
        compiled.batch([{}, {}])

    assert "" == seen["news"][0]


def test_a_node_alone_finishes_when_it_is_told_to(seen: Seen) -> None:
    """Without the graph around it nobody knows; ``finishes=True`` says it."""
    graph: Any = StateGraph(State)
    for name in ("market", "news", "judge"):
        node = budgeted(seen.node(name), PLAN, agent=name, finishes=name != "news")
        graph.add_node(name, node)
    graph.add_edge(START, "market").add_edge("market", "news").add_edge("news", "judge")
    with PLAN.run() as run:
        graph.compile().invoke({})

    assert {"market": [""], "news": ["market"], "judge": ["market"]} == seen
    assert run.report().agents["judge"].account.finished


async def test_a_failed_node_has_not_finished() -> None:
    """Nor has one that waits for a human: both may run again."""

    async def fail(state: State) -> None:
        raise OSError("no news")

    with PLAN.run() as run:
        with pytest.raises(OSError, match="no news"):
            await budgeted(fail, PLAN, agent="news", finishes=True)({})
        assert not run.report().agents["news"].account.finished


def test_a_graph_cannot_be_told_to_finish() -> None:
    """It stays a graph, and is not watched."""
    graph: Any = StateGraph(State).add_node("x", lambda state: None).add_edge(START, "x")
    with pytest.raises(ValueError, match="leave out finishes=True"):
        budgeted(graph.compile(), PLAN, finishes=True)


@pytest.mark.parametrize("run_graph", [run_of, arun_of])
async def test_a_node_that_is_budgeted_already_is_watched_once(seen: Seen, run_graph: Any) -> None:
    """The graph's edges are known then, and the agent it was given is kept."""
    graph = graph_of(seen, ROW, missing=["market"])
    graph.add_node("first", budgeted(seen.node("first"), PLAN, agent="market"))
    graph.edges = {
        (("first" if a == "market" else a), ("first" if b == "market" else b))
        for a, b in graph.edges
    }
    told = run_graph(graph)
    report = await told if inspect.isawaitable(told) else told

    assert [""] == seen["first"]
    assert ["market"] == seen["news"]
    assert "first" not in report.agents


def test_what_a_node_was_told_is_kept_in_a_graph(seen: Seen) -> None:
    """Where edges cannot tell, the node's own word counts."""
    graph = graph_of(seen, [("first", "news"), *ROW[2:-1]], missing=["market"])
    graph.add_node("first", budgeted(seen.node("first"), PLAN, agent="market", finishes=True))
    graph.add_edge(START, "first")
    graph.nodes["trader"].runnable.func.__annotations__["return"] = Command
    run_of(graph)

    assert ["market"] == seen["trader"]


def _chances_in(*edges: tuple[str, str], **branches: list[str]) -> dict[str, float]:
    """Return how likely who comes after the start of a graph."""
    graph: Any = StateGraph(State)
    for name in {name for edge in edges for name in edge} - {START, END}:
        graph.add_node(name, lambda state: None)
    for start, end in edges:
        graph.add_edge(start, end)
    for start, ends in branches.items():
        graph.add_conditional_edges(start, lambda state: END, ends)
    reached = GraphEdges.of(graph)
    found = Reachability(reached, {name: [name] for name in graph.nodes}).coming_first()
    return {name: round(chance, 1) for name, chance in found.maybe.items()}


def test_a_chance_to_come_at_all_is_no_number_of_times() -> None:
    """A debate of unknown length, a writer and a critic, a supervisor with three workers."""
    debate = _chances_in((START, "pro"), ("pro", "con"), ("judge", END), con=["pro", "judge"])
    critic = _chances_in((START, "writer"), ("writer", "critic"), critic=["writer", END])
    workers = {"a", "b", "c"}
    back = [(name, "chief") for name in workers]
    sent = _chances_in((START, "chief"), *back, chief=[*workers, END])

    assert 0.5 == debate["pro"] == critic["writer"]
    assert dict.fromkeys(workers, 0.5) == {name: sent[name] for name in workers}


def test_a_node_that_several_others_choose_comes_once(seen: Seen) -> None:
    """Each packet for it is a call of its own; a name is the same node, whoever says it."""
    left: list[float] = []

    def look() -> None:
        run = current_run()
        assert run is not None
        left.append(sum(now.get("judge", 0) for now in run.outlook._now.values()))

    for chosen in ("judge", [Send("judge", {})]):
        graph = graph_of(seen, [("judge", "team"), ("team", "trader")], judge=look)
        for name in AGENTS[:2]:
            graph.add_edge(START, name)
            graph.add_conditional_edges(name, lambda state, chosen=chosen: chosen, ["judge"])
        run_of(graph)

    assert [1, 2] == [max(left[:1]), max(left[1:])]
