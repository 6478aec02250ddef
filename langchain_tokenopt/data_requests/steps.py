"""One collection, step by step, without asking anybody itself.

What the collection knows is a :class:`Progress`, which is JSON. Each step is a generator: it yields
the calls of a model that it needs, is sent their replies, and ends with a question to ask, or none.
So the same steps run in a plain loop, in an event loop and in a graph that is resumed elsewhere.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any, Final

from langchain_tokenopt.data_requests.answers import REQUEST, read_answer, read_request
from langchain_tokenopt.data_requests.needs import DataNeed, Needs
from langchain_tokenopt.data_requests.progress import Call, Job, Progress, Reply, Steps
from langchain_tokenopt.data_requests.reading import asking_to_read, asking_to_word
from langchain_tokenopt.data_requests.strategies import chosen_strategy, stages_for
from langchain_tokenopt.data_requests.wording import language_to_ask_in, question_text
from langchain_tokenopt.text.stopwords import ALL_STOP_WORDS
from langchain_tokenopt.text.words import terms_of

__all__ = ["begin", "take"]

_NOT_TOLD: Final = "it was not told"


def begin(job: Job, progress: Progress) -> Steps:
    """Find out what is missing, read the request for it, and word the first question."""
    progress.strategy = job.strategy
    missing = progress.missing(job.needs)
    if missing and job.read_request and _may_hold_values(job.request, job.needs):
        yield from read_request(job, progress, missing)
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
    yield from read_answer(job, progress, stage, answer, asked, question)
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
