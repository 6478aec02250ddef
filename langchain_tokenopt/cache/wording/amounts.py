"""Numbers and units, in one of the ways in which they are written."""

from __future__ import annotations

import re
from typing import Final

from langchain_tokenopt.cache.wording.english import ENGLISH
from langchain_tokenopt.cache.wording.language import Language, words_of
from langchain_tokenopt.text.numbers import UNITS

__all__ = ["number_in", "unit_in"]

_THOUSANDS: Final = re.compile(r"(?<=\d),(?=\d{3}(?:\D|$))")
_ORDINAL: Final = re.compile(r"\d+(?:st|nd|rd|th)")
_CURRENCIES: Final = frozenset(["usd", "eur", "gbp", "inr"])
_SHORT: Final = 3
_SYMBOLS: Final = words_of(
    "g kg mg m km cm mm l ml h min s ms Hz kHz MHz GHz W kW MW kWh Wh V kV mV MB GB TB kB "
    "km/h m/s mph mmol mol kPa hPa Pa nm mA A J kJ N eV bar psi"
)
_NAMED: Final = {
    name: unit
    for unit, names in {
        "eur": "euros euro", "%": "prozent", "kg": "kilogramm kilogrammes kilogramos chilogrammi",
        "g": "gramm grammes gramos grammi", "km": "kilomètres kilómetros chilometri quilômetros",
        "hour": "stunde stunden std heure heures hora horas ora ore uur",
        "minute": "minuten minutos minuti", "second": "sekunde sekunden segundos secondi",
        "day": "tag tage tagen jour jours día días giorno giorni dia dias dagen",
        "week": "woche wochen semaine semaines semana semanas settimana settimane weken",
        "year": "jahr jahre jahren an ans año años anno anni ano anos jaar",
        "%_": "%",
    }.items()
    for name in names.split()
}  # fmt: skip


def number_in(token: str, language: Language | None) -> str:
    """Return the digits that a token stands for; '' for none."""
    if token[-1].isdigit() and (token[0].isdigit() or token[0] in "+-"):
        return _THOUSANDS.sub("", token) if language is ENGLISH else token
    if language is None:
        return ""
    if language is ENGLISH and token[0].isdigit() and _ORDINAL.fullmatch(token):
        return token
    return language.numbers.get(token.lower(), "")


def unit_in(word: str) -> str:
    """Return the unit that a word after a number stands for; '' for none."""
    if word in _SYMBOLS:
        return "_" + UNITS.get(word, word)
    low = word.lower()
    unit = UNITS.get(low) or (_NAMED.get(low) if len(low) > 1 else None)
    if unit is None or low in ("in", "m", "f", "c", "g", "l"):
        return ""
    has_one_form = word.islower() or not word.isalpha() or unit in _CURRENCIES
    if has_one_form or len(word) > _SHORT or unit in ("am", "pm"):
        return "_" + unit
    return ""
