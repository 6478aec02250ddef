"""Word limits: words generated and shown, against the ways that LangChain's documentation shows.

Run:     make bench-limits     (python -m tests.benchmarks.bench_limits)
Setup:   a provider on 127.0.0.1 streams an answer of 2,000 words, waiting before each one (pace);
         the limit is 50 words; real ChatOpenAI; "generated" is what the server wrote until the
         request ended, "cancelled" whether that was before its end. One run per row: counts are
         what matters, times follow from them.
Answers: 1,000 made at random (prose, nested lists, tables, code; five languages), each under a
         random limit; validity is judged by markdown-it-py.
Doubling: texts of one repeated piece, fed in pieces of four characters under a limit that is never
         reached, at 50,000, 100,000 and 200,000 characters: linear means a factor of 2.
Output:  results/limits.json, results/limits.md for the README, and all rows on the screen.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

from langchain_core.output_parsers import BaseTransformOutputParser, StrOutputParser
from langchain_core.runnables import RunnableGenerator

from langchain_tokenopt import optimize
from langchain_tokenopt.counting.tokens import counter_for
from langchain_tokenopt.limits import WordLimit
from langchain_tokenopt.limits.excerpt import Excerpt, Limit
from langchain_tokenopt.limits.request_line import languages, room_for
from langchain_tokenopt.text.words import count_words
from tests.benchmarks.results import RESULTS, write_result
from tests.properties.test_limit_laws import flaws
from tests.support.answers import answer
from tests.support.model_server import ModelServer, Reply

ANSWER_WORDS = 2_000
LIMIT = 50
PACES_MS = (0, 1, 5, 20)
README_PACE_MS = 5
QUESTION = "Tell me everything"


def long_answer() -> str:
    """Return 2,000 words in sentences of ten."""
    words = [f"w{i}" for i in range(ANSWER_WORDS)]
    sentences = [" ".join(words[i : i + 10]) for i in range(0, ANSWER_WORDS, 10)]
    return " ".join(f"{s[0].upper()}{s[1:]}." for s in sentences)


# --- the rivals ----------------------------------------------------------------------------------


def _first_words(chunks: Iterator[Any]) -> Iterator[str]:
    """A generator that ends after the limit, as one would write it."""
    shown = 0
    for chunk in chunks:
        text = chunk if isinstance(chunk, str) else chunk.text
        shown += len(text.split())
        if shown > LIMIT:
            return
        yield text


class CuttingParser(BaseTransformOutputParser[str]):
    """A parser that shows the first words."""

    def parse(self, text: str) -> str:
        return " ".join(text.split()[:LIMIT])

    def _transform(self, input: Iterator[Any]) -> Iterator[str]:
        yield from _first_words(input)


def _joined(chunks: Iterator[Any]) -> str:
    return "".join(c if isinstance(c, str) else c.text for c in chunks)


def _broken_off(chunks: Iterator[Any]) -> str:
    """What a consumer shows that breaks out of its loop."""
    text = ""
    for chunk in chunks:
        piece = chunk if isinstance(chunk, str) else chunk.text
        if len((text + piece).split()) > LIMIT:
            break
        text += piece
    return text


async def _ajoined(chunks: Any) -> str:
    return "".join([c if isinstance(c, str) else c.text async for c in chunks])


def _staged(model: Any) -> Any:
    return optimize(model, WordLimit(LIMIT))


OURS: dict[str, Callable[[Any], str]] = {
    "optimize(model, WordLimit): stream": lambda m: _joined(_staged(m).stream(QUESTION)),
    "... invoke": lambda m: _staged(m).invoke(QUESTION).text,
    "... batch": lambda m: _staged(m).batch([QUESTION])[0].text,
    "... behind StrOutputParser, stream": lambda m: _joined(
        (_staged(m) | StrOutputParser()).stream(QUESTION)
    ),
    "... behind StrOutputParser, invoke": lambda m: (_staged(m) | StrOutputParser()).invoke(
        QUESTION
    ),
    "model | WordLimit: stream": lambda m: _joined((m | WordLimit(LIMIT)).stream(QUESTION)),
    "model | StrOutputParser | WordLimit: stream": lambda m: _joined(
        (m | StrOutputParser() | WordLimit(LIMIT)).stream(QUESTION)
    ),
}
OURS_ASYNC: dict[str, Callable[[Any], Any]] = {
    "optimize(model, WordLimit): astream": lambda m: _ajoined(_staged(m).astream(QUESTION)),
    "... ainvoke": lambda m: (_staged(m) | StrOutputParser()).ainvoke(QUESTION),
    "model | StrOutputParser | WordLimit: astream": lambda m: _ajoined(
        (m | StrOutputParser() | WordLimit(LIMIT)).astream(QUESTION)
    ),
}
RIVALS: dict[str, Callable[[Any], str]] = {
    "model | WordLimit: invoke (the host's limit)": lambda m: (
        (m | WordLimit(LIMIT)).invoke(QUESTION).text
    ),
    "model | RunnableGenerator that ends early: stream": lambda m: _joined(
        (m | RunnableGenerator(_first_words)).stream(QUESTION)
    ),
    "model | parser that cuts: stream": lambda m: _joined((m | CuttingParser()).stream(QUESTION)),
    "model | parser that cuts: invoke": lambda m: (m | CuttingParser()).invoke(QUESTION),
    "break out of (model | StrOutputParser).stream": lambda m: _broken_off(
        (m | StrOutputParser()).stream(QUESTION)
    ),
    "break out of model.stream": lambda m: _broken_off(m.stream(QUESTION)),
}


def measure_stopping(server: ModelServer, paces_ms: tuple[int, ...]) -> list[dict[str, Any]]:
    """Run every row at every pace."""
    rows = []
    text = long_answer()
    # The first row would otherwise pay for imports.
    server.answer = lambda _: Reply(text="Warm.")
    _staged(server.chat_openai()).invoke(QUESTION)
    server.answer = lambda _: Reply(text=text)
    for pace in paces_ms:
        server.pace_seconds = pace / 1000
        for name, call in {**OURS, **OURS_ASYNC, **RIVALS}.items():
            server.streams.clear()
            start = time.perf_counter()
            model = server.chat_openai()
            if name in OURS_ASYNC:
                shown, seconds = asyncio.run(_timed(call(model), start))
            else:
                shown = call(model)
                seconds = time.perf_counter() - start
            log = server.streams[-1] if server.streams else None
            rows.append(
                {
                    "what": name,
                    "ours": name not in RIVALS,
                    "pace_ms": pace,
                    "words_shown": count_words(shown),
                    "words_generated": log.sent if log else ANSWER_WORDS,
                    "cancelled": log.cancelled if log else False,
                    "ends_at_sentence": shown.endswith("."),
                    "seconds": round(seconds, 3) if log else None,
                }
            )
    return rows


async def _timed(answer: Any, start: float) -> tuple[str, float]:
    shown = await answer
    seconds = time.perf_counter() - start
    await asyncio.sleep(0.2)  # leave the client time to close its connection
    return shown, seconds


# --- the other figures ---------------------------------------------------------------------------


def measure_answers(count: int) -> dict[str, Any]:
    """Trim answers under random limits and judge what is shown."""
    kept = valid = fitting = unchanged = cut = mid_word = 0
    seconds, characters = 0.0, 0
    for seed in range(count):
        text, words = answer(seed), random.Random(seed).randint(1, 150)
        excerpt = Excerpt(Limit(words=words))
        start = time.perf_counter()
        shown = excerpt.feed(text) + excerpt.finish()
        seconds += time.perf_counter() - start
        characters += len(text)
        kept += count_words(shown) <= words
        valid += not flaws(text, shown)
        if count_words(text) <= words:
            fitting += 1
            unchanged += shown == text
        else:
            cut += 1
            mid_word += "…" in shown and "…" not in text
    return {
        "answers": count,
        "limit_kept": kept,
        "valid_markdown": valid,
        "fitting": fitting,
        "fitting_unchanged": unchanged,
        "trimmed": cut,
        "trimmed_in_first_unit": mid_word,
        "microseconds_per_character": round(1e6 * seconds / characters, 2),
    }


def measure_first_chunk(server: ModelServer, runs: int) -> dict[str, float]:
    """Compare the time to the first text, with and without a limit, in turns."""
    server.answer = lambda _: Reply(text=long_answer())
    server.pace_seconds = 0.005
    plain, limited = server.chat_openai(), _staged(server.chat_openai())
    seconds: dict[str, list[float]] = {"without": [], "with": []}
    words: dict[str, set[int]] = {"without": set(), "with": set()}
    for _ in range(runs):
        for name, model in (("without", plain), ("with", limited)):
            start = time.perf_counter()
            stream = model.stream(QUESTION)
            first = next(chunk.text for chunk in stream if chunk.text)
            seconds[name].append(time.perf_counter() - start)
            words[name].add(len(first.split()))
            stream.close()
    return {
        "runs": runs,
        **{f"{n}_median_ms": round(1e3 * statistics.median(s), 2) for n, s in seconds.items()},
        **{f"{n}_words_in_first_chunk": max(w) for n, w in words.items()},
    }


def measure_room(count: int) -> dict[str, Any]:
    """Count how often ``max_tokens`` would cut what the word limit allows."""
    figures = {}
    for language in languages:
        worst = cut = 0.0
        for seed in range(count):
            words = random.Random(seed).randint(10, 150)
            excerpt = Excerpt(Limit(words=words))
            shown = excerpt.feed(answer(seed, language)) + excerpt.finish()
            room = room_for(words, language)
            for model in ("gpt-4o", "gpt-4"):
                tokens = counter_for(model).count(shown).tokens
                cut += tokens > room
                worst = max(worst, tokens / room)
        figures[language] = {
            "answers": count,
            "cut": int(cut),
            "largest_share_of_room": round(worst, 3),
        }
    return figures


REPEATED = {
    "prose": "The cat sat on the mat. ",
    "blanks": " ",
    "tabs": "\t",
    "newlines": "\n",
    "dashes": "-",
    "pipes": "|",
    "underscores": "_",
    "stars": "*",
    "parentheses": "(",
    "sentences in parentheses": "(A cat. ",
    "JSON arrays": "[",
    "CJK sentences": "今天天气很好。",
    "CJK without marks": "今天天气很好",
    "emoji joiners": "👍\u200d",
    "combining marks": "\u0301",
    "open tags": "<b>",
    "unended tags": "<a ",
    "formulas": "$$",
}


def measure_doubling() -> list[dict[str, Any]]:
    """How the time to read a text grows with its length, whatever stands in it."""
    counter, rows = counter_for("gpt-4o"), []
    for name, piece in REPEATED.items():
        seconds = []
        for length in (50_000, 100_000, 200_000):
            text = (piece * (length // len(piece) + 1))[:length]
            excerpt = Excerpt(Limit(words=10**7, tokens=10**7), lambda t: counter.count(t).tokens)
            start = time.process_time()
            for at in range(0, length, 4):
                excerpt.feed(text[at : at + 4])
            excerpt.finish()
            seconds.append(time.process_time() - start)
        rows.append(
            {
                "text": name,
                "seconds_at_200k": round(seconds[-1], 2),
                "factors": [round(b / a, 2) for a, b in pairwise(seconds)],
            }
        )
        print(f"  {name}: {rows[-1]}", flush=True)
    return rows


def as_markdown(figures: dict[str, Any]) -> str:
    """Return what the README shows: the rows at one pace, and the other figures in words."""
    judged, first = figures["answers"], figures["first_chunk"]
    slow = [row for row in figures["stopping"] if row["pace_ms"] == README_PACE_MS]
    slowest = max(row["seconds_at_200k"] for row in figures["doubling"])
    return f"""{_table(slow)}

