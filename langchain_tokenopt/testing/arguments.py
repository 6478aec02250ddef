"""Choose a tool and fill its arguments from a prompt, by the type of each field."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_tokenopt.testing.prompt import Prompt, first_words, terms_of, word_limit

__all__ = ["arguments_for", "chosen_tool"]

FIELD_WORDS = 40
"""Longest text that is put into one field."""

Schema = Mapping[str, Any]


def chosen_tool(functions: Sequence[Schema], choice: Any, prompt: Prompt) -> Schema | None:
    """Return the function to call now, or ``None`` to answer in words."""
    if isinstance(choice, Mapping):
        choice = choice.get("function", choice).get("name")
    if not functions or choice in ("none", False):
        return None
    named = [function for function in functions if function["name"] == choice]
    fresh = [function for function in functions if function["name"] not in prompt.called]
    forced = choice not in (None, "auto")
    candidates = named or fresh or (functions if forced else [])
    best = max(candidates, key=lambda function: _match(function, prompt.request), default=None)
    return best if best and (forced or _match(best, prompt.request) >= _ENOUGH) else None


_ENOUGH = 3
_SAYS_NOTHING = {"call", "do", "execute", "fetch", "find", "get", "make", "run", "set", "tool"}


def _match(function: Schema, request: str) -> int:
    """Return how much a request speaks of a function: its name, words of it, its description."""
    name = _spaced(function["name"])
    asked, spaced = set(terms_of(request)), f" {_spaced(request)} "
    of_name = set(terms_of(" ".join(word for word in name.split() if word not in _SAYS_NOTHING)))
    about = set(terms_of(function.get("description") or ""))
    return 10 * (f" {name} " in spaced) + 2 * len(asked & of_name) + len(asked & about)


def _spaced(name: str) -> str:
    """Return the words of an identifier, or of a text, in lower case.

    Example:
        >>> _spaced("getWeather_now")
        'get weather now'
    """
    return re.sub(r"(?<=[a-z])(?=[A-Z])|[\W_]+", " ", name).lower().strip()


def arguments_for(function: Schema, prompt: Prompt) -> dict[str, Any]:
    """Fill a function's parameters from the prompt."""
    schema = function.get("parameters") or {"type": "object"}
    filled = _Filler(schema, prompt).value(schema, function["name"])
    return filled if isinstance(filled, dict) else {}


