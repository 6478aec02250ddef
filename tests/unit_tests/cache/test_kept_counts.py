"""What a cache has counted is in its file; and why a cache never hits is said."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap

import pytest
from langchain_core.language_models import FakeListChatModel
from langchain_core.load import dumps
from langchain_core.messages import ChatMessage, HumanMessage
from langchain_core.outputs import Generation
from typer.testing import CliRunner

from langchain_tokenopt import SemanticCache, optimize
from langchain_tokenopt.cache import counting
from langchain_tokenopt.cli.cache import app
from tests.support.caches import make_cache

LLM = "llm"


def cli(*arguments):
    done = CliRunner().invoke(app, list(map(str, arguments)))
    assert 0 == done.exit_code, done.output
    return done.stdout


def figures(path):
    return json.loads(cli("stats", "--cache", path, "--json"))


USED = """
    import os, signal, sys, time
    from langchain_core.outputs import Generation
    from langchain_tokenopt import SemanticCache
    from langchain_tokenopt.cache import CacheSettings, counting

    cache = SemanticCache(sys.argv[1], semantic=False, settings=CacheSettings(audit_share=0.0))
    cache.update("Where is it?", "llm", [Generation(text="It lies in the drawer over there.")])
    for question in ("Where is it?", "Where is it?", "where is it", "And now?"):
        cache.lookup(question, "llm")
    if sys.argv[2] == "killed":
        counting._SECONDS = 0.0
        time.sleep(2.1)
        cache.lookup("Where is it?", "llm")
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.exhaustive
@pytest.mark.parametrize("end", ["left open", "killed"])
def test_counts_survive_without_close(tmp_path, end):
    """In a process that ends, and but for the last seconds in one that is killed."""
    path = tmp_path / "c.db"
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(USED), path, end], check=False, timeout=60
        )
        assert done.returncode == (0 if end == "left open" else -signal.SIGKILL)
    found = figures(path)
    hits = 6 if end == "left open" else 8
    assert [hits, hits + 2] == [found["hits"], found["requests"]]
    assert hits * 8 == found["saved_tokens"]
    assert {"not compared by meaning": 2} == found["misses"]
    with SemanticCache(path, semantic=False) as cache:
        assert 0 == cache.stats().requests
        assert hits == cache.stats(lifetime=True).hits


def test_another_process_looks_while_the_cache_is_in_use(tmp_path, monkeypatch):
    """Without waiting, and what it finds is right."""
    monkeypatch.setattr(counting, "_SECONDS", 0.0)
    path = tmp_path / "c.db"
    with make_cache(path, audit_share=0.9, seed=1) as cache:
        monkeypatch.setattr(cache._totals.kept, "_due", 0.0)
        cache.update("How can I change my card PIN?", LLM, [Generation(text="In Settings.")])
        for _ in range(9):
            if cache.lookup("how can I change my card PIN", LLM) is None:
                cache.update("how can I change my card PIN", LLM, [Generation(text="In Rome.")])
        cache.lookup("Which trains go to Oslo?", LLM)
        found, own = figures(path), cache.stats()
        assert [own.requests, own.hits, own.checked, own.checked_wrong] == [
            found[name] for name in ("requests", "hits", "checked", "checked_wrong")
        ]
        assert own.checked_wrong > 0


def test_a_child_does_not_count_what_its_parent_counted(tmp_path):
    """After a fork each writes its own."""
    path = tmp_path / "c.db"
    with SemanticCache(path, semantic=False) as cache:
        cache.update("Where is it?", LLM, [Generation(text="Here.")])
        cache.lookup("Where is it?", LLM)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                cache.lookup("Where is it?", LLM)
                cache.close()
                code = 0
            finally:
                os._exit(code)
        assert 0 == os.waitpid(child, 0)[1]
    with SemanticCache(path, semantic=False) as cache:
        assert 1 <= cache.stats(lifetime=True).hits <= 2


# A cache that never hits


@pytest.mark.parametrize(
    "now",
    [
        lambda n: f"It is 14:{n:02}:31 on the wall clock.",
        lambda n: f"Today is {n + 1} March.",
        lambda n: f"Session 7f3a{n:04x}-bb1e",
        lambda n: f"आज {n} तारीख है",
        lambda n: "Rule." * (n + 1),
    ],
    ids=["clock", "date", "id", "Hindi", "words"],
)
@pytest.mark.parametrize("semantic", [True, False])
def test_a_system_text_that_changes_is_named(tmp_path, now, semantic):
    """In the statistics, in the explanation and on the command line; with what has changed."""
    path = tmp_path / "c.db"
    cache = make_cache(path, semantic=semantic)
    model = optimize(FakeListChatModel(responses=["In Settings."]), cache)
    for n in range(4):
        asked = [("system", f"You help customers. {now(n)}"), ("user", "Where is my PIN?")]
        model.invoke(asked)
    assert 3 == cache.stats().misses["system text differs"]
    explained = cache.explain("Where is my PIN?")
    assert explained.hit
    assert "4 scopes hold the same question" in explained.why
    cache.close()
    said = cli("stats", "--cache", path)
    assert "each time under another system text" in said


def test_instructions_under_a_role_of_their_own_are_a_system_text():
    """As ``ChatMessage(role="system")``, which some templates write."""
    with make_cache(None) as cache:
        for n in range(3):
            said = [ChatMessage(role="system", content=f"It is 14:{n:02}."), HumanMessage("Open?")]
            assert cache.lookup(dumps(said), LLM) is None
            cache.update(dumps(said), LLM, [Generation(text="Yes.")])
        assert 2 == cache.stats().misses["system text differs"]


def test_the_words_that_changed_are_shown():
    """As a cache is given the request."""
    from langchain_core.messages import HumanMessage, SystemMessage

    def prompt(clock):
        return dumps([SystemMessage(f"Be brief. It is {clock} now."), HumanMessage("Where is it?")])

    with make_cache() as cache:
        cache.lookup(prompt("14:03"), LLM)
        cache.update(prompt("14:03"), LLM, [Generation(text="Here.")])
        why = cache.explain(prompt("14:05"), LLM).why
        assert "'14:03' is now '14:05'" in why
        assert {"no neighbour": 1} == cache.stats().misses


def test_other_questions_under_one_system_text_are_not_blamed_on_it():
    """Nor the same question under a system text that stays."""
    with make_cache() as cache:
        model = optimize(FakeListChatModel(responses=["In Settings."]), cache)
        for question in ("Where is my PIN?", "Which trains go to Oslo?", "Where is my PIN?"):
            model.invoke([("system", "You help customers."), ("user", question)])
        assert {"no neighbour": 2} == cache.stats().misses


def test_explain_finds_what_the_lookup_serves(tmp_path):
    """A plain question is looked for in all scopes, in all tiers."""
    path = tmp_path / "c.db"
    with SemanticCache(path, semantic=False) as cache:
        cache.update("Where is my PIN?", LLM, [Generation(text="In Settings.")])
    assert cli("explain", "Where is my PIN?", "--cache", path).startswith(
        "hit: Entry 1 holds the same request"
    )
    assert cli("explain", "where is my PIN", "--cache", path).startswith(
        "hit: Entry 1 holds the same words"
    )
    assert cli("explain", "Where is it?", "--cache", path).startswith("miss:")
