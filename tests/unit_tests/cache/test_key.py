"""What makes two requests the same for the cache."""

from __future__ import annotations

import pytest
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.outputs import Generation

from langchain_tokenopt.cache import SemanticCache, key
from langchain_tokenopt.cache.key import UnkeyableError, normalised, question_of
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


@pytest.mark.parametrize(
    ("one", "other"),
    [("What's up?", "what is up"), ("Don't  go!", "do not go"), ("Hello, you", "hello you")],
)
def test_spelling_marks_are_normalised(one, other):
    """Case, spacing, punctuation and short forms make no other question."""
    assert normalised(one) == normalised(other)


@pytest.mark.parametrize(
    ("one", "other"), [("C++", "C"), ("5", "-5"), ("50%", "50"), ("1.5", "15"), ("v1.2", "v12")]
)
def test_signs_that_mean_something_stay(one, other):
    """Signs inside or before words and numbers are not punctuation."""
    assert normalised(one) != normalised(other)


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
