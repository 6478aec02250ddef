"""What images, audio and files cost, whichever form their content block has."""

from __future__ import annotations

import base64
import math
import struct
from typing import Any

import pytest
from langchain_core.messages import HumanMessage

from langchain_tokenopt.counting.request_tokens import count_messages, image_tokens
from langchain_tokenopt.counting.tokens import TokenCount

# --- images --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "width", "height", "detail", "expected"),
    [
        # OpenAI's guide.
        ("gpt-4o", 1024, 1024, "high", 765),
        ("gpt-4o", 2048, 4096, "high", 1105),
        ("gpt-4o", 4096, 8192, "low", 85),
        ("gpt-4.1-mini", 1024, 1024, None, math.ceil(1024 * 1.62)),
        ("gpt-4.1-mini", 1800, 2400, None, math.ceil(1452 * 1.62)),
        # Boundaries of the rules, from the formula.
        ("gpt-4o", 1, 1, "high", 255),
        ("gpt-4o", 512, 512, "high", 255),
        ("gpt-4o", 513, 512, "high", 425),
        ("gpt-4o", 768, 2048, "high", 1445),
        ("gpt-4o", 1500, 2001, "high", 1105),
        ("gpt-4o-mini", 512, 512, "high", 2833 + 5667),
        ("gpt-4o-mini", 512, 512, "low", 2833),
        ("gpt-5", 512, 512, "high", 210),
        ("o1", 512, 512, "high", 225),
        ("o4-mini", 32, 32, None, 2),
        ("gpt-4.1-nano", 33, 32, None, 5),
        ("gpt-4.1-nano", 1024, 1536, None, math.ceil(1536 * 2.46)),
        # Billed, as users have measured.
        ("gpt-4.1", 2049, 513, "high", 1445),
        ("gpt-4.1", 2050, 513, "high", 765),
        ("gpt-4o", 128, 64, "high", 255),
        ("o3", 128, 64, "low", 75),
        ("gpt-5-mini", 1280, 720, None, 1104),
        ("gpt-5-mini", 2048, 768, None, 1844),
        ("gpt-5.5", 3840, 2160, None, 9792),
        ("gpt-5.5", 4032, 3024, None, 11868),
        ("gpt-6-astra", 4032, 3024, "high", 2942),
        ("gpt-6-astra", 2560, 1440, "high", 2931),
        ("gpt-6-astra", 4032, 3024, None, 14364),
        ("claude-haiku-4-5", 256, 256, None, 100),
        ("claude-haiku-4-5", 1024, 1024, None, 1369),
        ("claude-haiku-4-5", 1280, 720, None, 1196),
        ("claude-haiku-4-5", 1920, 1080, None, 1560),
        ("claude-opus-5-5", 1920, 1080, None, 2691),
        # The providers' documents.
        ("claude-opus-4-7", 10_000, 5_625, None, 4784),
        ("gemini-2.5-pro", 384, 384, None, 258),
        ("gemini-2.5-pro", 960, 540, None, 6 * 258),
        ("gemini-3-pro-preview", 4000, 3000, None, 1120),
    ],
)
def test_counts_an_image_as_its_provider_bills_it(
    model: str, width: int, height: int, detail: str | None, expected: int
) -> None:
    """Every image rule meets the examples and measurements that are known for it."""
    assert image_tokens(width, height, model, detail=detail).tokens == expected


@pytest.mark.parametrize(("width", "height"), [(1, 10**7), (10**7, 1), (0, 0), (20_000, 20_000)])
@pytest.mark.parametrize(
    "model", ["gpt-4o", "gpt-4.1-mini", "gpt-6", "claude-opus-4-7", "gemini-2.5-pro", "acme"]
)
def test_extreme_images_cost_a_bounded_number_of_tokens(
    model: str, width: int, height: int
) -> None:
    """No shape of image breaks a rule."""
    assert image_tokens(width, height, model).tokens > 0


def _png(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, height) + bytes(2_000)


