"""The trading desk with a scripted, verbose model: without a budget, and with 40,000 tokens.

Run:     make bench-desk       (python -m tests.benchmarks.bench_desk [--seeds 20] [--timed 2])
Data:    the eight sample documents of the desk; for every seed, twelve facts are planted between
         their paragraphs. A fact is a sentence that names a number and says whether it speaks for
         or against buying the shares, and how strongly, for instance "Order 417 from a harbour
         operator speaks for buying the shares with a weight of 3."
Model:   real ChatOpenAI over HTTP to a loopback server that counts what it would bill. Every agent
         repeats the facts that it finds in its prompt, spread evenly over its answer, and fills up
         with prose. Half of the time (drawn by seed and agent) it writes twice the words that were
         asked for; else it keeps to the lowest limit in its prompt. The trader's decision is the
         mean weight of the facts in its own prompt: above 0.5 BUY, below -0.5 SELL, else HOLD; it
         says so in its first sentence and, if it gets that far, in its last line.
Rule:    the same seed draws the same facts and the same disobedience in both runs. Bills are the
         server's. A cancelled stream is billed for what was written until then, at 1 ms a word;
         times are taken apart, with a server that takes 20 ms a word, and include our own work.
Overhead: what an ample budget adds to one call of a model that answers at once, the prompt being
         one document (1,700 tokens): medians of 200 calls each, taken in turns.
Output:  tests/benchmarks/results/budget_desk.json.
"""

from __future__ import annotations

import argparse
import random
import re
import statistics
import time
from collections.abc import Sequence
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any

from langchain_core.documents import Document

from langchain_tokenopt.budget.ladder import FINAL
from langchain_tokenopt.budget.plan import BudgetPlan, desk_plan
from langchain_tokenopt.budget.run import RunReport
from langchain_tokenopt.examples.trading_desk import (
    AGENTS,
    QUESTION,
    build_desk,
    decision_of,
    sample_documents,
)
from langchain_tokenopt.graph import budget_graph
from langchain_tokenopt.limits.words import count_words
from langchain_tokenopt.model import optimize
from langchain_tokenopt.prices import default_rate_card
from langchain_tokenopt.stage import PassThrough
from langchain_tokenopt.usage import Usage
from tests.benchmarks.results import write_result
from tests.support.fakes import FakeAnswer, fake_chat
from tests.support.model_server import ModelServer, Reply, Request

COMMAND = "python -m tests.benchmarks.bench_desk"
MODEL = "gpt-4.1-mini"
FACTS = 12

_SOURCES = (
    "from a harbour operator",
    "from a grid company",
    "from a supplier of cells",
    "from a hospital group",
    "from a carrier",
    "from a dairy",
)
_KINDS = ("Order", "Complaint", "Contract", "Notice", "Letter", "Tender")
_FACT = re.compile(
    r"(\w+ \d{3} [\w ]+? speaks (for|against) buying the shares with a weight of (\d))\."
)
_LIMIT = re.compile(r"at most (\d+) words")
_PROSE = (
    "One may look at it from several sides before coming to a view.",
    "It is worth recalling how the matter stood a year ago.",
    "Nobody on the desk can be entirely certain of that today.",
    "Other observers have described much the same in their own words.",
    "The coming months will show how far this carries.",
)


def plant(seed: int) -> tuple[list[Document], dict[str, int]]:
    """Return the documents with facts in them, and the weight of each fact."""
    rng = random.Random(seed)
    lean = rng.choice((-2, 0, 2))
    facts: dict[str, int] = {}
    for number in rng.sample(range(100, 1_000), FACTS):
        weight = max(-3, min(3, lean + rng.choice((-1, 0, 1)))) or rng.choice((-1, 1))
        side = "for" if weight > 0 else "against"
        subject = f"{rng.choice(_KINDS)} {number} {rng.choice(_SOURCES)}"
        facts[f"{subject} speaks {side} buying the shares with a weight of {abs(weight)}"] = weight
    documents = [Document(d.page_content, metadata=dict(d.metadata)) for d in sample_documents()]
    for fact in facts:
        document = rng.choice(documents)
        paragraphs = document.page_content.split("\n\n")
        paragraphs.insert(rng.randrange(1, len(paragraphs)), f"{fact}.")
        document.page_content = "\n\n".join(paragraphs)
    return documents, facts


