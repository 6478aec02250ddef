from __future__ import annotations

import base64
import json
import subprocess
import sys
import threading
import warnings
from typing import Any

import pytest
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.prompt_values import ChatPromptValue
from langchain_core.tools import tool
from pydantic import BaseModel, Field

from langchain_tokenopt.counting import tokens
from langchain_tokenopt.counting.calibration import Calibration, calibrate
from langchain_tokenopt.counting.model_names import model_family, model_name_of
from langchain_tokenopt.counting.request_tokens import count_messages, image_tokens
from langchain_tokenopt.counting.tokens import TokenCount, TokenCounter, counter_for

# --- text ----------------------------------------------------------------------------------------

KNOWN_COUNTS = [
    # Published by OpenAI in "How to count tokens with tiktoken".
    ("tiktoken is great!", 6, 6),
    ("antidisestablishmentarianism", 6, 6),
    ("2 + 2 = 4", 7, 7),
    ("お誕生日おめでとう", 9, 8),
    # Taken from tiktoken 0.14.0; another implementation agrees (see the test after next).
    ("", 0, 0),
    ("hello world", 2, 2),
    ("def f(x):\n    return x ** 2\n", 11, 11),
    ("   \t\n\n   indented", 5, 5),
    ("Größere Städte haben häufig überfüllte Straßenbahnen.", 19, 14),
    ("Привет, как дела?", 8, 6),
    ("你好今天天气怎么样", 11, 5),
    ("مرحبا كيف حالك", 11, 5),
    ("नमस्ते", 6, 4),
    ("🎉👩‍👩‍👧🏳️‍🌈", 25, 16),
    ('{"name": "add", "args": {"a": 1.5e-3}}', 20, 20),
    ("1234567890", 4, 4),
    ("don't you'll WE'RE", 6, 5),
    ("HTTPServerErrorCode_v2", 5, 6),
    ("\r\n\r\n", 1, 1),
    ("e\u0301\u0301", 3, 3),
    ("\x00\x01", 2, 2),
]


@pytest.mark.parametrize(("text", "cl100k", "o200k"), KNOWN_COUNTS)
def test_counts_the_tokens_that_openai_counts(text: str, cl100k: int, o200k: int) -> None:
    """OpenAI models are counted with their own vocabularies."""
    counts = [counter_for(model).count(text) for model in ("gpt-4", "gpt-4o")]

    assert counts == [TokenCount(cl100k, exact=True), TokenCount(o200k, exact=True)]


@pytest.mark.parametrize("vocabulary", ["cl100k_base", "o200k_base"])
def test_agrees_with_another_implementation(vocabulary: str) -> None:
    """The numbers do not rest on tiktoken alone."""
    other = pytest.importorskip("bpe_openai").get_encoding(vocabulary)
    texts = [text for text, _, _ in KNOWN_COUNTS]

    expected = [len(other.encode_ordinary(text)) for text in texts]
    actual = [counter_for(vocabulary).count(text).tokens for text in texts]

    assert expected == actual


@pytest.mark.parametrize(
    "text", ["<|endoftext|>", "<|im_start|>system<|im_end|>", "<|fim_prefix|>"]
)
def test_counts_pasted_special_tokens_as_ordinary_text(text: str) -> None:
    """A special token in a user's text is text: it neither raises nor counts as one token."""
    assert counter_for("gpt-4o").count(text).tokens > 3


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-4", "claude-sonnet-4-5"])
@pytest.mark.parametrize("text", ["\ud83d", "a\ud800b", "\udc00" * 50])
def test_counts_lone_surrogates(model: str, text: str) -> None:
    """Broken UTF-16, as JSON may carry it, is counted and not refused."""
    assert 1 <= counter_for(model).count(text).tokens <= 4 * len(text)


@pytest.mark.parametrize("blank", [" ", "\t", "\u3000"])
def test_survives_a_million_blanks(blank: str) -> None:
    """A text that makes tiktoken panic is counted, in pieces, and flagged."""
    text = f"before{blank * 1_000_000}after"

    count = counter_for("gpt-4o").count(text)

    piece = counter_for("gpt-4o").count(blank * 100_000).tokens
    assert count.tokens == pytest.approx(10 * piece, rel=0.01)
    assert not count.exact


