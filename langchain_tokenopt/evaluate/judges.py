"""Judges of answers: each says how good both sides' answers to one case are, from 0 to 1.

A judge with a right answer at hand scores each answer by it. Where none is known, a judge asks how
far an answer agrees with the baseline's; two plain answers to one request differ, too, so the
candidate's agreement is set against that of the baseline with itself.
"""

from __future__ import annotations

import inspect
import json
import math
import re
import unicodedata
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final

from langchain_tokenopt.evaluate.cases import Case
from langchain_tokenopt.evaluate.run_answer import RunAnswer
from langchain_tokenopt.text.numbers import quantities
from langchain_tokenopt.text.words import WORD, is_cjk, lowered, terms_of

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

__all__ = [
    "AgreementJudge",
    "ContainsReference",
    "ExactMatch",
    "JsonEqual",
    "Judge",
    "JudgedTrial",
    "NamesKept",
    "NormalizedMatch",
    "NothingToSeeError",
    "NumbersKept",
    "Scores",
    "Similarity",
    "TokenF1",
    "ToolCallsEqual",
    "Trial",
    "UnjudgedError",
    "judges_of",
    "score",
    "scores_of",
]


@dataclass(frozen=True, slots=True)
class Trial:
    """One case and what both sides have answered."""

    case: Case
    baseline: RunAnswer
    candidate: RunAnswer
    repeat: RunAnswer | None = None
    """A second answer of the baseline."""


@dataclass(frozen=True, slots=True)
class Scores:
    """How good the two sides' answers are, from 0 to 1."""

    baseline: float
    candidate: float
    is_blank: bool = field(default=False, repr=False)
    """The case holds nothing that the judge could see."""

    @property
    def difference(self) -> float:
        """The candidate's score less the baseline's, from -1 to 1."""
        return self.candidate - self.baseline


@dataclass(frozen=True, slots=True)
class JudgedTrial:
    """A case, both sides' answers, and what each judge has said."""

    trial: Trial
    scores: dict[str, Scores]
    unjudged: dict[str, str]
    """Why a judge has said nothing, by its name."""
    spent_nano_usd: int = 0
    """What asking and judging cost now; kept answers cost nothing again."""
    unpriced_calls: int = 0
    kept_answers: int = 0
    """Answers that came from the store."""

    @property
    def worst(self) -> float:
        """The lowest difference of any judge; 0 where none has said anything."""
        return min((scores.difference for scores in self.scores.values()), default=0.0)


class UnjudgedError(Exception):
    """A judge cannot say anything about a case; the message says why."""


class NothingToSeeError(UnjudgedError):
    """A case holds nothing that the judge could see, so nothing that could be lost of it.

    It counts as no difference if another judge sees something in the case, else as not judged.
    """


class Judge(ABC):
    """Scores both sides' answers to a case.

    Example:
        >>> class Polite(Judge):
        ...     name, sees, misses = "polite", "a thank-you", "everything else"
        ...     def scores(self, trial):
        ...         said = (a.text.count("thank") for a in (trial.baseline, trial.candidate))
        ...         return Scores(*(float(n > 0) for n in said))
        >>> trial = Trial(Case("Hi"), RunAnswer("No."), RunAnswer("No, thanks."))
        >>> Polite().scores(trial).difference
        1.0
    """

    name: str
    sees: ClassVar[str] = "what you have written it to see"
    misses: ClassVar[str] = "everything else"

    @abstractmethod
    def scores(self, trial: Trial) -> Scores:
        """Return the scores of the answers.

        Raises:
            UnjudgedError: Nothing can be said about this case.
        """


def scores_of(judges: Sequence[Judge], trial: Trial) -> tuple[dict[str, Scores], dict[str, str]]:
    """Have all judges score a case.

    Returns:
        The scores by judge, and why the others have said nothing.
    """
    scores: dict[str, Scores] = {}
    unjudged: dict[str, str] = {}
    saw_nothing = []
    for judge in judges:
        try:
            scores[judge.name] = score(judge, trial)
        except UnjudgedError as error:
            unjudged[judge.name] = str(error)
            if isinstance(error, NothingToSeeError):
                saw_nothing.append(judge.name)
    if scores:  # somebody has seen something: what is not there is no difference
        for name in saw_nothing:
            scores[name] = Scores(1.0, 1.0, is_blank=True)
            del unjudged[name]
    return scores, unjudged


