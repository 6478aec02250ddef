"""Recognise and cut records: lines of a log, fields that come back, turns, subtitles.

No format is listed here. A record begins as others of the same text do: with a time behind the same
marks, a level, brackets or a name; the lines up to the next such line go on with it. Where nothing
comes back there are no records, and lines are cut otherwise.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from langchain_tokenopt.compress.question import asks
from langchain_tokenopt.compress.record_marks import (
    SHAPED,
    STRONG,
    SURE,
    TIMED,
    key_of,
    mark_of,
)
from langchain_tokenopt.compress.speech import TURN, cue_starts
from langchain_tokenopt.compress.unit import Kind, Unit

__all__ = ["RecordFinder", "record_units"]

_TRACE: Final = re.compile(
    r"\s|Traceback |Caused by|\.{3}|During handling|at \S+\(|[{\[\]}]|goroutine \d"
)
_GOES_ON: Final = re.compile(
    r"Traceback |Caused by|During handling|The above exception|goroutine \d|Exception in thread"
)
"""What belongs to the record above it, even behind a blank line."""
_FENCE: Final = re.compile(r"[ \t]*(?:`{3,}|~{3,})")
_ONE_TAG: Final = re.compile(
    r"[ \t]*<(?P<close>/?)(?P<name>[A-Za-z][\w:-]*)[^<>]*(?<!/)>[ \t]*\r?\n?$"
)


class RecordFinder:
    """Finds the records of one text, in time that grows with its lines.

    Args:
        lines: Of the text, with their ends.
        fewest: How often the beginning of a record must come back.
    """

    def __init__(self, lines: Sequence[str], fewest: int = 3) -> None:
        self._lines = lines
        marks = [mark_of(line) for line in lines]
        rows: dict[str, list[int]] = {}
        for row, mark in enumerate(marks):
            if mark is not None:
                rows.setdefault(mark, []).append(row)
        filled = sum(1 for line in lines if not line.isspace())
        timed: list[int] = []
        self._rows: dict[str, list[int]] = {}
        for mark, found in rows.items():
            if len(found) < fewest and mark not in SURE:
                continue
            if mark in _OF_LISTS and _are_items(lines, found):
                continue
            if mark.startswith(SHAPED):
                if len(found) > fewest and _SHARE_OF_SHAPE * len(found) >= filled:
                    self._rows[mark] = found
            elif mark.startswith(TIMED):
                timed += found
            elif not mark.endswith(":") or _have_fields(lines, found):
                self._rows[mark] = found
        self._rows[TIMED] = sorted(timed)
        self._marks: list[str | None] = [None] * len(lines)
        for mark, found in self._rows.items():
            for row in found:
                self._marks[row] = mark
        self._breaks = _breaks(lines, self._marks) if any(self._rows.values()) else []
        self._habits: dict[str, bool] = {}

    def is_sure(self, row: int) -> bool:
        """Say whether a time, a level or the first of several fields begins a record there."""
        mark = self._marks[row]
        return mark is not None and (mark in STRONG or mark.endswith(":"))

    def is_head(self, row: int) -> bool:
        """Say whether the line belongs above the records that begin right behind it."""
        if not self._rows[TIMED]:
            return False
        for at in range(row, min(row + _LONGEST_HEAD, len(self._lines))):
            if self._marks[at] == TIMED:
                return at > row and len(self.starts(at)) >= _FEWEST_GAPS
            if not _HEAD.match(self._lines[at]):
                break
        return False

    def end(self, row: int) -> int:
        r"""Return the row after the records that begin at *row*; *row* where there are none.

        Example:
            >>> lines = ["12:00:01 up\n", "12:00:02 down\n", "Traceback (most\n", "  f()\n"]
            >>> RecordFinder(lines).end(0)
            4
        """
        while self.is_head(row):
            row += 1
        starts = self.starts(row)
        if not starts or self._are_long(starts):
            return row
        last, stop = starts[-1], self._stop(starts[-1])
        others = [self._lines[one + 1 : other] for one, other in pairwise(starts)]
        are_many = len(others) >= _FEWEST_GAPS or str(self._marks[last]).endswith(":")
        fence = next((at for at in range(last + 1, stop) if _FENCE.match(self._lines[at])), stop)
        if fence < stop and not any(_FENCE.match(line) for lines in others for line in lines):
            stop = fence  # the others have none
        if are_many and not self._is_last_word(last + 1, stop, others):
            return max(last + 1, stop - self._blanks_before(stop))
        after, traced = last + 1, False
        while after < stop:
            if _TRACE.match(self._lines[after]):
                traced = True
            elif traced:
                traced = False
            else:
                break
            after += 1
        return after

    def _is_last_word(self, row: int, stop: int, others: Sequence[Sequence[str]]) -> bool:
        """Say whether a line right behind the last record is rather what is asked about all."""
        line = self._lines[row] if row < stop else ""
        if row + 1 != len(self._lines) or _TRACE.match(line) or line[:1] in _BELOW:
            return False
        below = [lines for lines in others if any(map(str.strip, lines))]
        if not below:
            return True
        are_few = _SELDOM * len(below) <= len(others)
        return (
            are_few
            and _is_said(line)
            and not any(_is_said(other) for lines in below for other in lines)
        )

    def _blanks_before(self, stop: int) -> int:
        blank = 0
        while not self._lines[stop - 1 - blank].strip():
            blank += 1
        return blank

    def starts(self, row: int) -> list[int]:
        """Return the rows in which the records begin that follow each other from *row* on."""
        mark = self._marks[row]
        if mark is None:
            return []
        rows = self._rows[mark]
        found = [row]
        for at in range(bisect_right(rows, row), len(rows)):
            if rows[at] - found[-1] > _LONGEST_RECORD or (
                self._stop(found[-1]) < rows[at] and not self._is_used_to_gaps(mark)
            ):
                break
            found.append(rows[at])
        return found

    def _stop(self, row: int) -> int:
        """Return the first row behind *row* at which something else may begin."""
        at = bisect_right(self._breaks, row)
        return self._breaks[at] if at < len(self._breaks) else len(self._lines)

    def holds_speech(self, row: int) -> bool:
        """Say whether the records from *row* on are long speeches rather than messages."""
        sizes = sorted(len(self._lines[at]) for at in self.starts(row))
        return bool(sizes) and sizes[len(sizes) // 2] > _LONGEST_WEAK

    def _are_long(self, starts: Sequence[int]) -> bool:
        """Say whether the lines are rather passages, of which sentences may go."""
        sizes = sorted(len(self._lines[at]) for at in starts)
        is_weak = (self._marks[starts[0]] or "").startswith(SHAPED)
        return sizes[len(sizes) // 2] > (_LONGEST_WEAK if is_weak else _LONGEST_LINE)

    def _is_used_to_gaps(self, mark: str) -> bool:
        """Say whether blank lines within records are usual rather than the end of all."""
        if mark not in self._habits:
            gaps = [self._stop(one) < other for one, other in pairwise(self._rows[mark])]
            self._habits[mark] = sum(gaps) >= max(_FEWEST_GAPS, _SHARE_OF_GAPS * len(gaps))
        return self._habits[mark]


def _is_said(line: str) -> bool:
    """Say whether a line asks, or stands behind a label of one word: ``Task: name the oldest``."""
    return asks(line) or _LABELLED.match(line) is not None


_LABELLED: Final = re.compile(r"[^\W\d_]+ ?[:：]\s*[^\W\d_]")
_LONGEST_RECORD: Final = 400
"""Lines."""
_BELOW: Final = " \t│├└╰"
_SELDOM: Final = 5
"""One of so many records, at most, has lines below it."""
"""Signs that begin what stands under the line above."""
_LONGEST_HEAD: Final = 6
"""Lines above the first record that name its fields."""
_HEAD: Final = re.compile(r"#|\[[^\]\n]+\]\s*$|[A-Z]\w*: ")
_LONGEST_LINE: Final = 600
_LONGEST_WEAK: Final = 250
"""Characters; longer lines are rather passages."""
_SHARE_OF_SHAPE: Final = 3
"""Lines of the text for each that bears the mark."""
_FEWEST_GAPS: Final = 3
_SHARE_OF_GAPS: Final = 0.3
_MOST: Final = 0.8


_OF_LISTS: Final = frozenset((f"{SHAPED}.", f"{SHAPED})"))


def _are_items(lines: Sequence[str], rows: Sequence[int]) -> bool:
    """Say whether what goes on below numbers is indented, as in a list, not in records."""
    numbered = set(rows)
    return all(
        row in numbered or line[:1] in " \t\r\n"
        for row, line in enumerate(lines[rows[0] : rows[-1]], rows[0])
    )


def _have_fields(lines: Sequence[str], rows: Sequence[int]) -> bool:
    """Say whether a name before a colon opens records: fields come next, then text or a gap."""
    keys: Counter[tuple[str, ...]] = Counter()
    before: Counter[str] = Counter()
    for row in rows:
        keys[tuple(key_of(line) for line in lines[row + 1 : row + _FEWEST_FIELDS])] += 1
        before[key_of(lines[row - 1]) if row else ""] += 1
    ((common, count),) = keys.most_common(1)
    ((last, ends),) = before.most_common(1)
    own = key_of(lines[rows[0]])
    closed = before[""] + (ends if last and last != own else 0)
    least = _MOST * len(rows)
    # Who speaks again behind one other line takes turns; a record begins behind all of its fields.
    fields = {"", *common} - {own}
    return min(count, closed) >= least and len(fields) == _FEWEST_FIELDS


_FEWEST_FIELDS: Final = 3


def _breaks(lines: Sequence[str], marks: Sequence[str | None]) -> list[int]:
    """Return the rows at which something else than a record may begin.

    That is what is not indented behind a blank line, and fences and tags unless they open and close
    within one record.
    """
    found = []
    blank, fence, seen = False, -1, 0
    opened: list[tuple[str, int, int]] = []
    at_fence = 0
    for row, line in enumerate(lines):
        if not line.strip():
            blank = True
            continue
        if _FENCE.match(line):
            if fence < 0:
                fence, at_fence = row, seen
            else:
                if seen > at_fence:
                    found += [fence, row]
                fence = -1
        elif "<" in line and (tag := _ONE_TAG.match(line)):
            if not tag["close"]:
                opened.append((tag["name"], row, seen))
            else:
                while opened and opened[-1][0] != tag["name"]:
                    opened.pop()
                if not opened:
                    found.append(row)
                elif (of := opened.pop())[2] < seen:
                    found += [of[1], row]
        is_other = blank and fence < 0 and line[:1] not in " \t" and marks[row] is None
        if is_other and not (seen and _GOES_ON.match(line)):
            found.append(row)
        blank = False
        seen += marks[row] is not None
    return sorted([*found, fence] if fence >= 0 else found)


# --- units ---------------------------------------------------------------------------------------


def record_units(text: str, start: int, end: int, kind: Kind, units: list[Unit]) -> None:
    r"""Add a unit per record; what stands above the first one is the head of all.

    Example:
        >>> text, units = "WEBVTT\n\n00:01.000 --> 00:02.000\nHello.\n", []
        >>> record_units(text, 0, len(text), "log", units)
        >>> [(text[unit.start : unit.end], unit.head) for unit in units]
        [('WEBVTT\n\n', -1), ('00:01.000 --> 00:02.000\nHello.\n', 0)]
    """
    lines = text[start:end].splitlines(keepends=True)
    starts = _starts(lines, kind)
    positions = [start]
    for line in lines:
        positions.append(positions[-1] + len(line))
    head = -1
    if starts[0] > 0:
        head = len(units)
        units.append(Unit(start, positions[starts[0]], kind, frame=True))
    for row, after in pairwise([*starts, len(lines)]):
        units.append(Unit(positions[row], positions[after], kind, head=head))


def _starts(lines: Sequence[str], kind: Kind) -> list[int]:
    if cues := cue_starts(lines):
        return cues
    finder = RecordFinder(lines, 1)
    for row in range(min(len(lines), _LONGEST_HEAD)):
        if found := finder.starts(row):
            return found
    if kind == "turn":
        return [0, *(row for row in range(1, len(lines)) if TURN.match(lines[row]))]
    return list(range(len(lines)))
