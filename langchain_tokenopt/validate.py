"""A check of one's own set-up: each promise tried once, with one's own model, ledger and questions.

Every check says what it saw. What cannot be tried here (no key, no ledger, no questions) is skipped
and does not count.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGeneration, Generation

from langchain_tokenopt.budget import BudgetPlan
from langchain_tokenopt.cache import SemanticCache
from langchain_tokenopt.chat_model.optimize import optimize
from langchain_tokenopt.compress import PromptCompressor
from langchain_tokenopt.core.errors import BudgetExceededError, TokenOptError, TokenOptWarning
from langchain_tokenopt.core.messages import text_of
from langchain_tokenopt.counting.request_tokens import count_messages
from langchain_tokenopt.counting.tokens import counter_for
from langchain_tokenopt.examples.trading_desk import QUESTION, sample_documents
from langchain_tokenopt.forecast import UsageForecaster
from langchain_tokenopt.ledger import Ledger
from langchain_tokenopt.limits import WordLimit
from langchain_tokenopt.pricing.rate_card import RateCard
from langchain_tokenopt.testing import ExtractiveChatModel
from langchain_tokenopt.text.words import count_words
from langchain_tokenopt.tracking.callbacks import track_usage

__all__ = ["CheckResult", "Validation", "validate"]

Level = Literal["basic", "standard", "comprehensive"]
Status = Literal["passed", "failed", "skipped"]
_LEVELS: Final = ("basic", "standard", "comprehensive")


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One check: whether it passed, and what it saw."""

    suite: str
    name: str
    status: Status
    saw: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Validation:
    """All checks of a run."""

    level: Level
    checks: tuple[CheckResult, ...]

    def score(self, suite: str | None = None) -> float | None:
        """Return the share of checks passed, of those that were tried; ``None`` if none was."""
        tried = [
            check
            for check in self.checks
            if check.status != "skipped" and suite in (None, check.suite)
        ]
        return sum(check.status == "passed" for check in tried) / len(tried) if tried else None

    @property
    def suites(self) -> list[str]:
        """The suites, in order."""
        return list(dict.fromkeys(check.suite for check in self.checks))

    def newly_failed(self, before: Validation) -> list[CheckResult]:
        """Return the checks that fail and passed in an earlier run."""
        passed = {(c.suite, c.name) for c in before.checks if c.status == "passed"}
        return [
            check
            for check in self.checks
            if check.status == "failed" and (check.suite, check.name) in passed
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return {
            "level": self.level,
            "score": self.score(),
            "suites": {suite: self.score(suite) for suite in self.suites},
            "checks": [asdict(check) for check in self.checks],
        }

    @classmethod
    def from_dict(cls, kept: dict[str, Any]) -> Validation:
        """Make it of what :meth:`to_dict` has returned.

        Raises:
            KeyError: It is something else.
        """
        return cls(kept["level"], tuple(CheckResult(**check) for check in kept["checks"]))


@dataclass(frozen=True, slots=True)
class _SetUp:
    model: BaseChatModel
    is_own_model: bool
    ledger: str | None
    questions: Sequence[str]
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="tokenopt-")))


class _NotKeptError(Exception):
    """A promise is not kept here."""


class _NotTriedError(Exception):
    """It cannot be tried here."""


_Check = Callable[[_SetUp], str]
_CHECKS: list[tuple[str, int, _Check]] = []


def _check(suite: str, level: Level = "basic") -> Callable[[_Check], _Check]:
    """Register a check; its docstring is its name."""

    def register(check: _Check) -> _Check:
        _CHECKS.append((suite, _LEVELS.index(level), check))
        return check

    return register


def validate(
    model: BaseChatModel | None = None,
    *,
    level: Level = "standard",
    ledger: str | Path | None = None,
    questions: Iterable[str] = (),
) -> Validation:
    """Try every promise once on this machine, with your model, ledger and questions.

    Args:
        model: A chat model that is asked a few short questions; by default an extractive stand-in,
            which costs nothing and shows nothing of your provider.
        level: ``"basic"`` takes seconds; ``"standard"`` also asks the model; ``"comprehensive"``
            also kills processes and runs whole graphs.
        ledger: A ledger with your calls.
        questions: Questions as your users ask them, for near-misses of the cache.

    Raises:
        ValueError: There is no such level.

    Example:
        >>> found = validate(level="basic")
        >>> found.score("compression")
        1.0
    """
    if level not in _LEVELS:
        raise ValueError(f"level must be one of {', '.join(_LEVELS)}; got {level!r}.")
    set_up = _SetUp(
        model or ExtractiveChatModel(),
        model is not None,
        None if ledger is None else str(ledger),
        list(questions),
    )
    deepest = _LEVELS.index(level)
    results = [_run(suite, check, set_up) for suite, at, check in _CHECKS if at <= deepest]
    return Validation(level, tuple(results))


