"""A request of ``create_agent`` whose model goes through stages, whichever model that will be."""

from __future__ import annotations

from dataclasses import fields
from functools import partial
from typing import Any, Self, cast

from langchain.agents.middleware.types import ModelRequest

from langchain_tokenopt.chat_model.optimize import put_inside
from langchain_tokenopt.chat_model.staged_model import staged_view
from langchain_tokenopt.stage import Stage

__all__ = ["StagedRequest"]


class StagedRequest(ModelRequest[Any]):
    """Puts stages around every model that it is given.

    Middleware further in may choose another model: a fallback, a cheaper one. That one is staged,
    too, so it does not matter which of them stands first.
    """

    stages: tuple[Stage, ...] = ()
    observe: bool = False

    @classmethod
    def of(cls, request: ModelRequest[Any], stages: tuple[Stage, ...], observe: bool) -> Self:
        """Return *request* with *stages* around its model, besides those that it has.

        Raises:
            TypeError: The model is none that stages can stand around.
            ValueError: The stages contradict each other, or the model's own.
        """
        made = cls(**{field.name: getattr(request, field.name) for field in fields(ModelRequest)})
        if isinstance(request, StagedRequest):
            stages, observe = (*request.stages, *stages), request.observe or observe
        vars(made).update(stages=stages, observe=observe)
        vars(made)["model"] = made._staged(request.model)
        return made

    def override(self, **overrides: Any) -> Self:
        """Return another request, as :meth:`ModelRequest.override`."""
        if "model" in overrides:
            overrides["model"] = self._staged(overrides["model"])
        made = cast("Self", super().override(**overrides))
        vars(made).update(stages=self.stages, observe=self.observe)
        return made

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute, which LangChain warns of."""
        super().__setattr__(name, self._staged(value) if name == "model" else value)

    def _staged(self, model: Any) -> Any:
        return put_inside(model, partial(staged_view, stages=self.stages, observe=self.observe))
