"""The numbers of a provider's usage report, in whatever form it comes, and what they mean.

Providers and client libraries name the same count in many ways, leave counts out, add parts of a
whole on top of it or not, and now and then send what is no number. This module knows the names and
the arithmetic, and nothing of messages: :mod:`langchain_tokenopt.tracking.provider_usage` finds the
reports.

Sources, read 2026-11-29: https://platform.openai.com/docs/api-reference (``usage`` of chat
completions and of responses), https://platform.claude.com/docs/en/api/messages (input without
cached tokens), https://platform.claude.com/docs/en/build-with-claude/streaming (counts of
``message_delta`` are cumulative), https://ai.google.dev/api/generate-content (``UsageMetadata``:
candidates without thoughts), https://docs.aws.amazon.com/bedrock/latest/APIReference
(``TokenUsage``: input without cached tokens), https://docs.ollama.com/api, and the sources of the
LangChain packages of 17 providers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import lru_cache
from itertools import product
from numbers import Real
from typing import Any, Final

__all__ = [
    "ABSURD_TOKENS",
    "ReportedNumbers",
    "combined",
    "contradictions",
    "fields_of",
    "made_consistent",
    "numbers_in",
]

ABSURD_TOKENS: Final = 20_000_000
"""Above this a count cannot be true: twice the largest context window on sale in 2026."""


@dataclass(slots=True)
class ReportedNumbers:
    """What one report says; a count that it does not say, or not as a number, is absent."""

    counts: dict[str, int] = field(default_factory=dict)
    """By LangChain's names without ``_tokens``. Negative where a chunk takes some back."""
    flaws: list[str] = field(default_factory=list)
    adds_cache: bool = False
    """True where the provider is known to count cached tokens beside its input, not in it."""
    adds_reasoning: bool = False
    """The same of reasoning and output."""

    def get(self, name: str) -> int:
        """Return a count; 0 for one that is absent."""
        return self.counts.get(name, 0)


# --- names

_NAMES: Final[Mapping[str, str]] = {
    name: count
    for count, names in {
        "input": "inputtokens prompttokens prompttokencount inputtokencount promptevalcount "
        "totalinputtokens",
        "output": "outputtokens completiontokens candidatestokencount responsetokencount "
        "outputtokencount evalcount generatedtokencount totaloutputtokens",
        "total": "totaltokens totaltokencount",
        "cache_read": "cacheread cachedtokens cachereadinputtokens cachereadinputtokencount "
        "cachedcontenttokencount cachedinputtokens cachedprompttokens promptcachehittokens",
        "cache_write": "cachecreation cachecreationinputtokens cachewriteinputtokens "
        "cachewritetokens cachewriteinputtokencount",
        "cache_write_5m": "ephemeral5minputtokens",
        "cache_write_1h": "ephemeral1hinputtokens",
        "reasoning": "reasoning reasoningtokens thoughtstokencount thinkingtokens",
        "tool_input": "tooluseprompttokencount",
    }.items()
    for name in names.split()
}
"""Names of counts in lower case without ``_``: ``promptTokenCount`` and ``prompt_token_count``."""

_TIERS: Final = ("priority", "flex")
"""langchain-openai puts the service tier before the name of a detail: ``priority_cache_read``."""

_DETAILS: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        ("inputtokendetails", "inputtokensdetails", "prompttokensdetails", "prompttokendetails"),
        "input",
    ),
    **dict.fromkeys(
        (
            *("outputtokendetails", "outputtokensdetails", "completiontokensdetails"),
            *("completiontokendetails", "candidatestokensdetails"),
        ),
        "output",
    ),
    "cachecreation": "input",
    "cachedetails": "input",
}
"""Names of what holds the parts of a side."""

_CACHE_BESIDE: Final = frozenset(
    {"cachereadinputtokens", "cachecreationinputtokens", "cachewriteinputtokens"}
)
"""Names of Anthropic and Bedrock, who count cached tokens beside the input."""

