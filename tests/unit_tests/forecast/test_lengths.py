"""Forecasts of answer lengths."""

from __future__ import annotations

import math
import random
import statistics
import threading
from datetime import UTC, datetime
from uuid import uuid4

import numpy as np
import pytest

from langchain_tokenopt.core.attribution import Attribution
from langchain_tokenopt.core.records import CallRecord, UsageSink
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.forecast import Forecast, UsageForecaster


def call(output_tokens: int, agent: str = "writer", **fields) -> CallRecord:
    defaults = {
        "run_id": uuid4(),
        "model": "gpt-4o",
        "provider": "openai",
        "usage": Usage(100, output_tokens),
        "started_at": datetime(2026, 11, 20, tzinfo=UTC),
        "duration_seconds": 1.0,
        "cost_nano_usd": None,
        "attribution": Attribution(agent=agent),
    }
    return CallRecord(**{**defaults, **fields})


def test_it_is_a_sink():
    """Attached to the usage handler it learns from every finished call."""
    forecaster = UsageForecaster()
    for tokens in range(100, 200):
        forecaster.record(call(tokens))

    assert isinstance(forecaster, UsageSink)
    assert 100 == forecaster.observations("writer", model="gpt-4o")
    assert 150 == forecaster.quantile(0.5, "writer", model="gpt-4o")


@pytest.mark.parametrize(
    "fields",
    [
        {"cached": True},
        {"status": "failed"},
        {"status": "abandoned"},
        {"usage": Usage(100, 0)},
    ],
    ids=["cached", "failed", "abandoned", "empty"],
)
def test_only_finished_answers_teach(fields):
    """A cache hit, a failure and an empty answer say nothing about lengths."""
    forecaster = UsageForecaster()

    forecaster.record(call(100, **fields))

    assert 0 == forecaster.observations("writer")


def test_a_run_is_learned_from_once():
    """The stage that knows the word limit tells first; the record of the same run is skipped."""
    forecaster, record = UsageForecaster(), call(80)

    forecaster.observe("writer", 80, max_words=100, run_id=record.run_id)
    forecaster.record(record)

    assert (1, 0) == (
        forecaster.observations("writer", limited=True),
        forecaster.observations("writer", limited=False),
    )


def test_nothing_is_foretold_from_nothing():
    """Too few answers give no number rather than a wrong one."""
    forecaster = UsageForecaster()
    for _ in range(7):
        forecaster.observe("writer", 100)

    assert forecaster.quantile(0.5, "writer") is None
    assert forecaster.forecast("writer") is None
    forecaster.observe("writer", 100)
    assert 100 == forecaster.quantile(0.5, "writer")


def test_a_word_limit_alone_is_known_to_bound():
    """Before any answer there is a generous bound."""
    assert Forecast(135, 800, 800, 0) == UsageForecaster().forecast("writer", max_words=100)


def test_a_new_limit_is_known_from_others():
    """Answers under a limit are learned as tokens per allowed word."""
    forecaster = UsageForecaster()
    for words in (50, 100, 200):
        for _ in range(20):
            forecaster.observe("writer", words * 2, max_words=words)

    assert 600 == forecaster.quantile(0.5, "writer", max_words=300)


def test_similar_prompts_decide():
    """Where length goes with the prompt's, the quantile does too."""
    forecaster = UsageForecaster()
    for n in range(400):
        short, long = 50 + n % 20, 500 + n % 20
        forecaster.observe("writer", short, input_tokens=100 + n % 10)
        forecaster.observe("writer", long, input_tokens=4_000 + n % 10)

    near, far = (forecaster.forecast("writer", input_tokens=n) for n in (100, 4_000))

    assert near.p99_tokens < 100 < 500 <= far.expected_tokens


def test_unknown_agents_are_foretold_from_all():
    """Until an agent has answered often enough the others' answers count."""
    forecaster = UsageForecaster()
    for _ in range(40):
        forecaster.observe("writer", 100, model="gpt-4o")
    for _ in range(29):
        forecaster.observe("critic", 10, model="gpt-4o")

    assert 100 == forecaster.quantile(0.5, "stranger")
    assert 100 == forecaster.quantile(0.5, "critic", model="gpt-4o")
    forecaster.observe("critic", 10, model="gpt-4o")
    assert 10 == forecaster.quantile(0.5, "critic", model="gpt-4o")


@pytest.mark.parametrize("share", [0.9, 0.95, 0.99])
def test_quantiles_keep_their_word_when_lengths_drift(share):
    """The correction holds coverage within 1.5 points although answers grow all the time."""
    rng, forecaster = random.Random(7), UsageForecaster()
    covered = 0
    for n in range(4_000):
        tokens = round(100 * (1 + n / 1_000) * rng.lognormvariate(0, 0.5))
        bound = forecaster.quantile(share, "writer")
        covered += n >= 1_000 and tokens <= bound
        forecaster.observe("writer", tokens)

    assert share == pytest.approx(covered / 3_000, abs=0.015)


def test_quantiles_keep_their_word_when_every_sample_is_out_of_date():
    """Answers that grow by a third of a percent each: the latest ones alone hold 86 % of them."""
    rng, forecaster = random.Random(7), UsageForecaster()
    covered = 0
    for n in range(2_500):
        tokens = round(100 * math.exp(n / 300) * rng.lognormvariate(0, 0.5))
        covered += n >= 1_000 and tokens <= forecaster.quantile(0.95, "writer")
        forecaster.observe("writer", tokens)

    assert 0.95 == pytest.approx(covered / 1_500, abs=0.015)


