"""Models that ask models, and whose name a call goes under."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from langchain.agents import create_agent
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import CallbackManager, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.graph import START, StateGraph

from tests.support.conformance import Bench, Outcome, spent
from tests.support.fakes import fake_chat, usage_metadata
from tests.support.providers import PROVIDERS, Answer
from tests.support.scenarios.graphs import HELLO, Notes, asks, calls_tool, graph_of
from tests.support.scenarios.matrix import PROMPT, TEXT, unbilled
from tests.support.scenarios.registry import A, B, C, answers, drain, scenario, total

GROUP = "models in models"

openai = PROVIDERS["openai"]


def below(run: CallbackManagerForLLMRun | None) -> CallbackManager | None:
    """Return callbacks that make a call the child of *run*."""
    if run is None:
        return None
    return CallbackManager(run.handlers, run.inheritable_handlers, parent_run_id=run.run_id)


class Router(BaseChatModel):
    """Hands every question to the model inside, and its answer back as it is."""

    inner: Any

    @property
    def _llm_type(self) -> str:
        return "router"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        answer = self.inner.invoke(messages, {"callbacks": below(run_manager)})
        return ChatResult(generations=[ChatGeneration(message=answer)])

    async def _agenerate(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> ChatResult:
        answer = await self.inner.ainvoke(messages)
        return ChatResult(generations=[ChatGeneration(message=answer)])


@scenario(GROUP)
def router(bench: Bench) -> Outcome:
    """A model that hands on another one's answer is billed once."""
    bench.server.script(openai.whole(Answer(usage=openai.usage(A))))
    Router(inner=openai.chat(bench.server)).invoke(PROMPT, bench.config)
    return spent(A, calls=1)


@scenario(GROUP)
async def router_async(bench: Bench) -> Outcome:
    """The same, asynchronously, where nothing links the two runs but the context."""
    bench.server.script(openai.whole(Answer(usage=openai.usage(A))))
    with bench.track() as seen:
        await Router(inner=openai.chat(bench.server)).ainvoke(PROMPT)
    return [(seen, spent(A, calls=1))]


@scenario(GROUP)
def graph_that_is_called_again(bench: Bench) -> Outcome:
    """A node that calls its subgraph three times has one subgraph, not three."""
    sub = graph_of(analyst=asks(fake_chat(answers=answers(A, A, A))))

    def research(state: Notes) -> Notes:
        for _ in range(3):
            sub.invoke({})
        return {"notes": ["done"]}

    builder = StateGraph(Notes)
    builder.add_node("research", research)
    builder.add_edge(START, "research")
    builder.compile().invoke({}, bench.config)
    by = {"node": {"research/analyst": 3 * total(A)}, "agent": {"research": 3 * total(A)}}
    return spent(A, A, A, by=by)


@scenario(GROUP)
def agent_inside_a_named_node(bench: Bench) -> Outcome:
    """The innermost name that somebody gave is the agent's."""
    expert = create_agent(fake_chat(answers=answers(A)), name="expert")
    desk = fake_chat(answers=answers(B))

    def node(state: Notes) -> Notes:
        desk.invoke("Hi")
        expert.invoke(HELLO)
        return {"notes": ["done"]}

    builder = StateGraph(Notes)
    builder.add_node("n", node, metadata={"tokenopt_agent": "desk"})
    builder.add_edge(START, "n")
    builder.compile().invoke({}, bench.config)
    return spent(A, B, by={"agent": {"expert": total(A), "desk": total(B)}})


@scenario(GROUP)
def retries_are_nobodys_name(bench: Bench) -> Outcome:
    """Where nobody gave a name there is none: a class is not an agent."""
    bench.server.script(openai.whole(Answer(usage=openai.usage(A))))
    openai.chat(bench.server).with_retry().invoke(PROMPT, bench.config)
    return spent(A, by={"agent": {"default": total(A)}})