_MAY_STAND_BESIDE: Final = ("cache_read", "cache_write", "reasoning")

_MEDIA: Final = ("audio", "image", "video")

_OUTPUT_COUNTS: Final = ("output", "reasoning", *(f"output_{medium}" for medium in _MEDIA))
_INPUT_COUNTS: Final = (
    *("input", "cache_read", "cache_write", "cache_write_5m", "cache_write_1h", "tool_input"),
    *(f"input_{medium}" for medium in _MEDIA),
)


def numbers_in(report: Any) -> ReportedNumbers | None:
    """Read the counts of a usage report; ``None`` where there is none.

    Args:
        report: A mapping or an object with attributes: LangChain's ``UsageMetadata``, or what a
            provider itself has sent.

    Example:
        >>> numbers_in({"promptTokenCount": 9, "candidatesTokenCount": 2}).counts
        {'input': 9, 'output': 2}
    """
    found = ReportedNumbers()
    fields = fields_of(report)
    _read(fields, "", found)
    iterations = fields.get("iterations")
    if isinstance(iterations, list | tuple):
        _read_iterations(iterations, found)
    return found if found.counts or found.flaws else None


def _read_iterations(iterations: Sequence[Any], found: ReportedNumbers) -> None:
    """Take the sum of what Anthropic lists turn by turn, where the top level has not all of it.

    Tokens that were read and written to compact a conversation stand in the list alone.

    Source: https://platform.claude.com/docs/en/build-with-claude/compaction (2026-11-29).
    """
    whole = ReportedNumbers(adds_cache=found.adds_cache)
    for iteration in iterations:
        _read(fields_of(iteration), "", whole)
    if whole.get("input") + whole.get("output") > found.get("input") + found.get("output"):
        found.counts |= whole.counts  # what the list does not divide stays
        found.counts.pop("total", None)
        found.adds_cache |= whole.adds_cache


def fields_of(value: Any) -> Mapping[Any, Any]:
    """Return the fields of a mapping, a pydantic model or another object; none of anything else."""
    if isinstance(value, Mapping):
        return value
    if value is None or isinstance(value, str | bytes | Real | list | tuple | type):
        return {}
    dump = getattr(type(value), "model_dump", None)
    if dump is None:
        return getattr(value, "__dict__", {})
    try:
        dumped = dump(value)
    except Exception:  # noqa: BLE001  a foreign object that cannot be read reports nothing
        return {}
    return dumped if isinstance(dumped, Mapping) else {}


def _read(fields: Mapping[Any, Any], side: str, found: ReportedNumbers) -> None:
    """Read the counts of one level; *side* is that of the whole that these are parts of."""
    for key, value in fields.items():
        if value is None or not isinstance(key, str):
            continue
        name, details_of = _meaning(key, side)
        if details_of and not isinstance(value, Real | str):
            for part in value if isinstance(value, list | tuple) else (value,):
                _read_part(part, details_of, found)
        elif name:
            count = _count_of(value)
            if count is None:
                found.flaws.append(f"{key} is no number ({_short(value)})")
                continue
            found.counts[name] = found.get(name) + count
            if not side and name in _MAY_STAND_BESIDE:
                plain = _plain(key)
                found.adds_cache |= plain in _CACHE_BESIDE
                found.adds_reasoning |= plain == "thoughtstokencount"


def _read_part(part: Any, side: str, found: ReportedNumbers) -> None:
    """Read an entry of the details, which Gemini and Bedrock send as lists."""
    fields = fields_of(part)
    if "modality" in fields:
        medium = str(fields["modality"]).rpartition(".")[2].lower()
        _read({medium: fields.get("tokenCount", fields.get("token_count"))}, side, found)
    elif "ttl" in fields:
        lifetime = "1h" if fields["ttl"] == "1h" else "5m"
        _read({f"ephemeral_{lifetime}_input_tokens": fields.get("inputTokens")}, side, found)
    else:
        _read(fields, side, found)


