"""Choosing tools: questions about it, what stays, and the rules behind the growing set."""

from __future__ import annotations

import copy
import pickle
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage

from langchain_tokenopt import ToolSelector
from langchain_tokenopt.core.staged_runs import StagedRun
from langchain_tokenopt.request.model_request import ModelRequest
from langchain_tokenopt.tools.selection_history import (
    Ceiling,
    answered_calls,
    mark,
    question_at,
    shown_names,
)
from langchain_tokenopt.tools.selection_tools import named_in_choice, tools_of
from tests.support.forty_tools import FORTY


def selector(**settings):
    return ToolSelector(**({"embeddings": False} | settings))


def test_select_gives_back_the_tools_themselves_with_reasons():
    """Best first."""
    chosen = selector(max_tools=3).select("What will the weather be like in Oslo?", FORTY)
    assert len(chosen) == 3
    assert "weather" in chosen[0].name
    assert chosen[0].tool in FORTY
    assert chosen[0].tool.name == chosen[0].name
    assert chosen[0].reason
    assert chosen[0].tokens > 0
    assert [one.score for one in chosen] == sorted((o.score for o in chosen), reverse=True)


def test_explain_tells_of_every_tool():
    """Those that are left out, too."""
    assert len(selector(max_tools=3).explain("weather", FORTY)) == len(FORTY)


def test_classify_names_groups_of_the_tools():
    """As servers and toolkits write them into names."""
    names = ("github__open_issue", "github__close_issue", "mail__send", "mail__find")
    tools = [{"name": name, "input_schema": {}} for name in names]
    kinds = selector().classify("Please close the issue about the login", tools)
    assert kinds[0][0] == "github"


@pytest.mark.parametrize("wrong", [{"max_tools": 0}, {"max_tokens": -1}])
def test_limits_below_one_are_refused(wrong):
    """With the number in the message."""
    with pytest.raises(ValueError, match=str(next(iter(wrong.values())))):
        selector(**wrong)


def test_a_text_is_no_list_of_names():
    """It would be taken for its letters."""
    with pytest.raises(TypeError, match="send_mail"):
        selector(always_include="send_mail")


def test_the_fingerprint_names_what_changes_answers():
    """Not where the model can get at every tool."""
    assert selector(max_tools=3).fingerprint == selector(max_tools=5).fingerprint == ""
    closed = [selector(max_tools=n, find_more=False).fingerprint for n in (3, 3, 5)]
    assert closed[0] == closed[1] != closed[2]


# --- where tools stand in a request


def function(name, **more):
    return {"type": "function", "function": {"name": name, "parameters": {}} | more}


CHOICES = [
    {"tool_choice": "b"},
    {"tool_choice": {"type": "function", "function": {"name": "b"}}},
    {"tool_choice": {"type": "function", "name": "b"}},
    {"tool_choice": {"type": "tool", "name": "b"}},
    {"tool_choice": {"type": "allowed_tools", "tools": [{"type": "function", "name": "b"}]}},
    {"tool_config": {"function_calling_config": {"allowed_function_names": ["b"]}}},
    {"toolConfig": {"toolChoice": {"tool": {"name": "b"}}, "tools": [{"toolSpec": {"name": "a"}}]}},
    {"function_call": {"name": "b"}},
]


@pytest.mark.parametrize("said", CHOICES)
def test_a_tool_that_a_choice_names_is_found_in_every_format(said):
    """And a tool beside it is not."""
    words = named_in_choice(said)
    assert "b" in words
    assert "a" not in words


def written(kwargs, shown, more=None, fixed=()):
    return tools_of(kwargs).rewritten(kwargs, fixed, shown, more, slimmed=False)


def test_tools_of_bedrock_keep_their_place_and_mark():
    """The mark behind the tools stays behind them."""
    tools = [{"toolSpec": {"name": name}} for name in "abc"]
    kwargs = {"toolConfig": {"tools": [*tools, {"cachePoint": {}}], "toolChoice": {"auto": {}}}}
    more = {"toolSpec": {"name": "more"}}
    config = written(kwargs, ["c"], more)["toolConfig"]
    assert config["tools"] == [more, tools[2], {"cachePoint": {}}]
    assert config["toolChoice"] == {"auto": {}}


