"""Two workers behind a load balancer, one database: what is held, shared and lost."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from langchain_tokenopt import Ledger
from langchain_tokenopt.budget import reports_in

START_SECONDS = 60.0
ANSWER = "The train to Bern leaves at noon."


class Worker:
    """One process of the example."""

    def __init__(self, database: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "langchain_tokenopt.examples.chat_worker"),
                str(self.port),
            ],
            env={**os.environ, "TOKENOPT_DATABASE": database},
            cwd=Path(__file__).parents[2],
        )

    def get(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                assert self.get("/health")[0] == 200
                return
            except OSError:
                assert self.process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self.process.poll() is None:
            self.process.send_signal(how)
        self.process.wait(30)


class LoadBalancer:
    """Asks one worker after the other; where one does not answer, the next."""

    def __init__(self, workers: list[Worker]) -> None:
        self._workers = workers
        self._turns = itertools.count()

    def ask(self, question: str, user: str = "ada") -> tuple[int, dict[str, Any]]:
        path = "/ask?" + urlencode({"user": user, "question": f"{question} {ANSWER}"})
        turn = next(self._turns)
        for other in range(len(self._workers)):
            worker = self._workers[(turn + other) % len(self._workers)]
            try:
                status, body = worker.get(path)
            except (OSError, http.client.HTTPException):
                continue
            return status, json.loads(body)
        raise ConnectionError("no worker is left")


@contextmanager
def two_workers(database: str) -> Iterator[list[Worker]]:
    workers = [Worker(database) for _ in range(2)]
    try:
        for worker in workers:
            worker.wait()
        yield workers
    finally:
        for worker in workers:
            worker.end(signal.SIGKILL)


@pytest.mark.timeout(180)
def test_two_workers_share_a_budget_and_a_cache_and_one_may_go_away(postgres_url):
    """A day's budget is held across both, an answer is served by both, and nothing is lost."""
    with two_workers(postgres_url) as workers:
        balancer = LoadBalancer(workers)

        first, again = balancer.ask("When to Bern?"), balancer.ask("When to Bern?")
        assert (first[0], again[0]) == (200, 200)
        assert first[1]["worker"] != again[1]["worker"]
        assert (first[1]["cached"], again[1]["cached"]) == (False, True)
        assert first[1]["answer"] == again[1]["answer"]
        other = balancer.ask("When to Bern?", user="bob")[1]
        assert not other["cached"]  # what is Ada's is nobody else's

        with ThreadPoolExecutor(6) as pool:
            said = [*pool.map(balancer.ask, (f"When to Bern, {n}?" for n in range(120)))]
        assert {200, 429} == {status for status, _ in said}
        assert 2 == len({body["worker"] for status, body in said if status == 200})

        def ask_bob(number: int) -> tuple[int, dict[str, Any]]:
            if number == 3:
                workers[0].process.send_signal(signal.SIGTERM)
            return balancer.ask(f"When to Bern, {number}?", user="bob")

        with ThreadPoolExecutor(2) as pool:
            after = [*pool.map(ask_bob, range(10))]
        assert {200} == {status for status, _ in after}, after
        workers[0].end()
        workers[1].end()

    answered = [1 for status, body in said if status == 200 and not body["cached"]]
    with Ledger(postgres_url) as ledger:
        ada, bob = ledger.totals(user="ada"), ledger.totals(user="bob")
        spent = {user: totals.total_tokens for user, totals in ledger.by("user").items()}
    refused = sum(status == 429 for status, _ in said)
    assert (2 + len(said), 1) == (ada.calls, ada.cached_calls)
    assert refused == len(said) - len(answered)
    assert 1 + len(after) == bob.calls
    accounts = {r.owner: r for r in reports_in(postgres_url) if r.per == "user"}
    assert spent == {user: account.spent_tokens for user, account in accounts.items()}
    assert accounts["ada"].spent_tokens <= accounts["ada"].total_tokens == 2_000
    assert not any(account.held_tokens for account in accounts.values())