@lru_cache(maxsize=512)
def _meaning(key: str, side: str) -> tuple[str | None, str | None]:
    """Return which count *key* names within the details of *side*, and the side it has details of.

    What is only the name of a part says nothing without its side.
    """
    plain = _plain(key)
    if not side:
        return _NAMES.get(plain), _DETAILS.get(plain)
    for tier in _TIERS:
        plain = plain.removeprefix(tier)
    if plain.removesuffix("tokens") in _MEDIA:
        return f"{side}_{plain.removesuffix('tokens')}", None
    name = _NAMES.get(plain)
    return (None if name in ("input", "output", "total") else name), None


def _plain(key: str) -> str:
    return key.replace("_", "").lower()


def _count_of(value: Any) -> int | None:
    """Return a whole number, also of text that is one."""
    if type(value) is int:
        return value
    if isinstance(value, bool):
        return None
    try:
        number: Any = value if isinstance(value, Real | Decimal | str) else None
        whole = None if number is None else int(number)
        return whole if isinstance(value, str) or whole == value else None
    except (ValueError, OverflowError):
        return None


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 40 else f"{shown[:37]}..."


# --- reports of several chunks


def combined(
    reports: Sequence[ReportedNumbers], count_written: Callable[[], int]
) -> ReportedNumbers:
    """Return what several chunks of one answer report together.

    Some providers send the running total with each chunk (vLLM's continuous usage), others what is
    new (LangChain's own convention). Input is never handed out in equal pieces: where two chunks
    say the same, it is a running total. Whether output is one too is decided by what comes nearer
    to what was written.

    Args:
        reports: In the order of the chunks.
        count_written: Counts the tokens of the answer; asked only where there are two readings.

    Example:
        >>> chunks = [{"input_tokens": 9, "output_tokens": n} for n in (2, 5)]
        >>> combined([numbers_in(chunk) for chunk in chunks], lambda: 5).counts
        {'input': 9, 'output': 5}
    """
    if len(reports) == 1:
        return reports[0]
    inputs_run = _is_running_input([report.get("input") for report in reports])
    outputs_run = inputs_run and _is_running_output(reports, count_written)
    counts = {
        **_joined(reports, _INPUT_COUNTS, inputs_run),
        **_joined(reports, _OUTPUT_COUNTS, outputs_run),
    }
    if inputs_run == outputs_run:
        told = _joined(reports, ("total",), inputs_run)
        if told.get("total", 0) > counts.get("input", 0) + counts.get("output", 0):
            counts |= told  # a smaller one comes of differences that a client has cut off at 0
    return ReportedNumbers(
        counts,
        list(dict.fromkeys(flaw for report in reports for flaw in report.flaws)),
        any(report.adds_cache for report in reports),
        any(report.adds_reasoning for report in reports),
    )


def _joined(
    reports: Sequence[ReportedNumbers], names: Sequence[str], running: bool
) -> dict[str, int]:
    join: Callable[[Iterator[int]], int] = max if running else sum
    return {
        name: join(report.counts[name] for report in reports if name in report.counts)
        for name in names
        if any(name in report.counts for report in reports)
    }


def _is_running_input(counts: Sequence[int]) -> bool:
    told = [count for count in counts if count]
    return len(set(told)) < len(told) and told == sorted(told)


def _is_running_output(
    reports: Sequence[ReportedNumbers], count_written: Callable[[], int]
) -> bool:
    """Whether output runs as the input does; some repeat the input beside each piece's own size."""
    told = [report.get("output") for report in reports if report.get("output")]
    if len(told) < 2:
        return True
    if told != sorted(told):
        return False
    shown = [report.get("output") - report.get("reasoning") for report in reports]
    written = count_written()  # reasoning is often not shown
    off_as_total, off_as_parts = abs(max(shown) - written), abs(sum(shown) - written)
    return off_as_total <= _CLEARLY * off_as_parts


_CLEARLY: Final = 3
"""How many times nearer the unexpected reading must come to be believed."""


# --- what the numbers mean


