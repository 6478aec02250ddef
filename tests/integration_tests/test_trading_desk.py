"""The trading desk runs over any text, within its word limits, and can be measured per agent."""

from __future__ import annotations

import json
import os
import re
import threading
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatResult

from langchain_tokenopt.budget.plan import desk_plan
from langchain_tokenopt.chat_model.optimize import optimize
from langchain_tokenopt.counting.tokens import counter_for
from langchain_tokenopt.examples import reading
from langchain_tokenopt.examples.trading_desk import (
    AGENTS,
    ANALYSTS,
    QUESTION,
    build_desk,
    decision_of,
    load_documents,
    sample_documents,
)
from langchain_tokenopt.graph import budget_graph
from langchain_tokenopt.testing import ExtractiveChatModel
from langchain_tokenopt.tracking.callbacks import track_usage
from tests.support.model_server import ModelServer

ASKED: Any = {"question": QUESTION}


class Prompts(BaseCallbackHandler):
    """Collects what every agent is sent."""

    def __init__(self) -> None:
        self.by_agent: dict[str, str] = {}

    def on_chat_model_start(
        self, serialized: Any, messages: list[list[BaseMessage]], *, metadata: Any = None, **_: Any
    ) -> None:
        self.by_agent[metadata["langgraph_node"]] = messages[0][-1].text


# The desk


def test_every_report_keeps_its_word_limit() -> None:
    """Each agent delivers a report, none longer than its prompt allows."""
    reports = (
        build_desk(ExtractiveChatModel(), sample_documents()).compile().invoke(ASKED)["reports"]
    )

    assert set(AGENTS) == set(reports)
    for name, agent in AGENTS.items():
        assert 0 < len(reports[name].split()) <= agent.max_words, name


@settings(deadline=None, max_examples=15)
@given(
    texts=st.lists(st.text(max_size=400), max_size=4),
    question=st.text(min_size=1, max_size=80),
    verbosity=st.sampled_from([0.5, 3.0]),
)
def test_any_text_will_do(texts: list[str], question: str, verbosity: float) -> None:
    """Whatever the documents and the question say, the desk comes to its end within limits."""
    documents = [Document(text) for text in texts]
    desk = build_desk(ExtractiveChatModel(verbosity=verbosity), documents).compile()
    reports = desk.invoke({"question": question, "reports": {}})["reports"]

    assert all(len(reports[name].split()) <= agent.max_words for name, agent in AGENTS.items())


def test_later_agents_are_given_reports_in_full() -> None:
    """Analysts read all documents; everybody else reads the whole reports meant for it."""
    prompts = Prompts()
    documents = sample_documents()
    desk = build_desk(ExtractiveChatModel(), documents).compile()
    reports = desk.invoke(ASKED, {"callbacks": [prompts]})["reports"]

    for name, agent in AGENTS.items():
        texts = [reports[other] for other in agent.reads] or [d.page_content for d in documents]
        assert all(text in prompts.by_agent[name] for text in texts), name
        assert f"at most {agent.max_words} words" in prompts.by_agent[name]
        assert QUESTION in prompts.by_agent[name]


def test_agents_that_hear_the_same_share_the_beginning_of_their_prompts() -> None:
    """What agents have in common stands first, where a provider's prompt cache finds it."""
    prompts = Prompts()
    build_desk(ExtractiveChatModel(), sample_documents()).compile().invoke(
        ASKED, {"callbacks": [prompts]}
    )
    bull, bear, trader = (
        prompts.by_agent[name] for name in ("bull_debater", "bear_debater", "trader")
    )
    shared = bull[: bull.index("Question:")].rstrip()

    assert bear.startswith(shared)
    assert trader.startswith(shared)


def test_analysts_work_side_by_side() -> None:
    """The four analysts are asked at the same time."""
    everybody = threading.Barrier(len(ANALYSTS), timeout=20)

    class Waiting(ExtractiveChatModel):
        def _generate(self, messages: list[BaseMessage], *rest: Any, **kwargs: Any) -> ChatResult:
            everybody.wait()
            return super()._generate(messages, *rest, **kwargs)

    models = dict.fromkeys(AGENTS, ExtractiveChatModel()) | dict.fromkeys(ANALYSTS, Waiting())
    state = build_desk(models, [Document("Orders rose.")]).compile().invoke(ASKED)

    assert set(ANALYSTS) <= set(state["reports"])


async def test_async_says_the_same() -> None:
    """Ainvoke gives the reports that invoke gives."""
    desk = build_desk(ExtractiveChatModel(), sample_documents()).compile()

    assert desk.invoke(ASKED)["reports"] == (await desk.ainvoke(ASKED))["reports"]


