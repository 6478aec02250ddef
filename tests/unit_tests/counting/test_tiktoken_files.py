"""Where OpenAI's vocabularies come from, and what happens where there is none."""

from __future__ import annotations

import gzip
import hashlib
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

import pytest

from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.counting import tiktoken_files, tokens
from langchain_tokenopt.counting.tokens import TokenCount, counter_for


@pytest.fixture
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A process that has loaded nothing, on a machine without any vocabulary or network."""
    from tiktoken import registry

    monkeypatch.setattr(registry, "ENCODINGS", {})
    monkeypatch.setattr(tiktoken_files, "_encoders", {})
    monkeypatch.setattr(tiktoken_files, "_unavailable", set())
    monkeypatch.setattr(tiktoken_files, "find_spec", lambda name: None)
    monkeypatch.setattr(tiktoken_files, "_fetch", _no_network)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path / "tiktoken"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    tokens.counter_of_name.cache_clear()
    monkeypatch.setattr(tokens, "counter_of_name", tokens.counter_of_name.__wrapped__)
    return tmp_path


def _no_network(url: str) -> bytes:
    raise OSError("no route to host")


O200K_URL = "https://openaipublic.blob.core.windows.net/encodings/o200k_base.tiktoken"


def _o200k() -> bytes:
    spec = find_spec("bpe_openai")
    if spec is None or spec.submodule_search_locations is None:
        pytest.skip("needs bpe-openai")
    (folder,) = spec.submodule_search_locations
    return gzip.decompress((Path(folder) / "data" / "o200k_base.tiktoken.gz").read_bytes())


def _cached(folder: Path, content: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / hashlib.sha1(O200K_URL.encode()).hexdigest()
    path.write_bytes(content)
    return path


def test_estimates_with_one_warning_without_any_vocabulary(bare_machine: Path) -> None:
    """Nothing to count with: an estimate that says so, and one warning that says what to do."""
    with pytest.warns(TokenOptWarning, match=r"pip install.*\[vocabularies\]") as warned:
        counts = [counter_for("gpt-4o").count("The quick brown fox jumps.") for _ in range(3)]

    assert counts == [TokenCount(6, exact=False)] * 3
    assert len(warned) == 1


def test_foreign_models_neither_download_nor_warn(
    bare_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that is estimated anyway never waits for OpenAI's server."""
    asked: list[str] = []
    monkeypatch.setattr(tiktoken_files, "_fetch", asked.append)

    count = counter_for("claude-sonnet-4-5").count("The quick brown fox jumps.")

    assert (count, asked) == (TokenCount(7, exact=False), [])


def test_reads_tiktokens_own_cache_first(bare_machine: Path) -> None:
    """A vocabulary that tiktoken has is used."""
    _cached(bare_machine / "tiktoken", _o200k())

    assert counter_for("gpt-4o").count("お誕生日おめでとう") == TokenCount(8, exact=True)


def test_reads_the_wheel_without_importing_it(bare_machine: Path) -> None:
    """The extra with vocabularies is enough; its slow import is not paid."""
    code = (
        "import sys; from langchain_tokenopt.counting.tokens import counter_for;"
        "print(counter_for('gpt-4o').count('hello world'), 'bpe_openai' in sys.modules)"
    )
    _o200k()

    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert answer.stdout == "TokenCount(tokens=2, exact=True) False\n"


def test_refuses_a_file_with_the_wrong_hash(bare_machine: Path) -> None:
    """A damaged vocabulary would count wrongly: it is passed over, not used."""
    path = _cached(bare_machine / "tiktoken", b"aGVsbG8= 0\n")

    with pytest.warns(TokenOptWarning):
        count = counter_for("gpt-4o").count("hello")

    assert not count.exact
    assert path.exists()


def test_keeps_what_it_downloads(bare_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A vocabulary is downloaded once per machine, into a folder of our own."""
    asked: list[str] = []

    def fetch(url: str) -> bytes:
        asked.append(url)
        return _o200k()

    monkeypatch.setattr(tiktoken_files, "_fetch", fetch)
    first = counter_for("gpt-4o").count("hello world")
    tiktoken_files._encoders.clear()
    second = counter_for("gpt-4o").count("hello world")

    assert (first, second) == (TokenCount(2, exact=True), TokenCount(2, exact=True))
    assert asked == [O200K_URL]
    assert [p.name for p in (bare_machine / "cache" / "langchain-tokenopt").iterdir()] == [
        hashlib.sha1(O200K_URL.encode()).hexdigest()
    ]


def test_does_not_keep_a_damaged_download(
    bare_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A login page in place of the vocabulary is not stored."""
    monkeypatch.setattr(tiktoken_files, "_fetch", lambda url: b"<html>Please log in</html>")

    with pytest.warns(TokenOptWarning):
        counter_for("gpt-4o").count("hello")

    assert not (bare_machine / "cache").exists()


def test_counts_after_a_download_that_cannot_be_kept(
    bare_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read-only home is no reason not to count."""
    (bare_machine / "cache").write_text("a file where the folder should be")
    monkeypatch.setattr(tiktoken_files, "_fetch", lambda url: _o200k())

    assert counter_for("gpt-4o").count("hello world") == TokenCount(2, exact=True)


def test_does_not_wait_for_a_network_that_swallows_packets(
    bare_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A download that never ends is given up after the deadline."""
    told_to_end, ended = threading.Event(), threading.Event()

    def fetch(url: str) -> bytes:
        told_to_end.wait(60)
        ended.set()
        return b""

    monkeypatch.setattr(tiktoken_files, "_fetch", fetch)
    monkeypatch.setattr(tiktoken_files, "DOWNLOAD_SECONDS", 0.05)

    with pytest.warns(TokenOptWarning):
        counter_for("gpt-4o").count("hello")

    assert not ended.is_set()
    told_to_end.set()


def test_uses_what_the_application_has_loaded(
    bare_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One vocabulary in memory serves tiktoken's users and us."""
    from tiktoken import registry

    class Loaded:
        def encode_ordinary(self, text: str) -> list[int]:
            return [0] * 42

    monkeypatch.setitem(registry.ENCODINGS, "o200k_base", Loaded())  # type: ignore[arg-type]

    assert counter_for("gpt-4o").count("hello") == TokenCount(42, exact=True)


def test_a_tiktoken_that_reads_otherwise_is_not_trusted_to_return(
    bare_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should tiktoken change how it loads, we estimate rather than let it download unbounded."""
    from tiktoken_ext import openai_public

    monkeypatch.setitem(openai_public.ENCODING_CONSTRUCTORS, "o200k_base", lambda: {})

    with pytest.warns(TokenOptWarning):
        assert not counter_for("gpt-4o").count("hello").exact


def test_threads_load_a_vocabulary_once(
    bare_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten threads that begin together share one load."""
    _cached(bare_machine / "tiktoken", _o200k())
    loads: list[str] = []
    load = tiktoken_files._load
    monkeypatch.setattr(
        tiktoken_files, "_load", lambda name, **kw: (loads.append(name), load(name, **kw))[1]
    )
    counted: list[TokenCount] = []
    threads = [
        threading.Thread(target=lambda: counted.append(counter_for("gpt-4o").count("hello world")))
        for _ in range(10)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert counted == [TokenCount(2, exact=True)] * 10
    assert loads == ["o200k_base"]
