"""Marks by which a request shows what it is about, in the languages that users write in."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["CODE", "CONSTRAINTS", "MATHS", "THOUGHT", "is_complaint", "is_thanks", "is_urgent"]

CODE: Final = tuple(
    re.compile(pattern, re.M)
    for pattern in (
        r"```",
        r"^\s*(?:async\s+)?(?:def|class|func|fn|function|public|private|#include)\b.*[;:{(<]",
        r"^\s*(?:import [\w.]+$|from [\w.]+ import )",
        r"[;{}]\s*$",
        r"\b\w+\([^()\n]*\)(?:\.\w+\(|\s*[;{=])",
        r"=>|->|::|!=|==|&&|\|\|",
        r"Traceback \(most recent call last\)|\b\w*(?:Error|Exception):|^\s+at \S+\(|segfault",
        r"\b(?:SELECT\b[^;\n]{1,200}\bFROM|INSERT INTO|(?:CREATE|ALTER) TABLE|GROUP BY)\b",
        r"</?[a-z][\w-]*(?:\s[^<>\n]*)?/?>",
        r"(?<![\w-])[\w-]{1,60}\.(?:py|jsx?|tsx?|java|go|rs|cc|cpp|rb|php|sql|sh|ya?ml|toml)\b",
    )
)
"""In the text as it is written."""

MATHS: Final = tuple(
    re.compile(pattern)
    for pattern in (
        r"[∫∑∏√∞≈≠≤≥±×÷∂∇∈∀∃πθλ]",
        r"\\(?:frac|sum|int|sqrt|begin|alpha|beta|lim)\b|\$\$|\$[^$\n]{1,60}[\\^_=][^$\n]{0,60}\$",
        r"(?:\b[a-z]|\d|\))\s*[=<>^]\s*(?:[a-z]\b|\d|\()|\d\s*[*+/]\s*\d",
        r"\b(?:prove|proof|theorem|lemma|derivative|integral|equation|polynomial|eigenvalues?|"
        r"probability|matrix|sqrt|modulo|beweise?n?|gleichung|ableitung|wahrscheinlichkeit|"
        r"démontre[rz]?|équation|dérivée|probabilité|demuestra|ecuación|derivada|probabilidad|"
        r"dimostra|equazione|provar|equação|докажи(?:те)?|уравнени[ея]й?|вероятность|"
        r"اثبت|أثبت|معادلة|احتمال)\b",
        r"证明|方程|概率|导数|積分|证毕|証明|方程式|確率|微分|증명|방정식|확률",
    )
)
"""In the text in lower case."""


def _words(*lists: str, unspaced: str = "") -> re.Pattern[str]:
    """Return a pattern of whole words, and of words of scripts without spaces."""
    spaced = "|".join(sorted((w.replace("_", " ") for ws in lists for w in ws.split()), key=len))
    other = "".join(f"|{word}" for word in unspaced.split())
    return re.compile(rf"\b(?:{spaced})\b{other}")


THOUGHT: Final = _words(
    # English
    "why analy[sz]e analysis compare contrast evaluate assess design architect plan strategy prove "
    "derive optimi[sz]e debug refactor diagnose investigate justify critique trade-?offs? reason "
    "step[-_]by[-_]step explain[_]why pros[_]and[_]cons implications? root[_]cause recommend "
    "synthesi[sz]e forecast negotiate review weigh argue assumptions? calculate compute "
    "estimate work[_]out prioriti[sz]e trend linearizable reconcile",
    # German
    "warum weshalb analysiere?n? vergleiche?n? bewerte?n? entwirf entwerfen plane?n? strategie "
    "begründe?n? optimiere?n? untersuche?n? abwägen schritt[_]für[_]schritt empfiehl "
    "berechne?n? schätze?n? annahmen leite[_]her",
    # French
    "pourquoi analyse[rz]? compare[rz]? évalue[rz]? conçois concevoir planifie[rz]? stratégie "
    "justifie[rz]? optimise[rz]? étape[_]par[_]étape recommande[rz]? estime[rz]? calcule[rz]? "
    "hypothèses conséquences",
    # Spanish, Portuguese, Italian
    "por[_]qué analizar? comparar? evalúa evaluar diseñar? planificar? estrategia justifica "
    "optimizar? paso[_]a[_]paso por[_]que analis[ae] avali[ae] projet[ae] estratégia "
    "passo[_]a[_]passo "
    "perché analizza confronta valuta progetta strategia passo[_]dopo[_]passo stima giustifica "
    "calcola",
    "udowodnij oszacuj uzasadnij oblicz przeanalizuj krok[_]po[_]kroku kanıtla(?:yın)? adım[_]adım "
    "tahmin[_]et gerekçelendir(?:in)? hesapla analiz[_]et",
    # Dutch, Polish, Turkish, Russian
    "waarom analyseer vergelijk beoordeel ontwerp stap[_]voor[_]stap dlaczego przeanalizuj "
    "porównaj zaprojektuj neden karşılaştır tasarla почему сравни(?:те)? проанализируй(?:те)? "
    "спроектируй(?:те)? оцени(?:те)? обоснуй(?:те)? рассчитай(?:те)? зачем шаг[_]за[_]шагом "
    "порівняй(?:те)? поясни(?:ть)?[_]чому "
    # Arabic, Hindi, Hebrew
    "قارن حلل برر صمم قدر قدّر لماذا خطوة[_]بخطوة الافتراضات तुलना विश्लेषण क्यों השווה נתח מדוע",
    unspaced="तुलना विश्लेषण क्यों सिद्ध अनुमान เปรียบเทียบ พิสูจน์ ขั้นตอน ประมาณ เหตุผล วิเคราะห์ ทำไม "
    "为什么 分析 比较 设计 评估 规划 优化 推导 估算 权衡 论证 なぜ 比較 設計 評価 最適化 "
    "見積 論じ 理由 段階的 検討 왜 비교 설계 평가 분석 추정 단계별",
)
CONSTRAINTS: Final = _words(
    "must must_not only exactly at_least at_most no_more_than without unless except each every "
    "ensure should_not do_not don't never always between",
    "muss müssen genau mindestens höchstens ohne außer nur jede[rsn]? niemals",
    "doit doivent exactement au_moins au_plus sans sauf seulement chaque jamais",
    "debe deben exactamente al_menos sin excepto solo cada nunca deve devem pelo_menos sem apenas "
    "esattamente almeno senza tranne solo ogni",
    "moet precies minstens zonder musi dokładnie bez должен должны ровно без кроме",
    unspaced="必须 只能 至少 至多 恰好 除了 ちょうど 必ず 以上 以下 반드시 정확히 최소",
)

_URGENT: Final = _words(
    "urgent urgently asap a\\.s\\.a\\.p\\.? emergency immediately right_away mission-critical "
    "critical(?!_(?:thinking|analysis|review|reading|theory|path|mass|essay)) life-threatening "
    "outage is_down sev-?[01] p0 time-critical "
    "deadline_(?:is_)?(?:today|tonight|now)",
    "dringend dringende[rsnm]? eilig eilt sofort umgehend notfall schnellstmöglich unverzüglich",
    "urgente?s? urgence immédiatement tout_de_suite au_plus_vite dès_que_possible",
    "urgentemente emergencia inmediatamente de_inmediato cuanto_antes emergência imediatamente "
    "o_quanto_antes urgenza emergenza immediatamente subito al_più_presto",
    "dringende? spoed spoedeisend onmiddellijk noodgeval zo_snel_mogelijk pilne pilnie natychmiast "
    "brådskande akut omedelbart acil acilen hemen derhal ivedi",
    "срочно срочный срочная срочное немедленно экстренно терміново невідкладно",
    "عاجل عاجلة فورا فوراً طارئ तुरंत तत्काल आपातकाल επείγον επειγόντως άμεσα דחוף מיידי",
    unspaced="紧急 緊急 马上 立即 立刻 尽快 十万火急 至急 すぐに 直ちに 긴급 급합니다 즉시 ด่วน",
)
_DENIED: Final = re.compile(
    r"(?:\b(?:not|isn't|isn’t|no|non|nothing|never|nicht|kein|keine|keineswegs|pas|rien|aucune|não|"
    r"niet|geen|nie|inte|ikke|не|değil|less)\b|不|没|沒|ない|非)\W*(?:\w+\W+){0,2}$"
)
"""What stands in front of a word of urgency that is denied, two words between at most."""
_DENIED_AFTER: Final = re.compile(r"\W*(?:değil|ではない|でない|じゃない|지_않|nicht\b|olmayan)")
_REACH: Final = 32


def is_urgent(text: str) -> int:
    """Return how many words of urgency stand in *text*, those left out that are denied.

    Example:
        >>> texts = ("URGENT: asap!", "Not urgent.", "Es ist dringend", "不紧急", "至急です")
        >>> [is_urgent(text) for text in texts]
        [2, 0, 1, 0, 1]
    """
    lowered = text.lower()
    return sum(
        not _DENIED.search(lowered[max(0, found.start() - _REACH) : found.start()])
        and not _DENIED_AFTER.match(lowered, found.end())
        for found in _URGENT.finditer(lowered)
    )


_COMPLAINT: Final = re.compile(
    r"\b(?:(?:that|this|it)(?:'s| is| was)? (?:still |completely |also )?(?:wrong|incorrect|"
    r"not right|not what i)|still (?:wrong|not|fails?|broken)|"
    r"(?:does|did)(?: not|n't) (?:work|compile|run|help)|"
    r"try (?:it )?(?:again|once more)|you (?:misunderstood|missed|forgot|got it wrong)|not correct|"
    r"das (?:ist|war) (?:immer noch )?falsch|stimmt nicht|funktioniert (?:immer noch )?nicht|"
    r"noch (?:ein)?mal|versuch(?:e)? es|c'est faux|ne (?:marche|fonctionne) (?:toujours )?pas|"
    r"réessaye[rz]?|está mal|es incorrecto|no funciona|inténtalo|non funziona|è sbagliato|riprova|"
    r"está errado|não funciona|tente|werkt niet|klopt niet|nie działa|źle|çalışmıyor|yanlış|"
    r"неправильно|не работает|неверно)(?!\w)"
    r"|不对|错了|不行|再试|違います|間違|もう一度|틀렸|다시 해|خطأ|لا يعمل"
)


def is_complaint(text: str) -> bool:
    """Whether a user says that an answer was no good.

    Example:
        >>> [is_complaint(text) for text in ("No, that is wrong. Try again.", "Thanks!")]
        [True, False]
    """
    return bool(_COMPLAINT.search(text.lower().replace("’", "'")))


_THANKS: Final = re.compile(
    r"\b(?:thanks?|thank you|thx|cheers|perfect|great|awesome|got it|that helps|danke|dankeschön|"
    r"super|prima|merci|parfait|gracias|perfecto|genial|grazie|perfetto|obrigad[oa]|perfeito|"
    r"bedankt|dank (?:je|u)|dziękuję|dzięki|děkuji|díky|teşekkür(?:ler)?|sağ ol|спасибо|"
    r"благодарю|дякую|ευχαριστώ|tack|takk|tak|kiitos|köszönöm|mulțumesc|cảm ơn|terima kasih|"
    r"asante|شكرا|شكراً|متشکرم|धन्यवाद|शुक्रिया|תודה)(?!\w)"
    r"|谢谢|感谢|謝謝|ありがとう|감사|고마워|ขอบคุณ"
)
_GOES_ON: Final = re.compile(
    r"[?？؟]|\b(?:but|go on|continue|next|more|again|now|weiter|noch|aber|jetzt|mais|encore|"
    r"continuez?|suite|pero|sigue|ahora|más|ma|ancora|continua|mas|agora|дальше|ещё|но)\b"
)


def is_thanks(text: str) -> bool:
    """Whether a user thanks, and asks for nothing more.

    Example:
        >>> [is_thanks(text) for text in ("Thanks a lot!", "ok danke", "Thanks, and why?", "Why?")]
        [True, True, False, False]
    """
    lowered = text.lower()
    return bool(_THANKS.search(lowered)) and not _GOES_ON.search(lowered)
