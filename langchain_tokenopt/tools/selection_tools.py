"""The tools of one request: where they stand, which of them may be left out, and putting them back.

Integrations put them into ``tools``, the oldest into ``functions``; requests of Bedrock that were
written by hand have them inside of ``toolConfig``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from langchain_tokenopt.core.tool_schemas import DECLARATIONS
from langchain_tokenopt.request.form_tools import form_among
from langchain_tokenopt.tools.slim import slim
from langchain_tokenopt.tools.tool_reading import ToolCard, read_tools, split_tool

__all__ = ["RequestTools", "named_in_choice", "tools_of"]

_PLACES: Final = (("tools",), ("functions",), ("toolConfig", "tools"))
_CHOICES: Final = ("tool_choice", "function_call", "tool_config", "toolConfig")
_MUST_CALL: Final = frozenset({"any", "required", "ANY"})
_BREAKPOINT: Final = "cache_control"
"""Anthropic's mark on the last tool up to which a prompt is kept."""


@dataclass(frozen=True)
class RequestTools:
    """The tools of one request, each declaring one function where its format allows that."""

    place: tuple[str, ...]
    """Under which keys of the request's arguments they stand."""
    tools: Sequence[Any]
    cards: Sequence[ToolCard | None]
    """``None`` for what runs at the provider, or cannot be read: it is always shown."""
    lists: Sequence[int | None]
    """Which of the request's tools each was declared by, where that declared several."""

    @cached_property
    def by_name(self) -> dict[str, list[int]]:
        """Where the tools of each name stand; several of one name are shown together."""
        found: dict[str, list[int]] = {}
        for at, card in enumerate(self.cards):
            for name in () if card is None else card.names or (card.name,):
                found.setdefault(name, []).append(at)
        return found

    @property
    def others(self) -> list[str]:
        """Names of those that are always shown, where they have one."""
        named = (t.get("name") for t in self.tools if isinstance(t, Mapping))
        return [name for name in named if isinstance(name, str)]

    @cached_property
    def digest(self) -> str:
        """Name the set, whatever the descriptions say today."""
        text = json.dumps(sorted(self.by_name))
        return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()

    @cached_property
    def tokens(self) -> int:
        """Tokens of all schemas that can be read."""
        return sum(card.tokens for card in self.cards if card is not None)

    def fixed(self, kwargs: Mapping[str, Any], always: Collection[str]) -> list[str]:
        """Return the names that are shown whatever is asked: forms to be filled in, and *always*.

        A form that was bound where nobody could see what it is stands last, as agents put it, in a
        request that must call a tool.
        """
        last = len(self.tools) - 1 if named_in_choice(kwargs) & _MUST_CALL else None
        found = []
        for name, places in self.by_name.items():
            is_form = any(at == last or form_among([self.tools[at]]) for at in places)
            if is_form or name in always:
                found.append(name)
        return found

    def rewritten(
        self,
        kwargs: Mapping[str, Any],
        fixed: Iterable[str],
        shown: Iterable[str],
        more: Any,
        *,
        slimmed: bool,
    ) -> dict[str, Any]:
        """Return the arguments with these tools alone.

        In front stands what never changes: the provider's own tools, *fixed*, and *more*. So what
        is added later stands behind all that was there, and the beginning keeps its bytes.
        """
        first = [at for name in fixed for at in self.by_name.get(name, ())]
        behind = [at for name in shown for at in self.by_name.get(name, ())]
        front = [at for at, card in enumerate(self.cards) if card is None and not self._ends(at)]
        ends = [self.tools[at] for at in range(len(self.tools)) if self._ends(at)]
        front += sorted(set(first))
        places = dict.fromkeys(front) | dict.fromkeys(behind)
        written = [(self.lists[at], self._written(at, slimmed)) for at in places]
        if more is not None:
            several = next((of for of in self.lists if of is not None), None)
            written.insert(len(front), (several, more))
        return self._placed(kwargs, [*self._with_breakpoint(_joined(written)), *ends])

    def _ends(self, at: int) -> bool:
        """Whether it is Bedrock's mark behind the tools up to which a prompt is kept."""
        return isinstance(self.tools[at], Mapping) and "cachePoint" in self.tools[at]

    def _written(self, at: int, slimmed: bool) -> Any:
        tool = self.tools[at]
        return slim(tool)[0] if slimmed and self.cards[at] is not None else tool

    def _with_breakpoint(self, tools: list[Any]) -> list[Any]:
        """Let the last tool have Anthropic's mark, if the one that had it is left out."""
        marks = [
            t[_BREAKPOINT] for t in self.tools if isinstance(t, Mapping) and t.get(_BREAKPOINT)
        ]
        if not marks or any(isinstance(t, Mapping) and t.get(_BREAKPOINT) for t in tools):
            return tools
        return [*tools[:-1], {**tools[-1], _BREAKPOINT: marks[-1]}]

    def _placed(self, kwargs: Mapping[str, Any], tools: list[Any]) -> dict[str, Any]:
        outer, *inner = self.place
        return {**kwargs, outer: {**kwargs[outer], inner[0]: tools} if inner else tools}


