"""What makes two requests the same for the cache."""

from __future__ import annotations

import pytest
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, ChatMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.outputs import Generation

from langchain_tokenopt.cache import SemanticCache, key
from langchain_tokenopt.cache.call_settings import UnkeyableError
from langchain_tokenopt.cache.key import question_of
from tests.support.embedders import WordEmbeddings

LLM = "[('_type', 'fake'), ('stop', None)]"


def read(messages, llm_string=LLM, *, labels=(), context="exact", namespace="default"):
    prompt = messages if isinstance(messages, str) else dumps(messages)
    return question_of(prompt, llm_string, namespace, labels, context)


def turns(*texts):
    kinds = (HumanMessage, AIMessage)
    return [kinds[at % 2](text) for at, text in enumerate(texts)]


def test_only_the_last_user_turn_is_compared():
    """System text and history are no part of the text that is embedded."""
    question = read([SystemMessage("You are a bank."), *turns("Hi", "Hello", "Where is my card?")])

    assert "Where is my card?" == question.text


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            [SystemMessage("Be brief."), HumanMessage("q")],
            [SystemMessage("Be brief!"), HumanMessage("q")],
        ),
        (turns("a", "b", "q"), turns("a", "c", "q")),
        (turns("a", "b", "q"), turns("q")),
    ],
    ids=["one character of the system text", "an earlier answer", "a truncated history"],
)
def test_what_stands_before_the_question_must_be_equal(one, other):
    """Requests with another beginning never share a scope."""
    assert read(one).scope != read(other).scope


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("('tools', [{'name': 'a'}, {'name': 'b'}])", "('tools', [{'name': 'b'}, {'name': 'a'}])"),
        (
            '{"kwargs": {"default_headers": {"x": "1"}}}---[]',
            '{"kwargs": {"default_headers": {"x": "2"}}}---[]',
        ),
        ('{"kwargs": {"temperature": 0}}---[]', '{"kwargs": {"temperature": 1}}---[]'),
        ("{\"kwargs\": {}}---[('stop', None)]", '{"kwargs": {}}---[(\'stop\', ["x"])]'),
    ],
    ids=["tools in another order", "another header", "another temperature", "another stop word"],
)
def test_settings_must_be_equal(one, other):
    """Requests with other settings never share a scope."""
    assert read("q", one).scope != read("q", other).scope


def test_settings_without_influence_do_not_count():
    """Retries and timeouts change no answer and no key."""
    one = read("q", '{"kwargs": {"model": "m", "max_retries": 2, "request_timeout": 3}}---[]')
    other = read("q", '{"kwargs": {"model": "m"}}---[]')

    assert one.exact == other.exact


@pytest.mark.parametrize(
    "messages",
    ["q", turns("q"), turns("q", "a", "q"), [SystemMessage("only")]],
    ids=["text", "question", "conversation", "no question"],
)
def test_labels_and_namespace_are_part_of_the_scope(messages):
    """Users and namespaces never share an answer, in any tier."""
    questions = [
        read(messages),
        read(messages, labels=(("user", "ann"),)),
        read(messages, labels=(("user", "bob"),)),
        read(messages, labels=(("tenant", "ann"),)),
        read(messages, namespace="other"),
    ]

    for tier in ("scope", "exact", "near"):
        assert 5 == len({getattr(question, tier) for question in questions})


def test_what_differs_between_an_answer_and_its_repetition_does_not_count():
    """Ids, usage, metadata, artifacts and the ids of tool calls are noise."""

    def conversation(number):
        call = {"name": "add", "args": {"a": 1}, "id": f"call_{number}"}
        usage = {"input_tokens": number, "output_tokens": 1, "total_tokens": number + 1}
        return [
            HumanMessage("add", id=f"h{number}"),
            AIMessage(
                "",
                id=f"a{number}",
                tool_calls=[call],
                usage_metadata=usage,
                response_metadata={"id": f"r{number}"},
                additional_kwargs={"tool_calls": [{"id": f"call_{number}"}]},
            ),
            ToolMessage("2", tool_call_id=f"call_{number}", artifact={"n": number}),
            AIMessage("It is 2.", id=f"b{number}"),
            HumanMessage("Thanks, and twice that?"),
        ]

    assert read(conversation(1)) == read(conversation(2))


def test_arguments_of_tool_calls_count():
    """Another argument is another history."""

    def conversation(value):
        call = {"name": "add", "args": {"a": value}, "id": "c"}
        return [
            HumanMessage("x"),
            AIMessage("", tool_calls=[call]),
            ToolMessage("2", tool_call_id="c"),
        ]

    assert read(conversation(1)).exact != read(conversation(2)).exact


@pytest.mark.parametrize(
    "messages",
    [
        [HumanMessage("x"), ToolMessage("2", tool_call_id="c")],
        [
            HumanMessage(
                [
                    {"type": "text", "text": "What is it?"},
                    {"type": "image_url", "image_url": {"url": "u"}},
                ]
            )
        ],
        [SystemMessage("only this")],
        [HumanMessage("   ")],
    ],
    ids=["a tool result last", "an image", "no user turn", "no text"],
)
def test_what_is_more_than_a_question_matches_exactly_or_not_at_all(messages):
    """Such a request has no text to compare, says why, and still has an exact key."""
    question = read(messages)

    assert question.text is None
    assert question.why_exact
    assert question.exact


