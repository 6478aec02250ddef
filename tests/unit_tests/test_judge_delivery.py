"""The judge of delivery sees every planted fault, and finds none in what is right."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from langchain_tokenopt import BudgetExceededError
from tests.judge import delivery, delivery_build
from tests.judge.delivery import drive, judged, model_name, observed, plain
from tests.judge.delivery_apps import (
    GLIMPSE,
    PARAGRAPH,
    App,
    Surplus,
    plain_input,
    text_of,
    tokens_of,
)
from tests.judge.delivery_checks import Judge, Outcome, PlanShape, invalid
from tests.judge.delivery_kit import Kit
from tests.judge.delivery_model import Attempt, Log, ScriptedModel
from tests.judge.delivery_nodes import Workshop

pytestmark = pytest.mark.exhaustive

TAGS = (delivery_build.tagged,)
NO_PLAN = PlanShape("none")


def made(shape: Callable[[Kit], App], seed: int = 7) -> App:
    """Return a plain application of one shape: English, tags, no streams."""
    app = shape(Kit(seed, (delivery_build.HARBOUR,), TAGS))
    app.mode, app.usage_in_streams = "invoke", True
    app.surplus = Surplus()
    return app


def run_with(app: App, kind: type[ScriptedModel], total: int, **options: Any) -> Outcome:
    """Run with models of another class than the judge's own."""

    def other(model: ScriptedModel) -> ScriptedModel:
        fields = {"model_name": model.model_name, "agent": model.agent, "script": model.script}
        return kind(**fields, **options)

    log = Log()
    graph = app.build(Workshop(app, log, model_name(app, 1), other))
    graph = graph.compile() if hasattr(graph, "compile") else graph
    outcome = observed(app, log, total, lambda: drive(app, graph, single=True))
    outcome.spent_said = log.spent()
    outcome.steps["somebody"] += 1
    return outcome


def kinds(app: App, run: Outcome, plan: PlanShape = NO_PLAN) -> set[str]:
    """Return the kinds of faults that the judge finds."""
    return {fault.kind for fault in Judge(app, plan, plain(app, None, None, "m", True)).faults(run)}


class Changed(ScriptedModel):
    """Sends other messages than it was given, says something else, or never asks."""

    change: Any = None
    instead: Any = None
    caps: int | None = None

    def _said(self, messages: list[BaseMessage], kwargs: Mapping[str, Any]) -> Attempt:
        sent = self.change(messages) if self.change else messages
        capped = {**kwargs, "max_tokens": self.caps} if self.caps else kwargs
        return super()._said(sent, capped)

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        if isinstance(self.instead, Exception):
            raise self.instead
        if self.instead is not None:
            said = AIMessage(self.instead)
            return ChatResult(generations=[ChatGeneration(message=said)])
        return super()._generate(messages, *args, **kwargs)


def without_system(messages: list[BaseMessage]) -> list[BaseMessage]:
    return [m for m in messages if not isinstance(m, SystemMessage)]


def without_role(messages: list[BaseMessage]) -> list[BaseMessage]:
    changed = [re.sub(r"You are the [^.]*\.", "", text_of(m)) for m in messages]
    return [type(m)(t) for m, t in zip(messages, changed, strict=True)]


def blank(messages: list[BaseMessage]) -> list[BaseMessage]:
    return [HumanMessage("") if isinstance(m, HumanMessage) else m for m in messages]


