"""Do answers of a real language model get worse when its prompt is shortened?

Run:     make bench-real-model DATA=DIR [QUESTIONS=N] [MINUTES=M]
         (python -m tests.benchmarks.bench_real_model --data DIR --model PYTHON ...)
Data:    nq20_surrogate_dev, 20 passages a question, in a fixed random order. Nothing is fitted.
Prompt:  one user message: instruction, passages without titles, a blank line between them,
         question, ``Answer:``, in the layout of LangChain's RAG prompts.
Rule:    an answer is right when a normalised accepted answer stands in it. Every way gets the
         same number of cl100k_base tokens for the context (1/2, 1/4, 1/10 of it). Differences
         from the whole prompt are paired over the questions that both were asked: a 95 % interval
         by 10,000 bootstrap samples of the questions, and McNemar's exact test.
Order:   all questions in one way before the next way, the most telling ways first, so that a run
         that is short of time has few ways and all questions. n is said for each way.
Note:    what a model of 135 M parameters shows is whether an answer is still found; it does not
         show what a large model would do with what was lost.
Output:  results/real_model.json and .md. Answers are kept in --answers by the prompt's hash, so
         that an interrupted run goes on and a changed compressor asks only changed prompts.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from langchain_core.messages import HumanMessage

from langchain_tokenopt.compress import PromptCompressor
from tests.benchmarks.bench_compress import Question, documents_of, load, plain_bm25, tokens_of
from tests.benchmarks.results import RESULTS, conditions, write_result
from tests.benchmarks.rivals_compress import survives

MODEL = "cl100k_base"
WHOLE = "the whole prompt"


def prompt_of(question: Question, context: str) -> str:
    """Write the prompt of a plain RAG chain."""
    return (
        "Use these pieces of context to answer the question at the end. Keep the answer short.\n\n"
        f"{context}\n\nQuestion: {question['question']}\nAnswer:"
    )


def context_of(question: Question) -> str:
    """Join the passages without their titles."""
    return "\n\n".join(passage["text"] for passage in question["ctxs"])


def by_compressor(question: Question, budget: int) -> str:
    prompt = prompt_of(question, context_of(question))
    frame = tokens_of(prompt_of(question, ""))
    made = PromptCompressor(
        budget + frame, model=MODEL, remember=0, on_infeasible="drop_lowest"
    ).compress([HumanMessage(prompt)])
    return str(made.content[0].content)


def by_head(question: Question, budget: int) -> str:
    text = context_of(question)
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if tokens_of(text[:middle]) <= budget else (low, middle - 1)
    return prompt_of(question, text[:low])


def by_bm25(question: Question, budget: int) -> str:
    return prompt_of(question, plain_bm25(question, documents_of(question), budget))


def by_none(question: Question, budget: int) -> str:
    return prompt_of(question, "")


def whole(question: Question, budget: int) -> str:
    return prompt_of(question, context_of(question))


WAYS: dict[str, tuple[Callable[[Question, int], str], int]] = {
    WHOLE: (whole, 1),
    "PromptCompressor 1/4": (by_compressor, 4),
    "PromptCompressor 1/10": (by_compressor, 10),
    "plain BM25 sentences 1/4": (by_bm25, 4),
    "head of the context 1/4": (by_head, 4),
    "PromptCompressor 1/2": (by_compressor, 2),
    "plain BM25 sentences 1/10": (by_bm25, 10),
    "no context": (by_none, 1),
    "head of the context 1/10": (by_head, 10),
    "plain BM25 sentences 1/2": (by_bm25, 2),
    "head of the context 1/2": (by_head, 2),
}
"""How a prompt is made and from which share of the context, in the order of asking."""
TOGETHER = 2
"""So many of the first ways are asked question by question, as pairs."""


def prompts_of(question: Question, names: list[str]) -> dict[str, str]:
    """Return the prompts of the ways *names* to ask one question."""
    size = tokens_of(context_of(question))
    return {name: WAYS[name][0](question, size // WAYS[name][1]) for name in names}


def in_order(prompts: list[dict[str, str]], names: list[str]) -> list[str]:
    """Return the prompts of the ways *names* in the order of asking."""
    rounds = [names[:TOGETHER], *([name] for name in names[TOGETHER:])]
    return [made[name] for ways in rounds for made in prompts for name in ways]


class Answers:
    """What the model answered, on disk by the hash of the prompt."""

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        self._known = {found["key"]: found for found in map(json.loads, lines)}

    def of(self, prompt: str) -> dict[str, Any] | None:
        """Return what was answered to *prompt*, if it was asked."""
        return self._known.get(self.key(prompt))

    def ask(self, asked: list[str], python: str, until: float) -> None:
        """Ask the model in the environment *python* what is not known, for as long as it may."""
        missing = {self.key(p): p for p in asked if self.of(p) is None}
        lines = [json.dumps({"key": key, "prompt": prompt}) for key, prompt in missing.items()]
        script = Path(__file__).parent / "real_model.py"
        environment = {**os.environ, "PYTHONPATH": "", "HF_HUB_OFFLINE": "1"}
        with (
            self._path.open("a", encoding="utf-8") as file,
            subprocess.Popen(
                [python, "-W", "ignore", str(script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=environment,
            ) as process,
        ):
            assert process.stdin is not None
            assert process.stdout is not None
            for number, line in enumerate(lines, 1):
                if time.monotonic() > until:
                    break
                process.stdin.write(line + "\n")
                process.stdin.flush()
                found = json.loads(process.stdout.readline())
                self._known[found["key"]] = found
                file.write(json.dumps(found) + "\n")
                file.flush()
                if number % 50 == 0:
                    print(f"  {number} of {len(lines)} prompts", flush=True)
            process.stdin.close()

    @staticmethod
    def key(prompt: str) -> str:
        """Return the name of *prompt* in the file."""
        return hashlib.sha256(prompt.encode()).hexdigest()[:32]


def interval(right: list[bool], whole: list[bool]) -> tuple[float, float]:
    """Return a 95 % interval of the paired difference from *whole*, in points."""
    pick = random.Random(1)
    pairs = [int(a) - int(b) for a, b in zip(right, whole, strict=True)]
    means = sorted(sum(pick.choices(pairs, k=len(pairs))) / len(pairs) for _ in range(10_000))
    return round(100 * means[250], 1), round(100 * means[9749], 1)


def wilson(hits: int, of: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share, in percent (Wilson 1927)."""
    z, p = 1.96, hits / of
    middle = (p + z * z / (2 * of)) / (1 + z * z / of)
    half = z * math.sqrt(p * (1 - p) / of + z * z / (4 * of * of)) / (1 + z * z / of)
    return round(100 * (middle - half), 1), round(100 * (middle + half), 1)


