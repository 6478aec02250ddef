"""What comes next: Markov models of users, and what several of them have in common.

The followers of a context are counted, and counts fade. A context is the last two steps, the last
one, or none, each as what was done and as what kind of thing was done. A probability is
interpolated from the most general context to the most particular one, by Witten and Bell's rule
(method C; IEEE Transactions on Information Theory 37(4), 1991; the form is that of Chen and
Goodman, Computer Speech and Language 13, 1999, equation 17)::

    p(w | context) = (c(context, w) + T * p(w | next more general context)) / (c(context) + T)

where ``c`` are counts and ``T`` is how many different followers there are; a faded follower counts
as the part that is left of it. What a narrower context has counted is not counted again in a wider
one, else a single observation would be believed at every level. In each context the users' common
counts come first and the user's own after them, so that what he does himself soon outweighs what
others do.

In the common counts each user has one vote in a context, divided among his followers as the rule
does, ``c(w) / (c + T)``. A follower that fewer than three users have is nobody else's business: of
it, others see only what kind of thing it is. One user's million odd calls weigh as much as
another's ten.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

__all__ = ["Counts", "Step", "Transitions", "UserTransitions", "contexts_of"]

_FADE: Final = 0.5 ** (1 / 64)
"""Per step in a context: what was seen 64 steps of this context ago counts half."""
_GONE: Final = 0.05
_MOST_COUNTED: Final = 1e9
_MOST_FOLLOWERS: Final = 64
_MOST_CONTEXTS: Final = 1_024
"""Of one user and agent; those used longest ago go first."""
_MOST_VOTERS: Final = 64
"""Users whose votes are counted in one context: those who were there last."""
_CANDIDATES: Final = 8
"""Followers that are looked at in each context."""
_FEW: Final = 16
"""Where a user has more followers of a context, none of them is probable, and his own votes stay
among those of the others."""
_LONGEST_SYMBOL: Final = 512

Context = tuple[str, ...]
Counts = dict[str, float]


class Step(NamedTuple):
    """One thing that was done."""

    symbol: str
    """What, as text."""
    kind: str
    """What kind of thing, such as the name of the tool."""
    exact: str = ""
    """Exactly what, where a symbol stands for several things."""


_START: Final = Step("", "")


def contexts_of(history: Sequence[Step]) -> dict[Context, Context | None]:
    """Return the contexts of what comes next, the most particular first, each with a narrower one.

    Example:
        >>> list(contexts_of([Step("weather in Rome", "weather")]))
        [('', 'weather in Rome'), ('weather in Rome',), ('', '~weather'), ('~weather',), ()]
    """
    before, last = (_START, _START, *history[-2:])[-2:]
    first, second = (step.kind and f"~{step.kind}" for step in (before, last))
    both, kinds = (before.symbol, last.symbol), (first, second)
    found: dict[Context, Context | None] = {}
    exact: Context | None = None
    if last.exact not in ("", last.symbol):
        found[before.symbol, last.exact] = None
        exact = (last.exact,)
        found[exact] = before.symbol, last.exact
    found[both] = exact
    for context, narrower in (
        ((last.symbol,), both),
        (kinds, both),
        ((second,), (last.symbol,)),
        ((), (second,)),
    ):
        found.setdefault(context, narrower)
    return found


def _sums(counts: Mapping[str, float]) -> tuple[float, float]:
    """Return how often a context was met, and how many followers it has."""
    return sum(counts.values()), sum(min(1.0, count) for count in counts.values())


class UserTransitions:
    """What one user's agent has done after what: counts by context, at most 1,024 of them."""

    def __init__(self) -> None:
        self.followers: OrderedDict[Context, Counts] = OrderedDict()

    def observe(self, history: Sequence[Step], symbol: str) -> list[Context]:
        """Count that *symbol* came after *history*; return the contexts that have left."""
        if len(symbol) > _LONGEST_SYMBOL:
            return []
        for context in contexts_of(history):
            counts = self.followers.setdefault(context, {})
            self.followers.move_to_end(context)
            for other in list(counts):
                counts[other] *= _FADE
                if counts[other] < _GONE:
                    del counts[other]
            counts[symbol] = counts.get(symbol, 0.0) + 1.0
            if len(counts) > _MOST_FOLLOWERS:
                del counts[min(counts, key=counts.__getitem__)]
        most = max(0, len(self.followers) - _MOST_CONTEXTS)
        return [self.followers.popitem(last=False)[0] for _ in range(most)]

    def add(self, other: UserTransitions) -> None:
        """Add what *other* has counted."""
        for context, counts in other.followers.items():
            own = self.followers.setdefault(context, {})
            self.followers.move_to_end(context)
            for symbol, count in counts.items():
                own[symbol] = own.get(symbol, 0.0) + count

    def as_json(self, most_bytes: int) -> dict[str, Any]:
        """Return what JSON can hold, of at most about *most_bytes*; the latest contexts first."""
        symbols: dict[str, int] = {}
        rows: list[list[Any]] = []
        size = 0
        for context, counts in reversed(self.followers.items()):
            names = [*context, *counts]
            new = dict.fromkeys(name for name in names if name not in symbols)
            size += sum(6 * len(name) + 3 for name in new) + 8 * len(context) + 16 * len(counts)
            if size > most_bytes:
                break
            for name in new:
                symbols[name] = len(symbols)
            row = [(symbols[name], round(count, 3)) for name, count in counts.items()]
            rows.append([[symbols[name] for name in context], *(n for pair in row for n in pair)])
        return {"symbols": list(symbols), "followers": rows[::-1]}

    @classmethod
    def from_json(
        cls, value: Any, is_symbol: Callable[[str], bool] = lambda symbol: True
    ) -> UserTransitions:
        """Read what :meth:`as_json` returns.

        Args:
            value: What was read.
            is_symbol: Whether a text may be a follower.

        Raises:
            ValueError: It is something else.
        """
        made = cls()
        try:
            symbols, rows = value["symbols"], value["followers"]
            for context, *row in rows[-_MOST_CONTEXTS:]:
                counts = dict(zip(_named(row[::2], symbols), row[1::2], strict=True))
                for symbol, count in counts.items():
                    if type(count) not in (int, float) or not 0 < count < _MOST_COUNTED:
                        raise ValueError(f"no count: {count!r}")
                    if not is_symbol(symbol):
                        raise ValueError(f"no symbol: {symbol!r}")
                made.followers[tuple(_named(context, symbols))] = counts
        except (LookupError, TypeError) as error:
            raise ValueError(f"no transitions ({type(error).__name__}: {error})") from error
        return made


