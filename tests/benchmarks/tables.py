"""Write measured tables, lists of names and links into the documentation.

Run:     make tables          (python -m tests.benchmarks.tables)

A table stands between ``<!-- table: name -->`` and ``<!-- end -->`` and comes from
``results/<name>.md`` where the benchmark writes one, else from a function here. Links of the README
are absolute, since it is shown elsewhere, too; their base is the ``Source`` of pyproject.toml.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from langchain_tokenopt.core.levels import LEVELS, PARTS
from tests.benchmarks.claims import claims
from tests.benchmarks.context_tables import context_table
from tests.benchmarks.delivery_tables import delivery_tables
from tests.benchmarks.learn_tables import strategies_table, templates_table
from tests.benchmarks.results import RESULTS
from tests.benchmarks.routing_tables import routing_tables
from tests.benchmarks.scale_cache_table import scale_cache_tables
from tests.benchmarks.tool_tables import tool_tables
from tests.benchmarks.whole_tables import whole_tables
from tests.support.name_page import house, inner_names, public_names

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [README, ROOT / "BENCHMARKS.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
_MARKED = re.compile(r"(<!-- table: (?P<name>[\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_LINK = re.compile(
    r"\]\((?:https://github\.com/[\w-]+/langchain-tokenopt/blob/main/)?([\w/]+\.\w+)"
)


def written(page: Path) -> str:
    """Return the text of *page* with its tables and links made anew."""
    text = filled(page.read_text(encoding="utf-8"))
    return _LINK.sub(rf"]({source()}/blob/main/\1", text) if page == README else text


def source() -> str:
    """Return where the project lives."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(project["urls"]["Source"])


def filled(text: str) -> str:
    """Return *text* with every marked table made anew."""
    return _MARKED.sub(lambda found: f"{found[1]}{table(found['name'])}\n{found[3]}", text)


def table(name: str) -> str:
    """Return the Markdown of one table; of a measured one with its command, versions and day."""
    if name in _WRITTEN:
        return _WRITTEN[name]()
    result = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    markdown = RESULTS / f"{name}.md"
    shown = (
        markdown.read_text(encoding="utf-8").strip()
        if markdown.is_file()
        else _TABLES[name](result["figures"])
    )
    known = isinstance(result, dict) and "python 3" not in shown
    return f"{shown}\n\n{conditions_of(result)}" if known else shown


def conditions_of(result: dict[str, Any]) -> str:
    """Return the command, the versions and the day of a result, as a line."""
    where = result["conditions"]
    versions = ", ".join(f"{name} {v}" for name, v in where["versions"].items() if v)
    return (
        f"`{result['command']}`: python {where['python']}, {versions}; "
        f"{where['cpus']} shared CPUs, {where['date']}."
    )


def _usage(figures: dict[str, Any]) -> str:
    core, ours = "langchain-core UsageMetadataCallbackHandler", "TokenUsageCallbackHandler"
    lines = [
        "| added to a call (median) | langchain-core's handler "
        "| TokenUsageCallbackHandler | ratio |",
        "|---|---|---|---|",
    ]
    titles = {
        "short_prompt": "a short prompt",
        "200_messages_of_4_kb": "200 messages of 4 KB",
        "ten_node_graph": "a graph of ten nodes that call a model",
    }
    for key, title in titles.items():
        theirs, mine = figures[key][core], figures[key][ours]
        lines.append(
            f"| {title} | {theirs['overhead_us']:,.0f} us | {mine['overhead_us']:,.0f} us "
            f"| {mine['ratio_to_rival']:.2f} |"
        )
    seam = figures["seam"]
    for name, title in (
        ("no stage", "`optimize` without stages"),
        ("three no-op stages", "`optimize` with three stages that do nothing"),
        ("a plan, 2 kB", "`optimize` with a budget, a fresh prompt of 2 kB"),
    ):
        lines.append(f"| {title} | | {seam[name]['overhead_us']:,.0f} us | |")
    return "\n".join(lines)


def _budget_desk(figures: dict[str, Any]) -> str:
    found, other = figures["summary"], figures["unlike_the_question"]
    seeds, without, kept = found["seeds"], found["tokens_without"], found["tokens_with"]
    time, lost = figures["time_saved"], found["facts_lost_with"]
    rows = [
        ("tokens without a plan", f"{without['min']:,} to {without['max']:,}"),
        ("tokens with 40,000", f"{kept['min']:,} to {kept['max']:,}"),
        ("lower cost", _percents(found["cost_saved"])),
        (
            f"less time, 20 ms a word ({len(figures['timed'])} seeds, {_busy(figures)})",
            _percents(time),
        ),
        ("less waiting for words, by the server's count", _percents(found["server_time_saved"])),
        ("calls denied to agents with a floor", found["denied_with_floor"]),
        (
            "reports missing; over their word limit",
            _both(found, "reports_missing", "over_word_limit"),
        ),
        ("the same decision", f"{found['same_decision']} of {seeds}"),
        ("planted facts that did not reach the trader", f"{lost['at_the_trader']:.1%}"),
    ]
    if other:
        share = other["facts_lost_with"]["at_the_trader"]
        rows.append(
            (
                f"the same for facts without a word of the question ({other['seeds']} seeds)",
                f"{share:.1%}",
            )
        )
    ample = figures["overhead"]
    rows.append(
        (
            "added to a run of 200 ms calls by an ample budget",
            f"{ample['share_of_wall_time']:.1%} of the time ({ample['added_cpu_ms']:.0f} ms CPU)",
        )
    )
    lines = [f"| the desk, {seeds} seeds | |", "|---|---|", *(f"| {a} | {b} |" for a, b in rows)]
    return "\n".join(lines)


