"""Agents of eight forms among LangChain's own middleware, which is made here with room to spare.

A form is made with any middleware, run, sync or async, and shown as what its caller sees: what was
said and called, what was streamed, and what the model was asked. Whatever an agent waits for in
between is approved, by another agent of the same making that has only the checkpoints of the first.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import langchain.agents.middleware as built_in
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, interrupt
from pydantic import BaseModel

from langchain_tokenopt import (
    BudgetPlan,
    ContextMiddleware,
    ModelRoutingMiddleware,
    PromptCompressionMiddleware,
    SemanticCacheMiddleware,
    TokenBudgetMiddleware,
    ToolSelectionMiddleware,
    WordLimitMiddleware,
)
from tests.support.model_server import ModelServer, Reply, Request, ToolCall

PROSE: Final = "The price rose again in spring and nobody on the desk knew the reason for it. "
THREAD: Final[Any] = {"configurable": {"thread_id": "t"}}
STREAMED: Final = ["values", "updates", "messages", "custom", "tasks", "checkpoints", "debug"]


class Verdict(BaseModel):
    """A verdict."""

    rating: str
    price: float


@tool
def lookup(word: str) -> str:
    """Look a word up."""
    return f"{word}: " + PROSE * 3


@tool
def confirm(word: str) -> str:
    """Ask a human."""
    return f"The human says {interrupt(word)}."


# The forms


@dataclass(frozen=True)
class Form:
    """One form of agent."""

    name: str
    calls: Sequence[Sequence[tuple[str, str]]]
    """The tools that are called in each turn of the model, with their words, before it answers."""
    schema: Any = None
    turns: int = 1
    streams: bool = False


FORMS: Final = {
    form.name: form
    for form in (
        Form("tools", [[("lookup", "x")], [("lookup", "y")]]),
        Form("parallel tools", [[("lookup", "x"), ("lookup", "y")]]),
        Form("schema by tool", [[("lookup", "x")]], ToolStrategy(Verdict)),
        Form("schema by provider", [[("lookup", "x")]], ProviderStrategy(Verdict)),
        Form("streams", [[("lookup", "x")]], streams=True),
        Form("interrupts", [[("confirm", "x")], [("lookup", "y")]]),
        Form("subagents", [[("ask", "x")]]),
        Form("turns", [[("lookup", "x")]], turns=2),
    )
}


def answering(form: Form) -> Callable[[Request], Reply]:
    """Return the script of a model in *form*; it knows where it stands from what it is asked."""

    def answer(request: Request) -> Reply:
        body = request.body
        if "shell" in str(body.get("tools")) and "lookup" not in str(body.get("tools")):
            return Reply(text="Nothing.")
        names = {_name(schema) for schema in body.get("tools") or ()}
        last = body["messages"][-1]
        asked = 1 + int(last["tool_call_id"].split("_")[1]) if last["role"] == "tool" else 0
        turn = len(body["messages"])
        called = form.calls[asked] if asked < len(form.calls) else ()
        if called and {name for name, _ in called} <= names:
            calls = [
                ToolCall(name, {"word": word}, id=f"c{turn}_{asked}_{word}")
                for name, word in called
            ]
            return Reply(tool_calls=calls)
        if "Verdict" in names:
            return Reply(tool_calls=[ToolCall("Verdict", {"rating": "HOLD", "price": 1.5}, id="v")])
        if chosen := body.get("response_format"):
            picks = "tools" in json.dumps(chosen.get("json_schema", {}).get("schema", {}))
            return Reply(
                text='{"tools": ["lookup", "confirm", "ask"]}'
                if picks and "rating" not in json.dumps(chosen)
                else '{"rating": "HOLD", "price": 1.5}'
            )
        return Reply(text="x and y are words. " + PROSE)

    return answer


def _name(schema: Any) -> str:
    return str(schema.get("function", schema).get("name"))


# LangChain's own middleware


def _decisions() -> dict[str, Callable[[Any], AgentMiddleware[Any, Any, Any]]]:
    """Middleware over models that decide, which young releases have."""
    try:
        from langchain.agents.middleware import AutoModeMiddleware, ModelChoice
        from langchain.agents.middleware import ModelRouterMiddleware as LangChainsRouter
        from langchain_core.decisions import (
            BaseDecisionModel,
            ChoiceAnswer,
            ClassifierResponse,
            NoulAnswer,
        )
    except ImportError:
        return {}

    only = ChoiceAnswer(type="choice", choice="only", confidence=1.0, probabilities={"only": 1.0})

    class Calm(BaseDecisionModel):
        """Thinks nothing risky, and the first choice best."""

        model: str = "calm"

        @property
        def _provider(self) -> str:
            return "tests"

        def _classify(self, state: Any, questions: Any) -> ClassifierResponse:
            answers: dict[str, Any] = {}
            for name, question in questions.items():
                choices = getattr(question, "criteria", None)
                is_choice = isinstance(choices, dict) and "only" in choices
                answers[name] = only if is_choice else NoulAnswer(type="noul", noul=0.0)
            return ClassifierResponse(model=self.model, answers=answers)

    return {
        "AutoModeMiddleware": lambda model: AutoModeMiddleware(tools=["lookup"], classifier=Calm()),
        "ModelRouterMiddleware": lambda model: LangChainsRouter(
            choices={"only": ModelChoice(model=model, criteria="anything")},
            instructions="Choose.",
            classifier=Calm(),
        ),
    }


_FACTORIES: dict[str, Callable[[Any], AgentMiddleware[Any, Any, Any]]] = {
    **_decisions(),
    "ContextEditingMiddleware": lambda model: built_in.ContextEditingMiddleware(),
    "FilesystemFileSearchMiddleware": lambda model: built_in.FilesystemFileSearchMiddleware(
        root_path="."
    ),
    "HumanInTheLoopMiddleware": lambda model: built_in.HumanInTheLoopMiddleware(
        interrupt_on={"lookup": True}
    ),
    "LLMToolEmulator": lambda model: built_in.LLMToolEmulator(tools=[lookup], model=model),
    "LLMToolSelectorMiddleware": lambda model: built_in.LLMToolSelectorMiddleware(model=model),
    "ModelCallLimitMiddleware": lambda model: built_in.ModelCallLimitMiddleware(run_limit=9),
    "ModelFallbackMiddleware": lambda model: built_in.ModelFallbackMiddleware(model),
    "ModelRefusalMiddleware": lambda model: built_in.ModelRefusalMiddleware(),
    "ModelRetryMiddleware": lambda model: built_in.ModelRetryMiddleware(max_retries=1),
    "PIIMiddleware": lambda model: built_in.PIIMiddleware("email"),
    "ProviderToolSearchMiddleware": lambda model: built_in.ProviderToolSearchMiddleware(),
    "ShellToolMiddleware": lambda model: built_in.ShellToolMiddleware(),
    "SummarizationMiddleware": lambda model: built_in.SummarizationMiddleware(
        model, trigger=("messages", 4), keep=("messages", 2)
    ),
    "TodoListMiddleware": lambda model: built_in.TodoListMiddleware(),
    "ToolCallLimitMiddleware": lambda model: built_in.ToolCallLimitMiddleware(run_limit=9),
    "ToolErrorMiddleware": lambda model: built_in.ToolErrorMiddleware(on_error=str),
    "ToolRetryMiddleware": lambda model: built_in.ToolRetryMiddleware(),
}
BUILT_IN: Final = tuple(
    name
    for name in sorted(built_in.__all__)
    if isinstance(found := getattr(built_in, name), type)
    and issubclass(found, AgentMiddleware)
    and found is not AgentMiddleware
)
"""Every class of middleware that the installed release of LangChain exports."""
ASKING: Final = ("LLMToolEmulator", "LLMToolSelectorMiddleware")
"""Those that ask a model around the agent's: behind the budget it pays for them."""
UNPAID: Final = ("SummarizationMiddleware",)
"""Those that ask one in a node of their own, which only a run around the agent pays."""


