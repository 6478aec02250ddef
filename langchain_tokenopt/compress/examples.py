"""Few-shot examples, found by their structure: labels or elements that come back together.

An example runs from its input's label to the next input. Only the last one ends before: behind as
many paragraphs as the others have at most. The last input, whose output is empty or missing, is
what the user asks and never an example; neither is any text behind the examples. In XML an example
is an element with an input and an output in it, or an input and the output right behind it.
"""

from __future__ import annotations

import itertools
import operator
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from langchain_tokenopt.compress.markup import Element, elements_of

__all__ = ["Example", "cover_labels", "find_examples", "holds_pairs", "is_pair"]

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
    rest: int = 0
    """Where what stands behind it ends: an instruction, or more of the output."""


def find_examples(text: str) -> list[Example]:
    r"""Return the few-shot examples in *text*; empty unless there are at least two.

    Example:
        >>> text = "Input: fine\nOutput: good\n\nInput: bad\nOutput: poor\n\nInput: so so\nOutput:"
        >>> [text[e.start : e.end] for e in find_examples(text)]
        ['Input: fine\nOutput: good\n\n', 'Input: bad\nOutput: poor\n\n']
    """
    starts = [0, *(newline.end() for newline in re.finditer("\n", text))]
    found = [_cycles(text, starts), _of_elements(text), _on_one_line(text), _with_sign(text)]
    best = max(found, key=len)
    begins = "\n".join([text[start : start + _BEGINNING] for start in starts]).lower()
    for asks, answers in _NAMES:
        if begins.count(asks) >= _FEWEST and begins.count(answers) >= _FEWEST:
            best = max(best, _pairs(text, starts, asks, answers), key=len)
    return best if len(best) >= _FEWEST else []


_BEGINNING: Final = 60
"""Characters of a line in which a label stands."""


def _at_lines(pattern: re.Pattern[str], text: str, starts: Sequence[int]) -> list[re.Match[str]]:
    """Return the matches that begin a line and do not stand in a fence."""
    marks = [mark for start in starts if (mark := pattern.match(text, start))]
    return _outside_fences(text, marks) if marks else marks


def is_pair(names: Iterable[str]) -> bool:
    """Say whether there are an input and its output among the *names* of what stands together.

    Example:
        >>> is_pair(["question", "answer", "id"]), is_pair(["title", "text"])
        (True, False)
    """
    found = {name.lower() for name in names}
    return any(ask in found and answer in found for ask, answer in _NAMES)


_NAMES: Final = [(ask.lower(), answer.lower()) for ask, answer in _PAIRS]
_QUOTED_KEY: Final = re.compile(r"\"(\w{1,20})\"\s*:")
_INDENTED_KEY: Final = re.compile(r"\n(?:- | {2})(\w{1,20}):(?=\s)")
_HEADER: Final = re.compile(r"^\|([^|\n]{1,30})\|([^|\n]{1,30})\|[ \t]*\n\|[ \t]*:?-", re.MULTILINE)


def holds_pairs(text: str) -> bool:
    """Say whether data in *text* is made of inputs with their outputs."""
    counts = Counter(_QUOTED_KEY.findall(text) + _INDENTED_KEY.findall(f"\n{text}"))
    if is_pair([key for key, count in counts.items() if count >= _FEWEST]):
        return True
    headers = _HEADER.findall(text) if "|" in text else []
    return any(is_pair((a.strip(), b.strip())) for a, b in headers)


# --- labels of the prompt's own ------------------------------------------------------------------

_ANY_LABEL: Final = re.compile(
    r"[ \t]*(?:(?P<head>#{1,6} +|\*\*|__)|[-*] +)?"
    r"(?P<name>[^\W\d_](?:[^\W_]|[^\x00-\x7f\s\w：]| (?=\w)){0,30}?)"
    r"(?: ?#?\d{1,3})?"
    r"(?:(?:\*\*|__)? ?[:：](?:\*\*|__)?|(?(head)(?=[ \t*_]*$)|(?!)))[ \t]*",
    re.MULTILINE,
)
_LONGEST_CYCLE: Final = 6


