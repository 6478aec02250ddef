"""Word limits over real HTTP: what goes out, what the provider writes, what is shown."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.graph import END, START, MessagesState, StateGraph
from pydantic import BaseModel

from langchain_tokenopt import (
    Ledger,
    PromptCompressor,
    TokenOptWarning,
    optimize,
    token_scope,
    track_usage,
)
from langchain_tokenopt.limits import WordLimit, WordLimitExceededError
from langchain_tokenopt.tracking.callbacks import TokenUsageCallbackHandler
from tests.support.model_server import ModelServer, Reply, ToolCall

LONG = " ".join(f"Sentence number {i} has exactly nine words in it." for i in range(100))
SHOWN = " ".join(f"Sentence number {i} has exactly nine words in it." for i in range(2))
LIMIT = 20
SPARE = 300
"""Of 900 words that would come, so many may pass before a busy machine cancels the request; how few
they usually are is measured in ``tests/benchmarks/bench_limits.py``."""


@pytest.fixture(params=["openai", "anthropic", "gemini"])
def chat(request, model_server: ModelServer) -> Any:
    """Makes a real chat model of each provider; the server answers at length, slowly."""
    model_server.answer = lambda _: Reply(text=LONG)
    model_server.pace_seconds = 0.002
    return getattr(model_server, f"chat_{request.param}")


def _joined(chunks) -> str:
    return "".join(c if isinstance(c, str) else c.text for c in chunks)


CALLS = {
    "stream": lambda model: _joined(model.stream("Tell me")),
    "invoke": lambda model: model.invoke("Tell me").text,
    "batch": lambda model: model.batch(["Tell me"])[0].text,
    "parser invoke": lambda model: (model | StrOutputParser()).invoke("Tell me"),
    "parser stream": lambda model: _joined((model | StrOutputParser()).stream("Tell me")),
    "prompt, parser": lambda model: _joined(
        (ChatPromptTemplate.from_template("{q}") | model | StrOutputParser()).stream({"q": "?"})
    ),
    "retry": lambda model: model.with_retry().invoke("Tell me").text,
    "bound": lambda model: model.bind(stop=["\x00"]).invoke("Tell me").text,
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_around_a_model_the_request_is_cancelled(call, chat, model_server):
    """In every synchronous call, with every provider, behind parsers too."""
    shown = call(optimize(chat(), WordLimit(LIMIT)))

    (log,) = model_server.streams
    assert (SHOWN, True) == (shown, log.cancelled)
    assert log.sent <= LIMIT + SPARE


async def _ajoined(chunks) -> str:
    return _joined([chunk async for chunk in chunks])


async def _atext(answer) -> str:
    return (await answer).text


ASYNC_CALLS = {
    "astream": lambda model: _ajoined(model.astream("Tell me")),
    "ainvoke": lambda model: _atext(model.ainvoke("Tell me")),
    "parser astream": lambda model: _ajoined((model | StrOutputParser()).astream("Tell me")),
    "parser ainvoke": lambda model: (model | StrOutputParser()).ainvoke("Tell me"),
}


@pytest.mark.parametrize("call", ASYNC_CALLS.values(), ids=ASYNC_CALLS)
async def test_around_a_model_the_request_is_cancelled_async(call, chat, model_server):
    """The same in asynchronous calls.

    google-genai's asynchronous client keeps a connection when its stream is closed; there only the
    caller stops waiting.
    """
    shown = await call(optimize(chat(), WordLimit(LIMIT)))

    assert SHOWN == shown
    if chat.__name__ != "chat_gemini":
        (log,) = model_server.streams
        assert (await log.ended()).cancelled
        assert log.sent <= LIMIT + SPARE


PIPES = {
    "model": lambda model: _joined((model | WordLimit(LIMIT)).stream("Tell me")),
    "parser": lambda model: _joined(
        (model | StrOutputParser() | WordLimit(LIMIT)).stream("Tell me")
    ),
    "before a parser": lambda model: _joined(
        (model | WordLimit(LIMIT) | StrOutputParser()).stream("Tell me")
    ),
    "bound": lambda model: _joined((model.bind(stop=["\x00"]) | WordLimit(LIMIT)).stream("Hi")),
    "retry": lambda model: _joined((model.with_retry() | WordLimit(LIMIT)).stream("Tell me")),
}


@pytest.mark.parametrize("call", PIPES.values(), ids=PIPES)
def test_behind_a_model_a_stream_is_cancelled(call, chat, model_server):
    """Also through steps that read on to the end when they are merely closed."""
    shown = call(chat())

    (log,) = model_server.streams
    assert (SHOWN, True) == (shown, log.cancelled)
    assert log.sent <= LIMIT + SPARE


@pytest.mark.parametrize("has_parser", [False, True])
async def test_behind_a_model_a_stream_is_cancelled_async(has_parser, model_server):
    """The same in asynchronous pipes."""
    model_server.answer = lambda _: Reply(text=LONG)
    model_server.pace_seconds = 0.002
    model = model_server.chat_openai()
    pipe = model | StrOutputParser() | WordLimit(LIMIT) if has_parser else model | WordLimit(LIMIT)

    shown = await _ajoined(pipe.astream("Tell me"))

    (log,) = model_server.streams
    assert SHOWN == shown
    assert (await log.ended()).cancelled
    assert log.sent <= LIMIT + SPARE


def test_behind_a_model_invoke_is_trimmed_after_it_was_paid(model_server):
    """LangChain gives a step behind the model nothing to stop; around the model there is."""
    model_server.answer = lambda _: Reply(text=LONG)

    assert SHOWN == (model_server.chat_openai() | WordLimit(LIMIT)).invoke("Tell me").text


CAPS = {
    "openai": ("max_completion_tokens", {}, {"max_tokens": 50}),
    "anthropic": ("max_tokens", {}, {"max_tokens": 50}),
    "gemini": ("maxOutputTokens", {"thinking_budget": 0}, {"max_output_tokens": 50}),
}


def _cap_on_the_wire(server: ModelServer, name: str) -> int | None:
    body = server.requests[-1].body
    found: int | None = body.get("generationConfig", body).get(name)
    return found


@pytest.mark.parametrize("provider", CAPS)
@pytest.mark.parametrize("ours_first", [True, False])
def test_max_tokens_reaches_the_wire_and_is_only_lowered(provider, ours_first, model_server):
    """Under each provider's own name, passed with the call or bound."""
    name, settings, lower = CAPS[provider]
    model = optimize(getattr(model_server, f"chat_{provider}")(**settings), WordLimit(LIMIT))

    model.invoke("Tell me")
    assert 224 == _cap_on_the_wire(model_server, name)
    if ours_first:
        model.invoke("Tell me", **lower)
    else:
        model.bind(**lower).invoke("Tell me")
    assert 50 == _cap_on_the_wire(model_server, name)


