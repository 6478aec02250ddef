"""A call as one flat row: what is exported, and what becomes a table of pandas."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from langchain_tokenopt.core.attribution import Attribution
from langchain_tokenopt.core.dimensions import DIMENSIONS, STAGE_SEPARATOR
from langchain_tokenopt.core.records import CallRecord
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.pricing.money import exact_usd

if TYPE_CHECKING:
    import pandas

__all__ = ["data_frame", "flat_row"]

_MADE_BY = tuple(field.name for field in fields(Attribution))
_COUNTED = tuple(field.name for field in fields(Usage))
_LAST = ("stages", "rates_version")
_CALL = tuple(name for name in DIMENSIONS if name not in _MADE_BY and name not in _LAST)


def flat_row(call: CallRecord) -> dict[str, Any]:
    """Return a call as one flat row; money is text, with all its digits."""
    return {
        "run_id": str(call.run_id),
        "started_at": call.started_at.isoformat(),
        "duration_seconds": call.duration_seconds,
        "first_chunk_seconds": call.first_chunk_seconds,
        **{name: getattr(call.attribution, name) for name in _MADE_BY},
        **{name: getattr(call, name) for name in _CALL},
        **{name: getattr(call, name) for name in ("status", "source", "cached")},
        **{name: getattr(call.usage, name) for name in _COUNTED},
        "cost_usd": exact_usd(call.cost_nano_usd),
        "saved_tokens": call.saved_tokens,
        "saved_usd": exact_usd(_saved(call)),
        "stages": STAGE_SEPARATOR.join(call.stages),
        "flaws": "; ".join(call.flaws),
        "unpriced": "; ".join(call.unpriced),
        "rates_version": call.rates_version,
        "tool_results": "; ".join(f"{r.tool}: {r.tokens}" for r in call.tool_results),
    }


def _saved(call: CallRecord) -> int | None:
    """Return what a cache and stages saved on this call; ``None`` where none of it has a price."""
    parts = [call.saved_nano_usd]
    parts += [saving.saved_nano_usd for saving in call.savings if not saving.observed]
    known = [part for part in parts if part is not None]
    return sum(known) if known else None


_NO_CALL = CallRecord(
    run_id=UUID(int=0),
    model=None,
    provider=None,
    usage=Usage(),
    started_at=datetime(1970, 1, 1, tzinfo=UTC),
    duration_seconds=0.0,
    cost_nano_usd=None,
)
"""Has the columns of any: a table without rows has them, too."""


def data_frame(calls: Iterable[CallRecord]) -> pandas.DataFrame:
    """Return calls as a table of pandas.

    Raises:
        ImportError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise ImportError(
            'to_pandas() needs pandas. Install it: pip install "langchain-tokenopt[pandas]".'
        ) from error
    rows = [{**flat_row(call), "cost_nano_usd": call.cost_nano_usd} for call in (_NO_CALL, *calls)]
    table = pandas.DataFrame.from_records(rows[1:], columns=list(rows[0]))
    table["started_at"] = pandas.to_datetime(table["started_at"], utc=True, format="ISO8601")
    table["cost_nano_usd"] = table["cost_nano_usd"].astype("Int64")
    for name in ("cost_usd", "saved_usd"):
        table[name] = table[name].astype("float64")
    return table
