"""Events that could not be written: files of JSON lines beside the ledger, or among temporary ones.

A file appears under its name when it is complete, so that nobody reads half of it. Whoever opens
the ledger next takes it in; lines that are no events are put aside, and everything else goes on.
Until then its writer holds a lock on it, which ends with him: what a killed one has left is taken
in as far as it goes.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from glob import escape
from pathlib import Path
from types import ModuleType
from typing import IO, Any
from uuid import UUID

from langchain_tokenopt.core.attribution import Attribution
from langchain_tokenopt.core.records import (
    BudgetEvent,
    CallRecord,
    OfferedTool,
    Saving,
    ToolChoice,
    ToolResult,
    UsageEvent,
)
from langchain_tokenopt.core.usage import Usage

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows, which renames no file that somebody has open
    fcntl = None

__all__ = ["from_line", "read", "to_line", "waiting", "write"]

LONGEST_LINE = 1 << 20
"""Bytes. An event has some thousand; what is longer is not read into memory as one piece."""

_UNWRITTEN = ".unwritten-"
_END = ".jsonl"
_BEGUN_SECONDS = 60.0
"""How old an empty file is that nobody is about to lock and fill."""

FORMAT = 1
"""Of the lines. A later release that writes other fields says another number."""


class LaterEventError(ValueError):
    """A line was written by a later release."""


def waiting(name: str, folders: Iterable[Path]) -> list[Path]:
    """Return the files of a ledger that wait; what is no file, or is another user's, is none."""
    pattern = f"{escape(name)}{_UNWRITTEN}*"
    found = [path for folder in folders for path in sorted(folder.glob(pattern))]
    own = [path for path in found if path.is_file() and _is_own(path)]
    begun = [path for path in own if "." not in path.name.removeprefix(name + _UNWRITTEN)]
    left = [file for path in begun if (file := _adopted(path)) is not None]
    return [path for path in own if path.name.endswith(_END)] + left


def _adopted(path: Path) -> Path | None:
    """Give a file that a killed process has begun its name; ``None``: somebody is at it."""
    file = Path(f"{path}{_END}")
    try:
        with path.open("r+b") as begun:
            status = os.fstat(begun.fileno())
            is_new = not status.st_size and time.time() - status.st_mtime < _BEGUN_SECONDS
            if is_new or not _lock(begun):
                return None
            if fcntl is not None:
                os.replace(path, file)  # of two who try it one succeeds
        if fcntl is None:
            os.replace(path, file)  # refused while somebody has it open
    except OSError:
        return None
    return file


def _lock(file: IO[Any]) -> bool:
    """Lock a file until it is closed, also by the end of its process; say whether that was free."""
    try:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_own(path: Path) -> bool:
    """Say whether this user has written it: anybody can put files among temporary ones."""
    try:
        return not hasattr(os, "geteuid") or os.geteuid() in (0, path.stat().st_uid)
    except OSError:
        return False


def write(events: Iterable[UsageEvent], name: str, folders: Iterable[Path]) -> Path | None:
    """Write *events* to a file of their own in the first folder that takes it; ``None``: no one."""
    text = "".join(to_line(event) + "\n" for event in events)
    for folder in folders:
        with suppress(OSError):
            handle, unfinished = tempfile.mkstemp(prefix=name + _UNWRITTEN, dir=folder)
            path = Path(unfinished + _END)
            try:
                with open(handle, "w", encoding="utf-8") as file:
                    _lock(file)
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                    if fcntl is not None:
                        os.replace(unfinished, path)
                if fcntl is None:
                    os.replace(unfinished, path)
            except OSError:
                with suppress(OSError):
                    os.unlink(unfinished)
                raise
            return path
    return None


def read(path: Path) -> Iterator[UsageEvent | LaterEventError | bytes]:
    """Yield the events in *path*, and what stands between them that is none, as it is.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        while line := file.readline(LONGEST_LINE):
            if not line.isspace():
                try:
                    yield from_line(line.decode())
                except LaterEventError as later:
                    yield later
                except ValueError:
                    yield line


def to_line(event: UsageEvent) -> str:
    """Return *event* as one line of JSON."""
    return json.dumps(
        {"event": type(event).__name__, "format": FORMAT, **asdict(event)}, default=_plain
    )


def from_line(line: str) -> UsageEvent:
    """Undo :func:`to_line`.

    Raises:
        ValueError: The line is not an event, or a :class:`LaterEventError`.
    """
    try:
        fields = json.loads(line)
        if fields.pop("format", 1) > FORMAT:
            raise LaterEventError(f"written by a later release: {line[:80]!r}")
        return _EVENTS[fields.pop("event")](_with_types(fields))
    except LaterEventError:
        raise
    except (TypeError, KeyError, AttributeError, ValueError, RecursionError) as error:
        raise ValueError(f"not a usage event: {line[:80]!r}") from error


def _call(fields: dict[str, Any]) -> CallRecord:
    fields |= {
        "usage": Usage(**fields["usage"]),
        "attribution": Attribution(**fields["attribution"]),
        "stages": tuple(fields["stages"]),
        "flaws": tuple(fields["flaws"]),
        "unpriced": tuple(fields.get("unpriced", ())),
        "tool_results": tuple(ToolResult(**r) for r in fields.get("tool_results", ())),
        "savings": tuple(Saving(**_with_types(saving)) for saving in fields["savings"]),
        "tool_choice": fields.get("tool_choice") and _choice(_with_types(fields["tool_choice"])),
    }
    return CallRecord(**fields)


def _choice(fields: dict[str, Any]) -> ToolChoice:
    fields |= {name: tuple(fields[name]) for name in ("called", "missed", "found")}
    fields["offered"] = tuple(OfferedTool(**tool) for tool in fields["offered"])
    return ToolChoice(**fields)


_EVENTS: dict[str, Callable[[dict[str, Any]], UsageEvent]] = {
    "CallRecord": _call,
    "Saving": lambda fields: Saving(**fields),
    "BudgetEvent": lambda fields: BudgetEvent(**fields),
    "ToolChoice": _choice,
}


def _with_types(fields: dict[str, Any]) -> dict[str, Any]:
    """Turn ids and times back into what they were."""
    for names, kind in ((("id", "run_id"), UUID), (("at", "started_at"), datetime.fromisoformat)):
        for name in names:
            if fields.get(name) is not None:
                fields[name] = kind(fields[name])
    return fields


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
