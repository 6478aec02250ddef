"""Shapes of graphs under scarce budgets: calls side by side, loops, forms, turns, proposed plans.

An orchard's agents read leaflets and answer; the model counts exactly, so that what a total must be
enough for can be worked out beforehand.
"""

from __future__ import annotations

import asyncio
import contextvars
import operator
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count, pairwise
from typing import Annotated, Any, TypedDict

import pytest
from langchain.agents import create_agent
from langchain.agents.structured_output import ToolStrategy
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool
from langchain_core.utils.function_calling import convert_to_openai_tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt
from pydantic import BaseModel

from langchain_tokenopt import count_messages, optimize
from langchain_tokenopt.budget import BudgetPlan, siblings
from langchain_tokenopt.budget.run import BudgetRun
from langchain_tokenopt.graph import budget_graph

SENTENCE = "The old pear tree by the gate was pruned in March by two apprentices. "
_models = count()


def tokens_of(messages: list[BaseMessage], tools: Any = None) -> int:
    """Return what the provider counts."""
    return count_messages(messages, tools=tools or None, model="gpt-4-0613").tokens


class Gardener(BaseChatModel):
    """Answers in nine sentences, or in as many tokens as it may; calls a tool for ever."""

    model_name: str = "gpt-4-0613"
    max_tokens: int | None = None
    asked: Any = None

    @property
    def _llm_type(self) -> str:
        return "gardener"

    def bind_tools(self, tools: Any, *, tool_choice: Any = None, **kwargs: Any) -> Any:
        """Show them as OpenAI has them."""
        shown = [convert_to_openai_tool(each) for each in tools]
        return self.bind(tools=shown, tool_choice=tool_choice, **kwargs)

    def _generate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        tools, cap = kwargs.get("tools") or [], kwargs.get("max_tokens")
        words, calls = (SENTENCE * 9).split(), []
        if tools:
            name = tools[0]["function"]["name"]
            arguments = {"row": "3"} if name == "measure" else {"tree": "pear", "why": "It is old."}
            calls = [{"name": name, "args": arguments, "id": f"c{len(messages)}"}]
            words = []
        output = 24 if calls else min(len(words) * 4 // 3, cap or 9_999)
        text = " ".join(words[: output * 3 // 4])
        sent = tokens_of(messages, tools)
        self.asked.append(sent + output)
        usage = {"input_tokens": sent, "output_tokens": output, "total_tokens": sent + output}
        said = AIMessage(text, tool_calls=calls, usage_metadata=usage)
        return ChatResult(generations=[ChatGeneration(message=said)])


class Orchard(TypedDict, total=False):
    reports: Annotated[list[str], operator.add]
    answer: str


def prompt(role: str, *leaflets: str) -> list[BaseMessage]:
    """Return what an agent is asked; a call without leaflets is the shortest that can be."""
    read = "".join(f"<document>\n{leaflet}\n</document>\n" for leaflet in leaflets)
    asked = f"{read}\nYou are the {role}.\n\nQuestion: Which trees must be felled?"
    return [SystemMessage("You work for an orchard."), HumanMessage(asked)]


DONE = ("pruned by two apprentices", "grafted in the rain", "measured with a rope", "left alone")
LEAFLET = " ".join(
    f"Tree {n} by gate {n * n % 97} was {DONE[n % 4]} in week {n}." for n in range(25)
)
SHORT = tokens_of(prompt("picker")) + 130
"""What a short answer to the shortest call takes, with what a careful counter holds besides."""


def is_real(text: str) -> bool:
    """Whether a model has said it."""
    return text.startswith("The old pear")


def run(plan: BudgetPlan, graph: Any, *inputs: Any, thread: str | None = None) -> Any:
    """Run a graph under a plan; return its last state, the run and what was billed."""
    made = budget_graph(graph, plan).compile(checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": thread or "t"}, "recursion_limit": 60}

    async def all_turns() -> tuple[Any, BudgetRun]:
        for each in inputs or ({},):
            with plan.run(thread_id=thread) as begun:
                state = await made.ainvoke(each, config)
        return state, begun

    return asyncio.run(all_turns())


def gardener(plan: BudgetPlan | None = None) -> tuple[Any, list[int]]:
    """Return a model that nothing is known of, and its bill."""
    asked: list[int] = []
    model = Gardener(model_name=f"ft:gpt-4-0613:orchard{next(_models)}", asked=asked)
    return (model if plan is None else optimize(model, plan)), asked


# Side by side

PROMPTS = [prompt(f"picker {n}", LEAFLET) for n in range(4)]


async def gathered(model: Any) -> list[Any]:
    return await asyncio.gather(*map(model.ainvoke, PROMPTS))


async def batched(model: Any) -> Any:
    return await model.abatch(PROMPTS)


async def in_threads(model: Any) -> list[Any]:
    calls = [(contextvars.copy_context(), asked) for asked in PROMPTS]
    with ThreadPoolExecutor(4) as threads:
        return list(threads.map(lambda call: call[0].run(model.invoke, call[1]), calls))


@pytest.mark.parametrize("together", [gathered, batched, in_threads])
@pytest.mark.parametrize("total", [6 * SHORT, 10 * SHORT])
def test_calls_side_by_side_in_one_node_are_all_answered(
    together: Callable[[Any], Any], total: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first does not take what all need, and the one after them is answered, too."""
    monkeypatch.setattr(siblings, "_MOMENT", 0.2)  # the machine may be busy
    plan = BudgetPlan(total_tokens=total)
    model, asked = gardener(plan)

    async def pickers(state: Orchard) -> Orchard:
        return {"reports": [answer.text for answer in await together(model)]}

    def owner(state: Orchard) -> Orchard:
        return {"answer": model.invoke(prompt("owner", *state["reports"])).text}

    graph = StateGraph(Orchard).add_node("pickers", pickers).add_node("owner", owner)
    graph.add_edge(START, "pickers").add_edge("pickers", "owner").add_edge("owner", END)
    state, begun = run(plan, graph)

    assert all(map(is_real, [*state["reports"], state["answer"]])), begun.report()
    assert sum(asked) <= total


# Loops that end with a form


@tool
def measure(row: str) -> str:
    """Measure a row of trees."""
    return SENTENCE * 12


class Felling(BaseModel):
    """What is to be felled."""

    tree: str
    why: str


@pytest.mark.parametrize("total", [1_000, 1_500, 2_500, 4_000])
def test_a_loop_that_must_call_tools_ends_with_its_form(total: int) -> None:
    """The model would measure for ever; what the object needs is kept, and asked for in time."""
    plan = BudgetPlan(total_tokens=total)
    model, asked = gardener(plan)
    agent = create_agent(model, [measure], response_format=ToolStrategy(Felling), name="surveyor")
    made = budget_graph(agent, plan)
    with plan.run() as begun:
        state = made.invoke(
            {"messages": [HumanMessage("Which trees must be felled?")]}, {"recursion_limit": 99}
        )

    assert Felling(tree="pear", why="It is old.") == state["structured_response"], begun.report()
    assert len(asked) > 1
    assert 0.6 * total < sum(asked) <= total
    assert "took away the tools" in begun.report().agents["surveyor"].degraded


# Turns


def two_turns(model: Any) -> Any:
    def picker(state: Orchard) -> Orchard:
        return {"reports": [model.invoke(prompt("picker", LEAFLET)).text]}

    def ask(state: Orchard) -> Orchard:
        interrupt("Go on?")
        return {}

    def owner(state: Orchard) -> Orchard:
        return {"answer": model.invoke(prompt("owner", *state["reports"])).text}

    graph = StateGraph(Orchard).add_node("picker", picker).add_node("ask", ask)
    graph.add_node("owner", owner).add_edge(START, "picker").add_edge("picker", "ask")
    return graph.add_edge("ask", "owner").add_edge("owner", END)


def test_a_run_that_is_resumed_keeps_nothing_for_those_that_have_been() -> None:
    """The last agent has all that is left, in the second turn as well."""
    plan = BudgetPlan(total_tokens=9 * SHORT)
    model, asked = gardener(plan)
    state, begun = run(
        plan,
        two_turns(model),
        *({}, Command(resume="yes")) * 2,
        thread=f"orchard-{next(_models)}",
    )

    assert all(map(is_real, [*state["reports"], state["answer"]])), begun.report()
    assert sum(asked) <= plan.total_tokens


# Proposed plans


def parallel(model: Any) -> Any:
    graph = StateGraph(Orchard)
    for number in range(4):

        def picker(state: Orchard, number: int = number) -> Orchard:
            return {"reports": [model.invoke(PROMPTS[number]).text]}

        graph.add_node(f"picker {number}", picker).add_edge(START, f"picker {number}")
        graph.add_edge(f"picker {number}", "owner")

    def owner(state: Orchard) -> Orchard:
        return {"answer": model.invoke(prompt("owner", *state["reports"])).text}

    return graph.add_node("owner", owner).add_edge("owner", END)


@pytest.mark.parametrize("total", [6 * SHORT, 9 * SHORT, 14 * SHORT])
def test_a_proposed_plan_serves_as_many_as_a_total_alone(total: int) -> None:
    """And leaves little."""
    real, spent = [], []
    for proposed in (False, True):
        drawn = parallel(gardener()[0])
        plan = BudgetPlan(total_tokens=total)
        if proposed:
            plan = BudgetPlan.for_graph(drawn, total_tokens=total)
        model, asked = gardener(plan)
        state, _ = run(plan, parallel(model))
        real.append(sum(map(is_real, [*state["reports"], state["answer"]])))
        spent.append(sum(asked))

    assert [5, 5] == real
    assert all(0.75 * total <= tokens <= total for tokens in spent), spent


# Nodes that never call


def with_plain_nodes(model: Any, *, ends: bool = True) -> Any:
    def writer(state: Orchard) -> Orchard:
        return {"reports": [model.invoke(prompt("writer", LEAFLET)).text]}

    def editor(state):
        return {"answer": model.invoke(prompt("editor", *state["reports"])).text}

    graph = StateGraph(Orchard).add_node("writer", writer).add_edge(START, "writer")
    names = ["writer", *(f"plain {number}" for number in range(8)), "editor"]
    for name in names[1:-1]:
        graph.add_node(name, lambda state: {"reports": []})
    graph.add_node("editor", editor)
    for before, after in pairwise(names):
        graph.add_edge(before, after)
    return graph.add_edge("editor", END) if ends else graph


@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.parametrize("proposed", [False, True])
def test_nothing_is_kept_for_functions_that_reach_no_model(ends: bool, proposed: bool) -> None:
    """However many there are; with an edge to the end or without."""
    total = 4 * SHORT
    plan = BudgetPlan(total_tokens=total)
    if proposed:
        drawn = with_plain_nodes(gardener()[0], ends=ends)
        plan = BudgetPlan.for_graph(drawn, total_tokens=total)
        assert "plain" not in plan.explain(drawn)
        assert {"writer", "editor"} == set(plan.agents)
    model, asked = gardener(plan)
    state, begun = run(plan, with_plain_nodes(model, ends=ends))

    assert all(map(is_real, [*state["reports"], state["answer"]])), begun.report()
    assert 0.6 * total <= sum(asked) <= total
