"""What is never judged by meaning: signs, numbers, units, ids, capitals, accents, material."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_tokenopt.cache.differences import difference_in_writing

FORBIDDEN = [
    ("What does $? mean in bash?", "What does $! mean in bash?"),
    ("Is a == b?", "Is a === b?"),
    ("What is 5 ** 2?", "What is 5 * 2?"),
    ("Is C++ hard to learn?", "Is C# hard to learn?"),
    ("Is C hard to learn?", "Is C++ hard to learn?"),
    ("Take 500 mg of it?", "Take 500 g of it?"),
    ("Pour 100 ml into it?", "Pour 100 l into it?"),
    ("How do I store it at -20 °C?", "How do I store it at 20 °C?"),
    ("Is 1.5 l enough?", "Is 15 l enough?"),
    ("Does it take 5 mW?", "Does it take 5 MW?"),
    ("Where is ticket QX-3092?", "Where is ticket QX-3092A?"),
    ("What is error E-404?", "What is error E-404x?"),
    ("Is v1.2 out?", "Is v1.2a out?"),
    ("What is in plan A?", "What is in plan B?"),
    ("What is the mass of CO?", "What is the mass of Co?"),
    ("¿Cuántos años tiene?", "¿Cuántos anos tiene?"),
    ("¿Dónde está mi papá?", "¿Dónde está mi papa?"),
    ("Wie schreibt man Maße?", "Wie schreibt man Masse?"),
    ("Does it use TCP?", "Does it use UDP?"),
    ("What does print(a) do?", "What does print(b) do?"),
    ("What is it?\nx = a", "What is it?\nx = b"),
    ("Which rows?\na | b", "Which rows?\na | c"),
    ("Is 10:40 fine?", "Is 10:45 fine?"),
    ("Do they pay $20?", "Do they pay 20 euros?"),
]
SAME = [
    ("How do I reset my PIN?", "how to reset a pin"),
    ("It costs $5, why?", "Why 5 dollars?"),
    ("Do I need 1,000 EUR?", "I need 1000 euros, right?"),
    ("What does “closed” mean?", 'What\'s "closed"?'),
    ("My card - is it lost?", "Is my card lost?"),
    ("After 2 weeks?", "after two weeks"),
    ("How are you (and yours)?", "How are you and yours?"),
]


@pytest.mark.parametrize(("one", "other"), FORBIDDEN)
def test_what_embedders_cannot_see_forbids(one, other):
    """In both directions."""
    assert difference_in_writing(one, other)
    assert difference_in_writing(other, one)


@pytest.mark.parametrize(("one", "other"), SAME)
def test_plain_words_are_left_to_the_guards(one, other):
    """Words, pauses and ways to write the same amount do not forbid."""
    assert "" == difference_in_writing(one, other)


@given(st.text(max_size=80), st.text(max_size=80))
def test_is_symmetric_and_silent_on_equal_texts(one, other):
    """Whatever people type."""
    assert bool(difference_in_writing(one, other)) == bool(difference_in_writing(other, one))
    assert "" == difference_in_writing(one, one)
