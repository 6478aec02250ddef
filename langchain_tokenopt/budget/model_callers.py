"""Whether what a node runs visibly reaches a language model.

Most graphs have nodes beside their agents: functions that format, look up, or wait for a person.
Nothing is called here. What is looked at is what a function can use: its closure, its default
arguments, the object that it is a method of, the globals that its code names, and the same of the
helpers that it names; of an object, its attributes.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Iterator
from itertools import islice
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, Final

from langchain_core.language_models import BaseLanguageModel
from langchain_core.runnables import Runnable, RunnableLambda

__all__ = ["reaches", "reaches_model"]

_HELPERS: Final = 2
"""How many functions are followed, each named by the one before."""
_MOST_THINGS: Final = 4_000
_MOST_ELEMENTS: Final = 100
"""Of one list or mapping."""
_CALLS: Final = {"invoke", "ainvoke", "stream", "astream", "batch", "abatch", "astream_events"}


def reaches_model(node: Any) -> bool:
    """Return whether a function, a runnable or a graph visibly reaches a language model.

    A function that calls a runnable that cannot be seen, as one from its state, is taken to reach
    one; so is one that was ``budgeted``. ``False``: nobody knows; it may still get one elsewhere.

    Example:
        >>> from langchain_core.language_models import FakeListChatModel
        >>> model = FakeListChatModel(responses=["Sell."])
        >>> reaches_model(lambda state: model.invoke("Buy?")), reaches_model(lambda state: state)
        (True, False)
    """
    seen: dict[int, Any] = {}  # keeps what it has seen, so that no id is used twice
    waiting: deque[tuple[Any, int]] = deque([(node, 0)])
    calls = has_runnable = False
    while waiting and len(seen) < _MOST_THINGS:
        thing, level = waiting.popleft()
        if id(thing) in seen:
            continue
        seen[id(thing)] = thing
        kind = thing if isinstance(thing, type) else type(thing)
        if issubclass(kind, BaseLanguageModel) or _is_budgeted(thing):
            return True
        if issubclass(kind, FunctionType):
            if level > _HELPERS:
                continue
            calls |= level < _HELPERS and not _CALLS.isdisjoint(_names_in(thing.__code__))
        elif issubclass(kind, Runnable) and thing is not node:
            is_node = not _attributes(thing).keys().isdisjoint({"func", "builder"})
            has_runnable |= issubclass(kind, RunnableLambda) or not is_node
        waiting.extend(_inside(thing, level))
    return calls and not has_runnable


def reaches(node: Any, wanted: Any) -> bool:
    """Return whether a function or a runnable visibly uses *wanted*, or a helper of it does.

    Example:
        >>> reaches(lambda state: Iterator, Iterator), reaches(lambda state: state, Iterator)
        (True, False)
    """
    seen: dict[int, Any] = {}
    waiting: deque[tuple[Any, int]] = deque([(node, 0)])
    while waiting and len(seen) < _MOST_THINGS:
        thing, level = waiting.popleft()
        if thing is wanted:
            return True
        if id(thing) not in seen and level < _HELPERS:
            seen[id(thing)] = thing
            waiting.extend(_inside(thing, level))
    return False


def _is_budgeted(thing: Any) -> bool:
    """Whether ``budgeted`` was said of it: ``budget_graph`` watches every node."""
    own = _attributes(thing)
    watch = (own.get("__budgeted__") or (None, None))[1] or own.get("watch")
    return hasattr(watch, "agent") and getattr(watch, "graph", None) is None


def _inside(thing: Any, level: int) -> Iterator[tuple[Any, int]]:
    """Yield what a thing can use, and how many functions are in between."""
    kind = type(thing)
    if issubclass(kind, type | ModuleType | str | bytes):
        return
    if issubclass(kind, FunctionType):
        names = _names_in(thing.__code__)
        found = [thing.__globals__[name] for name in names if name in thing.__globals__]
        modules = [vars(module) for module in found if isinstance(module, ModuleType)]
        found += [module[name] for module in modules for name in names if name in module]
        yield from ((each, level + 1) for each in found)
        yield from ((value, level) for value in _cells(thing))
        yield from ((value, level) for value in thing.__defaults__ or ())
        yield from ((value, level) for value in (thing.__kwdefaults__ or {}).values())
    elif issubclass(kind, MethodType):
        yield from ((thing.__self__, level), (thing.__func__, level))
        names = _names_in(getattr(thing.__func__, "__code__", None))
        owner = thing.__self__ if isinstance(thing.__self__, type) else type(thing.__self__)
        methods = (getattr(owner, name, None) for name in names)
        yield from ((each, level + 1) for each in methods if isinstance(each, FunctionType))
    elif issubclass(kind, functools.partial):
        yield from ((each, level) for each in (thing.func, *thing.args, *thing.keywords.values()))
    elif issubclass(kind, dict):
        yield from ((value, level) for value in islice(list(thing.values()), _MOST_ELEMENTS))
    elif issubclass(kind, list | tuple | set | frozenset | deque):
        yield from ((value, level) for value in islice(list(thing), _MOST_ELEMENTS))
    elif level == 0 and isinstance(vars(kind).get("__call__"), FunctionType):
        yield MethodType(kind.__call__, thing), level
    own = _attributes(thing)  # of a compiled graph: what it was built from
    held = [own["builder"]] if "builder" in own else list(own.values())
    yield from ((value, level) for value in held)


def _attributes(thing: Any) -> dict[str, Any]:
    """Return what an object holds, without asking it: it may compute, or be a proxy."""
    own: dict[str, Any] = {}
    for kind in type(thing).__mro__:
        slots = vars(kind).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if not name.startswith("__"):
                own[name] = _held(thing, name)
    return own | (_held(thing, "__dict__") or {})


def _held(thing: Any, name: str) -> Any:
    try:
        return object.__getattribute__(thing, name)
    except (AttributeError, TypeError):  # nothing there, or it is not an attribute's place
        return None


def _cells(function: FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not set yet
            continue


def _names_in(code: CodeType | None) -> set[str]:
    """Return the globals and attributes that code names, that of functions inside of it too."""
    if code is None:
        return set()
    inner = (_names_in(each) for each in code.co_consts if isinstance(each, CodeType))
    return set(code.co_names).union(*inner)
