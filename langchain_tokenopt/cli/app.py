"""What all commands share: the app, one-line errors, and how money and time are written.

Results go to stdout, words to stderr. Exit code 0: done; 1: it could not be done, and one line says
why; 2: wrong use; 130: interrupted.
"""

from __future__ import annotations

import sys
import warnings
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = [
    "CommandError",
    "app",
    "format_cost",
    "format_seconds",
    "main",
    "print_table",
    "say",
    "words_console",
]


class CommandError(Exception):
    """A command cannot do what was asked; the message is the line that the user sees."""


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
            say(line)
            raise typer.Exit(1) from error
        return result


def _explained(error: Exception) -> str | None:
    """Return the line for a foreseeable failure; ``None`` for a bug, which keeps its traceback."""
    from langchain_tokenopt.core.errors import TokenOptError

    if isinstance(error, OSError) and error.filename is not None:
        return f"cannot use {error.filename}: {error.strerror}."
    if isinstance(error, (CommandError, TokenOptError, OSError)):
        return str(error)
    return None


app = typer.Typer(
    cls=_OneLineErrors,
    no_args_is_help=True,
    add_completion=False,
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
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # A terminal that cannot show a character gets a question mark, not a traceback.
            stream.reconfigure(errors="replace")
    warnings.formatwarning = lambda message, *_, **__: f"tokenopt: {message}\n"
    app()


def say(line: str) -> None:
    """Tell the user one line, on stderr."""
    typer.echo(f"tokenopt: {' '.join(line.split())}", err=True)


def words_console() -> Console:
    """Return the console for words: progress and notes, on stderr."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


def print_table(table: Table) -> None:
    """Print a result table on stdout; in a pipe or a file no cell is cut to fit a terminal."""
    from rich.console import Console
    from rich.measure import Measurement

    console = Console(highlight=False)
    if not console.is_terminal:
        unbounded = console.options.update(max_width=10_000)
        console.width = max(console.width, Measurement.get(console, unbounded, table).maximum)
    console.print(table)


def format_cost(nano_usd: int | None) -> str:
    """Write billionths of a US dollar; "-" where no price is known.

    Example:
        >>> format_cost(1_234_500_000), format_cost(123_400), format_cost(0), format_cost(None)
        ('$1.23', '$0.000123', '$0.00', '-')
    """
    if nano_usd is None:
        return "-"
    usd = Decimal(nano_usd) / 1_000_000_000
    sign = "-" if usd < 0 else ""
    if usd == 0 or abs(usd) >= Decimal("0.9995"):
        return f"{sign}${abs(usd):,.2f}"
    # Small amounts keep three digits that say something.
    return f"{sign}${abs(usd):.{2 - usd.adjusted()}f}"


def format_seconds(seconds: float | None) -> str:
    """Write a duration; "-" where none was measured.

    Example:
        >>> format_seconds(0.0421), format_seconds(3.26), format_seconds(185), format_seconds(None)
        ('42 ms', '3.3 s', '3 min 5 s', '-')
    """
    if seconds is None:
        return "-"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"
