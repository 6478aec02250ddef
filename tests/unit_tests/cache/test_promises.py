"""What the cache says about itself, kept in the corners."""

from __future__ import annotations

import sqlite3
import threading
import time
from datetime import UTC, datetime

import pytest
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, Generation

from langchain_tokenopt.core.errors import TokenOptWarning
from tests.support.cache_places import in_files
from tests.support.embedders import BrokenEmbeddings, WordEmbeddings

LLM = "llm"


def say(text, **fields):
    return [ChatGeneration(message=AIMessage(text, **fields))]


def test_an_answer_that_is_more_than_json_has_no_old_id_either(make):
    """However it was stored."""
    cache = make()
    at = {"at": datetime(2026, 1, 1, tzinfo=UTC)}
    cache.update("q", LLM, say("a", id="run-1", additional_kwargs=at))

    assert [("a", None)] == [(g.text, g.message.id) for g in cache.lookup("q", LLM)]


class OwnMessage(AIMessage):
    """A class that the caller has made; it is not read back."""


def circular():
    """Something that cannot be written to its end."""
    loop = {}
    loop["self"] = loop
    return loop


@pytest.mark.parametrize("way", ["update", "update_many"])
def test_an_answer_that_cannot_be_written_is_not_kept(make, way):
    """One warning, and the next answer is kept."""
    cache = make()
    bad = [
        [ChatGeneration(message=OwnMessage("x"))],
        [ChatGeneration(message=AIMessage("x"), generation_info=circular())],
        [Generation(text="x", generation_info=circular())],
    ]
    with pytest.warns(TokenOptWarning) as warned:
        for number, answers in enumerate(bad):
            if way == "update":
                cache.update(f"bad {number}", LLM, answers)
            else:
                cache.update_many([(f"bad {number}", LLM, answers)])
    cache.update("good", LLM, say("a"))

    assert 1 == len(warned)
    assert 1 == cache.check().entries
    assert cache.lookup("good", LLM)


def test_of_equal_requests_in_bulk_the_last_counts(make):
    """File and memory hold one entry."""
    cache = make()
    stored = cache.update_many([("q", LLM, say("old")), ("q", LLM, say("new"))])

    assert 1 == stored == cache.check().entries == cache.stats().entries
    assert "new" == cache.lookup("q", LLM)[0].text


def test_bulk_storing_keeps_nothing_that_is_to_be_skipped(make):
    """The same rules as for one answer at a time."""
    cache = make(skip=["personal"])

    assert 0 == cache.update_many([("Where is my order?", LLM, say("Rome"))])
    assert {"personal": 1} == cache.stats().not_stored


def test_bulk_storing_needs_a_scope_where_one_is_required(make):
    """It is counted why nothing was stored."""
    cache = make(require_scope=True)

    assert 0 == cache.update_many([("q", LLM, say("a"))])
    with cache.scope(user="ann"):
        assert 1 == cache.update_many([("q", LLM, say("a"))])


@pytest.mark.parametrize("labels", [{}, {"user": ""}, {"user": None}, {"team": ""}])
def test_an_empty_scope_is_none(make, labels):
    """Users without a name do not share an account."""
    cache = make(require_scope=True)
    with cache.scope(**labels):
        cache.update("q", LLM, say("a"))
        assert cache.lookup("q", LLM) is None
        assert "no scope" in cache.explain("q", LLM).why
    assert {"no scope": 1} == cache.stats().misses


def test_a_low_threshold_is_what_it_says(make):
    """Below the nearness from which evidence is considered, too."""
    cache = make(min_similarity=0.2, guards=[])
    cache.update("how do i change my pin", LLM, say("a"))
    near = cache.explain("how do i feed my dog then", LLM).candidates[0].cosine

    assert 0.2 < near < 0.5
    assert cache.lookup("how do i feed my dog then", LLM)


def test_explain_sees_what_another_process_has_stored(make, tmp_path):
    """As a lookup would."""
    first, second = (make(path=tmp_path / "c.db") for _ in range(2))
    first.update("q", LLM, say("a"))

    assert second.explain("q", LLM).hit


def test_an_embedder_that_hangs_is_left_alone_until_it_comes_back(make):
    """Only the first request waits for it; later ones are used again when it has recovered."""
    release, calls = threading.Event(), []

    def hang():
        calls.append(1)
        release.wait(20)
        return [1.0] * 64

    cache = make(embeddings=BrokenEmbeddings(hang), embedding_seconds=0.5)
    began = time.monotonic()
    with pytest.warns(TokenOptWarning, match="no vector after"):
        for number in range(20):
            cache.lookup(f"question {number}", LLM)
            cache.update(f"question {number}", LLM, say("a"))
    assert time.monotonic() - began < 10  # forty waits would be twenty seconds
    assert [1] == calls
    assert "a" == cache.lookup("question 3", LLM)[0].text
    release.set()
    deadline = time.monotonic() + 5
    while len(calls) == 1 and time.monotonic() < deadline:
        cache.lookup(f"later {time.monotonic()}", LLM)

    assert len(calls) > 1


