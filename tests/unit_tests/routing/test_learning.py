"""What the router learns from outcomes, what it keeps of them, and how it forgets."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from langchain_core.embeddings import Embeddings
from langchain_core.messages import AIMessage, HumanMessage

from langchain_tokenopt import ModelRouter, TokenOptWarning, optimize, track_usage
from langchain_tokenopt.core.staged_runs import StagedRun
from langchain_tokenopt.request.model_request import ModelRequest
from langchain_tokenopt.routing.complexity import features_of
from langchain_tokenopt.routing.decision import Decided
from langchain_tokenopt.routing.estimate import Space, TierModel
from langchain_tokenopt.routing.vectors import Vector, vector_of
from tests.support.fakes import fake_chat

LEASES = ["Is clause {n} of the lease void?", "May the tenant of flat {n} sublet it?"]
FOOD = ["How long do I boil {n} eggs?", "Can I freeze {n} portions of soup?"]


def tiers() -> dict[str, Any]:
    return {name: fake_chat(model=name) for name in ("cheap", "strong")}


def traffic(router: ModelRouter, model: Any, rounds: int, seed: int = 1, **config: Any) -> None:
    """Questions about leases, which the cheap model cannot answer, and about food, which it can."""
    rng = random.Random(seed)
    for number in range(rounds):
        text = rng.choice(LEASES if number % 2 else FOOD).format(n=rng.randint(2, 90))
        answer = model.invoke(text, config or None)
        is_good = answer.response_metadata["tokenopt_tier"] == "strong" or number % 2 == 0
        assert router.report(answer, is_good)


def made(**more: Any) -> tuple[ModelRouter, Any]:
    there = tiers()
    router = ModelRouter(there, **more)
    return router, optimize(there["strong"], router)


def tiers_for(router: ModelRouter, texts: Sequence[str], **more: Any) -> set[str]:
    return {router.explain(text.format(n=n), **more).tier for text in texts for n in (5, 31, 77)}


# --- what is learned


def test_a_field_in_which_the_cheap_model_fails_goes_to_the_strong_one() -> None:
    """And another one does not; the reason says of how many outcomes that is known."""
    router, model = made()
    assert {"cheap"} == tiers_for(router, LEASES)
    traffic(router, model, 160)

    assert {"strong"} == tiers_for(router, LEASES)
    assert {"cheap"} == tiers_for(router, FOOD)
    route = router.explain(LEASES[0].format(n=7))
    assert "cheap was good in" in route.reasons[-1]
    assert route.expected["cheap"].high < 0.85


def test_what_is_corrected_later_counts() -> None:
    """Though there are no more outcomes than before."""
    router, model = made()
    answers = [model.invoke(LEASES[0].format(n=n)) for n in range(80)]
    for good in (True, False):
        for answer in answers:
            router.report(answer, good)
    route = router.explain(LEASES[0].format(n=7))
    assert "strong" == route.tier
    assert route.expected["cheap"].mean < 0.2


def test_reports_from_threads_at_once_are_all_learned() -> None:
    router, model = made()
    answers = [model.invoke(LEASES[0].format(n=n)) for n in range(80)]
    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(lambda answer: router.report(answer, False), answers))
    route = router.explain(LEASES[0].format(n=7))
    assert "strong" == route.tier
    assert route.expected["cheap"].outcomes >= 76


def test_a_few_bad_outcomes_and_unlike_requests_move_nothing() -> None:
    """Three by chance are none; and what is known of leases says nothing about thanks."""
    router, model = made()
    for n in range(3):
        router.report(model.invoke(FOOD[0].format(n=n)), False)
    assert {"cheap"} == tiers_for(router, FOOD)
    traffic(router, model, 160)
    assert "cheap" == router.explain("Thanks a lot!").tier


def test_a_hard_request_falls_to_a_model_that_is_known_to_do() -> None:
    """Where requests like it were answered well, with little doubt; a critical one never does."""
    hard = "Analyse why item {n} fails, compare 3 ways to repair it, and plan each step."
    urgent = "Urgent: analyse why item {n} fails, compare 3 ways to repair it now."
    there = tiers()
    router = ModelRouter(there)
    assert {"strong"} == tiers_for(router, [hard])
    rng = random.Random(2)
    vectors = []
    for _ in range(120):
        for text in (hard, urgent):
            asked = [HumanMessage(text.format(n=rng.randint(1, 99)))]
            vectors.append(asked)
    outcomes, decider = router._outcomes, router._decider
    assert outcomes is not None
    for asked in vectors:
        run = StagedRun(run_id=uuid4())
        decided = decider.decide(ModelRequest(there["strong"], asked, None, {}, run))
        assert isinstance(decided, Decided)
        assert decided.vector is not None
        outcomes.add(decided.owner, str(run.run_id), "cheap", 1.0, decided.vector)
    assert {"cheap"} == tiers_for(router, [hard])
    assert {"strong"} == tiers_for(router, [urgent])


def test_error_bars_narrow_and_are_whole_where_nothing_is_known() -> None:
    """From everything is possible to what was seen."""
    router, model = made()
    text = FOOD[0].format(n=7)
    assert (0.0, 1.0) == router.explain(text).interval
    widths = []
    for rounds in (60, 240):
        traffic(router, model, rounds, seed=rounds)
        low, high = router.explain(text).interval
        widths.append(high - low)
    assert 1 > widths[0] > widths[1] > 0


def test_error_bars_hold_as_often_as_they_say() -> None:
    """Over requests whose chance of a good answer is known: 90 %, and no less than 80 %."""
    rng = np.random.default_rng(5)
    texts = [f"Question {n} about {'law ' * int(n % 7)}and {n * 31 % 97} euros" for n in range(900)]
    vectors = [vector_of(text, features_of([HumanMessage(text)])) for text in texts]
    chance = np.array([0.95 - 0.12 * (n % 7) for n in range(900)])
    held = []
    for known in (100, 600):
        space = Space(vectors[:known])
        model = TierModel(space.rows, (rng.random(known) < chance[:known]).astype(float))
        rows = space.place(vectors[600:])
        for n in range(0, 300, 3):
            found = model.expected(rows[n : n + 1])
            held.append(found.low <= chance[600 + n] <= found.high)
    assert np.mean(held) >= 0.8


def test_a_number_as_policy_follows_what_is_gained_by_the_strong_model() -> None:
    """By rank among what was seen: half of the way sends about half of the requests up."""
    router, model = made(policy=0.5)
    for text in (*LEASES, *FOOD):
        for n in range(2, 60):
            asked = text.format(n=n)
            model.invoke(asked)
            key = next(reversed(router._answered))
            for tier, good in (("cheap", text in FOOD), ("strong", True)):
                known = router._answered[key]._replace(tier=tier)
                router._add(known, float(good))
    assert {"strong"} == tiers_for(router, LEASES)
    assert {"cheap"} == tiers_for(router, FOOD)


def test_validators_report_as_users_do_and_a_later_word_counts() -> None:
    """Of the answer that was sent back and of the one that stood."""
    there = tiers()
    there["cheap"].answers[:] = []
    router = ModelRouter(there, cascade=lambda answer: "w0" not in answer.text)
    answer = optimize(there["strong"], router).invoke("Hi")
    (known,) = router._outcomes._known.values()  # type: ignore[union-attr]
    assert [("cheap", 0.0)] == [(one.tier, one.good) for one in known.values()]
    router.report(answer, True)
    router.report(answer, 0.25)
    assert [("cheap", 0.0), ("strong", 0.25)] == [(one.tier, one.good) for one in known.values()]


@pytest.mark.parametrize(("standing", "asked"), [(0, range(16, 30)), (2, [80]), (5, [80])])
def test_a_cascade_begins_with_the_cheapest_where_that_pays(standing, asked):
    """It costs a fraction, so it is worth trying until hardly any of its answers stand."""
    there, judged = tiers(), iter(range(80))
    router = ModelRouter(
        there, cascade=lambda answer: bool(standing and next(judged) % standing == 0)
    )
    model = optimize(there["strong"], router)
    for n in range(80):
        model.invoke(FOOD[0].format(n=n + 2))
    assert len(there["cheap"].calls) in asked


def test_learning_that_is_switched_off_learns_nothing() -> None:
    router, model = made(learn=False)
    assert not router.report(model.invoke("Hi"), False)
    assert 0 == router.clear()


# --- whose it is


def test_agents_and_organizations_learn_apart() -> None:
    """What one organization's requests have shown is used for no other."""
    router, model = made()
    traffic(router, model, 160, metadata={"tenant_id": "acme", "tokenopt_agent": "desk"})
    assert {"cheap"} == tiers_for(router, LEASES)
    assert {"cheap"} == tiers_for(router, LEASES, agent="desk")
    there = model.invoke(
        LEASES[0].format(n=5), {"metadata": {"tenant_id": "acme", "tokenopt_agent": "desk"}}
    )
    assert "strong" == there.response_metadata["tokenopt_tier"]


