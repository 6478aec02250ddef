"""The extractive stand-in keeps the contracts of a chat model, though it is none."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from enum import Enum
from typing import Any, Literal, TypedDict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.tools import tool
from pydantic import BaseModel, Field, ValidationError, conint

from langchain_tokenopt.counting.request_tokens import count_messages
from langchain_tokenopt.counting.tokens import counter_for
from langchain_tokenopt.testing import NOTE, ExtractiveChatModel
from langchain_tokenopt.testing.prompt import word_limit
from langchain_tokenopt.text.sentences import sentences_of
from langchain_tokenopt.text.words import count_words

NOTES = (
    "The canteen was painted in March. Orders rose by 12 % to 493 million euros in the first "
    "quarter. The margin fell to 19.8 % because two contracts had fixed prices. A fire at the "
    "Lunde site damaged three containers on 2026-04-18. Nobody was hurt. The bond of 200 million "
    "euros falls due in March 2027. Staff may park behind the plant. Net debt rose to 441 million "
    "euros. The pension fund now holds 5.2 % of the shares."
)


def ask(request: str, notes: str = NOTES) -> str:
    return f"{request}\n\n<notes>\n{notes}\n</notes>"


# What it answers


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("How much did orders rise?", "Orders rose by 12 % to 493 million euros"),
        ("When does the bond fall due?", "The bond of 200 million euros falls due in March 2027."),
        ("What burned at the Lunde site?", "A fire at the Lunde site damaged three containers"),
    ],
)
def test_answers_with_the_sentence_that_fits(question: str, answer: str) -> None:
    """The most relevant sentence of the material is the answer when there is room for one."""
    assert (
        ExtractiveChatModel().invoke(ask(f"{question} At most 18 words.")).text.startswith(answer)
    )


def test_sentences_keep_their_order() -> None:
    """Chosen sentences stand in the answer as they stood in the material."""
    answer = ExtractiveChatModel().invoke(ask("Debt, bond, fire, orders? In 60 words.")).text
    places = [NOTES.index(sentence) for sentence in sentences_of(answer)]

    assert len(places) >= 3
    assert sorted(places) == places


def test_nothing_is_said_twice() -> None:
    """A sentence that the material repeats is repeated once."""
    answer = ExtractiveChatModel().invoke(ask("Orders? In 100 words.", f"{NOTES}\n\n{NOTES}")).text

    assert 1 == answer.count("Orders rose by 12 %")


def test_same_prompt_same_answer() -> None:
    """Two instances give equal answers to equal prompts, ids aside."""
    first, second = (ExtractiveChatModel().invoke(ask("What about the margin?")) for _ in range(2))

    assert first.text == second.text
    assert first.usage_metadata == second.usage_metadata


def test_says_what_it_is() -> None:
    """Every answer names its author and that no language model wrote it."""
    metadata = ExtractiveChatModel().invoke("Hello").response_metadata

    assert "extractive-1" == metadata["model_name"]
    assert "extractive stand-in, not a language model" == NOTE == metadata["note"]


def test_decides_between_named_alternatives() -> None:
    """Where the request names alternatives in capitals, the last line is one of them."""
    material = "Most of them hold. Two brokers hold their view and hold the shares. One would sell."
    request = "Decide in at most 40 words. End with 'Decision: BUY, HOLD or SELL' and the reason."
    answer = ExtractiveChatModel().invoke(ask(request, material)).text

    assert answer.splitlines()[-1].startswith("Decision: HOLD. ")
    assert count_words(answer) <= 40


def test_reads_documents_without_tags() -> None:
    """A long paragraph between a question and an instruction is the material."""
    prompt = f"What about the pension fund?\n\n{NOTES}\n\nAnswer in at most 15 words."

    assert (
        "The pension fund now holds 5.2 % of the shares."
        == ExtractiveChatModel().invoke(prompt).text
    )


def test_reads_documents_in_the_system_message() -> None:
    """Material and word limit may come from the system message."""
    system = SystemMessage(f"Use the notes. Max. 12 words.\n<notes>\n{NOTES}\n</notes>")
    answer = ExtractiveChatModel().invoke([system, HumanMessage("How much is the net debt?")])

    assert "Net debt rose to 441 million euros." == answer.text


@pytest.mark.parametrize(
    ("material", "expected"),
    [
        ("Der Umsatz stieg um z. B. 4 Prozent. Das Wetter war gut.", "Der Umsatz stieg um z. B."),
        ("营收增长了百分之十二。天气很好。", "营收增长了百分之十二。"),
    ],
    ids=["German", "Chinese"],
)
def test_reads_other_languages(material: str, expected: str) -> None:
    """Sentences are found and ranked in other languages and scripts too."""
    question = "Umsatz? 营收增长? max 11 words"

    assert ExtractiveChatModel().invoke(ask(question, material)).text.startswith(expected)


@pytest.mark.parametrize(
    "messages",
    ["", [HumanMessage("")], [HumanMessage([])], [SystemMessage("Be brief.")], [AIMessage("Hm.")]],
    ids=["nothing", "empty", "no blocks", "system only", "answer only"],
)
def test_poor_prompts_get_an_answer(messages: str | list[BaseMessage]) -> None:
    """A prompt without a request or without words is no error."""
    assert ExtractiveChatModel().invoke(messages).usage_metadata is not None


# Lengths


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("Write at most 150 words.", 150),
        ("Summarise in 80 words", 80),
        ("under 200 words, please", 199),
        ("Fewer than 30 words.", 29),
        ("max 50 words", 50),
        ("Max. 50 words", 50),
        ("no more than 1,200 words", 1200),
        ("a 120-word summary", 120),
        ("100-150 words", 150),
        ("between 100 and 150 words", 150),
        ("at least 50 and at most 90 words", 90),
        ("Word limit: 75", 75),
        ("Antworte in höchstens 100 Wörtern.", 100),
        ("Weniger als 40 Wörter", 39),
        ("Maximal 1.000 Worte", 1000),
        ("en 60 mots maximum", 60),
        ("menos de 25 palabras", 24),
        ("First 300 words, then cut to 90 words.", 90),
        ("at least 100 words", None),
        ("mindestens 100 Wörter", None),
        ("more than 10 words", None),
        ("The report has 3 pages. In other words, little.", None),
        ("", None),
    ],
)
def test_word_limits_are_understood(text: str, limit: int | None) -> None:
    """Common ways to name a limit are read; a minimum is no limit; the tightest one counts."""
    assert limit == word_limit(text)


PHRASES = [
    "Write at most {} words.",
    "In {} words.",
    "Under {} words.",
    "Max {} words.",
    "Höchstens {} Wörter.",
    "Moins de {} mots.",
]


@settings(deadline=None, max_examples=60)
@given(
    phrase=st.sampled_from(PHRASES),
    limit=st.integers(1, 400),
    material=st.lists(st.text(min_size=1, max_size=120), min_size=1, max_size=30),
    verbosity=st.sampled_from([0.3, 1.0, 4.0]),
)
def test_word_limits_are_kept(
    phrase: str, limit: int, material: list[str], verbosity: float
) -> None:
    """No material and no verbosity makes an answer longer than its prompt allows."""
    model = ExtractiveChatModel(verbosity=verbosity)
    prompt = ask(f"{phrase.format(limit)} BUY, HOLD or SELL?", NOTES + "\n".join(material))

    assert len(model.invoke(prompt).text.split()) <= limit


def test_verbosity_scales_answers_without_limit() -> None:
    """A verbose model says more where nobody set a limit."""
    brief, usual = (
        len(ExtractiveChatModel(verbosity=v).invoke(ask("Tell me.")).text.split())
        for v in (0.2, 1.0)
    )

    assert brief <= 24 < usual


@pytest.mark.parametrize("max_tokens", [1, 5, 20])
def test_max_tokens_cuts_the_answer(max_tokens: int) -> None:
    """The answer has at most so many tokens and says that it was cut; the call's limit wins."""
    by_field = ExtractiveChatModel(max_tokens=max_tokens).invoke(ask("Orders?"))
    by_call = ExtractiveChatModel(max_tokens=3_000).invoke(ask("Orders?"), max_tokens=max_tokens)
    whole = ExtractiveChatModel().invoke(ask("Orders?"))

    assert by_field.text == by_call.text
    assert whole.text.startswith(by_field.text)
    assert counter_for("gpt-4o").count(by_field.text).tokens <= max_tokens
    assert "length" == by_field.response_metadata["finish_reason"]
    assert "stop" == whole.response_metadata["finish_reason"]


