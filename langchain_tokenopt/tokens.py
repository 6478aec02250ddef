"""How many tokens a text, a message list or a tool schema is for a model, exactly or not.

OpenAI's vocabularies are public, so their models are counted with the real tokenizer (tiktoken).
Everybody else's are not: those counts are estimates, say so (``exact=False``), and learn from the
usage that providers report (:func:`calibrate`).

Where a vocabulary comes from, in this order: tiktoken's own cache; what this package downloaded
before; the data files of the ``bpe-openai`` wheel (``pip install "langchain-tokenopt[offline]"``);
the network, within :data:`DOWNLOAD_SECONDS`. Every file is checked against the SHA-256 that
tiktoken itself expects. Without any of them an estimate is given and one warning says why.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import hashlib
import json
import math
import os
import re
import struct
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

from langchain_tokenopt.errors import TokenOptWarning

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import BaseMessage, MessageLikeRepresentation
    from langchain_core.prompt_values import PromptValue
    from langchain_core.runnables import Runnable
    from langchain_core.tools import BaseTool

    ModelLike = str | BaseChatModel | Runnable[Any, Any]
    MessagesLike = str | PromptValue | Sequence[MessageLikeRepresentation]
    ToolLike = BaseTool | Callable[..., Any] | type | Mapping[str, Any]

__all__ = [
    "Calibration",
    "TokenCount",
    "TokenCounter",
    "calibrate",
    "count_messages",
    "counter_for",
    "image_tokens",
    "model_family",
    "model_name_of",
    "reset_calibration",
]


@dataclass(frozen=True, slots=True)
class TokenCount:
    """A number of tokens, and whether the model would count the same.

    Example:
        >>> TokenCount(3, exact=True) + TokenCount(4, exact=False)
        TokenCount(tokens=7, exact=False)
    """

    tokens: int
    exact: bool
    """False when anything in it was estimated."""

    def __add__(self, other: TokenCount) -> TokenCount:
        """Sum the tokens; exact only when both are."""
        return TokenCount(self.tokens + other.tokens, self.exact and other.exact)


NO_TOKENS: Final = TokenCount(0, exact=True)


@runtime_checkable
class TokenCounter(Protocol):
    """Anything that can say how many tokens a model will see in a text."""

    def count(self, text: str) -> TokenCount:
        """Count *text*; 0 for the empty string. Never raises for a ``str``.

        Text such as ``<|endoftext|>`` is counted as the ordinary text that providers take it for.
        """
        ...


# --- which model is it ---------------------------------------------------------------------------

_PROVIDERS = frozenset(
    (
        "anthropic azure azure_ai azure_openai bedrock bedrock_converse cohere deepseek fireworks "
        "google_anthropic_vertex google_genai google_vertexai groq huggingface ibm litellm "
        "mistralai nvidia ollama openai openrouter perplexity together upstage vertex_ai xai"
    ).split(" ")
)
"""Prefixes that ``init_chat_model("provider:model")`` and gateways put before a colon."""

_REGION_AND_VENDOR = re.compile(
    r"^(?:(?:us|eu|apac|au|jp|ca|global|us-gov)\.)?"
    r"(?:ai21|amazon|anthropic|cohere|deepseek|google|meta|mistral|moonshot|openai|qwen)\."
)
"""Bedrock's ``us.anthropic.claude-...``."""

_ENCODING_OF_NAME: Final = {
    "o200k_base": "o200k_base",
    "o200k_harmony": "o200k_base",
    "cl100k_base": "cl100k_base",
}
_OPENAI_ENCODINGS: Final = (
    ("o200k_base", re.compile(r"gpt-?(?:4o|4\.1|4\.5|5|oss)|chatgpt-4o|o[134](?![a-z0-9])")),
    (
        "cl100k_base",
        re.compile(
            r"gpt-?(?:4(?![.\do])|3\.5|35)|text-embedding-(?:3|ada-002)|(?:davinci|babbage)-002"
        ),
    ),
)
"""As in ``tiktoken/model.py`` of tiktoken 0.14.0 (read 2026-11-21). ``o200k_harmony`` (gpt-oss)
differs from ``o200k_base`` in special tokens only, which ordinary text never uses."""

_LATER_OPENAI = re.compile(r"gpt-?\d|chatgpt|o\d(?![a-z0-9])|codex|computer-use")

