"""The trading desk with a scripted, verbose model: without a budget, and with 40,000 tokens.

Run:     make bench-budget     (python -m tests.benchmarks.bench_desk [--seeds 20] [--timed 6])
Data:    the eight sample documents of the desk; for every seed, twelve facts are planted between
         their paragraphs. A fact is a sentence that names a number and says whether it speaks for
         or against buying the shares, and how strongly, for instance "Order 417 from a harbour
         operator speaks for buying the shares with a weight of 3." It has words of the question
         ("buy", "shares"). A second wording, "Order 417 from a harbour operator tips the scale
         upwards by 3.", has no word of the question nor of any analyst's task: nothing but luck
         can lead a shortener to it, so it shows how much of everything is lost.
Model:   real ChatOpenAI over HTTP to a loopback server that counts what it would bill. Every agent
         repeats the facts that it finds in its prompt, spread evenly over its answer, and fills up
         with prose. Half of the time (drawn by seed and agent) it writes twice the words that were
         asked for; else it keeps to the lowest limit in its prompt. The trader's decision is the
         mean weight of the facts in its own prompt: above 0.5 BUY, below -0.5 SELL, else HOLD; it
         says so in its first sentence and, if it gets that far, in its last line.
Rule:    the same seed draws the same facts and the same disobedience in both runs. Bills are the
         server's. A cancelled stream is billed for what was written until then, at 1 ms a word;
         times are taken apart, with a server that takes 20 ms a word, and include our own work;
         three seeds are timed side by side, each in a process with a server of its own. Beside the
         times stands what they would be if nothing but the server took any: the words of the
         slowest analyst and of everybody behind, which no other work on the machine changes.
Lost:    facts that stand in no analyst's prompt; that an analyst was given and none has reported,
         the reports being cut at their word limits; and that got lost behind the analysts.
Overhead: the desk with a model that takes 200 ms, without and with an ample budget, in turns, other
         documents each time; the reports must be the same.
Output:  tests/benchmarks/results/budget_desk.json.
"""

from __future__ import annotations

import argparse
import random
import re
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.documents import Document
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from langchain_tokenopt.budget.plan import BudgetPlan, desk_plan
from langchain_tokenopt.budget.run_report import BudgetRunReport
from langchain_tokenopt.budget.rungs import Step
from langchain_tokenopt.chat_model.optimize import optimize
from langchain_tokenopt.examples.trading_desk import (
    AGENTS,
    ANALYSTS,
    QUESTION,
    build_desk,
    decision_of,
    sample_documents,
)
from langchain_tokenopt.graph import budget_graph
from langchain_tokenopt.pricing.rate_card import default_rate_card
from langchain_tokenopt.text.words import count_words
from tests.benchmarks.results import write_result
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
LIKE_THE_QUESTION = (
    "speaks for buying the shares with a weight of",
    "speaks against buying the shares with a weight of",
)
UNLIKE_IT = ("tips the scale upwards by", "tips the scale downwards by")
_FACT = re.compile(
    r"(\w+ \d{3} [\w ]+? (?:speaks|tips the scale) (for|against|upwards|downwards) "
    r"(?:buying the shares with a weight of|by) (\d))\."
)
_FOR = ("for", "upwards")
_LIMIT = re.compile(r"at most (\d+) words")
_PROSE = (
    "One may look at it from several sides before coming to a view.",
    "It is worth recalling how the matter stood a year ago.",
    "Nobody on the desk can be entirely certain of that today.",
    "Other observers have described much the same in their own words.",
    "The coming months will show how far this carries.",
)


def plant(
    seed: int, wording: tuple[str, str] = LIKE_THE_QUESTION
) -> tuple[list[Document], dict[str, int]]:
    """Return the documents with facts in them, and the weight of each fact."""
    rng = random.Random(seed)
    lean = rng.choice((-2, 0, 2))
    facts: dict[str, int] = {}
    for number in rng.sample(range(100, 1_000), FACTS):
        weight = max(-3, min(3, lean + rng.choice((-1, 0, 1)))) or rng.choice((-1, 1))
        says = wording[weight < 0]
        subject = f"{rng.choice(_KINDS)} {number} {rng.choice(_SOURCES)}"
        facts[f"{subject} {says} {abs(weight)}"] = weight
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
        match[1]: int(match[3]) * (1 if match[2] in _FOR else -1) for match in _FACT.finditer(text)
    }


def decided(facts: dict[str, int]) -> str:
    """Return what the trader makes of the facts that it has been told."""
    mean = statistics.mean(facts.values()) if facts else 0.0
    return "BUY" if mean > 0.5 else "SELL" if mean < -0.5 else "HOLD"


def agent_of(request: Request) -> str:
    """Return who asks."""
    return next(name for name, agent in AGENTS.items() if agent.task[:20] in request.last_text)