def test_counts_long_text_without_long_blanks_exactly() -> None:
    """Length alone does not make a count inexact."""
    count = counter_for("gpt-4o").count("word " * 40_000)

    assert count == TokenCount(40_001, exact=True)


def test_adds_counts() -> None:
    """A sum is exact only when all of it is."""
    assert TokenCount(1, exact=True) + TokenCount(2, exact=True) == TokenCount(3, exact=True)
    assert TokenCount(1, exact=True) + TokenCount(2, exact=False) == TokenCount(3, exact=False)


# --- models --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "same_as"),
    [
        ("gpt-4o-mini-2024-07-18", "o200k_base"),
        ("openai/gpt-4o", "o200k_base"),
        ("openai:gpt-4.1-nano", "o200k_base"),
        ("azure/gpt-4o", "o200k_base"),
        ("azure_openai:gpt-5.4", "o200k_base"),
        ("ft:gpt-4o-2024-08-06:acme:support:9xYz", "o200k_base"),
        ("chatgpt-4o-latest", "o200k_base"),
        ("gpt-4.5-preview", "o200k_base"),
        ("openai.gpt-oss-120b-1:0", "o200k_base"),
        ("o1", "o200k_base"),
        ("o3-mini", "o200k_base"),
        ("o4-mini-2025-04-16", "o200k_base"),
        ("gpt-4", "cl100k_base"),
        ("gpt-4-turbo", "cl100k_base"),
        ("gpt-4-32k-0613", "cl100k_base"),
        ("gpt-35-turbo", "cl100k_base"),
        ("ft:gpt-3.5-turbo:acme", "cl100k_base"),
        ("text-embedding-3-large", "cl100k_base"),
        ("text-embedding-ada-002", "cl100k_base"),
    ],
)
def test_knows_the_vocabulary_of_openai_models(model: str, same_as: str) -> None:
    """Prefixes, dates, deployments and fine-tuning do not hide an OpenAI model."""
    text = "お誕生日おめでとう 你好今天天气怎么样"

    assert counter_for(model).count(text) == counter_for(same_as).count(text)


@pytest.mark.parametrize(
    "model",
    [
        *("gpt4all", "gpt4all-j", "gpt-4all", "gpt4free", "gpt-neox-20b", "gpt-j", "gpt2"),
        *("gpt-4x-moe", "gpt-oss-20b-abliterated", "gpt-4-uncensored", "o1-open", "gpt-4o-eu"),
    ],
)
def test_names_that_only_begin_as_openais_are_not_exact(model: str) -> None:
    """Exact is what OpenAI calls a model, not what somebody else has made of the name."""
    assert not counter_for(model).count("Hello, world!").exact
    assert not count_messages("", model=model).exact


@pytest.mark.parametrize("model", ["gpt-6-astra", "gpt-7", "o5-mini", "prod-gpt-4o-eu"])
def test_guesses_the_vocabulary_of_names_that_look_like_openai(model: str) -> None:
    """A model that OpenAI may have is counted with its newest vocabulary, but not as exact."""
    assert not counter_for(model).count("hello world").exact


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("claude-3-7-sonnet-latest", "claude"),
        ("anthropic:claude-sonnet-4-5", "claude"),
        ("us.anthropic.claude-haiku-4-5-20251001-v1:0", "claude"),
        ("claude-sonnet-4-20250514", "claude"),
        ("claude-opus-4-7", "claude-4.7"),
        ("anthropic/claude-opus-4.8", "claude-4.7"),
        ("claude-sonnet-5-5", "claude-4.7"),
        ("models/gemini-2.5-pro", "gemini"),
        ("google_genai:gemini-3-flash-preview", "gemini"),
        ("mistral-large-latest", "mistral"),
        ("ministral-8b", "mistral"),
        ("mistral:7b", "mistral"),
        ("meta-llama/Llama-3.3-70B-Instruct", "llama"),
        ("ollama:llama3:8b", "llama"),
        ("gpt-4o", "openai"),
        ("gpt-6-astra", "gpt-6-astra"),
        ("acme-7b", "acme-7b"),
        ("", ""),
    ],
)
def test_groups_models_that_share_a_tokenizer(model: str, family: str) -> None:
    """What is learned about one model serves its relatives, and nobody else."""
    assert model_family(model) == family