_FAMILIES: Final = (
    ("claude", ("claude",)),
    ("gemini", ("gemini", "gemma", "learnlm")),
    (
        "mistral",
        ("mistral", "mixtral", "codestral", "ministral", "magistral", "pixtral", "devstral"),
    ),
    ("llama", ("llama",)),
    ("qwen", ("qwen", "qwq")),
    ("deepseek", ("deepseek",)),
    ("command", ("command",)),
    ("grok", ("grok",)),
    ("nova", ("nova",)),
)


def model_name_of(model: ModelLike) -> str:
    """Return the name that the provider knows *model* by.

    Looks through bindings (``model.bind_tools(...)``, ``with_retry()``, fallbacks) and takes
    ``tiktoken_model_name``, ``model_name``, ``model``, ``model_id`` or an Azure deployment's name;
    the class name when there is none of them.

    Example:
        >>> from langchain_core.language_models import FakeListChatModel
        >>> model_name_of(FakeListChatModel(responses=["yes"]).bind(stop=["."]))
        'FakeListChatModel'
    """
    if isinstance(model, str):
        return model
    bound: Any = model
    while (inner := getattr(bound, "bound", None) or getattr(bound, "runnable", None)) is not None:
        override = (getattr(bound, "kwargs", None) or {}).get("model")
        if isinstance(override, str):
            return override
        bound = inner
    for attribute in _NAME_ATTRIBUTES:
        name = getattr(bound, attribute, None)
        if isinstance(name, str) and name:
            return name
    return type(bound).__name__


_NAME_ATTRIBUTES = (
    "tiktoken_model_name",
    "model_name",
    "model",
    "model_id",
    "azure_deployment",
    "deployment_name",
)


@lru_cache(maxsize=1024)
def _bare_name(name: str) -> str:
    """Strip what gateways, clouds and fine-tuning put around a model's name."""
    bare = name.strip().lower().rpartition("/")[2]
    provider, colon, rest = bare.partition(":")
    if colon and provider in _PROVIDERS:
        bare = rest
    if bare.startswith("ft:"):
        bare = bare.split(":")[1]
    return _REGION_AND_VENDOR.sub("", bare)


@dataclass(frozen=True, slots=True)
class _Tokenizer:
    """How a model's text is counted."""

    family: str
    encoding: str
    """The vocabulary to count with; for foreign families the nearest one."""
    exact: bool
    download: bool
    """Worth a download: only where the vocabulary is the model's own."""


@lru_cache(maxsize=1024)
def _tokenizer_of(name: str) -> _Tokenizer:
    bare = _bare_name(name)
    if bare in _ENCODING_OF_NAME:
        return _Tokenizer("openai", _ENCODING_OF_NAME[bare], exact=True, download=True)
    for encoding, pattern in _OPENAI_ENCODINGS:
        if pattern.match(bare):
            return _Tokenizer("openai", encoding, exact=True, download=True)
    for family, marks in _FAMILIES:
        if any(mark in bare for mark in marks):
            return _Tokenizer(family, "o200k_base", exact=False, download=False)
    if _LATER_OPENAI.match(bare):
        return _Tokenizer(bare, "o200k_base", exact=False, download=True)
    for encoding, pattern in _OPENAI_ENCODINGS:  # an Azure deployment called "prod-gpt-4o-eu"
        if pattern.search(bare):
            return _Tokenizer(bare, encoding, exact=False, download=True)
    return _Tokenizer(bare, "o200k_base", exact=False, download=False)


def model_family(model: ModelLike) -> str:
    """Name the group of models that share a tokenizer, and so a :class:`Calibration`.

    Example:
        >>> model_family("us.anthropic.claude-sonnet-4-5-20250929-v1:0")
        'claude'
        >>> model_family("in-house-7b")
        'in-house-7b'
    """
    return _tokenizer_of(model_name_of(model)).family


# --- vocabularies --------------------------------------------------------------------------------

DOWNLOAD_SECONDS: Final = 10.0
"""How long the first count of a process may wait for the network."""

_Encode = Callable[[str], list[int]]
_encoders: dict[str, _Encode] = {}
_unavailable: set[tuple[str, bool]] = set()
_loading = threading.Lock()


def _encoder(encoding: str, *, download: bool) -> _Encode | None:
    """Return tiktoken's ``encode_ordinary`` for *encoding*, or ``None`` when it cannot be had."""
    found = _encoders.get(encoding)
    if found is not None or (encoding, download) in _unavailable:
        return found
    with _loading:
        if encoding not in _encoders and (encoding, download) not in _unavailable:
            _load(encoding, download=download)
    return _encoders.get(encoding)


