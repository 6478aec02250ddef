"""Evidence belongs where it was seen: one serving policy for each field of questions.

Whose questions they are, in which namespace and under which system text is a *domain*; within it,
questions about the same things are a *field*: a group around the mean of its first questions
(leader clustering; Hartigan, Clustering Algorithms, 1975). Processes that share a cache may begin
the same field at the same time: what another one has begun without knowing of ours, and one process
would have taken for ours, is ours by another name. What is learned in one field decides
there and nowhere else, so no other tenant's, assistant's or subject's answers make a cache bolder,
and a new field starts with nothing.
"""

from __future__ import annotations

import hashlib
import random
from collections import OrderedDict
from collections.abc import Callable, Container, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from langchain_tokenopt.cache.same_words_policy import SameWordsPolicy
from langchain_tokenopt.cache.serving_policy import ServingPolicy
from langchain_tokenopt.cache.stats import FieldStats

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Field", "Fields"]

_NEAR: Final = 0.2
"""Cosine with its centre from which a question belongs to a field."""
_SETTLED: Final = 64
"""Questions after which the centre of a field moves no more."""
_FIELDS_OF_DOMAIN: Final = 32
_FIELDS: Final = 2_048
"""So many are kept; the one that was asked least recently goes, and would start anew."""
_DIGITS: Final = 4


class Field:
    """Questions about the same things, and what is known about answering them from the cache.

    Args:
        name: Tells it from all other fields.
        domain: That it belongs to.
        centre: A unit vector.
        policy: Decides about answers to other questions.
        harmless: Decides about answers to questions that differ in nothing that matters.
    """

    def __init__(
        self,
        name: str,
        domain: bytes,
        centre: NDArray[np.float32],
        policy: ServingPolicy,
        harmless: SameWordsPolicy,
    ) -> None:
        self.name, self.domain, self.centre = name, domain, centre
        self.policy, self.harmless = policy, harmless
        self.members = 1
        self.is_written = False
        """Whether the file knows where it is now."""
        self.apart: list[str] | None = None
        """The fields that were known when it began, as far as the file has not been told."""

    def take_in(self, vector: NDArray[np.float32]) -> None:
        """Move the centre to the mean of the first questions."""
        if self.members >= _SETTLED:
            return
        mean = self.centre * self.members + vector
        length = float(np.linalg.norm(mean))
        if length:
            self.centre = mean / length
        self.members += 1
        self.is_written = False

    def stats(self) -> FieldStats:
        """Return what is known."""
        policy, estimate = self.policy, self.policy.estimate()
        return FieldStats(
            name=self.name,
            requests=policy.requests,
            checked=policy.labels,
            checked_wrong=policy.wrong_labels,
            wrong_per_request=estimate.wrong_per_request,
            wrong_per_request_bound=estimate.bound,
            wrong_per_hit=estimate.wrong_per_hit,
            threshold=estimate.threshold,
            drifts=policy.drifts,
        )

    def rows(self) -> list[Any]:
        """Return where the field is, as JSON-able rows; nothing where the file knows it."""
        if self.is_written:
            return []
        apart, self.apart, self.is_written = self.apart, None, True
        centre = [round(float(x), _DIGITS) for x in self.centre]
        place = ["field", self.name, self.domain.hex(), self.members, centre]
        return [place] if apart is None else [["apart", self.name, apart], place]

    def asked_row(self) -> list[Any]:
        """Return what was asked since the last time, as a JSON-able row; empty for nothing."""
        requests, judged = self.policy.take_asked()
        return ["asked", self.name, requests, judged.round(_DIGITS).tolist()] if requests else []


