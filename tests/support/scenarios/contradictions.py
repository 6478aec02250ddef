"""Bills that contradict themselves: totals and parts, running totals and steps, numbers told twice.

Where ``total_tokens`` fits one of two conventions (reasoning or cached tokens inside the main
number, or beside it), the total decides which of them the server follows.
"""

from __future__ import annotations

import asyncio
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


@scenario(GROUP)
async def deepseek_reasoning_beside_the_completion(bench: Bench) -> Outcome:
    """The total decides about the reasoning in a stream as well, whoever the provider."""
    deepseek = PROVIDERS["deepseek"]
    bill = completions(500, 40, 940, reasoning=400)
    bench.server.script(deepseek.stream(Answer(usage=bill)))
    await adrain(deepseek.chat(bench.server).astream(PROMPT, bench.config))
    return spent(Usage(500, 440, reasoning_tokens=400), flawed_calls=None)


@scenario(GROUP)
def reasoning_inside_after_all(bench: Bench) -> Outcome:
    """An integration that adds the reasoning to an output that has it is put right by the total."""
    xai = PROVIDERS["xai"]
    bill = completions(1_000, 200, 1_200, reasoning=120)
    bench.server.script(xai.whole(Answer(usage=bill)))
    xai.chat(bench.server).invoke(PROMPT, bench.config)
    return spent(Usage(1_000, 200, reasoning_tokens=120), flawed_calls=None)


@scenario(GROUP)
async def reasoning_inside_after_all_in_a_stream(bench: Bench) -> Outcome:
    """The same in a stream."""
    xai = PROVIDERS["xai"]
    bench.server.script(xai.stream(Answer(usage=completions(300, 90, 390, reasoning=77))))
    await adrain(xai.chat(bench.server).astream(PROMPT, bench.config))
    return spent(Usage(300, 90, reasoning_tokens=77), flawed_calls=None)


@scenario(GROUP)
def openrouter_cached_beside_the_prompt(bench: Bench) -> Outcome:
    """Cached tokens beside the prompt, in a stream."""
    openrouter = PROVIDERS["openrouter"]
    bill = completions(40, 60, 9_100, cached=9_000)
    bench.server.script(openrouter.stream(Answer(usage=bill)))
    drain(openrouter.chat(bench.server).stream(PROMPT, bench.config))
    return spent(Usage(9_040, 60, cache_read_tokens=9_000), flawed_calls=None)


@scenario(GROUP)
def bedrock_cached_beside_the_prompt(bench: Bench) -> Outcome:
    """Bedrock counts cached tokens beside the prompt by convention: nothing to mend."""
    bedrock = PROVIDERS["bedrock"]
    usage = Usage(13_244, 12, cache_read_tokens=13_216, cache_write_tokens=25)
    bench.server.script(bedrock.whole(Answer(usage=bedrock.usage(usage))))
    bedrock.chat(bench.server).invoke(PROMPT, bench.config)
    return spent(usage)


@scenario(GROUP)
async def bedrock_writes_for_an_hour(bench: Bench) -> Outcome:
    """Bedrock splits cache writes by how long they live, in a stream."""
    bedrock = PROVIDERS["bedrock"]
    usage = Usage(1_000, 40, cache_write_tokens=700, cache_write_1h_tokens=300)
    details = [{"ttl": "5m", "inputTokens": 400}, {"ttl": "1h", "inputTokens": 300}]
    told = bedrock.usage(usage) | {"cacheDetails": details}
    bench.server.script(bedrock.stream(Answer(usage=told)))
    await adrain(bedrock.chat(bench.server).astream(PROMPT, bench.config))
    return spent(usage)


@scenario(GROUP)
def gemini_prompt_that_shrinks(bench: Bench) -> Outcome:
    """A last chunk may correct the prompt downwards; it is the one that is billed."""
    so_far = {0: _gemini(1_000, 5), 3: _gemini(1_000, 12)}
    bench.server.script(gemini.stream(Answer(on_chunks=so_far, usage=_gemini(990, 40))))
    drain(gemini.chat(bench.server).stream(PROMPT, bench.config))
    return spent(Usage(990, 40), flawed_calls=None)