def _run(suite: str, check: _Check, set_up: _SetUp) -> CheckResult:
    name = (check.__doc__ or check.__name__).rstrip(".")
    began = time.perf_counter()
    status: Status = "passed"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TokenOptWarning)
        try:
            saw = check(set_up)
        except _NotTriedError as reason:
            status, saw = "skipped", str(reason)
        except _NotKeptError as reason:
            status, saw = "failed", str(reason)
        except Exception as error:  # noqa: BLE001  whatever breaks is what is looked for
            status, saw = "failed", f"{type(error).__name__}: {error}"
    return CheckResult(suite, name, status, saw, round(time.perf_counter() - began, 3))


def _expect(holds: bool, saw: str) -> str:
    if not holds:
        raise _NotKeptError(saw)
    return saw


# --- counting ------------------------------------------------------------------------------------


@_check("counting")
def _vocabulary(set_up: _SetUp) -> str:
    """Tokens of the model are counted with its own vocabulary."""
    counted = counter_for(set_up.model).count("Special tokens such as <|endoftext|> are text.")
    kind = "exactly" if counted.exact else "by an estimate: its vocabulary is not public or missing"
    return _expect(counted.tokens > 0, f"{counted.tokens} tokens, counted {kind}")


@_check("counting", "standard")
def _reported(set_up: _SetUp) -> str:
    """Our count of a request is near what the provider reports."""
    differences = []
    for text in ("Hi.", "Say yes. " * 40, "Sag ja. 说是。 " * 20):
        asked = [SystemMessage("Answer with one word."), HumanMessage(text)]
        answer = set_up.model.invoke(asked)
        usage = answer.usage_metadata
        if not usage:
            raise _NotTriedError("the model reports no usage")
        ours = count_messages(asked, model=set_up.model).tokens
        differences.append((ours - usage["input_tokens"]) / usage["input_tokens"])
    worst = max(differences, key=abs)
    return _expect(abs(worst) <= 0.15, f"between reported and counted: {worst:+.1%} at most")


# --- prices --------------------------------------------------------------------------------------


@_check("prices")
def _card(set_up: _SetUp) -> str:
    """The rate card can be read."""
    return f"version {RateCard().version}"


@_check("prices", "standard")
def _priced(set_up: _SetUp) -> str:
    """A call of the model has a known price."""
    if not set_up.is_own_model:
        raise _NotTriedError("no model was given")
    with track_usage() as usage:
        set_up.model.invoke("Say yes.")
    (record,) = usage.records
    return _expect(record.cost_nano_usd is not None, f"{record.model}: {record.cost_nano_usd} nUSD")


# --- cache ---------------------------------------------------------------------------------------


def _cache(set_up: _SetUp, path: Path | None = None) -> SemanticCache:
    if path is None:
        return SemanticCache(semantic=False)
    return SemanticCache(path, semantic=False)


def _said(text: str) -> list[ChatGeneration]:
    return [ChatGeneration(message=AIMessage(text))]


def _texts(found: Sequence[Generation] | None) -> list[str]:
    return [generation.text for generation in found or ()]


@_check("cache")
def _isolation(set_up: _SetUp) -> str:
    """One user never gets another user's answer."""
    with _cache(set_up) as cache:
        for user in ("ann", "bob"):
            with cache.scope(user=user):
                cache.update("What do I owe?", "model", _said(user))
        for user in ("ann", "bob"):
            with cache.scope(user=user):
                found = cache.lookup("What do I owe?", "model")
                _expect(_texts(found) == [user], f"{user} got {_texts(found)}")
        return _expect(cache.lookup("What do I owe?", "model") is None, "2 users, nobody else")


@_check("cache")
def _settings(set_up: _SetUp) -> str:
    """Another model setting is another question."""
    with _cache(set_up) as cache:
        cache.update("Who won?", "temperature 0", _said("Ada"))
        return _expect(cache.lookup("Who won?", "temperature 1") is None, "not served")


