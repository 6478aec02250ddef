"""What showing fewer tools must never break, as small programs that know the right outcome.

Written against the public promise alone (``from langchain_tokenopt import ToolSelector, optimize``):
a set that only grows, calls that stay answerable, tools that must stay, ``find_more_tools`` that the
application never sees, and bad input that ends in a documented outcome. Each function raises
``AssertionError`` when the promise is broken.
"""

from __future__ import annotations

from tests.judge import tools_input, tools_showing, tools_stuck
from tests.judge.tools_kit import CASES, report

__all__ = ["CASES", "MODULES", "report"]

MODULES = (tools_showing, tools_stuck, tools_input)
