"""Blocks of a prompt that somebody else says to somebody else: letters and stanzas.

Whatever they command, whoever answers is not meant.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from langchain_tokenopt.compress.prompt_lines import Line

__all__ = ["LONGEST_VERSE", "goes_on_in_lines", "letters_in"]

LONGEST_VERSE: Final = 70
"""Characters of a line."""
_FEWEST_LINES: Final = 4
_GOES_ON: Final = ",;—–-،，、；"


def goes_on_in_lines(lines: Sequence[Line]) -> bool:
    """Say whether most of several short lines go on in the next: who tells in lines ends them."""
    if len(lines) < _FEWEST_LINES or any(len(line.text) > LONGEST_VERSE for line in lines):
        return False
    goes_on = sum(line.text[-1] in _GOES_ON for line in lines[:-1])
    return 2 * goes_on >= len(lines)


def letters_in(lines: Sequence[Line], blocks: Sequence[range]) -> frozenset[int]:
    """Return the blocks of letters, each from its salutation on to where somebody signs.

    None, where nothing but a letter is there: then it is the caller's own.
    """
    found: set[int] = set()
    opened = -1
    for n, block in enumerate(blocks):
        first, last = lines[block[0]].text, lines[block[-1]].text
        if len(first) <= _LONGEST_SALUTATION and _SALUTATION.match(first):
            opened = n
        if opened < 0 or len(last) > _LONGEST_SALUTATION:
            continue
        if any(_SIGNS.match(lines[at].text) for at in block):
            is_signed_below = len(block) == 1 and n + 1 < len(blocks)
            name = is_signed_below and _may_be_name(lines, blocks[n + 1])
            found.update(range(opened, n + 1 + name))
            opened = -1
    return frozenset(found if len(found) < len(blocks) else ())


def _may_be_name(lines: Sequence[Line], block: range) -> bool:
    text = lines[block[-1]].text
    return len(block) <= _LINES_OF_NAME and (
        len(text) <= _LONGEST_SALUTATION and text[-1] not in ".!?:。？！："
    )


_LINES_OF_NAME: Final = 3
_LONGEST_SALUTATION: Final = 60
"""Characters of the line in which a letter begins, and of the one in which it is signed."""
_SALUTATION: Final = re.compile(
    r"(?:dear|hi|hello|hey|good (?:morning|afternoon|evening)|liebe[rs]?|sehr geehrte[rs]?|hallo"
    r"|guten (?:tag|morgen)|ch[eè]re?s?|bonjour|madame|monsieur|estimad[oa]s?|querid[oa]s?|hola"
    r"|buenos d[ií]as|prezad[oa]s?|car[oaie]|gentile|egregio|buongiorno|beste|geachte"
    r"|уважаем\w+|дорог\w+|здравствуйте)\b[^.?:]*[,!]$"
    r"|[^.?:]{1,40}(?:様|さま|各位)[、,]?$|(?:尊敬的|亲爱的)[^。？]{1,40}[：:，,]?$",
    re.IGNORECASE,
)
_SIGNS: Final = re.compile(
    r"(?:(?:(?:many |kind |best |warm )?(?:thanks|regards|wishes)|best|sincerely|yours\b[\w ]*"
    r"|cheers|(?:viele|liebe|beste|herzliche|freundliche) grüße|mit (?:freundlichen|besten) grüßen"
    r"|(?:bien )?cordialement|bien à vous|salutations[\w ]*|atentamente|(?:un )?saludos?[\w ]*"
    r"|un abrazo|atenciosamente|abraços?|cordiali saluti|distinti saluti|met vriendelijke groet\w*"
    r"|с уважением|всего доброго)[,.!]?|敬具|以上|よろしくお願い(?:いた)?します。?|此致)$",
    re.IGNORECASE,
)
