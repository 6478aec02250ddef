"""The router through the real hosts: chains, agents, several providers, resumed threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import ModelFallbackMiddleware
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.rate_limiters import InMemoryRateLimiter
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from pydantic import BaseModel

from langchain_tokenopt import (
    BudgetPlan,
    ModelRouter,
    ModelRoutingMiddleware,
    RateCard,
    StageMiddleware,
    optimize,
    track_usage,
)
from langchain_tokenopt.core.usage import Usage
from tests.support.fakes import fake_chat
from tests.support.model_server import ModelServer, Reply, Request, ToolCall

EASY = "What is the capital of France?"
HARD = (
    "Urgent: production is down. Analyse why the deployment fails, compare 3 ways to repair it, "
    "and plan the steps; each must work without a restart."
)


@tool
def lookup(word: str) -> str:
    """Look a word up."""
    return f"{word}: a word"


class Verdict(BaseModel):
    """A verdict."""

    good: bool


def asked(server: ModelServer) -> list[str]:
    """The models that were asked, in order."""
    return [request.model for request in server.requests]


def looks_up(request: Request) -> Reply:
    """Call the tool, then answer."""
    roles = [message["role"] for message in request.body["messages"]]
    if roles[-1] == "tool":
        return Reply(text="It is a word.")
    return Reply(tool_calls=[ToolCall("lookup", {"word": "x"}, id=f"c{len(roles)}")])


@pytest.fixture
def openai(model_server: ModelServer) -> dict[str, Any]:
    return {
        "cheap": model_server.chat_openai(model="gpt-4.1-nano", stream_usage=True),
        "strong": model_server.chat_openai(model="gpt-4.1", stream_usage=True),
    }


@pytest.mark.parametrize("form", ["invoke", "stream", "ainvoke", "astream"])
def test_each_request_asks_the_model_it_is_for(
    model_server: ModelServer, openai: dict[str, Any], form: str
) -> None:
    """In every way of calling; the record, its price and the bill are those of that model."""
    model = optimize(openai["strong"], ModelRouter(openai))

    async def collected(question: str) -> None:
        async for _ in model.astream(question):
            pass

    with track_usage() as usage:
        for question in (EASY, HARD):
            if form == "invoke":
                model.invoke(question)
            elif form == "stream":
                list(model.stream(question))
            else:
                asyncio.run(
                    model.ainvoke(question) if form == "ainvoke" else collected(question)  # type: ignore[arg-type]
                )

    assert ["gpt-4.1-nano", "gpt-4.1"] == asked(model_server)
    assert ["gpt-4.1-nano", "gpt-4.1"] == [record.model for record in usage.records]
    card = RateCard()
    for record in usage.records:
        assert (
            record.cost_nano_usd == card.price(record.usage, record.model, "openai").cost_nano_usd
        )


def test_a_budget_is_charged_with_the_price_of_the_model_that_answers(
    model_server: ModelServer, openai: dict[str, Any]
) -> None:
    """The cheap one's, though the call was made for the strong one."""
    model_server.script(Reply(usage=Usage(1_000, 100)))
    plan = BudgetPlan(total_tokens=100_000, total_usd=1)
    with plan.run() as run:
        optimize(openai["strong"], ModelRouter(openai), plan).invoke(EASY)

    expected = RateCard().price(Usage(1_000, 100), "gpt-4.1-nano", "openai").cost_nano_usd
    assert expected == run.report().account.spent_nano_usd


def test_tools_and_schemas_go_to_another_provider_in_its_own_format(
    model_server: ModelServer,
) -> None:
    """Bound to the one that is called, answered by the other, read by the first one's parser."""
    claude = model_server.chat_anthropic(model="claude-haiku-4-5")
    gpt = model_server.chat_openai(model="gpt-4.1")
    model = optimize(gpt, ModelRouter([claude, gpt]))

    model_server.script(Reply(tool_calls=[ToolCall("lookup", {"word": "x"})]))
    answer = model.bind_tools([lookup]).invoke(EASY)
    model_server.script(Reply(tool_calls=[ToolCall("Verdict", {"good": True})]))
    verdict = model.with_structured_output(Verdict, method="function_calling").invoke(EASY)

    assert [("lookup", {"word": "x"})] == [(c["name"], c["args"]) for c in answer.tool_calls]
    assert Verdict(good=True) == verdict
    assert ["claude-haiku-4-5"] * 2 == asked(model_server)
    first, second = (request.body["tools"][0] for request in model_server.requests)
    assert ("lookup", "Verdict") == (first["name"], second["name"])
    assert "word" in first["input_schema"]["properties"]
    assert "tool" == model_server.requests[1].body["tool_choice"]["type"]


