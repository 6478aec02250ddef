"""Contents in tiers through real hosts: chains, agents, tools, retrievers, over real HTTP."""

from __future__ import annotations

import asyncio
import json
import re

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import CallbackManager
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnablePassthrough
from langchain_core.tools import create_retriever_tool, tool
from typer.testing import CliRunner

from langchain_tokenopt import (
    BudgetedTool,
    BudgetPlan,
    ContextCompressor,
    ContextStore,
    LearnedStore,
    ProgressiveLoader,
    ToolLimits,
    ToolSet,
    expand_tool,
    optimize,
    token_scope,
)
from langchain_tokenopt.cli import app
from langchain_tokenopt.compress import join_documents
from langchain_tokenopt.context.tiers import count
from tests.support.model_server import Reply, ToolCall

PAGES = [
    Document(
        " ".join(
            f"Valve {10 * page + n} of line {page} closes at {3 * n + page} bar, and was checked "
            f"by inspector {chr(65 + n)}. It is painted in the usual colour of its building."
            for n in range(10)
        ),
        metadata={"title": f"Line {page}", "source": f"{page}.pdf"},
    )
    for page in range(12)
]
WHOLE = join_documents(PAGES)
QUESTION = "At how many bar does valve 47 close?"
ANN = {"metadata": {"user_id": "ann", "thread_id": "t-1"}}


class Manuals(BaseRetriever):
    """A retriever of everything."""

    def _get_relevant_documents(self, query, *, run_manager):
        return [page.model_copy() for page in PAGES]


class Savings:
    """A sink that keeps what it is told."""

    def __init__(self) -> None:
        self.events = []

    def record(self, event):
        self.events.append(event)


def handles(text) -> list[str]:
    """The handles in a text, or in a request."""
    return re.findall(r'expand\(\\*"([0-9a-f]{8})\\*"\)', str(text))


def run(runnable, input, config, how):
    """Call a runnable, one way or the other."""
    if how == "invoke":
        return runnable.invoke(input, config)
    return asyncio.run(runnable.ainvoke(input, config))


@pytest.mark.parametrize("how", ["invoke", "ainvoke"])
def test_a_chain_reads_a_tier_and_the_model_fetches_the_next(model_server, how):
    """Through the seam the model's call is answered inside; what it needed is learned."""
    loader = ProgressiveLoader(Manuals(), max_tokens=2_000)
    prompt = ChatPromptTemplate.from_template("Answer by this:\n{context}\n\n{question}")
    reads = {"context": loader | join_documents, "question": RunnablePassthrough()}
    compressor = ContextCompressor(store=loader.originals)
    chain = reads | prompt | optimize(model_server.chat_openai(), compressor)
    first, stats = loader.optimize_content(
        PAGES, QUESTION, "bob", thread_id="t-1"
    )  # the same bytes for everybody
    (handle,) = handles(join_documents(first))
    assert handle == stats.handle
    model_server.script(Reply(text="", tool_calls=[ToolCall("expand", {"handle": handle})]))
    model_server.script("It closes at 25 bar.")
    answer = run(chain, QUESTION, ANN, how)
    assert answer.text == "It closes at 25 bar."
    asked, again = (request.body["messages"] for request in model_server.requests)
    assert again[: len(asked)] == asked  # appended: the prefix stays
    assert "closes at 25 bar" in str(asked)
    assert len(str(asked)) < len(WHOLE) / 2
    fetched = again[-1]["content"]
    assert len(fetched) > len(join_documents(first))
    levels = [name for name in stats.tiers if name != "complete"]
    at = levels.index(stats.tier)
    assert loader.optimize_content(PAGES, QUESTION, "ann")[1].tier == [*stats.tiers][at + 1]


