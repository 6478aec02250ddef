"""Evidence counts where it was seen, and nowhere else."""

from __future__ import annotations

import random
from functools import cache as remembered

import numpy as np
import pytest
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGeneration

from langchain_tokenopt.cache.fields import Fields
from tests.support.caches import make_cache

LLM = "llm"


def say(text):
    return [ChatGeneration(message=AIMessage(text))]


class TopicEmbeddings:
    """Questions of one topic lie together, those of one thing still nearer."""

    size = 96

    def embed_query(self, text):
        topic, _, rest = text.partition(": ")
        thing, _, wording = rest.partition(" / ")
        parts = ((topic, 1.0), (thing, 1.2), (wording, 0.35))
        vector = sum(weight * direction(part) for part, weight in parts)
        return (vector / np.linalg.norm(vector)).tolist()

    def embed_documents(self, texts):
        return [self.embed_query(text) for text in texts]


@remembered
def direction(text):
    vector = np.random.default_rng(abs(hash_of(text))).normal(size=TopicEmbeddings.size)
    return vector / np.linalg.norm(vector)


def hash_of(text):
    return int.from_bytes(text.encode()[-7:], "big") + sum(text.encode())


def prompt(text, system="You are kind."):
    return dumps([SystemMessage(system), HumanMessage(text)])


def traffic(rng, topic, requests, things=40):
    """Yield questions of one topic in many wordings, with the thing that each is about."""
    for _ in range(requests):
        thing = f"thing{chr(97 + rng.randrange(26))}{chr(97 + rng.randrange(max(1, things // 26)))}"
        wording = "".join(rng.choice("abcdefghijklmnop") for _ in range(6))
        yield f"{topic}: {thing} / {wording}", thing


def serve(cache, questions, answer_of, **options):
    """Ask one by one; return hits and wrong answers."""
    hits = wrong = 0
    for number, (text, thing) in enumerate(questions):
        right = answer_of(thing, number)
        found = cache.lookup(prompt(text, **options), LLM)
        if found:
            hits += 1
            wrong += found[0].text != right
        else:
            cache.update(prompt(text, **options), LLM, say(right))
    return hits, wrong


def same(thing, number):
    return f"See {thing}."


def never_same(thing, number):
    return f"See {thing} on page {number}."


@pytest.fixture
def make(tmp_path):
    made = []

    def make_one(path=None, **options):
        options = {"embeddings": TopicEmbeddings(), "same_answer": lambda a, b: a == b, **options}
        made.append(make_cache(path, seed=1, **options))
        return made[-1]

    yield make_one
    for cache in made:
        cache.close()


def test_a_field_of_which_nothing_is_known_is_not_served_from_anothers_evidence(make):
    """Alike questions have one answer in the first field, and another each in the second."""
    cache, rng = make(audit_share=0.02), random.Random(1)
    hits, wrong = serve(cache, traffic(rng, "bank", 300), same)
    assert hits > 50
    assert wrong == 0
    for count in (1, 20, 120):
        _, wrong = serve(cache, traffic(rng, f"clinic{count}", count), never_same)
        assert wrong <= max(1, 0.01 * count)


@pytest.mark.parametrize("seed", range(2))
def test_the_promise_is_kept_in_each_of_two_fields_that_are_mixed(make, seed):
    """Requests of both come in turns, with opposite truth."""
    cache, rng = make(), random.Random(seed)
    counted = {"bank": [0, 0], "clinic": [0, 0]}
    for _ in range(20):
        for topic, answer in (("bank", same), ("clinic", never_same)):
            hits, wrong = serve(cache, traffic(rng, topic, 15), answer)
            counted[topic][0] += hits
            counted[topic][1] += wrong

    assert counted["bank"][0] > 50
    assert counted["bank"][1] == 0
    assert counted["clinic"][1] <= 3


