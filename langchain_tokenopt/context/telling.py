"""What of many messages stands for all of them: sentences that tell what stands nowhere else.

Each sentence is worth the words that it alone has: rare ones count more, numbers and names most;
words that stay in the conversation anyway, or that a sentence before it has brought, count nothing.
Sentences are taken by worth for their length until there is no room (budgeted coverage: Lin and
Bilmes, A Class of Submodular Functions for Document Summarization, ACL 2011).
"""

from __future__ import annotations

import heapq
import math
import re
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from langchain_core.messages import BaseMessage, HumanMessage, ToolMessage

from langchain_tokenopt.compress.query_terms import rarity_by_length, rarity_by_rank
from langchain_tokenopt.compress.question import asks
from langchain_tokenopt.compress.text_tokens import vocabulary_of
from langchain_tokenopt.context.importance import Kind, Query, sentence_kind
from langchain_tokenopt.core.messages import text_of
from langchain_tokenopt.counting.tokens import steady_counter_of_name
from langchain_tokenopt.text.numbers import NUMBER_WORDS
from langchain_tokenopt.text.sentences import sentences_of
from langchain_tokenopt.text.stems import root
from langchain_tokenopt.text.stopwords import STOP_WORDS
from langchain_tokenopt.text.words import is_cjk, lowered, terms_of
from langchain_tokenopt.tools.result_limit import CompressingLoader

__all__ = ["needed", "telling_words", "told"]

_KINDS: Final[Mapping[Kind, float]] = {
    "correction": 1.5,
    "constraint": 1.5,
    "decision": 1.5,
}
"""By what a sentence does, how much more it is worth than others."""
_OWN_WORDS: Final = 0.6
"""What the model has said itself mostly repeats."""
_RESULT: Final = 0.25
_QUESTION: Final = 0.5
_ASKED: Final = 3.0
"""How much more a sentence is worth that has all words of the question."""
_LEAST: Final = 0.2
"""What a sentence must tell: a nod does not."""
_NUMBER: Final = 3.0
_NAME: Final = 1.6
_FRAME: Final = 2.0
"""Tokens around each sentence: a short one is not worth more than it tells."""
_RARE: Final = 6.0
_QUESTIONS: Final = ("?", "？", '?"', "?)")
_NO_STOPS: Final[frozenset[str]] = frozenset().union(*STOP_WORDS.values())


@dataclass(slots=True)
class _Sentence:
    at: int
    text: str
    words: Mapping[str, float]
    factor: float
    tokens: int

    def worth(self, covered: set[str]) -> float:
        new = sum(weight for word, weight in self.words.items() if word not in covered)
        return self.factor * new / (self.tokens + _FRAME) if new >= _LEAST else 0.0


def told(
    messages: Sequence[BaseMessage],
    room: int,
    count: Callable[[str], int],
    query: Query,
    beside: Iterable[str] = (),
) -> str:
    """Return what *messages* tell, in their own sentences and order, with who said it.

    Args:
        messages: What is to be stood for.
        room: Tokens that it may have.
        count: Counts the tokens of a text.
        query: What is asked now.
        beside: Texts that stay, so that nothing of them needs to be told again.
    """
    covered = {word for text in beside for word in telling_words(text)}
    sentences = _sentences(messages, count, query)
    whole_room = room
    waiting = [(-worth, n) for n, s in enumerate(sentences) if (worth := s.worth(covered)) > 0]
    chosen: list[int] = []
    heapq.heapify(waiting)
    while waiting and room > 0:
        _, n = heapq.heappop(waiting)
        each = sentences[n]
        cost = each.tokens + 1
        if cost > room:
            continue
        now = -each.worth(covered)
        if waiting and now > waiting[0][0]:
            heapq.heappush(waiting, (now, n))
            continue
        if now >= 0:
            continue
        chosen.append(n)
        covered.update(each.words)
        room -= cost
    while True:  # who said it takes room, too
        text = _written(messages, [sentences[n] for n in sorted(chosen)])
        if not chosen or count(text) <= whole_room:
            return text
        chosen.pop()


def needed(messages: Sequence[BaseMessage], room: int, query: Query) -> str:
    """Return the passages of *messages* that a question needs, in at most so many tokens.

    Empty where nothing is asked whose words stand in them.
    """
    lines = [f"{_who(m)}: {text}" for m in messages if (text := " ".join(text_of(m).split()))]
    if room < _LEAST_ROOM or query.text is None or not asks(query.text):
        return ""
    return CompressingLoader().shorten("\n".join(lines), room, query.text)


_LEAST_ROOM: Final = 60


