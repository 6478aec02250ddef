"""A model that is shown some of its tools, in real agents and graphs, over real HTTP."""

from __future__ import annotations

import asyncio
import json
import operator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import reduce
from itertools import pairwise

import pytest
from langchain.agents import create_agent
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.caches import InMemoryCache
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    HumanMessage,
    ToolMessage,
    message_chunk_to_message,
)
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.utils.function_calling import (
    convert_to_openai_function,
    convert_to_openai_tool,
)
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from pydantic import BaseModel

from langchain_tokenopt import (
    BudgetPlan,
    TokenOptWarning,
    ToolSelector,
    WordLimit,
    optimize,
    stage_all,
    track_usage,
)
from langchain_tokenopt.tools.tool_reading import read_tools
from tests.support.forty_tools import FORTY, shown_in
from tests.support.model_server import ModelServer, Reply, ToolCall

PROVIDERS = ["chat_openai", "chat_anthropic", "chat_gemini"]
INVOICES = [f"{verb}_invoice" for verb in ("create", "find", "delete", "update")]
SEARCH = ToolCall("find_more_tools", {"query": "the weather forecast"})
FORECAST = ToolCall("find_weather", {"what": "Oslo"})


def selector(**settings):
    """A selector without an embedder, which shows four tools a turn."""
    return ToolSelector(**({"max_tools": 4, "embeddings": False} | settings))


def asked(text="Delete the invoice 17"):
    return {"messages": [("user", text)]}


def run(agent, text, how):
    """Run an agent in one of four ways; return its messages, and all that was streamed."""
    if how == "invoke":
        return agent.invoke(asked(text))["messages"], []
    if how == "ainvoke":
        return asyncio.run(agent.ainvoke(asked(text)))["messages"], []
    streamed, state = [], {}
    if how == "stream":
        for mode, value in agent.stream(asked(text), stream_mode=["messages", "values"]):
            streamed += [value[0]] if mode == "messages" else []
            state = value if mode == "values" else state
        return state["messages"], streamed

    async def stream():
        nonlocal state
        async for mode, value in agent.astream(asked(text), stream_mode=["messages", "values"]):
            streamed.extend([value[0]] if mode == "messages" else [])
            state = value if mode == "values" else state

    asyncio.run(stream())
    return state["messages"], streamed


HOWS = ["invoke", "ainvoke", "stream", "astream"]


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("provider", PROVIDERS)
def test_an_agent_is_shown_few_tools_and_finds_the_others(model_server: ModelServer, provider, how):
    """The model searches; the application sees the call of what was found, and nothing else."""
    model_server.script(
        Reply(text="Let me look.", tool_calls=[SEARCH]),
        Reply(text="", tool_calls=[FORECAST]),
        Reply(text="It rains."),
    )
    agent = create_agent(optimize(getattr(model_server, provider)(), selector()), FORTY)
    with track_usage() as usage:
        messages, streamed = run(agent, "Delete the invoice 17", how)
    first, second, third = [shown_in(request.body) for request in model_server.requests]
    assert first == ["find_more_tools", *INVOICES]
    assert second[:5] == first
    assert "find_weather" in second
    assert third == second
    assert [type(message) for message in messages] == [
        HumanMessage,
        AIMessage,
        ToolMessage,
        AIMessage,
    ]
    assert [call["name"] for call in messages[1].tool_calls] == ["find_weather"]
    assert messages[2].content == "find weather Oslo of the user: done"
    assert messages[3].text == "It rains."
    assert "find_more_tools" not in repr(messages) + repr(streamed)
    called = usage.records[0].tool_choice
    assert called.called == ("find_weather",)
    assert called.searches == 1
    assert "find_weather" in called.found
    if provider != "chat_openai" or "stream" not in how:  # there no usage is streamed
        billed = model_server.billed
        assert (
            usage.records[0].usage.input_tokens == billed[0].input_tokens + billed[1].input_tokens
        )
        assert usage.totals().output_tokens == sum(each.output_tokens for each in billed)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_beginning_of_the_tools_keeps_its_bytes_over_a_loop(model_server, provider):
    """Six calls of one turn, with a search in between: each begins with what the last one had."""
    calls = [ToolCall(name, {"what": str(n)}) for n, name in enumerate(INVOICES)]
    replies = [Reply(text="", tool_calls=[call]) for call in (*calls[:2], SEARCH, FORECAST)]
    model_server.script(*replies, Reply(text="", tool_calls=[calls[2]]), Reply(text="Done."))
    agent = create_agent(optimize(getattr(model_server, provider)(), selector()), FORTY)
    agent.invoke(asked())
    sent = [_functions(request.body) for request in model_server.requests]
    assert len(sent) == 6
    for before, after in pairwise(sent):
        assert after.startswith(before[:-1])


