"""One place for what is learned: kept, shared, bounded, forgotten, and never in the way."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_tokenopt import TokenOptWarning
from langchain_tokenopt.storage import learned_store
from langchain_tokenopt.storage.learned_store import LearnedKey, LearnedStore

SEEN = LearnedKey("visits", "desk", "ann", "prices")


def add_one(count):
    """Count."""
    return (count or 0) + 1


def contents(store):
    """All values, by their keys."""
    return {tuple(found[:4]): found.value for found in store.values()}


NAMES = st.sampled_from(["", "a", "a/b", "ab", "é\ud800", "x" * 400, "a%", "A"])
KEYS = st.builds(LearnedKey, NAMES, NAMES, st.none() | NAMES, NAMES)
VALUES = st.recursive(
    st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
FILTERS = st.fixed_dictionaries(
    {}, optional={"user": NAMES, "namespace": NAMES.filter(bool), "kind": NAMES}
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.just("update"), KEYS, st.none() | VALUES)
        | st.tuples(st.just("forget"), FILTERS)
        | st.tuples(st.just("reopen")),
        max_size=25,
    ),
    st.booleans(),
)
def test_it_is_a_dictionary_that_forgets(steps, in_file):
    """Whatever is done to it, it holds what a dictionary would; an export restores all of it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "learned.db" if in_file else None
        store, expected = LearnedStore(path), {}
        for step, *details in steps:
            if step == "update":
                key, value = details
                assert store.update(key, lambda _, value=value: value) == value
                expected.pop(key, None)
                if value is not None:
                    expected[key] = value
            elif step == "forget":
                gone = [key for key in expected if _is_meant(key, **details[0])]
                found = store.forget(**details[0]) if details[0] else store.clear()
                assert found == len(gone)
                for key in gone:
                    del expected[key]
            elif in_file:
                store.close()
                store = LearnedStore(path)
        assert {key: store.get(key) for key in expected} == expected
        assert len(store.values()) == len(expected)
        copy = LearnedStore()
        assert copy.load(store.export()) == len(expected)
        assert {key: copy.get(key) for key in expected} == expected
        assert [*copy.export()] == [*store.export()]
        store.close()


def _is_meant(key, user=None, namespace=None, kind=None):
    return (
        user in (None, key.user)
        and (namespace is None or (key.namespace + "/").startswith(namespace + "/"))
        and kind in (None, key.kind)
    )


def test_no_name_of_a_user_is_in_the_file(tmp_path):
    """Nor what was forgotten; the file is its owner's; an export has only a hash."""
    store = LearnedStore(tmp_path / "learned.db")
    for user in ("ann@example.org", "bob@example.org"):
        store.update(LearnedKey("visits", "desk", user), lambda _: "zephyrin" + "quux" * 9)
    assert store.forget(user="ann@example.org") == 1
    assert stat.S_IMODE((tmp_path / "learned.db").stat().st_mode) == 0o600
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"example.org" not in stored
    assert stored.count(b"zephyrin") == 1 + (tmp_path / "learned.db-wal").read_bytes().count(
        b"zephyrin"
    )
    assert "example.org" not in "".join(store.export())
    assert len([*store.export(user="bob@example.org")]) == 1
    store.close()


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (float("nan"), ValueError),
        (object(), TypeError),
        ("x" * 40_000, ValueError),
    ],
    ids=["nan", "object", "large"],
)
def test_a_value_that_cannot_be_kept_is_refused(value, error):
    """And what was there stays; so it does where the change itself fails."""
    store = LearnedStore()
    store.update(SEEN, add_one)
    with pytest.raises(error):
        store.update(SEEN, lambda _: value)
    with pytest.raises(ZeroDivisionError):
        store.update(SEEN, lambda count: count / 0)
    assert store.get(SEEN) == 1


@pytest.mark.parametrize(
    "line",
    [
        "nothing",
        "[]",
        '{"format":1}',
        '{"format":2,"key":"","kind":"a","namespace":"","user":null,"value":1}',
        '{"format":1,"key":"","kind":"a","namespace":"","user":"ann","value":1}',
        '{"format":1,"key":"","kind":"a","namespace":"","user":null,"value":NaN}',
        '{"format":1,"key":"","kind":"a","namespace":"","user":null,"value":null}',
        '{"format":1,"key":"","kind":7,"namespace":"","user":null,"value":1}',
        '{"format":1,"key":"","kind":"a","namespace":"","user":null,"value":1,"more":2}',
        '{"format":1,"key":"","kind":"a","namespace":"","user":null,"value":' + "[" * 99_999,
    ],
)
def test_a_strange_export_is_not_taken_over(line):
    """All of it or nothing, and the error says which line."""
    store = LearnedStore()
    store.update(SEEN, add_one)
    (good,) = store.export()
    store.clear()
    with pytest.raises(ValueError, match="Line 2 is none"):
        store.load([good, line])
    assert store.values() == []


