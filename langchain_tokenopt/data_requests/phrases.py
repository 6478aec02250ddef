"""What answers say besides values: yes, no, that somebody will not tell, that it was said wrongly.

Lists of what is known, in the languages that requests come in: what is on none of them is taken
for none of these. They decide nothing alone that a model could say better; they say why a value is
missing, and keep an answer such as "I don't know" from being taken for one.
"""

from __future__ import annotations

import re
from typing import Final
from unicodedata import normalize

__all__ = ["corrects", "folded", "is_refusal", "negates", "refuses", "says_no", "says_yes"]


def folded(text: str) -> str:
    r"""Return *text* as it is compared: one width, one case, single spaces, straight quotes.

    Example:
        >>> folded("  I don’t\nKNOW ")
        "i don't know"
    """
    return " ".join(normalize("NFKC", text).replace("’", "'").casefold().split())


_PREFIXES: Final = "不没无"
"""Negations that stand before a word without a space. Other single characters are parts of one."""


def _words(listed: str) -> re.Pattern[str]:
    """Return a pattern of any of the phrases, one a line or parted by ``|``."""
    phrases = [folded(phrase) for phrase in re.split(r"[|\n]", listed) if phrase.strip()]
    spaced = [p for p in phrases if not re.search(r"[\u3040-\u9fff]", p)]
    others = [p for p in phrases if p not in spaced]
    spaced += [p for p in others if len(p) == 1 and p not in _PREFIXES]
    others = [p for p in others if p not in spaced]
    bounded = rf"(?<!\w)(?:{'|'.join(sorted(map(re.escape, spaced), key=len, reverse=True))})(?!\w)"
    return re.compile("|".join((bounded, *map(re.escape, others))))


_REFUSALS: Final = _words(
    """
    i don't know | i do not know | don't know | dont know | do not know | no idea | no clue | idk
    i'm not sure | i am not sure | not sure | unsure | can't say | cannot say | can't tell you
    prefer not to say | prefer not to | rather not say | rather not | won't say | won't tell
    will not say | will not tell | not telling | none of your business | no comment | i decline
    decline to say | decline to answer
    weiß nicht | weiss nicht | weiß ich nicht | weiß es nicht | weiß noch nicht
    weiß ich noch nicht | keine ahnung
    keine angabe | keine angaben | k.a. | sage ich nicht | möchte ich nicht sagen
    will ich nicht sagen | geht sie nichts an | geht dich nichts an | lieber nicht | unbekannt
    no sé | no lo sé | no se | ni idea | prefiero no decirlo | prefiero no | sin comentarios
    desconocido | no quiero decirlo
    je ne sais pas | sais pas | aucune idée | je préfère ne pas | sans commentaire | inconnu
    je ne veux pas le dire
    non lo so | non so | nessuna idea | preferisco non | sconosciuto
    não sei | nao sei | prefiro não | sem comentários | desconhecido
    weet ik niet | weet het niet | geen idee | zeg ik liever niet | liever niet | onbekend
    не знаю | понятия не имею | не скажу | неизвестно
    不知道 | 不清楚 | 不想说 | 不方便 | 保密 | 无可奉告
    わかりません | 分かりません | 知りません | わからない | 分からない | 言いたくない | 秘密 | 不明
    모르겠 | 모릅니다 | 몰라 | 말하고 싶지
    """
)
_PLACEHOLDERS: Final = frozenset(
    phrase.strip()
    for phrase in """
    null|nil|none|n/a|na|n.a|unknown|undefined|tbd|tba|?|??|???|-|--|—|…|...|nan|skip|pass
    unspecified|missing|todo|<unknown>|not_specified|not given|not specified|not provided|not said
    not mentioned|not stated|not available|not applicable|not known|to be determined|to be decided
    """.replace("\n", "|").split("|")
) - {""}
"""What stands for no value: a whole one, never a part."""


def refuses(text: str) -> str | None:
    """Return the words by which *text* says that it will not, or cannot, tell.

    Example:
        >>> refuses("Sorry, I'd rather not say."), refuses("It is blue.")
        ('rather not say', None)
    """
    found = _REFUSALS.search(folded(text))
    return None if found is None else found[0]


