"""One context for everything below it: who pays, how much, how short, and what is remembered."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import wraps
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from typing import TYPE_CHECKING, Any, Final, ParamSpec, Self, TypeVar, cast

from langchain_tokenopt.budget.plan import check_plan
from langchain_tokenopt.budget.run import current_run
from langchain_tokenopt.chat_model.every_model import EVERY_MODEL, watch_every_model
from langchain_tokenopt.chat_model.presets import stages_of
from langchain_tokenopt.chat_model.stages import (
    as_stage,
    as_stages,
    missing_in,
    refuse_contradictions,
)
from langchain_tokenopt.core.argument_checks import takes_names
from langchain_tokenopt.core.attribution import names_of
from langchain_tokenopt.core.context_blocks import ContextBlock
from langchain_tokenopt.core.levels import Level
from langchain_tokenopt.core.own_context import in_own_context
from langchain_tokenopt.core.records import UsageSink
from langchain_tokenopt.core.staged_runs import UNSTAGED, register_hooks
from langchain_tokenopt.core.threads import CARRIED, along, watch_threads
from langchain_tokenopt.stage import AMBIENT, Stage
from langchain_tokenopt.tools.token_scope import TokenScope
from langchain_tokenopt.tracking.callbacks import track_usage
from langchain_tokenopt.tracking.direct_requests import watch_direct_requests
from langchain_tokenopt.tracking.unstaged_calls import UnstagedCalls

if TYPE_CHECKING:
    from langchain_core.caches import BaseCache

    from langchain_tokenopt.budget.alerts import AlertCallback, BudgetAlert
    from langchain_tokenopt.budget.plan import BudgetPlan

__all__ = ["TokenScope", "stage_all", "token_scope"]

P = ParamSpec("P")
T = TypeVar("T")


@takes_names
@contextmanager
def token_scope(
    *,
    user: str | None = None,
    organization: str | None = None,
    level: Level | None = None,
    plan: BudgetPlan | None = None,
    cache: BaseCache | Stage | None = None,
    sinks: Sequence[UsageSink] = (),
    alert: BudgetAlert | AlertCallback | None = None,
    thread_id: str | None = None,
    tags: Sequence[str] = (),
) -> Iterator[TokenScope]:
    """Set tracking, level, budget and cache for every model call below, sync and async.

    Models that carry stages, be it none (``optimize(model)``), get those of the scope besides their
    own; a model's own stage goes before one of the same kind. All other models are tracked and
    charged; :meth:`TokenScope.uncovered` names them. Tools that call models inside are part of it.

    It reaches as far as the context does: into tasks, also those that outlive it,
    ``asyncio.to_thread`` and LangChain's threads. Not into threads and executors of your own
    (``threading.Thread``, ``executor.submit``, ``loop.run_in_executor``) unless these run in a copy
    of the context (``contextvars.copy_context().run``), nor into other processes. Python tells
    nobody of them, so :meth:`TokenScope.uncovered` cannot name them; a model that carries the plan
    itself, ``optimize(model, plan)``, refuses there. A scope inside a scope replaces what it sets
    itself and keeps the rest; a plan cannot be replaced.

    Args:
        user: Whose calls these are: in usage records, and in the cache, which then serves nobody
            else's answers.
        organization: The same for a group of users.
        level: ``"none"``, ``"balanced"``, ``"aggressive"`` or ``"maximum"``.
        plan: Run for as long as the scope lasts.
        cache: Asked before every staged model.
        sinks: Told about every call, saving and budget event.
        alert: Told when the plan's budget runs low, as with ``plan.run(alert=...)``.
        thread_id: For the plan's run.
        tags: Of every call of the tools that are made for the scope.

    Raises:
        ValueError: If *cache* cannot keep users apart, and a user or an organization is given; or
            there is an *alert* and no *plan*.
        NoBudgetRunError: If *plan* is given inside of another plan's run.

    Example:
        >>> from langchain_core.language_models import FakeListChatModel
        >>> from langchain_tokenopt import optimize
        >>> model = optimize(FakeListChatModel(responses=["Four."]))
        >>> with token_scope(user="ann", level="balanced") as scope:
        ...     answer = model.invoke("What is 2 + 2?")
        >>> list(scope.usage.by("user")), scope.uncovered()
        (['ann'], [])
    """
    stages = tuple(stages_of(level or "none"))
    if plan is not None:
        check_plan(plan)
    if alert is not None and plan is None:
        raise ValueError("alert= is for the budget of a plan: give plan=BudgetPlan(...), too.")
    with ExitStack() as stack:
        if cache is not None:
            stages = (*stages, as_stage(cache))
            _refuse_if_shared(cache, user, organization)
        usage = stack.enter_context(track_usage(sinks, user, organization=organization))
        unstaged, run = UnstagedCalls(UNSTAGED.get()), None
        register_hooks()
        stack.enter_context(ContextBlock({AMBIENT: _with(stages), UNSTAGED: unstaged}))
        if plan is not None:
            run = stack.enter_context(
                plan.run(thread_id, user=user, organization=organization, sinks=sinks, alert=alert)
            )
        given = (("the level", level), ("the cache", cache), ("shortening", plan))
        shortens = [name for name, value in given if value not in (None, "none")]
        yield TokenScope(
            usage,
            run or current_run(),
            unstaged,
            shortens,
            user=user,
            organization=organization,
            thread_id=thread_id,
            level=level,
            tags=tags,
        )


def _refuse_if_shared(cache: BaseCache | Stage, user: str | None, organization: str | None) -> None:
    """Refuse a cache that serves one user's answers to another, where users are named."""
    given = names_of(user, organization)
    if given and not getattr(cache, "keeps_users_apart", False):
        raise ValueError(
            f"{type(cache).__name__} cannot keep users apart: it would serve one user's answers to "
            f"another. Give a SemanticCache, or leave out {' and '.join(given)}."
        )


