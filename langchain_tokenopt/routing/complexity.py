"""How hard a request is, by what can be seen of it; nothing is asked, and every feature is shown.

Each feature adds points, and the points give a difficulty and one of four complexities. The points
are set by hand and fitted on nothing; what really needs the strong model is learned from outcomes
(``routing/outcomes.py``).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import Final

from langchain_core.messages import BaseMessage, HumanMessage, ToolMessage

from langchain_tokenopt.core.messages import text_of
from langchain_tokenopt.routing.asked import MOST_SENT_BACK, WORD, asked_and_material
from langchain_tokenopt.routing.marks import (
    CODE,
    CONSTRAINTS,
    MATHS,
    THOUGHT,
    is_complaint,
    is_urgent,
)
from langchain_tokenopt.text.scripts import UNSPACED

__all__ = ["Complexity", "Features", "features_of", "numbers_in"]


class Complexity(IntEnum):
    """How hard a request is; ordered.

    Example:
        >>> Complexity.SIMPLE < Complexity.CRITICAL, Complexity.MEDIUM.name
        (True, 'MEDIUM')
    """

    SIMPLE = 1
    MEDIUM = 2
    COMPLEX = 3
    CRITICAL = 4


_LEAST_POINTS: Final = {Complexity.CRITICAL: 8.0, Complexity.COMPLEX: 4.5, Complexity.MEDIUM: 2.0}
_HALF_WAY: Final = 5.0
"""Points of a request that is harder than 63 of 100."""
_URGENT: Final = 6.0
"""Points of urgency: alone they make a request COMPLEX, with anything else CRITICAL."""

_NUMBER: Final = re.compile(r"(?<![\w.])\d+(?:[.,:/]\d+)*")
_PLAIN_NUMBER: Final = re.compile(r"\d[\d,]{0,30}(?:\.\d{1,30})?", re.ASCII)
_QUESTION: Final = re.compile(r"[?？؟¿]+")
_ITEM: Final = re.compile(r"^[ \t]*(?:[-*•]|\d{1,2}[.)]|\(?[a-z][.)])[ \t]+\S", re.M)
_CLAUSE: Final = re.compile(r"[,;:](?=\s)|[，；：、،؛]")
_SENTENCE: Final = re.compile(r"[.!?。！？…]+(?=\s|$|[\"'”’)])|[。！？]")
_UNSPACED_WORD: Final = re.compile(f"[{UNSPACED}]")


@dataclass(frozen=True, slots=True)
class Features:
    """What is seen of a request. Counts, unless said otherwise."""

    words: int
    """Of what is asked; two Chinese or Japanese characters are one."""
    sentences: int
    questions: int
    list_items: int
    """Lines that are items of a list."""
    clauses: int
    """Commas, colons and semicolons."""
    code: int
    """Marks of code: fences, definitions, stack traces; of material where thought is asked for."""
    maths: int
    """Marks of mathematics: signs, formulas, words such as "prove"."""
    thought: int
    """Words that ask for thought: why, compare, design, plan, in several languages."""
    constraints: int
    """Words that bind the answer: must, exactly, at least, without, in several languages."""
    data_points: int
    """Numbers; of material a third, where thought is asked for."""
    urgency: int
    """Words of urgency, in several languages, that are not denied."""
    tools: int
    structured: bool
    """Whether a program reads the answer."""
    media: int
    """Images, sounds and files."""
    attempts: int
    """Attempts before: answers that the user sent back, tool calls that failed in this turn."""
    context_words: int
    """Of the whole conversation, roughly."""
    longest_word: int
    """Its characters."""
    distinct_words: int

    def as_dict(self) -> dict[str, int | bool]:
        """Return them by name."""
        return asdict(self)

    @property
    def points(self) -> dict[str, float]:
        """What each feature adds, those that add something."""
        items = min(self.list_items, 8)
        found = {
            "words": min(4.0, max(0.0, math.log2((self.words + 1) / 20))),
            "clauses": 0.25 * min(max(0, self.clauses - 2), 8),
            "questions": 0.5 * min(max(0, self.questions - 1), 4),
            "list_items": 0.4 * items,
            "code": 0.7 * min(self.code, 4),
            "maths": 0.8 * min(self.maths, 4),
            "thought": 1.0 * min(self.thought, 4),
            "constraints": 0.5 * min(self.constraints, 4),
            "data_points": min(3.0, math.log2(1 + max(0, self.data_points - items)) / 1.5),
            "urgency": _URGENT * (self.urgency > 0) + 2.0 * (self.urgency > 1),
            "tools": min(2.0, 0.5 * math.log2(1 + self.tools)),
            "structured": 0.5 * self.structured,
            "media": 1.0 * min(self.media, 2),
            "attempts": 2.5 * min(self.attempts, 3),
            "context_words": min(1.5, max(0.0, math.log2((self.context_words + 1) / 2_000))),
        }
        return {name: round(value, 2) for name, value in found.items() if value > 0}

    @property
    def difficulty(self) -> float:
        """From 0, the easiest, to 1."""
        return 1 - math.exp(-sum(self.points.values()) / _HALF_WAY)

    @property
    def complexity(self) -> Complexity:
        """The class that the points make it."""
        points = sum(self.points.values())
        return next((c for c, least in _LEAST_POINTS.items() if points >= least), Complexity.SIMPLE)


def features_of(
    messages: Sequence[BaseMessage],
    *,
    tools: int = 0,
    structured: bool = False,
    attempts: int = 0,
    media: int = 0,
) -> Features:
    """Read the features of a request.

    Args:
        messages: The conversation; what is asked is the user's last message.
        tools: How many the model is shown.
        structured: Whether a program reads the answer.
        attempts: How often it was tried before, beside what the conversation shows.
        media: How many images, sounds and files there are.

    Example:
        >>> features_of([HumanMessage("What is the capital of France?")]).complexity.name
        'SIMPLE'
        >>> hard = "Prove that sqrt(2) is irrational, then compare 3 proofs and explain why."
        >>> features_of([HumanMessage(hard)]).complexity.name
        'COMPLEX'
    """
    text, material = asked_and_material(messages)
    words = WORD.findall(text)
    single = sum(1 for word in words if _UNSPACED_WORD.fullmatch(word))
    lowered = text.lower()
    thought, maths = len({*THOUGHT.findall(lowered)}), _kinds(MATHS, lowered)
    is_worked_on = bool(thought or maths)
    numbers = len(_NUMBER.findall(material)) // 3 if is_worked_on else 0
    characters = sum(len(m.content) if isinstance(m.content, str) else 400 for m in messages)
    return Features(
        words=len(words) - single + single // 2,
        sentences=len(_SENTENCE.findall(text)),
        questions=len(_QUESTION.findall(text)),
        list_items=len(_ITEM.findall(text)),
        clauses=len(_CLAUSE.findall(text)),
        code=_kinds(CODE, text) + (_kinds(CODE, material) if is_worked_on else 0),
        maths=maths,
        thought=thought,
        constraints=len({*CONSTRAINTS.findall(lowered)}),
        data_points=len(_NUMBER.findall(text)) + numbers,
        urgency=is_urgent(text),
        tools=tools,
        structured=structured,
        media=media,
        attempts=attempts + _sent_back(messages) + _failed_in_turn(messages),
        context_words=characters // 6,
        longest_word=min(40, max(map(len, words), default=0)),
        distinct_words=len({word.lower() for word in words}),
    )


def numbers_in(text: str) -> list[float]:
    """Return the numbers in a text, the first 500.

    Example:
        >>> numbers_in("In 1,200 words, with 2.5 % of it on ducks")
        [1200.0, 2.5]
    """
    return [float(found.replace(",", "")) for found in _PLAIN_NUMBER.findall(text)[:500]]


def _sent_back(messages: Sequence[BaseMessage]) -> int:
    """Return how many of the user's latest messages say that an answer was no good."""
    count = 0
    asked = [m for m in messages if isinstance(m, HumanMessage)]
    for message in reversed(asked[-MOST_SENT_BACK:]):
        text = text_of(message)
        if message is asked[0] or len(text) > 2_000 or not is_complaint(text):
            break
        count += 1
    return count


def _kinds(patterns: Iterable[re.Pattern[str]], text: str) -> int:
    """Return how many of these marks stand in a text, each counted three times at most."""
    return sum(min(3, len(pattern.findall(text))) for pattern in patterns)


def _failed_in_turn(messages: Sequence[BaseMessage]) -> int:
    """Return how many tool calls have failed since the user's last message."""
    failed = 0
    for message in reversed(messages):
        if isinstance(message, HumanMessage):
            break
        failed += isinstance(message, ToolMessage) and message.status == "error"
    return failed
