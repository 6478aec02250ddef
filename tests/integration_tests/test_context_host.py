"""Long conversations through real hosts, over real HTTP: views, handles, windows, state."""

from __future__ import annotations

import asyncio
import inspect
import re

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware, SummarizationMiddleware
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, create_react_agent, tools_condition
from langgraph.types import Command, interrupt
from langgraph_supervisor import create_supervisor

from langchain_tokenopt import (
    BudgetInfeasibleError,
    ContextCompressor,
    ContextStore,
    PriceProfile,
    expand_tool,
    optimize,
    track_usage,
)
from langchain_tokenopt.context import context_costs
from langchain_tokenopt.context.levels import handle_of
from tests.support.conversations import agent_loop, orphans
from tests.support.model_server import Reply, ToolCall

PROVIDERS = ["chat_openai", "chat_anthropic", "chat_gemini"]
NO_CACHE = PriceProfile()


@tool
def search_logs(query: str) -> str:
    """Search the logs of the payments."""
    return f"The gateway of {query} answered 502. " * 80


def handles(request) -> list[str]:
    """The handles that a model was sent, oldest first."""
    return re.findall(r'\\*"([0-9a-f]{8})\\*"', str(request.body))


def ask(model, talk, how):
    if how == "invoke":
        return model.invoke(talk)
    if how == "ainvoke":
        return asyncio.run(model.ainvoke(talk))
    chunks = list(model.stream(talk))
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    return whole


@pytest.mark.parametrize("how", ["invoke", "ainvoke", "stream"])
@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_seam_answers_the_models_call_for_an_original(model_server, provider, how):
    """The application sees the answer alone; the original comes last, behind the same prefix."""
    talk = agent_loop(6)
    compressor = ContextCompressor(price_profile=NO_CACHE)
    model = optimize(getattr(model_server, provider)().bind_tools([search_logs]), compressor)
    model_server.script(Reply(text="", tool_calls=[ToolCall("expand", {"handle": "00000000"})]))
    model_server.script("Gateway 502.")
    with track_usage() as usage:
        answer = ask(model, talk, how)
    assert answer.text == "Gateway 502."
    assert not answer.tool_calls
    first, second = (str(request.body) for request in model_server.requests)
    assert len(set(re.findall(r"[0-9a-f]{8}\\*\"\)", first))) == 5  # all but the last result
    assert "expand" in first
    assert "Nothing is kept under the handle 00000000" in second
    saved = usage.totals().saved_tokens
    assert 0 < saved < 5 * 700  # the second question is paid for by what was saved


@pytest.mark.parametrize("how", ["invoke", "ainvoke", "stream"])
def test_the_original_is_the_very_text(model_server, how):
    """What the model asks for is what the tool had returned."""
    talk = agent_loop(5)
    model = optimize(
        model_server.chat_openai().bind_tools([search_logs]),
        ContextCompressor(price_profile=NO_CACHE),
    )
    wanted = talk[3].text
    call = ToolCall("expand", {"handle": handle_of(wanted)})
    model_server.script(Reply(text="Let me look.", tool_calls=[call]), "It was the gateway.")
    answer = ask(model, talk, how)
    sent = model_server.requests[-1].body["messages"]
    assert sent[-1]["content"] == wanted
    assert model_server.requests[0].body["messages"] == sent[:-2]
    assert answer.text.endswith("It was the gateway.")


HOWS = pytest.mark.parametrize("how", ["invoke", "ainvoke", "stream"])
SMALL = {"max_input_tokens": 1_800, "tool_calling": True}
TIDES = "\n".join(f"hour {n}: {n % 9}.{n % 10} m" for n in range(3_000))


def expand(handle: str) -> Reply:
    return Reply(text="", tool_calls=[ToolCall("expand", {"handle": handle})])


