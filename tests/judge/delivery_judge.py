"""Applications to judge by: hand-offs, critics, graphs called in nodes, trees of Sends, old turns.

Whoever builds does not look at it, nor tune on it. Shapes, fields, languages, layouts and schemas are
not those of the other half.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any, Literal

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.tools import StructuredTool
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from tests.judge.delivery_apps import Agent, App, Language, State, text_of
from tests.judge.delivery_kit import Kit, Materials, given, reports_of
from tests.judge.delivery_nodes import Ask, Workshop, said_in

VINEYARD = Language(
    name="vineyard",
    system="Tu conseilles le domaine de Saint-Arnac. Ne te fonde que sur les pièces jointes.",
    question="Quelles parcelles et quelles cuves faut-il traiter avant les vendanges ?",
    role="Tu interviens comme {name} (dossier {number}).",
    limit="Réponds en {words} mots au plus.",
    rules=("Donne chaque chiffre.", "Ne fais pas de liste.", "Adresse-toi au propriétaire."),
    facts=(
        "La parcelle {s} demande un traitement à {v} euros.",
        "La cuve {s} a perdu {v} litres.",
        "Rien n'a été relevé en {s} depuis la note {v}.",
    ),
    subjects=("coteau", "vallon", "clos", "chai"),
    prose=(
        (
            "le maître de chai",
            "une stagiaire",
            "le voisin",
            "la coopérative",
            "un courtier",
            "le facteur",
        ),
        (
            "a longuement regardé",
            "a décrit avec soin",
            "a photographié",
            "a oublié",
            "a repeint",
            "a mesuré deux fois",
        ),
        (
            "le vieux pressoir",
            "la grille du jardin",
            "les étiquettes de l'an passé",
            "le chemin du bas",
            "une pile de caisses",
            "le carnet de visites",
        ),
        (
            "après la pluie",
            "sans se presser",
            "comme chaque dimanche",
            "avec deux cousins",
            "avant le déjeuner",
            "malgré le vent",
        ),
    ),
    lead="Voici l'avis de {name}.",
    agents=(
        "oenologue",
        "vigneron",
        "chef_de_culture",
        "comptable",
        "tonnelier",
        "courtier",
        "laboratoire",
        "assureur",
        "notaire",
        "gerante",
        "meteo",
        "caviste",
        "syndic",
        "redacteur",
    ),
)

RAILWAY = Language(
    name="railway",
    system="ERES PARTE DEL CENTRO DE CONTROL FERROVIARIO DEL NORTE.\nResponde solo con lo que consta en los partes.",
    question="¿Qué trenes, agujas y señales hay que revisar esta semana, y por qué?",
    role="Tu puesto: {name}, turno {number}.",
    limit="Usa como máximo {words} palabras.",
    rules=(
        "Incluye todas las cifras.",
        "Escribe en tono neutro.",
        "Indica lo que falta por saber.",
    ),
    facts=(
        "La aguja {s} falló {v} veces en julio.",
        "El tren {s} circuló con {v} kilos de más.",
        "La señal {s} debe revisarse antes del parte {v}.",
    ),
    subjects=("línea", "vía", "ramal", "tramo"),
    prose=(
        (
            "el jefe de estación",
            "una maquinista",
            "el taller",
            "un viajero",
            "la brigada",
            "el telegrafista",
        ),
        (
            "comentó de pasada",
            "anotó con esmero",
            "recordó",
            "elogió",
            "fotografió",
            "barrió cerca de",
        ),
        (
            "el reloj del andén",
            "la cantina vieja",
            "un banco de madera",
            "los carteles nuevos",
            "la sombra del puente",
            "el libro de visitas",
        ),
        (
            "durante la siesta",
            "sin darle importancia",
            "como todos los lunes",
            "antes del relevo",
            "con buen humor",
            "pese al calor",
        ),
    ),
    lead="Informe de {name}.",
    agents=(
        "agujas",
        "senales",
        "material_rodante",
        "taller_norte",
        "trafico",
        "energia",
        "seguridad",
        "jefatura",
        "personal",
        "obras",
        "compras",
        "archivo",
        "estadistica",
        "portavoz",
    ),
)

LIBRARY = Language(
    name="library",
    system="你是市图书馆的工作人员。只能依据所给材料回答。",
    question="问题：哪些书库、书架和设备需要在年底前修缮？",
    role="你的岗位是{name}，编号{number}。",
    limit="全文不超过{words}字。",
    rules=("请写出所有数字。", "不要使用列表。", "请写给馆长。"),
    facts=("书架{s}需要修缮，费用为{v}元。", "设备{s}停用了{v}分钟。", "书库{s}的湿度读数为{v}。"),
    subjects=("东馆", "西馆", "地下", "阁楼"),
    prose=(
        ("馆员", "一位读者", "夜班同事", "志愿者", "清洁工", "摄影师"),
        ("昨天看了看", "仔细描述了", "想起了", "称赞了", "顺便打扫了", "再次提到"),
        ("门口的花坛", "旧报纸", "儿童角的地毯", "窗边的长椅", "新的海报", "茶水间"),
        ("在下雨的时候", "和往常一样", "午饭之后", "没有特别的原因", "与两位朋友一起", "闭馆之前"),
    ),
    lead="{name}的报告。",
    agents=(
        "采编部",
        "典藏部",
        "流通部",
        "古籍部",
        "设备科",
        "财务科",
        "保卫科",
        "后勤科",
        "读者部",
        "信息部",
        "研究室",
        "办公室",
        "副馆长",
        "馆长室",
    ),
    joint="",
    end="。",
)

TRIAL = Language(
    name="trial",
    system="1. You assist a medical ethics board.\n2. Cite the file only.\n3. Do not speculate.",
    question="Which participants, doses and devices of the study need the board's attention, and in what order?",
    role="Speak for {name}; mandate {number}.",
    limit="No more than {words} words, please.",
    rules=(
        "Spell out each number as it stands in the file.",
        "Use plain English.",
        "State doubts openly.",
    ),
    facts=(
        "Participant {s} received {v} micrograms by mistake.",
        "Device {s} stopped after {v} hours.",
        "Consent form {s} is missing page {v}.",
    ),
    subjects=("arm", "site", "ward", "cohort"),
    prose=(
        (
            "the coordinator",
            "a visiting nurse",
            "the sponsor",
            "one of the reviewers",
            "the pharmacy",
            "the registrar",
        ),
        (
            "thanked",
            "briefly met",
            "wrote to",
            "waited for",
            "agreed with",
            "had tea with",
        ),
        (
            "the members of the panel",
            "a retired colleague",
            "the people at the front desk",
            "the translators",
            "a group of students",
            "the archive staff",
        ),
        (
            "as planned",
            "on the second floor",
            "without incident",
            "during the open day",
            "after the holiday",
            "in a friendly manner",
        ),
    ),
    lead="{name} states the following.",
    agents=(
        "statistics",
        "pharmacology",
        "patients_voice",
        "law",
        "nursing",
        "device_safety",
        "data_protection",
        "sponsor_liaison",
        "site_audit",
        "chair",
        "rapporteur",
        "paediatrics",
        "insurance",
        "registry",
    ),
)

LANGUAGES = (VINEYARD, RAILWAY, LIBRARY, TRIAL)


# --- layouts -------------------------------------------------------------------------------------


def as_json(agent: Agent, materials: Materials) -> list[BaseMessage]:
    """Material as a JSON list between question and role."""
    rows = [{"source": n, "text": t} for n, t in materials]
    body = json.dumps(rows, ensure_ascii=False, indent=1)
    parts = [agent.question, *([body] if rows else []), f"{agent.role}\n{agent.rules}".strip()]
    return [SystemMessage(agent.system), HumanMessage("\n\n".join(parts))]


def numbered(agent: Agent, materials: Materials) -> list[BaseMessage]:
    """Material as numbered passages; the role first, the question last."""
    body = [f"[{at}] ({n}) {t}" for at, (n, t) in enumerate(materials, start=1)]
    parts = [agent.role, *body, f"{agent.rules}\n{agent.question}".strip()]
    return [SystemMessage(agent.system), HumanMessage("\n".join(parts))]


def turns(agent: Agent, materials: Materials) -> list[BaseMessage]:
    """Material as what was said before in a conversation."""
    old: list[BaseMessage] = []
    for n, t in materials:
        old += [HumanMessage(f"{n}?"), AIMessage(t)]
    return [
        SystemMessage(f"{agent.role}\n\n{agent.system}"),
        *old,
        HumanMessage(f"{agent.question} {agent.rules}".strip()),
    ]


def blocks(agent: Agent, materials: Materials) -> list[BaseMessage]:
    """Content in blocks, one for each source, and the task between rules."""
    content: list[str | dict[str, Any]] = [
        {"type": "text", "text": f"<source id='{n}'>\n{t}\n</source>"} for n, t in materials
    ]
    task = f"\n-----\n{agent.question}\n{agent.role}\n{agent.rules}\n-----"
    content.append({"type": "text", "text": task})
    return [SystemMessage(agent.system), HumanMessage(content)]


LAYOUTS = (as_json, numbered, turns, blocks)


# --- schemas -------------------------------------------------------------------------------------


class Score(BaseModel):
    """A critic's verdict."""

    score: int = Field(ge=1, le=10)
    remarks: list[str]


