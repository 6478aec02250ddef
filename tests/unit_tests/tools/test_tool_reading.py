"""One reading of a tool, whoever wrote it."""

from __future__ import annotations

from typing import Any, TypedDict

import pytest
from google.genai import types as google_types
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.tools import StructuredTool, tool
from langchain_core.utils.function_calling import convert_to_openai_function
from pydantic import BaseModel, Field

from langchain_tokenopt.counting.request_tokens import count_tools
from langchain_tokenopt.tools.tool_lists import read_list
from langchain_tokenopt.tools.tool_reading import name_words, read_tool, read_tools, split_tool

DESCRIPTION = "Create an issue."
PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "title": {"type": "string", "description": "What it is about.", "examples": ["Crash"]},
        "state": {"type": "string", "enum": ["open", "closed"]},
        "labels": {"type": "array", "items": {"type": "string", "enum": ["bug", "idea"]}},
    },
    "required": ["title"],
}
NAMED = {"name": "create_issue", "description": DESCRIPTION}

FORMS = {
    "openai chat": {"type": "function", "function": {**NAMED, "parameters": PARAMETERS}},
    "openai responses": {"type": "function", **NAMED, "parameters": PARAMETERS},
    "openai function": {**NAMED, "parameters": PARAMETERS},
    "anthropic": {**NAMED, "input_schema": PARAMETERS},
    "anthropic custom": {"type": "custom", **NAMED, "input_schema": PARAMETERS},
    "mcp": {**NAMED, "inputSchema": PARAMETERS},
    "bedrock": {"toolSpec": {**NAMED, "inputSchema": {"json": PARAMETERS}}},
    "gemini": {"function_declarations": [{**NAMED, "parameters": PARAMETERS}]},
    "gemini json": {"functionDeclarations": [{**NAMED, "parametersJsonSchema": PARAMETERS}]},
    "gemini objects": google_types.Tool(
        function_declarations=[
            google_types.FunctionDeclaration(**NAMED, parameters_json_schema=PARAMETERS)
        ]
    ),
    "json schema": {"title": "create_issue", "description": DESCRIPTION, **PARAMETERS},
}


@pytest.mark.parametrize("form", FORMS)
def test_all_formats_read_alike(form):
    """The provider's way of writing changes nothing of what a tool is."""
    card = read_tool(FORMS[form])
    oracle = read_tool(FORMS["openai chat"])
    assert card is not None
    assert oracle is not None
    assert (card.name, card.description, card.parameters) == (
        "create_issue",
        DESCRIPTION,
        oracle.parameters,
    )
    assert [(p.name, p.values, p.examples) for p in card.parameters] == [
        ("title", (), ("Crash",)),
        ("state", ("open", "closed"), ()),
        ("labels", ("bug", "idea"), ()),
    ]


class CreateIssue(BaseModel):
    """Create an issue."""

    title: str = Field(description="What it is about.")


class IssueForm(TypedDict):
    """Create an issue."""

    title: str


def create_issue(title: str) -> str:
    """Create an issue.

    Args:
        title: What it is about.
    """
    return title


@pytest.mark.parametrize(
    "given_tool",
    [
        create_issue,
        CreateIssue,
        IssueForm,
        tool(create_issue),
        StructuredTool.from_function(create_issue),
    ],
    ids=["function", "pydantic", "typed dict", "decorated", "structured"],
)
def test_python_is_read_as_langchain_binds_it(given_tool):
    """What is read of an object is what the model would be told."""
    card = read_tool(given_tool)
    bound = convert_to_openai_function(given_tool)
    assert card is not None
    assert (card.name, card.description) == (bound["name"], bound["description"])
    assert [p.name for p in card.parameters] == ["title"]
    assert card.words == ("create", "issue") or card.words == ("issue", "form")


@pytest.mark.parametrize(
    "provided",
    [
        {"type": "web_search"},
        {"type": "web_search_20250305", "name": "web_search"},
        {"type": "mcp", "server_label": "deepwiki", "server_url": "https://x.example/mcp"},
        {"google_search": {}},
        {"cachePoint": {"type": "default"}},
        {"type": "function", "name": "rare", "parameters": {}, "defer_loading": True},
        {},
        {"name": 3},
        {"function_declarations": []},
        "search",
        None,
        7,
    ],
    ids=str,
)
def test_what_runs_at_the_provider_has_no_card(provided):
    """Nothing is known of it, so it passes."""
    assert read_tool(provided) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["name", "description", "parameters", "properties", "function", "type", "title",
                 "function_declarations", "toolSpec", "inputSchema", "json", "enum", "items"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)  # fmt: skip


@given(json_values)
def test_no_shape_breaks_the_reading(value):
    """Whatever stands where a tool should: a card or none, never an error."""
    card = read_tool(value)
    assert card is None or (isinstance(card.name, str) and card.tokens > 0)


def test_tokens_add_up():
    """What cards say is what the request's count grows by."""
    tools = [{**FORMS["openai function"], "name": f"create_{n}"} for n in ("a", "b", "c")]
    cards = [card for card in read_tools(tools) if card]
    growth = count_tools(tools).tokens - count_tools(tools[:1]).tokens
    assert sum(card.tokens for card in cards[1:]) == growth