def is_refusal(value: str) -> bool:
    """Say whether a value is none: a placeholder, or words that refuse one.

    Example:
        >>> [is_refusal(value) for value in ("N/A", "I don't know!", "Secret Garden Street 5")]
        [True, True, False]
    """
    bare = folded(value).strip(" \t.!。！,;\"'()[]")
    if bare in _PLACEHOLDERS or not any(char.isalnum() for char in bare):
        return True
    rest = _REFUSALS.sub(" ", bare)
    return rest != bare and len(re.findall(r"\w+", rest)) <= _AROUND


_AROUND: Final = 2
"""Words around a refusal with which it still is one: "sorry, no idea yet". With more, something is
said beside it."""

_YES: Final = _words(
    """
    yes | yep | yeah | yup | sure | true | correct | right | ok | okay | of course | please
    certainly | definitely | absolutely | with pleasure | ja | jawohl | jep | klar | natürlich
    genau | richtig | bitte | sí | si | claro | correcto | por favor | oui | ouais
    d'accord | bien sûr | volontiers | exact | sì | certo | va bene | sim | com certeza | graag
    zeker | да | конечно | верно | 是 | 对 | 好的 | 可以 | 要 | 需要 | はい | ええ
    お願いします | 네 | 예
    """
)
_NO: Final = _words(
    """
    no | nope | nah | not | never | none | without | false | neither | don't | doesn't | isn't
    won't | nein | nicht | kein | keine | keinen | keiner | ohne | nie | niemals | nunca | sin
    ningún | ninguna | non | pas | sans | jamais | aucun | aucune | ne | senza | nessun
    nessuna | não | nao | sem | nenhum | nenhuma | nee | niet | geen | zonder | нет | не | без | 不
    没 | 否 | 无 | 别 | いいえ | いらない | ません | ない | 아니요 | 아니 | 없
    """
)
_CORRECTIONS: Final = _words(
    """
    actually | correction | correcting | corrected | i correct | let me correct | i meant | i mean
    instead | make that | make it | changed my mind | change of plan | change of plans
    i was wrong | was wrong | that's wrong | not right | mistake | mistaken | misspoke | no longer
    scratch that | on second thought | rather than | update | changed to | change it to
    eigentlich | korrektur | korrigiere | berichtigung | ich meinte | ich meine | stattdessen
    doch lieber | war falsch | ist falsch | falsch angegeben | nicht mehr | geändert | vielmehr
    en realidad | corrección | corrijo | quise decir | mejor dicho | me equivoqué | ya no
    en vez de | en lugar de | cambié de
    en fait | je corrige | je voulais dire | plutôt | erreur | au lieu de | finalement
    me suis trompé
    in realtà | correzione | correggo | volevo dire | anzi | ho sbagliato | invece
    na verdade | correção | corrijo | quis dizer | aliás | me enganei | em vez de
    eigenlijk | correctie | ik bedoelde | toch liever | in plaats van | vergist
    на самом деле | исправ | вернее | ошибся | ошиблась | вместо
    更正 | 其实 | 不对 | 改成 | 改为 | 说错 | 应该是 | 訂正 | 実は | 間違 | 変更
    정정 | 사실은 | 아니라
    """
)
_NEGATED: Final = re.compile(
    r"(?<!\w)(?:not|no|never|don't want|without|nicht|kein|keine|keinen|ohne|nie|pas de|pas|sans"
    r"|non|senza|sin|não|sem|niet|geen|zonder|не|без)(?: (?:to|in|at|by|for|on|the|a|an|nach"
    r"|in der|im|am|den|die|das|el|la|le|en|à|di|a))?\s+$"
)


def says_yes(text: str) -> bool:
    """Say whether a word of *text* says yes."""
    return _YES.search(_REFUSALS.sub(" ", folded(text))) is not None


def says_no(text: str) -> bool:
    """Say whether a word of *text* says no; that somebody will not tell is another no."""
    return _NO.search(_REFUSALS.sub(" ", folded(text))) is not None


def corrects(text: str) -> bool:
    """Say whether *text* says that something was said wrongly before.

    Example:
        >>> corrects("Actually, make it 900."), corrects("It is 900.")
        (True, False)
    """
    return _CORRECTIONS.search(folded(text)) is not None


def negates(before: str) -> bool:
    """Say whether what stands before a value says that it is not this one.

    Example:
        >>> negates("anything but not to "), negates("not Rome, but ")
        (True, False)
    """
    return _NEGATED.search(" ".join(before.casefold().split()) + " ") is not None
