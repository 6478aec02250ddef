"""Word limits: what is shown, what is asked for, what is stopped."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool
from pydantic import Field

from langchain_tokenopt import TokenOptWarning, optimize
from langchain_tokenopt.core.staged_runs import StagedRun
from langchain_tokenopt.counting.tokens import counter_for
from langchain_tokenopt.forecast import UsageForecaster
from langchain_tokenopt.limits import Compliance, WordLimit, WordLimitExceededError
from langchain_tokenopt.limits.excerpt import Excerpt, Limit
from langchain_tokenopt.limits.markdown import closing_of
from langchain_tokenopt.limits.message_excerpt import MessageExcerpt
from langchain_tokenopt.limits.request_line import language_asked_in, request_line, room_for
from langchain_tokenopt.request.model_request import ModelRequest
from langchain_tokenopt.stage import Phase, Stage
from langchain_tokenopt.text.words import count_words
from langchain_tokenopt.tracking.callbacks import TokenUsageCallbackHandler
from tests.support.fakes import FakeAnswer, fake_chat

# --- words ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", 0),
        ("one", 1),
        ("  one\ttwo\nthree  ", 3),
        ("don't well-known 3.14 e.g. and/or", 5),
        ("a - b — c * d", 4),
        ("| a | b |\n|---|---|\n| c | d |", 4),
        ("- item one\n- item two", 4),
        ("1. first", 2),
        ("Straßenbahnhaltestelle für alle", 3),
        ("¿Qué tal? ¡Muy bien!", 4),
        ("今天天气很好。", 6),
        ("今日はPythonを書く。", 7),
        ("Python。Java、Go", 3),
        ("👍 ok 🎉", 3),
        ("x" * 100, 1),
        ("x" * 101, 2),
        ("- " * 101, 1),
        ("\n" * 1000, 1),
        ("a\x00b \x1b[0m", 2),
        ("a\u00a0b\u2003c", 3),
    ],
)
def test_words_are_counted_as_word_processors_do(text, words):
    """Runs between spaces that hold a letter, digit or symbol; CJK characters one by one."""
    assert words == count_words(text)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("What is the capital of France?", "en"),
        ("Was ist die Hauptstadt von Frankreich?", "de"),
        ("¿Cuál es la capital de Francia?", "es"),
        ("法国的首都是什么?", "zh"),
        ("フランスの首都は何ですか", "ja"),
        ("Какая столица Франции?", "cyrillic"),
        ("Erkläre Photosynthese auf Deutsch", "de"),
        ("", "en"),
        ("42", "en"),
    ],
)
def test_the_language_is_that_of_the_question(text, language):
    """Script first, then frequent short words; English when nothing speaks against it."""
    assert language == language_asked_in(text)


@pytest.mark.parametrize(
    ("language", "words", "sentences", "line"),
    [
        ("en", 150, None, "Answer in at most 150 words."),
        ("en", 1, None, "Answer in at most 1 word."),
        ("en", 50, 3, "Answer in at most 50 words and 3 sentences."),
        ("de", 50, None, "Antworte in höchstens 50 Wörtern."),
        ("es", None, 2, "Responde en un máximo de 2 frases."),
        ("zh", 50, None, "请用不超过50个字回答。"),
        ("ja", 50, None, "50字以内で答えてください。"),
        ("cyrillic", 50, None, "Answer in at most 50 words."),
        ("fr", 50, None, "Answer in at most 50 words."),
    ],
)
def test_the_length_is_asked_for_in_the_language_of_the_question(language, words, sentences, line):
    """One line, in the reader's language, in the singular where there is one."""
    assert line == request_line(language, words=words, sentences=sentences)


# --- where a text may end ------------------------------------------------------------------------


def excerpt(text: str, words: int | None = None, **limits: int) -> str:
    shown = Excerpt(Limit(words=words, **limits), lambda t: len(t.split()))
    return shown.feed(text) + shown.finish()


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("One two. Three four.", "One two."),
        ("Dr. No met Mr. Yes. They spoke.", "Dr. No met Mr. Yes."),
        ("It is 3.14, roughly. Next one.", "It is 3.14, roughly."),
        ("J. R. R. Tolkien wrote it. Next one.", "J. R. R. Tolkien wrote it."),
        ("See No. 5 now. Next one.", "See No. 5 now."),
        ("See e.g. Paris or Rome. Next one.", "See e.g. Paris or Rome."),
        ("It ended in 1984. Then came more.", "It ended in 1984."),
        ("Stop! he said. Go on.", "Stop! he said."),
        ("Really?! Yes it is.", "Really?!"),
        ("Well... Maybe not.", "Well..."),
        ('He said: "No." Then he left.', 'He said: "No."'),
        ("It is (as said.) Then more.", "It is (as said.)"),
        ("Open `a. B` now. Then more.", "Open `a. B` now."),
        ("See [A. B](http://x.y/z). Then more.", "See [A. B](http://x.y/z)."),
        ("Das ist z. B. am 3. Oktober so. Dann mehr.", "Das ist z. B. am 3. Oktober so."),
        ("Er zahlt 5 Mio. Euro. Dann mehr.", "Er zahlt 5 Mio. Euro."),
        ("Sie rief: „Nein.“ Dann ging sie.", "Sie rief: „Nein.“"),
        ("El Sr. Ruiz vive en EE. UU. desde ayer. Luego más.", None),
        ("¿Qué es? ¡No sé!", "¿Qué es?"),
        ("今天很好。明天呢？", "今天很好。"),
        ("他说：“好。”然后走了。再见。", "他说：“好。”"),
        ("「行く。」と言った。帰った。", "「行く。」と言った。"),
        ("本当！？はい。", "本当！？"),
        ("Wrapped\nacross lines. Next one.", "Wrapped\nacross lines."),
        ("No end here\n\nNext paragraph", "No end here"),
    ],
)
def test_a_sentence_ends_where_a_reader_would_say(text, first):
    """Abbreviations, ordinals, initials, decimals, quotes, code and links do not end one."""
    expected = "El Sr. Ruiz vive en EE. UU. desde ayer." if first is None else first

    assert expected == excerpt(text, sentences=1)


