"""The quality guard: it falls back when answers get worse, and only then."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import random
import sqlite3
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.globals import set_llm_cache
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.graph import END, START, StateGraph
from typer.testing import CliRunner

from langchain_tokenopt import Ledger, TokenOptWarning, WordLimit, optimize, track_usage
from langchain_tokenopt.budget import Performance
from langchain_tokenopt.cli import app
from langchain_tokenopt.evaluate import ExactMatch, GuardReport, QualityGuard
from langchain_tokenopt.evaluate.guard import GuardFileError
from langchain_tokenopt.evaluate.guard_state import GuardState, Key
from langchain_tokenopt.request.model_request import Answer, ModelRequest
from langchain_tokenopt.stage import Phase, StageCall
from tests.support.fakes import FakeAnswer, fake_chat

PLAIN, BAD = "Ada won in 1952.", "Bob won in 1999."


class Spoiler:
    """A stage that answers wrongly while ``is_bad``."""

    phase, blocking, fingerprint = Phase.LIMIT, False, "spoiler"

    def __init__(self, is_bad: bool = True) -> None:
        self.is_bad = is_bad
        self.opened = 0

    def open(self, request: ModelRequest) -> StageCall:
        self.opened += 1
        return _Spoiled(request, self.is_bad)


class _Spoiled(StageCall):
    def __init__(self, request: ModelRequest, is_bad: bool) -> None:
        super().__init__(request)
        self._is_bad = is_bad

    def close(self, answer: Answer) -> Answer:
        if not self._is_bad:
            return answer
        generation = ChatGeneration(message=AIMessage(BAD))
        return answer.override(result=ChatResult(generations=[generation]))


def model() -> Any:
    return fake_chat("_agenerate", "_stream", "_astream", answers=[FakeAnswer(PLAIN)] * 2_000)


@pytest.fixture
def make() -> Iterator[Callable[..., QualityGuard]]:
    made: list[QualityGuard] = []

    def guard(stages: Any, **options: Any) -> QualityGuard:
        options = {"share": 1.0, "max_extra": 100.0, "judges": ExactMatch(), **options}
        made.append(QualityGuard(stages, **options))
        return made[-1]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TokenOptWarning)
        yield guard
        for one in made:
            one.close()


def ask(staged: Any, guard: QualityGuard, times: int, **config: Any) -> list[str]:
    said = []
    for _ in range(times):
        said.append(staged.invoke("Who won?", **config).content)
        guard.wait(10)
    return said


def test_it_falls_back_when_answers_are_worse(make: Callable[..., QualityGuard]) -> None:
    heard: list[GuardReport] = []
    guard = make(Spoiler(), on_change=heard.append)
    said = ask(optimize(model(), guard), guard, 20)
    assert said[0] == BAD
    assert said[-1] == PLAIN
    assert said.index(PLAIN) < 12
    assert [report.is_off for report in heard] == [True]


def test_equal_answers_never_make_it_fall(make: Callable[..., QualityGuard]) -> None:
    stage = Spoiler(is_bad=False)
    guard = make(stage)
    assert set(ask(optimize(model(), guard), guard, 60)) == {PLAIN}
    assert stage.opened == 60
    (report,) = guard.report()
    assert (report.level, report.judges["exact match"].trials) == (0, 60)


def test_it_warns(make: Callable[..., QualityGuard]) -> None:
    guard = make(Spoiler())
    with pytest.warns(TokenOptWarning, match="got worse"):
        ask(optimize(model(), guard), guard, 20)


def test_it_only_warns_where_it_is_told_to(make: Callable[..., QualityGuard]) -> None:
    heard: list[GuardReport] = []
    guard = make(Spoiler(), on_worse="warn", on_change=heard.append)
    assert set(ask(optimize(model(), guard), guard, 20)) == {BAD}
    assert heard
    assert not any(report.is_off for report in heard)


def test_it_tries_the_gentler_level_first(make: Callable[..., QualityGuard]) -> None:
    gentle = Spoiler(is_bad=False)
    guard = make(Spoiler(), gentler=[gentle])
    said = ask(optimize(model(), guard), guard, 30)
    assert said[-1] == PLAIN
    assert gentle.opened > 10
    assert guard.report()[0].level == 1


def test_each_agent_has_its_own_evidence(make: Callable[..., QualityGuard]) -> None:
    guard = make(Spoiler())
    staged = optimize(model(), guard)
    ask(staged, guard, 20, config={"metadata": {"tokenopt_agent": "news"}})
    first = ask(staged, guard, 1, config={"metadata": {"tokenopt_agent": "sport"}})
    assert first == [BAD]
    assert {report.agent: report.level for report in guard.report()} == {"news": 1, "sport": 0}


def test_budgets_learn_from_its_verdicts(make: Callable[..., QualityGuard]) -> None:
    """What was left of an agent's quality with the tokens that it used."""
    performance = Performance()
    for agent, is_bad in (("ann", True), ("bob", False)):
        guard = make(Spoiler(is_bad), performance=performance)
        ask(optimize(model(), guard), guard, 5, config={"metadata": {"tokenopt_agent": agent}})
    bad, good = (performance.returns()[agent] for agent in ("ann", "bob"))

    assert bad.quality < 0.4 < 0.6 < good.quality
    assert bad.verdicts > 4 < good.verdicts


