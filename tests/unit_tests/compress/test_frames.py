"""What the caller says stays whole: rules, formats and questions, wherever they stand."""

from __future__ import annotations

import pytest

from langchain_tokenopt import PromptCompressor
from langchain_tokenopt.counting.tokens import steady_counter_of_name
from tests.unit_tests.compress.frame_prompts import FRAME_PROMPTS, FramePrompt

_COUNTER = steady_counter_of_name("gpt-4o")


def _tokens(text: str) -> int:
    return _COUNTER.count(text).tokens


def budgets(prompt: FramePrompt) -> list[int]:
    """Half, a quarter, and the frame with one passage; none into which the frame does not fit."""
    least = _tokens("\n".join(prompt.frame)) + 4 * _tokens(prompt.needle or "x" * 60) + 40
    size = _tokens(prompt.text)
    return sorted({max(size // 2, least), max(size // 4, least), least})


def lost(prompt: FramePrompt, budget: int) -> list[str]:
    """Return the lines of the frame, and the needle, that a shortened prompt lacks."""
    made = PromptCompressor(max_tokens=budget, model="gpt-4o").compress(prompt.text).content
    must = [*prompt.frame, prompt.needle]
    return [line for line in must if line not in made]


@pytest.mark.parametrize("prompt", FRAME_PROMPTS, ids=lambda prompt: prompt.name)
def test_the_frame_of_a_prompt_stays_whole(prompt: FramePrompt) -> None:
    """Whatever room there is beside it."""
    for budget in budgets(prompt):
        if budget < _tokens(prompt.text):
            assert lost(prompt, budget) == [], budget
