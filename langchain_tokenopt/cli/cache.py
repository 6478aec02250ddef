"""Commands that look into a file of cached answers, and clean it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from langchain_tokenopt.cli.app import CommandError
from langchain_tokenopt.cli.tables import JsonOption, LimitOption, print_table, tell, write_json
from langchain_tokenopt.core.counted import counted

if TYPE_CHECKING:
    from langchain_tokenopt.cache import SemanticCache

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Look into a file of cached answers, and clean it.")

CacheOption = Annotated[
    str,
    typer.Option("--cache", envvar="TOKENOPT_CACHE", help="File or URL of the cache."),
]


@app.command()
def stats(cache: CacheOption, as_json: JsonOption = False) -> None:
    """Show what the file holds, what it has saved, and what its evidence says.

    Example: tokenopt cache stats --cache answers.db
    """
    with _opened(cache) as opened:
        found = opened.stats(lifetime=True)
        figures = {
            "entries": found.entries,
            "bytes": found.bytes,
            "requests": found.requests,
            "hits": found.hits,
            "saved_tokens": found.saved_tokens,
            "checked": found.checked,
            "checked_wrong": found.checked_wrong,
            "fields": len(found.fields),
            "checked_in_fields": sum(field.checked for field in found.fields),
            "worst_wrong_per_request_bound": round(
                max((field.wrong_per_request_bound for field in found.fields), default=0.0), 5
            ),
        }
    if as_json:
        write_json({**figures, "misses": found.misses, "not_stored": found.not_stored})
        return
    print_table(("", "value"), [(name.replace("_", " "), f"{v:,}") for name, v in figures.items()])
    for name, count in [*found.misses.items(), *found.not_stored.items()][:10]:
        tell(f"{counted(count, 'time')} {name}")
    if found.misses.get("system text differs", 0) > found.hits:
        tell(
            "Questions come again, each time under another system text, so that nothing can hit. "
            "Put what changes there (a clock, a date, an id) into the user's turn."
        )


@app.command()
def top(
    cache: CacheOption,
    limit: LimitOption = 10,
    as_json: JsonOption = False,
) -> None:
    """Show the stored questions that were served most often.

    Example: tokenopt cache top -n 5 --cache answers.db
    """
    with _opened(cache) as opened:
        entries = opened.top(limit)
    if as_json:
        write_json([asdict(entry) for entry in entries])
        return
    rows = [(str(e.entry), e.question, f"{e.hits:,}", f"{e.saved_tokens:,}") for e in entries]
    print_table(("entry", "question", "hits", "saved tokens"), rows, words=("question",))


@app.command()
def check(cache: CacheOption, as_json: JsonOption = False) -> None:
    """Read every entry and remove those that cannot be read.

    Example: tokenopt cache check --cache answers.db
    """
    with _opened(cache) as opened:
        found = opened.check()
    if as_json:
        write_json(asdict(found))
    else:
        state = "sound" if found.is_sound else "DAMAGED"
        removed = counted(len(found.damaged), "damaged entry", "damaged entries")
        entries = counted(found.entries, "entry", "entries")
        tell(f"{entries}, {found.bytes:,} bytes; removed: {removed}; file {state}.")
    if not found.is_sound:
        raise CommandError("The cache is damaged. Delete it: it starts anew.")


@app.command()
def clear(
    cache: CacheOption,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete all answers and all evidence of the file.

    Example: tokenopt cache clear --cache answers.db
    """
    from langchain_tokenopt.storage.places import label_of

    with _opened(cache) as opened:
        entries = opened.stats().entries
        if not yes:
            typer.confirm(
                f"Delete {counted(entries, 'answer')} from {label_of(cache)}?", abort=True, err=True
            )
        opened.clear()
    if as_json:
        write_json({"deleted": entries})
    else:
        tell(f"{counted(entries, 'answer')} deleted.")


@app.command()
def explain(
    question: Annotated[str, typer.Argument(help="What would be asked.")],
    cache: CacheOption,
    as_json: JsonOption = False,
) -> None:
    """Say whether a question would be answered from the file, and why.

    Example: tokenopt cache explain "How do I enable 2FA?" --cache answers.db
    """
    with _opened(cache, embeds=True) as opened:
        found = opened.explain(question)
    if as_json:
        write_json(asdict(found))
        return
    tell(f"{'hit' if found.hit else 'miss'}: {found.why}")
    rows = [
        (str(c.entry), f"{c.cosine:.3f}", ", ".join((*c.vetoes, *c.doubts)) or "-", c.question)
        for c in found.candidates
    ]
    if rows:
        columns = ("entry", "cosine", "differs in", "question")
        print_table(columns, rows, words=("differs in", "question"))


@contextmanager
def _opened(path: str, *, embeds: bool = False) -> Iterator[SemanticCache]:
    """Open an existing file with the embedder it was made with."""
    from langchain_tokenopt.cache import SemanticCache
    from langchain_tokenopt.cache.cache_schema import NO_EMBEDDER
    from langchain_tokenopt.cache.repositories import embedder_in
    from langchain_tokenopt.embeddings import LocalEmbeddings
    from langchain_tokenopt.storage.places import label_of

    made_with = embedder_in(path)
    embeddings = LocalEmbeddings() if embeds and made_with != NO_EMBEDDER else None
    if embeddings is not None and embeddings.fingerprint != made_with:
        raise CommandError(
            f"{label_of(path)} was made with {made_with}, which is not the local embedder: "
            f"call SemanticCache(...).explain(...) with that embedder instead."
        )
    semantic = embeddings is not None
    with SemanticCache(path, embeddings=embeddings, semantic=semantic, max_entries=10**9) as opened:
        yield opened
