"""What stands in the place of a message: the whole, a part of it, one line, nothing.

Every loss is marked, with its size, and with a handle by which the original can be fetched where
somebody answers it. Marks also tell a later reading how far the conversation has been settled.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from enum import IntEnum
from typing import Final

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from langchain_tokenopt.context.importance import Query
from langchain_tokenopt.core.messages import text_of, with_text
from langchain_tokenopt.tools.result_limit import CompressingLoader

__all__ = [
    "BESIDE",
    "HANDLE_FORM",
    "LEAST_TOKENS",
    "Level",
    "Mark",
    "gist",
    "handle_of",
    "handles_in",
    "in_place",
    "is_made",
    "is_marked",
    "one_line",
    "shortened",
]


class Level(IntEnum):
    """How much of a message is shown."""

    WHOLE = 0
    SHORTENED = 1
    LINE = 2
    ASIDE = 3


LEAST_TOKENS: Final = 60
"""Shorter messages are left alone: a line in their place would be as long."""
BESIDE: Final = "[set aside, see above]"
"""In the place of a result whose neighbour says what became of both."""
_GIST: Final = 40
"""Characters by which a line says what it stands for."""
_RESULT_TOKENS: Final = (64, 256)
"""Bounds of a quarter of a tool result that bears on the question."""
_MARKED: Final = re.compile(r"\[(?:[\d,]+ tokens )?(?:set aside|left out)[,:\]]")
_LINE: Final = re.compile(r"\[([\d,]+) tokens set aside(?:, \w+\(\"[0-9a-f]{8}\"\))?: ")
_REST: Final = re.compile(r"\[[\d,]+ tokens left out(?:, \w+\(\"[0-9a-f]{8}\"\))?\]")
HANDLE_FORM: Final = re.compile(r"[0-9a-f]{8}")
_MORE: Final = re.compile(r"\[[\d,]+ tokens left out[;.]")
_HANDLES: Final = re.compile(r'\(\\?"([0-9a-f]{8})\\?"\)')


class Mark:
    """How a loss is marked.

    Args:
        tool: The name of the tool that answers handles; ``None``: nobody does, so there is none.

    Example:
        >>> Mark("expand").line(504, "1a2b3c4d", "Flights to Rome")
        '[504 tokens set aside, expand("1a2b3c4d"): Flights to Rome]'
        >>> Mark(None).rest(380, "1a2b3c4d")
        '[380 tokens left out]'
    """

    def __init__(self, tool: str | None) -> None:
        self.tool = tool

    def _handle(self, handle: str) -> str:
        return f', {self.tool}("{handle}")' if self.tool else ""

    def line(self, tokens: int, handle: str, gist: str) -> str:
        """Return the line that stands for the whole of a message, or of several."""
        return f"[{tokens:,} tokens set aside{self._handle(handle)}: {gist}]"

    def rest(self, tokens: int, handle: str) -> str:
        """Return what stands behind the part that was kept."""
        return f"[{tokens:,} tokens left out{self._handle(handle)}]"

    def more(self, tokens: int, handle: str) -> str:
        """Return what stands behind a tier: it is what its source has returned, and no view."""
        rest = f'; {self.tool}("{handle}")' if self.tool else "."
        return f"[{tokens:,} tokens left out{rest}]"


def handle_of(*texts: str) -> str:
    """Return the handle of what was set aside: the same in every process.

    Example:
        >>> handle_of("Flights to Rome") == handle_of("Flights to Rome") != handle_of("to Oslo")
        True
    """
    data = "\0".join(texts).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=4).hexdigest()


def handles_in(text: str) -> list[str]:
    """Return the handles that stand in a text.

    Example:
        >>> handles_in(Mark("expand").line(504, "1a2b3c4d", "Flights"))
        ['1a2b3c4d']
    """
    return _HANDLES.findall(text) if _MARKED.search(text) or _MORE.search(text) else []


def is_marked(text: str) -> bool:
    """Whether a text was made here."""
    return _MARKED.search(text) is not None


def is_made(message: BaseMessage) -> bool:
    """Whether a message as a whole stands here for another: it does not only quote a mark."""
    text = text_of(message)
    line = _LINE.match(text)
    if line is not None:
        return int(line[1].replace(",", "") or 0) >= LEAST_TOKENS
    if not isinstance(message, ToolMessage):
        return False
    return text == BESIDE or _REST.fullmatch(text.rpartition("\n")[2]) is not None


def in_place(message: BaseMessage, text: str) -> BaseMessage:
    """Return what is shown in the place of a message.

    A result stays the answer to its call, with its pictures. In the place of others stands a note
    of all that was set aside, and nothing that they had beside their text: no pictures, no calls.

    Example:
        >>> call = {"name": "add", "args": {}, "id": "1"}
        >>> in_place(AIMessage("Adding.", tool_calls=[call]), "[90 tokens set aside]").tool_calls
        []
    """
    if isinstance(message, ToolMessage):
        return with_text(message, text)
    if isinstance(message, AIMessage):
        return AIMessage(text, id=message.id, name=message.name)
    return message.model_copy(update={"content": text})


def one_line(message: BaseMessage, tokens: int, mark: Mark) -> str:
    """Return the line that stands for a message."""
    text = text_of(message)
    return mark.line(tokens, handle_of(text), gist(text, _GIST))


def gist(text: str, size: int) -> str:
    r"""Return the first *size* characters of a text, on one line.

    Example:
        >>> gist("Flights to\n Rome: AZ 611", 15)
        'Flights to Rome'
    """
    return " ".join(text[: 4 * size].split())[:size].rstrip()


def shortened(
    message: BaseMessage,
    query: Query,
    tokens: int,
    mark: Mark,
    count: Callable[[str], int],
) -> str | None:
    """Return the quarter of a tool result that the question needs, marked; ``None``: all of it.

    JSON stays JSON within it.
    """
    text = text_of(message)
    least, most = _RESULT_TOKENS
    part = CompressingLoader().shorten(text, min(most, max(least, tokens // 4)), query.text)
    made = f"{part}\n{mark.rest(max(1, tokens - count(part)), handle_of(text))}".lstrip()
    return made if count(made) < _WORTH * tokens else None


_WORTH: Final = 0.8
"""Less is not gained for so small a loss."""
