"""What a run remembers of its agents beside their accounts."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from langchain_tokenopt.budget.reserves import Shortage

__all__ = ["AgentNotes", "RunNotes", "StepNotes", "StepTaken", "with_step"]

_KEPT_LOSSES = 20
"""Of one step, how many of its losses are kept in words."""


@dataclass(frozen=True, slots=True)
class StepTaken:
    """One step, and what it did."""

    name: str
    before: int = 0
    """Tokens of the call, input and output, before it."""
    after: int = 0
    lost: str = ""
    """What the model does not see, or say, any more."""
    words_before: int | None = None
    """Words that the answer could have before it, where it asks for fewer."""

    @property
    def saved(self) -> int:
        """Tokens that it has saved."""
        return self.before - self.after

    def __str__(self) -> str:
        """Say it in words.

        Example:
            >>> print(StepTaken("asked for fewer words", 900, 700, "100 of 200 words"))
            asked for fewer words; 900 to 700 tokens; lost 100 of 200 words
        """
        if self.before == self.after and not self.lost:
            return self.name
        lost = f"; lost {self.lost}" if self.lost else ""
        return f"{self.name}; {self.before:,} to {self.after:,} tokens{lost}"


def with_step(steps: Sequence[StepTaken], step: StepTaken) -> tuple[StepTaken, ...]:
    """Return the steps of a call with one more; one that was taken before is taken further.

    Each begins where the one before it has ended, so that together they have saved what the call
    has become smaller by.

    Example:
        >>> steps = with_step([StepTaken("fewer words", 900, 700)], StepTaken("cut", 700, 400))
        >>> [(s.name, s.before, s.after) for s in with_step(steps, StepTaken("cut", 400, 350))]
        [('fewer words', 900, 700), ('cut', 700, 350)]
    """
    size = steps[0].before if steps else step.before
    earlier = sum(each.saved for each in steps if each.name == step.name)
    others = [each for each in steps if each.name != step.name]
    made = []
    for each in (*others, replace(step, before=step.before + earlier)):
        made.append(replace(each, before=size, after=size - each.saved))
        size -= each.saved
    return tuple(made)


@dataclass(frozen=True, slots=True)
class StepNotes:
    """What one step has done to the calls of one agent, taken together."""

    name: str
    times: int = 0
    tokens_before: int = 0
    """Tokens of the calls, input and output, before it."""
    tokens_after: int = 0
    lost: tuple[str, ...] = ()
    """What models did not see or say any more, call by call."""

    def again(self, step: StepTaken) -> StepNotes:
        """Return the notes with one more call."""
        return StepNotes(
            self.name,
            self.times + 1,
            self.tokens_before + step.before,
            self.tokens_after + step.after,
            (*self.lost, step.lost)[:_KEPT_LOSSES] if step.lost else self.lost,
        )

    def __str__(self) -> str:
        """Say it in words.

        Example:
            >>> notes = StepNotes("asked for fewer words")
            >>> print(notes.again(StepTaken("asked for fewer words", 900, 700, "100 of 200 words")))
            asked for fewer words once: 900 to 700 tokens; lost 100 of 200 words
        """
        times = {1: "once", 2: "twice"}.get(self.times, f"{self.times:,} times")
        saved = self.tokens_before != self.tokens_after
        sizes = f": {self.tokens_before:,} to {self.tokens_after:,} tokens" if saved else ""
        more = " and more" if len(self.lost) == _KEPT_LOSSES else ""
        lost = f"; lost {', '.join(_summed(self.lost))}{more}" if self.lost else ""
        return f"{self.name} {times}{sizes}{lost}"


def _summed(losses: Sequence[str]) -> list[str]:
    """Say losses of one kind together: tokens add up, lengths of answers do not."""
    kinds: dict[str, list[int]] = {}
    for loss in losses:
        number, _, kind = loss.partition(" ")
        figure = number.replace(",", "")
        kind, size = (kind, int(figure)) if figure.isdigit() else (loss, -1)
        kinds.setdefault(kind, []).append(size)
    return [_together(kind, sizes) for kind, sizes in kinds.items()]


def _together(kind: str, sizes: Sequence[int]) -> str:
    least, most = min(sizes), max(sizes)
    if least < 0:
        return kind
    if len(sizes) == 1:
        return f"{least:,} {kind}"
    if kind.startswith("tokens"):
        return f"{sum(sizes):,} {kind}"
    return f"{least:,} {kind} each time" if least == most else f"{least:,} to {most:,} {kind}"


@dataclass(slots=True)
class AgentNotes:
    """What was noted of one agent."""

    steps: dict[str, StepNotes] = field(default_factory=dict)
    """What was done to its calls, by the names of the steps."""
    limited: int = 0
    """Answers under a word limit."""
    kept: int = 0
    """Of those, how many were within it."""
    unstaged: set[str] = field(default_factory=set)
    failed: int = 0
    """Calls that brought no answer."""
    estimated: int = 0
    """Calls whose provider did not say what they have used."""
    counted: int = 0
    """What these have used as we count it, in tokens."""
    added: int = 0
    """What they were charged on top."""
    cut: int = 0
    """Calls, of those that were estimated, that were cut off before their provider could say it."""
    unknown: int = 0
    """Calls that were charged all that they may have used."""
    unknown_tokens: int = 0
    refusal: str = ""
    """Why its latest call was refused."""

    def add_step(self, step: StepTaken) -> None:
        """Count a step that was taken."""
        self.steps[step.name] = self.steps.get(step.name, StepNotes(step.name)).again(step)


class RunNotes:
    """Notes on agents, taken by any thread.

    The garbage collector may close an abandoned stream at any moment, on a thread that is just
    taking a note; the end of that call is noted, too. So notes are queued first, which cannot be
    interrupted, and applied by whoever is not kept from it.
    """

    def __init__(self) -> None:
        self._queue: deque[tuple[str, Callable[[AgentNotes], None]]] = deque()
        self._applying = threading.Lock()
        self._agents: dict[str, AgentNotes] = {}
        self.shortage: Shortage | None = None
        """The latest time that a call was made smaller."""

    def add(self, agent: str, note: Callable[[AgentNotes], None]) -> None:
        """Change what is noted of *agent*."""
        self._queue.append((agent, note))
        self._apply()

    def words(self, agent: str, *, kept: bool) -> None:
        """Count an answer under a word limit."""

        def count(notes: AgentNotes) -> None:
            notes.limited += 1
            notes.kept += kept

        self.add(agent, count)

    def unstaged(self, agent: str, model: str) -> None:
        """Remember that *agent* called a model that nobody staged."""
        self.add(agent, lambda notes: notes.unstaged.add(model))

    def failure(self, agent: str) -> None:
        """Count a call that brought no answer."""

        def count(notes: AgentNotes) -> None:
            notes.failed += 1

        self.add(agent, count)

    def refusal(self, agent: str, why: str) -> None:
        """Take note of why a call was refused."""

        def note(notes: AgentNotes) -> None:
            notes.refusal = why

        self.add(agent, note)

    def estimated(
        self, agent: str, counted: int | None, charged: int, *, was_cut: bool = False
    ) -> None:
        """Take note of a call whose provider has not said what it has used.

        Args:
            agent: Who called.
            counted: What it has used as we count it; ``None``: it was charged all it may have used.
            charged: What it was charged.
            was_cut: Whether its answer was not read to the end.
        """

        def note(notes: AgentNotes) -> None:
            if counted is None:
                notes.unknown += 1
                notes.unknown_tokens += charged
            else:
                notes.estimated += 1
                notes.cut += was_cut
                notes.counted += min(counted, charged)
                notes.added += max(charged - counted, 0)

        self.add(agent, note)

    def of(self, agent: str) -> AgentNotes:
        """Return what has been noted of *agent*."""
        self._apply()
        return self._agents.get(agent, AgentNotes())

    @property
    def failed_calls(self) -> int:
        """Calls of all agents that brought no answer."""
        self._apply()
        return sum(notes.failed for notes in list(self._agents.values()))

    def _apply(self) -> None:
        """Apply what is queued; whoever is doing so already, this thread included, goes on."""
        while self._queue and self._applying.acquire(blocking=False):
            try:
                while self._queue:
                    agent, note = self._queue.popleft()
                    note(self._agents.setdefault(agent, AgentNotes()))
            finally:
                self._applying.release()