def langchains(name: str, model: Any) -> AgentMiddleware[Any, Any, Any]:
    """Return one of LangChain's own."""
    return _FACTORIES[name](model)


def ours(total: int, model: Any) -> list[AgentMiddleware[Any, Any, Any]]:
    """Return one of each of ours; but for the budget, with nothing to do."""
    return [
        TokenBudgetMiddleware(BudgetPlan(total_tokens=total, name="matrix"), report=True),
        ModelRoutingMiddleware({"another": model.model_copy(), "own": model}, policy=1.0),
        SemanticCacheMiddleware(semantic=False),
        ToolSelectionMiddleware(max_tools=30, embeddings=False),
        ContextMiddleware(max_tokens=100_000),
        PromptCompressionMiddleware(max_tokens=100_000),
        WordLimitMiddleware(2_000, ask=False),
    ]


def together(
    name: str, own: list[AgentMiddleware[Any, Any, Any]], model: Any, *, behind: bool
) -> list[AgentMiddleware[Any, Any, Any]]:
    """Return *own* before LangChain's, or behind it; the budget before those that ask models."""
    other = langchains(name, model)
    if not behind:
        return [*own, other]
    return [own[0], other, *own[1:]] if name in ASKING else [other, *own]


# Running


def faults(
    server: ModelServer, name: str, form: Form, *, behind: bool, is_async: bool
) -> Iterator[str]:
    """Yield what is wrong with an agent of *form* that has ours and LangChain's *name*.

    With ample limits it is the agent that has LangChain's alone, and its report is its bill. With
    half of what it needs it comes to an end, for no more than the total.
    """

    def among(total: int) -> Seen:
        def listed(model: Any) -> Any:
            return together(name, ours(total, model), model, behind=behind)

        return run(server, form, listed, is_async=is_async)

    bare = run(server, form, lambda model: [langchains(name, model)], is_async=is_async)
    ample = among(1_000_000)
    for part in ("said", "streamed", "asked"):
        if getattr(bare, part) != getattr(ample, part):
            yield f"ample: {part} differs"
    paid = name not in UNPAID
    if paid and ample.spent != ample.billed:
        yield f"ample: {ample.spent} reported, {ample.billed} billed"
    total = ample.billed // (2 * form.turns)
    scarce = among(total)
    if not scarce.is_complete:
        yield "scarce: incomplete"
    if paid and scarce.billed > total * form.turns:
        yield f"scarce: {scarce.billed} billed of {form.turns} times {total}"