def found_in(text: str) -> dict[str, int]:
    """Return the facts in a prompt and their weights."""
    return {
        match[1]: int(match[3]) * (1 if match[2] == "for" else -1) for match in _FACT.finditer(text)
    }


def decided(facts: dict[str, int]) -> str:
    """Return what the trader makes of the facts that it has been told."""
    mean = statistics.mean(facts.values()) if facts else 0.0
    return "BUY" if mean > 0.5 else "SELL" if mean < -0.5 else "HOLD"


@dataclass
class VerboseModel:
    """Answers as the module's docstring says."""

    seed: int
    pace_seconds: float

    def __post_init__(self) -> None:
        self.trader_facts: dict[str, int] = {}

    def __call__(self, request: Request) -> Reply:
        """Answer one agent."""
        prompt = request.last_text
        agent = next(name for name, agent in AGENTS.items() if agent.task[:20] in prompt)
        rng = random.Random(f"{self.seed}:{agent}")
        asked = [int(number) for number in _LIMIT.findall(prompt)]
        words = 2 * max(asked) if rng.random() < 0.5 else round(0.95 * min(asked))
        facts = found_in(prompt)
        text = self._told(agent, facts, words, rng)
        if not request.streamed:
            return Reply(text=text, delay_seconds=self.pace_seconds * len(text.split()))
        return Reply(text=text, pace_seconds=self.pace_seconds)

    def _told(self, agent: str, facts: dict[str, int], words: int, rng: random.Random) -> str:
        sentences = [f"{fact}." for fact in facts]
        rng.shuffle(sentences)
        first = last = ""
        if agent == "trader":
            self.trader_facts = facts
            first = f"On balance the desk should {decided(facts)}."
            last = f"\n\nDecision: {decided(facts)}, as the weights of what is known add up to it."
        room = words - len(first.split()) - len(last.split())
        told: list[str] = []
        fillers = max(0, room - sum(len(s.split()) for s in sentences)) // 10
        each = fillers / max(1, len(sentences))
        owed = 0.0
        for sentence in sentences or [""]:
            owed += each if sentences else fillers
            told += [rng.choice(_PROSE) for _ in range(int(owed))]
            owed -= int(owed)
            told.append(sentence)
        kept: list[str] = []
        for sentence in told:
            if sum(len(s.split()) for s in kept) + len(sentence.split()) > room:
                break
            kept.append(sentence)
        return " ".join(filter(None, [first, *kept])) + last


@dataclass(frozen=True)
class Outcome:
    """One run of the desk."""

    tokens: int
    cost_nano_usd: int
    seconds: float
    reports: dict[str, str]
    facts_at_trader: int
    budget: RunReport | None = None

    @property
    def decision(self) -> str | None:
        """What the desk decided."""
        return decision_of(self.reports["trader"])


def run_desk(
    server: ModelServer,
    seed: int,
    documents: Sequence[Document],
    plan: BudgetPlan | None,
    pace_seconds: float,
) -> Outcome:
    """Run the desk once, with or without a plan, and read the server's bill."""
    server.reset()
    server.answer = verbose = VerboseModel(seed, pace_seconds)
    model, report = server.chat_openai(model=MODEL), None
    start: Any = {"question": QUESTION, "reports": {}}
    began = time.perf_counter()
    if plan is None:
        result = build_desk(model, documents).compile().invoke(start)
    else:
        workflow = budget_graph(build_desk(optimize(model, plan), documents), plan)
        with plan.run() as run:
            result = workflow.compile().invoke(start)
        report = run.report()
    seconds = time.perf_counter() - began
    rates = default_rate_card().rates(MODEL, "openai")
    assert rates is not None
    return Outcome(
        tokens=sum(usage.total_tokens for usage in server.billed),
        cost_nano_usd=sum(rates.cost(usage) for usage in server.billed),
        seconds=seconds,
        reports=result["reports"],
        facts_at_trader=len(verbose.trader_facts),
        budget=report,
    )


