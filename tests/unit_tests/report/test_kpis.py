"""Key figures: what SQL says is what adding up one by one says."""

from __future__ import annotations

import html.parser
import math
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from langchain_tokenopt.core.attribution import Attribution
from langchain_tokenopt.core.records import BudgetEvent, CallRecord, Saving
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.ledger import Ledger
from langchain_tokenopt.pricing.rate_card import RateCard
from langchain_tokenopt.report import KPIS, Facts, Kpi, kpis, state_of
from langchain_tokenopt.report.kpis import snapshots_of
from langchain_tokenopt.report.page import page_of
from tests.support.ledger_records import START

pytestmark = pytest.mark.exhaustive

NOW = START + timedelta(days=3)
CARD = RateCard(
    {
        "models": {
            "plain": {"input": "1", "output": "4"},
            "caching": {"input": "2", "output": "8", "cache_read": "0.2", "cache_write": "2.5"},
        }
    }
)


def _calls(seed: int, count: int) -> list[CallRecord]:
    """Calls of every kind there is, at random."""
    some = random.Random(seed)
    made = []
    for _ in range(count):
        status = some.choices(["ok", "failed", "abandoned", "refused"], [8, 1, 1, 1])[0]
        cached = status == "ok" and some.random() < 0.2
        read, written = some.choice([(0, 0), (300, 0), (100, 200)])
        usage = Usage(
            some.randint(500, 2_000), some.randint(0, 900), read, written, some.randint(0, 5)
        )
        if status == "refused":
            usage = Usage(0, 0)
        model = some.choice(["plain", "caching", "unknown"])
        cost = None if model == "unknown" else CARD.rates(model).cost(usage)
        savings = [
            Saving(
                stage=some.choice(["Cut", "Limit"]),
                side=some.choice(["input", "output"]),
                tokens_before=some.randint(100, 900),
                tokens_after=some.randint(0, 100),
                spent_tokens=some.choice([0, 0, 30]),
                saved_nano_usd=some.choice([None, 500]),
                observed=some.random() < 0.2,
            )
            for _ in range(some.choice([0, 0, 1, 2]))
            if not cached
        ]
        made.append(
            CallRecord(
                run_id=uuid4(),
                model=model,
                provider=None,
                usage=usage,
                started_at=START + timedelta(hours=some.random() * 72),
                duration_seconds=some.random(),
                cost_nano_usd=0 if cached or status == "refused" else cost,
                saved_nano_usd=some.choice([None, 700]) if cached else 0,
                unpriced=("output image",) if cost and some.random() < 0.1 else (),
                source="unbilled"
                if status == "refused"
                else some.choice(["reported", "estimated"]),
                status=status,
                cached=cached,
                run=some.choice([None, "a", "b", "c", "d"]),
                attribution=Attribution(some.choice(["news", "risk"])),
                savings=tuple(savings),
            )
        )
    return made


def _ratio(part, whole):
    return part / whole if whole else None


