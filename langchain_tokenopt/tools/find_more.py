"""The tool that the model is given where others were left out, and its calls in an answer.

It is the seam that answers these calls. The application never sees one: neither whole, nor a piece
of one in a stream.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolMessage

from langchain_tokenopt.core.tool_schemas import declared_functions

__all__ = ["CallFilter", "answered", "find_more_tool", "fits", "free_name", "queries_in"]

_NAME: Final = "find_more_tools"
_ABOUT: Final = (
    "Search for tools that are not listed here. Call it when none of the listed tools can do what "
    "is needed, before saying that it cannot be done; the tools that are found can be called next."
)
_WHAT: Final = "What the tool should do, in a few words."


def free_name(taken: Collection[str]) -> str:
    """Return a name that no tool has.

    Example:
        >>> free_name([]), free_name(["find_more_tools"])
        ('find_more_tools', 'find_more_tools_2')
    """
    names = (f"{_NAME}_{number}" for number in range(2, len(taken) + 3))
    return next(name for name in (_NAME, *names) if name not in taken)


def find_more_tool(name: str, like: Any, groups: Sequence[str] = ()) -> dict[str, Any] | None:
    """Return the tool in the format of another; ``None`` for a format that is not known.

    Args:
        name: What it is called.
        like: One of the application's tools, as the request has it.
        groups: What kinds of tools there are altogether.

    Example:
        >>> find_more_tool("find_more_tools", {"name": "add", "input_schema": {}})["name"]
        'find_more_tools'
    """
    if not isinstance(like, Mapping) or not (functions := declared_functions(like)):
        return None
    about = f"{_ABOUT} There are tools for: {', '.join(groups)}." if groups else _ABOUT
    types = ("OBJECT", "STRING") if functions[0].parameters.get("type") == "OBJECT" else None
    kind, text = types or ("object", "string")
    schema: dict[str, Any] = {
        "type": kind,
        "properties": {"query": {"type": text, "description": _WHAT}},
        "required": ["query"],
    }
    inner = like.get("function")
    holder = inner if isinstance(inner, Mapping) else like
    if holder.get("strict"):
        schema["additionalProperties"] = False
    plain = {"name": name, "description": about}
    strict = {"strict": True} if holder.get("strict") else {}
    if isinstance(inner, Mapping):
        return {"type": "function", "function": {**plain, "parameters": schema, **strict}}
    if "toolSpec" in like:
        return {"toolSpec": {**plain, "inputSchema": {"json": schema}}}
    for key in like:
        if isinstance(like[key], list | tuple):
            return {key: [{**plain, "parameters": schema}]}
        if key in ("input_schema", "inputSchema"):
            return {**plain, key: schema}
    kept = {"type": "function"} if like.get("type") == "function" else {}
    return {**kept, **plain, "parameters": schema, **strict}


def queries_in(message: AIMessage, name: str) -> list[tuple[str, str]]:
    """Return id and query of each call of the tool *name*; one that cannot be read asks nothing."""
    found = [
        (call["id"] or "", _query_of(call["args"]))
        for call in message.tool_calls
        if call["name"] == name
    ]
    invalid = [call for call in message.invalid_tool_calls if call["name"] == name]
    return found + [(call["id"] or "", call["args"] or "") for call in invalid]


def _query_of(args: Mapping[str, Any]) -> str:
    """Return all that was said, whatever the model calls the argument."""
    return " ".join(v if isinstance(v, str) else json.dumps(v, default=str) for v in args.values())


def answered(
    message: AIMessage, name: str, found: Mapping[str, Sequence[str]]
) -> list[BaseMessage]:
    """Return the exchange that the model sees: its calls of *name* alone, and what was found.

    Args:
        message: What the model said.
        name: What the tool is called.
        found: By the id of each call, names of the tools that were added.
    """
    others = {call["id"] for call in message.tool_calls if call["name"] != name}
    asked = message
    if message.invalid_tool_calls or others or not all(call["id"] for call in message.tool_calls):
        calls = [
            {"name": name, "args": {"query": query}, "id": call_id or f"call_{at}"}
            for at, (call_id, query) in enumerate(queries_in(message, name))
        ]
        asked = AIMessage(message.text, tool_calls=calls)
    ids = [call["id"] or "" for call in asked.tool_calls]
    texts = [
        f"These tools can be called now: {', '.join(names)}." if names else _NOTHING
        for names in found.values()
    ]
    return [
        asked,
        *(ToolMessage(t, tool_call_id=i, name=name) for t, i in zip(texts, ids, strict=False)),
    ]


_NOTHING: Final = "There are no other tools. Answer with those that are listed."


def fits(args: Mapping[str, Any], tool: Any, name: str) -> bool:
    """Whether arguments are such as the schema of *tool* asks for, at its first level.

    Example:
        >>> tool = {"name": "add", "input_schema": {"properties": {"a": {}}, "required": ["a"]}}
        >>> fits({"a": 1}, tool, "add"), fits({"b": 1}, tool, "add"), fits({}, tool, "add")
        (True, False, False)
    """
    schema = next((f.parameters for f in declared_functions(tool) if f.name == name), {})
    properties = schema.get("properties") or {}
    if not set(schema.get("required") or ()) <= args.keys() or not args.keys() <= properties.keys():
        return False
    return all(_is_of(properties[key], value) for key, value in args.items())


_KINDS: Final[Mapping[str, tuple[type, ...]]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}


def _is_of(schema: Any, value: Any) -> bool:
    if not isinstance(schema, Mapping):
        return True
    kind, values = schema.get("type"), schema.get("enum")
    kinds = _KINDS.get(kind.lower()) if isinstance(kind, str) else None
    if isinstance(value, bool) and kinds is not None and bool not in kinds:
        return False
    return (kinds is None or isinstance(value, kinds)) and (not values or value in values)


# --- calls in an answer


class CallFilter:
    """Takes calls out of an answer, piece by piece: those of *more*, which are not for the caller.

    Text passes at once, and so do calls of tools that were shown, from where their names are known.
    What comes behind the first other call is held back until it is known what becomes of that. A
    call is known by its index, where pieces have none by its id.

    Args:
        more: The name whose calls are taken out.
        hidden: Names of tools that were not shown: their calls are held back.
        known: All names there may be, to tell a whole name from the beginning of one.
    """

    def __init__(self, more: str, hidden: Collection[str], known: Collection[str]) -> None:
        self._more = more
        self._hidden = hidden
        self._longer = {*known, more}
        self._names: dict[Any, str] = {}
        self._arguments: set[Any] = set()
        self._last_key: Any = None
        self._ids: set[Any] = set()
        self._holds = False
        self.held: list[AIMessageChunk] = []
        self.stands = False
        """Whether the answer has a call that the caller is shown."""

    @property
    def has_calls(self) -> bool:
        """Whether the answer calls anything."""
        return bool(self._names)

    def see(self, chunk: AIMessageChunk) -> list[AIMessageChunk]:
        """Return what may be shown now."""
        is_clear = self._note(chunk)
        kinds = {self._kind(name) for name in self._names.values()}
        if "shown" in kinds and is_clear:
            self.stands = True
        self._holds = self._holds or bool(kinds - {"shown"}) or not is_clear
        if not self._holds:
            return [chunk]
        self.held.append(chunk)
        return self.release() if self.stands and is_clear else []

    def release(self) -> list[AIMessageChunk]:
        """Return what was held back, without the calls that are not for the caller."""
        held, self.held = self.held, []
        keys = {key for key, name in self._names.items() if name == self._more}
        if not keys:
            return held
        shown = (_without(chunk, self._more, keys, self._ids) for chunk in held)
        return [chunk for chunk in shown if chunk is not None]

    def _note(self, chunk: AIMessageChunk) -> bool:
        """Take note of names; return whether all of them are whole."""
        for call in chunk.tool_call_chunks:
            key = call["index"] if call["index"] is not None else call["id"] or self._last_key
            self._last_key = key
            self._names[key] = self._names.get(key, "") + (call["name"] or "")
            if call["args"]:
                self._arguments.add(key)
            if call["id"] and self._more.startswith(self._names[key]):
                self._ids.add(call["id"])
        return chunk.chunk_position == "last" or all(map(self._is_whole, self._names))

    def _is_whole(self, key: Any) -> bool:
        name = self._names[key]
        grows = any(one != name and one.startswith(name) for one in self._longer)
        return key in self._arguments or key != self._last_key or not grows

    def _kind(self, name: str) -> str:
        if name == self._more:
            return "more"
        return "hidden" if name in self._hidden else "shown"


_TEXTS: Final = frozenset({"text", "output_text", "thinking", "redacted_thinking", "reasoning"})


def _without(
    chunk: AIMessageChunk, name: str, keys: Collection[Any], ids: set[Any]
) -> AIMessageChunk | None:
    """Return a piece without some calls; ``None`` where nothing is left of it."""

    def is_taken(call: Any) -> bool:
        if not isinstance(call, Mapping) or call.get("type") in _TEXTS:
            return False
        function = call.get("function")
        named = function if isinstance(function, Mapping) else call
        if call.get("index") is not None:
            return call["index"] in keys
        return named.get("name") == name or not ids.isdisjoint(
            (call.get("id"), call.get("call_id"))
        )

    calls = [call for call in chunk.tool_call_chunks if not is_taken(call)]
    content: Any = chunk.content
    if isinstance(content, list):
        content = [block for block in content if not is_taken(block)]
    beside = {
        key: [one for one in value if not is_taken(one)] if isinstance(value, list) else value
        for key, value in chunk.additional_kwargs.items()
        if not (key == "function_call" and is_taken(value))
    }
    beside = {key: value for key, value in beside.items() if value != []}
    derived = ("type", "tool_calls", "invalid_tool_calls", "tool_call_chunks")
    fields = {key: value for key, value in chunk.__dict__.items() if key not in derived}
    fields |= {"content": content, "additional_kwargs": beside, "tool_call_chunks": calls}
    made = AIMessageChunk(**fields)
    says = made.content or calls or beside or made.usage_metadata
    tells = says or made.response_metadata.keys() - {"model_provider"}
    return made if tells or chunk.chunk_position == "last" else None
