"""Which ledger a command reads, and which period of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Self

import typer

from langchain_tokenopt.cli.app import CommandError
from langchain_tokenopt.core.moments import moment_from

if TYPE_CHECKING:
    from langchain_tokenopt.ledger import Ledger

__all__ = [
    "DEFAULT_LEDGER",
    "HoursOption",
    "LedgerOption",
    "Period",
    "SinceOption",
    "UntilOption",
    "local",
    "opened_ledger",
    "parse_moment",
]

DEFAULT_LEDGER = "tokenopt.db"

LedgerOption = Annotated[
    str,
    typer.Option(
        "--ledger",
        envvar="TOKENOPT_LEDGER",
        help="File or database URL of the ledger.",
        show_envvar=True,
    ),
]
SinceOption = Annotated[
    str | None,
    typer.Option(
        "--since",
        help="Begin of the period: 2026-11-20, 2026-11-20T09:30, today, yesterday, 24h, 7d, 4w. "
        "Local time, unless an offset such as +00:00 is given.",
    ),
]
UntilOption = Annotated[
    str | None,
    typer.Option("--until", help="End of the period, as --since. A date includes that day."),
]
HoursOption = Annotated[
    int, typer.Option("--hours", min=1, max=24 * 366 * 100, help="How far to look back.")
]


def parse_moment(text: str, *, now: datetime, end: bool = False) -> datetime:
    """Read a point in time as a user writes it; a day means its begin, or its end.

    Raises:
        CommandError: It is no point in time.
    """
    try:
        return moment_from(text, now=now, end=end)
    except ValueError as error:
        raise CommandError(str(error)) from error


@dataclass(frozen=True, slots=True)
class Period:
    """From *since* up to, not including, *until*; ``None`` is open."""

    since: datetime | None
    until: datetime | None

    @classmethod
    def of(cls, since: str | None, until: str | None, hours: int | None = None) -> Self:
        """Read the options; *hours* counts where neither of the others is given.

        Raises:
            CommandError: An option is no point in time, or the period ends before it begins.
        """
        now = datetime.now(UTC)
        begin = None if since is None else parse_moment(since, now=now)
        end = None if until is None else parse_moment(until, now=now, end=True)
        if begin is None and end is None and hours is not None:
            begin = now - timedelta(hours=hours)
        if begin is not None and end is not None and begin >= end:
            raise CommandError(
                f"--since {since} is not before --until {until}: nothing lies between."
            )
        return cls(begin, end)

    def __str__(self) -> str:
        if self.since is None and self.until is None:
            return "ever"
        begin = "" if self.since is None else f"since {local(self.since)}"
        end = "" if self.until is None else f"until {local(self.until)}"
        return f"{begin} {end}".strip()


def local(moment: datetime) -> str:
    """Write a moment in local time, to the minute."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M")


@contextmanager
def opened_ledger(location: str, *, read_only: bool = True) -> Iterator[Ledger]:
    """Open a ledger: an existing one, to read, unless told otherwise."""
    from langchain_tokenopt.ledger import Ledger

    with Ledger(location, read_only=read_only) as ledger:
        yield ledger
