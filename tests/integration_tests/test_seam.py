"""The seam in the real host: ChatOpenAI on the wire, chains, agents, graphs."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from langchain.agents import create_agent
from langchain.chat_models import init_chat_model
from langchain_core.caches import InMemoryCache
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.message import add_messages
from langgraph_supervisor import create_supervisor
from pydantic import BaseModel
from typing_extensions import TypedDict

from langchain_tokenopt import TokenUsageCallbackHandler, optimize, track_usage
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.stage import Phase
from tests.support.model_server import ModelServer, Reply, ToolCall
from tests.support.stages import Recording, Rewrite, StopAfter, Upper


class Verdict(BaseModel):
    """A decision."""

    rating: str
    confidence: int


@tool
def lookup(name: str) -> str:
    """Look a name up."""
    return f"{name} is known"


def _sent(server: ModelServer, position: int = -1) -> tuple[str, Any]:
    body = server.requests[position].body
    return server.requests[position].last_text, body.get("max_completion_tokens")


SHORT = Rewrite("short", {"max_tokens": 99})


class TestOnTheWire:
    """What really leaves the process."""

    async def test_calls_of_every_kind_send_what_the_stage_wrote(self, model_server):
        """Messages and max_tokens alike, whatever method is called."""
        staged = optimize(model_server.chat_openai(), SHORT)

        staged.invoke("long")
        await staged.ainvoke("long")
        staged.batch(["long"])
        list(staged.stream("long"))
        [chunk async for chunk in staged.astream("long")]
        (ChatPromptTemplate.from_template("{q}") | staged | StrOutputParser()).invoke({"q": "long"})

        assert [("short", 99)] * 6 == [_sent(model_server, i) for i in range(6)]

    def test_the_original_model_sends_what_it_always_sent(self, model_server):
        """Staging makes a copy."""
        model = model_server.chat_openai()
        optimize(model, SHORT).invoke("long")

        model.invoke("long")

        assert ("long", None) == _sent(model_server)

    def test_bound_arguments_reach_the_stage_and_the_wire(self, model_server):
        """What is bound after staging, too."""
        stage = Recording()
        staged = optimize(model_server.chat_openai(), stage).bind(max_tokens=50)

        staged.invoke("q")

        assert {"max_tokens": 50} == dict(stage.log[0][1].kwargs)
        assert 50 == _sent(model_server)[1]

    def test_tools_stay_bound(self, model_server):
        """bind_tools of the model's own class, in calls and in streams."""
        call = ToolCall("lookup", {"name": "Ada"})
        model_server.script(Reply(tool_calls=[call]), Reply(tool_calls=[call]))
        staged = optimize(model_server.chat_openai(), SHORT).bind_tools([lookup])

        answer = staged.invoke("long")
        chunks = list(staged.stream("long"))

        assert "lookup" == model_server.requests[-1].body["tools"][0]["function"]["name"]
        assert {"name": "Ada"} == answer.tool_calls[0]["args"]
        merged = sum(chunks[1:], chunks[0])
        assert {"name": "Ada"} == merged.tool_calls[0]["args"]

    @pytest.mark.parametrize("method", ["function_calling", "json_schema"])
    def test_structured_output_stays_structured(self, model_server, method):
        """with_structured_output of the model's own class."""
        arguments = {"rating": "BUY", "confidence": 7}
        if method == "function_calling":
            model_server.script(Reply(tool_calls=[ToolCall("Verdict", arguments)]))
        else:
            model_server.script('{"rating": "BUY", "confidence": 7}')
        staged = optimize(model_server.chat_openai(), SHORT)

        verdict = staged.with_structured_output(Verdict, method=method).invoke("long")

        assert Verdict(rating="BUY", confidence=7) == verdict
        assert ("short", 99) == _sent(model_server)

    def test_retries_and_fallbacks_go_through_the_stages(self, model_server):
        """Each attempt is a call of its own."""
        stage = Recording()
        model_server.script(Reply(status=500, text="busy"), "fine")
        staged = optimize(model_server.chat_openai(), stage)

        answer = staged.with_retry(wait_exponential_jitter=False).invoke("q")

        assert "fine" == answer.text
        assert ["open", "failed"] == stage.events[:2]
        assert 2 == stage.events.count("open")

    @pytest.mark.parametrize("streamed", [False, True])
    def test_stopping_cancels_the_request(self, model_server, streamed):
        """Also for invoke: the server is told to stop writing."""
        model_server.script(Reply(words=200, pace_seconds=0.002))
        staged = optimize(model_server.chat_openai(), StopAfter(5))

        if streamed:
            text = "".join(chunk.text for chunk in staged.stream("q"))
        else:
            text = staged.invoke("q").text

        assert 5 == len(text.split())
        assert model_server.streams[-1].cancelled
        assert model_server.streams[-1].sent < 60

    def test_a_model_that_is_watched_but_not_stopped_still_reports_usage(self, model_server):
        """A plain call becomes a stream for the stage's sake, and asks for its usage."""
        model_server.script(Reply(text="all of it", usage=Usage(100, 3)))

        answer = optimize(model_server.chat_openai(), Upper()).invoke("q")

        assert "ALL OF IT" == answer.text
        assert (100, 3) == (
            answer.usage_metadata["input_tokens"],
            answer.usage_metadata["output_tokens"],
        )
        assert "stop" == answer.response_metadata["finish_reason"]

    def test_a_server_that_refuses_streams_is_asked_again_without(self, model_server):
        """The caller did not ask for a stream: the call must work as before."""
        model_server.script(Reply(status=400, text="no streaming here"), "plain")

        with pytest.warns(UserWarning, match="refused to stream"):
            answer = optimize(model_server.chat_openai(), Upper()).invoke("q")

        assert "PLAIN" == answer.text
        assert [True, False] == [request.streamed for request in model_server.requests]

    @pytest.mark.parametrize("provider", ["chat_openai", "chat_anthropic", "chat_gemini"])
    async def test_other_providers_are_staged_alike(self, model_server, provider):
        """Anthropic and Gemini define other subsets of the methods."""
        staged = optimize(getattr(model_server, provider)(), Rewrite("short"), Upper())
        model_server.script("sync", "async", "stream", "astream")

        answers = [
            staged.invoke("long").text,
            (await staged.ainvoke("long")).text,
            "".join([chunk.text for chunk in staged.stream("long")]),
            "".join([chunk.text async for chunk in staged.astream("long")]),
        ]

        assert ["SYNC", "ASYNC", "STREAM", "ASTREAM"] == answers
        assert ["short"] * 4 == [request.last_text for request in model_server.requests]


