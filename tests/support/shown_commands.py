"""Every command over files full of hostile names: what terminals of several widths show.

To look at them: python -m tests.support.shown_commands [60 80 120]
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from langchain_core.load import dumps
from langchain_core.messages import AIMessage, HumanMessage, messages_to_dict
from langchain_core.outputs import ChatGeneration
from typer.testing import CliRunner, Result

from langchain_tokenopt.budget import BudgetPlan
from langchain_tokenopt.cache import SemanticCache
from langchain_tokenopt.chat_model.optimize import optimize
from langchain_tokenopt.cli import app
from langchain_tokenopt.core.attribution import Attribution
from langchain_tokenopt.core.records import OfferedTool, Saving, ToolChoice, ToolResult
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.evaluate.guard_state import GuardState, Key
from langchain_tokenopt.ledger import Ledger
from langchain_tokenopt.storage.learned_store import LearnedKey, LearnedStore
from tests.support.conversations import agent_loop
from tests.support.fakes import FakeAnswer, fake_chat
from tests.support.ledger_records import record

# Without digits, so that every figure on a screen is one of a count.
NAMES = (
    "[red]alarm[/red]",
    "\x1b[31mescape\x1b[0m",
    "\x1b]0;a title\x07",
    "long " * 60,
    "unbroken" * 40,
    "\u202eright to left",
    "שלום עולם مرحبا",
    "👩‍👩‍👧‍👦 family 🎉" * 6,
    "市場分析エージェント" * 6,
    "e\u0301" * 60,
    "two\nlines\r\nand\ttabs",
    "\u2066isolated\u2069",
    "=HYPERLINK(evil)",
    "<script>alert()</script>",
    "{curly} %s %d",
    "[link=x]y",
    "lone \udcff",
    "…",
)

APPLICATION = """
from langchain_core.language_models import FakeListChatModel
from langgraph.graph import START, MessagesState, StateGraph

