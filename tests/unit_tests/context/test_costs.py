"""What conversations cost with each policy, against sums made by hand."""

from __future__ import annotations

from itertools import pairwise

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage

from langchain_tokenopt import ContextCompressor, PriceProfile, SlidingWindow, count_messages
from langchain_tokenopt.context import context_costs
from langchain_tokenopt.context.bill import billed, calls_of
from tests.support.conversations import agent_loop, history

FRAME = count_messages([], model="gpt-4o").tokens


def tokens(messages) -> int:
    return count_messages(messages, model="gpt-4o").tokens - FRAME


def by_hand(prompts, price: PriceProfile) -> float:
    """The rule of the price lists, prompt by prompt."""
    units, before = 0.0, []
    for prompt in prompts:
        same = 0
        while prompt[: same + 1] == before[: same + 1] and same < min(len(prompt), len(before)):
            same += 1
        known, whole = tokens(prompt[:same]), tokens(prompt)
        known = known if known >= price.min_tokens else 0
        write = price.write if whole >= price.min_tokens else 1
        units += price.read * known + write * (whole - known)
        before = prompt
    return units


@pytest.mark.parametrize(
    "price", [PriceProfile(write=1.25, read=0.1), PriceProfile(read=0.5, min_tokens=300)]
)
@pytest.mark.parametrize("seed", range(6))
def test_costs_are_the_sums_of_the_price_list(seed, price):
    """Sent whole, and as the compressor shows it, for histories of every kind."""
    talk = history(seed)
    asked = calls_of(talk)
    found = context_costs([talk], price_profile=price)
    everything, window, *_ = found.policies.values()
    longest = max((sum(map(tokens, [[m] for m in a])) for a in asked), default=0)
    compressor = ContextCompressor(
        max(1, round(longest / 2)), policy=SlidingWindow(), price_profile=price, model="gpt-4o"
    )

    assert everything.units == pytest.approx(by_hand(asked, price))
    assert everything.sent == sum(map(tokens, asked))
    assert window.units == pytest.approx(by_hand([compressor.invoke(a) for a in asked], price))
    assert found.calls == len(asked)


def test_a_long_agent_costs_less_and_a_window_costs_more():
    """What a provider keeps is lost with a window that slides; steps keep most of it."""
    found = context_costs([agent_loop(39)], model="gpt-4o")
    everything, window, ours, _ = found.policies.values()

    assert ours.units < 0.5 * everything.units
    assert window.units > everything.units
    assert window.sent < everything.sent
    assert [found.dearer(name) for name in found.policies] == [0, 1, 0, 0]
    assert everything.cost_nano_usd == round(everything.units * 2_500)
    assert ours.mean_units()[-1] < everything.mean_units()[-1]


def test_the_tool_is_paid_for():
    """It comes with the first step and makes all unknown, or it is there from the beginning."""
    found = context_costs([agent_loop(20)], price_profile="openai")
    everything, _, ours, with_tool = (policy.bills[0].calls for policy in found.policies.values())
    first = found.steps("ContextCompressor()", 0)[0].call - 1
    tool = with_tool[0].sent - everything[0].sent

    assert 50 < tool < 150
    assert ours[first].known == 0
    assert [call.sent for call in ours[:first]] == [call.sent for call in everything[:first]]
    assert found.steps("expand_tool from the start", 0)[0].call <= first + 1
    view = found.policies["ContextCompressor()"].views[0]
    assert view is not None
    assert ours[-1].sent == tool + sum(tokens([m]) for m in view.messages)


def test_steps_say_what_they_had_to_bring():
    """Where a prompt begins otherwise than the one before: how many tokens, and when it pays."""
    found = context_costs([agent_loop(20)], model="claude-sonnet-4-5")
    ours = list(found.policies)[2]
    steps = found.steps(ours, 0)
    calls = found.policies[ours].bills[0].calls

    assert not found.steps("everything", 0)
    assert [step.call for step in steps] == [
        at for at, (a, b) in enumerate(pairwise(calls), 2) if b.known < a.sent
    ]
    for step in steps:
        assert step.removed > 0
        assert step.break_even == found.price.break_even(step.rewritten, step.removed)
        assert step.followed_by == len(calls) - step.call


def test_what_was_asked_of_a_model_counts():
    """A way that pays for summaries says so in ``spent``."""

    class Summaries:
        spent = 70.0

        def __call__(self, messages):
            return messages[-1:]

    talk = [HumanMessage("a"), AIMessage("b"), HumanMessage("c"), AIMessage("d")]
    bill = billed(calls_of(talk), Summaries(), PriceProfile(min_tokens=0), lambda message: 10)

    assert bill.units == 10 + 10 + 70
    assert (bill.sent, bill.known) == (20, 0)


def test_conversations_without_calls_cost_nothing():
    """Only what was asked of a model is a cost."""
    found = context_costs([[SystemMessage("Be brief."), HumanMessage("Hi")], []])

    assert [policy.units for policy in found.policies.values()] == [0, 0, 0, 0]
    assert found.calls == 0
    assert found.policies["everything"].mean_units() == []


def test_a_model_that_nobody_knows_has_no_price():
    """Unknown is not zero."""
    found = context_costs([agent_loop(3)], model="our-own-model")

    assert {policy.cost_nano_usd for policy in found.policies.values()} == {None}


@pytest.mark.parametrize("wrong", [{"max_tokens": 0}, {"price_profile": "free"}])
def test_wrong_settings_are_named(wrong):
    """A size and a profile, as the compressor's."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        context_costs([agent_loop(3)], **wrong)
