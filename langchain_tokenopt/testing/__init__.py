"""For demos, tests and evaluation: a stand-in for a chat model, and a sink that keeps events.

:class:`ExtractiveChatModel` is not a language model and does not pretend to be one. It answers with
sentences that stand in its prompt. What is real about it is everything around the text: it obeys
word limits, ``max_tokens`` and ``stop``, streams, calls tools, fills schemas, and reports the
tokens that its prompt and its answer really have.
"""

from __future__ import annotations

from langchain_tokenopt.testing.events import EventList
from langchain_tokenopt.testing.extractive import NOTE, ExtractiveChatModel

__all__ = ["NOTE", "EventList", "ExtractiveChatModel"]
