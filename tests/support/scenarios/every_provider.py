"""What happens with every provider, kind by kind: see :mod:`tests.support.scenarios.matrix`."""

from __future__ import annotations

from collections.abc import Mapping

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

KINDS: Mapping[str, Mapping[Kind, str]] = {
    "bills of every provider": {
        whole_bill: "openai azure gemini mistral deepseek ollama perplexity",
        streamed_bill: "responses anthropic bedrock groq xai openrouter",
        batched_bills: "openai azure gemini mistral deepseek ollama perplexity",
        called_tool: "responses anthropic bedrock groq xai openrouter",
        truly_empty: "openai azure gemini mistral deepseek ollama",
    },
    "missing bills": {
        no_bill: "responses anthropic mistral deepseek ollama perplexity",
        no_bill_in_a_stream: "openai azure gemini mistral deepseek ollama perplexity",
        zero_bill: "responses anthropic bedrock groq xai openrouter",
        zero_bill_in_a_stream: "openai azure gemini mistral deepseek ollama perplexity",
        zero_input: "responses anthropic bedrock groq xai openrouter",
        zero_input_in_a_stream: "openai azure gemini mistral deepseek ollama perplexity",
        zero_output: "responses anthropic bedrock groq xai openrouter",
        zero_output_for_a_tool_call: "openai azure gemini mistral deepseek ollama",
        null_bill: "responses anthropic mistral deepseek ollama",
        empty_bill: "openai azure gemini groq xai",
    },
    "ends before the end": {
        left_stream: "responses anthropic bedrock groq xai openrouter",
        left_while_thinking: "anthropic bedrock deepseek ollama",
        broken_stream: "responses anthropic bedrock groq xai openrouter",
        timed_out: "openai azure gemini groq xai perplexity",
        refused: "responses anthropic bedrock groq xai openrouter",
    },
    "bills told twice": {
        twice_the_same: "openai mistral xai perplexity",
        running_totals: "azure mistral xai perplexity",
        told_at_the_start: "openai mistral xai perplexity",
    },
}

for group, kinds in KINDS.items():
    for kind, names in kinds.items():
        every(group, kind, *names.split())
