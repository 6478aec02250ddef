"""``tokenopt cache ...``: what is in a file of cached answers."""

from __future__ import annotations

import json

import pytest
from langchain_core.outputs import Generation
from typer.testing import CliRunner

from langchain_tokenopt.cache import SemanticCache
from langchain_tokenopt.cli.app import CommandError
from langchain_tokenopt.cli.cache import app
from langchain_tokenopt.errors import TokenOptError
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


@pytest.mark.parametrize("content", [None, b"no cache at all"])
def test_a_file_that_is_no_cache_is_named_and_left_alone(tmp_path, content):
    """Nothing is created or moved."""
    path = tmp_path / "x.db"
    if content is not None:
        path.write_bytes(content)
    failed = run("stats", "--cache", path)

    assert isinstance(failed.exception, TokenOptError)
    assert "x.db" in str(failed.exception)
    assert [p.read_bytes() for p in tmp_path.iterdir()] == ([] if content is None else [content])
