"""What of a content is sent at first, and where the rest is for those who ask for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

from langchain_tokenopt.compress.content_types import join_documents
from langchain_tokenopt.context.expand import NAME
from langchain_tokenopt.context.levels import Mark, handle_of
from langchain_tokenopt.context.originals import ContextStore
from langchain_tokenopt.context.tier_history import TierHistory
from langchain_tokenopt.context.tier_needs import TierNeeds, Use
from langchain_tokenopt.context.tier_originals import SentTier, TierOriginals
from langchain_tokenopt.context.tiers import Content, Tier, count, marked, tiers_of
from langchain_tokenopt.core.attribution import Attribution
from langchain_tokenopt.core.recent import Recent
from langchain_tokenopt.core.records import Saving, UsageSink
from langchain_tokenopt.core.sinks import notify, with_ambient

__all__ = ["TierSending", "TierStats"]

STAGE: Final = "ProgressiveLoader"


@dataclass(frozen=True, slots=True)
class TierStats:
    """What was sent of a content, and why."""

    tier: str
    """Name of the tier."""
    tokens_before: int
    tokens_after: int
    """Of what was sent, its mark included."""
    task_type: str = ""
    """Kind of the task, as it is learned: as it was given, or what the question and the content are
    like."""
    handle: str | None = None
    """By which the next tier can be fetched; ``None``: there is none, or nobody would answer."""
    reason: str = ""
    """Why this tier."""
    tiers: Mapping[str, int] = field(default_factory=dict)
    """Tokens of all tiers that there are, without their marks."""

    @property
    def saved_tokens(self) -> int:
        """Tokens before minus tokens after."""
        return self.tokens_before - self.tokens_after


class TierSending:
    """Sends of each content one tier, and keeps the larger ones for those who ask for more.

    Args:
        shares: What share of a content each tier may have, by its name, the smallest first.
        history: What was needed before, by users.
        learn: Whether to learn from what is asked for.
        originals: Keeps the tiers that were not sent; ``None``: memory, and nobody asks as yet.
        sinks: Told of each saving, and of what is fetched later.
        remember: Contents of which to remember what was made.
    """

    def __init__(
        self,
        shares: Mapping[str, float],
        history: TierHistory,
        *,
        learn: bool,
        originals: ContextStore | None,
        sinks: Sequence[UsageSink],
        remember: int,
    ) -> None:
        self.can_ask = originals is not None
        """Whether somebody answers handles."""
        self.originals = TierOriginals(originals or ContextStore(), self._fetched)
        self._shares = shares
        self._history = history
        self._needs = TierNeeds([*shares], history if learn else None)
        self._sinks = sinks
        self._made = Recent[tuple[Tier, ...]](remember)

    def sent(self, use: Use, room: int, made_by: Attribution) -> tuple[Content, TierStats]:
        """Return what of a content is sent at first, and what that is.

        Args:
            use: The content, and for what it is.
            room: Tokens that it may have.
            made_by: For whom.
        """
        tiers = self._tiers_of(use, room)
        whole = tiers[-1].tokens
        stats = TierStats(
            tier=tiers[-1].name,
            tokens_before=whole,
            tokens_after=whole,
            task_type=use.task,
            reason="it is short" if whole <= room else "nothing of it can be left out",
            tiers={tier.name: tier.tokens for tier in tiers},
        )
        if len(tiers) == 1:
            return use.content, stats
        at, reason = self._needs.first(use, tiers, room, can_ask=self.can_ask)
        stats = replace(stats, tier=tiers[at].name, reason=reason)
        if at == len(tiers) - 1:
            return use.content, stats
        shown_as = self._marked(tiers)
        handles = [handle_of(_text(content)) for content in shown_as[1:]]
        if self.can_ask:
            self._keep(use, tiers, shown_as, at)
        made = shown_as[at]
        after = count(made)
        self._notify(whole, after, made_by)
        handle = handles[at] if self.can_ask else None
        return made, replace(stats, tokens_after=after, handle=handle)

    def _tiers_of(self, use: Use, room: int) -> tuple[Tier, ...]:
        made = self._made.get((use.digest, room))
        if made is None:
            made = tiers_of(use.content, use.query, self._shares, room)
            self._made.put((use.digest, room), made)
        return made

    def _marked(self, tiers: Sequence[Tier]) -> list[Content]:
        """Return each tier with its mark, by which the next one is fetched."""
        mark = Mark(NAME if self.can_ask else None)
        made = [tiers[-1].content]
        for tier in reversed(tiers[:-1]):
            not_shown = max(1, tiers[-1].tokens - tier.tokens)
            made.append(marked(tier.content, mark.more(not_shown, handle_of(_text(made[-1])))))
        return made[::-1]

    def _keep(self, use: Use, tiers: Sequence[Tier], shown_as: Sequence[Content], at: int) -> None:
        """Keep what was not sent, for those who ask for it."""
        texts, about = {}, {}
        levels = [self._needs.level_of(tier) for tier in tiers]
        for before in range(at, len(tiers) - 1):
            text = _text(shown_as[before + 1])
            handle = handle_of(text)
            texts[handle] = text
            about[handle] = SentTier(
                use.task, use.digest, levels[before], levels[before + 1], before == at
            )
        self.originals.keep(texts, about, user=use.user, thread=use.thread)

    def _fetched(self, sent: SentTier, user: str | None, text: str) -> None:
        self._needs.asked_for_more(sent, user or None)
        self._notify(0, count(text), Attribution(user=user))

    def _notify(self, before: int, after: int, made_by: Attribution) -> None:
        saving = Saving(
            stage=STAGE,
            tokens_before=before,
            tokens_after=after,
            exact=False,
            agent=made_by.agent,
            at=datetime.now(UTC),
        )
        notify(with_ambient(self._sinks), saving)

    def forget(self, user: str) -> int:
        """Delete what was learned from a user, and what was kept for them; return how much."""
        self._needs.forget(user)
        return self._history.forget(user) + self.originals.forget(user=user)

    def clear(self) -> int:
        """Delete everything; return how much."""
        self._needs.forget()
        self._made.clear()
        return self._history.clear() + self.originals.clear()


def _text(content: Content) -> str:
    return content if isinstance(content, str) else join_documents(content)
