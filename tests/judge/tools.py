"""Judge which tools are shown to the model.

Run:     python -m tests.judge.tools [--half build] [--no-embeddings] [--only SET ...] [--show]
         python -m tests.judge.tools --behaviour [NAME ...]
Rule:    knows the public API alone: ``ToolSelector(max_tools=k).select(query, tools)`` shows up to k
         tools; a query with earlier turns goes through ``optimize(model, ...)`` instead, and what the
         model was given counts. Beside it: plain BM25 over names, descriptions and parameters, and
         plain MiniLM over "name: description", both on the last message alone.
Output:  Markdown. R@k: the needed tool is among k, where one is needed; all@k: all are, where several
         are. ``own choice``: tools shown without a limit, schema tokens saved, queries that lost one.
         ``--show`` lists the queries whose tools are not among five.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_tokenopt import LocalEmbeddings, ToolSelector, counter_for, optimize
from tests.judge import tools_behaviour
from tests.judge.tools_cases import Query, ToolSet, function_of, names_of, read_sets, same_json
from tests.judge.tools_model import ScriptedToolModel

DEPTHS = (1, 3, 5, 10)
FIND_MORE = "find_more_tools"
Ask = Callable[[Query], set[str]]
_WORD = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])|[^\W\d_A-Za-z]+|\d+")


@dataclass(frozen=True)
class Found:
    """Which tools one way showed for one query, by how many it was allowed."""

    query: Query
    at: dict[int, bool]


def words(text: str) -> list[str]:
    """Lower-case words without their endings; names are taken apart."""
    return [_stem(word.lower()) for word in _WORD.findall(text)]


def _stem(word: str) -> str:
    for ending in ("ing", "ies", "es", "s", "ed"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


def indexed(tool: Any) -> str:
    """All that a tool says: names, descriptions, parameters and their values."""
    return " ".join(
        f"{each['name']} {each['text']} {_schema_text(each['parameters'])}"
        for each in function_of(tool)
    )


def _schema_text(schema: Any) -> str:
    if isinstance(schema, dict):
        named = schema.get("properties")
        inside = [f"{k} {_schema_text(v)}" for k, v in named.items()] if named else []
        enum = [str(value) for value in schema.get("enum", ())]
        return " ".join([*inside, str(schema.get("description", "")), *enum])
    return ""


class Bm25:
    """Okapi BM25 with the usual k1 = 1.2 and b = 0.75 (Robertson and Zaragoza 2009)."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.counts = [Counter(words(text)) for text in texts]
        self.mean = sum(sum(c.values()) for c in self.counts) / max(1, len(texts))
        self.having = Counter(word for c in self.counts for word in c)

    def scores(self, query: str) -> list[float]:
        """One score for each text."""
        return [sum(self._part(word, c) for word in set(words(query))) for c in self.counts]

    def _part(self, word: str, counts: Counter[str]) -> float:
        n, f = self.having[word], counts[word]
        idf = math.log(1 + (len(self.counts) - n + 0.5) / (n + 0.5))
        long = 1 - 0.75 + 0.75 * sum(counts.values()) / self.mean
        return idf * f * 2.2 / (f + 1.2 * long)


class Remembered(LocalEmbeddings):
    """MiniLM that embeds each text once, in batches: many ways ask for the same texts.

    It is the local embedder to whoever asks, which has no time limit: no query falls back to words
    because the machine is busy.
    """

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[str, list[float]] = {}

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """One vector for each text."""
        new = sorted({text for text in texts if text not in self._known}, key=len)
        if new:
            self._known |= dict(zip(new, super().embed_documents(new), strict=True))
        return [self._known[text] for text in texts]

    def embed_query(self, text: str) -> list[float]:
        """The vector of *text*."""
        return self.embed_documents([text])[0]


def dot(one: Sequence[float], other: Sequence[float]) -> float:
    """Cosine of unit vectors."""
    return sum(a * b for a, b in zip(one, other, strict=True))


def best(scores: Sequence[float], tools: Sequence[Any], k: int) -> set[str]:
    """Names of the *k* tools with the highest scores."""
    order = sorted(range(len(tools)), key=lambda i: (-scores[i], i))[:k]
    return set(names_of([tools[i] for i in order]))


def plain_ways(tools: Sequence[Any], embed: Any) -> dict[str, Callable[[int], Ask]]:
    """BM25 and MiniLM, as ways to ask for *k* tools."""
    index = Bm25([indexed(tool) for tool in tools])
    ways = {"BM25": lambda k: lambda q: best(index.scores(q.text), tools, k)}
    if embed is not None:
        said = [" ".join(f"{f['name']}: {f['text']}" for f in function_of(tool)) for tool in tools]
        vectors = embed.embed_documents([text or "-" for text in said])
        asked: dict[str, list[float]] = {}

        def by_meaning(query: Query, k: int) -> set[str]:
            if query.id not in asked:
                vector = embed.embed_query(query.text)
                asked[query.id] = [dot(vector, each) for each in vectors]
            return best(asked[query.id], tools, k)

        ways["MiniLM"] = lambda k: lambda q: by_meaning(q, k)
    return ways


def selector_way(tools: Sequence[Any], embed: Any) -> Callable[[int | None], Ask]:
    """The selector; a query with earlier turns is asked through the model."""

    def ways(k: int | None) -> Ask:
        selector = ToolSelector(
            max_tools=k, embeddings=False if embed is None else embed, learn=False, find_more=False
        )

        def shown(query: Query) -> set[str]:
            if not query.before:
                selected = selector.select(query.text, list(tools))
                return {each.name for each in selected}
            model = ScriptedToolModel(script=["ok"])
            optimize(model, selector).bind_tools(list(tools)).invoke(query.messages())
            return set(names_of(model.calls[-1].tools))

        return shown

    return ways


