"""Where a prompt quotes passages, whatever their layout: found by what comes back.

Passages repeat a mark: a number, a heading, a label, a tag, a rule, a blank line, a quotation mark
of JSON. Each kind of mark proposes records; the proposal that explains most of the text, in the
most even pieces, is taken. No label is known by name here.
"""

from __future__ import annotations

import re
import statistics
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from langchain_tokenopt.compress.quoted_records import SHORTEST_BODY, Record, quoted_records

__all__ = ["Line", "Structure", "lines_of", "structure_of"]


@dataclass(slots=True)
class Structure:
    """The passages of a text."""

    records: list[Record] = field(default_factory=list)
    """In order, without overlaps. What stands outside of them instructs, asks or frames."""
    quoted: bool = False
    """Whether the records are strings of a data format."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line that is not blank."""

    start: int
    end: int
    """With its line break."""
    text: str
    """Without white space around it."""
    paragraph: int
    """How many blank lines or fences stand before it."""


FEWEST: Final = 2
SHORTEST_PASSAGE: Final = 60
"""Characters; pieces that are shorter on average are lines of one passage."""
LONGEST_TITLE: Final = 160

RULE: Final = re.compile(r"[-=*_~#+•—–]{3,}|(?:[-*_•] ){2,}[-*_•]|<hr ?/?>", re.IGNORECASE)
_FENCE: Final = re.compile(r"(?:`{3,}|~{3,})[\w+-]*")
TAG: Final = re.compile(
    r"<(?P<close>/?)(?P<name>[A-Za-z][\w:.-]{0,60})(?:\s[^<>]{0,2000})?(?P<empty>/?)>"
)

_ENUMERATED: Final = re.compile(
    r"(?P<before>[^\w\s]{0,4}(?:[^\W\d_]{1,20}[ ._#:-]{1,2}){0,3}[\[(（【#№]{0,2})"
    r"(?P<number>\d{1,4}|[A-Z]|[ivx]{1,5})"
    r"(?P<after>[\])）】.:：>|—–-]{1,3}|\*\*)(?=\s|\W|$|(?<=[】\])）:：])\w)"
)
_KEY: Final = re.compile(
    r"(?:[-*•] )?(?P<quote>[\"'*_]{0,2})"
    r"(?P<key>[^\W\d_][\w-]{0,30}(?: [\w-]{1,20}){0,2})(?P=quote)[ ]?[:：](?P<space>\*\*)?"
)
_HEADING: Final = re.compile(r"#{1,6}(?= )")
_BANNER: Final = re.compile(r"(?P<mark>([-=*_~#+>])\2{1,})(?= ?[^\s\-=*_~#+>])")
_BOLD: Final = re.compile(r"(?:\*\*|__)(?=\S)")
_BULLET: Final = re.compile(r"[-*+•‣–>](?= )")
_BRACKETED: Final = re.compile(r"[\[(<（【][^\n\[\]()<>]{1,60}[\])>）】]")
_NUMBER: Final = re.compile(r"\d+")


def lines_of(text: str) -> list[Line]:
    """Return the lines of *text* that are not blank."""
    lines: list[Line] = []
    position = paragraph = 0
    for raw in text.split("\n"):
        stripped = raw.strip()
        end = min(len(text), position + len(raw) + 1)
        if stripped:
            lines.append(Line(position, end, stripped, paragraph))
        else:
            paragraph += 1
        position = end
    return lines


def structure_of(text: str) -> Structure:
    r"""Return the passages that *text* quotes; none when nothing in it comes back.

    Example:
        >>> tea, ice = "Tea is hot. " * 20, "Ice is cold. " * 20
        >>> text = f"Answer me.\n\n(1) {tea}\n\n(2) {ice}\n\nIs ice hot?"
        >>> [text[r.start : r.body] for r in structure_of(text).records]
        ['(1) ', '(2) ']
    """
    if len(text) < 2 * SHORTEST_PASSAGE:
        return Structure()
    best, value = Structure(), _LEAST_VALUE
    for strength, quoted, records in _proposals(text):
        found = strength * _explained(text, records)
        if found > value:
            best, value = Structure(records, quoted), found
    return best


