"""What was collected: facts with their sources, merged without an order of their own.

A collection only grows: it is a set of facts and of gaps, and what is known follows from the set.
So merging twice changes nothing, in whichever order; parallel branches and replays of a graph may
merge what they like.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, PrivateAttr, ValidationError, computed_field

from langchain_tokenopt.data_requests.same_value import same
from langchain_tokenopt.data_requests.values import Found

__all__ = ["DataCollected", "DataConflict", "DataStage", "Fact", "Gap", "SaidValue"]

NOT_ASKED = "it was not asked for"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class Fact(_Record):
    """One value, and where it was said."""

    name: str
    value: Any
    said: str = ""
    """The words that say it."""
    unit: str | None = None
    source: str = "known"
    order: int = 0
    """Sources are numbered as they came: what is known, the request, the answers."""
    corrects: bool = False
    """Its source says that it corrects what was said before."""

    @classmethod
    def of(
        cls, name: str, found: Found, source: str, order: int, *, corrects: bool = False
    ) -> Fact:
        """Return what was found in a source."""
        return cls(
            name=name,
            value=found.value,
            said=found.said,
            unit=found.unit,
            source=source,
            order=order,
            corrects=corrects,
        )


class Gap(_Record):
    """Why a source has no value of something."""

    name: str
    reason: str
    order: int = 0


class DataStage(_Record):
    """One stage: what it asked for, what came, and what that cost."""

    name: str
    agent: str
    """Under which the ledger, and the account of a run, have its calls."""
    asked: tuple[str, ...] = ()
    brought: tuple[str, ...] = ()
    question: str = ""
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    order: int = 0

    @computed_field  # type: ignore[prop-decorator]
    @property
    def total_tokens(self) -> int:
        """Input and output tokens of its model calls."""
        return self.input_tokens + self.output_tokens


class SaidValue(_Record):
    """One side of a conflict."""

    value: Any
    source: str
    said: str = ""


class DataConflict(_Record):
    """Different values of one data point, none of which is said to correct the others."""

    name: str
    kept: Any
    """The one that was said first: it is the value."""
    values: tuple[SaidValue, ...]


class DataCollected(BaseModel):
    """What is known when a collection ends, what is missing and why, and what it cost.

    ``a.merge(b)`` has the facts of both, each once. ``+`` merges, too: the chunks of a stream, each
    of which has all that came before, add up to the last.

    Example:
        >>> known = DataCollected.of({"city": "essential"}, [Fact(name="city", value="Rome")])
        >>> other = Fact(name="city", value="Oslo", source="answer 1", order=2)
        >>> merged = known.merge(DataCollected.of({"city": "essential"}, [other]))
        >>> merged.values, [said.value for said in merged.conflicts[0].values]
        ({'city': 'Rome'}, ['Rome', 'Oslo'])
    """

    model_config = ConfigDict(extra="forbid")

    values: dict[str, Any] = {}
    """Each value under the name of its need."""
    units: dict[str, str] = {}
    """The units that came with numbers, or were asked for."""
    missing: dict[str, str] = {}
    """What has no value, and why not."""
    conflicts: list[DataConflict] = []
    stages: list[DataStage] = []
    """In the order in which they ran."""
    complete: bool = False
    """Nothing essential is missing, and nothing was left out for want of tokens."""
    value: Any = None
    """The class that was given as needs, where the values make one."""
    strategy: str = ""
    """The strategy that was followed."""
    stopped: str | None = None
    """Why it ended before everything was asked."""
    unread: list[str] = []
    """Answers for reading which there were no tokens."""
    wanted: dict[str, str] = {}
    """All needs, and their importance."""
    facts: list[Fact] = []
    gaps: list[Gap] = []
    _model: type[BaseModel] | None = PrivateAttr(default=None)

    @classmethod
    def of(
        cls,
        wanted: Mapping[str, str],
        facts: Iterable[Fact] = (),
        gaps: Iterable[Gap] = (),
        stages: Iterable[DataStage] = (),
        *,
        strategy: str = "",
        stopped: str | None = None,
        unread: Iterable[str] = (),
        model: type[BaseModel] | None = None,
    ) -> DataCollected:
        """Return what follows from facts and gaps."""
        facts, gaps = _once(facts), _once(gaps)
        by_name: dict[str, list[Fact]] = {}
        for fact in facts:
            by_name.setdefault(fact.name, []).append(fact)
        kept = {name: _kept(by_name[name]) for name in wanted if name in by_name}
        conflicts = [_conflict(name, *kept[name]) for name in kept if len(kept[name]) > 1]
        why = {gap.name: gap.reason for gap in gaps}
        not_asked = f"{NOT_ASKED}: {stopped}" if stopped else NOT_ASKED
        missing = {name: why.get(name, not_asked) for name in wanted if name not in kept}
        values = {name: found[0].value for name, found in kept.items()}
        value = None
        if model is not None:
            value, wrong = _typed(model, values)
            missing |= {} if any(wanted[name] == "essential" for name in missing) else wrong
        lacks = any(wanted.get(name, "essential") == "essential" for name in missing)
        made = cls(
            values=values,
            units={name: found[0].unit for name, found in kept.items() if found[0].unit},
            missing=missing,
            conflicts=conflicts,
            stages=sorted(_once(stages), key=lambda stage: (stage.order, stage.name)),
            complete=not lacks and stopped is None,
            value=value,
            strategy=strategy,
            stopped=stopped,
            unread=list(dict.fromkeys(unread)),
            wanted=dict(wanted),
            facts=facts,
            gaps=gaps,
        )
        made._model = model
        return made

    def merge(self, other: DataCollected) -> DataCollected:
        """Return what both know. Of a need that both have, the higher importance counts."""
        wanted = {**other.wanted, **self.wanted}
        for name, importance in other.wanted.items():
            wanted[name] = min(wanted[name], importance, key=_RANKS.index)
        if self.wanted.keys() != other.wanted.keys():
            wanted = dict(sorted(wanted.items()))
        return DataCollected.of(
            wanted,
            (*self.facts, *other.facts),
            (*self.gaps, *other.gaps),
            (*self.stages, *other.stages),
            strategy=max(self.strategy, other.strategy),
            stopped=min(filter(None, (self.stopped, other.stopped)), default=None),
            unread=sorted({*self.unread, *other.unread}),
            model=self._model or other._model,
        )

    def __add__(self, other: object) -> DataCollected:
        """Merge: see :meth:`merge`."""
        return self.merge(other) if isinstance(other, DataCollected) else NotImplemented

    @property
    def total_tokens(self) -> int:
        """What all stages have used together."""
        return sum(stage.total_tokens for stage in self.stages)


_RANKS = ("essential", "supporting", "enriching")


def _once(records: Iterable[Any]) -> list[Any]:
    """Return each record once, in an order that does not depend on how they came."""
    unique = {_text(record): record for record in records}
    return [unique[key] for key in sorted(unique, key=lambda key: (unique[key].order, key))]


def _text(record: _Record) -> str:
    """Return a record as a text that is the same for equal ones, in every process."""
    return json.dumps(record.model_dump(), default=_sorted, sort_keys=True)


def _sorted(value: Any) -> Any:
    return sorted(map(str, value)) if isinstance(value, set | frozenset) else str(value)


def _kept(facts: Sequence[Fact]) -> list[Fact]:
    """Return the fact that counts, and those that contradict it.

    Facts are in the order of their sources. The first counts; but what says that it corrects is
    the first of what comes after it.
    """
    corrections = [at for at, fact in enumerate(facts) if fact.corrects]
    facts = facts[corrections[-1] :] if corrections else facts
    found: list[Fact] = []
    for fact in facts:
        if not any(same(fact.value, each.value) and _fits(fact, each) for each in found):
            found.append(fact)
    return found


def _fits(left: Fact, right: Fact) -> bool:
    return left.unit == right.unit or None in (left.unit, right.unit)


def _conflict(name: str, kept: Fact, *others: Fact) -> DataConflict:
    said = (kept, *others)
    values = tuple(SaidValue(value=f.value, source=f.source, said=f.said) for f in said)
    return DataConflict(name=name, kept=kept.value, values=values)


def _typed(model: type[BaseModel], values: Mapping[str, Any]) -> tuple[Any, dict[str, str]]:
    """Return the values as *model*, or what is wrong with which of them."""
    try:
        return model.model_validate(dict(values), by_alias=True, by_name=True), {}
    except ValidationError as error:
        return None, {
            str(wrong["loc"][0]) if wrong["loc"] else model.__name__: wrong["msg"]
            for wrong in error.errors()
            if wrong["type"] != "missing"
        }