def _one_by_one(calls: list[CallRecord]) -> dict[str, tuple[float | None, int, int]]:
    """Value, n and how many were left out, in the words of the definitions."""
    billed = [c for c in calls if not c.cached]
    ok = [c for c in billed if c.status == "ok"]
    whole_price = [c for c in billed if c.cost_nano_usd is not None and not c.unpriced]
    some_price = [c for c in billed if c.cost_nano_usd is not None]
    spend = sum(c.cost_nano_usd for c in some_price)
    without = len(billed) - len(whole_price)
    acted = [s for c in calls for s in c.savings if not s.observed]
    hits = [c for c in calls if c.cached]
    sent = [c for c in billed if c.status != "refused"]
    saved = sum(s.saved_nano_usd or 0 for s in acted) + sum(c.saved_nano_usd or 0 for c in hits)
    runs: dict[str, list[CallRecord]] = {}
    for call in calls:
        if call.run:
            runs.setdefault(call.run, []).append(call)
    priced_runs = {
        name: sum(c.cost_nano_usd for c in made if not c.cached)
        for name, made in runs.items()
        if all(c.cached or (c.cost_nano_usd is not None and not c.unpriced) for c in made)
    }
    measured = [c for c in calls if c.cached or any(not s.observed for s in c.savings)]
    avoided = sum(c.saved_tokens for c in measured)
    taken = sum(c.usage.total_tokens for c in measured if not c.cached)
    prompts = [s for s in acted if s.side == "input" and s.tokens_after > 0]
    money, days = 0.0, {}
    for call in billed:
        days.setdefault((call.started_at.date(), call.model), []).append(call)
    cache_calls = cache_unknown = 0
    for (_, model), made in days.items():
        read = sum(c.usage.cache_read_tokens for c in made)
        written = sum(c.usage.cache_write_tokens for c in made)
        if read or written:
            if model == "unknown":
                cache_unknown += len(made)
                continue
            cache_calls += len(made)
            if model == "caching":
                money += read * 1_800 - written * 500
    t = sum(c.usage.output_tokens for c in ok), sum(c.usage.input_tokens for c in ok)
    unhappy = [c for c in billed if c.status != "ok"]
    uses = len(acted) + len(hits)
    no_price = sum(s.saved_nano_usd is None for s in acted) + sum(
        c.saved_nano_usd is None for c in hits
    )
    local = sum(c.saved_nano_usd or 0 for c in hits)
    return {
        "total_spend": (spend / 1e9, len(whole_price), without),
        "cost_per_run": (
            _ratio(sum(priced_runs.values()) / 1e9, len(priced_runs)),
            len(priced_runs),
            len(runs) - len(priced_runs),
        ),
        "blended_cost": (
            _ratio(spend / 1e3, sum(c.usage.total_tokens for c in some_price)),
            len(whole_price),
            without,
        ),
        "savings_rate": (_ratio(saved, spend + saved), uses - no_price, no_price),
        "token_reduction": (
            _ratio(avoided, taken + avoided), len(measured), len(calls) - len(measured),
        ),
        "compression_ratio": (
            _ratio(sum(s.tokens_before for s in prompts), sum(s.tokens_after for s in prompts)),
            len(prompts),
            len(acted) - len(prompts),
        ),
        "reasoning_share": (
            _ratio(sum(c.usage.reasoning_tokens for c in ok), t[0]), len(ok), len(unhappy),
        ),
        "output_to_input": (_ratio(*t), len(ok), len(unhappy)),
        "cache_hit_rate": (
            _ratio(len(hits), len(hits) + len(ok)), len(hits) + len(ok), len(unhappy),
        ),
        "prompt_cache_ratio": (
            _ratio(sum(c.usage.cache_read_tokens for c in ok), t[1]), len(ok), len(unhappy),
        ),
        "cache_net_savings": (
            (local + money) / 1e9,
            sum(c.saved_nano_usd is not None for c in hits) + cache_calls,
            sum(c.saved_nano_usd is None for c in hits) + cache_unknown,
        ),
        "burn_rate": (spend / 1e9 / 72, len(whole_price), without),
        "waste": (
            _ratio(sum(c.cost_nano_usd or 0 for c in unhappy), spend), len(whole_price), without,
        ),
        "data_quality": (
            _ratio(sum(c.source == "reported" for c in sent), len(sent)), len(sent), 0,
        ),
    }  # fmt: skip


