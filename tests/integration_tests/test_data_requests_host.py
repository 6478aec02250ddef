"""Data requests in the real host: ChatOpenAI over HTTP, graphs with checkpoints and interrupts."""

from __future__ import annotations

import json
import operator
from typing import Annotated, TypedDict

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt
from openai import InternalServerError

from langchain_tokenopt import (
    BudgetPlan,
    DataCollected,
    DataNeed,
    DataRequester,
    Ledger,
    budget_graph,
    optimize,
    track_usage,
)
from tests.support.model_server import Reply, ToolCall

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


@pytest.mark.parametrize("form", ["graph", "in_a_node", "own_interrupt"])
async def test_humans_are_asked_once_in_an_event_loop(model_server, form):
    model_server.script(*READ)
    own = {"ask": lambda question: interrupt({"question": str(question)})}
    requester = DataRequester(
        model_server.chat_openai(),
        needs=NEEDS,
        strategy="progressive",
        **(own if form == "own_interrupt" else {}),
    )

    async def node(state):
        return {"collected": await requester.ainvoke({"messages": state["messages"]})}

    graph = _graph(requester.as_graph() if form == "graph" else node, InMemorySaver())
    thread = {"configurable": {"thread_id": "one"}}
    plan = BudgetPlan(total_tokens=10_000)
    with plan.run() as run:
        result = await graph.ainvoke({"messages": [("user", REQUEST)]}, thread)
        for answer in ANSWERS:
            assert result["__interrupt__"]
            result = await graph.ainvoke(Command(resume=answer), thread)
    collected = result["collected"]
    assert collected.complete
    assert not collected.missing
    assert len(model_server.requests) == len(READ)
    assert run.report().account.spent_tokens == collected.total_tokens


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


def test_an_answer_outlives_a_model_that_fails(model_server):
    """The model breaks down when it reads the answer: the human is not asked again."""
    model_server.script("{}", Reply(status=500, text="overloaded"), READ[1])
    graph = DataRequester(model_server.chat_openai(), needs=NEEDS[:2]).as_graph(
        checkpointer=InMemorySaver()
    )
    thread = {"configurable": {"thread_id": "one"}}
    assert "__interrupt__" in graph.invoke({"request": REQUEST}, thread)
    with pytest.raises(InternalServerError):
        graph.invoke(Command(resume=ANSWERS[0]), thread)
    result = graph.invoke(None, thread)
    assert result["collected"].values == {"city": "Rome", "nights": 3}


def test_another_request_on_the_same_thread_begins_anew():
    graph = DataRequester(needs=["city"]).as_graph(checkpointer=InMemorySaver())
    thread = {"configurable": {"thread_id": "one"}}
    for city in ("Rome", "Oslo"):
        assert graph.invoke({"request": "Plan"}, thread)["collected"] is None
        result = graph.invoke(Command(resume={"city": city}), thread)
        assert result["collected"].values == {"city": city}


def test_branches_side_by_side_merge_what_they_bring():
    class Both(TypedDict, total=False):
        request: str
        collected: Annotated[DataCollected, operator.add]

    graph = StateGraph(Both)
    for name in ("city", "day"):
        graph.add_node(name, DataRequester(needs=[name]).as_graph())
        graph.add_edge(START, name)
    running = graph.compile(InMemorySaver())
    thread = {"configurable": {"thread_id": "one"}}
    paused = running.invoke({"request": "Plan"}, thread)["__interrupt__"]
    answers = {each.id: {"city": "Rome", "day": "Friday"} for each in paused}
    result = running.invoke(Command(resume=answers), thread)
    assert result["collected"].values == {"city": "Rome", "day": "Friday"}


@pytest.mark.parametrize("form", ["alone", "child", "in_a_node"])
def test_there_may_be_as_many_rounds_as_it_takes(form):
    needs = [f"item {n}" for n in range(60)]
    requester = DataRequester(
        needs=needs, strategy="chunked", chunk=1, ask=lambda q: {q.names[0]: "blue"}
    )
    node = requester.as_graph()
    if form == "in_a_node":

        def node(state):
            return {"collected": requester.invoke({"messages": state["messages"]})}

    graph = requester.as_graph() if form == "alone" else _graph(node, None)
    result = graph.invoke({"messages": [("user", "Plan")]})
    assert len(result["collected"].values) == 60


