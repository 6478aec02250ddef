"""Whether an answer to the same words in another writing is served."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable
from typing import Any, Final, Literal

__all__ = ["SameWordsPolicy", "WordsJudgement"]

WordsJudgement = Literal["serve", "audit", "off"]

_WINDOW: Final = 1_000
_TRUSTED: Final = 50
"""Right answers that are taken for granted: the allow list of ``writing.py`` was made with care."""
_LABEL: Final = "same words"


class SameWordsPolicy:
    """Serves the same words until audits say that they do not mean the same here.

    Args:
        limit: Wrong answers per request, at most; at 0 nothing is served.
        audit_share: Share of hits that are asked anyway.
        rng: Draws the audits.

    Example:
        >>> policy = SameWordsPolicy(0.01, 0.0, random.Random(1))
        >>> policy.judge()
        'serve'
        >>> policy.learn(right=False)
        >>> policy.judge()
        'audit'
    """

    def __init__(self, limit: float, audit_share: float, rng: random.Random) -> None:
        self._limit, self._audit_share, self._rng = limit, audit_share, rng
        self._right: deque[bool] = deque(maxlen=_WINDOW)

    def judge(self) -> WordsJudgement:
        """Say what to do with a hit; a small share of what would be served is audited."""
        found = self.peek()
        return "audit" if found == "serve" and self._rng.random() < self._audit_share else found

    def peek(self) -> WordsJudgement:
        """Say what is done with hits at present: all are asked while too many were wrong."""
        if not self._limit:
            return "off"
        wrong = len(self._right) - sum(self._right)
        return "audit" if wrong > self._limit * (len(self._right) + _TRUSTED) else "serve"

    def learn(self, *, right: bool) -> None:
        """Take in whether a stored answer was right for the same words."""
        self._right.append(right)

    def export(self, last: int) -> list[Any]:
        """Return the *last* labels as JSON-able rows."""
        return [[_LABEL, right] for right in list(self._right)[-last:]] if last else []

    def restore(self, rows: Iterable[Any]) -> None:
        """Take in what :meth:`export` returned in an earlier process; other rows are left alone."""
        self._right.extend(
            bool(row[1])
            for row in rows
            if isinstance(row, list) and len(row) == 2 and row[0] == _LABEL
        )

    def forget(self) -> None:
        """Start again."""
        self._right.clear()
