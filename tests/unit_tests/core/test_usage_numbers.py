"""What a usage report means, whoever has sent it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import BaseModel

from langchain_tokenopt.core.usage import Usage, judged, read_report
from langchain_tokenopt.core.usage_numbers import combined, numbers_in

WHOLE = Usage(1_000, 120, 600, 50, 20, 80)


class _Sent(BaseModel):
    prompt_tokens: int
    completion_tokens: int


@pytest.mark.parametrize(
    "report",
    [
        {
            "input_tokens": 1_000,
            "output_tokens": 120,
            "total_tokens": 1_120,
            "input_token_details": {
                "cache_read": 600,
                "cache_creation": 0,
                "ephemeral_5m_input_tokens": 30,
                "ephemeral_1h_input_tokens": 20,
            },
            "output_token_details": {"reasoning": 80},
        },
        {
            "input_tokens": 350,
            "cache_creation_input_tokens": 50,
            "cache_read_input_tokens": 600,
            "cache_creation": {"ephemeral_5m_input_tokens": 30, "ephemeral_1h_input_tokens": 20},
            "output_tokens": 120,
            "output_tokens_details": {"thinking_tokens": 80},
            "service_tier": "standard",
        },
        {
            "inputTokens": 350,
            "outputTokens": 120,
            "totalTokens": 1_120,
            "cacheReadInputTokens": 600,
            "cacheWriteInputTokens": 50,
            "cacheDetails": [{"ttl": "5m", "inputTokens": 30}, {"ttl": "1h", "inputTokens": 20}],
            "outputTokensDetails": {"reasoningTokens": 80},
        },
        {
            "prompt_tokens": 1_000,
            "completion_tokens": 120,
            "total_tokens": 1_120,
            "prompt_tokens_details": {
                "cached_tokens": 600,
                "cache_write_tokens": 50,
                "ephemeral_1h_input_tokens": 20,
            },
            "completion_tokens_details": {"reasoning_tokens": 80},
        },
        {
            "promptTokenCount": 800,
            "toolUsePromptTokenCount": 200,
            "candidatesTokenCount": 40,
            "thoughtsTokenCount": 80,
            "cachedContentTokenCount": 600,
            "totalTokenCount": 1_120,
            "cache_write_tokens": 50,
            "ephemeral_1h_input_tokens": 20,
        },
    ],
    ids=["langchain", "anthropic", "bedrock", "openai", "gemini"],
)
def test_each_convention_gives_the_same_usage(report):
    """Totals contain their parts, whoever counts them beside."""
    said = read_report(report)
    assert (said.usage, said.flaws, said.is_repaired) == (WHOLE, (), False)


def test_media_are_parts_of_their_side():
    """As details by name, or as Gemini's lists."""
    named = {"input_token_details": {"audio": 5, "image": 7}, "output_token_details": {"video": 3}}
    listed = {
        "promptTokensDetails": [
            {"modality": "AUDIO", "tokenCount": 5},
            {"modality": "IMAGE", "tokenCount": 7},
            {"modality": "TEXT", "tokenCount": 8},
        ],
        "candidatesTokensDetails": [{"modality": "VIDEO", "tokenCount": 3}],
    }
    whole = {"input_tokens": 20, "output_tokens": 9, "total_tokens": 29}
    expected = Usage(20, 9, input_audio_tokens=5, input_image_tokens=7, output_video_tokens=3)
    assert read_report(whole | named).usage == expected
    assert read_report(whole | listed).usage == expected


@pytest.mark.parametrize(
    "report",
    [
        _Sent(prompt_tokens=9, completion_tokens=2),
        SimpleNamespace(prompt_tokens=9, completion_tokens=2),
        {"prompt_eval_count": 9, "eval_count": 2, "total_duration": 5_000_000},
        {"input_tokens": "9", "output_tokens": 2.0},
        {"input_tokens": 9, "total_tokens": 11},
    ],
    ids=["pydantic", "object", "ollama", "text and float", "output from the total"],
)
def test_reads_any_carrier_of_numbers(report):
    """Mappings, models, objects; whole numbers in any type."""
    assert read_report(report).usage == Usage(9, 2)


