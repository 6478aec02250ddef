"""Commands that look into a file of cached answers, and clean it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from langchain_tokenopt.cli.app import CommandError, printable
from langchain_tokenopt.cli.tables import JsonOption, LimitOption, print_table, write_json

if TYPE_CHECKING:
    from langchain_tokenopt.cache import SemanticCache

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Look into a file of cached answers, and clean it.")

CacheOption = Annotated[Path, typer.Option("--cache", help="File of the cache.")]


@app.command()
def stats(cache: CacheOption, as_json: JsonOption = False) -> None:
    """Show what the file holds, what it has saved, and what its evidence says."""
    with _opened(cache) as opened:
        found, served = opened.stats(), opened.top(10**9)
        figures = {
            "entries": found.entries,
            "bytes": found.bytes,
            "hits": sum(entry.hits for entry in served),
            "saved_tokens": sum(entry.saved_tokens for entry in served),
            "checked": found.checked,
            "checked_wrong": found.checked_wrong,
            "fields": len(found.fields),
            "checked_in_fields": sum(field.checked for field in found.fields),
            "worst_wrong_per_request_bound": round(
                max((field.wrong_per_request_bound for field in found.fields), default=0.0), 5
            ),
        }
    if as_json:
        write_json(figures)
        return
    print_table(("", "value"), [(name.replace("_", " "), f"{v:,}") for name, v in figures.items()])


@app.command()
def top(
    cache: CacheOption,
    limit: LimitOption = 10,
    as_json: JsonOption = False,
) -> None:
    """Show the stored questions that were served most often."""
    with _opened(cache) as opened:
        entries = opened.top(limit)
    if as_json:
        write_json([asdict(entry) for entry in entries])
        return
    rows = [(str(e.entry), e.question, f"{e.hits:,}", f"{e.saved_tokens:,}") for e in entries]
    print_table(("entry", "question", "hits", "saved tokens"), rows, words=("question",))


@app.command()
def check(cache: CacheOption, as_json: JsonOption = False) -> None:
    """Read every entry and remove those that cannot be read."""
    with _opened(cache) as opened:
        found = opened.check()
    if as_json:
        write_json(asdict(found))
    else:
        state = "sound" if found.is_sound else "DAMAGED"
        removed = f"{len(found.damaged)} damaged entries were removed"
        typer.echo(f"{found.entries:,} entries, {found.bytes:,} bytes; {removed}; file {state}.")
    if not found.is_sound:
        raise CommandError(f"SQLite finds {cache} damaged. Delete it: the cache starts anew.")


@app.command()
def clear(
    cache: CacheOption,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete all answers and all evidence of the file."""
    with _opened(cache) as opened:
        entries = opened.stats().entries
        if not yes:
            typer.confirm(f"Delete {entries:,} answers from {cache}?", abort=True, err=True)
        opened.clear()
    if as_json:
        write_json({"deleted": entries})
    else:
        typer.echo(f"{entries:,} answers deleted.")


@app.command()
def explain(
    question: Annotated[str, typer.Argument(help="What would be asked.")],
    cache: CacheOption,
    as_json: JsonOption = False,
) -> None:
    """Say whether a question would be answered from the file, and why."""
    with _opened(cache, embeds=True) as opened:
        found = opened.explain(question)
    if as_json:
        write_json(asdict(found))
        return
    typer.echo(printable(f"{'hit' if found.hit else 'miss'}: {found.why}"))
    rows = [
        (str(c.entry), f"{c.cosine:.3f}", ", ".join((*c.vetoes, *c.doubts)) or "-", c.question)
        for c in found.candidates
    ]
    if rows:
        columns = ("entry", "cosine", "differs in", "question")
        print_table(columns, rows, words=("differs in", "question"))


@contextmanager
def _opened(path: Path, *, embeds: bool = False) -> Iterator[SemanticCache]:
    """Open an existing file with the embedder it was made with."""
    from langchain_core.embeddings import Embeddings

    from langchain_tokenopt.cache import SemanticCache
    from langchain_tokenopt.cache.cache_schema import embedder_of
    from langchain_tokenopt.embeddings import LocalEmbeddings

    class Unasked(Embeddings):
        """Stands for the embedder where nothing is embedded."""

        fingerprint = embedder_of(path)

        def embed_query(self, text: str) -> list[float]:
            raise CommandError(
                f"{path} was made with {self.fingerprint}, which is not the local embedder: "
                f"call SemanticCache(...).explain(...) with that embedder instead."
            )

        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return [self.embed_query(text) for text in texts]

    embeddings: Any = Unasked()
    if embeds:
        local = LocalEmbeddings()
        if local.fingerprint == embeddings.fingerprint:
            embeddings = local
        else:
            embeddings.embed_query("")
    with SemanticCache(path, embeddings=embeddings, max_entries=10**9) as opened:
        yield opened