def test_an_agents_tool_asks_through_the_agent(model_server):
    """Two collections in one tool call: each has its own place, and is asked once."""

    @tool
    def collect(topic: str) -> str:
        """Collect data on a topic."""
        place = DataRequester(needs=["city"]).invoke("Plan")
        colour = DataRequester(needs=["colour"]).invoke("Plan")
        return json.dumps(place.values | colour.values)

    call = ToolCall(name="collect", args={"topic": "trip"})
    model_server.script(Reply(tool_calls=[call]), "Done.")
    agent = create_agent(model_server.chat_openai(), [collect], checkpointer=InMemorySaver())
    thread = {"configurable": {"thread_id": "one"}}
    agent.invoke({"messages": [("user", "Plan")]}, thread)
    agent.invoke(Command(resume={"city": "Rome"}), thread)
    result = agent.invoke(Command(resume="colour: blue"), thread)
    assert result["messages"][-2].text == '{"city": "Rome", "colour": "blue"}'
    assert len(model_server.requests) == 2


def test_what_its_model_writes_is_not_shown_as_an_answer(model_server):
    """A stream of messages has what agents write; this is read by nobody."""
    model_server.script(*READ[:2])
    requester = DataRequester(
        model_server.chat_openai(), needs=NEEDS[:2], ask=lambda question: ANSWERS[0]
    )
    given = {"messages": [("user", REQUEST)]}
    shown = requester.as_graph().stream(given, stream_mode="messages")
    assert "Rome" not in "".join(message.text for message, _ in shown)


def test_in_a_chain_it_takes_a_prompt_and_hands_on_what_it_has(model_server):
    model_server.script("{}", READ[1])
    requester = DataRequester(
        model_server.chat_openai(),
        needs=NEEDS[:2],
        ask=RunnableLambda(lambda question: AIMessage(ANSWERS[0])),
    )
    prompt = ChatPromptTemplate.from_messages([("system", "Be kind."), ("user", "{request}")])
    chain = prompt | requester | (lambda collected: collected.values)
    assert chain.invoke({"request": REQUEST}) == {"city": "Rome", "nights": 3}
    assert "Be kind" not in str([request.body for request in model_server.requests])


@pytest.mark.parametrize(
    ("agents", "payers"),
    [
        ({}, ["data_requests/request", "data_requests/simple"]),
        ({"collect": {"tokens": 500}}, ["collect"]),
        ({"data_requests": {"tokens": 500}, "collect": {}}, ["data_requests"]),
    ],
)
def test_a_plan_that_names_who_pays_is_kept_to(model_server, agents, payers):
    """A node's cap holds for what happens inside of it."""
    model_server.script("{}", READ[1])
    plan = BudgetPlan(total_tokens=3_000, agents=agents)
    requester = DataRequester(
        optimize(model_server.chat_openai(), plan),
        needs=NEEDS[:2],
        ask=lambda question: ANSWERS[0],
    )
    node = requester.as_graph()
    graph = StateGraph(State).add_node("collect", node).add_edge(START, "collect").compile()
    has_nodes_only = "data_requests" not in agents
    running = budget_graph(graph, plan) if has_nodes_only else graph
    with plan.run() as run:
        collected = running.invoke({"messages": [("user", REQUEST)]})["collected"]
    assert sorted({stage.agent for stage in collected.stages}) == payers
    spent = {name for name, one in run.report().account.agents.items() if one.spent_tokens}
    assert sorted(spent) == payers


@pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini"])
def test_a_form_is_used_where_it_costs_little(model_server, provider):
    """Providers that charge a prompt of their own for tools are asked for JSON instead."""
    said = {"city": "Rome", "nights": "3 days"}
    is_form = provider == "gemini"
    call = Reply(tool_calls=[ToolCall(name="said", args=said)])
    model_server.script(call if is_form else json.dumps(said))
    model = getattr(model_server, f"chat_{provider}")()
    requester = DataRequester(model, needs=NEEDS[:2], ask=lambda question: ANSWERS[0])
    assert requester.invoke("Plan my trip").values == {"city": "Rome", "nights": 3}
    (request,) = model_server.requests
    text = json.dumps(request.body)
    assert ("one JSON object" in text) is (provider == "anthropic")
    assert "input_schema" not in text
