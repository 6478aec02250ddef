"""Every command is in docs/commands.md, says what it does, and takes what all take."""

from __future__ import annotations

import pytest

from tests.support.command_page import PAGE, commands, page

COMMANDS = list(commands())


def test_the_page_of_commands_is_up_to_date():
    """A command nobody can find does not exist."""
    assert PAGE.read_text(encoding="utf-8") == page(), "python -m tests.support.command_page"


@pytest.mark.parametrize(("path", "command"), COMMANDS)
def test_every_command_and_option_has_help(path, command):
    """Its docstring is its help, with an example that can be pasted."""
    assert f"Example: {path}" in " ".join(command.help.split())
    for parameter in command.params:
        if parameter.name != "help":
            assert getattr(parameter, "help", None), f"{path} {parameter.name} has no help"


@pytest.mark.parametrize(("path", "command"), COMMANDS)
def test_every_command_knows_h_and_json(path, command):
    """Both work wherever somebody tries them."""
    names = command.context_settings.get("help_option_names", [])
    assert "-h" in names or path.startswith("tokenopt ")  # which inherits them
    wordless = {"tokenopt dashboard", "tokenopt live"}
    assert path in wordless or any("--json" in each.opts for each in command.params), path