def _percents(spread: dict[str, float]) -> str:
    return f"{spread['min']:.0%} to {spread['max']:.0%}, median {spread['median']:.0%}"


def _both(found: dict[str, Any], one: str, other: str) -> str:
    return f"{found[one]}; {found[other]}"


def _busy(figures: dict[str, Any]) -> str:
    return "three at a time" if len(figures["timed"]) > 1 else "alone"


def _budget_account(figures: dict[str, Any]) -> str:
    lines = [
        "| random schedules | run | spent over the total | least used of a scarce total |",
        "|---|---|---|---|",
    ]
    for name in ("threads", "tasks", "processes"):
        part = figures[name]
        lines.append(
            f"| `TokenBudget`, {name} | {part['schedules']:,} | in {part['overshot']} "
            f"| {part['utilisation_min']:.1%} |"
        )
    bare = figures["without the lock"]
    lines.append(f"| its lock taken away | {bare['schedules']} | in {bare['failed']} | |")
    for name, part in figures["rivals"].items():
        if isinstance(part, dict) and name != "TokenBudget":
            worst = f"in {part['overshot']}, by up to {part['worst_overshoot_ratio']:.0%}"
            lines.append(f"| {name} | {part['schedules']} | {worst} | |")
    return "\n".join(lines)


def _budget_money(figures: dict[str, Any]) -> str:
    ours = figures["ours"]
    lines = [
        "| random mixes of models | run | spent over the total | most used | least used |",
        "|---|---|---|---|---|",
        f"| `BudgetPlan(total_usd=...)` | {ours['mixes']} | in {ours['spent_over']} "
        f"| {ours['most_used']:.2%} | {ours['least_used']:.1%} |",
    ]
    lines += [
        f"| {name} | {rival['mixes']} | in {rival['spent_over']} | {rival['most_used']:.1%} "
        f"| {rival['least_used']:.1%} |"
        for name, rival in figures["rivals"].items()
    ]
    return "\n".join(lines)


def _budget_levels(figures: dict[str, Any]) -> str:
    courses, times = figures["levels"], figures["times"]

    def took(store: str) -> str:
        one, three = (times[f"{store}, {n}"]["p50_us"] / 1e3 for n in ("1 level", "3 levels"))
        return f"{one:.3f} ms; {three:.3f} ms"

    lines = [
        "| a run inside a user's day inside an organization's month | |",
        "|---|---|",
        f"| schedules of {courses['processes']} processes, over midnight, with kills "
        f"| {courses['schedules']:,}: {courses['calls']:,} calls, {courses['denied']:,} refused |",
        f"| accounts; overspent; below the bill; with tokens left held | {courses['accounts']:,}; "
        f"{courses['overshot']}; {courses['below_the_bill']}; {courses['tokens_left_held']} |",
        f"| used of the total that was scarce | {courses['utilisation_min']:.1%} or more |",
        f"| refused though in the end every level had room "
        f"| {courses['refused_though_room_was_left_in_the_end']} |",
        f"| reserve and settle in memory, with one level; with three | {took('memory')} |",
        f"| the same on a file | {took('sqlite')} |",
    ]
    return "\n".join(lines)


def _levels() -> str:
    lines = [f"| | {' | '.join(f'`{level}`' for level in LEVELS)} |", "|---" * 5 + "|"]
    rows: dict[tuple[str, ...], list[str]] = {}
    for part in PARTS:
        words = tuple(part.settings[level].words for level in LEVELS)
        rows.setdefault(words, []).append(f"`{part.name}`")
    for words, names in rows.items():
        cells = words if len({*words}) > 1 else (words[0], "", "", "")
        lines.append(f"| {', '.join(names)} | {' | '.join(cells)} |")
    return "\n".join(lines)


_WRITTEN: dict[str, Callable[[], str]] = {
    "levels": _levels,
    "claims": claims,
    "house": house,
    "names": public_names,
    "inner_names": inner_names,
}


