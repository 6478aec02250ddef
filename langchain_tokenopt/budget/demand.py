"""What a request asks of a budget: its exact input, its caps, the least output that is of use.

Pure functions on requests, in each provider's own words. Verified on the wire against a loopback
server with langchain-openai 1.7 and langchain-anthropic 1.x
(``tests/integration_tests/test_budget_model.py``).
"""

from __future__ import annotations

import json
import math
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from pydantic import BaseModel

from langchain_tokenopt.counting.model_names import model_name_of
from langchain_tokenopt.counting.request_tokens import count_messages
from langchain_tokenopt.counting.tokens import counter_for
from langchain_tokenopt.request.model_request import ModelRequest

__all__ = [
    "Correction",
    "Form",
    "cap_of",
    "correction_for",
    "form_of",
    "input_tokens_of",
    "made_up_answer",
    "thinking_tokens",
    "with_cap",
]

# --- what goes in --------------------------------------------------------------------------------

_GUESSED_MARGIN: Final = 1.1
"""Safety on counts that are estimates, until the provider has told its own."""
_REMEMBERED: Final = 64
_SMALL: Final = 200
"""Below so many tokens a difference is a frame, which adds; above, a rate, which multiplies."""


class Correction:
    """How much more one model's provider counts than we do; learned from what it reports.

    The factor is the mean of the latest ratios plus three standard deviations, and no less than the
    largest of them or 1: what was seen once is covered the next time.

    Example:
        >>> correction = Correction()
        >>> correction.applied(1_000)
        1000
        >>> correction.learn(counted=1_000, reported=1_080)
        >>> correction.applied(1_000)
        1080
    """

    def __init__(self) -> None:
        self._ratios: deque[float] = deque(maxlen=_REMEMBERED)
        self._frames: deque[int] = deque(maxlen=_REMEMBERED)
        self._lock = threading.Lock()

    def learn(self, *, counted: int, reported: int) -> None:
        """Take note of one call's input, as we and as the provider counted it."""
        if counted <= 0 or reported <= 0:
            return
        with self._lock:
            if counted < _SMALL:
                self._frames.append(reported - counted)
            else:
                self._ratios.append(reported / counted)

    def applied(self, counted: int, *, exact: bool = True) -> int:
        """Return a count that the provider's will hardly exceed."""
        with self._lock:
            ratios, frames = tuple(self._ratios), tuple(self._frames)
        factor = 1.0 if exact or ratios else _GUESSED_MARGIN
        if ratios:
            mean = sum(ratios) / len(ratios)
            spread = math.sqrt(sum((ratio - mean) ** 2 for ratio in ratios) / len(ratios))
            factor = max(factor, mean + 3 * spread, max(ratios))
        return max(counted, math.ceil(counted * factor - 1e-9), counted + max(frames, default=0))


_corrections: dict[str, Correction] = {}


def correction_for(model: BaseChatModel | str) -> Correction:
    """Return what is known about *model* in this process."""
    return _corrections.setdefault(model_name_of(model), Correction())


def input_tokens_of(request: ModelRequest) -> tuple[int, bool]:
    """Count what *request* puts into the model: messages, tools and schema; and whether exactly."""
    counted = count_messages(request.messages, request.tools, model=request.model)
    form = form_of(request)
    if form is None or form.tool is not None or form.schema is None:
        return counted.tokens, counted.exact
    schema = counter_for(request.model).count(json.dumps(form.schema))
    return counted.tokens + schema.tokens, False


# --- what may come out ---------------------------------------------------------------------------

_CAP_NAMES: Final = (
    "max_tokens",  # LangChain's standard name; ChatOpenAI sends it as max_completion_tokens
    "max_completion_tokens",
    "max_output_tokens",  # Gemini, and OpenAI's Responses API
)


def cap_of(request: ModelRequest) -> int | None:
    """Return the lowest cap on the output that the caller or the model itself has set."""
    given = [request.kwargs.get(name) for name in _CAP_NAMES]
    if not any(given):
        given = [getattr(request.model, name, None) for name in _CAP_NAMES]
    return min((cap for cap in given if isinstance(cap, int)), default=None)


def with_cap(request: ModelRequest, tokens: int) -> tuple[ModelRequest, bool]:
    """Return the request with a cap of at most *tokens*, and whether the model will know of it.

    A cap is only ever lowered. Models without any such setting are left alone.
    """
    name = _cap_name(request)
    if name is None:
        return request, False
    present = cap_of(request)
    if present is not None and present <= tokens:
        return request, True
    others = {key: value for key, value in request.kwargs.items() if key not in _CAP_NAMES}
    return request.override(kwargs={**others, name: tokens}), True