_LEAST_VALUE: Final = 0.3


def _explained(text: str, records: Sequence[Record]) -> float:
    """Return how much of the text the records are, less the more uneven or tiny they are."""
    if len(records) < FEWEST:
        return 0.0
    lengths = [record.length for record in records]
    mean = statistics.fmean(lengths)
    uneven = statistics.pstdev(lengths) / mean if mean else 9.0
    covered = (records[-1].end - records[0].start) / len(text)
    return covered * min(1.0, mean / (2 * SHORTEST_PASSAGE)) / (1 + 0.3 * uneven)


def _proposals(text: str) -> Iterator[tuple[float, bool, list[Record]]]:
    quoted = quoted_records(text)
    if quoted:
        yield 1.4, True, quoted
    if text.count("<") >= 2 * FEWEST:
        for records in _tagged(text):
            yield 1.3, False, records
    lines = lines_of(text)
    yield 1.4, True, _rows(text, lines)
    for strength, ats in _marks(lines):
        yield strength, False, _records_at(text, lines, ats)
    yield 0.9, False, _between_rules(text, lines)
    yield 0.8, False, _paragraphs(text, lines)


# --- tags ----------------------------------------------------------------------------------------


def _tagged(text: str) -> Iterator[list[Record]]:
    """Propose the elements of each name that comes back."""
    opened: dict[str, list[tuple[int, int]]] = {}
    elements: dict[str, list[tuple[int, int, int, int]]] = {}
    tags: list[tuple[int, int]] = []
    for match in TAG.finditer(text):
        name = match["name"].lower()
        tags.append(match.span())
        if match["empty"]:
            continue
        if not match["close"]:
            opened.setdefault(name, []).append(match.span())
        elif opened.get(name):
            start, inside = opened[name].pop()
            elements.setdefault(name, []).append((start, inside, match.start(), match.end()))
    for found in elements.values():
        outer = _outermost(sorted(found))
        if len(outer) >= FEWEST:
            yield [_element(text, tags, *element) for element in outer]


def _outermost(
    elements: Sequence[tuple[int, int, int, int]],
) -> list[tuple[int, int, int, int]]:
    found: list[tuple[int, int, int, int]] = []
    for element in elements:
        if not found or element[0] >= found[-1][3]:
            found.append(element)
    return found


def _element(
    text: str, tags: Sequence[tuple[int, int]], start: int, inside: int, close: int, end: int
) -> Record:
    """The text of an element: its longest stretch without tags, or from one long one to another."""
    edges = [inside]
    for at in range(bisect_left(tags, (inside, 0)), len(tags)):
        if tags[at][0] >= close:
            break
        edges += tags[at]
    edges.append(close)
    stretches = [(edges[i], edges[i + 1]) for i in range(0, len(edges), 2)]
    longest = max(b - a for a, b in stretches)
    long = [(a, b) for a, b in stretches if b - a >= longest / 4]
    body, tail = long[0][0], long[-1][1]
    body += len(text[body:tail]) - len(text[body:tail].lstrip("\r\n"))
    found = re.compile(r"[ \t]*\r?\n?").match(text, end)
    return Record(start, min(body, tail), tail, found.end() if found else end)


def _rows(text: str, lines: Sequence[Line]) -> list[Record]:
    """Propose the rows of a piped table; the text of each is its longest cell."""
    made = []
    for line in lines:
        if line.text[0] != "|" or line.text[-1] != "|" or not any(map(str.isalnum, line.text)):
            continue
        cells = [match.span("inside") for match in _CELL.finditer(text, line.start, line.end)]
        body, tail = max(cells, key=lambda cell: cell[1] - cell[0], default=(0, 0))
        if tail - body >= SHORTEST_BODY:
            made.append(Record(line.start, body, tail, line.end))
    return made


_CELL: Final = re.compile(r"(?<=\|)[ \t]*+(?P<inside>[^|\n]*+)(?=\|)")


# --- marks at the beginning of lines -------------------------------------------------------------


