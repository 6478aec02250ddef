"""Requests to models that go round LangChain: a provider's client that somebody calls by hand.

Nothing of LangChain takes part in such a call, so nothing can stand around it. It can be seen where
it leaves the process: most clients, those of OpenAI, Anthropic, Google, Mistral and Groq among
them, send through httpx or httpx2, those of AWS and of ``requests`` through urllib3.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache, wraps
from importlib import import_module
from types import FrameType
from typing import Any, Final

from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseLanguageModel

from langchain_tokenopt.core.staged_runs import UNSTAGED

__all__ = ["watch_direct_requests"]

_ASKS: Final = ("messages", "contents", "prompt", "input", "inputs")
"""Keys under which the bodies of requests to language models have what is asked."""


@cache
def watch_direct_requests() -> None:
    """Look at requests made where calls of unstaged models are noted; once in a process."""
    for module in ("httpx", "httpx2"):
        _watch(module, "Client", "send", _of_httpx)
        _watch(module, "AsyncClient", "send", _of_httpx)
    _watch("urllib3.connectionpool", "HTTPConnectionPool", "urlopen", _of_urllib3)


def _watch(module: str, kind: str, method: str, read: Callable[..., tuple[str, Any]]) -> None:
    try:
        owner = getattr(import_module(module), kind)
    except ImportError:  # then nobody sends through it
        return
    send = getattr(owner, method)

    @wraps(send)
    def sending(self: Any, *args: Any, **kwargs: Any) -> Any:
        notes = UNSTAGED.get()
        if notes is not None:
            with suppress(Exception):  # it is somebody else's request
                where, body = read(self, *args, **kwargs)
                if _asks_a_model(where, body) and not _is_sent_by_langchain():
                    notes.add_request(where)
        return send(self, *args, **kwargs)

    setattr(owner, method, sending)


def _of_httpx(client: Any, request: Any, **_: Any) -> tuple[str, Any]:
    return f"{request.url.host}{request.url.path}", request.content


def _of_urllib3(
    pool: Any, method: str, url: str, body: Any = None, *args: Any, **_: Any
) -> tuple[str, Any]:
    return f"{pool.host}{url.partition('?')[0]}", body


def _asks_a_model(where: str, body: Any) -> bool:
    """Whether a request is one of a language model, by the shape of its body."""
    if not body or "embed" in where.lower():
        return False
    asked = json.loads(body)
    if not isinstance(asked, Mapping):
        return False
    names_model = "model" in asked or "model" in where.lower()
    return names_model and any(key in asked for key in _ASKS)


def _is_sent_by_langchain() -> bool:
    """Whether a model of LangChain's stands on the stack: its calls are noted at their start."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code.co_argcount:
            owner = frame.f_locals.get(code.co_varnames[0])
            if isinstance(owner, BaseLanguageModel | Embeddings):
                return True
        frame = frame.f_back
    return False
