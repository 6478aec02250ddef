"""How many tokens a text is for a model, exactly or not.

OpenAI's vocabularies are public, so their models are counted with the real tokenizer (tiktoken).
Everybody else's are not: those counts are estimates, say so (``exact=False``), and learn from the
usage that providers report (:mod:`langchain_tokenopt.counting.calibration`).

Where a vocabulary cannot be had (:mod:`langchain_tokenopt.counting.tiktoken_files` says where they
come from), an estimate is given and one warning says why.
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

from langchain_tokenopt.counting.tiktoken_files import Encode, encoder

if TYPE_CHECKING:
    from langchain_tokenopt.counting.model_names import ModelLike

from langchain_tokenopt.core.event_loop import on_event_loop
from langchain_tokenopt.counting.calibration import Calibration, calibration_of, new_calibration
from langchain_tokenopt.counting.model_names import model_name_of, tokenizer_of

__all__ = ["TokenCount", "TokenCounter", "counter_for", "counter_of_name", "steady_counter_of_name"]


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


class LoadingCounter(TokenCounter, Protocol):
    """A counter whose vocabulary is loaded when it is first needed."""

    @property
    def is_ready(self) -> bool:
        """Whether the vocabulary is loaded, or known not to be had."""
        ...


class _VocabularyCounter:
    """Counts with a vocabulary; estimates when it cannot be had. Loads on first use.

    An event loop is not held up while a vocabulary loads: a thread loads it, and until it is there
    counts made on the loop are estimates.
    """

    __slots__ = ("_count_part", "_download", "_encode", "_loader", "_vocabulary", "exact")

    def __init__(self, vocabulary: str, *, download: bool) -> None:
        self._vocabulary = vocabulary
        self._download = download
        self._encode: Encode | None = None
        self._loader: threading.Thread | None = None
        self._count_part = lru_cache(_KNOWN_PARTS)(self._count_afresh)
        self.exact = True

    @property
    def is_ready(self) -> bool:
        """Whether the vocabulary is loaded, or known not to be had."""
        return self._encode is not None

    @property
    def encode(self) -> Encode:
        """What turns a text into tokens: tiktoken's ``encode_ordinary``, or a guess."""
        return self._encode or self._load()

    def count(self, text: str) -> TokenCount:
        encode = self._encode or self._ready()
        if encode is None:
            return TokenCount(len(_guessed_tokens(text)), exact=False)
        if len(text) > _LONGEST_BLANK and self.exact:
            return _count_long(encode, text)
        if len(text) > 2 * _PART and self.exact and self._vocabulary.startswith(_ADD_UP):
            return TokenCount(sum(map(self._count_part, _parts_of(text))), exact=True)
        return TokenCount(len(encode(text)), self.exact)

    def _count_afresh(self, part: str) -> int:
        return len(self.encode(part))

    def _ready(self) -> Encode | None:
        """Load the vocabulary; on an event loop only begin to."""
        if not on_event_loop():
            return self._load()
        if self._loader is None:
            self._loader = threading.Thread(
                target=self._load, name="tokenopt-vocabulary", daemon=True
            )
            self._loader.start()
        return None

    def _load(self) -> Encode:
        encode = encoder(self._vocabulary, download=self._download)
        if encode is None:
            self.exact = False
            encode = _guessed_tokens
        self._encode = encode
        return encode


class _FamilyCounter:
    """Estimates a tokenizer that is not public: nearest vocabulary times the family's factor."""

    __slots__ = ("_calibration", "nearest")

    def __init__(self, nearest: _VocabularyCounter, calibration: Calibration) -> None:
        self.nearest = nearest
        self._calibration = calibration

    @property
    def is_ready(self) -> bool:
        """Whether the nearest vocabulary is loaded, or known not to be had."""
        return self.nearest.is_ready

    @property
    def encode(self) -> Encode:
        """What turns a text into the tokens of the nearest public vocabulary."""
        return self.nearest.encode

    def count(self, text: str) -> TokenCount:
        return self.of_pieces(self.nearest.count(text).tokens)

    def of_pieces(self, pieces: int) -> TokenCount:
        """Estimate a text from its tokens in the nearest vocabulary."""
        return TokenCount(math.ceil(pieces * self._calibration.factor), exact=False)


def counter_for(model: ModelLike) -> TokenCounter:
    """Return the counter for *model*, always the same one for the same name.

    Args:
        model: A model's name (``"gpt-4o"``, ``"openai:gpt-4o"``, ``"ft:gpt-4o:acme"``), a chat
            model, a binding of one, or a vocabulary's name (``"cl100k_base"``).

    Returns:
        For OpenAI models the real tokenizer, ``exact=True``. For names that only look like
        OpenAI's (``"gpt-6"``, an Azure deployment ``"prod-gpt-4o"``) the likely vocabulary, and
        for everybody else the ``o200k_base`` count times a factor of the model's family, which
        :func:`calibrate` corrects: both say ``exact=False``.

    The vocabulary is loaded with the first count. On an event loop that takes place in a thread,
    and counts are estimates (``exact=False``) until it is done; models made by ``optimize`` wait
    for it.

    Example:
        >>> counter_for("gpt-4o").count("Hello, world!")
        TokenCount(tokens=4, exact=True)
        >>> counter_for("claude-sonnet-4-5").count("Hello, world!").exact
        False
    """
    return counter_of_name(model_name_of(model))


