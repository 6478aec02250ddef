"""Run suites of other projects plain and under the package, and compare test by test.

    python -m tests.foreign.run [--only WORD] [--write]

No test that passes plain may fail with us. Those that do, and why, stand in ``artefacts.toml``:
artefacts, which are right, and open faults. Any other makes this program fail. Source distributions
are fetched once, in the versions that are installed, into the environment's own folder.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SOURCES = Path(sys.prefix) / "foreign"
RESULTS = ROOT / "tests" / "benchmarks" / "results"

Outcomes = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, kw_only=True)
class Suite:
    """What to run; see ``suites.toml``."""

    name: str
    package: str | None = None
    """Without a package, the paths are our own."""
    paths: Sequence[str]
    options: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    plugin: str = "with_tokenopt"
    """What switches the package on."""

    @property
    def label(self) -> str:
        """The name and the version."""
        return f"{self.name} {version(self.package)}" if self.package else self.name


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One suite's result."""

    suite: str
    tests: int
    plain_passed: int
    with_us_passed: int
    artefacts: Mapping[str, str]
    """Failures with us alone that are right, with the reason."""
    faults: Mapping[str, str]
    """Those that are faults of ours and open."""
    failures: Mapping[str, str]
    """Failures with us alone that nobody has explained, with the end of the report."""
    counts: Mapping[str, int]
    seconds: float


def suites() -> list[Suite]:
    """Read what to run."""
    return [Suite(**each) for each in tomllib.loads((HERE / "suites.toml").read_text())["suite"]]


def known_failures(tests: Sequence[str], kind: str) -> dict[str, str]:
    """Return those of *tests* that are listed as of this *kind*, with the reasons."""
    listed = tomllib.loads((HERE / "artefacts.toml").read_text()).get("artefact", [])
    return {
        test: each["reason"]
        for test in tests
        for each in listed
        if each["kind"] == kind and fnmatchcase(test, each["test"])
    }


