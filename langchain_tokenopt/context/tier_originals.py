"""Behind each handle of a tier the next one: the same door as for all that was set aside."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from langchain_tokenopt.context.originals import ContextStore

__all__ = ["SentTier", "TierOriginals"]

_ABOUT: Final = ".tier"
"""Behind a handle: under that name stands what it is about."""


class SentTier(NamedTuple):
    """What was sent with a handle."""

    task: str
    """Kind of the task."""
    use: str
    """A hash of the content and the question."""
    level: int
    """Which of all tiers it was."""
    next_level: int
    """Which one stands behind the handle."""
    is_first: bool
    """Whether the use began with it."""


class TierOriginals(ContextStore):
    """A store of originals that says when somebody fetches the next tier.

    Args:
        store: The store in use, of which this is a view.
        fetched: Told once of each handle that is fetched: what was sent, whose it is, the text.
    """

    def __init__(
        self, store: ContextStore, fetched: Callable[[SentTier, str | None, str], None]
    ) -> None:
        self.lifetime = store.lifetime
        self._file = store._file
        self._fetched = fetched

    def keep(
        self,
        texts: Mapping[str, str],
        sent: Mapping[str, SentTier],
        *,
        user: str | None,
        thread: str | None,
    ) -> None:
        """Keep what stands behind handles, and what they are about."""
        about = {handle + _ABOUT: json.dumps(one) for handle, one in sent.items()}
        self.put({**texts, **about}, user=user, thread=thread)

    def get(self, handle: str, *, user: str | None = None, thread: str | None = None) -> str | None:
        """Return the next tier, or whatever else stands behind a handle."""
        if handle.endswith(_ABOUT):
            return None
        text = super().get(handle, user=user, thread=thread)
        about = None if text is None else super().get(handle + _ABOUT, user=user, thread=thread)
        if text is not None and about:
            self.put({handle + _ABOUT: ""}, user=user, thread=thread)  # once
            self._fetched(SentTier(*json.loads(about)), user, text)
        return text