LIST = "Do this:\n\n1. Open it. Wait.\n2. Then:\n   - close it\n   - leave\n\nDone."
TABLE = "Prices:\n\n| a | b |\n|---|---|\n| one | 1 |\n| two | 2 |\n\nThat is all."
CODE = "Run this:\n\n```python\nx = 1\ny = 2\n```\n\nIt **works. Fine.** Bye."


@pytest.mark.parametrize(
    ("text", "words", "shown"),
    [
        (LIST, 6, "Do this:\n\n1. Open it. Wait."),
        (LIST, 7, "Do this:\n\n1. Open it. Wait."),
        (LIST, 10, "Do this:\n\n1. Open it. Wait.\n2. Then:\n   - close it"),
        (LIST, 2, "Do this…"),
        (TABLE, 5, "Prices:\n\n| a | b |\n|---|---|\n| one | 1 |"),
        (TABLE, 6, "Prices:\n\n| a | b |\n|---|---|\n| one | 1 |"),
        (TABLE, 7, "Prices:\n\n| a | b |\n|---|---|\n| one | 1 |\n| two | 2 |"),
        (TABLE, 4, "Prices:\n\n| a | b |\n|---|---|\n| one… |"),
        ("All rose.\n\n| aa | bb |\n|---|---|\n| one | 1 |", 5, "All rose."),
        (CODE, 6, "Run this:\n\n```python\nx = 1\n```"),
        (CODE, 9, "Run this:\n\n```python\nx = 1\ny = 2\n```\n\nIt **works.**"),
        (CODE, 8, "Run this:\n\n```python\nx = 1\ny = 2\n```"),
        (CODE, 4, "Run this:\n\n```python\nx…\n```"),
        ("# Title\n\nAa bb cc. Dd ee.", 4, "# Title\n\nAa bb cc."),
        ("Aa bb.\n\n# Title\n\nCc dd ee ff.", 5, "Aa bb."),
        ("Aa bb.\n\n---\n\nCc dd ee ff.", 3, "Aa bb."),
        ("> Aa bb. Cc dd.\n> Ee ff.", 4, "> Aa bb. Cc dd."),
        ("> ```\n> a b\n> c d\n> ```", 2, "> ```\n> a b\n> ```"),
        ("1. ~~~\n   a b\n   c d\n   ~~~", 3, "1. ~~~\n   a b\n   ~~~"),
        ("a | b\n--- | ---\nc | d\ne | f\n\nG h.", 4, "a | b\n--- | ---\nc | d"),
        ("Title\n=====\n\nAa bb. Cc dd.", 3, "Title\n=====\n\nAa bb."),
        ("One two **three four five** six.", 4, "One two **three four…**"),
        ("He said “one two three”.", 4, "He said “one two…”"),
        ("Word, word, word.", 2, "Word, word…"),
        ("字字字字字。字。", 3, "字字字…"),
        ("No end of any kind here", 3, "No end of…"),
        ("x" * 350, 2, "x" * 200 + "…"),
        ("a\x00b. \x07c d", 1, "a\x00b."),
        ("`````", 1, "`````"),
    ],
)
def test_a_long_text_is_shown_in_whole_units_that_are_closed(text, words, shown):
    """List items, table rows and lines of code are whole; headings and colons never come last."""
    assert shown == excerpt(text, words)


@pytest.mark.parametrize("text", [LIST, TABLE, CODE, "", "\n", "One.", "**", "- ", "`", "| a"])
@pytest.mark.parametrize("limits", [{"words": 100}, {"sentences": 100}, {"tokens": 100}])
def test_a_text_that_fits_is_unchanged(text, limits):
    """To the byte, unfinished markup included."""
    assert text == excerpt(text, **limits)


@pytest.mark.parametrize(
    ("open_", "closing"),
    [
        ("**bold", "**"),
        ("***both", "***"),
        ("***both** one", "*"),
        ("_a **b", "**_"),
        ("~~gone", "~~"),
        ("a snake_case and 2 * 3 and 5*4", ""),
        ("`code **not", "`"),
        ("``a ` b", "``"),
        ("(see", ")"),
        ("\\*not", ""),
        ("say “so", "”"),
        ("sagt „so", "“"),
        ('5" wide', ""),
        ('say "so', '"'),
        ("「はい", "」"),
        ("````\n```\n", "\n````"),
        ("closed **all** `of` (it)", ""),
    ],
)
def test_open_markup_is_closed(open_, closing):
    """Emphasis by CommonMark's flanking rules, code, quotation marks, brackets, fences."""
    assert closing == closing_of(open_, block=False)


