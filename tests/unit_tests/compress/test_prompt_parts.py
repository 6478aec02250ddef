"""What in a message instructs, asks and quotes."""

from __future__ import annotations

import pytest

from langchain_tokenopt.compress import PromptCompressor
from langchain_tokenopt.compress.prompt_parts import read_message

PASSAGES = "Context: Tea is hot. Ice is cold. Birds sing.\nSnow is white.\n\n"
QUESTION = "What is cold?"


def outside(text: str) -> str:
    """Return what has to stay of *text*."""
    return "".join(u.within(text) for u in read_message(text).units if u.required)


@pytest.mark.parametrize(
    "question",
    [QUESTION, f"{QUESTION}\n", "茶热吗？", "I wonder. What is cold?", f"{'x' * 699}?"],
    ids=["question", "line end", "Chinese", "two sentences", "long"],
)
def test_a_question_behind_the_last_passage_needs_no_label(question):
    """It is the question, it stays, and it brings no label of the passages with it."""
    text = PASSAGES + question
    parts = read_message(text)

    assert question.strip().endswith(parts.question)
    assert question == outside(text)
    assert all(unit.head < 0 for unit in parts.units if unit.required)


@pytest.mark.parametrize(
    "ending",
    ["Rain is wet. Fog is damp. Hail is hard. It falls in May.", f"{'x' * 700}. {'x' * 700}?"],
    ids=["as long as the others", "too long"],
)
def test_other_last_paragraphs_are_passages(ending):
    """A paragraph as long as the others and a long text are quoted."""
    assert ending[:20] not in outside(PASSAGES + ending)


def test_a_section_of_its_own_that_asks_is_the_question():
    """A question may stand under a heading."""
    assert "## Colder\nIs ice cold?" == outside(f"{PASSAGES}## Colder\nIs ice cold?")


def test_an_unlabelled_question_decides_what_is_kept():
    """At the compressor: the question stays, and the sentence that answers it."""
    filler = "".join(f"Fact {n} is that birds of kind {n} sing. " for n in range(40))
    question = "Who skates on the frozen lake?"
    text = (
        f"Context: Birds sing.\n{filler}Ada Quill skates on the frozen lake. {filler}\n\n{question}"
    )

    made = PromptCompressor(30, model="cl100k_base").invoke(text)

    assert "Ada Quill skates on the frozen lake." in made
    assert made.endswith(question)