def _with(stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """Return the stages that hold here, with these instead of those of the same kind."""
    return (*(s for s in AMBIENT.get() if not any(_same_kind(s, new) for new in stages)), *stages)


def _same_kind(one: Stage, other: Stage) -> bool:
    return type(one) is type(other) or one.phase == other.phase


class stage_all:  # noqa: N801  used as a word, as contextlib's are
    """Stage every chat model that is called inside, as if it had gone through ``optimize``.

    For applications that make their models where you cannot reach them: in nodes, in tools, in
    other packages. It does not matter when or where a model was made; what counts is that it is
    called inside: in tasks, nodes, subgraphs, agents, and in threads and thread pools that are
    given work inside. Models that are staged already get these stages besides their own; their own
    go before one of the same kind. Under ``plan.run()``, around or inside, every model is then paid
    for as a staged one: shortened where need be, and answered for where nothing is left.

    Use it in a ``with`` statement, or as a decorator of a function, a coroutine function or a
    generator function. What it cannot do, :meth:`uncovered` says.

    A thread that is started inside belongs to it for as long as the thread lives; so start threads
    that work for others, too, outside. Other processes are not reached.

    Args:
        stages: As for ``optimize``.
        level: As for ``optimize``.

    Raises:
        TypeError: A stage is no stage.
        ValueError: Stages contradict each other, or there is no such level.

    Example:
        >>> from langchain_core.caches import InMemoryCache
        >>> from langchain_core.language_models import FakeListChatModel
        >>> def their_application():
        ...     model = FakeListChatModel(responses=["one", "two"])
        ...     return [model.invoke("How many?").content for _ in range(2)]
        >>> with stage_all(InMemoryCache()) as everything:
        ...     their_application()
        ['one', 'one']
        >>> everything.uncovered()
        []
    """

    def __init__(self, *stages: Stage | BudgetPlan | BaseCache, level: Level | None = None) -> None:
        own = as_stages(stages)
        given = (*own, *missing_in(own, stages_of(level or "none")))
        self._stages = sorted(given, key=lambda stage: stage.phase)
        refuse_contradictions(self._stages)
        self._notes = UnstagedCalls()
        self._entered: list[ContextBlock] = []

    def __enter__(self) -> Self:
        block = self._block()
        block.__enter__()
        self._entered.append(block)
        return self

    def __exit__(self, *error: Any) -> None:
        innermost = [block for block in self._entered if block.is_innermost]
        block = (innermost or self._entered)[-1]
        self._entered.remove(block)
        block.__exit__(*error)

    def __call__(self, function: Callable[P, T]) -> Callable[P, T]:
        """Return *function*, every call of which runs inside."""
        function_: Any = function

        def calling(*args: P.args, **kwargs: P.kwargs) -> Any:
            with self._block():
                return function_(*args, **kwargs)

        async def awaiting(*args: P.args, **kwargs: P.kwargs) -> Any:
            with self._block():
                return await function_(*args, **kwargs)

        def generating(*args: P.args, **kwargs: P.kwargs) -> Iterator[Any]:
            def inside() -> Generator[Any, None, None]:
                with self._block():
                    yield from function_(*args, **kwargs)

            yield from in_own_context(inside())

        async def agenerating(*args: P.args, **kwargs: P.kwargs) -> AsyncIterator[Any]:
            async def inside() -> AsyncGenerator[Any, None]:
                with self._block():
                    async for item in function_(*args, **kwargs):
                        yield item

            async for item in in_own_context(inside()):
                yield item

        kinds: tuple[tuple[Callable[[Any], bool], Callable[..., Any]], ...] = (
            (iscoroutinefunction, awaiting),
            (isasyncgenfunction, agenerating),
            (isgeneratorfunction, generating),
        )
        wrapper = next((wrapper for is_one, wrapper in kinds if is_one(function)), calling)
        return cast("Callable[P, T]", wraps(function)(wrapper))

    def _block(self) -> ContextBlock:
        register_hooks()
        watch_every_model()
        watch_threads()
        watch_direct_requests()
        outer = UNSTAGED.get()
        notes = self._notes if outer in (None, self._notes) else UnstagedCalls(outer, self._notes)
        return ContextBlock(
            {
                AMBIENT: _with(self._stages),
                EVERY_MODEL: True,
                UNSTAGED: notes,
                CARRIED: along,
            }
        )

    def uncovered(self) -> list[str]:
        """Say, a sentence each, what was called inside so far and could not be staged.

        Text models (``BaseLLM``), chat models whose class replaces the methods with which calls
        begin, and clients of providers that are called without LangChain. What such a client sends
        by httpx, httpx2 or urllib3 is seen; not what is sent by other means, and not embeddings.
        """
        models = [
            f"{model}, called by {agent!r}, {_WHY[is_chat]}"
            for model, agent, is_chat in self._notes.models
        ]
        return models + [
            f"a request to {request} went round LangChain, so no stage has seen it: ask a chat "
            f"model of LangChain's instead."
            for request in self._notes.requests
        ]


_WHY: Final = {
    True: "was not staged: its class replaces the methods with which calls begin. Put "
    "optimize(model) around it.",
    False: "is a text model, around which no stages can stand: use a chat model instead.",
}