def test_more_than_one_sentence_streams_without_delay():
    """The first sentence is shown while it is written, later ones when they are known to fit."""
    shown = Excerpt(Limit(words=6))

    pieces = [shown.feed(p) for p in ("One", " two", ".", " Three", " four.", " Five")]

    assert ["One", " two", ".", "", "", " Three four."] == pieces


@pytest.mark.parametrize(
    ("pieces", "words", "shown"),
    [
        (["One two", ",", " three"], 2, ["One two", "", "", "…"]),
        (["One two", "\n-", " three", " four"], 3, ["One two", "", "", "", ""]),
        (
            ["(One", " two)", ". ", "Three", " four"],
            4,
            ["(One", " two)", ".", "", "", " Three four"],
        ),
        (["**One", "**", " two"], 1, ["**One", "", "", "…**"]),
    ],
)
def test_nothing_is_shown_that_may_have_to_go(pieces, words, shown):
    """What has been shown cannot be taken back: commas, list marks, what follows the last word."""
    excerpt = Excerpt(Limit(words=words))

    assert shown == [*map(excerpt.feed, pieces), excerpt.finish()]


def test_an_unfinished_sentence_is_left_out_when_tokens_have_run_out():
    """What max_tokens has cut ends at a sentence, too."""
    shown = Excerpt(Limit(words=100))

    text = shown.feed("One two. Three fo")

    assert "One two." == text + shown.finish(broken_off=True)
    assert shown.is_cut


def test_a_whole_answer_of_exactly_the_cap_is_whole():
    """An answer that ends at a sentence is not taken for a broken one."""
    shown = Excerpt(Limit(words=100))

    text = shown.feed("One two. Three four.")

    assert "One two. Three four." == text + shown.finish(broken_off=True)
    assert not shown.is_cut


def test_a_limit_of_tokens_holds_with_what_is_added():
    """The ellipsis and what closes markup count."""
    count = len
    for tokens in range(1, 60):
        shown = Excerpt(Limit(tokens=tokens), count)

        text = shown.feed("One **two three. Four five.** Six `seven` eight.") + shown.finish()

        assert count(text) <= tokens


# --- construction --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "kwargs", "words"),
    [
        ((), {}, "needs a limit"),
        ((0,), {}, "max_words must be a whole number of at least 1; got 0"),
        ((-5,), {}, "got -5"),
        ((), {"max_tokens": 0}, "max_tokens must be a whole number of at least 1"),
        ((), {"max_sentences": -1}, "max_sentences must be a whole number of at least 1"),
        ((1.5,), {}, "whole number of at least 1; got 1.5"),
        ((True,), {}, "whole number of at least 1; got True"),
        ((500,), {"max_tokens": 100}, "max_tokens=100 cannot hold max_words=500"),
        ((5,), {"max_sentences": 6}, "max_sentences=6 can never be reached"),
        ((5,), {"on_exceed": "cut"}, "got 'cut'"),
        ((5,), {"on_exceed": "warn", "predict": True}, "promises whole ones"),
    ],
)
def test_limits_that_make_no_sense_are_refused(args, kwargs, words):
    """With both numbers and what to do."""
    with pytest.raises(ValueError, match=words):
        WordLimit(*args, **kwargs)


def test_it_is_a_stage_and_says_so_in_its_fingerprint():
    """Every setting that changes answers is part of a cache's key."""
    limits = [WordLimit(5), WordLimit(6), WordLimit(5, ask=False), WordLimit(max_sentences=5)]

    assert isinstance(limits[0], Stage)
    assert Phase.LIMIT == limits[0].phase
    assert 4 == len({limit.fingerprint for limit in limits})


# --- around a model ------------------------------------------------------------------------------

LONG = " ".join(f"This is sentence number {i} of many." for i in range(40))
STREAMING = ("_stream", "_astream")


async def _invoke(model, question, **config):
    return model.invoke(question, **config).text


async def _ainvoke(model, question, **config):
    return (await model.ainvoke(question, **config)).text


async def _stream(model, question, **config):
    return "".join([chunk.text for chunk in model.stream(question, **config)])


async def _astream(model, question, **config):
    return "".join([chunk.text async for chunk in model.astream(question, **config)])


CALLS = [_invoke, _ainvoke, _stream, _astream]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("methods", [(), STREAMING, ("_agenerate", *STREAMING)])
async def test_the_limit_holds_in_every_call_of_every_build(methods, call):
    """A model that cannot stream is trimmed, one that can is stopped."""
    limit = WordLimit(20)
    bare = fake_chat(*methods, answers=[LONG])

    shown = await call(optimize(bare, limit), "Tell me")

    assert LONG[: len(shown)] == shown
    assert "This is sentence number 0 of many. This is sentence number 1 of many." == shown
    kept = limit.compliance()["default"]
    assert (1, 1 - bool(methods), int(bool(methods))) == (kept.answers, kept.trimmed, kept.stopped)


