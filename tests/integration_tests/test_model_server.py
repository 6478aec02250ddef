"""The model server in tests/support keeps the promises that other tests build on."""

from __future__ import annotations

from tests.support.model_server import ModelServer, Reply


def test_a_stream_that_is_left_early_stops_the_server(model_server: ModelServer) -> None:
    """The server notices that the client has gone and writes no further words."""
    model_server.script(Reply(words=200, pace_seconds=0.005))
    stream = model_server.chat_openai().stream("Hi")
    for _ in range(5):
        next(stream)
    stream.close()
    assert model_server.streams[-1].cancelled
    assert model_server.streams[-1].sent < 50


async def test_an_asynchronous_stream_that_is_left_early_stops_the_server(
    model_server: ModelServer,
) -> None:
    """The same from an event loop."""
    model_server.script(Reply(words=200, pace_seconds=0.005))
    stream = model_server.chat_anthropic().astream("Hi")
    async for _ in stream:
        break
    await stream.aclose()
    assert (await model_server.streams[-1].ended()).cancelled
    assert model_server.streams[-1].sent < 50


def test_an_answer_stops_at_the_limit(model_server: ModelServer) -> None:
    """As a real API does: cut to the token, with the reason, and billed as cut."""
    answers = {
        "length": model_server.chat_openai(max_completion_tokens=4).invoke("Hi"),
        "max_tokens": model_server.chat_anthropic(max_tokens=4).invoke("Hi"),
        "MAX_TOKENS": model_server.chat_gemini(max_output_tokens=4).invoke("Hi"),
    }
    for reason, answer in answers.items():
        meta = answer.response_metadata
        assert (meta.get("finish_reason") or meta.get("stop_reason")) == reason
        assert answer.content == "w0 w1"
        assert answer.usage_metadata is not None
        assert answer.usage_metadata["output_tokens"] == 4


def test_each_test_begins_with_an_empty_server(model_server: ModelServer) -> None:
    """Nothing of another test's script or record is left."""
    assert (model_server.requests, model_server.streams) == ([], [])
    assert model_server.chat_gemini().invoke("Hi").content == "w0 w1 w2 w3 w4 w5 w6 w7"
