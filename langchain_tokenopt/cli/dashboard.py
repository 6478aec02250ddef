"""The command that serves the dashboard."""

from __future__ import annotations

import secrets
import socket
from typing import Annotated

import typer

from langchain_tokenopt.cli.app import CommandError, say
from langchain_tokenopt.cli.period import DEFAULT_LEDGER, LedgerOption

__all__ = ["dashboard"]

_LOCAL = ("127.0.0.1", "localhost", "::1")


def dashboard(
    ledger: LedgerOption = DEFAULT_LEDGER,
    budgets: Annotated[
        str | None,
        typer.Option(help="Store of plan.run(path=...), to show all of its budgets."),
    ] = None,
    cache: Annotated[
        str | None,
        typer.Option(help="File of a SemanticCache, to show its audits and the bound."),
    ] = None,
    guard: Annotated[
        str | None, typer.Option(help="File of a QualityGuard, to show its verdicts.")
    ] = None,
    comparison: Annotated[
        list[str] | None,
        typer.Option(help="File that `compare --json` has written. May be repeated."),
    ] = None,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65_535, help="Where it listens; 0: any free one.")
    ] = 8787,
    host: Annotated[
        str,
        typer.Option(
            "--host", help="Address it listens on; others than this machine's need a token."
        ),
    ] = "127.0.0.1",
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            envvar="TOKENOPT_DASHBOARD_TOKEN",
            help="What viewers must bring; made up where one is needed.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Show a ledger as a page in the browser, live and read-only.

    Example: tokenopt dashboard --ledger tokenopt.db
    """
    local = host in _LOCAL
    if not local and token is None:
        token = secrets.token_urlsafe(24)
    hosts = ("127.0.0.1", "localhost", "[::1]") if local else ()
    try:
        import uvicorn

        from langchain_tokenopt.dashboard import make_app

        app = make_app(
            ledger,
            budgets=budgets,
            cache=cache,
            guard=guard,
            comparisons=comparison or (),
            token=token,
            hosts=hosts,
        )
    except ImportError as error:
        raise CommandError(
            f"the dashboard needs {error.name}. Install it: "
            f"pip install 'langchain-tokenopt[dashboard]'."
        ) from error
    listening = _bound(host, port)
    where = f"[{host}]" if ":" in host else host
    address = f"http://{where}:{listening.getsockname()[1]}/"
    say(f"the dashboard is at {address}{f'?token={token}' if token else ''} (end with Ctrl-C)")
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1, ws="none")

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            app.state.feed.end()
            await super().shutdown(sockets)

    Server(config).run(sockets=[listening])


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen()  # who comes while the server starts waits for it
    except OSError as error:
        listening.close()
        raise CommandError(
            f"port {port} of {host} cannot be used: {error.strerror or error}. Try another: "
            f"--port {port + 1 if 0 < port < 65_535 else 8788}, or --port 0."
        ) from error
    return listening
