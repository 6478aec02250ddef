"""Events that could not be written: files of JSON lines beside the ledger, or among temporary ones.

A file appears under its name when it is complete, so that nobody reads half of it. Whoever opens
the ledger next takes it in; lines that are no events are put aside, and everything else goes on.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from glob import escape
from pathlib import Path
from typing import Any
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

__all__ = ["from_line", "read", "to_line", "waiting", "write"]

LONGEST_LINE = 1 << 20
"""Bytes. An event has some thousand; what is longer is not read into memory as one piece."""

_END = ".jsonl"


FORMAT = 1
"""Of the lines. A later release that writes other fields says another number."""


class LaterEventError(ValueError):
    """A line was written by a later release."""


def waiting(name: str, folders: Iterable[Path]) -> list[Path]:
    """Return the files of a ledger that wait; what is no file, or is another user's, is none."""
    pattern = f"{escape(name)}.unwritten-*{_END}"
    found = [path for folder in folders for path in sorted(folder.glob(pattern))]
    return [path for path in found if path.is_file() and _is_own(path)]


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
            handle, unfinished = tempfile.mkstemp(prefix=f"{name}.unwritten-", dir=folder)
            path = Path(unfinished + _END)
            try:
                with open(handle, "w", encoding="utf-8") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
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
