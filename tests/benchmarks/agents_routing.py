"""Routing: who asks the strong model for what, what a decision takes, what a cascade does.

Run:     make bench-agents DATA=folder
         (python -m tests.benchmarks.agents_routing --data DIR [--quick])
Output:  results/agents_routing.json; with --quick nothing is written.

gsm8k: 1,319 questions that Mixtral-8x7B and GPT-4 have answered (RouteLLM's published evaluation,
Apache-2.0; see the folder's README). Of each the router learns nothing but its numbers
(``routing/vectors.py``) and whether each model was right; a question is judged by what was learned
from the other four of five parts. APGR is the mean, over all shares of calls to the strong model,
of the part of the gap between the models that is closed. Each figure is the mean of four divisions
into parts; its interval (95 %) is of questions drawn anew 1,000 times, scored by three of the four.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import gzip
import io
import json
import random
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from langchain_tokenopt import ModelRouter, RateCard, optimize, track_usage
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.embeddings import LocalEmbeddings
from langchain_tokenopt.embeddings.minilm import offline_folder
from langchain_tokenopt.routing.complexity import features_of
from langchain_tokenopt.routing.outcomes import Knowledge, Outcome
from langchain_tokenopt.routing.vectors import Vector, vector_of
from tests.benchmarks.results import write_result

PARTS: Final = 5
DIVISIONS: Final = 4
DRAWS: Final = 1_000
REQUESTS: Final = 2_000
CHEAP: Final = "gpt-4.1-nano"
STRONG: Final = "gpt-4.1"
Scores = NDArray[np.float64]


# --- gsm8k


class Answers:
    """The questions, and whether each model was right."""

    def __init__(self, folder: Path, most: int | None) -> None:
        packed = (folder / "routing" / "gsm8k_responses.csv.gz").read_bytes()
        csv.field_size_limit(10**7)
        rows = list(csv.DictReader(io.StringIO(gzip.decompress(packed).decode("utf-8"))))[:most]
        self.questions = [row["prompt"] for row in rows]
        weak, strong = ("mistralai/Mixtral-8x7B-Instruct-v0.1", "gpt-4-1106-preview")
        self.weak = np.array([row[weak] == "True" for row in rows], float)
        self.strong = np.array([row[strong] == "True" for row in rows], float)
        features = [features_of([HumanMessage(text)]) for text in self.questions]
        self.vectors = [*map(vector_of, self.questions, features)]
        meanings = _embedder().embed_documents(self.questions)
        self.embedded = [*map(vector_of, self.questions, features, meanings)]

    def __len__(self) -> int:
        return len(self.questions)


def curve(scores: Scores, weak: Scores, strong: Scores) -> Scores:
    """Return the part of the gap that is closed, by how many calls go to the strong model."""
    order = np.argsort(-scores, kind="stable")
    closed = np.concatenate([[0.0], np.cumsum((strong - weak)[order])])
    found: Scores = closed / (strong - weak).sum()
    return found


def apgr(scores: Scores, weak: Scores, strong: Scores) -> float:
    """Return the mean of the curve."""
    return float(np.trapezoid(curve(scores, weak, strong), dx=1 / len(weak)))


def share_for(part: float, scores: Scores, weak: Scores, strong: Scores) -> float:
    """Return the share of strong calls that closes a part of the gap."""
    reached = np.flatnonzero(curve(scores, weak, strong) >= part)
    return float(reached[0]) / len(weak)


def _embedder() -> LocalEmbeddings:
    folder = offline_folder()
    return LocalEmbeddings() if folder is None else LocalEmbeddings(str(folder))


def learned(answers: Answers, vectors: Sequence[Vector], seed: int) -> Scores:
    """Return what the router expects to gain, each question judged by the other four parts."""
    place = np.random.default_rng(seed).permutation(len(answers)) % PARTS
    scores = np.zeros(len(answers))
    for part in range(PARTS):
        known, judged = np.flatnonzero(place != part), np.flatnonzero(place == part)
        outcomes = [
            Outcome(tier, float(right[n]), vectors[n])
            for n in known
            for tier, right in (("weak", answers.weak), ("strong", answers.strong))
        ]
        gains = Knowledge(outcomes).gains([vectors[n] for n in judged], "weak", "strong")
        assert gains is not None
        scores[judged] = gains
    return scores


def tf_idf(answers: Answers, seed: int) -> Scores:
    """Return the chance that the weak model is wrong, by the words of the question alone."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    place = np.random.default_rng(seed).permutation(len(answers)) % PARTS
    scores, texts = np.zeros(len(answers)), np.array(answers.questions, object)
    for part in range(PARTS):
        words = TfidfVectorizer(sublinear_tf=True, min_df=2)
        rows = words.fit_transform(texts[place != part])
        model = LogisticRegression(max_iter=1_000).fit(rows, answers.weak[place != part])
        scores[place == part] = -model.predict_proba(words.transform(texts[place == part]))[:, 1]
    return scores


