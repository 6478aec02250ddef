"""Recording the requests of live traffic, as cases to compare with."""

from __future__ import annotations

import json
import os
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

from langchain_core.messages import BaseMessage

from langchain_tokenopt.core.argument_checks import check_fraction
from langchain_tokenopt.core.context_blocks import ContextBlock
from langchain_tokenopt.core.host_compat import InlineHandler
from langchain_tokenopt.evaluate.cases import input_json

__all__ = ["CaseRecorder", "record_cases"]

_RECORDER: ContextVar[CaseRecorder | None] = ContextVar("tokenopt_case_recorder", default=None)


_NOT_YET = {"input": ""}
"""What LangChain says at the start of a stream (``Runnable._transform_stream_with_config``)."""


class CaseRecorder(InlineHandler):
    """Writes the input of outermost runs into a file, one case a line.

    Attach it to the ``callbacks`` of a chain, graph or model, or use :func:`record_cases`. What is
    recorded stands in the file as it is, unless *redact* changes it; only its owner can read it.

    Args:
        path: The file; cases are added to its end.
        share: Share of the runs that are recorded.
        redact: Is given each input and returns what may be written; ``None`` leaves it out. An
            input that it fails on is left out, too.
        seed: Of the draws.

    Raises:
        ValueError: *share* is no fraction.
        FileNotFoundError: The file cannot be there.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        share: float = 1.0,
        redact: Callable[[Any], Any] | None = None,
        seed: int | None = None,
    ) -> None:
        self._path, self._share, self._redact = Path(path), check_fraction("share", share), redact
        if not self._path.parent.is_dir():
            raise FileNotFoundError(f"{self._path.parent} is no directory: {self._path} cannot be.")
        self._draw = random.Random(seed)
        self._lock = threading.Lock()
        self._streamed: set[UUID] = set()
        """Chains that are read as streams: LangChain knows their input at the end."""
        self.recorded = 0
        self.left_out = 0
        """Inputs that *redact* refused, or that cannot be written as JSON."""

    def on_chain_start(
        self,
        serialized: dict[str, Any] | None,
        inputs: Any,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        **kwargs: Any,
    ) -> None:
        """Record the input of an outermost chain or graph."""
        if parent_run_id is not None:
            return
        if inputs == _NOT_YET:
            self._streamed.add(run_id)
        else:
            self._record(run_id, inputs)

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Record the input of a chain that was read as a stream."""
        if run_id in self._streamed:
            self._streamed.discard(run_id)
            self._record(run_id, kwargs.get("inputs", self))

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Leave out a stream that failed: its input is not known."""
        if run_id in self._streamed:
            self._streamed.discard(run_id)
            self.left_out += 1

    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        **kwargs: Any,
    ) -> None:
        """Record what a model was asked that stands in no chain."""
        if parent_run_id is None:
            self._record(run_id, messages[0])

    def on_llm_start(
        self,
        serialized: dict[str, Any],
        prompts: list[str],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        **kwargs: Any,
    ) -> None:
        """Record what a completion model was asked that stands in no chain."""
        if parent_run_id is None:
            self._record(run_id, prompts[0])

    def _record(self, run_id: UUID, given: Any) -> None:
        with self._lock:
            if self._draw.random() >= self._share:
                return
            try:
                kept = given if self._redact is None else self._redact(given)
                line = None if kept is None else _line(run_id, kept)
            except Exception:  # noqa: BLE001  of redact: what it fails on may hold a secret
                line = None
            if line is None:
                self.left_out += 1
                return
            opened = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            with os.fdopen(opened, "a", encoding="utf-8") as file:
                file.write(line)
            self.recorded += 1


def _line(run_id: UUID, given: Any) -> str | None:
    if not _is_writable(given):
        return None
    return json.dumps({"id": str(run_id), "input": input_json(given)}, ensure_ascii=False) + "\n"


def _is_writable(value: Any) -> bool:
    """Say whether a case that is read again has the same input."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_writable(item) for key, item in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return all(map(_is_writable, value))
    return isinstance(value, str | int | float | bool | BaseMessage | None)


@cache
def _register() -> None:
    from langchain_core.tracers.context import register_configure_hook

    register_configure_hook(_RECORDER, inheritable=True)


@contextmanager
def record_cases(
    path: str | Path,
    *,
    share: float = 1.0,
    redact: Callable[[Any], Any] | None = None,
    seed: int | None = None,
) -> Iterator[CaseRecorder]:
    """Record the inputs of what runs inside the ``with`` block, as cases for :func:`compare`.

    Args:
        path: As for :class:`CaseRecorder`.
        share: As for :class:`CaseRecorder`.
        redact: As for :class:`CaseRecorder`.
        seed: As for :class:`CaseRecorder`.

    Raises:
        ValueError: *share* is no fraction.

    Example:
        >>> import tempfile
        >>> from langchain_core.runnables import RunnableLambda
        >>> from langchain_tokenopt.evaluate import read_cases
        >>> chain = RunnableLambda(lambda question: "Ada")
        >>> path = Path(tempfile.mkdtemp()) / "cases.jsonl"
        >>> with record_cases(path, redact=lambda asked: asked.replace("Bob", "X")):
        ...     answer = chain.invoke("Did Bob win?")
        >>> [case.input for case in read_cases(path)]
        ['Did X win?']
    """
    _register()
    recorder = CaseRecorder(path, share=share, redact=redact, seed=seed)
    with ContextBlock({_RECORDER: recorder}):
        yield recorder
