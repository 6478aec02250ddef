"""Which parts stand around an agent, with which settings, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from langchain_core.caches import BaseCache

from langchain_tokenopt.budget.plan import BudgetPlan
from langchain_tokenopt.budget.stage import BudgetStage
from langchain_tokenopt.chat_model.presets import stage_of_part
from langchain_tokenopt.chat_model.stages import (
    as_stages,
    missing_in,
    name_of_stage,
    refuse_contradictions,
)
from langchain_tokenopt.core.argument_checks import shown
from langchain_tokenopt.core.levels import PARTS, Level, LevelPart, check_level
from langchain_tokenopt.stage import Phase, Stage, StageGroup

__all__ = ["Path", "PathPart", "path_of"]

_WITHOUT_A_LEVEL: Final[Mapping[str, Mapping[str, Any]]] = {
    "cache": {"semantic": False, "require_scope": True},
    "tools": {},
    "context": {},
    "compression": {"keep": 1.0},
}
"""What ``True`` makes of a part that its level has not: what is safe."""

_PART_OF: Final = {
    Phase.CACHE: "cache",
    Phase.TOOLS: "tools",
    Phase.ROUTE: "routing",
    Phase.LIMIT: "limits",
    Phase.BUDGET: "plan",
}


@dataclass(frozen=True, slots=True)
class PathPart:
    """One part of the path, as it is around one agent."""

    name: str
    """Of the argument that sets it."""
    is_on: bool
    setting: str
    why: str
    may_change: str
    switch: str
    """What switches it off, or on."""


@dataclass(frozen=True)
class Path:
    """All parts around one agent."""

    level: Level
    stages: tuple[Stage, ...]
    plan: BudgetPlan | None
    parts: tuple[PathPart, ...]


def path_of(
    level: Level, given: Mapping[str, Any], others: Sequence[Any], plan: BudgetPlan | None
) -> Path:
    """Return the path that these arguments describe.

    Args:
        level: What parts do of which nothing is given.
        given: By part ``None``, ``False``, ``True``, arguments of its stage, or a stage.
        others: Stages besides, each in the place of the part that does the same.
        plan: What may be spent.

    Raises:
        TypeError: What is given for a part is nothing of that.
        ValueError: Stages contradict each other, or there is no such level.
    """
    level = check_level(level)
    own = as_stages(others)
    if any(isinstance(stage, BudgetStage) for stage in own):
        raise TypeError("a plan is given by its name: optimize_agent(agent, plan=plan).")
    stages, parts = list(own), []
    for part in PARTS:
        if part.name == "plan":
            parts.append(_plan_part(part, plan))
            continue
        made = _stages_for(part, given[part.name], level)
        if given[part.name] is None:
            made = missing_in(own, made)
        besides = [stage for stage in own if _part_name(stage) == part.name]
        stages += made
        parts.append(_part(part, given[part.name], [*made, *besides], level, bool(besides)))
    stages.sort(key=lambda stage: stage.phase)
    refuse_contradictions(stages)
    return Path(level, tuple(stages), plan, tuple(parts))


def _part_name(stage: Stage) -> str | None:
    """Return the part that a stage belongs to; ``None``: to none of them."""
    if stage.phase == Phase.CONTEXT:
        kind = getattr(stage, "around", type(stage)).__name__
        return {"PromptCompressor": "compression", "ContextCompressor": "context"}.get(kind)
    return _PART_OF.get(stage.phase)


def _stages_for(part: LevelPart, given: Any, level: Level) -> list[Stage]:
    """Return what is given for a part as its stages.

    Raises:
        TypeError: It is neither a switch, nor arguments, nor a stage of this part.
    """
    preset = part.settings[level].arguments
    if given is False or (given is None and preset is None):
        return []
    if given is None or given is True or isinstance(given, Mapping):
        usual = preset if preset is not None else _WITHOUT_A_LEVEL.get(part.name)
        if usual is None and not isinstance(given, Mapping):
            raise TypeError(f"{part.name}=True says too little: {_wanted(part.name)}")
        if part.name == "routing":
            return [stage_of_part(part.name, {"models": given})]
        of_level = not isinstance(given, Mapping)
        return [stage_of_part(part.name, _merged(usual or {}, given), of_level=of_level)]
    if isinstance(given, Stage | StageGroup | BaseCache):
        made = as_stages([given])
        for stage in made:
            if isinstance(given, Stage | BaseCache) and _part_name(stage) not in (None, part.name):
                raise TypeError(
                    f"{part.name}= takes no {name_of_stage(stage)}: that is {_part_name(stage)}=."
                )
        return list(made)
    raise TypeError(f"{part.name}={shown(given)} says nothing: {_wanted(part.name)}")


_TARGETS: Final = frozenset({"max_tokens", "keep", "level"})


def _merged(usual: Mapping[str, Any], given: Any) -> dict[str, Any]:
    """Return the level's arguments with those that are given over them."""
    own = dict(given) if isinstance(given, Mapping) else {}
    if "keep" in usual and not own.keys().isdisjoint(_TARGETS):  # one target takes another's place
        return own
    return {**usual, **own}


