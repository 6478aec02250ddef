"""The drawing of the house as a test: imports point down, and heavy parts have one door."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "langchain_tokenopt"
MODULES = sorted(PACKAGE.rglob("*.py"))

VOCABULARY = [
    "errors",
    "vocabularies",
    "media",
    "tokens",
    "prices",
    "usage",
    "reported",
    "messages",
    "stage",
    "embeddings",
    "forecast",
]
"""Each may import those before it."""
STAGES = {
    "budget",
    "cache",
    "callbacks",
    "compress",
    "context",
    "host_cache",
    "ledger",
    "limits",
    "routing",
    "tools",
}
"""They may import the vocabulary, and never each other."""
SOCKETS = ["passage", "shortening", "model", "course", "graph", "scope", "middleware"]
SURFACE = ["offline", "examples", "evaluate", "report", "cli"]

RANK = {name: rank for rank, name in enumerate(VOCABULARY)}
RANK["calls"] = 99  # the inner half of callbacks
RANK |= dict.fromkeys(STAGES, 100)
RANK |= {name: 200 + rank for rank, name in enumerate([*SOCKETS, *SURFACE])}

ONE_DOOR = {
    "faiss": {"cache"},
    "sentence_transformers": {"embeddings"},
    "torch": {"embeddings"},
    "sqlalchemy": {"ledger", "cache", "budget", "cli"},
    "genai_prices": {"prices"},
    "tiktoken": {"vocabularies"},
    "typer": {"cli"},
    "rich": {"cli", "report"},
}
"""Which rooms may import a heavy package."""


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imports(path: Path) -> Iterator[str]:
    """Every imported module, also in functions; without what only type checkers see."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    hidden: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            hidden.update(inner for part in node.body for inner in ast.walk(part))
    for node in ast.walk(tree):
        if node in hidden:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield node.module or ""
            if node.module == "langchain_tokenopt":
                yield from (f"langchain_tokenopt.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path):
    """No module imports a sibling stage or a higher layer, not even lazily."""
    room = _room(path)
    if room == "__init__":
        return
    for module in _imports(path):
        first, _, rest = module.partition(".")
        if first == "langchain_tokenopt" and rest:
            other = rest.partition(".")[0]
            if other in RANK and other != room:
                assert RANK[other] < RANK[room], f"{room} must not import {other}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_packages_have_one_door(path):
    """Whoever wants an index, a ledger or a price asks the room that owns it."""
    for module in _imports(path):
        doors = ONE_DOOR.get(module.partition(".")[0])
        assert doors is None or _room(path) in doors, f"{path.name} must not import {module}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_is_unpickled(path):
    """No code from stored data."""
    forbidden = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal"}
    assert not forbidden & {module.partition(".")[0] for module in _imports(path)}


def test_every_room_is_in_the_drawing():
    """A new module finds its place before it is built."""
    rooms = {_room(path) for path in MODULES} - {"__init__"}
    assert rooms <= set(RANK)