@dataclass(frozen=True)
class Seen:
    """What a caller sees of a run, and a provider."""

    said: Any
    """Messages, calls of tools, and the structured answer."""
    streamed: Any
    asked: Any
    """What the model was asked each time: messages, tools, schema."""
    messages: Sequence[BaseMessage]
    spent: int
    """As the budget reports it, if there is one."""
    billed: int

    @property
    def is_complete(self) -> bool:
        """Whether it came to an end: an answer of the agent's, and every tool call answered."""
        called = {c["id"] for m in self.messages for c in getattr(m, "tool_calls", ())}
        results = {m.tool_call_id for m in self.messages if isinstance(m, ToolMessage)}
        last = self.messages[-1]
        return called == results and (isinstance(last, AIMessage) or last.name == "Verdict")


def run(
    server: ModelServer,
    form: Form,
    middleware: Callable[[Any], Sequence[AgentMiddleware[Any, Any, Any]]],
    *,
    is_async: bool,
) -> Seen:
    """Run an agent of *form* with what *middleware* makes for each process, given a model."""
    server.reset()
    server.answer = answering(form)
    saver = InMemorySaver()

    def made() -> Any:
        model = server.chat_openai(stream_usage=True)
        inner = create_agent(model, [lookup], name="inner")

        @tool
        def ask(word: str) -> str:
            """Ask somebody else."""
            return str(inner.invoke({"messages": [("user", word)]})["messages"][-1].text)

        return create_agent(
            model,
            [lookup, confirm, ask],
            system_prompt="Be exact.",
            middleware=[*middleware(model)],
            response_format=form.schema,
            checkpointer=saver,
        )

    states: list[Any] = []
    pieces: list[Any] = []
    spent = 0
    for turn in range(form.turns):
        given: Any = {"messages": [("user", f"What are x and y, and what is {turn}?")]}
        while given is not None:
            state = _one(made(), given, form, pieces, is_async=is_async)
            states.append(state)
            given = _approved(state)
            report = state.get("token_budget")
            spent += report["account"]["spent_tokens"] if report and given is None else 0
    asked = [
        {part: request.body.get(part) for part in ("messages", "tools", "response_format")}
        for request in server.requests
    ]
    return Seen(
        said=[[_plain(m) for m in state["messages"]] for state in states]
        + [state.get("structured_response") for state in states],
        streamed=sorted(map(repr, _shown(pieces))),
        asked=sorted(json.dumps(one, sort_keys=True) for one in asked),
        messages=states[-1]["messages"],
        spent=spent,
        billed=sum(bill.total_tokens for bill in server.billed),
    )


def _one(agent: Any, given: Any, form: Form, pieces: list[Any], *, is_async: bool) -> Any:
    if not form.streams:
        return (
            asyncio.run(agent.ainvoke(given, THREAD)) if is_async else agent.invoke(given, THREAD)
        )
    new: list[Any] = []
    if is_async:

        async def read() -> None:
            async for piece in agent.astream(given, THREAD, stream_mode=STREAMED):
                new.append(piece)

        asyncio.run(read())
    else:
        new += agent.stream(given, THREAD, stream_mode=STREAMED)
    pieces += new
    values = [value for mode, value in new if mode == "values"]
    waiting = [v for mode, v in new if mode == "updates" and "__interrupt__" in v]
    return {**values[-1], **(waiting[-1] if waiting else {})}


def _approved(state: Any) -> Command[Any] | None:
    """Return the answer to what an agent waits for, if it does."""
    waiting = state.get("__interrupt__")
    if not waiting:
        return None
    value = waiting[0].value
    if isinstance(value, dict) and "action_requests" in value:
        return Command(resume={"decisions": [{"type": "approve"}] * len(value["action_requests"])})
    return Command(resume="yes")


def _plain(message: BaseMessage) -> Any:
    calls = [(c["name"], c["args"], c["id"]) for c in getattr(message, "tool_calls", ())]
    return message.type, message.text, message.name, calls


def _shown(pieces: list[Any]) -> Iterator[Any]:
    """Yield what was streamed, but for what tells of the budget, and for times and ids."""
    said: dict[str, str] = {}
    for mode, piece in pieces:
        if mode == "messages":
            message, told = piece
            node = told["langgraph_node"]
            said[node] = said.get(node, "") + message.text
        elif mode == "updates":
            yield from (("updates", node) for node in piece if "TokenBudget" not in node)
        elif mode == "values":
            said["values"] = str([_plain(message) for message in piece["messages"]])
        elif mode == "tasks" and "TokenBudget" not in piece["name"]:
            yield "tasks", piece["name"]
        elif mode == "custom":
            yield "custom", piece
    yield from said.items()
    yield from sorted({mode for mode, _ in pieces})
