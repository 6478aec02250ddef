"""What a request is, read from what every integration really binds."""

from __future__ import annotations

from uuid import uuid4

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_google_genai import ChatGoogleGenerativeAI
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

from langchain_tokenopt.core.staged_runs import StagedRun
from langchain_tokenopt.counting.request_tokens import count_messages
from langchain_tokenopt.request import facts as module
from langchain_tokenopt.request.model_request import ModelRequest


class Verdict(BaseModel):
    """What an analyst decides."""

    decision: str
    confidence: float


def look_up(ticker: str) -> str:
    """Look up a price."""
    return ticker


OPENAI = ChatOpenAI(model="gpt-4o-mini", api_key="x")
ANTHROPIC = ChatAnthropic(model="claude-sonnet-4-5", api_key="x", max_tokens=700)
GEMINI = ChatGoogleGenerativeAI(model="gemini-2.5-flash", api_key="x")
PLAIN = FakeListChatModel(responses=["yes"])


def request_of(runnable, messages=None, **kwargs) -> ModelRequest:
    """What the seam makes of a model, a binding, or the first step of a structured chain."""
    step = getattr(runnable, "first", runnable)
    bound = getattr(step, "kwargs", {}) | kwargs
    return ModelRequest(
        getattr(step, "bound", step),
        messages or [SystemMessage("Be brief."), HumanMessage("Buy or sell?")],
        None,
        bound,
        StagedRun(run_id=uuid4(), metadata={"tokenopt_agent": "news", "user_id": "ann"}),
    )


STRUCTURED = {
    "openai json_schema": OPENAI.with_structured_output(Verdict),
    "openai function_calling": OPENAI.with_structured_output(Verdict, method="function_calling"),
    "openai json_mode": OPENAI.with_structured_output(Verdict, method="json_mode"),
    "openai tool by name": OPENAI.bind_tools([look_up, Verdict], tool_choice="Verdict"),
    "openai any tool": OPENAI.bind_tools([look_up, Verdict], tool_choice="any"),
    "anthropic": ANTHROPIC.with_structured_output(Verdict),
    "anthropic json_schema": ANTHROPIC.with_structured_output(Verdict, method="json_schema"),
    "gemini": GEMINI.with_structured_output(Verdict),
    "gemini function_calling": GEMINI.with_structured_output(Verdict, method="function_calling"),
    "ollama format json": PLAIN.bind(format="json"),
    "ollama format schema": PLAIN.bind(format=Verdict.model_json_schema()),
    "vllm guided_json": PLAIN.bind(guided_json=Verdict.model_json_schema()),
    "gemini mime type": PLAIN.bind(response_mime_type="application/json"),
    "responses text.format": PLAIN.bind(text={"format": {"type": "json_schema", "schema": {}}}),
    "legacy function_call": PLAIN.bind(
        functions=[{"name": "f", "parameters": {}}], function_call={"name": "f"}
    ),
    "a form of next year": PLAIN.bind(response_format={"type": "grammar"}),
    "the model's own setting": ChatOpenAI(
        model="gpt-4o", api_key="x", model_kwargs={"response_format": {"type": "json_object"}}
    ),
}
FREE = {
    "nothing": (OPENAI, "text"),
    "text asked for": (PLAIN.bind(response_format={"type": "text"}), "text"),
    "plain mime type": (PLAIN.bind(response_mime_type="text/plain"), "text"),
    "responses text": (PLAIN.bind(text={"format": {"type": "text"}, "verbosity": "low"}), "text"),
    "tools": (OPENAI.bind_tools([look_up]), "tools"),
    "tools auto": (ANTHROPIC.bind_tools([look_up], tool_choice="auto"), "tools"),
    "gemini tools": (GEMINI.bind_tools([look_up]), "tools"),
    "tools switched off": (OPENAI.bind_tools([look_up], tool_choice="none"), "text"),
    "anthropic tools off": (
        PLAIN.bind(tools=[{"name": "f", "input_schema": {}}], tool_choice={"type": "none"}),
        "text",
    ),
}


@pytest.mark.parametrize("runnable", STRUCTURED.values(), ids=STRUCTURED)
def test_what_a_program_parses_is_structured(runnable):
    """By whatever parameter an integration asks for it."""
    assert request_of(runnable).facts.answer_form.is_structured


@pytest.mark.parametrize(("runnable", "kind"), FREE.values(), ids=FREE)
def test_text_and_tools_of_free_choice_are_free(runnable, kind):
    """They may be cut, or shortened, or limited."""
    assert request_of(runnable).facts.answer_form.kind == kind


