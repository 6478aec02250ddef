"""What the figures of a period call for; every recommendation stands on one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC
from shlex import quote

from langchain_tokenopt.core.counted import counted
from langchain_tokenopt.core.records import UsageTotals
from langchain_tokenopt.pricing.money import format_usd
from langchain_tokenopt.report.facts import Facts

__all__ = ["Recommendation", "recommendations"]


@dataclass(frozen=True, slots=True)
class Recommendation:
    """A figure, what it calls for, what that would save, and how it is done."""

    figure: str
    advice: str
    command: str = ""
    """What does it, or shows it, as it stands: a command, or a line of Python for a ``model``."""
    saved_nano_usd: int | None = None
    """What it would have saved in the period; ``None``: no money, or not known."""


# Where a figure begins to call for something. Judgement, not measurement: they are set so that a
# desk of ten agents in good order gets none.
ENOUGH_CALLS = 10
"""Below this many billed calls, shares are chance."""
ESTIMATED_SHARE = 0.05
UNFINISHED_SHARE = 0.02
FEW_AGENTS = 3
"""As many that take half of all tokens are worth the work; more are the way the graph is."""
INPUT_SHARE = 0.85
"""Of their tokens: they read far more than they write, so their prompts are where to save."""
LONG_ANSWER_TOKENS = 600
"""Mean answer of an agent, some 450 words: more than a report to another agent needs."""
CACHED_SHARE = 0.10
CACHEABLE_TOKENS = 1_024
"""Shortest prompt that providers cache.

