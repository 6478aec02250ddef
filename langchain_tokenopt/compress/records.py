"""Recognise and cut records: lines of a log, turns of a chat, cues of subtitles.

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

from langchain_tokenopt.compress.unit import Kind, Unit

__all__ = [
    "TURN",
    "RecordFinder",
    "cues_end",
    "holds_cues",
    "is_transcript",
    "letter_head_end",
    "record_units",
    "turn_end",
]

_CLOCK: Final = r"\d{1,2}:\d\d(?::\d\d(?:[.,]\d+)?)?(?: ?[AaPp]\.?[Mm]\b\.?)?"
_DATE: Final = (
    r"(?:\d{4}[-/.]\d\d?[-/.]\d\d?|\d\d?[-/.](?:\d\d?|[^\W\d_]{3,9})[-/.]\d{2,4}"
    r"|\d{4}年\d\d?月\d\d?日|\d\d-\d\d(?= \d\d:))"
)
_STAMP: Final = re.compile(
    rf"(?:{_DATE}(?:[T ,:-]{{1,3}}{_CLOCK})?|(?<![\d:.]){_CLOCK}(?![\d:])"
    r"|(?<!\w)(?:19|20)\d{6}[T _-]?\d{4,6}(?!\d)"
    r"|(?<![\w.])\d{10}(?:\d{3}|\d{6}|\d{9})?(?:\.\d+)?(?![\w.])"
    r"|(?<![\w.])\d{1,7}\.\d{3,6}(?=[\])> ])"
    r"|(?:[^\W\d_]{3} )?[^\W\d_]{3}\.? [ \d]\d \d\d:\d\d(?::\d\d)?"
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
_LEVEL: Final = re.compile(
    r"\[?(?:DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|FATAL|TRACE|CRITICAL)\b[\]: |]"
)
_KEY: Final = re.compile(
    r"(?P<key>[^\W\d_][\w /.-]{0,30}(?:\[\d+\])?) ?:(?:[ \t]|\r?\n|$)"
    r"|(?P<tag>[A-Z][A-Z0-9]{1,3} *)- "
)
"""A name before a colon, or as in lists of literature."""
_OPENING: Final = re.compile(
    r"(?P<bracket>\[(?!\d{1,4}\])[^\]\n]{1,60}\]|\((?!\d{1,4}\)|[a-z]\))[^)\n]{1,60}\)"
    r"|\{\w+\})[ :;]"
    r"|(?P<number>#\d+ )|(?P<pairs>[\w.]+=(?:\"[^\"\n]*\"|\S+) +[\w.]+=)"
    r"|(?P<piped>[\w.-]+ *\| )|(?P<code>(?=\S*(?:\d{4}|[a-f\d]{8}))[\w.:/@+-]{6,80}[ \t,;|])"
)
_ITEM: Final = re.compile(r"(?P<list>[-*+•‣>!] )|#{1,6} |\|")
_COUNTED: Final = re.compile(r"[-+!*>] ?\d{2,} ")
_SHAPE: Final = re.compile(
    r"(?:>{1,3} )?(?:[^\W\d_]+ )?[^\s\d]{0,40}[\[( ]{0,2}\d+[^\s\w]*(?:\d+[^\s\w]+)*(?=\s)"
)
"""A number in the first or second word, and the signs around it."""
_DIGITS: Final = re.compile(r"\d+")
_WORD: Final = re.compile(r"[^\W\d_]+")
_SHAPED: Final = "~"
"""Begins a mark that only many lines of a text together make one."""
_NEVER: Final = frozenset(" \t\r\n|")
_DATA: Final = re.compile(r"\{(?!\w{1,20}\})")
_TRACE: Final = re.compile(
    r"\s|Traceback |Caused by|\.{3}|During handling|at \S+\(|[{\[\]}]|goroutine \d"
)
_GOES_ON: Final = re.compile(
    r"Traceback |Caused by|During handling|The above exception|goroutine \d|Exception in thread"
)
"""What belongs to the record above it, even behind a blank line."""
_CLOSING: Final = re.compile(r"[ \t]*</[A-Za-z][\w:-]*>[ \t]*$")
_FENCE: Final = re.compile(r"[ \t]*(?:`{3,}|~{3,})")
_ONE_TAG: Final = re.compile(
    r"[ \t]*<(?P<close>/?)(?P<name>[A-Za-z][\w:-]*)[^<>]*(?<!/)>[ \t]*\r?\n?$"
)

_SPEAKER: Final = r"[^\W\d_][^\n:：<>\[\](){}=\"*]{0,60}?"
TURN: Final = re.compile(
    rf"(?:[-•>] )?(?:[\[(]?(?:{_DATE}[ ,T]*)?(?:{_CLOCK})?[\])]?[ \t]*(?:[-–—|]+[ \t]*)?)?"
    rf"(?:(?P<bold>\*\*|__)?(?P<who>(?!(?:https?|ftp)\b){_SPEAKER})(?(bold)\*{{0,2}}_{{0,2}})"
    r"(?: ?[\[(][^\])\n]{1,40}[\])])?(?:\*\*|__)? ?[:：](?:\*\*|__)? ?(?=\S)"
    r"|<(?P<nick>[\w.@+ -]{1,40})> (?=\S))"
)
"""A turn begins with who speaks: dated, bold or plain, before a colon; or as in IRC."""
_CUE: Final = re.compile(
    r"[ \t]*(?:\d+:)?\d\d?:\d\d(?:[.,]\d{1,3})?(?: *-+> *|,| +[-–—] +| to )"
    r"(?:\d+:)?\d\d?:\d\d[.,:]\d"
)
"""The time at which a subtitle comes, and at which it goes."""
_ASIDE: Final = re.compile(r"(?:WEBVTT|NOTE|STYLE|REGION|X-TIMESTAMP-MAP)\b")


# --- how a record begins -------------------------------------------------------------------------

_TIMED: Final = "@"
_STRONG: Final = frozenset((_TIMED, "level", "number", "pairs"))
_SURE: Final = frozenset(("@", "@[", "@<w>w", "@(", "@w", "@w [", "level"))
"""Marks of logs, which one line alone may bear."""


def _mark(line: str) -> str | None:
    """Return how a line begins, with its words and numbers left out; ``None`` if it is plain text.

    Marks of lines that begin alike are equal. Those with a time begin with an at sign.
    """
    if line[0] in _NEVER or _DATA.match(line):
        return None
    body = _COLOUR.sub("", line[:200]) if "\x1b" in line[:200] else line
    item = _ITEM.match(body)
    stamp = _STAMP.search(body, 0, _REACH) if _PART_OF_STAMP.search(body, 0, _REACH) else None
    if stamp is not None and (item is None or item["list"]) and (mark := _timed(body, stamp)):
        return mark
    if item:
        return f"{_SHAPED}0" if _COUNTED.match(body) else None
    if _LEVEL.match(body):
        return "level"
    if found := _OPENING.match(body):
        return found.lastgroup
    shape = _SHAPE.match(body)
    if shape:
        return f"{_SHAPED}{_WORD.sub('w', _DIGITS.sub('0', shape.group()))}"
    may_be_key = body.find(":", 0, _REACH) > 0 or body.find("- ", 0, _LONGEST_TAG) > 0
    return f"{key}:" if may_be_key and (key := _key(body)) else None


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
    if _NAMED.match(before) and not _LEVEL.match(body) and not _PAIRS.search(body, stamp.end()):
        return None  # a field of a record, or of data
    is_day = ":" not in stamp.group() and not stamp.group().replace(".", "").isdigit()
    before = _FIELDS.sub(lambda run: "w" if run.group()[0] == "w" else " ", before).strip()
    return f"@-{before}" if is_day else f"@{before}"


_LONGEST_TAG: Final = 8
_MOST_NAMES: Final = 5
_LEVELS: Final = frozenset(
    ("debug", "info", "notice", "warn", "warning", "error", "fatal", "trace", "critical", "fehler")
)


class RecordFinder:
    """Finds the records of one text, in time that grows with its lines.

    Args:
        lines: Of the text, with their ends.
        fewest: How often the beginning of a record must come back.
    """

    def __init__(self, lines: Sequence[str], fewest: int = 3) -> None:
        self._lines = lines
        marks = [_mark(line) for line in lines]
        rows: dict[str, list[int]] = {}
        for row, mark in enumerate(marks):
            if mark is not None:
                rows.setdefault(mark, []).append(row)
        filled = sum(1 for line in lines if not line.isspace())
        timed: list[int] = []
        self._rows: dict[str, list[int]] = {}
        for mark, found in rows.items():
            if len(found) < fewest and mark not in _SURE:
                continue
            if mark.startswith(_SHAPED):
                if len(found) > fewest and _SHARE_OF_SHAPE * len(found) >= filled:
                    self._rows[mark] = found
            elif mark.startswith(_TIMED):
                timed += found
            elif not mark.endswith(":") or _have_fields(lines, found):
                self._rows[mark] = found
        self._rows[_TIMED] = sorted(timed)
        self._marks: list[str | None] = [None] * len(lines)
        for mark, found in self._rows.items():
            for row in found:
                self._marks[row] = mark
        self._breaks = _breaks(lines, self._marks) if any(self._rows.values()) else []
        self._habits: dict[str, bool] = {}

    def is_sure(self, row: int) -> bool:
        """Say whether a time, a level or the first of several fields begins a record there."""
        mark = self._marks[row]
        return mark is not None and (mark in _STRONG or mark.endswith(":"))

    def is_head(self, row: int) -> bool:
        """Say whether the line belongs above the records that begin right behind it."""
        if not self._rows[_TIMED]:
            return False
        for at in range(row, min(row + _LONGEST_HEAD, len(self._lines))):
            if self._marks[at] == _TIMED:
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
        return (
            row + 1 == len(self._lines)
            and not _TRACE.match(line)
            and not any(any(map(str.strip, lines)) for lines in others)
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
        is_weak = (self._marks[starts[0]] or "").startswith(_SHAPED)
        return sizes[len(sizes) // 2] > (_LONGEST_WEAK if is_weak else _LONGEST_LINE)

    def _is_used_to_gaps(self, mark: str) -> bool:
        """Say whether blank lines within records are usual rather than the end of all."""
        if mark not in self._habits:
            gaps = [self._stop(one) < other for one, other in pairwise(self._rows[mark])]
            self._habits[mark] = sum(gaps) >= max(_FEWEST_GAPS, _SHARE_OF_GAPS * len(gaps))
        return self._habits[mark]


_LONGEST_RECORD: Final = 400
"""Lines."""
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


def _have_fields(lines: Sequence[str], rows: Sequence[int]) -> bool:
    """Say whether a name before a colon opens records: fields come next, then text or a gap."""
    keys: Counter[tuple[str, ...]] = Counter()
    before: Counter[str] = Counter()
    for row in rows:
        keys[tuple(_key(line) for line in lines[row + 1 : row + _FEWEST_FIELDS])] += 1
        before[_key(lines[row - 1]) if row else ""] += 1
    ((common, count),) = keys.most_common(1)
    ((last, ends),) = before.most_common(1)
    own = _key(lines[rows[0]])
    closed = before[""] + (ends if last and last != own else 0)
    least = _MOST * len(rows)
    # Who speaks again behind one other line takes turns; a record begins behind all of its fields.
    fields = {"", *common} - {own}
    return min(count, closed) >= least and len(fields) == _FEWEST_FIELDS


def _key(line: str) -> str:
    found = _KEY.match(line)
    return (found["key"] or found["tag"]).lower() if found else ""


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
    return any(_mark(line) in _SURE and not TURN.match(line) for line in lines)


def _speaker(line: str) -> str | None:
    found = TURN.match(line) if ":" in line or "：" in line or "<" in line else None
    if found is None:
        return None
    who = found["who"] or found["nick"]
    return None if who.isupper() and _LEVEL.match(line) else who


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


def _cue_starts(lines: Sequence[str]) -> list[int]:
    """Return the rows of cues, with the line above their times, and of what stands between them."""
    found: list[int] = []
    for row, line in enumerate(lines):
        above = lines[row - 1].strip() if row else ""
        if _CUE.match(line):
            named = above and (row == 1 or not lines[row - 2].strip() or above.isdigit())
            found.append(row - 1 if named and row - 1 not in found[-1:] else row)
        elif _ASIDE.match(line) and not above:
            found.append(row)
    return sorted(set(found))


# --- letters -------------------------------------------------------------------------------------

_ENVELOPE: Final = re.compile(r"From \S+ .*\d{4}\s*$|>? ?-{3,}[^-\n]{3,60}-{3,}\s*$")
_HEADER: Final = re.compile(
    r"(?:> ?)?\*{0,2}(?P<name>From|To|Cc|Bcc|Subject|Date|Sent|Reply-To|Von|An|Betreff|Datum"
    r"|Gesendet|De|À|Objet|Envoyé|Para|Asunto|Fecha|Enviado|[A-Z][A-Za-z]*(?:-[A-Za-z]+)+)"
    r":\*{0,2}[ \t]"
)


def letter_head_end(lines: Sequence[str], row: int) -> int:
    r"""Return the row after the header of a letter and the blank line below it, else *row*.

    Example:
        >>> letter_head_end(["From: a@b.c\n", "To: d@e.f\n", "Subject: Tea\n", "\n", "Hi.\n"], 0)
        4
    """
    end = row + 1 if _ENVELOPE.match(lines[row]) else row
    names = []
    while end < len(lines) and end - row < _LONGEST_RECORD:
        found = _HEADER.match(lines[end])
        if found:
            names.append(found["name"])
        elif not names or lines[end][0] not in " \t" or not lines[end].strip():
            break
        end += 1
    known = [name for name in names if "-" not in name]
    fewest = _FEWEST_FIELDS if end == row + len(names) else 2
    if len(set(known)) < fewest or end >= len(lines) or lines[end].strip(" \t\r\n>"):
        return row
    return end + 1


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
    if any(_CUE.match(line) for line in lines[:20]):
        found = _cue_starts(lines)
        if _ASIDE.match(lines[0]):
            first = next(row for row in range(len(lines)) if _begins_cue(lines, row))
            found = [row for row in found if row >= first]
        return found
    finder = RecordFinder(lines, 1)
    for row in range(min(len(lines), _LONGEST_HEAD)):
        found = finder.starts(row)
        if found:
            return found
    if kind == "turn":
        return [0, *(row for row in range(1, len(lines)) if TURN.match(lines[row]))]
    return list(range(len(lines)))
