"""The stand-in passes LangChain's own suites for chat models, as real providers have to."""

from __future__ import annotations

from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from langchain_tokenopt.testing import ExtractiveChatModel


class _Suite:
    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ExtractiveChatModel

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": "extractive-1"}

    @property
    def supports_model_override(self) -> bool:
        return True

    @property
    def model_override_value(self) -> str:
        return "extractive-2"


class TestUnit(_Suite, ChatModelUnitTests):
    """Settings, tools and schemas, with every standard parameter."""


class TestIntegration(_Suite, ChatModelIntegrationTests):
    """Calls, streams, conversations, tools, structured output and agents."""

    @property
    def standard_chat_model_params(self) -> dict[str, Any]:
        return super().standard_chat_model_params | {"api_key": "none", "max_tokens": 300}

    @property
    def supports_anthropic_inputs(self) -> bool:
        return True
