"""A request of ``create_agent`` whose model goes through stages, whichever model that will be."""

from __future__ import annotations

from collections import deque
from operator import attrgetter, is_
from typing import Any, Final, NamedTuple, Self, cast

from langchain.agents.middleware.types import ModelRequest
from langchain_core.language_models import BaseChatModel

from langchain_tokenopt.chat_model.optimize import put_inside
from langchain_tokenopt.chat_model.staged_call import given_seam
from langchain_tokenopt.chat_model.staged_model import staged_view
from langchain_tokenopt.core.host_compat import PYDANTIC_STATE
from langchain_tokenopt.stage import Stage

__all__ = ["StagedRequest", "Views"]

_REMEMBERED: Final = 8
"""Views that one middleware keeps: its agent's model, those that fallbacks and routers choose."""


class _View(NamedTuple):
    model: BaseChatModel
    stages: tuple[Stage, ...]
    observe: bool
    state: tuple[Any, ...]
    view: BaseChatModel


class Views:
    """Makes views of models, and keeps the last ones: every call of an agent needs the same."""

    def __init__(self) -> None:
        self._last: deque[_View] = deque(maxlen=_REMEMBERED)

    def of(self, model: BaseChatModel, stages: tuple[Stage, ...], observe: bool) -> BaseChatModel:
        """Return *model* with *stages* around it; see :func:`staged_view`."""
        for one in tuple(self._last):
            if one.model is model and one.observe is observe and _same(one.stages, stages):
                if _same(one.state, _state(model, one.view)):
                    return one.view
                break
        view = staged_view(model, stages=stages, observe=observe)
        self._last.appendleft(_View(model, stages, observe, _state(model, view), view))
        return view


_parts: Final = attrgetter(*PYDANTIC_STATE, "cache", "rate_limiter")


def _state(model: BaseChatModel, view: BaseChatModel) -> tuple[Any, ...]:
    """Return what a view is made of: whoever sets a cache anew sees it act in the next call."""
    return *_parts(model), given_seam(model), *_parts(view), given_seam(view)


def _same(some: tuple[Any, ...], others: tuple[Any, ...]) -> bool:
    return len(some) == len(others) and all(map(is_, some, others))


class StagedRequest(ModelRequest[Any]):
    """Puts stages around every model that it is given.

    Middleware further in may choose another model: a fallback, a cheaper one. That one is staged,
    too, so it does not matter which of them stands first.
    """

    stages: tuple[Stage, ...]
    observe: bool
    views: Views

    @classmethod
    def of(
        cls, request: ModelRequest[Any], stages: tuple[Stage, ...], observe: bool, views: Views
    ) -> Self:
        """Return *request* with *stages* around its model, besides those that it has.

        Raises:
            TypeError: The model is none that stages can stand around.
            ValueError: The stages contradict each other, or the model's own.
        """
        made = object.__new__(cls)
        if isinstance(request, StagedRequest):
            stages, observe = (*request.stages, *stages), request.observe or observe
        vars(made).update(vars(request), stages=stages, observe=observe, views=views)
        vars(made)["model"] = made._staged(request.model)
        return made

    def override(self, **overrides: Any) -> Self:
        """Return another request, as :meth:`ModelRequest.override`."""
        if "model" in overrides:
            overrides["model"] = self._staged(overrides["model"])
        made = cast("Self", super().override(**overrides))
        vars(made).update(stages=self.stages, observe=self.observe, views=self.views)
        return made

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute, which LangChain warns of."""
        is_made = "views" in vars(self)  # older releases make a copy field by field
        super().__setattr__(name, self._staged(value) if is_made and name == "model" else value)

    def _staged(self, model: Any) -> Any:
        return put_inside(model, lambda inner: self.views.of(inner, self.stages, self.observe))
