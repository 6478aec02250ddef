"""The order of what has none: the members of sets, which Python lists anew in each process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from langchain_tokenopt.compress.message_notation import write_json

__all__ = ["in_one_order"]

Node = Mapping[str, Any]


def in_one_order(value: Any, schemas: Sequence[Node]) -> Any:
    """Return what JSON can hold with the members of sets sorted by their text.

    A provider's prompt cache needs the same bytes again. Where a schema leaves open whether
    something is a set or a list, it is sorted, too: who needs lists as they were compares.

    Args:
        value: What a model was dumped to.
        schemas: The model's JSON schemas.

    Example:
        >>> extras = {"type": "array", "uniqueItems": True, "items": {"type": "string"}}
        >>> in_one_order({"extras": ["salt", "ice"]}, [{"properties": {"extras": extras}}])
        {'extras': ['ice', 'salt']}
    """
    return _ordered(value, [(schema, schema.get("$defs", {})) for schema in schemas])


def _ordered(value: Any, said: Sequence[tuple[Node, Node]]) -> Any:
    """Order a value of which each of some schemas, given with its definitions, says something."""
    said = [(each, defined) for node, defined in said for each in _options(node, defined, ())]
    if isinstance(value, dict):
        return {
            key: _ordered(item, [(n, d) for node, d in said for n in _of_key(node, key)])
            for key, item in value.items()
        }
    if isinstance(value, list):
        items = [
            _ordered(item, [(n, d) for node, d in said for n in _of_place(node, place)])
            for place, item in enumerate(value)
        ]
        is_set = any(node.get("uniqueItems") is True for node, _ in said)
        return sorted(items, key=write_json) if is_set else items
    return value


def _options(node: Any, defined: Node, inside: tuple[str, ...]) -> Iterator[Node]:
    """Yield a schema and all that it refers to in its place."""
    if not isinstance(node, Mapping):
        return
    yield node
    name = str(node.get("$ref", "")).removeprefix("#/$defs/")
    if name and name not in inside:
        yield from _options(defined.get(name), defined, (*inside, name))
    for several in ("anyOf", "oneOf", "allOf"):
        for option in node.get(several, ()):
            yield from _options(option, defined, inside)


def _of_key(node: Node, key: str) -> Iterator[Any]:
    if key in node.get("properties", {}):
        yield node["properties"][key]
    else:
        yield node.get("additionalProperties")
        yield from node.get("patternProperties", {}).values()


def _of_place(node: Node, place: int) -> Iterator[Any]:
    first = node.get("prefixItems", ())
    yield first[place] if place < len(first) else node.get("items")
