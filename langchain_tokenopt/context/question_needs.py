"""How much of a content a question is likely to need, told by its form and its words.

Twelve languages and Polish: English, German, Spanish, French, Italian, Portuguese, Dutch, Russian,
Chinese, Japanese, Korean and Arabic.
"""

from __future__ import annotations

import re
from typing import Final, Literal

from langchain_tokenopt.compress.answer_kinds import answer_pattern
from langchain_tokenopt.text.stopwords import STOP_WORDS
from langchain_tokenopt.text.words import is_cjk, lowered, terms_of

__all__ = ["Complexity", "complexity_of"]

Complexity = Literal["simple", "ordinary", "broad"]

_LONG: Final = 12
"""Telling words of a question that is not simple any more."""
_PAIRS: Final = 3
"""Pairs of neighbouring characters that are a word of Chinese, Japanese or Korean."""
_STOPS: Final[frozenset[str]] = frozenset().union(*STOP_WORDS.values())
_MARKS: Final = re.compile(r"[?？؟]")
_NUMBERED: Final = re.compile(r"\w*\d[\w./-]*")
_YEAR: Final = re.compile(r"1\d{3}|20\d\d")


def _any_of(latin: str, others: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{latin})\b|{others}")


_BROAD: Final = _any_of(
    r"compar\w+|versus|vs|differences?|differs?|summar\w+|overview|all|every\w*|each|list|why"
    r"|explain\w*|analy[sz]\w+|discuss\w*|pros and cons|trade-?offs?|relat\w+|opinions?|think"
    r"|translat\w+|rewrite|report on"
    r"|vergleich\w*|unterschie\w+|zusammenfass\w*|fasse?|überblick|übersicht|alle[nrs]?|jede[mnrs]?"
    r"|warum|wieso|weshalb|erklär\w*|analys\w+|liste|auflist\w*|übersetz\w*|bewerte\w*"
    r"|resum\w+|diferencias?|todos?|todas?|cada|por qu[eé]|explica\w*|analiza\w*|lista|listar?"
    r"|enumer\w+|traduc\w+"
    r"|r[ée]sum\w+|diff[ée]rences?|tous|toutes|chaque|pourquoi|expliqu\w+|analyse\w*|énumèr\w+"
    r"|listez?|récapitul\w+|tradui\w+"
    r"|riassum\w+|riepilog\w*|differenz\w+|tutt[ie]|ogni|ciascun\w*|perch[eé]|spieg\w+|elenc\w+"
    r"|confront\w+"
    r"|diferen[çc]as?|por ?qu[eê]|listar?|traduz\w*"
    r"|vergelijk\w*|waarom|verschil\w*|samenvat\w*|overzicht|elke|iedere|uitleg\w*|opsomm\w*"
    r"|vertaal\w*"
    r"|porówn\w*|różni\w*|streś\w*|podsumuj\w*|podsumowani\w*|wszystk\w*|każd\w+|dlaczego"
    r"|wyjaśni\w*|wymień|przetłumacz\w*|omów",
    r"сравн|разниц|отлича|кратк|обзор|\bвсех?\b|\bвсё\b|кажд|почему|зачем|объясн|перечисл|список"
    r"|обобщ|подведи|проанализ|перевед"
    r"|比较|比較|比べ|区别|违い|違い|总结|概述|要約|まとめ|所有(?![者権])|全部|すべて|全て|一覧|为什么|なぜ|どうして|理由"
    r"|解释|説明(?!書)|列出|分析|翻译|翻訳"
    r"|비교|차이|요약|모든|모두|전부|설명|왜|목록|번역|قارن|لخص|لماذا|جميع|ترجم",
)
"""What compares, sums up, lists, or asks for reasons."""

_OVER_ALL: Final = _any_of(
    r"average|median|altogether|overall|in total|sum of"
    r"|(?:the|costs?) (?:most|least|best|worst)|(?:high|low|larg|bigg|small|long"
    r"|short|old|new|cheap|dear|fast|slow|young|great|strong)est"
    r"|durchschnitt\w*|insgesamt|summe|meisten|wenigsten"
    r"|größte[nrs]?|(?:höch|niedrig|klein|läng|kürze|älte|neue|teuer|billig|schnell|langsam|jüng)"
    r"ste[nrs]?"
    r"|promedio|en total|(?:el|la|los|las) (?:más|menos|mayor|menor|mejor|peor)\w*|más \w+ de"
    r"|moyenne|au total|(?:le|la|les) (?:plus|moins)|meilleur\w*|pire"
    r"|in media|in totale|(?:il|la|i|le) (?:più|meno)|maggiore|minore|migliore|peggiore"
    r"|média|no total|(?:o|a|os|as) (?:mais|menos)|maior|menor|melhor|pior"
    r"|gemiddeld\w*|totaal|hoogste|laagste|grootste|kleinste|langste|kortste|oudste|nieuwste"
    r"|duurste|goedkoopste|meeste|minste|beste|slechtste"
    r"|średni\w*|łącznie|razem|suma|naj\w+",
    r"в среднем|всего|итого|\bсам(?:ый|ая|ое|ые|ого|ой|ых)\b|больше всего|меньше всего|наиб|наим"
    r"|最|平均|合计|合計|总共|总和|一番|평균|합계|총|가장|제일|متوسط|مجموع|الأكثر|أكبر|أصغر",
)
"""What can only be told from everything."""