def _load(encoding: str, *, download: bool) -> None:
    import tiktoken
    from tiktoken import registry
    from tiktoken_ext import openai_public  # type: ignore[import-untyped]

    ready = registry.ENCODINGS.get(encoding)
    if ready is not None:
        _encoders[encoding] = ready.encode_ordinary
        return

    def load_ranks(url: str, expected_hash: str) -> dict[bytes, int]:
        return _ranks(_vocabulary(url, expected_hash, download=download))

    # tiktoken knows each encoding's pattern, special tokens, address and hash, but reads the
    # vocabulary by a request without a timeout (openai/tiktoken #232, #317). So its own recipe is
    # followed with another reader in place of that one; nothing of tiktoken's is changed.
    recipe = FunctionType(
        getattr(openai_public, encoding).__code__,
        {**vars(openai_public), "load_tiktoken_bpe": load_ranks},
    )
    try:
        _encoders[encoding] = tiktoken.Encoding(**recipe()).encode_ordinary
    except _NoVocabularyError:
        _unavailable.add((encoding, download))
        if download:
            warnings.warn(
                f"The vocabulary {encoding} is neither on this machine nor could it be downloaded "
                f"within {DOWNLOAD_SECONDS:.0f} s, so token counts are estimates. "
                'Run: pip install "langchain-tokenopt[offline]"',
                TokenOptWarning,
                stacklevel=2,
            )


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
    return (Path(base) if base else Path.home() / ".cache") / "langchain-tokenopt"


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


# --- counting text -------------------------------------------------------------------------------


class _VocabularyCounter:
    """Counts with a vocabulary; estimates when it cannot be had. Loads on first use."""

    __slots__ = ("_download", "_encode", "_encoding", "exact")

    def __init__(self, encoding: str, *, download: bool) -> None:
        self._encoding = encoding
        self._download = download
        self._encode: _Encode | None = None
        self.exact = True

    def count(self, text: str) -> TokenCount:
        encode = self._encode
        if encode is None:
            encode = self._ready()
        if len(text) > _LONG_TEXT:
            return _count_long(encode, text, exact=self.exact)
        return TokenCount(len(encode(text)), self.exact)

    def _ready(self) -> _Encode:
        encode = _encoder(self._encoding, download=self._download)
        if encode is None:
            self.exact = False
            encode = _estimated_pieces
        self._encode = encode
        return encode


class _FamilyCounter:
    """Estimates a tokenizer that is not public: nearest vocabulary times the family's factor."""

    __slots__ = ("_calibration", "_nearest")

    def __init__(self, tokenizer: _Tokenizer) -> None:
        self._nearest = _VocabularyCounter(tokenizer.encoding, download=tokenizer.download)
        self._calibration = _calibration_of(tokenizer.family)

    def count(self, text: str) -> TokenCount:
        tokens = self._nearest.count(text).tokens
        return TokenCount(math.ceil(tokens * self._calibration.factor), exact=False)


def counter_for(model: ModelLike) -> TokenCounter:
    """Return the counter for *model*, always the same one for the same name.

    Args:
        model: A model's name (``"gpt-4o"``, ``"openai:gpt-4o"``, ``"ft:gpt-4o:acme"``), a chat
            model, a binding of one, or a vocabulary's name (``"cl100k_base"``).

    Returns:
        For OpenAI models the real tokenizer: ``exact`` is true. For names that only look like
        OpenAI's (``gpt-6``, an Azure deployment ``prod-gpt-4o``) the likely vocabulary, for all
        others the ``o200k_base`` count times a factor of the model's family that
        :func:`calibrate` corrects; both say ``exact=False``.

    Example:
        >>> counter_for("gpt-4o").count("Hello, world!")
        TokenCount(tokens=4, exact=True)
        >>> counter_for("claude-sonnet-4-5").count("Hello, world!").exact
        False
    """
    return _counter(model_name_of(model))


@lru_cache(maxsize=1024)
def _counter(name: str) -> TokenCounter:
    tokenizer = _tokenizer_of(name)
    if tokenizer.exact:
        return _VocabularyCounter(tokenizer.encoding, download=tokenizer.download)
    return _FamilyCounter(tokenizer)


_LONG_TEXT: Final = 20_000
_LONG_BLANK: Final = re.compile(r"\s{10000,}")
"""tiktoken 0.14.0 panics on some hundred thousand spaces in a row (a stack overflow in its regular
expression for o200k_base), and a panic is no ``Exception``. Longer blanks are counted in pieces."""


