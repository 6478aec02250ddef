"""Does the layout of a prompt matter? The same passages and questions in many layouts.

Run:     python -m tests.benchmarks.compress_layouts --data DIR [--at 2 10] [--only NAME ...]
Data:    the first questions of nq20_train, on which the reading of prompts was built. With
         ``--judge`` those of nq20_surrogate_dev.
Rule:    each layout is shortened to its frame (the layout without passages) and 1/2, 1/4, 1/10 and
         1/20 of all that the passages add to it. Measured is the share of questions of which an
         accepted answer still stands in the result; the question itself is taken out before.
         Documents with and without titles, and plain BM25 over whole passages, stand beside.
Output:  results/compress_layouts.json, and a table on stdout.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import math
import re
import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from langchain_core.documents import Document
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from langchain_tokenopt.compress import PromptCompressor, join_documents
from langchain_tokenopt.compress.query_terms import query_words
from langchain_tokenopt.core.errors import BudgetInfeasibleError
from langchain_tokenopt.counting.request_tokens import count_messages
from langchain_tokenopt.text.stems import root
from tests.benchmarks.bench_compress import MODEL, documents_of, load, share, tokens_of
from tests.benchmarks.results import write_result
from tests.benchmarks.rivals_compress import DIVISORS, survives

Passages = Sequence[Document]
Write = Callable[[str, Passages], list[BaseMessage]]


@dataclass(frozen=True)
class Written:
    """A way to write question and passages."""

    write: Write
    titled: bool


LAYOUTS: dict[str, Written] = {}


def layout(*, titled: bool) -> Callable[[Write], Write]:
    """Register a layout."""

    def register(write: Write) -> Write:
        LAYOUTS[write.__name__] = Written(write, titled)
        return write

    return register


def title(document: Document) -> str:
    """Return the title of a passage."""
    return str(document.metadata["title"])


def texts(passages: Passages, between: str = "\n\n") -> str:
    """Return the passages without titles."""
    return between.join(p.page_content for p in passages)


def user(text: str) -> list[BaseMessage]:
    """Return one user message."""
    return [HumanMessage(text)]


# --- LangChain, LlamaIndex and their likes -------------------------------------------------------


@layout(titled=False)
def assistant_question_context_answer(q: str, ps: Passages) -> list[BaseMessage]:
    return user(
        "You are an assistant for question-answering tasks. Use the following pieces of retrieved "
        "context to answer the question. If you don't know the answer, just say that you don't "
        "know. Use three sentences maximum and keep the answer concise.\n"
        f"Question: {q} \nContext: {texts(ps)} \nAnswer:"
    )


@layout(titled=False)
def pieces_of_context(q: str, ps: Passages) -> list[BaseMessage]:
    return user(
        "Use the following pieces of context to answer the question at the end. If you don't know "
        "the answer, just say that you don't know, don't try to make up an answer.\n\n"
        f"{texts(ps)}\n\nQuestion: {q}\nHelpful Answer:"
    )


@layout(titled=False)
def following_context(q: str, ps: Passages) -> list[BaseMessage]:
    return user(
        f"Answer the question based only on the following context:\n{texts(ps)}\n\nQuestion: {q}\n"
    )


@layout(titled=False)
def context_in_system(q: str, ps: Passages) -> list[BaseMessage]:
    system = (
        "You are an assistant for question-answering tasks. Use the following pieces of retrieved "
        "context to answer the question. If you don't know the answer, say that you don't know. "
        "Use three sentences maximum and keep the answer concise.\n\n"
    )
    return [SystemMessage(system + texts(ps)), HumanMessage(q)]


@layout(titled=False)
def tagged_context_in_system(q: str, ps: Passages) -> list[BaseMessage]:
    system = "Answer any use questions based solely on the context below:\n\n<context>\n"
    return [SystemMessage(f"{system}{texts(ps)}\n</context>"), HumanMessage(q)]


@layout(titled=False)
def ruled_context_in_system(q: str, ps: Passages) -> list[BaseMessage]:
    system = (
        "Use the following pieces of context to answer the user's question. \nIf you don't know "
        "the answer, just say that you don't know, don't try to make up an answer.\n"
        "----------------\n"
    )
    return [SystemMessage(system + texts(ps)), HumanMessage(f"{q}?")]


@layout(titled=True)
def content_and_source(q: str, ps: Passages) -> list[BaseMessage]:
    parts = "\n".join(f"Content: {p.page_content}\nSource: {title(p)}" for p in ps)
    return user(
        "Given the following extracted parts of a long document and a question, create a final "
        'answer with references ("SOURCES"). \nIf you don\'t know the answer, just say that you '
        "don't know. Don't try to make up an answer.\nALWAYS return a \"SOURCES\" part in your "
        f"answer.\n\nQUESTION: {q}\n=========\n{parts}\n=========\nFINAL ANSWER:"
    )


@layout(titled=False)
def information_below(q: str, ps: Passages) -> list[BaseMessage]:
    return user(
        "Context information is below.\n---------------------\n"
        f"{texts(ps)}\n---------------------\n"
        "Given the context information and not prior knowledge, answer the query.\n"
        f"Query: {q}\nAnswer: "
    )


@layout(titled=True)
def file_paths_below(q: str, ps: Passages) -> list[BaseMessage]:
    parts = "\n\n".join(
        f"file_path: /data/{n}.txt\ntitle: {title(p)}\n\n{p.page_content}" for n, p in enumerate(ps)
    )
    return [
        SystemMessage("You are an expert Q&A system that is trusted around the world.\nSome rules "
                      "to follow:\n1. Never directly reference the given context in your answer.\n"
                      "2. Avoid statements like 'Based on the context, ...'."),
        HumanMessage(
            f"Context information is below.\n---------------------\n{parts}\n"
            "---------------------\nGiven the context information and not prior knowledge, answer "
            f"the query.\nQuery: {q}\nAnswer: "
        ),
    ]  # fmt: skip


@layout(titled=True)
def printed_documents(q: str, ps: Passages) -> list[BaseMessage]:
    """What a chain sends that forgot to join its documents."""
    return user(f"Answer from this context: {list(ps)!r}\n\nQuestion: {q}")


# --- marks ---------------------------------------------------------------------------------------


@layout(titled=True)
def numbered_with_titles(q: str, ps: Passages) -> list[BaseMessage]:
    parts = "\n".join(
        f"Document [{n}](Title: {title(p)}) {p.page_content}" for n, p in enumerate(ps, 1)
    )
    return user(
        "Write a high-quality answer for the given question using only the provided search "
        f"results (some of which might be irrelevant).\n\n{parts}\n\nQuestion: {q}\nAnswer:"
    )


@layout(titled=False)
def brackets(q: str, ps: Passages) -> list[BaseMessage]:
    parts = "\n\n".join(f"[{n}] {p.page_content}" for n, p in enumerate(ps, 1))
    return user(f"Cite the passages that you use by their numbers.\n\n{parts}\n\n{q}")


@layout(titled=True)
def numbered_bold(q: str, ps: Passages) -> list[BaseMessage]:
    parts = "\n".join(f"{n}. **{title(p)}**: {p.page_content}" for n, p in enumerate(ps, 1))
    return user(f"Here is what I found on the web:\n\n{parts}\n\nPlease tell me {q}.")


@layout(titled=True)
def nested_tags(q: str, ps: Passages) -> list[BaseMessage]:
    parts = "\n".join(
        f'<document index="{n}">\n<source>{title(p)}</source>\n<document_content>\n'
        f"{p.page_content}\n</document_content>\n</document>"
        for n, p in enumerate(ps, 1)
    )
    return user(f"<documents>\n{parts}\n</documents>\n\nFrom these documents, answer: {q}?")


@layout(titled=True)
def inline_tags(q: str, ps: Passages) -> list[BaseMessage]:
    parts = "\n".join(f'<hit rank="{n}" name="{title(p)}">{p.page_content}</hit>'
                      for n, p in enumerate(ps, 1))  # fmt: skip
    return user(f"<user_query>{q}</user_query>\n<hits>\n{parts}\n</hits>\nReply in one sentence.")


@layout(titled=True)
def markdown_headings(q: str, ps: Passages) -> list[BaseMessage]:
    parts = "\n\n".join(f"### {title(p)}\n\n{p.page_content}" for p in ps)
    return user(f"## Question\n\n{q}\n\n## Knowledge base\n\n{parts}")


@layout(titled=False)
def dashes_question_first(q: str, ps: Passages) -> list[BaseMessage]:
    return user(f"{q}\n\n---\n\n" + texts(ps, "\n\n---\n\n"))


@layout(titled=True)
def banners(q: str, ps: Passages) -> list[BaseMessage]:
    parts = "\n".join(f"===== {title(p)} =====\n{p.page_content}\n" for p in ps)
    return user(f"Notes of our wiki follow.\n\n{parts}\n\nMy question is: {q}")


@layout(titled=True)
def title_then_blank(q: str, ps: Passages) -> list[BaseMessage]:
    parts = "\n\n".join(f"{title(p)}\n\n{p.page_content}" for p in ps)
    return user(f"Read this carefully.\n\n{parts}\n\n{q}")


@layout(titled=False)
def blank_lines_only(q: str, ps: Passages) -> list[BaseMessage]:
    return user(f"{texts(ps)}\n\n{q}")


@layout(titled=False)
def a_line_each(q: str, ps: Passages) -> list[BaseMessage]:
    return user(f"Q: {q}\nFacts:\n{texts(ps, chr(10))}\nA:")


@layout(titled=False)
def letters(q: str, ps: Passages) -> list[BaseMessage]:
    parts = "\n\n".join(f"Passage {chr(ord('A') + n)}:\n{p.page_content}" for n, p in enumerate(ps))
    return user(f"{parts}\n\nUsing the passages above, find out {q}")


# --- records -------------------------------------------------------------------------------------


@layout(titled=True)
def json_list(q: str, ps: Passages) -> list[BaseMessage]:
    rows = [{"id": n, "title": title(p), "content": p.page_content} for n, p in enumerate(ps)]
    return user(f"Search results:\n{json.dumps(rows, indent=2)}\n\nAnswer this: {q}?")


@layout(titled=True)
def json_metadata_last(q: str, ps: Passages) -> list[BaseMessage]:
    rows = [{"page_content": p.page_content, "metadata": {"title": title(p)}} for p in ps]
    return [
        SystemMessage(f"You answer from the documents of our archive only.\n\nDocuments: "
                      f"{json.dumps(rows)}"),
        HumanMessage(q),
    ]  # fmt: skip


@layout(titled=True)
def json_lines(q: str, ps: Passages) -> list[BaseMessage]:
    rows = "\n".join(json.dumps({"name": title(p), "text": p.page_content}) for p in ps)
    return user(f"{q}\n\n```jsonl\n{rows}\n```")


@layout(titled=True)
def yaml_list(q: str, ps: Passages) -> list[BaseMessage]:
    rows = "\n".join(f"- title: {title(p)}\n  text: {p.page_content}" for p in ps)
    return user(f"question: {q}\npassages:\n{rows}\n")


@layout(titled=True)
def comma_separated(q: str, ps: Passages) -> list[BaseMessage]:
    file = io.StringIO()
    writer = csv.writer(file, quoting=csv.QUOTE_ALL)
    writer.writerow(["title", "text"])
    writer.writerows([title(p), p.page_content] for p in ps)
    return user(f"{file.getvalue()}\nWith this table, answer: {q}?")


@layout(titled=True)
def piped_table(q: str, ps: Passages) -> list[BaseMessage]:
    rows = "\n".join(f"| {title(p)} | {p.page_content} |" for p in ps)
    return user(f"| page | extract |\n|---|---|\n{rows}\n\n{q}?")


@layout(titled=True)
def hypertext(q: str, ps: Passages) -> list[BaseMessage]:
    parts = "\n".join(
        f'<div class="result"><h3>{title(p)}</h3><p>{p.page_content}</p></div>' for p in ps
    )
    return user(f"<html><body>\n{parts}\n</body></html>\n\n{q}")


@layout(titled=False)
def chat_export(q: str, ps: Passages) -> list[BaseMessage]:
    names = ("Ann Lee", "Bo", "Dr. Kim")
    lines = "\n".join(
        f"[12/05/2024, 09:{n:02}:11] {names[n % 3]}: {p.page_content}" for n, p in enumerate(ps)
    )
    return user(f"This is our team chat.\n\n{lines}\n\n{q}?")


# --- other languages, other places ---------------------------------------------------------------


@layout(titled=True)
def german(q: str, ps: Passages) -> list[BaseMessage]:
    parts = "\n\n".join(f"Fundstelle {n}: {title(p)}\n{p.page_content}" for n, p in enumerate(ps))
    return user(f"Beantworte die Frage nur mit den Fundstellen.\n\n{parts}\n\nFrage: {q}\nAntwort:")


@layout(titled=False)
def russian(q: str, ps: Passages) -> list[BaseMessage]:
    return user(f"Ответь на вопрос по контексту.\nВопрос: {q}\nКонтекст: {texts(ps)}\nОтвет:")


@layout(titled=False)
def japanese(q: str, ps: Passages) -> list[BaseMessage]:
    parts = "\n".join(f"【{n}】{p.page_content}" for n, p in enumerate(ps, 1))
    return user(f"次の資料を読んで質問に答えてください。\n\n{parts}\n\n質問：{q}")


@layout(titled=True)
def a_tool_found_it(q: str, ps: Passages) -> list[BaseMessage]:
    rows = [{"title": title(p), "snippet": p.page_content} for p in ps]
    call = {"name": "search", "args": {"q": q}, "id": "c1"}
    return [
        SystemMessage("You are a helpful assistant."),
        HumanMessage(q),
        AIMessage("", tool_calls=[call]),
        ToolMessage(json.dumps(rows), tool_call_id="c1"),
    ]


# --- measuring -----------------------------------------------------------------------------------


def shortened(
    question: dict[str, Any], written: Written, divisors: Sequence[int] = DIVISORS
) -> dict[int, str]:
    """Return what is left of a layout at each budget, without the question."""
    q, passages = question["question"], documents_of(question)
    messages = written.write(q, passages)
    frame = count_messages(written.write(q, []), model=MODEL).tokens
    added = count_messages(messages, model=MODEL).tokens - frame
    made = {}
    for divisor in divisors:
        budget = frame + 8 + added // divisor
        try:
            result = PromptCompressor(budget, model=MODEL, tool_results="select").compress(messages)
        except BudgetInfeasibleError:
            made[divisor] = ""
            continue
        left = "\n".join(m.text for m in result.content)
        assert result.tokens_after <= budget
        made[divisor] = without_escapes(left.replace(q, "")) if q in left else ""
    return made


def without_escapes(text: str) -> str:
    """Write the letters that JSON and Python's repr have escaped, as a model reads them."""
    return re.sub(r"\\(?:u([0-9a-f]{4})|x([0-9a-f]{2}))",
                  lambda found: chr(int(found[1] or found[2], 16)), text)  # fmt: skip


