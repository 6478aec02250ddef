"""Embedders under a cache: none, those that say nothing of themselves, others under one name."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import warnings

import pytest
from langchain_core.embeddings import Embeddings
from langchain_core.outputs import Generation

from langchain_tokenopt.cache import SemanticCache
from langchain_tokenopt.cache.embedder import EmbeddingFailedError, GuardedEmbedder
from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.embeddings import LocalEmbeddings
from tests.support.caches import make_cache
from tests.support.embedders import BrokenEmbeddings, WordEmbeddings

LLM = "llm"


def say(text):
    return [Generation(text=text)]


class Silent(Embeddings):
    """The local model behind an interface that says nothing of what it reads."""

    def __init__(self, inner: Embeddings) -> None:
        self._inner = inner
        self.asked: list[str] = []

    def embed_query(self, text: str) -> list[float]:
        self.asked.append(text)
        return self._inner.embed_query(text)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return self._inner.embed_documents(texts)


@pytest.fixture(scope="module")
def local():
    return LocalEmbeddings()


FOREIGN = [
    "如何申请退款？我的订单还没有到。",
    "血糖过低的时候应该怎么办？",
    "返品の手続きについて詳しく教えてください",
    "환불은 어떻게 신청하나요?",
    "Как вернуть деньги за заказ?",
    "Πώς μπορώ να πάρω πίσω τα χρήματά μου;",
    "كيف يمكنني استرداد أموالي؟",
    "איך אני יכול לקבל החזר כספי?",
    "मैं अपना पैसा वापस कैसे पाऊं?",
    "ฉันจะขอเงินคืนได้อย่างไร",
    "როგორ დავიბრუნო თანხა?",
    "ինչպես վերադարձնել գումարը",
    "ገንዘቤን እንዴት ማስመለስ እችላለሁ",
]


@pytest.mark.parametrize("text", FOREIGN)
def test_a_script_that_an_embedder_does_not_know_is_not_read(local, text):
    """Neither where the model says so itself, nor where it has to be tried."""
    assert not local.reads(text)
    assert not GuardedEmbedder(Silent(local), 10).reads(text)


class Worldly(WordEmbeddings):
    """Knows the words of all languages; where there are no spaces, a text is one word."""

    def embed_query(self, text: str) -> list[float]:
        return super().embed_query(" ".join(word.encode().hex() for word in text.split()))


@pytest.mark.parametrize("text", FOREIGN)
def test_a_script_that_an_embedder_tells_apart_is_read(text):
    """Hosted models know most languages, and do not say so."""
    assert GuardedEmbedder(Worldly(), 10).reads(text)


def test_the_script_is_tried_once():
    """A hosted embedder is not asked three times for each question."""
    silent = Silent(Worldly())
    embedder = GuardedEmbedder(silent, 10)
    assert [True] * 3 == [embedder.reads(FOREIGN[4])] * 3
    assert 4 == len(silent.asked)


class Short(WordEmbeddings):
    """Reads the first hundred words in silence."""

    def embed_query(self, text: str) -> list[float]:
        return super().embed_query(" ".join(text.split()[:100]))


def test_a_text_beyond_an_unknown_window_is_not_read():
    """It is found out by leaving out its end."""
    text = " ".join(f"w{n}" for n in range(99))
    embedder = GuardedEmbedder(Short(), 10)
    assert embedder.reads(text)
    assert not embedder.reads(text + " and many other words to follow" * 8)
    assert GuardedEmbedder(WordEmbeddings(), 10).reads(text + " and more" * 30)


def test_what_is_not_read_is_matched_exactly_only(local):
    """Through the cache, also where two texts come out equal."""
    with make_cache(embeddings=Silent(local)) as cache:
        cache.update(FOREIGN[0], LLM, say("Here."))
        assert "Here." == cache.lookup(FOREIGN[0], LLM)[0].text
        assert cache.lookup(FOREIGN[1], LLM) is None
        assert {"not read by the embedder": 1} == cache.stats().misses


class Asymmetric(WordEmbeddings):
    """Treats documents in another way than questions, as many hosted models do."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(f"passage passage passage {text} ends") for text in texts]


def test_what_is_stored_in_bulk_is_found_like_the_rest(tmp_path):
    """Questions are compared with questions, whatever an embedder makes of documents."""
    with make_cache(tmp_path / "c.db", embeddings=Asymmetric()) as cache:
        cache.update_many([("How can I change my card PIN?", LLM, say("In Settings."))])
        assert "In Settings." == cache.lookup("How can I modify my card PIN?", LLM)[0].text


# Without any embedder


def test_without_meaning_equal_requests_and_the_same_words_are_served():
    """And nothing is embedded."""
    embeddings = WordEmbeddings()
    with make_cache(embeddings=embeddings, semantic=False) as cache:
        cache.update("How can I change my card PIN?", LLM, say("In Settings."))
        assert cache.lookup("How can I change my card PIN?", LLM)
        assert cache.lookup("how can I change my card PIN", LLM)
        assert cache.lookup("How can I modify my card PIN?", LLM) is None
        assert {"not compared by meaning": 1} == cache.stats().misses
        assert "semantic=False" in cache.explain("How can I modify my card PIN?", LLM).why
        assert 1 == cache.update_many([("Where is it?", LLM, say("Here."))])
    assert [] == embeddings.calls


def test_without_meaning_wordings_of_an_answer_are_still_compared():
    """Checked hits of the same words are not called wrong because the answer is put otherwise."""
    with make_cache(semantic=False, audit_share=0.999, seed=0) as cache:
        for n in range(30):
            cache.update(f"Where is the office of team {chr(97 + n)}x?", LLM, say(f"Room {n}."))
        cache.update("Where do I find the harbour office?", LLM, say("It is beside the mole."))
        for _ in range(20):
            if cache.lookup("where do I find the harbour office", LLM) is None:
                cache.update("where do I find the harbour office", LLM, say("It's beside the mole"))
                break
        assert (1, 0) == (cache.stats().checked, cache.stats().checked_wrong)


