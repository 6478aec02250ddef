"""The cache: what is served, what is kept, and what goes wrong."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
import warnings

import pytest
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGeneration
from langchain_core.runnables import RunnableLambda

from langchain_tokenopt.cache import CacheFileError, SemanticCache
from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.core.staged_runs import CacheHit
from tests.support.cache_places import in_files, soon
from tests.support.caches import make_cache
from tests.support.embedders import BrokenEmbeddings, WordEmbeddings

LLM = "[('_type', 'fake'), ('stop', None)]"


def chat(text="In Settings.", **fields):
    return [
        ChatGeneration(message=AIMessage(text, **fields), generation_info={"finish_reason": "stop"})
    ]


def asked(*texts):
    return dumps([SystemMessage("You are a bank."), *map(HumanMessage, texts)])


def texts(found):
    return found and [answer.text for answer in found]


def groups(cache):
    """Return the groups of answers that say the same."""
    index = cache._repository.index
    return {index.answer_groups.of(entry.answer) for entry in index.top(99)}


@pytest.mark.parametrize(
    ("question", "tier"),
    [
        ("How can I change my card PIN?", "exact_hits"),
        ("how can I  change my card PIN", "same_words_hits"),
        ("How can I modify my card PIN?", "semantic_hits"),
    ],
)
def test_a_question_is_answered_from_the_nearest_tier(make, question, tier):
    """Equal text, equal words, equal meaning: each is counted as what it is."""
    cache = make()
    cache.update(asked("How can I change my card PIN?"), LLM, chat())
    cache.update(asked("Where is the next train to Paris?"), LLM, chat("Platform 3."))

    assert ["In Settings."] == texts(cache.lookup(asked(question), LLM))
    assert 1 == getattr(cache.stats(), tier)
    assert 1 == cache.stats().hits


@pytest.mark.parametrize(
    "question",
    ["How can I not change my card PIN?", "Is the weather in Rome nice?"],
)
def test_another_question_is_asked(make, question):
    """A veto, no neighbour and a doubt lead to the model."""
    cache = make()
    cache.update(asked("How can I change my card PIN?"), LLM, chat())

    assert cache.lookup(asked(question), LLM) is None


def test_equal_text_needs_no_embedding(make):
    """The tiers of the same request and of the same words never call the embedder."""
    embeddings = WordEmbeddings()
    cache = make(embeddings=embeddings)
    cache.update("Where is my PIN?", LLM, chat())
    before = len(embeddings.calls)

    assert cache.lookup("Where is my PIN?", LLM)
    assert cache.lookup("where is my PIN", LLM)
    assert before == len(embeddings.calls)


def test_the_constructor_does_not_embed(tmp_path):
    """A cache can be made while the embedder is not reachable."""
    embeddings = WordEmbeddings()
    SemanticCache(tmp_path / "c.db", embeddings=embeddings).close()

    assert [] == embeddings.calls


def test_a_hit_is_a_fresh_marked_copy_without_the_old_id(make):
    """Neither the stored answer nor the caller's can be changed through the other."""
    cache = make()
    original = chat("Yes.", id="run-1", additional_kwargs={"a": [1]})
    cache.update("Is it?", LLM, original)
    original[0].message.additional_kwargs["a"] = "changed"
    first = cache.lookup("Is it?", LLM)[0]
    first.message.content = "No."
    first.message.additional_kwargs["b"] = 2
    again = cache.lookup("Is it?", LLM)[0]

    assert isinstance(first.generation_info, CacheHit)
    assert again.message.id is None
    assert "Yes." == again.message.content
    assert {"a": [1]} == again.message.additional_kwargs


def test_scopes_are_apart(make):
    """Users, tenants and namespaces never see each other's answers; scopes nest."""
    cache = make()
    with cache.scope(user="ann"), cache.scope(tenant="t"):
        cache.update("What is it?", LLM, chat("Ann's"))
        assert cache.lookup("What is it?", LLM)
    with cache.scope(user="ann"):
        assert cache.lookup("What is it?", LLM) is None
    with cache.scope(user="bob", tenant="t"):
        assert cache.lookup("What is it?", LLM) is None
    assert cache.lookup("What is it?", LLM) is None


