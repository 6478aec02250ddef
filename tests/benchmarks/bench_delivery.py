"""Whether every agent still says something real: graphs, the desk, loops of tools, others' agents.

Run:     python -m tests.benchmarks.bench_delivery [--graphs 500] [--first 200] [--seeds 20]
         [--totals 40] [--halves build] [--processes 2] [--applications PYTHON] [--only PART ...]
         [--name delivery]
Graphs:  the judge of delivery (``tests/judge/delivery.py``), its halves that are named; calls that
         are made sync and async apart. The seeds from 200 on are of nobody's building.
         What is left is counted by ``delivery_unspent.py``.
Desk:    the desk of the examples with the plan that is shipped, at 40,000, 30,000 and 25,000 tokens
         (its shares scaled) and one to three rounds of debate. For every seed twelve facts with a
         weight are planted in the sample documents, in words of the question or in none of them.
         Half of the agents (by seed) write twice what is asked for. The trader decides by the mean
         weight of the facts in its prompt. *Lost* is what does not reach the trader.
Agent:   ``create_agent`` with four searches of 1,000 tokens each, at totals from what one search
         and one answer cost up to 1.3 times what all four cost.
Others:  ``delivery_applications.py`` in an environment with ``requirements-delivery.txt``.
Client:  a ``ChatOpenAI`` that keeps more of the provider's answer than its base class: the same
         message under a plan with words?
Output:  tests/benchmarks/results/NAME.json.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import random
import re
import statistics
import subprocess
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from langchain_core.documents import Document
from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage
from langgraph.graph import END, START, StateGraph

from langchain_tokenopt import BudgetPlan, budget_graph, optimize
from langchain_tokenopt.examples import trading_desk
from langchain_tokenopt.examples.trading_desk import AGENTS, ANALYSTS, DEBATERS, QUESTION
from tests.benchmarks.delivery_unspent import KINDS, unspent
from tests.benchmarks.results import RESULTS, write_result
from tests.judge.delivery import (
    Verdict,
    application,
    figures,
    judged,
    observed,
    plain,
    with_package,
)
from tests.judge.delivery_apps import Agent, App, Fact, Language, text_of, tokens_of
from tests.judge.delivery_build import HARBOUR, several
from tests.judge.delivery_checks import Judge, Outcome, PlanShape
from tests.judge.delivery_kit import Kit
from tests.judge.delivery_model import Attempt, Log, Script, model_name
from tests.judge.delivery_nodes import Workshop

COMMAND = "python -m tests.benchmarks.bench_delivery"
TOTALS = (40_000, 30_000, 25_000)
ROUNDS = (1, 2, 3)
FACTS = 12

SYSTEM = "You work on a trading desk. Use only the material that you are given."
WORDINGS = {
    "like the question": (
        "Order {s} speaks for buying the shares with a weight of {v}.",
        "Order {s} speaks against buying the shares with a weight of {v}.",
    ),
    "unlike it": (
        "Letter {s} tips the scale upwards by {v}.",
        "Letter {s} tips it downwards by {v}.",
    ),
}
DESK = Language(
    name="desk",
    system=SYSTEM,
    question=f"Question: {QUESTION}",
    role="",
    limit="Write at most {words} words.",
    rules=(),
    facts=(),
    subjects=(),
    prose=(
        (
            "the company",
            "one observer",
            "the sector",
            "a long-standing holder",
            "the press",
            "a peer",
        ),
        ("has long been known for", "was reminded of", "still talks about", "may yet return to"),
        ("its early years", "a quieter market", "the usual seasonal pattern", "an older forecast"),
        (
            "in one way or another",
            "as others have said",
            "without any hurry",
            "for what it is worth",
        ),
    ),
    lead="Report of the {name}.",
    agents=(),
)


# --- the desk ------------------------------------------------------------------------------------


def planted(seed: int, wording: str) -> tuple[list[Document], tuple[Fact, ...], dict[str, int]]:
    """Return the sample documents with facts in between, and what each fact weighs."""
    rng = random.Random(seed)
    lean = rng.choice((-2, 0, 2))
    documents = [
        Document(d.page_content, metadata=dict(d.metadata)) for d in trading_desk.sample_documents()
    ]
    facts, weights = [], {}
    for number in rng.sample(range(100, 1_000), FACTS):
        weight = max(-3, min(3, lean + rng.choice((-1, 0, 1)))) or rng.choice((-1, 1))
        code = f"{rng.choice('KQXZ')}{number}"
        # The weight is written as a number that nothing else has, so that both can be found again.
        value = f"{abs(weight)}.{number}"
        sentence = WORDINGS[wording][weight < 0].format(s=code, v=value)
        facts.append(Fact(code, value, sentence))
        weights[code] = weight
        document = rng.choice(documents)
        paragraphs = document.page_content.split("\n\n")
        paragraphs.insert(rng.randrange(1, len(paragraphs)), sentence)
        document.page_content = "\n\n".join(paragraphs)
    return documents, tuple(facts), weights


def desk_agents(rounds: int) -> dict[str, trading_desk.Agent]:
    """Return the desk with more rounds of debate: everybody reads what was said before."""
    agents = dict(AGENTS)
    spoken = list(DEBATERS)
    behind = [n for n in AGENTS if n not in ANALYSTS and n not in DEBATERS]
    for number, name in itertools.product(range(2, rounds + 1), DEBATERS):
        again = f"{name}_{number}"
        agents[again] = replace(AGENTS[name], reads=(*ANALYSTS, *spoken))
        spoken.append(again)
    late = {n: agents.pop(n) for n in behind}
    for name, agent in late.items():
        others = [n for n in agent.reads if n in behind]
        agents[name] = replace(agent, reads=(*ANALYSTS, *spoken, *others))
    return agents


def payer(name: str) -> str:
    """Return whose account pays: all rounds of a debater are one agent."""
    return re.sub(r"_\d$", "", name)


def desk_plan(total: int, name: str) -> BudgetPlan:
    """Return the shipped plan with shares and floors scaled to another total."""
    shipped = BudgetPlan.from_file(trading_desk.__file__.replace(".py", "_plan.toml"))
    scale = total / shipped.total_tokens
    scaled = {
        n: {
            **a.model_dump(exclude_none=True),
            "tokens": int(scale * (a.tokens or 0)),
            "floor": int(scale * a.floor),
        }
        for n, a in shipped.agents.items()
    }
    buffer = int(scale * shipped.buffer)
    return BudgetPlan(total_tokens=total, name=name, buffer=buffer, agents=scaled)


class DeskScript(Script):
    """Repeats the facts of its prompt; every other agent, by seed, writes twice what is asked."""

    weights: Mapping[str, int]

    def _write(self, made: Attempt, who: Agent, choice: Any, form: Any) -> None:
        super()._write(made, who, choice, form)
        if who.name == "trader":
            found = "\n".join(text_of(m) for m in made.received)
            seen = [self.weights[f.subject] for f in self.app.facts if f.stands_in(found)]
            says = f"Decision: {decided(seen)}, on balance."
            made.wanted = f"{says} {made.wanted}\n{says}"
            made.text, made.output_tokens = made.wanted, tokens_of(made.wanted)


def decided(weights: Sequence[int]) -> str:
    """Return what the trader makes of the facts that it sees."""
    mean = statistics.mean(weights) if weights else 0.0
    return "BUY" if mean > 0.5 else "SELL" if mean < -0.5 else "HOLD"


def desk_app(seed: int, rounds: int, wording: str) -> tuple[App, dict[str, int]]:
    """Return the desk as an application of the judge."""
    documents, facts, weights = planted(seed, wording)
    desk = desk_agents(rounds)
    rng = random.Random(seed * 31 + rounds)

    def frame(agent: Agent, materials: Sequence[tuple[str, str]]) -> list[BaseMessage]:
        return [SystemMessage(SYSTEM), HumanMessage("\n\n".join(agent.frame))]

    agents = {
        name: Agent(
            name=name,
            system=SYSTEM,
            role=each.task,
            question=DESK.question,
            rules=f"Write at most {each.max_words} words.",
            words=each.max_words if (obeys := rng.random() < 0.5) else 2 * each.max_words,
            layout=frame,
            obeys=obeys,
            reads=max(len(documents), len(each.reads)),
            foreign=True,
        )
        for name, each in desk.items()
    }

    def build(shop: Workshop) -> Any:
        models = {name: shop.model(name) for name in desk}
        drawn = trading_desk.build_desk(models, documents, agents=desk)
        graph = StateGraph(trading_desk.DeskState)
        for name, each in desk.items():
            node = drawn.nodes[name].runnable
            graph.add_node(name, node, metadata={"tokenopt_agent": payer(name)})
            graph.add_edge(list(each.reads) or START, name)
        graph.add_edge("summary", END)
        return graph

    def final(state: Mapping[str, Any]) -> str:
        return json.dumps(state.get("reports", {}))

    return (
        App(seed, "desk", DESK, agents, facts, build, {"question": QUESTION}, final, parallel=1),
        weights,
    )


def staged_by(plan: BudgetPlan | None) -> Callable[[Any], Any]:
    """Return what puts a model under the plan, if there is one."""
    return (lambda model: model) if plan is None else (lambda model: optimize(model, plan))


def desk_run(app: App, weights: Mapping[str, int], plan: BudgetPlan | None) -> Outcome:
    """Run the desk once."""
    log = Log()
    name = f"ft:gpt-4-0613:judge:desk:{app.seed}-{plan.name if plan else 0}"
    shop = Workshop(
        app, log, name, (lambda m: m) if plan is None else (lambda m: optimize(m, plan))
    )
    shop.script = DeskScript(app, log)
    shop.script.weights = weights
    graph = app.build(shop)
    if plan is None:
        return observed(app, log, None, lambda: graph.compile().invoke(app.inputs))
    made = budget_graph(graph, plan).compile()
    with plan.run() as run:
        outcome = observed(app, log, plan.total_tokens, lambda: made.invoke(app.inputs))
        outcome.spent_said = run.report().account.spent_tokens
        outcome.steps.update({n: sum(a.degraded.values()) for n, a in run.report().agents.items()})
    return outcome


def desk_row(total: int, rounds: int, wording: str, seeds: int) -> dict[str, Any]:
    """Return the figures of one total, one number of rounds and one wording."""
    faults: Counter[str] = Counter()
    same = lost = told = made_up = 0
    spent = []
    for seed in range(seeds):
        app, weights = desk_app(seed, rounds, wording)
        base = desk_run(app, weights, None)
        plan = desk_plan(total, f"{wording}-{total}-{rounds}")
        run = desk_run(app, weights, plan)
        words = {n: plan.agents[payer(n)].words or 10**6 for n in app.agents}
        shares = {n: (a.tokens or 0) / total for n, a in plan.agents.items()}
        judge = Judge(app, PlanShape("shipped", words=words, shares=shares), base)
        faults.update({f.kind for f in judge.faults(run)})
        reports = (run.state or {}).get("reports", {})
        made_up += sum(not _is_real(run, name, reports.get(name, "")) for name in app.agents)
        report = reports.get("trader", "")
        wanted = trading_desk.decision_of((base.state or {})["reports"]["trader"])
        same += trading_desk.decision_of(report) == wanted
        seen = [a for a in run.log.attempts if a.agent == "trader"]
        text = "\n".join(text_of(m) for m in seen[-1].received) if seen else ""
        told += FACTS
        lost += sum(not f.stands_in(text) for f in app.facts)
        spent.append(run.log.spent())
    return {
        "total": total,
        "rounds": rounds,
        "facts": wording,
        "runs": seeds,
        "same decision": same,
        "facts lost": round(lost / told, 3),
        "reports made up or empty": made_up,
        "spent": [min(spent), max(spent)],
        "runs with faults": dict(faults.most_common()),
    }


def _is_real(run: Outcome, agent: str, report: str) -> bool:
    begin = " ".join(report.split())[:24]
    texts = [" ".join(a.text.split()) for a in run.log.attempts if a.agent == agent]
    return bool(begin) and any(begin in text for text in texts)


def desk(seeds: int) -> list[dict[str, Any]]:
    """Return all rows of the desk."""
    rows = [desk_row(t, r, "like the question", seeds) for r in ROUNDS for t in TOTALS]
    return [*rows, *(desk_row(t, 1, "unlike it", seeds) for t in TOTALS)]


# --- create_agent --------------------------------------------------------------------------------


def searching(searches: int) -> App:
    """Return an agent of LangChain that searches before it answers."""
    from langchain.agents import create_agent
    from langchain_core.tools import StructuredTool

    kit = Kit(17, (HARBOUR,), (several,))
    found = [kit.document(1_000, 2) for _ in range(4)]
    who = kit.agent(
        name="searcher", words=150, obeys=True, searches=searches, reads=4, foreign=True
    )
    asked = HumanMessage(f"{who.question}\n{who.rules}".strip())

    def build(shop: Workshop) -> Any:
        at = iter(range(10_000))
        search = StructuredTool.from_function(
            lambda query: shop.result_of(found[next(at) % 4]), name="search", description="Search."
        )
        prompt = f"{who.system}\n{who.role}"
        return create_agent(shop.model(who.name), [search], system_prompt=prompt, name=who.name)

    def final(state: Mapping[str, Any]) -> str:
        return text_of(state["messages"][-1])

    return kit.app("searching", build, who.name, inputs={"messages": [asked]}, final=final)


def sweep(totals: int) -> dict[str, Any]:
    """Run the agent at rising totals."""

    def run(app: App, plan: BudgetPlan | None) -> Outcome:
        log = Log()
        name = f"ft:gpt-4-0613:judge:sweep:{plan.total_tokens if plan else 0}"
        graph = app.build(Workshop(app, log, name, staged_by(plan)))
        if plan is None:
            return observed(app, log, None, lambda: graph.invoke(app.inputs))
        made = budget_graph(graph, plan)
        with plan.run():
            return observed(app, log, plan.total_tokens, lambda: made.invoke(app.inputs))

    least = run(replace_searches(1), None).log.spent()
    app = replace_searches(4)
    need = run(app, None).log.spent()
    rows = []
    for number in range(totals):
        total = int(least + number * (1.3 * need - least) / max(1, totals - 1))
        outcome = run(app, BudgetPlan(total_tokens=total, name=f"sweep-{total}"))
        text = app.final(outcome.state) if outcome.state else ""
        begin = " ".join(text.split())[:24]
        said = [" ".join(a.text.split()) for a in outcome.log.attempts if a.text]
        real = bool(begin) and any(begin in each for each in said)
        rows.append((total, len(outcome.log.results), real, outcome.facts, outcome.log.spent()))
    pairs = list(itertools.pairwise(rows))
    return {
        "one search and an answer": least,
        "four searches and an answer": need,
        "totals": totals,
        "answered": sum(r[2] for r in rows),
        "steps with fewer searches": sum(b[1] < a[1] for a, b in pairs),
        "steps with fewer facts": sum(b[3] < a[3] for a, b in pairs),
        "steps that lose the answer": sum(a[2] and not b[2] for a, b in pairs),
        "overspent": sum(r[4] > r[0] for r in rows),
        "rows (total, searches, answered, facts, spent)": [list(r) for r in rows],
    }


def replace_searches(searches: int) -> App:
    """Return the agent with another number of searches, sync, without a surplus."""
    app = searching(searches)
    app.mode = "invoke"
    app.surplus = type(app.surplus)()
    return app


# --- a client of one's own -----------------------------------------------------------------------


def endless() -> dict[str, str]:
    """Run an agent that would search for ever: a plan has to bring it to an answer."""
    ends = {}
    for total in (3_000, 6_000, 12_000):
        app, log = replace_searches(10**6), Log()
        plan = BudgetPlan(total_tokens=total, name=f"endless-{total}")
        graph = app.build(
            Workshop(app, log, f"ft:gpt-4-0613:judge:endless:{total}", staged_by(plan))
        )
        made = budget_graph(graph, plan)
        with plan.run():
            run = observed(app, log, total, lambda made=made, app=app: made.invoke(app.inputs))
        text = app.final(run.state) if run.state else ""
        real = "answered" if _is_real(run, "searcher", text) else f"made up: {text[:70]!r}"
        said = real if run.error is None else run.end[:100]
        ends[f"{total:,}"] = f"{said}; {len(log.results)} searches, {log.spent():,} tokens"
    return ends


def client() -> dict[str, Any]:
    """Ask a subclass of ChatOpenAI that keeps ``reasoning_content``, with stages and without."""
    import httpx
    from langchain_openai import ChatOpenAI

    from langchain_tokenopt import WordLimit

    class Keeping(ChatOpenAI):
        def _create_chat_result(self, response: Any, generation_info: Any = None) -> Any:
            result = super()._create_chat_result(response, generation_info)
            body = response if isinstance(response, dict) else response.model_dump()
            for generation, choice in zip(result.generations, body["choices"], strict=True):
                kept = choice["message"].get("reasoning_content")
                generation.message.additional_kwargs["reasoning_content"] = kept
            return result

    text = "The pier was painted. The ferry is late."

    def answer(request: httpx.Request) -> httpx.Response:
        asked = json.loads(request.content)
        usage = {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18}
        shared = {"id": "1", "created": 1, "model": "gpt-4-0613"}
        message = {"role": "assistant", "content": text, "reasoning_content": "I looked twice."}
        if not asked.get("stream"):
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            body = {**shared, "object": "chat.completion", "choices": [choice], "usage": usage}
            return httpx.Response(200, json=body)
        chunks: list[dict[str, Any]] = [
            {"choices": [{"index": 0, "delta": {"role": "assistant", "content": text}}]},
            {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
            {"choices": [], "usage": usage},
        ]
        lines = [json.dumps({**shared, "object": "chat.completion.chunk", **c}) for c in chunks]
        body = "".join(f"data: {line}\n\n" for line in [*lines, "[DONE]"])
        return httpx.Response(200, text=body, headers={"content-type": "text/event-stream"})

    http = httpx.Client(transport=httpx.MockTransport(answer))
    model = Keeping(model="gpt-4-0613", api_key="none", base_url="http://none/v1", http_client=http)
    plan = BudgetPlan(total_tokens=50_000, agents={"a": {"words": 100}})
    tool = {
        "type": "function",
        "function": {
            "name": "f",
            "description": "d",
            "parameters": {"type": "object", "properties": {}},
        },
    }

    def kept(made: Any) -> bool:
        message = made.invoke("How is the pier?")
        return (
            message.additional_kwargs.get("reasoning_content") == "I looked twice."
            and message.text == text
        )

    found = {"plain": kept(model), "WordLimit": kept(optimize(model, WordLimit(100, ask=False)))}
    found["WordLimit, tools bound"] = kept(
        optimize(model, WordLimit(100, ask=False)).bind(tools=[tool])
    )
    with plan.run():
        from langchain_tokenopt import budgeted

        found["a plan with words"] = budgeted(lambda s: kept(optimize(model, plan)), plan, "a")({})
    return found


# --- all -----------------------------------------------------------------------------------------


def graph(half: str, seed: int) -> tuple[Verdict, Counter[str]]:
    """Judge one graph; say of runs with more than 5 % left why, and whether it could be helped."""
    warnings.simplefilter("ignore")
    app, left = application(half, seed), Counter[str]()
    base = plain(app, None, None, model_name(app, 0), True)
    runs: list[Outcome] = []

    def noted(*asked: Any) -> Outcome:
        runs.append(with_package(*asked))
        return runs[-1]

    verdict = judged(app, noted)
    much = {where for where, fault in verdict.faults if fault.kind == "unspent"}
    for run in runs:
        if f"{run.total:,}" in much:
            found = unspent(base, run, verdict.plan.words)
            left["runs"] += 1
            left[f"most of it: {KINDS[found.kind]}"] += 1
            left["avoidable with foreknowledge"] += found.is_avoidable
            left["not explained by the report"] += not found.is_explained
    # An application does not go from one process to another; what the figures need of it does.
    shown: Any = SimpleNamespace(kind=app.kind, mode=app.mode)
    return replace(verdict, app=shown), left


def graphs(half: str, first: int, count: int, processes: int) -> Iterator[dict[str, Any]]:
    """Yield the judge's figures on one half, now and then; sync and async calls apart."""
    verdicts: dict[str, list[Verdict]] = {"sync": [], "async": []}
    left: Counter[str] = Counter()
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        seeds = range(first, first + count)
        for done, (verdict, found) in enumerate(pool.imap(partial(graph, half), seeds), 1):
            verdicts["async" if verdict.app.mode.startswith("a") else "sync"].append(verdict)
            left.update(found)
            if done % _WRITTEN == 0 or done == count:
                halves = {mode: figures(those) for mode, those in verdicts.items() if those}
                everything = figures([v for those in verdicts.values() for v in those])
                yield {**everything, "more than 5 % left": dict(left), "by calls": halves}


