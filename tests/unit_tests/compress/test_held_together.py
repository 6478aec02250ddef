"""What opens on one line and closes below is kept together, whatever the text was taken for."""

from __future__ import annotations

import ast
import json
from xml.etree import ElementTree

import pytest

from langchain_tokenopt.compress import PromptCompressor
from langchain_tokenopt.compress.held_together import held_units
from langchain_tokenopt.compress.prompt_lines import behind_blanks
from langchain_tokenopt.compress.segments import segments_of
from langchain_tokenopt.compress.unit import Unit
from langchain_tokenopt.counting.tokens import counter_for
from tests.benchmarks.compress_wholeness import outcome

COUNT = counter_for("o200k_base").count


def _left(text: str, query: str | None, share: float) -> str:
    budget = int(COUNT(text).tokens * share)
    left = PromptCompressor(budget, query=query, model="o200k_base").invoke(text)
    assert COUNT(left).tokens <= budget
    return left


PIECES = {
    "here-document": "cat > a{n} <<EOF\nif this. Then lamp {n}\n{{ ( not closed\nEOF",
    "case": "case $1 in\n  lamp{n}) echo a;;\n  *)\n    exit {n}\n    ;;\nesac",
    "goes on": "docker run \\\n  --name lamp{n} \\\n  img",
    "string": "say='lamp {n}\n  still. Quoted\n'",
    "definition": "define T{n}\nthe lamp. Is {n}\n\tand more\nendef",
    "statement": "CREATE TABLE lamp_{n} (\n  a INTEGER,  -- one; two\n  b TEXT DEFAULT ';'\n);",
    "remark": '{{ // the {{ of {n}\n  "a{n}": "/*", // }}\n  /* ] */ "b": [{n}],\n}}',
    "form": '(defun lamp-{n} (x)\n  "the ) of {n}"\n  (list x\n    (cons x nil)))',
    "template": "{{{{Infobox {n}\n| name = lamp {n}\n| size = {n}. Big\n}}}}",
    "tag": "  @slow\n  Scenario: lamp {n}",
    "words": "subroutine lamp_{n}(x)\n  do k = 1, 9\n    x = x + {n}\n  end do\nend subroutine",
    "branches": "if lamp > {n}\n  light({n});\nelse\n  wait({n});\nend",
    "long remark": "<#\n.SYNOPSIS\n    The lamp. Of {n}\n#>\nGet-Lamp {n}",
}


@pytest.mark.parametrize("piece", PIECES.values(), ids=PIECES)
@pytest.mark.parametrize("glue", ["\n", "\n\n"])
def test_every_piece_is_whole_or_gone(piece: str, glue: str) -> None:
    """In a script, a page or a fence; half and a fifth of it alike."""
    pieces = [piece.format(n=n) for n in range(40)]
    for around in ("{}\n", "Look:\n\n```\n{}\n```\n\nWhich lamp is the best?"):
        for share in (0.5, 0.2):
            left = _left(around.format(glue.join(pieces)), "What of lamp 7?", share)

            for one in sorted(pieces, key=len, reverse=True):
                left = left.replace(one, "", 1)
            lines = {line.strip() for one in pieces for line in one.split("\n")}
            assert not [line for line in left.split("\n") if line.strip() in lines]


