"""What happens in a run, and the scripted model that all agents ask."""

from __future__ import annotations

import asyncio
import json
import random
import re
import threading
import time
import zlib
from collections.abc import AsyncIterator, Generator, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
)
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import Field

from tests.judge.delivery_apps import (
    Agent,
    App,
    Filler,
    composed,
    filled,
    first_tokens,
    plain_input,
    text_of,
    tokens_of,
)

# --- what happens in a run -----------------------------------------------------------------------


@dataclass
class Attempt:
    """One request that arrived at the provider."""

    agent: str
    received: list[BaseMessage]
    tools: list[Any]
    cap: int | None
    wanted: str
    """What the model would have said without a cap."""
    text: str = ""
    calls: list[Any] = field(default_factory=list)
    input_tokens: int = 0
    output_tokens: int = 0
    cut: bool = False
    left: bool = False
    """The reader of its stream left."""
    surplus: int = 0
    sent: list[BaseMessage] | None = None
    """What the node had sent, where that is known."""

    @property
    def lost(self) -> int:
        """Return the tokens of the prompt that did not arrive."""
        if self.sent is None:
            return 0
        before = sum(tokens_of(text_of(m)) for m in self.sent)
        return max(0, before - sum(tokens_of(text_of(m)) for m in self.received))

    @property
    def billed(self) -> int:
        """Return what the provider charges."""
        return self.input_tokens + self.output_tokens


@dataclass
class Call:
    """One call that a node made, and what it was given."""

    agent: str
    key: str
    sent: list[BaseMessage]
    form: Literal["text", "tools", "object"]
    own_spent: int = 0
    """What the agent had spent when it called."""
    own_open: int = 0
    """Its other calls under way."""
    attempts: list[Attempt] = field(default_factory=list)
    answer: Any = None
    error: BaseException | None = None
    done: bool = False

    @property
    def text(self) -> str:
        """Return the words of the answer."""
        if isinstance(self.answer, BaseMessage):
            return text_of(self.answer)
        return self.answer if isinstance(self.answer, str) else ""

    @property
    def made_up(self) -> bool:
        """Whether the answer is none of the model's."""
        if not self.done or self.error is not None:
            return False
        if isinstance(self.answer, AIMessage) and self.answer.tool_calls:
            return not any(a.calls for a in self.attempts)
        if self.form == "object":
            return not any(a.calls or a.text for a in self.attempts)
        begin = " ".join(self.text.split())[:24]
        return not any(begin in " ".join(a.text.split()) for a in self.attempts)

    @property
    def empty(self) -> bool:
        """Whether nothing came back."""
        if not self.done or self.error is not None or self.form == "object":
            return False
        return not self.text.strip() and not getattr(self.answer, "tool_calls", None)

    @property
    def real(self) -> bool:
        """Whether the model's own answer came back."""
        return self.done and self.error is None and not self.made_up and not self.empty


_CALL: ContextVar[Call | None] = ContextVar("delivery_call", default=None)


