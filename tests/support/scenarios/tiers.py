"""Where the tier and the name of the model stand, and what merging chunks makes of them."""

from __future__ import annotations

from langchain_tokenopt.core.usage import Usage
from tests.support.conformance import Bench, Outcome, spent
from tests.support.providers import PROVIDERS, Answer
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