def _count_long(encode: _Encode, text: str, *, exact: bool) -> TokenCount:
    blanks = list(_LONG_BLANK.finditer(text))
    if not blanks:
        return TokenCount(len(encode(text)), exact)
    tokens = start = 0
    for blank in blanks:
        tokens += len(encode(text[start : blank.start()]))
        tokens += sum(
            len(encode(blank.group()[at : at + _BLANK_PIECE]))
            for at in range(0, len(blank.group()), _BLANK_PIECE)
        )
        start = blank.end()
    return TokenCount(tokens + len(encode(text[start:])), exact=False)


_BLANK_PIECE: Final = 8_192

_PIECES = re.compile(r"[A-Za-z]+|\d{1,3}|[^\x00-\x7f]+|[ \t]+|[\r\n]+|[^\sA-Za-z\d]")


def _estimated_pieces(text: str) -> list[int]:
    """Guess the number of o200k_base tokens without the vocabulary; a list of that length."""
    tokens = 0.0
    for piece in _PIECES.findall(text):
        if piece.isascii():
            if piece.isalpha():
                tokens += 1 if len(piece) <= 8 else math.ceil(len(piece) / 6)
            elif not piece.isspace() or len(piece) > 1 or piece in "\r\n":
                tokens += 1
        else:
            tokens += len(piece.encode("utf-8", "surrogatepass")) / 4
    return [0] * math.ceil(tokens)


# --- calibration ---------------------------------------------------------------------------------

_FAMILY_FACTORS: Final[Mapping[str, float]] = {
    "claude": 1.2,
    "gemini": 1.05,
    "mistral": 1.15,
    "llama": 1.05,
    "qwen": 1.05,
    "deepseek": 1.05,
}
_DEFAULT_FACTOR: Final = 1.1
_PRIOR_TOKENS: Final = 2_000
_LARGEST_OBSERVATION: Final = 10_000
_MEMORY_TOKENS: Final = 500_000
_FACTOR_BOUNDS: Final = (0.4, 2.5)


class Calibration:
    """What a family's real counts are, over those of the nearest vocabulary: a running ratio.

    Reported over counted tokens, summed, beside a prior of 2,000 tokens at the starting factor.
    One observation weighs at most 10,000 tokens, its ratio is held between 0.4 and 2.5, and old
    observations fade once 500,000 tokens are in, so no single report can spoil it and a changed
    tokenizer is followed. Deterministic; safe for several threads.

    Args:
        factor: Where to start.

    Example:
        >>> calibration = Calibration(1.0)
        >>> calibration.observe(counted=8_000, reported=12_000)
        >>> calibration.factor
        1.4
    """

    __slots__ = ("_counted", "_lock", "_reported", "_start", "factor")

    def __init__(self, factor: float) -> None:
        self.factor = factor
        """What a count of the nearest vocabulary is multiplied with."""
        self._start = factor
        self._counted = float(_PRIOR_TOKENS)
        self._reported = _PRIOR_TOKENS * factor
        self._lock = threading.Lock()

    def reset(self) -> None:
        """Forget every observation."""
        with self._lock:
            self.factor = self._start
            self._counted = float(_PRIOR_TOKENS)
            self._reported = _PRIOR_TOKENS * self._start

    def observe(self, *, counted: int, reported: int) -> None:
        """Take in one report of the provider.

        Args:
            counted: What our estimate was, with the factor as it is now.
            reported: What the provider counted for the same request.
        """
        if counted <= 0 or reported <= 0:
            return
        low, high = _FACTOR_BOUNDS
        with self._lock:
            ratio = min(max(self.factor * reported / counted, low), high)
            weight = min(counted / self.factor, _LARGEST_OBSERVATION)
            self._counted += weight
            self._reported += weight * ratio
            if self._counted > _MEMORY_TOKENS:
                self._counted /= 2
                self._reported /= 2
            self.factor = self._reported / self._counted


_calibrations: dict[str, Calibration] = {}
_calibrations_lock = threading.Lock()


def _calibration_of(family: str) -> Calibration:
    with _calibrations_lock:
        if family not in _calibrations:
            _calibrations[family] = Calibration(_FAMILY_FACTORS.get(family, _DEFAULT_FACTOR))
        return _calibrations[family]


