"""Limits of a tool hold, whoever calls it at once, and what is refused can be read."""

from __future__ import annotations

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_core.tools import BaseTool, InjectedToolCallId, ToolException, tool
from langgraph.types import Command

from langchain_tokenopt import (
    BudgetedTool,
    BudgetExceededError,
    TokenOptWarning,
    ToolLimitExceededError,
    ToolLimits,
    ToolSet,
    counter_for,
    scoped_tools,
)
from langchain_tokenopt.tools.tool_limits import Refusal, ToolAccount, ToolCallUse
from tests.support.fakes import FakeAnswer, fake_chat

MANY = 20
PAGE = "\n".join(f"Bridge {n} was painted red by {n + 7} people in {1700 + n}." for n in range(400))
ROWS = [{"bridge": n, "painters": n + 7, "year": 1700 + n} for n in range(400)]


def tokens(content: Any) -> int:
    text = content if isinstance(content, str) else json.dumps(content)
    return counter_for("gpt-4o").count(text).tokens


def called(made: BaseTool, **arguments: Any) -> Any:
    """Call a tool as a graph does."""
    return made.invoke({"type": "tool_call", "id": "1", "name": made.name, "args": arguments})


def returning(result: Any, **limits: Any) -> BaseTool:
    """Make a tool that returns the same whatever it is asked."""

    def look_up(query: str) -> Any:
        """Look something up."""
        return result

    return BudgetedTool.wrap(tool(look_up), ToolLimits(**limits))


# Calls


def test_threads_never_make_a_call_too_many() -> None:
    """Twenty threads that begin at once get exactly as many calls as there are."""
    gate, made = threading.Barrier(MANY), []

    @tool
    def look_up(query: str) -> str:
        """Look something up."""
        made.append(query)
        return query

    limited = BudgetedTool.wrap(look_up, ToolLimits(max_calls=7))

    def one(number: int) -> str:
        gate.wait()
        return limited.invoke({"query": str(number)})

    with ThreadPoolExecutor(MANY) as pool:
        answers = list(pool.map(one, range(MANY)))

    assert 7 == len(made) == len([a for a in answers if a.isdigit()])
    assert MANY - 7 == len([a for a in answers if "may be called 7 times" in a])


async def test_tasks_never_make_a_call_too_many() -> None:
    """The same of twenty tasks, all of which wait inside."""

    @tool
    async def look_up(query: str) -> str:
        """Look something up."""
        await asyncio.sleep(0)
        return query

    limited = BudgetedTool.wrap(look_up, ToolLimits(max_calls=7))
    calls = (limited.ainvoke({"query": str(n)}) for n in range(MANY))
    answers = await asyncio.gather(*calls)

    assert 7 == len([a for a in answers if a.isdigit()])
    assert (7, MANY - 7) == (limited.report().calls, limited.report().refused_calls)


def test_an_agent_is_told_and_goes_on() -> None:
    """A refusal is a message with status "error", which the model can read; the graph goes on."""
    limited = returning("found", max_calls=1)
    ask = [{"name": "look_up", "args": {"query": "x"}}]
    model = fake_chat(answers=[FakeAnswer("", tool_calls=ask)] * 2 + [FakeAnswer("Done.")])
    result = create_agent(model, [limited]).invoke({"messages": [HumanMessage("Begin.")]})
    first, second = (m for m in result["messages"] if isinstance(m, ToolMessage))

    assert ("found", "success", "error") == (first.content, first.status, second.status)
    assert "look_up was not called: it may be called 1 times in this run" in second.text
    assert "Go on with what you have" in second.text
    assert "Done." == result["messages"][-1].content


def test_chains_and_branches_share_a_limit() -> None:
    """In LCEL a tool is a runnable like any other."""
    limited = returning("found", max_calls=2)
    ask = RunnableLambda(lambda query: {"query": query}) | limited
    found = RunnableParallel(a=ask, b=ask, c=ask).invoke("x")

    assert 2 == list(found.values()).count("found")


def test_raising_is_possible() -> None:
    """With on_exceed="raise" a refusal is an error that says both numbers and the remedy."""
    limited = returning("found", max_calls=1, on_exceed="raise")
    called(limited, query="x")
    with pytest.raises(ToolLimitExceededError, match=r"1 times.*Raise max_calls") as raised:
        called(limited, query="x")

    assert ("look_up", "max_calls") == (raised.value.tool, raised.value.what)
    assert isinstance(raised.value, BudgetExceededError)
    assert not raised.value.is_retryable


