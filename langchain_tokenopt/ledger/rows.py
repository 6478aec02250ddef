"""Events to rows and back.

A row is a tuple in the order of its table's columns, with names and origins still as they are:
the writer replaces them by numbers.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping

from langchain_tokenopt.core.attribution import Attribution
from langchain_tokenopt.core.dimensions import STAGE_SEPARATOR
from langchain_tokenopt.core.records import (
    BudgetEvent,
    CallRecord,
    OfferedTool,
    Saving,
    Source,
    Status,
    ToolChoice,
    ToolResult,
    UsageEvent,
)
from langchain_tokenopt.core.usage import TOKEN_COUNTS, Usage
from langchain_tokenopt.ledger.schema import ORIGIN_FIELDS

HOUR_US = 3_600_000_000
"""Microseconds in an hour, the width of a rollup."""

DAY_US = 24 * HOUR_US

LARGEST = 10**15
"""Larger numbers are stored as this one, with a flaw that says so: sums must fit into 64 bits."""

OWN_RUN = 0
"""Stored as ``run`` of a call that was not made inside any other run: its own id is the run's."""

STATUSES: tuple[Status, ...] = ("ok", "failed", "abandoned", "refused")
_STATUS_NUMBER = {status: number for number, status in enumerate(STATUSES)}
_SOURCES: tuple[Source, ...] = ("reported", "estimated", "repaired", "exception", "unbilled")
"""Numbers of sources in the ledger; the first two are those of ``estimated``."""
_tokens_of: Callable[[Usage], tuple[int, ...]] = attrgetter(*TOKEN_COUNTS)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_TEXT_MARK = b"\0"
_FIRST_COUNT = 4
"""Place of the first token count among the columns of a call."""

Origin = tuple[str, ...]


_FIRST_US = (datetime(1, 1, 3, tzinfo=UTC) - _EPOCH) // _MICROSECOND
_LAST_US = (datetime(9999, 12, 29, tzinfo=UTC) - _EPOCH) // _MICROSECOND
"""Some days from the ends of all time: these are times in every zone."""


def microseconds(moment: datetime) -> int:
    """Return microseconds since 1970; a time without a zone is taken as UTC.

    Raises:
        TypeError: *moment* is no time.

    Example:
        >>> microseconds(datetime(1970, 1, 1, 1))
        3600000000
    """
    if not isinstance(moment, datetime):
        raise TypeError(
            f"a time is a datetime, got {moment!r}. Write datetime(2026, 11, 20), or "
            f"datetime.now(UTC) - timedelta(days=7)."
        )
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // _MICROSECOND


def moment_of(microseconds: int) -> datetime:
    """Return the time in UTC.

    What is too near the ends of all time to be one in every zone, such as ``datetime.max``, is
    moved by some days.

    Example:
        >>> moment_of(3_600_000_000).isoformat()
        '1970-01-01T01:00:00+00:00'
    """
    return _EPOCH + timedelta(microseconds=max(_FIRST_US, min(microseconds, _LAST_US)))


def clean(text: object) -> str:
    """Return *text* as any database can store it: no NUL, no half characters."""
    kept = str(text)
    if kept.isascii() and "\0" not in kept:
        return kept
    return kept.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def key_of(name: str) -> bytes:
    """Return a clean *name* as the ``names`` table keeps it: UUIDs, which are many, in 16 bytes.

    Example:
        >>> len(key_of("0199a4a6-43a2-7cc2-9c5c-3a1f5c3b8e61")), key_of("alice")
        (16, b'alice')
    """
    if len(name) == 36 and name[8] == name[13] == name[18] == name[23] == "-":
        digits = name.replace("-", "")
        with suppress(ValueError):
            packed = bytes.fromhex(digits)
            if packed.hex() == digits:  # else it could not be read back as it was
                return packed
    key = name.encode()
    # A text as long as a packed UUID is marked; clean names contain no NUL.
    return _TEXT_MARK + key if len(key) == 16 else key


def name_of(key: bytes) -> str:
    """Undo :func:`key_of`.

    Example:
        >>> name_of(key_of("sixteen letters!"))
        'sixteen letters!'
    """
    if len(key) == 16:
        return str(UUID(bytes=key))
    return key.removeprefix(_TEXT_MARK).decode()


def hidden(user: str, secret: bytes) -> str:
    """Return a keyed hash in place of *user*: the same user, the same hash, no way back."""
    return (
        "user-" + hmac.new(secret, user.encode("utf-8", "replace"), hashlib.sha256).hexdigest()[:24]
    )


def origin_of(call: CallRecord) -> Origin:
    """Return what *call* has in common with many others."""
    made_by = call.attribution
    return (
        made_by.agent or "default",
        made_by.node or "",
        made_by.tool or "",
        made_by.purpose or "",
        call.model or "",
        call.provider or "",
        call.response_model or "",
        call.service_tier or "",
        call.rates_version or "",
        STAGE_SEPARATOR.join(call.stages) if call.stages else "",
        made_by.organization or "",
        made_by.tag or "",
    )


