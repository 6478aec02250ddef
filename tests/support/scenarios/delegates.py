"""Models that ask models, and whose name a call goes under."""

from __future__ import annotations

from typing import Any

from langchain.agents import create_agent
from langchain_core.callbacks import CallbackManager, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.graph import START, StateGraph

from tests.support.conformance import Bench, Outcome, spent
from tests.support.fakes import fake_chat
from tests.support.providers import PROVIDERS, Answer
from tests.support.scenarios.graphs import HELLO, Notes, asks, graph_of
from tests.support.scenarios.matrix import PROMPT
from tests.support.scenarios.registry import A, B, answers, scenario, total

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
