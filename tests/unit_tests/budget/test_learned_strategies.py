"""Strategies that learn: what, from whom, and what they do while they know too little."""

from __future__ import annotations

import math
import random
import sqlite3
import warnings
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from langchain_tokenopt.budget import (
    Auto,
    BudgetPlan,
    Claim,
    ForecastNeed,
    Performance,
    allocate,
    forecast_need,
)
from langchain_tokenopt.budget.forecast_need import Need
from langchain_tokenopt.chat_model.optimize import optimize
from langchain_tokenopt.core.attribution import Attribution
from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.core.records import CallRecord
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.ledger import Ledger
from langchain_tokenopt.storage.learned_store import LearnedKey, LearnedStore
from tests.support.fakes import FakeAnswer, fake_chat

NEWS, JUDGE = Claim("news"), Claim("judge")
TOKENS = (400, 700, 1_000, 1_600)


def ratio(strategy, first="news", second="judge"):
    """Return how much one agent weighs beside another."""
    weights = strategy.weights([Claim(first), Claim(second)])
    return weights[first] / weights[second]


def call(agent, tokens, *, run="1", user=None, **changes):
    """Return the record of a call."""
    return CallRecord(
        run_id=uuid4(),
        model="m",
        provider=None,
        usage=Usage(tokens, 0),
        started_at=datetime(2026, 11, 1, tzinfo=UTC),
        duration_seconds=1.0,
        cost_nano_usd=None,
        attribution=Attribution(agent=agent, user=user),
        run=run,
        **changes,
    )


# Performance


def rising(tokens):
    return min(0.2 + 0.5 * math.log(tokens / 400), 1.0)


def test_tokens_go_where_they_add_quality_not_where_it_is_high():
    """The judge is better, whatever it is given; the news get better with more."""
    performance = Performance()
    for tokens in TOKENS * 5:
        performance.record("news", rising(tokens), tokens, wanted=1_600)
        performance.record("judge", 0.95, tokens, wanted=1_600)

    assert ratio(performance) > 3
    news, judge = (performance.returns()[name] for name in ("news", "judge"))
    assert news.quality < judge.quality
    assert news.slope == pytest.approx(0.5, abs=0.1)