def read_log(text: str, times: int = 1) -> list:
    """A conversation in which so many logs were read, and one more that is short."""
    talk = [HumanMessage("Read the logs.")]
    for n in range(times + 1):
        call = {"name": "search_logs", "args": {"query": f"{n}"}, "id": f"c{n}"}
        said = f"Log {n}. {text}" if n < times else "-"
        talk += [AIMessage("", tool_calls=[call]), ToolMessage(said, tool_call_id=f"c{n}")]
    return [*talk, AIMessage("Read."), HumanMessage("At which height is the water in hour 1500?")]


@HOWS
def test_a_long_original_comes_in_parts_that_say_so(model_server, how):
    """Each says how much it is of how much, and where it goes on; all fit into the window."""
    talk = read_log(TIDES)
    model = optimize(
        model_server.chat_openai(profile=SMALL).bind_tools([search_logs]), ContextCompressor()
    )
    handle = handle_of(talk[2].text)
    model_server.script(expand(handle), expand(f"{handle}_24300"), "8 m.")
    assert ask(model, talk, how).text == "8 m."
    assert all(each.input_tokens <= SMALL["max_input_tokens"] for each in model_server.billed)
    first, second, third = (request.body["messages"] for request in model_server.requests)
    assert second[: len(first)] == first
    part = second[-1]["content"]
    assert re.search(rf'of [\d,]+ tokens, .* left out, expand\("{handle}_\d+"\) goes on', part)
    assert "hour 1500: 6.0 m" in third[-1]["content"]  # there is room again for the later one
    assert third[-3]["content"].startswith("[left out again")


@pytest.mark.parametrize("profile", [SMALL, {**SMALL, "max_input_tokens": 60_000}])
@pytest.mark.parametrize("has_tools", [True, False])
@HOWS
def test_a_model_that_fetches_for_ever_is_asked_for_its_answer(
    model_server, how, has_tools, profile
):
    """The last time without the tool, and told so; what it says then is the answer."""
    model = model_server.chat_openai(profile=profile)
    model = model.bind_tools([search_logs]) if has_tools else model
    talk = read_log("gate 4 opens at noon; " * 90, 5)
    staged = optimize(model, ContextCompressor(1_200, price_profile=NO_CACHE))
    wanted = [handle_of(talk[2 * n + 2].text) for n in range(5)]
    model_server.script(*map(expand, wanted), "At noon.")
    answer = ask(staged, talk, how)
    assert (answer.text, answer.tool_calls) == ("At noon.", [])
    *fetching, last = (request.body for request in model_server.requests)
    assert all("expand" in str(body["tools"]) for body in fetching)
    assert "expand" not in str(last.get("tools"))
    assert "Nothing more is fetched" in last["messages"][-1]["content"]
    assert ("tool_calls" in str(last["messages"][-2])) is has_tools
    assert all(each.input_tokens <= profile["max_input_tokens"] for each in model_server.billed)


@HOWS
def test_what_is_fetched_at_once_fits_together(model_server, how):
    """Several calls in one message share the room, and what was fetched before gives way."""
    talk = read_log("gate 4 opens at noon; " * 90, 5)
    model = optimize(
        model_server.chat_openai(profile=SMALL).bind_tools([search_logs]), ContextCompressor()
    )
    first, *others = (handle_of(talk[2 * n + 2].text) for n in range(4))
    calls = [ToolCall("expand", {"handle": handle}) for handle in (*others, first)]
    model_server.script(expand(first), Reply(text="", tool_calls=calls), "At noon.")
    assert ask(model, talk, how).text == "At noon."
    assert all(each.input_tokens <= SMALL["max_input_tokens"] for each in model_server.billed)


def test_without_room_nothing_is_fetched(model_server):
    """The model is told both numbers, and answers from what is there."""
    profile = {**SMALL, "max_input_tokens": 1_000}
    model = optimize(
        model_server.chat_openai(profile=profile).bind_tools([search_logs]), ContextCompressor()
    )
    talk = [*read_log(TIDES)[:-1], HumanMessage("Hour 1500? " + "please " * 620)]
    model_server.script(expand(handle_of(talk[2].text)), "I do not know.")
    assert model.invoke(talk).text == "I do not know."
    last = model_server.requests[-1].body
    assert re.search(r"has [\d,]+ tokens, and there is room for \d+ more", str(last))
    assert "expand" not in str(last["tools"])
    assert model_server.billed[-1].input_tokens <= 1_000


