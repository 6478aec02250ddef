"""An office assistant with forty tools, conversations with it, and a model that answers by script.

What the model does depends on nothing but what it is shown: it calls a tool if that is among its
tools, searches for tools where it may, reads a fact where it stands, fetches what a mark offers,
and says that it does not know where all of that fails. So a tool or a fact that was lost shows as
a wrong answer. Each request is billed by the provider's rules, apart from what is measured.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    ToolCall,
)
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool, StructuredTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from langchain_tokenopt import count_messages
from langchain_tokenopt.counting.tokens import counter_for

__all__ = ["MODEL", "Bill", "Conversation", "ScriptedModel", "conversations", "office_tools"]

MODEL = "gpt-4o-mini"
_KEPT_FROM, _KEPT_STEP = 1_024, 128
"""Tokens from which on a provider keeps the beginning of a prompt, and in which steps."""


# --- what is asked


@dataclass(frozen=True, slots=True)
class Task:
    """What one turn asks for."""

    key: str
    says: str
    """The user's message."""
    answer: str
    """What the right answer holds."""
    calls: tuple[tuple[str, str], ...] = ()
    """Tools, and with what, in their order."""
    entity: str = ""
    field: str = ""
    """Where the answer stands: this field of this thing."""
    words: int = 40
    """How much the model likes to write."""


@dataclass(slots=True)
class Conversation:
    """One user's conversation with the assistant."""

    name: str
    user: str
    domain: str
    tasks: list[Task] = field(default_factory=list)


_DOMAINS = {
    "freight": ("parcel", ("customs code", "carrier", "depot"), "The container stood at the quay"),
    "clinic": ("patient", ("ward", "dose code", "referral"), "The ward round began at seven"),
    "bank": ("invoice", ("ledger code", "approver", "due week"), "The auditors asked for a copy"),
    "travel": ("flight", ("gate", "booking code", "meal"), "The crew waited for the slot"),
    "studio": ("photo", ("archive code", "licence", "lens"), "The light was poor that evening"),
}
_THINGS = {
    "calendar": "meeting",
    "mail": "e-mail",
    "patient": "patient's file",
    "invoice": "invoice",
    "flight": "flight",
    "photo": "photo",
    "contract": "contract",
    "parcel": "parcel",
}
_VERBS = {
    "create": ("Make a new", "Fails where one of that name is there already."),
    "find": ("Look for a", "Returns what the records say about it and those filed beside it."),
    "delete": ("Remove a", "It cannot be brought back; ask the user before you do it."),
    "update": ("Change a", "Only what is named in the change is written, all else is kept."),
    "share": ("Send to somebody else a", "The other person must be in the address book."),
}
_NAMES = ("Orion", "Vega", "Lyra", "Altair", "Deneb", "Mira", "Castor", "Rigel", "Spica", "Atria")
_FILLER = (
    "Nobody on the team had an objection to it.",
    "A second copy lies with the office in town.",
    "That was settled in a short call in the morning.",
    "The list is checked again at the end of each quarter.",
    "Older entries were moved to the archive two years ago.",
    "Questions about it go to the desk on the second floor.",
)


def office_tools() -> list[BaseTool]:
    """Return forty tools: eight kinds of things with five verbs each."""
    return [_tool(verb, thing) for thing in _THINGS for verb in _VERBS]


def _tool(verb: str, thing: str) -> BaseTool:
    def run(name: str, details: str = "") -> str:
        return _result(verb, thing, name)

    does, beware = _VERBS[verb]
    properties = {
        "name": {"type": "string", "description": f"The name of the {_THINGS[thing]}, whole."},
        "details": {
            "type": "string",
            "description": "Anything else that matters, such as a date, a place or a person.",
        },
    }
    return StructuredTool.from_function(
        run,
        name=f"{verb}_{thing}",
        description=f"{does} {_THINGS[thing]}, by its name. {beware}",
        args_schema={"type": "object", "properties": properties, "required": ["name"]},
    )


