"""What a scarce budget gives back: whole texts, whole objects, or a refusal that can be read."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Literal, cast

import pytest
from langchain.agents import create_agent
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.messages import HumanMessage
from langchain_core.output_parsers import PydanticToolsParser
from langchain_core.tools import tool
from openai import LengthFinishReasonError
from pydantic import BaseModel, Field

from langchain_tokenopt import BudgetEvent, BudgetPlan, optimize
from langchain_tokenopt.core.errors import BudgetExceededError
from langchain_tokenopt.testing import EventList
from tests.support.model_server import ModelServer, Reply, Request, ToolCall

PROSE = "The ferry left at nine and nobody on the quay had seen the pilot since. "


class Stop(BaseModel):
    """A stop of the ferry."""

    port: str
    state: Literal["open", "closed"]


class Journey(BaseModel):
    """Where the ferry goes."""

    stops: list[Stop] = Field(min_length=2)
    summary: str
    fare: int = Field(ge=3)


class Delay(BaseModel):
    """Why it does not go."""

    reason: str


JOURNEY = {
    "stops": [{"port": "Lund", "state": "open"}, {"port": "Vik", "state": "closed"}],
    "summary": PROSE * 20,
    "fare": 12,
}


@tool
def timetable(port: str) -> str:
    """Look up when the ferry leaves."""
    return "at nine"


def _ask(model: Any, way: str, asked: Any) -> Any:
    """Ask in one of the four ways."""

    async def pieces() -> Any:
        total = None
        async for piece in model.astream(asked):
            total = piece if total is None else total + piece
        return total

    if way == "invoke":
        return model.invoke(asked)
    if way == "ainvoke":
        return asyncio.run(model.ainvoke(asked))
    if way == "astream":
        return asyncio.run(pieces())
    total = None
    for piece in model.stream(asked):
        total = piece if total is None else total + piece
    return total


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream"])
def test_a_cut_answer_ends_where_a_sentence_does(model_server: ModelServer, way: str) -> None:
    """It is told how long it may be, and what the cap cuts is recorded."""
    model_server.answer = lambda request: Reply(text=PROSE * 90)
    events, plan = EventList(), BudgetPlan(total_tokens=320)
    with plan.run(sinks=[events]) as run:
        model = optimize(model_server.chat_openai(stream_usage=True), plan)
        answer = _ask(model, way, "When does the ferry leave?")
    (request,) = model_server.requests

    assert "at most" in request.last_text
    assert answer.text.rstrip().endswith("since.")
    assert ("stream" in way) == bool(request.body.get("stream"))
    details = [event.detail for event in events if isinstance(event, BudgetEvent)]
    assert any("ended a cut answer at a whole sentence" in detail for detail in details)
    assert run.report().account.spent_tokens <= 320


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
@pytest.mark.parametrize("total", [20, 330, 400, 600, 5_000, 50_000])
def test_an_object_is_whole_at_any_total(model_server: ModelServer, total: int, way: str) -> None:
    """Cut or not asked for at all, what the caller reads is an object of its schema."""
    call = ToolCall("Journey", JOURNEY)
    model_server.answer = lambda request: Reply(tool_calls=(call,))
    plan = BudgetPlan(total_tokens=total)
    chain = optimize(model_server.chat_openai(), plan).with_structured_output(
        Journey, method="function_calling"
    )
    with plan.run() as run:
        journey = _ask(chain, way, "Where does the ferry go?")

    assert isinstance(journey, Journey)
    assert Journey.model_validate(journey.model_dump())
    assert run.report().account.spent_tokens <= max(total, 1)
    if total == 50_000:
        assert journey == Journey.model_validate(JOURNEY)
        assert "max_completion_tokens" not in model_server.requests[0].body


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream"])
@pytest.mark.parametrize("method", ["json_schema", "json_mode", "function_calling"])
@pytest.mark.parametrize("total", [300, 400, 500])
def test_what_a_client_parses_is_an_object(
    model_server: ModelServer, total: int, method: Any, way: str
) -> None:
    """OpenAI's client raises on an object that a cap has cut off; the plan's cap is no error."""
    model_server.answer = _journey
    plan = BudgetPlan(total_tokens=total)
    model = optimize(model_server.chat_openai(), plan)
    chain = model.with_structured_output(Journey, method=method)
    with plan.run() as run:
        journey = _ask(chain, way, "Where does the ferry go? Answer as JSON.")

    assert isinstance(journey, Journey)
    assert Journey.model_validate(journey.model_dump())
    billed = sum(usage.total_tokens for usage in model_server.billed)
    spent = run.report().account.spent_tokens
    assert billed == spent if "invoke" in way else billed <= spent
    assert spent <= total


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream"])
def test_an_object_of_the_responses_api_is_whole(model_server: ModelServer, way: str) -> None:
    """Its end is told by another name."""
    model_server.answer = _journey
    plan = BudgetPlan(total_tokens=500)
    model = optimize(model_server.chat_openai(use_responses_api=True), plan)
    with plan.run():
        journey = _ask(model.with_structured_output(Journey), way, "Where does the ferry go?")

    assert isinstance(journey, Journey)
    assert ["Lund", "Vik"] == [stop.port for stop in journey.stops]


@pytest.mark.parametrize("total", [100, 300])
def test_an_object_keeps_bounds_that_its_provider_is_not_told(
    model_server: ModelServer, total: int
) -> None:
    """Anthropic's know no least number of items; and it says beside the message that it was cut."""
    model_server.answer = _journey
    plan = BudgetPlan(total_tokens=total)
    model = optimize(model_server.chat_anthropic(), plan)
    with plan.run():
        journey = model.with_structured_output(Journey, method="json_schema").invoke("Where to?")

    assert isinstance(journey, Journey)


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream"])
@pytest.mark.parametrize("method", ["json_schema", "json_mode", "function_calling"])
def test_an_object_that_cannot_be_made_whole_is_refused(
    model_server: ModelServer, method: Any, way: str
) -> None:
    """It was paid for, and is charged; the caller gets a reason, and no error of a parser."""
    ticket = {"text": PROSE * 30, "number": "AB-1234"}
    model_server.answer = lambda request: (
        Reply(tool_calls=[ToolCall("Ticket", ticket)])
        if request.body.get("tools")
        else Reply(text=json.dumps(ticket))
    )
    plan = BudgetPlan(total_tokens=300)
    model = optimize(model_server.chat_openai(), plan)
    with plan.run() as run, pytest.raises(BudgetExceededError, match="cut off"):
        _ask(model.with_structured_output(Ticket, method=method), way, "Answer as JSON.")

    (billed,) = model_server.billed
    assert billed.total_tokens <= run.report().account.spent_tokens <= 300


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream"])
def test_a_cap_of_the_callers_is_the_callers(model_server: ModelServer, way: str) -> None:
    """Nothing of ours has cut the answer, so that the error is the host's."""
    model_server.answer = _journey
    plan = BudgetPlan(total_tokens=50_000)
    model = optimize(model_server.chat_openai(max_tokens=40), plan)
    with plan.run(), pytest.raises(LengthFinishReasonError):
        _ask(model.with_structured_output(Journey), way, "Where does the ferry go?")


