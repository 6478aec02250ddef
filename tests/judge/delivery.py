"""Judge what a budget does to whole applications: random graphs under scarce totals.

Run:     python -m tests.judge.delivery [--half build] [--graphs 200] [--first 0] [--show] [--json FILE]
Data:    applications by seed (``delivery_build.py``, ``delivery_judge.py``): 2 to 12 agents in
         sequence and side by side, loops of tools, debates, supervisors, maps by Send, graphs in
         graphs, structured answers; sync and async, streamed and not.
Model:   a scripted chat model that counts with cl100k_base. It writes as long as its script says, cut
         at ``max_tokens``; half of the agents keep to a number of words that their prompt asks for. A
         fact gets into an answer only if it stands in the prompt that arrived. Each run has a model
         name of its own, so that nothing is learnt from run to run.
Rule:    knows the public API alone. Every graph runs without a plan, with an ample total, and with
         rising scarce totals (shares of what it needs), at times with an absurd one. One worker at a
         time where runs are compared with each other; else all branches at once.
Feasible: a call is possible in short when its frame (system, role, question, rules, schema), 24
         tokens of each thing it reads and 80 tokens of answer (or the smallest valid object) fit. A
         made-up answer is a fault where ``1.1 x`` the sum of this over all calls of the run fits
         the total, and the agent's part of the plan holds its own.
Output:  a Markdown table: runs with a fault of each kind, of the runs that could have it.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import random
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.judge.delivery_apps import App
from tests.judge.delivery_checks import Fault, Judge, Outcome, PlanShape, plan_shape
from tests.judge.delivery_model import Log, model_name
from tests.judge.delivery_nodes import Workshop

Runner = Callable[[App, PlanShape | None, int | None, str, bool], Outcome]
"""Runs an application under a plan: app, plan, total, model's name, one worker at a time."""


def drive(app: App, graph: Any, *, single: bool) -> Any:
    """Run a compiled graph in the application's mode; return its last state."""
    config: dict[str, Any] = {"recursion_limit": 80}
    if single and app.mode in ("invoke", "stream"):
        config["max_concurrency"] = 1
    if app.mode == "invoke":
        return graph.invoke(app.inputs, config)
    if app.mode == "stream":
        return list(graph.stream(app.inputs, config, stream_mode="values"))[-1]
    if app.mode == "ainvoke":
        return asyncio.run(graph.ainvoke(app.inputs, config))

    async def last() -> Any:
        return [s async for s in graph.astream(app.inputs, config, stream_mode="values")][-1]

    return asyncio.run(last())


def observed(app: App, log: Log, total: int | None, run: Callable[[], Any]) -> Outcome:
    """Run, and note how it ended."""
    start = time.perf_counter()
    state, error = None, None
    try:
        state = run()
    except Exception as raised:
        error = raised
    outcome = Outcome(total, log, state, error, time.perf_counter() - start)
    if state is not None:
        text = app.final(state)
        outcome.facts = sum(fact.stands_in(text) for fact in app.facts)
    return outcome


def plain(app: App, plan: PlanShape | None, total: int | None, name: str, single: bool) -> Outcome:
    """Run without any plan."""
    log = Log()
    shop = Workshop(app, log, name, lambda model: model)
    graph = app.build(shop)
    graph = graph.compile() if hasattr(graph, "compile") else graph
    return observed(app, log, total, lambda: drive(app, graph, single=single))


