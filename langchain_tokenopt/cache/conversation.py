"""The messages of a request, read from LangChain's dump of them: what the model sees of each.

The dump is read as plain JSON (never ``load``: it makes objects).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Final, Literal

__all__ = ["Context", "Conversation", "read_conversation"]

Context = Literal["exact", "last_turns", "ignore"]

LAST_TURNS: Final = 2
"""User turns before the question that ``context="last_turns"`` compares."""
_NOISE: Final = frozenset(
    {"id", "usage_metadata", "response_metadata", "artifact", "example", "type", "content"}
)
_INSTRUCTING: Final = frozenset({"system", "developer"})
_REPEATED: Final = frozenset({"tool_calls", "parsed"})
"""What providers write into the extra arguments again, with ids."""
_CALL_BLOCKS: Final = frozenset(
    {
        "custom_tool_call",
        "custom_tool_call_output",
        "function_call",
        "function_call_output",
        "server_tool_call",
        "server_tool_result",
        "server_tool_use",
        "tool_call",
        "tool_call_chunk",
        "tool_result",
        "tool_use",
    }
)
"""Blocks of which the ids only say which result belongs to which call."""


class Conversation:
    """The messages of one request.

    Args:
        messages: As LangChain dumps them.
        keeps_response_ids: The ids of earlier answers are part of what is sent.
    """

    def __init__(self, messages: Sequence[Mapping[str, Any]], *, keeps_response_ids: bool) -> None:
        read = _MessageReader(keeps_response_ids=keeps_response_ids)
        self.forms = [read.form(message) for message in messages]
        """What the model sees of each."""
        self._messages = messages
        self._kinds = [form["kind"] for form in self.forms]
        self._instructs = [_instructs(form) for form in self.forms]
        self.last = max((i for i, kind in enumerate(self._kinds) if kind == "human"), default=-1)
        """Where the last user turn is, which asks the question; -1 where there is none."""

    @property
    def system(self) -> list[Any]:
        """The contents of the messages that instruct the model."""
        return [form["content"] for form in self._select(self.forms, instructing=True)]

    def question(self) -> tuple[str | None, str]:
        """Return the text of the last user turn, or why it may not be compared."""
        if self.last < 0:
            return None, "no user turn"
        if self.last != len(self.forms) - 1:
            return None, f"the last message is of type {self._kinds[-1]}, not the user's"
        content = self._messages[self.last]["kwargs"].get("content")
        if isinstance(content, list):
            if not all(map(_is_text, content)):
                return None, "the question is not text alone"
            content = "".join(b if isinstance(b, str) else str(b["text"]) for b in content)
        if not isinstance(content, str) or not content.strip():
            return None, "the question has no text"
        return content, ""

    @cached_property
    def beside_question(self) -> dict[str, Any]:
        """The user's turn without the text: a name, extra arguments, what else blocks say."""
        form = self.forms[self.last]
        return {**form, "content": _beside_text(form["content"])}

    def before(self, context: Context) -> list[dict[str, Any]]:
        """Return the messages before the question that must be equal."""
        before = self.forms[: self.last]
        if context == "exact":
            return before
        kept = {i for i in range(self.last) if self._instructs[i]}
        if context == "last_turns":
            turns = [i for i in range(self.last) if self._kinds[i] == "human"]
            start = turns[-LAST_TURNS] if len(turns) >= LAST_TURNS else 0
            kept |= set(range(start, self.last))
        return [before[i] for i in sorted(kept)]

    def system_before(self, context: Context) -> tuple[list[Any], list[dict[str, Any]]]:
        """Part what must be equal: contents that instruct the model, and other messages."""
        before = self.before(context)
        system = [form["content"] for form in self._select(before, instructing=True)]
        return system, self._select(before, instructing=False)

    @staticmethod
    def _select(forms: Sequence[dict[str, Any]], *, instructing: bool) -> list[dict[str, Any]]:
        return [form for form in forms if _instructs(form) is instructing]


