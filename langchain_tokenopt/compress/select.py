"""How likely each unit of a text is to hold what the query asks for.

Coarse to fine, lexical, in the order of one scan: the query's words are looked up in the text
(rather than the text's words being indexed), hits are scored by BM25 per passage and, with the
passage's title, per sentence, and the two become the probability that the answer stands in this
passage, and in this sentence of it. Long passages are ranked in windows of some 700 characters.
A question is answered in one place; a task that names many things is answered all over the text, so
the more a query names, the more its sentences count by themselves, wherever they stand.

The constants were chosen on 1,197 questions with 20 passages each (``nq20_train``, made from
Natural
Questions) and rounded; ``tests/benchmarks/bench_compress.py`` judges them on other questions.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, Protocol

from langchain_tokenopt.compress.segment import Unit

__all__ = ["Prior", "Relevance", "query_words", "relevance"]

Prior = Literal["none", "lead", "recency"]
"""What position says where words do not: nothing; long pages begin with what matters; the latest
turns of a chat matter most."""

# BM25 (Robertson and Zaragoza 2009) over passages and over sentences.
_PASSAGE_K1, _PASSAGE_B = 1.2, 0.6
_SENTENCE_K1, _SENTENCE_B = 1.0, 0.4

# Weights of the evidence for a passage, on a log-odds scale.
_BM25 = 1.0
_BEST_SENTENCE = 0.6
_TITLE_NAMED = 2.3
"""Share of the title's words that the question names."""
_TITLE_COVERS = 1.2
"""Share of the question that the title names."""
_PHRASE = 1.1
"""Two words of the question side by side."""

# Weights of the evidence for a sentence within its passage.
_COVERS = 0.9
_COVERS_ALONE = 3.0
"""The same in a text of up to :data:`_FEW` passages, where ranking passages says little."""
_FEW = 3
_OPENS = 1.4
"""Divided by the sentence's position: definitions come first."""
_ANSWERS_KIND = 1.9
"""Has a number where the question asks how many, a year where it asks when, and so on."""
_LENGTH = 0.5
_RELATED = 0.6
"""What a related word ("discovered" for "discovery") counts, against 1 for the word itself."""

_ONE_PLACE = 8
"""Telling words up to which a query asks for one thing; of 1,197 questions 98.7 % have no more."""
_ALL_OVER = 20
"""Telling words from which on it is a task that names many."""
_BY_ITSELF = 0.4
"""Share of the chances that sentences then get by their own words alone. Less makes long prompts of
agents lose sentences that answer the task, more gains nothing (of 0.03 to 0.4, on the desk's
documents with planted facts, seeds 100 to 119 of ``tests/benchmarks/bench_desk.py``)."""

_WINDOW = 700
"""Characters; passages longer than two windows are ranked window by window. About the 128 tokens
that Jha et al. 2024 (arXiv 2407.08892) found best."""
_NEIGHBOURS = 0.5
"""What the windows before and after add to a window's score."""
_LEAD = 2.0
_LEAD_WINDOWS = 3.0
_RECENCY = 1.5
_RECENCY_WINDOWS = 6.0


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_STOP_WORDS = _words(
    """
    a an the of in on at to for from by with and or but is are was were be been being am do does
    did has have had having it its this that these those as who whom whose which what when where
    why how many much i you he she they we his her their our your my me him them us not no can
    could will would shall should may might must than then there so if into about over after
    before between during up down out off also such only own same other s t d m re ve ll don
    please tell give der die das den dem des ein eine einen einem einer eines und oder aber ist
    sind war waren sein wird werden wurde wurden hat haben hatte im in am an auf aus bei mit nach
    seit von vom zu zum zur für über unter vor durch gegen ohne um nicht auch noch nur schon sich
    es er sie wir ihr ich du was wer wie wo wann warum welche welcher welches wieviel viele als
    wenn dass daß el la los las un una unos unas y o u e pero es son era eran fue fueron ser ha
    han había en de del al a con por para sin sobre entre desde hasta que qué quién quiénes cuál
    cuáles cuándo dónde cómo cuánto cuánta cuántos cuántas se su sus lo le les me te nos mi tu no
    sí más muy ya como si
    """
)
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
_WORD = re.compile(rf"[{_CJK}]+|[^\W_{_CJK}]+")
_IS_CJK = re.compile(rf"[{_CJK}]")
_CJK_FILLER = re.compile(
    r"什么|哪[里个些年位]?|谁|多少|几|怎么|为什么|如何|吗|呢|的|了|是|在|有|和|与|请"
)

