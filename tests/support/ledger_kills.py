"""Processes that write one ledger and are killed while they do.

Run as a module it is such a process: it writes until it is killed, and notes the ids of calls in a
file of its own as soon as ``flush()`` has acknowledged them.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from langchain_tokenopt.core.records import CallRecord
from langchain_tokenopt.ledger import Ledger, LedgerError, spill
from tests.support.ledger_records import desk_calls

ROOT = Path(__file__).parents[2]


def write_until_killed(ledger_path: str, acknowledged_path: str, seed: int) -> None:
    """Record calls, every tenth of them twice, and note what has been acknowledged."""
    chance = random.Random(seed)
    notes = os.open(acknowledged_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    calls = desk_calls(10**7, seed=seed)
    ledger = _opened(ledger_path)
    while True:
        batch = [next(calls) for _ in range(chance.randrange(1, 400))]
        for call in batch:
            ledger.record(call)
            if chance.random() < 0.1:
                ledger.record(call)
        with suppress(LedgerError):  # a server that is away: what waits is written later
            ledger.flush()
            os.write(notes, b"".join(call.run_id.bytes for call in batch))


def _opened(place: str) -> Ledger:
    while True:
        try:
            return Ledger(place, max_pending=500)
        except LedgerError:
            time.sleep(0.05)


@dataclass
class KillReport:
    """What became of a ledger whose writers were killed."""

    kills: int
    acknowledged: set[bytes]
    """What ``flush()`` said was there, and what stood in files in the end."""
    spooled: int
    files_left: int
    """After the ledger was opened again."""
    stored: list[bytes]
    findings: list[str]
    counted_calls: int
    """What the rollups say."""

    @property
    def missing(self) -> int:
        """Calls that ``flush()`` had acknowledged and that are not there."""
        return len(self.acknowledged - set(self.stored))

    @property
    def doubled(self) -> int:
        """Calls that are there, or are counted, more often than once."""
        distinct = len(set(self.stored))
        return len(self.stored) - distinct + self.counted_calls - distinct


def kill_writers(
    folder: Path,
    *,
    kills: int,
    processes: int,
    seed: int,
    place: str | None = None,
    disturb: Callable[[random.Random], None] = lambda chance: None,
) -> KillReport:
    """Let *processes* write one ledger, kill one at a random moment, replace it, and so on.

    In the end all that are left are killed at once.

    Args:
        folder: Where notes are kept, and what could not be written.
        kills: How often one is killed.
        processes: That write at the same time.
        seed: Of the moments.
        place: Of the ledger; by default a file.
        disturb: What else happens after each kill.
    """
    chance = random.Random(seed)
    path = place or str(folder / "killed.db")
    state = {"XDG_STATE_HOME": str(folder / "state"), "TMPDIR": str(folder)}
    notes: list[Path] = []

    def start() -> subprocess.Popen[bytes]:
        notes.append(folder / f"acknowledged-{len(notes)}")
        arguments = [path, str(notes[-1]), str(seed * 1_000 + len(notes))]
        return subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.support.ledger_kills", *arguments],
            cwd=ROOT,
            env=os.environ | state,
        )

    def wait_for_work() -> None:
        deadline = time.monotonic() + 120
        while not (notes[-1].exists() and notes[-1].stat().st_size):
            if time.monotonic() > deadline:
                raise TimeoutError("a writer has not written anything in 120 seconds")
            time.sleep(0.005)

    writers = [start() for _ in range(processes)]
    try:
        wait_for_work()
        for _ in range(kills):
            time.sleep(chance.uniform(0.0, 0.4))
            victim = chance.randrange(processes)
            _kill(writers[victim])
            disturb(chance)
            writers[victim] = start()
            wait_for_work()
    finally:
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
        for writer in writers:
            writer.wait()
    left = [*folder.rglob("*.unwritten-*.jsonl")]
    spooled = {
        event.run_id.bytes
        for file in left
        for event in spill.read(file)
        if isinstance(event, CallRecord)
    }
    with _in(state), Ledger(path) as ledger:
        return KillReport(
            kills=kills + processes,
            acknowledged=spooled.union(*map(_ids_in, notes)),
            spooled=len(spooled),
            files_left=sum(file.exists() for file in left),
            stored=[call.run_id.bytes for call in ledger.calls()],
            findings=ledger.check(),
            counted_calls=ledger.totals().calls,
        )


@contextmanager
def _in(environment: dict[str, str]) -> Iterator[None]:
    """Let this process look for files where the writers have left them."""
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _kill(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


def _ids_in(note: Path) -> list[bytes]:
    content = note.read_bytes() if note.exists() else b""
    whole = len(content) - len(content) % 16
    return [UUID(bytes=content[at : at + 16]).bytes for at in range(0, whole, 16)]


if __name__ == "__main__":
    write_until_killed(sys.argv[1], sys.argv[2], int(sys.argv[3]))