_ONE_THING: Final = _any_of(
    r"when|who(?:se|m)?|where|how (?:many|much|long|far|tall|big|large|high|deep|often|fast|heavy"
    r"|old|wide)|what(?:'s|’s| is| was) the (?:\w+ )?(?:price|cost|fee|name|date|number|age|address"
    r"|deadline|year|size|weight|height|length|title|amount|rent|salary|rate)"
    r"|wann|wer|wem|wen|wessen|wo|wohin|woher|wie ?viele?|kostet|kosten|heißt|heißen|wie lautet"
    r"|wie (?:lange?|weit|hoch|groß|oft|tief|schwer|breit|alt|teuer)"
    r"|was (?:ist|war) (?:der|die|das) (?:preis|name|datum|nummer|adresse|titel|betrag|frist)"
    r"|cu[áa]ndo|qui[ée]n(?:es)?|d[óo]nde|ad[óo]nde|cu[áa]nt[oa]s?|cu[áa]l (?:es|era|fue)|cuesta\w*"
    r"|se llama"
    r"|quand|où|combien|coûte(?:nt)?|s.appelle|quel(?:le)? (?:est|était|fut)"
    r"|quando|dove|dov|quant[oaie]|chi|si chiama|qual (?:è|era|e.)"
    r"|quem|onde|quant[oa]s?|custam?|se chama|qual (?:é|era|foi)"
    r"|wanneer|waar|hoeveel|hoe (?:lang|ver|hoog|groot|vaak|diep|zwaar|breed|oud|duur|heet)"
    r"|wie (?:is|was|zijn|waren|heeft|had|hebben|moet|mag|wil|wordt|werd)|kost|heet"
    r"|wat is (?:de|het) (?:prijs|naam|datum|nummer|leeftijd|adres|titel|bedrag|huur)"
    r"|kiedy|kto|kogo|komu|gdzie|dokąd|skąd|ile|ilu|kosztuj[eą]|się nazywa|jak(?:i|a|ie) jest",
    r"\bcosts?\W*$"
    r"|\b(?:когда|кто|кого|кому|кем|где|куда|откуда|сколько|стоит|стоят|каков[аоы]?)\b"
    r"|\b(?:зовут|называ[ею]тся)\b"
    r"|いつ|だれ|誰|どこ|いくら|いくつ|何[時日月年人個名円歳回本枚]|(?:値段|価格|名前|番号|住所|期限)は"
    r"|什么时候|何时|谁|哪位|哪里|哪儿|哪一?[年天]|几[月号点个]|多少|多[长高远大久深]|叫什么|价格是"
    r"|언제|누구|누가|어디|얼마|몇|가격은|이름은|متى|من هو|من هي|أين|\bكم\b",
)
"""Question words, and what else asks for one date, number, person, place, price or name."""

_QUI: Final = re.compile(r"^\W*(?:[àa] |de |avec )?qui\b(?! est-ce que)")
"""French "who"; elsewhere in a sentence it only joins."""

_MANNER: Final = _any_of(
    r"how (?:do|does|did|can|could|should|would|to|is|are|was|were)|wie (?:funktion\w+|kann|soll"
    r"|geht|läuft|macht|wird|werden|wurde\w*)|c[óo]mo|comment|come"
    r"|hoe (?:werkt|kan|moet|gaat|wordt)"
    r"|jak",
    r"\bкак\b(?! (?:зовут|называется))|どのよう|どうやって|如何|怎么|怎样|어떻게|كيف",
)
"""What asks how something is done or goes."""


def complexity_of(query: str | None) -> Complexity:
    """Return how much of a content a question is likely to need.

    Broad is what compares, sums up, lists, or asks for reasons. Simple is one short question that
    needs no look at everything, and either asks for a date, number, person, place, price or name,
    or is about one thing that has a number.

    Example:
        >>> complexity_of("When was the bridge built?"), complexity_of("Compare both offers.")
        ('simple', 'broad')
        >>> complexity_of("Hoeveel kost lot 7?"), complexity_of("Was steht in Los 7?")
        ('simple', 'simple')
        >>> complexity_of("What does the contract say about noise?"), complexity_of(None)
        ('ordinary', 'ordinary')
    """
    if not query:
        return "ordinary"
    asked = lowered(query)
    if _BROAD.search(asked):
        return "broad"
    if _length(query) > _LONG or len(_MARKS.findall(asked)) > 1 or _OVER_ALL.search(asked):
        return "ordinary"
    if answer_pattern(query) or _ONE_THING.search(asked) or _QUI.search(asked):
        return "simple"
    return "simple" if _names_one(asked) and not _MANNER.search(asked) else "ordinary"


def _length(query: str) -> float:
    """Return the telling words of a question."""
    telling = {*terms_of(query)} - _STOPS
    pairs = sum(map(is_cjk, telling))
    return len(telling) - pairs + pairs / _PAIRS


def _names_one(asked: str) -> bool:
    """Whether a question is about one thing that has a number; a year alone is none."""
    named = {*_NUMBERED.findall(asked)}
    return len(named) == 1 and not all(map(_YEAR.fullmatch, named))