def _marks(lines: Sequence[Line]) -> Iterator[tuple[float, list[int]]]:
    """Propose the lines that begin with the same kind of mark, the earliest first."""
    found: dict[str, list[int]] = {}
    numbers: dict[str, list[str]] = {}
    for at, line in enumerate(lines):
        if RULE.fullmatch(line.text):
            continue
        for signature, number in _signatures(line.text):
            if found.get(signature, [-1])[-1] == at:
                continue
            found.setdefault(signature, []).append(at)
            numbers.setdefault(signature, []).append(number)
    for signature, ats in found.items():
        if len(ats) >= FEWEST:
            yield _strength(signature, numbers[signature], ats, lines), ats


def _signatures(line: str) -> Iterator[tuple[str, str]]:
    if match := _ENUMERATED.match(line):
        yield f"number {match['before'].lower()}0{match['after']}", match["number"]
    if match := _HEADING.match(line):
        yield match.group(), ""
    elif match := _BANNER.match(line):
        yield match["mark"], ""
    if match := _KEY.match(line):
        yield f"{line[:1] if line[:1] in '-*•' else ''}{match['key'].lower()}:", ""
    if match := _BOLD.match(line):
        yield match.group(), ""
    if match := _BRACKETED.match(line):
        yield _NUMBER.sub("0", re.sub(r"[^\W\d_]+", "a", match.group())), ""
    if match := _BULLET.match(line):
        yield match.group(), ""


def _strength(
    signature: str, numbers: Sequence[str], ats: Sequence[int], lines: Sequence[Line]
) -> float:
    if numbers[0]:
        return 1.4 if _counts_up(numbers) else 0.6
    if signature[:1] == "#":
        return 1.2
    if signature[-1:] == ":":
        return 1.1
    return 1.0 if len(signature) > 1 else 0.8


def _counts_up(numbers: Sequence[str]) -> bool:
    """Whether most numbers are one more than the one before."""
    values = [int(n) if n.isdecimal() else _letter(n) for n in numbers]
    steps = sum(1 for one, other in pairwise(values) if other == one + 1)
    return steps >= 0.7 * (len(values) - 1)


def _letter(number: str) -> int:
    if number.islower():
        return {"i": 1, "ii": 2, "iii": 3, "iv": 4, "v": 5, "vi": 6, "vii": 7, "viii": 8,
                "ix": 9, "x": 10}.get(number, 0)  # fmt: skip
    return ord(number) - ord("A") + 1


def _records_at(text: str, lines: Sequence[Line], ats: Sequence[int]) -> list[Record]:
    """Cut the text at lines that begin a record; find each record's title and text."""
    end = _end_of_last(lines, ats)
    groups = [range(one, other) for one, other in pairwise([*ats, end])]
    keys = _template(lines, groups)
    return [_record(text, lines, group, keys) for group in groups]


