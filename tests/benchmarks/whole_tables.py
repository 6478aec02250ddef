"""The tables of the whole path: what each level costs, does, saves and spends."""

from __future__ import annotations

from typing import Any

__all__ = ["whole_tables"]

_STAGES = {
    "ToolSelector": "tools",
    "ContextCompressor": "context",
    "PromptCompressor": "compression",
    "WordLimit": "word limit",
    "SemanticCache": "cache",
}


def whole_tables(figures: dict[str, Any]) -> str:
    """Return the ways side by side, and what the stages of each level saved and spent."""
    ways = figures["ways"]
    raw = {one["provider"]: one for one in ways if one["way"] == "raw"}
    tasks = ways[0]["tasks"]
    lines = [
        f"{figures['conversations']} scripted conversations, {tasks:,} tasks:",
        "",
        "| the provider | | requests | tokens | bill | of the plain one | tasks right |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for provider, plain in raw.items():
        lines += [
            f"| {provider} ({one['model']}) | {_name(one['way'])} | {one['calls']:,} "
            f"| {_tokens(one):,} | ${one['nano_usd'] / 1e9:,.2f} "
            f"| {one['nano_usd'] / plain['nano_usd']:.0%} | {one['right']:,} of {tasks:,} |"
            for one in _in_order(ways, provider)
        ]
    lines += [
        "",
        "What the stages say that they saved, and what they spent on it (answers that were given "
        "up, what was fetched back), in tokens, and at the list price:",
        "",
        "| the provider | level | stage | saved | spent | net | at the list price |",
        "|---|---|---|--:|--:|--:|--:|",
    ]
    for provider in raw:
        for one in _in_order(ways, provider):
            lines += _stage_rows(one)
    return "\n".join(lines)


def _in_order(ways: list[dict[str, Any]], provider: str) -> list[dict[str, Any]]:
    names = ["raw", "none", "balanced", "aggressive", "maximum"]
    own = [one for one in ways if one["provider"] == provider]
    return sorted(own, key=lambda one: [*names, one["way"]].index(one["way"]))


def _name(way: str) -> str:
    return "plain" if way == "raw" else f"`{way}`" if way.islower() else way


def _tokens(one: dict[str, Any]) -> int:
    return int(one["read"] + one["wrote"])


def _stage_rows(one: dict[str, Any]) -> list[str]:
    if not one["stages"]:
        return []
    rate = one["input_nano_usd_per_million"] / 1e9 / 1e6
    rows = []
    for stage, name in _STAGES.items():
        if stage in one["stages"]:
            of = one["stages"][stage]
            net = of["saved"] - of["spent"]
            money = f"{'+' if net >= 0 else '-'}${abs(net) * rate:,.2f}"
            rows.append(
                f"| {one['provider']} | `{one['way']}` | {name} | {of['saved']:,} "
                f"| {of['spent']:,} | {net:+,} | {money} |"
            )
    off = one["difference"] - one["by_stages"]
    words = "the same" if not off else f"{off:+,}: later turns held other answers"
    rows.append(
        f"| {one['provider']} | `{one['way']}` | **all** | | | **{one['by_stages']:+,}** "
        f"| difference of the bills: {one['difference']:+,} ({words}) |"
    )
    return rows
