"""The settings of a call, as LangChain hands them to a cache: what of them changes an answer."""

from __future__ import annotations

import ast
import hashlib
import json
import re
from functools import lru_cache
from typing import Final, NamedTuple

from pydantic import SecretStr

from langchain_tokenopt.cache.hashes import hash_of
from langchain_tokenopt.request.answer_form import TEXT, AnswerForm, answer_form

__all__ = ["CallSettings", "UnkeyableError", "credentials_of", "form_in", "settings_in"]

_COSMETIC: Final = frozenset(
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
_NAMELESS: Final = re.compile(r"<class '|<function | object at 0x|<bound method ")
"""A part of the settings of which only the name or the address is visible."""
_RESPONSE_IDS: Final = re.compile(r"use_previous_response_id\W+true", re.I)
"""With it ChatOpenAI sends only what follows the newest answer of which the server keeps the rest:
two histories of equal texts are then different ones (langchain-openai, ``base.py``)."""


class UnkeyableError(ValueError):
    """A request of which two different ones may look the same; nothing is served or stored."""


class CallSettings(NamedTuple):
    """What counts of a call's settings; their text itself is never kept."""

    hash: str
    """Of all but the cosmetic ones."""
    keeps_response_ids: bool
    """The ids of earlier answers are part of what is sent."""


@lru_cache(maxsize=1_024)
def settings_in(llm_string: str) -> CallSettings:
    """Read the settings of a call.

    Raises:
        UnkeyableError: If they name a class or object whose content is not visible: two schemas of
            one name would share their answers.

    Example:
        >>> settings_in("fake").keeps_response_ids
        False
    """
    if _NAMELESS.search(llm_string):
        raise UnkeyableError(
            "The call names a class or an object of which only the name is visible "
            "(response_format=SomeClass?). Put the model into optimize(model, cache), which sees "
            "the schema, or pass the JSON schema instead of the class."
        )
    head, mark, tail = llm_string.partition("---")
    if mark and head.startswith("{"):
        head = _without_cosmetic(head)
    text = f"{head}{mark}{tail}".encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(text, digest_size=16).hexdigest()
    return CallSettings(digest, bool(_RESPONSE_IDS.search(llm_string)))


def _without_cosmetic(head: str) -> str:
    try:
        settings = json.loads(head)
    except (ValueError, RecursionError):
        return head
    if not isinstance(settings, dict) or not isinstance(settings.get("kwargs"), dict):
        return head
    kwargs = settings["kwargs"]
    settings["kwargs"] = {k: v for k, v in kwargs.items() if k not in _COSMETIC}
    settings.pop("name", None)
    settings.pop("graph", None)
    return json.dumps(settings, sort_keys=True)


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
    return f"---keys {hash_of(secrets).hex()}" if secrets else ""


@lru_cache(maxsize=256)
def form_in(llm_string: str) -> AnswerForm:
    """Return the form of the answer that the settings of a request ask for.

    LangChain writes the call's own arguments as a list of pairs, in Python's notation, at the end.

    Example:
        >>> form_in("{}---[('response_format', {'type': 'json_object'}), ('stop', None)]").kind
        'structured'
    """
    head, mark, tail = llm_string.partition("---[")
    try:
        kwargs = dict(ast.literal_eval("[" + tail if mark else head))
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return TEXT
    return answer_form(kwargs, kwargs.get("tools") or ())