def _functions(body):
    tools = body["tools"]
    return json.dumps(tools[0].get("functionDeclarations", tools))


# --- what agents are made of


class Weather(BaseModel):
    """The weather of a place."""

    place: str
    rains: bool


def helpful(wanted, arguments, final="Done."):
    """Return a provider whose model searches until it is shown *wanted*, calls it, and is done."""

    def answer(request):
        body = request.body
        messages = json.dumps(body.get("messages") or body.get("contents"))
        shown = shown_in(body)
        if f"{wanted.replace('_', ' ')} Oslo" in messages:  # the tool's result
            return Reply(text=final) if isinstance(final, str) else final(shown)
        call = ToolCall(wanted, arguments) if wanted in shown else SEARCH
        return Reply(text="", tool_calls=[call])

    return answer


def called_in(messages):
    return [c["name"] for m in messages if isinstance(m, AIMessage) for c in m.tool_calls]


@pytest.mark.parametrize("staged", [True, False], ids=["optimize", "stage_all"])
@pytest.mark.parametrize("provider", ["chat_openai", "chat_anthropic"])
def test_the_form_of_an_answer_stays(model_server, provider, staged):
    """``ToolStrategy`` binds a form beside the tools, and has the model call one of them."""

    def answer_in_form(shown):
        assert "Weather" in shown
        return Reply(text="", tool_calls=[ToolCall("Weather", {"place": "Oslo", "rains": True})])

    model_server.answer = helpful("find_weather", {"what": "Oslo"}, answer_in_form)
    model = getattr(model_server, provider)()
    if staged:
        model = optimize(model, selector())
    agent = create_agent(model, FORTY, response_format=ToolStrategy(Weather))
    with nullcontext() if staged else stage_all(selector()):
        end = agent.invoke(asked())
    assert end["structured_response"] == Weather(place="Oslo", rains=True)
    assert all("Weather" in shown_in(request.body) for request in model_server.requests)
    assert "find_more_tools" not in called_in(end["messages"])


def test_a_schema_of_the_provider_goes_on_with_the_chosen_tools(model_server):
    """``ProviderStrategy`` puts the schema beside the tools."""
    final = Weather(place="Oslo", rains=False).model_dump_json()
    model_server.answer = helpful("find_weather", {"what": "Oslo"}, final)
    model = optimize(model_server.chat_openai(model="gpt-4.1"), selector())
    agent = create_agent(model, FORTY, response_format=ProviderStrategy(Weather))
    end = agent.invoke(asked())
    assert end["structured_response"] == Weather(place="Oslo", rains=False)
    assert all(len(shown_in(request.body)) <= 10 for request in model_server.requests)


def test_a_conversation_goes_on_elsewhere_with_the_tools_it_had(model_server):
    """A checkpoint, an interrupt, and a selector elsewhere that has learned other things."""
    model_server.answer = helpful("find_weather", {"what": "Oslo"})
    saver = InMemorySaver()
    config = {"configurable": {"thread_id": "t"}}
    first = create_agent(
        optimize(model_server.chat_anthropic(), selector()),
        FORTY,
        checkpointer=saver,
        interrupt_before=["tools"],
    )
    first.invoke(asked(), config)
    other = selector()
    cards = read_tools(FORTY)
    for name in ("share_music", "create_photo", "find_flight", "update_mail"):
        for _ in range(5):
            other._ranking.learn("Delete the invoice 17", cards, [name])
    second = create_agent(optimize(model_server.chat_anthropic(), other), FORTY, checkpointer=saver)
    end = second.invoke(None, config)
    sent = [_functions(request.body) for request in model_server.requests]
    assert len(sent) == 3
    assert sent[2] == sent[1]
    assert end["messages"][-1].text == "Done."
    second.invoke(asked("Remove the invoice 18 as well"), config)
    assert _functions(model_server.requests[3].body) == sent[2]


