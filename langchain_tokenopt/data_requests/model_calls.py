"""The calls of a model that a collection makes: each paid and recorded under its stage's name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import ensure_config, merge_configs, run_in_executor

from langchain_tokenopt.budget.budget_call import DEGRADED
from langchain_tokenopt.budget.records import BudgetStoreError
from langchain_tokenopt.budget.run import current_run
from langchain_tokenopt.budget.rungs import Step
from langchain_tokenopt.core.attribution import attribution_of, metadata_saying
from langchain_tokenopt.core.errors import BudgetExceededError
from langchain_tokenopt.counting.request_tokens import count_messages
from langchain_tokenopt.data_requests.progress import Call, Reply
from langchain_tokenopt.data_requests.reading import Asking, objects_in
from langchain_tokenopt.tracking.callbacks import TokenUsageCallbackHandler

__all__ = ["ModelCalls", "agent_of", "tokens_left"]

_SMALLER: Final = frozenset({Step.FINAL, Step.PROMPT, Step.COMPLETED, Step.CUT})
"""Steps of a budget after which an answer is not the model's own, or not to the whole question."""


def agent_of(name: str, stage: str, config: RunnableConfig | None = None) -> str:
    """Return the account that pays for a stage: its own, unless the plan names one around it.

    A node, or the whole collection, that has a share or a cap in the plan keeps to it.
    """
    own, run = f"{name}/{stage}", current_run()
    if run is None:
        return own
    around = attribution_of((config or ensure_config()).get("metadata") or {}).agent
    planned = (agent for agent in (own, name, around) if agent in run.plan.agents)
    return next(planned, own)


def tokens_left(agent: str) -> int | None:
    """Return what *agent* may use now; ``None`` where no plan is running, or none can be asked."""
    run = current_run()
    if run is None:
        return None
    try:
        return run.account.available(agent, run.owners.here())
    except BudgetStoreError:  # the account warns, and decides at the call
        return None


_MOST_FOR_FORMS: Final = 150
"""Tokens that structured output may cost beside the names of the fields. More is paid where tools
bring a prompt of the provider's own (346 tokens of Claude's); models so large write JSON unasked.
"""
_METHOD: Final = "function_calling"
"""Of structured output: every integration has it, and an answer that is cut off is an answer.
``ChatOpenAI`` raises an error of OpenAI's for one that is cut off by its own ``json_schema``."""
_FORM: Final = {"name": "said", "parameters": {"type": "object", "properties": {}}}


def _tokens_of_forms(model: Any) -> int:
    """Return what a model's provider puts into a request that has a form to fill in."""
    tool = {"type": "function", "function": _FORM}
    with_form = count_messages("x", [tool], model).tokens
    return with_form - count_messages("x", None, model).tokens


