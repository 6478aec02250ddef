"""What is on disk comes back as it was, or not at all."""

from __future__ import annotations

import json
import sqlite3
import zlib
from datetime import UTC, datetime

import pytest
from langchain_core.load import dumps
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, Generation

from langchain_tokenopt.cache import SemanticCache
from langchain_tokenopt.cache.answer_json import pack, unpack
from langchain_tokenopt.cache.cache_file import CacheFile
from langchain_tokenopt.cache.cache_schema import CacheFileError, embedder_of
from langchain_tokenopt.cache.stored_row import Row
from langchain_tokenopt.core.errors import TokenOptWarning
from tests.support.embedders import WordEmbeddings


def chat(text="Hello.", **fields):
    return ChatGeneration(
        message=AIMessage(text, **fields), generation_info={"finish_reason": "stop"}
    )


def zipped(text):
    return zlib.compress(text.encode())


@pytest.mark.parametrize(
    "answers",
    [
        [Generation(text="a", generation_info={"reason": "test"}), Generation(text="b")],
        [chat(usage_metadata={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3})],
        [chat(additional_kwargs={"k": {"lc": 1, "type": "secret", "id": ["PATH"]}})],
        [
            chat(
                "",
                tool_calls=[
                    {"name": "f", "args": {"x": [1, None]}, "id": "c", "type": "tool_call"}
                ],
            )
        ],
        [chat([{"type": "text", "text": "häßlich 🙂"}], response_metadata={"model_name": "m"})],
    ],
    ids=["texts", "usage", "a secret's shape", "a tool call", "blocks"],
)
def test_answers_come_back_equal(answers):
    """Packing and unpacking changes nothing but the message's id."""
    assert answers == unpack(pack(answers))


def test_what_json_cannot_hold_is_left_out_or_refused():
    """A date among the metadata is either read back without it, or the answer is not packed."""
    answers = [chat(additional_kwargs={"at": datetime(2026, 1, 1, tzinfo=UTC)})]

    try:
        back = unpack(pack(answers))
    except ValueError:
        return
    assert "Hello." == back[0].text


def test_a_row_that_asks_for_a_secret_gets_none(monkeypatch):
    """Environment variables are never read for a stored answer."""
    monkeypatch.setenv("TOKENOPT_SECRET", "hunter2")
    evil = dumps(chat()).replace(
        '"Hello."', '{"lc": 1, "type": "secret", "id": ["TOKENOPT_SECRET"]}'
    )
    try:
        found = str(unpack(zipped(json.dumps([evil]))))
    except ValueError:
        found = ""

    assert "hunter2" not in found


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(
            [
                json.dumps(
                    {
                        "lc": 1,
                        "type": "constructor",
                        "id": ["langchain", "chat_models", "openai", "ChatOpenAI"],
                        "kwargs": {"base_url": "http://evil"},
                    }
                )
            ]
        ),
        json.dumps([dumps(AIMessage("no generation"))]),
        json.dumps([{"info": None, "message": {"content": "x", "id": "1", "evil": 2}}]),
        json.dumps([{"info": None}]),
        json.dumps([]),
        json.dumps({"a": 1}),
        "no json",
    ],
    ids=["a model", "a message", "unknown fields", "nothing in it", "empty", "no list", "no json"],
)
def test_foreign_content_is_refused(text):
    """Only generations of the listed classes are read back."""
    with pytest.raises(ValueError, match="stored answer"):
        unpack(zipped(text))


def entry(store, number=1, **changes):
    row = {
        "exact": bytes([number]) * 16,
        "scope": b"s" * 16,
        "question": f"q{number}",
        "vector": b"\0\0" * 4,
        "agrees_with": None,
        "tokens": 7,
        "created": 1.0,
        "expires": None,
    }
    answers = pack([Generation(text=f"a{number}")])
    return store.add(Row(id=0, **{**row, **changes}), answers)


def test_entries_survive_closing(tmp_path):
    """A reopened file returns rows and answers."""
    store = CacheFile(tmp_path / "c.db", embedder="e")
    row = entry(store)
    store.close()
    again = CacheFile(tmp_path / "c.db", embedder="e")
    rows, removed = again.changes()

    assert [row] == rows
    assert [] == removed
    assert [Generation(text="a1")] == again.answers(row.id, row.scope)
    again.close()


def test_two_processes_see_each_others_changes(tmp_path):
    """What one connection adds and removes, the other learns; its own changes are not news."""
    one = CacheFile(tmp_path / "c.db", embedder="e")
    other = CacheFile(tmp_path / "c.db", embedder="e")
    one.changes()
    other.changes()
    row = entry(one)

    assert one.changes() is None
    assert ([row], []) == other.changes()
    one.remove([row.id])
    assert ([], [row.id]) == other.changes()
    one.close()
    other.close()


