"""Each step on its own: segments, examples, sections, hand-over, lossless encodings."""

from __future__ import annotations

import ast
import json

import pytest

from langchain_tokenopt.compress import Handover, PromptCompressor, PromptSections, Section
from langchain_tokenopt.compress.examples import cover_labels, find_examples
from langchain_tokenopt.compress.json_encoding import decode_json, encode_json
from langchain_tokenopt.compress.prompt_parts import read_material, read_message
from langchain_tokenopt.compress.protect import is_required, verbatim_spans
from langchain_tokenopt.compress.relevance import relevance
from langchain_tokenopt.compress.segments import segments_of
from langchain_tokenopt.compress.units import units_of
from langchain_tokenopt.core.errors import BudgetInfeasibleError
from langchain_tokenopt.counting.tokens import counter_for
from tests.judge import reports_build

DAMAGE = [
    "Return the output in JSON format.",
    "Answer in the following format: X",
    "Think step by step.",
    "Do what you should have done.",
    "Should you need help, you should ask.",
    "You should not delete it.",
    'It is "very good" indeed.',
    "WHERE name = 'very  important'",
    "rename to `very big`",
    "A as well as B",
    "In order to win, and in order to play.",
    "For example, v1.5 is old.",
]
"""Lines that rewriting rules are known to corrupt."""


@pytest.mark.parametrize("line", DAMAGE)
def test_nothing_is_reworded(line):
    """What is kept is kept byte for byte."""
    filler = "Tea is a hot drink that many people like to have in the afternoon. "
    text = f"{filler}{line} {filler * 12}"

    made = PromptCompressor(120, query=line, model="cl100k_base").invoke(text)

    assert line in made


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("```\ncode\n\n# no heading\n```\nText.", ["code", "prose"]),
        ("Text.\n```\nnever closed\n\nText.", ["prose", "code"]),
        ('{"a": [1, 2]}\nText.', ["json", "prose"]),
        ('{"a": [1, 2}\nText.', ["prose"]),
        pytest.param(json.dumps({"a": "x" * 100, "b": "y" * 3_000}), ["json"], id="long strings"),
        ("2026-01-01 10:00 INFO a\n2026-01-01 10:01 INFO b\n", ["log"]),
        ("- a\n- b\n  c\n\nText.", ["list", "prose"]),
        ("diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n", ["diff", "diff"]),
        ("# Title\nText.", ["heading", "prose"]),
        ("def f(x):\n    return x\n\n\nclass A:\n    pass\n", ["code"]),
        ("Ann: hi\nBob: ho\nAnn: hm\nBob: ha\nAnn: ok\n", ["turn"]),
    ],
)
def test_segments_have_their_kinds(text, kinds):
    """Structure is recognised, broken structure is left alone."""
    assert kinds == [segment.kind for segment in segments_of(text)]


def test_a_table_row_brings_its_header():
    """Rows without the names of their columns say nothing."""
    rows = "".join(f"| item {n} | {n} EUR |\n" for n in range(40))
    text = f"| name | price |\n|---|---|\n{rows}"

    made = PromptCompressor(40, query="price of item 17", model="cl100k_base").invoke(text)

    assert made.startswith("| name | price |\n|---|---|\n")
    assert "| item 17 | 17 EUR |" in made


def test_code_without_fences_is_kept_whole():
    """A program is never thinned out line by line."""
    program = "import math\n\n\ndef area(r):\n    '''Circle.'''\n\n    return math.pi * r * r\n"
    text = f"{program}\n{'Tea is hot and people like it very much. ' * 30}"

    made = PromptCompressor(level="maximum", model="cl100k_base").compress(text, "area?").content

    assert program in made
    assert ast.parse(program)


def test_verbatim_spans():
    """Placeholders, URLs, quotations, code, numbers with units, dates and ids."""
    text = (
        'Send {name} to https://a.org/x, say "Go. Now.", run `a  b`, 5 kg on 3 May 2026, id AB-12.'
    )

    found = [text[a:b] for a, b in verbatim_spans(text)]

    assert found[:4] == ["{name}", "https://a.org/x,", '"Go. Now."', "`a  b`"]
    assert {"5 kg", "3 May 2026", "AB-12"} <= set(found)


@pytest.mark.parametrize(
    ("sentence", "required"),
    [
        ("You must cite.", True),
        ("Never guess.", True),
        ("Antworte nur auf Deutsch.", True),
        ("Usa {idioma}.", True),
        ("只能用中文回答。", True),
        ("You are an assistant.", False),
    ],
)
def test_obligations_in_four_languages(sentence, required):
    """Must, never and only are obligations; placeholders are required too."""
    assert required == is_required(sentence)


