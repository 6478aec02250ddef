"""The tools of one request: where they stand, which of them may be left out, and putting them back.

Integrations put them into ``tools``, the oldest into ``functions``; requests of Bedrock that were
written by hand have them inside of ``toolConfig``.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final

from langchain_tokenopt.core.tool_schemas import DECLARATIONS
from langchain_tokenopt.request.form_tools import form_among, form_names
from langchain_tokenopt.tools.slim import slim
from langchain_tokenopt.tools.tool_lists import read_list
from langchain_tokenopt.tools.tool_reading import ToolCard

__all__ = ["RequestTools", "named_in_choice", "tools_of"]

_PLACES: Final = (("tools",), ("functions",), ("toolConfig", "tools"))
_CHOICES: Final = ("tool_choice", "function_call", "tool_config", "toolConfig")
_MUST_CALL: Final = frozenset({"any", "required", "ANY"})
_BREAKPOINT: Final = "cache_control"
"""Anthropic's mark on the last tool up to which a prompt is kept."""


class ToolNames:
    """What can be known of a set of tools from their cards alone; worked out once for a set.

    Args:
        cards: Of the tools, in order.
    """

    def __init__(self, cards: Sequence[ToolCard | None]) -> None:
        self.cards = cards
        self.places: dict[str, list[int]] = {}
        for at, card in enumerate(cards):
            for name in () if card is None else card.names or (card.name,):
                self.places.setdefault(name, []).append(at)
        text = json.dumps(sorted(self.places))
        self.digest = hashlib.blake2b(text.encode(), digest_size=6).hexdigest()
        self.readable = [card for card in cards if card is not None]
        self.keys = tuple(card.key for card in self.readable)
        self.tokens = sum(card.tokens for card in self.readable)


_SETS: Final = 64
_names: OrderedDict[tuple[int, ...], ToolNames] = OrderedDict()
"""By the numbers of the cards, which are held here, so that nothing else gets them."""
_lock = Lock()


def _names_of(cards: Sequence[ToolCard | None]) -> ToolNames:
    key = tuple(map(id, cards))
    with _lock:
        found = _names.get(key)
        if found is not None:
            _names.move_to_end(key)
            return found
    made = ToolNames(cards)
    with _lock:
        _names[key] = made
        while len(_names) > _SETS:
            _names.popitem(last=False)
    return made


@dataclass(frozen=True)
class RequestTools:
    """The tools of one request, each declaring one function where its format allows that."""

    place: tuple[str, ...]
    """Under which keys of the request's arguments they stand."""
    tools: Sequence[Any]
    cards: Sequence[ToolCard | None]
    """``None`` for what runs at the provider, or cannot be read: it is always shown."""
    lists: Mapping[int, int]
    """Which of the request's tools some were declared by, where that declared several."""
    names: ToolNames

    @property
    def by_name(self) -> Mapping[str, list[int]]:
        """Where the tools of each name stand; several of one name are shown together."""
        return self.names.places

    @property
    def digest(self) -> str:
        """Name the set, whatever the descriptions say today."""
        return self.names.digest

    @property
    def tokens(self) -> int:
        """Tokens of all schemas that can be read."""
        return self.names.tokens

    @property
    def others(self) -> list[str]:
        """Names of those that are always shown, where they have one."""
        unread = (self.tools[at] for at, card in enumerate(self.cards) if card is None)
        named = (tool.get("name") for tool in unread if isinstance(tool, Mapping))
        return [name for name in named if isinstance(name, str)]

    def fixed(self, kwargs: Mapping[str, Any], always: Collection[str]) -> list[str]:
        """Return the names that are shown whatever is asked: forms to be filled in, and *always*.

        A form that was bound where nobody could see what it is stands last, as agents put it, in a
        request that must call a tool.
        """
        stays = {*always, *self._forms()} & self.by_name.keys()
        last = self.cards[-1]
        if last is not None and named_in_choice(kwargs) & _MUST_CALL:
            stays.add(last.name)
        return sorted(stays, key=lambda name: self.by_name[name])

    def _forms(self) -> list[str]:
        """Return the names of those that are known to be forms."""
        suspects = [name for name in form_names() if name is not None and name in self.by_name]
        shown = {name: [self.tools[at] for at in self.by_name[name]] for name in suspects}
        return [name for name, tools in shown.items() if form_among(tools, name)]

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
        unread = [at for at, card in enumerate(self.cards) if card is None]
        ends = [at for at in unread if _has(self.tools[at], "cachePoint")]  # Bedrock's mark
        first = {at for name in fixed for at in self.by_name.get(name, ())}
        front = [*(at for at in unread if at not in ends), *sorted(first)]
        behind = [at for name in shown for at in self.by_name.get(name, ())]
        places = dict.fromkeys(front) | dict.fromkeys(behind)
        written = [(self.lists.get(at), self._written(at, slimmed)) for at in places]
        if more is not None:
            written.insert(len(front), (next(iter(self.lists.values()), None), more))
        tools = self._with_breakpoint(_joined(written))
        return self._placed(kwargs, [*tools, *(self.tools[at] for at in ends)])

    def _written(self, at: int, slimmed: bool) -> Any:
        tool = self.tools[at]
        return slim(tool)[0] if slimmed and self.cards[at] is not None else tool

    def _with_breakpoint(self, tools: list[Any]) -> list[Any]:
        """Let the last tool have Anthropic's mark, if the one that had it is left out."""
        marks = [tool[_BREAKPOINT] for tool in self.tools if _has(tool, _BREAKPOINT)]
        if not marks or any(_has(tool, _BREAKPOINT) for tool in tools):
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
            found = read_list(given)
            cards, names = found.schema_cards, _names_of(found.schema_cards)
            if not names.readable:
                return None
            return RequestTools(place, found.tools, cards, found.lists, names)
    return None


def _has(tool: Any, key: str) -> bool:
    return (type(tool) is dict or isinstance(tool, Mapping)) and key in tool


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
            if key != "tools" or not _are_tools(value):
                yield from _words_in(value)
    elif isinstance(said, Sequence):
        for part in said:
            yield from _words_in(part)


def _are_tools(value: Any) -> bool:
    """Whether this is Bedrock's list of the tools themselves, beside the choice."""
    return isinstance(value, Sequence) and any(_has(tool, "toolSpec") for tool in value)


def _joined(tools: Iterable[tuple[int | None, Any]]) -> list[Any]:
    """Put functions that Gemini was given in one list into one again: it takes no several."""
    joined: list[Any] = []
    lists: dict[tuple[int, str], dict[str, Any]] = {}
    for of, tool in tools:
        key = next((key for key in DECLARATIONS if _has(tool, key)), None)
        if of is None or key is None:
            joined.append(tool)
        elif (of, key) in lists:
            lists[of, key][key] += tool[key]
        else:
            lists[of, key] = {key: [*tool[key]]}
            joined.append(lists[of, key])
    return joined
