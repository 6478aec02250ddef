"""A collection from request to result: who is asked what, and what counts."""

from __future__ import annotations

import asyncio

import pytest
from pydantic import BaseModel, Field

from langchain_tokenopt import DataCollected, DataNeed, DataRequester, track_usage
from tests.support.fakes import FakeAnswer, fake_chat

NEEDS = [
    DataNeed("city", "city to go to"),
    DataNeed("nights", "stay in days", type=int),
    DataNeed("budget", "budget in EUR", type=float, importance="supporting"),
    DataNeed("wish", "special wishes", importance="enriching"),
]
REQUEST = "I would like to go on a holiday trip with somebody"


class Asked:
    """Answers questions in order, and remembers them."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.questions = []

    def __call__(self, question):
        self.questions.append(question)
        return self.answers.pop(0)

    @property
    def names(self):
        return [question.names for question in self.questions]


def _model(*texts):
    return fake_chat(answers=[FakeAnswer(text) for text in texts])


def test_nothing_missing_asks_nobody():
    model, ask = _model(), Asked()
    known = {"CITY": "Rome", "nights": "3 days", "Budget": "1,200 EUR", "wish": "a view"}
    collected = DataRequester(model, needs=NEEDS, ask=ask).invoke(
        {"request": REQUEST, "known": known}
    )
    assert collected.values == {"city": "Rome", "nights": 3, "budget": 1200.0, "wish": "a view"}
    assert (collected.complete, ask.questions, model.calls) == (True, [], [])


@pytest.mark.parametrize(
    ("strategy", "names"),
    [
        ("simple", [("city", "nights", "budget", "wish")]),
        ("chunked", [("city", "nights"), ("budget", "wish")]),
        ("progressive", [("city", "nights"), ("budget",), ("wish",)]),
        ("critical", [("city",)]),
        ("auto", [("city", "nights", "budget", "wish")]),
    ],
)
def test_each_strategy_asks_in_its_stages(strategy, names):
    ask = Asked(*[{} for _ in names])
    requester = DataRequester(needs=NEEDS, ask=ask, strategy=strategy, chunk=2)
    collected = requester.invoke("Plan my trip")
    assert ask.names == names
    assert [stage.asked for stage in collected.stages] == names
    assert not collected.complete


def test_what_an_answer_says_of_later_stages_is_not_asked_for():
    ask = Asked({"City": "Rome", "nights": 3, "special": 1, "wish": "sea"}, {"budget": 900})
    collected = DataRequester(needs=NEEDS, ask=ask, strategy="progressive").invoke("Plan it")
    assert ask.names == [("city", "nights"), ("budget",)]
    assert collected.complete


def test_free_text_is_read_by_the_model_and_a_value_stands_in_it():
    model = _model(
        "{}", '{"city": "Paris", "nights": "three days", "budget": 200, "wish": "a view"}'
    )
    ask = Asked("Rome, for three days, for 1,200 EUR at most, with a view")
    collected = DataRequester(model, needs=NEEDS, ask=ask).invoke(REQUEST)
    assert collected.values == {"nights": 3, "wish": "a view"}
    assert "'Paris' is not in the answer" in collected.missing["city"]
    assert "200 is not in the answer" in collected.missing["budget"]


def test_stages_have_the_tokens_that_were_tracked():
    model = _model("{}", '{"city": "Rome"}', '{"budget": "900"}', "{}")
    ask = Asked("to Rome please", "about 900, I think", "well, a view over the sea")
    with track_usage() as usage:
        collected = DataRequester(model, needs=NEEDS, ask=ask, strategy="progressive").invoke(
            REQUEST
        )
    assert [stage.name for stage in collected.stages] == [
        *("request", "essential", "supporting", "enriching")
    ]
    assert collected.total_tokens == usage.totals().total_tokens > 0
    by_agent = {agent: totals.total_tokens for agent, totals in usage.by("agent").items()}
    assert by_agent == {stage.agent: stage.total_tokens for stage in collected.stages}


@pytest.mark.parametrize(
    ("answer", "values"),
    [
        ({"nights": "3"}, {"nights": 3}),
        ('{"Nights": 3}', {"nights": 3}),
        ('```json\n{"nights": "3 days"}\n```', {"nights": 3}),
        ("nights: 3 days\ncity: Rome", {"nights": 3, "city": "Rome"}),
        ("I'd rather not say.", {}),
        (None, {}),
    ],
)
def test_plain_answers_cost_nothing(answer, values):
    model = _model()
    requester = DataRequester(model, needs=NEEDS[:2], ask=Asked(answer))
    collected = requester.invoke("Plan my trip")
    assert (collected.values, model.calls) == (values, [])
    assert set(collected.missing) == {"city", "nights"} - set(values)


def test_a_conflict_keeps_both_and_a_correction_wins():
    first = Asked({"city": "Oslo", "nights": 2})
    known = {"city": "Rome"}
    requester = DataRequester(needs=NEEDS[:2], ask=first)
    collected = requester.invoke({"request": "Plan", "known": known})
    assert collected.values == {"city": "Rome", "nights": 2}
    (conflict,) = collected.conflicts
    assert [(said.value, said.source) for said in conflict.values] == [
        ("Rome", "known"),
        ("Oslo", "answer 1 (simple)"),
    ]
    corrected = Asked({"city": "Oslo", "nights": 2, "corrects": ["city"]})
    collected = requester.invoke({"request": "Plan", "known": known, "ask": corrected})
    assert (collected.values["city"], collected.conflicts) == ("Oslo", [])


def test_a_class_gives_an_object_of_it():
    class Trip(BaseModel):
        city: str
        nights: int = Field(ge=1)
        pets: bool = False

    requester = DataRequester(needs=Trip, ask=Asked({"city": "Rome", "nights": 0}))
    collected = requester.invoke("Plan my trip")
    assert collected.value is None
    assert "greater than or equal to 1" in collected.missing["nights"]
    again = requester.invoke({"request": "Plan", "known": collected, "ask": Asked({"nights": 2})})
    assert again.value == Trip(city="Rome", nights=2)


def test_streams_give_stages_that_add_up_to_the_last():
    requester = DataRequester(needs=NEEDS, strategy="progressive")

    def answers():
        return Asked({"city": "Rome"}, {"budget": 9}, {"wish": "sea"})

    chunks = list(requester.stream({"request": "Plan", "ask": answers()}))
    assert [len(chunk.values) for chunk in chunks] == [1, 2, 3]
    total = chunks[0]
    for chunk in chunks[1:]:
        total += chunk
    assert total == chunks[-1] == requester.invoke({"request": "Plan", "ask": answers()})


def test_async_does_the_same():
    async def ask(question):
        return {"city": "Rome", "nights": 2, "budget": 3, "wish": "sea"}

    async def collect() -> tuple[DataCollected, list[DataCollected]]:
        requester = DataRequester(needs=NEEDS, ask=ask)
        streamed = [chunk async for chunk in requester.astream("Plan")]
        return await requester.ainvoke("Plan"), streamed

    collected, streamed = asyncio.run(collect())
    assert collected.complete
    assert streamed == [collected]
    with pytest.raises(TypeError, match="ask is async"):
        DataRequester(needs=NEEDS, ask=ask).invoke("Plan")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: DataRequester(strategy="fast"), 'strategy must be "auto" or "simple"'),
        (lambda: DataRequester(needs=[]), "needs name nothing"),
        (lambda: DataRequester(needs=["city", "City"]), "names of one data point"),
        (lambda: DataRequester(needs="city"), "needs are a list"),
        (lambda: DataRequester(ask=3, needs=["city"]), "ask must be a function"),
        (lambda: DataRequester(model="gpt-4o"), "model must be a chat model"),
        (lambda: DataRequester().invoke("Plan"), "nothing says what is needed"),
        (lambda: DataRequester(needs=["city"]).invoke("Plan"), "nobody can be asked here"),
        (lambda: DataRequester(needs=["city"]).invoke({"reqest": "Plan"}), "Did you mean request"),
        (lambda: DataNeed("city", type="town"), "must be a type or one of str"),
        (lambda: DataNeed("city", importance="high"), "importance must be"),
        (lambda: DataRequester(needs=["city"], known="Rome"), "known must be a mapping"),
    ],
)
def test_mistakes_are_named(make, says):
    with pytest.raises((ValueError, TypeError), match=says):
        make()


def test_a_model_without_forms_is_paid_twice_once():
    """It answers in prose: from then on it is asked for JSON at once."""
    model = _model("It is Rome.", '{"city": "Rome"}', '{"city": "Rome"}')
    requester = DataRequester(model, needs=NEEDS[:1], ask=lambda question: "Rome, of course")
    assert requester.invoke("Plan my trip").values == {"city": "Rome"}
    assert requester.invoke("Plan my trip").values == {"city": "Rome"}
    assert len(model.calls) == 3


def test_a_model_that_only_talks_is_paid_twice_once():
    model = _model(*["I cannot do that."] * 4)
    requester = DataRequester(model, needs=NEEDS[:1], ask=lambda question: "Rome, of course")
    for calls in (2, 3):
        assert requester.invoke("Plan my trip").missing == {"city": "the answer does not say it"}
        assert len(model.calls) == calls


def test_what_was_cut_off_is_read_as_far_as_it_goes():
    model = _model('{"city": "Rome", "nights": "3 da')
    requester = DataRequester(
        model, needs=NEEDS[:2], ask=lambda question: "Rome for 3 days, I think"
    )
    collected = requester.invoke("Plan my trip")
    assert (collected.values, [*collected.missing]) == ({"city": "Rome"}, ["nights"])


@pytest.mark.parametrize(
    ("answer", "values"),
    [
        ("city: Rome, nights: 3 days", {"city": "Rome", "nights": 3}),
        ("1. Rome\n2. three days", {"city": "Rome", "nights": 3}),
        ("- **City to go to:** Rome\n- **Nights:** 3", {"city": "Rome", "nights": 3}),
        (["Rome", 3], {"city": "Rome", "nights": 3}),
        ([{"name": "city", "value": "Rome"}], {}),
        ('[{"name": "city", "value": "Rome"}]', {"city": "Rome"}),
        ("city: Rome\nThe rest later", {"city": "Rome"}),
        ("Rome for 3 days", {}),
    ],
)
def test_without_a_model_what_is_plain_is_read(answer, values):
    requester = DataRequester(needs=NEEDS[:2], ask=Asked(answer))
    assert requester.invoke("Plan my trip").values == values


def test_german_is_asked_in_german_and_worded_once():
    words = '{"city": "Reiseziel", "nights": "Dauer in Tagen"}'
    model = _model("{}", words, "{}", "{}", "{}")
    ask = Asked("Das weiß ich noch nicht so genau, tut mir leid", {}, {})
    requester = DataRequester(model, needs=NEEDS[:2], ask=ask)
    request = "Bitte plane meine Reise, mit der Bahn und ohne Hektik"
    collected = requester.invoke(request)
    assert ask.questions == ["Bitte nennen Sie:\n1. Reiseziel\n2. Dauer in Tagen"]
    assert collected.missing["city"] == "it was not told: 'weiss ich noch nicht'"
    requester.invoke(request)
    assert ask.questions[1] == ask.questions[0]
    assert len(model.calls) == 4


def test_a_second_attempt_says_what_was_wrong_and_leaves_refusals_alone():
    ask = Asked({"city": "I'd rather not say", "nights": "soon"}, {"nights": 3})
    collected = DataRequester(needs=NEEDS[:2], ask=ask, attempts=2).invoke("Plan my trip")
    assert ask.names == [("city", "nights"), ("nights",)]
    assert "'soon' is no number" in ask.questions[1]
    assert collected.values == {"nights": 3}


def test_it_is_json():
    collected = DataRequester(needs=NEEDS[:2], ask=Asked({"city": "Rome"})).invoke("Plan")
    again = DataCollected.model_validate_json(collected.model_dump_json())
    assert again.model_dump(mode="json") == collected.model_dump(mode="json")