_SUFFIXES = (
    "ingly", "edly", "ing", "ed", "ment", "ation", "ition", "tion", "sion", "er", "or", "ly", "al",
    "ive", "ance", "ence", "e", "y",
)  # fmt: skip


@lru_cache(maxsize=65_536)
def stem(word: str) -> str:
    """Strip what English puts at the end of words; light enough not to hurt other languages."""
    if len(word) <= 3 or word.isdigit():
        return word
    for suffix, kept in (("ies", "y"), ("sses", "ss"), ("es", "e"), ("s", "")):
        if word.endswith(suffix) and not word.endswith("ss") and len(word) - len(suffix) >= 3:
            word = word[: -len(suffix)] + kept
            break
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= 3:
            word = word[: -len(suffix)]
            break
    return word[:-1] if len(word) > 3 and word[-1] == word[-2] else word


class Rarity(Protocol):
    """How much finding a word says, from 0 to 1, before any text is seen."""

    def __call__(self, word: str) -> float:
        """Return 1 for rare words, less for words that are everywhere."""
        ...


def rarity_by_length(word: str) -> float:
    """Guess a word's rarity where no vocabulary is at hand: long words are rarer (Zipf)."""
    return min(1.0, 0.5 + 0.06 * len(word))


def rarity_by_rank(encode: Callable[[str], Sequence[int]]) -> Rarity:
    """Read a word's rarity from a byte-pair vocabulary, whose ranks are ordered by frequency."""

    @lru_cache(maxsize=65_536)
    def rarity(word: str) -> float:
        tokens = encode(" " + word)
        return math.log(tokens[0] + 1) / 12 if len(tokens) == 1 else 1.0

    return rarity


@dataclass(slots=True)
class _Term:
    """A word of the query."""

    word: str
    stem: str
    needle: str
    """What is looked for: a beginning that all related words share."""
    weight: float
    whole_words: bool = True
    seen: dict[str, float] = field(default_factory=dict)

    def value(self, found: str) -> float:
        """Return what a word of the text counts: 1 the same, less if related, 0 if a stranger."""
        known = self.seen.get(found)
        if known is None:
            known = self.seen[found] = self._value(found)
        return known

    def _value(self, found: str) -> float:
        if found == self.word or stem(found) == self.stem:
            return 1.0
        longest = max(len(found), len(self.stem))
        if len(found) < 4 or len(self.stem) < 4:
            return 0.0
        common = next(
            (i for i, (a, b) in enumerate(zip(found, self.stem, strict=False)) if a != b),
            min(len(found), len(self.stem)),
        )
        return _RELATED if common >= 0.6 * longest else 0.0


def query_words(query: str) -> list[str]:
    """Return the words of *query* that say what is asked, in order, without repeats.

    Chinese, Japanese and Korean are cut into overlapping pairs of characters.

    Example:
        >>> query_words("Who discovered the periodic table?")
        ['discovered', 'periodic', 'table']
        >>> query_words("长城有多长")
        ['长城', '多长']
    """
    words: list[str] = []
    for run in _WORD.findall(_lower(query)):
        if not _IS_CJK.match(run):
            words.append(run)
            continue
        for part in _CJK_FILLER.split(run):
            words += [part[i : i + 2] for i in range(max(1, len(part) - 1))] if part else []
    said = [word for word in dict.fromkeys(words) if word not in _STOP_WORDS]
    return said or list(dict.fromkeys(words))


