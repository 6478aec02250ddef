"""Prompts whose frame, what the caller says, stays: other fields, languages and templates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_FIELDS: Final = {
    "port": (
        "Berth {n} took the {a} from {b} after {n} hours of waiting for the tide.",
        ("ferry", "tanker", "barge", "trawler", "tug"),
        ("Bergen", "Gdansk", "Cork", "Vigo", "Split"),
        "The Halcyon lost its anchor off Stavanger because the winch had rusted through.",
        "Why did the Halcyon lose its anchor?",
    ),
    "clinic": (
        "Ward {n} moved the {a} to {b} when {n} beds were free on that floor.",
        ("patient", "scanner", "trolley", "monitor", "nurse"),
        ("radiology", "surgery", "oncology", "triage", "dialysis"),
        "Doctor Abara stopped the warfarin because the gums of the patient bled at night.",
        "Why did Doctor Abara stop the warfarin?",
    ),
    "küche": (
        "In Küche {n} stand {a} neben {b}, und das seit {n} Wochen.",
        ("Mehl", "Zucker", "Hefe", "Butter", "Salz"),
        ("dem Ofen", "der Waage", "dem Herd", "der Spüle", "dem Regal"),
        "Frau Lindemann warf den Sauerteig weg, weil der Deckel vom Glas gesprungen war.",
        "Warum warf Frau Lindemann den Sauerteig weg?",
    ),
    "huerto": (
        "El bancal {n} dio {a} cerca de {b} durante {n} semanas.",
        ("tomates", "judías", "cebollas", "pepinos", "ajos"),
        ("la fuente", "el muro", "la higuera", "el pozo", "la valla"),
        "Don Anselmo arrancó el limonero porque la helada de marzo quemó sus raíces.",
        "¿Por qué arrancó Don Anselmo el limonero?",
    ),
}


@dataclass(frozen=True)
class FramePrompt:
    """A prompt, the lines of its frame, and the sentence that answers it."""

    name: str
    text: str
    frame: tuple[str, ...]
    needle: str


def _sentences(field: str, count: int, offset: int = 0) -> list[str]:
    form, ones, others, needle, _ = _FIELDS[field]
    made = [
        form.format(n=(at * 7) % 90 + 2, a=ones[at % 5], b=others[(at * 3 + at // 5) % 5])
        for at in range(offset, offset + count)
    ]
    if not offset:
        made[count // 2] = needle
    return made


def _one(field: str, count: int = 40, offset: int = 0) -> str:
    return " ".join(_sentences(field, count, offset))


def _many(field: str, count: int = 12) -> list[str]:
    all_of = _sentences(field, 4 * count)
    return [" ".join(all_of[at : at + 4]) for at in range(0, len(all_of), 4)]


_RULES: Final = {
    "port": [
        "Greet the harbour master.", "Give times in UTC.", "Quote the berth.",
        "Leave out names of crew.", "Answer in two lines.", "Round tonnage to hundreds.",
    ],
    "clinic": [
        "Address the reader as a colleague.", "Give doses in milligrams.", "Cite the ward.",
        "Leave out dates of birth.", "Close with a full stop.", "Keep it under fifty words.",
    ],
    "küche": [
        "Duze den Leser.", "Mengen in Gramm angeben.", "Keine Marken nennen.",
        "Höchstens drei Sätze.", "Am Ende keine Floskel.", "Zahlen als Ziffern schreiben.",
    ],
    "huerto": [
        "Trata de usted al lector.", "Las medidas en metros.", "Sin nombres de marcas.",
        "Como mucho tres frases.", "Termina con un punto.", "Los números en cifras.",
    ],
}  # fmt: skip


def _marked(rules: list[str], style: str) -> list[str]:
    if style == "1.":
        return [f"{at}. {rule}" for at, rule in enumerate(rules, 1)]
    if style == "1)":
        return [f"{at}) {rule}" for at, rule in enumerate(rules, 1)]
    if style == "a)":
        return [f"{chr(96 + at)}) {rule}" for at, rule in enumerate(rules, 1)]
    return [f"{style}{rule}" for rule in rules]


def _prompt(name: str, field: str, *parts: str | list[str], asked: bool = True) -> FramePrompt:
    """Join *parts*; a part in a list is bulk, any other is frame."""
    text = "".join(part[0] if isinstance(part, list) else part for part in parts)
    frame = [
        line.strip()
        for part in parts
        if isinstance(part, str)
        for line in part.split("\n")
        if any(map(str.isalnum, line))
    ]
    needle = _FIELDS[field][3] if asked else ""
    return FramePrompt(name, text, tuple(frame), needle)


def _rule_prompts() -> Iterator[FramePrompt]:
    heads = {"port": "Rules:", "clinic": "# House rules", "küche": "Regeln:", "huerto": "## Reglas"}
    contexts = {
        "port": "Log:", "clinic": "# Chart", "küche": "Kontext:", "huerto": "## Cuaderno",
    }  # fmt: skip
    styles = ["1.", "1)", "a)", "- ", "* ", ""]
    for at, style in enumerate(styles):
        for shift, place in enumerate(("before", "after")):
            field = list(_FIELDS)[(at + 2 * shift + at // 2) % 4]
            rules = "\n".join(_marked(_RULES[field], style))
            is_one = (at + shift) % 2 == 0
            bulk = [_one(field)] if is_one else ["\n\n".join(_many(field))]
            asks = f"\n\n{_FIELDS[field][4]}"
            if place == "before":
                parts = (f"{heads[field]}\n{rules}\n\n{contexts[field]}\n", bulk, asks)
            else:
                parts = (f"{contexts[field]}\n", bulk, f"\n\n{heads[field]}\n{rules}{asks}")
            yield _prompt(f"rules {style or 'plain'} {place} {field}", field, *parts)


def _middle_prompts() -> Iterator[FramePrompt]:
    forms = ["Question: {} Reply in one sentence.", "{} One line only.", "<question>{}</question>",
             "Task: answer this. {}"]  # fmt: skip
    for at, field in enumerate(_FIELDS):
        form = forms[at].format(_FIELDS[field][4])
        yield _prompt(
            f"middle {field}", field, [_one(field, 24)], f"\n\n{form}\n\n", [_one(field, 24, 90)]
        )


def _template_prompts() -> Iterator[FramePrompt]:
    q = {field: values[4] for field, values in _FIELDS.items()}
    docs = {field: "\n\n".join(_many(field)) for field in _FIELDS}
    yield _prompt(
        "map",
        "port",
        "The following is a set of documents:\n",
        [docs["port"]],
        "\nBased on this list of docs, please identify the main themes\nHelpful Answer:",
        asked=False,
    )
    yield _prompt(
        "reduce",
        "clinic",
        "The following is set of summaries:\n",
        [docs["clinic"]],
        "\nTake these and distill it into a final, consolidated summary of the main themes.\n"
        "Helpful Answer:",
        asked=False,
    )
    yield _prompt(
        "refine",
        "port",
        "Produce a final summary.\nExisting summary up to this point:\n"
        "Ships wait for the tide.\n------------\n",
        [_one("port")],
        "\n------------\nGiven the new context, refine the original summary.",
        asked=False,
    )
    yield _prompt(
        "stuff",
        "port",
        "Use the following pieces of context to answer the question at the end. If you don't know "
        "the answer, just say that you don't know, don't try to make up an answer.\n\n",
        [_one("port")],
        f"\n\nQuestion: {q['port']}\nHelpful Answer:",
    )
    yield _prompt(
        "summary",
        "küche",
        'Write a concise summary of the following:\n\n"',
        [_one("küche")],
        '"\n\nCONCISE SUMMARY:',
        asked=False,
    )
    sources = "\n\n".join(f"Content: {t}\nSource: {at}-pl" for at, t in enumerate(_many("clinic")))
    yield _prompt(
        "stuff with sources",
        "clinic",
        "Given the following extracted parts of a long document and a question, create a final "
        'answer with references ("SOURCES").\nIf you don\'t know the answer, just say that you '
        'don\'t know.\nALWAYS return a "SOURCES" part in your answer.\n\n'
        f"QUESTION: {q['clinic']}\n=========\n",
        [sources],
        "\n=========\nFINAL ANSWER:",
    )
    tables = "\n\n".join(
        f"CREATE TABLE {name} (\n  id INTEGER NOT NULL,\n  {name}_label TEXT,\n  owner_{at} "
        f"VARCHAR(40),\n  amount_{at} NUMERIC(10, 2),\n  created_{at} DATE,\n  PRIMARY KEY (id)\n)"
        for at, name in enumerate(
            [
                "berths",
                "tides",
                "crews",
                "cargo",
                "winches",
                "pilots",
                "lamps",
                "cranes",
                "fees",
                "moorings",
                "radios",
                "buoys",
            ]
        )
    )
    yield _prompt(
        "sql",
        "port",
        "You are a SQLite expert. Given an input question, first create a syntactically correct "
        "SQLite query to run, then look at the results and return the answer.\n"
        "Unless the user asks for a specific number of examples, query for at most 5 results using "
        "the LIMIT clause. You can order the results.\n"
        "Never query for all columns from a table. Wrap each column name in double quotes.\n"
        "Pay attention to use only the column names you can see in the tables below.\n"
        "Pay attention to use date('now') if the question involves today.\n\n"
        "Use the following format:\n\nQuestion: Question here\nSQLQuery: SQL Query to run\n"
        "SQLResult: Result of the SQLQuery\nAnswer: Final answer here\n\n"
        "Only use the following tables:\n",
        [tables],
        "\n\nQuestion: How many cranes are there?",
        asked=False,
    )
    react = (
        "Use the following format:\n\nQuestion: the input question you must answer\n"
        "Thought: you should always think about what to do\n"
        "Action: the action to take, should be one of the tools\n"
        "Action Input: the input to the action\nObservation: the result of the action\n"
        "... (this Thought/Action/Action Input/Observation can repeat N times)\n"
        "Thought: I now know the final answer\n"
        "Final Answer: the final answer to the original input question\n\nBegin!\n\n"
    )
    steps = "\n".join(
        f"Thought: look at log {at}\nAction: search\nAction Input: log {at}\nObservation: {text}"
        for at, text in enumerate(_many("clinic", 10))
    )
    yield _prompt(
        "react",
        "clinic",
        "Answer the following questions as best you can. You have access to the "
        "following tools:\n\nsearch: finds pages of a chart\nsum: adds numbers\n\n"
        + react
        + f"Question: {q['clinic']}\n",
        [steps],
        "\nThought:",
    )
    many_tools = "\n".join(
        f"{name}_{verb}: {verb}s a {name} of the harbour by its number and tells what became of it"
        for name in ["berth", "tide", "crew", "cargo", "winch", "pilot"]
        for verb in ["find", "count", "move"]
    )
    yield _prompt(
        "react tools",
        "port",
        "Answer the following questions as best you can. You have access to "
        "the following tools:\n\n",
        [many_tools],
        "\n\n" + react + f"Question: {q['port']}\nThought:",
        asked=False,
    )
    shots = "\n".join(
        f"Question: Who was older, captain {a} or captain {b}?\nAre follow up questions needed "
        f"here: Yes.\nFollow up: How old was captain {a}?\nIntermediate answer: {n}.\n"
        f"So the final answer is: captain {a}\n"
        for n, (a, b) in enumerate(
            zip(
                ["Ahab", "Bligh", "Cook", "Drake", "Evans"],
                ["Flint", "Gray", "Hook", "Ives", "Jones"],
                strict=True,
            ),
            60,
        )
    )
    yield _prompt(
        "self-ask",
        "port",
        "",
        [shots],
        "\nQuestion: Who was older, Nelson or Raleigh?\nAre follow up questions needed here:",
        asked=False,
    )
    routes = "\n".join(
        f"desk {at}: Good for questions about {t.split(' took ')[0].lower()} and the "
        "papers that go with it"
        for at, t in enumerate(_sentences("port", 24, 1))
    )
    yield _prompt(
        "router",
        "port",
        "Given a raw text input to a language model select the model prompt best "
        "suited for the input.\nReturn a markdown code snippet with a JSON object.\n"
        'REMEMBER: "destination" MUST be one of the candidates.\n\n<< CANDIDATE PROMPTS >>\n',
        [routes],
        "\n\n<< INPUT >>\nWho pays for berth 9?\n\n<< OUTPUT >>",
        asked=False,
    )
    yield _prompt(
        "extraction",
        "huerto",
        "Extract and save the relevant entities mentioned in the following "
        "passage together with their properties.\n\nOnly extract the properties mentioned.\n"
        "If a property is not required, leave it out.\n\nPassage:\n",
        [_one("huerto")],
        "",
        asked=False,
    )
    yield _prompt(
        "rag chat",
        "huerto",
        "You are an assistant for question-answering tasks. Use three "
        f"sentences maximum and keep the answer concise.\nQuestion: {q['huerto']} \nContext: ",
        [_one("huerto")],
        " \nAnswer:",
    )


def _other_prompts() -> Iterator[FramePrompt]:
    q = {field: values[4] for field, values in _FIELDS.items()}
    for sign, field in (("⭐ ", "port"), ("★ ", "clinic"), ("→ ", "küche"), ("> ", "huerto")):
        lines = "\n".join(sign + line for line in _sentences(field, 40))
        yield _prompt(f"sign {sign.strip()}", field, [lines], f"\n{q[field]}")
    for field, tail in (
        ("port", "Now write a summary."), ("clinic", "List what went wrong, as JSON."),
        ("küche", "Schreibe daraus eine Notiz."), ("huerto", "Resume lo anterior en dos líneas."),
    ):  # fmt: skip
        yield _prompt(f"closing {field}", field, [_one(field)], f"\n{tail}", asked=False)
    table = "| berth | ship |\n|---|---|\n| 4 | Halcyon |\n| 9 | Petrel |"
    yield _prompt(
        "table in filler",
        "port",
        "Answer from the notes.\n\n",
        [_one("port", 20)],
        "",
        [f"\n\n{table}\n\n"],
        [_one("port", 20, 90)],
        f"\n\n{q['port']}",
    )
    yield _prompt(
        "letters",
        "clinic",
        "Answer each:\n"
        f"a) {q['clinic']}\n"
        "b) Which drug was it?\n"
        "c) When did the gums bleed?\n\nChart:\n",
        [_one("clinic")],
        "",
    )
    yield _prompt(
        "tags",
        "huerto",
        "<reglas>\n1. Sin rodeos.\n2. En cifras.\n3. De usted.\n</reglas>\n<cuaderno>\n",
        [_one("huerto")],
        f"\n</cuaderno>\n<pregunta>{q['huerto']}</pregunta>",
    )
    yield _prompt(
        "role",
        "küche",
        "# Rolle\nDu hilfst in der Küche.\n\n# Regeln\n1. Duze.\n2. Kurz.\n"
        "3. In Gramm.\n4. Ohne Marken.\n\n# Wissen\n",
        [_one("küche")],
        f"\n\n# Frage\n{q['küche']}",
    )
    yield _prompt(
        "numbered docs",
        "port",
        "Rules:\n1. Reply in verse.\n2. Name the berth.\n3. No dates.\n\nDocuments:\n",
        ["\n".join(f"[{at}] {t}" for at, t in enumerate(_many("port"), 1))],
        f"\n\n{q['port']}",
    )
    yield _prompt(
        "plain",
        "clinic",
        "You help a ward.\n\nBe kind.\n\nBe brief.\n\n",
        [_one("clinic")],
        f"\n\n{q['clinic']}\n\nAnswer in Welsh.",
    )


def _later_prompts() -> Iterator[FramePrompt]:
    """Written after the rule, and first run then."""
    q = {field: values[4] for field, values in _FIELDS.items()}
    rules = {
        (field, style): "\n".join(_marked(_RULES[field], style))
        for field in _FIELDS
        for style in ("- ", "1.", "1)", "")
    }
    half = _many("clinic")
    yield _prompt(
        "middle of many", "clinic", ["\n\n".join(half[:6])],
        f"\n\nFrage: {q['clinic']} One word.\n\n", ["\n\n".join(half[6:])],
    )  # fmt: skip
    yield _prompt(
        "both ends", "port", f"Rules:\n{rules['port', '1)']}\n\n", ["\n\n".join(_many("port"))],
        "\n\nChecklist before you answer:\n1) Is it UTC?\n2) Is it short?\n3) Is it signed?\n\n"
        + q["port"],
    )  # fmt: skip
    yield _prompt(
        "json form", "huerto",
        'Contesta en JSON:\n{"causa": "...", "fecha": "..."}\n\nCuaderno:\n',
        [_one("huerto")], f"\n\n{q['huerto']}",
    )  # fmt: skip
    yield _prompt(
        "bold heads", "clinic", f"**Rules**\n{rules['clinic', '1.']}\n\n**Chart**\n",
        [_one("clinic")], f"\n\n**Question**\n{q['clinic']}",
    )  # fmt: skip
    yield _prompt(
        "capitals", "port", f"INSTRUCTIONS\n{rules['port', '']}\n\nDOCUMENT\n",
        ["\n\n".join(_many("port"))], f"\n\nQUESTION\n{q['port']}",
    )  # fmt: skip
    yield _prompt(
        "list and list", "huerto", f"Reglas:\n{rules['huerto', '- ']}\n\nNotas:\n",
        ["\n".join(f"- {line}" for line in _sentences("huerto", 40))], f"\n\n{q['huerto']}",
    )  # fmt: skip
    yield _prompt(
        "quoted", "küche", 'Übersetze ins Dänische. Behalte die Anrede bei.\n\n"""\n',
        [_one("küche")], '\n"""\n\nGib nur die Übersetzung aus.', asked=False,
    )  # fmt: skip
    yield _prompt(
        "fields", "küche", "Rolle: Koch\nTon: knapp\nFormat: JSON\n\n", [_one("küche")],
        f"\n\nAufgabe: {q['küche']}\nSprache: Deutsch",
    )  # fmt: skip
    stars = "\n".join(f"⭐{'⭐' * (at % 3)} {s}" for at, s in enumerate(_sentences("port", 40)))
    yield _prompt("stars", "port", "Reviews:\n", [stars], f"\n{q['port']}")


FRAME_PROMPTS: Final = (
    *_rule_prompts(), *_middle_prompts(), *_template_prompts(),
    *_other_prompts(), *_later_prompts(),
)  # fmt: skip


def system_prompts() -> Iterator[FramePrompt]:
    """System messages that set rules, and then hold what the question is about."""
    heads = ["# Knowledge base", "Chart:", "<wissen>", "## Cuaderno", "# Log", "## FAQ", "Wissen:"]
    heads += ["# Lo que sabes"]
    for at, head in enumerate(heads):
        field = list(_FIELDS)[at % 4]
        bulk = _one(field) if at % 2 == at // 4 % 2 else "\n\n".join(_many(field))
        rules = "\n".join(_marked(_RULES[field], ["- ", "1.", ""][at % 3]))
        end = f"\n</{head[1:-1]}>" if head.startswith("<") else ""
        yield _prompt(f"system {head}", field, f"{rules}\n\n{head}\n", [bulk], end)


def question_of(prompt: FramePrompt) -> str:
    """Return what is asked about the field of a prompt."""
    return next(field[4] for field in _FIELDS.values() if field[3] == prompt.needle)
