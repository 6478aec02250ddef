"""A text in the place of messages that are gone for good, such as LangChain's middleware wants.

A view shows again later what it leaves out now; a digest is all that is left. So it tells of every
result and every turn before it tells more of any, and takes an earlier digest apart again: its
lines are read as messages, and compete with the new ones for the room. What tells a rule, a name or
a number stays for many rounds; a nod is the first to go.

Each message has a line of its own that begins with who said it, results with their call; what
begins with a space still belongs to it.
"""

from __future__ import annotations

import heapq
import math
import re
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from langchain_tokenopt.context.importance import Query, importance_of
from langchain_tokenopt.context.telling import telling_words
from langchain_tokenopt.core.messages import answers_calls, text_of
from langchain_tokenopt.text.sentences import sentences_of

__all__ = ["digest"]

_PREFIX: Final = "Here is a summary of the conversation to date:"
"""What ``SummarizationMiddleware`` writes in front of a summary.
Source: https://github.com/langchain-ai/langchain/blob/master/libs/langchain_v1/langchain/agents/\
middleware/summarization.py (2026-11-30)."""
_ROLES: Final[Mapping[str, type[BaseMessage]]] = {
    "System": SystemMessage,
    "User": HumanMessage,
    "Assistant": AIMessage,
    "Tool": ToolMessage,
    "Earlier": HumanMessage,
}
_ANY_ROLE: Final = "|".join(_ROLES)
_PILED: Final = re.compile(rf"(?:(?:{_ANY_ROLE}): )*{re.escape(_PREFIX)}\s*|</?summary>\s*")
_PILED_ROLES: Final = re.compile(rf"(?:(?:User|Assistant): )+(?=(?:{_ANY_ROLE})\b[^\n:]*: )")
_LINE: Final = re.compile(rf"({_ANY_ROLE})((?: [^\n]*?)?): (.*)")
_IN_PART: Final = re.compile(r"\(Told in part: ([\d,]+) messages, ([\d,]+) tokens\.\)")
_IN_PART_TOKENS: Final = 16
_TOKENS: Final = (1_000, 4_000)
"""Bounds of a quarter of what comes in."""
_SHARE: Final = 4
_EACH: Final = 0.4
"""Share of the room in which every result is told of, before more is told of any."""
_FRAME: Final = 2
_LONGEST: Final = 240
"""Characters of what is told as one: a longer sentence is cut between its clauses."""
_PART: Final = 80
"""Characters of what it is cut into."""
_CLAUSE: Final = re.compile(r"(?<=[;,|.:])\s+|(?<=[}\]],)")
_READ: Final = (30_000, 10_000)
"""Characters of a message that are looked at: of its beginning, and of its end."""
_ARGUMENTS: Final = 80
"""Characters of a call's arguments."""
_TASK: Final = 2.0
_FIRST: Final = 1.5
"""A result mostly begins with what it is about."""
_EARLIER: Final = 1.25
"""What has stayed once is not exchanged for what tells as much."""
_AGAIN: Final = 0.2
"""What a word is worth that has been told: it may say something else beside others."""
_LEAST: Final = 0.02
_NOD: Final = 0.1
"""What tells less is not missed."""
_NOTHING: Final = "…"
"""Of a call of which nothing but itself is told."""
_NUMBER: Final = re.compile(r"\d+")


@dataclass(slots=True)
class _Source:
    """A message, or what an earlier digest tells of one."""

    head: str
    role: type[BaseMessage]
    pieces: Sequence[str]
    is_earlier: bool = False
    factor: float = 1.0


@dataclass(slots=True)
class _Piece:
    """What is told as one, or not."""

    source: int
    number: int
    """Place in its source."""
    text: str
    words: Mapping[str, float]
    weight: float
    tokens: int


@dataclass(slots=True)
class _Read:
    """What there is to be told."""

    sources: list[_Source] = field(default_factory=list)
    messages: int = 0
    tokens: int = 0
    is_part: bool = False
    """Whether an earlier digest has told only a part."""


