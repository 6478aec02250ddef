"""Judge what the compressor does with layouts, real files, nasty documents, facts and reports.

Run:     python -m tests.judge.run [--half build] [--data DIR] [--only NAME ...] [--cases N] [--show]
Data:    nq20_surrogate_dev for the layouts (left out without ``--data``); everything else is here.
Rule:    knows the public API alone. Budgets are cl100k_base. Of a layout, what it is without
         passages cannot be saved: the budget is that frame and a share of the rest. A refusal counts
         as a loss. Plain BM25 over sentences and lines stands beside, in the same budget.
Output:  Markdown tables on stdout; ``--show`` lists what was lost or broken.
"""

from __future__ import annotations

import argparse
import gzip
import importlib
import json
import math
import random
import re
import statistics
import string
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from langchain_core.documents import Document
from langchain_core.messages import BaseMessage

from langchain_tokenopt import BudgetInfeasibleError, Handover, PromptCompressor, counter_for
from tests.judge import files
from tests.judge.facts import Fact, losses, verdicts
from tests.judge.reports import faults
from tests.judge.wholeness import Case

MODEL = "cl100k_base"
COUNTER = counter_for(MODEL)
HERE = Path(__file__).parent

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_DROP_PUNCTUATION = str.maketrans("", "", string.punctuation)
_STOP = frozenset(
    [
        "a",
        "an",
        "the",
        "of",
        "in",
        "on",
        "at",
        "to",
        "for",
        "with",
        "by",
        "from",
        "and",
        "or",
        "not",
        "is",
        "are",
        "was",
        "were",
        "be",
        "been",
        "do",
        "does",
        "did",
        "has",
        "have",
        "had",
        "what",
        "which",
        "who",
        "whom",
        "whose",
        "when",
        "where",
        "why",
        "how",
        "many",
        "much",
        "long",
        "often",
        "it",
        "its",
        "they",
        "them",
        "this",
        "that",
        "these",
        "those",
        "there",
        "i",
        "you",
        "my",
        "your",
        "if",
        "as",
        "can",
        "could",
        "may",
        "should",
        "will",
        "would",
        "than",
        "so",
    ]
)


def tokens_of(text: str) -> int:
    """Count with cl100k_base."""
    return COUNTER.count(text).tokens


