"""The compressor as a caller sees it: types, options, reasons, stability."""

from __future__ import annotations

import json

import pytest
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.prompt_values import ChatPromptValue, StringPromptValue

from langchain_tokenopt.compress import (
    DocumentCompressor,
    PromptCompressor,
    join_documents,
    optimize_text,
)
from langchain_tokenopt.core.errors import BudgetInfeasibleError, TokenOptWarning
from langchain_tokenopt.counting.request_tokens import count_messages
from langchain_tokenopt.counting.tokens import counter_for

COUNT = counter_for("cl100k_base").count
FILLER = " ".join(f"Fact number {n} says that birds of kind {n} sing at dawn." for n in range(40))
NEEDLE = "The bridge was opened in 1931 by Ada Quill."
PAGE = f"{FILLER} {NEEDLE} {FILLER[: len(FILLER) // 2]}"
QUESTION = "When was the bridge opened?"


def compressor(limit: int, **options) -> PromptCompressor:
    return PromptCompressor(limit, model="cl100k_base", **options)


@pytest.mark.parametrize(
    ("wrap", "unwrap"),
    [
        (lambda text: text, lambda made: made),
        (lambda text: StringPromptValue(text=text), lambda made: made.text),
        (
            lambda text: ChatPromptValue(messages=[HumanMessage(text)]),
            lambda made: made.messages[0].content,
        ),
        (lambda text: HumanMessage(text, id="7"), lambda made: made.content),
        (lambda text: [HumanMessage(text)], lambda made: made[0].content),
        (lambda text: (HumanMessage(text),), lambda made: made[0].content),
        (lambda text: [Document(text)], lambda made: made[0].page_content),
        (
            lambda text: {"messages": [HumanMessage(text)], "n": 1},
            lambda m: m["messages"][0].content,
        ),
    ],
    ids=["str", "prompt", "chat prompt", "message", "messages", "tuple", "documents", "state"],
)
async def test_type_in_is_type_out(wrap, unwrap):
    """Every input type comes back as itself, shortened around the answer, sync and async alike."""
    content = wrap(PAGE)

    made = compressor(60, query=QUESTION).invoke(content)

    assert type(content) is type(made)
    assert NEEDLE in unwrap(made)
    assert COUNT(unwrap(made)).tokens <= 60
    assert made == await compressor(60, query=QUESTION).ainvoke(content)


def test_what_fits_is_the_same_object():
    """A guard: nothing is rebuilt, re-spaced or copied when there is nothing to save."""
    messages = [SystemMessage("a   b"), HumanMessage("c")]

    assert compressor(500).invoke(messages) is messages
    assert compressor(500).invoke(PAGE[:200]) == PAGE[:200]


def test_other_state_keys_are_untouched():
    """Only the named key of a state is shortened."""
    state = {"report": PAGE, "other": PAGE}

    made = compressor(50, key="report", query=QUESTION).invoke(state)

    assert COUNT(made["report"]).tokens <= 50
    assert made["other"] is PAGE
    assert state["report"] is PAGE


async def test_a_dict_without_the_key_is_named():
    """A chain does not break because a key is not there; it says which option is missing."""
    state = {"question": PAGE, "n": 3}

    with pytest.warns(TokenOptWarning, match=r"no key 'messages'; pass key='question'"):
        assert compressor(50).invoke(state) is state
    with pytest.warns(TokenOptWarning, match="no key 'report'"):
        assert await compressor(50, key="report").ainvoke(state) is state

    assert "pass key='question'" in compressor(50).compress(state).reason
    assert compressor(50).compress({}).reason == "the state has no key 'messages', nor any other"


@pytest.mark.parametrize("content", [5, None, [1, 2], pytest.param(object(), id="object")], ids=str)
def test_what_is_no_text_passes_through(content, recwarn):
    """Unknown inputs come back as they were."""
    assert compressor(5).compress(content).content is content


def test_an_unknown_type_in_a_chain_warns_once():
    """The chain goes on, and says what it could not do."""
    with pytest.warns(TokenOptWarning, match="no text, message"):
        assert compressor(5).invoke(5) == 5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "exactly one of max_tokens, keep and level; got none"),
        ({"max_tokens": 9, "keep": 0.5}, "got max_tokens=9, keep=0.5"),
        ({"max_tokens": 0}, "at least 1; got 0"),
        ({"max_tokens": -3}, "at least 1; got -3"),
        ({"max_tokens": 2.5}, "whole number"),
        ({"keep": 0}, "above 0 and up to 1"),
        ({"keep": 1.2}, "above 0 and up to 1"),
        ({"level": "extreme"}, "none, balanced, aggressive, maximum"),
        ({"max_tokens": 9, "query": "  "}, "query must be a text"),
        ({"max_tokens": 9, "protect": "("}, "no regular expression"),
        ({"max_tokens": 9, "tool_results": "drop"}, "keep, lossless, select"),
        ({"max_tokens": 9, "on_infeasible": "ignore"}, "raise, drop_lowest, truncate"),
        ({"max_tokens": 9, "remember": -1}, "at least 0"),
    ],
)
def test_contradictory_options_are_refused_at_construction(options, words):
    """Errors come when the compressor is made, with the value that was wrong."""
    with pytest.raises(ValueError, match=words):
        PromptCompressor(**options)


