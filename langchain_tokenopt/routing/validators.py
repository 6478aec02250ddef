"""What decides whether an answer is good enough, or the next model is to be asked."""

from __future__ import annotations

import asyncio
import inspect
import math
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, Final

from langchain_core.messages import AIMessage
from pydantic import BaseModel, ValidationError

from langchain_tokenopt.core.argument_checks import did_you_mean, shown
from langchain_tokenopt.core.event_loop import done_beside_loop, on_event_loop
from langchain_tokenopt.core.messages import text_of
from langchain_tokenopt.counting.tokens import counter_for
from langchain_tokenopt.limits import WordLimit
from langchain_tokenopt.limits.excerpt import Excerpt
from langchain_tokenopt.request.finish_reasons import is_refused_by_provider, says_cap_reached
from langchain_tokenopt.request.form_tools import form_names
from langchain_tokenopt.routing.answer_marks import REFUSAL, UNSURE

__all__ = ["Validator", "is_answer", "validators_of"]

Check = Callable[[AIMessage], Any]


@dataclass(frozen=True, slots=True)
class Validator:
    """Judges an answer: ``False`` asks the next model, ``None`` is no opinion."""

    name: str
    check: Check
    is_quick: bool
    """Whether it is ours, and takes no time: an event loop need not be kept free for it."""

    def judge(self, answer: AIMessage) -> bool | None:
        """Return whether *answer* is good enough; whatever a function of the user's raises."""
        said = self.check(answer)
        return _opinion(_awaited(said) if inspect.isawaitable(said) else said)

    async def ajudge(self, answer: AIMessage) -> bool | None:
        """As :meth:`judge`; what may block goes to a thread."""
        if self.is_quick or inspect.iscoroutinefunction(self.check):
            said = self.check(answer)
        else:
            said = await done_beside_loop(lambda: self.check(answer))
        return _opinion(await said if inspect.isawaitable(said) else said)


def _opinion(said: Any) -> bool | None:
    return None if said is None else bool(said)


def _awaited(waiting: Any) -> Any:
    """Wait for an asynchronous function where nobody else can."""

    async def wait() -> Any:
        return await waiting

    if not on_event_loop():
        return asyncio.run(wait())
    found: list[Any] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            found.append(asyncio.run(wait()))
        except BaseException as error:  # noqa: BLE001  raised where it is waited for
            errors.append(error)

    thread = threading.Thread(target=copy_context().run, args=(work,))
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return found[0]


def validators_of(given: Any) -> tuple[Validator, ...]:
    """Return the validators of a cascade.

    Raises:
        ValueError: There is none of such a name.
        TypeError: One of them is no validator.
    """
    if given is None:
        return ()
    if isinstance(given, Iterable) and not isinstance(given, str | type | Mapping | BaseModel):
        return tuple(_validator_of(one) for one in given)
    return (_validator_of(given),)


def _validator_of(given: Any) -> Validator:
    if isinstance(given, str):
        if given not in _NAMED:
            raise ValueError(
                f"cascade: there is no validator {given!r}.{did_you_mean(given, _NAMED)} By name "
                f"there are {', '.join(map(repr, _NAMED))}; or give a function, a pydantic class "
                f"or a WordLimit."
            )
        return Validator(given, _NAMED[given], is_quick=True)
    if isinstance(given, type) and issubclass(given, BaseModel):
        return Validator(given.__name__, lambda answer: _fits(given, answer), is_quick=True)
    if isinstance(given, WordLimit):
        return Validator(repr(given), lambda answer: _is_within(given, answer), is_quick=True)
    if callable(given) and not isinstance(given, type):
        name = getattr(given, "__name__", None) or type(given).__name__
        name = "of a function" if name.startswith("<") else str(name)
        return Validator(name, given, is_quick=False)
    raise TypeError(
        f"cascade takes a function of an answer, a pydantic class, a WordLimit, 'refusal', "
        f"'confidence', or several of them; got {shown(given)}."
    )


# --- a schema


