"""The same passages and question in whatever layout: found alike, shortened alike."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage

from langchain_tokenopt.compress import PromptCompressor, optimize_text
from langchain_tokenopt.compress.prompt_parts import read_message
from langchain_tokenopt.compress.question import asked_in
from langchain_tokenopt.core.errors import BudgetInfeasibleError
from langchain_tokenopt.counting.request_tokens import count_messages
from langchain_tokenopt.counting.tokens import counter_for

COUNT = counter_for("cl100k_base").count
TOPICS = ["Alder", "Brook", "Cedar", "Dune", "Ember", "Fjord", "Grove", "Heath"]
PASSAGES = [
    (
        f"{name} Museum",
        f"The {name} Museum stands in the old harbour quarter, next to the fish market. Its hall "
        f"was finished in {1900 + 7 * n} after a fire had destroyed the first one. Visitors come "
        f"for {20 + n} rooms of clocks, maps and glass. On Mondays school classes have it to "
        f"themselves, and in winter it closes at four.",
    )
    for n, name in enumerate(TOPICS)
]
QUESTION = "when was the hall of the Ember Museum finished"
ANSWER = "Its hall was finished in 1928"
RULE = "Answer in one sentence and never guess."


def joined(between: str = "\n\n", pattern: str = "{text}") -> str:
    return between.join(
        pattern.format(n=n, title=title, text=text, letter="ABCDEFGHIJ"[n - 1])
        for n, (title, text) in enumerate(PASSAGES, 1)
    )


ROWS = [{"title": title, "text": text} for title, text in PASSAGES]
LAYOUTS = {
    "context label": f"{RULE}\n\nContext: {joined()}\n\nQuestion: {QUESTION}\nAnswer:",
    "one announcing line": f"{RULE} Use this context:\n{joined()}\n\nQuestion: {QUESTION}",
    "question first": f"{RULE}\nQuestion: {QUESTION} \nContext: {joined()} \nAnswer:",
    "labels of another language": f"{RULE}\n\nВопрос: {QUESTION}\nМатериал: {joined()}\nОтвет:",
    "rule, question and label on lines": f"{RULE}\nQ: {QUESTION}\nFacts: {joined()}\nA:",
    "no label at all": f"{RULE}\n\n{joined()}\n\n{QUESTION}",
    "numbers": f"{RULE}\n\n{joined(pattern='[{n}] {text}')}\n\n{QUESTION}?",
    "numbers on lines": f"{RULE}\n\n{joined(chr(10), '{n}. **{title}**: {text}')}\n\n{QUESTION}?",
    "letters": f"{RULE}\n\n" + joined(pattern="Exhibit {letter}:\n{text}") + f"\n\n{QUESTION}?",
    "rules": f"{RULE}\n\n{joined(chr(10) * 2 + '---' + chr(10) * 2)}\n\n---\n\n{QUESTION}?",
    "headings": f"# Task\n\n{RULE}\n\n# Sources\n\n"
    + joined(pattern="### {title}\n\n{text}")
    + f"\n\n# Question\n\n{QUESTION}\n",
    "titles": f"{RULE}\n\n{joined(pattern='{title}' + chr(10) + '{text}')}\n\n{QUESTION}",
    "sources behind": f"{RULE}\n\n"
    + joined(pattern="{text}\n(From: {title})")
    + f"\n\nAsked: {QUESTION}",
    "tags": f"{RULE}\n<hits>\n{joined(chr(10), '<hit>{text}</hit>')}\n</hits>\n{QUESTION}?",
    "nested tags": f"{RULE}\n"
    + joined("\n", "<doc id='{n}'>\n<name>{title}</name>\n<body>{text}</body>\n</doc>")
    + f"\n{QUESTION}?",
    "JSON": f"{RULE}\n\nResults:\n{json.dumps(ROWS, indent=1)}\n\n{QUESTION}?",
    "JSON lines": f"{RULE}\n\n" + "\n".join(map(json.dumps, ROWS)) + f"\n\n{QUESTION}?",
    "YAML": f"{RULE}\n\n"
    + joined("\n", "- title: {title}\n  text: {text}")
    + f"\n\nquestion: {QUESTION}",
    "printed objects": f"{RULE} {[Document(x, metadata={'t': t}) for t, x in PASSAGES]!r}"
    f"\n\nQuestion: {QUESTION}",
    "table": f"{RULE}\n\n| page | text |\n|---|---|\n"
    + joined("\n", "| {title} | {text} |")
    + f"\n\n{QUESTION}?",
    "a fence": f"{RULE}\n\n```\n{joined()}\n```\n\n{QUESTION}?",
    "begin and end": f"{RULE}\n\n"
    + joined("\n", "BEGIN TEXT {n}\nNAME {title}\n{text}\nEND TEXT {n}")
    + f"\n\n{QUESTION}?",
    "counting banners": f"{RULE}\n" + joined("\n", "<<<HIT {n}>>>\n{text}") + f"\n\n{QUESTION}?",
    "underlined titles": f"{RULE}\n\n"
    + joined(pattern="{title}\n~~~~~~~~\n\n{text}")
    + f"\n\n{QUESTION}",
    "fields in capitals": f"{RULE}\n\nContext:\n"
    + joined(pattern="TITLE: {title}\nCONTENT: {text}")
    + f"\n\nQuestion: {QUESTION}",
    "bold fields": f"{RULE}\n\n"
    + joined(pattern="**Title:** {title}\n**Body:** {text}")
    + f"\n\n{QUESTION}?",
    "fences": f"{RULE}\n\n" + joined("\n", "```\n{text}\n```") + f"\n\n{QUESTION}?",
    "sections around": f"## Task\n\n{RULE}\n\n## Context\n\n{joined()}\n\n"
    f"## Question\n\n{QUESTION}\n\n## Answer\n",
    "few-shot before": f"{RULE}\n\nQ: What is tea?\nA: A drink.\n\nQ: What is ice?\nA: Cold.\n\n"
    f"Context:\n{joined()}\n\nQ: {QUESTION}?\nA:",
    "a quoted question": f'{RULE}. Answer the query "{QUESTION}".\n\n{joined()}\n\nBe brief.',
    "Windows": f"{RULE}\n\nContext: {joined()}\n\nQuestion: {QUESTION}".replace("\n", "\r\n"),
}


@pytest.mark.parametrize("text", LAYOUTS.values(), ids=LAYOUTS)
def test_every_layout_has_the_same_passages_and_question(text):
    """One passage per passage, each with its own text; the question; and the rule stays."""
    parts = read_message(text)
    inside = {}
    for unit in parts.units:
        inside.setdefault(unit.passage, []).append(unit.within(text))
    stays = "".join(unit.within(text) for unit in parts.units if unit.required)

    holding = [
        [
            n
            for n, pieces in inside.items()
            if n > 0 and f"The {name} Museum stands" in "".join(pieces)
        ]
        for name in TOPICS
    ]
    assert [1] * 8 == [len(found) for found in holding]
    assert 8 == len({found[0] for found in holding})
    assert QUESTION == parts.question.rstrip("?")
    assert RULE.split(" and")[0] in stays
    assert QUESTION in stays
    assert "harbour" not in stays


@pytest.mark.parametrize("text", LAYOUTS.values(), ids=LAYOUTS)
async def test_every_layout_keeps_the_answer(text):
    """At a fifth of the passages the one that answers is there, in the budget, async alike."""
    frame = COUNT(text).tokens - sum(COUNT(passage).tokens for _, passage in PASSAGES)
    shorten = PromptCompressor(frame // 2 + COUNT(text).tokens // 4, model="cl100k_base")

    made = shorten.invoke(text)

    assert ANSWER in made
    assert QUESTION in made
    assert COUNT(made).tokens <= shorten.max_tokens
    assert made == await shorten.ainvoke(text)


_LONG_RULE = (
    "You are a guide through the museums of a city and answer what visitors ask. Use the following "
    f"pieces of retrieved context for that. {RULE} If the context does not say it, say so, and "
    "keep it short, in three sentences at most."
)


@pytest.mark.parametrize("rule", [f"{RULE} Rely on these documents.", _LONG_RULE])
def test_passages_in_a_system_message_are_shortened_and_its_rules_stay(rule):
    """Context may stand in the system message, below a long paragraph; the question comes later."""
    more = "\n\n".join(f"{text} {text.replace('The', 'Our')}" for _, text in PASSAGES)
    system = SystemMessage(f"{rule}\n\n{joined() if rule != _LONG_RULE else more}")

    made = PromptCompressor(220, model="gpt-4").invoke([system, HumanMessage(QUESTION)])

    assert made[0].content.startswith(rule)
    assert ANSWER in made[0].content
    assert QUESTION == made[1].content


@pytest.mark.parametrize("how", ["raise", "drop_lowest", "truncate"])
def test_rules_in_a_system_message_are_never_given_up(how):
    """Paragraphs that instruct are no passages, however many there are."""
    rules = "\n\n".join(
        f"You must treat guests of the {name} Museum with care. Ask for their ticket, show them "
        f"the way, and never leave them alone in room {n}. If they complain, call the office and "
        f"write down what they say, word for word, before you answer them."
        for n, name in enumerate(TOPICS)
    )
    system = SystemMessage(f"Documents of guests are looked at.\n\n{rules}")

    with pytest.raises(BudgetInfeasibleError):
        PromptCompressor(200, model="gpt-4", on_infeasible=how).invoke(
            [system, HumanMessage(QUESTION)]
        )


def test_passages_of_an_earlier_message_compete():
    """Documents may be pasted before the question is asked."""
    chat = [HumanMessage(f"My notes:\n\n{joined()}"), HumanMessage(f"{QUESTION}?")]

    made = PromptCompressor(120, model="gpt-4").invoke(chat)

    assert ANSWER in made[0].content
    assert made[-1] is chat[-1]


def test_passages_in_json_stay_json():
    """Members are whole objects, their long texts lose sentences; a share leaves them alone."""
    text = LAYOUTS["JSON"]

    made = PromptCompressor(200, model="cl100k_base").invoke(text)
    share = PromptCompressor(keep=0.5, model="cl100k_base").invoke(text)

    rows = json.loads(made[made.index("[") : made.rindex("]") + 1])
    assert rows
    assert all(set(row) == {"title", "text"} for row in rows)
    assert {row["title"] for row in rows} <= {title for title, _ in PASSAGES}
    for title, passage in PASSAGES:
        assert passage in share or title not in share


@pytest.mark.parametrize("limit", range(120, 400, 20))
def test_a_member_of_json_is_not_kept_without_its_text(limit):
    """Its other fields would say that there is nothing."""
    rows = [
        {"text": text, "tags": {"title": title, "kept": "for all who come here"}}
        for title, text in PASSAGES
    ]
    made = PromptCompressor(limit, model="cl100k_base", query=f"{QUESTION}?").invoke(
        json.dumps(rows)
    )
    assert all(row["text"].strip() for row in json.loads(made))


PAIRS = {f"k{n * 7919 % 997}x": f"v{n * 31}" for n in range(150)}
KEY = list(PAIRS)[79]


@pytest.mark.parametrize(
    ("text", "question", "answer"),
    [
        (
            "Give the value of the key in this object.\n\nData:\n"
            + json.dumps(PAIRS)
            + f'\n\nKey: "{KEY}"\nValue:',
            f'"{KEY}"',
            f'"{KEY}":"{PAIRS[KEY]}"',
        ),
        (
            "id,city,people\n"
            + "".join(f"{n},Town{n},{n * 37}\n" for n in range(200))
            + "\nThe number of people in Town141 is",
            "The number of people in Town141 is",
            "141,Town141,5217",
        ),
    ],
    ids=["JSON", "CSV"],
)
def test_a_prompt_to_be_continued_is_a_question(text, question, answer):
    """What ends in a colon or in no sentence asks for what comes next."""
    made = PromptCompressor(150, model="cl100k_base").invoke(text)

    assert str(read_message(text).question).endswith(question)
    assert answer in made
    assert made.endswith(text[-20:])


def test_commands_in_pasted_material_are_material():
    """A licence full of "must" is shortened like any text, and so are words that look like it."""
    licence = "".join(
        f"{n}. You must keep notice {n} and must never remove it. Nevertheless Mustangs are free. "
        f"Only clause {n} grants rights in patents.\n\n"
        for n in range(60)
    )

    made = optimize_text(licence, "Does clause 41 grant rights in patents?", 120)

    assert "Only clause 41 grants rights in patents." in made
    assert counter_for("o200k_base").count(made).tokens <= 120


@pytest.mark.parametrize(
    ("before", "after", "question"),
    [
        ("Read this.", "Using the passages above, find out who came first.", "who came first."),
        ("Find out who won from my notes and tell me.", "", "who won"),
        ("<query>Who won?</query>", "Reply in German.", "Who won?"),
        ("Bitte beantworte anhand der Texte: Wer kam zuerst?", "", "Wer kam zuerst?"),
        ("", "The sources of the Nile", "The sources of the Nile"),
        ("Context:", "Answer:", None),
    ],
)
def test_what_is_asked_is_found_without_the_words_that_ask(before, after, question):
    """Words about passages and answers would be searched for in the passages."""
    assert question == asked_in([before, after], leads=True)


MARKS = [
    "---\n", "```\n", "<doc>", "</doc>\n", "[1] ", "2. ", "## ", "Title: ", "{\"a\": \"", "\"},\n",
    "| ", " |\n", "\n\n", "\r\n", "- ", "Question: ", "**", "\"\"\"\n", "(", "]", "\x00", "\ud83d",
    "Ice is cold and tea is hot. " * 6, "Birds sing. ", "Why?", "never", "：", "【3】", "\u2028",
]  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(MARKS), min_size=1, max_size=60), st.integers(5, 120))
def test_marks_in_any_disorder_break_nothing(pieces, limit):
    """Missing, doubled or mixed marks: units cover the text, and the result fits or is refused."""
    text = "".join(pieces)
    units = read_message(text).units

    assert text == "".join(unit.within(text) for unit in units)
    assert all(-1 <= ref < len(units) for unit in units for ref in (unit.head, unit.bound))
    try:
        made = PromptCompressor(limit, model="cl100k_base").invoke([HumanMessage(text)])
    except BudgetInfeasibleError:
        return
    whole = made[0].content if made else ""
    assert whole == text or COUNT(whole).tokens <= limit


# --- several messages ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "messages",
    [
        [SystemMessage(f"Say {QUESTION}? Use the pages."), HumanMessage(joined())],
        [HumanMessage([*({"type": "text", "text": x} for _, x in PASSAGES),
                       {"type": "text", "text": f"{QUESTION}?"}])],
        [SystemMessage(f"{joined()}\n\n{RULE}, the sources above."), HumanMessage(QUESTION)],
    ],
    ids=["the system asks", "a block each", "passages first in the system message"],
)  # fmt: skip
def test_question_and_passages_may_stand_in_several_messages(messages):
    """What asks is found wherever it stands, and the passage that answers stays."""
    whole = PromptCompressor(10**6, model="cl100k_base").compress(messages)
    made = PromptCompressor(whole.tokens_before // 3, model="cl100k_base").compress(messages)
    left = "\n".join(message.text for message in made.content)

    assert made.tokens_after <= whole.tokens_before // 3
    assert QUESTION in left
    assert ANSWER in left


# --- running agents ------------------------------------------------------------------------------


def running_agent() -> list:
    """Return a turn in which a tool was called ten times; the fourth result has the answer."""
    chat = [SystemMessage(RULE), HumanMessage(f"{QUESTION}?")]
    for n in range(10):
        call = {"name": "read", "args": {"page": n}, "id": f"c{n}"}
        text = " ".join(f"Guest {g} of day {n} liked the tea." for g in range(60))
        chat.append(AIMessage("", tool_calls=[call]))
        chat.append(ToolMessage(text + (f" {ANSWER}." if n == 3 else ""), tool_call_id=f"c{n}"))
    return chat


@pytest.mark.parametrize("limit", [3_000, 1_200, 300])
async def test_a_running_agent_gives_up_older_results_first(limit):
    """Calls keep their answers, nothing is empty, the last result stays as long as it fits."""
    chat = running_agent()
    shorten = PromptCompressor(limit, model="gpt-4")

    made = shorten.invoke(chat)

    assert chat[:2] == made[:2]
    assert ANSWER in "".join(m.content for m in made)
    assert [call["id"] for m in made if isinstance(m, AIMessage) for call in m.tool_calls] == [
        m.tool_call_id for m in made if isinstance(m, ToolMessage)
    ]
    assert all(m.content for m in made if isinstance(m, ToolMessage))
    assert made[-1].tool_call_id == "c9"
    assert limit < 1_000 or made[-1] is chat[-1]
    assert count_messages(made, model="gpt-4").tokens <= limit
    assert made == await shorten.ainvoke(chat)


@pytest.mark.parametrize("how", ["drop_lowest", "truncate"])
def test_no_message_is_sent_empty(how):
    """Where not even rules and question fit, it is refused; else each message says something."""
    chat = running_agent()

    for limit in range(8, 120, 7):
        try:
            made = PromptCompressor(limit, model="gpt-4", on_infeasible=how).invoke(chat)
        except BudgetInfeasibleError:
            continue
        assert made[0] is chat[0]
        assert all(m.content or getattr(m, "tool_calls", None) for m in made)
        assert how == "truncate" or QUESTION in made[1].content


@pytest.mark.parametrize("form", ["Reply in one word.", "Two sentences at most.", "Keep it short."])
def test_what_says_how_to_answer_is_not_the_question(form):
    """Though a word of it stands in the passages."""
    material = f"{joined()} One of them has three rooms."
    assert f"{QUESTION}." == asked_in(["", f"Tell me {QUESTION}. {form}"], True, material)


@pytest.mark.parametrize("place", ["first", "last"])
@pytest.mark.parametrize("asked", [f"{QUESTION}?", QUESTION])
def test_a_question_that_is_marked_like_the_passages_is_none_of_them(place, asked):
    """A heading of its own, in the form of theirs."""
    form = "{title}\n-----\n{text}"
    question = form.format(title="Question", text=asked)
    passages = joined(pattern=form)
    prompt = "\n\n".join([question, passages] if place == "first" else [passages, question])
    shortened = PromptCompressor(COUNT(prompt).tokens // 4, model="cl100k_base").compress(
        [HumanMessage(prompt)]
    )
    assert asked in shortened.content[0].text
    assert ANSWER in shortened.content[0].text


@pytest.mark.parametrize("form", ["{}", "Question: {}", "**{}**"])
@pytest.mark.parametrize("place", [1, 4, 7])
def test_a_question_between_paragraphs_is_kept_and_asked(form, place):
    """Nothing but its question mark tells it from what stands around it."""
    paragraphs = [text for _, text in PASSAGES]
    paragraphs.insert(place, form.format(f"{QUESTION}?"))
    prompt = "\n\n".join(paragraphs)
    made = PromptCompressor(COUNT(prompt).tokens // 4, model="cl100k_base").invoke(prompt)
    assert f"{QUESTION}?" in made
    assert ANSWER in made


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        ("متى افتتح الجسر؟", "افتتح الجسر عام 1931 على يد المهندس سامي."),
        ("پل کی باز شد؟", "پل در سال 1931 به دست مهندس سامی باز شد."),
        ("Πότε άνοιξε η γέφυρα\u037e", "Η γέφυρα άνοιξε το 1931 από τον μηχανικό Σάμι."),
    ],
)
def test_every_script_has_its_question_mark(asked, answer):
    """Behind one paragraph without any label."""
    told = [f"The {name} quarter has {n + 3} wells and a mill." for n, name in enumerate(TOPICS)]
    prompt = " ".join([*told, *told, answer, *told]) + f"\n\n{asked}"
    made = PromptCompressor(COUNT(prompt).tokens // 3, model="cl100k_base").invoke(prompt)
    assert asked in made
    assert answer in made


@pytest.mark.parametrize("prompt", ["ab1" * 500, "😀" * 600, "<div>" * 1_500, "```" * 3_000])
def test_a_prompt_of_which_nothing_fits_is_refused(prompt):
    """An empty one would be sent, and paid for."""
    with pytest.raises(BudgetInfeasibleError):
        PromptCompressor(60, model="cl100k_base").invoke(prompt)
    assert PromptCompressor(level="maximum", model="cl100k_base").invoke(prompt)


def test_a_share_is_never_refused():
    """Where nothing can go, everything stays."""
    messages = [HumanMessage("<CONTEXT>\r")]
    made = PromptCompressor(level="balanced", model="cl100k_base").invoke(messages)
    assert "<CONTEXT>" in made[0].content
