"""What a request is for the cache: an exact scope, and the question that may be compared.

LangChain hands a cache the JSON dump of all messages. Embedding that compares constructor
boilerplate: unrelated questions come out at cosine 0.86, and at 1.00 behind a long system prompt.
So the dump is read as plain JSON (never ``load``: it makes objects), the last user turn is the
question, and everything else (model settings, tools, schema, system text, history, user) must be
equal to the letter.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from pydantic import SecretStr

from langchain_tokenopt.cache.owner_labels import Labels

__all__ = [
    "Context",
    "Question",
    "UnkeyableError",
    "credentials_of",
    "near_hash",
    "normalised",
    "question_of",
]

Context = Literal["exact", "last_turns", "ignore"]

LAST_TURNS = 2
"""User turns before the question that ``context="last_turns"`` compares."""

_COSMETIC = frozenset(
    {
        "cache",
        "callbacks",
        "disable_streaming",
        "http_async_client",
        "http_client",
        "max_retries",
        "metadata",
        "rate_limiter",
        "request_timeout",
        "stream_chunk_timeout",
        "stream_usage",
        "streaming",
        "tags",
        "timeout",
        "verbose",
    }
)
"""Constructor arguments that do not change what the model answers."""

_NOISE = frozenset(
    {"id", "usage_metadata", "response_metadata", "artifact", "example", "type", "content"}
)
_NAMELESS = re.compile(r"<class '|<function | object at 0x|<bound method ")
"""A part of the settings of which only the name or the address is visible."""


@dataclass(frozen=True, slots=True)
class Question:
    """A request, as far as the cache looks at it."""

    exact: bytes
    """Hash of everything: equal requests, equal hashes."""
    scope: bytes
    """Hash of everything but the last user turn."""
    near: bytes
    """Hash of scope and normalised text."""
    text: str | None
    """The last user turn, when it may be compared; ``None`` leaves the exact tier only."""
    why_exact: str = ""
    """Why the text is not compared, for ``explain`` and the statistics."""


class UnkeyableError(ValueError):
    """A request of which two different ones may look the same; nothing is served or stored."""


def credentials_of(model: object) -> str:
    """Name the keys that a model calls with, as a hash; '' when it has none.

    LangChain leaves them out of what it shows a cache. Whoever calls with another key may be
    another customer, with models and data of his own.

    Example:
        >>> from langchain_core.language_models import FakeListChatModel
        >>> credentials_of(FakeListChatModel(responses=[]))
        ''
    """
    secrets = sorted(
        (name, value.get_secret_value())
        for name, value in vars(model).items()
        if isinstance(value, SecretStr)
    )
    return f"---keys {_hash(secrets).hex()}" if secrets else ""


def question_of(
    prompt: str, llm_string: str, namespace: str, labels: Labels, context: Context
) -> Question:
    """Read a request as LangChain hands it to a cache. Short ones are remembered.

    Raises:
        UnkeyableError: If the settings name a class or object whose content is not visible: two
            schemas of one name would share their answers.

    Example:
        >>> question_of("What is up?", "fake", "default", (), "exact").text
        'What is up?'
    """
    read = _read_before if len(prompt) <= _SHORT else _read
    return read(prompt, llm_string, namespace, labels, context)


def _read(
    prompt: str, llm_string: str, namespace: str, labels: Labels, context: Context
) -> Question:
    settings = _settings_hash(llm_string)
    messages = _messages_in(prompt)
    if messages is None:
        scope = _hash("text", namespace, labels, settings)
        return _question(scope, prompt, prompt, "" if prompt.strip() else "no text")
    last = max((i for i, m in enumerate(messages) if _role(m) == "human"), default=-1)
    numbers: dict[str, int] = {}
    forms = [_canonical(message, numbers) for message in messages]
    text, why = _question_text(messages, last)
    if last < 0:
        scope = _hash("chat", namespace, labels, settings)
        return _question(scope, forms, None, why)
    scope = _hash("chat", namespace, labels, settings, _compared(messages, forms, last, context))
    return _question(scope, forms[last:], text, why)


_SHORT = 10_000
"""Characters up to which a prompt is remembered: 4,096 times an image would fill the memory."""
_read_before = lru_cache(maxsize=4_096)(_read)


def normalised(text: str) -> str:
    """Return *text* without what does not change a question: case, spacing, end punctuation.

    Signs that carry meaning (``C++``, ``-5``, ``50%``, ``v1.2``) stay.

    Example:
        >>> normalised("  What's  C++? ") == normalised("what is C++")
        True
        >>> normalised("Is it 5?") == normalised("Is it -5?")
        False
    """
    folded = text.casefold().replace("\u2019", "'")
    if "'" in folded:
        folded = _IS.sub(r"\1 is", _NOT.sub(" not", folded.replace("can't", "can not")))
    return " ".join([word.strip(".,;:!?\"'()") or word for word in folded.split()])


_IS = re.compile(r"\b(what|who|where|how|why|when|that|there|it|he|she)'s\b")
_NOT = re.compile(r"(?<=\w)n't\b")


def _question(scope: bytes, said: Any, text: str | None, why: str) -> Question:
    exact = _hash(scope.hex(), said)
    if text is not None and not why and not _is_unicode(text):
        why = "the question is not valid Unicode"
    if text is None or why:
        return Question(exact, scope, exact, None, why or "no text")
    return Question(exact, scope, near_hash(scope, text), text)


def _is_unicode(text: str) -> bool:
    """Say whether *text* can be written at all: JSON may hold halves of characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def near_hash(scope: bytes, text: str) -> bytes:
    """Return the hash under which the same words in the same scope are found."""
    return _hash(scope.hex(), "near", normalised(text))