@pytest.mark.parametrize("wrong", [{"max_calls": 0}, {"max_seconds": float("inf")}, {"calls": 3}])
def test_limits_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    """When they are written, with the name of the field."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ToolLimits(**wrong)


@pytest.mark.parametrize("wrong", [5, "none", {"max_calls": 1}, [ToolLimits()], ToolLimits])
def test_limits_that_are_none_are_refused(wrong: Any) -> None:
    """Wherever they are given, with what to give: nothing is silently unlimited."""

    @tool
    def look_up(query: str) -> str:
        """Look something up."""
        return query

    for make in (
        lambda: BudgetedTool.wrap(look_up, wrong),
        lambda: scoped_tools([look_up], limits={"look_up": wrong}),
        lambda: ToolSet(look_up, limits={"look_up": wrong}),
    ):
        with pytest.raises(TypeError, match=r"ToolLimits\(max_calls=3\)"):
            make()
    with pytest.raises((TypeError, ValueError), match=r"ToolLimits\("):
        scoped_tools([look_up], limits=wrong)
    with pytest.raises(ValueError, match="limits are for search, and the tools are look_up"):
        scoped_tools([look_up], limits={"search": ToolLimits()})


# Laws


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


steps = st.lists(
    st.one_of(
        st.tuples(st.just("begin"), st.integers(0, 1)),
        st.tuples(st.just("end"), st.integers(0, 5)),
        st.tuples(st.just("interrupt"), st.integers(0, 5)),
        st.tuples(st.just("result"), st.integers(0, 5), st.integers(0, 90), st.integers(0, 100)),
        st.tuples(st.just("wait"), st.floats(0.01, 2)),
    ),
    max_size=80,
)


@settings(max_examples=150, deadline=None)
@given(steps=steps)
def test_no_order_of_events_passes_a_limit(steps: list[tuple[Any, ...]]) -> None:
    """Calls, tokens of results and seconds of two runs, whatever begins and ends when."""
    clock, runs = Clock(), (Clock(), Clock())  # anything that can be a key
    limits = ToolLimits(max_calls=4, max_result_tokens=200, max_seconds=5)
    account = ToolAccount("t", limits, clock)
    open_calls: list[tuple[ToolCallUse, int]] = []
    made, shown, worked = [0, 0], [0, 0], [0.0, 0.0]
    for kind, *how in steps:
        if kind == "wait":
            # Nobody works longer than it may: the call's own deadline ends it.
            rest = [limits.max_seconds - worked[run] for _, run in open_calls]
            step = min([how[0], *rest])
            for run in {run for _, run in open_calls}:
                worked[run] += step
            clock.now += step
            for use, run in [c for c in open_calls if worked[c[1]] >= limits.max_seconds]:
                use.end()
                open_calls.remove((use, run))
        elif kind == "begin":
            use = account.begin(runs[how[0]])
            is_over = worked[how[0]] >= limits.max_seconds - 1e-9
            full = made[how[0]] >= limits.max_calls or shown[how[0]] >= limits.max_result_tokens
            if not is_over:
                assert isinstance(use, Refusal) == full
            if isinstance(use, ToolCallUse):
                made[how[0]] += 1
                open_calls.append((use, how[0]))
                assert use.seconds == pytest.approx(limits.max_seconds - worked[how[0]])
        elif open_calls:
            use, run = open_calls[how[0] % len(open_calls)]
            if kind == "result":
                granted = use.grant(how[1])
                kept = granted * how[2] // 100
                use.settle(how[1], kept, unused=granted - kept)
                shown[run] += kept
                continue
            use.end(uncounted=kind == "interrupt")
            made[run] -= kind == "interrupt"
            open_calls.remove((use, run))
        assert max(made) <= limits.max_calls
        assert max(shown) <= limits.max_result_tokens


# Results


@pytest.mark.parametrize("limit", [70, 150, 900])
@pytest.mark.parametrize(
    "result",
    [
        PAGE,
        ROWS,
        {"rows": ROWS, "total": 400},
        json.dumps(ROWS, indent=2),
        "x" * 30_000,
        {"blob": "y " * 9_000},
        "漢字かな" * 2_000,
        "<html>" + "<p>Tea.</p>" * 900 + "</html>",
    ],
    ids=["text", "list", "dict", "JSON text", "one word", "one long value", "no spaces", "markup"],
)
def test_a_long_result_is_shortened_in_its_own_form(result: Any, limit: int) -> None:
    """Never more than the limit; JSON stays JSON; a line says what was left out."""
    limited = returning(result, max_result_tokens_per_call=limit)
    message = called(limited, query="Who painted bridge 77?")

    assert tokens(message.content) <= limit
    assert "success" == message.status
    if not isinstance(result, str) or result.startswith("["):
        json.loads(message.content)
    if limit >= 150:
        assert "shortened from" in message.content
    report = limited.report()
    assert tokens(message.content) == report.result_tokens_after <= limit
    assert limit < report.result_tokens_before


def test_what_the_question_needs_is_kept() -> None:
    """The arguments of the call say what the result must answer."""
    limited = returning(PAGE, max_result_tokens_per_call=100)

    assert "in 1777" in called(limited, query="When was bridge 77 painted?").content


def test_what_fits_is_the_same() -> None:
    """Results within the limit are handed on as they are, to the byte."""
    text = json.dumps(ROWS[:3], indent=4)
    limited = returning(text, max_result_tokens_per_call=200, max_result_tokens=10_000)

    assert text == called(limited, query="x").content
    assert text is limited.invoke({"query": "x"})


def test_artifacts_and_blocks_keep_their_form() -> None:
    """Only texts are shortened: pictures, other keys and artifacts are what they were."""
    picture = {"type": "image", "url": "https://example.org/a.png"}

    @tool(response_format="content_and_artifact")
    def look_up(query: str) -> tuple[list[Any], list[Any]]:
        """Look something up."""
        blocks = [{"type": "text", "text": PAGE, "id": "1"}, picture, {"type": "text", "text": "z"}]
        return blocks, ROWS

    limited = BudgetedTool.wrap(look_up, ToolLimits(max_result_tokens_per_call=2_000))
    message = called(limited, query="When was bridge 77 painted?")
    long, shown, short = message.content

    assert ROWS is message.artifact
    assert picture == shown
    assert {"type": "text", "text": "z"} == short
    assert "1" == long["id"]
    assert tokens(long["text"]) < 2_000
    assert "shortened from" in long["text"]


def test_messages_of_a_command_are_shortened() -> None:
    """What else it changes in the state is not touched."""

    @tool
    def look_up(query: str, call_id: Annotated[str, InjectedToolCallId]) -> Command[Any]:
        """Look something up."""
        said = ToolMessage(PAGE, tool_call_id=call_id)
        return Command(update={"messages": [said], "pages": ROWS}, goto="next")

    command = called(
        BudgetedTool.wrap(look_up, ToolLimits(max_result_tokens_per_call=90)), query="x"
    )
    (message,) = command.update["messages"]

    assert tokens(message.content) <= 90
    assert ROWS is command.update["pages"]
    assert ("next", "1") == (command.goto, message.tool_call_id)


def test_errors_stay_readable() -> None:
    """An error keeps what one needs to understand it, whatever the limit."""

    @tool
    def look_up(query: str) -> str:
        """Look something up."""
        raise ToolException("The table is locked by job 4711: try again later. " + PAGE)

    look_up.handle_tool_error = True
    message = called(
        BudgetedTool.wrap(look_up, ToolLimits(max_result_tokens_per_call=70)), query="x"
    )

    assert "error" == message.status
    assert 100 < tokens(message.content) <= 200


PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 4_000}}
in_turn = pytest.mark.parametrize("in_async", [False, True], ids=["sync", "async"])


def ask(made: BaseTool, *, in_async: bool) -> Any:
    """Call a tool as a program does."""
    given = {"query": "bridge 77"}
    return asyncio.run(made.ainvoke(given)) if in_async else made.invoke(given)


@in_turn
@pytest.mark.parametrize("result", [PAGE, ROWS, {"rows": ROWS}, [PAGE, PAGE], ["tea"] * 9_000])
@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("max_result_tokens_per_call", "each may have 20 tokens"),
        ("max_result_tokens", "its results may have 20 tokens in this run, and have 0"),
    ],
)
def test_a_result_without_room_is_a_text_or_an_error(
    result: Any, what: str, said: str, in_async: bool
) -> None:
    """It names the limit that is reached, with true numbers, whatever has called the tool."""
    limited, raising = (
        returning(result, **{what: 20}, on_exceed=on_exceed) for on_exceed in ("message", "raise")
    )
    told = ask(limited, in_async=in_async)
    needed = limited.report().result_tokens_before

    assert isinstance(told, str)
    assert said in told
    assert f"This one has {needed:,}" in told
    assert "error" == called(limited, query="x").status
    assert (2, 0) == (limited.report().refused_calls, limited.report().result_tokens_after)
    with pytest.raises(ToolLimitExceededError, match=f"Raise {what}, or ask for less") as raised:
        ask(raising, in_async=in_async)
    assert (what, 20, needed) == (
        raised.value.what,
        raised.value.limit_tokens,
        raised.value.needed_tokens,
    )


@in_turn
@pytest.mark.parametrize("limit", [70, 300, 2_000])
@pytest.mark.parametrize(
    "result",
    [
        ROWS,
        {"rows": ROWS, "of": {"a": 1}},
        list(range(9_000)),
        ["tea"] * 9_000,
        [{"type": "bridge", "painters": n} for n in range(900)],
        tuple(range(9_000)),
        dict.fromkeys(range(3000), "tea"),
        b"tea" * 9_000,
    ],
    ids=["rows", "dict", "numbers", "texts", "rows with a type", "tuple", "no JSON", "bytes"],
)
def test_values_for_a_program_are_limited_too(result: Any, limit: int, in_async: bool) -> None:
    """A smaller one of the same type, or a text of it; the report says what was returned."""
    limited = returning(result, max_result_tokens_per_call=limit)
    found = ask(limited, in_async=in_async)
    report = limited.report()

    assert report.result_tokens_after <= limit < report.result_tokens_before
    if isinstance(found, str):
        assert tokens(found) == report.result_tokens_after
    else:
        assert type(found) is type(result)
    if isinstance(result, list) or (isinstance(result, dict) and 0 not in result and limit >= 300):
        assert type(found) is type(result)


@in_turn
def test_pictures_stay_and_texts_share_the_rest(in_async: bool) -> None:
    """They are counted as models do, not by their base64, and never cost a text its place."""
    limited = returning([{"type": "text", "text": PAGE}, PICTURE], max_result_tokens_per_call=300)
    text, picture = ask(limited, in_async=in_async)
    report = limited.report()

    assert PICTURE == picture
    assert tokens(text["text"]) <= 64
    assert report.result_tokens_after < 1_000
    alone = returning([PICTURE] * 3, max_result_tokens_per_call=300)
    assert [PICTURE] * 3 == called(alone, query="x").content
    full = returning([{"type": "text", "text": PAGE}, PICTURE], max_result_tokens=500)
    assert "may have 500 tokens in this run, and have 0" in ask(full, in_async=in_async)


def test_results_of_a_run_are_never_more_than_allowed() -> None:
    """Results side by side share what there is; later ones are told that nothing is left."""
    limited = returning(PAGE, max_result_tokens=1_000, max_result_tokens_per_call=300)
    with ThreadPoolExecutor(MANY) as pool:
        messages = list(pool.map(lambda _: called(limited, query="x"), range(MANY)))
    shown = [message for message in messages if message.status == "success"]
    refused = [message for message in messages if message.status == "error"]

    assert 4 >= len(shown) >= 3
    assert sum(tokens(message.content) for message in shown) <= 1_000
    assert all("may have 1,000 tokens in this run" in message.text for message in refused)


class Pages:
    """A loader of one's own."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, str | None]] = []

    def shorten(self, text: str, max_tokens: int, query: str | None) -> str:
        self.asked.append((max_tokens, query))
        return "page 1"


