"""A chat model with stages around each call, of a class that is made at run time."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache, wraps
from typing import Any, Final, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.configurable import RunnableConfigurableFields
from pydantic import PrivateAttr

from langchain_tokenopt.chat_model.async_calls import agenerate, astream
from langchain_tokenopt.chat_model.current_run import entry_points
from langchain_tokenopt.chat_model.staged_call import (
    VIEW_SEAM,
    OwnSettings,
    Seam,
    bare_model,
    given_seam,
    is_staged_class,
    seam_of,
)
from langchain_tokenopt.chat_model.stages import refuse_contradictions
from langchain_tokenopt.chat_model.sync_calls import generate, stream
from langchain_tokenopt.core.host_compat import NATIVE_EVENT_STREAMS, PYDANTIC_STATE
from langchain_tokenopt.request.form_tools import note_forms
from langchain_tokenopt.stage import Stage

__all__ = ["staged_model", "staged_view"]


def staged_model(
    model: BaseChatModel, stages: tuple[Stage, ...], observe: bool, origin: Any = None
) -> BaseChatModel:
    """Return a copy of *model* whose calls go through *stages*.

    Args:
        model: Which.
        stages: Besides those that it has.
        observe: Whether they change nothing.
        origin: Has ``explain()``, which is the copy's then, too.

    Raises:
        ValueError: The stages contradict each other.
    """
    return _with_seam(model, _seam_with(model, stages, observe, origin))


def _seam_with(
    model: BaseChatModel, stages: tuple[Stage, ...], observe: bool, origin: Any = None
) -> Seam:
    """Return what *model* carries with *stages* besides its own."""
    own = OwnSettings(model.cache, model.rate_limiter)
    earlier = given_seam(model)
    if earlier is not None:  # already staged: one seam with all the stages
        own, origin = earlier.own, origin or earlier.origin
        stages, observe = (*earlier.stages, *stages), observe or earlier.observe
    stages = tuple(sorted(stages, key=lambda stage: stage.phase))
    refuse_contradictions(stages)
    return Seam(stages, own, observe, origin)


def _with_seam(model: BaseChatModel, seam: Seam) -> BaseChatModel:
    """Return a copy of *model* that carries *seam*."""
    if is_staged_class(type(model)):
        model = bare_model(model)
    base = type(model)
    staged = base.model_copy(model, update={"cache": False, "rate_limiter": None})
    object.__setattr__(staged, "__class__", _staged_class(base))
    _give(staged, seam)
    return staged


def _give(staged: BaseChatModel, seam: Seam) -> None:
    """Let *staged* carry *seam*; what shares its state does not."""
    private = {**(staged.__pydantic_private__ or {}), "_tokenopt_seam": seam}
    object.__setattr__(staged, "__pydantic_private__", private)


@cache
def _staged_class(base: type[BaseChatModel]) -> type[BaseChatModel]:
    """Return the subclass of *base* whose calls go through the stages, one per class."""
    return _made(base, _body(base))


_STREAMS: Final = ("_stream", "_astream")


def _body(base: type[BaseChatModel]) -> dict[str, Any]:
    """Return what such a class defines."""
    body: dict[str, Any] = {
        "__module__": base.__module__,
        "__qualname__": base.__qualname__,
        "__doc__": base.__doc__,
        "__annotations__": {"_tokenopt_seam": Any},
        "_tokenopt_seam": PrivateAttr(default=None),
        "__reduce__": _reduce,
        "__repr_args__": _repr_args,
        "__setattr__": _setattr,
        "model_copy": _model_copy,
        "configurable_fields": _configurable_fields,
        "explain": property(_explain),
        "_generate": generate,
        "_agenerate": agenerate,  # also where the base has none: stages see what waits for threads
        **entry_points(base),
    }
    if any(getattr(base, name) is not getattr(BaseChatModel, name) for name in _STREAMS):
        body["_astream"] = astream
    if base._stream is not BaseChatModel._stream:
        body["_stream"] = stream
    if base.bind_tools is not BaseChatModel.bind_tools:
        body["bind_tools"] = _noting_forms(base)
    for name in NATIVE_EVENT_STREAMS:
        if getattr(base, name, None) is not None:
            body[name] = None  # LangChain then builds its events from _stream, through the stages
    return body


def _made(base: type[BaseChatModel], body: dict[str, Any]) -> type[BaseChatModel]:
    metaclass: Any = type(base)
    return cast("type[BaseChatModel]", metaclass(base.__name__, (base,), body))


def staged_view(
    model: BaseChatModel, stages: tuple[Stage, ...] = (), observe: bool = False
) -> BaseChatModel:
    """Return *model* for calls that go through *stages*, besides its own and those of its context.

    Unlike a copy it shares all state: what a call changes in the model stays changed. Stages that
    the model has already are not added again.

    Raises:
        ValueError: The stages contradict each other, or the model's own.
    """
    earlier = given_seam(model)
    if earlier is not None:
        stages = tuple(s for s in stages if not any(s is own for own in earlier.stages))
    base = type(model)
    if is_staged_class(base):
        base = base.__bases__[0]
    view: BaseChatModel = object.__new__(_view_class(base))
    for slot in PYDANTIC_STATE:
        object.__setattr__(view, slot, getattr(model, slot))
    object.__setattr__(view, VIEW_SEAM, _seam_with(model, stages, observe))
    return view


@cache
def _view_class(base: type[BaseChatModel]) -> type[BaseChatModel]:
    """Return the class of views of models of *base*."""
    copies = {"__copy__": _copy_of_view, "__deepcopy__": _deep_copy_of_view}
    made = _made(base, {**_body(base), **copies, "__slots__": (VIEW_SEAM,)})
    # What LangChain is not to see; fields cannot be overridden by properties in a class body.
    made.cache = property(lambda _: False)  # type: ignore[assignment]
    made.rate_limiter = property(lambda _: None)  # type: ignore[assignment]
    return made


def _copy_of_view(self: BaseChatModel) -> BaseChatModel:
    """Return a staged model of its own: a copy has state of its own."""
    return _with_seam(self, seam_of(self))


def _deep_copy_of_view(self: BaseChatModel, memo: dict[int, Any] | None = None) -> BaseChatModel:
    return copy.deepcopy(_copy_of_view(self), memo)


def _reduce(self: BaseChatModel) -> tuple[Any, ...]:
    """Copying protocols cannot look up a class made at run time; make it again instead."""
    seam = seam_of(self)
    return staged_model, (_as_given(self), seam.stages, seam.observe, seam.origin)


def _explain(self: BaseChatModel) -> Callable[[], Any]:
    """Print which stages stand around this model, and why; of one that ``optimize_agent`` made."""
    origin = seam_of(self).origin
    if origin is None:
        raise AttributeError(f"{type(self).__name__!r} object has no attribute 'explain'")
    explain: Callable[[], Any] = origin.explain
    return explain


def _repr_args(self: BaseChatModel) -> Iterable[tuple[str | None, Any]]:
    """Show the model as it was given: its text enters traces and serialized chains."""
    shown: Iterable[tuple[str | None, Any]] = _as_given(self).__repr_args__()
    return shown


def _as_given(staged: BaseChatModel) -> BaseChatModel:
    """Return the model as it was before it was staged."""
    seam = given_seam(staged)
    if seam is None:
        return bare_model(staged)
    own = {"cache": seam.own.cache, "rate_limiter": seam.own.rate_limiter}
    base = cast("type[BaseChatModel]", type(staged).__bases__[0])
    return bare_model(base.model_copy(staged, update=own))


# --- settings that the seam keeps from LangChain


_HIDDEN: Final = ("cache", "rate_limiter")


def _setattr(self: BaseChatModel, name: str, value: Any) -> None:
    """Set an attribute; a cache or a rate limiter goes where the seam asks for it."""
    seam = given_seam(self) if name in _HIDDEN else None
    if seam is None:
        cast("type[BaseChatModel]", type(self).__bases__[0]).__setattr__(self, name, value)
        return
    seam = _with_own(seam, {name: value})
    if VIEW_SEAM in type(self).__dict__:
        object.__setattr__(self, VIEW_SEAM, seam)
    else:
        state = cast("dict[str, Any]", self.__pydantic_private__)  # calls under way share it
        state["_tokenopt_seam"] = seam


def _model_copy(
    self: BaseChatModel, *, update: Mapping[str, Any] | None = None, deep: bool = False
) -> BaseChatModel:
    """Copy, as :func:`_setattr` sets."""
    base = cast("type[BaseChatModel]", type(self).__bases__[0])
    seam = given_seam(self)
    hidden = {name: value for name, value in (update or {}).items() if name in _HIDDEN}
    if seam is None or not hidden:
        return base.model_copy(self, update=update, deep=deep)
    shown = {name: value for name, value in (update or {}).items() if name not in _HIDDEN}
    copied = base.model_copy(self, update=shown, deep=deep)
    _give(copied, _with_own(seam, hidden))
    return copied


def _with_own(seam: Seam, changes: Mapping[str, Any]) -> Seam:
    return replace(seam, own=replace(seam.own, **changes))


# --- tools


def _noting_forms(base: type[BaseChatModel]) -> Callable[..., Any]:
    """Return a ``bind_tools`` that remembers which tools are forms; hosts read its signature."""

    @wraps(base.bind_tools)
    def bind_tools(self: BaseChatModel, tools: Sequence[Any], *args: Any, **kwargs: Any) -> Any:
        bound = base.bind_tools(self, tools, *args, **kwargs)
        note_forms(tools, getattr(bound, "kwargs", {}).get("tools"))
        return bound

    return bind_tools


# --- fields that a call's configuration sets


def _configurable_fields(self: BaseChatModel, **fields: Any) -> Runnable[Any, Any]:
    """Stage each model that is made for a call, as this one is."""
    base = cast("type[BaseChatModel]", type(self).__bases__[0])
    plain = base.configurable_fields(self, **fields)
    if type(plain) is not RunnableConfigurableFields:
        return plain
    return _ConfigurableFields(default=plain.default, fields=plain.fields)


class _ConfigurableFields(RunnableConfigurableFields):  # type: ignore[type-arg]
    """Makes a model of the staged class for a call, and gives it the stages of the default."""

    def _prepare(
        self, config: RunnableConfig | None = None
    ) -> tuple[Runnable[Any, Any], RunnableConfig]:
        made, config = super()._prepare(config)
        if made is self.default:
            return made, config
        model, seam = cast("BaseChatModel", made), seam_of(cast("BaseChatModel", self.default))
        own = OwnSettings(
            seam.own.cache if model.cache is False else model.cache,
            model.rate_limiter or seam.own.rate_limiter,
        )
        return _with_seam(model, replace(seam, own=own)), config


for _name in ("__module__", "__qualname__", "__name__"):  # they enter serialized chains
    setattr(_ConfigurableFields, _name, getattr(RunnableConfigurableFields, _name))