class _Domain:
    """The fields of one domain whose vectors have one dimension, and their centres in a matrix."""

    def __init__(self, dimension: int) -> None:
        self.fields: list[Field] = []
        self._centres = np.empty((0, dimension), dtype=np.float32)

    def add(self, field: Field) -> None:
        self.fields.append(field)
        self._centres = np.vstack([self._centres, field.centre])

    def remove(self, field: Field) -> None:
        at = self.fields.index(field)
        del self.fields[at]
        self._centres = np.delete(self._centres, at, axis=0)

    def follow(self, field: Field) -> None:
        """Take note of where the centre of a field has moved."""
        self._centres[self.fields.index(field)] = field.centre

    def nearest(self, vector: NDArray[np.float32], apart: Container[str]) -> Field | None:
        cosines = self._centres @ vector
        if apart:
            cosines[[field.name in apart for field in self.fields]] = -1.0
        best = int(cosines.argmax())
        return self.fields[best] if cosines[best] >= _NEAR else None


class Fields:
    """The fields of one cache. Called under the cache's lock.

    Args:
        limit: Wrong answers per request, at most, in each field.
        audit_share: Share of hits that are asked anyway.
        rng: Draws the audits.
        words_limit: The same as *limit* for the same words in another writing.

    Raises:
        ValueError: If a share is not between 0 and 1.
    """

    def __init__(
        self, limit: float, audit_share: float, rng: random.Random, words_limit: float
    ) -> None:
        self._limit, self._audit_share, self._rng = limit, audit_share, rng
        self._words_limit = words_limit
        self._new_policy()  # refuses shares that are none
        self.forget()

    def forget(self) -> None:
        """Start again."""
        self._fields: OrderedDict[str, Field] = OrderedDict()
        self._domains: dict[tuple[bytes, int], _Domain] = {}
        self._words: OrderedDict[bytes, SameWordsPolicy] = OrderedDict()
        self._ours: dict[str, str] = {}
        """Names that other processes gave to our fields."""
        self._apart: dict[str, set[str]] = {}
        """Of fields that come next: the others that were known when they began."""
        self.untold = 0
        """Requests since :meth:`traffic` was asked for."""

    def forget_domains(self, is_meant: Callable[[bytes], bool]) -> None:
        """Start again in some domains."""
        for name in [field.name for field in self._fields.values() if is_meant(field.domain)]:
            self._drop(name)
        for domain in filter(is_meant, [*self._words]):
            del self._words[domain]

    def __len__(self) -> int:
        return len(self._fields)

    def __iter__(self) -> Any:
        return iter(self._fields.values())

    def words(self, domain: bytes) -> SameWordsPolicy:
        """Return what decides about the same words in another writing."""
        found = self._words.get(domain)
        if found is None:
            found = self._words[domain] = self._new_words()
            if len(self._words) > _FIELDS:
                self._words.popitem(last=False)
        self._words.move_to_end(domain)
        return found

    def near(
        self, domain: bytes, vector: NDArray[np.float32], apart: Container[str] = ()
    ) -> Field | None:
        """Return the field that a question belongs to, if there is one that is not *apart*."""
        found = self._domains.get((domain, len(vector)))
        return None if found is None else found.nearest(vector, apart)

    def of(self, domain: bytes, vector: NDArray[np.float32]) -> Field:
        """Return the field of a question that is asked now; a new one, where none is near."""
        self.untold += 1
        field = self.near(domain, vector)
        if field is None:
            field = self.unknown(domain, vector)
            known = self._domains.get((domain, len(vector)))
            field.apart = [other.name for other in known.fields] if known else []
            return self._add(field)
        field.take_in(vector)
        self._domain_of(field).follow(field)
        self._fields.move_to_end(field.name)
        return field

    def unknown(self, domain: bytes, vector: NDArray[np.float32]) -> Field:
        """Return a field of which nothing is known, without keeping it."""
        name = hashlib.blake2b(domain + vector.astype("<f2").tobytes(), digest_size=6).hexdigest()
        return Field(name, domain, vector, self._new_policy(), self._new_words())

    def _add(self, field: Field) -> Field:
        place = field.domain, len(field.centre)
        own = self._domains.setdefault(place, _Domain(place[1]))
        own.add(field)
        self._fields[field.name] = field
        if len(own.fields) > _FIELDS_OF_DOMAIN:
            names = {one.name for one in own.fields}
            self._drop(next(name for name in self._fields if name in names))
        elif len(self._fields) > _FIELDS:
            self._drop(next(iter(self._fields)))
        return field

    def _drop(self, name: str) -> None:
        field = self._fields.pop(name)
        own = self._domain_of(field)
        own.remove(field)
        if not own.fields:
            del self._domains[field.domain, len(field.centre)]
        self._ours = {other: ours for other, ours in self._ours.items() if ours != name}

    def _domain_of(self, field: Field) -> _Domain:
        return self._domains[field.domain, len(field.centre)]

    def _new_policy(self) -> ServingPolicy:
        return ServingPolicy(
            max_wrong_per_request=self._limit, audit_share=self._audit_share, rng=self._rng
        )

    def _new_words(self) -> SameWordsPolicy:
        return SameWordsPolicy(self._words_limit, self._audit_share, self._rng)

    def stats(self) -> tuple[FieldStats, ...]:
        """Return what is known of each field, most asked first."""
        found = [field.stats() for field in self._fields.values()]
        return tuple(sorted(found, key=lambda field: (-field.requests, -field.checked)))

    def traffic(self) -> tuple[list[Any], list[Any]]:
        """Return, once, what was asked, as JSON-able rows: where fields are, and what came."""
        self.untold = 0
        places, asked = [], []
        for field in self._fields.values():
            if row := field.asked_row():
                places += field.rows()
                asked.append(row)
        return places, asked

    def leave_traffic(self) -> None:
        """Leave what was asked until now to another process, which tells of it."""
        self.untold = 0
        for field in self._fields.values():
            field.policy.take_asked()

    # --- what other processes and earlier ones have learned

    def restore(self, rows: Iterable[Any]) -> None:
        """Take in rows of the file, oldest first; what is none of ours is passed over."""
        for row in rows:
            if isinstance(row, list) and len(row) > 1:
                try:
                    self._restore_row(*row)
                except (AttributeError, LookupError, TypeError, ValueError):
                    continue

    def _restore_row(self, kind: str, name: str, *rest: Any) -> None:
        if kind == "field":
            self._restore_field(name, *rest)
        elif kind == "apart":
            self._apart = {name: {self._ours.get(other, other) for other in rest[0]}}
        elif kind == "label":
            self._named(name).policy.restore(*rest)
        elif kind == "asked":
            self._named(name).policy.restore_asked(*rest)
        elif kind == "harmless":
            self._named(name).harmless.learn(right=bool(rest[0]))
        elif kind == "words":
            self.words(bytes.fromhex(name)).learn(right=bool(rest[0]))

    def _named(self, name: str) -> Field:
        return self._fields[self._ours.get(name, name)]

    def _restore_field(self, name: str, domain: str, members: int, centre: Sequence[float]) -> None:
        vector = np.array(centre, dtype=np.float32)
        length = float(np.linalg.norm(vector))
        if vector.ndim != 1 or not 0.5 < length < 2.0:  # also no NaN
            raise ValueError("no direction")
        vector /= length
        place = bytes.fromhex(domain)
        field = self._fields.get(self._ours.get(name, name)) or self._begun_twice(
            name, place, vector
        )
        if field is None:
            made = self.unknown(place, vector)
            made.name = str(name)
            field = self._add(made)
        if members >= field.members and vector.shape == field.centre.shape:
            field.centre, field.members = vector, int(members)
            self._domain_of(field).follow(field)
        if field.name == name:
            field.is_written = True

    def _begun_twice(self, name: str, domain: bytes, vector: NDArray[np.float32]) -> Field | None:
        """Return the field of ours that another process has begun by another name, if it has."""
        apart = self._apart.pop(name, None)
        found = None if apart is None else self.near(domain, vector, apart)
        if found is not None:
            self._ours[str(name)] = found.name
        return found
