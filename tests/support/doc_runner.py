"""Runs what documentation shows, each block alone, with no more than the extras named beside it.

A process imports what the core needs and then forks for every block, so a block finds a fresh
process at the cost of a fork. ``python -m tests.support.doc_runner`` does without forks: every
block of every page in a new interpreter, as a reader pastes it (about a minute).
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from functools import cache
from importlib.machinery import PathFinder
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions, requires
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from tests.support.doc_blocks import PAGES, ROOT, Block, blocks_of, commands_of

__all__ = ["Runner", "main"]

_SECONDS = 300
_LOADED = (
    "langgraph.graph",
    "langchain_core.prompts",
    "langchain_core.language_models",
    "langchain_core.output_parsers",
    "sqlalchemy",
    "tiktoken",
    "genai_prices",
    "langchain_tokenopt.cli",
    "langchain_tokenopt.chat_model",
    "langchain_tokenopt.compress",
    "langchain_tokenopt.graph",
    "langchain_tokenopt.scope",
    "langchain_tokenopt.testing",
    "langchain_tokenopt.examples.trading_desk",
)
"""What most blocks import; none of it needs an extra."""


class Runner:
    """A process that runs pages on request; close it with ``with``."""

    def __enter__(self) -> Runner:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.doc_runner", "--serve"],
            cwd=ROOT,
            env=_environment(os.environ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def run(self, page: Path) -> list[dict[str, Any]]:
        """Run a page's blocks in their order and return what each of them has printed.

        Python blocks run in an empty folder each. What they leave there is laid into the page's own
        folder, in which its commands run.
        """
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{page}\n")
        self._process.stdin.flush()
        found: list[dict[str, Any]] = json.loads(self._process.stdout.readline())
        return found


def _environment(outer: Mapping[str, str]) -> dict[str, str]:
    """Return a reader's environment: no key, no settings of ours, no network for models."""
    kept = {
        name: value
        for name, value in outer.items()
        if not name.startswith(("TOKENOPT_", "OPENAI_", "LANGSMITH_", "LANGCHAIN_", "FORCE_"))
    }
    return kept | {
        "COLUMNS": "100",
        "HF_HUB_OFFLINE": "1",
        "NO_COLOR": "1",
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TZ": "UTC",
    }


def _run_page(page: Path, start: Callable[..., tuple[int, str, str]]) -> list[dict[str, Any]]:
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for number, block in enumerate(blocks_of(page)):
            if block.language == "python" and _are_installed(block.extras):
                alone = Path(folder) / f".alone{number}"
                alone.mkdir()
                results.append(_result(block, *start(_python, block, alone)))
                shutil.copytree(alone, folder, dirs_exist_ok=True)
            elif block.language == "console" and not block.is_synopsis:
                for command in commands_of(block):
                    ended = start(_typed, command.typed, Path(folder), merged=True)
                    results.append(_result(block, *ended, typed=command.typed))
    return results


def _result(block: Block, code: int, out: str, err: str, typed: str = "") -> dict[str, Any]:
    return {"name": block.name, "typed": typed, "code": code, "out": out, "err": err}


def _python(block: Block, folder: Path) -> None:
    os.chdir(folder)
    _OnlyThese.take_over(block.extras)
    if "SemanticCache" in block.text:
        importlib.import_module("tests.support.chance").without_chance()
    module = type(sys)("__main__")
    sys.modules["__main__"] = module
    exec(compile(block.text, block.name, "exec"), vars(module))