def _cycles(text: str, starts: Sequence[int]) -> list[Example]:
    """Return what has the same labels as the end of the text, whose last label is to be filled."""
    text_end = len(text.rstrip())
    last = text.rfind("\n", 0, text_end) + 1
    open_label = _ANY_LABEL.match(text, last)
    if open_label is None or open_label.end() < text_end:
        return []
    marks = _at_lines(_ANY_LABEL, text, starts)
    counts = Counter(mark["name"].lower() for mark in marks)
    own = open_label["name"].lower()
    marks = [
        mark for mark in marks
        if counts[mark["name"].lower()] >= max(2, counts[own] - 1)
        and not _TITLE.match(text, mark.start())
    ]  # fmt: skip
    cycles: list[list[re.Match[str]]] = [[]]
    for mark in marks:
        cycles[-1].append(mark)
        if mark["name"].lower() == own:
            cycles.append([])
    *cycles, last_cycle, behind = cycles if len(cycles) > _FEWEST else [[], [], marks[:1]]
    if behind or not cycles or not 1 < len(cycles[-1]) <= _LONGEST_CYCLE:
        return []
    shape, end = _names(cycles[-1]), _names(last_cycle)
    if shape[-len(end) :] != end and end[-len(shape) :] != shape:
        return []
    while _names(cycles[0]) != shape:
        del cycles[0]
    found: list[Example] = []
    most = 1
    for cycle, following in itertools.pairwise([*cycles, last_cycle]):
        if _names(cycle) != shape:
            return []
        output, behind_it = cycle[-1].end(), _with_title(text, following[0].start())
        stop = _output_end(text, output, behind_it, most if following is last_cycle else None)
        most = max(most, _paragraphs(text, output, stop))
        begin = _with_title(text, cycle[0].start())
        found.append(Example(begin, stop, _label(text[output:stop].strip()), behind_it))
    return found


def _names(marks: Sequence[re.Match[str]]) -> list[str]:
    return [mark["name"].lower() for mark in marks]


def _paragraphs(text: str, start: int, end: int) -> int:
    return len(_BLANK_LINE.findall(text[start:end].rstrip())) + 1


# --- labels and signs within lines ----------------------------------------------------------------

_OPEN_LABEL: Final = re.compile(r"(?:(?<=\s)|^)(?:[^\s:：]{1,20} ){0,2}[^\s:：]{1,20} ?[:：]\Z")
_LABEL_WORD: Final = re.compile(r"[^\s:：]{1,20} ?[:：]")
_FEWEST_INLINE: Final = 3


def _on_one_line(text: str) -> list[Example]:
    """Return inputs and outputs in the last line, under labels of which the last one is open."""
    end = len(text.rstrip())
    start = text.rfind("\n", 0, end) + 1
    line = text[start:end]
    found = _OPEN_LABEL.search(line, max(0, len(line) - 70))
    if found is None:
        return []
    answer = _longest(line, found.group(), len(line))
    if line.count(answer) < _FEWEST_INLINE:
        return []
    answers = [match.start() for match in re.finditer(re.escape(answer), line)]
    asks = [_LABEL_WORD.search(line, at + len(answer)) for at in answers[:-1]]
    if not all(asks):
        return []
    first = asks[0].group() if asks[0] else ""
    if any(ask is None or ask.group() != first for ask in asks):
        return []
    head = _longest(line, line[: asks[0].end() if asks[0] else 0], answers[1])
    begins = [match.start() for match in re.finditer(re.escape(head), line)]
    if len(begins) != len(answers) or any(map(operator.gt, begins, answers)):
        return []
    return [
        Example(start + a, start + b, _label(line[at + len(answer) : b].strip()))
        for (a, b), at in zip(itertools.pairwise(begins), answers, strict=False)
    ]