def test_a_history_without_marks_gives_the_same_tools(model_server):
    """An application that keeps plain texts: what the turn needs, and what was called, is there."""
    model = optimize(model_server.chat_openai(), selector()).bind_tools(FORTY)
    model.invoke("Delete the invoice 17")
    call = {"name": "find_photo", "args": {"what": "x"}, "id": "c"}
    said = [
        HumanMessage("Delete the invoice 17"),
        AIMessage("", tool_calls=[call]),
        ToolMessage("found", tool_call_id="c"),
    ]
    model.invoke(said)
    again = optimize(model_server.chat_openai(), selector()).bind_tools(FORTY)
    again.invoke(said)
    first, second, third = [shown_in(request.body) for request in model_server.requests]
    assert second == third == [*first, "find_photo"]


def test_a_new_subject_takes_the_place_of_the_old_one(model_server):
    """A turn that needs other tools gets them; a number that was set is kept."""
    agent = create_agent(
        optimize(model_server.chat_openai(), selector()), FORTY, checkpointer=InMemorySaver()
    )
    config = {"configurable": {"thread_id": "t"}}
    for text in ("Delete the invoice 17", "Find a flight to Rome", "Share the photo of the cat"):
        agent.invoke(asked(text), config)
    for request, wanted in zip(
        model_server.requests, ("delete_invoice", "find_flight", "share_photo"), strict=True
    ):
        shown = shown_in(request.body)
        assert wanted in shown
        assert len(shown) <= 5


def test_a_graph_whose_model_was_bound_long_ago(model_server):
    """A ``ToolNode`` graph in which nothing knows of the selector."""
    model_server.answer = helpful("find_weather", {"what": "Oslo"})
    bound = model_server.chat_openai().bind_tools(FORTY)
    graph = StateGraph(MessagesState)
    graph.add_node("model", lambda state: {"messages": [bound.invoke(state["messages"])]})
    graph.add_node("tools", ToolNode(FORTY))
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", tools_condition)
    graph.add_edge("tools", "model")
    with stage_all(selector()):
        end = graph.compile().invoke(asked())
    assert called_in(end["messages"]) == ["find_weather"]
    assert end["messages"][-1].text == "Done."


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_search_beside_a_call_does_not_reach_the_caller(model_server, provider):
    """The call goes out; the tools that were found are there when its result comes back."""
    calls = [SEARCH, ToolCall("find_invoice", {"what": "Oslo"}, "call_1"), SEARCH]
    model_server.script(Reply(text="Both.", tool_calls=calls), "Done.")
    model = optimize(getattr(model_server, provider)(), selector()).bind_tools(FORTY)
    whole = None
    for chunk in model.stream("Delete the invoice 17"):
        assert "find_more_tools" not in repr(chunk)
        whole = chunk if whole is None else whole + chunk
    assert [(c["name"], c["args"]) for c in whole.tool_calls] == [
        ("find_invoice", {"what": "Oslo"})
    ]
    assert whole.text == "Both."
    said = [HumanMessage("Delete the invoice 17"), message_chunk_to_message(whole)]
    model.invoke([*said, ToolMessage("found", tool_call_id=whole.tool_calls[0]["id"])])
    first, second = [shown_in(request.body) for request in model_server.requests]
    assert second[: len(first)] == first
    assert "find_weather" in second


@pytest.mark.parametrize("how", ["invoke", "stream"])
def test_a_model_that_searches_for_ever_is_shown_everything_and_ends(model_server, how):
    """Its text is what the caller gets."""
    model_server.answer = lambda request: Reply(text="Hm.", tool_calls=[SEARCH])
    model = optimize(model_server.chat_openai(), selector()).bind_tools(FORTY)
    if how == "invoke":
        answer = model.invoke("Delete the invoice 17")
    else:
        answer = reduce(operator.add, model.stream("Delete the invoice 17"))
    assert answer.text == "\n\n".join(["Hm."] * 4)
    assert not answer.tool_calls
    assert len(model_server.requests) == 4
    assert len(shown_in(model_server.requests[-1].body)) == len(FORTY)


def test_a_tool_that_was_left_out_may_be_called_if_the_arguments_fit(model_server):
    """Else the model is asked again with the tool's schema before it."""
    model = optimize(model_server.chat_openai(), selector()).bind_tools(FORTY)
    model_server.script(Reply(text="", tool_calls=[FORECAST]))
    assert model.invoke("Delete the invoice 17").tool_calls[0]["args"] == {"what": "Oslo"}
    model_server.script(
        Reply(text="", tool_calls=[ToolCall("find_weather", {"city": "Oslo"})]),
        Reply(text="", tool_calls=[FORECAST]),
    )
    assert model.invoke("Delete the invoice 17").tool_calls[0]["args"] == {"what": "Oslo"}
    assert len(model_server.requests) == 3
    assert "find_weather" in shown_in(model_server.requests[-1].body)


