"""Applications to build against: desks, debates, loops of tools, maps, supervisors, teams.

Whoever builds may read all of it. The other half has other shapes, fields, languages and layouts.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any, Literal

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import StructuredTool
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send
from pydantic import BaseModel, Field
from pydantic import create_model as model_of

from tests.judge.delivery_apps import Agent, App, Language, State, text_of
from tests.judge.delivery_kit import Kit, Materials, given, reports_of
from tests.judge.delivery_nodes import Ask, Workshop

HARBOUR = Language(
    name="harbour",
    system="You work for the harbour office of Lindmouth. Use only what you are given, and never guess.",
    question="Question: Which cranes, berths and pumps must be mended before the winter storms?",
    role="You are the {name} on shift {number}.",
    limit="Write at most {words} words.",
    rules=(
        "Name every figure that you were given.",
        "Do not use lists.",
        "Write for the harbour master.",
    ),
    facts=(
        "Crane {s} must be mended before winter and costs {v} pounds.",
        "The pump {s} failed its test at {v} litres a minute.",
        "Berth {s} has settled by {v} micrometres since spring.",
        "Nobody has signed for {s} since entry {v}.",
    ),
    subjects=("unit", "post", "line", "station"),
    prose=(
        (
            "the foreman",
            "a pilot",
            "the night shift",
            "an inspector",
            "the ferry crew",
            "a clerk",
            "the port doctor",
            "a diver",
        ),
        (
            "walked along",
            "looked at",
            "wrote about",
            "complained about",
            "remembered",
            "photographed",
            "cleaned",
            "asked about",
        ),
        (
            "the old quay",
            "the fish market",
            "the eastern mole",
            "a row of bollards",
            "the customs shed",
            "the lighthouse stairs",
            "a coil of rope",
            "the canteen",
        ),
        (
            "while the tide was out",
            "on a grey morning",
            "after the regatta",
            "without much hurry",
            "with two apprentices",
            "before the ferry left",
            "in the usual way",
            "because it rained",
        ),
    ),
    lead="This is the report of {name}.",
    agents=(
        "crane_inspector",
        "berth_surveyor",
        "pump_keeper",
        "pilot",
        "budget_clerk",
        "storm_watcher",
        "safety_officer",
        "harbour_master",
        "secretary",
        "dredger",
        "customs_agent",
        "archivist",
        "quay_planner",
        "diver_chief",
    ),
)

WATERWORKS = Language(
    name="waterworks",
    system="Du arbeitest im Wasserwerk Grünau. Verwende nur, was dir vorliegt, und rate nie.",
    question="Frage: Welche Leitungen und Brunnen sollen im nächsten Jahr erneuert werden?",
    role="Du bist {name} im Team {number}.",
    limit="Schreibe höchstens {words} Wörter.",
    rules=(
        "Nenne jede Zahl, die dir vorliegt.",
        "Antworte auf Deutsch.",
        "Schreibe für den Gemeinderat.",
    ),
    facts=(
        "Die Leitung {s} muss erneuert werden und kostet {v} Euro.",
        "Der Brunnen {s} liefert nur noch {v} Liter in der Stunde.",
        "Am Schieber {s} wurden {v} Tropfen gezählt.",
    ),
    subjects=("Nord", "Süd", "Hang", "Ufer"),
    prose=(
        (
            "der Meister",
            "eine Ingenieurin",
            "der Lehrling",
            "die Frühschicht",
            "ein Anwohner",
            "die Buchhaltung",
        ),
        (
            "besichtigte gestern",
            "beschrieb ausführlich",
            "erinnerte sich gern an",
            "fotografierte erneut",
            "lobte nebenbei",
            "säuberte am Abend",
        ),
        (
            "das alte Pumpenhaus",
            "den Zaun am Hochbehälter",
            "die Zufahrt zum Wald",
            "das neue Formular",
            "den Parkplatz",
            "die Hecke hinter dem Labor",
        ),
        (
            "bei leichtem Regen",
            "ohne besonderen Anlass",
            "wie in jedem Herbst",
            "nach der Mittagspause",
            "zusammen mit Gästen",
            "trotz der Kälte",
        ),
    ),
    lead="Dies ist der Bericht von {name}.",
    agents=(
        "Rohrmeister",
        "Brunnenwart",
        "Laborleitung",
        "Kassenwart",
        "Planungsamt",
        "Bauhof",
        "Vermessung",
        "Netzwarte",
        "Gemeinderat",
        "Schriftführung",
        "Umweltamt",
        "Werkleitung",
        "Ableser",
        "Störungsdienst",
    ),
)

OPERATIONS = Language(
    name="operations",
    system="You are part of the on-call team of a payment service. Be exact and brief.",
    question="Incident review: what broke last night, in which order, and what is to be done first?",
    role="Act as {name} (rota {number}).",
    limit="Keep it under 180 words: at most {words} words.",
    rules=("Quote identifiers exactly.", "Mention what is unknown.", "No greetings."),
    facts=(
        "Host {s} dropped {v} packets before the failover.",
        "Change {s} raised the queue to {v} entries.",
        "Shard {s} was restored after {v} seconds.",
        "Only {s} answered, with code {v}.",
    ),
    subjects=("eu", "us", "ap", "edge"),
    prose=(
        (
            "the dashboard",
            "a colleague",
            "the rota",
            "a customer",
            "the wiki",
            "our vendor",
            "the weekly call",
            "an older ticket",
        ),
        (
            "hinted at",
            "described",
            "repeated",
            "left out",
            "praised",
            "quoted",
            "questioned",
            "summarised",
        ),
        (
            "the usual noise",
            "a slow afternoon",
            "the new office",
            "some green checks",
            "the holiday plan",
            "a renamed service",
            "the training slides",
            "an archived channel",
        ),
        (
            "in passing",
            "for the third time",
            "with good humour",
            "without any detail",
            "as expected",
            "late in the day",
            "over coffee",
            "for completeness",
        ),
    ),
    lead="Summary by {name}.",
    agents=(
        "triage",
        "database_lead",
        "network_lead",
        "release_lead",
        "customer_desk",
        "incident_commander",
        "scribe",
        "security_lead",
        "capacity_planner",
        "storage_lead",
        "vendor_desk",
        "risk_reviewer",
        "frontend_lead",
        "postmortem_editor",
    ),
)

LANGUAGES = (HARBOUR, WATERWORKS, OPERATIONS)


# --- layouts -------------------------------------------------------------------------------------


def tagged(agent: Agent, materials: Materials) -> list[BaseMessage]:
    """Material in tags, what is asked behind it."""
    body = "\n".join(f'<document name="{n}">\n{t}\n</document>' for n, t in materials)
    asked = "\n\n".join(
        [*([body] if body else []), agent.question, f"{agent.role} {agent.rules}".strip()]
    )
    return [SystemMessage(agent.system), HumanMessage(asked)]


def headed(agent: Agent, materials: Materials) -> list[BaseMessage]:
    """What is asked first, material under headings."""
    parts = [
        agent.question,
        *(f"## {n}\n\n{t}" for n, t in materials),
        "## Task",
        f"{agent.role}\n{agent.rules}".strip(),
    ]
    return [SystemMessage(agent.system), HumanMessage("\n\n".join(parts))]


def several(agent: Agent, materials: Materials) -> list[BaseMessage]:
    """A message for each piece of material; the role is the system's."""
    each = [HumanMessage(f"Material '{n}':\n{t}") for n, t in materials]
    return [
        SystemMessage(f"{agent.system}\n{agent.role}"),
        *each,
        HumanMessage(f"{agent.question}\n{agent.rules}".strip()),
    ]