class TestIdentity:
    """The copy is what it was for everybody who looks."""

    def test_names_and_serialisation_stay_those_of_the_model(self, model_server):
        """Tracing, isinstance, lc ids, LangSmith parameters."""
        model = model_server.chat_openai()
        staged = optimize(model, SHORT)

        assert isinstance(staged, ChatOpenAI)
        assert model.lc_id() == staged.lc_id()
        assert model._serialized == staged._serialized
        assert model._get_ls_params() == staged._get_ls_params()
        assert repr(type(model)) == repr(type(staged))

    def test_copies_made_with_other_settings_keep_the_stages(self, model_server):
        """As LangChain's own configurable fields make them."""
        staged = optimize(model_server.chat_openai(), SHORT)

        staged.model_copy(update={"temperature": 0.5}).invoke("long")

        assert ("short", 99) == _sent(model_server)
        assert 0.5 == model_server.requests[-1].body["temperature"]

    def test_the_copying_protocol_makes_the_class_again(self):
        """A class made at run time has no place to be looked up."""
        from langchain_core.language_models import FakeListChatModel

        staged = optimize(FakeListChatModel(responses=["x"]), Rewrite("short"))

        make, arguments = staged.__reduce__()
        again = make(*arguments)

        assert type(again) is type(staged)
        assert "x" == again.invoke("q").text


