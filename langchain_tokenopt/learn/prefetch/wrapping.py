"""Tools, retrievers, embeddings, runnables and functions whose calls may have been made ahead.

A tool or a retriever stays an instance of its own class: a copy of it gets a subclass, made at run
time, in which the method that does the work asks first. What LangChain does around it (checking
arguments, callbacks, errors, messages) it does for each call, as ever.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from functools import cache, partial, wraps
from typing import Any, Final, cast, get_type_hints

from langchain_core.callbacks import CallbackManagerForRetrieverRun, CallbackManagerForToolRun
from langchain_core.callbacks.manager import (
    AsyncCallbackManagerForRetrieverRun,
    AsyncCallbackManagerForToolRun,
)
from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseLanguageModel
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from langchain_core.runnables.config import ensure_config
from langchain_core.tools import BaseTool, StructuredTool, Tool
from pydantic import PrivateAttr

from langchain_tokenopt.core.argument_checks import shown
from langchain_tokenopt.core.context_blocks import ContextBlock
from langchain_tokenopt.embeddings import embedder_fingerprint
from langchain_tokenopt.learn.prefetch.callers import caller_here
from langchain_tokenopt.learn.prefetch.calls import PrefetchedCalls
from langchain_tokenopt.learn.prefetch.loads import Source

__all__ = ["prefetched"]

_QUERY: Final = "query"


def prefetched(calls: PrefetchedCalls, thing: Any, read_only: frozenset[str]) -> Any:
    """Return *thing* with calls that may have been made ahead.

    Raises:
        TypeError: It is nothing that can be.
    """
    if isinstance(thing, BaseTool):
        source = _source(calls, thing.name, read_only)
        return _Seam(calls, source, thing, "_run", "_arun").copy()
    if isinstance(thing, BaseRetriever):
        source = _source(calls, thing.get_name(), None)
        source.is_good = lambda found: isinstance(found, list)
        names = "_get_relevant_documents", "_aget_relevant_documents"
        return _Seam(calls, source, thing, *names).copy()
    if isinstance(thing, Embeddings):
        return _PrefetchedEmbeddings(calls, thing)
    if isinstance(thing, BaseLanguageModel):
        raise TypeError(
            "A model is not wrapped: give it as loader, with the SemanticCache that is to be "
            "filled and a budget_usd."
        )
    if isinstance(thing, Runnable):
        source = _source(calls, thing.get_name(), read_only)
        return _prefetched_runnable(calls, source, thing)
    if callable(thing) and not isinstance(thing, type):
        name = getattr(thing, "__name__", type(thing).__name__)
        return _prefetched_function(calls, _source(calls, name, read_only), thing)
    raise TypeError(
        f"wrap takes tools, retrievers, embeddings, runnables and functions; got {shown(thing)}."
    )


def _source(calls: PrefetchedCalls, name: str, read_only: frozenset[str] | None) -> Source:
    """Register what is wrapped; *read_only* of ``None``: of a kind that changes nothing."""
    allowed = read_only is None or name in read_only
    source = Source(name, is_allowed=allowed, is_reading=allowed)
    calls.ahead.sources[name] = source
    return source


# Tools and retrievers

_INSIDE: Final[ContextVar[Any]] = ContextVar("tokenopt_prefetched_inside", default=None)
"""The seam whose call is being made: what it calls of itself is part of that call."""


class _Seam:
    """What a wrapped tool or retriever knows besides what it was."""

    def __init__(
        self, calls: PrefetchedCalls, source: Source, original: Any, sync: str, asynchronous: str
    ) -> None:
        self.calls, self.source, self.original = calls, source, original
        self.names = sync, asynchronous
        if _has_sync(original):
            source.load = self._load
        if _has_async(original, asynchronous):
            source.aload = self._aload

    def __deepcopy__(self, memo: dict[int, Any]) -> _Seam:
        """Return this seam: a copy shares what was loaded."""
        return self

    def copy(self) -> Any:
        base: Any = type(self.original)
        made = base.model_copy(self.original)
        has_async = self.source.aload is not None
        object.__setattr__(made, "__class__", _prefetched_class(base, self.names, has_async))
        private = {**(made.__pydantic_private__ or {}), "_tokenopt_prefetch": self}
        object.__setattr__(made, "__pydantic_private__", private)
        return made

    def arguments(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the caller has chosen of what the method is given."""
        passed = self._passed_by_host()
        chosen = {name: value for name, value in kwargs.items() if name not in passed}
        if args:
            chosen = {**chosen, _QUERY: args[0] if len(args) == 1 else list(args)}
        if isinstance(self.original, BaseTool) and not args:
            hidden = chosen.keys() - _visible(self.original)
            if hidden:  # what is injected is part of no prediction
                self.source.is_allowed = False
        return chosen

    def caller(self, kwargs: Mapping[str, Any]) -> Any:
        """Return who calls, by what LangChain says of this very run."""
        manager = kwargs.get("run_manager")
        return caller_here(metadata=getattr(manager, "metadata", None))

    def _load(self, arguments: dict[str, Any], config: RunnableConfig) -> Any:
        is_tool = isinstance(self.original, BaseTool)
        manager: Any = CallbackManagerForToolRun if is_tool else CallbackManagerForRetrieverRun
        return self._run(self.names[0], arguments, config, manager)

    async def _aload(self, arguments: dict[str, Any], config: RunnableConfig) -> Any:
        is_tool = isinstance(self.original, BaseTool)
        manager: Any = (
            AsyncCallbackManagerForToolRun if is_tool else AsyncCallbackManagerForRetrieverRun
        )
        return await self._run(self.names[1], arguments, config, manager)

    def _run(
        self, name: str, arguments: dict[str, Any], config: RunnableConfig, manager: Any
    ) -> Any:
        passed = self._passed_by_host()
        chosen = dict(arguments)
        args = (chosen.pop(_QUERY),) if self._is_positional(chosen) else ()
        given = {each: manager.get_noop_manager() for each in passed if each == "run_manager"}
        given |= {each: config for each in passed if each != "run_manager"}
        return getattr(self.original, name)(*args, **chosen, **given)

    def _is_positional(self, arguments: Mapping[str, Any]) -> bool:
        is_tool = isinstance(self.original, BaseTool)
        return _QUERY in arguments and not (is_tool and _QUERY in _visible(self.original))

    def _passed_by_host(self) -> frozenset[str]:
        kind: Any = type(self.original)
        return _passed_by_host(kind, self.names[0])


