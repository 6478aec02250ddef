"""Files that are damaged, tampered with, locked, full, shared or not ours to write."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import sqlite3
import subprocess
import sys
import textwrap
import threading
import warnings
import zlib

import numpy as np
import pytest
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, Generation

from langchain_tokenopt.cache import CacheFileError, SemanticCache, cache_file, repository
from langchain_tokenopt.core.errors import TokenOptWarning
from tests.support.caches import make_cache
from tests.support.embedders import WordEmbeddings

pytestmark = pytest.mark.exhaustive

LLM = "llm"


def say(text):
    return [Generation(text=text)]


@contextlib.contextmanager
def opened(path, **options):
    with make_cache(path, **options) as cache:
        yield cache


@contextlib.contextmanager
def edited(path):
    database = sqlite3.connect(path, isolation_level=None)
    yield database
    database.close()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "c.db"
    with opened(path) as cache:
        cache.update_many((f"question {n} on thing {n}", LLM, say("x" * 300)) for n in range(300))
    return path


@pytest.fixture
def one(tmp_path):
    path = tmp_path / "c.db"
    with opened(path) as cache:
        cache.update("what is my code", LLM, say("stored"))
    return path


def agree(cache, path):
    """Say whether memory and file hold the same entries of the same size."""
    with edited(path) as database:
        ids = {id for (id,) in database.execute("SELECT id FROM entry")}
    entries, size = cache._repository._file.totals()
    stats = cache.stats()
    return ids == set(cache._repository.index) and (entries, size) == (stats.entries, stats.bytes)


@pytest.mark.parametrize("share", [0.9, 0.5, 0.1])
def test_a_truncated_file_is_a_cold_start(file, share):
    """It is put aside with a warning, and the cache works."""
    os.truncate(file, int(file.stat().st_size * share))
    with pytest.warns(TokenOptWarning, match="put aside"), opened(file) as cache:
        cache.update("q", LLM, say("a"))
        assert say("a") == cache.lookup("q", LLM)
        assert 1 == cache.check().entries


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.7, 0.95])
def test_garbage_in_the_middle_is_a_cold_start_or_a_miss(file, share):
    """Pages that cannot be read are never served, whether they are met at once or later."""
    with file.open("r+b") as raw:
        raw.seek(int(file.stat().st_size * share) // 4_096 * 4_096)
        raw.write(b"\x99" * 4_096)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with opened(file) as cache:
            found = [cache.lookup(f"question {n} on thing {n}", LLM) for n in range(300)]

    assert {None, "x" * 300} >= {answer and answer[0].text for answer in found}
    assert len(warned) <= 2


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE entry SET vector = 'text'",
        "UPDATE entry SET vector = x'00'",
        "UPDATE entry SET question = x'00ff'",
        "UPDATE entry SET scope = 'text'",
        "UPDATE entry SET exact = 'text'",
        "UPDATE entry SET tokens = 'many'",
        "UPDATE entry SET expires = 'never'",
        "UPDATE entry SET hits = 'some'",
        "UPDATE entry SET agrees_with = 'all'",
        "UPDATE entry SET answers = 'text'",
        "UPDATE entry SET answers = x'00'",
        "UPDATE entry SET checksum = 'text'",
        "UPDATE entry SET checksum = x'00'",
        "UPDATE setting SET value = 'none' WHERE name = 'salt'",
        "UPDATE setting SET value = 5 WHERE name = 'salt'",
        "DELETE FROM setting",
        "DROP TABLE evidence",
        "DROP TABLE removed",
        "DROP TRIGGER entry_removed",
        "ALTER TABLE entry DROP COLUMN tokens",
    ],
)
def test_rows_of_another_shape_are_a_miss(one, sql):
    """Opening never fails for them, nothing of them is served, and the cache goes on."""
    with edited(one) as database:
        database.execute(sql)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TokenOptWarning)
        with opened(one) as cache:
            assert cache.lookup("what is my code", LLM) is None
            cache.update("another question", LLM, say("fresh"))
            assert say("fresh") == cache.lookup("another question", LLM)
            assert 1 == cache.check().entries


@pytest.mark.parametrize(
    "observations", ["5", "{}", "no json", "[[1]]", f"[[{'9' * 400}]]", '[["a"]]', "[" * 5_000]
)
def test_evidence_of_another_shape_is_passed_over(one, observations):
    """Answers are served as before."""
    with edited(one) as database:
        database.execute("INSERT INTO evidence (observations) VALUES (?)", (observations,))
    with opened(one) as cache:
        assert say("stored") == cache.lookup("what is my code", LLM)
        assert 0 == cache.stats().checked


@pytest.mark.parametrize("numbers", [np.nan, np.inf, 6e4])
def test_vectors_that_are_none_are_not_compared(one, numbers):
    """One that would be near to a question, however far it is, answers its own only."""
    other = "trains to rome"
    vector = (numbers * np.sign(WordEmbeddings().embed_query(other))).astype("<f2")
    with edited(one) as database:
        database.execute("UPDATE entry SET vector = ?", (vector.tobytes(),))
    with opened(one, min_similarity=0.1, guards=[]) as cache:
        assert () == cache.explain(other, LLM).candidates
        assert cache.lookup(other, LLM) is None


def tampered(path, forms):
    """Put *forms* in the place of an answer, with a checksum as good as ours."""
    packed = zlib.compress(forms.encode())
    with opened(path) as cache:
        checksum = cache._repository._file._checksum
        with edited(path) as database:
            row = database.execute("SELECT exact, scope, question, vector FROM entry").fetchone()
            database.execute(
                "UPDATE entry SET answers = ?, checksum = ?", (packed, checksum(*row, packed))
            )


SECRET = {"lc": 1, "type": "secret", "id": ["TOKENOPT_SECRET"]}


def constructor(*names, **kwargs):
    return {"lc": 1, "type": "constructor", "id": list(names), "kwargs": kwargs}


MESSAGE = ("langchain", "schema", "messages", "AIMessage")
ANSWER = ("langchain", "schema", "output", "ChatGeneration")


@pytest.mark.parametrize(
    "form",
    [
        json.dumps(SECRET),
        json.dumps(constructor(*ANSWER, message=constructor(*MESSAGE, content=SECRET))),
        json.dumps(
            constructor(
                *ANSWER, message=constructor(*MESSAGE, content="x", additional_kwargs={"k": SECRET})
            )
        ),
        json.dumps(constructor("langchain", "schema", "output", "Generation", text=SECRET)),
        {"info": None, "message": {"content": [SECRET]}},
        {"info": {"k": SECRET}, "text": "x"},
        {"info": None, "message": {"content": "x", "additional_kwargs": {"k": SECRET}}},
    ],
)
def test_tampered_rows_get_no_secrets(one, monkeypatch, form):
    """Nothing of the environment enters an answer, wherever in it a row asks for it."""
    monkeypatch.setenv("TOKENOPT_SECRET", "hunter2")
    tampered(one, json.dumps([form]))
    with opened(one) as cache:
        found = cache.lookup("what is my code", LLM)
        assert "hunter2" not in repr(found)
        cache.update("what is my code", LLM, found or say("x"))
    assert not any(b"hunter2" in file.read_bytes() for file in one.parent.iterdir())


@pytest.mark.parametrize(
    "form",
    [
        json.dumps(constructor("langchain", "chat_models", "openai", "ChatOpenAI", model="m")),
        json.dumps(constructor("langchain", "prompts", "prompt", "PromptTemplate", template="t")),
        json.dumps(constructor("langchain_core", "documents", "Document", page_content="x")),
        json.dumps(constructor("subprocess", "Popen", args=["true"])),
        json.dumps(constructor("builtins", "eval", source="1")),
        json.dumps(
            constructor(*ANSWER, message=constructor("langchain", "prompts", "prompt", "x"))
        ),
        json.dumps(constructor(*ANSWER, message=constructor(*MESSAGE[:-1], "SystemMessage"))),
        json.dumps(
            constructor(*ANSWER, message=constructor(*MESSAGE[:-1], "SystemMessage", content="x"))
        ),
        json.dumps(
            constructor(
                *ANSWER,
                message=constructor(
                    *MESSAGE,
                    content="x",
                    additional_kwargs={
                        "k": constructor(
                            "langchain",
                            "prompts",
                            "prompt",
                            "PromptTemplate",
                            template="t",
                            input_variables=[],
                        )
                    },
                ),
            )
        ),
        json.dumps({"lc": 2, "type": "not_implemented", "id": ["os"], "repr": "x"}),
        json.dumps(constructor(*MESSAGE, content="no generation")),
        "[" * 100_000,
        "[" * 500 + "]" * 500,
        5,
        None,
        [],
        {"text": "x"},
        {"info": 5, "text": "x"},
        {"info": None, "text": ["x"]},
        {"info": None, "message": {"content": "x", "id": "1"}},
        {"info": None, "message": {"content": "x", "usage_metadata": {"input_tokens": "many"}}},
        {"info": None, "message": ["content"]},
        {"info": None, "message": {"content": "x", "tool_calls": [5]}},
    ],
)
def test_tampered_rows_of_foreign_content_are_a_miss_and_leave(one, form):
    """Classes that are no answers are not made; the row is removed, and the model is asked."""
    tampered(one, json.dumps([form]))
    with opened(one) as cache:
        assert cache.lookup("what is my code", LLM) is None
        assert 0 == cache.check().entries


def test_a_bomb_is_not_unpacked(one):
    """A row that would grow without bound is a miss."""
    tampered(one, json.dumps(["x" * (80 << 20)]))
    with opened(one) as cache:
        assert cache.lookup("what is my code", LLM) is None


def test_a_locked_file_does_not_hold_up_requests(one, monkeypatch):
    """One write waits, with a warning; after that writing rests, and answers are served."""
    monkeypatch.setattr(cache_file, "_WRITING_SECONDS", 0.2)
    tried = []
    with opened(one) as cache, edited(one) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.warns(TokenOptWarning, match="database is locked") as warned:
            cache.update("question 0", LLM, say("lost"))
            cache._repository._file._database.set_trace_callback(tried.append)
            for number in range(1, 5):
                cache.update(f"question {number}", LLM, say("lost"))
        assert say("stored") == cache.lookup("what is my code", LLM)
        assert 1 == len(warned)
        assert not any(sql.startswith("BEGIN") for sql in tried)
        assert {"file failed": 4} == cache.stats().not_stored
        other.execute("ROLLBACK")
        cache._repository._no_writing_before = 0.0
        cache.update("question 1", LLM, say("kept"))

        assert say("kept") == cache.lookup("question 1", LLM)
        assert agree(cache, one)


def test_a_file_that_is_removed_while_it_is_open_is_a_cold_start(one):
    """One warning; calls go on, and what is stored from then on is in the new file."""
    with opened(one) as cache:
        one.unlink()
        with pytest.warns(TokenOptWarning, match="was removed while it was open") as warned:
            cache.update("lost", LLM, say("lost"))
        cache.update("kept", LLM, say("kept"))

        assert 1 == len(warned)
        assert [None, None, say("kept")] == [
            cache.lookup(question, LLM) for question in ("what is my code", "lost", "kept")
        ]
        assert agree(cache, one)


def test_a_file_that_is_locked_at_construction_is_named(one, monkeypatch):
    """The message says what is wrong: not the folder."""
    monkeypatch.setattr(cache_file, "_OPENING_SECONDS", 0.1)
    with edited(one) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(CacheFileError, match="locked by another process"):
            SemanticCache(one, embeddings=WordEmbeddings())


@pytest.mark.parametrize(
    "change",
    [
        lambda cache: cache.clear(),
        lambda cache: cache.reject(1),
        lambda cache: cache.check(),
        lambda cache: cache.update_many([("q", LLM, say("a"))]),
    ],
    ids=["clear", "reject", "check", "update_many"],
)
def test_who_asks_for_a_change_is_told_that_it_failed(one, monkeypatch, change):
    """With an error that says why, and nothing is changed."""
    monkeypatch.setattr(cache_file, "_WRITING_SECONDS", 0.1)
    with opened(one) as cache, edited(one) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(CacheFileError, match="cannot be used now: database is locked"):
            change(cache)
        other.execute("ROLLBACK")
        assert say("stored") == cache.lookup("what is my code", LLM)
        assert agree(cache, one)


def test_hits_are_served_while_their_counts_cannot_be_written(one, monkeypatch):
    """Neither counting nor a sliding expiry costs an answer."""
    monkeypatch.setattr(repository, "_HITS_PER_WRITE", 2)
    with opened(one, ttl_seconds=100, extend_ttl_on_hit=True) as cache:
        cache.update("again", LLM, say("x"))
        cache._repository._file._database.execute("PRAGMA query_only = 1")
        with pytest.warns(TokenOptWarning, match="Counts are not written"):
            found = [cache.lookup("again", LLM) for _ in range(6)]
        assert [say("x")] * 6 == found
        cache._repository._file._database.execute("PRAGMA query_only = 0")
        cache._repository._no_writing_before = 0.0
        assert cache.lookup("again", LLM)
    with opened(one) as cache:
        assert 7 == cache.top(1)[0].hits


def full_disk(path, *, small):
    """Make every write to *path* fail as on a full disk, or let them succeed again."""
    with edited(path) as database:
        (pages,) = database.execute("PRAGMA page_count").fetchone()
    return f"PRAGMA max_page_count = {pages if small else 1_000_000}"


def test_a_full_disk_is_a_miss_with_one_warning(one):
    """Requests go on; memory and file agree; when there is space again, answers are kept."""
    with opened(one) as cache:
        for number in range(40):
            cache.update(f"question number {number}", LLM, say("y" * 500))
        before = cache.stats().entries
        cache._repository._file._database.execute(full_disk(one, small=True))
        with pytest.warns(TokenOptWarning, match="disk is full") as warned:
            for number in range(40):
                cache._repository._no_writing_before = 0.0
                cache.update(f"another number {number}", LLM, say(os.urandom(2_000).hex()))
                assert cache.lookup(f"question number {number}", LLM) == say("y" * 500)
        assert 1 == len(warned)
        assert agree(cache, one)
        assert before <= cache.stats().entries < before + 40
        cache._repository._file._database.execute(full_disk(one, small=False))
        cache._repository._no_writing_before = 0.0
        cache.update("space again", LLM, say("kept"))
        assert say("kept") == cache.lookup("space again", LLM)
        assert agree(cache, one)
    with opened(one) as cache:
        assert say("kept") == cache.lookup("space again", LLM)
        assert cache.check().is_sound


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes as on POSIX")
@pytest.mark.parametrize("limit", ["file size", "tmpfs"])
def test_a_disk_that_is_really_full(tmp_path, limit):
    """Where the system itself refuses to write, in a process of its own."""
    folder = tmp_path
    if limit == "tmpfs":
        folder = tmp_path / "small"
        folder.mkdir()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)],
            capture_output=True,
            check=False,
        )
        if mounted.returncode != 0:
            pytest.skip("may not mount")
    try:
        done = subprocess.run(
            [sys.executable, "-c", _FULL, str(folder / "c.db"), limit],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    finally:
        if limit == "tmpfs":
            subprocess.run(["umount", str(folder)], check=True)

    assert "all is well\n" == done.stdout, done.stderr


_FULL = textwrap.dedent("""
    import os, resource, signal, sys, warnings
    from langchain_core.language_models import FakeListChatModel
    from langchain_tokenopt.cache import repository
    from tests.support.caches import make_cache

    path, limit = sys.argv[1:]
    repository._PAUSE_SECONDS = repository._PAUSE_FACTOR = 0.0
    if limit == "tmpfs":
        ballast = os.path.join(os.path.dirname(path), "ballast")
        with open(ballast, "wb") as file:
            file.write(os.urandom(300_000))
    else:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, resource.RLIM_INFINITY))
    cache = make_cache(path)
    answers = [os.urandom(4_000).hex() for _ in range(160)]
    model = FakeListChatModel(responses=answers, cache=cache)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        said = [model.invoke(f"question number {n}").content for n in range(160)]
        assert said == answers, "a call was changed"
        full = cache.stats().entries
        assert 0 < full < 160, full
        assert 1 == len(warned), [str(w.message) for w in warned]
        totals = cache._repository._file.totals()
        assert totals == (full, cache.stats().bytes), "memory and file differ"
        if limit == "file size":
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        else:
            os.unlink(ballast)
        assert "0" != FakeListChatModel(responses=["kept"], cache=cache).invoke("space").content
        assert "kept" == FakeListChatModel(responses=["kept"], cache=cache).invoke("space").content
        assert cache._repository._file.totals()[0] == cache.stats().entries == full + 1
        assert cache.check().is_sound
    cache.close()
    print("all is well")
