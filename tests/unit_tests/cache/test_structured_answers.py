"""Structured answers are kept like any other; calls of an agent's tools are not."""

from __future__ import annotations

import json
from typing import Literal

import pytest
from langchain.agents import create_agent
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration
from langchain_core.tools import tool
from pydantic import BaseModel, Field, field_validator

from langchain_tokenopt import optimize
from langchain_tokenopt.cache.storable import why_not_stored
from langchain_tokenopt.request.answer_form import AnswerForm
from tests.support.caches import make_cache
from tests.support.model_server import ModelServer, Reply, ToolCall

ASK = "Which berth does the Aurora take?"


class Port(BaseModel):
    """Where a ship lies."""

    name: str
    depth_m: float
    kind: Literal["river", "sea"] = "sea"


GOOD = {"name": "Turku", "depth_m": 9.5}
LACKING = {"name": "Turku"}
CASES = ["through optimize", "through cache="]


@tool
def book_berth(name: str) -> str:
    """Book a berth."""
    return f"booked {name}"


@tool
def tide(port: str) -> str:
    """Look up the tide."""
    return f"high in {port}"


def cached_model(server: ModelServer, way: str, **settings):
    cache = make_cache()
    if way == "through optimize":
        return optimize(server.chat_openai(**settings), cache)
    return server.chat_openai(cache=cache, **settings)


def as_call(args) -> Reply:
    return Reply(tool_calls=[ToolCall("Port", args)])


@pytest.mark.parametrize("way", CASES)
@pytest.mark.parametrize("responses_api", [False, True], ids=["completions", "responses"])
async def test_a_structure_given_as_a_call_is_asked_for_once(
    model_server: ModelServer, way: str, responses_api: bool
):
    """By invoke and ainvoke, with its raw message, and bound by hand."""
    model_server.script(as_call(GOOD))
    model = cached_model(model_server, way, use_responses_api=responses_api)
    read = model.with_structured_output(Port, method="function_calling")
    found = [read.invoke(ASK), await read.ainvoke(ASK), read.invoke(ASK)]
    assert [Port(**GOOD)] * 3 == found
    raw = model.with_structured_output(Port, method="function_calling", include_raw=True)
    assert Port(**GOOD) == raw.invoke(ASK)["parsed"]
    assert 1 == len(model_server.requests)


@pytest.mark.parametrize("mode", ["stream", "astream"])
async def test_streams_of_structures_are_served(model_server: ModelServer, mode: str):
    """The stage serves them whatever the first call was."""
    model_server.script(as_call(GOOD))
    model = cached_model(model_server, "through optimize")
    read = model.with_structured_output(Port, method="function_calling")
    for _ in range(2):
        if mode == "stream":
            last = list(read.stream(ASK))[-1]
        else:
            last = [part async for part in read.astream(ASK)][-1]
        assert Port(**GOOD) == last
    assert 1 == len(model_server.requests)


@pytest.mark.parametrize("method", ["json_schema", "json_mode"])
def test_a_structure_given_as_text_is_asked_for_once(model_server: ModelServer, method: str):
    """OpenAI's own ways, where the class is seen."""
    model_server.script(json.dumps(GOOD))
    read = cached_model(model_server, "through optimize").with_structured_output(
        Port, method=method
    )
    assert [Port(**GOOD)] * 2 == [read.invoke(ASK + " As JSON.") for _ in range(2)]
    assert 1 == len(model_server.requests)


@pytest.mark.parametrize("way", CASES)
@pytest.mark.parametrize("method", ["function_calling", "json_mode"])
def test_an_answer_that_could_not_be_read_is_asked_for_again(
    model_server: ModelServer, way: str, method: str
):
    """A retry must not meet the same broken structure for ever."""
    if method == "json_mode":
        model_server.script('Here it is: {"name": "Tur', json.dumps(GOOD))
    else:
        model_server.script(as_call(LACKING), as_call(GOOD))
    read = cached_model(model_server, way).with_structured_output(Port, method=method)
    read = read.with_retry(stop_after_attempt=2, wait_exponential_jitter=False)
    assert [Port(**GOOD)] * 2 == [read.invoke(ASK + " As JSON.") for _ in range(2)]
    assert 2 == len(model_server.requests)