def test_functions_in_one_declaration_stay_in_one():
    """Gemini takes several lists of functions only from some; the search joins them."""
    tools = [{"function_declarations": [{"name": name} for name in "abc"]}, {"google_search": {}}]
    more = {"function_declarations": [{"name": "more"}]}
    sent = written({"tools": tools}, ["b"], more)["tools"]
    assert sent == [
        {"google_search": {}},
        {"function_declarations": [{"name": "more"}, {"name": "b"}]},
    ]


def test_functions_of_the_oldest_kind():
    """Beside nothing else."""
    kwargs = {"functions": [{"name": name, "parameters": {}} for name in "abc"], "temperature": 0}
    assert written(kwargs, ["c", "a"]) == {
        "functions": [{"name": "c", "parameters": {}}, {"name": "a", "parameters": {}}],
        "temperature": 0,
    }


def test_the_mark_of_the_prompt_cache_goes_to_the_last_tool():
    """Where the tool that had it is left out."""
    tools = [{"name": name, "input_schema": {}} for name in "abc"]
    tools[2]["cache_control"] = {"type": "ephemeral"}
    sent = written({"tools": tools}, ["a", "b"])["tools"]
    assert [tool.get("cache_control") for tool in sent] == [None, {"type": "ephemeral"}]
    assert "cache_control" not in tools[1]


# --- the growing set


TOOLS = tools_of({"tools": [function(name) for name in "abcdefgh"]})
WIDE = Ceiling(4, float("inf"))


def shown(messages, needs, ceiling=WIDE, fixed=()):
    """What a conversation shows where each turn needs the tools that its text names."""

    def select(at):
        text = messages[at].content if at >= 0 else needs
        return [name for name in TOOLS.by_name if name in text]

    return "".join(shown_names(messages, TOOLS, fixed, select, ceiling))


def calling(*names, marked=None):
    calls = [{"name": name, "args": {}, "id": f"{name}{n}"} for n, name in enumerate(names)]
    metadata = {} if marked is None else mark(TOOLS, marked)
    return AIMessage("", tool_calls=calls, response_metadata=metadata)


def result(name, n=0):
    return ToolMessage("ok", tool_call_id=f"{name}{n}")


def test_a_turn_grows_by_what_is_called():
    """In the order of the calls, behind what was there."""
    said = [HumanMessage("ab"), calling("h"), result("h"), calling("c"), result("c")]
    assert [shown(said[:end], "") for end in (1, 3, 5)] == ["ab", "abh", "abhc"]


def test_a_new_turn_keeps_what_was_shown():
    """Until there is too much: then what it needs, and what was called."""
    said = [HumanMessage("ab"), AIMessage("x"), HumanMessage("bc")]
    assert shown(said, "") == "abc"
    said += [calling("b"), result("b"), AIMessage("x"), HumanMessage("fgh")]
    assert shown(said, "") == "bfgh"
    said += [AIMessage("x"), HumanMessage("f")]
    assert shown(said, "") == "bfgh"


def test_what_was_shown_stands_on_the_answer():
    """Whatever the turn would need by what is known today."""
    said = [HumanMessage("ab"), calling("d", marked="hd"), result("d")]
    assert shown(said, "") == "hd"
    assert shown(said[1:], "") == "hd"  # the question was left out of the history since
    assert shown([*said, HumanMessage("de")], "") == "hde"


@pytest.mark.parametrize("bound", ["abcdefg", "abcdefghi", "ahz"])
def test_what_was_shown_stays_though_other_tools_were_bound_since(bound):
    """As far as it is still there; and what the turn needs of the new ones is added."""
    before = tools_of({"tools": [function(name) for name in bound]})
    marked = AIMessage("x", response_metadata=mark(before, [n for n in "hdi" if n in bound]))
    kept = "".join(n for n in "hd" if n in bound)
    assert shown([HumanMessage("bc"), marked], "") == kept + "bc"


def test_called_tools_stay_beside_those_that_a_turn_may_show():
    """Without any marks, as many as there were."""
    said = []
    for name in "abcdef":
        said += [HumanMessage(name), calling(name), result(name), AIMessage("x")]
    assert shown([*said, HumanMessage("gh")], "", Ceiling(2, float("inf"))) == "abcdefgh"


NONSENSE = [None, "ab", 7, [{}]]
NONSENSE += [{"of": TOOLS.digest, "shown": shown} for shown in (7, "h", {"h": 1}, [{}], [["h"]])]


@pytest.mark.parametrize("nonsense", NONSENSE)
def test_a_mark_that_cannot_be_read_is_none(nonsense):
    """Anybody may have written it."""
    said = [HumanMessage("ab"), AIMessage("x", response_metadata={"tokenopt_tools": nonsense})]
    assert shown(said, "") == "ab"


