"""Events for others: browsers, OpenTelemetry, Prometheus and webhooks, each a sink like any other.

Each module needs an extra of its own, so nothing is loaded here:
:class:`~langchain_tokenopt.export.event_stream.EventStream`,
:class:`~langchain_tokenopt.export.opentelemetry_sink.OpenTelemetrySink`,
:class:`~langchain_tokenopt.export.prometheus_sink.PrometheusSink` and
:class:`~langchain_tokenopt.export.webhook_sink.WebhookSink`.
"""