def test_a_scope_belongs_to_one_cache(make):
    """What is asked of another cache inside of it is in no scope."""
    own, other = make(), make(require_scope=True)
    with own.scope(user="ann"):
        own.update("What is it?", LLM, chat("Ann's"))
        other.update("What is it?", LLM, chat("Ann's"))

    assert own.lookup("What is it?", LLM) is None
    assert 0 == other.stats().entries


@pytest.mark.parametrize(
    ("metadata", "labels"),
    [
        ({"user_id": "ann"}, {"user": "ann"}),
        ({"user": "ann"}, {"user": "ann"}),
        ({"tenant_id": "t"}, {"organization": "t"}),
        ({"org_id": "t", "user_id": 7}, {"tenant": "t", "user_id": "7"}),
    ],
)
def test_users_in_metadata_are_those_of_scopes(make, metadata, labels):
    """An answer that was stored for a user is found however the user is named, by nobody else."""
    cache = make()
    set_config = RunnableLambda(lambda _: cache.lookup("Who am I?", LLM))
    with cache.scope(**labels):
        cache.update("Who am I?", LLM, chat("Ann."))

    assert ["Ann."] == texts(set_config.invoke("", {"metadata": metadata}))
    assert set_config.invoke("", {"metadata": {**metadata, "user_id": "bob"}}) is None
    assert set_config.invoke("", {}) is None


def test_metadata_of_another_user_does_not_open_a_scope(make):
    """Where both name a user, and not the same one, neither one's answers are served."""
    cache = make()
    ask = RunnableLambda(lambda _: cache.lookup("Who am I?", LLM))
    for user in ("ann", "bob"):
        with cache.scope(user=user):
            cache.update("Who am I?", LLM, chat(user))
    with cache.scope(user="ann"):
        assert ask.invoke("", {"metadata": {"user_id": "bob"}}) is None


def test_a_cache_that_requires_a_scope_serves_nothing_without(make):
    """Neither stored nor served outside of a scope."""
    cache = make(require_scope=True)
    cache.update("q", LLM, chat("open"))
    with cache.scope(user="ann"):
        cache.update("q", LLM, chat("Ann's"))

    assert cache.lookup("q", LLM) is None
    assert 1 == cache.stats().entries
    with cache.scope(user="ann"):
        assert ["Ann's"] == texts(cache.lookup("q", LLM))


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        (
            [
                ChatGeneration(
                    message=AIMessage("Once"), generation_info={"finish_reason": "length"}
                )
            ],
            "not whole",
        ),
        (chat("Once", response_metadata={"stop_reason": "max_tokens"}), "not whole"),
        (
            [
                ChatGeneration(
                    message=AIMessage("x", response_metadata={"finish_reason": "content_filter"})
                )
            ],
            "not whole",
        ),
        (chat("", additional_kwargs={"refusal": "I cannot."}), "not whole"),
        (chat("", tool_calls=[{"name": "f", "args": {}, "id": "1"}]), "tool_calls"),
        (chat(""), "empty"),
        ([], "empty"),
    ],
    ids=["length", "max_tokens", "filtered", "refusal", "tool call", "nothing said", "no answer"],
)
def test_answers_that_are_no_answers_are_not_kept(make, answers, reason):
    """They are counted by reason."""
    cache = make()
    cache.update("q", LLM, answers)

    assert cache.lookup("q", LLM) is None
    assert {reason: 1} == cache.stats().not_stored


def test_tool_calls_are_kept_when_asked(make):
    """With fresh copies of the calls."""
    cache = make(cache_tool_calls=True)
    call = {"name": "f", "args": {"x": 1}, "id": "1", "type": "tool_call"}
    cache.update("q", LLM, chat("", tool_calls=[call]))
    cache.lookup("q", LLM)[0].message.tool_calls[0]["args"]["x"] = 2

    assert [call] == cache.lookup("q", LLM)[0].message.tool_calls


