"""Whose call it is: usage, budgets and caches read it alike, through every host, sync and async."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.globals import set_llm_cache
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableLambda

from langchain_tokenopt import (
    BudgetPlan,
    ContextCompressor,
    SemanticCache,
    SemanticCacheMiddleware,
    expand_tool,
    optimize,
    optimize_agent,
    token_scope,
    track_usage,
)
from tests.support.fakes import fake_chat

pytestmark = pytest.mark.filterwarnings("ignore:the limits of the plan")

Ask = Callable[[dict[str, Any]], str]
QUESTION = "What is my PIN?"
PLAN = BudgetPlan(
    total_tokens=10**6, within=[{"total_tokens": 10**6, "per": "user", "window": "day"}]
)


def of(agent: Any, *, asynchronous: bool) -> Ask:
    """Return how an agent is asked."""
    state = {"messages": [("user", QUESTION)]}
    if asynchronous:
        return lambda config: asyncio.run(agent.ainvoke(state, config))["messages"][-1].text
    return lambda config: agent.invoke(state, config)["messages"][-1].text


@contextmanager
def host(name: str, cache: SemanticCache, answers: list[str]) -> Iterator[Ask]:
    """Ask a model that answers each call otherwise, with *cache* in one of its places."""
    model, asynchronous = fake_chat(answers=answers), name.startswith("async")
    if name.endswith("middleware"):
        agent = create_agent(model, middleware=[SemanticCacheMiddleware(semantic=False)])
        yield of(agent, asynchronous=asynchronous)
    elif name.endswith("whole"):
        yield of(optimize_agent(create_agent(model), cache=cache), asynchronous=asynchronous)
    elif name.endswith("stream"):
        cached = optimize(model, cache)

        async def read(config: dict[str, Any]) -> str:
            return "".join([chunk.text async for chunk in cached.astream(QUESTION, config)])

        yield (
            lambda config: (
                asyncio.run(read(config))
                if asynchronous
                else "".join(chunk.text for chunk in cached.stream(QUESTION, config))
            )
        )
    else:
        chain = RunnableLambda(lambda text: text) | model
        set_llm_cache(cache)
        try:
            yield (
                lambda config: (
                    (
                        asyncio.run(chain.ainvoke(QUESTION, config))
                        if asynchronous
                        else chain.invoke(QUESTION, config)
                    ).text
                )
            )
        finally:
            set_llm_cache(None)


HOSTS = [
    f"{kind} {place}"
    for kind in ("sync", "async")
    for place in ("middleware", "whole", "stream", "global cache")
]
Block = AbstractContextManager[Any]
BLOCKS: dict[str, Callable[[str], Block]] = {
    "token_scope": lambda user: token_scope(user=user),
    "track_usage": lambda user: track_usage(user=user),
    "the innermost": lambda user: _both(token_scope(user="everybody"), track_usage(user=user)),
    "around one that names nobody": lambda user: _both(token_scope(user=user), track_usage()),
    "plan.run": lambda user: PLAN.run(user=user),
    "an organization": lambda name: token_scope(user="ann", organization=name),
    "the metadata": lambda user: nullcontext(),
}


@contextmanager
def _both(*blocks: Block) -> Iterator[None]:
    with ExitStack() as stack:
        for block in blocks:
            stack.enter_context(block)
        yield


@pytest.mark.parametrize("name", HOSTS)
def test_nobody_is_served_what_another_was_answered(name: str) -> None:
    """However it is said whose calls they are; one's own answers are served."""
    for how, block in BLOCKS.items():
        cache, served = SemanticCache(semantic=False), []
        with host(name, cache, ["for ann", "for bob", "for carl"]) as ask:
            for user in ("ann", "bob", "ann", "bob"):
                config = {"metadata": {"user_id": user}} if how == "the metadata" else {}
                with block(user):
                    served.append(ask(config))
        assert ["for ann", "for bob", "for ann", "for bob"] == served, how


