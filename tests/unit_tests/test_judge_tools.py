"""The cases of tool selection are well formed, and their tools are what each provider wants."""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from langchain_tokenopt import ToolSelector
from tests.judge import tools_kit
from tests.judge.tools_behaviour import CASES, MODULES
from tests.judge.tools_cases import FORMATS, ToolSet, names_of, native, read_sets
from tests.judge.tools_kit import office
from tests.judge.tools_model import ScriptedToolModel, call

pytestmark = pytest.mark.exhaustive

HALVES = ("build", "judge")
KINDS = {"plain", "long", "typo", "follow", "negation", "exact", "sequence", "none"}
EACH = [pytest.param(case, id=case.name) for half in HALVES for case in read_sets(half)]

each_set = pytest.mark.parametrize("case", EACH)


@pytest.mark.parametrize("half", HALVES)
def test_a_half_covers_many_fields_kinds_formats_and_languages(half: str):
    """A rule that suits one of them only must not look good."""
    sets = read_sets(half)
    queries = [query for case in sets for query in case.queries]

    assert len(sets) >= 8
    assert {query.kind for query in queries} == KINDS
    assert len({query.language for query in queries}) >= 5
    assert {case.format for case in sets} >= set(FORMATS)
    assert sum(bool(query.before) for query in queries) >= 16


def test_the_halves_share_nothing():
    """Neither field nor question."""
    build, judge = read_sets("build"), read_sets("judge")

    assert not {case.field for case in build} & {case.field for case in judge}
    said = Counter(q.text for case in (*build, *judge) for q in case.queries if q.gold)
    assert [text for text, n in said.items() if n > 1] == []
    ids = Counter(q.id for case in (*build, *judge) for q in case.queries)
    assert [id for id, n in ids.items() if n > 1] == []


def test_the_half_for_judging_says_that_it_is_held():
    """In its first line."""
    path = Path(__file__).parents[1] / "judge" / "tools_judge.jsonl"

    assert json.loads(path.read_text(encoding="utf-8").splitlines()[0])["held"] is True


@each_set
def test_a_set_is_large_enough_and_its_answers_are_in_it(case: ToolSet):
    """15 to 80 tools with names of their own, thirty questions, gold among the tools."""
    names = names_of(case.tools())

    assert 15 <= len(case.specs) <= 80
    assert [name for name, n in Counter(names).items() if n > 1] == []
    assert len([query for query in case.queries if query.gold]) >= 30
    assert [q.id for q in case.queries if not frozenset().union(*q.gold) <= set(names)] == []
    assert [q.id for q in case.queries if (q.kind == "none") != (not q.gold)] == []
    assert [q.id for q in case.queries if (q.kind == "follow") != bool(q.before)] == []


@each_set
def test_every_format_declares_the_same_tools(case: ToolSet):
    """Names, and schemas that LangChain can read where it knows the format."""
    for format in FORMATS:
        assert names_of(case.tools(format)) == names_of(case.tools())
    spec = next(spec for spec in case.specs if "raw" not in spec)
    asked = native(spec, "openai")["function"]
    for format in ("anthropic", "bedrock", "basetool"):
        tool = native(spec, format)
        assert isinstance(tool, BaseTool) == (format == "basetool")
        function = convert_to_openai_tool(tool)["function"]
        assert function["name"] == asked["name"]
        assert set(function["parameters"]["properties"]) == set(asked["parameters"]["properties"])


def test_the_scripted_model_remembers_what_it_was_given():
    """Tools, messages, and the same answer in one piece or as a stream."""
    tools = read_sets("build")[0].tools()
    model = ScriptedToolModel(script=[call("send_email", subject="hi")])
    bound = model.bind_tools(tools, tool_choice="any")
    whole = bound.invoke([HumanMessage("write")])
    pieces = list(bound.stream([HumanMessage("write")]))

    assert isinstance(whole, AIMessage)
    assert sum(pieces[1:], pieces[0]).tool_calls == whole.tool_calls
    assert [each.tools for each in model.calls] == [tools, tools]
    assert model.calls[0].options["tool_choice"] == "any"


@pytest.fixture
def by_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Selectors of the cases compare no meanings."""
    sparing = functools.partial(ToolSelector, embeddings=False)
    for module in (tools_kit, *MODULES):
        monkeypatch.setattr(module, "ToolSelector", sparing)


@pytest.mark.filterwarnings("ignore::langchain_tokenopt.TokenOptWarning")
@pytest.mark.parametrize("name", sorted(CASES))
@pytest.mark.usefixtures("by_words")
def test_the_selector_behaves(name: str):
    """Every behaviour case, by words alone: what must never break needs no embedder."""
    CASES[name]()


def without(*names: str) -> Callable[[list[Any]], list[Any]]:
    """Tools other than those."""
    return lambda tools: [each for each in tools if not {*names} & {*names_of([each])}]


def without_nameless(tools: list[Any]) -> list[Any]:
    return [each for each in tools if names_of([each])]


def changed(tools: list[Any]) -> list[Any]:
    return [{**each, "strict": True} for each in tools]


@pytest.mark.parametrize(
    ("fault", "case"),
    [
        (lambda tools: tools[::-1], "few_tools_are_left_alone"),
        (lambda tools: tools[len(tools) % 3 :], "a_loop_only_grows_and_keeps_its_prefix"),
        (without_nameless, "tools_of_the_provider_pass_untouched"),
        (without("set_signature"), "a_forced_tool_stays"),
        (without("set_signature"), "always_include_stays"),
        (without("FinalPlan"), "the_answer_tool_of_an_agent_stays"),
        (without("find_more_tools"), "a_model_that_asks_for_more_gets_it"),
        (changed, "what_is_shown_is_as_it_was"),
        (lambda tools: office(), "many_tools_become_few_and_the_needed_one_is_there"),
    ],
)
@pytest.mark.usefixtures("by_words")
def test_a_planted_fault_is_seen(
    fault: Callable[[list[Any]], list[Any]], case: str, monkeypatch: pytest.MonkeyPatch
):
    """Whatever is wrong with what the model is given, a case of that name says so."""
    answer = ScriptedToolModel._answer

    def faulty(self: Any, messages: Any, options: dict[str, Any]) -> Any:
        return answer(self, messages, {**options, "tools": fault(options.get("tools") or [])})

    monkeypatch.setattr(ScriptedToolModel, "_answer", faulty)

    with pytest.raises(AssertionError):
        CASES[case]()