""")


def fork():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: other threads are alive
        return os.fork()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes as on POSIX")
def test_a_folder_that_may_not_be_written_is_named(tmp_path):
    """The message says what to do; in a process without root's rights where this one has them."""
    tmp_path.chmod(0o755)
    if os.geteuid() == 0:
        for parent in tmp_path.parents:  # pytest's own, closed to others
            if "pytest" in str(parent):
                parent.chmod(0o755)
    with opened(tmp_path / "there.db") as cache:
        cache.update("q", LLM, say("a"))
    (tmp_path / "there.db").chmod(0o444)
    (tmp_path / "closed" / "in").mkdir(parents=True)
    (tmp_path / "closed").chmod(0o000)
    tmp_path.chmod(0o555)
    process = fork()
    if process == 0:  # pragma: no cover  another process
        code = 1
        try:
            if os.geteuid() == 0:
                os.setgid(65_534)
                os.setuid(65_534)
            names = ("new.db", "there.db", "closed/in/new.db")
            code = sum(_is_refused(tmp_path / name) for name in names)
        finally:
            os._exit(10 + code)
    _, status = os.waitpid(process, 0)
    tmp_path.chmod(0o755)
    (tmp_path / "closed").chmod(0o755)

    assert 13 == os.waitstatus_to_exitcode(status)


