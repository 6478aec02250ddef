"""The blocks of the README and of the pages in ``docs/``: what is shown, and what stands beside it.

A Python block needs what the README says first to install, and the extras that the paragraph
before it names (``extra `local` ``). What it prints may follow in a block of ``text``. A console
block shows commands after ``$`` and what they print. Below ``<!-- figures vary -->``
numbers are not compared.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

__all__ = ["PAGES", "ROOT", "Block", "Command", "blocks_of", "commands_of", "is_shown"]

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

_FENCED = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_VARIES = "<!-- figures vary -->"
_EXTRAS = re.compile(r"\bextras? ((?:`\w+`(?:,| and|, and)? ?)+)")
_CHANGING = [
    (re.compile(r"\b[\d.,]+ (?:us|ms|s|min|h)\b"), "TIME"),
    (re.compile(r"\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d)?)?"), "DAY"),
    (re.compile(r"\b\d\d-\d\d \d\d:\d\d\b"), "DAY"),
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}(?:-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})?"), "ID"),
    (re.compile(r"-{3,}"), "---"),
    (re.compile(r"\s+"), " "),
]


@dataclass(frozen=True, slots=True)
class Block:
    """What stands between two fences."""

    page: str
    line: int
    language: str
    text: str
    extras: frozenset[str] = frozenset()
    prints: str | None = None
    """Of a Python block: what it is said to print, where that is said."""
    varies: bool = False
    """Whether its numbers may be others each time."""

    @property
    def name(self) -> str:
        """Where it stands, as an editor opens it."""
        return f"{self.page}:{self.line}"

    @property
    def is_synopsis(self) -> bool:
        """Whether it shows commands and nothing of what they print."""
        return not any(command.prints for command in commands_of(self))


@dataclass(frozen=True, slots=True)
class Command:
    """One line of a console, and what it is said to print."""

    typed: str
    prints: str


def blocks_of(page: Path) -> list[Block]:
    """Return the blocks of a page, in order; what a Python block prints is part of it."""
    text = page.read_text(encoding="utf-8")
    found = list(_FENCED.finditer(text))
    made = []
    for at, (before, one) in enumerate(pairwise([None, *found])):
        assert one is not None
        start = 0 if before is None else before.end()
        between = text[start : one.start()]
        paragraph = between.rstrip().rpartition("\n\n")[2]
        prints, mark = _printed(text, found[at : at + 2])
        made.append(
            Block(
                page=str(page.relative_to(ROOT)),
                line=text.count("\n", 0, one.start()) + 1,
                language=one["language"],
                text=one["text"],
                extras=_installed()
                | frozenset(
                    name
                    for listed in _EXTRAS.findall(paragraph)
                    for name in re.findall(r"`(\w+)`", listed)
                ),
                prints=prints,
                varies=_VARIES in between + mark,
            )
        )
    return made


def _printed(text: str, blocks: Sequence[re.Match[str]]) -> tuple[str | None, str]:
    """Return what a Python block is said to print, and the remark that stands before that."""
    if len(blocks) < 2 or (blocks[0]["language"], blocks[1]["language"]) != ("python", "text"):
        return None, ""
    between = text[blocks[0].end() : blocks[1].start()].strip()
    return (blocks[1]["text"], between) if between in {"", _VARIES} else (None, "")


@cache
def _installed() -> frozenset[str]:
    """Return the extras of the README's first command."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(r'pip install "langchain-tokenopt\[([\w,]+)\]"', readme)
    assert found
    return frozenset(found[1].split(","))


def commands_of(block: Block) -> Iterator[Command]:
    """Take a console block apart."""
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        typed, _, prints = part.partition("\n")
        yield Command(typed, prints)


def is_shown(shown: str, printed: str, *, varies: bool = False) -> bool:
    r"""Whether *printed* is what a page shows: ``...`` stands for any lines, times and days differ.

    Example:
        >>> is_shown("a  1 ms\n...\nz", "a 22 ms\nb\nc\nz\n")
        True
        >>> is_shown("a 1", "a 2"), is_shown("a 1", "a 2", varies=True)
        (False, True)
    """
    pattern = "".join(
        r"(?:.*\n)*?" if line == "..." else re.escape(line) + r"\n"
        for line in _settled(shown, varies)
    )
    lines = "".join(f"{line}\n" for line in _settled(printed, varies))
    return re.fullmatch(pattern, lines) is not None


def _settled(text: str, varies: bool) -> list[str]:
    lines = []
    for line in text.strip().splitlines():
        settled = line.rstrip()
        for pattern, word in _CHANGING:
            settled = pattern.sub(word, settled)
        if varies:
            settled = re.sub(r"-?[\d.,]*\d", "0", settled)
        lines.append(settled.strip())
    return lines
