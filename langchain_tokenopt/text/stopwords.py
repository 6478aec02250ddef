"""Words that say nothing of what a text is about, by language.

Searches leave them out (``compress``, ``testing``), and each language is recognised by its own
(:mod:`langchain_tokenopt.text.languages`). Who needs more of them adds them where they are needed:
"title" and "source" label a document (``compress``), "list" and "write" ask (``testing``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

__all__ = ["ALL_STOP_WORDS", "CHINESE_FILLERS", "STOP_WORDS"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


STOP_WORDS: Final[Mapping[str, frozenset[str]]] = {
    "en": _words(
        """
        a an the of in on at to for from by with and or but is are was were be been being am do
        does did has have had having it its this that these those as who whom whose which what when
        where why how i you he she they we his her their our your my me him them us not no can
        could will would shall should may might must than then there so if into about over between
        up down out off also such only own same s t d m re ve ll please tell
        """
    ),
    "de": _words(
        """
        der die das den dem des ein eine einen einem einer eines und oder aber ist sind war waren
        sein wird werden wurde wurden hat haben hatte im in am an auf aus bei mit nach seit von vom
        zu zum zur für über unter vor durch gegen ohne um nicht auch noch nur schon sich es er sie
        wir ihr ich du was wer wie wo wann warum welche welcher welches wieviel viele als wenn dass
        daß kann mein
        """
    ),
    "es": _words(
        """
        el la los las un una unos unas y o u e pero es son era eran fue fueron ser ha han había en
        de del al a con por para sin sobre entre desde hasta que qué quién quiénes cuál cuáles
        cuándo dónde cómo cuánto cuánta cuántos cuántas se su sus lo le les me te nos mi tu no sí
        más muy ya como si cuando mis puedo está
        """
    ),
    "fr": _words(
        """
        le la les un une des du de et ou est sont au aux dans sur par pour avec sans ce cette ces
        que qui quel quelle comment pourquoi quand où je tu il elle nous vous ils ne pas mon ma mes
        """
    ),
    "it": _words(
        """
        il lo la gli le un una di del della e è sono per con da nel che chi cosa come quando quale
        dove perché io non mio mia posso si
        """
    ),
    "pt": _words(
        """
        o a os as um uma de do da dos das e é são em no na por para com que quem qual quando onde
        como eu não meu minha posso se
        """
    ),
    "nl": _words(
        """
        de het een en of is zijn was van voor met op aan dat die wat wie hoe waar waarom wanneer
        welke ik je hij zij wij niet kan mijn te
        """
    ),
}
"""The most frequent words without matter, in lower case, by ISO 639-1 code."""

ALL_STOP_WORDS: Final = frozenset().union(*STOP_WORDS.values())
"""Those of every language, for texts of any."""

CHINESE_FILLERS: Final = re.compile(
    r"什么|哪[里个些年位]?|谁|多少|几|怎么|为什么|如何|吗|呢|的|了|是|在|有|和|与|请"
)
"""The same of Chinese, which has no spaces around them."""
