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
from langchain_tokenopt.context.levels import handle_of, in_place
from langchain_tokenopt.core.messages import text_of

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
        ready = {group.members[0]: group.ready for group in self._groups}
        self._late = [
            (group[0], at)
            for group in conversation.groups
            if group[0] in ready
            for at in group
            if at >= ready[group[0]]
        ]
        """Results that came once more, with their calls."""
        self._less = [0] * len(conversation.messages)
        self._state = State()

    def upto(self, calls: Sequence[int], state: State, *, is_cold: bool) -> State:
        """Return what is decided once these calls were made, one after the other."""
        self._state = replace(state, decisions={**state.decisions}, handles={**state.handles})
        for at, text in state.decisions.items():
            self._less[at] = self._conversation.tokens[at] - self._size(at, text)
        for call in calls:
            self._call(call, is_cold=is_cold and call == calls[-1])
        return self._state

    def _old_at(self, call: int) -> int:
        """Return the number of the tool group at which those begin that stay, or are not whole."""
        last = bisect_left(self._begins, call)
        keep = self._terms.keep_last
        begin = self._begins[max(0, last - max(1, keep))] if last else 0
        upto = self._state.passed
        while upto < len(self._groups):
            group = self._groups[upto]
            if group.ready > call or group.members[0] >= begin:
                break
            upto += 1
        return upto

    def _grow_older(self, call: int) -> None:
        """Take note of the results that have become old enough."""
        state, upto = self._state, self._old_at(call)
        if upto == state.passed:
            return
        gain, settled = self._conversation.gain, self._conversation.settled
        older = (
            Pending(at, gain(at), state.calls)
            for group in self._groups[state.passed : upto]
            if group.ready > settled
            for at in group.results
            if gain(at) and at not in state.decisions
        )
        state.passed, state.pending = upto, (*state.pending, *older)

    def _call(self, call: int, *, is_cold: bool) -> None:
        """Decide at one more call."""
        self._grow_older(call)
        self._aside_late(call)
        state, terms = self._state, self._terms
        moment = Moment(self._conversation, terms, state, call, is_cold=is_cold, less=self._less)
        step = None
        if state.pending or moment.is_forced or state.handles:
            step = self._policy.decide(moment)
        if step is None or not step.decisions or not self._step(moment, step):
            state.gain = moment.gain(call, 0) if state.steps else 0.0
            state.bank, state.changed_at = moment.account, -1
        state.saved += state.gain
        state.raw += moment.raw
        state.boundary = call
        state.calls += 1
        sent = self._conversation.before[call] - state.removed + terms.beside
        sent += terms.tool_tokens if state.steps else 0
        state.overrun = 0 if terms.limit is None else max(0, sent - terms.limit)

    def _aside_late(self, call: int) -> None:
        """Set aside results that come after their call was, behind the handles of that."""
        state, tokens = self._state, self._conversation.tokens
        for first, at in self._late:
            if at < call and first in state.decisions and at not in state.decisions:
                notes = {h: of for h, of in state.handles.items() if first in of}
                state.handles.update({handle: (*of, at) for handle, of in notes.items()})
                state.handles[handle_of(text_of(self._conversation.messages[at]))] = (at,)
                state.decisions[at], self._less[at] = None, tokens[at]
                state.removed += tokens[at]

    def _step(self, moment: Moment, step: Step) -> bool:
        """Take a step, if it is allowed."""
        state, changes, less = self._state, step.decisions, self._less
        tokens = self._conversation.tokens
        now = {at: tokens[at] - self._size(at, text) for at, text in changes.items()}
        removed = sum(saved - less[at] for at, saved in now.items())
        first = min(changes)
        saving = moment.saving(first, removed)
        if step.is_optional and not moment.is_allowed(removed, saving):
            return False
        state.gain, state.bank = moment.gain(first, removed), moment.account + saving
        for at, saved in now.items():
            less[at] = saved
        state.decisions.update(changes)
        state.handles.update(step.handles)
        gone = {*changes, *step.seen}
        left = (one for one in state.pending if step.is_partial and one.at not in gone)
        state.pending, state.changed_at = tuple(left), first
        state.removed += removed
        state.steps += 1
        return True

    def _size(self, at: int, text: str | None) -> int:
        if text is None:
            return 0
        return self._conversation.sizes.in_place(self._conversation.messages[at], text)


def shown(conversation: Conversation, decisions: Decisions) -> tuple[list[BaseMessage], int]:
    """Return the view, and its tokens: the messages themselves where nothing was decided.

    A result that comes once more for a call that was set aside is set aside with it.
    """
    gone = {at for group in conversation.groups if group[0] in decisions for at in group}
    view, tokens = [], 0
    for at, message in enumerate(conversation.messages):
        text = decisions.get(at, _UNDECIDED)
        if text is _UNDECIDED and at not in gone:
            view.append(message)
            tokens += conversation.tokens[at]
        elif isinstance(text, str):
            view.append(in_place(message, text))
            tokens += conversation.sizes.in_place(message, text)
    return view, tokens


_UNDECIDED: Final = object()
