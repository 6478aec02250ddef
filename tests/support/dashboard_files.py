"""Files that a dashboard shows: ledgers of a busy desk and of hostile names, and what is beside."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from langchain_core.language_models import FakeMessagesListChatModel
from langchain_core.messages import AIMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import Generation

from langchain_tokenopt import BudgetPlan, SemanticCache, optimize
from langchain_tokenopt.core.attribution import Attribution
from langchain_tokenopt.core.records import BudgetEvent, Saving
from langchain_tokenopt.evaluate.guard_state import GuardState, Key
from langchain_tokenopt.ledger import Ledger
from tests.support.ledger_records import START, desk_calls, record

HOSTILE = (
    "<script>document.title='owned'</script>",
    '"><img src=x onerror="document.title=\'owned\'">',
    "'); alert(1); ('",
    '=HYPERLINK("http://evil.example","click")',
    "+1+1|cmd",
    "@SUM(A1)",
    "\x1b[31mred\x1b[0m",
    "\u202eevil\u202c",
    "{{ 7 * 7 }}{% include 'page.html' %}",
    "${7*7}",
    "__proto__",
    "constructor",
    "javascript:alert(1)",
    "../../etc/passwd",
    "a/b?c#d&e=f%00%zz",
    "two\nlines\tand a tab",
    "  spaces  ",
    "深圳 🦊 ünïcödé",
    "x" * 3_000,
    "&lt;already&gt; &amp;",
    "`backticks`",
    "range",
)
"""Names that want to be more than names."""


def busy_ledger(path: Path, calls: int, days: float) -> None:
    """Write calls of a desk of ten agents until now, with word limits, savings, budgets."""
    chance, now = random.Random(3), datetime.now(UTC)
    shift = now - timedelta(days=days) - START
    with Ledger(path, max_pending=100_000) as ledger:
        for call in desk_calls(calls, days=days):
            at = call.started_at + shift
            stages = call.stages
            if call.attribution.agent in ("bull", "bear") and not call.cached:
                what = chance.choices(("", ":stopped", ":trimmed"), (17, 1, 2))[0]
                stages = (*stages, "WordLimit", *([f"WordLimit{what}"] if what else []))
            ledger.record(
                replace(
                    call,
                    started_at=at,
                    stages=stages,
                    savings=tuple(replace(saving, at=at) for saving in call.savings),
                    attribution=replace(
                        call.attribution, tag=chance.choice(("checkout", "search", None))
                    ),
                )
            )
        for number in range(8):
            for kind in ("denied", "alert"):
                ledger.record(_event(kind, number, now - timedelta(hours=number)))


def _event(kind: str, number: int, at: datetime) -> BudgetEvent:
    return BudgetEvent(
        kind=kind,  # type: ignore[arg-type]
        budget=("desk", "research", "support")[number % 3],
        agent="news",
        spent_tokens=30_000 + 1_500 * number,
        held_tokens=900,
        limit_tokens=40_000,
        detail="crossed 90 %" if kind == "alert" else "max_tokens",
        run=f"thread-{number % 4}",
        at=at,
    )


def hostile_ledger(path: Path) -> None:
    """Write calls that have a hostile name in every dimension."""
    now = datetime.now(UTC)
    with Ledger(path) as ledger:
        for number, name in enumerate(HOSTILE):
            at = now - timedelta(minutes=10 * number + 5)
            ledger.record(
                record(
                    started_at=at,
                    model=name,
                    provider=name,
                    response_model=name,
                    cost_nano_usd=None if number == 3 else 10**number % 97_000_003,
                    attribution=Attribution(
                        name, node=name, tool=name, user=name, thread_id=name, tag=name
                    ),
                    run=name,
                    stages=(name,),
                    savings=(Saving(stage=name, tokens_before=9, tokens_after=10, at=at),),
                )
            )
            event = _event(("denied", "alert")[number % 2], number, at)
            ledger.record(replace(event, budget=name, agent=name, detail=name, run=name))


def budget_store(path: Path) -> None:
    """Keep budgets that are empty, half full and nearly full; one of them in dollars."""
    for name, spent in (("desk", 39_500), ("night batch", 21_000), (HOSTILE[0], 100)):
        plan = BudgetPlan(name=name, total_tokens=40_000)
        usage = UsageMetadata(input_tokens=spent - 9, output_tokens=9, total_tokens=spent)
        model = FakeMessagesListChatModel(responses=[AIMessage("Yes.", usage_metadata=usage)])
        with plan.run(f"{name} of ada", path=path):
            optimize(model, plan).invoke("Buy?")


def guard_file(path: Path) -> None:
    """Keep what a guard has found: one agent got worse, one did not."""
    state = GuardState(
        path, ["NumbersKept"], margin=0.02, confidence=0.95, levels=3, retry_seconds=3_600
    )
    for agent, low in (("news", -1.0), ("trader", 0.0), (HOSTILE[1], 0.0)):
        for _ in range(30):
            key = Key(agent, "text")
            epoch = state.standing(key).epoch
            state.add(key, epoch, {"NumbersKept": (low, low)})
    state.close()


def comparison_file(path: Path) -> None:
    """Keep what ``tokenopt compare --json`` writes."""
    judge = {
        "name": "NumbersKept",
        "verdict": "not worse",
        "difference": {"value": -0.004, "low": -0.017, "high": 0.009},
        "judged": 412,
    }
    said = {
        "verdict": "not worse",
        "judges": [judge, {**judge, "name": HOSTILE[0], "verdict": "worse"}],
        "savings": {"tokens": {"value": 0.41, "low": 0.38, "high": 0.44}},
    }
    path.write_text(json.dumps(said), encoding="utf-8")


def cache_file(path: Path) -> None:
    """Fill a cache, and ask it."""
    with SemanticCache(path, semantic=False) as cache:
        for number in range(8):
            answer = [Generation(text=f"It lies in drawer {number} over there.")]
            cache.update(f"Where is number {number}?", "llm", answer)
            for _ in range(number):
                cache.lookup(f"Where is number {number}?", "llm")
