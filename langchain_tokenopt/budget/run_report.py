"""What became of a run and its agents, at one instant: as data, and as a story."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

from langchain_tokenopt.budget.account_reports import AgentReport, BudgetReport
from langchain_tokenopt.budget.reserves import Reserve, told
from langchain_tokenopt.budget.run_notes import AgentNotes, StepNotes
from langchain_tokenopt.budget.rungs import Step

__all__ = ["AgentRunReport", "BudgetRunReport"]


@dataclass(frozen=True, slots=True)
class AgentRunReport:
    """What became of one agent in a run. Tokens, unless the name says otherwise."""

    account: AgentReport
    """Allocated, spent, held, returned, denied."""
    steps: tuple[StepNotes, ...]
    """What was done to its calls to make them fit, in the order in which it was first done."""
    words_asked: int | None
    """The plan's word limit; ``None``: it has none."""
    limited_answers: int
    """Answers that were given under a word limit."""
    kept_answers: int
    """Of those, how many were shown within it."""
    unstaged_models: tuple[str, ...]
    """Models that this agent called without a stage: charged, but never shortened."""
    failed_calls: int = 0
    """Calls that brought no answer."""
    counted_calls: int = 0
    """Calls whose provider did not say what they have used: charged by our own count."""
    counted_tokens: int = 0
    """What these have used, as we count it."""
    added_tokens: int = 0
    """What they were charged on top: what their provider may have counted besides."""
    cut_calls: int = 0
    """Of these calls, those whose answers were not read to the end, such as at a word limit."""
    unknown_calls: int = 0
    """Calls that were given up before they had answered: charged all that they may be billed."""
    unknown_tokens: int = 0
    """What these were charged."""
    refusal: str = ""
    """Why its latest denied call was denied; empty where none was."""

    @property
    def agent(self) -> str:
        """The agent's name."""
        return self.account.agent

    @property
    def degraded(self) -> dict[str, int]:
        """How often each step was taken, by its name."""
        return {step.name: step.times for step in self.steps}

    @classmethod
    def of(cls, account: AgentReport, notes: AgentNotes, words_asked: int | None) -> Self:
        """Return the report on an agent, by its account and what was noted of it."""
        return cls(
            account=account,
            steps=tuple(notes.steps.values()),
            words_asked=words_asked,
            limited_answers=notes.limited,
            kept_answers=notes.kept,
            unstaged_models=tuple(sorted(notes.unstaged)),
            failed_calls=notes.failed,
            counted_calls=notes.estimated,
            counted_tokens=notes.counted,
            added_tokens=notes.added,
            cut_calls=notes.cut,
            unknown_calls=notes.unknown,
            unknown_tokens=notes.unknown_tokens,
            refusal=notes.refusal,
        )


