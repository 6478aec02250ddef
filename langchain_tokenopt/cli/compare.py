"""``tokenopt compare``: are the candidate's answers as good as the baseline's?"""

from __future__ import annotations

import importlib
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from langchain_tokenopt.cli.app import CommandError, words_console
from langchain_tokenopt.cli.tables import JsonOption, tell, write_json

if TYPE_CHECKING:
    from langchain_tokenopt.evaluate import Judge, Progress

__all__ = ["compare", "imported"]

_JUDGES: Final = {
    "exact": "ExactMatch",
    "normalized": "NormalizedMatch",
    "numbers": "NumbersKept",
    "names": "NamesKept",
    "contains": "ContainsReference",
    "f1": "TokenF1",
    "json": "JsonEqual",
    "tools": "ToolCallsEqual",
    "similarity": "Similarity",
}
_KEYS: Final[dict[str, Any]] = {
    "baseline": str,
    "candidate": str,
    "cases": str,
    "judges": list,
    "margin": float,
    "confidence": float,
    "store": str,
}


def compare(
    what: Annotated[
        str,
        typer.Argument(
            metavar="CONFIG.toml|MODULE:OBJECT",
            help="An object with `baseline` and `candidate` (attributes, keys, or a pair); or a "
            "file that names both as MODULE:OBJECT.",
        ),
    ],
    cases: Annotated[
        Path | None, typer.Option(help="A file with one case a line, as JSON.")
    ] = None,
    judge: Annotated[
        list[str] | None,
        typer.Option(help=f"Who judges: {', '.join(_JUDGES)}, or MODULE:OBJECT. May be repeated."),
    ] = None,
    margin: Annotated[
        float | None, typer.Option(help="How much lower a mean score is not worse yet. [0.02]")
    ] = None,
    max_cases: Annotated[int | None, typer.Option(min=1, help="Ask no more cases.")] = None,
    max_usd: Annotated[float | None, typer.Option(help="Spend no more than this.")] = None,
    store: Annotated[
        Path | None, typer.Option(help="Keep the answers here; a later run goes on with them.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with the worst cases.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Ask a baseline and a candidate the same, until it is clear whether answers got worse.

    Exit code 0: not worse; 3: worse; 4: unclear.

    Example: tokenopt compare app:pair --cases cases.jsonl --max-usd 2 --html report.html
    """
    from langchain_tokenopt import evaluate

    given = _read(what)
    sides = [_side(given, name) for name in ("baseline", "candidate")]
    path = cases or given.get("cases")
    if path is None:
        raise CommandError("no cases: give --cases FILE, with one case a line as JSON.")
    if html is not None and not html.parent.is_dir():
        raise CommandError(f"{html.parent} is no directory: {html} cannot be written.")
    console = words_console()

    def show(progress: Progress) -> None:
        console.print(
            f"{progress.cases:,} of {progress.cases_given:,} cases: {progress.verdict}", end="\r"
        )

    try:
        found = evaluate.compare(
            Path(path),
            *sides,
            judges=[_judge(name) for name in judge or given.get("judges") or []] or None,
            margin=given.get("margin", 0.02) if margin is None else margin,
            confidence=given.get("confidence", 0.95),
            max_cases=max_cases,
            max_usd=max_usd,
            store=store or given.get("store"),
            on_progress=show if console.is_terminal else None,
        )
    except ValueError as error:
        raise CommandError(str(error)) from error
    if html is not None:
        found.to_html(html)
    if as_json:
        write_json(found.to_dict())
    else:
        tell(str(found))
    raise typer.Exit(found.exit_code)


def _read(what: str) -> dict[str, Any]:
    """Return the sides and settings that a file or an object names."""
    if not what.endswith(".toml"):
        return {"pair": imported(what)}
    try:
        given = tomllib.loads(Path(what).read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise CommandError(f"{what} is no TOML: {error}.") from error
    if unknown := sorted(given.keys() - _KEYS.keys()):
        raise CommandError(f"{what}: unknown keys {', '.join(unknown)}; known: {', '.join(_KEYS)}.")
    for name, value in given.items():
        if not isinstance(value, _KEYS[name]):
            raise CommandError(f"{what}: {name} cannot be {value!r}.")
    return given


def _side(given: dict[str, Any], name: str) -> Any:
    if name in given:
        return imported(str(given[name]))
    pair = given.get("pair")
    if pair is None:
        raise CommandError(f'the file names no {name}: add {name} = "MODULE:OBJECT".')
    if isinstance(pair, tuple) and len(pair) == 2:
        return pair[name == "candidate"]
    found = pair.get(name) if isinstance(pair, dict) else getattr(pair, name, None)
    if found is None:
        raise CommandError(f"the object has no {name}: it needs `baseline` and `candidate`.")
    return found


def _judge(name: str) -> Judge | Any:
    from langchain_tokenopt import evaluate

    if name in _JUDGES:
        return getattr(evaluate, _JUDGES[name])()
    if ":" not in str(name):
        raise CommandError(f"no judge {name!r}; known: {', '.join(_JUDGES)}, or MODULE:OBJECT.")
    return imported(name)


def imported(name: str) -> Any:
    """Import what ``module:object`` names, from here or from what is installed."""
    module, colon, attribute = name.partition(":")
    if not colon or not attribute:
        raise CommandError(f"{name!r} names no object: write MODULE:OBJECT, such as app:pair.")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise CommandError(f"cannot import {name!r}: {error}.") from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise CommandError(f"{name!r} does not exist: {module} has no {attribute}.")
        found = getattr(found, part)
    return found