@pytest.mark.parametrize("call", CALLS)
async def test_an_answer_that_fits_is_unchanged(call):
    """And counts as obeyed."""
    limit = WordLimit(20)

    shown = await call(optimize(fake_chat(*STREAMING, answers=["Fine.  \n\nYes. \n"]), limit), "?")

    assert "Fine.  \n\nYes. \n" == shown
    assert 1 == limit.compliance()["default"].obeyed


def test_the_length_is_asked_for_in_the_last_user_message():
    """Everything before it stays as it is, so that a cached prefix survives."""
    model = fake_chat("_stream")
    sent = [SystemMessage("Be kind."), HumanMessage("Hi"), AIMessage("Hello"), HumanMessage("Why?")]

    optimize(model, WordLimit(30)).invoke(sent)

    got = model.calls[0].messages
    assert sent[:3] == got[:3]
    assert "Why?\n\nAnswer in at most 30 words." == got[3].text


def test_nothing_is_asked_when_told_not_to():
    """ask=False leaves the prompt alone."""
    model, limit = fake_chat("_stream"), WordLimit(30, ask=False)

    optimize(model, limit).invoke("Why?")

    assert "Why?" == model.calls[0].messages[0].text
    kept = limit.compliance()["default"]
    assert (0, 1, 0) == (kept.asked, kept.obeyed_unasked, kept.obeyed)


def test_a_tool_loop_is_asked_where_its_question_stands():
    """The line is added to the question, not after the tool's answer: the prefix stays the same."""
    model = fake_chat("_stream")
    call = AIMessage("", tool_calls=[{"name": "f", "args": {}, "id": "1"}])
    sent = [HumanMessage("Why?"), call, ToolMessage("42", tool_call_id="1")]

    optimize(model, WordLimit(30)).invoke(sent)

    assert ["Why?\n\nAnswer in at most 30 words.", "", "42"] == [
        message.text for message in model.calls[0].messages
    ]


class _Capped(type(fake_chat("_stream"))):
    """A model whose class knows max_tokens."""

    max_tokens: int | None = None


@pytest.mark.parametrize(
    ("own", "passed", "wire"),
    [(None, None, 224), (100, None, None), (500, None, 224), (None, 50, 50), (None, 500, 224)],
)
def test_a_cap_is_only_ever_lowered(own, passed, wire):
    """The caller's smaller cap stays, set on the model or passed with the call."""
    model = _Capped(max_tokens=own)
    kwargs = {} if passed is None else {"max_tokens": passed}

    optimize(model, WordLimit(20)).invoke("Why is the sky blue?", **kwargs)

    assert wire == model.calls[0].kwargs.get("max_tokens")


def test_no_cap_is_passed_to_a_class_that_does_not_know_it():
    """An unknown argument could break a call that would have worked."""
    model = fake_chat("_stream")

    optimize(model, WordLimit(20)).invoke("Why?")

    assert {} == dict(model.calls[0].kwargs)


def _request(**kwargs: Any) -> ModelRequest:
    model = kwargs.pop("model", None) or _Capped(model=kwargs.pop("name", "fake-1"))
    return ModelRequest(model, [HumanMessage("?")], None, kwargs, StagedRun(run_id=RUN))


RUN: Any = "run"


@pytest.mark.parametrize(
    ("kwargs", "cap"),
    [
        ({"name": "gpt-4.1-mini"}, 100),
        ({"name": "gpt-5-mini"}, None),
        ({"name": "gpt-5.4-mini"}, 100),
        ({"name": "gpt-5.4-mini", "reasoning_effort": "high"}, None),
        ({"name": "gpt-5.4-mini", "reasoning_effort": "none"}, 100),
        ({"name": "o4-mini"}, None),
        ({"name": "gemini-2.5-flash"}, 100 + 32_768),
        ({"name": "gemini-2.5-flash", "thinking_budget": 0}, 100),
        ({"name": "gemini-2.5-flash", "thinking_budget": 512}, 612),
        ({"name": "gemini-2.5-flash-lite"}, 100),
        ({"name": "gemini-3-pro"}, None),
        ({"name": "claude-haiku-4-5"}, 100),
        (
            {"name": "claude-haiku-4-5", "thinking": {"type": "enabled", "budget_tokens": 1024}},
            1124,
        ),
        ({"name": "claude-haiku-4-5", "thinking": {"type": "adaptive"}}, None),
        ({"name": "claude-haiku-4-5", "thinking": {"type": "disabled"}}, 100),
        ({"name": "deepseek-reasoner"}, None),
    ],
)
def test_thinking_is_not_cut_by_the_cap(kwargs, cap):
    """Thinking counts as output: its known budget is added, an unknown one means no cap."""
    call = WordLimit(max_tokens=100).open(_request(**kwargs))

    assert call is not None
    assert cap == call.request.kwargs.get("max_tokens")


def test_to_raise_a_few_tokens_more_are_allowed():
    """A cap of exactly the limit would end the answer before it can be seen to go on."""
    caps = [
        WordLimit(max_tokens=100, on_exceed=on_exceed).open(_request()).request.kwargs["max_tokens"]
        for on_exceed in ("trim", "raise")
    ]

    assert [100, 108] == caps