def test_a_hard_task_is_not_mistaken_for_tokens_that_do_harm():
    """Where more is wanted quality is lower, whatever is given: that says nothing of tokens."""
    plain, relative = Performance(), Performance()
    for wanted in (500, 1_000, 2_000, 4_000) * 5:
        tokens = min(wanted, 1_000)
        quality = tokens / wanted * 0.9
        for agent in ("news", "judge"):
            plain.record(agent, quality if agent == "news" else 0.5, wanted // 3)
            relative.record(agent, quality if agent == "news" else 0.5, tokens, wanted=wanted)

    assert ratio(plain) == pytest.approx(1, abs=0.05)
    assert ratio(relative) > 1


@pytest.mark.parametrize("needs", [(6_000, 500), (9_000, 1_000), (3_000, 900)], ids=str)
def test_a_share_is_not_taken_from_who_is_held_to_it(needs):
    """Of who is cut only easy tasks, which take few tokens, end well: no sign of tokens' harm."""
    draw, performance = random.Random(1), Performance()
    for _ in range(60):
        for name, need in zip(("news", "judge"), needs, strict=True):
            wanted = int(need * math.exp(draw.gauss(0, 0.3)))
            used = min(2_000, wanted)
            performance.record(name, used / wanted, used)

    assert ratio(performance) > 1


def test_what_falls_with_tokens_takes_from_nobody():
    """As far as it is known, hard tasks took more."""
    falling, level = Performance(), Performance()
    for tokens in TOKENS * 5:
        for performance in (falling, level):
            performance.record("judge", 0.6, tokens)
        falling.record("news", 0.6 - 0.2 * math.log(tokens / 850), tokens)
        level.record("news", 0.6, tokens)

    assert ratio(falling) == pytest.approx(ratio(level), abs=0.05)


def test_without_other_evidence_the_better_for_its_tokens_gets_more():
    """Where nobody's tokens vary, nothing shows what more would add."""
    performance = Performance()
    for _ in range(20):
        performance.record("news", 0.9, 1_000)
        performance.record("judge", 0.4, 1_000)
        performance.record("clerk", 0.9, 4_000)

    assert ratio(performance) > 1
    assert ratio(performance, "news", "clerk") > 1


def test_nobody_starves():
    """However bad, an agent weighs a ninth of the best at least."""
    performance = Performance()
    for tokens in TOKENS * 10:
        performance.record("news", min(tokens / 1_600, 1), tokens)
        performance.record("judge", 0.0, tokens)

    assert 1 < ratio(performance) <= 9


def test_priorities_say_what_quality_is_worth():
    """They multiply what was learned."""
    performance = Performance()
    for tokens in TOKENS * 5:
        performance.record("news", rising(tokens), tokens)
    plain = performance.weights([NEWS, JUDGE])

    assert 3 * plain["news"] == pytest.approx(
        performance.weights([Claim("news", priority=3), JUDGE])["news"]
    )


def test_verdicts_fade_with_time_and_with_later_ones():
    """After years there is nothing but the prior; after a change, soon nothing but the change."""
    now = [1e9]
    performance = Performance(clock=lambda: now[0])
    for tokens in TOKENS * 5:
        performance.record("news", rising(tokens), tokens)
        performance.record("judge", 0.9, tokens)
    before = ratio(performance)
    now[0] += 400 * 86_400
    with pytest.warns(TokenOptWarning, match="fewer than 5 verdicts"):
        assert 1 == ratio(performance)

    for tokens in TOKENS * 10:
        performance.record("news", 0.9, tokens)
        performance.record("judge", rising(tokens), tokens)
    assert ratio(performance) < 1 < before


@pytest.mark.parametrize("jump", [-1e9, 1e9, 1e15], ids=["back", "ahead", "far ahead"])
def test_a_clock_that_jumps_leaves_a_sane_state(jump):
    """Ahead, evidence is gone; back, none fades; then new evidence counts as ever."""
    now = [2e9]
    performance = Performance(clock=lambda: now[0])
    for tokens in TOKENS * 5:
        performance.record("news", rising(tokens), tokens)
        performance.record("judge", 0.9, tokens)
    before = ratio(performance)
    now[0] += jump
    performance.record("news", 0.5, 1_000)
    now[0] -= jump
    for tokens in TOKENS * 5:
        performance.record("news", rising(tokens), tokens)
        performance.record("judge", 0.9, tokens)

    assert before == pytest.approx(ratio(performance), rel=0.3)


def test_a_users_million_odd_verdicts_are_one_vote():
    """Another user's agents weigh what they weighed, but for a vote on the prior."""
    performance = Performance()
    for tokens in TOKENS * 5:
        performance.record("news", rising(tokens), tokens, user="ann")
        performance.record("judge", 0.9, tokens, user="ann")
    ann = performance.for_user("ann")
    before = ratio(ann)
    for _ in range(1_000):
        performance.record("news", 0.0, 10**12, user="mallory")
        performance.record("judge", 1.0, 1, user="mallory")

    assert before == pytest.approx(ratio(ann), rel=0.1)
    assert 2 == performance.forget("mallory")
    assert before == ratio(ann)


def test_a_new_user_begins_with_what_the_others_have_shown():
    """A shared prior; not more than that."""
    performance = Performance()
    for user in "abcdef":
        for tokens in TOKENS * 5:
            performance.record("news", rising(tokens), tokens, user=user)
            performance.record("judge", 0.9, tokens, user=user)

    assert 1.3 < ratio(performance.for_user("new")) < ratio(performance.for_user("a"))


def test_processes_share_a_store_and_namespaces_do_not(tmp_path):
    """What one has recorded another weighs by."""
    first, second = (Performance(LearnedStore(tmp_path / "learned.db")) for _ in range(2))
    other = Performance(first.store, namespace="other")
    for tokens in TOKENS * 5:
        first.record("news", rising(tokens), tokens)
        first.record("judge", 0.9, tokens)

    assert ratio(first) == ratio(second) > 1
    with pytest.warns(TokenOptWarning, match="fewer than 5"):
        assert 1 == ratio(other)


@pytest.mark.parametrize(
    "stored",
    [
        "old",
        None,
        {"n": 5},
        [1, 2],
        [1e300] * 6,
        [5, 30, 9, 1, 1, 1],
        [-1, *[0] * 5],
        [[]] * 6,
    ],
    ids=str,
)
def test_what_this_release_did_not_write_counts_as_nothing(stored):
    """A row of another release, or of somebody else."""
    store = LearnedStore()
    store.update(LearnedKey("performance", "", None, "news"), lambda _: stored)
    performance = Performance(store)
    with pytest.warns(TokenOptWarning, match="fewer than 5"):
        assert 1 == ratio(performance)
    performance.record("news", 0.5, 100)
    assert 1 == performance.returns()["news"].verdicts


@pytest.mark.parametrize("quality", [-0.1, 1.1, 5, math.nan, math.inf, True, "0.5", None], ids=str)
def test_quality_is_from_0_to_1(quality):
    """Anything else is an error with the fix."""
    with pytest.raises(ValueError, match="quality must be a number from 0 to 1"):
        Performance().record("news", quality, 100)


@pytest.mark.parametrize("tokens", [0, -5, 1.5, True, None], ids=str)
def test_tokens_are_above_0(tokens):
    """A verdict on an answer that took none says nothing."""
    with pytest.raises(ValueError, match="tokens must be a whole number of at least 1"):
        Performance().record("news", 0.5, tokens)


# Forecasts of need


def test_a_need_is_that_of_a_whole_run():
    """Calls times tokens; by the run that calls belong to."""
    calls = [call("news", 100, run=run) for run in "abcde" for _ in range(3)]
    calls += [call("judge", 250, run=run) for run in "abcde"]
    calls += [call("news", 9_000, run="a", status="failed"), call("news", 9_000, cached=True)]

    assert {"news": 300.0, "judge": 250.0} == ForecastNeed(calls).weights([NEWS, JUDGE])


def test_a_ledger_is_a_history(tmp_path):
    """The latest runs of one, whatever the order of its rows."""
    with Ledger(tmp_path / "ledger.db") as ledger:
        for run in "abcd":
            ledger.record(call("news", 500, run=run))
            ledger.record(call("judge", 100, run=run))
        ledger.flush()
        assert {"news": 500.0, "judge": 100.0} == ForecastNeed(ledger).weights([NEWS, JUDGE])


def test_of_a_long_ledger_the_latest_whole_runs_are_read(tmp_path, monkeypatch):
    """A run of which some calls are too old is left out: it would seem to need little."""
    monkeypatch.setattr(forecast_need, "_MOST_CALLS", 14)
    with Ledger(tmp_path / "ledger.db") as ledger:
        for run in "abcd":
            for _ in range(4):
                ledger.record(call("news", 100, run=run))
        ledger.flush()
        assert Need(400, 400, 3) == ForecastNeed(ledger).need("news")


def test_what_is_still_needed_follows_what_was_spent():
    """A run that has outspent most is compared with those that went on."""
    needs = ForecastNeed([{"news": tokens} for tokens in (100, 110, 120, 1_000, 1_100)])

    assert 120 == needs.need("news").expected_tokens
    assert 20 == needs.need("news", 100).expected_tokens
    assert 1_000 == needs.need("news", 100).upper_tokens
    assert 850 == needs.need("news", 150).expected_tokens
    assert needs.need("news", 2_000) is None
    assert needs.need("judge") is None


def test_a_user_is_forecast_by_his_own_runs():
    """A thousand runs of another count as four."""
    needs = ForecastNeed()
    for _ in range(1_000):
        needs.observe({"news": 90_000, "judge": 1}, user="mallory")
    for _ in range(16):
        needs.observe({"news": 100, "judge": 100}, user="ann")

    assert 100 == needs.for_user("ann").need("news").expected_tokens
    assert 100 == needs.for_user("new").need("news").expected_tokens
    assert 100 == needs.for_user("ann").need("news").upper_tokens
    needs.forget("ann")
    assert 90_000 == needs.for_user("new").need("news").upper_tokens  # nobody else is known


@pytest.mark.parametrize("others", [[None], ["ann", "bob", "cy"], [None, "ann"]], ids=str)
@pytest.mark.parametrize("own_runs", [0, 1, 5, 20])
def test_no_other_user_sets_the_need_of_all(others, own_runs):
    """However many, and however odd, his runs are: he is one of several."""
    needs = ForecastNeed()
    for other in others:
        for number in range(20):
            needs.observe({"news": 2_000 + number, "judge": 150 + number}, user=other)
    for _ in range(own_runs):
        needs.observe({"news": 2_010, "judge": 160}, user="kim")
    for _ in range(500):
        needs.observe({"news": 5, "judge": 70_000}, user="odd")

    news, judge = (needs.for_user("kim").need(name) for name in ("news", "judge"))
    for need in (news.expected_tokens, news.upper_tokens):
        assert 2_000 <= need <= 2_019
    for need in (judge.expected_tokens, judge.upper_tokens):
        assert 150 <= need <= 169
    assert needs.for_user("kim").need("judge", 200) is None


def test_too_few_runs_are_priorities_said_once():
    """As the plan would be without the strategy."""
    needs = ForecastNeed([{"news": 900}] * 2)
    claims = [NEWS, Claim("judge", priority=3)]
    with pytest.warns(TokenOptWarning, match="agents weigh by priority"):
        assert {"news": 1.0, "judge": 3} == needs.weights(claims)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        needs.for_user("ann").weights(claims)


def test_an_agent_that_nobody_knows_counts_as_the_mean():
    """Among those that are known."""
    needs = ForecastNeed([{"news": 900, "judge": 300}] * 3)
    assert 600 == needs.weights([NEWS, JUDGE, Claim("clerk")])["clerk"]


@pytest.mark.parametrize(
    "history",
    [["run"], [3], [("news", 5)], [{"news": "many"}], [{"news": -5}], [{"news": 1.5}]],
    ids=str,
)
def test_what_is_no_history_is_refused(history):
    """In words."""
    with pytest.raises(TypeError, match="history is a Ledger, records of calls, or the tokens"):
        ForecastNeed(history)


# Plans


@pytest.mark.parametrize("strategy", ["performance", "forecast", "auto"])
def test_a_plan_file_names_the_strategy(strategy, tmp_path):
    """It is read as it was written, and making a plan warns of nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plan = BudgetPlan(total_tokens=900, agents={"news": {}, "judge": {}}, strategy=strategy)
        plan.to_file(tmp_path / "plan.toml")
        assert strategy == BudgetPlan.from_file(tmp_path / "plan.toml").strategy
    with pytest.warns(TokenOptWarning, match="agents weigh by priority"):
        assert {"news": 450, "judge": 450} == plan.shares()


def test_a_history_divides_a_plan():
    """By what agents need."""
    plan = BudgetPlan(total_tokens=900, agents={"news": {}, "judge": {}}, strategy="forecast")
    assert {"news": 600, "judge": 300} == plan.shares(history=[{"news": 800, "judge": 400}] * 3)


def test_a_strategy_learns_from_the_runs_of_its_plan():
    """What agents have used, and verdicts on it."""
    needs = ForecastNeed()
    plan = BudgetPlan(total_tokens=5_000, agents={"news": {}, "judge": {}}, strategy=needs)
    performance = Performance()
    model = optimize(fake_chat(answers=[FakeAnswer("Yes.", Usage(30, 10))] * 6), plan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TokenOptWarning)
        for _ in range(3):
            with plan.run(performance=performance, user="ann") as run:
                for _ in range(2):
                    model.invoke("Is it?", {"metadata": {"tokenopt_agent": "news"}})
                run.rate("news", 0.75)

    assert 80 == needs.for_user("ann").need("news").expected_tokens
    assert 3 == pytest.approx(performance.for_user("ann").returns()["news"].verdicts, abs=0.2)
    with pytest.raises(ValueError, match="'judge' has used no tokens in this run"):
        run.rate("judge", 0.5)


def test_a_need_that_was_cut_is_a_lower_bound():
    """By the product-limit estimator: the cut say nothing of those that need less."""
    needs = ForecastNeed(quantile=0.5)
    for tokens in (100, 200, 300, 400):
        needs.observe(
            {"news": tokens, "judge": tokens}, cut=["news"] if tokens in (100, 300) else ()
        )
    for _ in range(3):
        needs.observe({"clerk": 200}, cut=["clerk"])

    assert Need(200, 200, 4) == needs.need("judge")
    assert Need(400, 400, 4) == needs.need("news")  # beyond 200: two thirds of all
    assert Need(300, 300, 3, is_guess=True) == needs.need("clerk")
    assert Need(200, 200, 3, is_guess=True) == needs.need("clerk", spent=100)


def test_a_guess_weighs_as_much_as_its_priority():
    """It grows with what its agent was given: it would take the more, the more it had."""
    needs, judge = ForecastNeed(), Claim("judge", priority=2)
    for _ in range(5):
        needs.observe({"news": 900, "judge": 100}, cut=["news"])
    assert {"news": 1, "judge": 2} == needs.weights([NEWS, judge])

    for _ in range(20):
        needs.observe({"news": 1_100, "judge": 100})
    assert {"news": 1_100, "judge": 100} == needs.weights([NEWS, judge])


class Writer(BaseChatModel):
    """Writes as much as it wants, or as it may."""

    wanted: int
    max_tokens: int | None = None

    @property
    def _llm_type(self):
        return "writer"

    def _generate(self, messages, stop=None, run_manager=None, max_tokens=None, **kwargs):
        wrote = min(self.wanted, max_tokens or self.wanted)
        reason = "length" if wrote < self.wanted else "stop"
        said = AIMessage(
            "The tide is in. " * (wrote // 5),
            response_metadata={"finish_reason": reason},
            usage_metadata={"input_tokens": 8, "output_tokens": wrote, "total_tokens": wrote + 8},
        )
        return ChatResult(generations=[ChatGeneration(message=said)])


def spent_of_last_run(strategy, wants, runs, total=4_000):
    """Return what each agent spent in the last of some runs, who come in this order."""
    plan = BudgetPlan(total_tokens=total, agents={name: {} for name in wants}, strategy=strategy)
    for _ in range(runs):
        with plan.run() as run:
            for name, wanted in wants.items():
                run.begin(name)
                model = optimize(Writer(wanted=wanted), plan)
                model.invoke("Write.", {"metadata": {"tokenopt_agent": name}})
                run.end(name, finished=True)
    return {name: line.account.spent_tokens for name, line in run.report().agents.items()}


@pytest.mark.filterwarnings("ignore:The strategy")
@pytest.mark.parametrize("kind", [ForecastNeed, Auto])
@pytest.mark.parametrize("order", [["poet", "typist", "printer"], ["printer", "typist", "poet"]])
def test_runs_that_were_cut_strand_nothing(kind, order):
    """Who needs little is whole, and the rest is used by who wants more than there is."""
    wants = {"poet": 5_000, "typist": 400, "printer": 1_100}
    spent = spent_of_last_run(kind(), {name: wants[name] for name in order}, runs=9)

    assert sum(spent.values()) > 0.95 * 4_000
    assert (408, 1_108) == (spent["typist"], spent["printer"])


@pytest.mark.filterwarnings("ignore:The strategy")
@pytest.mark.parametrize("kind", [ForecastNeed, Auto])
def test_where_all_are_always_cut_nobody_keeps_what_the_first_run_gave(kind):
    """The first had eleven times as much as the others."""
    spent = spent_of_last_run(kind(), dict.fromkeys("abc", 3_000), runs=9, total=3_000)

    assert sum(spent.values()) > 0.95 * 3_000
    assert max(spent.values()) < 1.2 * min(spent.values())


@pytest.mark.filterwarnings("ignore:The strategy")
@pytest.mark.parametrize("kind", [ForecastNeed, Auto])
def test_a_need_that_shrinks_after_it_was_cut_is_followed(kind):
    """Nothing that was cut before keeps the others short."""
    strategy, wants = kind(), {"poet": 5_000, "typist": 400, "printer": 1_100}
    spent_of_last_run(strategy, wants, runs=9)
    wants |= {"poet": 600, "printer": 2_500}
    spent = spent_of_last_run(strategy, wants, runs=2)

    assert (608, 408, 2_508) == tuple(spent[name] for name in wants)


def test_answers_are_rated_once():
    """The next verdict is on what came since, and one more on the same counts for nothing."""
    performance = Performance()
    plan = BudgetPlan(total_tokens=5_000, agents={"news": {}}, strategy="priority")
    model = optimize(fake_chat(answers=[FakeAnswer("Yes.", Usage(30, 10))] * 2), plan)
    with plan.run(performance=performance) as run:
        for _ in range(2):
            model.invoke("Is it?", {"metadata": {"tokenopt_agent": "news"}})
            for _ in range(3):
                run.rate("news", 0.75)
    found = performance.returns()["news"]

    assert 2 == pytest.approx(found.verdicts, abs=0.1)
    assert 40 == pytest.approx(math.exp(found.log_tokens))


@pytest.mark.parametrize("kind", [Performance, Auto])
def test_verdicts_of_a_run_teach_the_plans_own_strategy(kind):
    """An object that is a strategy keeps what it learns, for the user of the run."""
    strategy = kind()
    plan = BudgetPlan(total_tokens=5_000, agents={"news": {}}, strategy=strategy)
    model = optimize(fake_chat(answers=[FakeAnswer("Yes.", Usage(30, 10))]), plan)
    with pytest.warns(TokenOptWarning, match="agents weigh by priority"):
        run = plan.run(user="ann")
    with run:
        model.invoke("Is it?", {"metadata": {"tokenopt_agent": "news"}})
        run.rate("news", 0.75)
    performance = strategy.performance if kind is Auto else strategy

    assert 1 == performance.for_user("ann").returns()["news"].verdicts
    with pytest.raises(TypeError, match="names nothing"):
        performance.forget(None)
    assert 1 == performance.forget("ann")


def test_a_store_that_cannot_be_read_breaks_no_run(monkeypatch):
    """Priorities, said aloud."""
    performance = Performance()

    def fail(*names):
        raise sqlite3.OperationalError("database is locked")

    monkeypatch.setattr(performance.store, "values", fail)
    with (
        pytest.warns(TokenOptWarning, match="agents weigh by priority"),
        pytest.warns(TokenOptWarning, match="cannot be read: database is locked"),
    ):
        assert 1 == ratio(performance)


def test_a_verdict_needs_somebody_who_learns():
    """The error says what to give."""
    with BudgetPlan(total_tokens=100).run() as run, pytest.raises(ValueError, match="performance="):
        run.rate("news", 0.5)


# Auto


def test_auto_needs_eight_runs():
    """With fewer it is the plain default, and says so."""
    auto = Auto([{"news": 900, "judge": 100}] * 7, total_tokens=500)
    with pytest.warns(TokenOptWarning, match="needs 8 runs to choose by, and knows"):
        auto.weights([NEWS, JUDGE])
    assert "priority" == auto.choice
    assert "a choice needs 8" in auto.explain()


UNEQUAL = [{"news": 900 + n, "judge": 90 + n} for n in range(12)]


def test_auto_picks_what_would_have_done_best():
    """Fixed shares should follow needs; in a run, what one leaves is the other's in any case."""
    fixed, flowing = (Auto(UNEQUAL, total_tokens=900, flows_on=flows) for flows in (False, True))

    assert fixed.choice in ("forecast", "proportional")
    assert "priority" == flowing.choice
    assert fixed.weights([NEWS, JUDGE])["news"] > 800
    assert "more than 'priority', in 9 runs with 900 tokens each" in fixed.explain()


@pytest.mark.parametrize("flows_on", [False, True])
def test_auto_takes_no_run_that_it_has_cut_for_what_was_needed(flows_on):
    """Eighty of its own runs later it judges as before, and knows the same needs."""
    draw, wants = random.Random(3), {"news": 6_000, "judge": 700, "clerk": 1_500}
    auto, claims = Auto(total_tokens=3_000, flows_on=flows_on), [Claim(name) for name in wants]

    def needs():
        return {name: int(want * math.exp(draw.gauss(0, 0.3))) for name, want in wants.items()}

    for _ in range(40):
        auto.observe(needs())
    auto.weights(claims)
    before, needed = auto.explain(), auto.need("news")
    for _ in range(80):
        shares = allocate(3_000, auto.weights(claims))
        auto.observe({name: min(need, shares[name]) for name, need in needs().items()})

    assert before == auto.explain()
    kept = auto._tested().choice().kept
    assert max(kept.values()) < 0.95
    assert auto.need("news").upper_tokens == pytest.approx(needed.upper_tokens, rel=0.3)


def test_auto_takes_a_run_that_was_cut_for_a_larger_one():
    """By what is known of runs that were not; else by the guess."""
    auto, claims = Auto(total_tokens=1_000), [NEWS, JUDGE]
    for _ in range(20):
        auto.observe({"news": 900, "judge": 50}, cut=["news"])
    auto.weights(claims)
    assert auto.need("news").is_guess
    assert max(auto._tested().choice().kept.values()) < 1  # it has fitted, as it was cut

    for _ in range(20):
        auto.observe({"news": 950, "judge": 50})
    auto.weights(claims)
    assert Need(950, 950, 20) == auto.need("news")


def test_auto_follows_runs_that_fit_easily():
    """They were not cut: what is needed now is what they have used."""
    auto, claims = Auto(total_tokens=3_000, flows_on=True), [NEWS, JUDGE]
    for _ in range(20):
        auto.observe({"news": 6_000, "judge": 700})
    for _ in range(20):
        auto.observe({"news": 900, "judge": 100})
    auto.weights(claims)

    assert 900 == auto.need("news").upper_tokens


def test_auto_knows_verdicts():
    """Priorities are wrong here: the judge gains nothing by its tokens."""
    performance = Performance()
    for tokens in TOKENS * 5:
        performance.record("news", rising(tokens), tokens, wanted=1_600)
        performance.record("judge", 0.9, tokens, wanted=1_600)
    past = [{"news": 1_600 + n, "judge": 1_600 - n} for n in range(12)]
    auto = Auto(past, performance=performance, total_tokens=2_000, flows_on=True)

    assert "performance" == auto.choice
    assert performance.weights([NEWS, JUDGE]) == auto.weights([NEWS, JUDGE])


def test_auto_goes_on_as_runs_end():
    """What it picks changes with what agents need."""
    auto = Auto(total_tokens=900)
    with pytest.warns(TokenOptWarning, match="knows 0"):
        auto.weights([NEWS, JUDGE])
    for run in UNEQUAL:
        auto.observe(run)
    assert ratio(auto) > 5
    for run in UNEQUAL * 5:
        auto.observe({"news": run["judge"], "judge": run["news"]})
    assert ratio(auto) < 1 / 5


def test_auto_judges_a_user_by_his_own_runs():
    """Another's thousands change nothing; before eight of his own, four of them count."""
    auto = Auto(total_tokens=900)
    for run in UNEQUAL:
        auto.observe(run, user="ann")
    for _ in range(1_000):
        auto.observe({"news": 1, "judge": 10**9}, user="mallory")
    ann = auto.for_user("ann")

    assert ratio(ann) > 5
    with pytest.warns(TokenOptWarning, match="needs 8 runs"):
        assert 1 == ratio(auto.for_user("new"))
    auto.forget("ann")
    assert "priority" == auto.for_user("ann").choice
