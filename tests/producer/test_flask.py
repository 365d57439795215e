"""Flask services: one line traces every request, and nothing of a request changes."""

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask, Response, abort, g, stream_with_context
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode

from tests.producer.conftest import Recording
from tracewatch.flask import TracingMiddleware


@pytest.fixture
def app(recording: Recording) -> Flask:
    app = Flask("shop")
    TracingMiddleware(app, excluded_paths=["/health", "/static/*"], tracer_provider=recording.provider)

    @app.get("/quotes/<symbol>")
    def quote(symbol: str) -> dict[str, str]:
        return {"trace_id": g.trace_id, "span_id": g.span_id, "symbol": symbol}

    @app.get("/fails")
    def fails() -> str:
        raise ValueError("no quotes today")

    @app.get("/answers/<int:status>")
    def answers(status: int) -> Response:
        return Response("answer", status)

    @app.get("/aborts")
    def aborts() -> str:
        abort(503)

    @app.get("/streams")
    def streams() -> Response:
        def chunks() -> Iterator[bytes]:
            for number in range(3):
                with recording.provider.get_tracer("app").start_as_current_span(f"chunk {number}"):
                    yield b"x"

        return Response(stream_with_context(chunks()))

    @app.get("/breaks")
    def breaks() -> Response:
        def chunks() -> Iterator[bytes]:
            yield b"x"
            raise OSError("disk")

        return Response(chunks())

    @app.get("/health")
    @app.get("/static/logo.png")
    def untraced() -> str:
        return "ok"

    return app


def get(app: Flask, path: str, **options: Any) -> Any:
    with app.test_client() as client, client.get(path, buffered=True, **options) as response:
        return response


def test_a_request_is_a_server_span_by_the_semantic_conventions(app: Flask, recording: Recording) -> None:
    headers = {"User-Agent": "pytest", "X-Forwarded-For": "198.51.100.7, 10.0.0.1"}
    response = get(app, "/quotes/ACME?range=1d&sig=secret", headers=headers)
    (span,) = recording.spans
    assert (span.name, span.kind, span.status.status_code) == (
        "GET /quotes/<symbol>",
        SpanKind.SERVER,
        StatusCode.UNSET,
    )
    assert dict(span.attributes) == {
        "http.request.method": "GET",
        "http.route": "/quotes/<symbol>",
        "http.response.status_code": 200,
        "url.scheme": "http",
        "url.path": "/quotes/ACME",
        "url.query": "range=1d&sig=REDACTED",
        "server.address": "localhost",
        "server.port": 80,
        "client.address": "198.51.100.7",
        "user_agent.original": "pytest",
        "network.protocol.version": "1.1",
    }
    assert response.json["trace_id"] == f"{span.context.trace_id:032x}" == response.headers["X-Trace-ID"]
    assert response.json["span_id"] == f"{span.context.span_id:016x}"


@pytest.mark.parametrize(
    ("path", "status", "error"), [("/answers/404", 404, None), ("/answers/500", 500, "500"), ("/aborts", 503, "503")]
)
def test_5xx_is_the_servers_error_and_4xx_is_not(
    app: Flask, recording: Recording, path: str, status: int, error: str | None
) -> None:
    assert get(app, path).status_code == status
    (span,) = recording.spans
    assert span.attributes["http.response.status_code"] == status
    assert span.attributes.get("error.type") == error
    assert span.status.status_code is (StatusCode.ERROR if error else StatusCode.UNSET)


def test_an_unknown_path_has_no_route_and_few_names(app: Flask, recording: Recording) -> None:
    assert get(app, "/no/such/path").status_code == 404
    (span,) = recording.spans
    assert span.name == "GET"
    assert "http.route" not in span.attributes


@pytest.mark.parametrize("propagates", [False, True])
def test_an_exception_is_recorded_once(app: Flask, recording: Recording, propagates: bool) -> None:
    app.config["PROPAGATE_EXCEPTIONS"] = propagates
    if propagates:
        with pytest.raises(ValueError, match="no quotes"):
            get(app, "/fails")
    else:
        assert get(app, "/fails").status_code == 500
    (span,) = recording.spans
    assert span.name == "GET /fails"
    assert span.status.status_code is StatusCode.ERROR
    (event,) = span.events
    assert event.attributes["exception.type"] == "ValueError"
    assert event.attributes["exception.message"] == "no quotes today"


def test_a_streamed_body_runs_inside_the_span(app: Flask, recording: Recording) -> None:
    assert get(app, "/streams").data == b"xxx"
    server = recording.named("GET /streams")
    assert recording.spans[-1] is server
    assert all(recording.named(f"chunk {number}").parent == server.context for number in range(3))


def test_a_body_that_breaks_is_an_error(app: Flask, recording: Recording) -> None:
    with pytest.raises(OSError, match="disk"):
        get(app, "/breaks")
    (span,) = recording.spans
    assert span.attributes["error.type"] == "OSError"
    assert span.status.status_code is StatusCode.ERROR


def test_excluded_paths_are_left_alone(app: Flask, recording: Recording) -> None:
    assert get(app, "/health").data == get(app, "/static/logo.png").data == b"ok"
    assert recording.spans == ()


@pytest.mark.parametrize(
    ("headers", "trace_id", "parent_id"),
    [
        ({"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}, "a" * 32, "b" * 16),
        ({"b3": f"{'c' * 32}-{'d' * 16}-1"}, "c" * 32, "d" * 16),
        ({"X-Trace-ID": f"{'A' * 8}-AAAA-AAAA-AAAA-{'A' * 12}", "X-Span-ID": "e" * 16}, "a" * 32, "e" * 16),
        ({"X-Trace-ID": "f" * 32}, "f" * 32, None),
    ],
)  # fmt: skip
def test_the_callers_trace_goes_on(
    app: Flask, recording: Recording, headers: dict[str, str], trace_id: str, parent_id: str | None
) -> None:
    get(app, "/quotes/ACME", headers=headers)
    (span,) = recording.spans
    assert f"{span.context.trace_id:032x}" == trace_id
    assert (span.parent and f"{span.parent.span_id:016x}") == parent_id


@pytest.mark.parametrize(
    "header", ["traceparent", "tracestate", "baggage", "b3", "X-B3-TraceId", "X-Trace-ID", "X-Span-ID"]
)
@pytest.mark.parametrize("garbage", ["", "\xff\xfe", "%%%", "a" * 8000, "00-" * 100, ",;=,;=", "=" * 300])
def test_garbage_in_a_header_breaks_no_request(app: Flask, recording: Recording, header: str, garbage: str) -> None:
    assert get(app, "/quotes/ACME", headers={header: garbage}).status_code == 200
    (span,) = recording.spans
    assert span.parent is None


def test_a_method_that_nobody_knows_makes_no_new_name(app: Flask, recording: Recording) -> None:
    with app.test_client() as client, client.open("/quotes/A", method="BREW", buffered=True) as response:
        assert response.status_code == 405
    (span,) = recording.spans
    assert span.attributes["http.request.method"] == "_OTHER"
    assert span.attributes["http.request.method_original"] == "BREW"
    assert span.name == "HTTP"


def test_a_head_request_ends_its_span(app: Flask, recording: Recording) -> None:
    with app.test_client() as client, client.head("/quotes/A", buffered=True):
        pass
    assert recording.spans[0].name == "HEAD /quotes/<symbol>"


def test_no_span_is_left_current_after_a_request(app: Flask) -> None:
    get(app, "/quotes/ACME")
    assert not trace.get_current_span().get_span_context().is_valid
