"""Runs under a budget in dollars: random models that bill everything that has a price of its own.

A :class:`BilledModel` bills, at random, up to what its request and its provider allow: parts read
from the prompt cache and written to it, a service tier that was asked for or that the project's
settings chose, long contexts, thinking, sound, drawings. What that costs is computed here, from the
price list alone, in fractions (:class:`Oracle`): not by the package.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from typing import Any

import genai_prices
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import ConfigDict

from langchain_tokenopt import BudgetPlan, optimize, track_usage
from langchain_tokenopt.core.errors import TokenOptError
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.counting.request_tokens import count_messages
from langchain_tokenopt.pricing.rate_card import RateCard

__all__ = ["BilledModel", "Mix", "MixResult", "Oracle", "random_mix", "run_mix", "run_mix_with"]

PriceTable = Mapping[str, Any]
"""Dollars per million tokens of one model, as in a user's price file."""


# What the provider charges


@dataclass
class Oracle:
    """The provider's books: what was billed, and what that costs by the price list."""

    prices: Mapping[str, PriceTable]
    bills: list[tuple[str, Usage, str | None]] = field(default_factory=list)
    nano_usd: int = 0
    """Everything that was billed, each call rounded half up to a nano-dollar."""
    lock: Any = field(default_factory=threading.Lock)

    def bill(self, model: str, usage: Usage, tier: str | None) -> None:
        """Write a bill."""
        cost = self.cost(model, usage, tier)
        with self.lock:
            self.bills.append((model, usage, tier))
            self.nano_usd += cost

    def cost(self, model: str, usage: Usage, tier: str | None) -> int:
        """One call, from the table: each part at its price, the rest at that of its side."""
        if model in LISTED:
            return _listed_cost(model, usage, tier)
        table = dict(self.prices[model])
        tiers, steps = table.pop("tier", {}), table.pop("above", {})
        if tier is not None and tier in tiers:
            changes = dict(tiers[tier])
            steps = changes.pop("above", steps)
            table |= changes
        for start in sorted(steps, key=int):
            if usage.input_tokens > int(start):
                table |= steps[start]
        price = {name: Fraction(str(value)) for name, value in table.items()}
        into, out = price["input"], price["output"]
        write = price.get("cache_write", into)
        parts = [
            (usage.cache_read_tokens, price.get("cache_read", into)),
            (usage.cache_write_tokens - usage.cache_write_1h_tokens, write),
            (usage.cache_write_1h_tokens, price.get("cache_write_1h", write)),
            (usage.input_audio_tokens, price.get("input_audio", into)),
            (usage.input_image_tokens, price.get("input_image", into)),
        ]
        plain = usage.input_tokens - sum(tokens for tokens, _ in parts)
        made = [
            (usage.reasoning_tokens, price.get("reasoning", out)),
            (usage.output_audio_tokens, price.get("output_audio", out)),
            (usage.output_image_tokens, price.get("output_image", out)),
        ]
        text = usage.output_tokens - sum(tokens for tokens, _ in made)
        dollars = sum(
            (tokens * rate for tokens, rate in (*parts, *made, (plain, into), (text, out))),
            Fraction(0),
        )
        nano = dollars * 1_000 + price.get("request", Fraction(0)) * 10**9
        return int(nano + Fraction(1, 2))


LISTED: Mapping[str, tuple[str, str, tuple[str | None, ...]]] = {
    "claude-fable-5-2": ("anthropic", "anthropic", (None,)),
    "claude-opus-4-6": ("anthropic", "anthropic", (None,)),
    "gemini-2.5-flash-image": ("google_genai", "google", (None,)),
    "gemini-2.5-pro": ("google_genai", "google", (None,)),
    "gpt-5.4": ("openai", "openai", (None, "default", "flex", "priority")),
    "gpt-audio": ("openai", "openai", (None, "default")),
    "llama-3.3-70b-versatile": ("groq", "groq", (None,)),
    "sonar-deep-research": ("perplexity", "perplexity", (None,)),
}
"""Models of genai-prices: LangChain's name of the provider, theirs, and the tiers to ask for."""


def _listed_cost(model: str, usage: Usage, tier: str | None) -> int:
    """One call, by genai-prices' own arithmetic."""
    theirs = genai_prices.Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        cache_write_1h_tokens=usage.cache_write_1h_tokens,
        output_reasoning_tokens=usage.reasoning_tokens,
        output_audio_tokens=usage.output_audio_tokens,
        output_image_tokens=usage.output_image_tokens,
        input_audio_tokens=0,
        cache_audio_read_tokens=0,
    )
    context = {} if tier is None else {"service_tier": tier}
    price = genai_prices.calc_price(
        theirs, model, provider_id=LISTED[model][1], price_context=context
    ).total_price
    return int((price * 10**9).quantize(Decimal(1), ROUND_HALF_UP))


