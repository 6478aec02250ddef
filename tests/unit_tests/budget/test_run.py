"""A plan at the model: reserve, shorten, refuse, settle."""

from __future__ import annotations

import asyncio
import re
import threading
from contextvars import copy_context
from typing import Any, cast

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from pydantic import BaseModel, Field

from langchain_tokenopt.budget import BudgetAlert, BudgetPlan
from langchain_tokenopt.budget.budget_call import DEGRADED
from langchain_tokenopt.budget.holds import Hold
from langchain_tokenopt.budget.input_margin import InputMargin, input_margin_of
from langchain_tokenopt.budget.run import NoBudgetRunError
from langchain_tokenopt.budget.stage import BudgetStage
from langchain_tokenopt.chat_model.budget_tools import TOOLS
from langchain_tokenopt.chat_model.optimize import optimize
from langchain_tokenopt.core.errors import BudgetExceededError, TokenOptWarning
from langchain_tokenopt.core.records import BudgetEvent, UsageEvent
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.forecast import UsageForecaster
from langchain_tokenopt.pricing.rate_card import RateCard
from langchain_tokenopt.stage import Stage
from langchain_tokenopt.text.words import count_words
from langchain_tokenopt.tracking.callbacks import track_usage
from tests.support.fakes import FakeAnswer, FakeTextModel, fake_chat
from tests.support.model_server import ModelServer, Reply, ToolCall
from tests.support.waiting import until

LONG = "The bridge was painted red in 1931. " * 300 + "\n\nQuestion: Which colour is it?"
PROSE = "The price rose again in spring and nobody on the desk knew the reason for it. "


class Events:
    """A sink that keeps budget events."""

    def __init__(self) -> None:
        self.kept: list[BudgetEvent] = []

    def record(self, event: UsageEvent) -> None:
        if isinstance(event, BudgetEvent):
            self.kept.append(event)

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in self.kept]


@tool
def lookup(word: str) -> str:
    """Look a word up in the large dictionary of this house."""
    return word


class Verdict(BaseModel):
    """What was decided."""

    reason: str
    score: int = Field(ge=1, le=5)


# What is charged


def test_a_plan_has_a_stage() -> None:
    """What a socket makes of a plan fits wherever a stage does."""
    assert isinstance(BudgetStage(BudgetPlan(total_tokens=10)), Stage)


def test_the_account_agrees_with_the_server(model_server: ModelServer) -> None:
    """Without a word limit every call is charged to the token, streams too, and nothing is held."""
    plan = BudgetPlan(total_tokens=100_000)
    model = optimize(model_server.chat_openai(stream_usage=True), plan)
    with plan.run() as run, track_usage() as usage:
        model.invoke("Hello there")
        model.bind_tools([lookup]).invoke("Use it")
        list(model.stream("And in pieces"))
    account = run.report().account

    assert sum(bill.total_tokens for bill in model_server.billed) == account.spent_tokens
    assert usage.totals().total_tokens == account.spent_tokens
    assert 0 == account.held_tokens


async def test_async_is_charged_alike(model_server: ModelServer) -> None:
    """Ainvoke, astream and abatch are charged like their sync twins."""
    plan = BudgetPlan(total_tokens=100_000)
    model = optimize(model_server.chat_openai(stream_usage=True), plan)
    with plan.run() as run:
        await model.ainvoke("Hello there")
        async for _ in model.astream("And in pieces"):
            pass
        await model.abatch(["one", "two"])

    billed = await asyncio.to_thread(lambda: model_server.billed)
    assert sum(usage.total_tokens for usage in billed) == run.report().account.spent_tokens


def test_what_a_cache_answers_costs_nothing() -> None:
    """A cache stands before the budget."""
    plan = BudgetPlan(total_tokens=1_000)
    model = optimize(fake_chat(answers=[FakeAnswer("Yes.", Usage(10, 2))]), plan, InMemoryCache())
    with plan.run() as run:
        answers = [model.invoke("Is it?").content for _ in range(2)]

    assert ["Yes.", "Yes."] == answers
    assert 12 == run.report().account.spent_tokens


def test_a_refused_call_is_free() -> None:
    """An error before anything was written frees the reservation."""
    plan = BudgetPlan(total_tokens=1_000)
    model = optimize(fake_chat(answers=[FakeAnswer(error=ValueError("refused"))]), plan)
    with plan.run() as run, pytest.raises(ValueError, match="refused"):
        model.invoke("Hi")
    report = run.report()

    assert (0, 0, 1) == (
        report.account.spent_tokens,
        report.account.held_tokens,
        report.failed_calls,
    )