Source: https://platform.openai.com/docs/guides/prompt-caching (checked 2026-11-21); Anthropic's
smallest is the same for most models.
"""


def recommendations(facts: Facts) -> list[Recommendation]:
    """Return what to do, the most certain first; empty when no figure calls for anything."""
    asked = _asked(facts)
    found = [line for rule in _RULES for line in rule(facts)]
    return [
        replace(line, command=line.command + asked) if line.command in _QUESTIONS else line
        for line in found
    ]


_MODELS, _AGENTS, _CALLS, _STAGES, _BUDGETS = _QUESTIONS = (
    "tokenopt top --by model",
    "tokenopt top --by agent --by day",
    "tokenopt export --format csv",
    "tokenopt effectiveness",
    "tokenopt kpi",
)
"""Commands that ask a ledger about the same period."""


def _asked(facts: Facts) -> str:
    """Return the options with which a command asks about the same calls."""
    options = []
    if facts.location != "tokenopt.db" and "***" not in facts.location:  # else it names a secret
        options.append(f"--ledger {quote(facts.location)}")
    options += [f"--{name} {quote(str(value))}" for name, value in facts.filters.items()]
    if facts.since is not None:
        options.append(f"--since {facts.since.astimezone(UTC):%Y-%m-%dT%H:%M}+00:00")
    return "".join(f" {option}" for option in options)


def _python(stage: str, *names: str) -> str:
    imported = ", ".join(("optimize", *names))
    return f"from langchain_tokenopt import {imported}; model = optimize(model, {stage})"


def _price_unknown_models(facts: Facts) -> Iterator[Recommendation]:
    count = facts.totals.unpriced_calls
    if not count:
        return
    models = [name for name, totals in facts.by_model.items() if totals.unpriced_calls]
    named = ", ".join(models[:3]) + (f" and {len(models) - 3} more" if len(models) > 3 else "")
    yield Recommendation(
        f"{count:,} of {facts.totals.billed_calls:,} calls have no known price ({named}).",
        "Give those models a price in the file that TOKENOPT_PRICES names; until then the cost "
        "above is too low.",
        _MODELS,
    )


def _report_usage(facts: Facts) -> Iterator[Recommendation]:
    totals = facts.totals
    share = _share(totals.estimated_calls, totals.billed_calls)
    if share >= ESTIMATED_SHARE and totals.billed_calls >= ENOUGH_CALLS:
        yield Recommendation(
            f"The tokens of {totals.estimated_calls:,} calls ({share:.0%}) had to be estimated.",
            "Let the model report them: stream_usage=True, and read streams to their end.",
            _MODELS,
        )


def _stop_failing(facts: Facts) -> Iterator[Recommendation]:
    spent, whole = facts.unfinished, facts.totals
    share = _share(spent.total_tokens, whole.total_tokens)
    if share >= UNFINISHED_SHARE and whole.billed_calls >= ENOUGH_CALLS:
        yield Recommendation(
            f"{share:.0%} of all tokens ({spent.total_tokens:,}, "
            f"{format_usd(spent.cost_nano_usd)}) went into {spent.calls:,} calls that failed or "
            f"were abandoned.",
            "Look at them first: the column status says which.",
            _CALLS,
            spent.cost_nano_usd or None,
        )


def _drop_costly_stages(facts: Facts) -> Iterator[Recommendation]:
    for effect in facts.effects:
        if effect.net_saved_tokens < 0 and not effect.observed:
            yield Recommendation(
                f"{effect.stage} spent {-effect.net_saved_tokens:,} tokens more than it saved, "
                f"over {effect.uses:,} uses.",
                "Take it out, or give it only the long prompts.",
                _STAGES,
                max(0, -effect.saved_nano_usd) or None,
            )


def _use_watching_stages(facts: Facts) -> Iterator[Recommendation]:
    for effect in facts.effects:
        if effect.net_saved_tokens > 0 and effect.observed:
            yield Recommendation(
                f"{effect.stage} only watches and would have saved {effect.net_saved_tokens:,} "
                f"tokens ({format_usd(effect.saved_nano_usd)}).",
                "Let it act: optimize(..., observe=False).",
                _STAGES,
                effect.saved_nano_usd or None,
            )


def _shorten_prompts(facts: Facts) -> Iterator[Recommendation]:
    """Name the few agents that take half of all tokens, if reading is what takes them."""
    whole = facts.totals.total_tokens
    if facts.totals.billed_calls < ENOUGH_CALLS:
        return
    named, taken, read, cost = [], 0, 0, 0
    for agent, totals in sorted(facts.by_agent.items(), key=lambda item: -item[1].total_tokens):
        named.append(agent)
        taken += totals.total_tokens
        read += totals.input_tokens
        cost += _input_cost(totals)
        if 2 * taken >= whole:
            break
    if len(named) <= FEW_AGENTS and _share(read, taken) >= INPUT_SHARE:
        yield Recommendation(
            f"{_listed(named)} {'takes' if len(named) == 1 else 'take'} "
            f"{_share(taken, whole):.0%} of all tokens, and {_share(read, taken):.0%} of that is "
            f"input.",
            "Shorten the prompts: PromptCompressor.",
            _python("PromptCompressor(keep=0.5)", "PromptCompressor"),
            cost // 2 or None,
        )


def _shorten_answers(facts: Facts) -> Iterator[Recommendation]:
    for agent, totals in facts.by_agent.items():
        mean = totals.output_tokens / max(1, totals.billed_calls)
        if mean >= LONG_ANSWER_TOKENS and totals.billed_calls >= ENOUGH_CALLS:
            yield Recommendation(
                f"{agent} writes {mean:,.0f} tokens per answer.",
                "If somebody else only reads its conclusion, set a WordLimit.",
                _python("WordLimit(200)", "WordLimit"),
                (totals.cost_nano_usd - _input_cost(totals)) // 2 or None,
            )


def _keep_prefixes(facts: Facts) -> Iterator[Recommendation]:
    for agent, totals in facts.by_agent.items():
        mean = totals.input_tokens / max(1, totals.billed_calls)
        cached = _share(totals.cache_read_tokens, totals.input_tokens)
        if (
            mean >= 2 * CACHEABLE_TOKENS
            and cached < CACHED_SHARE
            and totals.billed_calls >= ENOUGH_CALLS
        ):
            yield Recommendation(
                f"{agent} reads {mean:,.0f} tokens per call and the provider's prompt cache served "
                f"{cached:.0%} of them.",
                "Put what never changes first and keep it byte for byte; cached input costs a "
                "fraction.",
                _AGENTS,
                _input_cost(totals) // 4 or None,
            )


def _raise_budgets(facts: Facts) -> Iterator[Recommendation]:
    denied = facts.figures.refused_calls
    full = [state for state in facts.budgets if state.denied]
    if denied and full:
        yield Recommendation(
            f"Budgets refused {counted(denied, 'call')} ({_listed([s.budget for s in full[:3]])}).",
            "Give them more, or let them shorten earlier.",
            _BUDGETS,
        )


_RULES: tuple[Callable[[Facts], Iterator[Recommendation]], ...] = (
    _price_unknown_models,
    _report_usage,
    _stop_failing,
    _raise_budgets,
    _drop_costly_stages,
    _use_watching_stages,
    _shorten_prompts,
    _shorten_answers,
    _keep_prefixes,
)


def _listed(names: Sequence[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


_OUTPUT_PRICE = 4
"""Output costs four to five times as much as input with most models (checked 2026-11-21), so that
a cost can be parted where only the sum is kept."""


def _input_cost(totals: UsageTotals) -> int:
    """Return about how much of a cost is for input."""
    weighed = totals.input_tokens + _OUTPUT_PRICE * totals.output_tokens
    return totals.cost_nano_usd * totals.input_tokens // weighed if weighed else 0


def _share(part: int, whole: int) -> float:
    return part / whole if whole > 0 else 0.0
