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
from functools import lru_cache
from typing import Final

__all__ = [
    "AFTER_END",
    "CJK_ENDS",
    "ENDS",
    "LONGEST_QUOTATION",
    "begins_sentence",
    "is_abbreviation",
    "is_before_number",
    "is_letter_behind",
    "may_be_ordinal",
    "quoted_spans",
    "sentence_ends",
    "sentences_of",
]

CJK_ENDS: Final = "。！？｡।॥؟۔።፧။។։"
"""These end a sentence without a space behind them: full stops of Chinese and Japanese, the danda
of Hindi, the marks of Arabic and Urdu, Ethiopic, Burmese, Khmer and Armenian."""
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
    mr mrs ms dr prof mt vs eds cf approx inc ltd co corp dept gov rep sen rev hon esp resp
    gen col lt sgt capt jr messrs univ assn bros
    hr fr fa str bzw ca evtl ggf inkl exkl zzgl vgl mio mrd jh gest sog usw bspw zzt
    dipl ing hrsg verf aufl österr allg bes entspr ggü gem st einschl insb ausschl
    sr sra srta dra ee uu ud uds vd vds aprox av avda dpto ej gral lic admón ltda cia lda eng
    mme mmes mlle mgr env éd réf suppl hab
    sig dott avv ecc spett egr
    dhr mevr drs mr blz bijv enz incl excl jl afd gebr
    т тт др пр проф акад доц напр им ул кв обл руб коп тыс млн млрд гг св
    """
)
"""English, German, Spanish, Portuguese, French, Italian, Dutch and Russian; without their full
stop."""
_BEFORE_NUMBERS: Final = _words(
    """
    no nos fig figs vol vols p pp ed ch chap sec sect tel ext par para eq eqs tab ex app cl reg
    jan feb mar apr jun jul aug sep sept oct nov dec
    n nr abs art bd kap abb ziff lit rn rz anm jg hl bl anh
    num núm nº pág págs cap tlf inc apdo
    chapitre al liv pag artt lett sez hfst lid
    стр рис табл гл п пп ст ч г с
    """
)
_DOTTED = re.compile(r"(?:[^\W\d_]{1,3}\.)*[^\W\d_]|(?:[^\W\d_]{1,3}\.)+[^\W\d_]{1,3}")
"""Initials and their like: "J", "z.B", "U.S", "Ph.D"."""
_ORDINAL = re.compile(r"\d{1,2}")
_SECTION = re.compile(r"\d{1,3}(?:\.\d{1,3}){1,5}")
"""What stands before a heading: "2.1. Grants"."""
_UNSPOKEN = re.compile(r"[bcdfghjklmnpqrstvwxzßбвгджзклмнпрстфхцчшщ]{3,4}")
"""Without a vowel nobody can say it: it stands for a longer word ("Vgl", "Bhf", "млрд")."""
_MEASURES: Final = _words(
    "mph kph kmh lbs kwh mwh ghz mhz khz rpm bps kbps mbps hrs pts nth hmm shh"
)
_OPENING: Final = "([{\"'“„«‚‘*_¿¡"


_ELIDED = re.compile(r"^(?:[dlDL]|[dD]all|[dD]ell|[Qq]u|[Ss]ull)['’]")
"""French and Italian articles that cling to a word: "l'ing."."""


def _bare(token: str) -> str:
    return _ELIDED.sub("", token.lstrip(_OPENING)).lower()


def is_abbreviation(token: str) -> bool:
    """Say whether a full stop after *token* belongs to it.

    Example:
        >>> [is_abbreviation(token) for token in ("Dr", "(z.B", "J", "No", "rain")]
        [True, True, True, False, False]
    """
    is_acronym = len(token) > 1 and token.isupper()
    token = _bare(token)
    if is_acronym and "." not in token:
        return len(token) == 2 and token[0] == token[1]  # Spanish plurals: "EE. UU.", "FF. AA."
    return (
        token in _ABBREVIATIONS
        or _DOTTED.fullmatch(token) is not None
        or (_UNSPOKEN.fullmatch(token) is not None and token not in _MEASURES)
    )


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


_LETTERED: Final = _words(
    """
    hall room group plan class type vitamin gate exhibit appendix annex part phase option block
    building terminal point team grade hepatitis model platform zone line level form series wing
    unit schedule category section column rank size article step stage
    halle gruppe typ anhang teil gleis raum klasse stufe grupo tipo clase parte anexo sala groupe
    classe salle annexe gruppo allegato classe groep bijlage zaal
    """
)
"""A capital letter behind one of these is its name ("hall A."), behind another word an initial."""


def is_letter_behind(token: str, before: str) -> bool:
    """Say whether *token* is a letter that names the thing *before* it, or a unit behind a number.

    Example:
        >>> is_letter_behind("A", "hall"), is_letter_behind("h", "9"), is_letter_behind("J", "by")
        (True, True, False)
    """
    if len(token) != 1:
        return False
    return before.lower() in _LETTERED or (token == "h" and before[-1:].isdigit())


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


_WIDE = "".join(CJK_ENDS)


def _end_pattern(begins: str) -> re.Pattern[str]:
    """Begins with one class of characters, by which the scanner of ``re`` skips everything else."""
    return re.compile(
        rf"[.!?…\n{_WIDE}](?:"
        r"(?<=[.!?…])(?<![.!?…]{2})[.!?…]*[\"'”’)\]»*_]*"
        rf"(?:[ \t]*[\r\n]+|(?=[ \t\u00a0]+{begins}))"
        rf"|(?<=[{_WIDE}])[{_WIDE}]*[”』」）\"']*[ \t]*[\r\n]*(?=(?P<goes_on>[{_GOES_ON}])?)"
        r"|(?<=\n)[ \t]*\r?\n\s*"
        r")"
    )


_END = _end_pattern(r"(?P<first>[\"'“‘„«(\[¿¡*_]*[^\W_a-z])")
_END_IN_CHATS = _end_pattern(r"(?P<first>\S)")

_LONGEST: Final = 24
"""Characters before a full stop that are looked at: no abbreviation is longer."""
_BEFORE_ORDINALS: Final = _words("am der dem den des die das vom zum im seit ab bis")
"""German writes "am 3. Mai" where English sentences end in "at 3." as well."""
_MONTHS: Final = _words(
    "januar februar märz april mai juni juli august september oktober november dezember"
)


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
        first = match["first"]
        if first is None:
            if not (match["goes_on"] and text[cut - 1] in AFTER_END):
                ends.append(cut)
        elif (small_letters or not first[-1].islower()) and not (
            text[at] == "." and _abbreviates(text, start, at)
        ):
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
    """Say whether the full stop at *dot* ends an abbreviation, initial, ordinal or section."""
    ending = text[max(start, dot - _ENDING) : dot]
    if len(ending) == _ENDING and ending.isalpha() and ending.lower() not in _KNOWN_ENDINGS:
        return False
    before = text[max(start, dot - _LONGEST) : dot]
    if not _may_have_stop(before[before.rfind(" ") + 1 :]):
        return False
    words = before.rpartition("\n")[2].split()
    if not words:
        return False
    word = words[-1]
    last = words[-2] if len(words) > 1 else ""
    if may_be_ordinal(word):
        return _is_ordinal(text, dot, last)
    if _SECTION.fullmatch(word):
        return not last or last[-1] in ENDS or last == "§" or is_before_number(last.rstrip("."))
    if is_before_number(word):
        if text[dot + 1 : dot + 4].lstrip()[:1].isdigit():
            return True
        return len(word) < 3 and word.islower() and _is_dotted(last)
    return not is_letter_behind(word, last) and is_abbreviation(word)


_ENDING: Final = 5
"""Letters; abbreviations of so many are known ones."""
_KNOWN_ENDINGS: Final = frozenset(
    [word[-_ENDING:] for word in _ABBREVIATIONS | _BEFORE_NUMBERS if len(word) >= _ENDING]
)


@lru_cache(maxsize=16_384)
def _may_have_stop(word: str) -> bool:
    """Say quickly that the last word of a sentence is an ordinary one, which it mostly is."""
    word = word.rpartition("\n")[2]
    return (
        may_be_ordinal(word)
        or _SECTION.fullmatch(word) is not None
        or is_before_number(word)
        or is_abbreviation(word)
    )


def _is_ordinal(text: str, dot: int, last: str) -> bool:
    """Say whether a number with a full stop counts an item or, in German, a day."""
    counts_items = not last or (last[-1] in ENDS and not is_before_number(last[:-1]))
    if counts_items or last.lower() in _BEFORE_ORDINALS:
        return True
    following = text[dot + 1 : dot + 12].split(None, 1)
    return bool(following) and following[0].lower() in _MONTHS


def _is_dotted(word: str) -> bool:
    return word.endswith(".") and _DOTTED.fullmatch(_bare(word[:-1])) is not None


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


_ASCII_QUOTATIONS: Final = (('"', '"'), ("`", "`"), ("{", "}"))
_QUOTATIONS: Final = (*_ASCII_QUOTATIONS, *zip("“„«「『", "”“»」』", strict=True))


def quoted_spans(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """Return the quotations, code and placeholders in ``text[start:end]``, in order.

    Example:
        >>> quoted_spans('She said "Go. Now." twice.', 0, 26)
        [(9, 19)]
    """
    spans: list[tuple[int, int]] = []
    for opening, closing in _ASCII_QUOTATIONS if text.isascii() else _QUOTATIONS:
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
