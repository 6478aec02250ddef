"""Which stages act on a call, and in which order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from langchain_core.caches import BaseCache
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel

from langchain_tokenopt.budget.plan import BudgetPlan
from langchain_tokenopt.budget.run import BudgetRun
from langchain_tokenopt.budget.stage import BudgetStage
from langchain_tokenopt.chat_model.budget_tools import budget_stage, with_tools
from langchain_tokenopt.chat_model.host_cache import HostCache
from langchain_tokenopt.core.argument_checks import refuse_class, shown
from langchain_tokenopt.core.records import UsageSink
from langchain_tokenopt.stage import AMBIENT, Phase, Stage, StageGroup

__all__ = [
    "as_stage",
    "as_stages",
    "missing_in",
    "name_of_stage",
    "refuse_contradictions",
    "with_ambient_stages",
]


_ALONE = (Phase.CACHE, Phase.ROUTE, Phase.BUDGET)
"""Phases in which there is room for one stage."""


def as_stage(stage: object) -> Stage:
    """Return *stage* as a stage: a LangChain cache and a budget become one.

    Raises:
        TypeError: It is neither a stage nor a ``BaseCache``.
    """
    refuse_class("a stage", stage)
    if isinstance(stage, BudgetStage):
        return with_tools(stage)
    if isinstance(stage, BudgetPlan):
        return budget_stage(stage)
    if isinstance(stage, Stage):
        return stage
    if isinstance(stage, BaseCache):
        return HostCache(stage)
    raise TypeError(f"{shown(stage)} is no stage: {_instead(stage)}")


def _instead(given: object) -> str:
    """Say what to do with something that is no stage."""
    if isinstance(given, list | tuple | set):
        return (
            "give stages one by one, optimize(model, first, second), or optimize(model, *stages)."
        )
    if isinstance(given, BaseChatModel | str):
        return "the model comes first, then stages: optimize(model, WordLimit(60))."
    if isinstance(given, BudgetRun):
        return "give the plan, optimize(model, plan), and call inside of `with plan.run():`."
    if isinstance(given, BaseCallbackHandler):
        return (
            'attach it to calls: model.invoke(..., {"callbacks": [usage]}), or use track_usage().'
        )
    if isinstance(given, UsageSink):
        return "it records what is spent: track_usage(sinks=[ledger])."
    return (
        "it needs phase, blocking, fingerprint and open(request), or it must be a LangChain "
        "BaseCache. Stages are such as WordLimit(60), PromptCompressor(500), SemanticCache()."
    )


def as_stages(given: Iterable[object]) -> tuple[Stage, ...]:
    """Return what was given as stages, the members of groups in the place of the group.

    Raises:
        TypeError: One is no stage, see :func:`as_stage`.
    """
    given = list(given)
    for one in given:
        refuse_class("a stage", one)
    members = (one.stages if isinstance(one, StageGroup) else (one,) for one in given)
    return tuple(as_stage(stage) for stages in members for stage in stages)


def refuse_contradictions(stages: Sequence[Stage]) -> None:
    """Compare neighbours of *stages*, which stand in the order of their phases.

    Raises:
        ValueError: Two are of one kind, or there is room for one of them only.
    """
    for first, second in pairwise(stages):
        if first is second or (_kind(first) is _kind(second) and first.phase == second.phase):
            raise ValueError(
                f"there are two stages of the kind {name_of_stage(first)}; give one, or combine "
                f"them."
            )
        if first.phase == second.phase and first.phase in _ALONE:
            raise ValueError(
                f"{name_of_stage(first)} and {name_of_stage(second)} are both {first.phase.name} "
                f"stages and would contradict each other; give one of them."
            )
    router = next((stage for stage in stages if stage.phase == Phase.ROUTE), None)
    for stage in stages if router is not None else ():
        cheaper = stage.plan.cheaper_model if isinstance(stage, BudgetStage) else None
        if cheaper is not None:
            raise ValueError(
                f"{name_of_stage(router)} and BudgetPlan(cheaper_model={cheaper!r}) would both "
                f"choose the model; leave cheaper_model out: where the budget runs low the router "
                f"asks a cheaper tier."
            )


def with_ambient_stages(stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    """Add the stages of the context in which the call is made; the model's own come first."""
    ambient = AMBIENT.get()
    if not ambient:
        return stages
    added = missing_in(stages, as_stages(ambient))
    return tuple(sorted((*stages, *added), key=lambda stage: stage.phase)) if added else stages


def missing_in(stages: Sequence[Stage], others: Iterable[Stage]) -> list[Stage]:
    """Return those of *others* in whose place none of *stages* stands already."""
    return [
        other
        for other in others
        if not any(
            _kind(own) is _kind(other) or (own.phase == other.phase and own.phase in _ALONE)
            for own in stages
        )
    ]


def _kind(stage: object) -> type:
    """Return the class of a stage; of one that stands around another, that other's."""
    kind: type = getattr(stage, "around", type(stage))
    return kind


def name_of_stage(stage: object) -> str:
    """Return the name under which messages and records mention *stage*."""
    return stage.name if isinstance(stage, HostCache) else type(stage).__name__
