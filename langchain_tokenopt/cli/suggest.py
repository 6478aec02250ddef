"""The command that proposes a plan for a graph."""

from __future__ import annotations

import sys
from importlib import import_module, util
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperCommand
from typer.main import get_command

from langchain_tokenopt.cli.app import CommandError, say
from langchain_tokenopt.cli.tables import JsonOption, write_json
from langchain_tokenopt.core.counted import counted

Strategy = Literal["priority", "equal", "proportional", "performance", "forecast", "auto"]

__all__ = ["OrSuggest", "suggest"]


def suggest(
    graph: Annotated[
        str,
        typer.Argument(help="Where it is: module:name or file.py:name, a graph or what makes one."),
    ],
    total: Annotated[int, typer.Option(help="Tokens that one run may spend.")],
    ledger: Annotated[
        Path | None, typer.Option(help="A ledger of earlier runs, to go by what they used.")
    ] = None,
    strategy: Annotated[
        Strategy | None,
        typer.Option(help="What agents weigh where tokens are short; priority by default."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Write the plan here instead, to a .toml file.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Propose a plan for a graph, as TOML, and say who gets what, who may starve, and why.

    It goes by the graph's shape and, with a ledger, by what its agents have used before. With a
    ledger, --strategy auto says which strategy would have done best in its runs, and forecast what
    agents are likely to need.

    Read the file with BudgetPlan.from_file.

    Example: tokenopt budget suggest my_app:graph --total 40000 --ledger usage.db > plan.toml
    """
    from contextlib import ExitStack

    from langchain_tokenopt.budget import BudgetPlan
    from langchain_tokenopt.ledger import Ledger

    loaded = _loaded(graph)
    with ExitStack() as stack:
        history: Any = ()
        if ledger is not None:
            history = [*stack.enter_context(Ledger(ledger, read_only=True)).calls()]
        try:
            settings: dict[str, Any] = {} if strategy is None else {"strategy": strategy}
            plan = BudgetPlan.for_graph(loaded, total_tokens=total, history=history, **settings)
            words = plan.explain(loaded, history=history)
        except (TypeError, ValueError) as error:
            raise CommandError(f"{graph}: {error}") from error
    if as_json:
        write_json({"plan": plan.model_dump(mode="json", exclude_unset=True), "words": words})
        return
    text = "".join(f"# {line}\n" for line in words.splitlines()) + "\n" + plan.to_toml()
    if output is None:
        typer.echo(text, nl=False)
        return
    output.write_text(text, encoding="utf-8")
    say(f"{output}: a plan for {counted(len(plan.agents), 'agent')}. {words.splitlines()[-1]}")


def _loaded(where: str) -> Any:
    """Return the graph of which *where* says the module and the name."""
    module, _, name = where.rpartition(":")
    if not module or not name:
        raise CommandError(f"{where!r}: say where the graph is as module:name or file.py:name.")
    sys.path.insert(0, "")
    try:
        found: Any = _from_file(Path(module)) if module.endswith(".py") else import_module(module)
    except ImportError as error:
        raise CommandError(f"{where}: cannot be imported: {error}") from error
    finally:
        sys.path.remove("")
    for part in name.split("."):
        if not hasattr(found, part):
            raise CommandError(f"{where}: {module} has no {part!r}.")
        found = getattr(found, part)
    is_graph = hasattr(found, "get_graph") or hasattr(found, "compile")
    return found() if callable(found) and not is_graph else found


def _from_file(path: Path) -> Any:
    spec = util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise CommandError(f"there is no file {path}.")
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class OrSuggest(TyperCommand):
    """The command ``budget``, which goes on to ``suggest`` where that is its first word."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any
    ) -> Any:
        """Begin the one or the other."""
        if args[:1] != ["suggest"]:
            return super().make_context(info_name, args, parent, **extra)
        return self.suggest_command().make_context("budget suggest", args[1:], parent, **extra)

    @staticmethod
    def suggest_command() -> Any:
        """Return the other command."""
        app = typer.Typer(
            add_completion=False, context_settings={"help_option_names": ["-h", "--help"]}
        )
        app.command("suggest")(suggest)
        return get_command(app)
