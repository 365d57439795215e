"""FastAPI and Starlette services."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, BackgroundTasks, FastAPI, WebSocket
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route

from tests.producer.conftest import Recording
from tracewatch.asgi import TracingMiddleware


@pytest.fixture
def app(recording: Recording) -> FastAPI:
    tracer = recording.provider.get_tracer("app")
    started = []

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
        started.append(True)
        yield {"started": True}

    app = FastAPI(lifespan=lifespan)
    app.add_middleware(TracingMiddleware, excluded_paths=["/health"], tracer_provider=recording.provider)
    router = APIRouter(prefix="/v1")

    @router.get("/quotes/{symbol}")
    async def quote(symbol: str) -> dict[str, str]:
        context = trace.get_current_span().get_span_context()
        return {"trace_id": f"{context.trace_id:032x}"}

    @router.get("/sync/{number}")
    def sync(number: int) -> int:
        with tracer.start_as_current_span("in a thread"):
            return number

    app.include_router(router)

    @app.get("/fails")
    async def fails() -> None:
        raise ValueError("no")

    @app.get("/streams")
    async def streams() -> StreamingResponse:
        async def chunks() -> AsyncIterator[bytes]:
            for number in range(3):
                with tracer.start_as_current_span(f"chunk {number}"):
                    yield b"x"

        return StreamingResponse(chunks())

    @app.get("/background")
    async def background(tasks: BackgroundTasks) -> str:
        async def later() -> None:
            with tracer.start_as_current_span("later"):
                await asyncio.sleep(0)

        tasks.add_task(later)
        return "soon"

    @app.get("/health")
    async def health() -> str:
        return "ok"

    @app.websocket("/feed")
    async def feed(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text("hello")
        await websocket.close()

    return app


async def get(app: Any, path: str, **options: Any) -> httpx.Response:
    transport = httpx.ASGITransport(app, raise_app_exceptions=options.pop("raises", False))
    async with httpx.AsyncClient(transport=transport, base_url="http://shop:8080") as client:
        return await client.get(path, **options)


async def test_a_request_is_a_server_span_by_the_semantic_conventions(app: FastAPI, recording: Recording) -> None:
    response = await get(app, "/v1/quotes/ACME?range=1d", headers={"User-Agent": "pytest"})
    (span,) = recording.spans
    assert (span.name, span.kind) == ("GET /v1/quotes/{symbol}", SpanKind.SERVER)
    assert dict(span.attributes) == {
        "http.request.method": "GET",
        "http.route": "/v1/quotes/{symbol}",
        "http.response.status_code": 200,
        "url.scheme": "http",
        "url.path": "/v1/quotes/ACME",
        "url.query": "range=1d",
        "server.address": "shop",
        "server.port": 8080,
        "client.address": "127.0.0.1",
        "user_agent.original": "pytest",
        "network.protocol.version": "1.1",
    }
    assert response.json()["trace_id"] == f"{span.context.trace_id:032x}" == response.headers["x-trace-id"]


async def test_the_callers_trace_goes_on_into_threads(app: FastAPI, recording: Recording) -> None:
    headers = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "tracestate": "0vendor=1"}
    await get(app, "/v1/sync/1", headers=headers)
    server, inner = recording.named("GET /v1/sync/{number}"), recording.named("in a thread")
    assert f"{server.context.trace_id:032x}" == "a" * 32
    assert server.context.trace_state["0vendor"] == "1"
    assert inner.parent == server.context


async def test_an_exception_is_recorded_and_goes_on(app: FastAPI, recording: Recording) -> None:
    with pytest.raises(ValueError, match="no"):
        await get(app, "/fails", raises=True)
    (span,) = recording.spans
    assert span.name == "GET /fails"
    assert span.attributes["error.type"] == "ValueError"
    assert span.status.status_code is StatusCode.ERROR
    assert len(span.events) == 1


async def test_a_validation_error_is_the_clients(app: FastAPI, recording: Recording) -> None:
    assert (await get(app, "/v1/sync/none")).status_code == 422
    assert recording.spans[0].status.status_code is StatusCode.UNSET


async def test_a_streamed_body_is_inside_and_background_tasks_are_after(app: FastAPI, recording: Recording) -> None:
    assert (await get(app, "/streams")).content == b"xxx"
    assert recording.spans[-1].name == "GET /streams"
    await get(app, "/background")
    server, later = recording.named("GET /background"), recording.named("later")
    assert later.parent == server.context
    assert server.end_time <= later.start_time


async def test_excluded_paths_are_left_alone(app: FastAPI, recording: Recording) -> None:
    assert (await get(app, "/health")).status_code == 200
    assert recording.spans == ()


async def test_websockets_and_lifespan_pass_through(app: FastAPI, recording: Recording) -> None:
    sent: list[Any] = []
    waiting = [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1000}]

    async def receive() -> Any:
        return waiting.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/feed", "headers": [], "query_string": b"", "root_path": "", "scheme": "ws"}
    await app({**scope, "subprotocols": [], "client": None, "server": None}, receive, send)
    assert [message["type"] for message in sent] == ["websocket.accept", "websocket.send", "websocket.close"]
    sent.clear()
    waiting[:] = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    await app({"type": "lifespan", "state": {}}, receive, send)
    assert [message["type"] for message in sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert recording.spans == ()


async def test_a_mounted_application_is_named_with_its_mount(recording: Recording) -> None:
    async def item(request: Any) -> PlainTextResponse:
        return PlainTextResponse("item")

    inner = Mount("/shop", routes=[Route("/items/{id}", item)])
    app = TracingMiddleware(Starlette(routes=[inner]), tracer_provider=recording.provider)
    await get(app, "/shop/items/7")
    assert recording.spans[0].name == "GET /shop/items/{id}"


async def test_where_fastapi_traces_by_itself_there_is_one_server_span(recording: Recording) -> None:
    telemetry: Any = {"tracer_provider": recording.provider, "operation_spans": False}
    app = FastAPI(telemetry=telemetry)
    app.add_middleware(TracingMiddleware, tracer_provider=recording.provider)

    @app.get("/quotes/{symbol}")
    async def quote(symbol: str) -> None:
        if symbol == "none":
            raise ValueError("no such symbol")

    response = await get(app, "/quotes/ACME")
    (span,) = recording.spans
    assert (span.name, span.kind) == ("GET /quotes/{symbol}", SpanKind.SERVER)
    assert response.headers["x-trace-id"] == f"{span.context.trace_id:032x}"
    await get(app, "/quotes/none")
    assert recording.spans[1].events[0].attributes["exception.message"] == "no such symbol"

    recording.memory.clear()
    await get(TracingMiddleware(app, tracer_provider=recording.provider), "/quotes/ACME")
    (span,) = recording.spans
    assert span.instrumentation_scope.name == "tracewatch"


async def test_requests_at_the_same_time_do_not_mix(app: FastAPI, recording: Recording) -> None:
    ids = [f"{number:032x}" for number in range(1, 21)]
    answers = await asyncio.gather(
        *(get(app, "/v1/quotes/A", headers={"traceparent": f"00-{each}-{'b' * 16}-01"}) for each in ids)
    )
    assert [answer.json()["trace_id"] for answer in answers] == ids
    assert not trace.get_current_span().get_span_context().is_valid


@pytest.mark.parametrize("value", [b"\xff\xfe", b"", b"00-" * 100, b"a" * 8000])
@pytest.mark.parametrize(
    "name", [b"traceparent", b"tracestate", b"baggage", b"b3", b"x-trace-id", b"host", b"x-forwarded-for"]
)
async def test_garbage_in_a_header_breaks_no_request(
    app: FastAPI, recording: Recording, name: bytes, value: bytes
) -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "http_version": "1.1", "method": "GET", "path": "/v1/quotes/A", "raw_path": b"/v1/quotes/A",
        "query_string": b"", "root_path": "", "scheme": "http", "headers": [(name, value)],
        "client": None, "server": None,
    }  # fmt: skip
    await app(scope, receive, send)
    assert sent[0]["status"] == 200
    assert len(recording.spans) == 1