def test_a_verdict_is_on_the_user_who_asked(make: Callable[..., QualityGuard]) -> None:
    """So that it can be forgotten with him."""
    performance = Performance()
    guard = make(Spoiler(), performance=performance)
    ask(optimize(model(), guard), guard, 1, config={"metadata": {"user_id": "ann"}})
    assert 1 == performance.forget("ann")


def test_after_a_time_it_tries_again(make: Callable[..., QualityGuard]) -> None:
    stage = Spoiler()
    guard = make(stage, retry_seconds=100.0)
    now = [1_000.0]
    guard._state._now = lambda: now[0]
    staged = optimize(model(), guard)
    assert ask(staged, guard, 20)[-1] == PLAIN
    now[0] += 99
    assert ask(staged, guard, 1) == [PLAIN]
    now[0] += 2
    assert ask(staged, guard, 1) == [BAD]
    stage.is_bad = False
    assert ask(staged, guard, 30)[-1] == PLAIN
    assert guard.report()[0].level == 0


def test_the_caller_never_sees_a_trial(make: Callable[..., QualityGuard]) -> None:
    guard = make(Spoiler(is_bad=False))
    with track_usage() as usage:
        ask(optimize(model(), guard), guard, 5)
    assert usage.totals().calls == 5


def test_sinks_see_what_trials_cost(make: Callable[..., QualityGuard]) -> None:
    class Heard:
        calls = 0

        def record(self, event: object) -> None:
            self.calls += 1

    heard = Heard()
    guard = make(Spoiler(is_bad=False), sinks=[heard])
    ask(optimize(model(), guard), guard, 5)
    assert heard.calls == 10  # each trial asks the plain model twice


def test_trials_take_no_more_than_they_may(make: Callable[..., QualityGuard]) -> None:
    """A trial takes twice what its request took."""
    guard = make(Spoiler(is_bad=False), max_extra=0.1)
    ask(optimize(model(), guard), guard, 100)
    (report,) = guard.report()
    assert report.judges["exact match"].trials == 5
    assert guard.left_out == 95


def test_trials_that_are_under_way_count(make: Callable[..., QualityGuard]) -> None:
    guard = make(Spoiler(is_bad=False), max_extra=0.1)
    optimize(model(), guard).batch(["Who won?"] * 100)
    guard.wait(10)
    assert guard.report()[0].judges["exact match"].trials <= 5


def test_observing_changes_no_answer(make: Callable[..., QualityGuard]) -> None:
    stage = Spoiler()
    guard = make(stage, mode="observe")
    assert set(ask(optimize(model(), guard), guard, 5)) == {PLAIN}
    assert stage.opened == 5
    assert guard.report()[0].judges["exact match"].difference == -1


def test_a_split_gives_the_same_user_the_same_side(make: Callable[..., QualityGuard]) -> None:
    guard = make(Spoiler(), mode="split")
    staged = optimize(model(), guard)
    said = {
        user: set(ask(staged, guard, 3, config={"metadata": {"user_id": user}}))
        for user in map(str, range(20))
    }
    assert all(len(answers) == 1 for answers in said.values())
    assert {next(iter(answers)) for answers in said.values()} == {PLAIN, BAD}


