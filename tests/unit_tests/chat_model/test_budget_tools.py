"""What a budget shortens prompts with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from langchain_core.messages import HumanMessage

from langchain_tokenopt.chat_model import budget_tools
from langchain_tokenopt.core.errors import BudgetInfeasibleError


def test_what_must_be_kept_may_grow_with_the_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error says what would do, and then it does not; the next one is believed, too."""
    tried: list[int] = []

    class Compressor:
        def compress(
            self, messages: Any, *, max_tokens: int, model: str, known: Sequence[str]
        ) -> Any:
            tried.append(max_tokens)
            if max_tokens < 85:
                required = 74 if max_tokens < 74 else 85
                raise BudgetInfeasibleError(
                    required_tokens=required, max_tokens=max_tokens, remedy=""
                )
            return type("Result", (), {"content": messages})()

    monkeypatch.setattr(budget_tools, "_compressor_for", lambda frame: Compressor())
    messages = [HumanMessage("Hi")]

    assert budget_tools._compressed(messages, 10, (), "gpt-4", ()) == messages
    assert tried == [10, 74, 85]
