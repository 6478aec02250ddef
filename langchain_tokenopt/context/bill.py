"""What the prompts of a conversation cost, call by call, however they were made.

A prompt is compared with the one before it: what both begin with is known to the provider and
charged as read, all else as written. The first prompt of a conversation is written whole: what
other conversations share with it is not counted. Answers cost the same in every way, and are left
out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from langchain_core.messages import AIMessage, BaseMessage

from langchain_tokenopt.context.conversation import key_of
from langchain_tokenopt.context.economics import PriceProfile

__all__ = ["Bill", "CallBill", "billed", "calls_of"]

View = Callable[[list[BaseMessage]], Sequence[BaseMessage]]
"""Returns what is sent of the conversation so far."""


@dataclass(frozen=True, slots=True)
class CallBill:
    """What one call is charged for its prompt."""

    sent: float
    """Tokens of the prompt."""
    known: float
    """Of these the ones with which the prompt before began, too."""
    units: float
    """What it costs, in tokens at the plain input price."""


@dataclass(frozen=True, slots=True)
class Bill:
    """What a conversation is charged for its prompts."""

    calls: tuple[CallBill, ...]
    beside: float = 0.0
    """What was asked of a model to make prompts shorter; in tokens at the plain input price."""

    @property
    def sent(self) -> float:
        """Tokens of all prompts."""
        return sum(call.sent for call in self.calls)

    @property
    def known(self) -> float:
        """Of these the ones that the provider knew."""
        return sum(call.known for call in self.calls)

    @property
    def units(self) -> float:
        """What all costs, in tokens at the plain input price."""
        return self.beside + sum(call.units for call in self.calls)


def calls_of(talk: Sequence[BaseMessage]) -> list[list[BaseMessage]]:
    """Return what there was of a conversation at each call of its model.

    Example:
        >>> from langchain_core.messages import HumanMessage
        >>> talk = [HumanMessage("a"), AIMessage("b"), HumanMessage("c"), AIMessage("d")]
        >>> [len(asked) for asked in calls_of(talk)]
        [1, 3]
    """
    return [list(talk[:n]) for n, m in enumerate(talk) if n and isinstance(m, AIMessage)]


def billed(
    asked: Iterable[list[BaseMessage]],
    view: View,
    price: PriceProfile,
    size: Callable[[BaseMessage], float],
) -> Bill:
    """Return what the calls of a conversation are charged.

    Args:
        asked: The conversation at each call; see :func:`calls_of`.
        view: Returns what is sent of it. What it has asked a model for stands in its ``spent``.
        price: What the provider charges.
        size: Tokens of a message.

    Example:
        >>> from langchain_core.messages import HumanMessage
        >>> talk = [HumanMessage("a"), AIMessage("b"), HumanMessage("c"), AIMessage("d")]
        >>> price = PriceProfile(read=0.5, min_tokens=0)
        >>> billed(calls_of(talk), list, price, lambda message: 100).calls[-1]
        CallBill(sent=300, known=100, units=250.0)
    """
    calls: list[CallBill] = []
    before: Sequence[BaseMessage] = ()
    sums: list[float] = [0]
    for messages in asked:
        sent = view(messages)
        same = _same(before, sent)
        sums = [*sums[:same], *accumulate(map(size, sent[same:]), initial=sums[same])]
        known, whole = sums[same], sums[-1]
        calls.append(CallBill(whole, known, price.charge(whole, known)))
        before = sent
    return Bill(tuple(calls), getattr(view, "spent", 0.0))


def _same(one: Sequence[BaseMessage], other: Sequence[BaseMessage]) -> int:
    """Return with how many messages both begin."""
    pairs = enumerate(zip(one, other, strict=False))
    different = (at for at, (a, b) in pairs if a is not b and key_of(a) != key_of(b))
    return next(different, min(len(one), len(other)))