def _end_of_last(lines: Sequence[Line], ats: Sequence[int]) -> int:
    """The last record has no successor: it ends where others of its shape would."""
    gaps = [lines[b - 1].paragraph - lines[a].paragraph for a, b in pairwise(ats)]
    counts = [b - a for a, b in pairwise(ats)]
    last, at = ats[-1], ats[-1] + 1
    known = {_key_of(line.text) for a, b in pairwise(ats) for line in lines[a:b]}
    most_gap, most_lines = max(gaps), max(counts)
    sizes = sorted(lines[b - 1].end - lines[a].start for a, b in pairwise(ats))
    typical = sizes[len(sizes) // 2]
    while at < len(lines):
        line = lines[at]
        gap = line.paragraph - lines[last].paragraph
        if gap > most_gap or (RULE.fullmatch(line.text) and gap >= 0):
            break
        is_complete = lines[at - 1].end - lines[last].start > 0.5 * typical
        if line.paragraph > lines[at - 1].paragraph and gap >= most_gap > 0 and is_complete:
            break
        if at - last >= most_lines and most_lines <= 4:
            break
        if TAG.match(line.text) or _FENCE.match(line.text):
            break
        key = _key_of(line.text)
        if key is not None and key not in known:
            break
        at += 1
    return at


def _key_of(line: str) -> str | None:
    match = _KEY.match(line)
    return match["key"].lower() if match else None


def _template(lines: Sequence[Line], groups: Sequence[range]) -> set[str]:
    """Return the labels that most records have."""
    counts: Counter[str] = Counter()
    for group in groups:
        counts.update({key for at in group if (key := _key_of(lines[at].text)) is not None})
    return {key for key, count in counts.items() if count > 0.6 * len(groups)}


def _record(text: str, lines: Sequence[Line], group: range, keys: set[str]) -> Record:
    start, end = lines[group[0]].start, lines[group[-1]].end
    while end < len(text) and text[end] in " \t\r\n":
        end += 1
    labelled = [at for at in group if _key_of(lines[at].text) in keys] if keys else []
    if labelled:
        return _labelled_record(text, lines, group, labelled, end)
    first = lines[group[0]]
    body = first.start + _mark_end(first.text) + text[first.start : first.end].index(first.text)
    if len(group) > 1 and len(first.text) <= LONGEST_TITLE and not _is_sentence(first.text):
        body = lines[group[1]].start
    return Record(start, body, end, end)


def _labelled_record(
    text: str, lines: Sequence[Line], group: range, labelled: Sequence[int], end: int
) -> Record:
    """The text is the longest value; labels before it are head, labels after it tail."""
    edges = [lines[at].start for at in labelled] + [end]
    sizes = [b - a for a, b in pairwise(edges)]
    best = max(range(len(sizes)), key=sizes.__getitem__)
    line = lines[labelled[best]]
    start = lines[group[0]].start
    indent = text[line.start : line.end].index(line.text)
    match = _KEY.match(line.text)
    body = line.start + indent + (match.end() if match else 0)
    following = next((at for at in group if at > labelled[best]), None)
    if (
        following is not None
        and following not in labelled
        and len(line.text) <= LONGEST_TITLE
        and (len(lines[following].text) > len(line.text) or _paragraph_ends(lines, following))
    ):
        body = lines[following].start  # "title: Tea", and the text on lines of its own
    return Record(start, body, edges[best + 1], end)


def _paragraph_ends(lines: Sequence[Line], at: int) -> bool:
    return at > 0 and lines[at - 1].paragraph < lines[at].paragraph


_TITLE_BEHIND: Final = re.compile(
    r"[ ]?\((?:[^()\n]|\([^()\n]*\)){1,200}\)[ :]?|[ ]?(?:\*\*|__)[^*_\n]{1,200}(?:\*\*|__)[:.]?"
    r"|[ ]?[\"“„«][^\"”«»\n]{1,160}[\"”“»]:"
)


def _mark_end(line: str) -> int:
    """Return where the mark of a record, with a title in brackets or bold, ends on its line."""
    end = 0
    for pattern in (_ENUMERATED, _BRACKETED, _HEADING, _BANNER, _BULLET):
        if match := pattern.match(line):
            end = match.end()
            break
    behind = _TITLE_BEHIND.match(line, end) or (_SHORT_KEY.match(line, end) if end else None)
    return behind.end() if behind else end


_SHORT_KEY: Final = re.compile(r" ?[^\n:：.!?]{1,60}[:：]\s")


def _is_sentence(line: str) -> bool:
    return line.endswith((".", "!", "?", "。", "！", "？", ",", ";")) and line.count(" ") > 3


# --- rules, paragraphs, lines --------------------------------------------------------------------


def _between_rules(text: str, lines: Sequence[Line]) -> list[Record]:
    """Propose what stands between rules; what is much shorter at the ends is no passage."""
    rules = Counter(line.text for line in lines if RULE.fullmatch(line.text))
    rule, count = rules.most_common(1)[0] if rules else ("", 0)
    if count < FEWEST:
        return []
    ats = [at for at, line in enumerate(lines) if line.text == rule]
    inner = [range(a + 1, b) for a, b in pairwise(ats) if b > a + 1]
    if not inner:
        return []
    sizes = sorted(lines[g[-1]].end - lines[g[0]].start for g in inner)
    typical = sizes[len(sizes) // 2]
    shape = max(lines[g[-1]].paragraph - lines[g[0]].paragraph for g in inner)
    made = [_plain(text, lines, group) for group in inner]
    before = _last_passage(lines, range(ats[0]), typical, shape)
    if before:
        made.insert(0, _plain(text, lines, before))
    after = _first_passage(lines, range(ats[-1] + 1, len(lines)), typical, shape)
    if after:
        made.append(_plain(text, lines, after))
    # the rule before a passage goes with it
    joined = [made[0]]
    for record in made[1:]:
        joined.append(Record(joined[-1].end, record.body, record.tail, record.end))
    return joined


def _plain(text: str, lines: Sequence[Line], group: range) -> Record:
    """A passage without a mark; a short first line is its title."""
    start, end = lines[group[0]].start, lines[group[-1]].end
    while end < len(text) and text[end] in " \t\r\n":
        end += 1
    first, body = lines[group[0]].text, start
    if (
        len(group) > 1
        and len(first) <= LONGEST_TITLE
        and not _is_sentence(first)
        and len(first) < 0.5 * (end - lines[group[1]].start)
    ):
        body = lines[group[1]].start
    return Record(start, body, end, end)


def _first_passage(lines: Sequence[Line], group: range, typical: int, shape: int) -> range | None:
    """Return the passage that *group* begins with, unless it is too short for one."""
    end = group.start
    while end < group.stop and lines[end].paragraph - lines[group.start].paragraph <= shape:
        end += 1
    if end == group.start or lines[end - 1].end - lines[group.start].start < _SHORT * typical:
        return None
    return range(group.start, end)


def _last_passage(lines: Sequence[Line], group: range, typical: int, shape: int) -> range | None:
    """Return the passage that *group* ends with, unless it is too short for one."""
    if not group:
        return None
    begin = group.stop - 1
    while begin > group.start and lines[group.stop - 1].paragraph == lines[begin - 1].paragraph:
        begin -= 1
    begin = _behind_announcement(lines, range(begin, group.stop), typical)
    if begin == group.stop:
        return None
    if lines[group.stop - 1].end - lines[begin].start < _SHORT * typical:
        return None
    return range(begin, group.stop)


_SHORT: Final = 0.35
"""Share of a typical passage below which a paragraph at the edge is none."""


def _behind_announcement(lines: Sequence[Line], group: range, typical: int) -> int:
    """Return the first line of *group* that is no instruction, label or rule."""
    at = group.start
    while at < group.stop - 1 and (
        lines[at].text.endswith((":", "："))
        or RULE.fullmatch(lines[at].text)
        or TAG.fullmatch(lines[at].text)
        or _FENCE.fullmatch(lines[at].text)
        or (len(lines[at + 1].text) > _SHORT * typical > len(lines[at].text))
    ):
        at += 1
    return at


def _paragraphs(text: str, lines: Sequence[Line]) -> list[Record]:
    """Propose what stands between blank lines, or else each long line."""
    if not lines:
        return []
    groups = _grouped(lines)
    typical = _typical([lines[g[-1]].end - lines[g[0]].start for g in groups])
    if typical < SHORTEST_PASSAGE:
        return []
    groups = [part for group in groups for part in _without_frames(lines, group, typical)]
    groups = _with_titles(lines, groups, typical)
    first, last = 0, len(groups)
    while first < last and _is_frame(lines, groups[first], typical):
        first += 1
    while last > first and _is_frame(lines, groups[last - 1], typical):
        last -= 1
    if last - first < FEWEST:
        return []
    return [
        _behind_label(text, _plain(text, lines, group), at == 0)
        for at, group in enumerate(groups[first:last])
    ]


_LABEL: Final = re.compile(r"\W{0,3}[^\W\d_][^\n:：.!?]{0,30}[:：]\s")


def _behind_label(text: str, record: Record, first: bool) -> Record:
    """Before the first passage a label may stand on the same line."""
    if not first or record.body > record.start:
        return record
    match = _LABEL.match(text, record.start)
    if match is None or record.end - match.end() < SHORTEST_PASSAGE:
        return record
    return Record(match.end(), match.end(), record.tail, record.end)


def _typical(sizes: Sequence[int]) -> int:
    """Return a size at which half of all characters are in longer pieces."""
    half, total = sum(sizes) / 2, 0
    for size in sorted(sizes, reverse=True):
        total += size
        if total >= half:
            return size
    return 0


def _grouped(lines: Sequence[Line]) -> list[range]:
    """Group lines into paragraphs; without blank lines every long line is one."""
    groups: list[range] = []
    first = 0
    for at in range(1, len(lines) + 1):
        if at == len(lines) or lines[at].paragraph != lines[first].paragraph:
            groups.append(range(first, at))
            first = at
    longest = max(lines[g[-1]].end - lines[g[0]].start for g in groups)
    if longest > 0.7 * lines[-1].end and _typical([len(line.text) for line in lines]) >= _LONG_LINE:
        return [range(at, at + 1) for at in range(len(lines))]
    return groups


_LONG_LINE: Final = 200
"""Characters. Lines as long as that are not wrapped: each is a paragraph."""


def _without_frames(lines: Sequence[Line], group: range, typical: int) -> list[range]:
    """Cut labels, rules, tags and short lines off a paragraph with long lines."""
    if max(len(lines[at].text) for at in group) < _LONG_LINE:
        marks = {at for at in group if _is_mark(lines[at].text)}
    else:
        marks = {
            at
            for at in group
            if _is_mark(lines[at].text)
            or (
                len(lines[at].text) < _SHORT * typical
                and (lines[at].text.endswith((":", "：", "?", "？")) or _KEY.match(lines[at].text))
            )
        }
    parts: list[range] = []
    first = group.start
    for at in group:
        if at in marks:
            if at > first:
                parts.append(range(first, at))
            parts.append(range(at, at + 1))
            first = at + 1
    if first < group.stop:
        parts.append(range(first, group.stop))
    return parts


def _is_mark(line: str) -> bool:
    return bool(RULE.fullmatch(line) or TAG.fullmatch(line) or _FENCE.fullmatch(line))


def _with_titles(lines: Sequence[Line], groups: list[range], typical: int) -> list[range]:
    """Where short paragraphs and long ones take turns, the short ones are titles."""

    def short(group: range) -> bool:
        return (
            len(group) == 1
            and len(lines[group[0]].text) <= min(LONGEST_TITLE, _SHORT * typical)
            and not _is_sentence(lines[group[0]].text)
            and not _is_mark(lines[group[0]].text)
        )

    def long(group: range) -> bool:
        return lines[group[-1]].end - lines[group[0]].start >= _SHORT * typical

    pairs = sum(1 for a, b in pairwise(groups) if short(a) and long(b))
    if pairs < 3 or pairs < 0.6 * sum(map(long, groups)):
        return groups
    made: list[range] = []
    for group in groups:
        if made and long(group) and short(made[-1]):
            made[-1] = range(made[-1].start, group.stop)
        else:
            made.append(group)
    return made


def _is_frame(lines: Sequence[Line], group: range, typical: int) -> bool:
    """Whether a paragraph at the edge is no passage: short, a mark, or it tells what to do."""
    size = lines[group[-1]].end - lines[group[0]].start
    text = lines[group[-1]].text
    if size < _SHORT * typical or _is_mark(text):
        return True
    return size < 0.7 * typical and (
        text.endswith((":", "：", "?", "？")) or _INSTRUCTS.match(lines[group[0]].text) is not None
    )


_INSTRUCTS: Final = re.compile(
    r"(?:you (?:are|will|must|should)|your (?:task|job|role)|please|do not|don['’]t|never|always"
    r"|use|using|answer|given|based on|according to|read|consider|write|summari[sz]e|du bist|bitte"
    r"|beantworte|eres|responde|usa|por favor"
    r"|vous êtes|utilise|réponds|请|根据|你是|次の|あなたは)\b",
    re.IGNORECASE,
)