class StreamingRouter(Router):
    """The same, chunk by chunk."""

    def _stream(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        for chunk in self.inner.stream(messages):
            yield ChatGenerationChunk(
                message=AIMessageChunk(
                    content=chunk.content,
                    usage_metadata=chunk.usage_metadata,
                    response_metadata=chunk.response_metadata,
                )
            )


@scenario(GROUP)
def streaming_router(bench: Bench) -> Outcome:
    """A stream that is handed on is billed once."""
    bench.server.script(openai.stream(Answer(usage=openai.usage(A))))
    with bench.track() as seen:
        drain(StreamingRouter(inner=openai.chat(bench.server)).stream(PROMPT))
    return [(seen, spent(A, calls=1))]


@scenario(GROUP)
def router_of_routers(bench: Bench) -> Outcome:
    """Three models deep, one bill."""
    bench.server.script(openai.whole(Answer(usage=openai.usage(A))))
    model = Router(inner=Router(inner=openai.chat(bench.server)))
    model.invoke(PROMPT, bench.config)
    return spent(A, calls=1)


class Committee(Router):
    """Asks the model inside twice and reports the sum, or its own bill on top."""

    own: Any = None

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        config: Any = {"callbacks": below(run_manager)}
        first = self.inner.invoke(messages, config)
        second = self.inner.invoke(messages, config)
        if self.own is not None:
            told: Any = usage_metadata(self.own)
        else:
            told = {
                key: first.usage_metadata[key] + second.usage_metadata[key]
                for key in ("input_tokens", "output_tokens", "total_tokens")
            }
        message = AIMessage(
            second.text, usage_metadata=told, response_metadata=second.response_metadata
        )
        return ChatResult(generations=[ChatGeneration(message=message)])


@scenario(GROUP)
def committee(bench: Bench) -> Outcome:
    """A model that reports the sum of two calls inside it is billed for those two."""
    bench.server.script(*(openai.whole(Answer(usage=openai.usage(u))) for u in (A, B)))
    Committee(inner=openai.chat(bench.server)).invoke(PROMPT, bench.config)
    return spent(A, B, calls=2)


@scenario(GROUP)
def model_with_a_bill_of_its_own(bench: Bench) -> Outcome:
    """A model that asks others and has a bill of its own as well: all of them count."""
    bench.server.script(*(openai.whole(Answer(usage=openai.usage(C))) for _ in range(2)))
    Committee(inner=openai.chat(bench.server), own=A).invoke(PROMPT, bench.config)
    return spent(A, C, C, calls=3)


@scenario(GROUP)
def router_to_a_silent_model(bench: Bench) -> Outcome:
    """What nobody reported is estimated once."""
    bench.server.script(openai.whole(Answer(text=TEXT)))
    Router(inner=openai.chat(bench.server)).invoke(PROMPT, bench.config)
    return unbilled(openai, TEXT)


@scenario(GROUP)
def two_answers_that_cost_the_same(bench: Bench) -> Outcome:
    """Two calls in a row with equal bills are two calls."""
    bench.server.script(*(openai.whole(Answer(usage=openai.usage(A))) for _ in range(2)))
    model = openai.chat(bench.server)
    RunnableLambda(lambda text: model.invoke(model.invoke(text).text)).invoke(PROMPT, bench.config)
    return spent(A, A)


@scenario(GROUP)
def tool_whose_model_costs_the_same(bench: Bench) -> Outcome:
    """A model in a tool that costs as much as the agent's own is another call."""
    researcher = fake_chat(answers=answers(A))

    @tool
    def research(topic: str) -> str:
        """Look into a topic."""
        return researcher.invoke(topic).text

    model = fake_chat(answers=[calls_tool("research", A, topic="rain"), *answers(A)])
    create_agent(model, [research], name="clerk").invoke(HELLO, bench.config)
    return spent(A, A, A)


@scenario(GROUP)
async def subgraph_in_a_batch(bench: Bench) -> Outcome:
    """A subgraph that a node runs as a batch, asynchronously, has one name."""
    sub = graph_of(analyst=asks(fake_chat(answers=answers(*[A] * 4))))

    async def research(state: Notes) -> Notes:
        await sub.abatch([{}] * 4)
        return {"notes": ["done"]}

    builder = StateGraph(Notes)
    builder.add_node("research", research)
    builder.add_edge(START, "research")
    await builder.compile().ainvoke({}, bench.config)
    by = {"node": {"research/analyst": 4 * total(A)}, "agent": {"research": 4 * total(A)}}
    return spent(*[A] * 4, by=by)


@scenario(GROUP)
def node_whose_name_is_a_number(bench: Bench) -> Outcome:
    """A name that somebody gave stays, also where it looks like a counter."""
    inner = graph_of(**{"1": asks(fake_chat(answers=answers(A)))})
    builder = StateGraph(Notes)
    builder.add_node("2", inner)
    builder.add_edge(START, "2")
    builder.compile().invoke({}, bench.config)
    return spent(A, by={"node": {"2/1": total(A)}, "agent": {"2": total(A)}})


@scenario(GROUP)
def two_subgraphs_in_one_node(bench: Bench) -> Outcome:
    """Two different subgraphs that a node calls in turn keep their own names."""
    left = graph_of(left=asks(fake_chat(answers=answers(A, A))))
    right = graph_of(right=asks(fake_chat(answers=answers(B))))

    def node(state: Notes) -> Notes:
        left.invoke({})
        right.invoke({})
        left.invoke({})
        return {"notes": ["done"]}

    builder = StateGraph(Notes)
    builder.add_node("desk", node)
    builder.add_edge(START, "desk")
    builder.compile().invoke({}, bench.config)
    return spent(A, A, B, by={"node": {"desk/left": 2 * total(A), "desk/right": total(B)}})


@scenario(GROUP)
def fallbacks_are_nobodys_name(bench: Bench) -> Outcome:
    """Nor is a chain, a fallback or a function."""
    bench.server.script(*(openai.whole(Answer(usage=openai.usage(A))) for _ in range(3)))
    model = openai.chat(bench.server)
    model.with_fallbacks([model]).invoke(PROMPT, bench.config)
    (RunnableLambda(lambda text: text) | model).invoke(PROMPT, bench.config)
    model.with_structured_output(dict_schema(), method="function_calling").invoke(
        PROMPT, bench.config
    )
    return spent(A, A, A, by={"agent": {"default": 3 * total(A)}})


def dict_schema() -> dict[str, Any]:
    return {"title": "City", "description": "A city.", "type": "object", "properties": {}}


@scenario(GROUP)
async def anthropic_with_retry_has_no_name(bench: Bench) -> Outcome:
    """The same for another integration, asynchronously."""
    anthropic = PROVIDERS["anthropic"]
    bench.server.script(anthropic.whole(Answer(usage=anthropic.usage(A))))
    await anthropic.chat(bench.server).with_retry().ainvoke(PROMPT, bench.config)
    return spent(A, by={"agent": {"default": total(A)}})


@scenario(GROUP)
def agent_inside_an_agents_tool_inside_a_named_node(bench: Bench) -> Outcome:
    """Each call goes under the innermost name around it."""
    expert = create_agent(fake_chat(answers=answers(C)), name="expert")

    @tool
    def ask_expert(question: str) -> str:
        """Ask somebody who knows."""
        return str(expert.invoke({"messages": [("human", question)]})["messages"][-1].text)

    model = fake_chat(answers=[calls_tool("ask_expert", A, question="Why?"), *answers(B)])
    clerk = create_agent(model, [ask_expert], name="clerk")
    builder = StateGraph(Notes)
    builder.add_node(
        "n",
        lambda state: {"notes": [str(clerk.invoke(HELLO))]},
        metadata={"tokenopt_agent": "desk"},
    )
    builder.add_edge(START, "n")
    builder.compile().invoke({}, bench.config)
    by = {
        "agent": {"clerk": total(A, B), "expert": total(C)},
        "tool": {"ask_expert": total(C), "(none)": total(A, B)},
    }
    return spent(A, B, C, by=by)


@scenario(GROUP)
def router_behind_a_cache(bench: Bench) -> Outcome:
    """A cached answer inside costs nothing the second time, and the router adds nothing."""
    bench.server.script(openai.whole(Answer(usage=openai.usage(A))))
    model = Router(inner=openai.chat(bench.server, cache=InMemoryCache()), cache=False)
    model.invoke(PROMPT, bench.config)
    model.invoke(PROMPT, bench.config)
    return spent(A, calls=2, cached_calls=1)