def test_kinds_of_requests_are_skipped_when_asked(make):
    """Personal questions are neither kept nor served by likeness."""
    cache = make(skip=["personal"])
    cache.update("Where is my order?", LLM, chat("In Rome."))

    assert cache.lookup("Where is my order?", LLM) is None
    assert {"personal": 1} == cache.stats().not_stored
    with pytest.raises(ValueError, match=r"unknown kinds.*\['weather'\]"):
        make(skip=["weather"])


def test_answers_expire_absolutely(make):
    """A hit does not prolong an answer's life, unless that is asked for."""
    now = [1_000.0]
    fixed = make(ttl_seconds=60, clock=lambda: now[0])
    sliding = make(ttl_seconds=60, extend_ttl_on_hit=True, clock=lambda: now[0])
    for cache in (fixed, sliding):
        cache.update("q", LLM, chat())
    now[0] += 50
    assert fixed.lookup("q", LLM)
    assert sliding.lookup("q", LLM)
    now[0] += 50

    assert fixed.lookup("q", LLM) is None
    assert sliding.lookup("q", LLM)


def test_expired_answers_leave_the_file(make, tmp_path):
    """The next answer that is kept takes them out."""
    now = [0.0]
    cache = make(tmp_path / "c.db", ttl_seconds=60, clock=lambda: now[0])
    cache.update("old", LLM, chat())
    now[0] += 61
    cache.update("new", LLM, chat())

    assert 1 == cache.check().entries
    assert 1 == cache.stats().expired


def test_caps_on_entries_and_bytes_are_exact(make):
    """Never one entry or byte more."""
    by_entries = make(max_entries=5)
    by_bytes = make(max_bytes=3_000)
    for number in range(40):
        for cache in (by_entries, by_bytes):
            cache.update(f"question {number}", LLM, chat(f"answer {number}"))
            assert by_entries.stats().entries <= 5
            assert by_bytes.stats().bytes <= 3_000

    assert 5 == by_entries.check().entries
    assert 0 < by_bytes.check().entries < 40
    assert by_bytes.check().bytes == by_bytes.stats().bytes


@pytest.mark.parametrize("eviction", ["adaptive", "lru", "lfu", "ttl", "cost", "fifo"])
def test_a_newcomer_to_a_full_cache_is_served(make, eviction):
    """Whatever the others have that it lacks: it was asked last, and is asked again."""
    cache = make(max_entries=20, eviction=eviction)
    for number in range(20):
        cache.update(f"question {number}", LLM, chat("A long and expensive answer. " * 9))
        for _ in range(5):
            cache.lookup(f"question {number}", LLM)
    before = cache.stats().hits
    for _ in range(50):
        if cache.lookup("the new one", LLM) is None:
            cache.update("the new one", LLM, chat("x"))

    assert 49 == cache.stats().hits - before


class NewestFirst:
    """A caller's own policy: the newest entry but one leaves."""

    def __init__(self):
        self.keys = []

    def insert(self, key, use):
        self.keys.append(key)

    def touch(self, key):
        pass

    def remove(self, key):
        if key in self.keys:
            self.keys.remove(key)

    def victim(self):
        return self.keys[-2] if len(self.keys) > 1 else None


@in_files
def test_the_caller_may_decide_who_leaves(make):
    """Through the four methods of an eviction policy; also after the cache was cleared."""
    policy = NewestFirst()
    cache = make(max_entries=3, eviction=policy)
    for _ in range(2):
        for number in range(6):
            cache.update(f"question {number}", LLM, chat(f"answer {number}"))
        kept = [n for n in range(6) if cache.lookup(f"question {n}", LLM)]
        assert [0, 1, 5] == kept
        cache.clear()

    assert [] == policy.keys