def made_consistent(reported: ReportedNumbers) -> tuple[dict[str, int], tuple[str, ...], bool]:
    """Return counts that can be true, what was wrong, and whether anything had to be changed.

    What is negative or absurd is dropped: it is no report. The total decides whether cached tokens
    are part of the input or beside it, and whether reasoning is part of the output; so does a part
    that exceeds its whole. What the total has beyond that is charged as output, the dearer side. A
    total that is too small is not believed. Of a total without sides it alone is returned.

    Example:
        >>> made_consistent(numbers_in({"prompt_tokens": 3, "completion_tokens": 12,
        ...     "total_tokens": 28, "cached_tokens": 13}))[0]["input"]
        16
    """
    if _is_plain(reported):
        return reported.counts, (), False
    flaws = list(reported.flaws)
    counts = _possible(reported.counts, flaws)
    by_lifetime = counts.pop("cache_write_5m", 0) + counts.get("cache_write_1h", 0)
    if by_lifetime:
        counts["cache_write"] = max(counts.get("cache_write", 0), by_lifetime)
    total, tool_input = counts.pop("total", 0), counts.pop("tool_input", 0)
    if total and not counts.get("input") and not counts.get("output"):
        flaws.append(f"total_tokens ({total:,}) is not divided into input and output")
        return {"total": total}, tuple(flaws), True
    changed = _derive_missing(counts, total)
    plain = _Sides.of(counts, tool_input)
    own = plain.as_documented(reported)
    chosen = own
    if not own.holds_parts or (total not in (0, own.total) and len(counts) > 1):
        flaws += contradictions(counts, own.input, own.output, total)
        chosen = _decided(plain, own, total)
        changed = changed or (chosen.input, chosen.output) != (own.input, own.output)
    for name, count in (("input", chosen.input), ("output", chosen.output)):
        if name in counts:
            counts[name] = count
    return counts, tuple(flaws), changed


def _is_plain(reported: ReportedNumbers) -> bool:
    """Whether nothing has to be decided, as nearly always."""
    counts = reported.counts
    get = counts.get
    read, written, whole = get("input", 0), get("output", 0), get("total", 0)
    return (
        not reported.flaws
        and "input" in counts
        and "output" in counts
        and min(counts.values()) >= 0
        and get("cache_read", 0) + get("cache_write", 0) <= read <= ABSURD_TOKENS
        and get("reasoning", 0) <= written <= ABSURD_TOKENS
        and all(get(f"input_{medium}", 0) <= read for medium in _MEDIA)
        and all(get(f"output_{medium}", 0) <= written for medium in _MEDIA)
        and whole in (0, read + written)
        and not (reported.adds_cache or reported.adds_reasoning)
        and counts.keys().isdisjoint(_NEED_WORK)
    )


_NEED_WORK: Final = ("cache_write_5m", "cache_write_1h", "tool_input")


def _possible(counts: Mapping[str, int], flaws: list[str]) -> dict[str, int]:
    """Drop the counts that cannot be true."""
    kept = {}
    for name, count in counts.items():
        if 0 <= count <= ABSURD_TOKENS:
            kept[name] = count
        elif count < 0:
            flaws.append(f"{name}_tokens is negative ({count:,})")
        elif name != "total" or not flaws:
            flaws.append(
                f"{count:,} {name}_tokens in one call are more than any model takes "
                f"({ABSURD_TOKENS:,})"
            )
    return kept


def _derive_missing(counts: dict[str, int], total: int) -> bool:
    """Find a side that was not told by the other one and the total; whether that was needed."""
    for missing, told in (("input", "output"), ("output", "input")):
        if missing not in counts and counts.get(told) and total > counts[told]:
            counts[missing] = total - counts[told]
            return True
    return False