@pytest.mark.parametrize("how", ["invoke", "ainvoke"])
def test_an_agent_asks_for_more_by_an_ordinary_tool(model_server, how):
    """A retriever's tool in tiers; the same tool answers handles, of its own user alone."""
    loader = ProgressiveLoader(Manuals(), max_tokens=2_000)
    search = create_retriever_tool(loader, "search_manuals", "Search the manuals.")
    agent = create_agent(model_server.chat_openai(), [search, expand_tool(loader)])
    model_server.script(
        Reply(text="", tool_calls=[ToolCall("search_manuals", {"query": QUESTION})])
    )
    model_server.script("Wait.")
    state = run(agent, {"messages": [("user", QUESTION)]}, ANN, how)
    result = next(m for m in state["messages"] if isinstance(m, ToolMessage))
    assert len(result.text) < len(WHOLE) / 2
    (handle,) = handles(result.text)

    for config, found in ((ANN, True), ({"metadata": {"user_id": "bob"}}, False)):
        model_server.script(Reply(text="", tool_calls=[ToolCall("expand", {"handle": handle})]))
        model_server.script("Done.")
        talk = {"messages": [*state["messages"], HumanMessage("And the rest?")]}
        more = [m for m in run(agent, talk, config, how)["messages"] if isinstance(m, ToolMessage)]
        assert ("Nothing is kept" not in more[-1].text) is found
        assert (len(more[-1].text) > len(result.text)) is found


@pytest.mark.parametrize("how", ["invoke", "ainvoke"])
def test_rows_of_a_tool_stay_rows(how):
    """A result over its limit is a tier that says how to get the rest, in JSON as it was."""
    rows = [{"id": n, "city": f"city {n}", "people": 1_000 * n} for n in range(300)]

    @tool
    def run_sql(sql: str) -> str:
        """Run a query."""
        return json.dumps(rows)

    told = Savings()
    loader = ProgressiveLoader(sinks=[told])
    back = expand_tool(loader)
    limited = BudgetedTool.wrap(run_sql, ToolLimits(max_result_tokens=800), loader=loader)
    found = run(limited, {"sql": "people of city 41"}, ANN, how)
    *some, last = json.loads(found)
    assert {"id": 41, "city": "city 41", "people": 41_000} in some
    assert all(row in rows for row in some)
    assert list(last) == ["_left_out"]  # one note, not two
    (handle,) = handles(found)
    more = json.loads(back.invoke({"handle": handle}, ANN))
    assert [row for row in some if row not in more] == []
    assert len(more) > len(some) + 1
    saved, spent = (saving.saved_tokens for saving in told.events)
    assert saved > 0 > spent


@pytest.mark.parametrize("how", ["invoke", "ainvoke"])
def test_an_agents_results_are_its_users(model_server, how):
    """The tool's run says whose result it is: so the agent's own tool finds the rest of it."""

    @tool
    def run_sql(sql: str) -> str:
        """Run a query."""
        return json.dumps([{"id": n, "city": f"city {n}", "people": n} for n in range(300)])

    store = LearnedStore()
    loader = ProgressiveLoader(store=store)
    tools = ToolSet(run_sql, limits=ToolLimits(max_result_tokens=800), loader=loader)
    with token_scope(user="ann", thread_id="t-1") as scope:
        bound = [*tools.for_user(scope), expand_tool(loader)]
        agent = create_agent(model_server.chat_openai(), bound)
        call = ToolCall("run_sql", {"sql": "people of city 41"})
        model_server.script(Reply(text="", tool_calls=[call]), "Wait.")
        state = run(agent, {"messages": [("user", "How many live in city 41?")]}, ANN, how)
        result = next(m for m in state["messages"] if isinstance(m, ToolMessage))
        (handle,) = handles(result.text)
        model_server.script(Reply(text="", tool_calls=[ToolCall("expand", {"handle": handle})]))
        model_server.script("41.")
        talk = {"messages": [*state["messages"], HumanMessage("Really?")]}
        state = run(agent, talk, ANN, how)
    more = [m for m in state["messages"] if isinstance(m, ToolMessage)][-1]
    assert len(json.loads(more.text)) > len(json.loads(result.text))
    (uses,) = [v.value for v in store.values(user="ann") if v.key.startswith("task ")]
    assert sum(uses["exact"]) == 1


