"""Answers that need no model to be read: mappings, JSON, lists of names and values, one value."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from langchain_core.messages import BaseMessage
from langchain_core.prompt_values import PromptValue
from pydantic import BaseModel

from langchain_tokenopt.core.messages import text_of
from langchain_tokenopt.data_requests.needs import DataNeed, Needs
from langchain_tokenopt.data_requests.phrases import (
    corrects,
    is_refusal,
    refuses,
    says_no,
    says_yes,
)
from langchain_tokenopt.data_requests.values import NotFound, read_value

__all__ = ["PlainAnswer", "answer_of", "json_object", "plain_answer", "plain_parts"]

CORRECTS: Final = "corrects"
"""Key of a mapping under which it names what it corrects."""


@dataclass(frozen=True, slots=True)
class PlainAnswer:
    """What an answer claims."""

    claims: Sequence[tuple[str, Any]]
    """Names of needs, and what it says of them; it may contradict itself."""
    corrects: frozenset[str] = field(default_factory=frozenset)
    """Names of what it says to correct."""


def answer_of(given: Any) -> str | Mapping[str, Any]:
    """Return an answer in whatever form it came as a text or a mapping.

    Args:
        given: A text, a mapping, a pydantic object, a message, messages, or the state of a graph
            that has answered in ``messages``; ``None`` for no answer.
    """
    if given is None:
        return ""
    if isinstance(given, BaseModel) and not isinstance(given, BaseMessage):
        return given.model_dump(exclude_none=True)
    if isinstance(given, PromptValue):
        given = given.to_messages()
    if isinstance(given, Mapping):
        messages = given.get("messages")
        if isinstance(messages, list) and messages and isinstance(messages[-1], BaseMessage):
            return text_of(messages[-1])
        return given
    if isinstance(given, list) and given and isinstance(given[-1], BaseMessage):
        given = given[-1]
    if isinstance(given, BaseMessage):
        return text_of(given)
    return str(given)


def plain_answer(
    answer: str | Mapping[str, Any], needs: Needs, asked: Sequence[DataNeed]
) -> PlainAnswer | None:
    r"""Read an answer that needs no model; ``None`` for one that does.

    Example:
        >>> needs = Needs.of(["city", DataNeed("nights", type=int)])
        >>> plain_answer('{"City": "Rome"}', needs, needs.all).claims
        (('city', 'Rome'),)
        >>> plain_answer("Nights: 3\ncity: Rome", needs, needs.all).claims
        (('nights', '3'), ('city', 'Rome'))
        >>> plain_answer("Rome, for three nights", needs, needs.all) is None
        True
    """
    if isinstance(answer, Mapping):
        return _of_mapping(answer, needs)
    text = answer.strip()
    found = _object_in(text)
    if found is not None:
        return _of_mapping(found, needs)
    if not text or is_refusal(text):
        return PlainAnswer([(need.name, text) for need in asked])
    if len(asked) == 1 and _is_value(asked[0], text):
        return PlainAnswer([(asked[0].name, text)])
    return _labelled(text, needs, asked)


def plain_parts(answer: str, needs: Needs, asked: Sequence[DataNeed]) -> PlainAnswer:
    """Return what can be read without a model of an answer that would need one."""
    return _labelled(answer, needs, asked, partly=True) or PlainAnswer(())


def _of_mapping(given: Mapping[Any, Any], needs: Needs) -> PlainAnswer:
    if len(given) == 1 and (inner := next(iter(given.values()))).__class__ is dict:
        name = next(iter(given))
        if needs.named(name) is None:
            given = inner
    claims = tuple((n.name, value) for key, value in given.items() if (n := needs.named(key)))
    said = given.get(CORRECTS) if needs.named(CORRECTS) is None else None
    if said is True:
        return PlainAnswer(claims, frozenset(name for name, _ in claims))
    listed = [said] if isinstance(said, str) else said if isinstance(said, list | tuple) else []
    return PlainAnswer(claims, frozenset(n.name for each in listed if (n := needs.named(each))))


def json_object(text: str) -> Mapping[str, Any] | None:
    r"""Return the object that *text* is, in a code fence or not; ``None`` where it is none.

    Example:
        >>> json_object('```json\n{"city": "Rome"}\n```'), json_object("{city}")
        ({'city': 'Rome'}, None)
    """
    fenced = re.fullmatch(r"```\w*\s*(.*?)\s*```", text.strip(), re.DOTALL)
    try:
        found = json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError):
        return None
    if isinstance(found, list) and found and all(_is_pair(one) for one in found):
        return {one["name"]: one["value"] for one in found}
    return found if isinstance(found, dict) else None


def _object_in(text: str) -> Mapping[str, Any] | None:
    """Return the object that an answer is, or that it introduces with a few words."""
    start, end = text.find("{"), text.rfind("}") + 1
    if start < 0 or (whole := json_object(text)) is not None:
        return None if start < 0 else whole
    around = text[:start] + text[end:]
    if len(around.split()) > _AROUND or corrects(around) or refuses(around):
        return None
    return json_object(text[start:end])


_AROUND: Final = 8
"""Words around an object that say nothing beside it: "Here is what you asked for"."""


def _is_pair(given: Any) -> bool:
    return isinstance(given, dict) and {"name", "value"} <= given.keys()


def _is_value(need: DataNeed, text: str) -> bool:
    """Say whether a whole answer is nothing but a value of *need*, told by its form alone."""
    if need.kind is str or len(text) > _LONGEST:
        return False
    if need.kind is bool:
        return len(text.split()) == 1 and says_yes(text) != says_no(text)
    try:
        found = read_value(need, text)
    except NotFound:
        return False
    return len(found.said) >= len(text.strip(" .!。"))


_LONGEST: Final = 60
"""Characters of an answer that is one value."""
_LABEL: Final = re.compile(
    r"(?:^|(?<=[,;|\n]))[ \t]*(?:[-*•][ \t]*)?([^\n,;|:：=]{1,60}?)[ \t]*[:：=][ \t]*"
)
_NUMBERED: Final = re.compile(r"^\s*(\d{1,2})[.):]\s+(\S.*)$")


def _labelled(
    text: str, needs: Needs, asked: Sequence[DataNeed], *, partly: bool = False
) -> PlainAnswer | None:
    """Read names with their values, where there is nothing else and none is said twice.

    Args:
        text: An answer.
        needs: All needs.
        asked: Those that it answers; numbers are theirs.
        partly: Read what can be read: nobody else will.
    """
    claims: dict[str, str] = {}
    corrected: set[str] = set()
    is_corrected = False
    for line in filter(str.strip, text.replace("**", "").splitlines()):
        found = _labels(line, needs) or _numbered(line, asked, partly=partly)
        is_corrected = is_corrected or (not found and corrects(line))
        for need, value in found:
            is_more = corrects(value) or (refuses(value) and not is_refusal(value))
            if need.name in claims or (is_more and not partly):  # it says more than a value
                return None
            claims[need.name] = value
            corrected |= {need.name} if is_corrected or corrects(value) else set()
        if not found and not partly:
            return None
    return PlainAnswer(tuple(claims.items()), frozenset(corrected)) if claims else None


def _labels(line: str, needs: Needs) -> list[tuple[DataNeed, str]]:
    """Return the values of a line that begins with a name."""
    known = [
        (match, need)
        for match in _LABEL.finditer(line)
        if (need := next(filter(None, map(needs.named, _names_in(match[1]))), None))
    ]
    if not known or line[: known[0][0].start()].strip():
        return []
    ends = [match.start() for match, _ in known[1:]] + [len(line)]
    return [
        (need, line[match.end() : end].strip(" \t,;|").rstrip("."))
        for (match, need), end in zip(known, ends, strict=True)
    ]


def _numbered(line: str, asked: Sequence[DataNeed], *, partly: bool) -> list[tuple[DataNeed, str]]:
    """Return the value of a line that begins with the number of what was asked."""
    match = _NUMBERED.match(line)
    if match is None or len(asked) < 2 or not 1 <= int(match[1]) <= len(asked):
        return []
    need, value = asked[int(match[1]) - 1], match[2].rstrip(".")
    return [(need, value)] if partly or _is_value(need, value) else []


def _names_in(label: str) -> Iterator[str]:
    yield label
    yield re.sub(r"^\d{1,2}[.)]\s*", "", label)
    yield re.sub(r"\s*\([^)]*\)\s*$", "", label)