@pytest.mark.parametrize("apart", ["user", "namespace", "system"])
def test_evidence_stays_with_its_owner(make, tmp_path, apart):
    """Another tenant, namespace or system text starts with nothing, in one file and process."""
    path, rng = tmp_path / "c.db", random.Random(2)
    first = make(path)
    other = make(path, namespace="other") if apart == "namespace" else first
    with first.scope(user="ann"):
        serve(first, traffic(rng, "bank", 200), same)
    known = {field.name for field in first.stats().fields}
    system = "You are strict." if apart == "system" else "You are kind."
    with other.scope(user="bob" if apart == "user" else "ann"):
        hits, _ = serve(other, traffic(rng, "bank", 20), same, system=system)
    named = {field.name for field in other.stats().fields if field.requests == 20}

    assert hits == 0
    assert named
    assert not named & known


def test_evidence_is_there_after_a_restart_and_in_other_processes(make, tmp_path):
    """Fields, what was learned in them, and no more."""
    rng = random.Random(3)
    first, second = make(tmp_path / "c.db"), make(tmp_path / "c.db")
    serve(first, traffic(rng, "bank", 250), same)
    first._learning.write()
    second.lookup(prompt("bank: thingaa / zz"), LLM)
    first.close()
    third = make(tmp_path / "c.db")

    shown = [
        {f.name: (f.checked, f.checked_wrong) for f in c.stats().fields} for c in (second, third)
    ]
    assert shown[0] == shown[1]
    assert sum(checked for checked, _ in shown[0].values()) > 20
    assert serve(third, traffic(rng, "bank", 50), same)[0] > 10


@pytest.mark.parametrize(
    "row",
    [
        "nonsense",
        [1, 2],
        ["label", "unknown", [0.0] * 16, True, False, ["word"]],
        ["label", "known", [float("nan")] * 16, True, False, ["word"]],
        ["label", "known", [0.0] * 3, True, False, ["word"]],
        ["label", "known", [0.0] * 16, True, False, 5],
        ["field", "x", "zz", 3, [1.0, 0.0]],
        ["field", "x", "00", 3, [float("nan"), 0.0]],
        ["field", "x", "00", 3, []],
        ["harmless", "unknown", True],
        ["words", "not hex", True],
        ["else", "known", 1],
    ],
)
def test_rows_that_are_none_teach_nothing(row):
    """Whatever stands in a file."""
    fields = Fields(0.01, 0.0, random.Random(0), 0.01)
    fields.restore([["field", "known", "00", 1, [1.0, 0.0]], row])

    assert ["known"] == [field.name for field in fields]
    assert 0 == next(iter(fields)).policy.labels


def test_fields_are_bounded():
    """The one that was asked least recently goes."""
    fields, rng = Fields(0.01, 0.0, random.Random(0), 0.01), np.random.default_rng(0)
    directions = np.linalg.qr(rng.normal(size=(64, 64)))[0].astype(np.float32)
    for direction in directions:
        fields.of(b"d", direction)

    assert len(fields) == 32
    assert fields.near(b"d", directions[0]) is None
    assert fields.near(b"d", directions[-1]) is not None
    assert fields.near(b"e", directions[-1]) is None


def test_explain_names_the_field_and_changes_nothing(make):
    """By its evidence, as the look-up itself would find it."""
    cache, rng = make(), random.Random(5)
    serve(cache, traffic(rng, "bank", 200), same)
    before = cache.stats()
    told = cache.explain(prompt("bank: thingaa / qq"), LLM)
    stranger = cache.explain(prompt("clinic: thingaa / qq"), LLM)

    assert before == cache.stats()
    assert before.fields[0].name in told.why
    assert told.hit == bool(cache.lookup(prompt("bank: thingaa / qq"), LLM))
    assert not stranger.hit


def test_nobody_judges_what_is_anothers(make):
    """Neither by a number that was guessed nor by a message that was kept."""
    cache = make()
    text = prompt("bank: thingaa / qq")
    with cache.scope(user="ann"):
        cache.update(text, LLM, say("a"))
        served = cache.lookup(text, LLM)[0].message
    with cache.scope(user="bob"):
        assert not cache.confirm(served)
        assert not cache.reject(1)
    with cache.scope(user="ann"):
        assert cache.lookup(text, LLM)
        assert cache.reject(served)
        assert cache.lookup(text, LLM) is None