def test_several_generations_are_searched_for_together(model_server):
    """With ``n`` above 1 answers come whole."""
    model_server.script(Reply(text="", tool_calls=[SEARCH]), Reply(text="", tool_calls=[FORECAST]))
    model = optimize(model_server.chat_openai(n=2), selector()).bind_tools(FORTY)
    answer = model.invoke("Delete the invoice 17")
    assert [call["name"] for call in answer.tool_calls] == ["find_weather"]


def test_events_of_a_stream_do_not_tell_of_a_search(model_server):
    """``astream_events`` shows the text at once and the call that stands."""

    async def events():
        model_server.script(
            Reply(text="Let me look.", tool_calls=[SEARCH]), Reply(text="", tool_calls=[FORECAST])
        )
        model = optimize(model_server.chat_anthropic(), selector()).bind_tools(FORTY)
        return [event async for event in model.astream_events("Delete it", version="v2")]

    found = asyncio.run(events())
    texts = [e["data"]["chunk"].text for e in found if e["event"] == "on_chat_model_stream"]
    assert "".join(texts) == "Let me look."
    end = found[-1]["data"]["output"]
    assert [call["name"] for call in end.tool_calls] == ["find_weather"]
    said = [e["data"].get("chunk") or e["data"].get("output") for e in found]
    assert "find_more_tools" not in repr(said)


class Scripted(BaseChatModel):
    """Says one list of pieces after another; the last for ever."""

    script: list
    count: int = 0

    @property
    def _llm_type(self):
        return "scripted"

    def bind_tools(self, tools, **kwargs):
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], **kwargs)

    def _next(self):
        self.count += 1
        return self.script[min(self.count, len(self.script)) - 1]

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        usage = {"input_tokens": 70, "output_tokens": 7, "total_tokens": 77}
        said = message_chunk_to_message(reduce(operator.add, self._next()))
        said = said.model_copy(update={"usage_metadata": usage})
        return ChatResult(generations=[ChatGeneration(message=said)])

    def _stream(self, messages, stop=None, run_manager=None, **kwargs):
        for piece in self._next():
            yield ChatGenerationChunk(message=piece)


def piece(name, args, call_id, index, text=""):
    call = {"name": name, "args": args, "id": call_id, "index": index, "type": "tool_call_chunk"}
    return AIMessageChunk(text, tool_call_chunks=[call])


def in_pieces(calls, index_of):
    """Pieces of calls as a server writes them that names some of them by no index."""
    for at, (name, args, call_id) in enumerate(calls):
        index, text = index_of(at), json.dumps(args)
        if index is None:
            yield piece(name, text, call_id, None)
        else:
            yield piece(name, "", call_id, index)
            yield from (piece(None, part, None, index) for part in (text[:3], text[3:]))


def answer_of(model, how):
    model = optimize(model, selector()).bind_tools(FORTY)
    if how == "invoke":
        return model.invoke("Delete the invoice 17")
    if how == "ainvoke":
        return asyncio.run(model.ainvoke("Delete the invoice 17"))
    if how == "stream":
        return reduce(operator.add, model.stream("Delete the invoice 17"))

    async def all_of():
        return [chunk async for chunk in model.astream("Delete the invoice 17")]

    return reduce(operator.add, asyncio.run(all_of()))


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("ids", [(None, None), ("", ""), (None, "b"), ("a", None), ("a", "a")])
@pytest.mark.parametrize("first", ["find_more_tools", "delete_invoice"])
def test_a_search_is_told_from_a_call_whatever_the_ids(how, ids, first):
    """Servers leave ids out, leave them empty, or repeat one for all calls."""
    names = [first, ({"find_more_tools", "delete_invoice"} - {first}).pop()]
    args = {"find_more_tools": {"query": "rain"}, "delete_invoice": {"what": "17"}}
    calls = [(name, args[name], i) for name, i in zip(names, ids, strict=True)]
    orders = [lambda at: at, lambda at: None]
    if how.endswith("stream"):
        orders.append(lambda at: 0)  # of a server that counts anew with each call
    for index_of in orders if how.endswith("stream") else orders[1:]:
        answer = answer_of(Scripted(script=[[*in_pieces(calls, index_of)]]), how)
        found = [(call["name"], call["args"]) for call in answer.tool_calls]
        assert found == [("delete_invoice", {"what": "17"})]
        assert "find_more_tools" not in repr(answer)


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("ids", [(None, None), ("", ""), ("a", "a"), ("a", "b")])
def test_searches_of_equal_ids_are_all_answered(how, ids):
    """Each gets an answer of its own, under an id of its own."""
    queries = zip(("rain", "parcel"), ids, strict=True)
    calls = [("find_more_tools", {"query": query}, i) for query, i in queries]
    for index_of in (lambda at: at, lambda at: None):
        script = [[*in_pieces(calls, index_of)], [AIMessageChunk("It rains.")]]
        model = Scripted(script=script)
        answer = answer_of(model, how)
        assert answer.text == "It rains."
        assert "find_more_tools" not in repr(answer)


