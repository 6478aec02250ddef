"""One collection, step by step, without asking anybody itself.

What the collection knows is a :class:`Progress`, which is JSON. Each step is a generator: it yields
the calls of a model that it needs, is sent their replies, and ends with a question to ask, or none.
So the same steps run in a plain loop, in an event loop and in a graph that is resumed elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from langchain_tokenopt.data_requests.collected import DataCollected, DataStage, Fact, Gap
from langchain_tokenopt.data_requests.needs import DataNeed, Needs
from langchain_tokenopt.data_requests.phrases import corrects
from langchain_tokenopt.data_requests.plain_answers import plain_answer
from langchain_tokenopt.data_requests.reading import (
    ENOUGH,
    Asking,
    asking_to_read,
    asking_to_word,
)
from langchain_tokenopt.data_requests.strategies import Strategy, chosen_strategy, stages_for
from langchain_tokenopt.data_requests.values import NotFound, read_value, why_missing
from langchain_tokenopt.data_requests.wording import (
    DataQuestion,
    language_to_ask_in,
    question_text,
)
from langchain_tokenopt.text.sentences import sentences_of
from langchain_tokenopt.text.stopwords import ALL_STOP_WORDS
from langchain_tokenopt.text.words import terms_of

__all__ = ["Call", "Job", "Progress", "Reply", "Steps", "begin", "take"]

REQUEST: Final = "request"
"""Name of the stage that reads the request."""
_NOT_TOLD: Final = "it was not told"


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
    return fact.value if need is None else need.adapter.dump_python(fact.value, mode="json")


def _loaded(needs: Needs, made: Mapping[str, Any]) -> Fact:
    need, fact = needs.named(made["name"]), Fact(**made)
    if need is None:
        return fact
    return fact.model_copy(update={"value": need.adapter.validate_python(fact.value)})


# --- the steps -----------------------------------------------------------------------------------


def begin(job: Job, progress: Progress) -> Steps:
    """Find out what is missing, read the request for it, and word the first question."""
    progress.strategy = job.strategy
    missing = progress.missing(job.needs)
    if missing and job.read_request and _may_hold_values(job.request, job.needs):
        yield from _read(job, progress, REQUEST, job.request, missing)
        missing = progress.missing(job.needs)
    if missing:
        if job.strategy == "auto":
            progress.strategy = chosen_strategy(
                missing, job.tokens_left(REQUEST), lambda some: _cost(job, some)
            )
        stages = stages_for(progress.strategy, missing, job.chunk)
        progress.plan = [(name, [need.name for need in needs]) for name, needs in stages]
    progress.order += 1
    yield from _next_question(job, progress)


def take(job: Job, progress: Progress, answer: str | Mapping[str, Any]) -> Steps:
    """Take an answer to the question, and word the next one."""
    stage, asked = progress.plan[progress.at][0], list(progress.to_ask(job).needs)
    for need in asked:
        progress.asked[need.name] = progress.asked.get(need.name, 0) + 1
    question, progress.question = progress.question or "", None
    yield from _read(job, progress, stage, answer, asked, question)
    progress.order += 1
    if progress.stopped is None:
        yield from _next_question(job, progress)


def _next_question(job: Job, progress: Progress) -> Steps:
    while progress.at < len(progress.plan) and not progress.is_enough:
        if progress.at and job.enough is not None and job.enough(_values(progress)):
            break
        stage, names = progress.plan[progress.at]
        to_ask = [need for name in names if (need := _open(job, progress, name))]
        if not to_ask:
            progress.at += 1
            continue
        is_essential = any(need.importance == "essential" for need in to_ask)
        left = job.tokens_left(stage)
        if left is not None and not is_essential and left < (needed := _cost(job, to_ask)):
            progress.stopped = (
                f"out of tokens: reading an answer about {', '.join(n.name for n in to_ask)} needs "
                f"about {needed:,}, and {left:,} are left"
            )
            return
        language, words = yield from _words(job, progress, stage, to_ask)
        progress.asking = [need.name for need in to_ask]
        words = _with_reasons(progress, to_ask, words)
        progress.question = question_text(to_ask, language, words)
        return


def _values(progress: Progress) -> dict[str, Any]:
    return {fact.name: fact.value for fact in reversed(progress.facts)}


def _open(job: Job, progress: Progress, name: str) -> DataNeed | None:
    """Return the need of *name* where it may be asked for (once more)."""
    need, times = job.needs.named(name), progress.asked.get(name, 0)
    if need is None or need.name in progress.known() or times >= job.attempts:
        return None
    told = [gap.reason for gap in progress.gaps if gap.name == need.name and times]
    return None if any(reason.startswith(_NOT_TOLD) for reason in told) else need


def _cost(job: Job, needs: Sequence[DataNeed]) -> int:
    """Return about how many tokens it takes to read an answer."""
    return asking_to_read(_USUAL_ANSWER * len(needs), job.needs, needs).tokens(job.model)


_USUAL_ANSWER: Final = "something of about ten words for each that is asked for. "


# --- reading


def _read(
    job: Job,
    progress: Progress,
    stage: str,
    answer: str | Mapping[str, Any],
    asked: Sequence[DataNeed],
    question: str = "",
) -> Steps:
    """Take what *answer* says, by itself or with a model."""
    is_request = stage == REQUEST
    source = REQUEST if is_request else f"answer {progress.order - 1} ({stage})"
    before = progress.known()
    plain = None if is_request else plain_answer(answer, job.needs, asked)
    reply = Reply(None, f"{job.name}/{stage}")
    if plain is not None:
        for name, claim in plain.claims:
            text = None
            _accept(job, progress, name, claim, text, source, name in plain.corrects)
    elif job.model is None:
        for need in asked:
            _miss(progress, need.name, "the answer is free text, and no model was given to read it")
    else:
        assert isinstance(answer, str)
        is_last = progress.at + 1 >= len(progress.plan)
        may_end = not is_request and progress.strategy == "progressive" and not is_last
        asking = asking_to_read(answer, job.needs, asked, request=job.request if may_end else None)
        reply = yield Call(stage, asking)
        if reply.exhausted is not None and not is_request:
            progress.stopped = reply.exhausted
            progress.unread.append(answer)
        found = reply.found or {}
        for name, claim in asking.claims(found).items():
            if claim not in (None, "", [], {}):
                _accept(job, progress, name, claim, answer, source, None)
        progress.is_enough = may_end and found.get(ENOUGH) is True
    if not is_request:
        why = reply.exhausted or (why_missing(answer) if isinstance(answer, str) else None)
        noted = {gap.name for gap in progress.gaps if gap.order == progress.order}
        for need in asked:
            if need.name not in progress.known() | noted:
                _miss(progress, need.name, why or "the answer does not say it")
    elif not reply.calls:
        return
    _note(progress, stage, reply, asked if not is_request else (), before, question)


def _accept(
    job: Job,
    progress: Progress,
    name: str,
    claim: Any,
    text: str | None,
    source: str,
    is_correction: bool | None,
) -> None:
    """Take a value that is claimed, or take note why not."""
    need = job.needs.named(name)
    assert need is not None
    try:
        found = read_value(need, claim, text)
    except NotFound as why:
        if name not in progress.known() and source != REQUEST:
            _miss(progress, name, str(why))
        return
    if is_correction is None:
        is_correction = name in progress.known() and _says_so(text or "", found.said)
    progress.facts.append(
        Fact(
            name=name,
            value=found.value,
            said=found.said,
            unit=found.unit,
            source=source,
            order=progress.order,
            corrects=bool(is_correction),
        )
    )


def _says_so(text: str, said: str) -> bool:
    """Say whether *text* says where it says the value, or right before, that this corrects."""
    before = ""
    for sentence in sentences_of(text):
        if said in sentence and (corrects(sentence) or corrects(before)):
            return True
        before = sentence
    return said not in " ".join(sentences_of(text)) and corrects(text)


def _miss(progress: Progress, name: str, reason: str) -> None:
    progress.gaps.append(Gap(name=name, reason=reason, order=progress.order))


def _note(
    progress: Progress,
    stage: str,
    reply: Reply,
    asked: Sequence[DataNeed],
    before: set[str],
    question: str,
) -> None:
    """Take note of a stage that has ended."""
    spent = [(reply.calls, reply.input_tokens, reply.output_tokens), *progress.worded]
    calls, input_tokens, output_tokens = (sum(each) for each in zip(*spent, strict=True))
    progress.worded = []
    progress.stages.append(
        DataStage(
            name=stage,
            agent=reply.agent,
            asked=tuple(need.name for need in asked),
            brought=tuple(sorted(progress.known() - before)),
            question=question,
            calls=calls,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            order=progress.order,
        )
    )


# --- wording


def _words(
    job: Job, progress: Progress, stage: str, needs: Sequence[DataNeed]
) -> Generator[Call, Reply, tuple[str, Mapping[str, str]]]:
    """Return how to ask, with a model where the needs are described in another language.

    All that is missing is worded at once, and every wording is used again.
    """
    language, is_other = language_to_ask_in(job.request, needs)
    if job.wording == "plain" or job.model is None:
        return language, {}
    if job.wording == "auto" and not is_other:
        return language, {}
    known = job.words
    new = [n for n in progress.missing(job.needs) if (language, n.question) not in known]
    asking, left = asking_to_word(job.request, new), job.tokens_left(stage)
    pays = left is None or left >= asking.tokens(job.model) + _cost(job, needs)
    if pays and any((language, need.question) not in known for need in needs):
        reply = yield Call(stage, asking, is_needed=False)
        progress.worded.append((reply.calls, reply.input_tokens, reply.output_tokens))
        for name, words in asking.claims(reply.found or {}).items():
            need = job.needs.named(name)
            if need is not None and isinstance(words, str) and 0 < len(words.strip()) <= _LONGEST:
                known[language, need.question] = words.strip()
    return language, {
        need.name: known[language, need.question]
        for need in needs
        if (language, need.question) in known
    }


def _with_reasons(
    progress: Progress, needs: Sequence[DataNeed], words: Mapping[str, str]
) -> dict[str, str]:
    """Say, where something is asked for once more, what was wrong with what came."""
    why = {gap.name: gap.reason for gap in progress.gaps}
    return {**words} | {
        need.name: f"{words.get(need.name, need.question)} [{why[need.name]}]"
        for need in needs
        if progress.asked.get(need.name) and need.name in why
    }


_LONGEST: Final = 200
"""Characters of a question for one data point: more is no wording."""


# --- requests


def _may_hold_values(request: str, needs: Needs) -> bool:
    """Say whether a request could state any of what is needed: two words of matter cannot."""
    words = terms_of(request)
    if any(char.isdigit() for char in request):
        return True
    matter = [word for word in words if word not in ALL_STOP_WORDS]
    return len(matter) > _BARE or len(words) > 2 * _BARE


_BARE: Final = 2
"""Words of matter in a request that only says what to do: "Plan my trip"."""
