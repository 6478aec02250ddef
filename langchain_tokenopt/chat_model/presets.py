"""The stages of a level, made of what ``core/levels.py`` says."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final

from langchain_tokenopt.core.levels import PARTS, Level, check_level
from langchain_tokenopt.stage import Stage

__all__ = ["stage_of_part", "stages_of"]

_MADE_BY: Final = {
    "cache": ("cache", "SemanticCache"),
    "tools": ("tools.selector", "ToolSelector"),
    "context": ("context", "ContextCompressor"),
    "compression": ("compress", "PromptCompressor"),
    "routing": ("routing", "ModelRouter"),
    "limits": ("limits", "WordLimit"),
}
"""Where the stage of a part is: a level brings nothing that it does not use."""


_OF_LEVELS: Final = {
    **_MADE_BY,
    "tools": ("chat_model.priced_tools", "PricedToolSelector"),
    "context": ("chat_model.kept_context", "KeptContext"),
}
"""The same for levels, which have to be right for whoever answers."""


def stage_of_part(name: str, arguments: Mapping[str, Any], *, of_level: bool = False) -> Stage:
    """Return a stage of a part, made with *arguments*: a user's, or those of a level."""
    loses = name == "context" and "max_tokens" in arguments  # what does not fit, whoever asks
    module, made_by = (_OF_LEVELS if of_level and not loses else _MADE_BY)[name]
    found: Any = getattr(import_module(f"langchain_tokenopt.{module}"), made_by)
    stage: Stage = found(**arguments)
    return stage


def stages_of(level: Level) -> list[Stage]:
    """Return the stages of a preset, to print, change and pass to :func:`optimize`.

    ``none`` changes no byte. ``balanced`` loses nothing: tools and old results that it leaves out
    the model can get back, and of prompts only the writing of JSON gets shorter. ``aggressive`` and
    ``maximum`` leave out more. Tools are left out where that lowers the bill: other tools with the
    next turn make a provider that keeps prompts charge all of it anew.

    No level has a cache, a router or a plan: those are yours to give.

    Raises:
        ValueError: If there is no such level.

    Example:
        >>> [type(stage).__name__ for stage in stages_of("balanced")]
        ['PricedToolSelector', 'KeptContext', 'PromptCompressor']
        >>> stages_of("none")
        []
    """
    level = check_level(level)
    given = ((part.name, part.settings[level].arguments) for part in PARTS)
    return [
        stage_of_part(name, arguments, of_level=True)
        for name, arguments in given
        if arguments is not None
    ]