_AS_JSON = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


def _hash(*parts: Any) -> bytes:
    return hashlib.blake2b(_AS_JSON.encode(parts).encode(), digest_size=16).digest()


def _messages_in(prompt: str) -> list[dict[str, Any]] | None:
    """Return the messages of a dump, or ``None`` for a plain prompt of a text model."""
    if not prompt.startswith("["):
        return None
    try:
        parsed = json.loads(prompt)
    except (ValueError, RecursionError):
        return None
    if not isinstance(parsed, list) or not parsed:
        return None
    if not all(
        isinstance(m, dict) and "lc" in m and isinstance(m.get("kwargs"), dict) for m in parsed
    ):
        return None
    return parsed


def _role(message: Mapping[str, Any]) -> str:
    kwargs = message["kwargs"]
    kind = str(kwargs.get("type") or (message.get("id") or ["?"])[-1])
    return kind.removesuffix("MessageChunk").removesuffix("Message").lower()


def _canonical(message: Mapping[str, Any], numbers: dict[str, int]) -> dict[str, Any]:
    """Return what the model sees of a message; ids of tool calls become numbers in order."""
    kwargs = message["kwargs"]
    form = {k: v for k, v in kwargs.items() if k not in _NOISE and v not in (None, [], {}, "")}
    form["role"] = _role(message)
    form["content"] = _content(kwargs.get("content"), numbers)
    if calls := form.get("tool_calls"):
        form["tool_calls"] = [
            [c.get("name"), c.get("args"), numbers.setdefault(str(c.get("id")), len(numbers))]
            for c in calls
        ]
    if "tool_call_id" in form:
        form["tool_call_id"] = numbers.setdefault(str(form["tool_call_id"]), len(numbers))
    extra = form.get("additional_kwargs")
    if isinstance(extra, dict):  # providers repeat the tool calls there, with their ids
        extra = {
            k: v for k, v in extra.items() if k not in ("tool_calls", "parsed") and v is not None
        }
        form["additional_kwargs"] = extra
    return form


def _content(content: Any, numbers: dict[str, int]) -> Any:
    if not isinstance(content, list):
        return content
    blocks = []
    for block in content:
        if isinstance(block, dict):
            block = {k: v for k, v in block.items() if k not in ("index", "cache_control")}
            for name in ("id", "tool_use_id", "call_id"):
                if isinstance(block.get(name), str):
                    block[name] = numbers.setdefault(block[name], len(numbers))
        blocks.append(block)
    return blocks


def _question_text(messages: Sequence[Mapping[str, Any]], last: int) -> tuple[str | None, str]:
    """Return the text of the last user turn, or why it may not be compared."""
    if last < 0:
        return None, "no user turn"
    if last != len(messages) - 1:
        return None, f"the last message is of type {_role(messages[-1])}, not the user's"
    content = messages[last]["kwargs"].get("content")
    if isinstance(content, list):
        if not all(_is_text(block) for block in content):
            return None, "the question is not text alone"
        content = "".join(b if isinstance(b, str) else str(b["text"]) for b in content)
    if not isinstance(content, str) or not content.strip():
        return None, "the question has no text"
    return content, ""


def _is_text(block: Any) -> bool:
    if isinstance(block, str):
        return True
    return (
        isinstance(block, dict)
        and block.get("type") == "text"
        and isinstance(block.get("text"), str)
    )


def _compared(
    messages: Sequence[Mapping[str, Any]], forms: Sequence[Any], last: int, context: Context
) -> list[Any]:
    """Return the messages before the question that must be equal."""
    before = forms[:last]
    if context == "exact":
        return list(before)
    kept = {i for i in range(last) if _role(messages[i]) in ("system", "developer")}
    if context == "last_turns":
        turns = [i for i in range(last) if _role(messages[i]) == "human"]
        start = turns[-LAST_TURNS] if len(turns) >= LAST_TURNS else 0
        kept |= set(range(start, last))
    return [before[i] for i in sorted(kept)]


@lru_cache(maxsize=1_024)
def _settings_hash(llm_string: str) -> str:
    """Hash the model's settings without the cosmetic ones; the text itself is never kept."""
    if _NAMELESS.search(llm_string):
        raise UnkeyableError(
            "The call names a class or an object of which only the name is visible "
            "(response_format=SomeClass?). Put the model into optimize(model, cache), which sees "
            "the schema, or pass the JSON schema instead of the class."
        )
    head, mark, tail = llm_string.partition("---")
    if mark and head.startswith("{"):
        try:
            settings = json.loads(head)
        except (ValueError, RecursionError):
            settings = None
        if isinstance(settings, dict) and isinstance(settings.get("kwargs"), dict):
            kwargs = settings["kwargs"]
            settings["kwargs"] = {k: v for k, v in kwargs.items() if k not in _COSMETIC}
            settings.pop("name", None)
            settings.pop("graph", None)
            head = json.dumps(settings, sort_keys=True)
    text = f"{head}{mark}{tail}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=16).hexdigest()
