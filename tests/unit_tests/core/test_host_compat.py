"""What other packages do not publish and this one relies upon is still as it was.

A test that fails here says in words what a release has changed; the function of the same room in
``core/host_compat.py`` or ``graph/host_compat.py`` is the place to mend.
"""

from __future__ import annotations

import inspect
from importlib.metadata import requires, version
from pathlib import Path
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel, FakeListChatModel
from langchain_core.tools import StructuredTool
from langchain_openai import ChatOpenAI
from packaging.requirements import Requirement
from packaging.version import Version
from pydantic import BaseModel

from langchain_tokenopt.core import host_compat, host_releases
from langchain_tokenopt.core.errors import HostVersionError, TokenOptWarning
from langchain_tokenopt.counting import tiktoken_files

HOSTS = ("langchain-core", "langgraph", "tiktoken", "genai-prices")
"""Packages of whose private parts something is used."""


def test_a_chat_model_is_asked_by_the_methods_that_the_seam_overrides():
    """langchain-core calls these, with these parameters."""
    for name in ("_generate", "_agenerate", "_stream", "_astream"):
        parameters = inspect.signature(getattr(BaseChatModel, name)).parameters
        assert {"messages", "stop", "run_manager"} <= set(parameters), (
            f"BaseChatModel.{name} takes other parameters: see chat_model/sync_calls.py"
        )
    for name in ("generate", "agenerate", "stream", "astream", "stream_events", "astream_events"):
        assert callable(getattr(BaseChatModel, name, None)), (
            f"BaseChatModel.{name} is gone: see chat_model/current_run.py"
        )


def test_core_asks_whether_to_stream_with_the_run_at_hand():
    """``_should_stream`` is told the run manager before ``_stream`` is called without it."""
    parameters = inspect.signature(BaseChatModel._should_stream).parameters
    assert {"async_api", "run_manager"} <= set(parameters), (
        "BaseChatModel._should_stream takes other parameters: see chat_model/current_run.py"
    )
    told: list[Any] = []

    class Asked(FakeListChatModel):
        def _should_stream(self, **kwargs: Any) -> bool:
            told.append(kwargs.get("run_manager"))
            return super()._should_stream(**kwargs)

    Asked(responses=["yes"]).invoke("?")
    assert told
    assert told[-1] is not None, (
        "langchain-core does not tell _should_stream the run any more: streams that nobody asked "
        "for are attributed to no run (chat_model/current_run.py)"
    )