def score(judge: Judge, trial: Trial) -> Scores:
    """Have a judge score a case; answers that are none are judged here, for all judges alike.

    Raises:
        UnjudgedError: The baseline has failed, or the judge has, or it has returned no score.
    """
    if trial.baseline.error:
        raise UnjudgedError(f"the baseline failed: {trial.baseline.error}")
    if trial.candidate.error or (_is_empty(trial.candidate) and not _is_empty(trial.baseline)):
        return Scores(1.0, 0.0)
    try:
        found = judge.scores(trial)
        sound = all(
            not isinstance(s, str) and math.isfinite(s) and 0 <= s <= 1
            for s in (found.baseline, found.candidate)
        )
    except UnjudgedError:
        raise
    except Exception as error:  # whatever a judge of somebody else's raises is no score
        raise UnjudgedError(f"it raised {type(error).__name__}: {error}") from error
    if not sound:
        raise UnjudgedError(f"a score must be from 0 to 1; got {found}")
    return Scores(float(found.baseline), float(found.candidate))


def _is_empty(answer: RunAnswer) -> bool:
    return not answer.text.strip() and not answer.tool_calls


class AnswerJudge(Judge):
    """Scores each answer by itself, and by the case's right answer; of several the best fit."""

    needs_reference: ClassVar[bool] = True

    def scores(self, trial: Trial) -> Scores:
        """Score the answers; two plain answers count with their mean."""
        if self.needs_reference and not trial.case.references:
            raise NothingToSeeError("the case has no reference")
        plain = [self._best(answer, trial.case) for answer in _plain_answers(trial)]
        return Scores(sum(plain) / len(plain), self._best(trial.candidate, trial.case))

    def _best(self, answer: RunAnswer, case: Case) -> float:
        return max(self.quality(answer, right, case) for right in case.references or [None])

    @abstractmethod
    def quality(self, answer: RunAnswer, reference: Any, case: Case) -> float:
        """Return how good *answer* is, from 0 to 1."""


class AgreementJudge(Judge):
    """Asks how far an answer agrees with the baseline's, beside the baseline's own repeat."""

    def scores(self, trial: Trial) -> Scores:
        """Return the agreement of the repeat and of the candidate with the baseline."""
        plain, *repeat = _plain_answers(trial)
        itself = self.agreement(repeat[0], plain) if repeat else 1.0
        return Scores(itself, self.agreement(trial.candidate, plain))

    @abstractmethod
    def agreement(self, answer: RunAnswer, plain: RunAnswer) -> float:
        """Return how far *answer* agrees with *plain*, from 0 to 1."""


def _plain_answers(trial: Trial) -> list[RunAnswer]:
    """Return what the baseline has answered: once, or twice."""
    return [a for a in (trial.baseline, trial.repeat) if a is not None and not a.error]


class ExactMatch(AgreementJudge):
    """The same text and the same tool calls, to the letter."""

    name = "exact match"
    sees = "any difference"
    misses = "that other words may say the same"

    def agreement(self, answer: RunAnswer, plain: RunAnswer) -> float:
        """Return 1 for equal answers, else 0."""
        return float((answer.text, answer.tool_calls) == (plain.text, plain.tool_calls))


class NormalizedMatch(AgreementJudge):
    """The same words in the same order; case, blanks and punctuation do not count."""

    name = "normalized match"
    sees = "other words, other numbers"
    misses = "that other words may say the same; a sign that turns the meaning round"

    def agreement(self, answer: RunAnswer, plain: RunAnswer) -> float:
        """Return 1 for equal words, else 0."""
        return float(_words(answer.text) == _words(plain.text))


