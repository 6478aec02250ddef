"""Of which kinds the differences between two questions are.

Two questions are laid beside each other without what may be put otherwise (``wording``). What
stands in one alone is sorted by what it does in a sentence; what is harmless by itself is of no
kind. Everything else has to be seen to be harmless where it is served (``fields.py``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from langchain_tokenopt.cache.guards import Profile
from langchain_tokenopt.cache.wording import wording_of
from langchain_tokenopt.cache.wording.language import words_of

__all__ = ["difference_kinds"]


def difference_kinds(stored: Profile, asked: Profile) -> frozenset[str]:
    """Name the kinds of differences between two questions; none where all are harmless.

    Example:
        >>> from langchain_tokenopt.cache.guards import profile_of
        >>> def kinds(one, other):
        ...     return sorted(difference_kinds(profile_of(one), profile_of(other)))
        >>> kinds("Should I tell my landlord?", "May I tell my landlord?")
        ['modal']
        >>> kinds("Is tipping expected in Japan?", "In Japan, is tipping expected?")
        []
        >>> kinds("How do I change the lock?", "How do I sell a lock?")
        ['word']
    """
    one, other = wording_of(stored.text), wording_of(asked.text)
    if one is None or other is None:
        return _kinds_of_words(stored.words, asked.words, frozenset(), {})
    if one.form == other.form:
        return frozenset()
    lost, won = _spelled_out(one.words, other.words)
    sorts = one.language.kinds if one.language else {}
    if other.language and other.language is not one.language:
        sorts = {**sorts, **other.language.kinds}
    return _kinds_of_words(lost, won, one.names | other.names, sorts)


def _kinds_of_words(
    left: Sequence[str], right: Sequence[str], names: frozenset[str], sorts: Mapping[str, str]
) -> frozenset[str]:
    lost, won = Counter(left) - Counter(right), Counter(right) - Counter(left)
    if not lost and not won:
        return frozenset() if left == right else frozenset(["order"])

    def kind(word: str) -> str:
        if word in names:
            return "name"
        return sorts.get(word, "word" if word.isalpha() else "number")

    kinds = {kind(word) for word in (*lost, *won)}
    if "word" in kinds:
        sides = [any(kind(word) == "word" for word in words) for words in (lost, won)]
        if not all(sides):
            kinds = kinds - {"word"} | {"added" if sides[1] else "dropped"}
    return frozenset(kinds)


def _spelled_out(left: Sequence[str], right: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Put the initials of one side in the place of the words that they stand for in the other."""
    return _shortened(left, right), _shortened(right, left)


def _shortened(words: Sequence[str], other: Iterable[str]) -> Sequence[str]:
    for short in set(other) - set(words):
        if short.islower():
            continue
        letters = "".join(filter(str.isalpha, short))
        if not (letters.isupper() and 2 <= len(letters) <= 6):
            continue
        for size in (len(letters), len(letters) + 1, len(letters) + 2):
            for at in range(len(words) - size + 1):
                part = words[at : at + size]
                if _initials(part, len(letters)) == letters.lower():
                    words = (*words[:at], short, *words[at + size :])
                    break
    return words


def _initials(words: Sequence[str], count: int) -> str:
    """Return the first letters; of more words than there are letters, those that carry matter."""
    if len(words) > count:
        words = [word for word in words if word not in _UNNAMED]
    return "".join(word[0].lower() for word in words)


_UNNAMED = words_of("of to and for in on the de la du des der die und y del")
