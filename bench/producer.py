"""What tracing costs a Python service: CPU per span and per Flask request, side by side.

    python -m bench.producer [--broker host:port] [--rounds 3]

Each variant runs in a process of its own, in turn, several rounds; the least
figure of each is printed, because on a shared machine everything else is noise.
CPU is the whole process's: the request threads' and the background thread's.
Figures are to be compared with one another, not quoted.
"""

import argparse
import gc
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from opentelemetry import trace
from opentelemetry.trace import SpanKind

from bench.figures import Figure, tell

OURS = "tracewatch to kafka"
#: Times what goes without exporting, or without tracing.
SPAN_RATIO, REQUEST_RATIO = 1.5, 2.2
SPANS = 8_000
REQUESTS = 3_000
WARM_UP = 500
REPETITIONS = 3

Flush = Callable[[], object]
# The base of the span rows is the strictest there is: a processor that does nothing. OpenTelemetry's batch processor
# in front of an exporter that does nothing is what a service would run before it could export anything.
SPAN_VARIANTS = (
    "sdk, processor drops",
    "sdk, batch processor drops",
    "sdk, stock encoder, dropped",
    OURS,
)
REQUEST_VARIANTS = (
    "plain flask",
    OURS,
    "opentelemetry flask, spans dropped",
    "opentelemetry flask, stock encoder",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", help="Kafka with the topic tracewatch.spans; default: an embedded one")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--variant", nargs=2, metavar=("SPAN_OR_REQUEST", "VARIANT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.variant:
        measure_here(*arguments.variant)
        return
    with ExitStack() as stack:
        broker = arguments.broker or stack.enter_context(embedded_broker())
        span = compare("span", SPAN_VARIANTS, broker, arguments.rounds)
        request = compare("request", REQUEST_VARIANTS, broker, arguments.rounds)
    tell(
        Figure(what, ours, "us", bound * bare, bare=bare)
        for what, bound, bare, ours in (
            ("a span, beside a processor that drops", SPAN_RATIO, *(span[name] for name in (SPAN_VARIANTS[0], OURS))),
            ("a Flask request, beside plain Flask", REQUEST_RATIO, *(request[name] for name in ("plain flask", OURS))),
        )
    )


def compare(unit: str, variants: tuple[str, ...], broker: str, rounds: int) -> dict[str, float]:
    """Run every variant in turn and print a line each, with its ratio to the first; the process's us by variant."""
    least: dict[str, dict[str, float]] = {}
    for _ in range(rounds):
        for variant in variants:
            figures = run_variant(unit, variant, broker)
            known = least.setdefault(variant, figures)
            least[variant] = {name: min(known[name], figures[name]) for name in figures}
    base = least[variants[0]]["process_us"]
    print(f"{'us of CPU per ' + unit:38} {'request thread':>15} {'process':>9} {'ratio':>7}")
    for variant, figures in least.items():
        process = figures["process_us"]
        print(f"{variant:38} {figures['thread_us']:15.1f} {process:9.1f} {process / base:6.2f}x")
    print()
    return {variant: figures["process_us"] for variant, figures in least.items()}


def run_variant(unit: str, variant: str, broker: str) -> dict[str, float]:
    """One process's figures."""
    command = [sys.executable, "-m", "bench.producer", "--variant", unit, variant]
    environment = {**os.environ, "TRACEWATCH_KAFKA_BOOTSTRAP_SERVERS": broker, "OTEL_SEMCONV_STABILITY_OPT_IN": "http"}
    outcome = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if outcome.returncode:
        sys.exit(f"{variant}: {outcome.stderr}")
    figures: dict[str, float] = json.loads(outcome.stdout.splitlines()[-1])
    return figures


def measure_here(unit: str, variant: str) -> None:
    """Measure one variant in this process and print its figures as JSON."""
    if unit == "span":
        work, flush, count = span_work(), set_up(variant), SPANS
    else:
        work, flush, count = request_work(variant), (lambda: None), REQUESTS
        if variant != "plain flask":
            flush = provider_flush
    for _ in range(WARM_UP):
        work()
    flush()
    gc.collect()
    least = {"thread_us": float("inf"), "process_us": float("inf")}
    for _ in range(REPETITIONS):
        thread, process = time.thread_time(), time.process_time()
        for done in range(count):
            work()
            if done % 2000 == 1999:
                # A service has pauses; without any the queue would overflow and the rest be dropped cheaply.
                flush()
        thread_us = (time.thread_time() - thread) / count * 1e6
        flush()
        process_us = (time.process_time() - process) / count * 1e6
        least = {"thread_us": min(least["thread_us"], thread_us), "process_us": min(least["process_us"], process_us)}
    print(json.dumps(least))


def set_up(variant: str) -> Flush:
    """Configure tracing as the variant says."""
    if variant.startswith("tracewatch"):
        import tracewatch

        tracewatch.configure("checkout")
        return provider_flush
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": "checkout"}))
    if variant == "sdk, processor drops":
        provider.add_span_processor(SpanProcessor())
    else:
        exporter = dropping_exporter(encode="stock encoder" in variant)
        provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=65_536, schedule_delay_millis=200))
    trace.set_tracer_provider(provider)
    return provider_flush


