"""What an application is made of, and how its tokens are counted."""

from __future__ import annotations

import json
import math
import random
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from operator import add, or_
from typing import Annotated, Any, Literal, TypedDict

from langchain_core.messages import (
    BaseMessage,
)
from langchain_core.utils.function_calling import convert_to_openai_tool
from langgraph.graph.message import add_messages

PARAGRAPH = 80
"""Tokens of a short real answer: about sixty words."""
GLIMPSE = 24
"""Tokens of each document, report or tool result that even a short prompt should hold."""
MARGIN = 1.1
"""What a careful counter may hold above what the provider bills."""
OWN_MARGIN = 1.25
"""The same where an agent is said to have enough of its own: beyond doubt."""
SLOW_SECONDS = 10.0

# --- what is counted -----------------------------------------------------------------------------


@cache
def _encoding() -> Any:
    """Return tiktoken's vocabulary, from a package that needs no network."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import bpe_openai

        return bpe_openai.get_encoding("cl100k_base")


@lru_cache(maxsize=50_000)
def tokens_of(text: str) -> int:
    """Count with cl100k_base."""
    return len(_encoding().encode_ordinary(text))


def first_tokens(text: str, count: int) -> str:
    """Return the beginning of *text* that has *count* tokens."""
    return _encoding().decode(list(_encoding().encode_ordinary(text)[:count])).rstrip("�")


def text_of(message: BaseMessage) -> str:
    """Return the text of a message, whatever its content is made of."""
    return str(message.text)


def _calls_json(message: BaseMessage) -> str:
    calls = getattr(message, "tool_calls", None) or []
    return "".join(call["name"] + json.dumps(call["args"], ensure_ascii=False) for call in calls)


@dataclass(frozen=True)
class Surplus:
    """What the provider bills above the tokens of the texts."""

    factor: float = 1.0
    per_message: int = 0
    per_tool: int = 0

    def billed(self, messages: Sequence[BaseMessage], tools: Sequence[Any]) -> int:
        """Return the input tokens on the bill."""
        extra = self.per_message * len(messages) + self.per_tool * len(tools)
        return math.ceil(self.factor * plain_input(messages, tools)) + extra


def plain_input(messages: Sequence[BaseMessage], tools: Sequence[Any]) -> int:
    """Count a request as OpenAI says it counts: 4 tokens around a message, 3 for the answer."""
    texts = sum(4 + tokens_of(text_of(m)) + tokens_of(_calls_json(m)) for m in messages)
    return 3 + texts + (tokens_of(json.dumps(list(tools))) if tools else 0)


# --- what an application is ----------------------------------------------------------------------


@dataclass(frozen=True)
class Fact:
    """A sentence that must reach the end; its subject and its value occur in nothing else."""

    subject: str
    value: str
    sentence: str

    def stands_in(self, text: str) -> bool:
        """Whether the fact can be read in *text*."""
        return self.subject in text and self.value in text


@dataclass(frozen=True)
class Language:
    """The field an application works in, and how its people write."""

    name: str
    system: str
    question: str
    role: str
    """With ``{name}`` and ``{number}``."""
    limit: str
    """A caller's rule with ``{words}``."""
    rules: tuple[str, ...]
    facts: tuple[str, ...]
    """Sentences with ``{s}`` and ``{v}``."""
    subjects: tuple[str, ...]
    prose: tuple[tuple[str, ...], ...]
    """Slots of a sentence, each with its choices."""
    lead: str
    """First sentence of an answer, with ``{name}``."""
    agents: tuple[str, ...]
    joint: str = " "
    end: str = "."

    def sentence(self, rng: random.Random) -> str:
        """Return a sentence that says nothing in particular."""
        text = self.joint.join(rng.choice(slot) for slot in self.prose)
        return text[0].upper() + text[1:] + self.end


# --- what is written ------------------------------------------------------------------------------


@dataclass
class Filler:
    facts: Sequence[Fact]
    language: Language | None
    words: int
    rng: random.Random = field(default_factory=lambda: random.Random(0))


