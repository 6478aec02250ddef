"""Text that steers nothing: neither a terminal nor a spreadsheet."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["STEERING_CHARACTERS", "disarmed", "printable"]

STEERING_CHARACTERS = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""Controls, and what breaks lines or turns the direction of what follows."""

_FORMULA = ("=", "+", "-", "@")


def printable(text: str) -> str:
    r"""Return *text* without what would steer a terminal, or cannot be written.

    Example:
        >>> printable("red \x1b[31m"), printable("\u202elive")
        ('red \ufffd[31m', '\ufffdlive')
    """
    return STEERING_CHARACTERS.sub("\ufffd", text)


def disarmed(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row for a CSV file: text in it is neither a control nor a formula.

    Source: https://owasp.org/www-community/attacks/CSV_Injection

    Example:
        >>> disarmed({"agent": "=1+1", "tokens": -5})
        {'agent': "'=1+1", 'tokens': -5}
    """
    cells = {name: printable(v) if isinstance(v, str) else v for name, v in row.items()}
    return {
        name: f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
        for name, value in cells.items()
    }