class Log:
    """What the nodes sent, what the provider received, and its bill."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.attempts: list[Attempt] = []
        self.results: list[str] = []
        self.open = 0
        self.most_open = 0
        self._lock = threading.Lock()

    def spent(self, agent: str | None = None) -> int:
        """Return the bill of one agent, or of all."""
        return sum(a.billed for a in self.attempts if agent in (None, a.agent))

    def begin(self, call: Call) -> Call:
        """Note that a node calls."""
        with self._lock:
            call.own_spent = self.spent(call.agent)
            mine = [c for c in self.calls if c.agent == call.agent and not c.done]
            call.own_open = len(mine)
            self.calls.append(call)
        return call

    def arrive(self, attempt: Attempt) -> None:
        """Note that a request has arrived."""
        with self._lock:
            self.attempts.append(attempt)
            if (call := _CALL.get()) is not None and call.agent == attempt.agent:
                call.attempts.append(attempt)
                attempt.sent = call.sent
            self.open += 1
            self.most_open = max(self.most_open, self.open)

    def leave(self) -> None:
        """Note that a request is answered."""
        with self._lock:
            self.open -= 1


# --- the scripted model --------------------------------------------------------------------------


_LIMITS = re.compile(r"(\d+)\s+(?:words|Wörter|Wörtern|mots|palabras|parole)\b")


def model_name(app: App, run: int) -> str:
    """Return the name of a model that nobody has met, of a family that counts with cl100k_base."""
    return f"ft:gpt-4-0613:judge:{app.kind.replace(' ', '-')}:{app.seed}-{run}"


class Script:
    """What the models of one run say."""

    def __init__(self, app: App, log: Log, *, jitter: bool = False) -> None:
        self.app = app
        self.log = log
        self.jitter = jitter

    def attempt(
        self,
        agent: str,
        messages: Sequence[BaseMessage],
        kwargs: Mapping[str, Any],
        cap: int | None,
    ) -> Attempt:
        """Return what the model says to this request, cut at its cap."""
        who = self.app.agents[agent]
        tools = list(kwargs.get("tools") or ())
        for name in ("max_tokens", "max_completion_tokens"):
            given = kwargs.get(name)
            cap = given if cap is None or (given is not None and given < cap) else cap
        made = Attempt(agent, list(messages), tools, cap, "")
        form = (kwargs.get("response_format") or {}).get("json_schema", {}).get("schema")
        made.input_tokens = self.app.surplus.billed(messages, [*tools, *([form] if form else [])])
        made.surplus = made.input_tokens - plain_input(
            messages, [*tools, *([form] if form else [])]
        )
        self._write(made, who, kwargs.get("tool_choice"), form)
        if made.cap is not None and made.output_tokens > made.cap:
            self._cut(made, made.cap)
        self.log.arrive(made)
        return made

    def _cut(self, made: Attempt, cap: int) -> None:
        if self.app.ignores_caps:
            made.surplus += made.output_tokens - cap
            return
        made.cut, made.output_tokens = True, cap
        made.text = "" if made.calls else first_tokens(made.wanted, cap)

    def _write(self, made: Attempt, who: Agent, choice: Any, form: Any) -> None:
        text = "\n".join(text_of(m) for m in made.received)
        facts = [f for f in self.app.facts if f.stands_in(text)]
        call = _CALL.get()
        key = call.key if call is not None and call.agent == who.name else str(len(made.received))
        rng = random.Random(zlib.crc32(f"{self.app.seed}|{who.name}|{key}".encode()))
        words = max(12, round(who.words * rng.lognormvariate(0, 0.35)))
        if who.obeys:
            asked = [
                int(n)
                for m in made.received[:1] + made.received[-1:]
                for n in _LIMITS.findall(text_of(m))
            ]
            words = min([words, *asked])
        filler = Filler(facts, self.app.language, words, rng)
        tools = [t["function"] for t in made.tools]
        if form is not None:
            made.wanted = json.dumps(filled(form, filler), ensure_ascii=False)
        elif tools and choice not in (None, "none", "auto"):
            named = choice.get("function", {}).get("name") if isinstance(choice, dict) else choice
            if named == "required" and (steps := self._searches(made, who)):
                self._call(made, steps)
                return
            forms = [t for t in tools if t["name"] in who.forms] or tools
            tool = next((t for t in tools if t["name"] == named), None) or rng.choice(forms)
            self._call(made, [(tool["name"], self._arguments(tool, filler))])
            return
        elif tools and choice != "none" and (steps := self._searches(made, who)):
            self._call(made, steps)
            return
        else:
            lead = self.app.language.lead.format(name=who.name)
            made.wanted = composed(facts, words, rng, self.app.language, lead)
        made.output_tokens = tokens_of(made.wanted)
        made.text = made.wanted

    def _arguments(self, tool: Mapping[str, Any], filler: Filler) -> dict[str, Any]:
        made: dict[str, Any] = filled(tool["parameters"], filler)
        return made

    def _searches(self, made: Attempt, who: Agent) -> list[tuple[str, dict[str, Any]]]:
        """Return what is still to be looked up: numbers in the ids of calls say what was."""
        first = _next_number(made)
        names = [t["function"]["name"] for t in made.tools]
        names = [n for n in names if n not in who.forms]
        if not names:
            return []
        numbers = range(first, min(who.searches, first + who.at_once))
        return [(names[n % len(names)], {"query": f"part {n} of {who.question}"}) for n in numbers]

    def _call(self, made: Attempt, steps: Sequence[tuple[str, dict[str, Any]]]) -> None:
        first = _next_number(made)
        made.calls = [
            {"name": name, "args": args, "id": f"{made.agent}-{first + n}", "type": "tool_call"}
            for n, (name, args) in enumerate(steps)
        ]
        made.wanted = "".join(
            c["name"] + json.dumps(c["args"], ensure_ascii=False) for c in made.calls
        )
        made.output_tokens = tokens_of(made.wanted) + 4 * len(made.calls)


def _next_number(made: Attempt) -> int:
    """Return the number of the next tool call: those before stand in the ids of the prompt."""
    ids = [c["id"] or "" for m in made.received for c in getattr(m, "tool_calls", ())]
    numbers = [re.fullmatch(re.escape(made.agent) + r"-(\d+)", each) for each in ids]
    return max((int(found[1]) for found in numbers if found), default=-1) + 1


class ScriptedModel(BaseChatModel):
    """A chat model that says what its script says, and bills it."""

    model_name: str
    agent: str
    max_tokens: int | None = None
    script: Any = Field(exclude=True, repr=False)

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        return {"ls_provider": "openai", "ls_model_name": self.model_name, "ls_model_type": "chat"}

    def bind_tools(
        self, tools: Sequence[Any], *, tool_choice: Any = None, **kwargs: Any
    ) -> Runnable[Any, Any]:
        """Bind as OpenAI's client does."""
        shown = [convert_to_openai_tool(tool) for tool in tools]
        if tool_choice in ("any", True):
            tool_choice = "required"
        elif isinstance(tool_choice, str) and tool_choice not in ("auto", "none", "required"):
            tool_choice = {"type": "function", "function": {"name": tool_choice}}
        chosen = {} if tool_choice is None else {"tool_choice": tool_choice}
        return self.bind(tools=shown, **chosen, **kwargs)

    def _said(self, messages: list[BaseMessage], kwargs: Mapping[str, Any]) -> Attempt:
        made: Attempt = self.script.attempt(self.agent, messages, kwargs, self.max_tokens)
        return made

    def _message(self, made: Attempt) -> AIMessage:
        reason = "length" if made.cut else "tool_calls" if made.calls else "stop"
        shared: dict[str, Any] = {
            "usage_metadata": _usage(made),
            "response_metadata": {"finish_reason": reason, "model_name": self.model_name},
        }
        if made.calls and made.cut:
            call = made.calls[0]
            part = first_tokens(json.dumps(call["args"]), max(1, made.output_tokens - 8))
            bad = {"name": call["name"], "args": part, "id": call["id"], "error": "cut off"}
            return AIMessage(
                "", invalid_tool_calls=[{**bad, "type": "invalid_tool_call"}], **shared
            )
        return AIMessage(made.text, tool_calls=made.calls, **shared)

    def _generate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        made = self._said(messages, kwargs)
        try:
            if self.script.jitter:
                time.sleep(0.0005)
            return ChatResult(generations=[ChatGeneration(message=self._message(made))])
        finally:
            self.script.log.leave()

    async def _agenerate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        made = self._said(messages, kwargs)
        try:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            return ChatResult(generations=[ChatGeneration(message=self._message(made))])
        finally:
            self.script.log.leave()

    def _stream(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        yield from self._chunks(self._said(messages, kwargs))

    async def _astream(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        chunks = self._chunks(self._said(messages, kwargs))
        try:
            for chunk in chunks:
                await asyncio.sleep(0)
                yield chunk
        finally:
            chunks.close()

    def _chunks(self, made: Attempt) -> Generator[ChatGenerationChunk, None, None]:
        whole = self._message(made)
        shown, complete = "", False
        try:
            if made.calls:
                parts = (
                    [*made.calls, *whole.invalid_tool_calls]
                    if not made.cut
                    else whole.invalid_tool_calls
                )
                pieces = [
                    tool_call_chunk(
                        name=c["name"],
                        args=c["args"] if isinstance(c["args"], str) else json.dumps(c["args"]),
                        id=c["id"],
                        index=n,
                    )
                    for n, c in enumerate(parts)
                ]
                yield ChatGenerationChunk(message=AIMessageChunk("", tool_call_chunks=pieces))
            else:
                for piece in re.findall(r"(?:\S+\s*){1,3}|\s+", made.text):
                    shown += piece
                    yield ChatGenerationChunk(message=AIMessageChunk(piece))
            complete = True
            usage = _usage(made) if self.script.app.usage_in_streams else None
            yield ChatGenerationChunk(
                message=AIMessageChunk(
                    "",
                    usage_metadata=usage,
                    response_metadata=whole.response_metadata,
                    chunk_position="last",
                )
            )
        finally:
            if not complete:
                made.left = True
                made.text = shown
                made.output_tokens = min(made.output_tokens, tokens_of(shown))
            self.script.log.leave()


def _usage(made: Attempt) -> Any:
    return {
        "input_tokens": made.input_tokens,
        "output_tokens": made.output_tokens,
        "total_tokens": made.billed,
    }