def _terms(query: str, rarity: Rarity) -> list[_Term]:
    terms: dict[str, _Term] = {}
    for word in query_words(query)[:_MOST_TERMS]:
        root = stem(word)
        if root in terms:
            continue
        cjk = _IS_CJK.match(word) is not None
        needle = root[: max(4, len(root) - 1)]
        weight = 1.0 if cjk else rarity(word) ** 2
        terms[root] = _Term(word, root, word if cjk else needle, weight, whole_words=not cjk)
    return list(terms.values())


_MOST_TERMS = 64
"""A query of more words is a text; its first ones say what it is about."""


def _lower(text: str) -> str:
    """Lower-case without changing positions ("İ" becomes two characters in Python)."""
    lowered = text.lower()
    if len(lowered) == len(text):
        return lowered
    return "".join(low if len(low := char.lower()) == 1 else char for char in text)


# --- what a question asks for --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _AnswerKind:
    """A kind of question, and what its answers look like."""

    asked_by: re.Pattern[str]
    looks_like: re.Pattern[str]


_ANSWER_KINDS = (
    _AnswerKind(
        re.compile(
            r"\bwhen\b|\b(?:what|which) (?:year|date|day|month|century|season|time)\b|\bhow old\b"
            r"|\bwann\b|welche[mns]? (?:jahr|tag|monat)|\bcu[áa]ndo\b|qu[ée] (?:año|fecha|día)"
            r"|什么时候|何时|哪一?年|哪一?天|几月|几号"
        ),
        re.compile(
            r"\b(?:1\d{3}|20\d\d)\b|\d年|\d月"
            r"|\b(?:January|February|March|April|June|July|August|September|October|November|December"
            r"|Januar|Februar|März|Juni|Juli|Oktober|Dezember|enero|febrero|marzo|abril|junio|julio"
            r"|agosto|septiembre|octubre|noviembre|diciembre)\b"
        ),
    ),
    _AnswerKind(
        re.compile(
            r"\bhow (?:many|much|long|far|tall|big|large|high|deep|often|fast|heavy)\b"
            r"|\bnumber of\b"
            r"|\bpopulation\b|\bpercent|\bwie ?(?:viele?|lange?|weit|hoch|groß|oft|tief|schwer)\b"
            r"|\bcu[áa]nt[oa]s?\b|\bn[úu]mero de\b|多少|几[个位年岁次]|多[长高远大久深]"
        ),
        re.compile(
            r"\d|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|hundred"
            r"|thousand|million|billion|zwei|drei|vier|fünf|sechs|sieben|acht|neun|zehn|zwölf"
            r"|hundert|tausend|dos|tres|cuatro|cinco|seis|siete|ocho|nueve|diez|cien|mil)\b|[一二三四五六七八九十百千万亿]",
            re.IGNORECASE,
        ),
    ),
    _AnswerKind(
        re.compile(
            r"\bwho(?:se|m)?\b|\bwer\b|\bwem\b|\bwen\b|\bwessen\b|\bqui[ée]n(?:es)?\b|谁|哪位"
        ),
        re.compile(
            r"\b[A-ZÄÖÜÁÉÍÓÚÑ][\w'’.-]+(?: (?:[A-ZÄÖÜÁÉÍÓÚÑ][\w'’.-]*|de|van|von|of|la|der|del))*"
            r" [A-ZÄÖÜÁÉÍÓÚÑ][\w'’-]+|[\u4e00-\u9fff]·[\u4e00-\u9fff]"
        ),
    ),
    _AnswerKind(
        re.compile(
            r"\bwhere\b|\b(?:what|which) (?:city|country|state|place|town|county|island"
            r"|continent)\b"
            r"|\bwo(?:her|hin)?\b|welche[mnrs]? (?:stadt|land|ort)|\bd[óo]nde\b"
            r"|qu[ée] (?:ciudad|país|lugar)"
            r"|哪里|哪儿|何处|在哪|哪个(?:国家|城市|地方|省)"
        ),
        re.compile(
            r"\b(?:in|at|near|from|of|off|between|on|im|bei|nahe|aus|en|de|cerca) (?:the "
            r"|der |el |la )?"
            r"[A-ZÄÖÜÁÉÍÓÚÑ]|[\u4e00-\u9fff][市省县国区州]"
        ),
    ),
)