def test_core_hands_the_invocation_parameters_on_as_they_are():
    """By their class handlers know a staged model, at the start of its run."""
    told: list[Any] = []

    class Parameters(dict[str, Any]):
        pass

    class Named(FakeListChatModel):
        def _get_invocation_params(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
            return Parameters(super()._get_invocation_params(*args, **kwargs))

    class Listening(BaseCallbackHandler):
        def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
            told.append(kwargs["invocation_params"])

    Named(responses=["yes"]).invoke("?", config={"callbacks": [Listening()]})
    assert isinstance(told[0], Parameters), (
        "langchain-core copies the invocation parameters: budgets no longer see which models are "
        "staged (chat_model/current_run.py, core/staged_runs.py)"
    )


def test_the_private_questions_to_a_model_are_answered():
    """Each by the function that asks it."""
    model = FakeListChatModel(responses=["yes"])
    assert host_compat.would_stream(model, {}, async_api=False) is True
    assert "fake-list-chat-model" in host_compat.llm_string_of(model, ["."], {"max_tokens": 5})
    assert "max_tokens" in host_compat.llm_string_of(model, ["."], {"max_tokens": 5})
    openai = ChatOpenAI(model="gpt-4o", api_key="x")
    assert host_compat.provider_of(openai) == "openai"


def test_core_says_which_answers_come_from_a_cache():
    """While it does, hits of foreign caches are recognised by it."""
    assert host_compat.core_marks_cache_hits() is True, (
        "langchain-core has stopped to set total_cost on cache hits: tracking falls back to "
        "message ids (tracking/provider_usage.py)"
    )


def test_a_pydantic_model_holds_nothing_else():
    """The seam makes models that share their state by these four."""
    assert set(host_compat.PYDANTIC_STATE) - {"__dict__"} == {
        slot for slot in BaseModel.__slots__ if slot != "__dict__"
    }, "pydantic keeps more state in a model: see chat_model/staged_call.py"


def test_arguments_of_a_directly_injected_type_are_hidden_from_the_model():
    """As those of LangGraph's ``ToolRuntime``."""

    class Injected(host_compat.DIRECTLY_INJECTED):  # type: ignore[name-defined, misc]
        pass

    def look_up(word: str, given: Injected) -> str:
        """Look a word up."""
        return word

    look_up.__annotations__["given"] = Injected  # a class of this test is no name of the module
    made = StructuredTool.from_function(look_up)
    assert host_compat.DIRECTLY_INJECTED is not object
    assert ["word"] == list(made.args), (
        "langchain-core shows such arguments to the model: see core/host_compat.py"
    )


def test_init_chat_model_makes_a_configurable_model():
    """``optimize`` recognises it by two private names."""
    pytest.importorskip("langchain")
    from langchain.chat_models import init_chat_model

    assert host_compat.is_configurable_model(init_chat_model(configurable_fields="any"))
    assert not host_compat.is_configurable_model(FakeListChatModel(responses=["yes"]))


def test_tiktoken_reads_its_files_by_the_function_that_is_replaced():
    """Without it the vocabulary cannot be read from elsewhere, and counts are estimates."""
    from tiktoken_ext import openai_public

    for name in ("o200k_base", "cl100k_base"):
        names = openai_public.ENCODING_CONSTRUCTORS[name].__code__.co_names
        assert tiktoken_files._READER in names, (
            f"tiktoken reads {name} by another function than {tiktoken_files._READER}: see "
            f"counting/tiktoken_files.py"
        )


# --- releases


@pytest.mark.parametrize("package", HOSTS)
def test_releases_are_bounded_on_both_sides(package):
    """A package of whose private parts something is used must not change under us."""
    stated = [Requirement(text) for text in requires("langchain-tokenopt") or ()]
    (bounds,) = [each for each in stated if each.name == package and each.marker is None]
    operators = {specifier.operator for specifier in bounds.specifier}
    assert {">=", "<"} <= operators
    assert bounds.specifier.contains(version(package), prereleases=True)


@pytest.fixture
def _installed(monkeypatch, request):
    """Another release than the installed one, at least by name."""
    monkeypatch.setattr(host_releases, "version", lambda package: request.param)
    host_releases.check_host.cache_clear()
    yield
    host_releases.check_host.cache_clear()


@pytest.mark.parametrize("_installed", ["0.0.1"], indirect=True)
@pytest.mark.usefixtures("_installed")
def test_an_older_release_is_refused_in_one_sentence():
    """With the range, and what to run."""
    with pytest.raises(
        HostVersionError, match=r"langgraph 0\.0\.1 is installed.*pip install 'lang"
    ):
        host_releases.check_host("langgraph")


@pytest.mark.parametrize("_installed", ["999"], indirect=True)
@pytest.mark.usefixtures("_installed")
def test_a_newer_release_is_warned_about_once():
    """It may work."""
    with pytest.warns(TokenOptWarning, match="langgraph 999 is installed") as caught:
        host_releases.check_host("langgraph")
        host_releases.check_host("langgraph")
    assert len(caught) == 1


def test_the_installed_releases_pass():
    """Silently."""
    for package in HOSTS:
        host_releases.check_host(package)
        assert Version(version(package))


def test_private_names_of_hosts_stand_in_host_compat_only():
    """So that a release is met in one place."""
    package = Path(host_compat.__file__).parents[1]
    private = (
        "._should_stream",
        "._get_llm_string",
        "._get_ls_params",
        "_convert_cached",
        "_node_defaults",
    )
    allowed = {"host_compat.py", "current_run.py", "extractive.py"}
    found = [
        f"{path.relative_to(package)}: {name}"
        for path in package.rglob("*.py")
        if path.name not in allowed
        for name in private
        if name in path.read_text(encoding="utf-8")
    ]
    assert not found
