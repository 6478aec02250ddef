"""What is decided at a call: by what it costs, or by what still fits into a window."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from langchain_tokenopt.context.epochs import Moment, Step
from langchain_tokenopt.context.importance import Importance, Query, importance_of
from langchain_tokenopt.context.levels import (
    BESIDE,
    handle_of,
    is_marked,
    one_line,
    shortened,
)
from langchain_tokenopt.core.conversation import answered_turns, last_user_message
from langchain_tokenopt.core.messages import (
    answers_calls,
    atomic_groups,
    is_answered,
    text_of,
    with_text,
)

__all__ = ["SlidingWindow", "Stepped", "Summarize", "protected", "superseded", "task_of"]

Summarize = Callable[[Sequence[BaseMessage]], str]


class Stepped:
    """Shortens old tool results when that pays; all else only where the request is too long.

    Args:
        summarize: Writes what stands for the turns that are set aside; by default a line does.
    """

    def __init__(self, summarize: Summarize | None = None) -> None:
        self._summarize = summarize

    @property
    def fingerprint(self) -> str:
        """Every setting that changes views."""
        return "stepped" if self._summarize is None else f"stepped, {self._summarize!r}"

    def decide(self, moment: Moment) -> Step | None:
        """Take a step where it pays, or where the request is too long."""
        if moment.is_forced:
            return _Descent(moment, self._summarize).step()
        if not _pays(moment):
            return None
        made = _Making(moment)
        for group in moment.pending:
            for at in group.results:
                made.result(at)
        return made.step()


def _pays(moment: Moment) -> bool:
    """Whether a step has been waited for long enough, and will be paid for."""
    removed, terms, state = moment.removable, moment.terms, moment.state
    if removed <= 0:
        return False
    price = terms.price
    if price.read < 1 and moment.tokens - removed < price.min_tokens:
        return False  # nothing of so short a prompt would be known the next time
    gain_of = moment.conversation.gain
    first = next(at for g in moment.pending for at in g.results if gain_of(at))
    cost = price.rewriting(moment.rewritten(first, removed))
    gain = price.read * removed
    if moment.is_first:
        cost += price.write * terms.tool_tokens
        gain -= price.read * terms.tool_tokens
    # What earlier steps have lost is not known where their view comes in: it must not count.
    to_come = gain * (1 + terms.expected(state.calls))
    return state.waste >= cost and cost <= max(0.0, state.bank) + to_come


class SlidingWindow:
    """Sets aside the oldest turns and calls with every call that is too long: the simplest policy.

    Its view begins with other bytes each time, so providers charge it as new; use it for models
    whose provider keeps nothing.
    """

    fingerprint = "sliding window"

    def decide(self, moment: Moment) -> Step | None:
        """Set aside what is oldest, until the rest fits."""
        return _Descent(moment, None).window() if moment.is_forced else None


class _Making:
    """Collects what changes."""

    def __init__(self, moment: Moment) -> None:
        self.moment = moment
        self.messages = moment.conversation.messages
        self.query: Query = moment.query
        self.texts: dict[int, str | None] = {}
        self.handles: dict[str, tuple[int, ...]] = {}
        self.total = moment.tokens
        if moment.is_first:
            self.total += moment.terms.tool_tokens

    def step(self) -> Step | None:
        """Return all that changes."""
        return Step(self.texts, self.handles) if self.texts else None

    def size(self, at: int) -> int:
        """Return the tokens of a message as it would be sent now."""
        text = self.text(at)
        if text is None:
            return 0
        sizes, message = self.moment.conversation.sizes, self.messages[at]
        own = at in self.texts or at in self.moment.state.decisions
        return sizes.of(with_text(message, text)) if own else self.moment.conversation.tokens[at]

    def text(self, at: int) -> str | None:
        """Return what a message says now; ``None``: it is set aside."""
        if at in self.texts:
            return self.texts[at]
        decisions = self.moment.state.decisions
        return decisions[at] if at in decisions else text_of(self.messages[at])

    def put(self, at: int, text: str | None, *handled: int) -> bool:
        """Put *text* in the place of a message, if that is shorter."""
        before = self.size(at)
        sizes = self.moment.conversation.sizes
        after = 0 if text is None else sizes.of(with_text(self.messages[at], text))
        if after >= before:
            return False
        self.texts[at] = text
        self.total -= before - after
        if handled:
            self.handles[handle_of(*(text_of(self.messages[n]) for n in handled))] = handled
        return True

    def result(self, at: int, *, whole_line: bool = False) -> None:
        """Shorten a tool result: to what the question needs, or to a line."""
        tokens, message = self.moment.conversation.tokens[at], self.messages[at]
        if not self.moment.conversation.gain(at) or is_marked(text_of(message)):
            return
        if not whole_line and self.query.is_about(text_of(message)) and self.part(at):
            return
        self.put(at, one_line(message, tokens, self.moment.terms.mark), at)

    def part(self, at: int) -> bool:
        """Shorten a message to what later calls will need of it."""
        sizes, mark = self.moment.conversation.sizes, self.moment.terms.mark
        tokens, message = self.moment.conversation.tokens[at], self.messages[at]
        if not self.moment.conversation.gain(at) or is_marked(text_of(message)):
            return False
        made = shortened(message, self.query, tokens, mark, sizes.of_text)
        return made is not None and self.put(at, made, at)


class _Descent(_Making):
    """Brings a request that is too long down to its target, what matters least first."""

    def __init__(self, moment: Moment, summarize: Summarize | None) -> None:
        super().__init__(moment)
        self._summarize = summarize
        limits = (moment.terms.target, moment.terms.trigger, moment.terms.limit)
        self._target = min(limit for limit in limits if limit is not None)
        self._kept = protected(self.messages[: moment.boundary], moment.terms.keep_last)
        self._task = task_of(self.messages)
        self._superseded = superseded(self.messages[: moment.boundary])
        self._known: dict[int, Importance] = {}

    def _weight(self, at: int) -> float:
        known = self._known.get(at)
        if known is None:
            known = self._known[at] = importance_of(
                self.messages[at],
                self.query,
                is_task=at == self._task,
                is_superseded=at in self._superseded,
            )
        return known.weight

    @property
    def _is_done(self) -> bool:
        return self.total <= self._target

    def step(self) -> Step | None:
        """Shorten, then reduce to lines, then set aside, until it fits."""
        for take in (self._results, self._parts, self._lines, self._aside):
            if self._is_done:
                break
            take()
        return super().step()

    def window(self) -> Step | None:
        """Set aside the oldest, until it fits."""
        self._drop(sorted(self._units(), key=min), limit=self.moment.terms.trigger)
        return super().step()

    def _free(self, kind: type[BaseMessage] | tuple[type[BaseMessage], ...]) -> list[int]:
        """Return the messages of a kind that may change, those that matter least first."""
        free = (
            at
            for at in range(self.moment.boundary)
            if at not in self._kept
            and isinstance(self.messages[at], kind)
            and self.text(at) is not None
        )
        return sorted(free, key=lambda at: (self._weight(at), at))

    def _results(self) -> None:
        for at in self._free(ToolMessage):
            if self._is_done:
                return
            if at not in self.moment.state.decisions:
                self.result(at)

    def _said(self) -> Iterator[int]:
        for at in self._free((HumanMessage, AIMessage)):
            message = self.messages[at]
            calls = getattr(message, "tool_calls", ()) or answers_calls(message)
            if not calls and _is_text(message):
                yield at

    def _parts(self) -> None:
        for at in self._said():
            if self._is_done:
                return
            if at not in self.moment.state.decisions:
                self.part(at)

    def _lines(self) -> None:
        for at in sorted(
            [*self._said(), *self._free(ToolMessage)],
            key=lambda at: (self._weight(at), at),
        ):
            if self._is_done:
                return
            text, message = text_of(self.messages[at]), self.messages[at]
            if self._weight(at) < _MATTERS and not is_marked(text):
                tokens = self.moment.conversation.tokens[at]
                self.put(at, one_line(message, tokens, self.moment.terms.mark), at)

    def _units(self) -> list[list[int]]:
        """Return what can be set aside: whole turns that were answered, and whole tool groups."""
        messages = self.messages[: self.moment.boundary]
        turns = [
            [at for at in range(*turn) if not isinstance(messages[at], SystemMessage)]
            for turn in answered_turns(messages)
        ]
        in_turns = {at for turn in turns for at in turn}
        groups = (g.members for g in self.moment.conversation.tool_groups)
        loose = [[*g] for g in groups if g[-1] < len(messages) and in_turns.isdisjoint(g)]
        group_of = {at: group for group in atomic_groups(messages) for at in group}
        units = [
            unit for unit in (*turns, *loose) if all(set(group_of[at]) <= {*unit} for at in unit)
        ]
        left = (
            [at for at in unit if self.text(at) is not None]
            for unit in units
            if self._kept.isdisjoint(unit)
        )
        return [unit for unit in left if unit]

    def _aside(self) -> None:
        units = sorted(
            self._units(),
            key=lambda unit: (max(self._weight(at) for at in unit), unit[0]),
        )
        self._drop(units, limit=self._target)

    def _drop(self, units: Iterable[list[int]], limit: int | None) -> None:
        """Set aside one after the other, with one line in the place of all of them."""
        chosen: list[list[int]] = []
        left = self.total + _NOTE_TOKENS
        for unit in units:
            if limit is None or left <= limit:
                break
            chosen.append(unit)
            left -= sum(map(self.size, unit))
        if not chosen or left >= self.total:
            return
        before = self.total, {**self.texts}, {**self.handles}
        self._set_aside(chosen)
        if before[0] - self.total < _LEAST_SAVED:  # one line in the place of another
            self.total, self.texts, self.handles = before

    def _set_aside(self, chosen: Sequence[Sequence[int]]) -> None:
        carrier = self._carrier(chosen)
        if carrier is None:
            return
        gone = tuple(sorted(at for unit in chosen for at in unit))
        tokens = sum(self.moment.conversation.tokens[at] for at in gone)
        texts = [text_of(self.messages[at]) for at in gone]
        gist = f"{len(gone)} earlier messages"
        if self._summarize is not None:
            gist = self._summarize([self.messages[at] for at in gone]) or gist
        note = self.moment.terms.mark.line(tokens, handle_of(*texts), gist)
        stays = next(set(g) for g in self.moment.conversation.groups if carrier in g)
        for at in gone:
            if at in stays:
                if at != carrier and isinstance(self.messages[at], ToolMessage):
                    self.put(at, BESIDE)
            else:
                self.total -= self.size(at)
                self.texts[at] = None
        self.total -= self.size(carrier)
        self.texts[carrier] = note
        self.total += self.size(carrier)
        self.handles[handle_of(*texts)] = gone

    def _carrier(self, chosen: Sequence[Sequence[int]]) -> int | None:
        """Return the message in whose place the line stands: a user's, or a tool result."""
        gone = sorted(at for unit in chosen for at in unit)
        humans = (at for at in gone if isinstance(self.messages[at], HumanMessage))
        found = next((at for at in humans if not answers_calls(self.messages[at])), None)
        if found is not None:
            return found
        loose = [unit for unit in chosen if getattr(self.messages[unit[0]], "tool_calls", ())]
        first = min(loose, key=min, default=())
        results = (at for at in first if isinstance(self.messages[at], ToolMessage))
        return next(results, None)


