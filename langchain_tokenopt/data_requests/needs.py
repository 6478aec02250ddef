"""What is needed: data points with names, types and weights, by hand or of a pydantic class."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from functools import cached_property
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin
from unicodedata import normalize

from pydantic import BaseModel, PydanticUserError, TypeAdapter

from langchain_tokenopt.core.argument_checks import check_choice, check_name, did_you_mean, shown
from langchain_tokenopt.data_requests.units import unit_in, unit_named

__all__ = ["IMPORTANCES", "DataNeed", "Importance", "Needs", "name_key", "plain_type"]

Importance = Literal["essential", "supporting", "enriching"]
IMPORTANCES: Final[tuple[Importance, ...]] = get_args(Importance)

_TYPES: Final[Mapping[str, Any]] = {
    "str": str, "text": str, "string": str, "int": int, "integer": int, "float": float,
    "number": float, "decimal": Decimal, "bool": bool, "boolean": bool, "date": date,
    "datetime": datetime, "time": time,
}  # fmt: skip
"""Types by name, for needs that come as JSON."""


@dataclass(frozen=True)
class DataNeed:
    """One data point that is needed.

    Args:
        name: Under which the value is returned. "Start Date" and "startDate" are the same name.
        description: What to ask for; by default the name's words. "budget in EUR" and "stay (days)"
            name a *unit*, too.
        importance: ``"essential"``, ``"supporting"`` or ``"enriching"``.
        type: What the value is: a Python type, a ``Literal``, an ``Enum``, a list of these, a
            pydantic class; or the name of a plain type, such as ``"date"``.
        unit: Of a number. A value in another unit is not taken.
        aliases: Other names for the same.

    Raises:
        ValueError: The name is empty, or there is no such importance or type.

    Example:
        >>> DataNeed("start_date", type="date").question
        'start date'
        >>> DataNeed("budget", "your budget in EUR", type=float).unit
        'eur'
    """

    name: str
    description: str = ""
    importance: Importance = "essential"
    type: Any = str
    unit: str | None = None
    aliases: Sequence[str] = ()

    def __post_init__(self) -> None:
        check_name("name", self.name)
        check_choice("importance", self.importance, *IMPORTANCES)
        if isinstance(self.type, str):
            if self.type not in _TYPES:
                raise ValueError(
                    f"the type of {self.name!r} must be a type or one of {', '.join(_TYPES)}; got "
                    f"{shown(self.type)}.{did_you_mean(self.type, _TYPES)}"
                )
            object.__setattr__(self, "type", _TYPES[self.type])
        unit = unit_in(self.description) if self.unit is None else unit_named(self.unit)
        object.__setattr__(self, "unit", unit if self._is_number else self.unit)
        try:
            self.adapter  # noqa: B018  a type that cannot be validated is known at once
        except PydanticUserError:
            raise ValueError(
                f"the type of {self.name!r} must be one that pydantic can validate; got "
                f"{shown(self.type)}."
            ) from None

    @property
    def question(self) -> str:
        """What to ask for, in the words of whoever wrote the need."""
        return self.description.strip() or " ".join(_words(self.name))

    @cached_property
    def kind(self) -> Any:
        """The type without ``Optional`` and ``Annotated``."""
        return plain_type(self.type)

    @cached_property
    def adapter(self) -> TypeAdapter[Any]:
        """What validates a value."""
        return TypeAdapter(self.type)

    @cached_property
    def keys(self) -> frozenset[str]:
        """Its names, as they are compared."""
        return frozenset(map(name_key, (self.name, *self.aliases)))

    @property
    def _is_number(self) -> bool:
        return self.kind in (int, float, Decimal)


def plain_type(given: Any) -> Any:
    """Return a type without ``Annotated`` around it and without ``None`` beside it."""
    while get_origin(given) is Annotated:
        given = get_args(given)[0]
    if get_origin(given) in (Union, UnionType):
        parts = [part for part in get_args(given) if part is not NoneType]
        if len(parts) == 1:
            return plain_type(parts[0])
    return given


def name_key(name: str) -> str:
    """Return a name as it is compared: "Start Date", "startDate" and "start_date" are one.

    Example:
        >>> name_key("startDate") == name_key("START-DATE") == name_key("start_date ")
        True
    """
    return "".join(_words(name)) or name


def _words(name: str) -> list[str]:
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", normalize("NFKC", name))
    return re.findall(r"[^\W_]+", spaced.casefold())


# --- all that is needed --------------------------------------------------------------------------


@dataclass(frozen=True)
class Needs:
    """All that is needed, in order, and the class that the values make."""

    all: tuple[DataNeed, ...]
    model: type[BaseModel] | None = None
    _by_key: Mapping[str, DataNeed] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, given: Any) -> Needs:
        """Read needs in any form.

        Args:
            given: A pydantic class; or needs: ``DataNeed``, the dict of one, or a name.

        Raises:
            TypeError: It is something else.
            ValueError: Two needs have one name, or there are none.
        """
        if isinstance(given, Needs):
            return given
        if isinstance(given, type) and issubclass(given, BaseModel):
            return cls._checked(_needs_of_class(given), given)
        if not isinstance(given, Iterable) or isinstance(given, str | bytes | Mapping):
            raise TypeError(
                f"needs are a list of DataNeed or a pydantic class; got {shown(given)}."
            )
        return cls._checked([_need_from(one) for one in given])

    @classmethod
    def _checked(cls, needs: Sequence[DataNeed], model: type[BaseModel] | None = None) -> Needs:
        if not needs:
            raise ValueError("needs name nothing that is needed: give at least one DataNeed.")
        by_key: dict[str, DataNeed] = {}
        described: dict[str, list[DataNeed]] = {}
        for need in needs:
            for key in need.keys:
                other = by_key.setdefault(key, need)
                if other is not need:
                    raise ValueError(
                        f"{need.name!r} and {other.name!r} are names of one data point: leave one "
                        f"of them out, or call it something else."
                    )
            described.setdefault(name_key(need.question), []).append(need)
        for key, found in described.items():
            if len(found) == 1:
                by_key.setdefault(key, found[0])
        return cls(tuple(needs), model, by_key)

    def named(self, name: object) -> DataNeed | None:
        """Return the need that goes by *name*, in whatever spelling, or is described so."""
        return self._by_key.get(name_key(name)) if isinstance(name, str) else None


def _need_from(given: Any) -> DataNeed:
    if isinstance(given, DataNeed):
        return given
    if isinstance(given, str):
        return DataNeed(given)
    if isinstance(given, Mapping):
        try:
            return DataNeed(**given)
        except TypeError as error:
            raise TypeError(f"a need as a dict has the arguments of DataNeed: {error}.") from None
    raise TypeError(f"a need is a DataNeed, a dict of its arguments or a name; got {shown(given)}.")


def _needs_of_class(model: type[BaseModel]) -> list[DataNeed]:
    """Return a need for each field; what must be given is essential, the rest supporting.

    ``Field(json_schema_extra={"importance": "enriching", "unit": "kg"})`` says more.
    """
    needs = []
    for name, about in model.model_fields.items():
        extra = about.json_schema_extra if isinstance(about.json_schema_extra, dict) else {}
        kind: Any = about.annotation
        if about.metadata:
            kind = Annotated[(kind, *about.metadata)]
        importance: Any = extra.get("importance")
        unit: Any = extra.get("unit")
        names = (about.alias, about.title, about.validation_alias)
        needs.append(
            DataNeed(
                name,
                about.description or "",
                importance or ("essential" if about.is_required() else "supporting"),
                kind,
                unit,
                tuple({each for each in names if isinstance(each, str)}),
            )
        )
    return needs


def choices_of(kind: Any) -> dict[str, Any]:
    """Return the texts that stand for the values of a ``Literal`` or an ``Enum``."""
    if get_origin(kind) is Literal:
        return {str(value): value for value in get_args(kind)}
    if isinstance(kind, type) and issubclass(kind, Enum):
        names = {each.name: each for each in kind}
        return {**names, **{str(each.value): each for each in kind}}
    return {}