@pytest.mark.parametrize(
    "name",
    [
        "openai json_schema",
        "openai function_calling",
        "openai tool by name",
        "anthropic",
        "anthropic json_schema",
        "ollama format schema",
        "vllm guided_json",
    ],
)
def test_the_schema_is_found(name):
    """A budget needs it to know how much room an object takes."""
    schema = request_of(STRUCTURED[name]).facts.answer_form.schema
    assert {"decision", "confidence"} == set(schema["properties"])


@pytest.mark.parametrize(
    ("runnable", "cap", "name"),
    [
        (OPENAI, None, "max_tokens"),
        (OPENAI.bind(max_completion_tokens=90), 90, "max_completion_tokens"),
        (ANTHROPIC, 700, "max_tokens"),
        (ANTHROPIC.bind(max_tokens=90), 90, "max_tokens"),
        (GEMINI.bind(max_output_tokens=80), 80, "max_output_tokens"),
        (PLAIN.bind(num_predict=-1), None, "num_predict"),
        (PLAIN.bind(max_new_tokens=70), 70, "max_new_tokens"),
        (PLAIN, None, None),
    ],
)
def test_caps_by_every_integrations_name(runnable, cap, name):
    """A call's own cap hides the model's."""
    facts = request_of(runnable).facts
    assert (facts.output_cap, facts.cap_name) == (cap, name)


def test_a_cap_is_only_ever_lowered():
    """And there is one, whatever it was called before."""
    request = request_of(PLAIN.bind(max_new_tokens=70, max_tokens=90))

    assert request.with_output_cap(80) is request
    assert request.with_output_cap(60).kwargs == {"max_tokens": 60}
    assert request_of(PLAIN).with_output_cap(60).kwargs == {}


def test_tokens_are_the_sum_of_their_parts():
    """Messages and tools as ``count_messages`` counts them together."""
    request = request_of(OPENAI.bind_tools([look_up, Verdict]))
    counted = count_messages(request.messages, request.tools, "gpt-4o-mini")
    assert request.facts.input_tokens == counted


def test_the_model_that_a_binding_names_counts():
    """``model.bind(model=...)`` asks another one."""
    assert request_of(OPENAI.bind(model="claude-opus-4")).facts.model_name == "claude-opus-4"


def test_who_asks():
    """Read from the run's metadata."""
    attribution = request_of(PLAIN).facts.attribution
    assert (attribution.agent, attribution.user) == ("news", "ann")


@pytest.fixture
def worked_out(monkeypatch):
    """How often each fact was worked out."""
    counts: dict[str, int] = {}

    def counting(name):
        original = getattr(module, name)

        def wrapper(*args, **kwargs):
            counts[name] = counts.get(name, 0) + 1
            return original(*args, **kwargs)

        monkeypatch.setattr(module, name, wrapper)

    for name in ("count_messages", "count_tools", "model_name_of", "answer_form", "lowest_cap"):
        counting(name)
    return counts


def _ask_everything(request: ModelRequest) -> None:
    facts = request.facts
    _ = (facts.input_tokens, facts.model_name, facts.answer_form, facts.output_cap)


def test_a_fact_is_worked_out_once_however_often_it_is_asked_for(worked_out):
    """Also by requests that a stage made of the first and left it true for."""
    request = request_of(OPENAI.bind_tools([look_up]))
    for _ in range(3):
        _ask_everything(request)
        _ask_everything(request.override(streaming=True))

    assert len(worked_out) == 5
    assert set(worked_out.values()) == {1}


def test_what_a_later_request_has_worked_out_the_earlier_one_knows(worked_out):
    """A limit asks at the end what a budget behind it has asked in between."""
    request = request_of(OPENAI.bind_tools([look_up]))
    capped = request.with_output_cap(500)
    _ask_everything(capped.override(streaming=True))
    _ask_everything(request)
    assert worked_out.pop("lowest_cap") == 2
    assert set(worked_out.values()) == {1}


def test_a_change_asks_again_for_what_it_touches_only(worked_out):
    """A lower cap leaves the prompt as it was; another prompt leaves the tools."""
    request = request_of(OPENAI.bind_tools([look_up]))
    _ask_everything(request)
    capped = request.with_output_cap(500)
    _ask_everything(capped)
    assert worked_out.pop("lowest_cap") == 2
    assert set(worked_out.values()) == {1}

    longer = capped.override(messages=[*capped.messages, HumanMessage("And why?")])
    _ask_everything(longer)
    assert worked_out == {"count_messages": 2} | dict.fromkeys(
        worked_out.keys() - {"count_messages"}, 1
    )
    assert longer.facts.input_tokens.tokens > capped.facts.input_tokens.tokens

    without = longer.override(kwargs={})
    assert without.facts.tool_tokens.tokens == 0
    assert without.facts.answer_form.kind == "text"
