"""Which tools come first, how probable they are, and how many are shown."""

from __future__ import annotations

import random
import threading
import warnings
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.embeddings import Embeddings

from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.tools import ranking_vectors
from langchain_tokenopt.tools.choice import FEW_TOKENS, FEW_TOOLS, choose
from langchain_tokenopt.tools.ranking import Ranked, ToolRanking
from langchain_tokenopt.tools.tool_reading import ToolCard, read_tool


def card(name: str, description: str = "", **properties: Any) -> ToolCard:
    found = read_tool(
        {
            "name": name,
            "description": description,
            "parameters": {"type": "object", "properties": properties},
        }
    )
    assert found is not None
    return found


OFFICE = [
    card("send_email", "Send a message to somebody.", to={"type": "string"}),
    card("create_event", "Put an appointment into the calendar."),
    card("delete_event", "Take an appointment out of the calendar."),
    card("getWeather", "Current weather of a city.", unit={"enum": ["celsius", "fahrenheit"]}),
    card("convert_currency", "Exchange rates between currencies."),
    card("translate_text", "Put a text into another language."),
    card("search_flights", "Find flights between airports."),
    card("list_invoices", "Bills that are still open.", status={"examples": ["overdue"]}),
    card("query_db", ""),
    card("天气查询", "查询城市的天气预报"),
]


def best(query: str, cards: list[ToolCard] = OFFICE) -> str:
    return ToolRanking().rank(query, cards)[0].card.name


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("What's the weather in Oslo?", "getWeather"),
        ("run query_db for me", "query_db"),
        ("cancel my meeting tomorrow", "delete_event"),
        ("Lösche den Termin am Montag", "delete_event"),
        ("Crea una cita con Ana", "create_event"),
        ("is it 20 degrees Celsius there?", "getWeather"),
        ("anything overdue?", "list_invoices"),
        ("serch flihgts to Rome", "search_flights"),
        ("北京今天的天气", "天气查询"),
        ("EXCHANGE 100 DOLLARS", "convert_currency"),
    ],
)
def test_words_find_the_tool(query, name):
    """Fields, synonyms, other languages, enums, examples, names as in code, slips of the pen."""
    assert best(query) == name


def test_nothing_to_rank():
    """No tools, no words, marks only."""
    assert [*ToolRanking().rank("weather", [])] == []
    assert choose(ToolRanking().rank("weather", []), max_tools=3) == []
    for query in ("", "?!", "\ud800", "the of and"):
        assert [one.position for one in ToolRanking().rank(query, OFFICE)] == [*range(len(OFFICE))]


def test_a_request_that_is_a_file_is_read_at_both_ends():
    """What is wanted stands before or behind what it is wanted for."""
    file = "line of a log that says nothing\n" * 20_000
    assert best(f"Translate this text:\n{file}") == "translate_text"
    assert best(f"{file}\nTranslate the text above.") == "translate_text"


words = st.sampled_from(
    ["weather", "event", "send", "flight", "city", "天气", "create", "and.", "the"]
)
queries = st.lists(words, max_size=8).map(" ".join)


