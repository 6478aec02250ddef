"""``tokenopt demo``: run the trading desk without and with a budget, and show both bills."""

from __future__ import annotations

import os
import shlex
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from langchain_tokenopt.cli.app import CommandError, words_console
from langchain_tokenopt.cli.period import DEFAULT_LEDGER, opened_ledger
from langchain_tokenopt.cli.tables import (
    JsonOption,
    cost_cell,
    print_table,
    tell,
    totals_as_json,
    write_json,
)
from langchain_tokenopt.core.durations import format_seconds

if TYPE_CHECKING:
    from langchain_core.documents import Document
    from langchain_core.language_models import BaseChatModel
    from rich.console import Console

    from langchain_tokenopt.budget.plan import BudgetPlan
    from langchain_tokenopt.core.records import UsageSink, UsageTotals
    from langchain_tokenopt.tracking.callbacks import TokenUsageCallbackHandler

__all__ = ["demo"]

MODEL = "gpt-5.4-mini"
"""Asked when there is a key and no ``--model``."""

OFFLINE_MODEL = "extractive-1"
"""The stand-in; ``--model extractive-1`` takes it also when there is a key."""

NOTE_OFFLINE = "extractive stand-in, not a language model"
"""Stands beside every result that no model wrote."""

QUESTION = "Should we buy, hold or sell what these documents are about?"
"""What is asked about documents of the user's own."""


