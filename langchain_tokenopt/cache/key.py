"""What a request is for the cache: an exact scope, and the question that may be compared.

LangChain hands a cache the JSON dump of all messages. Embedding that compares constructor
boilerplate: unrelated questions come out at cosine 0.86, and at 1.00 behind a long system prompt.
So the last user turn is the question, and everything else (model settings, tools, schema, system
text, history, user) must be equal to the letter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, Final

from langchain_tokenopt.cache.call_settings import settings_in
from langchain_tokenopt.cache.conversation import Context, Conversation, read_conversation
from langchain_tokenopt.cache.hashes import hash_of
from langchain_tokenopt.cache.owner_labels import Labels
from langchain_tokenopt.cache.wording import RULES, wording_of
from langchain_tokenopt.cache.writing import canonical, has_hidden_characters, same_words

__all__ = [
    "NODES",
    "Question",
    "domain_of",
    "is_owned",
    "is_wording_hash",
    "node_question",
    "node_scope",
    "question_in",
    "question_of",
    "wording_hash",
]

_OWNER_BYTES, _DOMAIN_BYTES = 16, 32
_WORDING_BYTES: Final = len(RULES) + 16
_SHORT = 10_000
"""Characters up to which a prompt is remembered: 4,096 times an image would fill the memory."""


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
        return hash_of(*self.others, canonical(self.text or "")) if self.others else b""

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
    settings = settings_in(llm_string)
    owner = _owner_hash(namespace, labels)
    said = read_conversation(prompt, keeps_response_ids=settings.keeps_response_ids)
    if said is None:
        scope = owner + _system_hash("no system") + hash_of("text", settings.hash)
        return _question(scope, prompt, "" if prompt.strip() else "no text")
    system = said.system
    domain = owner + _system_hash(*system)
    text, why = said.question()
    if said.last < 0:
        return _exact_only(domain + hash_of("chat", settings.hash), said.forms, why)
    rest = said.beside_question
    scope = domain + hash_of("chat", settings.hash, said.before(context), rest)
    if text is None:
        return _exact_only(scope, said.forms[said.last :], why)
    if len(prompt) > _SHORT or not system:
        return _question(scope, text, why)
    return _question(
        scope, text, why, *_beside_system(said, context, (namespace, labels, settings.hash))
    )


def _beside_system(
    said: Conversation, context: Context, whose: tuple[Any, ...]
) -> tuple[str, tuple[Any, ...]]:
    """Return the system text, and what else must be equal; nothing where there is none."""
    system, others = said.system_before(context)
    if not system:
        return "", ()
    return "\n".join(map(str, system)), (*whose, others, said.beside_question)


_read_before = lru_cache(maxsize=4_096)(_read)


@lru_cache(maxsize=1_024)
def _owner_hash(namespace: str, labels: Labels) -> bytes:
    return hash_of("owner", namespace, labels)


def _system_hash(*contents: Any) -> bytes:
    """Hash system texts; the usual one is the same again and again."""
    if len(contents) == 1 and isinstance(contents[0], str) and len(contents[0]) <= _SHORT:
        return _text_hash(contents[0])
    return hash_of(*contents)


_text_hash = lru_cache(maxsize=256)(hash_of)


NODES: Final = b"node"
"""How the scopes of graph nodes begin, so that they can be told from those of questions."""


def node_scope(namespace: str, node: Sequence[str]) -> bytes:
    """Return the scope of what a node of a graph has written.

    Args:
        namespace: Of the cache.
        node: What names the node.
    """
    return NODES + hash_of("node", namespace, *node)[len(NODES) :]


def node_question(namespace: str, labels: Labels, node: Sequence[str], key: str) -> Question:
    """Return the request that stands for a node's input; it is compared exactly."""
    said = [labels, key]
    return _exact_only(node_scope(namespace, node), said, "the input of a node")


def question_in(scope: bytes, text: str) -> Question:
    """Return the request that asks *text* in a scope."""
    return _question(scope, text, "" if text.strip() else "no text")


def _question(
    scope: bytes, text: str, why: str, system: str = "", others: tuple[Any, ...] = ()
) -> Question:
    said = canonical(text)
    if not why and not _is_unicode(text):
        why = "the question is not valid Unicode"
    if not why and has_hidden_characters(said):
        why = "the question holds characters that cannot be seen"
    if why:
        return _exact_only(scope, said, why, system, others)
    return Question(hash_of(scope.hex(), said), scope, text, "", system, others)


def _exact_only(
    scope: bytes, said: Any, why: str, system: str = "", others: tuple[Any, ...] = ()
) -> Question:
    return Question(hash_of(scope.hex(), said), scope, None, why, system, others)


def _is_unicode(text: str) -> bool:
    """Say whether *text* can be written at all: JSON may hold halves of characters."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def wording_hash(scope: bytes, text: str) -> bytes:
    """Return the hash under which all wordings of one question in one scope are found."""
    wording = wording_of(text)
    if wording is not None:
        return RULES + hash_of(scope.hex(), "wording", wording.form)
    words = same_words(text)
    if words is None:
        return RULES + hash_of(scope.hex(), canonical(text))
    return RULES + hash_of(scope.hex(), "words", words)


def is_wording_hash(stored: bytes | None) -> bool:
    """Say whether :func:`wording_hash` has made this by the rules of this version."""
    return stored is not None and stored.startswith(RULES) and len(stored) == _WORDING_BYTES
