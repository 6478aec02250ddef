"""Forms of the messages that agents of any trade send each other."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "FORMS",
    "Decision",
    "ErrorReport",
    "Finding",
    "Handoff",
    "Question",
    "Report",
    "Status",
    "Task",
]

Share = Annotated[float, Field(ge=0, le=1)]


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Message(_Form):
    id: str = ""
    """Of the task, case or order that it is about."""
    by: str = ""
    """Who sends it."""
    to: str = ""
    """Who is to read it."""


class Task(_Message):
    """What somebody is to do."""

    goal: str
    inputs: list[str] = []
    rules: list[str] = []
    """What holds while it is done."""
    due: datetime | None = None
    priority: Literal["low", "normal", "high"] | None = None


class Finding(_Form):
    """One thing that was found."""

    claim: str
    value: Decimal | None = None
    unit: str = ""
    source: str = ""
    confidence: Share | None = None


class Report(_Message):
    """What was found out."""

    about: str = ""
    summary: str
    findings: list[Finding] = []
    confidence: Share | None = None


class Decision(_Message):
    """What was decided, and why."""

    about: str = ""
    choice: str
    reasons: list[str] = []
    rejected: list[str] = []
    """What was not chosen."""
    conditions: list[str] = []
    confidence: Share | None = None


class Question(_Message):
    """What somebody has to know."""

    text: str
    options: list[str] = []
    due: datetime | None = None


class Handoff(_Message):
    """What one passes on to another to be finished."""

    done: list[str] = []
    open: list[str] = []
    inputs: list[str] = []
    notes: str = ""


class Status(_Message):
    """How far it is."""

    state: Literal["waiting", "running", "done", "failed", "cancelled"]
    progress: Share | None = None
    at: datetime | None = None
    note: str = ""


class ErrorReport(_Message):
    """What went wrong."""

    kind: str
    message: str
    attempts: int | None = None
    can_retry: bool | None = None
    detail: str = ""


FORMS: Final[dict[str, type[BaseModel]]] = {
    "task": Task,
    "report": Report,
    "decision": Decision,
    "question": Question,
    "handoff": Handoff,
    "status": Status,
    "error": ErrorReport,
}
"""The forms that every registry begins with, by name."""
