"""Numbers as people write them in answers, each with its unit, and never a part of one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Final

from langchain_tokenopt.data_requests.dates import dates_in
from langchain_tokenopt.data_requests.number_words import number_words_in
from langchain_tokenopt.text.languages import language_of
from langchain_tokenopt.text.numbers import UNITS

__all__ = ["MONEY", "Quantity", "quantities_in", "unit_in", "unit_named"]


def _table(**names: str) -> dict[str, str]:
    return {name: unit for unit, said in names.items() for name in said.split()}


_MORE_UNITS: Final[Mapping[str, str]] = {
    **_table(
        second="sekunde sekunden seconde secondes segundo segundos secondo secondi 秒",
        minute="minuten minutes minuto minutos minuti 分钟 分",
        hour="stunde stunden std heure heures hora horas ora ore uur 小时 時間 시간",
        day="tag tage tagen jour jours día días dia dias giorno giorni dag dagen 天 日間 日 일",
        week="woche wochen semaine semaines semana semanas settimana settimane weken 周 週間",
        month="monat monate monaten mois mes meses mese mesi maand maanden 个月 ヶ月 か月 개월",
        year="jahr jahre jahren an ans année années año años anno anni ano anos jaar 年",
        usd="us$ dólares dolares dollari 美元",
        eur="欧元 ユーロ euroes",
        gbp="pfund libras",
        chf="chf franken sfr",
        jpy="¥ jpy yen 円",
        cny="cny rmb yuan 元 人民币",
        cent="cent cents ct cts ¢ céntimo céntimos centime centimes centesimo centesimi centavo "
        "centavos cêntimo cêntimos penny pence rappen",
        kg="kilogramm kilogrammes kilogramos kilogrammi 公斤 キロ",
        g="gramm grammes gramos",
        km="kilomètres kilómetros chilometri 公里",
        m="metro metros metri mètres 米",
        l="litro litros litri",
    ),
    **_table(**{"%": "prozent porcentaje pourcent procent"}),
}
_SIGNS: Final[Mapping[str, str]] = {"$": "usd", "€": "eur", "£": "gbp", "¥": "jpy", "₹": "inr"}
_KNOWN: Final[Mapping[str, str]] = {**UNITS, **_MORE_UNITS, **_SIGNS}
"""What is written, in lower case, and the unit that it stands for."""

_TIMES: Final[Mapping[str, int]] = {
    word: 10**power
    for power, words in {
        3: "k tsd tausend thousand mil mille mila 千",
        4: "万 萬",
        6: "million millions mio millionen millón millones millon milioni milione milhão milhões "
        "miljoen 百万",
        8: "亿 億",
        9: "billion billions mrd milliarden milliarde milliards miljard",
    }.items()
    for word in words.split()
}
"""What multiplies the number before it. "billón" does not: it is another number in each country."""

_DIGITS: Final = re.compile(
    r"(?<![0-9A-Za-z_])(?<![0-9][.,/:’'])"
    r"(?P<digits>[0-9]{1,3}(?:[ \u00a0\u202f'’][0-9]{3})+(?:[.,][0-9]+)?(?![0-9])"
    r"|[0-9]+(?:[.,][0-9]+)*)(?![0-9]|[.:/][0-9])"
)
_AFTER: Final = re.compile(r"[ \u00a0\u202f]?(%|‰|°[CFcf]?|[$€£¥₹]|[^\W\d_]+\.?)")
_CODE: Final = re.compile(r"(?:\b([A-Za-z]{2,3}|US\$)[ \u00a0]?|([$€£¥₹])[ \u00a0]?)$")
_FROM: Final = re.compile(
    r"(?:\bbetween|\bzwischen|\bentre|\btra|\bfra|\btussen|\bfrom|\bvon|\bde|\bda|\bvan)\s+"
    r"[$€£¥]?\s*$",
    re.IGNORECASE,
)
_AND: Final = re.compile(r"\s*(?:and|und|y|et|e|en|à|tot)\s+[$€£¥]?\s*[0-9]", re.IGNORECASE)
_RANGE: Final = re.compile(
    r"\s*(?:[-–—~]|to|bis|à|a|至|到|or|oder|ou|o|of|或)\s*[$€£¥]?\s*[0-9]", re.IGNORECASE
)
MONEY: Final = frozenset({"usd", "eur", "gbp", "inr", "chf", "jpy", "cny"})
_LANGUAGES_WITH_POINTS: Final = frozenset({"de", "es", "fr", "it", "pt", "nl"})
"""In which ``1.200`` is twelve hundred, and ``1,5`` one and a half."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number in a text, with all that belongs to it."""

    readings: tuple[Decimal, ...]
    """What it may mean, the likeliest first: ``1.200`` is written for two numbers."""
    unit: str | None
    start: int
    end: int
    """Where it stands, sign, unit and multiplier included."""
    is_range: bool = False
    """It is one end of a range."""


def unit_named(name: str) -> str:
    """Return the unit that *name* stands for; a name that is not known stands for itself.

    Example:
        >>> unit_named("Euro"), unit_named("days"), unit_named("pallets")
        ('eur', 'day', 'pallets')
    """
    low = name.strip().casefold()
    return _KNOWN.get(low.rstrip("."), low)