def origin_alone(event: Saving | ToolChoice) -> Origin:
    """Return the origin of a saving, or of a choice of tools, whose call is not at hand."""
    return (event.agent, "", "", "", event.model or "", *[""] * (len(ORIGIN_FIELDS) - 5))


def digest_of(origin: Origin) -> bytes:
    """Return 16 bytes that stand for *origin*.

    Without a tag, or an organization either, they are those of the versions that had none.
    """
    stored = origin if origin[-1] else origin[:-1] if origin[-2] else origin[:-2]
    return hashlib.blake2b(json.dumps(stored).encode(), digest_size=16).digest()


def call_numbers(call: CallRecord) -> tuple[list[Any], list[Any]]:
    """Return the columns from ``id`` to ``estimated``, and those from ``flaws`` on."""
    first_chunk = call.first_chunk_seconds
    counts = _tokens_of(call.usage)
    cost, saved = call.cost_nano_usd, call.saved_nano_usd
    numbers: list[Any] = [
        call.run_id.int.to_bytes(16, "big"),
        max(0, microseconds(call.started_at)),
        _duration(call.duration_seconds),
        None if first_chunk is None else _duration(first_chunk),
        *counts,
        cost,
        saved,
        _STATUS_NUMBER[call.status],
        1 if call.cached else 0,
        1 if call.source == "estimated" else 0,
    ]
    flaws = call.flaws
    if not _storable((*counts, cost or 0, saved or 0)):
        flaws = (*flaws, *_make_storable(numbers))
    last = [_lines(flaws), _lines(call.unpriced), _SOURCES.index(call.source)]
    return numbers, [*last, _results_text(call.tool_results)]


def _results_text(results: Sequence[ToolResult]) -> str | None:
    """Return results of tools as JSON; ``None`` for none."""
    if not results:
        return None
    return json.dumps(
        [
            [clean(r.tool), _within(r.tokens), r.cost_nano_usd and _within(r.cost_nano_usd)]
            for r in results
        ]
    )


def tool_results(text: str | None) -> tuple[ToolResult, ...]:
    """Return the results of tools that a column holds."""
    return tuple(ToolResult(*values) for values in json.loads(text)) if text else ()


def _lines(phrases: Sequence[str]) -> str | None:
    return "\n".join(map(clean, phrases)) if phrases else None


def _storable(numbers: Sequence[Any]) -> bool:
    """Say whether these are integers that can be added up in 64 bits; quick, as they nearly are."""
    return type(sum(numbers)) is int and min(numbers) >= -LARGEST and max(numbers) <= LARGEST


def _make_storable(numbers: list[Any]) -> Iterator[str]:
    """Cut what is too large, in place, and say so."""
    for place in range(_FIRST_COUNT, _FIRST_COUNT + len(TOKEN_COUNTS) + 2):  # and two amounts
        number = numbers[place]
        if number is None:
            continue
        numbers[place] = _within(number)
        if not -LARGEST <= number <= LARGEST:
            yield f"{number:,} was stored as {_within(number):,}"


def saving_numbers(saving: Saving, started_at: int) -> list[Any]:
    """Return ``id``, ``started_at`` and the columns from ``output_side`` to ``saved_nano_usd``."""
    money = saving.saved_nano_usd
    return [
        saving.id.bytes,
        started_at,
        int(saving.side == "output"),
        int(saving.observed),
        int(saving.exact),
        _within(saving.tokens_before),
        _within(saving.tokens_after),
        _within(saving.spent_tokens),
        None if money is None else _within(money),
    ]


def choice_numbers(choice: ToolChoice, started_at: int) -> list[Any]:
    """Return the columns from ``id`` to ``tools``."""
    return [
        choice.id.bytes,
        started_at,
        int(choice.observed),
        *map(
            _within,
            (choice.left_out, choice.tokens_before, choice.tokens_after, choice.searches),
        ),
        json.dumps(
            [
                [[clean(tool.tool), _within(tool.tokens)] for tool in choice.offered],
                *(list(map(clean, getattr(choice, name))) for name in _NAMED_TOOLS),
            ],
            separators=(",", ":"),
        ),
    ]


_NAMED_TOOLS = ("called", "missed", "found")


def tools_in(text: str) -> dict[str, Any]:
    """Return which tools a column says were offered, called, missed and found."""
    offered, *named = json.loads(text)
    tools = {"offered": tuple(OfferedTool(tool, tokens) for tool, tokens in offered)}
    return tools | dict(zip(_NAMED_TOOLS, map(tuple, named), strict=True))


def budget_row(happened: BudgetEvent, at: int) -> list[Any]:
    """Return a whole row of ``budget_events``."""
    return [
        happened.id.bytes,
        at,
        happened.kind,
        clean(happened.budget),
        clean(happened.agent),
        _within(happened.spent_tokens),
        _within(happened.held_tokens),
        _within(happened.limit_tokens),
        clean(happened.detail),
        None if happened.run is None else clean(happened.run),
        None if happened.run_id is None else happened.run_id.bytes,
        None if happened.thread_id is None else clean(happened.thread_id),
    ]


