"""Recognise and cut what indentation orders: lists, YAML, settings, and lines of their own.

A line that is indented deeper belongs to the line above it that is not: it is never kept without.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from langchain_tokenopt.compress.examples import is_pair
from langchain_tokenopt.compress.lines_under import ITEM
from langchain_tokenopt.compress.question import asks, is_asked
from langchain_tokenopt.compress.sentence_cuts import LONGEST_SENTENCE, sentence_cuts
from langchain_tokenopt.compress.unit import Kind, Unit
from langchain_tokenopt.compress.yaml_units import holds_yaml, yaml_units

__all__ = [
    "data_end",
    "is_yaml",
    "item_end",
    "lines_end",
    "may_be_yaml",
    "outline_units",
    "tree_end",
    "yaml_end",
]

_KEY: Final = re.compile(
    r"[ \t]*(?:- +)*(?:[\w.$/@-]+(?:[ ][\w.$/@-]+){0,3}|\"[^\"\n]+\"|'[^'\n]+')[ \t]*:"
    r"(?:[ \t]|\r?\n|$)|[?:] \S"
)
_SETTING: Final = re.compile(r"[ \t]*(?:export )?[\w.$\"'-]+[ \t]*=(?!=)")
_SECTION: Final = re.compile(r"\[{1,2}[\w.\-:/ \"'@*{},!?|$+]+\]{1,2}[ \t]*(?:[#;].*)?\r?$")
_ENTRY: Final = re.compile(r"[ \t]*-(?:[ \t]|\r?\n|$)")
_COMMENT: Final = re.compile(r"[ \t]*[#;]")
_DOCUMENT: Final = re.compile(r"(?:---|\.\.\.)[ \t\r]*$")
_BLOCK: Final = re.compile(r"[|>][+-]?\d?[+-]?[ \t]*(?:#.*)?$")
_ALIAS: Final = re.compile(r"(?:^|[\s:\[,])[*&][A-Za-z]\w*(?=[\s,\]]|$)")
_LONGEST_LINE: Final = 2_000
_DEEPER: Final = frozenset(" \t[-")
_UNDECIDED: Final = 60
"""Lines after which it must be clear what begins here."""


# --- recognition ---------------------------------------------------------------------------------


def item_end(lines: Sequence[str], row: int) -> int:
    r"""Return the row after the list that begins at *row*, with lines that go on with its items.

    Example:
        >>> item_end(["- tea\n", "  green\n", "\n", "- cake\n", "Enough.\n"], 0)
        4
    """
    base = _indent(lines[row])
    end = row + 1
    while end < len(lines):
        line = lines[end]
        if not line.strip():
            after = _behind_blanks(lines, end)
            if after == len(lines) or not (
                ITEM.match(lines[after]) or _indent(lines[after]) >= base + 2
            ):
                return end
            end = after
            continue
        if _is_fence(line) and _indent(line) > base:
            after = _fence_end(lines, end)
            if after == end:
                return end
            end = after
        elif ITEM.match(line) or (_indent(line) > base and not _is_fence(line)):
            end += 1
        else:
            return end
    return end


_LONGEST_FENCE: Final = 30
"""Lines of code that are part of an item; more stand for themselves."""


def _fence_end(lines: Sequence[str], row: int) -> int:
    """Return the row after the fence that opens at *row* within an item, else *row*."""
    mark = lines[row].lstrip()[:3]
    for end in range(row + 1, min(len(lines), row + _LONGEST_FENCE)):
        if lines[end].strip().startswith(mark):
            return end + 1
    return row


_BRANCH: Final = re.compile(
    r"(?:[│|][ \xa0]{1,3}|[ \xa0]{2,4})*"
    r"(?:[├└╰][─-]{1,3}(?:┬(?= )|(?![─┬┼┴-]))|[|`]-{2,3}(?= ))"
)


def tree_end(lines: Sequence[str], row: int) -> int:
    r"""Return the row after the tree that is drawn from *row* on; *row* where there is none.

    Example:
        >>> tree_end(["docs\n", "├── a.md\n", "└── b.md\n", "That is all.\n"], 0)
        3
    """
    first = row if _BRANCH.match(lines[row]) else row + 1
    end = first
    while end < len(lines) and _BRANCH.match(lines[end]):
        end += 1
    return end if end - first >= _FEWEST_BRANCHES else row


_FEWEST_BRANCHES: Final = 2


def _is_fence(line: str) -> bool:
    return line.lstrip()[:3] in ("```", "~~~")


def _behind_blanks(lines: Sequence[str], row: int) -> int:
    while row < len(lines) and not lines[row].strip():
        row += 1
    return row


def data_end(lines: Sequence[str], row: int) -> int:
    r"""Return the row after the YAML, TOML or INI that begins at *row*; *row* where there is none.

    Example:
        >>> data_end(["server:\n", "  port: 80\n", "  host: a\n", "That is all.\n"], 0)
        3
    """
    line = lines[row]
    if len(line) > _LONGEST_LINE:
        return row
    is_setting = _SECTION.match(line) is not None or _SETTING.match(line) is not None
    if not (is_setting or _KEY.match(line) or _DOCUMENT.match(line)):
        return row
    if line[0] not in " \t[" and not any(
        other[0] in _DEEPER for other in lines[row + 1 : row + _UNDECIDED]
    ):
        return row  # nothing is deeper
    return _settings_end(lines, row) if is_setting else _yaml_end(lines, row)


_ONLY_DATA: Final = re.compile(
    r"\s*(?:#[^\n]*\n\s*|---[ \t\r]*\n|%[^\n]*\n)*"
    r"(?:[\w.$/@\"'-][^\n:{}]{0,60}:(?:\s|$)|- +[\w\"'-]+:\s|\? )"
)
_FLUSH: Final = re.compile(r"^[^\s#\-\]}?:%](?![^\n]*:(?:\s|$))[^\n]*$", re.MULTILINE)


def is_yaml(text: str) -> bool:
    """Say whether all of a text is YAML in which keys or entries hold others."""
    return (
        _ONLY_DATA.match(text) is not None
        and "\n " in text
        and (_FLUSH.search(text) is None or "\n---" in text)
        and _count_asking(text.splitlines()) != 1
        and holds_yaml(text)
    )


def may_be_yaml(line: str) -> bool:
    """Say whether a line may be the first of YAML."""
    return line[0] not in " \t" and bool(_KEY.match(line) or _DOCUMENT.match(line))


def yaml_end(lines: Sequence[str], row: int) -> int:
    """Return the row after the YAML in which keys hold others that begins at *row*, else *row*."""
    end = _yaml_end(lines, row)
    return end if end > row and holds_yaml("".join(lines[row:end])) else row


def _settings_end(lines: Sequence[str], row: int) -> int:
    """Sections in brackets, settings with an equals sign, and lines that go on with them."""
    end, settings, sections, depth, quote = row, 0, 0, 0, ""
    filled, continued, goes_on = row, 0, False
    while end < len(lines) and (sections or continued or end - row < _UNDECIDED):
        line = lines[end]
        if quote or depth > 0:
            pass
        elif not line.strip() or _COMMENT.match(line):
            end += 1
            continue
        elif _SECTION.match(line):
            sections += 1
        elif _SETTING.match(line) or (sections and _KEY.match(line)):
            settings += 1
        elif not (settings and (line[0] in " \t" or goes_on)):
            break
        depth, quote = _open_after(line, depth, quote)
        goes_on = line.rstrip().endswith("\\")
        continued += goes_on
        end += 1
        filled = end
    is_data = sections or continued
    return filled if is_data and settings and settings + sections >= 3 else row


def _yaml_end(lines: Sequence[str], row: int) -> int:
    """Keys with values or with deeper lines; at least one line is deeper."""
    base, end, keys, nested = _indent(lines[row]), row, 0, False
    filled = row
    while end < len(lines) and (nested or end - row < _UNDECIDED):
        line = lines[end]
        if not line.strip():
            after = _behind_blanks(lines, end)
            if after == len(lines) or not (
                _indent(lines[after]) > base
                or _is_plain_key(lines[after])
                or _DOCUMENT.match(lines[after])
            ):
                break
            end = after
            continue
        if _indent(line) == base and _asks(line) and _count_asking(lines) == 1:
            break
        if _indent(line) > base:
            nested = nested or keys > 0
            keys += bool(_KEY.match(line))
        elif _indent(line) == base and _KEY.match(line):
            keys += 1
        elif not (
            _indent(line) == base
            and (_ENTRY.match(line) or _COMMENT.match(line) or _DOCUMENT.match(line))
        ) and not (line.strip() in ("]", "}", "],", "},") and keys):
            break
        elif _ENTRY.match(line):
            nested = nested or keys > 0
        end += 1
        filled = end
    return filled if nested and keys >= 2 and filled - row >= 3 else row


def _asks(line: str) -> bool:
    """Whether a line is a question under its label, as in ``Question: Who won?``."""
    found = _KEY.match(line)
    is_entry = _ENTRY.match(line) is not None
    return found is not None and not is_entry and asks(line) and is_asked(found.group(), "")


def _count_asking(lines: Sequence[str]) -> int:
    """Count the questions: one alone is what a prompt asks, of several each is a record's."""
    return sum(_indent(line) == 0 and _asks(line) for line in lines)


