"""How a view is made: by what holds for a request, and by what was decided at earlier calls."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from langchain_core.messages import BaseMessage

from langchain_tokenopt.context.conversation import Conversation, Sizes, chain_of
from langchain_tokenopt.context.decisions import ContextPolicy, State, Terms
from langchain_tokenopt.context.economics import Horizon, PriceProfile
from langchain_tokenopt.context.epochs import decided, shown
from langchain_tokenopt.context.levels import Mark
from langchain_tokenopt.context.view import ContextView
from langchain_tokenopt.context.window import in_tokens
from langchain_tokenopt.core.attribution import Attribution
from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.core.recent import Recent
from langchain_tokenopt.counting.tokens import steady_counter_of_name

__all__ = ["Viewer"]

_KEEP: Final = 0.6
_REMEMBERED: Final = 512
"""Calls of which to remember what was decided."""


class Viewer:
    """Makes views, and remembers what was decided: no call of a conversation is decided twice.

    Nothing depends on that but the time it takes, and learned horizons: decisions that were made
    are not made anew by what was learned since.

    Args:
        policy: Decides.
        max_tokens: What a request may have at most, in tokens or as a share of the window.
        trigger: From where on it is brought down.
        keep: Share of *trigger* to which it is brought down.
        keep_last: Groups at the end that stay.
        max_extra_cost: What a conversation may cost more than as it came, as a share of that.
        keep_originals: Keeps what a decision has set aside.
    """

    def __init__(
        self,
        policy: ContextPolicy,
        max_tokens: float | None,
        trigger: float | None,
        keep: float | None,
        keep_last: int,
        max_extra_cost: float,
        keep_originals: Callable[[Conversation, State, Attribution], None],
    ) -> None:
        self.horizon = Horizon()
        self._policy = policy
        self._max_tokens, self._trigger = max_tokens, trigger
        self._keep, self._keep_last = keep, keep_last
        self._max_extra_cost = max_extra_cost
        self._keep_originals = keep_originals
        self._decided = Recent[tuple[State, float]](_REMEMBERED)
        """By the conversation up to a call and what holds for it: what was decided, and when."""
        self._sizes: dict[str, Sizes] = {}
        self._has_warned = False

    def terms(
        self, price: PriceProfile, window: int | None, mark: Mark, beside: int, tool_tokens: int = 0
    ) -> Terms:
        """Return what holds for a request.

        Args:
            price: What its model charges.
            window: Tokens that its model takes; ``None``: nobody says.
            mark: How losses are marked.
            beside: Tokens that are no messages.
            tool_tokens: Of the tool that comes with the first mark.
        """
        sizes = [size for size in (self._max_tokens, self._trigger) if isinstance(size, float)]
        if sizes and window is None and not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"ContextCompressor: {sizes[0]} of the model's window was asked for, but the model "
                f"does not say how large that is. Give tokens, or a model with a profile; until "
                f"then there is no limit.",
                TokenOptWarning,
                stacklevel=4,
            )
        most = [n for n in (in_tokens(self._max_tokens, window), window) if n is not None]
        limit = min(most, default=None)
        over = [n for n in (in_tokens(self._trigger, window), limit) if n is not None]
        trigger = min(over, default=None)
        return Terms(
            price=price,
            keep_last=self._keep_last,
            mark=mark,
            limit=limit,
            trigger=trigger,
            target=None if trigger is None else int(self._kept(price) * trigger),
            beside=beside,
            tool_tokens=tool_tokens,
            max_extra_cost=self._max_extra_cost,
        )

    def _kept(self, price: PriceProfile) -> float:
        if self._keep is not None:
            return self._keep
        return _KEEP if price.rewriting(1) else 1.0  # nothing is lost by another step

    def view(
        self, messages: Sequence[BaseMessage], name: str, terms: Terms, made_by: Attribution
    ) -> ContextView:
        """Return the view of a conversation.

        Args:
            messages: All of it.
            name: Of the model.
            terms: What holds for it.
            made_by: Whose it is.
        """
        sizes = self._sizes.get(name)
        if sizes is None:
            sizes = self._sizes[name] = Sizes(name, steady_counter_of_name(name))
        conversation = Conversation(messages, sizes, terms.mark)
        terms = replace(
            terms,
            beside=terms.beside + sizes.frame,
            expected=lambda calls: self.horizon.expected(made_by.agent, calls),
        )
        settings = hash(
            (terms.price, terms.limit, terms.trigger, terms.mark.tool, terms.tool_tokens, name)
        )
        keys, now = chain_of(conversation.keys), time.monotonic()
        state, cold, is_new = State(), False, True
        latest = (self._decided.get((key, settings)) for key in reversed(keys))
        if (found := next(filter(None, latest), None)) is not None:
            state, asked_at = found
            cold = now - asked_at > terms.price.lifetime_seconds
            is_new = state.boundary < len(messages)
        if is_new:
            state = decided(conversation, terms, self._policy, state, cold=cold)
            self.horizon.saw(made_by.agent, max(0, state.calls - 1))
        if state.handles:
            self._keep_originals(conversation, state, made_by)
        if keys:
            self._decided.put((keys[-1], settings), (state, now))
        given = messages if isinstance(messages, list) else list(messages)
        view, before = given, conversation.before[-1] + terms.beside
        after = before
        if state.decisions:
            view, tokens = shown(conversation, state.decisions)
            after = tokens + terms.beside + (terms.tool_tokens if state.steps else 0)
        return ContextView(
            messages=view,
            tokens_before=before,
            tokens_after=after,
            steps=state.steps,
            overrun=0 if terms.limit is None else max(0, after - terms.limit),
            saved=state.saved,
            conversation=conversation,
            state=state,
        )
