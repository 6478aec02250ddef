"""How a request that is too long is brought down: tool results first, then the oldest turns.

Tool results come down to what the question needs, or to one line, what matters least first. Then
the oldest turns are set aside together, with one note in their place: how many they were, a handle
for all of them, and what they tell (:mod:`~langchain_tokenopt.context.telling`) in as many tokens
as there is room for. When more turns go later the note is written anew, for all of them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import Final

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from langchain_tokenopt.context.changes import Making
from langchain_tokenopt.context.decisions import Moment, Step
from langchain_tokenopt.context.fetching import LISTED_TOKENS, titles_of
from langchain_tokenopt.context.importance import Importance, importance_of
from langchain_tokenopt.context.levels import (
    BESIDE,
    handle_of,
    in_place,
    is_marked,
)
from langchain_tokenopt.context.protection import protected, removable, superseded, task_of
from langchain_tokenopt.context.telling import needed, told
from langchain_tokenopt.core.messages import answers_calls, text_of
from langchain_tokenopt.tools.result_limit import CompressingLoader

__all__ = ["Descent", "Summarize"]

Summarize = Callable[[Sequence[BaseMessage]], str]

_NOTE_TOKENS: Final = 32
_NOTE: Final = re.compile(r"\[[\d,]+ tokens set aside[^\n]*\]")
_BESIDE_TOKENS: Final = 12
_LEAST_SAVED: Final = 16
_LEAST_TOLD: Final = 12
"""Tokens: in less nothing can be told."""
_TITLED: Final = 5
"""Which part of a note tells what results there were: 1 of 5 tokens."""
_TOLD: Final = 0.25
"""Share that a note tells of what it stands for, where it need not be less."""
_NEEDED: Final = 0.5
"""Share of a note's room for passages that the question needs."""
_LATEST: Final = 0.125
"""Share of the target that the latest turns have as they are, where it need not be less."""
_SHORT_CALL: Final = 100
"""Tokens of a message with calls."""
_MATTERS: Final = 0.8
"""Results that are asked about are not reduced to a line, but set aside last."""


