"""What the README claims: one line a claim, its figure from the result files."""

from __future__ import annotations

import json
from typing import Any

from tests.benchmarks.results import RESULTS

__all__ = ["claims"]

_CORE = "langchain-core UsageMetadataCallbackHandler"


def claims() -> str:
    """Return the lines of the README's list."""
    lines = [
        ("see", "See", _seen()),
        ("see", "Cheap", _cheap()),
        ("beside-the-host", "Fits in", _fits()),
        ("ledger", "Keep", _kept()),
        ("reuse", "Reuse", _reused()),
        ("shorten", "Shorten", _shortened()),
        ("limit", "Limit", _limited()),
        ("select", "Select", _selected()),
        ("never-overspend", "Never overspend", _capped()),
        ("never-overspend", "Still deliver", _delivered()),
        ("prove", "Prove", _proved()),
    ]
    written = []
    for at, (where, name, said) in enumerate(lines):
        is_new = where not in {other for other, *_ in lines[:at]}
        title = f"[{name}](BENCHMARKS.md#{where})" if is_new else name
        written.append(f"- **{title}.** {said}")
    return "\n".join(written)


def _figures(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))["figures"]


def _seen() -> str:
    scenarios = _figures("conformance")["scenarios"].values()

    def right(tracker: str) -> int:
        return sum(one[tracker]["verdict"] == "right" for one in scenarios)

    return (
        f"Usage is right in {right('langchain-tokenopt')} of {len(scenarios)} scripted situations "
        f"of thirteen providers, graphs and agents; langchain-core's handler in {right(_CORE)}."
    )


def _cheap() -> str:
    usage = _figures("usage")
    handler = usage["short_prompt"]["TokenUsageCallbackHandler"]["overhead_us"]
    plan = usage["seam"]["a plan, 2 kB"]["overhead_us"]
    return f"Tracking adds {handler:.0f} µs to a call, a budget {plan:.0f} µs."


def _fits() -> str:
    suites = json.loads((RESULTS / "foreign.json").read_text(encoding="utf-8"))
    plain, ours = (sum(one[key] for one in suites) for key in ("plain_passed", "with_us_passed"))
    return f"{ours:,} of {plain:,} tests of LangChain and LangGraph pass with the package around."


def _kept() -> str:
    ledger = _figures("ledger")
    kills = ledger["kill_9"]
    grouped = ledger["answers_ms"]["group by agent"]["median"]
    lost = kills["acknowledged_but_missing"] + kills["doubled"]
    return (
        f"{ledger['calls']:,} calls by agent in {grouped:.0f} ms; {lost} of "
        f"{kills['calls_acknowledged']:,} calls lost or doubled in {kills['kills']} `kill -9`."
    )


def _reused() -> str:
    rows = _figures("cache")["chat"]["rows"]
    hits, wrong = rows["SemanticCache, defaults"]
    (static,) = (row for name, row in rows.items() if name.startswith("static cosine"))
    return (
        f"{hits:.0f} % of the first 1,200 chat requests from the cache, {wrong} % of them all "
        f"wrong; a fixed threshold {static[0]:.0f} % and {static[1]} %."
    )


def _shortened() -> str:
    figures = _figures("compress")
    rows = figures["survival"]["rows"]
    lingua = next(
        r["survival"]["10"] for r in figures["rivals"] if r["rival"].startswith("LLMLingua")
    )
    return (
        f"With a tenth of the tokens {rows['PromptCompressor']['10']:.0f} % of the answers still "
        f"stand in the prompt; BM25 {rows['plain BM25 sentences']['10']:.0f} %, LLMLingua's "
        f"ranking {lingua:.0f} %."
    )


def _limited() -> str:
    rows = [row for row in _figures("limits")["stopping"] if row["pace_ms"] == 5]
    ours = max(row["words_generated"] for row in rows if row["ours"])
    piped = max(row["words_generated"] for row in rows if not row["ours"])
    return f"Of {piped:,} words that a model would write, {ours} are written under a limit of 50."


def _selected() -> str:
    loops = _figures("tools")["loops"]
    ours, whole = loops["ToolSelector"], loops["all tools"]
    return (
        f"{ours['tool_tokens']:,} tokens of schemas instead of {whole['tool_tokens']:,} for an "
        f"agent with 200 tools; {ours['finished']} of {ours['errands']} errands finished."
    )


def _capped() -> str:
    figures = _figures("budget_account")
    ours = [figures[kind] for kind in ("threads", "tasks", "processes")]
    rival = figures["rivals"]["a callback that adds up usage after the call"]
    return (
        f"{sum(one['schedules'] for one in ours):,} random schedules of parallel calls, "
        f"{sum(one['overshot'] for one in ours)} over the total; a callback that adds up "
        f"afterwards {rival['overshot']} of {rival['schedules']}."
    )


def _delivered() -> str:
    found = _figures("budget_desk")["summary"]
    return (
        f"The desk of eleven costs {found['cost_saved']['median']:.0%} less under 40,000 tokens; "
        f"{found['reports_missing']} reports missing, the same decision in "
        f"{found['same_decision']} of {found['seeds']} runs."
    )


def _proved() -> str:
    found = _figures("evaluate")["comparisons"]["worse by the margin"]
    ours, often = found["compare"], found["paired test at every case"]
    return (
        f"Wrong verdicts {ours['wrong %']} %, however often one looks; "
        f"a paired test looked at as often {often['wrong %']} %."
    )