@pytest.mark.parametrize("error", [RuntimeError, OSError, MemoryError, RecursionError])
def test_whatever_an_embedder_raises_is_a_miss(make, error):
    """Also while it looks at the length of a text, and for stored answers."""

    class Failing(WordEmbeddings):
        def embed_query(self, text):
            raise error("no")

        def reads(self, text):
            if "long" in text:
                raise error("no")
            return True

    cache = make(embeddings=Failing())
    with pytest.warns(TokenOptWarning, match="embedder failed") as warned:
        for question in ("q", "a long one"):
            assert cache.lookup(question, LLM) is None
            cache.update(question, LLM, say("a"))
            assert cache.lookup(question, LLM)

    assert 1 == len(warned)
    assert 2 == cache.stats().misses["embedder failed"]


def test_a_clock_that_fails_does_not_fail_a_call(make):
    """It is the caller's code."""
    cache = make(ttl_seconds=5, clock=lambda: 1 / 0)
    with pytest.warns(TokenOptWarning, match="ZeroDivisionError"):
        cache.update("q", LLM, say("a"))
        assert cache.lookup("q", LLM) is None


def test_text_answers_come_back_as_they_were(make):
    """A text model's answers with their details, several at once."""
    cache = make()
    answers = [Generation(text="a", generation_info={"x": [1]}), Generation(text="b")]
    cache.update("q", LLM, answers)
    cache.lookup("q", LLM)[0].generation_info["x"].append(2)

    assert answers == cache.lookup("q", LLM)


def test_nothing_deep_inside_an_answer_is_shared(make):
    """What a caller does to a hit is not seen in the next one."""
    usage = {
        "input_tokens": 1,
        "output_tokens": 2,
        "total_tokens": 3,
        "input_token_details": {"cache_read": 1},
    }
    cache = make()
    message = AIMessage(
        "a",
        usage_metadata=usage,
        response_metadata={"token_usage": {"x": 1}},
        additional_kwargs={"k": {"l": [1]}},
    )
    cache.update("q", LLM, [ChatGeneration(message=message, generation_info={"p": {"q": 1}})])
    before = cache.lookup("q", LLM)[0].model_copy(deep=True)
    served = cache.lookup("q", LLM)[0]
    served.message.usage_metadata["input_token_details"]["cache_read"] = 99
    served.message.response_metadata["token_usage"]["x"] = 99
    served.message.additional_kwargs["k"]["l"].append(99)
    served.generation_info["p"]["q"] = 99

    assert before == cache.lookup("q", LLM)[0]


ASK, LIKE = "How can I change my card PIN?", "How can I modify my card PIN?"


@in_files
def test_clearing_takes_the_evidence_with_it(make, tmp_path):
    """Labels are gone from memory and file, and what was asked before teaches nothing after."""
    cache = make(path=tmp_path / "c.db", max_wrong_per_request=0.0)
    cache.update(ASK, LLM, say("a"))
    for _ in range(40):
        cache.lookup(LIKE, LLM)
        cache.update(LIKE, LLM, say("a"))
        cache.reject(2)
    open_ = make()
    open_.update(ASK, LLM, say("a"))
    served = open_.lookup(LIKE, LLM)[0].message
    for each in (cache, open_):
        each.lookup(LIKE + " please", LLM)
        each.clear()
        each.update(LIKE + " please", LLM, say("b"))

    assert not open_.confirm(served)
    assert 0 == open_.stats().checked
    assert () == cache.stats().fields
    with sqlite3.connect(tmp_path / "c.db") as database:
        assert [] == database.execute("SELECT * FROM evidence").fetchall()
    database.close()