class TestConfigurableModels:
    """init_chat_model builds the real model per call."""

    @pytest.fixture
    def configurable(self, model_server, monkeypatch):
        monkeypatch.setenv("OPENAI_API_KEY", "test")
        monkeypatch.setenv("OPENAI_BASE_URL", str(model_server.chat_openai().openai_api_base))
        return init_chat_model(
            "openai:gpt-4.1-mini",
            configurable_fields=("model", "max_tokens"),
            max_retries=0,
        )

    async def test_stages_hold_for_whatever_model_is_configured(self, configurable, model_server):
        """Sync, async, and after with_config."""
        staged = optimize(configurable, Rewrite("short"))

        staged.invoke("long", {"configurable": {"model": "gpt-4o"}})
        await staged.ainvoke("long")
        staged.with_config(configurable={"max_tokens": 7}).invoke("long")

        assert ["short"] * 3 == [request.last_text for request in model_server.requests]
        assert ["gpt-4o", "gpt-4.1-mini"] == [r.model for r in model_server.requests[:2]]
        assert 7 == model_server.requests[2].body["max_completion_tokens"]

    def test_tools_and_schemas_declared_later_still_go_through_the_stages(
        self, configurable, model_server
    ):
        """bind_tools and with_structured_output are repeated on the staged model."""
        model_server.script(
            Reply(tool_calls=[ToolCall("lookup", {"name": "Ada"})]),
            '{"rating": "BUY", "confidence": 7}',
        )
        staged = optimize(configurable, Rewrite("short"))

        called = staged.bind_tools([lookup]).invoke("long")
        verdict = staged.with_structured_output(Verdict).invoke("long")

        assert "lookup" == called.tool_calls[0]["name"]
        assert Verdict(rating="BUY", confidence=7) == verdict
        assert ["short"] * 2 == [request.last_text for request in model_server.requests]


class TestInAgentsAndGraphs:
    """Where the model is bound and called by somebody else's code."""

    def _scripted(self, server: ModelServer) -> None:
        server.script(Reply(tool_calls=[ToolCall("lookup", {"name": "Ada"})]), "Ada is known.")

    async def test_create_agent(self, model_server):
        """An agent with a staged model loops over its tools as before."""
        stage = Recording()
        agent = create_agent(optimize(model_server.chat_openai(), stage), [lookup])

        self._scripted(model_server)
        state = agent.invoke({"messages": "who is Ada?"})
        self._scripted(model_server)
        astate = await agent.ainvoke({"messages": "who is Ada?"})

        assert "Ada is known." == state["messages"][-1].text == astate["messages"][-1].text
        assert 4 == stage.events.count("open")

    @pytest.mark.filterwarnings("ignore:create_react_agent has been moved")
    def test_the_prebuilt_react_agent(self, model_server):
        """langgraph.prebuilt looks at the model before it binds."""
        from langgraph.prebuilt import create_react_agent

        stage = Recording()
        agent = create_react_agent(optimize(model_server.chat_openai(), stage), [lookup])
        self._scripted(model_server)

        state = agent.invoke({"messages": [HumanMessage("who is Ada?")]})

        assert "Ada is known." == state["messages"][-1].text
        assert 2 == stage.events.count("open")

    @pytest.mark.filterwarnings("ignore:create_react_agent has been moved")
    def test_a_supervisor_of_agents(self, model_server):
        """langgraph-supervisor inspects the signature of bind_tools."""
        stage = Recording()
        staged = optimize(model_server.chat_openai(), stage)
        worker = create_agent(staged, [lookup], name="researcher")
        supervisor = create_supervisor([worker], model=staged).compile()
        model_server.script(
            Reply(tool_calls=[ToolCall("transfer_to_researcher", {})]),
            Reply(tool_calls=[ToolCall("lookup", {"name": "Ada"})]),
            "Ada is known.",
            "The researcher says: Ada is known.",
        )

        with track_usage() as usage:
            state = supervisor.invoke({"messages": [HumanMessage("who is Ada?")]})

        assert "The researcher says: Ada is known." == state["messages"][-1].text
        assert 4 == stage.events.count("open") == usage.totals().calls
        assert {"supervisor", "researcher"} == set(usage.by("agent"))

    @pytest.mark.parametrize("mode", ["messages", "updates", "values"])
    def test_graph_streams_show_what_the_stages_show(self, model_server, mode):
        """LangGraph streams the model even for invoke inside a node."""
        staged = optimize(model_server.chat_openai(), Upper())
        graph = StateGraph(MessagesState)
        graph.add_node("model", lambda state: {"messages": [staged.invoke(state["messages"])]})
        graph.add_edge(START, "model")
        model_server.script("hello there")

        seen = list(graph.compile().stream({"messages": [HumanMessage("q")]}, stream_mode=mode))

        assert "HELLO THERE" in str(seen).replace("', additional", "") or "HELLO" in str(seen)
        assert "hello there" not in str(seen)

    async def test_event_streams_show_what_the_stages_show(self, model_server):
        """astream_events v2, and the event protocol of stream_events v3."""
        staged = optimize(model_server.chat_openai(), Upper())
        model_server.script("hello there", "hello there")

        events = [event async for event in staged.astream_events("q", version="v2")]
        protocol = list(staged.stream_events("q", version="v3"))

        assert "hello" not in str(events) + str(protocol)
        assert "HELLO" in str(events)
        assert "HELLO" in str(protocol)