def test_stop_sequences_end_the_answer() -> None:
    """The answer ends before the first stop sequence."""
    model = ExtractiveChatModel()
    whole = model.invoke(ask("What about orders and margin?")).text

    assert (
        whole.partition("margin")[0]
        == model.invoke(ask("What about orders and margin?"), stop=["margin", "never"]).text
    )


@pytest.mark.parametrize("setting", [{"max_tokens": 0}, {"verbosity": 0}, {"verbocity": 2}])
def test_impossible_settings_are_refused(setting: dict[str, Any]) -> None:
    """Settings that cannot be meant, and misspelt ones, are errors."""
    with pytest.raises(ValidationError):
        ExtractiveChatModel(**setting)


# Usage


def test_usage_is_counted() -> None:
    """Reported tokens are those of the prompt, the tools and the answer in the named tokenizer."""
    schema = {"name": "note", "description": "Note.", "parameters": {"type": "object"}}
    messages = [SystemMessage("Be brief."), HumanMessage(ask("Orders?"))]
    plain = ExtractiveChatModel().invoke(messages)
    with_tool = ExtractiveChatModel().bind_tools([schema]).invoke(messages)
    tools = [{"type": "function", "function": schema}]
    written = counter_for("gpt-4o").count(plain.text).tokens

    assert plain.usage_metadata is not None
    assert with_tool.usage_metadata is not None
    assert count_messages(messages, model="gpt-4o").tokens == plain.usage_metadata["input_tokens"]
    assert written == plain.usage_metadata["output_tokens"]
    assert (
        count_messages(messages, tools, model="gpt-4o").tokens
        == with_tool.usage_metadata["input_tokens"]
    )