def _cap_name(request: ModelRequest) -> str | None:
    for name in _CAP_NAMES:
        if request.kwargs.get(name) is not None:
            return name
    return next((name for name in _CAP_NAMES if name in type(request.model).model_fields), None)


def thinking_tokens(request: ModelRequest) -> int:
    """Return the thinking that was asked for by number: a lower cap would be refused."""
    model, kwargs = request.model, request.kwargs
    asked = kwargs.get("thinking", getattr(model, "thinking", None))
    budget = asked.get("budget_tokens") if isinstance(asked, Mapping) else None
    if budget is None:
        budget = kwargs.get("thinking_budget", getattr(model, "thinking_budget", None))
    return budget if isinstance(budget, int) and budget > 0 else 0


# --- the form of the answer ----------------------------------------------------------------------

_FIELD_TOKENS: Final = 40
"""Room for one field of structured output: its name, its quotes, a short value."""


@dataclass(frozen=True, slots=True)
class Form:
    """The form that a program expects the answer in."""

    schema: Mapping[str, Any] | None
    """JSON schema of it; ``None``: any JSON object."""
    tool: str | None = None
    """The tool that must be called with it; ``None``: the text is the object."""
    type: type[BaseModel] | None = None
    """The class that the object will be read into, where it is known."""

    @property
    def floor_tokens(self) -> int:
        """Output below which the object would be cut off and be of no use."""
        return _FIELD_TOKENS * max(1, _fields(self.schema or {}, self.schema or {}, 0))


