"""Work done ahead of need: what comes next is loaded while the model still thinks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from inspect import iscoroutinefunction
from typing import Any, Final, Self, TypeVar

from langchain_core.language_models import BaseLanguageModel
from langchain_core.runnables import Runnable, RunnableConfig

from langchain_tokenopt.cache.semantic import SemanticCache
from langchain_tokenopt.chat_model.optimize import optimize
from langchain_tokenopt.core.argument_checks import (
    check_whole,
    is_number,
    names_what,
    refuse_class,
    shown,
    takes_names,
)
from langchain_tokenopt.core.records import CallRecord, UsageEvent, UsageSink
from langchain_tokenopt.core.sinks import checked_sinks
from langchain_tokenopt.learn.prefetch.callers import Caller, caller_here, learner_of
from langchain_tokenopt.learn.prefetch.calls import PrefetchedCalls
from langchain_tokenopt.learn.prefetch.habits import Habits
from langchain_tokenopt.learn.prefetch.loads import Source
from langchain_tokenopt.learn.prefetch.loads_ahead import LoadLimits, LoadsAhead
from langchain_tokenopt.learn.prefetch.spending import PrefetchSpending
from langchain_tokenopt.learn.prefetch.wrapping import prefetched
from langchain_tokenopt.pricing.rate_card import RateCard
from langchain_tokenopt.storage.learned_store import LearnedStore

__all__ = ["PrefetchStats", "Prefetcher"]

Wrapped = TypeVar("Wrapped")

_LOADER: Final = "loader"
_KEY: Final = "key"
_CLOSING_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefetchStats:
    """What a prefetcher has done; ``started == used + wasted + outstanding``."""

    calls: int
    """Calls that were seen."""
    guesses: int
    """Calls before which one was thought the most probable, whether or not it was acted upon."""
    right_guesses: int
    """Of these, how often it was the one."""
    started: int
    """Loads begun ahead, without those that were given up before they began."""
    used: int
    """Loads whose result a call was given."""
    wasted: int
    """Loads whose result nobody was given: not needed, failed, too slow, or out of date."""
    failed: int
    """Of these, loads that raised, returned garbage or took too long."""
    outstanding: int
    """Loads under way, or held for a call that may come."""
    refused: int
    """Predictions not acted upon: too much, or a change, was under way, or no money was left."""
    right_in_shadow: int
    """Predictions that were right while nothing was loaded ahead."""
    wrong_in_shadow: int
    seconds_saved: float
    """How long the loads took whose results were used, less what calls waited for them."""
    spent_usd: Decimal
    """Spent on models called ahead."""

    @property
    def hit_ratio(self) -> float | None:
        """The share of guesses that were right; ``None`` without any."""
        return self.right_guesses / self.guesses if self.guesses else None

    @property
    def waste_ratio(self) -> float | None:
        """The share of loads that were wasted, among those that have ended; ``None``: none has."""
        ended = self.used + self.wasted
        return self.wasted / ended if ended else None


class Prefetcher:
    """Loads ahead what a user's agent will ask for next, where that is nearly certain.

    It learns the order of calls per user and agent (``transitions.py``), their arguments by where
    they come from (``call_shapes.py``), and begins with what at least three users have in common.
    After each call, a next one that is nearly certain (85 % while little was wasted, up to 95 %
    after waste) is made ahead, in the background. Its result is held for the call that needs it:
    each is given to one call, of the same owner. A call for what is under way waits for it, no
    longer than loading it anew would take; a load that fails is made again by the call itself.

    Whose calls these are is read from ``user_id`` (or an organization or account) in the metadata
    of the run, from ``track_usage(user=...)`` or ``token_scope`` around, else from the
    ``thread_id``. Calls that say none of it have one owner in common.

    Only what changes nothing is loaded ahead: the *loader*, retrievers and embeddings that are
    given to :meth:`wrap`, and of tools, runnables and functions those that *read_only* names. A
    call of any other wrapped one drops all that is held or under way, for all users, and nothing is
    begun before it has ended: what was loaded may no longer be true. Name it in *own_changes* where
    it changes nothing that others read.

    Loads begin when 18 predictions in a row were right; a test stops a user's loads soon after more
    than *max_waste* of them were wasted (``waste_gate.py``). Predictions go on in the shadow, and
    loads begin again when these have been right. A new user begins where the first calls of others
    have left it.

    Args:
        cache: A ``SemanticCache`` to be filled ahead: *loader* is then a chat model, or a chain
            around one, and prompts are the keys. Predictions are learned from :meth:`observe`.
        loader: Returns, for a key, what it stands for; a function, sync or async, or a runnable.
        namespace: Under which is kept what is learned.
        max_waste: The share of loads that may be wasted; above 0, below 1.
        read_only: Names of tools, functions and runnables that change nothing.
        shared: Names of tools whose results are the same for all users, and keys of the loader of
            which that is true.
        own_changes: Names of tools, functions and runnables that change only what their own caller
            reads, and what is shared.
        store: Keeps what is learned; ``None``: it ends with this object.
        budget_usd: US dollars that models may cost that are called ahead, by the loader or inside
            of tools; ``None``: none is called. They are counted as the agent ``prefetch``.
        ttl_seconds: How long a result is held.
        max_held: How many results are held or under way at a time.
        timeout_seconds: After which a load counts as failed.
        sinks: Hear of the models that are called ahead, beside the trackers around.
        rate_card: Prices of models; by default those that are built in.

    Raises:
        TypeError: *cache*, *loader* or *store* is something else.
        ValueError: A number is out of its range, or a model is to be called without a budget.

    Example:
        >>> loaded = []
        >>> prefetcher = Prefetcher(loader=lambda key: loaded.append(key) or key.upper())
        >>> for key in 30 * ["rates", "news"]:
        ...     _ = prefetcher.get(key, user="ann")
        ...     prefetcher.wait()
        >>> loaded == 30 * ["rates", "news"] + ["rates"]
        True
        >>> prefetcher.stats().used > 30, prefetcher.stats().wasted
        (True, 0)
    """

    @takes_names
    def __init__(
        self,
        cache: SemanticCache | None = None,
        loader: Callable[[Any], Any] | Runnable[Any, Any] | None = None,
        *,
        namespace: str = "default",
        max_waste: float = 0.1,
        read_only: Iterable[str] = (),
        shared: Iterable[str] = (),
        own_changes: Iterable[str] = (),
        store: LearnedStore | None = None,
        budget_usd: float | None = None,
        ttl_seconds: float = 60.0,
        max_held: int = 256,
        timeout_seconds: float = 30.0,
        sinks: Sequence[UsageSink] = (),
        rate_card: RateCard | None = None,
    ) -> None:
        for name, number in (("ttl_seconds", ttl_seconds), ("timeout_seconds", timeout_seconds)):
            if not is_number(number) or not number > 0:
                raise ValueError(f"{name} must be a number above 0; got {shown(number)}.")
        if not is_number(max_waste) or not 0 < max_waste < 1:
            raise ValueError(f"max_waste must be above 0 and below 1; got {shown(max_waste)}.")
        if cache is not None and not isinstance(cache, SemanticCache):
            refuse_class("a cache", cache)
            raise TypeError(f"cache must be a SemanticCache or None; got {shown(cache)}.")
        if store is not None and not isinstance(store, LearnedStore):
            refuse_class("a store", store)
            raise TypeError(f"store must be a LearnedStore or None; got {shown(store)}.")
        self._read_only = _names("read_only", read_only)
        self._spending = PrefetchSpending(budget_usd, checked_sinks(sinks), rate_card)
        limits = LoadLimits(
            float(ttl_seconds),
            check_whole("max_held", max_held),
            float(timeout_seconds),
        )
        self._ahead = LoadsAhead(
            Habits(namespace, store, float(max_waste)),
            self._spending,
            limits,
            _names("shared", shared),
            _names("own_changes", own_changes),
        )
        self._calls = PrefetchedCalls(self._ahead)
        self._loader = _loader(cache, loader, budget_usd)
        self._ahead.sources[_LOADER] = self._loader

    # Use

    def get(
        self,
        key: Any,
        *,
        user: str | None = None,
        agent: str | None = None,
        thread_id: str | None = None,
        organization: str | None = None,
    ) -> Any:
        """Return what the loader returns for *key*, loaded ahead or now.

        Args:
            key: What JSON can hold; other keys are loaded, and not learned.
            user: Whose call it is; this and the rest by default as the run's metadata says.
            agent: Who makes it for the user.
            thread_id: Of the conversation, whose calls follow each other.
            organization: Whose user it is.

        Raises:
            TypeError: There is no loader, or it is async: use :meth:`aget`.
        """
        load = self._loader.load
        if load is None:
            raise TypeError(f"get needs a sync loader{self._instead('aget')}")
        who = _who(user, agent, thread_id, organization)
        return self._calls.call(self._loader, {_KEY: key}, who, lambda: load({_KEY: key}, {}))

    async def aget(
        self,
        key: Any,
        *,
        user: str | None = None,
        agent: str | None = None,
        thread_id: str | None = None,
        organization: str | None = None,
    ) -> Any:
        """Like :meth:`get`, with an async loader."""
        aload = self._loader.aload
        if aload is None:
            raise TypeError(f"aget needs an async loader{self._instead('get')}")
        who = _who(user, agent, thread_id, organization)
        return await self._calls.acall(
            self._loader, {_KEY: key}, who, lambda: aload({_KEY: key}, {})
        )

    def observe(
        self,
        key: Any,
        *,
        user: str | None = None,
        agent: str | None = None,
        thread_id: str | None = None,
        organization: str | None = None,
    ) -> None:
        """Take in that *key* is asked for elsewhere, and load ahead what comes next.

        For loaders that warm something: a cache, an embedder, a connection. A load counts as used
        when its key is observed.
        """
        who = _who(user, agent, thread_id, organization)
        self._calls.observe(self._loader, {_KEY: key}, who)

    def record(self, event: UsageEvent) -> None:
        """Observe the agents, nodes and tools of model calls: as one of the *sinks* of a tracker.

        The key of a call is its node's path, or its tool, or its agent: a loader for such keys
        warms what a node needs before its turn comes.
        """
        if isinstance(event, CallRecord):
            at = event.attribution
            self.observe(
                at.node or at.tool or at.agent,
                user=at.user,
                agent="calls",
                thread_id=at.thread_id or event.run,
                organization=at.organization,
            )

    def wrap(self, thing: Wrapped) -> Wrapped:
        """Return a tool, retriever, embedder, runnable or function whose calls may be made ahead.

        Tools and retrievers stay instances of their classes, for ``create_agent``, ``ToolNode`` and
        pipes; the originals are untouched. A tool that is given more than the model has chosen
        (state, a runtime, nested models) is called as ever, and never ahead. A list gives a list.

        Raises:
            TypeError: It is something else.
        """
        if isinstance(thing, list | tuple):
            return type(thing)(self.wrap(each) for each in thing)
        wrapped: Wrapped = prefetched(self._calls, thing, self._read_only)
        return wrapped

    # Reports

    def stats(self) -> PrefetchStats:
        """Return what was done so far."""
        ahead = self._ahead
        outstanding = ahead.outstanding()
        names = (
            *("calls", "guesses", "right_guesses", "started", "used", "wasted", "failed"),
            *("refused", "right_in_shadow", "wrong_in_shadow"),
        )
        with ahead.lock:
            return PrefetchStats(
                **{name: ahead.counts[name] for name in names},
                outstanding=outstanding,
                seconds_saved=ahead.seconds_saved,
                spent_usd=self._spending.spent_usd,
            )

    def explain(
        self,
        *,
        user: str | None = None,
        agent: str | None = None,
        thread_id: str | None = None,
        organization: str | None = None,
    ) -> str:
        """Say what is expected next of a caller, and whether it is loaded ahead, and why."""
        who = _who(user, agent, thread_id, organization)()
        return self._ahead.explain(who)

    @names_what("store.clear()")
    def forget(self, user: str) -> int:
        """Forget what a user has done, and drop what is held for him.

        Returns:
            How many values of the store were forgotten.

        Raises:
            sqlite3.Error: The store stays locked or cannot be written.
        """
        return self._ahead.forget(learner_of(user), user)

    def wait(self, timeout_seconds: float | None = None) -> None:
        """Wait until no thread loads anything; for tests and the end of a batch."""
        self._ahead.wait(timeout_seconds)

    def close(self) -> None:
        """Drop what is held and keep what was learned; waits a second at most for what hangs.

        What was wrapped goes on working, without prefetching.
        """
        self._ahead.close(_CLOSING_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _instead(self, other: str) -> str:
        if self._loader.load is None and self._loader.aload is None:
            return ", and there is none: give Prefetcher(loader=...)."
        return f"; this one is called with {other}."


def _names(name: str, names: Iterable[str]) -> frozenset[str]:
    if isinstance(names, str):
        raise TypeError(f"{name} is a list of names; got {shown(names)}.")
    found = frozenset(names)
    for each in found:
        if not isinstance(each, str):
            raise TypeError(f"{name} is a list of names; {shown(each)} is none.")
    return found


def _who(
    user: str | None, agent: str | None, thread_id: str | None, organization: str | None
) -> Callable[[], Caller]:
    return lambda: caller_here(
        user=user, agent=agent, thread_id=thread_id, organization=organization
    )


def _loader(
    cache: SemanticCache | None,
    loader: Callable[[Any], Any] | Runnable[Any, Any] | None,
    budget_usd: float | None,
) -> Source:
    """Return the loader as something that can be asked ahead.

    Raises:
        TypeError: It is none.
        ValueError: It is a model, and nothing may be spent.
    """
    source = Source(_LOADER, is_keyed=True)
    if loader is None:
        if cache is not None:
            raise TypeError("A cache is filled by a loader: give the model as loader, too.")
        source.is_allowed = False
        return source
    if isinstance(loader, BaseLanguageModel):
        if budget_usd is None:
            raise ValueError(
                "To call a model ahead costs money: say how much it may be, with budget_usd."
            )
        loader = loader if cache is None else optimize(loader, cache)
    if isinstance(loader, Runnable):
        runnable = loader
        source.load = lambda arguments, config: runnable.invoke(arguments[_KEY], config)
        source.aload = lambda arguments, config: runnable.ainvoke(arguments[_KEY], config)
    elif callable(loader) and not isinstance(loader, type):
        function = loader

        def load(arguments: dict[str, Any], config: RunnableConfig) -> Any:
            return function(arguments[_KEY])

        called = getattr(type(loader), "__call__", None)  # noqa: B004
        if iscoroutinefunction(loader) or iscoroutinefunction(called):
            source.aload = load
        else:
            source.load = load
    else:
        refuse_class("a loader", loader)
        raise TypeError(f"loader must be a function of a key, or a runnable; got {shown(loader)}.")
    return source