@lru_cache(maxsize=1024)
def counter_of_name(name: str) -> LoadingCounter:
    """Return the counter for the model called *name*."""
    tokenizer = tokenizer_of(name)
    nearest = _VocabularyCounter(tokenizer.vocabulary, download=tokenizer.download)
    return nearest if tokenizer.exact else _FamilyCounter(nearest, calibration_of(tokenizer.family))


@lru_cache(maxsize=1024)
def steady_counter_of_name(name: str) -> LoadingCounter:
    """Return a counter for the model called *name* that learns nothing from providers.

    For what has to come out the same each time, such as where a prompt is cut: providers cache
    prompts by their bytes.

    Example:
        >>> from langchain_tokenopt.counting.calibration import calibrate, reset_calibration
        >>> before = steady_counter_of_name("in-house-7b").count("word " * 500)
        >>> calibrate("in-house-7b", counted=10_000, reported=15_000)
        >>> steady_counter_of_name("in-house-7b").count("word " * 500) == before
        True
        >>> reset_calibration()
    """
    counter = counter_of_name(name)
    if isinstance(counter, _FamilyCounter):
        return _FamilyCounter(counter.nearest, new_calibration(tokenizer_of(name).family))
    return counter


_PART: Final = 4_000
"""Characters of a part. Long texts are counted in parts that are remembered: of a conversation with
one more turn, or of documents that several agents read, only what is new takes time."""


_KNOWN_PARTS: Final = 512
"""Usually 2 MB, and never more than 50 MB, since no text of more than 100,000 characters is cut."""


_ADD_UP: Final = ("o200k", "cl100k")


_LINE_END: Final = re.compile(r"(?<=\n)(?=[^\s/])")
"""Where a text can be cut and its tokens still add up: these vocabularies begin a new piece behind
a line break unless white space follows or, in ``o200k_base``, a slash."""


def _parts_of(text: str) -> Iterator[str]:
    start = 0
    while start < len(text):
        found = _LINE_END.search(text, start + _PART)
        end = found.start() if found else len(text)
        yield text[start:end]
        start = end


_LONGEST_BLANK: Final = 100_000
"""More spaces or tabs in a row than this are counted in pieces. tiktoken 0.14.0 overflows its
stack on a million of them (500,000 still pass) and panics, which no ``except Exception`` stops."""


_BLANK: Final = re.compile(rf"\s{{{_LONGEST_BLANK},}}")


def _count_long(encode: Encode, text: str) -> TokenCount:
    tokens = start = 0
    for blank in _BLANK.finditer(text):
        tokens += len(encode(text[start : blank.start()]))
        for at in range(blank.start(), blank.end(), _LONGEST_BLANK):
            tokens += len(encode(text[at : min(at + _LONGEST_BLANK, blank.end())]))
        start = blank.end()
    return TokenCount(tokens + len(encode(text[start:])), exact=start == 0)


_LATIN: Final = "A-Za-z\u00c0-\u024f"


_PIECES: Final = (  # compiled on first use: that takes 8 ms
    rf"(?P<word>[^\r\n\d{_LATIN}\x80-\U0010ffff]?"
    r"(?:[A-Z\u00c0-\u00de]*[a-z\u00df-\u024f]+(?:'(?:s|t|re|ve|m|ll|d)(?![a-z]))?"
    r"|[A-Z\u00c0-\u00de]+))"
    r"|(?P<number>\d{1,3})"
    r"|(?P<ideographs> ?[\u3040-\u9fff\uac00-\ud7a3]+)"
    rf"|(?P<foreign> ?[^\x00-\x7f\u3040-\u9fff\uac00-\ud7a3{_LATIN}]+)"
    rf"|(?P<signs> ?[^\s\d{_LATIN}\x80-\U0010ffff]+[\r\n/]*)"
    r"|(?P<blank>\s*[\r\n]+|\s+(?!\S)|\s+)"
)


def _guessed_tokens(text: str) -> list[int]:
    """Guess the o200k_base tokens of *text* without the vocabulary; a list of that length.

    Cuts the text about where the tokenizer does, and rates each piece by its kind and length. The
    rates were fitted on 900 English texts (program code, tool schemas, JSON, meetings, chats,
    encyclopedia, arithmetic) and judged on 899 others: mean error 2 % to 9 % by kind of text, where
    characters divided by four err 4 % to 42 %. The rates of other scripts were chosen on 17
    sentences in 12 languages: mean error 24 % there, against 39 %.
    """
    tokens = 0.0
    for piece in re.finditer(_PIECES, text):
        length = piece.end() - piece.start()
        match piece.lastgroup:
            case "word":
                accents = len(piece.group().encode("utf-8", "surrogatepass")) - length
                tokens += 1 + max(0, length - 7) / 8 + 0.6 * accents
            case "signs":
                tokens += 1 + max(0, length - 2) / 4
            case "ideographs":
                tokens += max(1.0, 0.75 * length)
            case "foreign":
                size = len(piece.group().encode("utf-8", "surrogatepass"))
                tokens += max(1.0, size / 6)
            case "blank":
                tokens += 1 + length // 80
            case _:
                tokens += 1
    return [0] * math.ceil(tokens)