@dataclass
class VerboseModel:
    """Answers as the module's docstring says."""

    seed: int
    pace_seconds: float

    def __post_init__(self) -> None:
        self.facts: dict[str, dict[str, int]] = {}
        """What stood in the prompt of each agent."""
        self.words: dict[str, int] = {}
        """Words of each answer, if nobody stops it."""

    def __call__(self, request: Request) -> Reply:
        """Answer one agent."""
        prompt, agent = request.last_text, agent_of(request)
        rng = random.Random(f"{self.seed}:{agent}")
        asked = [int(number) for number in _LIMIT.findall(prompt)]
        words = 2 * max(asked) if rng.random() < 0.5 else round(0.95 * min(asked))
        facts = self.facts[agent] = found_in(prompt)
        text = self._told(agent, facts, words, rng)
        self.words[agent] = len(text.split())
        if not request.streamed:
            return Reply(text=text, delay_seconds=self.pace_seconds * len(text.split()))
        return Reply(text=text, pace_seconds=self.pace_seconds)

    def _told(self, agent: str, facts: dict[str, int], words: int, rng: random.Random) -> str:
        sentences = [f"{fact}." for fact in facts]
        rng.shuffle(sentences)
        first = last = ""
        if agent == "trader":
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
    words_waited_for: int
    """Words of the slowest analyst and of everybody behind the analysts."""
    reports: dict[str, str]
    facts: dict[str, dict[str, int]]
    """What stood in the prompt of each agent."""
    budget: BudgetRunReport | None = None

    @property
    def decision(self) -> str | None:
        """What the desk decided."""
        return decision_of(self.reports["trader"])

    @property
    def lost(self) -> dict[str, int]:
        """How many of the planted facts were lost, and where."""
        read = set().union(*(self.facts[name] for name in ANALYSTS))
        reported = set().union(*(found_in(self.reports[name]) for name in ANALYSTS))
        traded = set(self.facts["trader"])
        return {
            "before_the_analysts": FACTS - len(read),
            "in_their_reports": len(read - reported),
            "later": len(reported - traded),
            "at_the_trader": FACTS - len(traded),
        }


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
        words_waited_for=waited_for(server, verbose),
        reports=result["reports"],
        facts=verbose.facts,
        budget=report,
    )


def waited_for(server: ModelServer, verbose: VerboseModel) -> int:
    """Count the words that the desk has waited for; under word limits all answers are streamed."""
    names = [agent_of(request) for request in server.requests]
    words = dict(verbose.words)
    words.update(zip(names, (log.sent for log in server.streams), strict=bool(server.streams)))
    behind = sum(count for name, count in words.items() if name not in ANALYSTS)
    return max(words[name] for name in ANALYSTS) + behind


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
        "made_up": sum(line.degraded.get(Step.FINAL, 0) for line in report.agents.values()),
        "reports_missing": [name for name in AGENTS if not budgeted.reports.get(name)],
        "over_word_limit": too_long,
        "server_time_saved": round(1 - budgeted.words_waited_for / plain.words_waited_for, 4),
        "decision_without": plain.decision,
        "decision_with": budgeted.decision,
        "facts_lost_without": plain.lost,
        "facts_lost_with": budgeted.lost,
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
    return {
        "seeds": len(rows),
        "tokens_without": spread([row["tokens_without"] for row in rows]),
        "tokens_with": spread([row["tokens_with"] for row in rows]),
        "cost_saved": spread([row["cost_saved"] for row in rows]),
        "server_time_saved": spread([row["server_time_saved"] for row in rows]),
        "denied_with_floor": sum(row["denied_with_floor"] for row in rows),
        "answers_made_up": sum(row["made_up"] for row in rows),
        "reports_missing": sum(len(row["reports_missing"]) for row in rows),
        "over_word_limit": sum(len(row["over_word_limit"]) for row in rows),
        "same_decision": sum(row["decision_without"] == row["decision_with"] for row in rows),
        "facts_lost_without": share_lost([row["facts_lost_without"] for row in rows]),
        "facts_lost_with": share_lost([row["facts_lost_with"] for row in rows]),
    }


def share_lost(rows: Sequence[dict[str, int]]) -> dict[str, float]:
    """Return which part of the planted facts was lost, by place."""
    return {
        place: round(sum(row[place] for row in rows) / (FACTS * len(rows)), 4) for place in rows[0]
    }


def compared(
    server: ModelServer, seed: int, plan: BudgetPlan, wording: tuple[str, str]
) -> dict[str, Any]:
    """Run one seed without and with the plan, and compare."""
    documents, _ = plant(seed, wording)
    plain, budgeted = (run_desk(server, seed, documents, under, 0.001) for under in (None, plan))
    return {"seed": seed, **judge(plain, budgeted, plan)}


def timed(seed: int) -> dict[str, Any]:
    """Take the time of one seed, in a process of its own."""
    documents, _ = plant(seed)
    with ModelServer() as server:
        plain, budgeted = (
            run_desk(server, seed, documents, under, 0.02) for under in (None, desk_plan())
        )
    return {
        "seed": seed,
        "seconds_without": round(plain.seconds, 2),
        "seconds_with": round(budgeted.seconds, 2),
        "server_seconds_without": round(0.02 * plain.words_waited_for, 2),
        "server_seconds_with": round(0.02 * budgeted.words_waited_for, 2),
        "time_saved": round(1 - budgeted.seconds / plain.seconds, 4),
    }