def _named(places: Sequence[Any], symbols: Sequence[Any]) -> list[str]:
    """Return the symbols at *places*.

    Raises:
        ValueError: There is none.
    """
    for at in places:
        if type(at) is not int or not 0 <= at < len(symbols) or not isinstance(symbols[at], str):
            raise ValueError(f"no place of a symbol: {at!r}")
    return [symbols[at] for at in places]


class Transitions:
    """The models of many users; those who were here longest ago go first.

    Args:
        max_users: How many users, times agents, are kept.
        shared_by: How many users must have done the same before others are predicted to.
        public: What may be said to others of a symbol that fewer users have; ``""``: nothing.

    Example:
        >>> model, tea, milk = Transitions(), Step("tea", "tea"), Step("milk", "milk")
        >>> for _ in range(20):
        ...     model.observe("ann", "cook", [tea], "milk")
        >>> [(symbol, round(p, 2)) for symbol, p in model.predict("ann", "cook", [tea])]
        [('milk', 0.95)]
        >>> model.predict("bob", "cook", [tea])
        []
    """

    def __init__(
        self,
        *,
        max_users: int = 1_000,
        shared_by: int = 3,
        public: Callable[[str], str] = lambda symbol: "",
    ) -> None:
        self._max_users = max_users
        self._public = public
        self._shared_by = shared_by
        self._users: OrderedDict[tuple[str, str], UserTransitions] = OrderedDict()
        self._voters: dict[tuple[str, Context], OrderedDict[str, None]] = {}
        self._votes: OrderedDict[tuple[str, Context], _Votes] = OrderedDict()

    def __contains__(self, place: tuple[str, str]) -> bool:
        return place in self._users

    def __len__(self) -> int:
        return len(self._users)

    def add(self, user: str, agent: str, model: UserTransitions) -> None:
        """Add what was learned of a user elsewhere."""
        here = self._users.get((user, agent))
        if here is not None:
            model.add(here)
        self.put(user, agent, model)

    def observe(self, user: str, agent: str, history: Sequence[Step], symbol: str) -> None:
        """Count that *symbol* came after *history*, the latest step last."""
        model = self._users.get((user, agent))
        if model is None:
            model = UserTransitions()
            self.put(user, agent, model)
        self._users.move_to_end((user, agent))
        left = model.observe(history, symbol)
        for context in contexts_of(history):
            self._enrol(user, agent, context)
        self._drop_votes(user, agent, left)

    def predict(
        self, user: str, agent: str, history: Sequence[Step], most: int = 5
    ) -> list[tuple[str, float]]:
        """Return what may come next and how probable it is, the most probable first."""
        levels = self._levels(user, agent, history)
        candidates: dict[str, None] = {}
        for counts, *_ in levels:
            candidates |= dict.fromkeys(heapq.nlargest(_CANDIDATES, counts, counts.__getitem__))
        candidates.pop("", None)
        found = dict.fromkeys(candidates, 0.0)
        for counts, without, met, followers in levels:
            whole = met + followers
            for symbol, general in found.items():
                count = counts.get(symbol, 0.0)
                if symbol in without:
                    count = max(0.0, count - without[symbol])
                found[symbol] = (count + followers * general) / whole
        return sorted(found.items(), key=lambda item: (-item[1], item[0]))[:most]

    def _levels(self, user: str, agent: str, history: Sequence[Step]) -> list[_Level]:
        """Return the counts that are interpolated, the most general first."""
        model = self._users.get((user, agent))
        own = {} if model is None else model.followers
        contexts = contexts_of(history)
        votes = {context: self._votes_in(agent, context) for context in contexts}
        levels = []
        for context in reversed(contexts):
            counts, narrower = own.get(context, {}), contexts[context]
            known: list[Counts] = [] if narrower is None else [votes[narrower].counts]
            if 0 < len(counts) <= _FEW:
                known.append(self._as_votes(counts, votes[context].counts))
            levels.append(_level(votes[context].counts, *known))
            levels.append(_level(counts, {} if narrower is None else own.get(narrower, {})))
        return [level for level in levels if level.met > _GONE]

    def put(self, user: str, agent: str, model: UserTransitions) -> None:
        """Take over a user's model."""
        self._users[user, agent] = model
        for context in model.followers:
            self._enrol(user, agent, context)
        while len(self._users) > self._max_users:
            (gone, its_agent), left = self._users.popitem(last=False)
            self._drop_votes(gone, its_agent, left.followers)

    def forget(self, users: Iterable[str]) -> None:
        """Forget what users have done, also in what they had in common with others."""
        users = set(users)
        for user, agent in [key for key in self._users if key[0] in users]:
            self._drop_votes(user, agent, self._users.pop((user, agent)).followers)

    def _enrol(self, user: str, agent: str, context: Context) -> None:
        voters = self._voters.setdefault((agent, context), OrderedDict())
        voters[user] = None
        voters.move_to_end(user)
        if len(voters) > _MOST_VOTERS:
            voters.popitem(last=False)

    def _drop_votes(self, user: str, agent: str, contexts: Iterable[Context]) -> None:
        for context in contexts:
            place = agent, context
            self._votes.pop(place, None)
            voters = self._voters.get(place)
            if voters is not None:
                voters.pop(user, None)
                if not voters:
                    del self._voters[place]

    def _as_votes(self, own: Counts, votes: Counts) -> Counts:
        """Return a user's part of the votes."""
        found: Counts = {}
        whole = sum(_sums(own))
        for symbol, count in own.items():
            name = symbol if symbol in votes else self._public(symbol)
            found[name] = found.get(name, 0.0) + count / whole
        return found

    def _votes_in(self, agent: str, context: Context) -> _Votes:
        place = agent, context
        votes = self._votes.get(place)
        if votes is None or votes.asked >= votes.lasts:
            votes = self._votes[place] = self._count_votes(place)
            while len(self._votes) > _MOST_CONTEXTS:
                self._votes.popitem(last=False)
        self._votes.move_to_end(place)
        votes.asked += 1
        return votes

    def _count_votes(self, place: tuple[str, Context]) -> _Votes:
        agent, context = place
        votes, voters_of = Counts(), dict[str, int]()
        for user in list(self._voters.get(place, ())):
            model = self._users.get((user, agent))
            counts = model.followers.get(context) if model else None
            if not counts:
                del self._voters[place][user]
                continue
            seen, followers = _sums(counts)
            for symbol, count in counts.items():
                votes[symbol] = votes.get(symbol, 0.0) + count / (seen + followers)
                voters_of[symbol] = voters_of.get(symbol, 0) + 1
        known: Counts = {}
        for symbol, count in votes.items():
            if voters_of[symbol] < self._shared_by:
                symbol = self._public(symbol)
            known[symbol] = known.get(symbol, 0.0) + count
        return _Votes(known, len(self._voters.get(place, ())))


class _Votes:
    """What users have in common in one context."""

    __slots__ = ("asked", "counts", "lasts")

    def __init__(self, counts: Counts, voters: int) -> None:
        self.counts, self.asked = counts, 0
        self.lasts = 8 + 2 * voters
        """Questions after which they are counted anew: more voters take longer to count."""


class _Level(NamedTuple):
    """Counts of one context."""

    counts: Counts
    without: Counts
    """What is not to be counted of them."""
    met: float
    followers: float


def _level(counts: Counts, *known: Counts) -> _Level:
    """Return counts without what narrower contexts, or the user himself, have in them."""
    met, followers = _sums(counts)
    without: Counts = {}
    for part in known:
        for symbol, count in part.items():
            without[symbol] = without.get(symbol, 0.0) + count
    for symbol, gone in without.items():
        before = counts.get(symbol, 0.0)
        after = max(0.0, before - gone)
        met -= before - after
        followers -= min(1.0, before) - min(1.0, after)
    return _Level(counts, without, met, followers)