@pytest.mark.parametrize(
    "settings",
    ["[('response_format', <class '__main__.Answer'>)]", "<tests.Thing object at 0x7f00>"],
)
def test_settings_of_which_only_the_name_shows_are_refused(settings):
    """Two schemas of one name look equal here, so nothing is keyed by them."""
    with pytest.raises(UnkeyableError, match="only the name is visible"):
        read("q", settings)


def test_context_decides_what_of_the_history_must_be_equal():
    """``ignore`` compares the system text alone, ``last_turns`` the last two user turns."""
    long = turns("z", "z", "a", "b", "c", "d", "q")
    other_start = turns("y", "y", "a", "b", "c", "d", "q")
    other_end = turns("z", "z", "a", "b", "c", "e", "q")

    assert read(long).scope != read(other_start).scope
    assert read(long, context="last_turns").scope == read(other_start, context="last_turns").scope
    assert read(long, context="last_turns").scope != read(other_end, context="last_turns").scope
    assert read(long, context="ignore").exact == read(other_end, context="ignore").exact


def chat(*messages):
    return read(dumps(list(messages)))


def said(**values):
    return HumanMessage("What is mine?", **values)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([said(name="ann")], [said(name="bob")]),
        ([said(additional_kwargs={"as": "ann"})], [said(additional_kwargs={"as": "bob"})]),
        (
            [HumanMessage([{"type": "text", "text": "What is mine?", "note": "a"}])],
            [HumanMessage([{"type": "text", "text": "What is mine?", "note": "b"}])],
        ),
        ([ChatMessage("x", role="ann"), said()], [ChatMessage("x", role="bob"), said()]),
        (
            [HumanMessage([{"type": "file", "id": "file-ann"}]), said()],
            [HumanMessage([{"type": "file", "id": "file-bob"}]), said()],
        ),
    ],
)
def test_what_stands_beside_the_text_of_a_turn_counts(one, other):
    """Requests that the model can tell apart share neither exact answers nor a scope."""
    assert chat(*one).exact != chat(*other).exact
    assert chat(*one).near != chat(*other).near
    assert chat(*one).scope != chat(*other).scope


@pytest.mark.parametrize(("settings", "differ"), [("True", True), ("False", False)])
def test_answers_that_the_server_continues_count_by_their_ids(settings, differ):
    """With use_previous_response_id the texts of the history are not what the model reads."""
    one, other = (
        read(
            dumps([HumanMessage("a"), AIMessage("b", response_metadata={"id": name}), said()]),
            f"[('use_previous_response_id', {settings})]",
        )
        for name in ("resp_1", "resp_2")
    )

    assert (one.exact != other.exact) is differ


def test_ids_that_are_made_anew_say_nothing():
    """LangChain numbers blocks and calls of every message for itself."""
    one, other = (
        chat(
            AIMessage(
                [{"type": "text", "text": "a", "id": f"lc_{n}"}],
                tool_calls=[{"name": "f", "args": {}, "id": f"call_{n}"}],
            ),
            ToolMessage("x", tool_call_id=f"call_{n}"),
            said(),
        )
        for n in "12"
    )

    assert one.exact == other.exact


@pytest.mark.parametrize("mark", ["\U000e0041", "\ufe01", "\u202e", "\x07", "\u200b" * 9])
def test_hidden_characters_leave_the_exact_tier_only(mark):
    """What a reader cannot see must not plant an answer for the plain question."""
    assert read(f"What is {mark}up?").text is None
    assert read(f"What is {mark}up?").exact != read("What is up?").exact


def test_equal_texts_in_other_bytes_are_one_request():
    """Unicode's form C, line ends and outer blanks."""
    assert read(" Cafe\u0301\r\nopen?\n").exact == read("Caf\u00e9\nopen?").exact


def test_a_prompt_that_merely_looks_like_messages_is_text():
    """JSON that is no dump of messages is a text model's prompt."""
    assert '[{"a": 1}]' == read('[{"a": 1}]').text


def test_long_prompts_are_not_kept_in_memory():
    """A request with an image is read, and forgotten."""
    before = key._read_before.cache_info().currsize
    for number in range(20):
        question_of(f"image {number} " * 5_000, "llm", "default", (), "exact")

    assert before == key._read_before.cache_info().currsize


@pytest.mark.parametrize(
    ("prompt", "settings"),
    [
        ('[{"lc": 1, "kwargs": {"type": "ai", "tool_calls": ["x"]}}]', "llm"),
        ('[{"lc": 1, "id": 5, "kwargs": {}}]', "llm"),
        ('[{"lc": 1, "kwargs": {"type": "human", "content": "x", "tool_calls": 5}}]', "llm"),
        ('[{"lc": 1, "kwargs": {"type": "human", "content": ' + "[" * 900 + "]" * 900 + "}}]", "l"),
        ("[" * 100_000, "llm"),
        ("q", '{"kwargs": ' + "[" * 100_000 + "---[]"),
        ("q", "stop \ud800"),
        ("half a \ud800", "llm"),
        ("", ""),
    ],
    ids=["calls", "id", "numbers", "deep", "deeper", "settings", "stop", "surrogate", "nothing"],
)
@pytest.mark.filterwarnings("ignore:A request cannot be read")
def test_whatever_a_request_looks_like_no_call_fails(prompt, settings):
    """A request that cannot be read, or not be compared, is a miss or an exact hit."""
    with SemanticCache(embeddings=WordEmbeddings()) as cache:
        assert cache.lookup(prompt, settings) is None
        cache.update(prompt, settings, [Generation(text="a")])
        found = cache.lookup(prompt, settings)
        assert found in (None, [Generation(text="a")])
        cache.lookup(f"{prompt} again", settings)
