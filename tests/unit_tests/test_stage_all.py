"""A context that stages every chat model that is called in it, whoever made it."""

from __future__ import annotations

import asyncio
import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Annotated, Any, TypedDict

import httpx
import pytest
from langchain.agents import create_agent
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.language_models import BaseChatModel, FakeListChatModel
from langchain_core.load import dumpd
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.rate_limiters import InMemoryRateLimiter
from langchain_core.runnables import RunnableLambda
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from pydantic import BaseModel, PrivateAttr

from langchain_tokenopt import BudgetPlan, optimize, stage_all, token_scope, track_usage
from langchain_tokenopt.budget.run import BudgetRun
from langchain_tokenopt.core.errors import BudgetExceededError
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.limits import WordLimit
from langchain_tokenopt.request.model_request import ModelRequest
from langchain_tokenopt.stage import Phase, StageCall
from tests.support.fakes import FakeAnswer, FakeTextModel, fake_chat
from tests.support.model_server import ModelServer

TEN = "one two three four five six seven eight nine ten"


class Marking:
    """Adds a mark to what is sent, and counts the calls that it sees."""

    phase = Phase.CONTEXT
    blocking = False
    fingerprint = "marking"

    def __init__(self) -> None:
        self.seen = 0

    def open(self, request: ModelRequest) -> StageCall:
        self.seen += 1
        return StageCall(request.override(messages=[*request.messages, HumanMessage("marked")]))


def marks(model: Any) -> list[int]:
    """How often the mark stands in each prompt that *model* was sent."""
    return [sum(m.content == "marked" for m in call.messages) for call in model.calls]


# What is reached


@pytest.mark.parametrize("methods", [(), ("_agenerate",), ("_stream",), ("_stream", "_astream")])
async def test_every_way_to_call_goes_through_the_stages_once(methods: tuple[Any, ...]) -> None:
    """Of models of every build; outside of the block nothing has changed."""
    model = fake_chat(*methods)
    before = {**vars(model), "_serialized": dumpd(model)}
    with stage_all(Marking()):
        model.invoke("a")
        await model.ainvoke("b")
        model.batch(["c"])
        await model.abatch(["d"])
        list(model.stream("e"))
        [chunk async for chunk in model.astream("f")]
        model.generate([[HumanMessage("g")]])
        await model.agenerate([[HumanMessage("h")]])
        [event async for event in model.astream_events("i")]
        model.bind(stop=["x"]).with_config(tags=["t"]).invoke("j")
        (RunnableLambda(lambda text: text) | model).invoke("k")
    inside = marks(model)
    model.invoke("l")

    assert [1] * 11 == inside
    assert 0 == marks(model)[-1]
    assert before == vars(model)


def test_a_model_made_anywhere_on_the_wire(model_server: ModelServer) -> None:
    """A real client, made before, inside, in a tool and by a structured output of somebody else."""

    class City(BaseModel):
        """A city."""

        name: str

    early = model_server.chat_openai()
    with stage_all(Marking()) as everything:
        early.invoke("a")
        model_server.chat_openai().invoke("b")
        early.bind_tools([City]).invoke("c")

    assert ["marked"] * 3 == [request.last_text for request in model_server.requests]
    assert [] == everything.uncovered()


def test_nodes_subgraphs_and_agents() -> None:
    """Built outside and inside, in parallel branches that LangGraph runs in threads."""

    class State(TypedDict):
        messages: Annotated[list[AnyMessage], add_messages]

    models = [fake_chat() for _ in range(4)]

    def node(model: Any) -> Any:
        return lambda state: {"messages": [model.invoke(state["messages"])]}

    inner = StateGraph(State).add_node("deep", node(models[0])).add_edge(START, "deep").compile()
    graph = StateGraph(State)
    graph.add_node("inner", inner).add_node("left", node(models[1])).add_node(
        "right", node(models[2])
    )
    for name in ("inner", "left", "right"):
        graph.add_edge(START, name).add_edge(name, END)
    compiled = graph.compile()
    with stage_all(Marking()):
        agent = create_agent(models[3], tools=[], name="late")
        compiled.invoke({"messages": [("human", "Hi")]})
        agent.invoke({"messages": [("human", "Hi")]})

    assert [[1]] * 4 == [marks(model) for model in models]


