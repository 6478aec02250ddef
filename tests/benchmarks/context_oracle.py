"""The cheapest that a conversation could have been, for somebody who knows how it goes on.

At each call anything older than the last group can be reduced, or not; what was reduced stays so.
Where the first change of a call is, everything behind it is written anew, so all that may be
reduced behind it is: that leaves one choice for each call, and all of them are tried.
"""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from langchain_tokenopt import PriceProfile
from langchain_tokenopt.context.levels import Mark, one_line
from tests.benchmarks.context_ways import Size

__all__ = ["cheapest"]


def cheapest(
    asked: Sequence[list[BaseMessage]],
    price: PriceProfile,
    size: Size,
    *,
    results: bool = True,
    may_be_dearer: bool = True,
) -> float:
    """Return the least that the calls of a conversation could have cost.

    Args:
        asked: What the model was asked with each call.
        price: What tokens cost.
        size: Measures a message.
        results: Only tool results are reduced, each to a line; else everything but system messages,
            the task, the question and the last group can go, without a trace.
        may_be_dearer: Whether it may, up to a call, have cost more than with nothing reduced.
    """
    talk = asked[-1]
    whole = [size(message) for message in talk]
    less = [_less(message, whole[at], size, results) for at, message in enumerate(talk)]
    states: dict[frozenset[int], float] = {frozenset(): 0.0}
    before, raw = 0, 0.0
    for messages in asked:
        count = len(messages)
        raw += price.read * sum(whole[:before]) + price.write * sum(whole[before:count])
        most = float("inf") if may_be_dearer else raw + 1e-6
        free = [at for at in _old(messages, results) if less[at] < whole[at]]
        found: dict[frozenset[int], float] = {}
        for gone, paid in states.items():
            left = [at for at in free if at not in gone]
            for first in (None, *left):
                now = gone if first is None else gone | {at for at in left if at >= first}
                same = before if first is None else min(before, first)
                sizes = [less[at] if at in now else whole[at] for at in range(count)]
                known = sum(sizes[:same])
                cost = paid + price.read * known + price.write * (sum(sizes) - known)
                if cost <= most and cost < found.get(now, float("inf")):
                    found[now] = cost
        states = _best(found)
        before = count
    return min(states.values())


def _best(states: dict[frozenset[int], float], most: int = 400) -> dict[frozenset[int], float]:
    """Return the states that are worth following: all, unless there are very many."""
    kept = sorted(states.items(), key=lambda state: state[1])[:most]
    return dict(kept)


def _less(message: BaseMessage, tokens_of_it: float, size: Size, results: bool) -> float:
    if not results:
        return 0.0
    if not isinstance(message, ToolMessage):
        return tokens_of_it
    line = one_line(message, int(tokens_of_it), Mark(None))
    return size(ToolMessage(line, tool_call_id=message.tool_call_id))


def _old(messages: Sequence[BaseMessage], results: bool) -> list[int]:
    """Return what may be reduced at a call: what is older than the last group of calls."""
    last = max(
        (n for n, m in enumerate(messages) if isinstance(m, AIMessage) and m.tool_calls), default=0
    )
    users = [n for n, m in enumerate(messages) if isinstance(m, HumanMessage)]
    if results:
        return [n for n in range(last) if isinstance(messages[n], ToolMessage)]
    stays = {*users[:1], *users[-1:], last, len(messages) - 1}
    if last:
        stays.update(n for n in range(last, len(messages)) if isinstance(messages[n], ToolMessage))
    return [
        n for n, m in enumerate(messages) if n not in stays and not isinstance(m, SystemMessage)
    ]
