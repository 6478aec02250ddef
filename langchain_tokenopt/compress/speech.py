"""What people say and write to each other: turns of a chat, subtitles, headers of letters."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from langchain_tokenopt.compress.record_marks import CLOCK, DATE, LEVEL, SURE, mark_of

__all__ = [
    "TURN", "cue_starts", "cues_end", "holds_cues", "is_header", "is_transcript",
    "letter_head_end", "turn_end",
]  # fmt: skip

_CLOSING: Final = re.compile(r"[ \t]*</[A-Za-z][\w:-]*>[ \t\r]*$")
_SPEAKER: Final = r"[^\W\d_][^\n:：<>\[\](){}=\"*]{0,60}?"
TURN: Final = re.compile(
    rf"(?:[-•>] )?(?:[\[(]?(?:{DATE}[ ,T]*)?(?:{CLOCK})?[\])]?[ \t]*(?:[-–—|]+[ \t]*)?)?"
    rf"(?:(?P<bold>\*\*|__)?(?P<who>(?!(?:https?|ftp)\b){_SPEAKER})(?(bold)\*{{0,2}}_{{0,2}})"
    r"(?: ?[\[(][^\])\n]{1,40}[\])])?(?:\*\*|__)? ?[:：](?:\*\*|__)? ?(?=\S)"
    r"|<(?P<nick>[\w.@+ -]{1,40})> (?=\S))"
)
"""A turn begins with who speaks: dated, bold or plain, before a colon; or as in IRC."""
_CUE: Final = re.compile(
    r"[ \t]*(?:\d+:)?\d\d?:\d\d(?:[.,]\d{1,3})?(?: *-+> *(?:\d+:)?\d\d?:\d\d"
    r"|(?:,| +[-–—] +| to )(?:\d+:)?\d\d?:\d\d[.,:]\d)"
)
"""The time at which a subtitle comes, and at which it goes."""
_ASIDE: Final = re.compile(r"(?:WEBVTT|NOTE|STYLE|REGION|X-TIMESTAMP-MAP)\b")


# --- turns ---------------------------------------------------------------------------------------


def is_transcript(lines: Sequence[str]) -> bool:
    """Say whether speakers come back, and most lines are somebody's."""
    if len(lines) < 4:
        return False
    speakers = [who for line in lines if (who := _speaker(line))]
    if len(speakers) < 4 or not 1 < len(set(speakers)) <= len(speakers) / 2:
        return False
    filled = sum(1 for line in lines if not line.isspace())
    return len(speakers) * 3 >= filled and not _is_log(lines)


def _is_log(lines: Sequence[str]) -> bool:
    """A log may repeat the names of errors before a colon, but its own lines are nobody's."""
    return any(mark_of(line) in SURE and not TURN.match(line) for line in lines)


def _speaker(line: str) -> str | None:
    found = TURN.match(line) if ":" in line or "：" in line or "<" in line else None
    if found is None:
        return None
    who = found["who"] or found["nick"]
    return None if who.isupper() and LEVEL.match(line) else who


def turn_end(lines: Sequence[str], row: int, stops: re.Pattern[str]) -> int:
    """Return the row after the turn at *row*: the next turn, a label, or a blank line."""
    end = row + 1
    while (
        end < len(lines)
        and lines[end].strip()
        and not TURN.match(lines[end])
        and not stops.match(lines[end])
        and not _CLOSING.match(lines[end])
    ):
        end += 1
    return end


# --- subtitles -----------------------------------------------------------------------------------


def cues_end(lines: Sequence[str], row: int) -> int:
    r"""Return the row after the subtitles that begin at *row*, else *row*.

    Example:
        >>> cues_end(["1\n", "00:00:01,000 --> 00:00:02,500\n", "Hello.\n", "\n"], 0)
        3
    """
    end, at, cues = row, row, 0
    is_web = lines[row].startswith("WEBVTT")  # there notes may come last
    while at < len(lines):
        is_cue = _begins_cue(lines, at)
        if not (is_cue or _ASIDE.match(lines[at])):
            break
        cues += is_cue
        while at < len(lines) and lines[at].strip() and not _CLOSING.match(lines[at]):
            at += 1
        end = at if is_cue or is_web else end
        while at < len(lines) and not lines[at].strip():
            at += 1
    return end if cues else row


def holds_cues(text: str, start: int, end: int) -> bool:
    """Say whether records are subtitles: a time from and until, then what is said."""
    return any(_CUE.match(line) for line in text[start : min(end, start + 2_000)].splitlines()[:20])


def _begins_cue(lines: Sequence[str], row: int) -> bool:
    if _CUE.match(lines[row]):
        return True
    return (
        row + 1 < len(lines)
        and len(lines[row]) < 80
        and _CUE.match(lines[row + 1]) is not None
        and lines[row].strip() != ""
    )


def cue_starts(lines: Sequence[str]) -> list[int]:
    """Return the rows of subtitles, with the line above their times, and of what is between them.

    None where the first lines are no subtitles.
    """
    if not any(_CUE.match(line) for line in lines[:20]):
        return []
    found: list[int] = []
    for row, line in enumerate(lines):
        above = lines[row - 1].strip() if row else ""
        if _CUE.match(line):
            named = above and (row == 1 or not lines[row - 2].strip() or above.isdigit())
            found.append(row - 1 if named and row - 1 not in found[-1:] else row)
        elif _ASIDE.match(line) and not above:
            found.append(row)
    first = 0
    if _ASIDE.match(lines[0]):
        first = next(row for row in range(len(lines)) if _begins_cue(lines, row))
    return sorted({row for row in found if row >= first})


# --- letters -------------------------------------------------------------------------------------

_ENVELOPE: Final = re.compile(r"From \S+ .*\d{4}\s*$|>? ?-{3,}[^-\n]{3,60}-{3,}\s*$")
_HEADER: Final = re.compile(
    r"(?:> ?)?\*{0,2}(?P<name>From|To|Cc|Bcc|Subject|Date|Sent|Reply-To|Von|An|Betreff|Datum"
    r"|Gesendet|De|À|Objet|Envoyé|Para|Asunto|Fecha|Enviado|[A-Z][A-Za-z]*(?:-[A-Za-z]+)+)"
    r":\*{0,2}[ \t]"
)


_LONGEST_HEADER: Final = 400
"""Lines."""
_FEWEST_NAMES: Final = 3


def is_header(line: str) -> bool:
    """Say whether a line may stand in the header of a letter."""
    return _HEADER.match(line) is not None


def letter_head_end(lines: Sequence[str], row: int) -> int:
    r"""Return the row after the header of a letter and the blank line below it, else *row*.

    Example:
        >>> letter_head_end(["From: a@b.c\n", "To: d@e.f\n", "Subject: Tea\n", "\n", "Hi.\n"], 0)
        4
    """
    end = row + 1 if _ENVELOPE.match(lines[row]) else row
    names = []
    while end < len(lines) and end - row < _LONGEST_HEADER:
        found = _HEADER.match(lines[end])
        if found:
            names.append(found["name"])
        elif not names or lines[end][0] not in " \t" or not lines[end].strip():
            break
        end += 1
    known = [name for name in names if "-" not in name]
    fewest = _FEWEST_NAMES if end == row + len(names) else 2
    if len(set(known)) < fewest or end >= len(lines) or lines[end].strip(" \t\r\n>"):
        return row
    return end + 1
