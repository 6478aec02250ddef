"""Tools: is the needed one among the few that are shown, what is saved, what does it cost.

Run:     make bench-tools DATA=folder
         (python -m tests.benchmarks.bench_tools --data DIR [--rivals PYTHON] [--queries N])
Data:    MetaTool (199 plug-ins) and BFCL v4 (functions of three files); see the folder's README.
Rule:    nothing was fitted on ``judged`` queries (tool_data.py); ``whole`` holds both halves. All
         ways get the same tools, queries and MiniLM vectors. Shares have Wilson's 95 % interval.
         BFCL has functions of equal names whose schemas hardly differ: ``same_name`` counts any of
         that name.
Cold:    what ``ToolSelector.explain`` puts first, beside plain BM25 (without endings), plain MiniLM
         and their reciprocal rank fusion.
Used:    the same queries after 1, 3 and 10 real calls of each tool went through ``optimize``; none
         of their queries is scored. Rival: 0.3 x description + 0.7 x mean of the same queries.
Saved:   the selector's own choice, no number given: schema tokens (cl100k_base) left out, and the
         queries whose function was not shown. More is not lost: the model may search.
Loops:   agents with 200 tools that need two to four of them; the scripted model calls what it sees,
         else asks in up to three wordings. LLMToolSelectorMiddleware's model knows what is needed.
Times:   warm, distinct queries, wall time and CPU time of the thread; the first call, too.
Output:  results/tools.json; ``--only PART ...`` keeps the figures of the other parts
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from langchain_tokenopt import LocalEmbeddings, ToolSelector
from tests.benchmarks import tool_agents, tool_ways
from tests.benchmarks.results import RESULTS, write_result
from tests.benchmarks.tool_agents import tokens
from tests.benchmarks.tool_data import Asked, Field, bfcl, function, key_of, metatool, name_of
from tests.benchmarks.tool_ways import Remembered, plain_ways, recall, selector_way, share, spread
from tests.judge.tools_cases import same_json

COMMAND = "make bench-tools DATA=folder"
USES = (1, 3, 10)
Show = Callable[..., None]


def cold(field: Field, embed: Remembered) -> dict[str, Any]:
    """Recall of every way on the judged half and the whole."""
    embed.embed_documents([asked.text for asked in field.queries])
    names = {key_of(tool): name_of(tool) for tool in field.tools}
    ways = {
        **plain_ways(field.tools, embed),
        "ToolSelector": selector_way(ToolSelector(embeddings=embed, learn=False), field.tools),
        "ToolSelector without embeddings": selector_way(
            ToolSelector(embeddings=False, learn=False), field.tools
        ),
    }
    return {
        title: {half: recall(way, asked, names) for half, asked in field.halved().items()}
        for title, way in ways.items()
    }


def used(field: Field, embed: Remembered) -> dict[str, Any]:
    """Recall after real uses, ours and by learned vectors."""
    embed.embed_documents([text for past in field.uses.values() for text in past])
    names = {key_of(tool): name_of(tool) for tool in field.tools}
    selector, found, have = ToolSelector(embeddings=embed), {}, 0
    for uses in USES:
        tool_ways.taught(selector, field, uses, have)
        have = uses
        ways = {
            "ToolSelector": selector_way(selector, field.tools),
            "0.3 description + 0.7 mean of queries": tool_ways.learned_vectors(field, embed, uses),
        }
        found[str(uses)] = {
            title: {half: recall(way, asked, names) for half, asked in field.halved().items()}
            for title, way in ways.items()
        }
    return found


def saved(field: Field, embed: Remembered) -> dict[str, Any]:
    """Schema tokens left out by the selector's own choice, and what it lost."""
    sizes = {key_of(tool): tokens(same_json(tool)) for tool in field.tools}
    names = {key_of(tool): name_of(tool) for tool in field.tools}
    by_name = {name_of(tool): sizes[key_of(tool)] for tool in field.tools}
    found = {}
    for title, embeddings in (("ToolSelector", embed), ("without embeddings", False)):
        selector = ToolSelector(embeddings=embeddings, learn=False)
        found[title] = {
            half: _saved(selector, field.tools, asked, names, by_name)
            for half, asked in field.halved().items()
        }
    return {**found, "pool": len(field.tools), "pool_tokens": sum(sizes.values())}


def _saved(
    selector: Any,
    tools: Sequence[dict[str, Any]],
    queries: Sequence[Asked],
    names: dict[str, str],
    sizes: dict[str, int],
) -> dict[str, Any]:
    total, shown_tokens, lost, shown = sum(sizes.values()), [], [], []
    for asked in queries:
        chosen = {each.card.name for each in selector.select(asked.text, tools)}
        shown.append(len(chosen))
        shown_tokens.append(sum(sizes[name] for name in chosen))
        lost.append(not {names[key] for key in asked.gold} <= chosen)
    return {
        "tokens_saved": round(1 - sum(shown_tokens) / (len(queries) * total), 4),
        "lost": share(lost),
        "shown": spread(shown, 1),
        "tokens_shown": spread(shown_tokens, 0),
    }