@_check("cache", "standard")
def _near_misses(set_up: _SetUp) -> str:
    """Your questions with another number are not answered from the cache."""
    asked = [q for q in set_up.questions if any(c.isdigit() for c in q)][:200]
    if not asked:
        raise _NotTriedError("no questions with numbers were given")
    with SemanticCache() as cache:
        for question in asked:
            cache.update(question, "model", _said("old"))
        other = [_with_other_number(question) for question in asked]
        served = [q for q in other if q not in asked and cache.lookup(q, "model")]
    return _expect(not served, f"{len(served)} of {len(other)} served {served[:1] or ''}".strip())


def _with_other_number(question: str) -> str:
    at = next(i for i, char in enumerate(question) if char.isdigit())
    return f"{question[:at]}{(int(question[at]) + 3) % 10}{question[at + 1 :]}"


_KILLED: Final = """
import os, sys
from langchain_core.outputs import Generation
from langchain_tokenopt.cache import SemanticCache
cache = SemanticCache(sys.argv[1], semantic=False)
for number in range(50):
    cache.update(f"Question {number}", "model", [Generation(text=str(number))])
os._exit(9)
"""


@_check("cache", "comprehensive")
def _killed_cache(set_up: _SetUp) -> str:
    """What was stored before a process was killed is there afterwards."""
    path = set_up.folder / "killed.db"
    _run_script(_KILLED, str(path))
    with _cache(set_up, path) as cache:
        kept = sum(cache.lookup(f"Question {n}", "model") is not None for n in range(50))
    return _expect(kept == 50, f"{kept} of 50 answers")


# --- compression ---------------------------------------------------------------------------------


def _long_text() -> str:
    return "\n\n".join(document.page_content for document in sample_documents())


@_check("compression")
def _budgets(set_up: _SetUp) -> str:
    """A shortened text is never longer than was asked for."""
    text, counter = _long_text(), counter_for(set_up.model)
    sizes = {}
    for limit in (60, 200, 500):
        made = PromptCompressor(limit, model=set_up.model).compress(text, QUESTION)
        sizes[limit] = counter.count(made.content).tokens
    over = {limit: size for limit, size in sizes.items() if size > limit}
    return _expect(not over, ", ".join(f"{size} of {limit}" for limit, size in sizes.items()))


@_check("compression")
def _unchanged(set_up: _SetUp) -> str:
    """What fits is left as it is."""
    asked = [HumanMessage("Who won? Ada won.")]
    return _expect(PromptCompressor(500).invoke(asked) == asked, "the same messages")


@_check("compression")
def _protected(set_up: _SetUp) -> str:
    """The system message and the question stay whole; JSON stays JSON."""
    rules, question = "Answer in French. Never guess.", "Which price has item 17?"
    rows = json.dumps([{"item": n, "price": 3 * n} for n in range(80)])
    made = PromptCompressor(300).invoke(
        [SystemMessage(rules), HumanMessage(f"{rows}\n\n{question}")]
    )
    text = text_of(made[1])
    _expect(text_of(made[0]) == rules and question in text, f"got {text[:200]!r}")
    kept = json.loads(text[: text.rindex("]") + 1])
    return _expect({"item": 17, "price": 51} in kept, f"{len(kept)} of 80 rows, the right one kept")


# --- limits --------------------------------------------------------------------------------------


@_check("limits", "standard")
def _words(set_up: _SetUp) -> str:
    """A word limit stops the model, in one piece and in a stream."""
    limited = optimize(set_up.model, WordLimit(12))
    asked = f"{_long_text()[:2_000]}\n\nTell me everything that stands here, in detail."
    counts = [
        count_words(limited.invoke(asked).text),
        count_words("".join(chunk.text for chunk in limited.stream(asked))),
    ]
    return _expect(max(counts) <= 12, f"{counts[0]} and {counts[1]} of 12 words")


# --- budgets -------------------------------------------------------------------------------------


@_check("budgets", "standard")
def _drill(set_up: _SetUp) -> str:
    """Parallel calls together never spend more than their budget."""
    plan = BudgetPlan(total_tokens=1_500)
    capped = optimize(set_up.model, plan)
    with plan.run(thread_id="validate") as run:

        def call(number: int) -> None:
            with suppress(BudgetExceededError):
                capped.invoke(f"Ada won race {number}. It rained all day. Who won?")

        with _threads(8) as pool:
            list(pool.map(call, range(24)))
        spent = run.report().account.spent_tokens
    return _expect(spent <= 1_500, f"{spent:,} of 1,500 tokens spent, in 24 calls")


def _threads(count: int) -> ThreadPoolExecutor:
    from langchain_core.runnables.config import ContextThreadPoolExecutor

    return ContextThreadPoolExecutor(count)