class ModelCalls:
    """How one model is asked for objects.

    Args:
        model: A chat model, or whatever runnable answers messages.
        name: Of the collection.
    """

    def __init__(self, model: Any, name: str) -> None:
        self.model = model
        self.name = name
        self._takes_forms: bool | None = None
        self._may_ask_again = True
        """Whether JSON may come of asking for it where no form was filled in."""

    def make(self, call: Call, config: RunnableConfig) -> Reply:
        """Make a call, if there are tokens for it."""
        paid = _PaidCall(self, call, config)
        if paid.shortage is not None:
            return paid.reply(None, paid.shortage)
        try:
            answer = self._structured(call.asking)
            found = None if answer is None else paid.read(answer.invoke(paid.messages, paid.config))
            if found is None and (answer is None or self._may_ask_again):
                said = self.model.invoke(call.asking.without_schema, paid.config)
                found = self._learned(paid.read(said), by_form=answer is not None)
        except BudgetExceededError as refusal:
            return paid.reply(None, f"out of tokens: {refusal}")
        return self._reply(paid, found)

    async def amake(self, call: Call, config: RunnableConfig) -> Reply:
        """Make a call, if there are tokens for it; a store is asked beside the event loop."""
        if current_run() is None:
            paid = _PaidCall(self, call, config)
        else:
            paid = await run_in_executor(None, _PaidCall, self, call, config)
        if paid.shortage is not None:
            return paid.reply(None, paid.shortage)
        if self._takes_forms is None:
            await run_in_executor(None, self._is_asked_by_form)
        try:
            answer, found = self._structured(call.asking), None
            if answer is not None:
                found = paid.read(await answer.ainvoke(paid.messages, paid.config))
            if found is None and (answer is None or self._may_ask_again):
                said = await self.model.ainvoke(call.asking.without_schema, paid.config)
                found = self._learned(paid.read(said), by_form=answer is not None)
        except BudgetExceededError as refusal:
            return paid.reply(None, f"out of tokens: {refusal}")
        return self._reply(paid, found)

    def _structured(self, asking: Asking) -> Runnable[Any, Any] | None:
        """Return the model with structured output; ``None`` where it has none."""
        if not self._is_asked_by_form():
            return None
        try:
            made: Runnable[Any, Any] = self.model.with_structured_output(
                dict(asking.schema), include_raw=True, method=_METHOD
            )
        except Exception:  # noqa: BLE001  whatever keeps it from forms, JSON it can write
            self._takes_forms = False
            return None
        return made

    def _learned(
        self, found: Mapping[str, Any] | None, *, by_form: bool
    ) -> Mapping[str, Any] | None:
        """Remember, where no form was filled in, what came of asking for JSON: it is paid twice."""
        if by_form and found is None:
            self._may_ask_again = False
        elif by_form:
            self._takes_forms = False
        return found

    def _is_asked_by_form(self) -> bool:
        """Whether structured output is to be had, and worth what it costs."""
        if self._takes_forms is None:  # the first time a vocabulary may have to be loaded
            self._takes_forms = _tokens_of_forms(self.model) <= _MOST_FOR_FORMS
        return self._takes_forms

    def _reply(self, paid: _PaidCall, found: Mapping[str, Any] | None) -> Reply:
        if paid.degraded:
            why = f"out of tokens: {paid.degraded} by the budget of {paid.agent!r}"
            return paid.reply(found, why)
        return paid.reply(found)


class _PaidCall:
    """One call: who pays for it, and what it has used."""

    def __init__(self, calls: ModelCalls, call: Call, config: RunnableConfig) -> None:
        self.agent = agent_of(calls.name, call.stage, config)
        self.usage = TokenUsageCallbackHandler()
        own: RunnableConfig = {
            "metadata": metadata_saying(self.agent),
            "callbacks": [self.usage],
            "tags": ["nostream"],  # graphs show what agents write, and this is none of it
            "run_name": f"{calls.name}/{call.stage}",
        }
        self.config = merge_configs(config, own)
        self.messages = list(call.asking.messages)
        self.degraded: str | None = None
        self.shortage: str | None = None
        left = tokens_left(self.agent)
        if left is not None and left < (needed := call.asking.tokens(calls.model)):
            self.shortage = (
                f"out of tokens: the call for {call.stage!r} needs about {needed:,}, and "
                f"{self.agent!r} has {left:,} left"
            )

    def read(self, answer: Any) -> Mapping[str, Any] | None:
        """Return the object that came back; nothing of it where a budget has answered instead."""
        raw = answer.get("raw") if isinstance(answer, Mapping) else answer
        steps = raw.response_metadata.get(DEGRADED) if isinstance(raw, BaseMessage) else None
        taken = [str(step) for step in steps or () if step in _SMALLER]
        self.degraded = taken[-1] if taken else None
        if self.degraded == Step.FINAL:
            return {}
        return objects_in(answer)

    def reply(self, found: Mapping[str, Any] | None, exhausted: str | None = None) -> Reply:
        """Return what came back, and what it has cost."""
        totals = self.usage.totals()
        return Reply(
            found,
            self.agent,
            totals.calls,
            totals.input_tokens,
            totals.output_tokens,
            exhausted,
        )
