"""A question as tokens: words, numbers with their units, pauses, and what stands as it is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from unicodedata import decimal

from langchain_tokenopt.cache.wording.language import words_of

__all__ = ["ENDS", "PAUSE", "VERBATIM", "Reading", "cut", "fold_digits"]

PAUSE: Final = ","
ENDS: Final = frozenset(".?!")
VERBATIM: Final = "\x01"
"""Before what counts to the letter: quotations, code, names with signs, text to work on."""
_BLANK: Final = "\x02"

_CHUNK: Final = re.compile(
    r"`[^`\n]+`|\"[^\"\n]+\"|(?<![\w'])'[^'\n]{2,}'(?!\w)|(?:(?!\s|(?<=[\s(])\").)+", re.S
)
_NUMBER: Final = re.compile(r"[+-]?\d(?:[\d.,:/]*\d)?")
_ORDINAL: Final = re.compile(r"\d+(?:st|nd|rd|th)")
_MONEY: Final = re.compile(r"([$\u20ac\u00a3\u00a5])(\d(?:[\d.,]*\d)?)")
_AMOUNT: Final = re.compile(
    r"([+-]?\d(?:[\d.,]*\d)?)(%|\u00b0[CF]?|[\u20ac$\u00a3]|[^\W\d_]{1,4}\d?|"
    r"[^\W\d_]+/[^\W\d_]+\d?)"
)
_WORD: Final = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*'?")
_DOTTED: Final = re.compile(r"(?:[^\W\d_]\.){2,}[^\W\d_]?|(?:[^\W\d_]\.)+[^\W\d_]")
_NAME: Final = re.compile(r"\w+(?:[./_-]\w+)*[+#]{0,2}")
"""Ids, file names, versions, C++: signs that do not make code of a text."""
_CLOSED: Final = re.compile(r"[.,;:?!)\u2026]+$")
_LONG_QUOTATION: Final = 4
"""Words from which a quotation is text that somebody has written, and not a term."""
_GLUED_UNITS: Final = words_of(
    "g kg mg m km cm mm l ml h min s ms hz khz mhz ghz w kw kwh wh v mb gb tb kb % km/h m/s "
    "mph usd eur °c °f € $ £ pm am mmol mol kpa hpa pa nm ft lb lbs oz"
)
_UNIT_SIGNS: Final = frozenset(["%", "€", "$", "£", "°", "°C", "°F"])
_ONE_WORD: Final = frozenset(["wifi", "email", "emails", "ebook", "tshirt", "online", "offline"])


@dataclass(slots=True)
class Reading:
    """The tokens of a text."""

    tokens: list[str]
    has_signs: bool = False
    """Whether it holds signs of code or formulas, beside which articles and capitals may count."""


def fold_digits(text: str) -> str:
    """Return *text* with the digits of all scripts as Latin ones."""
    if text.isascii():
        return text
    return "".join(
        str(decimal(c)) if c.isdecimal() and not c.isascii() else _SMALL.get(c, c) for c in text
    )


_SMALL: Final = {
    **dict(zip("₀₁₂₃₄₅₆₇₈₉", "0123456789", strict=True)),
    "→": "->",
    "−": "-",
    "œ": "oe",
    "Œ": "Oe",
}


def verbatim(text: str) -> str:
    """Return the token of a text that counts to the letter."""
    return VERBATIM + " ".join(text.split()).replace(" ", _BLANK)


def cut(text: str, *, keeps_quotations: bool) -> Reading:
    """Cut a text of one paragraph into tokens.

    Args:
        text: With one form for each sign.
        keeps_quotations: Whether a quotation counts to the letter, however short it is.
    """
    reading = Reading([])
    chunks = _CHUNK.findall(text)
    for at, chunk in enumerate(chunks):
        if chunk.isalpha():
            reading.tokens.append(chunk)
            continue
        before = chunks[at - 1] if at else ""
        after = chunks[at + 1] if at + 1 < len(chunks) else ""
        if chunk[0] in "`\"'" and len(chunk) > 2 and chunk[-1] == chunk[0]:
            _take_quotation(reading, chunk, keeps_quotations)
        else:
            _take(reading, chunk, before, after)
    return reading


def _take_quotation(reading: Reading, chunk: str, keeps: bool) -> None:
    said = chunk[1:-1].strip()
    words = said.split()
    is_term = len(words) < _LONG_QUOTATION and all(map(_WORD.fullmatch, words))
    if chunk[0] == "`" or keeps or not is_term:
        reading.tokens.append(verbatim(chunk if chunk[0] == "`" else said))
    else:
        reading.tokens += words


def _take(reading: Reading, chunk: str, before: str, after: str) -> None:
    tokens = reading.tokens
    core, end = ("", "") if chunk in ("-", "--") else _parted(chunk, after)
    if core:
        if end == "!" and (core[-1:].isdigit() or (not after and len(tokens) < 1)):
            core, end = core + end, ""
        found = _tokens_in(core, before, after)
        reading.has_signs |= any(map(_is_of_code, found))
        tokens += found
    elif chunk in ("-", "--"):
        is_minus = before[-1:].isdigit() or after[:1].isdigit() or not before
        reading.has_signs |= is_minus
        tokens.append(VERBATIM + chunk if is_minus else PAUSE)
    if end and not (end == "." and _DOTTED.fullmatch(core) and after[:1].islower()):
        tokens.append(end)


def _parted(chunk: str, after: str) -> tuple[str, str]:
    """Part a chunk from the signs that end a sentence or a part of it."""
    core = chunk.lstrip("\u00bf\u00a1")
    found = None if core[-1:].isalnum() else _CLOSED.search(core)
    closing = found[0] if found else ""
    if closing and core != closing:
        if after[:1].islower() and set(closing) & {"?", "!"}:
            return core, ""  # "empty?" in the middle of a sentence is a name
        core = core[: -len(closing)]
    elif closing:
        return "", _end(closing)
    if "(" in core or ")" in closing:
        core, closing = _without_brackets(core, closing)
    return core, _end(closing)


def _without_brackets(core: str, closing: str) -> tuple[str, str]:
    """Leave out brackets around words; those around numbers and of calls stay."""
    if core[0] == "(" and core[1:2].isalpha() and core.count("(") == 1:
        if len(core) == 2 and ")" in closing:
            return f"({core[1]})", closing.replace(")", "")  # (a) in a list
        return core[1:], closing.replace(")", ",") or ""
    if "(" not in core and core[-1:].isalpha():
        return core, closing.replace(")", "") or ","
    at = closing.find(")") + 1
    return core + closing[:at], closing[at:]


def _end(closing: str) -> str:
    for sign in "!?.":
        if sign in closing:
            return sign
    return PAUSE if closing else ""


def _tokens_in(core: str, before: str, after: str) -> list[str]:
    if core.isalpha():
        return [core]
    if core in _UNIT_SIGNS:
        return [core.lower()]
    if core.replace("-", "").lower() in _ONE_WORD:
        return [core.replace("-", "").lower()]
    if _WORD.fullmatch(core):
        parts = core.split("-")
        is_compound = len(parts) > 1 and all(len(part) > 1 for part in parts)
        if (is_compound or "-t-" in core) and not parts[-1].endswith(("ing", "ed")):
            return parts
        return [core]
    if _NUMBER.fullmatch(core) or _ORDINAL.fullmatch(core):
        return [core]
    if money := _MONEY.fullmatch(core):
        return [money[2], money[1]]
    if (amount := _AMOUNT.fullmatch(core)) and amount[2].lower() in _GLUED_UNITS:
        return [amount[1], amount[2]]
    if _DOTTED.fullmatch(core):
        return [core.replace(".", "").upper() if len(core) > 4 else core.replace(".", "").lower()]
    return [VERBATIM + core]


def _is_of_code(token: str) -> bool:
    return token[0] == VERBATIM and not _NAME.fullmatch(token, 1)
