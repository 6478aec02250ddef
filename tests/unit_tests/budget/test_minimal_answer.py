"""Answers in the model's place, of the form that was asked for."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID, uuid4

import pytest
from annotated_types import MinLen
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import HumanMessage
from langchain_core.utils.function_calling import convert_to_openai_tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, Field

from langchain_tokenopt.budget.minimal_answer import least_object_tokens, minimal_answer
from langchain_tokenopt.core.staged_runs import StagedRun
from langchain_tokenopt.request.model_request import ModelRequest
from tests.support.fakes import fake_chat


def request(model: Any = None, **kwargs: Any) -> ModelRequest:
    """Return a request with *kwargs*."""
    run = StagedRun(run_id=uuid4())
    return ModelRequest(model or fake_chat(), [HumanMessage("Hi")], None, kwargs, run)


class Rating(StrEnum):
    """What to do."""

    BUY = "BUY"
    HOLD = "HOLD"


class Part(BaseModel):
    """A part, which may have parts."""

    name: str = Field(min_length=3)
    parts: list[Part] = []


class Report(BaseModel):
    """All that schemas can ask for."""

    rating: Rating
    kind: Literal["only"]
    id: UUID
    share: float = Field(gt=0, lt=1)
    count: int = Field(ge=7, multiple_of=5)
    note: str | None
    short: str = Field(max_length=4)
    parts: Annotated[list[Part], MinLen(2)]
    flags: dict[str, bool] = {}


@pytest.mark.parametrize("way", ["class", "schema", "tool"])
def test_the_smallest_object_is_valid(way: str) -> None:
    """However a schema is asked for, the answer can be read as what it describes."""
    tool = convert_to_openai_tool(Report)
    asked: dict[str, dict[str, Any]] = {
        "class": {"response_format": Report},
        "schema": {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "Report", "schema": Report.model_json_schema()},
            }
        },
        "tool": {
            "tools": [
                {**tool, "function": {**tool["function"], "parameters": Report.model_json_schema()}}
            ],
            "tool_choice": {"type": "function", "function": {"name": "Report"}},
        },
    }
    answer = minimal_answer(request(**asked[way]), "nothing is left")
    if way == "tool":
        report = Report.model_validate(answer.tool_calls[0]["args"])
    else:
        report = Report.model_validate_json(answer.text)

    assert (Rating.HOLD, 10, None, "noth") == (
        report.rating,
        report.count,
        report.note,
        report.short,
    )
    assert ["nothing is left"] * 2 == [part.name for part in report.parts]


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "pattern": "^[A-Z]{4}$"},
        {"type": "integer", "minimum": 5, "maximum": 4},
        {"$ref": "#/nowhere"},
    ],
    ids=["pattern", "impossible", "dangling"],
)
def test_what_cannot_be_made_up_is_the_text(schema: dict[str, Any]) -> None:
    """Where no valid object can be found, the message says so in words and calls no tool."""
    whole = {"type": "object", "properties": {"x": schema}, "required": ["x"]}
    asked = {"type": "json_schema", "json_schema": {"name": "X", "schema": whole}}

    assert "nothing" == minimal_answer(request(response_format=asked), "nothing").content


@pytest.mark.parametrize("choice", [None, "auto", "none", {"type": "auto"}])
def test_free_tools_are_not_called(choice: Any) -> None:
    """Tools that the model may call are not called in its place."""
    tools = [convert_to_openai_tool(Part)]

    assert not request(tools=tools, tool_choice=choice).facts.answer_form.is_structured
    assert [] == minimal_answer(request(tools=tools, tool_choice=choice), "x").tool_calls


def test_the_floor_grows_with_the_fields() -> None:
    """An object with more required fields needs more room, nested ones included."""
    small, large = (least_object_tokens(kind.model_json_schema()) for kind in (Part, Report))

    assert small < large


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 9_999), st.integers(1, 9_999))
def test_caps_are_never_raised(asked: int, allowed: int) -> None:
    """Whatever is allowed, the cap that goes out is the lower one."""
    model = ChatOpenAI(model="gpt-4.1-mini", api_key="test", max_tokens=asked)
    capped = request(model).with_output_cap(allowed)

    assert min(asked, allowed) == capped.facts.output_cap


def test_a_model_without_a_cap_is_left_alone() -> None:
    """A setting that the model's class does not have is not invented."""
    asked = request()

    assert asked is asked.with_output_cap(10)


def test_a_schema_that_refers_to_nothing_has_a_length() -> None:
    """A call whose schema is broken is for the provider to refuse."""
    schema = {"type": "object", "properties": {"x": {"$ref": "#/nowhere"}}, "required": ["x"]}

    assert 0 < least_object_tokens(schema) == least_object_tokens({"type": "object"})