def _wanted(name: str) -> str:
    examples = {
        "cache": "cache=SemanticCache(...), cache={'path': 'answers.db'}",
        "tools": "tools=ToolSelector(...), tools={'max_tools': 8}",
        "context": "context=ContextCompressor(...), context={'max_tokens': 60_000}",
        "compression": "compression=PromptCompressor(...), compression={'keep': 0.7}",
        "routing": "routing=ModelRouter({...}), routing={'small': model, 'large': model}",
        "limits": "limits=WordLimit(60), limits={'max_words': 60}",
    }
    return f"give {examples[name]}, False for off, or None for what the level does."


def _part(
    part: LevelPart, given: Any, stages: Sequence[Stage], level: Level, besides: bool
) -> PathPart:
    """Return one part as it is explained."""
    setting = part.settings[level]
    if not stages:
        if given is False:
            why = "you have switched it off"
        elif setting.words == "off":
            why = f"off at level {level}"
        else:
            why = setting.words
        switch = f"{part.name}={_ON[part.name]}"
        return PathPart(part.name, False, "", why, part.may_change, switch)
    is_level = given is None and not besides
    words = setting.words if is_level else _own_words(given, stages)
    why = part.does if is_level else f"{part.does}; your own"
    return PathPart(part.name, True, words, why, part.may_change, f"{part.name}=False")


_ON: Final = {
    "cache": "True",
    "tools": "True",
    "context": "True",
    "compression": "True",
    "routing": "{...}",
    "limits": "{...}",
}


def _own_words(given: Any, stages: Sequence[Stage]) -> str:
    """Return what is said of settings that are not the level's."""
    if isinstance(given, Mapping) and stages[0].phase == Phase.ROUTE:
        return " < ".join(map(str, given))
    if isinstance(given, Mapping):
        return ", ".join(f"{name}={shown(value)}" for name, value in given.items())
    return ", ".join(map(_described, stages))


def _described(stage: Stage) -> str:
    """Return a stage with its settings, as far as it shows them."""
    text = repr(stage)
    name = name_of_stage(stage)
    return text if text.startswith(name) else name


def _plan_part(part: LevelPart, plan: BudgetPlan | None) -> PathPart:
    if plan is None:
        words = part.settings["none"].words
        return PathPart(part.name, False, "", words, part.may_change, "plan=BudgetPlan(...)")
    most = [
        f"{total:,} tokens" if unit == "tokens" else f"${total}"
        for unit, total in (("tokens", plan.total_tokens), ("usd", plan.total_usd))
        if total is not None
    ]
    words = f"{' and '.join(most)} per {plan.per}"
    return PathPart(part.name, True, words, part.does, part.may_change, "plan=None")
