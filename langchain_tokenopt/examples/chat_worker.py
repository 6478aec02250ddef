"""A worker of a chat service. Any number of them, behind a load balancer, share one database.

    export TOKENOPT_DATABASE=postgresql://me@db.example/tokens
    python -m langchain_tokenopt.examples.chat_worker --port 8001
    python -m langchain_tokenopt.examples.chat_worker --port 8002
    curl "http://127.0.0.1:8001/ask?user=ada&question=Who+won?+Ada+won."

A user's daily budget holds across all workers, an answer of one is served by the others, and every
call is in one ledger. It needs the extras ``postgres`` and ``dashboard`` (for Starlette and
uvicorn).
"""

from __future__ import annotations

import argparse
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from langchain_core.language_models import BaseChatModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from langchain_tokenopt.budget import BudgetPlan, BudgetStoreError
from langchain_tokenopt.cache import SemanticCache
from langchain_tokenopt.chat_model import optimize
from langchain_tokenopt.core.errors import BudgetExceededError
from langchain_tokenopt.ledger import Ledger
from langchain_tokenopt.testing import ExtractiveChatModel
from langchain_tokenopt.tracking.callbacks import track_usage

__all__ = ["application"]


def application(database: str, model: BaseChatModel, *, tokens_per_day: int = 2_000) -> Starlette:
    """Return a service that answers ``/ask?user=...&question=...``.

    Args:
        database: Where accounts, ledger and cache are: ``postgresql://user@host/database``.
        model: Any chat model.
        tokens_per_day: What each user may spend in a day, whichever workers answer.
    """
    cache, ledger = SemanticCache(database, semantic=False), Ledger(database)
    plan = BudgetPlan(
        total_tokens=tokens_per_day,
        within=[{"total_tokens": tokens_per_day, "per": "user", "window": "day"}],
        on_exceed="raise",
    )
    chain = optimize(model, cache, plan)

    def ask(request: Request) -> JSONResponse:  # not async: Starlette runs it in a thread
        user, question = request.query_params["user"], request.query_params["question"]
        try:
            with (
                cache.scope(user=user),
                track_usage(user=user, sinks=[ledger]) as usage,
                plan.run(user=user, store=database),
            ):
                answer = chain.invoke(question).text
        except BudgetExceededError as error:
            return JSONResponse({"error": str(error)}, 429)
        except BudgetStoreError as error:
            return JSONResponse({"error": str(error)}, 503)
        cached = bool(usage.totals().cached_calls)
        return JSONResponse({"answer": answer, "cached": cached, "worker": os.getpid()})

    def health(request: Request) -> PlainTextResponse:
        return PlainTextResponse("ok")

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        ledger.close()  # writes what is waiting
        cache.close()

    return Starlette(routes=[Route("/ask", ask), Route("/health", health)], lifespan=lifespan)


def main() -> None:
    """Serve until the process is told to end; requests that are under way are answered."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--database", default=os.environ.get("TOKENOPT_DATABASE"), required=False)
    asked = parser.parse_args()
    if not asked.database:
        parser.error("name the database: TOKENOPT_DATABASE=postgresql://user@host/database")
    service = application(asked.database, ExtractiveChatModel())
    uvicorn.run(service, port=asked.port, log_level="warning")


if __name__ == "__main__":
    main()
