"""The drawing of the house as a test: imports point down, and heavy parts have one door.

Imports that only type checkers see, and imports inside of functions, count like all others: what
knows another module's names depends on it, whenever that is.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from langchain_tokenopt.core.dimensions import DIMENSIONS
from langchain_tokenopt.core.records import COUNTS
from langchain_tokenopt.core.usage import TOKEN_COUNTS

pytestmark = pytest.mark.exhaustive

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
    {"context"},
    {"routing"},
    {"chat_model"},
    {"graph"},
    {"data_requests"},
    {"agents"},
    {"scope"},
    {"whole"},
    {"evaluate"},
    {"learn"},
    {"export"},
    {"report"},
    {"dashboard"},
    {"testing"},
    {"examples"},
    {"validate"},
    {"cli"},
    {"__main__"},
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
    "starlette": {"dashboard", "export"},
    "uvicorn": {"dashboard", "cli"},
    "rich": {"cli"},
    "opentelemetry": {"export"},
    "prometheus_client": {"export"},
}
"""Which rooms may import a heavy package."""


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _name(path: Path) -> str:
    dotted = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    return dotted.removesuffix(".__init__")


NAMES = {_name(path) for path in MODULES}


@cache
def _nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def _imports(path: Path) -> Iterator[str]:
    """Every imported module, also in functions and for type checkers."""
    for node in _nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            module = node.module or ""
            inner = {f"{module}.{alias.name}" for alias in node.names} & NAMES
            yield from inner
            if len(inner) < len(node.names):
                yield module


def test_imports_point_down():
    """No module imports from its own layer's other rooms or from a higher layer."""
    upwards = [
        f"{_name(path)} must not import {module}"
        for path in MODULES
        if (room := _room(path)) != "__init__"
        for module in _imports(path)
        if module.startswith("langchain_tokenopt.")
        and (other := module.split(".")[1]) != room
        and LAYER_OF[other] >= LAYER_OF[room]
    ]
    assert not upwards


def test_no_module_imports_itself_through_others():
    """There is no circle, inside of a room either."""
    graph = {_name(path): NAMES & set(_imports(path)) for path in MODULES}
    while ends := graph.keys() - set().union(*graph.values()) | {n for n in graph if not graph[n]}:
        graph = {name: uses - ends for name, uses in graph.items() if name not in ends}
    assert not graph, f"in a circle, or between two: {sorted(graph)}"


def test_heavy_packages_have_one_door():
    """Whoever wants an index, a ledger or a price asks the room that owns it."""
    elsewhere = [
        f"{_name(path)} must not import {module}"
        for path in MODULES
        for module in _imports(path)
        if (doors := ONE_DOOR.get(module.partition(".")[0])) and _room(path) not in doors
    ]
    assert not elsewhere


def test_files_are_opened_in_one_place():
    """Only ``storage`` connects to SQLite."""
    rooms = {
        _room(path)
        for path in MODULES
        for node in _nodes(path)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "sqlite3.connect"
    }
    assert rooms == {"storage"}


def test_nothing_is_unpickled():
    """No code from stored data."""
    forbidden = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal"}
    imported = {module.partition(".")[0] for path in MODULES for module in _imports(path)}
    assert not forbidden & imported


def test_every_room_is_in_the_drawing():
    """A new module finds its place before it is built."""
    rooms = {_room(path) for path in MODULES} - {"__init__"}
    assert rooms <= set(LAYER_OF)


COUNTED = {*COUNTS, *TOKEN_COUNTS}
OTHER_MEANINGS = {"cli/spend.py", "cli/prices.py", "export/opentelemetry_names.py"}
"""Modules whose lists of such names are something else: keys of a document, a choice to show, a
translation."""


@pytest.mark.parametrize("names", [set(DIMENSIONS), COUNTED], ids=["dimensions", "counts"])
def test_dimensions_and_counts_are_listed_once(names):
    """Usage totals, tables, sums, questions and commands are made from the lists in ``core``."""
    second = []
    for path in MODULES:
        if _room(path) == "core" or str(path.relative_to(PACKAGE)) in OTHER_MEANINGS:
            continue
        for node in _nodes(path):
            if isinstance(node, ast.Tuple | ast.List | ast.Set):
                parts = node.elts
            elif isinstance(node, ast.Dict):
                parts = node.keys
            else:
                continue
            listed = {part.value for part in parts if isinstance(part, ast.Constant)} & names
            if len(listed) >= 3:
                second.append(f"{_name(path)}:{node.lineno} lists {sorted(listed)}")
    assert not second, "use core's list"