def one_text(agent: Agent, materials: Materials) -> list[BaseMessage]:
    """One message without a system."""
    body = "\n\n".join(f"{n}:\n{t}" for n, t in materials)
    begin = f"{agent.system}\n{agent.role}\n{agent.question}\n{agent.rules}".strip()
    return [HumanMessage(f"{begin}\n\n{body}".strip())]


LAYOUTS = (tagged, headed, several, one_text)


# --- schemas -------------------------------------------------------------------------------------


class Rating(BaseModel):
    """A decision."""

    choice: Literal["now", "later", "never"]
    reason: str
    confidence: int = Field(ge=1, le=10)


class Measure(BaseModel):
    what: str
    urgency: Literal["high", "low"]


class Programme(BaseModel):
    """What is to be done."""

    title: str
    measures: list[Measure] = Field(min_length=2, max_length=5)
    summary: str


FINDINGS = {
    "title": "Findings",
    "description": "What was found.",
    "type": "object",
    "properties": {
        "verdict": {"type": "string", "enum": ["safe", "unsafe"]},
        "evidence": {"type": "array", "items": {"type": "string"}, "minItems": 2},
        "remarks": {"type": "string"},
    },
    "required": ["verdict", "evidence", "remarks"],
}

SCHEMAS: Sequence[Any] = (Rating, Programme, FINDINGS)