def _answer_pattern(query: str) -> re.Pattern[str] | None:
    lowered = _lower(query[-2_000:])
    return next((k.looks_like for k in _ANSWER_KINDS if k.asked_by.search(lowered)), None)


# --- scoring -------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Block:
    """What is ranked as a whole: a passage, or a window of a long one."""

    first: int
    end: int
    """Units ``first`` to ``end``, the title's among them."""
    title: int | None
    chars: int
    hits: dict[int, float] = field(default_factory=dict)
    phrases: int = 0


@dataclass(frozen=True, slots=True)
class Relevance:
    """What ranking found."""

    units: list[float]
    """For each unit, how likely it holds what is asked for. Those that may go sum to 1."""
    blocks: list[tuple[int, int]]
    """Ranges of units that were ranked together, best first."""


def relevance(
    texts: Sequence[str],
    units: Sequence[Unit],
    query: str | None,
    *,
    prior: Prior = "none",
    rarity: Rarity = rarity_by_length,
    rerank: Callable[[str, list[str], list[float]], list[float]] | None = None,
) -> Relevance:
    """Rank the units of *texts* for *query*; without one, by centrality and position.

    Args:
        texts: The sources that the units' offsets refer to.
        units: In the order of the text, covering it.
        query: What is asked.
        prior: What position says.
        rarity: How telling a word is.
        rerank: Given the query, the blocks' texts and their scores (log odds), returns scores.

    Example:
        >>> from langchain_tokenopt.compress.segment import units_of
        >>> text = "Tea is a drink. The bridge was built in 1931. It rained."
        >>> units = units_of(text)
        >>> ranked = relevance([text], units, "When was the bridge built?").units
        >>> text[units[ranked.index(max(ranked))].start :][:30]
        ' The bridge was built in 1931.'
    """
    if not units:
        return Relevance([], [])
    text = _Text(texts, units)
    blocks = _blocks(units)
    if query is None or not (terms := _terms(query, rarity)):
        return _without_query(text, units, blocks, prior)
    hits = _hits(text, terms, blocks)
    idf = _idf(terms, blocks if len(blocks) > _FEW else None, hits)
    whole = sum(idf) or 1.0
    sentences = _sentence_scores(units, blocks, hits, idf)
    scores = _block_scores(text, units, blocks, sentences, hits, idf, whole, prior)
    if rerank is not None:
        scores = rerank(query, [text.of(units, b.first, b.end) for b in blocks], scores)
    pattern = _answer_pattern(query)
    weight = _COVERS if len(blocks) > _FEW else _COVERS_ALONE
    probabilities = [0.0] * len(units)
    for block, share in zip(blocks, _chances(units, blocks, scores), strict=True):
        _spread(text, units, block, share, hits, idf, whole, pattern, weight, probabilities)
    alone = _BY_ITSELF * min(1.0, max(0, len(terms) - _ONE_PLACE) / (_ALL_OVER - _ONE_PLACE))
    if alone:
        own = _by_themselves(units, blocks, hits, idf)
        both = zip(probabilities, own, strict=True)
        probabilities = [(1 - alone) * there + alone * itself for there, itself in both]
    order = sorted(range(len(blocks)), key=lambda i: -scores[i])
    return Relevance(probabilities, [(blocks[i].first, blocks[i].end) for i in order])


class _Text:
    """All sources as one lower-cased text, and the way from a position to its unit."""

    def __init__(self, texts: Sequence[str], units: Sequence[Unit]) -> None:
        self.texts = texts
        bases, position = [], 0
        for text in texts:
            bases.append(position)
            position += len(text) + 1
        self.lowered = _lower("\n".join(texts))
        self.starts = [bases[unit.source] + unit.start for unit in units]

    def of(self, units: Sequence[Unit], first: int, end: int) -> str:
        """Return the text of a range of units, of one source."""
        unit = units[first]
        return self.texts[unit.source][unit.start : units[end - 1].end]


