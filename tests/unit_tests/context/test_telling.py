"""What stands in the place of turns that were set aside, and what may be."""

from __future__ import annotations

import random

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage

from langchain_tokenopt import ContextCompressor, count_messages
from langchain_tokenopt.context.importance import Query
from langchain_tokenopt.context.telling import told
from tests.support.conversations import agent_loop

TALK = [
    "I was wondering how these things usually go, since it has been a while.",
    "Everybody says something else about it, which is a little confusing.",
    "There is really no hurry at all with any of this.",
    "It has been raining since the morning and I have hardly been outside.",
    "Das klingt vernünftig, auch wenn ich noch nicht ganz überzeugt bin.",
]


def words(text: str) -> int:
    return len(text.split())


def test_of_much_talk_the_sentence_that_tells_something_stays():
    """No list of words knows it: its words are rare, and stand nowhere else."""
    chance = random.Random(1)
    talk = [HumanMessage(" ".join(chance.choices(TALK, k=2))) for _ in range(20)]
    talk[7] = HumanMessage(f"{TALK[0]} The spare key is under the flowerpot. {TALK[2]}")
    assert "The spare key is under the flowerpot." in told(talk, 30, words, Query(None))


def test_what_is_said_elsewhere_is_not_told_again():
    """Neither what stays beside it nor what was told before takes room."""
    fact = "The gate code is KX-4471."
    talk = [HumanMessage(fact), AIMessage(fact), HumanMessage("Mum lives in Graz.")]
    assert told(talk, 100, words, Query(None)).count("KX-4471") == 1
    assert "KX-4471" not in told(talk, 100, words, Query(None), [fact])


@pytest.mark.parametrize("room", [0, 5, 20, 100])
def test_it_keeps_to_its_room(room):
    """Sentences are taken whole, and only as many as there is room for."""
    talk = [HumanMessage(sentence) for sentence in TALK]
    assert words(told(talk, room, words, Query(None))) <= room


def test_a_note_is_written_anew_for_all_that_was_set_aside():
    """However often more turns go: one note, all that was told, and one handle for everything."""
    talk = [HumanMessage("Hello."), AIMessage("Hello.")]
    talk += [HumanMessage("Our contact at the bank is Ilse Brandvik."), AIMessage("Noted.")]
    chance = random.Random(2)
    compressor = ContextCompressor(600, price_profile="openai", model="gpt-4o")
    assert compressor.originals is not None
    steps = 0
    for _ in range(60):
        talk += [HumanMessage(" ".join(chance.choices(TALK, k=3))), AIMessage("I see.")]
        view = compressor.view([*talk, HumanMessage("Go on.")])
        steps = max(steps, view.steps)
    assert steps > 3
    shown = "\n".join(message.text for message in view.messages)
    assert shown.count("set aside") == 1
    assert "Ilse Brandvik" in shown
    (handle,) = (h for h in view.state.handles if h in shown)
    assert all(message.text in view.original(handle) for message in talk[2:40])


def test_a_result_without_its_call_may_go():
    """Where the last result alone is too long, what can be shorter is."""
    talk = [ToolMessage("lost " * 300, tool_call_id="gone"), *agent_loop(1, 9_000)]
    view = ContextCompressor(500, price_profile="openai", model="gpt-4o").view(talk)
    assert not view.is_feasible
    assert view.tokens_after < view.tokens_before
    assert view.messages[-1] is talk[-1]
    assert len(view.messages[0].text) < 200


def test_turns_of_a_chat_that_nobody_answers_may_go():
    """A group talks, and the model is asked once, in the end."""
    talk = [SystemMessage("You take notes."), HumanMessage("Let us begin.", name="ann")]
    talk += [HumanMessage(f"{TALK[n % 5]} Point {n}.", name="bob") for n in range(60)]
    talk.append(HumanMessage("What was said in point 7?", name="ann"))
    limit = count_messages(talk, model="gpt-4o").tokens // 4
    view = ContextCompressor(limit, price_profile="openai", model="gpt-4o").view(talk)
    assert view.is_feasible
    assert "Point 7." in "\n".join(message.text for message in view.messages)
