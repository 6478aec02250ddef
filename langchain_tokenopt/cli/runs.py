"""Commands that show single runs and calls: the latest, one as a tree, and those of this moment."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from langchain_tokenopt.cli.app import CommandError, say
from langchain_tokenopt.cli.period import local
from langchain_tokenopt.cli.question import Question, asks
from langchain_tokenopt.cli.tables import (
    LimitOption,
    count,
    known_cost,
    print_table,
    shown_id,
    tell,
    totals_as_json,
    write_json,
)
from langchain_tokenopt.core.durations import format_seconds
from langchain_tokenopt.core.run_tree import notes_of, path_of
from langchain_tokenopt.pricing.money import format_usd

if TYPE_CHECKING:
    from langchain_tokenopt.core.records import CallRecord
    from langchain_tokenopt.ledger import RunTotals

__all__ = ["live", "run", "runs"]


@asks()
def runs(asked: Question, limit: LimitOption = 20) -> None:
    """Show the latest runs, newest first: who ran, for whom, and what it cost.

    Example: tokenopt runs -n 5 --user ada
    """
    with asked.opened() as opened:
        found = opened.runs(**asked.where, limit=limit)
        asked.refuse_empty(opened, found)
    if asked.as_json:
        write_json([_run_as_json(each) for each in found])
        return
    rows = (
        (
            each.run,
            ", ".join(each.agents),
            each.user or "",
            local(each.started_at)[5:],
            format_seconds((each.ended_at - each.started_at).total_seconds()),
            count(each.totals.calls),
            count(each.totals.total_tokens),
            format_usd(known_cost(each.totals)),
        )
        for each in found
    )
    figures = ("started", "took", "calls", "tokens", "cost")
    print_table(("run", "agents", "user", *figures), rows, words=("agents", "user"), ids=True)
    say(f"one of them, call by call: tokenopt run {shlex.quote(shown_id(found[0].run))}")


def _run_as_json(run: RunTotals) -> dict[str, Any]:
    return {
        "run": run.run,
        "started_at": run.started_at.isoformat(),
        "seconds": (run.ended_at - run.started_at).total_seconds(),
        "agents": run.agents,
        **{name: getattr(run, name) for name in ("user", "thread_id")},
        **totals_as_json(run.totals),
    }


@asks()
def run(
    asked: Question,
    run_id: Annotated[
        str, typer.Argument(metavar="ID", help="Of the run, or how it begins.", show_default=False)
    ],
) -> None:
    """Show one run: its calls in order, under the nodes and tools that made them.

    Example: tokenopt run 019a8f5e-77c1
    """
    from langchain_tokenopt.core.records import UsageTotals

    with asked.opened() as opened:
        names = opened.run_ids(run_id)
        if len(names) != 1:
            found = f"begins several runs: {', '.join(names[:4])}. Write more of it"
            none = "begins no run. To see the latest: tokenopt runs"
            raise CommandError(f"{run_id!r} {found if names else none}.")
        calls = list(opened.calls(**{**asked.where, "run": names[0]}))
        asked.refuse_empty(opened, calls)
    if asked.as_json:
        from langchain_tokenopt.ledger.flat_rows import flat_row

        write_json([{"path": path_of(call), **flat_row(call)} for call in calls])
        return
    totals = UsageTotals.of(calls)
    began = min(call.started_at for call in calls) if calls else datetime.now(UTC)
    figures = ("start", "took", "input", "output", "cost")
    print_table(
        (f"run {names[0]}", *figures),
        list(_tree(calls, began)),
        total=(
            "total",
            "",
            "",
            count(totals.input_tokens),
            count(totals.output_tokens),
            format_usd(known_cost(totals)),
        ),
    )


def _tree(calls: Sequence[CallRecord], began: datetime) -> Iterator[tuple[str, ...]]:
    """Yield a row for every call, and one for each node that the call before was not in."""
    before: list[str] = []
    for call in calls:
        path = path_of(call)
        shared = 0
        while shared < min(len(path), len(before)) and path[shared] == before[shared]:
            shared += 1
        for depth in range(shared, len(path)):
            yield ("  " * depth + path[depth], *[""] * 5)
        before = path
        usage = call.usage
        yield (
            "  " * len(path) + _named(call),
            f"+{format_seconds((call.started_at - began).total_seconds())}",
            format_seconds(call.duration_seconds),
            count(0 if call.cached else usage.input_tokens),
            count(0 if call.cached else usage.output_tokens),
            format_usd(call.cost_nano_usd),
        )


def _named(call: CallRecord) -> str:
    notes = notes_of(call)
    return (call.model or "a model") + (f" ({', '.join(notes)})" if notes else "")


@asks()
def live(
    asked: Question,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 1.0,
    seconds: Annotated[
        float | None,
        typer.Option(min=0, help="End after so long; else when interrupted.", show_default=False),
    ] = None,
) -> None:
    """Show what is being spent now: the last hour's sum, then every call as it ends.

    With --json every call is an object on a line of its own.

    Example: tokenopt live --agent news
    """
    from langchain_tokenopt.ledger.flat_rows import flat_row

    end = None if seconds is None else time.monotonic() + seconds
    with asked.opened() as opened:
        seen = opened.last_call()
        hour = opened.totals(
            since=datetime.now(UTC) - timedelta(hours=1), until=None, **asked.filters
        )
        if not asked.as_json:
            tell(
                f"last hour: {hour.calls:,} calls, {hour.total_tokens:,} tokens, "
                f"{format_usd(known_cost(hour))}"
            )
        spent = 0
        while end is None or time.monotonic() < end:
            time.sleep(every if end is None else max(0.0, min(every, end - time.monotonic())))
            seen, calls = opened.calls_after(seen, **asked.where)
            for call in calls:
                spent += call.cost_nano_usd or 0
                if asked.as_json:
                    write_json(flat_row(call))
                else:
                    tell(_line(call, spent))


def _line(call: CallRecord, spent: int) -> str:
    return (
        f"{call.started_at.astimezone():%H:%M:%S}  {' / '.join(path_of(call))}  {_named(call)}  "
        f"{call.spent_tokens:,} tokens  {format_usd(call.cost_nano_usd)}  "
        f"({format_usd(spent)} since the start)"
    )
