"""The tables of ``bench_tools`` for the README."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["tool_tables"]

Figures = Mapping[str, Any]
DEPTHS = (1, 5, 10)
COLUMNS = {
    "ToolSelector": "ToolSelector",
    "ToolSelector without embeddings": "words alone",
    "MiniLM": "plain MiniLM",
    "BM25": "plain BM25",
    "RRF": "both, equal weights",
}
LEARNED = "0.3 description + 0.7 mean of queries"


def tool_tables(figures: Figures) -> str:
    """Recall, agents and the rest, as Markdown."""
    return "\n\n".join((_recall(figures), _loops(figures["loops"]), _rest(figures)))


def _recall(figures: Figures) -> str:
    meta, one, several = figures["metatool"], figures["bfcl"], figures["bfcl_several"]
    n = _judged(meta, "ToolSelector")["@1"]["n"]
    rows = [(f"MetaTool, {n} queries to 199 plug-ins", _each(meta, "@{}"))]
    if "bigtool_metatool" in figures:
        found = _cells(figures["bigtool_metatool"]["judged"], "@{}")
        rows.append(("... by the store of langgraph-bigtool", ["", "", found, "", ""]))
    for uses, found in figures["metatool_used"].items():
        if uses == "seconds":
            continue
        ours, learned = (_cells(_judged(found, way), "@{}") for way in ("ToolSelector", LEARNED))
        title = f"... after {uses} real call{'s' * (uses != '1')} of each"
        rows.append((title, [ours, "", f"{learned} (*)", "", ""]))
    pool, asked = figures["bfcl_saved"]["pool"], _judged(one, "BM25")["@1"]["n"]
    rows += [
        (f"BFCL, {asked} queries to {pool:,} functions", _each(one, "same_name@{}")),
        ("... not one of equal name", _each(one, "@{}")),
        ("... that need several, all of them", _each(several, "same_name@{}")),
    ]
    head = ["recall @1 / @5 / @10", *COLUMNS.values()]
    table = _table(head, [[title, *cells] for title, cells in rows])
    return f"{table}\n\n(*) vectors of {LEARNED.replace('+', 'and')} of the same calls."


def _judged(found: Figures, way: str) -> Any:
    return found[way]["judged"]


def _each(found: Figures, key: str) -> list[str]:
    return [_cells(_judged(found, way), key) for way in COLUMNS]


def _cells(found: Figures, key: str) -> str:
    return " / ".join(f"{found[key.format(k)]['value']:.3f}".lstrip("0") for k in DEPTHS)


def _loops(loops: Figures) -> str:
    rows = [
        [
            title,
            f"{cost['finished']} of {cost['errands']}",
            f"{cost['model_calls']:.1f}",
            f"{cost['tool_tokens']:,}",
            f"{cost['other_calls']:.1f}" if cost["other_calls"] else "",
            f"{cost['other_tokens']:,}" if cost["other_tokens"] else "",
            f"{cost['kept_prefix'] / cost['steps']:.0%}",
        ]
        for title, cost in loops.items()
        if title != "seconds"
    ]
    head = ["an agent with 200 tools, means", "finished", "calls", "tokens of schemas"]
    head += ["calls to choose", "tokens to choose", "prefix of schemas kept"]
    return _table(head, rows)


def _rest(figures: Figures) -> str:
    saved = figures["bfcl_saved"]["ToolSelector"]["judged"]
    low, high = saved["lost"]["interval"]
    stuck, users, times = figures["never_stuck"], figures["many_users"], figures["times"]
    mixed = users["mixed_up_in_threads"] + users["mixed_up_as_tasks"]
    rows = [
        [
            f"BFCL: tokens of schemas saved, as many tools as it chooses "
            f"({saved['shown']['median']:.1f} in the median)",
            f"{saved['tokens_saved']:.1%}",
        ],
        [
            f"... needed function not among them ({saved['lost']['n']} queries)",
            f"{saved['lost']['value']:.1%} ({low:.1%} to {high:.1%})",
        ],
        [
            "agents whose tool was left out on purpose: finished",
            f"{stuck['finished']} of {stuck['runs']}",
        ],
        [f"{users['users']} users at once, in threads and as tasks: runs mixed up", f"{mixed}"],
        *(
            [f"select among {times['tools']:,} tools, {way}: median, 95 % (CPU)", _time(times[way])]
            for way in ("without embeddings", "with embeddings")
        ),
        ["... of which embedding the query", _time(times["embedding"])],
        [
            "the first one, which embeds the tools",
            f"{times['with embeddings']['first_call_seconds']:.1f} s",
        ],
    ]
    return _table(["", ""], rows)


def _time(found: Figures) -> str:
    wall, cpu = found["wall_ms"], found["cpu_ms"]
    return f"{wall['median']:.1f} ms, {wall['p95']:.1f} ms ({cpu['median']:.1f} ms)"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