class NumbersKept(AgreementJudge):
    """The share of the baseline's numbers, with their units, that the answer has, too."""

    name = "numbers kept"
    sees = "a number that is gone or another one"
    misses = "words; numbers that were added; which number belongs to what"

    def agreement(self, answer: RunAnswer, plain: RunAnswer) -> float:
        """Return the share that is kept; a unit counts where both answers name one."""
        units: dict[str, set[str]] = defaultdict(set)
        for value, unit in _numbers(answer.text):
            units[value].add(unit)
        wanted = _numbers(plain.text)
        kept = Counter(
            (value, unit)
            for value, unit in wanted
            if unit in units[value]
            or (unit != _SIGN and units[value] and "" in {unit, *units[value]})
        )
        return _kept("number", wanted, kept)


class NamesKept(AgreementJudge):
    """The share of the baseline's names (capitalised inside of a sentence) that are there, too."""

    name = "names kept"
    sees = "a name that is gone"
    misses = "languages without capitals; what is said about the names"

    def agreement(self, answer: RunAnswer, plain: RunAnswer) -> float:
        """Return the share that is kept."""
        wanted, said = _names(plain.text), set(_words(answer.text))
        return _kept("name", wanted, Counter(name for name in wanted if name in said))


class TokenF1(AnswerJudge):
    """Words in common with the right answer (F1, as in SQuAD, Rajpurkar et al. 2016)."""

    name = "token F1"
    sees = "how much of the right answer is there, and how much else"
    misses = "order, negation, other words for the same"

    def quality(self, answer: RunAnswer, reference: Any, case: Case) -> float:
        """Return the harmonic mean of precision and recall."""
        one, other = Counter(terms_of(answer.text)), Counter(terms_of(_text(reference)))
        shared = sum((one & other).values())
        return 2 * shared / (one.total() + other.total()) if shared else float(one == other)


_BEFORE: Final = r"(?<![\w#+])(?<!\d[.,])(?<![\s(\[=:][-\u2212])(?<!^[-\u2212])"
_AFTER: Final = r"(?![\w#+]|[.,]\d)"
"""Around a reference no word or number goes on, and no sign turns it round. Chinese and Japanese
words stand side by side."""


class ContainsReference(AnswerJudge):
    """The right answer stands in the answer; case, blanks and forms of signs do not count."""

    name = "contains the reference"
    sees = "whether the right answer is there"
    misses = "what else is said, a contradiction included"

    def quality(self, answer: RunAnswer, reference: Any, case: Case) -> float:
        """Return 1 if it is there, else 0."""
        if not isinstance(reference, str) and (made := _json(answer)) is not None:
            return float(made[0] == reference)
        right = _folded(_text(reference)).strip(" .")
        if not right:
            raise UnjudgedError("the reference is empty")
        said = _folded(answer.text)
        before = "" if is_cjk(right[0]) else _BEFORE
        after = "" if is_cjk(right[-1]) else _AFTER
        return float(re.search(f"{before}{re.escape(right)}{after}", said) is not None)


class JsonEqual(AgreementJudge):
    """The same data: answers that are JSON, or structured output."""

    name = "equal JSON"
    sees = "another value, a field more or less"
    misses = "that other values may be as good; it judges nothing but JSON"

    def agreement(self, answer: RunAnswer, plain: RunAnswer) -> float:
        """Return the share of the baseline's and the answer's leaves that are equal."""
        wanted = _json(plain)
        if wanted is None:
            raise UnjudgedError("the baseline's answer is no JSON")
        made = _json(answer)
        if made is None:
            return 0.0
        one, other = Counter(_leaves(wanted[0])), Counter(_leaves(made[0]))
        either = (one | other).total()
        return (one & other).total() / either if either else 1.0


class ToolCallsEqual(AgreementJudge):
    """The same tools are called with the same arguments, in the whole run of an agent."""

    name = "equal tool calls"
    sees = "another tool, another argument, a call more or less"
    misses = "text; order; arguments in other words for the same; calls that no message holds"

    def agreement(self, answer: RunAnswer, plain: RunAnswer) -> float:
        """Return 1 for equal calls in any order, else 0."""
        if not answer.tool_calls and not plain.tool_calls:
            raise NothingToSeeError("no tools are called")
        return float(_calls(answer) == _calls(plain))


