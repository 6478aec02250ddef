"""Words by which an answer shows that it declines, or is not sure, in several languages.

Patterns match text in lower case with straight apostrophes.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["REFUSAL", "UNSURE"]

_CANNOT: Final = r"(?:can(?:no|')t|can not|unable|not able|won't|do not|don't|not allowed|must not)"
_VERBS: Final = (
    r"(?:help|assist|answer|comply|provide|do (?:that|this|so)|fulfil|support|discuss|create|"
    r"generate|write|give|offer|continue|process|share|access|complete|respond)"
)


def _any_of(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.S)


REFUSAL: Final = _any_of(
    # English
    rf"\bi(?:'m| am)(?: very| really| so)? (?:sorry|afraid)\b.{{0,40}}\b{_CANNOT}",
    rf"\bi (?:can(?:no|')t|can not|won't|will not|must decline to|have to decline to) {_VERBS}",
    rf"\bi(?:'m| am) (?:unable|not able|not allowed) to {_VERBS}",
    r"\bi (?:must|have to|will) (?:respectfully )?decline\b",
    rf"\bas an ai(?: language)?(?: model| assistant)?\b.{{0,40}}\b{_CANNOT}",
    r"\b(?:that|this)(?: request)? (?:goes against|violates) (?:my|our|the)\b",
    # German
    r"\btut mir (?:sehr )?leid.{0,60}(?:kann|darf|möglich)",
    r"\b(?:dabei|damit|hierbei|das) kann ich (?:ihnen |dir )?(?:leider )?nicht",
    r"\bich kann (?:ihnen |dir )?(?:dabei |damit |das |diese anfrage )?(?:leider )?nicht"
    r" (?:helfen|beantworten|weiterhelfen)",
    # French
    r"\bdésolée?.{0,60}(?:ne peux|ne suis|impossible)",
    r"\bje ne (?:peux|suis) pas (?:vous |t')?(?:aider|répondre|en mesure)",
    # Spanish, Italian, Portuguese
    r"\blo siento.{0,60}(?:no puedo|no me es)",
    r"\bno puedo (?:ayudar|responder|hacer eso|proporcionar)",
    r"\bmi dispiace.{0,60}non posso",
    r"\bnon posso (?:aiutar|rispondere|fornire)",
    r"\b(?:desculpe|lamento|sinto muito).{0,60}não posso",
    r"\bnão posso (?:ajudar|responder|fornecer)",
    # Dutch, Polish, Turkish, Russian, Ukrainian
    r"\bspijt me.{0,60}(?:kan|mag)",
    r"\bdaar kan ik (?:u |je )?niet",
    r"\bprzykro mi.{0,60}nie mogę",
    r"\büzgünüm.{0,80}(?:yapamam|edemem|olamam)",
    r"\b(?:извините|простите|к сожалению|вибачте|на жаль).{0,60}не (?:могу|можем|можу)",
    r"\bне (?:могу|можу) (?:помочь|ответить|выполнить|допомогти)",
    # Chinese, Japanese, Korean, Arabic, Hindi
    r"(?:抱歉|对不起|對不起|很遗憾).{0,30}(?:无法|不能|不可以|無法)",
    r"我?(?:无法|不能)(?:帮助|提供|回答|协助)",
    r"申し訳(?:ありません|ございません).{0,60}(?:できません|お答え|いたしかね)",
    r"お手伝いできません",
    r"죄송(?:합니다|하지만).{0,60}(?:없습니다|어렵습니다)",
    r"(?:عذرا|آسف|أعتذر|عذرًا).{0,60}(?:لا يمكنني|لا أستطيع)",
    r"(?:क्षमा करें|माफ़ कीजिए).{0,60}नहीं",
)

UNSURE: Final = _any_of(
    # English
    r"\bi(?:'m| am) (?:really |quite )?not (?:entirely |quite |completely |really |too )?"
    r"(?:sure|certain|confident)",
    r"\bi(?:'m| am) (?:unsure|uncertain|(?:just |only )?guessing)",
    r"\bi (?:really |honestly )?(?:don't|do not) know\b",
    r"\b(?:i have )?no idea\b|\bhard to say\b|\bmy (?:best )?guess\b|\ba wild guess\b",
    r"\bi can(?:no|')t (?:be sure|tell|say for)",
    r"\bnot enough information\b|\bcannot be determined\b|\blow confidence\b",
    r"\bi (?:might|could|may) be wrong\b",
    # Other languages
    r"\bich bin (?:mir )?(?:da )?(?:nicht (?:ganz )?|un)sicher|\bich weiß (?:es )?nicht\b",
    r"\bkeine ahnung\b|\bje ne (?:sais pas|suis pas (?:sûre?|certaine?))",
    r"\bno (?:lo sé|estoy segur[oa])|\bnon (?:lo so\b|sono sicur[oa])",
    r"\bnão (?:sei\b|tenho certeza)|\bik (?:weet het niet|ben (?:er )?niet zeker)",
    r"\bnie (?:wiem|jestem pewien)|\bemin değilim|\bbilmiyorum|\bя не (?:уверен|знаю)",
    r"不确定|我不知道|不清楚|わかりません|分かりません|잘 모르겠|확실하지 않|لست متأكد|لا أعرف",
)
