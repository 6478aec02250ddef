"""Passages get the same scores however they are written."""

from __future__ import annotations

import json

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


def _cell(text: str) -> str:
    return f'"{text}"'


_ROWS = {
    "json": json.dumps([{"page": name, "body": text} for name, text in _MILLS]),
    "keys behind": json.dumps([{"body": text, "about": {"page": name}} for name, text in _MILLS]),
    "columns": json.dumps({"columns": ["page", "body"], "data": [list(row) for row in _MILLS]}),
    "json lines": "\n".join(json.dumps({"page": name, "body": text}) for name, text in _MILLS),
    "csv": "page,body\n" + "\n".join(f"{_cell(name)},{_cell(text)}" for name, text in _MILLS),
    "piped": "| page | body |\n|---|---|\n"
    + "\n".join(f"| {name} | {text} |" for name, text in _MILLS),
    "tags": "\n".join(f"<p><h>{name}</h><body>{text}</body></p>" for name, text in _MILLS),
    "headings": "\n\n".join(f"## {name}\n\n{text}" for name, text in _MILLS),
    "blank": "\n\n".join(f"{name}\n\n{text}" for name, text in _MILLS),
}  # fmt: skip


@pytest.mark.parametrize("form", _ROWS)
def test_the_same_sentence_is_kept_whatever_the_passages_are_written_in(form):
    """All six have it word for word but for the wood; the title above says which one is asked."""
    text = _ROWS[form]
    limit = COUNT(text).tokens // 4
    made = PromptCompressor(limit, model="cl100k_base", query=_ASKED).invoke(text)

    assert "Its wheel was carved from larch" in made
    assert "Garrow Mill" in made


def test_rows_below_named_columns_lose_no_cell():
    """A value says what it is by its place; of a long one sentences may go."""
    found = ToolMessage(_ROWS["columns"], tool_call_id="c1")
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
    table = "| page | body |\n|---|---|\n" + "\n".join(f"| {a} | {b} |" for a, b in rows)
    prompt = f"{table}\n\n{_ASKED}"
    units = read_message(prompt).units

    assert units[0].within(prompt) == "| page | body |\n|---|---|\n"
    assert units[1].within(prompt) == "| Quay | "
    assert (units[1].head, units[1].required) == (0, False)