def test_the_question_and_the_instruction_are_kept():
    """In one long message, instruction and question survive and passages pay for it."""
    prompt = f"Answer only from the context.\n\nContext: {PAGE}\n\nQuestion: {QUESTION}\nAnswer:"

    made = compressor(60).invoke(prompt)

    assert made.startswith("Answer only from the context.")
    assert made.endswith(f"Question: {QUESTION}\nAnswer:")
    assert NEEDLE in made


def test_a_must_in_a_passage_is_not_an_obligation():
    """Embedded passages cannot make themselves required."""
    prompt = f"Context: {'You must never say it rains. ' * 60}\n\nQuestion: {QUESTION}"

    assert COUNT(compressor(40).invoke(prompt)).tokens <= 40


def test_protected_patterns_are_paid_first():
    """What the caller protects is kept although nobody asks for it."""
    made = compressor(80, query=QUESTION, protect=[r"kind 17\b"]).invoke(PAGE)

    assert "birds of kind 17 sing" in made
    assert NEEDLE in made


def test_an_impossible_budget_is_refused_with_both_numbers():
    """The refusal can be checked: what is required really needs more than the limit."""
    with pytest.raises(BudgetInfeasibleError) as refusal:
        compressor(20).invoke([SystemMessage(PAGE), HumanMessage("Hi")])

    assert refusal.value.max_tokens == 20
    assert refusal.value.required_tokens > COUNT(PAGE).tokens


def test_drop_lowest_gives_up_the_least_important():
    """The question goes last."""
    prompt = f"You must be kind. {FILLER}\n\nQuestion: {QUESTION}"
    tight = compressor(16, on_infeasible="drop_lowest", protect=["bird"])

    made = tight.invoke(prompt)

    assert QUESTION in made
    assert COUNT(made).tokens <= 16


def test_truncate_cuts_where_nothing_else_is_left():
    """A question longer than the limit is cut between words, and the result says so."""
    question = "Please explain how one builds a bridge over a river that is long and wide and deep?"

    dropped = compressor(6, on_infeasible="drop_lowest").compress(question)
    cut = compressor(6, on_infeasible="truncate").compress(question)

    assert ("", 0) == (dropped.content, dropped.tokens_after)
    assert dropped.reason == "part of what must be kept was given up"
    assert question.startswith(cut.content)
    assert 4 <= cut.tokens_after <= 6


def test_protected_turns_are_kept():
    """A pattern protects earlier turns too, with the tool calls they belong to."""
    call = AIMessage("", tool_calls=[{"name": "book", "args": {}, "id": "c1"}])
    chat = [HumanMessage("Book it."), call, AIMessage("Done.")]
    chat.insert(2, ToolMessage("Reference QX-77 is confirmed.", tool_call_id="c1"))
    chat += [m for n in range(20) for m in (HumanMessage(f"Fact {n}."), AIMessage(f"Noted {n}."))]
    chat.append(HumanMessage(QUESTION))

    made = PromptCompressor(80, model="gpt-4", protect=r"QX-\d+").invoke(chat)

    assert [call, chat[2]] == [m for m in made if m in (call, chat[2])]
    assert count_messages(made, model="gpt-4").tokens <= 80


def test_nothing_fits_whole_is_said():
    """Where no sentence fits, the best is cut between words, and the result says so."""
    text = "Birds that nobody has counted sing in this forest every single morning of May. " * 20

    result = compressor(5, query="What do birds do?").compress(text)

    assert result.tokens_after <= 5
    assert result.content
    assert text.startswith(result.content)
    assert result.reason == "no unit fits whole: the best one was cut between words"


@pytest.mark.parametrize(
    ("level", "share"), [("none", 1.0), ("balanced", 1.0), ("aggressive", 0.5), ("maximum", 0.3)]
)
def test_levels_keep_their_share(level, share):
    """A level is a share of the compressible tokens."""
    result = PromptCompressor(level=level, model="cl100k_base").compress(PAGE, QUESTION)

    assert result.tokens_after / result.tokens_before == pytest.approx(share, abs=0.03)


