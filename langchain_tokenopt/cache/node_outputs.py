"""What the nodes of graphs have written, kept beside the answers of models."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from langchain_core.outputs import Generation

from langchain_tokenopt.cache.answering import Answering
from langchain_tokenopt.cache.key import NODES, Question, node_scope
from langchain_tokenopt.cache.repository import Repository
from langchain_tokenopt.cache.request_reader import RequestReader

__all__ = ["NodeOutputs"]


class NodeOutputs:
    """Outputs of nodes by their input; :func:`langchain_tokenopt.node_cache` gives them to graphs.

    Args:
        reader: Says whose they are.
        answering: Finds them.
        keep: Is given an input, an output, and for how many seconds it is used at most.
        repository: Where they are.
        namespace: Of the cache.
    """

    def __init__(
        self,
        reader: RequestReader,
        answering: Answering,
        keep: Callable[[Question, Generation, float | None], None],
        repository: Repository,
        namespace: str,
    ) -> None:
        self._reader = reader
        self._answering = answering
        self._keep = keep
        self._repository = repository
        self._namespace = namespace

    def get(self, node: Sequence[str], key: str) -> Generation | None:
        """Return what :meth:`keep` was given for the same input. Never raises."""
        question = self._reader.read_node(node, key)
        found = None if question is None else self._answering.find(question, waits=False)[0]
        return found[0] if found else None

    async def aget(self, node: Sequence[str], key: str) -> Generation | None:
        """Like :meth:`get`; the event loop never waits for the file."""
        question = self._reader.read_node(node, key)
        found = (
            None if question is None else (await self._answering.afind(question, waits=False))[0]
        )
        return found[0] if found else None

    def keep(
        self, node: Sequence[str], key: str, output: Generation, ttl_seconds: float | None = None
    ) -> None:
        """Keep what a node has written for an input. Never raises."""
        question = self._reader.read_node(node, key)
        if question is not None:
            self._keep(question, output, ttl_seconds)

    def clear(self, nodes: Iterable[Sequence[str]] | None = None) -> None:
        """Delete what nodes have written, those that are named or all.

        Raises:
            CacheFileError: If the file is locked, or its disk is full.
        """
        scopes = None if nodes is None else {node_scope(self._namespace, node) for node in nodes}
        with self._repository.named_errors():
            self._repository.drop_scopes(
                lambda scope: scope.startswith(NODES) if scopes is None else scope in scopes
            )
