"""One fact among many that are alike, or that contradict it: what a case is and how it is scored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

Content = str | list[tuple[str, str]]
Shorten = Callable[["Fact", int], str]


@dataclass(frozen=True)
class Fact:
    """A question on a text, or on ``(title, text)`` passages, with right and outdated answers."""

    id: str
    field: str
    kind: str
    content: Content
    question: str
    right: str
    wrong: tuple[str, ...] = ()
    budgets: tuple[int, ...] = (18, 26, 40, 60, 90, 140, 220, 340)

    def __post_init__(self) -> None:
        whole = self.text
        for piece in (self.right, *self.wrong):
            if piece not in whole:
                raise ValueError(f"{self.id}: {piece!r} is not in the content.")

    @property
    def text(self) -> str:
        """The content as one text."""
        if isinstance(self.content, str):
            return self.content
        return "\n\n".join(f"{title}\n{text}" for title, text in self.content)


def verdicts(fact: Fact, shorten: Shorten) -> list[str]:
    """Say for each budget which answers are left: right, both, wrong or none."""
    found = []
    for budget in fact.budgets:
        text = shorten(fact, budget)
        right = fact.right in text
        wrong = any(piece in text for piece in fact.wrong)
        found.append(
            "both" if right and wrong else "right" if right else "wrong" if wrong else "none"
        )
    return found


def losses(found: Sequence[str]) -> int:
    """Count the budgets at which an answer is gone that a smaller budget kept."""
    held, lost = False, 0
    for verdict in found:
        kept = verdict in ("right", "both")
        lost += held and not kept
        held = held or kept
    return lost
