"""Where the tier and the name of the model stand, and what merging chunks makes of them."""

from __future__ import annotations

from langchain_tokenopt.core.usage import Usage
from tests.support.conformance import Bench, Outcome, spent
from tests.support.model_server import ToolCall
from tests.support.providers import PROVIDERS, Answer
from tests.support.scenarios.calls import City
from tests.support.scenarios.matrix import PROMPT
from tests.support.scenarios.registry import A, adrain, drain, scenario, total

GROUP = "tiers and names"
MUCH = Usage(1_000_000, 100_000)
OPUS = "claude-opus-4-8"
"""$5 and $25 a million."""

openai, anthropic, bedrock = PROVIDERS["openai"], PROVIDERS["anthropic"], PROVIDERS["bedrock"]
openrouter = PROVIDERS["openrouter"]


@scenario(GROUP)
def anthropic_fast(bench: Bench) -> Outcome:
    """Anthropic's speed stands inside ``usage``; the fast one is twice the price."""
    told = anthropic.usage(MUCH) | {"speed": "fast"}
    bench.server.script(anthropic.whole(Answer(usage=told, model=OPUS)))
    anthropic.chat(bench.server, model=OPUS).invoke(PROMPT, bench.config)
    by = {"service_tier": {"fast": total(MUCH)}}
    return spent(MUCH, by=by, cost_nano_usd=15 * 10**9)


@scenario(GROUP)
async def anthropic_batch(bench: Bench) -> Outcome:
    """So does its tier; a batch is half the price."""
    told = anthropic.usage(MUCH) | {"service_tier": "batch"}
    bench.server.script(anthropic.whole(Answer(usage=told, model=OPUS)))
    await anthropic.chat(bench.server, model=OPUS).ainvoke(PROMPT, bench.config)
    by = {"service_tier": {"batch": total(MUCH)}}
    return spent(MUCH, by=by, cost_nano_usd=3_750_000_000)


@scenario(GROUP)
def bedrock_priority(bench: Bench) -> Outcome:
    """Bedrock's tier stands in ``serviceTier``."""
    more = {"serviceTier": {"type": "priority"}}
    bench.server.script(bedrock.whole(Answer(usage=bedrock.usage(A), more=more)))
    bedrock.chat(bench.server).invoke(PROMPT, bench.config)
    return spent(A, by={"service_tier": {"priority": total(A)}})


@scenario(GROUP)
def tier_on_two_chunks(bench: Bench) -> Outcome:
    """Chunks that are merged write the same tier twice in a row; it is one tier."""
    answer = Answer(usage=openai.usage(A), finishes=2, more={"service_tier": "flex"})
    bench.server.script(openai.stream(answer))
    drain(openai.chat(bench.server).stream(PROMPT, bench.config))
    return spent(A, by={"service_tier": {"flex": total(A)}})


@scenario(GROUP)
async def model_on_two_chunks(bench: Bench) -> Outcome:
    """The same for the name of a model that a router has chosen."""
    answer = Answer(usage=openrouter.usage(A), finishes=2, model="openai/gpt-5")
    bench.server.script(openrouter.stream(answer))
    model = openrouter.chat(bench.server, model="openrouter/auto")
    await adrain(model.astream(PROMPT, bench.config))
    return spent(A, by={"response_model": {"openai/gpt-5": total(A)}})


@scenario(GROUP)
def anthropic_priority(bench: Bench) -> Outcome:
    """Priority, told inside usage."""
    told = anthropic.usage(A) | {"service_tier": "priority"}
    bench.server.script(anthropic.whole(Answer(usage=told)))
    anthropic.chat(bench.server).invoke(PROMPT, bench.config)
    return spent(A, by={"service_tier": {"priority": total(A)}})


@scenario(GROUP)
async def anthropic_standard(bench: Bench) -> Outcome:
    """Standard speed and tier cost the standard price."""
    told = anthropic.usage(MUCH) | {"service_tier": "standard", "speed": "standard"}
    bench.server.script(anthropic.whole(Answer(usage=told, model=OPUS)))
    await anthropic.chat(bench.server, model=OPUS).ainvoke(PROMPT, bench.config)
    return spent(MUCH, cost_nano_usd=7_500_000_000)


@scenario(GROUP)
def anthropic_fast_structured(bench: Bench) -> Outcome:
    """A structured answer keeps its tier."""
    told = anthropic.usage(MUCH) | {"speed": "fast"}
    call = ToolCall("City", {"name": "Bern", "people": 1})
    answer = Answer(text="", tool_calls=[call], usage=told, model=OPUS)
    bench.server.script(anthropic.whole(answer))
    model = anthropic.chat(bench.server, model=OPUS).with_structured_output(City)
    model.invoke(PROMPT, bench.config)
    by = {"service_tier": {"fast": total(MUCH)}}
    return spent(MUCH, by=by, cost_nano_usd=15 * 10**9)


