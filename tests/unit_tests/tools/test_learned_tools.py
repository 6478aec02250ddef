"""Tools learn from calls that happened: per namespace, bounded, private, and without breaking."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest

from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.tools import learned_tools
from langchain_tokenopt.tools.learned_tools import LearnedTools, Observation
from langchain_tokenopt.tools.ranking import ToolRanking
from langchain_tokenopt.tools.tool_reading import ToolCard, read_tool
from tests.unit_tests.tools.test_ranking import OFFICE, Axes, card

QUERY = "the usual for Monsieur Zephyrin Quodlibet, account 4711-0815"


def first(ranking: ToolRanking, query: str, namespace: str = "") -> str:
    return ranking.rank(query, OFFICE, namespace)[0].card.name


@pytest.mark.parametrize("embedder", [None, Axes()], ids=["words", "meaning"])
def test_a_request_that_led_to_a_call_leads_there_again(embedder):
    """What no description says is learned from use; others learn nothing of it."""
    ranking = ToolRanking(embedder, LearnedTools())
    before = [r[:3] for r in ranking.rank(QUERY, OFFICE, "ann")]
    for _ in range(3):
        ranking.learn(QUERY, OFFICE, ["convert_currency"], "ann")
    similar = "the usual for Monsieur Quodlibet"
    found = ranking.rank(similar, OFFICE, "ann")[0]
    assert found.card.name == "convert_currency"
    assert "used 3 times" in found.reason
    assert [r[:3] for r in ranking.rank(QUERY, OFFICE, "bob")] == before


def test_meaning_is_learned():
    """Uses move the tool towards what it is asked for, though no word is shared."""
    ranking = ToolRanking(Axes(), LearnedTools())
    assert first(ranking, "umbrella") == "getWeather"
    for _ in range(5):
        ranking.learn("rain", OFFICE, ["query_db"])
    assert "query_db" in [r.card.name for r in ranking.rank("umbrella", OFFICE)[:2]]


def test_old_uses_fade():
    """A habit that changed is learned anew."""
    ranking = ToolRanking(None, LearnedTools())
    for tool, times in (("send_email", 20), ("create_event", 60)):
        for _ in range(times):
            ranking.learn("do the quux", OFFICE, [tool])
    assert first(ranking, "quux") == "create_event"
    assert ranking._learned is not None
    assert ranking._learned.uses("")["create_event"].count < 50


def test_a_changed_tool_keeps_a_share():
    """Under the same name it is a similar tool; the first use says what it is now."""
    learned = LearnedTools()
    old, new = card("do", "Old text."), card("do", "New text.")
    for _ in range(10):
        learned.record(Observation("", [old], ["quux"]))
    full = learned.uses("")["do"]
    assert (full.weight_for(old), full.weight_for(new)) == (1.0, 0.3)
    learned.record(Observation("", [new], ["quux"]))
    assert learned.uses("")["do"].count == pytest.approx(1 + 0.98 * 0.3 * full.count)


def test_forgetting():
    """By namespace, by tool, by both; another process sees it."""
    learned = LearnedTools()
    for namespace in ("ann", "bob"):
        for tool in ("send_email", "query_db"):
            learned.record(Observation(namespace, [card(tool)], ["quux"]))
    learned.forget("ann", "query_db")
    assert {*learned.uses("ann")} == {"send_email"}
    learned.forget(tool="send_email")
    assert {*learned.uses("ann")} == set()
    assert {*learned.uses("bob")} == {"query_db"}
    learned.clear()
    assert {*learned.uses("bob")} == set()


def test_uses_are_kept_in_a_file_that_instances_share(tmp_path):
    """Another instance sees what is recorded and what is forgotten, and begins with it."""
    one, other = LearnedTools(tmp_path / "t.db"), LearnedTools(tmp_path / "t.db")
    assert other.uses("a") == {}
    one.record(Observation("a", [card("x")], ["quux"], "fake", np.ones(3, np.float32)))
    assert other.uses("a")["x"].vector.tolist() == [1, 1, 1]
    other.record(Observation("a", [card("x")], ["quux"], "fake", np.ones(3, np.float32)))
    assert one.uses("a")["x"].count == pytest.approx(1.98)
    assert one.buckets(["quux"]) == other.buckets(["quux"])
    other.forget("a")
    assert one.uses("a") == {}
    one.close()
    other.close()


def test_no_word_of_a_request_is_in_the_file(tmp_path):
    """Neither words, numbers nor names of users; each bucket holds many words; secrets differ."""
    file = tmp_path / "t.db"
    learned = LearnedTools(file)
    ranking = ToolRanking(Axes(), learned)
    ranking.learn(QUERY, OFFICE, ["query_db"], "ann@example.org")
    learned.close()
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir()).lower()
    assert b"query_db" in stored
    for word in ("monsieur", "zephyrin", "quodlibet", "usual", "account", "4711", "0815", "ann@"):
        assert word.encode() not in stored
    assert learned.buckets(["4711", "a1"]) == []
    assert LearnedTools().buckets(["quux", "word"]) != learned.buckets(["quux", "word"])
    many = learned.buckets([f"word{chr(97 + n % 26)}{chr(500 + n)}" for n in range(2_000)])
    assert max(many) < 16_384


def test_bounds(monkeypatch, tmp_path):
    """Tools, namespaces and rows: what was used longest ago leaves first."""
    monkeypatch.setattr(learned_tools, "MOST_TOOLS", 3)
    monkeypatch.setattr(learned_tools, "MOST_NAMESPACES", 2)
    monkeypatch.setattr(learned_tools, "_BOUNDED_EVERY", 1)
    learned = LearnedTools(tmp_path / "t.db")
    for namespace in ("a", "b", "c"):
        for n in range(5):
            learned.record(Observation(namespace, [card(f"t{n}")], ["quux"]))
    learned.close()
    fresh = LearnedTools(tmp_path / "t.db")
    found = {name: sorted(fresh.uses(name)) for name in ("a", "b", "c")}
    assert found == {"a": [], "b": ["t2", "t3", "t4"], "c": ["t2", "t3", "t4"]}
    monkeypatch.setattr(learned_tools, "MOST_ROWS", 2)
    fresh.record(Observation("c", [card("t9")], ["quux"]))
    fresh.close()
    assert sorted(LearnedTools(tmp_path / "t.db").uses("c")) == ["t4", "t9"]


def test_words_of_a_tool_are_bounded():
    """A tool that is used for everything keeps the words that come again."""
    learned = LearnedTools()
    for n in range(60):
        learned.record(
            Observation("", [card("x")], [f"w{chr(97 + n % 26)}{k * 'z'}" for k in range(20)])
        )
    assert len(learned.uses("")["x"].words) <= 256


def _foreign(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE precious (x)")
    database.close()


def _torn(path: Path) -> None:
    learned = LearnedTools(path)
    for n in range(50):
        learned.record(Observation("", [card(f"t{n}")], [f"word{k}" for k in "abcdefgh"]))
    learned.close()
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def _strange_rows(path: Path) -> None:
    learned = LearnedTools(path)
    learned.record(Observation("", [card("query_db")], ["quux"]))
    learned.close()
    with sqlite3.connect(path) as database:
        database.execute("UPDATE used SET vector = 'text', words = x'01'")
    database.close()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b"this is no database, whatever it is called"),
        lambda path: path.mkdir(),
        _foreign,
        _torn,
        _strange_rows,
    ],
    ids=["junk", "folder", "foreign", "torn", "strange rows"],
)
def test_a_bad_file_breaks_nothing(tmp_path, spoil):
    """Calls go on and go on learning, one warning says where; the file is not changed."""
    file = tmp_path / "t.db"
    spoil(file)
    before = file.read_bytes() if file.is_file() else None
    ranking = ToolRanking(None, LearnedTools(file))
    with pytest.warns(TokenOptWarning, match="delete the file"):
        for _ in range(3):
            ranking.rank("quux", OFFICE)
            ranking.learn("quux", OFFICE, ["send_email"])
    assert first(ranking, "quux") == "send_email"
    if before is not None and spoil is not _strange_rows and spoil is not _torn:
        assert file.read_bytes() == before


def test_a_locked_file_is_tried_again(tmp_path, monkeypatch):
    """While somebody else writes, nothing waits for long, and nothing is lost."""
    monkeypatch.setattr(learned_tools, "_PATIENCE_SECONDS", 0.01)
    file = tmp_path / "t.db"
    learned = LearnedTools(file)
    learned.record(Observation("", [card("x")], ["quux"]))
    writer = sqlite3.connect(file, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    with pytest.warns(TokenOptWarning, match="tried again"):
        learned.record(Observation("", [card("y")], ["quux"]))
    assert {*learned.uses("")} == {"x"}
    writer.execute("COMMIT")
    writer.close()
    learned.record(Observation("", [card("z")], ["quux"]))
    assert {*learned.uses("")} == {"x", "y", "z"}


def test_a_removed_file_is_forgotten(tmp_path):
    """To delete the file is to forget; it is made again."""
    file = tmp_path / "t.db"
    learned = LearnedTools(file)
    learned.record(Observation("", [card("x")], ["quux"]))
    for path in tmp_path.iterdir():
        path.unlink()
    learned.record(Observation("", [card("y")], ["quux"]))
    learned.record(Observation("", [card("z")], ["quux"]))
    assert "x" not in learned.uses("")
    assert {*LearnedTools(file).uses("")} >= {"z"}


def _record_many(path: str, name: str) -> None:
    learned = LearnedTools(path)
    for _ in range(20):
        learned.record(Observation("a", [card("shared"), card(name)], ["quux"]))
    learned.close()


@pytest.mark.exhaustive
def test_processes_and_threads_lose_nothing(tmp_path):
    """Three processes and four threads record at once: every row is there."""
    path = str(tmp_path / "t.db")
    context = multiprocessing.get_context("spawn")
    with warnings.catch_warnings():
        processes = [context.Process(target=_record_many, args=(path, f"p{n}")) for n in range(2)]
        for process in processes:
            process.start()
        learned = LearnedTools(path)
        threads = [
            threading.Thread(
                target=lambda name: [
                    learned.record(Observation("a", [card(name)], ["quux"])) for _ in range(10)
                ],
                args=(f"t{n}",),
            )
            for n in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for process in processes:
            process.join(60)
    assert {*learned.uses("a")} == {"shared", "p0", "p1", "t0", "t1", "t2", "t3"}
    faded = sum(0.98**n for n in range(40))
    assert learned.uses("a")["shared"].count == pytest.approx(faded)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_goes_on_with_the_file(tmp_path):
    """A fork between two uses: parent and child write for themselves."""
    learned = LearnedTools(tmp_path / "t.db")
    learned.record(Observation("", [card("parent")], ["quux"]))
    child = os.fork()
    if child == 0:
        try:
            learned.record(Observation("", [card("child")], ["quux"]))
            os._exit(0 if {*learned.uses("")} == {"parent", "child"} else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    learned.record(Observation("", [card("after")], ["quux"]))
    assert {*learned.uses("")} == {"parent", "child", "after"}


def test_weights_move_with_use_and_not_far():
    """Where names mislead and descriptions do not, descriptions count for more, up to a bound."""
    cards = [card("alpha", "Waters the plants."), card("plants", "Reads the meter.")]
    ranking = ToolRanking(None, LearnedTools())
    learned = ranking._learned
    assert learned is not None
    for _ in range(500):
        ranking.learn("plants", cards, ["alpha"], "ann")
    size = len(ranking.rank("plants", cards)[0].evidence.fusion.features)
    moved = learned.moved("ann", "words", size)
    assert moved is not None
    assert 0 < np.abs(moved).max() <= 3.0
    assert learned.moved("bob", "words", size) is None
    scores = ranking.rank("plants", cards, "ann")[0].evidence.scores
    assert np.isfinite(scores).all()


def test_what_was_not_there_is_not_learned():
    """A call of a tool that nobody offered, or of no tool."""
    learned = LearnedTools()
    ranking = ToolRanking(None, learned)
    ranking.learn("quux", OFFICE, ["unheard_of"])
    ranking.learn("quux", OFFICE, [])
    assert learned.uses("") == {}
    assert isinstance(read_tool({"name": "x"}), ToolCard)