def _typed(line: str, folder: Path) -> None:
    os.chdir(folder)
    words = shlex.split(line)
    if ">" in words:
        at = words.index(">")
        os.dup2(os.open(words[at + 1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
        words = words[:at]
    if words[0] != "tokenopt":
        assert words[0] in {"cat", "printf", "ls"}, line
        os.execvp(words[0], words)
    from langchain_tokenopt.cli import main as tokenopt

    sys.argv = words
    tokenopt()


def _forked(
    work: Callable[..., None], *arguments: Any, merged: bool = False
) -> tuple[int, str, str]:
    """Do *work* in a fork; return its exit code and what it has written."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if not child:
            os.dup2(out.fileno(), 1)
            os.dup2((out if merged else err).fileno(), 2)
            os._exit(_ended(work, arguments))
        _, status = os.waitpid(child, 0)
        for file in (out, err):
            file.seek(0)
        return os.waitstatus_to_exitcode(status), out.read().decode(), err.read().decode()


def _ended(work: Callable[..., None], arguments: Sequence[Any]) -> int:
    import signal
    import traceback

    signal.alarm(_SECONDS)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False, buffering=1)  # noqa: SIM115
    code = 0
    try:
        work(*arguments)
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    with contextlib.suppress(ValueError):
        sys.stdout.flush()
    return code


def _fresh(
    work: Callable[..., None], *arguments: Any, merged: bool = False
) -> tuple[int, str, str]:
    """Do *work* in a new interpreter."""
    first, folder = arguments
    told = json.dumps([first.page, first.line] if isinstance(first, Block) else first)
    ended = subprocess.run(
        [sys.executable, "-m", "tests.support.doc_runner", work.__name__, told, str(folder)],
        cwd=ROOT,
        env=_environment(os.environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if merged else subprocess.PIPE,
        text=True,
        check=False,
    )
    return ended.returncode, ended.stdout, ended.stderr or ""


class _OnlyThese(PathFinder):
    """Finds only packages that an installation with some extras has."""

    installed: frozenset[str]

    @classmethod
    def find_spec(cls, fullname: str, path: Any = None, target: Any = None) -> Any:
        """Find a module, if its package may be there."""
        return None if _is_missing(fullname, cls.installed) else super().find_spec(fullname, path)

    @classmethod
    def take_over(cls, extras: Iterable[str]) -> None:
        """Look for modules with this finder from now on, also for those that were imported."""
        cls.installed = _closure(frozenset(extras))
        for name in [name for name in sys.modules if _is_missing(name, cls.installed)]:
            del sys.modules[name]
        sys.meta_path[:] = [cls if one is PathFinder else one for one in sys.meta_path]


def _is_missing(module: str, installed: Set[str]) -> bool:
    name = module.partition(".")[0]
    if name == "importlib_metadata":  # where it is installed, the standard library asks it
        return False
    owners = _owners().get(name, [])
    return bool(owners) and not {_plain(owner) for owner in owners} & installed


@cache
def _owners() -> Mapping[str, list[str]]:
    return packages_distributions()


@cache
def _closure(extras: frozenset[str]) -> frozenset[str]:
    """Return the names of all packages that an installation with *extras* brings."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found: set[tuple[str, str]] = set()
    left = [Requirement(line) for line in project["dependencies"]]
    for extra in extras:
        left += [Requirement(line) for line in project["optional-dependencies"][extra]]
    while left:
        wanted = left.pop()
        name = _plain(wanted.name)
        if name == "langchain-tokenopt":
            inner = project["optional-dependencies"]
            left += [Requirement(line) for extra in wanted.extras for line in inner[extra]]
            continue
        for extra in {"", *wanted.extras}:
            if (name, extra) in found:
                continue
            found.add((name, extra))
            try:
                lines = requires(name) or []
            except PackageNotFoundError:
                continue
            needed = [Requirement(line) for line in lines]
            left += [n for n in needed if not n.marker or n.marker.evaluate({"extra": extra})]
    return frozenset({name for name, _ in found} | {"langchain-tokenopt"})


def _are_installed(extras: frozenset[str]) -> bool:
    """Whether the environment has what the extras bring; one that is out of date may not."""
    try:
        for name in _closure(extras) - _closure(frozenset()):
            distribution(name)
    except PackageNotFoundError:
        return False
    return True


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _serve() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for name in _LOADED:
        importlib.import_module(name)
    _owners()
    for line in sys.stdin:
        answers.write(json.dumps(_run_page(Path(line.strip()), _forked)) + "\n")
        answers.flush()


def main(arguments: Sequence[str]) -> int:
    """Serve pages to a :class:`Runner`, do one thing for a fresh process, or try all pages."""
    if arguments == ["--serve"]:
        _serve()
        return 0
    if arguments:
        work, told, folder = arguments
        given = json.loads(told)
        if work == "_python":
            given = next(b for b in blocks_of(ROOT / given[0]) if b.line == given[1])
        return _ended({"_python": _python, "_typed": _typed}[work], [given, Path(folder)])
    failed = 0
    for page in PAGES:
        for result in _run_page(page, _fresh):
            if result["code"] and not result["typed"]:
                failed += 1
                print(result["name"], result["err"], sep="\n")
    print(f"{failed} blocks failed")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
