"""docs/commands.md, written from the commands themselves: python -m tests.support.command_page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from typer.main import get_command

from langchain_tokenopt.cli import app

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"
_SHARED = ("ledger", "since", "until", "user", "agent", "model", "tag", "as_json")
"""Options of almost every command that reads a ledger, explained once."""


def commands(command: Any = None, path: str = "tokenopt") -> Iterator[tuple[str, Any]]:
    """Yield every command with the words that call it, those that hide behind another included."""
    command = command or get_command(app)
    subcommands = getattr(command, "commands", None)
    if subcommands is None:
        yield path, command
        if hasattr(command, "suggest_command"):
            yield f"{path} suggest", command.suggest_command()
        return
    for name, subcommand in subcommands.items():
        yield from commands(subcommand, f"{path} {name}")


def _panel(path: str) -> str:
    return get_command(app).commands[path.split()[1]].rich_help_panel


def _names(option: Any) -> str:
    return ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))


def _option(option: Any) -> str:
    default = option.default
    shown = isinstance(default, (int, float, str)) and not isinstance(default, bool)
    is_option = option.opts[0].startswith("-")
    name = _names(option) if is_option else f"`{option.metavar or option.name.upper()}`"
    return f"- {name}: {option.help}{f' [{default}]' if shown else ''}"


def _section(path: str, command: Any, explained: set[str]) -> Iterator[str]:
    words, _, example = command.help.partition("Example: ")
    yield f"### {path}\n"
    yield re.sub(r"(?<!\n)\n(?!\n)", " ", words.replace("\b", "").strip()) + "\n"
    if example:
        yield f"```console\n$ {' '.join(example.split())}\n```\n"
    params = [each for each in command.params if each.name != "help" and not each.hidden]
    shared = [_names(each) for each in params if each.help in explained]
    for option in params:
        if option.help not in explained:
            yield _option(option)
    if shared:
        yield f"- {', '.join(shared)}"
    if params:
        yield ""


def page() -> str:
    """Return the page."""
    every = dict(commands())
    shared = [each for each in every["tokenopt top"].params if each.name in _SHARED]
    lines = [
        "# Commands\n",
        "Written from the commands themselves; `tokenopt COMMAND -h` says the same. What other",
        "questions there are, and which command answers them: [questions.md](questions.md).\n",
        "Options that most commands share:\n",
        *map(_option, shared),
        "",
        "Files are named by what is in them: `--ledger`, `--cache`, `--budgets`, `--guard`; or",
        "once, in the environment: `TOKENOPT_LEDGER`, `TOKENOPT_CACHE`, `TOKENOPT_BUDGETS`,",
        "`TOKENOPT_GUARD`.\n",
        "Results go to stdout, words to stderr. Exit code 0: done; 1: it could not be done, and",
        "one line says why; 2: wrong use. In a terminal names give way to its width and figures",
        "never; in a pipe nothing is cut. `tokenopt --install-completion` completes commands in",
        "bash, zsh, fish and PowerShell.\n",
    ]
    for panel, group in groupby(every.items(), lambda item: _panel(item[0])):
        lines.append(f"## {panel}\n")
        for path, command in group:
            lines += _section(path, command, {option.help for option in shared})
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
