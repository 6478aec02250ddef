"""Recognise and cut records: lines of a log, turns of a chat, cues of subtitles.

A record is a line that begins as others do, with the lines behind it that go on with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from langchain_tokenopt.compress.unit import Kind

__all__ = ["LOG", "TURN", "cue_end", "is_transcript", "log_end", "record_ends", "turn_end"]

_TIME: Final = r"\d{1,2}:\d\d(?::\d\d(?:[.,]\d+)?)?(?: ?[AaPp]\.?[Mm]\.?)?"
_DATE: Final = r"(?:\d{4}[-/.]\d\d?[-/.]\d\d?|\d\d?[-/.](?:\d\d?|[A-Z][a-z]{2})[-/.]\d{2,4})"
LOG: Final = re.compile(
    rf"(?:<\d{{1,3}}>\d? ?)?[\[(]?(?:{_DATE}(?:[T ,:-]{{1,3}}{_TIME})|\d\d:\d\d:\d\d[.,\] ]"
    r"|[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d|[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d"
    r"|[A-Z]\d{4} \d\d:\d\d:\d\d|\d{10}(?:\d{3}|\.\d+)?[\] :]|[ ]*\d{1,7}\.\d{3,}\])"
    r"|\d{1,3}(?:\.\d{1,3}){3} \S+ \S+ \["
    r"|\[?(?:DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|FATAL|TRACE|CRITICAL)\b[\]: |]"
    r"|(?:ts|time|level|timestamp)=\S+ +\w+="
)
"""A line of a log begins with a time, an address with a time, or a level."""

_SPEAKER: Final = r"[^\W\d_][^\n:：<>\[\](){}=\"*]{0,60}?"
TURN: Final = re.compile(
    rf"(?:[-•>] )?(?:[\[(]?(?:{_DATE}[ ,T]*)?(?:{_TIME})?[\])]?[ \t]*(?:[-–—|]+[ \t]*)?)?"
    rf"(?:(?P<bold>\*\*|__)?(?P<who>(?!(?:https?|ftp)\b){_SPEAKER})(?(bold)\*{{0,2}}_{{0,2}})"
    r"(?: ?[\[(][^\])\n]{1,40}[\])])?(?:\*\*|__)? ?[:：](?:\*\*|__)? ?(?=\S)"
    r"|<(?P<nick>[\w.@+ -]{1,40})> (?=\S))"
)
"""A turn begins with who speaks: dated, bold or plain, before a colon; or as in IRC."""
_CUE: Final = re.compile(
    r"[ \t]*(?:\d+:)?\d\d?:\d\d[.,]\d{1,3} +--> +(?:\d+:)?\d\d?:\d\d[.,]\d{1,3}"
)
_TRACE: Final = re.compile(r"\s|Traceback |Caused by|\.{3}|During handling|at \S+\(")


# --- logs ----------------------------------------------------------------------------------------


def log_end(lines: Sequence[str], row: int) -> int:
    r"""Return the row after the records that begin at *row*, the traces behind them included.

    Up to the last line that begins as a log's all lines belong to it, behind that one those that
    are indented or begin as traces do, and the line with which such a trace ends.

    Example:
        >>> log_end(["12:00:01 up\n", "12:00:02 down\n", "Traceback (most\n", "  f()\n"], 0)
        4
    """
    block = row
    last = row
    while block < len(lines) and lines[block].strip():
        if LOG.match(lines[block]):
            last = block
        block += 1
    end, traced = last + 1, False
    while end < block:
        if _TRACE.match(lines[end]):
            traced = True
        elif traced:
            traced = False
        else:
            break
        end += 1
    return end


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
    return any(LOG.match(line) and not TURN.match(line) for line in lines)


def _speaker(line: str) -> str | None:
    found = TURN.match(line)
    if found is None:
        return None
    who = found["who"] or found["nick"]
    return None if who.isupper() and LOG.match(line) else who


def turn_end(lines: Sequence[str], row: int, stops: re.Pattern[str]) -> int:
    """Return the row after the turn at *row*: the next turn, a label, or a blank line."""
    end = row + 1
    while (
        end < len(lines)
        and lines[end].strip()
        and not TURN.match(lines[end])
        and not stops.match(lines[end])
    ):
        end += 1
    return end


def cue_end(lines: Sequence[str], row: int) -> int:
    r"""Return the row after the subtitle that begins at *row*, else *row*.

    Example:
        >>> cue_end(["1\n", "00:00:01,000 --> 00:00:02,500\n", "Hello.\n", "\n"], 0)
        3
    """
    if not _begins_cue(lines, row):
        return row
    end = row + 1
    while end < len(lines) and lines[end].strip():
        end += 1
    return end


def _begins_cue(lines: Sequence[str], row: int) -> bool:
    if _CUE.match(lines[row]):
        return True
    return (
        row + 1 < len(lines)
        and len(lines[row]) < 80
        and _CUE.match(lines[row + 1]) is not None
        and lines[row].strip() != ""
    )


# --- records of a segment ------------------------------------------------------------------------


def record_ends(kind: Kind, lines: Sequence[str]) -> Iterator[int]:
    """Yield the row after each record of a segment that is nothing but records.

    A cue may have a line with its number or name above its times.
    """
    named = _CUE.match(lines[0]) is None
    for row in range(1, len(lines)):
        line = lines[row]
        if kind == "turn":
            begins = TURN.match(line) is not None
        elif _CUE.match(line):
            begins, named = not named, False
        else:
            named = _begins_cue(lines, row)
            begins = named or LOG.match(line) is not None
        if begins:
            yield row
    yield len(lines)
