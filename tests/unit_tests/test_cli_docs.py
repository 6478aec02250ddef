"""Every command is in the README and says what it does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

from langchain_tokenopt.cli import app

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def _commands(command, path: str = "tokenopt") -> Iterator[tuple[str, object]]:
    subcommands = getattr(command, "commands", None)
    if subcommands is None:
        yield path, command
        return
    for name, subcommand in subcommands.items():
        yield from _commands(subcommand, f"{path} {name}")


COMMANDS = list(_commands(get_command(app)))


@pytest.mark.parametrize("path", [path for path, _ in COMMANDS])
def test_every_command_is_in_the_readme(path):
    """A command nobody can find does not exist."""
    assert path in README


@pytest.mark.parametrize(("path", "command"), COMMANDS)
def test_every_command_and_option_has_help(path, command):
    """Its docstring is its help."""
    assert command.help
    for parameter in command.params:
        if parameter.name != "help":
            assert getattr(parameter, "help", None), f"{path} {parameter.name} has no help"