def _is_plain_key(line: str) -> bool:
    """A key as programs write them: one word in small letters, and nothing like a sentence."""
    found = _KEY.match(line)
    return found is not None and " " not in found.group().strip() and not line[:1].isupper()


def lines_end(
    lines: Sequence[str], row: int, stops: Callable[[str], object], last: int | None = None
) -> tuple[int, bool]:
    r"""Return the row after the paragraph at *row*, and whether each of its lines stands alone.

    Lines that a program or typist has broken are nearly as long as the longest, go on with small
    letters, or hold whole sentences.

    Example:
        >>> lines_end(["Name: Ann\n", "Age: 5\n", "Home: Bern\n"], 0, lambda line: False)
        (3, True)
    """
    end, longest, full, small, ended = row, 0, 0, 0, 0
    sizes = []
    deeper: Counter[str] = Counter()
    last = len(lines) if last is None else last
    while end < last and not (end > row and stops(lines[end])):
        line = lines[end].strip()
        if not line:
            break
        sizes.append(len(line))
        if lines[end][0] in " \t":
            deeper[line.split(None, 1)[0]] += 1
        small += line[0].islower()
        ended += line[-1] in _STOPS
        end += 1
    if len(sizes) < _FEWEST_LINES:
        return end, False
    if max(deeper.values(), default=0) > _MOST * len(sizes):
        return end, True  # calls of a trace
    longest = max(sizes)
    full = sum(1 for size in sizes[:-1] if size > _FULL * longest)
    inner = len(sizes) - 1
    if longest > _WIDEST:
        return end, ended < _SOME * len(sizes)
    is_wrapped = full > _MOST * inner or small > _SOME * inner
    return end, not (longest > _NARROW and is_wrapped)


