"""Fit one content into a number of tokens: shrink it, cut it into units, choose, count again."""

from __future__ import annotations

import hashlib
import math
import re
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final

from langchain_tokenopt.compress.content_types import ContentType, Layout
from langchain_tokenopt.compress.contradictions import prefer_what_holds
from langchain_tokenopt.compress.examples import cover_labels, find_examples
from langchain_tokenopt.compress.information import information
from langchain_tokenopt.compress.lossless import duplicate_units
from langchain_tokenopt.compress.options import OnInfeasible
from langchain_tokenopt.compress.plan_cache import KeptUnits, PlanCache
from langchain_tokenopt.compress.query_terms import Rarity, rarity_by_length, rarity_by_rank
from langchain_tokenopt.compress.relevance import relevance
from langchain_tokenopt.compress.rerank import Reranker
from langchain_tokenopt.compress.result import (
    FITS,
    NOTHING_TO_DROP,
    CompressionResult,
    DroppedSpan,
    dropped_spans,
)
from langchain_tokenopt.compress.text_tokens import vocabulary_of
from langchain_tokenopt.compress.unit_selection import (
    Choice,
    cut_best,
    fill,
    required_only,
    runs_of,
)
from langchain_tokenopt.compress.units import Unit
from langchain_tokenopt.core.errors import BudgetInfeasibleError
from langchain_tokenopt.counting.tokens import steady_counter_of_name

__all__ = ["Target", "fitted", "rarity_for", "shortened", "unchanged"]

_WHOLE_KINDS: Final = ("code", "json", "quote", "data", "diff")
"""Kept whole when a share is asked for rather than a limit, beside more that is none of them."""


def _is_whole(unit: Unit) -> bool:
    return unit.kind in _WHOLE_KINDS and not unit.frame


@dataclass(frozen=True, slots=True)
class Target:
    """What is asked for: a limit in tokens, a share of what can be dropped, or nothing."""

    limit: int | None
    keep: float | None
    query: str | None
    model: str
    """The name of the model whose vocabulary says how rare a word is."""
    fingerprint: Callable[[], str]
    """Names all other settings, for the plan cache."""
    on_infeasible: OnInfeasible
    reranker: Reranker | None
    known: Sequence[str] | None = None
    """Texts that others have been given; ``None``: nobody else reads."""

    @property
    def keeps_all(self) -> bool:
        """Whether every byte stays."""
        return self.limit is None and self.keep is None


def fitted(content: ContentType, target: Target, plans: PlanCache) -> CompressionResult[Any]:
    """Return *content* in what *target* asks for.

    Raises:
        BudgetInfeasibleError: If what must be kept does not fit and *target* says so.
    """
    original, limit = content, target.limit
    if (limit is not None and content.tokens <= limit) or target.keeps_all:
        return unchanged(content, FITS)
    steps: dict[str, int] = {}
    shorter = content.shrink()
    if shorter is not None and shorter.tokens < content.tokens:
        steps["lossless"] = content.tokens - shorter.tokens
        content = shorter
        if limit is not None and content.tokens <= limit:
            return _result(original, content.content, content.tokens, steps)
    if limit is None and target.keep == 1.0:  # nothing is dropped, so nothing is weighed
        if content is original:
            return unchanged(original, NOTHING_TO_DROP)
        return _result(original, content.content, content.tokens, steps)
    fit = _Fit(content, target)
    if fit.limit >= content.tokens:
        if content is original:
            return unchanged(original, NOTHING_TO_DROP)
        return _result(original, content.content, content.tokens, steps)
    key = _plan_key(content, fit.layout, target) if plans.remembers else ""
    plan = plans.plan(key) if key else None
    if plan is None or len(plan.kept) != len(fit.layout.units):
        plan = fit.plan()
        plans.keep(key, plan)
    if all(plan.kept) and content is original:
        return unchanged(original, NOTHING_TO_DROP)
    steps["select"] = content.tokens - plan.tokens
    details = _Details(original, fit.assembled(plan.kept), fit.layout.units, plan.kept)
    return _result(original, details.content, plan.tokens, steps, plan.note, details)


