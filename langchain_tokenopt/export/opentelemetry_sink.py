"""Calls as spans and metrics of OpenTelemetry's conventions for generative AI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from langchain_tokenopt.core.argument_checks import check_choice
from langchain_tokenopt.core.dimensions import Dimension
from langchain_tokenopt.core.printable import printable
from langchain_tokenopt.core.records import BudgetEvent, CallRecord, Saving, UsageEvent
from langchain_tokenopt.export.labels import BoundedNames, Labels, SeenOnce
from langchain_tokenopt.export.opentelemetry_names import (
    ATTRIBUTES,
    DURATION,
    DURATION_BUCKETS,
    OWN_METRICS,
    PROVIDERS,
    TOKEN_BUCKETS,
    TOKEN_COUNTERS,
    TOKEN_HISTOGRAM,
    TOKEN_MODALITY,
    TOKEN_TYPE,
    Names,
)

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter, MeterProvider
    from opentelemetry.trace import TracerProvider

__all__ = ["OpenTelemetrySink"]

_CHAT: Final = "chat"
_LABEL_NAMES: Final = {
    name.rpartition(".")[2]: names for name, names in ATTRIBUTES.items() if "tokens" not in name
}
_ORIGIN: Final = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


class OpenTelemetrySink:
    """Makes a span of each model call, and metrics of tokens, seconds, dollars and budgets.

    A sink: give it to ``track_usage`` and to ``plan.run``. A span is a child of the one in which
    the call was made, and holds no prompts, answers or users. Names of OpenTelemetry are listed in
    :mod:`langchain_tokenopt.export.opentelemetry_names`; what it has no names for begins with
    ``tokenopt.``.

    Args:
        meter_provider: Where metrics go; by default the process's own.
        tracer_provider: Where spans go; by default the process's own. Give
            ``opentelemetry.trace.NoOpTracerProvider()`` where something else makes spans of calls.
        names: ``"old"`` for back ends that know ``gen_ai.system`` and
            ``gen_ai.client.token.usage``, ``"new"`` for ``gen_ai.provider.name`` and
            ``gen_ai.client.inference.usage.*``, or ``"both"``.
        labels: Dimensions of calls that metrics have beside provider and model. Users, threads and
            runs are never few: ask for them only where they are.
        max_series: How many combinations of labels are told apart; calls of further ones are
            counted as ``"(other)"``.

    Raises:
        ImportError: opentelemetry-api is not installed.
        ValueError: An argument makes no sense.

    Example:
        >>> from langchain_core.language_models import FakeListChatModel
        >>> from langchain_tokenopt import track_usage
        >>> with track_usage(sinks=[OpenTelemetrySink()]):
        ...     answer = FakeListChatModel(responses=["four"]).invoke("What is 2 + 2?")
    """

    def __init__(
        self,
        meter_provider: MeterProvider | None = None,
        tracer_provider: TracerProvider | None = None,
        *,
        names: Names = "both",
        labels: Sequence[Dimension] = ("agent",),
        max_series: int = 1_000,
    ) -> None:
        try:
            from opentelemetry import metrics, trace
        except ImportError as error:
            raise ImportError(
                "OpenTelemetrySink needs opentelemetry-api. Install it: "
                'pip install "langchain-tokenopt[otel]".',
                name="opentelemetry",
            ) from error
        check_choice("names", names, "both", "old", "new")
        self._names: Names = names
        own = tuple(dict.fromkeys(("provider", "model", *labels)))
        self._labels = Labels(own, max_series)
        self._keys = tuple(
            _LABEL_NAMES[name].chosen(names) if name in _LABEL_NAMES else (f"tokenopt.{name}",)
            for name in self._labels.dimensions
        )
        self._stages = BoundedNames(max_series)
        self._budgets = BoundedNames(max_series)
        self._seen = SeenOnce()
        self._tracer = trace.get_tracer("langchain_tokenopt", tracer_provider=tracer_provider)
        self._make_instruments(
            metrics.get_meter("langchain_tokenopt", meter_provider=meter_provider)
        )

    def _make_instruments(self, meter: Meter) -> None:
        names = self._names
        self._histograms = [
            meter.create_histogram(
                name, "{token}", "Tokens.", explicit_bucket_boundaries_advisory=TOKEN_BUCKETS
            )
            for name in TOKEN_HISTOGRAM.chosen(names)
        ]
        self._counters = {
            field: [meter.create_counter(name, "{token}", "Tokens.") for name in each.chosen(names)]
            for field, each in TOKEN_COUNTERS.items()
        }
        self._durations = [
            meter.create_histogram(
                name, "s", "Seconds.", explicit_bucket_boundaries_advisory=DURATION_BUCKETS
            )
            for name in DURATION.chosen(names)
        ]
        self._cost = meter.create_counter(*OWN_METRICS["cost"])
        self._unpriced = meter.create_counter(*OWN_METRICS["unpriced"])
        self._saved_tokens = meter.create_up_down_counter(*OWN_METRICS["saved_tokens"])
        self._saved_usd = meter.create_up_down_counter(*OWN_METRICS["saved_usd"])
        self._events = meter.create_counter(*OWN_METRICS["events"])
        self._used = meter.create_gauge(*OWN_METRICS["used"])

    def record(self, event: UsageEvent) -> None:
        """Send *event*; one that is told twice is sent once."""
        if not isinstance(event, CallRecord | Saving | BudgetEvent) or not self._seen.is_new(event):
            return
        if isinstance(event, CallRecord):
            self._span(event)
            self._count(event)
        elif isinstance(event, BudgetEvent):
            (budget,) = self._budgets.of([event.budget])
            self._events.add(1, {"tokenopt.budget": budget, "tokenopt.kind": event.kind})
            used = event.spent_tokens + event.held_tokens
            ratio = used / event.limit_tokens if event.limit_tokens else 1.0
            self._used.set(ratio, {"tokenopt.budget": budget})
        elif not event.observed:
            self._save(event.stage, event.saved_tokens, event.saved_nano_usd)

    def _span(self, call: CallRecord) -> None:
        from opentelemetry.trace import SpanKind, Status, StatusCode

        begins = _nanoseconds(call.started_at)
        span = self._tracer.start_span(
            printable(f"{_CHAT} {call.model}") if call.model else _CHAT,
            kind=SpanKind.CLIENT,
            attributes=span_attributes(call, self._names),
            start_time=begins,
        )
        if call.status in ("failed", "refused"):
            span.set_status(Status(StatusCode.ERROR, call.status))
        span.end(begins + int(call.duration_seconds * 1e9))

    def _count(self, call: CallRecord) -> None:
        if call.cached:
            self._save("cache", call.usage.total_tokens, call.saved_nano_usd)
            return
        if call.status == "refused":
            return
        labels = self._metric_attributes(call)
        for histogram in self._histograms:
            histogram.record(call.usage.input_tokens, {**labels, TOKEN_TYPE: "input"})
            histogram.record(call.usage.output_tokens, {**labels, TOKEN_TYPE: "output"})
        for field, counters in self._counters.items():
            for counter in counters:
                counter.add(max(0, attrgetter(field)(call)), {**labels, TOKEN_MODALITY: "unknown"})
        failed = {} if call.status == "ok" else {"error.type": call.status}
        for histogram in self._durations:
            histogram.record(call.duration_seconds, {**labels, **failed})
        if call.cost_nano_usd:
            self._cost.add(max(0, call.cost_nano_usd) / 1e9, labels)
        if call.cost_nano_usd is None or call.unpriced:
            self._unpriced.add(1, labels)

    def _save(self, stage: str, tokens: int, nano_usd: int | None) -> None:
        (name,) = self._stages.of([stage])
        self._saved_tokens.add(tokens, {"tokenopt.stage": name})
        if nano_usd:
            self._saved_usd.add(nano_usd / 1e9, {"tokenopt.stage": name})

    def _metric_attributes(self, call: CallRecord) -> dict[str, str]:
        found = dict.fromkeys(ATTRIBUTES["operation"].chosen(self._names), _CHAT)
        for keys, value in zip(self._keys, self._labels.of(call), strict=True):
            if value:
                found |= dict.fromkeys(keys, PROVIDERS.get(value, value))
        return found


def span_attributes(call: CallRecord, names: Names) -> Mapping[str, Any]:
    """Return the attributes of a call's span, by the table.

    Example:
        >>> from uuid import uuid4
        >>> from langchain_tokenopt.core.usage import Usage
        >>> call = CallRecord(
        ...     run_id=uuid4(), model="mistral-small", provider="mistral", usage=Usage(9, 2),
        ...     started_at=datetime(2026, 11, 30), duration_seconds=1, cost_nano_usd=None,
        ... )
        >>> span_attributes(call, "old")["gen_ai.system"]
        'mistral_ai'
    """
    made: dict[str, Any] = {
        "operation": _CHAT,
        "provider": PROVIDERS.get(call.provider or "", call.provider),
        "error": None if call.status == "ok" else call.status,
        "cost_usd": None if call.cost_nano_usd is None else call.cost_nano_usd / 1e9,
        "stages": call.stages or None,
        "run_id": str(call.run_id),
    }
    if call.cached:  # nothing was spent again; back ends add up what stands here
        made |= {name: 0 for name in ATTRIBUTES if name.startswith("usage.")}
    found: dict[str, Any] = {}
    for field, each in ATTRIBUTES.items():
        value = made[field] if field in made else attrgetter(field)(call)
        if isinstance(value, str):
            value = printable(value)
        if value not in (None, "") and (value or "tokens" not in field or field in _TOTALS):
            found |= dict.fromkeys(each.chosen(names), value)
    return found


_TOTALS: Final = ("usage.input_tokens", "usage.output_tokens")
"""Also told where they are 0; parts of them only where there are some."""


def _nanoseconds(moment: datetime) -> int:
    aware = moment if moment.tzinfo else moment.replace(tzinfo=_ORIGIN.tzinfo)
    return (aware - _ORIGIN) // timedelta(microseconds=1) * 1_000