def _longest(line: str, words: str, end: int) -> str:
    """Return as many of the last *words* as come back as often as the last one."""
    parts = words.split(" ")
    at = len(parts) - (2 if parts[-1] in (":", "：") else 1)
    label = " ".join(parts[at:])
    while at > 0 and len(parts) - at < 4:
        longer = " ".join(parts[at - 1 :])
        if line.count(longer) < max(_FEWEST_INLINE - 1, line.count(label)):
            break
        label, at = longer, at - 1
    return label


_SIGN: Final = re.compile(r"(?<=\S)([ \t]*(?:->|=>|→|⇒|➜|::|\|\||=))[ \t]*\Z")
_SEPARATORS: Final = ("; ", ", ", " | ", "\t", ";", ",")


def _with_sign(text: str) -> list[Example]:
    """Return lines, or parts of the last line, with the sign in them behind which the text ends."""
    end = len(text.rstrip())
    found = _SIGN.search(text[:end], max(0, end - 10))
    if found is None:
        return []
    sign = found.group(1).strip()
    start = text.rfind("\n", 0, end) + 1
    if text.count(sign, start, end) == 1:
        begins = [start]
        while begins[0] > 0 and _is_pair(line := text[_above(text, begins[0]) : begins[0]], sign):
            begins.insert(0, begins[0] - len(line))
    else:
        begins = _parts_with(text, start, end, sign)
    return [
        Example(a, b, _label(text[a:b].split(sign, 1)[1].strip(" ;,|\r\n\t")))
        for a, b in itertools.pairwise(begins)
    ]


def _above(text: str, at: int) -> int:
    return text.rfind("\n", 0, at - 1) + 1


def _is_pair(part: str, sign: str) -> bool:
    return part.count(sign) == 1 and all(side.strip() for side in part.split(sign))


def _parts_with(text: str, start: int, end: int, sign: str) -> list[int]:
    """Return where parts of a line begin that each hold the sign once."""
    for separator in _SEPARATORS:
        parts = text[start:end].split(separator)
        if len(parts) > _FEWEST and all(_is_pair(part, sign) for part in parts[:-1]):
            sizes = [len(part) + len(separator) for part in parts[:-1]]
            return [start, *(start + at for at in itertools.accumulate(sizes))]
    return []


# --- elements ------------------------------------------------------------------------------------

_EXAMPLES: Final = re.compile(r"example|shot|sample|demo|beispiel|ejemplo|exemple|esempio|例", re.I)
_BEHIND: Final = re.compile(r"[ \t]*\r?\n\s*|")


def _of_elements(text: str) -> list[Example]:
    """Return the examples in XML: the most that are siblings."""
    if text.count("</") < 2 * _FEWEST:
        return []
    outer = elements_of(text)
    alone = {element.name.lower() for element in outer if not element.inner}
    best: list[Example] = []
    levels: list[tuple[str, Sequence[Element]]] = [("", outer)]
    while levels:
        name, siblings = levels.pop()
        for found in (_nested(text, name, siblings, alone), _in_pairs(text, siblings)):
            best = max(best, found, key=len)
        levels += [(element.name, element.inner) for element in siblings if element.inner]
    return best


def _nested(text: str, around: str, siblings: Sequence[Element], alone: set[str]) -> list[Example]:
    """Return the elements of one name in which an input and its output stand."""
    counts = Counter(element.name for element in siblings if len(element.inner) > 1)
    if not counts:
        return []
    ((name, count),) = counts.most_common(1)
    same = [e for e in siblings if e.name == name and len(e.inner) > 1]
    names = [inner.name.lower() for inner in same[0].inner]
    is_example = (
        is_pair(names) or _EXAMPLES.search(name) or _EXAMPLES.search(around) or names[0] in alone
    )
    if count < _FEWEST or len(set(names)) < 2 or not is_example:
        return []
    return [
        _element(text, e.start, e.end, text[e.inner[-1].inside : e.inner[-1].close]) for e in same
    ]