class _Fit:
    """One content on its way to being chosen from."""

    def __init__(self, content: ContentType, target: Target) -> None:
        self._content = content
        self._target = target
        self.layout = content.layout(target.limit)
        self.limit = target.limit if target.limit is not None else self._share()
        self._last: tuple[list[bool], Any] | None = None

    def _share(self) -> int:
        """Return the tokens that a share of what can be dropped comes to."""
        units, tokens = self.layout.units, self._content.tokens
        fixed = tokens - sum(u.tokens + u.overhead for u in units)
        fixed += required_only(units).tokens
        droppable = max(0, tokens - fixed)
        whole = [unit for unit in units if not unit.required and _is_whole(unit)]
        held = sum(unit.tokens for unit in whole)
        if 2 * held <= droppable:  # else it is what there is to shorten
            fixed, droppable = fixed + held, droppable - held
            for unit in whole:
                unit.required = True
        if droppable == 0:
            return tokens
        return fixed + math.ceil((self._target.keep or 1) * droppable)

    def plan(self) -> KeptUnits:
        """Choose the units to keep.

        Raises:
            BudgetInfeasibleError: If what must be kept does not fit and the target says so.
        """
        _leave_dear_tags(self.layout, self.limit)
        likely = self._likely()
        plan = self._filled(likely)
        if plan is not None:
            if any(plan.kept):
                return self._with_last(plan, likely)
            plan = self._cut(likely, self.layout.last)
            if any(plan.kept) or not self.layout.last or self._may_be_empty:
                return plan
            return self._without_last(plan)
        if self._target.limit is None:
            return self._everything()
        return self._without_some_required(likely)

    def _everything(self) -> KeptUnits:
        """A share was asked for, not a limit: nothing is dropped where that cannot be."""
        return KeptUnits([True] * len(self.layout.units), self._content.tokens)

    @property
    def _may_be_empty(self) -> bool:
        return self.layout.may_be_empty and self._target.on_infeasible != "raise"

    def _with_last(self, plan: KeptUnits, likely: list[float]) -> KeptUnits:
        """Add something of the message that is to be answered, where nothing of it was chosen.

        Raises:
            BudgetInfeasibleError: If nothing of it fits.
        """
        last = self.layout.last
        if not last or any(plan.kept[at] for at in last):
            return plan
        units, texts = self.layout.units, self.layout.texts
        says = [
            at
            for at in last
            if not (
                units[at].frame or _OPENS_STRING.search(units[at].within(texts[units[at].source]))
            )
        ]
        for at in sorted(says or last, key=lambda at: -likely[at]):
            kept = self._also(plan.kept, at)
            tokens = self._measure(kept)
            if tokens <= self.limit:
                return KeptUnits(kept, tokens, plan.note)
        return self._without_last(plan)

    def _also(self, kept: Sequence[bool], at: int) -> list[bool]:
        """Keep one unit more, and what it needs."""
        choice = Choice(self.layout.units)
        for other in (*(i for i, keep in enumerate(kept) if keep), at):
            choice.keep(other)
        return choice.kept

    def _without_last(self, plan: KeptUnits) -> KeptUnits:
        """Keep everything of a share; of a limit say what the least of the last message needs."""
        if self._target.limit is None:
            return self._everything()
        least = math.inf
        for at in self.layout.last:
            least = min(least, self._measure(self._also(plan.kept, at)))
        raise BudgetInfeasibleError(
            required_tokens=max(self.limit + 1, int(least)),
            max_tokens=self.limit,
            remedy="Nothing of the last message fits beside the others. Raise max_tokens.",
        )

    def assembled(self, kept: list[bool]) -> Any:
        """Assemble a choice, or return what was just assembled of it."""
        if self._last is None or self._last[0] is not kept:
            self._last = kept, self._content.assemble(self.layout, kept)
        return self._last[1]

    def _measure(self, kept: list[bool]) -> int:
        return self._content.measure(self.assembled(kept), runs_of(self.layout.units, kept))

    def _filled(self, likely: list[float], note: str | None = None) -> KeptUnits | None:
        layout = self.layout
        found = fill(layout.units, likely, self.limit, layout.fixed_tokens, self._measure)
        return None if found is None else KeptUnits(found.kept, found.tokens, note)

    def _cut(self, likely: list[float], asked: Sequence[int] = ()) -> KeptUnits:
        """Nothing fits whole: keep the beginning of the best unit, or of the question."""
        likely = [0.0 if asked and at not in asked else chance for at, chance in enumerate(likely)]

        def measure(units: Sequence[Unit], kept: list[bool]) -> int:
            layout = replace(self.layout, units=list(units))
            return self._content.measure(self._content.assemble(layout, kept))

        layout = self.layout
        found = cut_best(layout.texts, layout.units, likely, self.limit, measure)
        if found is None:
            kept = [False] * len(layout.units)
            return KeptUnits(kept, self._measure(kept), _NOTHING_FITS)
        layout.units, filled = found
        return KeptUnits(filled.kept, filled.tokens, _CUT)

    def _likely(self) -> list[float]:
        layout, target = self.layout, self._target
        # Instructions and question stay anyway: as passages they would make others look alike.
        may_go = {u.source for u in layout.units if not u.required}
        ranked = [
            at
            for at, u in enumerate(layout.units)
            if u.source in may_go and not (u.required and u.passage < 0)
        ]
        found = relevance(
            _without(layout, ranked),
            [layout.units[at] for at in ranked],
            target.query or layout.question,
            prior=layout.prior,
            rarity=rarity_for(target.model),
            rerank=target.reranker,
        )
        likely = [0.0] * len(layout.units)
        for at, chance in zip(ranked, found.units, strict=True):
            likely[at] = chance
        if target.known is not None:
            told = information(layout.texts, layout.units, target.known)
            if any(told):
                likely = [
                    (1 - _BY_ITSELF) * chance + _BY_ITSELF * tells
                    for chance, tells in zip(likely, told, strict=True)
                ]
        for at in duplicate_units(layout.texts, layout.units):
            likely[at] = 0.0
        named = dict(zip(ranked, found.named, strict=True))
        query = target.query or layout.question
        prefer_what_holds(layout.texts, layout.units, likely, named, query)
        if not query:
            _lift_failures(layout, likely)
        _lift_labels(layout, likely)
        return likely

    def _without_some_required(self, likely: list[float]) -> KeptUnits:
        """What must be kept does not fit: refuse, or give up what matters least."""
        units, how = self.layout.units, self._target.on_infeasible
        if how == "raise":
            raise BudgetInfeasibleError(
                required_tokens=self._measure(required_only(units).kept),
                max_tokens=self.limit,
                remedy="Raise max_tokens, protect less, or give on_infeasible='drop_lowest'.",
            )
        layout, essential = self.layout, frozenset(self.layout.essential)
        asked = [at for at, unit in enumerate(units) if unit.required and _asks(layout, at)]
        order = sorted(
            (at for at, unit in enumerate(units) if unit.required and at not in essential),
            key=lambda at: (_importance(layout, at), likely[at], -_depth(layout, at)),
        )
        for count, at in enumerate(order, 1):
            units[at].required = False
            likely[at] = max(likely[at], 1e-9)
            if count < len(order) and count & (count - 1):
                continue
            plan = self._filled(likely, _GIVEN_UP)
            if plan is None:
                continue
            if any(plan.kept[at] for at in asked or range(len(units))):
                return plan
            if how == "truncate":
                return self._cut(likely, asked)
            if layout.may_be_empty:
                return plan
        stays = [at in essential or at in asked for at in range(len(units))]
        raise BudgetInfeasibleError(
            required_tokens=self._measure(stays),
            max_tokens=self.limit,
            remedy="Not even the frame, a system message and the question fit. Raise max_tokens.",
        )


