"""Live requests become cases: outermost runs, redacted, readable again."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import FakeListLLM
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from langgraph.graph import END, START, MessagesState, StateGraph

from langchain_tokenopt.evaluate import CaseRecorder, ExactMatch, compare, read_cases, record_cases
from tests.support.fakes import fake_chat


def test_a_chain_is_recorded_once_and_can_be_compared(tmp_path: Path) -> None:
    chain = ChatPromptTemplate.from_template("{question}") | fake_chat()
    with record_cases(tmp_path / "cases.jsonl") as recorder:
        for number in range(3):
            chain.invoke({"question": f"Who won race {number}?"})
    assert recorder.recorded == 3
    found = compare(tmp_path / "cases.jsonl", chain, chain, judges=ExactMatch())
    assert found.cases == 3
    assert (tmp_path / "cases.jsonl").stat().st_mode & 0o077 == 0


def test_messages_come_back_as_messages(tmp_path: Path) -> None:
    asked = [SystemMessage("Be brief."), HumanMessage("Who won?", name="ann")]
    with record_cases(tmp_path / "cases.jsonl"):
        fake_chat().invoke(asked)
    (case,) = read_cases(tmp_path / "cases.jsonl")
    assert [(type(m), m.content, m.name) for m in case.input] == [
        (type(m), m.content, m.name) for m in asked
    ]


def test_a_graph_is_recorded_once(tmp_path: Path) -> None:
    graph = StateGraph(MessagesState)
    graph.add_node("answer", lambda state: {"messages": [fake_chat().invoke(state["messages"])]})
    graph.add_edge(START, "answer")
    graph.add_edge("answer", END)
    compiled = graph.compile()
    with record_cases(tmp_path / "cases.jsonl") as recorder:
        compiled.invoke({"messages": [HumanMessage("Who won?")]})
        asyncio.run(compiled.ainvoke({"messages": [HumanMessage("Who lost?")]}))
    assert recorder.recorded == 2
    cases = read_cases(tmp_path / "cases.jsonl")
    assert [case.input["messages"][0].content for case in cases] == ["Who won?", "Who lost?"]


def test_a_share_is_drawn(tmp_path: Path) -> None:
    chain = RunnableLambda(lambda text: text)
    with record_cases(tmp_path / "cases.jsonl", share=0.3, seed=1) as recorder:
        for number in range(200):
            chain.invoke(str(number))
    assert 40 <= recorder.recorded <= 80


def _fails(given: Any) -> Any:
    raise ValueError(given)


@pytest.mark.parametrize("redact", [lambda given: None, _fails, lambda given: object()])
def test_what_may_not_or_cannot_be_written_is_left_out(tmp_path: Path, redact: Any) -> None:
    chain = RunnableLambda(lambda text: text)
    with record_cases(tmp_path / "cases.jsonl", redact=redact) as recorder:
        assert chain.invoke("secret") == "secret"
    assert (recorder.recorded, recorder.left_out) == (0, 1)
    assert not (tmp_path / "cases.jsonl").exists()


def test_it_can_be_attached_as_a_callback(tmp_path: Path) -> None:
    recorder = CaseRecorder(tmp_path / "cases.jsonl")
    RunnableLambda(lambda text: text).invoke("Who won?", config={"callbacks": [recorder]})
    assert [case.input for case in read_cases(tmp_path / "cases.jsonl")] == ["Who won?"]


def test_outside_of_the_block_nothing_is_recorded(tmp_path: Path) -> None:
    with record_cases(tmp_path / "cases.jsonl"):
        pass
    RunnableLambda(lambda text: text).invoke("Who won?")
    assert not (tmp_path / "cases.jsonl").exists()


def test_a_streamed_chain_is_recorded_with_its_input(tmp_path: Path) -> None:
    chain = ChatPromptTemplate.from_template("{question}") | fake_chat("_stream")
    seen: list[Any] = []

    def redact(given: Any) -> Any:
        seen.append(given)
        return given

    async def read() -> None:
        async for _ in chain.astream({"question": "Who lost?"}):
            pass

    with record_cases(tmp_path / "cases.jsonl", redact=redact):
        list(chain.stream({"question": "Who won?"}))
        asyncio.run(read())
    wanted = [{"question": "Who won?"}, {"question": "Who lost?"}]
    assert [case.input for case in read_cases(tmp_path / "cases.jsonl")] == wanted
    assert seen == wanted


def test_a_message_under_a_key_comes_back_as_one(tmp_path: Path) -> None:
    with record_cases(tmp_path / "cases.jsonl"):
        RunnableLambda(lambda given: "x").invoke({"message": HumanMessage("Who won?")})
    (case,) = read_cases(tmp_path / "cases.jsonl")
    assert case.input["message"].content == "Who won?"


def test_a_completion_model_is_recorded(tmp_path: Path) -> None:
    with record_cases(tmp_path / "cases.jsonl"):
        FakeListLLM(responses=["Ada"]).invoke("Who won?")
    assert [case.input for case in read_cases(tmp_path / "cases.jsonl")] == ["Who won?"]


def test_a_folder_that_is_not_there_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing"):
        CaseRecorder(tmp_path / "missing" / "cases.jsonl")
