"""What all our middleware adds to each call of an agent's model where it has nothing to do.

Run:     python -m tests.benchmarks.agents_overhead [--quick]
Agent:   eight tools, a system prompt, and a model that takes no time: it calls a tool nine times,
         then answers in 40 words, each time in other ones. It can stream, as those of providers do.
Time:    the clock's, and the CPU time of the whole process, which a busy machine inflates less.
Pairs:   the same agent bare and with one of each middleware, whose limits are out of reach, in
         turn, now this first, now that; the difference of the two, by the number of calls.
Parts:   each middleware alone, so that one can see what takes the time.
Output:  results/agents_overhead.json
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import statistics
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.tools import StructuredTool

from langchain_tokenopt import (
    BudgetPlan,
    ContextMiddleware,
    ModelRoutingMiddleware,
    PromptCompressionMiddleware,
    SemanticCacheMiddleware,
    TokenBudgetMiddleware,
    ToolSelectionMiddleware,
    WordLimitMiddleware,
)
from tests.benchmarks.results import RESULTS, write_result

COMMAND = "python -m tests.benchmarks.agents_overhead"
CALLS = 10
WORDS = "The harbour council approved the northern breakwater and asked for a second estimate. "
SYSTEM = "You work for the harbour office. Look up what you need, then answer. " * 6
TOOLS = ("cranes", "tides", "ships", "pilots", "permits", "weather", "invoices", "crews")
_RUNS = itertools.count()

KINDS: dict[str, Callable[[Any], Any]] = {
    "ModelRoutingMiddleware": lambda model: ModelRoutingMiddleware(
        {"another": model.model_copy(), "own": model}, policy=1.0
    ),
    "TokenBudgetMiddleware": lambda _: TokenBudgetMiddleware(BudgetPlan(total_tokens=10**12)),
    "SemanticCacheMiddleware": lambda _: SemanticCacheMiddleware(semantic=False),
    "ToolSelectionMiddleware": lambda _: ToolSelectionMiddleware(max_tools=20, embeddings=False),
    "ContextMiddleware": lambda _: ContextMiddleware(max_tokens=1_000_000),
    "PromptCompressionMiddleware": lambda _: PromptCompressionMiddleware(max_tokens=1_000_000),
    "WordLimitMiddleware": lambda _: WordLimitMiddleware(100_000, ask=False),
}


class Instant(BaseChatModel):
    """Calls a tool until it has called nine, then answers; takes no time."""

    model_name: str = "gpt-4o-mini"

    @property
    def _llm_type(self) -> str:
        return "instant"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        formatted = [{"type": "function", "function": {"name": t.name}} for t in tools]
        return self.bind(tools=formatted, **kwargs)

    def _answer(self, messages: list[Any]) -> AIMessage:
        asked = sum(isinstance(message, AIMessage) for message in messages)
        usage: Any = {"input_tokens": 100 * asked, "output_tokens": 20}
        usage["total_tokens"] = sum(usage.values())
        if asked < CALLS - 1:
            args = {"question": f"number {asked} of {messages[-1].text[:20]}"}
            call: Any = {"name": TOOLS[asked % 8], "args": args, "id": f"c{asked}"}
            return AIMessage("", tool_calls=[call], usage_metadata=usage)
        return AIMessage(WORDS * 3, usage_metadata=usage)

    def _generate(
        self, messages: list[Any], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self._answer(messages))])

    async def _agenerate(
        self, messages: list[Any], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        return self._generate(messages)

    def _stream(
        self, messages: list[Any], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        answer = self._answer(messages)
        for word in answer.text.split(" "):
            yield ChatGenerationChunk(message=AIMessageChunk(f"{word} "))
        last = AIMessageChunk(
            "",
            tool_calls=answer.tool_calls,
            usage_metadata=answer.usage_metadata,
            chunk_position="last",
        )
        yield ChatGenerationChunk(message=last)

    async def _astream(
        self, messages: list[Any], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        for chunk in self._stream(messages):
            yield chunk


def look_up(question: str) -> str:
    """Look something up in the books of the harbour office."""
    return f"Of {question}: {next(_RUNS)} were counted, and nothing is known of the others."


def agent_of(kinds: list[str]) -> Any:
    """Return an agent; all that it shares with another is the machine."""
    model = Instant()
    middleware = [KINDS[kind](model) for kind in kinds]
    tools = [StructuredTool.from_function(look_up, name=name) for name in TOOLS]
    return create_agent(model, tools, system_prompt=SYSTEM, middleware=middleware)


def asked() -> Any:
    """Return a question that nobody has asked."""
    return {"messages": [HumanMessage(f"How do ships {next(_RUNS)} come in at low tide?")]}


def paired(kinds: list[str], pairs: int, *, is_async: bool) -> dict[str, Any]:
    """Return the milliseconds that these *kinds* add to a call: medians and quartiles."""
    agents = [agent_of([]), agent_of(kinds)]
    taken: list[dict[int, tuple[float, float]]] = []
    with asyncio.Runner() as loop:

        def seconds(agent: Any) -> tuple[float, float]:
            question = asked()
            began, cpu = time.perf_counter(), time.process_time()
            result = loop.run(agent.ainvoke(question)) if is_async else agent.invoke(question)
            took = time.perf_counter() - began, time.process_time() - cpu
            assert len(result["messages"]) == 2 * CALLS
            return took

        for number in range(-3, pairs):
            order = [0, 1] if number % 2 else [1, 0]
            took = {place: seconds(agents[place]) for place in order}
            if number >= 0:  # the first warm up
                taken.append(took)
    figures: dict[str, Any] = {"pairs": pairs}
    for at, clock in enumerate(("wall", "cpu")):
        added = [1_000 * (each[1][at] - each[0][at]) / CALLS for each in taken]
        bare = [1_000 * each[0][at] / CALLS for each in taken]
        low, median, high = statistics.quantiles(added, n=4)
        figures[clock] = {
            "added_ms": round(median, 3),
            "low_ms": round(low, 3),
            "high_ms": round(high, 3),
            "bare_ms": round(statistics.median(bare), 3),
        }
    return figures


def measured(pairs: int) -> dict[str, Any]:
    """Return the figures of all of them together, and of each alone."""
    figures: dict[str, Any] = {"calls": CALLS, "middleware": list(KINDS)}
    for how, is_async in (("sync", False), ("async", True)):
        figures[how] = {
            "together": paired([*KINDS], pairs, is_async=is_async),
            **{name: paired([name], pairs // 4, is_async=is_async) for name in KINDS},
        }
    return figures


def table(figures: dict[str, Any]) -> str:
    """Write the CPU time as Markdown: the clock's is that of everybody on the machine."""
    lines = ["| added to a call of the model, ms of CPU | sync | async |", "|---|--:|--:|"]
    titles = {"together": "all seven together", **{name: f"`{name}` alone" for name in KINDS}}
    for name, title in titles.items():
        found = [figures[how][name]["cpu"] for how in ("sync", "async")]
        cells = [f"{f['added_ms']:.2f} ({f['low_ms']:.2f} to {f['high_ms']:.2f})" for f in found]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    bare = [f"{figures[how]['together']['cpu']['bare_ms']:.2f}" for how in ("sync", "async")]
    lines.append(f"| for comparison: a call of the bare agent, all in all | {' | '.join(bare)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    figures = measured(20 if quick else 100)
    for how in ("sync", "async"):
        for name, found in figures[how].items():
            print(how, name, {clock: found[clock] for clock in ("wall", "cpu")})
    if not quick:
        write_result("agents_overhead", COMMAND, figures, "langchain")
        (RESULTS / "agents_overhead.md").write_text(table(figures), encoding="utf-8")


if __name__ == "__main__":
    main()
