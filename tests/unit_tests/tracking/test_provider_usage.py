"""One reader for what a call has used, wherever the numbers stand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock
from uuid import uuid4

import httpx
import pytest
from langchain_core.exceptions import OutputParserException
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, Generation, LLMResult
from pydantic import BaseModel, ValidationError

from langchain_tokenopt import TokenUsageCallbackHandler, track_usage
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.tracking.failed_calls import may_have_been_billed, report_in
from langchain_tokenopt.tracking.provider_usage import (
    CallAnswer,
    OwnCount,
    names_of,
    read_answer,
    read_failure,
)
from langchain_tokenopt.tracking.written_text import written

OWN = OwnCount(lambda: 90, len)
SAID = {"prompt_tokens": 900, "completion_tokens": 1_200, "total_tokens": 2_100}


def _answer(text: str = "four", usage: Any = None, **fields: Any) -> CallAnswer:
    message = AIMessage(text, **fields)
    object.__setattr__(message, "usage_metadata", usage)
    return CallAnswer([ChatGeneration(message=message)])


class TestAnswers:
    """What came back."""

    @pytest.mark.parametrize(
        ("usage", "expected", "source"),
        [
            ({"input_tokens": 9, "output_tokens": 2, "total_tokens": 11}, Usage(9, 2), "reported"),
            ({"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}, Usage(90, 4), "estimated"),
            ({"input_tokens": None, "output_tokens": None}, Usage(90, 4), "estimated"),
            ({"input_tokens": 0, "output_tokens": 7, "total_tokens": 7}, Usage(90, 7), "estimated"),
            ({"input_tokens": 9, "output_tokens": 0, "total_tokens": 9}, Usage(9, 4), "estimated"),
            ({"input_tokens": -1, "output_tokens": -1}, Usage(90, 4), "estimated"),
            ({"input_tokens": 9, "output_tokens": 2**63}, Usage(9, 4), "estimated"),
            ({"input_tokens": 9, "output_tokens": 2, "total_tokens": 40}, Usage(9, 31), "repaired"),
            ({}, Usage(90, 4), "estimated"),
            (None, Usage(90, 4), "estimated"),
        ],
    )
    def test_says_how_it_was_found(self, usage, expected, source):
        """Nothing that is not empty costs nothing."""
        reading = read_answer(_answer(usage=usage), OWN)
        assert (reading.usage, reading.source) == (expected, source)

    def test_an_empty_answer_costs_no_output(self):
        """That is no estimate."""
        usage = {"input_tokens": 9, "output_tokens": 0, "total_tokens": 9}
        assert read_answer(_answer("", usage), OWN).source == "reported"

    @pytest.mark.parametrize("place", ["llm_output", "response_metadata", "generation_info"])
    @pytest.mark.parametrize("name", ["token_usage", "usage", "usage_metadata"])
    def test_finds_the_report_beside_the_message(self, place, name):
        """Where integrations leave what the provider has sent."""
        message = AIMessage("four")
        generation = ChatGeneration(message=message)
        if place == "response_metadata":
            message.response_metadata = {name: SAID}
        elif place == "generation_info":
            generation.generation_info = {name: SAID}
        output = {name: SAID} if place == "llm_output" else None
        reading = read_answer(CallAnswer([generation], output), OWN)
        assert (reading.usage, reading.source) == (Usage(900, 1_200), "reported")

    def test_details_that_the_message_has_lost_are_found(self):
        """Mistral's and Fireworks' integrations keep them beside it only."""
        usage = {"input_tokens": 900, "output_tokens": 1_200, "total_tokens": 2_100}
        raw = {**SAID, "prompt_tokens_details": {"cached_tokens": 800}}
        answer = _answer(usage=usage)._replace(llm_output={"token_usage": raw})
        assert read_answer(answer, OWN).usage == Usage(900, 1_200, 800)

    def test_several_choices_are_one_bill(self):
        """On each message, on the first alone, or each with its own output."""
        same = {"input_tokens": 9, "output_tokens": 6, "total_tokens": 15}
        other = {"input_tokens": 9, "output_tokens": 4, "total_tokens": 13}
        for usages, output in (((same, same), 6), ((same, None), 6), ((same, other), 10)):
            generations = [g for usage in usages for g in _answer(usage=usage).generations]
            assert read_answer(CallAnswer(generations), OWN).usage == Usage(9, output)

    def test_chunks_are_read_one_by_one(self):
        """LangChain has added up their running totals."""
        chunks = [
            AIMessageChunk(
                "word ",
                usage_metadata={"input_tokens": 9, "output_tokens": n, "total_tokens": 9 + n},
            )
            for n in (5, 10)
        ]
        merged = AIMessage(
            "word word ",
            usage_metadata={"input_tokens": 18, "output_tokens": 15, "total_tokens": 33},
        )
        answer = CallAnswer([ChatGeneration(message=merged)], pieces=chunks)
        assert read_answer(answer, OWN).usage == Usage(9, 10)

    def test_a_text_batch_is_billed_with_its_first_prompt(self):
        """LangChain empties the reports of the others."""
        later = CallAnswer([Generation(text="four")], {"token_usage": {}}, batch_size=3)
        assert read_answer(later, OWN).usage == Usage()
        alone = later._replace(batch_size=1)
        assert read_answer(alone, OWN).usage == Usage(90, 4)


class TestNames:
    """Who has answered, in which tier."""

    @pytest.mark.parametrize(
        ("said", "tier"),
        [
            ({"service_tier": "flex"}, "flex"),
            ({"service_tier": "flexflex"}, "flex"),
            ({"service_tier": "default"}, None),
            ({"service_tier": "default", "usage": {"speed": "fast"}}, "fast"),
            ({"usage": {"service_tier": "batch"}}, "batch"),
            ({"usage": {"service_tier": "standard", "speed": "standard"}}, None),
            ({"serviceTier": {"type": "priority"}}, "priority"),
            ({"serviceTier": {"type": "default"}}, None),
            ({"service_tier": 7, "usage": "none"}, None),
        ],
    )
    def test_the_tier_is_found(self, said, tier):
        """Beside the answer, or in its usage."""
        assert names_of(_answer(response_metadata=said)).service_tier == tier

    @pytest.mark.parametrize(
        ("said", "name"),
        [
            ("gpt-5gpt-5", "gpt-5"),
            ("openai/gpt-5openai/gpt-5openai/gpt-5", "openai/gpt-5"),
            ("o1o1", "o1"),
            ("gpt-5", "gpt-5"),
            ("command-r", "command-r"),
        ],
    )
    def test_an_exact_repetition_is_undone(self, said, name):
        """Merging chunks appends a name to itself."""
        assert names_of(_answer(response_metadata={"model_name": said})).model == name


class TestWritten:
    """What the model wrote."""

    @pytest.mark.parametrize(
        "message",
        [
            AIMessage("b", additional_kwargs={"reasoning_content": "a"}),
            AIMessage("b", additional_kwargs={"reasoning": "a"}),
            AIMessage("b", additional_kwargs={"reasoning_content": "a", "reasoning": "a"}),
            AIMessage("b", additional_kwargs={"reasoning_details": [{"text": "a", "id": "x"}]}),
            AIMessage("b", additional_kwargs={"thinking": {"text": "a", "signature": "xyz"}}),
            AIMessage([{"type": "thinking", "thinking": "a", "signature": "s"}, {"text": "b"}]),
            AIMessage([{"type": "thinking", "thinking": [{"type": "text", "text": "a"}]}, "b"]),
            AIMessage([{"type": "reasoning", "summary": [{"text": "a"}]}, {"text": "b"}]),
            AIMessage([{"type": "reasoning_content", "reasoning_content": {"text": "a"}}, "b"]),
            AIMessage(
                [{"type": "reasoning", "reasoning": "a"}, "b"],
                additional_kwargs={"reasoning_content": "a"},
            ),
        ],
    )
    def test_reasoning_counts_once_wherever_it_stands(self, message):
        """In the content, or beside it under any integration's name."""
        assert written(message) == "ab"

    def test_what_was_read_is_not_written(self):
        """Results of a provider's tools, signatures and media are no text of the model."""
        content: list[Any] = [
            {"type": "server_tool_use", "name": "search", "input": {"query": "rain"}, "id": "1"},
            {"type": "web_search_tool_result", "content": [{"text": "a long page"}]},
            {"type": "image", "base64": "AAAA"},
            {"type": "text", "text": "It rains.", "annotations": [{"text": "cited"}]},
        ]
        assert written(AIMessage(content)) == 'search{"query": "rain"}It rains.'

    def test_a_call_of_a_tool_is_written_once(self):
        """Its block repeats it."""
        call = {"name": "add", "args": {"a": 1}, "id": "1", "type": "tool_call"}
        block = {"type": "tool_use", "name": "add", "input": {"a": 1}, "id": "1"}
        assert written(AIMessage([block], tool_calls=[call])) == 'add{"a": 1}'