FEW_SHOT = (
    "Classify.\n\n"
    "Input: great film\nOutput: positive\n\n"
    "Input: awful plot\nOutput: negative\n\n"
    "Input: lovely music\nOutput: positive\n\n"
    "Input: dull acting\nOutput: negative\n\n"
    "Be brief.\n\n"
    "Input: what a plot\nOutput:"
)


def test_examples_end_where_they_end():
    """Neither instructions behind a blank line nor the user's input belong to an example."""
    found = find_examples(FEW_SHOT)

    assert ["positive", "negative", "positive", "negative"] == [e.label for e in found]
    assert "Be brief." not in "".join(FEW_SHOT[e.start : e.end] for e in found)
    assert FEW_SHOT[found[-1].end :] == "Be brief.\n\nInput: what a plot\nOutput:"


def test_examples_are_dropped_whole_within_a_budget():
    """In a prompt, few-shot blocks compete as wholes and the input is never touched."""
    many = FEW_SHOT.replace(
        "Be brief.",
        "".join(f"Input: film {n} is long\nOutput: neutral\n\n" for n in range(30)) + "Be brief.",
    )
    made = PromptCompressor(80, model="cl100k_base").invoke(many)

    assert made.endswith("Be brief.\n\nInput: what a plot\nOutput:")
    assert made.count("Input:") == made.count("Output:")
    assert all(label in made for label in ("positive", "negative", "neutral"))


def test_labels_are_covered_only_where_outputs_are_classes():
    """Free answers are not classes."""
    text = "Q: a\nA: one\n\nQ: b\nA: two\n\nQ: c\nA: three\n\n"
    likely = [0.1, 0.2, 0.7]

    cover_labels(find_examples(text), likely)

    assert [0.1, 0.2, 0.7] == likely


def test_numbers_keep_their_digits():
    """1.0 stays 1.0 and 1e5 stays 1e5."""
    rows = '[{"price": 1.0, "item": 1e5}, {"price": 2.50, "item": -0}, {"price": 3, "item": 7}]'
    table = '{"columns":["price","item"],"data":[[1.0,1e5],[2.50,-0],[3,7]]}'

    assert table == encode_json(rows, len)


def test_objects_inside_of_rows_become_columns():
    """Their names are joined by a dot; what is ambiguous then is left as it was."""
    nested = [{"id": n, "size": {"width": n, "depth": 1}} for n in range(4)]
    dotted = [{"size.width": n, "size": {"width": n}} for n in range(4)]

    assert encode_json(json.dumps(nested), len) == (
        '{"columns":["id","size.width","size.depth"],"data":[[0,0,1],[1,1,1],[2,2,1],[3,3,1]]}'
    )
    assert encode_json(json.dumps(dotted), len) == json.dumps(dotted, separators=(",", ":"))


@pytest.mark.parametrize(
    "text",
    [
        '{"columns": 5, "data": 7, "columns2": "enough to be looked at"}',
        '{"columns": ["a", "a.b"], "data": [[1, 2], [3, 4]]}',
        '{"columns": ["a"], "data": [[1, 2], [3, 4]], "more": [1, 2]}',
        '[{"columns": ["a"], "data": [[1]]}, {"columns": ["a"], "data": [[2]]}]',
    ],
)
def test_json_that_looks_like_a_table_is_not_taken_for_one(text):
    """It is written without white space, and reads as it did."""
    encoded = encode_json(text, len)

    assert encoded == json.dumps(json.loads(text), separators=(",", ":"))


USERS = [{"id": n, "name": f"user {n}", "role": f"role {n % 7}"} for n in range(40)]


@pytest.mark.parametrize(
    ("indent", "tool_results"), [(2, "lossless"), (None, "lossless"), (2, "keep"), (None, "keep")]
)
@pytest.mark.parametrize("key", ["users", None])
def test_json_that_is_too_long_loses_whole_elements(indent, tool_results, key):
    """What is left can be parsed, and has the element that was asked for."""
    value = {"total": 40, key: USERS} if key else USERS
    compressor = PromptCompressor(150, model="cl100k_base", query="Which role has user 17?")

    made = json.loads(compressor.invoke(json.dumps(value, indent=indent)))

    rows = made[key] if key else made
    rows = decode_json(json.dumps(rows)) if isinstance(rows, dict) else rows
    assert "user 17" in [row["name"] for row in rows]
    assert 5 < len(rows) < 40
    assert all(str(row["id"]) == row["name"].split()[1] for row in rows)