`make bench-limits`: 2,000 words streamed at {README_PACE_MS} ms a word over HTTP, limit {LIMIT}.
{judged["answers"]:,} made-up answers (prose, nested lists, tables, code; five languages) under
random limits: limit kept in {judged["limit_kept"]:,}, valid Markdown in \
{judged["valid_markdown"]:,}, unchanged {judged["fitting_unchanged"]} of the
{judged["fitting"]} that fit. First text after {first["with_median_ms"]:.1f} ms with the limit, \
{first["without_median_ms"]:.1f} ms without. Reading costs {_prose_cost(figures):.0f} µs a character
and is linear: 200,000 characters of each of {len(figures["doubling"])} kinds (blanks, rules,
brackets, emoji, tags, ...) take at most {slowest:.1f} s.
"""


def _prose_cost(figures: dict[str, Any]) -> float:
    (prose,) = (row for row in figures["doubling"] if row["text"] == "prose")
    return prose["seconds_at_200k"] / 200_000 * 1e6


def _table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| | pace ms | shown | generated | cancelled | seconds |",
        "|---|--:|--:|--:|---|--:|",
    ]
    for row in rows:
        name = row["what"].replace("|", "\\|")
        cancelled = "yes" if row["cancelled"] else "no"
        seconds = "" if row["seconds"] is None else f"{row['seconds']:.2f}"
        lines.append(
            f"| {name} | {row['pace_ms']} | {row['words_shown']} | "
            f"{row['words_generated']:,} | {cancelled} | {seconds} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, write and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--answers", type=int, default=1_000)
    options.add_argument("--paces", type=int, nargs="*", default=PACES_MS)
    given = options.parse_args()
    with ModelServer() as server:
        stopping = measure_stopping(server, tuple(given.paces))
        first = measure_first_chunk(server, 30)
    figures = {
        "stopping": stopping,
        "answers": measure_answers(given.answers),
        "first_chunk": first,
        "room": measure_room(given.answers // 5),
        "doubling": measure_doubling(),
    }
    path = write_result("limits", "python -m tests.benchmarks.bench_limits", figures)
    (RESULTS / "limits.md").write_text(as_markdown(figures), encoding="utf-8")
    print(_table(stopping))
    for name in ("answers", "first_chunk", "room"):
        print(f"\n{name}: {figures[name]}")
    print(f"\n{path}")


if __name__ == "__main__":
    main()
