"""Where OpenAI's vocabularies come from.

In this order: tiktoken's own cache; what this package downloaded before; the data files of the
``bpe-openai`` wheel (``pip install "langchain-tokenopt[vocabularies]"``); the network, within
:data:`DOWNLOAD_SECONDS`. Every file is checked against the SHA-256 that tiktoken itself expects.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import os
import tempfile
import threading
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import FunctionType
from typing import Final

from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.core.host_releases import check_host

__all__ = ["DOWNLOAD_SECONDS", "Encode", "encoder"]

DOWNLOAD_SECONDS: Final = 10.0
"""How long the first count of a process may wait for the network. Loading a vocabulary that is on
the machine takes about 0.3 s; call ``counter_for(model).count("")`` at start to have it ready."""

Encode = Callable[[str], list[int]]
"""Turns a text into the numbers of its tokens."""

_encoders: dict[str, Encode] = {}
_unavailable: set[tuple[str, bool]] = set()
_loading = threading.RLock()
"""Can be taken again: the garbage collector may close a stream, which counts, while one loads."""


def encoder(vocabulary: str, *, download: bool) -> Encode | None:
    """Return tiktoken's ``encode_ordinary``, or ``None`` when the vocabulary cannot be had.

    Loads on first use, once per process and for all threads. What could not be had is not tried
    again: one warning says so, where a download was asked for.

    Args:
        vocabulary: tiktoken's name for it, ``"o200k_base"`` or ``"cl100k_base"``.
        download: Whether the network may be asked, for at most :data:`DOWNLOAD_SECONDS`.

    Raises:
        KeyError: tiktoken knows no vocabulary of that name.

    Example:
        >>> encode = encoder("o200k_base", download=False)
        >>> encode("Hello, world!")
        [13225, 11, 2375, 0]
    """
    found = _encoders.get(vocabulary)
    if found is not None or (vocabulary, download) in _unavailable:
        return found
    with _loading:
        if vocabulary not in _encoders and (vocabulary, download) not in _unavailable:
            try:
                _encoders[vocabulary] = _load(vocabulary, download=download)
            except _NoVocabularyError:
                _unavailable.add((vocabulary, download))
                if download:
                    _warn_unavailable(vocabulary)
    return _encoders.get(vocabulary)


def _warn_unavailable(vocabulary: str) -> None:
    warnings.warn(
        f"The vocabulary {vocabulary} is not on this machine and could not be downloaded within "
        f"{DOWNLOAD_SECONDS:.0f} s, so token counts are estimates. "
        'Run: pip install "langchain-tokenopt[vocabularies]"',
        TokenOptWarning,
        stacklevel=2,
    )


def _load(vocabulary: str, *, download: bool) -> Encode:
    """Build tiktoken's encoding without tiktoken's own download.

    tiktoken knows the splitting pattern, the special tokens, the address and the hash of every
    vocabulary, but its request has no timeout (openai/tiktoken #232, #317). So its recipe is
    followed with another reader in the place of that one; nothing of tiktoken's is changed.
    """
    check_host("tiktoken")
    import tiktoken
    from tiktoken import registry
    from tiktoken_ext import openai_public  # type: ignore[import-untyped]

    ready = registry.ENCODINGS.get(vocabulary)
    if ready is not None:  # the application has loaded it already
        return ready.encode_ordinary
    recipe = openai_public.ENCODING_CONSTRUCTORS[vocabulary].__code__
    if _READER not in recipe.co_names:  # a later tiktoken that reads in another way
        raise _NoVocabularyError(vocabulary)

    def read_ranks(url: str, expected_hash: str) -> dict[bytes, int]:
        return _ranks(_vocabulary(url, expected_hash, download=download))

    cook = FunctionType(recipe, {**vars(openai_public), _READER: read_ranks})
    return tiktoken.Encoding(**cook()).encode_ordinary


_READER: Final = "load_tiktoken_bpe"


class _NoVocabularyError(Exception):
    """None of the sources has the file."""


def _ranks(vocabulary: bytes) -> dict[bytes, int]:
    lines = (line.split() for line in vocabulary.splitlines())
    return {base64.b64decode(token): int(rank) for token, rank in lines}


def _vocabulary(url: str, expected_hash: str, *, download: bool) -> bytes:
    for source in (_from_tiktoken_cache, _from_own_cache, _from_wheel):
        content = source(url)
        if content is not None and hashlib.sha256(content).hexdigest() == expected_hash:
            return content
    if download:
        content = _from_network(url)
        if content is not None and hashlib.sha256(content).hexdigest() == expected_hash:
            _keep(url, content)
            return content
    raise _NoVocabularyError(url)


def _cache_key(url: str) -> str:
    """Name a cached file as tiktoken does."""
    return hashlib.sha1(url.encode(), usedforsecurity=False).hexdigest()


def _from_tiktoken_cache(url: str) -> bytes | None:
    default = os.path.join(tempfile.gettempdir(), "data-gym-cache")
    folder = os.environ.get("TIKTOKEN_CACHE_DIR", os.environ.get("DATA_GYM_CACHE_DIR", default))
    return _read(Path(folder) / _cache_key(url)) if folder else None


def _own_cache() -> Path:
    base = os.environ.get("LOCALAPPDATA") or os.environ.get("XDG_CACHE_HOME")
    home = os.path.expanduser("~")  # "~" itself when there is no home
    base = base or (tempfile.gettempdir() if home == "~" else os.path.join(home, ".cache"))
    return Path(base) / "langchain-tokenopt"


def _from_own_cache(url: str) -> bytes | None:
    return _read(_own_cache() / _cache_key(url))


def _from_wheel(url: str) -> bytes | None:
    """Read the vocabulary out of the bpe-openai package without importing it (that takes 1 s)."""
    spec = find_spec("bpe_openai")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        packed = _read(Path(folder) / "data" / (url.rpartition("/")[2] + ".gz"))
        if packed is not None:
            try:
                return gzip.decompress(packed)
            except (OSError, EOFError):  # a damaged file
                return None
    return None


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _from_network(url: str) -> bytes | None:
    """Download within a deadline that also covers name lookup and slow senders."""
    received: list[bytes] = []

    def fetch() -> None:
        try:
            received.append(_fetch(url))
        except Exception:  # noqa: BLE001  foreign network code in a thread: no file, no matter why
            return

    thread = threading.Thread(target=fetch, name="tokenopt-vocabulary", daemon=True)
    thread.start()
    thread.join(DOWNLOAD_SECONDS)
    return received[0] if received else None


def _fetch(url: str) -> bytes:
    import requests  # comes with tiktoken

    response = requests.get(url, timeout=DOWNLOAD_SECONDS)
    response.raise_for_status()
    return response.content


def _keep(url: str, content: bytes) -> None:
    """Store a download for later processes; whole or not at all."""
    folder = _own_cache()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, unfinished = tempfile.mkstemp(dir=folder)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(unfinished, folder / _cache_key(url))
    except OSError:
        return  # a read-only home: it will be downloaded again
