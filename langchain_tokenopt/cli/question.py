"""What a command asks a ledger: which one, which period, which calls. Once, for all commands."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any

import typer

from langchain_tokenopt.cli.app import CommandError
from langchain_tokenopt.cli.period import (
    DEFAULT_LEDGER,
    HoursOption,
    LedgerOption,
    Period,
    SinceOption,
    UntilOption,
    local,
    opened_ledger,
)
from langchain_tokenopt.cli.tables import JsonOption
from langchain_tokenopt.core.dimensions import Filters, filters_in_words

if TYPE_CHECKING:
    from langchain_tokenopt.ledger import Ledger

__all__ = ["Question", "asks"]


_FILTER_HELP = (
    ("user", 'Only calls of this user; "(none)": of nobody.'),
    ("agent", "Only calls of this agent."),
    ("model", "Only calls of this model."),
    ("tag", "Only calls with this tokenopt_tag in their metadata."),
)
_FILTERS: dict[str, Any] = {
    name: Annotated[str | None, typer.Option(f"--{name}", help=words, show_default=False)]
    for name, words in _FILTER_HELP
}


@dataclass(frozen=True, slots=True)
class Question:
    """Which ledger, which period, which calls, and how the answer is written."""

    location: str
    period: Period
    filters: Filters = field(default_factory=Filters)
    as_json: bool = False

    @contextmanager
    def opened(self) -> Iterator[Ledger]:
        """Open the ledger to read it."""
        with opened_ledger(self.location) as ledger:
            yield ledger

    @property
    def where(self) -> dict[str, Any]:
        """The period and the filters, as the ledger's questions take them."""
        return {"since": self.period.since, "until": self.period.until, **self.filters}

    def refuse_empty(self, ledger: Ledger, found: object) -> None:
        """End the command when nothing was found, and say where there is something.

        With ``--json`` an empty answer is an answer.

        Raises:
            CommandError: *found* is empty.
        """
        if found or self.as_json:
            return
        span = ledger.span()
        if span is None:
            raise CommandError(
                f"the ledger {ledger.location} is empty. Record into it: "
                f"TokenUsageCallbackHandler(sinks=[Ledger({ledger.location!r})])."
            )
        first, last = map(local, span)
        asked = filters_in_words(self.filters)
        there = f"it has calls from {first} to {last}."
        if not asked:
            raise CommandError(
                f"no calls {self.period} in {ledger.location}; {there} "
                f"Try --since {span[0].astimezone():%Y-%m-%d}."
            )
        raise CommandError(
            f"no calls{asked} {self.period} in {ledger.location}; {there} To see the names: "
            f"tokenopt top --by {next(iter(self.filters))}."
        )


def asks(
    *, hours: int | None = None, period: bool = True, filters: bool = True, json: bool = True
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of a question, in place of its first parameter.

    Args:
        hours: The command also has ``--hours``, and looks back so far by default.
        period: Whether it has ``--since`` and ``--until``.
        filters: Whether it has ``--user``, ``--agent``, ``--model`` and ``--tag``.
        json: Whether it has ``--json``.
    """
    options: dict[str, tuple[Any, Any]] = {
        **({"hours": (HoursOption, hours)} if hours is not None else {}),
        "ledger": (LedgerOption, DEFAULT_LEDGER),
        **({"since": (SinceOption, None), "until": (UntilOption, None)} if period else {}),
        **({name: (option, None) for name, option in _FILTERS.items()} if filters else {}),
        **({"as_json": (JsonOption, False)} if json else {}),
    }

    def with_options(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def asked(**given: Any) -> None:
            own = {name: value for name, value in given.items() if name not in options}
            chosen = Filters(**{name: given[name] for name in _FILTERS if given.get(name)})  # type: ignore[typeddict-item]
            chosen_period = Period.of(given.get("since"), given.get("until"), given.get("hours"))
            question = Question(given["ledger"], chosen_period, chosen, given.get("as_json", False))
            command(question, **own)

        _, *own = inspect.signature(command, eval_str=True).parameters.values()
        by_name = inspect.Parameter.KEYWORD_ONLY
        added = [
            inspect.Parameter(name, by_name, default=default, annotation=kind)
            for name, (kind, default) in options.items()
        ]
        asked.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [*(each.replace(kind=by_name) for each in own), *added]
        )
        asked.__annotations__ = {each.name: each.annotation for each in (*own, *added)}
        return asked

    return with_options
