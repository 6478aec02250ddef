"""What ``from langchain_tokenopt import ...`` gives."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import langchain_tokenopt

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
