"""The web application: a page, its parts, new calls as they come, and every table as CSV.

It only reads, answers only to the names that it is meant to be called by (a page elsewhere could
otherwise point its own name here), and lets the page load nothing from anywhere else.
"""

from __future__ import annotations

import csv
import hashlib
import io
import secrets
import threading
from collections.abc import Collection, Iterator, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import jinja2
from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
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
from langchain_tokenopt.dashboard.asked import FILTERS, RANGES, Asked, AskedError
from langchain_tokenopt.dashboard.live import Feed
from langchain_tokenopt.dashboard.parts import PARTS, TABLES, spenders, tiles
from langchain_tokenopt.dashboard.run_page import run_of, run_table
from langchain_tokenopt.dashboard.sources import Sources
from langchain_tokenopt.dashboard.tables import Table, format_cell
from langchain_tokenopt.dashboard.view import View, Views
from langchain_tokenopt.ledger import Ledger, LedgerError
from langchain_tokenopt.ledger.flat_rows import flat_row
from langchain_tokenopt.pricing.rate_card import default_rate_card
from langchain_tokenopt.storage.places import label_of

__all__ = ["make_app"]

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_HEADERS = {
    b"content-security-policy": POLICY.encode(),
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-resource-policy": b"same-origin",
}
_COOKIE = "tokenopt_token"
_THEME_COOKIE = "tokenopt_theme"
_KINDS = {"dashboard.css": "text/css", "dashboard.js": "text/javascript"}
_OWN = files("langchain_tokenopt.dashboard")
_NEVER_KEPT = {"cache-control": "no-store"}


def make_app(
    ledger: str,
    *,
    budgets: str | None = None,
    cache: str | None = None,
    guard: str | None = None,
    comparisons: Sequence[str] = (),
    token: str | None = None,
    hosts: Collection[str] = ("127.0.0.1", "localhost", "[::1]"),
) -> Starlette:
    """Return the dashboard as an application for any ASGI server.

    Args:
        ledger: File or URL of the ledger. It may come to be later.
        budgets: Store of ``plan.run(path=...)``, whose budgets are shown as well.
        cache: File of a ``SemanticCache``, of which audits and the bound are shown.
        guard: File of a ``QualityGuard``.
        comparisons: Files that ``tokenopt compare --json`` has written.
        token: When given, whoever has no cookie with it must bring it: ``/?token=...``.
        hosts: Names under which it may be called, without the port; empty: any.

    Example:
        >>> from starlette.testclient import TestClient
        >>> client = TestClient(make_app("none.db"), base_url="http://127.0.0.1")
        >>> client.get("/data").json()["problem"].split(".")[0]
        'no ledger at none'
    """
    pages = _Pages(ledger, Sources(budgets, cache, guard, tuple(comparisons)))
    routes = [
        Route("/", pages.page),
        Route("/part/{name}", pages.part),
        Route("/run/{run:run}.csv", pages.run_csv),
        Route("/run/{run:run}", pages.run),
        Route("/data", pages.data),
        Route("/events", pages.events),
        Route("/calls.csv", pages.calls),
        Route("/csv/{name}.csv", pages.csv),
        Route("/static/{name}", pages.static),
    ]
    middleware = [Middleware(_Guard, token=token, hosts=frozenset(hosts)), Middleware(_Zip)]
    refusals = {AskedError: _misunderstood}
    app = Starlette(routes=routes, middleware=middleware, exception_handlers=refusals)
    app.state.feed = pages.feed  # which whoever ends the server ends first
    return app