def test_a_loader_of_ones_own_is_asked() -> None:
    """With what the call asked, and the room that there is beside the line about it."""
    pages, limited = Pages(), returning(PAGE)
    (limited,) = scoped_tools([limited], limits=ToolLimits(max_result_tokens_per_call=90),
                              loader=pages)  # fmt: skip
    message = called(limited, query="Bridge 7?")

    assert message.text.startswith("page 1\n[shortened from")
    assert "Bridge 7?" == pages.asked[0][1]
    assert 40 < pages.asked[0][0] < 90


@pytest.mark.parametrize("fails", [True, False], ids=["raises", "returns too much"])
def test_a_loader_that_fails_loses_nothing(fails: bool) -> None:
    """The package shortens in its place, and says so."""

    class Broken:
        def shorten(self, text: str, max_tokens: int, query: str | None) -> str:
            if fails:
                raise RuntimeError("no pages")
            return text

    limited = BudgetedTool.wrap(
        returning(PAGE), ToolLimits(max_result_tokens_per_call=90), loader=Broken()
    )
    with pytest.warns(TokenOptWarning, match="the loader Broken could not shorten"):
        message = called(limited, query="x")

    assert tokens(message.content) <= 90


# Seconds


async def test_a_slow_async_call_is_cancelled() -> None:
    """The tool hears of it, and the model is told."""
    ended = []

    @tool
    async def look_up(query: str) -> str:
        """Look something up."""
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append(query)
            raise
        return query

    limited = BudgetedTool.wrap(look_up, ToolLimits(max_seconds_per_call=0.01))
    answer = await limited.ainvoke({"query": "x"})

    assert ["x"] == ended
    assert "look_up was given up: a call may take 0.01 s" in answer