_BY_ITSELF: Final = 0.4
"""Part of the chances that units get by what they tell by themselves, where others read, too."""
_NOTHING_FITS: Final = "no unit fits, nor any word of the best one"
_CUT: Final = "no unit fits whole: the best one was cut between words"
_GIVEN_UP: Final = "part of what must be kept was given up"


@lru_cache(maxsize=16)
def rarity_for(model: str) -> Rarity:
    """Return how telling words are, by the vocabulary of *model* where there is one."""
    vocabulary = vocabulary_of(steady_counter_of_name(model))
    return rarity_by_length if vocabulary is None else rarity_by_rank(vocabulary.encode_ordinary)


def _without(layout: Layout, ranked: Sequence[int]) -> list[str]:
    """Return the texts with blanks in place of the units that are not *ranked*."""
    if len(ranked) == len(layout.units):
        return layout.texts
    texts = list(layout.texts)
    kept = set(ranked)
    for source in {u.source for at, u in enumerate(layout.units) if at not in kept}:
        texts[source] = "".join(
            unit.within(texts[source]) if at in kept else " " * (unit.end - unit.start)
            for at, unit in enumerate(layout.units)
            if unit.source == source
        )
    return texts


_OPENS_STRING: Final = re.compile(r"[:,\[{(]\s*[\"']\Z")
"""What is before a text of data, which alone would say that there is none."""
_DEAR: Final = 8
"""A tag that takes more than this part of the room stands around nothing."""


_DEAR_OF_XML: Final = 2
_PLAIN_TAG: Final = re.compile(r"\s*<(?![?!])[^<>]*>\s*")
"""A tag alone: the header of a table is no decoration."""
_TITLED: Final = re.compile(
    r"\b(?:title|name|heading|subject|topic|date|year|version|lang(?:uage)?|author|tite?l|titre"
    r"|t[ií]tulo|titolo|datum|fecha|data)\s*=",
    re.IGNORECASE,
)
"""Says what an element is about: under another title the same words say something else."""
_XML: Final = re.compile(r"<\?xml\b|\sxmlns[:=]")
"""Says that elements are nothing without those around them."""