def _fits(schema: type[BaseModel], answer: AIMessage) -> bool:
    """Whether a program that reads the answer gets an object of the schema."""
    calls = answer.tool_calls
    if calls or answer.invalid_tool_calls:
        named = [call for call in calls if call["name"] == schema.__name__] or calls
        return not answer.invalid_tool_calls and all(_is_valid(schema, c["args"]) for c in named)
    try:
        schema.model_validate_json(text_of(answer))
    except ValidationError:
        return False
    return True


def _is_valid(schema: type[BaseModel], value: Any) -> bool:
    try:
        schema.model_validate(value)
    except ValidationError:
        return False
    return True


def _is_within(limit: WordLimit, answer: AIMessage) -> bool:
    text = text_of(answer)
    name = str(answer.response_metadata.get("model_name") or "")
    excerpt = Excerpt(limit.limit, lambda part: counter_for(name).count(part).tokens)
    return excerpt.feed(text) + excerpt.finish() == text


# --- what an answer says of itself

_BEGINNING: Final = 240
"""Characters in which a refusal stands: later it is about a part, or somebody else's."""

_LEAST_CERTAIN: Final = 0.6
"""Mean probability of a token below which an answer counts as unsure, where providers tell it."""


def _straight(text: str) -> str:
    return text.lower().replace("’", "'")


def _is_no_refusal(answer: AIMessage) -> bool | None:
    """Whether the model has said what it was asked: it has not declined, and was not cut off."""
    said = answer.response_metadata
    if is_refused_by_provider(said) or is_refused_by_provider(answer.additional_kwargs):
        return False
    if says_cap_reached(said) or not _says_something(answer):
        return False
    text = _straight(text_of(answer))
    own = _QUOTED.sub(lambda found: " " * len(found.group()), text)
    return not REFUSAL.search((own if _LETTER.search(own) else text)[:_BEGINNING])


def _says_something(answer: AIMessage) -> bool:
    """Whether there is a text, an image or a call of a tool, rather than a refusal or thoughts."""
    if answer.tool_calls or text_of(answer).strip():
        return True
    blocks = answer.content if isinstance(answer.content, list) else []
    return any(isinstance(b, dict) and b.get("type") not in _SAYS_NOTHING for b in blocks)


_SAYS_NOTHING: Final = frozenset(
    {"text", "output_text", "refusal", "reasoning", "thinking", "redacted_thinking"}
)
_LETTER: Final = re.compile(r"[^\W\d_]")
_QUOTED: Final = re.compile(
    r"\"[^\"\n]+\"|[“„][^“”\n]+[“”]|«[^«»\n]+»|「[^「」\n]+」|『[^『』\n]+』|^[ \t]*>.*"
    r"|(?<!\w)'(?=\S)(?:[^'\n]|(?<=\w)'(?=\w))+'(?!\w)|(?s:```.*?(?:```|\Z))",
    re.M,
)
"""What somebody else says; apostrophes are straight."""


def _is_confident(answer: AIMessage) -> bool | None:
    """Whether the model is sure, by its own words, and by its probabilities where they are told."""
    if UNSURE.search(_straight(text_of(answer))):
        return False
    certain = _certainty(answer)
    return None if certain is None else certain >= _LEAST_CERTAIN


def _certainty(answer: AIMessage) -> float | None:
    """Return the mean probability of the answer's tokens; ``None``: it is not told."""
    told = answer.response_metadata.get("logprobs")
    tokens = told.get("content") if isinstance(told, Mapping) else told
    if not isinstance(tokens, list):
        return None
    found = [
        float(token["logprob"])
        for token in tokens
        if isinstance(token, Mapping) and isinstance(token.get("logprob"), int | float)
    ]
    return math.exp(sum(found) / len(found)) if found else None


_NAMED: Final[Mapping[str, Check]] = {"refusal": _is_no_refusal, "confidence": _is_confident}


def is_answer(message: AIMessage) -> bool:
    """Whether a message is to be judged: one that calls tools goes on, and is none yet."""
    if not message.tool_calls:
        return True
    forms = form_names()
    return all(call["name"] in forms for call in message.tool_calls)