def tools_of(kwargs: Mapping[str, Any]) -> RequestTools | None:
    """Return the tools of a request; ``None`` where it has none that can be chosen among."""
    for place in _PLACES:
        given: Any = kwargs
        for key in place:
            given = given.get(key) if isinstance(given, Mapping) else None
        if isinstance(given, Sequence) and not isinstance(given, str) and given:
            split = [(at, split_tool(tool)) for at, tool in enumerate(given)]
            tools = [part for _, parts in split for part in parts]
            lists = [at if len(parts) > 1 else None for at, parts in split for _ in parts]
            cards = [None if _is_free(tool) else card for tool, card in _read(tools)]
            return RequestTools(place, tools, cards, lists) if any(cards) else None
    return None


def _read(tools: Sequence[Any]) -> Iterator[tuple[Any, ToolCard | None]]:
    return zip(tools, read_tools(tools), strict=True)


def _is_free(tool: Any) -> bool:
    """Whether it takes a free text: there is nothing to tell it by but its own grammar."""
    return isinstance(tool, Mapping) and tool.get("type") == "custom"


def named_in_choice(kwargs: Mapping[str, Any]) -> set[str]:
    """Return every word of what a request says about which tools may or must be called.

    Any of them may be the name of a tool, which must then be among the tools.

    Example:
        >>> sorted(named_in_choice({"tool_choice": {"type": "tool", "name": "add"}}))
        ['add', 'tool']
    """
    return set(_words_in([kwargs.get(key) for key in _CHOICES]))


def _words_in(said: Any) -> Iterator[str]:
    if isinstance(said, str):
        yield said
    elif said is True:
        yield "any"
    elif isinstance(said, Mapping):
        for key, value in said.items():
            if key != _PLACES[-1][-1] or not _is_tools(value):
                yield from _words_in(value)
    elif isinstance(said, Sequence):
        for part in said:
            yield from _words_in(part)


def _is_tools(value: Any) -> bool:
    """Whether this is Bedrock's list of the tools themselves, beside the choice."""
    return isinstance(value, Sequence) and any(
        isinstance(tool, Mapping) and "toolSpec" in tool for tool in value
    )


def _joined(tools: Iterable[tuple[int | None, Any]]) -> list[Any]:
    """Put functions that Gemini was given in one list into one again: it takes no several."""
    joined: list[Any] = []
    lists: dict[tuple[int, str], dict[str, Any]] = {}
    for of, tool in tools:
        key = next((k for k in DECLARATIONS if isinstance(tool, Mapping) and k in tool), None)
        if of is None or key is None:
            joined.append(tool)
        elif (of, key) in lists:
            lists[of, key][key] += tool[key]
        else:
            lists[of, key] = {key: [*tool[key]]}
            joined.append(lists[of, key])
    return joined
