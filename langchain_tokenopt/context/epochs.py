"""How the view of a conversation came about: step by step, from the conversation alone.

A conversation tells itself when its model was called: in front of each of the model's messages.
What was decided at each of these calls is worked out again in their order, and each decision sees
only what was there at that call. So the same conversation has the same view in every process, with
more messages behind it too: its beginning stays the same bytes until the next step.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from itertools import accumulate
from typing import Any, Final, Protocol

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from langchain_tokenopt.context.economics import PriceProfile
from langchain_tokenopt.context.fetching import listed
from langchain_tokenopt.context.importance import Query
from langchain_tokenopt.context.levels import LEAST_TOKENS, Mark, in_place, is_made
from langchain_tokenopt.core.messages import (
    atomic_groups,
    is_answered,
    text_of,
)
from langchain_tokenopt.counting.request_tokens import count_messages
from langchain_tokenopt.counting.tokens import TokenCounter

__all__ = [
    "ContextPolicy",
    "Conversation",
    "Decisions",
    "Memory",
    "Moment",
    "Sizes",
    "State",
    "Step",
    "Terms",
    "ToolGroup",
    "chain_of",
    "decided",
    "key_of",
    "shown",
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


class Sizes:
    """Counts messages and texts, each once."""

    def __init__(self, model: str, counter: TokenCounter) -> None:
        self._model, self._counter = model, counter
        self._known: OrderedDict[Any, int] = OrderedDict()
        self.frame = count_messages([], model=model, counter=counter).tokens
        """Tokens around all messages together."""

    def of(self, message: BaseMessage, key: Any = None) -> int:
        """Return the tokens of a message with its frame; *key* is its key, where it is known."""
        key = key or key_of(message)
        known = self._known.get(key)
        if known is None:
            found = count_messages([message], model=self._model, counter=self._counter)
            known = self._known[key] = found.tokens - self.frame
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return known

    def of_text(self, text: str) -> int:
        """Return the tokens of a text."""
        return self._counter.count(text).tokens


_REMEMBERED: Final = 20_000


def key_of(message: BaseMessage) -> Any:
    """Return what tells messages apart: what their model reads."""
    content = message.content if isinstance(message.content, str) else repr(message.content)
    rest: Any = None
    if isinstance(message, AIMessage):
        legacy = message.additional_kwargs.get("function_call")
        if message.tool_calls or message.invalid_tool_calls or legacy:
            rest = repr((message.tool_calls, message.invalid_tool_calls, legacy))
    elif isinstance(message, ToolMessage):
        rest = message.tool_call_id
    return message.type, content, message.name, rest


@dataclass(frozen=True, slots=True)
class ToolGroup:
    """A message with tool calls, and their results."""

    members: tuple[int, ...]
    results: tuple[int, ...]
    ready: int
    """How many messages there are when it is whole."""


class Conversation:
    """A conversation as it came, read once.

    Args:
        messages: All of them.
        sizes: Counts them.
    """

    def __init__(self, messages: Sequence[BaseMessage], sizes: Sizes) -> None:
        self.messages = messages
        self.sizes = sizes
        self.keys = [key_of(message) for message in messages]
        self.tokens = [sizes.of(m, key) for m, key in zip(messages, self.keys, strict=True)]
        self.before = [0, *accumulate(self.tokens)]
        """Tokens in front of each message."""

    @cached_property
    def groups(self) -> list[list[int]]:
        """What is shown or set aside together."""
        return atomic_groups(self.messages)

    @cached_property
    def tool_groups(self) -> list[ToolGroup]:
        """Tool calls that have all their results, in the order in which they were whole."""
        found = (self._tool_group(group) for group in self.groups if len(group) > 1)
        return sorted((g for g in found if g is not None), key=lambda group: group.ready)

    def _tool_group(self, group: list[int]) -> ToolGroup | None:
        members = [self.messages[at] for at in group]
        if not is_answered(members):
            return None
        count = len(group)
        while count > 2 and is_answered(members[: count - 1]):
            count -= 1
        whole = group[:count]  # a result that comes once more, later, was not known then
        results = (at for at in whole[1:] if isinstance(self.messages[at], ToolMessage))
        return ToolGroup(tuple(whole), tuple(results), whole[-1] + 1)

    @cached_property
    def settled(self) -> int:
        """Where that ends which was shortened before it came: behind its last mark, and its group.

        It holds for all calls: the step that made a mark has seen what stands before it.
        """
        marked = (at for at in range(len(self.messages) - 1, -1, -1) if is_made(self.messages[at]))
        last = next(marked, None)
        if last is None:
            return 0
        return next(group[-1] for group in self.groups if last in group) + 1

    def gain(self, at: int) -> int:
        """Return what a message would have less as a line; pictures and the like stay."""
        message, tokens = self.messages[at], self.tokens[at]
        if not isinstance(message.content, str):
            tokens = self.sizes.of_text(text_of(message)) + _FRAME
        return tokens - _LINE_TOKENS if tokens >= LEAST_TOKENS else 0

    def original(self, indexes: Sequence[int], tool: str) -> str:
        """Return what stands behind a handle of these messages; *tool* fetches what it lists."""
        return listed(
            [self.messages[at] for at in indexes], [self.tokens[at] for at in indexes], tool
        )

    def query(self, boundary: int) -> Query:
        """Return what is asked where there are so many messages."""
        return _query_of(self._asked[boundary])

    @cached_property
    def _asked(self) -> list[str | None]:
        asked: list[str | None] = [None]
        for message in self.messages:
            is_users = isinstance(message, HumanMessage)
            asked.append((text_of(message) or None) if is_users else asked[-1])
        return asked

    def calls(self) -> list[int]:
        """Return how many messages each call of the model had, the one that is made now last."""
        made = [n for n, m in enumerate(self.messages) if n and isinstance(m, AIMessage)]
        return [*made, len(self.messages)]


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
    expected: Callable[[int], float] = field(default=lambda calls: calls / 9)
    """Calls that will almost surely come after so many."""


@dataclass(frozen=True, slots=True)
class State:
    """What has been decided up to a call."""

    boundary: int = 0
    """How many messages that call had."""
    decisions: Decisions = field(default_factory=dict)
    handles: Handles = field(default_factory=dict)
    passed: int = 0
    """Tool groups of which nothing is left to decide."""
    decided: tuple[tuple[int, int], ...] = ()
    """Of later groups, by their numbers, what they cannot have less any more: it is decided."""
    removed: int = 0
    """Tokens less than the conversation has."""
    waste: float = 0.0
    """What the removable tokens have cost since the last step."""
    gain: float = 0.0
    """What this call costs less for all steps so far, in units of the input price."""
    bank: float = 0.0
    """What all steps together have saved so far, in units of the input price."""
    calls: int = 0
    steps: int = 0
    changed_at: int = -1
    """The first message that the latest step changed, if it was at this call; else -1."""
    overrun: int = 0
    """Tokens by which the view is longer than its limit all the same."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What a policy knows at one call, and nothing of later ones."""

    conversation: Conversation
    terms: Terms
    state: State
    boundary: int
    is_forced: bool
    """Whether the view is over its trigger."""
    pending: Sequence[ToolGroup]
    """Whole tool groups before the last ones that no step has looked at."""
    removable: int
    """Tokens that the pending results would have less as lines."""
    is_cold: bool
    """Whether the provider has forgotten the conversation: nothing is written a second time."""

    @property
    def query(self) -> Query:
        """What is asked at this call."""
        return self.conversation.query(self.boundary)

    @property
    def tokens(self) -> int:
        """Tokens of the request as it would be sent without a step."""
        before = self.conversation.before[self.boundary]
        tool = self.terms.tool_tokens if self.state.steps else 0
        return before - self.state.removed + self.terms.beside + tool

    @property
    def is_first(self) -> bool:
        """Whether no step was ever taken."""
        return not self.state.steps and not self.conversation.settled

    def rewritten(self, first: int, removed: int) -> int:
        """Return the known tokens that a change of the message *first* makes unknown."""
        if self.is_cold:
            return 0
        before, least = self.conversation.before, self.terms.price.min_tokens
        in_front = self.terms.beside - self.state.removed
        known = before[self.state.boundary] + in_front
        if known < least:
            return 0  # it was never kept
        stays = before[first] + in_front
        if stays < least or (self.is_first and self.terms.tool_tokens):
            stays = 0  # too short to be kept; or tools change, which stand in front of everything
        return max(0, known - stays - removed)


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
    for call in calls:
        state = reader.after(state, call, is_cold=cold and call == calls[-1])
    return state


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
        self._gains = [0, *accumulate(map(self._gain, self._groups))]
        """What the results of the first groups would save as lines."""

    def _gain(self, group: ToolGroup) -> int:
        return sum(map(self._conversation.gain, group.results))

    def _unsettled(self, state: State, call: int) -> int:
        """Return the number of the first tool group behind what is settled."""
        passed, settled = state.passed, min(call, self._conversation.settled)
        while passed < len(self._groups) and self._groups[passed].ready <= settled:
            passed += 1
        return passed

    def _upto(self, state: State, call: int) -> int:
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

    def _left(self, decisions: Decisions, passed: int, upto: int) -> int:
        """Return the number of the first tool group that has something to be decided."""
        gain = self._conversation.gain
        while passed < upto and all(
            at in decisions or not gain(at) for at in self._groups[passed].results
        ):
            passed += 1
        return passed

    def _decided(self, decisions: Decisions, passed: int, call: int) -> tuple[tuple[int, int], ...]:
        """Return what results of later groups would save, had they not been decided on."""
        gain, found = self._conversation.gain, []
        for n in range(passed, len(self._groups)):
            group = self._groups[n]
            if group.ready > call:
                break
            saved = sum(gain(at) for at in group.results if at in decisions)
            if saved:
                found.append((n, saved))
        return tuple(found)

    def after(self, state: State, call: int, *, is_cold: bool) -> State:
        """Return what is decided once one more call was made."""
        conversation, terms, policy = self._conversation, self._terms, self._policy
        unsettled = self._unsettled(state, call)
        if unsettled > state.passed:
            state = replace(state, passed=unsettled, waste=0.0)
        upto = self._upto(state, call)
        pending = self._groups[state.passed : upto]
        removable = self._gains[upto] - self._gains[state.passed]
        removable -= sum(gain for n, gain in state.decided if state.passed <= n < upto)
        price = terms.price
        moment = Moment(conversation, terms, state, call, False, pending, removable, is_cold)
        over = terms.trigger is not None and moment.tokens > terms.trigger
        waste = state.waste + price.read * removable
        moment = replace(moment, is_forced=over, state=replace(state, waste=waste))
        step = policy.decide(moment) if pending or over or state.handles else None
        changes = {} if step is None else step.decisions
        tool = terms.tool_tokens
        if step is None or not changes:
            gain = price.read * (state.removed - (tool if state.steps else 0))
            made = replace(state, boundary=call, waste=waste, gain=gain, changed_at=-1)
        else:
            decisions = {**state.decisions, **changes}
            removed = state.removed + sum(
                _size(conversation, at, state.decisions) - _size(conversation, at, decisions)
                for at in changes
            )
            first = min(changes)
            passed = self._left(decisions, state.passed, upto) if step.is_partial else upto
            paid = price.rewriting(moment.rewritten(first, removed - state.removed))
            if moment.is_first:
                paid += price.write * tool
            made = State(
                boundary=call,
                decisions=decisions,
                handles={**state.handles, **step.handles},
                passed=passed,
                decided=self._decided(decisions, passed, call),
                removed=removed,
                gain=price.read * removed - paid,
                steps=state.steps + 1,
                changed_at=first,
            )
        sent = conversation.before[call] - made.removed + terms.beside + (tool if made.steps else 0)
        overrun = 0 if terms.limit is None else max(0, sent - terms.limit)
        return replace(made, calls=state.calls + 1, bank=state.bank + made.gain, overrun=overrun)