BODIES = {
    "namespace": (
        "namespace lamps {",
        "int lamp{n}(int x) {{\n    return x + {n};\n}}",
        "}  // lamps",
    ),
    "linkage": ('extern "C" {', "int lamp{n}(int x) {{\n  return x + {n};\n}}", "}"),
    "function at once": (
        "(function () {",
        "  function lamp{n}() {{\n    go({n});\n  }}",
        "})();",
    ),
    "rules": (".page {", "  .lamp{n} {{\n    margin: {n}px;\n  }}", "}"),
    "graph": ("digraph G {", "  subgraph lamp{n} {{\n    a -> b{n};\n  }}", "}"),
    "words": ("class Lamps", "  def lamp{n}(x)\n    x + {n}\n  end", "end"),
    "module": ("defmodule Lamps do", "  def lamp{n}(x) do\n    x + {n}\n  end", "end"),
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_members_of_what_is_all_there_is_are_kept_by_themselves(body: tuple[str, str, str]) -> None:
    """One namespace, class or function around everything; a share asks for no less than a limit."""
    opens, member, closes = body
    members = [member.format(n=n) for n in range(40)]
    text = "\n".join([opens, *(f"{one}\n" for one in members), closes]) + "\n"

    for left in (
        _left(text, "What is lamp13?", 0.25),
        PromptCompressor(keep=0.25, query="What is lamp13?", model="o200k_base").invoke(text),
    ):
        assert members[13] in left
        assert len(left) < 0.4 * len(text)
        assert left.startswith(opens)
        assert left.rstrip().endswith(closes)
        for one in sorted(members, key=len, reverse=True):
            left = left.replace(one, "", 1)
        assert left.split() == f"{opens} {closes}".split()


def test_members_of_a_list_go_where_it_is_all_there_is() -> None:
    """A share of a list of short objects is fewer objects; half a surrogate pair is no trouble."""
    for name in ("lamp", "half \ud83d of it"):
        text = json.dumps([{"id": n, "name": name} for n in range(60)])

        left = PromptCompressor(keep=0.1, model="o200k_base").invoke(text)

        assert 1 < len(json.loads(left)) < 12


def test_the_units_of_a_stretch_are_named() -> None:
    """First and last, and whether lines between them may go."""
    text = "a \\\n  b\nx {\n" + "  y;\n" * 900 + "}\n"
    starts = [0, 4, 8, *range(12, 12 + 5 * 900, 5), 12 + 5 * 900]
    units = [Unit(a, b) for a, b in zip(starts, [*starts[1:], len(text)], strict=True)]

    assert list(held_units(text, units)) == [(0, 1, True), (2, 903, False)]


def test_a_printed_list_stays_one() -> None:
    """Of Python's own notation members may go, as they may of JSON."""
    rows = [{"id": n, "who": "Ada's", "at": (n, None)} for n in range(60)]

    left = _left(f"{rows!r}\n", "Who has id 7?", 0.3)

    assert all(row in rows for row in ast.literal_eval(left.strip()))


def test_settings_of_a_list_keep_the_entry_above() -> None:
    """A table of TOML within an entry of a list is nothing without that entry."""
    text = "".join(f'[[a]]\nname = "n{n}"\n[[a.b]]\nport = {n}\n' for n in range(40))

    left = _left(text, "Which has port 31?", 0.2)

    assert "port = 31" in left
    assert left.split("[[a.b]]")[0].startswith("[[a]]")


def test_tasks_with_dates_are_a_list() -> None:
    """A date in a task is no time at which a record was written."""
    text = "1. Fix the lamp by 2026-05-07\n2. Call Ann\n3. Pay by 2026-06-01\n4. Go\n5. Sleep\n"

    assert [segment.kind for segment in segments_of(text)] == ["list"]


def test_where_nobody_asks_what_failed_is_kept() -> None:
    """Of a log, errors come first."""
    rows = [f"2026-05-03 10:{n:02}:00 {'ERROR' if n == 31 else 'INFO'} step {n}" for n in range(60)]

    assert "ERROR step 31" in _left("\n".join(rows), None, 0.1)


def test_rows_of_html_keep_their_header() -> None:
    """And the text of JSON is never left empty."""
    rows = "".join(f"<tr><td>{n}</td><td>lamp {n}</td></tr>\n" for n in range(60))
    head = "<thead>\n<tr><th>id</th><th>what</th></tr>\n</thead>\n"

    left = _left(f"<table>\n{head}<tbody>\n{rows}</tbody>\n</table>\n", "What of lamp 31?", 0.1)

    assert head in left
    assert "lamp 31" in left
    objects = [{"id": n, "text": f"Lamp {n} is red. It is old."} for n in range(30)]
    text = "\n".join(json.dumps(one, indent=2) for one in objects)
    assert '"text": ""' not in _left(text, "Lamp 7?", 0.2)


LICENCE = "".join(f" * Clause {n} of this licence says what may be done.\n" for n in range(30))
LONG_TEXTS = {
    "guard": ("#ifndef LAMPS_H\n#define LAMPS_H\n", "#endif\n"),
    "licence and guard": (f"/*\n{LICENCE} */\n#ifndef LAMPS_H\n#define LAMPS_H\n", "#endif\n"),
    "names in C": ('#ifdef __cplusplus\nextern "C" {\n#endif\n', "#ifdef __cplusplus\n}\n#endif\n"),
    "here-document": ("return <<'END';\n", "END\n"),
    "condition": ('if [ -n "$LAMPS" ]; then\n', "fi\n"),
}


@pytest.mark.parametrize("around", LONG_TEXTS.values(), ids=LONG_TEXTS)
@pytest.mark.parametrize("glue", ["\n", "/* More. */\n"])
def test_what_holds_a_whole_text_holds_nothing(around: tuple[str, str], glue: str) -> None:
    """Each line of a long block can be kept where a tenth of the text, or 120 tokens, fit."""
    lines = [f"int lamp_{n}(struct lamp *it, int colour{n});\n" for n in range(90)]
    text = f"{around[0]}{glue.join(lines)}{around[1]}"

    for share in (0.25, 0.1, 120 / COUNT(text).tokens):
        assert lines[61].strip() in _left(text, "What does lamp_61 take?", share)


def test_a_guard_without_blank_lines_is_no_block() -> None:
    """Nor is a condition that is never closed; one with two branches is."""
    lines = [f"int lamp_{n}(struct lamp *it, int colour{n});\n" for n in range(90)]

    for guard, end in (("#ifndef LAMPS_H\n", "#endif\n"), ("#ifndef LAMPS_H\n", "")):
        text = f"{guard}{''.join(lines)}{end}"
        assert lines[61].strip() in _left(text, "What does lamp_61 take?", 0.1)
    text = f"int a;\n#if A\n{''.join(lines[:40])}#else\n{''.join(lines[40:])}#endif\nint b;\n"
    assert not any(line in _left(text, "What does lamp_61 take?", 0.5) for line in lines)


def test_members_of_a_class_are_kept_by_themselves() -> None:
    """Its reader found them; that all of it stands in brackets makes them no block."""
    members = [f"    /// Lamp {n}.\n    pub fn lamp{n}(&self) -> u8 {{ {n} }}\n" for n in range(20)]
    text = "use a::b;\n\nimpl Lamps {\n" + "\n".join(members) + "}\n\nfn last() {}\n"

    left = _left(text, "What is lamp13?", 0.2)

    assert "impl Lamps {\n" in left
    assert "pub fn lamp13(&self) -> u8 { 13 }" in left
    assert left.count("{") == left.count("}")


def test_a_long_remark_is_kept_by_lines() -> None:
    """A licence that is too long for what is left says what one is asked about it."""
    text = f"/*\n{LICENCE} */\n" + "".join(f"int lamp_{n};\n" for n in range(90))

    left = _left(text, "What does clause 17 of the licence say?", 0.1)

    assert " * Clause 17 of this licence" in left
    assert left.count("/*") == left.count("*/")


def test_a_fence_whose_text_nobody_read_is_no_trouble():
    """Without units there is nothing to hold together."""
    assert [] == list(held_units("{\n  a: 1\n}\n", []))


# --- marks that passages begin with ----------------------------------------------------------


BROKEN_ONCE = {
    "a tag that opens was bound to the passage above": ("formats", 300_002_022),
    "a tag behind a fence, too": ("formats", 300_003_126),
    "a quotation that opens below a title": ("formats", 300_003_059),
    "a fence that begins with another": ("formats", 300_004_807),
    "strings in a fence that go on over the line": ("formats", 300_003_430),
    "the first of them alone": ("formats", 41_300_446),
    "a declaration without its document": ("nested", 300_000_024),
    "an emptied string": ("nested", 300_002_808),
    "a field of a header without its text": ("nested", 300_002_677),
    "a number without its line": ("strange", 41_400_337),
    "a blank line as all that a tag holds": ("formats", 52_002_756),
    "levels of one letter": ("strange", 300_000_783),
    "seconds since a start": ("strange", 300_002_373),
    "the same beside tags": ("strange", 300_000_207),
    "an output without its second paragraph": ("records", 55_001_010),
    "the same behind a label": ("records", 55_002_404),
}


@pytest.mark.parametrize("case", BROKEN_ONCE.values(), ids=BROKEN_ONCE)
def test_documents_that_were_broken_once_are_whole(case: tuple[str, int]) -> None:
    """What parsers of the formats say of documents that are written from a seed."""
    documents, seed = case

    kind, _, faults = outcome(seed, documents)

    assert not faults, kind


@pytest.mark.parametrize("items", [1, 3, 20])
def test_a_declaration_never_stands_without_its_document(items: int) -> None:
    """However little stands in it."""
    members = "".join(f'<item id="kettle&gt;{n}"/>\n' for n in range(items))
    text = (
        f'<?xml version="1.0"?>\n<!DOCTYPE root [<!ENTITY x "a > y">]>\n<root>\n{members}</root>\n'
    )

    for share in (0.3, 0.6, 0.8, 0.95):
        left = _left(text, "What of kettle 2?", share)
        if left.strip():
            ElementTree.fromstring(left)


def test_a_string_is_not_emptied_for_the_sake_of_the_field_before_it() -> None:
    """Where data asks in a list, what follows in that list keeps some of its text."""
    long = " ".join(f"By art. {n} the harbour may stay, e.g. with Mr. Ines." for n in range(5))
    value = {
        "a": ['say "ferry" \\ orchard\n\t{', 'say "orchard" \\ bridge\n\t{', [long]],
        "b": "x",
        **{f"m{n}": f"The kettle {n} costs money, says Emre. " * 9 for n in range(3)},
    }
    text = f"Be brief.\n\n<data>\n{json.dumps(value)}\n</data>\n\nWhich lamp is the best one?"

    for share in (0.4, 0.6, 0.8):
        assert '""' not in _left(text, None, share)


def test_the_margin_of_a_line_is_its_own() -> None:
    """Where a passage ends, the margin of the next line is no part of it."""
    text = "a = 1\n\n  b = 2\n"

    assert [behind_blanks(text, at) for at in (6, 5, 0, len(text))] == [7, 7, 0, len(text)]


def test_a_branch_behind_the_last_record_belongs_to_it() -> None:
    """A sign of a tree is no question about a log."""
    rows = [f"(info)  [lamp.{n}]  0{n}/06/2025 05:0{n}  harbour = {n}\n" for n in range(1, 9)]
    text = "".join(rows) + "└── 85\n"

    for share in (0.05, 0.2, 0.5):
        left = _left(text, "What of Fumi?", share)
        assert "└──" not in left or f"{rows[-1]}└── 85" in left