def test_the_length_is_asked_for_on_the_wire(chat, model_server):
    """As the last line of the last message."""
    optimize(chat(), WordLimit(LIMIT)).invoke([("system", "Be kind."), ("human", "Was ist das?")])

    assert ["Be kind.", "Was ist das?\n\nAntworte in höchstens 20 Wörtern."] == list(
        model_server.requests[-1].texts
    )


class City(BaseModel):
    name: str


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_structured_output_is_not_touched(method, chat, model_server):
    """Neither asked, nor capped, nor cut."""
    model_server.reset()
    if method == "json_schema":
        model_server.answer = lambda _: '{"name": "Saint-Remy-en-Bouzemont and then some"}'
    limit = WordLimit(1)
    plain = chat().with_structured_output(City, method=method)
    staged = optimize(chat(), limit).with_structured_output(City, method=method)

    assert plain.invoke("Which?") == staged.invoke("Which?")
    first, second = model_server.requests
    assert first.body == {
        **second.body,
        **{k: first.body[k] for k in ("stream",) if k in first.body},
    }
    assert {} == limit.compliance()


@tool
def look_up(word: str) -> str:
    """Look up a word."""
    return word


def test_tool_calls_come_through_uncapped(chat, model_server):
    """With tools bound the model is asked for brevity, but neither capped nor stopped."""
    call = ToolCall("look_up", {"word": "one two three four five six"})
    model_server.script(Reply(text="Let me see now.", tool_calls=[call]))

    answer = optimize(chat(), WordLimit(2)).bind_tools([look_up]).invoke("Tell me")

    assert [{"word": "one two three four five six"}] == [c["args"] for c in answer.tool_calls]


