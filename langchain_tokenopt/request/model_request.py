"""One call of a chat model, before it is sent, and what came back for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import BaseModel

from langchain_tokenopt.core.host_compat import llm_string_of
from langchain_tokenopt.core.staged_runs import StagedRun
from langchain_tokenopt.request.facts import RequestFacts
from langchain_tokenopt.request.output_caps import capped, takes_cap_by_call
from langchain_tokenopt.request.prompt_text import prompt_text

__all__ = ["Answer", "ModelRequest"]


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One call of a chat model, before it is sent."""

    model: BaseChatModel
    """The model without stages. A routing stage may put another one here."""
    messages: list[BaseMessage]
    """Never changed in place: use :meth:`override`."""
    stop: list[str] | None
    kwargs: Mapping[str, Any]
    """What was bound or passed: ``tools``, ``response_format``, ``max_tokens``..."""
    run: StagedRun
    """Who calls (``metadata``, ``tags``, ``run_id``), and where stages leave their savings."""
    streaming: bool = False
    """True when the caller reads the answer while it is written."""
    observe: bool = False
    """True when stages may look and record but nothing they do will be used."""
    fingerprint: str = ""
    """Names the other stages and their settings: answers given under them are not each other's."""
    facts: RequestFacts = field(init=False, repr=False, compare=False)
    """What the request is: tokens, model name, form of the answer, caps, attribution."""

    def __post_init__(self) -> None:
        facts = RequestFacts(self.model, self.messages, self.kwargs, self.run.metadata)
        object.__setattr__(self, "facts", facts)

    def override(self, **changes: Any) -> ModelRequest:
        """Return a copy with *changes*, as ``langchain.agents`` requests do.

        The facts that the changes leave true are not worked out again.
        """
        made = replace(self, **changes)
        facts = self.facts.carried(made.model, made.messages, made.kwargs, made.run.metadata)
        object.__setattr__(made, "facts", facts)
        return made

    def with_output_cap(self, tokens: int) -> ModelRequest:
        """Return the request with a cap of at most *tokens* on the answer.

        A cap is only ever lowered. A model that has no such setting gets the same request back.

        Example:
            >>> from langchain_core.language_models import FakeListChatModel
            >>> from langchain_core.messages import HumanMessage
            >>> from uuid import uuid4
            >>> model, run = FakeListChatModel(responses=["yes"]), StagedRun(run_id=uuid4())
            >>> request = ModelRequest(model, [HumanMessage("?")], None, {"max_tokens": 900}, run)
            >>> [request.with_output_cap(cap).kwargs["max_tokens"] for cap in (500, 5_000)]
            [500, 900]
        """
        name, present = self.facts.cap_name, self.facts.output_cap
        if name is None or (present is not None and present <= tokens):
            return self
        if takes_cap_by_call(self.kwargs, name):
            return self.override(kwargs=capped(self.kwargs, name, tokens))
        return self.override(model=self.model.model_copy(update={name: tokens}))

    def cache_key(self) -> tuple[str, str]:
        """Return the ``(prompt, llm_string)`` under which a LangChain cache keeps the answer.

        It is what langchain-core itself would use, with three mends: what earlier answers carry as
        ids, usage and response metadata does not count (a cache hit would change it); a schema
        class counts by its schema, not by its name; the settings of other stages are part of
        ``llm_string``.
        """
        kwargs = {name: _schema_or_self(value) for name, value in self.kwargs.items()}
        llm_string = llm_string_of(self.model, self.stop, kwargs)
        if self.fingerprint:
            llm_string += f"---{self.fingerprint}"
        return prompt_text(self.messages), llm_string

    @property
    def tools(self) -> Sequence[Any]:
        """The tools that the model is shown, in the provider's format."""
        return self.facts.tools


def _schema_or_self(value: Any) -> Any:
    """Put a schema in the place of a class, whose representation tells only its name."""
    if isinstance(value, type) and issubclass(value, BaseModel):
        return value.model_json_schema()
    return value


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for a request, or what a stage says in the model's place."""

    result: ChatResult
    storable: bool = True
    """False for answers that were cut, degraded or made up: caches must not keep them."""
    from_cache: bool = False
    complete: bool = True
    """False when a stage stopped the model."""

    @property
    def message(self) -> AIMessage:
        """The first generation's message; of another type of message, or of none, what it says."""
        if not self.result.generations:
            return AIMessage("")
        message = self.result.generations[0].message
        return message if isinstance(message, AIMessage) else AIMessage(message.content)

    @classmethod
    def of(cls, message: AIMessage, *, storable: bool = True, from_cache: bool = False) -> Answer:
        """Make an answer of one message.

        Example:
            >>> Answer.of(AIMessage("42")).message.content
            '42'
        """
        result = ChatResult(generations=[ChatGeneration(message=message)])
        return cls(result, storable=storable, from_cache=from_cache)

    def override(self, **changes: Any) -> Answer:
        """Return a copy with *changes*."""
        return replace(self, **changes)
