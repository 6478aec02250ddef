"""Laws of data requests, over generated needs, knowledge and answers."""

from __future__ import annotations

import json
import re
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_tokenopt import DataCollected, DataNeed, DataRequester, track_usage
from langchain_tokenopt.data_requests import Fact, Gap
from langchain_tokenopt.data_requests.units import quantities_in
from tests.support.fakes import FakeAnswer, fake_chat

pytestmark = pytest.mark.exhaustive

NAMES = [
    f"{first} {second}" for first in ("start", "end", "Max") for second in ("city", "day", "no")
]
WORDS = ["Rome", "OSLO", "new york", "北京", "Zürich", "a view", "blue", "São Paulo", "12b", "x"]
SPELLINGS = [
    str,
    str.upper,
    lambda name: name.replace(" ", "_"),
    lambda name: name.replace(" ", "-").title(),
    lambda name: "".join(part.capitalize() for part in name.split()),
]
REFUSALS = ["I don't know", "n/a", "keine Ahnung", "no lo sé", "不知道", "", None]

names = st.lists(st.sampled_from(NAMES), min_size=1, max_size=7, unique=True)
importances = st.sampled_from(["essential", "supporting", "enriching"])
strategies = st.sampled_from(["auto", "simple", "chunked", "progressive", "critical"])
spelt = st.sampled_from(SPELLINGS)
values = st.one_of(st.sampled_from(WORDS), st.integers(0, 10**6).map(str))


@st.composite
def needed(draw):
    return [
        DataNeed(name, importance=draw(importances), type=draw(st.sampled_from([str, int, float])))
        for name in draw(names)
    ]


class Answering:
    """Answers each question with what was drawn, and checks that it may be asked."""

    def __init__(self, draw, needs, known, free):
        self.draw, self.needs, self.known, self.free = draw, needs, set(known), free
        self.asked = []

    def __call__(self, question):
        assert question.names
        assert not set(question.names) & (self.known | set(self.asked)), "asked for what it knows"
        for need in question.needs:
            assert need.question in question
        self.asked += question.names
        answer = {}
        for need in self.draw(st.lists(st.sampled_from(self.needs), max_size=4)):
            said = self.draw(st.one_of(values, st.sampled_from(REFUSALS)))
            answer[self.draw(spelt)(need.name)] = said
            self.known |= {need.name} if said not in REFUSALS and _is_value(need, said) else set()
        if self.free:
            return "Well, " + "; ".join(f"{name} is {said}" for name, said in answer.items())
        return json.dumps(answer)


def _is_value(need, said):
    return need.type is str or said.isdecimal()


@settings(max_examples=150, deadline=None)
@given(st.data(), needed(), strategies, st.booleans())
def test_what_is_known_is_not_asked_for_and_the_rest_has_a_reason(data, needs, strategy, as_json):
    given_names = data.draw(st.lists(st.sampled_from(needs), max_size=3))
    known = {data.draw(spelt)(need.name): "7" for need in given_names}
    ask = Answering(data.draw, needs, [need.name for need in given_names], free=False)
    requester = DataRequester(needs=needs, ask=ask, strategy=strategy, chunk=2)
    collected = requester.invoke({"request": "Plan my trip", "known": known})
    every = {need.name for need in needs}
    assert set(collected.values) | set(collected.missing) == every
    assert not set(collected.values) & set(collected.missing)
    assert all(collected.missing.values())
    lacks = {n.name for n in needs if n.importance == "essential"} & set(collected.missing)
    assert collected.complete is not bool(lacks)
    if strategy != "critical":
        assert every - set(ask.asked) <= set(collected.values)
    order = [need.importance for name in ask.asked for need in needs if need.name == name]
    assert order == sorted(order, key=["essential", "supporting", "enriching"].index)


@settings(max_examples=100, deadline=None)
@given(st.data(), needed(), strategies)
def test_every_value_stands_in_the_answer_whatever_a_model_claims(data, needs, strategy):
    ask = Answering(data.draw, needs, (), free=True)
    texts = []

    def answer(question):
        texts.append(ask(question) if False else _free(data.draw, needs))
        return texts[-1]

    claims = [
        FakeAnswer(json.dumps({need.name: data.draw(values) for need in needs})) for _ in range(12)
    ]
    model = fake_chat(answers=claims)
    requester = DataRequester(
        model, needs=needs, ask=answer, strategy=strategy, chunk=2, read_request=False
    )
    with track_usage() as usage:
        collected = requester.invoke("Plan my trip")
    for fact in collected.facts:
        source = texts[int(re.search(r"answer (\d+)", fact.source)[1]) - 1]
        assert fact.said in source
        if isinstance(fact.value, str):
            assert fact.value in source
        else:
            assert any(Decimal(str(fact.value)) in one.readings for one in quantities_in(source))
    assert collected.total_tokens == usage.totals().total_tokens
    assert (
        sum(stage.calls for stage in collected.stages) == usage.totals().calls == len(model.calls)
    )


def _free(draw, needs):
    said = draw(st.lists(values, min_size=1, max_size=4))
    return "Well, I would say " + ", perhaps ".join(said) + " and so on."


facts = st.builds(
    Fact,
    name=st.sampled_from(["a", "b", "c"]),
    value=st.sampled_from(["Rome", "rome ", "Oslo", 3, 3.0, 4]),
    source=st.sampled_from(["known", "answer 1", "answer 2"]),
    order=st.integers(0, 3),
)
gaps = st.builds(
    Gap,
    name=st.sampled_from(["a", "b", "c"]),
    reason=st.sampled_from(["it was not told", "no number"]),
    order=st.integers(0, 3),
)
WANTED = {"a": "essential", "b": "supporting", "c": "enriching"}
collections = st.builds(
    lambda facts, gaps: DataCollected.of(WANTED, facts, gaps),
    st.lists(facts, max_size=5),
    st.lists(gaps, max_size=3),
)


@settings(max_examples=300, deadline=None)
@given(collections, collections, collections)
def test_merging_is_a_union(one, two, three):
    """Idempotent, and in any order the same."""
    assert one.merge(one) == one
    assert one.merge(two) == two.merge(one)
    assert one.merge(two).merge(three) == one.merge(two.merge(three))
    assert one.merge(two).merge(one) == one.merge(two)
    merged = one.merge(two)
    assert {fact.name for fact in merged.facts} == set(merged.values)
    for conflict in merged.conflicts:
        assert len(conflict.values) > 1
        assert conflict.kept == merged.values[conflict.name]


@settings(max_examples=200, deadline=None)
@given(st.lists(facts, min_size=1, max_size=6), st.data())
def test_only_a_correction_changes_a_value(said, data):
    """Whatever is added later, the value stays, unless what is added says that it corrects."""
    collected = DataCollected.of(WANTED, said)
    name = data.draw(st.sampled_from(sorted(collected.values)))
    later = Fact(name=name, value="Lima", source="answer 9", order=9)
    kept = collected.merge(DataCollected.of(WANTED, [later]))
    assert kept.values == collected.values
    assert "Lima" in [one.value for c in kept.conflicts if c.name == name for one in c.values]
    corrected = collected.merge(
        DataCollected.of(WANTED, [later.model_copy(update={"corrects": True})])
    )
    assert corrected.values == collected.values | {name: "Lima"}
    assert name not in [conflict.name for conflict in corrected.conflicts]
