"""Commands for a text at hand: how many tokens it is, and how it looks in fewer."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from langchain_tokenopt.cli.app import CommandError, say

__all__ = ["COMMANDS", "compress", "count"]

_FILE = typer.Argument(help="A text file; - reads standard input.", show_default=False)
_MODEL = typer.Option("--model", help="Model or vocabulary whose tokens are counted.")
_JSON = typer.Option("--json", help="Machine-readable output.")


def compress(
    file: Annotated[str, _FILE],
    max_tokens: Annotated[
        int, typer.Option("--max-tokens", min=1, help="Tokens the result may have.")
    ],
    query: Annotated[
        str | None, typer.Option("--query", help="What the text must still answer.")
    ] = None,
    model: Annotated[str, _MODEL] = "o200k_base",
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Shorten a prompt or page to an exact number of tokens.

    The result goes to stdout; what was saved and lost, to stderr.
    """
    from langchain_tokenopt.compress import PromptCompressor

    text = _read(file)
    compressor = PromptCompressor(max_tokens, query=query or None, model=model)
    result = compressor.compress(text)
    if as_json:
        typer.echo(
            json.dumps(
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
                },
                ensure_ascii=False,
            )
        )
        return
    typer.echo(result.content)
    say(_summary(result.tokens_before, result.tokens_after, exact=result.exact))
    say(result.reason or str(result.loss))


def count(
    file: Annotated[str, _FILE],
    model: Annotated[str, _MODEL] = "o200k_base",
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Count the tokens of a text."""
    from langchain_tokenopt.counting.tokens import counter_for

    found = counter_for(model).count(_read(file))
    if as_json:
        typer.echo(json.dumps({"tokens": found.tokens, "exact": found.exact, "model": model}))
        return
    typer.echo(f"{found.tokens:,}" if found.exact else f"about {found.tokens:,}")


COMMANDS = (compress, count)


def _read(file: str) -> str:
    """Read a file or standard input as UTF-8."""
    content = sys.stdin.buffer.read() if file == "-" else _bytes_of(Path(file))
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        name = "standard input" if file == "-" else file
        raise CommandError(
            f"{name} is no UTF-8 text: byte {error.start:,} is {content[error.start]:#04x}. "
            f"Convert it first, for instance with iconv."
        ) from error


def _bytes_of(path: Path) -> bytes:
    if path.is_dir():
        raise CommandError(f"{path} is a folder; name a file, or - for standard input.")
    return path.read_bytes()


def _summary(before: int, after: int, *, exact: bool) -> str:
    about = "" if exact else "about "
    return f"{about}{before:,} tokens before, {about}{after:,} after."
