"""Answers in the model's place, of the form that was asked for."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated, Any, Final, Literal
from uuid import UUID, uuid4

import pytest
from annotated_types import MinLen
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.utils.function_calling import convert_to_openai_tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, Field

from langchain_tokenopt.budget.minimal_answer import UnfillableError, minimal_answer
from langchain_tokenopt.budget.structured_answer import completed, object_size
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
def test_what_cannot_be_made_up_is_not(schema: dict[str, Any]) -> None:
    """Where no valid object can be found, nothing is given that the caller could not read."""
    whole = {"type": "object", "properties": {"x": schema}, "required": ["x"]}
    asked = {"type": "json_schema", "json_schema": {"name": "X", "schema": whole}}

    with pytest.raises(UnfillableError):
        minimal_answer(request(response_format=asked), "nothing")


@pytest.mark.parametrize("choice", ["any", "required", {"type": "any"}])
def test_no_tool_is_chosen_for_the_model(choice: Any) -> None:
    """Of several tools, one of which must be called, none is called with made-up arguments."""
    tools = [convert_to_openai_tool(kind) for kind in (Part, Report)]

    with pytest.raises(UnfillableError):
        minimal_answer(request(tools=tools, tool_choice=choice), "nothing")


_WHOLE: Final = {
    "rating": "BUY",
    "count": 125,
    "kind": "only",
    "note": "He went. She stayed.",
    "id": "6f1f3a52-7a0f-4a4e-9d65-0c2f8e0f2a11",
    "short": "ab",
    "share": 0.25,
    "parts": [{"name": "One man. Two men."}, {"name": "Three"}],
}
_WRITTEN: Final = json.dumps(_WHOLE)


@settings(max_examples=80, deadline=None)
@given(st.integers(1, len(_WRITTEN) - 1), st.booleans())
def test_an_object_that_is_cut_anywhere_is_completed(end: int, as_tool: bool) -> None:
    """What the model has said of it stays, and no part of a number or of a choice is left."""
    asked, message = request(response_format=Report), AIMessage(_WRITTEN[:end])
    if as_tool:
        call = {"type": "invalid_tool_call", "name": "Report", "args": _WRITTEN[:end]}
        message = AIMessage("", invalid_tool_calls=[{**call, "id": "1", "error": "cut"}])
    answer = completed(asked, message, "cut")

    assert answer is not None
    report = Report.model_validate_json(answer.text)
    assert report.count in (125, 10)
    assert report.share in (0.25, pytest.approx(1e-6))
    if end >= _WRITTEN.index(', "kind'):
        assert report.rating == Rating.BUY
    if end > _WRITTEN.index("She"):
        assert report.note in ("He went.", "He went. She stayed.")


@pytest.mark.parametrize("choice", [None, "auto", "none", {"type": "auto"}])
def test_free_tools_are_not_called(choice: Any) -> None:
    """Tools that the model may call are not called in its place."""
    tools = [convert_to_openai_tool(Part)]

    assert not request(tools=tools, tool_choice=choice).facts.answer_form.is_structured
    assert [] == minimal_answer(request(tools=tools, tool_choice=choice), "x").tool_calls


def test_the_floor_grows_with_the_fields() -> None:
    """An object with more required fields needs more room, nested ones included."""
    small, large = (object_size(kind.model_json_schema()) for kind in (Part, Report))

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

    assert 1 == object_size(schema)[1]