def _scale(figures: dict[str, Any]) -> str:
    stores = ("postgresql", "sqlite")
    many, alone = ([figures[f"{s}, {how}"] for s in stores] for how in ("8 processes", "alone"))

    def times(parts: list[dict[str, Any]], step: str) -> list[str]:
        return [f"{one[step]['p50_ms']:.3g} / {one[step]['p99_ms']:.3g}" for one in parts]

    def each(*names: str) -> list[str]:
        return ["; ".join(f"{one[name]:,}" for name in names) for one in many]

    rows = {
        "reservations asked for; processes killed": each("reservations", "killed"),
        "overshot at any level; below the bill": each("overshot", "below_the_bill"),
        "left held; accounts that do not add up": each(
            "tokens_left_held", "accounts_that_do_not_add_up"
        ),
        "calls (reserve, settle) a second, 8 processes": [
            f"{one['calls_per_second']:,.0f}" for one in many
        ],
        "reserve, p50 / p99 ms, 8 processes": times(many, "reserve"),
        "settle, p50 / p99 ms, 8 processes": times(many, "settle"),
        "reserve, p50 / p99 ms, alone": times(alone, "reserve"),
        "settle, p50 / p99 ms, alone": times(alone, "settle"),
    }
    lines = ["|  | PostgreSQL | SQLite, one file |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {said} | {a} | {b} |" for said, (a, b) in rows.items())])


def _scale_ledger(figures: dict[str, Any]) -> str:
    large, asked = figures["large ledger"], figures["questions"]
    lines = [
        f"| {large['calls']:,} calls in {large['partitions']} partitions, "
        f"{large['gigabytes']} GB | s, the command from its start | s of CPU | ms in Python |",
        "|---|---|---|---|",
    ]
    for command, (title, in_python) in {
        "daily": ("`tokenopt daily`", "by day"),
        "top, by agent": ("`tokenopt top --by agent`", "by agent"),
        "top, by user": ("`tokenopt top --by user`", "by user"),
        "daily, one user": ("`tokenopt daily --user`", "by day, one user"),
        "daily, one month": ("`tokenopt daily`, one month; its totals", "totals of a month"),
    }.items():
        found, ms = asked[f"tokenopt {command}"], asked[f"Ledger: {in_python}"]["ms"]
        lines.append(f"| {title} | {found['seconds']} | {found['cpu_seconds']} | {ms:,.0f} |")
    speeds = [
        (title, figures[part]["calls"], figures[part]["rows_per_second"])
        for part, title in {
            "writing, postgresql": "8 processes write, PostgreSQL",
            "writing, sqlite": "8 processes write, one SQLite file",
        }.items()
        if part in figures
    ]
    for title, found in figures.get("moving", {}).items():
        speeds.append((f"moved, {title}", found["calls"], found["calls_per_second"]))
    lines += ["", "|  | calls | a second |", "|---|---|---|"] if speeds else []
    lines += [f"| {title} | {calls:,} | {speed:,} |" for title, calls, speed in speeds]
    return "\n".join(lines)


def _scale_month(figures: dict[str, Any]) -> str:
    rows = {
        "days; workers; processes": ("days", "workers", "processes"),
        "tasks; models asked": ("tasks", "models_asked"),
        "processes killed; crashes of the server": ("processes_killed", "crashes_of_the_server"),
        "tokens billed; in the ledger": ("tokens_billed", "tokens_in_the_ledger"),
        "tokens charged; saved by the cache": ("tokens_charged", "tokens_saved"),
        "calls that a kill or a crash disturbed; not in the ledger for a kill": (
            "calls_disturbed",
            "calls_missing_in_the_ledger",
        ),
        "disagreements": ("disagreements",),
    }
    lines = ["|  |  |", "|---|---|"]
    for said, names in rows.items():
        lines.append(f"| {said} | {'; '.join(f'{figures[name]:,}' for name in names)} |")
    return "\n".join(lines)


def _requests(figures: dict[str, Any]) -> str:
    ways = figures["ways"]
    agent = next(iter(ways.values()))["tokens"]
    lines = [
        f"| {figures['n']} requests | tokens a request | of the agent's | calls | questions "
        "| essential data right | all data right | wrong values |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {name} | {way['tokens']:,.0f} | {way['tokens'] / agent:.0%} | {way['calls']:.1f} "
        f"| {way['questions']:.1f} | {way['essential_share']:.1%} | {way['right_share']:.1%} "
        f"| {way['wrong_values']} |"
        for name, way in ways.items()
    ]
    return "\n".join(lines)


_TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "usage": _usage,
    "budget_desk": _budget_desk,
    "budget_account": _budget_account,
    "budget_money": _budget_money,
    "budget_levels": _budget_levels,
    "delivery": delivery_tables,
    "context": context_table,
    "tools": tool_tables,
    "scale": _scale,
    "scale_cache": scale_cache_tables,
    "scale_ledger": _scale_ledger,
    "scale_month": _scale_month,
    "learn_strategies": strategies_table,
    "learn_templates": templates_table,
    "agents_requests": _requests,
    "agents_routing": routing_tables,
    "agents_whole": whole_tables,
}


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(written(page), encoding="utf-8")
