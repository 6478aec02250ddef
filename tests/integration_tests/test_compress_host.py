"""The compressor in its hosts: pipes, the seam, graphs, retrievers, the command line."""

from __future__ import annotations

import itertools
import json
from uuid import uuid4

import pytest
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langgraph.graph import END, START, MessagesState, StateGraph
from typer.testing import CliRunner

from langchain_tokenopt.chat_model.optimize import optimize
from langchain_tokenopt.cli.app import app
from langchain_tokenopt.compress import PromptCompressor, content_types, text_tokens
from langchain_tokenopt.core.errors import BudgetInfeasibleError, TokenOptWarning
from langchain_tokenopt.core.staged_runs import StagedRun
from langchain_tokenopt.counting.request_tokens import count_messages
from langchain_tokenopt.counting.tokens import counter_for
from langchain_tokenopt.request.model_request import ModelRequest
from langchain_tokenopt.stage import Phase, Stage
from tests.support.fakes import FakeAnswer, fake_chat

FILLER = " ".join(f"Fact number {n} says that birds of kind {n} sing at dawn." for n in range(60))
NEEDLE = "The bridge was opened in 1931 by Ada Quill."
QUESTION = "When was the bridge opened?"
PROMPT = (
    f"Answer only from the context.\n\nContext: {FILLER} {NEEDLE} {FILLER}\n\nQuestion: {QUESTION}"
)


def model(*methods):
    return fake_chat(*methods, answers=[FakeAnswer("In 1931.")] * 20)


def test_in_a_pipe_the_answer_still_streams():
    """Between prompt and model, chunks keep coming one by one."""
    chat = model("_stream")
    template = ChatPromptTemplate.from_messages([("system", "Be kind."), ("user", "{text}")])
    chain = template | PromptCompressor(120, model="gpt-4") | chat | StrOutputParser()

    pieces = list(chain.stream({"text": PROMPT}))

    assert "In 1931." == "".join(pieces)
    assert len([p for p in pieces if p]) > 1
    sent = chat.calls[-1].messages
    assert NEEDLE in sent[-1].content
    assert count_messages(list(sent), model="gpt-4").tokens <= 120


@pytest.mark.parametrize("methods", [(), ("_stream",), ("_agenerate",), ("_stream", "_astream")])
async def test_at_the_model_every_call_is_shortened(methods):
    """invoke, ainvoke, stream, astream and batch send the same shortened messages."""
    chat = model(*methods)
    staged = optimize(chat, PromptCompressor(120, model="gpt-4"))
    messages = [SystemMessage("Be kind."), HumanMessage(PROMPT)]

    staged.invoke(messages)
    await staged.ainvoke(messages)
    list(staged.stream(messages))
    [chunk async for chunk in staged.astream(messages)]
    staged.batch([messages])

    sent = [[m.content for m in call.messages] for call in chat.calls]
    assert 5 == len(sent)
    assert all(one == sent[0] for one in sent)
    assert len(sent[0][1]) < len(PROMPT) / 4


def test_as_a_stage_it_leaves_a_saving():
    """The saving is in the run, measured, with the stage's name."""
    stage = PromptCompressor(120, model="gpt-4")
    run = StagedRun(run_id=uuid4(), metadata={"tokenopt_agent": "news"})
    request = ModelRequest(model(), [HumanMessage(PROMPT)], None, {}, run)

    call = stage.open(request)

    assert isinstance(stage, Stage)
    assert Phase.CONTEXT == stage.phase
    assert ["PromptCompressor"] == run.stages
    saving = run.savings[0]
    assert "news" == saving.agent
    assert saving.tokens_before == count_messages([HumanMessage(PROMPT)], model="gpt-4").tokens
    assert saving.tokens_after == count_messages(call.request.messages, model="gpt-4").tokens
    assert request.messages[0].content == PROMPT


def test_a_request_is_not_counted_again(monkeypatch):
    """What fits is seen from the facts that the request carries."""
    run = StagedRun(run_id=uuid4())
    chat = optimize(model(), PromptCompressor(120, model="gpt-4"))
    request = ModelRequest(chat, [HumanMessage("Hi")], None, {"model": "gpt-4"}, run)
    assert request.facts.message_tokens.exact

    def counted(*args, **kwargs):
        raise AssertionError("counted again")

    monkeypatch.setattr(content_types, "count_messages", counted)
    monkeypatch.setattr(text_tokens, "vocabulary_of", counted)

    assert PromptCompressor(120).open(request) is None


def test_a_vocabulary_is_waited_for_in_a_thread():
    """An event loop is not held up by the first count of a model."""
    compressor = PromptCompressor(120, model="a-model-that-nobody-has-counted-for")

    assert compressor.blocking
    compressor.invoke(PROMPT)
    assert not compressor.blocking


