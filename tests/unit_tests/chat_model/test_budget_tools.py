"""What a budget shortens prompts with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import pytest
from langchain_core.messages import HumanMessage

from langchain_tokenopt import BudgetPlan, optimize
from langchain_tokenopt.chat_model import budget_tools
from langchain_tokenopt.chat_model.budget_tools import TOOLS
from langchain_tokenopt.core.errors import BudgetInfeasibleError
from langchain_tokenopt.core.staged_runs import StagedRun
from langchain_tokenopt.request.model_request import ModelRequest
from tests.support.fakes import fake_chat


def test_what_must_be_kept_may_grow_with_the_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error says what would do, and then it does not; the next one is believed, too."""
    tried: list[int] = []

    class Compressor:
        def compress(
            self, messages: Any, *, max_tokens: int, model: str, known: Sequence[str]
        ) -> Any:
            tried.append(max_tokens)
            if max_tokens < 85:
                required = 74 if max_tokens < 74 else 85
                raise BudgetInfeasibleError(
                    required_tokens=required, max_tokens=max_tokens, remedy=""
                )
            return type("Result", (), {"content": messages})()

    monkeypatch.setattr(budget_tools, "_compressor_for", lambda frame: Compressor())
    messages = [HumanMessage("Hi")]

    assert budget_tools._compressed(messages, 10, (), "gpt-4", ()) == messages
    assert tried == [10, 74, 85]


REPORT = " ".join(
    f"Crane {n} must be mended before winter, as foreman {n} has written in the book of the quay."
    for n in range(5)
)
ASKED = "Which cranes are to be mended, and by whom? Answer as the clerk of the quay."


def told(form: str, total: int) -> tuple[str, str]:
    """Let a clerk read a foreman's report; return what he was sent, and his answer."""
    fake = fake_chat(answers=[REPORT, "Crane 1 first."])
    plan = BudgetPlan(total_tokens=total, agents={"foreman": {"tokens": 300}, "clerk": {}})
    model = optimize(fake, plan)
    with plan.run():
        report = model.invoke("Report.", {"metadata": {"tokenopt_agent": "foreman"}}).text
        asked = form.format(report=report)
        answer = model.invoke(asked, {"metadata": {"tokenopt_agent": "clerk"}})
    return fake.calls[-1].messages[-1].text, answer.text


FORMS = {
    "in tags": f"<report>\n{{report}}\n</report>\n\n{ASKED}",
    "at the end": f"{ASKED}\n\nforeman:\n{{report}}",
    "in between": f"{ASKED}\n\nfirst:\n{{report}}\n\nsecond:\nNothing else is known.",
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_report_is_shortened_as_far_as_need_be(form: str) -> None:
    """From all of it to nothing; the question stays whole, and is always answered."""
    sent = {total: told(form, total) for total in range(400, 850, 25)}

    assert all(answer == "Crane 1 first." for _, answer in sent.values())
    assert all(line in text for text, _ in sent.values() for line in ASKED.split("? "))
    kept = [sum(f"Crane {n} " in text for n in range(5)) for text, _ in sent.values()]
    assert (0, 5) == (kept[0], kept[-1])


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_what_is_left_of_a_report_is_no_question(form: str) -> None:
    """It goes from all of a report to a sentence, and to none; the question stays whole."""
    asked = [HumanMessage(form.format(report=REPORT))]
    request = ModelRequest(fake_chat(), asked, None, {}, StagedRun(run_id=uuid4()))
    frame = TOOLS.frame(request, [REPORT])
    for tokens in (1, 40, 60):
        handed_over = TOOLS.hand_over(request, [REPORT], tokens, frame)
        (message,) = TOOLS.shorten(handed_over, 1, frame).messages

        assert handed_over.messages[0].text.count("Crane ") <= 2
        assert all(line in message.text for line in ASKED.split("? "))
    handed_over = TOOLS.hand_over(request, [REPORT], 1, frame)
    left = [TOOLS.leave_out(handed_over, [REPORT], tokens, frame) for tokens in (90, 1)]
    assert [1, 0] == [request.messages[0].text.count("Crane ") for request in left]


def test_what_reports_repeat_is_read_once() -> None:
    """The first that says it is left to say it; one that says nothing new stays as it is."""
    first = "The crane is old. Nobody has signed for the pump since spring."
    second = "Yes. Nobody has signed for the pump since spring. Its rope is new."
    third = "Nobody has signed for the pump since spring."
    said = dict(budget_tools._said_once((first, second, third)))

    assert said == {first: first, second: "Yes. Its rope is new.", third: third}