def judge(plain: Outcome, budgeted: Outcome, plan: BudgetPlan) -> dict[str, Any]:
    """Compare two runs of one seed."""
    report = budgeted.budget
    assert report is not None
    with_floor = [name for name, limits in plan.agents.items() if limits.floor]
    too_long = [
        name
        for name, text in budgeted.reports.items()
        if count_words(text) > (plan.limits_of(name).words or 10**9)
    ]
    return {
        "tokens_without": plain.tokens,
        "tokens_with": budgeted.tokens,
        "account_with": report.account.spent_tokens,
        "cost_saved": round(1 - budgeted.cost_nano_usd / plain.cost_nano_usd, 4),
        "denied_with_floor": sum(report.agents[name].account.denied_calls for name in with_floor),
        "made_up": sum(line.degraded.get(FINAL, 0) for line in report.agents.values()),
        "reports_missing": [name for name in AGENTS if not budgeted.reports.get(name)],
        "over_word_limit": too_long,
        "decision_without": plain.decision,
        "decision_with": budgeted.decision,
        "facts_at_trader_without": plain.facts_at_trader,
        "facts_at_trader_with": budgeted.facts_at_trader,
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return median and extremes."""
    return {
        "median": round(statistics.median(values), 4),
        "min": round(min(values), 4),
        "max": round(max(values), 4),
    }


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Put the seeds together."""
    planted = FACTS * len(rows)
    return {
        "seeds": len(rows),
        "tokens_without": spread([row["tokens_without"] for row in rows]),
        "tokens_with": spread([row["tokens_with"] for row in rows]),
        "cost_saved": spread([row["cost_saved"] for row in rows]),
        "denied_with_floor": sum(row["denied_with_floor"] for row in rows),
        "answers_made_up": sum(row["made_up"] for row in rows),
        "reports_missing": sum(len(row["reports_missing"]) for row in rows),
        "over_word_limit": sum(len(row["over_word_limit"]) for row in rows),
        "same_decision": sum(row["decision_without"] == row["decision_with"] for row in rows),
        "facts_lost_without": round(
            1 - sum(row["facts_at_trader_without"] for row in rows) / planted, 4
        ),
        "facts_lost_with": round(1 - sum(row["facts_at_trader_with"] for row in rows) / planted, 4),
    }


def overhead(calls: int = 200) -> dict[str, Any]:
    """Measure what a plan adds to a call when there is enough of everything."""
    plan = BudgetPlan(total_tokens=1_000_000_000)
    answer = FakeAnswer("It is as it is.", Usage(1_700, 6))
    plain = optimize(fake_chat(answers=[answer] * calls), PassThrough())
    budgeted = optimize(fake_chat(answers=[answer] * calls), plan)
    prompt = sample_documents()[0].page_content[:7_000]
    times: dict[str, list[float]] = {"plain": [], "budgeted": []}
    outside = copy_context()  # inside, the first model would join the plan
    with plan.run() as run:
        inside = copy_context()
        for _ in range(calls):
            for name, model, context in (
                ("plain", plain, outside),
                ("budgeted", budgeted, inside),
            ):
                began = time.perf_counter()
                context.run(model.invoke, prompt)
                times[name].append(time.perf_counter() - began)
    assert not run.report().agents["default"].degraded
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    added = medians["budgeted"] - medians["plain"]
    return {
        "calls": calls,
        "added_ms": round(added * 1_000, 3),
        "share_of_a_200_ms_call": round(added / 0.2, 5),
    }


def main() -> None:
    """Measure, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--timed", type=int, default=2, help="seeds to take the time of")
    options = parser.parse_args()
    plan, rows, times = desk_plan(), [], []
    with ModelServer() as server:
        for seed in range(options.first_seed, options.first_seed + options.seeds):
            documents, _ = plant(seed)
            plain, budgeted = (
                run_desk(server, seed, documents, under, 0.001) for under in (None, plan)
            )
            rows.append({"seed": seed, **judge(plain, budgeted, plan)})
            print(rows[-1], flush=True)
        for seed in range(options.timed):
            documents, _ = plant(seed)
            plain, budgeted = (
                run_desk(server, seed, documents, under, 0.02) for under in (None, plan)
            )
            times.append(
                {
                    "seconds_without": round(plain.seconds, 2),
                    "seconds_with": round(budgeted.seconds, 2),
                    "time_saved": round(1 - budgeted.seconds / plain.seconds, 4),
                }
            )
            print(times[-1], flush=True)
    figures = {
        "summary": summary(rows),
        "timed": times,
        "overhead": overhead(),
        "seeds": rows,
    }
    print(figures["overhead"])
    print(figures["summary"])
    print(write_result("budget_desk", COMMAND, figures))


if __name__ == "__main__":
    main()