@pytest.mark.parametrize(("words", "shown_sentences"), [(60, 2), (80, 1)])
def test_where_tokens_are_estimated_a_cap_is_taken_to_have_cut_a_little_early(
    words, shown_sentences
):
    """Nobody knows the tokenizer: at 90 % of the cap an unfinished sentence is left out."""
    text = "One two three. Four" + " four" * words
    bare = _Capped(answers=[FakeAnswer(text)], model="nobody-knows-1")
    counted = counter_for("nobody-knows-1").count(text)
    assert (shown_sentences == 1) == (90 <= counted.tokens < 100)
    assert not counted.exact

    shown = optimize(bare, WordLimit(max_tokens=100)).invoke("?").text

    assert (text if shown_sentences == 2 else "One two three.") == shown


@pytest.mark.parametrize("language", ["fr", "it", "pt", "nl"])
def test_languages_in_latin_letters_have_the_room_of_english(language):
    """Only other scripts take a token a letter."""
    assert room_for(50, "en") == room_for(50, language) < room_for(50, "cyrillic")


def test_the_cap_takes_the_name_that_the_caller_used():
    """Two names for one thing would contradict each other."""
    call = WordLimit(max_tokens=100).open(_request(max_completion_tokens=500, temperature=0))

    assert call is not None
    assert {"max_completion_tokens": 100, "temperature": 0} == dict(call.request.kwargs)


@pytest.mark.parametrize(
    ("kwargs", "structured"),
    [
        ({}, False),
        ({"tools": [{}]}, False),
        ({"tools": [{}], "tool_choice": "auto"}, False),
        ({"tool_choice": {"type": "auto"}}, False),
        ({"tools": [{}], "tool_choice": "any"}, True),
        ({"tools": [{}], "tool_choice": {"type": "function", "function": {"name": "A"}}}, True),
        ({"response_format": {"type": "json_object"}}, True),
        ({"response_format": {"type": "text"}}, False),
        ({"response_format": dict}, True),
        ({"output_config": {"format": {"type": "json_schema"}}}, True),
        ({"output_config": {"effort": "low"}}, False),
        ({"text": {"format": {"type": "json_schema"}}}, True),
        ({"response_mime_type": "application/json"}, True),
        ({"format": "json"}, True),
    ],
)
def test_structured_output_is_left_alone(kwargs, structured):
    """A schema, JSON mode or a forced tool, in each provider's words."""
    assert structured == (WordLimit(5).open(_request(**kwargs)) is None)


@pytest.mark.parametrize("call", CALLS)
async def test_structured_output_is_never_touched(call):
    """Nothing is asked, capped or cut."""
    model, limit = _Capped(answers=[FakeAnswer(LONG)]), WordLimit(5)
    staged = optimize(model, limit).bind(response_format={"type": "json_object"})

    assert LONG == await call(staged, "Why?")
    assert "Why?" == model.calls[0].messages[0].text
    assert {} == limit.compliance()


@pytest.mark.parametrize("call", CALLS)
async def test_json_without_a_schema_is_not_cut(call):
    """Half an object would be worth nothing."""
    text = ' {"a": "one two three four five six", "b": [1, 2, 3]}'

    assert text == await call(optimize(fake_chat(*STREAMING, answers=[text]), WordLimit(3)), "?")


@tool
def search(query: str) -> str:
    """Search."""
    return query


@pytest.mark.parametrize("call", ["invoke", "stream"])
def test_tool_calls_survive_a_long_preamble(call):
    """With tools bound the text is trimmed, but the stream is read to its end."""
    made = {"name": "search", "args": {"query": "one two three four five six seven"}}
    bare = _Capped(answers=[FakeAnswer(LONG, tool_calls=[made])])
    model = optimize(bare, WordLimit(10)).bind_tools([search])

    if call == "invoke":
        answer = model.invoke("Why?")
    else:
        first, *others = model.stream("Why?")
        answer = sum(others, first)

    assert "This is sentence number 0 of many." == answer.text
    assert [made["args"]] == [c["args"] for c in answer.tool_calls]
    assert "max_tokens" not in bare.calls[0].kwargs


@pytest.mark.parametrize("call", ["invoke", "stream"])
def test_a_stream_of_tool_calls_only_is_unchanged(call):
    """There is no text to limit."""
    made = {"name": "search", "args": {"query": "x"}}
    model = optimize(
        fake_chat(*STREAMING, answers=[FakeAnswer("", tool_calls=[made])]), WordLimit(1)
    )

    answer = model.invoke("?") if call == "invoke" else sum_of(model.stream("?"))

    assert ["x"] == [c["args"]["query"] for c in answer.tool_calls]
    assert "" == answer.text


def sum_of(chunks):
    first, *others = chunks
    return sum(others, first)


@pytest.mark.parametrize("call", CALLS)
async def test_an_empty_answer_stays_empty(call):
    """An empty stream is no error and no exceeded limit."""
    limit = WordLimit(3)

    assert "" == await call(optimize(fake_chat(*STREAMING, answers=[""]), limit), "?")
    assert 1 == limit.compliance()["default"].obeyed


@pytest.mark.parametrize("call", CALLS)
async def test_raise_stops_the_call_with_an_error_that_says_what_to_do(call):
    """And does not wait for the end of the answer."""
    model = optimize(fake_chat(*STREAMING, answers=[LONG]), WordLimit(10, on_exceed="raise"))

    with pytest.raises(WordLimitExceededError, match="'default' is longer than the 10 words") as e:
        await call(model, "?")

    assert (10, "default") == (e.value.max_words, e.value.agent)