def _blocks(units: Sequence[Unit]) -> list[_Block]:
    blocks: list[_Block] = []
    first = 0
    while first < len(units):
        end, chars, key = first, 0, (units[first].source, units[first].passage)
        while end < len(units) and (units[end].source, units[end].passage) == key:
            chars += units[end].end - units[end].start
            end += 1
        title = first if units[first].kind == "heading" else None
        if chars <= 2 * _WINDOW:
            blocks.append(_Block(first, end, title, chars))
        else:
            blocks += _windows(units, first, end, title)
        first = end
    return blocks


def _windows(units: Sequence[Unit], first: int, end: int, title: int | None) -> list[_Block]:
    found, chars = [], 0
    for at in range(first, end):
        chars += units[at].end - units[at].start
        if chars >= _WINDOW or at == end - 1:
            found.append(_Block(first, at + 1, title, chars))
            first, chars = at + 1, 0
    return found


_Hits = list[dict[int, float]]
"""Per unit: term index to how often it was found, related words counting less."""


def _hits(text: _Text, terms: list[_Term], blocks: list[_Block]) -> _Hits:
    """Find the terms; count them per unit and per block, and phrases per block."""
    hits: _Hits = [{} for _ in text.starts]
    block_of = [0] * len(text.starts)
    for number, block in enumerate(blocks):
        for at in range(block.first, block.end):
            block_of[at] = number
    before: set[int] = set()
    for number, term in enumerate(terms):
        ends: set[int] = set()
        for position, after, value in _occurrences(text.lowered, term):
            at = bisect_right(text.starts, position) - 1
            unit_hits = hits[at]
            unit_hits[number] = unit_hits.get(number, 0.0) + value
            block = blocks[block_of[at]]
            block.hits[number] = block.hits.get(number, 0.0) + value
            ends.add(after)
            if position - 1 in before or (not term.whole_words and position + 1 in before):
                block.phrases += 1
        before = ends
    return hits


def _occurrences(lowered: str, term: _Term) -> list[tuple[int, int, float]]:
    """Return position, end and value of every word that is the term or related to it."""
    found = []
    needle, size = term.needle, len(lowered)
    position = lowered.find(needle)
    while position >= 0:
        after = position + len(needle)
        if not term.whole_words:
            found.append((position, after, 1.0))
        elif position == 0 or not lowered[position - 1].isalnum():
            while after < size and lowered[after].isalnum():
                after += 1
            value = term.value(lowered[position:after])
            if value:
                found.append((position, after, value))
        position = lowered.find(needle, after)
    return found


def _idf(terms: list[_Term], blocks: list[_Block] | None, hits: _Hits) -> list[float]:
    """How telling each term is: its rarity in general times its rarity here."""
    places = [b.hits for b in blocks] if blocks else hits
    total = len(places)
    having = [0] * len(terms)
    for place in places:
        for number in place:
            having[number] += 1
    return [
        term.weight * math.log(1 + (total - count + 0.5) / (count + 0.5))
        for term, count in zip(terms, having, strict=True)
    ]


def _bm25(
    hits: dict[int, float], idf: list[float], length: float, average: float, k1: float, b: float
) -> float:
    norm = k1 * (1 - b + b * length / average)
    return (k1 + 1) * sum([idf[n] * count / (count + norm) for n, count in hits.items()])


def _sentence_scores(
    units: Sequence[Unit], blocks: list[_Block], hits: _Hits, idf: list[float]
) -> list[float]:
    """BM25 of each unit together with its block's title."""
    average = sum(u.end - u.start for u in units) / len(units) + 1
    scores = [0.0] * len(units)
    for block in blocks:
        title_hits = hits[block.title] if block.title is not None else {}
        base: float | None = None
        for at in range(block.first, block.end):
            own = hits[at]
            length = units[at].end - units[at].start
            if own and title_hits and at != block.title:
                both = dict(title_hits)
                for number, count in own.items():
                    both[number] = both.get(number, 0.0) + count
                scores[at] = _bm25(both, idf, length, average, _SENTENCE_K1, _SENTENCE_B)
            elif own:
                scores[at] = _bm25(own, idf, length, average, _SENTENCE_K1, _SENTENCE_B)
            elif title_hits:
                if base is None:
                    base = _bm25(title_hits, idf, average, average, _SENTENCE_K1, _SENTENCE_B)
                scores[at] = base
    return scores


