"""The law of middleware: an agent with a list of ours is one whose model went through optimize.

Lists are drawn by chance, cut into pieces and mixed with middleware of LangChain; both agents talk
to the same scripted server. Compared is what went over the wire, byte for byte, what came back,
piece by piece, and what was spent.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from contextvars import copy_context
from itertools import count
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import (
    AgentMiddleware,
    ContextEditingMiddleware,
    ModelCallLimitMiddleware,
    ModelFallbackMiddleware,
    ModelRetryMiddleware,
    PIIMiddleware,
    ToolCallLimitMiddleware,
)
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.caches import InMemoryCache
from langchain_core.messages import BaseMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from pydantic import BaseModel

from langchain_tokenopt import (
    BudgetExceededError,
    BudgetPlan,
    ContextCompressor,
    PromptCompressor,
    SemanticCache,
    StageMiddleware,
    TokenBudgetMiddleware,
    ToolSelector,
    WordLimit,
    optimize,
    track_usage,
)
from langchain_tokenopt.budget import input_margin
from langchain_tokenopt.counting.calibration import reset_calibration
from langchain_tokenopt.tracking import call_tracker
from tests.support.model_server import ModelServer, Reply, Request, ToolCall
from tests.support.stages import Recording

PROSE = "The price rose again in spring and nobody on the desk knew the reason for it. "
TURNS = [
    f"<notes>{PROSE * 12}</notes>\n\nWhat are x and y, and why did the price rise?",
    "And what is y?",
    "And what is y?",
]


@tool
def lookup(word: str) -> str:
    """Look a word up."""
    return f"{word}: " + PROSE * 30


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@tool
def weather(place: str) -> str:
    """Tell the weather of a place."""
    return f"{place}: rain"


class Verdict(BaseModel):
    """A verdict."""

    rating: str
    price: float


def answering() -> Callable[[Request], Reply]:
    """Return a script: call two tools at once, one more, then answer; ids of calls are counted."""
    numbers = count()

    def call(name: str, **args: Any) -> ToolCall:
        return ToolCall(name, args, id=f"call_{next(numbers)}")

    def answer(request: Request) -> Reply:
        body = request.body
        names = {t["function"]["name"] for t in body.get("tools") or ()}
        since = 0
        for message in body["messages"]:
            since = 0 if message["role"] == "user" else since + (message["role"] == "tool")
        if "lookup" in names and since == 0:
            return Reply(tool_calls=[call("lookup", word="x"), call("lookup", word="y")])
        if "add" in names and since == 2:
            return Reply(text="Let me add.", tool_calls=[call("add", a=1, b=2)])
        if "Verdict" in names:
            return Reply(tool_calls=[call("Verdict", rating="HOLD", price=1.5)])
        if body.get("response_format"):
            return Reply(text='{"rating": "HOLD", "price": 1.5}')
        return Reply(text="x and y are words. " + PROSE * 4)

    return answer


STAGES: dict[str, Callable[[], Any]] = {
    "limit": lambda: WordLimit(20),
    "compressor": lambda: PromptCompressor(keep=0.5),
    "context": lambda: ContextCompressor(max_tokens=900),
    "tools": lambda: ToolSelector(max_tools=2, embeddings=False, learn=False),
    "cache": InMemoryCache,
    "semantic": lambda: SemanticCache(semantic=False),
    "ample": lambda: BudgetPlan(total_tokens=1_000_000),
    "small": lambda: BudgetPlan(total_tokens=2_500),
    "tiny": lambda: BudgetPlan(total_tokens=260, soft_limit=0.5),
    "recording": Recording,
}
CONTRADICTING = [{"cache", "semantic"}, {"ample", "small", "tiny"}]

OTHERS: dict[str, Callable[[Any], AgentMiddleware]] = {
    "fallback": lambda model: ModelFallbackMiddleware(model),
    "retry": lambda model: ModelRetryMiddleware(max_retries=1, initial_delay=0),
    "editing": lambda model: ContextEditingMiddleware(),
    "calls": lambda model: ModelCallLimitMiddleware(run_limit=6),
    "tool calls": lambda model: ToolCallLimitMiddleware(run_limit=6),
    "pii": lambda model: PIIMiddleware("email"),
}


class Case:
    """Stages, how they are cut into middleware, what stands among them, and the agent's form."""

    def __init__(self, seed: int) -> None:
        chance = random.Random(seed)
        names = chance.sample(list(STAGES), chance.randint(0, 5))
        for together in CONTRADICTING:
            for extra in [n for n in names if n in together][1:]:
                names.remove(extra)
        self.cuts = [chance.random() < 0.5 for _ in range(5)]
        self.others = chance.sample(list(OTHERS), chance.randint(0, 2))
        self.places = [chance.random() for _ in range(20)]
        self.form = chance.choice([None, None, ToolStrategy(Verdict), ProviderStrategy(Verdict)])
        if isinstance(self.form, ProviderStrategy) and "recording" in names:
            names.remove("recording")  # it streams, and openai cannot read schemas streamed to it
        self.names = names
        self.name = chance.choice([None, "reader"])
        self.observe = chance.random() < 0.1

    def stages(self) -> list[Any]:
        """Return the stages, made anew."""
        return [STAGES[name]() for name in self.names]

    def middleware(self) -> list[AgentMiddleware]:
        """Return the same as middleware."""
        groups: list[list[Any]] = [[]]
        made: list[AgentMiddleware] = []
        for stage, cut in zip(self.stages(), self.cuts):  # noqa: B905
            if isinstance(stage, BudgetPlan):
                made.append(TokenBudgetMiddleware(stage, report=True, observe=self.observe))
                continue
            if cut:
                groups.append([])
            groups[-1].append(stage)
        return made + [StageMiddleware(*g, observe=self.observe) for g in groups if g]

    def mixed(self, ours: list[AgentMiddleware], model: Any) -> list[AgentMiddleware]:
        """Return a list of *ours* and the others, the others in the same order."""
        others = [(place, OTHERS[n](model)) for place, n in zip(self.places, self.others)]  # noqa: B905
        placed = sorted([*others, *zip(self.places[5:], ours)], key=lambda pair: pair[0])  # noqa: B905
        order = [middleware for _, middleware in placed if middleware not in ours]
        wanted = iter([middleware for _, middleware in others])
        return [m if m in ours else next(wanted) for _, m in placed] if order else ours

    def agent(self, model: Any, middleware: list[AgentMiddleware]) -> Any:
        """Return the agent."""
        return create_agent(
            model,
            [lookup, add, weather],
            system_prompt="Be exact.",
            middleware=middleware,
            response_format=self.form,
            name=self.name,
            checkpointer=InMemorySaver(),
        )