# Sync, async, streams


def merged(chunks: list[AIMessageChunk]) -> AIMessageChunk:
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    return whole


def essence(message: AIMessage) -> tuple[Any, ...]:
    """What must be the same however the model is asked."""
    return (
        message.text,
        message.tool_calls,
        message.usage_metadata,
        message.response_metadata,
    )


class Verdict(BaseModel):
    """A verdict on the company."""

    rating: Literal["buy", "hold", "sell"]
    orders: int
    reason: str


SITUATIONS = {
    "text": {},
    "cut text": {"max_tokens": 9},
    "tool call": {"tools": [Verdict], "tool_choice": "any"},
    "no words": {"stop": ["O", "T", "A", "N", "S"]},
}


@pytest.mark.parametrize("situation", SITUATIONS)
async def test_however_it_is_asked_the_answer_is_the_same(situation: str) -> None:
    """invoke, ainvoke, stream and astream agree on text, calls, usage and reasons."""
    kwargs = dict(SITUATIONS[situation])
    tools = kwargs.pop("tools", None)
    model: Any = ExtractiveChatModel()
    if tools:
        model = model.bind_tools(tools, tool_choice=kwargs.pop("tool_choice"))
    prompt = ask("What about the orders?")
    invoked = model.invoke(prompt, **kwargs)
    streamed = list(model.stream(prompt, **kwargs))
    astreamed = [chunk async for chunk in model.astream(prompt, **kwargs)]

    assert essence(invoked) == essence(await model.ainvoke(prompt, **kwargs))
    assert essence(invoked) == essence(merged(streamed))
    assert essence(invoked) == essence(merged(astreamed))
    assert invoked.usage_metadata == streamed[-1].usage_metadata


def test_streams_word_by_word() -> None:
    """Every chunk but the last carries one word."""
    chunks = list(ExtractiveChatModel().stream(ask("Orders? Max 8 words.")))
    words = [chunk.text for chunk in chunks if chunk.text]

    assert len(words) > 3
    assert [1] * len(words) == [len(word.split()) for word in words]


# Tools


@tool
def get_weather(city: str) -> str:
    """Return the current weather of a city."""
    return f"It rains in Lunde and {city[:3]} is dry."


@tool
def add(a: int, b: int) -> int:
    """Add two whole numbers."""
    return a + b