_WRITTEN = 50
"""After so many graphs the figures so far are written."""


PARTS = ("desk", "agent", "client", "others", "graphs")


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--graphs", type=int, default=500)
    parser.add_argument("--first", type=int, default=200, help="seed of the first graph")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--totals", type=int, default=40)
    parser.add_argument(
        "--applications", metavar="PYTHON", help="of an environment with requirements-delivery.txt"
    )
    parser.add_argument("--halves", nargs="*", choices=("build", "judge"), default=["build"])
    parser.add_argument("--only", nargs="*", choices=PARTS, default=PARTS)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--name", default="delivery")
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    found: dict[str, Any] = {}
    if set(options.only) < set(PARTS) and (RESULTS / f"{options.name}.json").exists():
        found = json.loads((RESULTS / f"{options.name}.json").read_text("utf-8"))["figures"]
    start = time.process_time()
    asked = {
        "desk": f"--seeds {options.seeds}",
        "agent": f"--totals {options.totals}",
        "client": "",
        "others": "--applications PYTHON",
        "graphs": f"--graphs {options.graphs} --first {options.first}",
    }
    commands = found.setdefault("commands", {})

    def write() -> Path:
        """Parts may have been measured one after another: each keeps its own command."""
        said = f"{COMMAND} --only " + "; --only ".join(commands.values())
        return write_result(options.name, said, found, "langchain", "bpe-openai")

    for part in options.only:
        commands[part] = f"{part} {asked[part]}".strip()
        if part == "graphs":
            for half in options.halves:
                for so_far in graphs(half, options.first, options.graphs, options.processes):
                    found.setdefault("graphs", {})[half] = so_far
                    write()
        elif part == "desk":
            found["desk"] = desk(options.seeds)
        elif part == "agent":
            found["create_agent"] = sweep(options.totals)
            found["create_agent that never stops searching"] = endless()
        elif part == "client":
            found["a client that keeps reasoning_content"] = client()
        elif options.applications:
            command = [options.applications, "-m", "tests.benchmarks.delivery_applications"]
            told = subprocess.run(command, capture_output=True, text=True, check=True)
            found["applications"] = json.loads(told.stdout)
        print(part, f"{time.process_time() - start:.0f} CPU s", flush=True)
        path = write()
    print(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
