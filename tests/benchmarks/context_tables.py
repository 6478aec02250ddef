"""The tables of what long conversations cost, and what is left of them."""

from __future__ import annotations

from typing import Any, Final

__all__ = ["context_table"]

_ANTHROPIC, _OPENAI = "Anthropic-like", "OpenAI-like"
_ORACLES: Final = {
    "ContextCompressor(), horizon learned": "ContextCompressor",
    "the best with hindsight that is never dearer": (
        "the best with hindsight that is dearer at no call, tool results to lines"
    ),
    "the best with hindsight, results to lines": "the best with hindsight, tool results to lines",
    "the best with hindsight, everything old forgotten": (
        "the best with hindsight, all old messages forgotten"
    ),
}


def context_table(figures: dict[str, Any]) -> str:
    """Return all tables, one behind the other."""
    return "\n\n".join((_kept(figures), _bills(figures), _airline(figures)))


def _bills(figures: dict[str, Any]) -> str:
    rows = [
        "| an agent of 39 calls | Anthropic-like | OpenAI-like | of what is sent, known |",
        "|---|---|---|---|",
    ]
    for name, row in figures["agent"].items():
        if name.startswith("least"):
            least = f"{row[_ANTHROPIC]:,} | {row[_OPENAI]:,}"
            rows.append(f"| any way with 90 % known, at least | {least} | 90 % |")
        else:
            known = [row[f"known of what is sent, {label}"] for label in (_ANTHROPIC, _OPENAI)]
            shown = " / ".join(f"{100 * share:.0f}" for share in dict.fromkeys(known))
            rows.append(f"| {name} | {row[_ANTHROPIC]:,} | {row[_OPENAI]:,} | {shown} % |")
    return "\n".join(rows)


def _airline(figures: dict[str, Any]) -> str:
    found = figures["airline"]
    labels = [name.removesuffix(": everything") for name in found]
    labels = list(dict.fromkeys(name.rsplit(": ", 1)[0] for name in labels))
    count = next(iter(found.values()))
    long, whole = count["over 20 messages"], count["conversations"]
    rows = [
        f"| cheaper than raw, median of {long} conversations over 20 messages "
        f"| {' | '.join(labels)} |",
        "|---|" + "---|" * len(labels),
    ]
    for key, title in _ORACLES.items():
        shares = (f"{found[f'{label}: {key}']['median over 20 messages']:.1%}" for label in labels)
        rows.append(f"| {title} | {' | '.join(shares)} |")
    ours = [found[f"{label}: ContextCompressor(), horizon learned"] for label in labels]
    dearer = " | ".join(
        f"{row['dearer']} (worst {-row['worst']:.1%})" if row["dearer"] else "0" for row in ours
    )
    rows.append(f"| of all {whole}, dearer than raw | {dearer} |")
    ever = " | ".join(str(row["dearer at any call"]) for row in ours)
    rows.append(f"| of all {whole}, dearer than raw if they had ended at any call | {ever} |")
    return "\n".join(rows)


def _kept(figures: dict[str, Any]) -> str:
    facts, laws, speed = figures["facts"], figures["laws"], figures["speed"]
    rows = ["| | ContextCompressor | beside it |", "|---|---|---|"]
    for kind in ("own talk", "utterances of meetings"):
        for share, words in (("50%", "half"), ("25%", "a quarter")):
            part = f"{kind}, {share}"
            if f"{part}: recency" in facts:
                rows.append(
                    f"| facts told once, between {kind}: in the view at {words} of the tokens "
                    f"({facts[f'{kind}: facts']} facts) | {facts[f'{part}: ContextCompressor']} %, "
                    f"{facts[f'{part}: fetched back']} % with its handles, in five rounds "
                    f"| the latest messages: {facts[f'{part}: recency']} % |"
                )
    for name, title in (
        ("meetings", "words of the turns that a question needs, meetings as chats"),
        ("airline", "identifiers and numbers of the next tool call, an airline's agent"),
    ):
        row = figures.get("evidence", {}).get(name)
        rows.extend(
            f"| {title}, {size} shorter | {row[f'ContextCompressor, {size}']} % "
            f"| bm25 with neighbours: {row[f'bm25 with neighbours, {size}']} % |"
            for size in (("4x", "10x") if row else ())
        )
    broken = ", ".join(
        f"{name} {laws[name]}"
        for name in (
            "invalid sequences",
            "over a limit that could be kept",
            "changed system messages",
            "changed task or last question",
            "longer than without",
            "views of views that differ",
        )
    )
    rows.append(f"| {laws['histories']:,} generated histories | {broken} | |")
    rows.extend(
        f"| a view of {size} messages, one more call; never seen (the thread's time) "
        f"| {speed[f'{size} messages, one more call']} ms; "
        f"{speed[f'{size} messages, never seen']} ms | |"
        for size in ("200", "2,000")
    )
    return "\n".join(rows)
