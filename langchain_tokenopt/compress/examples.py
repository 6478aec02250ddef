"""Few-shot examples, found by their structure: pairs of labels that come back.

An example runs from its input's label to the next input. Only the last one ends before: behind as
many paragraphs as the others have at most. The last input, whose output is empty or missing, is
what the user asks and never an example; neither is any text behind the examples.
"""

from __future__ import annotations

import itertools
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Example", "cover_labels", "find_examples"]

_PAIRS = (
    ("Input", "Output"),
    ("Q", "A"),
    ("Question", "Answer"),
    ("User", "Assistant"),
    ("Human", "Assistant"),
    ("Human", "AI"),
    ("Text", "Label"),
    ("Text", "Sentiment"),
    ("Text", "Category"),
    ("Review", "Sentiment"),
    ("Sentence", "Label"),
    ("Message", "Intent"),
    ("Query", "Response"),
    ("Prompt", "Completion"),
    ("English", "French"),
    ("English", "German"),
    ("English", "Spanish"),
    ("Source", "Target"),
    ("Problem", "Solution"),
    ("Eingabe", "Ausgabe"),
    ("Frage", "Antwort"),
    ("Pregunta", "Respuesta"),
    ("Entrada", "Salida"),
    ("问题", "答案"),
    ("输入", "输出"),
)
_TITLE = re.compile(
    r"[ \t]*(?:#{1,6} *|\*\*)?(?:Examples?|Beispiel|Ejemplo|示例|例)[ ]?#?\d{0,3}\b[^\n]{0,20}\n",
    re.I,
)
_FEWEST = 2


@dataclass(frozen=True, slots=True)
class Example:
    """One input with its output, as character offsets."""

    start: int
    end: int
    label: str
    """The output, if it is short enough to be a class label; else empty."""


def find_examples(text: str) -> list[Example]:
    r"""Return the few-shot examples in *text*; empty unless there are at least two.

    Example:
        >>> text = "Input: fine\nOutput: good\n\nInput: bad\nOutput: poor\n\nInput: so so\nOutput:"
        >>> [text[e.start : e.end] for e in find_examples(text)]
        ['Input: fine\nOutput: good\n\n', 'Input: bad\nOutput: poor\n\n']
    """
    best: list[Example] = []
    for asks, answers in _PAIRS:
        if text.count(asks) > _FEWEST - 1 and text.count(answers) >= _FEWEST:
            found = _pairs(text, asks, answers)
            if len(found) > len(best):
                best = found
    return best if len(best) >= _FEWEST else []


def _pairs(text: str, asks: str, answers: str) -> list[Example]:
    mark = re.compile(
        rf"^[ \t]*(?:\*\*)?(?:(?P<asks>{asks})"
        rf"|{answers})(?: ?\d{{1,3}})?(?:\*\*)? ?[:：](?:\*\*)?[ \t]*",
        re.MULTILINE | re.IGNORECASE,
    )
    marks = _outside_fences(text, list(mark.finditer(text)))
    pairs = [
        (at, first, second)
        for at, (first, second) in enumerate(itertools.pairwise(marks))
        if first["asks"] is not None and second["asks"] is None
    ]
    found: list[Example] = []
    most = 1
    for number, (at, first, second) in enumerate(pairs):
        following = marks[at + 2].start() if at + 2 < len(marks) else len(text)
        is_last = number + 1 == len(pairs) or _is_open(text, marks, pairs[number + 1])
        end = _output_end(text, second.end(), following, most if is_last else None)
        if not text[second.end() : following].strip():
            continue
        most = max(most, len(_BLANK_LINE.findall(text[first.start() : end].rstrip())) + 1)
        output = text[second.end() : end].strip()
        found.append(Example(_with_title(text, first.start()), end, _label(output)))
    return found


def _is_open(text: str, marks: Sequence[re.Match[str]], pair: tuple[int, Any, Any]) -> bool:
    """Say whether nothing stands behind the answer's label: it is the model's to fill."""
    at, _, second = pair
    following = marks[at + 2].start() if at + 2 < len(marks) else len(text)
    return not text[second.end() : following].strip()


_BLANK_LINE = re.compile(r"\r?\n[ \t]*\r?\n\s*")
_FENCE = re.compile(r"^[ \t]*(?:`{3,}|~{3,})", re.MULTILINE)


def _outside_fences(text: str, marks: list[re.Match[str]]) -> list[re.Match[str]]:
    """Leave out what looks like a label but stands in a fence."""
    fences = [match.start() for match in _FENCE.finditer(text)]
    return [m for m in marks if bisect_left(fences, m.start()) % 2 == 0] if fences else marks


def _output_end(text: str, start: int, following: int, most: int | None) -> int:
    """Return the end of an output: where the next input begins, or behind *most* paragraphs."""
    title = _TITLE.search(text, start, following)
    end = title.start() if title else following
    if most is None:
        return end
    fences = [match.start() for match in _FENCE.finditer(text, start, end)]
    paragraphs = 0
    for blank in _BLANK_LINE.finditer(text, start, end):
        if bisect_left(fences, blank.start()) % 2 == 0:
            paragraphs += 1
            if paragraphs >= most:
                return blank.end()
    return end


def _with_title(text: str, start: int) -> int:
    """Take in an "Example 3:" on the line above."""
    above = text.rfind("\n", 0, max(0, start - 1)) + 1
    return above if start and _TITLE.fullmatch(text, above, start) else start


_LONGEST_LABEL = 40


def _label(output: str) -> str:
    return output if len(output) <= _LONGEST_LABEL and "\n" not in output else ""


def cover_labels(examples: Sequence[Example], likely: list[float]) -> None:
    """Lift the best example of each class above all others, if the outputs are classes.

    Args:
        examples: In order.
        likely: How similar each is to the input; changed in place.
    """
    counts = Counter(example.label for example in examples)
    if "" in counts or len(counts) == len(examples) or not likely:
        return
    top = max(likely) or 1.0
    for label in counts:
        best = max(
            (at for at, example in enumerate(examples) if example.label == label),
            key=lambda at: likely[at],
        )
        likely[best] += top