@cache
def _passed_by_host(kind: type, name: str) -> frozenset[str]:
    """Return the names under which LangChain hands its own objects to a method."""
    method = getattr(kind, name)
    try:
        hints = get_type_hints(method)
    except (NameError, TypeError):
        hints = {}
    found = {each for each, hint in hints.items() if hint is RunnableConfig}
    return frozenset(found | ({"run_manager"} & inspect.signature(method).parameters.keys()))


def _visible(tool: BaseTool) -> frozenset[str]:
    """Return the arguments that a model can choose."""
    schema: Any = tool.tool_call_schema
    shape = schema if isinstance(schema, dict) else schema.model_json_schema()
    return frozenset(shape.get("properties", {}))


def _has_sync(thing: Any) -> bool:
    return not isinstance(thing, StructuredTool | Tool) or thing.func is not None


def _has_async(thing: Any, name: str) -> bool:
    if isinstance(thing, StructuredTool | Tool):
        return thing.coroutine is not None
    inherited: Any = BaseTool if isinstance(thing, BaseTool) else BaseRetriever
    return getattr(type(thing), name) is not getattr(inherited, name)


@cache
def _prefetched_class(base: Any, names: tuple[str, str], has_async: bool) -> Any:
    """Return the subclass of *base* that asks what was loaded ahead, one per class."""
    run, arun = getattr(base, names[0]), getattr(base, names[1])

    @wraps(run)
    def running(self: Any, *args: Any, **kwargs: Any) -> Any:
        seam = self._tokenopt_prefetch
        if _INSIDE.get() is seam:
            return run(self, *args, **kwargs)

        def make() -> Any:
            with ContextBlock({_INSIDE: seam}):
                return run(self, *args, **kwargs)

        arguments = seam.arguments(args, kwargs)
        return seam.calls.call(seam.source, arguments, lambda: seam.caller(kwargs), make)

    @wraps(arun)
    async def arunning(self: Any, *args: Any, **kwargs: Any) -> Any:
        seam = self._tokenopt_prefetch

        async def make() -> Any:
            with ContextBlock({_INSIDE: seam}):
                return await arun(self, *args, **kwargs)

        arguments = seam.arguments(args, kwargs)
        return await seam.calls.acall(seam.source, arguments, lambda: seam.caller(kwargs), make)

    body = {
        "__module__": base.__module__,
        "__qualname__": base.__qualname__,
        "__doc__": base.__doc__,
        "__annotations__": {"_tokenopt_prefetch": Any},
        "_tokenopt_prefetch": PrivateAttr(default=None),
        "__reduce__": lambda self: (_as_it_was, (self._tokenopt_prefetch.original,)),
        names[0]: running,
        **({names[1]: arunning} if has_async else {}),
    }
    return type(base)(base.__name__, (base,), body)


