"""Read a text file or a folder of them, in any common encoding; HTML as its reader sees it."""

from __future__ import annotations

import codecs
import logging
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path

from langchain_core.documents import Document

__all__ = ["load_documents"]

_log = logging.getLogger(__name__)

MAX_FILE_BYTES = 20_000_000
"""Larger files are read up to here, and a note says so."""


def load_documents(
    path: str | Path, *, note: Callable[[str], object] = _log.warning
) -> list[Document]:
    """Read a text file, or all text files of a folder and of the folders in it.

    Text of any kind is taken as it is; of HTML the visible text is kept. UTF-8, and UTF-16 and
    UTF-32 with a byte order mark, are recognised, anything else is read as Windows-1252. Hidden
    files and folders are passed over.

    Args:
        path: A file or a folder.
        note: Called with one sentence for every file that was skipped or cut.

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
            "Give a text file (.txt, .md, .csv, .json, .html) or a folder of them."
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
    if file.suffix.lower() in (".html", ".htm"):
        text = _visible_text(text)
    if not text.strip():
        note(f"Skipped {file}: it is empty.")
    return text.strip()


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


def _decoded(raw: bytes) -> str | None:
    """Return *raw* as text, or ``None`` if it is none."""
    encoding = next((name for mark, name in _MARKS.items() if raw.startswith(mark)), None)
    if encoding:
        text = raw.decode(encoding, errors="replace")
    else:
        try:
            # A file that was cut at its largest size may end in the middle of a character.
            text = codecs.getincrementaldecoder("utf-8")().decode(raw)
        except UnicodeDecodeError:
            text = raw.decode("cp1252", errors="replace")
    strange = len(re.findall(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f\ufffd]", text))
    return None if strange > _MAX_CONTROL_SHARE * len(text) else text


_UNSEEN = ("script", "style", "head", "template", "noscript")
_BLOCK = re.compile("p|div|li|tr|br|section|article|table|[uod]l|d[dt]|pre|blockquote|h[1-6]")
"""Tags that begin a line."""


class _VisibleText(HTMLParser):
    """Collects what a reader of the page would see."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self._unseen = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self._unseen += tag in _UNSEEN
        self.parts.append("\n" if _BLOCK.fullmatch(tag) else " | " if tag in ("td", "th") else "")

    def handle_endtag(self, tag: str) -> None:
        self._unseen = max(0, self._unseen - (tag in _UNSEEN))
        self.parts.append("\n" if _BLOCK.fullmatch(tag) else "")

    def handle_data(self, data: str) -> None:
        self.parts.append("" if self._unseen else re.sub(r"\s+", " ", data))


def _visible_text(page: str) -> str:
    parser = _VisibleText()
    parser.feed(page)
    parser.close()
    lines = (line.strip(" |") for line in "".join(parser.parts).splitlines())
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines))
