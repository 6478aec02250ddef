"""``tokenopt learned ...``: one command reaches whatever was learned, in every kind of file."""

from __future__ import annotations

import json
import sqlite3

import numpy as np
import pytest
from langchain_core.outputs import Generation
from typer.testing import CliRunner

from langchain_tokenopt import LearnedKey, LearnedStore, Ledger, SemanticCache
from langchain_tokenopt.cli import app
from langchain_tokenopt.cli.app import CommandError
from langchain_tokenopt.evaluate.guard_state import GuardState, Key
from langchain_tokenopt.tools.learned_tools import LearnedTools, Observation, namespace_of
from langchain_tokenopt.tools.tool_reading import read_tool
from tests.support.embedders import WordEmbeddings


def run(*arguments, **options):
    return CliRunner().invoke(app, ["learned", *map(str, arguments)], **options)


def as_json(*arguments):
    found = run(*arguments, "--json")
    assert found.exit_code == 0, found.output
    return json.loads(found.stdout)


@pytest.fixture
def values(tmp_path):
    """Values of Ann, Bob and all, in two namespaces."""
    path = tmp_path / "learned.db"
    store = LearnedStore(path)
    for namespace in ("desk", "desk/risk", "other"):
        for user in ("ann", "bob", None):
            store.update(LearnedKey("tuning", namespace, user, "step"), lambda _: {"keep": 0.5})
    store.close()
    return path


@pytest.fixture
def tools(tmp_path):
    """Uses of tools by nobody, by Ann in two organizations, and by Bob."""
    path = tmp_path / "tools.db"
    learned = LearnedTools(path)
    for owner in (
        "",
        namespace_of("a", "ann"),
        namespace_of(None, "ann"),
        namespace_of("a", "bob"),
    ):
        for name in ("mail", "search"):
            learned.record(Observation(owner, [read_tool({"name": name})], ["letter"]))
    learned.close()
    return path


@pytest.fixture
def cache(tmp_path):
    """Answers of nobody, of Ann and of Bob, and what was learned from each."""
    path = tmp_path / "answers.db"
    with SemanticCache(path, embeddings=WordEmbeddings()) as cache:
        for user in (None, "ann", "bob"):
            with cache.scope(user=user):
                cache.update("Where is my card?", "llm", [Generation(text="On its way.")])
        domains = {
            user: next(e.scope for e in cache._repository.index.values() if e.id == entry)[:32]
            for entry, user in ((1, None), (2, "ann"), (3, "bob"))
        }
        rows = [
            ["field", f"f-{user}", domain.hex(), 3, [1.0, *[0.0] * 3]]
            for user, domain in domains.items()
        ]
        labels = [["label", f"f-{user}", [1.0], True, False, []] for user in domains]
        words = [["words", domain.hex(), True] for domain in domains.values()]
        cache._repository.keep_evidence([*rows, *labels], [])
        cache._repository.keep_evidence(words, [])
    return path


@pytest.fixture
def guard(tmp_path):
    """Trials of one agent."""
    path = tmp_path / "guard.db"
    state = GuardState(path, ["equal"], margin=0.1, confidence=0.9, levels=2, retry_seconds=9)
    for _ in range(4):
        state.add(Key("writer", "text"), 0, {"equal": (0.0, 0.0)})
    state.close()
    return path


def test_values_are_counted_by_kind_and_namespace(values):
    """Shared ones, those of users, and how many users: as a table and as JSON."""
    assert [
        (row["namespace"], row["shared"], row["owned"], row["users"]) for row in as_json(values)
    ] == [
        ("desk", 1, 2, 2),
        ("desk/risk", 1, 2, 2),
        ("other", 1, 2, 2),
    ]
    shown = run(values, "list", "--namespace", "desk", "--user", "ann").stdout
    assert "desk/risk" in shown
    assert "other" not in shown
    assert run(values, "--user", "eve").stdout == (
        f"Nothing is learned in {values} of the user 'eve'.\n"
    )