@pytest.mark.parametrize("how", HOWS)
def test_what_is_said_around_a_search_stays(how):
    """An empty line apart from what follows; invoke gives the text that a stream shows."""
    search = piece("find_more_tools", '{"query": "rain"}', "a", 0)
    said = [AIMessageChunk("Let me look."), search, AIMessageChunk(" A moment.")]
    answer = answer_of(
        Scripted(script=[said, [AIMessageChunk("It "), AIMessageChunk("rains.")]]), how
    )
    assert answer.text == "Let me look. A moment.\n\nIt rains."
    assert "find_more_tools" not in repr(answer)


def test_the_usage_of_a_model_that_searches_for_ever_is_reported_not_estimated():
    """Of each of its answers, the last one included; with everything shown it is asked once."""
    script = [[piece("find_more_tools", '{"query": "rain"}', "a", 0)]]
    with track_usage() as usage:
        answer = answer_of(Scripted(script=script), "invoke")
    assert answer.usage_metadata["input_tokens"] == 280
    totals = usage.totals()
    assert (totals.input_tokens, totals.output_tokens, totals.estimated_calls) == (280, 28, 0)


class Thinking(BaseChatModel):
    """Thinks, searches, and calls without thinking again, as Anthropic's models do."""

    @property
    def _llm_type(self):
        return "thinking"

    def bind_tools(self, tools, **kwargs):
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], **kwargs)

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        thought = {"type": "thinking", "thinking": "Hm.", "signature": "s"}
        if isinstance(messages[-1], ToolMessage):
            assert messages[-2].content[0] == thought
            name, args, before = "find_weather", {"what": "Oslo"}, []
        else:
            name, args, before = "find_more_tools", {"query": "weather"}, [thought]
        block = {"type": "tool_use", "id": name, "name": name, "input": args}
        call = {"name": name, "args": args, "id": name}
        said = AIMessage([*before, block], tool_calls=[call])
        return ChatResult(generations=[ChatGeneration(message=said)])


def test_a_thought_before_a_search_stands_before_the_call_that_follows():
    """Else the provider refuses the conversation when it comes back."""
    answer = optimize(Thinking(), selector()).bind_tools(FORTY).invoke("Delete it")
    assert [block["type"] for block in answer.content] == ["thinking", "tool_use"]
    assert [call["name"] for call in answer.tool_calls] == ["find_weather"]
    assert "find_more_tools" not in repr(answer)


def test_a_limit_on_words_counts_what_is_shown(model_server):
    """Stages inside see each attempt, those outside the answer that stands."""
    model_server.script(
        Reply(text="Let me look.", tool_calls=[SEARCH]), Reply(text="One two three. Four five six.")
    )
    model = optimize(model_server.chat_openai(), WordLimit(3), selector()).bind_tools(FORTY)
    said = "".join(chunk.text for chunk in model.stream("Delete it"))
    assert said.startswith("Let me look")
    assert said.endswith("One two three.")


# --- with everything else


def test_a_budget_pays_for_both_calls(model_server):
    """What was spent is what the provider has billed; the reserve counts the tools that go out."""
    model_server.answer = helpful("find_weather", {"what": "Oslo"})
    plan = BudgetPlan(total_tokens=100_000)
    agent = create_agent(optimize(model_server.chat_anthropic(), plan, selector()), FORTY)
    with plan.run() as run:
        agent.invoke(asked())
    billed = sum(each.total_tokens for each in model_server.billed)
    assert run.report().account.spent_tokens == billed


