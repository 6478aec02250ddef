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


@given(st.integers(1, 199), st.integers(0, 60))
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
