"""``tokenopt learned``: what was learned, in whatever kind of file: show, copy, forget it."""

from __future__ import annotations

import sqlite3
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand

from langchain_tokenopt.cli.app import CommandError
from langchain_tokenopt.cli.tables import JsonOption, print_table, tell, write_json
from langchain_tokenopt.core.counted import counted

__all__ = ["VerbFirst", "held_in", "learned"]


class Verb(StrEnum):
    """What is done with it."""

    list = "list"
    export = "export"
    load = "load"
    forget = "forget"


class Kind(StrEnum):
    """Kinds of files in which something is learned."""

    values = "LearnedStore"
    tools = "ToolSelector"
    cache = "SemanticCache"
    guard = "QualityGuard"


_APPLICATIONS = {0x746F6C73: Kind.values, 0x746F6B6C: Kind.tools, 0x746F6B63: Kind.cache}


@dataclass(frozen=True, slots=True)
class _Whose:
    """Of whom, and of what."""

    user: str | None
    organization: str | None
    namespace: str | None
    kind: str | None

    @property
    def is_everything(self) -> bool:
        return (self.user, self.organization, self.namespace, self.kind) == (None,) * 4


def learned(
    store: Annotated[
        str,
        typer.Argument(
            envvar="TOKENOPT_LEARNED",
            help="A file of LearnedStore, ToolSelector, SemanticCache or QualityGuard, or a folder "
            "of such files.",
        ),
    ],
    verb: Annotated[
        Verb,
        typer.Argument(help="Export writes lines of JSON to stdout; load reads them from stdin."),
    ] = Verb.list,
    first: Annotated[
        Verb | None, typer.Option("--first-word", help="The verb in front.", hidden=True)
    ] = None,
    user: Annotated[str | None, typer.Option(help="Only what follows from this user.")] = None,
    organization: Annotated[
        str | None, typer.Option(help="Only that of this organization: tools and answers.")
    ] = None,
    namespace: Annotated[
        str | None, typer.Option(help="Only that of this namespace: learned values and answers.")
    ] = None,
    kind: Annotated[str | None, typer.Option(help="Only learned values of this kind.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show, copy or forget what was learned from users, whatever has learned it.

    Of a cache a user's answers are forgotten as well. A ledger of calls is no such file: see
    Ledger.forget.

    Example: tokenopt learned learned.db forget --user ann
    """
    from langchain_tokenopt.storage.places import file_of

    whose = _Whose(user, organization, namespace, kind)
    path, verb = file_of(store), first or verb
    if verb is Verb.load:
        return _load(path, as_json)
    files = _files(path)
    if verb is Verb.export:
        return _export(path, files, whose)
    if verb is Verb.forget:
        return _forget(path, files, whose, yes, as_json)
    rows = [row for path, kind in files for row in _READ[kind](path, whose)]
    if as_json:
        return write_json([row._asdict() for row in rows])
    if not rows:
        return tell(f"Nothing is learned in {store}{_of(whose)}.")
    print_table(
        ("file", "kind", "namespace", "shared", "of users", "users"),
        [
            (row.file, row.kind, row.namespace or "-", *(f"{n:,}" for n in row[3:5]), row.of_whom)
            for row in rows
        ],
        words=("kind", "namespace"),
    )
    return None


class VerbFirst(TyperCommand):
    """The command, whose verb may stand in front, too: ``tokenopt learned forget --user ann``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read a verb in front as what is to be done, not as the name of a file."""
        if args[:1] and args[0] in set(Verb):
            args = ["--first-word", *args]
        return super().parse_args(ctx, args)


class _Row(NamedTuple):
    """What there is of one kind."""

    file: str
    kind: str
    namespace: str
    shared: int
    """Values that belong to no user."""
    owned: int
    users: int | None = None
    """``None`` where that cannot be known."""

    @property
    def of_whom(self) -> str:
        return "-" if self.users is None else f"{self.users:,}"


# --- files


def _kind_of(path: Path) -> Kind | None:
    """Return what a file is; ``None`` where it holds nothing learned.

    Raises:
        CommandError: It cannot be read, or is of another release, which opening it would empty.
    """
    from langchain_tokenopt.storage import learned_store
    from langchain_tokenopt.tools import learned_tools

    with _reading(path) as database:
        (owner,) = database.execute("PRAGMA application_id").fetchone()
        names = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
        if not owner and names >= {"standing", "evidence"}:
            return Kind.guard
        kind = _APPLICATIONS.get(owner)
        (format,) = database.execute("PRAGMA user_version").fetchone()
    formats: dict[Kind | None, int]
    formats = {Kind.values: learned_store.FORMAT, Kind.tools: learned_tools.FORMAT}
    reads = formats.get(kind, format)
    if format != reads:
        raise CommandError(
            f"{path} was written by {'a later' if format > reads else 'an earlier'} release "
            f"(format {format}; this one reads {reads}): use that one, or delete the file."
        )
    return kind


def _files(store: Path) -> list[tuple[Path, Kind]]:
    if store.is_dir():
        found = [(path, _kind_of_any(path)) for path in sorted(store.iterdir()) if path.is_file()]
        files = [(path, kind) for path, kind in found if kind is not None]
        if not files:
            raise CommandError(f"no file in {store} holds anything learned.")
        return files
    if not store.is_file():
        raise CommandError(f"no file {store}: give the one of LearnedStore(path), or a folder.")
    kind = _kind_of(store)
    if kind is None:
        raise CommandError(
            f"{store} holds nothing learned; give a file of {', '.join(Kind)}. Of a ledger, "
            f"Ledger(path).forget(user=...) deletes a user's calls."
        )
    return [(store, kind)]


def _kind_of_any(path: Path) -> Kind | None:
    with path.open("rb") as file:
        if file.read(15) != b"SQLite format 3":
            return None
    return _kind_of(path)


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    from langchain_tokenopt.storage.sqlite import connect_to_read

    with _named_errors(path), closing(connect_to_read(path)) as database:
        yield database


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, LookupError, TypeError) as error:
        raise CommandError(f"{path} cannot be used: {error}.") from error
    except ValueError as error:  # of what was loaded
        raise CommandError(str(error)) from error


# --- list


def held_in(store: Path) -> list[_Row]:
    """Return what was learned in a file or a folder of files.

    Raises:
        CommandError: It is none, or cannot be read.
    """
    whose = _Whose(None, None, None, None)
    return [row for path, kind in _files(store) for row in _READ[kind](path, whose)]


def _of(whose: _Whose) -> str:
    named = (
        ("user", whose.user),
        ("organization", whose.organization),
        ("namespace", whose.namespace),
        ("kind", whose.kind),
    )
    return "".join(f" of the {name} {value!r}" for name, value in named if value is not None)


def _read_values(path: Path, whose: _Whose) -> list[_Row]:
    shared: Counter[tuple[str, str]] = Counter()
    owned: Counter[tuple[str, str]] = Counter()
    users: dict[tuple[str, str], set[str]] = {}
    with _opened(path) as store:
        for value in store.values(whose.kind, whose.namespace, whose.user):
            here = value.kind, value.namespace
            users.setdefault(here, set())
            if value.user is None:
                shared[here] += 1
            else:
                owned[here] += 1
                users[here].add(value.user)
    return [_Row(path.name, *here, shared[here], owned[here], len(users[here])) for here in users]


def _read_tools(path: Path, whose: _Whose) -> list[_Row]:
    from langchain_tokenopt.tools.learned_tools import LearnedTools, owner_pattern

    if whose.namespace is not None or whose.kind is not None:
        return []
    with _named_errors(path), closing(LearnedTools(path)) as learned:
        held = learned.held(owner_pattern(whose.user, whose.organization))
    return [_Row(path.name, "uses of tools", "", *held)] if any(held) else []


def _read_cache(path: Path, whose: _Whose) -> list[_Row]:
    from langchain_tokenopt.cache.forgetting import count_observations

    if not whose.is_everything:  # what is whose, only a hash says: forget counts it
        return []
    with _reading(path) as database:
        texts = (text for (text,) in database.execute("SELECT observations FROM evidence"))
        return [_Row(path.name, "observations of answers", "", count_observations(texts), 0)]


def _read_guard(path: Path, whose: _Whose) -> list[_Row]:
    if not whose.is_everything:
        return []
    with _reading(path) as database:
        (trials,) = database.execute("SELECT coalesce(sum(times), 0) FROM evidence").fetchone()
    return [_Row(path.name, "trials of answers", "", int(trials), 0, 0)]


_READ: dict[Kind, Callable[[Path, _Whose], list[_Row]]] = {
    Kind.values: _read_values,
    Kind.tools: _read_tools,
    Kind.cache: _read_cache,
    Kind.guard: _read_guard,
}


# --- forget


def _forget(
    store: Path, files: list[tuple[Path, Kind]], whose: _Whose, yes: bool, as_json: bool
) -> None:
    if whose.is_everything and not yes:
        what = f"everything that was learned in {counted(len(files), 'file')}"
        typer.confirm(f"Forget {what} ({store})?", abort=True, err=True)
    forgotten: dict[str, dict[str, int]] = {}
    for path, kind in files:
        with _named_errors(path):
            found = _FORGET[kind](path, whose)
        forgotten[path.name] = {name: number for name, number in found.items() if number}
    if as_json:
        return write_json(forgotten)
    for name, counts in forgotten.items():
        said = ", ".join(counted(number, _ONE[what], what) for what, number in counts.items())
        tell(f"{name}: {said or 'nothing'}{_of(whose)} forgotten.")
    return None


_ONE = {
    "values": "value",
    "uses of tools": "use of a tool",
    "answers": "answer",
    "observations": "observation",
    "trials": "trial",
}
"""What is forgotten, in the singular."""


def _forget_values(path: Path, whose: _Whose) -> dict[str, int]:
    if whose.organization is not None:
        return {}
    meant = {"user": whose.user, "namespace": whose.namespace, "kind": whose.kind}
    named = {name: value for name, value in meant.items() if value is not None}
    with _opened(path) as store:
        found = store.forget(**named) if named else store.clear()
    return {"values": found}


def _forget_tools(path: Path, whose: _Whose) -> dict[str, int]:
    from langchain_tokenopt.tools.learned_tools import LearnedTools, owner_pattern

    if whose.namespace is not None or whose.kind is not None:
        return {}
    with closing(LearnedTools(path)) as learned:
        pattern = owner_pattern(whose.user, whose.organization)
        found = learned.clear() if pattern is None else learned.forget(pattern)
    return {"uses of tools": found}


def _forget_cache(path: Path, whose: _Whose) -> dict[str, int]:
    from langchain_tokenopt.cache import CacheSettings, SemanticCache

    labels = {"user": whose.user, "organization": whose.organization}
    named = {name: value for name, value in labels.items() if value is not None}
    if not (named or whose.is_everything) or whose.kind is not None:
        return {}
    settings = CacheSettings(namespace=whose.namespace or "default")
    known = _read_cache(path, whose)
    with SemanticCache(path, semantic=False, settings=settings, max_entries=10**9) as cache:
        answers = cache.forget(**named) if named else 0
        if not named:
            cache.clear_learned()
    return {"answers": answers, "observations": known[0].shared if known else 0}


def _forget_guard(path: Path, whose: _Whose) -> dict[str, int]:
    from langchain_tokenopt.evaluate.guard_state import forget_all

    return {"trials": forget_all(path)} if whose.is_everything else {}


_FORGET: dict[Kind, Callable[[Path, _Whose], dict[str, int]]] = {
    Kind.values: _forget_values,
    Kind.tools: _forget_tools,
    Kind.cache: _forget_cache,
    Kind.guard: _forget_guard,
}


# --- copy


def _export(store: Path, files: list[tuple[Path, Kind]], whose: _Whose) -> None:
    values = [path for path, kind in files if kind is Kind.values]
    if not values:
        raise CommandError(
            f"{store} is a file of {files[0][1]}: copy the file, which holds all that it learned."
        )
    for path in values:
        with _opened(path) as opened:
            lines = opened.export(user=whose.user, namespace=whose.namespace, kind=whose.kind)
            for line in lines:
                typer.echo(line)


def _load(store: Path, as_json: bool) -> None:
    if store.is_dir():
        raise CommandError(f"{store} is a folder: give the file that lines are loaded into.")
    if store.exists() and _kind_of(store) is not Kind.values:
        raise CommandError(f"{store} is no file of LearnedStore: give one, or a new name.")
    with _opened(store) as opened:
        number = opened.load(sys.stdin)
    if as_json:
        return write_json({"loaded": number})
    tell(f"{counted(number, 'value')} loaded into {store}.")
    return None


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a store that can be used: none of a later release, with memory in its place."""
    from langchain_tokenopt.storage.learned_store import LearnedStore

    store = LearnedStore(path)
    with _named_errors(path), closing(store):
        yield store
