"""Cut YAML by its syntax tree where what is left is YAML again, as large and deep as it is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Final

import yaml

from langchain_tokenopt.compress.examples import is_pair
from langchain_tokenopt.compress.unit import Unit

__all__ = ["holds_yaml", "parsed_yaml", "yaml_units"]

LONGEST_WHOLE_ENTRY: Final = 400
"""Characters; longer entries are kept or dropped by what is in them."""
_LONGEST: Final = 200_000
"""Characters; more is cut by its lines."""
_DEEPEST: Final = 50
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_COMMENT: Final = re.compile(r"[ \t]*#")
_SHARED: Final = re.compile(r"(?:^|[\s:\[,{])[*&][^\s,\[\]{}*&]+")
"""What marks a value that stands elsewhere, too."""
_DASH: Final = re.compile(
    r"^[ \t]*-[ \t]*(?:#[^\n]*)?\r?\n(?:[ \t]*(?:#[^\n]*)?\r?\n)*[ \t]*\Z", re.MULTILINE
)
"""What an entry begins with when its value stands on a line below."""
_LONGEST_REMARKS: Final = 1_000
"""Characters between the dash and its value."""
_SEPARATOR: Final = re.compile(r"^---[ \t\r]*(?:#[^\n]*)?$\n?", re.MULTILINE)


def parsed_yaml(text: str) -> list[yaml.Node] | None:
    """Return the documents in *text*, or ``None`` if it is no YAML of keys or entries.

    Example:
        >>> parsed_yaml("a: 1") is None, parsed_yaml("Just words.") is None
        (False, True)
    """
    if len(text) > _LONGEST:
        return None
    try:
        # LibYAML takes no subclass of ``str``, as ``message.text`` is.
        found = list(yaml.compose_all(str(text), Loader=_LOADER))
    except (yaml.YAMLError, RecursionError, ValueError):
        return None
    is_data = all(isinstance(node, yaml.CollectionNode) for node in found)
    return found if found and is_data else None


def holds_yaml(text: str) -> bool:
    r"""Say whether *text* is YAML in which keys or entries hold others, each key once.

    Example:
        >>> holds_yaml("a:\n  b: 1"), holds_yaml("Ann: Hello,\n  you.\nBob: Hello.")
        (True, False)
    """
    for node in parsed_yaml(text) or ():
        values = [v for _, v in node.value] if isinstance(node, yaml.MappingNode) else node.value
        names = [k.value for k, _ in node.value] if isinstance(node, yaml.MappingNode) else []
        is_deep = any(
            isinstance(value, yaml.CollectionNode) and not value.flow_style for value in values
        )
        if not is_deep or len(names) != len({str(name) for name in names}):
            return False
    return parsed_yaml(text) is not None


def yaml_units(text: str, start: int, end: int, units: list[Unit]) -> bool:
    r"""Add the units of the YAML ``text[start:end]``; say whether it is YAML.

    An entry is a unit, or of a long one its key and each of its entries. What an alias stands for
    stays with it.

    Example:
        >>> text, units = "a: &x\n  b: 1\nc: *x\nd: 2\n", []
        >>> yaml_units(text, 0, len(text), units)
        True
        >>> [(text[unit.start : unit.end], unit.head) for unit in units]
        [('a: &x\n  b: 1\n', -1), ('c: *x\n', 0), ('d: 2\n', -1)]
    """
    body = text[start:end]
    documents = parsed_yaml(body)
    if documents is None:
        return False
    cutter = _Cutter(body)
    edges = [*(cutter.line_of(node.start_mark.index) for node in documents), len(body)]
    separators = [found.span() for found in _SEPARATOR.finditer(body)]
    begins = [0]
    for low, high in pairwise(edges[:-1]):
        begins.append(next((a for a, _ in reversed(separators) if low < a <= high), high))
    made: list[Unit] = []
    for node, begin, finish in zip(documents, begins, [*begins[1:], len(body)], strict=True):
        cutter.add_document(node, begin, finish, made)
    for unit in made:
        unit.start += start
        unit.end += start
        unit.head = unit.head + len(units) if unit.head >= 0 else -1
        unit.bound = unit.bound + len(units) if unit.bound >= 0 else -1
    units += made
    return True


class _Cutter:
    """Cuts the documents of one text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._several = len(_SEPARATOR.findall(text)) > 0

    def line_of(self, at: int) -> int:
        """Return where the line begins in which *at* stands."""
        return self._text.rfind("\n", 0, at) + 1

    def add_document(self, node: yaml.Node, begin: int, end: int, units: list[Unit]) -> None:
        """Add a document; the line that separates it from others is the head of its entries."""
        head, at = -1, begin
        found = _SEPARATOR.match(self._text, begin) or _SEPARATOR.search(self._text, begin, end)
        if self._several and found and found.start() <= node.start_mark.index:
            head, at = len(units), found.end()
            units.append(Unit(begin, at, "data", frame=True))
        self._add_entries(node, at, end, units, head, 0)

    def _add_entries(
        self, node: yaml.Node, begin: int, end: int, units: list[Unit], head: int, depth: int
    ) -> None:
        entries = list(self._entries(node))
        starts = [start for start, _, _ in entries]
        cuts = [begin, *starts[1:], end]
        if not entries or node.flow_style or any(a > b for a, b in pairwise(cuts)):
            units.append(Unit(begin, end, "data", head=head))
            return
        first = len(units)
        for (_, value, keys), a, b in zip(entries, cuts[:-1], cuts[1:], strict=True):
            self._add_entry(value, keys, a, b, units, head, depth)
        self._add_anchors(units, first, entries, cuts)

    def _entries(self, node: yaml.Node) -> Iterator[tuple[int, yaml.Node, list[str]]]:
        """Yield where each entry begins, with the comments above it, and its value."""
        behind, last = 0, self.line_of(node.start_mark.index) - 1
        items = node.value if isinstance(node, yaml.MappingNode) else [(v, v) for v in node.value]
        for key, value in items:
            at = self.line_of(key.start_mark.index)
            before = max(last + 1, key.start_mark.index - _LONGEST_REMARKS)
            if key is value and (dash := _DASH.search(self._text, before, key.start_mark.index)):
                at = self.line_of(dash.start())
            last = at
            while (above := self.line_of(at - 1)) < at and above >= behind > 0:
                if not _COMMENT.match(self._text, above, at):
                    break
                at = above
            behind = self._end_of(value)
            names = [k.value for k, _ in value.value] if isinstance(value, yaml.MappingNode) else []
            yield at, value, [name for name in names if isinstance(name, str)]

    def _end_of(self, node: yaml.Node) -> int:
        return int(node.end_mark.index)

    def _add_entry(
        self, value: yaml.Node, keys: Sequence[str], begin: int, end: int, units: list[Unit],
        head: int, depth: int,
    ) -> None:  # fmt: skip
        is_cut = (
            end - begin > LONGEST_WHOLE_ENTRY
            and depth < _DEEPEST
            and isinstance(value, yaml.CollectionNode)
            and not value.flow_style
            and len(value.value) > 1
            and not is_pair(keys)
            and not _SHARED.search(self._text, begin, end)
        )
        inner = list(self._entries(value)) if is_cut else []
        if not inner:
            units.append(Unit(begin, end, "data", head=head))
            return
        opens = inner[0][0] > begin  # else the first entry stands on the line of the dash
        at = inner[0][0] if opens else inner[1][0]
        opening = len(units)
        units.append(Unit(begin, at, "data", head=head, frame=opens))
        rest = inner if opens else inner[1:]
        cuts = [at, *(start for start, _, _ in rest[1:]), end]
        for (_, node, names), a, b in zip(rest, cuts[:-1], cuts[1:], strict=True):
            self._add_entry(node, names, a, b, units, opening, depth + 1)

    def _add_anchors(
        self, units: list[Unit], first: int, entries: Sequence[tuple[int, yaml.Node, list[str]]],
        cuts: Sequence[int],
    ) -> None:  # fmt: skip
        """Make what an alias stands for the head of the entry that it stands in."""
        if "*" not in self._text[cuts[0] : cuts[-1]]:
            return
        at_of: dict[int, int] = {}
        number = first
        owners: dict[int, int] = {}
        for (_, value, _), end in zip(entries, cuts[1:], strict=True):
            own = number
            while number < len(units) and units[number].end <= end:
                number += 1
            needs = set()
            for node in _nodes(value):
                if id(node) in at_of and at_of[id(node)] != own:
                    needs.add(at_of[id(node)])
                at_of.setdefault(id(node), own)
            if needs:
                owners[own] = min(needs)
                for other in needs - {min(needs)}:
                    units[other].bound = min(needs)
        for own, head in owners.items():
            units[own].head = head


def _nodes(node: yaml.Node) -> Iterator[yaml.Node]:
    """Yield a node and all below it, each once."""
    stack, seen = [node], set()
    while stack:
        one = stack.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        if isinstance(one, yaml.MappingNode):
            stack += [inner for pair in one.value for inner in pair]
        elif isinstance(one, yaml.SequenceNode):
            stack += one.value
