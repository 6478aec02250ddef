"""Never stuck: a tool that was left out is found; several requests at once; learning from use."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    ToolMessage,
)

from langchain_tokenopt import ToolSelector, optimize
from tests.judge.tools_kit import (
    FIND_MORE,
    case,
    grows,
    kept,
    office,
    shown,
    valid,
    without_help,
)
from tests.judge.tools_model import Call, ScriptedToolModel, call

# Never stuck


def _asks_until(needed: str, question: str = "hide personal data in a column") -> Any:
    """A model that asks for more until it sees the tool it needs."""

    def step(asked: Call) -> AIMessage:
        if needed in asked.names:
            return call(needed, id="need", table="t")
        assert FIND_MORE in asked.names, f"no {FIND_MORE} among {asked.names}"
        valid(asked.messages)
        return call(FIND_MORE, id=f"more{len(asked.messages)}", query=question)

    return step


QUESTION = "archive this conversation"


def _runs(staged: Any, said: Any) -> dict[str, Callable[[], Any]]:
    async def stream() -> Any:
        whole = None
        async for chunk in staged.astream(said):
            whole = chunk if whole is None else whole + chunk
        return whole

    def add(chunks: Any) -> Any:
        whole = None
        for chunk in chunks:
            whole = chunk if whole is None else whole + chunk
        return whole

    return {
        "invoke": lambda: staged.invoke(said),
        "ainvoke": lambda: asyncio.run(staged.ainvoke(said)),
        "stream": lambda: add(staged.stream(said)),
        "astream": lambda: asyncio.run(stream()),
        "batch": lambda: staged.batch([said])[0],
        "abatch": lambda: asyncio.run(staged.abatch([said]))[0],
    }


@case
def a_model_that_asks_for_more_gets_it() -> None:
    """In every way to call; the application sees the needed call alone."""
    ways = _runs(None, None)
    for way in ways:
        model = ScriptedToolModel(script=[_asks_until("mask_column")])
        staged = optimize(model, ToolSelector(max_tools=3)).bind_tools(office())
        answer = _runs(staged, [HumanMessage(QUESTION)])[way]()
        assert [made["name"] for made in answer.tool_calls] == ["mask_column"], (way, answer)
        assert answer.tool_calls[0]["args"] == {"table": "t"}, (way, answer)
        assert len(model.calls) > 1, way
        grows([kept(each.tools) for each in model.calls])


@case
def a_model_that_calls_what_it_was_not_shown_goes_on() -> None:
    """The application gets the call of a tool that exists."""
    for way in _runs(None, None):
        model = ScriptedToolModel(script=[call("mask_column", table="t")])
        staged = optimize(model, ToolSelector(max_tools=3)).bind_tools(office())
        answer = _runs(staged, [HumanMessage(QUESTION)])[way]()
        assert [made["name"] for made in answer.tool_calls] == ["mask_column"], (way, answer)


@case
def an_agent_finishes_although_the_tool_was_left_out() -> None:
    """``create_agent``, whose ToolNode has no ``find_more_tools``."""
    from langchain.agents import create_agent

    def last(asked: Call) -> Any:
        if isinstance(asked.messages[-1], ToolMessage) and asked.messages[-1].content == "done":
            return "All done."
        return _asks_until("mask_column")(asked)

    model = ScriptedToolModel(script=[last])
    agent = create_agent(optimize(model, ToolSelector(max_tools=3)), office("basetool"))
    for run in (
        lambda said: agent.invoke(said),
        lambda said: asyncio.run(agent.ainvoke(said)),
    ):
        end = run({"messages": [HumanMessage(QUESTION)]})
        assert end["messages"][-1].content == "All done."
        assert not [
            made
            for message in end["messages"]
            if isinstance(message, AIMessage)
            for made in message.tool_calls
            if made["name"] == FIND_MORE
        ]
        valid(end["messages"])


@case
def a_graph_whose_model_was_bound_long_ago_finishes() -> None:
    """A hand-made StateGraph with a ToolNode."""
    from langgraph.graph import START, MessagesState, StateGraph
    from langgraph.prebuilt import ToolNode, tools_condition

    def step(asked: Call) -> Any:
        if isinstance(asked.messages[-1], ToolMessage) and asked.messages[-1].content == "done":
            return "finished"
        return _asks_until("mask_column")(asked)

    tools = office("basetool")
    bound = optimize(ScriptedToolModel(script=[step]), ToolSelector(max_tools=3)).bind_tools(tools)
    graph = StateGraph(MessagesState)
    graph.add_node("model", lambda state: {"messages": [bound.invoke(state["messages"])]})
    graph.add_node("tools", ToolNode(tools))
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", tools_condition)
    graph.add_edge("tools", "model")
    end = graph.compile().invoke({"messages": [HumanMessage(QUESTION)]})
    assert end["messages"][-1].content == "finished"


@case
def asking_for_more_beside_another_call() -> None:
    """Both in one answer: the application never sees the call that is not its own."""

    def step(asked: Call) -> Any:
        valid(asked.messages)
        if "mask_column" in asked.names:
            return call("mask_column", table="t")
        more = {"name": FIND_MORE, "args": {"query": "mask a column"}, "id": "m"}
        kept = {"name": without_help(asked.names)[0], "args": {}, "id": "k"}
        return AIMessage("", tool_calls=[kept, more])

    model = ScriptedToolModel(script=[step])
    staged = optimize(model, ToolSelector(max_tools=3)).bind_tools(office())
    answer = staged.invoke([HumanMessage(QUESTION)])
    names = [made["name"] for made in answer.tool_calls]
    assert names, answer
    assert FIND_MORE not in names, answer


@case
def asking_for_more_for_ever_ends() -> None:
    """A model that does nothing else: bounded calls, no call left that nobody answers."""
    for query in ("more", "", None, 7):
        step = call(FIND_MORE, query=query)
        model = ScriptedToolModel(
            script=[lambda asked, step=step: (valid(asked.messages), step)[1]]
        )
        staged = optimize(model, ToolSelector(max_tools=3)).bind_tools(office())
        answer = staged.invoke([HumanMessage(QUESTION)])
        assert FIND_MORE not in [made["name"] for made in answer.tool_calls], answer
        assert len(model.calls) <= 20, len(model.calls)


@case
def a_wrong_call_of_the_offer_breaks_nothing() -> None:
    """No arguments, or others than were asked for."""
    for arguments in ({}, {"q": "mask"}, {"query": ["mask", "column"]}, {"query": "x" * 50_000}):

        def step(asked: Call, arguments: Any = arguments) -> Any:
            valid(asked.messages)
            made = [{"name": FIND_MORE, "args": arguments, "id": "m"}]
            return "gave up" if len(asked.messages) > 1 else AIMessage("", tool_calls=made)

        model = ScriptedToolModel(script=[step])
        staged = optimize(model, ToolSelector(max_tools=3)).bind_tools(office())
        assert staged.invoke([HumanMessage(QUESTION)]).content == "gave up"


@case
def the_offer_is_made_only_when_something_was_left_out() -> None:
    """Nor when it is switched off."""
    assert FIND_MORE not in shown("hello", office()[:3]).names
    asked = shown(QUESTION, office(), ToolSelector(max_tools=3, find_more=False))
    assert FIND_MORE not in asked.names


@case
def a_tool_of_the_user_with_that_name_is_his() -> None:
    """It is called by the application, not answered by the package."""
    mine = {
        "type": "function",
        "function": {
            "name": FIND_MORE,
            "description": "Finds power tools in the shop's stock.",
            "parameters": {"type": "object", "properties": {"query": {"type": "string"}}},
        },
    }
    model = ScriptedToolModel(script=[call(FIND_MORE, query="drill")])
    staged = optimize(model, ToolSelector(max_tools=3)).bind_tools([*office(), mine])
    answer = staged.invoke([HumanMessage("find more power tools in the shop's stock")])
    assert [made["name"] for made in answer.tool_calls] == [FIND_MORE]
    assert len(model.calls) == 1


@case
def words_are_streamed_as_they_come() -> None:
    """The first words do not wait for the last ones."""
    model = ScriptedToolModel(script=["one two three four five"])
    staged = optimize(model, ToolSelector()).bind_tools(office())
    chunks = [str(chunk.content) for chunk in staged.stream([HumanMessage("tell me")])]
    assert "".join(chunks).split() == ["one", "two", "three", "four", "five"]
    assert len([chunk for chunk in chunks if chunk]) > 1


@case
def an_error_of_the_model_is_the_callers() -> None:
    """The second call, which the package makes, may fail, too."""

    def step(asked: Call) -> Any:
        if len(asked.messages) > 1:
            raise ConnectionError("the provider is away")
        return call(FIND_MORE, query="mask")

    staged = optimize(ScriptedToolModel(script=[step]), ToolSelector(max_tools=3))
    try:
        staged.bind_tools(office()).invoke([HumanMessage(QUESTION)])
    except ConnectionError:
        return
    raise AssertionError("the error was swallowed")


# Several at once


@case
def a_batch_does_not_mix() -> None:
    """Each request has its own tools, with threads and with asyncio."""
    wanted = {
        "block the sender promo@deals.example": "block_sender",
        "which jobs failed tonight": "list_jobs",
        "mask the phone column": "mask_column",
        "book a meeting room": "book_room",
    }

    def step(asked: Call) -> str:
        needed = wanted[str(asked.messages[0].content)]
        return f"{needed in asked.names} {len(without_help(asked.names))}"

    staged = optimize(ScriptedToolModel(script=[step]), ToolSelector(max_tools=4))
    bound = staged.bind_tools(office())
    said = [[HumanMessage(question)] for question in list(wanted) * 10]
    for answers in (bound.batch(said), asyncio.run(bound.abatch(said))):
        assert {each.content for each in answers} <= {f"True {n}" for n in range(1, 5)}


@case
def users_with_their_own_tools_do_not_mix() -> None:
    """One model and one selector for sixty users in threads; equal names, other tools."""
    seen: list[Any] = []

    def step(asked: Call) -> str:
        user = str(asked.messages[0].content).split()[-1]
        mine = f"of user {user}."
        foreign = [t for t in kept(asked.tools) if mine not in t["function"]["description"]]
        seen.extend(foreign)
        return "ok"

    staged = optimize(ScriptedToolModel(script=[step]), ToolSelector(max_tools=5))

    def run(user: int) -> None:
        tools = [
            {
                "type": "function",
                "function": {
                    "name": f"report_{n}",
                    "description": f"Writes report number {n} of user {user}.",
                    "parameters": {"type": "object", "properties": {}},
                },
            }
            for n in range(40)
        ]
        for n in (1, 7, 30):
            staged.bind_tools(tools).invoke([HumanMessage(f"write report number {n} {user}")])

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(run, range(60)))
    assert not seen, seen[:2]


# Learning


@case
def real_calls_teach() -> None:
    """After a tool was used for such questions, it comes first for another one of them."""
    tools = [
        {
            "type": "function",
            "function": {
                "name": f"svc_{n:02d}",
                "parameters": {"type": "object", "properties": {}},
            },
        }
        for n in range(40)
    ]
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder, "tools.sqlite"))
        selector = ToolSelector(max_tools=5, store=store)
        model = ScriptedToolModel(script=["ok"])
        staged = optimize(model, selector).bind_tools(tools)
        for question in (
            "polish the brass lamp",
            "please polish my brass candlestick",
            "the brass door knob needs a polish",
        ):
            said: list[BaseMessage] = [HumanMessage(question)]
            said += [call("svc_31"), ToolMessage("polished", tool_call_id="c1")]
            staged.invoke(said)
        for each in (selector, ToolSelector(max_tools=5, store=store)):
            names = [s.name for s in each.select("polish this old brass horn", tools)]
            assert "svc_31" in names, names


@case
def failed_calls_do_not_teach() -> None:
    """A result with an error is no reason to show the tool."""
    tools = [
        {
            "type": "function",
            "function": {
                "name": f"svc_{n:02d}",
                "parameters": {"type": "object", "properties": {}},
            },
        }
        for n in range(40)
    ]
    selector = ToolSelector(max_tools=1)
    staged = optimize(ScriptedToolModel(script=["ok"]), selector).bind_tools(tools)
    for tool_name, status in (("svc_31", "error"), ("svc_12", "success")):
        for number in range(4):
            said: list[BaseMessage] = [HumanMessage(f"polish brass lamp {number}")]
            said += [call(tool_name), ToolMessage("x", tool_call_id="c1", status=status)]
            staged.invoke(said)
    names = [s.name for s in selector.select("polish the brass lamp", tools)]
    assert names == ["svc_12"], names


@case
def learning_off_learns_nothing() -> None:
    """The same set before and after use."""
    tools = office()
    selector = ToolSelector(max_tools=3, learn=False)
    before = [s.name for s in selector.select("polish brass", tools)]
    staged = optimize(ScriptedToolModel(script=["ok"]), selector).bind_tools(tools)
    for number in range(5):
        said: list[BaseMessage] = [HumanMessage(f"polish brass {number}"), call("undrop_table")]
        staged.invoke([*said, ToolMessage("ok", tool_call_id="c1")])
    assert [s.name for s in selector.select("polish brass", tools)] == before
