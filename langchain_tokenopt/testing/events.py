"""A sink for tests."""

from __future__ import annotations

from langchain_tokenopt.core.records import UsageEvent

__all__ = ["EventList"]


class EventList(list[UsageEvent]):
    """A list that every event is appended to: a sink whose contents a test can look at.

    Example:
        >>> from langchain_tokenopt import track_usage
        >>> from langchain_tokenopt.testing import ExtractiveChatModel
        >>> events = EventList()
        >>> with track_usage(sinks=[events]):
        ...     _ = ExtractiveChatModel().invoke("Who won? Ada won.")
        >>> [(type(event).__name__, event.model) for event in events]
        [('CallRecord', 'extractive-1')]
    """

    def record(self, event: UsageEvent) -> None:
        """Append *event*."""
        self.append(event)
