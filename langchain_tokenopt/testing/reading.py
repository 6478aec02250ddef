"""Read a prompt: what is asked, how long the answer may be, and which sentences matter."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

__all__ = [
    "Prompt",
    "Sentences",
    "count_words",
    "first_words",
    "split_sentences",
    "terms_of",
    "word_limit",
]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt, taken apart."""

    request: str
    """What the user asks for: the last human message without the documents in it."""
    instructions: str
    """The same, after what the system messages ask for."""
    max_words: int | None
    sentences: Sentences
    """Of the material."""
    called: tuple[str, ...]
    """Names of the tools that were called so far."""

    @classmethod
    def of(cls, messages: Sequence[BaseMessage]) -> Prompt:
        """Take *messages* apart; what a tool returned since the last request comes first."""
        humans = [i for i, message in enumerate(messages) if isinstance(message, HumanMessage)]
        last = humans[-1] if humans else len(messages) - 1
        asked = ""
        told: list[str] = []
        material: list[str] = []
        results: list[str] = []
        for index, message in enumerate(messages):
            text = str(message.text)
            if index == last or isinstance(message, SystemMessage):
                instructions, documents = _split_request(text)
                material.append(documents)
                if index == last:
                    asked = instructions
                else:
                    told.append(instructions)
            elif isinstance(message, ToolMessage) and index > last:
                results.append(text)
            else:
                material.append(text)
        if any(text.strip() for text in results):
            material = results
        elif not any(text.strip() for text in material):
            material = [asked]
        limit = word_limit(asked)
        return cls(
            request=asked,
            instructions="\n".join([*told, asked]),
            max_words=word_limit("\n".join(told)) if limit is None else limit,
            sentences=Sentences(split_sentences("\n\n".join(material))),
            called=tuple(
                call["name"]
                for message in messages
                if isinstance(message, AIMessage)
                for call in message.tool_calls
            ),
        )


_OPENING = re.compile(r"\s*<([A-Za-z][\w.-]*)(?:\s[^<>]*)?>")
_REQUEST_WORDS = 60
"""A paragraph without tags that is longer than this is read as material."""


def _split_request(text: str) -> tuple[str, str]:
    """Return the instructions of a message and the documents inside it."""
    outside, inside = _split_blocks(text.splitlines())
    paragraphs = [part for part in re.split(r"\n\s*\n", "\n".join(outside)) if part.strip()]
    instructions = []
    for index, part in enumerate(paragraphs):
        at_the_edge = index in (0, len(paragraphs) - 1)
        may_ask = inside or at_the_edge or "?" in part or word_limit(part) is not None
        if may_ask and len(part.split()) <= _REQUEST_WORDS:
            instructions.append(part)
        else:
            # A long paragraph may begin or end with what is to be done with it.
            instructions += [" ".join(part.split()[:15]), " ".join(part.split()[-15:])]
            inside.append(part + "\n")
    return "\n".join(instructions), "\n".join(inside)


def _split_blocks(lines: Sequence[str]) -> tuple[list[str], list[str]]:
    """Part the lines outside and inside of tags and code fences; one pass, whatever the text."""
    closed_at = {}
    for index, line in enumerate(lines):
        for name in re.findall(r"</([A-Za-z][\w.-]*)>\s*$", line):
            closed_at[name] = index
    outside: list[str] = []
    inside: list[str] = []
    end: str | None = None
    for index, line in enumerate(lines):
        opening = _OPENING.match(line)
        if end is not None:
            if line.rstrip().endswith(end):
                line, end = line.rstrip().removesuffix(end), None
            inside.append(_without_tags(line))
        elif line.lstrip().startswith("```"):
            end = "```"
        elif opening and closed_at.get(opening[1], -1) >= index:
            closing = f"</{opening[1]}>"
            end = None if line.rstrip().endswith(closing) else closing
            inside.append(_without_tags(line))
        else:
            outside.append(line)
    return outside, inside


def _without_tags(line: str) -> str:
    """Return *line* without the tag that it is; text beside tags stays."""
    return re.sub(r"^\s*</?[A-Za-z][^<>]*>|</[A-Za-z][\w.-]*>\s*$", "", line)