_STOPS: Final = frozenset(".!?…。！？।؟;:")
_FEWEST_LINES: Final = 3
_WIDEST: Final = 160
_NARROW: Final = 40
_FULL: Final = 0.7
_MOST: Final = 0.6
_SOME: Final = 0.35


def _open_after(line: str, depth: int, quote: str) -> tuple[int, str]:
    """Return how many brackets and which triple quote are open behind *line*."""
    for match in _OPENERS.finditer(line):
        token = match.group()
        if quote:
            quote = "" if token == quote else quote
        elif token in ('"""', "'''"):
            quote = token
        elif token in "[{(":
            depth += 1
        elif token in "]})":
            depth = max(0, depth - 1)
    return depth, quote


_OPENERS: Final = re.compile(
    r'"""|' + r"'''|" + r'"(?:\\.|[^"\\\n])*"' + r"|'[^'\n]*'|#.*|[\[\]{}()]"
)


# --- units ---------------------------------------------------------------------------------------


def outline_units(text: str, start: int, end: int, kind: Kind, units: list[Unit]) -> None:
    r"""Add a unit per item or entry, each with the one that it stands under as its head.

    Example:
        >>> text, units = "[a]\nb = 1\nc = 2\n", []
        >>> outline_units(text, 0, len(text), "data", units)
        >>> [(text[unit.start : unit.end], unit.head) for unit in units]
        [('[a]\n', -1), ('b = 1\n', 0), ('c = 2\n', 0)]
    """
    part = text[start:end]
    lines = part.splitlines(keepends=True)
    is_tree = tree_end(lines, 0) == len(lines)
    if kind == "data" and not is_tree:
        if yaml_units(text, start, end, units):
            return
        if _ALIAS.search(part):
            units.append(Unit(start, end, kind))
            return
    ends = _list_ends(lines) if kind == "list" or is_tree else _entry_ends(lines)
    positions = [0]
    for line in lines:
        positions.append(positions[-1] + len(line))
    under: list[tuple[float, int]] = []
    arrays: dict[str, int] = {}
    section, row = -1, 0

    def holds_fence(begin: int, finish: int) -> bool:
        return text.find("```", begin, finish) >= 0 or text.find("~~~", begin, finish) >= 0

    for after in ends:
        indent = _depth_of(lines[row])
        while under and under[-1][0] >= indent:
            under.pop()
        head = under[-1][1] if under else section
        if kind == "data" and _SECTION.match(lines[row]):
            section, head = len(units), _array_above(lines[row], arrays, len(units))
            under.clear()
        else:
            under.append((indent, len(units)))
        opens = kind == "data" and not _says_something(lines[row:after])
        begin, finish = start + positions[row], start + positions[after]
        if kind == "list" and finish - begin > LONGEST_SENTENCE and not holds_fence(begin, finish):
            first, *rest = sentence_cuts(text, begin, finish)
            inner = len(units)
            units.append(Unit(begin, first, kind, head=head))
            for cut in rest:
                units.append(Unit(first, cut, kind, head=inner))
                first = cut
        else:
            units.append(Unit(begin, finish, kind, head=head, frame=opens))
        row = after


