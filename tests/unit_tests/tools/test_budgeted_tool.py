"""A budgeted tool is, to everybody else, the tool that it was."""

from __future__ import annotations

import asyncio
import copy
import functools
import json
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

import pytest
from langchain.agents import create_agent
from langchain.tools import InjectedState, InjectedStore, ToolRuntime
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.retrievers import BaseRetriever
from langchain_core.tools import (
    BaseTool,
    InjectedToolCallId,
    StructuredTool,
    Tool,
    ToolException,
    create_retriever_tool,
    tool,
)
from langchain_core.utils.function_calling import convert_to_openai_tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command, interrupt
from pydantic import BaseModel, Field

from langchain_tokenopt import BudgetedTool, ToolLimits, scoped_tools
from langchain_tokenopt.core.usage import Usage
from tests.support.fakes import FakeAnswer, fake_chat


class Handler(BaseCallbackHandler):
    """Notes what becomes of tools."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, Any]] = []

    def on_tool_start(self, serialized: Any, input_str: str, **kwargs: Any) -> None:
        self.heard.append(("start", kwargs["inputs"]))

    def on_tool_end(self, output: Any, **kwargs: Any) -> None:
        self.heard.append(("end", output))

    def on_tool_error(self, error: BaseException, **kwargs: Any) -> None:
        self.heard.append(("error", error))


class Query(BaseModel):
    """What to look for."""

    words: list[str] = Field(description="Words to look for.")
    most: int = Field(default=3, ge=1)


class Searching(BaseTool):
    """A tool with a class of its own."""

    name: str = "searching"
    description: str = "Searches."
    args_schema: Any = Query
    seen: list[str] = Field(default_factory=list)

    def _run(self, words: list[str], most: int = 3, run_manager: Any = None) -> str:
        self.seen.extend(words)
        return f"{len(words)} words, {most} at most, {run_manager is not None}"


@tool(response_format="content_and_artifact")
def with_artifact(topic: str) -> tuple[str, dict[str, int]]:
    """Return an artifact."""
    return f"about {topic}", {"pages": 3}


@tool(return_direct=True, extras={"defer_loading": True})
def direct(a: int, b: int = 2) -> int:
    """Add."""
    return a + b


@tool
def failing(a: str) -> str:
    """Fail."""
    raise ToolException(f"{a} is no number")


@tool
async def only_async(a: str) -> list[dict[str, str]]:
    """Answer in blocks, as adapters of MCP do."""
    await asyncio.sleep(0)
    return [{"type": "text", "text": a}, {"type": "image", "url": "https://example.org/a.png"}]


@tool
def injected(
    a: str,
    state: Annotated[dict[str, Any], InjectedState],
    store: Annotated[Any, InjectedStore()],
    call_id: Annotated[str, InjectedToolCallId],
    runtime: ToolRuntime,
) -> str:
    """Say what was injected."""
    return f"{a} {len(state['messages'])} {store is not None} {call_id} {runtime.tool_call_id}"


@tool
def commanding(a: str, call_id: Annotated[str, InjectedToolCallId]) -> Command[Any]:
    """Change the state."""
    return Command(update={"messages": [ToolMessage(f"{a} is noted", tool_call_id=call_id)]})


class Pages(BaseRetriever):
    """Finds two pages."""

    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        return [Document(f"{query} is hot."), Document("Ice is cold.")]


def _handled(make: Callable[[], BaseTool]) -> BaseTool:
    made = make().model_copy()
    made.handle_tool_error = lambda error: f"sorry: {error}"
    made.metadata, made.tags = {"team": "desk"}, ["own"]
    return made


TOOLS: list[tuple[BaseTool, Any]] = [
    (Searching(), {"words": ["tea", "ice"]}),
    (with_artifact, {"topic": "tea"}),
    (direct, {"a": 1}),
    (failing, {"a": "x"}),
    (_handled(lambda: failing), {"a": "x"}),
    (only_async, {"a": "tea"}),
    (Tool(name="single", func=str.upper, description="Shout."), "tea"),
    (create_retriever_tool(Pages(), "pages", "Finds pages."), {"query": "Tea"}),
    (StructuredTool.from_function(lambda a: a, name="by_schema", description="Say it.",
                                  args_schema={"type": "object",
                                               "properties": {"a": {"type": "string"}}}),
     {"a": "x"}),
]  # fmt: skip
each_tool = pytest.mark.parametrize(("made", "given"), TOOLS, ids=lambda each: getattr(
    each, "name", ""))  # fmt: skip
LIMITS = ToolLimits(max_calls=99, max_result_tokens=9_999, max_model_tokens=9_999, max_seconds=30)


@each_tool
def test_models_and_classes_see_the_same_tool(made: BaseTool, given: Any) -> None:
    """Schemas are the same to the byte, and so are class, fields and settings."""
    limited = BudgetedTool.wrap(made, LIMITS)

    assert json.dumps(convert_to_openai_tool(made)) == json.dumps(convert_to_openai_tool(limited))
    assert isinstance(limited, type(made))
    assert isinstance(limited, BudgetedTool)
    assert made.model_dump() == limited.model_dump()
    assert made.get_input_jsonschema() == limited.get_input_jsonschema()
    assert type(made).__name__ == type(limited).__name__
    assert not isinstance(made, BudgetedTool)


def _outcome(call: Callable[[], Any]) -> Any:
    try:
        result = call()
    except Exception as error:
        return type(error), str(error)
    return result


@pytest.mark.parametrize("in_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("as_call", [False, True], ids=["args", "tool call"])
@each_tool
def test_results_and_handlers_are_the_same(
    made: BaseTool, given: Any, as_call: bool, in_async: bool
) -> None:
    """Results, errors, artifacts and what handlers hear: one start, one end."""
    call = {"type": "tool_call", "id": "1", "name": made.name, "args": given}
    if isinstance(given, str):
        call["args"] = {"__arg1": given}
    found = []
    for each in (made, BudgetedTool.wrap(made, LIMITS)):
        handler = Handler()
        config: Any = {"callbacks": [handler], "metadata": {"user_id": "ann"}}

        def one(each: BaseTool = each, config: Any = config) -> Any:
            asked = dict(call) if as_call else given
            if in_async:
                return asyncio.run(each.ainvoke(asked, config))
            return each.invoke(asked, config)

        outcome = _outcome(one)
        found.append((outcome, [(kind, str(what)) for kind, what in handler.heard]))

    assert found[0] == found[1]
    if made is not only_async or in_async:
        assert 1 == [kind for kind, _ in found[1][1]].count("start")


@pytest.mark.parametrize("in_async", [False, True], ids=["sync", "async"])
def test_what_graphs_inject_arrives(in_async: bool) -> None:
    """State, store, runtime and the call's id are injected; commands change the state."""
    calls = [
        {"name": name, "args": {"a": "x"}, "id": name, "type": "tool_call"}
        for name in ("injected", "commanding")
    ]
    node = ToolNode(scoped_tools([injected, commanding], limits=LIMITS))
    graph = StateGraph(MessagesState).add_node("tools", node).add_edge(START, "tools")
    compiled = graph.compile(store=InMemoryStore())
    state: Any = {"messages": [AIMessage("", tool_calls=calls)]}
    result = asyncio.run(compiled.ainvoke(state)) if in_async else compiled.invoke(state)

    assert ["x 1 True injected injected", "x is noted"] == [
        message.content for message in result["messages"][1:]
    ]