class _Model(FakeListChatModel):
    responses: list[str] = Field(default_factory=lambda: ["yes"])
    model_name: str = "gpt-4o"


@pytest.mark.parametrize(
    "wrapped",
    [
        _Model(),
        _Model().bind(stop=["."]),
        _Model().with_retry(),
        _Model().with_fallbacks([_Model(model_name="gpt-4")]),
        _Model().bind(stop=["."]).with_retry().with_config(tags=["x"]),
        _Model() | (lambda message: message.content),
    ],
    ids=["model", "bound", "retried", "fallback", "nested", "sequence"],
)
def test_finds_the_name_of_a_wrapped_model(wrapped: Any) -> None:
    """Bindings, retries, fallbacks and sequences are looked through."""
    assert model_name_of(wrapped) == "gpt-4o"


def test_a_bound_model_name_wins() -> None:
    """``model.bind(model=...)`` asks another model, so that one is counted."""
    assert model_name_of(_Model().bind(model="gpt-4")) == "gpt-4"


def test_hands_out_one_counter_per_name() -> None:
    """Asking again costs nothing."""
    assert counter_for("gpt-4o") is counter_for(_Model())


def test_counters_follow_the_protocol() -> None:
    """Whoever wants to count differently implements one method."""
    assert isinstance(counter_for("gpt-4o"), TokenCounter)
    assert isinstance(counter_for("claude-sonnet-4-5"), TokenCounter)


# --- without a vocabulary -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "tolerance"),
    [
        ("The committee will meet again on Thursday to discuss the remaining questions.", 0.2),
        ("def add(first, second):\n    return first + second\n\nprint(add(1, 2))\n", 0.15),
        (json.dumps({"location": "Paris", "unit": "celsius", "days": [1, 2, 3]}, indent=2), 0.15),
        ("你好 今天天气怎么样 我们去公园散步吧。", 0.3),
        ("Größere Städte haben häufig überfüllte Straßenbahnen.", 0.3),
    ],
    ids=["prose", "code", "json", "chinese", "german"],
)
def test_guesses_close_to_the_real_count(text: str, tolerance: float) -> None:
    """Without a vocabulary a count is still of the right size, also for code and JSON."""
    guess = len(tokens._guessed_tokens(text))

    assert guess == pytest.approx(counter_for("o200k_base").count(text).tokens, rel=tolerance)


def test_importing_is_cheap() -> None:
    """The module brings neither a tokenizer nor a network library nor an ML framework."""
    code = (
        "import sys, langchain_tokenopt.counting.request_tokens;"
        "print([m for m in ('tiktoken', 'torch', 'requests', 'numpy', 'bpe_openai',"
        " 'langchain_core.messages', 'langchain', 'sqlalchemy') if m in sys.modules])"
    )

    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert answer.stdout == "[]\n"


# --- calibration ---------------------------------------------------------------------------------


def test_calibration_converges_to_the_reported_ratio() -> None:
    """After some reports the estimate is what the provider counts, also for relatives."""
    text = "The committee will meet again on Thursday. " * 20
    real = 1.37 * counter_for("o200k_base").count(text).tokens

    for _ in range(200):
        estimate = counter_for("claude-sonnet-4-5").count(text).tokens
        calibrate("claude-sonnet-4-5", counted=estimate, reported=round(real))

    assert counter_for("claude-haiku-4-5").count(text).tokens == pytest.approx(real, rel=0.02)


def test_calibration_stays_within_its_family() -> None:
    """What Claude reports changes nothing for Gemini."""
    before = counter_for("gemini-2.5-pro").count("hello world " * 50)

    calibrate("claude-sonnet-4-5", counted=10_000, reported=20_000)

    assert counter_for("gemini-2.5-pro").count("hello world " * 50) == before


