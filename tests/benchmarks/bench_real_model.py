"""Do answers of a real language model get worse when its prompt is shortened?

Run:     make bench-real-model DATA=DIR [QUESTIONS=N]
         (python -m tests.benchmarks.bench_real_model --data DIR --model PYTHON [--questions N])
Data:    nq20_surrogate_dev, 20 passages a question, in a fixed random order. Nothing is fitted.
Prompt:  one user message: instruction, passages without titles, a blank line between them,
         question, ``Answer:``, in the layout of LangChain's RAG prompts.
Rule:    an answer is right when a normalised accepted answer stands in it. Every method gets the
         same number of cl100k_base tokens for the context (1/2, 1/4, 1/10 of it). Differences
         from the whole prompt are paired: a 95 % interval by 10,000 bootstrap samples of the
         questions.
Note:    what a model of 135 M parameters shows is whether an answer is still found; it does not
         show what a large model would do with what was lost.
Output:  results/real_model.json and .md. Answers are kept in --answers by the prompt's hash, so
         that a run that was interrupted goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from langchain_core.messages import HumanMessage, trim_messages

from langchain_tokenopt.compress import PromptCompressor
from tests.benchmarks.bench_compress import Question, documents_of, load, plain_bm25, tokens_of
from tests.benchmarks.results import RESULTS, conditions, write_result
from tests.benchmarks.rivals_compress import survives

MODEL = "cl100k_base"
DIVISORS = (2, 4, 10)
WHOLE, NOTHING = "the whole prompt", "no context"
Case = tuple[Question, str]
"""A question and the name of a method with its share, such as ``PromptCompressor 1/4``."""


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
    made = PromptCompressor(budget + frame, model=MODEL, remember=0).compress(
        [HumanMessage(prompt)]
    )
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


def by_trim_messages(question: Question, budget: int) -> str:
    """Keep what LangChain's ``trim_messages`` keeps of passages in messages of their own."""
    passages = [HumanMessage(passage["text"]) for passage in question["ctxs"]]
    kept = trim_messages(
        passages,
        max_tokens=budget,
        strategy="last",
        token_counter=lambda messages: sum(tokens_of(str(m.content)) for m in messages),
    )
    return prompt_of(question, "\n\n".join(str(message.content) for message in kept))


METHODS: dict[str, Callable[[Question, int], str]] = {
    "head of the context": by_head,
    "trim_messages": by_trim_messages,
    "plain BM25 sentences": by_bm25,
    "PromptCompressor": by_compressor,
}


def prompts(question: Question, names: list[str]) -> Iterator[tuple[str, str]]:
    """Yield the name and the prompt of everything that is asked about one question."""
    yield WHOLE, prompt_of(question, context_of(question))
    yield NOTHING, prompt_of(question, "")
    size = tokens_of(context_of(question))
    for name in names:
        for divisor in DIVISORS:
            yield f"{name} 1/{divisor}", METHODS[name](question, size // divisor)


class Answers:
    """What the model answered, on disk by the hash of the prompt."""

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        self._known = {found["key"]: found for found in map(json.loads, lines)}

    def of(self, prompt: str) -> dict[str, Any] | None:
        """Return what was answered to *prompt*, if it was asked."""
        return self._known.get(self.key(prompt))

    def ask(self, asked: list[str], python: str) -> None:
        """Ask the model in the environment *python* what is not known yet."""
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


def figures(questions: list[Question], answers: Answers, names: list[str]) -> dict[str, Any]:
    """Return right answers and tokens by method, over the questions that were asked in full."""
    right: dict[str, list[bool]] = {}
    still: dict[str, list[bool]] = {}
    tokens: dict[str, list[int]] = {}
    for question in questions:
        found = {name: (p, answers.of(p)) for name, p in prompts(question, names)}
        if any(answer is None for _, answer in found.values()):
            continue
        for name, (prompt, answer) in found.items():
            assert answer is not None
            right.setdefault(name, []).append(survives(answer["answer"], question["answers"]))
            context = prompt.replace(question["question"], "")
            still.setdefault(name, []).append(survives(context, question["answers"]))
            tokens.setdefault(name, []).append(answer["prompt_tokens"])
    count = len(right[WHOLE])
    rows = {
        name: {
            "right": round(100 * sum(hits) / count, 1),
            "interval": wilson(sum(hits), count),
            "against_whole": interval(hits, right[WHOLE]),
            "answer_in_prompt": round(100 * sum(still[name]) / count, 1),
            "mean_prompt_tokens": round(sum(tokens[name]) / count),
        }
        for name, hits in right.items()
    }
    return {"questions": count, "rows": rows}


def table(found: dict[str, Any], command: str) -> str:
    """Return the Markdown table of the README."""
    where = conditions()
    lines = [
        f"A real, small model (SmolLM2-135M-Instruct, Q4_1 file unpacked to 16 bits, greedy), "
        f"{found['questions']} questions with 20 passages, one plain RAG message:",
        "",
        "| prompt | tokens (model's own) | answers right (95 %) | minus whole, paired (95 %) "
        "| an answer stands in the prompt |",
        "|---|---|---|---|---|",
    ]
    for name, row in found["rows"].items():
        low, high = row["interval"]
        down, up = row["against_whole"]
        difference = "" if name == WHOLE else f"{down:+.1f} to {up:+.1f}"
        lines.append(
            f"| {name} | {row['mean_prompt_tokens']:,} | {row['right']} % ({low} to {high}) "
            f"| {difference} | {row['answer_in_prompt']} % |"
        )
    lines += ["", f"`{command}`: python {where['python']}, {where['date']}."]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", required=True, help="the Python that has the language model")
    parser.add_argument("--questions", type=int, default=239)
    parser.add_argument("--answers", type=Path, default=Path(".benchmarks/real_model.jsonl"))
    parser.add_argument("--only", nargs="*", default=list(METHODS), help="methods to ask about")
    given = parser.parse_args()
    questions = load(given.data, "nq20_surrogate_dev")
    random.Random(7).shuffle(questions)
    questions = questions[: given.questions]
    given.answers.parent.mkdir(parents=True, exist_ok=True)
    answers = Answers(given.answers)
    answers.ask([p for q in questions for _, p in prompts(q, given.only)], given.model)
    found = figures(questions, answers, given.only)
    print(json.dumps(found, indent=1))
    if given.only == list(METHODS):
        command = f"make bench-real-model DATA=... QUESTIONS={given.questions}"
        write_result("real_model", command, found, "transformers", "torch")
        text = table(found, command) + "\n"
        (RESULTS / "real_model.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