def _journey(request: Request) -> Reply:
    if request.body.get("tools"):
        return Reply(tool_calls=[ToolCall("Journey", JOURNEY)])
    return Reply(text=json.dumps(JOURNEY))


class Ticket(BaseModel):
    """A ticket."""

    text: str
    number: str = Field(pattern=r"^[A-Z]{2}-\d{4}$")


def test_a_cut_object_keeps_what_was_written(model_server: ModelServer) -> None:
    """What came before the cut is the model's; only the rest is made up, and that is said."""
    model_server.answer = lambda request: Reply(tool_calls=(ToolCall("Journey", JOURNEY),))
    plan = BudgetPlan(total_tokens=380)
    chain = optimize(model_server.chat_openai(), plan).with_structured_output(
        Journey, method="function_calling", include_raw=True
    )
    with plan.run() as run:
        result = cast("dict[str, Any]", chain.invoke("Where does the ferry go?"))
    journey = result["parsed"]

    assert ["Lund", "Vik"] == [stop.port for stop in journey.stops]
    assert journey.summary.endswith("since.")
    assert 3 == journey.fare
    assert "completed an object that was cut off" in run.report().agents["default"].degraded


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
@pytest.mark.parametrize("strategy", [ToolStrategy, ProviderStrategy])
def test_an_agent_ends_with_an_object(model_server: ModelServer, strategy: Any, way: str) -> None:
    """Whichever of several schemas it may choose, and whatever tools it has."""
    kind: Any = (Journey | Delay) if strategy is ToolStrategy else Journey
    plan = BudgetPlan(total_tokens=60)
    agent = create_agent(
        optimize(model_server.chat_openai(), plan), [timetable], response_format=strategy(kind)
    )
    with plan.run():
        result = _ask(agent, way, {"messages": [HumanMessage("Where does the ferry go?")]})

    assert isinstance(result["structured_response"], Journey | Delay)
    assert [] == model_server.requests


@pytest.mark.parametrize("choice", ["any", "required"])
def test_one_of_several_forms_is_filled_in(model_server: ModelServer, choice: str) -> None:
    """Classes are bound to be read; functions are bound to be called, and are not."""
    plan = BudgetPlan(total_tokens=30)
    model = optimize(model_server.chat_openai(), plan)
    forms = model.bind_tools([Delay, Journey], tool_choice=choice)
    with plan.run():
        (found,) = (forms | PydanticToolsParser(tools=[Delay, Journey])).invoke("Why?")
        with pytest.raises(BudgetExceededError, match=r"needs .* tokens"):
            model.bind_tools([timetable, tool(_sink)], tool_choice=choice).invoke("Sink it")

    assert isinstance(found, Delay)
    assert "No answer" in found.reason


def _sink(ship: str) -> str:
    """Sink a ship."""
    raise AssertionError(ship)


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
def test_a_call_of_a_tool_that_was_cut_is_not_made(model_server: ModelServer, way: str) -> None:
    """Half of its arguments would be worse than none: the agent says so in words."""
    call = ToolCall("timetable", {"port": "Lund " * 400})
    model_server.answer = lambda request: Reply(tool_calls=(call,))
    plan = BudgetPlan(total_tokens=420)
    agent = create_agent(optimize(model_server.chat_openai(), plan), [timetable])
    with plan.run() as run:
        result = _ask(agent, way, {"messages": [HumanMessage("When does it leave?")]})
    last = result["messages"][-1]

    assert last.text.strip()
    assert [] == last.tool_calls == last.invalid_tool_calls
    assert run.report().account.spent_tokens <= 420