@pytest.mark.parametrize("call", CALLS)
async def test_warn_shows_everything_and_says_so(call):
    """Nothing is cut, capped or stopped."""
    limit = WordLimit(10, on_exceed="warn")

    bare = _Capped(answers=[FakeAnswer(LONG)])
    with pytest.warns(TokenOptWarning, match="longer than the 10 words"):
        shown = await call(optimize(bare, limit), "?")

    assert LONG == shown
    assert "max_tokens" not in bare.calls[0].kwargs


@pytest.mark.parametrize("methods", [(), ("_stream",)])
def test_a_cut_answer_is_not_kept_by_a_cache(methods):
    """A cache would serve it to callers without a limit."""
    from langchain_core.caches import InMemoryCache

    cache = InMemoryCache()
    model = optimize(fake_chat(*methods, answers=[LONG, "Short."]), WordLimit(10), cache)

    answers = [model.invoke("?").text for _ in range(3)]

    assert ["This is sentence number 0 of many.", "Short.", "Short."] == answers


def test_savings_say_what_they_are():
    """A stopped answer's saving is an estimate; asking is charged; agents are kept apart."""
    limit = WordLimit(10)
    handler = TokenUsageCallbackHandler()
    bare = fake_chat(*STREAMING, answers=[LONG, "Short."], model="gpt-4o", callbacks=[handler])
    model = optimize(bare, limit)

    for _ in range(2):
        model.invoke("Why?", config={"metadata": {"tokenopt_agent": "writer"}})

    stopped, obeyed = handler.records
    (saving,) = stopped.savings
    assert ("WordLimit", "WordLimit:stopped") == stopped.stages
    assert ("output", False) == (saving.side, saving.exact)
    assert saving.tokens_before > saving.tokens_after == stopped.usage.output_tokens
    (nothing,) = obeyed.savings
    assert nothing.tokens_before == nothing.tokens_after
    assert -nothing.spent_tokens == nothing.saved_tokens < 0
    kept = limit.compliance()
    assert ["writer"] == list(kept)
    assert (2, 2, 1, 0, 1, True) == (
        kept["writer"].answers,
        kept["writer"].asked,
        kept["writer"].obeyed,
        kept["writer"].trimmed,
        kept["writer"].stopped,
        kept["writer"].estimated,
    )
    assert saving.saved_tokens + nothing.saved_tokens == kept["writer"].saved_tokens
    assert 0.5 == kept["writer"].obeyed_ratio
    assert Compliance().obeyed_ratio is None


def test_observing_changes_nothing_and_measures_exactly():
    """What would have been left out is known, because the whole answer was written."""
    handler = TokenUsageCallbackHandler()
    bare = fake_chat("_stream", answers=[LONG], model="gpt-4o", callbacks=[handler])

    answer = optimize(bare, WordLimit(10), observe=True).invoke("Why?")

    (saving,) = handler.records[0].savings
    assert LONG == answer.text
    assert "Why?" == bare.calls[0].messages[0].text
    assert (True, True) == (saving.observed, saving.exact)
    assert saving.tokens_before > 10 * saving.tokens_after > 0


def test_several_generations_are_each_trimmed():
    """With n > 1 there is no stream, but the limit holds."""
    limit = WordLimit(10)
    bare = fake_chat("_stream", answers=[FakeAnswer(LONG, generations=3)])

    result = optimize(bare, limit).generate([[HumanMessage("?")]], n=3)

    assert ["This is sentence number 0 of many."] * 3 == [g.text for g in result.generations[0]]
    assert 1 == limit.compliance()["default"].trimmed


class _Blocks(_Capped):
    """Answers in content blocks, as Anthropic does; its stream is its own."""

    _stream = _Capped._stream

    def _chunks(self, answer):
        from langchain_core.outputs import ChatGenerationChunk

        for content in (
            [{"type": "thinking", "thinking": "one two three four five six", "index": 0}],
            [{"type": "text", "text": "", "index": 1}],
            *([{"type": "text", "text": w, "index": 1}] for w in answer.text.split(" ") if w),
        ):
            for block in content:
                if block.get("text"):
                    block["text"] = f" {block['text']}"
            yield ChatGenerationChunk(message=AIMessageChunk(content=content))


@pytest.mark.parametrize("call", ["invoke", "stream"])
def test_reasoning_blocks_are_never_touched(call):
    """Only text is limited, in the blocks it came in."""
    model = optimize(_Blocks(answers=[FakeAnswer("One two. Three four five. Six.")]), WordLimit(4))

    answer = model.invoke("?") if call == "invoke" else sum_of(model.stream("?"))

    thinking, text = answer.content
    assert "one two three four five six" == thinking["thinking"]
    assert ("text", " One two.") == (text["type"], text["text"])


def test_text_blocks_keep_their_places():
    """Held-back text goes back into the block it came from."""
    pieces = MessageExcerpt(Excerpt(Limit(words=50)))
    blocks = [
        {"type": "text", "text": "One two. Three", "index": 0, "citations": [1]},
        {"type": "text", "text": " four. Five", "index": 1},
    ]

    shown = pieces.show(AIMessageChunk(content=blocks))
    rest = pieces.rest()
    whole = shown + rest

    assert ["One two. Three", " four. Five"] == [block["text"] for block in whole.content]
    assert [1] == whole.content[0]["citations"]


