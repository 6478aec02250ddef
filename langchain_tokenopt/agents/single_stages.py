"""Middleware of one stage each, which takes the stage's own arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from langchain_tokenopt.agents.stage_middleware import StageMiddleware
from langchain_tokenopt.cache import SemanticCache
from langchain_tokenopt.compress import PromptCompressor
from langchain_tokenopt.context import ContextCompressor
from langchain_tokenopt.limits import WordLimit
from langchain_tokenopt.routing import ModelRouter
from langchain_tokenopt.tools.selector import ToolSelector

__all__ = [
    "ContextMiddleware",
    "ModelRoutingMiddleware",
    "PromptCompressionMiddleware",
    "SemanticCacheMiddleware",
    "ToolSelectionMiddleware",
    "WordLimitMiddleware",
]

P = ParamSpec("P")
Own = TypeVar("Own")
Made = TypeVar("Made")

_Initializing = Callable[[Own, Made], None]


def _taking_arguments_of(
    stage: Callable[P, Made],
) -> Callable[[_Initializing[Own, Made]], Callable[Concatenate[Own, P], None]]:
    """Return what makes ``__init__(self, stage)`` take what *stage* is made of."""

    def taking(initialize: _Initializing[Own, Made]) -> Callable[Concatenate[Own, P], None]:
        @wraps(initialize)
        def taken(self: Own, *args: P.args, **kwargs: P.kwargs) -> None:
            initialize(self, stage(*args, **kwargs))

        own, *_ = inspect.signature(initialize).parameters.values()
        of_stage = inspect.signature(stage)
        made: Any = taken
        made.__signature__ = of_stage.replace(parameters=[own, *of_stage.parameters.values()])
        del made.__wrapped__  # whose signature is another
        return made  # type: ignore[no-any-return]

    return taking


class PromptCompressionMiddleware(StageMiddleware):
    """A ``PromptCompressor`` around the model of an agent; takes its arguments.

    Example:
        >>> PromptCompressionMiddleware(keep=0.5).name
        'PromptCompressionMiddleware'
    """

    @_taking_arguments_of(PromptCompressor)
    def __init__(self, compressor: PromptCompressor) -> None:
        super().__init__(compressor)


class ContextMiddleware(StageMiddleware):
    """A ``ContextCompressor`` around the model of an agent; takes its arguments.

    The conversation in the agent's state stays as it is: what is shortened is what is sent.

    Example:
        >>> ContextMiddleware(max_tokens=60_000).name
        'ContextMiddleware'
    """

    @_taking_arguments_of(ContextCompressor)
    def __init__(self, compressor: ContextCompressor) -> None:
        super().__init__(compressor)


class ToolSelectionMiddleware(StageMiddleware):
    """A ``ToolSelector`` around the model of an agent; takes its arguments.

    Example:
        >>> ToolSelectionMiddleware(max_tools=8).name
        'ToolSelectionMiddleware'
    """

    @_taking_arguments_of(ToolSelector)
    def __init__(self, selector: ToolSelector) -> None:
        super().__init__(selector)


class ModelRoutingMiddleware(StageMiddleware):
    """A ``ModelRouter`` around the model of an agent; takes its arguments.

    To report how good answers were, use :attr:`router`.

    Example:
        >>> from langchain_core.language_models import FakeListChatModel
        >>> models = {name: FakeListChatModel(responses=[name]) for name in ("cheap", "strong")}
        >>> ModelRoutingMiddleware(models).router
        ModelRouter(cheap < strong, policy='balanced')
    """

    @_taking_arguments_of(ModelRouter)
    def __init__(self, router: ModelRouter) -> None:
        super().__init__(router)
        self.router = router
        """What decides."""


class WordLimitMiddleware(StageMiddleware):
    """A ``WordLimit`` around the model of an agent; takes its arguments.

    Example:
        >>> WordLimitMiddleware(60).name
        'WordLimitMiddleware'
    """

    @_taking_arguments_of(WordLimit)
    def __init__(self, limit: WordLimit) -> None:
        super().__init__(limit)


class SemanticCacheMiddleware(StageMiddleware):
    """A ``SemanticCache`` around the model of an agent; takes its arguments.

    To share one among agents, or to give it to ``cache.scope(user=...)``, make it yourself:
    ``StageMiddleware(cache)``.

    Example:
        >>> SemanticCacheMiddleware(semantic=False).name
        'SemanticCacheMiddleware'
    """

    @_taking_arguments_of(SemanticCache)
    def __init__(self, cache: SemanticCache) -> None:
        super().__init__(cache)