def calibrate(model: ModelLike, counted: int, reported: int) -> None:
    """Let later estimates for *model*'s family learn from what a provider reported.

    Does nothing for models whose tokenizer is known.

    Args:
        model: The model that was called.
        counted: What :func:`count_messages` estimated for the request, just now.
        reported: The ``input_tokens`` that the provider reported for it.

    Example:
        >>> before = counter_for("in-house-7b").count("word " * 500).tokens
        >>> calibrate("in-house-7b", counted=10_000, reported=15_000)
        >>> counter_for("in-house-7b").count("word " * 500).tokens > before
        True
        >>> reset_calibration()
    """
    tokenizer = _tokenizer_of(model_name_of(model))
    if not tokenizer.exact:
        _calibration_of(tokenizer.family).observe(counted=counted, reported=reported)


def reset_calibration() -> None:
    """Forget everything that was learned; for tests."""
    with _calibrations_lock:
        for calibration in _calibrations.values():
            calibration.reset()


# --- counting messages ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Frame:
    """What a provider puts around messages."""

    per_message: int = 3
    per_role: int = 1
    per_name: int = 1
    per_reply: int = 3
    per_tool_call: int = 4
    published: bool = False
    """Whether the provider publishes these numbers for the model."""


_PUBLISHED_FRAME: Final = re.compile(r"gpt-(?:3\.5|35|4)")
_CHATML: Final = _Frame(published=True)
_LIKE_CHATML: Final = _Frame()
_BARE: Final = _Frame(per_message=0, per_role=0, per_name=0, per_reply=0, per_tool_call=0)


def _frame_of(tokenizer: _Tokenizer, bare: str) -> _Frame:
    if tokenizer.family == "gemini":
        return _BARE
    return _CHATML if _PUBLISHED_FRAME.match(bare) else _LIKE_CHATML


def count_messages(
    messages: MessagesLike, tools: Iterable[ToolLike] | None = None, model: ModelLike = ""
) -> TokenCount:
    """Count what a request puts into the model: messages, tool schemas, images, and the frame.

    Args:
        messages: LangChain messages or anything that ``model.invoke`` takes in their place: a
            string, a prompt value, ``("user", "...")`` tuples, OpenAI-style dicts.
        tools: Tools as bound to the model: ``BaseTool``, functions, pydantic classes, schemas in
            OpenAI's or Anthropic's form.
        model: Name or object; without it the count is an estimate.

    Returns:
        ``exact`` is true only when the tokenizer and every rule that was used are published for
        this model: text messages and flat tool schemas of the gpt-3.5, gpt-4, gpt-4o and gpt-4.1
        families, and images of known size. Everything else is an estimate and says so. A content
        block that is not known is counted as its JSON, without the binary parts; base64 is
        never counted as text.

    Source:
        https://cookbook.openai.com/examples/how_to_count_tokens_with_tiktoken (read 2026-11-21):
        3 tokens a message, 1 more for a name, 3 for the reply; the constants of tool schemas.
        The 4 tokens around a past tool call are measured, not published: 40 prompt tokens for the
        request in https://community.openai.com/t/538914 (gpt-3.5-turbo).

    Example:
        >>> count_messages([("system", "Be brief."), ("user", "Hello!")], model="gpt-4o")
        TokenCount(tokens=16, exact=True)
    """
    tally = _Tally(model_name_of(model))
    for message in _as_messages(messages):
        tally.message(message)
    tally.tokens += tally.frame.per_reply
    if tools is not None:
        tally.tools([_schema_of(tool) for tool in tools])
    return TokenCount(tally.tokens, tally.exact)


def _as_messages(messages: MessagesLike) -> Sequence[BaseMessage]:
    from langchain_core.messages import BaseMessage, HumanMessage, convert_to_messages

    if isinstance(messages, str):
        return [HumanMessage(messages)]
    if isinstance(messages, list) and all(isinstance(m, BaseMessage) for m in messages):
        return messages
    return convert_to_messages(messages)


