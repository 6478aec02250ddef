"""A browser that looks at the dashboard, and notices whatever a user would not forgive."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from langchain_tokenopt.dashboard import make_app
from tests.support.dashboard_files import (
    budget_store,
    busy_ledger,
    cache_file,
    comparison_file,
    guard_file,
    hostile_ledger,
)

ROOT = Path(__file__).parents[2]
AXE = Path(os.environ.get("AXE_CORE", ROOT / ".browser/node_modules/axe-core/axe.min.js"))
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
READY = "main:not(:has(.waiting, [aria-busy]))"
"""A page that shows all of its parts."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave these tests out unless they are asked for: -m browser. They need a Chromium."""
    if "browser" in config.option.markexpr:
        return
    left_out = [item for item in items if item.get_closest_marker("browser")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A running Chromium."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("chromium-browser")
    assert program is not None, "there is no Chromium: make test-browser installs it"
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, args=list(QUIET))
        yield running
        running.close()


class Site:
    """A dashboard that serves on a port of its own."""

    def __init__(self, ledger: Path, port: int = 0, **beside: Any) -> None:
        self.ledger = ledger
        app = make_app(str(ledger), **beside)
        config = uvicorn.Config(
            app, port=port, log_level="error", ws="none", timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)
        self.port: int = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        """Stop serving."""
        self._server.should_exit = True
        self._thread.join()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Serves ledgers until the end of the test."""
    running: list[Site] = []

    def serve(ledger: Path, **options: Any) -> Site:
        running.append(Site(ledger, **options))
        return running[-1]

    yield serve
    for each in running:
        each.close()


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a ledger of each kind, and what is shown beside."""
    folder = tmp_path_factory.mktemp("files")
    busy_ledger(folder / "day.db", 600, 2.5)
    hostile_ledger(folder / "hostile.db")
    budget_store(folder / "budgets.db")
    cache_file(folder / "cache.db")
    guard_file(folder / "guard.db")
    comparison_file(folder / "verdict.json")
    return folder


@pytest.fixture
def beside(files: Path) -> dict[str, Any]:
    """What is shown beside a ledger."""
    named = {name: str(files / f"{name}.db") for name in ("budgets", "cache", "guard")}
    return {**named, "comparisons": [str(files / "verdict.json")]}


class Viewer:
    """Somebody who looks at a page, and what went wrong meanwhile."""

    def __init__(self, chromium: Any, base: str, width: int, scheme: str) -> None:
        self.base = base
        self._context = chromium.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme
        )
        self._context.set_default_timeout(20_000)
        self.page = self._context.new_page()
        self.wrong: list[str] = []
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        self.page.on("dialog", lambda dialog: self.wrong.append(f"dialog: {dialog.message}"))
        self.page.on("request", self._refuse_foreign)

    def _note(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.wrong.append(f"{message.type}: {message.text}")

    def _refuse_foreign(self, request: Any) -> None:
        if not request.url.startswith((self.base, "data:", "blob:")):
            self.wrong.append(f"foreign: {request.url}")

    def goto(self, path: str = "/") -> Viewer:
        """Open a page and wait until it shows everything."""
        self.page.goto(self.base + path)
        return self.ready()

    def ready(self) -> Viewer:
        """Wait until the page shows everything."""
        self.page.wait_for_selector(READY)
        return self

    def violations(self) -> list[tuple[str, int, str]]:
        """Return what axe finds: the rule, how often, and the first place."""
        assert AXE.is_file(), f"axe-core is not at {AXE}: run make test-browser, or set AXE_CORE"
        self.page.evaluate(AXE.read_text(encoding="utf-8"))
        found = self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        return [(v["id"], len(v["nodes"]), v["nodes"][0]["html"]) for v in found["violations"]]

    def overflow(self) -> int:
        """Return by how much the page is wider than the window."""
        found: int = self.page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        return found

    def close(self) -> None:
        """Close the window."""
        self._context.close()


@pytest.fixture
def look(chromium: Any) -> Iterator[Callable[..., Viewer]]:
    """Opens pages; a test during which anything went wrong fails."""
    viewers: list[Viewer] = []

    def open_page(site: Site, path: str = "/", width: int = 1280, scheme: str = "light") -> Viewer:
        viewers.append(Viewer(chromium, site.url, width, scheme))
        return viewers[-1].goto(path)

    yield open_page
    wrong = [said for viewer in viewers for said in viewer.wrong]
    for viewer in viewers:
        viewer.close()
    assert wrong == []