@given(queries, st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_scores_do_not_depend_on_the_order(query, chance):
    """The same tools in another order get the same scores; ties keep the order that is given."""
    shuffled = OFFICE[:]
    chance.shuffle(shuffled)
    one, other = ToolRanking().rank(query, OFFICE), ToolRanking().rank(query, shuffled)
    assert {r.card.name: r.score for r in one} == pytest.approx(
        {r.card.name: r.score for r in other}, rel=1e-9
    )
    assert all(0.0 <= r.score <= 1.0 for r in one)
    assert [r.score for r in one] == sorted((r.score for r in one), reverse=True)
    for above, below in pairwise(other):
        if above.score == below.score:
            assert above.position < below.position


def test_ranking_is_deterministic():
    """Another instance, which has seen other requests, says the same to the digit."""
    used = ToolRanking()
    used.rank("send a mail", OFFICE)
    query = "weather and flights"
    assert [r[:4] for r in used.rank(query, OFFICE)] == [
        r[:4] for r in ToolRanking().rank(query, OFFICE)
    ]


class Axes(Embeddings):
    """Texts about the same thing have the same vector; says how often it was asked."""

    things = (
        ("weather", "rain", "umbrella"),
        ("letter", "email", "note"),
        ("flight", "fly", "plane"),
    )

    def __init__(self) -> None:
        self.calls = 0
        self.fails = False

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.calls += 1
        if self.fails:
            raise ConnectionError("no network")
        return [self._vector(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]

    def _vector(self, text: str) -> list[float]:
        found = [float(sum(w in text.lower() for w in thing)) for thing in self.things]
        return [*found, 0.3]


def test_meaning_finds_what_words_do_not():
    """No word is shared."""
    ranking = ToolRanking(Axes())
    assert ranking.rank("Do I need an umbrella?", OFFICE)[0].card.name == "getWeather"
    reasons = [r.reason for r in ranking.rank("Do I need an umbrella?", OFFICE)]
    assert reasons[0].startswith("meaning 1.0")
    assert reasons[-1] == "nothing speaks for it"


def test_an_embedder_that_fails_leaves_words():
    """The request goes on, and meaning is back when the embedder is."""
    embedder = Axes()
    embedder.fails = True
    ranking = ToolRanking(embedder)
    words_alone = [r[:3] for r in ToolRanking().rank("weather in Oslo", OFFICE)]
    with pytest.warns(TokenOptWarning, match="ConnectionError: no network"):
        assert [r[:3] for r in ranking.rank("weather in Oslo", OFFICE)] == words_alone
    embedder.fails = False
    assert ranking.rank("Do I need an umbrella?", OFFICE)[0].card.name == "getWeather"


class Wrong(Axes):
    """Returns something else than was agreed on, from some text on."""

    def __init__(self, answer) -> None:
        super().__init__()
        self.answer = answer

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return self.answer(super().embed_documents(texts))


WRONG = {
    "none": lambda found: None,
    "nones": lambda found: [None for _ in found],
    "not numbers": lambda found: [[float("nan")] * 4 for _ in found],
    "ragged": lambda found: [[1.0, [2.0, 3.0]] for _ in found],
    "one less": lambda found: found[1:],
    "shorter for many": lambda found: [v[:3] if len(found) > 2 else v for v in found],
    "of several lengths": lambda found: [v[: 4 - n % 2] for n, v in enumerate(found)],
}


@pytest.mark.parametrize("answer", WRONG.values(), ids=WRONG)
def test_an_embedder_that_returns_nonsense_leaves_words_and_is_told_of_once(answer):
    """With the reason; every request is ranked."""
    ranking, words = ToolRanking(Wrong(answer)), ToolRanking()
    queries = ("weather in Oslo", "Find flights to Oslo and send an email to Ann")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for query in 2 * queries:
            assert [r[:3] for r in ranking.rank(query, OFFICE)] == [
                r[:3] for r in words.rank(query, OFFICE)
            ]
    assert [str(each.message)[:38] for each in told] == ["The embedder of a ToolSelector failed "]


def test_an_embedder_that_hangs_holds_up_one_request_for_a_moment(monkeypatch):
    """All of its calls together; the others go on at once, until it comes back."""
    monkeypatch.setattr(ranking_vectors, "_SECONDS", 0.05)
    goes_on, entered = threading.Event(), []

    class Hanging(Axes):
        def embed_documents(self, texts):
            entered.append(len(texts))
            goes_on.wait(20)
            return super().embed_documents(texts)

    ranking, words = ToolRanking(Hanging()), ToolRanking()
    query = "Do I need an umbrella?"
    with pytest.warns(TokenOptWarning, match=r"no vector after 0\.05 s"):
        first = ranking.rank(query, OFFICE)
    again = [ranking.rank(query, OFFICE) for _ in range(3)]
    assert len(entered) == 1
    for found in (first, *again):
        assert [r[:3] for r in found] == [r[:3] for r in words.rank(query, OFFICE)]
    goes_on.set()
    monkeypatch.setattr(ranking._embedder._limit, "_seconds", 20.0)
    while not ranking._embedder._limit._hanging.is_set():
        goes_on.wait(0.01)
    assert ranking.rank(query, OFFICE)[0].card.name == "getWeather"
    assert ranking.rank(query, OFFICE)[0].reason.startswith("meaning")


def test_tools_are_embedded_once():
    """A set of tools that was seen costs one vector a request."""
    embedder = Axes()
    ranking = ToolRanking(embedder)
    ranking.rank("weather in Oslo", OFFICE)
    before = embedder.calls
    ranking.rank("flights to Oslo", OFFICE)
    assert embedder.calls - before == 1
    ranking.rank("Find flights to Oslo, send an email to Ann and book a hotel there", OFFICE)
    assert embedder.calls - before == 2


VERBS, THINGS = ("create", "delete", "find", "send"), ("order", "parcel", "bill", "gift", "user")
MANY = [
    card(f"{verb}_{thing}", f"{verb.title()} a {thing} of store {n} by {m} steps.")
    for n, verb in enumerate(VERBS)
    for m, thing in enumerate(THINGS)
]


@given(queries | st.sampled_from(["delete the parcel", "find a gift and send it"]))
@settings(max_examples=30, deadline=None)
def test_bigger_choices_contain_smaller_ones(query):
    """More places never take a tool away."""
    ranked = ToolRanking().rank(query, MANY + OFFICE)
    smaller: set[str] = set()
    for most in range(1, 12):
        chosen = choose(ranked, max_tools=most)
        names = {one.card.name for one in chosen}
        assert len(chosen) == most
        assert smaller <= names
        smaller = names


@given(st.integers(0, 900), st.sampled_from(["delete the parcel", "weather"]))
@settings(max_examples=30, deadline=None)
def test_no_choice_takes_more_tokens_than_there_are(room, query):
    """What is always shown counts, too; a tool that does not fit makes room for one that does."""
    chosen = choose(ToolRanking().rank(query, MANY), max_tokens=room, always_include={"send_gift"})
    tokens = sum(one.card.tokens for one in chosen)
    assert "send_gift" in {one.card.name for one in chosen}
    assert tokens <= max(room, next(c.tokens for c in MANY if c.name == "send_gift"))


def plain_choice(
    ranked: list[Ranked], most: int | None, room: int | None, always: set[str]
) -> list[tuple[str, str]]:
    """Choose among tools that were all put together, one group's after every other one's."""
    tokens = sum(one.card.tokens for one in ranked)
    if most is None and room is None and (len(ranked) <= FEW_TOOLS or tokens <= FEW_TOKENS):
        kept = ranked[:]
    else:
        kept = [one for one in ranked if not always.isdisjoint(one.card.names)]
        fixed = len(kept)
        others = [one for one in ranked if one not in kept]
        free = (room or 10**9) - sum(one.card.tokens for one in kept)
        limit = fixed + (max(24, int(0.04 * len(ranked))) if most is None else most)
        taken: list[int] = []
        while others and len(kept) < limit:
            missed = sum(one.score for one in ranked if one not in kept)
            if most is None and missed <= 0.01 and len(kept) - fixed >= 5:
                break
            fair = (one for one in others if 2 * taken.count(one.group) <= len(taken))
            one = next(fair, others[0])
            others.remove(one)
            taken.append(one.group)
            if one.card.tokens <= free:
                kept.append(one)
                free -= one.card.tokens
    kept.sort(key=lambda one: (-one.score, one.position))
    found = []
    for one in kept:
        alike = [o.card.name for o in ranked if o.group == one.group and o not in kept]
        more = f" and {len(alike) - 3} more" if len(alike) > 3 else ""
        told = f"; nearly the same: {', '.join(alike[:3])}{more}" if alike else ""
        found.append((one.card.name, one.reason + told))
    return found


TWINS = [card(f"store{n}__find_gift", "Find a gift of a store by steps.") for n in range(6)]


@given(
    queries | st.sampled_from(["delete the parcel", "find a gift", "send_gift find bill"]),
    st.none() | st.integers(1, 40),
    st.none() | st.integers(1, 900),
    st.sets(st.sampled_from(["send_gift", "getWeather", "store3__find_gift", "none"])),
    st.sampled_from([OFFICE, MANY + OFFICE, TWINS + MANY, MANY + TWINS + OFFICE]),
)
@settings(max_examples=60, deadline=None)
def test_what_is_put_together_late_is_what_all_would_be(query, most, room, always, cards):
    """A ranking that makes each tool when it is asked for chooses as one that has made them all."""
    ranked = ToolRanking().rank(query, cards)
    chosen = choose(ranked, max_tools=most, max_tokens=room, always_include=always)
    expected = plain_choice([*ranked], most, room, always)
    assert [(one.name, one.reason) for one in chosen] == expected
    assert ranked[2:5] == [*ranked][2:5]
    assert ranked[-1] == [*ranked][-1]


def test_few_tools_stay():
    """Where there is little to save, nothing is left out, unless it is asked for."""
    few = ToolRanking().rank("weather", OFFICE[:FEW_TOOLS])
    assert len(choose(few)) == FEW_TOOLS
    assert len(choose(few, max_tools=2)) == 2


def test_how_many_depends_on_the_evidence():
    """A clear request gets few tools of a large set, an unclear one more."""
    cards = [
        card(f"tool_{n}", f"Does number {n} of {random.Random(n).random()}.") for n in range(60)
    ]
    cards += [card("get_weather", "Current weather, forecast and temperature of a city " * 3)]
    clear = choose(ToolRanking().rank("get_weather: current weather and temperature", cards))
    unclear = choose(ToolRanking().rank("do that thing", cards))
    assert clear[0].card.name == "get_weather"
    assert len(clear) < len(unclear) < len(cards)


def test_duplicates_do_not_take_all_places():
    """Ten servers offer one tool: half of the places are for others, and the reason says so."""
    same = [card(f"server{n}__search_flights", "Find flights between airports.") for n in range(10)]
    ranked = ToolRanking().rank("find flights", [*same, *OFFICE])
    chosen = choose(ranked, max_tools=6)
    alike = [one for one in chosen if one.card.name.startswith("server")]
    assert len(alike) <= 3
    assert "nearly the same: server" in chosen[0].reason
    pair = ToolRanking().rank("find flights", [*same[:2], *OFFICE[:6]])
    assert {one.card.name for one in choose(pair, max_tools=3)} >= {c.name for c in same[:2]}


def test_kinds_of_requests_are_the_tools_groups():
    """Servers first; else the words that names share; probabilities of the whole group."""
    named = [card("github__create_issue"), card("github__merge"), card("slack__post_message")]
    kinds = ToolRanking().classify("create an issue", named)
    assert [kind for kind, _ in kinds] == ["github", "slack"]
    kinds = ToolRanking().classify("delete the parcel", MANY)
    assert kinds[0][0] == "parcel"
    assert {kind for kind, _ in kinds} == {"order", "parcel", "bill", "gift", "user"}
    assert all(0 <= chance <= 1 for _, chance in kinds)


@pytest.mark.exhaustive
def test_ten_thousand_tools_and_equal_names():
    """Nothing is lost: every tool is ranked once."""
    cards = [card(f"tool_{n % 5_000}", f"Handles case {n}.") for n in range(10_000)]
    ranked = ToolRanking().rank("case 77", cards)
    assert sorted(r.position for r in ranked) == [*range(10_000)]
    assert ranked[0].card.description == "Handles case 77."
    assert np.isfinite([r.score for r in ranked]).all()