def as_documents(
    question: dict[str, Any], divisors: Sequence[int] = DIVISORS, *, titled: bool
) -> dict[int, str]:
    """Return what is left of documents at each budget."""
    documents = documents_of(question)
    if not titled:
        documents = [Document(d.page_content) for d in documents]
    whole = tokens_of(join_documents(documents))
    made = {}
    for divisor in divisors:
        shorten = PromptCompressor(whole // divisor, model=MODEL)
        made[divisor] = join_documents(shorten.compress(documents, question["question"]).content)
    return made


def bm25_passages(question: dict[str, Any], divisors: Sequence[int] = DIVISORS) -> dict[int, str]:
    """Return the best whole passages that fit, by Okapi BM25 without titles."""
    passages = [d.page_content for d in documents_of(question)]
    bags = [[root(w) for w in re.findall(r"\w+", p.lower())] for p in passages]
    average = sum(map(len, bags)) / len(bags)
    asked = {root(w) for w in query_words(question["question"])}
    found = {w: sum(w in bag for bag in bags) for w in asked}
    idf = {w: math.log(1 + (len(bags) - n + 0.5) / (n + 0.5)) for w, n in found.items()}

    def score(bag: list[str]) -> float:
        norm = 1.2 * (0.25 + 0.75 * len(bag) / average)
        return sum(idf[w] * bag.count(w) * 2.2 / (bag.count(w) + norm) for w in asked)

    order = sorted(range(len(bags)), key=lambda at: -score(bags[at]))
    sizes = [tokens_of(p) + 1 for p in passages]
    made = {}
    for divisor in divisors:
        left, kept = sum(sizes) // divisor, []
        for at in order:
            if sizes[at] <= left:
                kept.append(passages[at])
                left -= sizes[at]
        made[divisor] = "\n\n".join(kept)
    return made


BESIDE: dict[str, Callable[..., dict[int, str]]] = {
    "documents": partial(as_documents, titled=True),
    "documents without titles": partial(as_documents, titled=False),
    "plain BM25 over passages": bm25_passages,
}


def row(
    name: str, questions: Sequence[dict[str, Any]], divisors: Sequence[int]
) -> dict[int, float]:
    """Return the share of questions that can still be answered, by divisor."""
    hits: dict[int, list[bool]] = {divisor: [] for divisor in divisors}
    for question in questions:
        left = BESIDE[name] if name in BESIDE else partial(shortened, written=LAYOUTS[name])
        for divisor, text in left(question, divisors=divisors).items():
            hits[divisor].append(survives(text, question["answers"]))
    return {divisor: share(found) for divisor, found in hits.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--count", type=int, default=240)
    parser.add_argument("--skip", type=int, default=0)
    parser.add_argument("--judge", action="store_true")
    parser.add_argument("--at", type=int, nargs="*", default=list(DIVISORS))
    parser.add_argument("--only", nargs="*", default=[])
    options = parser.parse_args()
    name = "nq20_surrogate_dev" if options.judge else "nq20_train"
    questions = load(options.data, name)[options.skip : options.skip + options.count]
    names = [
        key for key in LAYOUTS if not options.only or any(part in key for part in options.only)
    ]
    everything = [*(() if options.only else BESIDE), *names]
    rows: dict[str, dict[int, float]] = {}
    with ProcessPoolExecutor(2) as processes:
        found = processes.map(partial(row, questions=questions, divisors=options.at), everything)
        for key, figures in zip(everything, found, strict=True):
            rows[key] = figures
            print(f"{key:36s} " + " ".join(f"{f:6.1f}" for f in figures.values()), flush=True)
    for titled in (True, False):
        mine = [rows[k] for k, w in LAYOUTS.items() if k in rows and w.titled is titled]
        if mine:
            for summary, of in (("mean", statistics.mean), ("worst", min)):
                figures = " ".join(f"{of([r[d] for r in mine]):6.1f}" for d in options.at)
                print(
                    f"{summary + (' with titles' if titled else ' without titles'):36s} {figures}"
                )
    if not options.only:
        command = f"python -m tests.benchmarks.compress_layouts --count {options.count}"
        at = "" if options.at == list(DIVISORS) else f" --at {' '.join(map(str, options.at))}"
        write_result(
            "compress_layouts",
            command + (" --judge" if options.judge else "") + at,
            {"questions": name, "survival": rows,
             "titled": {k: w.titled for k, w in LAYOUTS.items()}},
        )  # fmt: skip


if __name__ == "__main__":
    main()
