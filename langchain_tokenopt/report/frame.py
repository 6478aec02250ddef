"""What all pages have: a head, a style, tables.

Whatever comes from outside is text and escaped. A page needs nothing from anywhere, and forbids
scripts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

__all__ = ["framed", "table"]

_STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --paper: #fff; --line: #d0d7de; --soft: #59636e;
        --good: #1a7f37; --watch: #9a6700; --bad: #cf222e; --bar: #0969da }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --paper: #0d1117; --line: #30363d;
        --soft: #9198a1; --good: #3fb950; --watch: #d29922; --bad: #ff7b72; --bar: #58a6ff } }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem;
       color: var(--ink); background: var(--paper) }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); gap: .75rem;
       padding: 0; list-style: none }
.tiles li { border: 1px solid var(--line); border-radius: 8px; padding: .6rem .8rem }
.tiles b { display: block; font-size: 1.3rem; font-variant-numeric: tabular-nums }
.good b { color: var(--good) } .watch b { color: var(--watch) } .bad b { color: var(--bad) }
.small { color: var(--soft); font-size: .85em }
.wide { overflow-x: auto } table { border-collapse: collapse; width: 100% }
th, td { text-align: right; padding: .3rem .6rem; border-bottom: 1px solid var(--line);
       font-variant-numeric: tabular-nums; white-space: nowrap }
th:first-child, td:first-child { text-align: left; white-space: normal; overflow-wrap: anywhere }
code { background: color-mix(in srgb, var(--line) 40%, transparent); padding: 0 .25rem;
       border-radius: 4px; overflow-wrap: anywhere }
"""


def framed(title: str, parts: Iterable[str]) -> str:
    """Return a whole page.

    Args:
        title: As text.
        parts: What stands under it, as HTML.
    """
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width">',
            f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>",
            f"<h1>{escape(title)}</h1>",
            *parts,
            "</body></html>\n",
        ]
    )


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of texts; all columns but the first are of figures."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in columns)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'