def test_rules_that_only_the_class_knows_are_kept_to(model_server: ModelServer):
    """A validator that refuses the first answer is asked again, where the class is seen."""

    class Deep(BaseModel):
        depth_m: float

        @field_validator("depth_m")
        @classmethod
        def _is_deep(cls, depth: float) -> float:
            if depth < 5:
                raise ValueError("too shallow")
            return depth

    model_server.script('{"depth_m": 2}', '{"depth_m": 8}')
    read = cached_model(model_server, "through optimize").with_structured_output(Deep)
    read = read.with_retry(stop_after_attempt=2, wait_exponential_jitter=False)
    assert [8, 8] == [read.invoke(ASK).depth_m for _ in range(2)]
    assert 2 == len(model_server.requests)


@pytest.mark.parametrize("way", CASES)
@pytest.mark.parametrize("choice", [None, "auto", "any", "required", "book_berth"])
def test_calls_of_tools_among_several_are_not_kept(model_server: ModelServer, way: str, choice):
    """Also where one of them must be called: each call is asked of the program."""
    model_server.script(*[Reply(tool_calls=[ToolCall("book_berth", {"name": "A1"})])] * 2)
    model = cached_model(model_server, way).bind_tools([book_berth, tide], tool_choice=choice)
    assert ["book_berth"] * 2 == [model.invoke(ASK).tool_calls[0]["name"] for _ in range(2)]
    assert 2 == len(model_server.requests)


@pytest.mark.parametrize("way", CASES)
def test_a_free_call_of_the_only_tool_is_not_kept(model_server: ModelServer, way: str):
    """A model that may call one tool asks the program to do something."""
    model_server.script(*[Reply(tool_calls=[ToolCall("book_berth", {"name": "A1"})])] * 2)
    model = cached_model(model_server, way).bind_tools([book_berth])
    for _ in range(2):
        model.invoke(ASK)
    assert 2 == len(model_server.requests)


@pytest.mark.parametrize("form", [ToolStrategy(Port), ProviderStrategy(Port)], ids=["tool", "own"])
async def test_agents_without_tools_are_served_their_structure(model_server: ModelServer, form):
    """Sync and async alike."""
    model_server.script(
        as_call(GOOD) if isinstance(form, ToolStrategy) else json.dumps({**GOOD, "kind": "sea"})
    )
    agent = create_agent(cached_model(model_server, "through optimize"), response_format=form)
    asked = {"messages": [("user", ASK)]}
    found = [agent.invoke(asked), await agent.ainvoke(asked)]
    assert [Port(**GOOD)] * 2 == [state["structured_response"] for state in found]
    assert 1 == len(model_server.requests)


def test_an_agents_tools_run_each_time(model_server: ModelServer):
    """The call of the tool is asked for again; the final answer, which is text, is served."""
    call = Reply(tool_calls=[ToolCall("book_berth", {"name": "A1"})])
    model_server.script(call, "Done.", call)
    agent = create_agent(cached_model(model_server, "through optimize"), [book_berth])
    for _ in range(2):
        state = agent.invoke({"messages": [("user", ASK)]})
        assert ["booked A1", "Done."] == [m.content for m in state["messages"][-2:]]
    assert 3 == len(model_server.requests)


class Leg(BaseModel):
    """One leg."""

    to: str
    stops: list[Port] = Field(default_factory=list)


class Route(BaseModel):
    """A route."""

    legs: list[Leg]
    note: str | None = None


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ('{"legs": [{"to": "Oslo", "stops": [{"name": "Moss", "depth_m": 4}]}]}', ""),
        ('```json\n{"legs": []}\n```', ""),
        ('{"legs": [], "note": null, "more": 1}', ""),
        ('{"legs": [{"to": "Oslo", "stops": [{"name": "Moss"}]}]}', "not of the schema"),
        ('{"legs": {}}', "not of the schema"),
        ('{"legs": [], "note": ["x"]}', "not of the schema"),
        (
            '{"legs": [{"to": "Oslo", "stops": [{"name": "M", "depth_m": 1, "kind": "lake"}]}]}',
            "not of the schema",
        ),
        ("[]", "not of the schema"),
        ('{"legs": [', "not of the schema"),
        ("I cannot help with that.", "not of the schema"),
        ("[" * 100_000, "not of the schema"),
    ],
)
def test_what_fits_a_schema(said: str, why: str):
    """References, lists and alternatives are followed."""
    answers = [ChatGeneration(message=AIMessage(said))]
    assert why == why_not_stored(answers, AnswerForm("structured", Route.model_json_schema()))
    if why == "":
        assert "" == why_not_stored(answers, AnswerForm("structured"))
