"""What must survive, at two strengths.

*Verbatim* spans stay byte-identical inside whatever is kept: placeholders, URLs, quotations, inline
code, numbers with their units, dates, ids. No text is ever cut or respaced inside one.

*Required* sentences are kept at all costs: obligations (must, never, only), template placeholders,
and what the caller's own patterns match. Only instructions can be required; the sentences of a
passage that the user pasted cannot.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from langchain_tokenopt.text.numbers import NUMBER
from langchain_tokenopt.text.sentences import LONGEST_QUOTATION

__all__ = ["NEGATION", "OBLIGATION", "PLACEHOLDER", "is_required", "matches_any", "verbatim_spans"]

PLACEHOLDER = re.compile(
    r"\{\{[^{}\n]{1,200}\}\}|\$\{[^{}\n]{1,200}\}|\{%[^%\n]{1,200}%\}|<\|[^|>\n]{1,100}\|>"
    r"|\{[A-Za-z_][\w.\[\]]{0,100}(?:![rsa])?(?::[^{}\n]{0,40})?\}"
)
"""f-string, mustache, Jinja and shell placeholders, and special tokens."""

_VERBATIM = re.compile(
    "|".join(
        (
            PLACEHOLDER.pattern,
            r"`[^`\n]{1,600}`",
            r"\b(?:https?|ftp)://[^\s<>\"]+",
            r"\b[\w.+-]{1,64}@[\w-]{1,64}\.[\w.-]{1,64}",
            *(
                f"{opening}[^{opening}{closing}\\n]{{1,{LONGEST_QUOTATION}}}{closing}"
                for opening, closing in ('""', "“”", "„“", "«»", "「」", "『』")
            ),
            rf"(?<!\w)'[^'\n]{{1,{LONGEST_QUOTATION}}}'(?!\w)",
            NUMBER.pattern,
            r"\b(?=[\w-]{0,40}\d)[A-Za-z][\w-]{1,40}\b",
        )
    )
)

NEGATION = re.compile(
    r"\b(?:not|no|never|none|nor|neither|without|cannot|nothing|nobody|[a-z]+n['’]t"
    r"|nicht|nichts|kein(?:e[mnrs]?)?|nie(?:mals|mand\w*)?|ohne|weder"
    r"|nunca|jamás|sin|ning[uú]n[oa]?|nadie|nada|tampoco"
    r"|ne|n['’](?=\w)|(?-i:[Pp]as|[Ss]ans)(?!-)|jamais|aucune?s?|rien|ni"
    r"|(?-i:[Nn]on)(?!-)|senza|nessun[oa]?|niente|nulla|não|nem|(?-i:[Ss]em)|nenhum[a]?|ninguém"
    r"|niet|geen|nooit|zonder|niemand|niets"
    r"|inte|ikke|icke|aldrig|aldri|ing(?:en|et|a)|nigdy|żadn\w+|není|değil|yok|tidak|bukan|không"
    r"|не|нет|ни|нельзя|никогда|никто|ничего|ничто|без"
    r"|нема|ні|لا|لم|لن|ليس)\b"
    r"|n['’](?=\w)|[不没無无未勿别莫]|ない|なかっ|なく|なし|ません|ずに|नहीं|않|없|아니|못하",
    re.IGNORECASE,
)
"""In the languages of Europe with most speakers, Chinese, Japanese, Korean, Hindi and Arabic."""

OBLIGATION = re.compile(
    r"\b(?:must|never|only|always|shall|required?|do not|don['’]t|may not|cannot|ensure|make sure"
    r"|muss|müssen|musst|darf|dürfen|nur|niemals|immer|keinesfalls|unbedingt"
    r"|debe[ns]?|deber[áa][ns]?|nunca|s[oó]lo|solamente|siempre|obligatorio|prohibido"
    r"|doi(?:t|vent)|devez|jamais|toujours|seulement|uniquement|obligatoire|interdit\w*"
    r"|dev(?:e|ono|i)|sempre|soltanto|vietat\w+|obbligatori\w+|deve[mr]?|somente|proibid\w+"
    r"|moet(?:en)?|nooit|altijd|alleen|verboden"
    r"|должн\w+|обязан\w*|нельзя|никогда|всегда|только|запрещ\w+)\b"
    r"|必须|必須|不得|只能|仅限|务必|禁止|切勿|不要|必ず|なければなら|なくてはなら|べき|のみ",
    re.IGNORECASE,
)


def verbatim_spans(text: str) -> list[tuple[int, int]]:
    """Return the stretches of *text* that may be kept or dropped, but never touched.

    Example:
        >>> line = 'Pay $1,200 by 5 May 2026, or "call us first".'
        >>> [line[start:end] for start, end in verbatim_spans(line)]
        ['$1,200', '5 May 2026', '"call us first"']
    """
    return [match.span() for match in _VERBATIM.finditer(text)]


def is_required(sentence: str, patterns: Sequence[re.Pattern[str]] = ()) -> bool:
    """Say whether a sentence of an instruction must be kept.

    Example:
        >>> is_required("Answer only from the documents."), is_required("You are an assistant.")
        (True, False)
    """
    return (
        OBLIGATION.search(sentence) is not None
        or PLACEHOLDER.search(sentence) is not None
        or matches_any(sentence, patterns)
    )


def matches_any(text: str, patterns: Sequence[re.Pattern[str]]) -> bool:
    """Say whether any of the caller's patterns is found in *text*."""
    return any(pattern.search(text) for pattern in patterns)
