"""What must work with the core alone: no torch, no langchain, no OpenAI client installed.

Run in an environment of its own (see ``.ci/run``); it is no part of the ordinary test run.
"""

from __future__ import annotations

from importlib.util import find_spec

import pytest
from langchain_core.language_models import FakeListChatModel

import langchain_tokenopt
from langchain_tokenopt import RateCard, TokenOptWarning, optimize, track_usage


@pytest.mark.parametrize(
    "name", ["torch", "sentence_transformers", "langchain", "langchain_openai"]
)
def test_the_extras_are_not_here(name):
    """Otherwise this run would prove nothing."""
    assert find_spec(name) is None


@pytest.mark.parametrize("name", langchain_tokenopt.__all__)
def test_every_public_name_can_be_imported(name):
    """None needs an extra to be imported."""
    assert getattr(langchain_tokenopt, name) is not None


def test_names_of_agents_say_what_they_need():
    """They are classes of LangChain's own, so ``import *`` leaves them out."""
    assert "WordLimitMiddleware" not in langchain_tokenopt.__all__
    with pytest.raises(ImportError, match=r"pip install 'langchain-tokenopt\[agents\]'"):
        _ = langchain_tokenopt.WordLimitMiddleware


@pytest.mark.filterwarnings("ignore::langchain_tokenopt.TokenOptWarning")
def test_calls_are_counted_and_staged():
    """Without any vocabulary the counts are estimates, and say so."""
    model = optimize(FakeListChatModel(responses=["four"]))
    with track_usage() as usage:
        model.invoke("What is 2 + 2?")
    assert usage.totals().calls == usage.totals().estimated_calls == 1
    assert issubclass(TokenOptWarning, UserWarning)


def test_prices_are_known():
    """The rate card comes with the core."""
    assert RateCard().rates("gpt-4o", "openai") is not None


def test_the_command_line_answers():
    """``tokenopt --version`` and ``--help``."""
    from typer.testing import CliRunner

    from langchain_tokenopt.cli import app

    assert CliRunner().invoke(app, ["--help"]).exit_code == 0