def with_package(
    app: App, plan: PlanShape | None, total: int | None, name: str, single: bool
) -> Outcome:
    """Run under langchain-tokenopt's plan."""
    from langchain_tokenopt import BudgetEvent, BudgetPlan, budget_graph, optimize
    from langchain_tokenopt.testing import EventList

    assert plan is not None
    assert total is not None
    options: dict[str, Any] = {}
    if plan.daily:
        options["within"] = [{"total_tokens": total, "per": "user", "window": "day", "name": name}]
    budget = BudgetPlan(
        total_tokens=total,
        name=name,
        agents=plan.agents(total),
        strategy=plan.strategy,
        buffer=int(plan.buffer * total),
        **options,
    )
    log, events = Log(), EventList()
    jitter = not single and app.parallel > 1
    shop = Workshop(app, log, name, lambda model: optimize(model, budget), jitter=jitter)
    graph = budget_graph(app.build(shop), budget)
    graph = graph.compile() if hasattr(graph, "compile") else graph
    with budget.run(user="ann", sinks=[events]) as run:
        outcome = observed(app, log, total, lambda: drive(app, graph, single=single))
        report = run.report()
    outcome.spent_said = report.account.spent_tokens
    outcome.reserved = {r.agent: (r.kept_tokens, r.used_tokens) for r in report.reserves}
    outcome.denied_said = sum(a.account.denied_calls for a in report.agents.values())
    for event in events:
        if isinstance(event, BudgetEvent) and event.kind in ("degraded", "denied"):
            outcome.steps[event.agent] += 1
    outcome.compared = single
    return outcome


# --- the whole -----------------------------------------------------------------------------------


@dataclass
class Verdict:
    """All runs of one application."""

    app: App
    plan: PlanShape
    faults: list[tuple[str, Fault]]
    """Which run, and what."""
    runs: int
    scarce: int
    told: dict[float, tuple[int, int]]
    """Facts at the end and without a plan, by share of the need."""
    unspent: list[float]
    seconds: float


LADDER = (0.3, 0.45, 0.6, 0.75, 0.9)


def judged(app: App, run: Runner = with_package, *, steps: int = 3) -> Verdict:
    """Run *app* under a plan at rising totals, and find what is wrong."""
    start = time.process_time()
    rng = random.Random(app.seed * 7919 + 1)
    base = plain(app, None, None, model_name(app, 0), True)
    if base.error is not None:
        raise base.error
    needs = {name: base.log.spent(name) for name in app.agents}
    plan = plan_shape(rng, app, needs)
    judge = Judge(app, plan, base)
    faults: list[tuple[str, Fault]] = []
    told: dict[float, tuple[int, int]] = {}
    unspent: list[float] = []
    single = app.parallel == 1 or rng.random() < 0.6
    shares = sorted(rng.sample(LADDER, steps))
    before: Outcome | None = None
    runs = 0

    def once(total: int, single: bool) -> Outcome:
        nonlocal runs
        runs += 1
        outcome = run(app, plan, total, model_name(app, runs), single)
        faults.extend((f"{total:,}", fault) for fault in judge.faults(outcome))
        return outcome

    for share in shares:
        outcome = once(max(60, int(share * judge.need)), single)
        told[share] = (outcome.facts, base.facts)
        if outcome.error is None and judge.degraded(outcome):
            unspent.append(1 - outcome.log.spent() / (outcome.total or 1))
        if single and before is not None:
            faults.extend((f"{outcome.total:,}", f) for f in judge.monotone(before, outcome))
        before = outcome
    ample = once(4 * judge.need + 20_000, False)
    if single and before is not None:
        faults.extend((f"{ample.total:,}", f) for f in judge.monotone(before, ample))
    if rng.random() < 0.25:
        once(
            rng.choice((1, 20, 60, min(a.short_need(app.surplus) for a in app.agents.values()))),
            False,
        )
    return Verdict(app, plan, faults, runs, len(shares), told, unspent, time.process_time() - start)


def application(half: str, seed: int) -> App:
    """Return the application of one half by its seed."""
    module = importlib.import_module(f"tests.judge.delivery_{half}")
    made: App = module.application(seed)
    return made


KINDS = (
    "refused within its own",
    "overshoot",
    "account is not the bill",
    "system message changed",
    "question or role line changed",
    "empty prompt",
    "invalid conversation",
    "empty answer",
    "made up where a paragraph fits",
    "refused as a whole",
    "answer cut off",
    "word limit broken",
    "structured answer invalid",
    "more tokens, no end",
    "more tokens, fewer reports",
    "more tokens, fewer facts",
    "unspent",
    "not recorded",
    "denied miscounted",
    "ample budget changes the output",
    "ample budget caps",
    "crash",
    "slow",
)


