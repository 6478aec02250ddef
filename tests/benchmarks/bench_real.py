"""Limits, cache and budget with a real language model: are answers as good as without?

Run:     make bench-real DATA=folder [QUESTIONS=20]
         (python -m tests.benchmarks.bench_real --data DIR --model PYTHON [--questions N])
Data:    questions of nq20_surrogate_dev, each with the passage that holds the answer; the sample
         documents of the desk. Nothing is fitted.
Model:   SmolLM2-135M-Instruct (real_model.py), greedy.
Limit:   answers of up to 64 tokens, without a limit and with WordLimit(15): right answers (an
         accepted answer stands in it), words and tokens.
Cache:   each question is asked without its passage, then again in another writing (polite words,
         case, punctuation). With the passage none is served: text that stands for itself is
         compared exactly.
         The served answer is as good as a fresh one if both are right or both are wrong.
Desk:    the eleven agents without a budget, and with one of half the tokens: tokens, and reports
         that a model wrote.
Note:    what 135 M parameters show is whether things still work with a model that is not scripted,
         obeys badly and is often wrong. They do not show what a large model would lose.
Output:  results/real.json and .md.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from langchain_core.messages import HumanMessage

from langchain_tokenopt import BudgetPlan, SemanticCache, WordLimit, budget_graph, optimize
from langchain_tokenopt.examples.trading_desk import QUESTION, build_desk, sample_documents
from langchain_tokenopt.text.words import count_words
from langchain_tokenopt.tracking.callbacks import track_usage
from tests.benchmarks.bench_compress import Question, load
from tests.benchmarks.bench_real_model import wilson
from tests.benchmarks.results import RESULTS, write_result
from tests.benchmarks.rivals_compress import survives
from tests.benchmarks.small_chat_model import SmallChatModel

WORDS = 15
REWORDED: tuple[Callable[[str], str], ...] = (
    lambda q: f"Please: {q}?",
    lambda q: f"{q[0].upper()}{q[1:]}?",
    lambda q: f"{q} ?",
    lambda q: f"Hello! {q}? Thank you.",
)
PROMPT_CHARACTERS = 6_000
"""Of the desk's documents, so that a prompt fits the model's window of 8,192 tokens."""


def asked(question: Question, text: str) -> list[HumanMessage]:
    """Write a prompt with the passage that holds the answer."""
    passages = [c["text"] for c in question["ctxs"] if survives(c["text"], question["answers"])]
    return [HumanMessage(f"{passages[0]}\n\nAnswer from this text: {text}")]


def limits(model: SmallChatModel, questions: list[Question]) -> dict[str, Any]:
    """Ask without and with a word limit."""
    found: dict[str, Any] = {}
    for name, chat in (
        ("no limit", model),
        (f"WordLimit({WORDS})", optimize(model, WordLimit(WORDS))),
    ):
        right, words = [], []
        with track_usage() as usage:
            for question in questions:
                text = chat.invoke(asked(question, question["question"])).text
                right.append(survives(text, question["answers"]))
                words.append(count_words(text))
        found[name] = {
            "right": f"{sum(right)} of {len(right)}",
            "interval %": wilson(sum(right), len(right)),
            "words, most": max(words),
            "output tokens": usage.totals().output_tokens,
        }
    return found


def cache(model: SmallChatModel, questions: list[Question]) -> dict[str, Any]:
    """Ask each question twice, in two writings."""
    served = same = right_served = right_fresh = 0
    with SemanticCache() as kept:
        cached = optimize(model, kept)
        for number, question in enumerate(questions):
            text = question["question"]
            other = REWORDED[number % len(REWORDED)](text)
            cached.invoke(text)
            with track_usage() as usage:
                answer = cached.invoke(other).text
            if not usage.totals().cached_calls:
                continue
            fresh = model.invoke(other).text
            served += 1
            was_right, is_right = (survives(t, question["answers"]) for t in (answer, fresh))
            right_served += was_right
            right_fresh += is_right
            same += was_right == is_right
    return {
        "asked again": len(questions),
        "served": served,
        "served answers right": right_served,
        "fresh answers right": right_fresh,
        "both right or both wrong": same,
    }


def desk(model: SmallChatModel) -> dict[str, Any]:
    """Run the desk without and with a budget."""
    documents = sample_documents()
    plain = build_desk(model, documents, prompt_characters=PROMPT_CHARACTERS).compile()
    with track_usage() as usage:
        before = plain.invoke({"question": QUESTION, "reports": {}})
    total = usage.totals().total_tokens // 2
    plan = BudgetPlan(total_tokens=total)
    capped = build_desk(optimize(model, plan), documents, prompt_characters=PROMPT_CHARACTERS)
    with plan.run(thread_id="desk") as run, track_usage() as budgeted:
        after = budget_graph(capped, plan).compile().invoke({"question": QUESTION, "reports": {}})
        spent = run.report().account.spent_tokens
    return {
        "tokens without": usage.totals().total_tokens,
        "total with": total,
        "spent with": spent,
        "billed with": budgeted.totals().total_tokens,
        "reports without": _reports(before["reports"]),
        "reports with": _reports(after["reports"]),
    }


def _reports(reports: dict[str, str]) -> str:
    real = [text for text in reports.values() if text.strip() and not text.startswith("[")]
    return f"{len(real)} of {len(reports)} real"


def table(found: dict[str, Any]) -> str:
    """Return the tables of the README."""
    lines = [
        "| answers | right (95 %) | words, most | output tokens |",
        "| --- | --- | --- | --- |",
    ]
    lines += [
        f"| {name} | {row['right']} ({row['interval %'][0]} to {row['interval %'][1]} %) | "
        f"{row['words, most']} | {row['output tokens']:,} |"
        for name, row in found["limits"].items()
    ]
    kept, run = found["cache"], found["desk"]
    lines += [
        "",
        f"Cache: {kept['served']} of {kept['asked again']} questions in another writing were "
        f"served; {kept['served answers right']} of them right, fresh answers "
        f"{kept['fresh answers right']}; both right or both wrong: "
        f"{kept['both right or both wrong']}.",
    ]
    if run:
        lines += [
            "",
            f"Desk: {run['tokens without']:,} tokens without a budget, {run['billed with']:,} "
            f"billed under a total of {run['total with']:,}; reports that the model wrote: "
            f"{run['reports without']} without, {run['reports with']} with.",
        ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", required=True, help="the Python that has the language model")
    parser.add_argument("--questions", type=int, default=20)
    parser.add_argument("--answers", type=Path, default=Path(".benchmarks/real.jsonl"))
    parser.add_argument("--no-desk", action="store_true")
    given = parser.parse_args()
    given.answers.parent.mkdir(parents=True, exist_ok=True)
    questions = [
        question
        for question in load(given.data, "nq20_surrogate_dev")
        if any(survives(c["text"], question["answers"]) for c in question["ctxs"])
    ]
    random.Random(7).shuffle(questions)
    questions = questions[: given.questions]
    model = SmallChatModel(python=given.model, answers=given.answers)
    found = {
        "limits": limits(model, questions),
        "cache": cache(model, questions),
        "desk": {} if given.no_desk else desk(model),
    }
    model.close()
    print(json.dumps(found, indent=1))
    command = f"make bench-real DATA=... QUESTIONS={given.questions}"
    write_result("real", command, found, "transformers", "torch")
    (RESULTS / "real.md").write_text(table(found), encoding="utf-8")


if __name__ == "__main__":
    main()