def _block_scores(
    text: _Text,
    units: Sequence[Unit],
    blocks: list[_Block],
    sentences: list[float],
    hits: _Hits,
    idf: list[float],
    whole: float,
    prior: Prior,
) -> list[float]:
    """Return for each block the log odds, up to a constant, that the answer stands there."""
    average = sum(block.chars for block in blocks) / len(blocks) + 1
    lexical = _standardised(
        [_bm25(b.hits, idf, b.chars, average, _PASSAGE_K1, _PASSAGE_B) for b in blocks]
    )
    best = _standardised([max(sentences[b.first : b.end]) for b in blocks])
    scores = [
        _BM25 * by_block
        + _BEST_SENTENCE * by_sentence
        + _PHRASE * (block.phrases > 0)
        + _title_evidence(text, units, block, hits, idf, whole)
        for block, by_block, by_sentence in zip(blocks, lexical, best, strict=True)
    ]
    return _with_prior(_with_neighbours(units, blocks, scores), prior)


def _title_evidence(
    text: _Text,
    units: Sequence[Unit],
    block: _Block,
    hits: _Hits,
    idf: list[float],
    whole: float,
) -> float:
    if block.title is None:
        return 0.0
    named = hits[block.title]
    if not named:
        return 0.0
    start = text.starts[block.title]
    length = units[block.title].end - units[block.title].start
    words = _WORD.findall(text.lowered, start, start + length)
    telling = sum(1 for word in words if word not in _EMPTY_WORDS and not word.isdigit())
    share = min(1.0, sum(named.values()) / telling) if telling else 0.0
    return _TITLE_NAMED * share + _TITLE_COVERS * sum([idf[n] for n in named]) / whole


_EMPTY_WORDS = _STOP_WORDS | {
    "document", "title", "passage", "doc", "source", "dokument", "titel", "quelle", "documento",
}  # fmt: skip


def _with_neighbours(
    units: Sequence[Unit], blocks: list[_Block], scores: list[float]
) -> list[float]:
    """Let windows of one passage, and turns of a chat, lend each other evidence."""
    smoothed = list(scores)
    for at in range(1, len(blocks)):
        before, after = units[blocks[at - 1].first], units[blocks[at].first]
        same_passage = before.source == after.source and before.passage == after.passage
        if same_passage or (before.kind == "turn" and after.kind == "turn"):
            smoothed[at] += _NEIGHBOURS * max(0.0, scores[at - 1])
            smoothed[at - 1] += _NEIGHBOURS * max(0.0, scores[at])
    return smoothed


def _with_prior(scores: list[float], prior: Prior) -> list[float]:
    if prior == "lead":
        return [s + _LEAD * math.exp(-i / _LEAD_WINDOWS) for i, s in enumerate(scores)]
    if prior == "recency":
        last = len(scores) - 1
        return [
            s + _RECENCY * math.exp((i - last) / _RECENCY_WINDOWS) for i, s in enumerate(scores)
        ]
    return scores


def _spread(
    text: _Text,
    units: Sequence[Unit],
    block: _Block,
    share: float,
    hits: _Hits,
    idf: list[float],
    whole: float,
    pattern: re.Pattern[str] | None,
    weight: float,
    probabilities: list[float],
) -> None:
    """Divide a block's probability among its units."""
    inside = [at for at in range(block.first, block.end) if at != block.title]
    if not inside:
        return
    if share < _HOPELESS:
        for at in inside:
            probabilities[at] = share / len(inside)
        return
    look = pattern is not None and share > _WORTH_A_LOOK
    scores = []
    covers = weight / whole
    for place, at in enumerate(inside):
        unit = units[at]
        score = _OPENS / (1 + place) + _LENGTH * math.log(unit.end - unit.start + 1)
        if hits[at]:
            score += covers * sum([idf[n] for n in hits[at]])
        if (
            look
            and pattern is not None
            and pattern.search(text.texts[unit.source], unit.start, unit.end)
        ):
            score += _ANSWERS_KIND
        scores.append(score)
    for at, likely in zip(inside, _softmax(scores), strict=True):
        probabilities[at] = share * likely


