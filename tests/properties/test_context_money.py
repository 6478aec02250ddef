"""Never dearer than raw: at every call of every conversation, whatever comes after it.

Bills are drawn from what the model was really sent, tools first, by a counter and by sizes of
messages that are not those of the package: providers count in ways of their own.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.utils.function_calling import convert_to_openai_tool

from langchain_tokenopt import ContextCompressor, PriceProfile, counter_for, optimize
from langchain_tokenopt.context.bill import calls_of
from tests.support.conversations import IMAGE, history
from tests.support.fakes import fake_chat

PRICES = [
    PriceProfile(write=1.25, read=0.1),
    PriceProfile(write=1.0, read=0.1),
    PriceProfile(write=1.0, read=0.25, min_tokens=2_048),
    PriceProfile(write=1.0, read=0.5),
    PriceProfile(),
]
TOOL = {
    "type": "function",
    "function": {
        "name": "read_file",
        "description": "Read a file.",
        "parameters": {"type": "object", "properties": {"q": {"type": "string"}}},
    },
}
SOME = settings(max_examples=25, deadline=None)
COUNTER = counter_for("gpt-4o")
IMAGE_TOKENS = 700
UNCOUNTED = 0.001
"""Share of a bill in which two ways of counting may differ."""
_WORDS = [*"{}: 17 42 502", "gate", "log", "error", "price", "seat", "north", "open", "the"]


def run(seed: int) -> list[BaseMessage]:
    """An agent's run: results of one kind of size, sometimes with words between them."""
    chance = random.Random(seed)
    size = chance.choice((30, 100, 300, 1_000, 3_000))
    spread = chance.choice((0.0, 0.2, 1.0))
    made: list[BaseMessage] = [
        SystemMessage("Be careful. " * chance.choice((1, 100, 700))),
        HumanMessage("Compare them all."),
    ]
    for n in range(chance.randint(3, 40)):
        calls = [
            {"name": "read_file", "args": {"q": f"file {n}-{k}"}, "id": f"call_{seed}_{n}_{k}"}
            for k in range(chance.choice((1, 1, 1, 2)))
        ]
        made.append(AIMessage(chance.choice(("", "Let me look.")), tool_calls=calls))
        for call in calls:
            words = max(1, int(size * (1 + spread * chance.uniform(-1, 4 * spread))))
            text = " ".join(chance.choices(_WORDS, k=words))
            made.append(ToolMessage(text, tool_call_id=call["id"]))
        if chance.random() < 0.15:
            made += [AIMessage("So far so good."), HumanMessage(f"Go on with file {n}.")]
    return [*made, AIMessage("Done.")]


def size_of(item: Any) -> int:
    """Tokens of a message, or of the tools, as somebody else may count them."""
    if isinstance(item, BaseMessage):
        calls = [[c["name"], c["args"], c["id"]] for c in getattr(item, "tool_calls", ())]
        item = [item.type, item.content, calls, getattr(item, "tool_call_id", None)]
    text = json.dumps(item, ensure_ascii=False)
    return COUNTER.count(text).tokens + IMAGE_TOKENS * text.count(IMAGE["base64"])


def bills(sent: Sequence[tuple[Any, Sequence[BaseMessage]]], price: PriceProfile) -> list[float]:
    """What all calls up to each have cost: the longest beginning of an earlier prompt is known."""
    paid, past = [], []
    for tools, messages in sent:
        prompt = [json.dumps(tools), *(m.model_dump_json(exclude={"id"}) for m in messages)]
        sums = [0, *accumulate(map(size_of, [tools, *messages]))]
        same = max((_same(prompt, earlier) for earlier in past), default=0)
        known = sums[same] if sums[same] >= price.min_tokens else 0
        write = price.write if sums[-1] >= price.min_tokens else 1.0
        paid.append(price.read * known + write * (sums[-1] - known))
        past.append(prompt)
    return [*accumulate(paid)]


def _same(one: Sequence[str], other: Sequence[str]) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def through(
    talk: list[BaseMessage], price: PriceProfile, *tools: Any, **settings: Any
) -> tuple[list[float], list[float]]:
    """The bills of a conversation as it came, and as the model was sent it through the seam."""
    model = fake_chat()
    seen = optimize(model, ContextCompressor(price_profile=price, **settings))
    bound: Any = seen.bind_tools([*tools]) if tools else seen
    asked = calls_of(talk)
    for messages in asked:
        bound.invoke(messages)
    raw = [([convert_to_openai_tool(tool) for tool in tools], messages) for messages in asked]
    ours = [(call.kwargs.get("tools", []), call.messages) for call in model.calls]
    return bills(raw, price), bills(ours, price)


def assert_never_dearer(raw: list[float], ours: list[float], *, by: float = 0.0) -> None:
    assert len(raw) == len(ours)
    for at, (a, b) in enumerate(zip(raw, ours, strict=True)):
        assert b <= a * (1 + by + UNCOUNTED), f"call {at + 1} of {len(raw)}: {b / a - 1:+.2%}"


@given(st.integers(0, 10**9), st.sampled_from(PRICES))
@SOME
def test_no_agent_is_dearer_at_any_call(seed, price):
    """The tool that comes with the first mark is paid for as well."""
    assert_never_dearer(*through(run(seed), price, TOOL))


@given(st.integers(0, 10**9), st.sampled_from(PRICES))
@SOME
def test_no_conversation_is_dearer_at_any_call(seed, price):
    """Without tools of the application there is none for handles, and marks have none."""
    assert_never_dearer(*through(history(seed), price))


@given(st.integers(0, 10**9), st.sampled_from(PRICES), st.sampled_from([0.01, 0.05, 0.3]))
@SOME
def test_no_agent_is_dearer_than_was_allowed(seed, price, allowed):
    """At none of its calls."""
    bills = through(run(seed), price, TOOL, max_extra_cost=allowed, keep_last=1 + seed % 3)
    assert_never_dearer(*bills, by=allowed)


def test_what_is_allowed_is_made_use_of():
    """Steps that pay later are taken earlier, and save more in the end."""
    price, talk = PRICES[0], run(0)
    raw, careful = through(talk, price, keep_last=2)
    _, bold = through(talk, price, keep_last=2, max_extra_cost=0.1)
    assert bold[-1] < careful[-1] <= raw[-1]
