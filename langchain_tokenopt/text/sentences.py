"""Where a sentence ends.

Two readers need it. :func:`sentence_ends` reads a whole text (``compress``, ``cache``,
``testing``). ``limits.markdown`` reads a stream one character at a time, and Markdown around the
sentences; it applies the same rules, :func:`is_abbreviation` and :func:`begins_sentence`.

In doubt two sentences are taken for one: a text that is cut after "Dr." or "at 5 p.m." is broken,
one that has a sentence more is not.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import Final

__all__ = [
    "AFTER_END",
    "CJK_ENDS",
    "ENDS",
    "LONGEST_QUOTATION",
    "begins_sentence",
    "is_abbreviation",
    "is_before_number",
    "may_be_ordinal",
    "quoted_spans",
    "sentence_ends",
    "sentences_of",
]

CJK_ENDS: Final = "。！？｡"
"""These end a sentence without a space behind them."""
ENDS: Final = ".!?…" + CJK_ENDS
AFTER_END: Final = ")]}\"'”’»›“*_~`）］｝」』】》〉"
"""What belongs to a sentence that has ended: closing brackets, quotation marks and emphasis."""

LONGEST_QUOTATION: Final = 600
"""Characters; what looks longer than this is more likely a quotation mark gone astray."""


# --- full stops that end no sentence -------------------------------------------------------------


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ABBREVIATIONS: Final = _words(
    """
    mr mrs ms dr prof mt vs eds cf approx inc ltd co corp dept gov rep sen rev hon
    gen col lt sgt capt jr
    hr fr str bzw ca evtl ggf inkl exkl zzgl vgl mio mrd jh geb gest sog usw
    dipl ing hrsg verf aufl österr allg bes entspr ggü gem st
    sr sra srta dra ee uu ud uds vd vds aprox av avda dpto ej gral lic admón
    """
)
"""English, German and Spanish; without their full stop."""
_BEFORE_NUMBERS: Final = _words(
    """
    no nos fig vol pp ed ch sec tel ext jan feb mar apr jun jul aug sep sept oct nov dec
    nr abs art bd kap tab abb núm pág págs cap tlf
    """
)
_DOTTED = re.compile(r"(?:[^\W\d_]{1,3}\.)*[^\W\d_]|(?:[^\W\d_]{1,3}\.)+[^\W\d_]{1,3}")
"""Initials and their like: "J", "z.B", "U.S", "Ph.D"."""
_ORDINAL = re.compile(r"\d{1,2}")
_OPENING: Final = "([{\"'“„«‚‘*_¿¡"


def _bare(token: str) -> str:
    return token.lstrip(_OPENING).lower()


def is_abbreviation(token: str) -> bool:
    """Say whether a full stop after *token* belongs to it.

    Example:
        >>> [is_abbreviation(token) for token in ("Dr", "(z.B", "J", "No", "rain")]
        [True, True, True, False, False]
    """
    token = _bare(token)
    return token in _ABBREVIATIONS or _DOTTED.fullmatch(token) is not None


def is_before_number(token: str) -> bool:
    """Say whether *token* is an abbreviation where a number follows, and a word otherwise.

    Example:
        >>> is_before_number("No"), is_before_number("Dr")
        (True, False)
    """
    return _bare(token) in _BEFORE_NUMBERS


def may_be_ordinal(token: str) -> bool:
    """Say whether *token* and a full stop may be an ordinal, as in the German "am 3. Mai".

    Example:
        >>> may_be_ordinal("3"), may_be_ordinal("2026")
        (True, False)
    """
    return _ORDINAL.fullmatch(_bare(token)) is not None


_GOES_ON: Final = frozenset("とっはがをにもでなの、，,")


def begins_sentence(
    first: str, *, after_number_word: bool = False, after_cjk: bool = False, quoted: bool = False
) -> bool:
    """Say whether a sentence may begin with the character *first*, after one that may have ended.

    Args:
        first: The first character behind the space.
        after_number_word: Whether the full stop stands behind one of :func:`is_before_number`.
        after_cjk: Whether the sentence before ends with one of :data:`CJK_ENDS`.
        quoted: Whether a quotation mark has closed since. Some particles then go on with the
            sentence around a Japanese quotation.

    Example:
        >>> begins_sentence("T"), begins_sentence("t"), begins_sentence("5", after_number_word=True)
        (True, False, False)
    """
    if after_cjk:
        return not (quoted and first in _GOES_ON)
    return not (first.islower() or (after_number_word and first.isdigit()))


# --- a whole text --------------------------------------------------------------------------------


def _end_pattern(begins: str) -> re.Pattern[str]:
    """Begins with one class of characters, by which the scanner of ``re`` skips everything else."""
    return re.compile(
        r"[.!?…。！？｡\n](?:"
        r"(?<=[.!?…])(?<![.!?…]{2})[.!?…]*[\"'”’)\]»*_]*"
        rf"(?:[ \t]*[\r\n]+|(?=[ \t]+{begins}))"
        r"|(?<=[。！？｡])[。！？｡]*[”』」）]*[ \t]*[\r\n]*"
        r"|(?<=\n)[ \t]*\r?\n\s*"
        r")"
    )


_END = _end_pattern(r"[\"'“‘„«(\[¿¡*_]*[^\W_a-z]")
_END_IN_CHATS = _end_pattern(r"\S")

_LONGEST: Final = 8
"""Characters before a full stop that are looked at: no abbreviation is longer."""
_BEFORE_ORDINALS: Final = _words("am der dem den des die das vom zum im seit")
"""German writes "am 3. Mai" where English sentences end in "at 3." as well."""


def sentence_ends(
    text: str, start: int = 0, end: int | None = None, *, small_letters: bool = False
) -> list[int]:
    """Return where each sentence of ``text[start:end]`` ends; the last one is *end*.

    No sentence ends inside a quotation, a placeholder or inline code. Spaces belong to the sentence
    after them, line breaks to the one before.

    Args:
        text: Whatever is to be cut; it may be as long as it likes.
        start: Where to begin.
        end: Where to stop; ``None`` for the end of the text.
        small_letters: Whether sentences may begin with a small letter, as people write in chats.

    Example:
        >>> text = "Dr. Who paid 3.5 EUR. It rained."
        >>> sentence_ends(text)
        [21, 32]
    """
    end = len(text) if end is None else end
    if start:  # a pattern that looks back must not see what stands before the part
        part = text[start:end]
        return [start + at for at in sentence_ends(part, small_letters=small_letters)]
    ends = []
    for match in (_END_IN_CHATS if small_letters else _END).finditer(text, start, end):
        at, cut = match.span()
        if text[at] != "." or text[cut - 1] == "\n" or not _abbreviates(text, start, at):
            ends.append(cut)
    if not ends or ends[-1] != end:
        ends.append(end)
    if len(ends) > 1:
        ends = _outside_quotations(text, start, end, ends)
    if len(ends) > 1 and not text[ends[-2] : end].strip():
        ends.pop(-2)
    return ends


def sentences_of(text: str, *, small_letters: bool = False) -> list[str]:
    """Return the sentences of *text* without the space around them; empty ones are left out.

    Example:
        >>> sentences_of("Mr. Smith left at 5. We stayed!  See https://example.com/a.b?c=d.")
        ['Mr. Smith left at 5.', 'We stayed!', 'See https://example.com/a.b?c=d.']
        >>> sentences_of("hi there. how are you?", small_letters=True)
        ['hi there.', 'how are you?']
    """
    start, found = 0, []
    for end in sentence_ends(text, small_letters=small_letters):
        found.append(text[start:end].strip())
        start = end
    return [sentence for sentence in found if sentence]


def _abbreviates(text: str, start: int, dot: int) -> bool:
    """Say whether the full stop at *dot* ends an abbreviation, initial or ordinal (3. Mai)."""
    word = text[max(start, dot - _LONGEST) : dot].rpartition(" ")[2].rpartition("\n")[2]
    if may_be_ordinal(word):
        before = text[max(start, dot - 16) : dot].split()
        return len(before) < 2 or before[-2].lower() in _BEFORE_ORDINALS
    if is_before_number(word):
        return text[dot + 1 : dot + 4].lstrip()[:1].isdigit()
    return is_abbreviation(word)


def _outside_quotations(text: str, start: int, end: int, ends: list[int]) -> list[int]:
    """Leave out the ends that fall into a quotation, a placeholder or code."""
    spans = quoted_spans(text, start, end)
    if not spans:
        return ends
    starts = [first for first, _ in spans]
    free = []
    for cut in ends:
        at = bisect_right(starts, cut - 1) - 1
        if cut == end or at < 0 or spans[at][1] <= cut:
            free.append(cut)
    return free


_QUOTATIONS: Final = (
    ('"', '"'),
    ("“", "”"),
    ("„", "“"),
    ("«", "»"),
    ("「", "」"),
    ("『", "』"),
    ("`", "`"),
    ("{", "}"),
)


def quoted_spans(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """Return the quotations, code and placeholders in ``text[start:end]``, in order.

    Example:
        >>> quoted_spans('She said "Go. Now." twice.', 0, 26)
        [(9, 19)]
    """
    spans: list[tuple[int, int]] = []
    for opening, closing in _QUOTATIONS:
        at = text.find(opening, start, end)
        while at >= 0:
            until = text.find(closing, at + 1, min(end, at + LONGEST_QUOTATION + 2))
            if until > 0 and "\n" not in text[at:until]:
                spans.append((at, until + 1))
                at = text.find(opening, until + 1, end)
            else:
                at = text.find(opening, at + 1, end)
    spans.sort()
    return spans