@dataclass(frozen=True, slots=True)
class _Sides:
    """Input and output in one reading, and the parts that they must hold."""

    input: int
    output: int
    cache_read: int
    cache_write: int
    reasoning: int
    input_medium: int
    """The largest part of the input that is audio, images or video."""
    output_medium: int
    tool_input: int
    changes: int = 0

    @classmethod
    def of(cls, counts: Mapping[str, int], tool_input: int) -> _Sides:
        get = counts.get
        return cls(
            get("input", 0),
            get("output", 0),
            get("cache_read", 0),
            get("cache_write", 0),
            get("reasoning", 0),
            max(get(f"input_{medium}", 0) for medium in _MEDIA),
            max(get(f"output_{medium}", 0) for medium in _MEDIA),
            tool_input,
        )

    @property
    def total(self) -> int:
        return self.input + self.output

    @property
    def holds_parts(self) -> bool:
        return (
            self.cache_read + self.cache_write <= self.input
            and self.reasoning <= self.output
            and self.input_medium <= self.input
            and self.output_medium <= self.output
        )

    def moved(self, into_input: int, into_output: int) -> _Sides:
        return replace(
            self,
            input=self.input + into_input,
            output=self.output + into_output,
            changes=sum((into_input != 0, into_output != 0, into_input < 0, into_output < 0)),
        )

    def as_documented(self, reported: ReportedNumbers) -> _Sides:
        """Read by the convention of the provider whose names these are."""
        cached = self.cache_read + self.cache_write if reported.adds_cache else 0
        return self.moved(
            cached + self.tool_input, self.reasoning if reported.adds_reasoning else 0
        )

    def readings(self) -> Iterator[_Sides]:
        """Every reading: parts within their whole, beside it, or added to it once too often."""
        cached = self.cache_read + self.cache_write
        inputs = dict.fromkeys((0, cached, self.cache_read, self.cache_write, -cached))
        outputs = dict.fromkeys((self.reasoning, 0, -self.reasoning))
        for into_input, into_output in product(inputs, outputs):
            for tool_input in {self.tool_input, 0}:
                yield self.moved(into_input + tool_input, into_output)

    def enlarged(self, total: int) -> _Sides:
        """Make room for parts that exceed their whole.

        Beside it, the dearer of the two readings; unless the total says that they are not.
        """
        beside = total != self.total
        cached = self.cache_read + self.cache_write
        more_input = max(0, cached - self.input, self.input_medium - self.input)
        more_output = max(0, self.reasoning - self.output, self.output_medium - self.output)
        return self.moved(
            cached if beside and cached > self.input else more_input,
            self.reasoning if beside and self.reasoning > self.output else more_output,
        )


def _decided(plain: _Sides, own: _Sides, total: int) -> _Sides:
    """Choose a reading of numbers that contradict each other."""
    fitting = [
        reading for reading in plain.readings() if reading.total == total and reading.holds_parts
    ]
    if total and fitting:
        return min(fitting, key=lambda reading: reading.changes)
    chosen = own if own.holds_parts else plain.enlarged(total)
    beyond = total - chosen.total
    return chosen.moved(0, beyond) if beyond > 0 else chosen


def contradictions(
    counts: Mapping[str, int], whole_input: int, whole_output: int, total: int = 0
) -> Iterator[str]:
    """Say which parts exceed their whole, and whether the total is another; 0 is no total."""
    cached = counts.get("cache_read", 0) + counts.get("cache_write", 0)
    if cached > whole_input:
        yield f"cached tokens ({cached:,}) exceed input_tokens ({whole_input:,})"
    for side, whole, parts in (
        ("input", whole_input, [f"input_{medium}" for medium in _MEDIA]),
        ("output", whole_output, ["reasoning", *(f"output_{medium}" for medium in _MEDIA)]),
    ):
        for part in parts:
            if counts.get(part, 0) > whole:
                yield f"{part}_tokens ({counts[part]:,}) exceed {side}_tokens ({whole:,})"
    if total not in (0, whole_input + whole_output):
        yield (
            f"total_tokens ({total:,}) is not input_tokens ({whole_input:,}) "
            f"plus output_tokens ({whole_output:,})"
        )