class BilledModel(BaseChatModel):
    """A chat model whose provider bills at random whatever the request allows."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    model_name: str
    provider: str = "openai"
    max_tokens: int | None = None
    service_tier: str | None = None
    modalities: list[str] | None = None
    books: Any = None
    chance: Any = None
    """Random numbers, of this model alone."""

    @property
    def _llm_type(self) -> str:
        return "billed"

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        names = ("model_name", "max_tokens", "service_tier", "modalities")
        return {name: getattr(self, name) for name in names}

    def _get_ls_params(self, stop: Any = None, **kwargs: Any) -> Any:
        return {"ls_provider": self.provider, "ls_model_name": self.model_name}

    def _generate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self._answer(messages, kwargs))])

    async def _agenerate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        await asyncio.sleep(0)
        return self._generate(messages, **kwargs)

    def _stream(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        answer = self._answer(messages, kwargs)
        for word in str(answer.content).split():
            yield ChatGenerationChunk(message=AIMessageChunk(f"{word} "))
        yield ChatGenerationChunk(
            message=AIMessageChunk(
                "",
                usage_metadata=answer.usage_metadata,
                response_metadata=answer.response_metadata,
            )
        )

    def _answer(self, messages: list[BaseMessage], kwargs: Mapping[str, Any]) -> AIMessage:
        with self.books.lock:
            usage, tier = self._billed(messages, kwargs)
        self.books.bill(self.model_name, usage, tier)
        read = {
            "cache_read": usage.cache_read_tokens,
            "ephemeral_5m_input_tokens": usage.cache_write_tokens - usage.cache_write_1h_tokens,
            "ephemeral_1h_input_tokens": usage.cache_write_1h_tokens,
            "audio": usage.input_audio_tokens,
        }
        wrote = {
            "reasoning": usage.reasoning_tokens,
            "audio": usage.output_audio_tokens,
            "image": usage.output_image_tokens,
        }
        said: dict[str, Any] = {"model_name": self.model_name}
        if self.provider == "anthropic":
            said["usage"] = {"service_tier": tier or "standard"}
        else:
            said["service_tier"] = tier or "default"
        return AIMessage(
            "The river rises.",
            usage_metadata={
                "input_tokens": usage.input_tokens,
                "output_tokens": usage.output_tokens,
                "total_tokens": usage.total_tokens,
                "input_token_details": read,
                "output_token_details": wrote,
            },
            response_metadata=said,
        )

    def _billed(
        self, messages: Sequence[BaseMessage], kwargs: Mapping[str, Any]
    ) -> tuple[Usage, str | None]:
        """What the provider bills: within what it was allowed, anything."""
        chance, table = self.chance, self.books.prices[self.model_name]
        counted = count_messages(list(messages), None, self.model_name).tokens
        into = max(1, counted - chance.randint(0, counted // 20))
        cap = kwargs.get("max_tokens") or self.max_tokens or 400
        out = chance.choice([cap, chance.randint(1, cap), chance.randint(1, cap)])
        marks = [
            block["cache_control"]
            for message in messages
            if isinstance(message.content, list)
            for block in message.content
            if "cache_control" in block
        ]
        by_mark = self.provider in ("anthropic", "amazon_bedrock")
        writes = bool(marks) or not by_mark
        read = chance.choice([0, chance.randint(0, into), into])
        write = chance.randint(0, into - read) if writes and chance.random() < 0.7 else 0
        hour = 0
        if write and (not by_mark or any("ttl" in mark for mark in marks)):
            hour = chance.choice([0, write, chance.randint(0, write)])
        usage = Usage(into, out, read, write, hour)
        if "reasoning" in table or chance.random() < 0.5:
            usage = replace(usage, reasoning_tokens=chance.randint(0, out))
        rest = out - usage.reasoning_tokens
        if self.modalities and "audio" in self.modalities:
            usage = replace(usage, output_audio_tokens=chance.randint(0, rest))
        elif "output_image" in table:
            usage = replace(usage, output_image_tokens=chance.randint(0, rest))
        return usage, self._tier(kwargs)

    def _tier(self, kwargs: Mapping[str, Any]) -> str | None:
        """The tier that was asked for, or the standard one; unasked, what the project prefers."""
        asked = kwargs.get("service_tier") or self.service_tier
        if asked is None:  # with OpenAI the settings of the project decide
            return self.chance.choice([None, "priority"]) if self.provider == "openai" else None
        if asked in ("default", "standard"):
            return None
        return self.chance.choice([asked, asked, None])


# Mixes


@dataclass(frozen=True)
class Mix:
    """One random mixture of models and calls."""

    seed: int
    prices: Mapping[str, PriceTable]
    models: tuple[Mapping[str, Any], ...]
    calls: int
    workers: int
    """Calls at a time."""
    is_async: bool
    total_usd: float = 1.0
    on_exceed: str = "degrade"


@dataclass(frozen=True)
class MixResult:
    """What came of one mix, in billionths of a dollar."""

    total: int

    billed: int
    """By the provider's books."""
    recorded: int
    """By the tracker's records."""
    charged: int
    """By the plan."""
    held: int
    answered: int
    refused: int
    demanded: int
    """What all calls would have cost at the mean of those that were answered."""
    staged: int
    tiers: frozenset[str | None]