@dataclass(frozen=True, slots=True)
class BudgetRunReport:
    """A run at one instant; as text it is a story, :meth:`as_dict` gives all of it as data."""

    thread_id: str | None
    account: BudgetReport
    agents: Mapping[str, AgentRunReport]
    failed_calls: int = 0
    """Calls that brought no answer; what they may have cost is charged."""
    user: str | None = None
    """Whose run it is, as ``plan.run(user=...)`` said."""
    limits: tuple[BudgetReport, ...] = ()
    """The accounts around the run's, such as its user's day; from the inside outwards."""
    last_shortened: str | None = None
    """Whose call was the last that was made smaller, or refused; ``None``: nobody's was."""
    reserves: tuple[Reserve, ...] = ()
    """What was kept then, for whom, and used since: it explains what is left."""
    is_resumed: bool = False
    """Whether its account was used before, in a block or a process of which figures alone are kept:
    then steps, reasons and reserves are those of this block."""

    @property
    def unstaged_models(self) -> dict[str, tuple[str, ...]]:
        """Models that nobody staged, by the agents that called them."""
        return {
            name: line.unstaged_models for name, line in self.agents.items() if line.unstaged_models
        }

    @property
    def denied_calls(self) -> int:
        """Calls that were refused, or answered in the model's place."""
        return sum(line.account.denied_calls for line in self.agents.values())

    def as_dict(self) -> dict[str, Any]:
        """Return the report as what JSON can hold, times in ISO 8601.

        Example:
            >>> from langchain_tokenopt import BudgetPlan
            >>> with BudgetPlan(total_tokens=1_000).run() as run:
            ...     report = run.report().as_dict()
            >>> report["account"]["total_tokens"], report["agents"], report["denied_calls"]
            (1000, {}, 0)
        """
        return {
            "thread_id": self.thread_id,
            "user": self.user,
            "account": _account(self.account),
            "agents": {name: asdict(line) for name, line in self.agents.items()},
            "failed_calls": self.failed_calls,
            "denied_calls": self.denied_calls,
            "limits": [_account(limit) for limit in self.limits],
            "last_shortened": self.last_shortened,
            "is_resumed": self.is_resumed,
            "reserves": [asdict(reserve) for reserve in self.reserves],
        }

    def __str__(self) -> str:
        """Tell who got what, what was shortened and lost, who was denied, and what is left."""
        parts = [
            [self._spent()],
            _table(self.agents),
            [*self._shortened()],
            [*self._denied()],
            [*self._estimated()],
            [*self._left()],
        ]
        return "\n\n".join("\n".join(lines) for lines in parts if lines)

    def _spent(self) -> str:
        whole, called = self.account, [a for a in self.agents.values() if a.account.calls]
        calls = sum(line.account.calls for line in called)
        name = f"{whole.budget}, {self.thread_id!r}" if self.thread_id else whole.budget
        made = f"{_count(calls, 'call')} of {_count(len(called), 'agent')}" if calls else "no calls"
        made += f", {self.denied_calls:,} denied" if self.denied_calls else ""
        return (
            f"{name}: {whole.spent_tokens:,} of {whole.total_tokens:,} tokens spent, "
            f"{whole.held_tokens:,} held; {made}."
        )

    def _shortened(self) -> Iterator[str]:
        shortened = [
            (line.agent, steps)
            for line in self.agents.values()
            if (steps := [step for step in line.steps if step.name != Step.FINAL])
        ]
        here = " in this block; of what was before, figures alone are kept" * self.is_resumed
        if not shortened:
            yield f"Nothing was shortened{here}."
            return
        yield f"What was shortened{here}:"
        for agent, steps in shortened:
            yield from (f"  {agent} {step}" for step in steps)

    def _denied(self) -> Iterator[str]:
        denied = [line for line in self.agents.values() if line.account.denied_calls]
        if not denied:
            yield "Nobody was denied a call."
        for line in denied:
            calls = line.account.denied_calls
            last = "; the last one" if calls > 1 else ""
            why = f"{last}: {line.refusal}" if line.refusal else "."
            yield f"{line.agent} was denied {_count(calls, 'call')}{why}"
        for agent, models in self.unstaged_models.items():
            yield f"{agent} called {', '.join(models)} without a stage: charged, never shortened"
        if self.failed_calls:
            yield f"{_count(self.failed_calls, 'call')} brought no answer."

    def _estimated(self) -> Iterator[str]:
        """Tell what was charged without a word of the provider, and how much."""
        for line in self.agents.values():
            if line.counted_calls:
                yield (
                    f"{_unreported(line)}: {line.counted_tokens:,} tokens are charged as we count "
                    f"them, and {line.added_tokens:,} for what it may have counted besides."
                )
            if line.unknown_calls:
                yield (
                    f"{_count(line.unknown_calls, 'call')} of {line.agent} ended before an answer "
                    f"came: {line.unknown_tokens:,} tokens are charged, all that may be billed, "
                    f"as the provider writes on."
                )

    def _left(self) -> Iterator[str]:
        whole = self.account
        if whole.limits_tokens:
            others = whole.left_tokens - whole.pool_tokens
            part = f", {others:,} to agents that may still call" if others > 0 else ""
            where = f": {whole.pool_tokens:,} in the pool, for whoever needs them{part}."
            left = whole.left_tokens
            yield f"{left:,} tokens are left{where}" if left else "Nothing is left."
            if self.last_shortened is not None and whole.left_tokens:
                yield from told(self.last_shortened, self.reserves)
        if whole.total_nano_usd is not None:
            yield whole.money()
        yield from (limit.sentence() for limit in self.limits)
        if whole.possible_surplus_tokens:
            yield (
                f"up to {whole.possible_surplus_tokens:,} more, if providers wrote on when answers "
                f"had been cut off"
            )


def _account(report: BudgetReport) -> dict[str, Any]:
    times = {
        name: None if at is None else at.isoformat()
        for name, at in (("starts_at", report.starts_at), ("resets_at", report.resets_at))
    }
    values = asdict(report)
    del values["agents"]  # those of the run say more
    return {**values, **times, "left_tokens": report.left_tokens}


def _unreported(line: AgentRunReport) -> str:
    """Say of how many calls the provider has not said what they have used, and why."""
    calls, cut = line.counted_calls, line.cut_calls
    if calls == cut:
        whose = f"{_count(cut, 'answer')} of {line.agent}"
        if cut == 1:
            return f"{whose} was cut before its provider had said what it used"
        return f"{whose} were cut before their provider had said what they used"
    some = f", {cut:,} of them cut before their end" if cut else ""
    whose = f"{_count(calls, 'call')} of {line.agent}"
    return f"{whose} came back without usage of the provider's{some}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _table(agents: Mapping[str, AgentRunReport]) -> list[str]:
    """Return a line for each agent, without columns of which there is nothing to say."""
    head = ("agent", "allocated", "spent", "held", "returned", "calls", "denied", "words kept")
    rows = [_cells(line) for line in agents.values()]
    told = [
        column
        for column, name in enumerate(head)
        if name in _ALWAYS or any(row[column] not in ("", "0") for row in rows)
    ]
    shown = [[row[column] for column in told] for row in (head, *rows)]
    widths = [max(map(len, cells)) for cells in zip(*shown, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (shown if agents else ())
    ]


_ALWAYS: Final = ("agent", "spent", "calls")


def _cells(line: AgentRunReport) -> tuple[str, ...]:
    account = line.account
    words = "" if line.words_asked is None else f"{line.kept_answers}/{line.limited_answers}"
    figures = (
        account.allocated_tokens,
        account.spent_tokens,
        account.held_tokens,
        account.returned_tokens,
        account.calls,
        account.denied_calls,
    )
    return (line.agent, *(f"{figure:,}" for figure in figures), words)