def test_threads_and_pools_that_are_given_work_inside() -> None:
    """With all that holds there; a pool's own thread forgets it, and threads outside have none."""
    model, pool = fake_chat(), ThreadPoolExecutor(1)
    plan = BudgetPlan(total_tokens=10_000)
    with stage_all(Marking()), plan.run() as run:
        pool.submit(model.invoke, "a").result()
        thread = threading.Thread(target=model.invoke, args=("b",))
        thread.start()
        thread.join()
        inside = run.report().account.agents
    pool.submit(model.invoke, "c").result()
    other = threading.Thread(target=model.invoke, args=("d",))
    other.start()
    other.join()
    pool.shutdown()

    assert [1, 1, 0, 0] == marks(model)
    assert 2 == sum(agent.calls for agent in inside.values())


def test_a_block_reaches_nobody_else() -> None:
    """Another context of the same process, at the same time."""
    model, outside = fake_chat(), copy_context()
    with stage_all(Marking()):
        outside.run(model.invoke, "a")
        model.invoke("b")

    assert [0, 1] == marks(model)


# As a decorator


async def test_a_decorator_of_all_kinds_of_functions() -> None:
    """Each call is inside; what a generator's reader calls in between is not."""
    model, everything = fake_chat(), stage_all(Marking())

    @everything
    def plain() -> Any:
        """Say it."""
        return model.invoke("a")

    @everything
    async def coroutine() -> Any:
        return await model.ainvoke("b")

    @everything
    def generator() -> Any:
        yield model.invoke("c")
        yield model.invoke("d")

    @everything
    async def agenerator() -> Any:
        yield await model.ainvoke("e")
        yield await model.ainvoke("f")

    plain()
    await asyncio.gather(coroutine(), coroutine())
    for _ in generator():
        model.invoke("between")
    async for _ in agenerator():
        model.invoke("between")

    assert "Say it." == plain.__doc__
    assert [1, 1, 1, 1, 0, 1, 0, 1, 0, 1, 0] == marks(model)
    assert [] == everything.uncovered()


# Staged once


def test_a_staged_model_is_not_staged_twice() -> None:
    """Its own stage goes before one of the same kind, and all others are added."""
    model, own, ambient = fake_chat(), Marking(), Marking()
    with stage_all(ambient, InMemoryCache()):
        staged = optimize(model, own)
        staged.invoke("a")
        staged.invoke("a")

    assert [1] == marks(model)
    assert (1, 0) == (own.seen, ambient.seen)


def test_blocks_in_blocks() -> None:
    """An inner block replaces stages of the same kind and keeps the rest."""
    model = fake_chat(answers=[FakeAnswer(TEN)] * 4)
    outer, inner = Marking(), Marking()
    with stage_all(outer, WordLimit(3)), stage_all(inner):
        first = model.invoke("a")

    assert (0, 1) == (outer.seen, inner.seen)
    assert 3 == len(str(first.content).split())


def test_a_model_that_hands_on_is_staged_and_so_is_the_other() -> None:
    """A router of somebody's own: both are called inside, and the bill is counted once."""
    inner = fake_chat(answers=[FakeAnswer("x", Usage(9, 1))])

    class Router(BaseChatModel):
        @property
        def _llm_type(self) -> str:
            return "router"

        def _generate(
            self, messages: Any, stop: Any = None, run_manager: Any = None, **kw: Any
        ) -> Any:
            return ChatResult(generations=[ChatGeneration(message=inner.invoke(messages))])

    plan = BudgetPlan(total_tokens=10_000)
    with stage_all(), plan.run() as run, track_usage() as usage:
        Router().invoke("Hi")

    assert 1 == len(inner.calls)
    assert 10 == run.report().account.spent_tokens == usage.totals().total_tokens


