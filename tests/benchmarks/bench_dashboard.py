"""The dashboard over a month of a million calls: what a viewer waits for, and the writer does not.

Run:     make bench-dashboard  (python -m tests.benchmarks.bench_dashboard [--calls N] [--ledger F])
Data:    a made-up month of a trading desk of ten agents (tests/support/dashboard_files.py).
Rule:    a real Chromium on this machine, which shares its cores with the server and the writer.
         First paint is Chromium's own figure; "whole" is until the last part of the page stands
         there. Before every load and every change of the range a call is recorded, so that no
         answer is kept from before. Event to screen: from before ``record()`` to the row in the
         page, while 49 other viewers hear of every call as well. The writer's waits are those of
         ``record(); flush()``, alone and while ten readers ask for whole pages without a pause.
Output:  tests/benchmarks/results/dashboard.json.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Page, sync_playwright

from langchain_tokenopt.core.attribution import Attribution
from langchain_tokenopt.core.records import percentile
from langchain_tokenopt.ledger import Ledger
from tests.benchmarks.results import write_result
from tests.browser.conftest import QUIET, READY
from tests.support.dashboard_files import busy_ledger
from tests.support.ledger_records import record

COMMAND = "python -m tests.benchmarks.bench_dashboard"
VIEWERS = 49
_WATCH = """
window.seen = {};
new MutationObserver((changes) => {
  for (const change of changes) for (const row of change.addedNodes)
    window.seen[row.children[1].textContent] = performance.timeOrigin + performance.now();
}).observe(document.getElementById("calls"), {childList: true});
"""


def spread(milliseconds: Sequence[float]) -> dict[str, float]:
    """Return median, 95th of 100, extremes and sample size."""
    p95 = percentile(milliseconds, 0.95)
    return {
        "median": round(statistics.median(milliseconds), 1),
        "p95": round(p95 or 0.0, 1),
        "min": round(min(milliseconds), 1),
        "max": round(max(milliseconds), 1),
        "n": len(milliseconds),
    }


@contextmanager
def served(ledger: Path) -> Iterator[str]:
    """Serve a ledger in a process of its own; yields the address."""
    command = "from langchain_tokenopt.cli import main; main()"
    arguments = ["dashboard", "--ledger", str(ledger), "--port", "0"]
    process = subprocess.Popen(
        [sys.executable, "-c", command, *arguments], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    try:
        yield process.stderr.readline().split(" is at ")[1].split("/ ")[0]
    finally:
        process.terminate()
        process.wait()


class Writer:
    """Records calls one by one."""

    def __init__(self, path: Path) -> None:
        self.ledger = Ledger(path)
        self.count = 0

    def write(self) -> tuple[str, float]:
        """Record a call, and wait until it is there; return its agent and when that began."""
        self.count += 1
        agent, begin = f"agent {self.count}", time.time()
        self.ledger.record(record(started_at=datetime.now(UTC), attribution=Attribution(agent)))
        self.ledger.flush()
        return agent, begin


def loads(page: Page, url: str, writer: Writer, rounds: int) -> dict[str, Any]:
    """Open the page of the month again and again."""
    paints, wholes = [], []
    for _ in range(rounds):
        writer.write()
        begin = time.perf_counter()
        page.goto(f"{url}/?range=30d", wait_until="commit")
        page.wait_for_selector(READY, timeout=120_000)
        wholes.append(1e3 * (time.perf_counter() - begin))
        paints.append(
            page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        )
    return {"first_paint_ms": spread(paints), "whole_ms": spread(wholes)}


def changes(page: Page, writer: Writer, rounds: int) -> dict[str, Any]:
    """Go from one range to another and back."""
    took: dict[str, list[float]] = {"24h": [], "7d": [], "30d": []}
    for _ in range(rounds):
        for name, times in took.items():
            writer.write()
            page.evaluate(
                """name => {
                  window.begun = performance.now();
                  window.done = new Promise(resolve => {
                    const busy = () => document.querySelector("[aria-busy]");
                    const look = () => busy() ? requestAnimationFrame(look)
                      : resolve(performance.now() - window.begun);
                    document.querySelector(`[name=range][value="${name}"]`).click();
                    requestAnimationFrame(look);
                  });
                }""",
                name,
            )
            times.append(page.evaluate("window.done"))
    return {name: spread(times) for name, times in took.items()}


def listen(url: str, heard: list[float], begun: dict[str, float], stop: threading.Event) -> None:
    """Be a viewer: note how long after its recording each call was heard of."""
    with httpx.Client(timeout=60) as client, client.stream("GET", f"{url}/events") as answer:
        for line in answer.iter_lines():
            now = time.time()
            if stop.is_set():
                return
            told = [agent for agent in tuple(begun) if f'"{agent}"' in line]
            heard += [1e3 * (now - begun[agent]) for agent in told]


def events(page: Page, url: str, writer: Writer, rounds: int) -> dict[str, Any]:
    """Record calls that a page and other viewers wait for."""
    page.goto(f"{url}/?range=24h")
    page.wait_for_selector(READY, timeout=120_000)
    page.evaluate(_WATCH)
    heard: list[float] = []
    begun: dict[str, float] = {}
    stop = threading.Event()
    viewers = [
        threading.Thread(target=listen, args=(url, heard, begun, stop), daemon=True)
        for _ in range(VIEWERS)
    ]
    for viewer in viewers:
        viewer.start()
    page.wait_for_timeout(3_000)
    for number in range(writer.count + 1, writer.count + 1 + rounds):
        begun[f"agent {number}"] = time.time()
        writer.write()
        page.wait_for_timeout(250)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and (
        len(heard) < VIEWERS * rounds
        or not page.evaluate("names => names.every(name => name in window.seen)", list(begun))
    ):
        page.wait_for_timeout(100)
    stop.set()
    writer.write()
    seen = page.evaluate("window.seen")
    return {
        "viewers": VIEWERS + 1,
        "to_screen_ms": spread([seen[agent] - 1e3 * at for agent, at in begun.items()]),
        "to_others_ms": spread(heard),
        "lost": VIEWERS * rounds - len(heard),
    }


def waits(url: str, writer: Writer, rounds: int) -> dict[str, Any]:
    """Record calls alone, and while others read."""

    def timed() -> list[float]:
        times = []
        for _ in range(rounds):
            begin = time.perf_counter()
            writer.write()
            times.append(1e3 * (time.perf_counter() - begin))
            time.sleep(0.02)
        return times

    def read(done: Callable[[], bool]) -> None:
        with httpx.Client(timeout=120) as client:
            while not done():
                client.get(f"{url}/part/overview?range=30d")

    alone, stop = timed(), threading.Event()
    readers = [threading.Thread(target=read, args=(stop.is_set,), daemon=True) for _ in range(10)]
    for reader in readers:
        reader.start()
    together = timed()
    stop.set()
    for reader in readers:
        reader.join()
    return {"alone_ms": spread(alone), "with_ten_readers_ms": spread(together)}


def main() -> None:
    """Measure, and write the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--ledger", type=Path, help="One that is there already.")
    parser.add_argument("--rounds", type=int, default=10)
    given = parser.parse_args()
    program = shutil.which("chromium")
    assert program is not None, "there is no Chromium: make test-browser installs it"
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        path = given.ledger or Path(folder) / "month.db"
        if given.ledger is None:
            busy_ledger(path, given.calls, 30)
        writer = Writer(path)
        calls = writer.ledger.totals().calls
        browser = playwright.chromium.launch(executable_path=program, args=list(QUIET))
        with served(path) as url:
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            figures = {
                "calls": calls,
                "page_bytes": sum(
                    int(httpx.get(url + name).headers["content-length"])
                    for name in ("/", "/static/dashboard.css", "/static/dashboard.js")
                ),
                **loads(page, url, writer, given.rounds),
                "range_change_ms": changes(page, writer, given.rounds),
                **events(page, url, writer, 6 * given.rounds),
                "writer": waits(url, writer, 10 * given.rounds),
            }
        browser.close()
        writer.ledger.close()
    print(write_result("dashboard", COMMAND, figures, "starlette", "uvicorn", "playwright"))


if __name__ == "__main__":
    main()