def test_a_timeout_is_charged_in_full() -> None:
    """Nobody knows whether a call that timed out was answered, so its whole reservation is kept."""
    plan = BudgetPlan(total_tokens=1_000, max_output_tokens_per_call=100)
    model = optimize(fake_chat(answers=[FakeAnswer(error=TimeoutError())]), plan)
    with plan.run() as run, pytest.raises(TimeoutError):
        model.invoke("Hi")

    assert run.report().account.spent_tokens > 100


def test_an_abandoned_stream_is_charged_for_what_came(model_server: ModelServer) -> None:
    """Who stops reading pays for the input and what arrived, with a margin, not for the rest."""
    model_server.script(Reply(words=400, pace_seconds=0.002))
    plan = BudgetPlan(total_tokens=100_000, max_output_tokens_per_call=2_000)
    with plan.run() as run:
        stream = optimize(model_server.chat_openai(), plan).stream("Count")
        for _ in range(20):
            next(stream)
        stream.close()
    spent = run.report().account.spent_tokens
    (bill,) = model_server.billed

    assert bill.total_tokens <= spent < bill.total_tokens + 150


def test_the_count_is_corrected_by_what_the_provider_reports() -> None:
    """Three calls that were billed 8 % above our count put the fourth on the safe side."""
    margin = InputMargin()
    for counted in (1_000, 2_000, 3_000):
        margin.learn(counted=counted, reported=round(counted * 1.08))

    assert 5_400 <= margin.applied(5_000) <= 5_450


# What is sent


def test_the_cap_is_only_lowered(model_server: ModelServer) -> None:
    """A cap that the caller has set goes out as it is, and a generous one is lowered."""
    plan = BudgetPlan(total_tokens=1_000)
    with plan.run():
        for asked in (20, 5_000):
            optimize(model_server.chat_openai(max_tokens=asked), plan).invoke("Hi")
    low, high = (request.body["max_completion_tokens"] for request in model_server.requests)

    assert 20 == low
    assert 20 < high < 1_000


def test_an_ample_budget_changes_nothing(model_server: ModelServer) -> None:
    """Messages and answers are those of the model without a plan."""
    plan = BudgetPlan(total_tokens=1_000_000)
    plain = model_server.chat_openai()
    model_server.answer = lambda request: Reply(text=PROSE * 20)
    with plan.run() as run:
        answer = optimize(plain, plan).invoke(LONG)
    sent, expected = model_server.requests[0].body["messages"], plain.invoke(LONG)

    assert expected.content == answer.content
    assert model_server.requests[1].body["messages"] == sent
    assert {} == run.report().agents["default"].degraded


def test_words_are_kept_and_reported(model_server: ModelServer) -> None:
    """The plan's words are asked for, kept although the model does not listen, and counted."""
    model_server.answer = lambda request: Reply(text=PROSE * 40)
    plan = BudgetPlan(total_tokens=20_000, agents={"default": {"words": 60}})
    with plan.run() as run:
        answer = optimize(model_server.chat_openai(), plan).invoke("Report")
    line = run.report().agents["default"]

    assert 0 < count_words(answer.content) <= 60
    assert "Answer in at most 60 words." in model_server.requests[0].last_text
    assert (60, 1, 1) == (line.words_asked, line.limited_answers, line.kept_answers)


def test_the_prompt_may_say_what_is_left(model_server: ModelServer) -> None:
    """The last line of the prompt says what is left, and the system message stays."""
    plan = BudgetPlan(total_tokens=5_000, show_remaining=True)
    with plan.run():
        optimize(model_server.chat_openai(), plan).invoke([("system", "Be brief."), ("user", "Hi")])
    texts = model_server.requests[0].texts

    assert "Be brief." == texts[0]
    assert "of 5,000 tokens are left" in texts[1]


# The degradation


def test_the_prompt_is_shortened_first(model_server: ModelServer) -> None:
    """What does not fit is shortened until it does; the answer is marked and an event is told."""
    events = Events()
    plan = BudgetPlan(total_tokens=1_500)
    with plan.run(sinks=[events]) as run:
        answer = optimize(model_server.chat_openai(), plan).invoke(LONG)

    assert "shortened the documents" in answer.response_metadata[DEGRADED]
    assert "Which colour is it?" in model_server.requests[0].last_text
    assert sum(usage.total_tokens for usage in model_server.billed) <= 1_500
    assert {"degraded"} == {kind for kind in events.kinds if kind != "alert"}
    (said,) = [event.detail for event in events.kept if "documents" in event.detail]
    before, after, lost = map(int, re.findall(r"(\d+) ", said.replace(",", ""))[:3])
    assert before - after <= lost + 200
    assert 1 == run.report().agents["default"].degraded["shortened the documents"]


