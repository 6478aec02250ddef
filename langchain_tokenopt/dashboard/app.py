"""The web application: a page, its data, new calls as they come, and the calls as CSV.

It only reads, answers only to the names that it is meant to be called by (a page elsewhere could
otherwise point its own name here), and lets the page load nothing from anywhere else.
"""

from __future__ import annotations

import csv
import io
import secrets
import threading
from collections import OrderedDict
from collections.abc import Collection, Iterator
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jinja2
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import (
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from langchain_tokenopt.core.printable import disarmed
from langchain_tokenopt.dashboard.data import FILTERS, RANGES, data_of, period_of, problem_of
from langchain_tokenopt.dashboard.live import Feed
from langchain_tokenopt.ledger import Ledger, LedgerError
from langchain_tokenopt.ledger.flat_rows import flat_row
from langchain_tokenopt.pricing.rate_card import default_rate_card

__all__ = ["make_app"]

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
"""Plotly writes its styles into the page; nothing else is allowed in line."""
_HEADERS = {
    b"content-security-policy": POLICY.encode(),
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-resource-policy": b"same-origin",
}
_COOKIE = "tokenopt_token"
_KINDS = {"css": "text/css", "js": "text/javascript"}
_OWN = files("langchain_tokenopt.dashboard")
_REMEMBERED = 32


def make_app(
    ledger: str,
    *,
    token: str | None = None,
    hosts: Collection[str] = ("127.0.0.1", "localhost", "[::1]"),
) -> Starlette:
    """Return the dashboard as an application for any ASGI server.

    Raises:
        ImportError: plotly, whose script the page shows charts with, is not installed.

    Args:
        ledger: File or URL of the ledger. It may come to be later.
        token: When given, whoever has no cookie with it must bring it: ``/?token=...``.
        hosts: Names under which it may be called, without the port; empty: any.
    """
    _plotly()
    pages = _Pages(ledger)
    routes = [
        Route("/", pages.page),
        Route("/data", pages.data),
        Route("/events", pages.events),
        Route("/calls.csv", pages.calls),
        Route("/static/{name}", pages.static),
    ]
    middleware = [Middleware(_Guard, token=token, hosts=frozenset(hosts)), Middleware(_Zip)]
    return Starlette(routes=routes, middleware=middleware)


class _Guard:
    """Asks for the token and the name, and tells browsers what the page may do."""

    def __init__(self, app: ASGIApp, token: str | None, hosts: frozenset[str]) -> None:
        self._app = app
        self._token = token
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *_HEADERS.items()]
            await send(message)

        answer: ASGIApp = self._refusal(Request(scope)) or self._app
        await answer(scope, receive, guarded)

    def _refusal(self, request: Request) -> Response | None:
        host = request.headers.get("host", "")
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
        if self._hosts and name not in self._hosts:
            return PlainTextResponse(f"This dashboard is not called {name!r}.", 403)
        if self._token is None or self._is_right(request.cookies.get(_COOKIE, "")):
            return None
        if self._is_right(request.query_params.get("token", "")):
            response = RedirectResponse("/", 303)
            response.set_cookie(_COOKIE, self._token, httponly=True, samesite="strict")
            return response
        return PlainTextResponse("The token is missing: open the address that was printed.", 401)

    def _is_right(self, token: str) -> bool:
        return secrets.compare_digest(token.encode(), (self._token or "").encode())


class _Zip(GZipMiddleware):
    """Compress what is large; events must not wait for more of them."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("path") in ("/events", "/calls.csv"):
            await self.app(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


class _Pages:
    def __init__(self, location: str) -> None:
        self._location = location
        self._feed = Feed(location)
        self._known: OrderedDict[tuple[Any, ...], dict[str, Any]] = OrderedDict()
        self._lock = threading.Lock()
        # Prices take a second to load: by the time somebody looks, they are there.
        threading.Thread(target=default_rate_card().rates, args=("gpt-4o",), daemon=True).start()
        text = (_OWN / "templates" / "page.html").read_text(encoding="utf-8")
        self._template = jinja2.Environment(autoescape=True).from_string(text)

    def page(self, request: Request) -> Response:
        """The page itself; everything in it comes later."""
        text = self._template.render(ranges=list(RANGES), filters=FILTERS)
        return Response(text, media_type="text/html", headers={"cache-control": "no-store"})

    def static(self, request: Request) -> Response:
        """Script and style: our own, and plotly's from its package."""
        name = request.path_params["name"]
        if name == "plotly.min.js":
            where = _plotly() / "package_data" / name
        elif name in ("dashboard.js", "dashboard.css"):
            where = _OWN / "static" / name
        else:
            return PlainTextResponse("There is no such file.", 404)
        kind = _KINDS[name.rpartition(".")[2]]
        age = "max-age=86400" if name.startswith("plotly") else "no-cache"
        return Response(where.read_bytes(), media_type=kind, headers={"cache-control": age})

    def data(self, request: Request) -> Response:
        """Figures of a period; asked once for all who look at the same."""
        query = dict(request.query_params)
        try:
            with Ledger(self._location, read_only=True) as ledger:
                key = (ledger.last_call(), query.get("range"), *(query.get(n) for n in FILTERS))
                with self._lock:  # several viewers of one page wait for one answer
                    found = self._known.get(key)
                    if found is None:
                        found = self._known[key] = data_of(ledger, query)
                        while len(self._known) > _REMEMBERED:
                            self._known.popitem(last=False)
        except LedgerError as error:
            found = problem_of(error, self._location)
        return JSONResponse(found, headers={"cache-control": "no-store"})

    async def events(self, request: Request) -> Response:
        """New calls, as server-sent events."""
        seen = request.headers.get("last-event-id", "")
        after = int(seen) if seen.isdecimal() and len(seen) < 19 else None
        return StreamingResponse(
            self._feed.events(after),
            media_type="text/event-stream",
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )

    def calls(self, request: Request) -> Response:
        """Every call of the period, as a file."""
        try:
            with Ledger(self._location, read_only=True) as ledger:
                ledger.last_call()
        except LedgerError as error:
            return PlainTextResponse(str(error), 404)
        since, filters = period_of(dict(request.query_params))
        return StreamingResponse(
            _csv(self._location, since, filters),
            media_type="text/csv; charset=utf-8",
            headers={"content-disposition": 'attachment; filename="calls.csv"'},
        )


def _plotly() -> Path:
    """Return the folder of plotly, which need not be imported."""
    found = find_spec("plotly")
    if found is None or found.origin is None:
        raise ImportError(
            'the dashboard needs plotly. Install it: pip install "langchain-tokenopt[dashboard]".',
            name="plotly",
        )
    return Path(found.origin).parent


def _csv(location: str, since: Any, filters: Any) -> Iterator[str]:
    line = io.StringIO()
    writer = csv.writer(line, lineterminator="\n")
    with Ledger(location, read_only=True) as ledger:
        for number, call in enumerate(ledger.calls(since=since, **filters)):
            row = flat_row(call)
            if not number:
                writer.writerow(row)
            writer.writerow(disarmed(row).values())
            yield line.getvalue()
            line.seek(0)
            line.truncate()