class _Tally:
    """Adds up one request."""

    __slots__ = ("bare", "counter", "exact", "family", "frame", "tokens")

    def __init__(self, name: str) -> None:
        tokenizer = _tokenizer_of(name)
        self.bare = _bare_name(name)
        self.family = tokenizer.family
        self.frame = _frame_of(tokenizer, self.bare)
        self.counter = _counter(name)
        self.tokens = 0
        self.exact = self.frame.published

    def text(self, text: str) -> None:
        count = self.counter.count(text)
        self.tokens += count.tokens
        self.exact = self.exact and count.exact

    def estimate(self, tokens: int) -> None:
        self.tokens += tokens
        self.exact = False

    def message(self, message: BaseMessage) -> None:
        self.tokens += self.frame.per_message + self.frame.per_role
        if message.name:
            self.text(message.name)
            self.tokens += self.frame.per_name
        calls = _tool_calls_of(message)
        content = message.content
        if isinstance(content, str):
            self.text(content)
        else:
            for block in content:
                self.block(block, has_calls=bool(calls))
        for name, arguments in calls:
            self.text(name)
            self.text(arguments)
            self.estimate(self.frame.per_tool_call)

    def block(self, block: Any, *, has_calls: bool) -> None:
        if isinstance(block, str):
            self.text(block)
            return
        if not isinstance(block, Mapping):
            self.unknown(block)
            return
        kind = block.get("type")
        if kind in _TEXT_BLOCKS:
            self.text(_str(block.get("text") or block.get("refusal")))
        elif kind in _IMAGE_BLOCKS or _mime_of(block).startswith("image/"):
            self.image(block)
        elif kind in _THINKING_BLOCKS:
            self.unknown({k: block[k] for k in ("reasoning", "thinking", "summary") if k in block})
        elif kind in _CALL_BLOCKS:
            if not has_calls:
                self.unknown(
                    {k: block[k] for k in ("name", "input", "args", "arguments") if k in block}
                )
        elif kind == "tool_result":
            inner = block.get("content")
            for part in inner if isinstance(inner, list) else [_str(inner)]:
                self.block(part, has_calls=False)
        elif kind in _MEDIA_BLOCKS:
            self.media(block)
        else:
            self.unknown(block)

    def image(self, block: Mapping[str, Any]) -> None:
        source, detail = _image_source(block)
        size = _pixel_size(source)
        if size is None:
            self.estimate(image_tokens(*_ASSUMED_PIXELS, self.bare, detail=detail).tokens)
            return
        count = image_tokens(*size, self.bare, detail=detail)
        self.tokens += count.tokens
        self.exact = self.exact and count.exact

    def media(self, block: Mapping[str, Any]) -> None:
        self.estimate(_media_tokens(block, self.family))
        text = block.get("text")
        if isinstance(text, str):
            self.text(text)

    def unknown(self, block: Any) -> None:
        self.exact = False
        text = json.dumps(_without_binary(block), ensure_ascii=False, default=str)
        if text not in ("{}", "[]", "null", '""'):
            self.text(text)

    def tools(self, schemas: list[Mapping[str, Any]]) -> None:
        if not schemas:
            return
        if self.family != "openai":
            self.unknown(schemas)
            self.estimate(_TOOL_PREAMBLE.get(self.family, 0))
            return
        for schema in schemas:
            self.function(schema)
        self.tokens += _FUNCTIONS_END

    def function(self, schema: Mapping[str, Any]) -> None:
        if "name" not in schema:  # a provider's own tool: {"type": "web_search"}
            self.unknown(schema)
            return
        self.tokens += _FUNCTION_START[_tokenizer_of(self.bare).encoding]
        self.text(f"{schema['name']}:{_str(schema.get('description')).removesuffix('.')}")
        parameters = schema.get("parameters")
        if isinstance(parameters, Mapping):
            self.properties(parameters, depth=0)

    def properties(self, schema: Mapping[str, Any], *, depth: int) -> None:
        properties = schema.get("properties")
        if not isinstance(properties, Mapping) or not properties:
            return
        self.tokens += _PROPERTIES_START
        for key, value in properties.items():
            self.tokens += _PROPERTY
            self.property(str(key), value if isinstance(value, Mapping) else {}, depth=depth)

    def property(self, key: str, schema: Mapping[str, Any], *, depth: int) -> None:
        kind = schema.get("type")
        choices = schema.get("enum")
        if isinstance(choices, list):
            self.tokens += _ENUM_START
            for choice in choices:
                self.tokens += _ENUM_ITEM
                self.text(_str(choice))
        self.text(f"{key}:{_str(kind)}:{_str(schema.get('description')).removesuffix('.')}")
        inner = [v for k in _NESTED for v in _as_list(schema.get(k)) if isinstance(v, Mapping)]
        if inner or depth or not isinstance(kind, str):
            self.exact = False  # the published rule knows flat schemas only
        if "properties" in schema:
            self.properties(schema, depth=depth + 1)
        for part in inner:
            if "properties" in part:
                self.properties(part, depth=depth + 1)
            elif depth < _DEEPEST:
                self.property("", part, depth=depth + 1)


