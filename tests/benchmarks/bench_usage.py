"""What usage tracking and the seam cost, beside no callback and langchain-core's own handler.

Run:     make bench-usage          (python -m tests.benchmarks.bench_usage [--rounds N])
Rule:    one process; the variants take turns in every round, in changing order, with the garbage
         collector off, so that drift of the machine hits all alike. A variant's figure is the
         median over rounds of its time per call; its overhead is that minus the median without a
         callback.
Output:  tests/benchmarks/results/usage.json, and a table.
"""

from __future__ import annotations

import argparse
import contextvars
import gc
import itertools
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langgraph.graph import END, START, MessagesState, StateGraph

from langchain_tokenopt import BudgetPlan, TokenUsageCallbackHandler, optimize
from langchain_tokenopt.stage import PassThrough, Phase
from tests.benchmarks.results import write_result

USAGE = {"input_tokens": 10, "output_tokens": 2, "total_tokens": 12}


class Instant(BaseChatModel):
    """Answers at once, with usage, so that only the plumbing is timed."""

    @property
    def _llm_type(self) -> str:
        return "instant"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": "gpt-4.1-mini"}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        return {"ls_provider": "openai", "ls_model_name": "gpt-4.1-mini", "ls_model_type": "chat"}

    def _generate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        message = AIMessage(
            "ok", usage_metadata=USAGE, response_metadata={"model_name": "gpt-4.1-mini"}
        )
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Any:
        for _ in range(20):
            yield ChatGenerationChunk(message=AIMessageChunk(content="word "))


def interleaved(
    variants: dict[str, Callable[[], Any]], *, calls: int, rounds: int
) -> dict[str, dict[str, float]]:
    """Time *calls* calls of each variant in turn, *rounds* times; microseconds per call."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    order = list(variants)
    shuffle = random.Random(0).shuffle
    for name in order:  # warm up
        for _ in range(calls // 4 + 1):
            variants[name]()
    gc.collect()
    gc.disable()
    for _ in range(rounds):
        shuffle(order)
        for name in order:
            call = variants[name]
            begin = time.perf_counter()
            for _ in range(calls):
                call()
            times[name].append((time.perf_counter() - begin) / calls * 1e6)
        gc.collect()
    gc.enable()
    return {
        name: {
            "median_us": statistics.median(spent),
            "min_us": min(spent),
            "max_us": max(spent),
        }
        for name, spent in times.items()
    }


def overheads(times: dict[str, dict[str, float]], base: str, rival: str) -> dict[str, Any]:
    """Add to each variant what it costs beyond *base*, and the ratio to the rival's cost."""
    nothing = times[base]["median_us"]
    cost = {name: row["median_us"] - nothing for name, row in times.items()}
    return {
        name: {**row, "overhead_us": cost[name], "ratio_to_rival": cost[name] / cost[rival]}
        for name, row in times.items()
    }


def handlers() -> dict[str, Any]:
    """The callbacks that are compared."""
    return {
        "no callback": None,
        "langchain-core UsageMetadataCallbackHandler": [UsageMetadataCallbackHandler()],
        "TokenUsageCallbackHandler": [TokenUsageCallbackHandler(max_records=1_000)],
    }


def model_calls(messages: Any, *, calls: int, rounds: int) -> dict[str, Any]:
    """One model call with each handler."""
    model = Instant()

    def call(callbacks: Any) -> Callable[[], Any]:
        config = {"callbacks": callbacks} if callbacks else None
        return lambda: model.invoke(messages, config)

    variants = {name: call(callbacks) for name, callbacks in handlers().items()}
    times = interleaved(variants, calls=calls, rounds=rounds)
    return overheads(times, "no callback", "langchain-core UsageMetadataCallbackHandler")


def ten_node_graph(*, calls: int, rounds: int) -> dict[str, Any]:
    """A chain of ten nodes that each call the model."""
    model = Instant()
    graph = StateGraph(MessagesState)
    names = [f"node{i}" for i in range(10)]
    for name in names:
        graph.add_node(name, lambda state: {"messages": [model.invoke(state["messages"][:1])]})
    for before, after in zip([START, *names], [*names, END], strict=True):
        graph.add_edge(before, after)
    app = graph.compile()
    state = {"messages": [HumanMessage("hi")]}

    def call(callbacks: Any) -> Callable[[], Any]:
        config = {"callbacks": callbacks} if callbacks else None
        return lambda: app.invoke(state, config)

    variants = {name: call(callbacks) for name, callbacks in handlers().items()}
    times = interleaved(variants, calls=calls, rounds=rounds)
    return overheads(times, "no callback", "langchain-core UsageMetadataCallbackHandler")