def test_an_answer_cut_by_max_tokens_ends_at_a_sentence(model_server):
    """The provider stops in mid-sentence; what is shown does not."""
    model_server.answer = lambda _: Reply(text=LONG)
    limit = WordLimit(max_tokens=27)
    model = optimize(model_server.chat_openai(), limit)

    for answer in (model.invoke("Tell me").text, _joined(model.stream("Tell me"))):
        assert SHOWN == answer
    assert 27 == _cap_on_the_wire(model_server, "max_completion_tokens")
    for _ in range(6):
        model.invoke("Tell me")
    assert 27 < limit.forecaster.quantile(0.5, "default")


def test_raise_cancels_the_request(chat, model_server):
    """The error comes as soon as the limit is passed."""
    with pytest.raises(WordLimitExceededError):
        optimize(chat(), WordLimit(LIMIT, on_exceed="raise")).invoke("Tell me")

    (log,) = model_server.streams
    assert log.cancelled
    assert log.sent <= LIMIT + SPARE


def test_a_reader_who_leaves_cancels_the_request(chat, model_server):
    """Nothing is left running, nothing is counted."""
    limit = WordLimit(500)
    stream = optimize(chat(), limit).stream("Tell me")
    next(stream)

    stream.close()

    (log,) = model_server.streams
    assert log.cancelled
    assert {} == limit.compliance()


def test_in_a_graph_each_agent_has_its_own_compliance(model_server):
    """The agent is the node, in nodes that captured the model long before."""
    model_server.answer = lambda r: Reply(text=LONG if "long" in r.last_text else "Fine.")
    limit, handler = WordLimit(LIMIT), TokenUsageCallbackHandler()
    model = optimize(model_server.chat_openai(), limit)
    graph = StateGraph(MessagesState)
    for name in ("long", "short"):
        chain = RunnableLambda(lambda state, name=name: f"A {name} one") | model
        graph.add_node(name, lambda state, chain=chain: {"messages": [chain.invoke(state)]})
    graph.add_edge(START, "long")
    graph.add_edge("long", "short")
    graph.add_edge("short", END)

    out = graph.compile().invoke({"messages": [("human", "Go")]}, {"callbacks": [handler]})

    assert [SHOWN, "Fine."] == [message.text for message in out["messages"][1:]]
    kept = limit.compliance()
    assert (1, 1) == (kept["long"].stopped, kept["short"].obeyed)
    assert ["estimated", "reported"] == [record.source for record in handler.records]


def test_the_bill_of_a_stopped_answer_is_what_the_server_wrote(chat, model_server):
    """Estimated within a few words, and flagged."""
    handler = TokenUsageCallbackHandler()

    optimize(chat(callbacks=[handler]), WordLimit(LIMIT)).invoke("Tell me")

    (record,) = handler.records
    assert model_server.streams[0].cancelled
    (billed,) = model_server.billed
    assert 0.6 * billed.output_tokens <= record.usage.output_tokens <= 1.4 * billed.output_tokens


def test_a_stream_that_a_pipe_has_stopped_is_no_failure(model_server):
    """The caller has read enough: one call, estimated, as when the caller stops reading."""
    from langchain_tokenopt import TokenUsageCallbackHandler

    usage = TokenUsageCallbackHandler()
    model_server.script(Reply(words=200, pace_seconds=0.002))

    list((model_server.chat_openai() | WordLimit(5)).stream("q", {"callbacks": [usage]}))

    (record,) = usage.records
    assert ("abandoned", "estimated") == (record.status, record.source)
    assert 0 == usage.totals().failed_calls


ONE_SENTENCE = "word " * 900
PROTOCOLS = {
    "chat": {},
    "responses": {"use_responses_api": True},
    "responses, v1": {"use_responses_api": True, "output_version": "v1"},
    "chat, v1": {"output_version": "v1"},
}


