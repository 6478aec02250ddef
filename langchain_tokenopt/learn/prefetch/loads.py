"""What is loaded ahead of need: under way, held for a while, and taken by one call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from langchain_core.runnables import RunnableConfig

from langchain_tokenopt.core.errors import TokenOptError
from langchain_tokenopt.learn.prefetch.callers import Caller
from langchain_tokenopt.learn.prefetch.waste_gate import WasteGate

__all__ = ["Load", "LoadKey", "Loaded", "NoMoneyError", "Owner", "Source"]

_LEAST_PATIENCE_SECONDS: Final = 0.05
_FIRST_PATIENCE_SECONDS: Final = 1.0
_LATEST: Final = 0.25
"""Weight of the latest duration in the mean."""


Owner = tuple[tuple[str, str], ...] | None


class LoadKey(NamedTuple):
    """What is loaded, for whom."""

    owner: Owner
    """``None``: for everybody."""
    source: str
    arguments: str


class Loaded(NamedTuple):
    """What came of a load."""

    value: Any
    seconds: float
    is_good: bool
    failure: str = "a load returned what cannot be used"
    """What went wrong, where it is not good."""
    is_refused: bool = False
    """Whether the budget had no money for it."""


class NoMoneyError(TokenOptError):
    """The budget of what is loaded ahead has refused a model: nothing that followed counts."""


def _failed(error: Exception) -> Loaded:
    text = f"{type(error).__name__}: {error}"
    return Loaded(None, 0.0, False, text, isinstance(error, NoMoneyError))


@dataclass(slots=True)
class Source:
    """Something that can be asked ahead: a loader, a tool, a retriever."""

    name: str
    load: Callable[[dict[str, Any], RunnableConfig], Any] | None = None
    """Called with the arguments and a config."""
    aload: Callable[[dict[str, Any], RunnableConfig], Coroutine[Any, Any, Any]] | None = None
    is_allowed: bool = True
    """Whether it may be asked ahead."""
    is_keyed: bool = False
    """Whether its only argument is a key."""
    is_reading: bool = True
    """Whether it changes nothing, so that what is held stays true after a call."""
    is_good: Callable[[Any], bool] = lambda value: True
    """Whether a result is one, and no garbage."""
    calls_models: bool = False
    """Whether it was seen to call a model, which costs money."""
    mean_seconds: float | None = None

    def took(self, seconds: float) -> None:
        """Take note of how long a load has taken."""
        mean = self.mean_seconds
        self.mean_seconds = seconds if mean is None else mean + _LATEST * (seconds - mean)

    def patience_seconds(self, age_seconds: float) -> float:
        """How long to wait for a load under way: to load anew would hardly be faster."""
        if self.mean_seconds is None:
            return _FIRST_PATIENCE_SECONDS
        return max(_LEAST_PATIENCE_SECONDS, 2 * self.mean_seconds - age_seconds)


@dataclass(slots=True, eq=False)
class Load:
    """One thing that is loaded, or was, and waits for the call that needs it."""

    key: LoadKey
    source: Source
    arguments: dict[str, Any]
    caller: Caller
    gate: WasteGate
    born: float = field(default_factory=time.monotonic)
    future: Future[Loaded] = field(default_factory=Future)
    loop: asyncio.AbstractEventLoop | None = None
    """Where it runs, if not in a thread."""

    def run(self, work: Callable[[], Any]) -> None:
        """Load it here, unless it was given up before."""
        if self.future.set_running_or_notify_cancel():
            begun, loaded = time.monotonic(), Loaded(None, 0.0, is_good=False)
            try:
                value = work()
                loaded = self._loaded(value, begun)
            except Exception as error:  # noqa: BLE001  a loader is foreign code
                loaded = _failed(error)
            finally:
                self.future.set_result(loaded)

    async def arun(self, work: Callable[[], Awaitable[Any]], most_seconds: float) -> None:
        """Load it here, unless it was given up before, in at most so many seconds."""
        if self.future.set_running_or_notify_cancel():
            begun, loaded = time.monotonic(), Loaded(None, 0.0, is_good=False)
            try:
                async with asyncio.timeout(most_seconds):
                    value = await work()
                loaded = self._loaded(value, begun)
            except Exception as error:  # noqa: BLE001  a loader is foreign code
                loaded = _failed(error)
            finally:
                self.future.set_result(loaded)

    def wait(self) -> Loaded | None:
        """Return what came of it, waiting as long as makes sense; ``None`` where nothing came."""
        if not self.future.done() and self._is_on_this_loop():
            return None
        try:
            loaded = self.future.result(self._patience())
        except TimeoutError:
            return None
        return loaded if loaded.is_good else None

    async def await_(self) -> Loaded | None:
        """Like :meth:`wait`, without holding the thread."""
        waiting = asyncio.shield(asyncio.wrap_future(self.future))
        try:
            loaded = await asyncio.wait_for(waiting, self._patience())
        except TimeoutError:
            return None
        return loaded if loaded.is_good else None

    def _loaded(self, value: Any, begun: float) -> Loaded:
        return Loaded(value, time.monotonic() - begun, bool(self.source.is_good(value)))

    def _patience(self) -> float:
        return self.source.patience_seconds(time.monotonic() - self.born)

    def _is_on_this_loop(self) -> bool:
        return self.loop is not None and self.loop is asyncio._get_running_loop()