def test_streams_every_agent() -> None:
    """In a message stream each agent's words arrive under its name."""
    desk = build_desk(ExtractiveChatModel(), sample_documents()).compile()
    heard: defaultdict[str, str] = defaultdict(str)
    for chunk, metadata in desk.stream(ASKED, stream_mode="messages"):
        heard[metadata["langgraph_node"]] += chunk.text

    assert desk.invoke(ASKED)["reports"] == heard


def test_the_bill_names_the_agents() -> None:
    """Usage is attributed to the agents by name, and a run of the samples takes over 60k tokens."""
    with track_usage() as usage:
        build_desk(ExtractiveChatModel(), sample_documents()).compile().invoke(ASKED)

    assert dict.fromkeys(AGENTS, 1) == {name: t.calls for name, t in usage.by("agent").items()}
    assert usage.totals().total_tokens > 60_000


def test_a_model_for_each_agent() -> None:
    """With a mapping every agent asks its own model; one without a model is refused by name."""
    models = {name: ExtractiveChatModel(model=f"for-{name}") for name in AGENTS}
    with track_usage() as usage:
        build_desk(models, sample_documents()).compile().invoke(ASKED)
    asked = {record.agent: record.model for record in usage.records}

    assert {name: f"for-{name}" for name in AGENTS} == asked
    with pytest.raises(KeyError, match="trader"):
        build_desk({name: m for name, m in models.items() if name != "trader"}, [])


def test_runs_with_openai(model_server: ModelServer) -> None:
    """The graph works with a real chat model over HTTP."""
    model_server.answer = lambda request: "Decision: BUY. " + request.last_text[-30:]
    state = build_desk(model_server.chat_openai(), sample_documents()).compile().invoke(ASKED)

    assert len(AGENTS) == len(model_server.requests)
    assert "BUY" == decision_of(state["reports"]["trader"])


def test_short_prompts_keep_what_bears_on_the_question(model_server: ModelServer) -> None:
    """Under its budget no analyst reads two thirds of the material, and each reads what matters."""
    documents, plan = sample_documents(), desk_plan()
    told = [f"Harbour {n} would buy shares at {n + 20} euros." for n in range(len(documents))]
    for document, sentence in zip(documents, told, strict=True):
        paragraphs = document.page_content.split("\n\n")
        paragraphs.insert(len(paragraphs) // 2, sentence)
        document.page_content = "\n\n".join(paragraphs)
    model_server.answer = lambda request: "All is well. Decision: HOLD."
    desk = build_desk(optimize(model_server.chat_openai(), plan), documents)
    with plan.run() as run:
        budget_graph(desk, plan).compile().invoke(ASKED)
    prompts = [request.last_text for request in model_server.requests[: len(ANALYSTS)]]

    assert max(map(len, prompts)) < sum(len(d.page_content) for d in documents) * 2 / 3
    assert [] == [(n, s) for n, prompt in enumerate(prompts) for s in told if s not in prompt]
    assert run.report().account.spent_tokens <= plan.total_tokens


@settings(deadline=None, max_examples=30)
@given(
    lengths=st.lists(st.integers(0, 3_000), min_size=1, max_size=6),
    share=st.integers(100, 6_000),
)
def test_documents_share_a_prompt_fairly(lengths: list[int], share: int) -> None:
    """Together they keep within the share; what is cut is as long as anything that is not."""
    prompts = Prompts()
    documents = [
        Document(chr(0x4E00 + i) * n, metadata={"source": str(i)}) for i, n in enumerate(lengths)
    ]
    desk = build_desk(ExtractiveChatModel(), documents, prompt_characters=share).compile()
    desk.invoke({"question": "?", "reports": {}}, {"callbacks": [prompts]})
    kept = [prompts.by_agent["market_analyst"].count(chr(0x4E00 + i)) for i in range(len(lengths))]
    cut = [k for k, n in zip(kept, lengths, strict=True) if k < n]

    assert sum(kept) <= share
    assert min(cut, default=max(kept)) >= max(
        (k for k, n in zip(kept, lengths, strict=True) if k == n), default=0
    )
    if sum(lengths) <= share:
        assert lengths == kept


@pytest.mark.parametrize(
    ("report", "decision"),
    [
        ("Some would SELL.\nDecision: BUY. Do not HOLD.", "BUY"),
        ("**Decision:** HOLD", "HOLD"),
        ("We SELL now.", "SELL"),
        ("We buy nothing.", None),
        ("", None),
    ],
)
def test_decisions_are_found(report: str, decision: str | None) -> None:
    """The line that decides counts before other mentions; lower case decides nothing."""
    assert decision == decision_of(report)


def test_sample_documents_are_of_a_realistic_size() -> None:
    """Eight documents with 12 to 16 thousand tokens, every one marked as invented."""
    documents = sample_documents()
    tokens = sum(counter_for("gpt-4o").count(d.page_content).tokens for d in documents)

    assert 8 == len(documents)
    assert 12_000 <= tokens <= 16_000
    assert all(re.search("invented|made up", document.page_content) for document in documents)


# Reading documents

GERMAN = "Der Umsatz wächst \u2013 auf 5 €, größer als erwartet."


@pytest.mark.parametrize(
    "encoding",
    ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252"],
)
def test_reads_common_encodings(tmp_path: Path, encoding: str) -> None:
    """Text comes out the same in whatever common encoding it was saved."""
    (tmp_path / "a.txt").write_bytes(GERMAN.encode(encoding))

    assert [GERMAN] == [d.page_content for d in load_documents(tmp_path)]


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("a.md", "# Title\n\n* item\n", "# Title\n\n* item"),
        ("a.csv", "a,b\n1,2\n", "a,b\n1,2"),
        ("README", "plain", "plain"),
        ("a.json", '[{"speaker": "A"}]', '[{"speaker": "A"}]'),
        (
            "a.html",
            "<html><head><title>T</title><style>p{}</style></head><body><h1>Big</h1>"
            "<p>One &amp; <b>two</b></p><script>x()</script><table><tr><td>1</td><td>2</td></tr>"
            "</table></body></html>",
            "Big\n\nOne & two\n\n1 | 2",
        ),
    ],
    ids=["Markdown", "CSV", "no suffix", "JSON", "HTML"],
)
def test_reads_common_formats(tmp_path: Path, name: str, content: str, text: str) -> None:
    """Text stays as it is; of HTML the text stays that a reader would see."""
    (tmp_path / name).write_text(content)

    assert text == load_documents(tmp_path / name)[0].page_content