@HOWS
def test_the_usage_of_an_answer_has_what_fetching_cost(model_server, how):
    """Who adds up messages has what was billed, and so has who tracks usage."""
    talk = agent_loop(5)
    model = optimize(
        model_server.chat_openai(stream_usage=True).bind_tools([search_logs]),
        ContextCompressor(price_profile=NO_CACHE),
    )
    model_server.script(expand(handle_of(talk[3].text)), "It was the gateway.")
    with track_usage() as usage:
        answer = ask(model, talk, how)
    billed = model_server.billed
    assert len(billed) == 2
    read, wrote = (
        sum(getattr(b, name) for b in billed) for name in ("input_tokens", "output_tokens")
    )
    reported = answer.usage_metadata
    assert (reported["input_tokens"], reported["output_tokens"]) == (read, wrote)
    assert (usage.totals().input_tokens, usage.totals().output_tokens) == (read, wrote)


@pytest.mark.parametrize("how", ["invoke", "ainvoke"])
def test_an_agents_tool_answers_in_parts_that_fit(model_server, how):
    """An ordinary tool: parts that together are the original, within the limit it knows of."""
    compressor = ContextCompressor(2_000, price_profile=NO_CACHE, store=ContextStore())
    back, config = expand_tool(compressor), {"metadata": {"user_id": "ann"}}
    compressor.view(read_log(TIDES), user="ann")
    handle, parts = handle_of(f"Log 0. {TIDES}"), []
    while handle:
        call = {"handle": handle}
        part = (
            back.invoke(call, config)
            if how == "invoke"
            else asyncio.run(back.ainvoke(call, config))
        )
        assert compressor._count(part) <= 1_500
        found = re.search(r'\n\[[^\n]*expand\("(\w+)"\) goes on[^\n]*\]$', part)
        parts.append(part[: found.start()] if found else part)
        handle = found and found[1]
    assert "".join(parts) == f"Log 0. {TIDES}"


def test_of_many_messages_each_can_be_fetched_alone():
    """Their handle gives a list with a handle of each long one; their note says what there was."""
    talk = read_log("gate 4 opens at noon; " * 90, 16)
    compressor = ContextCompressor(2_000, keep=0.6, price_profile=NO_CACHE)
    assert compressor.originals is not None
    view = compressor.view(talk)
    note = next(m.text for m in view.messages if "earlier messages" in m.text)
    assert "Results: Log 0. gate" in note
    (handle,) = re.findall(r"[0-9a-f]{8}", note)
    index = view.original(handle)
    assert compressor._count(index) < 2_000 < sum(compressor._count(m.text) for m in talk) / 4
    for n in range(13):
        (own,) = re.findall(rf'Log {n}\. gate.*?expand\("([0-9a-f]{{8}})"\)', index)
        assert view.original(own) == talk[2 * n + 2].text
        assert compressor.originals.get(own) == talk[2 * n + 2].text


def test_real_calls_beside_it_go_to_the_application(model_server):
    """Its own tools are called; the fetching is left for the next answer."""
    model = optimize(
        model_server.chat_openai().bind_tools([search_logs]),
        ContextCompressor(price_profile=NO_CACHE),
    )
    calls = [ToolCall("expand", {"handle": "1a2b3c4d"}), ToolCall("search_logs", {"query": "x"})]
    model_server.script(Reply(text="", tool_calls=calls))
    answer = model.invoke(agent_loop(5))
    assert [call["name"] for call in answer.tool_calls] == ["search_logs"]
    assert len(model_server.requests) == 1