class Dose(BaseModel):
    label: str
    amount: int


class Dossier(BaseModel):
    """A file with parts in parts."""

    status: Literal["open", "closed", "void"]
    first: Dose
    others: list[Dose] = Field(min_length=1)
    note: str | None = None


class Verdict(TypedDict):
    """A verdict with its grounds."""

    outcome: Literal["pass", "fail", "defer"]
    grounds: list[str]
    dissent: str


class Approve(BaseModel):
    """Approve the matter."""

    reason: str


class Reject(BaseModel):
    """Send the matter back."""

    reason: str
    missing: list[str]


SCHEMAS: Sequence[Any] = (Dossier, Verdict, Score)


# --- shapes --------------------------------------------------------------------------------------


def handoffs(kit: Kit) -> App:
    """Specialists who hand over to each other by Command; some speak twice."""
    names = [kit.agent().name for _ in range(kit.rng.randint(2, 6))]
    again = kit.rng.sample(names, kit.rng.randint(0, min(2, len(names) - 1)))
    order = [*names, *again]
    for n in names:
        kit.agents[n] = replace(kit.agents[n], calls=order.count(n), reads=3)
    papers = {n: kit.documents(2) for n in names}
    last = kit.agent(reads=len(order)).name

    def build(shop: Workshop) -> Any:
        graph = StateGraph(State)

        def specialist(n: str) -> Any:
            def body(state: State) -> Generator[Ask, Any, Any]:
                said = state.get("said", [])
                materials = [*papers[n], *said[-2:]]
                answer = yield Ask(n, kit.agents[n].prompt(materials), key=str(len(said)))
                at = len(said) + 1
                goto = order[at] if at < len(order) else last
                return Command(goto=goto, update={"said": [(n, text_of(answer))]})

            return shop.node(body)

        for n in names:
            graph.add_node(n, specialist(n), destinations=(*names, last))
        graph.add_edge(START, order[0])
        graph.add_node(last, shop.writer(last, lambda s: s["said"]))
        graph.add_edge(last, END)
        return graph

    return kit.app("hand-offs", build, last)


