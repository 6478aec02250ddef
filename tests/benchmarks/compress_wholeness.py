"""Is everything that a compressor keeps whole? Random documents, through the public API.

Run:     python -m tests.benchmarks.compress_wholeness [--cases 20000] [--first 0] [--jobs 1]
         [--set mixed] [--show]
Data:    tests/support/mixed_documents.py writes them from a seed: prose in twelve languages, JSON,
         JSON lines, Python and six other languages, seven kinds of tables, CSV, YAML, TOML, INI,
         XML, logs, subtitles, chats, lists, fences, few-shot prompts; alone or mixed. ``--set
         records``: logs, examples, subtitles and chats in some eighty forms; ``--set strange``:
         the same in forms that are put together by chance; ``--set formats``: YAML with anchors,
         subtitles, SQL, LaTeX, Markdown, HTML, settings, diffs, cards, BibTeX and others.
Rule:    each is shortened as a string, message, conversation or documents, to a random budget or
         level. Parsers of the formats, which know nothing of the compressor, say what is broken;
         a tokenizer says what is over budget.
Output:  results/compress_wholeness[_SET].json from 5,000 cases on, and a table on stdout.
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from collections.abc import Iterator
from functools import partial
from multiprocessing import Pool

from langchain_core.documents import Document
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage

from langchain_tokenopt.compress import PromptCompressor, join_documents, optimize_text
from langchain_tokenopt.core.errors import BudgetInfeasibleError
from langchain_tokenopt.counting.request_tokens import count_messages
from langchain_tokenopt.counting.tokens import counter_for
from tests.benchmarks.results import write_result
from tests.support import (
    format_documents,
    mixed_documents,
    nested_documents,
    record_documents,
    strange_documents,
)  # fmt: skip
from tests.support.mixed_documents import Mixed

MODEL = "o200k_base"
COUNT = counter_for(MODEL).count
WAYS = ("string", "message", "conversation", "documents", "optimize_text", "level")
COLUMNS = ("cases", "broken", "over budget", "failed", "refused", "unchanged", "empty")


SETS = {
    "mixed": mixed_documents.document,
    "records": record_documents.document,
    "strange": strange_documents.document,
    "formats": format_documents.document,
    "nested": nested_documents.document,
}


def outcome(seed: int, documents: str = "mixed") -> tuple[str, Counter[str], list[str]]:
    """Shorten one random document; return its kind, what became of it, and its faults."""
    rng = random.Random(seed)
    made = SETS[documents](rng)
    is_prompt = "few-shot" in made.kind or "examples" in made.kind or bool(made.least)
    way = rng.choice([way for way in WAYS if way != "documents" or not is_prompt])
    share = rng.choice((0.05, 0.1, 0.25, 0.5, 0.9)) * rng.uniform(0.6, 1.1)
    found = Counter(cases=1)
    try:
        left, over = shortened(made, way, share, rng)
    except BudgetInfeasibleError:
        found["refused"] += 1
        room = int(COUNT(made.text).tokens * share)
        if made.least and room > 2 * COUNT(made.least).tokens + 20:
            found["broken"] += 1
            return made.kind, found, [f"{way} {share:.2f}: refused with room for {room} tokens"]
        return made.kind, found, []
    except Exception as error:
        found["failed"] += 1
        return made.kind, found, [f"{way}: {type(error).__name__}: {error}"]
    faults = made.check(left)
    found["broken"] += bool(faults)
    found["over budget"] += over
    found["unchanged"] += left == made.text
    found["empty"] += not left.strip()
    return made.kind, found, [f"{way} {share:.2f}: {fault}" for fault in faults]


def shortened(made: Mixed, way: str, share: float, rng: random.Random) -> tuple[str, bool]:
    """Return what is left of the document, and whether it is over its budget."""
    text, query = made.text, made.query or None
    budget = max(8, int(COUNT(text).tokens * share))
    if way == "level":
        level = rng.choice(("balanced", "aggressive", "maximum"))
        return PromptCompressor(level=level, query=query, model=MODEL).invoke(text), False
    if way == "optimize_text":
        left = optimize_text(text, query, budget)
        return left, COUNT(left).tokens > budget
    compressor = PromptCompressor(budget, query=query, model=MODEL, remember=0)
    if way == "string":
        left = compressor.invoke(text)
        return left, COUNT(left).tokens > budget
    if way == "documents":
        kept = compressor.invoke([Document(text), Document("Tea is hot. Ice is cold. " * 9)])
        left = next((d.page_content for d in kept if "Tea is hot." not in d.page_content), "")
        return left, COUNT(join_documents(kept)).tokens > budget
    messages = [HumanMessage(text)]
    if way == "conversation":
        before = [SystemMessage("Be kind."), HumanMessage("Hello there."), AIMessage("Hello.")]
        messages = [*before, *messages]
    budget += count_messages([*messages[:-1], HumanMessage("")], model=MODEL).tokens
    kept = PromptCompressor(budget, query=query, model=MODEL, remember=0).invoke(messages)
    left = kept[-1].content if kept and isinstance(kept[-1], HumanMessage) else ""
    left = "" if left == "Hello there." else left
    return left, bool(kept) and count_messages(kept, model=MODEL).tokens > budget


def outcomes(
    first: int, count: int, jobs: int, documents: str = "mixed"
) -> Iterator[tuple[int, str, Counter[str], list[str]]]:
    """Yield what became of each case."""
    seeds = range(first, first + count)
    with Pool(jobs) as pool:
        for seed, found in zip(
            seeds,
            pool.imap(partial(outcome, documents=documents), seeds, chunksize=50),
            strict=True,
        ):
            yield (seed, *found)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--set", choices=SETS, default="mixed", dest="documents")
    parser.add_argument("--show", action="store_true")
    options = parser.parse_args()
    table: dict[str, Counter[str]] = {}
    shown: Counter[str] = Counter()
    for seed, kind, found, faults in outcomes(
        options.first, options.cases, options.jobs, options.documents
    ):
        table.setdefault(kind, Counter()).update(found)
        if faults and options.show and shown[kind] < 4:
            shown[kind] += 1
            print(f"seed {seed} {kind}: {faults[0][:220]}", flush=True)
    total: Counter[str] = Counter()
    print("| kind | " + " | ".join(COLUMNS) + " |\n|" + " --- |" * (len(COLUMNS) + 1))
    for kind, column in sorted(table.items()):
        total.update(column)
        print(f"| {kind} | " + " | ".join(str(column[name]) for name in COLUMNS) + " |")
    print("| all | " + " | ".join(str(total[name]) for name in COLUMNS) + " |")
    name = "" if options.documents == "mixed" else f"_{options.documents}"
    if options.cases >= 5_000:
        rows = {kind: {n: column[n] for n in COLUMNS} for kind, column in sorted(table.items())}
        write_result(
            f"compress_wholeness{name}",
            f"python -m tests.benchmarks.compress_wholeness --set {options.documents}"
            f" --cases {options.cases} --first {options.first}",
            {
                "total": {name: total[name] for name in COLUMNS},
                "rows": rows,
            },
        )


if __name__ == "__main__":
    main()