@pytest.mark.parametrize("lines", [7, None, "{}", b"{}", [7], [None]])
def test_what_are_no_lines_is_not_taken_over(lines):
    """Neither a whole text nor something else."""
    with pytest.raises((TypeError, ValueError), match=r"takes lines|Line 1 is none"):
        LearnedStore().load(lines)


@pytest.mark.parametrize("named", [{}, {"user": None}, {"user": None, "kind": "visits"}])
def test_who_names_nobody_forgets_nobody(named):
    """As where nobody is signed in; everything has a word of its own."""
    store = LearnedStore()
    for user in ("ann", "bob"):
        store.update(SEEN._replace(user=user), add_one)
    with pytest.raises((TypeError, ValueError), match="names nothing"):
        store.forget(**named)
    assert len(store.values()) == 2
    assert store.clear() == 2


def test_bounds(monkeypatch):
    """What was written longest ago leaves first; users do not push out what they share."""
    monkeypatch.setattr(learned_store, "MOST_OF_USER", 3)
    monkeypatch.setattr(learned_store, "MOST_OF_NAMESPACE", 5)
    monkeypatch.setattr(learned_store, "MOST_ROWS", 6)
    monkeypatch.setattr(learned_store, "_BOUNDED_EVERY", 1)
    store = LearnedStore()
    store.update(LearnedKey("k", "n", None, "shared"), add_one)
    for number in range(9):
        store.update(LearnedKey("k", "n", "odd", f"{number}"), add_one)
    assert {key[3] for key in contents(store)} == {"shared", "6", "7", "8"}
    for number in range(20):
        store.update(LearnedKey("k", "n", f"user{number}", "one"), add_one)
    assert len(store.values()) == 1 + 5
    assert store.get(LearnedKey("k", "n", "user19", "one")) == 1
    for number in range(20):
        store.update(LearnedKey("k", f"n{number}", "ann", "one"), add_one)
    assert len(store.values()) == 1 + 6
    assert store.get(LearnedKey("k", "n", None, "shared")) == 1


def _foreign(path):
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE precious (x)")
        database.commit()


def _made(path, *statements):
    store = LearnedStore(path)
    for number in range(200):
        store.update(LearnedKey("k", "n", None, f"{number}"), lambda _: "text" * 20)
    store.close()
    with contextlib.closing(sqlite3.connect(path)) as database:
        for statement in statements:
            database.execute(statement)
        database.commit()


def _torn(path):
    _made(path)
    path.write_bytes(path.read_bytes()[:9_000])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b"this is no database, whatever it is called"),
        lambda path: path.mkdir(),
        _foreign,
        _torn,
        lambda path: _made(path, "PRAGMA user_version = 999"),
        lambda path: _made(path, "DROP TABLE learned", "CREATE TABLE learned (x)"),
    ],
    ids=["junk", "folder", "foreign", "torn", "later release", "other table"],
)
def test_a_bad_file_breaks_nothing(tmp_path, spoil):
    """It goes on in memory, with one warning; the file stays, and nothing is forgotten there."""
    path = tmp_path / "learned.db"
    spoil(path)
    before = path.read_bytes() if path.is_file() else None
    store = LearnedStore(path)
    with pytest.warns(TokenOptWarning, match="kept in memory") as warned:
        counts = [store.update(SEEN, add_one) for _ in range(3)]
    assert (counts, store.get(SEEN), len(warned)) == ([1, 2, 3], 3, 1)
    assert store.values("visits")[0].value == 3
    assert before is None or path.read_bytes() == before
    with pytest.raises((sqlite3.Error, OSError)):
        store.forget(user="ann")


def test_an_earlier_release_starts_anew(tmp_path):
    """Said aloud, and kept in the file from then on."""
    path = tmp_path / "learned.db"
    _made(path, "PRAGMA user_version = 0")
    with pytest.warns(TokenOptWarning, match="start anew"):
        assert LearnedStore(path).update(SEEN, add_one) == 1
    assert len(LearnedStore(path).values()) == 1


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the administrator may write")
def test_a_file_that_cannot_be_written(tmp_path):
    """As any bad file."""
    path = tmp_path / "learned.db"
    _made(path)
    path.chmod(0o400)
    with pytest.warns(TokenOptWarning, match="kept in memory"):
        assert LearnedStore(path).update(SEEN, add_one) == 1