_FRAME: Final = 4
_LINE_TOKENS: Final = 26
"""Of a line with its handle and the frame of its message."""


def _size(conversation: Conversation, at: int, decisions: Decisions) -> int:
    if at not in decisions:
        return conversation.tokens[at]
    text = decisions[at]
    if text is None:
        return 0
    return conversation.sizes.of(in_place(conversation.messages[at], text))


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


class Memory:
    """The latest decisions, by the conversation up to their call: so that none is worked out twice.

    Nothing depends on it but the time it takes, and learned horizons: decisions that were made are
    not made anew by what was learned since.
    """

    def __init__(self, most: int = 512) -> None:
        self._states: OrderedDict[tuple[int, Any], tuple[State, float]] = OrderedDict()
        self._most = most
        self._lock = threading.Lock()

    def latest(self, keys: Sequence[int], terms: Any) -> tuple[State, float] | None:
        """Return the state at the longest known beginning, and when it was asked for last."""
        with self._lock:
            for key in reversed(keys):
                found = self._states.get((key, terms))
                if found is not None:
                    return found
        return None

    def keep(self, key: int, terms: Any, state: State, at: float) -> None:
        """Remember a state."""
        with self._lock:
            self._states[key, terms] = state, at
            self._states.move_to_end((key, terms))
            while len(self._states) > self._most:
                self._states.popitem(last=False)


def chain_of(keys: Sequence[Any]) -> list[int]:
    """Return a key of each beginning of a conversation, by the keys of its messages."""
    return list(accumulate(keys, lambda before, key: hash((before, key)), initial=0))[1:]


@lru_cache(maxsize=256)
def _query_of(text: str | None) -> Query:
    return Query(text)
