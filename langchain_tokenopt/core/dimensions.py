"""What calls are grouped and filtered by.

One list: the callback handler, the ledger's tables and questions and the command line are made from
it, and a test forbids a second one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Final, Literal, TypedDict, TypeVar, get_args

from langchain_tokenopt.core.argument_checks import did_you_mean
from langchain_tokenopt.core.attribution import Attribution
from langchain_tokenopt.core.records import CallRecord, ToolResult, UsageTotals

__all__ = [
    "DIMENSIONS",
    "GROUPINGS",
    "MANY_VALUED",
    "PERIODS",
    "UNATTRIBUTED",
    "Dimension",
    "Filters",
    "Grouping",
    "Per",
    "Period",
    "check_groupings",
    "give_to_tools",
    "totals_by",
    "value_of",
]

Dimension = Literal[
    "agent",
    "node",
    "tool",
    "purpose",
    "model",
    "provider",
    "response_model",
    "service_tier",
    "rates_version",
    "stages",
    "organization",
    "tag",
    "user",
    "thread_id",
    "run",
]
"""A property that calls are grouped or filtered by. New ones are added before ``"user"``."""

Period = Literal["hour", "day", "week", "month"]

Per = Literal["run", "thread", "user", "organization", "plan"]
"""Who shares a budget; ``"plan"``: all whom it is for."""

Grouping = Literal[Dimension, Period]
"""What sums are grouped by."""

DIMENSIONS: Final[tuple[Dimension, ...]] = get_args(Dimension)

PERIODS: Final[tuple[Period, ...]] = get_args(Period)

GROUPINGS: Final[tuple[Grouping, ...]] = (*DIMENSIONS, *PERIODS)

MANY_VALUED: Final[tuple[Dimension, ...]] = DIMENSIONS[DIMENSIONS.index("user") :]
"""Dimensions that take new values as long as an application runs."""

UNATTRIBUTED: Final = "(none)"
"""Key of the calls that have no value in a dimension, such as calls outside any tool."""


class Filters(TypedDict, total=False):
    """Which calls a question is about; ``"(none)"`` asks for those without a value."""

    agent: str
    node: str
    tool: str
    purpose: str
    model: str
    provider: str
    response_model: str
    service_tier: str
    rates_version: str
    stages: str
    organization: str
    tag: str
    user: str
    thread_id: str
    run: str


STAGE_SEPARATOR: Final = " + "


def filters_in_words(filters: Filters) -> str:
    """Say which calls are meant; nothing for all.

    Example:
        >>> filters_in_words({"user": "ada", "tag": "nightly batch"})
        " with user 'ada' with tag 'nightly batch'"
    """
    return "".join(f" with {name} {value!r}" for name, value in filters.items())


_ATTRIBUTED: Final = {field.name for field in fields(Attribution)}


def value_of(dimension: Dimension) -> Callable[[CallRecord], str | None]:
    """Return the function that reads a call's value in *dimension*; ``None`` is no value.

    Raises:
        ValueError: There is no such dimension.

    Example:
        >>> value_of("colour")
        Traceback (most recent call last):
        ...
        ValueError: cannot group by 'colour'; choose one of agent, node, tool, purpose, model, \
provider, response_model, service_tier, rates_version, stages, organization, tag, user, thread_id, \
run.
    """
    check_groupings((dimension,), DIMENSIONS)
    if dimension == "stages":
        return lambda call: STAGE_SEPARATOR.join(call.stages)
    return attrgetter(f"attribution.{dimension}" if dimension in _ATTRIBUTED else dimension)


def check_groupings(given: Iterable[object], known: Sequence[str] = GROUPINGS) -> None:
    """Check that sums can be grouped so.

    Raises:
        ValueError: There is no such dimension.

    Example:
        >>> check_groupings(["user,agent"])
        Traceback (most recent call last):
        ...
        ValueError: cannot group by 'user,agent'; give several one by one: by('user', 'agent').
    """
    for each in given:
        if isinstance(each, str) and each in known:
            continue
        several = each.replace(",", " ").split() if isinstance(each, str) else each
        if isinstance(several, list | tuple) and len(several) > 1 and {*several} <= {*known}:
            named = ", ".join(map(repr, several))
            raise ValueError(f"cannot group by {each!r}; give several one by one: by({named}).")
        raise ValueError(
            f"cannot group by {each!r}; choose one of {', '.join(known)}."
            f"{did_you_mean(each, known)}"
        )


def totals_by(records: Iterable[CallRecord], dimension: Dimension) -> dict[str, UsageTotals]:
    """Sum records per value of a dimension; the parts add up to the whole.

    By ``"tool"``, a tool has the calls that were made inside it, and what its results weighed in
    later calls; of those calls the rest stands where they were made.
    """
    value = value_of(dimension)
    groups: dict[str, list[CallRecord]] = {}
    for record in records:
        groups.setdefault(value(record) or UNATTRIBUTED, []).append(record)
    totals = {key: UsageTotals.of(group) for key, group in groups.items()}
    if dimension == "tool":
        for key, group in groups.items():
            for record in group:
                if not record.cached:
                    give_to_tools(totals, key, record.tool_results, str)
    return totals


_Key = TypeVar("_Key")


def give_to_tools(
    totals: dict[_Key, UsageTotals],
    caller: _Key,
    results: Iterable[ToolResult],
    key_of: Callable[[str], _Key],
) -> None:
    """Move what results of tools cost from where the call was made to the tools, in place.

    Args:
        totals: Sums by tool, or by several dimensions of which one is the tool.
        caller: Key of the call.
        results: What it read.
        key_of: The same key, for another tool.
    """
    for result in results:
        cost = result.cost_nano_usd or 0
        given = UsageTotals(input_tokens=-result.tokens, cost_nano_usd=-cost)
        taken = UsageTotals(input_tokens=result.tokens, cost_nano_usd=cost)
        tool = key_of(result.tool)
        totals[caller] = totals[caller].with_counts_of(given)
        totals[tool] = totals.get(tool, UsageTotals()).with_counts_of(taken)
