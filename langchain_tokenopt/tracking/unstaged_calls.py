"""Which models are called without stages, where stages are meant to act on all of them."""

from __future__ import annotations

from langchain_tokenopt.core.attribution import attribution_of
from langchain_tokenopt.tracking.call_starts import CallStart, ModelStartHandler

__all__ = ["UnstagedCalls"]


class UnstagedCalls(ModelStartHandler):
    """Notes calls of models without stages.

    Args:
        others: Note them, too: those of blocks around.
    """

    ignore_chain = ignore_agent = ignore_retriever = ignore_custom_event = ignore_retry = True

    def __init__(self, *others: UnstagedCalls | None) -> None:
        self._others = [other for other in others if other is not None]
        self.models: dict[tuple[str, str, bool], None] = {}
        """Model, agent, and whether it is a chat model, in the order of first calls."""
        self.requests: dict[str, None] = {}
        """Requests to models that went round LangChain."""

    def on_start(self, start: CallStart) -> None:
        """Take note of a model."""
        if not start.is_staged:
            agent = attribution_of(start.metadata).agent
            self.models[start.model or "a model", agent, start.messages is not None] = None
        for other in self._others:
            other.on_start(start)

    def add_request(self, request: str) -> None:
        """Take note of a request that no LangChain model has sent."""
        self.requests[request] = None
        for other in self._others:
            other.add_request(request)
