"""What images, audio, video and files cost as input, and how they stand in content blocks.

Sizes and lengths are read from the bytes that a block carries, without an image or audio library.
Nothing is fetched: what is only named by an address is taken to be of a common size.
"""

from __future__ import annotations

import base64
import json
import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

__all__ = [
    "ASSUMED_PIXELS",
    "IMAGE_BLOCKS",
    "MEDIA_BLOCKS",
    "Payload",
    "as_text",
    "count_image",
    "count_media",
    "payload_of",
]

IMAGE_BLOCKS: Final = frozenset({"image", "image_url", "input_image"})
"""Types of content blocks that hold an image."""

MEDIA_BLOCKS: Final = frozenset(
    {"audio", "document", "file", "input_audio", "input_file", "media", "text-plain", "video"}
)
"""Types of content blocks that hold audio, video or a file; some hold an image after all."""

# --- images --------------------------------------------------------------------------------------

_Counted = tuple[int, bool]
"""Tokens, and whether the provider publishes the rule and bills by it."""


@dataclass(frozen=True, slots=True)
class _Tiles:
    """OpenAI's older rule: a base, and so much for every tile of 512 pixels.

    The image is first shrunk to 2048 pixels on its long side, then to 768 on its short side.
    """

    base: int
    tile: int

    def count(self, width: int, height: int, detail: str | None) -> _Counted:
        if detail == "low":
            return self.base, True
        shrink = min(1.0, 2048 / max(width, height))
        width, height = max(1, round(width * shrink)), max(1, round(height * shrink))
        shrink = min(1.0, 768 / min(width, height))
        width, height = round(width * shrink), round(height * shrink)
        tiles = math.ceil(width / 512) * math.ceil(height / 512)
        return self.base + self.tile * tiles, True


@dataclass(frozen=True, slots=True)
class _Patches:
    """OpenAI's newer rule: so much for every patch of 32 pixels, within a budget of patches."""

    rate: float
    high: int = 1536
    """Budget of patches for ``detail="high"``."""
    auto: int = 1536
    """Budget for ``"auto"`` and ``"original"``."""
    published: bool = True

    def count(self, width: int, height: int, detail: str | None) -> _Counted:
        budget = self.high if detail in ("high", "low") else self.auto
        patches = math.ceil(width / 32) * math.ceil(height / 32)
        fits = patches <= budget
        if not fits:
            shrink = math.sqrt(32 * 32 * budget / (width * height))
            across, down = width * shrink / 32, height * shrink / 32
            shrink *= min(1, *(math.floor(side) / side for side in (across, down) if side >= 1))
            patches = math.ceil(_snug(width * shrink / 32)) * math.ceil(_snug(height * shrink / 32))
        # Shrunk images are billed a little differently from the published rule.
        tokens = math.ceil(_snug(min(patches, budget) * self.rate))
        return tokens, self.published and fits


def _snug(value: float) -> float:
    """Take off what floating-point arithmetic has added, so that ``ceil`` does not jump."""
    return round(value, 6)


@dataclass(frozen=True, slots=True)
class _Blocks:
    """Anthropic's rule: one token for every block of 28 pixels, within a long side and a budget."""

    long_side: int
    budget: int

    def count(self, width: int, height: int, detail: str | None) -> _Counted:
        longest = max(width, height)
        if longest <= self.long_side and _blocks(width, height) <= self.budget:
            return _blocks(width, height), True
        fits, too_long = 1, min(longest, self.long_side) + 1
        while too_long - fits > 1:
            side = (fits + too_long) // 2
            across, down = _scaled(width, side, longest), _scaled(height, side, longest)
            if _blocks(across, down) <= self.budget:
                fits = side
            else:
                too_long = side
        tokens = _blocks(_scaled(width, fits, longest), _scaled(height, fits, longest))
        return tokens, True


def _blocks(width: int, height: int) -> int:
    return math.ceil(width / 28) * math.ceil(height / 28)


def _scaled(length: int, side: int, longest: int) -> int:
    return max(1, round(length * side / longest))


