"""Slips of first use: each is caught at once, by a sentence that says what to write instead."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache

import langchain_tokenopt
from langchain_tokenopt import (
    AutoTune,
    BudgetPlan,
    BudgetRun,
    Ledger,
    PromptCompressor,
    QualityGuard,
    SemanticCache,
    TokenUsageCallbackHandler,
    ToolLimits,
    ToolSelector,
    WordLimit,
    budget_graph,
    budgeted,
    optimize,
    stage_all,
    token_scope,
    track_usage,
)
from langchain_tokenopt.stage import Stage
from tests.support.fakes import FakeAnswer, fake_chat
from tests.support.ledger_records import record


class Kept:
    """A sink."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def record(self, event: Any) -> None:
        self.events.append(event)


def model() -> Any:
    return fake_chat(answers=[FakeAnswer("Four.")] * 4)


def plan() -> BudgetPlan:
    return BudgetPlan(total_tokens=9_000)


def entered(context: Any) -> Any:
    with context as inside:
        return inside


SLIPS: dict[str, tuple[Callable[[], object], str]] = {
    "a list of stages": (lambda: optimize(model(), [WordLimit(9)]), r"optimize\(model, \*stages\)"),
    "the model second": (lambda: optimize(WordLimit(9), model()), "the model comes first"),
    "a name of a model": (lambda: optimize("gpt-4o", WordLimit(9)), "init_chat_model"),
    "a class of a model": (lambda: optimize(type(model()), WordLimit(9)), "is a class"),
    "a sink as stage": (lambda: optimize(model(), Kept()), r"track_usage\(sinks=\[ledger\]\)"),
    "a handler as stage": (lambda: optimize(model(), TokenUsageCallbackHandler()), "callbacks"),
    "a run as stage": (lambda: optimize(model(), plan().run()), r"optimize\(model, plan\)"),
    "a number as stage": (lambda: optimize(model(), 150), r"WordLimit\(60\)"),
    "a stage by name": (lambda: optimize(model(), cache=InMemoryCache()), "takes no 'cache'"),
    "words by name": (lambda: WordLimit(words=60), "Did you mean max_words"),
    "words as text": (lambda: WordLimit("60"), "whole number"),
    "a second value": (lambda: WordLimit(60, "stop"), "on_exceed="),
    "a share for a number": (lambda: PromptCompressor(0.5), "whole number"),
    "embeddings as text": (lambda: SemanticCache(embeddings="openai"), r"OpenAIEmbeddings\(\)"),
    "tools' embeddings": (lambda: ToolSelector(embeddings="openai"), r"OpenAIEmbeddings\(\)"),
    "a class of embeddings": (lambda: SemanticCache(embeddings=Kept), "is a class"),
    "seconds as text": (lambda: SemanticCache(semantic=False, ttl_seconds="60"), "a number"),
    "an old name of ttl": (lambda: SemanticCache(ttl=60), "Did you mean ttl_seconds"),
    "a number for a file": (lambda: SemanticCache(300, semantic=False), "name of a file"),
    "a number for a ledger": (lambda: Ledger(5), "name of a file"),
    "a user as sinks": (lambda: TokenUsageCallbackHandler("ada"), "user="),
    "a path as sinks": (lambda: entered(track_usage(sinks="l.db")), r"\[Ledger\("),
    "a path among sinks": (lambda: entered(track_usage(sinks=["l.db"])), r"Ledger\('l.db'\)"),
    "a class among sinks": (lambda: entered(track_usage(sinks=[Ledger])), "is a class"),
    "a ledger by name": (lambda: TokenUsageCallbackHandler(ledger=Kept()), "It takes sinks"),
    "a user first": (lambda: token_scope("ada"), "user="),
    "a plan's class": (lambda: entered(token_scope(plan=BudgetPlan)), "is a class"),
    "tokens as plan": (lambda: entered(token_scope(plan=900)), r"BudgetPlan\(total_tokens="),
    "an alert alone": (lambda: entered(token_scope(alert=print)), "plan=BudgetPlan"),
    "a plan of tokens": (lambda: BudgetPlan(4_000), "total_tokens="),
    "a plan misspelt": (lambda: BudgetPlan(total_token=4_000), "Did you mean total_tokens"),
    "an agent misspelt": (
        lambda: BudgetPlan(total_tokens=900, agents={"news": {"token": 9}}),
        r"agents\.news\.token: unknown key.*Did you mean tokens",
    ),
    "agents as list": (lambda: BudgetPlan(total_tokens=9, agents=["news"]), "agents: .*dictionary"),
    "another name of alert": (lambda: plan().run(on_alert=print), "Did you mean alert"),
    "a budget of tokens": (lambda: budgeted(print, 900), r"BudgetPlan\(total_tokens="),
    "a graph second": (lambda: budget_graph(plan(), None), "needs a StateGraph"),
    "calls as text": (lambda: ToolLimits(max_calls="3"), "max_calls: .*integer, got '3'"),
    "limits misspelt": (lambda: ToolLimits(max_call=3), "Did you mean max_calls"),
}  # fmt: skip


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_a_sentence_with_the_fix(slip, tmp_path, monkeypatch):
    """One line, short enough to be read, that says what to write."""
    monkeypatch.chdir(tmp_path)
    make, said = SLIPS[slip]
    with pytest.raises((TypeError, ValueError), match=said) as caught:
        make()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    assert list(tmp_path.iterdir()) == []  # and nothing was made


