"""What a step costs: the view's own account against a bill drawn from what was sent."""

from __future__ import annotations

import pytest
from langchain_core.messages import AIMessage, BaseMessage, SystemMessage

from langchain_tokenopt import ContextCompressor
from langchain_tokenopt.context.conversation import Sizes
from langchain_tokenopt.context.economics import PriceProfile
from langchain_tokenopt.counting.tokens import steady_counter_of_name
from tests.support.conversations import agent_loop

MODEL = "gpt-4o"
SIZES = Sizes(MODEL, steady_counter_of_name(MODEL))


def _bill(sent: list[list[BaseMessage]], price: PriceProfile) -> float:
    """Return what calls cost of which a provider keeps the beginning, if it is long enough."""
    total, before = 0.0, []
    for messages in sent:
        known = SIZES.frame if before else 0
        for ours, theirs in zip(messages, before, strict=False):
            if ours != theirs:
                break
            known += SIZES.of(ours)
        known = known if known >= price.min_tokens else 0
        whole = SIZES.frame + sum(map(SIZES.of, messages))
        total += known * price.read + (whole - known) * price.write
        before = messages
    return total


@pytest.mark.parametrize(("write", "read"), [(1.25, 0.1), (1.0, 0.25), (1.0, 0.5)])
@pytest.mark.parametrize("least", [0, 1_024])
def test_a_beginning_too_short_to_be_kept_is_paid_again_as_a_whole(write, read, least):
    """What the first step is said to cost is what the bill says."""
    price = PriceProfile(write=write, read=read, min_tokens=least)
    talk = [SystemMessage("careful " * 600), *agent_loop(60)[1:]]
    calls = [talk[:at] for at, message in enumerate(talk) if at and isinstance(message, AIMessage)]
    compressor = ContextCompressor(price_profile=price, model=MODEL)
    views = [compressor.view(call) for call in calls]
    until = 1 + next(at for at, view in enumerate(views) if view.steps)

    raw = _bill(calls[:until], price)
    ours = _bill([view.messages for view in views[:until]], price)
    assert views[until - 1].saved == pytest.approx(raw - ours, abs=1)
