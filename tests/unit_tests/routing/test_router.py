"""What the router decides, and what it refuses to be made of."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage

from langchain_tokenopt import (
    BudgetPlan,
    Complexity,
    ModelRouter,
    Route,
    TokenOptWarning,
    optimize,
)
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.routing.complexity import features_of
from tests.support.fakes import fake_chat

EASY = "What is the capital of France?"
HARD = "Analyse why the deployment fails, compare 3 ways to repair it, and plan each step."
URGENT = "Urgent: production is down. Compare the ways out and tell me why each would work."
ABLE = {
    "max_input_tokens": 100_000, "max_output_tokens": 16_384, "tool_calling": True,
    "structured_output": True, "image_inputs": True,
}  # fmt: skip
SCHEMA = {"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}


def models(*names: str, **profiles: dict[str, Any]) -> dict[str, Any]:
    """Models of tiers, which can do all but what their profile says otherwise."""
    names = names or ("cheap", "strong")
    return {
        name: fake_chat("_stream", model=name, profile={**ABLE, **profiles.get(name, {})})
        for name in names
    }


def tier(router: ModelRouter, asked: Any, **more: Any) -> str:
    return router.explain(asked, **more).tier


# --- complexity


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (EASY, Complexity.SIMPLE),
        ("hey, how are you today? :)", Complexity.SIMPLE),
        (HARD, Complexity.COMPLEX),
        (URGENT, Complexity.CRITICAL),
        ("Dringend: der Server steht, warum?", Complexity.COMPLEX),
        ("Bu acil değil: kedinin adı ne?", Complexity.SIMPLE),
        ("Nothing urgent: a name for a cat?", Complexity.SIMPLE),
    ],
)
def test_complexity_is_what_the_text_shows(text: str, expected: Complexity) -> None:
    """In several languages; urgency that is denied is none."""
    assert expected <= features_of([HumanMessage(text)]).complexity
    if expected is Complexity.SIMPLE:
        assert features_of([HumanMessage(text)]).complexity is expected


@pytest.mark.parametrize(
    ("easy", "hard"),
    [
        (
            "Jaka jest stolica Francji?",
            "Porównaj 3 plany, udowodnij krok po kroku, uzasadnij wybór.",
        ),
        ("Fransa'nın başkenti neresi?", "Üç planı karşılaştır, adım adım kanıtla, tahmin et."),
        ("Qual è la capitale?", "Confronta 3 piani, stima i costi e giustifica la scelta."),
        ("भारत की राजधानी क्या है?", "तीन योजनाओं की तुलना करें, सिद्ध करें, लागत का अनुमान लगाएं, क्यों?"),
        ("เมืองหลวงคืออะไร", "เปรียบเทียบสามแบบ พิสูจน์ทีละขั้นตอน ประมาณต้นทุน และให้เหตุผล"),
    ],
)
def test_hard_requests_are_harder_than_easy_ones_in_other_languages(easy: str, hard: str) -> None:
    """Marks of thought are known in scripts without spaces, or with marks for vowels, too."""
    assert Complexity.SIMPLE is features_of([HumanMessage(easy)]).complexity
    assert features_of([HumanMessage(hard)]).complexity > Complexity.SIMPLE


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([EASY, HARD, URGENT, "", "x = 1", "\ud83d", "a" * 5_000]), max_size=4)
)
def test_more_attempts_tools_and_media_never_make_a_request_easier(texts: list[str]) -> None:
    """Each feature only adds; difficulty and complexity rise together."""
    messages = [HumanMessage(text) for text in texts]
    before = features_of(messages)
    for more in ({"attempts": 1}, {"tools": 9}, {"media": 1}, {"structured": True}):
        after = features_of(messages, **more)  # type: ignore[arg-type]
        assert after.difficulty >= before.difficulty
        assert after.complexity >= before.complexity
    assert 0 <= before.difficulty < 1


def test_a_document_is_not_what_is_asked() -> None:
    """A long text with a short question is no hard question."""
    document = (
        "The bridge was built in 1874, and why it fell nobody knows; compare 3 reports. " * 200
    )
    asked = [HumanMessage(f"<report>{document}</report>\n\nWho built it?")]
    assert features_of(asked).complexity <= Complexity.MEDIUM
    apart = [HumanMessage(f"{document}\n\nWho built it?")]
    assert features_of(apart).complexity <= Complexity.MEDIUM


def test_answers_that_were_sent_back_and_failed_tools_are_attempts() -> None:
    """As the conversation says."""
    talk = [HumanMessage("Rename id to key."), AIMessage("id"), HumanMessage("That is wrong.")]
    assert 1 == features_of(talk).attempts
    call = AIMessage("", tool_calls=[{"name": "find", "args": {}, "id": "1"}])
    failed = ToolMessage("no", tool_call_id="1", status="error")
    assert 1 == features_of([HumanMessage("Find x."), call, failed]).attempts


# --- policies


def test_policies_are_ordered_for_every_request() -> None:
    """Cheap never asks a stronger one than balanced, nor that one than strong; numbers likewise."""
    names = ("a", "b", "c", "d")
    for policies in (("cheap", "balanced", "strong"), (0, 0.2, 0.5, 0.8, 1.0)):
        routers = [ModelRouter(models(*names), policy=policy) for policy in policies]
        for text in (EASY, HARD, URGENT, "Why?", "Compute 3 + 4 and 5 * 6."):
            chosen = [names.index(tier(router, text)) for router in routers]
            assert sorted(chosen) == chosen
    assert "a" == tier(ModelRouter(models(*names), policy=0), URGENT)
    assert "d" == tier(ModelRouter(models(*names), policy=1.0), EASY)


def test_a_function_decides_and_the_strongest_where_it_cannot() -> None:
    """It is given what is proposed; ``None`` agrees."""
    seen: list[Route] = []

    def mine(route: Route) -> str:
        seen.append(route)
        return "cheap"

    assert "cheap" == tier(ModelRouter(models(), policy=mine), URGENT)
    assert "strong" == seen[0].tier
    assert "strong" == tier(ModelRouter(models(), policy=lambda route: None), URGENT)
    with pytest.warns(TokenOptWarning, match="ZeroDivisionError"):
        assert "strong" == tier(ModelRouter(models(), policy=lambda route: 1 / 0), EASY)
    with pytest.warns(TokenOptWarning, match="'chaep', which is no tier"):
        assert "strong" == tier(ModelRouter(models(), policy=lambda route: "chaep"), EASY)


def test_a_role_has_a_least_tier_or_a_least_and_a_most() -> None:
    """Others are free."""
    roles = {"judge": "strong", "clerk": ("cheap", "cheap")}
    router = ModelRouter(models(), roles=roles)  # type: ignore[arg-type]
    assert "strong" == tier(router, EASY, agent="judge")
    assert "cheap" == tier(router, URGENT, agent="clerk")
    assert ("cheap", "strong") == (tier(router, EASY), tier(router, URGENT, agent="other"))


def test_a_budget_that_runs_low_asks_cheaper_ones() -> None:
    """One down beyond the soft limit, the cheapest where it ends; the role's least stays."""
    router = ModelRouter(models("a", "b", "c"), policy=1.0, roles={"judge": "b"})
    plan = BudgetPlan(total_tokens=10_000, soft_limit=0.8)
    chosen = []
    for spent in (1_000, 8_100, 9_000):
        with plan.run() as run:
            hold = run.account.reserve("writer", spent, 0)
            run.account.settle(hold, Usage(spent, 0))  # type: ignore[arg-type]
            chosen.append((tier(router, EASY), tier(router, EASY, agent="judge")))
    assert [("c", "c"), ("b", "b"), ("a", "b")] == chosen