def test_a_sink_that_fails_breaks_no_call_at_the_model():
    """The model is asked, with the shortened prompt."""

    class Full:
        def record(self, event):
            raise OSError("disk full")

    chat = model()
    staged = optimize(chat, PromptCompressor(120, model="gpt-4", sinks=[Full()]))

    with pytest.warns(TokenOptWarning, match="Full said: OSError"):
        answer = staged.invoke([HumanMessage(PROMPT)])

    assert "In 1931." == answer.text
    assert len(chat.calls[-1].messages[0].content) < len(PROMPT)


def test_nothing_to_do_opens_no_call():
    """A request that fits goes on untouched."""
    run = StagedRun(run_id=uuid4())
    request = ModelRequest(model(), [HumanMessage("Hi")], None, {}, run)

    assert PromptCompressor(120).open(request) is None
    assert [] == run.stages


def test_levels_leave_the_cached_prefix_alone():
    """Over a growing conversation every request begins with the bytes of the one before."""
    chat = model()
    staged = optimize(chat, level="aggressive")
    history = [SystemMessage(FILLER)]
    for turn in range(4):
        history.append(HumanMessage(f"{FILLER} {NEEDLE} Turn {turn}.\n\n{QUESTION}"))
        history.append(staged.invoke(history))

    sent = [[m.content for m in call.messages] for call in chat.calls]
    assert all(b[: len(a)] == a for a, b in itertools.pairwise(sent))
    assert len(sent[0][1]) < len(history[1].content)


def test_a_budget_that_cannot_be_met_refuses_before_the_model_is_asked():
    """Asked to be exact, it is exact."""
    chat = model()
    staged = optimize(chat, PromptCompressor(10, model="gpt-4"))

    with pytest.raises(BudgetInfeasibleError):
        staged.invoke([SystemMessage(FILLER), HumanMessage("Hi")])
    assert [] == chat.calls


def test_as_a_graph_node():
    """A node shortens the named key of the state it is given."""

    def ask(state: MessagesState):
        made = PromptCompressor(150, model="gpt-4").invoke(state)
        return {"messages": [AIMessage(str(len(made["messages"][0].content)))]}

    graph = StateGraph(MessagesState).add_node("ask", ask).add_edge(START, "ask")
    app = graph.add_edge("ask", END).compile()

    answer = app.invoke({"messages": [HumanMessage(PROMPT)]})

    assert int(answer["messages"][-1].content) < len(PROMPT) / 4
    assert PROMPT == answer["messages"][0].content


def test_documents_between_retriever_and_prompt():
    """A list of documents goes in, a list of documents comes out."""
    retrieved = [Document(FILLER, metadata={"title": "Birds"}), Document(NEEDLE)]
    chain = PromptCompressor(40, query=QUESTION, model="gpt-4") | (
        lambda docs: docs[-1].page_content
    )

    assert NEEDLE == chain.invoke(retrieved)


def test_the_compress_command(tmp_path):
    """Text on stdout, words on stderr."""
    path = tmp_path / "prompt.txt"
    path.write_text(PROMPT, encoding="utf-8")

    done = CliRunner().invoke(app, ["compress", str(path), "--max-tokens", "60"])

    assert 0 == done.exit_code
    assert NEEDLE in done.stdout
    assert "tokens before" in done.stderr
    assert counter_for("o200k_base").count(done.stdout.rstrip("\n")).tokens <= 60


def test_the_compress_command_as_json():
    """The report is machine-readable."""
    done = CliRunner().invoke(
        app, ["compress", "-", "--max-tokens", "60", "--query", QUESTION, "--json"], input=PROMPT
    )

    report = json.loads(done.stdout)
    assert report["tokens_after"] <= 60 < report["tokens_before"]
    assert NEEDLE in report["content"]
    assert "lost" in report


def test_the_count_command(tmp_path):
    """Exact counts are plain numbers, estimates say so."""
    path = tmp_path / "text.txt"
    path.write_text("Hello, world!", encoding="utf-8")

    assert "4\n" == CliRunner().invoke(app, ["count", str(path), "--model", "gpt-4o"]).stdout
    estimate = CliRunner().invoke(app, ["count", str(path), "--model", "claude-sonnet-4-5"])
    assert estimate.stdout.startswith("about ")


def test_commands_say_what_is_wrong_with_a_file(tmp_path):
    """A wrong limit is wrong use; a binary file is named."""
    path = tmp_path / "image.bin"
    path.write_bytes(b"\xff\xfe\x00\x80")

    assert 2 == CliRunner().invoke(app, ["compress", str(path), "--max-tokens", "0"]).exit_code
    done = CliRunner().invoke(app, ["count", str(path)])
    assert "no UTF-8 text" in done.stderr
