"""Runs the notebooks, each in an empty folder: python -m tests.support.notebooks [--write].

With ``--write`` what they print and draw is kept in them, without anything that changes from run to
run for no reason. Nothing may be printed on stderr: a reader would take it for a fault.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

__all__ = ["NOTEBOOKS", "run", "unclean"]

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


def run(path: Path) -> Any:
    """Return the notebook with what its cells give; raise where a cell does."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            timeout=300,
            record_timing=False,
            resources={"metadata": {"path": folder}},
        )
        client.execute()
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"
    notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"]}
    return notebook


def unclean(notebook: Any) -> list[str]:
    """Return what a reader should not see among the outputs."""
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    texts = [
        str(out.get("text", "")) + str(out.get("data", {}).get("text/plain", "")) for out in outputs
    ]
    return [out["text"] for out in outputs if out.get("name") == "stderr"] + [
        text for text in texts if "\x1b" in text or os.sep + "tmp" in text or " at 0x" in text
    ]


def main(arguments: list[str]) -> int:
    """Run all notebooks, or those that are named."""
    failed = 0
    for path in [
        one for one in NOTEBOOKS if not set(arguments) - {"--write"} or one.stem[:2] in arguments
    ]:
        began = time.monotonic()
        notebook = run(path)
        faults = unclean(notebook)
        failed += bool(faults)
        print(f"{path.name}: {time.monotonic() - began:.0f} s", *faults, sep="\n", flush=True)
        if "--write" in arguments:
            nbformat.write(notebook, path)
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
