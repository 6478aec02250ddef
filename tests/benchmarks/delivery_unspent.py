"""Why tokens are left of a run although a call was made smaller.

Rule: take the last request that arrived smaller than it was sent, or than without a plan: shorter,
without its tools, or with its answer cut by a cap. An answer that the words of the plan have
ended is no smaller: it was as long as it may be. What the report says was kept at that moment, less
what was used since, is what is left, by *kind*:

- *shorter*: kept for an answer of the one that was made smaller, which was shorter;
- *less*: kept for others who came, and used less than they were taken to need;
- *absent*: kept for others who might have come, and did not.

*Avoidable* is what foreknowledge of the others would have given to that request: as much of the two
latter kinds as it lacked. An answer shorter than what it could have had strands nothing.
The report *explains* what is left where these kinds sum to it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tests.judge.delivery_checks import Outcome, whole_words
from tests.judge.delivery_model import Attempt

__all__ = ["KINDS", "Unspent", "unspent"]

KINDS = {
    "shorter": "an answer was shorter than what was kept for it",
    "less": "others used less than was kept for them",
    "absent": "others did not come",
}
_ALLOWED = 0.05
"""Part of the total that may be left."""
_AT_LIMIT = 0.6
"""Part of its words from which on an answer is taken to be ended by them: at a whole sentence."""


@dataclass(frozen=True)
class Unspent:
    """What is left of one run that was made smaller."""

    kinds: Mapping[str, int]
    """Tokens."""
    is_much: bool
    """More than one twentieth of the total."""
    is_avoidable: bool
    """More than that would have been given away with foreknowledge."""
    is_explained: bool

    @property
    def kind(self) -> str:
        """Return why most of it is left."""
        return max(KINDS, key=lambda kind: self.kinds[kind])


def unspent(base: Outcome, run: Outcome, words: Mapping[str, int]) -> Unspent:
    """Say why tokens are left of *run*.

    Args:
        base: The same application without a plan.
        run: Under a plan.
        words: That the plan allows, by agent.
    """
    total, spent = run.total or 0, run.spent_said or 0
    left, allowed = total - spent, _ALLOWED * total
    agent, lacked = "", 0
    for agent, lacked in _smaller(base, run, words):  # noqa: B007 - the last one counts
        pass
    kinds = dict.fromkeys(KINDS, 0)
    for name, (kept, used) in run.reserved.items():
        kinds["shorter" if name == agent else "less" if used else "absent"] += kept - used
    given = min(left, lacked, kinds["less"] + kinds["absent"])
    explained = sum(kinds.values()) == max(left, 0)
    return Unspent(kinds, left > allowed, left > allowed and given > allowed, explained)


def _smaller(base: Outcome, run: Outcome, words: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    """Yield whose requests were made smaller, and what each lacked; then calls never sent."""
    plain: defaultdict[str, list[Attempt]] = defaultdict(list)
    for attempt in base.log.attempts:
        plain[attempt.agent].append(attempt)
    counts: defaultdict[str, int] = defaultdict(int)
    for attempt in run.log.attempts:
        at, mine = counts[attempt.agent], plain[attempt.agent]
        counts[attempt.agent] += 1
        alike = mine[at] if at < len(mine) else None
        lacked = attempt.lost
        if attempt.sent is None and alike is not None:
            lacked = max(alike.input_tokens - attempt.input_tokens, 0)
        if attempt.cut and alike is not None and not _at_limit(attempt, words):
            lacked += max(alike.output_tokens - attempt.output_tokens, 0)
        if alike is not None and len(attempt.tools) < len(alike.tools):
            lacked += sum(each.billed for each in mine[at + 1 :])
        if lacked:
            yield attempt.agent, lacked
    for call in run.log.calls:
        if call.made_up:
            yield call.agent, sum(each.billed for each in plain[call.agent][:1])


def _at_limit(attempt: Attempt, words: Mapping[str, int]) -> bool:
    """Whether the plan's own number of words has ended an answer."""
    limit = words.get(attempt.agent)
    return limit is not None and whole_words(attempt.text) >= _AT_LIMIT * limit
