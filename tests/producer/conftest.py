"""Spans of a test as the SDK hands them to an exporter, and as they lie on a topic."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from aiokafka import AIOKafkaConsumer
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.services import KafkaServer
from tracewatch.ids import NamedTraceIdGenerator

ROOT = Path(__file__).resolve().parents[2]


class Recording(NamedTuple):
    """A provider of the test's own, and what it recorded."""

    provider: TracerProvider
    memory: InMemorySpanExporter

    @property
    def spans(self) -> tuple[Any, ...]:
        """Ended spans in the order of their ends."""
        return self.memory.get_finished_spans()

    def named(self, name: str) -> Any:
        """The one span of this name."""
        (span,) = [span for span in self.spans if span.name == name]
        return span


@pytest.fixture
def recording() -> Iterator[Recording]:
    memory = InMemorySpanExporter()
    provider = TracerProvider(
        resource=Resource({"service.name": "test"}), id_generator=NamedTraceIdGenerator(), shutdown_on_exit=False
    )
    provider.add_span_processor(SimpleSpanProcessor(memory))
    yield Recording(provider, memory)
    provider.shutdown()


class Delivered(NamedTuple):
    """A span on the topic."""

    partition: int
    offset: int
    service: str
    span: Span


@pytest.fixture
def delivered(kafka: KafkaServer) -> Callable[..., list[Delivered]]:
    """``delivered(topic, count)`` waits until that many spans are on the topic, and returns all."""

    def read(topic: str, count: int, timeout_s: float = 15.0) -> list[Delivered]:
        return read_spans(kafka.bootstrap_servers, topic, count, timeout_s)

    return read


def read_spans(
    bootstrap_servers: str, topic: str, count: int, timeout_s: float, *, until_idle: bool = False
) -> list[Delivered]:
    """All spans on the topic, once there are ``count``; with ``until_idle`` also those that follow without a pause."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, _read(bootstrap_servers, topic, count, timeout_s, until_idle)).result()


async def _read(bootstrap_servers: str, topic: str, count: int, timeout_s: float, until_idle: bool) -> list[Delivered]:
    found: list[Delivered] = []
    async with aclosing(_records(bootstrap_servers, topic, timeout_s)) as rounds:
        async for records in rounds:
            for record in records:
                for resource_spans in ExportTraceServiceRequest.FromString(record.value).resource_spans:
                    attributes = {a.key: a.value.string_value for a in resource_spans.resource.attributes}
                    service = attributes.get("service.name", "")
                    for scope_spans in resource_spans.scope_spans:
                        spans = scope_spans.spans
                        found += [Delivered(record.partition, record.offset, service, span) for span in spans]
            if len(found) >= count and not (until_idle and records):
                break
    assert len(found) >= count, f"{len(found)} of {count} spans came in {timeout_s} s"
    return found


async def _records(bootstrap_servers: str, topic: str, timeout_s: float) -> AsyncGenerator[list[Any], None]:
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest", fetch_max_wait_ms=100
    )
    await consumer.start()
    try:
        deadline = asyncio.get_running_loop().time() + timeout_s
        while asyncio.get_running_loop().time() < deadline:
            yield [each for records in (await consumer.getmany(timeout_ms=500)).values() for each in records]
    finally:
        await consumer.stop()


@pytest.fixture
def run_service(kafka: KafkaServer) -> Callable[..., subprocess.CompletedProcess[str]]:
    """``run_service(code, topic)`` runs a script as a service would run it, to its end."""

    def run(
        code: str, topic: str, environment: Mapping[str, str] | None = None, expect: int = 0
    ) -> subprocess.CompletedProcess[str]:
        outcome = subprocess.run(
            [sys.executable, "-W", "error", "-c", code],
            cwd=ROOT,
            env=service_environment(kafka.bootstrap_servers, topic) | dict(environment or {}),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert outcome.returncode == expect, outcome.stderr
        return outcome

    return run


def service_environment(bootstrap_servers: str, topic: str) -> dict[str, str]:
    """The environment in which a service publishes to this broker and topic."""
    return {
        **os.environ,
        "TRACEWATCH_KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
        "TRACEWATCH_KAFKA_SPANS_TOPIC": topic,
    }
