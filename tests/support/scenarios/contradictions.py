"""Bills that contradict themselves: totals and parts, running totals and steps, numbers told twice.

Where ``total_tokens`` fits one of two conventions (reasoning or cached tokens inside the main
number, or beside it), the total decides which of them the server follows.
"""

from __future__ import annotations

import contextlib
from typing import Any

from langchain_tokenopt.core.usage import Usage
from tests.support.conformance import Bench, Outcome, spent
from tests.support.providers import PROVIDERS, Answer
from tests.support.scenarios.matrix import PROMPT, ROUGH, TEXT, unbilled
from tests.support.scenarios.registry import adrain, drain, scenario

GROUP = "contradictions"

openai, anthropic, gemini = PROVIDERS["openai"], PROVIDERS["anthropic"], PROVIDERS["gemini"]


def completions(prompt: Any, completion: Any, total: Any = None, **details: Any) -> dict[str, Any]:
    """Write a bill as OpenAI does, consistent or not."""
    told: dict[str, Any] = {"prompt_tokens": prompt, "completion_tokens": completion}
    if total is not None:
        told["total_tokens"] = total
    if "reasoning" in details:
        told["completion_tokens_details"] = {"reasoning_tokens": details["reasoning"]}
    names = {"cached": "cached_tokens", "written": "cache_write_tokens"}
    if read := {names[key]: value for key, value in details.items() if key in names}:
        told["prompt_tokens_details"] = read
    return told


@scenario(GROUP)
def gemini_reads_tool_results_at_the_end(bench: Bench) -> Outcome:
    """The last chunk of a stream may add prompt tokens that the model's own tools have brought."""
    so_far = {n: _gemini(1_000, 2 * n) for n in range(9)}
    last = _gemini(1_000, 40) | {"toolUsePromptTokenCount": 20_000, "totalTokenCount": 21_040}
    bench.server.script(gemini.stream(Answer(on_chunks=so_far, usage=last)))
    drain(gemini.chat(bench.server).stream(PROMPT, bench.config))
    return spent(Usage(21_000, 40))


@scenario(GROUP)
async def gemini_prompt_that_grows(bench: Bench) -> Outcome:
    """Steps that its integration has made out of running totals add up to the last total."""
    so_far = {0: _gemini(10_000, 5), 4: _gemini(10_000, 12)}
    bench.server.script(gemini.stream(Answer(on_chunks=so_far, usage=_gemini(10_050, 40))))
    await adrain(gemini.chat(bench.server).astream(PROMPT, bench.config))
    return spent(Usage(10_050, 40))


def _gemini(prompt: int, candidates: int, **more: int) -> dict[str, int]:
    told = {"promptTokenCount": prompt, "candidatesTokenCount": candidates}
    return told | {"totalTokenCount": prompt + candidates} | more


@scenario(GROUP)
def second_bill_without_details(bench: Bench) -> Outcome:
    """A bill that is told twice, the second time without details, keeps the details."""
    first, second = completions(1_000, 200, 1_200, cached=800), completions(1_000, 200, 1_200)
    bench.server.script(openai.stream(Answer(on_chunks={-1: first}, usage=second)))
    drain(openai.chat(bench.server).stream(PROMPT, bench.config))
    return spent(Usage(1_000, 200, cache_read_tokens=800))


@scenario(GROUP)
def reasoning_beside_the_completion(bench: Bench) -> Outcome:
    """A total that contains the reasoning once more says that the completion does not."""
    bill = completions(10_120, 1_499, 13_019, reasoning=1_400)
    bench.server.script(openai.whole(Answer(usage=bill)))
    openai.chat(bench.server).invoke(PROMPT, bench.config)
    return spent(Usage(10_120, 2_899, reasoning_tokens=1_400), flawed_calls=None)


@scenario(GROUP)
async def cached_beside_the_prompt(bench: Bench) -> Outcome:
    """The same for cached tokens; and nothing costs less than nothing."""
    bill = completions(3, 12, 13_256, cached=13_216, written=25)
    bench.server.script(openai.whole(Answer(usage=bill)))
    await openai.chat(bench.server).ainvoke(PROMPT, bench.config)
    usage = Usage(13_244, 12, cache_read_tokens=13_216, cache_write_tokens=25)
    in_nano_usd = 3 * 400 + 13_216 * 100 + 25 * 400 + 12 * 1_600
    return spent(usage, flawed_calls=None, cost_nano_usd=in_nano_usd)


@scenario(GROUP)
def answer_without_choices(bench: Bench) -> Outcome:
    """An answer without a single choice has a bill with details all the same."""
    usage = Usage(1_000, 200, cache_read_tokens=600, reasoning_tokens=120)
    raw = openai.whole(Answer(usage=openai.usage(usage), more={"choices": []}))
    bench.server.script(raw)
    with contextlib.suppress(IndexError):  # langchain-core expects a choice
        openai.chat(bench.server).invoke(PROMPT, bench.config)
    return spent(usage, failed_calls=None)


@scenario(GROUP)
def anthropic_input_only_at_the_start(bench: Bench) -> Outcome:
    """Input that stands in the first event alone is lost on the way: estimated, and flagged."""
    prompt, output = anthropic.tokens(PROMPT), anthropic.tokens(TEXT)
    first = {"input_tokens": prompt, "output_tokens": 1}
    bench.server.script(
        anthropic.stream(Answer(text=TEXT, on_chunks={0: first}, usage={"output_tokens": output}))
    )
    drain(anthropic.chat(bench.server).stream(PROMPT, bench.config))
    return unbilled(anthropic, TEXT, estimated_calls=None, doubtful_calls=1, flawed_calls=None)


@scenario(GROUP)
async def anthropic_tells_the_total_twice(bench: Bench) -> Outcome:
    """Further ``message_delta`` events tell the running total, not a step."""
    more = {1: anthropic.usage(Usage(1_000, 30))}
    bench.server.script(
        anthropic.stream(Answer(on_chunks=more, usage=anthropic.usage(Usage(1_000, 200))))
    )
    await adrain(anthropic.chat(bench.server).astream(PROMPT, bench.config))
    return spent(Usage(1_000, 200))


@scenario(GROUP)
def numbers_below_zero(bench: Bench) -> Outcome:
    """Some servers say -1 where they do not know: that is no number, so it is counted."""
    bench.server.script(openai.whole(Answer(text=TEXT, usage=completions(-1, -1, -2))))
    openai.chat(bench.server).invoke(PROMPT, bench.config)
    return unbilled(openai, TEXT, estimated_calls=None, doubtful_calls=1, flawed_calls=None)


@scenario(GROUP)
def parts_that_exceed_the_total(bench: Bench) -> Outcome:
    """Where no convention explains the total, the dearer reading is charged, and flagged."""
    mistral = PROVIDERS["mistral"]
    bench.server.script(mistral.whole(Answer(usage=completions(1_000, 200, 900))))
    mistral.chat(bench.server).invoke(PROMPT, bench.config)
    return spent(Usage(1_000, 200), flawed_calls=1)


@scenario(GROUP)
def details_that_exceed_the_whole(bench: Bench) -> Outcome:
    """More reasoning than output, and a total that fits neither: nothing is negative."""
    groq = PROVIDERS["groq"]
    bench.server.script(groq.whole(Answer(usage=completions(1_000, 200, 1_200, reasoning=260))))
    groq.chat(bench.server).invoke(PROMPT, bench.config)
    billed = Usage(1_000, 260, reasoning_tokens=260)
    return spent(billed, estimated_calls=None, flawed_calls=1, tolerance=ROUGH)
