"""How a question reaches whoever has the data: a function, a runnable, or an interrupt."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from datetime import date
from decimal import Decimal
from typing import Any, Final

from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import run_in_executor
from langgraph.types import interrupt

from langchain_tokenopt.core.argument_checks import shown
from langchain_tokenopt.data_requests.plain_answers import answer_of
from langchain_tokenopt.data_requests.wording import DataQuestion

__all__ = ["INTERRUPT", "Asker", "asker_for"]

INTERRUPT: Final = "interrupt"
"""Asks by LangGraph's ``interrupt``: a human answers, and the graph is resumed."""

Answer = str | Mapping[str, Any]


class Asker:
    """Puts a question, and returns the answer as a text or a mapping.

    Args:
        ask: A runnable or a function; ``None`` for an interrupt.
    """

    def __init__(self, ask: Runnable[Any, Any] | Callable[[Any], Any] | None) -> None:
        self._ask = ask

    @property
    def interrupts(self) -> bool:
        """Whether it needs a graph around it."""
        return self._ask is None

    def ask(self, question: DataQuestion, config: RunnableConfig) -> Answer:
        """Ask.

        Raises:
            TypeError: Only an event loop can ask like this.
        """
        if self._ask is None:
            return answer_to(question, interrupt(question.as_dict()))
        if isinstance(self._ask, Runnable):
            return answer_to(question, self._ask.invoke(question, config))
        given = self._ask(question)
        if inspect.isawaitable(given):
            _close(given)
            raise TypeError(
                "ask is async: collect with ainvoke() or astream(), or give a function."
            )
        return answer_to(question, given)

    async def aask(self, question: DataQuestion, config: RunnableConfig) -> Answer:
        """Ask; a function that is not async is called in a thread."""
        if self._ask is None:
            return answer_to(question, interrupt(question.as_dict()))
        if isinstance(self._ask, Runnable):
            return answer_to(question, await self._ask.ainvoke(question, config))
        if _is_async(self._ask):
            return answer_to(question, await self._ask(question))
        given = await run_in_executor(config, self._ask, question)
        return answer_to(question, await given if inspect.isawaitable(given) else given)


def answer_to(question: DataQuestion, given: Any) -> Answer:
    """Return an answer as a text, or as a mapping where it has values in the question's order."""
    names = question.names
    if isinstance(given, bool | int | float | date | Decimal) and len(names) == 1:
        return {names[0]: given}
    is_text = given and isinstance(given, list) and isinstance(given[0], BaseMessage)
    if isinstance(given, list | tuple) and len(given) == len(names) and not is_text:
        return dict(zip(names, given, strict=True))
    return answer_of(given)


def asker_for(ask: Any) -> Asker:
    """Return how to ask.

    Raises:
        TypeError: *ask* is nothing that could.
    """
    if ask is None or ask is interrupt or ask == INTERRUPT:
        return Asker(None)
    if isinstance(ask, Asker):
        return ask
    if not callable(ask) and not isinstance(ask, Runnable):
        raise TypeError(
            f'ask must be a function of the question, a runnable, or "{INTERRUPT}"; got '
            f"{shown(ask)}."
        )
    return Asker(ask)


def _is_async(ask: Any) -> bool:
    return inspect.iscoroutinefunction(ask) or inspect.iscoroutinefunction(
        getattr(ask, "__call__", None)  # noqa: B004  an object with an async __call__
    )


def _close(given: Awaitable[Any]) -> None:
    if inspect.iscoroutine(given):
        given.close()