def _fields(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> int:
    """Count the fields that an object must have, nested ones included."""
    schema = _resolved(schema, root)
    if depth > 8:
        return 1
    properties: Mapping[str, Any] = schema.get("properties") or {}
    required = schema.get("required", properties)
    inner = sum(
        _fields(properties[name], root, depth + 1) for name in required if name in properties
    )
    items = schema.get("items")
    if isinstance(items, Mapping):
        inner += max(1, schema.get("minItems", 1)) * _fields(items, root, depth + 1)
    return max(1, inner)


def form_of(request: ModelRequest) -> Form | None:
    """Return the form that the answer must have; ``None`` for text and tools of free choice."""
    kwargs = request.kwargs
    asked = kwargs.get("response_format")
    if isinstance(asked, type) and issubclass(asked, BaseModel):
        return Form(asked.model_json_schema(), type=asked)
    if isinstance(asked, Mapping) and asked.get("type") in ("json_schema", "json_object"):
        inner = asked.get("json_schema") or {}
        return Form(inner.get("schema"))
    for name in ("response_json_schema", "response_schema"):
        if isinstance(kwargs.get(name), Mapping):
            return Form(kwargs[name])
    nested = kwargs.get("output_config")
    if isinstance(nested, Mapping) and isinstance(nested.get("format"), Mapping):
        return Form(nested["format"].get("schema"))
    return _forced_tool(request)


def _forced_tool(request: ModelRequest) -> Form | None:
    choice = request.kwargs.get("tool_choice")
    if choice in (None, "", "auto", "none", False):
        return None
    schemas = dict(map(_named_schema, request.tools))
    if isinstance(choice, Mapping):
        kind = choice.get("type")
        if kind in ("auto", "none"):
            return None
        name = (choice.get("function") or {}).get("name") or choice.get("name")
    else:
        name = choice if choice in schemas else None
    if name is None and len(schemas) == 1:
        name = next(iter(schemas))
    return Form(schemas[name], tool=name) if name in schemas else None


def _named_schema(tool: Any) -> tuple[str | None, Mapping[str, Any]]:
    """Return a tool's name and schema, as OpenAI or as Anthropic writes it."""
    if not isinstance(tool, Mapping):
        return None, {}
    inner = tool.get("function") or tool
    return inner.get("name"), inner.get("parameters") or inner.get("input_schema") or {}


# --- an answer in the model's place --------------------------------------------------------------


class _UnfillableError(Exception):
    """No value can be made up for a schema."""


def made_up_answer(request: ModelRequest, text: str) -> AIMessage:
    """Return a message of the right type for *request* that says *text*.

    Where a schema was asked for, it holds the smallest object that the schema allows, with *text*
    in its free texts; where no such object can be made up, the text alone. It calls no tool unless
    one was forced.
    """
    form = form_of(request)
    if form is None:
        return AIMessage(text)
    try:
        made = _minimal(form.schema or {"type": "object"}, form.schema or {}, text, 0)
        if form.type is not None:
            made_object: Any = form.type.model_validate(made)
        else:
            made_object = made
    except (_UnfillableError, ValueError):  # pydantic's ValidationError is a ValueError
        return AIMessage(text)
    if form.tool is not None:
        call = {"name": form.tool, "args": made, "id": f"call_{request.run.run_id.hex[:12]}"}
        return AIMessage("", tool_calls=[{"type": "tool_call", **call}])
    # langchain-openai reads the object from there, and not from the text.
    return AIMessage(json.dumps(made), additional_kwargs={"parsed": made_object})


_NEUTRAL: Final = ("unknown", "none", "n/a", "undecided", "neutral", "hold", "other")
"""Values of an enumeration that decide least, in order of preference."""
_BY_FORMAT: Final = {
    "date-time": "1970-01-01T00:00:00Z",
    "date": "1970-01-01",
    "time": "00:00:00Z",
    "uuid": "00000000-0000-0000-0000-000000000000",
    "email": "nobody@example.com",
    "uri": "https://example.com",
}


def _resolved(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    for _ in range(8):
        reference = schema.get("$ref")
        if not isinstance(reference, str):
            break
        found: Any = root
        for part in reference.lstrip("#/").split("/"):
            found = found.get(part) if isinstance(found, Mapping) else None
        if not isinstance(found, Mapping):
            raise _UnfillableError(reference)
        schema = found
    return schema


def _minimal(schema: Mapping[str, Any], root: Mapping[str, Any], text: str, depth: int) -> Any:
    """Return the smallest value that *schema* allows."""
    if depth > 16:
        raise _UnfillableError("the schema refers to itself without an end")
    schema = _resolved(schema, root)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return _least_deciding(schema["enum"])
    if "default" in schema:
        return schema["default"]
    choices = schema.get("anyOf") or schema.get("oneOf")
    if choices:
        return _first_fillable(choices, root, text, depth)
    if schema.get("allOf"):
        merged = {
            key: value for part in schema["allOf"] for key, value in _resolved(part, root).items()
        }
        return _minimal(merged, root, text, depth + 1)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, Sequence) and not isinstance(kind, str):
        kind = "null" if "null" in kind else kind[0]
    if kind == "object":
        properties = schema.get("properties") or {}
        return {
            name: _minimal(properties.get(name, {}), root, text, depth + 1)
            for name in schema.get("required", ())
        }
    if kind == "array":
        items = schema.get("items") or {}
        return [_minimal(items, root, text, depth + 1) for _ in range(schema.get("minItems", 0))]
    if kind in ("integer", "number"):
        return _least_number(schema, whole=kind == "integer")
    return {"boolean": False, "null": None}[kind] if kind != "string" else _text(schema, text)


def _least_deciding(values: Sequence[Any]) -> Any:
    by_word = {str(value).lower(): value for value in values}
    return next((by_word[word] for word in _NEUTRAL if word in by_word), values[0])


def _first_fillable(
    choices: Sequence[Mapping[str, Any]], root: Mapping[str, Any], text: str, depth: int
) -> Any:
    if any(choice.get("type") == "null" for choice in choices):
        return None
    for choice in choices:
        try:
            return _minimal(choice, root, text, depth + 1)
        except _UnfillableError:
            continue
    raise _UnfillableError("anyOf")


def _least_number(schema: Mapping[str, Any], *, whole: bool) -> int | float:
    low, high = schema.get("minimum"), schema.get("maximum")
    if schema.get("exclusiveMinimum") is not None:
        low = schema["exclusiveMinimum"] + (1 if whole else 1e-6)
    value = max(0, low) if low is not None else 0
    if high is not None:
        value = min(value, high)
    step = schema.get("multipleOf")
    if step:
        value = math.ceil(value / step) * step
    if (high is not None and value > high) or (low is not None and value < low):
        raise _UnfillableError("number")
    return math.ceil(value) if whole else value


def _text(schema: Mapping[str, Any], text: str) -> str:
    if "pattern" in schema:
        raise _UnfillableError("pattern")
    form = schema.get("format")
    if form is not None:
        if form not in _BY_FORMAT:
            raise _UnfillableError(form)
        return _BY_FORMAT[form]
    made = text[: schema.get("maxLength", len(text))]
    return made.ljust(schema.get("minLength", 0), ".")