@pytest.mark.parametrize("inner", ["run", "stages"])
def test_a_plan_that_stages_and_runs_is_paid_once(inner: str) -> None:
    """Else the second charge would find that all is held for the first."""
    model, plan = fake_chat(), BudgetPlan(total_tokens=100)
    blocks = [stage_all(plan), plan.run()]
    first, second = blocks if inner == "run" else reversed(blocks)
    with first, second:
        answer = model.invoke("Hi")
    report = next(block for block in blocks if isinstance(block, BudgetRun)).report()

    assert 1 == len(model.calls)
    assert "No answer" not in answer.text
    line = report.agents["default"]
    assert (1, 0) == (line.account.calls, report.denied_calls)


def test_a_stage_that_asks_a_model_is_not_staged_itself() -> None:
    """Else it would ask itself for ever."""
    helper, model = fake_chat(), fake_chat()

    class Asking(Marking):
        def open(self, request: ModelRequest) -> StageCall:
            helper.invoke("Which way?")
            return super().open(request)

    with stage_all(Asking()):
        model.invoke("a")

    assert ([0], [1]) == (marks(helper), marks(model))


# The model stays itself


def test_what_a_call_changes_in_the_model_stays_changed() -> None:
    """Fields, private attributes, and attributes that a class writes as it likes."""

    class Counting(FakeListChatModel):
        _private: int = PrivateAttr(default=0)

        def _call(self, *args: Any, **kwargs: Any) -> str:
            self._private += 1
            return super()._call(*args, **kwargs)

        def invoke(self, input: Any, config: Any = None, **kwargs: Any) -> Any:
            self.sleep = (self.sleep or 0) + 0.001
            return super().invoke(input, config, **kwargs)

    model = Counting(responses=["a", "b", "c"])
    with stage_all(Marking()):
        answers = [model.invoke("Hi").content for _ in range(2)]

    assert (["a", "b"], 2, 2) == (answers, model.i, model._private)
    assert pytest.approx(0.002) == model.sleep


def test_a_class_that_overrides_where_calls_begin_does_its_own_once() -> None:
    """``generate`` and ``stream`` of a class of somebody's own run once, around the stages."""
    seen = []

    class Own(type(fake_chat("_stream"))):  # type: ignore[misc]
        def generate(self, *args: Any, **kwargs: Any) -> Any:
            seen.append("generate")
            return super().generate(*args, **kwargs)

        def stream(self, *args: Any, **kwargs: Any) -> Any:
            seen.append("stream")
            yield from super().stream(*args, **kwargs)

    model = Own()
    with stage_all(Marking()) as everything:
        model.invoke("a")
        list(model.stream("b"))

    assert ["generate", "stream"] == seen
    assert [1, 1] == marks(model)
    assert [] == everything.uncovered()


def test_the_models_own_cache_and_rate_limiter_hold() -> None:
    """A hit waits for nobody, and what the model's own cache has is served."""
    limiter = InMemoryRateLimiter(requests_per_second=0.001, check_every_n_seconds=0.01)
    limiter.available_tokens = 1.0
    model = fake_chat()
    model.cache, model.rate_limiter = InMemoryCache(), limiter
    with stage_all(WordLimit(100)):
        first, second = model.invoke("a"), model.invoke("a")

    assert first.content == second.content
    assert 1 == len(model.calls)


# Under a plan


def test_models_of_others_are_degraded_under_a_plan() -> None:
    """Shortened, bounded and answered for, instead of refused with an error."""
    model = fake_chat(answers=[FakeAnswer("x", Usage(300, 5))] * 9)
    with stage_all(), BudgetPlan(total_tokens=40).run() as run:
        answer = model.invoke("word " * 300)

    assert isinstance(answer, AIMessage)
    assert [] == model.calls
    assert str(answer.content).startswith("[No answer: ")
    assert {} == run.report().unstaged_models


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_without_it_they_are_refused_at_once(is_async: bool, monkeypatch: Any) -> None:
    """Neither ``with_retry`` nor fallbacks nor LangGraph's policy wait for another refusal."""
    naps: list[float] = []
    monkeypatch.setattr("time.sleep", naps.append)
    monkeypatch.setattr("tenacity.nap.time.sleep", naps.append)

    async def nap(seconds: float, *_: Any) -> None:
        naps.append(seconds)

    monkeypatch.setattr("tenacity.asyncio._portable_async_sleep", nap)
    model = fake_chat("_agenerate")
    stubborn = model.with_retry(stop_after_attempt=40).with_fallbacks([model, model])
    ask = (lambda text: asyncio.run(stubborn.ainvoke(text))) if is_async else stubborn.invoke
    with BudgetPlan(total_tokens=40).run() as run, pytest.raises(BudgetExceededError):
        ask("word " * 300)

    assert [] == naps
    assert 3 >= sum(agent.denied_calls for agent in run.report().account.agents.values())


