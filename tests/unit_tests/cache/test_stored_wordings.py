"""Forms of questions are read from the file, and made anew where the rules have changed."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from langchain_core.outputs import Generation

from langchain_tokenopt import SemanticCache
from langchain_tokenopt.cache import key, memory_index
from langchain_tokenopt.cache.wording import RULES

ASKED = {
    "How do I clean a sieve?": "how can I clean the sieve",
    "What is the way to prune roses?": "How do I prune roses?",
}


def opened(path):
    return SemanticCache(path, semantic=True, embeddings=_Deaf())


class _Deaf:
    """Reads nothing: what is served was found by its form."""

    fingerprint = "deaf"

    def embed_query(self, text):
        raise AssertionError(text)

    embed_documents = embed_query

    def reads(self, text):
        return False


@pytest.fixture
def path(tmp_path):
    with opened(tmp_path / "c.db") as cache:
        for number, question in enumerate(ASKED):
            cache.update(question, "fake", [Generation(text=str(number))])
    return tmp_path / "c.db"


def served(path):
    with opened(path) as cache:
        found = [cache.lookup(question, "fake") for question in ASKED.values()]
    return [answers and answers[0].text for answers in found]


def nears(path):
    with closing(sqlite3.connect(path)) as database:
        return [near for (near,) in database.execute("SELECT near FROM entry ORDER BY id")]


def test_an_opened_file_knows_the_forms(path, monkeypatch):
    """No stored question is read again."""
    monkeypatch.setattr(memory_index, "wording_hash", None)

    assert ["0", "1"] == served(path)


@pytest.mark.parametrize("stored", [None, b"old!" + bytes(16), b"", RULES, "text", 7])
def test_other_rules_make_the_forms_anew(path, stored):
    """So they do in a file of an earlier version, and where something else stands there."""
    right = nears(path)
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE entry SET near = ?", (stored,))
        database.commit()
    if stored in ("text", 7):  # not written by this package
        with pytest.warns(UserWarning, match="2 entries"):
            assert [None, None] == served(path)
        return

    assert ["0", "1"] == served(path)
    assert right == nears(path)
    assert all(key.is_wording_hash(near) for near in right)


def test_a_file_of_an_earlier_version_gets_its_column(path):
    """Its answers stay."""
    right = nears(path)
    with closing(sqlite3.connect(path)) as database:
        database.execute("ALTER TABLE entry DROP COLUMN near")
        database.commit()

    assert ["0", "1"] == served(path)
    assert right == nears(path)