@pytest.mark.parametrize("name", ["sync middleware", "async global cache"])
def test_without_a_user_answers_are_shared(name: str) -> None:
    """A block that names nobody keeps nothing apart."""
    with host(name, SemanticCache(semantic=False), ["once", "twice"]) as ask:
        with token_scope(), track_usage():
            first = ask({})
        assert [first, "once"] == [ask({}), first]


def test_usage_budget_and_cache_name_the_same_user() -> None:
    """The metadata of the call, then the innermost block; an empty name is nobody's."""
    cases: list[tuple[list[Block], dict[str, Any], str]] = [
        ([token_scope(user="ann")], {"user_id": "bob"}, "bob"),
        ([token_scope(user="ann")], {"user_id": ""}, "ann"),
        ([token_scope(user="ann")], {"user_id": None}, "ann"),
        ([track_usage(user="ann"), token_scope(user="bob")], {}, "bob"),
        ([PLAN.run(user="ann"), track_usage(user="bob")], {}, "bob"),
        ([track_usage(user="ann"), PLAN.run(user="bob")], {}, "bob"),
        ([track_usage(user="ann"), PLAN.run()], {}, "ann"),
    ]
    for blocks, metadata, user in cases:
        with SemanticCache(semantic=False) as cache, track_usage() as usage, ExitStack() as stack:
            model = optimize(fake_chat(), cache)
            entered = [stack.enter_context(block) for block in blocks]
            run = next((each for each in entered if hasattr(each, "plan")), None)
            run = run or stack.enter_context(PLAN.run())
            model.invoke(QUESTION, {"metadata": metadata})
            assert [user] == list(usage.by("user")), (user, metadata)
            assert [user] == [limit.owner for limit in run.report().limits]
            assert cache.forget(user) == 1


def test_a_scope_of_the_cache_stands_above_a_user_around_it() -> None:
    """A cache may be shared on purpose; a user named inside sees none of it all the same."""
    with SemanticCache(semantic=False) as cache:
        model = optimize(fake_chat(answers=["for the team", "for bob"]), cache)
        for user in ("ann", "bob"):
            with token_scope(user=user), cache.scope(user="team"):
                assert "for the team" == model.invoke(QUESTION).text
        with cache.scope(user="team"), token_scope(user="bob"):
            assert "for bob" == model.invoke(QUESTION).text


def test_a_scope_without_a_cache_is_not_served_what_the_one_around_it_was() -> None:
    """The cache of the outer scope goes on, for whom the inner one names."""
    with SemanticCache(semantic=False) as cache, token_scope(user="ann", cache=cache):
        model = optimize(fake_chat(answers=["for ann", "for bob"]))
        assert "for ann" == model.invoke(QUESTION).text
        with token_scope(user="bob"):
            assert "for bob" == model.invoke(QUESTION).text
        assert 1 == cache.forget("bob")


def test_originals_are_fetched_by_whom_they_belong_to() -> None:
    """Also where a scope names the user, who makes the view and who asks for the handle alike."""
    search = {"name": "search", "args": {}, "id": "1"}
    talk = [
        HumanMessage("Find me a flight to Rome."),
        AIMessage("", tool_calls=[search]),
        ToolMessage("AZ 611 at noon. " * 300, tool_call_id="1"),
        AIMessage("", tool_calls=[search | {"id": "2"}]),
        ToolMessage("AZ 609", tool_call_id="2"),
    ]
    compressor = ContextCompressor(price_profile="none")
    tool = expand_tool(compressor)
    with token_scope(user="ann"):
        handle = re.findall(r"[0-9a-f]{8}", compressor.invoke(talk)[2].text)[0]
        assert "AZ 611 at noon" in tool.invoke({"handle": handle})
    with token_scope(user="bob"):
        assert "AZ 611" not in tool.invoke({"handle": handle})