def test_what_is_kept_has_no_texts_and_is_known_to_another_process(tmp_path: Path) -> None:
    """And is deleted from the file, a user's alone or all; whoever has it in memory notices."""
    path = tmp_path / "routes.db"
    router, model = made(store=path)
    traffic(router, model, 120, metadata={"user_id": "ann"})
    traffic(router, model, 40, seed=9, metadata={"user_id": "bob"})
    other, _ = made(store=path)

    assert {"strong"} == tiers_for(other, LEASES) == tiers_for(router, LEASES)
    kept = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    for word in (b"lease", b"sublet", b"tenant", b"eggs", b"soup", b"ann", b"bob"):
        assert word not in kept
    assert 120 == router.forget(user="ann")
    assert router.forget(user="ann") == 0
    assert 40 == other.explain(LEASES[0].format(n=5)).expected["cheap"].outcomes + sum(
        one.outcomes
        for name, one in other.explain(LEASES[0].format(n=5)).expected.items()
        if name == "strong"
    )
    assert 40 == other.clear()
    assert {"cheap"} == tiers_for(router, LEASES)


def test_a_file_that_cannot_be_used_breaks_no_call(tmp_path: Path) -> None:
    """It is warned of, and memory stands in its place."""
    path = tmp_path / "routes.db"
    path.write_bytes(b"no database at all" * 100)
    router, model = made(store=path)
    with pytest.warns(TokenOptWarning, match="cannot be kept"):
        traffic(router, model, 4)