def unit_in(description: str) -> str | None:
    """Return the unit that a description asks for: "budget in EUR", "stay (days)".

    Example:
        >>> unit_in("weight in kg"), unit_in("how long (days)"), unit_in("live in Berlin")
        ('kg', 'day', None)
    """
    found = re.search(
        r"(?:\bin\s+|\(\s*(?:in\s+)?)([^\W\d_]+|[$€£¥%])(?=\s*\)|\s*[,.;?]?\s*$|\s*[,;(])",
        description,
    )
    return None if found is None else _KNOWN.get(found[1].casefold())


def quantities_in(text: str) -> tuple[Quantity, ...]:
    """Find the numbers of *text*, in digits and in words, each whole and with its unit.

    Those of whole dates are none.

    Example:
        >>> [(int(q.readings[0]), q.unit) for q in quantities_in("2 kg for $1,200, three days")]
        [(2, 'kg'), (1200, 'usd'), (3, 'day')]
    """
    return _quantities(text)


@lru_cache(maxsize=64)
def _quantities(text: str) -> tuple[Quantity, ...]:
    days = [(found.start, found.end) for found in dates_in(text)]
    return tuple(
        each
        for each in _each_quantity(text)
        if not any(start < each.end and each.start < end for start, end in days)
    )


def _each_quantity(text: str) -> Iterator[Quantity]:
    with_points = language_of(text) in _LANGUAGES_WITH_POINTS
    last: Quantity | None = None
    for match in _DIGITS.finditer(text):
        readings = _readings(match["digits"], with_points)
        if readings:
            found = _with_unit(text, match.start(), match.end(), readings)
            if found is not None:
                yield _as_range(found) if last and _goes_on(text, last, match.start()) else found
                last = found
    for value, start, end in number_words_in(text):
        whole = _with_unit(text, start, end, (Decimal(value),))
        if whole is not None:
            yield whole


def _goes_on(text: str, last: Quantity, start: int) -> bool:
    """Say whether a number that begins at *start* ends a range that *last* begins."""
    between = text[last.end : start + 1]
    return bool(_RANGE.match(between) or (last.is_range and _AND.match(between)))


def _as_range(found: Quantity) -> Quantity:
    return Quantity(found.readings, found.unit, found.start, found.end, True)


def _with_unit(text: str, start: int, end: int, readings: tuple[Decimal, ...]) -> Quantity | None:
    """Add what stands around a number; ``None`` where it is part of a word, such as "12B"."""
    unit, at, times = None, end, None
    after = _AFTER.match(text, at)
    touches = after is not None and after[0][0] not in " \u00a0\u202f"
    if after is not None:
        word = after[1].rstrip(".").casefold()
        times, rest = _times(word)
        if times is not None:
            readings = tuple(value * times for value in readings)
            at = after.start(1) + len(after[1]) - len(rest)
            after = _AFTER.match(text, at)
            word = "" if after is None else after[1].rstrip(".").casefold()
        unit = _unit_of(word)
        if unit is not None and after is not None:
            at = after.end() - after[1].endswith(".") if word in _KNOWN else after.start(1) + 1
        elif touches and times is None and word.isascii():
            return None
    before = _CODE.search(text, max(0, start - 5), start)
    if before is not None and (sign := _KNOWN.get((before[1] or before[2]).casefold())):
        if unit is None:
            unit = sign
        if unit == sign:
            start = before.start()
    if text[start - 1 : start] in ("-", "−") and text[start - 2 : start - 1].strip() == "":
        readings, start = tuple(-value for value in readings), start - 1
    if unit in MONEY and times is None:  # which has no three decimals
        readings = tuple(sorted(readings, key=abs, reverse=True))
    begins = _FROM.search(text[max(0, start - 12) : start]) and _AND.match(text, at)
    return Quantity(readings, unit, start, at, bool(begins or _RANGE.match(text, at)))


def _times(word: str) -> tuple[int | None, str]:
    """Return by what a word multiplies, and what of it is left."""
    if word in _TIMES:
        return _TIMES[word], ""
    for sign in ("百万", "万", "萬", "亿", "億", "千"):
        if word.startswith(sign):
            return _TIMES[sign], word[len(sign) :]
    return None, word


def _unit_of(word: str) -> str | None:
    if not word or word in _KNOWN:
        return _KNOWN.get(word)
    if word.isascii():
        return None
    fitting = [each for each in _KNOWN if not each.isascii() and word.startswith(each)]
    return _KNOWN[max(fitting, key=len)] if fitting else None


def _readings(digits: str, with_points: bool) -> tuple[Decimal, ...]:
    bare = re.sub(r"[ \u00a0\u202f'’]", "", digits)
    marks = [mark for mark in bare if mark in ".,"]
    if not marks:
        return (Decimal(bare),)
    *whole, last = re.split(r"[.,]", bare)
    are_groups = all(len(group) == 3 for group in whole[1:]) and 1 <= len(whole[0]) <= 3
    if len(set(marks)) == 2:
        is_number = marks[-1] not in marks[:-1] and are_groups
        return (Decimal("".join(whole) + "." + last),) if is_number else ()
    thousands = Decimal("".join((*whole, last)))
    if len(marks) > 1:
        return (thousands,) if are_groups and len(last) == 3 else ()
    fraction = Decimal(f"{whole[0]}.{last}")
    if len(last) != 3 or len(whole[0]) > 3 or whole[0] == "0" or bare != digits:
        return (fraction,)
    as_group = (marks[0] == ".") is with_points
    return (thousands, fraction) if as_group else (fraction, thousands)