def test_a_retry_that_names_the_refusal_goes_on() -> None:
    """Such as one that waits for a new day's budget; and of other errors nothing changes."""
    model = fake_chat(answers=[FakeAnswer(error=KeyError("x"))])
    retry = {"stop_after_attempt": 3, "wait_exponential_jitter": False}
    with BudgetPlan(total_tokens=700).run() as run:
        model.with_retry(**retry).invoke("Hi")
        named = model.with_retry(retry_if_exception_type=(BudgetExceededError,), **retry)
        with pytest.raises(BudgetExceededError):
            named.invoke("word " * 300)

    assert 2 == len(model.calls)
    assert 3 == run.report().account.agents["default"].denied_calls


@pytest.mark.filterwarnings("error")
async def test_no_handler_is_left_unawaited() -> None:
    """Whatever was used first, and whoever else listens."""

    class Others(AsyncCallbackHandler):
        pass

    with BudgetPlan(total_tokens=40).run(), token_scope(level="balanced") as scope:
        for model in (fake_chat("_agenerate"), FakeTextModel()):
            with pytest.raises(BudgetExceededError):
                await model.ainvoke("word " * 300, config={"callbacks": [Others()]})
            gc.collect()

    assert 2 == len(scope.uncovered())


# What it cannot cover


def test_what_is_not_covered_is_named() -> None:
    """Text models, and classes that replace the methods with which calls begin."""

    class Replacing(type(fake_chat())):  # type: ignore[misc]
        def generate(self, messages: Any, *args: Any, callbacks: Any = None, **kwargs: Any) -> Any:
            from langchain_core.callbacks import CallbackManager

            manager = CallbackManager.configure(callbacks)
            manager.on_chat_model_start({}, messages, invocation_params={"model": "mine"})
            raise NotImplementedError

    with stage_all(Marking()) as everything:
        FakeTextModel().invoke("a")
        with pytest.raises(NotImplementedError):
            Replacing().invoke("b")

    text, chat = everything.uncovered()
    assert "is a text model" in text
    assert chat.startswith("mine, called by ")
    assert "optimize(model)" in chat


async def test_clients_that_are_called_directly_are_seen(model_server: ModelServer) -> None:
    """Sync and async, by httpx itself and by a provider's client; nothing else is reported."""
    url = f"{model_server.chat_openai().openai_api_base}"
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    direct = model_server.chat_openai().root_client
    with stage_all() as everything:
        httpx.post(f"{url}/other", json={"query": "x"})
        model_server.chat_openai().invoke("Hi")
        await model_server.chat_openai().ainvoke("Hi")
        nothing = everything.uncovered()
        direct.chat.completions.create(**body)
        async with httpx.AsyncClient() as client:
            await client.post(f"{url}/v2/chat", json=body)
    direct.chat.completions.create(**body)

    assert [] == nothing
    assert 2 == len(everything.uncovered())
    assert "/chat/completions went round LangChain" in everything.uncovered()[0]


def test_contradictions_are_refused_when_it_is_made() -> None:
    """As ``optimize`` does."""
    with pytest.raises(ValueError, match="two stages of the kind WordLimit"):
        stage_all(WordLimit(3), WordLimit(4))
    with pytest.raises(TypeError, match="is no stage"):
        stage_all("balanced")  # type: ignore[arg-type]
