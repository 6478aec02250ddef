"""Where benchmarks leave their figures, and under what conditions they were taken."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

__all__ = ["RESULTS", "conditions", "write_result"]

RESULTS = Path(os.environ.get("TOKENOPT_RESULTS") or Path(__file__).parent / "results")
PACKAGES = ("langchain-core", "langgraph", "langchain-openai", "tiktoken", "numpy", "faiss-cpu")


def conditions(*packages: str) -> dict[str, Any]:
    """Return the machine, the versions and the commit of a measurement."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "python": platform.python_version(),
        "system": platform.system(),
        "cpus": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "versions": {name: _version(name) for name in (*PACKAGES, *packages)},
        "commit": _commit(),
    }


def write_result(name: str, command: str, figures: Mapping[str, Any], *packages: str) -> Path:
    """Write *figures* to ``results/<name>.json`` with the command that produced them."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    content = {"command": command, "conditions": conditions(*packages), "figures": figures}
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    asked = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return asked.stdout.strip() or None