def dropping_exporter(*, encode: bool) -> Any:
    """An exporter that drops what it gets, encoded first or not."""
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    if encode:
        from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

    class Dropping(SpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            if encode:
                encode_spans(spans).SerializeToString()
            return SpanExportResult.SUCCESS

    return Dropping()


def provider_flush() -> None:
    provider: Any = trace.get_tracer_provider()
    if not provider.force_flush(20_000):
        sys.exit("spans could not be flushed")


def span_work() -> Callable[[], None]:
    """A server span with the attributes of an ordinary HTTP request."""
    tracer = trace.get_tracer("bench", "1.0")
    number = iter(range(10**9))

    def work() -> None:
        attributes = {
            "http.request.method": "GET",
            "url.scheme": "http",
            "url.path": f"/api/v1/checkout/items/{next(number)}",
            "http.route": "/api/v1/checkout/items/{id}",
            "server.address": "checkout.prod",
            "server.port": 8080,
            "client.address": "10.0.0.1",
            "user_agent.original": "python-requests/2.32.3",
            "network.protocol.version": "1.1",
        }
        with tracer.start_as_current_span(
            "GET /api/v1/checkout/items/{id}", kind=SpanKind.SERVER, attributes=attributes
        ) as span:
            span.set_attribute("http.response.status_code", 200)

    return work


def request_work(variant: str) -> Callable[[], None]:
    """A request through Flask's whole WSGI path, without a socket."""
    from flask import Flask

    app = Flask("bench")

    @app.get("/api/v1/items/<int:item>")
    def items(item: int) -> dict[str, Any]:
        return {"id": item, "items": [{"sku": f"a{number}", "qty": number} for number in range(10)]}

    if variant.startswith("tracewatch"):
        from tracewatch.flask import TracingMiddleware

        TracingMiddleware(app, "checkout")
    elif variant.startswith("opentelemetry"):
        from opentelemetry.instrumentation.flask import FlaskInstrumentor

        set_up(variant)
        FlaskInstrumentor().instrument_app(app)
    environ = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/api/v1/items/42",
        "QUERY_STRING": "",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "8080",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "10.0.0.1",
        "HTTP_HOST": "127.0.0.1:8080",
        "HTTP_USER_AGENT": "python-requests/2.32.3",
        "HTTP_ACCEPT": "*/*",
        "HTTP_TRACEPARENT": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }

    def start_response(status: str, headers: object, exc_info: object = None) -> Callable[[bytes], object]:
        assert status == "200 OK"
        return bytes

    def work() -> None:
        body = app.wsgi_app({**environ, "wsgi.input": io.BytesIO()}, start_response)
        for _ in body:
            pass
        close = getattr(body, "close", None)
        if close is not None:
            close()

    return work


def embedded_broker() -> Any:
    from contextlib import contextmanager

    from quickstart.embedded_broker import EmbeddedBroker
    from tests.services import create_topic

    @contextmanager
    def broker() -> Any:
        with (
            tempfile.TemporaryDirectory() as directory,
            EmbeddedBroker(log_path=Path(directory) / "broker.log") as embedded,
        ):
            create_topic(embedded.bootstrap_servers, "tracewatch.spans", 8, {})
            yield embedded.bootstrap_servers

    return broker()


if __name__ == "__main__":
    main()