def test_calls_that_wait_for_an_answer_stay():
    """Also when a new turn begins with other needs."""
    said = [HumanMessage("ab"), calling("g", "h"), result("g"), HumanMessage("cdef")]
    assert "h" in shown(said, "")


def test_a_request_without_a_question_is_read_as_a_whole():
    """An application that asks in its system message."""
    assert shown([SystemMessage("Use them.")], "bd") == "bd"


@given(
    st.lists(
        st.tuples(st.text("abcdefgh", min_size=1, max_size=3),
                  st.lists(st.text("abcdefgh", min_size=1, max_size=1), max_size=4)),
        min_size=1, max_size=8,
    ),
    st.booleans(),
)  # fmt: skip
def test_a_turn_only_grows_whatever_is_asked_and_called(turns, marks):
    """In its order; with marks and without; and the same history gives the same set."""
    said = []
    for needs, calls in turns:
        said.append(HumanMessage(needs))
        before = shown(said, "")
        assert set(needs) <= set(before)
        for n, name in enumerate(calls):
            said += [calling(name, marked=before if marks else None), result(name)]
            after = shown(said, "")
            assert after.startswith(before)
            assert name in after
            before = after
            said[-2].id = said[-1].id = str(n)
        said.append(AIMessage("x", response_metadata=mark(TOOLS, before) if marks else {}))
        assert shown(said, "") == before


# --- questions


def test_a_follow_up_is_about_what_was_said_before():
    """A nod means what was offered."""
    said = [HumanMessage("Find the parcel"), AIMessage("Shall I mail Bob?"), HumanMessage("yes")]
    question = question_at(said, 2)
    assert "parcel" in question
    assert "mail Bob" in question
    assert "yes" in question


def test_a_file_around_a_question_is_left_out():
    """Before or behind it."""
    log = "\n".join(f"2026-11-{n % 28} worker {n} deleted the invoice {n}" for n in range(500))
    for text in (f"Share the playlist.\n\n{log}", f"{log}\n\nShare the playlist."):
        assert question_at([HumanMessage(text)], 0) == "Share the playlist."