def public(with_parameter: str = "") -> Iterator[Any]:
    for name in langchain_tokenopt.__all__:
        found = getattr(langchain_tokenopt, name)
        if not callable(found):
            continue
        try:
            parameters = inspect.signature(found).parameters
        except ValueError:  # of a protocol or an error
            continue
        if not with_parameter or with_parameter in parameters:
            yield pytest.param(found, id=name)


STAGES = [
    one for one in public() if isinstance(one.values[0], type) and isinstance(one.values[0], Stage)
]


@pytest.mark.parametrize("stage", [*STAGES, BudgetPlan, InMemoryCache])
def test_every_stage_without_parentheses_is_caught(stage):
    """Its class has all that a stage needs, and is none."""
    for put in (
        lambda: optimize(model(), stage),
        lambda: stage_all(stage),
        lambda: entered(token_scope(cache=stage)),
    ):
        with pytest.raises(TypeError, match=rf"{stage.__name__}\(\.\.\.\)"):
            put()


@pytest.mark.parametrize("takes_sinks", [*public(with_parameter="sinks")])
def test_a_single_sink_is_caught_everywhere(takes_sinks):
    """Whatever takes sinks takes a list of them, and says so."""
    if takes_sinks is BudgetRun:  # made by plan.run()
        takes_sinks = plan().run
    parameters = inspect.signature(takes_sinks).parameters
    needed = {"max_tokens": 9, "total_tokens": 9}
    needed |= {"stages": WordLimit(9)} if takes_sinks is QualityGuard else {}
    needed |= {"stage": WordLimit(9), "bounds": (5, 9)} if takes_sinks is AutoTune else {}
    given = {name: value for name, value in needed.items() if name in parameters}
    with pytest.raises(TypeError, match=r"sinks=\[<"):
        entered(takes_sinks(sinks=Kept(), **given))


@pytest.mark.parametrize(
    "since",
    ["7d", "today", "2026-11-01", "2026-11-01T09:30", date(2026, 11, 1), timedelta(weeks=99)],
)
def test_a_ledger_takes_times_as_people_write_them(since, tmp_path):
    """As the command line does."""
    with Ledger(tmp_path / "ledger.db") as ledger:
        ledger.record(record(started_at=datetime.now(UTC)))
        assert ledger.totals(since=since).calls == 1
        assert sum(one.calls for one in ledger.by("user", since=since).values()) == 1
        assert ledger.totals(until=since).calls == (since == "today")


@pytest.mark.parametrize("since", ["soon", "7", "2026-13-01", "", 7.0])
def test_what_is_no_time_is_a_sentence(since, tmp_path):
    """Text that means nothing is refused, a number too."""
    with (
        Ledger(tmp_path / "ledger.db") as ledger,
        pytest.raises((ValueError, TypeError), match="7d"),
    ):
        ledger.totals(since=since)


@pytest.mark.parametrize("given", [("user,agent",), (["user", "agent"],), ("user agent",)])
def test_several_dimensions_are_given_one_by_one(given, tmp_path):
    """The sentence is the call to make."""
    with Ledger(tmp_path / "ledger.db") as ledger:
        with pytest.raises(ValueError, match=r"by\('user', 'agent'\)"):
            ledger.by(*given)
        with pytest.raises(ValueError, match=r"Did you mean thread_id\?"):
            ledger.by("thread")