def test_of_json_no_empty_list_is_left():
    """Where no element fits, nothing is kept of it: an empty list would say that there is none."""
    users = [{"id": n, "notes": f"user {n} likes tea. " * 20} for n in range(9)]
    text = f"Context:\n{json.dumps({'users': users})}\n\nQuestion: Who is user 17?"

    made = PromptCompressor(50, model="cl100k_base").invoke(text)

    assert "[" not in made
    assert made.endswith("Question: Who is user 17?")


@pytest.mark.parametrize(
    "text",
    ['{"a": 1, "a": 2, "long": "enough to be looked at"}', "[NaN, 1, 2, 3" + ", 4" * 20 + "]"],
)
def test_ambiguous_json_is_left_alone(text):
    """Keys that come twice, and what is no JSON, are not rewritten."""
    assert encode_json(text, len) is None


def test_titles_count_for_every_sentence():
    """A sentence is found by its document's title."""
    text = (
        "Document [1](Title: Red bridge) It opened in 1931.\n"
        "Document [2](Title: Blue tower) It opened in 1950.\n"
    )
    units = read_message(text + "Question: x?").units

    ranked = relevance([text + "Question: x?"], units, "When did the red bridge open?").units

    best = units[ranked.index(max(ranked))]
    assert "It opened in 1931." in text[best.start : best.end]


def test_the_question_takes_no_chances_from_passages():
    """Asked in the message itself, sentences rank as if asked from outside."""
    passages = "".join(
        f"Document [{n}](Title: Bridge {n}) Painted red. Opened in 19{n}0. Some like it much.\n"
        for n in range(1, 6)
    )
    question = "When was bridge 3, the one that some call the red bridge of Arno, opened?"
    text = f"{passages}Question: {question}"
    reading = read_message(text)
    ranked = relevance([text], reading.units, question).units
    chances = [
        (chance, text[u.start : u.end].strip())
        for u, chance in zip(reading.units, ranked, strict=True)
        if not u.required
    ]

    assert 1.0 == pytest.approx(sum(chance for chance, _ in chances))
    assert "Opened in 1930." == max(chances)[1]


def test_a_task_of_many_things_is_answered_all_over_the_text():
    """Sentences that name some of many things count, far from where most of them are named."""
    task = (
        "Report on price, trend, volume, volatility, valuation against the sector, dividends, "
        "levels to watch, orders, margins, debt, backlog, guidance, warranty, staff and tariffs."
    )
    rich = "Price, trend, volume, volatility, valuation, sector, dividends, levels. " * 12
    poor = "The weather was mild and people went for walks. " * 20
    text = f"# Market\n{rich}\n# Diary\n{poor}The backlog shrinks as guidance falls. {poor}"
    units = read_material(text).units
    ranked = relevance([text], units, task).units
    by_text = {text[u.start : u.end].strip(): r for u, r in zip(units, ranked, strict=True)}

    backlog = by_text["The backlog shrinks as guidance falls."]
    assert backlog > 10 * by_text["The weather was mild and people went for walks."]


def test_sections_are_kept_shortened_or_dropped():
    """Each part by need, the required whole, within the budget."""
    prompt = PromptSections(
        {
            "role": Section("You answer guests of the hotel.", required=True),
            "pool": "The pool opens at 7. " + "Towels are free for guests of floor one. " * 12,
            "garden": "The garden has roses. " * 20,
            "rules": Section("Do not shout. Do not run.", needed_for=r"\bpool\b"),
        },
        max_tokens=45,
        model="cl100k_base",
    )

    made = prompt.assemble("When does the pool open?")

    assert made.tokens == counter_for("cl100k_base").count(made.text).tokens <= 45
    assert made.fates["role"] == made.fates["rules"] == "kept"
    assert made.fates["pool"] == "shortened"
    assert "The pool opens at 7." in made.text
    with pytest.raises(BudgetInfeasibleError):
        prompt.assemble("pool", 5)


REPORT = (
    "We read many filings. " * 30
    + "Revenue of ACME rose 12.5 % to $4.1 billion. "
    + "Weather was fine. " * 10
)


async def test_a_handover_is_the_same_for_all_readers():
    """One report, one result: the very same string, conclusions first, figures as written."""
    report = REPORT + "We recommend to wait until $180."
    handover = Handover(40, model="cl100k_base")

    made = handover.invoke(report)

    assert made is handover.invoke(report)
    assert made == await Handover(40, model="cl100k_base").ainvoke(report)
    assert made.startswith("We recommend to wait until $180.")
    assert "12.5 % to $4.1 billion" in made
    assert counter_for("cl100k_base").count(made).tokens <= 40