def test_without_the_extra_it_works():
    """Nothing of torch, transformers or the tokenizers is needed."""
    code = """
        import sys
        from importlib.abc import MetaPathFinder

        class Missing(MetaPathFinder):
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in ("torch", "tokenizers", "safetensors",
                                              "sentence_transformers", "transformers"):
                    raise ModuleNotFoundError(name)

        sys.meta_path.insert(0, Missing())
        from langchain_core.language_models import FakeListChatModel
        from langchain_tokenopt import CacheSettings, SemanticCache, optimize

        cache = SemanticCache(semantic=False, settings=CacheSettings(audit_share=0))
        model = optimize(FakeListChatModel(responses=["one", "two"]), cache)
        print(*[model.invoke(q).content for q in ("Where is it?", "where is it", "And now?")])
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "one one two\n" == done.stdout, done.stderr


def test_a_file_may_be_used_with_and_without_an_embedder(tmp_path):
    """Its answers are served by both; it belongs to the first embedder that comes."""
    path = tmp_path / "c.db"
    with SemanticCache(path, semantic=False) as cache:
        cache.update("Where is it?", LLM, say("Here."))
    with SemanticCache(path, embeddings=WordEmbeddings()) as cache:
        assert cache.lookup("Where is it?", LLM)
        cache.update("How can I change my card PIN?", LLM, say("In Settings."))
    with SemanticCache(path, semantic=False) as cache:
        assert cache.lookup("how can I change my card PIN", LLM)
    with make_cache(path) as cache:
        assert cache.lookup("How can I modify my card PIN?", LLM)


# Other models under the same name


class Other(WordEmbeddings):
    """Another model, of another kind, under the name of the first."""

    fingerprint = "words"

    def embed_query(self, text: str) -> list[float]:
        return super().embed_query(text[::-1])


class First(WordEmbeddings):
    """The model that was there first."""

    fingerprint = "words"


def test_an_embedder_that_changes_under_its_name_is_noticed(tmp_path):
    """Its vectors are not compared; equal requests are served; one warning says what to do."""
    path = tmp_path / "c.db"
    with make_cache(path, embeddings=First()) as cache:
        cache.update("How can I change my card PIN?", LLM, say("In Settings."))
    with make_cache(path, embeddings=First()) as cache:
        assert cache.lookup("How can I modify my card PIN?", LLM)
    with make_cache(path, embeddings=Other()) as cache:
        with pytest.warns(TokenOptWarning, match=r"no longer those.*clear\(\)") as caught:
            assert cache.lookup("How can I forget my card PIN?", LLM) is None
            cache.update("How can I forget my card PIN?", LLM, say("In Settings."))
        assert 1 == len(caught)
        assert cache.lookup("How can I change my card PIN?", LLM)
        assert cache.lookup("How can I forget my card PIN?", LLM)
        cache.clear()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            cache.update("How can I change my card PIN?", LLM, say("In Settings."))
            assert cache.explain("How can I change my bank card PIN?", LLM).candidates


# What is long


@pytest.mark.exhaustive
@pytest.mark.parametrize("text", ["where is my card ", "где моя карта ", "x = {1: 'a'}\n"])
def test_megabytes_are_not_cut_into_words(monkeypatch, text):
    """Five of them are kept and served exactly; nothing slower than reading them is done."""
    model = LocalEmbeddings()
    model.embed_query("loaded")
    reader = model._model().reader
    monkeypatch.setattr(type(reader), "tokenizer", None, raising=False)
    monkeypatch.delattr(reader, "tokenizer")
    question = text * (5_000_000 // len(text))
    with make_cache(embeddings=model) as cache:
        assert cache.lookup(question, LLM) is None
        cache.update(question, LLM, say("Here."))
        assert "Here." == cache.lookup(question, LLM)[0].text
        assert {"not read by the embedder": 1} == cache.stats().misses


def test_an_embedder_that_wants_to_leave_is_not_waited_for():
    """``SystemExit`` in its thread is a failure like any other."""
    embedder = GuardedEmbedder(BrokenEmbeddings(lambda: sys.exit(3)), timeout=600)
    with pytest.raises(EmbeddingFailedError, match="SystemExit: 3"):
        embedder.vector("Where is my PIN?")


def test_where_equality_is_asked_for_nothing_else_is_served(local):
    """An embedder that reads no capitals finds these equal: ``git branch -D`` deletes."""
    with make_cache(embeddings=local, min_similarity=1.0) as cache:
        cache.update("git branch -d", LLM, [Generation(text="Deletes what is merged.")])
        assert cache.lookup("git branch -D", LLM) is None
        assert "min_similarity=1" in cache.explain("git branch -D", LLM).why
        assert cache.lookup("git branch -d", LLM) is not None


def test_an_answer_is_kept_when_it_cannot_be_compared():
    """As where vectors have another length all at once."""
    embeddings = WordEmbeddings()
    with make_cache(embeddings=embeddings) as cache:
        for question, said in (
            ("Where can I find my PIN?", "You find it in the app under cards."),
            ("Where can I find my card PIN?", "You will find it in the app, look under cards."),
        ):
            assert cache.lookup(question, LLM) is None
            cache.update(question, LLM, say(said))
        third = "Where can I find my bank PIN?"
        assert cache.lookup(third, LLM) is None
        embeddings.size = 32
        cache.update(third, LLM, say("In the app you find it, under your cards."))
        assert cache.lookup(third, LLM) is not None
