"""What a run will have used at its end, from the runs before it and what it has used so far."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, Protocol, Unpack

from langchain_tokenopt.core.argument_checks import (
    check_amount,
    check_choice,
    is_amount,
    shown,
)
from langchain_tokenopt.core.dimensions import Filters
from langchain_tokenopt.core.records import UsageTotals
from langchain_tokenopt.forecast.series import FEWEST, Begun, Estimate, estimate_next

__all__ = ["RunForecast", "RunHistory", "forecast_run"]

_RUNS: Final = 120
"""Runs before that are looked at."""
_DRAWS: Final = 400
_Parts = Mapping[str, float]
"""What each agent of a run has used."""
_LIMITS: Final = ("expected", "low", "high", "p95")


class RunHistory(Protocol):
    """Knows what the agents of runs used; a ``Ledger`` does."""

    def parts_of_runs(
        self, *, limit: int = 20, **filters: Unpack[Filters]
    ) -> Mapping[str, Mapping[str, UsageTotals]]:
        """Return the latest runs, oldest first: by id, what each agent used."""
        ...


@dataclass(frozen=True, slots=True)
class RunForecast:
    """What a run will have used at its end: tokens, or billionths of a dollar."""

    spent: int
    """So far."""
    at_end: Estimate | None
    """``None``: too little is known; the notes say what is missing."""
    runs: int
    """Runs that it was learned from."""
    notes: tuple[str, ...] = ()
    """What was odd, in sentences."""


def forecast_run(
    history: RunHistory | Sequence[Mapping[str, float]],
    *,
    measure: Literal["tokens", "cost"] = "tokens",
    running: str | None = None,
    spent: float | Mapping[str, float] = 0,
    agents: Collection[str] | None = None,
    **filters: Unpack[Filters],
) -> RunForecast:
    """Forecast what a run will have used at its end, with an interval that four of five keep.

    Args:
        history: A ledger, or what each agent used in each of the runs before, oldest first.
        measure: ``"cost"`` is in billionths of a dollar. Of the ledger; else it only has a name.
        running: The run of the ledger that is going on: what it has used is known from there.
        spent: What a run that is going on has used so far, as a whole or by agent.
        agents: Who will still call; by default all those that *spent* does not name.
        **filters: Only runs of this ``user``, ``tag``...

    Returns:
        With ``at_end=None`` where too few such runs are known; the notes say so. Agents that have
        never met are added up from the runs that each was in.

    Raises:
        TypeError: *history* is no ledger and no list of runs.
        ValueError: What was spent is no amount, or a list is to be filtered.

    Example:
        >>> runs = [{"news": 100, "trader": 300}, {"news": 200, "trader": 600}] * 6
        >>> [round(forecast_run(runs, spent={"news": n}).at_end.expected, -2) for n in (100, 200)]
        [400.0, 800.0]
        >>> forecast_run(runs[:3]).notes
        ('A forecast takes 4 runs before; there are 3.',)
    """
    check_choice("measure", measure, "tokens", "cost")
    if isinstance(history, Sequence):
        if filters or running is not None:
            raise ValueError("only a ledger can be filtered, or knows a run by its id.")
        runs: list[_Parts] = list(history)
        for parts in runs:
            if not isinstance(parts, Mapping):
                raise TypeError(f"a run is what each agent used, by name; got {shown(parts)}.")
    elif not hasattr(history, "parts_of_runs"):
        raise TypeError(f"history must be a ledger or a list of runs; got {shown(history)}.")
    else:
        known = {
            name: {agent: _of(totals, measure) for agent, totals in parts.items()}
            for name, parts in history.parts_of_runs(limit=_RUNS + 1, **filters).items()
        }
        if running is not None:
            spent = known.pop(running, {})
        runs = list(known.values())
    each = list(spent.values()) if isinstance(spent, Mapping) else [spent]
    if any(used != used for used in each):  # as of calls without a price
        return RunForecast(0, None, 0, ("What this run has used so far is not known.",))
    for used in each:
        check_amount("what was spent", used)
    so_far = sum(each)
    usable = [parts for parts in runs if all(map(is_amount, parts.values()))][-_RUNS:]
    notes = _left_out(len(runs[-_RUNS:]) - len(usable))
    rest, said = _rest(usable, spent, agents)
    at_end = rest and replace(rest, **{name: so_far + getattr(rest, name) for name in _LIMITS})
    return RunForecast(round(so_far), at_end, len(usable), notes + said)


def _of(totals: UsageTotals, measure: str) -> float:
    if measure == "tokens":
        return totals.total_tokens
    return math.nan if totals.unpriced_calls else totals.cost_nano_usd


def _left_out(count: int) -> tuple[str, ...]:
    return (
        (f"{count:,} runs were left out: what they used is not known, or cannot be.",)
        if count
        else ()
    )


_Found = tuple[Estimate | None, tuple[str, ...]]


def _rest(runs: Sequence[_Parts], spent: float | _Parts, agents: Collection[str] | None) -> _Found:
    """Estimate what is still to come, and say what is missing or odd."""
    if not isinstance(spent, Mapping) and spent:
        used = [_used(parts, agents) for parts in runs]
        longer = [each - spent for each in used if each > spent]
        return estimate_next(longer), _too_few(longer, f" that used more than {spent:,.0f}")
    spent = spent if isinstance(spent, Mapping) else {}
    wanted = set(spent) | set(agents or ())
    alike = [parts for parts in runs if wanted <= parts.keys()]
    if len(alike) < FEWEST and agents:
        return _never_met(runs, agents)
    if not spent:
        used = [_used(parts, agents) for parts in alike]
        return estimate_next(used), _too_few(used, "")
    before = [_used(parts, spent) for parts in alike]
    after = [_to_come(parts, spent, agents) for parts in alike]
    over = sum(before) / (sum(before) + sum(after)) if sum(before) else 0.0
    begun = Begun(sum(spent.values()), before, over)
    return estimate_next(after, begun=begun), _too_few(alike, f" with {', '.join(spent)}")


def _used(parts: _Parts, agents: Collection[str] | None) -> float:
    return sum(used for agent, used in parts.items() if agents is None or agent in agents)


def _to_come(parts: _Parts, spent: _Parts, agents: Collection[str] | None) -> float:
    """Return what a run before used after this point, agent by agent."""
    still = parts.keys() - spent.keys() if agents is None else agents
    return sum(max(0.0, parts[agent] - spent.get(agent, 0.0)) for agent in still)


def _too_few(runs: Sequence[object], which: str) -> tuple[str, ...]:
    if len(runs) >= FEWEST:
        return ()
    return (f"A forecast takes {FEWEST} runs before{which}; there are {len(runs)}.",)


def _never_met(runs: Sequence[_Parts], agents: Collection[str]) -> _Found:
    """Add up what each agent used in the runs that it was in."""
    each = {name: [parts[name] for parts in runs if name in parts] for name in sorted(agents)}
    missing = [name for name, used in each.items() if len(used) < FEWEST]
    if missing:
        return None, (f"Fewer than {FEWEST} runs are known of {', '.join(missing)}.",)
    chance = random.Random(0)
    sums = [sum(map(chance.choice, each.values())) for _ in range(_DRAWS)]
    twentieths = statistics.quantiles(sums, n=20)
    found = Estimate(
        expected=statistics.median(sums),
        low=twentieths[1],
        high=twentieths[-2],
        p95=twentieths[-1],
        error=None,
        coverage=None,
        tests=0,
        methods=(),
    )
    return found, ("These agents have never met in a run: each is taken by itself.",)
