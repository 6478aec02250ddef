"""What a request is for the cache: an exact scope, and the question that may be compared.

LangChain hands a cache the JSON dump of all messages. Embedding that compares constructor
boilerplate: unrelated questions come out at cosine 0.86, and at 1.00 behind a long system prompt.
So the dump is read as plain JSON (never ``load``: it makes objects), the last user turn is the
question, and everything else (model settings, tools, schema, system text, history, user) must be
equal to the letter.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any, Final, Literal

from pydantic import SecretStr

from langchain_tokenopt.cache.owner_labels import Labels
from langchain_tokenopt.cache.wording import wording_of
from langchain_tokenopt.cache.writing import canonical, has_hidden_characters, same_words
from langchain_tokenopt.request.answer_form import TEXT, AnswerForm, answer_form

__all__ = [
    "NODES",
    "Context",
    "Question",
    "UnkeyableError",
    "credentials_of",
    "form_in",
    "is_owned",
    "node_question",
    "node_scope",
    "question_in",
    "question_of",
    "wording_hash",
]

Context = Literal["exact", "last_turns", "ignore"]

_OWNER_BYTES, _DOMAIN_BYTES = 16, 32
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


@dataclass(frozen=True)
class Question:
    """A request, as far as the cache looks at it."""

    exact: bytes
    """Hash of everything: equal requests, equal hashes."""
    scope: bytes
    """Hashes of everything but the text of the last user turn: whose it is, the system text (both
    together are its domain), and the rest."""
    text: str | None
    """The last user turn, when it may be compared; ``None`` leaves the exact tier only."""
    why_exact: str = ""
    """Why the text is not compared, for ``explain`` and the statistics."""
    system: str = field(default="", compare=False)
    """The system text."""
    others: tuple[Any, ...] = field(default=(), compare=False, repr=False)
    """What else must be equal, where there is a system text."""

    # These are not needed to find an equal request, which takes 60 us in all.

    @cached_property
    def near(self) -> bytes:
        """Hash of the scope and of what all wordings of the same question share."""
        if self.text is None:
            return self.exact
        return wording_hash(self.scope, self.text)

    @cached_property
    def but_system(self) -> bytes:
        """Hash of everything but the system text; empty where there is none."""
        return _hash(*self.others, canonical(self.text or "")) if self.others else b""

    @property
    def domain(self) -> bytes:
        """Hash of whose request it is, in which namespace and under which system text."""
        return domain_of(self.scope)


def domain_of(scope: bytes) -> bytes:
    """Return the domain that a scope lies in."""
    return scope[:_DOMAIN_BYTES]


def is_owned(scope: bytes, namespace: str, labels: Labels) -> bool:
    """Say whether what lies in a scope belongs to those whom labels name."""
    return scope[:_OWNER_BYTES] == _owner_hash(namespace, labels)


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
        scope = _owner_hash(namespace, labels) + _hash("no system") + _hash("text", settings)
        return _question(scope, prompt, "" if prompt.strip() else "no text")
    last = max((i for i, m in enumerate(messages) if _role(m) == "human"), default=-1)
    reader = _MessageReader(keeps_response_ids=bool(_RESPONSE_IDS.search(llm_string)))
    forms = [reader.form(message) for message in messages]
    text, why = _question_text(messages, last)
    system = [f["content"] for m, f in zip(messages, forms, strict=True) if _is_system(m)]
    domain = _owner_hash(namespace, labels) + _hash(*system)
    if last < 0:
        scope = domain + _hash("chat", settings)
        return _exact_only(scope, forms, why)
    # The rest of the user's turn (a name, extra arguments) counts like everything before it.
    rest = {**forms[last], "content": _beside_text(forms[last]["content"])}
    before = _compared(messages, forms, last, context)
    scope = domain + _hash("chat", settings, before, rest)
    if text is None:
        return _exact_only(scope, forms[last:], why)
    question = _question(scope, text, why)
    system = [form["content"] for form in before if form["kind"] in _INSTRUCTING]
    if not system or len(prompt) > _SHORT:
        return question
    others = [form for form in before if form["kind"] not in _INSTRUCTING]
    return replace(
        question,
        system="\n".join(map(str, system)),
        others=(namespace, labels, settings, others, rest),
    )


NODES: Final = b"node"
"""How the scopes of graph nodes begin, so that they can be told from those of questions."""


def node_scope(namespace: str, node: Sequence[str]) -> bytes:
    """Return the scope of what a node of a graph has written.

    Args:
        namespace: Of the cache.
        node: What names the node.
    """
    return NODES + _hash("node", namespace, *node)[len(NODES) :]


def node_question(namespace: str, labels: Labels, node: Sequence[str], key: str) -> Question:
    """Return the request that stands for a node's input; it is compared exactly."""
    said = [labels, key]
    return _exact_only(node_scope(namespace, node), said, "the input of a node")


