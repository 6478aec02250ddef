"""Bad input ends in a documented outcome."""

from __future__ import annotations

import copy
import json
import math
import tempfile
import time
from pathlib import Path
from typing import Any

from langchain_core.embeddings import Embeddings
from langchain_core.messages import (
    AIMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.tools import StructuredTool, tool

from langchain_tokenopt import ToolSelector, optimize
from tests.judge.tools_cases import names_of, same_json
from tests.judge.tools_kit import (
    FIND_MORE,
    case,
    office,
    shown,
    without_help,
)
from tests.judge.tools_model import Call, ScriptedToolModel, call

# Bad input


def made(**settings: Any) -> tuple[Any, str]:
    """The selector, or what it says against *settings*."""
    try:
        return ToolSelector(**settings), ""
    except Exception as error:
        return None, str(error)


@case
def no_tools() -> None:
    """A call without tools goes out as it came; ``select`` returns nothing."""
    model = ScriptedToolModel(script=["ok"])
    optimize(model, ToolSelector()).invoke("hello")
    assert model.calls[-1].tools == []
    assert "tools" not in model.calls[-1].options
    assert list(ToolSelector().select("hello", [])) == []
    assert shown("hello", []).tools == []


@case
def ten_thousand_tools() -> None:
    """The needed one is there."""
    tools = [
        {
            "type": "function",
            "function": {
                "name": f"device_{n}_control",
                "description": f"Controls device number {n} of hall {n % 97}.",
                "parameters": {"type": "object", "properties": {"on": {"type": "boolean"}}},
            },
        }
        for n in range(10_000)
    ]
    asked = shown("please use device_7321_control", tools)
    assert "device_7321_control" in asked.names
    assert len(asked.names) < 500, len(asked.names)


@case
def equal_names() -> None:
    """Nothing is raised, and the one that is needed is there."""
    tools = [*office(), *office()]
    assert "empty_trash" in shown("empty the trash", tools).names
    other = copy.deepcopy(tools[0])
    other["function"]["name"], other["function"]["description"] = "empty_trash", "Waters plants."
    assert "empty_trash" in shown("empty the trash", [*office(), other]).names


@case
def no_descriptions() -> None:
    """Names and parameters speak, too."""
    tools = office()
    for each in tools:
        each["function"].pop("description", None)
    assert "block_sender" in shown("block this sender", tools).names


@case
def broken_schemas_pass() -> None:
    """What cannot be read is passed on: the provider decides."""
    broken: list[Any] = [
        {"type": "function", "function": {"name": "odd_a", "parameters": None}},
        {"type": "function", "function": {"name": "odd_b", "parameters": "text"}},
        {"type": "function", "function": {"name": "odd_c", "parameters": {"properties": [1, 2]}}},
        {"type": "function", "function": {"name": "odd_d", "parameters": {"$ref": "#/missing"}}},
        {"type": "function", "function": {"name": "odd_e", "description": 7, "parameters": {}}},
        {"name": "odd_f", "input_schema": {"properties": {"a": {"$ref": "#"}}}},
    ]
    unreadable: list[Any] = [
        {"type": "function", "function": {}},
        {"type": "function", "function": None},
        {"name": None, "input_schema": {}},
        {"function_declarations": "none"},
        {"toolSpec": {}},
        {},
    ]
    asked = shown("empty the trash", [*office(), *broken, *unreadable])
    sent = [same_json(each) for each in asked.tools]
    assert "empty_trash" in asked.names
    missing = [each for each in unreadable if same_json(each) not in sent]
    assert not missing, missing
    for each in broken:
        name = names_of([each])[0]
        assert name in shown(f"use {name}", [*office(), *broken]).names, name


@case
def a_schema_that_contains_itself_passes() -> None:
    """A Python object can be a circle; bytes are not JSON."""
    circle: dict[str, Any] = {"type": "object", "properties": {}}
    circle["properties"]["self"] = circle
    odd = {"type": "function", "function": {"name": "odd_circle", "parameters": circle}}
    raw = {"type": "function", "function": {"name": "odd_bytes", "parameters": {"x": b"1"}}}
    names = shown("use odd_circle and odd_bytes", [*office(), odd, raw]).names
    assert {"odd_circle", "odd_bytes"} <= set(names), names


@case
def deep_schemas_pass() -> None:
    """Nested deeper than Python recurses."""
    deep: dict[str, Any] = {"type": "string"}
    for _ in range(3_000):
        deep = {"type": "object", "properties": {"a": deep}}
    odd = {"type": "function", "function": {"name": "odd_deep", "parameters": deep}}
    asked = shown("use odd_deep", [*office(), odd], ToolSelector(slim=True))
    assert "odd_deep" in asked.names


class _BrokenEmbeddings(Embeddings):
    """Fails in one of many ways."""

    def __init__(self, way: str) -> None:
        self.way = way

    def _vectors(self, n: int) -> Any:
        if self.way == "raises":
            raise RuntimeError("the embedder is away")
        ways: dict[str, Any] = {
            "nan": [[math.nan] * 4] * n,
            "zero": [[0.0] * 4] * n,
            "too few": [[1.0, 0.0]] * max(0, n - 1),
            "ragged": [[1.0] * (1 + i % 3) for i in range(n)],
            "none": None,
            "text": ["x"] * n,
        }
        return ways[self.way]

    def embed_documents(self, texts: list[str]) -> Any:
        return self._vectors(len(texts))

    def embed_query(self, text: str) -> Any:
        got = self._vectors(1)
        return got[0] if got else got


@case
def an_embedder_that_fails_loses_nothing() -> None:
    """Named tools are there, and for words that say nothing all are, or more are offered."""
    for way in ("raises", "nan", "zero", "too few", "ragged", "none", "text"):
        selector = ToolSelector(embeddings=_BrokenEmbeddings(way))
        assert "empty_trash" in shown("empty the trash", office(), selector).names, way
        names = shown("zzz qqq", office(), selector).names
        assert len(names) >= len(office()) or FIND_MORE in names, (way, names)


@case
def a_store_that_cannot_be_opened_breaks_nothing() -> None:
    """A file of junk, a folder, a place that is not there."""
    with tempfile.TemporaryDirectory() as folder:
        junk = Path(folder, "junk.sqlite")
        junk.write_bytes(b"this is no database" * 400)
        for store in (str(junk), folder, str(Path(folder, "no", "such", "place.sqlite"))):
            selector, refusal = made(store=store)
            if selector is None:
                assert len(refusal) > 20, refusal
                continue
            said = [HumanMessage("empty the trash"), call("empty_trash")]
            said.append(ToolMessage("done", tool_call_id="c1"))
            assert "empty_trash" in shown(said, office(), selector).names


@case
def a_sink_that_raises_breaks_nothing() -> None:
    """Whatever it is told."""

    class Angry:
        def __getattr__(self, name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)

            def told(*args: Any, **kwargs: Any) -> None:
                raise RuntimeError("I do not want to know")

            return told

    assert "empty_trash" in shown("empty the trash", office(), ToolSelector(sinks=(Angry(),))).names


@case
def strange_questions() -> None:
    """Nothing, signs, a picture, no user at all, a file of two megabytes."""
    picture = [
        {"type": "text", "text": "empty the trash"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
    ]
    tools = office()
    assert "empty_trash" in shown([HumanMessage(picture)], tools).names
    for said in (
        [HumanMessage("")],
        [HumanMessage("😀😀")],
        [HumanMessage("\x00\ud7ff\n")],
        [SystemMessage("You are kind.")],
        [AIMessage("hello")],
    ):
        asked = shown(said, tools)
        assert asked.names, said
        assert len(asked.names) >= len(tools) or FIND_MORE in asked.names, said
    log = "\n".join(
        f"2025-11-0{n % 9} worker {n} list jobs select table {n}" for n in range(40_000)
    )
    began = time.monotonic()
    names = shown(f"Empty the trash please.\n\n{log}", tools).names
    assert "empty_trash" in names or FIND_MORE in names
    assert time.monotonic() - began < 20


@case
def a_question_around_a_file_is_understood() -> None:
    """The request stands before or after pasted text that speaks of other tools."""
    text = "\n".join(json.dumps({"job": n, "sql": "select * from tables"}) for n in range(200))
    for said in (f"Empty the trash please.\n\n{text}", f"{text}\n\nEmpty the trash please."):
        assert "empty_trash" in shown(said, office()).names


@case
def another_language_breaks_nothing() -> None:
    """Words that no tool has: enough tools, or the offer of more."""
    for said in ("ゴミ箱を空にして", "أفرغ سلة المهملات", "очисти корзину"):
        names = shown(said, office()).names
        assert "empty_trash" in names or FIND_MORE in names or len(names) >= len(office())


@case
def tools_bound_by_bind_count_too() -> None:
    """``model.bind(tools=...)``, and tools given to one call."""
    tools = office()
    model = ScriptedToolModel(script=["ok"])
    staged = optimize(model, ToolSelector(max_tools=3))
    staged.bind(tools=tools).invoke("empty the trash")
    staged.invoke("empty the trash", tools=tools)
    for asked in model.calls:
        assert "empty_trash" in asked.names
        assert len(without_help(asked.names)) <= 3


@case
def injected_arguments_stay_hidden() -> None:
    """Tools made by ``@tool`` work as before in an agent."""
    from langchain.agents import create_agent

    @tool
    def add_numbers(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    def step(asked: Call) -> Any:
        if isinstance(asked.messages[-1], ToolMessage):
            return f"It is {asked.messages[-1].content}"
        return call("add_numbers", a=2, b=3)

    model = ScriptedToolModel(script=[step])
    agent = create_agent(optimize(model, ToolSelector()), [*office("basetool"), add_numbers])
    end = agent.invoke({"messages": [HumanMessage("add the numbers 2 and 3")]})
    assert end["messages"][-1].content == "It is 5"


@case
def wrong_settings_say_so() -> None:
    """At once, in a sentence with the value."""
    for wrong in ({"max_tools": 0}, {"max_tools": -1}, {"max_tokens": 0}, {"max_tools": "five"}):
        selector, refusal = made(**wrong)
        assert selector is None, f"{wrong} was taken"
        assert str(next(iter(wrong.values()))) in refusal, refusal


@case
def a_base_tool_comes_back_from_select() -> None:
    """``Selected.tool`` is the object that was given."""
    tools = office("basetool")
    for each in ToolSelector(max_tools=3).select("empty the trash", tools):
        assert any(each.tool is given for given in tools)
        assert isinstance(each.tool, StructuredTool)