def _array_above(line: str, arrays: dict[str, int], at: int) -> int:
    """Return the section of TOML that opens the entry of a list which this one is a part of."""
    name = line.strip().strip("[]").strip()
    above = [path for path in arrays if name.startswith(f"{path}.")]
    head = arrays[max(above, key=len)] if above else -1
    if line.startswith("[["):
        arrays[name] = at
    return head


def _depth_of(line: str) -> float:
    """An entry of a list stands deeper than the key above it, even if it is not indented more."""
    return _indent(line) + (0.5 if _ENTRY.match(line) else 0)


def _says_something(lines: Sequence[str]) -> bool:
    """A key without a value, and the name of a section, only open what is under them."""
    line = lines[0].rstrip()
    return (len(lines) > 1 and any(other.strip() for other in lines[1:])) or not (
        line.endswith(":") or line.lstrip() == "-" or _SECTION.match(line)
    )


def _list_ends(lines: Sequence[str]) -> list[int]:
    """An item ends where the next one begins, whatever their depth; other lines stand alone."""
    has_items = ITEM.match(lines[0])
    ends, row = [], 1
    while row < len(lines):
        if has_items and _is_fence(lines[row]):
            row = max(row + 1, _fence_end(lines, row))
            continue
        if not has_items or ITEM.match(lines[row]):
            ends.append(row)
        row += 1
    return [*ends, len(lines)]


