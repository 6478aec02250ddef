"""Tools that are forms: schemas to be filled in and read, behind which there is nothing to do.

A request names its tools in the provider's format, which does not say what is behind them. Where
they are bound one can still see: a class, or a tool without a function, as ``create_agent`` makes
them of a response format. Of several tools one of which must be called, only a form can be filled
in by somebody else than the model; a call of any other could do anything.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from threading import Lock
from typing import Any, Final

from langchain_core.tools import BaseTool

from langchain_tokenopt.core.tool_schemas import declared_functions

__all__ = ["are_forms", "form_among", "form_names", "forms_among", "name_and_schema", "note_forms"]

_REMEMBERED: Final = 1_024
_known: OrderedDict[str, str | None] = OrderedDict()
"""Names of forms by the hash of what requests show of them."""
_lock = Lock()


def note_forms(given: Sequence[Any], bound: Any) -> None:
    """Remember which tools are forms.

    Args:
        given: What ``bind_tools`` was given.
        bound: What it made of them, in the same order.
    """
    if not isinstance(bound, Sequence) or len(bound) != len(given):
        return
    forms = [shown for tool, shown in zip(given, bound, strict=True) if _is_form(tool)]
    names = {_key(shown): name_and_schema(shown)[0] for shown in forms}
    with _lock:
        for key, name in names.items():
            _known[key] = name
            _known.move_to_end(key)
        while len(_known) > _REMEMBERED:
            _known.popitem(last=False)


def form_among(
    tools: Iterable[Any], name: str | None = None
) -> tuple[str, Mapping[str, Any]] | None:
    """Return name and schema of the first form among a request's tools, or of the one of *name*."""
    for tool in forms_among(tools):
        found, schema = name_and_schema(tool)
        if found is not None and name in (None, found):
            return found, schema
    return None


def forms_among(tools: Iterable[Any]) -> list[Any]:
    """Return those of a request's tools that are forms."""
    return [tool for tool in tools if _key(tool) in _known]


def are_forms(tools: Iterable[Any]) -> bool:
    """Whether a request's tools are all forms."""
    return all(_key(tool) in _known for tool in tools)


def form_names() -> set[str | None]:
    """Return the names of all forms that are known, to see at once that a tool is none of them."""
    with _lock:
        return set(_known.values())


def name_and_schema(tool: Any) -> tuple[str | None, Mapping[str, Any]]:
    """Return a tool's name and the schema of its arguments, in any provider's format."""
    found = declared_functions(tool)
    return (found[0].name, found[0].parameters) if found else (None, {})


def _is_form(tool: Any) -> bool:
    if isinstance(tool, type):
        return True
    has_function = getattr(tool, "func", None) or getattr(tool, "coroutine", None)
    return isinstance(tool, BaseTool) and hasattr(tool, "func") and not has_function


def _key(tool: Any) -> str:
    """Return what tells a form from others: its name and its fields.

    The same class is written in several ways, by LangChain with its docstring and without titles.
    """
    name, schema = name_and_schema(tool)
    fields = sorted(schema.get("properties") or ()), sorted(schema.get("required") or ())
    return hashlib.blake2b(f"{name} {fields}".encode(), digest_size=12).hexdigest()
