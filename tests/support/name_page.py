"""The tables of docs/names.md, made from the docstrings, and the house of CONTRIBUTING.md."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterable
from importlib import import_module
from itertools import pairwise
from typing import Any

import langchain_tokenopt
from tests.unit_tests.test_architecture import LAYERS

__all__ = ["ROOMS", "house", "inner_names", "public_names"]

ROOMS = ("budget", "cache", "chat_model", "compress", "context", "data_requests", "evaluate")
ROOMS += ("graph", "ledger", "limits", "report", "testing", "validate")
"""Whose other names users may want, from one level down."""


def public_names() -> str:
    """Return what ``from langchain_tokenopt import ...`` gives, as a table."""
    return _table(langchain_tokenopt, langchain_tokenopt.__all__)


def inner_names() -> str:
    """Return what stands one level down, room by room."""
    parts = []
    for room in ROOMS:
        module = import_module(f"langchain_tokenopt.{room}")
        inner = [
            name
            for name in sorted(set(module.__all__) - set(langchain_tokenopt.__all__))
            if not name.isupper()
        ]
        parts.append(f"`from langchain_tokenopt.{room} import ...`\n\n{_table(module, inner)}")
    return "\n\n".join(parts)


def _table(module: Any, names: Iterable[str]) -> str:
    rows = [f"| `{name}` | {_first_sentence(_docstring(module, name))} |" for name in names]
    return "\n".join(["| name | what it is |", "|---|---|", *rows])


def _docstring(module: Any, name: str) -> str:
    """Return the docstring of what a module gives; of a type alias the text below it."""
    value = getattr(module, name)
    if inspect.isclass(value) or inspect.isroutine(value):
        return inspect.getdoc(value) or ""
    inner = getattr(module, "_MODULE_OF", {}).get(name)
    room = import_module(f"{module.__name__}.{inner}") if inner else module
    tree = ast.parse(inspect.getsource(room))
    for one, below in pairwise(tree.body):
        if isinstance(one, ast.ImportFrom) and name in {alias.name for alias in one.names}:
            return _docstring(import_module(str(one.module)), name)
        targets = [one.target] if isinstance(one, ast.AnnAssign) else getattr(one, "targets", [])
        if any(isinstance(t, ast.Name) and t.id == name for t in targets):
            assert isinstance(below, ast.Expr), f"{name} has no docstring below it"
            return str(ast.literal_eval(below.value))
    raise LookupError(name)


def _first_sentence(docstring: str) -> str:
    paragraph = docstring.strip().split("\n\n")[0].replace("\n", " ")
    ends = (found.start() for found in re.finditer(r"\.(?=\s+[A-Z*`:])|\.?$", paragraph))
    sentence = next(paragraph[:at] for at in ends if _is_closed(paragraph[:at]))
    plain = re.sub(r":\w+:`[~.]?([^`]+)`", r"`\1`", sentence).replace("``", "`")
    return re.sub(r"(?<!\w)\*(\w[^*]*)\*", r"`\1`", plain).replace("|", r"\|")


def _is_closed(text: str) -> bool:
    return text.count("(") == text.count(")")


def house() -> str:
    """Return the layers of the package as a drawing, the highest on top."""
    rows = ["   ".join(sorted(rooms)) for rooms in reversed(LAYERS)]
    wide = max(map(len, rows))
    line = f"+{'-' * (wide + 2)}+"
    drawn = "\n".join(f"| {row.center(wide)} |" for row in rows)
    return f"```text\n{line}\n{drawn}\n{line}\n```"
