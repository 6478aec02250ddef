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
    max_extra_cost: float = 0.0
    """What a conversation may at most cost more than as it came, as a share of that."""
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


@dataclass(slots=True)
class State:
    """What has been decided up to a call."""

    boundary: int = 0
    """How many messages that call had."""
    decisions: dict[int, str | None] = field(default_factory=dict)
    handles: dict[str, tuple[int, ...]] = field(default_factory=dict)
    passed: int = 0
    """Tool groups that are old enough to be reduced, or never will be."""
    pending: tuple[Pending, ...] = ()
    """Their results of which a step has still to decide."""
    removed: int = 0
    """Tokens less than the conversation has."""
    gain: float = 0.0
    """What this call costs less than with all that came, in units of the input price."""
    saved: float = 0.0
    """What all calls so far have cost less."""
    bank: float = 0.0
    """What they have surely cost less, however others count."""
    raw: float = 0.0
    """What they would have cost with all that came."""
    calls: int = 0
    steps: int = 0
    changed_at: int = -1
    """The first message that the latest step changed, if it was at this call; else -1."""
    overrun: int = 0
    """Tokens by which the view is longer than its limit all the same."""


class Moment:
    """What a policy knows at one call, and nothing of later ones.

    Args:
        conversation: All of it.
        terms: What holds for its view.
        state: What was decided up to the call before.
        boundary: How many messages this call has.
        is_cold: Whether the provider has forgotten the conversation: nothing is written a second
            time.
        less: By message, the tokens that it has less than it came with.
    """

    __slots__ = (
        "account",
        "boundary",
        "conversation",
        "in_front",
        "is_cold",
        "is_first",
        "is_forced",
        "known",
        "least",
        "less",
        "raw",
        "state",
        "terms",
        "tokens",
        "tool_tokens",
    )

    def __init__(
        self,
        conversation: Conversation,
        terms: Terms,
        state: State,
        boundary: int,
        *,
        is_cold: bool,
        less: Sequence[int],
    ) -> None:
        self.conversation, self.terms, self.state = conversation, terms, state
        self.boundary, self.is_cold, self.less = boundary, is_cold, less
        price, before = terms.price, conversation.before
        self.is_first = not state.steps and not conversation.settled
        """Whether no step was ever taken."""
        self.tool_tokens = terms.tool_tokens if self.is_first else 0
        """Tokens of the tool that comes with the first step; 0: it is there, or there is none."""
        self.in_front = terms.beside - state.removed + (terms.tool_tokens if state.steps else 0)
        self.tokens = self.in_front + before[boundary]
        """Tokens of the request as it would be sent without a step."""
        is_known = state.boundary and not is_cold
        self.known = self.in_front + before[state.boundary] if is_known else 0
        """Tokens with which the prompt before began, if the provider still knows them."""
        self.least = COUNTED_OTHERWISE * price.min_tokens if price.write > price.read else 0.0
        """Tokens of a prompt of which a provider surely keeps the beginning.

        Others count otherwise than we do: whoever is near to the least may be on either side.
        """
        self.is_forced = terms.trigger is not None and self.tokens > terms.trigger
        """Whether the view is over its trigger."""
        self.account = state.bank + (self._sure_gain() if state.steps else 0.0)
        """What all calls with this one have surely cost less, if no step is taken."""
        all_known = before[state.boundary] + terms.beside if self.known else 0
        self.raw = price.charge(before[boundary] + terms.beside, all_known)
        """What this call would cost with all that came."""

    @property
    def least_account(self) -> float:
        """What the account may come down to by a step that need not be taken."""
        return min(-self.terms.max_extra_cost * (self.state.raw + self.raw), self.account)

    def _sure_gain(self) -> float:
        price, beside, before = self.terms.price, self.terms.beside, self.conversation.before
        less = before[self.boundary] + beside - self.tokens
        if self.known >= self.least:
            return price.read * less
        if not self.known:
            return price.write * less
        return price.read * (before[self.state.boundary] + beside) - price.write * self.known

    def gain(self, first: int, removed: int) -> float:
        """Return what this call costs less than with all that came, as we count.

        Args:
            first: The first message that a step changes; the boundary: there is none.
            removed: Tokens that it takes away.
        """
        price, before = self.terms.price, self.conversation.before
        stays = self.in_front + before[first] + sum(self.less[first : self.boundary])
        if removed and self.tool_tokens:
            stays, removed = 0, removed - self.tool_tokens
        return self.raw - price.charge(self.tokens - removed, min(self.known, stays))

    @property
    def query(self) -> Query:
        """What is asked at this call."""
        return self.conversation.query(self.boundary)

    @property
    def pending(self) -> Sequence[Pending]:
        """Results that are old enough, and that no step has looked at."""
        return self.state.pending

    def saving(self, first: int, removed: int, less_behind: int | None = None) -> float:
        """Return what this call costs less with a step.

        Args:
            first: The first message that it changes.
            removed: Tokens that it takes away.
            less_behind: Sum of ``less`` from *first* on, for who knows it.
        """
        if less_behind is None:
            less_behind = sum(self.less[first : self.boundary])
        price, conversation = self.terms.price, self.conversation
        stays = self.in_front + conversation.before[first] + less_behind
        if self.tool_tokens or stays < self.least:
            stays = first = 0  # tools stand in front of everything; or it is too short to be kept
        saved = price.write * (removed - COUNTED_OTHERWISE * self.tool_tokens)
        anew = self.known - stays
        if anew > 0:
            doubt = conversation.doubt
            saved -= price.rewriting(anew + doubt[self.state.boundary] - doubt[first])
        return saved

    def is_allowed(self, removed: int, saving: float) -> bool:
        """Whether no call, this one or a later one, makes the conversation dearer than it may be.

        Args:
            removed: Tokens that a step takes away.
            saving: What this call costs less with it.
        """
        price, least = self.terms.price, self.least
        less = self.state.removed + removed - COUNTED_OTHERWISE * self.terms.tool_tokens
        is_short = self.tokens - removed + self.tool_tokens < least
        if less < 0 or (is_short and price.write * least > price.read * (least + less)):
            return False  # so short a prompt is not known the next time, and the raw one is
        return self.account + saving >= self.least_account


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
