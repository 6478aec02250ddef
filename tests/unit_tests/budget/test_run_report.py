"""The report of a run: a story for people, and the same as data."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import suppress
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import HumanMessage, SystemMessage

from langchain_tokenopt.budget import BudgetPlan, Claim
from langchain_tokenopt.budget.account import TokenBudget
from langchain_tokenopt.budget.holds import Denial, Hold
from langchain_tokenopt.budget.reserves import Reserve, shortage_of, told
from langchain_tokenopt.budget.room import Demand, Demands
from langchain_tokenopt.budget.run_notes import StepNotes, StepTaken, with_step
from langchain_tokenopt.chat_model.optimize import optimize
from langchain_tokenopt.core.errors import BudgetExceededError
from langchain_tokenopt.core.usage import Usage
from tests.support.fakes import FakeAnswer, fake_chat

DOCUMENTS = " ".join(
    f"Bridge number {n} was painted by {n + 7} people in {1700 + n}." for n in range(400)
)

RUNS = count()
"""Each run has a model of its own, of which nothing has been learned, and a thread."""


def asked(model: Any, agent: str, text: str = "Hi", system: str = "Be brief.") -> None:
    messages = [SystemMessage(system), HumanMessage(f"{text}\n\nWhen was bridge 7 painted?")]
    model.invoke(messages, config={"metadata": {"tokenopt_agent": agent}})


@pytest.fixture
def report() -> Any:
    """Return the report of a run in which everything happens once."""
    plan = BudgetPlan(
        total_tokens=4_000,
        name="desk",
        agents={"reader": {"tokens": 1_000, "words": 40}, "calm": {"tokens": 200}},
    )
    answers = [FakeAnswer("Yes.", Usage(20, 4)), FakeAnswer("In 1707.", Usage(500, 6))]
    model = optimize(fake_chat(answers=answers, model=f"staged-{next(RUNS)}"), plan)
    with plan.run(f"monday-{next(RUNS)}", user="ann") as run:
        asked(model, "calm")
        asked(model, "reader", DOCUMENTS)
        asked(fake_chat(answers=[FakeAnswer("x", Usage(30, 9))], model="their-own"), "stranger")
        asked(model, "late", system="word " * 9_000)
        return run.report()


def test_it_is_told_as_a_story(report: Any) -> None:
    """Who got what, what was shortened and lost, who was denied, what is left."""
    story = str(report)
    head, table, shortened, denied, left = story.split("\n\n")
    whole, step = report.account, report.agents["reader"].steps[0]

    assert (
        f"desk, '{report.thread_id}': {whole.spent_tokens:,} of 4,000 tokens spent, 0 held" in head
    )
    assert "calls of 3 agents, 1 denied." in head
    assert "agent allocated spent calls denied words kept" == (
        " ".join(table.splitlines()[0].split())
    )
    assert "What was shortened:" in shortened
    assert f"  reader {step.name} once: {step.tokens_before:,} to {step.tokens_after:,} tokens" in (
        shortened
    )
    assert "; lost " in shortened
    assert "late was denied 1 call: 'late' needs " in denied
    assert "stranger called their-own without a stage: charged, never shortened" in denied
    assert left.startswith(f"{whole.left_tokens:,} tokens are left")


def test_a_quiet_run_is_a_short_story() -> None:
    """Nothing is said of what did not happen."""
    plan = BudgetPlan(total_tokens=1_000, name="desk")
    with plan.run() as run:
        empty = str(run.report())

    assert empty.splitlines() == [
        "desk: 0 of 1,000 tokens spent, 0 held; no calls.",
        "",
        "Nothing was shortened.",
        "",
        "Nobody was denied a call.",
        "",
        "1,000 tokens are left: 1,000 in the pool, for whoever needs them.",
    ]


def test_it_is_data_too(report: Any) -> None:
    """All of it, as JSON can hold it."""
    data = json.loads(json.dumps(report.as_dict()))

    assert (report.thread_id, "ann", 1) == (data["thread_id"], data["user"], data["denied_calls"])
    assert report.account.spent_tokens == data["account"]["spent_tokens"]
    assert list(report.agents) == list(data["agents"])
    step = data["agents"]["reader"]["steps"][0]
    assert step["tokens_before"] > step["tokens_after"] > 0
    assert step["lost"]


def test_parts_add_up(report: Any) -> None:
    """Agents and what is left are the total."""
    spent = sum(line.account.spent_tokens for line in report.agents.values())

    assert report.account.spent_tokens == spent
    assert report.account.total_tokens == spent + report.account.left_tokens
    assert sum(line.account.calls for line in report.agents.values()) >= 3


def test_what_is_left_is_what_was_kept_and_not_used(report: Any) -> None:
    """Since the last call that was made smaller, agent by agent; the story says so."""
    left = sum(reserve.left_tokens for reserve in report.reserves)

    assert report.account.left_tokens == left
    assert report.last_shortened == "late"
    assert "refused for the last time, one of late's, the rest was kept for" in str(report)


def test_it_says_for_whom_tokens_were_kept() -> None:
    """Those under way hold theirs, the rest is divided by what is likely to come."""
    budget = TokenBudget(total_tokens=1_000)
    hold = budget.reserve("now", 100, 100)
    assert isinstance(hold, Hold)
    shortage = shortage_of("now", budget.report(), {"now": 0, "next": 300, "never": 100})
    budget.settle(hold, Usage(100, 40))
    later = budget.reserve("next", 200, 100)
    assert isinstance(later, Hold)
    budget.settle(later, Usage(200, 50))
    reserves = shortage.reserves(budget.report())

    assert reserves == (
        Reserve("now", 200, 140),
        Reserve("next", 600, 250),
        Reserve("never", 200, 0),
    )
    assert (
        "600 for next, who used 250 of them, 200 for never, who used none, 200 for now, who used "
        "140 of them."
    ) in "".join(told("now", reserves))


def test_steps_are_summed_up() -> None:
    """However often they were taken; of their losses the first are kept."""
    notes = StepNotes("asked for fewer words")
    for number in range(100):
        notes = notes.again(StepTaken(notes.name, 100, 90, f"{number} words"))

    assert (100, 10_000, 9_000, 20) == (
        notes.times,
        notes.tokens_before,
        notes.tokens_after,
        len(notes.lost),
    )
    assert str(notes).startswith("asked for fewer words 100 times: 10,000 to 9,000 tokens")
    assert str(notes).endswith("; lost 0 to 19 words and more")


def test_losses_of_one_kind_are_told_together() -> None:
    """Tokens add up; lengths of answers are a range, or the same each time."""
    notes = StepNotes("made smaller")
    for lost in ("40 of 90 words", "1,200 tokens of documents", "tools", "300 tokens of documents"):
        notes = notes.again(StepTaken(notes.name, 100, 90, lost))
    again = notes.again(StepTaken(notes.name, 100, 90, "40 of 90 words"))

    assert str(notes).endswith("; lost 40 of 90 words, 1,500 tokens of documents, tools")
    assert "; lost 40 of 90 words each time, 1,500 " in str(again)


def test_it_says_what_was_counted_and_what_was_added() -> None:
    """Of calls that nobody reported on, and of one that was given up; all of it adds up."""
    plan = BudgetPlan(total_tokens=9_000, max_output_tokens_per_call=400)
    name = f"silent-{next(RUNS)}"
    silent = fake_chat(answers=[FakeAnswer("Yes."), FakeAnswer("No.", Usage(20, 4))], model=name)
    slow = fake_chat("_agenerate", delay_seconds=30, model=f"slow-{next(RUNS)}")

    async def give_up() -> None:
        waiting: Any = {"metadata": {"tokenopt_agent": "hasty"}}
        with suppress(TimeoutError):
            await asyncio.wait_for(optimize(slow, plan).ainvoke("Hi", config=waiting), 0.2)

    with plan.run() as run:
        asked(optimize(silent, plan), "quiet")
        asked(optimize(silent, plan), "open")
        asyncio.run(give_up())
    report = run.report()
    quiet, open_, hasty = (report.agents[name] for name in ("quiet", "open", "hasty"))

    assert (1, 0, 0) == (quiet.counted_calls, open_.counted_calls, hasty.counted_calls)
    assert quiet.account.spent_tokens == quiet.counted_tokens + quiet.added_tokens
    assert 0 < quiet.added_tokens <= 0.3 * quiet.counted_tokens + 1
    assert (1, hasty.account.spent_tokens) == (hasty.unknown_calls, hasty.unknown_tokens)
    assert 400 < hasty.unknown_tokens < 500
    story = str(report)
    assert "1 call of quiet came back without usage of the provider's: " in story
    assert f"1 call of hasty ended before an answer came: {hasty.unknown_tokens:,} tokens" in story
    assert "of open" not in story


def test_it_says_which_answers_were_cut_before_their_provider_could_say_what_they_used() -> None:
    """At a word limit, a stream is left: that is no silence of the provider's."""
    plan = BudgetPlan(total_tokens=9_000, agents={"long": {"words": 20}})
    text = "The bridge was painted in 1707 and again in 1801. " * 20
    talker = fake_chat("_stream", answers=[FakeAnswer(text)], model=f"talker-{next(RUNS)}")
    with plan.run() as run:
        asked(optimize(talker, plan), "long")
    report = run.report()

    assert (1, 1) == (report.agents["long"].counted_calls, report.agents["long"].cut_calls)
    assert "1 answer of long was cut before its provider had said what it used: " in str(report)


