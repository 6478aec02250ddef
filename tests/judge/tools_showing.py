"""How many tools are shown, what a loop keeps, and what must stay."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    ToolMessage,
)
from pydantic import BaseModel

from langchain_tokenopt import ToolSelector, optimize
from tests.judge.tools_cases import names_of, native, pieces, same_json
from tests.judge.tools_kit import (
    FIND_MORE,
    case,
    everything,
    grows,
    kept,
    office,
    same,
    shown,
    specs,
    without_help,
)
from tests.judge.tools_model import Call, ScriptedToolModel, call, calls

# How many are shown


@case
def few_tools_are_left_alone() -> None:
    """With three tools nothing is done."""
    tools = office()[:3]
    same(shown("what is the weather?", tools).tools, tools)


@case
def many_tools_become_few_and_the_needed_one_is_there() -> None:
    """In every format."""
    for format in ("openai", "anthropic", "gemini", "bedrock", "basetool"):
        tools = office(format)
        asked = shown("Please block the sender promo@superdeals.example", tools)
        assert "block_sender" in asked.names, (format, asked.names)
        assert len(without_help(asked.names)) < len(tools) / 2, (format, len(asked.names))


@case
def what_is_shown_is_as_it_was() -> None:
    """Without ``slim`` each schema that is shown is the caller's, to the byte."""
    for format in ("openai", "anthropic", "gemini", "bedrock"):
        tools = office(format)
        sent = pieces(shown("cancel tomorrow's meeting with Olga", tools).tools)
        new = set(sent) - set(pieces(tools))
        assert len(new) <= 1, (format, new)
        assert all(FIND_MORE in each for each in new), (format, new)


@case
def limits_are_kept() -> None:
    """``max_tools`` and ``max_tokens`` are upper bounds of ``select``."""
    tools = everything()
    for most in (1, 2, 5, 12):
        selected = ToolSelector(max_tools=most).select("book a meeting room for 8", tools)
        assert 1 <= len(selected) <= most, (most, len(selected))
    for most in (150, 600):
        selected = ToolSelector(max_tokens=most).select("book a meeting room for 8", tools)
        assert selected, most
        assert sum(each.tokens for each in selected) <= most, most


@case
def always_include_stays() -> None:
    """Whatever the question; an unknown name breaks nothing."""
    selector = ToolSelector(max_tools=3, always_include=("set_signature", "no_such_tool"))
    asked = shown("how much did the warehouse cost", office(), selector)
    assert "set_signature" in asked.names


@case
def an_exact_name_wins() -> None:
    """A user who names a tool gets it, also among near duplicates."""
    tools = everything()
    for name in ("search_flights", "search_catalog_v2", "gitlab__retry_pipeline", "setPlug"):
        got = [s.name for s in ToolSelector(max_tools=2).select(f"use {name} please", tools)]
        assert name in got, (name, got)


@case
def the_order_of_the_list_does_not_matter() -> None:
    """The same set for shuffled tools, and for a new selector."""
    tools, rng = office(), random.Random(4)
    question = "is anybody free on Friday for lunch"
    sets = []
    for _ in range(4):
        rng.shuffle(tools)
        sets.append(sorted(s.name for s in ToolSelector(max_tools=6).select(question, tools)))
    assert all(each == sets[0] for each in sets), sets


@case
def select_says_why() -> None:
    """Names, scores, reasons, tokens and the tool itself."""
    tools = office()
    for each in ToolSelector(max_tools=4).select("empty the trash", tools):
        assert each.name
        assert each.reason
        assert math.isfinite(each.score)
        assert each.tokens > 0
        assert names_of([each.tool]) == [each.name]


# Loops


def _agent_run(selector: Any, topics: Sequence[tuple[str, str]], tools: list[Any]) -> list[Call]:
    """One question and a loop over *topics*: a call each, and a result that leads elsewhere."""
    model = ScriptedToolModel(script=["ok"])
    staged = optimize(model, selector).bind_tools(tools)
    said: list[BaseMessage] = [HumanMessage("Find the last mail of Olga and deal with it")]
    staged.invoke(said)
    for number, (name, result) in enumerate(topics):
        said = [*said, call(name, id=f"k{number}"), ToolMessage(result, tool_call_id=f"k{number}")]
        staged.invoke(said)
    return list(model.calls)


LOOP = [
    ("search_mail", "Olga: please book a meeting room for 12 people on Friday"),
    ("book_room", "room 4.11 is booked; she also asks to forward the invoice to Omar"),
    ("forward_email", "forwarded. Next: make a chart of the warehouse credits"),
    ("warehouse_cost", "120 credits. Next: drop the table tmp.foo"),
    ("drop_table", "dropped"),
]


@case
def a_loop_only_grows_and_keeps_its_prefix() -> None:
    """Byte by byte, in every format, with the offer of more counted, too."""
    for format in ("openai", "anthropic", "bedrock", "gemini"):
        asked = _agent_run(ToolSelector(), LOOP, office(format))
        grows([each.tools for each in asked])


