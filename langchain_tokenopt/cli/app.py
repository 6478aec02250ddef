"""The app, its exit codes, and the one line that a failed command leaves.

Results go to stdout, words to stderr. Exit code 0: done; 1: it could not be done, and one line says
why; 2: wrong use; 130: interrupted.
"""

from __future__ import annotations

import os
import sys
import warnings
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from langchain_tokenopt.core.printable import STEERING_CHARACTERS, printable

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "STEERING_CHARACTERS",
    "CommandError",
    "app",
    "main",
    "named_file",
    "printable",
    "say",
    "words_console",
]


class CommandError(Exception):
    """A command cannot do what was asked; the message is the line that the user sees."""


def named_file(kind: str, given: str | None, also: str | None) -> str:
    """Return the file that a command reads: of its option, or given as its first word.

    Args:
        kind: What is in it, as its option is called.
        given: By the option, or by the environment.
        also: The first word.

    Raises:
        CommandError: Nobody has named one.
    """
    found = also if also is not None else given
    if found is None:
        raise CommandError(
            f"name the file: --{kind} FILE, or TOKENOPT_{kind.upper()} for all time."
        )
    return found


class _OneLineErrors(TyperGroup):
    """Turns foreseeable failures of any command into one line on stderr and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()  # a reader that has left is noticed here, not at exit
        except BrokenPipeError:
            raise  # the reader has left (``| head``): Typer ends quietly
        except KeyboardInterrupt as error:
            raise typer.Exit(130) from error  # older versions of Typer would make it 1
        except Exception as error:  # every command's errors come here; bugs are raised again
            line = _explained(error)
            if line is None:
                raise
            _drop_unwritten_output()
            say(line)
            raise typer.Exit(1) from error
        return result


def _explained(error: Exception) -> str | None:
    """Return the line for a foreseeable failure; ``None`` for a bug, which keeps its traceback."""
    from langchain_tokenopt.core.errors import TokenOptError

    if isinstance(error, OSError) and error.filename is not None:
        return f"cannot use {error.filename}: {error.strerror}."
    if isinstance(error, OSError) and error.strerror:
        return f"the result cannot be written: {error.strerror}."
    if isinstance(error, UnicodeError):
        return f"a name, or the file that it names, is no UTF-8: {error}."
    if isinstance(error, (CommandError, TokenOptError, OSError)):
        return str(error)
    return None


def _drop_unwritten_output() -> None:
    """Point stdout elsewhere if it takes nothing more, so that Python does not fail at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


app = typer.Typer(
    cls=_OneLineErrors,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    """Print the version and end, when it was asked for."""
    if wanted:
        from importlib.metadata import version

        typer.echo(version("langchain-tokenopt"))
        raise typer.Exit


@app.callback()
def tokenopt(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """See, cut, cap and prove the token spend of LangChain chains and LangGraph graphs."""


def main() -> None:
    """Run the command line; the entry point of the console script ``tokenopt``."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the shell (``>&-``)
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  open to the end
        elif hasattr(stream, "reconfigure"):
            # A terminal that cannot show a character gets a question mark, not a traceback.
            stream.reconfigure(errors="replace")
    warnings.formatwarning = lambda message, *_, **__: f"tokenopt: {message}\n"
    app()


def say(line: str) -> None:
    """Print one line for the user on stderr."""
    typer.echo(f"tokenopt: {printable(' '.join(line.split()))}", err=True)


def words_console() -> Console:
    """Return the console for progress and notes, on stderr."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
