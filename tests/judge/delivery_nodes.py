"""How nodes are written: the workshop that an application is built with."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
)
from langchain_core.runnables import Runnable
from pydantic import BaseModel

from tests.judge.delivery_apps import App, State, text_of
from tests.judge.delivery_model import _CALL, Call, Log, Script, ScriptedModel

# --- how nodes are written -----------------------------------------------------------------------


@dataclass
class Ask:
    """What a node's body yields: one call of a model."""

    agent: str
    messages: list[BaseMessage]
    key: str = ""
    model: Runnable[Any, Any] | None = None
    form: Literal["text", "tools", "object"] = "text"


Body = Callable[[Any], Generator[Any, Any, Any]]


class Workshop:
    """What an application is built with: its models, under a plan or not, and its nodes."""

    def __init__(
        self, app: App, log: Log, name: str, wrap: Callable[[Any], Any], *, jitter: bool = False
    ) -> None:
        self.app = app
        self.log = log
        self.name = name
        self.wrap = wrap
        self.script = Script(app, log, jitter=jitter)

    @property
    def is_async(self) -> bool:
        """Whether nodes are coroutines."""
        return self.app.mode in ("ainvoke", "astream")

    def bare(self, agent: str) -> ScriptedModel:
        """Return an agent's model that nobody staged."""
        return ScriptedModel(model_name=self.name, agent=agent, script=self.script)

    def model(self, agent: str) -> Any:
        """Return an agent's model."""
        return self.wrap(self.bare(agent))

    def structured(self, agent: str) -> Runnable[Any, Any]:
        """Return an agent's model for objects of its schema."""
        return self.model(agent).with_structured_output(self.app.agents[agent].schema)

    def node(self, body: Body) -> Any:
        """Return a node, sync or async, from a generator that yields what it asks."""
        if not self.is_async:

            def sync(state: State) -> Any:
                steps, answer = body(state), None
                try:
                    ask = next(steps)
                    while True:
                        answer = (
                            [self._ask(a) for a in ask] if isinstance(ask, list) else self._ask(ask)
                        )
                        ask = steps.send(answer)
                except StopIteration as done:
                    return done.value

            return sync

        async def coroutine(state: State) -> Any:
            steps, answer = body(state), None
            try:
                ask = next(steps)
                while True:
                    if isinstance(ask, list):
                        answer = list(await asyncio.gather(*(self._aask(a) for a in ask)))
                    else:
                        answer = await self._aask(ask)
                    ask = steps.send(answer)
            except StopIteration as done:
                return done.value

        return coroutine

    def _begin(self, ask: Ask) -> tuple[Call, Any, Any]:
        model = ask.model if ask.model is not None else self.model(ask.agent)
        call = self.log.begin(Call(ask.agent, ask.key, list(ask.messages), ask.form))
        return call, model, _CALL.set(call)

    def _ask(self, ask: Ask) -> Any:
        call, model, token = self._begin(ask)
        try:
            if self.app.mode == "stream" and ask.form != "object":
                call.answer = _sum(list(model.stream(ask.messages)))
            else:
                call.answer = model.invoke(ask.messages)
        except BaseException as error:
            call.error = error
            raise
        finally:
            call.done = True
            _CALL.reset(token)
        return call.answer

    async def _aask(self, ask: Ask) -> Any:
        call, model, token = self._begin(ask)
        try:
            if self.app.mode == "astream" and ask.form != "object":
                call.answer = _sum([chunk async for chunk in model.astream(ask.messages)])
            else:
                call.answer = await model.ainvoke(ask.messages)
        except BaseException as error:
            call.error = error
            raise
        finally:
            call.done = True
            _CALL.reset(token)
        return call.answer

    def writer(self, agent: str, materials: Callable[[State], list[tuple[str, str]]]) -> Any:
        """Return a node that reads, and writes a report under its name."""

        def body(state: State) -> Generator[Ask, Any, Any]:
            answer = yield Ask(agent, self.app.agents[agent].prompt(materials(state)))
            return {"reports": {agent: text_of(answer)}}

        return self.node(body)

    def decider(self, agent: str, materials: Callable[[State], list[tuple[str, str]]]) -> Any:
        """Return a node that answers with an object of its schema."""
        model = self.structured(agent)

        def body(state: State) -> Generator[Ask, Any, Any]:
            prompt = self.app.agents[agent].prompt(materials(state))
            answer = yield Ask(agent, prompt, model=model, form="object")
            return {"objects": {agent: answer}, "reports": {agent: said_in(answer)}}

        return self.node(body)

    def result_of(self, text: str) -> str:
        """Remember what a tool returned."""
        self.log.results.append(text)
        return text


def _sum(chunks: Sequence[Any]) -> Any:
    total = chunks[0]
    for chunk in chunks[1:]:
        total = total + chunk
    if isinstance(total, AIMessageChunk):
        return AIMessage(
            total.content,
            tool_calls=total.tool_calls,
            invalid_tool_calls=total.invalid_tool_calls,
            usage_metadata=total.usage_metadata,
            response_metadata=total.response_metadata,
        )
    return total


def said_in(answer: Any) -> str:
    """Return the words of an object."""
    if isinstance(answer, BaseModel):
        answer = answer.model_dump()
    return answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)
