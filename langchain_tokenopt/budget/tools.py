"""What a budget uses to make a call smaller: other stages' work, which a socket hands to it.

Stages do not import each other. The socket, which may know them all, makes the budget's stage with
an implementation of :class:`BudgetTools`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from langchain_tokenopt.request.model_request import ModelRequest
from langchain_tokenopt.stage import StageCall

__all__ = ["MADE_UP", "BudgetTools", "TakesTimeError"]

MADE_UP: Final = "[No answer"
"""How a text begins that stands in the place of an answer. Those who read it need no more of it."""


class TakesTimeError(Exception):
    """Shortening is needed, and an event loop would have to wait: the same is asked in a thread."""


class BudgetTools(Protocol):
    """Ways to shorten a prompt and an answer.

    Those that shorten a prompt return a request whose messages have *max_tokens* where that can be,
    else fewer than before or the very same request. System messages, instructions and questions
    stay.
    """

    def frame(self, request: ModelRequest, reports: Sequence[str]) -> Sequence[str]:
        """Return what a request asks, sentence by sentence: the rest of it is material.

        To be read from the request as its caller made it: what is left of material that has been
        shortened may look like a question. What others have said, *reports*, is material.
        """
        ...

    def shorten(
        self,
        request: ModelRequest,
        max_tokens: int,
        frame: Sequence[str],
        known: Sequence[str] = (),
    ) -> ModelRequest:
        """Shorten documents and tool results, by what the question needs; *frame* stays.

        What it does not name is chosen so that others, who were given *known*, read other parts.
        """
        ...

    def shorten_tool_results(self, request: ModelRequest, max_tokens: int) -> ModelRequest:
        """Shorten older tool results; the latest stay."""
        ...

    def hand_over(
        self, request: ModelRequest, reports: Sequence[str], max_tokens: int, frame: Sequence[str]
    ) -> ModelRequest:
        """Shorten *reports* where they stand in the prompt, for all who read them alike.

        What they say on *frame* is kept before other things.
        """
        ...

    def leave_out(
        self, request: ModelRequest, reports: Sequence[str], max_tokens: int, frame: Sequence[str]
    ) -> ModelRequest:
        """Leave a sentence of the least that was handed over of each of *reports*, or nothing."""
        ...

    def word_limit(
        self, request: ModelRequest, words: int | None, cap: int | None
    ) -> StageCall | None:
        """Keep the answer within *words*; end it at a whole sentence where *cap* tokens cut it."""
        ...

    def ask_for(self, request: ModelRequest, words: int) -> ModelRequest:
        """Ask for *words* in the last line of the prompt, in its language."""
        ...

    def tokens_per_word(self, request: ModelRequest) -> float:
        """Return what a word takes in the language of the prompt, on the safe side."""
        ...

    def count_words(self, text: str) -> int:
        """Count words as the limit does."""
        ...