def test_a_form_of_one_provider_alone_stays_with_its_models(model_server: ModelServer) -> None:
    """OpenAI's response format means nothing to Anthropic's class."""
    claude = model_server.chat_anthropic(model="claude-haiku-4-5")
    gpt = model_server.chat_openai(model="gpt-4.1")
    model = optimize(gpt, ModelRouter([claude, gpt]))
    model_server.script(Reply(text='{"good": true}'))

    assert Verdict(good=True) == model.with_structured_output(Verdict).invoke(EASY)
    assert ["gpt-4.1"] == asked(model_server)


@pytest.mark.parametrize("way", ["optimize", "middleware"])
def test_a_tool_loop_stays_with_the_model_that_has_begun_it(
    model_server: ModelServer, openai: dict[str, Any], way: str
) -> None:
    """Each turn is decided anew, and none of its calls goes elsewhere."""
    model_server.answer = looks_up
    if way == "optimize":
        agent: Any = create_agent(optimize(openai["strong"], ModelRouter(openai)), [lookup])
    else:
        routing = ModelRoutingMiddleware(openai)
        agent = create_agent(openai["strong"], [lookup], middleware=[routing])

    first = agent.invoke({"messages": [("user", EASY)]})
    agent.invoke({"messages": [*first["messages"], ("user", HARD)]})

    assert ["gpt-4.1-nano"] * 2 + ["gpt-4.1"] * 2 == asked(model_server)


def test_a_loop_goes_on_with_its_model_in_another_process(
    model_server: ModelServer, openai: dict[str, Any]
) -> None:
    """Another router knows from the checkpoint who has begun it, whatever it would choose."""
    model_server.answer = looks_up
    saver, config = InMemorySaver(), {"configurable": {"thread_id": "t"}}
    for policy in ("cheap", 1.0):
        routing = StageMiddleware(ModelRouter(openai, policy=policy))
        agent: Any = create_agent(
            openai["strong"], [lookup], middleware=[routing], checkpointer=saver,
            interrupt_before=["tools"],
        )  # fmt: skip
        agent.invoke({"messages": [("user", EASY)]} if policy == "cheap" else None, config)

    assert ["gpt-4.1-nano"] * 2 == asked(model_server)


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"tokenopt_tier": "cheap"}, "gpt-4.1-nano"),
        ({"model_name": "gpt-4.1-nano-2025-04-14"}, "gpt-4.1-nano"),
        ({"model_name": "gpt-4.1-2025-04-14"}, "gpt-4.1"),
        ({}, "gpt-4.1"),
    ],
    ids=["mark", "provider's name", "another's name", "nothing said"],
)
def test_who_has_begun_a_loop_stands_in_its_messages(
    model_server: ModelServer, openai: dict[str, Any], metadata: dict[str, str], expected: str
) -> None:
    """By our mark or the provider's name; where nothing is said the strongest goes on."""
    call = {"name": "lookup", "args": {"word": "x"}, "id": "c1"}
    history = [
        HumanMessage(EASY),
        AIMessage("", tool_calls=[call], response_metadata=metadata),  # type: ignore[list-item]
        ToolMessage("x: a word", tool_call_id="c1"),
    ]
    optimize(openai["strong"], ModelRouter(openai)).bind_tools([lookup]).invoke(history)

    assert [expected] == asked(model_server)


# --- what an answer may have


