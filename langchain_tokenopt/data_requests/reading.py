"""What a model is asked: to copy values from an answer, or to word questions in a language."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, get_args, get_origin

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.utils.json import parse_partial_json
from pydantic import BaseModel

from langchain_tokenopt.core.messages import text_of
from langchain_tokenopt.counting.request_tokens import count_messages
from langchain_tokenopt.data_requests.needs import DataNeed, Needs, choices_of, name_key
from langchain_tokenopt.data_requests.plain_answers import json_object
from langchain_tokenopt.data_requests.wording import form_of

__all__ = ["Asking", "asking_to_read", "asking_to_word", "objects_in"]

ENOUGH: Final = "enough"
"""Field in which the model says that the request can be answered without asking more."""

_ENOUGH: Final = (
    "true if the request can be answered well without knowing more, or no more is wanted"
)
_READ: Final = (
    "Copy what the message says about each field, word for word, numbers with their unit. Leave "
    "out every field that it does not state. Guess nothing."
)
_WORD: Final = (
    "Put each field into words as a very short question item in the language of the message, "
    "without articles and courtesy. The message itself is not to be answered."
)
_AS_JSON: Final = "Answer with one JSON object and nothing else. Its fields may be:"
_SAFE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_TOKENS_PER_FIELD: Final = 12
"""Of an answer: a name, a short value, and the marks around them."""
_TOKENS_AROUND: Final = 48
"""And what a budget holds for the shortest answer that says something."""


@dataclass(frozen=True)
class Asking:
    """One call: its messages, the form of its answer, and what the fields stand for."""

    messages: tuple[BaseMessage, ...]
    schema: Mapping[str, Any]
    fields: Mapping[str, str]
    """The name of the need behind each field."""
    may_end: bool = False
    """Whether the answer may say that enough is known."""

    @property
    def without_schema(self) -> list[BaseMessage]:
        """The messages for a model that has no structured output."""
        lines = [_AS_JSON]
        for name, about in self.schema["properties"].items():
            said = " ".join(filter(None, (about.get("description"), _shape(about, self.schema))))
            lines.append(f"{name}: {said}" if said else name)
        system = SystemMessage(f"{text_of(self.messages[0])} {lines[0]}\n" + "\n".join(lines[1:]))
        return [system, *self.messages[1:]]

    def tokens(self, model: Any) -> int:
        """Return about how many tokens the call takes, its answer included."""
        sent = count_messages(self.without_schema, None, model).tokens
        return sent + _TOKENS_AROUND + _TOKENS_PER_FIELD * len(self.schema["properties"]) // 2

    def claims(self, found: Mapping[str, Any]) -> dict[str, Any]:
        """Return by the names of needs what an answer has in its fields."""
        names = {name_key(field): name for field, name in self.fields.items()}
        if len(found) == 1 and name_key(next(iter(found))) not in names:
            inner = next(iter(found.values()))
            found = inner if isinstance(inner, Mapping) else found
        return {
            names[key]: value for name, value in found.items() if (key := name_key(name)) in names
        }


def asking_to_read(
    text: str, needs: Needs, asked: Sequence[DataNeed], *, request: str | None = None
) -> Asking:
    """Return a call that reads *text*.

    What was asked is described; the other needs are named only, so that what is said of them
    beside is not lost, nor asked again.

    Args:
        text: An answer, or a request.
        needs: All needs.
        asked: Those that the text answers.
        request: Where the model is also to say whether enough is known: for what.
    """
    names = {need.name for need in asked}
    others = [need for need in needs.all if need.name not in names]
    fields = _field_names((*asked, *others))
    properties = {
        field: _property(need, described=need.name in names, named=field != need.name)
        for field, need in fields.items()
    }
    message, may_end = text, request is not None and ENOUGH not in properties
    if request is not None and may_end:
        properties[ENOUGH] = {"type": "boolean", "description": _ENOUGH}
        message = f"Request: {request[:_SAMPLE]}\nMessage: {text}"
    return Asking(
        (SystemMessage(_READ), HumanMessage(message)),
        _schema("said", "What the message says.", properties),
        {field: need.name for field, need in fields.items()},
        may_end,
    )


def asking_to_word(request: str, needs: Sequence[DataNeed]) -> Asking:
    """Return a call that words what is asked for in the language of *request*."""
    fields = _field_names(needs)
    properties = {
        field: {"type": "string", "description": need.question} for field, need in fields.items()
    }
    return Asking(
        (SystemMessage(_WORD), HumanMessage(request[:_SAMPLE])),
        _schema("items", "Question items.", properties),
        {field: need.name for field, need in fields.items()},
    )


_SAMPLE: Final = 200
"""Characters of a request that show its language."""


def objects_in(answer: Any) -> Mapping[str, Any] | None:
    """Return the object that a model has answered with, in whatever form it did.

    Args:
        answer: A message, or what ``with_structured_output(..., include_raw=True)`` gives.
    """
    if isinstance(answer, Mapping) and "raw" in answer:
        parsed = answer.get("parsed")
        if isinstance(parsed, BaseModel):
            return parsed.model_dump(exclude_none=True)
        if isinstance(parsed, Mapping):
            return parsed
        answer = answer["raw"]
    if isinstance(answer, Mapping):
        return answer
    if isinstance(answer, BaseModel) and not isinstance(answer, BaseMessage):
        return answer.model_dump(exclude_none=True)
    if isinstance(answer, AIMessage) and answer.tool_calls:
        return answer.tool_calls[0]["args"]
    if isinstance(answer, AIMessage) and answer.invalid_tool_calls:  # which was cut off
        return _begun(answer.invalid_tool_calls[0]["args"] or "")
    text = text_of(answer) if isinstance(answer, BaseMessage) else str(answer)
    whole = json_object(text)
    if whole is not None:
        return whole
    start, end = text.find("{"), text.rfind("}")
    if start < 0:
        return dict(_LINE.findall(text)) or None
    return json_object(text[start : end + 1]) or _begun(text[start:])


def _begun(text: str) -> Mapping[str, Any] | None:
    """Return what there is of an object that was cut off, without its last field."""
    try:
        found = parse_partial_json(text)
    except ValueError:
        return None
    return dict([*found.items()][:-1]) if isinstance(found, dict) else None


_LINE: Final = re.compile(r"^\W*([\w -]{1,60}?)\W*:\s*(\S.*?)\s*$", re.MULTILINE)
"""A field and its value, as models write them that write no JSON."""


def _field_names(needs: Iterable[DataNeed]) -> dict[str, DataNeed]:
    """Return the needs by names that every provider takes for a field."""
    named: dict[str, DataNeed] = {}
    for n, need in enumerate(needs, start=1):
        name = need.name if _SAFE.fullmatch(need.name) else f"field_{n}"
        named[f"{name}_{n}" if name in named else name] = need
    return named


def _property(need: DataNeed, *, described: bool, named: bool) -> dict[str, Any]:
    kind: dict[str, Any] = {"type": "string"}
    if (get_origin(need.kind) or need.kind) in (list, tuple, set, frozenset):
        inner = next(iter(get_args(need.kind)), str)
        items = (
            need.adapter.json_schema(ref_template=_DEFS)
            if _is_class(inner)
            else {"items": {"type": "string"}}
        )
        kind = {"type": "array", **{k: v for k, v in items.items() if k in ("items", "$defs")}}
    elif _is_class(need.kind):
        kind = need.adapter.json_schema(ref_template=_DEFS)
    about = need.question if described or named else ""
    form = form_of(need, "en") if choices_of(need.kind) and described else ""
    said = f"{about} ({form})" if form else about
    return {**kind, "description": said} if said and said != need.name else kind


def _shape(about: Mapping[str, Any], root: Mapping[str, Any]) -> str:
    """Say in a few signs what has parts; empty for a text.

    Example:
        >>> _shape({"type": "array", "items": {"properties": {"street": {}, "no": {}}}}, {})
        '[{street, no}]'
    """
    if "$ref" in about:
        about = root.get("$defs", {}).get(about["$ref"].rpartition("/")[2], {})
    if about.get("type") == "array":
        return f"[{_shape(about.get('items', {}), root)}]"
    return f"{{{', '.join(about['properties'])}}}" if "properties" in about else ""


_DEFS: Final = "#/$defs/{model}"


def _is_class(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _schema(title: str, description: str, properties: Mapping[str, Any]) -> dict[str, Any]:
    schema = {"title": title, "description": description, "type": "object"}
    definitions = {
        name: each for part in properties.values() for name, each in part.pop("$defs", {}).items()
    }
    defined = {"$defs": definitions} if definitions else {}
    return {**schema, "properties": dict(properties), **defined}