def test_reads_folders_in_folders(tmp_path: Path) -> None:
    """Folders are read to the bottom in the order of names, hidden files are passed over."""
    for name in ("b/deep/er.txt", "a.txt", ".git/config", ".env", "b/__pycache__/x.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("text")
    (tmp_path / "b" / "loop").symlink_to(tmp_path)

    assert ["a.txt", "b/deep/er.txt"] == [d.metadata["source"] for d in load_documents(tmp_path)]


def test_notes_what_it_skips(tmp_path: Path) -> None:
    """Binary and empty files and files that vanish are told about, one sentence each."""
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "b.bin").write_bytes(os.urandom(64) + bytes(64))
    (tmp_path / "c.pdf").write_bytes(b"%PDF-1.7\n" + bytes(range(256)) * 4)
    (tmp_path / "d.txt").write_text("\n")
    notes: list[str] = []

    assert 1 == len(load_documents(tmp_path, note=notes.append))
    assert [
        f"Skipped {tmp_path / 'b.bin'}: it is not text.",
        f"Skipped {tmp_path / 'c.pdf'}: it is not text.",
        f"Skipped {tmp_path / 'd.txt'}: it is empty.",
    ] == notes


def test_unreadable_files_are_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that may not be opened is told about and does not end the reading."""
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "b.txt").write_text("secret")
    opened = Path.open

    def guarded(self: Path, *arguments: Any, **options: Any) -> Any:
        if self.name == "b.txt":
            raise PermissionError(13, "Permission denied")
        return opened(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", guarded)
    notes: list[str] = []

    assert ["a.txt"] == [d.metadata["source"] for d in load_documents(tmp_path, note=notes.append)]
    assert [f"Skipped {tmp_path / 'b.txt'}: Permission denied."] == notes


def test_huge_files_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file beyond the limit is read up to it, even where that splits a character."""
    monkeypatch.setattr(reading, "MAX_FILE_BYTES", 10)
    (tmp_path / "a.txt").write_text("ääääääää", encoding="utf-8")
    (tmp_path / "b.txt").write_text("xääääääää", encoding="utf-8")
    notes: list[str] = []

    assert ["äääää", "xääää"] == [
        d.page_content for d in load_documents(tmp_path, note=notes.append)
    ]
    assert 2 == len(notes)


def test_nothing_to_read_is_an_error(tmp_path: Path) -> None:
    """A missing path and a folder without text are refused in one sentence."""
    with pytest.raises(FileNotFoundError, match=r"^There is no file or folder '.*gone'\.$"):
        load_documents(tmp_path / "gone")
    with pytest.raises(ValueError, match="no readable text in the folder"):
        load_documents(tmp_path)


def test_reads_a_meeting(tmp_path: Path) -> None:
    """A transcript as JSON goes through the desk, speaker by speaker."""
    turns = [{"speaker": s, "content": f"I am {s} and I would buy the red one."} for s in "ABCD"]
    (tmp_path / "meeting.json").write_text(json.dumps(turns))
    desk = build_desk(ExtractiveChatModel(), load_documents(tmp_path)).compile()
    report = desk.invoke({"question": "Which one?", "reports": {}})["reports"]["trader"]

    assert "BUY" == decision_of(report)