def test_calibration_leaves_known_tokenizers_alone() -> None:
    """Where the real tokenizer is at hand, nothing is learned."""
    calibrate("gpt-4o", counted=10_000, reported=20_000)

    assert counter_for("gpt-4o").count("hello world") == TokenCount(2, exact=True)


def test_one_absurd_report_cannot_spoil_the_estimate() -> None:
    """A huge or hugely wrong report moves the factor by a bounded amount."""
    calibration = Calibration(1.0)
    for _ in range(50):
        calibration.observe(counted=2_000, reported=2_000)

    calibration.observe(counted=10_000_000, reported=900_000_000)

    assert 1.0 < calibration.factor < 1.15


def test_calibration_follows_a_changed_tokenizer() -> None:
    """Old reports fade."""
    calibration = Calibration(1.0)
    for _ in range(500):
        calibration.observe(counted=round(5_000 * calibration.factor), reported=5_000)
    for _ in range(500):
        calibration.observe(counted=round(5_000 * calibration.factor), reported=7_500)

    assert calibration.factor == pytest.approx(1.5, rel=0.03)


@pytest.mark.parametrize(("counted", "reported"), [(0, 100), (100, 0), (-5, 100), (100, -5)])
def test_empty_reports_teach_nothing(counted: int, reported: int) -> None:
    """A provider that reports no usage is not believed to count nothing."""
    calibration = Calibration(1.2)

    calibration.observe(counted=counted, reported=reported)

    assert calibration.factor == 1.2