async def test_a_tool_that_does_not_let_itself_be_cancelled_is_late_all_the_same() -> None:
    """What it returns after its time is dropped."""

    @tool
    async def look_up(query: str) -> str:
        """Look something up."""
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "found after all"
        return query

    limited = BudgetedTool.wrap(look_up, ToolLimits(max_seconds_per_call=0.01))
    answer = await limited.ainvoke({"query": "x"})

    assert "was given up" in answer
    assert (1, 1) == (limited.report().calls, limited.report().refused_calls)


async def test_a_timeout_of_the_tools_own_is_an_error() -> None:
    """Only the limit's own end is told as one."""

    @tool
    async def look_up(query: str) -> str:
        """Look something up."""
        raise TimeoutError("the server is slow")

    limited = BudgetedTool.wrap(look_up, ToolLimits(max_seconds=30, max_seconds_per_call=20))
    with pytest.raises(TimeoutError, match="the server is slow"):
        await limited.ainvoke({"query": "x"})
    assert (1, 0) == (limited.report().failed_calls, limited.report().refused_calls)


@pytest.mark.parametrize("in_async", [False, True], ids=["sync", "async"])
def test_a_slow_sync_call_is_left_to_itself(in_async: bool) -> None:
    """No thread is killed: it goes on, its result is dropped, and the model is told."""
    go_on, ended = threading.Event(), threading.Event()

    @tool
    def look_up(query: str) -> str:
        """Look something up."""
        go_on.wait(30)
        ended.set()
        return query

    limited = BudgetedTool.wrap(look_up, ToolLimits(max_seconds_per_call=0.01))
    if in_async:
        answer = asyncio.run(limited.ainvoke({"query": "x"}))
    else:
        answer = limited.invoke({"query": "x"})

    assert "had no result after" in answer
    assert not ended.is_set()
    go_on.set()
    assert ended.wait(30)


def test_the_seconds_of_a_run_run_out() -> None:
    """They are those of all calls, counted once where calls stand side by side."""
    clock = Clock()
    account = ToolAccount("t", ToolLimits(max_seconds=10), clock)
    first, second = account.begin(None), account.begin(None)
    clock.now = 4
    assert isinstance(first, ToolCallUse)
    assert isinstance(second, ToolCallUse)
    first.end()
    second.end()
    third = account.begin(None)
    clock.now = 10.0

    assert isinstance(third, ToolCallUse)
    assert 6 == third.seconds
    assert "may work 10 s in this run, and has worked 10 s" in str(third.given_up())
    third.end()
    assert "has no time left" in str(account.begin(None))
    assert 14 == account.report().seconds


@pytest.mark.parametrize("wrong", [{"max_calls": True}, {"max_calls": "3"}, {"max_seconds": True}])
def test_a_limit_of_another_type_is_refused(wrong: Any) -> None:
    """What looks like a number would be another limit than the one that was meant."""
    with pytest.raises(ValueError, match="max_"):
        ToolLimits(**wrong)