def test_a_user_is_forgotten_in_every_kind_of_file(values, tools, cache, guard, tmp_path):
    """One command for a folder: values, uses of tools, answers and what they taught; no others."""
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "empty").touch()
    with Ledger(tmp_path / "ledger.db"):
        pass

    found = as_json(tmp_path, "forget", "--user", "ann")

    assert found == {
        "answers.db": {"answers": 1},
        "guard.db": {},
        "learned.db": {"values": 3},
        "tools.db": {"uses of tools": 4},
    }
    again = as_json(tmp_path, "forget", "--user", "ann")
    assert again == {name: {} for name in found}
    assert {row["file"]: (row["shared"], row["owned"]) for row in as_json(tmp_path)} == {
        "answers.db": (4, 0),
        "guard.db": (4, 0),
        "learned.db": (1, 1),
        "tools.db": (2, 2),
    }
    assert as_json(tmp_path, "--user", "ann") == []
    with SemanticCache(cache, embeddings=WordEmbeddings()) as opened:
        for user, kept in ((None, True), ("ann", False), ("bob", True)):
            with opened.scope(user=user):
                assert (opened.lookup("Where is my card?", "llm") is not None) is kept


def test_what_is_forgotten_is_not_in_the_file_any_more(values, cache):
    """It is overwritten, in the log beside it as well."""
    store = LearnedStore(values)
    store.update(LearnedKey("tuning", "desk", "ann", "note"), lambda _: "sesame-of-ann")
    store.close()
    with SemanticCache(cache, embeddings=WordEmbeddings()) as opened, opened.scope(user="ann"):
        opened.update("Which word opens it?", "llm", [Generation(text="sesame-of-ann")])
    for path in (values, cache):
        assert run(path, "forget", "--user", "ann").exit_code == 0
        beside = [*path.parent.glob(f"{path.name}*")]
        assert not any(b"sesame-of-ann" in file.read_bytes() for file in beside)


def test_an_open_cache_notices(cache):
    """A process that has the file open serves a forgotten answer no more."""
    with SemanticCache(cache, embeddings=WordEmbeddings()) as opened, opened.scope(user="ann"):
        assert opened.lookup("Where is my card?", "llm") is not None
        run(cache, "forget", "--user", "ann")
        assert opened.lookup("Where is my card?", "llm") is None


def test_an_organization_is_forgotten(tools, cache):
    """Of tools with all who belong to it; of a cache what was stored for it."""
    assert as_json(tools, "forget", "--organization", "a") == {"tools.db": {"uses of tools": 4}}
    assert as_json(tools, "forget", "--organization", "a", "--user", "ann") == {"tools.db": {}}
    opened = SemanticCache(cache, embeddings=WordEmbeddings())
    with opened, opened.scope(user="ann", organization="a"):
        opened.update("Is it open?", "llm", [Generation(text="Yes.")])
    assert as_json(cache, "forget", "--organization", "a") == {"answers.db": {}}
    both = ("--organization", "a", "--user", "ann")
    assert as_json(cache, "forget", *both) == {"answers.db": {"answers": 1}}


def test_everything_is_forgotten_after_a_yes(values, tools, cache, guard, tmp_path):
    """Answers of a cache stay: `tokenopt cache clear` deletes them."""
    assert run(tmp_path, "forget", input="n\n").exit_code != 0
    held = as_json(tmp_path)
    assert run(tmp_path, "forget", "--user", "").exit_code != 0  # as of an unset variable
    assert as_json(tmp_path) == held
    assert len(as_json(tmp_path)) == 6
    found = as_json(tmp_path, "forget", "--yes")
    assert found == {
        "answers.db": {"observations": 6},
        "guard.db": {"trials": 4},
        "learned.db": {"values": 9},
        "tools.db": {"uses of tools": 8},
    }
    with SemanticCache(cache, embeddings=WordEmbeddings()) as opened:
        assert opened.stats().entries == 3
    assert sum(row["shared"] + row["owned"] for row in as_json(tmp_path)) == 0