def test_calibrating_from_many_threads_loses_nothing() -> None:
    """Concurrent reports all arrive."""
    together, alone = Calibration(1.0), Calibration(1.0)
    threads = [
        threading.Thread(
            target=lambda: [together.observe(counted=10, reported=10) for _ in range(1_000)]
        )
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for _ in range(8_000):
        alone.observe(counted=10, reported=10)

    assert together._counted == alone._counted == 82_000


# --- messages ------------------------------------------------------------------------------------

COOKBOOK_MESSAGES = [
    {
        "role": "system",
        "content": "You are a helpful, pattern-following assistant that translates corporate "
        "jargon into plain English.",
    },
    {
        "role": "system",
        "name": "example_user",
        "content": "New synergies will help drive top-line growth.",
    },
    {
        "role": "system",
        "name": "example_assistant",
        "content": "Things working well together will increase revenue.",
    },
    {
        "role": "system",
        "name": "example_user",
        "content": "Let's circle back when we have more bandwidth to touch base on opportunities "
        "for increased leverage.",
    },
    {
        "role": "system",
        "name": "example_assistant",
        "content": "Let's talk later when we're less busy about how to do better.",
    },
    {
        "role": "user",
        "content": "This late pivot means we don't have time to boil the ocean for the client "
        "deliverable.",
    },
]


@pytest.mark.parametrize(
    ("model", "billed"),
    [
        ("gpt-3.5-turbo-0613", 129),
        ("gpt-4-0613", 129),
        ("gpt-4", 129),
        ("gpt-4o", 124),
        ("gpt-4o-mini", 124),
    ],
)
def test_counts_messages_as_openai_bills_them(model: str, billed: int) -> None:
    """The worked example of OpenAI's cookbook comes out as the API has billed it."""
    assert count_messages(COOKBOOK_MESSAGES, model=model) == TokenCount(billed, exact=True)


WEATHER_MESSAGES = [
    SystemMessage("You are a helpful assistant that can answer to questions about the weather."),
    HumanMessage("What's the weather like in San Francisco?"),
]
WEATHER_PARAMETERS = {
    "type": "object",
    "properties": {
        "location": {
            "type": "string",
            "description": "The city and state, e.g. San Francisco, CA",
        },
        "unit": {
            "type": "string",
            "description": "The unit of temperature to return",
            "enum": ["celsius", "fahrenheit"],
        },
    },
    "required": ["location"],
}
WEATHER_FUNCTION = {
    "name": "get_current_weather",
    "description": "Get the current weather in a given location",
    "parameters": WEATHER_PARAMETERS,
}


@pytest.mark.parametrize(
    ("model", "billed"),
    [("gpt-3.5-turbo", 105), ("gpt-4", 105), ("gpt-4o", 101), ("gpt-4o-mini", 101)],
)
def test_counts_tools_as_openai_bills_them(model: str, billed: int) -> None:
    """The cookbook's worked example with a tool comes out as the API has billed it."""
    tools = [{"type": "function", "function": WEATHER_FUNCTION}]

    assert count_messages(WEATHER_MESSAGES, tools, model) == TokenCount(billed, exact=True)


def test_the_full_stop_of_a_description_is_free() -> None:
    """OpenAI leaves it out of what the model sees."""
    stopped = {**WEATHER_FUNCTION, "description": f"{WEATHER_FUNCTION['description']}."}

    assert count_messages(WEATHER_MESSAGES, [stopped], "gpt-4o").tokens == 101


@tool
def get_current_weather(location: str) -> str:
    """Get the current weather in a given location."""
    return location


class GetCurrentWeather(BaseModel):
    """Get the current weather in a given location."""

    location: str = Field(description="The city")


@pytest.mark.parametrize(
    "given",
    [
        {"type": "function", "function": WEATHER_FUNCTION},
        WEATHER_FUNCTION,
        {
            "name": "get_current_weather",
            "description": "Get the current weather in a given location",
            "input_schema": WEATHER_PARAMETERS,
        },
    ],
    ids=["openai", "function", "anthropic"],
)
def test_a_tool_counts_the_same_in_every_form(given: dict[str, Any]) -> None:
    """OpenAI's and Anthropic's spelling of one tool are one tool."""
    assert count_messages(WEATHER_MESSAGES, [given], "gpt-4o").tokens == 101


@pytest.mark.parametrize(
    "given", [get_current_weather, GetCurrentWeather], ids=["tool", "pydantic"]
)
@pytest.mark.parametrize("model", ["gpt-4o", "claude-sonnet-4-5", "gemini-2.5-pro"])
def test_counts_tools_that_are_python_objects(given: Any, model: str) -> None:
    """Tools may be given as they are bound."""
    without = count_messages("Hello", model=model).tokens

    assert count_messages("Hello", [given], model).tokens > without + 10


def test_nested_schemas_are_counted_but_not_exact() -> None:
    """The published rule ends at flat schemas; the rest is not left out."""
    nested = {
        "name": "book",
        "description": "Book a trip.",
        "parameters": {
            "type": "object",
            "properties": {
                "stops": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {"city": {"type": "string", "description": "Where to stay"}},
                    },
                }
            },
        },
    }
    flat = {**nested, "parameters": {"type": "object", "properties": {"stops": {"type": "array"}}}}

    with_nested = count_messages("Hello", [nested], "gpt-4o")
    with_flat = count_messages("Hello", [flat], "gpt-4o")

    assert with_nested.tokens > with_flat.tokens + 3
    assert (with_nested.exact, with_flat.exact) == (False, True)


def test_a_schema_that_contains_itself_ends() -> None:
    """A recursive schema is counted to a depth and no further."""
    parameters: dict[str, Any] = {"type": "object", "properties": {}}
    parameters["properties"]["child"] = {"type": "array", "items": parameters}

    count = count_messages("Hello", [{"name": "tree", "parameters": parameters}], "gpt-4o")

    assert 20 < count.tokens < 1_000


def test_a_tool_that_the_provider_runs_is_counted_as_json() -> None:
    """A tool without a schema of ours is an estimate."""
    with_search = count_messages("Hello", [{"type": "web_search_preview"}], "gpt-4o")

    assert with_search.tokens > count_messages("Hello", model="gpt-4o").tokens
    assert not with_search.exact


def test_claude_pays_for_its_tool_instructions() -> None:
    """Anthropic puts a system prompt of its own before the first tool, and bills it."""
    one = count_messages("Hello", [WEATHER_FUNCTION], "claude-sonnet-4-5").tokens
    two = count_messages("Hello", [WEATHER_FUNCTION] * 2, "claude-sonnet-4-5").tokens
    none = count_messages("Hello", model="claude-sonnet-4-5").tokens

    assert one - none - (two - one) == 346