def _as_it_was(original: Any) -> Any:
    """Stand in for a class made at run time, which no other process can look up."""
    return original


# The rest


class _PrefetchedEmbeddings(Embeddings):
    """Embeds questions that may have been embedded ahead; documents are passed on."""

    def __init__(self, calls: PrefetchedCalls, embeddings: Embeddings) -> None:
        self._calls, self._embeddings = calls, embeddings
        self.fingerprint = embedder_fingerprint(embeddings)
        self._source = _source(calls, type(embeddings).__name__, None)
        self._source.load = lambda arguments, _: embeddings.embed_query(arguments[_QUERY])
        self._source.is_good = lambda vector: isinstance(vector, list) and bool(vector)
        if type(embeddings).aembed_query is not Embeddings.aembed_query:
            self._source.aload = lambda arguments, _: embeddings.aembed_query(arguments[_QUERY])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._embeddings, name)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return self._embeddings.embed_documents(texts)

    def embed_query(self, text: str) -> list[float]:
        make = partial(self._embeddings.embed_query, text)
        return self._calls.call(self._source, {_QUERY: text}, caller_here, make)

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        return await self._embeddings.aembed_documents(texts)

    async def aembed_query(self, text: str) -> list[float]:
        if self._source.aload is None:  # the inherited way, in a thread
            return await super().aembed_query(text)
        make = partial(self._embeddings.aembed_query, text)
        return await self._calls.acall(self._source, {_QUERY: text}, caller_here, make)


def _prefetched_runnable(
    calls: PrefetchedCalls, source: Source, runnable: Runnable[Any, Any]
) -> Runnable[Any, Any]:
    def invoke(given: Any, config: RunnableConfig) -> Any:
        who = partial(caller_here, metadata=config.get("metadata"))
        make = partial(runnable.invoke, given, config)
        return calls.call(source, {_QUERY: given}, who, make)

    async def ainvoke(given: Any, config: RunnableConfig) -> Any:
        who = partial(caller_here, metadata=config.get("metadata"))
        make = partial(runnable.ainvoke, given, config)
        return await calls.acall(source, {_QUERY: given}, who, make)

    source.load = lambda arguments, config: runnable.invoke(arguments[_QUERY], config)
    if type(runnable).ainvoke is not Runnable.ainvoke:  # which is invoke, in a thread
        source.aload = lambda arguments, config: cast(
            "Any", runnable.ainvoke(arguments[_QUERY], config)
        )
    return RunnableLambda(invoke, ainvoke, name=source.name)


def _prefetched_function(
    calls: PrefetchedCalls, source: Source, function: Callable[..., Any]
) -> Callable[..., Any]:
    signature = inspect.signature(function)

    def bound(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        found = signature.bind(*args, **kwargs)
        found.apply_defaults()
        return found.arguments

    def again(arguments: dict[str, Any], config: RunnableConfig) -> Any:
        found = inspect.BoundArguments(signature, arguments)
        return function(*found.args, **found.kwargs)

    def who() -> Any:
        return caller_here(metadata=ensure_config().get("metadata"))

    if inspect.iscoroutinefunction(function):
        source.aload = again

        @wraps(function)
        async def acalled(*args: Any, **kwargs: Any) -> Any:
            arguments, make = bound(args, kwargs), partial(function, *args, **kwargs)
            return await calls.acall(source, arguments, who, make)

        return acalled
    source.load = again

    @wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        arguments, make = bound(args, kwargs), partial(function, *args, **kwargs)
        return calls.call(source, arguments, who, make)

    return called
