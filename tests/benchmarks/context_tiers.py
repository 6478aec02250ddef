"""Contents in tiers: how often the first is enough, and what a user's 30 uses change.

Questions about passages, meetings, and results of an airline's tools. Whoever asks goes on to the
next tier until what is needed is there. ``before``: a stranger asks; ``after``: somebody who has
asked 30 other questions of the kind, what was learned from them being held fixed.

Run:     python -m tests.benchmarks.context_tiers --data DIR
         (--part fit: the part by which constants were chosen; nothing is kept)
Output:  results/context_tiers.json and .md
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import re
import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langchain_core.documents import Document

from langchain_tokenopt import LearnedStore, ProgressiveLoader
from langchain_tokenopt.compress import join_documents
from langchain_tokenopt.context.levels import handles_in
from langchain_tokenopt.context.tiers import TIERS, Content, count
from langchain_tokenopt.text.sentences import sentences_of
from tests.benchmarks.results import write_result

PASSAGES = {"fit": "nq20_train.jsonl.gz", "judged": "nq20_surrogate_dev.jsonl.gz"}
MEETINGS = "qmsum_test.jsonl.gz"
AIRLINE = "tau_gpt4o_airline_dev.jsonl.gz"
USES = 30
USERS = 8
MOST = 12_000
"""Tokens that may be sent at first: all tiers of nearly all contents."""


@dataclass(frozen=True)
class Case:
    """A content, a question, and what an answer needs of it."""

    kind: str
    content: Content
    question: str
    needed: tuple[str, ...]
    """Pieces of the content."""
    share: float = 1.0
    """Part of them, by length, that must be there; 0: one of them."""

    def is_answered(self, shown: str) -> bool:
        """Whether what an answer needs is in a text."""
        if not self.share:
            words = plain(shown)
            return any(plain(piece) in words for piece in self.needed)
        there = sum(len(piece) for piece in self.needed if piece in shown)
        return there >= self.share * sum(map(len, self.needed))


def plain(text: str) -> str:
    """Return the words of a text, without marks and articles."""
    words = re.sub(r"[^\w\s]", "", text.lower()).split()
    return f" {' '.join(word for word in words if word not in ('a', 'an', 'the'))} "


def lines_of(path: Path) -> Iterator[dict[str, Any]]:
    """Read lines of JSON."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def passages(folder: Path, part: str) -> Iterator[Case]:
    """Twenty passages, one of which has the answer."""
    for row in lines_of(folder / PASSAGES[part]):
        documents = [Document(one["text"], metadata={"title": one["title"]}) for one in row["ctxs"]]
        yield Case("passages", documents, row["question"], (*row["answers"],), 0)


def meetings(folder: Path, part: str) -> Iterator[Case]:
    """A meeting: half of what was said about the question must be there."""
    for at, row in enumerate(lines_of(folder / MEETINGS)):
        if (at % 2 == 0) != (part == "fit"):
            continue
        turns = [f"{one['speaker']}: {one['content']}" for one in row["meeting_transcripts"]]
        for asked in row["specific_query_list"]:
            spans = [(int(a), int(b)) for a, b in asked["relevant_text_span"]]
            told = [turn for a, b in spans for turn in turns[a : b + 1]]
            said = tuple(s.strip() for turn in told for s in sentences_of(turn) if s.strip())
            yield Case("meetings", "\n".join(turns), asked["query"], said, 0.5)


def results(folder: Path, part: str) -> Iterator[Case]:
    """A tool's result: all values must be there that later calls took from it."""
    rows = [*lines_of(folder / AIRLINE)]
    fitted = {*sorted({row["task_id"] for row in rows})[::2]}
    for row in rows:
        if (row["task_id"] in fitted) != (part == "fit"):
            continue
        talk = row["traj"]
        for at, message in enumerate(talk):
            text = message.get("content") or ""
            if message["role"] != "tool" or count(text) <= 200:
                continue
            before = "\n".join(str(one) for one in talk[:at])
            later = [one.get("tool_calls") or [] for one in talk[at + 1 :]]
            values = {
                value
                for calls in later
                for call in calls
                for value in leaves(json.loads(call["function"]["arguments"]))
                if len(value) > 2 and f'"{value}"' in text and value not in before
            }
            asked = [one["content"] for one in talk[:at] if one["role"] == "user"]
            if values and asked:
                yield Case("tool results", text, asked[-1], (*sorted(values),))


def leaves(value: Any) -> Iterator[str]:
    """Yield the texts in a value."""
    if isinstance(value, dict):
        value = [*value.values()]
    if isinstance(value, list):
        for each in value:
            yield from leaves(each)
    elif isinstance(value, str):
        yield value


def cases(folder: Path, part: str) -> dict[str, list[Case]]:
    """Return all cases by kind: of one part to choose constants by, of the other to judge."""
    folder = folder / "compression"
    readers = (passages, meetings, results)
    found: dict[str, list[Case]] = {}
    for case in (case for reader in readers for case in reader(folder, part)):
        text = case.content if isinstance(case.content, str) else join_documents(case.content)
        if case.is_answered(text):  # a few answers are in no passage
            found.setdefault(case.kind, []).append(case)
    return found


@dataclass(frozen=True)
class Course:
    """How one use went."""

    first: str
    further: int
    """Times that more was asked for."""
    tokens: int
    """Of all that was sent."""
    whole: int