def test_a_handover_knows_the_words_of_your_reports():
    """What concludes in one trade says nothing in another."""
    report = REPORT + "ACME is a SELL to us."
    general, own = (
        Handover(20, model="cl100k_base", conclusions=patterns).invoke(report)
        for patterns in ((), r"\bSELL\b")
    )

    assert own.startswith("ACME is a SELL to us.")
    assert not general.startswith("ACME is a SELL to us.")
    with pytest.raises(ValueError, match="conclusions holds '\\('"):
        Handover(20, conclusions="(")


def test_units_of_a_quotation():
    """A quotation of two sentences is one unit."""
    text = 'He said "Go. Now." and left. It rained.'

    assert ['He said "Go. Now." and left.', " It rained."] == [
        text[u.start : u.end] for u in units_of(text)
    ]


@pytest.mark.parametrize("report", reports_build.CASES, ids=lambda report: report.id)
def test_a_decision_is_never_handed_over_without_its_revocation(report):
    """Nor the other way round, at any length and in any trade; and never more than allowed."""
    count = counter_for("cl100k_base").count
    for tokens in range(8, count(report.text).tokens, 6):
        try:
            made = Handover(tokens, model="cl100k_base", remember=0).invoke(report.text)
        except BudgetInfeasibleError:
            continue
        assert count(made).tokens <= tokens
        for one, other in report.together:
            assert (one in made) == (other in made)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("The lamp is new. Hold the power button. The fuse blew as the cable was wet. Tea was had. "
         "The reason was a loose roof tile.", "The reason was a loose roof tile."),
        ("Nobody should buy flowers. Guests sang. In total 214 guests came. They held hands.",
         "In total 214 guests came."),
        ("Der Tag war schön. Man aß Kuchen. Wegen des Frosts platzte das Rohr. Alle lachten.",
         "Wegen des Frosts platzte das Rohr."),
        ("Il faisait beau. On chantait. Il fut décidé de fermer le pont. On rentra.",
         "Il fut décidé de fermer le pont."),
        ("The kiln is brick. Glaze was mixed. The cracks trace back to damp clay. Lunch was soup.",
         "The cracks trace back to damp clay."),
        ("Der Weg ist steil. Der Ausfall ist auf Rost am Seil zurückzuführen. Es gab Suppe.",
         "Der Ausfall ist auf Rost am Seil zurückzuführen."),
        ("今天天气很好。大家都来了。因为水管破裂，仓库关闭。我们喝茶。",
         "因为水管破裂，仓库关闭。"),
    ],
)  # fmt: skip
def test_what_concludes_counts_and_causes_is_handed_over_in_any_trade(text, key):
    """Whatever orders and wishes stand beside it."""
    tokens = counter_for("cl100k_base").count(key).tokens + 3

    assert Handover(tokens, model="cl100k_base").invoke(text) == key


@pytest.mark.parametrize(
    ("report", "key"),
    [
        ("L'orgue date de 1790. Le verger est beau. Le chœur conclut que le toit fuit. "
         "Le pain venait du village.", "Le chœur conclut que le toit fuit."),
        ("El huerto es bonito. La inundación se debió a una compuerta rota. Hubo pan y sopa.",
         "La inundación se debió a una compuerta rota."),
        ("De tuin is mooi. De raad besloot het orgel te verkopen. Er was brood en soep.",
         "De raad besloot het orgel te verkopen."),
        ("De tuin is mooi. Wij bevelen aan het dak te vernieuwen. Er was brood en soep.",
         "Wij bevelen aan het dak te vernieuwen."),
    ],
)  # fmt: skip
def test_what_was_decided_or_caused_is_found_in_other_languages(report, key):
    """Where something came from is no cause of it."""
    tokens = counter_for("cl100k_base").count(key).tokens + 2

    assert Handover(tokens, model="cl100k_base").invoke(report) == key


def test_a_pronoun_that_opens_a_sentence_brings_the_sentence_before_it():
    """However little that matters by itself."""
    text = (
        "The orchard is nice. The beam over the altar is soft. It must be replaced by 4 May. "
        "Soup was served in the hall. People sang many songs."
    )
    made = Handover(19, model="cl100k_base").invoke(text)

    assert made == "The beam over the altar is soft. It must be replaced by 4 May."


def test_what_refers_to_a_sentence_brings_it_along():
    """A reader must know what "it" is."""
    text = (
        "The wall has a crack of 4 mm. Tea was served. It comes from the pile driving next door. "
        "The birds sang. Everybody went home."
    )
    made = Handover(20, model="cl100k_base").invoke(text)

    assert made == "The wall has a crack of 4 mm. It comes from the pile driving next door."
