"""One context for everything below it: who pays, how much, how short, and what is remembered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from uuid import UUID

from langchain_core.messages import BaseMessage
from langchain_core.tracers.context import register_configure_hook

from langchain_tokenopt.chat_model.optimize import Level, stages_of
from langchain_tokenopt.chat_model.stages import as_stage
from langchain_tokenopt.core.attribution import attribution_of
from langchain_tokenopt.core.context_blocks import ContextBlock
from langchain_tokenopt.core.host_compat import InlineHandler
from langchain_tokenopt.core.records import UsageSink
from langchain_tokenopt.core.staged_runs import is_staged
from langchain_tokenopt.stage import AMBIENT, Stage
from langchain_tokenopt.tracking.callbacks import TokenUsageCallbackHandler, track_usage
from langchain_tokenopt.tracking.provider_usage import asked_model

if TYPE_CHECKING:
    from langchain_core.caches import BaseCache

    from langchain_tokenopt.budget.plan import BudgetPlan
    from langchain_tokenopt.budget.run import BudgetRun

__all__ = ["TokenScope", "token_scope"]


class _Unstaged(InlineHandler):
    """Notes which models are called without stages."""

    ignore_chain = ignore_agent = ignore_retriever = ignore_custom_event = ignore_retry = True

    def __init__(self) -> None:
        self.models: dict[tuple[str, str], None] = {}

    def on_chat_model_start(
        self,
        serialized: dict[str, Any] | None,
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if not is_staged(kwargs.get("invocation_params")):
            self._note(metadata, kwargs)

    def on_llm_start(
        self,
        serialized: dict[str, Any] | None,
        prompts: list[str],
        *,
        run_id: UUID,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self._note(metadata, kwargs)

    def _note(self, metadata: dict[str, Any] | None, kwargs: dict[str, Any]) -> None:
        params = kwargs.get("invocation_params") or {}
        model = asked_model(metadata or {}, params) or "a model"
        self.models[str(model), attribution_of(metadata or {}).agent] = None


class TokenScope:
    """What :func:`token_scope` gives.

    Attributes:
        usage: Every call below, as ``track_usage`` records it.
        run: The run of the plan, if one was given.
    """

    def __init__(
        self,
        usage: TokenUsageCallbackHandler,
        run: BudgetRun | None,
        unstaged: _Unstaged,
        shortens: Sequence[str],
    ) -> None:
        self.usage = usage
        self.run = run
        self._unstaged = unstaged
        self._shortens = shortens

    def uncovered(self) -> list[str]:
        """Say, a sentence each, what this scope could not do so far.

        Models that nobody staged are tracked, and charged to the plan; LangChain does not let
        anybody shorten what they are sent, or answer in their place.
        """
        if not self._shortens:
            return []
        return [
            f"{model}, called by {agent!r}, has no stages, so {' and '.join(self._shortens)} did "
            f"not apply to it: put optimize(model) around it."
            for model, agent in self._unstaged.models
        ]


@contextmanager
def token_scope(
    *,
    user: str | None = None,
    organization: str | None = None,
    level: Level | None = None,
    plan: BudgetPlan | None = None,
    cache: BaseCache | Stage | None = None,
    sinks: Sequence[UsageSink] = (),
    thread_id: str | None = None,
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
        thread_id: For the plan's run.

    Raises:
        ValueError: If *cache* cannot keep users apart, and a user or an organization is given.
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
    with ExitStack() as stack:
        if cache is not None:
            stages = (*stages, as_stage(cache))
            _separate(stack, cache, user, organization)
        usage = stack.enter_context(track_usage(sinks, user, organization=organization))
        unstaged, run = _Unstaged(), None
        kept = (s for s in AMBIENT.get() if not any(_same_kind(s, new) for new in stages))
        stack.enter_context(ContextBlock({AMBIENT: (*kept, *stages), _NOTES: unstaged}))
        if plan is not None:
            run = stack.enter_context(
                plan.run(thread_id, user=user, organization=organization, sinks=sinks)
            )
        given = (("the level", level), ("the cache", cache), ("shortening", plan))
        shortens = [name for name, value in given if value not in (None, "none")]
        yield TokenScope(usage, run, unstaged, shortens)


def _separate(
    stack: ExitStack, cache: BaseCache | Stage, user: str | None, organization: str | None
) -> None:
    """Keep the answers of users apart."""
    labels = {"user": user, "organization": organization}
    given = {name: value for name, value in labels.items() if value is not None}
    if not given:
        return
    if not hasattr(cache, "scope"):
        raise ValueError(
            f"{type(cache).__name__} cannot keep users apart: it would serve one user's answers to "
            f"another. Give a SemanticCache, or leave out {' and '.join(given)}."
        )
    stack.enter_context(cache.scope(**given))


def _same_kind(one: Stage, other: Stage) -> bool:
    return type(one) is type(other) or one.phase == other.phase


_NOTES: ContextVar[_Unstaged | None] = ContextVar("langchain_tokenopt_scope", default=None)
# Not inherited, so that it stands behind a model's own handlers, one of which tells of its stages.
register_configure_hook(_NOTES, inheritable=False)
