"""The gateway takes OTLP/HTTP and Zipkin, answers as the specifications say, and only once Kafka has the spans."""

import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import StatusCode

from tests.producer.conftest import ROOT, Delivered, service_environment
from tests.services import KafkaServer
from tracewatch.partitioning import partition_of

Read = Callable[..., list[Delivered]]
CONFORMANCE = ROOT.parent / "shared" / "conformance" / "otlp_http.py"
PROTOBUF = {"Content-Type": "application/x-protobuf"}
JSON = {"Content-Type": "application/json"}


class Gateway:
    """A running gateway."""

    def __init__(self, url: str, topic: str, process: "subprocess.Popen[bytes]") -> None:
        self.url = url
        self.topic = topic
        self.process = process

    def post(self, path: str, body: bytes, headers: dict[str, str]) -> httpx.Response:
        return httpx.post(self.url + path, content=body, headers=headers, timeout=20)


@contextmanager
def running_gateway(bootstrap_servers: str, topic: str, **settings: str) -> Iterator[Gateway]:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    variables = {f"TRACEWATCH_GATEWAY_{name}": value for name, value in settings.items()}
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "tracewatch.gateway"],
        cwd=ROOT,
        env=service_environment(bootstrap_servers, topic) | variables | {"TRACEWATCH_GATEWAY_PORT": str(port)},
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                httpx.get(url + "/metrics")
                break
            except httpx.TransportError:
                assert process.poll() is None and time.monotonic() < deadline, "the gateway did not start"
                time.sleep(0.05)
        yield Gateway(url, topic, process)
    finally:
        process.terminate()
        process.wait(15)


@pytest.fixture
def gateway(kafka: KafkaServer, make_topic: Callable[..., str]) -> Iterator[Gateway]:
    with running_gateway(kafka.bootstrap_servers, make_topic("spans", partitions=4)) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def gateway_without_kafka() -> Iterator[Gateway]:
    with running_gateway(
        "127.0.0.1:1", "spans", TOKEN="secret", DELIVERY_TIMEOUT_S="1", MAX_WAITING_BYTES="1000", MAX_BODY_BYTES="5000"
    ) as gateway:
        yield gateway


def request_of(*ids: tuple[str, str], size: int = 0) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    scope_spans = request.resource_spans.add().scope_spans.add()
    for trace_id, span_id in ids:
        span = scope_spans.spans.add(name="x" * size, start_time_unix_nano=1, end_time_unix_nano=2)
        span.trace_id, span.span_id = bytes.fromhex(trace_id), bytes.fromhex(span_id)
    return request


@pytest.mark.skipif(not CONFORMANCE.exists(), reason="needs ../shared/conformance, which is not beside this checkout")
def test_every_check_of_the_conformance_script_passes(gateway: Gateway) -> None:
    outcome = subprocess.run(
        [sys.executable, CONFORMANCE, gateway.url + "/v1/traces"], capture_output=True, text=True, check=False
    )
    assert outcome.returncode == 0, outcome.stdout
    assert "24 of 24 passed" in outcome.stdout


def test_a_200_means_that_the_spans_are_in_their_partitions(gateway: Gateway, delivered: Read) -> None:
    ids = [(os.urandom(16).hex(), os.urandom(8).hex()) for _ in range(30)]
    body = request_of(*ids).SerializeToString()
    assert gateway.post("/v1/traces", gzip.compress(body), PROTOBUF | {"Content-Encoding": "gzip"}).status_code == 200
    found = delivered(gateway.topic, 30)
    assert sorted(each.span.trace_id.hex() for each in found) == sorted(trace_id for trace_id, _ in ids)
    assert all(each.partition == partition_of(int.from_bytes(each.span.trace_id, "big"), 4) for each in found)
    assert len({(each.partition, each.offset) for each in found}) <= 4


