"""A prompt as named parts, assembled for each query and budget."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from langchain_core.runnables import Runnable, RunnableConfig

from langchain_tokenopt.compress.options import DEFAULT_MODEL, compiled
from langchain_tokenopt.compress.prompt_parts import read_passage
from langchain_tokenopt.compress.relevance import relevance
from langchain_tokenopt.compress.rendering import render
from langchain_tokenopt.compress.text_tokens import Tokenized
from langchain_tokenopt.compress.unit import Unit, frames_of
from langchain_tokenopt.compress.unit_selection import fill, required_only
from langchain_tokenopt.core.argument_checks import check_whole
from langchain_tokenopt.core.errors import BudgetInfeasibleError
from langchain_tokenopt.counting.model_names import model_name_of
from langchain_tokenopt.counting.tokens import steady_counter_of_name

if TYPE_CHECKING:
    from langchain_tokenopt.counting.model_names import ModelLike

__all__ = ["AssembledPrompt", "PromptSections", "Section"]

Fate = Literal["kept", "shortened", "dropped"]


@dataclass(frozen=True, slots=True)
class Section:
    """One part of a prompt."""

    text: str
    priority: float = 1.0
    """How much its sentences weigh against those of other sections that are as relevant."""
    required: bool = False
    """Kept whole, whatever is asked."""
    whole: bool = False
    """Kept or dropped, but never shortened: schemas, code, legal text."""
    needed_for: str | None = None
    """A regular expression: where the query matches it, the section is kept whole."""


@dataclass(frozen=True, slots=True)
class AssembledPrompt:
    """What was made of the sections."""

    text: str
    tokens: int
    fates: Mapping[str, Fate]


class PromptSections(Runnable[str, str]):
    """Assemble a prompt from named sections: each kept, shortened or dropped by need.

    Sections stay in their order. Which sentences of them are kept follows from the query, times the
    section's priority; the result is counted again and never has more than *max_tokens*.

    Args:
        sections: Name to :class:`Section`, or to a text with priority 1.
        max_tokens: Tokens of the assembled prompt.
        model: Name or chat model, for counting.
        separator: Stands between sections.

    Raises:
        ValueError: If there are no sections, a priority is not above 0, or a pattern is invalid.

    Example:
        >>> prompt = PromptSections(
        ...     {
        ...         "role": Section("You answer guests.", required=True),
        ...         "pool": "The pool opens at 7. Towels are free.",
        ...         "bar": "The bar opens at 18. Happy hour is at 19.",
        ...     },
        ...     max_tokens=13,
        ... )
        >>> print(prompt.invoke("When does the pool open?"))
        You answer guests.
        <BLANKLINE>
        The pool opens at 7.
    """

    def __init__(
        self,
        sections: Mapping[str, Section | str],
        *,
        max_tokens: int,
        model: ModelLike = DEFAULT_MODEL,
        separator: str = "\n\n",
    ) -> None:
        if not sections:
            raise ValueError("PromptSections needs at least one section.")
        self.sections = {
            name: Section(part) if isinstance(part, str) else part
            for name, part in sections.items()
        }
        self._needed: dict[str, re.Pattern[str]] = {}
        for name, section in self.sections.items():
            if not section.priority > 0:
                raise ValueError(
                    f"The priority of section {name!r} must be above 0; got {section.priority!r}. "
                    f"Leave out a section that is never wanted."
                )
            if section.needed_for is not None:
                option = f"needed_for of section {name!r}"
                (self._needed[name],) = compiled(option, section.needed_for, re.IGNORECASE)
        self.max_tokens = check_whole("max_tokens", max_tokens)
        self.separator = separator
        self._counter = steady_counter_of_name(model_name_of(model))

    def invoke(self, input: str, config: RunnableConfig | None = None, **kwargs: Any) -> str:
        """Return the prompt for the query *input*.

        Raises:
            BudgetInfeasibleError: If the required sections do not fit.
        """
        return self._call_with_config(lambda query: self.assemble(query).text, input, config)

    def assemble(self, query: str | None = None, max_tokens: int | None = None) -> AssembledPrompt:
        """Assemble the prompt and say what became of each section.

        Args:
            query: What the prompt will be used for; without it, what is central is kept.
            max_tokens: In place of the one given at construction.

        Raises:
            BudgetInfeasibleError: If the required sections do not fit.
        """
        limit = self.max_tokens if max_tokens is None else max_tokens
        texts = [section.text for section in self.sections.values()]
        units = self._units(query)
        everything = [True] * len(units)
        whole = self._measure(texts, units, everything)
        if whole <= limit:
            return self._made(texts, units, everything, whole)
        likely = relevance(texts, units, query).units
        weights = [section.priority for section in self.sections.values()]
        likely = [chance * weights[u.source] for chance, u in zip(likely, units, strict=True)]
        _share_within_whole(units, likely)
        filled = fill(units, likely, limit, 0, lambda kept: self._measure(texts, units, kept))
        if filled is None:
            raise BudgetInfeasibleError(
                required_tokens=self._measure(texts, units, required_only(units).kept),
                max_tokens=limit,
                remedy="Raise max_tokens, or require fewer sections.",
            )
        return self._made(texts, units, filled.kept, filled.tokens)

    def _units(self, query: str | None) -> list[Unit]:
        units: list[Unit] = []
        for source, (name, section) in enumerate(self.sections.items()):
            first = len(units)
            required = section.required or bool(
                query and name in self._needed and self._needed[name].search(query)
            )
            tokenized = Tokenized(section.text, self._counter)
            own = (
                [Unit(0, len(section.text), "code")]
                if section.whole or required
                else read_passage(section.text).units
            )
            for unit, tokens in zip(own, tokenized.between([u.end for u in own]), strict=True):
                unit.source, unit.tokens, unit.required = source, tokens, required
                unit.head = unit.head + first if unit.head >= 0 else -1
                unit.bound = unit.bound + first if unit.bound >= 0 else -1
            if own:
                own[0].overhead = 1  # the separator
            units += own
        return units

    def _join(self, texts: list[str], units: list[Unit], kept: list[bool]) -> str:
        pieces = []
        for source, text in enumerate(texts):
            ats = [at for at, unit in enumerate(units) if unit.source == source]
            if any(kept[at] for at in ats):
                piece = render(text, [units[at] for at in ats], [kept[at] for at in ats], units)
                pieces.append(piece)
        return self.separator.join(pieces)

    def _measure(self, texts: list[str], units: list[Unit], kept: list[bool]) -> int:
        return self._counter.count(self._join(texts, units, kept)).tokens

    def _made(
        self, texts: list[str], units: list[Unit], kept: list[bool], tokens: int
    ) -> AssembledPrompt:
        fates: dict[str, Fate] = {}
        for source, name in enumerate(self.sections):
            mine = [keep for unit, keep in zip(units, kept, strict=True) if unit.source == source]
            fates[name] = "kept" if all(mine) else "shortened" if any(mine) else "dropped"
        return AssembledPrompt(self._join(texts, units, kept), tokens, fates)


def _share_within_whole(units: list[Unit], likely: list[float]) -> None:
    """A section without any relevant word still has its priority: give every unit a little."""
    least = max(likely, default=0.0) * 1e-6 or 1e-9
    frames = frames_of(units)
    for at, unit in enumerate(units):
        if unit.kind != "heading" and at not in frames:
            likely[at] = max(likely[at], least)
