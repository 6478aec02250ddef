"""What one request is: each fact worked out once, when it is first asked for.

A stage that changes a request passes on the facts that its change leaves true, so that a prompt is
counted once however many stages look at it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Final, Generic, TypeVar

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage

from langchain_tokenopt.core.attribution import Attribution, attribution_here
from langchain_tokenopt.core.host_compat import ls_model_name_of, provider_of
from langchain_tokenopt.counting.model_names import model_name_of
from langchain_tokenopt.counting.request_tokens import count_messages, count_tools
from langchain_tokenopt.counting.tokens import (
    NO_TOKENS,
    LoadingCounter,
    TokenCount,
    counter_of_name,
)
from langchain_tokenopt.pricing.providers import base_url_in, billing_provider
from langchain_tokenopt.request.answer_form import AnswerForm, answer_form
from langchain_tokenopt.request.output_caps import CAP_NAMES, cap_name, lowest_cap
from langchain_tokenopt.request.settings import Settings
from langchain_tokenopt.request.thinking import asked_thinking_tokens, thinking_room

__all__ = ["RequestFacts"]

Value = TypeVar("Value")

_GENERATIONS: Final = ("n", "candidate_count", "num_generations")


class _Fact(Generic[Value]):
    """An attribute that is worked out when it is first asked for, by whichever request."""

    def __init__(self, work: Callable[[RequestFacts], Value], inputs: frozenset[str]) -> None:
        self._work = work
        self._inputs = inputs
        self._name = work.__name__
        self.__doc__ = work.__doc__

    def __get__(self, facts: RequestFacts, owner: type) -> Value:
        if facts is None:  # looked up on the class, for its docstring
            return self
        earlier = facts._earlier
        if earlier is not None and not self._inputs & facts._changed:
            value: Value = getattr(earlier, self._name)
        else:
            value = self._work(facts)
        facts.__dict__[self._name] = value  # found before this descriptor from now on
        return value


def _fact(*inputs: str) -> Callable[[Callable[[RequestFacts], Value]], _Fact[Value]]:
    """Make a method a fact that depends on nothing but *inputs* of the request."""
    return lambda work: _Fact(work, frozenset(inputs))


class RequestFacts:
    """What one request is; carried by ``ModelRequest.facts``.

    Args:
        model: The model that is asked.
        messages: What it is asked.
        kwargs: What was bound to the model or passed with the call.
        metadata: Of the run that the call belongs to.
    """

    def __init__(
        self,
        model: BaseChatModel,
        messages: Sequence[BaseMessage],
        kwargs: Mapping[str, Any],
        metadata: Mapping[str, Any],
    ) -> None:
        self._model = model
        self._messages = messages
        self._kwargs = kwargs
        self._metadata = metadata
        self._earlier: RequestFacts | None = None
        self._changed: frozenset[str] = frozenset()

    def carried(
        self,
        model: BaseChatModel,
        messages: Sequence[BaseMessage],
        kwargs: Mapping[str, Any],
        metadata: Mapping[str, Any],
    ) -> RequestFacts:
        """Return the facts of a changed request; what the change leaves true is shared."""
        changed = {
            name
            for name, old, new in (
                ("model", self._model, model),
                ("messages", self._messages, messages),
                ("metadata", self._metadata, metadata),
            )
            if old is not new
        }
        if kwargs is not self._kwargs:
            changed |= _changed_kwargs(self._kwargs, kwargs)
        if "model" in changed and _differs_by_cap_only(self._model, model):
            changed = changed - {"model"} | {"caps"}
        carried = RequestFacts(model, messages, kwargs, metadata)
        carried._earlier, carried._changed = self, frozenset(changed)
        return carried

    # The model

    @_fact("model")
    def model_name(self) -> str:
        """The name that the provider knows the model by."""
        named = self._kwargs.get("model")
        return named if isinstance(named, str) and named else model_name_of(self._model)

    @_fact("model")
    def provider(self) -> str | None:
        """The provider, under the name that LangChain's tracing gives it."""
        return provider_of(self._model)

    @_fact("model")
    def billed_name(self) -> str:
        """The name by which records and bills know the model."""
        return ls_model_name_of(self._model, self._kwargs) or self.model_name

    @_fact("model")
    def billed_by(self) -> str | None:
        """Who sends the bill: whose address is called, else whose package calls."""
        provider = self.provider
        return billing_provider(provider, base_url_in(vars(self._model), provider))

    @property
    def counter(self) -> LoadingCounter:
        """The counter of the model's tokens."""
        return counter_of_name(self.model_name)

    # What goes in

    @_fact("model", "messages")
    def message_tokens(self) -> TokenCount:
        """Tokens of the messages and the frame around them."""
        return count_messages(self._messages, model=self.model_name)

    @_fact("model", "kwargs")
    def tool_tokens(self) -> TokenCount:
        """Tokens of the schemas of the tools."""
        return count_tools(self.tools, self.model_name) if self.tools else NO_TOKENS

    @_fact("model", "kwargs")
    def tool_json_surplus(self) -> int:
        """Tokens of the tools as JSON beyond :attr:`tool_tokens`: some providers count these."""
        if not self.tools:
            return 0
        text = json.dumps([*self.tools], default=str)
        return max(0, self.counter.count(text).tokens - self.tool_tokens.tokens)

    @_fact("model", "kwargs")
    def schema_tokens(self) -> TokenCount:
        """Tokens of the schema that the answer must follow, where no tool carries it."""
        form = self.answer_form
        if form.schema is None or form.must_call_tool:
            return NO_TOKENS
        return TokenCount(self.counter.count(json.dumps(form.schema)).tokens, exact=False)

    @property
    def input_tokens(self) -> TokenCount:
        """Everything that the request puts into the model."""
        return self.message_tokens + self.tool_tokens + self.schema_tokens

    @property
    def tools(self) -> Sequence[Any]:
        """The tools that the model is shown, in the provider's format."""
        return self._kwargs.get("tools") or self._kwargs.get("functions") or ()

    # What may come out

    @_fact("model", "kwargs")
    def answer_form(self) -> AnswerForm:
        """The form that a program expects the answer in."""
        return answer_form(self.settings, self.tools)

    @_fact("model", "caps")
    def output_cap(self) -> int | None:
        """The lowest cap on one answer that the caller or the model has set, in tokens."""
        return lowest_cap(self.settings)

    @_fact("model", "caps")
    def cap_name(self) -> str | None:
        """The name by which the model takes a cap; ``None``: by none that is known."""
        return cap_name(self.settings)

    @_fact("model", "kwargs")
    def thinking_room(self) -> int | None:
        """Tokens of thinking that a cap must leave room for; ``None``: nobody knows."""
        return thinking_room(self.settings, self.model_name)

    @_fact("model", "kwargs")
    def thinking_tokens(self) -> int:
        """Thinking that was asked for by number."""
        return asked_thinking_tokens(self.settings)

    @_fact("model", "kwargs")
    def generations(self) -> int:
        """How many answers are asked for; each may be as long as the cap."""
        asked = self.settings.first(_GENERATIONS)
        return asked if isinstance(asked, int) and asked > 0 else 1

    @cached_property
    def settings(self) -> Settings:
        """What the call and its model say, for those who read settings of their own."""
        return Settings(self._model, self._kwargs)

    # Who asks

    @_fact("metadata")
    def attribution(self) -> Attribution:
        """On whose account the call goes."""
        return attribution_here(self._metadata)


def _changed_kwargs(old: Mapping[str, Any], new: Mapping[str, Any]) -> set[str]:
    """Say what has changed: caps, the model that is named, or anything else."""
    names = {name for name in old.keys() | new.keys() if old.get(name) is not new.get(name)}
    caps, others = names & _CAPS, names - _CAPS - {"model"}
    return {
        name
        for name, has_changed in (("caps", caps), ("kwargs", others), ("model", "model" in names))
        if has_changed
    }


def _differs_by_cap_only(old: BaseChatModel, new: BaseChatModel) -> bool:
    """Whether *new* is a copy of *old* that only has another cap."""
    if type(old) is not type(new):
        return False
    before, after = vars(old), vars(new)
    names = before.keys() | after.keys()
    return all(before.get(name) is after.get(name) for name in names if name not in _CAPS)


_CAPS: Final = frozenset(CAP_NAMES)
