"""The tables of what learns, in BENCHMARKS.md."""

from __future__ import annotations

from typing import Any

__all__ = ["strategies_table", "templates_table"]

_WAYS = (
    "JSON, as pydantic writes it",
    "prose, a sentence a field",
    "YAML",
    "TOON",
    "JSON, compact",
    "MessageTemplates",
)


def templates_table(figures: dict[str, Any]) -> str:
    """Return what messages between agents cost, and whether they come back."""
    alone, ten = figures["alone"], figures["ten together"]
    lines = [
        "| tokens (o200k / cl100k) | 500 messages alone | saved | ten of a form together | saved |",
        "|---|---|---|---|---|",
    ]
    for way in _WAYS:
        cells = []
        for part in (alone, ten):
            if way in part["o200k_base"]["tokens"]:
                found = [part[name] for name in ("o200k_base", "cl100k_base")]
                cells.append(" / ".join(f"{one['tokens'][way]:,}" for one in found))
                saved = [one["saved_beside_compact_json"][way] for one in found]
                cells.append(" / ".join(f"{share:.1%}" for share in saved))
            else:
                cells += ["", ""]
        name = f"**`{way}`**" if way == "MessageTemplates" else way
        lines.append(f"| {name} | {' | '.join(cells)} |")
    decoded = figures["decoding"]
    lines += [
        "",
        f"{figures['messages']} messages of {figures['kinds']} kinds from {figures['fields']} "
        f"fields: {decoded['decode_errors']} decode errors, "
        f"{decoded['texts_not_the_same_to_the_character']} texts that differ; "
        f"{decoded['look_alikes_expanded']} of {decoded['look_alikes']:,} look-alikes expanded. "
        f"Packing takes {decoded['pack_us']} µs, expanding {decoded['expand_us']} µs.",
    ]
    if own := figures.get("proposed"):
        lines.append(
            f"Forms proposed from half of the airline trajectories save {own['saved']:.1%} beside "
            f"compact JSON on {own['packed']} of {own['results']} tool results of the other half, "
            f"with {own['decode_errors']} errors."
        )
    if read := figures.get("reading"):
        right = read["right"]
        lines.append(
            f"A model of 135 M parameters found {right['MessageTemplates']} of {read['questions']} "
            f"values in templates, and {right['JSON, compact']} in JSON."
        )
    return "\n".join(lines)


def strategies_table(figures: dict[str, Any]) -> str:
    """Return what each strategy kept of the quality, and spent for equal quality."""
    every = figures["in a run"]["all"]
    lines = [
        f"| {figures['desks']:,} desks | quality of what all tokens would give "
        "| beside equal, for equal tokens | tokens for equal quality "
        "| behind the best of each desk |",
        "|---|---|---|---|---|",
    ]
    for name, row in every.items():
        behind = row.get("behind_the_best_of_each_desk")
        tokens = row.get("tokens_for_equal_quality")
        lines.append(
            f"| {name} | {row['quality']:.1%} | {_between(row['against_equal'], '+')} "
            f"| {_between(tokens) if tokens else ''} | {_between(behind) if behind else ''} |"
        )
    auto = every["auto"]
    lines += [
        "",
        f"`auto` lies {auto['behind_the_best_for_all_desks']:.1%} behind the one strategy that is "
        f"best for all desks, and within 3 % of the best of its desk on "
        f"{auto['desks_within_3_percent']:.0%} of them.",
    ]
    return "\n".join(lines)


def _between(interval: list[float], sign: str = "") -> str:
    mean, *ends = (f"{value:{sign}.1%}" for value in interval)
    return f"{mean} ({' to '.join(ends)})" if ends else mean
