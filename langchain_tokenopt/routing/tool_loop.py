"""Which model answers a tool loop: the one that has begun it, as the conversation itself says.

A loop lasts from a model's first call of a tool to its answer without one. Another model in between
would lose the provider's prompt cache, and may not read what the first has written. Each answer
carries the name of its tier (:data:`TIER`, in its ``response_metadata``, which no provider is
sent), so a loop goes on with the same model in another process, from any checkpoint. Where an
application keeps only texts, calls are known by their ids, as long as this process lives, and else
by the model that the provider has named.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from langchain_tokenopt.request.form_tools import form_names
from langchain_tokenopt.request.model_request import ModelRequest
from langchain_tokenopt.routing.tiers import Tier

__all__ = ["TIER", "AttemptMemory", "CallMemory", "is_named", "last_call"]

TIER: Final = "tokenopt_tier"
"""Key in ``response_metadata`` of an answer: which tier of a router has given it."""
_REMEMBERED: Final = 10_000
_MOST_FAILED: Final = 256
"""Requests."""


def last_call(messages: Sequence[BaseMessage]) -> AIMessage | None:
    """Return the message whose tool calls are being answered; ``None``: no loop is under way.

    A form that was filled in is an answer: what the user says after it begins a new turn.
    """
    has_results = is_new_turn = False
    for message in reversed(messages):
        if isinstance(message, ToolMessage):
            has_results = True
        elif isinstance(message, HumanMessage):
            is_new_turn = is_new_turn or not has_results
        elif isinstance(message, AIMessage):
            if not message.tool_calls:
                return None
            forms = form_names()
            is_form = all(call["name"] in forms for call in message.tool_calls)
            return None if is_new_turn and is_form else message
    return None


class CallMemory:
    """Which tier has called which tool, by the ids of the calls; shared by threads."""

    def __init__(self) -> None:
        self._tiers: OrderedDict[str, str] = OrderedDict()
        self._lock = threading.Lock()

    def note(self, calls: Iterable[str], tier: str) -> None:
        """Remember who has made these calls."""
        with self._lock:
            for call in calls:
                self._tiers[call] = tier
                self._tiers.move_to_end(call)
            while len(self._tiers) > _REMEMBERED:
                self._tiers.popitem(last=False)

    def tier_of(self, message: AIMessage, tiers: Iterable[Tier]) -> Tier | None:
        """Return the tier that has made a message's calls; ``None``: it is none of these."""
        by_name = {tier.name: tier for tier in tiers}
        marked = message.response_metadata.get(TIER)
        if marked in by_name:
            return by_name[marked]
        for call in message.tool_calls:
            noted = self._tiers.get(call["id"] or "")
            if noted in by_name:
                return by_name[noted]
        found = [t for t in by_name.values() if is_named(t.facts.model_name, message)]
        return found[0] if len(found) == 1 else None


def is_named(model: str, message: AIMessage) -> bool:
    """Whether a provider says that *model* has written a message, whichever day's version of it.

    Example:
        >>> said = AIMessage("Hi", response_metadata={"model_name": "gpt-4.1-2025-04-14"})
        >>> is_named("gpt-4.1", said), is_named("gpt-4.1-mini", said)
        (True, False)
    """
    said = message.response_metadata
    name = said.get("model_name") or said.get("model") or said.get("model_id")
    if not model or not isinstance(name, str) or not name.startswith(model):
        return False
    return not name[len(model) :].strip("-@:.0123456789")


class _Failed(NamedTuple):
    model: int
    """For which the request was made."""
    tiers: frozenset[str]


class AttemptMemory:
    """Which requests the router could not have answered; shared by threads.

    Whoever then asks another model for the same messages, as a fallback does, is left alone; and
    whoever asks the same one again is not sent to a tier that has failed.
    """

    def __init__(self) -> None:
        self._failed: OrderedDict[int, _Failed] = OrderedDict()
        self._lock = threading.Lock()

    def note(self, request: ModelRequest, tier: str) -> None:
        """Remember for which model a request was made, and by which tier it failed."""
        key, model = _key(request.messages), id(vars(request.model))
        with self._lock:
            before = self._failed.get(key)
            tiers = before.tiers if before is not None and before.model == model else frozenset()
            self._failed[key] = _Failed(model, tiers | {tier})
            while len(self._failed) > _MOST_FAILED:
                self._failed.popitem(last=False)

    def failed(self, request: ModelRequest) -> frozenset[str] | None:
        """Return the tiers that failed for this request; ``None``: it is a fallback's, now."""
        found = self._failed.get(_key(request.messages)) if self._failed else None
        if found is None:
            return frozenset()
        return found.tiers if found.model == id(vars(request.model)) else None

    def forget(self, request: ModelRequest) -> None:
        """Forget a request that was answered."""
        if self._failed:
            with self._lock:
                self._failed.pop(_key(request.messages), None)


def _key(messages: Sequence[BaseMessage]) -> int:
    return hash(tuple((message.type, str(message.content)) for message in messages))