def critic(kit: Kit) -> App:
    """A draft, a critic's score, and rewriting until the score is good or three are written."""
    rounds = kit.rng.randint(1, 3)
    papers = kit.documents()
    writer = kit.agent(calls=rounds, reads=len(papers) + 2).name
    judge = kit.agent(schema=Score, calls=rounds, words=40, reads=1).name
    last = kit.agent(reads=1).name

    def build(shop: Workshop) -> Any:
        graph = StateGraph(State)
        model = shop.structured(judge)

        def write(state: State) -> Generator[Ask, Any, Any]:
            turn = state.get("turn", 0)
            notes = [(n, t) for n, t in state.get("reports", {}).items() if n in (writer, judge)]
            answer = yield Ask(writer, kit.agents[writer].prompt([*papers, *notes]), key=str(turn))
            return {"reports": {writer: text_of(answer)}, "turn": turn + 1}

        def assess(state: State) -> Generator[Ask, Any, Any]:
            prompt = kit.agents[judge].prompt(reports_of([writer])(state))
            answer = yield Ask(judge, prompt, key=str(state["turn"]), model=model, form="object")
            good = answer.score >= 8
            return {"reports": {judge: said_in(answer)}, "next": "good" if good else "again"}

        def after(state: State) -> str:
            return last if state["next"] == "good" or state["turn"] >= rounds else writer

        graph.add_node(writer, shop.node(write))
        graph.add_node(judge, shop.node(assess))
        graph.add_node(last, shop.writer(last, reports_of([writer])))
        graph.add_edge(START, writer)
        graph.add_edge(writer, judge)
        graph.add_conditional_edges(judge, after, [writer, last])
        graph.add_edge(last, END)
        return graph

    return kit.app("critic", build, last)


