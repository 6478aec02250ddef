r"""Elements of HTML and of LaTeX in a text that is read one character at a time.

Elements that hold text (``<details>``, ``\begin{itemize}``) are remembered, to be closed. Formulas
(``\[``, ``$$``, environments) and tags are remembered as a whole: a text must not end in one.

Which elements have no end tag: https://html.spec.whatwg.org/multipage/syntax.html#void-elements
(2026-11-29).
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Final, NamedTuple

from langchain_tokenopt.limits.open_marks import OpenMark, closers_of, opened

__all__ = ["Elements", "OpenElements"]


def _names(names: str) -> frozenset[str]:
    return frozenset(names.split())


_VOID: Final = _names("area base br col embed hr img input link meta source track wbr")
_BLOCKS: Final = _names(
    "address article aside blockquote body caption dd details dialog div dl dt fieldset figcaption "
    "figure footer form h1 h2 h3 h4 h5 h6 head header html legend li main menu nav ol optgroup "
    "option p pre section select style script summary svg table tbody td template textarea tfoot "
    "th thead title tr ul video audio"
)
_INLINE: Final = _names(
    "a abbr b bdi bdo button cite code data del dfn em i iframe ins kbd label mark math meter "
    "object output picture progress q rp rt ruby s samp small span strong sub sup time u var"
)
_KNOWN: Final = _BLOCKS | _INLINE
_ENDS_UNIT: Final = _names(
    "address article blockquote dd details div dl figure li ol p pre section table tr ul"
)
"""A unit of the text has ended behind their end tags. (Behind a heading something must follow.)"""
_ENDED_BY_THE_NEXT: Final = {
    name: _names(by)
    for name, by in {
        "p": "p", "li": "li", "dt": "dt dd", "dd": "dt dd", "tr": "tr", "td": "td th tr",
        "th": "td th tr", "option": "option",
    }.items()
}  # fmt: skip
"""Elements whose end tag may be left out."""

_TEXT_ENVIRONMENTS: Final = _names(
    "abstract center description document enumerate figure flushleft flushright itemize minipage "
    "proof quotation quote table theorem lemma definition remark example verse"
)
"""Hold sentences. All others hold formulas, tables or code, of which a part is worth nothing."""

LONGEST_TAG: Final = 300
"""Characters: what is longer, or goes over a line's end, is no tag."""
_LONGEST_COMMAND: Final = 60

_TAG = re.compile(r"<(/?)([A-Za-z][\w:-]*)(\s[^<]*?)?(/?)>", re.DOTALL)
_TAG_SO_FAR = re.compile(r"<(?:!-?|!--.*|/?|/?[A-Za-z][\w:-]*(?:\s[^<]*|/)?)", re.DOTALL)
_COMMAND = re.compile(r"\\(begin|end)\{([\w*]+)\}")
_COMMAND_SO_FAR = re.compile(r"\\[a-z]{0,5}|\\(?:begin|end)\{[\w*]*")


class OpenElements(NamedTuple):
    """What is open at one place of the text."""

    innermost: OpenMark | None
    formula: str
    """What closes the formula that is open; empty outside of one."""
    comment: bool
    since: int | None
    """Where the formula or tag begins in which a text must not end."""

    @property
    def inner_closer(self) -> str:
        """What closes the formula or comment, before everything else."""
        return self.formula or (" -->" if self.comment else "")


