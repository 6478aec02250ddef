"""Laws of tiers: nested, within their shares, whole at the end; and of what is learned of them."""

from __future__ import annotations

import ast
import json
import random
import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.documents import Document

from langchain_tokenopt.compress import join_documents
from langchain_tokenopt.context.question_needs import complexity_of
from langchain_tokenopt.context.tier_choice import first_tier, plain_chances
from langchain_tokenopt.context.tier_history import TierHistory, Uses
from langchain_tokenopt.context.tiers import TIERS, count, marked, shares_of, tiers_of
from langchain_tokenopt.storage.learned_store import LearnedKey, LearnedStore

WORDS = [
    "river",
    "clause",
    "presión",
    "予約",
    "ledger",
    "42",
    "1.5",
    "Frist",
    "must",
    "never",
    "KX-4471",
    "€300",
    "gate",
    "opens",
]
FORMS = ("prose", "documents", "rows", "object", "code", "table", "words")
SHARES = shares_of(TIERS)


def content_of(form: str, chance: random.Random):
    """Return a content of one form, of any length."""
    size = chance.choice((3, 20, 60, 200))

    def said(most: int = 14) -> str:
        return " ".join(chance.choices(WORDS, k=chance.randint(3, most)))

    if form == "prose":
        return " ".join(f"In case {n} {said()}." for n in range(size))
    if form == "documents":
        pages = range(max(1, size // 6))
        return [
            Document(" ".join(f"On {n} {said()}." for n in range(6)), metadata={"title": f"P {p}"})
            for p in pages
        ]
    if form == "rows":
        return json.dumps([{"id": n, "is": said(4), "x": n / 7} for n in range(size)])
    if form == "object":
        return json.dumps({f"key {n}": {"is": said(), "of": [n, None, True]} for n in range(size)})
    if form == "code":
        units = (f"def f_{n}(a, b={n}):\n    x = a + b\n    return x * {n}" for n in range(size))
        return "```python\n" + "\n\n\n".join(units) + "\n```"
    if form == "table":
        head = "| id | what |\n|---|---|\n"
        return head + "\n".join(f"| {n} | {said(5)} |" for n in range(size))
    return said(3) * size


def pieces(content) -> list[str]:
    """Return what a content is made of, in order: what a smaller tier may leave out."""
    if not isinstance(content, str):
        return [f"{d.metadata['title']}: {s}" for d in content for s in pieces(d.page_content)]
    try:
        data = json.loads(content)
    except ValueError:
        return [part for part in re.split(r"(?<=\.) |\n", content) if part.strip()]
    items = data.items() if isinstance(data, dict) else data
    return [json.dumps(item) for item in items]


def is_within(part: list[str], whole: list[str]) -> bool:
    """Whether *part* comes out of *whole*, in its order."""
    rest = iter(whole)
    return all(any(each == one for one in rest) for each in part)


@pytest.mark.parametrize("query", [None, "What is in case 7, key 7, f_7 or 42?"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("seed", range(6))
def test_each_tier_is_part_of_the_next_and_within_its_share(form, seed, query):
    """The last is the content itself; JSON, code and tables are whole in each."""
    content = content_of(form, random.Random(seed))
    most = (150, 1_000, 100_000)[seed % 3]
    tiers = tiers_of(content, query, SHARES, most)
    assert tiers[-1].content is content
    assert [tier.name for tier in tiers] == [n for n in TIERS if n in {t.name for t in tiers}]
    whole = count(content)
    for tier, above in pairwise(tiers):
        assert tier.tokens == count(tier.content) < above.tokens
        assert count(marked(tier.content, '[99,999 tokens left out; expand("1a2b3c4d")]')) <= min(
            most, SHARES[tier.name] * whole
        )
        if form not in ("object", "words"):
            assert is_within(pieces(tier.content), pieces(above.content))
        if form in ("rows", "object"):
            assert json.loads(marked(tier.content, "[5 tokens left out.]"))
        if form == "code":
            for block in re.findall(r"```python\n(.*?)```", tier.content, re.DOTALL):
                assert ast.parse(block)
        if form == "table" and "|" in tier.content:
            assert all(line.count("|") == 3 for line in tier.content.splitlines())


def test_texts_that_cannot_be_parted_are_whole_or_cut_to_their_limit():
    """One word without end: no tier of it where it may be sent, the beginning where it may not."""
    word = "x" * 4_000
    assert [tier.content for tier in tiers_of(word, None, SHARES, 100_000)] == [word]
    part, whole = tiers_of(word, None, SHARES, 100)
    assert part.tokens <= 100 < whole.tokens


def test_of_what_is_too_long_to_be_fetched_a_part_comes_before_it():
    """By the question: the tool itself would cut it without."""
    text = " ".join(f"In case {n}, the {WORDS[n % 7]} is {n * n}." for n in range(2_000))
    tiers = tiers_of(text, "What is it in case 1234?", SHARES, 4_000)
    assert [tier.name for tier in tiers] == [*TIERS, "complete"]
    assert 7_000 < tiers[-2].tokens <= 8_000
    assert all("In case 1234," in tier.content for tier in tiers)
    assert all(is_within(pieces(a.content), pieces(b.content)) for a, b in pairwise(tiers))


@pytest.mark.parametrize(
    "tiers",
    [
        (),
        "essential",
        ("a", "a"),
        ("a", ""),
        {"a": 0.5},
        {"a": 0.5, "b": 0.2, "c": 1},
        {"a": float("nan"), "b": 1},
        {"a": 0.5, "b": float("inf")},
        7,
    ],
)
def test_tiers_that_are_none_are_refused(tiers):
    """With what was given, and with two that are right."""
    with pytest.raises(ValueError, match=r"tiers?\b"):
        shares_of(tiers)


def test_shares_of_ones_own():
    """As they are given, and between a tenth and one where only names are."""
    assert shares_of({"short": 0.3, "whole": 1.0}) == {"short": 0.3, "whole": 1.0}
    assert shares_of(["only"]) == {"only": 1.0}
    assert shares_of(["a", "b"]) == {"a": pytest.approx(0.1), "b": 1.0}


# --- what is learned

TIMES = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=40)


@settings(max_examples=200, deadline=None)
@given(TIMES, st.sampled_from(["simple", "ordinary", "broad"]))
def test_chances_rise_and_begin_at_what_is_believed(uses, complexity):
    """Whatever was seen, a larger tier is no less likely to be enough."""
    believed = plain_chances(complexity, [*SHARES.values()])
    history = TierHistory(LearnedStore(), "", TIERS, clock=lambda: 1e9)
    assert history.uses("ann", "t").chances(believed) == pytest.approx(believed)
    for first, needed in uses:
        history.sent("ann", "t", first)
        for at in range(first, max(first, needed)):
            history.asked_for_more("ann", "t", at, at + 1, is_first=at == first)
    chances = history.uses("ann", "t").chances(believed)
    assert all(0 <= a <= b + 1e-9 for a, b in zip(chances, [*chances[1:], 1.0], strict=True))
    assert history.uses("ann", "t").number <= 34.4
    assert history.uses("bob", "t").number == history.uses("ann", "other").number == 0


def test_few_uses_move_little_and_old_ones_fade():
    """One use is not believed outright; after months a stranger is left."""
    now = [1e9]
    history = TierHistory(LearnedStore(), "", TIERS, clock=lambda: now[0])
    believed = plain_chances("simple", [*SHARES.values()])

    def chance() -> float:
        return history.uses("ann", "t").chances(believed)[0]

    def use() -> None:
        history.sent("ann", "t", 0)
        history.asked_for_more("ann", "t", 0, 1, is_first=True)

    seen = [chance()]
    for _ in range(30):
        use()
        seen.append(chance())
    assert seen == sorted(seen, reverse=True)
    assert seen[0] > seen[1] > 0.75
    assert seen[-1] < 0.3
    now[0] += 30 * 86_400
    assert seen[-1] < chance() < 0.5
    now[0] += 3_000 * 86_400
    assert chance() == pytest.approx(believed[0])
    now[0] = 1e9  # a clock that was set back
    use()


def test_what_was_enough_says_nothing_against_less():
    """Who began with more and did not ask is no sign that less would not have done."""
    history = TierHistory(LearnedStore(), "", TIERS)
    believed = plain_chances("broad", [*SHARES.values()])
    for _ in range(30):
        history.sent("ann", "t", 2)
    chances = history.uses("ann", "t").chances(believed)
    assert all(a >= b - 1e-9 for a, b in zip(chances, believed, strict=True))
    for _ in range(30):
        history.sent("ann", "t", 0)
    assert history.uses("ann", "t").chances(believed)[0] > 0.8


@pytest.mark.parametrize(
    "stored",
    [
        7,
        {},
        {"tiers": [*TIERS], "within": [1, 1, 1], "exact": [0] * 4, "at": 1},
        {"tiers": [*TIERS], "within": [1, -1, 1, 1], "exact": [0] * 4, "at": 1},
        {"tiers": [*TIERS], "within": [1e9] * 4, "exact": [0] * 4, "at": 1},
        {"tiers": ["short", "whole"], "within": [1, 1], "exact": [0, 0], "at": 1},
        {"tiers": [*TIERS], "within": [1] * 4, "exact": [0] * 4, "at": "noon"},
    ],
)
def test_what_is_stored_by_others_is_nothing(stored):
    """Values of other tiers, other releases or other programs are read as none."""
    store = LearnedStore()
    store.update(LearnedKey("tiers", "", "ann", "task t"), lambda _: stored)
    history = TierHistory(store, "", TIERS)
    assert history.uses("ann", "t").number == 0
    history.sent("ann", "t", 0)
    assert history.uses("ann", "t").number == pytest.approx(1, abs=1e-4)
    assert Uses.read(None, TIERS).number == 0


def test_the_first_tier_by_chances_room_and_whether_somebody_answers():
    """More is sent where it is likely to be needed, never more than there is room for."""
    tokens = [100, 220, 460, 1_000]
    sure, unsure = [0.97, 0.98, 0.99, 1.0], [0.1, 0.3, 0.5, 1.0]
    assert first_tier(tokens, sure, 4_000, can_ask=True) == 0
    assert first_tier(tokens, unsure, 4_000, can_ask=True) == 3
    assert first_tier(tokens, unsure, 500, can_ask=True) == 2
    assert first_tier(tokens, unsure, 50, can_ask=True) == 0
    assert first_tier(tokens, [0.5, 0.92, 0.95, 1.0], 4_000, can_ask=False) == 1
    assert first_tier(tokens, unsure, 300, can_ask=False) == 1


_SIMPLE = (
    "How much is the fee of lot 7?",
    "Was kostet lot 7?",
    "¿Cuánto cuesta el lot 7?",
    "Wer zahlt lot 7?",
    "Combien coûte le lot 7 ?",
    "Quanto costa lot 7?",
    "Quanto custa o lot 7?",
    "Hoeveel kost lot 7?",
    "Сколько стоит лот 7?",
    "Ile kosztuje lot 7?",
    "ロット7の手数料はいくらですか",
    "7号地块的费用是多少？",
    "7번 로트는 얼마입니까?",
    "كم سعر القطعة 7؟",
    "Quand le pont a-t-il été construit ?",
    "Quando fu costruito il ponte?",
    "Wanneer werd de brug gebouwd?",
    "Kiedy zbudowano most?",
    "Когда построили мост?",
    "橋はいつ建てられましたか",
    "Qui est le capitaine ?",
    "Chi è il capitano?",
    "Quem é o capitão?",
    "Wie is de kapitein?",
    "Kto jest kapitanem?",
    "Кто капитан?",
    "船長は誰ですか",
    "선장은 누구입니까?",
    "Où se trouve le quai B ?",
    "Dov'è il molo B?",
    "Onde fica o cais B?",
    "Waar is kade B?",
    "Wie heißt der Kapitän?",
    "Wie lautet die Nummer?",
    "Quel est le prix du lot B ?",
    "Qual è il prezzo?",
    "Qual é o preço do lote?",
    "Tell me the fee of lot 7.",
    "What does lot B cost?",
    "What is the fee of lot 7?",
)
_ORDINARY = (
    "How does the pump work?",
    "Wie funktioniert die Pumpe?",
    "¿Cómo funciona la bomba?",
    "Comment fonctionne la pompe ?",
    "Come funziona la pompa?",
    "Como funciona a bomba?",
    "Hoe werkt de pomp?",
    "Как работает насос?",
    "Jak działa pompa?",
    "ポンプはどのように動きますか",
    "Which lot costs the most?",
    "Welches Los ist das teuerste?",
    "Quel lot est le plus cher ?",
    "Who said what, and when? Who answered?",
    "What does the contract say about noise?",
    "What happened in 2021?",
    "How does pump 3 work?",
    "Quale lotto costa di più in totale?",
)
_BROAD = (
    "Compare lot 3 and lot 7.",
    "Vergleiche alle Lose",
    "Résume le contrat.",
    "Riassumi il contratto.",
    "Resuma o contrato.",
    "Vat samen: alle loten",
    "Сравни все лоты",
    "Porównaj loty 3 i 7",
    "ロット3と7を比べてください",
    "Pourquoi le lot 7 est-il si cher ?",
    "Perché il lotto 7 costa tanto?",
    "Waarom kost lot 7 zoveel?",
    "Почему лот 7 такой дорогой?",
    "Dlaczego lot 7 jest drogi?",
    "Elenca i lotti con le tariffe",
    "請比較",
)


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("When was the bridge built?", "simple"),
        ("Wann wurde die Brücke gebaut?", "simple"),
        ("¿Cuándo se construyó el puente?", "simple"),
        ("How does the pump work?", "ordinary"),
        ("Summarize the discussion about the budget.", "broad"),
        ("Warum wurde das Projekt verschoben?", "broad"),
        ("¿Cuáles son las diferencias entre los dos?", "broad"),
        ("请比较这两份合同", "broad"),
        ("Who said what, and when? Who answered?", "ordinary"),
        (None, "ordinary"),
        ("", "ordinary"),
    ],
)
def test_how_much_a_question_needs_is_told_by_its_words(question, kind):
    """In several languages."""
    assert complexity_of(question) == kind


@pytest.mark.parametrize(
    ("kind", "questions"), [("simple", _SIMPLE), ("ordinary", _ORDINARY), ("broad", _BROAD)]
)
def test_a_kind_of_question_is_the_same_in_all_languages(kind, questions):
    """One thing asked for, a manner or a whole asked for, and all of it."""
    assert [q for q in questions if complexity_of(q) != kind] == []


def test_documents_are_marked_in_the_last_of_them():
    """So that whoever joins them has the line behind everything."""
    pages = [Document("One."), Document("Two.", metadata={"source": "2"}, id="b")]
    made = marked(pages, "[5 tokens left out.]")
    assert join_documents(made).endswith("Two.\n[5 tokens left out.]")
    assert (pages[1].page_content, made[1].metadata, made[1].id) == ("Two.", {"source": "2"}, "b")
    assert json.loads(marked("[]", "[5 left out]")) == [{"_left_out": "[5 left out]"}]
    assert json.loads(marked("{}", "[5 left out]")) == {"_left_out": "[5 left out]"}
