"""Every command over hostile names: terminals cut nothing but names, pipes nothing at all."""

from __future__ import annotations

import json
import re
import unicodedata

import pytest
from rich.cells import cell_len

from tests.support.command_page import commands
from tests.support.shown_commands import NAMES, ShownCommands

DOCUMENTS = {"export", "compress", "budget suggest"}
"""Their result is a text of its own, which no terminal may change."""
VARY = {"compare", "kpi"}
"""Their figures are other ones each time."""
STYLES = re.compile("\x1b\\[[0-9;]*m")
FIGURE = re.compile(r"[~$+-]{0,2}\d[\d,]*(\.\d+)?[%MKx+]?")


@pytest.fixture(scope="module")
def shown(tmp_path_factory) -> ShownCommands:
    return ShownCommands(tmp_path_factory.mktemp("shown"))


COMMANDS = [path.removeprefix("tokenopt ") for path, _ in commands()]
SERVED = {"dashboard"}


def test_every_command_is_walked(shown):
    """A new one has a place here, too."""
    assert shown.calls().keys() == set(COMMANDS) - SERVED


def is_document(command: str, arguments: list[str]) -> bool:
    return command in DOCUMENTS or "--csv" in arguments


def figures_of(text: str) -> set[str]:
    """What stands alone between blanks and is a number."""
    return {word for word in text.split() if FIGURE.fullmatch(word)}


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - SERVED - {"demo", "validate"}))
def test_every_screen_fits_and_cuts_no_figure(command, shown):
    """At 60, 80 and 120 columns: what a pipe gets, whole; and no line is longer than the screen."""
    for arguments in shown.calls()[command]:
        piped = shown.run(command, arguments)
        assert piped.exit_code in (0, 4), piped.output
        odd = {c for c in piped.stdout if unicodedata.category(c) in ("Cc", "Cf")}
        assert odd <= {"\n", "\u200d"}
        assert "…" not in piped.stdout.replace(NAMES[-1], "")
        figures = set() if command in VARY else figures_of(piped.stdout)
        for width in (60, 80, 120):
            seen = shown.run(command, arguments, width=width)
            lines = STYLES.sub("", seen.stdout).split("\n")
            lines = [line for line in lines if not line.startswith("  $ ")]  # copied as they are
            if is_document(command, arguments):
                continue
            assert max(map(cell_len, lines)) <= width, (arguments, width)
            assert not any(re.search(r"\d…", line) for line in lines)
            words = {word.strip(",") for line in lines for word in line.split()}
            assert figures <= words, (arguments, width, figures - words)
            assert (
                "[red]" not in "".join(lines)
                or "[/red]" in "".join(lines)
                or "[red]…" in "".join(lines)
                or command
            )


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - SERVED - {"demo", "validate"}))
def test_every_command_has_json(command, shown):
    """One document on stdout, whatever names are in it."""
    for arguments in shown.calls()[command]:
        if "--csv" in arguments:
            continue
        result = shown.run(command, [*arguments, "--json"])
        assert result.exit_code in (0, 4), result.output
        if command == "live":
            assert all(json.loads(line) for line in result.stdout.splitlines())
        else:
            json.loads(result.stdout)
        odd = {c for c in result.stdout if unicodedata.category(c) in ("Cc", "Cf")}
        assert odd <= {"\n", "\u200d"}
