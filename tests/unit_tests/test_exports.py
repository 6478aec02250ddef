"""What ``from langchain_tokenopt import ...`` gives."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
import types
from collections.abc import Iterator
from dataclasses import is_dataclass

import pytest

import langchain_tokenopt
from langchain_tokenopt import BudgetRun, TokenOptError, TokenScope

HEAVY = (
    "torch",
    "faiss",
    "sqlalchemy",
    "langchain",
    "sentence_transformers",
    "genai_prices",
    "typer",
    "tiktoken",
    "langgraph",
)


@pytest.mark.parametrize("name", langchain_tokenopt.__all__)
def test_public_names_exist_and_say_what_they_are(name):
    """Each is found, and has a docstring of its own."""
    public = getattr(langchain_tokenopt, name)
    assert public.__doc__
    if getattr(public, "__module__", "").startswith("langchain_tokenopt."):
        exported = importlib.import_module(public.__module__)
        assert getattr(exported, name) is public


def test_the_lists_of_names_agree():
    """One list for people, one for loading, one for dir()."""
    assert sorted(langchain_tokenopt.__all__) == langchain_tokenopt.__all__
    assert set(langchain_tokenopt._MODULE_OF) == set(langchain_tokenopt.__all__)
    assert set(langchain_tokenopt.__all__) <= set(dir(langchain_tokenopt))


def test_an_unknown_name_is_an_attribute_error():
    """As for any module."""
    with pytest.raises(AttributeError, match="SmartCache"):
        langchain_tokenopt.SmartCache  # noqa: B018


def _ours() -> dict[str, type]:
    """All classes of the package that have a public name."""
    found = {}
    for module in pkgutil.walk_packages(langchain_tokenopt.__path__, "langchain_tokenopt."):
        if ".export." in module.name or module.name.endswith("__main__"):
            continue  # which need an extra, or run
        for name, thing in vars(importlib.import_module(module.name)).items():
            own = getattr(thing, "__module__", "").startswith("langchain_tokenopt.")
            if isinstance(thing, type) and own and not name.startswith("_"):
                found[name] = thing
    return found


OURS = _ours()
INTERNAL_ERRORS = {"EmbeddingFailedError", "NoMoneyError", "RefusedCall"}
"""Caught inside of the package; and a ``BudgetExceededError`` that tools can say."""
MADE_FOR_USERS = (BudgetRun, TokenScope)
"""What ``plan.run()`` and ``token_scope()`` give: nobody calls their constructors."""


def test_every_error_that_users_catch_is_at_the_top():
    """An except clause can name it without knowing the room that raises it."""
    errors = {name for name, one in OURS.items() if issubclass(one, (TokenOptError, Warning))}
    assert errors - INTERNAL_ERRORS <= set(langchain_tokenopt.__all__)


def _made_or_called() -> Iterator[tuple[str, object]]:
    for name in langchain_tokenopt.__all__:
        found = inspect.unwrap(getattr(langchain_tokenopt, name))
        if isinstance(found, type):
            if found in MADE_FOR_USERS or is_dataclass(found) or issubclass(found, Exception):
                continue
            found = inspect.unwrap(found.__init__)
        if inspect.isfunction(found):
            yield name, found


def _is_named(word: str) -> bool:
    """Whether a class can be imported by a name that stays: from the top, its room, its module."""
    parts = OURS[word].__module__.split(".")
    modules = [
        importlib.import_module(".".join(parts[:depth])) for depth in range(1, len(parts) + 1)
    ]
    return any(word in getattr(module, "__all__", ()) for module in modules)


def _classes_in(function: types.FunctionType, annotation: object) -> set[str]:
    words = {word for word in re.findall(r"\w+", str(annotation)) if word in OURS}
    return {word for word in words if function.__globals__.get(word, OURS[word]) is OURS[word]}


@pytest.mark.parametrize(
    ("name", "function"),
    [*_made_or_called()],
    ids=lambda value: getattr(value, "__qualname__", value),
)
def test_whatever_users_pass_can_be_named(name, function):
    """What goes into a public name is public."""
    for parameter in inspect.signature(function).parameters.values():
        for word in _classes_in(function, parameter.annotation):
            assert _is_named(word), f"{name}({parameter})"


@pytest.mark.parametrize("name", langchain_tokenopt.__all__)
def test_whatever_users_are_given_can_be_named(name):
    """So is what comes out of it and of its methods."""
    public = getattr(langchain_tokenopt, name)
    own = vars(public).items() if isinstance(public, type) else [(name, public)]
    for key, method in own:
        inner = getattr(method, "fget", None) or getattr(method, "__func__", method)
        function = inspect.unwrap(inner) if callable(inner) else None
        if key.startswith("_") or not inspect.isfunction(function):
            continue
        for word in _classes_in(function, inspect.signature(function).return_annotation):
            assert _is_named(word), f"{name}.{key} gives {word}"


def _modules_after(code: str) -> set[str]:
    printed = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint('\\n'.join(sys.modules))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return {line.partition(".")[0] for line in printed.splitlines()}


def test_importing_the_package_is_cheap():
    """It loads nothing but itself."""
    assert not set(HEAVY) & _modules_after("import langchain_tokenopt")
    assert "langchain_core" not in _modules_after("import langchain_tokenopt")


def test_the_handler_loads_nothing_heavy_either():
    """Tracking usage needs neither an index, nor a database, nor torch."""
    loaded = _modules_after("from langchain_tokenopt import TokenUsageCallbackHandler, optimize")
    assert not set(HEAVY) & loaded
