"""What is asked, and what is only asked about: others' words do not choose the model."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage

from langchain_tokenopt import Complexity
from langchain_tokenopt.routing.complexity import features_of

HARD = "Prove step by step why 3 designs differ, compare them, and estimate the cost. Urgent!"
MANY = "\n".join([HARD] * 12)
ROWS = [
    f"2026-11-30 12:{n % 60:02}:{n % 60:02} ERROR urgent: worker {n} failed" for n in range(300)
]
LOG = "\n".join(ROWS)
CSV = "\n".join(f"{n};2026-11-{n % 30 + 1:02};{n * 3.5};open" for n in range(600))
TABLE = "| a | urgent |\n|---|---|\n" + "\n".join(f"| {n} | why {n * 3} |" for n in range(40))
QUOTED = "\n".join(f"> {line}" for line in MANY.splitlines())


@pytest.mark.parametrize(
    "text",
    [
        f"{CSV}\n\nWhich separator is that?",
        f"{LOG}\n\nWie viele Zeilen sind das?",
        f"{LOG}\n\n何行ありますか？",
        f"How many lines?\n{LOG}",
        f"```\n{LOG}\n```\nHow many lines?",
        f"<file>{MANY}</file>\nIs this English?",
        f"Is this English?\n```\n{MANY}\n```",
        f"{TABLE}\n\nHow many columns?",
        f'Translate into German: "{HARD}"',
        f"{QUOTED}\n\nIs this polite?",
        f"Is this polite?\n\n-----Original Message-----\nFrom: Ann\nSubject: Urgent\n\n{HARD}",
    ],
)
def test_material_makes_no_request_harder(text: str) -> None:
    """Logs, tables, files, quotations and mails, before and after the question."""
    assert features_of([HumanMessage(text)]).complexity is Complexity.SIMPLE


@pytest.mark.parametrize(
    "text",
    [
        "Please do this:\n1. Prove that it is safe.\n2. Compare it with Raft.\n3. Plan each step.",
        "It fails since Monday, for all customers.\n\nWhy? Compare 3 ways out, plan each step.",
        "Why is that? Compare 3 ways out, plan each step.\n\nIt fails since Monday.\n\nOnly there.",
        f"<doc>{MANY}</doc>\n\nCompare the 3 arguments, explain why each fails, plan the repair.",
        f"{CSV}\n\nAnalyse the trend, compare it to the last month's, and explain why it differs.",
        "Find the bug, explain why it deadlocks:\n```python\ndef f(x):\n    lock.acquire()\n```",
    ],
)
def test_what_the_user_asks_in_several_lines_counts(text: str) -> None:
    assert features_of([HumanMessage(text)]).complexity >= Complexity.MEDIUM


@pytest.mark.parametrize(
    "thanks", ["Thanks!", "ok, thank you", "Danke dir!", "Merci", "Спасибо", "谢谢", "شكرا"]
)
def test_thanks_are_no_follow_up(thanks: str) -> None:
    """And a question that follows up is."""

    def after(last: str) -> Any:
        return features_of([HumanMessage(HARD), AIMessage("So."), HumanMessage(last)]).complexity

    assert after(thanks) is Complexity.SIMPLE
    assert after("And why?") is Complexity.CRITICAL
