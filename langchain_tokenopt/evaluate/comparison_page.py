"""A comparison as one HTML file: the verdict, the intervals as a picture, the worst cases.

Everything that was asked or answered is text: it is escaped, and the page forbids scripts.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from langchain_tokenopt.evaluate.cases import input_text
from langchain_tokenopt.evaluate.judges import JudgedTrial
from langchain_tokenopt.evaluate.run_answer import RunAnswer
from langchain_tokenopt.pricing.money import format_usd

__all__ = ["page_of"]

_SHOWN_CASES = 20
_SHOWN_CHARACTERS = 4_000
_WIDTH, _ROW = 560, 28
_COLORS = {"not worse": "#1a7f37", "worse": "#cf222e", "unclear": "#9a6700"}
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem;
       color: #1f2328; background: #fff; }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem }
table { border-collapse: collapse; width: 100% } th, td { text-align: left; padding: .3rem .6rem;
       border-bottom: 1px solid #d0d7de; vertical-align: top } td.n { text-align: right }
.case { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem; margin: 1rem 0 }
.case > div { border: 1px solid #d0d7de; border-radius: 6px; padding: .6rem; white-space: pre-wrap;
       overflow-wrap: anywhere } .asked { white-space: pre-wrap; overflow-wrap: anywhere }
del, ins { text-decoration: none } del { background: #ffebe9 } ins { background: #dafbe1 }
.small { color: #59636e; font-size: .9em }
"""


def page_of(found: Mapping[str, Any], worst: Sequence[JudgedTrial]) -> str:
    """Return the page.

    Args:
        found: A comparison, as its ``to_dict`` tells it.
        worst: Cases that some judge found worse, worst first.
    """
    return "\n".join(_parts(found, worst)) + "\n"


def _parts(found: Mapping[str, Any], worst: Sequence[JudgedTrial]) -> Iterator[str]:
    color = _COLORS[found["verdict"]]
    yield "<!doctype html>"
    yield '<html lang="en"><head><meta charset="utf-8">'
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    yield f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    yield '<meta name="viewport" content="width=device-width">'
    yield f"<title>Comparison: {found['verdict']}</title><style>{_STYLE}</style></head><body>"
    yield f'<h1>Verdict: <span style="color:{color}">{found["verdict"]}</span></h1>'
    yield f"<p>{escape(found['reason'])}</p>"
    yield (
        f'<p class="small">{found["cases"]:,} of {found["cases_given"]:,} cases; margin '
        f"{100 * found['margin']:g} points; {found['confidence']:.0%} intervals that hold at every "
        f"look; asking and judging cost {format_usd(found['spent_nano_usd'])}.</p>"
    )
    yield "<h2>Quality: candidate less baseline, in points</h2>"
    judges = [(j["name"], j["difference"], _COLORS[j["verdict"]]) for j in found["judges"]]
    yield _picture(judges, mark=-found["margin"])
    yield from _judges(found["judges"])
    yield "<h2>Saved, in percent of the baseline</h2>"
    rows = [(name, saved, "#0969da") for name, saved in found["savings"].items()]
    yield _picture(rows, mark=0.0) if rows else "<p>No model call was seen.</p>"
    for note in found["notes"]:
        yield f'<p class="small">{escape(note)}</p>'
    yield from _cases(worst)
    yield "</body></html>"


def _picture(rows: Sequence[tuple[str, Mapping[str, float], str]], *, mark: float) -> str:
    """Draw one interval a row on a common scale, with a line at *mark*."""
    ends = [end for _, interval, _ in rows for end in (interval["low"], interval["high"])]
    low, high = min([*ends, mark, 0.0]), max([*ends, mark, 0.0])
    width = (high - low) or 1.0

    def x(value: float) -> float:
        return round(180 + (value - low) / width * (_WIDTH - 200), 1)

    height = _ROW * len(rows) + 24
    drawn = [f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" width="100%" font-size="12">']
    for value, line in ((0.0, "#8c959f"), (mark, "#cf222e")):
        drawn.append(
            f'<line x1="{x(value)}" x2="{x(value)}" y1="0" y2="{height - 20}" stroke="{line}" '
            f'stroke-dasharray="3 3"/>'
            f'<text x="{x(value)}" y="{height - 6}" text-anchor="middle" fill="{line}">'
            f"{100 * value:g}</text>"
        )
    for at, (name, interval, color) in enumerate(rows):
        y = _ROW * at + _ROW // 2
        drawn.append(
            f'<text x="0" y="{y + 4}">{escape(name)}</text>'
            f'<line x1="{x(interval["low"])}" x2="{x(interval["high"])}" y1="{y}" y2="{y}" '
            f'stroke="{color}" stroke-width="3"/>'
            f'<circle cx="{x(interval["value"])}" cy="{y}" r="5" fill="{color}">'
            f"<title>{_points(interval)}</title></circle>"
        )
    return "".join([*drawn, "</svg>"])


def _judges(judges: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield "<table><tr><th>Judge</th><th>Verdict</th><th>Difference</th><th>n</th><th>Saw</th>"
    yield "<th>Sees</th><th>Misses</th></tr>"
    for judge in judges:
        unjudged = "".join(
            f'<br><span class="small">{n:,} not judged: {escape(why)}</span>'
            for why, n in judge["unjudged"].items()
        )
        yield (
            f"<tr><td>{escape(judge['name'])}{unjudged}</td><td>{judge['verdict']}</td>"
            f'<td>{_points(judge["difference"])}</td><td class="n">{judge["judged"]:,}</td>'
            f'<td class="n">{judge["saw"]:,}</td>'
            f"<td>{escape(judge['sees'])}</td><td>{escape(judge['misses'])}</td></tr>"
        )
    yield "</table>"


def _points(interval: Mapping[str, float]) -> str:
    value, low, high = (f"{100 * interval[end]:+.1f}" for end in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def _cases(worst: Sequence[JudgedTrial]) -> Iterator[str]:
    if not worst:
        yield "<h2>No case was found worse</h2>"
        return
    yield f"<h2>The worst of {len(worst):,} cases that some judge found worse</h2>"
    for judged in worst[:_SHOWN_CASES]:
        trial = judged.trial
        said = ", ".join(
            f"{name} {100 * scores.difference:+.0f}" for name, scores in judged.scores.items()
        )
        before, after = _marked(_shown(trial.baseline), _shown(trial.candidate))
        yield f'<p><b>{escape(trial.case.id)}</b> <span class="small">{escape(said)}</span></p>'
        yield f'<p class="asked">{escape(_cut(input_text(trial.case.input)))}</p>'
        yield f'<div class="case"><div>{before}</div><div>{after}</div></div>'


def _shown(answer: RunAnswer) -> str:
    if answer.error:
        return f"failed: {answer.error}"
    calls = "".join(f"\n{name}({arguments})" for name, arguments in answer.tool_calls)
    return _cut(answer.text + calls)


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]} …"


def _marked(before: str, after: str) -> tuple[str, str]:
    """Mark the words that only one of two texts has."""
    one, other = re.findall(r"\s+|\S+", before), re.findall(r"\s+|\S+", after)
    left, right = [], []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, one, other, False).get_opcodes():
        gone, new = escape("".join(one[a:b])), escape("".join(other[c:d]))
        left.append(gone if kind == "equal" else f"<del>{gone}</del>" if gone else "")
        right.append(new if kind == "equal" else f"<ins>{new}</ins>" if new else "")
    return "".join(left), "".join(right)
