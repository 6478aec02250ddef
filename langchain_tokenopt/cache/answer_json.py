"""Answers as compressed JSON, and back.

Nothing here is executed when it is read. An answer that is more than JSON is kept as LangChain's
``dumps`` writes it, and read back with ``loads`` and an explicit list of classes, without access to
environment variables.
"""

from __future__ import annotations

import json
import warnings
import zlib
from collections.abc import Sequence
from typing import Any

from langchain_core.load import dumps, loads
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import (
    ChatGeneration,
    ChatGenerationChunk,
    Generation,
    GenerationChunk,
)

__all__ = ["pack", "unpack"]

_CLASSES: list[type[Any]] = [
    Generation,
    GenerationChunk,
    ChatGeneration,
    ChatGenerationChunk,
    AIMessage,
    AIMessageChunk,
]
_MESSAGE_FIELDS = (
    "content",
    "additional_kwargs",
    "response_metadata",
    "name",
    "tool_calls",
    "invalid_tool_calls",
    "usage_metadata",
)
_LONGEST = 64 << 20
"""Bytes that a stored answer may unpack to."""


def pack(answers: Sequence[Generation]) -> bytes:
    """Return *answers* as compressed JSON, each generation on its own.

    An answer that is JSON already (nearly all are) is written field by field; others as
    LangChain's ``dumps`` writes them, one by one, since a list dumped at once cannot be read back
    when one message holds a pydantic object.

    Raises:
        ValueError: If an answer does not survive being written and read.

    Example:
        >>> unpack(pack([Generation(text="Yes.")]))
        [Generation(text='Yes.')]
    """
    plain = [_as_plain(answer) for answer in answers]
    forms = [
        json.dumps(dumps(answer)) if form is None else form
        for answer, form in zip(answers, plain, strict=True)
    ]
    packed = zlib.compress(f"[{', '.join(forms)}]".encode(), level=1)
    if None in plain:
        unpack(packed)
    return packed


def unpack(packed: bytes) -> list[Generation]:
    """Read what :func:`pack` has written: only the listed classes, no secrets.

    Raises:
        ValueError: If it is anything else than a list of generations.
    """
    try:
        forms = json.loads(zlib.decompressobj().decompress(packed, _LONGEST).decode())
        if not isinstance(forms, list) or not forms:
            raise ValueError("no answers")
        answers = [_loaded(f) if isinstance(f, str) else _from_plain(f) for f in forms]
    # Constructors run on stored data here: pydantic, key, type and zlib errors among others.
    except Exception as error:
        raise ValueError(f"stored answer cannot be read: {type(error).__name__}") from error
    if not all(isinstance(answer, Generation) for answer in answers):
        raise ValueError("a stored answer is no generation")
    return answers


def _as_plain(answer: Generation) -> str | None:
    """Return an answer as JSON; ``None`` when it is more than that."""
    form: dict[str, Any] = {"info": answer.generation_info}
    if type(answer) is Generation:
        form["text"] = answer.text
    elif type(answer) is ChatGeneration and type(answer.message) is AIMessage:
        fields = {name: getattr(answer.message, name) for name in _MESSAGE_FIELDS}
        form["message"] = {name: value for name, value in fields.items() if value}
    else:
        return None
    if form["info"] is not None and type(form["info"]) is not dict:
        form["info"] = dict(form["info"])
    try:
        text = json.dumps(form)
        return text if json.loads(text) == form else None
    except (TypeError, ValueError, RecursionError):
        return None


def _from_plain(form: dict[str, Any]) -> Generation:
    if "text" in form:
        return Generation(text=form["text"], generation_info=form["info"])
    fields = form["message"]
    if not set(fields) <= set(_MESSAGE_FIELDS):
        raise ValueError("unknown fields")
    message = AIMessage(**{"content": "", **fields})
    return ChatGeneration(message=message, generation_info=form["info"])


def _loaded(text: str) -> Generation:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # loads() warns that it is beta
        answer: Generation = loads(
            text,
            allowed_objects=_CLASSES,
            secrets_from_env=False,
            ignore_unserializable_fields=True,
        )
    return answer