def _in_pairs(text: str, siblings: Sequence[Element]) -> list[Example]:
    """Return inputs with the outputs right behind them."""
    return [
        _element(text, one.start, other.end, text[other.inside : other.close])
        for one, other in itertools.pairwise(siblings)
        if (one.name.lower(), other.name.lower()) in _NAMES
        and not text[one.end : other.start].strip()
    ]  # fmt: skip


def _element(text: str, start: int, end: int, output: str) -> Example:
    begin = text.rfind("\n", 0, start) + 1
    found = _BEHIND.match(text, end)
    return Example(
        start if text[begin:start].strip() else begin,
        found.end() if found else end,
        _label(output.strip()),
    )


# --- known pairs of labels -----------------------------------------------------------------------


def _pairs(text: str, starts: Sequence[int], asks: str, answers: str) -> list[Example]:
    mark = re.compile(
        rf"[ \t]*(?:\*\*)?(?:(?P<asks>{asks})"
        rf"|{answers})(?: ?\d{{1,3}})?(?:\*\*)? ?[:：](?:\*\*)?[ \t]*",
        re.IGNORECASE,
    )
    marks = _at_lines(mark, text, starts)
    pairs = [
        (at, first, second)
        for at, (first, second) in enumerate(itertools.pairwise(marks))
        if first["asks"] is not None and second["asks"] is None
    ]
    found: list[Example] = []
    most = 1
    for number, (at, first, second) in enumerate(pairs):
        following = _with_title(text, marks[at + 2].start()) if at + 2 < len(marks) else len(text)
        is_last = number + 1 == len(pairs) or _is_open(text, marks, pairs[number + 1])
        end = _output_end(text, second.end(), following, most if is_last else None)
        if not text[second.end() : following].strip():
            continue
        most = max(most, _paragraphs(text, first.start(), end))
        output = text[second.end() : end].strip()
        found.append(Example(_with_title(text, first.start()), end, _label(output), following))
    return found


def _is_open(text: str, marks: Sequence[re.Match[str]], pair: tuple[int, Any, Any]) -> bool:
    """Say whether nothing stands behind the answer's label: it is the model's to fill."""
    at, _, second = pair
    following = marks[at + 2].start() if at + 2 < len(marks) else len(text)
    return not text[second.end() : following].strip()


_BLANK_LINE = re.compile(r"\r?\n[ \t]*\r?\n\s*")
_FENCE = re.compile(r"(?:^[ \t]*|(?<=[:：>*])[ \t]*)(?:`{3,}|~{3,})", re.MULTILINE)


def _outside_fences(text: str, marks: list[re.Match[str]]) -> list[re.Match[str]]:
    """Leave out what looks like a label but stands in a fence."""
    has_fences = "```" in text or "~~~" in text
    fences = [match.start() for match in _FENCE.finditer(text)] if has_fences else []
    return [m for m in marks if bisect_left(fences, m.start()) % 2 == 0] if fences else marks


def _output_end(text: str, start: int, following: int, most: int | None) -> int:
    """Return the end of an output: where the next input begins, or behind *most* paragraphs."""
    title = _TITLE.search(text, start, following)
    end = title.start() if title else following
    if most is None:
        return end
    fences = [match.start() for match in _FENCE.finditer(text, max(0, start - 3), end)]
    paragraphs = 0
    for blank in _BLANK_LINE.finditer(text, start, end):
        if bisect_left(fences, blank.start()) % 2 == 0:
            paragraphs += 1
            if paragraphs >= most:
                return blank.end()
    return end


def _with_title(text: str, start: int) -> int:
    """Take in an "Example 3:" or a heading on the line above."""
    above = text.rfind("\n", 0, max(0, start - 1)) + 1
    titled = _TITLE.fullmatch(text, above, start) or _HEADING.fullmatch(text, above, start)
    return above if start and titled else start


_HEADING = re.compile(r"#{1,6} [^\n]{1,60}\n")
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