class TestCachesInTheHost:
    """LangChain's caches behave better behind the seam than on their own."""

    def _thread(self, staged: BaseChatModel) -> Any:
        class State(TypedDict):
            messages: Annotated[list[Any], add_messages]

        graph = StateGraph(State)
        graph.add_node("model", lambda state: {"messages": [staged.invoke(state["messages"][-1:])]})
        graph.add_edge(START, "model")
        return graph.compile(checkpointer=InMemorySaver())

    def test_a_repeated_question_in_a_thread_keeps_both_answers(self, model_server):
        """A hit has an id of its own, so LangGraph does not replace the first answer."""
        graph = self._thread(optimize(model_server.chat_openai(), InMemoryCache()))
        config = {"configurable": {"thread_id": "t"}}

        shown = []
        for _ in range(3):
            question = {"messages": [HumanMessage("What is X?")]}
            shown.append(list(graph.stream(question, config, stream_mode="messages")))

        history = graph.get_state(config).values["messages"]
        assert 6 == len(history)
        assert all(shown)
        assert 1 == len(model_server.requests)

    async def test_hits_are_saved_not_spent_in_calls_and_streams(self, model_server):
        """Usage tracking hears from the seam who has answered."""
        usage = TokenUsageCallbackHandler()
        staged = optimize(model_server.chat_openai(stream_usage=True), InMemoryCache())
        model_server.script(Reply(text="four", usage=Usage(100, 10)))
        config = {"callbacks": [usage]}

        staged.invoke("q", config)
        await staged.ainvoke("q", config)
        list(staged.stream("q", config))
        [chunk async for chunk in staged.astream("q", config)]

        totals = usage.totals()
        assert (4, 3) == (totals.calls, totals.cached_calls)
        assert (100, 10) == (totals.input_tokens, totals.output_tokens)
        assert 330 == totals.saved_tokens
        assert [0, 0, 0] == [record.cost_nano_usd for record in usage.records[1:]]
        assert totals.saved_nano_usd == 3 * totals.cost_nano_usd > 0

    def test_two_schemas_of_one_name_never_share_an_answer(self, model_server):
        """LangChain's own key tells only the name of the class."""

        def schema(field: str) -> type[BaseModel]:
            return type("Answer", (BaseModel,), {"__annotations__": {field: str}})

        staged = optimize(model_server.chat_openai(), InMemoryCache())
        model_server.script('{"city": "Rome"}', '{"country": "Italy"}')

        city = staged.with_structured_output(schema("city"), method="json_schema").invoke("where?")
        country = staged.with_structured_output(schema("country"), method="json_schema").invoke(
            "where?"
        )

        assert ("Rome", "Italy") == (city.city, country.country)

    def test_a_staged_stream_is_stored_whole_and_replayed(self, model_server):
        """The first stream fills the cache; an abandoned one does not."""
        staged = optimize(model_server.chat_openai(), InMemoryCache())
        model_server.script("the whole answer", "the whole answer")

        stream = staged.stream("q")
        next(stream)
        stream.close()
        full = [chunk.text for chunk in staged.stream("q")]
        again = [chunk.text for chunk in staged.stream("q")]

        assert 2 == len(model_server.requests)
        assert "the whole answer" == "".join(full) == "".join(again)


