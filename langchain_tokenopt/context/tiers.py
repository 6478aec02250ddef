"""One content in tiers: each holds the one before, and the last is the content itself.

Tiers are cut from the largest down, each out of the one above it, so whatever is in a tier is in
all larger ones, too. Sentences, rows and blocks are kept or dropped whole, and JSON stays JSON;
where nothing smaller can be made in that way, a tier is left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeAlias

from langchain_core.documents import Document

from langchain_tokenopt.compress.content_types import join_documents
from langchain_tokenopt.compress.options import OnInfeasible
from langchain_tokenopt.compress.prompt_compressor import PromptCompressor
from langchain_tokenopt.core.argument_checks import check_fraction, shown
from langchain_tokenopt.core.errors import BudgetInfeasibleError
from langchain_tokenopt.counting.tokens import steady_counter_of_name
from langchain_tokenopt.tools.result_limit import CompressingLoader

__all__ = ["TIERS", "Content", "Tier", "as_json", "count", "marked", "shares_of", "tiers_of"]

Content: TypeAlias = str | list[Document]

TIERS: Final = ("essential", "standard", "comprehensive", "complete")
_SMALLEST_SHARE: Final = 0.1
_SHORT: Final = 200
"""Tokens of a content that is sent as it is: what a tier saved would be spent on asking for it."""
_LEAST: Final = 48
"""Tokens of a tier without its mark."""
_MARK_TOKENS: Final = 28
"""Of the line that says what was left out, at most."""
_WORTH: Final = 0.8
"""A tier that is nearly as long as the next one is none."""
_FETCHED: Final = 8_000
"""Tokens that can be fetched at once: ``expand`` cuts what is longer, and not by the question."""
_COUNTER: Final = steady_counter_of_name("o200k_base")


class Tier(NamedTuple):
    """A part of a content, without its mark."""

    name: str
    content: Content
    tokens: int


def shares_of(tiers: Sequence[str] | Mapping[str, float]) -> dict[str, float]:
    """Return what share of a content each tier may have, the smallest first.

    Args:
        tiers: Names, of which the last is the whole; or names with their shares.

    Raises:
        ValueError: They are no names, or no shares that rise to 1.

    Example:
        >>> {name: round(share, 2) for name, share in shares_of(TIERS).items()}
        {'essential': 0.1, 'standard': 0.22, 'comprehensive': 0.46, 'complete': 1.0}
    """
    names = [] if isinstance(tiers, str) or not isinstance(tiers, Iterable) else [*tiers]
    if not names or not all(isinstance(n, str) and n for n in names) or len({*names}) < len(names):
        raise ValueError(
            f"tiers are different names, such as {TIERS}, or names with their shares, such as "
            f"{{'short': 0.2, 'whole': 1.0}}; got {shown(tiers)}."
        )
    if not isinstance(tiers, Mapping):
        last = max(1, len(names) - 1)
        return {name: _SMALLEST_SHARE ** (1 - at / last) for at, name in enumerate(names)} | {
            names[-1]: 1.0
        }
    shares = [0.0, *(check_fraction(f"the share of tier {name}", tiers[name]) for name in names)]
    if sorted({*shares}) != shares or shares[-1] != 1:
        raise ValueError(f"The shares of tiers rise from above 0 to 1; got {shown(dict(tiers))}.")
    return dict(tiers)


def tiers_of(
    content: Content, query: str | None, shares: Mapping[str, float], max_tokens: int
) -> tuple[Tier, ...]:
    """Return the tiers of a content, the smallest first.

    Where the last one is longer than can be fetched at once, what the question needs of it stands
    before it, under the same name.

    Args:
        content: A text, or documents.
        query: What it must answer.
        shares: From :func:`shares_of`.
        max_tokens: What all tiers but the last have at most, their marks included. Shorter tiers of
            a content that is much longer are shorter in proportion.

    Example:
        >>> text = " ".join(f"Gate {n} opens at {n} o'clock." for n in range(1, 61))
        >>> made = tiers_of(text, "When does gate 7 open?", shares_of(TIERS), 1_000)
        >>> [tier.name for tier in made], "Gate 7 opens" in made[0].content
        (['standard', 'comprehensive', 'complete'], True)
    """
    *partial, (last, _) = shares.items()
    whole = count(content)
    found = [Tier(last, content, whole)]
    if whole <= min(_SHORT, max_tokens) or not partial:
        return tuple(found)
    top = partial[-1][1]
    if max_tokens < _FETCHED <= _WORTH * whole:
        made = _shorter(content, query, _FETCHED - _MARK_TOKENS)
        found += [] if made is None else [Tier(last, made, count(made))]
    for name, share in reversed(partial):
        most = int(min(whole * share, max_tokens * share / top)) - _MARK_TOKENS
        above = found[-1]
        made = _shorter(above.content, query, most) if most >= _LEAST else None
        if made is not None and (tokens := count(made)) <= _WORTH * above.tokens:
            found.append(Tier(name, made, tokens))
    if found[-1].name == last and whole > max_tokens > _MARK_TOKENS:
        most = max(1, int(min(whole * top, max_tokens)) - _MARK_TOKENS)
        if isinstance(content, str):
            made = CompressingLoader().shorten(content, most, query)
        else:
            made = _shorter(content, query, most, "truncate")
        if made is not None:
            found.append(Tier(partial[-1][0], made, count(made)))
    return tuple(reversed(found))


def count(content: Content) -> int:
    """Return the tokens of a content: who will read it is not known, so by OpenAI's vocabulary."""
    text = content if isinstance(content, str) else join_documents(content)
    return _COUNTER.count(text).tokens


def _shorter(
    content: Content, query: str | None, max_tokens: int, rule: OnInfeasible = "drop_lowest"
) -> Content | None:
    """Return *content* in so many tokens; ``None``: only by tearing something, or not at all."""
    try:
        result = _compressor(rule).compress(content, query, max_tokens)
    except BudgetInfeasibleError:
        return None
    made = result.content
    if not made or (isinstance(made, str) and not made.strip()) or count(made) > max_tokens:
        return None
    is_torn = isinstance(made, str) and as_json(content) is not None and as_json(made) is None
    return None if is_torn else made


@lru_cache
def _compressor(rule: OnInfeasible) -> PromptCompressor:
    return PromptCompressor(1, tool_results="select", on_infeasible=rule, remember=0)


def as_json(content: Content) -> Any:
    """Return the object or list that a text is in JSON; ``None``: it is none."""
    if not isinstance(content, str) or not content.lstrip().startswith(("{", "[")):
        return None
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def marked(content: Content, note: str) -> Content:
    r"""Return a tier with the line that says what was left out; JSON stays JSON.

    Example:
        >>> marked("The gate is B22.", "[9 tokens left out.]")
        'The gate is B22.\n[9 tokens left out.]'
        >>> marked('{"gate":"B22"}', "[9 tokens left out.]")
        '{"gate":"B22","_left_out":"[9 tokens left out.]"}'
    """
    if not isinstance(content, str):
        *others, last = content
        text = f"{last.page_content}\n{note}"
        return [*others, last.model_copy(update={"page_content": text})]
    data, text = as_json(content), content.rstrip()
    if data is None:
        return f"{content}\n{note}"
    said = json.dumps(note, ensure_ascii=False)
    comma = "," if data else ""
    if isinstance(data, dict):  # as it is written: numbers stay what they are
        return f'{text[:-1]}{comma}"_left_out":{said}}}'
    return f'{text[:-1]}{comma}{{"_left_out":{said}}}]'
