"""The settings between which a stage is tuned: a row of them, the dearest first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_tokenopt.core.argument_checks import check_whole, did_you_mean, is_finite, shown
from langchain_tokenopt.stage import TunableSetting

__all__ = ["Settings", "default_in", "ladder_of"]

Settings = dict[str, float]
"""Values of the tuned settings, by their names."""


def ladder_of(
    tunable: Mapping[str, TunableSetting], bounds: Any, steps: int, stage: str
) -> list[Settings]:
    """Return the settings between the user's bounds, his own among them.

    Args:
        tunable: What can be tuned.
        bounds: By name the lowest and the highest value; of a stage that has one setting, the two.
        steps: How many there are from the user's own value to each bound, at most.
        stage: Its name, for messages.

    Raises:
        ValueError: The bounds contradict the stage, or leave nothing to tune.
        TypeError: They are no bounds.

    Example:
        >>> words = {"max_words": TunableSetting(100, least=1)}
        >>> [one["max_words"] for one in ladder_of(words, (50, 120), 3, "WordLimit")]
        [120, 113, 106, 100, 79, 63, 50]
    """
    check_whole("steps", steps)
    if not tunable:
        raise ValueError(
            f"This {stage} has no setting that can be tuned without breaking calls. These can be: "
            f"limits of WordLimit (not with on_exceed='raise'), max_tokens, keep or level of "
            f"PromptCompressor, max_tools and max_tokens of ToolSelector where they are set, and "
            f"min_similarity of SemanticCache where it is set."
        )
    if isinstance(bounds, tuple | list) and len(tunable) == 1:
        bounds = dict.fromkeys(tunable, bounds)
    if not isinstance(bounds, Mapping) or not bounds:
        raise TypeError(
            f"bounds are given by setting, bounds={{{next(iter(tunable))!r}: (low, high)}}; got "
            f"{shown(bounds)}."
        )
    ways = {}
    for name, both in bounds.items():
        if name not in tunable:
            known = ", ".join(tunable)
            raise ValueError(
                f"{stage} has no setting {name!r} to tune; it has {known}."
                f"{did_you_mean(name, tunable)}"
            )
        ways[name] = _way(name, tunable[name], both, steps)
    ladder = [{name: way[place] for name, way in ways.items()} for place in range(2 * steps + 1)]
    return [one for at, one in enumerate(ladder) if not at or one != ladder[at - 1]]


def default_in(ladder: list[Settings], tunable: Mapping[str, TunableSetting]) -> int:
    """Return the place of the user's own settings."""
    return ladder.index({name: tunable[name].value for name in ladder[0]})


def _way(name: str, setting: TunableSetting, bounds: Any, steps: int) -> list[float]:
    """Return the values from the highest, over the user's own, to the lowest."""
    is_pair = isinstance(bounds, tuple | list) and len(bounds) == 2
    if not is_pair or not all(map(is_finite, bounds)):
        raise TypeError(
            f"bounds of {name} are two finite numbers, (low, high); got {shown(bounds)}."
        )
    low, high = bounds
    if not setting.least <= low <= high <= setting.most:
        raise ValueError(
            f"bounds of {name} must lie from {setting.least:g} to {setting.most:g}, the lower one "
            f"first; got {shown(bounds)}."
        )
    if not low <= setting.value <= high:
        raise ValueError(
            f"{name}={setting.value:g} does not lie within its bounds, {low:g} to {high:g}. Calls "
            f"begin with it: choose one between them."
        )
    above = [_between(setting, high, at / steps) for at in range(steps, 0, -1)]
    below = [_between(setting, low, at / steps) for at in range(1, steps + 1)]
    return [
        setting.value if value == setting.value else min(max(value, low), high)
        for value in (*above, setting.value, *below)
    ]


def _between(setting: TunableSetting, bound: float, share: float) -> float:
    """Return a value on the way to a bound: in equal ratios where values are counts."""
    if not setting.whole:
        return round(setting.value + share * (bound - setting.value), 6)
    if share == 1:
        return int(bound) if bound == int(bound) else bound
    return round(float(setting.value * (bound / setting.value) ** share))
