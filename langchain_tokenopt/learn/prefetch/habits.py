"""What callers do in which order: learned from their calls, kept in a store, and foretold."""

from __future__ import annotations

import sqlite3
import warnings
from collections import OrderedDict, deque
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.evaluate.background_work import BackgroundWork
from langchain_tokenopt.learn.prefetch.call_shapes import (
    END,
    CallMemory,
    canonical,
    is_shape,
    name_alone,
)
from langchain_tokenopt.learn.prefetch.callers import Caller, learner_of
from langchain_tokenopt.learn.prefetch.transitions import Step, Transitions, UserTransitions
from langchain_tokenopt.learn.prefetch.waste_gate import WasteGate
from langchain_tokenopt.storage.learned_store import LearnedKey, LearnedStore

__all__ = ["Conversation", "Habits", "Predicted"]

KIND: Final = "transitions"
_MOST_CONVERSATIONS: Final = 1_000
_MOST_GATES: Final = 1_000
_SAVED_EVERY: Final = 32
_MOST_PENDING: Final = 1_000
_FORGETTING_SECONDS: Final = 5.0
_MOST_FOUND: Final = 64
_MOST_SHAPES: Final = 4_096
_MOST_BYTES: Final = 28_000
"""Of one user's model of one agent in the store, which takes 32,768."""

_Observation = tuple[tuple[Step, ...], str]
_Place = tuple[str | None, str]


class Predicted(NamedTuple):
    """A call that may come next."""

    name: str
    arguments: dict[str, Any]
    probability: float


class _Habit(NamedTuple):
    """What the store keeps of a user and agent."""

    model: UserTransitions
    gate: WasteGate | None


class Conversation:
    """What is known of the calls of one conversation."""

    def __init__(self) -> None:
        self.history: tuple[Step, ...] = ()
        self.memory = CallMemory()
        self.expected: dict[Any, Any] = {}
        """Predictions that stand, for whoever judges them."""
        self.guess: tuple[str, str | None] | None = None
        """The call that was thought the most probable."""


