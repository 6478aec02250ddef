"""Passages get the same scores however they are written."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

from langchain_tokenopt.compress import PromptCompressor
from langchain_tokenopt.compress.prompt_parts import read_message
from langchain_tokenopt.counting.tokens import counter_for

COUNT = counter_for("cl100k_base").count
_MILLS = [
    (
        name,
        f"{opening} stands on the river {river}. Its wheel was carved from {wood} by a cooper of "
        f"the valley. The first flour left the yard in {year}, and carts took it to the coast. "
        f"Swallows nest below the eaves since the roof was mended.",
    )
    for name, opening, river, wood, year in (
        ("Corran Mill", "It", "Tarn", "oak", 1787),
        ("Debble Mill", "The old house", "Isk", "elm", 1802),
        ("Fennick Mill", "It", "Lode", "ash", 1811),
        ("Garrow Mill", "The tall building", "Pell", "larch", 1825),
        ("Hollin Mill", "It", "Wray", "beech", 1833),
        ("Jessamy Mill", "It", "Orm", "yew", 1840),
    )
]
_ASKED = "Which wood was the wheel of Garrow Mill carved from?"


Rows = list[tuple[str, str]]

WRITE: dict[str, Callable[[Rows], str]] = {
    "json": lambda rows: json.dumps([{"page": a, "body": b} for a, b in rows]),
    "keys behind": lambda rows: json.dumps([{"body": b, "about": {"page": a}} for a, b in rows]),
    "columns": lambda rows: json.dumps({"columns": ["page", "body"], "data": rows}),
    "json lines": lambda rows: "\n".join(json.dumps({"page": a, "body": b}) for a, b in rows),
    "csv": lambda rows: "page,body\n" + "\n".join(f'"{a}","{b}"' for a, b in rows),
    "piped": lambda rows: (
        "| page | body |\n|---|---|\n" + "\n".join(f"| {a} | {b} |" for a, b in rows)
    ),
    "tags": lambda rows: "\n".join(f"<p><h>{a}</h><body>{b}</body></p>" for a, b in rows),
    "headings": lambda rows: "\n\n".join(f"## {a}\n\n{b}" for a, b in rows),
    "blank": lambda rows: "\n\n".join(f"{a}\n\n{b}" for a, b in rows),
}


@pytest.mark.parametrize("form", WRITE)
def test_the_same_sentence_is_kept_whatever_the_passages_are_written_in(form):
    """All six have it word for word but for the wood; the title above says which one is asked."""
    text = WRITE[form](_MILLS)
    limit = COUNT(text).tokens // 4
    made = PromptCompressor(limit, model="cl100k_base", query=_ASKED).invoke(text)

    assert "Its wheel was carved from larch" in made
    assert "Garrow Mill" in made


def test_rows_below_named_columns_lose_no_cell():
    """A value says what it is by its place; of a long one sentences may go."""
    found = ToolMessage(WRITE["columns"](_MILLS), tool_call_id="c1")
    call = AIMessage("", tool_calls=[{"name": "find", "args": {"q": "mills"}, "id": "c1"}])
    asked = [HumanMessage(_ASKED), call, found]
    made = PromptCompressor(220, model="cl100k_base", tool_results="select").invoke(asked)
    left = json.loads(made[-1].text)

    assert left["columns"] == ["page", "body"]
    assert left["data"]
    assert all(row[0] in dict(_MILLS) and row[1] for row in left["data"])


def test_a_short_first_row_is_a_row_like_others():
    """It is no part of what names the columns, which comes with each row."""
    rows = [("Quay", "It has a crane."), *_MILLS]
    prompt = f"{WRITE['piped'](rows)}\n\n{_ASKED}"
    units = read_message(prompt).units

    assert units[0].within(prompt) == "| page | body |\n|---|---|\n"
    assert units[1].within(prompt) == "| Quay | "
    assert (units[1].head, units[1].required) == (0, False)


_GATE = [
    ("Notice of 4 March", "The east gate opens at seven on market days."),
    ("Notice of 11 May", "Correction: the east gate opens at nine on market days."),
]
_SHEDS = [
    (
        f"Notice {n}",
        f"The {word} shed holds {3 * n} crates of pears; its keys hang by the door.",
    )
    for n, word in enumerate(("old", "new", "red", "low", "tall", "wide", "dry", "wet"), 1)
]


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("form", ["json", "json lines", "csv", "piped", "headings", "tags"])
def test_a_corrected_statement_never_stands_without_its_correction(form, turned):
    """Whatever both are written in, and in any room."""
    rows = [*_SHEDS[:4], *(_GATE[::-1] if turned else _GATE), *_SHEDS[4:]]
    text = WRITE[form](rows)
    for limit in range(30, 150, 15):
        shorten = PromptCompressor(limit, model="cl100k_base", remember=0)
        made = shorten.compress(text, "When does the east gate open on market days?").content

        assert "at nine" in made or "at seven" not in made, limit
        if form == "json":
            assert json.loads(made)
