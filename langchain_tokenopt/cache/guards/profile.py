"""What the guards read off one text: words, numbers, dates, names, negations."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from langchain_tokenopt.cache.guards.word_tables import (
    ASPECT_WORDS,
    FORMS_OF_BE,
    FRAME_WORDS,
    FUNCTION_WORDS,
    LANGUAGES_OF,
    NEGATORS,
    STOP_WORDS_OF,
)
from langchain_tokenopt.text.numbers import DATES, quantities
from langchain_tokenopt.text.scripts import script_of
from langchain_tokenopt.text.stems import stem

__all__ = ["Profile", "profile_of"]


_BARE_NOT_FORMS = (
    (re.compile(r"\bcannot\b", re.I), "can not"),
    (re.compile(r"\b(dont|doesnt|didnt|isnt|cant|wont|hasnt|havent|wasnt|arent)\b", re.I), "not"),
)
_NOT_FORMS = (
    (re.compile(r"\b(ca)n[\u2019']t\b", re.I), r"\1n not"),
    (re.compile(r"\b(wo)n[\u2019']t\b", re.I), "will not"),
    _BARE_NOT_FORMS[0],
    (re.compile(r"n[\u2019']t\b", re.I), " not"),
    _BARE_NOT_FORMS[1],
)
_SHORT_FORMS = (
    (
        re.compile(r"\b(what|who|where|how|why|when|that|there|it|he|she)[\u2019']s\b", re.I),
        r"\1 is",
    ),
    (re.compile(r"[\u2019'](re)\b", re.I), " are"),
    (re.compile(r"[\u2019'](ll)\b", re.I), " will"),
    (re.compile(r"[\u2019'](ve)\b", re.I), " have"),
    (re.compile(r"[\u2019'](m)\b", re.I), " am"),
    (re.compile(r"[\u2019'](d)\b", re.I), " would"),
    (re.compile(r"[\u2019']s\b", re.I), ""),
)


_TOKEN = re.compile(
    r"[\w.+-]+@[\w.-]+\w|https?://\S+|\d[\d.,:/]*\d|\d|[^\W\d_]+(?:\d[\w-]*)?|[%$€£]|[.?!]+(?=\s)",
)


@dataclass(frozen=True, slots=True)
class Profile:
    """What the guards read off one text."""

    text: str
    words: tuple[str, ...]
    """All words in order, lower case, short forms written out."""
    content: tuple[str, ...]
    """The words that carry matter, in order."""
    content_set: frozenset[str]
    stems: frozenset[str]
    numbers: tuple[tuple[str, str], ...]
    """Sorted numbers with their units, '' where there is none."""
    dates: frozenset[str]
    ids: frozenset[str]
    """Words mixing letters and digits, addresses, links."""
    negated: tuple[frozenset[str], ...]
    """For each negation, the next three content words' stems."""
    entities: frozenset[str]
    """Capitalised words that do not begin a sentence, lower case."""
    language: str
    aspect: frozenset[str]
    squeezed: str
    """Letters and digits only, lower case."""
    initials: str
    """First letters of all words, to find what an acronym stands for."""


_SHORT = 600
"""Characters up to which a text is remembered: the profile of an answer of 2.4 kB takes 130 kB."""


def profile_of(text: str) -> Profile:
    """Read *text*; the last 16,384 short texts are remembered.

    Example:
        >>> profile_of("Isn't 5 kg too heavy for Ryanair?").numbers
        (('5', 'kg'),)
    """
    return _profile_before(text) if len(text) <= _SHORT else _profile(text)