def test_everything_comes_back_after_a_restart(make, tmp_path):
    """Answers, likeness, hits and evidence."""
    first = make(tmp_path / "c.db")
    first.update("How can I change my card PIN?", LLM, chat())
    first.update("Where is the next train to Paris?", LLM, chat("Platform 3."))
    first.lookup("How can I change my card PIN?", LLM)
    first.close()
    second = make(tmp_path / "c.db")

    assert ["In Settings."] == texts(second.lookup("How can I modify my card PIN?", LLM))
    assert ["How can I change my card PIN?", 2] == [
        second.top(1)[0].question,
        second.top(1)[0].hits,
    ]


def test_two_caches_on_one_file_share_answers(make, tmp_path):
    """As two processes do; what one deletes the other does not serve."""
    one, other = make(tmp_path / "c.db"), make(tmp_path / "c.db")
    one.update("q", LLM, chat("a"))
    found = other.lookup("q", LLM)
    assert ["a"] == texts(found)
    one.reject(found[0].message)

    assert soon(lambda: other.lookup("q", LLM) is None)


def test_a_rejected_answer_is_not_served_again(make):
    """Neither to its own question nor to like ones; other messages are refused."""
    cache = make()
    cache.update("How can I change my card PIN?", LLM, chat("Wrong."))
    served = cache.lookup("How can I modify my card PIN?", LLM)[0].message

    assert cache.reject(served)
    assert not cache.reject(served)
    assert cache.lookup("How can I change my card PIN?", LLM) is None
    assert cache.lookup("How can I modify my card PIN?", LLM) is None
    assert 1 == cache.stats().rejected
    with pytest.raises(ValueError, match="not served by a SemanticCache"):
        cache.reject(AIMessage("x"))


def test_feedback_is_evidence(make):
    """Confirmed and rejected hits count as checked."""
    cache = make()
    cache.update("How can I change my card PIN?", LLM, chat())
    served = cache.lookup("How can I modify my card PIN?", LLM)[0].message

    assert cache.confirm(served)
    assert [1, 0] == [cache.stats().checked, cache.stats().checked_wrong]


def test_true_answers_are_compared_with_stored_ones(make):
    """After a miss with a near neighbour the answer says whether that would have been right."""
    cache = make(max_wrong_per_request=0.0)
    cache.update("How can I change my card PIN?", LLM, chat("In Settings."))
    for question, answer in (
        ("How can I modify my card PIN?", "in settings"),
        ("How can I change my card PIN abroad?", "At an ATM."),
    ):
        assert cache.lookup(question, LLM) is None
        cache.update(question, LLM, chat(answer))

    assert [2, 1] == [cache.stats().checked, cache.stats().checked_wrong]


def test_who_expires_next_leaves_first_when_hits_prolong_life(make):
    """``extend_ttl_on_hit`` moves an entry back in the order of ``eviction="ttl"``, too."""
    now = [0.0]
    cache = make(
        ttl_seconds=100, extend_ttl_on_hit=True, eviction="ttl", max_entries=2, clock=lambda: now[0]
    )
    for now[0], question in ((0.0, "first"), (1.0, "second")):
        cache.update(asked(question), LLM, chat(question))
    now[0] = 2.0
    assert cache.lookup(asked("first"), LLM)
    cache.update(asked("third"), LLM, chat("third"))

    assert cache.lookup(asked("first"), LLM)
    assert cache.lookup(asked("second"), LLM) is None


def test_equal_answers_that_are_imported_are_one(make):
    """Across batches, but for spelling marks; other answers and other scopes stay apart."""
    cache = make()
    items = [
        (asked("How can I change my card PIN?"), LLM, chat("In Settings.")),
        (asked("How could I modify my card PIN?"), LLM, chat("in settings")),
        (asked("Where is my card?"), LLM, chat("In the post.")),
        (asked("How can I change my card PIN?"), "other", chat("In Settings.")),
        (asked("How might I alter my card PIN?"), LLM, chat("In Settings.")),
    ]
    assert 5 == cache.update_many(items, batch=2)

    numbers = [entry.answer for entry in cache._repository.index.top(99)]
    assert 3 == len(set(numbers))
    assert numbers[0] == numbers[1] == numbers[4]


