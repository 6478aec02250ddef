"""What one agent hands to the others: its report, shortened once for all of its readers."""

from __future__ import annotations

import hashlib
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from langchain_core.runnables import Runnable, RunnableConfig

from langchain_tokenopt.compress.lossless import duplicate_units
from langchain_tokenopt.compress.options import DEFAULT_MODEL, Patterns, compiled
from langchain_tokenopt.compress.prompt_parts import read_passage
from langchain_tokenopt.compress.protect import NEGATION
from langchain_tokenopt.compress.rendering import render
from langchain_tokenopt.compress.report_roles import Role, roles_of
from langchain_tokenopt.compress.text_tokens import Tokenized
from langchain_tokenopt.compress.unit_selection import fill
from langchain_tokenopt.compress.units import Unit
from langchain_tokenopt.core.argument_checks import check_whole
from langchain_tokenopt.core.errors import BudgetInfeasibleError
from langchain_tokenopt.counting.model_names import model_name_of
from langchain_tokenopt.counting.tokens import steady_counter_of_name

if TYPE_CHECKING:
    from langchain_tokenopt.counting.model_names import ModelLike

__all__ = ["Handover"]

_OPENING_WORTH, _CLOSING_WORTH = 1.5, 2.0
"""Reports say what matters first, or at the end."""
_RISK = 1.2
_RISKS = re.compile(r"\b(?:risks?|however|but|unless|warning|caution|except|aber|riesgo)\b", re.I)


class Handover(Runnable[str, str]):
    r"""Shorten an agent's report once, for all agents that will read it.

    Every reader gets the same bytes, so providers cache them, and no reader sees another version
    than the next. Sentences are kept or dropped whole: numbers stand as they were written. Handed
    over first is what the report concludes, decides, gives causes for, dates and counts, in any
    trade; what refers to a sentence brings that sentence with it, and a decision and its revocation
    are handed over together or not at all. Conclusions stand first, the rest follows in its order.

    Args:
        max_tokens: Tokens that the handed-over report may have.
        model: Name or chat model, for counting.
        conclusions: Regular expressions for what concludes in your reports, besides the words by
            which any report does ("recommend", "overall"): ``r"\b(?:BUY|HOLD|SELL)\b"``.
        remember: Reports to remember; the oldest are forgotten first.

    Raises:
        ValueError: If *max_tokens* is below 1 or a pattern is invalid.

    Example:
        >>> report = (
        ...     "We looked at many things this week. Revenue of ACME grew 12 % to $4.1 billion. "
        ...     "The weather was fine. Our recommendation: BUY ACME, price target $180."
        ... )
        >>> print(Handover(30).invoke(report))
        Our recommendation: BUY ACME, price target $180.
        Revenue of ACME grew 12 % to $4.1 billion.
    """

    def __init__(
        self,
        max_tokens: int,
        *,
        model: ModelLike = DEFAULT_MODEL,
        conclusions: str | re.Pattern[str] | Iterable[str | re.Pattern[str]] = (),
        remember: int = 256,
    ) -> None:
        self.max_tokens = check_whole("max_tokens", max_tokens)
        self.conclusions: Patterns = compiled("conclusions", conclusions)
        self._counter = steady_counter_of_name(model_name_of(model))
        self._remember = check_whole("remember", remember, least=0)
        self._known: OrderedDict[bytes, str] = OrderedDict()
        self._lock = threading.RLock()

    def invoke(self, input: str, config: RunnableConfig | None = None, **kwargs: Any) -> str:
        """Return the report *input* as all readers get it; the same object if it already fits.

        Raises:
            BudgetInfeasibleError: If not even its shortest sentence fits.
        """
        return self._call_with_config(self._shorten, input, config)

    def _shorten(self, report: str) -> str:
        key = hashlib.blake2b(report.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        with self._lock:
            known = self._known.get(key)
            if known is not None:
                self._known.move_to_end(key)
                return known
        made = self._made(report)
        with self._lock:
            made = self._known.setdefault(key, made)
            while len(self._known) > self._remember:
                self._known.popitem(last=False)
        return made

    def _made(self, report: str) -> str:
        tokenized = Tokenized(report, self._counter)
        if tokenized.tokens <= self.max_tokens:
            return report
        units = read_passage(report).units
        counts = tokenized.between([unit.end for unit in units])
        for unit, tokens in zip(units, counts, strict=True):
            unit.tokens = tokens
        roles = _linked_roles(report, units, self.conclusions)
        concludes = [role.concludes for role in roles]
        likely = [_worth(u.within(report), role) for u, role in zip(units, roles, strict=True)]
        last = max((at for at, unit in enumerate(units) if unit.tokens), default=0)
        likely[0] *= _OPENING_WORTH
        likely[last] *= _CLOSING_WORTH
        for at in duplicate_units([report], units):
            likely[at] = 0.0

        def text(kept: list[bool]) -> str:
            return _important_first(report, units, kept, concludes)

        def measure(kept: list[bool]) -> int:
            return self._counter.count(text(kept)).tokens

        filled = fill(units, likely, self.max_tokens, 0, measure)
        made = text(filled.kept) if filled is not None else ""
        if not made.strip():
            raise BudgetInfeasibleError(
                required_tokens=min(unit.tokens for unit in units if unit.tokens),
                max_tokens=self.max_tokens,
                remedy="Not even the shortest sentence of the report fits; raise max_tokens.",
            )
        return made


def _linked_roles(report: str, units: list[Unit], own: Patterns) -> list[Role]:
    """Say what each unit does, and tie it to those without which it would mislead."""
    roles = roles_of([unit.within(report) for unit in units], own)
    for unit, role in zip(units, roles, strict=True):
        if unit.bound >= 0 or unit.frame:
            continue
        if role.revokes >= 0 and units[role.revokes].bound < 0:
            unit.bound = role.revokes
        elif role.refers_to >= 0 and unit.head < 0:
            unit.head = role.refers_to
    return roles


def _worth(sentence: str, role: Role) -> float:
    """How much a sentence matters to a reader who will act on the report."""
    is_risk = _RISKS.search(sentence) or NEGATION.search(sentence)
    return role.worth * (_RISK if is_risk else 1.0)


def _important_first(
    report: str, units: list[Unit], kept: list[bool], concludes: list[bool]
) -> str:
    """Return the kept conclusions, then the rest, each in the order of the report."""
    free = [concludes[at] and unit.head < 0 and unit.bound < 0 for at, unit in enumerate(units)]
    first = render(report, units, [k and f for k, f in zip(kept, free, strict=True)])
    rest = render(report, units, [k and not f for k, f in zip(kept, free, strict=True)])
    return "\n".join(part.strip() for part in (first, rest) if part.strip())
