"""Commands for a text at hand: how many tokens it is, and how it looks in fewer."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from langchain_tokenopt.cli.app import CommandError, say
from langchain_tokenopt.cli.tables import JsonOption, write_json

__all__ = ["compress", "count", "read_text"]

_FILE = typer.Argument(help="A text file; - reads standard input.", show_default=False)
_MODEL = typer.Option("--model", help="Model or vocabulary whose tokens are counted.")


def compress(
    file: Annotated[str, _FILE],
    max_tokens: Annotated[
        int, typer.Option("--max-tokens", min=1, help="Tokens the result may have.")
    ],
    query: Annotated[
        str | None, typer.Option("--query", help="What the text must still answer.")
    ] = None,
    model: Annotated[str, _MODEL] = "o200k_base",
    as_json: JsonOption = False,
) -> None:
    """Shorten a prompt or page to an exact number of tokens.

    The result goes to stdout; what was saved and lost, to stderr.

    Example: tokenopt compress prompt.txt --max-tokens 300 --query "When does it end?"
    """
    from langchain_tokenopt.compress import PromptCompressor

    if query is not None and not query.strip():
        raise CommandError("--query is blank. Give it a question, or leave it out.")
    result = PromptCompressor(max_tokens, query=query, model=model).compress(read_text(file))
    if as_json:
        write_json(
            {
                "content": result.content,
                "tokens_before": result.tokens_before,
                "tokens_after": result.tokens_after,
                "exact": result.exact,
                "steps": result.steps,
                "reason": result.reason,
                "lost": {
                    "numbers": result.loss.numbers.lost,
                    "entities": result.loss.entities.lost,
                    "negations": result.loss.negations.lost,
                    "obligations": result.loss.obligations.lost,
                },
            }
        )
        return
    typer.echo(result.content)
    about = "" if result.exact else "about "
    say(f"{about}{result.tokens_before:,} tokens before, {about}{result.tokens_after:,} after.")
    say(result.reason or str(result.loss))


def count(
    file: Annotated[str, _FILE],
    model: Annotated[str, _MODEL] = "o200k_base",
    as_json: JsonOption = False,
) -> None:
    """Count the tokens of a text.

    Example: tokenopt count prompt.txt --model gpt-4o
    """
    from langchain_tokenopt.counting.tokens import counter_for

    found = counter_for(model).count(read_text(file))
    if as_json:
        write_json({"tokens": found.tokens, "exact": found.exact, "model": model})
    else:
        typer.echo(f"{found.tokens:,}" if found.exact else f"about {found.tokens:,}")


def read_text(file: str) -> str:
    """Read a file or standard input as UTF-8."""
    content = _bytes_of(file)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        name = "standard input" if file == "-" else file
        raise CommandError(
            f"{name} is no UTF-8 text: byte {error.start:,} is {content[error.start]:#04x}. "
            f"Convert it first, for instance with iconv."
        ) from error


def _bytes_of(file: str) -> bytes:
    if file == "-":
        if sys.stdin is None:
            raise CommandError("standard input is closed: there is nothing to read.")
        return sys.stdin.buffer.read()
    path = Path(file)
    if "\0" in file or path.is_dir():
        raise CommandError(f"{file!r} is no file; name a text file, or - for standard input.")
    return path.read_bytes()