_NUMBER_OF_WORDS = re.compile(
    r"(?<![\w.,])(?P<count>\d{1,3}(?:[.,]\d{3})+|\d{1,7})[\s-]*"
    r"(?:words?|wörtern?|worten?|mots?|palabras|palavras|parole|woorden)\b",
    re.IGNORECASE,
)
_LABELLED_WORDS = re.compile(
    r"\b(?:max(?:imum)?[ _]words|word (?:limit|count|maximum)|wort(?:limit|zahl))"
    r"\s*(?:is|of|[:=]|<=|≤)?\s*(?P<count>\d{1,7})(?![\d.,]*\d)",
    re.IGNORECASE,
)
_AT_LEAST = re.compile(
    r"(?:at least|minimum(?: of)?|min\.?|(?:not?|nor|nicht) (?:less|fewer|below|under|weniger)"
    r"(?: than| als)?|(?<!no )(?<!not )(?<!nicht )(?:more than|mehr als)|\bover|above|exceeding"
    r"|mindestens|wenigstens|au moins|al menos|por lo menos|almeno|pelo menos|minstens)\s*$",
    re.IGNORECASE,
)
_LESS_THAN = re.compile(
    r"(?:under|below|(?:less|fewer) than|unter|weniger als|moins de|menos de|meno di|minder dan|<)"
    r"\s*$",
    re.IGNORECASE,
)


def word_limit(text: str) -> int | None:
    """Return the tightest number of words that *text* allows; ``None`` if it names no limit."""
    limits = [int(match["count"]) for match in _LABELLED_WORDS.finditer(text)]
    for match in _NUMBER_OF_WORDS.finditer(text):
        before = text[max(0, match.start() - 40) : match.start()]
        if _AT_LEAST.search(before):
            continue
        count = int(re.sub(r"[.,]", "", match["count"]))
        limits.append(max(0, count - 1) if _LESS_THAN.search(before) else count)
    return min(limits, default=None)


# Sentences, and which of them matter

_TERMINATED = re.compile(r"[.!?…:;][\"'”\u2019»)\]]*$|[\u3002\uff01\uff1f]$")
_LINE_START = re.compile(r"\s*(?:[-*+•>#|]|\d+[.)]\s|[^\W\d_][\w .'-]{0,40}:\s)")
_SENTENCE_END = re.compile(
    r"(?<=[.!?…])[\"'”\u2019»)\]]*\s+(?=[^\sa-zß-ÿ])|(?<=[\u3002\uff01\uff1f])\s*"
)
_ABBREVIATION = re.compile(
    r"(?:\b(?:[A-Za-z]|e\.g|i\.e|z\.B|bzw|ca|vs|approx|no|nos|fig|dr|mr|mrs|ms|st|inc|corp|ltd|co"
    r"|usd|eur|vol)|\b\d{1,2})\.$",
    re.IGNORECASE,
)
_LONGEST_SENTENCE = 60
"""Words after which text without punctuation is cut into pieces."""


def split_sentences(text: str) -> list[str]:
    """Cut *text* into sentences; headings are dropped, lists and tables go line by line."""
    sentences: list[str] = []
    for line in _joined_lines(text):
        unit = re.sub(r"^\s*(?:[-*+•>]+\s+)+|\*\*|__|`", "", line).strip()
        if not unit or re.fullmatch(r"[\W_]+", unit) or unit.startswith("#"):
            continue
        if unit.startswith("|"):
            unit = ", ".join(cell.strip() for cell in unit.strip("|").split("|") if cell.strip())
        pieces: list[str] = []
        for piece in filter(None, _SENTENCE_END.split(unit)):
            if pieces and _ABBREVIATION.search(pieces[-1]):
                pieces[-1] += f" {piece}"
            else:
                pieces.append(piece)
        for piece in pieces:
            words = piece.split()
            sentences += [
                " ".join(words[start : start + _LONGEST_SENTENCE])
                for start in range(0, len(words), _LONGEST_SENTENCE)
            ]
    return sentences


def _joined_lines(text: str) -> Iterator[str]:
    """Yield the lines of *text*, those that were wrapped in the middle of a sentence as one."""
    parts: list[str] = []
    for line in text.splitlines():
        wrapped = (
            parts
            and line.strip()
            and not _LINE_START.match(line)
            and not parts[-1].lstrip().startswith(("#", "|"))
            and not _TERMINATED.search(parts[-1].rstrip())
        )
        if not wrapped:
            yield " ".join(parts)
            parts = []
        parts.append(line)
    yield " ".join(parts)


_WORD = re.compile(r"[^\W_]+")
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]")
_STEM = 6
"""Words that agree in their first letters count as one: a stemmer that knows no language."""

_ASKING = frozenset(
    _WORD.findall(
        "a about all am an and answer any are as at be below by can could do does document "
        "documents each end every follow for from give given has have how i if in into is it its "
        "line list make max me most must my no not of on one only or our out please question read "
        "reason report request return say should so summarise summarize summary tell than that "
        "the their them then there these they this those to up use was we were what when where "
        "which who why will with word words would write you your "
        "als am an auf aus bei bitte das dem den der des die ein eine einem einen einer es für im "
        "in ist mit nicht oder sich sie sind und von was welche wer wie wo worten wörter wörtern "
        "zu zum zur "
        "au aux dans de des du en est et la le les mots ou par pour que qui sur un une "
        "como con el es las los para por se una"
    )
)
"""Words that ask rather than name what is asked for: they do not choose sentences."""


