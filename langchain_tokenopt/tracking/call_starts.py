"""How LangChain tells of a call that begins, for chat models and text models alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from langchain_core.messages import BaseMessage

from langchain_tokenopt.core.host_compat import InlineHandler
from langchain_tokenopt.core.staged_runs import is_staged
from langchain_tokenopt.tracking.provider_usage import asked_model

__all__ = ["CallStart", "ModelStartHandler"]

_EMPTY: Final[Mapping[str, Any]] = {}


@dataclass(frozen=True, slots=True)
class CallStart:
    """What is known of a call before it is sent. Keep none of these: it would keep the run's id."""

    run_id: UUID
    parent_run_id: UUID | None
    serialized: Mapping[str, Any]
    metadata: Mapping[str, Any]
    params: Mapping[str, Any]
    """The ``invocation_params``."""
    batch_size: int
    """How many calls are sent together."""
    messages: list[BaseMessage] | None
    """What a chat model is asked."""
    prompt: str
    """What a text model is asked."""

    @property
    def is_staged(self) -> bool:
        """Whether stages stand around the model."""
        return is_staged(self.params)

    @property
    def model(self) -> str:
        """The name of the model that is asked; empty where it has none."""
        return str(asked_model(self.metadata, self.params) or "")


class ModelStartHandler(InlineHandler):
    """A handler that hears of calls of both kinds of models in one method."""

    def on_start(self, start: CallStart) -> None:
        """Take note of a call, or raise to refuse it."""
        raise NotImplementedError

    def on_chat_model_start(
        self,
        serialized: dict[str, Any] | None,
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Begin a call. Without this method LangChain would render the whole prompt as a string."""
        self._start(serialized, messages[0], "", run_id, parent_run_id, metadata, kwargs)

    def on_llm_start(
        self,
        serialized: dict[str, Any] | None,
        prompts: list[str],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Begin a call of a text model."""
        self._start(serialized, None, prompts[0], run_id, parent_run_id, metadata, kwargs)

    def _start(
        self,
        serialized: Mapping[str, Any] | None,
        messages: list[BaseMessage] | None,
        prompt: str,
        run_id: UUID,
        parent_run_id: UUID | None,
        metadata: Mapping[str, Any] | None,
        rest: Mapping[str, Any],
    ) -> None:
        params = rest.get("invocation_params")
        self.on_start(
            CallStart(
                run_id,
                parent_run_id,
                serialized or _EMPTY,
                metadata or _EMPTY,
                _EMPTY if params is None else params,
                rest.get("batch_size") or 1,
                messages,
                prompt,
            )
        )