_FUNCTION_START: Final = {"o200k_base": 7, "cl100k_base": 10}
_PROPERTIES_START: Final = 3
_PROPERTY: Final = 3
_ENUM_START: Final = -3
_ENUM_ITEM: Final = 3
_FUNCTIONS_END: Final = 12
_NESTED: Final = ("items", "anyOf", "allOf", "oneOf", "prefixItems", "additionalProperties")
_DEEPEST: Final = 8

_TOOL_PREAMBLE: Final[Mapping[str, int]] = {"claude": 346}

_TEXT_BLOCKS: Final = frozenset({"text", "input_text", "output_text", "refusal", "text-plain"})
_IMAGE_BLOCKS: Final = frozenset({"image", "image_url", "input_image"})
_THINKING_BLOCKS: Final = frozenset({"reasoning", "thinking", "redacted_thinking"})
_CALL_BLOCKS: Final = frozenset(
    {"tool_use", "tool_call", "tool_call_chunk", "function_call", "input_json_delta"}
)
_MEDIA_BLOCKS: Final = frozenset(
    {"audio", "input_audio", "video", "file", "input_file", "document", "media"}
)


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _str(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


def _tool_calls_of(message: BaseMessage) -> list[tuple[str, str]]:
    """Return name and arguments of every call that *message* carries."""
    calls = [
        (_str(call.get("name")), _str(call.get("args")))
        for call in (
            *getattr(message, "tool_calls", ()),
            *getattr(message, "invalid_tool_calls", ()),
        )
    ]
    legacy = message.additional_kwargs.get("function_call")
    if isinstance(legacy, Mapping) and not calls:
        calls.append((_str(legacy.get("name")), _str(legacy.get("arguments"))))
    return calls


def _schema_of(tool: ToolLike) -> Mapping[str, Any]:
    """Return a tool's function schema, or a provider's own tool as it is."""
    if isinstance(tool, Mapping):
        if isinstance(tool.get("function"), Mapping):
            inner: Mapping[str, Any] = tool["function"]
            return inner
        if "input_schema" in tool:
            return {**tool, "parameters": tool["input_schema"]}
        if "name" in tool or "type" in tool:
            return tool
    from langchain_core.utils.function_calling import convert_to_openai_function

    return convert_to_openai_function(tool)


# --- images, audio, files ------------------------------------------------------------------------

_ASSUMED_PIXELS: Final = (1024, 1024)


@dataclass(frozen=True, slots=True)
class _Tiles:
    """OpenAI's older rule: a base and so much for every 512 pixel tile."""

    base: int
    per_tile: int

    def tokens(self, width: int, height: int, detail: str | None) -> int:
        if detail == "low":
            return self.base
        shrink = min(1.0, 2048 / max(width, height))
        width, height = round(width * shrink), round(height * shrink)
        shrink = min(1.0, 768 / min(width, height))
        width, height = round(width * shrink), round(height * shrink)
        return self.base + self.per_tile * math.ceil(width / 512) * math.ceil(height / 512)


@dataclass(frozen=True, slots=True)
class _Patches:
    """OpenAI's newer rule: so much for every 32 pixel patch, up to a budget of patches."""

    per_patch: float
    most: int = 1536

    def tokens(self, width: int, height: int, detail: str | None) -> int:
        patches = math.ceil(width / 32) * math.ceil(height / 32)
        if patches > self.most:
            shrink = math.sqrt(32 * 32 * self.most / (width * height))
            across, down = width * shrink / 32, height * shrink / 32
            shrink *= min(math.floor(across) / across, math.floor(down) / down)
            patches = math.ceil(width * shrink / 32) * math.ceil(height * shrink / 32)
        return math.ceil(min(patches, self.most) * self.per_patch)


_OPENAI_IMAGES: Final[tuple[tuple[re.Pattern[str], _Tiles | _Patches], ...]] = (
    (re.compile(r"gpt-4o-mini"), _Tiles(2833, 5667)),
    (re.compile(r"gpt-(?:4\.1|5)-mini"), _Patches(1.62)),
    (re.compile(r"gpt-(?:4\.1|5)-nano"), _Patches(2.46)),
    (re.compile(r"o4-mini"), _Patches(1.72)),
    (re.compile(r"o[13]"), _Tiles(75, 150)),
    (re.compile(r"gpt-5"), _Tiles(70, 140)),
    (re.compile(r""), _Tiles(85, 170)),
)


def image_tokens(
    width: int, height: int, model: ModelLike, *, detail: str | None = None
) -> TokenCount:
    """Return what an image of this size costs as input.

    Args:
        width: In pixels.
        height: In pixels.
        model: Decides the rule.
        detail: OpenAI's ``"low"``, ``"high"`` or ``"auto"``, which counts as high.

    Example:
        >>> image_tokens(1024, 1024, "gpt-4o")
        TokenCount(tokens=765, exact=True)
    """
    name = model_name_of(model)
    tokenizer, bare = _tokenizer_of(name), _bare_name(name)
    width, height = max(width, 1), max(height, 1)
    if tokenizer.family == "claude":
        shrink = min(1.0, 1568 / max(width, height))
        return TokenCount(min(1600, math.ceil(width * height * shrink * shrink / 750)), exact=False)
    if tokenizer.family == "gemini":
        if max(width, height) <= 384:
            return TokenCount(258, exact=False)
        return TokenCount(258 * math.ceil(width / 768) * math.ceil(height / 768), exact=False)
    rule = next(rule for pattern, rule in _OPENAI_IMAGES if pattern.match(bare))
    return TokenCount(rule.tokens(width, height, detail), tokenizer.exact)


def _image_source(block: Mapping[str, Any]) -> tuple[bytes | str | None, str | None]:
    """Find an image's bytes, base64 or address in any of the forms that LangChain knows."""
    detail = block.get("detail")
    for key in ("image_url", "source", "image", "data", "base64", "url"):
        value = block.get(key)
        if isinstance(value, Mapping):
            detail = value.get("detail", detail)
            value = next((value[k] for k in ("url", "data", "bytes", "base64") if k in value), None)
        if isinstance(value, bytes | str) and value:
            return value, detail if isinstance(detail, str) else None
    return None, detail if isinstance(detail, str) else None


def _binary(source: bytes | str | None) -> bytes | None:
    """Decode base64 or a data URL; ``None`` for an address or anything else."""
    if source is None or isinstance(source, bytes):
        return source
    if source.startswith("data:"):
        source = source.partition(",")[2]
    elif "://" in source[:12]:
        return None
    try:
        return base64.b64decode(source)
    except (binascii.Error, ValueError):
        return None


def _pixel_size(source: bytes | str | None) -> tuple[int, int] | None:
    """Read width and height from the header of a PNG, JPEG, GIF or WebP file."""
    content = _binary(source)
    if content is None:
        return None
    try:
        return _size_in_header(content)
    except (struct.error, IndexError):  # cut off
        return None


def _size_in_header(content: bytes) -> tuple[int, int] | None:
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return struct.unpack(">II", content[16:24])
    if content.startswith((b"GIF87a", b"GIF89a")):
        return struct.unpack("<HH", content[6:10])
    if content.startswith(b"\xff\xd8"):
        return _jpeg_size(content)
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return _webp_size(content)
    return None


def _jpeg_size(content: bytes) -> tuple[int, int] | None:
    at = 2
    while at < len(content):
        if content[at] != 0xFF:
            return None
        marker = content[at + 1]
        if marker == 0xFF:  # padding
            at += 1
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:
            at += 2
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", content[at + 5 : at + 9])
            return width, height
        else:
            at += 2 + int(struct.unpack(">H", content[at + 2 : at + 4])[0])
    return None


def _webp_size(content: bytes) -> tuple[int, int] | None:
    kind = content[12:16]
    if kind == b"VP8X":
        return (
            1 + int.from_bytes(content[24:27], "little"),
            1 + int.from_bytes(content[27:30], "little"),
        )
    if kind == b"VP8L":
        bits = int.from_bytes(content[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        width, height = struct.unpack("<HH", content[26:30])
        return width & 0x3FFF, height & 0x3FFF
    return None


def _mime_of(block: Mapping[str, Any]) -> str:
    return _str(block.get("mime_type") or block.get("media_type"))


def _media_tokens(block: Mapping[str, Any], family: str) -> int:
    return 1_000


def _without_binary(value: Any) -> Any:
    """Copy *value* as JSON data without its binary parts."""
    if isinstance(value, Mapping):
        return {str(key): _without_binary(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_without_binary(inner) for inner in value]
    if isinstance(value, bytes | bytearray | memoryview):
        return ""
    if isinstance(value, str) and (value.startswith("data:") or _is_base64(value)):
        return ""
    return value


_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{256,}={0,2}")


def _is_base64(text: str) -> bool:
    return len(text) >= 256 and _BASE64.fullmatch(text) is not None
