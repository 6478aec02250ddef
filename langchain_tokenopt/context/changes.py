"""What changes with one call: shorter texts in the place of messages, and what they now weigh."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from langchain_tokenopt.context.decisions import Moment, Step
from langchain_tokenopt.context.importance import Query
from langchain_tokenopt.context.levels import handle_of, is_marked, shortened
from langchain_tokenopt.core.messages import text_of

__all__ = ["Making"]


class Making:
    """Collects what changes.

    Args:
        moment: What is known at this call.
    """

    def __init__(self, moment: Moment) -> None:
        self.moment = moment
        self.messages = moment.conversation.messages
        self.query: Query = moment.query
        self.texts: dict[int, str | None] = {}
        self.handles: dict[str, tuple[int, ...]] = {}
        self.total = moment.tokens
        if moment.is_first:
            self.total += moment.terms.tool_tokens

    def step(self, chosen: Collection[int] | None = None) -> Step | None:
        """Return what changes: all, or of *chosen* messages."""
        texts, handles = self.texts, self.handles
        if chosen is not None:
            texts = {at: text for at, text in texts.items() if at in chosen}
            handles = {h: of for h, of in handles.items() if not {*of}.isdisjoint(texts)}
        return Step(texts, handles) if texts else None

    def size(self, at: int) -> int:
        """Return the tokens of a message as it would be sent now."""
        text = self.text(at)
        if text is None:
            return 0
        sizes, message = self.moment.conversation.sizes, self.messages[at]
        own = at in self.texts or at in self.moment.state.decisions
        return sizes.in_place(message, text) if own else self.moment.conversation.tokens[at]

    def text(self, at: int) -> str | None:
        """Return what a message says now; ``None``: it is set aside."""
        if at in self.texts:
            return self.texts[at]
        decisions = self.moment.state.decisions
        return decisions[at] if at in decisions else text_of(self.messages[at])

    def put(self, at: int, text: str | None, *handled: int) -> bool:
        """Put *text* in the place of a message, if that is shorter."""
        before = self.size(at)
        sizes = self.moment.conversation.sizes
        after = 0 if text is None else sizes.in_place(self.messages[at], text)
        if after >= before:
            return False
        self.texts[at] = text
        self.total -= before - after
        if handled:
            self.handles[handle_of(*(text_of(self.messages[n]) for n in handled))] = handled
        return True

    def result(self, at: int) -> None:
        """Shorten a tool result: to what the question needs, or to a line."""
        text = text_of(self.messages[at])
        if not self.moment.conversation.gain(at) or is_marked(text):
            return
        if not (self.query.is_about(text) and self._part(at)):
            self.line(at)

    def gain(self, at: int) -> int:
        """Return what a tool result would have less."""
        text = text_of(self.messages[at])
        if not is_marked(text) and not self.query.is_about(text):
            return self.moment.conversation.gain(at)
        self.results((at,))
        return self.moment.conversation.tokens[at] - self.size(at)

    def results(self, chosen: Iterable[int]) -> None:
        """Shorten these results."""
        for at in chosen:
            if at not in self.texts:
                self.result(at)

    def line(self, at: int) -> None:
        """Reduce a message to a line."""
        self.put(at, self.moment.conversation.line(at), at)

    def _part(self, at: int) -> bool:
        sizes, mark = self.moment.conversation.sizes, self.moment.terms.mark
        tokens, message = self.moment.conversation.tokens[at], self.messages[at]
        made = shortened(message, self.query, tokens, mark, sizes.of_text)
        return made is not None and self.put(at, made, at)
