"""Kinds of questions, and what their answers look like: a year, a number, a person, a place."""

from __future__ import annotations

import re
from dataclasses import dataclass

from langchain_tokenopt.text.words import lowered

__all__ = ["answer_pattern"]


@dataclass(frozen=True, slots=True)
class _AnswerKind:
    """A kind of question, and what its answers look like."""

    asked_by: re.Pattern[str]
    looks_like: re.Pattern[str]


_ANSWER_KINDS = (
    _AnswerKind(
        re.compile(
            r"\bwhen\b|\b(?:what|which) (?:year|date|day|month|century|season|time)\b|\bhow old\b"
            r"|\bwann\b|welche[mns]? (?:jahr|tag|monat)|\bcu[áa]ndo\b|qu[ée] (?:año|fecha|día)"
            r"|什么时候|何时|哪一?年|哪一?天|几月|几号"
        ),
        re.compile(
            r"\b(?:1\d{3}|20\d\d)\b|\d年|\d月"
            r"|\b(?:January|February|March|April|June|July|August|September|October|November|December"
            r"|Januar|Februar|März|Juni|Juli|Oktober|Dezember|enero|febrero|marzo|abril|junio|julio"
            r"|agosto|septiembre|octubre|noviembre|diciembre)\b"
        ),
    ),
    _AnswerKind(
        re.compile(
            r"\bhow (?:many|much|long|far|tall|big|large|high|deep|often|fast|heavy)\b"
            r"|\bnumber of\b"
            r"|\bpopulation\b|\bpercent|\bwie ?(?:viele?|lange?|weit|hoch|groß|oft|tief|schwer)\b"
            r"|\bcu[áa]nt[oa]s?\b|\bn[úu]mero de\b|多少|几[个位年岁次]|多[长高远大久深]"
        ),
        re.compile(
            r"\d|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|hundred"
            r"|thousand|million|billion|zwei|drei|vier|fünf|sechs|sieben|acht|neun|zehn|zwölf"
            r"|hundert|tausend|dos|tres|cuatro|cinco|seis|siete|ocho|nueve|diez|cien|mil)\b|[一二三四五六七八九十百千万亿]",
            re.IGNORECASE,
        ),
    ),
    _AnswerKind(
        re.compile(
            r"\bwho(?:se|m)?\b|\bwer\b|\bwem\b|\bwen\b|\bwessen\b|\bqui[ée]n(?:es)?\b|谁|哪位"
        ),
        re.compile(
            r"\b[A-ZÄÖÜÁÉÍÓÚÑ][\w'’.-]+(?: (?:[A-ZÄÖÜÁÉÍÓÚÑ][\w'’.-]*|de|van|von|of|la|der|del))*"
            r" [A-ZÄÖÜÁÉÍÓÚÑ][\w'’-]+|[\u4e00-\u9fff]·[\u4e00-\u9fff]"
        ),
    ),
    _AnswerKind(
        re.compile(
            r"\bwhere\b|\b(?:what|which) (?:city|country|state|place|town|county|island"
            r"|continent)\b"
            r"|\bwo(?:her|hin)?\b|welche[mnrs]? (?:stadt|land|ort)|\bd[óo]nde\b"
            r"|qu[ée] (?:ciudad|país|lugar)"
            r"|哪里|哪儿|何处|在哪|哪个(?:国家|城市|地方|省)"
        ),
        re.compile(
            r"\b(?:in|at|near|from|of|off|between|on|im|bei|nahe|aus|en|de|cerca) (?:the "
            r"|der |el |la )?"
            r"[A-ZÄÖÜÁÉÍÓÚÑ]|[\u4e00-\u9fff][市省县国区州]"
        ),
    ),
)


def answer_pattern(query: str) -> re.Pattern[str] | None:
    """Return what an answer to *query* looks like, if its kind is known.

    Example:
        >>> answer_pattern("When was it built?").findall("Built in 1931 for 200 people.")
        ['1931']
    """
    asked = lowered(query[-2_000:])
    return next((k.looks_like for k in _ANSWER_KINDS if k.asked_by.search(asked)), None)
