"""What people say around a question, by language: data, no rules.

A *rewrite* is a pair of a pattern and what takes its place. Patterns see one sentence as its words
in small letters, parted by single blanks; ``,`` is a pause. Names in capitals stand for groups of
words (:data:`_GROUPS`). Whatever is on no list here stays as it is, and makes another question.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

__all__ = ["Language", "counting", "groups_of", "kinds_of", "words_of"]


def words_of(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(text.split())


def groups_of(text: str) -> dict[str, str]:
    """Return the first word of each group that is separated by ``|`` for all the others."""
    return {word: group.split()[0] for group in text.split("|") for word in group.split()[1:]}


@dataclass(frozen=True)
class Language:
    """The words and frames of one language."""

    code: str
    known_by: frozenset[str]
    """Short common words that tell the language."""
    asking: frozenset[str]
    """Words that begin a question."""
    polite: frozenset[str]
    """Sentences that say nothing: greetings and thanks."""
    rewrites: tuple[tuple[str, str], ...]
    same: Mapping[str, str] = field(default_factory=dict)
    """Words that stand for one another in a question."""
    articles: frozenset[str] = frozenset()
    """Words that may be left out."""
    counted: frozenset[str] = frozenset()
    """Words before which an article says something: "a few", "the second"."""
    numbers: Mapping[str, str] = field(default_factory=dict)
    prepositions: frozenset[str] = frozenset()
    """Words with which a phrase begins that may stand in several places."""
    within: str = ""
    """The preposition of what a question is about: "Python: how ...?", "how ... in Python?"."""
    kinds: Mapping[str, str] = field(default_factory=dict)
    """What a word does in a sentence, for words that change the question."""

    @cached_property
    def _rules(self) -> tuple[tuple[re.Pattern[str], str, str | None], ...]:
        """The rewrites, compiled; ``None`` for those of the beginning, or what must be there."""
        asking = "|".join(sorted(self.asking, key=len, reverse=True))
        return tuple(
            (
                re.compile(pattern.replace("ASK", rf"(?:{asking})")),
                new,
                None if pattern[0] == "^" else _literal(pattern),
            )
            for pattern, new in self.rewrites
        )

    @cached_property
    def _beginnings(self) -> tuple[re.Pattern[str], dict[int, int]]:
        """All rules of the beginning as one pattern, and which of its groups is which rule."""
        rule_of: dict[int, int] = {}
        groups = 0
        for at, (pattern, _, needed) in enumerate(self._rules):
            if needed is None:
                groups += pattern.groups + 1
                rule_of[groups] = at
        # Each ends with a group that says which it was; before its first letter nothing stands,
        # so that it is skipped where the sentence begins with another one.
        every = [self._rules[at][0].pattern.removeprefix("^") + "()" for at in rule_of.values()]
        return re.compile("|".join(every) or "$^"), rule_of

    def _first_beginning(self, said: str) -> int:
        """Return which rule of the beginning is the first that matches, of them all."""
        pattern, rule_of = self._beginnings
        found = pattern.match(said)
        return len(self._rules) if found is None else rule_of[found.lastindex or 1]

    def rewritten(self, said: str) -> str:
        """Put a sentence into the form that all its frames share, rule after rule."""
        first = self._first_beginning(said)
        for at, (pattern, new, needed) in enumerate(self._rules):
            before = said
            if needed is None:  # faster than sub, which tries every place
                if first <= at and (found := pattern.match(said)):
                    said = found.expand(new) + said[found.end() :]
            elif needed in said:
                said = pattern.sub(new, said)
            if said is not before:
                first = self._first_beginning(said)
        return said


_GROUP: Final = re.compile(r"\([^()]*\)[?*]?")
_OPEN: Final = re.compile(r"\\\w[*+?]*|.[*?]|[$^+|]|\[[^]]*\]")


def _literal(pattern: str) -> str:
    """Return the longest part of a pattern that stands in whatever it matches, to save time."""
    while _GROUP.search(pattern):
        pattern = _GROUP.sub("\0", pattern)
    return max(_OPEN.sub("\0", pattern).split("\0"), key=len)


def counting(words: str, start: int = 2, **more: str) -> dict[str, str]:
    """Return what words count, from *start* on; *more* names others."""
    return {word: str(n) for n, word in enumerate(words.split(), start)} | more


def kinds_of(**groups: str) -> dict[str, str]:
    """Return the kind of each word of the groups."""
    return {word: kind for kind, words in groups.items() for word in words.split()}
