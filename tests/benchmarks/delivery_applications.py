"""Agents of other packages under a plan, with scripted models; run by ``bench_delivery``.

Run:     ENVIRONMENT/bin/python -m tests.benchmarks.delivery_applications
Rule:    each application runs without a plan, with ten times what it needs, with 90, 60 and 35 % of
         it, and with 30 tokens. With plenty its output must be the same; with less it must end,
         with words that one of its models wrote; with next to nothing it must end, or raise an
         error of this package, within seconds. Graphs run under ``budget_graph``, chains under
         ``plan.run``.
Output:  one JSON object on stdout.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from langchain_core.messages import BaseMessage
from pydantic import BaseModel

from tests.judge.delivery_apps import Agent, App, text_of, tokens_of
from tests.judge.delivery_build import HARBOUR, tagged
from tests.judge.delivery_kit import Kit
from tests.judge.delivery_model import Attempt, Log, Script, ScriptedModel

Step = str | tuple[str, dict[str, Any]]
Steps = Mapping[str, Sequence[Step]]
"""What each agent's model does, call after call: a text, or a tool with its arguments. The last
step is done again and again; where a tool is not offered any more, the last step's text is said."""

Wrap = Callable[[Any], Any]

PACKAGES = ("deepagents", "langgraph-supervisor", "langgraph-swarm", "langmem", "trustcall")
SHARES = (0.9, 0.6, 0.35)
SECONDS = 10.0


class Stepped(Script):
    """Does step after step, whatever the prompt says."""

    def __init__(self, app: App, log: Log, steps: Steps) -> None:
        super().__init__(app, log)
        self.steps = steps
        self.done: dict[str, int] = dict.fromkeys(steps, 0)

    def _write(self, made: Attempt, who: Agent, choice: Any, form: Any) -> None:
        steps = self.steps[made.agent]
        step = steps[min(self.done[made.agent], len(steps) - 1)]
        self.done[made.agent] += 1
        offered = [tool["function"]["name"] for tool in made.tools]
        if not isinstance(step, str) and step[0] in offered:
            self._call(made, [step])
            return
        made.wanted = step if isinstance(step, str) else str(steps[-1])
        made.text, made.output_tokens = made.wanted, tokens_of(made.wanted)


@dataclass
class Shop:
    """What an application takes its models from."""

    log: Log
    script: Stepped
    wrap: Wrap
    name: str

    def model(self, agent: str) -> Any:
        """Return an agent's model."""
        return self.wrap(ScriptedModel(model_name=self.name, agent=agent, script=self.script))


class Person(BaseModel):
    """What is known of a person."""

    name: str
    city: str
    likes: list[str]


def _paragraph(kit: Kit, sentences: int) -> str:
    return " ".join(kit.language.sentence(kit.rng) for _ in range(sentences))


KIT = Kit(3, (HARBOUR,), (tagged,))
NOTES = [KIT.document(400, 2) for _ in range(4)]
TALK = _paragraph(KIT, 12)
ANSWERS = {name: _paragraph(KIT, 9) for name in ("first", "second", "last")}
PERSON = {"name": "Ada Quill", "city": "Lindmouth", "likes": ["bridges", "tides", "tea"]}


def search(query: str) -> str:
    """Search the notes of the harbour office."""
    return NOTES[len(query) % len(NOTES)]


def _last(state: Mapping[str, Any]) -> str:
    messages: list[BaseMessage] = state["messages"]
    return text_of(messages[-1])


QUESTION = {"messages": [{"role": "user", "content": f"{TALK}\n\nWhich cranes must be mended?"}]}


def deep_agents(shop: Shop) -> Any:
    """Return a deep agent with a subagent and a virtual file system."""
    from deepagents import create_deep_agent

    return create_deep_agent(
        model=shop.model("main"),
        tools=[search],
        system_prompt="You write reports for the harbour master.",
        subagents=[
            {
                "name": "searcher",
                "description": "Searches the notes.",
                "system_prompt": "You search the notes.",
                "tools": [search],
                "model": shop.model("searcher"),
            }
        ],
    )


def supervised(shop: Shop) -> Any:
    """Return a supervisor over two agents."""
    from langchain.agents import create_agent
    from langgraph_supervisor import create_supervisor

    agents = [
        create_agent(shop.model(name), [search], system_prompt=f"You are {name}.", name=name)
        for name in ("cranes", "berths")
    ]
    prompt = "You lead two agents and sum up what they say."
    return create_supervisor(agents, model=shop.model("supervisor"), prompt=prompt).compile()


def swarm(shop: Shop) -> Any:
    """Return two agents that hand over to each other."""
    from langchain.agents import create_agent
    from langgraph_swarm import create_handoff_tool, create_swarm

    agents = [
        create_agent(
            shop.model(name),
            [search, create_handoff_tool(agent_name=other)],
            system_prompt=f"You are {name}.",
            name=name,
        )
        for name, other in (("ann", "bob"), ("bob", "ann"))
    ]
    return create_swarm(agents, default_active_agent="ann").compile()


def memories(shop: Shop) -> Any:
    """Return langmem's memory manager."""
    from langmem import create_memory_manager

    return create_memory_manager(shop.model("memory"), schemas=[Person])


def extraction(shop: Shop) -> Any:
    """Return trustcall's extractor."""
    from trustcall import create_extractor

    return create_extractor(shop.model("extractor"), tools=[Person], tool_choice="Person")


