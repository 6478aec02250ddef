"""What a message is in its conversation, and how much later calls will need it.

Words and marks by which anybody sets a rule, decides, corrects or greets, in the languages that
most people write; numbers, names and identifiers, in any. A rule misses what it was not told; so
importance decides only what goes first, and everything that goes can be fetched back.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage, ToolMessage

from langchain_tokenopt.compress.protect import OBLIGATION, verbatim_spans
from langchain_tokenopt.core.messages import text_of
from langchain_tokenopt.text.sentences import sentences_of
from langchain_tokenopt.text.stopwords import STOP_WORDS
from langchain_tokenopt.text.words import lowered, terms_of

__all__ = ["WEIGHTS", "Importance", "Kind", "Query", "importance_of", "sentence_kind"]

Kind = Literal[
    "system",
    "task",
    "correction",
    "constraint",
    "decision",
    "fact",
    "tool result",
    "error",
    "talk",
    "small talk",
    "superseded",
]

WEIGHTS: Final[dict[Kind, float]] = {
    "system": 1.0,
    "task": 1.0,
    "correction": 0.9,
    "constraint": 0.9,
    "decision": 0.8,
    "fact": 0.6,
    "talk": 0.4,
    "tool result": 0.3,
    "error": 0.2,
    "small talk": 0.1,
    "superseded": 0.0,
}
"""The lowest goes first."""
_ASKED_ABOUT: Final = 0.85
"""Of what the question is about."""


@dataclass(frozen=True, slots=True)
class Importance:
    """How much a message matters, and why."""

    kind: Kind
    weight: float
    reason: str


class Query:
    """What is asked now, as far as words tell."""

    def __init__(self, text: str | None) -> None:
        self.text = text or None
        self._terms = _telling(text or "")

    def is_about(self, text: str) -> bool:
        """Whether *text* has half of the words of the question, and two at least.

        Example:
            >>> Query("Which gate does flight LH 441 leave from?").is_about("LH 441: gate B22")
            True
        """
        if len(self._terms) < _FEWEST_WORDS:
            return False
        least = max(_FEWEST_WORDS, len(self._terms) / 2)
        letters = lowered(text)
        if sum(term in letters for term in self._terms) < least:
            return False  # most texts: no word is there whose letters are not
        return len(self._terms & _telling(text)) >= least

    @property
    def terms(self) -> frozenset[str]:
        """The words that say what is asked."""
        return self._terms


_FEWEST_WORDS: Final = 2
_NO_STOPS: Final[frozenset[str]] = frozenset().union(*STOP_WORDS.values())


def _telling(text: str) -> frozenset[str]:
    return frozenset(terms_of(text)) - _NO_STOPS


def _any_of(latin: str, others: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{latin})\b|{others}", re.IGNORECASE)


_CORRECTS: Final = _any_of(
    r"actually|correction|i meant|i mean|instead|scratch that|sorry,|no, |wrong|not .{1,40} but"
    r"|eigentlich|korrektur|ich meinte|stattdessen|doch nicht|falsch|perd[oó]n"
    r"|en realidad|corrijo|correcci[oó]n|quise decir|quer[ií]a decir|mejor dicho|en vez de"
    r"|en fait|je voulais dire|plut[oô]t|au lieu de|anzi|in realt[aà]|na verdade|eigenlijk",
    r"на самом деле|вернее|其实|不对|更正|应该是|いや|訂正|間違|ではなく|じゃなくて|아니라|정정",
)
_DECIDES: Final = _any_of(
    r"(?:we|i)(?:['’]ll| will| have)? (?:decided?|agreed?|go with|choose|chose|take|pick|book)"
    r"|decision|agreed|approved|confirmed|let['’]?s (?:go|do|take|use)|deal"
    r"|beschlossen|entschieden|vereinbart|einverstanden|genehmigt|wir nehmen|ich nehme"
    r"|decidimos|he decidido|hemos decidido|acordamos|acordado|de acuerdo|aprobado|confirmo"
    r"|d[eé]cid[eé]|convenu|d['’]accord|approuv[eé]|deciso|d['’]accordo|decidi|combinado|besloten",
    r"решили|решено|договорились|决定|同意|就这么定|に決め|に決定|合意|了解しました|결정",
)
_TELLS: Final = _any_of(
    r"(?:my|our|his|her|their|your) [\w' -]{1,40}? (?:is|are|was|were)|i['’]?m|i am|we are"
    r"|i (?:live|work|have|prefer|need|like|take|use|want)|allerg\w+|call(?:ed)? me|name"
    r"|(?:mein|unser|dein|ihr|sein)e?[rsnm]? [\w -]{1,40}? (?:ist|sind|war)"
    r"|ich (?:bin|hei[sß]e|habe)|al[eé]rgic[oa]"
    r"|(?:mi|nuestr[oa]|su) [\w -]{1,40}? (?:es|son|era)|me llamo|soy|tengo|tomo"
    r"|(?:mon|ma|notre) [\w -]{1,40}? est|je (?:suis|m['’]appelle|prends)|j['’]ai|mi chiamo"
    r"|chamo-me",
    r"меня зовут|у меня|мой |我(?:是|叫|有|的)|私は|私の|です。|アレルギー|제 이름|입니다",
)
_NAMED: Final = re.compile(r"(?<=[\w,;:] )[A-ZÀ-Þ][\w'’-]*[a-zà-ÿ]")
"""A capital inside of a sentence."""
_GREETS: Final = _any_of(
    r"thanks?(?: you)?|hi|hello|hey|ok(?:ay)?|great|sure|bye|good (?:morning|evening|day)|perfect"
    r"|you['’]?re welcome|no problem|nice|cool|lol|haha|danke|hallo|gern|alles klar|tsch[uü]ss"
    r"|gracias|hola|vale|perfecto|de nada|adi[oó]s|merci|bonjour|salut|parfait"
    r"|grazie|ciao"
    r"|obrigad[oa]",
    r"спасибо|привет|хорошо|谢谢|你好|好的|ありがとう|こんにちは|はい|なるほど|감사|안녕",
)
_LONGEST_TALK: Final = 120
"""Characters of a message that only greets or nods."""
_FAILS: Final = re.compile(
    r"\A\W{0,4}(?:error|exception|traceback|failed|failure|fatal|http (?:error )?[45]\d\d)", re.I
)


def sentence_kind(sentence: str) -> Kind:
    """Return what one sentence does.

    Example:
        >>> sentence_kind("Never call before 9."), sentence_kind("Nice weather today, is it not?")
        ('constraint', 'talk')
    """
    if _CORRECTS.search(sentence):
        return "correction"
    if OBLIGATION.search(sentence):
        return "constraint"
    if _DECIDES.search(sentence):
        return "decision"
    if verbatim_spans(sentence) or _TELLS.search(sentence) or _NAMED.search(sentence):
        return "fact"
    return "talk"


_REASONS: Final[dict[Kind, str]] = {
    "correction": "it corrects what was said before",
    "constraint": "it says what must or must not be",
    "decision": "it decides something",
    "fact": "it tells a number, a name or an identifier",
    "talk": "nothing in it stands out",
}


def importance_of(
    message: BaseMessage, query: Query, *, is_task: bool = False, is_superseded: bool = False
) -> Importance:
    """Return how much a message matters, for what is asked now.

    Example:
        >>> importance_of(HumanMessage("Thanks!"), Query(None)).kind
        'small talk'
    """
    text = text_of(message)
    if isinstance(message, SystemMessage):
        return Importance("system", 1.0, "the application's instructions")
    if is_task:
        return Importance("task", 1.0, "what the user wanted first")
    if is_superseded:
        return Importance("superseded", 0.0, "the same call was answered again later")
    if isinstance(message, ToolMessage):
        failed = message.status == "error" or _FAILS.match(text)
        kind: Kind = "error" if failed else "tool result"
        if query.is_about(text):
            return Importance(kind, _ASKED_ABOUT, "it has the words of the question")
        return Importance(kind, WEIGHTS[kind], "what a tool has returned")
    if query.is_about(text):
        return Importance(_main_kind(text), _ASKED_ABOUT, "it has the words of the question")
    if len(text) <= _LONGEST_TALK and _GREETS.search(text) and not verbatim_spans(text):
        main = _main_kind(text)
        if main in ("talk", "fact"):
            return Importance("small talk", WEIGHTS["small talk"], "it greets or nods")
    kind = _main_kind(text)
    # What the model itself has said weighs less: it mostly repeats.
    weight = WEIGHTS[kind] * (1.0 if isinstance(message, HumanMessage) else _OWN_WORDS)
    return Importance(kind, weight, _REASONS[kind])


_OWN_WORDS: Final = 0.75
_READ: Final = 40
"""Sentences of a message that are looked at."""


@lru_cache(maxsize=4_096)
def _main_kind(text: str) -> Kind:
    kinds = [sentence_kind(sentence) for sentence in _sentences(text)]
    return max(kinds, key=lambda kind: WEIGHTS[kind], default="talk")


def _sentences(text: str) -> Sequence[str]:
    return sentences_of(text[: _READ * 200])[:_READ]
