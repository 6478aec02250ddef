"""What a plan adds to the time of a run.

Run:     python -m tests.benchmarks.budget_overhead [--pairs 30]
Graph:   five agents in a row, each asks once. An answer takes 200 ms: at once, or in 20 pieces, one
         each 10 ms: a provider writes on while a piece is looked at. Every agent reads about 1,000
         tokens, each time other ones.
Pairs:   the graph as it is and the same graph under a plan, in turn; medians of their ratios, wall
         time. *CPU* is what a plan takes beside that: the CPU time of 200 calls that take no time,
         under the plan and without, in turn.
Words:   the plan sets a limit, which the answers keep: the call is streamed, to be stopped in time.
Scarce:  what shortening takes is shown, too: half of what the run needs.
Output:  results/budget_overhead.json
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langgraph.graph import END, START, StateGraph

from langchain_tokenopt import BudgetPlan, budget_graph, counter_for, optimize
from tests.benchmarks.results import write_result

COMMAND = "python -m tests.benchmarks.budget_overhead"
AGENTS = ("news", "technical", "risk", "trader", "summary")
CALL_SECONDS = 0.2
PIECES = 20
CALLS = 200
ANSWER = (
    "The harbour council approved the northern breakwater and asked for a second estimate. " * 4
)
DOCUMENT = " ".join(
    f"Crane {n} lifts {n % 9 + 2} tons and was last inspected in {1990 + n % 30}."
    for n in range(55)
)
QUESTION = "Question: which cranes must be mended before winter?"
PLANS: dict[str, dict[str, Any]] = {
    "ample": {"total_tokens": 1_000_000},
    "ample, shares": {
        "total_tokens": 1_000_000,
        "agents": {name: {"tokens": 100_000} for name in AGENTS},
    },
    "ample, words": {"total_tokens": 1_000_000, "agents": {n: {"words": 150} for n in AGENTS}},
    "scarce": {"total_tokens": 2_700},
}


_REPORTS = itertools.count()


class Paced(BaseChatModel):
    """Takes its time."""

    model_name: str = "gpt-4-0613"
    seconds: float = CALL_SECONDS

    @property
    def _llm_type(self) -> str:
        return "paced"

    def _generate(
        self, messages: list[Any], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        time.sleep(self.seconds)
        message = AIMessage(ANSWER, usage_metadata=_usage(messages))
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(
        self, messages: list[Any], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        size = -(-len(ANSWER) // PIECES)
        began = time.perf_counter()
        for number, at in enumerate(range(0, len(ANSWER), size), 1):
            due = began + number * self.seconds / PIECES
            time.sleep(max(0.0, due - time.perf_counter()))
            yield ChatGenerationChunk(message=AIMessageChunk(ANSWER[at : at + size]))
        last = AIMessageChunk("", usage_metadata=_usage(messages), chunk_position="last")
        yield ChatGenerationChunk(message=last)


def _usage(messages: list[Any]) -> Any:
    read = sum(len(message.text) // 4 for message in messages)
    wrote = len(ANSWER) // 5
    return {"input_tokens": read, "output_tokens": wrote, "total_tokens": read + wrote}


def asked() -> list[Any]:
    """Return what every agent asks."""
    return [
        SystemMessage("You work for the harbour office. Use only what you are given."),
        HumanMessage(f"Report {next(_REPORTS)}: {DOCUMENT}\n\n{QUESTION}"),
    ]


def graph_of(model: Any) -> StateGraph[Any]:
    """Return five agents in a row."""
    graph = StateGraph(dict)
    for before, name in zip((START, *AGENTS), AGENTS, strict=False):
        graph.add_node(name, lambda state: {"said": model.invoke(asked()).text})
        graph.add_edge(before, name)
    graph.add_edge(AGENTS[-1], END)
    return graph


def runner(seconds: float, settings: dict[str, Any] | None) -> Callable[[], None]:
    """Return what runs the graph once, under a plan or not."""
    model = Paced(seconds=seconds)
    if settings is None:
        bare = graph_of(model).compile()
        return lambda: bare.invoke({})
    plan = BudgetPlan(**settings)
    made = budget_graph(graph_of(optimize(model, plan)), plan).compile()

    def run() -> None:
        with plan.run():
            made.invoke({})

    return run


def paired(one: Callable[[], None], other: Callable[[], None], pairs: int) -> dict[str, Any]:
    """Time two things in turn."""
    ratios, seconds = [], []
    for run in (one, other):
        run()
    for _ in range(pairs):
        times = []
        for run in (one, other):
            began = time.perf_counter()
            run()
            times.append(time.perf_counter() - began)
        ratios.append(times[1] / times[0])
        seconds.append(times)
    low, _, high = statistics.quantiles(ratios, n=4)
    return {
        "without, seconds": round(statistics.median(s[0] for s in seconds), 4),
        "with, seconds": round(statistics.median(s[1] for s in seconds), 4),
        "ratio": round(statistics.median(ratios), 4),
        "middle half of the ratios": [round(low, 4), round(high, 4)],
    }


def processor(one: Callable[[], None], other: Callable[[], None]) -> float:
    """Return the milliseconds of CPU that a call takes more by the second."""
    added = []
    for run in (one, other):
        run()
    for _ in range(CALLS // len(AGENTS)):
        times = []
        for run in (one, other):
            began = time.process_time()
            run()
            times.append(time.process_time() - began)
        added.append((times[1] - times[0]) / len(AGENTS))
    return round(1_000 * statistics.median(added), 3)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=30)
    options = parser.parse_args()
    found: dict[str, Any] = {
        "prompt tokens": counter_for("gpt-4-0613").count(DOCUMENT).tokens,
        "seconds of a call": CALL_SECONDS,
        "calls of a run": len(AGENTS),
        "pairs": options.pairs,
    }
    for name, settings in PLANS.items():
        figures = paired(runner(CALL_SECONDS, None), runner(CALL_SECONDS, settings), options.pairs)
        added = processor(runner(0.0, None), runner(0.0, settings))
        figures["CPU added per call, ms"] = added
        figures["CPU added, of a call"] = round(added / 1_000 / CALL_SECONDS, 4)
        found[name] = figures
        print(name, figures, flush=True)
    said = f"{COMMAND} --pairs {options.pairs}"
    print(write_result("budget_overhead", said, found, "langchain", "bpe-openai"))


if __name__ == "__main__":
    main()
