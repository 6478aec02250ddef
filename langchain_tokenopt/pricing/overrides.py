"""A user's own prices, read from TOML or a mapping."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from langchain_tokenopt.pricing.providers import vendor_of
from langchain_tokenopt.pricing.rates import TOKEN_RATES, Rates

__all__ = ["OwnRates", "read_overrides"]


PRICE_KEYS = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cache_read": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
    "cache_write_1h": "cache_write_1h_mtok",
    "input_audio": "input_audio_mtok",
    "output_audio": "output_audio_mtok",
    "cache_audio_read": "cache_audio_read_mtok",
    "input_image": "input_image_mtok",
    "output_image": "output_image_mtok",
    "cache_image_read": "cache_image_read_mtok",
    "input_video": "input_video_mtok",
    "output_video": "output_video_mtok",
    "reasoning": "output_reasoning_mtok",
    "request": "requests_kcount",
}
"""Our rates and the names of their prices in genai-prices."""


OwnRates = Mapping[str, "Rates"]
"""A user's prices of one model: by service tier, ``""`` for the standard one."""


def read_overrides(source: str | Path | Mapping[str, Any]) -> dict[str, OwnRates]:
    """Read prices of the user's own, by model."""
    if isinstance(source, Mapping):
        where, content = "overrides", source
    else:
        where, content = str(source), _read_toml(Path(source).expanduser())
    _refuse_unknown(content, {"models"}, where)
    read = {}
    for name, table in _table(content.get("models", {}), f"{where}: models").items():
        prefix, slash, rest = str(name).strip().lower().partition("/")
        key = f"{vendor_of(prefix)}/{rest}" if slash else prefix
        read[key] = _read_model(table, f'{where}: models."{name}"')
    return read


def _read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file without turning its numbers into binary fractions."""
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no price file {str(path)!r}. Create it, or correct the path given to "
            f"RateCard or in the environment variable TOKENOPT_PRICES."
        )
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"The price file {str(path)!r} is not valid TOML: {error}.") from error


def _read_model(table: Any, where: str) -> OwnRates:
    """Read one model's prices, in all its service tiers."""
    table = _table(table, where)
    _refuse_unknown(table, {*TOKEN_RATES, "request", "above", "tier"}, where)
    missing = [name for name in ("input", "output") if name not in table]
    if missing:
        raise ValueError(
            f"{where} names no price for {' and '.join(missing)}. "
            f"An override replaces the whole price: name both, 0 for what is free."
        )
    standard = _read_rates(table, where)
    tiers = _table(table.get("tier", {}), f"{where}.tier")
    own = {"": standard}
    for name, changes in tiers.items():
        inside = f"{where}.tier.{name}"
        _refuse_unknown(_table(changes, inside), {*TOKEN_RATES, "request", "above"}, inside)
        own[str(name).lower()] = _read_rates({**table, **changes}, inside)
    return own


def _read_rates(table: Mapping[str, Any], where: str) -> Rates:
    """Read prices, and those for long contexts, which change only what they name."""
    prices = _read_prices(table, where)
    above = {}
    for start, changes in _table(table.get("above", {}), f"{where}.above").items():
        inside = f"{where}.above.{start}"
        if not str(start).replace("_", "").isdecimal():
            raise ValueError(f"{inside}: {start!r} is not a number of input tokens.")
        _refuse_unknown(_table(changes, inside), {*TOKEN_RATES, "request"}, inside)
        changed = {**prices, **_read_prices(changes, inside)}
        above[int(start)] = Rates.from_usd_per_million(**changed)
    return Rates.from_usd_per_million(**prices, above=above)


def _read_prices(table: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Read the prices in *table*, leaving out its sub-tables."""
    names = (*TOKEN_RATES, "request")
    return {name: _price(table[name], f"{where}.{name}") for name in names if name in table}


def _price(value: Any, where: str) -> Decimal:
    """Read one price.

    Raises:
        ValueError: If it is not a number, or below 0.
    """
    try:
        price = Decimal(str(value).strip())
        if not price.is_finite():
            raise InvalidOperation
    except InvalidOperation:
        raise ValueError(
            f"{where} is {value!r}, which is not a number. "
            f'Write US dollars per million tokens, for instance "0.25".'
        ) from None
    if price < 0:
        raise ValueError(f"{where} is {value}, but a price cannot be negative.")
    return price


def _table(value: Any, where: str) -> Mapping[str, Any]:
    """Return *value* if it is a table."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{where} is {value!r}, but should be a table of prices.")
    return value


def _refuse_unknown(table: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    """Raise if *table* has keys that mean nothing; all of them are named."""
    if unknown := sorted(str(key) for key in table.keys() - set(known)):
        raise ValueError(
            f"{where} has unknown keys: {', '.join(unknown)}. "
            f"Known are: {', '.join(sorted(known))}."
        )
