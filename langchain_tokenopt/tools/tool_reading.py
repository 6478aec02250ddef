"""What can be known of a tool without calling it, in whichever form it is given.

:func:`read_tool` makes a :class:`ToolCard` of anything that ``bind_tools`` takes or that a request
carries. Provider-side tools have no card: they pass untouched.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import is_
from threading import Lock
from typing import Any, Final

from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_function

from langchain_tokenopt.core.tool_schemas import (
    DECLARATIONS,
    FunctionSchema,
    declared_functions,
)
from langchain_tokenopt.counting.tool_tokens import tokens_of_function

__all__ = ["Parameter", "ToolCard", "name_words", "read_tool", "read_tools", "split_tool"]

_DEEPEST: Final = 6
"""Levels of nested parameters that are read."""
_MOST_PARAMETERS: Final = 200
_REMEMBERED: Final = 20_000
"""Tools whose cards are kept; twice the 10,000 that a set may have."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One argument of a tool, nested ones included."""

    name: str
    description: str = ""
    values: tuple[str, ...] = ()
    """What may be given: enums and constants."""
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolCard:
    """What a tool says of itself."""

    name: str
    words: tuple[str, ...]
    """The words of the name, in lower case, without the group's."""
    description: str
    parameters: tuple[Parameter, ...]
    group: str
    """Server, toolkit or module that the name says it comes from; empty where it says none."""
    key: str
    """Hash of the whole schema: another description is another key."""
    tokens: int
    """What its schema adds to a request, as ``o200k_base`` counts."""
    names: tuple[str, ...] = ()
    """All functions that it declares; more than one only where Gemini's format lists several."""


def read_tool(tool: Any) -> ToolCard | None:
    """Return what *tool* says of itself; ``None`` for a provider's own tool, or no tool at all.

    Args:
        tool: A ``BaseTool``, a function or class as for ``bind_tools``, or a schema in any format
            of :mod:`langchain_tokenopt.core.tool_schemas`.

    Example:
        >>> card = read_tool({"name": "mcp__github__createIssue", "input_schema": {}})
        >>> card.words, card.group
        (('create', 'issue'), 'github')
        >>> read_tool({"type": "web_search"}) is None
        True
    """
    return read_tools([tool])[0]


def read_tools(tools: Sequence[Any]) -> list[ToolCard | None]:
    """Return :func:`read_tool` of each; those that were read before cost next to nothing."""
    return [_card_of(tool) for tool in tools]


def split_tool(tool: Any) -> list[Any]:
    """Return a tool that declares several functions as several that declare one each.

    Example:
        >>> split_tool({"function_declarations": [{"name": "add"}, {"name": "sub"}]})
        [{'function_declarations': [{'name': 'add'}]}, {'function_declarations': [{'name': 'sub'}]}]
    """
    if isinstance(tool, Mapping):
        for key in DECLARATIONS:
            if isinstance(tool.get(key), list | tuple) and len(tool[key]) > 1:
                rest = {name: value for name, value in tool.items() if name != key}
                others = [rest] if rest else []
                return [{key: [part]} for part in tool[key]] + others
    return [tool]


# --- tools that were read before

_known: OrderedDict[int, tuple[Any, Any, ToolCard | None]] = OrderedDict()
"""By identity; the tool is held, so that nothing else can get its number."""
_cards: OrderedDict[tuple[str, str], ToolCard] = OrderedDict()
"""By what they say: agents make the schemas of their tools anew for each call."""
_lock = Lock()


def _card_of(tool: Any) -> ToolCard | None:
    known = _known.get(id(tool))
    if known is not None and known[0] is tool and _is_as(tool, known[1]):
        return known[2]
    known = tool, _snapshot(tool), _read(tool)  # without the lock: a tool's own code may run
    with _lock:
        _known[id(tool)] = known
        while len(_known) > _REMEMBERED:
            _known.popitem(last=False)
    return known[2]


def _snapshot(tool: Any) -> tuple[Any, ...]:
    """Return what tells later whether the very same object still says the same."""
    if isinstance(tool, BaseTool):
        return tool.name, tool.description, tool.args_schema
    if not isinstance(tool, dict):
        return ()
    inner = tool.get("function") or tool.get("toolSpec") or tool
    if not isinstance(inner, dict):
        return ()
    parameters = inner.get("parameters") or inner.get("input_schema")
    names = parameters.get("properties") if isinstance(parameters, dict) else None
    size = len(names) if isinstance(names, dict) else 0
    return inner.get("name"), inner.get("description"), parameters, size, len(tool)


def _is_as(tool: Any, snapshot: tuple[Any, ...]) -> bool:
    """Say whether a tool that was read still says the same.

    To compare all of 2,000 schemas takes longer than to rank them: of a schema that was changed in
    place only another name, description or number of parameters is noticed.
    """
    now = _snapshot(tool)
    return len(now) == len(snapshot) and all(map(is_, now, snapshot))


# --- reading