def _misunderstood(request: Request, error: Exception) -> Response:
    return PlainTextResponse(str(error), 400)


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
    def __init__(self, location: str, sources: Sources) -> None:
        self._location = label_of(location)
        self._views = Views(location, sources)
        self.feed = Feed(self._views)
        # Prices take a second to load: by the time somebody looks, they are there.
        threading.Thread(target=default_rate_card().rates, args=("gpt-4o",), daemon=True).start()
        self._templates = jinja2.Environment(
            autoescape=True,
            loader=jinja2.PackageLoader("langchain_tokenopt.dashboard"),
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters["cell"] = format_cell
        self._templates.globals["static"] = _address

    def _html(self, template: str, status: int = 200, **values: Any) -> Response:
        text = self._templates.get_template(template).render(values)
        return Response(text, status, media_type="text/html", headers=_NEVER_KEPT)

    def page(self, request: Request) -> Response:
        """The page itself; everything in it comes later."""
        return self._html(
            "page.html",
            asked=Asked.of(request.query_params),
            ranges=list(RANGES),
            filters=FILTERS,
            parts=list(PARTS),
            ledger=self._location,
            theme=_theme(request),
        )

    def part(self, request: Request) -> Response:
        """A part of the page."""
        name = request.path_params["name"]
        if name not in PARTS:
            return PlainTextResponse("There is no such part.", 404)
        try:
            view = self._views.of(request.query_params, Asked.seen(request.query_params))
            text = view.once(f"html {name}", lambda: self._rendered(name, view))
        except LedgerError as error:
            self._views.forget_ledger()
            text = self._problem(name, str(error))
        return Response(text, media_type="text/html", headers=_NEVER_KEPT)

    def _rendered(self, name: str, view: View) -> str:
        if view.span is None:
            return self._problem(name, "The ledger is there, and no call is in it yet.")
        found = PARTS[name](view)
        if not view.facts.totals.calls and name != "overview":
            return ""
        return self._templates.get_template(f"{name}.html").render(view=view, **found)

    def _problem(self, name: str, problem: str) -> str:
        if name != "overview":
            return ""
        template = self._templates.get_template("problem.html")
        return template.render(problem=problem, ledger=self._location)

    def run(self, request: Request) -> Response:
        """One run, call by call."""
        theme = _theme(request)
        try:
            found = run_of(self._views.ledger(), request.path_params["run"])
        except LedgerError as error:
            self._views.forget_ledger()
            return self._html("run.html", 404, problem=str(error), theme=theme, asked="")
        return self._html("run.html", 200 if "lines" in found else 404, theme=theme, **found)

    def run_csv(self, request: Request) -> Response:
        """The calls of a run, as a file."""
        return self._file(lambda: run_table(self._views.ledger(), request.path_params["run"]))

    def csv(self, request: Request) -> Response:
        """A table, as a file."""
        table = TABLES.get(request.path_params["name"])
        if table is None:
            return PlainTextResponse("There is no such table.", 404)
        return self._file(lambda: table(self._views.of(request.query_params)))

    def _file(self, make: Any) -> Response:
        try:
            table: Table | None = make()
        except LedgerError as error:
            self._views.forget_ledger()
            return PlainTextResponse(str(error), 404)
        if table is None:
            return PlainTextResponse("There is no such run.", 404)
        return Response(table.csv(), media_type="text/csv", headers=_attached(table.name))

    def static(self, request: Request) -> Response:
        """Script and style: an address with their fingerprint never changes."""
        name = request.path_params["name"]
        if name not in _KINDS:
            return PlainTextResponse("There is no such file.", 404)
        kept = "max-age=31536000, immutable" if request.query_params.get("v") else "no-cache"
        return Response(_static(name), media_type=_KINDS[name], headers={"cache-control": kept})

    def data(self, request: Request) -> Response:
        """Figures of a period, for programs."""
        try:
            found = self._figures(self._views.of(request.query_params))
        except LedgerError as error:
            self._views.forget_ledger()
            found = {"problem": str(error), "ledger": self._location}
        return JSONResponse(found, headers=_NEVER_KEPT)

    def _figures(self, view: View) -> dict[str, Any]:
        if view.span is None:
            return {"problem": "There are no calls in it yet.", "ledger": self._location}
        return {
            "ledger": self._location,
            "calls": view.facts.totals.calls,
            "since": view.begin.isoformat(timespec="minutes"),
            "until": view.end.isoformat(timespec="minutes"),
            "first": view.span[0].isoformat(timespec="minutes"),
            "tiles": tiles(view),
            "spenders": {
                name: [
                    dict(zip(("name", "cost_nano_usd"), row, strict=False))
                    for row in spenders(name)(view).rows[:100]
                ]
                for name in FILTERS
            },
        }

    async def events(self, request: Request) -> Response:
        """New calls, as server-sent events."""
        seen = request.headers.get("last-event-id", "")
        after = int(seen) if seen.isdecimal() and len(seen) < 19 else None
        return StreamingResponse(
            self.feed.events(after, 10 if "latest" in request.query_params else 0),
            media_type="text/event-stream",
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )

    def calls(self, request: Request) -> Response:
        """Every call of the period, as a file."""
        try:
            view = self._views.of(request.query_params)
        except LedgerError as error:
            self._views.forget_ledger()
            return PlainTextResponse(str(error), 404)
        return StreamingResponse(
            _csv(view), media_type="text/csv; charset=utf-8", headers=_attached("calls")
        )


class _RunName(Convertor[str]):
    """Whatever a run is called: also with slashes and ends of lines."""

    regex = r"[\s\S]*"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("run", _RunName())


def _theme(request: Request) -> str:
    chosen = request.cookies.get(_THEME_COOKIE, "")
    return chosen if chosen in ("light", "dark") else ""


def _attached(name: str) -> dict[str, str]:
    return {**_NEVER_KEPT, "content-disposition": f'attachment; filename="{name}.csv"'}


@cache
def _static(name: str) -> bytes:
    return (_OWN / "static" / name).read_bytes()


def _address(name: str) -> str:
    return f"/static/{name}?v={hashlib.sha256(_static(name)).hexdigest()[:12]}"


def _csv(view: View) -> Iterator[str]:
    line = io.StringIO()
    writer = csv.writer(line, lineterminator="\n")
    with Ledger(view.ledger.location, read_only=True) as ledger:
        for number, call in enumerate(ledger.calls(**view.where)):
            row = flat_row(call)
            if not number:
                writer.writerow(row)
            writer.writerow(disarmed(row).values())
            yield line.getvalue()
            line.seek(0)
            line.truncate()
