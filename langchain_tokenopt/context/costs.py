"""What recorded conversations would cost with each policy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from langchain_core.messages import BaseMessage, SystemMessage
from langchain_core.utils.function_calling import convert_to_openai_tool

from langchain_tokenopt.context.bill import Bill, billed, calls_of
from langchain_tokenopt.context.compressor import ContextCompressor
from langchain_tokenopt.context.conversation import Sizes
from langchain_tokenopt.context.economics import PriceProfile, profile_by_name, profile_named
from langchain_tokenopt.context.expand import NAME, expand_tool
from langchain_tokenopt.context.levels import Mark
from langchain_tokenopt.context.policy import SlidingWindow
from langchain_tokenopt.context.view import ContextView
from langchain_tokenopt.core.argument_checks import check_choice, check_whole, shown
from langchain_tokenopt.core.attribution import Attribution
from langchain_tokenopt.core.messages import messages_from
from langchain_tokenopt.counting.model_names import model_name_of
from langchain_tokenopt.counting.request_tokens import count_tools
from langchain_tokenopt.counting.tokens import steady_counter_of_name
from langchain_tokenopt.pricing.money import UNITS_PER_NANO_USD
from langchain_tokenopt.pricing.rate_card import default_rate_card

if TYPE_CHECKING:
    from langchain_tokenopt.counting.model_names import ModelLike

__all__ = ["EVERYTHING", "ContextCosts", "PolicyCosts", "StepCosts", "context_costs"]

EVERYTHING: Final = "everything"
"""The policy that sends the whole conversation."""


@dataclass(frozen=True, slots=True)
class PolicyCosts:
    """What conversations cost with one policy."""

    bills: tuple[Bill, ...]
    """One for each conversation."""
    views: tuple[ContextView | None, ...] = field(repr=False)
    """What the last call of each was sent; ``None``: it had no call, or everything is sent."""
    input_rate: int | None = field(repr=False)

    @property
    def sent(self) -> float:
        """Tokens of all prompts."""
        return sum(bill.sent for bill in self.bills)

    @property
    def known(self) -> float:
        """Of these the ones that the provider knew from the prompt before."""
        return sum(bill.known for bill in self.bills)

    @property
    def units(self) -> float:
        """What all prompts cost, in tokens at the plain input price."""
        return sum(bill.units for bill in self.bills)

    @property
    def cost_nano_usd(self) -> int | None:
        """What all prompts cost; ``None``: nobody knows the price of the model."""
        rate = self.input_rate
        return None if rate is None else round(self.units * rate / UNITS_PER_NANO_USD)

    def mean_units(self) -> list[float]:
        """Return what each call costs, the first one first, in the mean of conversations."""
        longest = max((len(bill.calls) for bill in self.bills), default=0)
        at_call = [
            [b.calls[n].units for b in self.bills if n < len(b.calls)] for n in range(longest)
        ]
        return [sum(units) / len(units) for units in at_call]


@dataclass(frozen=True, slots=True)
class StepCosts:
    """A call whose prompt begins with less than the whole prompt before, and what that does."""

    call: int
    """The first is 1."""
    removed: float
    """Tokens that this prompt and those to come have less."""
    rewritten: float
    """Tokens that were known, are sent again, and have to be written again."""
    break_even: float
    """Further calls after which that has paid for itself."""
    followed_by: int
    """Calls that came."""


@dataclass(frozen=True, slots=True)
class ContextCosts:
    """What conversations cost with each policy."""

    model: str
    price: PriceProfile
    policies: Mapping[str, PolicyCosts]
    """By name; the first is :data:`EVERYTHING`."""

    @property
    def calls(self) -> int:
        """How often models were called."""
        return sum(len(bill.calls) for bill in self.policies[EVERYTHING].bills)

    def dearer(self, policy: str) -> int:
        """Return in how many conversations a policy costs more than to send everything.

        Raises:
            ValueError: There is no such policy.
        """
        check_choice("policy", policy, *self.policies)
        raw, own = self.policies[EVERYTHING].bills, self.policies[policy].bills
        return sum(b.units > a.units + _ROUNDING for a, b in zip(raw, own, strict=True))

    def steps(self, policy: str, number: int) -> list[StepCosts]:
        """Return the steps that a policy took in one conversation, counted from 0.

        Raises:
            ValueError: There is no such policy, or no such conversation.
        """
        check_choice("policy", policy, *self.policies)
        most = len(self.policies[EVERYTHING].bills)
        if not isinstance(number, int) or not 0 <= number < most:
            raise ValueError(
                f"number is that of one of {most:,} conversations; got {shown(number)}."
            )
        raw, own = (self.policies[name].bills[number].calls for name in (EVERYTHING, policy))
        found = []
        for at in range(1, len(own)):
            changed = own[at - 1].sent - own[at].known
            removed = (raw[at].sent - own[at].sent) - (raw[at - 1].sent - own[at - 1].sent)
            if changed > 0:
                rewritten = max(0.0, changed - max(0.0, removed))
                pays = self.price.break_even(rewritten, removed)
                found.append(StepCosts(at + 1, removed, rewritten, pays, len(own) - at - 1))
        return found


_ROUNDING: Final = 1e-6


def context_costs(
    conversations: Sequence[Sequence[BaseMessage]],
    *,
    model: ModelLike = "gpt-4o",
    max_tokens: int | None = None,
    price_profile: str | PriceProfile = "auto",
) -> ContextCosts:
    """Return what recorded conversations would have cost with each policy.

    They are played again, call by call, in their order: nothing is asked of any model, so what it
    would have fetched back, or said otherwise, is not in the figures. The compressor is played as
    ``optimize`` has it, whose tool comes with the first mark and stands in front of everything; and
    for an agent that has :func:`expand_tool` from the beginning.

    Args:
        conversations: Each with the answers of its model, in any form in which models take it.
        model: Whose tokens are counted, and whose prices hold.
        max_tokens: What a request may have. By default half of the longest request for the sliding
            window, and no limit for the ``ContextCompressor``.
        price_profile: As that of :class:`ContextCompressor`.

    Raises:
        ValueError: There is no such profile, or *max_tokens* is no number of tokens.
        TypeError: *conversations* are none, or *model* is none.

    Example:
        >>> from langchain_core.messages import AIMessage, HumanMessage
        >>> talk = [HumanMessage("Hi"), AIMessage("Yes?"), HumanMessage("Who?"), AIMessage("Ada")]
        >>> found = context_costs([talk])
        >>> found.calls, [*found.policies]
        (2, ['everything', 'sliding window, 8 tokens', 'ContextCompressor()', \
'expand_tool from the start'])
    """
    if max_tokens is not None:
        check_whole("max_tokens", max_tokens)
    name = model_name_of(model)
    price = profile_named(price_profile) or profile_by_name(name)
    sizes = Sizes(name, steady_counter_of_name(name))
    rates = default_rate_card().rates(name)
    rate = None if rates is None else rates.input
    asked = [calls_of(talk) for talk in _conversations(conversations)]
    raw = tuple(billed(calls, list, price, sizes.of) for calls in asked)
    longest = max((call.sent for bill in raw for call in bill.calls), default=0)
    window = max_tokens or max(1, round(longest / 2))
    ours = "ContextCompressor()" if max_tokens is None else f"ContextCompressor({max_tokens:_})"
    settings: Any = {"price_profile": price, "model": name}
    players = {
        f"sliding window, {window:,} tokens": _Player(window, policy=SlidingWindow(), **settings),
        ours: _WithTool(max_tokens, **settings),
        "expand_tool from the start": _WithTool(max_tokens, has_tool=True, **settings),
    }
    policies = {EVERYTHING: PolicyCosts(raw, (None,) * len(raw), rate)}
    for label, player in players.items():
        played = [player.played(calls, price, sizes) for calls in asked]
        policies[label] = PolicyCosts(
            tuple(bill for bill, _ in played), tuple(view for _, view in played), rate
        )
    return ContextCosts(name, price, policies)


def _conversations(given: Any) -> list[list[BaseMessage]]:
    if not isinstance(given, Iterable) or isinstance(given, str | bytes | Mapping | BaseMessage):
        raise TypeError(f"conversations are a list of lists of messages; got {shown(given)}.")
    talks = [*given]
    for talk in talks:
        if isinstance(talk, str | Mapping | BaseMessage) or _is_pair(talk):
            raise TypeError(
                f"conversations are a list of lists of messages; one of them is {shown(talk)}. Of "
                f"a single conversation, give [messages]."
            )
    return [messages_from(talk) for talk in talks]


def _is_pair(talk: Any) -> bool:
    """Whether it is a message as a tuple of its role and its text."""
    return isinstance(talk, tuple) and all(isinstance(part, str) for part in talk)


class _Player(ContextCompressor):
    """Shows conversations again."""

    _last: ContextView | None = None

    def played(
        self, asked: Sequence[list[BaseMessage]], price: PriceProfile, sizes: Sizes
    ) -> tuple[Bill, ContextView | None]:
        """Return what a conversation is charged, and what its last call was shown."""
        self._last = None
        return billed(asked, self._sent, price, lambda m: self._size(m, sizes)), self._last

    def _sent(self, messages: list[BaseMessage]) -> list[BaseMessage]:
        self._last = self.view(messages)
        return self._last.messages

    def _size(self, message: BaseMessage, sizes: Sizes) -> int:
        return sizes.of(message)


class _WithTool(_Player):
    """The same with the tool that answers handles: in front, from the first step or always."""

    def __init__(self, *sizes: Any, has_tool: bool = False, **settings: Any) -> None:
        super().__init__(*sizes, **settings)
        other: Any = ContextCompressor()  # nothing is to be kept for handles
        tool = convert_to_openai_tool(expand_tool(other))
        self._is_there = has_tool
        self._tool = SystemMessage(repr(tool))
        self._tool_tokens = count_tools([tool], self.model or "").tokens

    def _sent(self, messages: list[BaseMessage]) -> list[BaseMessage]:
        always = self._is_there
        beside, later = (self._tool_tokens, 0) if always else (0, self._tool_tokens)
        name = model_name_of(self.model or "")
        price = self._profile or profile_by_name(name)
        terms = self._viewer.terms(price, None, Mark(NAME), beside, later)
        self._last = self._viewer.view(messages, name, terms, Attribution())
        has_tool = always or self._last.steps
        return [self._tool, *self._last.messages] if has_tool else self._last.messages

    def _size(self, message: BaseMessage, sizes: Sizes) -> int:
        return self._tool_tokens if message is self._tool else sizes.of(message)
