"""What is left of messages that are gone for good, however often more of them go."""

from __future__ import annotations

import random

import pytest
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from langchain_tokenopt.context.digest import digest
from langchain_tokenopt.counting.tokens import counter_for
from tests.support.conversations import history

PREFIX = "Here is a summary of the conversation to date:\n\n"
NAMES = (
    *("Harker", "Lund", "Pilot", "Amos", "Brandvik", "Corvina", "Teodor", "Okafor", "Marisol"),
    *("Petrov", "Yusuf", "Anneke", "Lindqvist", "Dacosta", "Varga", "Nakai", "Osei", "Bexley"),
    *("Quill", "Tamsin"),
)
FACTS = [
    "The removal firm is {name}, quote {number} pounds.",
    "My cat {name} gets tablets at seven.",
    "Please never call {name} before nine.",
    "The spare key lies under the flowerpot of {name}.",
    "Actually no, we meet {name} on Tuesday.",
    "the password of the flat is kumquat{number}",
    "Der Vermieter heißt {name} und will {number} Euro Kaution.",
    "La vecina {name} es alérgica a las nueces.",
]
FILLER = [
    "Okay, good so far.",
    "Thanks, and how does that usually go?",
    "Usually people collect everything first, compare, and decide at the end.",
    "Let me think about that for a moment, it is quite a lot to take in.",
    "It has been raining since the morning and I have hardly been outside.",
    "Noted.",
    "Good. I will go on then.",
]


def count(text: str) -> int:
    return counter_for("gpt-4o").count(text).tokens


def summary(text: str, *, is_marked: bool = True) -> HumanMessage:
    marked = {"lc_source": "summarization"} if is_marked else {}
    return HumanMessage(PREFIX + text, additional_kwargs=marked)


def called(tool: str, args: dict[str, object], result: str, call_id: str) -> list[BaseMessage]:
    call = {"name": tool, "args": args, "id": call_id}
    return [AIMessage("", tool_calls=[call]), ToolMessage(result, tool_call_id=call_id)]


