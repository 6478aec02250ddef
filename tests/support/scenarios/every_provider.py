"""What happens with every provider, kind by kind: see :mod:`tests.support.scenarios.matrix`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.support.providers import PROVIDERS
from tests.support.scenarios.matrix import (
    Kind,
    batched_bills,
    broken_stream,
    called_tool,
    empty_bill,
    every,
    left_stream,
    left_while_thinking,
    no_bill,
    no_bill_in_a_stream,
    null_bill,
    refused,
    running_totals,
    streamed_bill,
    timed_out,
    told_at_the_start,
    truly_empty,
    twice_the_same,
    whole_bill,
    zero_bill,
    zero_bill_in_a_stream,
    zero_input,
    zero_input_in_a_stream,
    zero_output,
    zero_output_for_a_tool_call,
)

EVERYBODY = tuple(PROVIDERS)


def without(names: str) -> Sequence[str]:
    """Return all providers but those where it cannot happen, or raises without us as well."""
    return [name for name in EVERYBODY if name not in names.split()]


def only(names: str) -> Sequence[str]:
    """Return some providers, those where it can happen."""
    return names.split()


KINDS: Mapping[str, Mapping[Kind, Sequence[str]]] = {
    "bills of every provider": {
        whole_bill: EVERYBODY,
        streamed_bill: EVERYBODY,
        batched_bills: EVERYBODY,
        called_tool: EVERYBODY,
        truly_empty: without("perplexity"),
    },
    "missing bills": {
        no_bill: without("bedrock"),
        no_bill_in_a_stream: EVERYBODY,
        zero_bill: EVERYBODY,
        zero_bill_in_a_stream: EVERYBODY,
        zero_input: EVERYBODY,
        zero_input_in_a_stream: EVERYBODY,
        zero_output: EVERYBODY,
        zero_output_for_a_tool_call: without("perplexity"),
        null_bill: without("bedrock openrouter perplexity"),
        empty_bill: without("bedrock openrouter perplexity"),
    },
    "ends before the end": {
        left_stream: EVERYBODY,
        left_while_thinking: without("openai responses azure mistral perplexity"),
        broken_stream: EVERYBODY,
        timed_out: without("mistral openrouter"),
        refused: EVERYBODY,
    },
    "bills told twice": {
        twice_the_same: only("openai azure mistral deepseek xai openrouter perplexity"),
        running_totals: without("responses anthropic bedrock groq ollama"),
        told_at_the_start: only("openai azure mistral deepseek xai openrouter perplexity"),
    },
}

for group, kinds in KINDS.items():
    for kind, names in kinds.items():
        every(group, kind, *names)
