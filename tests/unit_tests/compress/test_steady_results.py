"""What was compressed once comes out the same again: providers cache prompts by their bytes."""

from __future__ import annotations

import random

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage

from langchain_tokenopt.compress import Handover, PromptCompressor
from langchain_tokenopt.counting.calibration import calibrate
from langchain_tokenopt.counting.request_tokens import count_messages

MODEL = "claude-sonnet-4-5"
SUBJECTS = ("The bridge", "A ferry", "The old town hall", "Nobody", "Her brother", "The river")
VERBS = ("was opened", "sank", "has been painted red", "waited", "lost 4 % of its value", "froze")
WHENS = ("in 1931", "on 5 May", "before anybody noticed", "twice a week", "at dawn, they say")


def page(seed: int) -> str:
    rng = random.Random(seed)
    facts = (f"{rng.choice(SUBJECTS)} {rng.choice(VERBS)} {rng.choice(WHENS)}." for _ in range(60))
    return f"Context: {' '.join(facts)}\n\nQuestion: When was the bridge opened?"


def report_of_provider(factor: float = 1.4) -> None:
    """Let a provider report more tokens than were estimated."""
    calibrate(MODEL, counted=10_000, reported=round(10_000 * factor))


@pytest.mark.parametrize(
    "options", [{"keep": 0.5}, {"level": "maximum"}, {"max_tokens": 200}], ids=str
)
@pytest.mark.parametrize("factor", [0.7, 1.4])
def test_a_providers_report_does_not_move_the_cut(options, factor):
    """The same text through the same compressor, before and after estimates have learned."""
    compressor = PromptCompressor(model=MODEL, remember=0, **options)
    pages = [page(seed) for seed in range(40)]
    before = [compressor.invoke(text) for text in pages]

    report_of_provider(factor)

    later = PromptCompressor(model=MODEL, **options)  # in another worker, or made for each call
    assert before == [compressor.invoke(text) for text in pages]
    assert before == [later.invoke(text) for text in pages]
    assert all(len(made) < len(text) for made, text in zip(before, pages, strict=True))


@pytest.mark.parametrize("options", [{"keep": 0.5}, {"max_tokens": 400}], ids=str)
def test_nor_that_of_a_conversation(options):
    """Names, tool calls and their answers are part of what is counted."""
    call = {"name": "look", "args": {"where": "in the archive of the town"}, "id": "c1"}
    messages = [
        HumanMessage(page(1), name="Ada"),
        AIMessage("", tool_calls=[call]),
        ToolMessage(page(2), tool_call_id="c1"),
        AIMessage("In 1931."),
        HumanMessage(page(3), name="Ada"),
    ]
    compressor = PromptCompressor(model=MODEL, remember=0, **options)
    before = compressor.invoke(messages)

    report_of_provider()

    assert before == compressor.invoke(messages)
    assert before != messages


def test_a_limit_for_one_call_is_met_by_what_is_known_then():
    """A budget that has just so many tokens left wants them counted as well as they can be."""
    compressor = PromptCompressor(max_tokens=900, model=MODEL)
    messages = [HumanMessage(page(1))]
    compressor.compress(messages, max_tokens=300)

    report_of_provider()
    made = compressor.compress(messages, max_tokens=300).content

    assert count_messages(made, model=MODEL).tokens <= 300


def test_a_handover_stays_the_same_for_late_readers():
    """Also when the report has been forgotten in between."""
    handover = Handover(100, model=MODEL, remember=1)
    before = handover.invoke(page(1))

    report_of_provider()
    handover.invoke(page(2))

    assert before == handover.invoke(page(1))


def test_what_was_given_up_is_said_each_time():
    """A remembered result has the same reason as the first one."""
    compressor = PromptCompressor(16, model="gpt-4o", on_infeasible="drop_lowest", protect="bridge")
    first = compressor.compress(page(1))

    assert first.reason == "part of what must be kept was given up"
    assert first.reason == compressor.compress(page(1)).reason


@pytest.mark.parametrize("options", [{"keep": 0.5}, {"max_tokens": 300}], ids=str)
def test_what_is_remembered_of_a_text_changes_no_result(options):
    """A conversation is read turn by turn, at different limits, as if each call were the first."""
    rules = SystemMessage(f"Answer from these documents only.\n\nDocument: {page(4)}")
    call = {"name": "look", "args": {}, "id": "c1"}
    messages = [
        rules,
        HumanMessage(f"{page(1)}\n\nWhen was the bridge built?"),
        AIMessage("", tool_calls=[call]),
        ToolMessage(page(2), tool_call_id="c1"),
        AIMessage("In 1931."),
        HumanMessage(f"Context: {page(3)}\n\nQuestion: Who painted it?"),
    ]
    remembers = PromptCompressor(model=MODEL, on_infeasible="drop_lowest", **options)
    for end, limit in [(2, None), (6, None), (6, 500), (2, 250), (6, 400), (6, None)]:
        fresh = PromptCompressor(model=MODEL, on_infeasible="drop_lowest", remember=0, **options)
        for content in (messages[:end], messages[end - 1].content):
            made = remembers.compress(content, max_tokens=limit).content
            assert made == fresh.compress(content, max_tokens=limit).content