_NOTE_TOKENS: Final = 32
_LEAST_SAVED: Final = 16
_MATTERS: Final = 0.8
"""What decides, binds, corrects or is asked about is not reduced to a line, but set aside last."""


def _is_text(message: BaseMessage) -> bool:
    """Whether all that a message has is text."""
    content = message.content
    return isinstance(content, str) or all(
        isinstance(b, str) or (isinstance(b, dict) and b.get("type") == "text") for b in content
    )


def protected(messages: Sequence[BaseMessage], keep_last: int) -> set[int]:
    """Return the messages that stay as they are: whatever it costs, in every view.

    System messages, the task, the user's last message, tool calls without all of their results, and
    the last groups, of any kind and of tool calls.
    """
    groups = atomic_groups(messages)
    kept = {at for at, m in enumerate(messages) if isinstance(m, SystemMessage)}
    humans = [
        at for at, m in enumerate(messages) if isinstance(m, HumanMessage) and not answers_calls(m)
    ]
    kept.update(humans[:1], humans[-1:], [max(0, last_user_message(messages))])
    tools = [g for g in groups if getattr(messages[g[0]], "tool_calls", ())]
    for group in groups:
        if not is_answered([messages[at] for at in group]):
            kept.update(group)
        elif len(group) == 1 and answers_calls(messages[group[0]]):
            kept.update(group)  # a result whose call is not there
    if keep_last:
        for group in (*groups[-keep_last:], *tools[-keep_last:]):
            kept.update(group)
    return kept


def task_of(messages: Sequence[BaseMessage]) -> int:
    """Return the index of the user's first message; -1: there is none."""
    users = (
        at for at, m in enumerate(messages) if isinstance(m, HumanMessage) and not answers_calls(m)
    )
    return next(users, -1)


def superseded(messages: Sequence[BaseMessage]) -> set[int]:
    """Return the tool results whose call was made again, and answered again, later."""
    asked = {
        call["id"]: (call["name"], repr(call["args"]))
        for message in messages
        if isinstance(message, AIMessage)
        for call in message.tool_calls
    }
    latest: dict[tuple[str, str], int] = {}
    found = set()
    for at, message in enumerate(messages):
        key = asked.get(message.tool_call_id) if isinstance(message, ToolMessage) else None
        if key is not None:
            if key in latest:
                found.add(latest[key])
            latest[key] = at
    return found
