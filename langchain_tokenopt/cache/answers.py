"""Do two answers say the same, and may an answer be kept at all?"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence

from langchain_core.messages import AIMessage
from langchain_core.outputs import Generation

from langchain_tokenopt.cache.guards import doubts_between, profile_of, vetoes_between
from langchain_tokenopt.cache.key import normalised

__all__ = [
    "AnswerNumbers",
    "AnswerWords",
    "differ_in_words",
    "pieces_of",
    "text_of_answers",
    "why_not_stored",
]

SAME = 0.65
"""Two answers without a difference that matters are wordings of one from this mean on, of the
cosine of their embeddings and the cosine of their weighted words."""
SAME_WITH_NUMBERS = 0.6
"""The same where both state the same numbers. Both were chosen on made-up answers to bank
customers' questions, in ten wordings that no benchmark uses."""
TELLING = 0.15
"""A word that a smaller share of the answers has tells what an answer is about."""
_SHORT = 30
"""Words of matter up to which each telling one counts; longer answers have many of their own."""
_KNOWN_WORDS = 50_000
_PIECE = 900
"""Characters that surely fit into the embedder's window."""
_PIECES = 6

_VETOES = ("numbers", "dates", "ids", "opposite", "negation_scope", "entities", "language")
_DOUBTS = ("exchanged_word", "added_word")

_REASONS = ("finish_reason", "stop_reason", "stopReason", "done_reason", "status")
_CUT_SHORT = frozenset(
    {
        "ERROR_LIMIT",
        "MAX_TOKENS",
        "error",
        "incomplete",
        "length",
        "max_tokens",
        "model_context_window_exceeded",
        "model_length",
        "pause_turn",
    }
)
"""What providers say of an answer that is not whole: OpenAI, Anthropic, Gemini, Mistral, Cohere."""
_REFUSED = frozenset(
    {
        "BLOCKLIST",
        "ERROR_TOXIC",
        "IMAGE_SAFETY",
        "LANGUAGE",
        "MALFORMED_FUNCTION_CALL",
        "OTHER",
        "PROHIBITED_CONTENT",
        "RECITATION",
        "SAFETY",
        "SPII",
        "content_filter",
        "content_filtered",
        "guardrail_intervened",
        "refusal",
        "safety",
    }
)
"""And of one that was withheld: the same and Bedrock (their API references, 2026-11)."""


class AnswerWords:
    """Which words are rare among the answers of a cache, and so say which answer it is.

    Answers of one assistant sound alike: an embedding puts "read section 3 on card limits" beside
    "read section 3 on card fees". Weighted by rarity (log of answers per answers with the word),
    "limits" and "fees" count and "read" does not.
    """

    def __init__(self) -> None:
        self._answers = 0
        self._with: Counter[str] = Counter()

    def count(self, text: str) -> None:
        """Take note of one more answer."""
        self._answers += 1
        self._with.update(profile_of(text).stems)
        if len(self._with) > _KNOWN_WORDS:
            self._with = Counter({word: n for word, n in self._with.items() if n > 1})

    def likeness(self, one: str, other: str) -> float:
        """Return the cosine of both texts as bags of words weighted by rarity, from 0 to 1."""
        a, b = profile_of(one).stems, profile_of(other).stems
        lengths = self._weight(a) * self._weight(b)
        return self._weight(a & b) / math.sqrt(lengths) if lengths else 0.0

    def are_wordings_of_one(self, one: str, other: str, cosine: float) -> bool:
        """Decide about two answers in which no guard has found a difference."""
        a, b = profile_of(one), profile_of(other)
        needed = SAME_WITH_NUMBERS if a.numbers and a.numbers == b.numbers else SAME
        if (cosine + self.likeness(one, other)) / 2 < needed:
            return False
        if max(len(a.stems), len(b.stems)) > _SHORT:
            return True
        return not (self._tells_more(a.stems - b.stems) and self._tells_more(b.stems - a.stems))

    def _tells_more(self, words: Iterable[str]) -> bool:
        """Say whether one of *words* tells what an answer is about."""
        return any(self._with[word] < TELLING * self._answers for word in words)

    def _weight(self, words: Iterable[str]) -> float:
        return sum(self._rarity(word) ** 2 for word in words)

    def _rarity(self, word: str) -> float:
        return math.log((self._answers + 1) / (self._with[word] + 1))


class AnswerNumbers:
    """Which numbers of answers stand for one answer, since a later wording matched both.

    Example:
        >>> numbers = AnswerNumbers()
        >>> numbers.unite(1, 5)
        >>> numbers.unite(5, 7)
        >>> numbers.of(7)
        1
    """

    def __init__(self) -> None:
        self._kept: dict[int, int] = {}

    def of(self, number: int) -> int:
        """Return the number that is used now."""
        while number in self._kept:
            number = self._kept[number]
        return number

    def unite(self, kept: int, other: int) -> None:
        """From now on *other* is what *kept* is."""
        kept, other = self.of(kept), self.of(other)
        if kept != other:
            self._kept[other] = kept


def text_of_answers(answers: Sequence[Generation]) -> str:
    """Return what the first answer says; calls of tools as JSON behind its text."""
    first = answers[0]
    message = getattr(first, "message", None)
    text = first.text if message is None else message.text
    calls = getattr(message, "tool_calls", None)
    if calls:
        text += json.dumps([[c["name"], c["args"]] for c in calls], sort_keys=True, default=str)
    return str(text)


def pieces_of(text: str) -> list[str]:
    """Cut a long answer into pieces that an embedder reads whole; at most six."""
    return [text[i : i + _PIECE] for i in range(0, min(len(text), _PIECE * _PIECES), _PIECE)]


def differ_in_words(one: str, other: str) -> bool | None:
    """Compare two answers by their words.

    Returns:
        False when they are equal but for spelling marks, True when a guard finds a difference that
        matters, ``None`` when only an embedding can tell.

    Example:
        >>> differ_in_words("It takes 5 days.", "It takes 7 days."), differ_in_words("Yes.", "yes")
        (True, False)
    """
    if normalised(one) == normalised(other):
        return False
    a, b = profile_of(one), profile_of(other)
    if vetoes_between(a, b, _VETOES) or doubts_between(a, b, _DOUBTS):
        return True
    return None


def why_not_stored(answers: Sequence[Generation], *, tool_calls: bool) -> str:
    """Return why answers must not be kept, or '' when they may.

    Args:
        answers: What the model has returned.
        tool_calls: Whether answers that call tools may be kept.
    """
    if not answers:
        return "empty"
    for answer in answers:
        message = getattr(answer, "message", None)
        details = dict(answer.generation_info or {})
        if isinstance(message, AIMessage):
            details = {**message.response_metadata, **details}
            if message.invalid_tool_calls:
                return "tool_calls"
            if message.tool_calls and not tool_calls:
                return "tool_calls"
            if message.additional_kwargs.get("refusal") or details.get("refusal"):
                return "refused"
            if isinstance(message.content, list) and any(map(_is_refusal, message.content)):
                return "refused"
            if not message.content and not message.tool_calls:
                return "empty"
        elif not answer.text:
            return "empty"
        reasons = {str(details.get(name)) for name in _REASONS}
        if reasons & _CUT_SHORT:
            return "cut short"
        if reasons & _REFUSED:
            return "refused"
    return ""


def _is_refusal(block: object) -> bool:
    """Say whether a block of content is OpenAI's word that there is no answer."""
    if not isinstance(block, dict):
        return False
    value = block.get("value")
    return "refusal" in block or (isinstance(value, dict) and "refusal" in value)
