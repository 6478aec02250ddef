"""Laws of budgets in dollars: what is spent is never more, and nearly all of it can be used."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_tokenopt.budget.leases import largest_output
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.pricing.rates import INPUT_KINDS, OUTPUT_KINDS, Rates
from tests.support.money import Mix, MixResult, random_mix, run_mix

pytestmark = pytest.mark.exhaustive


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    """LangChain logs every refusal of a handler."""
    logging.getLogger("langchain_core.callbacks.manager").setLevel(logging.CRITICAL)


def check(mix: Mix, result: MixResult) -> None:
    """The law of one mix."""
    assert result.billed <= result.total, mix
    assert result.billed == result.recorded == result.charged, mix
    assert result.held == 0
    if result.demanded > 1.2 * result.total:
        assert result.billed >= 0.9 * result.total, mix


@settings(max_examples=6, deadline=None)
@given(st.integers(1_000, 1_000_000).map(random_mix))
def test_a_dollar_is_never_exceeded_and_nine_tenths_are_used(mix: Mix) -> None:
    """By the provider's books, the tracker's records and the plan's account: all the same."""
    check(mix, run_mix(mix))


tokens = st.integers(0, 5_000)
rate = st.integers(1, 10**15)


@st.composite
def cards(draw: st.DrawFn) -> Rates:
    """Rates of every kind, with and without long contexts; some kinds cost more than the whole."""
    kinds = draw(st.sets(st.sampled_from([*INPUT_KINDS, *OUTPUT_KINDS])))

    def drawn() -> dict[str, int]:
        return {kind: draw(rate) for kind in {*kinds, "input", "output"}}

    starts = sorted(draw(st.sets(st.integers(1, 4_000), max_size=2)))
    above = tuple((start, Rates(**drawn())) for start in starts)
    return Rates(**drawn(), request=draw(rate), above=above)


@given(cards(), st.data())
def test_no_call_costs_more_than_the_most(rates: Rates, data: st.DataObject) -> None:
    """Whatever is read from caches, written to them, heard, drawn or thought, in any length."""
    into, out = data.draw(tokens), data.draw(tokens)
    read = data.draw(st.integers(0, into))
    write = data.draw(st.integers(0, into - read))
    heard = data.draw(st.integers(0, into - read - write))
    drawn = data.draw(st.integers(0, out))
    usage = Usage(
        into,
        out,
        read,
        write,
        data.draw(st.integers(0, write)),
        reasoning_tokens=data.draw(st.integers(0, out - drawn)),
        input_audio_tokens=heard,
        output_image_tokens=drawn,
    )
    most = rates.most(data.draw(st.integers(into, 6_000)), data.draw(st.integers(out, 6_000)))

    assert most is not None
    assert rates.cost(usage) <= most


@given(cards(), tokens, st.integers(0, 5_000), st.integers(0, 5_000), st.integers(0, 10**16))
def test_the_longest_answer_that_can_be_paid(
    rates: Rates, into: int, least: int, more: int, left: int
) -> None:
    """It fits, one token more does not, and where the shortest does not fit there is none."""

    def cost(output: int) -> int | None:
        return rates.most(into, output)

    found = largest_output(cost, least, least + more, left)

    if found is None:
        assert (cost(least) or 0) > left
    else:
        assert least <= found <= least + more
        assert (cost(found) or 0) <= left
        assert found == least + more or (cost(found + 1) or 0) > left
