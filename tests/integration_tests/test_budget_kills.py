"""Killed at every step of a graph in turn, and resumed: the account and the server's bill agree."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.budget_kills import NODES, PHASES, PLAN
from tests.support.model_server import ModelServer, Reply, Request

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")

REPOSITORY = Path(__file__).parents[2]


class Runs:
    """Processes that run one graph, one after the other."""

    def __init__(self, template: subprocess.Popen[str], server: ModelServer, store: str) -> None:
        self._template = template
        self._server = server
        self._store = store
        self._in_flight = False
        self._process = 0
        server.answer = self._answer

    def _answer(self, request: Request) -> Reply:
        if self._in_flight:
            self._in_flight = False
            os.kill(self._process, signal.SIGKILL)
        return Reply(words=40)

    def until(self, where: str) -> int:
        """Run until there, and return the exit status."""
        assert self._template.stdin is not None
        assert self._template.stdout is not None
        self._in_flight = where.endswith("in flight")
        self._process = -1
        self._template.stdin.write(f"{where}\n")
        self._template.stdin.flush()
        self._process = int(self._template.stdout.readline())
        return int(self._template.stdout.readline())

    @property
    def billed(self) -> int:
        """Return the server's bill, once it has dealt with everything that it was asked."""
        until = time.monotonic() + 5
        while len(self._server.billed) < len(self._server.requests) and time.monotonic() < until:
            time.sleep(0.005)
        return sum(usage.total_tokens for usage in self._server.billed)

    @property
    def charged(self) -> int:
        """Return what the account says is gone: spent, or held for those that were killed."""
        with PLAN.run(thread_id="t", path=self._store) as run:
            account = run.report().account
        return account.spent_tokens + account.held_tokens


@contextmanager
def _runs(server: ModelServer, folder: Path, mode: str, store: str | None = None) -> Iterator[Runs]:
    store = store or str(folder / "budget.db")
    command = [sys.executable, "-m", "tests.support.budget_kills", server.url, store]
    with subprocess.Popen(
        [*command, str(folder / "checkpoints"), mode],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as template:
        yield Runs(template, server, store)
        assert template.stdin is not None
        template.stdin.close()


@pytest.mark.parametrize("mode", ["plain", "async", "stream", "mirror"])
def test_killed_at_every_step_in_turn(model_server: ModelServer, tmp_path: Path, mode: str) -> None:
    """Twenty times in one run: never below the bill, and above it only by calls cut in flight."""
    _kill_at_every_step(model_server, tmp_path, mode)


@pytest.mark.parametrize("mode", ["plain", "async"])
def test_killed_at_every_step_on_a_server(
    model_server: ModelServer, tmp_path: Path, postgres_url: str, mode: str
) -> None:
    """The same where the account is in a database."""
    _kill_at_every_step(model_server, tmp_path, mode, postgres_url)


def _kill_at_every_step(
    model_server: ModelServer, folder: Path, mode: str, store: str | None = None
) -> None:
    beyond = 0
    with _runs(model_server, folder, mode, store) as runs:
        for name in NODES:
            for phase in PHASES:
                status = runs.until(f"{name} {phase}")
                more = runs.charged - runs.billed
                where = f"{name} {phase}: {more - beyond:+,} tokens"

                assert (-9 if phase == "in flight" else 9) == status, where
                assert more >= beyond if phase == "in flight" else more == beyond, where
                beyond = more
        assert 0 == runs.until("nobody")

        # Each was asked three times: cut off, answered but not saved, and to the end.
        assert 3 * len(NODES) == len(model_server.requests)
        assert beyond == runs.charged - runs.billed
        assert beyond > 0
