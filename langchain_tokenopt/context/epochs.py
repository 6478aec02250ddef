"""How the view of a conversation came about: step by step, from the conversation alone.

A conversation tells itself when its model was called: in front of each of the model's messages.
What was decided at each of these calls is worked out again in their order, and each decision sees
only what was there at that call. So the same conversation has the same view in every process, with
more messages behind it too: its beginning stays the same bytes until the next step.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from langchain_core.messages import BaseMessage

from langchain_tokenopt.context.conversation import Conversation
from langchain_tokenopt.context.decisions import (
    ContextPolicy,
    Decisions,
    Moment,
    Pending,
    State,
    Step,
    Terms,
)
from langchain_tokenopt.context.levels import in_place

__all__ = ["decided", "shown"]


def decided(
    conversation: Conversation, terms: Terms, policy: ContextPolicy, state: State, *, cold: bool
) -> State:
    """Return what is decided at the last call of a conversation.

    Args:
        conversation: As it came.
        terms: What holds for its view.
        policy: Decides.
        state: What is known to have been decided at an earlier call of the same conversation.
        cold: Whether the provider has forgotten the conversation since then.
    """
    reader = _Reader(conversation, terms, policy)
    calls = [call for call in conversation.calls() if call > state.boundary]
    return reader.upto(calls, state, is_cold=cold)


class _Reader:
    """Goes from call to call."""

    def __init__(self, conversation: Conversation, terms: Terms, policy: ContextPolicy) -> None:
        self._conversation, self._terms, self._policy = conversation, terms, policy
        self._groups = conversation.tool_groups
        self._begins = [
            group[0]
            for group in conversation.groups
            if getattr(conversation.messages[group[0]], "tool_calls", ())
        ]
        self._less = [0] * len(conversation.messages)

    def upto(self, calls: Sequence[int], state: State, *, is_cold: bool) -> State:
        """Return what is decided once these calls were made, one after the other."""
        for at in state.decisions:
            self._less[at] = self._conversation.tokens[at] - self._size(at, state.decisions)
        for call in calls:
            state = self._after(state, call, is_cold=is_cold and call == calls[-1])
        return state

    def _old_at(self, state: State, call: int) -> int:
        """Return the number of the tool group at which those begin that stay, or are not whole."""
        last = bisect_left(self._begins, call)
        keep = self._terms.keep_last
        begin = self._begins[max(0, last - max(1, keep))] if last else 0
        upto = state.passed
        while upto < len(self._groups):
            group = self._groups[upto]
            if group.ready > call or group.members[0] >= begin:
                break
            upto += 1
        return upto

    def _with_older(self, state: State, call: int) -> State:
        """Return the state with the results that have become old enough."""
        upto = self._old_at(state, call)
        if upto == state.passed:
            return state
        gain, settled = self._conversation.gain, self._conversation.settled
        older = (
            Pending(at, gain(at), state.calls)
            for group in self._groups[state.passed : upto]
            if group.ready > settled
            for at in group.results
            if gain(at) and at not in state.decisions
        )
        return replace(state, passed=upto, pending=(*state.pending, *older))

    def _after(self, state: State, call: int, *, is_cold: bool) -> State:
        """Return what is decided once one more call was made."""
        terms, state = self._terms, self._with_older(state, call)
        moment = Moment(self._conversation, terms, state, call, False, is_cold, self._less, 0.0)
        gain = self._gain(moment) if state.steps else 0.0
        over = terms.trigger is not None and moment.tokens > terms.trigger
        moment = replace(moment, is_forced=over, account=state.bank + gain)
        made = None
        if state.pending or over or state.handles:
            step = self._policy.decide(moment)
            made = None if step is None else self._stepped(moment, step)
        if made is None:
            made = replace(state, bank=moment.account, gain=gain, changed_at=-1)
        sent = self._conversation.before[call] - made.removed + terms.beside
        sent += terms.tool_tokens if made.steps else 0
        overrun = 0 if terms.limit is None else max(0, sent - terms.limit)
        return replace(made, boundary=call, calls=state.calls + 1, overrun=overrun)

    def _gain(self, moment: Moment) -> float:
        """Return what a call costs less than with all that came, if no step is taken."""
        price, state = self._terms.price, moment.state
        less = self._conversation.before[moment.boundary] + self._terms.beside - moment.tokens
        if moment.known >= moment.least:
            return price.read * less
        if not moment.known:
            return price.write * less
        all_known = self._conversation.before[state.boundary] + self._terms.beside
        return price.read * all_known - price.write * moment.known

    def _stepped(self, moment: Moment, step: Step) -> State | None:
        """Return the state after a step; ``None``: it is not taken."""
        state, changes = moment.state, step.decisions
        gone = {*changes, *step.seen}
        pending = tuple(one for one in state.pending if step.is_partial and one.at not in gone)
        if not changes:
            return None
        decisions = {**state.decisions, **changes}
        less = {at: self._conversation.tokens[at] - self._size(at, decisions) for at in changes}
        removed = sum(saved - self._less[at] for at, saved in less.items())
        first = min(changes)
        saving = moment.saving(first, removed)
        made = replace(
            state,
            decisions=decisions,
            handles={**state.handles, **step.handles},
            pending=pending,
            removed=state.removed + removed,
            gain=moment.account - state.bank + saving,
            bank=moment.account + saving,
            steps=state.steps + 1,
            changed_at=first,
        )
        if step.is_optional and not moment.is_allowed(removed, saving):
            return None
        for at, saved in less.items():
            self._less[at] = saved
        return made

    def _size(self, at: int, decisions: Decisions) -> int:
        text = decisions[at]
        if text is None:
            return 0
        return self._conversation.sizes.of(in_place(self._conversation.messages[at], text))


def shown(conversation: Conversation, decisions: Decisions) -> list[BaseMessage]:
    """Return the view: the messages themselves where nothing was decided.

    A result that comes once more for a call that was set aside is set aside with it.
    """
    gone = {at for group in conversation.groups if group[0] in decisions for at in group}
    view = []
    for at, message in enumerate(conversation.messages):
        text = decisions.get(at, _UNDECIDED)
        if text is _UNDECIDED and at not in gone:
            view.append(message)
        elif isinstance(text, str):
            view.append(in_place(message, text))
    return view


_UNDECIDED: Final = object()