def test_off_is_off(make: Callable[..., QualityGuard]) -> None:
    stage = Spoiler()
    guard = make(stage, mode="off")
    assert ask(optimize(model(), guard), guard, 3) == [PLAIN] * 3
    assert stage.opened == 0


def test_async_and_streams(make: Callable[..., QualityGuard]) -> None:
    guard = make(WordLimit(2))
    staged = optimize(model(), guard)

    async def both() -> list[str]:
        said = [(await staged.ainvoke("Who won?")).text]
        said.append("".join([chunk.text async for chunk in staged.astream("Who won?")]))
        return said

    assert asyncio.run(both()) == ["Ada won…"] * 2
    assert "".join(chunk.text for chunk in staged.stream("Who won?")) == "Ada won…"
    guard.wait(10)
    assert guard.report()[0].judges["exact match"].trials == 3


def test_nodes_are_agents(make: Callable[..., QualityGuard]) -> None:
    guard = make(Spoiler(is_bad=False))
    staged = optimize(model(), guard)
    graph = StateGraph(dict)
    graph.add_node("news", lambda state: {"said": staged.invoke("Who won?").text})
    graph.add_edge(START, "news")
    graph.add_edge("news", END)
    graph.compile().invoke({})
    guard.wait(10)
    assert [report.agent for report in guard.report()] == ["news"]


def test_a_cache_further_out_does_not_serve_what_was_found_bad(
    make: Callable[..., QualityGuard],
) -> None:
    guard = make(Spoiler())
    staged = optimize(model(), guard)
    set_llm_cache(InMemoryCache())
    try:
        for number in range(20):
            staged.invoke(f"Who won race {number}?")
            guard.wait(10)
        assert staged.invoke("Who won race 0?").text == PLAIN
    finally:
        set_llm_cache(None)


# --- what goes wrong -----------------------------------------------------------------------------


def test_a_judge_that_raises_neither_breaks_a_call_nor_makes_it_fall(
    make: Callable[..., QualityGuard],
) -> None:
    def broken(case: object, answer: object) -> float:
        raise RuntimeError("no")

    guard = make(Spoiler(), judges=broken)
    assert set(ask(optimize(model(), guard), guard, 30)) == {BAD}
    assert guard.report() == []


def test_a_model_that_fails_its_trial_makes_nothing_fall(
    make: Callable[..., QualityGuard],
) -> None:
    answers = [FakeAnswer(PLAIN), FakeAnswer(error=TimeoutError("no")), FakeAnswer(PLAIN)] * 10
    guard = make(Spoiler(is_bad=False))
    staged = optimize(fake_chat(answers=answers), guard)
    assert set(ask(staged, guard, 10)) == {PLAIN}
    assert {report.level for report in guard.report()} <= {0}


def test_a_call_that_fails_leaves_nothing_behind(make: Callable[..., QualityGuard]) -> None:
    guard = make(Spoiler())
    staged = optimize(fake_chat(answers=[FakeAnswer(error=TimeoutError("no"))]), guard)
    with pytest.raises(TimeoutError):
        staged.invoke("Who won?")
    assert guard._running == {}
    assert guard.report() == []


@pytest.mark.parametrize(
    "options",
    [
        {"share": 0},
        {"share": 2},
        {"mode": "on"},
        {"on_worse": "panic"},
        {"margin": 0},
        {"confidence": 1},
        {"judges": []},
        {"max_extra": -1},
        {"max_extra": float("nan")},
        {"retry_seconds": 0},
    ],
)
def test_arguments_that_cannot_be_used_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"got|at least one"):
        QualityGuard(Spoiler(), **options)


def test_only_stages_can_be_guarded() -> None:
    with pytest.raises(TypeError, match="is no stage"):
        QualityGuard(object())
    with pytest.raises(ValueError, match="needs a stage"):
        QualityGuard([])


