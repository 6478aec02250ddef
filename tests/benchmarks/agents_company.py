"""Our middleware beside each of LangChain's own, before it and behind it, in agents of eight forms.

Run:     python -m tests.benchmarks.agents_company [--quick]
Agents:  see tests/support/agent_forms.py: real ChatOpenAI over HTTP, a scripted server, sync and
         async. One of each of ours; all but the budget have nothing to do.
Ample:   the conversation, the streams and the requests are those of the agent that has LangChain's
         middleware alone, and the budget's report is the bill.
Scarce:  with half of what it needs the agent ends with an answer, no call of a tool left open, and
         the bill stays within the total.
Output:  results/agents_company.json and .md
"""

from __future__ import annotations

import argparse
import warnings
from typing import Any

from tests.benchmarks.results import RESULTS, write_result
from tests.support.agent_forms import ASKING, BUILT_IN, FORMS, UNPAID, faults
from tests.support.model_server import ModelServer

COMMAND = "python -m tests.benchmarks.agents_company"
NOTES = {
    **dict.fromkeys(ASKING, "asks a model around calls: put the budget first, and it pays"),
    **dict.fromkeys(UNPAID, "asks a model in a node of its own: paid inside of `plan.run()`"),
}


def measured(server: ModelServer, *, quick: bool) -> dict[str, Any]:
    """Return by middleware and place how many agents were as they should be, and what was not."""
    figures: dict[str, Any] = {"forms": [*FORMS], "middleware": {}, "wrong": []}
    forms = [*FORMS.values()][:2] if quick else [*FORMS.values()]
    for name in BUILT_IN:
        rows: dict[str, Any] = {}
        for place, behind in (("before", False), ("behind", True)):
            wrong = []
            for form in forms:
                for is_async in (False, True):
                    try:
                        found = [*faults(server, name, form, behind=behind, is_async=is_async)]
                    except Exception as error:
                        found = [f"{limits}: {error!r}" for limits in ("ample", "scarce")]
                    wrong += [
                        (fault.partition(":")[0], form.name, is_async, fault) for fault in found
                    ]
            agents = 2 * len(forms)
            rows[place] = {"agents": agents} | {
                limits: agents - len({each[1:3] for each in wrong if each[0] == limits})
                for limits in ("ample", "scarce")
            }
            figures["wrong"] += [(name, place, *each) for each in wrong]
        figures["middleware"][name] = rows
        print(name, rows, flush=True)
    return figures


def table(figures: dict[str, Any]) -> str:
    """Write the figures as Markdown."""
    lines = [
        "| LangChain's | ours before: ample, scarce | ours behind: ample, scarce | |",
        "|---|---|---|---|",
    ]
    for name, rows in figures["middleware"].items():
        cells = (
            f"{row['ample']}, {row['scarce']} of {row['agents']}"
            for row in (rows["before"], rows["behind"])
        )
        lines.append(f"| {name} | {' | '.join(cells)} | {NOTES.get(name, '')} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure, and write the figures and their table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    warnings.simplefilter("ignore")
    with ModelServer() as server:
        figures = measured(server, quick=quick)
    if not quick:
        write_result("agents_company", COMMAND, figures, "langchain")
        (RESULTS / "agents_company.md").write_text(table(figures), encoding="utf-8")
    return int(bool(figures["wrong"]))


if __name__ == "__main__":
    raise SystemExit(main())