@dataclass(frozen=True)
class Application:
    """One application: how it is made, asked and read."""

    package: str
    make: Callable[[Shop], Any]
    steps: Steps
    question: Any
    read: Callable[[Any], str]
    is_graph: bool = True


_TWICE: list[Step] = [("search", {"query": "cranes"}), ("search", {"query": "all cranes"})]
_DELEGATE: Step = ("task", {"description": "Find the cranes.", "subagent_type": "searcher"})
APPLICATIONS = (
    Application(
        "deepagents",
        deep_agents,
        {
            "main": [
                ("write_file", {"file_path": "/plan.md", "content": TALK}),
                _DELEGATE,
                ("search", {"query": "pumps"}),
                ANSWERS["last"],
            ],
            "searcher": [*_TWICE, ANSWERS["first"]],
        },
        QUESTION,
        _last,
    ),
    Application(
        "langgraph-supervisor",
        supervised,
        {
            "supervisor": [("transfer_to_cranes", {}), ("transfer_to_berths", {}), ANSWERS["last"]],
            "cranes": [*_TWICE, ANSWERS["first"]],
            "berths": [("search", {"query": "berths"}), ANSWERS["second"]],
        },
        QUESTION,
        _last,
    ),
    Application(
        "langgraph-swarm",
        swarm,
        {
            "ann": [("search", {"query": "cranes"}), ("transfer_to_bob", {}), ANSWERS["first"]],
            "bob": [*_TWICE, ANSWERS["last"]],
        },
        QUESTION,
        _last,
    ),
    Application(
        "langmem",
        memories,
        {"memory": [("Person", PERSON), ANSWERS["last"]]},
        {"messages": [{"role": "user", "content": f"{TALK} I am Ada Quill of Lindmouth."}]},
        lambda found: json.dumps([memory.content.model_dump() for memory in found]),
        is_graph=False,
    ),
    Application(
        "trustcall",
        extraction,
        {"extractor": [("Person", PERSON)]},
        {"messages": [{"role": "user", "content": f"{TALK} I am Ada Quill of Lindmouth."}]},
        lambda found: json.dumps([each.model_dump() for each in found["responses"]]),
        is_graph=False,
    ),
)


def run(application: Application, total: int | None) -> dict[str, Any]:
    """Run one application, without a plan or with a total, and say what came of it."""
    from langchain_tokenopt import BudgetPlan, budget_graph, optimize

    log = Log()
    agents = {name: KIT.agent(name=name) for name in application.steps}
    app = App(0, "foreign", HARBOUR, agents, (), lambda shop: None, {}, lambda state: "")
    script = Stepped(app, log, application.steps)
    plan = None if total is None else BudgetPlan(total_tokens=total)
    name = f"ft:gpt-4-0613:judge:{application.package}:{total}"
    shop = Shop(log, script, (lambda m: m) if plan is None else (lambda m: optimize(m, plan)), name)
    start, output, error = time.perf_counter(), "", ""
    try:
        made = application.make(shop)
        if plan is None:
            output = application.read(made.invoke(application.question))
        else:
            made = budget_graph(made, plan) if application.is_graph else made
            with plan.run():
                output = application.read(made.invoke(application.question))
    except Exception as raised:
        ours = type(raised).__module__.startswith("langchain_tokenopt")
        error = f"{'refused' if ours else 'crashed'}: {type(raised).__name__}: {raised}"[:200]
    words = " ".join(output.split())
    said = [" ".join(a.text.split()) for a in log.attempts if a.text]
    objects = any(a.calls and not a.cut for a in log.attempts)
    real = words != "" and (any(words[:24] in text for text in said) if said else objects)
    return {
        "total": total,
        "billed": log.spent(),
        "calls": len(log.attempts),
        "output": output,
        "real": real if application.is_graph else words not in ("", "[]") and objects,
        "end": error or "done",
        "seconds": round(time.perf_counter() - start, 2),
    }


def judged(application: Application) -> dict[str, Any]:
    """Return what the runs of one application say."""
    free = run(application, None)
    assert free["end"] == "done", free
    need = free["billed"]
    ample = run(application, 10 * need + 10_000)
    scarce = [run(application, int(share * need)) for share in SHARES]
    absurd = run(application, 30)
    every = [ample, *scarce, absurd]
    return {
        "package": f"{application.package} {version(application.package)}",
        "tokens_needed": need,
        "same_with_plenty": ample["output"] == free["output"] and ample["end"] == "done",
        "scarce": {f"{share:.0%}": _ending(one) for share, one in zip(SHARES, scarce, strict=True)},
        "absurd": _ending(absurd),
        "overspent": [
            f"{one['billed']} of {one['total']}" for one in every if one["billed"] > one["total"]
        ],
        "slowest_seconds": max(one["seconds"] for one in every),
        "clear_end": all(
            not one["end"].startswith("crashed") and one["seconds"] < SECONDS for one in every
        ),
    }


def _ending(one: Mapping[str, Any]) -> str:
    if one["end"] != "done":
        return str(one["end"])
    said = "answered" if one["real"] else f"made up: {one['output'][:60]!r}"
    return f"{said}, {one['calls']} calls, {one['billed']} of {one['total']} tokens"


def main() -> None:
    """Judge every application that is installed."""
    warnings.simplefilter("ignore")
    found = [judged(application) for application in APPLICATIONS]
    json.dump(found, sys.stdout, indent=1, ensure_ascii=False)
    print()


if __name__ == "__main__":
    main()