@dataclass(frozen=True, slots=True)
class _Crops:
    """Google's rule up to Gemini 2.5: 258 tokens a tile, the tile as wide as the image suggests."""

    def count(self, width: int, height: int, detail: str | None) -> _Counted:
        if max(width, height) <= 384:
            return 258, True
        tile = min(max(math.floor(min(width, height) / 1.5), 256), 768)
        return 258 * math.ceil(width / tile) * math.ceil(height / tile), False


@dataclass(frozen=True, slots=True)
class _Flat:
    """As much for every image."""

    tokens: int

    def count(self, width: int, height: int, detail: str | None) -> _Counted:
        return self.tokens, False


class _ImageRule(Protocol):
    def count(self, width: int, height: int, detail: str | None) -> _Counted: ...


_IMAGE_RULES: Final[tuple[tuple[re.Pattern[str], _ImageRule], ...]] = tuple(
    (re.compile(pattern), rule)
    for pattern, rule in (
        (r"claude-(?:opus-4[-.][7-9]|[a-z]+-(?:[5-9]|\d\d)(?!\d))", _Blocks(2576, 4784)),
        (r"claude", _Blocks(1568, 1568)),
        (r"gemini-(?:[3-9]|\d\d)", _Flat(1120)),
        (r"gemini|gemma", _Crops()),
        (r"gpt-4o-mini", _Tiles(2833, 5667)),
        (r"gpt-5-mini", _Patches(1.2, published=False)),
        (r"gpt-5-nano", _Patches(1.5, published=False)),
        (r"gpt-(?:4\.1|5\.\d)-mini", _Patches(1.62)),
        (r"gpt-(?:4\.1|5\.\d)-nano", _Patches(2.46)),
        (r"o4-mini", _Patches(1.72)),
        (r"gpt-5\.[23]", _Patches(1.2, published=False)),
        (r"gpt-5\.4", _Patches(1.2, high=2_500, auto=2_500, published=False)),
        (r"gpt-5\.[5-9]", _Patches(1.2, high=2_500, auto=10_000, published=False)),
        (r"gpt-(?:[6-9]|\d\d)", _Patches(1.2, high=2_500, auto=15_000, published=False)),
        (r"gpt-5", _Tiles(70, 140)),
        (r"o[13](?![a-z0-9])", _Tiles(75, 150)),
        (r"computer-use", _Tiles(65, 129)),
        (r"", _Tiles(85, 170)),
    )
)


def count_image(
    width: int, height: int, name: str, *, detail: str | None = None
) -> tuple[int, bool]:
    """Return what an image costs as input, by the rule for models of that name.

    Args:
        width: In pixels.
        height: In pixels.
        name: Of the model, in lower case and without a provider before it: it decides the rule.
            Names that nobody knows are taken for gpt-4o.
        detail: OpenAI's ``"low"``, ``"high"`` or ``"auto"`` (the default); others ignore it.

    Returns:
        Tokens, and whether the provider publishes the rule and bills by it.

    Source:
        https://platform.openai.com/docs/guides/images-vision#calculating-costs: tiles for gpt-4o,
        gpt-4.1, gpt-4.5, gpt-5, o1 and o3; patches for the mini and nano models and o4-mini.
        Rounding after https://community.openai.com/t/1281361, and no enlarging of small images
        after https://community.openai.com/t/1262691. gpt-5-mini and gpt-5-nano are billed 1.2 and
        1.5 tokens a patch where the guide says 1.62 and 2.46
        (https://community.openai.com/t/1344040); 1.2 for later models and their budgets were
        measured (https://huggingface.co/datasets/JOHNISKING/image-token-cost).
        https://platform.claude.com/docs/en/build-with-claude/vision: 28 pixel blocks; a long side
        of 1,568 pixels and 1,568 tokens, from Opus 4.7 on 2,576 and 4,784.
        https://ai.google.dev/gemini-api/docs/image-understanding: tiles up to Gemini 2.5;
        https://ai.google.dev/gemini-api/docs/media-resolution: up to 1,120 from Gemini 3 on.
        All as of 2026-11-21.

    Example:
        >>> count_image(1024, 1024, "gpt-4o")
        (765, True)
    """
    rule = next(rule for pattern, rule in _IMAGE_RULES if pattern.match(name))
    return rule.count(max(width, 1), max(height, 1), detail)


