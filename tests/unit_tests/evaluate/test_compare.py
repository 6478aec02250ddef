"""Comparing a candidate with a baseline: verdicts, stopping, money, what cannot be judged."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import RunnableLambda

from langchain_tokenopt import WordLimit, optimize, track_usage
from langchain_tokenopt.evaluate import (
    Case,
    CaseFileError,
    Comparison,
    ContainsReference,
    ExactMatch,
    JsonEqual,
    ModelJudge,
    NumbersKept,
    RunAnswer,
    TokenF1,
    ToolCallsEqual,
    UnpricedModelError,
    acompare,
    compare,
)
from langchain_tokenopt.evaluate.answer_store import AnswerStoreError
from langchain_tokenopt.pricing.rate_card import RateCard
from langchain_tokenopt.testing import ExtractiveChatModel

CASES = [Case({"question": f"What is {n} + {n}?"}, str(2 * n)) for n in range(400)]


def answering(right: float, seed: int = 0) -> Callable[[Any], str]:
    """Return a function that answers a share of the questions rightly, by their text."""

    def answer(given: Any) -> str:
        n = int(given["question"].split()[2])
        return str(2 * n if random.Random(f"{seed} {n}").random() < right else 2 * n + 1)

    return answer


def run(*args: Any, sync: bool, **kwargs: Any) -> Comparison:
    return compare(*args, **kwargs) if sync else asyncio.run(acompare(*args, **kwargs))


both_ways = pytest.mark.parametrize("sync", [True, False], ids=["sync", "async"])


@both_ways
@pytest.mark.parametrize(
    ("right", "verdict"), [(1.0, "not worse"), (0.6, "worse"), (0.955, "unclear")]
)
def test_the_verdict_follows_from_the_answers(right: float, verdict: str, sync: bool) -> None:
    found = run(CASES, answering(1.0), answering(right), margin=0.05, sync=sync)
    assert found.verdict == verdict
    assert found.exit_code == {"not worse": 0, "worse": 3, "unclear": 4}[verdict]


@both_ways
def test_it_stops_as_soon_as_it_is_clear(sync: bool) -> None:
    found = run(CASES, answering(1.0), answering(0.5), margin=0.05, max_concurrency=1, sync=sync)
    assert found.verdict == "worse"
    assert found.cases < 60
    assert "clear" in found.reason


def test_sync_and_async_find_the_same() -> None:
    options: dict[str, Any] = {"margin": 0.05, "max_concurrency": 1}
    one = run(CASES, answering(0.9), answering(0.9, 1), sync=True, **options)
    other = run(CASES, answering(0.9), answering(0.9, 1), sync=False, **options)
    without_times = [
        {**found.to_dict(), "savings": sorted(found.to_dict()["savings"])} for found in (one, other)
    ]
    assert without_times[0] == without_times[1]


def test_two_answers_of_the_baseline_that_differ_are_not_held_against_the_candidate() -> None:
    """Both draw one of four wordings: as a judge of agreement sees it, neither is the worse."""
    drawn = random.Random(1)

    def wording(question: str) -> str:
        return f"Answer {drawn.randrange(4)}"

    cases = [f"Question {n}" for n in range(400)]
    options: dict[str, Any] = {"judges": ExactMatch(), "margin": 0.2, "max_concurrency": 1}
    assert compare(cases, wording, wording, **options).verdict == "not worse"
    strict = compare(cases, wording, wording, repeat_baseline=False, **options)
    assert strict.verdict == "worse"
    assert any("twice" in note for note in strict.notes)


def test_savings_are_those_of_the_model_calls() -> None:
    text = "Ada won by a minute. It rained all day. Nobody else came near to her that day."
    model = ExtractiveChatModel()
    short = optimize(model, WordLimit(5))
    with track_usage() as usage:
        found = compare(
            [Case([HumanMessage(f"{text} Who won in year {n}?")], "Ada") for n in range(8)],
            model,
            short,
            judges=TokenF1(),
            margin=0.5,
            max_concurrency=1,
        )
    saved = found.savings["output tokens"]
    assert saved.low <= saved.value <= saved.high
    assert saved.value > 0
    billed = sum(
        answer.total_tokens
        for judged in found.trials
        for answer in (judged.trial.baseline, judged.trial.repeat, judged.trial.candidate)
        if answer is not None
    )
    assert billed == usage.totals().total_tokens


def test_a_state_counts_with_its_last_answer() -> None:
    def graph(given: Any) -> Any:
        return {"messages": [HumanMessage("4?"), AIMessage("4"), HumanMessage("Thanks")]}

    found = compare(
        CASES[:3], RunnableLambda(graph), RunnableLambda(lambda _: "4"), judges=ExactMatch()
    )
    assert {judged.trial.baseline.text for judged in found.trials} == {"4"}
    assert found.judges[0].difference.value == 0


# --- what goes wrong -----------------------------------------------------------------------------


@both_ways
def test_a_baseline_that_fails_half_the_time_leaves_it_unclear(sync: bool) -> None:
    def failing(given: Any) -> str:
        n = int(given["question"].split()[2])
        if n % 2:
            raise TimeoutError("no answer")
        return str(2 * n)

    found = run(CASES, failing, failing, margin=0.05, sync=sync)
    assert found.verdict == "unclear"
    assert "can say nothing" in found.reason
    assert found.judges[0].unjudged == {"the baseline failed: TimeoutError: no answer": 200}


def test_a_candidate_that_fails_is_worse() -> None:
    def failing(given: Any) -> str:
        raise ConnectionError("refused")

    found = compare(CASES, answering(1.0), failing, margin=0.05)
    assert found.verdict == "worse"
    assert any("ConnectionError: refused" in note for note in found.notes)


@pytest.mark.parametrize(
    ("judge", "reason"),
    [
        (lambda case, answer: 1 / 0, "it raised ZeroDivisionError"),
        (lambda case, answer: 7, "a score must be from 0 to 1"),
        (lambda case, answer: float("nan"), "a score must be from 0 to 1"),
        (lambda case, answer: "good", "it raised|a score must be"),
        (lambda case, answer: None, "it raised|a score must be"),
    ],
)
def test_a_judge_that_fails_passes_nothing(judge: Any, reason: str) -> None:
    found = compare(CASES[:100], answering(1.0), answering(1.0), judges=judge, margin=0.1)
    assert found.verdict == "unclear"
    assert found.judges[0].judged == 0
    (why,) = found.judges[0].unjudged
    assert any(part in why for part in reason.split("|"))


def test_too_few_cases_are_unclear_and_say_how_many_are_needed() -> None:
    found = compare(CASES[:10], answering(1.0), answering(1.0), margin=0.02)
    assert found.verdict == "unclear"
    assert "10 cases cannot show it" in found.reason
    assert found.margin == 0.02


def test_an_interrupt_ends_it() -> None:
    def interrupted(given: Any) -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(CASES, interrupted, interrupted)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"margin": 0}, "margin"),
        ({"margin": 2}, "margin"),
        ({"confidence": 1}, "confidence"),
        ({"max_usd": 0}, "max_usd"),
        ({"max_cases": 0}, "max_cases"),
        ({"max_concurrency": 0}, "max_concurrency"),
        ({"judges": []}, "at least one judge"),
        ({"judges": [ExactMatch(), ExactMatch()]}, "Two judges"),
        ({"judges": lambda: 1}, "case, answer"),
        ({"judges": "exact"}, "judge is a Judge"),
    ],
)
def test_arguments_that_cannot_be_used_are_refused(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        compare(CASES, answering(1.0), answering(1.0), **options)


def test_a_side_that_cannot_be_asked_is_refused() -> None:
    with pytest.raises(ValueError, match="candidate must be a runnable or a function"):
        compare(CASES, answering(1.0), 5)  # type: ignore[arg-type]


def test_no_cases_are_refused() -> None:
    with pytest.raises(ValueError, match="no cases"):
        compare([], answering(1.0), answering(1.0))


# --- money ---------------------------------------------------------------------------------------


def model(name: str) -> BilledModel:
    usage = {"input_tokens": 1_000, "output_tokens": 100, "total_tokens": 1_100}
    return BilledModel(name=name, usage=usage)


class BilledModel(GenericFakeChatModel):
    """A model whose every call costs the same."""

    name: str
    usage: dict[str, int]
    messages: Any = ()

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        message = AIMessage(
            "four", usage_metadata=self.usage, response_metadata={"model_name": self.name}
        )
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _get_ls_params(self, *args: Any, **kwargs: Any) -> Any:
        return {"ls_provider": "openai", "ls_model_name": self.name, "ls_model_type": "chat"}


def test_no_case_starts_that_the_money_may_not_suffice_for() -> None:
    priced = model("gpt-4o-mini")
    cases = [f"Who won in {n}?" for n in range(60)]
    one = compare(cases[:1], priced, priced)
    limit = 10.5 * one.spent_nano_usd / 1e9
    found = compare(cases, priced, priced, max_usd=limit, max_concurrency=2)
    assert one.spent_nano_usd > 0
    assert found.verdict == "unclear"
    assert "max_usd" in found.reason
    assert found.cases == 10


def test_a_limit_of_money_needs_prices() -> None:
    unknown = model("nobody-knows-this-model")
    with pytest.raises(UnpricedModelError, match="no known price"):
        compare([f"Who won in {n}?" for n in range(60)], unknown, unknown, max_usd=1.0)


# --- kept answers --------------------------------------------------------------------------------


@both_ways
def test_nothing_is_asked_twice_with_a_store(tmp_path: Path, sync: bool) -> None:
    asked: list[Any] = []

    def counted(given: Any) -> str:
        asked.append(given)
        return "x"

    options: dict[str, Any] = {"store": tmp_path / "answers.jsonl", "judges": ExactMatch()}
    one = run(CASES[:12], counted, counted, sync=sync, **options)
    assert len(asked) == 36
    other = run(CASES[:12], counted, counted, sync=sync, **options)
    assert len(asked) == 36
    assert other.notes[0].startswith("36 answers came from the store")
    assert {**one.to_dict(), "notes": ""} == {**other.to_dict(), "notes": ""}
    assert (tmp_path / "answers.jsonl").stat().st_mode & 0o077 == 0


def test_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    store = tmp_path / "answers.jsonl"
    compare(CASES[:5], answering(1.0), answering(1.0), store=store)
    text = store.read_text()
    store.write_text(text[: len(text) - 30])  # the last line is torn
    asked: list[Any] = []

    def counted(given: Any) -> str:
        asked.append(given)
        return answering(1.0)(given)

    found = compare(CASES[:5], counted, counted, store=store)
    assert found.cases == 5
    assert len(asked) == 1


# --- cases ---------------------------------------------------------------------------------------


def test_cases_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "cases.jsonl"
    path.write_text(
        '{"input": {"question": "What is 1 + 1?"}, "reference": "2"}\n\n'
        '{"inputs": {"question": "What is 2 + 2?"}, "outputs": {"answer": "4"}, "id": "b"}\n'
        '{"question": "What is 3 + 3?"}\n'
    )
    found = compare(path, answering(1.0), answering(1.0), judges=ExactMatch())
    assert {judged.trial.case.reference for judged in found.trials} == {"2", "4", None}


@pytest.mark.parametrize("line", ["{", '{"inputs": 1, "outputs": }', "[1, 2"])
def test_a_line_that_is_no_case_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "cases.jsonl"
    path.write_text(f'{{"input": "a"}}\n{line}\n')
    with pytest.raises(CaseFileError, match="Line 2"):
        compare(path, answering(1.0), answering(1.0))


def test_progress_is_told_after_every_case() -> None:
    heard: list[Any] = []
    compare(
        CASES[:6], answering(1.0), answering(1.0), on_progress=heard.append, rate_card=RateCard()
    )
    assert [progress.cases for progress in heard] == [1, 2, 3, 4, 5, 6]
    assert {progress.cases_given for progress in heard} == {6}


# --- no silent pass ------------------------------------------------------------------------------


def test_answers_in_which_no_judge_sees_anything_are_unclear() -> None:
    found = compare(
        [f"Is it safe {n}?" for n in range(200)],
        lambda _: "yes, it is safe to drink",
        lambda _: "no, it is deadly",
        margin=0.05,
    )
    assert found.verdict == "unclear"
    assert "can say nothing" in found.reason


def test_an_empty_answer_is_worse() -> None:
    found = compare(CASES, answering(1.0), lambda _: "", margin=0.05, judges=ExactMatch())
    assert found.verdict == "worse"


def test_a_judge_with_an_option_still_scores_one_answer() -> None:
    def judge(case: Case, answer: Any, tolerance: float = 0.1) -> bool:
        return "4" in answer.text

    found = compare(CASES, lambda _: "4", lambda _: "no idea", judges=judge, margin=0.05)
    assert found.verdict == "worse"


@pytest.mark.parametrize("sync", [True, False])
def test_what_is_awaited_or_comes_in_pieces_is_whole(sync: bool) -> None:
    async def awaited(given: Any) -> str:
        return "It is 42"

    def pieces(given: Any) -> Any:
        yield "It is "
        yield "42"

    async def async_pieces(given: Any) -> Any:
        yield "It is "
        yield "42"

    for side in (awaited, pieces, async_pieces, lambda given: awaited(given)):
        found = run(["a", "b"], awaited, side, judges=ExactMatch(), sync=sync)
        assert {judged.trial.candidate.text for judged in found.trials} == {"It is 42"}


def test_tool_calls_of_a_whole_run_are_compared() -> None:
    def agent(name: str) -> Callable[[Any], Any]:
        call = {"name": "delete", "args": {"name": name}, "id": "1", "type": "tool_call"}
        messages = [HumanMessage("Go."), AIMessage("", tool_calls=[call]), AIMessage("Done.")]
        return lambda _: {"messages": messages}

    cases = [str(n) for n in range(200)]
    found = compare(cases, agent("Bob"), agent("Alice"), judges=ToolCallsEqual(), margin=0.1)
    assert found.verdict == "worse"


@pytest.mark.parametrize(
    "nothing", [None, {"raw": AIMessage("{"), "parsed": None, "parsing_error": ValueError("{")}]
)
def test_no_answer_is_no_good_answer(nothing: Any) -> None:
    found = compare(CASES, lambda _: nothing, lambda _: nothing, margin=0.05)
    assert found.verdict == "unclear"
    found = compare(CASES, answering(1.0), lambda _: nothing, margin=0.05)
    assert found.verdict == "worse"


@pytest.mark.parametrize(
    ("reference", "text", "holds"),
    [
        ("-4", "The answer is 4.", False),
        ("4", "The answer is -4.", False),
        ("4", "The answer is 4.", True),
        ("4", "It is 4.5 m", False),
        ("234", "1,234 people", False),
        ("C++", "Use C#.", False),
        ("C", "Use C++.", False),
        ("C++", "It is C++.", True),
        ("ada", "ADA  won", True),
        ("New York", "in new\nyork.", True),
        ("ada", "Adam", False),
        ("20", "10-20 days", True),
    ],
)
def test_a_reference_is_contained_whole(reference: str, text: str, holds: bool) -> None:
    assert ContainsReference().quality(RunAnswer(text), reference, Case("")) == float(holds)


def test_a_sign_that_is_lost_is_a_number_that_is_lost() -> None:
    assert NumbersKept().agreement(RunAnswer("It is 4"), RunAnswer("It is -4")) < 1
    assert NumbersKept().agreement(RunAnswer("It is -4"), RunAnswer("It is -4")) == 1


def test_repeated_inputs_and_kept_answers_are_said(tmp_path: Path) -> None:
    options: dict[str, Any] = {"judges": ExactMatch(), "store": tmp_path / "answers.jsonl"}
    found = compare(["q"] * 5, lambda _: "x", lambda _: "x", **options)
    assert any("4 cases repeat" in note for note in found.notes)
    again = compare(["q"] * 5, lambda _: "x", lambda _: "garbage", **options)
    assert any("came from the store" in note for note in again.notes)


def test_messages_inside_of_data_count_with_their_text() -> None:
    found = compare(
        ["a", "b"],
        lambda _: {"one": AIMessage("42 EUR", id="1")},
        lambda _: {"one": AIMessage("42 EUR", id="2")},
        judges=JsonEqual(),
    )
    assert found.judges[0].candidate == 1.0


def test_a_run_that_the_money_has_stopped_goes_on_with_the_store(tmp_path: Path) -> None:
    priced = model("gpt-4o-mini")
    cases = [f"Who won in {n}?" for n in range(30)]
    each = compare(cases[:1], priced, priced).spent_nano_usd
    options: dict[str, Any] = {"store": tmp_path / "a.jsonl", "max_usd": 5.5 * each / 1e9}
    counts = [compare(cases, priced, priced, **options).cases for _ in range(3)]
    assert counts == [5, 10, 15]


def test_the_first_case_is_asked_alone_where_money_is_limited() -> None:
    priced = model("gpt-4o-mini")
    cases = [f"Who won in {n}?" for n in range(30)]
    each = compare(cases[:1], priced, priced).spent_nano_usd
    assert compare(cases, priced, priced, max_usd=0.01 * each / 1e9).cases == 1


def test_calls_of_judges_need_prices_too() -> None:
    priced, unknown = model("gpt-4o-mini"), model("nobody-knows-this-model")
    with pytest.raises(UnpricedModelError):
        compare(
            [f"Who won in {n}?" for n in range(30)],
            priced,
            priced,
            judges=ModelJudge(unknown),
            max_usd=1.0,
        )


def test_a_store_that_was_torn_twice_is_still_read(tmp_path: Path) -> None:
    store = tmp_path / "answers.jsonl"
    for _ in range(3):
        found = compare(CASES[:5], answering(1.0), answering(1.0), store=store)
        assert found.cases == 5
        text = store.read_text()
        store.write_text(text[:-30])


def test_a_file_of_something_else_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("My notes.\nMore.\n")
    with pytest.raises(AnswerStoreError, match="holds no kept answers"):
        compare(CASES[:5], answering(1.0), answering(1.0), store=tmp_path / "notes.txt")


@pytest.mark.parametrize("text", ["a\u2028b", "a\x85b", "half \ud800 a sign", "\x00"])
def test_strange_signs_are_kept(tmp_path: Path, text: str) -> None:
    options: dict[str, Any] = {"judges": ExactMatch(), "store": tmp_path / "answers.jsonl"}
    for _ in range(2):
        found = compare([text, "b"], lambda _: text, lambda _: text, **options)
        assert found.judges[0].candidate == 1.0
    found.to_html(tmp_path / "page.html")


def test_data_in_a_circle_are_no_answer() -> None:
    circle: dict[str, Any] = {}
    circle["self"] = circle
    found = compare(["a"], lambda _: circle, lambda _: circle)
    assert "RecursionError" in found.trials[0].trial.baseline.error


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_files_of_cases_in_other_encodings(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "cases.jsonl"
    path.write_text('{"input": "Wer hat gewönnen?"}\n', encoding=encoding)
    if encoding == "utf-16":
        with pytest.raises(CaseFileError, match="UTF-8"):
            compare(path, answering(1.0), answering(1.0))
    else:
        assert compare(path, lambda _: "x", lambda _: "x").cases == 1


def test_other_keys_beside_a_reference_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "cases.jsonl"
    path.write_text('{"input": "q", "reference": "x", "category": "easy"}\n')
    (judged,) = compare(path, lambda _: "x", lambda _: "x").trials
    assert (judged.trial.case.input, judged.trial.case.reference) == ("q", "x")


@pytest.mark.parametrize("judge", [ExactMatch, lambda *answers: 1.0])
def test_judges_that_cannot_be_meant_are_refused(judge: Any) -> None:
    with pytest.raises(ValueError, match="judge"):
        compare(CASES, answering(1.0), answering(1.0), judges=judge)


def test_functions_of_one_name_are_numbered() -> None:
    judges = [lambda case, answer: 1.0, lambda case, answer: 1.0]
    found = compare(CASES[:3], answering(1.0), answering(1.0), judges=judges)
    assert [judge.name for judge in found.judges] == ["<lambda>", "<lambda> 2"]


def test_a_judge_that_has_nothing_to_see_says_so() -> None:
    found = compare(CASES[:5], answering(1.0), answering(1.0))
    assert [judge.saw for judge in found.judges] == [5, 0]
    assert "equal tool calls: nothing to see in 5 cases" in str(found)


def test_below_a_baseline_that_is_never_right_nobody_can_fall() -> None:
    cases = [Case(f"Question {n}", reference="nobody says this") for n in range(100)]
    found = compare(cases, lambda _: "yes", lambda _: "no", margin=0.1)
    assert found.verdict == "unclear"
    assert "never right" in found.reason


@pytest.mark.parametrize(
    ("reference", "text"),
    [
        ("1250", "\u0661\u0662\u0665\u0660"),
        ("2024年", "２０２４年に"),
        ("北京", "答案是北京市。"),
        ('"Faust"', "„Faust“"),
        ("Müller", "Mu\u0308ller won"),
        ({"a": 1}, '{"a": 1}'),
        (False, "false"),
    ],
)
def test_a_reference_is_found_in_other_forms(reference: Any, text: str) -> None:
    assert ContainsReference().quality(RunAnswer(text), reference, Case("")) == 1


def test_data_that_differ_from_the_reference_are_wrong() -> None:
    assert ContainsReference().quality(RunAnswer('{"a": 2}'), {"a": 1}, Case("")) == 0


def test_references_of_some_cases_count() -> None:
    cases = [Case(f"{n}?", "paris" if n % 4 else None) for n in range(120)]
    found = compare(cases, lambda _: "it is Paris 3", lambda _: "it is Rome 3", margin=0.1)
    assert found.verdict == "worse"
