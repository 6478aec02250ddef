"""Choose a tool and fill its arguments from a prompt, by the type of each field."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_tokenopt.testing.reading import Prompt, first_words, terms_of, word_limit

__all__ = ["arguments_for", "chosen_tool"]

FIELD_WORDS = 40
"""Longest text that is put into one field."""


def chosen_tool(
    tools: Sequence[Mapping[str, Any]], choice: Any, prompt: Prompt
) -> Mapping[str, Any] | None:
    """Return the function to call now, or ``None`` to answer in words."""
    functions: list[Mapping[str, Any]] = [tool["function"] for tool in tools]
    if not functions or choice in ("none", False):
        return None
    if isinstance(choice, Mapping):
        choice = choice.get("function", choice).get("name")
    named = [function for function in functions if function["name"] == choice]
    if named:
        return named[0]
    fresh = [function for function in functions if function["name"] not in prompt.called]
    if choice not in (None, "auto"):
        return max(fresh or functions, key=lambda function: _match(function, prompt.request))
    best = max(fresh, key=lambda function: _match(function, prompt.request), default=None)
    return best if best and _match(best, prompt.request) >= _STRONG_MATCH else None


_STRONG_MATCH = 3
_ANY_TOOL = {"call", "do", "execute", "fetch", "find", "get", "make", "run", "set", "tool"}
"""Parts of tool names that say nothing about what the tool is for."""


def _match(function: Mapping[str, Any], request: str) -> int:
    """Return how much a request speaks of a function: its name, words of it, its description."""
    name = function["name"]
    spaced = re.sub(r"[\W_]+", " ", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)).lower().strip()
    lowered = request.lower()
    is_named = any(re.search(rf"\b{re.escape(n)}\b", lowered) for n in (name.lower(), spaced))
    asked = set(terms_of(request))
    of_name = set(terms_of(" ".join(w for w in spaced.split() if w not in _ANY_TOOL)))
    of_description = set(terms_of(function.get("description") or ""))
    return (
        (10 if is_named else 0)
        + (_STRONG_MATCH - 1) * len(asked & of_name)
        + len(asked & of_description)
    )


def arguments_for(function: Mapping[str, Any], prompt: Prompt) -> dict[str, Any]:
    """Fill a function's parameters from the prompt."""
    schema = function.get("parameters") or {"type": "object", "properties": {}}
    filled = _Filler(schema, prompt).value(schema, function["name"], function.get("description"))
    return filled if isinstance(filled, dict) else {}


