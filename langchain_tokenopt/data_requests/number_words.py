"""Numbers written in words: whole ones only, half of "twenty-five" is another number."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from langchain_tokenopt.text.numbers import NUMBER_WORDS

__all__ = ["number_words_in"]

_SMALL: Final[Mapping[str, int]] = {
    word: value
    for words in (
        "null eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf",
        "cero uno dos tres cuatro cinco seis siete ocho nueve diez once doce",
        "zéro une deux trois quatre cinq six sept huit neuf dix onze douze",
        "zero uno due tre quattro cinque sei sette otto nove dieci undici dodici",
        "zero um dois três quatro cinco seis sete oito nove dez onze doze",
        "nul één twee drie vier vijf zes zeven acht negen tien elf twaalf",
        "zero one two three four five six seven eight nine ten",
    )
    for value, word in enumerate(words.split())
}
_ONES: Final = dict.fromkeys(["ein", "eine", "einen", "einer", "un", "una", "uma", "een"], 1)
_VALUES: Final[Mapping[str, int]] = {
    **_SMALL,
    **_ONES,
    "duas": 2,
    **{word: int(value) for word, value in NUMBER_WORDS.items()},
    **{"sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90},
}
_RUN: Final = re.compile(
    rf"(?<!\w)(?:{'|'.join(sorted(_VALUES, key=len, reverse=True))})"
    rf"(?:(?:\s+|-|\s+and\s+)(?:{'|'.join(sorted(_VALUES, key=len, reverse=True))}))*(?!\w)",
    re.IGNORECASE,
)
_HAN: Final[Mapping[str, int]] = {sign: value for value, sign in enumerate("零一二三四五六七八九")}
_HAN_TIMES: Final[Mapping[str, int]] = {"十": 10, "百": 100, "千": 1000, "万": 10_000}
_HAN_RUN: Final = re.compile(
    r"(?<![0-9])[零一二两三四五六七八九十][零一二两三四五六七八九十百千万]*(?=[\W\d个個人位张張件天日年月周週晚次名只台份元円間泊歳岁时時分]|$)"
)


def number_words_in(text: str) -> Iterator[tuple[int, int, int]]:
    """Find numbers in words: what each means, where it begins and ends.

    Example:
        >>> [value for value, _, _ in number_words_in("twenty-five, two hundred, drei, 十二天")]
        [25, 200, 3, 12]
        >>> list(number_words_in("one two"))
        []
    """
    for match in _RUN.finditer(text):
        value = _value([_VALUES[w] for w in re.findall(r"\w+", match[0].casefold()) if w != "and"])
        if value is not None:
            yield value, match.start(), match.end()
    for match in _HAN_RUN.finditer(text):
        yield _han_value(match[0]), match.start(), match.end()


def _value(parts: Sequence[int]) -> int | None:
    """Return what words in a row mean, as English writes it; ``None`` where that is nothing."""
    if len(parts) == 1:
        return parts[0]
    total = current = 0
    before = 10**9
    for part in parts:
        if part in (100, 1000):
            current = max(current, 1) * part
            if part == 1000:
                total, current = total + current, 0
            before = part
        elif part < before and not (before < 100 and (before < 20 or part >= 10)):
            current, before = current + part, part
        else:
            return None
    return total + current


def _han_value(signs: str) -> int:
    total = digit = 0
    for sign in signs.replace("两", "二"):
        if sign in _HAN_TIMES:
            times = _HAN_TIMES[sign]
            total = (total + digit) * times if times == 10_000 else total + max(digit, 1) * times
            digit = 0
        else:
            digit = digit * 10 + _HAN[sign] if digit else _HAN[sign]
    return total + digit