def test_calls_a_tool_that_the_request_speaks_of() -> None:
    """A request about the weather calls get_weather; one about parking calls nothing."""
    model = ExtractiveChatModel().bind_tools([get_weather, add])

    assert ["get_weather"] == [
        c["name"] for c in model.invoke("What is the weather now?").tool_calls
    ]
    assert [] == model.invoke(ask("Where may staff park?")).tool_calls


def test_numbers_of_the_request_become_arguments() -> None:
    """Numbers stand where the request puts them, by the name of the field."""
    model = ExtractiveChatModel().bind_tools([add], tool_choice="add")

    assert {"a": 17, "b": 25} == model.invoke("Please add a = 17 and b = 25.").tool_calls[0]["args"]


def test_answers_from_the_result_of_a_tool() -> None:
    """After the tool has answered it is not called again, and its words are the answer."""
    model = ExtractiveChatModel().bind_tools([get_weather])
    question = HumanMessage("What is the weather in Lunde?")
    call = model.invoke([question])
    result = ToolMessage("It rains in Lunde.", tool_call_id=call.tool_calls[0]["id"])
    answer = model.invoke([question, call, result])

    assert [] == answer.tool_calls
    assert "It rains in Lunde." == answer.text


@pytest.mark.parametrize(
    ("choice", "called"),
    [
        ("any", ["get_weather"]),
        ("required", ["get_weather"]),
        (True, ["get_weather"]),
        ("add", ["add"]),
        ({"type": "function", "function": {"name": "add"}}, ["add"]),
        ("auto", ["get_weather"]),
        ("none", []),
        (False, []),
    ],
    ids=str,
)
def test_tool_choice_is_obeyed(choice: Any, called: list[str]) -> None:
    """Every form of tool_choice that OpenAI's models take is understood."""
    model = ExtractiveChatModel().bind_tools([get_weather, add], tool_choice=choice)

    assert called == [c["name"] for c in model.invoke("How is the weather?").tool_calls]


async def test_create_agent_ends() -> None:
    """An agent of langchain calls each tool once and then answers."""
    from langchain.agents import create_agent

    agent = create_agent(ExtractiveChatModel(), [get_weather, add])
    state = await agent.ainvoke(
        {"messages": [HumanMessage("Use get_weather for Lunde and add 2 and 3.")]},
        {"recursion_limit": 12},
    )
    calls = [c["name"] for m in state["messages"] if isinstance(m, AIMessage) for c in m.tool_calls]

    assert ["add", "get_weather"] == sorted(calls)
    assert state["messages"][-1].text


def test_create_agent_ends_with_structured_output() -> None:
    """An agent with a response format comes to its structured answer."""
    from langchain.agents import create_agent
    from langchain.agents.structured_output import ToolStrategy

    agent = create_agent(
        ExtractiveChatModel(), [get_weather], response_format=ToolStrategy(Verdict)
    )
    state = agent.invoke(
        {"messages": [HumanMessage(ask("What is the weather? And hold or sell?"))]},
        {"recursion_limit": 12},
    )

    assert isinstance(state["structured_response"], Verdict)


def test_tool_node_loop_ends() -> None:
    """A hand-made loop of model and ToolNode terminates."""
    from langgraph.graph import START, MessagesState, StateGraph
    from langgraph.prebuilt import ToolNode, tools_condition

    model = ExtractiveChatModel().bind_tools([get_weather])
    graph = StateGraph(MessagesState)
    graph.add_node("model", lambda state: {"messages": [model.invoke(state["messages"])]})
    graph.add_node("tools", ToolNode([get_weather]))
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", tools_condition)
    graph.add_edge("tools", "model")
    state = graph.compile().invoke({"messages": [HumanMessage("Weather in Lunde?")]})

    assert ["human", "ai", "tool", "ai"] == [message.type for message in state["messages"]]


def test_a_call_that_does_not_fit_is_invalid() -> None:
    """Arguments cut by max_tokens are no call, as with real models."""
    model = ExtractiveChatModel(max_tokens=12).bind_tools([Verdict], tool_choice="any")
    answer = model.invoke(ask("What about orders?"))

    assert [] == answer.tool_calls
    assert ["Verdict"] == [call["name"] for call in answer.invalid_tool_calls]
    assert "length" == answer.response_metadata["finish_reason"]


# Structured output


