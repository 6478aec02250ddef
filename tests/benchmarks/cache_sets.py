"""Data sets, the shared embedder and the rival's interpreter of the semantic cache's benchmarks."""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGeneration

from langchain_tokenopt.embeddings import LocalEmbeddings

LLM = '{"id": ["ChatOpenAI"], "kwargs": {"model_name": "gpt-5.4-mini"}}---[(\'stop\', None)]'
SYSTEM = "You are the assistant of a bank. Answer briefly and politely, and never guess."


class Precomputed(LocalEmbeddings):
    """The local embedder, which has read the data sets before."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._kept_in = folder
        self._known: dict[str, np.ndarray] = {}

    def read(self, name: str, texts: Sequence[str]) -> np.ndarray:
        """Embed a data set, or load what an earlier run has embedded."""
        names, vectors = self._kept_in / f"{name}.json", self._kept_in / f"{name}.npy"
        texts = list(dict.fromkeys(texts))
        if not names.is_file() or json.loads(names.read_text()) != texts:
            rows = np.array(self.embed_documents(texts), dtype=np.float32)
            np.save(vectors, rows)
            names.write_text(json.dumps(texts))
        rows = np.load(vectors).astype(np.float32)
        self._known.update(zip(texts, rows, strict=True))
        return rows

    def of(self, text: str) -> np.ndarray:
        found = self._known.get(text)
        if found is None:
            found = self._known[text] = np.array(super().embed_query(text), dtype=np.float32)
        return found

    def reads(self, text: str) -> bool:
        return len(text) < 200 or super().reads(text)

    def embed_query(self, text: str) -> Any:
        return self.of(text)


def share(part: float, whole: float) -> float:
    return round(100 * part / whole, 2)


# --- data


def banking(data: Path, file: str) -> list[tuple[str, str]]:
    with (data / f"banking77_{file}.csv").open(encoding="utf-8") as lines:
        return [(row["text"], row["category"]) for row in csv.DictReader(lines)]


def pairs(data: Path, file: str) -> list[dict[str, str]]:
    with gzip.open(data / file, "rt", encoding="utf-8") as lines:
        return list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))


def halves(
    rows: list[dict[str, str]],
    salt: Callable[[dict[str, str]], str],
    hash_: Callable[[bytes], Any] = hashlib.blake2b,
) -> np.ndarray:
    """Return 0 or 1 per pair; pairs that share a text, directly or not, are in one half."""
    parent: dict[str, str] = {}

    def root(text: str) -> str:
        while parent.setdefault(text, text) != text:
            parent[text] = parent[parent[text]]
            text = parent[text]
        return text

    def of(row: dict[str, str], side: str) -> str:
        return f"{salt(row)}|{row[side].lower().strip()}"

    for row in rows:
        a, b = root(of(row, "text_a")), root(of(row, "text_b"))
        parent[max(a, b)] = min(a, b)
    return np.array([hash_(root(of(row, "text_a")).encode()).digest()[0] & 1 for row in rows])


def prompt_of(text: str) -> str:
    return dumps([SystemMessage(SYSTEM), HumanMessage(text)])


def answer_of(text: str) -> list[ChatGeneration]:
    return [ChatGeneration(message=AIMessage(text))]


def rival(args: argparse.Namespace, what: str, *arguments: str) -> Any:
    """Run the GPTCache script in its own environment; a sentence when it cannot run."""
    if args.rivals is None:
        return "not run: no --rivals interpreter"
    script = Path(__file__).with_name("rival_gptcache.py")
    ran = subprocess.run(
        [args.rivals, str(script), what, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    if ran.returncode:
        return f"not run: {ran.stderr.strip().splitlines()[-1][:200]}"
    return json.loads(ran.stdout.strip().splitlines()[-1])
