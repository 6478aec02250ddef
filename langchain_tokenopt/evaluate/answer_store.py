"""Answers on disk, so that an interrupted comparison goes on and nothing is paid twice."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from pathlib import Path

from langchain_tokenopt.core.errors import TokenOptError
from langchain_tokenopt.evaluate.cases import Case, input_text
from langchain_tokenopt.evaluate.run_answer import RunAnswer
from langchain_tokenopt.storage.places import file_of

__all__ = ["AnswerStore", "AnswerStoreError"]


class AnswerStoreError(TokenOptError, ValueError):
    """A file of kept answers cannot be read."""


class AnswerStore:
    """Answers by side, case and input, one a line, in a file that only its owner can read.

    Runs that failed are not kept: they are asked again.

    Args:
        path: The file; it is made when there is something to keep. ``None`` keeps nothing.

    Raises:
        AnswerStoreError: The file holds something else.
    """

    def __init__(self, path: str | Path | None) -> None:
        self._path = None if path is None else file_of(path)
        self._lock = threading.Lock()
        self._known: dict[str, RunAnswer] = {}
        self._is_torn = False
        if self._path is not None and self._path.is_file():
            self._read(self._path)

    def _read(self, path: Path) -> None:
        text = path.read_text(encoding="utf-8", errors="replace")
        self._is_torn = not text.endswith("\n")
        for number, line in enumerate(filter(None, text.split("\n")), 1):
            try:
                kept = json.loads(line)
                self._known[kept["key"]] = RunAnswer.from_dict(kept["answer"])
            except (ValueError, KeyError, TypeError) as error:
                if number == 1 and not self._is_torn:
                    raise AnswerStoreError(
                        f"{path} holds no kept answers. Give store= a file of its own."
                    ) from error
                # else a line that a killed run was writing: it is asked again

    def get(self, side: str, case: Case) -> RunAnswer | None:
        """Return what *side* has answered to *case*, if that is kept."""
        return self._known.get(_key(side, case))

    def keep(self, side: str, case: Case, answer: RunAnswer) -> None:
        """Keep an answer."""
        if self._path is None or answer.error:
            return
        key = _key(side, case)
        line = json.dumps({"key": key, "answer": answer.to_dict()}) + "\n"
        with self._lock:
            if self._is_torn:
                line, self._is_torn = f"\n{line}", False
            self._known[key] = answer
            opened = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            with os.fdopen(opened, "a", encoding="utf-8") as file:
                file.write(line)


def _key(side: str, case: Case) -> str:
    said = json.dumps([side, case.id, input_text(case.input)])
    return hashlib.blake2b(said.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