class Mood(Enum):
    CALM = "calm"
    NERVOUS = "nervous"


class Node(BaseModel):
    name: str
    children: list[Node]
    parent: Node | None


class Position(BaseModel):
    shares: conint(ge=1, le=100)  # type: ignore[valid-type]
    price: float = Field(gt=0, lt=5)


class Rich(BaseModel):
    """Every kind of field."""

    title: str = Field(max_length=30)
    code: str = Field(pattern=r"^[A-Z]\d{3}$|^$")
    padded: str = Field(min_length=500)
    mood: Mood
    certain: bool
    when: date
    mail: str = Field(json_schema_extra={"format": "email"})
    amount: Decimal
    quota: int = Field(multiple_of=7, ge=10)
    position: Position
    history: list[Position] = Field(min_length=3, max_length=5)
    unique: set[int] = Field(min_length=3)
    words: set[str] = Field(min_length=2)
    pair: tuple[int, str]
    either: Position | str
    maybe: int | None
    labels: dict[str, str]
    anything: Any
    fixed: Literal["v1"]
    note: str = "as it was"


@pytest.mark.parametrize("material", [NOTES, "", "Ünïcode ☂ 9.5 yes 3 calm"])
@pytest.mark.parametrize("schema", [Verdict, Position, Node, Rich], ids=lambda s: s.__name__)
def test_structured_output_validates(schema: type[BaseModel], material: str) -> None:
    """Whatever the schema and the text, the arguments are valid."""
    model = ExtractiveChatModel().with_structured_output(schema)

    assert isinstance(model.invoke(ask("Hold or sell?", material)), schema)


def test_structured_output_is_taken_from_the_text() -> None:
    """Numbers come from beside the field's name, choices from what the text names."""
    verdict = ExtractiveChatModel().with_structured_output(Verdict).invoke(ask("Should we hold?"))

    assert isinstance(verdict, Verdict)
    assert ("hold", 12) == (verdict.rating, verdict.orders)
    assert verdict.reason in NOTES


class VerdictDict(TypedDict):
    """A verdict."""

    rating: str
    orders: int


@pytest.mark.parametrize(
    "schema",
    [
        VerdictDict,
        {
            "title": "verdict",
            "description": "A verdict.",
            "type": "object",
            "properties": {"rating": {"type": "string"}, "orders": {"type": ["integer", "null"]}},
        },
    ],
    ids=["TypedDict", "JSON schema"],
)
def test_structured_output_as_dictionaries(schema: Any) -> None:
    """Schemas that are no pydantic models give dictionaries with their keys."""
    verdict = ExtractiveChatModel().with_structured_output(schema).invoke(ask("Orders?"))

    assert {"rating", "orders"} == set(verdict)
    assert 12 == verdict["orders"]


def test_odd_schemas_are_filled() -> None:
    """A schema that refers to itself, or has an expression foreign to Python, breaks nothing."""
    tree = {
        "type": "object",
        "properties": {
            "left": {"$ref": "#/$defs/branch"},
            "word": {"type": "string", "pattern": r"^\p{L}+$"},
            "forest": {"type": "array", "items": {"$ref": "#"}, "maxItems": 0},
        },
        "required": ["left", "word", "forest"],
        "$defs": {
            "branch": {
                "type": "object",
                "properties": {"more": {"anyOf": [{"$ref": "#/$defs/branch"}, {"type": "null"}]}},
                "required": ["more"],
            }
        },
    }
    tool = {"type": "function", "function": {"name": "grow", "parameters": tree}}
    call = ExtractiveChatModel().bind_tools([tool], tool_choice="any").invoke("Grow.").tool_calls[0]

    assert {"left": {"more": None}, "word": "", "forest": []} == call["args"]


def test_defaults_are_left_alone() -> None:
    """A field with a default is not made up."""
    model = ExtractiveChatModel().bind_tools([Rich], tool_choice="any")

    assert "note" not in model.invoke(ask("Orders?")).tool_calls[0]["args"]


def test_arguments_are_json() -> None:
    """What is called can be written as JSON, as it would be on the wire."""
    call = (
        ExtractiveChatModel().bind_tools([Rich], tool_choice="any").invoke(ask("?")).tool_calls[0]
    )

    assert call["args"] == json.loads(json.dumps(call["args"]))