def _profile(text: str) -> Profile:
    raw = _TOKEN.findall(_spelled_out(text))
    words = tuple([w.lower() for w in raw if w[0] not in ".?!"])
    content = tuple([w for w in words if w not in FRAME_WORDS])
    return Profile(
        text=text,
        words=words,
        content=content,
        content_set=frozenset(content),
        stems=frozenset(map(stem, content)),
        numbers=quantities(words),
        dates=frozenset([DATES[w] for w in words if w in DATES]),
        ids=frozenset([w for w in words if not w.isalpha() and _is_id(w)]),
        negated=_negations(words),
        entities=_entities(raw),
        language=_language(text, words),
        aspect=_aspect(words),
        squeezed="".join(filter(str.isalnum, text.lower())),
        initials="".join([w[0] for w in words]),
    )


_profile_before = lru_cache(maxsize=16_384)(_profile)


def _spelled_out(text: str) -> str:
    """Write short forms out; most texts have none, which is cheaper to see than to search for."""
    marked = "'" in text or "\u2019" in text
    lower = text.lower()
    if marked or "nt" in lower or "cannot" in lower:
        for pattern, replacement in _NOT_FORMS if marked else _BARE_NOT_FORMS:
            text = pattern.sub(replacement, text)
    if marked:
        for pattern, replacement in _SHORT_FORMS:
            text = pattern.sub(replacement, text)
    return text


def _is_id(word: str) -> bool:
    if "@" in word or "://" in word:
        return True
    return any(c.isdigit() for c in word) and word[0].isalpha()


def _negations(words: Sequence[str]) -> tuple[frozenset[str], ...]:
    found = []
    for at, word in enumerate(words if not NEGATORS.isdisjoint(words) else ()):
        if word not in NEGATORS:
            continue
        if at and words[at - 1] in ("or", "why", "if"):  # "or not", "why not": not a denial
            continue
        ahead = [w for w in words[at + 1 :] if w not in FRAME_WORDS][:3]
        found.append(frozenset(map(stem, ahead)))
    return tuple(found)


def _entities(raw: Sequence[str]) -> frozenset[str]:
    """Return capitalised words inside sentences; none when the whole text is in title case."""
    found, capitalised, letters, start = [], 0, 0, True
    for token in raw:
        if token[0] in ".?!":
            start = True
            continue
        if token[0].isalpha():
            letters += 1
            if token[0].isupper():
                capitalised += 1
                lower = token.lower()
                acronym = len(token) > 1 and token.isupper()
                if lower not in FUNCTION_WORDS and (not start or acronym):
                    found.append(lower)
        start = False
    if letters >= 6 and capitalised > 0.7 * letters:
        return frozenset()
    return frozenset(found)


_LAST_LATIN = "\u024f"
_SCRIPTS = frozenset(["greek", "cyrillic", "hebrew", "arabic", "indic", "kana", "han", "hangul"])
"""A word in one of these decides, however many others there are."""


def _language(text: str, words: Sequence[str]) -> str:
    """Return a script or a language code; '' where the text is too short."""
    for character in "" if text.isascii() else text:
        if character <= _LAST_LATIN or not character.isalpha():
            continue
        if (script := script_of(character)) in _SCRIPTS:
            return script
    counts = dict.fromkeys(STOP_WORDS_OF, 0)
    for word in words:
        for name in LANGUAGES_OF.get(word, ()):
            counts[name] += 1
    best = max(counts, key=counts.__getitem__)
    most = counts.pop(best)
    return best if most >= 2 and most > max(counts.values()) else ""


def _aspect(words: Sequence[str]) -> frozenset[str]:
    """Say whether the text is about what used to be or what is about to become."""
    found: set[str] = set()
    if ASPECT_WORDS.isdisjoint(words):
        return frozenset()
    for at, word in enumerate(words):
        ahead = words[at - 1] if at else ""
        after = words[at + 1] if at + 1 < len(words) else ""
        if (
            word in ("used", "use")
            and after == "to"
            and ahead not in FORMS_OF_BE | {"i", "can", "to"}
        ):
            found.add("used to")
        if word == "becoming":
            found.add("becoming")
        if word in ("former", "formerly", "previously"):
            found.add("used to")
    return frozenset(found)