# --- needs


@pytest.mark.parametrize(
    ("lacks", "messages", "tools"),
    [
        ({"tool_calling": False}, [HumanMessage(EASY)], [SCHEMA]),
        ({"image_inputs": False}, [HumanMessage([{"type": "image", "url": "x://y"}])], []),
        ({"max_input_tokens": 1_000}, [HumanMessage("word " * 2_000)], []),
        (
            {"audio_inputs": False},
            [HumanMessage([{"type": "audio", "base64": "aGk=", "mime_type": "audio/wav"}])],
            [],
        ),
    ],
    ids=["tools", "images", "window", "sound"],
)
def test_a_model_that_lacks_what_is_needed_is_not_asked(
    lacks: dict[str, Any], messages: list[Any], tools: list[Any]
) -> None:
    """Whatever the policy; in later turns as well."""
    there = models(cheap=lacks, strong={"audio_inputs": True})
    router = ModelRouter(there, policy=0)
    assert "cheap" == tier(router, EASY)
    assert "strong" == tier(router, messages, tools=tools)
    later = [*messages, AIMessage("Yes."), HumanMessage("Thanks!")]
    assert "strong" == tier(router, later, tools=tools)


def test_a_request_that_no_tier_can_answer_goes_on_as_it_was() -> None:
    """With one warning, and the caller's own model."""
    there = models(cheap={"image_inputs": False}, strong={"image_inputs": False})
    own = fake_chat(model="own")
    model = optimize(own, ModelRouter(there))
    with pytest.warns(TokenOptWarning, match="cheap lacks image inputs") as said:
        for _ in range(2):
            model.invoke([HumanMessage([{"type": "image", "url": "x://y"}])])
    assert (1, 2) == (len(said), len(own.calls))
    assert not there["cheap"].calls + there["strong"].calls


