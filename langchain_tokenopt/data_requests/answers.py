"""What an answer, or a request, brings: by itself where its form is plain, else by a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from langchain_tokenopt.data_requests.collected import DataStage, Fact, Gap
from langchain_tokenopt.data_requests.needs import DataNeed
from langchain_tokenopt.data_requests.phrases import corrects
from langchain_tokenopt.data_requests.plain_answers import PlainAnswer, plain_answer, plain_parts
from langchain_tokenopt.data_requests.progress import Call, Job, Progress, Reply, Steps
from langchain_tokenopt.data_requests.reading import ENOUGH, asking_to_read
from langchain_tokenopt.data_requests.values import NotFound, read_value, why_missing
from langchain_tokenopt.text.sentences import sentences_of

__all__ = ["REQUEST", "read_answer", "read_request"]

REQUEST: Final = "request"
"""Name of the stage that reads the request."""
_NO_MODEL: Final = "the answer is free text, and no model was given to read it"


def read_request(job: Job, progress: Progress, missing: Sequence[DataNeed]) -> Steps:
    """Take what the request states."""
    before = progress.known()
    asking = asking_to_read(job.request, job.needs, missing)
    reply = yield Call(REQUEST, asking)
    for name, claim in asking.claims(reply.found or {}).items():
        _accept(job, progress, name, claim, job.request, REQUEST)
    if reply.calls:
        _note(progress, REQUEST, reply, (), before)


def read_answer(
    job: Job,
    progress: Progress,
    stage: str,
    answer: str | Mapping[str, Any],
    asked: Sequence[DataNeed],
    question: str,
) -> Steps:
    """Take what an answer says."""
    before, source = progress.known(), f"answer {progress.order - 1} ({stage})"
    reply, why = Reply(None, f"{job.name}/{stage}"), None
    plain = plain_answer(answer, job.needs, asked)
    if plain is None and job.model is None:
        why, plain = _NO_MODEL, plain_parts(str(answer), job.needs, asked)
    if plain is None:
        assert isinstance(answer, str)
        is_last = progress.at + 1 >= len(progress.plan)
        goes_on = progress.strategy == "progressive" and not is_last
        asking = asking_to_read(answer, job.needs, asked, request=job.request if goes_on else None)
        reply = yield Call(stage, asking)
        for name, claim in asking.claims(reply.found or {}).items():
            _accept(job, progress, name, claim, answer, source)
        progress.is_enough = asking.may_end and (reply.found or {}).get(ENOUGH) is True
        if reply.exhausted is not None:
            why = progress.stopped = reply.exhausted
            progress.unread.append(answer)
            plain = plain_parts(answer, job.needs, asked)
    if plain is not None:
        _accept_plain(job, progress, plain, source)
    if why is None and isinstance(answer, str):
        why = why_missing(answer)
    noted = {gap.name for gap in progress.gaps if gap.order == progress.order}
    for need in asked:
        if need.name not in progress.known() | noted:
            _miss(progress, need.name, why or "the answer does not say it")
    _note(progress, stage, reply, asked, before, question)


def _accept_plain(job: Job, progress: Progress, plain: PlainAnswer, source: str) -> None:
    for name, claim in plain.claims:
        _accept(job, progress, name, claim, None, source, is_correction=name in plain.corrects)


def _accept(
    job: Job,
    progress: Progress,
    name: str,
    claim: Any,
    text: str | None,
    source: str,
    *,
    is_correction: bool | None = None,
) -> None:
    """Take a value that is claimed, or take note why not."""
    if text is not None and claim in (None, "", [], {}):
        return
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
    fact = Fact.of(name, found, source, progress.order, corrects=is_correction)
    progress.facts.append(fact)


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
    question: str = "",
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
