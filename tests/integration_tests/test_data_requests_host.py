"""Data requests in the real host: ChatOpenAI over HTTP, graphs with checkpoints and interrupts."""

from __future__ import annotations

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt

from langchain_tokenopt import (
    BudgetPlan,
    DataCollected,
    DataNeed,
    DataRequester,
    Ledger,
    optimize,
    track_usage,
)

NEEDS = [
    DataNeed("city", "city to go to"),
    DataNeed("nights", "stay in days", type=int),
    DataNeed("budget", "budget in EUR", type=float, importance="supporting"),
    DataNeed("wish", "special wishes", importance="enriching"),
]
REQUEST = "I would like to go on a holiday trip with somebody"
READ = ("{}", '{"city": "Rome", "nights": "3 days"}', '{"budget": "900 EUR"}', '{"wish": "a view"}')
ANSWERS = ("Rome for 3 days", "Well, 900 EUR", "perhaps a view over the sea")


class State(MessagesState):
    collected: DataCollected


def _graph(node, saver):
    return StateGraph(State).add_node("ask", node).add_edge(START, "ask").compile(saver)


@pytest.mark.parametrize("form", ["graph", "in_a_node", "own_interrupt"])
def test_humans_are_asked_once_and_models_paid_once(model_server, form):
    """Each resumption is another process, as far as memory goes: all is made anew."""
    model_server.script(*READ)
    saver = InMemorySaver()
    thread = {"configurable": {"thread_id": "one"}}
    given = {"messages": [("user", REQUEST)]}
    questions = []
    for answer in (None, *ANSWERS):
        own = {"ask": lambda question: interrupt({"question": str(question)})}
        requester = DataRequester(
            model_server.chat_openai(),
            needs=NEEDS,
            strategy="progressive",
            **(own if form == "own_interrupt" else {}),
        )

        def node(state, requester=requester):
            return {"collected": requester.invoke({"messages": state["messages"]})}

        graph = _graph(requester.as_graph() if form == "graph" else node, saver)
        result = graph.invoke(given if answer is None else Command(resume=answer), thread)
        if "__interrupt__" in result:
            questions.append(result["__interrupt__"][0].value["question"])
    assert [len(question.splitlines()) for question in questions] == [3, 1, 1]
    assert result["collected"].values == {
        "city": "Rome",
        "nights": 3,
        "budget": 900.0,
        "wish": "a view",
    }
    assert len(model_server.requests) == len(READ)


def test_each_stage_stands_in_the_ledger_and_in_the_account(model_server, tmp_path):
    model_server.script(*READ)
    answers = iter(ANSWERS)
    plan = BudgetPlan(total_tokens=5_000)
    with Ledger(tmp_path / "usage.db") as ledger:
        with plan.run() as run, track_usage(sinks=[ledger]):
            collected = DataRequester(
                optimize(model_server.chat_openai(), plan),
                needs=NEEDS,
                ask=lambda question: next(answers),
                strategy="progressive",
            ).invoke(REQUEST)
        stages = {stage.agent: stage.total_tokens for stage in collected.stages}
        ledger.flush()
        recorded = {name: totals.total_tokens for name, totals in ledger.by("agent").items()}
        spent = {name: one.spent_tokens for name, one in run.report().account.agents.items()}
    assert list(stages) == [
        f"data_requests/{stage}" for stage in ("request", "essential", "supporting", "enriching")
    ]
    assert stages == recorded == spent


@pytest.mark.parametrize("staged", [True, False])
@pytest.mark.parametrize("on_exceed", ["degrade", "raise"])
def test_out_of_tokens_it_ends_with_what_it_has(model_server, staged, on_exceed):
    plan = BudgetPlan(total_tokens=150, on_exceed=on_exceed)
    model = model_server.chat_openai()
    asked = []
    with plan.run() as run:
        collected = DataRequester(
            optimize(model, plan) if staged else model,
            needs=NEEDS,
            known={"city": "Rome"},
            ask=lambda question: asked.append(question.names) or "3 days or so, for 900 EUR",
        ).invoke(REQUEST)
    assert collected.values == {"city": "Rome"}
    assert not collected.complete
    assert collected.stopped.startswith("out of tokens")
    assert collected.unread == ["3 days or so, for 900 EUR"]
    assert asked == [("nights",)]
    assert run.report().account.spent_tokens <= 150
