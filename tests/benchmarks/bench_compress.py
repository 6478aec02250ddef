"""Prompt compression: what survives at exact budgets, what it costs, against other ways to do it.

Run:     make bench-compress DATA=DIR
         (python -m tests.benchmarks.bench_compress --data DIR [--rivals PYTHON] [--only NAME ...])
Data:    nq20_surrogate_dev (239 questions, 20 passages each), qmsum_test, tau airline transcripts,
         HumanEval, the real files of tests/judge and of compress_files.jsonl where they are
         installed (rows named fit were looked at). Constants were chosen on nq20_train, those of
         conversations on every other meeting; nothing is fitted here.
Rule:    same questions, same cl100k_base budgets (1/2, 1/4, 1/10, 1/20 of titles and texts joined),
         same normalisation; what is measured is the share of questions of which an accepted answer
         still stands in the result. A rival that cannot run is a row saying why.
Output:  results/compress.json, a Markdown table in results/compress.md and on stdout;
         results/compress_layouts.json of the layouts, which are in a file of their own.
"""

from __future__ import annotations

import argparse
import ast
import gzip
import json
import math
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from langchain_core.documents import Document
from langchain_core.messages import HumanMessage, trim_messages

from langchain_tokenopt.compress import PromptCompressor, join_documents
from langchain_tokenopt.compress.content_types import DocumentsContent
from langchain_tokenopt.compress.fitting import rarity_for
from langchain_tokenopt.compress.json_encoding import (
    compact_json,
    decode_json,
    encode_json,
    parse_json,
    same_json,
)
from langchain_tokenopt.compress.relevance import relevance
from langchain_tokenopt.core.errors import BudgetInfeasibleError
from langchain_tokenopt.counting.tokens import TokenCount, counter_for
from tests.benchmarks.results import RESULTS, write_result
from tests.benchmarks.rivals_compress import DIVISORS, survives
from tests.judge import files
from tests.judge.run import pieces, shortened
from tests.judge.run import plain_bm25 as best_units

MODEL = "cl100k_base"
COUNTER = counter_for(MODEL)
Question = dict[str, Any]


def tokens_of(text: str) -> int:
    """Count with cl100k_base."""
    return COUNTER.count(text).tokens