def _chances(units: Sequence[Unit], blocks: list[_Block], scores: list[float]) -> list[float]:
    """Divide the chances among the blocks, and once more among those that may go.

    The question, which stays, has all of its own words: it would leave nothing to any passage.
    """
    goes = [not all(u.required for u in units[b.first : b.end]) for b in blocks]
    among_all = _softmax(scores)
    if not any(goes):
        return among_all
    among_those = iter(_softmax([s for s, may_go in zip(scores, goes, strict=True) if may_go]))
    return [
        next(among_those) if may_go else share
        for share, may_go in zip(among_all, goes, strict=True)
    ]


def _by_themselves(
    units: Sequence[Unit], blocks: list[_Block], hits: _Hits, idf: list[float]
) -> list[float]:
    """Divide the chances by what each unit says itself, wherever it stands.

    Turns of a conversation say little without their neighbours, and get none.
    """
    average = sum(u.end - u.start for u in units) / len(units) + 1
    scores = [0.0] * len(units)
    for block in blocks:
        for at in range(block.first, block.end):
            unit = units[at]
            if hits[at] and at != block.title and unit.kind != "turn" and not unit.required:
                length = units[at].end - units[at].start
                scores[at] = _bm25(hits[at], idf, length, average, _SENTENCE_K1, _SENTENCE_B)
    total = sum(scores) or 1.0
    return [score / total for score in scores]


_HOPELESS = 1e-3
"""In blocks less likely than this all sentences are alike."""
_WORTH_A_LOOK = 0.002
"""Blocks less likely than this are not searched for answers of the right kind."""


def _softmax(scores: list[float]) -> list[float]:
    top = max(scores)
    odds = [math.exp(score - top) for score in scores]
    total = sum(odds)
    return [odd / total for odd in odds]


def _standardised(values: list[float]) -> list[float]:
    mean = sum(values) / len(values)
    spread = math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))
    return [0.0] * len(values) if spread < 1e-9 else [(value - mean) / spread for value in values]


# --- no query ------------------------------------------------------------------------------------


def _without_query(
    text: _Text, units: Sequence[Unit], blocks: list[_Block], prior: Prior
) -> Relevance:
    """Centrality: a unit matters when its words are those the whole text keeps using."""
    counts: dict[str, int] = {}
    words_of: list[set[str]] = []
    ends = [*text.starts[1:], len(text.lowered) + 1]
    for start, end in zip(text.starts, ends, strict=True):
        words = [w for w in _WORD.findall(text.lowered, start, end - 1) if w not in _STOP_WORDS]
        for word in words:
            counts[word] = counts.get(word, 0) + 1
        words_of.append(set(words))
    central = [
        sum(math.log(counts[word]) for word in words) / math.sqrt(len(words) + 4)
        for words in words_of
    ]
    central = _standardised(central)
    scores = [max(central[b.first : b.end]) for b in blocks]
    likely = _softmax(_with_prior(scores, prior if prior != "none" or len(blocks) == 1 else "none"))
    probabilities = [0.0] * len(units)
    for block, share in zip(blocks, likely, strict=True):
        inside = [at for at in range(block.first, block.end) if at != block.title]
        if not inside:
            continue
        spread = _softmax([central[at] + _OPENS / (1 + i) for i, at in enumerate(inside)])
        for at, chance in zip(inside, spread, strict=True):
            probabilities[at] = share * chance
    order = sorted(range(len(blocks)), key=lambda i: -scores[i])
    return Relevance(probabilities, [(blocks[i].first, blocks[i].end) for i in order])
