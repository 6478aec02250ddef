"""Put the units of a text that were kept together again."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_tokenopt.compress.lossless import squeeze_prose
from langchain_tokenopt.compress.units import Unit

__all__ = ["render"]


def render(text: str, units: Sequence[Unit], kept: Sequence[bool]) -> str:
    """Put the kept units of one text together again, in their order.

    Neighbours stay exactly as they were. Where something is missing between two units, a line break
    or a space stands if there was one.

    Example:
        >>> from langchain_tokenopt.compress.units import units_of
        >>> text = "It rained. We stayed. It was late."
        >>> render(text, units_of(text), [True, False, True])
        'It rained. It was late.'
    """
    pieces: list[str] = []
    last = ""
    end = 0
    for unit, keep in zip(units, kept, strict=True):
        if not keep or unit.end <= unit.start:
            continue
        piece = unit.within(text)
        if unit.start != end:
            if unit.kind == "json" and unit.bound >= 0:
                pieces[-1] = pieces[-1].rstrip().removesuffix(",")
            elif not last or last.isspace():
                piece = piece.lstrip(" \t") if unit.kind == "prose" else piece
            elif not piece[:1].isspace():
                pieces.append(_gap(text, end, unit.start))
        if unit.kind == "prose" and "  " in piece:
            piece = squeeze_prose(piece)
        if piece:
            pieces.append(piece)
            last = piece[-1]
        end = unit.end
    whole = "".join(pieces)
    if end < len(text) and not text[-1:].isspace():
        whole = whole.rstrip()
    return whole


def _gap(text: str, end: int, start: int) -> str:
    """What stands between two units when what was between them is gone."""
    between = text[end:start]
    if "\n" in between:
        return "\n"
    return " " if any(char.isspace() for char in between) or between.isascii() else ""
