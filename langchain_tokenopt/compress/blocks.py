"""What opens and closes others: fences, environments, cards, drawers, comments, blocks of any name.

A short block is kept or dropped as it is. Of a longer one that holds text, items, rows or other
blocks, those may go, and the lines that open and close it stay with any of them; what else a block
holds (an equation, code, an event with its fields) is whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final

from langchain_tokenopt.compress.held_together import held_units
from langchain_tokenopt.compress.lines_under import put_under
from langchain_tokenopt.compress.unit import Kind, Unit, add_units

__all__ = ["bind_marks", "blocks_of", "enclosed_units", "is_rule_below", "part_marks"]

LONGEST_WHOLE_BLOCK: Final = 400
"""Characters; shorter blocks are kept or dropped as they are."""

# --- recognition ---------------------------------------------------------------------------------

_HINT: Final = re.compile(
    r"^[ \t]*+(?:[^\w\s<]{1,6}[ \t]?(?:begin|start)|begin:|:\w+:[ \t\r]*$|:::|\$\$|\\\[|<!--|\{\|"
    r"|\{%|\{\{-?[ \t]*end\b|\[/|#(?:region|if)|<details|> ?\[!|\.\. [\w-]+::)",
    re.IGNORECASE | re.MULTILINE,
)
ATTRIBUTES: Final = r"(?:\s(?:\"[^\"]{0,2000}\"|'[^']{0,2000}'|[^<>\"'/]++|/(?!>))*+)?"
"""Of a tag; between quotation marks the sign that ends it may stand."""
_MARK: Final = re.compile(
    r"(?P<raw><!--(?:(?!-->).)*+-->|<!\[CDATA\[(?:(?!\]\]>)[\s\S])*+\]\]>)"
    r"|^[ \t]*+(?:\\item\b(?:\[[^\]\n]*\])?[ \t]*+)?(?:(?P<fence>`{3,}|~{3,})[^\n]*"
    r"|(?P<before>[^\w\s<]{1,6}[ \t]?|(?=\w{3,5}:))(?:(?P<opens_named>begin|start)|end|stop)"
    r"(?P<mark>[^\w\n]{1,3}|_|)(?P<name>\w[\w*-]*)"
    r"|(?P<template>\{%-?[ \t]*|\{\{[ \t]*[#/]|\[|#"
    r"|\{\{-?[ \t]*(?=(?:if|range|with|define|block|else|end)\b))"
    r"(?P<close>end_?|/)?(?P<what>[a-z]\w*)"
    r"|:(?P<drawer>\w+):[ \t\r]*$"
    r"|(?P<colons>:{3,})(?P<opens_colons>[ \t]*[^\s:])?"
    r"|(?P<same>\$\$)[ \t\r]*$"
    r"|(?P<bracket>\\\[|\\\]|\{\||\|\})[ \t\r]*"
    r"|(?P<comment><!--)(?!.*-->)|(?!.*<!--).*?(?P<behind>-->)[ \t\r]*$"
    r"|(?P<unclosed>> ?\[!\w+\]|\.\. [\w-]+::)"
    r")|<(?P<shut>/?)(?P<tag>[a-z][\w:.-]*)" + ATTRIBUTES + r">",
    re.MULTILINE | re.IGNORECASE,
)
"""Marks at the beginning of a line, and tags anywhere but in comments and quoted data."""
_RAW: Final = re.compile(r"(?:verbatim\*?|lstlisting|minted|comment|src|example)\Z", re.IGNORECASE)
"""Names of blocks in which nothing else is a mark."""


@lru_cache(maxsize=4)
def _may_hold_blocks(text: str) -> bool:
    """Say quickly whether anything may open or close; each reader of a text asks once more."""
    return _HINT.search(text) is not None


def _name_of(match: re.Match[str]) -> tuple[bool | None, str]:
    """Return whether a mark opens, and the name that what opens and what closes share.

    ``None`` for marks that do both, in turn.
    """
    kind = match.lastgroup
    if match["fence"]:
        return None, "`"
    if match["name"]:
        opens = match["opens_named"] is not None
        return opens, f"{match['before'].strip()}{match['mark'][:1]}{match['name']}"
    if match["what"]:
        sign = match["template"].strip()
        if sign[:2] == "{{" and sign[-1] not in "#/":
            return match["what"] != "end", "{{"
        return not match["close"] and sign[-1] != "/", f"{sign.rstrip('#/-')}{match['what']}"
    if match["drawer"]:
        return match["drawer"].upper() != "END", ":"
    if match["colons"]:
        return match["opens_colons"] is not None, ":::"
    if match["same"]:
        return None, match["same"]
    if match["bracket"]:
        return match["bracket"] in ("\\[", "{|"), match["bracket"].strip("[]{}")
    if kind in ("comment", "behind"):
        return kind == "comment", "<!--"
    return not match["shut"], f"<{match['tag'].lower()}"


def is_rule_below(text: str, start: int) -> bool:
    """Say whether the line at *start* is no fence but the rule below a title that is as long."""
    end = text.find("\n", start)
    rule = text[start : end if end >= 0 else len(text)].rstrip()
    above = text[text.rfind("\n", 0, max(0, start - 1)) + 1 : max(0, start - 1)].rstrip()
    is_as_long = len(rule) > _SHORTEST_RULE and abs(len(above) - len(rule)) <= 1
    return is_as_long and not rule.strip(rule[0])


_SHORTEST_RULE: Final = 3


_TURNS: Final = frozenset({"else", "elif", "elseif"})
"""Marks that part what a block of a template holds."""


class _Opened:
    """Follows the marks of one text; in a fence there are none, unless it was opened."""

    def __init__(self) -> None:
        self._marks: list[tuple[str, int]] = []
        self._counts: dict[str, int] = {}
        self._fence = ""
        self._hides = False

    def follow(self, match: re.Match[str], at: int, *, hides: bool = True) -> int | None:
        """Note a mark that stands at *at*; return where what it closes was opened, if anything.

        A fence *hides* what is in it, if that is no units of its own.
        """
        if match["raw"] or (match["fence"] and is_rule_below(match.string, match.start())):
            return None
        if mark := match["fence"]:
            if self._fence and not mark.startswith(self._fence):
                return None
            self._hides = hides if not self._fence else self._hides
            self._fence = "" if self._fence else mark
        elif (self._fence and (self._hides or hides)) or match["unclosed"]:
            return None
        opens, name = _name_of(match)
        if (match["what"] or "").lower() in _TURNS:
            is_inside = self._marks and self._marks[-1][0][:2] == name[:2]
            return self._marks[-1][1] if is_inside else None
        if (
            self._marks
            and _RAW.search(self._marks[-1][0])
            and (opens, name)
            != (
                False,
                self._marks[-1][0],
            )
        ):
            return None
        if opens is None:
            opens = not self._counts.get(name)
        if opens:
            self._marks.append((name, at))
            self._counts[name] = self._counts.get(name, 0) + 1
            return None
        while self._counts.get(name):
            other, first = self._marks.pop()
            self._counts[other] -= 1
            if other == name:
                return first
        return None


_FOLDS: Final = "details"
"""An element whose title stands on its second line."""


def blocks_of(text: str, starts: Sequence[int]) -> dict[int, int]:
    r"""Return the blocks by the row that opens them: the row after the one that closes each.

    What opens is known by what closes it: the same name or marks, further down, in the right order.
    Fences and other elements are none of them.

    Args:
        text: All of it.
        starts: Where its lines begin, and where the last one ends.

    Example:
        >>> text = "BEGIN:VEVENT\nUID:1\nEND:VEVENT\nThat is all.\n"
        >>> blocks_of(text, [0, 13, 19, 30, 43])
        {0: 3}
    """
    if not _may_hold_blocks(text):
        return {}
    rows = {start: row for row, start in enumerate(starts)}
    found: dict[int, int] = {}
    opened = _Opened()
    for match in _MARK.finditer(text):
        row = rows.get(text.rfind("\n", 0, match.start()) + 1)
        if row is None:
            continue  # a separator that only some take for the end of a line
        if match["unclosed"]:
            found[row] = _unclosed_end(text, starts, row)
        at = opened.follow(match, row)
        is_one = not match["fence"] and (match["tag"] or _FOLDS).lower() == _FOLDS
        if at is not None and at < row and is_one:
            found[at] = row + 1
    return found


def _unclosed_end(text: str, starts: Sequence[int], row: int) -> int:
    """Return the row after a quotation, or after what is indented below a directive."""
    end = filled = row + 1
    is_quotation = text[starts[row] : starts[end]].lstrip()[:1] == ">"
    while end + 1 < len(starts):
        line = text[starts[end] : starts[end + 1]]
        is_inside = line.lstrip()[:1] == ">" if is_quotation else line[0] in " \t"
        if (line.strip() and not is_inside) or (is_quotation and not line.strip()):
            break
        end += 1
        filled = end if line.strip() else filled
    return filled


# --- units ---------------------------------------------------------------------------------------


def enclosed_units(
    text: str, start: int, end: int, kind: Kind, units: list[Unit], cut: Callable[[str], list[Unit]]
) -> None:
    """Add the units of a block: its first and its last line, kept with any part of what is between.

    Args:
        text: What it is part of.
        start: Where the line begins that opens it.
        end: Where the line ends that closes it; white space may follow.
        kind: Of the lines that open and close it, and of all of it where it stays whole.
        units: Where to add.
        cut: Returns the units of what is inside; none where that must stay whole.
    """
    inside = start + _OPENING.match(text[start:end]).end()  # type: ignore[union-attr]
    close = text.rfind("\n", start, start + len(text[start:end].rstrip())) + 1
    if _UNCLOSED.match(text, start):
        close = end
    is_long = end - start > LONGEST_WHOLE_BLOCK and start < inside < close
    inner = cut(text[inside:close]) if is_long else []
    if kind == "code":
        bind_marks(text[inside:close], inner)  # seen from outside there are none in a fence
    if not inner:
        units.append(Unit(start, end, kind))
        return
    opening = len(units)
    units.append(Unit(start, inside, kind, frame=True))
    add_units(units, inner, opening, inside)
    if close < end:
        units.append(Unit(close, end, kind, bound=opening, frame=True))


_UNCLOSED: Final = re.compile(r"[ \t]*(?:>|\.\. )")
_OPENING: Final = re.compile(r"[^\n]*\n(?:[ \t]*<summary\b[^\n]*\n|(?:[ \t]+:[\w-]+:[^\n]*\n)+)?")
"""The first line, with the title or options below it that some have."""


# --- marks in different units --------------------------------------------------------------------


def bind_marks(text: str, units: list[Unit]) -> None:
    """Let what opens in one unit and closes in another stay together, and with what is between."""
    put_under(text, units)
    if "```" in text or "~~~" in text or "</" in text or _may_hold_blocks(text):
        _bind_marks(text, units)
    pairs: list[tuple[int, int]] = []
    for first, last, is_whole in held_units(text, units):
        inside = range(first + 1, last + 1)
        if is_whole:
            pairs += ((first, at) for at in inside)
            continue
        pairs.append((first, last))
        for at in inside[:-1]:
            if units[at].bound < 0 and units[at].head in (-1, units[first].head):
                units[at].head = first
    if pairs:
        _bind(units, pairs)


def _bind_marks(text: str, units: list[Unit]) -> None:
    pairs = _pairs(text, units)
    last_of: dict[int, int] = {}
    for first, last in pairs:
        last_of[first] = max(last, last_of.get(first, last))
    closing = {last: first for first, last in pairs if _is_mark(text, units[last])}
    for last, first in closing.items():
        if units[last].bound != first:
            units[last].bound = -1  # it is no end of a passage that begins elsewhere
        if units[first].bound < first and _is_mark(text, units[first]):
            units[first].bound = -1  # nor is what opens
    around: list[int] = []
    for at, unit in enumerate(units):
        while around and last_of[around[-1]] <= at:
            around.pop()
        if unit.bound in closing and unit.bound < at:
            unit.bound = -1
        if unit.head in closing and unit.head < at:
            unit.head = units[closing[unit.head]].head  # what closes is no title
        elif last_of.get(unit.head, at) < at and _is_mark(text, units[unit.head], last=True):
            unit.head = units[unit.head].head  # what has closed is none, either
        if around and unit.bound < 0 and unit.head in (-1, units[around[-1]].head):
            unit.head = around[-1]
        if at in last_of:
            around.append(at)
    _bind(units, pairs)
    for at in {at for pair in pairs for at in pair}:
        units[at].frame |= _is_mark(text, units[at])


def _bind(units: list[Unit], pairs: Sequence[tuple[int, int]]) -> None:
    """Bind the units of pairs that share one, and whatever is bound to them, to the first."""
    above = list(range(len(units)))

    def first_of(at: int) -> int:
        while above[at] != at:
            above[at] = above[above[at]]
            at = above[at]
        return at

    bound = [(unit.bound, at) for at, unit in enumerate(units) if unit.bound >= 0]
    for one, other in (*pairs, *bound):
        low, high = sorted((first_of(one), first_of(other)))
        above[high] = low
    for at in {at for pair in (*pairs, *bound) for at in pair}:
        if first_of(at) != at:
            units[at].bound = first_of(at)


def _is_mark(text: str, unit: Unit, *, last: bool = False) -> bool:
    """Say whether a unit, or its *last* line, is nothing but a mark."""
    line = unit.within(text).strip()
    if last:
        line = line.rpartition("\n")[2]
    return (
        "\n" not in line
        and (mark := _MARK.match(line)) is not None
        and (not mark["tag"] or mark.end() == len(line))
    )


def _pairs(text: str, units: Sequence[Unit]) -> list[tuple[int, int]]:
    """Return the units in which something opens that closes in a later one, with that one."""
    found = []
    opened = _Opened()
    for at, unit in enumerate(units):
        if unit.kind in ("json", "quote"):
            continue  # its strings may hold anything
        is_open = _is_mark(text, unit)
        for mark in _MARK.finditer(text, unit.start, unit.end):
            first = opened.follow(mark, at, hides=unit.kind == "code" and not is_open)
            if first is not None and first != at:
                found.append((first, at))
    return found


_LINE: Final = re.compile(r"([^\n]*)\n\s*(?=\S)")


def part_marks(text: str, units: list[Unit]) -> dict[int, int]:
    """Let a line that closes stand apart from the title behind it; return where each unit went."""
    cuts: dict[int, int] = {}
    for at, unit in enumerate(units):
        if unit.kind in ("heading", "tag") and (mark := _MARK.match(text, unit.start, unit.end)):
            if mark["unclosed"]:
                continue
            line = _LINE.match(text, unit.start, unit.end)
            own = line and (not mark["tag"] or not text[mark.end() : line.end(1)].strip())
            if line and own and _name_of(mark)[0] is not True:
                cuts[at] = line.end()
    moved, number = {-1: -1}, 0
    for at in range(len(units)):
        number += at in cuts
        moved[at] = at + number
    made: list[Unit] = []
    for at, unit in enumerate(units if cuts else ()):
        unit.head, unit.bound = moved[unit.head], moved[unit.bound]
        if at in cuts:
            made.append(Unit(unit.start, cuts[at], "tag", unit.source, unit.passage))
            unit.start = cuts[at]
        made.append(unit)
    units[:] = made or units
    return moved