class _Answer(BaseModel):
    usage: dict[str, int]


def _raised(**attributes: Any) -> Exception:
    error = RuntimeError("cut off")
    for name, value in attributes.items():
        setattr(error, name, value)
    return error


def _response(status: int, body: Any) -> httpx.Response:
    return httpx.Response(status, json=body, request=httpx.Request("POST", "http://127.0.0.1"))


def _chained(cause: BaseException, *, explicit: bool) -> Exception:
    try:
        try:
            raise cause
        except BaseException as error:
            if explicit:
                raise ValueError("wrapped") from error
            raise ValueError("wrapped")  # noqa: B904  that is the case
    except ValueError as error:
        return error


def _not_json() -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        _Answer.model_validate_json('{"usage": {"a')
    return caught.value


class TestFailures:
    """What an exception says about the bill."""

    @pytest.mark.parametrize(
        "error",
        [
            _raised(completion=_Answer(usage=SAID)),
            _raised(body={"usage": SAID}),
            _raised(body={"error": {"details": [{"usage": SAID}]}}),
            _raised(response=_response(200, {"id": "x", "usage": SAID})),
            _chained(_raised(completion=_Answer(usage=SAID)), explicit=True),
            _chained(_raised(response=_response(200, {"usage": SAID})), explicit=False),
            ExceptionGroup("several", [_raised(body={"usage": SAID})]),
            ValueError("cut off", {"usage": SAID}),
        ],
    )
    def test_usage_is_found_in_any_exception(self, error):
        """On the answer, in a body, in the chain, in a group."""
        reading = read_failure(error, CallAnswer(), OWN)
        assert (reading.usage, reading.source) == (Usage(900, 1_200), "exception")

    def test_an_exception_that_was_handled_before_is_not_about_this_call(self):
        """A caller who asks another model while it handles the first one's failure."""
        first = _raised(completion=_Answer(usage=SAID))
        second = _chained(first, explicit=False)
        assert report_in(second) is not None
        assert report_in(second, handled=first) is None

    @pytest.mark.parametrize(
        ("error", "billed"),
        [
            (TimeoutError(), True),
            (httpx.ReadTimeout("slow"), True),
            (_chained(httpx.ReadTimeout("slow"), explicit=True), True),
            (httpx.RemoteProtocolError("gone"), True),
            (ConnectionResetError(), True),
            (KeyboardInterrupt(), True),
            (GeneratorExit(), True),
            (OutputParserException("no JSON", llm_output="four"), True),
            (_not_json(), True),
            (_raised(response=_response(200, {})), True),
            (httpx.ConnectTimeout("no route"), False),
            (httpx.ConnectError("refused"), False),
            (_chained(httpx.ConnectTimeout("no route"), explicit=True), False),
            (ConnectionRefusedError(), False),
            (_raised(status_code=429), False),
            (_raised(code=503), False),
            (_raised(response=_response(429, {"error": "slow down"})), False),
            (_raised(response={"ResponseMetadata": {"HTTPStatusCode": 429}}), False),
            (RuntimeError("a bad prompt"), False),
        ],
    )
    def test_what_was_under_way_is_billed_and_what_was_refused_is_free(self, error, billed):
        """Timed out, interrupted, not to be parsed; or refused, or never connected."""
        assert may_have_been_billed(error) is billed
        reading = read_failure(error, CallAnswer(), OWN)
        assert reading.source == ("estimated" if billed else "unbilled")
        assert (reading.usage.input_tokens == 90) is billed

    def test_an_answer_that_could_not_be_read_has_been_billed(self):
        """Its integration stumbles over it, with the usage in it or without."""
        for body, usage in (({"usage": SAID}, Usage(900, 1_200)), ({}, Usage(90, 0))):
            with pytest.raises(KeyError) as caught:
                self._read({"output": {"text": "four"}} | body)
            assert read_failure(caught.value, CallAnswer(), OWN).usage == usage

    def _read(self, response: dict[str, Any]) -> None:
        response["stopReason"]

    def test_a_call_that_waited_for_its_turn_is_free(self):
        """Nothing was sent."""
        assert read_failure(TimeoutError(), CallAnswer(), OWN, was_sent=False).usage == Usage()

    def test_what_had_arrived_is_billed_with_the_input_that_was_reported(self):
        """Output that was reported by then may be too little."""
        piece = AIMessageChunk(
            "four", usage_metadata={"input_tokens": 70, "output_tokens": 1, "total_tokens": 71}
        )
        answer = CallAnswer(_answer("four", piece.usage_metadata).generations, pieces=[piece])
        reading = read_failure(GeneratorExit(), answer, OWN)
        assert (reading.usage, reading.source) == (Usage(70, 4), "estimated")


