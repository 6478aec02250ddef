"""What is a value, and what is not: whole, of its type, with its unit, and said."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, HttpUrl

from langchain_tokenopt import DataNeed
from langchain_tokenopt.data_requests.values import NotFound, read_value


class Cabin(Enum):
    ECONOMY = "economy"
    FIRST = "first class"


class Address(BaseModel):
    street: str
    number: int


FOUND: list[tuple[Any, Any, str | None, Any]] = [
    (str, "berlin", "From BERLIN, to Rome", "BERLIN"),
    (str, "Berlin", "Not Munich, Berlin", "Berlin"),
    (str, "北京", "我想去北京，三天", "北京"),
    (str, "new   york", "to New\nYork please", "New\nYork"),
    (str, "200", "it costs 1,200 EUR", "1,200 EUR"),
    (str, "3.5", "it takes 3.5 h", "3.5 h"),
    (str, "14", "at 14:30, please", "14:30"),
    (str, "4711", "order 4711-12", "4711-12"),
    (str, "mia@example.org", "mia@example.org.uk, as always", "mia@example.org.uk"),
    (str, 5, None, "5"),
    (int, 3, "for three days", 3),
    (int, "three days", "for three days", 3),
    (int, 25, "twenty-five people", 25),
    (int, 120, "one hundred and twenty", 120),
    (int, 3, "für drei Tage", 3),
    (int, 12, "十二天", 12),
    (int, 14_000, "14.000 km al año", 14_000),
    (int, 7, "2,500 km, and 7 of us", 7),
    (int, "7", "7,250 EUR, and 7 of us", 7),
    (float, "5,5 kg", "es wiegt 5,5 kg und ist neu", 5.5),
    (float, 1200, "Das Budget ist 1.200 €", 1200.0),
    (float, 1_200_000, "about 1.2 million dollars", 1_200_000.0),
    (float, -5, "it is -5 °C", -5.0),
    (int, "3万円", "3万円", 30_000),
    (Decimal, "1,234.56", "exactly 1,234.56 USD", Decimal("1234.56")),
    (date, "2026-05-05", "on 5 May 2026", date(2026, 5, 5)),
    (date, "2026-05-05", "am 5.5.2026", date(2026, 5, 5)),
    (date, "5 de mayo de 2026", "el 5 de mayo de 2026", date(2026, 5, 5)),
    (date, "2026年5月5日", "2026年5月5日出发", date(2026, 5, 5)),
    (datetime, "2026-05-05T14:30", "on 5 May 2026 at 14:30", datetime(2026, 5, 5, 14, 30)),
    (bool, True, "yes please", True),
    (bool, "no pets", "no pets and a car", False),
    (bool, "nein", None, False),
    (bool, "y", None, True),
    (Cabin, "First class", "first class, please", Cabin.FIRST),
    (Literal["red", "green"], "Green", "a green one", "green"),
    (Literal[1, 2], 2, "2 of them", 2),
    (list[str], ["Rome", "rome", "Oslo"], "Rome, rome and Oslo", ["Rome", "Oslo"]),
    (list[int], "1, 2 and 3", "1, 2 and 3", [1, 2, 3]),
    (Address, {"street": "Main St", "number": 5}, "Main St 5", Address(street="Main St", number=5)),
    (
        HttpUrl,
        "https://example.org/a",
        "see https://example.org/a.",
        HttpUrl("https://example.org/a"),
    ),
    (int, {"value": 3, "unit": "days"}, None, 3),
]


@pytest.mark.parametrize(("kind", "claim", "text", "value"), FOUND)
def test_what_is_said_is_a_value(kind, claim, text, value):
    assert read_value(DataNeed("thing", type=kind), claim, text).value == value


NOT_FOUND: list[tuple[Any, Any, str | None, str]] = [
    (str, "Berlin", "I live in Berlins Mitte", "not in the answer"),
    (str, "Munich", "not Munich, Berlin", "says that it is not 'Munich'"),
    (str, "I don't know", None, "not told"),
    (str, "n/a", None, "not told"),
    (str, "!?", None, "not told"),
    (int, 4, "for three days", "4 is not in the answer"),
    (int, 5, "5.5 kg", "5 is not in the answer"),
    (int, "2-3", "2-3 days", "part of a range"),
    (int, 20, "between 20 and 30 people", "part of a range"),
    (float, 30, "between 20 and 30 people", "part of a range"),
    (float, 850, "zwischen 700 EUR und 850 EUR", "part of a range"),
    (int, 5, "5 or 6", "part of a range"),
    (int, 20, "twenty-five", "20 is not in the answer"),
    (int, 5, "on 5 May 2026", "5 is not in the answer"),
    (int, 12, "seat 12B", "12 is not in the answer"),
    (int, "3 adults and 2 children", "3 adults and 2 children", "more than one number"),
    (int, "soon", None, "'soon' is no number"),
    (int, True, None, "True is no number"),
    (float, float("nan"), None, "nan is no number"),
    (float, 1.2, "about 1.2 million dollars", "1.2 is not in the answer"),
    (date, "2026-05-05", "on 5 May", "with its year"),
    (date, "2026-06-05", "on 05/06/2026", "two different days"),
    (date, "soon", None, "no whole date"),
    (datetime, "2026-05-05", None, "no time of day"),
    (bool, True, "hello there", "neither yes nor no"),
    (bool, True, "no breakfast but a car", "neither yes nor no"),
    (bool, False, "The rest I'd rather not say.", "neither yes nor no"),
    (bool, "maybe", None, "neither yes nor no"),
    (Cabin, "economy", "the cheapest", "'economy' is not in the answer"),
    (Literal["red", "green"], "blue", "a blue one", "none of red, green"),
    (list[str], ["Rome", "Paris"], "Rome and Oslo", "'Paris' is not in the answer"),
    (Address, {"street": "Main St", "number": 6}, "Main St 5", "6 is not in the answer"),
    (Annotated[str, Field(pattern=r"^\d{5}$")], "1234", "1234", "string should match"),
]


@pytest.mark.parametrize(("kind", "claim", "text", "why"), NOT_FOUND)
def test_what_is_not_said_is_none_and_says_why(kind, claim, text, why):
    with pytest.raises(NotFound, match=why):
        read_value(DataNeed("thing", type=kind), claim, text)


@pytest.mark.parametrize(
    ("description", "unit", "said", "expected"),
    [
        ("weight in kg", None, "2.5 kg", (2.5, "kg")),
        ("weight in kg", None, "2.5", (2.5, "kg")),
        ("weight", "kg", "2.5 kilos", (2.5, "kg")),
        ("price", None, "$ 1,200", (1200.0, "usd")),
        ("weight in kg", None, "2.5 lb", "'2.5 lb' is in lb, and kg is needed"),
        ("budget (EUR)", None, "$900", "'[$]900' is in usd, and eur is needed"),
        ("fee in EUR", None, "40 cents", "'40 cents' is in cent, and eur is needed"),
        ("length", "pallets", "3 pallets", (3.0, "pallets")),
    ],
)
def test_a_number_keeps_its_unit(description, unit, said, expected):
    need = DataNeed("thing", description, type=float, unit=unit)
    if isinstance(expected, str):
        with pytest.raises(NotFound, match=expected):
            read_value(need, said)
    else:
        found = read_value(need, said)
        assert (found.value, found.unit) == expected
