"""Sound, images and video in an answer, where the provider's report does not count them apart.

langchain-google-genai (4.4) drops the tokens by modality that Gemini reports, so that an image
looks like 1,290 tokens of text, at a twelfth of its price. What a model has written in words can be
counted; what is left of its output was the medium.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from langchain_core.messages import BaseMessage

from langchain_tokenopt.core.media import IMAGE_BLOCKS
from langchain_tokenopt.core.usage import Usage

__all__ = ["with_media"]

_MEDIA: Final = ("image", "audio", "video")


def with_media(usage: Usage, messages: Iterable[BaseMessage], words: Callable[[], int]) -> Usage:
    """Count the media of an answer apart.

    Of an answer with several media the first is taken for all: images, sound, video.

    Args:
        usage: As the provider reports it.
        messages: The answer, or answers.
        words: Counts what was written in words.

    Example:
        >>> from langchain_core.messages import AIMessage
        >>> drawn = AIMessage(["Here.", {"type": "image_url", "image_url": {"url": "data:..."}}])
        >>> with_media(Usage(20, 1_292), [drawn], lambda: 2)
        Usage(input_tokens=20, output_tokens=1292, output_image_tokens=1290)
    """
    if any(getattr(usage, f"output_{medium}_tokens") for medium in _MEDIA):
        return usage
    found = {medium for message in messages for medium in _media_in(message)}
    medium = next((medium for medium in _MEDIA if medium in found), None)
    if medium is None:
        return usage
    tokens = max(0, usage.output_tokens - usage.reasoning_tokens - words())
    return replace(usage, **{f"output_{medium}_tokens": tokens})


def _media_in(message: BaseMessage) -> Iterator[str]:
    if message.additional_kwargs.get("audio"):  # OpenAI and Gemini put sound beside the content
        yield "audio"
    if isinstance(message.content, str):
        return
    for block in message.content:
        if isinstance(block, Mapping):
            yield from _medium_of(block)


def _medium_of(block: Mapping[str, Any]) -> Iterator[str]:
    kind = str(block.get("type"))
    if kind in IMAGE_BLOCKS or kind == "image_generation_call":
        yield "image"
    elif kind in ("audio", "output_audio"):
        yield "audio"
    elif kind == "video":
        yield "video"
    elif kind in ("media", "file"):
        mime = str(block.get("mime_type") or block.get("mimeType") or "")
        yield from (medium for medium in _MEDIA if mime.startswith(f"{medium}/"))
