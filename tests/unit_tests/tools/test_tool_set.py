"""Every user has tools of its own."""

from __future__ import annotations

import asyncio
import random
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, ClassVar

import pytest
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langchain_core.tools import BaseTool, BaseToolkit, InjectedToolArg, StructuredTool, tool
from pydantic import Field

from langchain_tokenopt import BudgetPlan, BudgetRun, ToolLimits, ToolSet, token_scope
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.tools.token_scope import TokenScope
from langchain_tokenopt.tracking.callbacks import TokenUsageCallbackHandler
from tests.support.fakes import FakeAnswer, fake_chat

USERS = 300
PLAN = BudgetPlan(total_tokens=100_000)


class Notebook(BaseTool):
    """A tool class that keeps something, in every place in which one can."""

    name: str = "notebook"
    description: str = "Keep a note; return all notes."
    scope: Annotated[Any, InjectedToolArg] = None
    own: list[str] = Field(default_factory=list)
    plain: list[str] = []  # noqa: RUF012  what this test is about
    of_class: ClassVar[dict[str, int]] = {}

    def __init__(self, scope: TokenScope, run: BudgetRun, usage: TokenUsageCallbackHandler) -> None:
        super().__init__(scope=scope, metadata={"same": scope.run is run, "usage": usage})

    def _run(self, note: str) -> str:
        for kept in (self.own, self.plain):
            kept.append(note)
        self.of_class[note] = len(self.of_class)
        return f"{self.scope.user}: {self.own} {self.plain} {list(self.of_class)}"


class Asking:
    """Ask a model."""

    asked: list[str] = []  # noqa: RUF012  what this test is about

    def __init__(self, scope: TokenScope | None, words: int = 3) -> None:
        assert scope is not None
        self.user = scope.user
        self.model = fake_chat(
            "_agenerate", answers=[FakeAnswer(f"For {self.user}.", Usage(9, 1))] * 9
        )

    async def __call__(self, question: str) -> str:
        self.asked.append(question)
        answer = await self.model.ainvoke(question)
        return f"{answer.text} {self.asked}"


def remember(word: str, kept: Annotated[list[str], InjectedToolArg] = []) -> str:  # noqa: B006
    """Remember a word."""
    kept.append(word)
    return " ".join(kept)


@tool
def counting(word: str, scope: TokenScope) -> str:
    """Count for whom it is."""
    return f"{scope.user} {scope.organization} {word}"


class Kit(BaseToolkit):
    """A toolkit."""

    scope: Any

    def __init__(self, scope: TokenScope) -> None:
        super().__init__(scope=scope)

    def get_tools(self) -> list[BaseTool]:
        """Return one tool."""
        return [StructuredTool.from_function(self.who)]

    def who(self) -> str:
        """Say for whom it is."""
        return str(self.scope.user)


def test_classes_and_functions_are_made_for_each_user() -> None:
    """Constructed with what a scope has; what they keep is theirs alone."""
    tools = ToolSet(Notebook, Asking, remember, counting, Kit, limits=ToolLimits(max_calls=5))
    said = {}
    for user in ("ann", "bob"):
        with token_scope(user=user, organization="acme", plan=PLAN) as scope:
            notebook, asking, remembering, count, who = tools.for_user(scope)
            assert isinstance(notebook, Notebook)
            assert (True, scope.usage) == (notebook.metadata["same"], notebook.metadata["usage"])
            for word in (f"{user} 1", f"{user} 2"):
                said[user] = (
                    notebook.invoke({"note": word}),
                    asyncio.run(asking.ainvoke({"question": word})),
                    remembering.invoke({"word": word}),
                    count.invoke({"word": word}),
                    who.invoke({}),
                )

    for user, found in said.items():
        both = f"['{user} 1', '{user} 2']"
        assert f"{user}: {both} {both} {both}" == found[0]
        assert f"For {user}. {both}" == found[1]
        assert f"{user} acme {user} 2" == found[3]
        assert user == found[4]
    assert [] == Asking.asked == Notebook.model_fields["plain"].default
    assert {} == Notebook.of_class


class Fields(BaseTool):
    """A tool class whose fields say what it needs."""

    name: str = "fields"
    description: str = "Say for whom it is."
    scope: TokenScope
    run_of_plan: BudgetRun | None = None

    def _run(self) -> str:
        return f"{self.scope.user} {self.run_of_plan is self.scope.run is not None}"


def test_fields_of_a_class_are_filled_in() -> None:
    """A class without a constructor of its own says by its fields what it needs."""
    with token_scope(user="ann", plan=PLAN) as scope:
        assert "ann True" == ToolSet(Fields).for_user(scope)[0].invoke({})


def test_default_values_of_functions_are_copied() -> None:
    """A list that stands in a function's head is not everybody's."""

    def collect(word: str, scope: TokenScope, met: Any = [], *, seen: Any = {}) -> str:  # noqa: B006
        """Collect words."""
        met.append(word)
        seen[word] = len(seen)
        return f"{met} {[*seen]}"

    tools = ToolSet(StructuredTool.from_function(collect, args_schema={
        "type": "object", "properties": {"word": {"type": "string"}}}))  # fmt: skip
    found = []
    for user in ("ann", "bob"):
        with token_scope(user=user) as scope:
            found.append(tools.for_user(scope)[0].invoke({"word": user}))

    assert ["['ann'] ['ann']", "['bob'] ['bob']"] == found


