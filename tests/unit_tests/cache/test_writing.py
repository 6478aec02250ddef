"""What may be written otherwise and mean the same; everything else is another question."""

from __future__ import annotations

import pytest

from langchain_tokenopt.cache.writing import same_words


def are_same(one: str, other: str) -> bool:
    return same_words(one) is not None and same_words(one) == same_words(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("How do I reset my PIN?", "how do I reset  my PIN"),
        ("Hello, where is my card?", "where is my card, please"),
        ("怎么申请退款？", "怎么申请退款?"),
        ("¿Qué dice “hola”?", '¿Qué dice "hola"?'),
        ("Wo ist „das“…", 'Wo ist "das"...'),
        ("Where is\u200b it", "Where\u00a0is it?"),
        ("आवेदन कैसे करें।", "आवेदन कैसे करें"),
    ],
)
def test_writings_of_the_same_words(one, other):
    """Blanks, politeness, the first letter, the last mark, signs that stand for one another."""
    assert are_same(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What does `$?` mean?", "What does `$!` mean?"),
        ("git branch -d", "git branch -D"),
        ("5!", "5?"),
        (".5", "5"),
        ("5 mW", "5 MW"),
        ("(500)", "500"),
        ("map", "map!"),
        ("Maße", "Masse"),
        ("Is a != b?", "Is a = b?"),
        ("a.*", "a*"),
        ("plan A", "plan a"),
        ("if x:\n  a()", "if x:\na()"),
        ("How do you say please", "How do you say"),
        ("Translate Turkey", "Translate turkey"),
        ("año", "ano"),
        ("Correct this: i am", "Correct this: I am"),
        ("It's", "Its"),
    ],
)
def test_signs_that_mean_something(one, other):
    """Code, numbers, capitals inside, quotations and unusual signs are left as they are."""
    assert not are_same(one, other)