@case
def slim_schemas_keep_their_prefix() -> None:
    """The same with ``slim``."""
    grows([each.tools for each in _agent_run(ToolSelector(slim=True), LOOP, office())])


@case
def what_was_called_stays() -> None:
    """A fresh process sees only the messages: tools called in this loop are there."""
    said: list[BaseMessage] = [HumanMessage("Do what Olga asks")]
    for number, (name, result) in enumerate(LOOP):
        said += [call(name, id=f"k{number}"), ToolMessage(result, tool_call_id=f"k{number}")]
    names = shown(said, office()).names
    assert {name for name, _ in LOOP} <= set(names), names


@case
def what_a_result_asks_for_is_found() -> None:
    """The need may come from a tool's result, not from the user."""
    asked = _agent_run(ToolSelector(), LOOP[:1], office())
    names = set(asked[-1].names)
    assert "book_room" in names or FIND_MORE in names, names


def _talks(*which: int) -> dict[int, list[list[Any]]]:
    """The tools that each of two conversations of one model was shown, held in turn."""
    model = ScriptedToolModel(script=["ok"])
    staged = optimize(model, ToolSelector(learn=False)).bind_tools(office())
    names = ("unsubscribe_list", "list_jobs")
    said: list[list[BaseMessage]] = [
        [HumanMessage("unsubscribe me from this newsletter")],
        [HumanMessage("which warehouse jobs failed tonight?")],
    ]
    lists: dict[int, list[list[Any]]] = {each: [] for each in which}
    for turn in range(4):
        for each in which:
            staged.invoke(list(said[each]))
            lists[each].append(model.calls[-1].tools)
            said[each] += [
                call(names[each], id=f"t{turn}"),
                ToolMessage("done", tool_call_id=f"t{turn}"),
            ]
    return lists


@case
def conversations_do_not_mix() -> None:
    """Two conversations in turn: each is shown what it would be shown alone."""
    together = _talks(0, 1)
    for each in (0, 1):
        grows(together[each])
        same(together[each], _talks(each)[each])


@case
def a_new_question_gets_its_tools() -> None:
    """After a long talk about mail comes one about something else."""
    said: list[BaseMessage] = []
    for number in range(6):
        said += [HumanMessage(f"archive conversation {number}"), AIMessage("Archived.")]
    said.append(HumanMessage("who can see the salaries table? list the grants"))
    assert "list_grants" in shown(said, office()).names


@case
def a_short_follow_up_keeps_its_subject() -> None:
    """What about Friday, if the question before was about Thursday?"""
    said = [
        HumanMessage("which appointments are on my calendar on Thursday?"),
        AIMessage("09:00 stand-up, 15:00 dentist."),
        HumanMessage("and Friday?"),
    ]
    assert "list_events" in shown(said, office()).names


# What must stay


@case
def tools_of_unanswered_calls_stay() -> None:
    """Two parallel calls, of which one has its result."""
    said = [
        HumanMessage("what is the weather like"),
        calls("set_signature", "undrop_table"),
        ToolMessage("done", tool_call_id="c0"),
        ToolMessage("waiting", tool_call_id="c1"),
    ]
    names = shown(said, office()).names
    assert {"set_signature", "undrop_table"} <= set(names), names
    names = shown(said[:3], office()).names
    assert "undrop_table" in names, names


@case
def a_forced_tool_stays() -> None:
    """In each provider's way to say so, and it is passed on."""
    for choice in (
        {"type": "function", "function": {"name": "set_signature"}},
        {"type": "function", "name": "set_signature"},
        {"type": "tool", "name": "set_signature"},
        {"tool": {"name": "set_signature"}},
        "set_signature",
    ):
        asked = shown("which jobs failed tonight?", office(), tool_choice=choice)
        assert "set_signature" in asked.names, (choice, asked.names)
        same(asked.options["tool_choice"], choice)


@case
def required_and_none_are_passed_on() -> None:
    """A choice that names no tool changes nothing."""
    for choice in ("any", "required", "auto", "none"):
        asked = shown("which jobs failed tonight?", office(), tool_choice=choice)
        same(asked.options["tool_choice"], choice)
        assert "list_jobs" in asked.names


@case
def structured_output_works() -> None:
    """``with_structured_output`` by a tool, also beside many others."""

    class Verdict(BaseModel):
        """Whether it is spam."""

        spam: bool

    model = ScriptedToolModel(script=[call("Verdict", spam=True)])
    got = optimize(model, ToolSelector()).with_structured_output(Verdict).invoke("spam?")
    assert got == Verdict(spam=True)
    assert model.calls[-1].names == ["Verdict"]


