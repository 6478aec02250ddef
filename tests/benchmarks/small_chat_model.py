"""The small language model of ``real_model.py`` as a chat model of LangChain."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import threading
from pathlib import Path
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import PrivateAttr

from langchain_tokenopt.core.messages import text_of

__all__ = ["SmallChatModel"]

_ROLES = {"human": "user", "ai": "assistant", "system": "system"}


class SmallChatModel(BaseChatModel):
    """Asks the model in the environment *python*; answers are kept in *answers* by the request.

    It decodes greedily, so that a request always gets the same answer.
    """

    python: str
    answers: Path
    max_tokens: int = 64
    _shared: Any = PrivateAttr(default_factory=lambda: _Shared())

    @property
    def _llm_type(self) -> str:
        return "small"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: Any = None,
        **kwargs: Any,
    ) -> ChatResult:
        turns = [{"role": _ROLES[m.type], "content": text_of(m)} for m in messages]
        found = self._ask(turns, int(kwargs.get("max_tokens") or self.max_tokens))
        read, wrote = found["prompt_tokens"], found["answer_tokens"]
        usage = {"input_tokens": read, "output_tokens": wrote, "total_tokens": read + wrote}
        message = AIMessage(found["answer"], usage_metadata=usage)
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _ask(self, turns: list[dict[str, str]], max_tokens: int) -> dict[str, Any]:
        key = hashlib.sha256(json.dumps([turns, max_tokens]).encode()).hexdigest()[:32]
        shared: _Shared = self._shared
        with shared.lock:
            if not shared.known and self.answers.is_file():
                lines = self.answers.read_text(encoding="utf-8").splitlines()
                shared.known = {found["key"]: found for found in map(json.loads, lines)}
            if key not in shared.known:
                line = json.dumps({"key": key, "turns": turns, "max_tokens": max_tokens})
                process = shared.running(self.python)
                process.stdin.write(line + "\n")
                process.stdin.flush()
                shared.known[key] = json.loads(process.stdout.readline())
                with self.answers.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(shared.known[key]) + "\n")
            found: dict[str, Any] = shared.known[key]
            return found

    def close(self) -> None:
        """End the model's process."""
        self._shared.close()


class _Shared:
    """What the copies of a model share: the process, and what it has answered."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.known: dict[str, Any] = {}
        self.process: Any = None

    def __deepcopy__(self, memo: object) -> _Shared:
        return self

    def running(self, python: str) -> Any:
        """Return the process, started when it is first needed."""
        if self.process is None:
            self.process = subprocess.Popen(
                [python, "-W", "ignore", str(Path(__file__).parent / "real_model.py")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env={**os.environ, "PYTHONPATH": "", "HF_HUB_OFFLINE": "1"},
            )
        return self.process

    def close(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.stdin.close()
            self.process.wait()
            self.process.stdout.close()