def test_spans_without_valid_ids_are_rejected_and_the_rest_is_taken(gateway: Gateway, delivered: Read) -> None:
    good = ("ab" * 16, "cd" * 8)
    request = request_of(good, ("ab" * 15, "cd" * 8), ("00" * 16, "cd" * 8), ("ab" * 16, "00" * 8), ("ab" * 16, ""))
    response = gateway.post("/v1/traces", request.SerializeToString(), PROTOBUF)
    partial = ExportTraceServiceResponse.FromString(response.content).partial_success
    assert (response.status_code, partial.rejected_spans) == (200, 4)
    assert "trace_id must be 16 bytes" in partial.error_message
    assert len(delivered(gateway.topic, 1)) == 1

    spans = [{"traceId": "zz", "spanId": "cd" * 8}, {"traceId": "AB" * 16, "spanId": "CD" * 8, "name": "json"}]
    document = {"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}
    response = gateway.post("/v1/traces", json.dumps(document).encode(), JSON)
    assert response.json()["partialSuccess"]["rejectedSpans"] == "1"
    assert "traceId must be hex" in response.json()["partialSuccess"]["errorMessage"]
    assert {each.span.name for each in delivered(gateway.topic, 2)} == {"", "json"}


def test_a_span_of_more_than_a_record_is_rejected_with_the_reason(gateway: Gateway) -> None:
    response = gateway.post(
        "/v1/traces", request_of(("ab" * 16, "cd" * 8), size=1_100_000).SerializeToString(), PROTOBUF
    )
    partial = ExportTraceServiceResponse.FromString(response.content).partial_success
    assert partial.rejected_spans == 1
    assert "exceeds the limit of a record" in partial.error_message


@pytest.mark.parametrize(
    "document",
    [
        "[]", "1", '{"resourceSpans": {}}', '{"resourceSpans": [1]}', '{"resourceSpans": [{"\\ud800": null}]}',
        "{" * 5000, "[" * 100_000,
    ],
)  # fmt: skip
def test_json_of_another_shape_is_a_bad_request(gateway_without_kafka: Gateway, document: str) -> None:
    headers = JSON | {"Authorization": "Bearer secret"}
    response = gateway_without_kafka.post("/v1/traces", document.encode()[:5000], headers)
    assert response.status_code in (200, 400)
    assert response.status_code == 400 or document == '{"resourceSpans": {}}'


def test_without_kafka_nothing_is_acknowledged(gateway_without_kafka: Gateway) -> None:
    headers = PROTOBUF | {"Authorization": "Bearer secret"}
    response = gateway_without_kafka.post("/v1/traces", request_of(("ab" * 16, "cd" * 8)).SerializeToString(), headers)
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) >= 1
    health = httpx.get(gateway_without_kafka.url + "/healthz")
    assert (health.status_code, health.json()["status"]) == (503, "no Kafka")
    assert "tracewatch_gateway_kafka_failures_total 1.0" in httpx.get(gateway_without_kafka.url + "/metrics").text


def test_what_waits_is_bounded(gateway_without_kafka: Gateway) -> None:
    headers = PROTOBUF | {"Authorization": "Bearer secret"}
    body = request_of(*[("ab" * 16, "cd" * 8)] * 40).SerializeToString()
    assert 1000 < len(body) < 5000
    response = gateway_without_kafka.post("/v1/traces", body, headers)
    assert response.status_code == 429
    assert int(response.headers["Retry-After"]) >= 1
    assert gateway_without_kafka.post("/v1/traces", body * 3, headers).status_code == 413


@pytest.mark.parametrize("authorization", [None, "Bearer wrong", "Basic secret", "secret", "Bearer"])
def test_a_token_is_asked_for(gateway_without_kafka: Gateway, authorization: str | None) -> None:
    headers = PROTOBUF | ({"Authorization": authorization} if authorization else {})
    response = gateway_without_kafka.post("/v1/traces", b"", headers)
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert (
        gateway_without_kafka.post("/v1/traces", b"", PROTOBUF | {"Authorization": "Bearer secret"}).status_code == 200
    )


ZIPKIN = [
    {
        "traceId": "86154a4ba6e91385",
        "parentId": "86154a4ba6e91385",
        "id": "4d1e00c0db9010db",
        "kind": "CLIENT",
        "name": "get",
        "timestamp": 1472470996199000,
        "duration": 207000,
        "localEndpoint": {"serviceName": "frontend", "ipv4": "127.0.0.1"},
        "remoteEndpoint": {"serviceName": "backend", "ipv4": "192.168.99.101", "port": 9000},
        "annotations": [{"timestamp": 1472470996238000, "value": "wire send"}],
        "tags": {"http.path": "/api", "error": "timeout", "otel.scope.name": "lib"},
    },
    {
        "traceId": "86154a4ba6e91385",
        "id": "4d1e00c0db9010db",
        "kind": "SERVER",
        "shared": True,
        "localEndpoint": {"serviceName": "backend"},
        "timestamp": 1472470996200000,
        "duration": 1000,
        "tags": {"error": "true"},
    },
    {"traceId": "zz", "id": "4d1e00c0db9010db"},
]


def test_zipkin_spans_become_otlp_spans(gateway: Gateway, delivered: Read) -> None:
    response = gateway.post(
        "/api/v2/spans", gzip.compress(json.dumps(ZIPKIN).encode()), JSON | {"Content-Encoding": "gzip"}
    )
    assert (response.status_code, response.content) == (202, b"")
    found = {each.service: each.span for each in delivered(gateway.topic, 2)}
    client, server = found["frontend"], found["backend"]
    assert client.trace_id.hex() == "0" * 16 + "86154a4ba6e91385"
    assert (client.parent_span_id.hex(), client.name, client.kind) == ("86154a4ba6e91385", "get", 3)
    assert (client.start_time_unix_nano, client.end_time_unix_nano) == (1472470996199000000, 1472470996406000000)
    assert (client.status.code, client.status.message) == (2, "timeout")
    assert [(event.name, event.time_unix_nano) for event in client.events] == [("wire send", 1472470996238000000)]
    texts = {a.key: a.value.string_value or a.value.int_value for a in client.attributes}
    assert texts == {
        "http.path": "/api",
        "peer.service": "backend",
        "network.peer.address": "192.168.99.101",
        "network.peer.port": 9000,
    }
    # A shared span is told apart from its caller's half, and hangs under it.
    assert server.parent_span_id == client.span_id != server.span_id
    assert (server.status.code, server.status.message) == (2, "")