@pytest.mark.parametrize("reopened", [False, True])
def test_answers_that_one_wording_matches_become_one(make, tmp_path, reopened):
    """Two that were kept apart are one after a third that is like both, on disk, too."""
    path = tmp_path / "c.db"
    options = {"max_wrong_per_request": 0.0, "same_answer": lambda a, b: bool(set(a) & set(b))}
    cache = make(path, **options)
    cache.update(asked("How can I change my card PIN?"), LLM, chat("ab"))
    cache.update(asked("How could I change my card PIN?"), LLM, chat("xy"))
    apart = groups(cache)
    cache.update(asked("How might I change my card PIN?"), LLM, chat("bx"))
    if reopened:
        cache.close()
        cache = make(path, **options)

    together = groups(cache)
    assert 2 == len(apart)
    assert 3 == len(cache._repository.index)
    assert 1 == len(together)


def test_the_caller_may_compare_answers(make):
    """``same_answer`` replaces the default comparison."""
    cache = make(max_wrong_per_request=0.0, same_answer=lambda a, b: a[0] == b[0])
    cache.update("How can I change my card PIN?", LLM, chat("1 In Settings"))
    cache.lookup("How can I modify my card PIN?", LLM)
    cache.update("How can I modify my card PIN?", LLM, chat("1 Somewhere else"))

    assert [1, 0] == [cache.stats().checked, cache.stats().checked_wrong]


def test_a_static_threshold_replaces_the_decision(make):
    """With ``min_similarity`` the cosine and the guards decide alone, doubts included."""
    cache = make(min_similarity=0.8)
    cache.update("Can I feed my dog some oil today?", LLM, chat("No."))

    assert cache.lookup("Can I feed my cat some oil today?", LLM) is None
    assert cache.lookup("Can I feed my dog some cheap oil today?", LLM) is None
    assert ["No."] == texts(cache.lookup("Could I feed my dog some oil today?", LLM))


def test_guards_can_be_switched_off(make):
    """Without the guard the near question is served."""
    question = "How do I enable 2FA?"
    guarded = make(min_similarity=0.5)
    open_ = make(min_similarity=0.5, guards=["numbers"])
    for cache in (guarded, open_):
        cache.update("How do I disable 2FA?", LLM, chat())

    assert guarded.lookup(question, LLM) is None
    assert {"veto: opposite": 1} == guarded.stats().misses
    assert open_.lookup(question, LLM)


def test_explain_says_why(make):
    """For hits, vetoes, strangers and plain questions; and changes nothing."""
    cache = make()
    cache.update("How can I change my card PIN?", LLM, chat())
    before = cache.stats()

    assert cache.explain("How can I change my card PIN?", LLM).hit
    semantic = cache.explain("How can I modify my card PIN?", LLM)
    assert semantic.hit
    assert "differs only in: 'change' / 'modify'" in semantic.why
    other = cache.explain("How can I change my card PIN code today?", LLM)
    assert not other.hit
    assert other.probability < other.threshold
    vetoed = cache.explain("How can I not change my card PIN?", LLM)
    assert ("opposite",) == vetoed.candidates[0].vetoes
    assert "opposite" in vetoed.why
    assert "nearer" in cache.explain("Paris in spring?", LLM).why
    assert (
        "How can I change my card PIN?" == cache.explain("change card PIN").candidates[0].question
    )
    assert before == cache.stats()


def test_a_hit_saves_what_the_answer_once_cost(make):
    """As the provider reported it."""
    cache = make()
    usage = {"input_tokens": 90, "output_tokens": 10, "total_tokens": 100}
    cache.update("q", LLM, chat(usage_metadata=usage))
    cache.lookup("q", LLM)

    assert 100 == cache.stats().saved_tokens