def mcnemar(gained: int, lost: int) -> float:
    """Return the two-sided exact probability of so uneven a split (McNemar 1947)."""
    pairs = gained + lost
    tail = sum(math.comb(pairs, k) for k in range(min(gained, lost) + 1)) / 2**pairs
    return round(min(1.0, 2 * tail), 3)


def figures(
    questions: list[Question], prompts: list[dict[str, str]], answers: Answers
) -> dict[str, Any]:
    """Return right answers and tokens by way, over the questions that were asked in it."""
    rows: dict[str, Any] = {}
    right: dict[str, dict[int, bool]] = {name: {} for name in prompts[0]}
    for name, hits in right.items():
        still, tokens = [], []
        for number, (question, made) in enumerate(zip(questions, prompts, strict=True)):
            found = answers.of(made[name])
            if found is None:
                continue
            hits[number] = survives(found["answer"], question["answers"])
            context = made[name].replace(question["question"], "")
            still.append(survives(context, question["answers"]))
            tokens.append(found["prompt_tokens"])
        both = [number for number in hits if number in right[WHOLE]]
        if not both:
            continue
        gained = sum(hits[n] > right[WHOLE][n] for n in both)
        lost = sum(hits[n] < right[WHOLE][n] for n in both)
        rows[name] = {
            "questions": len(hits),
            "right": round(100 * sum(hits.values()) / len(hits), 1),
            "interval": wilson(sum(hits.values()), len(hits)),
            "pairs": len(both),
            "gained": gained,
            "lost": lost,
            "against_whole": interval([hits[n] for n in both], [right[WHOLE][n] for n in both]),
            "mcnemar_p": mcnemar(gained, lost),
            "answer_in_prompt": round(100 * sum(still) / len(still), 1),
            "mean_prompt_tokens": round(sum(tokens) / len(tokens)),
        }
    return {"rows": rows}


def table(found: dict[str, Any], command: str) -> str:
    """Return the Markdown table of the README."""
    where = conditions()
    lines = [
        "A real, small model (SmolLM2-135M-Instruct, Q4_1 file unpacked to 16 bits, greedy), "
        "questions with 20 passages, one plain RAG message; against the whole prompt, question by "
        "question:",
        "",
        "| prompt | n | tokens (model's own) | answers right (95 %) | minus whole (95 %) "
        "| newly right, newly wrong (p) | an answer stands in the prompt |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in found["rows"].items():
        low, high = row["interval"]
        down, up = row["against_whole"]
        difference = "" if name == WHOLE else f"{down:+.1f} to {up:+.1f}"
        changes = "" if name == WHOLE else f"{row['gained']}, {row['lost']} ({row['mcnemar_p']})"
        lines.append(
            f"| {name} | {row['questions']} | {row['mean_prompt_tokens']:,} "
            f"| {row['right']} % ({low} to {high}) | {difference} | {changes} "
            f"| {row['answer_in_prompt']} % |"
        )
    lines += ["", f"`{command}`: python {where['python']}, {where['date']}."]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", required=True, help="the Python that has the language model")
    parser.add_argument("--questions", type=int, default=239)
    parser.add_argument("--answers", type=Path, default=Path(".benchmarks/real_model.jsonl"))
    parser.add_argument("--minutes", type=float, default=math.inf, help="ask no longer than this")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), help="ways to ask in, in order")
    given = parser.parse_args()
    until = time.monotonic() + 60 * given.minutes
    questions = load(given.data, "nq20_surrogate_dev")
    random.Random(7).shuffle(questions)
    questions = questions[: given.questions]
    given.answers.parent.mkdir(parents=True, exist_ok=True)
    answers = Answers(given.answers)
    prompts = [prompts_of(question, given.ways) for question in questions]
    answers.ask(in_order(prompts, given.ways), given.model, until)
    found = figures(questions, prompts, answers)
    print(json.dumps(found, indent=1))
    command = f"make bench-real-model DATA=... QUESTIONS={given.questions}"
    write_result("real_model", command, found, "transformers", "torch")
    text = table(found, command) + "\n"
    (RESULTS / "real_model.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