def source_of(package: str) -> Path:
    """Return the unpacked source distribution of what is installed, without the package itself."""
    name = f"{package}-{version(package)}"
    folder = SOURCES / name
    if folder.exists():
        return folder
    with tempfile.TemporaryDirectory() as download:
        subprocess.run(
            [
                *[sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"],
                *["--no-binary", package, "--dest", download, f"{package}=={version(package)}"],
            ],
            check=True,
        )
        with tarfile.open(next(Path(download).glob("*.tar.gz"))) as archive:
            top = archive.getnames()[0].partition("/")[0]
            wanted = [
                member
                for member in archive.getmembers()
                if member.name.startswith((f"{top}/tests/", f"{top}/pyproject.toml"))
            ]
            archive.extractall(download, wanted, filter="data")
        SOURCES.mkdir(exist_ok=True)
        (Path(download) / top).rename(folder)
    return folder


def run(
    suite: Suite, only: Sequence[str] = (), *, with_us: bool
) -> tuple[Outcomes, dict[str, int]]:
    """Run a suite, or *only* some tests of it."""
    folder = source_of(suite.package) if suite.package else ROOT
    with tempfile.TemporaryDirectory() as place:
        outcomes, counts = Path(place) / "outcomes.json", Path(place) / "counts.json"
        environment = {
            **os.environ,
            **suite.environment,
            "PYTHONPATH": os.pathsep.join([str(HERE), str(folder)]),
            "TOKENOPT_FOREIGN_OUTCOMES": str(outcomes),
            "TOKENOPT_FOREIGN_COUNTS": str(counts),
            "LANGSMITH_TRACING": "false",
            "OPENAI_API_KEY": "test",
            "ANTHROPIC_API_KEY": "test",
        }
        plugins = ["outcomes", *([suite.plugin] if with_us else [])]
        command = [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider"]
        command += ["-p", "no:randomly", "-p", "no:cov", "--timeout", "300", "--benchmark-disable"]
        command += [word for plugin in plugins for word in ("-p", plugin)]
        command += [*suite.options, *(only or suite.paths)]
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=3_600
        )
        if done.returncode not in (0, 1):
            raise RuntimeError(f"{suite.label} did not run:\n{done.stdout}\n{done.stderr}")
        told = json.loads(counts.read_text()) if counts.exists() else {}
        return json.loads(outcomes.read_text()), told


def compare(suite: Suite) -> Compared:
    """Run a suite both ways. What fails with us alone is run once more: some tests are flaky."""
    begin = time.monotonic()
    plain, _ = run(suite, with_us=False)
    ours, counts = run(suite, with_us=True)
    fell = [test for test, result in plain.items() if result["outcome"] == "passed"]
    fell = [test for test in fell if ours.get(test, {}).get("outcome") != "passed"]
    if fell and len(fell) < 200:
        again, _ = run(suite, fell, with_us=True)
        ours = {**ours, **{t: r for t, r in again.items() if r["outcome"] == "passed"}}
        fell = [test for test in fell if ours.get(test, {}).get("outcome") != "passed"]
    known, open_faults = known_failures(fell, "artefact"), known_failures(fell, "fault")
    return Compared(
        suite=suite.label,
        tests=len(plain),
        plain_passed=_passed(plain),
        with_us_passed=_passed(ours),
        artefacts=known,
        faults=open_faults,
        failures={
            t: ours.get(t, {}).get("text", "not run")
            for t in fell
            if t not in {**known, **open_faults}
        },
        counts=counts,
        seconds=round(time.monotonic() - begin, 1),
    )


def _passed(outcomes: Outcomes) -> int:
    return sum(result["outcome"] == "passed" for result in outcomes.values())


def table(results: Sequence[Compared]) -> str:
    """Write the results as Markdown."""
    head = [
        "suite",
        "tests",
        "plain passed",
        "with us passed",
        "artefacts",
        "open faults",
        "unexplained",
    ]
    head += ["models staged", "calls through the seam", "graphs budgeted"]
    rows = [
        [
            each.suite,
            *map(str, (each.tests, each.plain_passed, each.with_us_passed)),
            *(str(len(known)) for known in (each.artefacts, each.faults, each.failures)),
            *(str(each.counts.get(key, 0)) for key in ("models", "seam_calls", "graphs")),
        ]
        for each in results
    ]
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    written = ["| " + " | ".join(cells) + " |" for cells in lines]
    for title, kind in (("Artefacts", "artefacts"), ("Open faults", "faults")):
        reasons = Counter(r for each in results for r in getattr(each, kind).values())
        if reasons:
            written += ["", f"{title}, with the number of tests:", ""]
            written += [f"- {reason} ({count})" for reason, count in reasons.most_common()]
    return "\n".join(written) + "\n"


def write(results: Sequence[Compared]) -> None:
    """Put these suites into the results; those that were not run stay as they are."""
    path = RESULTS / "foreign.json"
    kept = json.loads(path.read_text()) if path.exists() else []
    told = {each["suite"]: Compared(**each) for each in kept}
    told |= {each.suite: each for each in results}
    order = {suite.label: place for place, suite in enumerate(suites())}
    listed = sorted(
        (each for each in told.values() if each.suite in order), key=lambda each: order[each.suite]
    )
    rows = [asdict(each) | {"failures": dict.fromkeys(each.failures, "")} for each in listed]
    path.write_text(json.dumps(rows, indent=1) + "\n")
    (RESULTS / "foreign.md").write_text(table(listed))


def main() -> int:
    """Run what is asked for; tell what fails with us alone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="run the suites whose name has this word")
    parser.add_argument("--write", action="store_true", help="write tests/benchmarks/results")
    asked = parser.parse_args()
    results = []
    for suite in suites():
        if asked.only in suite.label:
            results.append(compare(suite))
            last = results[-1]
            print(
                f"{last.suite}: {last.tests} tests, {last.plain_passed} pass plain, "
                f"{last.with_us_passed} with us; {len(last.artefacts)} artefacts, "
                f"{len(last.faults)} open faults, {len(last.failures)} unexplained; "
                f"{last.seconds} s",
                flush=True,
            )
    for each in results:
        for test, text in each.failures.items():
            print(f"\n=== {each.suite}: {test}\n{text}")
    print("\n" + table(results))
    if asked.write:
        write(results)
    return int(any(each.failures for each in results))


if __name__ == "__main__":
    sys.exit(main())
