"""What of a text is the question, and what is material to work on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from langchain_tokenopt.cache.wording.tokens import VERBATIM

__all__ = ["Parts", "parts_of"]

_LONGEST: Final = 1_500
_STEMS: Final = (
    "translat spell proofread grammar punctuat capitali uppercase lowercase rewrit rephras "
    "paraphras shorten summari reword formal pronounc typo tense passive edit polite rhyme "
    "übersetz korrigier rechtschreib grammatik formulier kürz fass buchstab höflich "
    "zusammenfass tradui corrige orthograph reformul résum conjugu prononc réécri traduc "
    "traduz traduç ortograf gramátic reescrib resum pronunci corregg riscriv riassum "
    "ortografi reescrev corrig vertaal herschrijf samenvat przetłumacz "
    "popraw streść перевед перевод исправ орфограф сократи перефраз"
)
_PHRASES: Final = (
    "(?:do|would|to) (?:you |i |one )?say",
    "(?:do|would) (?:you|i|one) write",
    "correct (?:the|this|these|my|any|following|it)",
    "correct:",
    "schreibt (?:man|sich)",
    "s'écri",
    "écrit[ -]on",
    "se escrib",
    "si scriv",
    "se escrev",
)
_WRITING: Final = re.compile(rf"\b(?:{'|'.join((*_STEMS.split(), *_PHRASES))})", re.I)
_MAY_BE_WRITING: Final = frozenset(stem[:3] for stem in _STEMS.split()) | frozenset(
    ("say", "wri", "cor", "sch", "s'é", "écr", "esc", "scr")
)
"""Questions about how something is written: then what is written counts to the letter."""
_WRITING_ELSEWHERE: Final = re.compile(
    "ترجم|صحح|لخص|翻译|翻訳|改写|改成|校对|纠正|直して|にしてください|添削|要約|번역|고쳐|요약|교정"
)
_QUOTED: Final = re.compile(
    r"\"[^\"]+\"|(?<!\w)'[^']{2,}'(?!\w)|`[^`]+`|[\u300c\u300e][^\u300d\u300f]+[\u300d\u300f]"
)
_HANDED: Final = re.compile(r":\s+(?=\S+\s+\S+)|(?<=[\u3041-\u9fff\uac00-\ud7af]):\s*(?=\S)")


@dataclass(frozen=True, slots=True)
class Parts:
    """A text in its parts."""

    question: str
    material: tuple[str, ...]
    is_about_writing: bool


def parts_of(text: str) -> Parts | None:
    """Part the question from its material; ``None`` where it is not plain which is which."""
    if not text or len(text) > _LONGEST:
        return None
    if "\n" in text or "\t" in text:
        return _lines(text)
    if not _is_about_writing(text):
        return Parts(text, (), is_about_writing=False)
    quoted = _QUOTED.findall(text)
    if len(quoted) == 1:
        before, _, after = text.partition(quoted[0])
        rest = quoted[0][1:-1].strip()
        if len(rest.split()) > 1 or len(rest) > 8:
            return Parts(
                f"{before} , {after}".strip(" ,"), (VERBATIM + rest,), is_about_writing=True
            )
    if quoted:
        return Parts(text, (), is_about_writing=True)
    handed = _HANDED.search(text)
    if handed is None:
        return None
    rest = text[handed.end() :].strip()
    return Parts(text[: handed.start()], (VERBATIM + rest,), is_about_writing=True)


def _is_about_writing(text: str) -> bool:
    if not _MAY_BE_WRITING.isdisjoint([word[:3] for word in text.lower().split()]):
        return _WRITING.search(text) is not None
    return not text.isascii() and _WRITING_ELSEWHERE.search(text) is not None


def _lines(text: str) -> Parts | None:
    """Take the one line that asks from the lines before or after it."""
    if _is_about_writing(text):
        return None
    paragraphs = [p.strip("\n") for p in re.split(r"\n[ \t]*\n", text) if p.strip()]
    blocks = paragraphs if len(paragraphs) > 1 else text.split("\n")
    ends = [at for at in {0, len(blocks) - 1} if _asks(blocks[at])]
    if len(ends) != 1:
        return None
    at = ends[0]
    rest = blocks[1:] if at == 0 else blocks[:-1]
    joint = "\n\n" if len(paragraphs) > 1 else "\n"
    question, lines = blocks[at].strip(), [line.rstrip() for line in joint.join(rest).split("\n")]
    if (
        lines[0].startswith("```")
        and lines[-1] == "```"
        and lines[0][3:].lower() in question.lower()
    ):
        lines = lines[1:-1]
    if _is_of_rows(lines) and _OF_ALL.search(question) and not _OF_PLACES.search(question):
        lines[1:] = sorted(lines[1:])
    return Parts(question, (VERBATIM + "\n".join(lines),), is_about_writing=False)


def _is_of_rows(lines: Sequence[str]) -> bool:
    """Say whether lines are the rows of a table under their names."""
    if len(lines) < 3 or any(map(str.isdigit, lines[0])):
        return False
    return any({line.count(sign) for line in lines} in ({1}, {2}, {3}) for sign in ",;\t")


_OF_ALL: Final = re.compile(
    r"\b\w{2,}est\b|\bmost\b|\bleast\b|\btotal\b|\bsum\b|\bmean\b|\baverage\b|\bhow many\b|"
    r"\b\w+ste[rns]?\b|summe|durchschnitt|wie viele|\bplus\b|\bmoins\b|somme|moyenne|combien|"
    r"\bmás\b|\bmenos\b|\bsuma\b|media|promedio|cuánt|сам[а-я]+ |сколько|сумм|средн|"
    r"最|总|總|平均|合計|가장|합계|평균",
    re.I,
)
_OF_PLACES: Final = re.compile(
    r"\b(?:first|last|second|third|next|row|line|order|sort|above|below|before|after|start|end|top|"
    r"bottom|erste|letzte|zeile|nächste|sortier|premi|derni|ligne|suivant|tri|primer|últim|fila|"
    r"siguiente|orden|перв|послед|строк|следующ)|\d(?:st|nd|rd|th)\b|"
    r"第|行|顺序|順|排序|前|后|後|次|첫|마지막|행|순서",
    re.I,
)


def _asks(block: str) -> bool:
    block = block.strip()
    return "\n" not in block and _QUESTION.search(block) is not None


_QUESTION: Final = re.compile(r"[?\uff1f]['\")\u300d]*$|[?\uff1f],? please[.!?]*$|, please\?$")