def read_conversation(prompt: str, *, keeps_response_ids: bool) -> Conversation | None:
    """Read the messages of a dump; ``None`` for a plain prompt of a text model.

    Example:
        >>> read_conversation("[What is up?]", keeps_response_ids=False) is None
        True
    """
    if not prompt.startswith("["):
        return None
    try:
        parsed = json.loads(prompt)
    except (ValueError, RecursionError):
        return None
    if not isinstance(parsed, list) or not parsed or not all(map(_is_message, parsed)):
        return None
    return Conversation(parsed, keeps_response_ids=keeps_response_ids)


def _is_message(dumped: Any) -> bool:
    return isinstance(dumped, dict) and "lc" in dumped and isinstance(dumped.get("kwargs"), dict)


def _kind(message: Mapping[str, Any]) -> str:
    kind = str(message["kwargs"].get("type") or (message.get("id") or ["?"])[-1])
    return kind.removesuffix("MessageChunk").removesuffix("Message").lower()


def _instructs(form: Mapping[str, Any]) -> bool:
    """Say whether a message is the application's word to the model, not the user's."""
    kind = form["kind"]
    return (form.get("role") if kind == "chat" else kind) in _INSTRUCTING


class _MessageReader:
    """Reads what the model sees of the messages of one request.

    Ids that are made anew for every call say nothing but which result belongs to which call: they
    become numbers in order. All other ids stay; a file's id says which file.

    Args:
        keeps_response_ids: The ids of earlier answers are part of what is sent.
    """

    def __init__(self, *, keeps_response_ids: bool) -> None:
        self._keeps_response_ids = keeps_response_ids
        self._numbers: dict[str, int] = {}

    def form(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the model sees of a message."""
        kwargs = message["kwargs"]
        form = {k: v for k, v in kwargs.items() if k not in _NOISE and v not in (None, [], {}, "")}
        form["kind"] = _kind(message)  # beside it a ChatMessage has a role of its own
        form["content"] = self._content(kwargs.get("content"))
        if calls := form.get("tool_calls"):
            form["tool_calls"] = [
                [c.get("name"), c.get("args"), self._number(str(c.get("id")))] for c in calls
            ]
        if "tool_call_id" in form:
            form["tool_call_id"] = self._number(str(form["tool_call_id"]))
        extra = form.get("additional_kwargs")
        if isinstance(extra, dict):
            form["additional_kwargs"] = {
                k: v for k, v in extra.items() if k not in _REPEATED and v is not None
            }
        answered = kwargs.get("response_metadata")
        if self._keeps_response_ids and isinstance(answered, dict):
            form["response_id"] = answered.get("id")
        return form

    def _number(self, identifier: str) -> int:
        return self._numbers.setdefault(identifier, len(self._numbers))

    def _content(self, content: Any) -> Any:
        if not isinstance(content, list):
            return content
        return [self._block(block) if isinstance(block, dict) else block for block in content]

    def _block(self, block: Mapping[str, Any]) -> dict[str, Any]:
        block = {k: v for k, v in block.items() if k not in ("index", "cache_control")}
        if str(block.get("id")).startswith("lc_"):  # LangChain makes it anew for every message
            del block["id"]
        if block.get("type") in _CALL_BLOCKS:
            for name in ("id", "tool_use_id", "call_id"):
                if isinstance(block.get(name), str):
                    block[name] = self._number(block[name])
        return block


def _is_text(block: Any) -> bool:
    if isinstance(block, str):
        return True
    return (
        isinstance(block, dict)
        and block.get("type") == "text"
        and isinstance(block.get("text"), str)
    )


def _beside_text(content: Any) -> list[Any]:
    """Return what stands in the blocks of a content beside their type and text."""
    blocks = content if isinstance(content, list) else []
    found = [
        {k: v for k, v in block.items() if k not in ("type", "text")}
        for block in blocks
        if isinstance(block, dict)
    ]
    return [extra for extra in found if extra]