def _gif(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + bytes(2_000)


def _jpeg(width: int, height: int, *, before: int = 100) -> bytes:
    segments = b""
    while before > 0:
        size = min(before, 60_000)
        segments += b"\xff\xe1" + struct.pack(">H", size + 2) + b"\xff\xc0" * (size // 2)
        segments += b"" if size % 2 == 0 else b"\x00"
        before -= size
    frame = b"\xff\xff\xc2" + struct.pack(">HBHHB", 17, 8, height, width, 3)
    return b"\xff\xd8" + segments + frame + bytes(2_000)


def _webp(kind: bytes, width: int, height: int) -> bytes:
    if kind == b"VP8X":
        body = bytes(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    elif kind == b"VP8L":
        body = b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14)
    else:
        body = b"\x00\x00\x00\x9d\x01\x2a" + struct.pack("<HH", width | 1 << 14, height)
    return b"RIFF" + bytes(4) + b"WEBP" + kind + bytes(4) + body + bytes(2_000)


IMAGES = {
    "png": _png(1000, 600),
    "gif": _gif(1000, 600),
    "jpeg": _jpeg(1000, 600),
    "jpeg with a long head": _jpeg(1000, 600, before=400_000),
    "webp lossy": _webp(b"VP8 ", 1000, 600),
    "webp lossless": _webp(b"VP8L", 1000, 600),
    "webp extended": _webp(b"VP8X", 1000, 600),
}


@pytest.mark.parametrize("content", IMAGES.values(), ids=IMAGES.keys())
def test_reads_the_size_of_an_image_from_its_header(content: bytes) -> None:
    """PNG, JPEG, GIF and WebP need no image library."""
    block = {"type": "image", "base64": base64.b64encode(content).decode()}
    expected = image_tokens(1000, 600, "gpt-4o")

    count = count_messages([HumanMessage([block])], model="gpt-4o")

    assert count == TokenCount(7 + expected.tokens, exact=True)


def test_a_cut_off_image_is_assumed_to_be_of_common_size() -> None:
    """A header that ends too early is no reason to fail."""
    for content in (_png(10, 10)[:18], _jpeg(10, 10)[:60], b"\xff\xd8\x00\x00", _gif(0, 0)):
        block = {"type": "image", "base64": base64.b64encode(content).decode()}

        count = count_messages([HumanMessage([block])], model="gpt-4o")

        assert count == TokenCount(7 + 765, exact=False)


ENCODED = base64.b64encode(_png(1000, 600)).decode()
DATA_URL = f"data:image/png;base64,{ENCODED}"
IMAGE_BLOCKS = {
    "openai": {"type": "image_url", "image_url": {"url": DATA_URL}},
    "openai short": {"type": "image_url", "image_url": DATA_URL},
    "responses": {"type": "input_image", "image_url": DATA_URL, "detail": "high"},
    "standard v0": {
        "type": "image",
        "source_type": "base64",
        "data": ENCODED,
        "mime_type": "image/png",
    },
    "standard v1": {"type": "image", "base64": ENCODED, "mime_type": "image/png"},
    "anthropic": {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": ENCODED},
    },
    "google": {"type": "media", "mime_type": "image/png", "data": ENCODED},
    "bytes": {"type": "image", "source": {"bytes": _png(1000, 600)}},
}


@pytest.mark.parametrize("block", IMAGE_BLOCKS.values(), ids=IMAGE_BLOCKS.keys())
def test_an_image_counts_the_same_in_every_form(block: dict[str, Any]) -> None:
    """LangChain's and the providers' spellings of one image are one image."""
    message = HumanMessage([{"type": "text", "text": "Hello"}, block])

    count = count_messages([message], model="gpt-4o")

    assert count == TokenCount(8 + image_tokens(1000, 600, "gpt-4o").tokens, exact=True)


def test_a_low_detail_image_costs_the_base() -> None:
    """``detail`` is read where it stands."""
    block = {"type": "image_url", "image_url": {"url": DATA_URL, "detail": "low"}}

    assert count_messages([HumanMessage([block])], model="gpt-4o") == TokenCount(92, exact=True)


@pytest.mark.parametrize(
    "block",
    [
        {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}},
        {"type": "image", "url": "https://example.com/cat.png"},
        {"type": "image", "file_id": "file-123"},
        {"type": "image"},
    ],
)
def test_an_image_of_unknown_size_is_an_estimate(block: dict[str, Any]) -> None:
    """An image behind an address counts as 1024 by 1024 pixels; nothing is fetched."""
    count = count_messages([HumanMessage([block])], model="gpt-4o")

    assert count == TokenCount(7 + 765, exact=False)


# --- audio, files ---------------------------------------------------------------------------------


def _wav(seconds: int) -> str:
    header = b"RIFF" + bytes(4) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 8000, 1, 8)
    return base64.b64encode(header + b"data" + bytes(4) + bytes(8_000 * seconds)).decode()


@pytest.mark.parametrize(
    ("model", "per_second"), [("gpt-4o-audio-preview", 10), ("gemini-2.5-pro", 32)]
)
def test_audio_is_counted_by_its_length(model: str, per_second: int) -> None:
    """A WAV file says how long it is."""
    block = {"type": "input_audio", "input_audio": {"data": _wav(12), "format": "wav"}}
    bare = count_messages([HumanMessage("")], model=model).tokens

    assert count_messages([HumanMessage([block])], model=model).tokens - bare == 12 * per_second


def test_a_document_is_counted_by_its_pages() -> None:
    """A PDF of three pages costs three pages."""
    pdf = b"%PDF-1.4 /Type /Pages /Type /Page /Type/Page\n/Type /Page>>"
    block = {
        "type": "file",
        "base64": base64.b64encode(pdf).decode(),
        "mime_type": "application/pdf",
    }

    count = count_messages([HumanMessage([block])], model="gemini-2.5-pro")

    assert count == TokenCount(3 * 258, exact=False)


@pytest.mark.parametrize(
    "block",
    [
        {"type": "text-plain", "text": "hello world"},
        {"type": "file", "mime_type": "text/plain", "base64": "aGVsbG8gd29ybGQ="},
        {"type": "document", "source": {"media_type": "text/plain", "data": "hello world"}},
    ],
    ids=["v1", "base64", "anthropic"],
)
def test_a_text_file_is_counted_as_its_text(block: dict[str, Any]) -> None:
    """A file whose content is text costs its text."""
    assert count_messages([HumanMessage([block])], model="gpt-4o").tokens == 7 + 2
