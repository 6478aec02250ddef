"""Pages, settings, code and markup that are asked about from elsewhere: the best line wins."""

from __future__ import annotations

import json

import pytest

from langchain_tokenopt.compress import PromptCompressor


def _left(text: str, query: str, budget: int) -> str:
    made = PromptCompressor(budget, model="cl100k_base", remember=0).compress(text, query)
    assert made.tokens_after <= budget
    return str(made.content)


def test_a_page_asked_about_from_elsewhere_keeps_nothing_for_itself():
    """Orders, notes and headings of a page are no orders of the caller's."""
    page = (
        "# Handbook\n\nYou must read all of this. Never skip a part. Only staff may enter.\n\n"
        "## Doors\n\n" + "Doors are painted white every spring by the crew. " * 20 + "\n\n"
        "## Lifts\n\nThe lift in the north wing was built by Schindler.\n\n"
        "## Roof\n\n" + "The roof is swept on Mondays, when it is dry. " * 20 + "\n"
    )

    left = _left(page, "Who built the lift?", 30)

    assert "Schindler" in left
    assert "must" not in left


def test_a_prompt_that_is_asked_about_as_well_keeps_its_question():
    """Who hands over a whole prompt and the query beside it still asks what stands there."""
    prompt = (
        "Context: " + "Tea is grown on hills where it rains. " * 40 + "\n\n"
        "Question: Where is tea grown?\nAnswer:"
    )

    assert "Question: Where is tea grown?" in _left(prompt, "Where is tea grown?", 60)


@pytest.mark.parametrize(
    ("text", "query", "answer"),
    [
        (
            "".join(f"[unit.u{n}]\nkind = {n}\nlimit = {n * 7}\n\n" for n in range(60)),
            "What is the limit of unit.u41?",
            "[unit.u41]\nkind = 41\nlimit = 287",
        ),
        (
            "".join(f"ship S-{n}:\n  port: P{n % 9}\n  master: Ortega {n}\n\n" for n in range(90)),
            "Who is the master of ship S-33?",
            "master: Ortega 33\n",
        ),
    ],
)
def test_lines_between_blank_lines_say_one_thing_together(text, query, answer):
    """What is named in one line is told in the others of its entry."""
    assert answer in _left(text, query, 40)


def test_prototypes_without_blank_lines_are_lines():
    """Statements of C are kept one by one, as are the remarks above a function."""
    header = "#include <stdio.h>\n\n" + "".join(
        f"extern double volume_of_{name}(const shape *s, double scale);\n"
        for name in ("cube", "cone", "ball", "tube", "ring", "disc", "bowl", "wedge")
    )
    code = header + "\n/* Draws all of them. */\nvoid draw(void)\n{\n" + "    go();\n" * 90 + "}\n"

    left = _left(code, "What is the prototype of volume_of_ring?", 24)

    assert "extern double volume_of_ring(const shape *s, double scale);" in left
    assert "volume_of_cube" not in left
    assert "/* Draws all of them. */" in _left(code, "What draws all of them?", 24)


def test_shell_whose_brackets_no_lexer_matches_is_cut_at_functions():
    """Patterns of ``case`` close what nobody opened; the first column says where things begin."""
    parts = [
        f"go_{n}() {{\n\tcase $1 in\n\ta) echo {n} ;;\n\t*) exit {n} ;;\n\tesac\n}}\n\n"
        for n in range(30)
    ]
    script = "import_all() {\n\ttrue;\n}\n\n" + "".join(parts)

    left = _left(script, "What does go_17 echo?", 80)

    assert parts[17].strip() in left
    assert left.count("{") == left.count("}")


def test_dear_tags_around_an_element_may_go():
    """A root with many attributes is left out of a small budget; the element stays closed."""
    root = '<project xmlns="http://a.example/b" ' + " ".join(f'x{n}="{n}"' for n in range(40)) + ">"
    items = "".join(
        f"  <part>\n    <name>n{n}</name>\n    <size>{n}7 cm</size>\n  </part>\n" for n in range(60)
    )

    left = _left(f"{root}\n{items}</project>\n", "What is the size of n31?", 60)

    assert "317 cm" in left
    assert left.count("<part>") == left.count("</part>") > 0
    assert "<project" not in left


_DRAWN = {
    "lines": ("├── ", "│   ", "└── "),
    "hard blanks": ("├── ", "│\xa0\xa0 ", "└── "),
    "ASCII": ("|-- ", "|   ", "`-- "),
}


@pytest.mark.parametrize(
    "form", ["{tree}", "```\n{tree}```\n", "Our files:\n\n{tree}\nThat is all."]
)
@pytest.mark.parametrize("drawn", _DRAWN)
@pytest.mark.parametrize("budget", [60, 110, 200])
def test_a_tree_that_is_drawn_keeps_the_folders_above_what_is_kept(
    drawn: str, form: str, budget: int
) -> None:
    """A file under another folder would be another file."""
    branch, bar, last = _DRAWN[drawn]
    rows = ["harbour/"]
    for pier in ("north", "south", "west"):
        rows.append(f"{branch}{pier}/")
        for shed in ("ropes", "nets", "oars"):
            rows.append(f"{bar}{branch}{pier}-{shed}/")
            rows += [f"{bar}{bar}{branch}{pier}-{shed}-{n}.md  # list {n * 7}" for n in range(4)]
            rows.append(f"{bar}{bar}{last}{pier}-{shed}-plan.md")
    rows.append(f"{last}LICENCE")

    left = _left(form.format(tree="\n".join(rows) + "\n"), "Which list has west-nets-3?", budget)

    assert "west-nets-3.md  # list 21" in left
    above: list[str] = []
    for row in (row for row in left.splitlines() if row in rows[1:-1]):
        name = row.lstrip("│|├└`- \xa0")
        depth = name.rstrip("/").split("#")[0].count("-") if name.endswith("/") else 2
        assert [name.startswith(folder) for folder in above[:depth]] == [True] * depth
        above[depth:] = [name.rstrip("/")]


@pytest.mark.parametrize("budget", [150, 250, 400])
def test_json_in_a_fence_behind_a_log_is_no_part_of_its_last_record(budget: int) -> None:
    """What stands in the fence stays JSON, and the log its records."""
    log = [f"2026-05-01 10:{n:02d}:39,693 WARN pump {n} of hall {n % 3} is slow" for n in range(12)]
    rows = [
        {"id": n, "note": f"Hall {n} was swept. " * 8 + "It is cold.", "tools": ["mop", "pan"]}
        for n in range(14)
    ]
    page = "\n".join(log) + f"\n\n```json\n{json.dumps({'halls': rows}, indent=2)}\n```\n"

    left = _left(page, "Which tools are in hall 11?", budget)

    halls = json.loads(left.partition("```json\n")[2].partition("```")[0])["halls"]
    assert 11 in [row["id"] for row in halls]
    assert {line for line in left.partition("```")[0].split("\n") if line} <= set(log)


def test_a_note_behind_the_last_subtitle_stays_under_their_header() -> None:
    """A comment alone is no file of subtitles."""
    cues = "".join(
        f"00:{n:02d}:00.000 --> 00:{n:02d}:40.000\nThe ferry {n} leaves at noon.\n\n"
        for n in range(20)
    )
    left = _left(f"WEBVTT\n\n{cues}NOTE\nreviewed by Bo\n", "Who reviewed it?", 30)

    assert left.startswith("WEBVTT\n")
    assert "NOTE\nreviewed by Bo" in left