@case
def the_answer_tool_of_an_agent_stays() -> None:
    """``create_agent`` with a response format of its own among eighty tools."""
    from langchain.agents import create_agent
    from langchain.agents.structured_output import ToolStrategy

    class FinalPlan(BaseModel):
        """What shall be done."""

        steps: list[str]

    script = [call("list_jobs", id="a"), call("FinalPlan", id="b", steps=["one"])]
    model = ScriptedToolModel(script=script)
    staged = optimize(model, ToolSelector(max_tools=4))
    agent = create_agent(staged, office("basetool"), response_format=ToolStrategy(FinalPlan))
    end = agent.invoke({"messages": [HumanMessage("which jobs failed tonight?")]})
    assert end["structured_response"] == FinalPlan(steps=["one"])
    assert all("FinalPlan" in each.names for each in model.calls)


PROVIDER_TOOLS: list[dict[str, Any]] = [
    {"type": "web_search"},
    {"type": "web_search_20250305", "name": "web_search", "max_uses": 2},
    {"type": "file_search", "vector_store_ids": ["vs_1"]},
    {"type": "code_interpreter", "container": {"type": "auto"}},
    {"type": "image_generation"},
    {"type": "mcp", "server_label": "deep", "server_url": "https://mcp.example", "x": None},
    {
        "type": "computer_20250124",
        "name": "computer",
        "display_width_px": 8,
        "display_height_px": 8,
    },
    {"type": "bash_20250124", "name": "bash"},
    {"type": "namespace", "name": "crm", "tools": []},
    {"google_search": {}},
    {"code_execution": {}},
    {"url_context": {}},
    {"cachePoint": {"type": "default"}},
    {"systemTool": {"name": "nova_grounding"}},
]


@case
def tools_of_the_provider_pass_untouched() -> None:
    """All of them are shown, whatever is asked."""
    tools: list[Any] = office()
    for place, each in enumerate(PROVIDER_TOOLS):
        tools.insert(place * 5, copy.deepcopy(each))
    sent = [same_json(t) for t in shown("empty the trash", tools, ToolSelector(max_tools=2)).tools]
    missing = [each for each in PROVIDER_TOOLS if same_json(each) not in sent]
    assert not missing, missing


@case
def options_of_a_tool_stay() -> None:
    """Cache marks, strictness and deferred loading are the caller's."""
    tools = office("anthropic")
    for each in tools:
        each["cache_control"] = {"type": "ephemeral"}
        each["defer_loading"] = False
    sent = {same_json(t) for t in kept(shown("empty the trash", tools).tools)}
    assert sent <= {same_json(each) for each in tools}
    strict = office()
    for each in strict:
        each["function"]["strict"] = True
    for each in kept(shown("empty the trash", strict).tools):
        assert each["function"]["strict"] is True


@case
def many_functions_in_one_declaration_are_not_lost() -> None:
    """Gemini's list of functions in one tool."""
    inner = [native(spec, "gemini")["function_declarations"][0] for spec in specs("mail")]
    for key in ("function_declarations", "functionDeclarations"):
        asked = shown("empty the trash for good", [{key: inner}])
        assert "empty_trash" in asked.names, asked.names


@case
def what_the_caller_gave_is_not_changed() -> None:
    """Neither tools nor messages, also when schemas are shortened."""
    tools = office() + copy.deepcopy(PROVIDER_TOOLS)
    said = [HumanMessage("empty the trash")]
    before = same_json([tools, [m.model_dump() for m in said]])
    shown(said, tools, ToolSelector(slim=True, max_tools=3))
    assert same_json([tools, [m.model_dump() for m in said]]) == before


@case
def slim_keeps_what_a_call_needs() -> None:
    """Names, types, values and what is required; fewer bytes in all."""
    long = (
        "Moves money. It never moves more than is there. Ask first when the sum is above 1,000 "
        "euros, and tell the user what it costs. For example: from A to B, 12.50."
    )
    tools = [
        {
            "type": "function",
            "function": {
                "name": f"transfer_{n}",
                "description": long,
                "parameters": {
                    "type": "object",
                    "properties": {
                        "kind": {"type": "string", "enum": ["sepa", "swift"], "description": long},
                        "to": {"type": "object", "properties": {"iban": {"type": "string"}}},
                        "amount": {"type": "number", "examples": [1.5], "description": long},
                    },
                    "required": ["kind", "amount"],
                },
            },
        }
        for n in range(40)
    ]
    whole = {each["function"]["name"]: each for each in tools}
    for each in kept(shown("transfer_7: 12 euros", tools, ToolSelector(slim=True)).tools):
        function = each["function"]
        given = whole[function["name"]]["function"]["parameters"]
        assert function["parameters"]["required"] == given["required"]
        assert function["description"].startswith("Moves money")
        for name, schema in given["properties"].items():
            slim = function["parameters"]["properties"][name]
            for key in ("type", "enum", "properties"):
                assert slim.get(key) == schema.get(key), (name, key)
        assert len(same_json(each)) < len(same_json(whole[function["name"]]))