def test_what_stands_in_a_file_and_is_none_is_passed_over(tmp_path: Path) -> None:
    """Of an earlier release, of a longer vector, or of somebody who has written into it."""
    path = tmp_path / "routes.db"
    router, model = made(store=path)
    traffic(router, model, 40)
    with sqlite3.connect(path) as database:
        keys = [key for (key,) in database.execute("SELECT key FROM learned")]
        odd = ['["cheap",1]', '["cheap",7,[],[],null]', '["cheap",1,["x"],[],null]', "{}", "[]"]
        for key, value in zip(keys, odd, strict=False):
            database.execute("UPDATE learned SET value = ? WHERE key = ?", (value, key))
        longer = '["cheap",1,[1.0,2.0],[3],null]'
        database.execute("UPDATE learned SET value = ? WHERE key = ?", (longer, keys[10]))
    database.close()
    other, again = made(store=path)
    assert other.explain("Hi").tier == "cheap"
    again.invoke("Hi")


# --- what is reported


@pytest.mark.parametrize("good", [2, -1, float("nan"), "good", None])
def test_an_outcome_that_is_none_is_said(good: Any) -> None:
    router, model = made()
    with pytest.raises(ValueError, match="from 0 to 1"):
        router.report(model.invoke("Hi"), good)


def test_an_answer_is_known_by_itself_its_id_and_its_run() -> None:
    """And one that nobody knows is not."""
    router, model = made()
    with track_usage() as usage:
        answer = model.invoke("Hi")
    (record,) = usage.records
    for known in (answer, answer.id, record.run_id, str(record.run_id)):
        assert router.report(known, True)
    assert not router.report(AIMessage("never seen"), True)
    assert not router.report(uuid4(), True)
    with pytest.raises(TypeError, match="takes an answer"):
        router.report(5, True)  # type: ignore[arg-type]


# --- by meaning


class _Meanings(Embeddings):
    """Knows law from food, whatever the words."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    def embed_query(self, text: str) -> list[float]:
        if self.error is not None:
            raise self.error
        is_law = any(word in text for word in ("lease", "tenant", "heirs", "statute"))
        return [1.0, 0.1] if is_law else [0.1, 1.0]

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]


def test_embeddings_are_kept_as_numbers_and_may_fail(tmp_path: Path) -> None:
    """A request that cannot be embedded is compared without."""
    meanings = _Meanings()
    router, model = made(embeddings=meanings, store=tmp_path / "routes.db")
    traffic(router, model, 80)
    other, _ = made(embeddings=meanings, store=tmp_path / "routes.db")
    assert {"strong"} == tiers_for(other, LEASES)
    meanings.error = RuntimeError("no model")
    with pytest.warns(TokenOptWarning, match="could not be embedded"):
        assert "cheap" == router.explain(FOOD[0].format(n=4)).tier


def test_rows_of_requests_alike_are_alike() -> None:
    """One word more is nearer than another text; what never varies has no weight."""
    texts = ["Is clause 3 void?", "Is clause 3 now void?", "How long do I boil 12 eggs in soup?"]
    vectors: list[Vector] = [vector_of(t, features_of([HumanMessage(t)])) for t in texts]
    rows = Space(vectors).rows
    assert np.linalg.norm(rows[0] - rows[1]) < np.linalg.norm(rows[0] - rows[2])
    assert np.isfinite(rows).all()
