"""Levels, and which parts stand around what."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import pytest
from langchain.chat_models import init_chat_model
from langchain_core.caches import InMemoryCache
from langchain_core.language_models import FakeListLLM
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableLambda
from langgraph.graph import START, MessagesState, StateGraph

from langchain_tokenopt import (
    BudgetPlan,
    PromptCompressor,
    SemanticCache,
    ToolSelector,
    WordLimit,
    optimize,
    optimize_agent,
    stages_of,
    track_usage,
)
from langchain_tokenopt.chat_model.staged_call import seam_of
from langchain_tokenopt.core.levels import LEVELS, PARTS
from langchain_tokenopt.testing import ExtractiveChatModel
from tests.support.forty_tools import FORTY

PLAN = BudgetPlan(total_tokens=5_000)
ASKED = "<notes>It rained all day. Ada won by a minute.</notes>\n\nWho won?"


def _graph() -> Any:
    graph = StateGraph(MessagesState)
    graph.add_node("say", lambda state: {"messages": ExtractiveChatModel().invoke("Is it?")})
    return graph.add_edge(START, "say").compile()


def _kinds(model: Any) -> list[str]:
    return [type(stage).__name__ for stage in seam_of(model).stages]


# Levels


@pytest.mark.parametrize("level", LEVELS)
def test_a_level_is_the_same_everywhere(level: Any) -> None:
    """Of optimize, of the whole path, and of the compressor alone."""
    names = [stage.fingerprint for stage in stages_of(level)]

    for model in (
        optimize(ExtractiveChatModel(), level=level),
        optimize_agent(ExtractiveChatModel(), level=level),
    ):
        assert [stage.fingerprint for stage in seam_of(model).stages] == names

    alone = PromptCompressor(level=level)
    if level != "none":
        assert alone.fingerprint in names


def test_none_changes_no_byte() -> None:
    """There is not even a stage."""
    model = optimize_agent(ExtractiveChatModel(), level="none")
    assert _kinds(model) == []
    assert model.invoke(ASKED).text == ExtractiveChatModel().invoke(ASKED).text


def test_every_part_has_a_setting_at_every_level() -> None:
    """And an argument that sets it."""
    assert all(set(part.settings) == set(LEVELS) for part in PARTS)
    given = dict.fromkeys((part.name for part in PARTS if part.name != "plan"), False)
    assert _kinds(optimize_agent(ExtractiveChatModel(), level="maximum", **given)) == []


def test_an_own_stage_stands_in_the_place_of_the_levels() -> None:
    """Given to optimize, in front, or by name."""
    for model in (
        optimize(ExtractiveChatModel(), WordLimit(5), level="maximum"),
        optimize_agent(ExtractiveChatModel(), WordLimit(5), level="maximum"),
        optimize_agent(ExtractiveChatModel(), limits=WordLimit(5), level="maximum"),
        optimize_agent(optimize(ExtractiveChatModel(), WordLimit(5)), level="maximum"),
    ):
        (limit,) = (stage for stage in seam_of(model).stages if isinstance(stage, WordLimit))
        assert limit.limit.words == 5


@pytest.mark.parametrize(
    ("given", "kinds"),
    [
        ({"tools": True}, ["PricedToolSelector"]),
        ({"tools": {"max_tools": 3}}, ["ToolSelector"]),
        ({"context": {"max_tokens": 500}}, ["ContextCompressor"]),
        ({"context": True}, ["KeptContext"]),
        ({"compression": {"max_tokens": 500}}, ["PromptCompressor"]),
        ({"limits": {"max_words": 5}}, ["WordLimit"]),
        ({"cache": True}, ["SemanticCache"]),
        ({"cache": InMemoryCache()}, ["HostCache"]),
        ({"plan": PLAN}, ["BudgetStage"]),
    ],
)
def test_parts_are_switched_on_by_name(given: Any, kinds: list[str]) -> None:
    """At a level that has nothing else."""
    assert _kinds(optimize_agent(ExtractiveChatModel(), level="none", **given)) == kinds


def test_arguments_go_over_those_of_the_level() -> None:
    """And leave its others."""
    model = optimize_agent(
        ExtractiveChatModel(),
        level="maximum",
        tools={"max_tools": 3},
        compression={"max_tokens": 90},
    )
    tools, _, compressor, _ = seam_of(model).stages
    assert isinstance(tools, ToolSelector)
    assert (tools.max_tools, tools.slim) == (3, True)
    assert isinstance(compressor, PromptCompressor)
    assert (compressor.max_tokens, compressor.keep) == (90, None)


def test_the_default_cache_serves_nobody_else() -> None:
    """Only who is named, and only what was asked in these words."""
    model = optimize_agent(ExtractiveChatModel(), cache=True)
    with track_usage() as usage:
        for user in ("ann", "ann", "bob", None, None):
            metadata = {} if user is None else {"user_id": user}
            model.invoke("Is Ada here? Ada is here.", {"metadata": metadata})
    assert [record.cached for record in usage.records] == [False, True, False, False, False]


# Mistakes


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda m: optimize_agent(m, level="much"), ValueError, "level must be one of none"),
        (lambda m: optimize_agent(m, plan=5_000), TypeError, "a plan is needed"),
        (lambda m: optimize_agent(m, PLAN), TypeError, "plan=plan"),
        (lambda m: optimize_agent(m, tools=WordLimit(3)), TypeError, "that is limits="),
        (lambda m: optimize_agent(m, tools="few"), TypeError, r"tools='few' says nothing: give"),
        (lambda m: optimize_agent(m, limits=True), TypeError, "limits=True says too little"),
        (lambda m: optimize_agent(m, routing=True), TypeError, "routing=True says too little"),
        (lambda m: optimize_agent(m, tools={"most": 3}), TypeError, "most"),
        (lambda m: optimize_agent(m, run={"path": "b.db"}), ValueError, "plan=BudgetPlan"),
        (
            lambda m: optimize_agent(m, WordLimit(3), limits=WordLimit(4)),
            ValueError,
            "two stages of the kind WordLimit",
        ),
        (
            lambda m: optimize_agent(m, InMemoryCache(), cache=SemanticCache(semantic=False)),
            ValueError,
            "CACHE",
        ),
        (lambda m: optimize_agent(m, budget=PLAN), TypeError, "budget"),
        (lambda m: optimize_agent("gpt-4o"), TypeError, "init_chat_model"),
        (lambda m: optimize_agent(FakeListLLM(responses=["a"])), TypeError, "stage_all"),
        (lambda m: optimize_agent(RunnableLambda(len)), TypeError, "stage_all"),
        (lambda m: optimize_agent(StateGraph(MessagesState)), TypeError, r"graph\.compile\(\)"),
        (lambda m: optimize_agent(ExtractiveChatModel), TypeError, "class"),
    ],
)
def test_mistakes_are_named_at_once(make: Any, error: type[Exception], says: str) -> None:
    """In a sentence with the fix."""
    with pytest.raises(error, match=says):
        make(ExtractiveChatModel())


@pytest.mark.parametrize(
    "again",
    [
        lambda made: made,
        lambda made: made.with_config(tags=["x"]),
        lambda made: made.with_retry(),
        copy.copy,
    ],
)
@pytest.mark.parametrize("make", [ExtractiveChatModel, _graph])
def test_twice_is_an_error_that_says_so(make: Any, again: Any) -> None:
    """Also of what was made of it."""
    made = optimize_agent(make())
    with pytest.raises(ValueError, match="went through optimize_agent already"):
        optimize_agent(again(made))


# What is returned


def test_models_of_any_form_keep_it(model_server: Any) -> None:
    """Bindings and configurable models, too."""
    bound = ExtractiveChatModel().bind(stop=["never"])
    made = optimize_agent(bound, limits={"max_words": 3})
    assert type(made) is type(bound)
    assert made.invoke(ASKED).text == "Ada won by"
    configurable = init_chat_model(
        "gpt-4o",
        model_provider="openai",
        base_url=f"{model_server.url}/v1",
        api_key="x",
        configurable_fields=("temperature",),
    )
    staged = optimize_agent(configurable, level="aggressive")
    assert type(staged).__name__ == type(configurable).__name__
    staged.bind_tools(FORTY).invoke("Find the invoice of May.")
    assert len(model_server.requests[-1].body["tools"]) < 20


def test_explain_says_what_runs_and_how_to_switch_it_off(capsys: Any) -> None:
    """Of models, bindings and graphs alike; printed, and returned."""
    for agent in (ExtractiveChatModel(), ExtractiveChatModel().bind(stop=["x"]), _graph()):
        made: Any = optimize_agent(agent, level="maximum", context=False, plan=PLAN)
        explained = made.explain()
        text = capsys.readouterr().out
        assert str(explained) in text
        states = {part.name: (part.is_on, part.switch) for part in explained.parts}
        assert states == {
            "cache": (False, "cache=True"),
            "tools": (True, "tools=False"),
            "context": (False, "context=True"),
            "compression": (True, "compression=False"),
            "routing": (False, "routing={...}"),
            "limits": (True, "limits=False"),
            "plan": (True, "plan=None"),
        }
        for words in ("level: maximum", "you have switched it off", "5,000 tokens per run"):
            assert words in text
    assert not hasattr(optimize(ExtractiveChatModel()), "explain")


def test_balanced_sets_nothing_aside_that_cannot_be_fetched() -> None:
    """A model that calls no tools sees everything, unless it does not fit."""

    class Deaf(ExtractiveChatModel):
        seen: ClassVar[list[int]] = []

        def _generate(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
            self.seen.append(sum(len(message.text) for message in messages))
            return super()._generate(messages, *args, **kwargs)

    talk: list[Any] = [HumanMessage("Which of the gates fails?")]
    for n in range(4):
        call = {"name": "read_log", "args": {"gate": n}, "id": f"c{n}"}
        talk += [AIMessage("", tool_calls=[call])]
        talk += [
            ToolMessage(f"Log of gate {n}: " + "502 Bad Gateway, " * 200, tool_call_id=f"c{n}")
        ]
    size = sum(len(message.text) for message in talk)
    optimize_agent(Deaf(), tools=False).invoke(talk)
    optimize_agent(Deaf(), context={"price_profile": "none"}).invoke(talk)
    small = Deaf(profile={"max_input_tokens": 2_000})
    optimize_agent(small).invoke(talk)
    whole, own, fitting = Deaf.seen
    assert whole == size
    assert own < size / 2
    assert fitting < 2_000 * 6
