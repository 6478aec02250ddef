"""Write the measured tables into the README.

Run:     make tables          (python -m tests.benchmarks.tables)

A table stands between ``<!-- table: name -->`` and ``<!-- end -->`` and comes from
``results/<name>.md`` where the benchmark writes one, else from a function here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.benchmarks.results import RESULTS

README = Path(__file__).parents[2] / "README.md"
_MARKED = re.compile(r"(<!-- table: (?P<name>[\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(text: str) -> str:
    """Return *text* with every marked table made anew from the result files."""
    return _MARKED.sub(lambda found: f"{found[1]}{table(found['name'])}\n{found[3]}", text)


def table(name: str) -> str:
    """Return the Markdown of one table."""
    written = RESULTS / f"{name}.md"
    if written.is_file():
        return written.read_text(encoding="utf-8").strip()
    result = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return f"{_TABLES[name](result['figures'])}\n\n{_conditions(result)}"


def _conditions(result: dict[str, Any]) -> str:
    where = result["conditions"]
    versions = ", ".join(f"{name} {v}" for name, v in where["versions"].items() if v)
    return (
        f"`{result['command']}`: python {where['python']}, {versions}; "
        f"{where['cpus']} shared CPUs, {where['date']}."
    )


def _usage(figures: dict[str, Any]) -> str:
    core, ours = "langchain-core UsageMetadataCallbackHandler", "TokenUsageCallbackHandler"
    lines = [
        "| added to a call (median) | langchain-core's handler "
        "| TokenUsageCallbackHandler | ratio |",
        "|---|---|---|---|",
    ]
    titles = {
        "short_prompt": "a short prompt",
        "200_messages_of_4_kb": "200 messages of 4 KB",
        "ten_node_graph": "a graph of ten nodes that call a model",
    }
    for key, title in titles.items():
        theirs, mine = figures[key][core], figures[key][ours]
        lines.append(
            f"| {title} | {theirs['overhead_us']:,.0f} us | {mine['overhead_us']:,.0f} us "
            f"| {mine['ratio_to_rival']:.2f} |"
        )
    seam = figures["seam"]["three no-op stages"]["overhead_us"]
    lines.append(f"| `optimize` with three stages that do nothing | | {seam:,.0f} us | |")
    return "\n".join(lines)


_TABLES: dict[str, Callable[[dict[str, Any]], str]] = {"usage": _usage}


if __name__ == "__main__":
    README.write_text(filled(README.read_text(encoding="utf-8")), encoding="utf-8")