def test_an_agent_keeps_its_state(model_server):
    """A checkpointed agent with the compressor at its model: views are sent, the state is whole."""
    model = optimize(model_server.chat_openai(), ContextCompressor(price_profile=NO_CACHE))
    agent = create_agent(model, [search_logs], checkpointer=InMemorySaver())
    for n in range(6):
        call = ToolCall("search_logs", {"query": f"node {n}"})
        model_server.script(Reply(text="", tool_calls=[call]))
    model_server.script("Done.")
    config = {"configurable": {"thread_id": "t"}}
    state = agent.invoke({"messages": [("user", "Why do payments fail?")]}, config)
    assert state["messages"][-1].text == "Done."
    results = [m for m in state["messages"] if isinstance(m, ToolMessage)]
    assert len(results) == 6
    assert all(m.text.startswith("The gateway") and len(m.text) > 2_000 for m in results)
    last = model_server.requests[-1].body["messages"]
    assert sum("set aside" in str(m["content"]) for m in last) == 5


def test_an_agents_own_tool_answers_from_the_store(model_server, tmp_path):
    """Given as an ordinary tool, its results stand in the state; other users get nothing."""
    compressor = ContextCompressor(
        price_profile=NO_CACHE, store=ContextStore(tmp_path / "originals.db")
    )
    back = expand_tool(compressor)
    agent = create_agent(optimize(model_server.chat_openai(), compressor), [search_logs, back])
    for n in range(3):
        call = ToolCall("search_logs", {"query": f"node {n}"})
        model_server.script(Reply(text="", tool_calls=[call]))

    config = {"metadata": {"user_id": "ann", "thread_id": "t-1"}}
    model_server.script("Wait.")
    agent.invoke({"messages": [("user", "Why do payments fail?")]}, config)
    handle = handles(model_server.requests[-1])[0]
    assert back.invoke({"handle": handle}, config).startswith("The gateway of node 0")
    other = {"metadata": {"user_id": "bob", "thread_id": "t-1"}}
    assert "Nothing is kept" in back.invoke({"handle": handle}, other)
    assert "Nothing is kept" in back.invoke({"handle": handle}, {})


@pytest.mark.filterwarnings("ignore:create_react_agent has been moved")
def test_a_hook_gives_the_model_its_view(model_server):
    """``pre_model_hook``: the model sees the view, the state keeps everything."""
    compressor = ContextCompressor(price_profile=NO_CACHE)
    agent = create_react_agent(
        model_server.chat_openai(), [search_logs], pre_model_hook=compressor.pre_model_hook
    )
    model_server.script("Done.")
    talk = agent_loop(5)
    state = agent.invoke({"messages": talk})
    assert [m.text for m in state["messages"][: len(talk)]] == [m.text for m in talk]
    assert "set aside" in str(model_server.requests[-1].body)


SUMMARIZER = pytest.mark.skipif(
    "summarizer" not in inspect.signature(SummarizationMiddleware.__init__).parameters,
    reason="this release of LangChain always asks a model",
)


@SUMMARIZER
@pytest.mark.parametrize("is_marked", [True, False])
async def test_the_summarizing_middleware_takes_it_as_a_summarizer(is_marked):
    """Its digest stands where a model's summary would; its own ones are merged, ten times."""
    middleware = SummarizationMiddleware(
        FakeListChatModel(responses=["never"]),
        trigger=("messages", 6),
        keep=("messages", 1),
        trim_tokens_to_summarize=None,
        summarizer=ContextCompressor(),
    )
    state = [HumanMessage("My booking is KX-4471.")]
    for n in range(10):
        state += [
            *agent_loop(3, seed=n)[2:],
            HumanMessage(f"Room {n} is for guest number {n * 7919}."),
        ]
        state += [AIMessage("Noted."), HumanMessage("Go on.")]
        before = middleware.before_model if n % 2 else middleware.abefore_model
        update = before({"messages": state}, None)
        state = (update if n % 2 else await update)["messages"][1:]
        if not is_marked:  # as from a client that keeps texts alone
            state[0] = HumanMessage(state[0].text)
    digest = state[0].text
    assert digest.count("summary of the conversation") == 1
    assert "KX-4471" in digest
    assert all(f"Room {n} is for guest number {n * 7919}." in digest for n in range(10))
    assert "Tool search_logs(" in digest