def test_the_handler_counts_what_was_really_sent(model_server):
    """Callbacks see the caller's messages; the bill is that of the changed request."""
    usage = TokenUsageCallbackHandler()
    model_server.script(Reply(text="ok", usage=None))
    model = model_server.chat_openai()

    optimize(model, Rewrite("short")).invoke("long " * 500, {"callbacks": [usage]})

    (record,) = usage.records
    assert "estimated" == record.source
    assert record.usage.input_tokens < 20


def test_a_stopped_call_is_charged_for_all_that_the_model_wrote(model_server):
    """Not only for what was shown; the provider reports nothing, so it is an estimate."""
    usage = TokenUsageCallbackHandler()

    class Hidden(StopAfter):
        def open(self, request):
            trip = super().open(request)
            trip.chunk = None  # replaced below

            class Quiet(type(trip)):
                def chunk(self, chunk):
                    for _ in super().chunk(chunk):
                        pass
                    return ()

            return Quiet(request, self.pieces)

    model_server.script(Reply(words=50, pace_seconds=0.005))
    staged = optimize(model_server.chat_openai(), Hidden(10))

    answer = staged.invoke("q", {"callbacks": [usage]})

    (record,) = usage.records
    assert "" == answer.text
    assert "estimated" == record.source
    assert 10 <= record.usage.output_tokens <= 40


def test_asking_again_is_charged_twice(model_server):
    """Both attempts reached the provider."""
    from tests.support.stages import AskAgain, HoldBack

    usage = TokenUsageCallbackHandler()
    model_server.script(
        Reply(text="bad", usage=Usage(100, 1)), Reply(text="better", usage=Usage(50, 2))
    )
    staged = optimize(
        model_server.chat_openai(), AskAgain("better", "again"), HoldBack(phase=Phase.LIMIT)
    )

    answer = staged.invoke("q", {"callbacks": [usage]})

    assert "better" == answer.text
    assert (1, 150, 3) == (
        usage.totals().calls,
        usage.totals().input_tokens,
        usage.totals().output_tokens,
    )


def test_nothing_is_published_after_the_run(model_server):
    """What the seam tells about a run lives as long as the run."""
    import gc

    from langchain_tokenopt.core.staged_runs import published_run

    stage = Recording()
    staged = optimize(model_server.chat_openai(), stage)
    usage = TokenUsageCallbackHandler()

    staged.invoke("q", {"callbacks": [usage]})
    run_id = usage.records[0].run_id
    stage.log.clear()
    gc.collect()

    assert published_run(run_id) is None


def test_ai_messages_in_history_are_sent_as_before(model_server):
    """Only what a stage changes is changed."""
    model = model_server.chat_openai()
    history = [HumanMessage("a"), AIMessage("b"), HumanMessage("c")]

    model.invoke(history)
    optimize(model, Recording()).invoke(history)

    bodies = [request.body["messages"] for request in model_server.requests]
    assert bodies[0] == bodies[1]