def test_a_hook_that_raises_hides_no_warning(make: Callable[..., QualityGuard]) -> None:
    def broken(report: GuardReport) -> None:
        raise RuntimeError("no")

    guard = make(Spoiler(), on_change=broken)
    with pytest.warns(TokenOptWarning) as warned:
        ask(optimize(model(), guard), guard, 20)
    said = " ".join(str(warning.message) for warning in warned)
    assert "got worse" in said
    assert "on_change" in said
    assert guard.report()[0].is_off


def test_a_locked_or_deleted_file_breaks_no_call(
    make: Callable[..., QualityGuard], tmp_path: Path
) -> None:
    guard = make(Spoiler(), path=tmp_path / "guard.db", share=0.5)
    staged = optimize(model(), guard)
    assert ask(staged, guard, 1) == [BAD]
    other = sqlite3.connect(tmp_path / "guard.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    guard._state._known.clear()
    assert staged.invoke("Who won?").content == BAD
    other.close()
    for file in tmp_path.iterdir():
        file.unlink()
    guard._state._known.clear()
    assert staged.invoke("Who won?").content == BAD


@pytest.mark.parametrize("path", ["missing/guard.db", "other.db"])
def test_a_file_that_cannot_be_used_is_refused_at_once(tmp_path: Path, path: str) -> None:
    (tmp_path / "other.db").write_bytes(b"no database at all, but long enough to be read " * 40)
    with pytest.raises(GuardFileError, match="cannot be used"):
        QualityGuard(Spoiler(), path=tmp_path / path)


def test_other_stages_begin_anew_on_the_same_file(
    make: Callable[..., QualityGuard], tmp_path: Path
) -> None:
    one = make(WordLimit(2), path=tmp_path / "guard.db")
    assert ask(optimize(model(), one), one, 20)[-1] == PLAIN
    same = make(WordLimit(2), path=tmp_path / "guard.db")
    assert same.report()[0].is_off
    other = make(WordLimit(3), path=tmp_path / "guard.db")
    assert other.report() == []


def test_two_guards_are_refused_by_their_name(make: Callable[..., QualityGuard]) -> None:
    with pytest.raises(ValueError, match="kind QualityGuard"):
        optimize(model(), make(Spoiler()), make(WordLimit(3)))


def test_a_forked_child_makes_its_own_trials(make: Callable[..., QualityGuard]) -> None:
    guard = make(Spoiler(is_bad=False))
    staged = optimize(model(), guard)
    ask(staged, guard, 3)
    child = os.fork()
    if child == 0:
        try:
            ask(staged, guard, 2)
            os._exit(0 if guard.report()[0].judges["exact match"].trials == 5 else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


SLOW = """
import time
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_tokenopt import WordLimit, optimize
from langchain_tokenopt.evaluate import QualityGuard

class Slow(BaseChatModel):
    calls: list = []
    @property
    def _llm_type(self):
        return "slow"
    def _generate(self, *args, **kwargs):
        self.calls.append(1)
        if len(self.calls) > 1:
            print("trial", flush=True)
            time.sleep(90)
        return ChatResult(generations=[ChatGeneration(message=AIMessage("Ada won."))])

guard = QualityGuard(WordLimit(9), share=1.0, max_extra=99.0)
optimize(Slow(), guard).invoke("Who won?")
time.sleep(1)
"""


@pytest.mark.exhaustive
def test_a_trial_under_way_does_not_keep_a_process_from_ending() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SLOW], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.returncode) == ("trial\n", 0), done.stderr


# --- one file for many processes -----------------------------------------------------------------


def _add(path: Path, times: int) -> None:
    state = _state(path)
    for _ in range(times):
        state.add(Key("news", "text"), 0, {"exact match": (0.0, 0.0)})
    state.close()


def _state(path: Path) -> GuardState:
    return GuardState(
        path, ["exact match"], margin=0.02, confidence=0.95, levels=2, retry_seconds=60
    )


@pytest.mark.exhaustive
def test_processes_share_evidence(tmp_path: Path) -> None:
    path = tmp_path / "guard.db"
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_add, args=(path, 20)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    state = _state(path)
    ((_, judges),) = state.evidence().values()
    assert judges["exact match"].trials == 80
    state.close()