def judged(ways: Callable[[int], Ask], queries: Iterable[Query]) -> list[Found]:
    """Ask for each depth."""
    asks = {k: ways(k) for k in DEPTHS}
    return [Found(q, {k: q.found_in(ask(q)) for k, ask in asks.items()}) for q in queries if q.gold]


def share(found: Sequence[Found], k: int) -> str:
    """The share found among *k*, as text."""
    return f"{sum(f.at[k] for f in found) / len(found):.3f}" if found else "-"


def row(title: str, way: str, found: Sequence[Found]) -> str:
    """One line of the table."""
    one = [f for f in found if len(f.query.gold) == 1]
    many = [f for f in found if len(f.query.gold) > 1]
    cells = [share(one, k) for k in DEPTHS] + [share(many, k) for k in DEPTHS[1:]]
    return f"| {title} | {way} | {len(found)} | {' | '.join(cells)} |"


HEAD = "| set | way | n | R@1 | R@3 | R@5 | R@10 | all@3 | all@5 | all@10 |\n" + "|---" * 10 + "|"


@dataclass
class Choice:
    """What the selector shows of one set when it decides how many."""

    shown: list[int]
    tokens: list[float]
    lost: int
    idle: list[int]
    """Tools shown for queries that need none."""
    needed: int


def own_choice(case: ToolSet, embed: Any) -> Choice:
    """Ask without a limit."""
    tools = case.tools()
    count = counter_for("cl100k_base").count
    sizes = {
        name: count(same_json(function)).tokens
        for tool in tools
        for function in function_of(tool)
        for name in [function["name"]]
    }
    all_tokens = sum(sizes.values())
    ask = selector_way(tools, embed)(None)
    choice = Choice([], [], 0, [], 0)
    for query in case.queries:
        shown = ask(query) - {FIND_MORE}
        if not query.gold:
            choice.idle.append(len(shown))
            continue
        choice.needed += 1
        choice.lost += not query.found_in(shown)
        choice.shown.append(len(shown))
        choice.tokens.append(1 - sum(sizes.get(name, 0) for name in shown) / all_tokens)
    return choice


def choice_row(title: str, size: str, choices: Sequence[Choice]) -> str:
    """One line: mean tools shown, tokens saved, lost, and shown where none is needed."""
    shown = [n for c in choices for n in c.shown]
    tokens = [t for c in choices for t in c.tokens]
    idle = [n for c in choices for n in c.idle]
    lost, needed = sum(c.lost for c in choices), sum(c.needed for c in choices)
    return (
        f"| {title} | {size} | {sum(shown) / len(shown):.1f} | {sum(tokens) / len(tokens):.1%} "
        f"| {lost} of {needed} ({lost / needed:.1%}) | {sum(idle) / max(1, len(idle)):.1f} |"
    )


def report(half: str, only: Sequence[str], embed: Any, show: bool) -> None:
    """Print all tables of one half."""
    cases = [case for case in read_sets(half) if not only or case.name in only]
    everything: dict[str, list[Found]] = defaultdict(list)
    choices: list[Choice] = []
    print(HEAD)
    for case in cases:
        tools = case.tools()
        if embed is not None:
            embed.embed_documents([query.text for query in case.queries])
        ways: dict[str, Any] = {"selector": selector_way(tools, embed), **plain_ways(tools, embed)}
        for way, ask in ways.items():
            found = judged(ask, case.queries)
            everything[way] += found
            print(row(case.name, way, found), flush=True)
        choices.append(own_choice(case, embed))
    for way, found in everything.items():
        print(row("**mean**", way, found))
    print("\n| own choice | tools | shown | tokens saved | lost | shown, none needed |")
    print("|---" * 6 + "|")
    for case, choice in zip(cases, choices, strict=True):
        print(choice_row(case.name, str(len(case.specs)), [choice]))
    print(choice_row("**mean**", "", choices))
    for label in ("kind", "language"):
        _by(label, everything)
    if show:
        missed = [f for f in everything["selector"] if not f.at[5]]
        for found in missed:
            gold = " + ".join("/".join(sorted(names)) for names in found.query.gold)
            print(f"- {found.query.id} {found.query.text[:90]!r}: {gold}")


def _by(label: str, everything: dict[str, list[Found]]) -> None:
    ways = list(everything)
    print(f"\n| {label} | n | {' | '.join(f'{way} @1 / @5' for way in ways)} |")
    print("|---" * (2 + len(ways)) + "|")
    for value in sorted({getattr(f.query, label) for f in everything["selector"]}):
        rows = {w: [f for f in everything[w] if getattr(f.query, label) == value] for w in ways}
        cells = [f"{share(rows[way], 1)} / {share(rows[way], 5)}" for way in ways]
        print(f"| {value} | {len(rows['selector'])} | {' | '.join(cells)} |")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one half, or the behaviour cases."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--half", choices=("build", "judge"), default="build")
    parser.add_argument("--no-embeddings", action="store_true")
    parser.add_argument("--only", nargs="+", default=[])
    parser.add_argument("--show", action="store_true")
    parser.add_argument("--behaviour", nargs="*", metavar="NAME")
    options = parser.parse_args(arguments)
    if options.behaviour is not None:
        return tools_behaviour.report(options.behaviour)
    embed = None if options.no_embeddings else Remembered()
    report(options.half, options.only, embed, options.show)
    return 0


if __name__ == "__main__":
    sys.exit(main())
