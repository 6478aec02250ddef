"""Budgets in dollars: what is spent of one dollar when more is asked for.

Run:     python -m tests.benchmarks.bench_money [--mixes 500] [--rivals 100]

Each mix is of random models that bill what has a price of its own: parts read from the prompt cache
and written to it, service tiers, long contexts, thinking, sound, drawings; staged and unstaged,
sync and async, up to eight calls at a time. One mix in five is of models that genai-prices lists.
What a mix has cost is computed from the price list alone (``tests/support/money.py``).
"""

from __future__ import annotations

import argparse
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage
from langchain_core.outputs import LLMResult

from langchain_tokenopt.core.errors import TokenOptError
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.counting.request_tokens import count_messages
from tests.benchmarks.results import write_result
from tests.support.money import LISTED, MixResult, Oracle, random_mix, run_mix, run_mix_with


class _RefusedError(TokenOptError):
    """A rival has refused a call."""


class AddsUpAfterwards(BaseCallbackHandler):
    """Refuses once the bill has reached the total; the bill is right, to the nano-dollar."""

    run_inline = raise_error = True

    def __init__(self, books: Oracle, total: int) -> None:
        self._books, self._total = books, total

    def on_chat_model_start(self, *arguments: Any, **kwargs: Any) -> None:
        """Look at the bill so far."""
        if self._books.nano_usd >= self._total:
            raise _RefusedError


class ReservesAtTwoPrices(BaseCallbackHandler):
    """Reserves input and ``max_tokens`` at the listed prices of input and output; then the bill."""

    run_inline = raise_error = True

    def __init__(self, books: Oracle, total: int) -> None:
        self._books, self._total = books, total
        self._lock = threading.Lock()
        self._held: dict[UUID, int] = {}

    def on_chat_model_start(
        self,
        serialized: Any,
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        **kwargs: Any,
    ) -> None:
        """Reserve."""
        params, metadata = kwargs["invocation_params"], kwargs["metadata"]
        model = metadata["ls_model_name"]
        sent = count_messages(messages[0], None, model).tokens
        needed = _at_two_prices(self._books, model, sent, params["max_tokens"])
        with self._lock:
            spent = self._books.nano_usd
            if spent + sum(self._held.values()) + needed > self._total:
                raise _RefusedError
            self._held[run_id] = needed

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        """Free what was reserved: the bill has it now."""
        with self._lock:
            self._held.pop(run_id, None)


def _at_two_prices(books: Oracle, model: str, sent: int, cap: int) -> int:
    if model in LISTED:
        return books.cost(model, Usage(sent, cap), None)
    table = books.prices[model]
    return round((sent * float(table["input"]) + cap * float(table["output"])) * 1_000)


RIVALS: dict[str, Callable[[Oracle, int], BaseCallbackHandler]] = {
    "a callback that adds up exact costs after the call": AddsUpAfterwards,
    "input and max_tokens reserved at the two listed prices": ReservesAtTwoPrices,
}


def _ours(seed: int) -> MixResult:
    _be_quiet()
    return run_mix(random_mix(seed))


def _rival(name: str, seed: int) -> float:
    _be_quiet()
    mix = random_mix(seed)
    return run_mix_with(mix, RIVALS[name]) / (mix.total_usd * 10**9)


def _be_quiet() -> None:
    """LangChain logs every refusal of a handler."""
    logging.getLogger("langchain_core.callbacks.manager").setLevel(logging.CRITICAL)


def measure_ours(results: Sequence[MixResult]) -> dict[str, Any]:
    """Sum up mixes that were run under a plan."""
    used = [result.billed / result.total for result in results]
    scarce = [result for result in results if result.demanded > 1.2 * result.total]
    return {
        "mixes": len(results),
        "answered": sum(result.answered for result in results),
        "refused": sum(result.refused for result in results),
        "spent_over": sum(result.billed > result.total for result in results),
        "most_used": round(max(used), 4),
        "least_used": round(min(each.billed / each.total for each in scarce), 4),
        "under_nine_tenths": sum(each.billed < 0.9 * each.total for each in scarce),
        "bill_record_and_account_differ": sum(
            len({each.billed, each.recorded, each.charged}) > 1 for each in results
        ),
    }


def measure_rival(used: Sequence[float]) -> dict[str, Any]:
    """Sum up the same first mixes under a rival."""
    return {
        "mixes": len(used),
        "spent_over": sum(each > 1 for each in used),
        "most_used": round(max(used), 4),
        "least_used": round(min(used), 4),
    }


def main() -> None:
    """Measure, and write the result."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--mixes", type=int, default=500)
    options.add_argument("--rivals", type=int, default=100)
    options.add_argument("--processes", type=int, default=2)
    asked = options.parse_args()
    with ProcessPoolExecutor(asked.processes, get_context("spawn")) as pool:
        ours = list(pool.map(_ours, range(asked.mixes), chunksize=4))
        rivals = {
            name: list(pool.map(partial(_rival, name), range(asked.rivals), chunksize=4))
            for name in RIVALS
        }
    figures = {
        "ours": measure_ours(ours),
        "rivals": {name: measure_rival(used) for name, used in rivals.items()},
    }
    print(figures)
    write_result("budget_money", "python -m tests.benchmarks.bench_money", figures, "genai-prices")


if __name__ == "__main__":
    main()