def test_no_tools_cost_nothing() -> None:
    """An empty list of tools is no tools."""
    assert count_messages("Hello", [], "gpt-4o") == count_messages("Hello", model="gpt-4o")


@pytest.mark.parametrize(
    "given",
    [
        "Hello",
        [HumanMessage("Hello")],
        (HumanMessage("Hello"),),
        [("user", "Hello")],
        [{"role": "user", "content": "Hello"}],
        ["Hello"],
        ChatPromptValue(messages=[HumanMessage("Hello")]),
        [HumanMessage([{"type": "text", "text": "Hello"}])],
        [HumanMessage(["Hello"])],
        [HumanMessage([{"text": "Hello"}])],
    ],
    ids=["str", "list", "tuple", "pair", "dict", "strs", "prompt", "block", "part", "bedrock"],
)
def test_takes_what_a_model_takes(given: Any) -> None:
    """One question in any spelling is the same number of tokens: 3 + 1 + 1 + 3."""
    assert count_messages(given, model="gpt-4o") == TokenCount(8, exact=True)


def test_without_a_model_a_count_is_an_estimate() -> None:
    """Nobody is silently counted as OpenAI."""
    assert not count_messages("Hello").exact


def test_counts_a_past_tool_call_as_openai_has_billed_it() -> None:
    """40 tokens were billed for this request; LangChain's spaces in the arguments add two."""
    call = {"name": "calculator", "args": {"a": 2, "b": 2}, "id": "a"}
    messages = [
        HumanMessage("How much is 2 plus 2?"),
        AIMessage("", tool_calls=[call]),
        ToolMessage("4", tool_call_id="a"),
    ]

    assert count_messages(messages, model="gpt-3.5-turbo") == TokenCount(42, exact=False)


def test_counts_a_tool_call_once() -> None:
    """A call that stands in the content as well is not billed twice."""
    call = {"name": "add", "args": {"a": 1}, "id": "1"}
    block = {"type": "tool_use", "name": "add", "input": {"a": 1}, "id": "1"}

    plain = count_messages([AIMessage("", tool_calls=[call])], model="claude-sonnet-4-5")
    doubled = count_messages([AIMessage([block], tool_calls=[call])], model="claude-sonnet-4-5")

    assert plain == doubled


def test_counts_invalid_and_legacy_calls() -> None:
    """What is sent back to the model is counted, also where it could not be parsed."""
    invalid = {"name": "add", "args": '{"a": ', "id": "1", "error": None}
    legacy = {"function_call": {"name": "add", "arguments": '{"a": 1}'}}
    empty = count_messages([AIMessage("")], model="gpt-4o").tokens

    with_invalid = count_messages([AIMessage("", invalid_tool_calls=[invalid])], model="gpt-4o")
    with_legacy = count_messages([AIMessage("", additional_kwargs=legacy)], model="gpt-4o")

    assert with_invalid.tokens > empty + 4
    assert with_legacy.tokens > empty + 4


def test_gemini_reports_bare_text() -> None:
    """Google bills no frame around messages."""
    text = "The quick brown fox jumps over the lazy dog."

    assert count_messages(text, model="gemini-2.5-pro") == counter_for("gemini-2.5-pro").count(text)


# --- images --------------------------------------------------------------------------------------


def test_the_rule_of_an_unknown_model_is_not_exact() -> None:
    """Somebody else's rule is a guess."""
    assert not image_tokens(512, 512, "acme-7b").exact
    assert image_tokens(512, 512, "gpt-4o").exact


# --- other blocks --------------------------------------------------------------------------------

BINARY = base64.b64encode(bytes(range(256)) * 400).decode()

