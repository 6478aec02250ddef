"""The whole path: 200 conversations with an assistant that has forty tools, by each level.

Run:     python -m tests.benchmarks.agents_whole [--quick]       (part of make bench-agents)
Output:  results/agents_whole.json: of each way its bill, the tasks done right, and what each stage
         saved and spent. Exit code 1 where the savings do not add up to the difference of the
         bills, call by call: at levels that change no answer, to the token.

The model answers by script and depends on what it is shown (``whole_desk.py``). Two providers bill
it: one keeps the beginnings of prompts and charges them at half, the other keeps nothing. Beside
the levels, LangChain's own middleware: summaries, cleared tool results, tools chosen by a model.
Its helpers are as good as they can be: the choice of tools is always right, and a summary has every
question and every answer.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from langchain.agents import create_agent
from langchain.agents.middleware import (
    ClearToolUsesEdit,
    ContextEditingMiddleware,
    LLMToolSelectorMiddleware,
    SummarizationMiddleware,
)
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver

from langchain_tokenopt import CallRecord, Usage, optimize_agent, track_usage
from langchain_tokenopt.pricing.rate_card import default_rate_card
from langchain_tokenopt.tools import selector
from tests.benchmarks.results import write_result
from tests.benchmarks.whole_desk import (
    HANDBOOK,
    Bill,
    Conversation,
    ScriptedModel,
    conversations,
    office_tools,
)

PROVIDERS = {"keeps prompts": "gpt-4o-mini", "keeps nothing": "gpt-4-turbo"}
LEVELS = ("none", "balanced", "aggressive", "maximum")
RIVALS = "LangChain's middleware"
WAYS = ("raw", *LEVELS, RIVALS)
EXACT = ("none", "balanced", "aggressive")
"""Levels at which every answer is that of the model that was shown everything."""


class Helped(ScriptedModel):
    """The same model where middleware asks it for a summary, or which tools are needed."""

    def helps(self, messages: list[BaseMessage], tools: list[Any]) -> AIMessage | None:
        """Answer middleware."""
        if [tool["function"]["name"] for tool in tools] == ["ToolSelectionResponse"]:
            keys = re.findall(r"\((Q\d+-\d+|H\d+)\)", messages[-1].text)
            wanted = [name for name, _ in self.tasks[keys[-1]].calls] or ["find_mail"]
            call = {"name": "ToolSelectionResponse", "args": {"tools": wanted}, "id": "t"}
            return AIMessage("", tool_calls=[call])
        if len(messages) == 1 and "extract" in messages[0].text.lower():
            asked = re.findall(r"\((?:Q\d+-\d+|H\d+)\)[^\n]*", messages[0].text)
            told = re.findall(r"The [\w ]+ of [\w -]+ is [\w-]+\.", messages[0].text)
            return AIMessage("\n".join(dict.fromkeys([*asked, *told]))[:6_000])
        return None


def agent_for(way: str, model: ScriptedModel) -> Any:
    """Return the assistant, by one of the ways."""
    middleware: list[Any] = []
    if way == RIVALS:
        middleware = [
            SummarizationMiddleware(model, trigger=("tokens", 6_000), keep=("messages", 12)),
            ContextEditingMiddleware(edits=[ClearToolUsesEdit(trigger=4_000, keep=3)]),
            LLMToolSelectorMiddleware(model=model, max_tools=8),
        ]
    agent = create_agent(
        model,
        office_tools(),
        system_prompt=HANDBOOK,
        middleware=middleware,
        checkpointer=InMemorySaver(),
    )
    if way not in LEVELS:
        return agent
    cache = None if way == "none" else True
    return optimize_agent(agent, level=way, cache=cache)  # type: ignore[arg-type]


def played(way: str, name: str, talks: list[Conversation]) -> tuple[Bill, int, list[CallRecord]]:
    """Play all conversations; return the bill, the tasks done right, and the records."""
    selector._local = lambda: None  # type: ignore[assignment]  # words alone: the same everywhere
    bill, right = Bill(), 0
    tasks = {task.key: task for talk in talks for task in talk.tasks}
    agent = agent_for(way, Helped(tasks=tasks, bill=bill, model_name=name))
    with track_usage() as usage:
        for talk in talks:
            config = {
                "configurable": {"thread_id": talk.name},
                "metadata": {"user_id": talk.user},
            }
            for task in talk.tasks:
                asked = {"messages": [HumanMessage(task.says)]}
                right += task.answer in agent.invoke(asked, config)["messages"][-1].text
    return bill, right, list(usage.records)


def measured(way: str, provider: str, number: int) -> dict[str, Any]:
    """Return what one way costs and does, and of a level what each stage saved and spent."""
    began, talks, name = time.monotonic(), conversations(number), PROVIDERS[provider]
    bill, right, records = played(way, name, talks)
    stages: dict[str, dict[str, int]] = {}
    for record in records:
        for saving in record.savings:
            of = stages.setdefault(saving.stage, {"saved": 0, "spent": 0})
            of["saved"] += saving.tokens_before - saving.tokens_after
            of["spent"] += saving.spent_tokens
        if record.cached:
            of = stages.setdefault("SemanticCache", {"saved": 0, "spent": 0})
            of["saved"] += record.usage.total_tokens
    rates = default_rate_card().rates(name, "openai")
    assert rates is not None
    known = bill.known if provider == "keeps prompts" else 0
    usage = Usage(bill.read, bill.wrote, cache_read_tokens=known)
    return {
        "way": way,
        "provider": provider,
        "model": name,
        "right": right,
        "tasks": sum(len(talk.tasks) for talk in talks),
        "calls": bill.calls,
        "read": bill.read,
        "known": known,
        "wrote": bill.wrote,
        "nano_usd": rates.cost(usage),
        "list_nano_usd": rates.cost(Usage(bill.read, bill.wrote)),
        "input_nano_usd_per_million": rates.cost(Usage(1_000_000, 0)),
        "stages": stages,
        "implied": [_implied(record) for record in records],
        "seconds": round(time.monotonic() - began, 1),
    }


def _implied(record: CallRecord) -> int:
    """Return what a call would have used without any stage, by what the stages say."""
    saved = sum(saving.saved_tokens for saving in record.savings)
    return record.usage.total_tokens + saved


def judged(found: list[dict[str, Any]]) -> list[str]:
    """Compare each level's savings with the difference of the bills, call by call."""
    flaws = []
    for one in found:
        if one["way"] not in LEVELS:
            continue
        raw = next(r for r in found if r["way"] == "raw" and r["provider"] == one["provider"])
        saved = sum(of["saved"] - of["spent"] for of in one["stages"].values())
        one["difference"] = raw["read"] + raw["wrote"] - one["read"] - one["wrote"]
        one["by_stages"] = saved
        pairs = zip(raw["implied"], one["implied"], strict=True)
        one["calls_off"] = sum(a != b for a, b in pairs)
        if one["way"] in EXACT and (one["difference"] != saved or one["calls_off"]):
            flaws.append(f"{one['provider']}, {one['way']}: {saved} of {one['difference']}")
    return flaws


def main() -> int:
    """Play all ways for both providers."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="6 conversations; nothing is written")
    given = parser.parse_args()
    number = 6 if given.quick else 200
    jobs = [(way, provider, number) for way in reversed(WAYS) for provider in PROVIDERS]
    with ProcessPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        found = list(pool.map(measured, *zip(*jobs, strict=True)))
    flaws = judged(found)
    for one in found:
        print(
            f"{one['provider']:14} {one['way']:24} {one['read'] + one['wrote']:>11,} tokens "
            f"${one['nano_usd'] / 1e9:.3f} {one['right']}/{one['tasks']} "
            f"off {one.get('calls_off', '-')} {one['seconds']} s"
        )
        one.pop("implied")
    for flaw in flaws:
        print(f"the sums differ: {flaw}", file=sys.stderr)
    if not given.quick:
        figures = {"conversations": number, "seed": 18, "ways": found}
        command = "make bench-agents (agents_whole)"
        write_result("agents_whole", command, figures, "langchain")
    return 1 if flaws else 0


if __name__ == "__main__":
    sys.exit(main())