def terms_of(text: str) -> list[str]:
    """Return the searchable pieces of *text*: word beginnings; pairs of CJK characters."""
    terms: list[str] = []
    for word in _WORD.findall(text.lower()):
        if _CJK.search(word):
            terms += [word[i : i + 2] for i in range(max(1, len(word) - 1))]
        elif word not in _ASKING:
            terms.append(word[:_STEM])
    return terms


def count_words(text: str) -> int:
    """Count words as editors do; in scripts without spaces every character is one."""
    return len(text.split()) + len(_CJK.findall(text))


def first_words(text: str, max_words: int) -> str:
    """Return the beginning of *text* that has at most *max_words*."""
    if count_words(text) <= max_words:
        return text
    if _CJK.search(text):
        return text[: max(0, max_words - len(text.split()))]
    return " ".join(text.split()[: max(0, max_words)])


_SHORTEST_SENTENCE = 3
"""Words below which a sentence only fills an answer that would be empty."""


class Sentences:
    """Sentences and how well they fit a query.

    Scores are BM25 with its usual constants (Robertson and Zaragoza, "The Probabilistic Relevance
    Framework: BM25 and Beyond", 2009), plus a small part for the terms that the sentences
    themselves use most, so that there is an order where the query says nothing.
    """

    K1 = 1.2
    B = 0.75
    SALIENT_TERMS = 20
    SALIENT_WEIGHT = 0.2
    TELLING_WORDS = 6

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts
        self._terms = [Counter(terms_of(text)) for text in texts]
        found_in: Counter[str] = Counter()
        total: Counter[str] = Counter()
        for terms in self._terms:
            found_in.update(terms.keys())
            total.update(terms)
        count = len(texts)
        self._idf = {
            term: math.log(1 + (count - n + 0.5) / (n + 0.5)) for term, n in found_in.items()
        }
        self._mean_length = (total.total() / count if count else 0) or 1.0
        by_salience = sorted(total, key=lambda term: (-total[term] * self._idf[term], term))
        self._salient = dict.fromkeys(by_salience[: self.SALIENT_TERMS], self.SALIENT_WEIGHT)

    def ranked(self, query: str) -> list[int]:
        """Return the indices of the sentences, best first, the earlier first among equals.

        The last line of the query counts double: a long request says last what is to be done.
        """
        last = query.rstrip().rpartition("\n")[2]
        wanted = self._salient | {
            term: 1 + math.log(n)
            for term, n in Counter(terms_of(f"{query}\n{last}\n{last}")).items()
            if term in self._idf
        }
        scores = [self._score(terms, wanted) for terms in self._terms]
        return sorted(range(len(scores)), key=lambda index: (-scores[index], index))

    def best(self, query: str) -> str:
        """Return the sentence that fits best; empty if there is none."""
        ranked = self.ranked(query)
        return self.texts[ranked[0]] if ranked else ""

    def extract(self, query: str, max_words: int) -> str:
        """Return the best sentences that together have at most *max_words*, as they stood."""
        chosen: list[int] = []
        room = max_words
        ranked = self.ranked(query)
        for index in ranked:
            if room < _SHORTEST_SENTENCE:
                break
            words = count_words(self.texts[index])
            if _SHORTEST_SENTENCE <= words <= room and not self._is_repetition(index, chosen):
                chosen.append(index)
                room -= words
        if not chosen and ranked:
            return first_words(self.texts[ranked[0]], max_words)
        return " ".join(_terminated(self.texts[index]) for index in sorted(chosen))

    def mentions(self, word: str) -> int:
        """Count how often the sentences use *word*, in capitals or not."""
        return sum(
            found.casefold() == word.casefold()
            for text in self.texts
            for found in _WORD.findall(text)
        )

    def _is_repetition(self, index: int, others: Iterable[int]) -> bool:
        """Say whether nearly all of a sentence's terms stand in one of *others*, or the reverse."""
        own = self._terms[index].keys()
        for other in others:
            theirs = self._terms[other].keys()
            if len(own & theirs) >= 0.8 * min(len(own), len(theirs)):
                return True
        return False

    def _score(self, terms: Counter[str], wanted: Mapping[str, float]) -> float:
        longer = self.K1 * (1 - self.B + self.B * terms.total() / self._mean_length)
        score = sum(
            weight * self._idf[term] * terms[term] * (self.K1 + 1) / (terms[term] + longer)
            for term, weight in wanted.items()
            if term in terms
        )
        # A row of figures or a fragment hardly says anything by itself, however well it matches.
        words = sum(count for term, count in terms.items() if term.isalpha())
        return score * min(1.0, words / self.TELLING_WORDS)


def _terminated(sentence: str) -> str:
    """Return *sentence* with a full stop where lists and tables have none."""
    return sentence if _TERMINATED.search(sentence) else f"{sentence}."