def test_an_answer_that_reaches_its_allowance_is_asked_for_again_without(
    model_server: ModelServer, openai: dict[str, Any]
) -> None:
    """Nothing is cut; both calls are billed; the caller's own cap stays what it is."""
    model_server.script(Reply(words=5_000), Reply(words=5_000), Reply(words=90))
    model = optimize(openai["strong"], ModelRouter(openai))
    with track_usage() as usage:
        answer = model.invoke(EASY)
        model.bind(max_tokens=50).invoke(EASY)

    caps = [r.body.get("max_completion_tokens") for r in model_server.requests]
    assert [4_096, None, 50] == caps
    assert 5_000 == len(answer.text.split())
    assert sum(u.total_tokens for u in model_server.billed) == usage.totals().total_tokens


@pytest.mark.parametrize("form", ["stream", "astream"])
def test_a_stream_has_no_allowance(
    model_server: ModelServer, openai: dict[str, Any], form: str
) -> None:
    """What was shown cannot be asked for again."""
    model = optimize(openai["strong"], ModelRouter(openai))
    list(model.stream(EASY))
    assert "max_completion_tokens" not in model_server.requests[0].body


# --- cascades

SORRY = "I am sorry, I cannot help with that."


@pytest.fixture
def ask(request: pytest.FixtureRequest) -> Callable[[Any, str], AIMessage]:
    """Ask in one of the four ways, and put the answer together."""

    def asking(model: Any, question: str) -> AIMessage:
        form = request.param
        if form == "invoke":
            answer = model.invoke(question)
        elif form == "ainvoke":
            answer = asyncio.run(model.ainvoke(question))
        else:
            pieces = (
                list(model.stream(question))
                if form == "stream"
                else asyncio.run(_collected(model.astream(question)))
            )
            answer = pieces[0]
            for piece in pieces[1:]:
                answer += piece
        return answer  # type: ignore[no-any-return]

    return asking


async def _collected(pieces: Any) -> list[Any]:
    return [piece async for piece in pieces]


each_way = pytest.mark.parametrize("ask", ["invoke", "ainvoke", "stream", "astream"], indirect=True)


@each_way
def test_a_refusal_asks_the_next_and_both_are_billed(
    model_server: ModelServer, openai: dict[str, Any], ask: Callable[[Any, str], AIMessage]
) -> None:
    """The caller sees one answer; each model has a record, a price, a place on the account."""
    model_server.script(Reply(text=SORRY), Reply(text="Paris."))
    plan = BudgetPlan(total_tokens=100_000, total_usd=1)
    model = optimize(openai["cheap"], ModelRouter(openai, cascade="refusal"), plan)
    with track_usage() as usage, plan.run() as run:
        answer = ask(model, EASY)

    assert "Paris." == answer.text
    assert "strong" == answer.response_metadata["tokenopt_tier"]
    assert ["gpt-4.1-nano", "gpt-4.1"] == [r.model for r in usage.records] == asked(model_server)
    assert [(b.input_tokens, b.output_tokens) for b in model_server.billed] == [
        (r.usage.input_tokens, r.usage.output_tokens) for r in usage.records
    ]
    account = run.report().account
    assert usage.totals().total_tokens == account.spent_tokens
    assert sum(r.cost_nano_usd or 0 for r in usage.records) == account.spent_nano_usd
    (saving,) = [s for r in usage.records for s in r.savings if s.stage == "ModelRouter"]
    assert usage.records[0].usage.total_tokens == saving.spent_tokens


@each_way
def test_a_good_answer_is_asked_for_once(
    model_server: ModelServer, openai: dict[str, Any], ask: Callable[[Any, str], AIMessage]
) -> None:
    """As it was written, piece by piece."""
    model_server.script(Reply(text="It is Paris, on the Seine."))
    model = optimize(openai["cheap"], ModelRouter(openai, cascade=["refusal", "confidence"]))

    assert "It is Paris, on the Seine." == ask(model, EASY).text
    assert ["gpt-4.1-nano"] == asked(model_server)


