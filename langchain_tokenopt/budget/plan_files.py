"""Plans in TOML and JSON files."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["check_format", "read_values", "to_toml"]


def read_values(path: Path) -> dict[str, Any]:
    """Return what a ``.toml`` or ``.json`` file says.

    Raises:
        ValueError: The file is neither, or not valid; the message names it.
        OSError: The file cannot be read.
    """
    check_format(path)
    try:
        if path.suffix == ".toml":
            return tomllib.loads(path.read_text(encoding="utf-8"))
        text = path.read_text(encoding="utf-8")
        values = json.loads(text, object_pairs_hook=_without_duplicates)
    except ValueError as error:  # not UTF-8, not TOML, not JSON, or a key twice
        raise ValueError(f"{path}: cannot be read as {path.suffix[1:].upper()}: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f'{path}: a plan is an object, such as {{"total_tokens": 9000}}.')
    return values


def check_format(path: Path) -> None:
    """Check the ending of a file's name.

    Raises:
        ValueError: It is another, or it is a folder.
    """
    if path.suffix not in (".toml", ".json") or path.is_dir():
        kind = "a folder" if path.is_dir() else repr(path.suffix)
        raise ValueError(f"{path}: a plan is a .toml or a .json file, not {kind}.")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a dict as the json module does, which would let the last of two equal keys win."""
    names = [name for name, _ in pairs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"named more than once: {', '.join(twice)}.")
    return dict(pairs)


def to_toml(values: Mapping[str, Any]) -> str:
    """Return the settings of a plan as TOML: names in quotation marks are strings of JSON.

    What is ``None`` is left out: it is the default wherever it can stand.

    Raises:
        ValueError: A name cannot be written.
    """
    tables = {"agents": values.get("agents") or {}, "within": values.get("within") or ()}
    lines = [f"{key} = {_value(one)}" for key, one in _given(values) if key not in tables]
    if tables["agents"]:
        lines += ["", "[agents]"]
        lines += [f"{_value(name)} = {_inline(own)}" for name, own in tables["agents"].items()]
    for limit in tables["within"]:
        lines += ["", "[[within]]", *(f"{key} = {_value(one)}" for key, one in _given(limit))]
    return "\n".join(lines) + "\n"


def _given(values: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [(key, one) for key, one in values.items() if one is not None]


def _inline(values: Mapping[str, Any]) -> str:
    return "{ " + ", ".join(f"{key} = {_value(one)}" for key, one in _given(values)) + " }"


def _value(value: Any) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False)
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{value!r} is no UTF-8 and cannot be written into a file.") from error
    return text.replace("\x7f", "\\u007f")  # which JSON allows and TOML does not