def _is_refused(path):
    try:
        SemanticCache(path, embeddings=WordEmbeddings())
    except CacheFileError as error:
        said = ("may write to", "cannot be opened", "is closed to this process")
        return any(words in str(error) for words in said)
    return False


def _write_read_clear(path, seed, mistakes):
    import random

    rng = random.Random(seed)
    wrong = 0
    with warnings.catch_warnings(record=True) as warned, opened(path, max_entries=50) as cache:
        warnings.simplefilter("always")
        for _ in range(300):
            number = rng.randrange(120)
            prompt = dumps([HumanMessage(f"what is object x{number}")])
            found = cache.lookup(prompt, LLM)
            wrong += bool(found) and found[0].text != f"x{number}"
            if not found:
                message = AIMessage(f"x{number}")
                cache.update(prompt, LLM, [ChatGeneration(message=message)])
            if rng.random() < 0.01:
                cache.clear()
            if rng.random() < 0.05 and found:
                cache.reject(found[0].message)
            wrong += cache.stats().entries > 50 + 2  # each of two others may just have added one
    mistakes.put((wrong, [str(w.message) for w in warned]))


def test_processes_that_write_read_and_clear_one_file(tmp_path):
    """No wrong answer, no warning, the cap holds but for a moment, and the file is sound."""
    path = tmp_path / "c.db"
    spawn = multiprocessing.get_context("spawn")
    mistakes = spawn.Queue()
    processes = [
        spawn.Process(target=_write_read_clear, args=(path, seed, mistakes)) for seed in range(3)
    ]
    for process in processes:
        process.start()
    found = [mistakes.get(timeout=120) for _ in processes]
    for process in processes:
        process.join()

    assert [(0, [])] * 3 == found
    with opened(path, max_entries=50) as cache:
        checked = cache.check()
        assert checked.is_sound
        assert () == checked.damaged
        assert checked.entries == cache.stats().entries <= 50


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes as on POSIX")
def test_a_cache_lives_on_in_a_forked_process(one):
    """Even if another thread held its lock when the process was forked."""
    with opened(one) as cache:
        holds, release = threading.Event(), threading.Event()

        def hold():
            with cache._repository.lock:
                holds.set()
                release.wait(5)

        thread = threading.Thread(target=hold)
        thread.start()
        holds.wait(5)
        process = fork()
        if process == 0:  # pragma: no cover  another process
            code = 1
            try:
                cache.update("from the child", LLM, say("child"))
                cache.update_many([("in bulk", LLM, say("child"))])
                code = 0 if cache.lookup("what is my code", LLM) == say("stored") else 2
            finally:
                os._exit(code)
        release.set()
        thread.join()

        assert 0 == os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        assert say("child") == cache.lookup("from the child", LLM)
        assert 3 == cache.check().entries == cache.stats().entries


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes as on POSIX")
def test_what_a_process_has_not_written_yet_is_not_written_by_its_child(one):
    """Hits and labels count once, whoever of the two closes the cache first."""
    with opened(one) as cache:
        for _ in range(3):
            assert cache.lookup("what is my code", LLM)
        cache._learning._unwritten.append(["words", "00", True])
        process = fork()
        if process == 0:  # pragma: no cover  another process
            try:
                cache.lookup("what is my code", LLM)
                cache.close()
                os._exit(0)
            finally:
                os._exit(1)
        assert 0 == os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    with opened(one) as again:
        assert 4 == again.top()[0].hits
    with edited(one) as database:
        told = "".join(text for (text,) in database.execute("SELECT observations FROM evidence"))
    assert 1 == told.count("words")