def _written(messages: Sequence[BaseMessage], sentences: Iterable[_Sentence]) -> str:
    lines: dict[int, list[str]] = {}
    for each in sentences:
        lines.setdefault(each.at, []).append(each.text)
    made, before = [], ""
    for at, said in lines.items():
        who = _who(messages[at])
        text = ("\n" if _is_summary(messages[at]) else " ").join(said)
        made.append(text if who in (before, "") else f"{who}: {text}")
        before = who
    return "\n".join(made)


def _who(message: BaseMessage) -> str:
    if _is_summary(message):
        return ""  # its lines say it
    if isinstance(message, ToolMessage):
        return f"Tool {message.name}" if message.name else "Tool"
    if isinstance(message, HumanMessage):
        return message.name or "User"
    return "Assistant"


def _sentences(
    messages: Sequence[BaseMessage], count: Callable[[str], int], query: Query
) -> list[_Sentence]:
    parts = [
        (at, sentence) for at, message in enumerate(messages) for sentence in _parts_of(message)
    ]
    words = [telling_words(sentence) for _, sentence in parts]
    seen = Counter(word for each in words for word in each)
    most = math.log(1 + len(parts))
    asked = {w: math.log(1 + len(parts) / (1 + seen[w])) for w in map(root, query.terms)}
    all_asked = sum(asked.values()) or 1.0
    return [
        _Sentence(
            at,
            sentence,
            {w: v * math.log(1 + len(parts) / seen[w]) / most for w, v in each.items()},
            _factor(messages[at], sentence)
            * (1 + _ASKED * sum(asked.get(w, 0.0) for w in each) / all_asked),
            count(sentence),
        )
        for (at, sentence), each in zip(parts, words, strict=True)
    ]


def _factor(message: BaseMessage, sentence: str) -> float:
    factor = _KINDS.get(_kind(sentence), 1.0)
    if isinstance(message, ToolMessage):
        factor = 1.0 if text_of(message).startswith(sentence) else _RESULT
    elif not isinstance(message, HumanMessage):
        factor *= _OWN_WORDS
    if sentence.endswith(_QUESTIONS):
        factor *= _QUESTION
    return factor


_kind = lru_cache(maxsize=16_384)(sentence_kind)


@lru_cache(maxsize=16_384)
def telling_words(sentence: str) -> Mapping[str, float]:
    """Return the words of a sentence that tells something, and how much each does."""
    rarity = _rarity()
    named = {lowered(name) for name in _NAMED.findall(sentence)}
    found: dict[str, float] = {}
    for word in terms_of(sentence):
        if word in _NO_STOPS:
            continue
        if word in NUMBER_WORDS or any(char.isdigit() for char in word):
            weight = _NUMBER
        elif is_cjk(word):
            weight = _PAIR
        else:
            weight = rarity(word) ** _RARE * (_NAME if word in named else 1.0)
        found[root(word)] = weight
    return found if sum(found.values()) >= _LEAST else {}


_PAIR: Final = 0.4
"""Of two neighbouring Chinese, Japanese or Korean characters."""
_NAMED: Final = re.compile(r"(?<=[\w,;:'’] )[A-ZÀ-Þ][\w'’-]+|\b[A-Z]{2,}\b")


@lru_cache(maxsize=1)
def _rarity() -> Callable[[str], float]:
    vocabulary = vocabulary_of(steady_counter_of_name("o200k_base"))
    return rarity_by_length if vocabulary is None else rarity_by_rank(vocabulary.encode_ordinary)


def _is_summary(message: BaseMessage) -> bool:
    """Whether it is what LangChain's middleware puts in the place of what was summarized."""
    return message.additional_kwargs.get("lc_source") == "summarization"


def _parts_of(message: BaseMessage) -> Sequence[str]:
    text = text_of(message)
    if _is_summary(message):
        return [line for line in text.split("\n") if line.strip()][1:]  # the first is a title
    if isinstance(message, ToolMessage):
        return _pieces_of(text)
    return _sentences_of(text)


@lru_cache(maxsize=8_192)
def _sentences_of(text: str) -> Sequence[str]:
    sentences = (part for line in text.split("\n") for part in sentences_of(line))
    return [piece for sentence in sentences for piece in _cut(sentence)]


@lru_cache(maxsize=1_024)
def _pieces_of(text: str) -> Sequence[str]:
    """Return what a tool result begins with, and then its sentences."""
    text = text[:_READ]
    head = textwrap.shorten(text.split("\n", 1)[0], _HEAD, placeholder="")
    return [head, *_sentences_of(text[len(head) :])] if head else _sentences_of(text)


def _cut(sentence: str) -> list[str]:
    if len(sentence) <= _LONGEST:
        return [sentence]
    return textwrap.wrap(sentence, _LONGEST, break_on_hyphens=False) or [sentence]


_HEAD: Final = 60
_LONGEST: Final = 240
"""Characters of a sentence that is told as one."""
_READ: Final = 40_000
"""Characters of a tool result that are looked at."""