# --- ledger --------------------------------------------------------------------------------------


@_check("ledger")
def _stored(set_up: _SetUp) -> str:
    """A call that was recorded is there when the file is opened again."""
    path = set_up.folder / "ledger.db"
    with Ledger(path) as ledger, track_usage(sinks=[ledger]) as usage:
        ExtractiveChatModel().invoke("Ada won. Who won?")
    with Ledger(path) as ledger:
        same = ledger.totals().total_tokens == usage.totals().total_tokens
        return _expect(same and not ledger.check(), "1 call, sums equal")


@_check("ledger")
def _own_ledger(set_up: _SetUp) -> str:
    """Your ledger's sums are those of its calls."""
    if set_up.ledger is None:
        raise _NotTriedError("no ledger was given")
    with Ledger(set_up.ledger, read_only=True) as ledger:
        wrong = ledger.check()
        return _expect(not wrong, "; ".join(wrong) or f"{ledger.totals().calls:,} calls")


_KILLED_WRITER: Final = """
import os, sys
from langchain_tokenopt import Ledger, track_usage
from langchain_tokenopt.testing import ExtractiveChatModel
ledger = Ledger(sys.argv[1])
with track_usage(sinks=[ledger]):
    for number in range(20):
        ExtractiveChatModel().invoke(f"Ada won race {number}. Who won?")
ledger.flush()
os._exit(9)
"""


@_check("ledger", "comprehensive")
def _killed_ledger(set_up: _SetUp) -> str:
    """Calls that were flushed before a process was killed are there afterwards."""
    path = set_up.folder / "killed-ledger.db"
    _run_script(_KILLED_WRITER, str(path))
    with Ledger(path) as ledger:
        calls = ledger.totals().calls
        return _expect(calls == 20 and not ledger.check(), f"{calls} of 20 calls")


# --- loading -------------------------------------------------------------------------------------


@_check("loading")
def _import(set_up: _SetUp) -> str:
    """Importing the package loads nothing heavy."""
    code = (
        "import sys, langchain_tokenopt\n"
        "print(*({'torch', 'faiss', 'langgraph', 'tiktoken'} & sys.modules.keys()))"
    )
    loaded = _run_script(code).strip()
    return _expect(not loaded, loaded or "neither torch nor faiss, langgraph or tiktoken")


# --- forecast ------------------------------------------------------------------------------------


@_check("forecast", "standard")
def _backtest(set_up: _SetUp) -> str:
    """On your ledger, answers stay below their forecast 95 % quantile about as often as said."""
    if set_up.ledger is None:
        raise _NotTriedError("no ledger was given")
    with Ledger(set_up.ledger, read_only=True) as ledger:
        calls = [c for c in ledger.calls() if c.status == "ok" and not c.cached]
    forecaster, below, judged = UsageForecaster(), 0, 0
    for call in sorted(calls, key=lambda call: call.started_at):
        bound = forecaster.quantile(0.95, call.agent, model=call.model)
        if bound is not None:
            judged += 1
            below += call.usage.output_tokens <= bound
        forecaster.record(call)
    if judged < 100:
        raise _NotTriedError(f"{judged} calls could be forecast; 100 are needed to judge")
    return _expect(below / judged >= 0.9, f"{below / judged:.1%} of {judged:,} calls")


# --- end to end ----------------------------------------------------------------------------------


@_check("end to end", "comprehensive")
def _desk(set_up: _SetUp) -> str:
    """A graph of eleven agents delivers every report within its budget."""
    from langchain_tokenopt.examples.trading_desk import build_desk
    from langchain_tokenopt.graph import budget_graph

    plan = BudgetPlan(total_tokens=40_000)
    graph = budget_graph(build_desk(optimize(set_up.model, plan), sample_documents()), plan)
    with plan.run(thread_id="validate") as run:
        state = graph.compile().invoke({"question": QUESTION, "reports": {}})
        spent = run.report().account.spent_tokens
    empty = [name for name, report in state.get("reports", {}).items() if not str(report).strip()]
    return _expect(spent <= 40_000 and not empty, f"{spent:,} of 40,000 tokens, {len(empty)} empty")


def _run_script(code: str, *args: str) -> str:
    """Run Python code in a process of its own, which may kill itself."""
    done = subprocess.run(
        [sys.executable, "-c", code, *args],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        check=False,
    )
    if done.returncode not in (0, 9):
        raise TokenOptError(done.stderr.strip().splitlines()[-1] if done.stderr else "no output")
    return done.stdout