def asked(loader: ProgressiveLoader, case: Case, user: str) -> Course:
    """Ask for more until what is needed is there."""
    made, stats = loader.optimize_content(case.content, case.question, user)
    shown = made if isinstance(made, str) else join_documents(made)
    tokens, further = stats.tokens_after, 0
    while not case.is_answered(shown):
        handles = handles_in(shown)
        if not handles:
            break
        shown = loader.originals.get(handles[-1], user=user) or ""
        tokens += count(shown)
        further += 1
    return Course(stats.tier, further, tokens, stats.tokens_before)


def loader_of(
    lines: Iterable[str] = (), store: LearnedStore | None = None, **settings: Any
) -> ProgressiveLoader:
    """Return a loader that knows what was learned, with somebody who asks for more."""
    store = store or LearnedStore()
    store.load(lines)
    loader = ProgressiveLoader(max_tokens=MOST, store=store, **settings)
    assert loader.originals
    return loader


def row_of(courses: list[Course]) -> dict[str, Any]:
    """Return the figures of some uses."""
    return {
        "uses": len(courses),
        "answered by the first": round(100 * statistics.mean(not c.further for c in courses), 1),
        "asked for more, per 100 uses": round(100 * statistics.mean(c.further for c in courses), 1),
        "tokens a use": round(statistics.mean(c.tokens for c in courses)),
        "tokens of the whole": round(statistics.mean(c.whole for c in courses)),
        "sent first": {
            tier: sum(c.first == tier for c in courses)
            for tier in TIERS
            if any(c.first == tier for c in courses)
        },
    }


def users_of(found: list[Case], seed: int) -> tuple[list[Case], list[Case]]:
    """Return what a user asks first, and what is asked to judge: of other contents, where it may.

    Questions about the same meeting, or of the same trajectory, are on one side.
    """
    by_content: dict[str, list[Case]] = {}
    for case in found:
        text = case.content if isinstance(case.content, str) else case.question
        by_content.setdefault(text, []).append(case)
    groups = [*by_content.values()]
    random.Random(seed).shuffle(groups)
    learned: list[Case] = []
    while len(learned) < USES and groups:
        learned += groups.pop()
    return learned[:USES], [case for group in groups for case in group]


def judged(found: dict[str, list[Case]]) -> dict[str, Any]:
    """Judge each kind, and users of all kinds in turn."""
    figures: dict[str, Any] = {}
    all_before: list[Course] = []
    all_after: list[Course] = []
    for kind, of_kind in found.items():
        before: list[Course] = []
        after: list[Course] = []
        for user in range(USERS):
            learned, rest = users_of(of_kind, user)
            store = LearnedStore()
            loader = loader_of(store=store)
            for case in learned:
                asked(loader, case, "ann")
            known = [*store.export()]
            sample = random.Random(user).sample(rest, min(len(rest), USES))
            before += [asked(loader_of(), case, "ann") for case in sample]
            after += [asked(loader_of(known), case, "ann") for case in sample]
        figures[kind] = both(before, after)
        print(kind, json.dumps(figures[kind]), flush=True)
        all_before += before
        all_after += after
    figures["all"] = both(all_before, all_after)
    print("all", json.dumps(figures["all"]), flush=True)
    return figures


def both(before: list[Course], after: list[Course]) -> dict[str, Any]:
    """Return the figures before and after, and what changed."""
    more = [sum(c.further for c in courses) for courses in (before, after)]
    tokens = [sum(c.tokens for c in courses) for courses in (before, after)]
    return {
        "before": row_of(before),
        "after": row_of(after),
        "fewer times asked for more": round(100 * (1 - more[1] / max(1, more[0])), 1),
        "fewer tokens": round(100 * (1 - tokens[1] / tokens[0]), 1),
    }


def table(figures: dict[str, Any]) -> str:
    """Return the figures as Markdown."""
    lines = [
        "| before -> after 30 uses | answered by the first tier | asked for more, per 100 uses "
        "| tokens a use | of the whole |",
        "|---|---|---|---|---|",
    ]
    keys = ("answered by the first", "asked for more, per 100 uses", "tokens a use")
    for kind in (*figures["cases"], "all"):
        before, after = figures[kind]["before"], figures[kind]["after"]
        cells = [f"{before[key]:,} -> {after[key]:,}" for key in keys]
        cells[0] = f"{before[keys[0]]} -> {after[keys[0]]} %"
        lines.append(f"| {kind} | {' | '.join(cells)} | {before['tokens of the whole']:,} |")
    said = ", ".join(f"{n} of {kind}" for kind, n in figures["cases"].items())
    uses = figures["all"]["before"]["uses"]
    lines += ["", f"{figures['users']} users of each kind, {uses} judged uses; cases: {said}."]
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and keep the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--part", choices=("judged", "fit"), default="judged")
    given = parser.parse_args()
    found = cases(given.data, given.part)
    figures = {
        "users": USERS,
        "uses before": USES,
        "cases": {kind: len(of_kind) for kind, of_kind in found.items()},
        **judged(found),
    }
    print(table(figures))
    if given.part == "fit":
        return
    command = "python -m tests.benchmarks.context_tiers --data DIR"
    path = write_result("context_tiers", command, figures)
    path.with_suffix(".md").write_text(table(figures) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
