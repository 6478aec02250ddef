"""Reasons not to serve a stored answer, however near its question is.

An embedding sees what a question is about, not what it says: "enable 2FA" and "disable 2FA" lie
closer together than most paraphrases. A guard compares the two texts for one difference that
changes the answer. Guards are rules about words and their order, need no model, and each has a
name under which it is counted and switched off.

There are two kinds. A *veto* is a difference that changes the answer by itself: another number, an
opposite. A *doubt* is one that often does: a word exchanged in an otherwise equal sentence. Vetoes
forbid a hit; doubts lower its probability (``serving_policy.py``), or forbid it where a static
threshold is used.

The rules are ours. They were written against one half of the CheckList question pairs (Ribeiro et
al., ACL 2020) and judged on the other: ``tests/benchmarks/bench_cache.py``. When to let a negation
or another order pass was decided on that half, one half of QQP and every other banking77 intent.
"""

from __future__ import annotations

from collections.abc import Iterable

from langchain_tokenopt.cache.guards.doubts import DOUBTS, doubts_between
from langchain_tokenopt.cache.guards.profile import Profile, profile_of
from langchain_tokenopt.cache.guards.request_kinds import REQUEST_KINDS
from langchain_tokenopt.cache.guards.vetoes import VETOES, vetoes_between

__all__ = [
    "DOUBTS",
    "REQUEST_KINDS",
    "VETOES",
    "Profile",
    "check_guard_names",
    "doubts_between",
    "profile_of",
    "vetoes_between",
]


def check_guard_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return *names*, each of a veto or a doubt.

    Raises:
        ValueError: For a name that is not a guard.

    Example:
        >>> check_guard_names(["numbers", "reordered"])
        ('numbers', 'reordered')
    """
    chosen, known = tuple(names), {*VETOES, *DOUBTS}
    unknown = sorted(set(chosen) - known)
    if unknown:
        raise ValueError(f"unknown guards {unknown}; there are {sorted(known)}")
    return chosen
