"""What a sentence does in a report: conclude, decide, give a cause, take back, count, refer.

The words are those by which any report is built, of no trade, in the languages whose reports agents
write most. A report in another language is told by its numbers, its headings and its order alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from langchain_tokenopt.text.numbers import NUMBER
from langchain_tokenopt.text.stopwords import STOP_WORDS
from langchain_tokenopt.text.words import terms_of

__all__ = ["Role", "roles_of"]


def _any_of(*patterns: str) -> re.Pattern[str]:
    latin = "|".join(patterns[:-1])
    return re.compile(rf"\b(?:{latin})\b|{patterns[-1]}", re.IGNORECASE)


_CONCLUDES = _any_of(
    r"conclu(?:de[ds]?|ding|sions?|sive)|recommend\w*|verdict|overall|in (?:summary|short|sum)"
    r"|to sum up|bottom line|all in all|summar(?:y|ise[ds]?|ize[ds]?)|final answer|proposals?"
    r"|propose[ds]?|suggest(?:s|ed)?|assessment|findings?|therefore|thus|hence|consequently"
    r"|(?:shows?|showed|indicates?|means|confirms?|confirmed|proves?|proved|implies) that"
    r"|found .{1,60}? to be|found that|in (?:our|my) (?:view|opinion|judge?ment)|outcome"
    r"|turned out|turns out",
    r"fazit|schluss\w*|ergebnis\w*|ergibt|ergab|empfehl\w+|empfiehlt|empfohlen|insgesamt|folglich"
    r"|demnach|somit|also|zeigt, dass|bedeutet|vorschlag\w*|bewertung|kurzum|alles in allem",
    r"conclu\w+|recommand\w+|en résumé|en somme|bilan|au total|donc|proposon\w*|il en ressort"
    r"|conclusi[oó]n\w*|concluy\w+|recomend\w+|recomiend\w+|en resumen|en suma|por (?:lo )?tanto"
    r"|así pues|resultado|balance|propon\w+|conclusion[ei]|raccomand\w+|in sintesi|quindi|dunque"
    r"|conclus[ãa]o|recomenda\w*|portanto|em resumo|aanbevel\w+"
    r"|bevelen aan|beveelt aan|kortom|dus",
    r"вывод|итог|рекоменд|следовательно|结论|总之|建议|因此|結論|要するに|推奨|したがって",
)
_CAUSES = _any_of(
    r"because|due to|owing to|cause[ds]?|causing|reasons?|led to|leads to|explain(?:s|ed)"
    r"|blame[ds]?|result(?:s|ed|ing)? (?:of|from|in)|as a result"
    r"|(?:comes?|came|stem(?:s|med)?|arose|arises?) from|trace[ds]? (?:back )?to|thanks to"
    r"|on account of|trigger(?:s|ed)?|attribut\w+ to|brought (?:on|about) by|culprits?"
    r"|responsible for|at fault|why"
    r"|since (?:the|a|an|no|its?|he|she|they|we|there)",
    r"weil|wegen|aufgrund|infolge|ursache\w*|grund|gründe|verursach\w+|liegt an|lag an|rührt\w* von"
    r"|zurückzuführen|geht auf|gehen auf|ging auf"
    r"|führte\w* (?:zu|dazu)|daher|deshalb|deswegen|schuld|ausgelöst|auslöser",
    r"parce que?|à cause|en raison|(?:provient|provenait|résulte|résultait) d\w*|dû|due?s? à"
    r"|caus\w+|imputable\w*|faute de|car"
    r"|c'est pourquoi|porque|debid[oa]s?|se deb(?:e|en|ió|ieron|ía)|causa\w*|por culpa|a ra[ií]z de"
    r"|por eso|provoc\w+|perché|a causa|dovut[oaie]|a motivo"
    r"|por isso|devido|omdat|doordat|vanwege|oorzaak|door een",
    r"потому|из-за|причин|вследствие|因为|由于|原因|导致|なぜなら|ため|原因|による",
)
_DECIDES = _any_of(
    r"decid\w+|decisions?|agree[ds]?|agreements?|resolved|resolutions?|vote[ds]?|approv(?:e[ds]?|al)"
    r"|reject(?:ed|s|ion)|accept(?:ed|s|ance)|refuse[ds]?|orders? (?:to|that)"
    r"|ordered (?:to|that|\w+ to)|chosen?|chose|elect(?:ed|s)"
    r"|adopt(?:ed|s)|authori[sz]e[ds]?|permit(?:ted|s)|forbid(?:s|den)?|forbade|bann?ed|prohibit\w*"
    r"|appoint(?:ed|s)|must|shall|will|have to|has to|from now on|with immediate effect"
    r"|until further notice|action(?:s| items?)?|next steps?|deadline|stays?|remains?"
    r"|suspended|rolled back|postponed|waits for|starts? on|ends? on",
    r"beschl[ou]ss\w*|beschließ\w*|entsch(?:ied|eid|loss)\w*|vereinbar\w*|einig\w*|genehmig\w*"
    r"|abgelehnt|angenommen|bleibt|bleiben|ab sofort|bis auf weiteres|muss|müssen|soll(?:en)?|wird"
    r"|nächste schritte|maßnahme\w*|frist",
    r"décid\w+|décision\w*|accord\w*|convenu\w*|approuv\w+|rejet\w+|reste\w*|doit|doivent|désormais"
    r"|decid\w+|decisi[oó]n\w*|acord\w+|acuerd\w+|aprob\w+|rechaz\w+|queda\w*|debe\w*|a partir de"
    r"|deciso|decision[ei]|approvat\w+|rimane|deve|beslo(?:ot|ten)|besluit\w*|beslist\w*|goedgekeurd|blijft|moet",
    r"решен|решил|постанов|одобр|должн|决定|批准|同意|必须|决议|決定|承認|決め|べき",
)
_REVOKES = _any_of(
    r"revo(?:ke[ds]?|cation)|withdr(?:ew|awn?|aws|awal)|rescind\w*|repeal\w*|annul\w*|cancel\w*"
    r"|overturn\w*|revers(?:ed|es|al)|lifted|(?:took|taken|takes?) (?:\w+ )?back|no longer"
    r"|called off|supersed\w*|scrapped|abandoned|void|retract\w*|wrong|mistaken|disproved"
    r"|countermand\w*|quashed|set aside|struck down|vetoed|undone|undid|not stand|instead|lapsed"
    r"|corrected|correction|erratum",
    r"aufgehoben|widerruf\w*|zurückgenommen|zurückgezogen|rückgängig|gekippt|abgesagt|storniert"
    r"|ungültig|hinfällig|nicht mehr|verworfen|widerlegt|falsch|korrigiert|berichtig\w*"
    r"|stattdessen",
    r"annul\w+|révoqu\w+|retir\w+|abrog\w+|levée?s?|suspendue?s?|caduc\w*|rectifi\w+|n'est plus"
    r"|revoc\w+|anul\w+|derog\w+|cancel\w+|ya no|sin efecto|rectific\w+|levantad\w+|ritirat\w+"
    r"|annullat\w+|revogad\w+|cancelad\w+|ingetrokken|herroepen|geannuleerd|teruggedraaid",
    r"отмен|отозва|аннулир|撤销|取消|废除|收回|作废|撤回|取り消|廃止|中止",
)
_REFERS = _any_of(
    r"this|that|these|those|both|its?|he|she|they|his|her|their|such",
    r"dies\w*|jene\w*|beide\w*|sein\w*|ihr\w*|deren|dessen",
    r"ce|cet|cette|ces|cela|ceci|tous deux|est[aeo]s?|es[aeo]s?|ambos|aquel\w*|quest[oaie]"
    r"|essas?|esses?|isso|isto|dez?e|dit|dat",
    r"\b(?:это|эт[аоиу]\w*)\b|这|该|此|これ|この|その|それ",
)
_REFERS_TO_IT = re.compile(r"\b(?:most|all|some|half|none|part) of (?:it|them|this|that)\b", re.I)
_STANDS_FOR_ONE = re.compile(
    r"\s*(?:it (?!(?:is|was|has been|will be) [\w ]{1,30}? (?:to|that)\b)|he |she |they |sie |er "
    r"|elles? |ils |ell[ao]s? |ess[aoei] |lei |lui |eles? |elas? |hij |zij |он |она |они )",
    re.IGNORECASE,
)
"""A pronoun as the subject that opens a sentence: whom it means stands right before."""
_CONCLUDING_TITLE = re.compile(
    r"\b(?:summary|abstract|conclusions?|status|assessment|findings?|results?|outcome|decisions?"
    r"|recommendations?|next steps|actions?|root cause|causes?|open (?:points|issues)|key points"
    r"|verdict|tl;?dr|zusammenfassung|fazit|ergebnis\w*|bewertung|beschl[uü]ss\w*|ursachen?"
    r"|maßnahmen|empfehlung\w*|offene punkte|résumé|bilan|constats?|décisions?|causes?|mesures"
    r"|resumen|conclusiones|hallazgos|decisiones|causas?|medidas|recomendaciones)\b"
    r"|结论|摘要|总结|建议|結論|要約|まとめ|итог|вывод",
    re.IGNORECASE,
)


@dataclass(slots=True)
class Role:
    """What one sentence does."""

    worth: float
    """How much a reader needs it who will act on the report; 1 for any sentence."""
    concludes: bool = False
    refers_to: int = -1
    """Number of the sentence without which this one says little."""
    revokes: int = -1
    """Number of the sentence that this one takes back."""


_CONCLUDES_WORTH, _CAUSES_WORTH, _DECIDES_WORTH, _REVOKES_WORTH = 8.0, 8.0, 5.0, 5.0
_SECTION_WORTH, _MEASURED_WORTH, _COUNTED_WORTH = 6.0, 4.0, 1.5
_REFERS_WORTH = 3.0
_MATTERS = 4.0
"""Sentences worth as much are what others refer to."""
_FAR = 12
"""Sentences back that a reference may reach."""


def roles_of(sentences: Sequence[str], own: Sequence[re.Pattern[str]] = ()) -> list[Role]:
    """Say what each sentence of a report does.

    Args:
        sentences: In their order; titles of sections among them.
        own: What concludes in the caller's reports, besides.

    Example:
        >>> roles = roles_of(["It was decided to close.", "Tea was served.", "This was revoked."])
        >>> roles[2].revokes, [role.worth > 1 for role in roles]
        (0, [True, False, True])
    """
    roles: list[Role] = []
    in_conclusions = False
    for sentence in sentences:
        if _is_title(sentence):
            in_conclusions = _CONCLUDING_TITLE.search(sentence) is not None
            roles.append(Role(0.5))
            continue
        role = _role_of(sentence, own)
        if in_conclusions:
            role.worth *= _SECTION_WORTH
        roles.append(role)
    _link(sentences, roles)
    return roles


def _is_title(sentence: str) -> bool:
    """A line of its own, short and without an end."""
    line = sentence.strip()
    alone = sentence.endswith("\n") or line.startswith("#")
    return alone and len(line.split()) <= 6 and line[-1:] not in ".!?。！？,;"


def _role_of(sentence: str, own: Sequence[re.Pattern[str]]) -> Role:
    role = Role(1.0)
    if any(pattern.search(sentence) for pattern in own):
        role.worth, role.concludes = 30.0, True
    if _CONCLUDES.search(sentence):
        role.worth, role.concludes = role.worth * _CONCLUDES_WORTH, True
    if _CAUSES.search(sentence):
        role.worth *= _CAUSES_WORTH
    if _DECIDES.search(sentence):
        role.worth *= _DECIDES_WORTH
    numbers = NUMBER.findall(sentence)
    if any(len(number) > 1 for number in numbers):  # more than one digit, a unit, a date
        role.worth *= _MEASURED_WORTH
    elif numbers:
        role.worth *= _COUNTED_WORTH
    return role


def _link(sentences: Sequence[str], roles: Sequence[Role]) -> None:
    """Find what sentences take back and refer to."""
    stems = [_stems(sentence) for sentence in sentences]
    for at, sentence in enumerate(sentences):
        role = roles[at]
        opening = " ".join(sentence.split()[:4])
        refers = bool(_REFERS.search(opening) or _REFERS_TO_IT.search(sentence))
        if _REVOKES.search(sentence):
            mentions = refers or bool(_REFERS.search(sentence))
            role.revokes = _revoked(at, stems, roles, mentions)
            if role.revokes >= 0:
                role.worth *= _REVOKES_WORTH
                roles[role.revokes].worth = max(role.worth, roles[role.revokes].worth)
                continue
        if refers:
            role.refers_to = next(
                (n for n in range(at - 1, max(-1, at - _FAR), -1) if roles[n].worth >= _MATTERS), -1
            )
            if role.refers_to < 0 and role.worth >= _MATTERS and _STANDS_FOR_ONE.match(sentence):
                role.refers_to = at - 1
            if role.refers_to >= 0:
                role.worth *= _REFERS_WORTH


def _revoked(at: int, stems: Sequence[frozenset[str]], roles: Sequence[Role], refers: bool) -> int:
    """Return what the sentence takes back: of which it speaks, or what was decided last."""
    best, most = -1, 0.0
    for n in range(at - 1, -1, -1):
        is_named = bool(stems[n] & stems[at])
        if not is_named and not (refers and roles[n].worth >= _MATTERS and at - n <= _FAR):
            continue
        worth = roles[n].worth * ((1.5 if refers else 3.0) if is_named else 1.0)
        if worth > most:
            best, most = n, worth
    return best


_LONGEST_STEM = 5


def _stems(sentence: str) -> frozenset[str]:
    """The beginnings of the words that say what a sentence is about."""
    words = [w for w in terms_of(sentence) if not any(w in stop for stop in STOP_WORDS.values())]
    return frozenset(word[:_LONGEST_STEM] for word in words if len(word) > 3 or not word.isascii())