def nested(kit: Kit) -> App:
    """A node that calls a graph inside, beside a graph with a graph in it; then an editor."""
    inside = [kit.agent(reads=2, hidden=True).name for _ in range(kit.rng.randint(2, 3))]
    deep = [kit.agent(reads=2).name for _ in range(2)]
    papers = {n: kit.documents(2) for n in [inside[0], *deep]}
    editor = kit.agent(reads=3).name

    def build(shop: Workshop) -> Any:
        called = StateGraph(State)
        for at, n in enumerate(inside):
            reads = given(papers[n]) if at == 0 else reports_of(inside[:at])
            called.add_node(n, shop.writer(n, reads))
            called.add_edge(inside[at - 1] if at else START, n)
        called.add_edge(inside[-1], END)
        inner = called.compile()

        def bureau(state: State) -> Any:
            return {"reports": inner.invoke({"question": state["question"]})["reports"]}

        async def abureau(state: State) -> Any:
            return {"reports": (await inner.ainvoke({"question": state["question"]}))["reports"]}

        low = StateGraph(State)
        low.add_node(deep[0], shop.writer(deep[0], given(papers[deep[0]])))
        low.add_edge(START, deep[0])
        low.add_edge(deep[0], END)
        high = StateGraph(State)
        high.add_node("below", low.compile())
        high.add_node(
            deep[1], shop.writer(deep[1], lambda s: [*papers[deep[1]], *reports_of(deep[:1])(s)])
        )
        high.add_edge(START, "below")
        high.add_edge("below", deep[1])
        high.add_edge(deep[1], END)
        graph = StateGraph(State)
        graph.add_node("bureau", abureau if shop.is_async else bureau)
        graph.add_node("house", high.compile())
        graph.add_node(editor, shop.writer(editor, reports_of([inside[-1], deep[1]])))
        graph.add_edge(START, "bureau")
        graph.add_edge(START, "house")
        graph.add_edge(["bureau", "house"], editor)
        graph.add_edge(editor, END)
        return graph

    return kit.app("nested", build, editor, parallel=2)


