"""How far a collection has come, as JSON, and what its steps exchange with who makes its calls."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from langchain_tokenopt.data_requests.collected import DataCollected, DataStage, Fact, Gap
from langchain_tokenopt.data_requests.needs import DataNeed, Needs
from langchain_tokenopt.data_requests.reading import Asking
from langchain_tokenopt.data_requests.strategies import Strategy
from langchain_tokenopt.data_requests.wording import DataQuestion

__all__ = ["Call", "Job", "Progress", "Reply", "Steps"]


@dataclass(frozen=True, slots=True)
class Call:
    """A call that a step needs."""

    stage: str
    asking: Asking
    is_needed: bool = True
    """Without it something is lost; else there is another way."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back."""

    found: Mapping[str, Any] | None
    agent: str
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    exhausted: str | None = None
    """Why it was not made: there are no tokens for it."""


Steps = Generator[Call, Reply, None]


@dataclass(frozen=True)
class Job:
    """What is to be collected, and how."""

    name: str
    request: str
    needs: Needs
    strategy: Strategy
    chunk: int
    attempts: int
    wording: str
    read_request: bool
    words: dict[tuple[str, str], str]
    """Questions that were worded before, by language and description."""
    tokens_left: Callable[[str], int | None]
    """Says how many tokens a stage has; ``None`` where nothing limits them."""
    enough: Callable[[Mapping[str, Any]], bool] | None = None
    model: Any = None


@dataclass
class Progress:
    """How far a collection has come."""

    facts: list[Fact] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    stages: list[DataStage] = field(default_factory=list)
    strategy: Strategy = "auto"
    plan: list[tuple[str, list[str]]] = field(default_factory=list)
    at: int = 0
    asked: dict[str, int] = field(default_factory=dict)
    order: int = 1
    question: str | None = None
    asking: list[str] = field(default_factory=list)
    """Names of what the question asks for."""
    is_enough: bool = False
    stopped: str | None = None
    unread: list[str] = field(default_factory=list)
    worded: list[tuple[int, int, int]] = field(default_factory=list)
    """Calls, input and output tokens of wording the next question."""

    @classmethod
    def knowing(cls, facts: Sequence[Fact], wrong: Mapping[str, str]) -> Progress:
        """Return the beginning of a collection that knows some facts.

        Args:
            facts: Those; of an earlier collection, too.
            wrong: What was said to be known and is no value, and why.
        """
        gaps = [Gap(name=name, reason=reason) for name, reason in wrong.items()]
        return cls([*facts], gaps, order=1 + max((fact.order for fact in facts), default=0))

    def as_json(self, needs: Needs) -> dict[str, Any]:
        """Return it as JSON, from which :meth:`of_json` makes an equal one."""
        made = asdict(self)
        made["facts"] = [
            {**fact.model_dump(), "value": _dumped(needs, fact)} for fact in self.facts
        ]
        made["gaps"] = [gap.model_dump() for gap in self.gaps]
        made["stages"] = [stage.model_dump(exclude={"total_tokens"}) for stage in self.stages]
        return made

    @classmethod
    def of_json(cls, made: Mapping[str, Any], needs: Needs) -> Progress:
        """Read what :meth:`as_json` has written."""
        fields = dict(made)
        fields["facts"] = [_loaded(needs, fact) for fact in made["facts"]]
        fields["gaps"] = [Gap(**gap) for gap in made["gaps"]]
        fields["stages"] = [DataStage(**stage) for stage in made["stages"]]
        fields["plan"] = [(name, list(names)) for name, names in made["plan"]]
        fields["worded"] = [tuple(each) for each in made["worded"]]
        return cls(**fields)

    def known(self) -> set[str]:
        """Return the names of what has a value."""
        return {fact.name for fact in self.facts}

    def missing(self, needs: Needs) -> list[DataNeed]:
        """Return what has none."""
        known = self.known()
        return [need for need in needs.all if need.name not in known]

    def to_ask(self, job: Job) -> DataQuestion:
        """Return the question that is to be asked now."""
        assert self.question is not None
        needs = [need for name in self.asking if (need := job.needs.named(name))]
        return DataQuestion(self.question, stage=self.plan[self.at][0], needs=needs)

    def collected(self, job: Job) -> DataCollected:
        """Return what is known so far."""
        return DataCollected.of(
            {need.name: need.importance for need in job.needs.all},
            self.facts,
            self.gaps,
            self.stages,
            strategy=self.strategy,
            stopped=self.stopped,
            unread=self.unread,
            model=job.needs.model,
        )


def _dumped(needs: Needs, fact: Fact) -> Any:
    need = needs.named(fact.name)
    return fact.value if need is None else json.loads(need.adapter.dump_json(fact.value))


def _loaded(needs: Needs, made: Mapping[str, Any]) -> Fact:
    need, fact = needs.named(made["name"]), Fact(**made)
    if need is None:
        return fact
    value = need.adapter.validate_json(json.dumps(fact.value))
    return fact.model_copy(update={"value": value})
