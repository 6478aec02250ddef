"""What an agent should do with: its share, and a part of what nobody claims."""

from __future__ import annotations

from langchain_tokenopt.budget.holds import Hold
from langchain_tokenopt.budget.plan import BudgetPlan
from langchain_tokenopt.core.usage import Usage

PLAN = BudgetPlan(
    total_tokens=10_000,
    buffer=4_000,
    agents={name: {"tokens": 1_000} for name in ("a", "b", "c", "d", "e", "f")},
)


def test_who_starts_together_gets_the_same_whoever_reserves_first() -> None:
    """What one has borrowed from the pool is not taken from the others' parts."""
    with PLAN.run() as run:
        targets = []
        for agent in ("a", "b"):
            targets.append(run.room_of(agent).own)
            assert isinstance(run.account.reserve(agent, targets[-1] - 100, 100), Hold)

    assert targets[0] > 1_000
    assert targets[0] == targets[1]


def test_nobody_is_promised_more_than_there_is() -> None:
    """When the pool is gone, what is left of the share is all."""
    with PLAN.run() as run:
        assert isinstance(run.account.reserve("a", 4_900, 100), Hold)

        assert 1_000 == run.room_of("b").own


def test_the_next_turn_gets_a_part_of_what_is_left() -> None:
    """An agent that comes back is given less each time, and always something."""
    with PLAN.run() as run:
        targets = []
        for _ in range(4):
            targets.append(run.room_of("a").own)
            hold = run.account.reserve("a", targets[-1] - 10, 10)
            assert isinstance(hold, Hold)
            run.account.settle(hold, Usage(targets[-1] - 10, 10))

    assert sorted(targets, reverse=True) == targets
    assert 0 < targets[-1] < targets[0]


def test_an_agent_may_count_on_three_times_its_part_of_the_pool() -> None:
    """Six agents of one weight share 4,000 tokens; most of them will need none."""
    with PLAN.run() as run:
        assert 1_000 + 3 * 4_000 // 6 == run.room_of("a").own
