"""How a setting of a request is read: from the call, else from the model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from langchain_core.language_models import BaseChatModel

__all__ = ["Settings"]


class Settings:
    """What a call and its model say, under the names of every integration.

    The call's own keyword arguments come first, then the model's declared fields, then the model's
    ``model_kwargs``, which integrations send on as they are. ``None`` says nothing.

    Args:
        model: The model that is asked.
        kwargs: What was bound to it or passed with the call.

    Example:
        >>> from langchain_core.language_models import FakeListChatModel
        >>> settings = Settings(FakeListChatModel(responses=["yes"]), {"max_tokens": 50})
        >>> settings.first(("max_output_tokens", "max_tokens"))
        50
    """

    __slots__ = ("_fields", "_model", "_more", "kwargs")

    def __init__(self, model: BaseChatModel, kwargs: Mapping[str, Any]) -> None:
        self.kwargs = kwargs
        self._model = model
        self._fields = type(model).model_fields
        self._more: Mapping[str, Any] = getattr(model, "model_kwargs", None) or {}

    def get(self, name: str) -> Any:
        """Return the setting *name*; ``None`` where nobody has set it."""
        asked = self.kwargs.get(name)
        if asked is None and (name in self._fields or self._more):
            return self.of_model(name)
        return asked

    def of_model(self, name: str) -> Any:
        """Return what the model says of *name*, whatever the call says."""
        own = getattr(self._model, name, None) if name in self._fields else None
        return self._more.get(name) if own is None else own

    def first(self, names: Iterable[str]) -> Any:
        """Return the first of several settings that somebody has set."""
        return next((found for name in names if (found := self.get(name)) is not None), None)

    def is_declared(self, name: str) -> bool:
        """Whether the model's class has such a setting."""
        return name in self._fields
