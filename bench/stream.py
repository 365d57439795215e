"""Traces through Faust on Apache Kafka: CPU a span beside a bare consumer's, memory a span, how soon a trace is ready.

One worker, records of a hundred spans. Bounds: 4 us a span and 5 times the bare consumer, aiokafka's, which parses
every request with protobuf's C core and does nothing with it; 1.2 us more with the router before it; 200 B a live span
beyond its own bytes; ready 2.5 s (median) and 4 s (99 %) after the root's end, at half of that load.
"""

import argparse
import asyncio
import gc
import os
import signal
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Sequence
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median, quantiles

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from bench.figures import Figure, tell
from quickstart.apache_kafka import ApacheKafka
from quickstart.process import ManagedProcess, free_port
from stream.assembler import Arrived, SpanBudget
from stream.closing import Closing
from stream.compiled import warm_up
from stream.consumer_access import RECORDS_AT_ONCE
from stream.settings import StreamSettings
from tests.services import create_topic
from tests.stream.workload import Load, load
from tracecore.batch_decoding import decode_together
from tracecore.otlp import decode_spans
from tracecore.partition import partition_of
from tracecore.topics import Topics

PARTITIONS = 4
SPANS_PER_TRACE = 10
#: So long after a worker came or went, what closed since the last commit of its partitions is published again.
SETTLED_S = 12.0
TOPICS = Topics()


def main() -> None:
    """Print the figures; options choose the size."""
    parser = argparse.ArgumentParser(prog="python -m bench stream", description=__doc__)
    parser.add_argument("--spans", type=int, default=300_000, help="spans pushed at full speed")
    parser.add_argument("--paced-s", type=float, default=15, help="seconds of half the load, for the delay")
    parser.add_argument(
        "--rounds", type=int, default=3, help="of ours, bare and with the router, in turns; medians (3)"
    )
    options = parser.parse_args()
    tell([Figure("live memory, beyond a span's own bytes", live_bytes_per_span(200_000), "bytes a span", 200)])
    with tempfile.TemporaryDirectory() as folder, ApacheKafka(log_path=Path(folder) / "kafka.log") as kafka:
        asyncio.run(
            _through_kafka(kafka.bootstrap_servers, Path(folder), options.spans, options.paced_s, options.rounds)
        )


