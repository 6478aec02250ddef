"""In which stages missing data are asked for: by strategy, complexity and the tokens left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Literal, NamedTuple, get_args

from langchain_tokenopt.data_requests.needs import IMPORTANCES, DataNeed

__all__ = ["STRATEGIES", "Stage", "Strategy", "chosen_strategy", "stages_for"]

Strategy = Literal["auto", "simple", "chunked", "progressive", "critical"]
STRATEGIES: Final[tuple[Strategy, ...]] = get_args(Strategy)

_AT_ONCE: Final = 7
"""Data points that one question asks for without being long: as many as a reader keeps in mind
(Miller, "The magical number seven, plus or minus two", 1956). One list costs fewer tokens than
stages (``tests/benchmarks/agents_requests.py``), so it is left for those who have to read it."""


class Stage(NamedTuple):
    """Data points that are asked for together."""

    name: str
    needs: tuple[DataNeed, ...]


def chosen_strategy(
    missing: Sequence[DataNeed], left: int | None, cost: Callable[[Sequence[DataNeed]], int]
) -> Strategy:
    """Choose a strategy for what is missing.

    Few data points are one list. Many of different importance are asked for by importance, so that
    the last stages can be left out; many of one importance a few at a time. Where the tokens left
    do not pay for all, what is essential comes first; where not for that, the one question counts.

    Args:
        missing: In the order in which they were given.
        left: Tokens that the run has left; ``None``: nothing limits them.
        cost: About how many tokens it takes to read an answer about these.

    Example:
        >>> needs = [DataNeed(name) for name in "abc"]
        >>> [chosen_strategy(needs, left, lambda some: 100 * len(some)) for left in (None, 250)]
        ['simple', 'critical']
    """
    essential = [need for need in missing if need.importance == "essential"]
    if left is not None and left < cost(missing):
        is_partly = len(essential) < len(missing) and left >= cost(essential)
        return "progressive" if is_partly else "critical"
    if len(missing) <= _AT_ONCE:
        return "simple"
    if len({need.importance for need in missing}) > 1:
        return "progressive"
    return "chunked"


def stages_for(strategy: Strategy, missing: Sequence[DataNeed], chunk: int) -> list[Stage]:
    """Return the stages of a strategy, the most important data first.

    Example:
        >>> needs = [DataNeed("wish", importance="enriching"), DataNeed("city"), DataNeed("day")]
        >>> [(stage.name, len(stage.needs)) for stage in stages_for("progressive", needs, 3)]
        [('essential', 2), ('enriching', 1)]
        >>> stages_for("critical", needs, 3)[0].needs[0].name
        'city'
    """
    ordered = sorted(missing, key=lambda need: IMPORTANCES.index(need.importance))
    if not ordered:
        return []
    if strategy == "critical":
        return [Stage("critical", (ordered[0],))]
    if strategy == "progressive":
        by = {level: [n for n in ordered if n.importance == level] for level in IMPORTANCES}
        return [Stage(level, tuple(needs)) for level, needs in by.items() if needs]
    if strategy == "chunked":
        starts = range(0, len(ordered), chunk)
        return [
            Stage(f"chunk {n}", tuple(ordered[at : at + chunk])) for n, at in enumerate(starts, 1)
        ]
    return [Stage("simple", tuple(ordered))]
