"""``tokenopt validate``: every promise tried once, on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from langchain_tokenopt.cli.app import CommandError, say
from langchain_tokenopt.cli.compare import imported
from langchain_tokenopt.cli.tables import JsonOption, print_table, write_json

__all__ = ["validate"]


def validate(
    level: Annotated[str, typer.Option(help="basic, standard or comprehensive.")] = "standard",
    model: Annotated[
        str | None, typer.Option(help="Your chat model, as MODULE:OBJECT; it is asked a little.")
    ] = None,
    ledger: Annotated[Path | None, typer.Option(help="A ledger with your calls.")] = None,
    cases: Annotated[
        Path | None, typer.Option(help="Your users' questions, one case a line as JSON.")
    ] = None,
    results: Annotated[
        Path | None, typer.Option(help="Keep the results here, and compare with those before.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Try every promise once, with your own model, ledger and questions.

    Ends with exit code 1 when something fails.

    Example: tokenopt validate --level comprehensive --model app:model --results last.json
    """
    from langchain_tokenopt import validate as checks
    from langchain_tokenopt.evaluate import read_cases

    before = _read(results)
    asked = [] if cases is None else [c.input for c in read_cases(cases) if _is_text(c.input)]
    try:
        found = checks.validate(
            None if model is None else imported(model),
            level=level,  # type: ignore[arg-type]
            ledger=ledger,
            questions=asked,
        )
    except ValueError as error:
        raise CommandError(str(error)) from error
    if results is not None:
        results.write_text(json.dumps(found.to_dict()), encoding="utf-8")
    if as_json:
        write_json(found.to_dict())
    else:
        print_table(
            ("suite", "status", "seconds", "what, and what was seen"),
            [(c.suite, c.status, f"{c.seconds:.2f}", f"{c.name}: {c.saw}") for c in found.checks],
            words=("status", "what, and what was seen"),
        )
        for suite in found.suites:
            score = found.score(suite)
            say(f"{suite}: {'nothing was tried' if score is None else f'{score:.0%} passed'}")
        for check in found.newly_failed(before) if before else []:
            say(f"{check.suite}: {check.name}: passed the last time.")
    if any(check.status == "failed" for check in found.checks):
        raise typer.Exit(1)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _read(path: Path | None) -> Any:
    from langchain_tokenopt.validate import Validation

    if path is None or not path.is_file():
        return None
    try:
        return Validation.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError) as error:
        raise CommandError(f"{path} holds no results of this command.") from error
