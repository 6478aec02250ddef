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
from langchain_tokenopt.context.levels import LEAST_TOKENS, Mark, in_place, is_made, one_line
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
    "Pending",
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
    seen: Sequence[int] = ()
    """Of these results what stays as it is now stays so, where others may still be reduced."""
    is_optional: bool = False
    """Whether it is taken only as long as the conversation has not been dearer than as it came."""


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
        mark: How losses are marked.
    """

    def __init__(
        self, messages: Sequence[BaseMessage], sizes: Sizes, mark: Mark | None = None
    ) -> None:
        self.messages = messages
        self.sizes = sizes
        self._mark = mark or Mark(None)
        self._gains: dict[int, int] = {}
        self.keys = [key_of(message) for message in messages]
        self.tokens = [sizes.of(m, key) for m, key in zip(messages, self.keys, strict=True)]
        self.before = [0, *accumulate(self.tokens)]
        """Tokens in front of each message."""

    @cached_property
    def doubt(self) -> list[int]:
        """By number of messages, what a provider may count of them more than we do."""
        return [0, *accumulate(map(_doubt, self.messages))]

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
        gain = self._gains.get(at)
        if gain is None:
            message, tokens = self.messages[at], self.tokens[at]
            gain = 0
            if tokens >= LEAST_TOKENS:
                line = in_place(message, one_line(message, tokens, self._mark))
                gain = max(0, tokens - self.sizes.of(line))
            self._gains[at] = gain
        return gain

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


def _doubt(message: BaseMessage) -> int:
    """Return the tokens of frames and ids of which nobody says whether a provider counts them."""
    if isinstance(message, ToolMessage):
        return _FRAME + len(message.tool_call_id) // _IN_TOKEN
    calls = message.tool_calls if isinstance(message, AIMessage) else ()
    return _FRAME + sum(2 * _FRAME + len(call["id"] or "") // _IN_TOKEN for call in calls)


_FRAME: Final = 4
_IN_TOKEN: Final = 2
"""Characters of an id that make a token."""


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
class Pending:
    """A tool result that is old enough to be reduced."""

    at: int
    gain: int
    """Tokens that it would have less as a line."""
    since: int
    """How many calls there had been when it became so old."""


@dataclass(frozen=True, slots=True)
class State:
    """What has been decided up to a call."""

    boundary: int = 0
    """How many messages that call had."""
    decisions: Decisions = field(default_factory=dict)
    handles: Handles = field(default_factory=dict)
    passed: int = 0
    """Tool groups that are old enough to be reduced, or never will be."""
    pending: tuple[Pending, ...] = ()
    """Their results of which a step has still to decide."""
    removed: int = 0
    """Tokens less than the conversation has."""
    gain: float = 0.0
    """What this call costs less than with all that came, in units of the input price."""
    bank: float = 0.0
    """What all calls so far have cost less."""
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
    is_cold: bool
    """Whether the provider has forgotten the conversation: nothing is written a second time."""
    less: Sequence[int]
    """By message, the tokens that it has less than it came with."""
    account: float
    """What the conversation will have cost less, with this call and without another step."""

    @property
    def query(self) -> Query:
        """What is asked at this call."""
        return self.conversation.query(self.boundary)

    @property
    def pending(self) -> Sequence[Pending]:
        """Results that are old enough, and that no step has looked at."""
        return self.state.pending

    @property
    def tool_tokens(self) -> int:
        """Tokens of the tool that comes with the first step; 0: it is there, or there is none."""
        return self.terms.tool_tokens if self.is_first else 0

    @property
    def tokens(self) -> int:
        """Tokens of the request as it would be sent without a step."""
        return self._in_front + self.conversation.before[self.boundary]

    @property
    def is_first(self) -> bool:
        """Whether no step was ever taken."""
        return not self.state.steps and not self.conversation.settled

    @property
    def _in_front(self) -> int:
        tool = self.terms.tool_tokens if self.state.steps else 0
        return self.terms.beside + tool - self.state.removed

    @property
    def known(self) -> int:
        """Tokens with which the prompt before began, if the provider still knows them."""
        if self.is_cold or not self.state.boundary:
            return 0
        return self._in_front + self.conversation.before[self.state.boundary]

    def saving(self, first: int, removed: int, less_behind: int | None = None) -> float:
        """Return what this call costs less with a step.

        Args:
            first: The first message that it changes.
            removed: Tokens that it takes away.
            less_behind: Sum of ``less`` from *first* on, for who knows it.
        """
        if less_behind is None:
            less_behind = sum(self.less[first : self.boundary])
        known = self.known
        stays = self._in_front + self.conversation.before[first] + less_behind
        if self.tool_tokens:
            stays = 0  # tools stand in front of everything
        if stays < self.least:
            stays, first = 0, 0  # too short to be kept
        price = self.terms.price
        tool = _SURELY * self.tool_tokens
        anew = 0.0
        if known > stays:
            doubt = self.conversation.doubt
            anew = known - stays + doubt[self.state.boundary] - doubt[first]
        return price.write * (removed - tool) - price.rewriting(anew)

    def is_allowed(self, removed: int, saving: float) -> bool:
        """Whether no call, this one or a later one, makes the conversation dearer than it came.

        Args:
            removed: Tokens that a step takes away.
            saving: What this call costs less with it.
        """
        price, least = self.terms.price, self.least
        less = self.state.removed + removed - _SURELY * self.terms.tool_tokens
        is_short = self.tokens - removed + self.tool_tokens < least
        if less < 0 or (is_short and price.write * least > price.read * (least + less)):
            return False  # so short a prompt is not known the next time, and the raw one is
        return self.account + saving >= min(0.0, self.account)

    @property
    def least(self) -> float:
        """Tokens of a prompt of which a provider surely keeps the beginning.

        Others count otherwise than we do: whoever is near to the least may be on either side.
        """
        return _SURELY * self.terms.price.min_tokens if self.terms.price.rewriting(1) else 0


_SURELY: Final = 1.25


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
