"""What a webhook is sent: the body, and the signature that proves where it is from."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
from typing import Any, Final, Literal

from langchain_tokenopt.core.printable import printable
from langchain_tokenopt.core.records import BudgetEvent, CallRecord, Saving, UsageEvent
from langchain_tokenopt.export.event_json import as_json, type_of
from langchain_tokenopt.pricing.money import format_usd

__all__ = ["WebhookFormat", "body_of", "key_of", "signature_headers"]

WebhookFormat = Literal["json", "slack"]

_MENTION: Final = re.compile(r"(?<!\w)@(?=\w)")
_SECRET_PREFIX: Final = "whsec_"


def body_of(event: UsageEvent, format: WebhookFormat) -> bytes:
    """Return the body of the request, in JSON.

    Example:
        >>> event = BudgetEvent(kind="alert", budget="desk", agent="<!channel>", spent_tokens=760,
        ...                     held_tokens=0, limit_tokens=1_000, detail="75% spent or held")
        >>> print(json.loads(body_of(event, "slack"))["text"])
        Budget desk: 75% spent or held. 760 of 1,000 tokens spent, 0 held (agent &lt;!channel&gt;).
    """
    if format == "slack":
        shown: dict[str, Any] = {
            "text": _escaped(_sentence(event)),
            "unfurl_links": False,
            "unfurl_media": False,
        }
    else:
        shown = as_json(event)
    return json.dumps(shown, default=str).encode()


def _sentence(event: UsageEvent) -> str:
    if isinstance(event, BudgetEvent):
        kind = "" if event.kind == "alert" else f"{event.kind}: "
        whose = "".join(
            f", {what} {name}"
            for what, name in (("user", event.user), ("organization", event.organization))
            if name is not None
        )
        return (
            f"Budget {event.budget}: {kind}{event.detail or 'no details'}. "
            f"{event.spent_tokens:,} of {event.limit_tokens:,} tokens spent, "
            f"{event.held_tokens:,} held (agent {event.agent}{whose})."
        )
    if isinstance(event, CallRecord):
        return (
            f"Agent {event.agent} called {event.model or 'a model'} ({event.status}): "
            f"{event.spent_tokens:,} tokens, {format_usd(event.cost_nano_usd)}."
        )
    if isinstance(event, Saving):
        return f"{event.stage} saved {event.saved_tokens:,} tokens of agent {event.agent}."
    return str(type_of(event))


def _escaped(text: str) -> str:
    """Return *text* as data: no markup of Slack's, no mention of anybody.

    A name like ``@here`` is no mention in Slack, but is one in services that read the same format:
    a word joiner keeps it from being one.

    Source: https://docs.slack.dev/messaging/formatting-message-text, "Escaping text" (2026-11)
    """
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(character, entity)
    return _MENTION.sub("@\N{WORD JOINER}", printable(text))


def key_of(secret: str) -> bytes:
    """Return the bytes of a secret; one that begins with ``whsec_`` goes on in base64.

    Raises:
        ValueError: It is empty, or is no base64.
    """
    encoded = secret.removeprefix(_SECRET_PREFIX)
    try:
        key = encoded.encode() if encoded == secret else base64.b64decode(encoded, validate=True)
    except binascii.Error:
        key = b""
    if not key:
        raise ValueError('secret is empty, or begins with "whsec_" and does not go on in base64.')
    return key


def signature_headers(key: bytes, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers by which a receiver checks that *body* is ours, and how old it is.

    Example:
        >>> signature_headers(b"key", "m-1", 1_800_000_000, b"{}")["webhook-signature"][:3]
        'v1,'

    Source:
        https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md,
        "Signature scheme" (2026-11): HMAC-SHA256 of ``id.timestamp.body``, in base64
    """
    signed = f"{message_id}.{timestamp}.".encode() + body
    digest = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{digest}",
    }