@scenario(GROUP)
async def bedrock_flex_in_a_stream(bench: Bench) -> Outcome:
    """Bedrock tells the tier of a stream beside its usage."""
    more = {"serviceTier": {"type": "flex"}}
    bench.server.script(bedrock.stream(Answer(usage=bedrock.usage(A), more=more)))
    await adrain(bedrock.chat(bench.server).astream(PROMPT, bench.config))
    return spent(A, by={"service_tier": {"flex": total(A)}})


@scenario(GROUP)
def responses_flex(bench: Bench) -> Outcome:
    """The tier of a response; with it OpenAI's integration renames the details of the bill."""
    responses = PROVIDERS["responses"]
    usage = Usage(1_000, 200, cache_read_tokens=600, reasoning_tokens=120)
    more = {"service_tier": "flex"}
    bench.server.script(responses.whole(Answer(usage=responses.usage(usage), more=more)))
    responses.chat(bench.server).invoke(PROMPT, bench.config)
    return spent(usage, by={"service_tier": {"flex": total(usage)}})


@scenario(GROUP)
async def responses_priority_in_a_stream(bench: Bench) -> Outcome:
    """The same in a stream."""
    responses = PROVIDERS["responses"]
    usage = Usage(1_000, 200, cache_read_tokens=600, reasoning_tokens=120)
    more = {"service_tier": "priority"}
    bench.server.script(responses.stream(Answer(usage=responses.usage(usage), more=more)))
    await adrain(responses.chat(bench.server).astream(PROMPT, bench.config))
    return spent(usage, by={"service_tier": {"priority": total(usage)}})


@scenario(GROUP)
def tier_on_three_chunks(bench: Bench) -> Outcome:
    """Three times the same tier."""
    answer = Answer(usage=openai.usage(A), finishes=3, more={"service_tier": "priority"})
    bench.server.script(openai.stream(answer))
    drain(openai.chat(bench.server).stream(PROMPT, bench.config))
    return spent(A, by={"service_tier": {"priority": total(A)}})


@scenario(GROUP)
async def groq_tier_on_two_chunks(bench: Bench) -> Outcome:
    """Groq's tier and model, twice."""
    groq = PROVIDERS["groq"]
    bench.server.script(groq.stream(Answer(usage=groq.usage(A), finishes=2)))
    await adrain(groq.chat(bench.server, service_tier="flex").astream(PROMPT, bench.config))
    by = {"service_tier": {"flex": total(A)}, "model": {"openai/gpt-oss-20b": total(A)}}
    return spent(A, by=by)


@scenario(GROUP)
def mistral_model_on_two_chunks(bench: Bench) -> Outcome:
    """A full name answered for an alias, twice."""
    mistral = PROVIDERS["mistral"]
    bill = mistral.usage(A)
    answer = Answer(usage=bill, finishes=2, model="mistral-small-2506")
    bench.server.script(mistral.stream(answer))
    drain(mistral.chat(bench.server).stream(PROMPT, bench.config))
    with_cost = 1_000 * 100 + 200 * 300
    return spent(A, cost_nano_usd=with_cost)


@scenario(GROUP)
def openrouter_model_on_three_chunks(bench: Bench) -> Outcome:
    """A routed name, three times."""
    answer = Answer(usage=openrouter.usage(A), finishes=3, model="deepseek/deepseek-chat")
    bench.server.script(openrouter.stream(answer))
    drain(openrouter.chat(bench.server, model="openrouter/auto").stream(PROMPT, bench.config))
    return spent(A, by={"response_model": {"deepseek/deepseek-chat": total(A)}})


@scenario(GROUP)
def name_that_repeats_itself(bench: Bench) -> Outcome:
    """A model whose own name is a repetition keeps it."""
    bench.server.script(openai.stream(Answer(usage=openai.usage(A), model="dada")))
    drain(openai.chat(bench.server, model="dada").stream(PROMPT, bench.config))
    return spent(A, by={"model": {"dada": total(A)}})


@scenario(GROUP)
async def name_that_repeats_itself_twice(bench: Bench) -> Outcome:
    """The same when merging has doubled it."""
    answer = Answer(usage=openai.usage(A), model="bora-bora", finishes=2)
    bench.server.script(openai.stream(answer))
    await adrain(openai.chat(bench.server, model="bora-bora").astream(PROMPT, bench.config))
    return spent(A, by={"model": {"bora-bora": total(A)}})