@scenario(GROUP)
def gemini_thoughts_only_in_the_total(bench: Bench) -> Outcome:
    """Thoughts that only the total contains are output."""
    bill = _gemini(1_000, 40) | {"totalTokenCount": 1_240}
    bench.server.script(gemini.whole(Answer(usage=bill)))
    gemini.chat(bench.server).invoke(PROMPT, bench.config)
    return spent(Usage(1_000, 240), estimated_calls=None, flawed_calls=None)


@scenario(GROUP)
async def gemini_tells_the_bill_once(bench: Bench) -> Outcome:
    """A bill on one chunk in the middle, and none on the last, is the bill so far."""
    bench.server.script(gemini.stream(Answer(on_chunks={8: _gemini(1_000, 40)})))
    await adrain(gemini.chat(bench.server).astream(PROMPT, bench.config))
    return spent(Usage(1_000, 40), estimated_calls=None, flawed_calls=None)


@scenario(GROUP)
def gemini_blocked_prompt(bench: Bench) -> Outcome:
    """A prompt that was blocked has been read; its bill is lost on the way: estimated."""
    raw = gemini.whole(Answer(usage=_gemini(gemini.tokens(PROMPT), 0)))
    body = dict(raw.body) | {"candidates": [], "promptFeedback": {"blockReason": "SAFETY"}}
    bench.server.script(type(raw)(body=body))
    gemini.chat(bench.server).invoke(PROMPT, bench.config)
    return unbilled(gemini, "")


@scenario(GROUP)
def total_alone(bench: Bench) -> Outcome:
    """Of a total without parts the parts are estimated, and flagged."""
    mistral = PROVIDERS["mistral"]
    prompt, output = mistral.tokens(PROMPT), mistral.tokens(TEXT)
    bench.server.script(mistral.whole(Answer(text=TEXT, usage=completions(0, 0, prompt + output))))
    mistral.chat(bench.server).invoke(PROMPT, bench.config)
    return unbilled(mistral, TEXT, estimated_calls=None, doubtful_calls=1, flawed_calls=None)


@scenario(GROUP)
async def total_missing(bench: Bench) -> Outcome:
    """Parts without a total are the bill."""
    bench.server.script(openai.whole(Answer(usage=completions(1_000, 200))))
    await openai.chat(bench.server).ainvoke(PROMPT, bench.config)
    return spent(Usage(1_000, 200))


@scenario(GROUP)
def total_of_zero(bench: Bench) -> Outcome:
    """So they are beside a total of zero."""
    groq = PROVIDERS["groq"]
    bench.server.script(groq.whole(Answer(usage=completions(1_000, 200, 0))))
    groq.chat(bench.server).invoke(PROMPT, bench.config)
    return spent(Usage(1_000, 200), flawed_calls=None)


@scenario(GROUP)
def first_bill_without_details(bench: Bench) -> Outcome:
    """A bill that is told three times, with details in the middle, keeps them."""
    bare, full = completions(1_000, 200, 1_200), completions(1_000, 200, 1_200, cached=800)
    mistral_like = PROVIDERS["xai"]
    answer = Answer(finishes=2, on_chunks={-1: bare, -2: full}, usage=bare)
    bench.server.script(mistral_like.stream(answer))
    drain(mistral_like.chat(bench.server).stream(PROMPT, bench.config))
    return spent(Usage(1_000, 200, cache_read_tokens=800))


@scenario(GROUP)
async def anthropic_counts_compactions_apart(bench: Bench) -> Outcome:
    """What the API read and wrote to compact a conversation stands in ``iterations`` alone."""
    iterations = [
        {"type": "compaction", "input_tokens": 180_000, "output_tokens": 3_500},
        {"type": "message", "input_tokens": 23_000, "output_tokens": 1_000},
    ]
    told = anthropic.usage(Usage(23_000, 1_000)) | {"iterations": iterations}
    bench.server.script(anthropic.whole(Answer(usage=told)))
    await anthropic.chat(bench.server).ainvoke(PROMPT, bench.config)
    return spent(Usage(203_000, 4_500), flawed_calls=None)


@scenario(GROUP)
def anthropic_cache_only_at_the_start(bench: Bench) -> Outcome:
    """Input and cache that stand in the first event alone are lost on the way: flagged."""
    first = anthropic.usage(Usage(anthropic.tokens(PROMPT), 1, cache_read_tokens=200))
    told = {"output_tokens": anthropic.tokens(TEXT)}
    answer = Answer(text=TEXT, on_chunks={0: first}, usage=told)
    bench.server.script(anthropic.stream(answer))
    drain(anthropic.chat(bench.server).stream(PROMPT, bench.config))
    facts = {"estimated_calls": None, "doubtful_calls": 1, "flawed_calls": None}
    return unbilled(anthropic, TEXT, **facts)