def ways(answers: Answers, divisions: int) -> dict[str, list[Scores]]:
    """Return the scores of each way, once for each division."""
    draws = [np.random.default_rng(seed).random(len(answers)) for seed in range(divisions)]
    length = np.array([len(text) for text in answers.questions], float)
    rules = [features_of([HumanMessage(text)]).difficulty for text in answers.questions]
    return {
        "ModelRouter, learned": [
            learned(answers, answers.vectors, seed) for seed in range(divisions)
        ],
        "ModelRouter, learned, with embeddings": [
            learned(answers, answers.embedded, seed) for seed in range(divisions)
        ],
        "ModelRouter, before any outcome": [np.array(rules)],
        "prompt length": [length],
        "tf-idf and logistic regression": [tf_idf(answers, seed) for seed in range(divisions)],
        "random": draws,
        "oracle": [answers.strong - answers.weak],
    }


def quality(answers: Answers, divisions: int, draws: int) -> dict[str, Any]:
    """Judge each way, and by how much the first is ahead of the length of the prompt."""
    scored, found = ways(answers, divisions), {}
    rng = np.random.default_rng(7)
    drawn = [rng.integers(0, len(answers), len(answers)) for _ in range(draws)]

    def mean(scores: Sequence[Scores], rows: Any = slice(None)) -> float:
        sides = answers.weak[rows], answers.strong[rows]
        return statistics.fmean(apgr(one[rows], *sides) for one in scores)

    by_draw = {name: [mean(s[:3], rows) for rows in drawn] for name, s in scored.items()}
    for name, scores in scored.items():
        sides = answers.weak, answers.strong
        low, high = np.quantile(by_draw[name], [0.025, 0.975])
        found[name] = {
            "apgr": round(mean(scores), 4),
            "low": round(float(low), 4),
            "high": round(float(high), 4),
            "by_division": [round(apgr(one, *sides), 4) for one in scores],
            **{
                f"cpt{part}": round(
                    statistics.fmean(share_for(part / 100, one, *sides) for one in scores), 4
                )
                for part in (50, 80)
            },
        }
    ahead = {}
    for name in ("ModelRouter, learned", "ModelRouter, learned, with embeddings"):
        more = np.subtract(by_draw[name], by_draw["prompt length"])
        low, high = np.quantile(more, [0.025, 0.975])
        ahead[name] = {"low": round(float(low), 4), "high": round(float(high), 4)}
    return {
        "questions": len(answers),
        "weak_right": int(answers.weak.sum()),
        "strong_right": int(answers.strong.sum()),
        "parts": PARTS,
        "divisions": divisions,
        "draws": draws,
        "ways": found,
        "ahead_of_length": ahead,
    }


# --- time


class Scripted(BaseChatModel):
    """A model that answers as it is told to, and reports what it used."""

    model_name: str
    answer: Any
    calls: list[str] = Field(default_factory=list)
    """What it was asked; copies of the model share it."""

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        return {"ls_provider": "openai", "ls_model_name": self.model_name, "ls_model_type": "chat"}

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        self.calls.append(messages[-1].text)
        text = self.answer(messages[-1].text)
        sent, wrote = len(messages[-1].text) // 4 + 8, len(text) // 4 + 1
        message = AIMessage(
            text,
            usage_metadata={
                "input_tokens": sent, "output_tokens": wrote, "total_tokens": sent + wrote,
            },
            response_metadata={"model_name": self.model_name, "finish_reason": "stop"},
        )  # fmt: skip
        return ChatResult(generations=[ChatGeneration(message=message)])


def timed(call: Callable[[str], Any], texts: Sequence[str]) -> dict[str, float]:
    """Return the milliseconds of a call, median and 95th percentile: those of its own work.

    By the clock on the wall it waits for whatever else runs on the machine.
    """
    for text in texts[:50]:
        call(text)
    work, wall = [], []
    for text in texts:
        began, worked = time.perf_counter(), time.thread_time()
        call(text)
        work.append(1e3 * (time.thread_time() - worked))
        wall.append(1e3 * (time.perf_counter() - began))
    p50, p95 = (round(float(q), 3) for q in np.quantile(work, [0.5, 0.95]))
    wall50, wall95 = (round(float(q), 3) for q in np.quantile(wall, [0.5, 0.95]))
    return {"p50": p50, "p95": p95, "wall_p50": wall50, "wall_p95": wall95, "n": len(work)}


def decisions(questions: Sequence[str]) -> dict[str, Any]:
    """Time decisions with nothing known, with 2,000 outcomes, and about long prompts."""
    tiers = {
        "cheap": Scripted(model_name=CHEAP, answer=lambda text: "4"),
        "strong": Scripted(model_name=STRONG, answer=lambda text: "4"),
    }
    router = ModelRouter(tiers)
    found = {"nothing_known": timed(router.explain, questions)}
    model, rng = optimize(tiers["strong"], router), random.Random(3)
    for number in range(2_000):
        answer = model.invoke(f"{questions[number % len(questions)]} {number}")
        router.report(answer, rng.random() < 0.7)
    found["2,000_outcomes"] = timed(router.explain, questions)
    words = " ".join(questions[:400]).split()
    long = [" ".join(words[n : n + 5_000]) + "\n\nWho is it?" for n in range(0, 2_000, 10)]
    found["5,000_words"] = timed(router.explain, long)
    plain, routed = tiers["strong"], optimize(tiers["strong"], ModelRouter(tiers))
    found["call"] = {
        "plain": timed(plain.invoke, questions),
        "routed": timed(routed.invoke, questions),
    }
    return found


