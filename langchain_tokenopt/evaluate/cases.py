"""The requests that both sides answer."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from langchain_core.messages import BaseMessage, messages_from_dict, messages_to_dict

from langchain_tokenopt.core.errors import TokenOptError

__all__ = ["Case", "CaseFileError", "cases_of", "read_cases"]


class CaseFileError(TokenOptError, ValueError):
    """A file of cases cannot be read; the message names the line."""


@dataclass(frozen=True, slots=True)
class Case:
    """One request, and what is known of its right answer.

    Example:
        >>> Case({"question": "Who won?"}, reference="Ada").reference
        'Ada'
    """

    input: Any
    """What the chain, graph or model is invoked with."""
    reference: Any = None
    """A right answer, or a list of answers each of which is right; ``None`` where none is known."""
    id: str = ""
    """A name; by default a hash of the input."""

    @property
    def references(self) -> list[Any]:
        """All right answers."""
        if self.reference is None:
            return []
        return list(self.reference) if isinstance(self.reference, list) else [self.reference]


def cases_of(cases: Iterable[Any] | str | Path) -> list[Case]:
    """Return cases of what a user has: cases, plain inputs, examples of LangSmith, or a file.

    Example:
        >>> [case.input for case in cases_of(["Who won?", Case("Who lost?")])]
        ['Who won?', 'Who lost?']
        >>> row = {"inputs": {"question": "Who won?"}, "outputs": {"answer": "Ada"}}
        >>> cases_of([row])[0].reference
        'Ada'

    Raises:
        CaseFileError: A line of the file is no case.
        ValueError: There is no case, or two of one id have different inputs.
    """
    found = read_cases(cases) if isinstance(cases, str | Path) else [_case(c) for c in cases]
    if not found:
        raise ValueError("There are no cases. Give a list of inputs, or a file with one a line.")
    return list(_named(found))


def _named(cases: Iterable[Case]) -> Iterator[Case]:
    """Give every case a name of its own: answers are kept by it."""
    inputs: dict[str, str] = {}
    times: Counter[str] = Counter()
    for case in cases:
        text = input_text(case.input)
        name = (
            case.id
            or hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
        )
        if inputs.setdefault(name, text) != text:
            raise ValueError(f"Two cases with different inputs have the id {name!r}.")
        times[name] += 1
        yield replace(case, id=name if times[name] == 1 else f"{name} again {times[name]}")


def read_cases(path: str | Path) -> list[Case]:
    """Read a file with one case a line, as JSON: an object with ``input``, or any plain input.

    Raises:
        CaseFileError: A line of the file is no case.
        OSError: The file cannot be read.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise CaseFileError(f"{path} is no UTF-8: {error}.") from error
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found.append(_case(json.loads(line)))
        except (ValueError, KeyError, TypeError) as error:
            raise CaseFileError(
                f"Line {number} of {path} is no case: {error}. Each line is a JSON object "
                f'with "input" and, where it is known, "reference".'
            ) from error
    return found


def _case(value: Any) -> Case:
    if isinstance(value, Case):
        return value
    if inputs := getattr(value, "inputs", None):  # an example of LangSmith's client
        value = {"inputs": inputs, "outputs": getattr(value, "outputs", None)}
    if isinstance(value, Mapping) and "inputs" in value:
        return Case(
            _input(_only(value["inputs"])),
            _reference(value.get("outputs")),
            str(value.get("id") or ""),
        )
    if isinstance(value, Mapping) and "input" in value and _is_case(value):
        return Case(_input(value["input"]), value.get("reference"), str(value.get("id") or ""))
    return Case(_input(value))


def _is_case(value: Mapping[str, Any]) -> bool:
    """Tell a case from the input of a chain that has a key ``input``."""
    return value.keys() <= {"input", "id", "metadata"} or "reference" in value


def _only(inputs: Any) -> Any:
    """Return the input itself where a dataset had to put it under a name."""
    return inputs["input"] if isinstance(inputs, Mapping) and inputs.keys() == {"input"} else inputs


def _reference(outputs: Any) -> Any:
    if isinstance(outputs, Mapping) and len(outputs) == 1:
        return next(iter(outputs.values()))
    return outputs or None


def _input(value: Any) -> Any:
    """Make messages again of what :func:`input_json` has written."""
    if isinstance(value, list) and value and all(_is_message(item) for item in value):
        return messages_from_dict(value)
    if _is_message(value):
        return messages_from_dict([value])[0]
    if isinstance(value, Mapping):
        return {key: _input(item) for key, item in value.items()}
    return value


def _is_message(value: Any) -> bool:
    return isinstance(value, Mapping) and value.keys() == {"type", "data"}


def input_json(value: Any) -> Any:
    """Return an input in the types of JSON; messages keep all they hold."""
    if isinstance(value, list | tuple) and value and all(isinstance(m, BaseMessage) for m in value):
        return messages_to_dict(list(value))
    if isinstance(value, BaseMessage):
        return messages_to_dict([value])[0]
    if isinstance(value, Mapping):
        return {str(key): input_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [input_json(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def input_text(value: Any) -> str:
    """Return an input as one text, the same for the same input."""
    return json.dumps(input_json(value), ensure_ascii=False, sort_keys=True)
