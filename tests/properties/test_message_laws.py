"""Laws of packed messages, over models and messages that nobody has thought of."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Any, Literal, NamedTuple
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, create_model

from langchain_tokenopt import MessageTemplates
from langchain_tokenopt.compress.message_notation import (
    read_fields,
    read_records,
    write_fields,
    write_records,
)

pytestmark = pytest.mark.exhaustive

LAW = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


class Level(Enum):
    """Values that look like other things."""

    LOW = "low"
    NUMBER = "1"
    NOTHING = "null"


class Rank(IntEnum):
    """Values that are numbers."""

    FIRST = 1
    SECOND = 2


class Cat(BaseModel):
    """One of two that only a tag tells apart."""

    kind: Literal["cat"] = "cat"
    name: str = ""


class Dog(BaseModel):
    """The other one."""

    kind: Literal["dog"] = "dog"
    name: str = ""


class Pair(NamedTuple):
    """A type, and what strategy makes values of it."""

    kind: Any
    values: st.SearchStrategy[Any]


ODD = [
    *("", " ", "\n", "\n\n", "a\n\n b\n  c", "\ta", "a=b", "a: b", "x|y", "|", '"', '"a"', "[1]"),
    *("{}", "null", "true", "12", "-0", "1e5", "007", "NaN", "(a,b):", "a:\n b|c", "goal: x"),
    *(
        "task seal=123456 a=b",
        "text/0 seal=000000",
        "\r\n",
        "\x00",
        "\u2028",
        "\x85",
        "\u3000",
        "ﬁ",
        "👩‍🔬",
    ),
    *("(shortened: a)", "a\n(shortened: a)", "名前は=何", "\u200b", "\ufeffa", "a\\nb", "\\"),
]
TEXTS = st.one_of(
    st.sampled_from(ODD),
    st.text(max_size=20),
    st.text('ab =:|"[]{}(),\n\t~1.-', max_size=30),
    st.lists(st.sampled_from(ODD), max_size=3).map("".join),
)
NUMBERS = st.decimals(allow_nan=False, allow_infinity=False, places=3) | st.sampled_from(
    [Decimal("1.50"), Decimal("0"), Decimal("1E+3"), Decimal("-0.00")]
)
ZONES = st.sampled_from([UTC, None, timezone(timedelta(hours=5, minutes=30))])
SCALARS = [
    Pair(str, TEXTS),
    Pair(int, st.integers(-(2**70), 2**70)),
    Pair(float, st.floats()),
    Pair(bool, st.booleans()),
    Pair(Decimal, NUMBERS),
    Pair(date, st.dates()),
    Pair(datetime, st.datetimes(timezones=ZONES) | st.just(datetime(2026, 1, 1, tzinfo=UTC))),
    Pair(time, st.times()),
    Pair(timedelta, st.timedeltas(-timedelta(days=9000), timedelta(days=9000))),
    Pair(UUID, st.uuids()),
    Pair(bytes, TEXTS.map(lambda text: text.encode("utf-8", "replace"))),
    Pair(Level, st.sampled_from(Level)),
    Pair(Rank, st.sampled_from(Rank)),
    Pair(Literal["a", "1", 1, None], st.sampled_from(["a", "1", 1, None])),
    Pair(int | str, st.integers() | TEXTS),
    Pair(bool | int | float | str, st.booleans() | st.integers() | TEXTS),
    Pair(Cat | Dog, st.builds(Cat, name=TEXTS) | st.builds(Dog, name=TEXTS)),
    Pair(Any, st.none() | st.booleans() | st.integers() | TEXTS | st.lists(TEXTS, max_size=3)),
]
MADE_BY: dict[str, Callable[[Pair], Pair]] = {
    "optional": lambda of: Pair(of.kind | None if of.kind is not Any else Any, _none_or(of)),
    "list": lambda of: Pair(list[of.kind], st.lists(of.values, max_size=4)),
    "tuple": lambda of: Pair(tuple[of.kind, ...], st.lists(of.values, max_size=3).map(tuple)),
    "dict": lambda of: Pair(dict[str, of.kind], st.dictionaries(TEXTS, of.values, max_size=3)),
}
NAMES = st.sampled_from(["a", "b_c", "kind", "goal", "größe", "名前", "text", "to"])


def _none_or(of: Pair) -> st.SearchStrategy[Any]:
    return st.none() | of.values


@st.composite
def _kinds(draw: st.DrawFn, depth: int = 2) -> Pair:
    """Draw a type of a field."""
    if depth and draw(st.booleans()):
        inner = draw(_kinds(depth=depth - 1))
        return MADE_BY[draw(st.sampled_from(sorted(MADE_BY)))](inner)
    if depth and draw(st.booleans()):
        return draw(_models(depth=depth - 1))
    return draw(st.sampled_from(SCALARS))


@st.composite
def _models(draw: st.DrawFn, depth: int = 2) -> Pair:
    """Draw a model, and what makes messages of it."""
    fields, values = {}, {}
    for name in draw(st.lists(NAMES, unique=True, max_size=5)):
        of = draw(_kinds(depth=depth))
        if draw(st.booleans()):
            default = draw(of.values)
            fields[name] = (of.kind, default)
            values[name] = of.values | st.just(default)
        else:
            fields[name] = (of.kind, ...)
            values[name] = of.values
    model: Any = create_model("Model", __config__=ConfigDict(extra="forbid"), **fields)
    return Pair(model, st.builds(model, **values))


@st.composite
def _messages(draw: st.DrawFn) -> tuple[type[BaseModel], list[BaseModel]]:
    model, values = draw(_models())
    return model, draw(st.lists(values, min_size=1, max_size=3))


@LAW
@given(_messages())
def test_messages_come_back_equal(case):
    """Whatever a model holds: a message is packed and comes back equal, alone or among others."""
    model, messages = case
    templates = MessageTemplates()
    templates.register("form", model)
    for given_one in (messages[0], messages):
        packed = templates.pack(given_one)
        assert isinstance(packed, str)
        if "nan" not in repr(given_one):
            assert templates.expand(packed) == given_one
        else:  # which is equal to nothing
            assert "nan" in repr(templates.expand(packed))


@LAW
@given(
    TEXTS | st.from_regex(re.compile(r"(task|text/0)(\[\])? seal=\d{6}[ \n:(].*"), fullmatch=True)
)
def test_texts_come_back_as_they_were(text):
    """A text is a text, whatever it looks like and however often it was packed."""
    templates = MessageTemplates()
    once = templates.pack(text)
    assert templates.expand(once) == text
    assert templates.expand(templates.expand(templates.pack(once))) == text


@LAW
@given(_messages(), st.data())
def test_an_edited_text_is_no_message(case, data):
    """Change a character, cut it or add to it: then it is text, and nobody's message."""
    model, messages = case
    templates = MessageTemplates()
    templates.register("form", model)
    packed = templates.pack(messages[0])
    at = data.draw(st.integers(0, len(packed) - 1))
    other = data.draw(st.characters().filter(lambda character: character != packed[at]))
    for edited in (
        packed[:at] + other + packed[at + 1 :],
        packed[:at],
        f"{packed}{other}",
        f"{other}{packed}",
        f"{packed}\n{packed}",
    ):
        assert templates.expand(edited) is edited


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | TEXTS, inner, max_size=3),
    max_leaves=8,
)


@LAW
@given(st.dictionaries(NAMES, VALUES, max_size=5))
def test_fields_are_read_as_they_were_written(tree):
    """The notation alone, without any schema, loses nothing of what JSON can hold."""
    written = write_fields(tree)
    assert read_fields(written) == tree
    assert all(line.startswith(" ") for line in written.split("\n")[1:] if line and ":" not in line)


@LAW
@given(st.lists(st.dictionaries(NAMES, VALUES, min_size=1, max_size=3), max_size=4))
def test_records_are_read_as_they_were_written(records):
    """A table holds the same records, those that lack a field included."""
    written = write_records(records)
    if written is not None:
        assert read_records(written) == records


@LAW
@given(TEXTS)
def test_whatever_is_read_as_fields_is_an_object_or_an_error(text):
    """No text makes the reader fail in another way than it says."""
    try:
        read_fields(text)
    except (ValueError, RecursionError):
        return
