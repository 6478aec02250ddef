"""The base of settings: named values that are checked when they are made, and say what is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from langchain_tokenopt.core.argument_checks import did_you_mean, shown

__all__ = ["Settings"]


def _explained(error: ValidationError, model: type[BaseModel]) -> str:
    """Say in a line what is wrong with which key, and what it was.

    Args:
        error: What pydantic found.
        model: What was to be made.
    """
    findings = []
    for wrong in error.errors():
        key = ".".join(map(str, wrong["loc"])) or model.__name__
        what = wrong["msg"].removeprefix("Value error, ").removesuffix(".")
        if wrong["type"] == "extra_forbidden":
            *above, word = wrong["loc"]
            known = sorted(_model_at(model, above).model_fields)
            nearest = did_you_mean(word, known).strip()
            what = f"unknown key; known are {', '.join(known)}" + (
                f" ({nearest})" if nearest else ""
            )
        elif wrong["type"] not in ("missing", "value_error"):
            what = f"{what}, got {shown(wrong['input'])}"
        findings.append(f"{key}: {what}")
    return "; ".join(findings)


def _model_at(model: type[BaseModel], keys: Sequence[int | str]) -> type[BaseModel]:
    """Return the model that stands under *keys*: agents, news -> that of an agent."""
    for key in keys:
        field = model.model_fields.get(str(key))
        if field is not None:
            model = next(_models_in(field.annotation), model)
    return model


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)


if TYPE_CHECKING:

    class Settings(BaseModel):
        """Values that do not change, each under its name; unknown names are refused."""

        model_config = ConfigDict(extra="forbid", frozen=True)

else:
    _IS_INSIDE = ContextVar("langchain_tokenopt_settings", default=False)

    class _OneSentence(type(BaseModel)):
        """Says in one sentence what is wrong with settings that a user makes.

        Those that pydantic makes inside of others raise its error, which keeps all keys.
        """

        def __call__(cls, *args: Any, **values: Any) -> Any:
            if args:
                fields = cls.model_fields
                first = min(fields, key=lambda name: not fields[name].is_required())
                raise TypeError(
                    f"{cls.__name__} takes its values by name, such as {first}=; got "
                    f"{shown(args[0])}."
                )
            if _IS_INSIDE.get():
                return super().__call__(**values)
            token = _IS_INSIDE.set(True)
            try:
                return super().__call__(**values)
            except ValidationError as error:
                raise ValueError(f"{cls.__name__}: {_explained(error, cls)}.") from None
            finally:
                _IS_INSIDE.reset(token)

    class Settings(BaseModel, metaclass=_OneSentence):
        """Values that do not change, each under its name; unknown names are refused."""

        model_config = ConfigDict(extra="forbid", frozen=True)
