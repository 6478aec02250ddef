"""What the caller says stays whole: rules, formats and questions, wherever they stand."""

from __future__ import annotations

import pytest
from langchain_core.messages import HumanMessage, SystemMessage

from langchain_tokenopt import BudgetInfeasibleError, PromptCompressor
from langchain_tokenopt.counting.tokens import steady_counter_of_name
from tests.unit_tests.compress.frame_prompts import (
    FRAME_PROMPTS,
    FramePrompt,
    question_of,
    system_prompts,
)

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


@pytest.mark.parametrize("prompt", list(system_prompts()), ids=lambda prompt: prompt.name)
def test_the_rules_of_a_system_message_stay_beside_what_it_holds(prompt: FramePrompt) -> None:
    """What the message of the user asks about is shortened; rules are not."""
    messages = [SystemMessage(prompt.text), HumanMessage(question_of(prompt))]
    for budget in budgets(prompt):
        made = PromptCompressor(max_tokens=budget + 40, model="gpt-4o").invoke(messages)
        assert isinstance(made, list)
        left = made[0].text

        assert [line for line in [*prompt.frame, prompt.needle] if line not in left] == []
        assert made[-1].text == question_of(prompt)


_POLICIES = [
    "Regeln:\n" + "\n".join(f"{n}. Nenne Kunden aus Kreis {n} nur mit Namen." for n in range(60)),
    "You are a clerk.\n\n" + "You must send every ferry to berth 4 and greet it. " * 40,
    "Use these tools:\n" + "\n".join(f"berth_{n}: finds the ferry of berth {n}" for n in range(60)),
]


@pytest.mark.parametrize("policy", _POLICIES)
def test_a_system_message_that_only_instructs_is_refused(policy: str) -> None:
    """Nothing of it is a page, however much the question is about it."""
    messages = [SystemMessage(policy), HumanMessage("Which berth does the ferry go to?")]
    with pytest.raises(BudgetInfeasibleError):
        PromptCompressor(max_tokens=200, model="gpt-4o").invoke(messages)