@scenario(GROUP)
def ollama_kept_prompt(bench: Bench) -> Outcome:
    """Ollama leaves the prompt's count out when it still has the prompt in memory."""
    ollama = PROVIDERS["ollama"]
    told = {"eval_count": ollama.tokens(TEXT)}
    bench.server.script(ollama.whole(Answer(text=TEXT, usage=told)))
    ollama.chat(bench.server).invoke(PROMPT, bench.config)
    return unbilled(ollama, TEXT, estimated_calls=None, doubtful_calls=1, flawed_calls=None)


@scenario(GROUP)
async def minus_one_in_a_stream(bench: Bench) -> Outcome:
    """-1 for a part: that part is counted."""
    deepseek = PROVIDERS["deepseek"]
    told = completions(deepseek.tokens(PROMPT), -1)
    bench.server.script(deepseek.stream(Answer(text=TEXT, usage=told)))
    await adrain(deepseek.chat(bench.server).astream(PROMPT, bench.config))
    return unbilled(deepseek, TEXT, estimated_calls=None, doubtful_calls=1, flawed_calls=None)


@scenario(GROUP)
def numbers_as_text(bench: Bench) -> Outcome:
    """Numbers that are written as text are read, or counted; they never break the call."""
    prompt, output = openai.tokens(PROMPT), openai.tokens(TEXT)
    told = completions(str(prompt), str(output), str(prompt + output))
    bench.server.script(openai.whole(Answer(text=TEXT, usage=told)))
    answered = openai.chat(bench.server).invoke(PROMPT, bench.config).text
    facts = {"estimated_calls": None, "flawed_calls": None}
    return unbilled(openai, TEXT, others={"answer": (TEXT, answered)}, **facts)


@scenario(GROUP)
async def numbers_with_a_point(bench: Bench) -> Outcome:
    """1000.0 tokens are 1,000."""
    groq = PROVIDERS["groq"]
    bench.server.script(groq.whole(Answer(usage=completions(1_000.0, 200.0, 1_200.0))))
    await groq.chat(bench.server).ainvoke(PROMPT, bench.config)
    return spent(Usage(1_000, 200))


@scenario(GROUP)
def choices_none_left_by_azure(bench: Bench) -> Outcome:
    """Azure's first chunk has no choices but a filter's verdict; the bill comes last."""
    azure = PROVIDERS["azure"]
    usage = Usage(1_000, 200, cache_read_tokens=600, reasoning_tokens=120)
    raw = azure.stream(Answer(usage=azure.usage(usage)))
    verdict = {"choices": [], "prompt_filter_results": [{"prompt_index": 0}], "model": ""}
    events = [dict(raw.events[0]) | verdict, *raw.events]
    bench.server.script(type(raw)(events=events))
    drain(azure.chat(bench.server).stream(PROMPT, bench.config))
    return spent(usage, by={"response_model": {"gpt-4.1-mini": usage.total_tokens}})


@scenario(GROUP)
async def two_streams_of_running_totals_at_once(bench: Bench) -> Outcome:
    """Running totals of two streams that are read at the same time are kept apart."""
    totals = {n: _gemini(1_000, n + 1) for n in range(9)}
    bench.server.script(*[gemini.stream(Answer(on_chunks=totals, usage=_gemini(1_000, 40)))] * 2)
    model = gemini.chat(bench.server)
    await asyncio.gather(*(adrain(model.astream(PROMPT, bench.config)) for _ in range(2)))
    return spent(Usage(1_000, 40), Usage(1_000, 40))


@scenario(GROUP)
def more_cached_than_read(bench: Bench) -> Outcome:
    """More cached tokens than prompt, and a total that fits neither: flagged, never negative."""
    bench.server.script(openai.whole(Answer(usage=completions(100, 50, 400, cached=900))))
    openai.chat(bench.server).invoke(PROMPT, bench.config)
    billed = Usage(900, 50, cache_read_tokens=900)
    return spent(billed, estimated_calls=None, flawed_calls=1, tolerance=ROUGH)