_NUMBER = re.compile(r"(?<![\w.,])[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?![\w]*[A-Za-z]\d)")
_YES = re.compile(r"\b(?:true|yes|ja|oui|sí)\b", re.IGNORECASE)
_NO = re.compile(r"\b(?:false|no|not|nein|nicht|non)\b", re.IGNORECASE)
_FORMATS = {
    "date": (r"\b\d{4}-\d{2}-\d{2}\b", "1970-01-01"),
    "date-time": (r"\b\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(?::\d{2})?Z?\b", "1970-01-01T00:00:00Z"),
    "time": (r"\b\d{2}:\d{2}:\d{2}\b", "00:00:00"),
    "duration": (r"\bPT?\d+[DHMS]\b", "PT0S"),
    "email": (r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b", "nobody@example.com"),
    "uri": (r"\bhttps?://[^\s<>\"')]+", "https://example.com"),
    "uuid": (
        r"\b[\da-f]{8}(?:-[\da-f]{4}){3}-[\da-f]{12}\b",
        "0" * 8 + "-0000" * 3 + "-" + "0" * 12,
    ),
    "ipv4": (r"\b(?:\d{1,3}\.){3}\d{1,3}\b", "127.0.0.1"),
}
"""JSON Schema formats: what to look for in the text, and what to say if it is not there."""


class _Filler:
    """Values for a JSON schema, taken from a prompt; minimal where the schema nests."""

    def __init__(self, root: Mapping[str, Any], prompt: Prompt) -> None:
        self._root = root
        self._sentences = prompt.sentences
        self._request = prompt.request
        self._text = f"{prompt.request}\n" + "\n".join(prompt.sentences.texts)
        self._open: list[str] = []

    def value(
        self, schema: Mapping[str, Any], name: str, about: str | None = None, nth: int = 0
    ) -> Any:
        """Return a value that *schema* allows; the *nth* of several for the same list."""
        if "$ref" in schema:
            return self._referred(schema["$ref"], name, about, nth)
        about = schema.get("description") or about
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._named(schema["enum"], nth)
        for combined in ("allOf", "anyOf", "oneOf"):
            if schema.get(combined):
                return self.value(self._simplest(schema[combined]), name, about, nth)
        kind = schema.get("type") or ("object" if "properties" in schema else "string")
        if isinstance(kind, list):
            kind = next((option for option in kind if option != "null"), "null")
        match kind:
            case "object":
                return self._object(schema)
            case "array":
                return self._array(schema, name, about)
            case "integer":
                return int(self._number(schema, name, nth, step=1))
            case "number":
                return self._number(schema, name, nth, step=0)
            case "boolean":
                return self._boolean(name)
            case "null":
                return None
            case _:
                return self._string(schema, f"{name} {about or ''}", nth)

    def _referred(self, reference: str, name: str, about: str | None, nth: int) -> Any:
        target: Any = self._root
        for part in filter(None, reference.removeprefix("#").split("/")):
            target = target[part]
        self._open.append(reference)
        try:
            return self.value(target, name, about, nth)
        finally:
            self._open.pop()

    def _simplest(self, options: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        """Return the first option that says something and does not lead back to where we are."""
        for option in options:
            if option.get("type") != "null" and not self._leads_back(option):
                return option
        return next((option for option in options if option.get("type") == "null"), options[0])

    def _object(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        required = schema.get("required", ())
        return {
            name: self.value(part, name)
            for name, part in schema.get("properties", {}).items()
            if name in required or ("default" not in part and not self._leads_back(part))
        }

    def _array(self, schema: Mapping[str, Any], name: str, about: str | None) -> list[Any]:
        fixed = schema.get("prefixItems")
        if fixed:
            return [self.value(item, name, about, nth) for nth, item in enumerate(fixed)]
        items = schema.get("items") or {}
        enough = 0 if self._leads_back(items) else 1
        count = max(schema.get("minItems", 0), min(enough, schema.get("maxItems", enough)))
        return [self.value(items, name, about, nth) for nth in range(count)]

    def _leads_back(self, schema: Mapping[str, Any]) -> bool:
        """Say whether *schema* would open a definition that is being filled already.

        langchain-core puts an empty schema where a model refers to itself.
        """
        parts = [schema, *schema.get("anyOf", ())]
        if "items" in schema:
            parts.append(schema["items"])
        return any(not part or part.get("$ref") in self._open for part in parts)

    def _named(self, options: Sequence[Any], nth: int) -> Any:
        """Return the option that the text names, the request first; else the first one."""
        for text in (self._request, self._text):
            for option in options[nth:] or options:
                if re.search(rf"\b{re.escape(str(option))}\b", text, re.IGNORECASE):
                    return option
        return options[nth % len(options)]

    def _number(self, schema: Mapping[str, Any], name: str, nth: int, step: int) -> float | int:
        low = schema.get("minimum", schema.get("exclusiveMinimum"))
        high = schema.get("maximum", schema.get("exclusiveMaximum"))
        found = self._number_near(name)
        value: float | int = found if found is not None else (low or 0)
        value = (int(value) if step else value) + nth
        # An exclusive bound leaves room for one step, or for half of the range.
        gap = step or ((high - low) / 2 if low is not None and high is not None else 1)
        if low is not None:
            value = max(value, low + (gap if "exclusiveMinimum" in schema else 0))
        if high is not None:
            value = min(value, high - (gap if "exclusiveMaximum" in schema else 0))
        factor = schema.get("multipleOf")
        if factor:
            value = math.floor(value / factor) * factor
            value += factor if low is not None and value < low else 0
        return math.ceil(value) if step else value

    def _number_near(self, name: str) -> float | int | None:
        """Return the first number after the field's name; else the first number at all."""
        for word in re.sub(r"(?<=[a-z])(?=[A-Z])|[\W_]+", " ", name).lower().split():
            named = re.search(rf"\b{re.escape(word)}", self._text, re.IGNORECASE)
            near = named and _NUMBER.search(self._text, named.end(), named.end() + 60)
            if near:
                return _parsed(near[0])
        first = _NUMBER.search(self._text)
        return _parsed(first[0]) if first else None

    def _boolean(self, name: str) -> bool:
        """Return what the text says, beside the field's name where it stands there."""
        words = re.sub(r"(?<=[a-z])(?=[A-Z])|[\W_]+", " ", name).strip()
        beside = re.search(rf"{re.escape(words)}\W+(\w+)", self._text, re.IGNORECASE)
        said = (
            beside[1] if beside and (_YES.match(beside[1]) or _NO.match(beside[1])) else self._text
        )
        return bool(_YES.search(said)) and not _NO.match(said)

    def _string(self, schema: Mapping[str, Any], about: str, nth: int) -> str:
        if schema.get("format") in _FORMATS:
            return self._found(*_FORMATS[schema["format"]])
        if "pattern" in schema:
            return self._found(schema["pattern"].removeprefix("^").removesuffix("$"), "")
        ranked = self._sentences.ranked(f"{about} {self._request}")
        text = self._sentences.texts[ranked[nth % len(ranked)]] if ranked else ""
        if nth >= max(1, len(ranked)):  # lists may have to be of different values
            text = f"{nth + 1} {text}"
        text = first_words(text, min(FIELD_WORDS, word_limit(about) or FIELD_WORDS))
        text = text[: schema.get("maxLength", len(text))]
        return text.ljust(schema.get("minLength", 0), ".")

    def _found(self, pattern: str, otherwise: str) -> str:
        try:
            match = re.search(pattern, self._text)
        except re.error:  # JSON Schema allows expressions that Python does not know
            return otherwise
        return match[0] if match else otherwise


def _parsed(number: str) -> float | int:
    """Return the value of a number as it is written, thousands with commas."""
    plain = number.replace(",", "")
    return float(plain) if "." in plain else int(plain)
