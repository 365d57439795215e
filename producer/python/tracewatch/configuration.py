"""``tracewatch.configure``: OpenTelemetry's SDK, set up to publish to Kafka."""

import logging
import os
import signal
import threading
from collections.abc import Mapping
from types import FrameType
from typing import NamedTuple

from opentelemetry import propagate, trace
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import DEFAULT_ON, Sampler
from opentelemetry.trace import Tracer
from opentelemetry.util.types import AttributeValue

from tracewatch.exporter import KafkaSpanExporter, KafkaSpanProcessor
from tracewatch.ids import NamedTraceIdGenerator
from tracewatch.kept_errors import KeptErrors
from tracewatch.processors import SpanProcessors
from tracewatch.propagation import TracewatchPropagator
from tracewatch.sampling import ErrorsToo, sampler_from_environment
from tracewatch.settings import ProducerSettings

logger = logging.getLogger(__name__)

SCOPE = "tracewatch"


class _Pipeline(NamedTuple):
    """What configure made: one stream of spans, and a provider for each service name that this process plays."""

    sampler: Sampler | None
    processors: SpanProcessors | None
    exporter: KafkaSpanExporter
    providers: dict[str, TracerProvider]


_lock = threading.RLock()
_pipeline: _Pipeline | None = None


def configure(
    service_name: str | None = None,
    *,
    resource_attributes: Mapping[str, AttributeValue] | None = None,
    sampler: Sampler | None = None,
    keep_errors: bool = False,
    settings: ProducerSettings | None = None,
    span_processors: tuple[SpanProcessor, ...] = (),
) -> TracerProvider:
    """Set up tracing for this process, once; further calls return what the first one made.

    ``service_name`` comes before OTEL_SERVICE_NAME, ``resource_attributes`` before
    OTEL_RESOURCE_ATTRIBUTES, ``sampler`` before OTEL_TRACES_SAMPLER; the span limits
    are OpenTelemetry's. ``keep_errors`` exports the local part of traces that the
    sampler passed over if their local root ends in an error. ``settings`` defaults
    to the TRACEWATCH_* environment.
    ``span_processors`` see every span before it is queued. If a TracerProvider is
    already set (by opentelemetry-instrument, or by the service itself), it stays
    and gets our exporter.

    Safe before a fork: the thread that talks to Kafka starts with a process's
    first span. Spans are flushed at exit and on SIGTERM.

    Raises InvalidSetting.
    """
    global _pipeline
    with _lock:
        if _pipeline is None:
            span_exporter = KafkaSpanExporter(settings)
            processors = (*span_processors, KafkaSpanProcessor(span_exporter))
            if keep_errors:
                processors = (*processors, KeptErrors(span_exporter.offer))
            existing = trace.get_tracer_provider()
            if isinstance(existing, TracerProvider):
                for processor in processors:
                    existing.add_span_processor(processor)
                _pipeline = _Pipeline(None, None, span_exporter, {})
            else:
                attributes = dict(resource_attributes or {})
                if service_name:
                    attributes[SERVICE_NAME] = service_name
                sampler = sampler or sampler_from_environment()
                if keep_errors:
                    sampler = ErrorsToo(sampler or DEFAULT_ON)
                _pipeline = _made(attributes, sampler, span_exporter, processors)
            if not os.environ.get("OTEL_PROPAGATORS"):
                propagate.set_global_textmap(TracewatchPropagator())
            _flush_on_sigterm()
        provider = trace.get_tracer_provider()
        assert isinstance(provider, TracerProvider)
        return provider


def tracer(service_name: str | None = None) -> Tracer:
    """The tracer whose spans belong to ``service_name``, by default to the configured service.

    A process may play several services; they share exporter and sampler.
    """
    if service_name is None or _pipeline is None or _pipeline.processors is None:
        return trace.get_tracer(SCOPE)
    provider = _pipeline.providers.get(service_name)
    if provider is None:
        with _lock:
            provider = _pipeline.providers.get(service_name) or _provider_of(service_name, _pipeline)
    return provider.get_tracer(SCOPE)


def server_tracer(service_name: str | None) -> Tracer:
    """A middleware's tracer: configures tracing if nobody has, and leaves alone a provider that somebody set."""
    if _pipeline is None and not isinstance(trace.get_tracer_provider(), TracerProvider):
        configure(service_name)
    return tracer(service_name)


def exporter() -> KafkaSpanExporter | None:
    """The exporter that configure made: its counters tell what became of the spans."""
    return _pipeline.exporter if _pipeline else None


def flush(timeout_s: float = 5.0) -> bool:
    """Wait until Kafka has every span that has ended; False when time is up."""
    provider = trace.get_tracer_provider()
    return provider.force_flush(int(timeout_s * 1000)) if isinstance(provider, TracerProvider) else True


def _made(
    attributes: Mapping[str, AttributeValue],
    sampler: Sampler | None,
    span_exporter: KafkaSpanExporter,
    span_processors: tuple[SpanProcessor, ...],
) -> _Pipeline:
    processors = SpanProcessors()
    for processor in span_processors:
        processors.add_span_processor(processor)
    provider = TracerProvider(
        sampler=sampler,
        resource=Resource.create(attributes),
        active_span_processor=processors,
        id_generator=NamedTraceIdGenerator(),
    )
    trace.set_tracer_provider(provider)
    name = str(provider.resource.attributes.get(SERVICE_NAME, ""))
    logger.info("tracing service %s to Kafka at %s", name, span_exporter.settings.kafka.bootstrap_servers)
    return _Pipeline(provider.sampler, processors, span_exporter, {name: provider})


def _provider_of(service_name: str, pipeline: _Pipeline) -> TracerProvider:
    main = next(iter(pipeline.providers.values()))
    provider = TracerProvider(
        sampler=pipeline.sampler,
        resource=main.resource.merge(Resource({SERVICE_NAME: service_name})),
        active_span_processor=pipeline.processors,
        id_generator=main.id_generator,
        shutdown_on_exit=False,
    )
    pipeline.providers[service_name] = provider
    return provider


def _flush_on_sigterm() -> None:
    # Only where nobody handles SIGTERM. A server that does ends by exit, which flushes too (gunicorn), or by the end of
    # the lifespan, at which the ASGI middleware flushes (uvicorn).
    if threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _flush_and_die)


def _flush_and_die(signum: int, frame: FrameType | None) -> None:
    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        provider.shutdown()
    signal.signal(signum, signal.SIG_DFL)
    os.kill(os.getpid(), signum)
