"""A prompt is made smaller for what an answer takes as a rule, not for the most it may take."""

from __future__ import annotations

import asyncio
import json

import pytest

from langchain_tokenopt import BudgetPlan, optimize
from tests.support.model_server import ModelServer, Reply

LOG = " ".join(f"Valve {n} was opened at {n + 300} and closed at {n + 640}." for n in range(60))
PROMPT = [("system", "You keep the log of a weir."), ("human", f"{LOG}\n\nWhich valves leak?")]
SAID = "Valve 7 leaks. Valve 9 does not."


def _input(server: ModelServer) -> int:
    """Return what the prompt takes, by a run with room for all."""
    plan = BudgetPlan(total_tokens=90_000)
    with plan.run() as run:
        optimize(server.chat_openai(), plan).invoke(PROMPT)
    return run.report().account.spent_tokens - server.billed[-1].output_tokens


def _arrived(server: ModelServer) -> str:
    return json.dumps([m["content"] for m in server.requests[-1].body["messages"]])


@pytest.mark.parametrize("mode", ["invoke", "stream", "ainvoke"])
def test_the_last_prompt_is_whole_where_an_answer_as_usual_fits(
    model_server: ModelServer, mode: str
) -> None:
    """Nothing is known of its length: it is bounded by what is left, and asked to be so short."""
    model_server.answer = lambda request: Reply(text=SAID)
    total = _input(model_server) + 210
    plan = BudgetPlan(total_tokens=total)
    model = optimize(model_server.chat_openai(), plan)
    with plan.run() as run:
        if mode == "stream":
            list(model.stream(PROMPT))
        elif mode == "invoke":
            model.invoke(PROMPT)
        else:
            asyncio.run(model.ainvoke(PROMPT))

    assert LOG in _arrived(model_server)
    assert 80 <= model_server.requests[-1].body["max_completion_tokens"] <= 210
    assert not any(agent.degraded for agent in run.report().agents.values())


def test_an_answer_longer_than_that_stays_within_the_total(model_server: ModelServer) -> None:
    """And ends with a sentence."""
    model_server.answer = lambda request: Reply(text=f"{SAID} " * 60)
    total = _input(model_server) + 210
    plan = BudgetPlan(total_tokens=total)
    with plan.run():
        answer = optimize(model_server.chat_openai(), plan).invoke(PROMPT)

    assert model_server.billed[-1].total_tokens <= total
    assert answer.text.rstrip().endswith((".", "…"))