def normalised(text: str) -> str:
    """Lower case, no punctuation, no articles: as answers to Natural Questions are compared."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_DROP_PUNCTUATION)).split())


def survives(text: str, answers: list[str]) -> bool:
    """Whether an accepted answer stands in *text*."""
    found = normalised(text)
    return any(normalised(answer) in found for answer in answers)


def share(hits: Sequence[bool]) -> str:
    """Write a percentage."""
    return f"{100 * sum(hits) / len(hits):.1f}" if hits else "-"


# --- plain BM25 ----------------------------------------------------------------------------------


def _terms(text: str) -> list[str]:
    words = re.findall(r"\w+", text.lower())
    return [
        re.sub(r"(?:ing|ed|es|s|e)$", "", w) if len(w) > 4 else w for w in words if w not in _STOP
    ]


def pieces(text: str) -> list[str]:
    """Sentences and lines."""
    return [
        s
        for line in text.split("\n")
        for s in re.split(r"(?<=[.!?])\s+(?=[A-Z\"'(])", line)
        if s.strip()
    ]


def plain_bm25(units: list[str], question: str, budget: int) -> str:
    """Okapi BM25 over units, the best first while they fit, written in their order."""
    bags = [Counter(_terms(unit)) for unit in units]
    lengths = [max(1, sum(bag.values())) for bag in bags]
    average = sum(lengths) / max(1, len(lengths))
    score = [0.0] * len(units)
    for word in sorted(set(_terms(question))):
        found = sum(word in bag for bag in bags)
        idf = math.log(1 + (len(bags) - found + 0.5) / (found + 0.5))
        for at, bag in enumerate(bags):
            if count := bag[word]:
                score[at] += (
                    idf * count * 2.2 / (count + 1.2 * (0.25 + 0.75 * lengths[at] / average))
                )
    kept, left = [], budget
    for at in sorted(range(len(units)), key=lambda at: -score[at]):
        size = tokens_of(units[at]) + 1
        if size <= left:
            kept.append(at)
            left -= size
    return "\n".join(units[at] for at in sorted(kept))


# --- shortening ----------------------------------------------------------------------------------


def text_of(content: Any) -> str:
    """Join what is left: a text, messages or documents."""
    if isinstance(content, str):
        return content
    parts = []
    for each in content:
        if isinstance(each, BaseMessage):
            parts.append(each.text)
        else:
            parts.append(f"{each.metadata.get('title', '')}\n{each.page_content}")
    return "\n\n".join(parts)


def shortened(content: Any, budget: int, query: str | None = None, **options: Any) -> str | None:
    """Shorten, or None if it refuses."""
    compressor = PromptCompressor(budget, model=MODEL, remember=0, **options)
    try:
        result = compressor.compress(content, query)
    except BudgetInfeasibleError:
        return None
    if result.tokens_after > budget and not result.reason:
        raise AssertionError(f"{result.tokens_after} tokens, {budget} were allowed")
    return text_of(result.content)


def size_of(content: Any) -> int:
    """Tokens as the compressor counts them."""
    if isinstance(content, list) and not content:
        return 0
    return PromptCompressor(10**9, model=MODEL, remember=0).compress(content).tokens_before


# --- the five parts ------------------------------------------------------------------------------


def load_questions(data: Path, count: int) -> list[dict[str, Any]]:
    """Read the first questions with their passages."""
    path = data / "compression" / "nq20_surrogate_dev.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for _, line in zip(range(count), file, strict=False)]


def judge_layouts(layouts: dict[str, Any], questions: list[dict[str, Any]], show: bool) -> None:
    """Survival of answers per layout at a half and at a tenth."""
    print(f"\n## Layouts, {len(questions)} questions\n")
    print("| layout | 2x | 10x | refused 2x / 10x | BM25 2x | BM25 10x |")
    print("| --- | --- | --- | --- | --- | --- |")

    def row(
        name: str, make: Callable[[dict[str, Any], list[tuple[str, str]]], Any], **options: Any
    ) -> list[float]:
        hits: dict[int, list[bool]] = {2: [], 10: []}
        plain: dict[int, list[bool]] = {2: [], 10: []}
        refused = {2: 0, 10: 0}
        for q in questions:
            passages = [(c["title"], c["text"]) for c in q["ctxs"]]
            whole = make(q, passages)
            frame, total = size_of(make(q, [])), size_of(whole)
            units = [s for _, text in passages for s in pieces(text)]
            for ratio in hits:
                budget = frame + (total - frame) // ratio
                query = q["question"] if name == "documents" else None
                text = shortened(whole, budget, query, **options)
                refused[ratio] += text is None
                asked = q["question"].rstrip("? ")
                text = re.sub(re.escape(asked), "", text or "", flags=re.IGNORECASE)
                hits[ratio].append(survives(text, q["answers"]))
                plain[ratio].append(
                    survives(plain_bm25(units, q["question"], budget - frame), q["answers"])
                )
        print(
            f"| {name} | {share(hits[2])} | {share(hits[10])} | {refused[2]} / {refused[10]} | "
            f"{share(plain[2])} | {share(plain[10])} |",
            flush=True,
        )
        return [100 * sum(h) / len(h) for h in (hits[2], hits[10])]

    row("documents", lambda q, p: [Document(text, metadata={"title": t}) for t, text in p])
    found = [
        row(name, lambda q, p, layout=layout: layout(q["question"], p), tool_results="select")
        for name, layout in layouts.items()
    ]
    for n, ratio in enumerate(("2x", "10x")):
        column = [each[n] for each in found]
        print(f"\n{ratio}: worst {min(column):.1f}, mean {statistics.mean(column):.1f}")


def judge_files(rows: Path, show: bool) -> None:
    """Answers kept of real files at a quarter, a tenth and 120 tokens."""
    skipped: list[str] = []
    hits: dict[str, list[bool]] = {}
    plain: dict[str, list[bool]] = {}
    kinds: dict[str, Counter[str]] = {}
    lost: list[str] = []
    seconds = 0.0
    for row, text in files.cases(rows, skipped):
        total = tokens_of(text)
        for name, budget in (("1/4", total // 4), ("1/10", total // 10), ("120", 120)):
            start = time.process_time()
            out = shortened(text, budget, row["question"])
            seconds += time.process_time() - start
            kept = files.kept(out or "", row["answers"])
            beside = files.kept(plain_bm25(pieces(text), row["question"], budget), row["answers"])
            hits.setdefault(name, []).append(kept)
            plain.setdefault(name, []).append(beside)
            kinds.setdefault(row["kind"], Counter()).update(ours=kept, bm25=beside, all=1)
            if not kept:
                lost.append(
                    f"{row['id']} {name}{' refused' if out is None else ''}{' (BM25 kept)' if beside else ''}: {row['path']}: {row['question']}"
                )
    print(f"\n## Real files, {len(hits.get('120', []))} questions, {seconds:.0f} CPU s\n")
    print("| | 1/4 | 1/10 | 120 tokens |\n| --- | --- | --- | --- |")
    for name, table in (("PromptCompressor", hits), ("plain BM25", plain)):
        print(f"| {name} | " + " | ".join(f"{sum(h)} of {len(h)}" for h in table.values()) + " |")
    print(
        "\nby kind (ours/BM25 of all): "
        + ", ".join(f"{k} {c['ours']}/{c['bm25']} of {c['all']}" for k, c in sorted(kinds.items()))
    )
    for path in sorted(set(skipped)):
        print(f"skipped: {path}")
    if show:
        print("\n".join(lost))


def judge_wholeness(case: Callable[[random.Random], Case], count: int, show: bool) -> None:
    """Broken, over budget, refused and failed, by kind."""
    table: dict[str, Counter[str]] = {}
    shown: Counter[str] = Counter()
    for seed in range(count):
        made = case(random.Random(seed))
        column = table.setdefault(made.kind, Counter())
        column["cases"] += 1
        budget = max(8, int(tokens_of(made.prompt) * made.share))
        try:
            out = shortened(made.prompt, budget, made.query)
        except Exception as error:
            column["failed"] += 1
            broken = [f"{type(error).__name__}: {error}"]
        else:
            if out is None:
                column["refused"] += 1
                continue
            broken = made.check(out)
            column["broken"] += bool(broken)
            column["unchanged"] += out == made.prompt
            column["nearly empty"] += len(out.split()) < 0.02 * len(made.prompt.split())
            if out != made.prompt and tokens_of(out) > budget:
                column["over"] += 1
        if broken and show and shown[made.kind] < 4:
            shown[made.kind] += 1
            print(f"seed {seed} {made.kind} {made.share:.2f}: {broken[0]}")
    print(f"\n## Wholeness, {count} cases\n")
    names = ("cases", "broken", "over", "failed", "refused", "unchanged", "nearly empty")
    print("| kind | " + " | ".join(names) + " |\n|" + " --- |" * (len(names) + 1))
    total: Counter[str] = Counter()
    for kind, column in sorted(table.items()):
        total.update(column)
        print(f"| {kind} | " + " | ".join(str(column[name]) for name in names) + " |")
    print("| all | " + " | ".join(str(total[name]) for name in names) + " |")


def by_compressor(fact: Fact, budget: int) -> str:
    """Shorten the content of a fact for its question."""
    content: Any = fact.content
    if not isinstance(content, str):
        content = [Document(text, metadata={"title": title}) for title, text in content]
    return shortened(content, budget, fact.question) or ""


def by_bm25(fact: Fact, budget: int) -> str:
    """The same with plain BM25."""
    return plain_bm25(pieces(fact.text), fact.question, budget)


def judge_facts(cases: Sequence[Fact], show: bool) -> None:
    """Which answers are left by kind, and what a fuller budget loses."""
    print("\n## Facts among alike and contradicting ones\n")
    print(
        "| kind | way | right alone | right and outdated | outdated alone | none | lost by more budget |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    table: dict[tuple[str, str], Counter[str]] = {}
    for fact in cases:
        for way, shorten in (("ours", by_compressor), ("BM25", by_bm25)):
            found = verdicts(fact, shorten)
            lost = losses(found)
            table.setdefault((fact.kind, way), Counter()).update([*found, *["lost"] * lost])
            if show and way == "ours" and (lost or "wrong" in found or "none" in found):
                print(f"{fact.id}: {' '.join(found)}: {fact.question}", file=sys.stderr)
    for (kind, way), column in sorted(table.items()):
        names = ("right", "both", "wrong", "none", "lost")
        print(f"| {kind} | {way} | " + " | ".join(str(column[name]) for name in names) + " |")


def judge_monotone(layouts: dict[str, Any], questions: list[dict[str, Any]], rows: Path) -> None:
    """Answers kept at b and lost at 2b: layouts and files at a ladder of budgets."""
    pairs = lost = 0
    names = list(layouts)

    def ladder(
        content: Any, low: int, high: int, query: str | None, is_kept: Callable[[str], bool]
    ) -> None:
        nonlocal pairs, lost
        before = False
        budget = low
        while budget <= high:
            now = is_kept(shortened(content, budget, query, tool_results="select") or "")
            if before:
                pairs += 1
                lost += not now
            before = now
            budget *= 2

    for n, q in enumerate(questions):
        passages = [(c["title"], c["text"]) for c in q["ctxs"]]
        if layouts:
            layout = layouts[names[n % len(names)]]
            whole, frame = layout(q["question"], passages), size_of(layout(q["question"], []))
            ladder(
                whole,
                frame + 40,
                size_of(whole),
                None,
                lambda out, q=q: survives(out.replace(q["question"], ""), q["answers"]),
            )
    for row, text in files.cases(rows):
        ladder(
            text,
            60,
            min(4000, tokens_of(text)),
            row["question"],
            lambda out, row=row: files.kept(out, row["answers"]),
        )
    print(
        f"\n## Monotone\n\n{lost} of {pairs} answers kept at b are lost at 2b ({100 * lost / max(1, pairs):.1f} %)"
    )


def judge_reports(cases: Sequence[Any], show: bool) -> None:
    """What hand-over leaves out, with a tenth more room than what must be there."""
    missing = apart = keys = whole = 0
    for report in cases:
        room = sum(tokens_of(key) + 2 for key in report.keys)
        headings = sum(tokens_of(line[2:]) + 2 for line in report.lines if line.startswith("# "))
        budget = int(1.1 * room) + headings + 4
        try:
            handed = Handover(budget, model=MODEL, remember=0).invoke(report.text)
        except BudgetInfeasibleError:
            handed = ""
        found = faults(report, handed)
        keys += len(report.keys)
        missing += sum(each.startswith("missing") for each in found)
        apart += sum(each.startswith("apart") for each in found)
        whole += not found
        if show and found:
            print(f"{report.id}: {'; '.join(found)}")
    print(
        f"\n## Hand-over\n\n{whole} of {len(cases)} reports whole; {missing} of {keys} key sentences missing; {apart} decisions apart from their revocation"
    )


PARTS = ("layouts", "files", "wholeness", "facts", "monotone", "reports")


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--half", default="build")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--questions", type=int, default=120)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--only", nargs="*", default=PARTS, choices=PARTS)
    parser.add_argument("--show", action="store_true")
    parser.add_argument("--folder", type=Path, default=HERE)
    options = parser.parse_args(arguments)
    sys.path.insert(0, str(options.folder))

    def half(name: str) -> Any:
        return importlib.import_module(f"{name}_{options.half}")

    rows = options.folder / f"files_{options.half}.jsonl"
    questions = load_questions(options.data, options.questions) if options.data else []
    if "layouts" in options.only and questions:
        judge_layouts(half("layouts").LAYOUTS, questions, options.show)
    if "files" in options.only:
        judge_files(rows, options.show)
    if "wholeness" in options.only:
        judge_wholeness(half("wholeness").case, options.cases, options.show)
    if "facts" in options.only:
        judge_facts(half("facts").CASES, options.show)
    if "monotone" in options.only:
        judge_monotone(half("layouts").LAYOUTS if questions else {}, questions, rows)
    if "reports" in options.only:
        judge_reports(half("reports").CASES, options.show)


if __name__ == "__main__":
    main()
