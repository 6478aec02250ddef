"""Reports that one agent hands over to the next: what a case is and how it is scored."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Report:
    """A report of lines. ``*`` marks what must be handed over, ``#`` a heading, the rest is calm.

    *together* are pieces of which all or none may be handed over: a decision and its revocation.
    """

    id: str
    field: str
    language: str
    lines: tuple[str, ...]
    together: tuple[tuple[str, str], ...] = ()

    @property
    def text(self) -> str:
        """The report as its author wrote it: paragraphs under headings."""
        parts: list[str] = []
        for line in self.lines:
            if line.startswith("# "):
                parts.append(f"\n\n{line[2:]}\n\n" if parts else f"{line[2:]}\n\n")
            else:
                parts.append(line.removeprefix("* ") + " ")
        return "".join(parts).strip()

    @property
    def keys(self) -> tuple[str, ...]:
        """What must be handed over."""
        return tuple(line[2:] for line in self.lines if line.startswith("* "))


def faults(report: Report, handed: str) -> list[str]:
    """List what is missing, and decisions without their revocation."""
    flat = " ".join(handed.split())
    found = [f"missing: {key}" for key in report.keys if key not in flat]
    for one, other in report.together:
        if (one in flat) != (other in flat):
            found.append(f"apart: {one} | {other}")
    return found


def woven(calm: tuple[str, ...], *parts: str | int) -> tuple[str, ...]:
    """Put calm sentences between *parts*: a number stands for so many of them, in their order."""
    lines: list[str] = []
    at = 0
    for part in parts:
        if isinstance(part, int):
            lines += [calm[(at + n) % len(calm)] for n in range(part)]
            at += part
        else:
            lines.append(part)
    return tuple(lines)