def route_to(workers: Sequence[str]) -> type[BaseModel]:
    """Return a supervisor's schema."""
    return model_of("Route", next=(Literal[tuple(workers)], ...), reason=(str, ...))


# --- shapes --------------------------------------------------------------------------------------


def chain(kit: Kit) -> App:
    """One after the other; each reads documents, or everybody before."""
    names = [kit.agent(reads=3).name for _ in range(kit.rng.randint(2, 6))]
    papers = {n: kit.documents() for n in names[: max(1, len(names) // 2)]}
    for at, n in enumerate(names):
        kit.agents[n] = _reading(kit.agents[n], len(papers.get(n, names[:at])))

    def build(shop: Workshop) -> Any:
        graph = StateGraph(State)
        for at, n in enumerate(names):
            reads = (
                given(papers[n])
                if n in papers and at == 0
                else _both(papers.get(n, []), names[:at])
            )
            graph.add_node(n, shop.writer(n, reads))
            graph.add_edge(names[at - 1] if at else START, n)
        graph.add_edge(names[-1], END)
        return graph

    return kit.app("chain", build, names[-1])


def desk(kit: Kit) -> App:
    """Analysts side by side, a manager who reads them, one who decides as an object."""
    analysts = [kit.agent(reads=3).name for _ in range(kit.rng.randint(2, 7))]
    same = kit.documents() if kit.rng.random() < 0.5 else None
    papers = {n: same or kit.documents() for n in analysts}
    manager = kit.agent(reads=len(analysts)).name
    judge = kit.agent(schema=kit.rng.choice(SCHEMAS), reads=len(analysts) + 1, words=70).name

    def build(shop: Workshop) -> Any:
        graph = StateGraph(State)
        for n in analysts:
            graph.add_node(n, shop.writer(n, given(papers[n])))
            graph.add_edge(START, n)
        graph.add_node(manager, shop.writer(manager, reports_of(analysts)))
        graph.add_edge(analysts, manager)
        graph.add_node(judge, shop.decider(judge, reports_of([*analysts, manager])))
        graph.add_edge(manager, judge)
        graph.add_edge(judge, END)
        return graph

    return kit.app("desk", build, manager, parallel=len(analysts))


def debate(kit: Kit) -> App:
    """Analysts, then two or three who answer each other for some rounds, then a judge."""
    analysts = [kit.agent(reads=2).name for _ in range(kit.rng.randint(1, 3))]
    papers = {n: kit.documents(2) for n in analysts}
    rounds = kit.rng.randint(1, 3)
    speakers = [
        kit.agent(calls=rounds, reads=len(analysts) + 2).name for _ in range(kit.rng.randint(2, 3))
    ]
    judge = kit.agent(reads=len(analysts) + len(speakers) * rounds).name

    def build(shop: Workshop) -> Any:
        graph = StateGraph(State)
        for n in analysts:
            graph.add_node(n, shop.writer(n, given(papers[n])))
            graph.add_edge(START, n)

        def speaker(n: str) -> Any:
            def body(state: State) -> Generator[Ask, Any, Any]:
                said = state.get("said", [])
                materials = [*reports_of(analysts)(state), *said]
                answer = yield Ask(n, kit.agents[n].prompt(materials), key=str(len(said)))
                return {"said": [(n, text_of(answer))], "turn": len(said) + 1}

            return shop.node(body)

        def after(state: State) -> str:
            turn = len(state["said"])
            return speakers[turn % len(speakers)] if turn < rounds * len(speakers) else judge

        for n in speakers:
            graph.add_node(n, speaker(n))
            graph.add_conditional_edges(n, after, [*speakers, judge])
        graph.add_edge(analysts, speakers[0])
        graph.add_node(judge, shop.writer(judge, lambda s: [*reports_of(analysts)(s), *s["said"]]))
        graph.add_edge(judge, END)
        return graph

    return kit.app("debate", build, judge, parallel=len(analysts))


def searchers(kit: Kit) -> App:
    """One to three loops of tools side by side, and a writer who reads what they found."""
    count = kit.rng.randint(1, 3)
    finds: dict[str, list[str]] = {}
    for _ in range(count):
        searches = kit.rng.randint(1, 5)
        who = kit.agent(
            searches=searches, reads=searches, at_once=kit.rng.choice((1, 1, 2)), layout=tagged
        )
        finds[who.name] = [
            kit.document(kit.rng.choice((30, 120, 500)), kit.rng.randint(0, 2))
            for _ in range(searches)
        ]
    writer = kit.agent(reads=count).name

    def build(shop: Workshop) -> Any:
        graph = StateGraph(State)
        for n, found in finds.items():
            agent, tools, ask = _loop(shop, kit, n, found)
            graph.add_node(n, agent)
            graph.add_node(f"{n}_tools", tools)
            graph.add_edge(START, n)
            graph.add_conditional_edges(n, ask, [f"{n}_tools", writer])
            graph.add_edge(f"{n}_tools", n)
        graph.add_node(writer, shop.writer(writer, reports_of(list(finds))), defer=True)
        graph.add_edge(writer, END)
        return graph

    return kit.app("searchers", build, writer, parallel=count)


def _loop(shop: Workshop, kit: Kit, name: str, found: Sequence[str]) -> tuple[Any, Any, Any]:
    def search(query: str) -> str:
        """Search the archive of the house for a part of the question."""
        return ""

    def lookup(query: str) -> str:
        """Look a word up in the register."""
        return ""

    tools = [StructuredTool.from_function(search), StructuredTool.from_function(lookup)]
    model = shop.model(name).bind_tools(tools)

    def body(state: State) -> Generator[Ask, Any, Any]:
        thread = state.get("threads", {}).get(name, [])
        prompt = [*kit.agents[name].prompt([]), *thread]
        answer = yield Ask(name, prompt, key=str(len(thread)), model=model, form="tools")
        done = {} if answer.tool_calls else {"reports": {name: text_of(answer)}}
        return {"threads": {name: [answer]}, **done}

    def results(state: State) -> Any:
        last = state["threads"][name][-1]
        assert isinstance(last, AIMessage)
        texts = [
            shop.result_of(found[int((c["id"] or "").rsplit("-", 1)[-1]) % len(found)])
            for c in last.tool_calls
        ]
        told = [
            ToolMessage(t, tool_call_id=c["id"])
            for t, c in zip(texts, last.tool_calls, strict=True)
        ]
        return {"threads": {name: told}}

    writer = list(kit.agents)[-1]

    def after(state: State) -> str:
        last = state["threads"][name][-1]
        return f"{name}_tools" if getattr(last, "tool_calls", None) else writer

    return shop.node(body), results, after


def sections(kit: Kit) -> App:
    """A planner's object, a Send for each of its parts, and an editor."""
    count = kit.rng.randint(2, 5)
    schema = model_of(
        "Outline", title=(str, ...), parts=(list[str], Field(min_length=count, max_length=count))
    )
    planner = kit.agent(schema=schema, reads=1, words=40).name
    worker = kit.agent(calls=count, reads=1).name
    editor = kit.agent(reads=count).name
    brief = kit.documents(1)
    papers = [kit.document(kit.rng.randint(80, 500), kit.rng.randint(0, 3)) for _ in range(count)]

    def build(shop: Workshop) -> Any:
        graph = StateGraph(State)
        graph.add_node(planner, shop.decider(planner, given(brief)))

        def spread(state: State) -> list[Send]:
            parts = state["objects"][planner].parts
            return [
                Send(worker, {"item": str(n % count), "question": ""}) for n, _ in enumerate(parts)
            ]

        def body(state: State) -> Generator[Ask, Any, Any]:
            item = state["item"]
            prompt = kit.agents[worker].prompt([(f"part {item}", papers[int(item)])])
            answer = yield Ask(worker, prompt, key=item)
            return {"parts": [(f"part {item}", text_of(answer))]}

        graph.add_node(worker, shop.node(body))
        graph.add_node(editor, shop.writer(editor, lambda s: sorted(s["parts"])))
        graph.add_edge(START, planner)
        graph.add_conditional_edges(planner, spread, [worker])
        graph.add_edge(worker, editor)
        graph.add_edge(editor, END)
        return graph

    return kit.app("sections", build, editor, parallel=count)


def supervisor(kit: Kit) -> App:
    """A supervisor's object says who works next; the last one sums up."""
    workers = [kit.agent(reads=2).name for _ in range(kit.rng.randint(2, 5))]
    papers = {n: kit.documents(2) for n in workers}
    chief = kit.agent(
        schema=route_to(workers), calls=len(workers), reads=len(workers), words=30
    ).name
    last = kit.agent(reads=len(workers)).name

    def build(shop: Workshop) -> Any:
        graph = StateGraph(State)
        model = shop.structured(chief)

        def body(state: State) -> Generator[Ask, Any, Any]:
            done = state.get("reports", {})
            prompt = kit.agents[chief].prompt(reports_of(workers)(state))
            answer = yield Ask(chief, prompt, key=str(len(done)), model=model, form="object")
            left = [n for n in workers if n not in done]
            return {"next": answer.next if answer.next in left else left[0]}

        def after(state: State) -> str:
            return chief if len(state["reports"]) < len(workers) else last

        graph.add_node(chief, shop.node(body))
        graph.add_conditional_edges(chief, lambda s: s["next"], workers)
        for n in workers:
            graph.add_node(n, shop.writer(n, given(papers[n])))
            graph.add_conditional_edges(n, after, [chief, last])
        graph.add_node(last, shop.writer(last, reports_of(workers)))
        graph.add_edge(START, chief)
        graph.add_edge(last, END)
        return graph

    return kit.app("supervisor", build, last)


def teams(kit: Kit) -> App:
    """Two graphs inside a graph, side by side, and an editor."""
    teams = [[kit.agent(reads=2).name for _ in range(kit.rng.randint(2, 3))] for _ in range(2)]
    papers = {t[0]: kit.documents(2) for t in teams}
    editor = kit.agent(reads=2).name

    def build(shop: Workshop) -> Any:
        graph = StateGraph(State)
        for number, team in enumerate(teams):
            inner = StateGraph(State)
            for at, n in enumerate(team):
                inner.add_node(
                    n, shop.writer(n, _both(papers[team[0]], team[:at]) if at else given(papers[n]))
                )
                inner.add_edge(team[at - 1] if at else START, n)
            inner.add_edge(team[-1], END)
            graph.add_node(f"team_{number}", inner.compile())
            graph.add_edge(START, f"team_{number}")
        graph.add_node(editor, shop.writer(editor, reports_of([t[-1] for t in teams])))
        graph.add_edge(["team_0", "team_1"], editor)
        graph.add_edge(editor, END)
        return graph

    return kit.app("teams", build, editor, parallel=2)


def agents_of_langchain(kit: Kit) -> App:
    """create_agent as a node; in some, a tool asks a model that nobody staged; then a writer."""
    from langchain.agents import create_agent

    searches = kit.rng.randint(1, 5)
    who = kit.agent(searches=searches, reads=searches, foreign=True, layout=several)
    found = [
        kit.document(kit.rng.choice((40, 150, 500)), kit.rng.randint(0, 2)) for _ in range(searches)
    ]
    inside = (
        kit.agent(reads=1, calls=searches, words=40, foreign=True, hidden=True).name
        if kit.rng.random() < 0.3
        else None
    )
    last = kit.agent(reads=1).name
    asked = HumanMessage(f"{who.question}\n{who.rules}".strip())

    def build(shop: Workshop) -> Any:
        at = iter(range(10_000))

        def result() -> str:
            return shop.result_of(found[next(at) % len(found)])

        if inside is None:
            search = StructuredTool.from_function(
                lambda query: result(), name="search", description="Search the archive."
            )
        elif shop.is_async:

            async def asearch(query: str) -> str:
                """Search the archive, and sum up."""
                return text_of(
                    await shop.bare(inside).ainvoke(
                        kit.agents[inside].prompt([("found", result())])
                    )
                )

            search = StructuredTool.from_function(coroutine=asearch, name="search")
        else:

            def ssearch(query: str) -> str:
                """Search the archive, and sum up."""
                return text_of(
                    shop.bare(inside).invoke(kit.agents[inside].prompt([("found", result())]))
                )

            search = StructuredTool.from_function(ssearch, name="search")
        agent = create_agent(
            shop.model(who.name), [search], system_prompt=f"{who.system}\n{who.role}", name=who.name
        )
        graph = StateGraph(State)
        graph.add_node(who.name, agent)

        def body(state: State) -> Generator[Ask, Any, Any]:
            report = text_of(state["messages"][-1])
            answer = yield Ask(last, kit.agents[last].prompt([(who.name, report)]))
            return {"reports": {who.name: report, last: text_of(answer)}}

        graph.add_node(last, shop.node(body))
        graph.add_edge(START, who.name)
        graph.add_edge(who.name, last)
        graph.add_edge(last, END)
        return graph

    return kit.app("create_agent", build, last, inputs={"messages": [asked]})


def _reading(agent: Agent, count: int) -> Agent:
    return replace(agent, reads=max(1, count))


def _both(papers: Materials, names: Sequence[str]) -> Any:
    return lambda state: [*papers, *reports_of(names)(state)]


SHAPES = (chain, desk, debate, searchers, sections, supervisor, teams, agents_of_langchain)


def application(seed: int) -> App:
    """Return the application of a seed."""
    kit = Kit(seed, LANGUAGES, LAYOUTS)
    return SHAPES[seed % len(SHAPES)](kit)