# --- what a block carries ------------------------------------------------------------------------

ASSUMED_PIXELS: Final = (1024, 1024)
"""Size of an image that is only named by its address or file id."""


@dataclass(frozen=True, slots=True)
class Payload:
    """What a content block carries, whichever of LangChain's or a provider's forms it has."""

    source: bytes | str | None
    """The bytes, base64 text, a data URL or an address."""
    mime: str
    detail: str | None

    @property
    def kind(self) -> str:
        """``image``, ``audio``, ``video``, ``text``, ``application`` or empty."""
        return self.mime.partition("/")[0]

    def content(self, most: int | None = None) -> bytes | None:
        """Return the first *most* bytes, or all; ``None`` for an address or a file id."""
        if self.source is None or isinstance(self.source, bytes):
            return self.source
        if "://" in self.source[:12]:
            return None
        start = self.source.find(",") + 1 if self.source.startswith("data:") else 0
        end = None if most is None else start + most // 3 * 4
        try:
            return base64.b64decode(self.source[start:end].replace("\n", ""), validate=True)
        except ValueError:
            return None

    def pixel_size(self) -> tuple[int, int] | None:
        """Read width and height from the file's head; from all of it where the head is long."""
        for most in (_HEAD_BYTES, None):
            content = self.content(most)
            size = _pixel_size(content) if content else None
            if size is not None:
                return size
        return None

    def plain_text(self) -> str:
        """Return a text file's text, which comes as it is or as base64."""
        content = self.content()
        if content is None:
            return self.source if isinstance(self.source, str) else ""
        return content.decode("utf-8", "replace")


_HEAD_BYTES: Final = 3 * 64 * 1024
_MOST_LAYERS: Final = 8
"""From so many mappings on, no deeper ones are looked for: a block may contain itself."""

_PAYLOAD_KEYS: Final = ("data", "base64", "bytes", "file_data", "url", "image_url")


def as_text(value: Any) -> str:
    """Return a field of a block or schema as text: nothing for ``None``, JSON for what is no text.

    Example:
        >>> as_text("png"), as_text(None), as_text(["a", 1])
        ('png', '', '["a", 1]')
    """
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


def payload_of(block: Mapping[str, Any]) -> Payload:
    r"""Find the bytes, base64 or address in a content block of any form.

    Example:
        >>> url = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0="}}
        >>> payload_of(url).mime, payload_of(url).content()
        ('image/png', b'\x89PNG\r')
    """
    source: bytes | str | None = None
    mime = ""
    detail: str | None = None
    layers: list[Mapping[str, Any]] = [block]
    for layer in layers:  # grows while it is read: {"image_url": {"url": ...}}
        mime = mime or as_text(layer.get("mime_type") or layer.get("media_type"))
        if isinstance(layer.get("format"), str):  # {"input_audio": {"data": ..., "format": "wav"}}
            mime = mime or f"audio/{layer['format']}"
        if isinstance(layer.get("detail"), str):
            detail = detail or layer["detail"]
        candidates = (layer.get(key) for key in _PAYLOAD_KEYS)
        source = source or next((c for c in candidates if isinstance(c, bytes | str) and c), None)
        if len(layers) < _MOST_LAYERS:
            layers.extend(inner for inner in layer.values() if isinstance(inner, Mapping))
    if isinstance(source, str) and source.startswith("data:"):
        mime = source[5:80].partition(",")[0].partition(";")[0] or mime
    kind = as_text(block.get("type")).removeprefix("input_")
    if not mime and kind in _ASSUMED_BYTES_A_SECOND:
        mime = f"{kind}/"
    return Payload(source, mime, detail)