def test_what_would_be_shared_is_refused() -> None:
    """A tool that was made already may keep something: its class is asked for."""
    with token_scope(plan=PLAN) as scope:
        assert scope.run is not None
        made = Notebook(scope, scope.run, scope.usage)
    with pytest.raises(TypeError, match="give its class"):
        ToolSet(made)  # type: ignore[arg-type]
    with token_scope() as scope, pytest.raises(ValueError, match="Notebook asks for the run"):
        ToolSet(Notebook).for_user(scope)


def _of_user(number: int, tools: ToolSet) -> tuple[TokenScope, Any]:
    """Return a user's scope and tools, which are called outside of it."""
    with token_scope(user=f"u{number}", plan=PLAN) as scope:
        return scope, tools.for_user(scope)


async def _work(number: int, made: Any) -> str:
    """Call every tool three times, once too often; return what they say."""
    given = ({"note": f"n{number}"}, {"question": f"u{number} asks"}, {"word": f"w{number}"})
    said: list[str] = []
    for _ in range(3):
        calls = (each.ainvoke(args) for each, args in zip(made, given, strict=True))
        said += await asyncio.gather(*calls)
    return "\n".join(said)


def _mixed_up(number: int, scope: TokenScope, made: Any, said: str) -> list[str]:
    """Return what of a user's work is not its own."""
    user, found = f"u{number}", []
    others = set(re.findall(r"\b[unw]\d+\b", said)) - {user, f"n{number}", f"w{number}"}
    assert scope.run is not None
    report = made.report()
    figures = {
        "notes": said.count(f"'n{number}'"),
        "asked": sum(call.calls for call in report.values()),
        "refused": sum(call.refused_calls for call in report.values()),
        "inside": report["asking"].model_tokens,
        "plan": scope.run.report().agents["asking"].account.spent_tokens,
        "tracker": scope.usage.by("user")[user].total_tokens,
    }
    expected = {"notes": 8, "asked": 6, "refused": 3, "inside": 20, "plan": 20, "tracker": 20}
    if others or figures != expected or len(scope.usage.records) != 2:
        found.append(f"{user}: {others} {figures}")
    return found


@pytest.mark.exhaustive
@pytest.mark.parametrize("how", ["threads", "tasks"])
def test_300_users_at_once_are_never_mixed_up(how: str) -> None:
    """Each has its tools, answers, notes, tokens and budget; 0 of them another's."""
    limits = ToolLimits(max_calls=2, max_model_tokens=999)
    tools = ToolSet(Notebook, Asking, counting, limits=limits)
    users = [_of_user(number, tools) for number in range(USERS)]
    order = random.Random(7).sample(range(USERS), USERS)

    async def all_at_once() -> list[str]:
        return await asyncio.gather(*(_work(number, users[number][1]) for number in order))

    if how == "tasks":
        said = asyncio.run(all_at_once())
    else:
        with ThreadPoolExecutor(32) as pool:
            said = list(pool.map(lambda n: asyncio.run(_work(n, users[n][1])), order))
    found = [
        line
        for number, text in zip(order, said, strict=True)
        for line in _mixed_up(number, *users[number], text)
    ]

    assert [] == found


def test_agents_of_several_users_keep_apart() -> None:
    """The same through agents, side by side."""
    tools = ToolSet(Asking, counting)
    calls = [
        {"name": "asking", "args": {"question": "?"}},
        {"name": "counting", "args": {"word": "!"}},
    ]

    async def one(number: int) -> tuple[int, str]:
        with token_scope(user=f"u{number}", plan=PLAN) as scope:
            answers = [FakeAnswer("", Usage(20, 2), tool_calls=calls), FakeAnswer("Done.")]
            agent = create_agent(fake_chat("_agenerate", answers=answers), tools.for_user(scope))
            done = await agent.ainvoke({"messages": [HumanMessage("Begin.")]})
        return number, " ".join(m.text for m in done["messages"] if m.type == "tool")

    async def all_at_once() -> list[tuple[int, str]]:
        return await asyncio.gather(*map(one, range(12)))

    assert [(n, f"For u{n}. ['?'] u{n} None !") for n in range(12)] == asyncio.run(all_at_once())


@pytest.mark.parametrize("in_async", [False, True], ids=["sync", "async"])
def test_a_text_is_the_first_argument(in_async: bool) -> None:
    """As for any tool of LangChain: what the scope fills in is not counted."""

    def look_up(scope: TokenScope, word: str, most: int = 3) -> str:
        """Look a word up."""
        return f"{word}, {most}, for {scope.user}"

    with token_scope(user="ann") as scope:
        (made,) = ToolSet(look_up).for_user(scope)
    found = asyncio.run(made.ainvoke("tea")) if in_async else made.invoke("tea")

    assert "tea, 3, for ann" == found