def load(folder: Path, name: str) -> list[Question]:
    """Read a gzipped JSON-lines file."""
    with gzip.open(folder / "compression" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def documents_of(question: Question) -> list[Document]:
    """Return the passages of a question as retrieved documents."""
    return [Document(c["text"], metadata={"title": c["title"]}) for c in question["ctxs"]]


def one_message(question: Question, documents: Sequence[Document]) -> str:
    """Write instructions, passages and question as one user message."""
    passages = "\n".join(
        f"Document [{number}](Title: {d.metadata['title']}) {d.page_content}"
        for number, d in enumerate(documents, 1)
    )
    return (
        "Write a high-quality answer for the given question using only the provided search results "
        f"(some of which might be irrelevant).\n\n{passages}\n\n"
        f"Question: {question['question']}\nAnswer:"
    )


def share(hits: Sequence[bool]) -> float:
    """Return a percentage."""
    return round(100 * sum(hits) / len(hits), 1)


# --- answers that survive ------------------------------------------------------------------------

Method = Callable[[Question, list[Document], int], str]


def by_compressor(**options: Any) -> Method:
    def run(question: Question, documents: list[Document], budget: int) -> str:
        compressor = PromptCompressor(budget, model=MODEL, remember=0, **options)
        result = compressor.compress(documents, question["question"])
        text = join_documents(result.content)
        assert tokens_of(text) <= budget
        return text

    return run


def in_one_message(question: Question, documents: list[Document], budget: int) -> str:
    """The same share of the passages as they stand there; instruction and question are on top."""
    frame = tokens_of(one_message(question, []))
    prompt = one_message(question, documents)
    divisor = round(tokens_of(join_documents(documents)) / budget)
    budget = (tokens_of(prompt) - frame) // divisor
    result = PromptCompressor(budget + frame + 8, model=MODEL, remember=0).compress(
        [HumanMessage(prompt)]
    )
    text = result.content[0].content
    assert f"Question: {question['question']}" in text
    assert "using only the provided search results" in text
    return text.replace(question["question"], "")


def head(question: Question, documents: list[Document], budget: int) -> str:
    text = join_documents(documents)
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if tokens_of(text[:middle]) <= budget else (low, middle - 1)
    return text[:low]


def trimmed(question: Question, documents: list[Document], budget: int) -> str:
    messages = [HumanMessage(join_documents([d])) for d in documents]
    kept = trim_messages(
        messages,
        max_tokens=budget,
        strategy="last",
        token_counter=lambda given: sum(tokens_of(m.text) + 1 for m in given),
    )
    return "\n\n".join(m.text for m in kept)


def plain_bm25(question: Question, documents: list[Document], budget: int) -> str:
    """Okapi BM25 over sentences: lower case, stop words, light stemming, no titles."""
    sentences = [s for document in documents for s in pieces(document.page_content)]
    return best_units(sentences, question["question"], budget)


def untitled(method: Method) -> Method:
    """The same passages without titles, in the same share of what they are then."""

    def run(question: Question, documents: list[Document], budget: int) -> str:
        divisor = round(tokens_of(join_documents(documents)) / budget)
        plain = [Document(d.page_content) for d in documents]
        return method(question, plain, tokens_of(join_documents(plain)) // divisor)

    return run


class OnceEmbeddings:
    """Embeds every text once, as budgets share passages; counts the characters asked for."""

    def __init__(self) -> None:
        from langchain_tokenopt.embeddings import LocalEmbeddings

        self._inner = LocalEmbeddings()
        self._known: dict[str, list[float]] = {}
        self.characters = 0

    def embed_query(self, text: str) -> list[float]:
        if text not in self._known:
            self._known[text] = self._inner.embed_query(text)
        return self._known[text]

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.characters += sum(map(len, texts))
        missing = [text for text in texts if text not in self._known]
        if missing:
            vectors = self._inner.embed_documents(missing)
            self._known.update(zip(missing, vectors, strict=True))
        return [self._known[text] for text in texts]


def survival(questions: list[Question]) -> dict[str, Any]:
    """Answer survival of each method at each budget."""
    embeddings = OnceEmbeddings()
    methods: dict[str, Method] = {
        "PromptCompressor": by_compressor(),
        "PromptCompressor, one user message": in_one_message,
        "PromptCompressor, no titles": untitled(by_compressor()),
        "PromptCompressor, reranker": by_compressor(reranker=embeddings),
        "head truncation": head,
        "langchain-core trim_messages": trimmed,
        "plain BM25 sentences": plain_bm25,
    }
    rows: dict[str, Any] = {}
    everything = [(q, documents_of(q)) for q in questions]
    sizes = [tokens_of(join_documents(documents)) for _, documents in everything]
    for name, method in methods.items():
        rows[name] = {
            str(k): share(
                [
                    survives(method(q, documents, size // k), q["answers"])
                    for (q, documents), size in zip(everything, sizes, strict=True)
                ]
            )
            for k in DIVISORS
        }
        print(f"  {name}: {rows[name]}", flush=True)
    characters = sum(len(join_documents(documents)) for _, documents in everything)
    embedded = embeddings.characters / (characters * len(DIVISORS))
    return {
        "questions": len(questions),
        "mean_tokens": round(statistics.mean(sizes)),
        "rows": rows,
        "reranker_share_of_text": round(embedded, 3),
        "recall_at_1": {
            "PromptCompressor": recall_at_1(everything, None),
            "PromptCompressor, reranker": recall_at_1(everything, embeddings),
        },
    }


def recall_at_1(everything: list[tuple[Question, list[Document]]], embeddings: Any) -> float:
    """Share of questions whose gold passage is ranked first."""
    from langchain_tokenopt.compress.rerank import Reranker

    reader = PromptCompressor(1, model=MODEL)._job(MODEL).reader
    hits = []
    for question, documents in everything:
        layout = DocumentsContent(documents, reader).layout()
        ranked = relevance(
            layout.texts,
            layout.units,
            question["question"],
            rarity=rarity_for(MODEL),
            rerank=Reranker(embeddings) if embeddings else None,
        )
        best = layout.units[ranked.blocks[0][0]].source
        hits.append(question["ctxs"][best]["isgold"])
    return share(hits)


def rivals(questions: list[Question], python: str | None) -> list[dict[str, Any]]:
    """Run the rivals in their own environment on the same questions and budgets."""
    if python is None:
        return [{"rival": "headroom-ai, LLMLingua", "failed": "no --rivals PYTHON was given"}]
    lines = []
    for question in questions:
        documents = documents_of(question)
        size = tokens_of(join_documents(documents))
        gold = next(n for n, c in enumerate(question["ctxs"]) if c["isgold"])
        lines.append(
            json.dumps(
                {
                    "question": question["question"],
                    "answers": question["answers"],
                    "passages": [[c["title"], c["text"]] for c in question["ctxs"]],
                    "budgets": {k: size // k for k in DIVISORS},
                    "sizes": [tokens_of(join_documents([d]) + "\n\n") for d in documents],
                    "gold": gold,
                }
            )
        )
    script = Path(__file__).parent / "rivals_compress.py"
    done = subprocess.run(
        [python, "-W", "ignore", str(script)],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": "", "HF_HUB_OFFLINE": "1", **_vocabulary_folder()},
    )
    if done.returncode:
        return [{"rival": "headroom-ai, LLMLingua", "failed": done.stderr.strip()[-300:]}]
    rows = json.loads(done.stdout[done.stdout.index("[{") :])
    for row in rows:
        texts = row.pop("texts", None)
        if texts:
            row["overshoot"] = {k: _overshoot(questions, texts[k], int(k)) for k in texts}
    return rows


def _vocabulary_folder() -> dict[str, str]:
    """Give the rivals tiktoken's vocabulary, which they cannot download here."""
    import hashlib
    import tempfile
    from importlib.util import find_spec

    spec = find_spec("bpe_openai")
    if spec is None or spec.origin is None:
        return {}
    folder = Path(tempfile.gettempdir()) / "tokenopt-bench-vocabulary"
    folder.mkdir(exist_ok=True)
    for name in ("cl100k_base", "o200k_base"):
        url = f"https://openaipublic.blob.core.windows.net/encodings/{name}.tiktoken"
        packed = Path(spec.origin).parent / "data" / f"{name}.tiktoken.gz"
        target = folder / hashlib.sha1(url.encode(), usedforsecurity=False).hexdigest()
        target.write_bytes(gzip.decompress(packed.read_bytes()))
    return {"TIKTOKEN_CACHE_DIR": str(folder)}


def _overshoot(questions: list[Question], texts: list[str], divisor: int) -> dict[str, float]:
    """How far results are over the budget they were asked for: the worst, and the mean size."""
    factors = [
        tokens_of(text) / (tokens_of(join_documents(documents_of(q))) // divisor)
        for q, text in zip(questions, texts, strict=True)
    ]
    return {"worst": round(max(factors), 2), "mean": round(statistics.mean(factors), 2)}


# --- exact budgets -------------------------------------------------------------------------------


class Formula:
    """A made-up tokenizer."""

    def __init__(self, formula: Callable[[str], int]) -> None:
        self._formula = formula

    def count(self, text: str) -> TokenCount:
        return TokenCount(self._formula(text) if text else 0, exact=True)


TOKENIZERS: dict[str, Any] = {
    "cl100k_base": counter_for("cl100k_base"),
    "o200k_base": counter_for("o200k_base"),
    "claude, estimated": counter_for("claude-sonnet-4-5"),
    "characters": Formula(len),
    "words": Formula(lambda text: len(text.split())),
    "rounded up": Formula(lambda text: math.ceil(len(text) / 7)),
    "with a frame": Formula(lambda text: len(text) // 3 + 5),
}
_WORDS = (
    "the", "a", "of", "bridge", "river", "1931", "12.5%", "$4.1", "tea", '"quoted', 'text"',
    "Brücke", "wann", "桥建于", "https://example.org/a?b=c", "market", "it", "was", "opened,",
    "and;", "because", "report",
)  # fmt: skip


def generated_text(rng: random.Random, tokens: int) -> str:
    """Make a text of about *tokens* tokens from sentences, lists, code, JSON, logs and headings."""
    parts: list[str] = []
    size = 0
    while size < tokens:
        kind = rng.random()
        if kind < 0.8:
            words = [rng.choice(_WORDS) for _ in range(rng.randint(2, 40))]
            part = (
                " ".join(words).capitalize()
                + rng.choice(".!?.")
                + rng.choice((" ", " ", "\n", "\n\n"))
            )
        elif kind < 0.85:
            part = "- " + " ".join(rng.choices(_WORDS, k=6)) + "\n"
        elif kind < 0.88:
            part = f"```python\ndef f{size}(x):\n    return x + {size}\n```\n"
        elif kind < 0.91:
            part = json.dumps([{"id": n, "net": n * 1.5} for n in range(rng.randint(2, 6))]) + "\n"
        elif kind < 0.94:
            part = f"2026-01-01 10:00:0{rng.randint(0, 9)} INFO up\n"
        elif kind < 0.98:
            part = f"\n## Part {size}\n"
        else:
            part = rng.choice(("x" * 300, "\n\n\n", "\ud800", "Use {name}.\n\n", "You must stop. "))
        parts.append(part)
        size += max(1, len(part) // 4)
    return "".join(parts)


def exactness(cases: int, large: int) -> dict[str, Any]:
    """Overshoot, fill and refusals over generated texts and all tokenizers."""
    rng = random.Random(7)
    over = refused = wrong = small = 0
    fills: list[tuple[int, float]] = []
    unfilled = 0
    largest = 0
    for case in range(cases + large):
        name = rng.choice(list(TOKENIZERS))
        counter = TOKENIZERS[name]
        size = int(math.exp(rng.uniform(0, math.log(3_000))))
        if case >= cases:
            size = int(math.exp(rng.uniform(math.log(3_000), math.log(200_000))))
        text = generated_text(rng, size)
        before = counter.count(text).tokens
        largest = max(largest, before)
        limit = max(1, int(before * math.exp(rng.uniform(math.log(0.02), 0.1))))
        try:
            result = PromptCompressor(
                limit, query="When was the bridge opened?", counter=counter, remember=0
            ).compress(text)
        except BudgetInfeasibleError as refusal:
            refused += 1
            wrong += refusal.required_tokens <= limit
            continue
        after = counter.count(result.content).tokens
        over += after > limit or after != result.tokens_after
        if before <= limit:
            small += result.content is text
            continue
        left_out = [span.end - span.start for span in result.dropped]
        fills.append((limit, after / limit))
        if after < 0.97 * limit and left_out:
            smallest = (
                min(counter.count(text[s.start : s.end]).tokens for s in result.dropped)
                if "lossless" not in result.steps
                else limit
            )
            unfilled += smallest <= limit - after - max(2, limit // 100)
    return {
        "cases": cases + large,
        "largest_tokens": largest,
        "over_budget": over,
        "refused": refused,
        "refused_wrongly": wrong,
        "returned_as_is": small,
        "fill": {
            f"limit from {low} to {high}": {
                "cases": len(some),
                "median": round(statistics.median(some), 4),
                "share_at_97_percent": round(sum(f >= 0.97 for f in some) / len(some), 3),
            }
            for low, high in ((1, 20), (20, 100), (100, 500), (500, 2_000), (2_000, 1_000_000))
            if (some := [f for limit, f in fills if low <= limit < high])
        },
        "under_97_although_a_dropped_span_would_fit": unfilled,
        "shortened": len(fills),
    }


# --- real files, and more room -------------------------------------------------------------------


def real_files() -> dict[str, Any]:
    """Answers kept of files where they lie: at a quarter, a tenth and 120 tokens."""
    halves: dict[str, dict[str, dict[str, list[bool]]]] = {}
    paths = sorted(Path(files.__file__).parent.glob("files_*.jsonl"))
    for path in (*paths, Path(__file__).with_name("compress_files.jsonl")):
        for row, text in files.cases(path, []):
            part = path.stem if path in paths else f"{path.stem} {row['id'].rstrip('.0123456789')}"
            hits = halves.setdefault(part, {})
            total = tokens_of(text)
            for name, budget in (("1/4", total // 4), ("1/10", total // 10), ("120", 120)):
                ours = shortened(text, budget, row["question"]) or ""
                plain = best_units(pieces(text), row["question"], budget)
                for way, made in (("PromptCompressor", ours), ("plain BM25", plain)):
                    kept = files.kept(made, row["answers"])
                    hits.setdefault(way, {}).setdefault(name, []).append(kept)
    return {
        part: {
            way: {name: f"{sum(kept)} of {len(kept)}" for name, kept in found.items()}
            for way, found in hits.items()
        }
        for part, hits in halves.items()
    }


def more_room(questions: list[Question]) -> dict[str, Any]:
    """Answers kept at a budget and lost at twice of it, in ladders that begin at 40 tokens."""
    pairs = lost = 0

    def climb(content: Any, query: str, is_kept: Callable[[str], bool]) -> None:
        nonlocal pairs, lost
        before, budget = False, 40
        while budget < 4_000:
            now = is_kept(shortened(content, budget, query) or "")
            pairs += before
            lost += before and not now
            before, budget = now, 2 * budget

    for question in questions:
        documents = documents_of(question)
        for some in (documents, [Document(d.page_content) for d in documents]):
            climb(some, question["question"], lambda t, q=question: survives(t, q["answers"]))
    for path in sorted(Path(files.__file__).parent.glob("files_*.jsonl")):
        for row, text in files.cases(path, []):
            climb(text, row["question"], lambda t, row=row: files.kept(t, row["answers"]))
    return {"answers_kept": pairs, "lost_at_twice_the_budget": lost}


def layouts(folder: Path) -> str:
    """Run the benchmark of layouts, which writes results of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.compress_layouts", "--data", str(folder)]
    subprocess.run([*command, "--judge"], check=True)
    return "results/compress_layouts.json"


# --- the other tables ----------------------------------------------------------------------------


def tool_json(folder: Path) -> dict[str, Any]:
    """Distinct JSON tool results of the airline agent, re-encoded without loss."""
    outputs: dict[str, None] = {}
    for run in load(folder, "tau_gpt4o_airline_dev"):
        for message in run["traj"]:
            if message["role"] == "tool" and _is_json(message["content"]):
                outputs[message["content"]] = None
    before = compact = after = exact = larger = 0
    for text in outputs:
        value = parse_json(text)
        encoded = encode_json(text, tokens_of) or text
        before += tokens_of(text)
        compact += tokens_of(compact_json(value))
        after += tokens_of(encoded)
        exact += same_json(decode_json(encoded) if encoded != text else value, value)
        larger += tokens_of(encoded) > tokens_of(compact_json(value))
    return {
        "tool_results": len(outputs),
        "tokens": before,
        "saved_percent": round(100 * (1 - after / before), 1),
        "compact_json_saved_percent": round(100 * (1 - compact / before), 1),
        "decoded_equal": exact,
        "larger_than_compact": larger,
    }


def _is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict | list)
    except ValueError:
        return False


def programs(folder: Path) -> dict[str, Any]:
    """HumanEval programs that still parse, and are the same program, in every mode."""
    modes: dict[str, dict[str, Any]] = {
        **{level: {"level": level} for level in ("none", "balanced", "aggressive", "maximum")},
        "keep=0.1": {"keep": 0.1},
    }
    sources = [r["prompt"] + r["canonical_solution"] for r in load(folder, "HumanEval")]
    rows: dict[str, int] = {}
    for mode, options in modes.items():
        compressor = PromptCompressor(model=MODEL, remember=0, **options)
        rows[mode] = sum(_same_program(s, compressor.compress(s).content) for s in sources)
        fenced = [f"Explain this.\n\n```python\n{s}```\n" for s in sources]
        rows[f"{mode}, fenced"] = sum(
            s in compressor.compress(f).content for s, f in zip(sources, fenced, strict=True)
        )
    half = 0
    for source in sources:
        filler = "Tea is a hot drink that people like. Ice is cold and it melts in the sun. " * 30
        prompt = f"Context: {filler}\n\n{source}\n\nQuestion: What does the program return?"
        limit = tokens_of(source) + 150
        made = PromptCompressor(limit, model=MODEL, remember=0).compress(prompt).content
        half += source.strip() in made or not any(
            line.strip() in made for line in source.splitlines() if line.startswith("def ")
        )
    rows["max_tokens, whole or absent"] = half
    return {"programs": len(sources), "parse": rows}


def _same_program(before: str, after: str) -> bool:
    try:
        return ast.dump(ast.parse(before)) == ast.dump(ast.parse(after))
    except SyntaxError:
        return False


def meetings(folder: Path, divisor: int = 10) -> dict[str, Any]:
    """Transcripts at a tenth: tokens of evidence turns kept, as a share of the best possible."""
    shares: list[float] = []
    recency: list[float] = []
    halves: dict[int, list[float]] = {0: [], 1: []}
    for number, meeting in enumerate(load(folder, "qmsum_test")):
        turns = [
            f"{turn['speaker']}: {' '.join(turn['content'].split())}\n"
            for turn in meeting["meeting_transcripts"]
        ]
        sizes = [tokens_of(turn) for turn in turns]
        starts = [0]
        for turn in turns:
            starts.append(starts[-1] + len(turn))
        limit = sum(sizes) // divisor
        compressor = PromptCompressor(limit, model=MODEL)
        for query in meeting["specific_query_list"]:
            evidence = {
                at
                for first, last in query["relevant_text_span"]
                for at in range(int(first), int(last) + 1)
                if at < len(turns)
            }
            possible = min(limit, sum(sizes[at] for at in evidence))
            if not possible:
                continue
            result = compressor.compress("".join(turns), query["query"])
            dropped = [(span.start, span.end) for span in result.dropped]
            kept = sum(
                sizes[at] * _kept_share(starts[at], starts[at + 1], dropped) for at in evidence
            )
            shares.append(kept / possible)
            halves[number % 2].append(kept / possible)
            recency.append(sum(sizes[at] for at in _latest(sizes, limit) & evidence) / possible)
    return {
        "queries": len(shares),
        "share_of_best_possible": round(100 * statistics.mean(shares), 1),
        "of_meetings_that_constants_were_chosen_on": round(100 * statistics.mean(halves[0]), 1),
        "of_the_other_meetings": round(100 * statistics.mean(halves[1]), 1),
        "recency": round(100 * statistics.mean(recency), 1),
    }


def _kept_share(start: int, end: int, dropped: list[tuple[int, int]]) -> float:
    lost = sum(max(0, min(end, b) - max(start, a)) for a, b in dropped)
    return 1 - lost / (end - start)


def _latest(sizes: list[int], limit: int) -> set[int]:
    kept: set[int] = set()
    for at in range(len(sizes) - 1, -1, -1):
        limit -= sizes[at]
        if limit < 0:
            break
        kept.add(at)
    return kept


def cost(questions: list[Question]) -> dict[str, Any]:
    """Thread time of the whole pipeline over one tiktoken pass on the same text, both warm."""
    import tiktoken  # noqa: F401  the counter has loaded the encoding

    from langchain_tokenopt.compress.text_tokens import vocabulary_of

    encode = vocabulary_of(COUNTER).encode_ordinary
    figures: dict[str, Any] = {}
    for name, divisor in (
        ("already fitting", None),
        ("2x", 2),
        ("4x", 4),
        ("10x", 10),
        ("20x", 20),
    ):
        ratios, ours, base = [], [], []
        for repeat in range(2):
            for question in questions:
                documents = documents_of(question)
                text = join_documents(documents)
                limit = tokens_of(text) // divisor if divisor else 1_000_000
                compressor = PromptCompressor(limit, model=MODEL, remember=0)
                encode(text)  # both warm: whoever comes first pays for the cache misses
                start = time.thread_time_ns()
                compressor.compress(documents, question["question"])
                middle = time.thread_time_ns()
                encode(text)
                end = time.thread_time_ns()
                if repeat:
                    ratios.append((middle - start) / (end - middle))
                    ours.append(middle - start)
                    base.append(end - middle)
        figures[name] = {
            "median_ratio": round(statistics.median(ratios), 2),
            "ratio_of_sums": round(sum(ours) / sum(base), 2),
            "median_ms": round(statistics.median(ours) / 1e6, 2),
        }
    return figures


def growth(questions: list[Question]) -> dict[str, Any]:
    """Thread time over one tiktoken pass as texts grow: documents, and the same as one page."""
    from langchain_tokenopt.compress.text_tokens import vocabulary_of

    encode = vocabulary_of(COUNTER).encode_ordinary
    everything = [document for question in questions for document in documents_of(question)]
    figures: dict[str, Any] = {}
    for size in (10_000, 30_000, 100_000):
        documents: list[Document] = []
        total = 0
        while total < size:
            documents.append(everything[len(documents)])
            total += tokens_of(join_documents(documents[-1:]))
        text = join_documents(documents)
        for name, content in (("documents", documents), ("one page", text)):
            for divisor in (2, 10):
                ratios = []
                for number in range(5):  # each time another page: nothing of it is known
                    page = f"{content}\n{number}" if isinstance(content, str) else content
                    compressor = PromptCompressor(total // divisor, model=MODEL, remember=0)
                    encode(text)
                    start = time.thread_time_ns()
                    compressor.compress(page, questions[0]["question"])
                    middle = time.thread_time_ns()
                    encode(text)
                    ratios.append((middle - start) / (time.thread_time_ns() - middle))
                row = figures.setdefault(f"{name}, {divisor}x", {})
                row[f"{size:,} tokens"] = round(statistics.median(ratios), 2)
    return figures


def extremes() -> dict[str, Any]:
    """Time and memory for 10 MB of text."""
    import tracemalloc

    page = "The bridge over the river was opened in 1931. Nobody knows why it was built there. "
    cases = {"10 MB of prose": page * 120_000, "one line of 10 MB": "word " * 2_000_000}
    figures: dict[str, Any] = {}
    for name, text in cases.items():
        compressor = PromptCompressor(
            2_000, query="When was the bridge opened?", model=MODEL, remember=0
        )
        tracemalloc.start()
        start = time.process_time()
        result = compressor.compress(text)
        seconds = time.process_time() - start
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        figures[name] = {
            "seconds_traced": round(seconds, 1),
            "peak_mb": round(peak / 1e6),
            "tokens_before": result.tokens_before,
            "tokens_after": result.tokens_after,
        }
    return figures


# --- the report ----------------------------------------------------------------------------------


def markdown(figures: dict[str, Any]) -> str:
    """Write the README's table."""
    found = figures["survival"]
    lines = [
        f"Answers that survive, {found['questions']} questions with 20 passages "
        f"({found['mean_tokens']:,} tokens on average), exact cl100k_base budgets:",
        "",
        "| kept | 1/2 | 1/4 | 1/10 | 1/20 |",
        "|---|---|---|---|---|",
    ]
    rows = dict(found["rows"])
    for row in figures.get("rivals", ()):
        if "survival" in row:
            rows[row["rival"]] = row["survival"]
    for name, row in rows.items():
        cells = " | ".join(f"{row[str(k)]:.1f} %" for k in DIVISORS)
        lines.append(f"| {name} | {cells} |")
    lines += [
        f"| {row['rival']} | did not run: {row['failed']} | | | |"
        for row in figures.get("rivals", ())
        if "failed" in row
    ]
    if more := figures.get("more_room"):
        kept, lost = more["answers_kept"], more["lost_at_twice_the_budget"]
        lines += [
            "",
            f"More room loses little: of {kept:,} answers kept at some budget (documents with and "
            f"without titles, and real files) {lost} ({lost / kept:.1%}) were lost at twice of it.",
        ]
    return "\n".join(lines)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rivals", help="Python of the rivals' environment")
    parser.add_argument("--only", nargs="*", default=None)
    parser.add_argument("--cases", type=int, default=10_000)
    arguments = parser.parse_args()
    questions = load(arguments.data, "nq20_surrogate_dev")
    parts: dict[str, Callable[[], Any]] = {
        "cost": lambda: cost(questions),
        "growth": lambda: growth(questions),
        "survival": lambda: survival(questions),
        "rivals": lambda: rivals(questions, arguments.rivals),
        "exactness": lambda: exactness(arguments.cases - 40, 40),
        "tool_json": lambda: tool_json(arguments.data),
        "programs": lambda: programs(arguments.data),
        "meetings": lambda: meetings(arguments.data),
        "real_files": real_files,
        "more_room": lambda: more_room(questions),
        "extremes": extremes,
        "layouts": lambda: layouts(arguments.data),
    }
    path = RESULTS / "compress.json"
    figures = json.loads(path.read_text())["figures"] if arguments.only and path.exists() else {}
    for name, part in parts.items():
        if arguments.only and name not in arguments.only:
            continue
        print(f"{name} ...", flush=True)
        figures[name] = part()
        print(json.dumps(figures[name], indent=1), flush=True)
    write_result("compress", "make bench-compress", figures, "torch")
    if "survival" in figures:
        table = markdown(figures)
        (RESULTS / "compress.md").write_text(table + "\n", encoding="utf-8")
        print(table)


if __name__ == "__main__":
    main()
