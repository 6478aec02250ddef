"""Run the rivals of the compressor in their own environment; called by ``bench_compress``.

Imports nothing of ours. Reads questions as JSON lines on stdin (question, answers, passages as
``[title, text]``, budgets in cl100k_base tokens), writes one JSON object with a row per rival.
"""

from __future__ import annotations

import json
import re
import string
import sys
from importlib.metadata import version

DIVISORS = (2, 4, 10, 20)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_DROP_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalised(text: str) -> str:
    """Lower case, no punctuation, no articles: as answers to Natural Questions are compared."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_DROP_PUNCTUATION)).split())


def survives(text: str, answers: list[str]) -> bool:
    """Say whether an accepted answer still stands in *text*."""
    found = normalised(text)
    return any(normalised(answer) in found for answer in answers)


def joined(passages: list[list[str]]) -> str:
    return "\n\n".join(f"{title}\n{text}" for title, text in passages)


def headroom_rows(questions: list[dict]) -> dict:
    from headroom.transforms.text_crusher import TextCrusher

    crusher = TextCrusher()
    kept = dict.fromkeys(DIVISORS, 0)
    texts: dict[int, list[str]] = {k: [] for k in DIVISORS}
    for q in questions:
        for k in DIVISORS:
            made = crusher.compress(joined(q["passages"]), q["question"], 1 / k).compressed
            kept[k] += survives(made, q["answers"])
            texts[k].append(made)
    return {
        "rival": f"headroom-ai {version('headroom-ai')} TextCrusher",
        "survival": {str(k): 100 * kept[k] / len(questions) for k in DIVISORS},
        "texts": {str(k): texts[k] for k in DIVISORS},
    }


def llmlingua_rows(questions: list[dict]) -> dict:
    from llmlingua import PromptCompressor

    bare = object.__new__(PromptCompressor)  # its constructor loads a 7B model; BM25 needs none
    kept = dict.fromkeys(DIVISORS, 0)
    first = 0
    for q in questions:
        texts = [f"{title}\n{text}" for title, text in q["passages"]]
        ranked = bare.get_rank_results(texts, q["question"], "bm25", "none", [1] * len(texts))
        order = [entry[0] for entry in ranked]
        first += order[0] == q["gold"]
        for k in DIVISORS:
            left, chosen = q["budgets"][str(k)], []
            for at in order:
                if q["sizes"][at] <= left:
                    chosen.append(at)
                    left -= q["sizes"][at]
            kept[k] += survives("\n\n".join(texts[at] for at in sorted(chosen)), q["answers"])
    return {
        "rival": f"LLMLingua {version('llmlingua')} BM25 ranking, whole documents",
        "survival": {str(k): 100 * kept[k] / len(questions) for k in DIVISORS},
        "recall_at_1": 100 * first / len(questions),
    }


def headroom_cost(questions: list[dict]) -> dict:
    import time

    import tiktoken
    from headroom.transforms.text_crusher import TextCrusher

    crusher = TextCrusher()
    try:
        encode = tiktoken.get_encoding("cl100k_base").encode_ordinary
    except Exception as error:  # a benchmark row says why
        return {"rival": "headroom-ai cost", "failed": f"{type(error).__name__}: {error}"}
    ratios = {k: [] for k in (2, 10)}
    for q in questions[:100]:
        text = joined(q["passages"])
        encode(text)
        for k in ratios:
            start = time.process_time_ns()
            crusher.compress(text, q["question"], 1 / k)
            middle = time.process_time_ns()
            encode(text)
            end = time.process_time_ns()
            ratios[k].append((middle - start) / max(1, end - middle))
    return {
        "rival": f"headroom-ai {version('headroom-ai')} TextCrusher",
        "cost": {str(k): sorted(v)[len(v) // 2] for k, v in ratios.items()},
    }


def main() -> None:
    questions = [json.loads(line) for line in sys.stdin]
    rows = []
    for run in (headroom_rows, llmlingua_rows, headroom_cost):
        try:
            rows.append(run(questions))
        except Exception as error:  # a rival that cannot run is a row saying why
            rows.append({"rival": run.__name__, "failed": f"{type(error).__name__}: {error}"})
    json.dump(rows, sys.stdout)


if __name__ == "__main__":
    main()