@pytest.mark.parametrize(
    "body", [b"{}", b"", b"[1]", b'[{"traceId": "1"}]', b'[{"traceId": "1", "id": "1", "timestamp": -5}]']
)
def test_zipkin_of_another_shape_is_a_bad_request(gateway_without_kafka: Gateway, body: bytes) -> None:
    response = gateway_without_kafka.post("/api/v2/spans", body, JSON | {"Authorization": "Bearer secret"})
    assert response.status_code == 400
    assert response.text


def test_requests_at_the_same_time_share_records(gateway: Gateway, delivered: Read) -> None:
    import asyncio

    async def post_all() -> list[int]:
        async with httpx.AsyncClient(timeout=30, limits=httpx.Limits(max_connections=50)) as client:
            bodies = [request_of((os.urandom(16).hex(), os.urandom(8).hex())).SerializeToString() for _ in range(100)]
            answers = await asyncio.gather(
                *(client.post(gateway.url + "/v1/traces", content=body, headers=PROTOBUF) for body in bodies)
            )
            return [answer.status_code for answer in answers]

    assert asyncio.run(post_all()) == [200] * 100
    records = {(each.partition, each.offset) for each in delivered(gateway.topic, 100)}
    assert len(records) < 100
    assert f"tracewatch_gateway_records_total {float(len(records))}" in httpx.get(gateway.url + "/metrics").text


@pytest.mark.parametrize("compression", [Compression.NoCompression, Compression.Gzip, Compression.Deflate])
def test_pythons_otlp_exporter_is_understood(gateway: Gateway, delivered: Read, compression: Compression) -> None:
    provider = TracerProvider(resource=Resource({"service.name": "python-otlp"}), shutdown_on_exit=False)
    exporter = OTLPSpanExporter(gateway.url + "/v1/traces", compression=compression)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with (
        provider.get_tracer("t").start_as_current_span("parent"),
        provider.get_tracer("t").start_as_current_span("child") as child,
    ):
        child.set_status(StatusCode.ERROR, "no")
    provider.shutdown()
    found = {each.span.name: each for each in delivered(gateway.topic, 2)}
    assert found["child"].span.parent_span_id == found["parent"].span.span_id
    assert found["child"].service == "python-otlp"


def test_nodes_exporters_are_understood(gateway: Gateway, delivered: Read, node_clients: Path) -> None:
    outcome = subprocess.run(
        ["node", "send.mjs", gateway.url], cwd=node_clients, capture_output=True, text=True, timeout=60, check=False
    )
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    found = delivered(gateway.topic, 8)
    by_service: dict[str, dict[str, Any]] = {}
    for each in found:
        by_service.setdefault(each.service, {})[each.span.name] = each.span
    assert set(by_service) == {"node-proto", "node-proto-gzip", "node-json", "node-zipkin"}
    for spans in by_service.values():
        assert spans["child"].parent_span_id == spans["parent"].span_id
        assert spans["child"].status.code == 2
        assert spans["parent"].kind == 2
        attributes = {a.key: a.value for a in spans["parent"].attributes}
        assert attributes["text"].string_value == "gr\u00fc\u00dfe"


@pytest.fixture(scope="session")
def node_clients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """OpenTelemetry's exporters for Node, from npm, installed once and kept in .cache/."""
    source = Path(__file__).parent / "node"
    home = ROOT / ".cache" / "node-clients"
    home.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json", "send.mjs"):
        (home / name).write_bytes((source / name).read_bytes())
    try:
        outcome = subprocess.run(
            ["npm", "ci", "--no-audit", "--no-fund", "--prefer-offline"],
            cwd=home,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"needs Node and npm's registry: {error}")
    if outcome.returncode:
        pytest.skip(f"needs npm's registry: {outcome.stderr[-300:]}")
    return home


def test_sigterm_is_a_success(gateway: Gateway) -> None:
    gateway.process.send_signal(signal.SIGTERM)
    assert gateway.process.wait(15) == 0


def test_a_wrong_setting_stops_the_start_and_is_named() -> None:
    outcome = subprocess.run(
        [sys.executable, "-m", "tracewatch.gateway"],
        cwd=ROOT,
        env={**os.environ, "TRACEWATCH_GATEWAY_PORT": "http"},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert outcome.returncode != 0
    assert "TRACEWATCH_GATEWAY_PORT='http' cannot be used: expected a whole number above 0" in outcome.stderr