def react(kit: Kit) -> App:
    """create_agent that must end with an object of a schema, several tools at once; then a writer."""
    from langchain.agents import create_agent

    searches = kit.rng.randint(1, 6)
    who = kit.agent(
        searches=searches,
        at_once=kit.rng.choice((1, 2, 3)),
        reads=searches,
        foreign=True,
        layout=turns,
        schema=kit.rng.choice((Dossier, Score)),
        words=60,
    )
    found = [
        kit.document(kit.rng.choice((20, 200, 700)), kit.rng.randint(0, 2)) for _ in range(searches)
    ]
    last = kit.agent(reads=1).name
    asked = HumanMessage(f"{who.question} {who.rules}".strip())

    def build(shop: Workshop) -> Any:
        at = iter(range(10_000))
        tools = [
            StructuredTool.from_function(
                lambda query: shop.result_of(found[next(at) % len(found)]), name=n, description=d
            )
            for n, d in (
                ("registry", "Look up an entry."),
                ("full_text", "Search all files for words; returns passages."),
            )
        ]
        agent = create_agent(
            shop.model(who.name),
            tools,
            system_prompt=f"{who.role}\n\n{who.system}",
            response_format=who.schema,
            name=who.name,
        )
        graph = StateGraph(State)
        graph.add_node(who.name, agent)

        def body(state: State) -> Generator[Ask, Any, Any]:
            answer = state.get("structured_response")
            report = said_in(answer)
            told = yield Ask(last, kit.agents[last].prompt([(who.name, report)]))
            return {"objects": {who.name: answer}, "reports": {last: text_of(told)}}

        graph.add_node(last, shop.node(body))
        graph.add_edge(START, who.name)
        graph.add_edge(who.name, last)
        graph.add_edge(last, END)
        return graph

    return kit.app("react", build, last, inputs={"messages": [asked]})


def layers(kit: Kit) -> App:
    """A random graph in layers without cycles; some answer with objects."""
    rows = [
        [
            kit.agent(schema=kit.rng.choice(SCHEMAS), words=50).name
            if kit.rng.random() < 0.25
            else kit.agent().name
            for _ in range(kit.rng.randint(1, 3))
        ]
        for _ in range(kit.rng.randint(2, 4))
    ]
    papers = {n: kit.documents(2) for n in rows[0]}
    reads: dict[str, list[str]] = {n: [] for n in rows[0]}
    for above, row in itertools.pairwise(rows):
        for n in row:
            reads[n] = kit.rng.sample(above, kit.rng.randint(1, len(above)))
    unread = [n for n in reads if not any(n in names for names in reads.values())]
    last = kit.agent(reads=len(unread)).name
    reads[last] = unread
    for n, names in reads.items():
        count = len(names) or len(papers[n])
        kit.agents[n] = replace(kit.agents[n], reads=count)

    def build(shop: Workshop) -> Any:
        graph = StateGraph(State)
        for n, names in reads.items():
            materials = reports_of(names) if names else given(papers[n])
            make = shop.decider if kit.agents[n].schema else shop.writer
            graph.add_node(n, make(n, materials))
            graph.add_edge(names or START, n)
        graph.add_edge(last, END)
        return graph

    return kit.app("layers", build, last, parallel=max(len(row) for row in rows))


def tree(kit: Kit) -> App:
    """Chapters by Send, and from each of them paragraphs by Send in a Command; an editor waits."""
    chapters, parts = kit.rng.randint(2, 3), kit.rng.randint(1, 3)
    chief = kit.agent(reads=1).name
    chapter = kit.agent(calls=chapters, reads=2, words=40).name
    paragraph = kit.agent(calls=chapters * parts, reads=1).name
    editor = kit.agent(reads=chapters * parts).name
    brief = kit.documents(1)
    papers = [
        kit.document(kit.rng.randint(60, 400), kit.rng.randint(0, 2))
        for _ in range(chapters * parts)
    ]

    def build(shop: Workshop) -> Any:
        graph = StateGraph(State)
        graph.add_node(chief, shop.writer(chief, given(brief)))

        def plan(state: State) -> Generator[Ask, Any, Any]:
            at = int(state["item"])
            answer = yield Ask(chapter, kit.agents[chapter].prompt(brief), key=state["item"])
            sends = [Send(paragraph, {"item": str(at * parts + n)}) for n in range(parts)]
            return Command(goto=sends, update={"said": [(chapter, text_of(answer))]})

        def write(state: State) -> Generator[Ask, Any, Any]:
            item = state["item"]
            prompt = kit.agents[paragraph].prompt([(item, papers[int(item)])])
            answer = yield Ask(paragraph, prompt, key=item)
            return {"parts": [(f"§{item}", text_of(answer))]}

        graph.add_node(chapter, shop.node(plan), destinations=(paragraph,))
        graph.add_node(paragraph, shop.node(write))
        graph.add_node(editor, shop.writer(editor, lambda s: sorted(s["parts"])), defer=True)
        graph.add_edge(START, chief)
        graph.add_conditional_edges(
            chief, lambda s: [Send(chapter, {"item": str(n)}) for n in range(chapters)], [chapter]
        )
        graph.add_edge(paragraph, editor)
        graph.add_edge(editor, END)
        return graph

    return kit.app("tree", build, editor, parallel=chapters * parts)


