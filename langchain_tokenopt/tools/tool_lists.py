"""Lists of tools that were read before: most requests of an application carry the same one."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from operator import attrgetter
from threading import Lock
from typing import Any, Final

from langchain_core.tools import BaseTool

from langchain_tokenopt.tools.tool_reading import ToolCard, read_tools, split_tool

__all__ = ["ToolList", "read_list"]

_LISTS: Final = 64
"""Lists that are kept, each with its tools."""


class ToolList:
    """Tools, each declaring one function where its format allows that, and what they say.

    Args:
        given: As they were bound, or stand in a request.
    """

    def __init__(self, given: Sequence[Any]) -> None:
        self.tools: list[Any] = []
        self.lists: dict[int, int] = {}
        """Which of the given tools some were declared by, where that declared several."""
        for at, tool in enumerate(given):
            parts = split_tool(tool)
            if len(parts) > 1:
                places = range(len(self.tools), len(self.tools) + len(parts))
                self.lists |= dict.fromkeys(places, at)
            self.tools += parts
        self.cards = read_tools(self.tools)
        """``None`` for what runs at the provider, or cannot be read."""

    @cached_property
    def readable(self) -> list[tuple[Any, ToolCard]]:
        """Those that the application runs, with what they say."""
        found = zip(self.tools, self.cards, strict=True)
        return [(tool, card) for tool, card in found if card is not None]

    @cached_property
    def readable_cards(self) -> list[ToolCard]:
        """What those say that the application runs."""
        return [card for _, card in self.readable]

    @cached_property
    def schema_cards(self) -> list[ToolCard | None]:
        """As :attr:`cards`, and ``None`` for tools that take a free text.

        There is nothing to tell a free text by but the tool's own grammar.
        """
        found = zip(self.tools, self.cards, strict=True)
        return [None if _is_free(tool) else card for tool, card in found]


def read_list(tools: Iterable[Any]) -> ToolList:
    """Return *tools* as they are read; a list of the very same tools is read once.

    A schema that was changed in place is noticed as :func:`~.tool_reading.read_tools` does.

    Example:
        >>> tools = [{"name": "add"}, {"name": "sub"}]
        >>> read_list(tools) is read_list([*tools])
        True
        >>> tools[0]["description"] = "Adds two numbers."
        >>> read_list(tools).cards[0].description
        'Adds two numbers.'
    """
    given = tuple(tools)
    key = tuple(map(id, given))
    known = _known.get(key)
    if known is not None and known[0].holds():
        return known[1]
    watch = _Watch(given)  # before they are read: what changes meanwhile is noticed next time
    made = ToolList(given)
    if watch.is_whole and not made.lists:
        with _lock:
            _known[key] = watch, made
            _known.move_to_end(key)
            while len(_known) > _LISTS:
                _known.popitem(last=False)
    return made


class _Watch:
    """Tells whether tools still say what they said, in less time than it takes to look at each.

    It holds the tools, so that nothing else can get their numbers, and sees all changes that
    :func:`~.tool_reading.read_tools` sees, and some more. Dicts are compared with copies, one level
    deep: what is the same object in both is not looked into.

    Args:
        tools: Those of one list.
    """

    def __init__(self, tools: Sequence[Any]) -> None:
        self._tools = tools
        self._dicts: list[dict[str, Any]] = []
        self.is_whole = True
        """Whether every tool has a shape that can be watched."""
        for tool in tools:
            if type(tool) is dict:
                self._add(tool)
            elif isinstance(tool, Mapping):
                self.is_whole = False
        self._copies = [*map(dict, self._dicts)]
        self._objects = [tool for tool in tools if isinstance(tool, BaseTool)]
        self._said = [*map(_SAYS, self._objects)]

    def holds(self) -> bool:
        """Whether nothing that is watched has changed."""
        try:
            return self._dicts == self._copies and [*map(_SAYS, self._objects)] == self._said
        except Exception:  # noqa: BLE001  foreign values compare as they like: they are new ones
            return False

    def _add(self, tool: dict[str, Any]) -> None:
        self._dicts.append(tool)
        inner = self._first(tool, "function", "toolSpec") or tool
        parameters = self._first(inner, "parameters", "input_schema")
        if parameters:
            self._first(parameters, "properties")

    def _first(self, source: dict[str, Any], *keys: str) -> dict[str, Any] | None:
        """Watch what *keys* lead to, up to the first that says something; return that."""
        for value in map(source.get, keys):
            if type(value) is dict:
                self._dicts.append(value)
                if value:
                    return value
            elif value is not None:
                self.is_whole = False  # a class, or what is no schema
        return None


_SAYS: Final = attrgetter("name", "description", "args_schema")
_known: OrderedDict[tuple[int, ...], tuple[_Watch, ToolList]] = OrderedDict()
_lock = Lock()


def _is_free(tool: Any) -> bool:
    """Whether it takes a free text."""
    is_mapping = type(tool) is dict or isinstance(tool, Mapping)
    return is_mapping and "type" in tool and tool["type"] == "custom"
