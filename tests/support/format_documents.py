"""Random documents of formats that open and close what they hold, or go on over several lines.

What must hold is said by parsers: of YAML, SQL, HTML, brackets, environments. Where a format knows
records, they are kept with all of their lines or not at all; see :mod:`tests.support.wholeness`.
"""

# ruff: noqa: E501

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import replace

from tests.support import format_data as data
from tests.support import format_texts as texts
from tests.support.mixed_documents import NAMES, Mixed, Part, Writer
from tests.support.record_documents import Records
from tests.support.wholeness import (
    marks_close,
    words_in_order,
)  # fmt: skip

Maker = Callable[[Writer], Part | Records | Mixed]


def _around(w: Writer, part: Part) -> Mixed:
    """The document alone, or within a prompt."""
    way = w.rng.choice(("alone", "alone", "asked", "prompt", "fence"))
    text, check, asked = part.text, part.check, ""
    if way == "fence" and "```" not in text:
        text, asked = f"Look:\n\n```\n{text}\n```\n\nWhat failed here?", "What failed here?"
        inner = check

        def check(left: str) -> list[str]:
            found = re.search(r"^```\n(.*?)^```", left, re.S | re.M)
            return inner(found.group(1)) if found else marks_close(left)

    elif way in ("asked", "prompt"):
        before = "You are an editor. Be brief.\n\n" if way == "prompt" else ""
        asked = "Which lamp is the best one?"
        text = f"{before}{text}\n\n{asked}"
        whole = check

        def check(left: str) -> list[str]:
            body = left
            for line in ("You are an editor. Be brief.", "You are an editor.", "Be brief.", asked):
                body = body.replace(line, "", 1)
            return whole(body.strip("\n") + "\n") if body.strip() else []

    faults = (check, words_in_order(text))
    return Mixed(
        part.kind, text, "" if asked else w.rng.choice(("", f"What of {w.rng.choice(NAMES)}?")),
        lambda left: [f for c in faults for f in c(left)] if left.strip() else [],
    )  # fmt: skip


MAKERS: tuple[Maker, ...] = (
    data.yaml_anchors, data.yaml_documents, data.yaml_scalars, data.json_lines, data.settings, data.settings, data.subtitles, data.subtitles, data.bibtex, data.ris,
    data.cards, data.calendar, data.mails, data.diff, data.sql, texts.latex, texts.latex, texts.markdown, texts.markdown, texts.html, texts.html, texts.directives, texts.org, texts.ruled,
    texts.grid_cells, texts.names, texts.shots, texts.shots, texts.short_xml,
)  # fmt: skip


def document(rng: random.Random) -> Mixed:
    """Write a random document of one of these formats."""
    w = Writer(rng)
    made = rng.choice(MAKERS)(w)
    if isinstance(made, Part):
        made = _around(w, made)
    elif isinstance(made, Records):
        made = made.written(rng)
    if rng.random() < 0.1 and "\r" not in made.text:
        check = made.check
        made = replace(
            made,
            text=made.text.replace("\n", "\r\n"),
            check=lambda left: check(left.replace("\r\n", "\n")),
        )
    return made
