"""A tool with an account: for one user and run, within limits, and otherwise what it was.

``BudgetedTool.wrap`` makes a copy of the tool whose class is a subclass of the tool's own, made at
run time, as ``optimize`` does with models. It overrides ``run`` and ``arun``, through which every
call goes, and ``invoke`` and ``ainvoke`` where a class has written its own; what LangChain reads of
a tool, and what it does with a result, stays as it was.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import replace
from functools import cache
from typing import Any, Final, cast

from langchain_core.messages import ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import (
    ensure_config,
    merge_configs,
    run_in_executor,
    var_child_runnable_config,
)
from langchain_core.tools import BaseTool, ToolException
from pydantic import PrivateAttr

from langchain_tokenopt.budget.levels import TOOL_LIMITS, BudgetLimit
from langchain_tokenopt.budget.plan import BudgetPlan
from langchain_tokenopt.budget.records import NO_TOKEN_LIMIT
from langchain_tokenopt.budget.refusals import RefusedCall
from langchain_tokenopt.budget.run import BudgetRun, current_run
from langchain_tokenopt.core.attribution import metadata_saying
from langchain_tokenopt.core.context_blocks import ContextBlock
from langchain_tokenopt.core.time_limit import TimeIsOverError, within
from langchain_tokenopt.tools.result_limit import ResultLoader, shortened_result
from langchain_tokenopt.tools.token_scope import TokenScope, asked_by
from langchain_tokenopt.tools.tool_limits import (
    Refusal,
    ToolAccount,
    ToolCallUse,
    ToolLimits,
    ToolReport,
    checked_limits,
    told,
)
from langchain_tokenopt.tracking.callbacks import TokenUsageCallbackHandler

__all__ = ["BudgetedTool"]

_IN_A_THREAD: Final = 20_000
"""Characters of a result from which async calls shorten it in a thread."""


class BudgetedTool:
    """A tool that is called for one user and run, within limits; see :meth:`wrap`."""

    _tokenopt_seam: _ToolSeam

    @staticmethod
    def wrap(
        tool: BaseTool,
        limits: ToolLimits | None = None,
        *,
        scope: TokenScope | None = None,
        loader: ResultLoader | None = None,
    ) -> BaseTool:
        """Return a copy of *tool* that keeps to *limits*; the original is untouched.

        The copy is an instance of the tool's own class and of ``BudgetedTool``. Models that are
        called inside are an agent of their own, under the tool's name; they are counted by the
        scope's tracker, paid by its plan, and belong to its user, wherever the tool is called.

        What a limit refuses is answered with a message of status ``"error"`` that the model can
        read. Too long a call is cancelled where it is async; a sync one goes on in a thread of its
        own, since Python cannot stop a thread, and its result is dropped.

        Args:
            tool: Any tool. A budgeted one gets another account, and keeps the limits it has.
            limits: What it may use; ``None``: nothing is limited, all is counted.
            scope: For whom it is; ``None``: for whoever calls it.
            loader: Shortens results that are too long; by default ``PromptCompressor``.

        Raises:
            TypeError: *limits* are none, or the tool asks for what a scope has, and there is none.

        Example:
            >>> from langchain_core.tools import tool
            >>> @tool
            ... def look_up(word: str) -> str:
            ...     "Look a word up."
            ...     return f"{word}: a noun."
            >>> limited = BudgetedTool.wrap(look_up, ToolLimits(max_calls=1))
            >>> limited.invoke({"word": "tea"}), limited.invoke({"word": "ice"})
            ('tea: a noun.', '[look_up was not called: it may be called 1 times in this run, and \
was called 1 times. Go on with what you have, or use another tool.]')
            >>> isinstance(limited, BudgetedTool), limited.report().refused_calls
            (True, 1)
        """
        earlier = tool._tokenopt_seam if isinstance(tool, BudgetedTool) else None
        limits = checked_limits(limits)
        if limits is None:
            limits = ToolLimits() if earlier is None else earlier.account.limits
        base: Any = type(tool) if earlier is None else type(tool).__bases__[1]
        made: BaseTool = base.model_copy(tool)
        object.__setattr__(made, "__class__", _budgeted_class(base))
        seam = _ToolSeam(tool, limits, scope, loader)
        private = {**(made.__pydantic_private__ or {}), "_tokenopt_seam": seam}
        object.__setattr__(made, "__pydantic_private__", private)
        return made

    def report(self) -> ToolReport:
        """Return what it has used so far."""
        return self._tokenopt_seam.report()

    def run(
        self,
        tool_input: Any,
        verbose: bool | None = None,
        start_color: str | None = "green",
        color: str | None = "green",
        callbacks: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Run the tool within its limits."""
        run = super().run  # type: ignore[misc]
        return _limited(
            self,
            self._tokenopt_seam.call(tool_input, {**kwargs, "callbacks": callbacks}),
            lambda call: run(call.input, verbose, start_color, color, **call.kwargs),
        )

    async def arun(
        self,
        tool_input: Any,
        verbose: bool | None = None,
        start_color: str | None = "green",
        color: str | None = "green",
        callbacks: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Run the tool within its limits."""
        arun = super().arun  # type: ignore[misc]
        return await _alimited(
            self,
            self._tokenopt_seam.call(tool_input, {**kwargs, "callbacks": callbacks}),
            lambda call: arun(call.input, verbose, start_color, color, **call.kwargs),
        )


def _limited(tool: Any, begun: AbstractContextManager[_Call], work: Callable[[_Call], Any]) -> Any:
    """Do *work* within the limits of a call."""
    with begun as call:
        if call.refusal is None:
            try:
                return call.close(within(call.seconds, lambda: work(call)))
            except (RefusedCall, TimeIsOverError) as error:
                call.stop(error)
        return call.refused(tool)


async def _alimited(
    tool: Any, begun: AbstractContextManager[_Call], work: Callable[[_Call], Awaitable[Any]]
) -> Any:
    """Do *work* within the limits of a call."""
    with begun as call:
        if call.refusal is None:
            clock = asyncio.timeout(call.seconds)
            try:
                async with clock:
                    result = await work(call)
                if clock.expired():  # it has gone on for all that
                    raise TimeIsOverError
                if len(str(result)) > _IN_A_THREAD:
                    return await run_in_executor(None, call.close, result)
                return call.close(result)
            except (RefusedCall, TimeIsOverError) as error:
                call.stop(error)
            except TimeoutError as error:
                if not clock.expired():
                    raise
                call.stop(error)
        return await call.arefused(tool)


_AROUND: Final[ContextVar[Any]] = ContextVar("tokenopt_tool_around", default=None)
"""The seam of a tool whose own ``invoke`` is under way: what it runs is part of that call."""


def _own_entries(base: Any) -> dict[str, Any]:
    """Return, for a class that has written ``invoke`` or ``ainvoke`` itself, limited ones."""

    def invoke(self: Any, input: Any, config: Any = None, **kwargs: Any) -> Any:
        seam = self._tokenopt_seam
        if _AROUND.get() is seam:
            return base.invoke(self, input, config, **kwargs)
        return _limited(
            self,
            seam.call(*_as_run(input, config), is_around=True),
            lambda call: base.invoke(self, input, call.kwargs["config"], **kwargs),
        )

    async def ainvoke(self: Any, input: Any, config: Any = None, **kwargs: Any) -> Any:
        seam = self._tokenopt_seam
        if _AROUND.get() is seam:
            return await base.ainvoke(self, input, config, **kwargs)
        return await _alimited(
            self,
            seam.call(*_as_run(input, config), is_around=True),
            lambda call: base.ainvoke(self, input, call.kwargs["config"], **kwargs),
        )

    return {
        entry.__name__: entry
        for entry in (invoke, ainvoke)
        if not getattr(base, entry.__name__).__module__.startswith("langchain_core.")
    }


def _as_run(given: Any, config: Any) -> tuple[Any, dict[str, Any]]:
    """Return what ``run`` would be given for what ``invoke`` was."""
    config = ensure_config(config)
    is_call = isinstance(given, dict) and given.get("type") == "tool_call"
    names = ("callbacks", "tags", "metadata", "run_name", "run_id")
    kwargs = {name: config.get(name) for name in names}
    kwargs |= {"config": config, "tool_call_id": given["id"] if is_call else None}
    return (given["args"] if is_call else given), kwargs


@cache
def _budgeted_class(base: type[BaseTool]) -> type[BaseTool]:
    """Return the subclass of *base* that keeps to limits, one per class."""
    body = {
        "__module__": base.__module__,
        "__qualname__": base.__qualname__,
        "__doc__": base.__doc__,
        "__annotations__": {"_tokenopt_seam": Any},
        "_tokenopt_seam": PrivateAttr(default=None),
        "__reduce__": _reduce,
        **_own_entries(base),
    }
    metaclass: Any = type(base)
    return cast("type[BaseTool]", metaclass(base.__name__, (BudgetedTool, base), body))


def _reduce(self: Any) -> tuple[Any, ...]:
    """Copying protocols cannot look up a class made at run time; a scope stays in its process."""
    seam = self._tokenopt_seam
    return _wrapped, (seam.tool, seam.account.limits, seam.loader)


def _wrapped(tool: BaseTool, limits: ToolLimits, loader: ResultLoader | None) -> BaseTool:
    return BudgetedTool.wrap(tool, limits, loader=loader)


class _ToolSeam:
    """What a budgeted tool knows besides what it was."""

    def __init__(
        self,
        tool: BaseTool,
        limits: ToolLimits,
        scope: TokenScope | None,
        loader: ResultLoader | None,
    ) -> None:
        self.tool = tool
        self.account = ToolAccount(tool.name, limits)
        self.scope = scope
        self.loader = loader
        self._usage = TokenUsageCallbackHandler(max_records=0)
        self._own_run: BudgetRun | None = None
        self._lock = threading.Lock()
        self._around: list[_Call] = []
        """Calls of an own ``invoke`` that have not run the tool yet."""
        self._own: dict[str, Any] = {
            "callbacks": [self._usage],
            "metadata": metadata_saying(
                tool.name,
                user=None if scope is None else scope.user,
                organization=None if scope is None else scope.organization,
            ),
            "tags": [] if scope is None else list(scope.tags),
        }
        self._injected = self._values_of_scope()
        self._limit: tuple[BudgetLimit, ...] = ()
        if limits.max_model_tokens is not None:
            name = f"the tool {tool.name}"
            limit = BudgetLimit(total_tokens=limits.max_model_tokens, per="run", name=name)
            self._limit = (limit,)

    def __deepcopy__(self, memo: dict[int, Any]) -> _ToolSeam:
        """Return this seam: a copy of a tool has the account of the original."""
        return self

    def report(self) -> ToolReport:
        return replace(self.account.report(), model_tokens=self._usage.totals().total_tokens)

    def _values_of_scope(self) -> dict[str, Any]:
        """Return the arguments that the tool is given by its scope."""
        asked: dict[str, Callable[[TokenScope], Any]] = {}
        for name in ("_run", "_arun", "func", "coroutine"):
            function = getattr(self.tool, name, None)
            if function is not None:
                asked |= asked_by(function, self.tool.name)
        if asked and self.scope is None:
            raise TypeError(
                f"{self.tool.name} asks for what a scope has ({', '.join(asked)}): give it one "
                f"with scoped_tools(tools, scope) or ToolSet(...).for_user(scope)."
            )
        return {argument: get(self.scope) for argument, get in asked.items() if self.scope}

    def _payer(self) -> BudgetRun:
        """Return the run that pays where no plan does."""
        with self._lock:
            if self._own_run is None:
                plan = BudgetPlan(total_tokens=NO_TOKEN_LIMIT, name=self.tool.name)
                self._own_run = plan.run()
            return self._own_run

    @contextmanager
    def call(
        self, tool_input: Any, kwargs: dict[str, Any], *, is_around: bool = False
    ) -> Iterator[_Call]:
        """Begin a call, in its scope; end it with the block.

        Args:
            tool_input: Of the tool.
            kwargs: Of its ``run``.
            is_around: Whether a run may follow that is part of this call.
        """
        if not is_around and self._is_begun():
            with ContextBlock({_AROUND: None}):
                yield _Call(self, None, self._with_scope(tool_input), kwargs)
            return
        with ExitStack() as stack:
            if self.scope is not None:
                stack.enter_context(self.scope.inside())
            run = current_run()
            if self._limit and run is None:
                stack.enter_context(self._payer().inside())
            use = self.account.begin(None if run is None else run.account)
            call = _Call(self, use, self._with_scope(tool_input), self._with_own(kwargs))
            if isinstance(use, Refusal):
                yield call
                return
            around: dict[ContextVar[Any], Any] = {_AROUND: self if is_around else None}
            if is_around:  # also for a class that hands no config on
                config = call.kwargs["config"]
                of_one = ("run_id", "run_name")
                children = {key: config[key] for key in config if key not in of_one}
                around[var_child_runnable_config] = children
            stack.enter_context(ContextBlock(around))
            if is_around:
                stack.enter_context(self._running(call))
            if self._limit:
                values = {TOOL_LIMITS: (*TOOL_LIMITS.get(), *self._limit)}
                stack.enter_context(ContextBlock(values))
            try:
                yield call
            except BaseException as error:
                use.end(
                    failed=not _is_one(error, "GraphBubbleUp"),
                    uncounted=_is_one(error, "GraphInterrupt"),
                )
                raise
            use.end()

    @contextmanager
    def _running(self, call: _Call) -> Iterator[None]:
        """Let one run be part of *call*, in whichever thread; further ones count for themselves."""
        with self._lock:
            self._around.append(call)
        try:
            yield
        finally:
            with self._lock:
                self._around = [one for one in self._around if one is not call]

    def _is_begun(self) -> bool:
        """Whether a run is part of a call that was counted already."""
        with self._lock:
            return bool(self._around and self._around.pop())

    def _with_scope(self, tool_input: Any) -> Any:
        if not self._injected:
            return tool_input
        if isinstance(tool_input, str):  # LangChain fills the first argument; so it is here
            first = [name for name in self.tool.args if name not in self._injected][:1]
            tool_input = dict.fromkeys(first, tool_input)
        return {**tool_input, **self._injected} if isinstance(tool_input, dict) else tool_input

    def _with_own(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Add handlers, metadata and tags, for the tool and all that is called inside."""
        given = {key: kwargs[key] for key in self._own if kwargs.get(key)}
        own: Any = merge_configs(cast("RunnableConfig", given), cast("RunnableConfig", self._own))
        config = {**(kwargs.get("config") or {}), **own}
        return {**kwargs, **{key: own[key] for key in self._own}, "config": config}


class _Call:
    """One call of a budgeted tool."""

    def __init__(
        self,
        seam: _ToolSeam,
        use: ToolCallUse | Refusal | None,
        tool_input: Any,
        kwargs: dict[str, Any],
    ) -> None:
        self._seam = seam
        self._use = use
        self.input = tool_input
        self.kwargs = kwargs
        self.refusal: Refusal | RefusedCall | None = use if isinstance(use, Refusal) else None

    @property
    def seconds(self) -> float | None:
        """How long it may take."""
        return self._use.seconds if isinstance(self._use, ToolCallUse) else None

    def close(self, result: Any) -> Any:
        """Return the result, as long as it may be."""
        if self._use is None:  # the call around it does that
            return result
        assert isinstance(self._use, ToolCallUse)
        config = self.kwargs["config"]  # a loader may ask whose call it is
        with ContextBlock({var_child_runnable_config: config}):
            return shortened_result(result, self._use, self._query(), self._seam.loader)

    def _query(self) -> str | None:
        """Return what the model has asked the tool for."""
        given = self.input
        if isinstance(given, dict):
            shown = {k: v for k, v in given.items() if k not in self._seam._injected}
            given = " ".join(value for value in shown.values() if isinstance(value, str))
        return given.strip() or None if isinstance(given, str) else None

    def stop(self, error: Exception) -> None:
        """Take note that the call ends without a result."""
        if self._use is None:
            raise error
        assert isinstance(self._use, ToolCallUse)
        if isinstance(error, RefusedCall):
            self._seam.account.refuse()
            self.refusal = error
        else:
            self.refusal = self._use.given_up()

    def refused(self, tool: Any) -> Any:
        """Say why there is no result."""
        stand_in = self._stand_in(tool)
        if stand_in is None:
            return self._message(tool)
        return stand_in.run(self._filtered(tool), **self.kwargs)

    async def arefused(self, tool: Any) -> Any:
        """Say why there is no result."""
        stand_in = self._stand_in(tool)
        if stand_in is None:
            return self._message(tool)
        return await stand_in.arun(self._filtered(tool), **self.kwargs)

    def _error(self) -> Exception:
        assert self.refusal is not None
        return self.refusal.error() if isinstance(self.refusal, Refusal) else self.refusal

    def _message(self, tool: Any) -> Any:
        """Return what a call gives of which handlers have heard already."""
        if self._seam.account.limits.on_exceed == "raise":
            raise self._error()
        text = str(self.refusal)
        if isinstance(self.refusal, RefusedCall):  # what a developer could do is for the error
            text = told(f"No answer: {self.refusal.why or self.refusal}")
        call_id = self.kwargs.get("tool_call_id")
        if call_id is None:
            return text
        return ToolMessage(text, tool_call_id=call_id, name=tool.name, status="error")

    def _stand_in(self, tool: Any) -> BaseTool | None:
        """Return a tool that refuses in its place, for a call that has not begun."""
        if isinstance(self._use, ToolCallUse):
            return None
        error: Exception = ToolException(str(self.refusal))
        if self._seam.account.limits.on_exceed == "raise":
            error = self._error()
        shown = {key: getattr(tool, key) for key in ("callbacks", "tags", "metadata")}
        return _Refusing(
            name=tool.name, description=tool.description, handle_tool_error=True, **shown
        ).with_error(error)

    def _filtered(self, tool: Any) -> Any:
        """Return the input as handlers may see it: without what is injected."""
        if not isinstance(self.input, dict):
            return self.input
        return {name: value for name, value in self.input.items() if name in tool.args}


class _Refusing(BaseTool):
    """Raises an error where another tool would have been called: handlers hear of one call."""

    _error: Exception = PrivateAttr(default_factory=ToolException)

    def with_error(self, error: Exception) -> _Refusing:
        self._error = error
        return self

    def _run(self, *args: Any, **kwargs: Any) -> Any:
        raise self._error

    async def _arun(self, *args: Any, **kwargs: Any) -> Any:
        raise self._error


def _is_one(error: BaseException, kind: str) -> bool:
    """Whether an error is LangGraph's way to stop, or to go elsewhere."""
    errors = sys.modules.get("langgraph.errors")
    return errors is not None and isinstance(error, getattr(errors, kind))
