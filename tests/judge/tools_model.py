"""A chat model that follows a script and remembers which tools it was given."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import Field

from tests.judge.tools_cases import names_of

__all__ = ["Call", "ScriptedToolModel", "call", "calls"]


@dataclass(frozen=True)
class Call:
    """What the model was asked."""

    messages: list[BaseMessage]
    tools: list[Any]
    options: dict[str, Any]

    @property
    def names(self) -> list[str]:
        """The functions it could call."""
        return names_of(self.tools)


Step = str | AIMessage | Callable[[Call], "str | AIMessage"]


def call(name: str, id: str = "c1", **arguments: Any) -> AIMessage:
    """An answer that calls one tool."""
    return AIMessage("", tool_calls=[{"name": name, "args": arguments, "id": id}])


def calls(*names: str) -> AIMessage:
    """An answer that calls several tools at once."""
    made = [{"name": name, "args": {}, "id": f"c{i}"} for i, name in enumerate(names)]
    return AIMessage("", tool_calls=made)


class ScriptedToolModel(BaseChatModel):
    """Answers step by step; the last step is repeated."""

    script: list[Any]
    calls: list[Any] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "scripted-tools"

    def bind_tools(
        self, tools: Sequence[Any], *, tool_choice: Any = None, **kwargs: Any
    ) -> Runnable[Any, AIMessage]:
        """Bind dictionaries as they are, everything else as OpenAI's functions."""
        kept = [t if isinstance(t, dict) else convert_to_openai_tool(t) for t in tools]
        choice = {} if tool_choice is None else {"tool_choice": tool_choice}
        return self.bind(tools=kept, **choice, **kwargs)

    def _answer(self, messages: list[BaseMessage], options: dict[str, Any]) -> AIMessage:
        said = Call(list(messages), list(options.get("tools") or ()), options)
        step = self.script[min(len(self.calls), len(self.script) - 1)]
        self.calls.append(said)
        answer = step(said) if callable(step) else step
        if isinstance(answer, str):
            return AIMessage(answer)
        return answer.model_copy(update={"id": None})

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any):
        answer = self._answer(messages, kwargs)
        return ChatResult(generations=[ChatGeneration(message=answer)])

    async def _agenerate(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ):
        return self._generate(messages, **kwargs)

    def _stream(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        answer = self._answer(messages, kwargs)
        for word in str(answer.content).split(" "):
            yield ChatGenerationChunk(message=AIMessageChunk(f"{word} " if word else ""))
        for index, made in enumerate(answer.tool_calls):
            named = {"name": made["name"], "id": made["id"]}
            for part in (named, {"args": json.dumps(made["args"])}):
                chunk = tool_call_chunk(index=index, **part)
                yield ChatGenerationChunk(message=AIMessageChunk("", tool_call_chunks=[chunk]))

    async def _astream(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        for chunk in self._stream(messages, **kwargs):
            yield chunk