def _result(verb: str, thing: str, name: str) -> str:
    """Return what a tool says: records around the one that was asked for, or a confirmation."""
    if verb != "find":
        return f"{verb} {thing} {name}: done, number {_code(f'{verb}{thing}{name}')}."
    chance = random.Random(f"{thing}{name}")
    fields = next((f for kind, f, _ in _DOMAINS.values() if kind == thing), ("code", "owner"))
    names = [name, *(f"{chance.choice(_NAMES)}-{chance.randrange(200, 999)}" for _ in range(19))]
    chance.shuffle(names)
    if chance.random() < 0.5:
        rows = [{"name": each, **{f: _code(f"{each}{f}") for f in fields}} for each in names]
        return json.dumps(rows, indent=2)
    said = [
        f"The {f} of {each} is {_code(f'{each}{f}')}. {chance.choice(_FILLER)}"
        for each in names
        for f in fields
    ]
    return f"Records of {thing} {name}:\n" + "\n".join(said)


def _code(seed: str) -> str:
    chance = random.Random(seed)
    letters = "".join(chance.choice("BCDFGHKLMNPRSTVXZ") for _ in range(2))
    return f"{letters}-{chance.randrange(1_000, 9_999)}"


HANDBOOK = "You are the assistant of an office. Use the tools. Say it when you do not know.\n" + (
    "\n".join(
        f"Rule {n}: requests of kind {n} are booked under account {4_000 + 7 * n}; "
        f"the office answers within {n % 5 + 1} days, and {_FILLER[n % len(_FILLER)].lower()}"
        for n in range(12)
    )
)


def conversations(number: int, seed: int = 18) -> list[Conversation]:
    """Return so many conversations, the same ones for a seed."""
    chance = random.Random(seed)
    return [_conversation(n, chance) for n in range(number)]


def _conversation(n: int, chance: random.Random) -> Conversation:
    domain = chance.choice(sorted(_DOMAINS))
    talk = Conversation(f"c{n}", f"user{n % 25}", domain)
    thing, fields, _ = _DOMAINS[domain]
    known: list[tuple[str, str]] = []
    talk.tasks.append(_opening(n % 25, chance))
    for turn in range(chance.randrange(12, 17) if n % 5 == 0 else chance.randrange(4, 9)):
        key = f"Q{n}-{turn}"
        kind = chance.choices(("find", "do", "recall", "pages", "thanks"), (5, 2, 3, 2, 1))[0]
        if kind == "recall" and not known:
            kind = "find"
        if kind == "find":
            name, of = _new_name(n, turn), chance.choice(fields)
            known += [(name, each) for each in fields]
            says = f"({key}) Please find the {thing} {name} and tell me its {of}."
            task = Task(key, says, _code(f"{name}{of}"), ((f"find_{thing}", name),), name, of)
        elif kind == "do":
            verb, other = chance.choice(("create", "update", "share")), chance.choice([*_THINGS])
            name = _new_name(n, turn)
            says = f"({key}) {_VERBS[verb][0]} {_THINGS[other]} named {name}, please."
            done = _code(f"{verb}{other}{name}")
            task = Task(key, says, done, ((f"{verb}_{other}", name),), f"{other} {name}", "number")
        elif kind == "recall":
            name, of = chance.choice(known)
            says = f"({key}) Earlier you looked {name} up. What was the {of} of {name}?"
            task = Task(key, says, _code(f"{name}{of}"), (), name, of)
        elif kind == "pages":
            task, told = _pages(key, n, turn, chance, talk.domain)
            known += told
        else:
            task = Task(key, f"({key}) Thank you, that helps.", "welcome", words=12)
        talk.tasks.append(task)
    return talk


def _opening(user: int, chance: random.Random) -> Task:
    """Return what users begin with again and again: a question about the handbook."""
    rule = (user + chance.randrange(3)) % 12
    says = f"(H{rule}) Under which account are requests of kind {rule} booked?"
    return Task(f"H{rule}", says, str(4_000 + 7 * rule), entity=f"kind {rule}", field="account")


def _new_name(n: int, turn: int) -> str:
    chance = random.Random(f"{n} {turn}")
    return f"{chance.choice(_NAMES)}-{n}{turn:02}"


def _pages(
    key: str, n: int, turn: int, chance: random.Random, domain: str
) -> tuple[Task, list[tuple[str, str]]]:
    """Return a question about pages that stand beside it; later ones ask about the others."""
    _, fields, scene = _DOMAINS[domain]
    names = [f"{chance.choice(_NAMES)}-{n}{turn:02}{letter}" for letter in "abcdefghij"]
    pages = [
        f"[{at}] {scene}. {chance.choice(_FILLER)} The {of} of {name} is {_code(f'{name}{of}')}. "
        f"{chance.choice(_FILLER)}"
        for at, name in enumerate(names)
        for of in fields[:2]
    ]
    name, of = chance.choice(names), chance.choice(fields[:2])
    asked = f"({key}) By these pages, what is the {of} of {name}?"
    says = "Pages:\n\n" + "\n\n".join(pages) + f"\n\n{asked}"
    told = [(chance.choice(names), chance.choice(fields[:2]))]
    return Task(key, says, _code(f"{name}{of}"), (), name, of, words=60), told


