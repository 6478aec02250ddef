"""Answers as models write them: prose, lists, tables and code in five languages, made at random."""

from __future__ import annotations

import random
from collections.abc import Callable

__all__ = ["LANGUAGES", "answer", "pieces_of"]

_WORDS = {
    "en": "river market window teacher garden slowly bright carry follow under every reason quiet",
    "de": "Fluss Straße Fenster Lehrerin Gärten langsam heller tragen folgen unter jeder Grund",
    "es": "río mercado ventana maestra jardín despacio claro llevar seguir bajo cada razón",
    "zh": "河流市场窗户老师花园慢慢明亮带来跟随下面每个原因安静学习时间朋友城市",
    "ja": "川市場窓先生庭ゆっくり明るい運ぶ続くそれぞれの理由静かな時間友だち町",
}
LANGUAGES = tuple(_WORDS)
_EXTRAS = {
    "en": ("Dr. Lane", "3.14", "e.g. this", "e-mail", "No. 7", "don't", "(see below)", "`x = 1. `"),
    "de": ("Dr. Weiß", "z. B. dies", "am 3. Oktober", "5 Mio. Euro", "(siehe unten)", "d. h. so"),
    "es": ("el Sr. Ruiz", "p. ej. esto", "EE. UU.", "n.º 7", "(véase abajo)", "3,14"),
    "zh": ("Python", "2024", "（见下文）", "《书》"),
    "ja": ("Python", "2024", "（下記参照）", "「はい」"),
}
_ENDS = {"zh": "。。。！？", "ja": "。。。！？"}


class _Writer:
    def __init__(self, rng: random.Random, language: str) -> None:
        self.rng = rng
        self.language = language
        self.is_spaced = language not in ("zh", "ja")

    def phrase(self, length: int) -> str:
        if self.is_spaced:
            words = [self.rng.choice(_WORDS[self.language].split()) for _ in range(length)]
        else:
            words = [self.rng.choice(_WORDS[self.language]) for _ in range(length * 2)]
        if self.rng.random() < 0.25:
            words.insert(self.rng.randrange(len(words)), self.rng.choice(_EXTRAS[self.language]))
        if self.rng.random() < 0.15 and len(words) > 3:
            at = self.rng.randrange(1, len(words) - 1)
            words[at] = f"**{words[at]}**" if self.is_spaced else words[at]
        return (" " if self.is_spaced else "").join(words)

    def sentence(self) -> str:
        text = self.phrase(self.rng.randint(3, 16))
        if self.is_spaced and text[0].islower():
            text = text[0].upper() + text[1:]
        if self.rng.random() < 0.08:
            opening, closing = {"de": "„“", "es": "«»", "ja": "「」"}.get(self.language, "“”")
            text = f"{text} {opening}{self.phrase(3)}{closing}" if self.is_spaced else text
        return text + self.rng.choice(_ENDS.get(self.language, "...!?"))[0]

    def paragraph(self) -> str:
        glue = " " if self.is_spaced else ""
        sentences = [self.sentence() for _ in range(self.rng.randint(1, 5))]
        text = glue.join(sentences)
        if self.rng.random() < 0.12 and self.is_spaced:
            text = f"{sentences[0]} **{glue.join(sentences)}** {sentences[-1]}"
        return f"> {text}" if self.rng.random() < 0.1 else text

    def bullets(self, depth: int = 0) -> str:
        lines = []
        numbered = self.rng.random() < 0.4
        for number in range(1, self.rng.randint(2, 6)):
            mark = f"{number}." if numbered else "-"
            lines.append(f"{'   ' * depth}{mark} {self.sentence()}")
            if depth < 2 and self.rng.random() < 0.3:
                lines.append(self.bullets(depth + 1))
        return "\n".join(lines)

    def table(self) -> str:
        columns = self.rng.randint(2, 4)
        rows = [
            "| " + " | ".join(self.phrase(self.rng.randint(1, 3)) for _ in range(columns)) + " |"
            for _ in range(self.rng.randint(2, 6))
        ]
        return "\n".join([rows[0], "|" + "---|" * columns, *rows[1:]])

    def code(self) -> str:
        lines = [
            f'{"    " * self.rng.randint(0, 2)}{self.rng.choice("xyz")} = f({number}, "a b")'
            for number in range(self.rng.randint(1, 8))
        ]
        fence = self.rng.choice(["```", "```", "~~~", "````"])
        block = "\n".join([f"{fence}{self.rng.choice(['', 'python'])}", *lines, fence])
        if self.rng.random() < 0.2:
            block = "- " + block.replace("\n", "\n  ")
        return block

    def heading(self) -> str:
        return f"{'#' * self.rng.randint(1, 3)} {self.phrase(2)}"


def answer(seed: int, language: str | None = None) -> str:
    """Return a random answer; the same for the same *seed*."""
    rng = random.Random(seed)
    writer = _Writer(rng, language or rng.choice(LANGUAGES))
    makers: list[Callable[[], str]] = [
        writer.paragraph,
        writer.paragraph,
        writer.bullets,
        writer.table,
        writer.code,
        writer.heading,
    ]
    blocks = [rng.choice(makers)() for _ in range(rng.randint(1, 8))]
    return "\n\n".join(blocks) + rng.choice(["", "", "\n"])


def pieces_of(text: str, rng: random.Random) -> list[str]:
    """Divide *text* as a stream might."""
    pieces = []
    while text:
        size = rng.randint(1, 8)
        pieces.append(text[:size])
        text = text[size:]
    return pieces