def _pixel_size(content: bytes) -> tuple[int, int] | None:
    """Read width and height from the header of a PNG, JPEG, GIF or WebP file."""
    try:
        if content.startswith(b"\x89PNG\r\n\x1a\n"):
            width, height = struct.unpack_from(">II", content, 16)
        elif content.startswith((b"GIF87a", b"GIF89a")):
            width, height = struct.unpack_from("<HH", content, 6)
        elif content.startswith(b"\xff\xd8"):
            width, height = _jpeg_size(content)
        elif content.startswith(b"RIFF") and content[8:12] == b"WEBP":
            width, height = _webp_size(content)
        else:
            return None
    except (struct.error, IndexError):  # cut off
        return None
    return (width, height) if width and height else None


def _jpeg_size(content: bytes) -> tuple[int, int]:
    """Walk the segments to the start of frame (ITU-T T.81, B.2)."""
    at = 2
    while True:
        marker = content[at + 1]
        if content[at] != 0xFF:
            raise IndexError(at)
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:  # no length
            at += 2
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", content, at + 5)
            return width, height
        else:
            at += 2 + int(struct.unpack_from(">H", content, at + 2)[0])


def _webp_size(content: bytes) -> tuple[int, int]:
    """Read the first chunk (https://developers.google.com/speed/webp/docs/riff_container)."""
    kind = content[12:16]
    if kind == b"VP8X":
        low, high, low_down, high_down = struct.unpack_from("<HBHB", content, 24)
        return 1 + low + (high << 16), 1 + low_down + (high_down << 16)
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", content, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack_from("<HH", content, 26)
    return width & 0x3FFF, height & 0x3FFF


# --- audio, video, files -------------------------------------------------------------------------

_ASSUMED_SECONDS: Final = 30.0
_ASSUMED_BYTES_A_SECOND: Final = {"audio": 16_000, "video": 250_000}
_AUDIO_TOKENS_A_SECOND: Final[Mapping[str, int]] = {"gemini": 32}
_VIDEO_TOKENS_A_SECOND: Final = 263
_PAGE_TOKENS: Final[Mapping[str, int]] = {"gemini": 258, "claude": 3_000, "claude-4.7": 3_000}
_PAGE: Final = re.compile(rb"/Type\s*/Page(?![a-z])")


def count_media(payload: Payload, family: str) -> int:
    """Estimate the tokens of audio and video by their length, of anything else by its pages.

    Args:
        payload: What is sent; nothing behind an address is fetched.
        family: Of the model, by ``counting.model_names.model_family``. ``"claude"``,
            ``"claude-4.7"`` and ``"gemini"`` have rates of their own.

    Source:
        Audio: 10 tokens a second at OpenAI
        (https://platform.openai.com/docs/guides/realtime-costs), 32 at Google, where a second of
        video is 263 (https://ai.google.dev/gemini-api/docs/tokens). A page is 258 tokens at Google
        and 1,500 to 3,000 at Anthropic
        (https://platform.claude.com/docs/en/build-with-claude/pdf-support); 1,500 elsewhere.

    Example:
        >>> count_media(payload_of({"type": "video", "url": "https://example.com/a.mp4"}), "gemini")
        7890
    """
    if payload.kind in _ASSUMED_BYTES_A_SECOND:
        rate = (
            _VIDEO_TOKENS_A_SECOND
            if payload.kind == "video"
            else _AUDIO_TOKENS_A_SECOND.get(family, 10)
        )
        return math.ceil(_seconds(payload) * rate)
    pages = len(_PAGE.findall(payload.content() or b""))
    return max(1, pages) * _PAGE_TOKENS.get(family, 1_500)


def _seconds(payload: Payload) -> float:
    content = payload.content()
    if content is None:
        return _ASSUMED_SECONDS
    if content.startswith(b"RIFF") and content[8:12] == b"WAVE" and len(content) > 44:
        (bytes_a_second,) = struct.unpack_from("<I", content, 28)
        if bytes_a_second:
            return (len(content) - 44) / float(bytes_a_second)
    return len(content) / _ASSUMED_BYTES_A_SECOND[payload.kind]