@SUMMARIZER
def test_an_agent_goes_on_with_what_its_digest_tells(model_server):
    """Through the whole agent: the model reads the digest, and the state has it."""
    agent = create_agent(
        model_server.chat_openai(),
        [search_logs],
        middleware=[
            SummarizationMiddleware(
                FakeListChatModel(responses=["never"]),
                trigger=("messages", 6),
                keep=("messages", 2),
                summarizer=ContextCompressor(),
            )
        ],
    )
    model_server.script("KX-4471.")
    talk = [HumanMessage("My booking is KX-4471.")]
    for n in range(4):
        talk += [AIMessage("Noted."), HumanMessage(f"And seat {n}?")]
    state = agent.invoke({"messages": [*talk, HumanMessage("Which is my booking?")]})
    assert "KX-4471" in state["messages"][0].text
    assert "User: My booking is KX-4471." in str(model_server.requests[-1].body)


def test_what_does_not_fit_into_the_window_is_refused_before_it_is_sent(model_server):
    """Both numbers and what to do; what can be shortened is."""
    profile = {"max_input_tokens": 2_000, "tool_calling": True}
    model = optimize(model_server.chat_openai(profile=profile), ContextCompressor())
    with pytest.raises(BudgetInfeasibleError, match=r"need 3,\d\d\d tokens but only 2,000"):
        model.invoke("word " * 3_000)
    assert not model_server.requests
    model_server.script("Fine.")
    talk = agent_loop(12)
    assert model.invoke(talk).text == "Fine."
    assert model_server.billed[-1].input_tokens <= 2_000


def test_a_runnable_in_front_of_any_model():
    """Lists, states and prompt values go in and come out; what is no conversation passes."""
    compressor = ContextCompressor(300, price_profile="openai")
    talk = agent_loop(5)
    view = compressor.invoke(talk)
    assert orphans(view) == 0
    assert compressor.invoke({"messages": talk, "n": 1}) == {"messages": view, "n": 1}
    assert asyncio.run(compressor.ainvoke(talk)) == view
    assert compressor.invoke("Hello") == "Hello"
    assert compressor.invoke({"n": 1}) == {"n": 1}
    assert compressor.invoke([]) == []


# Whole graphs: the same state as without it, whatever the model was shown


def gated(model):
    """A graph that asks somebody before it calls a tool."""
    bound = model.bind_tools([search_logs])

    async def aask(state):
        return {"messages": [await bound.ainvoke(state["messages"])]}

    def ask(state):
        return {"messages": [bound.invoke(state["messages"])]}

    def gate(state):
        assert interrupt("Call it?") == {"decisions": [{"type": "approve"}]}
        return {}

    graph = StateGraph(MessagesState).add_node("agent", RunnableLambda(ask, aask))
    graph.add_node("gate", gate).add_node("tools", ToolNode([search_logs]))
    graph.add_edge(START, "agent").add_edge("gate", "tools").add_edge("tools", "agent")
    graph.add_conditional_edges("agent", tools_condition, {"tools": "gate", "__end__": "__end__"})
    return graph.compile(checkpointer=InMemorySaver())


def approved(model):
    """An agent each of whose calls somebody approves."""
    human = HumanInTheLoopMiddleware(interrupt_on={"search_logs": True})
    return create_agent(model, [search_logs], middleware=[human], checkpointer=InMemorySaver())


def supervised(model):
    """An agent that a supervisor asks; its whole history comes back."""
    worker = create_agent(model, [search_logs], name="reader")
    team = create_supervisor([worker], model=model, output_mode="full_history")
    return team.compile(checkpointer=InMemorySaver())


HOSTS = {"gated graph": gated, "approved agent": approved, "supervisor": supervised}
FOUND = "Node 0 was the first that answered 502."


