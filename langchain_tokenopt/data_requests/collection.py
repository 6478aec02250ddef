"""One collection under way: what is known, who is asked, and which model reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, SystemMessage
from langchain_core.prompt_values import PromptValue
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import run_in_executor
from pydantic import BaseModel

from langchain_tokenopt.budget.run import current_run
from langchain_tokenopt.core.argument_checks import shown
from langchain_tokenopt.core.messages import messages_from, text_of
from langchain_tokenopt.data_requests.asking import Asker
from langchain_tokenopt.data_requests.collected import DataCollected, Fact
from langchain_tokenopt.data_requests.model_calls import ModelCalls
from langchain_tokenopt.data_requests.needs import Needs
from langchain_tokenopt.data_requests.progress import Job, Progress, Steps
from langchain_tokenopt.data_requests.steps import take
from langchain_tokenopt.data_requests.values import NotFound, read_value

__all__ = ["Collection", "facts_of", "request_text"]


class Collection:
    """One collection under way: what is to be done, who is asked, which model reads."""

    def __init__(
        self, job: Job, asker: Asker, calls: ModelCalls, known: tuple[list[Fact], dict[str, str]]
    ) -> None:
        self.job, self.asker = job, asker
        self._calls = calls
        self._known = known

    def check_asker(self) -> None:
        """Raise if the questions could reach nobody."""
        known = {fact.name for fact in self._known[0]}
        if self.asker.interrupts and any(need.name not in known for need in self.job.needs.all):
            raise ValueError(
                "nobody can be asked here: an interrupt needs a graph around it. Give "
                "DataRequester(ask=...) a function or a runnable, or use as_graph()."
            )

    def start(self) -> Progress:
        """Return the beginning: what is known."""
        return Progress.knowing(*self._known)

    def collected(self, progress: Progress) -> DataCollected:
        """Return what is known so far."""
        return progress.collected(self.job)

    def drive(self, steps: Steps, config: RunnableConfig) -> None:
        """Make the calls that *steps* need."""
        call = next(steps, None)
        while call is not None:
            call = _sent(steps, self._calls.make(call, config))

    async def adrive(self, steps: Steps, config: RunnableConfig) -> None:
        """Make the calls that *steps* need; where a store may be asked, beside the event loop."""
        beside = current_run() is not None
        call = await run_in_executor(None, next, steps, None) if beside else next(steps, None)
        while call is not None:
            reply = await self._calls.amake(call, config)
            step = partial(_sent, steps, reply)
            call = await run_in_executor(None, step) if beside else step()

    def round(self, progress: Progress, config: RunnableConfig) -> None:
        """Ask, and take the answer."""
        answer = self.asker.ask(progress.to_ask(self.job), config)
        self.drive(take(self.job, progress, answer), config)

    async def around(self, progress: Progress, config: RunnableConfig) -> None:
        """Ask, and take the answer."""
        answer = await self.asker.aask(progress.to_ask(self.job), config)
        await self.adrive(take(self.job, progress, answer), config)


def _sent(steps: Steps, reply: Any) -> Any:
    try:
        return steps.send(reply)
    except StopIteration:
        return None


def request_text(given: Any) -> str:
    """Return what a user, and tools for them, have said: what a model said may be its guess."""
    if given is None:
        return ""
    if isinstance(given, str):
        return given
    if isinstance(given, BaseMessage):
        given = [given]
    if isinstance(given, Sequence | PromptValue):
        said = [
            text_of(message)
            for message in messages_from(given)
            if not isinstance(message, AIMessage | SystemMessage)
        ]
        return "\n".join(filter(None, said))
    raise TypeError(f"request must be a text or messages; got {shown(given)}.")


def facts_of(known: Any, needs: Needs) -> tuple[list[Fact], dict[str, str]]:
    """Return what is known as facts, and what of it is no value."""
    facts: list[Fact] = []
    wrong: dict[str, str] = {}
    for at, one in enumerate(_each(known)):
        order = 1 + max((fact.order for fact in facts), default=-1)
        if isinstance(one, DataCollected):
            facts += [
                fact.model_copy(update={"order": fact.order + order})
                for fact in one.facts
                if needs.named(fact.name)
            ]
            continue
        plain = one.model_dump() if isinstance(one, BaseModel) else one
        for key, value in plain.items():
            need = needs.named(key)
            if need is None or value is None:
                continue
            try:
                found = read_value(need, value)
            except NotFound as why:
                wrong[need.name] = f"what was known is no value: {why}"
                continue
            source = f"known {at + 1}" if at else "known"
            facts.append(Fact.of(need.name, found, source, order))
    return facts, wrong


def _each(known: Any) -> Iterator[Any]:
    if known is None:
        return
    if isinstance(known, Mapping | BaseModel):
        yield known
    elif isinstance(known, Iterable) and not isinstance(known, str | bytes):
        for one in known:
            yield from _each(one)
    else:
        raise TypeError(
            f"known must be a mapping of names to values, an object, or a DataCollected; got "
            f"{shown(known)}."
        )