def test_text_beside_an_image_is_read():
    """Blocks of all providers."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    said = [HumanMessage([{"type": "text", "text": "Share this photo with Ann please"}, image])]
    assert question_at(said, 0) == "Share this photo with Ann please"


def test_calls_are_met_once_when_their_results_come():
    """Failed ones never; those that a later request holds, too, not again."""
    said = [HumanMessage("q"), calling("a", "b")]
    failed = ToolMessage("no", tool_call_id="b1", status="error")
    assert answered_calls([*said, result("a"), failed]) == (0, {"a0": "a"})
    assert answered_calls([*said, result("a"), AIMessage("x")])[1] == {}


# --- learning


def sent_of(chosen, said, **metadata):
    """The tools that a request shows, of forty that say nothing of themselves."""
    tools = [function(f"svc_{n:02d}") for n in range(40)]
    run = StagedRun(run_id=uuid4(), metadata=metadata)
    model = FakeListChatModel(responses=["x"])
    call = chosen.open(ModelRequest(model, said, None, {"tools": tools}, run))
    sent = tools if call is None else call.request.kwargs["tools"]
    return [tool["function"]["name"] for tool in sent]


def first_of(chosen, said, user, organization=None):
    """The first tool, behind the search."""
    return sent_of(chosen, said, user_id=user, tenant_id=organization)[1]


def test_what_one_user_teaches_is_nobody_elses_and_can_be_forgotten():
    """Calls that have succeeded, met in the next request of the conversation."""
    chosen = selector(max_tools=1)
    for n in range(3):
        asked = HumanMessage(f"polish the brass lamp {n}")
        first_of(chosen, [asked, calling("svc_31"), result("svc_31")], "ann")
    question = [HumanMessage("polish my brass horn")]
    assert first_of(chosen, question, "ann") == "svc_31"
    assert first_of(chosen, question, "bob") != "svc_31"
    chosen.forget(user="bob")
    assert first_of(chosen, question, "ann") == "svc_31"
    chosen.forget(user="ann")
    assert first_of(chosen, question, "ann") != "svc_31"


@pytest.mark.parametrize(
    ("forgotten", "left"),
    [
        ({"user": "ann"}, [("bob", "acme"), ("bob", "x/y")]),
        ({"organization": "acme"}, [("ann", "x/y"), ("ann", None), ("bob", "x/y")]),
        ({"user": "ann", "organization": "x/y"}, [("ann", "acme"), ("ann", None),
                                                  ("bob", "acme"), ("bob", "x/y")]),
        ({"user": "*"}, [("ann", "acme"), ("ann", "x/y"), ("ann", None),
                         ("bob", "acme"), ("bob", "x/y")]),
    ],
)  # fmt: skip
def test_who_is_forgotten_is_forgotten_everywhere(tmp_path, forgotten, left):
    """A user in every organization, an organization with all of its users; in the file, too."""
    chosen = selector(max_tools=1, store=tmp_path / "uses.db")
    owners = [("ann", "acme"), ("ann", "x/y"), ("ann", None), ("bob", "acme"), ("bob", "x/y")]
    for n, (user, organization) in enumerate(3 * owners):
        asked = HumanMessage(f"polish the brass lamp {n}")
        first_of(chosen, [asked, calling("svc_31"), result("svc_31")], user, organization)
    question = [HumanMessage("polish my brass horn")]
    assert all(first_of(chosen, question, *owner) == "svc_31" for owner in owners)
    chosen.forget(**forgotten)
    again = selector(max_tools=1, store=tmp_path / "uses.db")
    for each in (chosen, again):
        assert [o for o in owners if first_of(each, question, *o) == "svc_31"] == left


@pytest.mark.parametrize(
    "named", [{}, {"user": None}, {"user": ""}, {"organization": ""}, {"user": None, "tool": "a"}]
)
def test_who_names_nobody_forgets_nobody(named):
    """As where nobody is signed in; everything has a word of its own."""
    chosen = selector(max_tools=1)
    for n in range(3):
        asked = HumanMessage(f"polish the brass lamp {n}")
        first_of(chosen, [asked, calling("svc_31"), result("svc_31")], "ann")
    question = [HumanMessage("polish my brass horn")]
    with pytest.raises((TypeError, ValueError), match=r"names nothing|belongs to nobody"):
        chosen.forget(**named)
    assert first_of(chosen, question, "ann") == "svc_31"
    assert chosen.clear() == 1
    assert first_of(chosen, question, "ann") != "svc_31"


NOTHING_ASKED = [
    [HumanMessage("")],
    [HumanMessage([{"type": "image_url", "image_url": {"url": "http://x/y.png"}}])],
    [AIMessage("Hello.")],
    [ToolMessage("x", tool_call_id="9")],
    [SystemMessage(" ")],
]


@pytest.mark.parametrize("said", NOTHING_ASKED)
def test_a_limit_holds_though_nothing_is_asked(said):
    """Where the model can search; else all are shown."""
    assert len(sent_of(selector(max_tools=5), said)) == 6
    tokens = tools_of({"tools": [function(f"svc_{n:02d}") for n in range(4)]}).tokens
    assert len(sent_of(selector(max_tokens=tokens), said)) == 5
    assert len(sent_of(selector(), said)) == 40
    assert len(sent_of(selector(max_tools=5, find_more=False), said)) == 40


def test_a_copy_learns_with_the_original():
    """As an agent copies what it is given; pickled, it says what to do."""
    chosen = selector(max_tools=1)
    copies = copy.copy(chosen), copy.deepcopy({"stages": [chosen]})["stages"][0]
    for at, copied in enumerate(copies):
        assert copied is not chosen
        assert copied.max_tools == 1
        for n in range(3):
            asked = HumanMessage(f"polish the brass lamp {at}{n}")
            first_of(copied, [asked, calling("svc_31"), result("svc_31")], "ann")
        assert first_of(chosen, [HumanMessage("polish my brass horn")], "ann") == "svc_31"
        chosen.clear()
    with pytest.raises(TypeError, match="store=PATH"):
        pickle.dumps(chosen)


def test_a_call_is_learned_once_however_often_it_is_sent(monkeypatch):
    """Retries and resends are no further uses."""
    chosen, learned = selector(max_tools=1), []
    monkeypatch.setattr(chosen._ranking, "learn", lambda *args: learned.append(args))
    said = [HumanMessage("polish the lamp"), calling("svc_31"), result("svc_31")]
    for _ in range(3):
        first_of(chosen, said, "ann")
    first_of(chosen, [*said, AIMessage("x"), HumanMessage("and now?")], "ann")
    assert len(learned) == 1
