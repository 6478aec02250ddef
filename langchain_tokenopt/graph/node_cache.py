"""A cache for the nodes of a graph: a node whose input has not changed is not run again.

LangGraph has the place for it: ``add_node(..., cache_policy=CachePolicy())`` says which nodes, and
``compile(cache=...)`` where their writes are kept (``langgraph.cache.base.BaseCache``, LangGraph
1.2). Its own policy pickles the input, so that a message with another id is another input; its own
caches hand messages out under the ids that they had, which in a conversation replaces the earlier
ones instead of adding to it. Both are mended here.
"""

from __future__ import annotations

import secrets
import warnings
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from langchain_core.messages import AIMessage, RemoveMessage
from langchain_core.messages.ai import UsageMetadata, add_usage
from langchain_core.outputs import ChatGeneration, Generation
from langchain_core.runnables.config import run_in_executor
from langgraph.cache.base import BaseCache, FullKey, Namespace
from langgraph.types import CachePolicy

from langchain_tokenopt.cache import SemanticCache
from langchain_tokenopt.cache.storable import why_not_stored
from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.core.records import Saving
from langchain_tokenopt.core.sinks import notify, with_ambient
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.graph.host_compat import hashed_node_key
from langchain_tokenopt.graph.node_values import canonical_key, messages_in, packed, unpacked

__all__ = ["NodeCache", "node_cache"]

_RUNNING: Final = 4_096
"""Inputs whose nodes may be running at present."""


def node_cache(cache: SemanticCache, *, name: str = "") -> NodeCache:
    """Return a cache for the nodes of a graph that keeps what they write in *cache*.

    Give it to ``compile(cache=...)``, and its policy to the nodes that may be left out when their
    input has not changed. An input is compared exactly, by what its values and messages say. A hit
    counts among the exact hits of ``cache.stats()``, and the sinks of ``track_usage`` (a ledger)
    are told what it has saved, under the name of the node.

    What a node takes from elsewhere (the config, a store, a clock, a human's answer to
    ``interrupt``) is not seen: leave such nodes out, and name the user with
    ``cache.scope(user=...)``. Kept are plain values, messages,
    documents and ``Send``; a node that writes other objects, changes or removes messages, or whose
    answers are cut off, runs each time.

    Args:
        cache: Where outputs are kept, under its limits of size, age and tenants.
        name: Tells graphs apart that share a cache and have nodes of equal names.

    Example:
        >>> from typing import TypedDict
        >>> from langgraph.graph import START, StateGraph
        >>> State = TypedDict("State", {"figures": str, "view": str})
        >>> def analyst(state):
        ...     print("asks a model")
        ...     return {"view": f"{state['figures']} is a lot"}
        >>> nodes = node_cache(SemanticCache(semantic=False))
        >>> graph = StateGraph(State).add_node("analyst", analyst, cache_policy=nodes.policy())
        >>> desk = graph.add_edge(START, "analyst").compile(cache=nodes)
        >>> [desk.invoke({"figures": "7 %"})["view"] for _ in range(2)]
        asks a model
        ['7 % is a lot', '7 % is a lot']
    """
    return NodeCache(cache, name)