@pytest.mark.parametrize("agent", [None, "news"])
@pytest.mark.parametrize(("seed", "count"), [(1, 0), (2, 1), (3, 7), (4, 60), (5, 400), (6, 400)])
def test_key_figures_are_what_adding_up_says(tmp_path, seed, count, agent):
    """Over ledgers of everything that can happen; with a filter, of the calls it lets through."""
    calls = _calls(seed, count)
    with Ledger(tmp_path / "x.db") as ledger:
        for call in calls:
            ledger.record(call)
        filters = {"agent": agent} if agent else {}
        facts = Facts.of(ledger, START, NOW, rate_card=CARD, now=NOW, **filters)
    found = {kpi.name: kpi for kpi in kpis(facts)}
    wanted = _one_by_one([c for c in calls if agent in (None, c.agent)])

    assert set(KPIS) == set(found)
    assert len(found) == 16
    for name, (value, n, n_excluded) in wanted.items():
        kpi = found[name]
        assert (n, n_excluded) == (kpi.n, kpi.n_excluded), name
        if value is None:
            assert kpi.value is None, name
        else:
            assert math.isclose(value, kpi.value, rel_tol=1e-9, abs_tol=1e-9), name


def test_budgets_are_as_their_last_event_saw_them(tmp_path):
    """Use and overshoot are of limits; a budget without one is left out."""

    def event(at, budget, spent, held, limit, kind="alert"):
        return BudgetEvent(
            kind=kind, budget=budget, agent="news", spent_tokens=spent, held_tokens=held,
            limit_tokens=limit, run="r", at=START + timedelta(hours=at),
        )  # fmt: skip

    with Ledger(tmp_path / "x.db") as ledger:
        for each in (
            event(1, "a", 10, 5, 100), event(2, "a", 60, 20, 100, "denied"),
            event(1, "b", 230, 0, 200), event(1, "c", 9, 9, 0),
        ):  # fmt: skip
            ledger.record(each)
        facts = Facts.of(ledger, START, NOW, now=NOW)
    use, over = KPIS["budget_utilisation"](facts), KPIS["overshoot"](facts)

    assert (310 / 300, 2, 1, 1.15) == (use.value, use.n, use.n_excluded, use.parts["fullest"])
    assert (30 / 300, 2, 1) == (over.value, over.n, over.n_excluded)
    assert [1, 0, 0] == [state.denied for state in sorted(facts.budgets, key=lambda s: s.budget)]
    assert "bad" == state_of(use)


def test_snapshots_are_kept_by_the_hour(tmp_path):
    """Of one hour the latest; they come back as they were."""
    with Ledger(tmp_path / "x.db") as ledger:
        for call in _calls(7, 40):
            ledger.record(call)
        found = kpis(Facts.of(ledger, START, NOW, now=NOW))
        for minutes in (5, 50, 65):
            ledger.keep_snapshot(
                snapshots_of(found, NOW + timedelta(minutes=minutes), timedelta(hours=72))
            )
        kept = ledger.snapshots()

        assert 32 == len(kept)
        assert {NOW, NOW + timedelta(hours=1)} == {each.at for each in kept}
        assert {72} == {each.span_hours for each in kept}
        values = {each.kpi: each.value for each in kept}
        assert {kpi.name: kpi.value for kpi in found} == pytest.approx(values)
        assert 16 == len(ledger.snapshots(since=NOW + timedelta(hours=1)))
        assert 16 == len(ledger.snapshots(until=NOW + timedelta(minutes=30)))


def test_a_target_has_two_sides():
    """More is better, less is better, nothing measured is neither."""
    kpi = Kpi("data_quality", "", "ratio", 0.99, 99, 100, 100)

    assert ["good", "watch", "bad"] == [
        state_of(replace(kpi, value=value)) for value in (0.99, 0.9, 0.5)
    ]
    assert "none" == state_of(replace(kpi, n=0))
    assert "none" == state_of(replace(kpi, name="total_spend"))


