"""How a record begins: a time behind the same marks, a level, brackets, a name, a number.

No format is listed here; lines of one kind are those whose marks are equal.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = [
    "CLOCK", "DATE", "LEVEL", "SHAPED", "STRONG", "SURE", "TIMED", "key_of", "mark_of",
]  # fmt: skip

CLOCK: Final = r"\d{1,2}:\d\d(?::\d\d(?:[.,]\d+)?)?(?: ?[AaPp]\.?[Mm]\b\.?)?"
DATE: Final = (
    r"(?:\d{4}[-/.]\d\d?[-/.]\d\d?|\d\d?[-/.](?:\d\d?|[^\W\d_]{3,9})[-/.]\d{2,4}"
    r"|\d{4}年\d\d?月\d\d?日|\d\d-\d\d(?= \d\d:))"
)
_STAMP: Final = re.compile(
    rf"(?:{DATE}(?:[T ,:-]{{1,3}}{CLOCK})?|(?<![\d:.]){CLOCK}(?![\d:])"
    r"|(?<!\w)(?:19|20)\d{6}[T _-]?\d{4,6}(?!\d)"
    r"|(?<![\w.])\d{10}(?:\d{3}|\d{6}|\d{9})?(?:\.\d+)?(?![\w.])"
    r"|(?<![\w.])\d{1,7}\.\d{3,6}(?=[\])> ])|(?<!\w)T\+\d{1,9}\.\d{1,6}(?![\w.])"
    r"|(?:[^\W\d_]{3} )?[^\W\d_]{3}\.? [ \d]\d \d\d:\d\d(?::\d\d)?"
    rf"|\d\d?\.? [^\W\d_]{{3,9}}\.? \d{{4}}[ ,]{{1,2}}{CLOCK}"
    r"|(?<!\w)[A-Z]\d{4}(?= \d\d:\d\d:\d\d))"
)
"""A date, a time of day, or the seconds since 1970 or since the start of a machine."""
_PART_OF_STAMP: Final = re.compile(r"\d(?:[-/.:年]\w|\d{7})")
"""Begins with one class of characters, by which the scanner of ``re`` skips everything else."""
_REACH: Final = 60
"""Characters at the beginning of a line in which its time stands."""
_COLOUR: Final = re.compile(r"\x1b\[[\d;]*m")
_FIELD: Final = re.compile(r"[\w.\-/@+#$%]+")
_FIELDS: Final = re.compile(r"w(?:[ \t]+w)+|[ \t]+")
_NAMED: Final = re.compile(r"w ?[:=] ?\"?[w ]*$")
_PAIRS: Final = re.compile(r"\w=\S")
LEVEL: Final = re.compile(
    r"\[?(?:DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|FATAL|TRACE|CRITICAL)\b[\]: |]"
)
_KEY: Final = re.compile(
    r"(?P<key>[^\W\d_][\w /.-]{0,30}(?:\[\d+\])?) ?:(?:[ \t]|\r?\n|$)"
    r"|(?P<tag>[A-Z][A-Z0-9]{1,3} *)- "
)
"""A name before a colon, or as in lists of literature."""
_OPENING: Final = re.compile(
    r"(?P<bracket>\[(?!\d{1,4}\])[^\]\n]{1,60}\]|\((?!\d{1,4}\)|[a-z]\))[^)\n]{1,60}\)"
    r"|\{[<(]?\w+[>)]?\})[\s:;]"
    r"|(?P<number>#\d+ )|(?P<pairs>[\w.]+=(?:\"[^\"\n]*\"|\S+) +[\w.]+=)"
    r"|(?P<hash>(?:[^\W\d_]+ )?(?=[a-f]*\d)[a-f\d]{12,64}(?: \([^()\n]*\))?\s*$)"
    r"|(?P<piped>[\w.-]+ *\| )|(?P<code>(?=\S*(?:\d{4}|[a-f\d]{8}))[\w.:/@+-]{6,80}[ \t,;|])"
)
_ITEM: Final = re.compile(r"(?P<list>[-*+•‣>!] )|#{1,6} |\|")
_NUMBERED: Final = re.compile(r"(?:\[[ xX]?\] )?\(?\d{1,3}(?P<sign>[.)])[ \t]")
_COUNTED: Final = re.compile(r"[-+!*>] ?\d{2,} ")
_SHAPE: Final = re.compile(
    r"(?:>{1,3} )?(?:[^\W\d_]+ )?[^\s\d]{0,40}[\[( ]{0,2}\d+[^\s\w]*(?:\d+[^\s\w]+)*(?=\s)"
)
"""A number in the first or second word, and the signs around it."""
_DIGITS: Final = re.compile(r"\d+")
_WORD: Final = re.compile(r"[^\W\d_]+")
SHAPED: Final = "~"
"""Begins a mark that only many lines of a text together make one."""
_NEVER: Final = frozenset(" \t\r\n|")
_DATA: Final = re.compile(r"\{(?![<(]?\w{1,20}[>)]?\})")

TIMED: Final = "@"
STRONG: Final = frozenset((TIMED, "level", "number", "pairs", "hash"))
SURE: Final = frozenset(("@", "@[", "@<w>w", "@(", "@w", "@w [", "level"))
"""Marks of logs, which one line alone may bear."""


def mark_of(line: str) -> str | None:
    """Return how a line begins, with its words and numbers left out; ``None`` if it is plain text.

    Marks of lines that begin alike are equal. Those with a time begin with an at sign.
    """
    if line[0] in _NEVER or _DATA.match(line):
        return None
    body = _COLOUR.sub("", line[:200]) if "\x1b" in line[:200] else line
    item = _ITEM.match(body)
    stamp = _STAMP.search(body, 0, _REACH) if _PART_OF_STAMP.search(body, 0, _REACH) else None
    number = _NUMBERED.match(body)
    if number and (stamp is None or stamp.start() > number.end() + 2):
        return f"{SHAPED}{number['sign']}"  # a date in a task is no time of a record
    if stamp is not None and (item is None or item["list"]) and (mark := _timed(body, stamp)):
        return mark
    if item:
        return f"{SHAPED}0" if _COUNTED.match(body) else None
    if LEVEL.match(body):
        return "level"
    if found := _OPENING.match(body):
        return found.lastgroup
    shape = _SHAPE.match(body)
    if shape:
        return f"{SHAPED}{_WORD.sub('w', _DIGITS.sub('0', shape.group()))}"
    may_be_key = body.find(":", 0, _REACH) > 0 or body.find("- ", 0, _LONGEST_TAG) > 0
    return f"{key}:" if may_be_key and (key := key_of(body)) else None


def _timed(body: str, stamp: re.Match[str]) -> str | None:
    above = body[: stamp.start()]
    before = _FIELD.sub("w", above)
    rest = body[stamp.end() :].strip()
    if not before.strip("w ") and before[-2:-1] == "w":
        words = above.split()
        is_level = len(words) == 1 and (above.isupper() or words[0].lower() in _LEVELS)
        if not (is_level or (len(words) <= _MOST_NAMES and (not rest or above[0].isdigit()))):
            return None  # it is a sentence that speaks of a time
        return "@w" if is_level else f"@{before}"
    level = above.strip(' :="[]-')
    is_level = level.lower() in _LEVELS or level in _LETTERS
    if _NAMED.match(before) and not is_level and not _PAIRS.search(body, stamp.end()):
        return None  # a field of a record, or of data
    is_day = ":" not in stamp.group() and not stamp.group().replace(".", "").isdigit()
    before = _FIELDS.sub(lambda run: "w" if run.group()[0] == "w" else " ", before).strip()
    return f"@-{before}" if is_day else f"@{before}"


_LONGEST_TAG: Final = 8
_MOST_NAMES: Final = 5
_LEVELS: Final = frozenset({
    "debug", "info", "notice", "warn", "warning", "err", "error", "crit", "critical", "fatal",
    "alert", "emerg", "trace", "fehler",
})  # fmt: skip
_LETTERS: Final = frozenset("VDIWEF")
"""Levels as one letter."""


def key_of(line: str) -> str:
    """Return the name before a colon with which *line* begins, or nothing."""
    found = _KEY.match(line)
    return (found["key"] or found["tag"]).lower() if found else ""