def _owner_hash(namespace: str, labels: Labels) -> bytes:
    return _hash("owner", namespace, labels)


_INSTRUCTING: Final = ("system", "developer")
_SHORT = 10_000
"""Characters up to which a prompt is remembered: 4,096 times an image would fill the memory."""
_read_before = lru_cache(maxsize=4_096)(_read)


def _question(scope: bytes, text: str, why: str) -> Question:
    said = canonical(text)
    if not why and not _is_unicode(text):
        why = "the question is not valid Unicode"
    if not why and has_hidden_characters(said):
        why = "the question holds characters that cannot be seen"
    if why:
        return _exact_only(scope, said, why)
    return Question(_hash(scope.hex(), said), scope, text)


def question_in(scope: bytes, text: str) -> Question:
    """Return the request that asks *text* in a scope."""
    return _question(scope, text, "" if text.strip() else "no text")


def _exact_only(scope: bytes, said: Any, why: str) -> Question:
    exact = _hash(scope.hex(), said)
    return Question(exact, scope, None, why)


def _is_unicode(text: str) -> bool:
    """Say whether *text* can be written at all: JSON may hold halves of characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def wording_hash(scope: bytes, text: str) -> bytes:
    """Return the hash under which all wordings of one question in one scope are found."""
    wording = wording_of(text)
    if wording is not None:
        return _hash(scope.hex(), "wording", wording.form)
    words = same_words(text)
    if words is None:
        return _hash(scope.hex(), canonical(text))
    return _hash(scope.hex(), "words", words)


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


def _is_system(message: Mapping[str, Any]) -> bool:
    return _role(message) in ("system", "developer")


_REPEATED = frozenset({"tool_calls", "parsed"})
_RESPONSE_IDS = re.compile(r"use_previous_response_id\W+true", re.I)
"""With it ChatOpenAI sends only what follows the newest answer of which the server keeps the rest:
two histories of equal texts are then different ones (langchain-openai, ``base.py``)."""
_CALL_BLOCKS = frozenset(
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
        form["kind"] = _role(message)  # beside it a ChatMessage has a role of its own
        form["content"] = self._content(kwargs.get("content"))
        if calls := form.get("tool_calls"):
            form["tool_calls"] = [
                [c.get("name"), c.get("args"), self._number(str(c.get("id")))] for c in calls
            ]
        if "tool_call_id" in form:
            form["tool_call_id"] = self._number(str(form["tool_call_id"]))
        extra = form.get("additional_kwargs")
        if isinstance(extra, dict):  # providers repeat the tool calls there, with their ids
            form["additional_kwargs"] = {
                k: v
                for k, v in extra.items()
                if k not in ("tool_calls", "parsed") and v is not None
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


def _beside_text(content: Any) -> list[Any]:
    """Return what stands in the blocks of a content beside their type and text."""
    blocks = content if isinstance(content, list) else []
    found = [
        {k: v for k, v in block.items() if k not in ("type", "text")}
        for block in blocks
        if isinstance(block, dict)
    ]
    return [extra for extra in found if extra]


def _compared(
    messages: Sequence[Mapping[str, Any]], forms: Sequence[Any], last: int, context: Context
) -> list[Any]:
    """Return the messages before the question that must be equal."""
    before = forms[:last]
    if context == "exact":
        return list(before)
    kept = {i for i in range(last) if _is_system(messages[i])}
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