def test_an_interrupted_call_counts_once() -> None:
    """A tool that asks a person is called again to go on: that is the same call."""

    @tool
    def asking(question: str) -> str:
        """Ask a person."""
        return f"a person says {interrupt(question)}"

    tools = scoped_tools([asking], limits=ToolLimits(max_calls=1, max_seconds=20))
    call = {"name": "asking", "args": {"question": "Go on?"}}
    model = fake_chat(answers=[FakeAnswer("", tool_calls=[call]), FakeAnswer("Done.")])
    agent = create_agent(model, tools, checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "1"}}
    agent.invoke({"messages": [HumanMessage("Begin.")]}, config)
    result = agent.invoke(Command(resume="yes"), config)

    assert "a person says yes" == result["messages"][2].content
    assert 1 == tools.report()["asking"].calls


@pytest.mark.parametrize("seconds", [None, 20], ids=["in place", "in a thread"])
def test_a_tool_writes_into_the_stream(seconds: float | None) -> None:
    """What a tool writes while it works arrives, also from the thread of a limit in seconds."""

    @tool
    def writing(a: str) -> str:
        """Write."""
        get_stream_writer()({"at": a})
        return a

    call = {"name": "writing", "args": {"a": "work"}}
    model = fake_chat(answers=[FakeAnswer("", tool_calls=[call]), FakeAnswer("Done.")])
    limits = ToolLimits(max_seconds_per_call=seconds)
    agent = create_agent(model, scoped_tools([writing], limits=limits))

    assert [{"at": "work"}] == list(
        agent.stream({"messages": [HumanMessage("x")]}, stream_mode="custom")
    )


class Around(BaseTool):
    """A tool whose class has an ``invoke`` of its own, around LangChain's."""

    name: str = "own"
    description: str = "Looks up."

    def invoke(self, input: Any, config: Any = None, **kwargs: Any) -> Any:
        return f"own {super().invoke(input, config, **kwargs)}"

    async def ainvoke(self, input: Any, config: Any = None, **kwargs: Any) -> Any:
        return f"own {await super().ainvoke(input, config, **kwargs)}"

    def _run(self, word: str) -> str:
        return f"{word} " * 2_000


