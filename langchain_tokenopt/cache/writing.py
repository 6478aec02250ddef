"""How a text is written: what may be written otherwise and mean the same to every reader.

Everything here is an allow list. What is not on it counts as a difference.
"""

from __future__ import annotations

import re
from typing import Final
from unicodedata import category, normalize

__all__ = ["canonical", "has_hidden_characters", "same_words"]

_BREAKS: Final = re.compile(r"\r\n?|[\u2028\u2029\x85]")
_VARIANTS: Final = str.maketrans(
    {
        **dict.fromkeys("\u2018\u2019\u201a\u201b\u2032\u02bc\uff07", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u201f\u00ab\u00bb\uff02", '"'),
        **dict.fromkeys("\u00a0\u2007\u202f\u3000\u2009", " "),
        **dict.fromkeys("\u2010\u2011", "-"),
        "\u2026": "...",
        "\uff1f": "?",
        "\uff01": "!",
        "\uff0c": ",",
        "\uff1a": ":",
        "\uff08": "(",
        "\uff09": ")",
        "\uff0e": ".",
        "\u037e": ";",
        "\u061f": "?",
    }
)
"""Signs that stand for one another in running text, such as straight and curved quotation marks."""
_SPACED_DASH: Final = re.compile(r" [\u2013\u2014-]{1,2} ")
_UNSEEN: Final = frozenset("\u200b\u2060\ufeff\u00ad")
"""Marks that only say where a line may break; browsers and word processors add and lose them."""
_FEW: Final = 4
_HIDDEN: Final = frozenset(["Cc", "Cf", "Cn", "Co", "Cs"])
_PLAIN_SPACE: Final = frozenset("\t\n ")


def canonical(text: str) -> str:
    r"""Return *text* in Unicode's form C, with plain line ends and without outer blanks.

    Equal canonical texts are one request: no model and no reader can tell them apart by meaning.

    Example:
        >>> canonical("Cafe\u0301?\r\n") == "Caf\u00e9?"
        True
    """
    if text.isascii() and "\r" not in text:
        return text.strip()
    return _BREAKS.sub("\n", normalize("NFC", text)).strip()


def has_hidden_characters(text: str) -> bool:
    r"""Say whether *text* holds characters that a reader does not see and a model does.

    A question with hidden words must not plant its answer for the plain one (Unicode tags,
    variation selectors and direction marks carry text that nobody sees).

    Example:
        >>> has_hidden_characters("What is up?"), has_hidden_characters("What\U000e0041 is up?")
        (False, True)
    """
    if text.isascii() and text.isprintable():
        return False
    characters = set(text)
    if any(_is_hidden(c) for c in characters - _UNSEEN - _PLAIN_SPACE):
        return True
    return sum(map(text.count, _UNSEEN & characters)) >= _FEW


def _is_hidden(character: str) -> bool:
    return category(character) in _HIDDEN or "\ufe00" <= character <= "\ufe0f"


def shown(text: str) -> str:
    """Return *text* with one form for each sign that is written in several."""
    if not text.isascii():  # all that is written in several ways
        text = "".join(c for c in text if c not in _UNSEEN).translate(_VARIANTS)
    return _SPACED_DASH.sub(" - ", text)


_PROSE_SIGNS: Final = frozenset(" .,?!'\"()¿¡。、،।-")
"""The only signs beside letters and digits that stand in prose: no code, formula, list or table."""
_WORD: Final = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*")
_ENDS: Final = frozenset(".?。।")
_GREETING: Final = re.compile(r"^(?:hi|hello|hey|hallo|bonjour|hola|ciao)(?: there)?[,!.] ", re.I)
_POLITE_START: Final = re.compile(r"^(?:please|bitte)[, ]+(?=\w+ )", re.I)
_POLITE_END: Final = re.compile(
    r"(?:, (?:please|bitte|por favor|s'il vous plaît|per favore|thanks|thank you|danke)"
    r"|[.!?] (?:please|thanks|thank you|danke|merci|gracias|grazie)(?: in advance)?)[.!]*$",
    re.I,
)


def same_words(text: str) -> str | None:
    """Return the form that all writings of the same words share; ``None`` where every sign counts.

    In prose these are harmless, and nothing else is: a small letter at the very beginning, the full
    stop or question mark at the very end, a greeting and "please", blanks, and signs that stand for
    one another. Numbers, quotations and capitals inside stay as they are written. Text with any
    other sign than those of prose (code, formulas, lists, anything of several lines) has no such
    form.

    Example:
        >>> same_words("how do I reset my PIN") == same_words("Hi, how do I reset my PIN?")
        True
        >>> same_words("git branch -d") == same_words("git branch -D"), same_words("x = 5")
        (False, None)
    """
    text = shown(canonical(text))
    if not text or not all(map(_is_of_words, set(text) - _PROSE_SIGNS)):
        return None
    text = without_courtesy(" ".join(text.split()))
    bare = text[:-1].rstrip()
    if text[-1:] in _ENDS and bare and _is_of_words(bare[-1]) and not bare[-1].isdigit():
        text = bare
    first = _WORD.match(text)
    if first and len(first[0]) > 1 and first[0][1:].islower():
        text = text[0].lower() + text[1:]
    return text


def without_courtesy(text: str) -> str:
    """Return *text*, in one line and as :func:`shown`, without a greeting, "please" and thanks."""
    return _POLITE_START.sub("", _POLITE_END.sub("", _GREETING.sub("", text)))


def _is_of_words(character: str) -> bool:
    """Say whether a character is part of a word or number; marks join letters in many scripts."""
    return character.isalnum() or category(character).startswith("M")
