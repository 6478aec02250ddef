"""How long something took, in words."""

from __future__ import annotations

__all__ = ["format_seconds"]


def format_seconds(seconds: float | None) -> str:
    """Write a duration; "-" where none was measured.

    Example:
        >>> [format_seconds(seconds) for seconds in (0.0421, 3.26, 185, 12_690, None)]
        ['42 ms', '3.3 s', '3 min 5 s', '3 h 31 min', '-']
    """
    if seconds is None:
        return "-"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60:,} h {minutes % 60} min"
