"""The form that all harmless wordings of one question share.

A question is read as sentences of words, and what may be put otherwise without changing what is
asked is put in one way: politeness, the frame of a question, articles, plurals, ways to write a
number with its unit, a few words that mean the same, and the place of phrases that carry their
preposition with them. What is asked about stays, word for word. So two questions have one form
where they *differ only in* such things, and nothing has to be known about what they do not share.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from langchain_tokenopt.cache.wording.amounts import number_in, unit_in
from langchain_tokenopt.cache.wording.english import ENGLISH
from langchain_tokenopt.cache.wording.language import Language, words_of
from langchain_tokenopt.cache.wording.languages import language_of
from langchain_tokenopt.cache.wording.order import placed
from langchain_tokenopt.cache.wording.parts import parts_of
from langchain_tokenopt.cache.wording.tokens import ENDS, PAUSE, VERBATIM, cut, fold_digits
from langchain_tokenopt.cache.wording.unspaced import unspaced_form
from langchain_tokenopt.cache.wording.words import form_of
from langchain_tokenopt.cache.writing import canonical, shown, without_courtesy
from langchain_tokenopt.text.scripts import script_of

__all__ = ["Wording", "wording_of"]

_SHORT: Final = 700
"""Characters up to which a question is remembered."""
_LONGEST: Final = 2_000


@dataclass(frozen=True, slots=True)
class Wording:
    """A question without what may be put otherwise."""

    form: str
    """Equal for all harmless wordings of one question."""
    words: tuple[str, ...]
    """What it is made of, in the order in which it was said."""
    names: frozenset[str]
    """Those of the words that are written with a capital inside a sentence."""
    language: Language | None
    """``None`` where it is not plain, so that only signs and numbers are read in one way."""


def wording_of(text: str) -> Wording | None:
    """Read a question; ``None`` for text of which every sign counts.

    Example:
        >>> one, other = map(wording_of, ("How can I reset my PIN?", "hi, how do i reset my PIN"))
        >>> one.form == other.form
        True
    """
    return _wording_before(text) if len(text) <= _SHORT else _wording(text)


def _wording(text: str) -> Wording | None:
    parts = None if len(text) > _LONGEST else parts_of(without_courtesy(shown(canonical(text))))
    if parts is None:
        return None
    said = fold_digits(parts.question)
    topic = _TOPIC.match(said) if ":" in said and not parts.is_about_writing else None
    if topic:
        said = topic[2]
    if "(" in said:
        said = _SPELLED_OUT.sub(_without_initials, said)
    script = script_of(said) if not said.isascii() else "latin"
    if script in ("han", "kana", "hangul"):
        form = unspaced_form(said, keeps_quotations=parts.is_about_writing)
        if form is None:
            return None
        found = (form, *parts.material)
        return Wording("\n".join(found), found, frozenset(), None)
    reading = cut(said, keeps_quotations=parts.is_about_writing)
    small = [token.lower() for token in reading.tokens]
    if "'" in said:
        small = [token.lower() for token in _split(reading.tokens, None)]
        small += [token[:-1] for token in small if token[-1] == "'"]
    language = language_of(small, said, script)
    names: set[str] = set()
    tokens = _formed(reading.tokens, language, names, is_plain=not reading.has_signs)
    sentences = _sentences(tokens)
    if topic:
        sentences = _about(topic[1], sentences, language)
    kept = [said for said in sentences if not _is_polite(said, language)] or sentences
    rewritten = [
        (_rewritten(words, language), end, _asks(words, end, language)) for words, end in kept
    ]
    forms = _in_order(rewritten, language, is_plain=not reading.has_signs)
    form = "\n".join((language.code if language else script, *forms, *parts.material))
    flat = tuple(word for words, *_ in rewritten for word in words if word != PAUSE)
    return Wording(form, (*flat, *parts.material), frozenset(names), language)


_wording_before = lru_cache(maxsize=16_384)(_wording)


_TOPIC: Final = re.compile(r"([^\W\d_][\w+#-]*(?: [\w+#]+)?): (\S+ .+)", re.S)


def _about(
    topic: str, sentences: list[tuple[list[str], str]], language: Language | None
) -> list[tuple[list[str], str]]:
    """Read "Python: how ...?" as "how ... in Python?"; other words before a colon stay there."""
    words = [form_of(w, "", language, is_first=False, is_plain=True) for w in topic.split()]
    if not sentences:
        return [(words, "")]
    said, end = sentences[0]
    within = "" if language is None else language.within
    if within and len(sentences) == 1 and _asks(said, end, language):
        return [([*said, within, *words], end)]
    return [([*words, PAUSE, *said], end), *sentences[1:]]


_SPELLED_OUT: Final = re.compile(r"((?:[^\W\d_]+[ -]){2,6})\(([A-Z]{2,6})\)")
"""Words with what may be their initials behind them."""


def _without_initials(found: re.Match[str]) -> str:
    words = re.split(r"[ -]", found[1].strip())
    initials = "".join(word[0] for word in words[-len(found[2]) :]).upper()
    return found[1].rstrip() if initials == found[2] else found[0]


def _split(tokens: Iterable[str], language: Language | None) -> Iterable[str]:
    """Write short forms out, and part what an apostrophe joins."""
    for token in tokens:
        if language is ENGLISH and token.lower() in _UNMARKED:
            yield from _UNMARKED[token.lower()].split()
        elif "'" not in token or token[0] == VERBATIM:
            yield token
        elif language is ENGLISH:
            yield from _english_parts(token)
        else:
            head, _, tail = token.partition("'")
            yield head + "'"
            if tail:
                yield tail


_TENS: Final = frozenset(str(tens) for tens in range(20, 100, 10))
_SIGNS: Final = ENDS | {PAUSE}
_SHORT_FORMS: Final = (
    ("can't", "can not"), ("won't", "will not"), ("shan't", "shall not"), ("n't", " not"),
    ("'re", " are"), ("'ll", " will"), ("'ve", " have"), ("'m", " am"),
)  # fmt: skip
_UNMARKED: Final = {
    **{f"{word}s": f"{word} is" for word in ("what", "how", "where", "who", "that", "there")},
    **{f"{word}nt": f"{word} not" for word in ("do", "does", "did", "is", "have", "has", "was")},
    **{"ok": "okay", "cant": "can not", "cannot": "can not", "im": "i am", "ive": "i have"},
}
"""Short forms that are often typed without their apostrophe, and are no other word."""
_WITH_IS: Final = words_of("what who where how why when that there it he she here this what which")
_HAS: Final = frozenset(["been", "got", "had", "become", "gone"])


def _english_parts(token: str) -> list[str]:
    for ending, new in _SHORT_FORMS:
        if token.lower().endswith(ending):
            return (token[: -len(ending)] + new).split()
    head, _, tail = token.partition("'")
    if tail.lower() == "s":
        return [head, "is" if head.lower() in _WITH_IS else "'s"]
    if tail.lower() == "d" and head.lower() in ("i", "we", "they", "you", "he", "she"):
        return [head, "would"]
    return [token]


_DETERMINING: Final = words_of("the this that these those my your our his her their its")
_REACH: Final = 4
"""How many words a noun may stand behind the word that determines it, at most, and one."""
_ASKING_FOR: Final = words_of(
    "give show list name find get recommend suggest write create generate make draw send which"
)
"""Where things are asked for, what answers for one does not answer for several."""


def _formed(
    tokens: Sequence[str], language: Language | None, names: set[str], *, is_plain: bool
) -> list[str]:
    """Return the form of each token."""
    said = list(_split(tokens, language))
    numbers = {} if language is None else language.numbers
    found: list[str] = []
    is_first = True
    asks_for_things = False
    determined = -_REACH
    at = 0
    while at < len(said):
        token, at = said[at], at + 1
        small = token.lower()
        asks_for_things = small in _ASKING_FOR or (asks_for_things and token not in ENDS)
        if small in _DETERMINING:
            determined = at
        elif small == "what":  # "what rights", but not "what is a right"
            determined = max(determined, at + 2 - _REACH)
        if token[0] == VERBATIM or token in _SIGNS:
            found.append(token)
            is_first = token in ENDS
            continue
        after = said[at] if at < len(said) and said[at] not in _SIGNS else ""
        number = numbers.get(small, "") if token.isalpha() else number_in(token, language)
        if number:
            if found and found[-1] in _TENS and token.isalpha() and len(number) == 1:
                number = str(int(found.pop()) + int(number))
            unit = unit_in(after)
            at += bool(unit)
            found.append(number + unit)
        elif small == "'s" and language is ENGLISH and after.lower() in _HAS:
            found.append("have")
        elif word := form_of(
            token,
            after,
            language,
            is_first=is_first,
            is_plain=is_plain,
            is_counted=asks_for_things or at - determined < _REACH,
        ):
            if not is_first and token[0].isupper():
                names.add(word)
            found.append(word)
        is_first = False
    return found


def _sentences(tokens: Sequence[str]) -> list[tuple[list[str], str]]:
    """Return sentences with the sign that ends them."""
    found: list[tuple[list[str], str]] = []
    words: list[str] = []
    for token in [*tokens, ""]:
        if token and token not in ENDS:
            words.append(token)
            continue
        while words and words[-1] == PAUSE:
            words.pop()
        if words:
            found.append((words, token))
        words = []
    return found


def _is_polite(sentence: tuple[list[str], str], language: Language | None) -> bool:
    words = "_".join(word for word in sentence[0] if word != PAUSE)
    return language is not None and words in language.polite


def _rewritten(words: Sequence[str], language: Language | None) -> list[str]:
    return list(words) if language is None else language.rewritten(" ".join(words)).split()


def _in_order(
    sentences: Sequence[tuple[list[str], str, bool]],
    language: Language | None,
    *,
    is_plain: bool,
) -> list[str]:
    """Put the one question behind what is said before or after it."""
    asked = [at for at, (*_, asks) in enumerate(sentences) if asks]
    order = list(range(len(sentences)))
    if len(asked) == 1 and is_plain:
        order.sort(key=lambda at: at == asked[0])
    forms = []
    for at in order:
        words, end, _ = sentences[at]
        form = placed(words, language) if is_plain else " ".join(words)
        forms.append(form + "!" * (end == "!"))
    return forms


def _asks(words: Sequence[str], end: str, language: Language | None) -> bool:
    return end == "?" or (language is not None and words[0] in language.asking)