class NodeCache(BaseCache[Any]):
    """LangGraph's cache of nodes, kept in a :class:`SemanticCache`; see :func:`node_cache`."""

    def __init__(self, cache: SemanticCache, name: str = "") -> None:
        super().__init__()
        self.cache = cache
        self.not_stored: Counter[str] = Counter()
        """Outputs that were not kept, by reason."""
        self._name = name
        self._ids: OrderedDict[str, frozenset[str] | None] = OrderedDict()
        """Ids of the messages in an input, by its key; ``None`` for one that cannot be compared."""
        self._has_warned = False

    def policy(
        self, *, on: Iterable[str] | None = None, version: str = "", ttl: int | None = None
    ) -> CachePolicy[Callable[..., str]]:
        """Return a policy for a node.

        Args:
            on: Keys of the state that the node reads, where it is given more than it reads.
            version: Of the node; give another one when its prompts or its code have changed.
            ttl: Seconds for which an output is used; the cache's own limit holds, too.
        """
        fields = None if on is None else tuple(on)

        def key(*args: Any, **kwargs: Any) -> str:
            given = args[0] if len(args) == 1 and not kwargs else [args, kwargs]
            return self._key(given if fields is None else _part(given, fields), version)

        return CachePolicy(key_func=key, ttl=ttl)

    def _key(self, given: Any, version: str) -> str:
        ids: frozenset[str] | None
        try:
            key = canonical_key(self._name, version, given)
            ids = frozenset(message.id for message in messages_in(given) if message.id)
        except (TypeError, ValueError, RecursionError) as error:
            key, ids = secrets.token_hex(16), None
            self._warn(f"A node runs each time: {error}. Name what it reads: policy(on=[...]).")
        self._ids[hashed_node_key(key)] = ids
        if len(self._ids) > _RUNNING:
            self._ids.popitem(last=False)
        return key

    # LangGraph's interface

    def get(self, keys: Sequence[FullKey]) -> dict[FullKey, Any]:
        """Return what nodes wrote for the same inputs. Never raises."""
        asked = [key for key in keys if self._is_comparable(key)]
        return self._read({key: self.cache.node_outputs.get(*key) for key in asked})

    async def aget(self, keys: Sequence[FullKey]) -> dict[FullKey, Any]:
        """Like :meth:`get`; the event loop never waits for the file."""
        asked = [key for key in keys if self._is_comparable(key)]
        return self._read({key: await self.cache.node_outputs.aget(*key) for key in asked})

    def set(self, pairs: Mapping[FullKey, tuple[Any, int | None]]) -> None:
        """Keep what nodes have written, as far as it can be used again. Never raises."""
        for key, (writes, ttl) in pairs.items():
            reason = self._why_not(key, writes)
            if not reason:
                try:
                    output = _as_generation(writes)
                except (TypeError, ValueError, RecursionError) as error:
                    reason = "not serialisable"
                    self._warn(f"A node runs each time: {error}. Let it write plain values.")
                else:
                    self.cache.node_outputs.keep(*key, output, ttl)
            self.not_stored.update([reason] if reason else [])

    async def aset(self, pairs: Mapping[FullKey, tuple[Any, int | None]]) -> None:
        """Like :meth:`set`, in another thread."""
        await run_in_executor(None, self.set, pairs)

    def clear(self, namespaces: Sequence[Namespace] | None = None) -> None:
        """Delete what the named nodes have written, or all; answers of models stay.

        Raises:
            CacheFileError: If the file is locked, or its disk is full.
        """
        self.cache.node_outputs.clear(namespaces)

    async def aclear(self, namespaces: Sequence[Namespace] | None = None) -> None:
        """Like :meth:`clear`, in another thread."""
        await run_in_executor(None, self.clear, namespaces)

    def _is_comparable(self, key: FullKey) -> bool:
        return self._ids.get(key[1], frozenset()) is not None

    def _read(self, found: Mapping[FullKey, Generation | None]) -> dict[FullKey, Any]:
        read = {}
        for key, output in found.items():
            if output is None:
                continue
            try:
                read[key] = [(channel, value) for channel, value in unpacked(output.text)]
            except (TypeError, ValueError) as error:
                self._warn(f"A node runs again: {error}.")
                continue
            notify(with_ambient(()), _saving(key[0], output))
        return read

    def _why_not(self, key: FullKey, writes: Any) -> str:
        """Return why an output must not be used again; '' when it may."""
        given = self._ids.get(key[1], frozenset())
        if given is None:
            return "unkeyable"
        for message in messages_in([value for _, value in writes]):
            if isinstance(message, RemoveMessage) or message.id in given:
                return "changes messages"
            if isinstance(message, AIMessage):
                reason = why_not_stored([ChatGeneration(message=message)], tool_calls=True)
                if reason not in ("", "empty"):
                    return reason
        return ""

    def _warn(self, text: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            warnings.warn(f"{text} This is not mentioned again.", TokenOptWarning, stacklevel=3)


def _part(given: Any, fields: Sequence[str]) -> dict[str, Any]:
    if isinstance(given, Mapping):
        return {name: given[name] for name in fields if name in given}
    return {name: getattr(given, name) for name in fields if hasattr(given, name)}


def _as_generation(writes: Any) -> Generation:
    """Return writes as an answer of a model, which costs what their answers once cost."""
    text = packed([list(write) for write in writes])
    usage: UsageMetadata | None = None
    for message in messages_in([value for _, value in writes]):
        if isinstance(message, AIMessage) and message.usage_metadata:
            usage = add_usage(usage, message.usage_metadata)
    return ChatGeneration(message=AIMessage(text, usage_metadata=usage))


def _saving(node: Namespace, output: Generation) -> Saving:
    message = output.message if isinstance(output, ChatGeneration) else None
    usage = message.usage_metadata if isinstance(message, AIMessage) else None
    tokens = Usage.from_metadata(usage).total_tokens if usage else max(1, len(output.text) // 4)
    return Saving(
        stage="NodeCache",
        tokens_before=tokens,
        tokens_after=0,
        exact=bool(usage),
        agent=node[-1] if node else "default",
        at=datetime.now(UTC),
    )
