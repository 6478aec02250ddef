"""What a process has learned makes answers better, and refuses nothing that a fresh one grants."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.graph import START, StateGraph

from langchain_tokenopt import (
    BudgetPlan,
    UsageForecaster,
    budget_graph,
    count_messages,
    counter_for,
    optimize,
)

NAMES = itertools.count()
FORM = {
    "type": "function",
    "function": {
        "name": "Verdict",
        "description": "What to do.",
        "parameters": {
            "type": "object",
            "properties": {
                "rating": {"type": "string", "enum": ["buy", "hold", "sell"]},
                "why": {"type": "string"},
            },
            "required": ["rating", "why"],
        },
    },
}
ASKED_FOR_A_FORM: dict[str, Any] = {
    "tools": [FORM],
    "tool_choice": {"type": "function", "function": {"name": "Verdict"}},
}


class Honest(BaseChatModel):
    """Counts as we do, and writes as long as it likes, up to its cap."""

    model_name: str
    words: int
    reports: bool

    @property
    def _llm_type(self) -> str:
        return "honest"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: Any = None,
        **kwargs: Any,
    ) -> ChatResult:
        tools = kwargs.get("tools")
        read = count_messages(messages, tools, self.model_name).tokens
        text, calls = " ".join(["tide"] * self.words), []
        if tools:
            args = {"rating": "hold", "why": text}
            calls = [{"name": "Verdict", "args": args, "id": "1", "type": "tool_call"}]
            text = json.dumps(args)
        cap = kwargs.get("max_tokens") or 10**9
        wrote = min(counter_for(self.model_name).count(text).tokens, cap)
        usage = {"input_tokens": read, "output_tokens": wrote, "total_tokens": read + wrote}
        message = AIMessage(
            "" if calls else text,
            tool_calls=calls,
            usage_metadata=usage if self.reports else None,
            response_metadata={"model_name": self.model_name, "finish_reason": "stop"},
        )
        return ChatResult(generations=[ChatGeneration(message=message)])


def is_refused(
    asked: Sequence[BaseMessage], form: bool, total: int, learned: UsageForecaster, model: Honest
) -> bool:
    """Whether a call is refused that is the first of its run."""
    plan = BudgetPlan(total_tokens=total)
    staged = optimize(model, plan)
    with plan.run(forecaster=learned) as run:
        staged.invoke(asked, **(ASKED_FOR_A_FORM if form else {}))
    return run.report().denied_calls > 0


@settings(max_examples=25, deadline=None)
@given(
    earlier=st.lists(st.integers(1, 900), min_size=1, max_size=5),
    long=st.integers(0, 120),
    words=st.integers(1, 300),
    total=st.integers(20, 1_500),
    form=st.booleans(),
    reports=st.booleans(),
)
def test_what_was_learned_refuses_nothing(
    earlier: list[int], long: int, words: int, total: int, form: bool, reports: bool
) -> None:
    """Lengths of answers and objects, and that a provider is silent: with all of it or without."""
    asked = [SystemMessage("Be brief."), HumanMessage("The pier is old. " * long + "Go?")]
    fresh, known = (f"honest-{next(NAMES)}" for _ in range(2))
    forecaster = UsageForecaster()
    for length in earlier * 4:
        model = Honest(model_name=known, words=length, reports=reports)
        is_refused(asked, form, 10**6, forecaster, model)

    now = {"words": words, "reports": reports}
    if not is_refused(asked, form, total, UsageForecaster(), Honest(model_name=fresh, **now)):
        assert not is_refused(asked, form, total, forecaster, Honest(model_name=known, **now))


@settings(max_examples=25, deadline=None)
@given(
    agents=st.integers(1, 8),
    words=st.integers(1, 300),
    long=st.integers(0, 60),
    total=st.integers(20, 1_500),
)
def test_a_graph_under_the_same_plan_refuses_no_call_outside_of_it(
    agents: int, words: int, long: int, total: int
) -> None:
    """A process that has built one keeps nothing for its agents where nobody runs it."""
    asked = [SystemMessage("Be brief."), HumanMessage("The pier is old. " * long + "Go?")]
    model = Honest(model_name=f"honest-{next(NAMES)}", words=words, reports=True)
    plan = BudgetPlan(total_tokens=total, name=f"plan-{next(NAMES)}")
    graph = StateGraph(dict)
    for number in range(agents):
        graph.add_node(f"agent-{number}", lambda state: {})
        graph.add_edge(f"agent-{number - 1}" if number else START, f"agent-{number}")
    fresh = is_refused(asked, False, total, UsageForecaster(), model)
    budget_graph(graph, plan).compile()

    staged = optimize(model, plan)
    with plan.run() as run:
        staged.invoke(asked)
    assert run.report().denied_calls == fresh