def without_results(messages: list[BaseMessage]) -> list[BaseMessage]:
    return [m for m in messages if not isinstance(m, ToolMessage)]


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"change": without_system}, "system message changed"),
        ({"change": without_role}, "question or role line changed"),
        ({"change": blank}, "empty prompt"),
        ({"instead": ""}, "empty answer"),
        ({"instead": "[No answer: nothing is left.]"}, "made up where a paragraph fits"),
        ({"caps": 12}, "answer cut off"),
        ({"caps": 12}, "unspent"),
        ({"instead": KeyError("next")}, "crash"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_a_planted_fault_is_seen(options: dict[str, Any], fault: str) -> None:
    """Whatever a package does wrong with a call, the judge names it."""
    app = made(delivery_build.chain)
    need = plain(app, None, None, "m", True).log.spent()

    assert fault in kinds(app, run_with(app, Changed, need, **options))


def test_a_refusal_of_the_whole_run_is_seen() -> None:
    """An error of the package is a clear end, but none where short answers fit."""
    app = made(delivery_build.chain)
    error = BudgetExceededError(account="a", needed_tokens=9, left_tokens=1, limit_tokens=5)

    assert "refused as a whole" in kinds(app, run_with(app, Changed, 50_000, instead=error))
    assert not {"refused as a whole", "crash"} & kinds(
        app, run_with(app, Changed, 20, instead=error)
    )


def test_conversations_that_providers_refuse_are_seen() -> None:
    """A call without a result, and a result without a call."""
    app = made(delivery_build.searchers)
    run = run_with(app, Changed, 10**6, change=without_results)
    asked = AIMessage("", tool_calls=[{"name": "f", "args": {}, "id": "1"}])

    assert "invalid conversation" in kinds(app, run)
    assert invalid([HumanMessage("a"), ToolMessage("b", tool_call_id="1")])
    assert not invalid([HumanMessage("a"), asked, ToolMessage("b", tool_call_id="1")])


def test_what_is_spent_above_the_total_is_seen() -> None:
    """One token too many is overshoot; a surplus that the provider billed is not."""
    app = made(delivery_build.chain)
    need = plain(app, None, None, "m", True).log.spent()
    run = run_with(app, ScriptedModel, need - 1)

    assert "overshoot" in kinds(app, run)
    run.log.attempts[0].surplus = 1
    assert "overshoot" not in kinds(app, run)
    run.spent_said = need - 1
    assert "account is not the bill" in kinds(app, run)


def test_a_refusal_within_a_share_or_floor_is_seen() -> None:
    """What was spent before counts; a share that is too small does not."""
    app = made(delivery_build.chain)
    who = next(iter(app.agents.values()))
    enough = 2 * who.short_need(app.surplus)
    run = run_with(app, Changed, 10**5, instead="[No answer]")
    for held in ({"shares": {who.name: enough / 10**5}}, {"floors": {who.name: enough}}):
        assert "refused within its own" in kinds(app, run, PlanShape("p", **held))
    run.log.calls[0].own_spent = enough
    assert "refused within its own" not in kinds(
        app, run, PlanShape("p", floors={who.name: enough})
    )


def test_a_broken_word_limit_is_seen() -> None:
    """The plan's words bound what the node gets."""
    app = made(delivery_build.chain)
    run = run_with(app, ScriptedModel, 10**6)

    assert "word limit broken" in kinds(app, run, PlanShape("w", words={next(iter(app.agents)): 5}))


def test_an_object_that_is_none_is_seen() -> None:
    """A parser that returns nothing, or half an object."""
    app = made(delivery_build.desk)
    run = run_with(app, ScriptedModel, 10**6)
    assert "structured answer invalid" not in kinds(app, run)
    call = next(c for c in run.log.calls if c.form == "object")

    call.answer = None
    assert "structured answer invalid" in kinds(app, run)
    call.answer = {"verdict": "safe"}
    assert "structured answer invalid" in kinds(app, run)


def test_what_nobody_recorded_is_seen() -> None:
    """A shorter prompt without an event."""
    app = made(delivery_build.chain)
    run = run_with(app, Changed, 10**6, change=without_role)
    assert "not recorded" not in kinds(app, run)
    run.steps.clear()

    assert "not recorded" in kinds(app, run)


def test_an_ample_budget_that_changes_anything_is_seen() -> None:
    """Another output, or a cap that no model needs."""
    app = made(delivery_build.chain)

    assert "ample budget caps" in kinds(app, run_with(app, Changed, 10**6, caps=4096))
    changed = kinds(app, run_with(app, Changed, 10**6, caps=9))
    assert "ample budget changes the output" in changed


def test_more_tokens_that_end_worse_are_seen() -> None:
    """No end, fewer reports, fewer facts."""
    app = made(delivery_build.chain)
    judge = Judge(app, NO_PLAN, plain(app, None, None, "m", True))
    good = run_with(app, ScriptedModel, 10_000)
    silent = run_with(app, Changed, 20_000, instead="[No answer]")
    broken = run_with(app, Changed, 20_000, instead=KeyError("x"))
    assert good.facts > 0

    assert not judge.monotone(good, replace(good, total=20_000))
    assert {"more tokens, fewer reports", "more tokens, fewer facts"} == {
        f.kind for f in judge.monotone(good, silent)
    }
    assert ["more tokens, no end"] == [f.kind for f in judge.monotone(good, broken)]


@pytest.mark.parametrize("seed", range(16))
def test_ample_runs_without_a_package_have_no_fault(seed: int) -> None:
    """What changes nothing is right as long as there is enough: every shape, in its own mode."""
    app = delivery.application("build", seed)
    base = plain(app, None, None, "m", True)
    again = plain(app, NO_PLAN, 4 * base.log.spent() + 20_000, "m", False)

    assert [] == Judge(app, NO_PLAN, base).faults(again)
    assert base.log.spent() == again.log.spent()


class Hindsight(ScriptedModel):
    """Knows facts and frames: leaves out an even part of everything else, and answers in short."""

    part: float = 1.0

    def _said(self, messages: list[BaseMessage], kwargs: Mapping[str, Any]) -> Attempt:
        return super()._said([self._shorter(m) for m in messages], kwargs)

    def _shorter(self, message: BaseMessage) -> BaseMessage:
        app: App = self.script.app
        who = app.agents[self.agent]
        if isinstance(message, SystemMessage):
            return message
        text = text_of(message)
        kept = (*who.frame, who.system, *(f.sentence for f in app.facts))
        sentences = [
            s
            for s in re.findall(r"[^.\n>]+\.", text)
            if not any(s.strip() in k or k in s for k in kept)
        ]
        for at, sentence in enumerate(sentences):
            if int((at + 1) * self.part) == int(at * self.part):
                text = text.replace(sentence, "", 1)
        return message.model_copy(update={"content": text})


def with_hindsight(
    app: App, plan: PlanShape | None, total: int | None, name: str, single: bool
) -> Outcome:
    """Run as a perfect package would: the fullest run that fits, found by trying."""
    assert total is not None
    low, high, best = 0.0, 1.0, None
    for part in [1.0, *(None,) * 7]:
        share = (low + high) / 2 if part is None else part
        agents = {
            n: replace(a, words=round(12 + share * (a.words - 12)), obeys=True)
            for n, a in app.agents.items()
        }
        short = replace(app, agents=agents) if share < 1 else app
        run = run_with(short, Hindsight, total, part=share)
        if run.log.spent() <= total:
            low, best = share, run
            if share == 1.0:
                break
        else:
            high = share
    if best is None:
        error = BudgetExceededError(
            account="all", needed_tokens=total + 1, left_tokens=total, limit_tokens=total
        )
        return Outcome(total, Log(), None, error, 0.0, compared=True)
    best.compared = True
    return best


@pytest.mark.parametrize(
    "shape", [delivery_build.chain, delivery_build.desk, delivery_build.debate]
)
def test_a_perfect_package_has_no_fault(shape: Callable[[Kit], App]) -> None:
    """Less of everything, by hindsight: whole answers, all facts, hardly anything left."""
    app = made(shape, seed=11)
    verdict = judged(app, with_hindsight)
    wrong = [(where, f) for where, f in verdict.faults if f.kind != "word limit broken"]

    assert [] == wrong
    assert verdict.unspent


def test_the_two_halves_share_no_kind() -> None:
    """Shapes, languages, layouts and schemas of one half are not the other's."""
    from tests.judge import delivery_judge

    def names(module: Any, kind: str) -> set[str]:
        every = [x for x in getattr(module, kind) if not isinstance(x, dict)]
        return {getattr(x, "__name__", None) or x.name for x in every}

    for kind in ("SHAPES", "LANGUAGES", "LAYOUTS", "SCHEMAS"):
        assert not names(delivery_build, kind) & names(delivery_judge, kind)


def test_the_provider_counts_what_it_is_sent() -> None:
    """A stream that is left is billed for what had come; a cap cuts at its token."""
    app = made(delivery_build.chain)
    name = next(iter(app.agents))
    log = Log()
    model = Workshop(app, log, "m", lambda m: m).bare(name)
    stream = model._stream([HumanMessage("Go.")])
    first = next(stream)
    stream.close()
    whole = model.invoke("Go.", max_tokens=7)

    assert isinstance(first, ChatGenerationChunk)
    assert isinstance(first.message, AIMessageChunk)
    assert tokens_of(first.text) == log.attempts[0].output_tokens
    assert log.attempts[0].left
    assert 7 == log.attempts[1].output_tokens
    assert "length" == whole.response_metadata["finish_reason"]


def test_a_made_up_end_of_somebody_elses_agent_is_seen() -> None:
    """Where nodes cannot be looked into, what they end with is compared with what models said."""
    app = made(delivery_build.agents_of_langchain)
    who = next(a.name for a in app.agents.values() if a.foreign)
    judge = Judge(app, NO_PLAN, plain(app, None, None, "m", True))
    said = judge.faults(run_with(app, Changed, 10**5, instead="[No answer]"))

    assert [] == judge.faults(plain(app, None, 10**5, "m", True))
    assert any(f.kind == "made up where a paragraph fits" and who in f.text for f in said)


def test_a_short_call_is_frame_glimpses_and_a_paragraph() -> None:
    """The oracle counts what the provider would, with its surplus."""
    app = made(delivery_build.chain)
    who = next(iter(app.agents.values()))
    frame = plain_input(who.prompt([]), [])

    assert frame + GLIMPSE * who.reads + PARAGRAPH == who.short_need(Surplus())
    dearer = Surplus(per_message=5)
    assert who.short_need(Surplus()) + 5 * len(who.prompt([])) == who.short_need(dearer)


def test_refusals_that_are_counted_twice_are_seen() -> None:
    """The report counts calls."""
    app = made(delivery_build.chain)
    run = run_with(app, Changed, 10**5, instead="[No answer]")

    run.denied_said = len(run.log.calls)
    assert "denied miscounted" not in kinds(app, run)
    run.denied_said += 1
    assert "denied miscounted" in kinds(app, run)


def test_a_model_that_ignores_its_cap_is_billed_for_a_surplus() -> None:
    """It writes to its end, and overshoot forgives what it wrote beyond one cap."""
    app = made(delivery_build.chain)
    app.ignores_caps = True
    run = run_with(app, Changed, 10**5, caps=5)
    attempt = run.log.attempts[0]

    assert attempt.text == attempt.wanted
    assert attempt.output_tokens - 5 == attempt.surplus
    run.total = run.log.spent() - max(a.surplus for a in run.log.attempts)
    assert "overshoot" not in kinds(app, run)
    run.total -= 1
    assert "overshoot" in kinds(app, run)


def test_the_part_of_an_agent_follows_from_the_plan() -> None:
    """Its share, else its floor, else an equal part of what is nobody's."""
    app = made(delivery_build.chain)
    first, *others = app.agents
    plan = PlanShape("half", shares={first: 0.5})

    assert NO_PLAN.part_of(first, app, 1_000) is None
    assert 500 == plan.part_of(first, app, 1_000)
    assert 500 // len(others) == plan.part_of(others[0], app, 1_000)
    assert 300 == PlanShape("floor", floors={first: 300}).part_of(first, app, 1_000)


def test_the_command_prints_its_tables(capsys: pytest.CaptureFixture[str]) -> None:
    """One graph is enough for all rows."""
    delivery.main(["--graphs", "1", "--show"])
    printed = capsys.readouterr().out

    assert "## Delivery, build half: 1 graphs" in printed
    assert all(f"| {kind} |" in printed for kind in delivery.KINDS)