def test_conversations_of_tiers_are_compressed_like_others():
    """A tier is what a tool has returned: old ones are shortened, and lead back to all of it."""
    loader = ProgressiveLoader()
    compressor = ContextCompressor(store=loader.originals, price_profile="none")
    back, talk = expand_tool(compressor), [HumanMessage("Which valve closes at 25 bar?")]
    for n in range(4):
        page = f"Report {n}. {WHOLE}"
        call = {"name": "read", "args": {"n": n}, "id": f"c{n}"}
        part, _ = loader.optimize_content(page, f"valve {n}", "ann", thread_id="t-1")
        talk += [AIMessage("", tool_calls=[call]), ToolMessage(part, tool_call_id=f"c{n}")]
    view = compressor.view(talk, user="ann", thread="t-1").messages
    assert all(
        len(made.text) < len(old.text) / 2
        for made, old in zip(view[2:-1:2], talk[2:-1:2], strict=True)
    )
    assert view[-1] is talk[-1]
    text = view[2].text
    while handles(text):
        text = back.invoke({"handle": handles(text)[-1]}, ANN)
    assert text == f"Report 0. {WHOLE}"


def test_a_retriever_with_a_compressor_says_whose_it_is():
    """As ContextualCompressionRetriever calls it: with the callbacks of its run."""
    loader = ProgressiveLoader(max_tokens=2_000)
    assert loader.originals
    callbacks = CallbackManager([], metadata={"user_id": "ann"})
    made = loader.compress_documents(PAGES, QUESTION, callbacks)
    made_async = asyncio.run(loader.acompress_documents(PAGES, QUESTION, callbacks))
    assert made == made_async
    assert {doc.metadata["source"] for doc in made} <= {doc.metadata["source"] for doc in PAGES}
    (handle,) = handles(join_documents(made))
    assert loader.originals.get(handle, user="bob") is None
    assert loader.originals.get(handle, user="ann")
    assert len(loader.transform_documents(PAGES)) <= len(PAGES)


def test_long_contents_are_fetched_by_the_question():
    """A book of many windows: four tiers, then what the tool can show, then no more is gained."""
    book = " ".join(f"Chapter {n} of the book is about subject {n * 7}." for n in range(3_000))
    loader = ProgressiveLoader()
    back, question = expand_tool(loader), "What is chapter 2345 about?"
    part, stats = loader.optimize_content(book, question, "ann", "books", thread_id="t-1")
    sizes = [stats.tokens_after]
    while sizes[-1] < 7_000:
        part = back.invoke({"handle": handles(part)[0]}, ANN)
        sizes.append(count(part))
        assert "Chapter 2345 of the book is about subject 16415." in part
    assert sizes == sorted({*sizes})
    assert sizes[-1] <= 8_000
    assert re.search(r"\[[\d,]+ tokens left out; expand", part.splitlines()[-1])
    assert loader.originals.get(handles(part)[0], user="ann", thread="t-1") == book
    assert loader.optimize_content(book, question, "ann")[1].tokens_after <= 4_000


@pytest.mark.parametrize("how", ["invoke", "ainvoke"])
def test_the_last_tier_of_a_long_content_comes_in_parts(how):
    """Byte for byte, and as one use that is learned from."""
    whole = "\n".join(
        f"Valve {n} closes at {n % 7} bar; checked in week {n}." for n in range(1_500)
    )
    loader = ProgressiveLoader()
    tool = expand_tool(loader)
    _, stats = loader.optimize_content(whole, QUESTION, "ann", thread_id="t-1")
    handle, texts = stats.handle, [""]
    while handle:
        part = run(tool, {"handle": handle}, ANN, how)
        assert "Nothing is kept" not in part
        found = re.search(r'\n\[[^\n]*expand\("(\w+)"\)[^\n]*\]$', part)
        texts[-1] += part[: found.start()] if found else part
        handle = found and found[1]
        if found and "goes on" not in found[0]:
            texts.append("")
    assert texts[-1] == whole
    assert [*map(len, texts)] == sorted(map(len, texts))


def ask_for_all(loader, text, question, user, task="contracts", thread=None) -> tuple[str, int]:
    """Use a content, and fetch until there is no more; return the first tier and how often."""
    part, stats = loader.optimize_content(text, question, user, task, thread_id=thread)
    handle, times = stats.handle, 0
    while handle:
        part = loader.originals.get(handle, user=user, thread=thread)
        handle, times = next(iter(handles(part)), None), times + 1
    assert part == text
    return stats.tier, times


