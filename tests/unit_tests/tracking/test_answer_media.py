"""Drawings and sound that a provider's package does not count apart have their own price."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import replace
from typing import Any

import pytest
from langchain_core.messages import AIMessage

from langchain_tokenopt import BudgetPlan, optimize, track_usage
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.pricing.rate_card import RateCard
from langchain_tokenopt.tracking.answer_media import with_media
from tests.support.model_server import ModelServer
from tests.support.providers import PROVIDERS, Answer

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"0" * 50).decode()


def drawing(model: str) -> Any:
    """Gemini's own answer: a sentence and an image of 1,290 tokens."""
    parts = [{"text": "Here."}, {"inlineData": {"mimeType": "image/png", "data": PNG}}]
    usage = {
        "promptTokenCount": 20,
        "candidatesTokenCount": 1_292,
        "totalTokenCount": 1_312,
        "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 1_290}],
    }
    candidate = {"content": {"role": "model", "parts": parts}, "finishReason": "STOP", "index": 0}
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": model}


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("staged", [False, True], ids=["plain", "under a plan"])
def test_a_drawing_costs_what_drawings_cost(
    model_server: ModelServer, *, staged: bool, is_async: bool
) -> None:
    """To a token or two of the words beside it: $0.0387, and not $0.0032."""
    gemini, model = PROVIDERS["gemini"], "gemini-2.5-flash-image"
    model_server.script(replace(gemini.whole(Answer(usage={})), body=drawing(model)))
    plan = BudgetPlan(total_tokens=100_000, total_usd=1)
    chat: Any = gemini.chat(model_server, model=model)
    with plan.run() as run, track_usage() as usage:
        asked = optimize(chat, plan) if staged else chat
        asyncio.run(asked.ainvoke("Draw.")) if is_async else asked.invoke("Draw.")
    (record,) = usage.records

    assert 1_285 <= record.usage.output_image_tokens <= 1_292
    assert record.cost_nano_usd == pytest.approx(38_700_000, rel=0.005)
    assert record.cost_nano_usd == run.report().account.spent_nano_usd
    assert "output image" in str(RateCard().explain(record))


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (AIMessage([{"type": "image", "base64": PNG}]), "output_image_tokens"),
        (AIMessage([{"type": "audio", "base64": ""}]), "output_audio_tokens"),
        (AIMessage("", additional_kwargs={"audio": {"data": "x"}}), "output_audio_tokens"),
        (AIMessage([{"type": "media", "mime_type": "video/mp4"}]), "output_video_tokens"),
        (AIMessage([{"type": "text", "text": "Rain."}]), None),
        (AIMessage([{"type": "file", "mime_type": "text/plain"}]), None),
        (AIMessage("Rain."), None),
    ],
)
def test_what_is_not_words_is_the_medium(message: AIMessage, field: str | None) -> None:
    """Less the words, and less what was thought."""
    usage = with_media(Usage(5, 100, reasoning_tokens=30), [message], lambda: 10)

    assert usage == Usage(5, 100, reasoning_tokens=30, **({field: 60} if field else {}))


def test_what_the_provider_counts_apart_is_believed() -> None:
    """Also where it is less than all."""
    said = Usage(5, 100, output_audio_tokens=7)
    heard = AIMessage("", additional_kwargs={"audio": {"data": "x"}})

    assert with_media(said, [heard], lambda: 0) is said


def test_media_are_no_more_than_the_output() -> None:
    """Our count of the words can be too high."""
    drawn = AIMessage([{"type": "image", "base64": PNG}])

    assert with_media(Usage(5, 3), [drawn], lambda: 10).output_image_tokens == 0
