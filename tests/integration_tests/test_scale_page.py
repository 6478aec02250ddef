"""What the page on deployment tells to type does what it says, on a server of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from langchain_tokenopt import BudgetPlan, Ledger, SemanticCache, optimize, track_usage
from langchain_tokenopt.storage import postgres
from langchain_tokenopt.testing import ExtractiveChatModel
from tests.support.doc_blocks import ROOT, blocks_of
from tests.support.postgres_server import PostgresServer

BLOCKS = blocks_of(ROOT / "docs" / "scale.md")
ROLES, RIGHTS, *QUERIES = [block.text for block in BLOCKS if block.language == "sql"]
(SET_UP,) = [block.text for block in BLOCKS if block.language == "sh" and "<<'END'" in block.text]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer(trusting=False) as server:
        for statement in ROLES.split(";\n"):
            if statement.strip():
                server.execute(statement)
        server.execute(RIGHTS, "tokens")
        yield server
        postgres.close_all()


def test_who_follows_the_page_has_a_worker_that_works(server, recwarn):
    """Tables by the owner, rights as the page gives them to workers, and all queries answer."""
    owner = server.url("tokens", user="tokens_owner", password="change me")
    worker = server.url("tokens", user="tokens_worker", password="and me")
    assert "db.example" in SET_UP
    script = SET_UP.replace("postgresql://tokens_owner@db.example/tokens", f"'{owner}'")
    here = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": here}
    subprocess.run(["bash", "-c", script], check=True, env=environment)

    plan = BudgetPlan(total_tokens=5_000, within=[{"total_tokens": 5_000, "window": "day"}])
    with SemanticCache(worker, semantic=False) as cache, Ledger(worker) as ledger:
        model = optimize(ExtractiveChatModel(), cache, plan)
        with track_usage(sinks=[ledger]), plan.run(store=worker):
            for _ in range(2):
                model.invoke("What is blue? The sky is blue.")
        totals = ledger.totals()
    assert (2, 1) == (totals.calls, totals.cached_calls)
    assert [] == [str(each.message) for each in recwarn if "tokenopt" in str(each.category)]

    with psycopg.connect(owner, autocommit=True) as connection:
        for query in ";\n".join(QUERIES).split(";\n"):
            if query.strip():
                connection.execute(query)
