"""Calls that may have been made ahead: they get what is there, or do it themselves."""

from __future__ import annotations

import time
import warnings
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.learn.prefetch.call_shapes import canonical
from langchain_tokenopt.learn.prefetch.callers import Caller
from langchain_tokenopt.learn.prefetch.loads import Load, Source
from langchain_tokenopt.learn.prefetch.loads_ahead import LoadsAhead
from langchain_tokenopt.stage import is_disabled

__all__ = ["PrefetchedCalls"]

Result = TypeVar("Result")


class PrefetchedCalls:
    """Makes calls; whatever goes wrong with prefetching, the call is made as without it.

    Args:
        ahead: What is loaded ahead.
    """

    def __init__(self, ahead: LoadsAhead) -> None:
        self.ahead = ahead
        self._has_warned = False

    def call(
        self,
        source: Source,
        arguments: dict[str, Any],
        caller: Callable[[], Caller],
        make: Callable[[], Result],
    ) -> Result:
        """Return the result of a call: what was loaded ahead, or what *make* returns."""
        with self.ahead.changing(source, caller):
            arrived = self._arrive(source, arguments, caller)
            if arrived is None:
                return make()
            who, load = arrived
            if load is not None and (loaded := self.ahead.take(load)):
                result: Result = loaded.value
            else:
                begun = time.monotonic()
                result = make()
                source.took(time.monotonic() - begun)
        self._depart(source, who, result)
        return result

    async def acall(
        self,
        source: Source,
        arguments: dict[str, Any],
        caller: Callable[[], Caller],
        make: Callable[[], Awaitable[Result]],
    ) -> Result:
        """Like :meth:`call`."""
        with self.ahead.changing(source, caller):
            arrived = self._arrive(source, arguments, caller)
            if arrived is None:
                return await make()
            who, load = arrived
            if load is not None and (loaded := await self.ahead.atake(load)):
                result: Result = loaded.value
            else:
                begun = time.monotonic()
                result = await make()
                source.took(time.monotonic() - begun)
        self._depart(source, who, result, is_async=True)
        return result

    def observe(
        self, source: Source, arguments: dict[str, Any], caller: Callable[[], Caller]
    ) -> None:
        """Take in a call that is made elsewhere: a load for it has warmed what it asks."""
        arrived = self._arrive(source, arguments, caller)
        if arrived is not None:
            who, load = arrived
            if load is not None:
                self.ahead.take_as_it_is(load)
            self._depart(source, who, None)

    def _arrive(
        self, source: Source, arguments: dict[str, Any], caller: Callable[[], Caller]
    ) -> tuple[Caller, Load | None] | None:
        """Take a call in; ``None`` where it cannot be, or is not to be."""
        if is_disabled() or self.ahead.is_closed or canonical(arguments) is None:
            return None
        try:
            who = caller()
            return who, self.ahead.arrive(source, arguments, who)
        except Exception as error:  # noqa: BLE001  an optimizer breaks no call
            self._warn(error)
            return None

    def _depart(
        self, source: Source, caller: Caller, result: Any, *, is_async: bool = False
    ) -> None:
        try:
            self.ahead.depart(source, caller, result, is_async=is_async)
        except Exception as error:  # noqa: BLE001  an optimizer breaks no call
            self._warn(error)

    def _warn(self, error: Exception) -> None:
        if not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"Prefetching failed ({type(error).__name__}: {error}); calls are made without it. "
                f"This is not mentioned again.",
                TokenOptWarning,
                stacklevel=4,
            )
