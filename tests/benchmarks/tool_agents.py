"""Agents for ``bench_tools``: never stuck, what a loop costs beside others, many users at once."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from langchain.agents import create_agent
from langchain.agents.middleware import LLMToolSelectorMiddleware
from langchain_core.embeddings import Embeddings
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

from langchain_tokenopt import ToolSelector, ToolSet, counter_for, optimize, token_scope
from langchain_tokenopt.tools.token_scope import TokenScope
from tests.benchmarks.tool_data import Field, key_of, name_of
from tests.benchmarks.tool_loop import (
    ASKS,
    DONE,
    Cost,
    Errand,
    base_tool,
    cost_of,
    model_for,
    summed,
)
from tests.judge.tools_model import Call, ScriptedToolModel, call

__all__ = ["errands_of", "many_users", "never_stuck", "with_bigtool", "with_middleware"]

COUNTER = counter_for("cl100k_base")


def tokens(text: str) -> int:
    """Tokens of a text in ``cl100k_base``."""
    return int(COUNTER.count(text).tokens)


def as_base_tools(tools: Sequence[dict[str, Any]]) -> list[Any]:
    """OpenAI functions as LangChain tools that answer."""
    return [
        base_tool(f["name"], f["description"], f["parameters"])
        for f in (tool["function"] for tool in tools)
    ]


# Never stuck


def never_stuck(field: Field, embed: Embeddings, runs: int, seed: int = 0) -> dict[str, Any]:
    """Agents whose tool was left out on purpose: the user speaks of something else first.

    Each run asks a question to which the selector does not show the needed tool, and then needs it,
    asking for it in the words of real users, up to ten different ones. Odd runs are asynchronous;
    one in ten does not ask but calls the tool that it was not shown.
    """
    rng = random.Random(seed)
    names = {key_of(tool): name_of(tool) for tool in field.tools}
    selector = ToolSelector(embeddings=embed, learn=False)
    errands, seen = [], set()
    while len(errands) < runs:
        key, other = rng.sample(sorted(field.uses), 2)
        question = rng.choice(field.uses[other])
        shown = {one.card.name for one in selector.select(question, field.tools)}
        if question in seen or names[key] in shown or not field.uses[key]:
            question = f"{question} (request {len(errands)})"
            shown = {one.card.name for one in selector.select(question, field.tools)}
            if question in seen or names[key] in shown or not field.uses[key]:
                continue
        seen.add(question)
        errands.append(Errand(question, (names[key],), {names[key]: field.uses[key]}))
    direct = {errand.question for errand in errands[::10]}
    model = model_for(errands)
    asks = model.script[0]
    model.script = [lambda asked: _direct(asked, errands_by, direct) or asks(asked)]
    errands_by = {errand.question: errand for errand in errands}
    agent = create_agent(optimize(model, selector), as_base_tools(field.tools))
    finished, asked_for_more, leaked = 0, [], 0
    for number, errand in enumerate(errands):
        model.calls.clear()
        given = {"messages": [HumanMessage(errand.question)]}
        end = asyncio.run(agent.ainvoke(given)) if number % 2 else agent.invoke(given)
        messages = end["messages"]
        finished += messages[-1].content == DONE
        leaked += any(made["name"] in ASKS for made in _calls(messages))
        searched = {made["id"] for each in model.calls for made in _calls(each.messages)}
        asked_for_more.append(len(searched - {made["id"] for made in _calls(messages)}))
    return {
        "runs": runs,
        "finished": finished,
        "searches_the_application_saw": leaked,
        "searches": sum(asked_for_more),
        "runs_that_called_without_asking": len(direct),
    }


def _direct(asked: Call, errands: dict[str, Errand], direct: set[str]) -> AIMessage | None:
    question = str(asked.messages[0].content)
    if question in direct and not any(isinstance(m, ToolMessage) for m in asked.messages):
        return call(errands[question].needed[0], id=f"call{len(asked.messages)}")
    return None


def _calls(messages: Sequence[Any]) -> list[Any]:
    return [made for m in messages if isinstance(m, AIMessage) for made in m.tool_calls]


# What a loop costs


def errands_of(field: Field, n: int, pool: int, seed: int = 0) -> tuple[list[Any], list[Errand]]:
    """*n* queries that need several functions, in a pool of *pool* functions with unique names."""
    rng = random.Random(seed)
    by_key = {key_of(tool): tool for tool in field.tools}
    chosen: dict[str, dict[str, Any]] = {}
    errands = []
    for asked in rng.sample([q for q in field.queries if len(q.gold) > 1], n):
        own = [by_key[key] for key in asked.gold]
        for tool in own:
            chosen.setdefault(name_of(tool), tool)
        words = {
            name_of(t): [asked.text, _spoken(name_of(t)), t["function"]["description"]] for t in own
        }
        errands.append(Errand(asked.text, tuple(words), words))
    for tool in rng.sample(field.tools, len(field.tools)):
        if len(chosen) < pool:
            chosen.setdefault(name_of(tool), tool)
    return [chosen[name] for name in sorted(chosen)], errands


def _spoken(name: str) -> str:
    return name.replace("_", " ").replace(".", " ")


def with_selector(
    tools: Sequence[dict[str, Any]], errands: Sequence[Errand], *stages: Any
) -> dict[str, Any]:
    """The errands with our stages; without any, all tools are sent."""
    model = model_for(errands)
    agent = create_agent(optimize(model, *stages), as_base_tools(tools))
    return summed([_errand(agent, model, errand) for errand in errands])


def with_middleware(
    tools: Sequence[dict[str, Any]], errands: Sequence[Errand], varied: bool, seed: int = 0
) -> dict[str, Any]:
    """The errands with LLMToolSelectorMiddleware, whose model knows what is needed.

    It names the needed tools and three more: the same ones each time, or others (*varied*), as a
    model does that is asked again. The middleware asks it before every call.
    """
    rng = random.Random(seed)
    names = [name_of(tool) for tool in tools]
    by_question = {errand.question: errand for errand in errands}

    def choice(asked: Call) -> AIMessage:
        question = str(asked.messages[-1].content)
        draw = rng if varied else random.Random(question)
        more = [name for name in draw.sample(names, 6) if name not in by_question[question].needed]
        chosen = [*by_question[question].needed, *more[:3]]
        return call("ToolSelectionResponse", tools=chosen)

    chooser, model = ScriptedToolModel(script=[choice]), model_for(errands)
    agent = create_agent(
        model, as_base_tools(tools), middleware=[LLMToolSelectorMiddleware(model=chooser)]
    )
    costs = []
    for errand in errands:
        chooser.calls.clear()
        cost = _errand(agent, model, errand)
        sent = [
            json.dumps(each.tools) + "".join(str(m.content) for m in each.messages)
            for each in chooser.calls
        ]
        costs.append(
            replace(cost, other_calls=len(sent), other_tokens=sum(tokens(text) for text in sent))
        )
    return summed(costs)


def _errand(agent: Any, model: ScriptedToolModel, errand: Errand) -> Cost:
    model.calls.clear()
    end = agent.invoke({"messages": [HumanMessage(errand.question)]}, {"recursion_limit": 60})
    return cost_of(end["messages"], model.calls, tokens)


def with_bigtool(
    python: str,
    tools: Sequence[dict[str, Any]],
    errands: Sequence[Errand],
    queries: Sequence[str],
    embed: Embeddings,
) -> dict[str, Any]:
    """The errands with langgraph-bigtool in its own environment, by the same vectors."""
    functions = [tool["function"] for tool in tools]
    made = [
        {"name": f["name"], "text": f["description"], "parameters": f["parameters"]}
        for f in functions
    ]
    texts = [f"{f['name']}: {f['text']}" for f in made] + list(queries)
    texts += [text for errand in errands for words in errand.words.values() for text in words]
    vectors = dict(zip(texts, embed.embed_documents(texts), strict=True))
    given = {
        "tools": made,
        "errands": [errand.as_json() for errand in errands],
        "queries": list(queries),
        "vectors": vectors,
    }
    run = subprocess.run(
        [python, "-W", "ignore", "-m", "tests.benchmarks.rivals_tools"],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        raise RuntimeError(f"langgraph-bigtool failed:\n{run.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(run.stdout)
    costs = []
    for cost in result["costs"]:
        lists = cost.pop("tools")
        costs.append(replace(Cost(**cost), tool_tokens=sum(tokens(t) for ts in lists for t in ts)))
    return {**summed(costs), "version": result["version"], "found": result["found"]}


# Many users


def _desk(number: int) -> type:
    class Desk:
        def __init__(self, scope: TokenScope) -> None:
            self.user, self.notes = scope.user, []

        def __call__(self, note: str) -> str:
            self.notes.append(note)
            return f"{self.user}: {'; '.join(self.notes)}"

    Desk.__name__ = Desk.__qualname__ = f"desk_{number}"
    Desk.__doc__ = f"Keep a note at desk {number}."
    return Desk


def many_users(users: int = 300, desks: int = 24, calls: int = 3) -> dict[str, Any]:
    """Users at once, first in threads and then as tasks, with tools of their own by one ToolSet.

    A run is mixed up if a tool answers for somebody else, knows a note that its user did not give,
    is one that another user was given, or if a report counts other calls than its user made.
    """
    makers = [_desk(number) for number in range(desks)]
    tools, selector = ToolSet(*makers), ToolSelector(max_tools=6, embeddings=False)

    def step(asked: Call) -> AIMessage:
        question = str(asked.messages[0].content)
        done = sum(isinstance(m, ToolMessage) for m in asked.messages)
        if done == calls:
            return AIMessage(DONE)
        return call(f"desk_{(int(question.split()[-1]) + done) % desks}", f"c{done}", note=question)

    model = optimize(ScriptedToolModel(script=[step]), selector)

    def made(user: int) -> tuple[Any, Any, dict[str, Any]]:
        with token_scope(user=f"user {user}") as scope:
            own = tools.for_user(scope)
        named = ", ".join(f"desk {(user + n) % desks}" for n in range(calls))
        said = HumanMessage(f"keep a note at {named} for user {user}")
        return own, create_agent(model, list(own)), {"messages": [said]}

    def wrong(user: int, own: Any, end: dict[str, Any]) -> bool:
        said = [str(m.content) for m in end["messages"] if isinstance(m, ToolMessage)]
        mine = str(end["messages"][0].content)
        counted = sum(each.calls for each in own.report().values())
        expected = [f"user {user}: {mine}"] * calls
        return said != expected or counted != calls or end["messages"][-1].content != DONE

    def in_thread(user: int) -> bool:
        own, agent, given = made(user)
        return wrong(user, own, agent.invoke(given))

    async def as_task(user: int) -> bool:
        own, agent, given = made(user)
        return wrong(user, own, await agent.ainvoke(given))

    async def together() -> list[bool]:
        return await asyncio.gather(*(as_task(user) for user in range(users)))

    with ThreadPoolExecutor(32) as pool:
        threads = list(pool.map(in_thread, range(users)))
    return {
        "users": users,
        "mixed_up_in_threads": sum(threads),
        "mixed_up_as_tasks": sum(asyncio.run(together())),
    }
