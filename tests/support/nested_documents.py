"""Random documents whose values hold what looks like marks of their own format, or of others."""

# ruff: noqa: E501

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import replace

from tests.support import nested_data as data
from tests.support import nested_texts as texts
from tests.support.mixed_documents import NAMES, Mixed, Part, Writer
from tests.support.wholeness import marks_close, words_in_order

MAKERS: tuple[Callable[[Writer], Part], ...] = (
    data.sql_dump, data.toml_nested, data.ini_continued, data.properties, data.yaml_workflow, data.xml_nested, data.html_table,
    data.notebook, data.json_in_strings, data.json_objects, data.python_values, data.jsonc, data.json_lines_nested, data.csv_quoted, data.wiki_table,
    texts.python_module, texts.shell_script, texts.makefile, texts.dockerfile, texts.config_blocks, texts.git_diff, texts.nested_list, texts.numbered_tasks,
    texts.rst_page, texts.latex_nested, texts.roff_and_kin, texts.mail_thread, texts.mbox, texts.graphemes, texts.right_to_left, texts.stack_traces, texts.gherkin,
)  # fmt: skip

ESCAPED = ("notebook", "json in strings")
"""Kinds whose words may be written otherwise, and whose checks compare what they mean."""
ASKED = "Which lamp is the best one?"
BEFORE = "You are an editor. Be brief."


def document(rng: random.Random) -> Mixed:
    """Write a random document of one of these formats, alone, in a fence, in a tag or in a prompt."""
    w = Writer(rng)
    part = rng.choice(MAKERS)(w)
    way = rng.choice(("alone", "alone", "fence", "tag", "asked", "prompt"))
    text, inner = part.text, part.check
    if way == "fence" and "```" not in text:
        text = f"Look:\n\n```\n{text}```\n\n{ASKED}"
        check = _within(r"^```\n(.*?)^```", inner)
    elif way == "tag" and "<" not in text:
        text = f"{BEFORE}\n\n<data>\n{text}</data>\n\n{ASKED}"
        check = _within(r"^<data>\n(.*?)^</data>", inner, "<data>")
    elif way in ("asked", "prompt"):
        text = (f"{BEFORE}\n\n" if way == "prompt" else "") + f"{text}\n{ASKED}"

        def check(left: str) -> list[str]:
            body = left
            for line in (BEFORE, "You are an editor.", "Be brief.", ASKED):
                body = body.replace(line, "", 1)
            return inner(body.strip("\n") + "\n") if body.strip() else []

    else:
        check = inner
    words = words_in_order(text) if part.kind not in ESCAPED else lambda left: []
    made = Mixed(
        part.kind, text, rng.choice(("", f"What of {rng.choice(NAMES)}?")) if ASKED not in text else "",
        lambda left: check(left) + words(left) if left.strip() else [],
    )  # fmt: skip
    if rng.random() < 0.05 and "\r" not in text:
        both = made.check
        made = replace(
            made,
            text=text.replace("\n", "\r\n"),
            check=lambda left: both(left.replace("\r\n", "\n")),
        )
    return made


def _within(
    pattern: str, inner: Callable[[str], list[str]], mark: str = "```"
) -> Callable[[str], list[str]]:
    def check(left: str) -> list[str]:
        found = re.search(pattern, left, re.S | re.M)
        if found:
            return inner(found.group(1))
        return [f"{mark} stays open"] if mark in left and mark != "```" else marks_close(left)

    return check