def test_a_strange_row_counts_as_none(tmp_path):
    """It is replaced by the next update."""
    path = tmp_path / "learned.db"
    _made(path, "UPDATE learned SET value = 'NaN'", "UPDATE learned SET value = x'00' WHERE at < 9")
    store = LearnedStore(path)
    assert store.values() == []
    assert store.update(LearnedKey("k", "n", None, "1"), add_one) == 1


def test_a_locked_file_is_tried_again(tmp_path, monkeypatch):
    """While somebody else writes, nothing waits for long, and nothing is lost."""
    monkeypatch.setattr(learned_store, "_PATIENCE_SECONDS", 0.01)
    path = tmp_path / "learned.db"
    store = LearnedStore(path)
    store.update(SEEN, add_one)
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    with pytest.warns(TokenOptWarning, match="tried again"):
        assert [store.update(SEEN, add_one) for _ in range(3)] == [2, 2, 2]
    assert store.get(SEEN) == 1
    store.update(LearnedKey("visits", "desk", "bob"), add_one)
    writer.execute("COMMIT")
    writer.close()
    assert store.update(SEEN, add_one) == 5
    assert store.get(LearnedKey("visits", "desk", "bob")) == 1


def test_what_waits_is_forgotten_too(tmp_path, monkeypatch):
    """An update that was made while the file was locked does not come back."""
    monkeypatch.setattr(learned_store, "_PATIENCE_SECONDS", 0.01)
    path = tmp_path / "learned.db"
    store = LearnedStore(path)
    store.update(SEEN, add_one)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        with pytest.warns(TokenOptWarning):
            store.update(SEEN, add_one)
            store.update(SEEN._replace(user="bob"), add_one)
    store.forget(user="ann")
    store.update(SEEN._replace(user="carl"), add_one)
    assert [store.get(SEEN._replace(user=user)) for user in ("ann", "bob", "carl")] == [None, 1, 1]


def test_a_removed_file_is_forgotten(tmp_path):
    """To delete the file is to forget; it is made again."""
    path = tmp_path / "learned.db"
    store = LearnedStore(path)
    store.update(SEEN, add_one)
    for found in tmp_path.iterdir():
        found.unlink()
    assert store.update(SEEN, add_one) == 1
    assert LearnedStore(path).get(SEEN) == 1


COUNT = """
import sys
from langchain_tokenopt import LearnedKey, LearnedStore
store = LearnedStore(sys.argv[1])
for number in range(int(sys.argv[2])):
    key = LearnedKey("visits", "desk", "ann", "prices")
    count = store.update(key, lambda count: (count or 0) + 1)
    if number == 5:
        print(count, flush=True)
"""


@pytest.mark.exhaustive
def test_threads_and_processes_lose_nothing(tmp_path):
    """Each sees what the others have counted; one that is killed leaves what it has finished."""
    path = tmp_path / "learned.db"
    whole, killed = (
        subprocess.Popen([sys.executable, "-c", COUNT, path, times], stdout=subprocess.PIPE)
        for times in ("60", "10000000")
    )
    store = LearnedStore(path)
    threads = [
        threading.Thread(target=lambda: [store.update(SEEN, add_one) for _ in range(30)])
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    assert killed.stdout.readline()
    for thread in threads:
        thread.join()
    assert whole.wait(60) == 0
    killed.kill()
    killed.wait(60)
    whole.stdout.close()
    killed.stdout.close()
    count = store.get(SEEN)
    assert count >= 60 + 90 + 6
    assert LearnedStore(path).update(SEEN, add_one) == count + 1
    with contextlib.closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert database.execute("SELECT max(at) FROM learned").fetchone() == (count + 1,)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("in_file", [True, False])
def test_a_child_goes_on(tmp_path, in_file):
    """With the file for itself, or with a copy of what was in memory."""
    store = LearnedStore(tmp_path / "learned.db" if in_file else None)
    store.update(SEEN, add_one)
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if store.update(SEEN, add_one) == 2 else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert store.update(SEEN, add_one) == (3 if in_file else 2)


def test_an_export_is_plain_text():
    """Sorted keys, in order of names."""
    store = LearnedStore()
    for key in ("b", "a"):
        store.update(LearnedKey("k", "n", None, key), lambda _: {"z": 1, "é": 2})
    lines = [*store.export(kind="k", namespace="n")]
    assert [json.loads(line)["key"] for line in lines] == ["a", "b"]
    assert all(
        line.isascii() and list(json.loads(line)) == sorted(json.loads(line)) for line in lines
    )