def live_bytes_per_span(spans: int) -> float:
    """What an open trace's spans cost beyond the bytes in which they came, everything that hangs on them included."""
    warm_up()
    work = load(traces=spans // 10, spans_per_trace=10, partitions=1, seed=1, start_ns=time.time_ns())
    assembler = Closing().new_assembler(StreamSettings().limits, SpanBudget(10**9))
    values = [value for _, value in work.records]
    decode_together(values[:RECORDS_AT_ONCE])  # makes the room where a worker scans
    gc.collect()
    tracemalloc.start()
    for low in range(0, len(values), RECORDS_AT_ONCE):
        at_hand = values[low : low + RECORDS_AT_ONCE]
        for offset, (value, columns) in enumerate(zip(at_hand, decode_together(at_hand), strict=True), low):
            assembler.add([Arrived(columns or decode_spans(value)[0], offset, 1)])
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return (taken - sum(map(len, values))) / assembler.counts.spans


async def _through_kafka(bootstrap_servers: str, folder: Path, spans: int, paced_s: float, rounds: int) -> None:
    for spec in TOPICS.specs():
        create_topic(bootstrap_servers, spec.name, PARTITIONS if spec.partitioned else 1, dict(spec.config))
    reader = AIOKafkaConsumer(TOPICS.traces, bootstrap_servers=bootstrap_servers)
    async with AIOKafkaProducer(bootstrap_servers=bootstrap_servers, linger_ms=5) as producer:
        await reader.start()
        first, second = (_worker(bootstrap_servers, folder / f"{name}.log", spans) for name in ("first", "second"))
        try:
            _await(first.start(), "partitions and offsets", "analysis of traces is")

            seeds = count(2)

            async def taken(topic: str = TOPICS.spans) -> tuple[float, float]:
                return await _taken_us([first], producer, reader, _load(spans, next(seeds)), topic)

            async def shared(*workers: ManagedProcess) -> float:
                # As much for each: what waiting for traces to close takes is the same for few and many.
                work = _load(spans * len(workers), next(seeds))
                return (await _taken_us(workers, producer, reader, work, TOPICS.spans))[0]

            # Until it is full: memory that is touched for the first time is paid for once.
            await taken(), await taken(TOPICS.otlp_spans)
            ours, bares, more, rates = [], [], [], []
            for number in range(rounds):
                faust, rate = await taken()
                bares.append(await _bare_us(bootstrap_servers, spans))
                routed, _ = await taken(TOPICS.otlp_spans)
                print(f"round {number + 1}: {faust:.3g} us a span, bare {bares[-1]:.3g}, with the router {routed:.3g}")
                ours.append(faust)
                more.append(routed - faust)
                rates.append(rate)
            faust, bare, rate = median(ours), median(bares), median(rates)
            tell(
                (
                    Figure("CPU through Faust", faust, "us a span", 4, bare=bare),
                    Figure("CPU, beside a bare consumer's", faust / bare, "times", 5),
                    Figure("the router before it, CPU", median(more), "us a span", 1.2),
                )
            )
            load_per_s = min(rate, 1e6 / faust) / 2
            delays = await _delays_s(producer, reader, load_per_s, paced_s)
            cuts = quantiles(delays, n=100)
            print(f"at {load_per_s:,.0f} spans/s, half of what it takes:")
            tell(
                (
                    Figure("trace ready after its root's end, median", cuts[49], "s", 2.5),
                    Figure("trace ready after its root's end, 99 %", cuts[98], "s", 4),
                )
            )
            # The machine is not the same an hour long: of one worker by itself it is asked before and after.
            one = [await shared(first)]
            _await(second.start(), "partitions and offsets", "analysis of traces is")
            await asyncio.sleep(SETTLED_S)
            await shared(first, second), await shared(first, second)
            two = [await shared(first, second) for _ in range(rounds)]
            second.stop(grace_s=20)
            await asyncio.sleep(SETTLED_S)
            one += [await shared(first) for _ in range(2)]
            print(f"one worker {_listed(one)} us a span, two {_listed(two)}")
            tell([Figure("two workers, by their CPU", 2 * median(one) / median(two), "times one", 1.8, at_least=True)])
        finally:
            first.stop(grace_s=20)
            second.stop(grace_s=20)
            await reader.stop()


def _listed(figures: Sequence[float]) -> str:
    return ", ".join(f"{figure:.3g}" for figure in figures)


def _worker(bootstrap_servers: str, log_path: Path, spans: int) -> ManagedProcess:
    return ManagedProcess(
        "stream", [sys.executable, "-m", "stream"], log_path=log_path,
        env={"TRACEWATCH_KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers, "TRACEWATCH_STREAM_PORT": str(free_port()),
             "TRACEWATCH_STREAM_MEMORY_SPANS": str(spans * 2)},
    )  # fmt: skip


def _await(worker: ManagedProcess, *words: str) -> None:
    for said in words:
        worker.wait_until(partial(_has_said, worker, said), timeout_s=120)


def _has_said(worker: ManagedProcess, said: str) -> bool:
    return said in worker.log_tail(400)


def _load(spans: int, seed: int) -> Load:
    traces = spans // SPANS_PER_TRACE
    return load(
        traces=traces, spans_per_trace=SPANS_PER_TRACE, partitions=PARTITIONS, seed=seed, start_ns=time.time_ns()
    )


async def _taken_us(
    workers: Sequence[ManagedProcess], producer: AIOKafkaProducer, reader: AIOKafkaConsumer, work: Load, topic: str
) -> tuple[float, float]:
    """CPU microseconds a span of workers that share the partitions, each while the others are stopped; and spans a
    second they could be given.

    Side by side they would share two cores with broker and load, and what they take together would tell of that. They
    get everything at once: who is faster than the producer would be measured at what waking up costs.
    """
    for worker in workers:
        os.kill(worker.pid, signal.SIGSTOP)
    for partition, value in work.records:
        await producer.send(topic, value, partition=partition)
    await producer.flush()
    missing: dict[int, set[bytes]] = {partition: set() for partition in range(PARTITIONS)}
    for trace_id in work.spans_of:
        missing[partition_of(trace_id, PARTITIONS)].add(trace_id.hex().encode())
    used_s = took_s = 0.0
    for worker in workers:
        before_s, begun_s = _cpu_s(worker), time.monotonic()
        os.kill(worker.pid, signal.SIGCONT)
        its: set[int] = set()
        while len(its) < PARTITIONS // len(workers) or any(missing[partition] for partition in its):
            worker.raise_if_ended()
            for at, records in (await reader.getmany(timeout_ms=200)).items():
                its.add(at.partition)
                missing[at.partition].difference_update(record.key for record in records)
        used_s += _cpu_s(worker) - before_s
        # The last trace closes two seconds after its last span: these were not work.
        took_s += time.monotonic() - begun_s - 2
        os.kill(worker.pid, signal.SIGSTOP)
    for worker in workers:
        os.kill(worker.pid, signal.SIGCONT)
    spans = sum(work.spans_of.values())
    return used_s / spans * 1e6, spans / took_s


async def _bare_us(bootstrap_servers: str, spans: int) -> float:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest")
    await consumer.start()
    consumer.assign([TopicPartition(TOPICS.spans, partition) for partition in range(PARTITIONS)])
    parsed, begun = 0, time.process_time()
    while parsed < spans:
        for records in (await consumer.getmany(timeout_ms=1000)).values():
            for record in records:
                request = ExportTraceServiceRequest.FromString(record.value)
                parsed += sum(len(scope.spans) for resource in request.resource_spans for scope in resource.scope_spans)
    used = time.process_time() - begun
    await consumer.stop()
    return used / spans * 1e6


async def _delays_s(
    producer: AIOKafkaProducer, reader: AIOKafkaConsumer, spans_per_s: float, seconds: float
) -> list[float]:
    """How long after its root's end each trace could be read, at an even load; a record's traces end as it is sent."""
    delays: list[float] = []
    ended_at: dict[bytes, float] = {}

    async def read() -> None:
        while True:
            for records in (await reader.getmany(timeout_ms=50)).values():
                now = time.monotonic()
                delays.extend(now - ended_at.pop(record.key) for record in records if record.key in ended_at)

    reading = asyncio.create_task(read())
    begun = time.monotonic()
    traces_per_record = 10
    for number in range(int(spans_per_s * seconds / SPANS_PER_TRACE / traces_per_record)):
        ahead_s = begun + number * traces_per_record * SPANS_PER_TRACE / spans_per_s - time.monotonic()
        if ahead_s > 0.002:
            await asyncio.sleep(ahead_s)
        work = load(traces=traces_per_record, spans_per_trace=SPANS_PER_TRACE, partitions=1, seed=10**6 + number,
                    start_ns=time.time_ns() - 50_000_000)  # fmt: skip
        now = time.monotonic()
        ended_at |= {trace_id.hex().encode(): now for trace_id in work.spans_of}
        for _, value in work.records:
            await producer.send(TOPICS.spans, value, partition=number % PARTITIONS)
    deadline = time.monotonic() + 10
    while ended_at and time.monotonic() < deadline:  # noqa: ASYNC110 (the reader ends it; a poll reads easier)
        await asyncio.sleep(0.1)
    reading.cancel()
    assert not ended_at, f"{len(ended_at)} traces did not come"
    return delays


def _cpu_s(worker: ManagedProcess) -> float:
    fields = Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
