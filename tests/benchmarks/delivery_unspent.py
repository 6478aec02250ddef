"""Why tokens are left of a run although a call was made smaller.

Rule, written before anything was measured: take the last request that arrived smaller than without
a plan (shorter, without its tools, or with its answer cut). Whoever had known then what every later
call needs without a plan could have given it what was left beyond that. What of the unspent tokens
that foreknowledge would have given away is *avoidable*; the rest is *inherent*: it was left because
later calls needed less than they do without a plan, having less to read.
The report *explains* them where what it says was kept, less what was used since, is what is left.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from tests.judge.delivery_checks import Outcome
from tests.judge.delivery_model import Attempt

__all__ = ["Unspent", "unspent"]

_ALLOWED = 0.05
"""Part of the total that may be left."""


@dataclass(frozen=True)
class Unspent:
    """What is left of one run that was made smaller."""

    is_much: bool
    """More than one twentieth of the total."""
    is_avoidable: bool
    """More than that would have been given away with foreknowledge."""
    is_explained: bool


def unspent(base: Outcome, run: Outcome) -> Unspent:
    """Say why tokens are left of *run*; *base* is the same application without a plan."""
    total, spent = run.total or 0, run.spent_said or 0
    left, allowed = total - spent, _ALLOWED * total
    kept = sum(kept - used for kept, used in run.reserved.values())
    return Unspent(
        left > allowed,
        left > allowed and min(left, _given_away(base, run)) > allowed,
        kept == max(left, 0),
    )


def _given_away(base: Outcome, run: Outcome) -> int:
    """Return what the last request that was made smaller could have had more."""
    plain: defaultdict[str, list[Attempt]] = defaultdict(list)
    for attempt in base.log.attempts:
        plain[attempt.agent].append(attempt)
    counts: defaultdict[str, int] = defaultdict(int)
    spent, last = 0, None
    for number, attempt in enumerate(run.log.attempts):
        mine = plain[attempt.agent]
        at = counts[attempt.agent]
        counts[attempt.agent] += 1
        if at >= len(mine) or _is_smaller(attempt, mine[at]):
            last = number, dict(counts), spent
        spent += attempt.billed
    if last is None:
        return (
            run.total or 0
        ) - spent  # nobody was asked: calls were answered in the model's place
    number, begun, before = last
    mine = run.log.attempts[number]
    later = sum(
        attempt.billed
        for agent, attempts in plain.items()
        if agent != mine.agent
        for attempt in attempts[begun.get(agent, 0) :]
    )
    own: Sequence[Attempt] = plain[mine.agent][begun[mine.agent] - 1 :]
    missing = sum(attempt.billed for attempt in own) - mine.billed
    return min(missing, (run.total or 0) - before - mine.billed - later)


def _is_smaller(attempt: Attempt, plain: Attempt) -> bool:
    fewer = attempt.input_tokens < plain.input_tokens if attempt.sent is None else attempt.lost > 0
    return fewer or attempt.cut or len(attempt.tools) < len(plain.tools)
