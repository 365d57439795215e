"""How the stream's cost a span grows: with spans a trace, services, operations, partitions and open traces.

    python -m bench growth [--spans 100000]

In one process and without Kafka: records of a hundred spans are decoded, assembled, analysed, counted into windows,
judged and encoded, as a worker does. Each line changes one thing about the first; its ratio is to a run of the first
just before it, for the machine's speed varies.
"""

import argparse
import gc
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from stream.app import GC_THRESHOLDS
from stream.assembler import Arrived, SpanBudget
from stream.closing import Closing
from stream.compiled import warm_up
from stream.consumer_access import RECORDS_AT_ONCE
from stream.detection_agents import Detection
from stream.pipeline import Pipeline, Rules
from stream.router import split_by_partition
from stream.rules_source import RulesSource
from stream.settings import StreamSettings
from tests.stream.workload import quick_span, resource_named
from tracecore.batch_decoding import decode_together
from tracecore.otlp import decode_spans, encode_spans
from tracecore.settings import RedactionSettings, read
from tracecore.span import Span, SpanKind
from tracecore.topics import Topics

SPANS_PER_RECORD: Final = 100
START_NS: Final = 1_700_000_000 * 10**9
MS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Shape:
    """Traffic: a root that calls the rest, spread over services and operations; ``open_traces`` grow at a time."""

    spans_per_trace: int = 10
    services: int = 8
    operations: int = 80
    partitions: int = 1
    open_traces: int = 200


#: What each line changes.
CHANGES: Final[dict[str, tuple[dict[str, int], ...]]] = {
    "spans a trace": ({"spans_per_trace": 2}, {"spans_per_trace": 100}, {"spans_per_trace": 1000}),
    "services": ({"services": 50}, {"services": 500}),
    "operations": ({"operations": 1000}, {"operations": 10_000}),
    "partitions": ({"partitions": 4}, {"partitions": 16}),
    "open traces": ({"open_traces": 2000}, {"open_traces": 20_000}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spans", type=int, default=100_000, help="of each line, at least (100 000)")
    spans = parser.parse_args().spans
    base = Shape()
    warm_up()
    gc.set_threshold(*GC_THRESHOLDS)
    cost_us(base, spans)  # caches
    print(f"{'':28}{'us a span':>10}{'times':>8}")
    print(f"{str(base.spans_per_trace) + ' a trace, all as below':28}{cost_us(base, spans):10.2f}")
    for what, changes in CHANGES.items():
        print(f"{what}: {getattr(base, next(iter(changes[0])))}")
        for change in changes:
            before_us = cost_us(base, spans)
            after_us = cost_us(replace(base, **change), spans)
            print(f"{next(iter(change.values())):>28,}{after_us:10.2f}{after_us / before_us:8.2f}", flush=True)


def cost_us(shape: Shape, spans: int) -> float:
    """CPU of one run, a span; making the traffic is not counted. Long enough that most traces come to their end."""
    spans = max(spans, 2 * shape.open_traces * shape.spans_per_trace)
    settings = StreamSettings()
    rules = Rules(Topics(), settings.limits, settings.window_limits, settings.sampling, shape.partitions)
    hooks = Detection(RulesSource(None), read(RedactionSettings).redaction).hooks_for()
    closing, budget = Closing(), SpanBudget(10**7)
    pipelines = [Pipeline(n, rules, budget, hooks, closing=closing) for n in range(shape.partitions)]
    records = [
        (arrival_ns, partition, encode_spans(share))
        for arrival_ns, sent in traffic(shape, spans)
        for partition, share in split_by_partition(sent, shape.partitions).items()
    ]
    gc.collect()
    begun_s = time.process_time()
    for low in range(0, len(records), RECORDS_AT_ONCE):
        at_hand = records[low : low + RECORDS_AT_ONCE]
        decoded = decode_together([value for _, _, value in at_hand])
        # As a worker gets them: several of one partition, then several of the next.
        arrived: dict[int, list[Arrived]] = {}
        for offset, ((arrival_ns, partition, value), columns) in enumerate(zip(at_hand, decoded, strict=True), low):
            spans_of = columns or decode_spans(value)[0]
            arrived.setdefault(partition, []).append(Arrived(spans_of, offset, arrival_ns))
        for partition, several in arrived.items():
            pipelines[partition].take_together(several)
        closing.published()
    for pipeline in pipelines:
        pipeline.advance(records[-1][0] + 10**12)
    return (time.process_time() - begun_s) / spans * 1e6


def traffic(shape: Shape, spans: int) -> Iterator[tuple[int, list[Span]]]:
    """Records with their arrival: of the traces that are open one grows by a span at a time; five thousand a second."""
    randomness = random.Random(5)
    resources = [resource_named(f"service-{number}") for number in range(shape.services)]
    per_service = max(1, shape.operations // shape.services)
    open_: list[tuple[bytes, bytes, int]] = []
    waiting: list[Span] = []
    for number in range(spans):
        at_ns = START_NS + number * 200_000
        if len(open_) < shape.open_traces:
            open_.append((randomness.randbytes(16), randomness.randbytes(8), 0))
        place = randomness.randrange(len(open_))
        trace_id, root, grown = open_[place]
        service = (grown + number) % shape.services if grown else int.from_bytes(root) % shape.services
        is_last = grown + 1 == shape.spans_per_trace
        waiting.append(
            quick_span(
                trace_id,
                # The root comes last, as it does from a service: the trace is over with it.
                root if is_last else randomness.randbytes(8),
                b"" if is_last else root,
                f"operation {randomness.randrange(per_service)}",
                int(SpanKind.SERVER),
                at_ns - (50 * MS if is_last else 10 * MS),
                at_ns,
                resources[service],
            )
        )
        if is_last:
            open_[place] = open_[-1]
            open_.pop()
        else:
            open_[place] = (trace_id, root, grown + 1)
        if len(waiting) == SPANS_PER_RECORD:
            yield at_ns, waiting
            waiting = []


if __name__ == "__main__":
    main()