@pytest.mark.parametrize("agents", [{}, {"other": {"tokens": 700}}], ids=["no shares", "shares"])
def test_a_refusal_says_whose_the_rest_is(agents: Any) -> None:
    """Shares only where there are some; else it is kept for calls that are to come."""
    budget = TokenBudget(total_tokens=1_000)
    budget.allocate([Claim(name, **claim) for name, claim in agents.items()])
    others = Demands(own=Demand(400, 400), others={"next": Demand(900, 900)})
    denial = budget.reserve("late", 350, 50, demands=others)
    assert isinstance(denial, Denial)
    said = denial.sentence()

    assert ("700 are shares of other agents" in said) == bool(agents)
    assert "kept for calls that are to come" in said
    figures = [int(figure.replace(",", "")) for figure in re.findall(r"[\d,]*\d", said)]
    needed, available, left, *parts = figures
    assert (needed, left) == (400, 1_000)
    assert left == available + sum(parts)


steps_taken = st.lists(
    st.tuples(st.sampled_from(["turns", "documents", "words", "tools"]), st.integers(-20, 400)),
    min_size=1,
    max_size=12,
)


@given(st.integers(5_000, 9_000), steps_taken)
def test_what_the_steps_of_a_call_have_saved_adds_up(size: int, taken: Any) -> None:
    """However often each was taken: each begins where the one before it has ended."""
    steps: tuple[StepTaken, ...] = ()
    now = size
    for name, saved in taken:
        steps = with_step(steps, StepTaken(name, now, now - saved))
        now -= saved

    assert (size, now) == (steps[0].before, steps[-1].after)
    assert all(one.after == next_.before for one, next_ in pairwise(steps))
    assert len(steps) == len({name for name, _ in taken})


