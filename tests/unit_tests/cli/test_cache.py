"""``tokenopt cache ...``: what is in a file of cached answers."""

from __future__ import annotations

import json
import sqlite3

import pytest
from langchain_core.outputs import Generation
from typer.testing import CliRunner

from langchain_tokenopt.cache import SemanticCache, cache_file
from langchain_tokenopt.cli.app import CommandError
from langchain_tokenopt.cli.cache import app
from langchain_tokenopt.core.errors import TokenOptError
from tests.support.embedders import WordEmbeddings


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "answers.db"
    with SemanticCache(path, embeddings=WordEmbeddings()) as cache:
        cache.update("Where is my card?", "llm", [Generation(text="On its way.")])
        cache.update("What is a PIN?", "llm", [Generation(text="A number.")])
        cache.lookup("Where is my card?", "llm")
    return path


def run(*arguments, **options):
    return CliRunner().invoke(app, list(map(str, arguments)), **options)


def test_stats_counts_entries_and_hits(file):
    """As a table and as JSON."""
    assert "entries" in run("stats", "--cache", file).stdout
    found = json.loads(run("stats", "--cache", file, "--json").stdout)

    assert [2, 1] == [found["entries"], found["hits"]]


def test_top_lists_what_was_served_most(file):
    """Most served first, no more than asked for."""
    found = json.loads(run("top", "--cache", file, "-n", 1, "--json").stdout)

    assert ["Where is my card?"] == [row["question"] for row in found]
    assert "What is a PIN?" in run("top", "--cache", file).stdout


def test_check_reads_everything(file):
    """A sound file is called sound."""
    assert "2 entries" in run("check", "--cache", file).stdout
    assert json.loads(run("check", "--cache", file, "--json").stdout)["is_sound"]


def test_clear_asks_first(file):
    """Without a yes nothing is deleted."""
    assert 0 != run("clear", "--cache", file, input="n\n").exit_code
    assert "2 entries" in run("check", "--cache", file).stdout
    assert "2 answers deleted." in run("clear", "--cache", file, "--yes").stdout
    assert "0 entries" in run("check", "--cache", file).stdout


def test_explaining_needs_the_embedder_of_the_file(file):
    """A file of another embedder is named, with the way out."""
    failed = run("explain", "Where is it?", "--cache", file)

    assert isinstance(failed.exception, CommandError)
    assert "WordEmbeddings" in str(failed.exception)


def test_explaining_with_the_local_embedder(tmp_path):
    """Says miss or hit, and what the nearest question differs in."""
    with SemanticCache(tmp_path / "c.db") as cache:
        cache.update("How do I enable 2FA?", "llm", [Generation(text="In Settings.")])
    shown = run("explain", "How do I disable 2FA?", "--cache", tmp_path / "c.db").stdout

    assert shown.startswith("miss")
    assert "opposite" in shown


def foreign():
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE setting (name, value)")
    database.commit()
    return database.serialize()


@pytest.mark.parametrize(
    "content",
    [None, b"", b"no cache at all", foreign()],
    ids=["missing", "empty", "text", "foreign"],
)
@pytest.mark.parametrize("command", ["stats", "top", "check", "clear", "explain"])
def test_a_file_that_is_no_cache_is_named_and_left_alone(tmp_path, content, command):
    """Nothing is created or moved."""
    path = tmp_path / "x.db"
    if content is not None:
        path.write_bytes(content)
    arguments = ["Where is it?"] if command == "explain" else []
    failed = run(command, *arguments, "--cache", path)

    assert isinstance(failed.exception, TokenOptError)
    assert "x.db" in str(failed.exception)
    assert [p.read_bytes() for p in tmp_path.iterdir()] == ([] if content is None else [content])


@pytest.mark.parametrize("command", ["stats", "top", "check", "clear"])
@pytest.mark.parametrize("at", [0.3, 0.6, 0.9])
def test_a_damaged_file_is_named_and_left_alone(tmp_path, command, at):
    """To look into a file is not to put it aside."""
    path = tmp_path / "x.db"
    with SemanticCache(path, embeddings=WordEmbeddings()) as cache:
        cache.update_many((f"question {n}", "llm", [Generation(text="x" * 300)]) for n in range(99))
    raw = bytearray(path.read_bytes())
    start = int(len(raw) * at) // 4_096 * 4_096
    raw[start : start + 4_096] = b"\x99" * 4_096
    path.write_bytes(raw)
    failed = run(command, "--cache", path)

    assert isinstance(failed.exception, TokenOptError)
    assert "x.db is damaged" in str(failed.exception)
    assert [bytes(raw)] == [p.read_bytes() for p in tmp_path.iterdir()]


def test_a_newer_file_and_a_locked_one_are_named(file, monkeypatch):
    """The message says what to do; nothing is changed."""
    monkeypatch.setattr(cache_file, "_OPENING_SECONDS", 0.1)
    database = sqlite3.connect(file, isolation_level=None)
    database.execute("BEGIN IMMEDIATE")
    assert "locked by another process" in str(run("clear", "--yes", "--cache", file).exception)
    database.execute("ROLLBACK")
    database.execute("PRAGMA user_version = 9")
    database.close()

    assert "Upgrade the package" in str(run("stats", "--cache", file).exception)


def test_looking_changes_nothing(file):
    """Neither the answers nor how often they were served, nor files beside."""
    before = file.read_bytes()
    for command in ("stats", "top", "check"):
        assert 0 == run(command, "--cache", file).exit_code

    assert [before] == [p.read_bytes() for p in file.parent.iterdir()]
