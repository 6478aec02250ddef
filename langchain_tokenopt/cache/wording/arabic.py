"""What is said around a question in Arabic."""

from __future__ import annotations

from typing import Final

from langchain_tokenopt.cache.wording.language import (
    Language,
    kinds_of,
    words_of,
)

__all__ = ["ARABIC"]

ARABIC: Final = Language(
    code="ar",
    known_by=frozenset(),
    asking=words_of("ما ماذا كيف لماذا أين متى من كم هل أي"),
    polite=words_of("مرحبا مرحباً أهلا شكرا شكراً السلام_عليكم شكرا_جزيلا شكراً_جزيلاً"),
    same={},
    prepositions=frozenset(),
    rewrites=(
        (r"^(?:مرحبا|مرحباً|أهلا|أهلاً|السلام عليكم) , ", ""),
        (r"^(?:من فضلك|لو سمحت)(?: ,)? ", ""),
        (r"^هل (?:يمكنك|تستطيع|بإمكانك) (?:أن تخبرني|إخباري|أن تشرح لي|أن تقول لي) (?=ASK )", ""),
        (r"^(?:أخبرني|أريد أن أعرف|أود أن أعرف|هل تعرف)(?: ,)? (?=ASK )", ""),
        (r" ,? ?(?:من فضلك|لو سمحت)$", ""),
        (r" ,? ?شكر(?:ا|اً)$", ""),
        (r"^كيف (?:يمكنني|يمكن|أستطيع|بإمكاني|لي أن|أقدر) (?:أن )?", "كيف يمكن "),
        (r"^ما هو ", "ما "),
        (r"^ما هي ", "ما "),
    ),
    kinds=kinds_of(
        negation="لا ليس ليست لم لن غير بدون دون", question="ما ماذا كيف لماذا أين متى كم هل"
    ),
)
