"""Prompts of many kinds, each with what must be left of it: for one reading of all of them.

Each kind has cases in different fields and languages. Passages are made from a pattern of their
own, so that all are about one thing and only one of them answers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.prompt_values import ChatPromptValue, StringPromptValue

__all__ = ["CASES", "Reading"]

NAMES: Final = ("Alder", "Brook", "Cedar", "Dunmore", "Ember", "Fjord", "Grove", "Heath", "Isen",
                "Jarrow", "Kelso", "Lorne")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Reading:
    """A prompt, and what must be left of it in a share of its tokens."""

    prompt: Any
    keeps: Sequence[str]
    """The answer, the question or task, the rules."""
    share: float = 0.35
    loses: Sequence[str] = ()
    """What no question needs, though it may look like an instruction: it is there twice at most."""


@dataclass(frozen=True, slots=True)
class Field:
    """Passages about one thing in one language."""

    pattern: str
    """Of a passage; ``{name}``, ``{year}`` and ``{n}`` differ."""
    answer: str
    """The part of the pattern that answers."""
    ask: str
    """The question, with its mark."""
    task: str
    """The same as a task, without any question mark."""
    rule: str
    number: int = 7

    def filled(self, text: str) -> str:
        return self._with(text, self.number)

    def _with(self, text: str, n: int) -> str:
        return text.format(name=NAMES[n], year=1803 + 13 * n, n=21 + 2 * n)

    @property
    def passages(self) -> list[str]:
        return [self._with(self.pattern, n) for n in range(len(NAMES))]

    @property
    def page(self) -> str:
        return " ".join(self.passages)

    def keeps(self, *asked: str) -> list[str]:
        return [self.filled(part) for part in (self.answer, *asked)]


ENGLISH = Field(
    "The lighthouse of {name} stands on a cliff above the bay. It was first lit in {year} by a "
    "keeper from the village. Its lamp is seen from {n} miles away on clear nights. Boats must "
    "pass it on the east side. A small shop sells maps and postcards in summer.",
    "It was first lit in {year}",
    "When was the lighthouse of {name} first lit?",
    "State the year in which the lighthouse of {name} was first lit.",
    "Write one sentence without any adjective.",
)
FRENCH = Field(
    "La fromagerie de {name} se trouve au bord d'une rivière. Elle fut fondée en {year} par deux "
    "sœurs du village. On y affine {n} sortes de fromage dans des caves fraîches. Les visiteurs "
    "doivent réserver une semaine à l'avance. En hiver la route est souvent fermée par la neige.",
    "Elle fut fondée en {year}",
    "Quand la fromagerie de {name} fut-elle fondée ?",
    "Indique l'année où la fromagerie de {name} fut fondée.",
    "Une phrase suffit, sans aucun nom propre.",
)
GERMAN = Field(
    "Die Mühle von {name} liegt an einem schmalen Bach im Tal. Sie wurde {year} von einem Müller "
    "aus der Stadt errichtet. Heute mahlt sie {n} Säcke Korn an einem Tag. Besucher müssen am Tor "
    "klingeln und warten. Im Herbst gibt es dort ein kleines Fest mit Musik.",
    "Sie wurde {year} von einem Müller",
    "Wann wurde die Mühle von {name} errichtet?",
    "Nenne das Jahr, in dem die Mühle von {name} errichtet wurde.",
    "Schreibe höchstens zwölf Wörter und kein Datum in Ziffern.",
)
SPANISH = Field(
    "La feria de {name} ocupa la plaza mayor del pueblo. Comenzó en {year} gracias a un grupo de "
    "alfareros. Hoy acuden {n} puestos de cerámica y de cuero. Los coches deben quedar fuera de la "
    "muralla. Por la noche suena una banda hasta las dos.",
    "Comenzó en {year}",
    "¿Cuándo comenzó la feria de {name}?",
    "Indica el año en que comenzó la feria de {name}.",
    "Redacta una sola frase y omite los nombres.",
)
UKRAINIAN = Field(
    "Бібліотека міста {name} стоїть біля старого парку. Її відкрили у {year} році на кошти "
    "місцевих купців. Тепер у ній {n} тисяч книжок і кілька мап. Читачі повинні залишати сумки при "
    "вході. Улітку у дворі показують кіно для дітей.",
    "Її відкрили у {year} році",
    "Коли відкрили бібліотеку міста {name}?",
    "Назви рік, коли відкрили бібліотеку міста {name}.",
    "Відповідай одним реченням і без прикметників.",
)
HEBREW = Field(
    "התחנה של {name} עומדת ליד נחל קטן. היא נפתחה בשנת {year} על ידי מהנדס צעיר. בכל יום עוברות בה "
    "{n} רכבות של נוסעים. הנוסעים חייבים לקנות כרטיס מראש. בחורף יש שם תערוכה של ציורים ישנים.",
    "היא נפתחה בשנת {year}",
    "מתי נפתחה התחנה של {name}?",
    "ציין את השנה שבה נפתחה התחנה של {name}.",
    "כתוב משפט אחד בלבד ובלי שמות.",
)
RUSSIAN = Field(
    "Обсерватория {name} расположена на склоне холма. Её построили в {year} году на деньги города. "
    "Сейчас там работают {n} астрономов и два повара. Гости обязаны выключать фонари ночью. Осенью "
    "школьники рисуют здесь карты неба.",
    "Её построили в {year} году",
    "Когда построили обсерваторию {name}?",
    "Укажи год, когда построили обсерваторию {name}.",
    "Пиши кратко, без вводных слов и имён.",
)
POLISH = Field(
    "Browar {name} działa w piwnicach dawnego klasztoru. Założono go w {year} roku za zgodą "
    "biskupa. Co tydzień warzy się tam {n} beczek piwa. Goście muszą zostawić płaszcze w sieni. "
    "Zimą odbywają się tu koncerty muzyki dawnej.",
    "Założono go w {year} roku",
    "Kiedy założono browar {name}?",
    "Podaj rok, w którym założono browar {name}.",
    "Odpowiedz jednym zdaniem bez przymiotników.",
)
TURKISH = Field(
    "{name} köprüsü kasabanın kuzeyinde bir vadiyi aşar. Köprü {year} yılında genç bir usta "
    "tarafından yapıldı. Üzerinden her gün {n} araba geçer. Kamyonlar başka bir yol kullanmalıdır. "
    "Baharda köylüler burada pazar kurar.",
    "Köprü {year} yılında",
    "{name} köprüsü ne zaman yapıldı?",
    "{name} köprüsünün yapıldığı yılı yaz.",
    "Tek cümle kur ve sıfat kullanma.",
)
PORTUGUESE = Field(
    "A adega de {name} fica numa encosta virada a sul. Foi aberta em {year} por um antigo "
    "marinheiro. Guarda hoje {n} pipas de vinho tinto. Os grupos têm de telefonar na "
    "véspera. No outono há ali uma festa com dança e castanhas.",
    "Foi aberta em {year}",
    "Quando foi aberta a adega de {name}?",
    "Indica o ano em que foi aberta a adega de {name}.",
    "Escreve uma frase curta e sem nomes.",
)
ITALIAN = Field(
    "Il teatro di {name} sorge accanto al vecchio mercato. Fu inaugurato nel {year} con un'opera "
    "buffa. La sala ha {n} palchi e un soffitto dipinto. Gli spettatori devono lasciare gli "
    "ombrelli all'ingresso. D'estate le prove si tengono nel cortile.",
    "Fu inaugurato nel {year}",
    "Quando fu inaugurato il teatro di {name}?",
    "Indica l'anno in cui fu inaugurato il teatro di {name}.",
    "Scrivi una frase sola, senza aggettivi.",
)
JAPANESE = Field(
    "{name}の温泉は山の北側の谷にあります。この温泉は{year}年に旅の僧によって開かれました。"
    "毎日{n}人の客が町から訪れます。客は入口で靴を脱がなければなりません。"
    "冬には庭に小さな雪の灯りが並びます。",
    "{year}年に旅の僧によって開かれました",
    "{name}の温泉はいつ開かれましたか？",
    "{name}の温泉が開かれた年を書いてください。",
    "一文で答え、名前は書かないこと。",
)
KOREAN = Field(
    "{name} 서점은 시장 골목 끝에 있습니다. 이 서점은 {year}년에 두 형제가 열었습니다. 지금은 "
    "{n}천 권의 책을 갖추고 있습니다. 손님은 가방을 맡겨야 합니다. "
    "가을에는 마당에서 시 낭독회가 열립니다.",
    "{year}년에 두 형제가 열었습니다",
    "{name} 서점은 언제 열었습니까?",
    "{name} 서점을 연 해를 적으세요.",
    "한 문장으로 쓰고 이름은 빼세요.",
)


def spread(parts: Sequence[str], pattern: str = "{text}", between: str = "\n\n") -> str:
    """Write passages one after the other."""
    return between.join(
        pattern.format(n=n, name=NAMES[n - 1], text=text) for n, text in enumerate(parts, 1)
    )


def wrapped(text: str, indent: str, width: int = 70) -> str:
    """Write a text on lines of some width."""
    lines, line = [], ""
    for word in text.split():
        if line and len(line) + len(word) >= width:
            lines.append(line)
            line = ""
        line = f"{line} {word}".strip()
    return "\n".join(indent + each for each in [*lines, line])


def task_near_material() -> dict[str, Reading]:
    """A task without a question mark beside, before or in the only paragraph."""
    f = (POLISH, TURKISH, ENGLISH, PORTUGUESE, KOREAN, JAPANESE)
    p, t, e, o, k, j = f
    return {
        "task on the line above, Polish": Reading(f"{p.filled(p.task)}\n{p.page}", p.keeps(p.task)),
        "task opens the paragraph, Turkish": Reading(
            f"{t.filled(t.task)} {t.page}", t.keeps(t.task)
        ),
        "task ends the paragraph, English": Reading(
            f"{e.page} {e.filled(e.task)}", e.keeps(e.task)
        ),
        "task before one paragraph, Portuguese": Reading(
            f"{o.filled(o.task)}\n\n{o.page}", o.keeps(o.task)
        ),
        "task on the line below, Korean": Reading(f"{k.page}\n{k.filled(k.task)}", k.keeps(k.task)),
        "task ends the paragraph, Japanese": Reading(
            "".join(j.passages) + j.filled(j.task), j.keeps(j.task), share=0.6
        ),
    }


def own_rules() -> dict[str, Reading]:
    """Rules of the caller stay, wherever they stand; those of the material do not."""
    g, i, f, h, u, s, e, r = (
        GERMAN, ITALIAN, FRENCH, HEBREW, UKRAINIAN, SPANISH, ENGLISH, RUSSIAN,
    )  # fmt: skip
    g2, i2 = "Nur Deutsch, ohne Fußnoten.", "Niente elenchi puntati."
    return {
        "rules under a heading, German": Reading(
            f"## Vorgaben\n\n- {g.rule}\n- {g2}\n\n## Unterlagen\n\n{spread(g.passages)}\n\n"
            f"## Anliegen\n\n{g.filled(g.task)}",
            g.keeps(g.task, g.rule, g2),
        ),
        "rules under a heading like those of passages, Italian": Reading(
            f"## Vincoli\n{i.rule}\n{i2}\n\n"
            + spread(i.passages, "## Scheda {name}\n{text}")
            + f"\n\n{i.filled(i.ask)}",
            i.keeps(i.ask, i.rule, i2),
        ),
        "rules in an earlier turn, French": Reading(
            [
                HumanMessage(f.rule),
                AIMessage("D'accord."),
                HumanMessage(f"{spread(f.passages)}\n\n{f.filled(f.ask)}"),
            ],
            f.keeps(f.ask, f.rule),
        ),
        "rules in an earlier turn, long answers between, Hebrew": Reading(
            [
                HumanMessage(h.rule),
                AIMessage("בסדר."),
                HumanMessage("ספר לי על רכבות?"),
                AIMessage(h.passages[2] * 2),
                HumanMessage(f"{h.page}\n\n{h.filled(h.ask)}"),
            ],
            h.keeps(h.ask, h.rule),
        ),
        "rules before a long text, Hebrew": Reading(
            f"{h.rule}\n\n{h.page}\n\n{h.filled(h.ask)}", h.keeps(h.ask, h.rule)
        ),
        "rules before long paragraphs, Ukrainian": Reading(
            f"{u.rule}\n{u.filled(u.task)}\n\n{spread(u.passages)}", u.keeps(u.task, u.rule)
        ),
        "must in pasted material, Spanish": Reading(
            f"{s.rule}\n\n{s.page}\n\n{s.filled(s.task)}",
            s.keeps(s.task, s.rule),
            share=0.2,
            loses=["deben quedar fuera"],
        ),
        "must in pasted passages, rules last, Russian": Reading(
            f"{spread(r.passages, '[{n}] {text}')}\n\n{r.filled(r.ask)}\n{r.rule}",
            r.keeps(r.ask, r.rule),
            share=0.2,
            loses=["обязаны выключать"],
        ),
        "rules in a message of their own before the material, English": Reading(
            [
                HumanMessage(e.rule),
                HumanMessage(spread(e.passages)),
                HumanMessage(e.filled(e.task)),
            ],
            e.keeps(e.task, e.rule),
        ),
        "rules in the turn before last, German": Reading(
            [
                HumanMessage(f"{g.passages[1]} Fasse das zusammen?"),
                AIMessage(g.passages[1][:200]),
                HumanMessage(g.rule),
                AIMessage("Gut."),
                HumanMessage(f"{g.page}\n\n{g.filled(g.ask)}"),
            ],
            g.keeps(g.ask, g.rule),
        ),
    }


def text_block(text: str) -> dict[str, str]:
    """Return a content block."""
    return {"type": "text", "text": text}


IMAGE: Final = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}


def several_blocks() -> dict[str, Reading]:
    """Messages of several blocks: the question is one of them, not always the last."""
    e, r, p, i = ENGLISH, RUSSIAN, PORTUGUESE, ITALIAN
    return {
        "task first, then documents, English": Reading(
            [
                HumanMessage(
                    [
                        text_block(e.filled(e.task)),
                        text_block(e.page),
                        text_block(e.passages[2]),
                        text_block(e.passages[3]),
                    ]
                )
            ],
            e.keeps(e.task),
        ),
        "rules and task first, a block per document, Russian": Reading(
            [
                HumanMessage(
                    [text_block(f"{r.rule} {r.filled(r.task)}"), *map(text_block, r.passages)]
                )
            ],
            r.keeps(r.task, r.rule),
        ),
        "task between documents, Portuguese": Reading(
            [HumanMessage([*p.passages[:6], p.filled(p.task), *p.passages[6:]])], p.keeps(p.task)
        ),
        "picture, question, document, Italian": Reading(
            [HumanMessage([IMAGE, text_block(i.filled(i.ask)), text_block(i.page)])],
            i.keeps(i.ask),
            share=0.65,  # the picture is most of it, and stays
        ),
    }


def message_forms() -> dict[str, Reading]:
    """Whatever LangChain takes for a message."""
    e, g, s, k = ENGLISH, GERMAN, SPANISH, KOREAN
    return {
        "dicts, English": Reading(
            [
                {"role": "system", "content": e.rule},
                {"role": "user", "content": f"{spread(e.passages)}\n\n{e.filled(e.ask)}"},
            ],
            e.keeps(e.ask, e.rule),
        ),
        "tuples, German": Reading(
            [("system", g.rule), ("human", f"{spread(g.passages)}\n\n{g.filled(g.ask)}")],
            g.keeps(g.ask, g.rule),
        ),
        "dicts of a state with blocks, Spanish": Reading(
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [text_block(s.page), text_block(s.filled(s.ask))],
                        "name": "ana",
                    }
                ],
                "steps": 2,
            },
            s.keeps(s.ask),
        ),
        "messages, tuples, dicts and strings mixed, Korean": Reading(
            [
                SystemMessage(k.rule),
                ("ai", "네."),
                {"type": "human", "content": k.page},
                k.filled(k.ask),
            ],
            k.keeps(k.ask, k.rule),
        ),
    }


def mails() -> dict[str, Reading]:
    """A mail with a table in it."""
    f, g = FRENCH, GERMAN
    rows = [f"| {name} | {4 + 3 * n} | {90 - 5 * n} € |" for n, name in enumerate(NAMES)]
    plain = [f"{name:<12}{4 + 3 * n:>6}{90 - 5 * n:>8}" for n, name in enumerate(NAMES)]
    return {
        "mail with a piped table, French": Reading(
            "Combien coûte le lot Heath d'après ce courriel ?\n\n"
            "De : Agnès Roux <agnes@exemple.fr>\nÀ : Paul Petit\nObjet : nos prix\n\n"
            f"Bonjour Paul,\n\n{f.passages[0]} {f.passages[1]}\n\n"
            "| Lot | Pièces | Prix |\n|---|---|---|\n"
            + "\n".join(rows)
            + f"\n\n{f.passages[2]}\n\nBien à toi,\nAgnès",
            ["Combien coûte le lot Heath", "| Heath | 25 | 55 € |", "| Lot | Pièces | Prix |"],
        ),
        "mail with an aligned table, German": Reading(
            "Von: Eva Kern\nAn: Lager\nBetreff: Bestand\n\nHallo zusammen,\n\n"
            f"{g.passages[0]} {g.passages[1]}\n\n{'Ware':<12}{'Menge':>6}{'Preis':>8}\n"
            + "\n".join(plain)
            + f"\n\n{g.passages[2]}\n\nViele Grüße\nEva\n\nNenne den Preis der Ware Kelso.",
            ["Nenne den Preis der Ware Kelso.", plain[10], f"{'Ware':<12}{'Menge':>6}{'Preis':>8}"],
        ),
    }


def one_line() -> dict[str, Reading]:
    """Everything on one line."""
    g, s, u, e = GERMAN, SPANISH, UKRAINIAN, ENGLISH
    return {
        "labels on one line, German": Reading(
            f"{g.rule} Kontext: {g.page} Frage: {g.filled(g.ask)} Antwort:",
            g.keeps(g.ask, g.rule, "Antwort:"),
        ),
        "numbers on one line, Spanish": Reading(
            f"{s.rule} {spread(s.passages, '[{n}] {text}', ' ')} Consulta: {s.filled(s.task)}",
            s.keeps(s.task, s.rule),
        ),
        "question first on one line, Ukrainian": Reading(
            f"Питання: {u.filled(u.ask)} Уривки: {u.page}", u.keeps(u.ask)
        ),
        "quotations on one line, English": Reading(
            StringPromptValue(
                text=f"{e.filled(e.ask)} "
                + spread(e.passages, 'Note {n}: "{text}"', " ")
                + f" {e.rule}"
            ),
            e.keeps(e.ask, e.rule),
        ),
    }


def page_breaks() -> dict[str, Reading]:
    """Pages apart by form feeds."""
    e, h = ENGLISH, HEBREW
    return {
        "form feeds, English": Reading(
            f"{e.filled(e.task)}\n\n{spread(e.passages, between=chr(12))}", e.keeps(e.task)
        ),
        "form feeds on lines, page numbers, Hebrew": Reading(
            spread(h.passages, "{text}\n- {n} -", "\n\f\n") + f"\n\f\n{h.rule}\n{h.filled(h.ask)}",
            h.keeps(h.ask, h.rule),
        ),
    }


def data_forms() -> dict[str, Reading]:
    """Passages in folded YAML, in attributes, in CDATA."""
    f, r, e, g, u, p = FRENCH, RUSSIAN, ENGLISH, GERMAN, UKRAINIAN, POLISH
    folded = "\n".join(
        f"- titre: {NAMES[n]}\n  texte: >-\n{wrapped(text, '    ')}"
        for n, text in enumerate(f.passages)
    )
    literal = "\n".join(
        f"- id: {n}\n  body: |\n{wrapped(text, '    ')}\n  source: {NAMES[n]}.txt"
        for n, text in enumerate(r.passages)
    )
    return {
        "folded YAML, French": Reading(
            f"{f.rule}\n\n{folded}\n\n{f.filled(f.ask)}", f.keeps(f.ask, f.rule)
        ),
        "literal YAML, Russian": Reading(
            f"{r.filled(r.ask)}\n\ndocuments:\n{literal}\n", r.keeps(r.ask)
        ),
        "attributes, English": Reading(
            f"{e.rule}\n<docs>\n"
            + spread(e.passages, '<doc id="{n}" title="{name}" text="{text}"/>', "\n")
            + f"\n</docs>\n{e.filled(e.ask)}",
            e.keeps(e.ask, e.rule),
        ),
        "CDATA, German": Reading(
            f"{g.rule}\n<treffer>\n"
            + spread(g.passages, "<text nr='{n}'><![CDATA[{text}]]></text>", "\n")
            + f"\n</treffer>\n{g.filled(g.task)}",
            g.keeps(g.task, g.rule),
        ),
        "attributes on one line, Ukrainian": Reading(
            f"{u.filled(u.task)}\n"
            + spread(u.passages, "<уривок номер='{n}' зміст='{text}'></уривок>", ""),
            u.keeps(u.task),
        ),
        "CDATA of a feed, Polish": Reading(
            "<feed>\n"
            + spread(
                p.passages,
                "<entry>\n<title>{name}</title>\n<content><![CDATA[\n<p>{text}</p>\n]]></content>\n"
                "</entry>",
                "\n",
            )
            + f"\n</feed>\n\n{p.rule} {p.filled(p.ask)}",
            p.keeps(p.ask, p.rule),
        ),
    }


def call(ids: Sequence[str], name: str, arguments: Sequence[dict[str, str]]) -> AIMessage:
    """Return a message that calls a tool several times at once."""
    calls = [
        {"name": name, "args": args, "id": each, "type": "tool_call"}
        for each, args in zip(ids, arguments, strict=True)
    ]
    return AIMessage("", tool_calls=calls)


def many_messages() -> dict[str, Reading]:
    """A system message per passage; many results at once."""
    e, i, s = ENGLISH, ITALIAN, SPANISH
    ids = [f"c{n}" for n in range(20)]
    pages = [f"{e.passages[n % 12]} {e.passages[(n + 1) % 12]} " * 3 for n in range(20)]
    rows = [
        json.dumps(
            [
                {"ciudad": f"{name}{n}", "visitas": 100 * n + m, "nota": s.passages[m][:160]}
                for m, name in enumerate(NAMES)
            ],
            ensure_ascii=False,
        )
        for n in range(20)
    ]
    return {
        "a system message per passage, English": Reading(
            [
                SystemMessage(f"{e.rule} Use the passages that follow."),
                *map(SystemMessage, e.passages),
                HumanMessage(e.filled(e.ask)),
            ],
            e.keeps(e.ask, e.rule),
        ),
        "a numbered system message per passage, Italian": Reading(
            ChatPromptValue(
                messages=[
                    SystemMessage(i.rule),
                    *[SystemMessage(f"Documento {n}: {t}") for n, t in enumerate(i.passages, 1)],
                    HumanMessage(i.filled(i.task)),
                ]
            ),
            i.keeps(i.task, i.rule),
        ),
        "twenty results at once, English": Reading(
            [
                HumanMessage(e.filled(e.ask)),
                call(ids, "search", [{"q": NAMES[n % 12]} for n in range(20)]),
                *[
                    ToolMessage(text, tool_call_id=each)
                    for each, text in zip(ids, pages, strict=True)
                ],
            ],
            e.keeps(e.ask),
            share=0.1,
        ),
        "twenty tables at once, Spanish": Reading(
            [
                SystemMessage(s.rule),
                HumanMessage("¿Cuántas visitas tuvo Heath13?"),
                call(ids, "datos", [{"zona": str(n)} for n in range(20)]),
                *[
                    ToolMessage(text, tool_call_id=each)
                    for each, text in zip(ids, rows, strict=True)
                ],
            ],
            [s.rule, "¿Cuántas visitas tuvo Heath13?", "Heath13", "1307"],
            share=0.1,
        ),
    }


def transcripts() -> dict[str, Reading]:
    """An agent's steps in one text, and chats as they are exported."""
    e, o, s, g, f = ENGLISH, PORTUGUESE, SPANISH, GERMAN, FRENCH
    said = [f"{9 + n // 6}:{10 * (n % 6):02}" for n in range(12)]
    steps = "\n".join(
        f"Thought: I should look up {NAMES[n]}.\nAction: lookup\nAction Input: {NAMES[n]}\n"
        f"Observation: {text}"
        for n, text in enumerate(e.passages)
    )
    passos = "\n".join(
        f"Pensamento: falta ver {NAMES[n]}.\nAção: procurar[{NAMES[n]}]\nObservação: {text}"
        for n, text in enumerate(o.passages)
    )
    return {
        "agent's steps, English": Reading(
            f"You have one tool: lookup. {e.rule}\n\nQuestion: {e.filled(e.ask)}\n{steps}\n"
            "Thought:",
            e.keeps(e.ask, e.rule),
        ),
        "agent's steps, Portuguese": Reading(
            f"{o.rule}\n\nPergunta: {o.filled(o.ask)}\n{passos}\nPensamento:",
            [*o.keeps(o.ask, o.rule)],
        ),
        "chat with dates in brackets, English": Reading(
            "\n".join(
                f"[12/03/24, {said[n]}:07] {('Ann', 'Bob Lee')[n % 2]}: {text}"
                for n, text in enumerate(e.passages)
            )
            + f"\n\n{e.filled(e.task)}",
            e.keeps(e.task),
        ),
        "chat with name and date above, German": Reading(
            f"{g.filled(g.ask)}\n\n"
            + "\n\n".join(
                f"{('Eva', 'Jan')[n % 2]}, [12.03.2024 {said[n]}]\n{text}"
                for n, text in enumerate(g.passages)
            ),
            g.keeps(g.ask),
        ),
        "chat with nicknames in angles, Spanish": Reading(
            f"{s.rule} {s.filled(s.task)}\n"
            + "\n".join(
                f"{said[n]} <{('ana', 'luis')[n % 2]}> {text}" for n, text in enumerate(s.passages)
            ),
            s.keeps(s.task, s.rule),
        ),
        "chat with times behind names, French": Reading(
            "\n".join(
                f"{('Zoé', 'Luc')[n % 2]}  {said[n]}\n{text}" for n, text in enumerate(f.passages)
            )
            + f"\n\n{f.filled(f.ask)}",
            f.keeps(f.ask),
        ),
    }


def single_pages() -> dict[str, Reading]:
    """One long page with headings, the task at an end of it."""
    u, g = UKRAINIAN, ENGLISH
    return {
        "page with headings, task last, English": Reading(
            "# Lighthouses of the coast\n\n"
            + spread(g.passages, "## {name}\n\n{text}")
            + f"\n\n{g.filled(g.task)}",
            g.keeps(g.task),
        ),
        "page of paragraphs, task and rule first, Ukrainian": Reading(
            f"{u.filled(u.task)} {u.rule}\n\n"
            + "\n\n".join(" ".join(u.passages[n : n + 3]) for n in range(0, 12, 3)),
            u.keeps(u.task, u.rule),
        ),
    }


CASES: Final[dict[str, Reading]] = {
    **task_near_material(),
    **own_rules(),
    **several_blocks(),
    **message_forms(),
    **mails(),
    **one_line(),
    **page_breaks(),
    **data_forms(),
    **many_messages(),
    **transcripts(),
    **single_pages(),
}