def test_what_a_user_needs_is_learned_kept_and_forgotten(tmp_path):
    """By user and kind of task; strangers and other tasks begin at the plain rule."""
    path = tmp_path / "learned.db"
    originals = ContextStore(tmp_path / "originals.db")
    with_all = ProgressiveLoader(store=LearnedStore(path), originals=originals)
    times = [
        ask_for_all(
            with_all, f"Number {n}. {WHOLE}", f"At how many bar does valve {n} close?", "ann"
        )
        for n in range(30)
    ]
    assert times[0] == ("essential", 3)
    assert times[-1] == ("complete", 0)

    later = ProgressiveLoader(store=LearnedStore(path), originals=originals)  # another process
    first = {
        (user, task): later.optimize_content(WHOLE + task, QUESTION, user, task)[1].tier
        for user, task in [("ann", "contracts"), ("ann", "mail"), ("bob", "contracts")]
    }
    assert first == {
        ("ann", "contracts"): "complete",
        ("ann", "mail"): "essential",
        ("bob", "contracts"): "essential",
    }
    for file in tmp_path.glob("learned.db*"):
        assert b"valve" not in file.read_bytes()
        assert b"ann" not in file.read_bytes()
    assert later.forget(user="ann") > 0
    assert not LearnedStore(path).values(user="ann")
    assert later.optimize_content(WHOLE, QUESTION, "ann", "contracts")[1].tier == "essential"


def test_a_handle_of_another_process_is_learned_from(tmp_path):
    """Who sent a tier and who fetches the next one need not be the same worker; once counts."""
    stores = {
        "store": LearnedStore(tmp_path / "l.db"),
        "originals": ContextStore(tmp_path / "o.db"),
    }
    _, stats = ProgressiveLoader(**stores).optimize_content(WHOLE, QUESTION, "ann", "valves")
    other = ProgressiveLoader(**stores)
    for _ in range(2):
        assert other.originals.get(stats.handle, user="ann")
    (found,) = [v.value for v in stores["store"].values(user="ann") if v.key == "task valves"]
    assert (found["within"], found["exact"]) == ([0, 0, 0, 0], [0, 1, 0, 0])
    assert other.originals.get(stats.handle + ".tier", user="ann") is None


def test_what_the_budget_has_left_bounds_what_is_sent():
    """A quarter of what is left, at most."""
    loader = ProgressiveLoader()
    _, plenty = loader.optimize_content(WHOLE, "Compare all valves.", "ann")
    with BudgetPlan(total_tokens=2_000).run():
        _, scarce = loader.optimize_content(WHOLE, "Compare all lines.", "ann")
    assert scarce.tokens_after <= 500 < plenty.tokens_after


def test_where_nobody_answers_nothing_is_promised_or_learned():
    """No handle, a larger tier, and no use that counts as enough."""
    store = LearnedStore()
    loader = ProgressiveLoader(store=store)
    part, stats = loader.optimize_content(WHOLE, QUESTION, "ann")
    assert stats.handle is None
    assert not handles(part)
    assert "tokens left out.]" in part
    assert not store.values()


@pytest.mark.parametrize("how", ["invoke", "ainvoke", "stream"])
def test_json_with_a_handle_brings_the_tool_through_the_seam(model_server, how):
    """Its quotes are escaped there; the model's call is answered with JSON again."""
    rows = json.dumps([{"id": n, "city": f"city {n}", "people": 1_000 * n} for n in range(200)])
    loader = ProgressiveLoader()
    compressor = ContextCompressor(store=loader.originals)
    call = {"name": "run_sql", "args": {"sql": "people"}, "id": "1"}
    result, stats = loader.optimize_content(
        ToolMessage(rows, tool_call_id="1"), [("user", "Who lives in city 41?")]
    )
    model = optimize(model_server.chat_openai(), compressor)
    model_server.script(Reply(text="", tool_calls=[ToolCall("expand", {"handle": stats.handle})]))
    model_server.script("41,000.")
    talk = [HumanMessage("How many?"), AIMessage("", tool_calls=[call]), result]
    if how == "stream":
        answer = "".join(chunk.text for chunk in model.stream(talk))
    else:
        answer = run(model, talk, None, how).text
    assert answer == "41,000."
    sent = model_server.requests[-1].body
    assert "expand" in str(sent["tools"])
    assert len(json.loads(sent["messages"][-1]["content"])) > len(json.loads(result.content))