def test_a_changed_tool_is_read_again():
    """A dict is the caller's: it may say something else the next time."""
    changing: dict[str, Any] = {"name": "a", "parameters": {"properties": {"x": {}}}}
    before = read_tool(changing)
    assert read_tool(changing) is before
    changing["parameters"]["properties"]["y"] = {}
    after = read_tool(changing)
    assert before is not None
    assert after is not None
    assert [p.name for p in after.parameters] == ["x", "y"]
    assert before.key != after.key


def schema_of(form: str, at: int) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"x": {"type": "string"}, "y": {}}}
    name, text = f"tool_{at}", f"Does {at}."
    match form:
        case "openai":
            return {"type": "function", "function": {"name": name, "parameters": schema}}
        case "anthropic":
            return {"name": name, "description": text, "input_schema": schema}
        case "bedrock":
            return {"toolSpec": {"name": name, "inputSchema": {"json": schema}}}
        case "empty":
            return {"function": {}, "name": name, "parameters": {}, "input_schema": schema}
        case "gemini":
            return {"function_declarations": [{"name": name}, {"name": name + "_too"}]}
        case _:
            return {"name": name, "description": text, "parameters": None}


def inner_dicts(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, list):
        return [found for part in value for found in inner_dicts(part)]
    if not isinstance(value, dict):
        return []
    return [value, *(found for part in value.values() for found in inner_dicts(part))]


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_a_list_that_was_read_notices_what_each_tool_would(data):
    """Whatever is changed in place, a list says the same as its tools that are read one by one."""
    forms = st.sampled_from(["openai", "anthropic", "bedrock", "empty", "gemini", "bare"])
    tools = [schema_of(form, at) for at, form in enumerate(data.draw(st.lists(forms, min_size=1)))]
    assert read_list(tools).cards == read_tools(read_list(tools).tools)
    for _ in range(data.draw(st.integers(1, 3))):
        where = data.draw(st.sampled_from(inner_dicts(tools)))
        key = data.draw(st.sampled_from([*where, "name", "function", "parameters", "properties"]))
        value = data.draw(st.sampled_from(["gone", "other", None, {}, {"properties": {"z": {}}}]))
        if value == "gone":
            where.pop(key, None)
        else:
            where[key] = {**value} if isinstance(value, dict) else value
        single = [part for tool in tools for part in split_tool(tool)]
        assert read_list(tools).cards == read_tools(single)


def test_a_list_of_the_same_tools_is_read_once():
    """Another list of the same tools is the same; a tool object may say something else later."""
    tools = [StructuredTool.from_function(lambda x: x, name=n, description=n) for n in "abc"]
    before = read_list(tools)
    assert read_list(iter(tools)) is before
    assert read_list(tools[::-1]).cards == before.cards[::-1]
    tools[1].description = "Says more."
    assert read_list(tools).cards[1].description == "Says more."


def test_nested_parameters_and_references_are_read():
    """What an argument is made of helps to find the tool; a schema in a circle ends."""
    schema = {
        "type": "object",
        "properties": {"trip": {"$ref": "#/$defs/Trip"}},
        "$defs": {
            "Trip": {
                "type": "object",
                "description": "A journey.",
                "properties": {
                    "airport": {"type": "string"},
                    "next": {"anyOf": [{"$ref": "#/$defs/Trip"}, {"type": "null"}]},
                },
            }
        },
    }
    card = read_tool({"name": "book", "input_schema": schema})
    assert card is not None
    assert [p.name for p in card.parameters] == ["trip", "Trip", "airport", "next"]


@pytest.mark.parametrize(
    ("name", "words", "group"),
    [
        ("createIssue", ("create", "issue"), ""),
        ("create-issue", ("create", "issue"), ""),
        ("mcp__github__create_issue", ("create", "issue"), "github"),
        ("github.createIssue", ("create", "issue"), "github"),
        ("slack:postMessage", ("post", "message"), "slack"),
        ("HTTPGet2", ("http", "get", "2"), ""),
        ("天气_查询", ("天气", "查询"), ""),
        ("__", (), ""),
    ],
)
def test_names_are_words_and_a_group(name, words, group):
    """Snake, kebab and camel case, and the prefixes of servers."""
    card = read_tool({"name": name, "input_schema": {}})
    assert card is not None
    assert (card.words, card.group) == (words, group)
    assert name_words("") == ()


def test_a_tool_of_several_functions_is_split():
    """Gemini lists functions in one tool; each can be left out by itself."""
    one, two = {"name": "add", "description": "Add."}, {"name": "sub", "description": "Subtract."}
    both = {"function_declarations": [one, two], "google_search": {}}
    parts = split_tool(both)
    assert parts == [
        {"function_declarations": [one]},
        {"function_declarations": [two]},
        {"google_search": {}},
    ]
    card = read_tool(both)
    assert card is not None
    assert card.names == ("add", "sub")
