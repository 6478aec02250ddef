"""Apply an excerpt to messages, whole or in chunks, without changing anything but their text."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from typing import Any, TypeVar

from langchain_core.messages import AIMessage, AIMessageChunk

from langchain_tokenopt.limits.excerpt import Excerpt

__all__ = ["MessageExcerpt", "TextExcerpt"]

MessageT = TypeVar("MessageT", bound=AIMessage)

_Form = str | Mapping[str, Any] | None
"""What text came in: a string, a block of a list, or a message whose content is a string."""
_CONTINUES = "continues"
_PROVIDER = "model_provider"

_VALUE = r"(?:-?\d[\d.eE+-]*|true|false|null)\s*,\s*"
_JSON = re.compile(
    rf"\s*(?:\{{\s*[\"}}]|\[\s*(?:[{{\"]|\[\s*(?:[{{\"\[]|{_VALUE})|(?:{_VALUE}){{3}}))"
)
"""An object, or a list of texts, objects, lists or more than three values: ``[1]`` and ``[2, 3]``
at the beginning of an answer cite."""
_MAYBE_JSON = re.compile(r"\s*(?:\{\s*|\[\s*\[?[\s\d.,eE+truefalsn-]*)?")
_LONGEST_BEGINNING = 200
"""Characters after which a bracket and spaces are no beginning of JSON any more."""


class TextExcerpt:
    """Shows the excerpt of a text that comes in pieces.

    A text that begins as JSON does is structured output whatever it was asked for as: half of
    it would be worth nothing, so it is shown as it is.
    """

    def __init__(self, excerpt: Excerpt) -> None:
        self.excerpt = excerpt
        self.received = 0
        """Characters that came in."""
        self.is_json = False
        self._beginning: str | None = ""

    @property
    def is_full(self) -> bool:
        """Whether nothing that follows can be shown."""
        return self.excerpt.is_full

    def feed(self, text: str) -> str:
        """Take the next piece; return what may be shown."""
        self.received += len(text)
        if self.is_json:
            return text
        if self._beginning is not None:
            text, self._beginning = self._beginning + text, None
            if _JSON.match(text):
                self.is_json = True
                return text
            is_short = len(text) <= _LONGEST_BEGINNING
            if is_short and _MAYBE_JSON.fullmatch(text):
                self._beginning = text
                return ""
        return self.excerpt.feed(text)

    def finish(self, *, broken_off: bool = False) -> str:
        """Return what was held back and may be shown."""
        if self.is_json:
            return ""
        shown = ""
        if self._beginning:
            shown, self._beginning = self.excerpt.feed(self._beginning), None
        return shown + self.excerpt.finish(broken_off=broken_off)


class MessageExcerpt:
    """Shows the excerpt of a message's text; tool calls, reasoning, images and usage stay."""

    def __init__(self, excerpt: Excerpt) -> None:
        self.text = TextExcerpt(excerpt)
        self.calls_tools = False
        """Whether a tool call has come."""
        self._held: deque[tuple[_Form, int]] = deque()
        self._last: _Form = None
        self._id: str | None = None
        self._provider: dict[str, Any] = {}
        """Whose blocks these are: LangChain translates a chunk's blocks by that."""

    def show(
        self, message: MessageT, *, last: bool = False, broken_off: bool = False
    ) -> MessageT | None:
        """Return the part of *message* that may be shown now; ``None`` when that is nothing.

        Args:
            message: A whole message or the next chunk of one.
            last: Nothing comes after it.
            broken_off: When it is the last: a limit of tokens has ended it.
        """
        self._id = message.id or self._id
        if _PROVIDER in message.response_metadata:
            self._provider = {_PROVIDER: message.response_metadata[_PROVIDER]}
        pieces = getattr(message, "tool_call_chunks", None)
        if message.tool_calls or message.invalid_tool_calls or pieces:
            self.calls_tools = True
        content = message.content
        blocks: list[Any] = [content] if isinstance(content, str) else content
        shown: list[Any] = []
        if last:
            whole = self.text.feed("".join(map(_text_of, blocks)))
            self._lay_out(blocks, whole + self._end(broken_off=broken_off), shown)
        else:
            for block in blocks:
                self._take(block, isinstance(content, str), shown)
        in_blocks = not isinstance(content, str) or any(isinstance(b, Mapping) for b in shown)
        changed: Any = shown if in_blocks else "".join(shown)
        if changed == content:
            return message
        if not changed and _is_only_text(message):
            return None
        return message.model_copy(update={"content": changed})

    def rest(self, *, broken_off: bool = False) -> AIMessageChunk | None:
        """Return what was held back, as a chunk; ``None`` when that is nothing."""
        shown: list[Any] = []
        self._dress(self._end(broken_off=broken_off), shown)
        if not shown:
            return None
        if self._last is None:
            return AIMessageChunk(content="".join(map(_text_of, shown)), id=self._id)
        return AIMessageChunk(content=shown, id=self._id, response_metadata=self._provider)

    def _end(self, *, broken_off: bool) -> str:
        """Return the end of the text; what calls a tool and says nothing has none."""
        says_nothing = self.calls_tools and not self.text.received
        return self.text.finish(broken_off=broken_off and not says_nothing)

    def _take(self, block: Any, is_whole_content: bool, shown: list[Any]) -> None:
        """Read one block; add what may be shown now."""
        text = _text_of(block)
        if text:
            self._last = None if is_whole_content else block
            self._held.append((self._last, len(text)))
            self._dress(self.text.feed(text), shown)
        elif not is_whole_content:
            shown.append(block)

    def _lay_out(self, blocks: list[Any], text: str, shown: list[Any]) -> None:
        """Put the last of the text where it stood, among blocks that are no text."""
        before = sum(length for _, length in self._held)
        self._dress(text[:before], shown)
        self._held.clear()
        text = text[before:]
        for block in blocks:
            piece, text = text[: len(_text_of(block))], text[len(_text_of(block)) :]
            if piece:
                self._last = block
                _append(shown, block, piece)
            elif not _text_of(block):
                shown.append(block)
        if text:
            _append(shown, _continued(self._last), text)

    def _dress(self, text: str, shown: list[Any]) -> None:
        """Put *text*, a continuation of what was shown, into the blocks it came in."""
        while text and self._held:
            form, length = self._held.popleft()
            piece, text = text[:length], text[length:]
            _append(shown, form, piece)
            if len(piece) < length:
                self._held.appendleft((_continued(form), length - len(piece)))
        if text:  # what closes open markup
            _append(shown, _continued(self._last), text)