class _SlowModel(BaseChatModel):
    """Takes 200 ms and answers each agent in about its words.

    What it reports is a guess, and a budget learns from reports: so it is not the desk's model.
    """

    model: str = "gpt-4o-mini"

    @property
    def _llm_type(self) -> str:
        return "slow"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        time.sleep(0.2)
        prompt = messages[-1].text
        name, agent = next((n, agent) for n, agent in AGENTS.items() if agent.task in prompt)
        sentences = agent.max_words // 12
        text = " ".join(
            f"{name} read {len(prompt):,} characters and says number {n}: {_PROSE[n % len(_PROSE)]}"
            for n in range(sentences)
        )
        usage = {"input_tokens": len(prompt) // 4, "output_tokens": len(text) // 4}
        message = AIMessage(
            text,
            usage_metadata={**usage, "total_tokens": sum(usage.values())},
            response_metadata={"model_name": self.model},
        )
        return ChatResult(generations=[ChatGeneration(message=message)])


def overhead(pairs: int = 20, words: int | None = None) -> dict[str, Any]:
    """Run the desk without and with a budget that is ample: what does the budget take?

    Args:
        pairs: Runs without and with it.
        words: A limit that no answer reaches: every answer is watched as it comes.
    """
    limits = {name: {"tokens": 500_000, "words": words} for name in AGENTS}
    plan = BudgetPlan(total_tokens=10_000_000, agents=limits)
    wall: dict[bool, list[float]] = {False: [], True: []}
    cpu: dict[bool, list[float]] = {False: [], True: []}
    start: Any = {"question": QUESTION, "reports": {}}
    for pair in range(-1, pairs):  # the first pair only warms up
        documents, _ = plant(pair)
        plain = build_desk(_SlowModel(), documents).compile()
        budgeted = budget_graph(build_desk(optimize(_SlowModel(), plan), documents), plan).compile()
        reports = {}
        for with_budget in (False, True) if pair % 2 else (True, False):
            began, worked = time.perf_counter(), time.process_time()
            if with_budget:
                with plan.run() as run:
                    reports[True] = budgeted.invoke(start)["reports"]
            else:
                reports[False] = plain.invoke(start)["reports"]
            if pair >= 0:
                wall[with_budget].append(time.perf_counter() - began)
                cpu[with_budget].append(time.process_time() - worked)
        assert words or reports[True] == reports[False]  # else the model is asked for a length
        assert not any(line.degraded for line in run.report().agents.values())
    added = [much - little for much, little in zip(wall[True], wall[False], strict=True)]
    worked_more = [much - little for much, little in zip(cpu[True], cpu[False], strict=True)]
    without = statistics.median(wall[False])
    return {
        "pairs": pairs,
        "same_reports": True,
        "seconds_without": round(without, 4),
        "added_ms": round(statistics.median(added) * 1_000, 2),
        "added_cpu_ms": round(statistics.median(worked_more) * 1_000, 2),
        "share_of_wall_time": round(statistics.median(added) / without, 5),
    }


def main() -> None:
    """Measure, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--pairs", type=int, default=20, help="runs to take the overhead of")
    parser.add_argument("--timed", type=int, default=6, help="seeds to take the time of")
    parser.add_argument("--unlike", type=int, default=5, help="seeds with the second wording")
    parser.add_argument("--write", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args()
    first, plan = options.first_seed, desk_plan()
    figures: dict[str, Any] = {
        "overhead": overhead(options.pairs),
        "overhead_with_words": overhead(options.pairs, 5_000),
    }
    print(figures["overhead"], figures["overhead_with_words"], flush=True)
    with ProcessPoolExecutor(3, mp_context=get_context("spawn")) as processes:
        times = list(processes.map(timed, range(first, first + options.timed)))
    for row in times:
        print(row, flush=True)
    rows: dict[str, list[dict[str, Any]]] = {"seeds": [], "unlike_the_question": []}
    with ModelServer() as server:
        for name, wording, count in (
            ("seeds", LIKE_THE_QUESTION, options.seeds),
            ("unlike_the_question", UNLIKE_IT, options.unlike),
        ):
            for seed in range(first, first + count):
                rows[name].append(compared(server, seed, plan, wording))
                print(rows[name][-1], flush=True)
    figures |= {
        "summary": summary(rows["seeds"]),
        "timed": times,
        "time_saved": spread([row["time_saved"] for row in times]) if times else None,
        "unlike_the_question": summary(rows["unlike_the_question"]) if options.unlike else None,
        "seeds": rows["seeds"],
    }
    print({name: part for name, part in figures.items() if name != "seeds"})
    if options.write:
        print(write_result("budget_desk", COMMAND, figures))


if __name__ == "__main__":
    main()