ODD_BLOCKS = [
    {"type": "acme_hologram", "payload": {"deep": [BINARY, {"raw": b"\x00" * 90_000}]}},
    {"type": "acme_hologram", "url": f"data:application/x;base64,{BINARY}"},
    {"image": {"format": "png", "source": {"bytes": bytes(90_000)}}},
    {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{BINARY}"}},
    {"type": "input_audio", "input_audio": {"data": BINARY, "format": "mp3"}},
    {"type": "audio", "base64": BINARY, "mime_type": "audio/wav"},
    {"type": "video", "url": "https://example.com/film.mp4"},
    {"type": "document", "source": {"type": "base64", "data": BINARY}},
    {"type": "thinking", "thinking": "Let me see.", "signature": BINARY},
    {"type": "redacted_thinking", "data": BINARY},
    {"type": "reasoning", "summary": [{"text": "Hm."}], "encrypted_content": BINARY},
    {"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": "4"}]},
    {"type": "tool_result", "tool_use_id": "1", "content": "4"},
    {"type": "tool_use", "name": "add", "input": {"a": 1}, "id": "1"},
    {"type": "refusal", "refusal": "I cannot do that."},
    {"type": "server_tool_call", "name": "web_search", "args": {"q": "x"}},
    {"type": ["not", "a", "string"], "x": object()},
    {"type": "text", "text": None},
    {},
]


@pytest.mark.parametrize("block", ODD_BLOCKS, ids=lambda block: str(block.get("type")))
@pytest.mark.parametrize("model", ["gpt-4o", "claude-sonnet-4-5", "gemini-2.5-pro", "acme-7b"])
def test_no_block_raises_and_no_binary_counts_as_text(block: dict[str, Any], model: str) -> None:
    """Whatever a block holds, it is counted, flagged, and its base64 is not text."""
    message = HumanMessage("")
    message.content = [block]

    count = count_messages([message], model=model)

    assert count.tokens < 10_000
    assert not count.exact


@pytest.mark.parametrize("part", [7, None, 3.5, ["a", "b"]])
def test_a_content_part_of_any_type_is_counted(part: Any) -> None:
    """Not even a part that is no block at all raises."""
    message = HumanMessage("")
    message.content = [part]

    assert not count_messages([message], model="gpt-4o").exact


def test_a_block_that_contains_itself_ends() -> None:
    """A cycle is counted to a depth and no further."""
    block: dict[str, Any] = {"type": "acme"}
    block["self"] = block
    message = HumanMessage("")
    message.content = [block]

    assert count_messages([message], model="gpt-4o").tokens < 1_000


def test_counting_changes_nothing() -> None:
    """Messages and tools are only read."""
    call = {"name": "add", "args": {"a": 1}, "id": "1"}
    image = {"url": "data:image/png;base64,iVBORw0KGgo="}
    messages = [
        HumanMessage([{"type": "text", "text": "Hi"}, {"type": "image_url", "image_url": image}]),
        AIMessage("", tool_calls=[call]),
    ]
    tools = [{"type": "function", "function": WEATHER_FUNCTION}]
    before = [m.model_dump_json() for m in messages], json.dumps(tools)

    count_messages(messages, tools, "gpt-4o")

    assert ([m.model_dump_json() for m in messages], json.dumps(tools)) == before


def test_counting_does_not_warn() -> None:
    """With a vocabulary at hand there is nothing to say."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        count_messages(COOKBOOK_MESSAGES, [WEATHER_FUNCTION], "gpt-4o")


def test_messages_are_counted_by_a_counter_of_your_own():
    """The texts are; the frame stays the model's."""

    class Characters:
        def count(self, text):
            return TokenCount(len(text), exact=True)

    plain = count_messages([("user", "Hello!")], model="gpt-4o")
    counted = count_messages([("user", "Hello!")], model="gpt-4o", counter=Characters())

    assert counted.tokens == plain.tokens - 2 + len("Hello!")


@pytest.mark.parametrize(
    "tool",
    [{}, {"google_search": {}}, {"code_execution": {}}, {"type": "web_search_preview"}],
    ids=str,
)
def test_a_providers_own_tool_is_counted_as_json(tool):
    """Whatever it looks like, beside a function or alone; it never refuses the request."""
    alone = count_messages("Hi", [tool], "gemini-2.5-flash")
    function = {"name": "look_up", "description": "Look up a price.", "parameters": {}}
    both = count_messages("Hi", [tool, function], "gemini-2.5-flash")

    assert alone.tokens >= count_messages("Hi", None, "gemini-2.5-flash").tokens
    assert both.tokens > alone.tokens
