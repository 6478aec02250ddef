"""What a prompt asks, what it gives to read, and which of its sentences answer best."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from langchain_tokenopt.text.sentences import ENDS, sentences_of
from langchain_tokenopt.text.stems import root
from langchain_tokenopt.text.stopwords import STOP_WORDS
from langchain_tokenopt.text.words import WordCounter, count_words
from langchain_tokenopt.text.words import terms_of as words_of

__all__ = ["Prompt", "first_words", "terms_of", "word_limit", "words_in"]

LONG_PARAGRAPH_WORDS = 60
"""A paragraph without tags that is longer than this is material, not a request."""


@dataclass(frozen=True)
class Prompt:
    """A prompt, taken apart."""

    request: str
    """What the last human message asks, without the documents in it."""
    instructions: str
    """The same, after what the system messages ask."""
    material: str
    """Everything else; what tools returned since the last human message, if they did."""
    called: frozenset[str]
    """Names of the tools that were called so far."""

    @classmethod
    def of(cls, messages: Sequence[BaseMessage]) -> Prompt:
        """Take *messages* apart."""
        humans = [at for at, message in enumerate(messages) if isinstance(message, HumanMessage)]
        last = humans[-1] if humans else len(messages) - 1
        request = ""
        system: list[str] = []
        read: list[str] = []
        results: list[str] = []
        for at, message in enumerate(messages):
            text = str(message.text)
            if at == last:
                request, text = _parted(text)
            elif isinstance(message, SystemMessage):
                instructions, text = _parted(text)
                system.append(instructions)
            (results if at > last and isinstance(message, ToolMessage) else read).append(text)
        material = ("\n\n".join(texts).strip() for texts in (results, read))
        called = (m.tool_calls for m in messages if isinstance(m, AIMessage))
        return cls(
            request=request,
            instructions="\n".join([*system, request]),
            material=next(filter(None, material), request),
            called=frozenset(call["name"] for calls in called for call in calls),
        )

    @property
    def max_words(self) -> int | None:
        """The word limit of the request, else that of the system messages."""
        limit = word_limit(self.request)
        return word_limit(self.instructions) if limit is None else limit

    @cached_property
    def sentences(self) -> list[str]:
        """The sentences of the material, each once. Headings are none; lists go item by item."""
        found: list[str] = []
        for block in _BLOCK.split(_HEADING.sub("", self.material)):
            text = _CELL_ENDS.sub(", ", _MARKS.sub("", block).strip(" |"))
            found += sentences_of(" ".join(text.split()))
        return list(dict.fromkeys(text for text in found if re.search(r"\w", text)))

    def scored(self, query: str) -> list[tuple[float, str]]:
        """Return scores and sentences, best first, the earlier first among equals.

        A sentence scores the terms that it shares with *query*, the rarer the more, for its length.
        What stands in the last line of the query, where it says what is to be done, counts double.
        """
        last = query.rstrip().rpartition("\n")[2]
        wanted = Counter(terms_of(f"{query}\n{last}"))
        found_in = Counter(term for terms in self._terms for term in set(terms))
        scores = []
        for terms in self._terms:
            shared = wanted.keys() & set(terms)
            rare = (
                math.log(1 + len(self._terms) / found_in[t]) * min(2, wanted[t]) for t in shared
            )
            scores.append(math.fsum(rare) / math.sqrt(5 + len(terms)))
        return sorted(zip(scores, self.sentences, strict=True), key=lambda scored: -scored[0])

    @cached_property
    def _terms(self) -> list[list[str]]:
        return [terms_of(sentence) for sentence in self.sentences]

    def best(self, query: str) -> str:
        """Return the sentence that fits best; empty if there is none."""
        return next((sentence for _, sentence in self.scored(query)), "")

    def extract(self, query: str, max_words: int) -> str:
        """Return the best sentences that together have at most *max_words*, as they stood.

        Sentences that share nothing with the query fill up answers that else were half as long.
        """
        chosen: set[str] = set()
        room = max_words
        for score, sentence in self.scored(query):
            if room < _SHORTEST_SENTENCE or (not score and 2 * room <= max_words):
                break
            words = words_in(sentence)
            if _SHORTEST_SENTENCE <= words <= room:
                chosen.add(sentence)
                room -= words
        if not chosen:
            return first_words(self.best(query), max_words)
        kept = (text for text in self.sentences if text in chosen)
        return " ".join(text if _ENDED.search(text) else f"{text}." for text in kept)


_SHORTEST_SENTENCE = 3
"""Words below which a sentence says too little."""
_HEADING = re.compile(r"(?m)^[ \t]*#.*$")
_BLOCK = re.compile(r"\n\s*\n|\n(?=[ \t]*(?:[-*+•>|]|\d+[.)]\s))")
_MARKS = re.compile(r"^\s*(?:[-*+•>]+\s+)+|\*\*|__|`")
_CELL_ENDS = re.compile(r" *\| *")
_ENDED = re.compile(rf"[{ENDS}:;][\"'”’»)\]]*$")
_TAG = re.compile(r"<(/?)([A-Za-z][\w.-]*)(?:\s[^<>]*)?>")


def _parted(text: str) -> tuple[str, str]:
    """Return what *text* asks and what it gives to read: tagged text and long paragraphs."""
    outside, inside, start, open_tag = [], [], 0, ""
    closed_at = {tag[2]: tag.start() for tag in _TAG.finditer(text) if tag[1]}
    for tag in _TAG.finditer(text):
        closing, name = tag.groups()
        if not open_tag and not closing and closed_at.get(name, 0) > tag.start():
            outside.append(text[start : tag.start()])
        elif closing and name == open_tag:
            inside.append(text[start : tag.start()])
        else:
            continue
        start, open_tag = tag.end(), "" if closing else name
    outside.append(text[start:])
    paragraphs = [part for part in re.split(r"\n\s*\n", "\n\n".join(outside)) if part.strip()]
    asked = []
    for at, part in enumerate(paragraphs):
        words = part.split()
        may_ask = inside or at in (0, len(paragraphs) - 1) or "?" in part
        if may_ask and len(words) <= LONG_PARAGRAPH_WORDS:
            asked.append(part)
        else:  # a long paragraph may begin or end with what is to be done with it
            asked += [" ".join(words[:15]), " ".join(words[-15:])]
            inside.append(part)
    return "\n".join(asked), "\n\n".join(inside)


_STOP_WORDS = frozenset().union(*STOP_WORDS.values()) | {
    "most",
    "question",
    "word",
    "words",
    "write",
}


def terms_of(text: str) -> list[str]:
    """Return the roots of the words of *text* that say something."""
    return [root(word) for word in words_of(text) if word not in _STOP_WORDS]


# Word limits

_WORDS = r"(?:words?|wörtern?|worten?|worte|mots?|palabras)\b"
_LIMIT = re.compile(
    rf"(?P<least>(?:at least|minimum(?: of)?|(?<!no )(?<!not )more than|over|mindestens|mehr als"
    rf"|au moins|al menos)\s+)?(?P<below>(?:under|below|(?:less|fewer) than|unter|weniger als"
    rf"|moins de|menos de)\s+)?(?<![\d.,])"
    rf"(?P<count>\d{{1,3}}(?:[.,]\d{{3}})+|\d{{1,7}})[\s-]*{_WORDS}"
    r"|\bword (?:limit|count)\s*(?:is|of|:|=)?\s*(?P<label>\d{1,7})",
    re.IGNORECASE,
)


def word_limit(text: str) -> int | None:
    """Return the tightest number of words that *text* allows; ``None`` if it names no limit.

    Example:
        >>> word_limit("Write at least 50 and at most 90 words."), word_limit("Under 200 words")
        (90, 199)
    """
    limits = [
        int(re.sub(r"[.,]", "", match["count"] or match["label"])) - bool(match["below"])
        for match in _LIMIT.finditer(text)
        if not match["least"]
    ]
    return max(0, min(limits)) if limits else None


def words_in(text: str) -> int:
    """Count words as :func:`count_words` does, but at least what stands between spaces."""
    return max(len(text.split()), count_words(text))


def first_words(text: str, max_words: int) -> str:
    """Return the beginning of *text* that has at most *max_words*."""
    text = " ".join(text.split()[: max(0, max_words)])
    counter = WordCounter()
    for char in text:
        counter.read(char)
    return text if counter.count <= max_words else text[: counter.starts[max_words]].rstrip()