def test_a_namespace_or_a_kind_is_forgotten_where_there_are_such(values, tools, cache):
    """With those within it; other files are left alone."""
    assert run(values, "forget", "--namespace", "desk").stdout == (
        "learned.db: 6 values of the namespace 'desk' forgotten.\n"
    )
    assert as_json(values, "forget", "--kind", "tuning") == {"learned.db": {"values": 3}}
    for other in (tools, cache):
        assert as_json(other, "forget", "--kind", "tuning") == {other.name: {}}


def test_export_and_load_copy_values(values, tmp_path):
    """Lines of JSON, of all or of one user, into a new file or over what is there."""
    lines = run(values, "export", "--user", "ann").stdout
    assert len(lines.splitlines()) == 3
    copy = tmp_path / "copy.db"
    assert run(copy, "load", input=lines).stdout == f"3 values loaded into {copy}.\n"
    assert run(copy, "export").stdout == lines
    store = LearnedStore(copy)
    assert store.get(LearnedKey("tuning", "desk", "ann", "step")) == {"keep": 0.5}
    store.close()


@pytest.mark.parametrize(
    ("lines", "says"), [("{}\n", "Line 1 is none"), ("junk", "Line 1 is none"), ("[1]", "Line 1")]
)
def test_lines_of_others_are_refused(lines, says, values):
    """In words; nothing is taken over."""
    before = run(values, "export").stdout
    failed = run(values, "load", input=lines)
    assert isinstance(failed.exception, CommandError | SystemExit)
    assert says in failed.output
    assert run(values, "export").stdout == before


def test_files_that_are_none_are_refused(tools, tmp_path):
    """Each with the way out, and unchanged."""
    text = tmp_path / "notes.txt"
    text.write_text("mine, and long enough to be looked at")
    with Ledger(tmp_path / "ledger.db"):
        pass
    later = tmp_path / "later.db"
    LearnedStore(later).update(LearnedKey("k"), lambda _: 1)
    with sqlite3.connect(later) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    empty = tmp_path / "folder"
    empty.mkdir()
    for arguments, says in (
        ((tmp_path / "none.db",), "no file"),
        ((text,), "cannot be used"),
        ((tmp_path / "ledger.db",), "Ledger(path).forget"),
        ((later,), "later"),
        ((later, "load"), "later"),
        ((later, "forget", "--yes"), "later"),
        ((empty,), "holds anything learned"),
        ((tools, "export"), "copy the file"),
        ((tools, "load"), "no file of LearnedStore"),
        ((tmp_path, "load"), "is a folder"),
    ):
        failed = run(*arguments, input="")
        assert failed.exit_code == 1, arguments
        assert says in failed.output, failed.output
    assert text.read_text() == "mine, and long enough to be looked at"


def test_the_verb_may_stand_in_front(values, monkeypatch):
    """As with other commands; the environment may name the file."""
    assert as_json("forget", values, "--user", "ann") == {"learned.db": {"values": 3}}
    monkeypatch.setenv("TOKENOPT_LEARNED", str(values))
    assert as_json("forget", "--user", "bob") == {"learned.db": {"values": 3}}
    assert {row["owned"] for row in as_json("list")} == {0}


def test_doctor_names_what_was_learned(values, monkeypatch, tmp_path):
    """Where the environment says what it is."""
    monkeypatch.setenv("TOKENOPT_LEARNED", str(values))
    monkeypatch.chdir(tmp_path)
    found = json.loads(CliRunner().invoke(app, ["doctor", "--json"]).stdout)
    assert {row["part"]: row["state"] for row in found}["learned"] == "ok"
    assert run().stdout.splitlines()[0].startswith("file")
    monkeypatch.setenv("TOKENOPT_LEARNED", str(tmp_path / "none.db"))
    found = json.loads(CliRunner().invoke(app, ["doctor", "--json"]).stdout)
    assert {row["part"]: row["state"] for row in found}["learned"] == "broken"


def test_a_vector_of_a_file_is_no_user(tools):
    """What was learned without an owner stays when users are forgotten."""
    run(tools, "forget", "--user", "ann")
    learned = LearnedTools(tools)
    assert set(learned.uses("")) == {"mail", "search"}
    assert np.isfinite([use.count for use in learned.uses("").values()]).all()
    learned.close()
