"""Find the forms of messages that come again and again, and write their models."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any, Final

from pydantic import BaseModel, create_model

__all__ = ["ProposedForm", "proposed_forms"]

_NAMING: Final = ("kind", "type", "form", "event")
"""Keys whose one value names a form."""
_MOST_FORMS: Final = 100


@dataclass(frozen=True, slots=True)
class ProposedForm:
    """A form that recurs."""

    name: str
    model: type[BaseModel]
    messages: int
    """How many messages have it."""
    characters: int
    """What they are long as JSON, together."""


def proposed_forms(messages: Iterable[Any], least: int) -> list[ProposedForm]:
    """Return the forms that *least* messages or more have, the one that weighs most first.

    Messages have one form if one has all the keys of the other and the same value under a key such
    as ``kind``.
    """
    groups: dict[tuple[str, frozenset[str]], list[dict[str, Any]]] = defaultdict(list)
    for message in messages:
        record = _record(message)
        if record:
            groups[_named(record), frozenset(record)].append(record)
    joined: dict[tuple[str, frozenset[str]], list[dict[str, Any]]] = {}
    for (name, keys), records in sorted(groups.items(), key=lambda group: -len(group[0][1])):
        wider = next((k for k in joined if k[0] == name and keys <= k[1]), None)
        joined.setdefault(wider or (name, keys), []).extend(records)
    forms = []
    for number, ((name, _), records) in enumerate(joined.items(), 1):
        if len(records) >= least:
            called = name or f"form-{number}"
            size = sum(len(json.dumps(record, ensure_ascii=False)) for record in records)
            forms.append(ProposedForm(called, _model(called, records), len(records), size))
    return sorted(forms, key=lambda form: -form.characters)[:_MOST_FORMS]


def _record(message: Any) -> dict[str, Any] | None:
    if isinstance(message, str) and message.lstrip()[:1] == "{":
        try:
            message = json.loads(message)
        except (ValueError, RecursionError):
            return None
    named = isinstance(message, dict) and all(
        isinstance(key, str) and key.isidentifier() and not key.startswith("_") for key in message
    )
    return message if named else None


def _named(record: dict[str, Any]) -> str:
    for key in _NAMING:
        value = record.get(key)
        if isinstance(value, str) and re.fullmatch(r"[A-Za-z][\w-]{0,39}", value, re.ASCII):
            return value
    return ""


def _model(name: str, records: Sequence[dict[str, Any]]) -> type[BaseModel]:
    keys = dict.fromkeys(key for record in records for key in record)
    fields: dict[str, Any] = {}
    for key in keys:
        values = [record[key] for record in records if key in record]
        kind = _type(f"{name}_{key}", values)
        always = len(values) == len(records)
        fields[key] = (kind, ...) if always and None not in values else (kind | None, None)
    title = "".join(part.capitalize() for part in re.split(r"\W|_", name))
    made: type[BaseModel] = create_model(title or "Form", **fields)
    return made


def _type(name: str, values: Sequence[Any]) -> Any:
    """Return the type of values: texts stay texts, so that nothing is written in another way."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {list}:
        return list[_type(name, [item for value in values or () for item in value or ()])]  # type: ignore[misc]
    if kinds == {dict}:
        records = [_record(value) for value in values if value is not None]
        if all(records) and len({frozenset(r or ()) for r in records}) == 1:
            return _model(name, [record for record in records if record])
        return dict[str, Any]
    if kinds and kinds <= {str, int, float, bool}:
        optional = {type(None)} if None in values else set()
        return reduce(or_, sorted(kinds | optional, key=lambda kind: kind.__name__))
    return Any
