"""A line is not kept without the line that it stands under, nor a section without its title."""

from __future__ import annotations

import pytest

from langchain_tokenopt.compress import PromptCompressor
from langchain_tokenopt.counting.tokens import counter_for

COUNT = counter_for("o200k_base").count


def _left(text: str, share: float) -> str:
    left = PromptCompressor(int(COUNT(text).tokens * share), model="o200k_base").invoke(text)
    assert isinstance(left, str)
    return left


TEXTS = {
    "calls of Java": (
        'Exception in thread "main" java.lang.LampError: number {n}\n',
        "\tat org.lamp.Lamp{n}.light{k}(Lamp.java:{k})\n",
    ),
    "calls of C#": (
        "System.LampError: number {n} went out.\n",
        "   at Lamps.Lamp{n}.Light{k}(String name) in C:\\\\lamps\\\\lamp{n}.cs:line {k}\n",
    ),
    "findings": ("/home/lamps/lamp{n}.js\n", "  {k}:5  error  Lamp {n} is never lit  no-lamp\n"),
    "commits": (
        "commit {n:040x}\nAuthor: Ada <ada@lamps.org>\nDate:   Mon Feb 3 10:11:12 2025\n\n",
        "    Light lamp {n} of the {k}th floor.\n",
    ),
    "packages": ("├─┬ lamp{n}@1.{n}.0\n", "│ ├── bulb{n}@{k}.0.1\n"),
    "versions": ("## {n}.0.0\n\n### Fixed\n\n", "- Lamp {n} of the {k}th floor burns again\n"),
}


@pytest.mark.parametrize("parts", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("share", [0.5, 0.2])
def test_what_stands_under_a_line_is_kept_with_it(parts: tuple[str, str], share: float) -> None:
    """Each under its own, of twenty that look alike."""
    above, below = parts
    heads = {n: above.format(n=n) for n in range(10, 30)}
    text = "\n".join(
        h + "".join(below.format(n=n, k=k) for k in range(6)) for n, h in heads.items()
    )

    left = _left(text, share)

    assert left.strip()
    for n, head in heads.items():
        lines = [line.strip() for k in range(6) for line in below.format(n=n, k=k).splitlines()]
        rest = left[left.find(head.strip()) :] if head.strip() in left else ""
        for line in lines:
            assert line not in left or line in rest
