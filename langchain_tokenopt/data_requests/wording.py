"""Questions: as few words as say what is asked for, in the language of whoever asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any, Final

from langchain_tokenopt.data_requests.needs import DataNeed, choices_of
from langchain_tokenopt.data_requests.units import MONEY
from langchain_tokenopt.text.languages import language_of

__all__ = ["DataQuestion", "language_to_ask_in", "question_text"]

_HEADS: Final[Mapping[str, str]] = {
    "en": "Please tell me:",
    "de": "Bitte nennen Sie:",
    "es": "Por favor, indique:",
    "fr": "Merci d'indiquer :",
    "it": "Per favore, indichi:",
    "pt": "Por favor, informe:",
    "nl": "Geef alstublieft aan:",
    "zh": "请告诉我：",
    "ja": "教えてください：",
    "ko": "알려 주세요:",
    "cyrillic": "Пожалуйста, укажите:",
}
_YES_OR_NO: Final[Mapping[str, str]] = {
    "en": "yes/no", "de": "ja/nein", "es": "sí/no", "fr": "oui/non", "it": "sì/no",
    "pt": "sim/não", "nl": "ja/nee", "zh": "是/否", "ja": "はい/いいえ", "ko": "예/아니요",
    "cyrillic": "да/нет",
}  # fmt: skip
_MOST_CHOICES: Final = 8
_WORDS: Final = frozenset({"second", "minute", "hour", "day", "week", "month", "year"})
"""Units that are words of one language: whoever put a question into another has put them, too."""


class DataQuestion(str):
    """A question: its text, and what it asks for.

    Example:
        >>> question = DataQuestion("Where to?", stage="critical", needs=[DataNeed("city")])
        >>> f"{question} -> {question.names}"
        "Where to? -> ('city',)"
    """

    __slots__ = ("needs", "stage")

    stage: str
    needs: tuple[DataNeed, ...]

    def __new__(cls, text: str, *, stage: str, needs: Sequence[DataNeed]) -> DataQuestion:
        """Make a question."""
        made = super().__new__(cls, text)
        made.stage, made.needs = stage, tuple(needs)
        return made

    @property
    def names(self) -> tuple[str, ...]:
        """The names of what it asks for."""
        return tuple(need.name for need in self.needs)

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON has it: what an interrupt shows to whoever is asked."""
        needs = [
            {
                "name": need.name,
                "description": need.question,
                "importance": need.importance,
                "form": form_of(need, "en"),
            }
            for need in self.needs
        ]
        return {"question": str(self), "stage": self.stage, "needs": needs}

    language: str = "en"
    words: Mapping[str, str] = ()  # type: ignore[assignment]


def question_text(
    needs: Sequence[DataNeed], language: str = "en", words: Mapping[str, str] | None = None
) -> str:
    """Return the question for *needs*: one line each, numbered where there are several.

    Args:
        needs: What to ask for.
        language: In which to frame it, as :func:`language_of` names it.
        words: For each name what to ask, where it is not the need's own description.

    Example:
        >>> needs = [DataNeed("start", "start date", type="date"), DataNeed("pets", type=bool)]
        >>> print(question_text(needs))
        Please tell me:
        1. start date (YYYY-MM-DD)
        2. pets (yes/no)
    """
    words = words or {}
    lines = []
    for need in needs:
        asked, form = words.get(need.name, need.question), form_of(need, language)
        is_said = form.casefold() in asked.casefold() or (need.name in words and form in _WORDS)
        lines.append(asked if is_said else f"{asked} ({form})")
    head = _HEADS.get(language, _HEADS["en"])
    if len(lines) == 1:
        return f"{head} {lines[0]}"
    return "\n".join((head, *(f"{n}. {line}" for n, line in enumerate(lines, start=1))))


def form_of(need: DataNeed, language: str) -> str:
    """Return in a few signs what form a value has; empty for free text."""
    choices = choices_of(need.kind)
    if choices:
        values = dict.fromkeys(str(getattr(each, "value", each)) for each in choices.values())
        return "/".join([*values][:_MOST_CHOICES]) + ("/…" if len(values) > _MOST_CHOICES else "")
    if need.kind is bool:
        return _YES_OR_NO.get(language, _YES_OR_NO["en"])
    if need.kind is datetime:
        return "YYYY-MM-DD HH:MM"
    if need.kind is date:
        return "YYYY-MM-DD"
    unit = need.unit or ""
    return unit.upper() if unit in MONEY else unit


def language_to_ask_in(request: str, needs: Sequence[DataNeed]) -> tuple[str, bool]:
    """Return the language of a request, and whether the needs are described in another one."""
    asked = language_of(request)
    if asked is None:
        return "en", False
    described = language_of(" ".join(need.question for need in needs), least=1) or "en"
    return asked, asked != described