def test_a_call_that_names_its_model_is_left_alone() -> None:
    """So is one that only observes."""
    there, own = models(), fake_chat(model="own")
    optimize(own, ModelRouter(there)).bind(model="other").invoke(EASY)
    optimize(own, ModelRouter(there), observe=True).invoke(EASY)
    assert 2 == len(own.calls)


@pytest.mark.parametrize("asked", ["", [], [SystemMessage("Be kind.")], "x" * 200_000])
def test_odd_requests_have_a_route(asked: Any) -> None:
    """Nothing raises."""
    assert tier(ModelRouter(models()), asked) in ("cheap", "strong")


# --- allowances


@pytest.mark.parametrize(
    "asked", ["Write 5,000 words about ducks.", URGENT], ids=["a long text", "critical"]
)
def test_what_may_be_long_has_no_allowance(asked: str) -> None:
    """Nor has an answer of a model of which nobody has said how much it can write."""
    assert ModelRouter(models()).explain(asked).max_tokens is None
    unsaid = {name: fake_chat(model=name) for name in ("cheap", "strong")}
    assert ModelRouter(unsaid).explain(EASY).max_tokens is None


# --- made of what


def same_twice() -> dict[str, Any]:
    (model,) = models("one").values()
    return {"cheap": model, "strong": model}


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: ModelRouter({}), "at least two models"),
        (lambda: ModelRouter({"only": FakeListChatModel(responses=[])}), "at least two models"),
        (lambda: ModelRouter({"cheap": "gpt-4.1-nano", "strong": "gpt-4.1"}), "is a name"),  # type: ignore[dict-item]
        (lambda: ModelRouter({"cheap": FakeListChatModel, "strong": 5}), "is a class"),  # type: ignore[dict-item]
        (lambda: ModelRouter(same_twice()), "are the same model"),
        (lambda: ModelRouter(models()["cheap"]), "a mapping of names"),
        (lambda: ModelRouter(models(), policy="chaep"), "'chaep'"),  # type: ignore[arg-type]
        (lambda: ModelRouter(models(), policy=1.5), "from 0 .* to 1"),
        (lambda: ModelRouter(models(), policy=float("nan")), "nan"),
        (lambda: ModelRouter(models(), roles={"judge": "strongest"}), "Did you mean strong"),
        (lambda: ModelRouter(models(), roles={"judge": ("strong", "cheap")}), "least and the most"),
        (lambda: ModelRouter(models(), cascade="refusals"), "Did you mean refusal"),
        (lambda: ModelRouter(models(), cascade=42), "cascade takes"),
        (lambda: ModelRouter(models(), cascade=["refusal", dict]), "cascade takes"),
        (lambda: ModelRouter(models(), learn="no"), "learn must be"),  # type: ignore[arg-type]
        (lambda: ModelRouter(models(), polcy="cheap"), "Did you mean policy"),  # type: ignore[call-arg]
        (
            lambda: ModelRouter({**models(), "x": optimize(models()["cheap"], level="balanced")}),
            "has stages already",
        ),
    ],
)
def test_what_a_router_cannot_be_made_of_is_said(make: Any, says: str) -> None:
    """When it is made, in a sentence with the mistake in it."""
    with pytest.raises((ValueError, TypeError), match=says):
        make()


def test_tiers_are_in_the_order_of_their_prices_where_these_are_known(model_server: Any) -> None:
    """A mapping is sorted; a list stands as given, and is warned of."""
    cheap = model_server.chat_openai(model="gpt-4.1-nano")
    strong = model_server.chat_openai(model="gpt-4.1")
    assert "ModelRouter(b < a" in repr(ModelRouter({"a": strong, "b": cheap}))
    with pytest.warns(TokenOptWarning, match="cheapest first"):
        router = ModelRouter([strong, cheap])
    assert "ModelRouter(gpt-4.1 < gpt-4.1-nano" in repr(router)
    with pytest.warns(TokenOptWarning, match="No price is known for 'mine'"):
        router = ModelRouter({"mine": fake_chat(model="mine"), "b": cheap})
    assert "ModelRouter(mine < b" in repr(router)


def test_two_routers_contradict_each_other_and_copies_are_the_same() -> None:
    """There is room for one; what it has learned is shared by all copies of a model."""
    first, second = ModelRouter(models()), ModelRouter(models())
    with pytest.raises(ValueError, match="two stages"):
        optimize(fake_chat(), first, second)
    cheaper = BudgetPlan(total_tokens=1_000, cheaper_model="fake-0")
    with pytest.raises(ValueError, match="would both choose"):
        optimize(fake_chat(), first, cheaper)
    assert copy.deepcopy(first) is first
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(first)
    assert first.fingerprint == second.fingerprint != ModelRouter(models(), policy=0).fingerprint
