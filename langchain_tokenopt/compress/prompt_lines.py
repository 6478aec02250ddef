"""The lines of a prompt, and the marks with which a line may begin a passage.

A mark is found by its shape: a number in brackets, a word before a colon, a heading, a tag. Which
words it has does not matter, only whether it comes back.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final, Literal, NamedTuple

from langchain_tokenopt.compress.examples import is_pair
from langchain_tokenopt.compress.segments import Segment

__all__ = [
    "LONGEST_TITLE", "LONG_LINE", "OPEN_KINDS", "SHORT", "Line", "Mark", "behind_blanks",
    "ends_with_colon", "instructs", "is_fence", "is_frame_line", "is_prose_block", "is_rule",
    "is_title", "key_mark", "lines_of", "size_of", "typical",
]  # fmt: skip

LONGEST_TITLE: Final = 160
"""Characters."""
LONG_LINE: Final = 200
"""Characters. Lines as long as that are not wrapped: each is a paragraph."""
SHORT: Final = 0.35
"""Share of a typical passage below which a paragraph at the edge is none."""

MarkKind = Literal[
    "number", "heading", "banner", "key", "bold", "bracket", "bullet", "tag", "phrase", "shape"
]


class Mark(NamedTuple):
    """What a line begins with."""

    kind: MarkKind
    name: str
    """The same for marks of one shape."""
    end: int
    """Where in the line it ends."""
    number: str = ""


class Line(NamedTuple):
    """A line that is not blank, or a block of code or data that counts as one."""

    start: int
    end: int
    """With its line break."""
    text: str
    """Without white space around it."""
    paragraph: int
    """How many blank lines stand before it."""
    marks: list[Mark]


_RULE: Final = re.compile(r"[-=*_~#+•—–]{3,}|(?:[-*_•] ){2,}[-*_•]|<hr ?/?>|\f", re.IGNORECASE)
_FENCE: Final = re.compile(r"(?:`{3,}|~{3,})[\w+-]*|\"{3}|'{3}")
_TAG: Final = re.compile(r"<(?P<name>[A-Za-z][\w:.-]{0,60})(?:\s[^<>]{0,500})?/?>")
_ONLY_TAGS: Final = re.compile(r"(?:</?[A-Za-z][\w:.-]{0,60}(?:\s[^<>]{0,500})?/?>\s*)+")
_NUMBERED: Final = re.compile(
    r"(?P<before>[^\w\s]{0,4}(?:[^\W\d_]{1,20}[ ._#:-]{1,2}){0,3}[\[(（【#№]{0,2})"
    r"(?P<number>\d{1,4}|[A-Z]|[ivx]{1,5})"
    r"(?P<after>[\])）】.:：>|—–-]{1,3}|\*\*|(?= \())(?=\s|\W|$|(?<=[】\])）:：])\w)"
)
_KEY: Final = re.compile(
    r"(?P<item>[-*•] )?(?P<quote>[\"'*_]{0,2})"
    r"(?P<key>[^\W\d_][\w-]{0,30}(?: [\w-]{1,20}){0,2})"
    r"(?:(?P=quote)[ ]?[:：](?:\*\*)?|[:：](?P=quote))"
)
_HEADING: Final = re.compile(r"#{1,6}(?= )")
_BANNER: Final = re.compile(r"(?P<mark>([-=*_~#+>])\2{1,})(?= ?[^\s\-=*_~#+>])")
_BOLD: Final = re.compile(r"(?:\*\*|__)(?=\S)")
_BULLET: Final = re.compile(r"[-*+•‣–>](?= )")
_BRACKETED: Final = re.compile(
    r"\[[^\n\[\]]{1,80}\]|\([^\n()]{1,60}\)|（[^\n（）]{1,60}）|【[^\n【】]{1,60}】"
)
_BRACKET_KEY: Final = re.compile(r"[\[(（【][^\W\d_][\w -]{0,30}[:：]")
_DIGITS: Final = re.compile(r"\d+")
_LONGEST_SHAPE: Final = 60
"""Characters. Shorter lines mark a passage when all but their numbers comes back."""
_PREFIX: Final = re.compile(
    r"(?!</?[A-Za-z])"
    r"(?:[^\w\s]{0,4}[\w.-]{1,24}[=(\[{|\"«»:>]{1,2}|[^\w\s\"'“‘(«]{1,4}|[A-Z]{2,20}\b)"
)
"""What a longer line may begin with that is no word of a sentence."""


def lines_of(text: str, segments: Sequence[Segment]) -> list[Line]:
    """Return the lines of *text* that are not blank.

    Code, data, tables and chats count as one line each: what stands in them marks no passage.
    """
    lines: list[Line] = []
    position = paragraph = 0
    blocks = iter([*_blocks(text, segments), (len(text) + 1, 0)])
    start, stop = next(blocks)
    while position < len(text):
        while start < position:
            start, stop = next(blocks)
        newline = text.find("\n", position)
        is_block = start == position
        end = stop if is_block else newline + 1 if newline >= 0 else len(text)
        if is_block:
            first = text[position:end].strip().split("\n", 1)[0]
            lines.append(Line(position, end, first, paragraph, []))
        else:
            for cut in (*_cuts_within(text, position, end), end):
                stripped = text[position:cut].strip(_SPACES)
                if stripped:
                    marks = list(_marks_of(stripped))
                    paragraph += stripped[0] == "#" and any(m.kind == "heading" for m in marks)
                    lines.append(Line(position, cut, stripped, paragraph, marks))
                else:
                    paragraph += 1
                position = cut
        position = end
    for title, rule in pairwise(lines):
        if is_rule(rule) and rule.paragraph == title.paragraph and is_title(title):
            title.marks.append(Mark("heading", rule.text[0] * 3, len(title.text)))
    return lines


_SPACES: Final = " \t\r\n\v"
_INLINE_MARK: Final = re.compile(
    r"(?<=[.!?。！？:：)\]\"”»']) (?=(?:[\[(【]\d{1,4}[\])】]|\d{1,3}[.)]"
    r"|[^\W\d_]{1,20} \d{1,4}[.:)]|[^\W\d_][\w-]{0,30}(?: [\w-]{1,20}){0,2}[:：])\s)"
)
"""Where within a line something begins as a line of its own would."""
_INLINE_LABEL: Final = re.compile(r"(?<![^\s])([^\W\d_]+)[:：](?=\s|$)")


def _cuts_within(text: str, start: int, end: int) -> Sequence[int]:
    """A form feed is a line of its own; where most of a text is on one line, so is each mark.

    Few-shot examples on one line stay on it.
    """
    at = text.find("\f", start, end)
    is_long = end - start > max(LONG_LINE, len(text) // 2)
    if at < 0 and not is_long:
        return ()
    cuts = set()
    while at >= 0:
        cuts |= {at, at + 1}
        at = text.find("\f", at + 1, end)
    labels = Counter(_INLINE_LABEL.findall(text, start, end)) if is_long else {}
    if is_long and not is_pair([name for name, count in labels.items() if count > 1]):
        cuts |= {found.end() for found in _INLINE_MARK.finditer(text, start, end)}
    return sorted(cuts - {start, end})


OPEN_KINDS: Final = frozenset({"prose", "heading", "label", "tag", "list", "turn"})
"""Kinds of segments in which a line may mark a passage."""


def _blocks(text: str, segments: Sequence[Segment]) -> Iterator[tuple[int, int]]:
    for segment in segments:
        if segment.kind not in OPEN_KINDS and not is_prose_block(text, segment):
            yield segment.start, segment.end


def is_prose_block(text: str, segment: Segment) -> bool:
    """Say whether a fence, a table or a chat is running text: most of it is in long lines."""
    if segment.kind in ("json", "diff"):
        return False
    lines = text[segment.start : segment.end].split("\n")
    return typical(list(map(len, lines))) >= LONG_LINE and not _is_json(max(lines, key=len))


def _is_json(line: str) -> bool:
    if not line.lstrip().startswith(("{", "[")):
        return False
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def typical(sizes: Sequence[int]) -> int:
    """Return the size such that half of everything is in pieces of at least that.

    Example:
        >>> typical([1, 1, 1, 90, 100])
        100
    """
    half, total = sum(sizes) / 2, 0
    for size in sorted(sizes, reverse=True):
        total += size
        if total >= half:
            return size
    return 0


def _marks_of(line: str) -> Iterator[Mark]:
    opens = not line[0].isalnum()  # all marks but a number, a key and a shape open with a sign
    if opens and _RULE.fullmatch(line):
        return
    if found := _NUMBERED.match(line):
        name = f"{found['before'].lower()}0{found['after']}"
        yield Mark("number", name, found.end(), found["number"])
    if opens:
        yield from _opening_marks(line)
    beginning = line[:_LONGEST_KEY]
    if (":" in beginning or "：" in beginning) and (found := _KEY.match(line)):
        yield Mark("key", f"{found['item'] or ''}{found['key'].lower()}:", found.end())
    if found := _BOLD.match(line):
        yield Mark("bold", found.group(), found.end())
    if opens and (found := _BRACKET_KEY.match(line)):
        yield Mark("bracket", found.group().lower(), found.end())
    elif opens and (found := _BRACKETED.match(line)):
        yield Mark("bracket", line[0], found.end())
    if len(line) <= LONGEST_TITLE and line[-1] in ":：" and line.count(" ") > 1:
        words = line.split(" ", 2)[:2]
        yield Mark("phrase", " ".join(map(_form_of, words)), len(" ".join(words)))
    if opens and (found := _BULLET.match(line)):
        yield Mark("bullet", found.group(), found.end())
    elif len(line) <= _LONGEST_SHAPE and not (opens and _ONLY_TAGS.fullmatch(line)):
        number = _DIGITS.search(line)
        name = _DIGITS.sub("0", line.lower()) if number else line.lower()
        yield Mark("shape", name, len(line), number.group()[:9] if number else "")
    elif found := _PREFIX.match(line):
        yield Mark("shape", _DIGITS.sub("0", found.group().lower()), found.end())


def _opening_marks(line: str) -> Iterator[Mark]:
    if found := _TAG.match(line):
        yield Mark("tag", f"<{found['name'].lower()}", found.end())
    if found := _HEADING.match(line):
        yield Mark("heading", found.group(), found.end())
    elif found := _BANNER.match(line):
        yield Mark("banner", found["mark"], found.end())


_LONGEST_KEY: Final = 82
"""Characters in which the colon behind a key stands."""


def _form_of(word: str) -> str:
    """Return what words have in common that stand in one place: a number, a name, or themselves."""
    return "0" if _DIGITS.search(word) else "A" if word[:1].isupper() else word


def key_mark(line: Line) -> Mark | None:
    """Return the mark of a line that begins with a label."""
    return next((mark for mark in line.marks if mark.kind == "key"), None)


def is_rule(line: Line) -> bool:
    """Say whether a line is nothing but a rule."""
    return _RULE.fullmatch(line.text) is not None


def is_fence(line: Line) -> bool:
    """Say whether a line is nothing but a fence, of backticks, tildes or quotation marks."""
    is_block = line.end - line.start > 2 * LONGEST_TITLE
    return not is_block and _FENCE.fullmatch(line.text) is not None


def is_frame_line(line: Line) -> bool:
    """Say whether a line is a rule, a fence or nothing but tags."""
    return is_rule(line) or bool(_FENCE.fullmatch(line.text) or _ONLY_TAGS.fullmatch(line.text))


def ends_with_colon(line: Line) -> bool:
    """Say whether a line announces what follows."""
    return line.text.endswith((":", "："))


def is_title(line: Line) -> bool:
    """Say whether a line may be a title: short, and no sentence."""
    text = line.text
    is_sentence = text.endswith((".", "!", "。", "！", ",", ";")) and (
        text.count(" ") > 3 or (text[-1] in "。！" and len(text) > _LONGEST_WIDE_TITLE)
    )
    is_block = line.end - line.start > len(text) + _LONGEST_MARGIN
    return not (is_block or is_sentence or len(text) > LONGEST_TITLE or is_frame_line(line))


_LONGEST_WIDE_TITLE: Final = 15
"""Characters of a title with a full stop in a script without spaces."""
_LONGEST_MARGIN: Final = 40
"""Characters of white space around a line; a block of several lines counts as one."""


def size_of(lines: Sequence[Line], group: range) -> int:
    """Return the characters from the first to the last line of *group*."""
    return lines[group[-1]].end - lines[group[0]].start if group else 0


def heading_of(line: Line) -> str:
    """Return the sign of a heading, or nothing."""
    return next((mark.name for mark in line.marks if mark.kind == "heading"), "")


def behind_blanks(text: str, end: int) -> int:
    """Return where what follows *end* begins, with the margin of its line."""
    at = end
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    line = text.rfind("\n", max(0, end - 1), at) + 1
    return line if end <= line < at < len(text) else at


_INSTRUCTS: Final = re.compile(
    r"(?:you (?:are|will|must|should)|your (?:task|job|role)|please|do not|don['’]t|never|always"
    r"|use|using|answer|given|based on|according to|read|consider|write|summari[sz]e|from the"
    r"|du bist|bitte|beantworte|anhand|eres|responde|usa|por favor|vous êtes"
    r"|utilise[zr]?|réponde?[zs]?|benutzen?|verwenden?|nutze|utiliza|utilice|utilizza|gebruik"
    r"|используй(?:те)?|отвечай(?:те)?"
    r"|请|根据|你是|次の|あなたは)\b",
    re.IGNORECASE,
)


def instructs(line: Line) -> bool:
    """Say whether a line begins as instructions often do, where its shape does not decide."""
    return _INSTRUCTS.match(line.text) is not None
