"""Checkers of formats that open and close what they hold."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tests.support.wholeness import (
    Check,
    records_whole,
)  # fmt: skip

# --- checks --------------------------------------------------------------------------------------


def closes(opener: str, closer: str, *, holds: bool = True) -> Check:
    """Blocks close, in order, and hold something.

    Args:
        opener: What opens a block; its first group, if any, is the name.
        closer: The same of what closes it.
        holds: Whether a block that holds nothing is a fault.
    """
    mark = re.compile(rf"(?P<o>{opener})|(?P<c>{closer})", re.MULTILINE)

    def check(text: str) -> list[str]:
        opened: list[tuple[str, int]] = []
        for found in mark.finditer(text):
            name = next((g for g in found.groups()[1:] if g and g != found.group()), "")
            if found["o"] is not None:
                opened.append((name, found.end()))
            elif not opened or (opened[-1][0] != name and name):
                return [f"{found.group()!r} closes nothing"]
            else:
                name, at = opened.pop()
                if holds and not text[at : found.start()].strip():
                    return [f"{found.group()!r} closes what is empty"]
        return [f"{opened[-1][0] or opener!r} stays open"] if opened else []

    return check


def under(parents: dict[str, str]) -> Check:
    """A line stands below the line that it belongs to."""

    def check(text: str) -> list[str]:
        lines = [line.rstrip() for line in text.split("\n")]
        for line, above in parents.items():
            if line in lines and above not in lines[: lines.index(line)]:
                return [f"{line!r} without {above!r}"]
        return []

    return check


def lines_stay(source: str) -> Check:
    """Each line is a whole line of the source."""
    known = {"", *(line.rstrip() for line in source.split("\n"))}

    def check(text: str) -> list[str]:
        return [f"no line: {x!r}" for x in text.split("\n") if x.rstrip() not in known][:1]

    return check


def entries_whole(entries: Sequence[str], free: Sequence[str] = ()) -> Check:
    """Each entry has all of its lines, next to each other, or none."""
    return records_whole(entries, "", free)


def every(*checks: Check) -> Check:
    return lambda text: [fault for check in checks for fault in check(text)]
