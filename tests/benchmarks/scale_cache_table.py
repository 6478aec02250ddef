"""The table of the cache in PostgreSQL, from ``results/scale_cache.json``."""

from __future__ import annotations

from typing import Any

__all__ = ["scale_cache_tables"]

_SCOPES = ("half", "4 %", "0.1 %", "few")


def scale_cache_tables(figures: dict[str, Any]) -> str:
    """Return what was measured by the number of entries, and what was measured once."""
    return f"{_sizes(figures)}\n\n{_once(figures)}"


def _sizes(figures: dict[str, Any]) -> str:
    sizes = sorted(
        (one for name, one in figures.items() if name.startswith("size ")),
        key=lambda one: int(one["entries"]),
    )
    rows = {
        "an equal request, copied, p50 / p95 ms": [_times(one["equal, copied"]) for one in sizes],
        "an equal request, read from the server": [
            _times(one["equal, read from the server"]) for one in sizes
        ],
    }
    for name in _SCOPES:
        scopes = [one[f"scope of {name}"] for one in sizes]
        said = "a small scope" if name == "few" else f"a scope of {name} of all"
        rows[f"neighbours in {said}"] = [_times(one["of which neighbours"]) for one in scopes]
        rows["recall there, of the nearest; of the nearest 16" + " " * len(rows)] = [
            f"{one['recall of the nearest']:.1%}; {one['recall of the nearest 16']:.1%}"
            for one in scopes
        ]
    rows["a whole look-up in other words, scope of half"] = [
        _times(one["scope of half"]["look-up in other words"]) for one in sizes
    ]
    rows["to fill; to index, s"] = [
        f"{one['fill_seconds']:.0f}; {one['index_seconds']:.0f}" for one in sizes
    ]
    rows["on disk; of it the index, MB"] = [
        f"{one['megabytes']['all']:,}; {one['megabytes']['cache_vectors_near']:,}" for one in sizes
    ]
    head = "| entries | " + " | ".join(f"{one['entries']:,}" for one in sizes) + " |"
    lines = [head, "|---" * (len(sizes) + 1) + "|"]
    return "\n".join(
        [*lines, *(f"| {said.strip()} | {' | '.join(cells)} |" for said, cells in rows.items())]
    )


def _times(measured: dict[str, float]) -> str:
    return f"{measured['p50_ms']:.3g} / {measured['p95_ms']:.3g}"


def _once(figures: dict[str, Any]) -> str:
    rows = {}
    if "workers" in figures:
        workers = figures["workers"]
        one, many = workers["1 at once"], workers["8 at once"]
        streams = f"{workers['streams']} streams of {workers['requests']:,} requests of banking77"
        rows[f"{streams}: hits of one worker; of eight"] = (
            f"{one['hit_percent']} %; {many['hit_percent']} %"
        )
        rows["of all requests, wrong: one worker; eight"] = (
            f"{one['wrong_percent']} %; {many['wrong_percent']} %"
        )
    if "apart" in figures:
        for name, found in figures["apart"].items():
            if name != "measured":
                rows[f"8 workers, 150 users: {name}; hits; answers of others"] = (
                    f"{found['look-ups']:,}; {found['hits']:,}; {found['answers of other users']}"
                )
    if "kills" in figures:
        kills = figures["kills"]
        rows["restarts of the server (crashes); workers killed"] = (
            f"{kills['server restarted']} ({kills['of which crashed']}); {kills['workers killed']}"
        )
        rows["look-ups meanwhile; hits; wrong; of other users; damaged entries"] = "; ".join(
            f"{kills[name]:,}"
            for name in ("lookups", "hits", "wrong", "answers of other users", "damaged at the end")
        )
    if "loop" in figures:
        busy, idle = figures["loop"]["200 look-ups"], figures["loop"]["idle"]
        rows["longest pause of a loop with 200 look-ups at once; of an idle one, ms"] = (
            f"{busy['longest pause ms']:.0f}; {idle['longest pause ms']:.0f}"
        )
    return "\n".join(["|  |  |", "|---|---|", *(f"| {a} | {b} |" for a, b in rows.items())])