def test_a_fall_is_seen_by_others(tmp_path: Path) -> None:
    one, other = _state(tmp_path / "guard.db"), _state(tmp_path / "guard.db")
    key = Key("news", "text")
    clock = [0.0]
    one._now = other._now = lambda: clock[0]
    assert other.standing(key).level == 0
    while one.standing(key).level == 0:
        one.add(key, 0, {"exact match": (-1.0, -1.0)})
    clock[0] += 2
    assert other.standing(key).level == 1
    assert other.add(key, 0, {"exact match": (-1.0, -1.0)}) is None  # of an epoch that is over
    one.close()
    other.close()


def test_the_halves_of_a_split_can_be_compared(
    make: Callable[..., QualityGuard], tmp_path: Path
) -> None:
    guard = make(WordLimit(2), mode="split")
    staged = optimize(model(), guard)
    with Ledger(tmp_path / "ledger.db") as ledger, track_usage(sinks=[ledger]):
        for user in range(30):
            staged.invoke("Who won?", config={"metadata": {"user_id": str(user)}})
    done = CliRunner().invoke(
        app, ["report", "--ab", "--json", "--ledger", str(tmp_path / "ledger.db")]
    )
    found = json.loads(done.stdout)
    assert sum(found["calls"].values()) == 30
    assert min(found["calls"].values()) > 5
    output = found["means"]["output tokens"]
    assert output["high"] < 0
    assert output["plain"] > output["staged"]
    shown = CliRunner().invoke(app, ["report", "--ab", "--ledger", str(tmp_path / "ledger.db")])
    assert "guarded half" in shown.stdout


def test_without_halves_there_is_nothing_to_compare(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.db") as ledger, track_usage(sinks=[ledger]):
        model().invoke("Who won?")
    done = CliRunner().invoke(app, ["report", "--ab", "--ledger", str(tmp_path / "ledger.db")])
    assert done.exit_code == 1
    assert "mode=" in done.stderr


def test_the_command_shows_what_a_file_holds(
    make: Callable[..., QualityGuard], tmp_path: Path
) -> None:
    path = tmp_path / "guard.db"
    guard = make(Spoiler(), path=path)
    staged = optimize(model(), guard)
    ask(staged, guard, 20, config={"metadata": {"tokenopt_agent": "news"}})
    ask(staged, guard, 2, config={"metadata": {"tokenopt_agent": "sport"}})
    done = CliRunner().invoke(app, ["guard", str(path), "--json"])
    rows = {row["agent"]: row for row in json.loads(done.stdout)}
    assert (rows["news"]["level"], rows["news"]["trials"]) == (1, 0)
    assert (rows["sport"]["level"], rows["sport"]["difference"]) == (0, -1.0)
    assert "sport" in CliRunner().invoke(app, ["guard", str(path)]).stdout


@pytest.mark.parametrize("name", ["missing.db", "notes.txt"])
def test_the_command_says_what_is_no_file_of_a_guard(tmp_path: Path, name: str) -> None:
    (tmp_path / "notes.txt").write_text("My notes. " * 100)
    done = CliRunner().invoke(app, ["guard", str(tmp_path / name)])
    assert done.exit_code == 1
    assert len(done.stderr.strip().splitlines()) == 1


def test_wrong_falls_are_as_rare_as_promised_however_long_it_goes() -> None:
    """At the margin; of 20 runs with a chance of 20 % each, 10 or more come once in 400 times."""
    key, fallen = Key("news", "text"), 0
    for seed in range(20):
        drawn = random.Random(seed)
        state = GuardState(None, ["judge"], margin=0.3, confidence=0.8, levels=2, retry_seconds=1e9)
        for _ in range(250):
            difference = -float(drawn.random() < 0.3)
            if state.add(key, 0, {"judge": (difference, difference)}) is not None:
                fallen += 1
                break
        state.close()
    assert fallen < 10


def test_a_long_good_time_does_not_hide_a_bad_one() -> None:
    key = Key("news", "text")
    state = GuardState(None, ["judge"], margin=0.1, confidence=0.9, levels=2, retry_seconds=1e9)
    for _ in range(1_500):
        assert state.add(key, 0, {"judge": (0.0, 0.0)}) is None
    bad = 0
    while state.add(key, 0, {"judge": (-1.0, -1.0)}) is None:
        bad += 1
    assert bad < 40
    state.close()