def panel(kit: Kit) -> App:
    """One node asks several at once, a second must call one of two tools, a third sums up."""
    voices = kit.rng.randint(2, 5)
    papers = [kit.documents(2) for _ in range(voices)]
    jury = kit.agent(calls=voices, reads=2).name
    clerk = kit.agent(options=(Approve, Reject), reads=voices, words=50).name
    last = kit.agent(reads=voices + 1).name

    def build(shop: Workshop) -> Any:
        graph = StateGraph(State)
        model = shop.model(clerk).bind_tools([Approve, Reject], tool_choice="any")

        def ask_all(state: State) -> Generator[Any, Any, Any]:
            asks = [
                Ask(jury, kit.agents[jury].prompt(material), key=str(n))
                for n, material in enumerate(papers)
            ]
            answers = yield asks
            return {"parts": [(f"{jury} {n}", text_of(a)) for n, a in enumerate(answers)]}

        def decide(state: State) -> Generator[Ask, Any, Any]:
            prompt = kit.agents[clerk].prompt(state["parts"])
            answer = yield Ask(clerk, prompt, model=model, form="tools")
            call = answer.tool_calls[0]
            return {"reports": {clerk: f"{call['name']}: {call['args']['reason']}"}}

        graph.add_node(jury, shop.node(ask_all))
        graph.add_node(clerk, shop.node(decide))
        graph.add_node(last, shop.writer(last, lambda s: [*s["parts"], *reports_of([clerk])(s)]))
        graph.add_edge(START, jury)
        graph.add_edge(jury, clerk)
        graph.add_edge(clerk, last)
        graph.add_edge(last, END)
        return graph

    return kit.app("panel", build, last, parallel=voices)


def chat(kit: Kit) -> App:
    """A long conversation: each turn carries all turns before, and a second agent takes minutes."""
    rounds = kit.rng.randint(2, 5)
    before = kit.documents()
    helper = kit.agent(calls=rounds, reads=len(before) + rounds, layout=turns).name
    minutes = kit.agent(reads=rounds).name

    def build(shop: Workshop) -> Any:
        graph = StateGraph(State)

        def body(state: State) -> Generator[Ask, Any, Any]:
            said = state.get("said", [])
            prompt = kit.agents[helper].prompt([*before, *said])
            answer = yield Ask(helper, prompt, key=str(len(said)))
            return {"said": [(f"turn {len(said) + 1}", text_of(answer))]}

        graph.add_node(helper, shop.node(body))
        graph.add_node(minutes, shop.writer(minutes, lambda s: s["said"]))
        graph.add_edge(START, helper)
        graph.add_conditional_edges(
            helper, lambda s: helper if len(s["said"]) < rounds else minutes, [helper, minutes]
        )
        graph.add_edge(minutes, END)
        return graph

    return kit.app("chat", build, minutes)


SHAPES = (handoffs, critic, nested, react, layers, tree, panel, chat)


def application(seed: int) -> App:
    """Return the application of a seed."""
    kit = Kit(100_000 + seed, LANGUAGES, LAYOUTS)
    return SHAPES[seed % len(SHAPES)](kit)