def _entry_ends(lines: Sequence[str]) -> list[int]:
    """An entry is a line, with all lines of its block, brackets or quotation."""
    ends = []
    row = 0
    while row < len(lines):
        line = lines[row]
        end = row + 1
        indent = _indent(line)
        value = line.strip()
        if (_BLOCK.search(value) and ":" in value) or _BLOCK.fullmatch(value.lstrip("- ")):
            while end < len(lines) and (not lines[end].strip() or _indent(lines[end]) > indent):
                end += 1
        else:
            depth, quote = _open_after(line, 0, "")
            if quoted := _OPEN_STRING.match(line):
                end = _string_end(lines, row, quoted)
                depth, quote = 0, ""
            while end < len(lines) and (depth > 0 or quote):
                depth, quote = _open_after(lines[end], depth, quote)
                end += 1
            while end < len(lines) and lines[end - 1].rstrip().endswith("\\"):
                end += 1
            end = _with_continuations(lines, row, end)
            if _ENTRY.match(line):
                whole = _entry_end(lines, row)
                names = [m["name"] for x in lines[row:whole] if (m := _NAME.match(x))]
                if is_pair(names) or sum(map(len, lines[row:whole])) <= LONGEST_WHOLE_ENTRY:
                    end = max(end, whole)
                elif value.endswith(":"):
                    end = _with_value(lines, row, end)
        while end < len(lines) and not lines[end].strip():
            end += 1
        ends.append(end)
        row = end
    return ends


LONGEST_WHOLE_ENTRY: Final = 400
"""Characters; of longer entries some keys may be kept."""
_NAME: Final = re.compile(r"[ \t-]*(?P<name>\w+):")


def _entry_end(lines: Sequence[str], row: int) -> int:
    """Return the row after all that stands deeper than the dash of an entry."""
    indent, end = _indent(lines[row]), row + 1
    while end < len(lines) and (not lines[end].strip() or _indent(lines[end]) > indent):
        end += 1
    while not lines[end - 1].strip():
        end -= 1
    return end


_OPEN_STRING: Final = re.compile(
    r"[ \t]*(?:- +)*(?:[^\s'\"#:][^\n'\"#:]{0,200}:[ \t]+)?(?:(?P<single>')|(?P<double>\"))"
)


def _string_end(lines: Sequence[str], row: int, opened: re.Match[str]) -> int:
    """Return the row after a string in quotation marks, which may go on over lines."""
    closing = _CLOSE_SINGLE if opened["single"] else _CLOSE_DOUBLE
    if closing.match(lines[row], opened.end()):
        return row + 1
    for end in range(row + 1, min(len(lines), row + _UNDECIDED)):
        if closing.match(lines[end]):
            return end + 1
    return row + 1


_CLOSE_SINGLE: Final = re.compile(r"(?:[^']|'')*'(?!')")
_CLOSE_DOUBLE: Final = re.compile(r'(?:[^"\\]|\\[\s\S])*"')


def _with_value(lines: Sequence[str], row: int, end: int) -> int:
    """The first key of an entry brings its value: other keys of the entry stand under its line."""
    column = len(lines[row]) - len(lines[row].lstrip(" \t-"))
    while end < len(lines):
        line = lines[end]
        indent = _indent(line)
        is_inside = indent > column or (indent == column and _ENTRY.match(line) is not None)
        if line.strip() and not is_inside:
            break
        end += 1
    return end


def _with_continuations(lines: Sequence[str], row: int, end: int) -> int:
    """A value goes on over deeper lines that are neither keys, entries nor comments."""
    if lines[row].rstrip().endswith(":"):
        return end
    indent = _indent(lines[row])
    while (
        end < len(lines)
        and lines[end].strip()
        and _indent(lines[end]) > indent
        and not (_KEY.match(lines[end]) or _ENTRY.match(lines[end]) or _SETTING.match(lines[end]))
        and not _COMMENT.match(lines[end])
    ):
        end += 1
    return end


def _indent(line: str) -> int:
    branch = _BRANCH.match(line)
    return branch.end() if branch else len(line) - len(line.lstrip(" \t"))
