"""What holds of every view of every conversation: thirteen laws, over generated histories."""

from __future__ import annotations

import random
import re
from copy import deepcopy
from functools import partial

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from langchain_tokenopt import (
    ContextCompressor,
    ProgressiveLoader,
    SlidingWindow,
    count_messages,
    expand_tool,
)
from langchain_tokenopt.context.fetching import fetched_part
from langchain_tokenopt.context.levels import Level
from langchain_tokenopt.core.messages import atomic_groups
from langchain_tokenopt.counting.tokens import steady_counter_of_name
from tests.support.conversations import history, orphans, turns, unanswered

SEEDS = st.integers(0, 10**9)
SIZES = st.sampled_from([None, 20, 100, 400, 1_500, 5_000])
PROFILES = st.sampled_from(["anthropic", "openai", "none"])
SOME = settings(max_examples=25, deadline=None)
MODEL = "gpt-4o"


def compressor(size, profile="openai", keep_last=1, **more):
    return ContextCompressor(size, keep_last=keep_last, price_profile=profile, model=MODEL, **more)


def same(one: list[BaseMessage], other: list[BaseMessage]) -> bool:
    return [m.model_dump() for m in one] == [m.model_dump() for m in other]


@given(SEEDS, SIZES, PROFILES, st.integers(0, 3))
@SOME
def test_calls_and_results_stay_together(seed, size, profile, keep_last):
    """No result loses its call and no call its result; what is not answered is not touched."""
    talk = history(seed)
    view = compressor(size, profile, keep_last).invoke(talk)
    assert orphans(view) <= orphans(talk)
    assert unanswered(view) <= unanswered(talk)
    last = max((n for n, m in enumerate(talk) if isinstance(m, AIMessage)), default=None)
    if last is not None and talk[last].tool_calls and unanswered(talk[last:]):
        assert all(any(m is seen for seen in view) for m in talk[last:])


@given(SEEDS, SIZES, st.integers(0, 3))
@SOME
def test_what_must_stay_is_the_very_same(seed, size, keep_last):
    """System messages, the task, the last question and the last groups; the order of all."""
    talk = history(seed)
    view = compressor(size, keep_last=keep_last).invoke(talk)
    stays = [m for m in talk if isinstance(m, SystemMessage)]
    users = [m for m in talk if isinstance(m, HumanMessage)]
    stays += [*users[:1], *users[-1:]]
    groups = atomic_groups(talk)
    stays += [talk[n] for group in groups[len(groups) - keep_last :] for n in group]
    for message in stays:
        assert any(seen is message for seen in view), message
    assert [m for m in view if isinstance(m, SystemMessage)] == [
        m for m in talk if isinstance(m, SystemMessage)
    ]


@given(SEEDS, SIZES, PROFILES)
@SOME
def test_a_view_of_a_view_is_the_view(seed, size, profile):
    """Twice is once, also for another process."""
    one = compressor(size, profile)
    view = one.invoke(history(seed))
    assert same(one.invoke(view), view)
    assert same(compressor(size, profile).invoke(view), view)