def test_bulk_storing_is_the_same_as_storing_one_by_one(make):
    """Equal requests, equal answers, one embedding call per batch; later ones win."""
    cache = make()
    stored = cache.update_many(
        [
            ("How can I change my card PIN?", LLM, chat("old")),
            ("b", LLM, chat("B")),
            ("c", LLM, chat("")),
        ]
    )
    cache.update_many([("How can I change my card PIN?", LLM, chat("new"))])

    assert 2 == stored
    assert 2 == cache.check().entries
    assert ["new"] == texts(cache.lookup("How can I modify my card PIN?", LLM))


def test_clear_forgets_everything(make):
    """Answers, evidence and pending questions."""
    cache = make()
    cache.update("q", LLM, chat())
    cache.clear()

    assert cache.lookup("q", LLM) is None
    assert 0 == cache.check().entries


@pytest.mark.parametrize(
    "instead",
    [
        lambda: [float("nan")] * 64,
        lambda: [1.0, 2.0],
        lambda: "no vector",
        lambda: 1 / 0,
        lambda: time.sleep(5),
    ],
    ids=["NaN", "another dimension", "a text", "an error", "it hangs"],
)
def test_a_broken_embedder_is_a_miss_with_one_warning(make, instead):
    """Exact hits go on; the call is never failed."""
    embeddings = WordEmbeddings()
    cache = make(embeddings=embeddings, embedding_seconds=0.2)
    cache.update("What is this?", LLM, chat("first"))
    embeddings.embed_query = BrokenEmbeddings(instead).embed_query
    with pytest.warns(TokenOptWarning, match="embedder failed") as warned:
        assert cache.lookup("What is that thing?", LLM) is None
        cache.update("What is that thing?", LLM, chat("second"))
        assert cache.lookup("And what is this one?", LLM) is None

    assert 1 == len([w for w in warned if issubclass(w.category, TokenOptWarning)])
    assert ["first"] == texts(cache.lookup("What is this?", LLM))
    assert ["second"] == texts(cache.lookup("What is that thing?", LLM))


@in_files
def test_a_file_that_refuses_writing_is_a_miss_with_one_warning(make, tmp_path):
    """A full disk does not fail calls, and memory does not promise what is not on disk."""
    cache = make(tmp_path / "c.db")
    cache.update("kept", LLM, chat("kept"))
    cache._repository._file._database.execute("PRAGMA query_only = 1")
    with pytest.warns(TokenOptWarning, match="cache file failed"):
        cache.update("lost", LLM, chat("lost"))
        cache.update("lost too", LLM, chat("lost"))

    assert cache.lookup("lost", LLM) is None
    assert ["kept"] == texts(cache.lookup("kept", LLM))
    assert 1 == cache.stats().entries
    cache._repository._file._database.execute("PRAGMA query_only = 0")


def test_a_closed_file_does_not_fail_calls(make, tmp_path):
    """A cache that was closed too early warns once and is a miss."""
    cache = make(tmp_path / "c.db")
    cache.update("q", LLM, chat())
    cache.close()
    with pytest.warns(TokenOptWarning):
        assert cache.lookup("another", LLM) is None


def test_the_callers_comparison_may_raise(make):
    """A ``same_answer`` that fails is a warning; the call goes on."""
    cache = make(same_answer=lambda a, b: 1 / 0, max_wrong_per_request=0.0)
    cache.update("How can I change my card PIN?", LLM, chat())
    cache.lookup("How can I modify my card PIN?", LLM)
    with pytest.warns(TokenOptWarning, match="ZeroDivisionError"):
        cache.update("How can I modify my card PIN?", LLM, chat())


def test_requests_that_look_alike_but_are_not_are_refused(make):
    """Two schema classes of one name never share an answer."""
    cache = make()
    settings = "[('response_format', <class '__main__.Answer'>)]"
    with pytest.warns(TokenOptWarning, match="only the name is visible"):
        cache.lookup("q", settings)
    cache.update("q", settings, chat())

    assert 0 == cache.stats().entries