def test_readers_of_the_same_documents_are_given_other_parts(model_server: ModelServer) -> None:
    """Of what the question does not name; what answers it, each of them has."""
    notes = [f"Row {n} of the vault holds {n * 37 + 211} coins." for n in range(1, 161)]
    pages = [f"Page {n}: {PROSE}{note} {PROSE}" for n, note in enumerate(notes)]
    pages[80] += "The bridge was painted red."
    tagged = "".join(f"<document>\n{page}\n</document>\n" for page in pages)
    asked = f"{tagged}\nQuestion: Which colour is the bridge?"
    plan = BudgetPlan(total_tokens=4_000, agents={name: {"tokens": 900} for name in "abcd"})
    model = optimize(model_server.chat_openai(), plan)
    with plan.run() as run:
        for name in "abcd":
            model.invoke(asked, {"metadata": {"tokenopt_agent": name}})
    read = [{n for n in notes if n in r.last_text} for r in model_server.requests]

    assert 4 == len(read) == len(run.report().agents)
    assert all("painted red" in request.last_text for request in model_server.requests)
    assert len(set().union(*read)) >= 1.5 * max(map(len, read))


def test_those_who_read_that_nobody_answered_need_no_reasons(model_server: ModelServer) -> None:
    """Handed over in a word, so that one refusal does not lead to the next."""
    plan = BudgetPlan(total_tokens=400, agents={"a": {"cap": 20}})
    model = optimize(model_server.chat_openai(), plan)
    with plan.run():
        made_up = model.invoke("Report", {"metadata": {"tokenopt_agent": "a"}}).text
        prompt = f"<report>{made_up}</report>\n<report>{PROSE * 20}</report>\n\nWhat is wrong?"
        model.invoke(prompt, {"metadata": {"tokenopt_agent": "b"}})
    (sent,) = model_server.requests

    assert "has 20 of its cap" in made_up
    assert "of its cap" not in sent.last_text
    assert "What is wrong?" in sent.last_text


def test_degraded_answers_are_not_cached() -> None:
    """A cache keeps no answer to a shortened prompt."""
    plan = BudgetPlan(total_tokens=1_500)
    cache = InMemoryCache()
    model = optimize(fake_chat(answers=["short", "long"]), plan, cache)
    with plan.run():
        assert [DEGRADED] == [
            key for key in model.invoke(LONG).response_metadata if key == DEGRADED
        ]

    assert {} == cache._cache


def test_old_tool_results_go_before_the_prompt(model_server: ModelServer) -> None:
    """Older tool results are shortened, the latest stays byte for byte."""
    old, new = ("Row. " * 600 + text for text in ("old", "new"))
    history: list[Any] = [HumanMessage("What is in the table?")]
    for number, result in enumerate((old, new)):
        call = {"name": "lookup", "args": {"word": "x"}, "id": str(number), "type": "tool_call"}
        history += [AIMessage("", tool_calls=[call]), ToolMessage(result, tool_call_id=str(number))]
    plan = BudgetPlan(total_tokens=3_500, max_input_tokens_per_call=2_000)
    with plan.run() as run:
        optimize(model_server.chat_openai(), plan).bind_tools([lookup]).invoke(history)
    texts = model_server.requests[0].texts

    assert new == texts[-1]
    assert len(texts[2]) < len(old) / 2
    assert {"shortened old tool results": 1} == run.report().agents["default"].degraded


def test_fewer_words_are_asked_for_but_not_too_few(model_server: ModelServer) -> None:
    """When a short prompt and its answer do not fit, the word limit falls, to one half at most."""
    model_server.answer = lambda request: Reply(text=PROSE * 40)
    plan = BudgetPlan(total_tokens=500, agents={"default": {"words": 400}})
    with plan.run() as run:
        answer = optimize(model_server.chat_openai(), plan).invoke("Report on it")
    asked = model_server.requests[0].last_text

    assert "asked for fewer words" in run.report().agents["default"].degraded
    assert any(f"at most {words} words" in asked for words in range(200, 400))
    assert 0 < count_words(answer.content) < 400


def test_a_short_answer_comes_before_none(model_server: ModelServer) -> None:
    """Where half of the words do not fit, a paragraph is asked for; two sentences; then nothing."""
    model_server.answer = lambda request: Reply(text=PROSE * 40)
    for total, asked in ((220, 1), (90, 1), (60, 1), (50, 0)):
        model_server.requests.clear()
        plan = BudgetPlan(total_tokens=total, agents={"default": {"words": 400}})
        with plan.run() as run:
            answer = optimize(model_server.chat_openai(), plan).invoke("Report on it")
        degraded = run.report().agents["default"].degraded

        assert asked == len(model_server.requests)
        assert asked == degraded.get("asked for a short answer", 0)
        assert 1 - asked == degraded.get("answered in the model's place", 0)
        assert answer.text.endswith("it." if asked else "]")


