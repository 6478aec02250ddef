"""The tool that the model is given where others were left out, and its calls in an answer.

It is the seam that answers these calls. The application never sees one: neither whole, nor a piece
of one in a stream.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolMessage
from langchain_core.messages.tool import ToolCallChunk

from langchain_tokenopt.core.messages import as_message
from langchain_tokenopt.core.tool_schemas import declared_functions

__all__ = [
    "CallFilter",
    "answered",
    "exchange",
    "find_more_tool",
    "fits",
    "free_name",
    "queries_in",
    "tool_like",
]

_NAME: Final = "find_more_tools"
_ABOUT: Final = (
    "Search for tools that are not listed here. Call it when none of the listed tools can do what "
    "is needed, before saying that it cannot be done; the tools that are found can be called next."
)
_WHAT: Final = "What the tool should do, in a few words."


def free_name(taken: Collection[str], wanted: str = _NAME) -> str:
    """Return a name that no tool has: the one that is wanted, or one with a number.

    Example:
        >>> free_name([]), free_name(["find_more_tools"])
        ('find_more_tools', 'find_more_tools_2')
    """
    names = (f"{wanted}_{number}" for number in range(2, len(taken) + 3))
    return next(name for name in (wanted, *names) if name not in taken)


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
    about = f"{_ABOUT} There are tools for: {', '.join(groups)}." if groups else _ABOUT
    return tool_like(like, name, about, {"query": _WHAT})


def tool_like(
    like: Any, name: str, about: str, parameters: Mapping[str, str]
) -> dict[str, Any] | None:
    """Return a tool in the format of another; ``None`` for a format that is not known.

    Args:
        like: One of the application's tools, as the request has it.
        name: What the tool is called.
        about: What it does.
        parameters: Texts that it takes, by name, with what each is for. All are required.

    Example:
        >>> made = tool_like({"name": "add", "input_schema": {}}, "say", "Says.", {"text": "What."})
        >>> made["name"], made["input_schema"]["required"]
        ('say', ['text'])
    """
    if not isinstance(like, Mapping) or not (functions := declared_functions(like)):
        return None
    types = ("OBJECT", "STRING") if functions[0].parameters.get("type") == "OBJECT" else None
    kind, text = types or ("object", "string")
    schema: dict[str, Any] = {
        "type": kind,
        "properties": {
            each: {"type": text, "description": what} for each, what in parameters.items()
        },
        "required": [*parameters],
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


def answered(message: AIMessage, name: str, found: Sequence[Sequence[str]]) -> list[BaseMessage]:
    """Return the exchange that the model sees: its calls of *name* alone, and what was found.

    Args:
        message: What the model said.
        name: What the tool is called.
        found: For each call, names of the tools that were added.
    """
    texts = [
        f"These tools can be called now: {', '.join(names)}." if names else _NOTHING
        for names in found
    ]
    args = [{"query": query} for _, query in queries_in(message, name)]
    return exchange(message, name, args, texts)


def exchange(
    message: AIMessage, name: str, args: Sequence[Mapping[str, Any]], texts: Sequence[str]
) -> list[BaseMessage]:
    """Return the model's calls of *name* alone, and what each was answered.

    Args:
        message: What the model said.
        name: What the tool is called.
        args: Of each of its calls, for where these cannot stand as the model wrote them.
        texts: The answer to each.
    """
    ids = [call["id"] for call in message.tool_calls]
    is_plain = all(ids) and len({*ids}) == len(ids) and not message.invalid_tool_calls
    asked = message
    if not is_plain or any(call["name"] != name for call in message.tool_calls):
        own = [call["id"] for call in message.tool_calls if call["name"] == name]
        own += [None] * (len(args) - len(own))
        calls = [
            {"name": name, "args": dict(each), "id": (is_plain and call_id) or f"call_{at}"}
            for at, (each, call_id) in enumerate(zip(args, own, strict=True))
        ]
        asked = AIMessage(message.text, tool_calls=calls)
    called = zip(texts, asked.tool_calls, strict=False)
    return [asked, *(ToolMessage(t, tool_call_id=c["id"], name=name) for t, c in called)]


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


class _Call:
    """One call of an answer, as far as its pieces have come."""

    def __init__(self, part: ToolCallChunk) -> None:
        self.index = part["index"]
        self.id, self.name, self.has_arguments = "", "", False
        self.add(part)

    def add(self, part: ToolCallChunk) -> None:
        self.id = self.id or part["id"] or ""
        self.name += part["name"] or ""
        self.has_arguments = self.has_arguments or bool(part["args"])

    def goes_on_with(self, part: ToolCallChunk, known: Collection[str]) -> bool:
        """Whether a later piece can belong to this; another id or name is a call of its own.

        A name comes before the arguments, and may come in pieces itself.
        """
        if part["id"] and self.id and part["id"] != self.id:
            return False
        if part["index"] != self.index and not (part["index"] is None and part["id"] == self.id):
            return part["index"] is None and not part["id"] and not part["name"]
        more = part["name"]
        if not more:
            return True
        is_next = self.name in known and more in known
        grown = self.name + more
        return not self.has_arguments and (
            not is_next or any(one.startswith(grown) for one in known)
        )


class CallFilter:
    """Takes calls out of an answer, piece by piece: those of *more*, which are not for the caller.

    Text passes at once, and so do calls of tools that were shown, from where their names are known.
    What comes behind the first other call is held back until it is known what becomes of that.
    Ids and indexes alone do not tell calls apart: servers leave them out or repeat them.

    Args:
        more: The name whose calls are taken out.
        hidden: Names of tools that were not shown: their calls are held back.
        known: All names there may be, to tell a whole name from the beginning of one.
    """

    def __init__(self, more: str, hidden: Collection[str], known: Collection[str]) -> None:
        self._more = more
        self._hidden = hidden
        self._known = {*known, more}
        self._calls: list[_Call] = []
        self._latest: _Call | None = None
        self._seen: list[AIMessageChunk] = []
        self._holds = False
        self._held: list[tuple[AIMessageChunk, list[_Call]]] = []
        self.stands = False
        """Whether the answer has a call that the caller is shown."""

    @property
    def has_seen(self) -> bool:
        """Whether there was any piece."""
        return bool(self._seen)

    @property
    def has_calls(self) -> bool:
        """Whether the answer calls anything."""
        return bool(self._calls)

    @property
    def message(self) -> AIMessage:
        """What the model has said, as a whole."""
        first, *others = self._seen
        message = as_message(first + others if others else first)
        assert isinstance(message, AIMessage)
        return message

    def see(self, chunk: AIMessageChunk) -> list[AIMessageChunk]:
        """Return what may be shown now."""
        calls = self._note(chunk)
        is_clear = chunk.chunk_position == "last" or all(map(self._is_whole, self._calls))
        kinds = {self._kind(call.name) for call in self._calls}
        if "shown" in kinds and is_clear:
            self.stands = True
        self._holds = self._holds or bool(kinds - {"shown"}) or not is_clear
        if not self._holds:
            return [chunk]
        self._held.append((chunk, calls))
        return self.release() if self.stands and is_clear else []

    def release(self) -> list[AIMessageChunk]:
        """Return what was held back, without the calls that are not for the caller."""
        held, self._held = self._held, []
        taken = [call for call in self._calls if call.name == self._more]
        if not taken:
            return [chunk for chunk, _ in held]
        others = [call for call in self._calls if call.name != self._more]
        shown = (_without(chunk, calls, taken, others) for chunk, calls in held)
        return [chunk for chunk in shown if chunk is not None]

    def release_text(self) -> list[AIMessageChunk]:
        """Return the text alone of what was held back: all else of the answer does not stand."""
        held, self._held = self._held, []
        said = ((_texts_in(chunk.content), chunk.id) for chunk, _ in held)
        return [AIMessageChunk(content=text, id=made_by) for text, made_by in said if text]

    def _note(self, chunk: AIMessageChunk) -> list[_Call]:
        """Take note of the calls in a piece, and return them."""
        calls, earlier = [], self._calls[::-1]
        for part in chunk.tool_call_chunks:
            found = (call for call in earlier if call.goes_on_with(part, self._known))
            call = next(found, None)
            if call is None:
                call = _Call(part)
                self._calls.append(call)
            else:
                call.add(part)
            calls.append(call)
            self._latest = call
        numbers = [self._calls.index(call) for call in calls]
        parts = zip(chunk.tool_call_chunks, numbers, strict=True)
        numbered: Any = [{**part, "index": number} for part, number in parts]
        self._seen.append(chunk.model_copy(update={"tool_call_chunks": numbered}))
        return calls

    def _is_whole(self, call: _Call) -> bool:
        grows = any(one != call.name and one.startswith(call.name) for one in self._known)
        return call.has_arguments or call is not self._latest or not grows

    def _kind(self, name: str) -> str:
        if name == self._more:
            return "more"
        return "hidden" if name in self._hidden else "shown"


_SAID: Final = frozenset({"text", "output_text"})
_TEXTS: Final = frozenset({*_SAID, "thinking", "redacted_thinking", "reasoning"})


def _texts_in(content: Any) -> Any:
    if isinstance(content, str):
        return content
    kinds = ((b, b.get("type") if isinstance(b, Mapping) else "text") for b in content)
    return [block for block, kind in kinds if kind in _SAID]


def _without(
    chunk: AIMessageChunk, calls: Sequence[_Call], taken: Sequence[_Call], others: Sequence[_Call]
) -> AIMessageChunk | None:
    """Return a piece without some calls; ``None`` where nothing is left of it.

    Args:
        chunk: The piece.
        calls: To which call each of its pieces of calls belongs.
        taken: All calls that are taken out.
        others: All other calls.
    """
    name = taken[0].name
    stay = {call.name for call in others}
    indexes = {call.index for call in taken} - {call.index for call in others}
    ids = {call.id for call in taken} - {call.id for call in others} - {""}

    def is_taken(call: Any) -> bool:
        if not isinstance(call, Mapping) or call.get("type") in _TEXTS:
            return False
        function = call.get("function")
        said = (function if isinstance(function, Mapping) else call).get("name")
        if said == name or said in stay:
            return bool(said == name)
        if call.get("index") is not None:
            return call["index"] in indexes
        return not ids.isdisjoint((call.get("id"), call.get("call_id")))

    parts = [
        part for part, call in zip(chunk.tool_call_chunks, calls, strict=True) if call not in taken
    ]
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
    fields |= {"content": content, "additional_kwargs": beside, "tool_call_chunks": parts}
    made = AIMessageChunk(**fields)
    says = made.content or parts or beside or made.usage_metadata
    tells = says or made.response_metadata.keys() - {"model_provider"}
    return made if tells or chunk.chunk_position == "last" else None