def random_mix(seed: int) -> Mix:
    """Make a mix: two to five models with prices of their own, and a demand beyond a dollar.

    One in five is of models that genai-prices lists; these are cheaper, and so is the budget.
    """
    chance = random.Random(seed)
    if chance.random() < 0.2:
        return _listed_mix(seed, chance)
    prices = {}
    models = []
    for number in range(chance.randint(2, 5)):
        name = f"made-{seed}-{number}"
        prices[name] = _price_table(chance)
        provider = chance.choice(["openai", "anthropic", "groq", "amazon_bedrock", "google_genai"])
        tiers = [None, None, "default", *prices[name].get("tier", {})]
        models.append(
            {
                "model_name": name,
                "provider": provider,
                "max_tokens": chance.choice([None, 200, 400]),
                "service_tier": chance.choice(tiers),
                "modalities": ["text", "audio"] if "output_audio" in prices[name] else None,
                "staged": chance.random() < 0.6,
            }
        )
    return Mix(
        seed,
        prices,
        tuple(models),
        calls=300,
        workers=chance.choice([1, 2, 4, 8]),
        is_async=chance.random() < 0.5,
    )


def _listed_mix(seed: int, chance: random.Random) -> Mix:
    models = []
    for name in chance.sample(sorted(LISTED), chance.randint(2, 4)):
        provider, _, tiers = LISTED[name]
        models.append(
            {
                "model_name": name,
                "provider": provider,
                "max_tokens": chance.choice([None, 200, 400]),
                "service_tier": chance.choice(tiers),
                "modalities": ["text", "audio"] if name == "gpt-audio" else None,
                "staged": chance.random() < 0.6,
            }
        )
    return Mix(
        seed,
        {name: {"output_image": 1} if "image" in name else {} for name in LISTED},
        tuple(models),
        calls=300,
        workers=chance.choice([1, 2, 4, 8]),
        is_async=chance.random() < 0.5,
        total_usd=0.25,
    )


def _price_table(chance: random.Random) -> dict[str, Any]:
    """Dollars per million, so dear that a hundred calls or so are worth a dollar."""

    def dollars(least: float, most: float) -> str:
        return f"{chance.uniform(least, most):.6f}"

    into, out = chance.uniform(1, 8), chance.uniform(4, 30)
    table: dict[str, Any] = {"input": f"{into:.6f}", "output": f"{out:.6f}"}
    if chance.random() < 0.7:
        table["cache_read"] = dollars(0.05 * into, 0.5 * into)
    if chance.random() < 0.6:
        table["cache_write"] = dollars(into, 1.5 * into)
        if chance.random() < 0.6:
            table["cache_write_1h"] = dollars(1.5 * into, 2.5 * into)
    if chance.random() < 0.3:
        table["reasoning"] = dollars(0.5 * out, 2 * out)
    medium = chance.random()
    if medium < 0.15:
        table["output_audio"] = dollars(out, 3 * out)
    elif medium < 0.3:
        table["output_image"] = dollars(out, 3 * out)
    if chance.random() < 0.2:
        table["request"] = dollars(0.0001, 0.003)
    if chance.random() < 0.5:
        table["above"] = {
            str(chance.randint(200, 900)): {
                "input": dollars(into, 2 * into),
                "output": dollars(out, 1.5 * out),
            }
        }
    if chance.random() < 0.7:
        table["tier"] = {
            "priority": {"input": dollars(into, 2 * into), "output": dollars(out, 2 * out)},
            "flex": {"input": dollars(0.4 * into, into), "output": dollars(0.4 * out, out)},
        }
    return table