pair = FakeListChatModel(responses=["yes"]), FakeListChatModel(responses=["yes"])
graph = StateGraph(MessagesState).add_node("[red]news", print).add_edge(START, "[red]news")
"""


class ShownCommands:
    """Files for every command, and every way to call each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ledger, self.cache = str(folder / "ledger.db"), str(folder / "cache.db")
        self.budgets, self.guard = str(folder / "budgets.db"), str(folder / "guard.db")
        self.learned = str(folder / "learned.db")
        (folder / "shown_app.py").write_text(APPLICATION, encoding="utf-8")
        (folder / "text.txt").write_text("The bridge was opened in May. " * 30, encoding="utf-8")
        (folder / "cases.jsonl").write_text('{"input": "Is it open?"}\n', encoding="utf-8")
        self._fill_conversation()
        self._fill_ledger()
        self._fill_cache()
        self._fill_budgets()
        self._fill_guard()
        self._fill_learned()

    def _fill_conversation(self) -> None:
        talk = agent_loop(5, result=600)
        talk[2:2] = [
            one for name in NAMES for one in (HumanMessage(name), AIMessage(name, name=name))
        ]
        lines = (json.dumps(one) for one in messages_to_dict(talk))
        (self.folder / "chat.jsonl").write_text("\n".join(lines), encoding="utf-8")

    def _fill_ledger(self) -> None:
        now = datetime.now(UTC)
        huge = 10**13
        with Ledger(self.ledger) as ledger:
            for number, name in enumerate(NAMES * 2):
                other = NAMES[(number * 7 + 3) % len(NAMES)]
                read = huge + number if number % 5 == 0 else 900 + number
                saving = Saving(
                    stage=other,
                    tokens_before=read + 70,
                    tokens_after=read,
                    saved_nano_usd=number * 10**9,
                    side="output" if number % 3 else "input",
                )
                limit = Saving(stage="WordLimit", tokens_before=9, tokens_after=9, side="output")
                choice = ToolChoice(
                    offered=(OfferedTool(name, 800), OfferedTool(other, 70)),
                    left_out=3,
                    tokens_before=900,
                    tokens_after=870,
                    called=(name,) if number % 2 else (),
                    missed=(other,) if number % 4 == 0 else (),
                )
                ledger.record(
                    record(
                        model="gpt-4o" if number % 3 else name,
                        provider=other,
                        usage=Usage(read, 40 + number, cache_read_tokens=read // 2),
                        cost_nano_usd=None if number % 4 == 3 else read * 2_500,
                        started_at=now - timedelta(minutes=5 * number),
                        run=f"run of {name}",
                        status="failed" if number % 9 == 8 else "ok",
                        source="estimated" if number % 6 == 1 else "reported",
                        attribution=Attribution(
                            agent=name, node=f"{name}/{other}", tool=other if number % 2 else None,
                            user=name, thread_id=name, purpose=other, organization=name, tag=other,
                        ),
                        response_model=name,
                        service_tier=other,
                        stages=(name, other, "WordLimit"),
                        savings=(saving, limit),
                        tool_choice=choice,
                        tool_results=(ToolResult(name, 200, 5_000),),
                        rates_version=other,
                    )
                )  # fmt: skip

    def _fill_cache(self) -> None:
        with SemanticCache(self.cache, semantic=False) as cache:
            for name in NAMES:
                question = HumanMessage(f"What is {name}?".encode("utf-8", "replace").decode())
                prompt = dumps([question])
                cache.update(prompt, "a model", [ChatGeneration(message=AIMessage("It is that."))])
                cache.lookup(prompt, "a model")

    def _fill_budgets(self) -> None:
        for name in NAMES:
            owner = name.encode("utf-8", "replace").decode()
            plan = BudgetPlan(
                total_tokens=10**12,
                name=owner,
                agents={owner: {"tokens": 400}},
                within=[{"total_tokens": 10**12, "per": "user", "window": "day"}],
            )
            model = optimize(fake_chat(answers=[FakeAnswer("x", Usage(90, 10))] * 3), plan)
            with plan.run(thread_id=owner, user=owner, path=self.budgets):
                model.invoke("Hi", {"metadata": {"tokenopt_agent": owner, "ls_model_name": "x"}})

    def _fill_guard(self) -> None:
        state = GuardState(
            self.guard, ["numbers kept"], margin=0.02, confidence=0.95, levels=2,
            retry_seconds=60, guarded="x",
        )  # fmt: skip
        for name in NAMES:
            key = Key(name.encode("utf-8", "replace").decode(), "text")
            state.add(key, state.standing(key).epoch, {"numbers kept": (-1.0, -1.0)})
        state.close()

    def _fill_learned(self) -> None:
        store = LearnedStore(self.learned)
        for name in NAMES:
            store.update(LearnedKey(name, name, name, name), lambda _: 1)
        store.close()

    def calls(self) -> dict[str, list[list[str]]]:
        """Return how each command is called, one list for each form of its output."""
        ledger = ["--ledger", self.ledger]
        cache = ["--cache", self.cache]
        owner = NAMES[0]
        return {
            "demo": [["--ledger", str(self.folder / "demo.db"), "--model", "extractive-1"]],
            "doctor": [ledger],
            "validate": [["--level", "basic"]],
            "stats": [ledger],
            "top": [
                *([*ledger, "--by", name] for name in ("user", "stages", "hour", "week")),
                [*ledger, "--by", "user", "--by", "agent", "--by", "model", "-n", "99"],
                [*ledger, "--user", owner, "--agent", owner],
            ],
            "daily": [ledger],
            "weekly": [ledger],
            "monthly": [ledger],
            "runs": [[*ledger, "-n", "99"]],
            "run": [[f"run of {name}", *ledger] for name in (*NAMES[:2], *NAMES[7:9])],
            "live": [[*ledger, "--seconds", "0"]],
            "export": [ledger, [*ledger, "--format", "json"]],
            "report": [ledger],
            "kpi": [ledger],
            "forecast": [[*ledger, "--why"], [*ledger, "--by", "user", "-n", "99"]],
            "effectiveness": [ledger],
            "tools": [[*ledger, "-n", "99"], [*ledger, "--csv"]],
            "limits": [ledger],
            "compare": [["shown_app:pair", "--cases", "cases.jsonl"]],
            "guard": [["--guard", self.guard]],
            "prices": [["gemini-2.5-pro"], ["gpt-4o", "--usage", "input=9000000000,output=2"]],
            "count": [["text.txt"]],
            "context": [["chat.jsonl", "--explain", "1"]],
            "compress": [["text.txt", "--max-tokens", "30"]],
            "budget": [["--budgets", self.budgets], ["--budgets", self.budgets, "--run", owner]],
            "budget suggest": [["shown_app:graph", "--total", "9000"]],
            "learned": [[self.learned], [self.learned, "forget", "--user", f"no {owner}"]],
            "maintain": [[*ledger, "--keep", "9999 days"]],
            "migrate": [[self.ledger, str(self.folder / "copied.db"), "--only", "ledger"]],
            "cache stats": [cache],
            "cache top": [[*cache, "-n", "99"]],
            "cache check": [cache],
            "cache clear": [["--cache", str(self.folder / "cleared.db"), "--yes"]],
            "cache explain": [["What is long?", *cache]],
        }

    def run(self, command: str, arguments: list[str], *, width: int | None = None) -> Result:
        """Call a command in a terminal of this width; ``None``: in a pipe."""
        if command == "cache clear":
            SemanticCache(self.folder / "cleared.db", semantic=False).close()
        env: Mapping[str, str | None] = {
            "FORCE_COLOR": None if width is None else "1",
            "COLUMNS": None if width is None else str(width),
            "OPENAI_API_KEY": None,
            "TOKENOPT_LEDGER": None,
        }
        back = Path.cwd()
        os.chdir(self.folder)
        try:
            return CliRunner().invoke(app, [*command.split(), *arguments], env=env)
        finally:
            os.chdir(back)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        shown = ShownCommands(Path(place))
        for columns in map(int, sys.argv[1:] or (60, 80, 120)):
            for command, forms in shown.calls().items():
                for arguments in forms:
                    result = shown.run(command, arguments, width=columns)
                    title = " ".join([command, *arguments]).replace(place + "/", "")
                    sys.stdout.write(f"{'=' * columns}\n$ tokenopt {title!r}\n")
                    sys.stdout.write(f"{result.stdout}{result.stderr}({result.exit_code})\n")
                    if result.exception and not isinstance(result.exception, SystemExit):
                        sys.stdout.write(repr(result.exception) + "\n")
