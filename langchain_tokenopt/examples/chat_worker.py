"""A worker of a chat service. Any number of them, behind a load balancer, share one database.

    export TOKENOPT_DATABASE=postgresql://me@db.example/tokens
    python -m langchain_tokenopt.examples.chat_worker 8001
    python -m langchain_tokenopt.examples.chat_worker 8002
    curl "http://127.0.0.1:8001/ask?user=ada&question=Who+won?+Ada+won."

A user's daily budget holds across all workers, an answer of one is served by the others, and every
call is in one ledger. Where the service runs in Starlette, FastAPI or Django, :class:`Chat` is the
same.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from langchain_core.language_models import BaseChatModel

from langchain_tokenopt.budget import BudgetPlan, BudgetStoreError
from langchain_tokenopt.cache import SemanticCache
from langchain_tokenopt.chat_model import optimize
from langchain_tokenopt.core.errors import BudgetExceededError
from langchain_tokenopt.ledger import Ledger
from langchain_tokenopt.testing import ExtractiveChatModel
from langchain_tokenopt.tracking.callbacks import track_usage

__all__ = ["Chat"]


class Chat:
    """What each worker has, once, for all of its threads.

    Args:
        database: Where accounts, ledger and cache are: ``postgresql://user@host/database``.
        model: Any chat model.
        tokens_per_day: What each user may spend in a day, whichever workers answer.
    """

    def __init__(self, database: str, model: BaseChatModel, tokens_per_day: int = 2_000) -> None:
        self._database = database
        self._cache = SemanticCache(database, semantic=False)
        self._ledger = Ledger(database)
        self._plan = BudgetPlan(
            total_tokens=tokens_per_day,
            within=[{"total_tokens": tokens_per_day, "per": "user", "window": "day"}],
            on_exceed="raise",
        )
        self._model = optimize(model, self._cache, self._plan)

    def ask(self, user: str, question: str) -> tuple[int, dict[str, Any]]:
        """Return the status and the body of an answer."""
        try:
            with (
                self._cache.scope(user=user),
                track_usage(user=user, sinks=[self._ledger]) as usage,
                self._plan.run(user=user, store=self._database),
            ):
                answer = self._model.invoke(question).text
        except BudgetExceededError as error:
            return 429, {"error": str(error)}
        except BudgetStoreError as error:
            return 503, {"error": str(error)}
        cached = bool(usage.totals().cached_calls)
        return 200, {"answer": answer, "cached": cached, "worker": os.getpid()}

    def close(self) -> None:
        """Write what is waiting."""
        self._ledger.close()
        self._cache.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that server_close waits for requests that are under way
    request_queue_size = 128

    def __init__(self, port: int, chat: Chat) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.chat = chat


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        asked = {name: values[0] for name, values in parse_qs(address.query).items()}
        status, body = 200, dict[str, Any]()
        if address.path == "/ask":
            status, body = self.server.chat.ask(asked["user"], asked["question"])
        written = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(written)))
        self.end_headers()
        self.wfile.write(written)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the ledger knows."""


def main() -> None:
    """Serve until the process is told to end (SIGTERM); what is under way is answered first."""
    chat = Chat(os.environ["TOKENOPT_DATABASE"], ExtractiveChatModel())
    server = _Server(int(sys.argv[1]), chat)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever(poll_interval=0.1)
    server.server_close()
    chat.close()


if __name__ == "__main__":
    main()
