"""Tools that every user gets anew: made of classes and functions, with nothing in common."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from copy import copy, deepcopy
from types import FunctionType
from typing import Any, Final

from langchain_core.tools import BaseTool, BaseToolkit, StructuredTool, tool

from langchain_tokenopt.tools.result_limit import ResultLoader
from langchain_tokenopt.tools.scoped_tools import ScopedTools, scoped_tools
from langchain_tokenopt.tools.token_scope import TokenScope, asked_by
from langchain_tokenopt.tools.tool_limits import ToolLimits, checked_limits

__all__ = ["ToolSet"]

_MUTABLE: Final = (list, dict, set, bytearray)


class ToolSet:
    """Makes a fresh set of tools for each user.

    A class is constructed for each user; arguments of its constructor that are annotated as
    ``TokenScope``, ``BudgetRun`` or ``TokenUsageCallbackHandler`` are given those of the scope. It
    may be a tool, a toolkit, or any class whose instances are called: its method ``__call__`` is
    the tool then, under the class's name. A function becomes a tool for each user, and so does
    what ``@tool`` has made of one.

    What instances keep in themselves is theirs alone. So are lists, dicts and sets that stand in
    the class, and default values of functions: each user has a copy. Shared are what the code
    changes in modules, in closures, or through the class itself (``cls.cache``).

    Args:
        makers: Classes and functions.
        limits: Of each tool, or by the names of tools.
        loader: Shortens results that are too long.

    Raises:
        TypeError: One is neither a class nor a function, such as a tool that was made already and
            may keep something; or *limits* are none.

    Example:
        >>> from langchain_tokenopt import token_scope
        >>> class Notebook:
        ...     "Keep a note; return all notes."
        ...     def __init__(self, scope: TokenScope):
        ...         self.notes = [f"notes of {scope.user}"]
        ...     def __call__(self, note: str) -> str:
        ...         self.notes.append(note)
        ...         return "; ".join(self.notes)
        >>> tools = ToolSet(Notebook)
        >>> for user in ("ann", "bob"):
        ...     with token_scope(user=user) as scope:
        ...         print(tools.for_user(scope)[0].invoke({"note": "tea"}))
        notes of ann; tea
        notes of bob; tea
    """

    def __init__(
        self,
        *makers: type | Callable[..., Any] | StructuredTool,
        limits: ToolLimits | Mapping[str, ToolLimits] | None = None,
        loader: ResultLoader | None = None,
    ) -> None:
        self._makers = [_maker_of(each) for each in makers]
        for each in limits.values() if isinstance(limits, Mapping) else [limits]:
            checked_limits(each)
        self._limits = limits
        self._loader = loader

    def for_user(self, scope: TokenScope) -> ScopedTools:
        """Return a set of its own for the user of *scope*.

        Raises:
            ValueError: A tool asks for the run of a plan, and the scope has none.
            TypeError: A class cannot be constructed with what a scope has.
        """
        made = [each for make in self._makers for each in make(scope)]
        return scoped_tools(made, scope, limits=self._limits, loader=self._loader)


Maker = Callable[[TokenScope], list[BaseTool]]


def _maker_of(given: Any) -> Maker:
    if isinstance(given, type):
        return _maker_of_class(given)
    if isinstance(given, StructuredTool):
        return lambda scope: [_of_functions(given)]
    if inspect.isfunction(given):
        prototype: Any = tool(given)
        return lambda scope: [_of_functions(prototype)]
    raise TypeError(
        f"a ToolSet makes tools of classes and functions, and got {given!r}, which users would "
        f"share: give its class, or a function that makes the call."
    )


def _own(value: Any) -> Any:
    """Return a list, dict or set for one user alone; what cannot be copied stays in it."""
    if not isinstance(value, _MUTABLE):
        return value
    try:
        return deepcopy(value)
    except TypeError:  # a lock, a connection
        return copy(value)


def _of_functions(prototype: StructuredTool) -> BaseTool:
    own = {name: _fresh(getattr(prototype, name)) for name in ("func", "coroutine")}
    own |= {name: _own(getattr(prototype, name, None)) for name in ("metadata", "tags", "extras")}
    return prototype.model_copy(update=own)


def _fresh(function: Any) -> Any:
    """Return a function with default values of its own."""
    if not inspect.isfunction(function):
        return function
    made = FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        function.__defaults__ and tuple(map(_own, function.__defaults__)),
        function.__closure__,
    )
    of_keywords = function.__kwdefaults__
    made.__kwdefaults__ = of_keywords and {name: _own(v) for name, v in of_keywords.items()}
    made.__dict__.update(function.__dict__)
    for name in ("__doc__", "__annotations__", "__qualname__", "__module__"):
        setattr(made, name, getattr(function, name))
    return made


def _maker_of_class(cls: Any) -> Maker:
    asked = asked_by(cls.__init__, cls.__name__) or (
        asked_by(cls, cls.__name__) if issubclass(cls, (BaseTool, BaseToolkit)) else {}
    )
    shared = {
        name: value
        for kind in reversed(cls.__mro__)
        if kind.__module__.partition(".")[0] not in ("langchain_core", "pydantic", "builtins")
        for name, value in vars(kind).items()
        if isinstance(value, _MUTABLE) and not name.startswith(("__", "_abc_", "model_"))
    }
    prototypes: dict[str, StructuredTool] = {}

    def make(scope: TokenScope) -> list[BaseTool]:
        made = cls(**{argument: get(scope) for argument, get in asked.items()})
        for name, value in shared.items():
            if vars(made).get(name) is None:
                vars(made)[name] = _own(value)
        if isinstance(made, BaseToolkit):
            return list(made.get_tools())
        return [made if isinstance(made, BaseTool) else _of_callable(made, prototypes)]

    return make


def _of_callable(made: Any, prototypes: dict[str, StructuredTool]) -> BaseTool:
    """Return the tool that is an object's call; what the model sees of it is made once."""
    kind = type(made)
    if not callable(made):
        raise TypeError(
            f"{kind.__name__} is no tool: derive it from BaseTool, or give it a method __call__ "
            f"with a docstring."
        )
    name = getattr(made, "name", None) or _snake(kind.__name__)
    call: Any = made.__call__
    function = {"coroutine" if inspect.iscoroutinefunction(call) else "func": call}
    if name not in prototypes:
        doc = inspect.getdoc(call) if kind.__call__.__doc__ else inspect.getdoc(kind)
        prototypes[name] = StructuredTool.from_function(**function, name=name, description=doc)
    return prototypes[name].model_copy(update=function)


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
