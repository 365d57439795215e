"""Whole recordings through assembly at full speed: is every span in exactly one trace, and does a second run give the
same bytes? The suite asks this of the first records; here all are read, by plain Python first, then by compiled code.
Also printed: microseconds a span of each, router and assembly together.

    python -m bench recordings [ob22] [tt29]
"""

import hashlib
import sys
import time
from collections import defaultdict
from pathlib import Path

from stream import compiled
from stream.assembler import SpanBudget
from stream.closing import Closing
from stream.consumer_access import RECORDS_AT_ONCE
from stream.hooks import Hooks
from stream.outgoing import Outgoing, one_by_one
from stream.pipeline import Pipeline, Rules
from stream.router import decode_record, encoded_records, split_by_partition
from stream.settings import StreamSettings
from tests.tracecore.recordings import deliveries
from tracecore.batch_decoding import decode_together
from tracecore.otlp import decode_spans
from tracecore.topics import Topics
from tracecore.wire import decode_trace

RECORDINGS = Path(__file__).resolve().parents[2] / "shared" / "data"
PARTITIONS = 4


class _Multiset:
    """How many spans a trace has, and the sum of their hashes: equal for equal multisets, whatever their order."""

    __slots__ = ("count", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0

    def add(self, raw: bytes) -> None:
        self.count += 1
        self.total += int.from_bytes(hashlib.blake2b(raw, digest_size=8).digest())


def main() -> None:
    """Print a row for each recording; exits with 1 if a span is missing or stands twice, or two runs differ."""
    names = [name for name in sys.argv[1:] if name != "recordings"] or ["tt29", "ob22"]
    print(f"{'recording':10} {'spans':>10} {'traces':>8} {'wrong':>6} {'us/span':>8} {'compiled':>8}  digest of it all")
    failed = False
    plain = {name: assembled(name) for name in names}  # nothing is compiled until it is asked for
    compiled.warm_up()
    for name, (spans, traces, wrong, plain_us, digest) in plain.items():
        _, _, _, compiled_us, again = assembled(name)
        same = "the same again" if again == digest else f"ANOTHER THE SECOND TIME: {again}"
        print(
            f"{name:10} {spans:10,} {traces:8,} {wrong:6,} {plain_us:8.1f} {compiled_us:8.1f}  {digest}, {same}",
            flush=True,
        )
        failed = failed or bool(wrong) or again != digest
    sys.exit(failed)


def assembled(name: str) -> tuple[int, int, int, float, str]:
    """Spans, traces, traces that do not hold exactly what was delivered, microseconds a span, digest of the output."""
    settings = StreamSettings()
    rules = Rules(Topics(), settings.limits, settings.window_limits, settings.sampling, PARTITIONS)
    budget = SpanBudget(10**7)
    closing = Closing()
    pipelines = [Pipeline(partition, rules, budget, Hooks(), closing=closing) for partition in range(PARTITIONS)]
    delivered: defaultdict[bytes, _Multiset] = defaultdict(_Multiset)
    found: dict[bytes, dict[int, _Multiset]] = {}
    # Of each partition: what goes to several has no order.
    digests: defaultdict[tuple[str, int | None], hashlib._Hash] = defaultdict(hashlib.sha256)
    busy_s = 0.0
    last_ns = 0

    def look_at(published: list[Outgoing]) -> None:
        for record in one_by_one(published):
            digests[record.topic, record.partition].update(record.value)
            if record.topic == rules.topics.traces:
                trace = decode_trace(record.value)
                parts = found.setdefault(trace.trace_id, {})
                if trace.part == 0:
                    parts.clear()  # a further revision holds all that the one before held
                parts[trace.part] = held = _Multiset()
                for span in trace.spans:
                    held.add(span.raw)

    for offset, (arrival_ns, value) in enumerate(deliveries(RECORDINGS, name)):
        begun_s = time.process_time()
        spans, _ = decode_record(value)
        published: list[Outgoing] = []
        for partition, share in split_by_partition(spans, PARTITIONS).items():
            sent = list(encoded_records(share))
            for record, columns in zip(sent, decode_together(sent), strict=True):
                published += pipelines[partition].take(columns or decode_spans(record)[0], offset, arrival_ns)
        if offset % RECORDS_AT_ONCE == 0:
            published += closing.published()
        busy_s += time.process_time() - begun_s
        last_ns = max(last_ns, arrival_ns)
        for span in spans:
            delivered[span.trace_id].add(span.raw)
        look_at(published)
    for pipeline in pipelines:
        look_at(pipeline.advance(last_ns + 10**12))
    wrong = sum(
        (expected.count, expected.total)
        != (
            sum(part.count for part in found.get(trace_id, {}).values()),
            sum(part.total for part in found.get(trace_id, {}).values()),
        )
        for trace_id, expected in delivered.items()
    )
    count = sum(expected.count for expected in delivered.values())
    return (
        count,
        len(delivered),
        wrong + len(found.keys() - delivered.keys()),
        busy_s / count * 1e6,
        hashlib.sha256(
            b"".join(digest.digest() for _, digest in sorted(digests.items(), key=lambda item: str(item[0])))
        ).hexdigest()[:16],
    )


if __name__ == "__main__":
    main()