# --- who answers


@dataclass(slots=True)
class Bill:
    """What a provider charges for requests, by its own count."""

    read: int = 0
    wrote: int = 0
    known: int = 0
    """Of what was read, the tokens with which a request before began, too."""
    calls: int = 0
    requests: list[tuple[int, int]] = field(default_factory=list)
    _prefixes: set[int] = field(default_factory=set)

    @property
    def tokens(self) -> int:
        """All that was billed."""
        return self.read + self.wrote

    def charge(self, pieces: Sequence[tuple[str, int]], wrote: int) -> int:
        """Add a request of these pieces, with their tokens; return how much of it was known."""
        read = known = 0
        digest, is_same = 0, True
        for text, tokens in pieces:
            digest = hash((digest, text))
            read += tokens
            is_same = is_same and digest in self._prefixes
            known = read if is_same else known
            self._prefixes.add(digest)
        known = 0 if known < _KEPT_FROM else known - (known - _KEPT_FROM) % _KEPT_STEP
        self.read, self.wrote, self.known = self.read + read, self.wrote + wrote, self.known + known
        self.calls += 1
        self.requests.append((read, wrote))
        return known


_PROFILE = {"max_input_tokens": 128_000, "tool_calling": True, "structured_output": True}


class ScriptedModel(BaseChatModel):
    """Answers tasks by what it is shown."""

    tasks: dict[str, Task]
    bill: Bill
    model_name: str = MODEL
    profile: Any = _PROFILE

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        return {"ls_provider": "openai", "ls_model_name": self.model_name, "ls_model_type": "chat"}

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[Any, Any]:
        """Bind them as OpenAI takes them."""
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], **kwargs)

    def helps(self, messages: list[BaseMessage], tools: list[Any]) -> AIMessage | None:
        """Answer whoever else asks than the assistant."""
        return None

    def _generate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        tools = kwargs.get("tools") or []
        made = self.helps(messages, tools)
        if made is None:
            text, calls = _Turn(messages, tools, self.tasks).answer()
            made = AIMessage(text, tool_calls=calls)
        wrote = _written(made, self.model_name)
        known = self.bill.charge(_pieces(messages, tools, self.model_name), wrote)
        read, _ = self.bill.requests[-1]
        made.usage_metadata = {
            "input_tokens": read,
            "output_tokens": wrote,
            "total_tokens": read + wrote,
            "input_token_details": {"cache_read": known},
        }
        made.response_metadata = {"model_name": self.model_name, "finish_reason": "stop"}
        return ChatResult(generations=[ChatGeneration(message=made)])


_TOKENS: dict[Any, int] = {}


def _pieces(
    messages: Sequence[BaseMessage], tools: Sequence[Any], model: str
) -> list[tuple[str, int]]:
    """Return a request as a provider reads it: tools first, then messages, each with its tokens."""
    frame = count_messages([], model=model).tokens
    named = json.dumps(tools, sort_keys=True)
    if (model, named) not in _TOKENS:
        _TOKENS[model, named] = count_messages([], tools or None, model).tokens
    pieces = [(named, _TOKENS[model, named])]
    for message in messages:
        calls = getattr(message, "tool_calls", None) or ()
        text = json.dumps([message.type, message.content, message.name, list(calls)], default=str)
        if (model, text) not in _TOKENS:
            _TOKENS[model, text] = count_messages([message], model=model).tokens - frame
        pieces.append((text, _TOKENS[model, text]))
    return pieces


def _written(message: AIMessage, model: str) -> int:
    count = counter_for(model).count
    calls = sum(count(c["name"] + json.dumps(c["args"])).tokens for c in message.tool_calls)
    return count(message.text).tokens + calls or 1


