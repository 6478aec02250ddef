"""The seam: stages around any chat model, which keeps its own class and all its methods.

``optimize`` makes a copy of the model whose class is a subclass of the model's own, made at run
time. It overrides ``_generate`` and ``_agenerate``, and ``_stream`` and ``_astream`` where the
class can stream in that way, by itself or in a thread, so whatever LangChain decides by looking at
them stays as it was. Inside, the model without stages (the *bare* model, which shares all state) is
asked.

LangChain consults response caches outside of ``_generate``. Left on, that would keep answers that
stages have cut and serve them to the model without stages. So the copy has ``cache=False`` and the
seam asks the cache itself, outermost, which gives streams a cache too.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from langchain_core.caches import BaseCache
from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import Runnable
from langchain_core.runnables.base import RunnableBindingBase

from langchain_tokenopt.budget.plan import BudgetPlan
from langchain_tokenopt.chat_model.presets import stages_of
from langchain_tokenopt.chat_model.staged_model import staged_model
from langchain_tokenopt.chat_model.stages import as_stages, missing_in
from langchain_tokenopt.core.argument_checks import refuse_class, takes_names
from langchain_tokenopt.core.host_compat import is_configurable_model
from langchain_tokenopt.core.levels import Level
from langchain_tokenopt.stage import Stage, StageGroup

__all__ = ["optimize", "put_inside"]


Model = TypeVar("Model", bound=Runnable[Any, Any])


@takes_names
def optimize(
    model: Model,
    *stages: Stage | StageGroup | BudgetPlan | BaseCache,
    level: Level | None = None,
    observe: bool = False,
) -> Model:
    """Return a copy of *model* whose calls go through *stages*.

    The copy is an instance of the model's own class: ``bind_tools``, ``with_structured_output``,
    ``with_retry``, streaming and tracing work as before, in any chain or graph. The original is
    untouched. Stages run in the order of their phases, whatever order they are given in.

    Args:
        model: A chat model, a binding of one (``model.bind(...)``, ``with_config``, ``with_retry``)
            or an ``init_chat_model`` model with configurable fields.
        stages: Stages, groups of them, a ``BudgetPlan``, or any LangChain ``BaseCache``, which then
            also serves streams. Without a cache here, the model's own or the global one is asked,
            by LangChain's rules; it serves streams, too, but not of a model that only observes.
        level: A preset instead of, or besides, stages of your own, which stand in the place of its
            own: see :func:`stages_of`.
        observe: Change nothing; record what each stage would have saved.

    Raises:
        TypeError: If *model* is none of those, or a stage is no stage.
        ValueError: If stages contradict each other: two caches, the same kind twice.

    Example:
        >>> from langchain_core.caches import InMemoryCache
        >>> from langchain_core.language_models import FakeListChatModel
        >>> model = optimize(FakeListChatModel(responses=["one", "two"]), InMemoryCache())
        >>> [model.invoke("How many?").content for _ in range(2)]
        ['one', 'one']
    """
    own = as_stages(stages)
    added = (*own, *missing_in(own, stages_of(level or "none")))
    staged: Model = put_inside(model, partial(staged_model, stages=added, observe=observe))
    return staged


def put_inside(model: Any, put: Callable[[BaseChatModel], BaseChatModel]) -> Any:
    """Return *model* with what *put* makes of the chat model inside.

    Raises:
        TypeError: There is none.
    """
    if isinstance(model, BaseChatModel):
        return put(model)
    if isinstance(model, RunnableBindingBase):
        return model.model_copy(update={"bound": put_inside(model.bound, put)})
    if is_configurable_model(model):
        return _put_inside_configurable(model, put)
    if isinstance(model, str):
        raise TypeError(
            f"optimize() needs a chat model, and {model!r} is a name: "
            f"optimize(init_chat_model({model!r}), ...)."
        )
    refuse_class("a chat model", model)
    raise TypeError(
        f"optimize() needs a chat model, a binding of one, or an init_chat_model(...) model; got "
        f"{type(model).__name__}. In a chain, put it around the model itself: "
        f"prompt | optimize(model, ...) | parser."
    )


def _put_inside_configurable(model: Any, put: Callable[[BaseChatModel], BaseChatModel]) -> Any:
    """Stage a model of ``init_chat_model(..., configurable_fields=...)`` each time it is made.

    Such a model builds the real one per call and then repeats the ``bind_tools`` and the like that
    it was asked for, so the stages must go in between.
    """
    base = type(model)

    class Staged(base):  # type: ignore[misc, valid-type]
        def _model(self, config: Any = None) -> Any:
            plain = _copy_as(base, self)
            plain._queued_declarative_operations = []
            built = put_inside(base._model(plain, config), put)
            for name, args, kwargs in self._queued_declarative_operations:
                built = getattr(built, name)(*args, **kwargs)
            return built

        def _again(self, made: Any) -> Any:
            return _put_inside_configurable(made, put) if type(made) is base else made

        def __getattr__(self, name: str) -> Any:
            found = base.__getattr__(self, name)
            if not callable(found):
                return found
            return lambda *args, **kwargs: self._again(found(*args, **kwargs))

        def with_config(self, config: Any = None, **kwargs: Any) -> Any:
            return self._again(base.with_config(self, config, **kwargs))

    Staged.__name__, Staged.__qualname__ = base.__name__, base.__qualname__
    Staged.__module__ = base.__module__
    return _copy_as(Staged, model)


def _copy_as(cls: type, source: Any) -> Any:
    """Copy an object whose ``__getattr__`` answers to everything, which the copy module cannot."""
    made: Any = object.__new__(cls)
    made.__dict__.update(source.__dict__)
    return made