class Habits:
    """Transitions between calls, per user and agent, and the users' gates; call it under one lock.

    Args:
        namespace: Under which they stand in the store.
        store: Where they are kept; ``None``: nowhere.
        max_waste: The share of loads that may be wasted.
    """

    def __init__(self, namespace: str, store: LearnedStore | None, max_waste: float) -> None:
        self._namespace = namespace
        self._store = store
        self._max_waste = max_waste
        self._common = WasteGate(max_waste)
        """What the first calls of users say about the next newcomer."""
        self._gates: OrderedDict[str, WasteGate] = OrderedDict()
        self._kept_open: dict[str, bool] = {}
        """Whose gates were open when they were last written."""
        self._has_warned = False
        self._saving = BackgroundWork("tokenopt-habits")
        self._conversations: OrderedDict[tuple[Any, ...], Conversation] = OrderedDict()
        self._latest: OrderedDict[tuple[str, str], Conversation] = OrderedDict()
        self._pending: dict[_Place, list[_Observation]] = {}
        self._reading: set[_Place] = set()
        self._found: deque[tuple[_Place, _Habit]] = deque(maxlen=_MOST_FOUND)
        """What stood in the store, to be taken over by the thread that has the lock."""
        self._transitions = Transitions(public=lru_cache(_MOST_SHAPES)(name_alone))
        for found in self._stored():
            model, gate = self._read_value(found.value)
            self._transitions.put(found.user or "", found.key, model)
            self._take_over_gate(found.user or "", gate)
        for gate in self._gates.values():
            self._common.hear_first_of(gate)
        self._common.go_on_carefully()

    def gate(self, learner: str) -> WasteGate:
        """Return the gate of whoever has these habits."""
        gate = self._gates.get(learner)
        if gate is None:
            gate = self._gates[learner] = WasteGate(self._max_waste, self._common)
            if len(self._gates) > _MOST_GATES:
                self._kept_open.pop(self._gates.popitem(last=False)[0], None)
        self._gates.move_to_end(learner)
        return gate

    def begun(self, caller: Caller) -> Conversation:
        """Return the conversation in which *caller* calls; the one before it ends by that.

        What is expected there may still come in the next one.
        """
        self._take_over_found()
        key = _conversation_key(caller)
        known = self._conversations.get(key)
        if known is not None:
            self._conversations.move_to_end(key)
            return known
        made = self._conversations[key] = Conversation()
        if len(self._conversations) > _MOST_CONVERSATIONS:
            self._conversations.popitem(last=False)
        place = caller.learner, caller.agent
        before, self._latest[place] = self._latest.get(place), made
        self._latest.move_to_end(place)
        if len(self._latest) > _MOST_CONVERSATIONS:
            self._latest.popitem(last=False)
        if before is not None:
            self._observe(caller, before.history, END)
            made.expected, before.expected = before.expected, {}
        return made

    def learn(self, caller: Caller, name: str, arguments: Mapping[str, Any]) -> None:
        """Take in that *caller* calls something."""
        conversation = self.begun(caller)
        history, memory = conversation.history, conversation.memory
        shape = memory.shape(name, arguments)
        self._observe(caller, history, shape)
        memory.add_call(name, arguments)
        place = memory.place(shape)
        step = Step(f"{shape}{place}", name, canonical([name, arguments]) or "")
        conversation.history = (*history, step)[-2:]

    def _observe(self, caller: Caller, history: tuple[Step, ...], shape: str) -> None:
        is_new = (caller.learner, caller.agent) not in self._transitions
        self._transitions.observe(caller.learner, caller.agent, history, shape)
        if self._store is not None:
            self._keep((caller.user, caller.agent), (history, shape), is_new=is_new)

    def learn_result(self, caller: Caller, name: str, result: Any) -> None:
        """Take in what a call has returned."""
        self.begun(caller).memory.add_result(name, result)

    def predict(self, caller: Caller, most: int = 8) -> list[Predicted]:
        """Return what *caller* may call next, the most probable first."""
        conversation = self._conversations.get(_conversation_key(caller)) or Conversation()
        found = self._transitions.predict(caller.learner, caller.agent, conversation.history, most)
        calls: dict[str, Predicted] = {}
        for shape, probability in found:
            call = conversation.memory.call(shape)
            if call is not None:  # two shapes may be the same call
                text = canonical(list(call)) or shape
                more = calls[text].probability if text in calls else 0.0
                calls[text] = Predicted(*call, probability + more)
        return sorted(calls.values(), key=lambda call: -call.probability)

    def forget(self, user: str | None) -> int:
        """Forget a user, here and in the store; return how many stored values there were."""
        learner = learner_of(user)
        self._transitions.forget([learner])
        self._gates.pop(learner, None)
        self._kept_open.pop(learner, None)
        for key in [key for key in self._conversations if key[0] == learner]:
            del self._conversations[key]
        for place in [place for place in self._latest if place[0] == learner]:
            del self._latest[place]
        self._pending = {key: found for key, found in self._pending.items() if key[0] != user}
        if self._store is None or user is None:
            return 0
        self._saving.wait(_FORGETTING_SECONDS)  # what is under way must not come after
        others = [found for found in self._found if found[0][0] != user]
        self._found = deque(others, maxlen=_MOST_FOUND)
        return self._store.forget(user=user, namespace=self._namespace, kind=KIND)

    def save(self) -> None:
        """Begin to write what is not yet written."""
        for place in list(self._pending):
            self._begin_to_write(place)

    def wait(self, timeout_seconds: float | None) -> None:
        """Wait until it is written; no lock is needed."""
        self._saving.wait(timeout_seconds)

    # The store

    def _keep(self, place: _Place, observation: _Observation, *, is_new: bool) -> None:
        """Note what has to be written, and have it written every now and then."""
        waiting = self._pending.setdefault(place, [])
        waiting.append(observation)
        del waiting[:-_MOST_PENDING]
        if is_new and self._saving.start(lambda: self._read(place)):
            self._reading.add(place)
        elif place not in self._reading and (
            len(waiting) >= _SAVED_EVERY or self._has_turned(learner_of(place[0]))
        ):
            self._begin_to_write(place)

    def _has_turned(self, learner: str) -> bool:
        """Return whether a gate has opened or closed, which must not be lost."""
        gate = self._gates.get(learner)
        return gate is not None and gate.is_open != self._kept_open.setdefault(learner, False)

    def _read(self, place: _Place) -> None:
        """Read what another process, or an earlier one, has learned of somebody new."""
        try:
            value = None if self._store is None else self._store.get(self._key(place))
            if value is not None:
                self._found.append((place, self._read_value(value)))
        finally:
            self._reading.discard(place)

    def _take_over_found(self) -> None:
        while self._found:
            (user, agent), (model, gate) = self._found.popleft()
            self._transitions.add(learner_of(user), agent, model)
            self._take_over_gate(learner_of(user), gate)

    def _take_over_gate(self, learner: str, gate: WasteGate | None) -> None:
        """Take over a gate that knows more than the one that is here."""
        here = self._gates.get(learner)
        if gate is None or (here is not None and here.outcomes >= gate.outcomes):
            return
        gate.outstanding = 0 if here is None else here.outstanding
        self._gates[learner] = gate
        self._kept_open[learner] = gate.is_open
        if len(self._gates) > _MOST_GATES:
            self._kept_open.pop(self._gates.popitem(last=False)[0], None)

    def _read_value(self, value: Any) -> _Habit:
        """Read what the store has: the one place. What has another shape is begun anew."""
        if value is None:
            return _Habit(UserTransitions(), None)
        try:
            model = UserTransitions.from_json(value, lru_cache(_MOST_SHAPES)(is_shape))
            gate = value.get("gate")
            if gate is not None:
                gate = WasteGate.from_json(gate, self._max_waste, self._common)
        except ValueError as error:
            if not self._has_warned:
                self._has_warned = True
                warnings.warn(
                    f"What was learned of the order of calls was not written by this release: "
                    f"{error}. It is learned anew. This is not mentioned again.",
                    TokenOptWarning,
                    stacklevel=2,
                )
            return _Habit(UserTransitions(), None)
        return _Habit(model, gate)

    def _begin_to_write(self, place: _Place) -> None:
        waiting, learner = self._pending.pop(place), learner_of(place[0])
        gate = self._gates.get(learner)
        state = None if gate is None else gate.as_json()
        if not self._saving.start(lambda: self._write(place, waiting, state)):
            self._pending[place] = waiting
        elif gate is not None:
            self._kept_open[learner] = gate.is_open

    def _write(
        self, place: _Place, waiting: list[_Observation], gate: dict[str, Any] | None
    ) -> None:
        """Add what was observed to what is stored, which other processes may have changed."""
        if self._store is None:
            return

        def changed(value: Any) -> Any:
            model, stored = self._read_value(value)
            for history, shape in waiting:
                model.observe(history, shape)
            state = gate
            if stored is not None and (gate is None or gate["outcomes"] < stored.outcomes):
                state = value["gate"]
            written = model.as_json(_MOST_BYTES)
            return written if state is None else {**written, "gate": state}

        try:
            self._store.update(self._key(place), changed)
        except (sqlite3.Error, OSError, ValueError) as error:
            warnings.warn(
                f"What was learned of the order of calls could not be kept: {error}",
                TokenOptWarning,
                stacklevel=2,
            )

    def _key(self, place: _Place) -> LearnedKey:
        user, agent = place
        return LearnedKey(KIND, self._namespace, user, agent)

    def _stored(self) -> list[Any]:
        if self._store is None:
            return []
        try:
            found = self._store.values(KIND, self._namespace)
        except (sqlite3.Error, OSError) as error:
            warnings.warn(
                f"What was learned of the order of calls cannot be read: {error}. It is learned "
                f"anew.",
                TokenOptWarning,
                stacklevel=5,
            )
            return []
        return [one for one in found if one.namespace == self._namespace]


def _conversation_key(caller: Caller) -> tuple[Any, ...]:
    return caller.learner, caller.owner, caller.agent, caller.thread
