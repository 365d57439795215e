"""Whatever a caller sends and a handler attaches: the request is answered, and the span arrives within its limits."""

import asyncio
import math
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from flask import Flask, request
from opentelemetry import trace
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.producer.conftest import Delivered
from tests.producer.test_exporter import Service
from tests.services import KafkaServer
from tracewatch import add_metadata, asgi, flask

Read = Callable[..., list[Delivered]]


class Unprintable(Exception):
    """A value, or an error, that no text can be made of."""

    def __str__(self) -> str:
        raise RuntimeError("unprintable")

    __repr__ = __str__


def attach_everything() -> None:
    """What a handler should not attach, and one day does."""
    odd: Any = {
        "million": "x" * 1_000_000,
        "nan": math.nan,
        "infinite": -math.inf,
        "lone surrogate \ud800": "\udfff",
        "too wide": 2**70,
        "bytes": b"\xff\x00",
        "list": [1, "two", None, [3.0]],
        "map": {"a": {"b": 1}, 2: "two"},
        "none": None,
        7: "a key that is no string",
        None: "nor this one",
        "": "nor an empty one",
    }
    add_metadata(odd, unprintable=Unprintable())
    span = trace.get_current_span()
    span.add_event("event \ud800", odd)
    span.set_status(trace.StatusCode.ERROR, "\ud800" * 10)
    for number in range(10_000):
        span.set_attribute(f"key{number}", number)
    for number in range(1_000):
        span.add_event(f"event {number}")


HOSTILE_HEADERS = {
    "traceparent": "00-" + "f" * 8000,
    "tracestate": "=,=," * 1000,
    "baggage": "a=%zz;" * 500,
    "b3": "-",
    "X-Trace-ID": "\u00e9" * 50,
    "X-Span-ID": "0" * 16,
    "User-Agent": "\x7f\u00ff",
    "X-Forwarded-For": ",,,",
    "Host": "[::1",
}


@pytest.fixture
def service(kafka: KafkaServer, make_topic: Callable[..., str]) -> Iterator[Service]:
    service = Service(kafka.bootstrap_servers, make_topic("spans"))
    yield service
    service.provider.shutdown()


def assert_within_limits(span: Span) -> None:
    assert len(span.attributes) == 128
    assert span.dropped_attributes_count > 9_800
    assert len(span.events) == 128
    assert span.dropped_events_count > 800
    assert span.status.code == 2
    assert span.ByteSize() < 1_000_000


def test_a_flask_request_is_answered_and_its_span_arrives(service: Service, delivered: Read) -> None:
    app = Flask("service")
    flask.TracingMiddleware(app, tracer_provider=service.provider)

    @app.get("/odd")
    def odd() -> str:
        assert request.headers["b3"] == "-"
        attach_everything()
        return "answered"

    environ = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in HOSTILE_HEADERS.items()}
    # A client library would refuse to send these; a server passes them on.
    with app.test_client() as client, client.get("/odd", environ_overrides=environ, buffered=True) as response:
        assert (response.status_code, response.data) == (200, b"answered")
    assert service.provider.force_flush(10_000)
    (found,) = delivered(service.exporter.settings.topic, 1)
    assert found.span.name == "GET /odd"
    assert_within_limits(found.span)


async def test_an_asgi_request_is_answered_and_its_span_arrives(service: Service, delivered: Read) -> None:
    app = FastAPI(telemetry={"tracing": False})
    app.add_middleware(asgi.TracingMiddleware, tracer_provider=service.provider)

    @app.get("/odd")
    async def odd(request: Request) -> str:
        attach_everything()
        return "answered"

    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in HOSTILE_HEADERS.items()]
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client:
        answer = await client.get("/odd", headers=raw)
    assert (answer.status_code, answer.json()) == (200, "answered")
    assert await asyncio.to_thread(service.provider.force_flush, 10_000)
    (found,) = delivered(service.exporter.settings.topic, 1)
    assert_within_limits(found.span)


def test_an_error_that_cannot_be_printed_is_still_the_services_own(service: Service, delivered: Read) -> None:
    app = Flask("service")
    app.config["PROPAGATE_EXCEPTIONS"] = True
    flask.TracingMiddleware(app, tracer_provider=service.provider)

    @app.get("/fails")
    def fails() -> str:
        raise Unprintable

    with app.test_client() as client, pytest.raises(Unprintable):
        client.get("/fails")
    assert service.provider.force_flush(10_000)
    (found,) = delivered(service.exporter.settings.topic, 1)
    (event,) = found.span.events
    assert {a.key: a.value.string_value for a in event.attributes}["exception.type"].endswith("Unprintable")
    assert found.span.status.code == 2


def test_values_arrive_as_far_as_otlp_can_say_them(service: Service, delivered: Read) -> None:
    span = service.tracer.start_span("odd")
    with trace.use_span(span, end_on_exit=True):
        odd: Any = {"million": "x" * 900_000, "nan": math.nan, "lone": "\ud800", "too wide": 2**70, 7: "x"}
        add_metadata(odd, unprintable=Unprintable())
    assert service.provider.force_flush(10_000)
    (found,) = delivered(service.exporter.settings.topic, 1)
    values = {attribute.key: attribute.value for attribute in found.span.attributes}
    assert len(values["million"].string_value) == 900_000
    assert math.isnan(values["nan"].double_value)
    assert values["lone"].string_value == "\\ud800"
    assert values["too wide"].string_value == str(2**70)
    assert set(values) == {"million", "nan", "lone", "too wide"}
