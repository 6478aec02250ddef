"""What calls that really happened teach about tools."""

from __future__ import annotations

from pathlib import Path

__all__ = ["LearnedTools"]


class LearnedTools:
    """Uses of tools, by namespace.

    Args:
        path: A file that processes share; ``None`` keeps everything in memory.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self._path = path

    def forget(self, namespace: str | None = None, tool: str | None = None) -> None:
        """Forget what was learned, of one namespace or tool where one is named."""

    def close(self) -> None:
        """Let go of the file."""
