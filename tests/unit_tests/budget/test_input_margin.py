"""How much more a provider counts than we do."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from langchain_tokenopt.budget.input_margin import InputMargin


@given(
    st.lists(st.tuples(st.integers(200, 50_000), st.floats(1.0, 1.5)), min_size=1, max_size=20),
    st.data(),
)
def test_what_was_seen_once_is_covered(seen: list[tuple[int, float]], data: st.DataObject) -> None:
    """After a surplus has been reported, the same rate never exceeds the corrected count again."""
    margin = InputMargin()
    for counted, factor in seen:
        margin.learn(counted=counted, reported=int(counted * factor))
    counted, factor = data.draw(st.sampled_from(seen))

    assert int(counted * factor) <= margin.applied(counted)


@given(st.integers(1, 59), st.integers(0, 60))
def test_small_differences_are_frames(counted: int, frame: int) -> None:
    """A difference on a short prompt is added to longer ones, not multiplied."""
    margin = InputMargin()
    margin.learn(counted=counted, reported=counted + frame)

    assert 10_000 + frame == margin.applied(10_000)


def test_the_margin_grows_with_the_spread() -> None:
    """A provider whose counts scatter will scatter further: three standard deviations are held."""
    margin = InputMargin()
    for reported in (1_000, 1_100):
        margin.learn(counted=1_000, reported=reported)

    assert round(10_000 * (1.05 + 3 * 0.05)) == margin.applied(10_000)


providers = st.builds(
    dict,
    rate=st.floats(0, 0.5),
    per_message=st.integers(0, 8),
    per_tool_token=st.floats(0, 2),
)
requests = st.tuples(st.integers(20, 9_000), st.integers(1, 30), st.sampled_from([0, 0, 40, 200]))


def billed(provider: dict[str, float], request: tuple[int, int, int]) -> int:
    """Return what a provider counts."""
    counted, messages, tools = request
    added = provider["per_message"] * messages + provider["per_tool_token"] * tools
    return int(counted * (1 + provider["rate"]) + added)


@given(providers, st.lists(requests, min_size=1, max_size=12))
def test_what_one_provider_has_reported_is_covered_however_it_counts(
    provider: dict[str, float], seen: list[tuple[int, int, int]]
) -> None:
    """By a rate, around messages, in tools, or all of these: no report is exceeded again."""
    margin = InputMargin()
    for counted, messages, tools in seen:
        reported = billed(provider, (counted, messages, tools))
        margin.learn(counted=counted, reported=reported, messages=messages, tools=tools)

    for counted, messages, tools in seen:
        reported = billed(provider, (counted, messages, tools))
        if reported <= 2 * counted + tools + 200:
            assert reported <= margin.applied(counted, messages=messages, tools=tools) + 1


@given(st.integers(60, 2_000), st.integers(2, 8), st.integers(0, 8))
def test_the_next_call_of_a_loop_is_covered(counted: int, messages: int, per_message: int) -> None:
    """A prompt that grows by messages of its like grows no faster than what was seen of it."""
    margin = InputMargin()
    margin.learn(counted=counted, reported=counted + per_message * messages, messages=messages)

    later = 3 * counted + per_message * 3 * messages
    assert later <= margin.applied(3 * counted, messages=3 * messages)


@given(providers, requests, st.integers(0, 20_000))
def test_what_fits_is_what_is_allowed(
    provider: dict[str, float], request: tuple[int, int, int], room: int
) -> None:
    """The largest count within a room is one whose bound is within it, and no larger one's is."""
    margin = InputMargin()
    counted, messages, tools = request
    reported = billed(provider, request)
    margin.learn(counted=counted, reported=reported, messages=messages, tools=tools)
    allowed = margin.within(room, messages=messages, tools=tools)

    if allowed >= 0:
        assert margin.applied(allowed, messages=messages, tools=tools) <= room
        assert margin.applied(allowed + 1, messages=messages, tools=tools) >= room


def test_input_that_the_provider_has_added_is_not_held_for_ever() -> None:
    """What a search of its own has found says nothing of the next call."""
    margin = InputMargin()
    margin.learn(counted=100, reported=9_000)

    assert 100 == margin.applied(100)


def test_tools_count_as_json_until_the_provider_has_said_otherwise() -> None:
    """The first call is on the safe side."""
    margin = InputMargin()
    assert 150 == margin.applied(100, tools=50)

    margin.learn(counted=100, reported=110, tools=50)
    assert 110 == margin.applied(100, tools=50)


@given(st.integers(1, 50_000), st.integers(0, 60_000))
def test_what_a_silent_provider_may_count_is_charged_as_far_as_it_is_held(
    counted: int, held: int
) -> None:
    """Never less than is reserved for it, and a guess takes nothing that was promised to others."""
    margin = InputMargin()
    charged = margin.charged(counted, held)

    assert margin.applied(counted) <= charged <= max(margin.applied(counted), held)
    if held >= 1.3 * counted + 1:
        assert 1.3 * counted <= charged


def test_what_was_reported_is_charged_in_full() -> None:
    """That is no guess."""
    margin = InputMargin()
    margin.learn(counted=1_000, reported=1_100)

    assert 1_100 == margin.charged(1_000, held=1_000)