def _append(shown: list[Any], form: _Form, text: str) -> None:
    """Add a piece; one that continues the block before it goes into that block."""
    before = shown[-1] if shown else None
    if not isinstance(form, Mapping):
        shown.append(text)
    elif form.get(_CONTINUES) and isinstance(before, dict) and _continues(before, form):
        before["text"] += text
    else:
        shown.append({**{k: v for k, v in form.items() if k != _CONTINUES}, "text": text})


def _continues(before: Mapping[str, Any], form: Mapping[str, Any]) -> bool:
    return bool(_text_of(before)) and before.get("index") == form.get("index")


def _text_of(block: Any) -> str:
    if isinstance(block, str):
        return block
    if block.get("type") in ("text", "output_text") and isinstance(block.get("text"), str):
        text: str = block["text"]
        return text
    return ""


def _continued(form: _Form) -> _Form:
    """Return the form of a block's second half: LangChain merges blocks by their index."""
    if not isinstance(form, Mapping):
        return form
    return {key: form[key] for key in ("type", "index") if key in form} | {_CONTINUES: True}


def _is_only_text(message: AIMessage) -> bool:
    """Whether an emptied chunk has nothing else to tell."""
    return isinstance(message, AIMessageChunk) and not (
        message.tool_call_chunks
        or message.usage_metadata
        or message.response_metadata
        or message.additional_kwargs
        or message.chunk_position
    )
