"""Read whatever text people have: a file or a folder, in any common format and encoding."""

from __future__ import annotations

import codecs
import json
import logging
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from langchain_core.documents import Document

__all__ = ["load_documents"]

_log = logging.getLogger(__name__)

MAX_FILE_BYTES = 20_000_000
"""Larger files are read up to here, and a note says so."""


def load_documents(
    path: str | Path, *, note: Callable[[str], object] = _log.warning
) -> list[Document]:
    """Read a text file, or all text files of a folder and of the folders in it.

    Plain text, Markdown and CSV are taken as they are; JSON and JSON Lines become one line per
    record; of HTML the visible text is kept. UTF-8, UTF-16 and UTF-32 are recognised, anything else
    is read as Windows-1252. Hidden files and folders are passed over.

    Args:
        path: A file or a folder.
        note: Told in one sentence about every file that was skipped or cut.

    Returns:
        The documents in the order of their names; ``metadata["source"]`` is the path, below *path*
        for a folder.

    Raises:
        FileNotFoundError: If there is nothing at *path*.
        ValueError: If there is no readable text.

    Example:
        >>> documents = load_documents(Path(__file__).parent / "documents")
        >>> documents[0].metadata["source"]
        'annual-report-2025.md'
    """
    root = Path(path)
    if not root.exists():
        raise FileNotFoundError(f"There is no file or folder {str(root)!r}.")
    documents = []
    for file in _files(root):
        text = _read(file, note)
        if text:
            name = file.name if file == root else file.relative_to(root).as_posix()
            documents.append(Document(text, metadata={"source": name}))
    if not documents:
        kind = "folder" if root.is_dir() else "file"
        raise ValueError(
            f"There is no readable text in the {kind} {str(root)!r}. "
            "Give a text file (.txt, .md, .json, .jsonl, .csv, .html) or a folder of them."
        )
    return documents


def _files(root: Path) -> Iterator[Path]:
    """Yield *root*, or the files below it, without hidden ones."""
    if not root.is_dir():
        yield root
        return
    for file in sorted(root.rglob("*")):
        hidden = any(part.startswith((".", "__pycache__")) for part in file.relative_to(root).parts)
        if not hidden and file.is_file():
            yield file


def _read(file: Path, note: Callable[[str], object]) -> str:
    """Return the text of a file; an empty string, and a note, if it has none."""
    try:
        with file.open("rb") as opened:
            raw = opened.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        note(f"Skipped {file}: {error.strerror or error}.")
        return ""
    if len(raw) > MAX_FILE_BYTES:
        note(f"Read only the first {MAX_FILE_BYTES:,} bytes of {file}.")
        raw = raw[:MAX_FILE_BYTES]
    text = _decoded(raw)
    if text is None:
        note(f"Skipped {file}: it is not text.")
        return ""
    text = _PLAIN.get(file.suffix.lower(), str.strip)(text).strip()
    if not text:
        note(f"Skipped {file}: it is empty.")
    return text


_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Byte order marks and what they announce; those of UTF-32 begin like those of UTF-16."""

_MAX_CONTROL_SHARE = 0.02
"""Text has hardly any control characters; a larger share means a binary file."""

_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")


def _decoded(raw: bytes) -> str | None:
    """Return *raw* as text, or ``None`` if it is none."""
    encoding = next((name for mark, name in _MARKS.items() if raw.startswith(mark)), None)
    if encoding:
        text = raw.decode(encoding, errors="replace")
    elif raw.count(0) > 0.3 * len(raw):
        # Unmarked UTF-16 of Western text has a zero in every other byte; which, tells the order.
        text = raw.decode(
            "utf-16-le" if raw[1::2].count(0) > raw[::2].count(0) else "utf-16-be", errors="replace"
        )
    else:
        try:
            # A file that was cut at its largest size may end in the middle of a character.
            text = codecs.getincrementaldecoder("utf-8")().decode(raw)
        except UnicodeDecodeError:
            text = raw.decode("cp1252", errors="replace")
    strange = len(_CONTROL.findall(text)) + text.count("\ufffd")
    return None if strange > _MAX_CONTROL_SHARE * len(text) else text


class _VisibleText(HTMLParser):
    """Collects what a reader of the page would see."""

    UNSEEN = ("script", "style", "head", "template", "noscript")
    BLOCKS = (
        "p",
        "div",
        "li",
        "tr",
        "br",
        "section",
        "article",
        "table",
        "ul",
        "ol",
        "dl",
        "dd",
        "dt",
        "pre",
        "blockquote",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
    )

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self._unseen = 0

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self._unseen += tag in self.UNSEEN
        if tag in self.BLOCKS:
            self.parts.append("\n")
        elif tag in ("td", "th"):
            self.parts.append(" | ")

    def handle_endtag(self, tag: str) -> None:
        self._unseen = max(0, self._unseen - (tag in self.UNSEEN))
        if tag in self.BLOCKS:
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._unseen:
            self.parts.append(re.sub(r"\s+", " ", data))


def _of_html(text: str) -> str:
    """Return the visible text of a page."""
    parser = _VisibleText()
    parser.feed(text)
    parser.close()
    lines = (line.strip(" |") for line in "".join(parser.parts).splitlines())
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines))


def _of_json(text: str) -> str:
    """Return a JSON document as lines; text that is not JSON as it is."""
    try:
        return "\n".join(_lines(json.loads(text)))
    except (ValueError, RecursionError):
        return text


def _of_jsonl(text: str) -> str:
    """Return JSON Lines as lines of text; a line that is not JSON as it is."""
    return "\n".join(_of_json(line) for line in text.splitlines() if line.strip())


def _lines(value: Any) -> Iterator[str]:
    """Yield one line per record: an object whose values are plain; nested values below it."""
    if isinstance(value, dict):
        plain = {key: part for key, part in value.items() if not isinstance(part, (dict, list))}
        if plain:
            yield "; ".join(f"{key}: {part}" for key, part in plain.items())
        for key, part in value.items():
            if key not in plain and part:
                yield f"{key}:"
                yield from _lines(part)
    elif isinstance(value, list):
        for part in value:
            yield from _lines(part)
    else:
        yield str(value)


_PLAIN: dict[str, Callable[[str], str]] = {
    ".html": _of_html,
    ".htm": _of_html,
    ".json": _of_json,
    ".jsonl": _of_jsonl,
    ".ndjson": _of_jsonl,
}
"""How to make plain text of a file, by suffix; everything else is plain already."""