class Similarity(AgreementJudge):
    """Nearness in meaning by an embedder: the cosine, 0 at *floor* and below.

    Args:
        embeddings: Any embeddings of LangChain; by default the local model.
        floor: The cosine of texts that have nothing to do with each other.
    """

    name = "similarity"
    sees = "another topic, parts that are gone"
    misses = "numbers, negations, names: near in meaning is not the same"

    def __init__(self, embeddings: Embeddings | None = None, floor: float = 0.0) -> None:
        if embeddings is None:
            from langchain_tokenopt.embeddings import LocalEmbeddings

            embeddings = LocalEmbeddings()
        self._embeddings, self._floor = embeddings, floor

    def agreement(self, answer: RunAnswer, plain: RunAnswer) -> float:
        """Return the cosine of the texts, from 0 to 1."""
        if answer.text == plain.text:
            return 1.0
        one, other = self._embeddings.embed_documents([answer.text, plain.text])
        length = math.hypot(*one) * math.hypot(*other)
        cosine = math.fsum(a * b for a, b in zip(one, other, strict=True)) / length if length else 0
        return min(1.0, max(0.0, (cosine - self._floor) / (1 - self._floor)))


class _OwnScore(Judge):
    """A function of the user's, of a case and an answer."""

    sees = "what the function looks at"

    def __init__(self, function: Callable[..., Any]) -> None:
        self.name = _name(function)
        self._function = function

    def scores(self, trial: Trial) -> Scores:
        plain = [self._function(trial.case, answer) for answer in _plain_answers(trial)]
        return Scores(sum(plain) / len(plain), self._function(trial.case, trial.candidate))


class _OwnComparison(Judge):
    """A function of the user's, of a case and both answers, that says how far they agree."""

    sees = "what the function looks at"

    def __init__(self, function: Callable[..., Any]) -> None:
        self.name = _name(function)
        self._function = function

    def scores(self, trial: Trial) -> Scores:
        plain, *repeat = _plain_answers(trial)
        itself = self._function(trial.case, plain, repeat[0]) if repeat else 1.0
        return Scores(itself, self._function(trial.case, plain, trial.candidate))


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", type(function).__name__).replace("_", " ")


def judges_of(
    judges: Judge | Callable[..., Any] | Sequence[Judge | Callable[..., Any]] | None,
    cases: Iterable[Case],
) -> list[Judge]:
    """Return the judges that a user gives; by default those that the cases allow.

    Args:
        judges: Judges; or functions of ``(case, answer)`` that score one answer, or of
            ``(case, baseline, candidate)`` that say how far the two agree, from 0 to 1.
        cases: With references, answers are judged by these.

    Raises:
        ValueError: Two judges have one name, or a function takes other arguments.

    Example:
        >>> def is_short(case, answer):
        ...     return len(answer.text) < 20
        >>> [judge.name for judge in judges_of([NumbersKept(), is_short], [])]
        ['numbers kept', 'is short']
        >>> [judge.name for judge in judges_of(None, [Case("Who won?", "Ada")])]
        ['contains the reference', 'equal tool calls']
    """
    if judges is None:
        known = [bool(case.references) for case in cases]
        found: list[Judge] = [ContainsReference()] if any(known) else []
        if not known or not all(known):
            found += [NumbersKept(), NamesKept()]
        return [*found, ToolCallsEqual()]
    given = judges if isinstance(judges, Sequence) else [judges]
    found = list(_named(judge if isinstance(judge, Judge) else _own(judge) for judge in given))
    if not found:
        raise ValueError("judges must hold at least one judge; leave it out for the default ones.")
    twice = [name for name, times in Counter(j.name for j in found).items() if times > 1]
    if twice:
        raise ValueError(f"Two judges have the name {twice[0]!r}: give one another name.")
    return found


def _named(judges: Iterable[Judge]) -> Iterator[Judge]:
    """Give functions of one name, such as two lambdas, a number."""
    times: Counter[str] = Counter()
    for judge in judges:
        if isinstance(judge, _OwnScore | _OwnComparison):
            times[judge.name] += 1
            if times[judge.name] > 1:
                judge.name = f"{judge.name} {times[judge.name]}"
        yield judge