ODD: list[Any] = [
    MagicMock(),
    SimpleNamespace(input_tokens=object()),
    {"input_tokens": MagicMock(), "output_tokens": MagicMock(), "total_tokens": MagicMock()},
    {"input_tokens": {"a": {"b": [None]}}, "input_token_details": ["x", 7, None]},
    {"input_tokens": 9, "output_tokens": 2, "input_token_details": "cached"},
    {7: 8, None: 9},
    ["input_tokens", 9],
    "nine",
]


class TestOddReports:
    """Totals go on, whatever was sent."""

    @pytest.mark.parametrize("odd", ODD, ids=[str(at) for at in range(len(ODD))])
    @pytest.mark.parametrize("place", ["message", "llm_output", "names", "error"])
    def test_no_report_is_odd_enough_to_raise(self, odd, place):
        """A flag or an estimate, never an exception, never a silent zero."""
        usage, run_id = TokenUsageCallbackHandler(), uuid4()
        generation = ChatGeneration(message=AIMessage("four"))
        if place == "message":
            object.__setattr__(generation.message, "usage_metadata", odd)
        elif place == "names":
            generation.message.response_metadata = {"model_name": odd, "service_tier": odd}
        result = LLMResult(generations=[[generation]])
        if place == "llm_output":
            result.llm_output = {"token_usage": odd, "usage": odd}
        usage.on_chat_model_start({}, [[AIMessage("2 + 2?")]], run_id=run_id)
        if place == "error":
            usage.on_llm_error(_raised(completion=odd, status_code=odd), run_id=run_id)
        else:
            usage.on_llm_end(result, run_id=run_id)
        totals = usage.totals()
        (record,) = usage.records
        assert totals.calls == 1
        assert record.usage.flaws() == ()
        assert record.source == "unbilled" or record.usage.input_tokens > 0
        assert record.flaws or totals.output_tokens or record.status == "failed"

    def test_a_record_that_cannot_be_made_is_flagged(self):
        """The other calls are counted, and its own tokens too."""

        class Unhashable(dict[str, Any]):
            def get(self, *args: Any) -> Any:
                if args[0] == "thread_id":
                    raise RuntimeError("no threads here")
                return super().get(*args)

        with track_usage() as usage:
            FakeListChatModel(responses=["four"]).invoke("2 + 2?")
            run_id = uuid4()
            answer = _answer(usage={"input_tokens": 9, "output_tokens": 2, "total_tokens": 11})
            usage.on_chat_model_start({}, [[]], run_id=run_id, metadata=Unhashable(a=1))
            usage.on_llm_end(LLMResult(generations=[list(answer.generations)]), run_id=run_id)
        assert usage.totals().calls == 2
        assert usage.records[-1].usage == Usage(9, 2)
        assert "no threads here" in usage.records[-1].flaws[0]