def script(server, host, *, fetches):
    """Six results; where the model is shown a line for the first, it asks for the original."""
    handed = [Reply(tool_calls=[ToolCall("transfer_to_reader", {})])]
    calls = [ToolCall("search_logs", {"query": f"node {n}"}) for n in range(6)]
    handle = handle_of(search_logs.invoke({"query": "node 0"}))
    server.script(
        *(handed if host == "supervisor" else ()),
        *(Reply(tool_calls=[call]) for call in calls),
        *([Reply(tool_calls=[ToolCall("expand", {"handle": handle})])] if fetches else ()),
        FOUND,
        *([FOUND] if host == "supervisor" else ()),
    )


def drive(app, how):
    """Run to the end, through all interrupts; return the messages of the state, and the stream."""
    config = {"configurable": {"thread_id": "t"}, "recursion_limit": 60}
    given, streamed = {"messages": [("user", "Which node failed first?")]}, ""

    async def aread(given):
        return [c async for c, _ in app.astream(given, config, stream_mode="messages")]

    while given is not None:
        if how == "invoke":
            app.invoke(given, config)
        elif how == "ainvoke":
            asyncio.run(app.ainvoke(given, config))
        else:
            stream = app.stream(given, config, stream_mode="messages")
            chunks = [c for c, _ in stream] if how == "stream" else asyncio.run(aread(given))
            streamed += "".join(c.text for c in chunks if isinstance(c, AIMessage))
        waits = any(task.interrupts for task in app.get_state(config).tasks)
        given = Command(resume={"decisions": [{"type": "approve"}]}) if waits else None
    return app.get_state(config).values["messages"], streamed


def plain(messages):
    """What is in a state, without ids."""
    calls = (
        [(c["name"], c["args"]) for c in getattr(message, "tool_calls", ())] for message in messages
    )
    return [(m.type, m.name, m.text, c) for m, c in zip(messages, calls, strict=True)]


@pytest.mark.parametrize("how", ["invoke", "ainvoke", "stream", "astream"])
@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.filterwarnings("ignore:create_react_agent has been moved")
def test_a_graph_says_and_keeps_what_it_would_without(model_server, host, how):
    """Through interrupts and checkpoints; less is sent, and what was fetched is nobody's."""
    script(model_server, host, fetches=False)
    expected, streamed = drive(HOSTS[host](model_server.chat_openai()), how)
    whole = sum(usage.input_tokens for usage in model_server.billed)
    model_server.reset()

    script(model_server, host, fetches=True)
    compressor = ContextCompressor(price_profile=NO_CACHE)
    state, seen = drive(HOSTS[host](optimize(model_server.chat_openai(), compressor)), how)

    assert plain(state) == plain(expected)
    assert FOUND == state[-1].text
    assert seen == streamed
    assert sum(usage.input_tokens for usage in model_server.billed) < 0.7 * whole
    original = search_logs.invoke({"query": "node 0"})
    fetched = [r for r in model_server.requests if r.last_text == original and "expand" in str(r)]
    assert len(fetched) == 1


@pytest.mark.parametrize("profile", [PriceProfile(read=0.5, min_tokens=0), NO_CACHE])
def test_what_a_recorded_conversation_would_have_cost_is_what_is_sent(model_server, profile):
    """The same steps at the same calls, with the same marks."""
    script(model_server, "agent", fetches=False)
    model = optimize(model_server.chat_openai(), ContextCompressor(price_profile=profile))
    state = create_agent(model, [search_logs]).invoke({"messages": [("user", "Which node?")]})
    found = context_costs([state["messages"]], price_profile=profile, model="gpt-4.1-mini")
    policy = found.policies["ContextCompressor()"]
    view = policy.views[0]

    assert view is not None
    assert [m.text for m in view.messages] == [*model_server.requests[-1].texts]
    marked = ["set aside" in str(request.body) for request in model_server.requests]
    steps = found.steps("ContextCompressor()", 0)
    assert any(marked)
    assert [step.call for step in steps][:1] == [marked.index(True) + 1]