_NUMBER = re.compile(r"(?<![\w.,])[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?\b")
_FORMATS = {
    "date": (r"\b\d{4}-\d\d-\d\d\b", "1970-01-01"),
    "date-time": (r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ?\b", "1970-01-01T00:00:00Z"),
    "time": (r"\b\d\d:\d\d:\d\d\b", "00:00:00"),
    "duration": (r"\bPT\d+[HMS]\b", "PT0S"),
    "email": (r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b", "nobody@example.com"),
    "uri": (r"\bhttps?://[^\s<>\"')]+", "https://example.com"),
    "uuid": (r"\b[\da-f]{8}(?:-[\da-f]{4}){3}-[\da-f]{12}\b", f"{'0' * 8}{'-0000' * 4}{'0' * 8}"),
    "ipv4": (r"\b(?:\d{1,3}\.){3}\d{1,3}\b", "127.0.0.1"),
}  # fmt: skip
"""JSON Schema formats: what to look for in the text, and what to say if it is not there."""


class _Filler:
    """Values for a JSON schema, taken from a prompt; as few as the schema allows where it nests."""

    def __init__(self, root: Schema, prompt: Prompt) -> None:
        self._root = root
        self._prompt = prompt
        self._text = f"{prompt.request}\n{prompt.material}"
        self._open: list[str] = []

    def value(self, schema: Schema, name: str, nth: int = 0) -> Any:
        """Return a value that *schema* allows; the *nth* of several for the same list."""
        if "$ref" in schema:
            return self._referred(schema["$ref"], name, nth)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._option(schema["enum"], nth)
        for combined in ("allOf", "anyOf", "oneOf"):
            if schema.get(combined):
                return self.value(self._simplest(schema[combined]), name, nth)
        kind = schema.get("type") or ("object" if "properties" in schema else "string")
        if isinstance(kind, list):
            kind = next((option for option in kind if option != "null"), "null")
        match kind:
            case "object":
                return self._object(schema)
            case "array":
                return self._array(schema, name)
            case "integer" | "number":
                return self._number(schema, name, nth, whole=kind == "integer")
            case "boolean":
                said = re.search(rf"{re.escape(_spaced(name))}\W+(\w+)", self._text, re.IGNORECASE)
                return (said[1] if said else self._text).lower().strip() in ("true", "yes", "ja")
            case "null":
                return None
        return self._string(schema, f"{name} {schema.get('description', '')}", nth)

    def _referred(self, reference: str, name: str, nth: int) -> Any:
        target: Any = self._root
        for part in filter(None, reference.removeprefix("#").split("/")):
            target = target[part]
        self._open.append(reference)
        value = self.value(target, name, nth)
        self._open.pop()
        return value

    def _leads_back(self, schema: Schema) -> bool:
        """Say whether *schema* would open a definition that is being filled already.

        langchain-core puts an empty schema where a model refers to itself.
        """
        parts = [
            schema,
            *schema.get("anyOf", ()),
            *([schema["items"]] if "items" in schema else ()),
        ]
        return any(not part or part.get("$ref") in self._open for part in parts)

    def _simplest(self, options: Sequence[Schema]) -> Schema:
        """Return the first option that says something and does not lead back to where we are."""
        says = [o for o in options if o.get("type") != "null" and not self._leads_back(o)]
        nothing = [o for o in options if o.get("type") == "null"]
        return (says or nothing or list(options))[0]

    def _object(self, schema: Schema) -> dict[str, Any]:
        return {
            name: self.value(part, name)
            for name, part in schema.get("properties", {}).items()
            if name in schema.get("required", ())
            or ("default" not in part and not self._leads_back(part))
        }

    def _array(self, schema: Schema, name: str) -> list[Any]:
        items = schema.get("items") or {}
        enough = min(0 if self._leads_back(items) else 1, schema.get("maxItems", 1))
        each = schema.get("prefixItems") or [items] * max(schema.get("minItems", 0), enough)
        return [self.value(item, name, nth) for nth, item in enumerate(each)]

    def _option(self, options: Sequence[Any], nth: int) -> Any:
        """Return the option that the text names, the request first; else the first one."""
        for text in (self._prompt.request, self._text):
            for option in options[nth:] or options:
                if re.search(rf"\b{re.escape(str(option))}\b", text, re.IGNORECASE):
                    return option
        return options[nth % len(options)]

    def _number(self, schema: Schema, name: str, nth: int, *, whole: bool) -> float | int:
        """Return the first number after the field's name, else the first of all, within bounds."""
        step = schema.get("multipleOf", 1 if whole else 0)
        low = schema.get("minimum", schema.get("exclusiveMinimum", -math.inf))
        high = schema.get("maximum", schema.get("exclusiveMaximum", math.inf))
        # An exclusive bound leaves room for one step, or for half of the range.
        gap = step or (1 if math.isinf(high - low) else (high - low) / 2)
        low = low + gap if "exclusiveMinimum" in schema else low
        high = high - gap if "exclusiveMaximum" in schema else high
        names = "|".join(map(re.escape, _spaced(name).split())) or r"\Z"
        named = re.search(rf"\b(?:{names})", self._text, re.IGNORECASE)
        near = named and _NUMBER.search(self._text, named.end(), named.end() + 60)
        found = near or _NUMBER.search(self._text)
        value = (float(found[0].replace(",", "")) if found else 0.0) + nth
        value = min(max(value, low), high)
        if step:
            value = step * math.floor(value / step)
            value += step * (value < low)
        return int(value) if value == math.floor(value) else value

    def _string(self, schema: Schema, about: str, nth: int) -> str:
        pattern, otherwise = _FORMATS.get(schema.get("format", ""), (schema.get("pattern"), ""))
        if pattern:
            return self._found(pattern.removeprefix("^").removesuffix("$"), otherwise)
        ranked = self._prompt.scored(f"{about} {self._prompt.request}") or [(0.0, "")]
        limit = min(FIELD_WORDS, word_limit(about) or FIELD_WORDS)
        text = first_words(ranked[nth % len(ranked)][1], limit)
        if nth >= len(ranked):  # lists may have to be of different values
            text = f"{nth + 1} {text}"
        return text[: schema.get("maxLength", len(text))].ljust(schema.get("minLength", 0), ".")

    def _found(self, pattern: str, otherwise: str) -> str:
        try:
            match = re.search(pattern, self._text)
        except re.error:  # JSON Schema allows expressions that Python does not know
            return otherwise
        return match[0] if match else otherwise
