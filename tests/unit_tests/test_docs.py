"""The documentation is true: what it shows runs, what it names exists, what it links is there."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from typer.main import get_command

from langchain_tokenopt import Phase
from langchain_tokenopt.cli import app
from tests.benchmarks.tables import PAGES as WRITTEN
from tests.benchmarks.tables import source, written
from tests.support.doc_blocks import PAGES, ROOT, blocks_of, commands_of, is_shown
from tests.support.doc_runner import Runner
from tests.unit_tests.test_architecture import LAYERS

pytestmark = pytest.mark.exhaustive

README = (ROOT / "README.md").read_text(encoding="utf-8")
ALL = sorted({*PAGES, *WRITTEN})
TARGETS = re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def _named(pages):
    return pytest.mark.parametrize("page", pages, ids=lambda page: page.name)


def _code(page: Path) -> str:
    """What stands in backticks, within a line or in a console."""
    text = page.read_text(encoding="utf-8")
    inline = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text)
    typed = [c.typed for b in blocks_of(page) if b.language == "console" for c in commands_of(b)]
    return "\n".join([*inline, *typed])


@pytest.fixture(scope="session")
def runner() -> Iterator[Runner]:
    with Runner() as running:
        yield running


@_named([page for page in PAGES if {"python", "console"} & {b.language for b in blocks_of(page)}])
def test_blocks_run_when_pasted_alone_and_print_what_is_shown(page, runner):
    """Each in an empty folder, with the extras that are named, and without a warning."""
    blocks = {block.name: block for block in blocks_of(page)}
    for ran in runner.run(page):
        block = blocks[ran["name"]]
        shown = block.prints
        if ran["typed"]:
            shown = next(c.prints for c in commands_of(block) if c.typed == ran["typed"])
        else:
            assert (ran["code"], ran["err"]) == (0, ""), f"{block.name}\n{ran['err']}"
        if shown is not None:
            assert is_shown(shown, ran["out"], varies=block.varies), (
                f"{block.name} {ran['typed']}\nshows\n{shown}\nbut prints\n{ran['out']}"
            )


@_named(ALL)
def test_tables_names_and_links_are_up_to_date(page):
    """``make tables`` writes them."""
    assert written(page) == page.read_text(encoding="utf-8"), "run: make tables"


@_named(ALL)
def test_links_lead_somewhere(page):
    """Files and headings exist; the README's links are absolute, for pages that show it alone."""
    text = page.read_text(encoding="utf-8")
    base = f"{source()}/blob/main/"
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith("http") and not link.startswith(base):
            continue
        assert page.name != "README.md" or link.startswith((base, "#")), link
        inner = link.startswith(base)
        path, _, heading = link.removeprefix(base).removesuffix("?raw=true").partition("#")
        target = (ROOT if inner else page.parent) / path if path else page
        assert target.is_file(), link
        assert not heading or heading in _headings(target), link


TO_COME = {"export.md"}


def _headings(page: Path) -> set[str]:
    found = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in found}


@_named(ALL)
def test_make_targets_exist(page):
    """What is told to run can be run."""
    assert set(re.findall(r"^make ([a-z][\w-]*)", _code(page), re.M)) <= set(TARGETS)


@_named(ALL)
def test_commands_and_their_options_exist(page):
    """Of blocks that are not run, too."""
    for line in re.findall(r"^tokenopt .*", _code(page), re.M):
        command, words = get_command(app), shlex.split(line.replace(" COMMAND", ""))[1:]
        known = set()
        for word in words:
            command = getattr(command, "commands", {}).get(word, command)
            known |= {name for option in command.params for name in option.opts}
        options = {word for word in words if re.match(r"--?[a-z]", word)}
        hidden = {"--help", "-h", "--install-completion"}
        assert words[0].startswith("-") or words[0] in get_command(app).commands, line
        if "suggest" not in words:
            assert options <= known | hidden, line


@_named(ALL)
def test_names_exist(page):
    """Classes and keyword arguments that are named are there; our own or the host's."""
    code = _code(page)
    classes = set(re.findall(r"\b[A-Z][a-z0-9]+[A-Z]\w*\b", code))
    arguments = set(re.findall(r"\b([a-z]\w+)=", code))
    assert classes | arguments <= _words() | FOREIGN


@cache
def _words() -> set[str]:
    package = (ROOT / "langchain_tokenopt").rglob("*.py")
    return {word for path in package for word in re.findall(r"\w+", path.read_text("utf-8"))}


FOREIGN = {
    "ContextEditingMiddleware",
    "OpenAIEmbeddings",
    "base_compressor",
    "max_connections",
    "trim_tokens_to_summarize",
}
"""Named, but not ours, and not in our sources."""


def test_the_readme_is_short():
    """Promise, install, code, one command and what it does not do first; all of it on a page."""
    first = README.split("\n## ")[0]
    assert len(first.splitlines()) <= 60
    assert "does not do" in first
    assert len(README.encode()) < 12_000


def test_every_page_is_reached_from_the_readme():
    """No page that nobody finds."""
    for page in [ROOT / "BENCHMARKS.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        assert str(page.relative_to(ROOT)) in README


def test_the_table_of_extras_is_that_of_the_project():
    """A new extra is told."""
    rows = re.findall(r"^\| (`.*?`) \|", README.partition("## Install")[2], re.M)
    told = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert told == set(PROJECT["optional-dependencies"]) - {"providers", "dev"}


def test_the_order_of_stages_is_that_of_the_phases():
    """In the page's table, and in the README's line."""
    page = (ROOT / "docs" / "compose.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| \d \| `(\w+)` \|", page, re.M) == [phase.name for phase in Phase]


def test_every_room_of_the_house_is_explained():
    """In the table below the drawing."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    explained = "".join(re.findall(r"^\| (`.*?) \|", page, re.M))
    assert set(re.findall(r"`(\w+)`", explained)) == {
        room for rooms in LAYERS for room in rooms if not room.startswith("_")
    }


def test_every_measured_table_says_how_and_what_it_does_not_show():
    """Its command, its versions and day, and in words where its figures end."""
    sections = re.split(r"<!-- end -->", (ROOT / "BENCHMARKS.md").read_text(encoding="utf-8"))
    for section in sections[:-1]:
        before, _, table = section.partition("<!-- table: ")
        assert "**Not shown:**" in before, table[:20]
        assert re.search(r"`(make|python -m) ", table) or table.startswith("foreign"), table[:20]
        assert "python 3" in table or table.startswith("foreign"), table[:20]