class _Page(html.parser.HTMLParser):
    """Which elements and attributes a page has, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements, self.attributes, self.said = set(), set(), []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.elements.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data):
        self.said.append(data)


HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "&lt;b&gt;",
    "x" * 500,
    "\u202e",
]


def test_names_are_text_on_the_page(tmp_path):
    """Agents, models, stages and budgets in markup add no element to the page, and are readable."""
    with Ledger(tmp_path / "x.db") as ledger:
        for name in HOSTILE:
            saving = Saving(stage=name, tokens_before=90, tokens_after=5)
            call = _calls(3, 1)[0]
            ledger.record(
                replace(
                    call,
                    cached=False,
                    status="ok",
                    model=name,
                    attribution=Attribution(name),
                    savings=(saving,),
                )
            )
            ledger.record(
                BudgetEvent(
                    kind="alert",
                    budget=name,
                    agent=name,
                    spent_tokens=1,
                    held_tokens=1,
                    limit_tokens=9,
                    run=name,
                    at=START,
                )
            )
        facts = Facts.of(ledger, START, NOW, now=NOW)
        page = _Page(page_of(facts, Facts.of(ledger, START - timedelta(days=3), START, now=START)))

    assert not {"script", "img", "b>", "link", "iframe"} & page.elements
    assert (
        not {name for name in page.attributes if name.startswith("on")}
        | {"src", "href"} & page.attributes
    )
    for name in HOSTILE:
        assert any(name in part for part in page.said), name


def test_the_page_of_an_empty_period_says_so(tmp_path):
    """No figure is invented."""
    with Ledger(tmp_path / "x.db") as ledger:
        page = page_of(Facts.of(ledger, datetime(2026, 1, 1, tzinfo=UTC), NOW, now=NOW))

    assert "0 calls" in page
    assert "Nothing: no figure" in page
    assert "nan" not in page.lower().replace("finance", "")


def test_figures_of_a_period_without_records_are_those_that_were_kept(tmp_path):
    """A trend outlives the records: the nearest figures of a period as long take their place."""
    with Ledger(tmp_path / "x.db") as old, Ledger(tmp_path / "y.db") as new:
        for call in _calls(7, 40):
            old.record(call)
        facts = Facts.of(old, START, NOW, now=NOW)
        new.keep_snapshot(snapshots_of(kpis(facts), NOW, NOW - START))
        new.keep_snapshot(snapshots_of(kpis(facts), NOW, timedelta(hours=1)))
        new.record(replace(_calls(3, 1)[0], started_at=NOW + timedelta(hours=1)))
        kept = kpis(Facts.of(new, START, NOW, now=NOW, beside=False))
        filtered = kpis(Facts.of(new, START, NOW, now=NOW, agent="news"))
        other = kpis(Facts.of(new, START, NOW - timedelta(hours=9), now=NOW))
        new.record(replace(_calls(3, 1)[0], started_at=START))
        whole = kpis(Facts.of(new, START, NOW, now=NOW))

    assert [kpi.value for kpi in kpis(facts)] == [kpi.value for kpi in kept]
    assert [kpi.n for kpi in kpis(facts)] == [kpi.n for kpi in kept]
    assert [0, 0] == [found[0].n for found in (filtered, other)]
    assert 1 == whole[0].n + whole[0].n_excluded


@pytest.mark.parametrize("cost", [0, 3])
def test_savings_below_nothing_are_no_share(tmp_path, cost):
    """What a stage has lost is not a saving of more than everything."""
    lost = Saving(stage="s", tokens_before=1, tokens_after=9, saved_nano_usd=-5, spent_tokens=90)
    with Ledger(tmp_path / "x.db") as ledger:
        ledger.record(
            replace(
                _calls(3, 1)[0], status="ok", cached=False, cost_nano_usd=cost, usage=Usage(5, 1),
                unpriced=(), savings=(lost,), started_at=START,
            )
        )  # fmt: skip
        found = {kpi.name: kpi for kpi in kpis(Facts.of(ledger, START, NOW, now=NOW))}

    assert found["savings_rate"].value is None
    assert (-5, cost - 5) == (found["savings_rate"].numerator, found["savings_rate"].denominator)
    assert found["token_reduction"].value is None
    assert "none" == state_of(found["savings_rate"])
