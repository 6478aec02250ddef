"""What a run has answered, in one form for models, chains, agents and graphs, and its cost."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage
from pydantic import BaseModel

from langchain_tokenopt.core.messages import text_of
from langchain_tokenopt.core.records import UsageTotals

__all__ = ["NoAnswerError", "RunAnswer", "answer_of"]


@dataclass(frozen=True, slots=True)
class RunAnswer:
    """An answer as judges see it, and the price of the whole run."""

    text: str = ""
    """What was said; data are written as JSON."""
    data: Any = None
    """What was answered as data, in the types of JSON."""
    tool_calls: tuple[tuple[str, Any], ...] = ()
    """Names and arguments of the tools that the answer asks for."""
    error: str = ""
    """Name and message of the exception that ended the run."""
    calls: int = 0
    """Model calls."""
    cached_calls: int = 0
    """Those that a response cache has answered."""
    unpriced_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cost_nano_usd: int = 0
    """What the priced calls cost, in billionths of a US dollar."""
    seconds: float = 0.0

    @property
    def total_tokens(self) -> int:
        """Input plus output."""
        return self.input_tokens + self.output_tokens

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> RunAnswer:
        """Make it of what :meth:`to_dict` has returned."""
        calls = tuple((str(name), arguments) for name, arguments in kept.get("tool_calls", ()))
        return cls(**{**kept, "tool_calls": calls})


def answer_of(output: Any, totals: UsageTotals, seconds: float) -> RunAnswer:
    """Read the output of a run.

    A message counts with its text and tool calls; a state or a list of messages with its last
    answer's text and all tool calls; a state with ``structured_response`` and everything else as
    data.

    Raises:
        NoAnswerError: There is none, or it could not be parsed.

    Example:
        >>> answer_of(AIMessage("Ada won."), UsageTotals(), 0.1).text
        'Ada won.'
        >>> answer_of({"winner": "Ada"}, UsageTotals(), 0.1).text
        '{"winner": "Ada"}'
    """
    said = _said(output)
    return RunAnswer(
        said.text,
        said.data,
        said.tool_calls,
        calls=totals.calls,
        cached_calls=totals.cached_calls,
        unpriced_calls=totals.unpriced_calls,
        input_tokens=totals.input_tokens,
        output_tokens=totals.output_tokens,
        cache_read_tokens=totals.cache_read_tokens,
        cost_nano_usd=totals.cost_nano_usd or 0,
        seconds=seconds,
    )


@dataclass(frozen=True, slots=True)
class _Said:
    text: str
    data: Any = None
    tool_calls: tuple[tuple[str, Any], ...] = field(default=())


class NoAnswerError(Exception):
    """A run has ended without an answer."""


def _said(output: Any) -> _Said:
    if output is None:
        raise NoAnswerError("it returned None")
    if isinstance(output, str):
        return _Said(output)
    if isinstance(output, BaseMessage):
        return _of_message(output)
    if isinstance(output, Mapping):
        return _of_mapping(output)
    if isinstance(output, Sequence) and output and isinstance(output[-1], BaseMessage):
        return _of_messages(output)
    return _of_data(output)


def _of_message(message: BaseMessage) -> _Said:
    calls = message.tool_calls if isinstance(message, AIMessage) else []
    named = tuple((call["name"], plain(call["args"])) for call in calls)
    return _Said(text_of(message), tool_calls=named)


def _of_messages(messages: Sequence[Any]) -> _Said:
    answers = [_of_message(m) for m in messages if isinstance(m, AIMessage)]
    last = answers[-1] if answers else _of_message(messages[-1])
    return _Said(last.text, tool_calls=tuple(c for said in answers for c in said.tool_calls))


def _of_mapping(output: Mapping[Any, Any]) -> _Said:
    if output.get("structured_response") is not None:
        return _of_data(output["structured_response"])
    if output.keys() == {"raw", "parsed", "parsing_error"}:  # with_structured_output(include_raw=)
        if output["parsing_error"] is not None:
            raise NoAnswerError(f"the answer could not be parsed: {output['parsing_error']}")
        return _of_data(output["parsed"])
    messages = output.get("messages")
    if isinstance(messages, Sequence) and messages and isinstance(messages[-1], BaseMessage):
        return _of_messages(messages)
    return _of_data(output)


def _of_data(output: Any) -> _Said:
    data = plain(output)
    return _Said(json.dumps(data, ensure_ascii=False), data)


def plain(value: Any) -> Any:
    """Return *value* in the types of JSON; what has no such form is written as text.

    Example:
        >>> plain({1: ("a", b"b")})
        {'1': ['a', "b'b'"]}
    """
    if isinstance(value, BaseMessage):
        return text_of(value)
    if isinstance(value, BaseModel):
        return plain(value.model_dump())
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
