"""Several readers of one text: what a question does not name, each reads elsewhere."""

from __future__ import annotations

import random

import pytest

from langchain_tokenopt.compress import PromptCompressor
from langchain_tokenopt.compress.information import information
from langchain_tokenopt.compress.units import units_of

HERBS = ("Salbei", "Minze", "Dill", "Rosmarin", "Thymian", "Kerbel", "Fenchel", "Anis")
FILLING = "Der Garten lag am Morgen still und niemand ging an den Beeten entlang. "
ASKED = "Frage: Wann wurde das Tor gestrichen?"


def notes(count: int) -> list[str]:
    """Return what a gardener noted: nothing that is asked for."""
    rng = random.Random(3)
    return [f"{rng.choice(HERBS)} {n + 17}: {rng.randint(100, 999)} g." for n in range(count)]


def garden(told: list[str]) -> str:
    """Return a long text with a note after every few sentences, and the answer."""
    parts = [f"{FILLING * 2}{note} {FILLING}" for note in told]
    parts[len(parts) // 2] += "Das Tor wurde 1931 gestrichen."
    return "\n\n".join(parts)


@pytest.mark.parametrize("readers", [2, 4])
def test_readers_know_more_together(readers: int) -> None:
    """Each has the answer, and notes of which the others have hardly any."""
    told = notes(60)
    prompt = f"{garden(told)}\n\n{ASKED}"
    compressor = PromptCompressor(max_tokens=200)
    known: list[str] = []
    for _ in range(readers):
        known.append(compressor.compress(prompt, max_tokens=200, known=known).content)
    alone = [{note for note in told if note in text} for text in known]

    assert all("1931" in text for text in known)
    assert all(alone)
    assert len(set().union(*alone)) >= 0.8 * sum(map(len, alone))


def test_nobody_else_reads_is_the_default() -> None:
    """Without *known* all room is for the question, as it was; the plan cache tells them apart."""
    prompt = f"{garden(notes(24))}\n\n{ASKED}"
    compressor = PromptCompressor(max_tokens=200)
    first = compressor.invoke(prompt)

    assert first == PromptCompressor(max_tokens=200, remember=0).invoke(prompt)
    assert first != compressor.compress(prompt, known=()).content
    assert first == compressor.invoke(prompt)


def test_figures_dates_and_names_tell_more_than_prose() -> None:
    """And a row of figures is no better than a sentence with three."""
    text = (
        "It was a calm day for all of us there. The loan of Corvane is due on 5 May. "
        "We waited for the others to come in.\n"
    )
    units = units_of(text)
    worth = information([text], units)

    assert "5 May" in units[worth.index(max(worth))].within(text)
    assert 1.0 == pytest.approx(sum(worth))


def test_what_is_known_tells_nothing() -> None:
    """Where everything is known, nothing is left to tell apart."""
    text = "The loan is due on 5 May. The bridge opened in 1931."

    assert [0.0, 0.0] == information([text], units_of(text), known=[text])