def test_usage_on_a_cut_chunk_is_kept():
    """A chunk whose text is dropped still tells what was billed."""
    pieces = MessageExcerpt(Excerpt(Limit(words=1)))
    usage = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}

    pieces.show(AIMessageChunk(content="One. Two."))
    shown = pieces.show(AIMessageChunk(content=" Three.", usage_metadata=usage))

    assert ("", 3) == (shown.text, shown.usage_metadata["total_tokens"])


def test_predict_sets_the_cap_from_what_the_agent_answered():
    """After 30 answers the longest 1 % decide, where that is less than the word limit's room."""
    forecaster = UsageForecaster()
    for tokens in range(20, 60):
        forecaster.observe("default", tokens, model="fake-1", max_words=100)
    bare = _Capped(answers=[FakeAnswer("Fine.")])

    optimize(bare, WordLimit(100, predict=forecaster)).invoke("Why?")

    assert 60 <= bare.calls[0].kwargs["max_tokens"] <= 100 < room_for(100, "en")


def test_predict_learns_from_the_answers_it_sees():
    """Without a forecaster of the caller's it keeps one of its own."""
    limit = WordLimit(100, predict=True)
    bare = _Capped(answers=[FakeAnswer("Ten words are enough for this answer, I think. Yes.")] * 40)
    model = optimize(bare, limit)

    for _ in range(40):
        model.invoke("Why?")

    assert room_for(100, "en") == bare.calls[0].kwargs["max_tokens"]
    assert 20 > bare.calls[-1].kwargs["max_tokens"]


def test_a_limit_is_shared_by_threads():
    """Counts are not lost, answers not mixed."""
    limit = WordLimit(10)
    model = optimize(fake_chat("_stream", answers=[LONG] * 64), limit)

    def work():
        for _ in range(8):
            assert "This is sentence number 0 of many." == model.invoke("?").text

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 64 == limit.compliance()["default"].stopped


def test_a_reader_who_leaves_is_not_counted():
    """The model's stream is closed and no answer is recorded."""
    limit = WordLimit(10)
    stream = optimize(fake_chat("_stream", answers=[LONG]), limit).stream("?")

    next(stream)
    stream.close()

    assert {} == limit.compliance()


TRIMMED = {"tokenopt_trimmed_by": "WordLimit"}


@pytest.mark.parametrize("call", ["invoke", "stream", "pipe"])
@pytest.mark.parametrize("methods", [(), STREAMING])
@pytest.mark.parametrize(
    ("text", "on_exceed", "is_cut"),
    [(LONG, "trim", True), ("Short.", "trim", False), (LONG, "warn", False)],
)
@pytest.mark.filterwarnings("ignore:The answer of")
def test_a_cut_is_marked(call, methods, text, on_exceed, is_cut):
    """Whoever reads the answer can tell that something was left out, stopped or trimmed."""
    bare, limit = fake_chat(*methods, answers=[text]), WordLimit(10, on_exceed=on_exceed)

    if call == "invoke":
        answer = optimize(bare, limit).invoke("?")
    elif call == "stream":
        answer = sum_of(optimize(bare, limit).stream("?"))
    else:
        answer = sum_of((bare | limit).stream("?"))

    said = answer.response_metadata
    marks = (said.get("tokenopt_stopped_by"), said.get("tokenopt_trimmed_by"))
    assert [(None, None), ("WordLimit", None), (None, "WordLimit")][
        0 if not is_cut else 1 if methods else 2
    ] == marks


def test_several_generations_are_marked_apart():
    """Only those that were cut."""
    bare = fake_chat("_stream", answers=[FakeAnswer(LONG, generations=2)])

    result = optimize(bare, WordLimit(10)).generate([[HumanMessage("?")]], n=2)

    assert [TRIMMED] * 2 == [
        {k: v for k, v in g.message.response_metadata.items() if "trimmed" in k}
        for g in result.generations[0]
    ]


# --- behind a model ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("One two three. Four five.", "One two three."),
        (
            AIMessage("One two three. Four five."),
            AIMessage("One two three.", response_metadata=TRIMMED),
        ),
        (AIMessage("One."), AIMessage("One.")),
        ({"a": "one two three four five"}, {"a": "one two three four five"}),
        (["one two three four five"], ["one two three four five"]),
        (HumanMessage("one two three four five"), HumanMessage("one two three four five")),
        (None, None),
        ("", ""),
    ],
)
async def test_what_goes_in_comes_out(given, shown):
    """Texts and answers are trimmed, anything else passes, in the type it came in."""
    limit = WordLimit(4)

    assert shown == limit.invoke(given)
    assert shown == await limit.ainvoke(given)
    assert [shown] == limit.batch([given])
    assert [shown] == list(limit.stream(given))