def figures(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Return what the table shows."""
    graphs: Counter[str] = Counter()
    runs: Counter[str] = Counter()
    by_kind: dict[str, Counter[str]] = defaultdict(Counter)
    for verdict in verdicts:
        seen = {(where, fault.kind) for where, fault in verdict.faults}
        runs.update(kind for _, kind in seen)
        graphs.update({kind for _, kind in seen})
        by_kind[verdict.app.kind]["graphs"] += 1
        by_kind[verdict.app.kind].update({kind for _, kind in seen})
    told: dict[float, list[int]] = defaultdict(lambda: [0, 0])
    for verdict in verdicts:
        for share, (kept, all_) in verdict.told.items():
            told[share][0] += kept
            told[share][1] += all_
    unspent = sorted(u for v in verdicts for u in v.unspent)
    return {
        "graphs": len(verdicts),
        "runs": sum(v.runs for v in verdicts),
        "cpu_seconds": round(sum(v.seconds for v in verdicts), 1),
        "faults": {k: {"runs": runs[k], "graphs": graphs[k]} for k in KINDS},
        "facts_lost": {str(s): round(1 - k / a, 3) for s, (k, a) in sorted(told.items()) if a},
        "unspent_median": round(unspent[len(unspent) // 2], 3) if unspent else None,
        "unspent_p90": round(unspent[int(0.9 * len(unspent))], 3) if unspent else None,
        "degraded_runs": len(unspent),
        "by_kind": {k: dict(c) for k, c in sorted(by_kind.items())},
    }


def printed(half: str, found: Mapping[str, Any]) -> None:
    """Print the tables."""
    print(
        f"\n## Delivery, {half} half: {found['graphs']} graphs, {found['runs']} runs under a plan, {found['cpu_seconds']} CPU s\n"
    )
    print("| what went wrong | runs | graphs |\n| --- | --: | --: |")
    for kind, count in found["faults"].items():
        print(f"| {kind} | {count['runs']} | {count['graphs']} |")
    print("\n| total, of what the run needs | " + " | ".join(found["facts_lost"]) + " |")
    print("| --- |" + " --: |" * len(found["facts_lost"]))
    print("| facts lost | " + " | ".join(f"{v:.1%}" for v in found["facts_lost"].values()) + " |")
    if found["degraded_runs"]:
        print(
            f"\nunspent where something was made smaller ({found['degraded_runs']} runs): median {found['unspent_median']:.1%}, 90 % of them below {found['unspent_p90']:.1%}"
        )
    columns = [k for k in KINDS if any(k in c for c in found["by_kind"].values())]
    print("\n| graphs of the kind with a fault | graphs | " + " | ".join(columns) + " |")
    print("| --- | --: |" + " --: |" * len(columns))
    for name, counts in found["by_kind"].items():
        print(
            f"| {name} | {counts['graphs']} | "
            + " | ".join(str(counts.get(c, 0)) for c in columns)
            + " |"
        )


def _one(half: str, seed: int) -> Verdict:
    return judged(application(half, seed))


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--half", default="build", choices=("build", "judge"))
    parser.add_argument("--graphs", type=int, default=200)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--show", action="store_true", help="list what went wrong, by seed")
    parser.add_argument("--only", nargs="*", help="show these faults alone")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    verdicts = []
    for seed in range(options.first, options.first + options.graphs):
        verdict = _one(options.half, seed)
        verdicts.append(verdict)
        if options.show:
            for _where, fault in verdict.faults:
                if not options.only or fault.kind in options.only:
                    print(
                        f"{seed} {verdict.app.kind} [{verdict.app.mode}, {verdict.plan.name}]: {fault.kind}: {fault.text}",
                        flush=True,
                    )
    found = figures(verdicts)
    printed(options.half, found)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