def test_a_cache_further_out_keeps_what_was_answered_in_the_end(model_server):
    """Under the same key as without a selector."""
    model_server.script(Reply(text="", tool_calls=[SEARCH]), "It rains.")
    cache = InMemoryCache()
    model = optimize(model_server.chat_openai(), cache, selector()).bind_tools(FORTY)
    plain = optimize(model_server.chat_openai(), cache).bind_tools(FORTY)
    answers = [each.invoke("Delete it").text for each in (model, model, plain)]
    assert answers == ["It rains."] * 3
    assert len(model_server.requests) == 2


def test_observing_sends_everything_and_says_what_would_be_saved(model_server):
    """And which call would have been missed."""
    model_server.script(Reply(text="", tool_calls=[FORECAST]))
    model = optimize(model_server.chat_openai(), selector(), observe=True).bind_tools(FORTY)
    with track_usage() as usage:
        model.invoke("Delete the invoice 17")
    (record,) = usage.records
    assert len(shown_in(model_server.requests[0].body)) == 40
    assert record.tool_choice.observed
    assert record.tool_choice.missed == ("find_weather",)
    assert record.savings[0].saved_tokens > 1_400
    assert record.saved_tokens == 0


def test_disabled_it_does_nothing(model_server, monkeypatch):
    """``TOKENOPT_DISABLE=1``."""
    monkeypatch.setenv("TOKENOPT_DISABLE", "1")
    optimize(model_server.chat_openai(), selector()).bind_tools(FORTY).invoke("Delete it")
    assert len(shown_in(model_server.requests[0].body)) == 40


def test_a_selector_that_fails_sends_everything(model_server, monkeypatch):
    """With one warning, however often."""
    chosen = selector()
    monkeypatch.setattr(chosen._ranking, "rank", lambda *_: 1 / 0)
    model = optimize(model_server.chat_openai(), chosen).bind_tools(FORTY)
    with pytest.warns(TokenOptWarning, match="all tools are sent") as warned:
        model.invoke("Delete it")
        model.invoke("Delete it")
    assert len(warned) == 1
    assert [len(shown_in(request.body)) for request in model_server.requests] == [40, 40]


class Office(BaseChatModel):
    """Searches until it is shown the wanted tool, calls it, and says what its owner is called."""

    @property
    def _llm_type(self):
        return "office"

    def bind_tools(self, tools, **kwargs):
        return self.bind(tools=tools, **kwargs)

    def _generate(self, messages, stop=None, run_manager=None, *, tools, **kwargs):
        owners = {tool["owner"] for tool in tools if "owner" in tool}
        wanted = next((tool["name"] for tool in tools if tool["name"] == "find_weather"), None)
        if isinstance(messages[-1], ToolMessage) and wanted:
            said = AIMessage(f"{owners}")
        elif wanted:
            said = AIMessage("", tool_calls=[{"name": wanted, "args": {"what": "x"}, "id": "w"}])
        else:
            search = {"name": "find_more_tools", "args": {"query": "weather"}, "id": "s"}
            said = AIMessage("", tool_calls=[search])
        return ChatResult(generations=[ChatGeneration(message=said)])


def test_three_hundred_users_at_once_keep_their_own_tools():
    """One model and one selector for all, in threads and in tasks; each user has other tools."""
    plain = [convert_to_openai_function(tool) for tool in FORTY]
    staged = optimize(Office(), selector())

    def turn(n):
        """Return the model with the tools of a user, and how it is called."""
        owned = [{**tool, "input_schema": tool["parameters"], "owner": n} for tool in plain]
        return staged.bind_tools(owned), {"metadata": {"user_id": f"u{n}"}}

    def second(answer):
        return [HumanMessage("Delete it"), answer, ToolMessage("rain", tool_call_id="w")]

    def in_thread(n):
        model, config = turn(n)
        return model.invoke(second(model.invoke("Delete it", config)), config).text

    async def in_task(n):
        model, config = turn(n)
        answer = await model.ainvoke("Delete it", config)
        return (await model.ainvoke(second(answer), config)).text

    async def all_tasks():
        return await asyncio.gather(*map(in_task, range(150, 300)))

    with ThreadPoolExecutor(16) as pool:
        said = [*pool.map(in_thread, range(150)), *asyncio.run(all_tasks())]
    assert said == [f"{{{n}}}" for n in range(300)]