class Elements:
    """Knows which elements are open."""

    __slots__ = ("_before", "_begins_line", "_counts", "_formula", "_innermost", "_opened_at",
                 "_seen", "ended", "ended_unit", "since")  # fmt: skip

    def __init__(self) -> None:
        self._innermost: OpenMark | None = None
        self._counts: Counter[str] = Counter()
        self._formula = ""
        self._opened_at = 0
        self._seen = ""
        """What may become a tag or command, or the end of the formula that is open."""
        self._before = "\n"
        self._begins_line = True
        self.since: int | None = None
        self.ended = False
        """Whether the last character has ended a tag or formula."""
        self.ended_unit = False
        """Whether it has ended an element that is a unit of the text."""

    @property
    def open(self) -> OpenElements:
        """What is open here."""
        comment = self._seen.startswith("<!--")
        return OpenElements(self._innermost, self._formula, comment, self.since)

    @property
    def innermost(self) -> OpenMark | None:
        """The innermost element."""
        return self._innermost

    def end_paragraph(self) -> None:
        """A formula does not go over a blank line, nor does a tag."""
        self._formula = self._seen = ""
        self._before, self._begins_line, self.since = "\n", True, None

    def read(self, char: str, at: int) -> str:
        """Take the next character; return what of the text is no part of a tag or formula."""
        self.ended = self.ended_unit = False
        if self._formula:
            return self._read_formula(char, at)
        if self._seen:
            return self._go_on(char, at)
        if char in "<\\$":
            self._seen, self.since = char, at
            return ""
        self._pass(char)
        return char

    def _pass(self, char: str) -> None:
        self._begins_line = char == "\n" or (self._begins_line and char.isspace())
        self._before = char

    def _go_on(self, char: str, at: int) -> str:
        seen = self._seen + char
        if seen[0] == "<":
            return self._read_tag(seen, at)
        if seen[0] == "$":
            return self._read_dollars(seen, at)
        if seen in ("\\[", "\\("):
            return self._open_formula("\\]" if char == "[" else "\\)", at)
        if command := _COMMAND.fullmatch(seen):
            return self._run_command(*command.groups(), at=at)
        if _COMMAND_SO_FAR.fullmatch(seen) and len(seen) < _LONGEST_COMMAND:
            self._seen = seen
            return ""
        return self._give_back(seen, at)

    def _give_back(self, seen: str, at: int) -> str:
        """It was no tag and no command; with its last character another may begin."""
        self._seen, self.since = "", None
        for char in seen[:-1]:
            self._pass(char)
        return seen[:-1] + self.read(seen[-1], at)

    # Formulas

    def _read_dollars(self, seen: str, at: int) -> str:
        """Two dollar signs open a formula; three are dear."""
        char = seen[-1]
        if len(seen) == 2:
            if char != "$":
                return self._give_back(seen, at)
            self._seen = seen
            return ""
        alone = not char.isspace() or (char == "\n" and self._begins_line)
        if char == "$" or not alone:
            return self._give_back(seen, at)
        self._open_formula("$$", at - 1)
        return self._read_formula(char, at)

    def _open_formula(self, closer: str, at: int) -> str:
        self._formula, self._opened_at, self._seen = closer, at, ""
        return ""

    def _read_formula(self, char: str, at: int) -> str:
        self._seen = (self._seen + char)[-_LONGEST_COMMAND:]
        if char != self._formula[-1] or not self._seen.endswith(self._formula):
            return ""
        if self._seen[: -len(self._formula)].endswith("\\") and self._formula[0] == "\\":
            return ""  # a line break of LaTeX before a bracket
        self._formula = ""
        return self._end(char)

    def _end(self, char: str) -> str:
        """A tag, command or formula has ended."""
        self.ended, self._seen, self.since = True, "", None
        self._before, self._begins_line = char, False
        return ""

    def _run_command(self, what: str, name: str, *, at: int) -> str:
        closer = f"\\end{{{name}}}"
        if what == "begin" and name.rstrip("*") not in _TEXT_ENVIRONMENTS:
            return self._open_formula(closer, at)
        self._end("}")
        if what == "begin":
            self._push(closer, at)
        elif self._counts[closer]:
            self._drop_to(closer)
            self.ended_unit = True
        return ""

    # Tags

    def _read_tag(self, seen: str, at: int) -> str:
        char = seen[-1]
        if seen.startswith("<!--"):
            if char != ">" or not seen.endswith("-->"):
                self._seen = seen if len(seen) < LONGEST_TAG else "<!--" + seen[-3:]
                return ""
            return self._end(" ")
        if char == ">":
            tag = _TAG.fullmatch(seen)
            return self._give_back(seen, at) if tag is None else self._close_tag(tag, at)
        if char == "\n" or len(seen) > LONGEST_TAG or not _TAG_SO_FAR.fullmatch(seen):
            return self._give_back(seen, at)
        self._seen = seen
        return ""

    def _close_tag(self, tag: re.Match[str], at: int) -> str:
        """A tag has ended."""
        is_end, name, attributes, is_empty = tag[1], tag[2], tag[3], tag[4]
        if attributes and "=" not in attributes and self._before.isalnum():
            return self._give_back(tag.group(), at)  # a comparison: a<b and c>d
        known = name.lower() in _KNOWN
        name = name.lower() if known else name
        alone = self._begins_line or self._before == ">"
        is_void = name.lower() in _VOID
        if not (known or is_void or alone or self._counts[f"</{name}>"]):
            return self._give_back(tag.group(), at)
        begins_line = self._begins_line
        self._end(">")
        self._begins_line = begins_line
        if is_end:
            self._end_element(name)
        elif not (is_empty or is_void):
            self._end_left_out(name)
            self._push(f"</{name}>", at)
        return ""

    def _end_element(self, name: str) -> None:
        if self._counts[f"</{name}>"]:
            self._drop_to(f"</{name}>")
        self.ended_unit = name in _ENDS_UNIT

    def _end_left_out(self, name: str) -> None:
        for left_out, by in _ENDED_BY_THE_NEXT.items():
            innermost = self._innermost
            if name in by and innermost and innermost.mark == f"</{left_out}>":
                self._drop_to(innermost.mark)

    def _push(self, closer: str, at: int) -> None:
        self._innermost = opened(closer, at, self._innermost)
        self._counts[closer] += 1

    def _drop_to(self, closer: str) -> None:
        while (innermost := self._innermost) is not None:
            self._innermost = innermost.around
            self._counts[innermost.mark] -= 1
            if innermost.mark == closer:
                return


def closing_elements(open_: OpenElements, *inline: OpenMark | None) -> str:
    """Return what closes the elements together with what is open within the paragraph."""
    return open_.inner_closer + closers_of(open_.innermost, *inline)