def run_mix_with(mix: Mix, handler: Callable[[Oracle, int], BaseCallbackHandler]) -> int:
    """Ask the same models under a callback handler that keeps a budget; return what was billed.

    Args:
        mix: The models and the demand.
        handler: Makes the handler, of the provider's books and a total in nano-USD.
    """
    books = Oracle(mix.prices)
    guard = handler(books, round(mix.total_usd * 10**9))
    models = []
    for number, settings in enumerate(mix.models):
        given = {name: value for name, value in settings.items() if name != "staged"}
        given["max_tokens"] = given["max_tokens"] or 300
        chance = random.Random(mix.seed * 31 + number)
        models.append(BilledModel(**given, books=books, chance=chance, callbacks=[guard]))
    chance = random.Random(mix.seed + 1)
    jobs = [
        (chance.randrange(len(models)), _prompt(chance), chance.random() < 0.2)
        for _ in range(mix.calls)
    ]
    refused: list[int] = []
    if mix.is_async:
        asyncio.run(_ask_all_async(models, jobs, mix.workers, refused))
    else:
        _ask_all(models, jobs, mix.workers, refused)
    return books.nano_usd


def run_mix(mix: Mix) -> MixResult:
    """Ask for far more than there is, and add up what was spent, three times over."""
    books = Oracle(mix.prices)
    own = {name: table for name, table in mix.prices.items() if name not in LISTED}
    card = RateCard({"models": own})
    plan = BudgetPlan(
        total_tokens=50_000_000,
        total_usd=mix.total_usd,
        name=f"mix-{mix.seed}",
        on_exceed=mix.on_exceed,  # type: ignore[arg-type]
        max_output_tokens_per_call=400,
    )
    chance = random.Random(mix.seed + 1)
    models, staged_models = [], set()
    for number, settings in enumerate(mix.models):
        given = dict(settings)
        is_staged = given.pop("staged")
        if not is_staged:
            given["max_tokens"] = given["max_tokens"] or 300  # nothing else could bound it
        model = BilledModel(**given, books=books, chance=random.Random(mix.seed * 31 + number))
        models.append(optimize(model, plan) if is_staged else model)
        if is_staged:
            staged_models.add(number)
    jobs = []
    for _ in range(mix.calls):
        number = chance.randrange(len(models))
        jobs.append((number, _prompt(chance), chance.random() < 0.2))
    refused: list[int] = []
    with track_usage(rate_card=card) as usage, plan.run(rate_card=card) as run:
        if mix.is_async:
            asyncio.run(_ask_all_async(models, jobs, mix.workers, refused))
        else:
            _ask_all(models, jobs, mix.workers, refused)
        account = run.report().account
        records = usage.records
    billed = books.nano_usd
    answered = len(books.bills)
    return MixResult(
        total=round(mix.total_usd * 10**9),
        billed=billed,
        recorded=sum(record.cost_nano_usd or 0 for record in records),
        charged=account.spent_nano_usd,
        held=account.held_nano_usd,
        answered=answered,
        refused=mix.calls - answered,
        demanded=billed * mix.calls // max(answered, 1),
        staged=len(staged_models),
        tiers=frozenset(tier for _, _, tier in books.bills),
    )


def _prompt(chance: random.Random) -> list[BaseMessage]:
    text = "rain on the river " * chance.choice([5, 40, 120, 300])
    if chance.random() < 0.4:
        mark: dict[str, Any] = {"type": "ephemeral"}
        if chance.random() < 0.5:
            mark["ttl"] = "1h"
        return [HumanMessage([{"type": "text", "text": text, "cache_control": mark}])]
    return [HumanMessage(text)]


def _ask_all(models: Any, jobs: Any, workers: int, refused: list[int]) -> None:
    def ask(job: Any) -> None:
        number, prompt, streamed = job
        try:
            if streamed:
                list(models[number].stream(prompt))
            else:
                models[number].invoke(prompt)
        except TokenOptError:
            refused.append(number)

    contexts = [copy_context() for _ in jobs]
    with ThreadPoolExecutor(workers) as pool:
        for done in [
            pool.submit(context.run, ask, job) for context, job in zip(contexts, jobs, strict=True)
        ]:
            done.result()


async def _ask_all_async(models: Any, jobs: Any, workers: int, refused: list[int]) -> None:
    turn = asyncio.Semaphore(workers)

    async def ask(job: Any) -> None:
        number, prompt, streamed = job
        async with turn:
            try:
                if streamed:
                    async for _ in models[number].astream(prompt):
                        pass
                else:
                    await models[number].ainvoke(prompt)
            except TokenOptError:
                refused.append(number)

    await asyncio.gather(*map(ask, jobs))
