"""The same thing happens with every provider: a bill, half a bill, no bill, an end before the end.

Each function is one kind of event; ``every`` makes scenarios of it, one per provider.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from langchain_core.runnables import RunnableConfig

from langchain_tokenopt.core.usage import Usage
from tests.support.conformance import Bench, Outcome, Scenario, Truth, spent
from tests.support.model_server import ToolCall
from tests.support.providers import PROVIDERS, Answer, Provider
from tests.support.scenarios.registry import SCENARIOS, TIGHT, adrain, drain, weather

PROMPT = "Tell me about the river, the rain, and the bridge that was built last year. " * 12
TEXT = "The river rises, and the rain does not stop; the bridge will hold until Sunday. " * 5
THOUGHT = "First I look at the river, then at the rain, and I add one to the other. " * 5
BILL = Usage(1_000, 200, cache_read_tokens=600, reasoning_tokens=120)

ROUGH = 0.6
"""Tolerance where the tokenizer is not public, for texts that may be short."""

Kind = Callable[[Bench, Provider], Any]


def every(group: str, kind: Kind, *names: str) -> None:
    """Register *kind* as a scenario for each provider named."""
    for name in names:
        SCENARIOS.append(Scenario(group, _bound(kind, PROVIDERS[name])))


def _bound(kind: Kind, provider: Provider) -> Callable[[Bench], Any]:
    def run(bench: Bench) -> Any:
        return kind(bench, provider)

    run.__name__ = f"{kind.__name__}_{provider.name}"
    run.__doc__ = kind.__doc__
    return run


def unbilled(provider: Provider, output: str, **facts: Any) -> Truth:
    """Return the truth about one call of ``PROMPT`` whose bill was not told."""
    usage = Usage(provider.tokens(PROMPT) + 7, provider.tokens(output))
    tolerance = TIGHT if provider.open_vocabulary else ROUGH
    return spent(usage, **({"estimated_calls": 1, "tolerance": tolerance} | facts))


# Bills in order


def whole_bill(bench: Bench, provider: Provider) -> Outcome:
    """A bill that is in order counts as it stands, details included."""
    bench.server.script(provider.whole(Answer(usage=provider.usage(BILL))))
    provider.chat(bench.server).invoke(PROMPT, bench.config)
    return spent(provider.known(BILL))


async def streamed_bill(bench: Bench, provider: Provider) -> Outcome:
    """The same in a stream."""
    bench.server.script(provider.stream(Answer(usage=provider.usage(BILL))))
    await adrain(provider.chat(bench.server).astream(PROMPT, bench.config))
    return spent(provider.known(BILL))


def batched_bills(bench: Bench, provider: Provider) -> Outcome:
    """Three bills in a batch are three bills."""
    usages = [Usage(1_000, 200), Usage(300, 40), Usage(50, 7)]
    bench.server.script(*(provider.whole(Answer(usage=provider.usage(u))) for u in usages))
    config: RunnableConfig = {**bench.config, "max_concurrency": 1}
    provider.chat(bench.server).batch([PROMPT] * 3, config)
    return spent(*usages)


async def called_tool(bench: Bench, provider: Provider) -> Outcome:
    """An answer that only calls a tool has its bill too."""
    call = ToolCall("weather", {"city": "Bern"})
    answer = Answer(text="", tool_calls=[call], usage=provider.usage(Usage(900, 30)))
    bench.server.script(provider.stream(answer))
    await adrain(provider.chat(bench.server).bind_tools([weather]).astream(PROMPT, bench.config))
    return spent(Usage(900, 30))


# Bills that are missing, wholly or in part


def no_bill(bench: Bench, provider: Provider) -> Outcome:
    """Without a bill the tokens are counted, and the count is flagged."""
    bench.server.script(provider.whole(Answer(text=TEXT)))
    provider.chat(bench.server).invoke(PROMPT, bench.config)
    return unbilled(provider, TEXT)


async def no_bill_in_a_stream(bench: Bench, provider: Provider) -> Outcome:
    """The same in a stream."""
    bench.server.script(provider.stream(Answer(text=TEXT)))
    await adrain(provider.chat(bench.server).astream(PROMPT, bench.config))
    return unbilled(provider, TEXT)


async def zero_bill(bench: Bench, provider: Provider) -> Outcome:
    """A prompt and an answer that are not empty cannot cost nothing: counted and flagged."""
    bench.server.script(provider.whole(Answer(text=TEXT, usage=provider.usage(Usage()))))
    await provider.chat(bench.server).ainvoke(PROMPT, bench.config)
    return unbilled(provider, TEXT)


def zero_bill_in_a_stream(bench: Bench, provider: Provider) -> Outcome:
    """The same in a stream."""
    bench.server.script(provider.stream(Answer(text=TEXT, usage=provider.usage(Usage()))))
    drain(provider.chat(bench.server).stream(PROMPT, bench.config))
    return unbilled(provider, TEXT)


def zero_input(bench: Bench, provider: Provider) -> Outcome:
    """An answer that was counted needs a prompt that was read: that part is estimated."""
    output = provider.tokens(TEXT)
    bench.server.script(provider.whole(Answer(text=TEXT, usage=provider.usage(Usage(0, output)))))
    provider.chat(bench.server).invoke(PROMPT, bench.config)
    return unbilled(provider, TEXT, estimated_calls=None, doubtful_calls=1)


async def zero_input_in_a_stream(bench: Bench, provider: Provider) -> Outcome:
    """The same in a stream."""
    output = provider.tokens(TEXT)
    bench.server.script(provider.stream(Answer(text=TEXT, usage=provider.usage(Usage(0, output)))))
    await adrain(provider.chat(bench.server).astream(PROMPT, bench.config))
    return unbilled(provider, TEXT, estimated_calls=None, doubtful_calls=1)


async def zero_output(bench: Bench, provider: Provider) -> Outcome:
    """Text that was written costs something: that part is estimated."""
    prompt = provider.tokens(PROMPT) + 7
    bench.server.script(provider.whole(Answer(text=TEXT, usage=provider.usage(Usage(prompt, 0)))))
    await provider.chat(bench.server).ainvoke(PROMPT, bench.config)
    return unbilled(provider, TEXT, estimated_calls=None, doubtful_calls=1)


def zero_output_for_a_tool_call(bench: Bench, provider: Provider) -> Outcome:
    """So does the call of a tool."""
    call = ToolCall("weather", {"city": "Bern, which is the capital of Switzerland " * 5})
    usage = provider.usage(Usage(900, 0))
    bench.server.script(provider.whole(Answer(text="", tool_calls=[call], usage=usage)))
    provider.chat(bench.server).bind_tools([weather]).invoke(PROMPT, bench.config)
    billed = Usage(900, provider.tokens(call.name + call.json))
    return spent(billed, estimated_calls=None, doubtful_calls=1, flawed_calls=None, tolerance=ROUGH)


def null_bill(bench: Bench, provider: Provider) -> Outcome:
    """Numbers that are null are no numbers."""
    nulls = _emptied(provider.usage(Usage()))
    bench.server.script(provider.whole(Answer(text=TEXT, usage=nulls)))
    provider.chat(bench.server).invoke(PROMPT, bench.config)
    return unbilled(provider, TEXT)


def _emptied(usage: Any) -> Any:
    if isinstance(usage, dict):
        return {key: _emptied(value) for key, value in usage.items()}
    return None


def empty_bill(bench: Bench, provider: Provider) -> Outcome:
    """A bill without a single number is none."""
    bench.server.script(provider.whole(Answer(text=TEXT, usage={})))
    provider.chat(bench.server).invoke(PROMPT, bench.config)
    return unbilled(provider, TEXT)


def truly_empty(bench: Bench, provider: Provider) -> Outcome:
    """An empty answer does cost no output: nothing to flag."""
    bench.server.script(provider.whole(Answer(text="", usage=provider.usage(Usage(1_000, 0)))))
    provider.chat(bench.server).invoke(PROMPT, bench.config)
    return spent(Usage(1_000, 0))


# Streams that end before their end


def left_stream(bench: Bench, provider: Provider) -> Outcome:
    """A stream that is left was billed: its input, and what had arrived."""
    bench.server.script(provider.stream(Answer(text=TEXT, usage=provider.usage(BILL))))
    stream = provider.chat(bench.server).stream(PROMPT, bench.config)
    received = ""
    for chunk in stream:
        received += chunk.text
        if len(received.split()) >= 20:
            break
    stream.close()  # type: ignore[attr-defined]  # it is a generator
    return unbilled(provider, received, abandoned_calls=1)


async def left_while_thinking(bench: Bench, provider: Provider) -> Outcome:
    """Thoughts are output, also where only the reasoning had arrived."""
    answer = Answer(text=TEXT, reasoning=THOUGHT, usage=provider.usage(BILL))
    bench.server.script(provider.stream(answer))
    stream = provider.chat(bench.server).astream(PROMPT, bench.config)
    thoughts = 0
    async for chunk in stream:
        assert not chunk.text
        thoughts += len(_thought(chunk).split())
        if thoughts >= 60:
            break
    await stream.aclose()  # type: ignore[attr-defined]  # it is a generator
    return unbilled(provider, "".join(answer.thoughts[:thoughts]), abandoned_calls=1)


def _thought(chunk: Any) -> str:
    """Return the reasoning in a chunk, wherever its integration puts it."""
    outside = chunk.additional_kwargs.get("reasoning_content") or ""
    if outside or isinstance(chunk.content, str):
        return str(outside)
    blocks = [block for block in chunk.content if isinstance(block, dict)]
    return "".join(
        str(b.get("thinking") or (b.get("reasoning_content") or {}).get("text") or "")
        for b in blocks
    )


def broken_stream(bench: Bench, provider: Provider) -> Outcome:
    """A connection that breaks in the middle: what had arrived was written, and is billed."""
    raw = provider.stream(Answer(text=TEXT, usage=provider.usage(BILL)))
    bench.server.script(replace(raw, breaks_after=30))
    received = ""
    with contextlib.suppress(Exception):  # which error is the integration's choice
        for chunk in provider.chat(bench.server).stream(PROMPT, bench.config):
            received += chunk.text
    assert 10 < len(received.split()) < 31
    return unbilled(provider, received, failed_calls=None, abandoned_calls=None)


def timed_out(bench: Bench, provider: Provider) -> Outcome:
    """A client that waits no longer does not stop the bill: the input is counted, and flagged."""
    raw = provider.whole(Answer(usage=provider.usage(BILL)))
    bench.server.script(replace(raw, delay_seconds=math.inf))
    with contextlib.suppress(Exception):
        provider.chat(bench.server, **provider.timeout).invoke(PROMPT, bench.config)
    return unbilled(provider, "", failed_calls=None, abandoned_calls=None)


def refused(bench: Bench, provider: Provider) -> Outcome:
    """Three refusals cost nothing, the answer after them does."""
    fine = provider.whole(Answer(usage=provider.usage(Usage(300, 40))))
    bench.server.script(*[replace(fine, status=429, body=None, events=None)] * 2, fine)
    model = provider.chat(bench.server).with_retry(wait_exponential_jitter=False)
    with contextlib.suppress(Exception):
        model.invoke(PROMPT, bench.config)
    return spent(Usage(300, 40), calls=3, failed_calls=2)


# Bills that are told twice


def twice_the_same(bench: Bench, provider: Provider) -> Outcome:
    """The same bill on two chunks is one bill."""
    bill = provider.usage(BILL)
    bench.server.script(provider.stream(Answer(usage=bill, on_chunks={-1: bill})))
    drain(provider.chat(bench.server).stream(PROMPT, bench.config))
    return spent(provider.known(BILL))


async def running_totals(bench: Bench, provider: Provider) -> Outcome:
    """Running totals on every chunk are not summed up."""
    answer = Answer(text=TEXT)
    so_far = {n: provider.usage(Usage(1_000, 2 * n + 2)) for n in range(len(answer.words))}
    bill = Usage(1_000, 2 * len(answer.words) + 5)
    bench.server.script(
        provider.stream(replace(answer, on_chunks=so_far, usage=provider.usage(bill)))
    )
    await adrain(provider.chat(bench.server).astream(PROMPT, bench.config))
    return spent(bill)


def told_at_the_start(bench: Bench, provider: Provider) -> Outcome:
    """Input on the first chunk, output on the last one: together one bill."""
    first = provider.usage(Usage(1_000, 0, cache_read_tokens=600))
    bench.server.script(
        provider.stream(Answer(on_chunks={0: first}, usage=provider.usage(Usage(0, 200))))
    )
    drain(provider.chat(bench.server).stream(PROMPT, bench.config))
    return spent(provider.known(Usage(1_000, 200, cache_read_tokens=600)))