def seam(*, calls: int, rounds: int) -> dict[str, Any]:
    """A plain model beside one without stages, one with three that do nothing, and a budget."""
    phases = (Phase.TOOLS, Phase.CONTEXT, Phase.LIMIT)
    plain = Instant()
    staged = optimize(plain, *(PassThrough(phase) for phase in phases))
    unstaged = optimize(plain)
    plan = BudgetPlan(total_tokens=10**9)
    budgeted = optimize(plain, plan)
    fresh = (f"{number} {'word ' * 400}" for number in itertools.count())  # 2 kB, never the same
    inside = contextvars.copy_context()  # so that the plan pays for one variant only
    inside.run(plan.run().__enter__)
    times = interleaved(
        {
            "plain": lambda: plain.invoke("hi"),
            "no stage": lambda: unstaged.invoke("hi"),
            "three no-op stages": lambda: staged.invoke("hi"),
            "a plan, 2 kB": lambda: inside.run(budgeted.invoke, next(fresh)),
        },
        calls=calls,
        rounds=rounds,
    )
    nothing = times["plain"]["median_us"]
    return {name: {**row, "overhead_us": row["median_us"] - nothing} for name, row in times.items()}


def chunks_on_time() -> dict[str, Any]:
    """Chunks that a staged stream shows before the model has written the next: must be all."""
    written = 0

    class Counting(Instant):
        def _stream(self, *args: Any, **kwargs: Any) -> Any:
            nonlocal written
            for chunk in super()._stream(*args, **kwargs):
                written += 1
                yield chunk

    late = 0
    for shown, _ in enumerate(optimize(Counting(), PassThrough()).stream("hi"), start=1):
        late += written > min(shown, 20)
    return {"chunks": 20, "shown_late": late}


HOST = (
    "from langchain_core.language_models import BaseChatModel\n"
    "from langchain_core.callbacks import BaseCallbackHandler\n"
)
IMPORTS = {
    "langchain_core models and callbacks": HOST,
    "and langchain_tokenopt": f"{HOST}import langchain_tokenopt",
    "and its handler": f"{HOST}from langchain_tokenopt import TokenUsageCallbackHandler",
    "and optimize": f"{HOST}from langchain_tokenopt import optimize",
}


def imports(*, rounds: int) -> dict[str, Any]:
    """Wall time of a fresh interpreter, with compiled bytecode."""
    times: dict[str, list[float]] = {name: [] for name in IMPORTS}
    environment = {"PATH": "", "PYTHONDONTWRITEBYTECODE": ""}
    for _ in range(rounds + 1):
        for name, code in IMPORTS.items():
            begin = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True, env=environment)
            times[name].append((time.perf_counter() - begin) * 1e3)
    medians = {name: statistics.median(spent[1:]) for name, spent in times.items()}
    base = next(iter(medians.values()))
    return {name: {"median_ms": spent, "added_ms": spent - base} for name, spent in medians.items()}


def main() -> None:
    """Measure everything and write it down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    big = [HumanMessage("word " * 800) for _ in range(200)]
    figures = {
        "short_prompt": model_calls("hi", calls=200, rounds=rounds),
        "200_messages_of_4_kb": model_calls(big, calls=4, rounds=rounds),
        "ten_node_graph": ten_node_graph(calls=10, rounds=rounds),
        "seam": seam(calls=200, rounds=rounds),
        "chunks": chunks_on_time(),
        "imports": imports(rounds=max(5, rounds // 3)),
    }
    write_result("usage", "make bench-usage", figures)
    for title, rows in figures.items():
        print(f"\n{title}")
        for name, row in rows.items():
            numbers = (
                "  ".join(f"{k} {v:,.2f}" for k, v in row.items()) if isinstance(row, dict) else row
            )
            print(f"  {name:<46} {numbers}")


if __name__ == "__main__":
    main()
