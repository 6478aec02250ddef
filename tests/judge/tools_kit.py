"""What the behaviour cases of tool selection are made with."""

from __future__ import annotations

import itertools
import time
import traceback
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    ToolMessage,
)

from langchain_tokenopt import ToolSelector, optimize
from tests.judge.tools_cases import names_of, native, pieces, read_sets, same_json
from tests.judge.tools_model import Call, ScriptedToolModel

FIND_MORE = "find_more_tools"
Case = Callable[[], None]
CASES: dict[str, Case] = {}


def case(function: Case) -> Case:
    """Register one behaviour."""
    CASES[function.__name__] = function
    return function


def report(only: Sequence[str] = ()) -> int:
    """Run every case and print the outcome; return how many are broken."""
    broken = 0
    for name, run in CASES.items():
        if only and name not in only:
            continue
        began = time.perf_counter()
        try:
            run()
        except Exception as error:
            broken += 1
            where = traceback.extract_tb(error.__traceback__)[-1]
            print(f"BROKEN {name}: {type(error).__name__}: {str(error)[:300]} ({where.lineno})")
            continue
        print(f"ok     {name} ({time.perf_counter() - began:.1f} s)")
    print(f"{broken} broken")
    return broken


@cache
def specs(name: str) -> tuple[dict[str, Any], ...]:
    """The tools of one set of the build half, without those of the provider."""
    found = next(each for each in read_sets("build") if each.name == name)
    return tuple(spec for spec in found.specs if "raw" not in spec)


def office(format: str = "openai") -> list[Any]:
    """Some eighty tools: e-mail, calendar and a data warehouse."""
    return [native(spec, format) for spec in (*specs("mail"), *specs("warehouse"))]


def everything(format: str = "openai") -> list[Any]:
    """Tools of six fields without equal names."""
    fields = ("mail", "warehouse", "git", "travel", "home", "ward")
    return [native(spec, format) for field in fields for spec in specs(field)]


def shown(
    question: str | Sequence[BaseMessage],
    tools: Sequence[Any],
    selector: Any = None,
    script: Sequence[Any] = ("ok",),
    **bound: Any,
) -> Call:
    """Ask once and return what the model was asked last."""
    model = ScriptedToolModel(script=list(script))
    staged = optimize(model, selector or ToolSelector())
    staged.bind_tools(list(tools), **bound).invoke(said_as(question))
    return model.calls[-1]


def said_as(question: str | Sequence[BaseMessage]) -> list[BaseMessage]:
    return [HumanMessage(question)] if isinstance(question, str) else list(question)


def without_help(names: Sequence[str]) -> list[str]:
    return [name for name in names if name != FIND_MORE]


def same(one: Any, other: Any) -> None:
    assert same_json(one) == same_json(other), f"{same_json(one)[:200]} != {same_json(other)[:200]}"


def valid(messages: Sequence[BaseMessage]) -> None:
    """Every call has exactly one result after it, before anything else is said."""
    open_calls: set[str] = set()
    for message in messages:
        if isinstance(message, ToolMessage):
            assert message.tool_call_id in open_calls, f"a result without a call: {message}"
            open_calls.remove(message.tool_call_id)
            continue
        assert not open_calls, f"calls without results: {open_calls}"
        if isinstance(message, AIMessage):
            open_calls = {str(made["id"]) for made in message.tool_calls}
    assert not open_calls, f"calls without results at the end: {open_calls}"


def grows(lists: Sequence[Sequence[Any]]) -> None:
    """Each list of tools begins with the one before it, to the byte."""
    for before, after in itertools.pairwise(lists):
        first = pieces(list(before))
        assert pieces(list(after))[: len(first)] == first, (
            names_of(list(before)),
            names_of(list(after)),
        )


def kept(tools: Sequence[Any]) -> list[Any]:
    """The tools without the offer of more, which may end or stand anywhere."""
    return [each for each in tools if names_of([each]) != [FIND_MORE]]
