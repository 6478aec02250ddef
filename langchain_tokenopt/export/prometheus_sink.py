"""Tokens, money and budgets as Prometheus metrics."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from langchain_tokenopt.core.dimensions import Dimension
from langchain_tokenopt.core.records import BudgetEvent, CallRecord, Saving, UsageEvent
from langchain_tokenopt.core.usage import TOKEN_COUNTS
from langchain_tokenopt.export.labels import BoundedNames, Labels, SeenOnce

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

__all__ = ["PrometheusSink"]

_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60, 120)


class PrometheusSink:
    """Counts calls, tokens, dollars, savings and refusals for Prometheus to scrape.

    A sink: give it to ``track_usage`` and to ``plan.run``. Metrics, each with the labels of calls
    where it counts calls: ``tokenopt_calls_total`` (by status; answers of a cache are ``cached``),
    ``tokenopt_tokens_total`` (by type: input or output), ``tokenopt_token_parts_total`` (what of
    them was read from a cache, reasoning...),
    ``tokenopt_cost_usd_total``, ``tokenopt_unpriced_calls_total`` (not in the cost),
    ``tokenopt_call_seconds``, ``tokenopt_saved_tokens_total`` and ``tokenopt_saved_usd_total`` (by
    stage; ``tokenopt_savings_lost_...`` is what stages have cost more than they saved),
    ``tokenopt_budget_events_total`` (by budget and kind) and ``tokenopt_budget_used_ratio`` (when
    something happened last).

    Args:
        registry: Where the metrics go; by default the client's own.
        labels: Dimensions of calls. Users, threads and runs are never few: ask for them only where
            they are.
        max_series: How many combinations of labels are told apart; calls of further ones are
            counted as ``"(other)"``.

    Raises:
        ImportError: prometheus-client is not installed.
        ValueError: A label is no dimension, or the registry has these metrics already.

    Example:
        >>> from langchain_tokenopt import track_usage
        >>> sink = PrometheusSink()  # doctest: +SKIP
        >>> app.mount("/metrics", sink.app)  # doctest: +SKIP
        >>> with track_usage(sinks=[sink]):  # doctest: +SKIP
        ...     chain.invoke("What is 2 + 2?")
    """

    def __init__(
        self,
        registry: CollectorRegistry | None = None,
        *,
        labels: Sequence[Dimension] = ("agent", "model"),
        max_series: int = 1_000,
    ) -> None:
        try:
            from prometheus_client import REGISTRY, Counter, Gauge, Histogram
        except ImportError as error:
            raise ImportError(
                "PrometheusSink needs prometheus-client. Install it: "
                'pip install "langchain-tokenopt[prometheus]".',
                name="prometheus_client",
            ) from error
        self._registry = registry or REGISTRY
        self._labels = Labels(labels, max_series)
        self._stages = BoundedNames(max_series)
        self._budgets = BoundedNames(max_series)
        self._seen = SeenOnce()
        own = self._labels.dimensions

        def counter(name: str, text: str, *names: str) -> Counter:
            return Counter(f"tokenopt_{name}", text, names, registry=self._registry)

        self._calls = counter("calls", "Model calls.", *own, "status")
        self._tokens = counter("tokens", "Tokens billed.", *own, "type")
        self._parts = counter("token_parts", "Parts of the tokens billed.", *own, "type")
        self._cost = counter("cost_usd", "US dollars spent, where a price is known.", *own)
        self._unpriced = counter("unpriced_calls", "Calls with a part of unknown price.", *own)
        self._seconds = Histogram(
            "tokenopt_call_seconds",
            "Seconds that billed calls took.",
            own,
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._saved = {
            (unit, sign): counter(f"{name}_{unit}", text, "stage")
            for unit in ("tokens", "usd")
            for sign, name, text in (
                (1, "saved", "What stages and caches have saved."),
                (-1, "savings_lost", "What stages have cost more than they have saved."),
            )
        }
        self._events = counter("budget_events", "What budgets did.", "budget", "kind")
        self._used = Gauge(
            "tokenopt_budget_used_ratio",
            "Share of a budget that was spent or held when something happened last.",
            ("budget",),
            registry=self._registry,
            multiprocess_mode="mostrecent",
        )

    @property
    def app(self) -> Any:
        """An ASGI application that answers with the metrics: ``app.mount("/metrics", sink.app)``.

        Where ``PROMETHEUS_MULTIPROC_DIR`` is set, those of all processes that share the folder.
        """
        from prometheus_client import CollectorRegistry, make_asgi_app
        from prometheus_client.multiprocess import MultiProcessCollector

        registry = self._registry
        if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return make_asgi_app(registry)

    def record(self, event: UsageEvent) -> None:
        """Count *event*; one that is told twice counts once."""
        if not isinstance(event, CallRecord | Saving | BudgetEvent) or not self._seen.is_new(event):
            return
        if isinstance(event, CallRecord):
            self._count(event)
        elif isinstance(event, BudgetEvent):
            (budget,) = self._budgets.of([event.budget])
            self._events.labels(budget, event.kind).inc()
            used = event.spent_tokens + event.held_tokens
            self._used.labels(budget).set(used / event.limit_tokens if event.limit_tokens else 1)
        elif not event.observed:
            self._save(event.stage, event.saved_tokens, event.saved_nano_usd)

    def _count(self, call: CallRecord) -> None:
        names = self._labels.of(call)
        self._calls.labels(*names, "cached" if call.cached else call.status).inc()
        if call.cached:
            self._save("cache", call.usage.total_tokens, call.saved_nano_usd)
            return
        if call.status == "refused":
            return
        for name in TOKEN_COUNTS:
            if (count := getattr(call.usage, name)) > 0:
                kind = name.removesuffix("_tokens")
                counter = self._tokens if kind in ("input", "output") else self._parts
                counter.labels(*names, kind).inc(count)
        self._seconds.labels(*names).observe(call.duration_seconds)
        if call.cost_nano_usd:
            self._cost.labels(*names).inc(max(0, call.cost_nano_usd) / 1e9)
        if call.cost_nano_usd is None or call.unpriced:
            self._unpriced.labels(*names).inc()

    def _save(self, stage: str, tokens: int, nano_usd: int | None) -> None:
        (name,) = self._stages.of([stage])
        for unit, amount in (("tokens", tokens), ("usd", (nano_usd or 0) / 1e9)):
            if amount:
                self._saved[unit, 1 if amount > 0 else -1].labels(name).inc(abs(amount))