def test_balanced_drops_nothing_and_none_changes_no_byte():
    """With a share of 1 only the writing of JSON gets shorter."""
    data = json.dumps([{"bird": n, "sings": True} for n in range(9)], indent=4)
    asked = f"{data}\n\n{PAGE}\n\n{QUESTION}"
    result = PromptCompressor(level="balanced", model="gpt-4").compress(asked)

    short, rest = result.content.split("\n\n", 1)
    assert json.loads(short) == json.loads(data)
    assert len(short) < len(data)
    assert rest == asked.removeprefix(f"{data}\n\n")
    assert result.content == PromptCompressor(keep=1.0, model="gpt-4").compress(asked).content
    assert PromptCompressor(level="none").compress(asked).content is asked
    assert PromptCompressor(level="none").tunable == {}


def test_system_and_earlier_turns_stay_with_a_level():
    """The prefix that a provider has cached is not rewritten."""
    system, old = SystemMessage(PAGE), AIMessage(PAGE)
    messages = [system, HumanMessage("Tell me."), old, HumanMessage(f"{PAGE}\n\n{QUESTION}")]

    made = PromptCompressor(level="maximum", model="gpt-4").invoke(messages)

    assert made[0] is system
    assert made[2] is old
    assert len(made[3].content) < len(PAGE) / 2
    assert NEEDLE in made[3].content


def test_old_turns_are_dropped_before_the_question():
    """With a limit the current turn stays and the most relevant earlier turns with it."""
    chat = [
        m for n in range(30) for m in (HumanMessage(f"Fact {n}: birds {n} sing."), AIMessage("Ok."))
    ]
    chat[10] = HumanMessage(NEEDLE)
    chat.append(HumanMessage(QUESTION))

    made = PromptCompressor(60, model="gpt-4").invoke(chat)

    assert made[-1] is chat[-1]
    assert NEEDLE in [m.content for m in made]
    assert len(made) < len(chat)


def test_tool_calls_keep_their_answers_and_lose_only_white_space():
    """Tool results are re-encoded without loss; the pair stays a pair."""
    rows = """[{"id": 1, "net_price": 1.50, "city": "Bern"},
        {"id": 2, "net_price": 2, "city": "Basel"}, {"id": 3, "net_price": 7, "city": "Bern"}]"""
    call = AIMessage("", tool_calls=[{"name": "look", "args": {}, "id": "c1"}])
    messages = [HumanMessage(QUESTION), call, ToolMessage(rows, tool_call_id="c1")]

    made = PromptCompressor(level="balanced", model="gpt-4").invoke(messages)

    assert made[1] is call
    assert made[2].tool_call_id == "c1"
    assert made[2].content == (
        '{"columns":["id","net_price","city"],"data":[[1,1.50,"Bern"],[2,2,"Basel"],[3,7,"Bern"]]}'
    )
    assert PromptCompressor(level="balanced", tool_results="keep").invoke(messages) is messages


def test_images_are_never_touched():
    """A message of images and text loses text at most."""
    image = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    message = HumanMessage([image, {"type": "text", "text": f"{PAGE}\n\n{QUESTION}"}])

    made = PromptCompressor(900, model="gpt-4").compress([message]).content[0]

    assert made.content[0] == image
    assert len(made.content[1]["text"]) < len(PAGE)
    assert NEEDLE in made.content[1]["text"]


def test_documents_keep_titles_and_metadata():
    """Shortened documents are copies that keep what they know; the rest is left out."""
    documents = [
        Document(FILLER, metadata={"title": "Birds", "page": 1}),
        Document(f"{FILLER} It was opened in 1931.", metadata={"title": "The bridge", "page": 2}),
    ]

    made = compressor(30).compress(documents, QUESTION).content

    assert {"title": "The bridge", "page": 2} == made[-1].metadata
    assert "It was opened in 1931." in made[-1].page_content
    assert documents[1].page_content.startswith(FILLER)
    assert COUNT(join_documents(made)).tokens <= 30


async def test_document_compressor_is_langchains():
    """Retrievers call it with documents and a query."""
    shorten = DocumentCompressor(compressor=compressor(25))
    documents = [Document(PAGE)]

    made = shorten.compress_documents(documents, QUESTION)

    assert NEEDLE in made[0].page_content
    assert made == await shorten.acompress_documents(documents, QUESTION)
    with pytest.raises(ValueError, match="exactly one"):
        DocumentCompressor()


def test_a_failing_reranker_is_not_a_failing_chain():
    """Foreign model code may fail; words alone still rank."""

    class Broken:
        def embed_query(self, text):
            raise RuntimeError("out of memory")

        def embed_documents(self, texts):
            raise RuntimeError("out of memory")

    documents = [Document(f"{FILLER[n * 90 : n * 90 + 300]} Bridge opened.") for n in range(8)]
    shorten = compressor(60, reranker=Broken())

    with pytest.warns(TokenOptWarning, match="RuntimeError: out of memory"):
        made = shorten.compress(documents, QUESTION)
    assert made.tokens_after <= 60