class Descent(Making):
    """Brings a request that is too long down to its target.

    Args:
        moment: What is known at this call.
        summarize: Writes what turns tell that are set aside.
    """

    def __init__(self, moment: Moment, summarize: Summarize | None) -> None:
        super().__init__(moment)
        self._summarize = summarize
        limits = (moment.terms.target, moment.terms.trigger, moment.terms.limit)
        self._target = min(limit for limit in limits if limit is not None)
        self._kept = protected(self.messages[: moment.boundary], moment.terms.keep_last)
        self._task = task_of(self.messages)
        self._superseded = superseded(self.messages[: moment.boundary])
        self._known: dict[int, Importance] = {}

    def step(self, chosen: Collection[int] | None = None) -> Step | None:
        """Shorten results, reduce them to lines, then set turns aside, until it fits.

        Args:
            chosen: Results that would be shortened if nothing had to be: all of them are, or a view
                with more room would be the shorter one.
        """
        self.results(chosen or ())
        for take in (self._results, self._lines, self._aside):
            if self.total <= self._target:
                break
            take()
        self._all_behind()
        self._retell()
        return self._partial()

    def _all_behind(self) -> None:
        """Shorten the pending results behind the first change: all that is written anew anyway."""
        if self.texts:
            first = min(self.texts)
            self.results(one.at for one in self.moment.pending if one.at > first)

    def retold(self) -> Step | None:
        """Write the note of an earlier step anew, for which there is more room than there was."""
        self._retell()
        return self._partial()

    def _retell(self) -> None:
        """Fill the room that is left with what the note of an earlier step could not tell."""
        earlier = [at for at in self.moment.state.decisions if self._stands_for(at)]
        carrier = max(earlier, default=None)
        if carrier is None or carrier in self.texts or self._summarize is not None:
            return
        before = self.text(carrier) or ""
        self.total -= self.size(carrier)
        made = self._note([carrier], self._with_earlier([carrier]), carrier, tells=True)
        if (
            self.moment.conversation.sizes.of_text(made)
            >= self.moment.conversation.sizes.of_text(before) + _LEAST_TOLD
        ):
            self.texts[carrier] = made
        self.total += self.size(carrier)

    def _stands_for(self, at: int) -> bool:
        """Whether a note of an earlier step stands in the place of a message.

        A line of that message alone in its place would take the handle of all others away.
        """
        notes = (note for note in self.moment.state.handles.values() if len(note) > 1)
        text = self.text(at) or BESIDE
        return text != BESIDE and is_marked(text) and any(at in note for note in notes)

    def window(self) -> Step | None:
        """Set aside the oldest, until it fits."""
        if self.moment.terms.trigger is not None:
            self._target = self.moment.terms.trigger
            self._drop(self._oldest(0.0, 0.0), tells=False)
        return self._partial()

    def _partial(self) -> Step | None:
        step = super().step()
        return None if step is None else replace(step, is_partial=True)

    # Results

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

    def _free_results(self) -> list[int]:
        """Return the results that may change, those that matter least first."""
        free = (
            at
            for at in range(self.moment.boundary)
            if at not in self._kept
            and isinstance(self.messages[at], ToolMessage)
            and self.text(at) is not None
        )
        return sorted(free, key=lambda at: (self._weight(at), at))

    def _results(self) -> None:
        for at in self._free_results():
            if self.total <= self._target:
                return
            if at not in self.moment.state.decisions:
                self.result(at)

    def _lines(self) -> None:
        for at in self._free_results():
            if self.total <= self._target:
                return
            is_note = is_marked(text_of(self.messages[at])) or self._stands_for(at)
            if self._weight(at) < _MATTERS and not is_note:
                self.line(at)

    # Turns

    def _units(self) -> list[list[int]]:
        """Return what can be set aside and is shown as yet, oldest first."""
        units = removable(self.messages[: self.moment.boundary], self._kept)
        shown = ([at for at in unit if self.text(at) is not None] for unit in units)
        return [unit for unit in shown if unit]

    def _aside(self) -> None:
        self._drop(self._oldest(_TOLD, _LATEST), tells=True)

    def _oldest(self, told_of_them: float, latest_whole: float) -> list[list[int]]:
        """Return the oldest whose note has room to tell its share, or all but the latest."""
        units = [(unit, sum(map(self.size, unit))) for unit in self._units()]
        tokens = self.moment.conversation.tokens
        latest = sum(size for _, size in units)
        chosen: list[list[int]] = []
        over, gone = self.total - self._target, 0
        for unit, size in units:
            room = -over - self._left(chosen)
            if room >= told_of_them * gone or (room > 0 and latest <= latest_whole * self._target):
                break
            chosen.append(unit)
            over, latest = over - size, latest - size
            gone += sum(tokens[at] for at in self._with_earlier(unit))
        return chosen

    def _left(self, chosen: Sequence[Sequence[int]]) -> float:
        """Return the tokens that a note takes: its own, and of what must stay with it."""
        carrier = self._carrier(chosen)
        return math.inf if carrier is None else _NOTE_TOKENS + self._beside_note(carrier)

    def _beside_note(self, carrier: int) -> int:
        """Return the tokens of what must stay with a note in a result: its call, and pictures."""
        if not isinstance(self.messages[carrier], ToolMessage):
            return 0
        return sum(
            _BESIDE_TOKENS if self._is_plain_result(at) else self.size(at)
            for at in self._stays_with(carrier)
            if at != carrier or not self._is_plain(at)
        )

    def _stays_with(self, carrier: int) -> list[int]:
        """Return what is shown with a note: where a result is its place, the group of that."""
        if not isinstance(self.messages[carrier], ToolMessage):
            return [carrier]
        return next(group for group in self.moment.conversation.groups if carrier in group)

    def _drop(self, chosen: Sequence[Sequence[int]], *, tells: bool) -> None:
        """Set aside with one note in the place of all, if that is shorter."""
        carrier = self._carrier(chosen)
        if carrier is None:
            return
        stays = {*self._stays_with(carrier)}
        shown = sorted(at for unit in chosen for at in unit)
        texts = (at for at in stays if at == carrier or isinstance(self.messages[at], ToolMessage))
        if stays >= {*shown} and all(map(self._is_mark, texts)):
            return  # one note in the place of another
        before = self.total, {**self.texts}, {**self.handles}
        worth = self._worth(at for unit in chosen for at in unit)
        gone = self._with_earlier(shown)
        for at in shown:
            if at not in stays:
                self.total -= self.size(at)
                self.texts[at] = None
            elif at != carrier and isinstance(self.messages[at], ToolMessage):
                self.put(at, BESIDE)
        self.total -= self.size(carrier)
        self.texts[carrier] = self._note(shown, gone, carrier, tells=tells)
        self.total += self.size(carrier)
        self.handles[handle_of(*(text_of(self.messages[at]) for at in gone))] = gone
        for at in gone:  # listed behind the note's handle
            if self.moment.conversation.tokens[at] > LISTED_TOKENS:
                self.handles[handle_of(text_of(self.messages[at]))] = (at,)
        saved = worth - self._worth(sorted(stays & {*shown}))
        is_enough = saved >= _LEAST_SAVED or self.total <= self._target
        if not is_enough or self.total >= before[0]:
            self.total, self.texts, self.handles = before

    def _worth(self, places: Iterable[int]) -> int:
        """Return the tokens of messages; all notes that tell nothing count the same.

        A note of more messages has longer numbers: that must not decide.
        """
        return sum(
            _NOTE_TOKENS
            if self._is_plain(at) and _NOTE.fullmatch(self.text(at) or "")
            else self.size(at)
            for at in places
        )

    def _is_mark(self, at: int) -> bool:
        """Whether a message says nothing but that something was set aside."""
        text = self.text(at) or ""
        return text == BESIDE or _NOTE.fullmatch(text) is not None

    def _with_earlier(self, shown: Iterable[int]) -> tuple[int, ...]:
        """Return the messages that the new note stands for: those of earlier notes among them."""
        notes = [n for n in self.moment.state.handles.values() if len(n) > 1]
        earlier = (at for note in notes if not {*note}.isdisjoint(shown) for at in note)
        return tuple(sorted({*shown, *earlier}))

    def _note(self, shown: Sequence[int], gone: Sequence[int], carrier: int, *, tells: bool) -> str:
        sizes, mark = self.moment.conversation.sizes, self.moment.terms.mark
        handle = handle_of(*(text_of(self.messages[at]) for at in gone))
        tokens = sum(self.moment.conversation.tokens[at] for at in gone)
        line = mark.line(tokens, handle, f"{len(gone)} earlier messages")
        room = self._target - self.total - sizes.in_place(self.messages[carrier], line)
        if not tells or room < _LEAST_TOLD:
            return line
        if self._summarize is not None:
            summary = self._summarize([self._as_shown(at) for at in shown])
            if sizes.of_text(summary) > room:
                summary = CompressingLoader().shorten(summary, room, self.query.text)
            if summary:
                return mark.line(tokens, handle, summary)
        messages = [self.messages[at] for at in gone]
        titles = titles_of(messages, room // _TITLED, sizes.of_text)
        if titles:
            line, room = f"{line}\n{titles}", room - sizes.of_text(titles) - 1
        beside = [*self._beside({*gone})]
        asked = needed(messages, int(_NEEDED * room), self.query)
        room -= sizes.of_text(asked) + 1 if asked else 0
        said = told(messages, max(0, room), sizes.of_text, self.query, [*beside, asked])
        whole = "\n".join(part for part in (line, said, asked) if part)
        fits = self.total + sizes.in_place(self.messages[carrier], whole) <= self._target
        return whole if fits else "\n".join(part for part in (line, said) if part)

    def _beside(self, gone: set[int]) -> Iterable[str]:
        """Return what is said in messages that stay; what is asked is not said."""
        texts = (self.text(at) for at in range(self.moment.boundary) if at not in gone)
        return (text for text in texts if text and text != self.query.text)

    def _as_shown(self, at: int) -> BaseMessage:
        text = self.moment.state.decisions.get(at)
        return self.messages[at] if text is None else in_place(self.messages[at], text)

    def _is_plain_result(self, at: int) -> bool:
        return isinstance(self.messages[at], ToolMessage) and self._is_plain(at)

    def _is_plain(self, at: int) -> bool:
        """Whether a message is a text alone, as it would be sent now."""
        is_result = isinstance(self.messages[at], ToolMessage)
        is_note = not is_result and (at in self.texts or at in self.moment.state.decisions)
        return is_note or isinstance(self.messages[at].content, str)

    def _carrier(self, chosen: Sequence[Sequence[int]]) -> int | None:
        """Return the message in whose place the note stands: a user's, or a tool result.

        A result is shown with its call and its pictures: where these are large, the note stands in
        the place of a message of the model, of which nothing is left.
        """
        shown = [at for unit in sorted(chosen, key=min) for at in unit]
        kinds = (HumanMessage, ToolMessage, AIMessage)
        places = [at for kind in kinds for at in shown if self._can_carry(at, kind)]
        return min(places, key=lambda at: max(_SHORT_CALL, self._beside_note(at)), default=None)

    def _can_carry(self, at: int, kind: type[BaseMessage]) -> bool:
        message = self.messages[at]
        return isinstance(message, kind) and (
            isinstance(message, ToolMessage) or not answers_calls(message)
        )