def _own(function: Any) -> Judge:
    if isinstance(function, type) or not callable(function):
        raise ValueError(
            f"A judge is a Judge, such as ExactMatch(), or a function; got {function!r}."
        )
    if inspect.iscoroutinefunction(function):
        raise ValueError(f"A judge cannot be asynchronous: {function!r}. It runs in a thread.")
    needed = [
        parameter
        for parameter in inspect.signature(function).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    if len(needed) == 3:
        return _OwnComparison(function)
    if len(needed) == 2:
        return _OwnScore(function)
    raise ValueError(
        f"A judge takes (case, answer) or (case, baseline, candidate); {function!r} does not."
    )


# --- what of an answer is compared ---------------------------------------------------------------


def _words(text: str) -> list[str]:
    return WORD.findall(lowered(text))


_QUOTES: Final = re.compile("[\u00ab\u00bb\u2018-\u201f\u2039\u203a'\"]")


def _folded(text: str) -> str:
    """Write a text in one form: of letters, digits of all scripts, quotation marks and blanks."""
    said = unicodedata.normalize("NFKC", text).casefold()
    said = "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in said)
    return " ".join(_QUOTES.sub("'", said).split())


def _text(reference: Any) -> str:
    return reference if isinstance(reference, str) else json.dumps(reference, ensure_ascii=False)


_FORMS: Final = (
    (re.compile(r"\b(\d{1,2})[./](\d{1,2})[./](\d{4})\b"), r"\1 \2 \3"),  # 31.03.2026
    (re.compile(r"(?<=\d)[ \u00a0\u202f.,'](?=\d{3}(?!\d))"), ""),  # 1,200 and 384 400
    (re.compile(r"(?<=\d),(?=\d)"), "."),  # 0,65
    (re.compile(r"(\d\.\d*?)0+(?!\d)"), r"\1"),  # 12.50
    (re.compile(r"(?<!\d)(?<!\d\.)0+(?=\d)"), ""),  # 03
)
"""Forms in which the same number is written, and what becomes of them."""


_SIGN: Final = "below zero"
"""Stands as the unit of a number with a minus before it, besides the number without."""


def _numbers(text: str) -> Counter[Any]:
    said = lowered(text)
    for form, same in _FORMS:
        said = form.sub(same, said)
    words = re.findall(r"\d[\d.]*\d|\d|[^\W\d_]+|[^\w\s]", said)
    below_zero = re.findall(r"(?<![^\s(\[=:])[-\u2212]\d[\d.]*", said)
    return Counter(quantities(words)) + Counter((n.strip("."), _SIGN) for n in below_zero)


def _names(text: str) -> Counter[str]:
    """Find what is capitalised though no sentence begins there."""
    return Counter(found.lower() for found in re.findall(r"(?<=[\w,;] )[^\W\d_a-z]\w+", text))


def _kept(thing: str, wanted: Counter[Any], made: Counter[Any]) -> float:
    """Return the share of different things that are still there."""
    if not wanted:
        raise NothingToSeeError(f"the baseline's answer has no {thing}")
    return len(wanted.keys() & made.keys()) / len(wanted)


def _calls(answer: RunAnswer) -> Counter[str]:
    return Counter(
        f"{name} {json.dumps(arguments, sort_keys=True)}" for name, arguments in answer.tool_calls
    )


def _json(answer: RunAnswer) -> tuple[Any] | None:
    if answer.data is not None:
        return (answer.data,)
    text = answer.text.strip()
    if text.startswith("```") and text.endswith("```"):
        text = text[3:-3].partition("\n")[2]
    try:
        return (json.loads(text),)
    except (ValueError, RecursionError):
        return None


def _leaves(value: Any, path: tuple[str, ...] = ()) -> list[str]:
    if isinstance(value, dict) and value:
        return [leaf for key, item in value.items() for leaf in _leaves(item, (*path, str(key)))]
    if isinstance(value, list) and value:
        return [leaf for at, item in enumerate(value) for leaf in _leaves(item, (*path, str(at)))]
    return [json.dumps([path, value], sort_keys=True)]