# --- a cascade


class Row(BaseModel):
    """What is to be read out of a request."""

    name: str
    euros: float


def sloppy(share: float, salt: str) -> Callable[[str], str]:
    """Return what writes a row, and by chance what is none, the same for the same text."""

    def write(text: str) -> str:
        draw = random.Random(f"{salt} {text}")
        if draw.random() >= share:
            return json.dumps({"name": "Ada", "euros": 3.5})
        return draw.choice(
            [
                '{"name": "Ada"}',
                '{"name": "Ada", "euros": "three"}',
                "Ada paid 3.50 euros.",
                '{"name": "Ada", "euros": 3.5',
            ]
        )

    return write


def parses(text: str) -> bool:
    """Whether a program can read the answer."""
    try:
        Row.model_validate_json(text)
    except ValueError:
        return False
    return True


def cascade(requests: int) -> dict[str, Any]:
    """Ask each model alone, and the cascade in four ways: how much parses, and what it costs."""
    texts = [f"Order {n}: Ada paid some euros for item {n * 7919 % 997}." for n in range(requests)]

    def tiers() -> dict[str, Any]:
        return {
            "cheap": Scripted(model_name=CHEAP, answer=sloppy(0.3, "cheap")),
            "strong": Scripted(model_name=STRONG, answer=sloppy(0.05, "strong")),
        }

    def measured(model: Any, form: str, there: dict[str, Any]) -> dict[str, Any]:
        with track_usage() as usage:
            if form == "invoke":
                answers = [model.invoke(text).text for text in texts]
            elif form == "stream":
                answers = ["".join(p.text for p in model.stream(text)) for text in texts]
            else:
                answers = asyncio.run(_answers(model, texts))
        totals = usage.totals()
        card, asked = RateCard(), {name: len(one.calls) for name, one in there.items()}
        billed = sum(
            card.price(Usage(r.usage.input_tokens, r.usage.output_tokens), r.model, r.provider)
            .cost_nano_usd or 0
            for r in usage.records
        )  # fmt: skip
        return {
            "parsed": sum(map(parses, answers)),
            "asked": asked,
            "calls_recorded": totals.calls,
            "tokens": totals.total_tokens,
            "cost_usd": float(totals.cost_usd or 0),
            "billed_usd": billed / 1e9,
        }

    found: dict[str, Any] = {"requests": requests}
    for name in ("cheap", "strong"):
        there = tiers()
        found[f"{name} alone"] = measured(optimize(there[name]), "invoke", there)
    for form in ("invoke", "ainvoke", "stream"):
        there = tiers()
        model = optimize(there["strong"], ModelRouter(there, cascade=Row, learn=False))
        found[f"cascade, {form}"] = measured(model, form, there)
    return found


async def _answers(model: Any, texts: Sequence[str]) -> list[str]:
    return [(await model.ainvoke(text)).text for text in texts]


# --- all


def failures(found: dict[str, Any]) -> list[str]:
    """Return what is not as it must be, whatever the figures of quality are."""
    said, tried = [], found["cascade"]
    for form in ("invoke", "ainvoke", "stream"):
        one = tried[f"cascade, {form}"]
        if one["parsed"] < tried["strong alone"]["parsed"]:
            said.append(f"a cascade by {form} parses less often than the strong model alone")
        if one["calls_recorded"] != sum(one["asked"].values()):
            said.append(f"a cascade by {form} has asked otherwise than it has recorded")
    slowest = max(found["decisions"][name]["p95"] for name in ("nothing_known", "2,000_outcomes"))
    if slowest > 2.0:
        said.append(f"a decision takes {slowest} ms (p95); it may take 2")
    return said


def main() -> int:
    """Measure all, print the figures, and write them where they are whole."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, help="folder of data sets")
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    warnings.filterwarnings("ignore", category=RuntimeWarning)
    if given.data is None or not (given.data / "routing").is_dir():
        print("routing: no data (--data DIR with routing/gsm8k_responses.csv.gz): left out")
        return 0
    answers = Answers(given.data, 400 if given.quick else None)
    divisions, draws = (2, 50) if given.quick else (DIVISIONS, DRAWS)
    found = {
        "gsm8k": quality(answers, divisions, draws),
        "decisions": decisions(answers.questions[:200] if given.quick else answers.questions),
        "cascade": cascade(200 if given.quick else REQUESTS),
    }
    for name, way in found["gsm8k"]["ways"].items():
        print(f"{name:40} APGR {way['apgr']:.3f} ({way['low']:.3f} to {way['high']:.3f})")
    print(json.dumps({name: found[name] for name in ("decisions", "cascade")}, indent=1))
    said = failures(found)
    print("\n".join(said) or "as it must be")
    if not given.quick:
        command = "python -m tests.benchmarks.bench_agents --only routing --data DIR"
        print(write_result("agents_routing", command, found, "scikit-learn"))
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main())