@pytest.mark.parametrize("total", [330, 420, 600, 900])
def test_the_story_of_a_call_is_one_of_figures_that_add_up(total: int) -> None:
    """From what was asked to what was sent, step by step; words are counted from the first on."""
    plan = BudgetPlan(total_tokens=total)
    model = optimize(fake_chat(answers=[FakeAnswer("In 1707.")], model=f"s-{next(RUNS)}"), plan)
    with plan.run() as run:
        asked(model, "reader", DOCUMENTS)
    steps = run.report().agents["reader"].steps

    assert steps
    assert all(one.tokens_after == next_.tokens_before for one, next_ in pairwise(steps))
    assert all(step.tokens_before > step.tokens_after for step in steps)
    lost = [re.findall(r"[\d,]+", text) for step in steps for text in step.lost if "words" in text]
    for (_, first), (_, second) in pairwise(lost):
        assert int(first) > int(second)


def test_a_resumed_run_tells_what_happened_before() -> None:
    """In this process; of another one's blocks it says that only figures are kept."""
    plan = BudgetPlan(total_tokens=60, name="resumed")
    with plan.run(thread_id="one") as run:
        optimize(fake_chat(), plan).invoke("What is 2 + 2? " * 9)
    with plan.run(thread_id="one") as again:
        told = str(again.report())

    assert str(run.report()) == told
    assert "was denied 1 call: " in told


def test_a_run_in_a_file_says_that_only_figures_are_kept(tmp_path: Path) -> None:
    """Of what another process has done."""
    plan = BudgetPlan(total_tokens=900, name="resumed")
    model = optimize(fake_chat(), plan)
    with plan.run(thread_id="one", path=tmp_path / "a.db") as run:
        model.invoke("What is 2 + 2?")
        first = run.report()
    with plan.run(thread_id="one", path=tmp_path / "a.db") as run:
        again = run.report()

    assert (False, True) == (first.is_resumed, again.is_resumed)
    assert "Nothing was shortened in this block; of what was before, figures alone are" in str(
        again
    )


def test_a_refusal_that_was_raised_is_told_with_its_reason() -> None:
    """As one that was answered is."""
    plan = BudgetPlan(total_tokens=60, name="strict", on_exceed="raise")
    with plan.run() as run, pytest.raises(BudgetExceededError):
        optimize(fake_chat(), plan).invoke("What is 2 + 2? " * 9)

    assert "default was denied 1 call: 'default' needs " in str(run.report())
