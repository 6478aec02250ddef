"""What is known at one call of a model, and what a policy can decide there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from langchain_tokenopt.context.conversation import Conversation
from langchain_tokenopt.context.economics import PriceProfile
from langchain_tokenopt.context.importance import Query
from langchain_tokenopt.context.levels import Mark

__all__ = [
    "COUNTED_OTHERWISE",
    "ContextPolicy",
    "Decisions",
    "Handles",
    "Moment",
    "Pending",
    "State",
    "Step",
    "Terms",
]

Decisions = Mapping[int, str | None]
"""By message, the text that stands in its place; ``None``: the message is not shown."""
Handles = Mapping[str, tuple[int, ...]]
"""By handle, the messages whose texts it stands for."""


@dataclass(frozen=True, slots=True)
class Step:
    """What changes with one call."""

    decisions: Decisions
    handles: Handles = field(default_factory=dict)
    is_partial: bool = False
    """Whether results were left as they are that a later step may reduce."""
    seen: Sequence[int] = ()
    """Of these results what stays as it is now stays so, where others may still be reduced."""
    is_optional: bool = False
    """Whether it is taken only as long as the conversation has not been dearer than as it came."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for a view, besides the conversation."""

    price: PriceProfile
    keep_last: int
    mark: Mark
    limit: int | None = None
    """Tokens that the request may have; ``None``: as many as the model takes."""
    trigger: int | None = None
    """Tokens from which it is brought down."""
    target: int | None = None
    """Tokens to which it is brought down then."""
    beside: int = 0
    """Tokens of the request that are no messages: tools, schemas, the frame."""
    tool_tokens: int = 0
    """Of the tool that answers handles, if it comes with the first step."""
    expected: Callable[[int], float] = field(default=lambda calls: calls / 9)
    """Calls that will almost surely come after so many."""


@dataclass(frozen=True, slots=True)
class Pending:
    """A tool result that is old enough to be reduced."""

    at: int
    gain: int
    """Tokens that it would have less as a line."""
    since: int
    """How many calls there had been when it became so old."""


@dataclass(frozen=True, slots=True)
class State:
    """What has been decided up to a call."""

    boundary: int = 0
    """How many messages that call had."""
    decisions: Decisions = field(default_factory=dict)
    handles: Handles = field(default_factory=dict)
    passed: int = 0
    """Tool groups that are old enough to be reduced, or never will be."""
    pending: tuple[Pending, ...] = ()
    """Their results of which a step has still to decide."""
    removed: int = 0
    """Tokens less than the conversation has."""
    gain: float = 0.0
    """What this call costs less than with all that came, in units of the input price."""
    bank: float = 0.0
    """What all calls so far have cost less."""
    calls: int = 0
    steps: int = 0
    changed_at: int = -1
    """The first message that the latest step changed, if it was at this call; else -1."""
    overrun: int = 0
    """Tokens by which the view is longer than its limit all the same."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What a policy knows at one call, and nothing of later ones."""

    conversation: Conversation
    terms: Terms
    state: State
    boundary: int
    is_forced: bool
    """Whether the view is over its trigger."""
    is_cold: bool
    """Whether the provider has forgotten the conversation: nothing is written a second time."""
    less: Sequence[int]
    """By message, the tokens that it has less than it came with."""
    account: float
    """What the conversation will have cost less, with this call and without another step."""

    @property
    def query(self) -> Query:
        """What is asked at this call."""
        return self.conversation.query(self.boundary)

    @property
    def pending(self) -> Sequence[Pending]:
        """Results that are old enough, and that no step has looked at."""
        return self.state.pending

    @property
    def tool_tokens(self) -> int:
        """Tokens of the tool that comes with the first step; 0: it is there, or there is none."""
        return self.terms.tool_tokens if self.is_first else 0

    @property
    def tokens(self) -> int:
        """Tokens of the request as it would be sent without a step."""
        return self._in_front + self.conversation.before[self.boundary]

    @property
    def is_first(self) -> bool:
        """Whether no step was ever taken."""
        return not self.state.steps and not self.conversation.settled

    @property
    def _in_front(self) -> int:
        tool = self.terms.tool_tokens if self.state.steps else 0
        return self.terms.beside + tool - self.state.removed

    @property
    def known(self) -> int:
        """Tokens with which the prompt before began, if the provider still knows them."""
        if self.is_cold or not self.state.boundary:
            return 0
        return self._in_front + self.conversation.before[self.state.boundary]

    def saving(self, first: int, removed: int, less_behind: int | None = None) -> float:
        """Return what this call costs less with a step.

        Args:
            first: The first message that it changes.
            removed: Tokens that it takes away.
            less_behind: Sum of ``less`` from *first* on, for who knows it.
        """
        if less_behind is None:
            less_behind = sum(self.less[first : self.boundary])
        known = self.known
        stays = self._in_front + self.conversation.before[first] + less_behind
        if self.tool_tokens:
            stays = 0  # tools stand in front of everything
        if stays < self.least:
            stays, first = 0, 0  # too short to be kept
        price = self.terms.price
        tool = COUNTED_OTHERWISE * self.tool_tokens
        anew = 0.0
        if known > stays:
            doubt = self.conversation.doubt
            anew = known - stays + doubt[self.state.boundary] - doubt[first]
        return price.write * (removed - tool) - price.rewriting(anew)

    def is_allowed(self, removed: int, saving: float) -> bool:
        """Whether no call, this one or a later one, makes the conversation dearer than it came.

        Args:
            removed: Tokens that a step takes away.
            saving: What this call costs less with it.
        """
        price, least = self.terms.price, self.least
        less = self.state.removed + removed - COUNTED_OTHERWISE * self.terms.tool_tokens
        is_short = self.tokens - removed + self.tool_tokens < least
        if less < 0 or (is_short and price.write * least > price.read * (least + less)):
            return False  # so short a prompt is not known the next time, and the raw one is
        return self.account + saving >= min(0.0, self.account)

    @property
    def least(self) -> float:
        """Tokens of a prompt of which a provider surely keeps the beginning.

        Others count otherwise than we do: whoever is near to the least may be on either side.
        """
        return (
            COUNTED_OTHERWISE * self.terms.price.min_tokens if self.terms.price.rewriting(1) else 0
        )


COUNTED_OTHERWISE: Final = 1.25
"""How many times as much as we do others may count."""


class ContextPolicy(Protocol):
    """Decides at each call what is shown in a message's place."""

    @property
    def fingerprint(self) -> str:
        """Every setting that changes views."""
        ...

    def decide(self, moment: Moment) -> Step | None:
        """Return what changes with this call; ``None``: nothing.

        It must be a pure function of the moment, and never show more of a message again.
        """
        ...
