"""Run every usage scenario through our tracker and through those that people use today.

A scenario is *right* when everything it asks about is right, *wrong* when the tracker gives a false
number, and *blind* when it says nothing where there was something to say. What a scenario asks
about: input and output tokens always; cached, failed, estimated calls, token details or accounts
where it is about them. "Spent tokens right" looks at input and output tokens alone.

The environment is described in ``requirements-rivals-usage.txt``. Writes
``results/conformance.json`` and ``results/conformance.md``.
"""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from langchain_core.callbacks import UsageMetadataCallbackHandler, get_usage_metadata_callback

from langchain_tokenopt.core.usage import Usage
from tests.benchmarks.results import RESULTS, conditions, write_result
from tests.support.conformance import (
    Contestant,
    Facts,
    Finding,
    Scenario,
    Truth,
    Verdict,
    findings_of,
    this_package,
)
from tests.support.model_server import ModelServer
from tests.support.scenarios import SCENARIOS

COMMAND = "python -m tests.benchmarks.conformance"
PACKAGES = (
    "langchain",
    "langchain-anthropic",
    "langchain-aws",
    "langchain-community",
    "langchain-deepseek",
    "langchain-google-genai",
    "langchain-groq",
    "langchain-mistralai",
    "langchain-ollama",
    "langchain-openrouter",
    "langchain-perplexity",
    "langchain-xai",
)
SPENT = ("input_tokens", "output_tokens")
COUNTS = frozenset(Truth().facts()) - {*SPENT}


def core() -> Contestant:
    """LangChain's own handler and context manager."""
    return Contestant(
        "langchain-core UsageMetadataCallbackHandler",
        UsageMetadataCallbackHandler,
        get_usage_metadata_callback,
        _core_facts,
    )


def _core_facts(observer: Any) -> Facts:
    by_model = {m: Usage.from_metadata(told) for m, told in observer.usage_metadata.items()}
    total = sum(by_model.values(), Usage())
    return asdict(total) | {"by model": {m: usage.total_tokens for m, usage in by_model.items()}}


def community() -> Contestant:
    """langchain-community's OpenAI callback."""
    from langchain_community.callbacks.manager import get_openai_callback
    from langchain_community.callbacks.openai_info import OpenAICallbackHandler

    return Contestant(
        "langchain-community get_openai_callback",
        OpenAICallbackHandler,
        get_openai_callback,
        lambda observer: {
            "input_tokens": observer.prompt_tokens,
            "output_tokens": observer.completion_tokens,
            "cache_read_tokens": observer.prompt_tokens_cached,
            "reasoning_tokens": observer.reasoning_tokens,
            "cost_nano_usd": round(observer.total_cost * 10**9),
        },
    )


@dataclass(frozen=True, slots=True)
class Result:
    """How one tracker did in one scenario."""

    scenario: str
    group: str
    promise: str
    tracker: str
    verdict: Verdict
    spent: Verdict
    """The verdict on input and output tokens alone."""
    amiss: list[Finding]
    """Every asked fact that was not right."""


def run(contestant: Contestant, server: ModelServer) -> list[Result]:
    """Run every scenario that is not about our own extras."""
    return [_judge(s, contestant, server) for s in SCENARIOS if not s.only_ours]


def _judge(scenario: Scenario, contestant: Contestant, server: ModelServer) -> Result:
    try:
        findings = [f for f in findings_of(scenario, server, contestant) if _is_asked(f)]
    except Exception as error:  # a tracker that raises, or that no copy can be made of
        findings = [Finding("input_tokens", "a number", repr(error), "wrong")]
    return Result(
        scenario=scenario.id,
        group=scenario.group,
        promise=(scenario.run.__doc__ or "").strip(),
        tracker=contestant.name,
        verdict=_worst(findings),
        spent=_worst([f for f in findings if f.fact in SPENT]),
        amiss=[f for f in findings if f.verdict != "right"],
    )


def _is_asked(finding: Finding) -> bool:
    """Ask only what the scenario is about, and never the number of calls: core does not count."""
    if finding.fact in COUNTS:
        return finding.fact != "calls" and finding.expected != 0
    return True


def _worst(findings: Sequence[Finding]) -> Verdict:
    verdicts = {finding.verdict for finding in findings}
    return "wrong" if "wrong" in verdicts else "blind" if "blind" in verdicts else "right"


def table(results: Sequence[Result], absent: dict[str, str]) -> str:
    """Write the results as Markdown: right / wrong / blind per group and tracker."""
    trackers = list(dict.fromkeys(r.tracker for r in results))
    lines = [
        "| right / wrong / blind | scenarios | " + " | ".join(trackers) + " |",
        "|---|---|" + "---|" * len(trackers),
    ]

    def row(name: str, chosen: Sequence[Result], verdict: Callable[[Result], Verdict]) -> str:
        cells = []
        for tracker in trackers:
            counts = Counter(verdict(r) for r in chosen if r.tracker == tracker)
            cells.append(f"{counts['right']} / {counts['wrong']} / {counts['blind']}")
        scenarios = len({r.scenario for r in chosen})
        return f"| {name} | {scenarios} | " + " | ".join(cells) + " |"

    lines += [
        row(group, [r for r in results if r.group == group], lambda r: r.verdict)
        for group in dict.fromkeys(r.group for r in results)
    ]
    lines.append(row("**all**", results, lambda r: r.verdict))
    lines.append(row("**spent tokens alone**", results, lambda r: r.spent))
    return "\n".join(lines + [f"\n{name} did not run: {why}" for name, why in absent.items()])


def main() -> None:
    """Run all trackers, write the results, print the table."""
    logging.getLogger("langchain_core.callbacks.manager").setLevel(logging.CRITICAL)
    results: list[Result] = []
    absent: dict[str, str] = {}
    with ModelServer() as server:
        for make in (this_package, core, community):
            try:
                contestant = make()
            except ImportError as error:
                absent[make.__name__] = str(error)
                continue
            results += run(contestant, server)
    versions = conditions(*PACKAGES)["versions"]
    stated = ", ".join(f"{name} {versions[name]}" for name in sorted(versions) if "lang" in name)
    text = f"{table(results, absent)}\n\n`{COMMAND}` with {stated}.\n"
    write_result(
        "conformance", COMMAND, {"absent": absent, "scenarios": _by_scenario(results)}, *PACKAGES
    )
    (RESULTS / "conformance.md").write_text(text, encoding="utf-8")
    sys.stdout.write(text)


def _by_scenario(results: Sequence[Result]) -> dict[str, Any]:
    scenarios: dict[str, Any] = {}
    for result in results:
        entry = scenarios.setdefault(result.scenario, {"promise": result.promise})
        entry[result.tracker] = {"verdict": result.verdict, "spent": result.spent}
        if result.amiss:
            entry[result.tracker]["amiss"] = [
                f"{f.fact}: {f.expected} expected, {f.actual} counted" for f in result.amiss
            ]
    return scenarios


if __name__ == "__main__":
    main()
