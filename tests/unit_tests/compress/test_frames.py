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


@pytest.mark.parametrize(
    "order",
    [
        "Write a two-line note saying when the regatta is. Keep it under 40 words.",
        "Sag in einer Zeile, when the regatta is. Keine Namen.",
    ],
)
def test_an_order_of_two_sentences_asks_with_both(order: str) -> None:
    """The last one alone would look for words of the order."""
    small = ["ok", "brb", "haha yes", "let me check the boat"]
    lines = [f"[09:{at:02d}] Tom: {small[at % 4]}" for at in range(50)]
    lines.insert(30, "[09:30] Priya: we moved the regatta to Thursday because of the storm")
    text = "\n".join(lines) + f"\n\n{order}"
    left = PromptCompressor(max_tokens=180, model="gpt-4o").compress(text).content

    assert order in left
    assert "Thursday" in left


@pytest.mark.parametrize("mark", ["a) b) c)", "1. 2. 3.", "- - -", "(i) (ii) (iii)"])
def test_each_of_several_questions_is_looked_for(mark: str) -> None:
    """One list asks for three facts."""
    asked = ["Who owns the lift?", "Who owns the crane?", "Which day is the fair?"]
    filler = " ".join(
        f"The shed {at} was painted after {at * 7} hours of rain." for at in range(25)
    )
    facts = ["The lift belongs to Ada.", "The crane belongs to Bo.", "The fair is on Monday."]
    listed = "\n".join(f"{sign} {line}" for sign, line in zip(mark.split(), asked, strict=True))
    text = listed + "\n\n" + "".join(f"{filler} {fact} " for fact in facts) + filler
    left = PromptCompressor(max_tokens=250, model="gpt-4o").compress(text).content

    assert [line for line in [*asked, *facts] if line not in left] == []


_ROLE = (
    "You are an assistant for the guests of a harbour. Answer their questions with the help of the "
    "passages below, and with nothing else. If the passages do not hold the answer, say that you "
    "could not find it, and send them to the office on the pier, which is open until six."
)
_STYLE = (
    "Keep the tone friendly and the answer short. Mention from which passage you have it. Do not "
    "speculate about prices, times of arrival or anything else that the captain would rather not "
    "see in writing, and point to the hotline where guests ask for advice."
)
_SCREEN = "The guest sees your answer on a small screen, so write no more than three sentences."
_GERMAN = (
    "Du bist die Auskunft eines Hafens und beantwortest Fragen der Gäste nur mit den folgenden "
    "Auszügen. Steht die Antwort nicht darin, dann sage das offen und rate nicht. Halte dich kurz, "
    "und schicke alle, die mehr wissen wollen, in das Büro am Kai, das bis um sechs geöffnet ist."
)
_TERMINAL = (
    "The terminal in the hall of a harbour is used by guests of every age. Each answer on its "
    "screen is taken from one of the excerpts that are listed next, and ends with the number of "
    "that excerpt. Where none of them helps, the terminal says so in a friendly sentence."
)
_TELLING = {
    "nobody by name": ([_TERMINAL], []),
    "a paragraph": ([_ROLE], []),
    "three paragraphs": ([_ROLE, _STYLE, _SCREEN], []),
    "headings": (["# Role", _ROLE, "# Style", _STYLE], []),
    "above and below": ([_ROLE], [_STYLE]),
    "German": ([_GERMAN], []),
}


@pytest.mark.parametrize("mark", ["", "[{n}] ", "Berth {n}\n"])
@pytest.mark.parametrize("is_system", [True, False])
@pytest.mark.parametrize("telling", _TELLING)
def test_long_paragraphs_that_speak_to_the_model_are_no_passages(
    telling: str, is_system: bool, mark: str
) -> None:
    """They are as long as passages, and stay whole where passages go."""
    above, below = _TELLING[telling]
    passages = [
        mark.format(n=n)
        + " ".join(f"Ship {n * 7 + k} of line {n} was moored at berth {k}." for k in range(9))
        for n in range(20)
    ]
    passages[11] += " The Halcyon lost its anchor because the winch had rusted through."
    asked = "Why did the Halcyon lose its anchor?"
    text = "\n\n".join([*above, *passages, *below])
    system = [SystemMessage(text), HumanMessage(asked)]
    user = [HumanMessage(f"{text}\n\nQuestion: {asked}")]
    made = PromptCompressor(max_tokens=600, model="gpt-4o").invoke(system if is_system else user)
    assert isinstance(made, list)
    left = "\n".join(message.text for message in made)

    assert [part for part in [*above, *below, asked] if part not in left] == []
    assert "the winch had rusted through" in left