def _read(tool: Any) -> ToolCard | None:
    if isinstance(tool, Mapping) and tool.get("defer_loading"):
        return None  # the provider shows it when it is searched for: it costs nothing
    functions = _functions_of(tool)
    if not functions:
        return None
    first = functions[0]
    group, words = _parted(first.name)
    same = _key(functions), group or _module_of(tool)
    card = _cards.get(same)
    if card is None:
        card = _made(functions, words, *same)
        with _lock:
            _cards[same] = card
            while len(_cards) > _REMEMBERED:
                _cards.popitem(last=False)
    return card


def _made(
    functions: Sequence[FunctionSchema], words: tuple[str, ...], key: str, group: str
) -> ToolCard:
    first = functions[0]
    parameters = tuple(found for each in functions for found in _parameters_of(each.parameters))
    for other in functions[1:]:
        words += _parted(other.name)[1]
    return ToolCard(
        name=first.name,
        words=words,
        description="\n".join(each.description for each in functions if each.description),
        parameters=parameters[:_MOST_PARAMETERS],
        group=group,
        key=key,
        tokens=sum(map(tokens_of_function, functions)),
        names=tuple(each.name for each in functions),
    )


def _functions_of(tool: Any) -> list[FunctionSchema]:
    if isinstance(tool, Mapping):
        return declared_functions(tool)
    listed = {key: getattr(tool, key, None) for key in DECLARATIONS}
    if any(isinstance(value, list | tuple) for value in listed.values()):
        return declared_functions(listed)
    try:
        return declared_functions(convert_to_openai_function(tool))
    except Exception:  # noqa: BLE001  foreign signatures and schemas raise what they like
        return []


def _module_of(tool: Any) -> str:
    """Return the last part of the module that a function or class is from."""
    source = getattr(tool, "func", None) or getattr(tool, "coroutine", None) or tool
    module = getattr(source, "__module__", None) if callable(source) else None
    if not isinstance(module, str) or module.partition(".")[0] in _NO_GROUPS:
        return ""
    return module.rpartition(".")[2]


_NO_GROUPS: Final = ("__main__", "builtins", "langchain_core", "functools")
_GROUP_ENDS: Final = re.compile(r"__+|[./:]")
_NAME_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\d_A-Z]+|\d+|[^\W\d_]+")


def name_words(name: str) -> tuple[str, ...]:
    """Return the words of a name in snake, kebab or camel case.

    Example:
        >>> name_words("getHTTPStatus_v2-beta")
        ('get', 'http', 'status', 'v', '2', 'beta')
    """
    return tuple(word.lower() for word in _NAME_WORD.findall(name))


def _parted(name: str) -> tuple[str, tuple[str, ...]]:
    """Return the group that a name names, and the words of the rest."""
    parts = [part for part in _GROUP_ENDS.split(name) if part]
    if len(parts) > 1 and parts[0].lower() == "mcp":
        parts = parts[1:]
    rest = name_words(parts[-1]) if parts else ()
    group = parts[-2].lower() if len(parts) > 1 else ""
    return group, rest or name_words(name)


def _parameters_of(schema: Any, depth: int = 0) -> Iterator[Parameter]:
    """Walk through the parameters of a JSON schema, references and alternatives included."""
    if depth > _DEEPEST:
        return
    if isinstance(schema, list | tuple):
        for part in schema:
            yield from _parameters_of(part, depth + 1)
    if not isinstance(schema, Mapping):
        return
    properties = schema.get("properties")
    for name, inner in properties.items() if isinstance(properties, Mapping) else ():
        yield _parameter(str(name), inner if isinstance(inner, Mapping) else {})
        yield from _parameters_of(inner, depth + 1)
    for key in ("items", "anyOf", "oneOf", "allOf", "prefixItems"):
        yield from _parameters_of(schema.get(key), depth + 1)
    for key in ("$defs", "definitions"):
        shared = schema.get(key)
        if isinstance(shared, Mapping):
            for name, inner in shared.items():
                if isinstance(inner, Mapping):
                    yield _parameter(str(name), inner)
                yield from _parameters_of(inner, depth + 1)


def _parameter(name: str, schema: Mapping[str, Any]) -> Parameter:
    description = schema.get("description")
    inner = schema.get("items")
    own = [schema, *([inner] if isinstance(inner, Mapping) else [])]
    for key in ("anyOf", "oneOf"):
        alternatives = schema.get(key)
        if isinstance(alternatives, list):
            own += [part for part in alternatives if isinstance(part, Mapping)]
    return Parameter(
        name,
        description if isinstance(description, str) else "",
        tuple(_texts(own, "enum", "const")),
        tuple(_texts(own, "examples", "example")),
    )


def _texts(schemas: Sequence[Mapping[str, Any]], *keys: str) -> Iterator[str]:
    for schema in schemas:
        for key in keys:
            value = schema.get(key)
            for one in value if isinstance(value, list | tuple) else [value]:
                if isinstance(one, str | int | float) and not isinstance(one, bool):
                    yield str(one)[:200]


def _key(functions: Sequence[FunctionSchema]) -> str:
    content = [[each.name, each.description, each.parameters] for each in functions]
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
