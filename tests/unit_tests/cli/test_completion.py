"""What shells are told when somebody presses Tab, and the script that asks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

MAIN = "import sys; sys.argv[0] = 'tokenopt'; from langchain_tokenopt.cli import main; main()"
ASKED = {
    "bash": lambda line: {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))},
    "zsh": lambda line: {"_TYPER_COMPLETE_ARGS": line},
    "fish": lambda line: {
        "_TYPER_COMPLETE_ARGS": line,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    },
}


def tokenopt(*arguments: str, **env: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", MAIN, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1", **env},
    ).stdout


@pytest.mark.parametrize("shell", ASKED)
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("tokenopt we", {"weekly"}),
        ("tokenopt top --by us", {"user"}),
        ("tokenopt top --age", {"--agent"}),
        ("tokenopt cache cl", {"clear"}),
    ],
)
def test_tab_offers_what_fits(shell, line, offered):
    """Commands, options, and the dimensions of --by."""
    told = tokenopt(_TOKENOPT_COMPLETE=f"complete_{shell}", **ASKED[shell](line))
    words = set(told.replace('"', " ").replace(":", " ").split())
    assert offered <= words
    assert not {"stats", "model", "--user", "check"} & words


@pytest.mark.parametrize("shell", ASKED)
def test_the_script_of_a_shell_can_be_shown(shell):
    """It calls the command back under its own name."""
    script = tokenopt("--show-completion", shell)
    assert "_TOKENOPT_COMPLETE" in script
    assert "tokenopt" in script


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash here")
def test_bash_takes_the_script(tmp_path):
    """A real bash reads it, and its function finds the words."""
    command = tmp_path / "tokenopt"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{MAIN}" "$@"\n')
    command.chmod(0o755)
    script = tokenopt("--show-completion", "bash")
    asked = "COMP_WORDS=(tokenopt mon); COMP_CWORD=1; _tokenopt_completion tokenopt"
    done = subprocess.run(
        ["bash", "-c", f"{script}\n{asked}\necho ${{COMPREPLY[@]}}"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )
    assert done.stdout.split() == ["monthly"]