def test_another_embedder_is_refused(tmp_path):
    """The message names both embedders."""
    CacheFile(tmp_path / "c.db", embedder="one").close()

    with pytest.raises(CacheFileError, match=r"holds vectors of one.*embeds with two"):
        CacheFile(tmp_path / "c.db", embedder="two")


def test_a_newer_format_is_refused(tmp_path):
    """The message names both formats."""
    CacheFile(tmp_path / "c.db", embedder="e").close()
    with sqlite3.connect(tmp_path / "c.db") as database:
        database.execute("PRAGMA user_version = 9")
    database.close()

    with pytest.raises(
        CacheFileError, match=r"newer langchain-tokenopt \(format 9, this one reads 3\)"
    ):
        CacheFile(tmp_path / "c.db", embedder="e")


def test_an_earlier_format_is_a_cold_start(tmp_path):
    """It is put aside with a warning that names both formats; looking at it changes nothing."""
    CacheFile(tmp_path / "c.db", embedder="e").close()
    with sqlite3.connect(tmp_path / "c.db") as database:
        database.execute("PRAGMA user_version = 1")
    database.close()
    with pytest.raises(CacheFileError, match="it has format 1, and this version reads 3"):
        embedder_of(tmp_path / "c.db")
    with pytest.warns(TokenOptWarning, match=r"earlier version \(it has format 1.*put aside"):
        store = CacheFile(tmp_path / "c.db", embedder="e")

    assert entry(store)
    assert 1 == len(list(tmp_path.glob("c.db.damaged-*")))
    store.close()


def test_a_question_has_the_same_size_in_memory_and_file(tmp_path):
    """Bytes, not characters."""
    store = CacheFile(tmp_path / "c.db", embedder="e")
    row = entry(store, question="Wo ist die nächste Straßenbahn? 電車")

    assert (1, row.size) == store.totals()
    store.close()


def test_a_database_of_another_program_is_left_alone(tmp_path):
    """It is refused and not changed."""
    with sqlite3.connect(tmp_path / "c.db") as database:
        database.execute("CREATE TABLE theirs (x)")
    database.close()

    with pytest.raises(CacheFileError, match="database of another program"):
        CacheFile(tmp_path / "c.db", embedder="e")


def test_a_missing_folder_is_named(tmp_path):
    """The message says what to create."""
    with pytest.raises(CacheFileError, match="there is no folder"):
        CacheFile(tmp_path / "no" / "c.db", embedder="e")


@pytest.mark.parametrize(
    "content", [b"this is no database" * 50, b"SQLite format 3\0" + b"\7" * 5_000]
)
def test_a_torn_file_is_a_cold_start(tmp_path, content):
    """It is put aside with a warning, and the cache works."""
    (tmp_path / "c.db").write_bytes(content)
    with pytest.warns(TokenOptWarning, match="put aside"):
        store = CacheFile(tmp_path / "c.db", embedder="e")
    row = entry(store)

    assert store.answers(row.id, row.scope)
    assert content == next(tmp_path.glob("c.db.damaged-*")).read_bytes()
    store.close()


def test_a_damaged_row_is_a_miss_and_leaves(tmp_path):
    """An answer that does not match its checksum is never served, and check() removes it."""
    path = tmp_path / "c.db"
    with SemanticCache(path, embeddings=WordEmbeddings()) as cache:
        cache.update("one", "llm", [Generation(text="1")])
        cache.update("two", "llm", [Generation(text="2")])
    with sqlite3.connect(path) as database:
        swapped = database.execute("SELECT answers FROM entry WHERE question = 'one'").fetchone()
        database.execute("UPDATE entry SET answers = ? WHERE question = 'two'", swapped)
    database.close()
    with SemanticCache(path, embeddings=WordEmbeddings()) as cache:
        assert cache.lookup("two", "llm") is None
        assert [Generation(text="1")] == cache.lookup("one", "llm")
        assert 1 == cache.check().entries
        assert cache.check().is_sound


def test_secrets_in_settings_are_not_on_disk(tmp_path):
    """Headers in the model's settings are hashed, never written."""
    path = tmp_path / "c.db"
    with SemanticCache(path, embeddings=WordEmbeddings()) as cache:
        cache.update(
            "q", '{"kwargs": {"default_headers": {"auth": "hunter2"}}}---[]', [Generation(text="a")]
        )

    assert not any(b"hunter2" in file.read_bytes() for file in tmp_path.iterdir())
