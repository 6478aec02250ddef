"""How much of a content one use is sent: by the question, the room, and what was needed before."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from langchain_tokenopt.compress.content_types import join_documents
from langchain_tokenopt.context.question_needs import complexity_of
from langchain_tokenopt.context.tier_choice import first_tier, plain_chances
from langchain_tokenopt.context.tier_history import TierHistory
from langchain_tokenopt.context.tier_originals import SentTier
from langchain_tokenopt.context.tiers import Content, Tier, as_json

__all__ = ["TierNeeds", "Use"]

_REMEMBERED: Final = 4_096
"""Uses of which to remember what was sent."""


@dataclass(frozen=True)
class Use:
    """A content that somebody needs for a question."""

    content: Content
    query: str | None
    user: str | None
    thread: str | None
    task_type: str | None = None

    @cached_property
    def task(self) -> str:
        """Kind of the task: as it was given, or what the question and the content are like."""
        return self.task_type or f"{complexity_of(self.query)}, {_form(self.content)}"

    @cached_property
    def digest(self) -> str:
        """The same for the same content and question."""
        text = self.content if isinstance(self.content, str) else join_documents(self.content)
        data = f"{type(self.content).__name__}\0{self.query or ''}\0{text}"
        return hashlib.blake2b(data.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def _form(content: Content) -> str:
    if not isinstance(content, str):
        return "documents"
    return "text" if as_json(content) is None else "data"


class TierNeeds:
    """Decides which tier is sent first, and learns from what is asked for later.

    What was decided stays: the same content is sent in the same tier for the same question, or in
    the one that was asked for meanwhile.

    Args:
        names: Of all tiers, smallest first.
        history: What was needed before; ``None``: nothing is learned.
    """

    def __init__(self, names: Sequence[str], history: TierHistory | None) -> None:
        self._names = [*names]
        self._history = history
        self._sent: OrderedDict[tuple[str | None, str], int] = OrderedDict()
        self._lock = threading.Lock()

    def first(
        self, use: Use, tiers: Sequence[Tier], room: int, *, can_ask: bool
    ) -> tuple[int, str]:
        """Return the index in *tiers* of the one to send, and why.

        Args:
            use: For what it is.
            tiers: Of its content.
            room: Tokens that may be sent.
            can_ask: Whether somebody can ask for more: only then it is known what is enough.
        """
        levels = [self._names.index(tier.name) for tier in tiers]
        known = self._known(use)
        if known is not None:
            fitting = [at for at, tier in enumerate(tiers) if tier.tokens <= room] or [0]
            return next((at for at in fitting if levels[at] >= known), fitting[-1]), "as before"
        complexity, of_level = complexity_of(use.query), dict(zip(levels, tiers, strict=True))
        shares, share = [], 1.0
        for level in reversed(range(len(self._names))):  # of a tier that is not there, the next
            share = of_level[level].tokens / tiers[-1].tokens if level in of_level else share
            shares.append(share)
        chances, uses = plain_chances(complexity, shares[::-1]), 0.0
        if self._history is not None:
            before = self._history.uses(use.user, use.task)
            chances, uses = before.chances(chances), before.number
        chances = [chances[level] for level in levels]
        at = first_tier([tier.tokens for tier in tiers], chances, room, can_ask=can_ask)
        self._remember(use.user, use.digest, levels[at])
        if self._history is not None and can_ask:
            self._history.sent(use.user, use.task, levels[at])
        return at, f"{complexity}; enough in {chances[at]:.0%}, after {uses:.0f} uses like it"

    def level_of(self, tier: Tier) -> int:
        """Return which of all tiers it is."""
        return self._names.index(tier.name)

    def asked_for_more(self, sent: SentTier, user: str | None) -> None:
        """Learn that what was sent was not enough."""
        with self._lock:
            reached = max(sent.next_level, self._sent.get((user, sent.use), 0))
        self._remember(user, sent.use, reached)
        if self._history is not None:
            self._history.asked_for_more(
                user, sent.task, sent.level, sent.next_level, is_first=sent.is_first
            )
            self._history.reach(user, sent.use, reached)

    def forget(self, user: str | None = None) -> None:
        """Forget what was decided, for a user or for all."""
        with self._lock:
            for key in [key for key in self._sent if user is None or key[0] == user]:
                del self._sent[key]

    def _known(self, use: Use) -> int | None:
        with self._lock:
            known = self._sent.get((use.user, use.digest))
        if known is None and self._history is not None:
            known = self._history.reached(use.user, use.digest)
        return known

    def _remember(self, user: str | None, digest: str, level: int) -> None:
        with self._lock:
            self._sent[user, digest] = level
            self._sent.move_to_end((user, digest))
            while len(self._sent) > _REMEMBERED:
                self._sent.popitem(last=False)