class Instead(Around):
    """One that never comes to LangChain's, and asks a model without handing a config on."""

    asked: Any = None

    def invoke(self, input: Any, config: Any = None, **kwargs: Any) -> Any:
        return f"own {self.asked.invoke('Why?').text} " * 2_000

    async def ainvoke(self, input: Any, config: Any = None, **kwargs: Any) -> Any:
        return f"own {(await self.asked.ainvoke('Why?')).text} " * 2_000


class OnlySync(StructuredTool):
    """One of whose two only one is its own; the other comes to it."""

    def invoke(self, input: Any, config: Any = None, **kwargs: Any) -> Any:
        return f"own {super().invoke(input, config, **kwargs)}"


class InThread(Around):
    """One that hands its work to a thread, which knows nothing of the context."""

    def invoke(self, input: Any, config: Any = None, **kwargs: Any) -> Any:
        with ThreadPoolExecutor(1) as threads:
            return threads.submit(BaseTool.invoke, self, input, config, **kwargs).result(5)

    async def ainvoke(self, input: Any, config: Any = None, **kwargs: Any) -> Any:
        work = functools.partial(BaseTool.invoke, self, input, config, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(None, work)


class Repeated(Around):
    """One that runs itself several times in a call."""

    def invoke(self, input: Any, config: Any = None, **kwargs: Any) -> Any:
        return [str(BaseTool.invoke(self, input, config, **kwargs)) for _ in range(5)][-1]


def test_a_run_in_a_thread_is_part_of_its_call() -> None:
    """It counts once, sync and async, though the thread has no context of the call."""
    for in_async in (False, True):
        own = BudgetedTool.wrap(InThread(), ToolLimits(max_calls=1))
        found = asyncio.run(own.ainvoke("tea")) if in_async else own.invoke("tea")

        assert found.startswith("tea tea")
        assert (1, 0) == (own.report().calls, own.report().refused_calls)


def test_runs_within_a_call_count_from_the_second_on() -> None:
    """A class that runs itself again and again keeps to the limit of calls."""
    own = BudgetedTool.wrap(Repeated(), ToolLimits(max_calls=2))

    assert "may be called 2 times in this run" in own.invoke("tea")
    assert (2, 3) == (own.report().calls, own.report().refused_calls)


@pytest.mark.parametrize("in_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("kind", [Around, Instead, OnlySync])
def test_an_invoke_of_ones_own_keeps_to_the_limits(kind: Any, in_async: bool) -> None:
    """Whether it comes to LangChain's or not: a call counts once, and its result is limited."""
    if kind is Instead:
        asked = fake_chat("_agenerate", answers=[FakeAnswer("tea", Usage(90, 10))] * 9)
        made: BaseTool = Instead(asked=asked)
    elif kind is OnlySync:
        made = OnlySync.from_function(lambda word: f"{word} " * 2_000, name="own", description="x")
    else:
        made = Around()
    tools = scoped_tools([made], limits=ToolLimits(max_calls=2, max_result_tokens_per_call=90))
    handler = Handler()

    def one(given: Any) -> Any:
        config: Any = {"callbacks": [handler]}
        each = tools[0]
        return asyncio.run(each.ainvoke(given, config)) if in_async else each.invoke(given, config)

    found = [one({"word": "tea"}) for _ in range(3)]
    refused = one({"type": "tool_call", "id": "7", "name": "own", "args": {"word": "tea"}})
    report = tools.report()["own"]

    assert isinstance(tools[0], kind)
    assert all(each.startswith("own tea") for each in found[:2])
    assert "may be called 2 times in this run" in found[2]
    assert ("error", "7") == (refused.status, refused.tool_call_id)
    assert (2, 2) == (report.calls, report.refused_calls)
    assert report.result_tokens_after <= 180 < 4_000 <= report.result_tokens_before
    assert (200 if kind is Instead else 0) == report.model_tokens
    assert (2 if kind is Instead else 4) == [k for k, _ in handler.heard].count("start")


def test_copies_have_the_same_account() -> None:
    """A copy of a tool, as hosts make them, is no way around its limits."""
    limited = BudgetedTool.wrap(direct, ToolLimits(max_calls=3))
    copies = [limited, limited.model_copy(), copy.copy(limited), copy.deepcopy(limited)]
    results = [each.invoke({"a": 1}) for each in copies]

    assert [3, 3, 3] == results[:3]
    assert "may be called 3 times" in results[3]


def test_a_pickled_tool_keeps_its_limits() -> None:
    """A tool that could be pickled still can, and begins anew elsewhere."""
    made: Any = pickle.loads(pickle.dumps(BudgetedTool.wrap(Searching(), ToolLimits(max_calls=1))))

    assert "1 words" in made.invoke({"words": ["tea"]})
    assert "may be called 1 times" in made.invoke({"words": ["tea"]})
