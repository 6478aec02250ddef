"""A conversation that is shortened where the model can get back what was set aside."""

from __future__ import annotations

from langchain_tokenopt.context import ContextCompressor
from langchain_tokenopt.context.expand import own_tool
from langchain_tokenopt.context.window import window_of
from langchain_tokenopt.request.model_request import ModelRequest
from langchain_tokenopt.stage import StageCall

__all__ = ["KeptContext"]


class KeptContext(ContextCompressor):
    """A compressor that leaves a request as it is where no tool can fetch what it would set aside.

    A model that calls no tools, or must answer in a form, could not ask for it. Where the request
    would not fit into the model's window it is shortened all the same.

    Example:
        >>> KeptContext.around.__name__
        'ContextCompressor'
    """

    around = ContextCompressor

    def open(self, request: ModelRequest) -> StageCall | None:
        """Shorten a conversation that the model can fetch back, or that is too long for it."""
        if own_tool(request) is None:
            window = window_of(request.model)
            if window is None or request.facts.input_tokens.tokens <= window:
                return None
        return super().open(request)
