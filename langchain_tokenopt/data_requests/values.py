"""From what an answer says to a typed value: found where it is said to be, whole, and valid.

Whoever claims a value, a model or the answer's own form, nothing is taken on trust: a value is one
that stands in the text it comes from. A number is the whole number with its unit, a date has its
year, a choice is one of the choices. What is not is no value, and the reason is told.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final, get_args, get_origin

from pydantic import BaseModel, ValidationError

from langchain_tokenopt.core.argument_checks import shown
from langchain_tokenopt.data_requests.dates import dates_in
from langchain_tokenopt.data_requests.needs import DataNeed, choices_of, plain_type
from langchain_tokenopt.data_requests.phrases import (
    folded,
    is_refusal,
    negates,
    refuses,
    says_no,
    says_yes,
)
from langchain_tokenopt.data_requests.same_value import same
from langchain_tokenopt.data_requests.units import Quantity, quantities_in
from langchain_tokenopt.text.stopwords import ALL_STOP_WORDS
from langchain_tokenopt.text.words import terms_of

__all__ = ["Found", "NotFound", "read_value", "why_missing"]

_LISTS: Final = (list, tuple, set, frozenset)
_PARTS: Final = re.compile(r"\s*(?:[,;、，；\n]|\s(?:and|und|et|y|e|en|и)\s)\s*")


@dataclass(frozen=True, slots=True)
class Found:
    """A value."""

    value: Any
    said: str
    """The words that say it, as they stand in the answer."""
    unit: str | None = None


class NotFound(Exception):  # noqa: N818  no error: a value that is missing, and why
    """Why there is no value: one sentence."""


def read_value(need: DataNeed, claim: Any, text: str | None = None) -> Found:
    """Return the value that *claim* claims to be in *text*.

    Args:
        need: What it is a value of.
        claim: A value, or words of the text.
        text: The answer; ``None`` where the claim itself is the answer, as in a mapping.

    Raises:
        NotFound: It is no such value, or the text does not have it.

    Example:
        >>> nights = DataNeed("nights", "stay in days", type=int)
        >>> read_value(nights, 3, "For three days, please.")
        Found(value=3, said='three days', unit='day')
        >>> read_value(nights, 4, "For three days, please.")
        Traceback (most recent call last):
        ...
        langchain_tokenopt.data_requests.values.NotFound: 4 is not in the answer
    """
    if claim is None:
        raise NotFound("the answer does not say it")
    if isinstance(claim, Mapping) and claim.keys() == {"value", "unit"}:
        claim = f"{claim['value']} {claim['unit'] or ''}"
    if isinstance(claim, str):
        claim = claim.strip()
        if is_refusal(claim):
            raise NotFound(f"it was not told: {shown(claim)}" if claim else "the answer is empty")
    found = _found(need, need.type, claim, text)
    try:
        value = need.adapter.validate_python(found.value)
    except ValidationError as error:
        what = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise NotFound(f"{shown(found.said)} was said: {what[:1].lower()}{what[1:]}") from None
    return Found(value, found.said, found.unit)


def _found(need: DataNeed, kind: Any, claim: Any, text: str | None) -> Found:
    kind = plain_type(kind)
    choices = choices_of(kind)
    if choices:
        return _choice(choices, claim, text)
    if kind is bool:
        return _truth(need, claim, text)
    if kind in (int, float, Decimal):
        return _number(need, kind, claim, text)
    if kind is date or kind is datetime:
        return _date(kind, claim, text)
    origin = get_origin(kind) or kind
    if origin in _LISTS:
        return _list(need, kind, claim, text)
    if isinstance(claim, Mapping | BaseModel | list):
        return _whole(claim, text)
    if kind is str and not isinstance(claim, str):
        claim = str(claim)
    if not isinstance(claim, str):
        return Found(claim, str(claim)) if text is None else _whole([claim], text, claim)
    said = _as_written(claim, text)
    return Found(said, said)


# --- texts

_BREAKS: Final = "\u2019'-"


def _as_written(claim: str, text: str | None) -> str:
    """Return *claim* as *text* writes it, with the whole of a number that it is cut from."""
    if text is None:
        return claim
    span = _span(claim, text)
    if span is None:
        raise NotFound(f"{shown(claim)} is not in the answer")
    start, end = span
    if negates(text[:start][-40:]):
        raise NotFound(f"the answer says that it is not {shown(claim)}")
    for quantity in quantities_in(text):
        if quantity.start < end and start < quantity.end:
            start, end = min(start, quantity.start), max(end, quantity.end)
    unbroken = [(each.start(), each.end()) for each in _UNBROKEN.finditer(text)]
    for begins, ends in (*unbroken, *((each.start, each.end) for each in dates_in(text))):
        if begins < end and start < ends:
            start, end = min(start, begins), max(end, ends)
    return text[start:end].strip()


_UNBROKEN: Final = re.compile(
    r"[0-9]+(?:[-./:][0-9]+)+|\bhttps?://[^\s<>\"']*[^\s<>\"'.,;:!?)]|[\w.+-]+@[\w-]+(?:\.[\w-]+)+"
)
"""Numbers of several parts (dates, times, orders, telephones), and addresses: half is none."""


def _span(claim: str, text: str) -> tuple[int, int] | None:
    """Return where *text* says *claim*, in whatever case and width, and not within a word."""
    words = [re.escape(word) for word in folded(claim).split()]
    if not words:
        return None
    plain, places = _folded_with_places(text)
    for match in re.finditer(r"\s*".join(words), plain):
        before, after = plain[: match.start()][-1:], plain[match.end() :][:1]
        if _parts(before, match[0][0]) and _parts(match[0][-1], after):
            return places[match.start()], places[match.end() - 1] + 1
    return None


def _parts(left: str, right: str) -> bool:
    """Say whether a word can end between two characters."""
    if not left or not right or not (left.isalnum() and right.isalnum()):
        return True
    return not (left.isascii() or (left.isalpha() and ord(left) < _UNSPACED_FROM)) or (
        ord(right) >= _UNSPACED_FROM
    )


_UNSPACED_FROM: Final = 0x2E80
"""From here on characters are words, or belong to languages that join particles to them."""


@lru_cache(maxsize=32)
def _folded_with_places(text: str) -> tuple[str, list[int]]:
    """Return *text* folded, and where each of its characters comes from."""
    made, places = [], []
    for place, char in enumerate(text):
        for each in folded(char) if not char.isspace() else " ":
            made.append(each)
            places.append(place)
    return "".join(made), places


# --- numbers


def _number(need: DataNeed, kind: Any, claim: Any, text: str | None) -> Found:
    if isinstance(claim, bool) or not isinstance(claim, str | int | float | Decimal):
        raise NotFound(f"{shown(claim)} is no number")
    if isinstance(claim, str):
        values = _values_of(kind, claim)
    elif math.isfinite(claim):
        values = (Decimal(str(claim)),)
        if text is None:
            return Found(claim, str(claim), need.unit)
    else:
        raise NotFound(f"{claim} is no number")
    source = str(claim) if text is None else text
    found = [each for each in quantities_in(source) if _likeliest(kind, each) in values]
    if not found:
        raise NotFound(f"{shown(claim)} is not in the answer")
    exact = [each for each in found if isinstance(claim, str) and claim in source[each.start :]]
    best = next((each for each in found if each.unit == need.unit), (exact or found)[0])
    return _measured(need, kind, best, _likeliest(kind, best), source)


def _values_of(kind: Any, claim: str) -> tuple[Decimal, ...]:
    """Return what the one number in some words may mean."""
    found = list(quantities_in(claim))
    values = {_likeliest(kind, each) for each in found}
    if not found:
        raise NotFound(f"{shown(claim)} is no number")
    if len(values) > 1 and not any(each.is_range for each in found):
        raise NotFound(f"{shown(claim)} is more than one number")
    return tuple(values) if len(values) > 1 else found[0].readings


def _likeliest(kind: Any, found: Quantity) -> Decimal:
    """Return what a number means: nobody writes 14 as 14.000."""
    return max(found.readings, key=abs) if kind is int else found.readings[0]


def _measured(need: DataNeed, kind: Any, found: Quantity, value: Decimal, text: str) -> Found:
    said = text[found.start : found.end]
    if found.is_range:
        raise NotFound(f"{shown(said)} is a part of a range, and one number is needed")
    if need.unit is not None and found.unit not in (None, need.unit):
        raise NotFound(f"{shown(said)} is in {found.unit}, and {need.unit} is needed")
    if kind is int and value != int(value):
        raise NotFound(f"{shown(said)} is no whole number")
    number: Any = value if kind is Decimal else int(value) if kind is int else float(value)
    return Found(number, said, found.unit or need.unit)


# --- dates, choices, yes and no


def _date(kind: Any, claim: Any, text: str | None) -> Found:
    if isinstance(claim, date):
        if text is None:
            return Found(claim, str(claim))
        claim = claim.isoformat()
    if not isinstance(claim, str):
        raise NotFound(f"{shown(claim)} is no date")
    asked = [found.day for found in dates_in(claim)]
    there = list(dates_in(claim if text is None else text))
    fitting = [found for found in there if found.day is not None and found.day in asked]
    if not fitting:
        if any(found.day is None for found in there):
            raise NotFound(f"{shown(claim)} could be two different days: write it as 2026-12-31")
        raise NotFound(
            f"{shown(claim)} is no whole date"
            if not asked
            else f"the answer does not say {shown(claim)} as a whole date, with its year"
        )
    found, source = fitting[0], claim if text is None else text
    said = source[found.start : found.end]
    if kind is date:
        return Found(found.day, said)
    clock = re.search(r"(?<![\d:])([01]?\d|2[0-3])[:.h]([0-5]\d)(?!\d|\.\d)", source[found.end :])
    if clock is None:
        raise NotFound(f"{shown(said)} has no time of day")
    assert found.day is not None
    whole = source[found.start : found.end + clock.end()]
    at = datetime(found.day.year, found.day.month, found.day.day, int(clock[1]), int(clock[2]))
    return Found(at, whole)


def _choice(choices: Mapping[str, Any], claim: Any, text: str | None) -> Found:
    said = claim if isinstance(claim, str) else str(getattr(claim, "value", claim))
    fitting = {
        key: value
        for key, value in choices.items()
        if value == claim or folded(key) == folded(said)
    }
    if not fitting:
        words = folded(said)
        fitting = {key: value for key, value in choices.items() if _span(key, words)}
    if not fitting:
        listed = ", ".join(dict.fromkeys(str(getattr(v, "value", v)) for v in choices.values()))
        raise NotFound(f"{shown(claim)} is none of {listed}")
    if len({id(value) for value in fitting.values()}) > 1:
        raise NotFound(f"{shown(claim)} is more than one of them")
    value = next(iter(fitting.values()))
    if text is None:
        return Found(value, said)
    names = [key for key, each in choices.items() if each == value]
    span = next((span for name in (said, *names) if (span := _span(name, text))), None)
    if span is None:
        raise NotFound(f"{shown(said)} is not in the answer")
    if negates(text[: span[0]][-40:]):
        raise NotFound(f"the answer says that it is not {shown(said)}")
    return Found(value, text[span[0] : span[1]])


def _truth(need: DataNeed, claim: Any, text: str | None) -> Found:
    if isinstance(claim, int) and claim in (0, 1):
        claim = bool(claim)
    if text is None and (isinstance(claim, bool) or _is_truth(claim)):
        return Found(_truth_of(claim) if isinstance(claim, str) else claim, str(claim))
    if isinstance(claim, str) and text is not None:
        _as_written(claim, text) if not _is_truth(claim) else None
    words = text if isinstance(claim, bool) or _is_truth(claim) else claim
    if not isinstance(words, str):
        raise NotFound(f"{shown(claim)} is neither yes nor no")
    no = says_no(words)
    about = {*terms_of(need.question), *terms_of(need.name)} - ALL_STOP_WORDS
    yes = says_yes(words) or (not no and bool(about & set(terms_of(words))))
    wanted = claim if isinstance(claim, bool) else _truth_of(claim)
    value = wanted if wanted is not None else (not no if yes != no else None)
    if value is None or not (yes if value else no):
        raise NotFound(f"{shown(claim)} is neither yes nor no in the answer")
    return Found(value, words.strip())


def _is_truth(claim: Any) -> bool:
    return _truth_of(claim) is not None


def _truth_of(claim: Any) -> bool | None:
    if not isinstance(claim, str):
        return None
    return {"true": True, "false": False, "y": True, "n": False}.get(claim.strip().casefold())


# --- what has parts


def _list(need: DataNeed, kind: Any, claim: Any, text: str | None) -> Found:
    inner = next(iter(get_args(kind)), str)
    items = _PARTS.split(claim) if isinstance(claim, str) else claim
    if not isinstance(items, Iterable) or isinstance(items, Mapping | bytes):
        items = [claim]
    found: list[Found] = []
    for item in items:
        if item in ("", None):
            continue
        one = _found(need, inner, item, text)
        if not any(same(one.value, each.value) for each in found):
            found.append(one)
    if not found:
        raise NotFound("the answer does not say it")
    return Found([each.value for each in found], ", ".join(each.said for each in found))


def _whole(claim: Any, text: str | None, value: Any = None) -> Found:
    """Return what has parts, each of which must be in the text."""
    plain = claim.model_dump() if isinstance(claim, BaseModel) else claim
    said = [part for leaf in _leaves(plain) for part in [_leaf_in(leaf, text)] if part]
    if text is not None and not said:
        raise NotFound("the answer does not say it")
    return Found(plain if value is None else value, ", ".join(said) or str(plain))


def _leaves(value: Any) -> Iterable[Any]:
    if isinstance(value, Mapping):
        for each in value.values():
            yield from _leaves(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _leaves(each)
    elif value is not None:
        yield value


def _leaf_in(leaf: Any, text: str | None) -> str:
    if text is None:
        return str(leaf)
    if isinstance(leaf, bool):
        if not (says_yes(text) if leaf else says_no(text)):
            raise NotFound(f"{leaf} is not in the answer")
        return str(leaf)
    if isinstance(leaf, int | float | Decimal):
        for each in quantities_in(text):
            if Decimal(str(leaf)) in each.readings and not each.is_range:
                return text[each.start : each.end]
        raise NotFound(f"{leaf} is not in the answer")
    if isinstance(leaf, date):
        return _date(date, leaf, text).said
    return _as_written(str(leaf), text)


def why_missing(text: str) -> str:
    """Return why an answer has no value of something that was asked."""
    words = refuses(text)
    return "the answer does not say it" if words is None else f"it was not told: {words!r}"