def test_a_process_does_not_delete_what_another_has_prolonged(tmp_path):
    """With a sliding expiry, each serves what the other has served lately."""
    now = [0.0]
    options = {"ttl_seconds": 60, "extend_ttl_on_hit": True, "clock": lambda: now[0]}
    path = tmp_path / "c.db"
    with opened(path, **options) as first, opened(path, **options) as second:
        first.update("q", LLM, say("a"))
        assert second.lookup("q", LLM)
        now[0] = 50
        first.lookup("q", LLM)
        now[0] = 70
        second.update("another", LLM, say("b"))

        assert say("a") == first.lookup("q", LLM)


def test_removals_do_not_fill_the_file(tmp_path, monkeypatch):
    """What other processes must be told of is forgotten in time, without closing the file."""
    monkeypatch.setattr(cache_file, "_KEPT_REMOVALS", 20)
    with opened(tmp_path / "c.db", max_entries=5) as cache:
        for number in range(100):
            cache.update(f"question {number}", LLM, say("a"))
        with edited(tmp_path / "c.db") as database:
            assert database.execute("SELECT count(*) FROM removed").fetchone()[0] <= 23


def test_a_read_that_failed_is_made_again(one):
    """An error while changes are read does not hide them for ever."""
    with opened(one) as cache, opened(one) as other:
        other.update("fresh", LLM, say("fresh"))
        cache._repository._file._removals = lambda: (_ for _ in ()).throw(
            sqlite3.OperationalError("io")
        )
        with pytest.warns(TokenOptWarning, match="io"):
            assert cache.lookup("fresh", LLM) is None
        del cache._repository._file._removals

        assert say("fresh") == cache.lookup("fresh", LLM)