async def test_a_stream_of_texts_is_stopped():
    """What writes it is not asked for more than one word beyond the limit."""
    written: list[str] = []

    def words():
        for word in LONG.split():
            written.append(word)
            yield f"{word} "

    async def awords():
        for word in words():
            yield word

    shown = "".join(WordLimit(10).transform(words()))
    assert ("This is sentence number 0 of many.", 11) == (shown, len(written))

    written.clear()
    shown = "".join([piece async for piece in WordLimit(10).atransform(awords())])
    assert ("This is sentence number 0 of many.", 11) == (shown, len(written))


@pytest.mark.parametrize("on_exceed", ["raise", "warn"])
def test_a_pipe_raises_and_warns_too(on_exceed):
    """The same choices as around a model."""
    limit = WordLimit(10, on_exceed=on_exceed)
    pieces = [f"{word} " for word in LONG.split()]

    if on_exceed == "raise":
        with pytest.raises(WordLimitExceededError):
            list(limit.transform(iter(pieces)))
    else:
        with pytest.warns(TokenOptWarning, match="longer than the 10 words"):
            assert pieces == list(limit.transform(iter(pieces)))


def test_a_pipe_is_traced():
    """Its run ends with what was shown, whether the stream was stopped or not."""
    from langchain_core.callbacks import BaseCallbackHandler

    class Ends(BaseCallbackHandler):
        def __init__(self) -> None:
            self.outputs: list[Any] = []

        def on_chain_end(self, outputs, **kwargs):
            self.outputs.append(outputs)

    ends = Ends()
    list(WordLimit(2).transform(iter(["One ", "two. ", "Three."]), {"callbacks": [ends]}))

    assert ["One two."] == ends.outputs


def test_an_error_upstream_is_told_as_it_is():
    """The limit does not hide what went wrong."""

    def broken():
        yield "One "
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        list(WordLimit(5).transform(broken()))


def test_a_whole_result_keeps_its_other_parts():
    """Ids, metadata and generation info of a trimmed answer stay."""

    class Whole(type(fake_chat())):
        asked: list[Any] = Field(default_factory=list)

        def _generate(self, messages, stop=None, run_manager=None, **kwargs):
            message = AIMessage("One two. Three.", id="x", response_metadata={"a": 1})
            generation = ChatGeneration(message=message, generation_info={"b": 2})
            return ChatResult(generations=[generation], llm_output={"c": 3})

    answer = optimize(Whole(), WordLimit(2)).invoke("?")

    assert ("One two.", "x", 1) == (answer.text, answer.id, answer.response_metadata["a"])


# --- the command line ----------------------------------------------------------------------------


@pytest.fixture
def written_ledger(tmp_path):
    """A ledger of two agents: one talks too long, one obeys."""
    from langchain_tokenopt.ledger import Ledger

    path, limit = tmp_path / "spend.db", WordLimit(10)
    with Ledger(path) as ledger:
        handler = TokenUsageCallbackHandler(sinks=[ledger])
        answers = [LONG, "Short.", "Short."]
        bare = fake_chat("_stream", answers=answers, model="gpt-4o", callbacks=[handler])
        model = optimize(bare, limit)
        for agent in ("talker", "poet", "poet"):
            model.invoke("Why?", config={"metadata": {"tokenopt_agent": agent}})
        optimize(bare, limit, observe=True).invoke("Why?")
    return path, limit


def test_the_ledger_tells_the_same_as_the_limit(written_ledger):
    """What is stored is enough to say how well agents kept to it."""
    from langchain_tokenopt.ledger import Ledger
    from langchain_tokenopt.limits.compliance import compliance_of

    path, limit = written_ledger
    with Ledger(path, read_only=True) as ledger:
        assert limit.compliance() == compliance_of(ledger.calls())


def test_tokenopt_limits_shows_compliance(written_ledger):
    """A row per agent, estimates marked; the same figures as JSON."""
    import json

    from typer.testing import CliRunner

    from langchain_tokenopt.cli import app

    path, limit = written_ledger

    shown = CliRunner().invoke(app, ["limits", "--ledger", str(path)])
    as_json = CliRunner().invoke(app, ["limits", "--ledger", str(path), "--json"])

    assert (0, 0) == (shown.exit_code, as_json.exit_code)
    rows = {row["agent"]: row for row in json.loads(as_json.stdout)}
    assert ["poet", "talker"] == list(rows)
    assert (1, 0.0, True) == (
        rows["talker"]["stopped"],
        rows["talker"]["obeyed_ratio"],
        rows["talker"]["estimated"],
    )
    assert limit.compliance()["poet"].saved_tokens == rows["poet"]["saved_tokens"]
    poet, talker, *_ = (line.split() for line in shown.stdout.splitlines()[1:])
    assert ["poet", "2", "2", "100%", "0", "0"] == poet[:6]
    assert ["talker", "1", "1", "0%", "0", "1"] == talker[:6]
    assert talker[6].startswith("~")


def test_tokenopt_limits_says_what_is_missing(tmp_path):
    """No ledger, or one without limits: one line, exit code 1."""
    from typer.testing import CliRunner

    from langchain_tokenopt.cli import app
    from langchain_tokenopt.ledger import Ledger

    Ledger(tmp_path / "empty.db").close()

    for name, words in (("none.db", "none.db"), ("empty.db", "no answers under a word limit")):
        shown = CliRunner().invoke(app, ["limits", "--ledger", str(tmp_path / name)])
        assert (1, True) == (shown.exit_code, words in shown.stderr)
