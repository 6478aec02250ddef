"""A node whose input has not changed is not run again; in real graphs, sync and async."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import operator
import os
import subprocess
import sys
import textwrap
import warnings
from typing import Annotated, Any, TypedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, HumanMessage, RemoveMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import CachePolicy, Command, Send
from pydantic import BaseModel

from langchain_tokenopt import Ledger, SemanticCache, node_cache, optimize, track_usage
from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.graph.node_values import canonical_key, packed, unpacked


class Desk(TypedDict, total=False):
    figures: str
    hour: int
    views: Annotated[list[Any], operator.add]
    verdict: str


def make_nodes(path=None, **options):
    return node_cache(SemanticCache(path, semantic=False), **options)


def desk(nodes, ran, *, on=None, node=None, ttl=None, version=""):
    """Make a graph of an analyst, which is cached, and a judge, which is not."""

    def analyst(state: Desk):
        ran.append("analyst")
        return {"views": [f"{state['figures']} is a lot"]}

    def judge(state: Desk):
        ran.append("judge")
        return {"verdict": state["views"][-1]}

    graph = StateGraph(Desk)
    graph.add_node(
        "analyst", node or analyst, cache_policy=nodes.policy(on=on, ttl=ttl, version=version)
    )
    graph.add_node("judge", judge)
    graph.add_edge(START, "analyst").add_edge("analyst", "judge")
    return graph.compile(cache=nodes)


async def ask(graph, how, given):
    if how == "invoke":
        return graph.invoke(given)
    if how == "ainvoke":
        return await graph.ainvoke(given)
    if how == "stream":
        return list(graph.stream(given, stream_mode="values"))[-1]
    return [part async for part in graph.astream(given, stream_mode="values")][-1]


@pytest.mark.parametrize("how", ["invoke", "ainvoke", "stream", "astream"])
@pytest.mark.parametrize("kept_in", ["memory", "file"])
async def test_only_a_changed_input_is_worked_on_again(tmp_path, how, kept_in):
    """Whatever way the graph is run; the hit is an exact one of the cache."""
    nodes, ran = make_nodes(None if kept_in == "memory" else tmp_path / "c.db"), []
    graph = desk(nodes, ran)
    for figures in ("7 %", "7 %", "8 %", "7 %"):
        found = await ask(graph, how, {"figures": figures})
        assert f"{figures} is a lot" == found["verdict"]
    assert [2, 4] == [ran.count("analyst"), ran.count("judge")]
    assert (2, 4) == (nodes.cache.stats().exact_hits, nodes.cache.stats().requests)
    assert nodes.cache.stats().saved_tokens > 0
    nodes.cache.close()


def test_a_node_is_compared_by_what_it_reads():
    """Where a clock stands in the state."""
    nodes, ran = make_nodes(), []
    graph = desk(nodes, ran, on=["figures"])
    for hour in range(3):
        graph.invoke({"figures": "7 %", "hour": hour})
    assert 1 == ran.count("analyst")
    unnamed, ran = make_nodes(), []
    for hour in range(3):
        desk(unnamed, ran).invoke({"figures": "7 %", "hour": hour})
    assert 3 == ran.count("analyst")


def test_versions_names_and_users_are_kept_apart():
    """Another version of a node, a graph of another name, another user."""
    cache, ran = SemanticCache(semantic=False), []
    bulls, bears = node_cache(cache, name="bulls"), node_cache(cache, name="bears")
    graphs = [desk(bulls, ran), desk(bears, ran), desk(bulls, ran, version="2")]
    for graph in graphs * 2:
        graph.invoke({"figures": "7 %"})
    assert 3 == ran.count("analyst")
    for user in ("ann", "bob", "ann"):
        with cache.scope(user=user):
            graphs[0].invoke({"figures": "7 %"})
    assert 5 == ran.count("analyst")


async def test_where_a_scope_is_required_nothing_is_shared_without():
    """A graph runs as without a cache."""
    nodes, ran = node_cache(SemanticCache(semantic=False, require_scope=True)), []
    graph = desk(nodes, ran)
    graph.invoke({"figures": "7 %"})
    await graph.ainvoke({"figures": "7 %"})
    assert 2 == ran.count("analyst")
    with nodes.cache.scope(user="ann"):
        for _ in range(2):
            graph.invoke({"figures": "7 %"})
            await graph.ainvoke({"figures": "7 %"})
    assert 3 == ran.count("analyst")


def chatting(nodes, answer):
    graph = StateGraph(MessagesState)
    graph.add_node("analyst", answer, cache_policy=nodes.policy())
    return graph.add_edge(START, "analyst").compile(cache=nodes, checkpointer=InMemorySaver())


def test_ids_of_messages_do_not_count_and_are_not_handed_out_again():
    """Two threads have equal conversations, and each its own messages."""
    nodes, ran = make_nodes(), []

    def answer(state):
        ran.append(1)
        return {"messages": [AIMessage("Seven.", id=f"a{len(ran)}")]}

    graph = chatting(nodes, answer)
    found = [
        graph.invoke({"messages": [("user", "How much?")]}, {"configurable": {"thread_id": t}})
        for t in ("1", "2")
    ]
    assert 1 == len(ran)
    assert [["How much?", "Seven."]] * 2 == [[m.content for m in f["messages"]] for f in found]
    assert 4 == len({m.id for f in found for m in f["messages"]})


def test_a_node_that_answers_twice_in_one_thread_adds_both_answers():
    """An answer that is used again does not replace the first one."""
    nodes = make_nodes()
    graph = StateGraph(MessagesState)
    graph.add_node(
        "analyst",
        lambda state: {"messages": [AIMessage("Seven.", id="a")]},
        cache_policy=nodes.policy(on=["topic"]),
    )
    graph = graph.add_edge(START, "analyst").compile(cache=nodes, checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "1"}}
    for text in ("How much?", "And now?"):
        state = graph.invoke({"messages": [("user", text)]}, config)
    assert ["How much?", "Seven.", "And now?", "Seven."] == [m.content for m in state["messages"]]


@pytest.mark.parametrize("change", ["rewrites", "removes"])
def test_a_node_that_changes_messages_runs_each_time(change):
    """What it writes means the messages of one input."""
    nodes, ran = make_nodes(), []

    def shorten(state):
        ran.append(1)
        last = state["messages"][-1]
        if change == "removes":
            return {"messages": [RemoveMessage(last.id)]}
        return {"messages": [HumanMessage(last.content[:3], id=last.id)]}

    graph = chatting(nodes, shorten)
    for thread in "12":
        config = {"configurable": {"thread_id": thread}}
        state = graph.invoke({"messages": [("user", "A long text")]}, config)
        assert (["A l"] if change == "rewrites" else []) == [m.content for m in state["messages"]]
    assert 2 == len(ran)
    assert {"changes messages": 2} == nodes.not_stored


def test_truncated_answers_are_not_kept():
    """A node whose model was cut off asks it again."""
    nodes, ran = make_nodes(), []

    def answer(state):
        ran.append(1)
        return {"messages": [AIMessage("Sev", response_metadata={"finish_reason": "length"})]}

    graph = chatting(nodes, answer)
    for thread in "12":
        graph.invoke({"messages": [("user", "?")]}, {"configurable": {"thread_id": thread}})
    assert 2 == len(ran)
    assert {"not whole": 2} == nodes.not_stored


def test_commands_and_sends_are_followed_again():
    """A node that sends others out does so from the cache as well."""
    nodes, ran = make_nodes(), []

    def plan(state):
        ran.append("plan")
        return Command(update={"verdict": "go"}, goto=[Send("work", {"figures": n}) for n in "ab"])

    def work(state):
        ran.append("work")
        return {"views": [state["figures"]]}

    graph = StateGraph(Desk)
    graph.add_node("plan", plan, cache_policy=nodes.policy(), destinations=("work",))
    graph.add_node("work", work, cache_policy=nodes.policy())
    graph = graph.add_edge(START, "plan").add_edge("work", END).compile(cache=nodes)
    for _ in range(2):
        assert {"figures": "7", "views": ["a", "b"], "verdict": "go"} == graph.invoke(
            {"figures": "7"}
        )
    assert ["plan", "work", "work"] == ran


def test_a_failed_node_runs_again():
    """An error is not an output."""
    nodes, ran = make_nodes(), []

    def fail(state):
        ran.append(1)
        raise RuntimeError("no line")

    graph = desk(nodes, [], node=fail)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="no line"):
            graph.invoke({"figures": "7 %"})
    assert 2 == len(ran)


class Strange:
    """Something of which nobody knows when two are equal."""


async def test_inputs_and_outputs_that_are_not_understood_run_each_time():
    """With one warning that says what to do; the graph runs as without a cache."""
    for odd_input in (True, False):
        nodes, ran = make_nodes(), []

        def analyst(state, ran=ran, odd_input=odd_input):
            ran.append(1)
            return {"views": ["fine" if odd_input else Strange()]}

        graph = desk(nodes, [], node=analyst)
        with pytest.warns(
            TokenOptWarning, match=r"runs each time: .*Strange\. (Name|Let)"
        ) as caught:
            for _ in range(2):
                graph.invoke({"figures": Strange() if odd_input else "7 %"})
                await graph.ainvoke({"figures": Strange() if odd_input else "7 %"})
        assert (4, 1) == (len(ran), len(caught))
        assert 0 == nodes.cache.stats().entries


def test_langgraphs_own_policy_works_too():
    """With what it finds equal."""
    nodes, ran = make_nodes(), []

    def analyst(state: Desk):
        ran.append(1)
        return {"views": ["x"]}

    graph = StateGraph(Desk).add_node("analyst", analyst, cache_policy=CachePolicy())
    graph = graph.add_edge(START, "analyst").compile(cache=nodes)
    assert [["x"]] * 2 == [graph.invoke({"figures": "7"})["views"] for _ in range(2)]
    assert 1 == len(ran)


def test_what_is_saved_is_seen_by_trackers(tmp_path):
    """The tokens that the answers of the node once cost, under its name, in the ledger."""
    nodes = make_nodes()

    def answer(state):
        usage = {"input_tokens": 900, "output_tokens": 100, "total_tokens": 1_000}
        return {"messages": [AIMessage("Seven.", usage_metadata=usage)]}

    graph = chatting(nodes, answer)
    seen: list[Any] = []

    class Sink:
        record = staticmethod(seen.append)

    with Ledger(tmp_path / "l.db") as ledger, track_usage([Sink(), ledger]):
        for thread in "123":
            graph.invoke({"messages": [("user", "?")]}, {"configurable": {"thread_id": thread}})
        asyncio.run(
            graph.ainvoke({"messages": [("user", "?")]}, {"configurable": {"thread_id": "4"}})
        )
    assert [("NodeCache", "analyst", 1_000, True)] * 3 == [
        (s.stage, s.agent, s.saved_tokens, s.exact) for s in seen
    ]
    assert 3_000 == nodes.cache.stats().saved_tokens


@pytest.mark.exhaustive
def test_other_processes_share_a_file(tmp_path):
    """A key is the same in every process, whatever the seed of its hashes."""
    code = """
        import sys
        from typing import TypedDict
        from langchain_core.messages import HumanMessage
        from langgraph.graph import START, StateGraph
        from langchain_tokenopt import SemanticCache, node_cache

        def analyst(state):
            print("ran")
            return {"view": sorted(state["tags"])}

        cache = SemanticCache(sys.argv[1], semantic=False)
        nodes = node_cache(cache)
        State = TypedDict("State", {"tags": set, "view": list})
        graph = StateGraph(State).add_node("analyst", analyst, cache_policy=nodes.policy())
        graph = graph.add_edge(START, "analyst").compile(cache=nodes)
        print(graph.invoke({"tags": {"oil", "gas", "tin", "zinc"}})["view"])
        cache.close()
    """
    said = [
        subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code), tmp_path / "c.db"],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    ]
    view = "['gas', 'oil', 'tin', 'zinc']\n"
    assert ["ran\n" + view, view] == said


def test_clearing_nodes_leaves_the_answers_of_models():
    """By graph.clear_cache for some nodes, by the cache for all."""
    nodes, ran = make_nodes(), []
    graph = desk(nodes, ran)
    model = optimize(FakeListChatModel(responses=["one", "two"]), nodes.cache)
    for _ in range(2):
        assert "one" == model.invoke("How many?").content
        graph.invoke({"figures": "7 %"})
        graph.clear_cache(["analyst"])
    assert 2 == ran.count("analyst")
    graph.invoke({"figures": "7 %"})
    nodes.clear()
    assert 1 == nodes.cache.stats().entries


def test_an_output_lives_as_long_as_both_limits_say():
    """That of the policy and that of the cache."""
    from langchain_tokenopt.cache import CacheSettings

    now = [1_000.0]
    cache = SemanticCache(
        semantic=False, ttl_seconds=50, settings=CacheSettings(clock=lambda: now[0])
    )
    for ttl, lives in ((10, 10), (90, 50), (None, 50)):
        nodes, ran = node_cache(cache, name=str(ttl)), []
        graph = desk(nodes, ran, ttl=ttl)
        for later in (0, lives - 1, 2):
            now[0] += later
            graph.invoke({"figures": "7 %"})
        assert 2 == ran.count("analyst")


def test_a_cache_that_is_closed_costs_no_run():
    """What goes wrong is a miss."""
    nodes, ran = make_nodes(), []
    graph = desk(nodes, ran)
    nodes.cache.close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert "7 % is a lot" == graph.invoke({"figures": "7 %"})["verdict"]


# Values


class Note(BaseModel):
    text: str


@dataclasses.dataclass
class Mark:
    points: int


DIFFERENT = [
    1,
    1.5,
    "1",
    True,
    None,
    [],
    {},
    b"1",
    [1],
    ["1"],
    (1,),
    ("1",),
    {"a": 1},
    {"a": "1"},
    {1: "a"},
    {"map": []},
    {"set": []},
    set(),
    {1},
    {"1"},
    Note(text="1"),
    Mark(1),
    HumanMessage("1"),
    AIMessage("1"),
    AIMessage("1", name="ann"),
    HumanMessage("2"),
    ToolMessage("1", tool_call_id="x"),
    ToolMessage("1", tool_call_id="y"),
    ToolMessage("1", tool_call_id="x", artifact={"rows": 3}),
    Document("1"),
    Document("1", metadata={"page": 2}),
    Send("a", 1),
]


def test_different_values_have_different_keys():
    """Also where they look alike as JSON."""
    assert len(DIFFERENT) == len({canonical_key(value) for value in DIFFERENT})


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.text() | st.sampled_from(["!", "is"]), inner)
        | st.dictionaries(st.integers(), inner)
        | st.sets(st.integers())
        | st.text().map(HumanMessage)
        | st.builds(
            lambda text, arg: AIMessage(text, additional_kwargs={"k": arg}), st.text(), inner
        )
        | st.builds(lambda text: Document(text, metadata={"n": 1}), st.text())
    ),
    max_leaves=12,
)


@given(PLAIN)
def test_what_is_kept_comes_back_equal(value):
    """With its types."""
    again = unpacked(packed(value))
    assert value == again
    assert type(value) is type(again)
    assert canonical_key(value) == canonical_key(again)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[",
        '{"!": "subprocess.Popen", "is": {"args": "id"}}',
        '{"!": "RemoveMessage", "is": {"id": "1"}}',
        '{"!": "HumanMessage", "is": 5}',
        '{"!": "HumanMessage"}',
        '{"!": ["x"], "is": {}}',
        '{"!": "bytes", "is": "xyz"}',
        "[" * 100_000,
    ],
)
def test_nothing_but_the_listed_classes_is_made(text):
    """Of a stored text that somebody has changed."""
    with pytest.raises(ValueError, match="cannot be read"):
        unpacked(text)


def test_secrets_are_not_read_from_stored_values(monkeypatch):
    """LangChain's own notation for secrets and objects is a plain dictionary here."""
    monkeypatch.setenv("KEY", "hidden")
    value = {"lc": 1, "type": "secret", "id": ["KEY"]}
    assert value == unpacked(packed(value))
    assert "hidden" not in json.dumps(unpacked(json.dumps(value)))