@pytest.mark.parametrize(("total", "output"), [(50, 41), (12, 5), (2**63, 5)])
def test_a_total_without_sides_is_charged(total, output):
    """What it says beyond the input is output; less than was counted is not believed."""
    message = AIMessage("words", response_metadata={"token_usage": {"total_tokens": total}})
    own = OwnCount(lambda: 9, len)
    reading = read_answer(CallAnswer([ChatGeneration(message=message)]), own)
    assert reading.usage == Usage(9, output)
    assert reading.source == "estimated"
    assert reading.flaws


@pytest.mark.parametrize("usage", ["n/a", [1, 2], 7])
def test_usage_that_is_no_mapping_leaves_the_answer_readable(usage):
    class Odd(FakeListChatModel):
        def _generate(self, *args: Any, **kwargs: Any) -> Any:
            result = super()._generate(*args, **kwargs)
            result.generations[0].message.__dict__["usage_metadata"] = usage
            return result

    with track_usage() as seen:
        Odd(responses=["Some words."]).invoke("Hello.")
    (record,) = seen.records
    assert record.source == "estimated"
    assert record.usage.output_tokens > 0


def test_an_exception_carries_an_answer_of_any_class():
    error = ValueError("cut off")
    usage = SimpleNamespace(prompt_tokens=900, completion_tokens=1_200)
    error.completion = SimpleNamespace(usage=usage, client=SimpleNamespace(total_tokens=7))
    assert report_in(error).usage == Usage(900, 1_200)
