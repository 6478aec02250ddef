"""What became of a run and its agents, at one instant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from langchain_tokenopt.budget.account_reports import AgentReport, BudgetReport

__all__ = ["AgentRunReport", "BudgetRunReport"]


@dataclass(frozen=True, slots=True)
class AgentRunReport:
    """What became of one agent in a run. Tokens, unless the name says otherwise."""

    account: AgentReport
    """Allocated, spent, held, returned, denied."""
    degraded: Mapping[str, int]
    """How often each step of the degradation was taken, by its name."""
    words_asked: int | None
    """The plan's word limit; ``None``: it has none."""
    limited_answers: int
    """Answers that were given under a word limit."""
    kept_answers: int
    """Of those, how many were shown within it."""
    unstaged_models: tuple[str, ...]
    """Models that this agent called without a stage: charged, but never shortened."""

    @property
    def agent(self) -> str:
        """The agent's name."""
        return self.account.agent


@dataclass(frozen=True, slots=True)
class BudgetRunReport:
    """A run at one instant."""

    thread_id: str | None
    account: BudgetReport
    agents: Mapping[str, AgentRunReport]
    failed_calls: int = 0
    """Calls that brought no answer; what they may have cost is charged."""
    user: str | None = None
    """Whose run it is, as ``plan.run(user=...)`` said."""
    limits: tuple[BudgetReport, ...] = ()
    """The accounts around the run's, such as its user's day; from the inside outwards."""

    @property
    def unstaged_models(self) -> dict[str, tuple[str, ...]]:
        """Models that nobody staged, by the agents that called them."""
        return {
            name: line.unstaged_models for name, line in self.agents.items() if line.unstaged_models
        }

    def __str__(self) -> str:
        """Show a line for every agent."""
        head = ("agent", "allocated", "spent", "held", "returned", "denied", "degraded", "words")
        rows = [head, *(_cells(line) for line in self.agents.values())]
        widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
        lines = [
            "  ".join(
                cell.ljust(width) if column in (0, 6) else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        whole = self.account
        lines.append(
            f"{whole.spent_tokens:,} of {whole.total_tokens:,} tokens spent, "
            f"{whole.held_tokens:,} held, {whole.pool_tokens:,} in the pool"
        )
        if whole.total_nano_usd is not None:
            lines.append(whole.money())
        lines += [limit.sentence() for limit in self.limits]
        if whole.possible_surplus_tokens:
            lines.append(
                f"up to {whole.possible_surplus_tokens:,} more, if providers wrote on when answers "
                f"had been cut off"
            )
        lines += [
            f"{agent} called {', '.join(models)} without a stage: charged, never shortened"
            for agent, models in self.unstaged_models.items()
        ]
        return "\n".join(lines)


def _cells(line: AgentRunReport) -> tuple[str, ...]:
    account = line.account
    degraded = ", ".join(f"{name} {count}" for name, count in line.degraded.items())
    words = "" if line.words_asked is None else f"{line.kept_answers}/{line.limited_answers}"
    return (
        line.agent,
        f"{account.allocated_tokens:,}",
        f"{account.spent_tokens:,}",
        f"{account.held_tokens:,}",
        f"{account.returned_tokens:,}",
        f"{account.denied_calls:,}",
        degraded,
        words,
    )