def test_a_user_is_forgotten_with_what_his_answers_taught(make, tmp_path):
    """Here, for other processes, and for those to come; what others' taught stays."""
    cache = make(tmp_path / "c.db", max_wrong_per_request=0.0)
    other = make(tmp_path / "c.db", max_wrong_per_request=0.0)
    for user in ("ann", "bob"):
        with cache.scope(user=user):
            cache.update(ASK, LLM, say("a"))
            for _ in range(12):
                cache.lookup(LIKE, LLM)
                cache.update(LIKE, LLM, say("a"))
                cache.reject(cache.stats().entries)
    assert len(cache.stats().fields) == 2
    entries = cache.stats().entries

    assert cache.forget("eve") == 0
    assert cache.forget("ann") == entries / 2
    assert cache.stats().entries == entries / 2
    assert len(cache.stats().fields) == 1
    later = make(tmp_path / "c.db", max_wrong_per_request=0.0)
    assert len(later.stats().fields) == 1
    for each in (cache, other, later):
        with each.scope(user="ann"):
            assert each.lookup(ASK, LLM) is None
        with each.scope(user="bob"):
            assert each.lookup(ASK, LLM) is not None

    for named in ({}, {"user": None}, {"user": None, "organization": "acme"}):
        with pytest.raises((TypeError, ValueError), match="names nothing"):
            cache.forget(**named)
    assert cache.stats().fields != ()
    cache.clear_learned()
    assert cache.stats().entries == entries / 2
    assert cache.stats().fields == ()
    with pytest.raises(ValueError, match="an empty name"):
        cache.forget("")


def test_what_another_process_removes_is_gone_here(make, tmp_path):
    """From what is counted and searched, and from what was read before."""
    first, second = (make(path=tmp_path / "c.db") for _ in range(2))
    first.update(ASK, LLM, say("a"))
    served = second.lookup(ASK, LLM)[0].message
    first.reject(served)

    assert 0 == second.stats().entries
    assert "nearer" in second.explain(LIKE, LLM).why
    first.update(ASK, LLM, say("b"))
    assert "b" == second.lookup(LIKE, LLM)[0].text


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"content": [{"type": "refusal", "refusal": "I cannot."}]}, "not whole"),
        (
            {"content": [{"type": "non_standard", "value": {"refusal": "I cannot."}}]},
            "not whole",
        ),
        ({"content": "x", "response_metadata": {"stop_reason": "refusal"}}, "not whole"),
        ({"content": "x", "response_metadata": {"finish_reason": "SPII"}}, "not whole"),
        (
            {"content": "x", "response_metadata": {"stopReason": "guardrail_intervened"}},
            "not whole",
        ),
        ({"content": "x", "response_metadata": {"status": "incomplete"}}, "not whole"),
        ({"content": "x", "response_metadata": {"done_reason": "length"}}, "not whole"),
        ({"content": "x", "response_metadata": {"finish_reason": "invented_today"}}, "not whole"),
        (
            {"content": "x", "response_metadata": {"stop_reason": "model_context_window_exceeded"}},
            "not whole",
        ),
        (
            {"content": "x", "invalid_tool_calls": [{"name": "f", "args": "{", "id": "1"}]},
            "tool_calls",
        ),
    ],
)
def test_what_providers_withhold_or_cut_is_not_kept(make, answer, reason):
    """Each in its own words; a call of a tool that cannot be read even where calls are kept."""
    cache = make(cache_tool_calls=True)
    cache.update("q", LLM, [ChatGeneration(message=AIMessage(**answer))])

    assert {reason: 1} == cache.stats().not_stored
    assert cache.lookup("q", LLM) is None


@pytest.mark.parametrize(
    "details",
    [
        {"finish_reason": "stop"},
        {"stop_reason": "end_turn"},
        {"stop_reason": "stop_sequence"},
        {"finish_reason": "STOP"},
        {"status": "completed"},
        {"stopReason": "end_turn"},
        {"finish_reason": "eos"},
    ],
)
def test_whole_answers_are_kept(make, details):
    """In the words of each provider."""
    cache = make()
    cache.update("q", LLM, say("a", response_metadata=details))

    assert cache.lookup("q", LLM)


@pytest.mark.parametrize(
    ("content", "provider"),
    [
        ("  \n", None),
        ([{"type": "text", "text": " "}], None),
        ([{"type": "reasoning", "reasoning": "A PIN, then."}], None),
        ([{"type": "thinking", "thinking": "A PIN, then.", "signature": "s"}], "anthropic"),
    ],
    ids=["blanks", "a blank block", "reasoning", "Anthropic's thinking"],
)
def test_an_answer_that_says_nothing_is_not_kept(make, content, provider):
    """Blanks and thoughts are no answer; a picture is one."""
    cache = make()
    about = {"model_provider": provider} if provider else {}
    silent = ChatGeneration(message=AIMessage(content, response_metadata=about))
    cache.update("Where is my PIN?", "fake", [silent])
    assert cache.lookup("Where is my PIN?", "fake") is None
    assert {"empty": 1} == cache.stats().not_stored

    picture = AIMessage([{"type": "image", "base64": "aGk=", "mime_type": "image/png"}])
    cache.update("Where is my PIN?", "fake", [ChatGeneration(message=picture)])
    assert cache.lookup("Where is my PIN?", "fake") is not None