@pytest.mark.parametrize("settings", PROTOCOLS.values(), ids=PROTOCOLS)
@pytest.mark.parametrize("how", ["invoke", "stream", "ainvoke", "piped"])
async def test_what_is_added_stands_in_the_same_block(how, settings, model_server):
    """The ellipsis is the end of the text, not a text of its own."""
    model_server.answer = lambda _: Reply(text=ONE_SENTENCE)
    model_server.pace_seconds = 0.002
    chat, limit = model_server.chat_openai(**settings), WordLimit(LIMIT)
    if how == "piped":
        first, *others = (chat | limit).stream("Tell me")
        message = first + others
    elif how == "stream":
        first, *others = optimize(chat, limit).stream("Tell me")
        message = first + others
    elif how == "invoke":
        message = optimize(chat, limit).invoke("Tell me")
    else:
        message = await optimize(chat, limit).ainvoke("Tell me")
    texts = [b["text"] for b in message.content_blocks if b["type"] == "text"]

    assert texts == ["word " * (LIMIT - 1) + "word…"]
    assert message.response_metadata["tokenopt_stopped_by"] == "WordLimit"
    assert message.response_metadata["finish_reason"] == "length"


class _Refusing(GenericFakeChatModel):
    error: Any = None

    def _stream(self, *args, **kwargs):
        raise self.error
        yield


def _with_status(status: int) -> Exception:
    error = RuntimeError(f"HTTP {status}")
    error.status_code = status
    return error


REFUSALS = [NotImplementedError("no streams"), TypeError("unexpected keyword"), _with_status(422)]


@pytest.mark.parametrize("error", [*REFUSALS, _with_status(404)], ids=str)
async def test_a_model_that_refuses_to_stream_is_asked_again_without(error):
    """Whatever the refusal looks like; the answer is trimmed."""
    for how in ("invoke", "ainvoke"):
        model = optimize(_Refusing(messages=iter([AIMessage(LONG)]), error=error), WordLimit(LIMIT))
        with pytest.warns(TokenOptWarning, match="refused to stream"):
            answer = model.invoke("?") if how == "invoke" else await model.ainvoke("?")

        assert answer.text == SHOWN


@pytest.mark.parametrize(
    "error", [_with_status(429), _with_status(401), ConnectionError("gone")], ids=str
)
def test_other_errors_are_the_callers(error):
    """Asking again at once would make a full provider fuller."""
    model = optimize(_Refusing(messages=iter([AIMessage(LONG)]), error=error), WordLimit(LIMIT))
    with pytest.raises(type(error), match=str(error)):
        model.invoke("?")


@pytest.mark.parametrize("how", ["invoke", "ainvoke", "stream", "astream"])
async def test_what_a_pipe_saves_reaches_the_sinks_of_the_scope(how, tmp_path, model_server):
    """As what stages save does; once, also where a part of the pipe has the same sink itself."""
    model_server.answer = lambda _: Reply(text=LONG)
    context = " ".join(f"The bridge of {i} was opened in {1900 + i}." for i in range(90))
    with Ledger(tmp_path / "ledger.db") as ledger:
        pipe = (
            ChatPromptTemplate.from_template("{context}\n\nQuestion: When was bridge 7 opened?")
            | PromptCompressor(200, model="gpt-4o", sinks=[ledger])
            | model_server.chat_openai()
            | WordLimit(LIMIT)
        )
        config = {"metadata": {"agent": "writer"}}
        with token_scope(sinks=[ledger]), track_usage():
            if how == "invoke":
                pipe.invoke({"context": context}, config)
            elif how == "ainvoke":
                await pipe.ainvoke({"context": context}, config)
            elif how == "stream":
                list(pipe.stream({"context": context}, config))
            else:
                async for _ in pipe.astream({"context": context}, config):
                    pass
    with Ledger(tmp_path / "ledger.db") as ledger:
        effects = {effect.stage: effect for effect in ledger.effects()}

    assert set(effects) == {"PromptCompressor", "WordLimit"}
    assert effects["PromptCompressor"].uses == effects["WordLimit"].uses == 1
    assert effects["PromptCompressor"].net_saved_tokens > 500
    assert (effects["WordLimit"].net_saved_tokens > 0) == (how in ("stream", "astream"))