def test_prompts_that_say_nothing_cost_nothing():
    """Where length does not go with the prompt's, no more is reserved than for all answers."""
    rng, forecaster = random.Random(3), UsageForecaster()
    answers, reserved = [], 0
    for n in range(3_000):
        prompt, tokens = round(rng.lognormvariate(6, 1)), round(50 * rng.paretovariate(1.6))
        if n >= 1_500:
            reserved += forecaster.quantile(0.95, "writer", input_tokens=prompt)
        answers.append(tokens)
        forecaster.observe("writer", tokens, input_tokens=prompt)
    plain = statistics.quantiles(answers, n=20)[-1] * 1_500

    assert reserved < 1.15 * plain


def test_quantiles_keep_their_word_after_a_change():
    """Where older answers to similar prompts were shorter, the correction makes up for them."""
    rng, forecaster = random.Random(5), UsageForecaster()
    share, covered = 0.9, 0
    for n in range(2_200):
        shortest = 1 if n < 1_500 else 501  # of 1,000: half of the range is gone
        tokens, prompt = rng.randint(shortest, 1_000), rng.randint(1, 100_000)
        bound = forecaster.quantile(share, "writer", input_tokens=prompt)
        covered += n >= 1_700 and tokens <= bound
        forecaster.observe("writer", tokens, input_tokens=prompt)

    assert share == pytest.approx(covered / 500, abs=0.03)


def test_quantiles_are_in_order():
    """A longer bound is never shorter."""
    rng, forecaster = random.Random(1), UsageForecaster()
    for _ in range(500):
        forecaster.observe("writer", rng.randint(1, 900))

    foretold = forecaster.forecast("writer")

    assert foretold.expected_tokens < foretold.p95_tokens <= foretold.p99_tokens
    assert 500 == foretold.observations


def test_a_cut_answer_counts_as_longer():
    """A cap that cuts answers must not teach itself that they are short."""
    forecaster = UsageForecaster()
    for _ in range(50):
        forecaster.observe("writer", 100, cut=True)

    assert 150 == forecaster.quantile(0.5, "writer")


def test_old_answers_are_forgotten():
    """The window bounds memory and follows change."""
    forecaster = UsageForecaster(window=50)
    for tokens in [10] * 200 + [500] * 50:
        forecaster.observe("writer", tokens, input_tokens=tokens)

    assert 50 == forecaster.observations("writer")
    assert 500 == forecaster.quantile(0.1, "writer")


@pytest.mark.parametrize("share", [0, 1, -0.5, 1.5])
def test_shares_outside_of_0_to_1_are_refused(share):
    """There is no answer that all answers stay below."""
    with pytest.raises(ValueError, match=f"above 0 and below 1, got {share}"):
        UsageForecaster().quantile(share, "writer")


def test_a_window_too_small_is_refused():
    """With the number that is needed."""
    with pytest.raises(ValueError, match="at least 30 answers, got 5"):
        UsageForecaster(window=5)


def test_threads_lose_nothing():
    """A sink is told by several threads."""
    forecaster = UsageForecaster()

    def work():
        for tokens in range(1, 101):
            forecaster.observe("writer", tokens, input_tokens=tokens)
            forecaster.quantile(0.5, "writer", input_tokens=tokens)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 800 == forecaster.observations("writer")


def test_an_answer_that_ends_in_the_middle_of_a_prediction_is_learned_afterwards():
    """The garbage collector may end a call on the very thread that is predicting."""
    forecaster = UsageForecaster()
    with forecaster._lock:
        ending = threading.Thread(target=forecaster.observe, args=("writer", 100), daemon=True)
        ending.start()
        ending.join(timeout=10)

        assert not ending.is_alive()

    assert 1 == forecaster.observations("writer")


def test_only_many_runs_ago_is_forgotten():
    """Runs are remembered long enough for their record to arrive."""
    forecaster, record = UsageForecaster(), call(10)
    forecaster.record(record)
    for _ in range(4_000):
        forecaster.record(call(10))

    forecaster.record(record)

    assert 4_001 == forecaster.observations("writer")


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan, -5, 10**400, "60", True, []])
@pytest.mark.parametrize("name", ["output_tokens", "input_tokens", "max_words"])
def test_numbers_that_cannot_be_are_refused(name, number):
    """Where they are given, in a sentence with the name and the number; nothing is learned."""
    forecaster = UsageForecaster()
    needs = f"{name} must be a finite number"

    with pytest.raises(ValueError, match=needs):
        forecaster.observe("writer", **{"output_tokens": 5, name: number})
    if name != "output_tokens":
        with pytest.raises(ValueError, match=needs):
            forecaster.forecast("writer", **{name: number})
    else:
        with pytest.raises(ValueError, match=needs):
            forecaster.observe_object("Verdict", number)
        with pytest.raises(ValueError, match="the number of calls of 'writer' must be"):
            forecaster.observe_calls({"writer": number})
    assert forecaster.observations("writer") == 0


def test_numbers_of_numpy_are_numbers():
    """As they come from a table of a user."""
    of_numpy, plain = UsageForecaster(), UsageForecaster()
    for tokens in np.arange(100, 200):
        of_numpy.observe("writer", tokens, input_tokens=np.float32(80))
        plain.observe("writer", int(tokens), input_tokens=80)

    asked = of_numpy.forecast("writer", input_tokens=np.int64(80))
    assert asked == plain.forecast("writer", input_tokens=80)