def filled(schema: Mapping[str, Any], by: Filler, root: Mapping[str, Any] | None = None) -> Any:
    """Return a value that *schema* allows: as few words as it needs, or facts and prose."""
    root = root or schema
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        return filled((root.get("$defs") or root.get("definitions"))[name], by, root)
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return filled(schema[key][0], by, root)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return by.rng.choice(schema["enum"]) if by.words else schema["enum"][0]
    kind = schema.get("type", "object")
    if kind == "object":
        properties = schema.get("properties", {})
        texts = sum(_is_text(p) for p in properties.values()) or 1
        part = replace(by, words=by.words // texts)
        return {name: filled(each, part, root) for name, each in properties.items()}
    if kind == "array":
        least = max(schema.get("minItems", 1 if by.words else 0), min(3, by.words // 20))
        part = replace(by, words=by.words // max(1, least))
        return [filled(schema.get("items", {"type": "string"}), part, root) for _ in range(least)]
    if kind in ("integer", "number"):
        low = schema.get("minimum", schema.get("exclusiveMinimum", 0) + 1)
        return by.rng.randint(low, schema.get("maximum", low + 5)) if by.words else low
    if kind == "boolean":
        return True
    if by.language is None:
        return "x"
    return composed(by.facts, max(6, by.words), by.rng, by.language)


def _is_text(schema: Mapping[str, Any]) -> bool:
    return schema.get("type") in ("string", "array") and "enum" not in schema


def composed(
    facts: Sequence[Fact], words: int, rng: random.Random, language: Language, lead: str = ""
) -> str:
    """Write about *words* words; the facts stand evenly among them, as many as there is room for."""
    sentences = [lead] if lead else []
    used = len(lead.split())
    told = []
    for fact in facts:
        length = length_in_words(fact.sentence)
        if used + length > words and (told or lead):
            break
        told.append(fact.sentence)
        used += length
    prose = []
    while used < words - 12:
        prose.append(language.sentence(rng))
        used += length_in_words(prose[-1])
    body = list(prose)
    for number, sentence in enumerate(told):
        body.insert(round((number + 0.5) * len(body) / len(told)), sentence)
    body = body or ([] if lead else [language.sentence(rng)])
    return " ".join([*sentences, *body]) if language.joint else "".join([*sentences, *body])


def length_in_words(text: str) -> int:
    """Count words; of Chinese, two characters are one."""
    return max(len(text.split()), sum(letter > "\u2e80" for letter in text) // 2)


Layout = Callable[["Agent", Sequence[tuple[str, str]]], list[BaseMessage]]


@dataclass(frozen=True)
class Agent:
    """One agent: what must stand in each of its prompts, and how it writes."""

    name: str
    system: str
    role: str
    question: str
    rules: str
    words: int
    """How long it writes unless it keeps to a limit."""
    layout: Layout
    obeys: bool = True
    limit: int | None = None
    """Words that the caller's rules ask for."""
    schema: Any = None
    options: Sequence[Any] = ()
    """Several schemas, of which the model must call one."""
    tools: Sequence[Any] = ()
    searches: int = 0
    at_once: int = 1
    calls: int = 1
    """Calls that even a short run needs."""
    reads: int = 1
    """Documents, reports or results in one prompt."""
    hidden: bool = False
    """It is called inside of another's tool, and no node has its name."""
    foreign: bool = False
    """Its node's code belongs to somebody else: what it sends is known from its frame alone."""

    @property
    def forms(self) -> frozenset[str]:
        """Return the names of its schemas, as tools have them."""
        shown = (convert_to_openai_tool(s) for s in (self.options or [self.schema]) if s)
        return frozenset(tool["function"]["name"] for tool in shown)

    @property
    def frame(self) -> tuple[str, ...]:
        """Return the lines that no shortening may touch, besides the system message."""
        return tuple(line for line in (self.role, self.question, self.rules) if line)

    def prompt(self, materials: Sequence[tuple[str, str]]) -> list[BaseMessage]:
        """Return the messages that this agent sends."""
        return self.layout(self, materials)

    def short_need(self, surplus: Surplus) -> int:
        """Return the tokens of one short call, as the provider bills them."""
        schemas = [convert_to_openai_tool(s) for s in (self.options or [self.schema]) if s]
        frame = surplus.billed(self.prompt([]), schemas)
        read = math.ceil(GLIMPSE * self.reads * surplus.factor)
        if schemas:
            least = filled(schemas[0]["function"]["parameters"], Filler((), None, 0))
            return frame + read + max(PARAGRAPH, math.ceil(1.3 * tokens_of(json.dumps(least))) + 8)
        return frame + read + PARAGRAPH


class State(TypedDict, total=False):
    """What travels through every application."""

    question: Annotated[str, lambda a, b: b]
    reports: Annotated[dict[str, str], or_]
    objects: Annotated[dict[str, Any], or_]
    said: Annotated[list[tuple[str, str]], add]
    parts: Annotated[list[tuple[str, str]], add]
    threads: Annotated[dict[str, list[BaseMessage]], lambda a, b: joined_threads(a, b)]
    messages: Annotated[list[BaseMessage], add_messages]
    structured_response: Any
    turn: int
    next: str
    item: str


def joined_threads(
    old: Mapping[str, list[BaseMessage]], new: Mapping[str, list[BaseMessage]]
) -> dict[str, list[BaseMessage]]:
    """Append what is new to the conversation of each agent."""
    return {name: [*old.get(name, []), *new.get(name, [])] for name in {**old, **new}}


Mode = Literal["invoke", "ainvoke", "stream", "astream"]


@dataclass
class App:
    """One application."""

    seed: int
    kind: str
    language: Language
    agents: dict[str, Agent]
    facts: tuple[Fact, ...]
    build: Callable[[Any], Any]
    """Draws the graph: a ``StateGraph``, or a compiled one."""
    inputs: dict[str, Any]
    final: Callable[[Mapping[str, Any]], str]
    mode: Mode = "invoke"
    surplus: Surplus = Surplus()
    usage_in_streams: bool = True
    ignores_caps: bool = False
    """Its models write on beyond ``max_tokens``; what they write beyond is surplus."""
    parallel: int = 1

    @property
    def short_need(self) -> int:
        """Return the least total at which every call can be answered in short."""
        each = (a.calls * a.short_need(self.surplus) for a in self.agents.values())
        return math.ceil(MARGIN * sum(each))