def test_what_was_learned_is_shown_and_forgotten_at_the_command_line(tmp_path):
    """As all that is learned, under its kind."""
    path = tmp_path / "learned.db"
    loader = ProgressiveLoader(store=LearnedStore(path))
    assert loader.originals
    ask_for_all(loader, WHOLE, QUESTION, "ann")
    runner = CliRunner()
    shown = runner.invoke(app, ["learned", str(path), "list", "--json"])
    (row,) = json.loads(shown.stdout)
    assert (row["kind"], row["owned"], row["shared"], row["users"]) == ("tiers", 2, 0, 1)
    runner.invoke(app, ["learned", str(path), "forget", "--user", "ann"])
    assert not LearnedStore(path).values()


LOADS = {
    "text": (WHOLE, str),
    "documents": (PAGES, list),
    "a document": ([Document(WHOLE)], list),
    "a document loader": (type("Pages", (), {"load": lambda self: PAGES})(), list),
    "a function": (lambda question: f"{question} {WHOLE}", str),
    "a retriever": (Manuals(), list),
}


@pytest.mark.parametrize("how", ["invoke", "ainvoke"])
@pytest.mark.parametrize("form", LOADS)
@pytest.mark.parametrize(
    "asked",
    [QUESTION, {"question": QUESTION}, {"input": QUESTION}, [HumanMessage(QUESTION)]],
    ids=["text", "question", "input", "messages"],
)
def test_sources_and_questions_in_the_forms_of_chains(form, how, asked):
    """What comes out is in the source's own form, with what was asked for."""
    source, kind = LOADS[form]
    made = run(ProgressiveLoader(source), asked, ANN, how)
    assert isinstance(made, kind)
    text = made if isinstance(made, str) else join_documents(made)
    assert "Valve 47 of line 4 closes at 25 bar" in text
    assert len(text) < len(WHOLE) / 2


@pytest.mark.parametrize(
    "content",
    [
        "", " \n", "Tea is hot.", [], [Document("")], 7, None, {"rows": [1, 2]}, ["a", "b"],
        [Document("One."), "Two."], "\ud800 broken", b"bytes", ToolMessage("", tool_call_id="1"),
        Document("", metadata={"a": 1}),
        ToolMessage([{"type": "image", "url": "x"}], tool_call_id="1"),
    ],
    ids=repr,
)  # fmt: skip
def test_what_cannot_be_made_smaller_comes_back_as_it_is(content):
    """The very object; nothing is learned of it."""
    loader = ProgressiveLoader()
    assert loader.originals
    for context in (QUESTION, None, "", [], {}, 7, [1, 2], HumanMessage("")):
        made, stats = loader.optimize_content(content, context, "ann")
        assert made is content or made == content
        assert stats.tier == "complete"
        assert stats.saved_tokens == 0
    assert asyncio.run(loader.aoptimize_content(content))[0] == content


def test_a_source_that_fails_is_heard_and_a_limit_that_is_tiny_is_kept():
    """Errors of the source are its caller's; results of tools never exceed their limit."""

    def broken(question):
        raise LookupError("gone")

    with pytest.raises(LookupError, match="gone"):
        ProgressiveLoader(broken).invoke(QUESTION)
    loader = ProgressiveLoader()
    assert loader.originals
    rows = json.dumps([{"id": n, "city": f"city {n}"} for n in range(300)])
    for text in (WHOLE, rows, "x" * 5_000, "予約" * 2_000):
        for limit in (1, 20, 64, 99, 100, 101, 150, 500, 3_000):
            assert count(loader.shorten(text, limit, QUESTION)) <= limit