def times(fields: Sequence[Field], n: int = 2_000, asked: int = 200) -> dict[str, Any]:
    """Milliseconds of ``select`` among *n* tools, without and with embedding the query."""
    tools = [tool["function"] for field in fields for tool in field.tools]
    unique = {each["name"]: function(**_versioned(each, 1)) for each in tools}
    for version, each in ((v, tool) for v in itertools.count(2) for tool in tools):
        if len(unique) >= n:
            break
        made = _versioned(each, version)
        unique.setdefault(made["name"], function(**made))
    chosen = list(unique.values())[:n]
    rng = random.Random(0)
    queries = rng.sample(sorted({q.text for field in fields for q in field.queries}), asked)
    local = LocalEmbeddings()
    found: dict[str, Any] = {"tools": len(chosen), "embedding": _times(local.embed_query, queries)}
    for title, embeddings in (("without embeddings", False), ("with embeddings", local)):
        selector = ToolSelector(embeddings=embeddings, learn=False)
        began = time.perf_counter()
        selector.select("Which tool is the first one?", chosen)
        first = time.perf_counter() - began
        found[title] = {
            **_times(lambda query, s=selector: s.select(query, chosen), queries),
            "first_call_seconds": round(first, 2),
        }
    return found


def _versioned(tool: dict[str, Any], version: int) -> dict[str, Any]:
    name, text = tool["name"], tool["description"]
    if version > 1:
        name, text = f"{name}_v{version}", f"{text} Version {version}."
    return {"name": name, "text": text, "parameters": tool["parameters"]}


def _times(work: Callable[[str], Any], queries: Sequence[str]) -> dict[str, Any]:
    wall, cpu = [], []
    gc.collect()
    for query in queries:
        began, worked = time.perf_counter(), time.thread_time()
        work(query)
        cpu.append(1e3 * (time.thread_time() - worked))
        wall.append(1e3 * (time.perf_counter() - began))
    return {"wall_ms": spread(wall), "cpu_ms": spread(cpu)}


def loops(field: Field, embed: Remembered, rivals: str | None, errands: int) -> dict[str, Any]:
    """What agents spend with each way to show tools."""
    tools, wanted = tool_agents.errands_of(field, errands, 200)
    chosen = ToolSelector(embeddings=embed, learn=False)
    found = {
        "all tools": tool_agents.with_selector(tools, wanted),
        "ToolSelector": tool_agents.with_selector(tools, wanted, chosen),
        "LLMToolSelectorMiddleware, the same answer each time": tool_agents.with_middleware(
            tools, wanted, varied=False
        ),
        "LLMToolSelectorMiddleware, answers vary": tool_agents.with_middleware(
            tools, wanted, varied=True
        ),
    }
    if rivals:
        found["langgraph-bigtool"] = tool_agents.with_bigtool(rivals, tools, wanted, [], embed)
    return found


def bigtool_recall(field: Field, embed: Remembered, rivals: str) -> dict[str, Any]:
    """What the store of langgraph-bigtool finds."""
    texts = [asked.text for asked in field.queries]
    found = tool_agents.with_bigtool(rivals, field.tools, [], texts, embed)["found"]
    keys = {name_of(tool): key_of(tool) for tool in field.tools}
    names = {key: name for name, key in keys.items()}
    return {
        half: recall(lambda query: [keys[name] for name in found[query]], asked, names)
        for half, asked in field.halved().items()
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the parts, write the result file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rivals", help="a Python with requirements-rivals-tools.txt")
    parser.add_argument("--queries", type=int, default=1_000, help="of MetaTool that are scored")
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--errands", type=int, default=60)
    parser.add_argument("--users", type=int, default=300)
    parser.add_argument("--only", nargs="+", default=[], metavar="PART")
    options = parser.parse_args(arguments)
    embed = Remembered()
    plugins = metatool(options.data, options.queries)
    one, several = bfcl(options.data)
    parts: dict[str, Callable[[], Any]] = {
        "times": lambda: times([one, plugins]),
        "bfcl": lambda: cold(one, embed),
        "bfcl_several": lambda: cold(several, embed),
        "bfcl_saved": lambda: saved(one, embed),
        "metatool": lambda: cold(plugins, embed),
        "metatool_used": lambda: used(plugins, embed),
        "many_users": lambda: tool_agents.many_users(options.users),
        "loops": lambda: loops(several, embed, options.rivals, options.errands),
        "never_stuck": lambda: tool_agents.never_stuck(plugins, embed, options.runs),
    }
    if options.rivals:
        parts["bigtool_metatool"] = lambda: bigtool_recall(plugins, embed, options.rivals)
    for name, part in parts.items():
        if options.only and name not in options.only:
            continue
        began = time.perf_counter()
        found = {"seconds": 0.0, **part()}
        found["seconds"] = round(time.perf_counter() - began)
        print(write_result("tools", COMMAND, {**_known(), name: found}, "langchain", "torch"), name)


def _known() -> dict[str, Any]:
    path = RESULTS / "tools.json"
    return json.loads(path.read_text(encoding="utf-8"))["figures"] if path.is_file() else {}


if __name__ == "__main__":
    main()