def test_the_reranker_decides_between_equals():
    """Where words cannot tell passages apart, embeddings do."""

    class Likes:
        def embed_query(self, text):
            return [1.0, 0.0]

        def embed_documents(self, texts):
            return [[1.0, 0.0] if "marble" in text else [0.0, 1.0] for text in texts]

    parts = ["brick", "wood", "marble", "steel"] + [f"stone {n}" for n in range(20)]
    documents = [Document(f"The bridge opened with {part} in it.") for part in parts]

    made = compressor(12, reranker=Likes()).compress(documents, QUESTION).content

    assert "marble" in made[0].page_content


def test_loss_is_reported():
    """The report names what is gone."""
    text = f"{FILLER} He must never pay 500 EUR to Jane Roe. {NEEDLE}"

    result = compressor(20).compress(text, QUESTION)

    assert "500 EUR" in result.loss.numbers.lost
    assert result.loss.numbers.kept_share < 0.2
    assert any("never" in clause for clause in result.loss.negations.lost)
    assert "Jane Roe" in result.loss.entities.lost
    assert {"select": result.saved_tokens} == result.steps


@pytest.mark.parametrize(
    ("page", "query", "answer"),
    [
        (
            "Die Brücke wurde am 3. Mai 1931 eröffnet.",
            "Wann wurde die Brücke eröffnet?",
            "3. Mai 1931",
        ),
        ("El puente fue inaugurado en 1931 por Ana.", "¿Cuándo se inauguró el puente?", "1931"),
        ("这座桥建于1931年。", "这座桥是什么时候建的？", "1931年"),
    ],
    ids=["German", "Spanish", "Chinese"],
)
def test_other_languages(page, query, answer):
    """Not only English is searched."""
    filler = {
        "D": "Vögel singen am Morgen im Wald und der Regen fällt leise. ",
        "E": "Los pájaros cantan en el bosque y la lluvia cae. ",
        "这": "鸟儿在森林里唱歌，雨轻轻地下着。",
    }[page[0]]
    text = "".join(filler.replace(" ", f" {n} ", 1) for n in range(30)) + page + filler * 3

    assert answer in compressor(40).compress(text, query).content


def test_a_query_in_another_language_still_gives_a_page():
    """Without a common word, position and centrality decide, within the budget."""
    result = compressor(60).compress(PAGE, "桥是什么时候建的？")

    assert 40 < result.tokens_after <= 60


def test_optimize_text_is_the_one_liner():
    """A text, a question, a limit."""
    made = optimize_text(PAGE, QUESTION, 30)

    assert NEEDLE in made
    assert counter_for("o200k_base").count(made).tokens <= 30


@pytest.mark.parametrize(
    "text",
    [
        "berths:\n" + "".join(f"  berth{n}: tug number {n}\n" for n in range(60)),
        '{"berths": [' + ", ".join(f'"tug {n}"' for n in range(90)) + "]}",
        "def tug(n):\n    return n\n\n\n" * 40,
        "| berth | tug |\n|---|---|\n" + "".join(f"| {n} | tug {n} |\n" for n in range(60)),
    ],
    ids=["YAML", "JSON", "code", "table"],
)
def test_the_text_of_a_message_is_a_text(text):
    """It is of a class of its own, which parsers written in C refuse."""
    assert compressor(200).invoke(HumanMessage(text).text) == compressor(200).invoke(text)


def test_savings_reach_the_sinks():
    """A sink hears of each saving once, with measured tokens."""

    class Sink:
        def __init__(self):
            self.events = []

        def record(self, event):
            self.events.append(event)

    sink = Sink()
    compressor(60, query=QUESTION, sinks=[sink]).invoke(PAGE)

    assert [COUNT(PAGE).tokens] == [e.tokens_before for e in sink.events]
    assert sink.events[0].tokens_after <= 60
    assert sink.events[0].exact


@pytest.mark.parametrize("options", [{"keep": 0.5}, {"max_tokens": 60}], ids=str)
async def test_a_sink_that_fails_breaks_no_call(options):
    """The prompt is shortened all the same, and one warning names the sink."""

    class Full:
        def record(self, event):
            raise OSError("disk full")

    shorten = PromptCompressor(query=QUESTION, model="cl100k_base", sinks=[Full()], **options)

    with pytest.warns(TokenOptWarning, match="Full said: OSError"):
        made = shorten.invoke(PAGE)

    assert NEEDLE in made
    assert made == await shorten.ainvoke(PAGE)
