"""Whether a text speaks to whoever answers, rather than about something."""

from __future__ import annotations

import re
from typing import Final

from langchain_tokenopt.compress.prompt_lines import LONG_LINE

__all__ = ["OF_ANSWERING", "TEXT_ABOVE", "TEXT_BELOW", "addresses"]

_ADDRESSES: Final = re.compile(
    r"\b(?:you (?:are|answer|help|must|should)\b|your (?:task|answers?|job|role|reply|response)\b"
    r"|(?:(?<![a-z\d\"“'‘«] )(?<![\"“'‘«])|(?<=\band )|(?<=\bor )|(?<=\bbut )|(?<=\byou )"
    r"|(?<=\bplease ))do(?: not|n['’]t) \w|du (?:bist|musst|sollst)\b"
    r"|beantworte|antworte|eres\b|debes\b|responde\b"
    r"|vous (?:êtes|devez)\b|réponde[zs]\b)|你|ください"
    r"|(?<![申邀聘宴提报奉约呈])请(?![愿求假柬示客帖辞战缨])"
)
"""In lower case; after one look at what stands before it, each word is ruled out by its letter.
What others do not do, titles in quotation marks, and words that contain a "please" (a petition, an
invitation, leave), tell nobody anything."""
_ASKER: Final = re.compile(r"\b(?:the (?:user|customer)|der nutzer|el usuario)\b")
"""In lower case. Whoever tells how to treat them speaks of answers; a page may be about any."""


def addresses(text: str) -> bool:
    """Say whether *text* speaks to whoever answers.

    Example:
        >>> addresses("Your task is to count them."), addresses("They count the days.")
        (True, False)
    """
    said = text.lower()
    if _ADDRESSES.search(said):
        return True
    is_page = len(said) >= LONG_LINE and not OF_ANSWERING.search(said)
    return not is_page and _ASKER.search(said) is not None


OF_ANSWERING: Final = re.compile(
    r"\b(?:(?P<answer>answer(?:s|ed)?|repl(?:y|ies)|respond|(?:be)?antwort\w*|répon[ds]\w*"
    r"|respuestas?|responde[rs]?|rispost[ae]|rispond\w+|ответ\w*)"
    r"|(?P<question>questions?|quer(?:y|ies)|fragen?|preguntas?|domand[ae]|вопрос\w*)"
    r"|(?P<quoted>documents?|passages?|excerpts?|contexts?|sources?|snippets?|notes|dokumente?n?"
    r"|ausz[uü]ge?n?|quellen|extraits?|documentos?|fuentes|fragmentos?|contesto|контекст\w*"
    r"|документ\w*))\b"
    r"|(?P<answer_cjk>回答|答え)|(?P<question_cjk>質問|问题)|(?P<quoted_cjk>資料|文档|上下文)"
)
"""In lower case."""

_TEXT: Final = (
    r"(?:text|passage|paragraph|article|document|story|notes?|memo|letter|e-?mail|excerpt|report"
    r"|page|context|abschnitt|artikel|dokument|absatz|bericht|texte|extrait|texto|fragmento|pasaje"
    r"|artículo|testo|brano|tekst|отрыв\w+|текст\w*)"
)
TEXT_BELOW: Final = re.compile(
    rf"\b(?:{_TEXT} (?:below|that follows|which follows|ci-dessous|siguiente|seguente|abaixo"
    rf"|hieronder|ниже)|(?:following|folgende[mnrs]?|untenstehende[mnrs]?|siguiente|seguente"
    rf"|seguinte|volgende|следующ\w+|nachstehende[mnrs]?) {_TEXT})\b"
    r"|次の文|以下の文|以下文|下文|下面的"
)
TEXT_ABOVE: Final = re.compile(
    rf"\b(?:{_TEXT} (?:above|ci-dessus|anterior|precedente|acima|hierboven|выше)"
    rf"|(?:obige[mnrs]?|vorstehende[mnrs]?|preceding|foregoing|above|bovenstaande) {_TEXT})\b"
    r"|上の文|上記の|以上の文|上文|上面的"
)
"""In lower case: what tells that a text is quoted, without a colon."""