@pytest.mark.parametrize(
    ("report", "usage", "flaw"),
    [
        (
            {"input_tokens": 10_120, "output_tokens": 1_499, "total_tokens": 13_019}
            | {"output_token_details": {"reasoning": 1_400}},
            Usage(10_120, 2_899, reasoning_tokens=1_400),
            "total_tokens (13,019)",
        ),
        (
            {"input_tokens": 3, "output_tokens": 12, "total_tokens": 13_256}
            | {"input_token_details": {"cache_creation": 25, "cache_read": 13_216}},
            Usage(13_244, 12, 13_216, 25),
            "cached tokens (13,241) exceed input_tokens (3)",
        ),
        (
            {"input_tokens": 1_600, "output_tokens": 50, "total_tokens": 1_050}
            | {"input_token_details": {"cache_read": 600}},
            Usage(1_000, 50, 600),
            "total_tokens (1,050)",
        ),
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 500}, Usage(10, 490), "500"),
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 3}, Usage(10, 5), "(3)"),
        (
            {"input_tokens": 10, "output_tokens": 5, "input_token_details": {"cache_read": 90}},
            Usage(100, 5, 90),
            "cached tokens (90)",
        ),
    ],
    ids=["reasoning beside", "cache beside", "cache twice", "more", "less", "no total"],
)
def test_the_total_decides_between_conventions(report, usage, flaw):
    """What it does not explain is charged on the dearer side, and said."""
    said = read_report(report)
    assert said.usage == usage
    assert flaw in " ".join(said.flaws)
    assert usage.flaws() == ()


@pytest.mark.parametrize("wrong", [-5, 2**63, "many", float("nan"), True, [7], {"tokens": 7}])
@pytest.mark.parametrize("side", ["input", "output"])
def test_what_is_no_number_is_no_report(side, wrong):
    """That side is left to be counted; the other stands."""
    said = read_report({"input_tokens": 9, "output_tokens": 2} | {f"{side}_tokens": wrong})
    assert said.flaws
    assert (said.has_input, said.has_output) == (side != "input", side != "output")
    assert said.usage == (Usage(0, 2) if side == "input" else Usage(9, 0))


@pytest.mark.parametrize("nothing", [None, {}, [], 7, "9", {"prompt": 9}, object()])
def test_what_says_nothing_is_none(nothing):
    """No report is not a report of 0."""
    assert read_report(nothing) is None


@pytest.mark.parametrize(
    ("chunks", "usage"),
    [
        ([(1_000, 5), (0, 7), (20_000, 28)], Usage(21_000, 40)),
        ([(10_000, 5), (0, 7), (50, 28)], Usage(10_050, 40)),
        ([(1_000, 10), (-200, 30)], Usage(800, 40)),
        ([(1_000, 0), (0, 40)], Usage(1_000, 40)),
        ([(1_000, 5), (1_000, 12), (1_000, 40)], Usage(1_000, 40)),
        ([(1_000, 5), (1_000, 12), (21_000, 40)], Usage(21_000, 40)),
        ([(1_000, 40), (1_000, 40)], Usage(1_000, 40)),
        ([(9, 10), (9, 10), (9, 10), (9, 10)], Usage(9, 40)),
        ([(9, 30), (9, 4), (9, 6)], Usage(9, 40)),
    ],
)
def test_running_totals_are_told_from_steps(chunks, usage):
    """By the input, which nobody hands out in equal pieces."""
    reports = [numbers_in({"input_tokens": i, "output_tokens": o}) for i, o in chunks]
    assert judged(combined(reports, lambda: 40)).usage == usage


def test_details_of_a_bill_that_is_told_twice_are_kept():
    """The second time without them."""
    first: dict[str, Any] = {"input_tokens": 1_000, "output_tokens": 40, "total_tokens": 1_040}
    reports = [numbers_in(first | {"input_token_details": {"cache_read": 800}}), numbers_in(first)]
    assert judged(combined(reports, lambda: 40)).usage == Usage(1_000, 40, 800)
