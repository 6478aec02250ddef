"""Choose units within an exact number of tokens, and prove it by counting the result again.

Tokens of units are read off one pass over the whole text: a byte-pair tokenizer's tokens add up
when the text is cut where it would cut anyway. Where they do not quite add up, the recount shows
it, and the allowance is corrected until the recount is within the limit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from langchain_tokenopt.compress.bare_code import is_running_text
from langchain_tokenopt.compress.protect import verbatim_spans
from langchain_tokenopt.compress.units import Unit

__all__ = ["Choice", "Filled", "Run", "choose", "cut_best", "fill", "required_only", "runs_of"]

_LENGTH_POWER = 0.5
"""A unit's likelihood is divided by this power of its tokens: between taking the likeliest first
(0) and the most likelihood per token (1); best on ``nq20_train`` at 4x to 20x."""
_GOOD_FILL = 0.97
_MOST_PROOFS = 12


# --- choosing ------------------------------------------------------------------------------------


class Choice:
    """Which units are kept; knows what keeping one more costs, heads and bound units included."""

    def __init__(self, units: Sequence[Unit]) -> None:
        self.units = units
        self.kept = [False] * len(units)
        self.tokens = 0
        self.own = [unit.tokens + unit.overhead for unit in units]
        self._head = [unit.bound if unit.bound >= 0 else unit.head for unit in units]
        self._bound: dict[int, list[int]] = {}
        for at, unit in enumerate(units):
            if unit.bound >= 0:
                self._bound.setdefault(unit.bound, []).append(at)

    def _chain(self, at: int) -> list[int]:
        """Return the units that must be added to keep *at*."""
        chain: dict[int, None] = {}
        needed = [at]
        while needed:
            at = needed.pop()
            if at >= 0 and not self.kept[at] and at not in chain:
                chain[at] = None
                needed += (*self._bound.get(at, ()), self._head[at])
        return list(chain)

    def price(self, at: int) -> int:
        """Return the tokens that keeping *at* adds."""
        head = self._head[at]
        if not self._bound:
            price = self.own[at]
            while head >= 0 and not self.kept[head]:
                price += self.own[head]
                head = self._head[head]
            return price
        return sum([self.own[i] for i in self._chain(at)])

    def keep(self, at: int) -> None:
        """Keep *at* and whatever it needs."""
        for i in self._chain(at):
            self.kept[i] = True
            self.tokens += self.own[i]


def required_only(units: Sequence[Unit]) -> Choice:
    """Return the choice of what must be kept."""
    choice = Choice(units)
    for at, unit in enumerate(units):
        if unit.required:
            choice.keep(at)
    return choice


def choose(units: Sequence[Unit], likely: Sequence[float], allowance: int) -> Choice:
    """Keep what is required, then the best units that still fit into *allowance* tokens.

    There is one order for all allowances, by likelihood over the root of the price, and no trading
    afterwards. So a larger allowance keeps what a smaller one did, up to the last units that filled
    what was left of it: all of an order whose sum fits into twice the room is kept with that room.
    """
    choice = required_only(units)
    left = allowance - choice.tokens
    own, kept = choice.own, choice.kept
    worth = {
        at: chance / (choice.price(at) + 1) ** _LENGTH_POWER
        for at, chance in enumerate(likely)
        if chance > 0 and not kept[at]
    }
    order = sorted(worth, key=worth.__getitem__, reverse=True)
    for at in order:
        if not kept[at] and own[at] <= left and (price := choice.price(at)) <= left:
            choice.keep(at)
            left -= price
    return choice


Run = tuple[int, int, int]
"""A stretch of a source that is kept as it is: the source, where it begins and where it ends."""


def runs_of(units: Sequence[Unit], kept: Sequence[bool]) -> list[Run]:
    """Return the stretches that the kept units form."""
    runs: list[Run] = []
    source = start = end = -1
    for unit, keep in zip(units, kept, strict=True):
        if not keep:
            continue
        if unit.start != end or unit.source != source:
            runs.append((source, start, end))
            source, start = unit.source, unit.start
        end = unit.end
    return [*runs[1:], (source, start, end)] if source >= 0 else []


# --- proving -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Filled:
    """The outcome of :func:`fill`."""

    kept: list[bool]
    tokens: int
    """By recount of the whole result."""


def fill(
    units: Sequence[Unit],
    likely: Sequence[float],
    max_tokens: int,
    fixed_tokens: int,
    measure: Callable[[list[bool]], int],
) -> Filled | None:
    """Choose units so that the whole result, counted again, has at most *max_tokens*.

    Args:
        units: With their tokens.
        likely: How much each is worth.
        max_tokens: The limit for the whole result.
        fixed_tokens: Tokens of what is no unit, such as frames of messages that stay.
        measure: Counts the result that a choice makes.

    Returns:
        ``None`` when even what is required does not fit.
    """
    allowance = max_tokens - fixed_tokens
    best: Filled | None = None
    tried: set[tuple[bool, ...]] = set()
    for _ in range(_MOST_PROOFS):
        choice = choose(units, likely, allowance)
        key = tuple(choice.kept)
        if key in tried:
            break
        tried.add(key)
        tokens = measure(choice.kept)
        if tokens <= max_tokens:
            if best is None or tokens > best.tokens:
                best = Filled(choice.kept, tokens)
            if tokens >= _GOOD_FILL * max_tokens or not _would_fit(
                choice, likely, max_tokens - tokens
            ):
                break
            allowance += max_tokens - tokens
        elif not any(k and not u.required for k, u in zip(choice.kept, units, strict=True)):
            break
        else:
            allowance = min(allowance, choice.tokens) - (tokens - max_tokens)
    if best is not None:
        return best
    return _required(units, max_tokens, measure)


def _required(
    units: Sequence[Unit], max_tokens: int, measure: Callable[[list[bool]], int]
) -> Filled | None:
    kept = required_only(units).kept
    tokens = measure(kept)
    return Filled(kept, tokens) if tokens <= max_tokens else None


def _would_fit(choice: Choice, likely: Sequence[float], room: int) -> bool:
    """Say whether any unit that was left out is small enough."""
    return any(
        likely[at] > 0 and choice.own[at] <= room and choice.price(at) <= room
        for at, kept in enumerate(choice.kept)
        if not kept
    )


def cut_best(
    texts: Sequence[str],
    units: Sequence[Unit],
    likely: Sequence[float],
    max_tokens: int,
    measure: Callable[[Sequence[Unit], list[bool]], int],
) -> tuple[list[Unit], Filled] | None:
    """Where no unit fits whole, keep as many words of the best one as fit.

    Args:
        texts: The sources of the units.
        units: None of which fits.
        likely: How much each is worth.
        max_tokens: The limit for the whole result.
        measure: Counts the result that units and a choice make.

    Returns:
        The units, one of them in two, and the choice; ``None`` when not even a word fits.
    """
    bound = {unit.bound for unit in units}
    candidates = [
        at
        for at, unit in enumerate(units)
        if likely[at] > 0
        and unit.bound < 0
        and at not in bound
        and _may_be_cut(unit, texts[unit.source])
    ]
    if not candidates:
        return None
    best = max(candidates, key=lambda at: likely[at])
    found: tuple[list[Unit], Filled] | None = None
    cuts = _word_ends(texts[units[best].source], units[best])
    low, high = 0, len(cuts) - 1
    while low <= high:
        middle = (low + high) // 2
        parts = _in_two(units, best, cuts[middle])
        choice = required_only(parts)
        choice.keep(best)
        tokens = measure(parts, choice.kept)
        if tokens <= max_tokens:
            found = parts, Filled(choice.kept, tokens)
            low = middle + 1
        else:
            high = middle - 1
    return found


def _may_be_cut(unit: Unit, text: str) -> bool:
    """Running text, and a long speech; of a record or short message a part would be another."""
    piece = unit.within(text).strip()
    line = text[text.rfind("\n", 0, unit.start) + 1 : unit.start].lstrip() + piece
    return (
        unit.kind in _MAY_BE_CUT
        and not _MARKED.match(line)
        and (unit.kind != "turn" or len(piece) > _LONG_SPEECH)
        and (("\n" not in piece and unit.kind != "list") or is_running_text(piece))
    )


_MARKED = re.compile(r"<|#|//|--|/\*|[\w-]+[._\d][\w.-]*[:=]")
"""What begins a tag, a title, a remark or a setting."""
_LONG_SPEECH = 400
"""Characters."""
_MAY_BE_CUT = frozenset({"prose", "list", "turn", "label"})
_WORD = re.compile(r"\S+")


def _word_ends(text: str, unit: Unit) -> list[int]:
    """Return where words of a unit end, outside of verbatim spans."""
    spans = [
        (a + unit.start, b + unit.start) for a, b in verbatim_spans(text[unit.start : unit.end])
    ]
    ends = [match.end() for match in _WORD.finditer(text, unit.start, unit.end)]
    return [end for end in ends if end < unit.end and not any(a < end < b for a, b in spans)]


def _in_two(units: Sequence[Unit], at: int, cut: int) -> list[Unit]:
    """Return the units with one of them cut in two; the others' references follow."""

    def moved(index: int) -> int:
        return index + 1 if index > at else index

    made = [replace(u, head=moved(u.head), bound=moved(u.bound)) for u in units]
    first, rest = (
        replace(made[at], end=cut),
        replace(made[at], start=cut, required=False, overhead=0),
    )
    return [*made[:at], first, rest, *made[at + 1 :]]