def _within(number: int) -> int:
    """Return *number*, or the largest that is stored."""
    return max(-LARGEST, min(LARGEST, int(number)))


def _duration(seconds: float) -> int:
    """Return microseconds; 0 for what is no length of time."""
    if 0 <= seconds < 1e9:
        return round(seconds * 1e6)
    return _within(round(seconds * 1e6)) if math.isfinite(seconds) else 0


# Rows to events


def call_record(row: RowMapping, origin: Mapping[str, str], name: Mapping[int, str]) -> CallRecord:
    """Make the record of a row, without its savings."""
    run_id = UUID(bytes=bytes(row["id"]))
    run = row["run"]
    return CallRecord(
        run_id=run_id,
        model=origin["model"] or None,
        provider=origin["provider"] or None,
        usage=Usage(*(row[name] for name in TOKEN_COUNTS)),
        started_at=moment_of(row["started_at"]),
        duration_seconds=row["duration_us"] / 1e6,
        cost_nano_usd=row["cost_nano_usd"],
        source=_SOURCES[row["estimated"] if row["source"] is None else row["source"]],
        status=STATUSES[row["status"]],
        cached=bool(row["cached"]),
        attribution=Attribution(
            agent=origin["agent"],
            node=origin["node"] or None,
            tool=origin["tool"] or None,
            user=name.get(row["user"]),
            thread_id=name.get(row["thread_id"]),
            purpose=origin["purpose"] or None,
            organization=origin["organization"] or None,
            tag=origin["tag"] or None,
        ),
        run=str(run_id) if run == OWN_RUN else name.get(run),
        saved_nano_usd=row["saved_nano_usd"],
        first_chunk_seconds=None if row["first_chunk_us"] is None else row["first_chunk_us"] / 1e6,
        response_model=origin["response_model"] or None,
        service_tier=origin["service_tier"] or None,
        stages=tuple(origin["stages"].split(STAGE_SEPARATOR)) if origin["stages"] else (),
        flaws=tuple(row["flaws"].split("\n")) if row["flaws"] else (),
        unpriced=tuple(row["unpriced"].split("\n")) if row["unpriced"] else (),
        rates_version=origin["rates_version"] or None,
        tool_results=tool_results(row["tool_results"]),
    )


def saving_record(row: RowMapping, origin: Mapping[str, str], name: Mapping[int, str]) -> Saving:
    """Make the saving of a row."""
    return Saving(
        stage=name[row["stage"]],
        tokens_before=row["tokens_before"],
        tokens_after=row["tokens_after"],
        side="output" if row["output_side"] else "input",
        spent_tokens=row["spent_tokens"],
        saved_nano_usd=row["saved_nano_usd"],
        exact=bool(row["exact"]),
        observed=bool(row["observed"]),
        run_id=None if row["call"] is None else UUID(bytes=bytes(row["call"])),
        agent=origin["agent"],
        model=origin["model"] or None,
        at=moment_of(row["started_at"]),
        id=UUID(bytes=bytes(row["id"])),
    )


def tool_choice(row: RowMapping, origin: Mapping[str, str]) -> ToolChoice:
    """Make the choice of a row."""
    return ToolChoice(
        **tools_in(row["tools"]),
        left_out=row["left_out"],
        tokens_before=row["tokens_before"],
        tokens_after=row["tokens_after"],
        searches=row["searches"],
        observed=bool(row["observed"]),
        run_id=None if row["call"] is None else UUID(bytes=bytes(row["call"])),
        agent=origin["agent"],
        model=origin["model"] or None,
        at=moment_of(row["started_at"]),
        id=UUID(bytes=bytes(row["id"])),
    )


def budget_event(row: RowMapping) -> BudgetEvent:
    """Make the budget event of a row."""
    return BudgetEvent(
        kind=row["kind"],
        budget=row["budget"],
        agent=row["agent"],
        spent_tokens=row["spent_tokens"],
        held_tokens=row["held_tokens"],
        limit_tokens=row["limit_tokens"],
        detail=row["detail"],
        run=row["run"],
        run_id=None if row["run_id"] is None else UUID(bytes=bytes(row["run_id"])),
        thread_id=row["thread_id"],
        at=moment_of(row["at"]),
        id=UUID(bytes=bytes(row["id"])),
    )


def without_user(event: UsageEvent, secret: bytes) -> UsageEvent:
    """Return *event* with a hash in place of the user."""
    if isinstance(event, BudgetEvent) and event.user is not None:
        user = hidden(event.user, secret)
        return replace(event, user=user, detail=event.detail.replace(repr(event.user), repr(user)))
    if not isinstance(event, CallRecord) or event.attribution.user is None:
        return event
    user = hidden(event.attribution.user, secret)
    return replace(event, attribution=replace(event.attribution, user=user))