class _Turn:
    """One request, as the model understands it."""

    def __init__(
        self, messages: Sequence[BaseMessage], tools: Sequence[Any], tasks: dict[str, Task]
    ) -> None:
        self._messages = messages
        self._tools = {tool["function"]["name"] for tool in tools}
        asked = max(n for n, m in enumerate(messages) if isinstance(m, HumanMessage))
        self._asked = messages[asked].text
        self._behind = messages[asked + 1 :]
        keys = re.findall(r"\((Q\d+-\d+|H\d+)\)", self._asked)
        self._task = tasks[keys[-1]]

    def answer(self) -> tuple[str, list[ToolCall]]:
        task = self._task
        done = {
            (call["name"], call["args"].get("name"))
            for message in self._behind
            for call in getattr(message, "tool_calls", ())
        }
        for name, what in task.calls:
            if (name, what) not in done:
                return self._call(name, what)
        if task.answer == "welcome":
            return "You are welcome.", []
        found = self._found()
        if found is not None:
            return self._worded(found), []
        return self._fetch()

    def _call(self, name: str, what: str) -> tuple[str, list[ToolCall]]:
        if name in self._tools:
            return "", [self._made(name, {"name": what})]
        search = next((tool for tool in self._tools if tool.startswith("find_more_tools")), None)
        tries = sum("find_more" in c["name"] for m in self._behind for c in _calls(m))
        if search is not None and tries < 3:
            return "", [self._made(search, {"query": name.replace("_", " a ")})]
        return "I have no tool for that.", []

    def _made(self, name: str, args: dict[str, Any]) -> ToolCall:
        number = sum(len(_calls(m)) for m in self._messages)
        return ToolCall(name=name, args=args, id=f"call_{self._task.key}_{number}")

    def _found(self) -> str | None:
        """Return the fact, read where it stands."""
        for message in reversed(self._messages):
            found = fact_in(message.text, self._task.entity, self._task.field)
            if found is not None:
                return found
        return None

    def _fetch(self) -> tuple[str, list[ToolCall]]:
        """Fetch back what marks offer, the likeliest first."""
        tool = next((tool for tool in self._tools if tool.startswith("expand")), None)
        tried = {c["args"].get("handle") for m in self._behind for c in _calls(m)}
        called = {c["id"] for m in self._messages for c in _calls(m) if self._is_about(c)}
        offered: list[tuple[int, str]] = []
        for at, message in enumerate(self._messages):
            is_meant = getattr(message, "tool_call_id", None) in called
            for line in message.text.splitlines():
                worth = (is_meant or self._task.entity in line) * 10_000 + at
                offered += [(worth, handle) for handle in _HANDLES.findall(line)]
        wanted = [h for _, h in sorted(offered, reverse=True) if h not in tried]
        if tool is None or not wanted:
            return "I do not know.", []
        return "", [self._made(tool, {"handle": wanted[0]})]

    def _is_about(self, call: ToolCall) -> bool:
        return call["args"].get("name") == self._task.entity

    def _worded(self, found: str) -> str:
        """Say it, at the length that the model likes, or that it was asked for."""
        words = self._task.words
        limit = re.search(r"(\d+) words", self._asked.splitlines()[-1])
        words = min(words, int(limit[1])) if limit else words
        said = f"The {self._task.field} of {self._task.entity} is {found}."
        filler = " ".join(_FILLER * 4).split()
        return " ".join([said, *filler[: max(0, words - len(said.split()))]])


def _calls(message: BaseMessage) -> Sequence[ToolCall]:
    return getattr(message, "tool_calls", None) or ()


_HANDLES = re.compile(r'\(\\?"([0-9a-f]{8}(?:_\d+)?)\\?"\)')
_CODE = r"([A-Z]{2}-\d{4}|\d{4})"


def fact_in(text: str, entity: str, field: str) -> str | None:
    """Return what a text says of a thing: in a sentence, in JSON, or in a table of JSON."""
    if entity not in text:
        return None
    kind, _, name = entity.partition(" ")
    for pattern in (
        rf"{field} of {re.escape(entity)} is {_CODE}",
        rf"requests of {re.escape(entity)} are booked under account {_CODE}",
        rf"{re.escape(kind)} {re.escape(name)}: done, number {_CODE}",
        rf'"name": ?"{re.escape(entity)}"[^{{}}]*?"{field}": ?"{_CODE}"',
    ):
        found = re.search(pattern, text)
        if found:
            return found[1]
    for start in (m.start() for m in re.finditer(r'\{"columns"', text)):
        table, _ = json.JSONDecoder().raw_decode(text[start:])
        for row in table["data"]:
            values = dict(zip(table["columns"], row, strict=True))
            if values.get("name") == entity and field in values:
                return str(values[field])
    return None
