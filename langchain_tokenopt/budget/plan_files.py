"""Plans in TOML and JSON files; errors name the file, the key and the value."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

__all__ = ["explain", "read_values"]


def read_values(path: Path) -> Any:
    """Return what a ``.toml`` or ``.json`` file says.

    Raises:
        ValueError: The file is neither, or not valid; the message names it.
        OSError: The file cannot be read.
    """
    try:
        if path.suffix == ".toml":
            return tomllib.loads(path.read_text(encoding="utf-8"))
        if path.suffix == ".json":
            text = path.read_text(encoding="utf-8")
            return json.loads(text, object_pairs_hook=_without_duplicates)
    except ValueError as error:  # not UTF-8, not TOML, not JSON, or a key twice
        raise ValueError(f"{path}: cannot be read as {path.suffix[1:].upper()}: {error}") from error
    raise ValueError(f"{path}: a plan is a .toml or a .json file, not {path.suffix!r}.")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a dict as the json module does, which would let the last of two equal keys win."""
    names = [name for name, _ in pairs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"named more than once: {', '.join(twice)}.")
    return dict(pairs)


def explain(error: ValidationError, models: Mapping[str, type[BaseModel]]) -> str:
    """Say what is wrong with which key, and what it was.

    Args:
        error: What pydantic found.
        models: Whose keys may stand below a key, and, under ``""``, at the top: to name them
            beside unknown ones.
    """
    findings = []
    for wrong in error.errors():
        key = ".".join(map(str, wrong["loc"])) or "the plan"
        what = wrong["msg"].removeprefix("Value error, ").removesuffix(".")
        if wrong["type"] == "extra_forbidden":
            above = str(wrong["loc"][0]) if len(wrong["loc"]) > 1 else ""
            known = sorted(models[above].model_fields)
            what = f"unknown key; known are {', '.join(known)}"
        elif wrong["type"] not in ("missing", "value_error"):
            what = f"{what}, got {wrong['input']!r}"
        findings.append(f"{key}: {what}")
    return "; ".join(findings)