def digest(
    messages: Sequence[BaseMessage], count: Callable[[str], int], max_tokens: int | None = None
) -> str:
    r"""Return what *messages* tell, in a quarter of their tokens, or 1,000 where that is more.

    Args:
        messages: What will be gone. What LangChain's middleware has written in the place of earlier
            ones is taken apart again.
        count: Counts the tokens of a text.
        max_tokens: What it has at most, in any case.

    Example:
        >>> talk = [HumanMessage("Book gate KX-4471."), AIMessage("Sure!"), HumanMessage("Good!")]
        >>> first = digest(talk, len)
        >>> first
        'User: Book gate KX-4471.'
        >>> digest([HumanMessage(f"{_PREFIX}\n\n{first}"), HumanMessage("Gate B22 it is.")], len)
        'User: Book gate KX-4471.\nUser: Gate B22 it is.'
    """
    read = _read(messages, count)
    pieces = _pieces(read.sources, count, _question(messages))
    whole = sum(count(text_of(message)) for message in messages)
    least, most = _TOKENS
    bound = min(max(least, whole // _SHARE), most, max_tokens or most)
    choice, room = _Choice(pieces, read.sources, bound - _IN_PART_TOKENS, count), bound
    choice.name(at for at, source in enumerate(read.sources) if "(" in source.head)
    choice.take(_of_results(pieces, read.sources), room * (1 - _EACH), once=True)
    choice.take(range(len(pieces)))
    chosen, note = choice.taken, ""
    if read.is_part or choice.leaves_out():
        note = f"(Told in part: {read.messages:,} messages, {read.tokens:,} tokens.)"
    while True:  # tokens of a whole are not the sum of its parts'
        text = _written(chosen, choice.named, read.sources, note)
        if not chosen or count(text) <= bound:
            return text
        chosen.pop()


# What there is


def _read(messages: Sequence[BaseMessage], count: Callable[[str], int]) -> _Read:
    made = _Read()
    calls = _calls(messages)
    answered = {m.tool_call_id for m in messages if isinstance(m, ToolMessage)}
    for message in messages:
        text = text_of(message)
        if _is_digest(message, text):
            _take_apart(text, made, count)
            continue
        made.messages += 1
        made.tokens += count(text)
        own = message.tool_calls if isinstance(message, AIMessage) else ()
        open_calls = (_call(c["name"], c["args"]) for c in own if c["id"] not in answered)
        pieces = [*_pieces_of(text), *(f"called {call}" for call in open_calls)]
        made.sources.append(_Source(_head(message, calls), _role(message), pieces))
    users = (source for source in made.sources if source.head.startswith("User"))
    for task in [*users][:1]:
        task.factor = _TASK
    return made


def _is_digest(message: BaseMessage, text: str) -> bool:
    marked = message.additional_kwargs.get("lc_source") == "summarization"
    return isinstance(message, HumanMessage) and (marked or text.startswith(_PREFIX))


def _take_apart(text: str, made: _Read, count: Callable[[str], int]) -> None:
    """Read a digest as the messages of which it tells; whatever else a summary says stays, too."""
    while found := _PILED.match(text):
        text = text[found.end() :]
    lines = _PILED_ROLES.sub("", text, count=1).split("\n")
    parts = [part for line in lines if (part := _IN_PART.fullmatch(line))]
    sources: list[_Source] = []
    for line in lines:
        if begun := _LINE.fullmatch(line):
            role, rest, said = begun.groups()
            sources.append(_Source(role + rest, _ROLES[role], [*_pieces_of(said)], is_earlier=True))
        elif line.strip() and not _IN_PART.fullmatch(line):
            if not sources:
                sources.append(_Source("Earlier", HumanMessage, [], is_earlier=True))
            sources[-1].pieces = [*sources[-1].pieces, *_pieces_of(line)]
    made.sources += sources
    made.is_part = made.is_part or bool(parts)
    told = [(int(part[1].replace(",", "")), int(part[2].replace(",", ""))) for part in parts]
    for messages, tokens in told or [(len(sources), count(text))]:
        made.messages += messages
        made.tokens += tokens


def _calls(messages: Iterable[BaseMessage]) -> dict[str, str]:
    """Return the tool calls by their ids, each on one line."""
    return {
        call["id"] or "": _call(call["name"], call["args"])
        for message in messages
        if isinstance(message, AIMessage)
        for call in message.tool_calls
    }


def _call(name: str, args: Mapping[str, Any]) -> str:
    said = ", ".join(f"{key}={value}" for key, value in args.items())
    return _one_line(f"{name}({textwrap.shorten(said, _ARGUMENTS, placeholder=' …')})")


def _one_line(text: str) -> str:
    """Return a head in which nothing looks like its end."""
    return " ".join(text.split()).replace(": ", ":")


def _head(message: BaseMessage, calls: Mapping[str, str]) -> str:
    if isinstance(message, ToolMessage):
        called = calls.get(message.tool_call_id) or _one_line(message.name or "")
        return f"Tool {called}".rstrip()
    if answers_calls(message):
        return "Tool"
    if isinstance(message, HumanMessage):
        return f"User {_one_line(message.name or '')}".rstrip()
    return "System" if isinstance(message, SystemMessage) else "Assistant"


def _role(message: BaseMessage) -> type[BaseMessage]:
    return _ROLES[_head(message, {}).split(" ", 1)[0]]


def _question(messages: Sequence[BaseMessage]) -> Query:
    said = ((m, text_of(m)) for m in reversed(messages) if isinstance(m, HumanMessage))
    return Query(next((text for m, text in said if not _is_digest(m, text)), None))


@lru_cache(maxsize=4_096)
def _pieces_of(text: str) -> Sequence[str]:
    """Return what a text is told in: its sentences, long ones by their clauses."""
    begin, end = _READ
    if len(text) > begin + end:
        text = f"{text[:begin]}\n{text[-end:]}"
    return [
        piece
        for line in text.split("\n")
        for sentence in sentences_of(line, small_letters=True)
        for piece in _cut(" ".join(sentence.split()))
    ]


def _cut(sentence: str) -> Iterable[str]:
    if len(sentence) <= _LONGEST:
        return [sentence]
    made = [""]
    for clause in _CLAUSE.split(sentence):
        if len(made[-1]) + len(clause) > _PART:
            made.append("")
        made[-1] = f"{made[-1]} {clause}".strip()
    return [part for each in made for part in textwrap.wrap(each, _PART)]


# What of it is told


def _pieces(sources: Sequence[_Source], count: Callable[[str], int], query: Query) -> list[_Piece]:
    parts = [(at, n, piece) for at, s in enumerate(sources) for n, piece in enumerate(s.pieces)]
    words = [telling_words(piece) for _, _, piece in parts]
    seen = Counter(word for each in words for word in each)
    shapes = Counter(_NUMBER.sub("0", piece) for _, _, piece in parts)
    most = math.log(1 + len(parts))
    made = []
    for (at, n, piece), each in zip(parts, words, strict=True):
        source = sources[at]
        weight = source.factor * _weight(source.role, piece, query)
        if source.role is ToolMessage:  # rows of a table are less than what stands beside it
            weight *= shapes[_NUMBER.sub("0", piece)] ** -0.5 * (1.0 if n else _FIRST)
        if source.is_earlier:
            weight *= _EARLIER
        told = {w: v * math.log(1 + len(parts) / seen[w]) / most for w, v in each.items()}
        made.append(_Piece(at, n, piece, told, weight, count(piece) + 1))
    return made


def _weight(role: type[BaseMessage], piece: str, query: Query) -> float:
    made = ToolMessage(piece, tool_call_id="") if role is ToolMessage else role(piece)
    return importance_of(made, query).weight


def _of_results(pieces: Sequence[_Piece], sources: Sequence[_Source]) -> list[int]:
    """Return the places of what results tell, and the task."""
    each = {at for at, s in enumerate(sources) if s.role is ToolMessage or s.factor == _TASK}
    return [n for n, piece in enumerate(pieces) if piece.source in each]


class _Choice:
    """Takes pieces by worth for their length, until there is no room.

    Args:
        pieces: All that could be told.
        sources: Whose they are.
        room: Tokens that they may have.
        count: Counts the tokens of a text.
    """

    def __init__(
        self,
        pieces: Sequence[_Piece],
        sources: Sequence[_Source],
        room: int,
        count: Callable[[str], int],
    ) -> None:
        self.taken: list[_Piece] = []
        """The most telling first."""
        self._pieces = pieces
        self._left = room
        self._heads = [count(f"{source.head}:") for source in sources]
        self._words: set[str] = set()
        self._texts: set[str] = set()
        self._of = Counter[int]()
        self._room = room
        self.named: set[int] = set()
        """Sources whose heads are told, whatever else is."""

    def name(self, sources: Iterable[int]) -> None:
        """Tell at least which calls were made, the latest where there is no room for all."""
        for at in sorted(sources, reverse=True):
            if self._heads[at] + 1 <= self._left - self._room * (1 - _EACH):
                self._left -= self._heads[at] + 1
                self.named.add(at)

    def take(self, places: Iterable[int], least_left: float = 0, *, once: bool = False) -> None:
        """Take what tells most.

        Args:
            places: Of the pieces that may be taken.
            least_left: Tokens that stay free.
            once: Whether one piece of each source is enough.
        """
        waiting = [(-self._worth(self._pieces[n]), n) for n in places]
        heapq.heapify(waiting)
        while waiting:
            _, n = heapq.heappop(waiting)
            piece = self._pieces[n]
            if once and self._of[piece.source]:
                continue
            now = self._worth(piece)
            if now and waiting and now < -waiting[0][0]:
                heapq.heappush(waiting, (-now, n))
                continue
            is_begun = self._of[piece.source] or piece.source in self.named
            cost = piece.tokens + (0 if is_begun else self._heads[piece.source])
            if now and cost <= self._left - least_left:
                self._left -= cost
                self.taken.append(piece)
                self._texts.add(piece.text)
                self._words.update(piece.words)
                self._of[piece.source] += 1

    def _worth(self, piece: _Piece) -> float:
        if piece.text in self._texts:
            return 0.0
        new = sum(v if w not in self._words else _AGAIN * v for w, v in piece.words.items())
        if piece.weight * new < _LEAST:
            return 0.0
        return piece.weight * new / (piece.tokens + _FRAME) / math.sqrt(1 + self._of[piece.source])

    def leaves_out(self) -> bool:
        """Whether anything but nods is not told."""
        return any(
            piece.text not in self._texts and piece.weight * sum(piece.words.values()) >= _NOD
            for piece in self._pieces
        )


def _written(
    chosen: Sequence[_Piece], named: Iterable[int], sources: Sequence[_Source], note: str
) -> str:
    told: dict[int, list[str]] = {at: [] for at in named}
    for piece in sorted(chosen, key=lambda piece: (piece.source, piece.number)):
        told.setdefault(piece.source, []).append(piece.text)
    lines = [f"{sources[at].head}: " + ("\n ".join(told[at]) or _NOTHING) for at in sorted(told)]
    return "\n".join([*lines, note] if note else lines)
