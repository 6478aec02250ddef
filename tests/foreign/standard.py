"""LangChain's standard suites over real integrations, which talk to the tests' own server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.caches import InMemoryCache
from langchain_google_genai import ChatGoogleGenerativeAI
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import (
    AsyncCacheTestSuite,
    ChatModelIntegrationTests,
    SyncCacheTestSuite,
)
from langchain_tests.unit_tests import ChatModelUnitTests

from tests.support.model_server import ModelServer

SERVER = ModelServer()


@pytest.fixture(scope="module", autouse=True)
def _serve() -> Iterator[None]:
    with SERVER:
        yield


class TestOpenAI(ChatModelIntegrationTests):
    @property
    def chat_model_class(self) -> Any:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": "gpt-4.1-mini", "api_key": "test", "base_url": f"{SERVER.url}/v1"}


class TestAnthropic(ChatModelIntegrationTests):
    @property
    def chat_model_class(self) -> Any:
        return ChatAnthropic

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": "claude-haiku-4-5", "api_key": "test", "base_url": SERVER.url}


class TestGemini(ChatModelIntegrationTests):
    @property
    def chat_model_class(self) -> Any:
        return ChatGoogleGenerativeAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": "gemini-2.5-flash", "api_key": "test", "base_url": SERVER.url}


class TestOpenAIUnit(ChatModelUnitTests):
    @property
    def chat_model_class(self) -> Any:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": "gpt-4.1-mini", "api_key": "test"}


class TestAnthropicUnit(ChatModelUnitTests):
    @property
    def chat_model_class(self) -> Any:
        return ChatAnthropic

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": "claude-haiku-4-5", "api_key": "test"}


class TestCache(SyncCacheTestSuite):
    @pytest.fixture
    def cache(self) -> InMemoryCache:
        return InMemoryCache()


class TestAsyncCache(AsyncCacheTestSuite):
    @pytest.fixture
    async def cache(self) -> InMemoryCache:
        return InMemoryCache()