def one_round(chance: random.Random, number: int, facts: int) -> tuple[list[BaseMessage], list]:
    """Facts among filler, and two results of which one line tells something."""
    talk: list[BaseMessage] = []
    planted = []
    for n in range(number * facts, (number + 1) * facts):
        name = NAMES[n % len(NAMES)] + "xyz"[n // len(NAMES)] * (n >= len(NAMES))
        planted.append(chance.choice(FACTS).format(name=name, number=100 + 37 * n))
        talk += [HumanMessage(planted[-1]), AIMessage(chance.choice(FILLER))]
        talk += [HumanMessage(chance.choice(FILLER)), AIMessage(" ".join(chance.choices(FILLER)))]
    for n in (2 * number, 2 * number + 1):
        rows = "; ".join(f"shop {k} sells boxes at {k + 2}.40" for k in range(60))
        talk += called("shops", {"page": n}, f"List {n}: {rows}. Depot {n} is shut.", f"c{n}")
    return talk, planted


@pytest.mark.parametrize("seed", range(5))
def test_facts_of_ten_rounds_are_found_after_ten_rounds(seed):
    """Newer filler goes first, however old a fact is; and no call is forgotten."""
    chance = random.Random(seed)
    state: list[BaseMessage] = [HumanMessage("Help me with my move to Leeds.")]
    planted: list[str] = []
    for number in range(10):
        talk, facts = one_round(chance, number, 4)
        planted += facts
        text = digest([*state, *talk], count)
        assert count(text) <= 1_000
        state = [summary(text, is_marked=chance.random() < 0.5)]
    found = [fact in text for fact in planted]
    assert sum(found) >= 0.9 * len(planted)
    assert sum(found[:20]) >= 0.9 * 20
    assert sum(text.count(filler) for filler in FILLER) <= 5
    assert "Help me with my move to Leeds." in text
    assert all(f"shops(page={n})" in text for n in range(20))
    assert PREFIX.strip() not in text


def test_small_talk_takes_no_fact_away():
    """However much of it comes, round after round."""
    chance = random.Random(1)
    talk, facts = one_round(chance, 0, 8)
    text = digest(talk, count)
    for _ in range(10):
        chat = [kind(" ".join(chance.choices(FILLER, k=3))) for kind in (HumanMessage, AIMessage)]
        text = digest([summary(text), *chat * 60], count)
    assert all(fact in text for fact in facts)


@pytest.mark.parametrize("results", [2, 6, 12])
def test_of_each_result_is_told_what_stands_nowhere_else(results):
    """A row like all others is worth less than what stands beside the table."""
    talk: list[BaseMessage] = [HumanMessage("Read all hives; the vet is Dr. Amos.")]
    for n in range(results):
        rows = " ".join(f"Frame {k} weighs {900 + 17 * k} grams." for k in range(60))
        queen = f"The queen of hive {n} is {['red', 'blue', 'white'][n % 3]}."
        talk += called("hive", {"n": n}, f"Report of hive {n}. {rows} {queen}", f"c{n}")
    text = digest(talk, count)
    for n in range(results):
        assert f"Tool hive(n={n}): Report of hive {n}." in text
        assert f"The queen of hive {n} is" in text
    rows = text.count("weighs")
    assert all(text.split("Tool hive")[n + 1].count("weighs") <= rows for n in range(results))


def test_one_result_does_not_take_the_room_of_the_others():
    """Four alike are told of alike."""
    talk: list[BaseMessage] = [HumanMessage("Read all hives.")]
    for n in range(4):
        rows = " ".join(f"frame {n}-{k} weighs {900 + 17 * k} g." for k in range(80))
        talk += called("hive", {"n": n}, f"Hive {n}: {rows}", f"c{n}")
    parts = [part.count("weighs") for part in digest(talk, count).split("Tool hive")[1:]]
    assert len(parts) == 4
    assert min(parts) > max(parts) / 2


@pytest.mark.parametrize("seed", range(12))
def test_any_history_is_told_within_the_bound(seed):
    """Also of pictures, and of calls and results alone; told once more, nothing is added."""
    talk = history(seed)
    for most in (60, 300, None):
        text = digest(talk, count, most)
        bound = most or max(1_000, sum(count(message.text) for message in talk) // 4)
        assert count(text) <= bound
        again = digest([summary(text)], count, most)
        said = (line.split(": ", 1)[-1].strip() for line in again.split("\n"))
        assert [line for line in said if line not in text and line != "…"] == []


def test_what_fits_is_told_whole_and_is_read_again_as_it_was():
    """Nothing is lost, doubled or changed by reading a digest again, alone or with more."""
    talk = [
        SystemMessage("Never give prices."),
        HumanMessage("Book KX-4471: aisle, please.\nTool mail(): I am no tool.", name="ann"),
        *called("mail", {"to": "a: b", "body": "x " * 200}, '{"sent": true, "id": "M-7"}', "c"),
        AIMessage("", tool_calls=[{"name": "pay", "args": {"euros": 80}, "id": "open"}]),
    ]
    text = digest(talk, count)
    assert text.startswith(
        "System: Never give prices.\n"
        "User ann: Book KX-4471: aisle, please.\n Tool mail(): I am no tool.\n"
        "Tool mail(to=a:b, body=x x"
    )
    assert "M-7" in text
    assert text.endswith("Assistant: called pay(euros=80)")
    assert digest([summary(text)], count) == text
    more = digest([summary(text), HumanMessage("The gate is B22.")], count)
    assert more == f"{text}\nUser: The gate is B22."


def test_what_was_left_out_is_counted_over_rounds():
    """A digest says that it tells a part, and of how much."""
    talk = [HumanMessage(f"Point {n}: badge {n * 7919} has read gate {n}.") for n in range(200)]
    first = digest(talk, count)
    assert first.endswith("tokens.)")
    assert "(Told in part: 200 messages, " in first
    again = digest([summary(first), HumanMessage("The gate is B22.")], count)
    assert "(Told in part: 201 messages, " in again
    assert again.count("Told in part") == 1


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            f"{PREFIX}User: {PREFIX}User: User: The vet is Dr. Amos.\nTool: Hive 0: 12 frames.",
            "User: The vet is Dr. Amos.\nTool: Hive 0: 12 frames.",
        ),
        (
            f"{PREFIX}## ARTIFACTS\nlist.csv has 12 rows.\n\n## NEXT STEPS\nCall Ms. Lund.",
            "Earlier: ## ARTIFACTS\n list.csv has 12 rows.\n ## NEXT STEPS\n Call Ms. Lund.",
        ),
    ],
    ids=["prefixes that have piled up", "what a model has written"],
)
def test_any_summary_is_taken_apart(given, told):
    """Whoever has written it, and however often it was packed."""
    marked = HumanMessage(given, additional_kwargs={"lc_source": "summarization"})
    assert digest([marked], count) == told


@pytest.mark.parametrize("talk", [[], [HumanMessage("")], [HumanMessage(" \n")], [AIMessage([])]])
def test_of_nothing_nothing_is_told(talk):
    """No line without words."""
    assert not digest(talk, count)


def test_a_text_without_a_sentence_is_told_in_parts():
    """A giant of one word, one line or one JSON."""
    one = ToolMessage("pallet 17 scanned at dock 4; " * 600 + "dock 5 is shut", tool_call_id="c")
    text = digest([HumanMessage("x" * 100_000), one], count)
    assert text.startswith("User: xxx")
    assert "pallet 17 scanned at dock 4;" in text
    assert "dock 5 is shut" in text
    assert count(text) <= 25_000