@pytest.mark.parametrize("seed", [1054, 1819, 1945, 2952, 3147, 4189, 5603, 56_314])
def test_results_before_the_last_mark_are_settled_at_every_call(seed):
    """A view whose step came later than the results it left: they are not decided on again."""
    make = partial(
        ContextCompressor,
        (100, 400, 1_500, 5_000, None)[seed % 5],
        price_profile=("openai", "anthropic", "none")[seed // 5 % 3],
        keep_last=seed // 15 % 3,
        model="gpt-4o",
    )
    view = make().view(history(seed))
    assert view.steps
    assert make().view(view.messages).messages == view.messages


@pytest.mark.parametrize("seed", [4232, 4386, 4976, 5641, 5901, 122, 3906, 51_111])
def test_a_note_stands_where_nothing_has_to_stay_with_it(seed):
    """A picture or a call beside a note has made views longer than their limit."""
    size = (100, 400, 1_500, 5_000)[seed % 5]
    view = ContextCompressor(
        size,
        price_profile=("openai", "anthropic", "none")[seed // 5 % 3],
        keep_last=seed // 15 % 3,
        model="gpt-4o",
        policy=SlidingWindow() if seed % 7 == 0 else None,
    ).view(history(seed))
    assert view.is_feasible


@pytest.mark.parametrize("policy", [None, SlidingWindow()])
@pytest.mark.parametrize("calls", [1, 3])
def test_large_calls_go_with_their_results(policy, calls):
    """What an agent has written in a call long ago stays in the way of nothing."""
    made = [
        {"name": "write", "args": {"n": n, "text": "open the gate " * 300}, "id": f"c{n}"}
        for n in range(calls)
    ]
    talk = [
        HumanMessage("Write the log."),
        AIMessage("", tool_calls=made, additional_kwargs={"tool_calls": ["as it came"]}),
        *(ToolMessage("written", tool_call_id=f"c{n}") for n in range(calls)),
        ToolMessage("written again", tool_call_id="c0"),
        AIMessage("Done."),
        HumanMessage("Which gate?"),
    ]
    view = compressor(200, policy=policy).view(talk)
    assert view.is_feasible
    assert orphans(view.messages) == unanswered(view.messages) == 0
    assert not any(m.additional_kwargs for m in view.messages)
    assert same(compressor(200, policy=policy).invoke(view.messages), view.messages)


@given(SEEDS, SIZES, PROFILES)
@SOME
def test_views_come_from_the_conversation_alone(seed, size, profile):
    """Call by call, or at once in another process: the same bytes."""
    talk, going = history(seed), compressor(size, profile)
    calls = [n for n, m in enumerate(talk) if n and isinstance(m, AIMessage)]
    for call in [*calls, len(talk)]:
        last = going.view(talk[:call])
    assert same(last.messages, compressor(size, profile).invoke(talk))


@given(SEEDS, SIZES, PROFILES)
@SOME
def test_a_view_begins_with_the_one_before(seed, size, profile):
    """Between two steps, what was sent is sent again."""
    talk, going = history(seed), compressor(size, profile)
    calls = [n for n, m in enumerate(talk) if n and isinstance(m, AIMessage)]
    before, steps = [], 0
    for call in [*calls, len(talk)]:
        seen = going.view(talk[:call])
        if seen.steps == steps:
            assert same(seen.messages[: len(before)], before)
        before, steps = seen.messages, seen.steps


@given(SEEDS, SIZES)
@SOME
def test_nothing_grows_and_nothing_is_over_the_limit_that_need_not_be(seed, size):
    """A view is never longer; where it is over its limit, all is gone that may go."""
    talk = history(seed)
    view = compressor(size).view(talk)
    counted = count_messages(view.messages, model=MODEL).tokens
    assert view.tokens_after == counted <= view.tokens_before
    assert view.tokens_before == count_messages(talk, model=MODEL).tokens
    if size is None:
        assert view.is_feasible
    elif view.is_feasible:
        assert counted <= size
    else:
        assert view.overrun == counted - size


@given(SEEDS, SIZES, st.integers(0, 2))
@SOME
def test_no_limit_leaves_more_than_there_is_without_one(seed, size, keep_last):
    """What would be shortened because it pays is shortened where it must be, too."""
    talk = history(seed)
    free = compressor(None, "none", keep_last).view(talk)
    bound = compressor(size, "none", keep_last).view(talk)
    assert bound.tokens_after <= free.tokens_after


@given(SEEDS, SIZES)
@SOME
def test_the_conversation_is_not_changed(seed, size):
    """What comes out is a view: the input, its ids and its order are as before."""
    talk = history(seed)
    before = deepcopy(talk)
    view = compressor(size).view(talk)
    assert same(talk, before)
    kept = [row.index for row in view.explain() if row.level != Level.ASIDE]
    shown = [talk[n] for n in kept]
    assert [(m.type, m.id) for m in view.messages[: len(shown)]] == [
        (m.type, m.id) for m in shown[: len(view.messages)]
    ]


@given(SEEDS, SIZES)
@SOME
def test_pictures_and_thoughts_pass_through(seed, size):
    """A result, or a message that is shown whole, has all of its blocks that are no text."""
    talk = history(seed)
    view = compressor(size).view(talk)
    for row in view.explain():
        message = talk[row.index]
        is_shown = row.level == Level.WHOLE or (
            row.level != Level.ASIDE and isinstance(message, ToolMessage)
        )  # in the place of others stands the note of all that was set aside
        if not is_shown or isinstance(message.content, str):
            continue
        blocks = [b for b in message.content if b.get("type") != "text"]
        held = any(
            [b for b in seen.content if isinstance(b, dict) and b.get("type") != "text"] == blocks
            for seen in view.messages
            if seen.type == message.type and not isinstance(seen.content, str)
        )
        assert held or not blocks


@given(SEEDS, st.sampled_from([20, 400, 1_500]))
@SOME
def test_a_window_that_slides_keeps_the_same_promises(seed, size):
    """The simplest policy of the same protocol."""
    talk = history(seed)
    view = compressor(size, policy=SlidingWindow()).view(talk)
    assert orphans(view.messages) <= orphans(talk)
    assert unanswered(view.messages) <= unanswered(talk)
    assert view.tokens_after <= view.tokens_before


@pytest.mark.parametrize("seed", range(20))
def test_every_loss_is_marked_and_can_be_fetched_back(seed):
    """Each handle of a view gives the original; nothing is gone without one."""
    talk = history(seed)
    one = compressor(200)
    assert one.originals is not None  # somebody answers handles
    view = one.view(talk)
    found = "\n".join(view.original(handle) or "" for handle in view.state.handles)
    for row in view.explain():
        if row.level != Level.WHOLE:
            assert talk[row.index].text in found


def readable(view: list[BaseMessage], tool, config) -> str:
    """Return all that can be read of a view: what it says, and what all handles bring."""
    pages = [message.text for message in view]
    known: dict[str, str] = {}
    for page in pages:  # grows as handles bring more of them
        for handle in HANDLE.findall(page):
            if handle not in known:
                known[handle], goes_on = "", handle
                while goes_on:
                    part = tool.invoke({"handle": goes_on}, config)
                    mark = PART.search(part)
                    known[handle] += part[: mark.start()] if mark else part
                    goes_on = mark[1] if mark else ""
                pages.append(known[handle])
    return "\n\0".join(pages)


HANDLE = re.compile(r'expand\("([0-9a-f]{8})"\)')
PART = re.compile(r'\n\[[^\n]*expand\("([0-9a-f]{8}_\d+)"\) goes on[^\n]*\]$')


@given(SEEDS, st.integers(1, 9), PROFILES, st.sampled_from([None, 0.5, 1.0]))
@example(215, 4, "none", None)  # a line of one result has stood in the place of a note of many
@example(297, 4, "none", 1.0)
@SOME
def test_nothing_disappears(seed, tenths, profile, keep):
    """Each text is in the view, or its handles bring it, whichever calls were looked at before."""
    talk, chance = turns(seed), random.Random(seed)
    size = count_messages(talk, model=MODEL).tokens * tenths // 10
    one = compressor(size, profile, keep=keep)
    tool = expand_tool(one)
    some = sorted({len(talk), *chance.sample(range(2, len(talk)), min(4, len(talk) - 2))})
    for upto, user in [*zip(some, ["ann"] * len(some), strict=True), (len(talk), "bob")]:
        view = one.view(talk[:upto], user=user).messages
        seen = readable(view, tool, {"metadata": {"user_id": user}})
        assert [m.text for m in talk[:upto] if m.text not in seen] == []


@pytest.mark.parametrize("size", [1, 60, 100, 126, 300])
def test_nothing_is_out_of_reach_under_the_smallest_limits(size):
    """Where three quarters of a limit are less than a part that is worth it."""
    talk = [(AIMessage if n % 2 else HumanMessage)(f"Row {n}: " + "gate " * 30) for n in range(20)]
    one = compressor(size)
    tool = expand_tool(one)
    seen = readable(one.view(talk).messages, tool, {})
    assert [m.text for m in talk if m.text not in seen] == []


@pytest.mark.parametrize("size", [3, 300])
def test_a_result_that_comes_after_its_call_was_set_aside_is_listed_with_it(size):
    """It is not shown, as its call is not."""
    calls = [{"name": "write", "args": {"text": "open the gate " * 300}, "id": "c0"}]
    talk = [HumanMessage("Write the log."), AIMessage("", tool_calls=calls)]
    talk += [ToolMessage("It is written. " * 20, tool_call_id="c0"), AIMessage("Done.")]
    talk += [HumanMessage("Which gate?"), AIMessage("Gate B22."), HumanMessage("Sure?")]
    one = compressor(200)
    tool = expand_tool(one)
    assert not any(getattr(m, "tool_calls", ()) for m in one.view(talk).messages)
    talk += [AIMessage("Yes."), ToolMessage("Written again. " * size, tool_call_id="c0")]
    for more in [HumanMessage("And which hall?"), AIMessage("Hall 4."), HumanMessage("Thanks.")]:
        talk.append(more)
        view = one.view(talk).messages
        assert not orphans(view)
        seen = readable(view, tool, {})
        assert [m.text for m in talk if m.text not in seen] == []


def test_a_log_comes_first_by_whole_lines_and_then_to_the_byte():
    """With its errors, where these are asked for."""
    chance = random.Random(5)
    rows = [f"10:{n // 60:02d}:{n % 60:02d} INFO job {chance.random()}\n" for n in range(900)]
    rows[311] = "10:05:11 ERROR no space left on /var/lib/db\n"
    rows[702] = "10:11:42 ERROR connection reset by broker-9\n"
    loader = ProgressiveLoader()
    tool = expand_tool(loader)
    first, stats = loader.optimize_content("".join(rows), "Which errors are in the log?", "ann")
    assert {rows[311], rows[702]} <= {*first.splitlines(keepends=True)[:-1]} <= {*rows, "\n"}
    assert stats.tokens_after < stats.tokens_before / 3
    seen = readable([HumanMessage(first)], tool, {"metadata": {"user_id": "ann"}})
    assert "".join(rows) in seen


@given(st.text(min_size=1, max_size=3_000), st.integers(1, 30), st.integers(100, 2_000))
@SOME
def test_parts_are_the_original_to_the_byte(text, times, most):
    """Whatever the text and the room: none is longer, and together they are all of it."""
    text, count = text * times, steady_counter_of_name(MODEL).count
    start, parts = 0, []
    while True:
        made = fetched_part(text, "1a2b3c4d", start, most, lambda t: count(t).tokens, "expand")
        assert made is not None
        assert count(made).tokens <= most
        part, mark, note = made.rpartition("\n[")
        goes_on = re.search(r'expand\("1a2b3c4d_(\d+)"\) goes on', note)
        if not mark or goes_on is None or count(text[start:]).tokens <= most:
            parts.append(made)
            break
        parts.append(part)
        assert int(goes_on[1]) == start + len(part)
        start = int(goes_on[1])
    assert "".join(parts) == text