def demo(
    inputs: Annotated[
        list[Path] | None,
        typer.Option(
            "--input",
            help="A text file or a folder to read; may be given several times. "
            "By default eight sample documents.",
        ),
    ] = None,
    question: Annotated[str | None, typer.Option(help="What the desk has to decide.")] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help=f"OpenAI model, by default {MODEL}; needs OPENAI_API_KEY. "
            f"'{OFFLINE_MODEL}' is the offline stand-in, which is no language model."
        ),
    ] = None,
    ledger: Annotated[
        str | None,
        typer.Option(help="Also record every call in this ledger; it is created if need be."),
    ] = None,
    example: Annotated[
        Path | None,
        typer.Option(
            help="Do no more than write a ledger of four made-up weeks into this new file, to ask.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run a desk of eleven agents over documents twice and show what each agent spent.

    First as it is, then under the budget of 40,000 tokens that is shipped with it. The bills stand
    side by side; the reports shown are those under the budget.

    With OPENAI_API_KEY in the environment the agents ask OpenAI; without it an extractive stand-in
    answers, which is no language model, and its tokens are counted all the same.

    Example: tokenopt demo --input notes/ --question "Should we sign the contract?"
    """
    if example is not None:
        _write_example(example, as_json=as_json)
        return
    from langchain_tokenopt.budget.plan import desk_plan
    from langchain_tokenopt.tracking.callbacks import track_usage

    console = words_console()
    documents = _documents(inputs or [], console.print)
    asked = _question(question, bool(inputs))
    chat_model, offline = _chat_model(model, console.print)
    name = OFFLINE_MODEL if offline else (model or MODEL)
    with _sinks(ledger) as sinks:
        started = time.perf_counter()
        with track_usage(sinks=sinks) as usage:
            plain = _run(chat_model, documents, asked, name, console)
        between = time.perf_counter()
        with track_usage(sinks=sinks) as under_budget:
            reports = _run(chat_model, documents, asked, name, console, plan=desk_plan())
        seconds, budget_seconds = between - started, time.perf_counter() - between
    lines, total = _bill(usage)
    budget_lines, budget_total = _bill(under_budget)
    if as_json:
        result = {
            "model": name,
            "offline": offline,
            "note": NOTE_OFFLINE if offline else None,
            "question": asked,
            "rows": [line.as_json() for line in lines],
            "totals": total.as_json() | {"elapsed_seconds": round(seconds, 3)},
            "decision": _decision(plain),
            "reports": plain,
            "with_budget": {
                "rows": [line.as_json() for line in budget_lines],
                "totals": budget_total.as_json() | {"elapsed_seconds": round(budget_seconds, 3)},
                "decision": _decision(reports),
                "reports": reports,
            },
        }
        write_json(result)
        return
    stand_in = f", an {NOTE_OFFLINE}" if offline else ""
    both = f"{format_seconds(seconds)}, and with a budget in {format_seconds(budget_seconds)}"
    tell(f"Answered by {name}{stand_in}, in {both}\n ")
    _print_bills([*lines, total], [*budget_lines, budget_total])
    tell(f"\nDecision without a budget: {_decision(plain)}; with: {_decision(reports)}")
    tell(f"\nTrader\n{reports['trader']}\n\nSummary\n{reports['summary']}")


def _write_example(path: Path, *, as_json: bool) -> None:
    """Fill a new ledger with made-up calls."""
    from langchain_tokenopt.examples.sample_ledger import sample_calls

    if path.exists():
        raise CommandError(f"{path} exists, and made-up calls go into a new file only.")
    calls = 0
    with opened_ledger(str(path), read_only=False) as ledger:
        for calls, call in enumerate(sample_calls(), start=1):  # noqa: B007  counts them
            ledger.record(call)
    if as_json:
        write_json({"ledger": str(path), "calls": calls})
        return
    asked = "" if str(path) == DEFAULT_LEDGER else f" --ledger {shlex.quote(str(path))}"
    tell(f"{calls:,} made-up calls of four weeks are in {path}. Ask: tokenopt top --by user{asked}")


@contextmanager
def _sinks(ledger: str | None) -> Iterator[list[UsageSink]]:
    """Open the ledger, if one is given, and close it in the end."""
    if ledger is None:
        yield []
        return
    with opened_ledger(ledger, read_only=False) as opened:
        yield [opened]


def _documents(paths: Sequence[Path], note: Callable[[str], object]) -> list[Document]:
    """Read what was given, or the samples."""
    from langchain_tokenopt.examples.trading_desk import (
        PROMPT_CHARACTERS,
        load_documents,
        sample_documents,
    )

    if not paths:
        return sample_documents()
    try:
        documents = [document for path in paths for document in load_documents(path, note=note)]
    except ValueError as error:
        raise CommandError(str(error)) from error
    characters = sum(len(document.page_content) for document in documents)
    if characters > PROMPT_CHARACTERS:
        note(
            f"The {len(documents):,} documents have {characters:,} characters; every analyst reads "
            f"{PROMPT_CHARACTERS:,} of them, and the longest are cut."
        )
    return documents


def _question(given: str | None, own_documents: bool) -> str:
    """Return what the desk is asked."""
    if given is not None and not given.strip():
        raise CommandError("the question is empty. Give --question some words.")
    if given is not None:
        return given
    if own_documents:
        return QUESTION
    from langchain_tokenopt.examples import trading_desk

    return trading_desk.QUESTION


def _chat_model(name: str | None, note: Callable[[str], object]) -> tuple[BaseChatModel, bool]:
    """Return the model to ask, and whether it is the offline stand-in; say which it is."""
    if os.environ.get("OPENAI_API_KEY") and name != OFFLINE_MODEL:
        try:
            from langchain_openai import ChatOpenAI
        except ImportError as error:
            raise CommandError(
                "OPENAI_API_KEY is set but langchain-openai is not installed. "
                "Run: pip install 'langchain-tokenopt[openai]'"
            ) from error
        note(f"Asking {name or MODEL}.")
        return ChatOpenAI(model=name or MODEL), False

    from langchain_tokenopt.testing import ExtractiveChatModel

    reason = "as you asked" if name == OFFLINE_MODEL else "as OPENAI_API_KEY is not set"
    unasked = "" if name in (None, OFFLINE_MODEL) else f" {name} is not asked;"
    note(
        f"Running offline, {reason}:{unasked} an extractive stand-in answers with sentences of "
        "the documents. It is not a language model."
    )
    return ExtractiveChatModel(), True


def _run(
    model: BaseChatModel,
    documents: Sequence[Document],
    question: str,
    name: str,
    console: Console,
    plan: BudgetPlan | None = None,
) -> dict[str, str]:
    """Run the desk, tell of every agent as it ends, and return their reports."""
    from langchain_tokenopt.chat_model.optimize import optimize
    from langchain_tokenopt.examples.trading_desk import AGENTS, DeskState, build_desk
    from langchain_tokenopt.graph import budget_graph

    if plan is None:
        desk = build_desk(model, documents).compile()
    else:
        desk = budget_graph(build_desk(optimize(model, plan), documents), plan).compile()
    start = DeskState(question=question, reports={})
    reports: dict[str, str] = {}
    work = "at work" if plan is None else f"at work with {plan.total_tokens:,} tokens"
    try:
        with console.status(f"{len(AGENTS)} agents {work}"), plan.run() if plan else nullcontext():
            for update in desk.stream(start, stream_mode="updates"):
                for agent, change in update.items():
                    reports |= change["reports"]
                    words = len(reports[agent].split())
                    console.print(f"{len(reports):>2}/{len(AGENTS)} {agent}: {words} words")
    except _provider_errors() as error:
        raise CommandError(f"{name} did not answer: {error}") from error
    return {agent: reports[agent] for agent in AGENTS}


def _provider_errors() -> tuple[type[Exception], ...]:
    """Return what a failing provider raises.

    That is LangChain's ``ModelError``, or with older langchain-openai an error of OpenAI's client.
    """
    from langchain_core.exceptions import ModelError

    try:
        from openai import OpenAIError
    except ImportError:
        return (ModelError,)
    return (ModelError, OpenAIError)


def _decision(reports: Mapping[str, str]) -> str | None:
    """Return what the trader decided."""
    from langchain_tokenopt.examples.trading_desk import decision_of

    return decision_of(reports["trader"])


@dataclass(frozen=True, slots=True)
class _Line:
    """One line of the bill."""

    agent: str
    totals: UsageTotals
    seconds: float
    """Time spent waiting for the model; agents that run side by side wait at the same time."""
    share: float
    """Of all tokens, 0 to 1."""

    def as_json(self) -> dict[str, Any]:
        """Return the line for ``--json``."""
        return {
            "agent": self.agent,
            **totals_as_json(self.totals),
            "seconds": round(self.seconds, 4),
            "share": round(self.share, 4),
        }

    def cells(self) -> list[str]:
        """Return the line's part of the table."""
        tokens = f"{self.totals.total_tokens:,}"
        return [tokens, cost_cell(self.totals), format_seconds(self.seconds)]


def _bill(usage: TokenUsageCallbackHandler) -> tuple[list[_Line], _Line]:
    """Return a line for every agent, largest spender first, and their total."""
    total = usage.totals()
    seconds: defaultdict[str, float] = defaultdict(float)
    for record in usage.records:
        seconds[record.agent] += record.duration_seconds
    lines = [
        _Line(agent, spent, seconds[agent], spent.total_tokens / max(1, total.total_tokens))
        for agent, spent in usage.by("agent").items()
    ]
    return lines, _Line("total", total, sum(seconds.values()), 1.0)


def _print_bills(lines: Sequence[_Line], under_budget: Sequence[_Line]) -> None:
    """Print two bills side by side, agent by agent; the last line of each is the total."""
    others = {line.agent: line for line in under_budget}
    rows = []
    for line in lines:
        other = others.get(line.agent)
        tokens, *rest = line.cells()
        fewer, *others_rest = ["-"] * 3 if other is None else other.cells()
        spent = 0 if other is None else other.totals.total_tokens
        saved = f"{1 - spent / max(1, line.totals.total_tokens):z.0%}"
        row = (line.agent, tokens, f"{line.share:.1%}", *rest, fewer, saved, *others_rest)
        rows.append(row)  # shares stand beside the tokens of which they are shares
    figures = ("tokens", "share", "cost", "time", "with budget", "saved", "cost", "time")
    print_table(("agent", *figures), rows[:-1], total=rows[-1])
