"""Calls as they come, and what is loaded ahead of them: begun, held, handed over or dropped."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, Final

from langchain_tokenopt.core.event_loop import on_event_loop
from langchain_tokenopt.evaluate.background_work import BackgroundWork
from langchain_tokenopt.learn.prefetch.call_shapes import canonical
from langchain_tokenopt.learn.prefetch.callers import Caller
from langchain_tokenopt.learn.prefetch.habits import Conversation, Habits, Predicted
from langchain_tokenopt.learn.prefetch.loads import Load, Loaded, LoadKey, Owner, Source
from langchain_tokenopt.learn.prefetch.spending import PrefetchSpending
from langchain_tokenopt.learn.prefetch.waste_gate import WasteGate
from langchain_tokenopt.storage import forks

__all__ = ["LoadLimits", "LoadsAhead"]

_STEPS_HELD: Final = 3
"""Calls of a conversation for which a prediction stands, and what was loaded for it is held: calls
that a model makes at once come in any order."""
_MOST_TASKS: Final = 8


@dataclass(frozen=True, slots=True)
class LoadLimits:
    """What bounds the loads."""

    ttl_seconds: float
    max_held: int
    timeout_seconds: float


@dataclass(slots=True)
class _Expected:
    """A prediction, until it turns out right or wrong."""

    load: Load | None
    """``None``: in the shadow."""
    gate: WasteGate
    steps: int = _STEPS_HELD


class LoadsAhead:
    """Begins loads for what is nearly certain to come, and holds their results.

    Args:
        habits: What comes next.
        spending: What loads may cost.
        limits: What bounds the loads.
        shared: Names of sources, and their keys, that are the same for all owners.
        own_changes: Names of sources that change only what their callers read.
    """

    def __init__(
        self,
        habits: Habits,
        spending: PrefetchSpending,
        limits: LoadLimits,
        shared: Collection[str],
        own_changes: Collection[str] = (),
    ) -> None:
        self.habits = habits
        self.limits = limits
        self.sources: dict[str, Source] = {}
        self.counts: Counter[str] = Counter()
        self.seconds_saved = 0.0
        self.failure = ""
        """What went wrong with the load that failed last."""
        self.is_closed = False
        self._spending = spending
        self._shared, self._own_changes = shared, own_changes
        self._changes: dict[object, Owner] = {}
        """Calls under way that may change something, and for whom; ``None``: for everybody."""
        self._background = BackgroundWork("tokenopt-prefetch")
        self._tasks: set[asyncio.Task[None]] = set()
        self._held: OrderedDict[LoadKey, Load] = OrderedDict()
        """Loads under way or done, that no call has asked for yet; the oldest first."""
        self._lock = forks.ForkLock()
        forks.register(self)

    # A call

    def arrive(self, source: Source, arguments: dict[str, Any], caller: Caller) -> Load | None:
        """Take in that a call is made; return what was loaded for it ahead, to be handed over."""
        key = self._key(source, arguments, caller)
        with self._lock:
            self._drop_old()
            self.counts["calls"] += 1
            conversation = self.habits.begun(caller)
            load = self._held.pop(key, None)
            self._judge(conversation, key)
            self.habits.learn(caller, source.name, arguments)
        if load is not None and load.future.cancel():  # it has not begun: the call itself is faster
            with self._lock:
                self._take_back(load)
            return None
        return load

    def take(self, load: Load) -> Loaded | None:
        """Return what was loaded for a call, waiting for it if need be; ``None``: nothing came."""
        return self._settle(load, load.wait, time.monotonic())

    def take_as_it_is(self, load: Load) -> None:
        """Take note that a load has served its end by having begun."""
        has_failed = load.future.done() and not load.future.result().is_good
        loaded = None if has_failed else Loaded(None, 0.0, True)
        self._settle(load, lambda: loaded, time.monotonic())

    async def atake(self, load: Load) -> Loaded | None:
        """Like :meth:`take`, without holding a thread."""
        begun, loaded = time.monotonic(), None
        try:
            loaded = await load.await_()
        finally:
            self._settle(load, lambda: loaded, begun)
        return loaded

    @contextmanager
    def changing(self, source: Source, caller: Callable[[], Caller]) -> Iterator[None]:
        """Make a call inside: what it may change is dropped, and not loaded before it has ended."""
        if source.is_reading:
            yield
            return
        owner: Owner = None
        if source.name in self._own_changes:
            with suppress(Exception):  # nobody knows who calls: it concerns everybody
                owner = caller().owner
        change = object()
        with self._lock:
            self._changes[change] = owner
            for load in list(self._held.values()):
                if _concerns(owner, load.key.owner):
                    self._drop(load)
        try:
            yield
        finally:
            with self._lock:
                self._changes.pop(change, None)

    def depart(
        self, source: Source, caller: Caller, result: Any, *, is_async: bool = False
    ) -> None:
        """Take in what a call has returned, and load ahead what comes after it.

        Args:
            source: What was called.
            caller: Who has called it.
            result: What it has returned.
            is_async: Whether the call was awaited: the loop is free for loads.
        """
        with self._lock:
            self.habits.learn_result(caller, source.name, result)
            predicted = self.habits.predict(caller)
            conversation = self.habits.begun(caller)
            conversation.guess = None
            if predicted:
                first = predicted[0]
                conversation.guess = first.name, canonical(first.arguments)
                if first.probability >= self.habits.gate(caller.learner).needed:
                    self._act_upon(first, caller, conversation, is_async)

    # Predictions

    def _judge(self, conversation: Conversation, key: LoadKey) -> None:
        guess, conversation.guess = conversation.guess, None
        if guess is not None:
            self.counts["guesses"] += 1
            self.counts["right_guesses"] += guess == (key.source, key.arguments)
        for expected_key, expected in list(conversation.expected.items()):
            expected.steps -= 1
            if expected_key == key:
                del conversation.expected[expected_key]
                if expected.load is None:
                    self._judge_shadow(expected.gate, right=True)
            elif not expected.steps:
                del conversation.expected[expected_key]
                load = expected.load
                if load is None:
                    self._judge_shadow(expected.gate, right=False)
                elif self._held.get(expected_key) == load:
                    self._drop(load)

    def _judge_shadow(self, gate: WasteGate, *, right: bool) -> None:
        gate.judge_shadow(right=right)
        self.counts["right_in_shadow" if right else "wrong_in_shadow"] += 1

    def _act_upon(
        self, call: Predicted, caller: Caller, conversation: Conversation, is_async: bool
    ) -> None:
        source = self.sources.get(call.name)
        if source is None or not source.is_allowed or self.is_closed:
            return
        key = self._key(source, call.arguments, caller)
        if key in self._held or key in conversation.expected:
            return
        gate = self.habits.gate(caller.learner)
        if not gate.is_open:
            conversation.expected[key] = _Expected(None, gate)
        elif (
            not gate.may_start()
            or len(self._held) >= self.limits.max_held
            or not self._spending.allows(source)
            or any(_concerns(changed, key.owner) for changed in self._changes.values())
        ):
            self.counts["refused"] += 1
        else:
            load = Load(key, source, call.arguments, caller, gate)
            if self._begin(load, is_async):
                gate.start()
                self.counts["started"] += 1
                self._held[key] = load
                conversation.expected[key] = _Expected(load, gate)
            else:
                self.counts["refused"] += 1

    # Loads

    def _begin(self, load: Load, is_async: bool) -> bool:
        """Begin a load where it belongs; ``False`` where too much is under way."""
        source = load.source
        prefers_loop = source.aload is not None and (is_async or source.load is None)
        if prefers_loop and on_event_loop():
            if len(self._tasks) >= _MOST_TASKS:
                return False
            load.loop = asyncio.get_running_loop()
            task = load.loop.create_task(self._aload(load), context=copy_context())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return True
        context = copy_context()
        return self._background.start(lambda: context.run(load.run, lambda: self._load(load)))

    def _load(self, load: Load) -> Any:
        with self._spending.block(load.caller, load.source) as config:
            if load.source.load is not None:
                return load.source.load(load.arguments, config)
            assert load.source.aload is not None
            return asyncio.run(load.source.aload(load.arguments, config))

    async def _aload(self, load: Load) -> None:
        async def work() -> Any:
            assert load.source.aload is not None
            with self._spending.block(load.caller, load.source) as config:
                return await load.source.aload(load.arguments, config)

        await load.arun(work, self.limits.timeout_seconds)

    def _settle(self, load: Load, wait: Callable[[], Loaded | None], begun: float) -> Loaded | None:
        loaded = None
        try:
            loaded = wait()
        finally:
            with self._lock:
                self._end(load, loaded, is_needed=True)
                if loaded is not None:
                    waited = time.monotonic() - begun
                    self.seconds_saved += max(0.0, loaded.seconds - waited)
        return loaded

    def _drop_old(self) -> None:
        """Drop what is held too long, or takes too long."""
        now = time.monotonic()
        for load in list(self._held.values()):
            age = now - load.born
            done = load.future.done()
            if age > (self.limits.ttl_seconds if done else self.limits.timeout_seconds):
                self._drop(load, is_needed=not done)

    def _drop(self, load: Load, *, is_needed: bool = False) -> None:
        self._held.pop(load.key, None)
        if load.future.cancel():
            self._take_back(load)
        else:
            self._end(load, None, is_needed=is_needed)

    def _end(self, load: Load, loaded: Loaded | None, *, is_needed: bool) -> None:
        """Count what became of a load; one that was needed and is not there has failed."""
        used = loaded is not None
        came = load.future.result() if load.future.done() else None
        if came is not None and came.is_refused:
            self._take_back(load)
            self.counts["refused"] += 1
            return
        load.gate.end(used=used)
        self.counts["used" if used else "wasted"] += 1
        if not used and (is_needed if came is None else not came.is_good):
            self.counts["failed"] += 1
            self.failure = came.failure if came else f"{load.source.name} took too long"

    def _take_back(self, load: Load) -> None:
        """Take a load for one that was never begun."""
        load.gate.cancel()
        self.counts["started"] -= 1

    def _key(self, source: Source, arguments: dict[str, Any], caller: Caller) -> LoadKey:
        text = canonical(arguments) or ""
        only = next(iter(arguments.values())) if len(arguments) == 1 else None
        is_shared = source.name in self._shared or (
            isinstance(only, str) and source.is_keyed and only in self._shared
        )
        return LoadKey(None if is_shared else caller.owner, source.name, text)

    # The whole

    def outstanding(self) -> int:
        """Return how many loads are under way or held."""
        with self._lock:
            self._drop_old()
            return self.counts["started"] - self.counts["used"] - self.counts["wasted"]

    def explain(self, caller: Caller) -> str:
        """Say what is expected next of a caller, and whether it is loaded ahead, and why."""
        with self._lock:
            predicted = self.habits.predict(caller)
            gate = self.habits.gate(caller.learner)
        needed = gate.needed
        lines = [gate.explain()]
        if self.failure:
            lines.append(f"{self.counts['failed']:,} loads failed, the last one: {self.failure}")
        for call in predicted:
            source = self.sources.get(call.name)
            if call.probability < needed:
                verdict = f"below {needed:.0%}"
            elif source is None or not source.is_allowed:
                verdict = "not named in read_only, or given more than its arguments"
            elif not self._spending.allows(source):
                verdict = "no money is left for the models that it calls"
            else:
                verdict = "loaded ahead" if gate.is_open else "watched in the shadow"
            lines.append(
                f"{call.name} {canonical(call.arguments)}: {call.probability:.0%}, {verdict}"
            )
        return "\n".join(lines if predicted else [*lines, "Nothing is known of what comes next."])

    def forget(self, caller_learner: str, user: str) -> int:
        """Forget a user, and drop what is held for him."""
        with self._lock:
            for load in list(self._held.values()):
                if load.caller.learner == caller_learner:
                    self._drop(load)
            return self.habits.forget(user)

    def wait(self, timeout_seconds: float | None = None) -> None:
        """Wait until no thread loads anything."""
        self._background.wait(timeout_seconds)

    def close(self, timeout_seconds: float) -> None:
        """Drop everything, keep what was learned, and wait for what is under way, but not long."""
        with self._lock:
            self.is_closed = True
            for load in list(self._held.values()):
                self._drop(load)
            self.habits.save()
        self.habits.wait(timeout_seconds)
        self._background.close(timeout_seconds)

    # Forks

    @property
    def lock(self) -> forks.ForkLock:
        """Return the lock that is held while anything changes. It is another one after a fork."""
        return self._lock

    def before_fork(self) -> None:
        """There is nothing to let go of."""

    def after_fork_in_child(self) -> None:
        """Give up what the parent had under way: its threads do not go on here."""
        self._lock = forks.ForkLock()
        self._tasks = set()
        self._changes = {}
        for load in self._held.values():
            load.gate.end(used=False)
            self.counts["wasted"] += 1
        self._held.clear()


def _concerns(changed: Owner, reader: Owner) -> bool:
    """Return whether a change may be seen in what was loaded for *reader*; ``None``: for all."""
    return changed is None or reader is None or changed == reader