def test_text_longer_than_the_embedder_reads_matches_exactly_only(make):
    """Two texts with the same beginning are not compared by their beginning."""
    cache = make()
    long = "word " * 600
    cache.update(long + "alpha", LLM, chat("A"))

    assert cache.lookup(long + "beta", LLM) is None
    assert ["A"] == texts(cache.lookup(long + "alpha", LLM))
    assert {"not read by the embedder": 1} == cache.stats().misses


@pytest.mark.parametrize("question", ["q", "word " * 600], ids=["short", "too long to embed"])
def test_identical_misses_ask_once(make, question):
    """Threads that ask the same wait for the first one's answer, and embed nothing for it."""
    cache = make()
    calls = []

    def ask():
        if cache.lookup(question, LLM) is None:
            calls.append(1)
            time.sleep(0.1)
            cache.update(question, LLM, chat())

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [1] == calls
    assert 5 == cache.stats().exact_hits


async def test_identical_misses_of_tasks_ask_once(make):
    """Tasks wait without holding threads."""
    cache = make()
    calls = []

    async def ask():
        if await cache.alookup("q", LLM) is None:
            calls.append(1)
            await asyncio.sleep(0.1)
            await cache.aupdate("q", LLM, chat())

    await asyncio.gather(*(ask() for _ in range(50)))

    assert [1] == calls


def test_nobody_waits_for_itself(make):
    """A call whose first try failed asks again at once."""
    cache = make(wait_seconds=30)
    began = time.monotonic()
    cache.lookup("q", LLM)
    cache.lookup("q", LLM)

    assert time.monotonic() - began < 5


def test_nobody_waits_for_one_who_was_served(make):
    """A hit by likeness ends the wait as an answer does."""
    cache, again = make(wait_seconds=30), "How can I modify my card PIN?"
    cache.update("How can I change my card PIN?", LLM, chat())
    assert cache.lookup(again, LLM)
    cache.reject(1)
    asked = []
    thread = threading.Thread(target=lambda: asked.append(cache.lookup(again, LLM)), daemon=True)
    thread.start()
    thread.join(timeout=5)

    assert [None] == asked


def test_waiting_ends_when_no_answer_comes(make):
    """After ``wait_seconds`` the others ask themselves."""
    cache = make(wait_seconds=0.2)
    threading.Thread(target=cache.lookup, args=("q", LLM)).start()
    time.sleep(0.05)
    found = cache.lookup("q", LLM)

    assert found is None


def test_another_embedder_is_refused_at_construction(tmp_path):
    """The path, both embedders and the way out are named."""
    SemanticCache(tmp_path / "c.db", embeddings=WordEmbeddings()).close()

    with pytest.raises(CacheFileError, match="choose another path, or pass the embedder"):
        SemanticCache(tmp_path / "c.db", embeddings=WordEmbeddings(size=32))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_similarity": 1.2}, "min_similarity must be from 0 to 1, got 1.2"),
        ({"max_entries": 0}, "max_entries must be a whole number of at least 1; got 0"),
        ({"ttl_seconds": -1}, "ttl_seconds must be above 0, got -1"),
        ({"context": "some"}, "'exact', 'last_turns' or 'ignore'"),
        ({"eviction": "random"}, "eviction must be one of adaptive"),
        ({"guards": ["none"]}, "unknown guards"),
        ({"max_wrong_per_request": 2}, "max_wrong_per_request must be from 0 to below 1, got 2"),
    ],
)
def test_arguments_are_checked(options, message):
    """Each by its name, with what was given."""
    with pytest.raises(ValueError, match=message):
        make_cache(**options)


@in_files
def test_nothing_is_left_half_written(make, tmp_path):
    """An error inside of a write leaves neither a row nor an entry in memory."""
    cache = make(tmp_path / "c.db", max_entries=1)
    cache._repository.index.policy.victim = lambda: 1 / 0
    cache.update("one", LLM, chat())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cache.update("two", LLM, chat())
    with sqlite3.connect(tmp_path / "c.db") as database:
        stored = database.execute("SELECT count(*) FROM entry").fetchone()[0]
    database.close()

    assert 1 == stored == cache.stats().entries