def test_a_call_is_made_to_fit_anew_when_others_were_faster(
    model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at the room and the reservation another agent takes half of it."""
    plan = BudgetPlan(total_tokens=2_000)
    with plan.run() as run:
        reserve, taken = run.account.reserve, []

        def beaten(agent: str, *args: Any, **options: Any) -> Any:
            if not taken:
                taken.append(reserve("faster", 1_000, 500))
            return reserve(agent, *args, **options)

        monkeypatch.setattr(run.account, "reserve", beaten)
        answer = optimize(model_server.chat_openai(), plan).invoke(LONG)

    assert not answer.text.startswith("[No answer")
    assert len(model_server.requests) == 1
    assert run.report().account.spent_tokens <= 500


def test_a_call_is_measured_anew_when_its_provider_counts_more_than_was_thought(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another call is answered, and reported, while this one is being made to fit."""
    plan = BudgetPlan(total_tokens=700)
    text = " ".join(f"Bridge {n} of {n + 7} was painted in {1700 + n}." for n in range(200))
    model = fake_chat(answers=[FakeAnswer("It was red.", Usage(400, 4))], model="counts-more")
    with plan.run() as run:
        reserve, holds = run.account.reserve, []

        def learning(*args: Any, **options: Any) -> Any:
            found = reserve(*args, **options)
            if not holds:
                input_margin_of("counts-more").learn(counted=600, reported=900)
            holds.append((args[1], found))
            return found

        monkeypatch.setattr(run.account, "reserve", learning)
        optimize(model, plan).invoke(f"{text}\n\nQuestion: When was bridge 7 painted?")

    granted = [(sent, hold) for sent, hold in holds if isinstance(hold, Hold)]
    assert len(granted) == 2
    assert granted[-1][1].max_output_tokens >= 80
    assert run.report().account.held_tokens == 0


def test_how_often_agents_call_is_learned_from_run_to_run() -> None:
    """By the forecaster that all runs are given; runs that were broken off say nothing."""
    plan, forecaster = BudgetPlan(total_tokens=100_000), UsageForecaster()
    model = optimize(fake_chat(answers=[FakeAnswer("Yes.", Usage(20, 4))]), plan)
    for rounds in (1, 3, 2):
        with plan.run(forecaster=forecaster):
            for _ in range(rounds):
                model.invoke("Well?")

    def broken_off() -> None:
        with plan.run(forecaster=forecaster):
            for _ in range(9):
                model.invoke("Well?")
            raise KeyError

    with pytest.raises(KeyError):
        broken_off()
    assert forecaster.most_calls("default") == 3


def test_objects_of_a_schema_are_given_room_by_those_before(model_server: ModelServer) -> None:
    """Once three are known, documents make room for another like them; before, it is cut off."""

    class Essay(BaseModel):
        """An essay."""

        body: str = Field(description="All of it")

    body = PROSE * 12
    model_server.answer = lambda request: Reply(tool_calls=[ToolCall("Essay", {"body": body})])
    documents = " ".join(f"Boat {n} was painted in {1700 + n}." for n in range(80))
    asked, forecaster = f"{documents}\n\nWrite it: how old is boat 7?", UsageForecaster()

    def essay(total: int) -> str:
        plan = BudgetPlan(total_tokens=total)
        chain = optimize(model_server.chat_openai(), plan).with_structured_output(
            Essay, method="function_calling"
        )
        with plan.run(forecaster=forecaster):
            return cast("Essay", chain.invoke(asked)).body

    sent = essay(100_000), model_server.billed[-1].input_tokens
    scarce = sent[1] + 100
    assert essay(scarce) != body
    for _ in range(3):
        essay(100_000)
    assert essay(scarce) == body
    assert model_server.billed[-1].input_tokens < sent[1]


def test_alerts_are_told_once_on_the_way_up(model_server: ModelServer) -> None:
    """A run that uses up its budget tells of each threshold once, to callback and sink."""
    heard: list[str] = []
    events = Events()
    plan = BudgetPlan(total_tokens=400, max_output_tokens_per_call=20)
    alert = BudgetAlert(lambda event: heard.append(event.detail))
    with plan.run(alert=alert, sinks=[events]):
        for _ in range(40):
            optimize(model_server.chat_openai(), plan).invoke("Hello there")

    assert 2 <= len(heard) == len(set(heard))
    assert len(heard) == events.kinds.count("alert")


def test_a_sink_that_fails_breaks_no_call() -> None:
    """It is warned of once; what was reserved is settled as ever."""

    class Broken:
        def record(self, event: UsageEvent) -> None:
            raise RuntimeError("no disk")

    plan = BudgetPlan(total_tokens=1_500)
    with (
        pytest.warns(TokenOptWarning, match="A sink of usage events failed.*no disk") as warned,
        plan.run(sinks=[Broken()], user="ann") as run,
    ):
        for _ in range(2):
            optimize(fake_chat(answers=[FakeAnswer(usage=Usage(700, 4))]), plan).invoke(LONG)

    assert 1 == len(warned)
    assert (0, "ann") == (run.report().account.held_tokens, run.report().user)


def test_a_call_that_cannot_be_opened_leaves_no_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever fails between reserving and sending."""

    def broken(request: Any, words: Any, cap: Any) -> Any:
        raise RuntimeError("no limit")

    monkeypatch.setattr(type(TOOLS), "word_limit", staticmethod(broken))
    plan = BudgetPlan(total_tokens=1_500, agents={"default": {"words": 20}})
    with plan.run() as run, pytest.raises(RuntimeError, match="no limit"):
        optimize(fake_chat(), plan).invoke("Hello")
    account = run.report().account

    assert (0, 0) == (account.spent_tokens, account.held_tokens)


def test_a_cheaper_model_takes_over_at_the_soft_limit(model_server: ModelServer) -> None:
    """From the soft limit on the cheaper model is asked, with the same tools."""
    plan = BudgetPlan(total_tokens=2_000, soft_limit=0.2, cheaper_model="gpt-4.1-nano")
    model = optimize(model_server.chat_openai(), plan).bind_tools([lookup])
    model_server.script(Reply(words=300), Reply(words=5))
    with plan.run():
        model.invoke("first")
        model.invoke("second")
    first, second = model_server.requests

    assert ("gpt-4.1-mini", "gpt-4.1-nano") == (first.model, second.model)
    assert first.body["tools"] == second.body["tools"]


def test_tools_are_taken_away_before_the_end(model_server: ModelServer) -> None:
    """A loop that cannot pay for its tools any more is told to answer now."""
    tools = [
        {
            "type": "function",
            "function": {
                "name": f"tool_{n}",
                "description": PROSE * 3,
                "parameters": {"type": "object", "properties": {}},
            },
        }
        for n in range(10)
    ]
    plan = BudgetPlan(total_tokens=300)
    with plan.run() as run:
        optimize(model_server.chat_openai(), plan).bind_tools(tools).invoke("What is it?")
    (request,) = model_server.requests

    assert "tools" not in request.body
    assert "Answer now" in request.last_text
    assert 1 == run.report().agents["default"].degraded["took away the tools"]


def test_the_last_step_is_a_message_of_the_right_type(model_server: ModelServer) -> None:
    """When nothing fits the model is not asked; a tool agent gets a message without calls."""
    plan = BudgetPlan(total_tokens=30)
    model = optimize(model_server.chat_openai(), plan)
    with plan.run():
        answer = model.bind_tools([lookup]).invoke("Please " * 40)
        streamed = "".join(chunk.text for chunk in model.stream("Please " * 40))

    assert [] == model_server.requests
    assert [] == answer.tool_calls
    assert "call but the budget 'plan' has 30 of 30 left" in answer.content
    assert "call but the budget 'plan' has 30 of 30 left" in streamed


def test_a_refusal_is_no_saving(model_server: ModelServer) -> None:
    """A call answered in the model's place is recorded as neither spent nor saved."""
    plan = BudgetPlan(total_tokens=30)
    with plan.run(), track_usage() as usage:
        optimize(model_server.chat_openai(), plan).invoke("Please " * 40)
    totals = usage.totals()

    assert (1, 0, 0) == (totals.calls, totals.total_tokens, totals.saved_tokens)


@pytest.mark.parametrize("method", ["function_calling", "json_schema"])
def test_a_schema_is_met_by_the_last_step(model_server: ModelServer, method: Any) -> None:
    """Structured output keeps its type: the smallest object that the schema allows."""
    plan = BudgetPlan(total_tokens=30)
    chain = optimize(model_server.chat_openai(), plan).with_structured_output(
        Verdict, method=method
    )
    with plan.run():
        verdict = chain.invoke("Judge " * 50)

    assert [] == model_server.requests
    assert isinstance(verdict, Verdict)
    assert 1 == verdict.score


def test_structured_output_has_a_floor(model_server: ModelServer) -> None:
    """An object that would be cut off is not asked for: its cap is never below its fields' need."""
    plan = BudgetPlan(total_tokens=400)
    chain = optimize(model_server.chat_openai(), plan).with_structured_output(
        Verdict, method="function_calling"
    )
    with plan.run():
        for _ in range(6):
            chain.invoke("Judge it")

    caps = [request.body["max_completion_tokens"] for request in model_server.requests]
    assert min(caps) >= 40
    assert min(caps) > max(bill.output_tokens for bill in model_server.billed)


def test_an_object_is_not_refused_for_a_line_that_asks_for_a_length(
    model_server: ModelServer,
) -> None:
    """Where there is room for the object, but not for the line, the line is left out."""
    asked = "Judge the pier. " * 20

    def is_refused(total: int) -> bool:
        plan = BudgetPlan(total_tokens=total)
        chain = optimize(model_server.chat_openai(), plan).with_structured_output(
            Verdict, method="function_calling"
        )
        with plan.run() as run:
            chain.invoke(asked)
        return run.report().denied_calls > 0

    assert not is_refused(10_000)
    read = model_server.billed[-1].input_tokens
    least = next(total for total in range(read, read + 200) if not is_refused(total))
    assert model_server.requests[-1].last_text == asked
    assert not is_refused(least + 60)
    assert "at most" in model_server.requests[-1].last_text


def test_an_answer_of_unknown_length_is_told_half(model_server: ModelServer) -> None:
    """Half is left for another turn; a model that writes on is cut, at a whole sentence."""
    model_server.answer = lambda request: Reply(text=PROSE * 200)
    plan = BudgetPlan(total_tokens=1_900)
    with plan.run() as run:
        answer = optimize(model_server.chat_openai(), plan).invoke("Report on it.")
    (request,) = model_server.requests
    (told,) = re.findall(r"at most (\d+) words", request.last_text)

    assert 400 < int(told) < 700
    assert request.body["max_completion_tokens"] > 1_800
    assert answer.text.endswith("it.")
    assert {"ended a cut answer at a whole sentence"} == set(
        run.report().agents["default"].degraded
    )


def test_there_is_no_cap_while_there_is_room(model_server: ModelServer) -> None:
    """An ample budget sends what the caller has asked for, and nothing else."""
    plan = BudgetPlan(total_tokens=50_000)
    bare, staged = model_server.chat_openai(), optimize(model_server.chat_openai(), plan)
    with plan.run():
        for model in (bare, staged):
            model.invoke("Report on it.")
            model.with_structured_output(Verdict, method="function_calling").invoke("Judge it")
    bodies = [request.body for request in model_server.requests]

    assert bodies[:2] == bodies[2:]


# Refusing


def test_raise_stays_raised(model_server: ModelServer) -> None:
    """A node that swallows the error and asks again, for less, is refused again."""
    plan = BudgetPlan(total_tokens=200, on_exceed="raise")
    model = optimize(model_server.chat_openai(), plan)
    with plan.run():
        with pytest.raises(BudgetExceededError) as first:
            model.invoke("word " * 500)
        with pytest.raises(BudgetExceededError) as second:
            model.invoke("Hi")
        with pytest.raises(BudgetExceededError) as unstaged:
            model_server.chat_openai().invoke("Hi")

    assert str(first.value) == str(second.value) == str(unstaged.value)
    assert [] == model_server.requests


def test_outside_of_a_run_it_says_so() -> None:
    """A model under a plan says what is missing, and who called."""
    plan = BudgetPlan(total_tokens=200, name="desk")
    with pytest.raises(
        NoBudgetRunError, match=r"'desk' .* 'default' outside .* 'with plan.run\(\):'"
    ):
        optimize(fake_chat(), plan).invoke("Hi")


def test_a_run_inside_a_run_is_refused() -> None:
    """Two accounts for the same calls would be twice the budget."""
    plan = BudgetPlan(total_tokens=200)
    with plan.run(), pytest.raises(NoBudgetRunError, match="already running"), plan.run():
        pass


def test_disabled_stages_let_everything_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """With TOKENOPT_DISABLE=1 a staged model needs no run."""
    monkeypatch.setenv("TOKENOPT_DISABLE", "1")

    assert optimize(fake_chat(answers=["Yes"]), BudgetPlan(total_tokens=1)).invoke("?")


def test_disabled_plans_let_unstaged_models_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """With TOKENOPT_DISABLE=1 nothing is refused, whoever is called."""
    monkeypatch.setenv("TOKENOPT_DISABLE", "1")
    with BudgetPlan(total_tokens=1).run():
        assert fake_chat(answers=["Yes"]).invoke("?").content
        assert FakeTextModel().invoke("?")


# Models that nobody staged


def test_unstaged_models_are_charged_and_named(model_server: ModelServer) -> None:
    """A model without stages pays from the run, to the token, and the report names it."""
    plan = BudgetPlan(total_tokens=100_000)
    with plan.run() as run:
        model_server.chat_openai().invoke("Hello")
        list(model_server.chat_openai(stream_usage=True).stream("Hello"))
    report = run.report()

    assert sum(usage.total_tokens for usage in model_server.billed) == report.account.spent_tokens
    assert {"default": ("gpt-4.1-mini",)} == report.unstaged_models
    assert 0 == report.account.held_tokens


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_unstaged_models_are_refused_before_they_are_sent(
    model_server: ModelServer, is_async: bool
) -> None:
    """When the budget is gone no request leaves."""
    plan = BudgetPlan(total_tokens=100)
    model = model_server.chat_openai(max_tokens=50)

    def call() -> Any:
        return asyncio.run(model.ainvoke(too_long)) if is_async else model.invoke(too_long)

    too_long = "word " * 200
    with plan.run(), pytest.raises(BudgetExceededError):
        call()

    assert [] == model_server.requests


def test_models_with_other_stages_join_the_plan(model_server: ModelServer) -> None:
    """A staged model needs no plan of its own: the plan that runs is added to its stages."""
    plan = BudgetPlan(total_tokens=1_500)
    with plan.run() as run:
        answer = optimize(model_server.chat_openai()).invoke(LONG)

    assert "shortened the documents" in answer.response_metadata[DEGRADED]
    assert {} == run.report().unstaged_models


async def test_a_cancelled_unstaged_call_leaves_no_hold() -> None:
    """LangChain does not tell of a cancelled ainvoke; its reservation is settled all the same."""
    plan = BudgetPlan(total_tokens=100_000)
    with plan.run() as run:
        fake = fake_chat("_agenerate", delay_seconds=60)
        task = asyncio.create_task(fake.ainvoke("Hello"))
        await until(lambda: fake.calls)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(0)

    assert 0 == run.report().account.held_tokens
    assert 0 < run.report().account.spent_tokens


# Side by side, and again


def test_threads_never_overshoot(model_server: ModelServer) -> None:
    """Eight threads that all want everything stay within the total by the server's bill."""
    plan = BudgetPlan(total_tokens=2_000)
    model = optimize(model_server.chat_openai(), plan)
    model_server.answer = lambda request: Reply(text=PROSE * 40)

    with plan.run() as run:
        threads = [
            threading.Thread(target=copy_context().run, args=(model.invoke, LONG)) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    account = run.report().account

    assert sum(usage.total_tokens for usage in model_server.billed) <= 2_000
    assert (0, 0) == (account.held_tokens, account.surplus_tokens)


def test_a_resumed_thread_goes_on_from_what_was_spent(model_server: ModelServer) -> None:
    """The second run of a thread has what the first has left; another thread has all."""
    plan = BudgetPlan(total_tokens=5_000, name="resumed")
    model = optimize(model_server.chat_openai(), plan)
    with plan.run(thread_id="a") as first:
        model.invoke("Hello")
    with plan.run(thread_id="a") as second:
        model.invoke("Hello")
    with plan.run(thread_id="b") as other:
        pass

    spent = first.report().account.spent_tokens
    assert sum(usage.total_tokens for usage in model_server.billed) == spent
    assert (spent, 0) == (second.report().account.spent_tokens, other.report().account.spent_tokens)


def test_a_resumed_thread_tells_its_alerts_to_the_new_listener() -> None:
    """The first one's web socket may be closed."""
    first: list[Any] = []
    second: list[Any] = []
    plan = BudgetPlan(total_tokens=1_000, name="listened", max_output_tokens_per_call=10)
    answers = [FakeAnswer("Yes.", Usage(8, 500)), FakeAnswer("Yes.", Usage(8, 400))]
    model = optimize(fake_chat(answers=answers), plan)
    for heard in (first, second):
        with plan.run(thread_id="t", alert=BudgetAlert(heard.append)):
            model.invoke("Hello")

    assert (["50%"], ["90%"]) == tuple(
        [event.detail[:3] for event in heard] for heard in (first, second)
    )


def test_what_was_raised_stays_raised_elsewhere(tmp_path: Any) -> None:
    """A worker that takes part in the same run is refused as well."""
    plan = BudgetPlan(total_tokens=200, on_exceed="raise")
    model = optimize(fake_chat(), plan)
    with plan.run("t", path=tmp_path / "b.db"), pytest.raises(BudgetExceededError):
        model.invoke("word " * 500)
    with (
        plan.run("t", path=tmp_path / "b.db"),
        pytest.raises(BudgetExceededError, match=r"was stopped: it refuses every call"),
    ):
        model.invoke("Hi")


def test_the_buffer_is_nobodys_share() -> None:
    """Also where agents without a share of their own divide the rest."""
    plan = BudgetPlan(total_tokens=10_000, buffer=1_000, agents={"a": {"tokens": 3_000}, "b": {}})
    report = plan.run().report()

    allocated = {name: line.account.allocated_tokens for name, line in report.agents.items()}
    assert {"a": 3_000, "b": 6_000} == plan.shares()
    assert {"a": 3_000, "b": 0} == allocated  # the rest is divided at each call
    assert 7_000 == report.account.pool_tokens


def test_shares_can_follow_what_the_forecaster_expects() -> None:
    """Who answers three times as long is given three times as much."""
    forecaster = UsageForecaster()
    for _ in range(40):
        forecaster.observe("long", 300)
        forecaster.observe("short", 100)
    plan = BudgetPlan(total_tokens=8_000, agents={"long": {}, "short": {}}, strategy="proportional")

    assert {"long": 6_000, "short": 2_000} == plan.shares(forecaster)


def test_a_store_is_shared(model_server: ModelServer, tmp_path: Any) -> None:
    """With a store the account is in a file, and whoever opens it finds what was spent."""
    plan = BudgetPlan(total_tokens=5_000)
    model = optimize(model_server.chat_openai(), plan)
    with plan.run(thread_id="a", path=tmp_path / "budget.db"):
        model.invoke("Hello")
    with plan.run(thread_id="a", path=tmp_path / "budget.db") as again:
        pass

    (bill,) = model_server.billed
    assert bill.total_tokens == again.report().account.spent_tokens


def test_forced_tools_are_not_taken_away(model_server: ModelServer) -> None:
    """A forced tool call is structured output: it is made up in the end, not turned into text."""
    plan = BudgetPlan(total_tokens=40)
    model = optimize(model_server.chat_openai(), plan).bind_tools([lookup], tool_choice="lookup")
    with plan.run():
        answer = model.invoke("Look it up " * 30)

    assert ["lookup"] == [call["name"] for call in answer.tool_calls]
    assert [] == model_server.requests


def test_money_is_a_limit_too(model_server: ModelServer) -> None:
    """A budget in dollars refuses what it cannot pay; a model without a price is refused."""
    plan = BudgetPlan(total_tokens=1_000_000, total_usd=0.0001, on_exceed="raise")
    model = optimize(model_server.chat_openai(model="gpt-4.1"), plan)
    with plan.run(), pytest.raises(BudgetExceededError):
        model.invoke("word " * 2_000)

    assert [] == model_server.requests


def test_tool_loops_are_one_line(model_server: ModelServer) -> None:
    """All turns of an agent are paid from one account."""
    model_server.script(Reply(tool_calls=[ToolCall("lookup", {"word": "x"})]), "Done.")
    plan = BudgetPlan(total_tokens=10_000, agents={"default": {"tokens": 5_000}})
    model = optimize(model_server.chat_openai(), plan).bind_tools([lookup])
    with plan.run() as run:
        first = model.invoke("Go")
        call = first.tool_calls[0]
        model.invoke([HumanMessage("Go"), first, ToolMessage("x", tool_call_id=call["id"])])
    line = run.report().agents["default"].account

    assert 2 == line.calls
    assert sum(usage.total_tokens for usage in model_server.billed) == line.spent_tokens


def test_a_function_is_an_alert_too():
    """It hears what a ``BudgetAlert`` of it would."""
    heard = []
    plan = BudgetPlan(total_tokens=1_000)
    model = fake_chat("_generate", answers=[FakeAnswer("Hi.", Usage(600, 100))])
    with plan.run(alert=heard.append):
        optimize(model, plan).invoke("Hello.")
    assert [type(event) for event in heard] == [BudgetEvent]
    with pytest.raises(TypeError, match="function"):
        plan.run(alert=5)


def test_the_report_tells_the_dollars_of_a_run():
    plan = BudgetPlan(total_tokens=10_000, total_usd=1)
    model = fake_chat("_generate", answers=[FakeAnswer("Hi.", Usage(990, 10))], model="m")
    prices = RateCard({"models": {"m": {"input": 150, "output": 150}}})
    with plan.run(rate_card=prices) as run:
        optimize(model, plan).invoke("Hello.")
    assert "$0.1500 of $1.00 spent" in str(run.report())
    assert "spent" not in BudgetPlan(total_tokens=10).run().report().account.money()
