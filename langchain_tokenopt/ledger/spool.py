"""Where events wait that cannot be written: files beside the ledger, or in a folder of the user's.

For a ledger on a server they lie in ``langchain-tokenopt`` in the user's folder of states
(``XDG_STATE_HOME``, https://specifications.freedesktop.org/basedir-spec/latest/, read 2026-11-30),
or where that cannot be written among temporary files. Their names tell of which database they are.
"""

from __future__ import annotations

import os
import tempfile
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from langchain_tokenopt.core.records import UsageEvent
from langchain_tokenopt.ledger import spill
from langchain_tokenopt.ledger.database import Database

__all__ = ["EVENTS_PER_FILE", "Spool"]

EVENTS_PER_FILE: Final = 250
"""Small files: where one large file has no room, some small ones may have."""


class Spool:
    """The files of one ledger that this process knows of.

    Args:
        database: Of the ledger.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.files: deque[Path] = deque()
        """What could not be written and has not been taken in since."""

    def put(self, events: Sequence[UsageEvent]) -> bool:
        """Write events to a file of their own; say whether there was room."""
        file = spill.write(events, self._database.spool_name, self._folders())
        if file is not None:
            self.files.append(file)
        return file is not None

    def look(self) -> None:
        """Find what earlier processes have left."""
        found = spill.waiting(self._database.spool_name, self._folders())
        self.files.extend(file for file in found if file not in self.files)

    def told(self, moved: int) -> str:
        """Return the sentence that says where *moved* events are, and others before."""
        if not self.files:
            return ""
        what = f"{moved:,} events" if moved else "Events"
        first, others = self.files[0], len(self.files) - 1
        named = f"{first} and {others:,} more" if others else str(first)
        return (
            f"{what} wait in {named}; they are taken in when it can be written, by the next Ledger "
            f"opened here too."
        )

    def _folders(self) -> list[Path]:
        path, temporary = self._database.path, Path(tempfile.gettempdir())
        if path is not None:
            return [path.absolute().parent, temporary]
        return [*_state_folder(), temporary]


def _state_folder() -> list[Path]:
    """Return the user's folder for this, if there can be one."""
    base = os.environ.get("LOCALAPPDATA") or os.environ.get("XDG_STATE_HOME")
    home = os.path.expanduser("~")  # "~" itself when there is no home
    if not base and home == "~":
        return []
    folder = Path(base or os.path.join(home, ".local", "state")) / "langchain-tokenopt"
    with suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return [folder]
    return []