@each_way
def test_where_the_budget_does_not_reach_for_the_next_the_answer_before_stands(
    model_server: ModelServer, openai: dict[str, Any], ask: Callable[[Any, str], AIMessage]
) -> None:
    """It is paid for; nothing is made up in its place, and nothing is counted twice."""
    plan = BudgetPlan(total_tokens=2_000)
    model_server.script(Reply(text=SORRY, usage=Usage(1_950, 40)))
    model = optimize(openai["cheap"], ModelRouter(openai, cascade="refusal"), plan)
    with track_usage() as usage, plan.run() as run:
        answer = ask(model, EASY)

    assert SORRY == answer.text
    assert ["gpt-4.1-nano"] == asked(model_server)
    billed = sum(u.total_tokens for u in model_server.billed)
    assert billed == usage.totals().total_tokens == run.report().account.spent_tokens
    assert answer.usage_metadata is None or billed == answer.usage_metadata["total_tokens"]


def test_no_cascade_goes_to_another_model_within_a_tool_loop(
    model_server: ModelServer, openai: dict[str, Any]
) -> None:
    """A call of a tool is no answer yet, and what ends the loop stands."""

    def refuses(request: Request) -> Reply:
        found = looks_up(request)
        return found if found.tool_calls else Reply(text=SORRY)

    model_server.answer = refuses
    routing = ModelRoutingMiddleware(openai, cascade="refusal")
    agent: Any = create_agent(openai["strong"], [lookup], middleware=[routing])
    result = agent.invoke({"messages": [("user", EASY)]})

    assert SORRY == result["messages"][-1].text
    assert ["gpt-4.1-nano"] * 2 == asked(model_server)


@pytest.mark.parametrize("position", ["before", "behind"])
def test_a_fallback_is_not_sent_to_the_tier_that_has_failed(
    model_server: ModelServer, openai: dict[str, Any], position: str
) -> None:
    """LangChain's own middleware chooses another model; that one is asked."""
    model_server.script(Reply(status=500, text="down"), Reply(text="Here."))
    spare = model_server.chat_openai(model="gpt-4o")
    both: list[Any] = [ModelFallbackMiddleware(spare), ModelRoutingMiddleware(openai)]
    middleware = both if position == "before" else both[::-1]
    agent: Any = create_agent(openai["strong"], middleware=middleware)

    assert "Here." == agent.invoke({"messages": [("user", EASY)]})["messages"][-1].text
    assert ["gpt-4.1-nano", "gpt-4o"] == asked(model_server)


def test_an_agent_with_tools_is_refused_where_no_tier_can_call_them(
    model_server: ModelServer, openai: dict[str, Any]
) -> None:
    """When it is made."""
    mute = {name: FakeListChatModel(responses=[name]) for name in ("cheap", "strong")}
    with pytest.raises(ValueError, match="no tier of its router can call any"):
        create_agent(openai["strong"], [lookup], middleware=[ModelRoutingMiddleware(mute)])
    create_agent(openai["strong"], middleware=[ModelRoutingMiddleware(mute)])


def test_the_limiter_of_the_model_that_is_asked_is_waited_for(
    model_server: ModelServer,
) -> None:
    """Not that of the model that the call was made for."""

    class Counting(InMemoryRateLimiter):
        asked = 0

        def acquire(self, *, blocking: bool = True) -> bool:
            self.asked += 1
            return True

    cheap, strong = Counting(), Counting()
    models = {
        "cheap": model_server.chat_openai(model="gpt-4.1-nano", rate_limiter=cheap),
        "strong": model_server.chat_openai(model="gpt-4.1", rate_limiter=strong),
    }
    model = optimize(models["strong"], ModelRouter(models))
    model.invoke(EASY)
    list(model.stream(EASY))
    model.invoke(HARD)
    assert (2, 1) == (cheap.asked, strong.asked)


@pytest.mark.parametrize("way", ["stream", "astream"])
def test_a_model_that_cannot_stream_answers_a_stream_in_one_piece(
    model_server: ModelServer, way: str
) -> None:
    """Where the model that the stream was asked of could."""
    mute = FakeListChatModel(responses=["x"])
    there = {"cheap": fake_chat("_agenerate", answers=["Whole."] * 2), "strong": mute}
    model = optimize(model_server.chat_openai(), ModelRouter(there))
    got = (
        list(model.stream(EASY))
        if way == "stream"
        else asyncio.run(_collected(model.astream(EASY)))
    )
    assert "Whole." == "".join(piece.text for piece in got)
