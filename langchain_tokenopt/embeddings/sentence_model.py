"""Any model of sentence-transformers, with the prompt, the window and the vocabulary it has."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Literal

from langchain_tokenopt.embeddings.reading import EmbedderUnavailableError, TextReader

__all__ = ["Backend", "SentenceModel"]

Backend = Literal["torch", "onnx"]

_ENDLESS = 1_000_000
"""What tokenizers say of their window where they have none is far above this."""


class SentenceModel:
    """A model that sentence-transformers loads.

    A question is compared with questions, so all texts have the same prompt: the one that is given,
    else the model's own for queries, else its default.

    Args:
        name: On the Hugging Face hub, or a folder.
        prompt: What is put before each text.
        backend: ``"torch"`` or ``"onnx"``.

    Raises:
        EmbedderUnavailableError: If it cannot be loaded.
    """

    def __init__(self, name: str, prompt: str | None, backend: Backend) -> None:
        from sentence_transformers import SentenceTransformer

        try:
            model: Any = SentenceTransformer(name, backend=backend)
        # The hub client, the tokenizers and each backend raise errors of their own.
        except Exception as error:
            extra = "[onnx]" if backend == "onnx" else ""
            raise EmbedderUnavailableError(
                f"sentence-transformers cannot load {name!r} ({type(error).__name__}: "
                f"{_first_line(error)}). Give the name of a model on huggingface.co or a folder "
                f"with one; if a part is missing, run: pip install 'sentence-transformers{extra}'"
            ) from error
        self._model = model
        self._lock = threading.Lock()
        if prompt is None:
            prompts = model.prompts or {}
            prompt = prompts.get("query") or prompts.get(model.default_prompt_name) or ""
        self._prompt = prompt
        self.reader = TextReader(_own_tokenizer(model.tokenizer), _window_of(model), prompt)

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Return one unit vector per text; what is beyond the window is not read."""
        with self._lock:  # its tokenizer cannot be borrowed twice
            vectors: list[list[float]] = self._model.encode(
                list(texts), prompt=self._prompt, normalize_embeddings=True, show_progress_bar=False
            ).tolist()
        return vectors


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200]


def _own_tokenizer(tokenizer: Any) -> Any:
    """Return a copy of what cuts texts into tokens: the model's own is set to cut and to pad."""
    from tokenizers import Tokenizer

    fast = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if not isinstance(fast, Tokenizer):
        raise EmbedderUnavailableError(
            f"The tokenizer of the model is a {type(tokenizer).__name__}, which does not say what "
            f"it leaves out. Choose a model that has a file tokenizer.json."
        )
    return Tokenizer.from_str(fast.to_str())


def _window_of(model: Any) -> int | None:
    windows = [model.get_max_seq_length(), getattr(model.tokenizer, "model_max_length", None)]
    return next((int(w) for w in windows if w is not None and w < _ENDLESS), None)