def _leave_dear_tags(layout: Layout, limit: int) -> None:
    """Let elements stand without the tags around them where those would take much of the room."""
    units = layout.units
    framing = {at: unit for at, unit in enumerate(units) if unit.frame}
    sources = {unit.source for unit in framing.values()}
    strict = {source for source in sources if _XML.search(layout.texts[source])}
    dear = {
        at: unit.head
        for at, unit in framing.items()
        if unit.tokens * (_DEAR_OF_XML if unit.source in strict else _DEAR) > limit
        and _PLAIN_TAG.fullmatch(layout.texts[unit.source], unit.start, unit.end)
        and not _TITLED.search(layout.texts[unit.source], unit.start, unit.end)
    }
    for unit in units if dear else ():
        while unit.head in dear:
            unit.head = dear[unit.head]


_FAILURE: Final = re.compile(
    r"\b(?:ERROR|FATAL|CRITICAL|SEVERE|PANIC|EMERG)\b|\[(?:err|error|crit|fatal)\]"
    r"|\blevel\W{1,3}(?:error|fatal|critical)\b|^Traceback ",
    re.MULTILINE,
)


def _lift_failures(layout: Layout, likely: list[float]) -> None:
    """Where nobody asks, what failed is what most would ask a log for."""
    most = max(likely, default=0.0)
    for at, unit in enumerate(layout.units):
        is_record = unit.kind == "log" and likely[at] > 0
        if is_record and _FAILURE.search(layout.texts[unit.source], unit.start, unit.end):
            likely[at] += most


def _lift_labels(layout: Layout, likely: list[float]) -> None:
    """Where few-shot examples stand for classes, let each class keep one."""
    ats = [at for at, unit in enumerate(layout.units) if unit.kind == "example"]
    for source in {layout.units[at].source for at in ats}:
        examples = find_examples(layout.texts[source])
        mine = [at for at in ats if layout.units[at].source == source]
        if len(examples) == len(mine):
            chances = [likely[at] for at in mine]
            cover_labels(examples, chances)
            for at, chance in zip(mine, chances, strict=True):
                likely[at] = chance


def _asks(layout: Layout, at: int) -> bool:
    """Say whether a unit is the question, or part of it."""
    unit = layout.units[at]
    text = unit.within(layout.texts[unit.source]).strip()
    return bool(layout.question and text) and (
        text in str(layout.question) or str(layout.question) in text
    )


def _importance(layout: Layout, at: int) -> int:
    """Rank what is required: the question last to go, before it the patterns and obligations."""
    if _asks(layout, at):
        return 2
    return int(layout.units[at].kind in ("prose", "list", "label"))


def _depth(layout: Layout, at: int) -> int:
    """Return the characters to the nearer edge of its text: instructions stand at the edges."""
    unit = layout.units[at]
    return min(unit.start, len(layout.texts[unit.source]) - unit.end)


def _plan_key(content: ContentType, layout: Layout, target: Target) -> str:
    """Name everything that the choice follows from."""
    units = array("q")
    for u in layout.units:
        units.extend((u.source, u.start, u.end, u.required, u.tokens, u.overhead))
    digest = hashlib.blake2b(units, digest_size=16)
    for part in (
        target.fingerprint(), target.model, str(target.limit), str(target.keep), target.query or "",
        content.text(content.content), str(layout.fixed_tokens), repr(target.known),
    ):  # fmt: skip
        digest.update(b"\0")
        digest.update(part.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


# --- results -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Details:
    """Holds on to a finished job for those who want to know more."""

    original: ContentType
    content: Any
    units: Sequence[Unit] = ()
    kept: Sequence[bool] = ()

    def dropped(self) -> tuple[DroppedSpan, ...]:
        return dropped_spans(self.units, self.kept)

    def texts(self) -> tuple[str, str]:
        return self.original.text(self.original.content), self.original.text(self.content)


def unchanged(content: ContentType, reason: str) -> CompressionResult[Any]:
    """Return *content* as it is, and why."""
    return CompressionResult(
        content.content,
        content.tokens,
        content.tokens,
        content.exact,
        reason=reason,
        details=_Details(content, content.content),
    )


def shortened(
    original: ContentType, content: Any, tokens: int, step: str
) -> CompressionResult[Any]:
    """Return what one *step* made of *original*: *content*, of *tokens*."""
    return _result(original, content, tokens, {step: original.tokens - tokens})


def _result(
    original: ContentType,
    content: Any,
    tokens: int,
    steps: dict[str, int],
    note: str | None = None,
    details: _Details | None = None,
) -> CompressionResult[Any]:
    details = details or _Details(original, content)
    return CompressionResult(content, original.tokens, tokens, original.exact, steps, note, details)
