"""Calls that are made side by side, agents that come later, and loops under a cap."""

from __future__ import annotations

import asyncio
import operator
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send

from langchain_tokenopt.budget import BudgetPlan
from langchain_tokenopt.budget.run_report import BudgetRunReport
from langchain_tokenopt.chat_model.optimize import optimize
from langchain_tokenopt.graph import budget_graph
from tests.support.fakes import FakeAnswer, Method, fake_chat

SYSTEM = SystemMessage("You review changes for a library of cranes.")
ANSWER = " ".join(f"The pulley on line {n} was turned around without a reason." for n in range(9))
DIFF = " ".join(f"- rope {n} is held by pulley {n + 1} of the crane." for n in range(12))
WORKERS, EACH = 6, 2
ONE_CALL = 350
"""Tokens of one of these calls: what it sends, and what it says."""

STREAMS: tuple[Method, ...] = ("_stream",)
KINDS = pytest.mark.parametrize(
    ("methods", "streamed"),
    [((), False), (("_agenerate",), False), (STREAMS, True), ((*STREAMS, "_astream"), True)],
    ids=["sync model", "async model", "sync stream", "async stream"],
)


class State(TypedDict, total=False):
    """What reviewers say, and their lead."""

    number: int
    notes: Annotated[list[AIMessage], operator.add]
    summary: AIMessage


def asked(text: str, question: str) -> list[Any]:
    return [SYSTEM, HumanMessage(f"<diff>{text}</diff>\n\n{question}")]


def reviewers(model: Any) -> Any:
    """Workers by ``Send``, each of which asks twice at once, and one that reads them all."""

    async def review(state: State) -> Any:
        questions = [f"As reader {n} of {state['number']}: what is wrong?" for n in range(EACH)]
        return {"notes": await asyncio.gather(*(model.ainvoke(asked(DIFF, q)) for q in questions))}

    async def lead(state: State) -> Any:
        said = "\n".join(f"<report>{note.text}</report>" for note in state["notes"])
        return {"summary": await model.ainvoke([SYSTEM, HumanMessage(f"{said}\n\nMerge?")])}

    graph = StateGraph(State).add_node("review", review).add_node("lead", lead)
    sent = [Send("review", {"number": n}) for n in range(WORKERS)]
    graph.add_conditional_edges(START, lambda _: sent, ["review"])
    return graph.add_edge("review", "lead").add_edge("lead", END)


async def reviewed(
    total: int, methods: tuple[Method, ...], streamed: bool
) -> tuple[list[str], BudgetRunReport]:
    """Run them under a total; return what was said, and the report."""
    plan = BudgetPlan(total_tokens=total, name=f"reviews of {total}")
    model = fake_chat(*methods, answers=[FakeAnswer(ANSWER)] * 30)
    graph = budget_graph(reviewers(optimize(model, plan)), plan).compile()
    with plan.run() as run:
        if streamed:
            modes: Any = ["messages", "values"]
            state = [
                s async for mode, s in graph.astream({}, stream_mode=modes) if mode == "values"
            ]
            state = state[-1]
        else:
            state = await graph.ainvoke({})
    return [note.text for note in (*state["notes"], state["summary"])], run.report()


@KINDS
@pytest.mark.parametrize("times", [1.0, 1.6, 3.0])
async def test_calls_side_by_side_leave_each_other_what_they_need(
    methods: tuple[Method, ...], streamed: bool, times: float
) -> None:
    """Nobody is refused while others hold more than they use."""
    total = round(times * ONE_CALL * (WORKERS * EACH + 4))
    said, report = await reviewed(total, methods, streamed)

    assert WORKERS * EACH + 1 == len(said)
    assert not [text for text in said if text.startswith("[")], report
    assert 0 == report.denied_calls


@KINDS
async def test_nothing_is_shortened_where_there_is_twice_as_much(
    methods: tuple[Method, ...], streamed: bool
) -> None:
    """However many calls are under way at once."""
    said, report = await reviewed(2 * ONE_CALL * (WORKERS * EACH + 4), methods, streamed)

    assert {ANSWER} == {*said}
    assert not [step for line in report.agents.values() for step in line.steps]


class Debate(TypedDict, total=False):
    """Who has said what."""

    said: Annotated[list[tuple[str, str]], operator.add]


def speaker(model: Any, name: str) -> Any:
    """Return a node that reads what was said, and adds to it."""

    def speak(state: Debate) -> Any:
        before = "\n".join(f"{who}: {text}" for who, text in state.get("said", ()))
        messages = [SYSTEM, HumanMessage(f"{before}\n\nArgue as {name}: shall it be merged?")]
        return {"said": [(name, model.invoke(messages).text)]}

    return speak


@pytest.mark.parametrize("total", [1_600, 2_500, 4_000, 8_000, 50_000])
def test_a_cap_pays_for_every_turn_of_a_loop(total: int) -> None:
    """More tokens for all do not make an agent spend its own on its first turn."""
    plan = BudgetPlan(total_tokens=total, name=f"{total}", agents={"friend": {"cap": 420}})
    model = optimize(fake_chat(answers=[FakeAnswer(ANSWER)] * 9), plan)
    graph = StateGraph(Debate)
    for name in ("friend", "foe", "judge"):
        graph.add_node(name, speaker(model, name))
    graph.add_edge(START, "friend").add_edge("friend", "foe").add_edge("judge", END)
    again = {True: "judge", False: "friend"}
    graph.add_conditional_edges("foe", lambda state: len(state["said"]) >= 4, again)
    with plan.run() as run:
        state = budget_graph(graph, plan).compile().invoke({})

    assert 5 == len(state["said"])
    assert not [text for _, text in state["said"] if text.startswith("[")]
    assert run.report().agents["friend"].account.spent_tokens <= 420


def test_those_that_come_later_are_left_what_they_read_and_no_more() -> None:
    """Four that read long documents side by side, and those after them that read reports."""
    documents = " ".join(f"- rope {n} is held by pulley {n + 1} of the crane." for n in range(400))
    readers, later = [f"reader {n}" for n in range(4)], [f"editor {n}" for n in range(4)]

    def made(plan: BudgetPlan) -> tuple[Any, Any]:
        fake = fake_chat(answers=[FakeAnswer(ANSWER)] * 9)
        model, graph = optimize(fake, plan), StateGraph(Debate)
        for name in readers:

            def read(state: Debate, name: str = name) -> Any:
                question = f"As {name}: what is wrong?"
                return {"said": [(name, model.invoke(asked(documents, question)).text)]}

            graph.add_node(name, read).add_edge(START, name)
        for number, name in enumerate(later):
            graph.add_node(name, speaker(model, name))
            graph.add_edge([*readers, *later[:number]], name)
        return graph.add_edge(later[-1], END), fake

    ample = BudgetPlan(total_tokens=1_000_000, name="ample")
    with ample.run() as run:
        budget_graph(made(ample)[0], ample).compile().invoke({})
    need = run.report().account.spent_tokens
    for share, least in ((0.5, 0.92), (0.8, 0.92), (1.3, 1 / 1.3)):
        plan = BudgetPlan(total_tokens=round(share * need), name=f"{share}")
        with plan.run() as run:
            budget_graph(made(plan)[0], plan).compile().invoke({})
        spent = run.report().account.spent_tokens
        assert spent >= least * plan.total_tokens - 1, (share, run.report())
