"""Shorter schemas: what a call must look like stays."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_tokenopt.tools.slim import slim
from langchain_tokenopt.tools.tool_reading import read_tool
from tests.unit_tests.tools.test_tool_reading import FORMS

DICTS = {name: form for name, form in FORMS.items() if isinstance(form, dict)}
LONG = "Create an issue. It is shown to everybody at once."


def _lengthened(value: Any) -> Any:
    """Give every description a second sentence and every schema a title."""
    if isinstance(value, list):
        return [_lengthened(part) for part in value]
    if not isinstance(value, dict):
        return value
    made = {key: _lengthened(inner) for key, inner in value.items()}
    if isinstance(made.get("description"), str):
        made["description"] += " It has more to say."
    return made


@pytest.mark.parametrize("form", DICTS)
def test_every_format_is_slimmed_to_what_it_was(form):
    """The second sentences go, and nothing else but examples."""
    full = _lengthened(DICTS[form])
    before = copy.deepcopy(full)
    slimmed, lost = slim(full)
    assert full == before
    assert len(lost) == 3
    small, big = read_tool(slimmed), read_tool(full)
    assert small is not None
    assert big is not None
    assert small.tokens < big.tokens
    assert small.description == "Create an issue."
    assert [(p.name, p.values) for p in small.parameters] == [
        (p.name, p.values) for p in big.parameters
    ]


def test_names_are_no_keywords():
    """A parameter may be called title, examples or description."""
    named = {"title": {"type": "string", "title": "Title"}, "examples": {"type": "integer"}}
    schema = {"type": "object", "properties": named | {"description": {"type": "string"}}}
    slimmed, lost = slim({"name": "a", "input_schema": {**schema, "required": ["title"]}})
    assert slimmed["input_schema"]["properties"] == {
        "title": {"type": "string"},
        "examples": {"type": "integer"},
        "description": {"type": "string"},
    }
    assert slimmed["input_schema"]["required"] == ["title"]
    assert lost == ["input_schema.properties.title.title"]


@pytest.mark.parametrize(
    "tool",
    [
        {"type": "web_search", "description": "One. Two."},
        {"type": "function", "function": {"name": "a", "description": LONG, "strict": True}},
        {"type": "function", "name": "a", "description": LONG, "strict": True},
        {"name": "a", "description": "One sentence."},
        "text",
        None,
    ],
    ids=["provider", "strict chat", "strict responses", "short", "text", "none"],
)
def test_what_cannot_be_shortened_is_the_same_object(tool):
    """Strict schemas are compiled by the provider, and known by their bytes."""
    slimmed, lost = slim(tool)
    assert slimmed is tool
    assert lost == []


schemas = st.recursive(
    st.fixed_dictionaries({"type": st.sampled_from(["string", "integer"])}, optional={
        "description": st.sampled_from(["One.", "One. Two.", ""]),
        "enum": st.lists(st.sampled_from(["title", "a. b", "c"]), min_size=1, max_size=2),
        "title": st.text(max_size=3), "default": st.sampled_from(["One. Two.", {"title": 1}]),
        "examples": st.lists(st.text(max_size=2), max_size=2),
    }),
    lambda inner: st.fixed_dictionaries({
        "type": st.just("object"),
        "properties": st.dictionaries(st.sampled_from(["title", "enum", "x"]), inner, max_size=3),
        "required": st.just(["x"]),
    }) | st.fixed_dictionaries({"type": st.just("array"), "items": inner}),
    max_leaves=6,
)  # fmt: skip


def _without_text(value: Any, is_schema: bool = True) -> Any:
    """Return what a call must look like: the oracle."""
    if isinstance(value, list):
        return [_without_text(part, is_schema) for part in value]
    if not isinstance(value, dict) or not is_schema:
        return value
    made = {}
    for key, inner in value.items():
        if key in ("title", "examples", "description"):
            continue
        if key == "properties":
            made[key] = {name: _without_text(each) for name, each in inner.items()}
        else:
            made[key] = _without_text(inner, key == "items")
    return made


@given(schemas)
def test_calls_look_as_before(schema):
    """Types, names, enums, defaults and what is required are untouched, however nested."""
    tool = {"name": "a", "input_schema": schema}
    slimmed, _ = slim(tool)
    assert _without_text(slimmed["input_schema"]) == _without_text(schema)
    assert slim(slimmed) == (slimmed, [])
