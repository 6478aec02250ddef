"""The drawing of the house as a test: imports point down, and heavy parts have one door.

Imports that only type checkers see, and imports inside of functions, count like all others: what
knows another module's names depends on it, whenever that is.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from langchain_tokenopt.core.dimensions import DIMENSIONS
from langchain_tokenopt.core.records import COUNTS
from langchain_tokenopt.core.usage import TOKEN_COUNTS

PACKAGE = Path(__file__).parents[2] / "langchain_tokenopt"
MODULES = sorted(PACKAGE.rglob("*.py"))

LAYERS = [
    {"core"},
    {"counting"},
    {"pricing"},
    {"request"},
    {"stage"},
    {"text"},
    {"storage", "embeddings", "forecast"},
    {"tracking"},
    {"budget", "cache", "compress", "ledger", "limits"},
    {"tools"},
    {"chat_model"},
    {"graph"},
    {"scope"},
    {"evaluate"},
    {"report"},
    {"dashboard"},
    {"testing"},
    {"examples"},
    {"validate"},
    {"cli"},
]
"""Rooms, lowest first. A room may import from lower layers, never from its own or a higher one."""
LAYER_OF = {room: height for height, rooms in enumerate(LAYERS) for room in rooms}

ONE_DOOR = {
    "faiss": {"cache"},
    "sentence_transformers": {"embeddings"},
    "torch": {"embeddings"},
    "sqlalchemy": {"storage", "ledger", "cache", "budget", "cli"},
    "psycopg": {"storage"},
    "genai_prices": {"pricing", "core"},
    "tiktoken": {"counting", "core"},
    "typer": {"cli"},
    "plotly": {"report", "dashboard"},
    "starlette": {"dashboard"},
    "uvicorn": {"dashboard", "cli"},
    "rich": {"cli"},
}
"""Which rooms may import a heavy package."""


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _name(path: Path) -> str:
    dotted = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    return dotted.removesuffix(".__init__")


NAMES = {_name(path) for path in MODULES}


def _imports(path: Path) -> Iterator[str]:
    """Every imported module, also in functions and for type checkers."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            module = node.module or ""
            inner = {f"{module}.{alias.name}" for alias in node.names} & NAMES
            yield from inner
            if len(inner) < len(node.names):
                yield module


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path):
    """No module imports from its own layer's other rooms or from a higher layer."""
    room = _room(path)
    if room == "__init__":
        return
    for module in _imports(path):
        if module.startswith("langchain_tokenopt."):
            other = module.split(".")[1]
            if other != room:
                assert LAYER_OF[other] < LAYER_OF[room], f"{room} must not import {module}"


def test_no_module_imports_itself_through_others():
    """There is no circle, inside of a room either."""
    graph = {_name(path): NAMES & set(_imports(path)) for path in MODULES}
    while ends := graph.keys() - set().union(*graph.values()) | {n for n in graph if not graph[n]}:
        graph = {name: uses - ends for name, uses in graph.items() if name not in ends}
    assert not graph, f"in a circle, or between two: {sorted(graph)}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_packages_have_one_door(path):
    """Whoever wants an index, a ledger or a price asks the room that owns it."""
    for module in _imports(path):
        doors = ONE_DOOR.get(module.partition(".")[0])
        assert doors is None or _room(path) in doors, f"{path.name} must not import {module}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_are_opened_in_one_place(path):
    """Only ``storage`` connects to SQLite."""
    called = {
        ast.unparse(node.func)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    }
    if _room(path) != "storage":
        assert "sqlite3.connect" not in called


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_is_unpickled(path):
    """No code from stored data."""
    forbidden = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal"}
    assert not forbidden & {module.partition(".")[0] for module in _imports(path)}


def test_every_room_is_in_the_drawing():
    """A new module finds its place before it is built."""
    rooms = {_room(path) for path in MODULES} - {"__init__"}
    assert rooms <= set(LAYER_OF)


COUNTED = {*COUNTS, *TOKEN_COUNTS}
OTHER_MEANINGS = {"cli/spend.py", "cli/prices.py"}
"""Modules whose lists of such names are something else: keys of a document, a choice to show."""


@pytest.mark.parametrize("names", [set(DIMENSIONS), COUNTED], ids=["dimensions", "counts"])
@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_dimensions_and_counts_are_listed_once(path, names):
    """Usage totals, tables, sums, questions and commands are made from the lists in ``core``."""
    if _room(path) == "core" or str(path.relative_to(PACKAGE)) in OTHER_MEANINGS:
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Tuple | ast.List | ast.Set):
            parts = node.elts
        elif isinstance(node, ast.Dict):
            parts = node.keys
        else:
            continue
        listed = {part.value for part in parts if isinstance(part, ast.Constant)} & names
        assert len(listed) < 3, f"line {node.lineno} lists {sorted(listed)}; use core's list"