def plain(message: BaseMessage) -> tuple[Any, ...]:
    """Return everything about a message but its own id."""
    calls = [(c["name"], c["args"], c["id"]) for c in getattr(message, "tool_calls", ())]
    said = {k: v for k, v in message.response_metadata.items() if k not in ("id", "tokenopt")}
    usage = getattr(message, "usage_metadata", None)
    return type(message).__name__, message.name, message.content, calls, usage, str(said)


def plain_state(state: Any) -> Any:
    """Return what the two agents must agree on."""
    return [plain(m) for m in state["messages"]], state.get("structured_response")


THREAD = {"configurable": {"thread_id": "t"}}
HOWS = ["invoke", "ainvoke", "stream", "astream"]
MODES = ["messages", "values", "custom"]


def run_turn(agent: Any, turn: str, how: str, config: Any, loop: asyncio.Runner) -> tuple[Any, Any]:
    """Run one turn; return its state and all that was streamed."""
    asked = {"messages": [("user", turn)]}
    if how == "invoke":
        return agent.invoke(asked, config), None
    pieces: list[Any] = []
    if how == "ainvoke":
        return loop.run(agent.ainvoke(asked, config), context=copy_context()), None
    if how == "stream":
        pieces += agent.stream(asked, config, stream_mode=MODES)
    else:

        async def read() -> None:
            async for piece in agent.astream(asked, config, stream_mode=MODES):
                pieces.append(piece)

        loop.run(read(), context=copy_context())
    state = [value for mode, value in pieces if mode == "values"][-1]
    shown = [
        (
            m.content,
            m.tool_call_chunks if hasattr(m, "tool_call_chunks") else (),
            told["langgraph_node"],
        )
        for mode, (m, told) in [p for p in pieces if p[0] == "messages"]
    ]
    events = [
        (e.get("kind"), e.get("agent"), e.get("detail"))
        if isinstance(e, dict)
        else type(e).__name__
        for mode, e in pieces
        if mode == "custom"
    ]
    return state, (sorted(map(repr, shown)), events)  # tools run side by side


def observed(
    server: ModelServer,
    agent: Any,
    how: str,
    around: Callable[[], AbstractContextManager[Any]],
    loop: asyncio.Runner,
) -> Iterator[Any]:
    """Run a conversation; yield all that can be compared."""
    reset_calibration()
    input_margin._margins.clear()
    call_tracker._calibrated.clear()
    server.reset()
    server.answer = answering()
    for turn in TURNS:
        server.requests.clear()
        with track_usage() as usage, around() as run:
            try:
                state, shown = run_turn(agent, turn, how, THREAD, loop)
            except BudgetExceededError:  # of several tools, none is called in the model's place
                return
        records = sorted(
            (r.agent, r.attribution.node or "", r.usage.total_tokens, r.cached, r.stages)
            for r in usage.records
        )
        report = run.report().as_dict() if run is not None else state.get("token_budget")
        spent = report and {
            name: (line["account"]["spent_tokens"], line["account"]["denied_calls"])
            for name, line in report["agents"].items()
        }
        wire = [json.dumps(request.body) for request in server.requests]
        yield sorted(wire), plain_state(state), shown, records, spent


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("seed", range(8))
def test_a_list_of_ours_is_optimize(model_server: ModelServer, seed: int, how: str) -> None:
    """Whatever the stages, the cuts, the order, the company, and the way of running."""
    case = Case(1_000 * HOWS.index(how) + seed)
    if case.form is not None and "stream" in how:
        case.form = None  # openai parses streamed schemas by itself, with warnings of its own
    model = model_server.chat_openai(stream_usage=True)
    middleware = case.mixed(case.middleware(), model)
    ours = case.agent(model, middleware)
    listed = [type(stage) for m in middleware for stage in getattr(m, "stages", ())]
    # Of stages of one phase the first in the list is the first to act, here as there.
    stages = sorted(case.stages(), key=lambda s: listed.index(type(s)) if type(s) in listed else 0)
    plan = next((stage for stage in stages if isinstance(stage, BudgetPlan)), None)
    staged = optimize(model, *stages, observe=case.observe)
    reference = case.agent(staged, case.mixed([], staged))

    with asyncio.Runner() as loop:  # a client belongs to one
        paying = plan.run if plan else nullcontext
        wanted = [*observed(model_server, reference, how, paying, loop)]
        found = [*observed(model_server, ours, how, nullcontext, loop)]
    assert len(found) == len(TURNS)  # where optimize can only raise, the agent ends with a message
    for one, other in zip(wanted, found, strict=False):
        assert one == other, (case.names, case.others)
